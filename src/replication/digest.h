/*-------------------------------------------------------------------------
 *
 * digest.h
 *		What quorum.verify needs of digest.c.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGQ_DIGEST_H
#define PGQ_DIGEST_H

#include "postgres.h"

#include "utils/array.h"

typedef struct Digest
{
	uint64		rows;
	uint64		first;
	uint64		second;
} Digest;

/*
 * Of the table as the current snapshot shows it, partitions included: one for
 * each key range, one more than there are bounds. bounds may be NULL.
 */
extern Digest *digest_table(Oid relid, ArrayType *bounds, int *ndigests);

extern char *digest_out(const Digest *digest);
extern bool digest_in(const char *text, Digest *digest);

/* Settings under which text forms are the same everywhere; the level to undo them to. */
extern int	digest_fix_settings(void);

#endif							/* PGQ_DIGEST_H */
