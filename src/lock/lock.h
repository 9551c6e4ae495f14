/*-------------------------------------------------------------------------
 *
 * lock.h
 *		Public face of the lock service: what sessions call, what the apply worker
 *		hands over, what settings there are.
 *
 * The way of a lock
 * -----------------
 *	session		lock_session_register() once, then lock_request(): a proposal in
 *				its mailbox slot, like a transaction's.
 *	Raft worker	forwards it to the leader, which grants (the entry is in the log,
 *				its index is the token), lets it wait in its memory, or refuses.
 *	session		LOCK_GRANTED: the grant is committed. The caller then waits until
 *				the rows that were changed before it are here (node_wait_applied() of
 *				answer.rows_index), so that it sees what the former holder wrote. The
 *				grant's own entry need not be applied yet.
 *	release		a LockDrop, made ready before the request (so that it cannot fail
 *				later), posted when the lock is not held any more. The Raft worker
 *				sees to it that the release gets into the log, whatever happens to
 *				the session; many at once become one entry.
 *
 * Giving up. A session that does not want to wait any more (a cancel, a timeout,
 * the end of its wait) just leaves: lock_request() returns or throws at once. The
 * Raft worker withdraws the request; if it was granted all the same, it releases
 * it (reason "given up"). So "not acquired" is always the truth.
 *
 * The end of sessions. Locks belong to (node, boot, session). A session that
 * is registered but gone has its locks released by the Raft worker, which compares
 * what the log says with who is registered; a former start of the server, too. So
 * nothing has to be remembered, and nothing is lost by a crash in between. Not
 * needed for that: a call at the end of the session.
 *
 * Shared memory (lock_shmem.c)
 * ----------------------------
 *	session table	one place a PGPROC: session number, forsaken requests. Written
 *					by the session itself, read by the Raft worker; atomics, no lock.
 *	drops			chunks of the node layer's DSA area, in a list that sessions push
 *					to (lock-free, popped whole by the Raft worker) and one that the
 *					Raft worker alone keeps: what it works at, for its successor.
 *	safe time		until when this member's server lease is certainly good; atomic,
 *					Raft worker writes.
 *	queue			who waits, in the leader's words, and our own; under queue_lock,
 *					Raft worker writes.
 *	hand-over		image of grants and leases from the apply worker to a Raft worker
 *					that has just started; under queue_lock.
 *	A crash takes all of it along: the next start has another boot number, which
 *	releases every lock of its sessions.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGQ_LOCK_H
#define PGQ_LOCK_H

#include "postgres.h"

#include "utils/dsa.h"

#include "lock/lock_payload.h"
#include "lock/lockstate.h"
#include "node/node.h"

/* ---------- settings and start-up (called by pg_quorum.c) ---------- */

extern int	quorum_lease_timeout_ms;	/* quorum.lease_timeout */

extern void lock_define_settings(void);
extern Size lock_shmem_size(void);
extern void lock_shmem_init(void);

/* ---------- sessions ---------- */

/*
 * This session's number, unique in this start of the server; registers at the
 * first call. The caller is a member (node_require_member).
 */
extern uint64 lock_session_register(void);

/* The same without registering; 0: not registered, so it never held a lock. */
extern uint64 lock_session_number(void);

/*
 * Fill in what the payload needs of the current session: kind session, node, boot,
 * session, pid. (For a lease: set kind and lease after it.)
 */
extern void lock_own_owner(LkOwner *owner);

typedef enum LockResult
{
	LOCK_GRANTED = 1,			/* and everything else that is to be in the log: it is */
	LOCK_TAKEN,					/* wait_us 0: not free, or others are first in line */
	LOCK_TIMED_OUT,				/* wait_us is over: not acquired */
	LOCK_DEADLOCK,				/* 40P01; message names the cycle, for DETAIL */
	LOCK_NOT_HELD,				/* release, break: nothing to do; nothing was done */
	LOCK_NO_LEASE,				/* no lease with this id, or it is over */
	LOCK_LEASE_EXISTS,
	LOCK_OVER_LIMIT,			/* more permits than the semaphore has at all: 22023 */
	LOCK_NO_QUORUM,				/* 55000, certainly not acquired */
	LOCK_NOT_MEMBER,			/* no cluster here, or removed */
	LOCK_UNKNOWN,				/* not a request: whether it gets into the log is open: 40003 */
	LOCK_REFUSED				/* otherwise; message */
} LockResult;

typedef struct LockAnswer
{
	LockResult	result;
	uint64		index;			/* GRANTED: the entry */
	uint64		rows_index;		/* GRANTED: when this is applied, the former holder's rows are seen */

	/*
	 * GRANTED, a request: the fencing token. index, but where a lease got again
	 * what it has. Of several keys: of the first (the others in the table).
	 */
	uint64		token;
	int64		stamp_us;		/* GRANTED: of the entry (as TimestampTz) */
	uint32		conflict_node;	/* TAKEN: who holds it, 0: unknown */
	RaftToken	request;		/* that it was made under */
	char		message[NODE_MESSAGE_LEN];
} LockAnswer;

