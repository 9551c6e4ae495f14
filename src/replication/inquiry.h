/*-------------------------------------------------------------------------
 *
 * inquiry.h
 *		The same question to all members, answered by each as of the same entry
 *		of the log.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGQ_INQUIRY_H
#define PGQ_INQUIRY_H

#include "postgres.h"

#include "nodes/pg_list.h"

typedef struct InquiryAnswer
{
	uint32		node_id;
	char	   *node_name;
	bool		answered;
	char	   *problem;		/* why not, or what went wrong there; NULL: nothing */
	int			nrows;
	char	  **rows;
} InquiryAnswer;

/*
 * Each member runs the query, which returns rows of one text, as superuser, and
 * sees exactly what the entries below *index have made. The tables of those
 * numbers are locked there against being rewritten before anything above it is
 * applied (inquiry_locked). Returns one InquiryAnswer a member; a member that
 * cannot be reached, or does not get that far, does not keep the others waiting
 * for long.
 */
extern List *inquiry_ask(const char *query, List *table_ids, uint64 *index);

/* In the query: did the lock on this table come about at once? And the entry. */
extern bool inquiry_locked(uint32 table_id);
extern uint64 inquiry_index(void);

extern PGDLLEXPORT void inquiry_worker_main(Datum arg);

#endif							/* PGQ_INQUIRY_H */
