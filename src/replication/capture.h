/*-------------------------------------------------------------------------
 *
 * capture.h
 *		From changes to the write set: triggers, TRUNCATE, row locks, and what
 *		a transaction may mix.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGQ_CAPTURE_H
#define PGQ_CAPTURE_H

#include "postgres.h"

#include "executor/execdesc.h"
#include "nodes/parsenodes.h"
#include "utils/rel.h"

#include "replication/keys.h"

#define CAPTURE_TRIGGER			"!pg_quorum_capture"
#define CAPTURE_TRUNCATE_TRIGGER "!pg_quorum_truncate"

/* capture.c */
extern void capture_prepare(RelPlan *plan);
extern void capture_existing_rows(Relation rel);

/* truncate.c: brackets a TRUNCATE statement */
typedef struct TruncateScope TruncateScope;
extern TruncateScope *truncate_begin(const TruncateStmt *stmt);
extern void truncate_end(TruncateScope *scope);
extern void truncate_forget(void);

/* rowlocks.c */
extern void rowlocks_watch(QueryDesc *query);
extern void rowlocks_close_gates(const LockStmt *stmt);
extern void rowlocks_lock_table(const LockStmt *stmt);

/* mixed.c */
extern void mixed_replicated_change(void);
extern void mixed_ordinary_change(Oid relid);
extern void mixed_local_ddl(const char *what);
extern void mixed_check_query(QueryDesc *query, int eflags);
extern bool mixed_has_ordinary_change(void);
extern void mixed_reset(void);
extern void mixed_subcommit(int nest_level);
extern void mixed_subabort(int nest_level);

#endif							/* PGQ_CAPTURE_H */
