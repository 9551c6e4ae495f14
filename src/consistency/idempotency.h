/*-------------------------------------------------------------------------
 *
 * idempotency.h
 *		quorum.idempotency_key, towards the session side of the replication layer.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGQ_IDEMPOTENCY_H
#define PGQ_IDEMPOTENCY_H

#include "postgres.h"

#include "executor/execdesc.h"
#include "nodes/parsenodes.h"
#include "nodes/plannodes.h"

extern char *quorum_idempotency_key;

extern void idempotency_define_settings(void);

/* Cheap: is there a key, or a transaction that is a repetition? */
extern bool idempotency_is_asked(void);

/*
 * Before a statement that may be the first change of a replicated table: makes
 * sure of the key. True: the transaction is a repetition, and the statement is to
 * change nothing but temporary and unlogged tables.
 */
extern bool idempotency_skips_query(QueryDesc *query, int eflags);
extern bool idempotency_skips_target(const RangeVar *target);
extern bool idempotency_skips_truncate(const TruncateStmt *stmt);
extern bool idempotency_skips_schema(bool replicated);

/* After ExecutorStart: let the plan find no row to change. */
extern void idempotency_skip_changes(QueryDesc *query);

/* The same COPY, which reads its input to the end and stores none of it. */
extern PlannedStmt *idempotency_copy_nothing(PlannedStmt *pstmt);

/* Ends of transactions and savepoints (commit.c). */
extern void idempotency_committed(bool with_entry);
extern void idempotency_forget(void);
extern void idempotency_subcommit(int nest_level);
extern void idempotency_subabort(int nest_level);

#endif							/* PGQ_IDEMPOTENCY_H */