/*
 * Ask for a grant (rec->op LK_OP_GRANT; owner by lock_own_owner, items as in
 * lock_payload.h; lease_ms and LK_TRY are set in here). wait_us: -1 until it is
 * granted; 0 try; otherwise that long.
 *
 * Interrupts are served: an error (cancel, lock_timeout, statement_timeout, the
 * end of the session) may be thrown; then the lock is not held, and there is
 * nothing to be undone. lock_timeout: the caller arms LOCK_TIMEOUT around it.
 *
 * Without a quorum it waits; with wait_us >= 0, or quorum.commit_timeout set, it
 * ends with LOCK_NO_QUORUM once wait_us (at least two election timeouts) or
 * quorum.commit_timeout are over and no leader has looked at it.
 */
extern LockResult lock_request(LkRecord *rec, const LkItem *items, int64 wait_us,
							   LockAnswer *answer);

/*
 * The grant of this request was made, and is not wanted after all: the Raft worker
 * releases it. False: too many such at once. For leases; a session has its LockDrop.
 */
extern bool lock_forsake(RaftToken request);

/*
 * Everything else that wants an answer: LK_OP_RELEASE (by token, of whoever it
 * is), LEASE_OPEN, LEASE_CLOSE, BREAK. Waits like a commit: a cancel counts only
 * while it was not taken (then the error is thrown), quorum.commit_timeout ends
 * in LOCK_NO_QUORUM or LOCK_UNKNOWN.
 */
extern LockResult lock_submit(const LkRecord *rec, const LkItem *items, LockAnswer *answer);

/*
 * Renew a lease: a message to the leader, confirmed by a majority, nothing in the
 * log. GRANTED: *left_us of its time to live are left from before the call.
 * NO_LEASE: it is over. NO_QUORUM: no answer within timeout_us.
 */
extern LockResult lock_renew_lease(const uint8 *id, int64 timeout_us, int64 *left_us);

/* ---------- releasing ---------- */

/*
 * The release of one key of one grant. prepare: may throw (memory); before the
 * request. post: never fails; gives the chunk to the Raft worker. cancel: the
 * grant never came to be (or is gone). Of the three the last two end the use of
 * the pointer, unless wait is wanted:
 *
 * post with want_wait, then exactly one lock_drop_wait(): until the release is
 * committed, at most to deadline_us (node_monotonic_us(); 0: no bound) and not
 * at all while there is no quorum. Returns the entry's index, or 0 when it
 * is not known to be in the log yet (it will be). interruptible: ordinary
 * interrupts are served, and may throw (the release goes on). Otherwise none
 * are: for the end of a transaction.
 */
extern dsa_pointer lock_drop_prepare(uint8 key_type, const char *key, Size len);
extern void lock_drop_cancel(dsa_pointer drop);
extern void lock_drop_post(dsa_pointer drop, uint64 token, bool want_wait);
extern uint64 lock_drop_wait(dsa_pointer drop, int64 deadline_us, bool interruptible);

/* ---------- what can be asked without waiting ---------- */

/*
 * How long this member's server lease is certainly good, in microseconds from
 * now, counted from when the last confirmed renewal was sent. 0 or below: it may
 * be lost, and locks of its sessions with it. It says nothing about what was lost
 * before: that is not in the tables any more by then. Nobody asks for renewals, and
 * this gets old, while no session of this member holds anything.
 */
extern int64 lock_safe_us(void);

/*
 * Goes up whenever sessions of this member have lost grants otherwise than by
 * their own release (expired, broken), and once such an entry is in the log
 * here. So as long as it stays the same, what was held is held still, as far as
 * is known here.
 */
extern uint64 lock_losses(void);

/* A row of the queue, for quorum.locks (granted = false). */
typedef struct LockWaitRow
{
	uint32		node;
	uint32		pid;
	uint8		owner_kind;		/* LkOwnerKind */
	uint8		lease[LK_UUID_LEN];
	uint8		key_type;
	uint8		mode;
	uint32		position;		/* 0: not in the leader's queue, or not known */
	int64		waited_us;		/* when the row was made */
	uint16		len;
	const char *key;			/* not zero-terminated */
} LockWaitRow;

/* Who waits, as far as is known here; palloc'ed. */
extern LockWaitRow *lock_wait_rows(int *nrows);

/* What is left of a lease's time, in the leader's words (at most a second old); -1: not known. */
extern int64 lock_lease_left_us(const uint8 *id);

/* ---------- the apply worker's side ---------- */

/*
 * The apply worker keeps an LkState of its own, restored from the tables before
 * it calls node_apply_ready(), and moved by lk_append() with each lock entry
 * that it applies. The Raft worker needs it once, when it starts: the apply
 * worker calls lock_hand_over() right before node_apply_ready(), and again
 * whenever lock_hand_over_wanted() says so (looked at once in each turn of its
 * loop, outside a transaction; its latch is set then). applied_index: everything
 * up to here is in the state, and nothing above.
 */
extern bool lock_hand_over_wanted(void);
extern void lock_hand_over(const LkState *ls, uint64 applied_index);

#endif							/* PGQ_LOCK_H */
