/*-------------------------------------------------------------------------
 *
 * indexjob.h
 *		CREATE INDEX CONCURRENTLY and DROP INDEX CONCURRENTLY on replicated
 *		tables (indexjob.c).
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGQ_INDEXJOB_H
#define PGQ_INDEXJOB_H

#include "postgres.h"

#include "nodes/parsenodes.h"

/* What there was before the statement ran; outlives transactions. */
typedef struct IndexJob
{
	Oid			table;
	List	   *before;			/* its indexes */
	char	   *schema;			/* of the index that is dropped, or named */
	char	   *name;			/* or NULL */
} IndexJob;

/* Is it one of those? */
extern bool indexjob_is(Node *stmt);

/* Before: refuses what cannot be done that way. After: tell the others. */
extern IndexJob *indexjob_before(Node *stmt);
extern void indexjob_after(Node *stmt, IndexJob *job);

/* The apply worker, outside a transaction: have waiting jobs done. */
extern void indexjob_work(void);
extern void indexjob_look_again(void);	/* rows came with an image */

extern PGDLLEXPORT void indexjob_main(Datum arg);

#endif							/* PGQ_INDEXJOB_H */
