/*-------------------------------------------------------------------------
 *
 * lock_sql.h
 *		What the files of the SQL side of the lock service share.
 *
 *	lock_sql.c		functions that acquire and release
 *	lock_session.c	this session's locks, from the request to the release; the
 *					ends of transactions and sessions
 *	lock_local.c	the counts behind them
 *	lock_lease.c	leases and what is held under them; break_lock
 *	lock_args.c		arguments and errors
 *	lock_views.c	quorum.locks and the like
 *	lock_election.c	elections, semaphores
 *	lock_holds.c	counts above one, for other sessions to see
 *	lock_fence.c	check_fence
 *	lock_fence_table.c	fence_table's trigger
 *	lock_statement.c	statements as entries of their own
 *	lock_tables.c, lock_apply.c		the tables, and the apply worker's part
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGQ_LOCK_SQL_H
#define PGQ_LOCK_SQL_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "fmgr.h"
#include "utils/uuid.h"

#include "lock/lock.h"
#include "lock/lock_local.h"

#define ERRCODE_QUORUM_STALE_TOKEN MAKE_SQLSTATE('Q','0','0','0','1')

/* ---------- what replication does for locks (replication/guests.h) ---------- */

extern void lock_apply_install(void);
extern void lock_fence_install(void);

/* ---------- lock_args.c ---------- */

/* A key that was given: the bytes are the caller's for the call. */
typedef struct LockKey
{
	uint8		type;
	uint16		len;
	uint32		weight;			/* semaphores: permits wanted */
	uint32		limit;			/* semaphores: permits there are */
	const char *data;
	char		number[8];
} LockKey;

extern void lock_require_cluster(void);
extern void lock_get_key(FunctionCallInfo fcinfo, int argno, uint8 type, LockKey *key);
extern void lock_text_key(text *given, uint8 type, LockKey *key);
extern int64 lock_get_time(FunctionCallInfo fcinfo, int argno, const char *what);
extern int64 lock_get_wait(FunctionCallInfo fcinfo, int argno);
extern uint64 lock_get_token(FunctionCallInfo fcinfo, int argno);
extern pg_uuid_t *lock_get_lease(FunctionCallInfo fcinfo, int argno);
extern int64 lock_interval_us(const Interval *interval);
extern Interval *lock_us_interval(int64 us);
extern char *lock_show_key(const LockKey *key); /* for messages */

/* Everything but LOCK_GRANTED, TAKEN, TIMED_OUT and NOT_HELD is an error. */
extern void lock_check_result(const LockAnswer *answer);

/* Of node_submit(). */
extern void lock_check_verdict(const NodeAnswer *answer, RaftToken token);

/*
 * Until the entry is applied here. It stands: an interruption, or whatever else goes
 * wrong meanwhile, becomes 40003.
 */
extern void lock_wait_effect(uint64 index);

extern void lock_define_session_settings(void);
extern int	quorum_lock_max_hold_ms;
extern int	quorum_lock_delay_ms;

/* ---------- lock_session.c ---------- */

extern void lock_session_install(void); /* before the replication layer's hooks */

/*
 * Acquire for this session. False: not within wait_us (-1: no bound). All keys
 * or none; tokens: one a key.
 */
extern bool lock_acquire(const LockKey *keys, int nkeys, uint8 mode, LockScope scope,
						 int64 wait_us, uint64 *tokens);

/* One hold less. False with a WARNING: not held (any more). token 0: any. */
extern bool lock_unlock(const LockKey *key, uint8 mode, uint64 token);
extern void lock_unlock_all(void);

/* Until this server's lease is certainly good, or for so long: false. */
extern bool lock_wait_safe(int64 patience_us);

/* The answer to a request, with lock_timeout and a bound where there is no quorum. */
extern LockResult lock_ask(LkRecord *rec, const LkItem *items, int64 wait_us, LockAnswer *answer);

/* True when the tables still have this session's grant, or cannot know of it yet. */
extern bool lock_is_held(const LocalLock *lock);

/*
 * A session was told of a grant or release at that entry. lock_settle() waits, for
 * a moment, until the newest of them is applied here: after it the tables show what
 * any session of this server was told before.
 */
extern void lock_settles_at(uint64 index);
extern void lock_settle(void);

/* ---------- lock_lease.c ---------- */

extern bool lock_acquire_for_lease(const LockKey *keys, int nkeys, uint8 mode, const pg_uuid_t *lease,
								   int64 wait_us, uint64 *tokens);
extern bool lock_release_token(const LockKey *key, uint64 token);

/*
 * A token may be ahead of what is applied here: wait for it, if it can be a
 * token at all. False: it is ahead of the whole cluster. An error where that cannot
 * be asked: a server that is behind must not call a good token bad.
 */
extern bool lock_wait_for_token(uint64 token);

/* ---------- lock_holds.c ---------- */

extern Size lock_holds_shmem_size(void);
extern void lock_holds_shmem_init(void);
extern void lock_holds_set(uint8 type, const char *key, Size len, uint64 token, int64 count);
extern int64 lock_holds_get(uint8 type, const char *key, Size len, uint64 token);

#endif							/* PGQ_LOCK_SQL_H */
