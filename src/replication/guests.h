/*-------------------------------------------------------------------------
 *
 * guests.h
 *		What the layers above have replication do for them.
 *
 * Replication knows none of them. Each fills in its own part at its install
 * function (pg_quorum.c), before any session exists, and nothing changes after;
 * so these are read without a lock, and every pointer is set wherever the
 * library is preloaded. Elsewhere no hook of replication's runs at all.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGQ_GUESTS_H
#define PGQ_GUESTS_H

#include "postgres.h"

#include "executor/execdesc.h"
#include "nodes/parsenodes.h"
#include "nodes/plannodes.h"
#include "raft/raft.h"

/* Causal tokens (consistency/token_session.c). */
typedef struct TokenGuest
{
	/* in PRE_COMMIT, of a transaction that is proposed next; may throw */
	void		(*before_propose) (void);

	/* its entry is committed, whatever becomes of the local commit; must not throw */
	void		(*decided) (uint64 index, RaftStamp stamp);
} TokenGuest;

/* Write levels (consistency/write.c). At XACT_EVENT_COMMIT: entry `index` is visible here. */
typedef struct WriteGuest
{
	void		(*committed) (uint64 index);
} WriteGuest;

/* Transactions that were sent before (consistency/idempotency.c). */
typedef struct RepetitionGuest
{
	/* cheap: is there a key, or is this transaction a repetition? */
	bool		(*is_asked) (void);

	/* may throw; true: the statement is to have no effect */
	bool		(*skips_query) (QueryDesc *query, int eflags);
	bool		(*skips_target) (const RangeVar *target);
	bool		(*skips_truncate) (const TruncateStmt *stmt);
	bool		(*skips_schema) (bool replicated);

	/* after ExecutorStart: let the plan find no row to change */
	void		(*skip_changes) (QueryDesc *query);

	/* the same COPY, which reads its input to the end and stores none of it */
	PlannedStmt *(*copy_nothing) (PlannedStmt *pstmt);

	void		(*committed) (bool with_entry);
	void		(*forget) (void);
	void		(*subcommit) (int nest_level);
	void		(*subabort) (int nest_level);
} RepetitionGuest;

/* Fences (lock/lock_fence.c). */
typedef struct FenceGuest
{
	/* has the transaction checked any? then it is proposed even if it has changed nothing */
	bool		(*used) (void);

	/* a key of kind KEY_FENCE was refused: its origin's relid, and the entry that came first; throws */
	void		(*report_refused) (uint32 number, uint64 winner);
} FenceGuest;

/* Entries that are no write sets (lock/lock_apply.c), in the apply worker. */
typedef struct EntryGuest
{
	bool		(*is_theirs) (const void *data, Size len);

	/* inside the transaction of a batch; may throw, then forget() */
	void		(*apply) (uint64 index, RaftToken token, RaftStamp stamp, const void *data, Size len);

	/* the transaction was undone, or other hands have changed the tables */
	void		(*forget) (void);

	/* outside a transaction: the state at applied_index goes to the Raft worker; may throw */
	void		(*hand_over) (uint64 applied_index);
	bool		(*hand_over_wanted) (void);
} EntryGuest;

/* What an image needs beside the tables (consistency/outcome_transfer.c); conn: a PGconn. May throw. */
typedef struct ImageGuest
{
	void		(*fetch) (void *conn);
} ImageGuest;

extern TokenGuest token_guest;
extern WriteGuest write_guest;
extern RepetitionGuest repetition_guest;
extern FenceGuest fence_guest;
extern EntryGuest entry_guest;
extern ImageGuest image_guest;

#endif							/* PGQ_GUESTS_H */
