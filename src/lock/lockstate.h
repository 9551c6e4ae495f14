/*-------------------------------------------------------------------------
 *
 * lockstate.h
 *		The lock state machine: who holds what, and on the leader who waits for
 *		what. Plain C, no postgres.h, no clock, no random numbers: time comes in
 *		as monotonic microseconds of the calling process.
 *
 * Two kinds of state in here
 * --------------------------
 *	1. What the log says: grants and leases. A function of the lock entries alone,
 *	   the same on every member. lk_append() takes one entry after the other; with
 *	   a journal of what is not committed, so that lk_truncate() undoes exactly.
 *	   The index of the entry that grants is the fencing token; several keys of
 *	   one entry share it. An entry that has nothing to do (a release of what is
 *	   gone, a grant that the state forbids) has no effect, on any member.
 *	2. What only the leader has: the queue of requests that wait (never in the
 *	   log), and when leases were renewed. Lost with the leadership: a new leader
 *	   gets the requests again from their members and starts every lease afresh.
 *	   When holds and lock delays began each member knows for itself: when it saw
 *	   the entry, which is later than the leader did. So nothing ever ends early.
 *
 * Three users
 * -----------
 *	Raft worker (worker_lock.c): both kinds; judges requests where it leads.
 *	Apply worker: the first kind only, one entry after the other as it applies
 *	  them; the effects (LkEffect) are what it does to the tables
 *	  quorum.lock_grant and so on. After an error that undid its transaction it
 *	  calls lk_truncate() with the first entry that was undone.
 *	Tests.
 *
 * Rules of granting
 * -----------------
 *	- exclusive excludes everybody but the same owner; shared goes with shared;
 *	  permits go with permits as far as the limit reaches.
 *	- FIFO for each key: a request waits behind every earlier one that it
 *	  conflicts with, be that one granted or not. So readers do not starve a
 *	  writer. A request of several keys has a place in the queue of each, and is
 *	  granted as a whole or not at all.
 *	- what an owner holds itself never stands in its own way (but permits, which
 *	  count). Holding shared and asking for exclusive is a second grant; its
 *	  request goes ahead of those that wait for the first.
 *	- a session that is granted a key again gets another grant with another
 *	  token: counting re-entry is the session's own business. A lease that is
 *	  granted a key again in the same mode keeps its grant and token, and the
 *	  grant's count goes up.
 *
 * Memory: a key, an owner or a node is here as long as something refers to it.
 * Where memory cannot be had, functions say so and the state must not be used
 * any more (the Raft worker starts anew).
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGQ_LOCKSTATE_H
#define PGQ_LOCKSTATE_H

#include "lock/lock_payload.h"
#include "raft/raft.h"

typedef struct LkState LkState;

extern LkState *lk_create(void);	/* NULL: no memory */
extern void lk_free(LkState *ls);

/* ---------- what is held ---------- */

typedef struct LkGrantInfo
{
	uint64_t	token;			/* index of the entry that granted it */
	uint8_t		key_type;
	uint8_t		mode;			/* LkMode */
	uint16_t	len;
	const char *key;			/* not zero-terminated */
	uint32_t	weight;			/* LK_PERMIT */
	uint32_t	limit;
	LkOwner		owner;			/* node, boot, pid of who asked, for a lease too */
	RaftToken	request;		/* token of the granting entry */
	uint32_t	max_hold_ms;
	uint32_t	delay_ms;
	uint32_t	lease_ms;
	uint32_t	count;			/* 1 but for what a lease was granted several times */
	int64_t		acquired_us;	/* stamp of the granting entry (physical_us) */
} LkGrantInfo;

typedef struct LkLeaseInfo
{
	uint8_t		id[LK_UUID_LEN];
	uint64_t	index;			/* of the entry that opened it */
	uint32_t	ttl_ms;
	uint32_t	node;			/* who opened it */
	uint32_t	boot;
	uint32_t	pid;
	int64_t		opened_us;		/* stamp of the entry */
	char		name[LK_MAX_NAME_LEN];	/* empty: none */
} LkLeaseInfo;

/* ---------- entries ---------- */

typedef enum LkEffectKind
{
	LK_GRANTED = 1,				/* grant */
	LK_COUNTED,					/* grant, its count is another one */
	LK_GONE,					/* grant (as it was), reason */
	LK_LEASE_OPENED,			/* lease */
	LK_LEASE_GONE				/* lease (as it was), reason; its grants went before */
} LkEffectKind;

typedef struct LkEffect
{
	LkEffectKind kind;
	const LkGrantInfo *grant;
	const LkLeaseInfo *lease;
	LkReason	reason;
} LkEffect;

typedef void (*LkEffectFn) (void *arg, const LkEffect *effect);

typedef enum LkStatus
{
	LK_OK = 0,					/* had an effect */
	LK_NO_EFFECT,				/* nothing to do, or forbidden by the state */
	LK_MALFORMED,				/* no effect either; of a newer version? */
	LK_NO_MEMORY				/* the state is unusable */
} LkStatus;

/*
 * Entry `index` is in the log (Raft worker) or applied (apply worker). Indexes
 * rise; only lock entries are given. stamp_us: physical_us of the entry's stamp.
 * effect may be NULL. The journal grows until lk_commit().
 */
extern LkStatus lk_append(LkState *ls, uint64_t index, RaftToken token, int64_t stamp_us,
						  const void *payload, size_t len, int64_t now_us,
						  LkEffectFn effect, void *arg);

/* Entries at and above `from` are not in the log (not applied) after all. */
extern void lk_truncate(LkState *ls, uint64_t from, int64_t now_us);

/* Entries up to `index` stay for ever. */
extern void lk_commit(LkState *ls, uint64_t index);

/* ---------- from tables, and from one process to another ---------- */

/* Into an empty state. False: no memory, or it is there already. */
extern bool lk_restore_lease(LkState *ls, const LkLeaseInfo *lease);	/* leases first */
extern bool lk_restore_grant(LkState *ls, const LkGrantInfo *grant);

/* malloc'ed image of grants and leases; NULL: no memory. */
extern uint8_t *lk_dump(const LkState *ls, size_t *len);
/* Into an empty state. False: no memory or malformed. */
extern bool lk_load(LkState *ls, const void *image, size_t len, int64_t now_us);

/* Everything, in no particular order. */
typedef void (*LkGrantFn) (void *arg, const LkGrantInfo *grant);
typedef void (*LkLeaseFn) (void *arg, const LkLeaseInfo *lease);
extern void lk_each_grant(const LkState *ls, LkGrantFn fn, void *arg);
extern void lk_each_lease(const LkState *ls, LkLeaseFn fn, void *arg);
extern bool lk_find_grant(const LkState *ls, uint8_t key_type, const char *key, size_t len,
						  uint64_t token, LkGrantInfo *grant);

/* What this owner holds of this key in this mode; the newest. */
extern bool lk_find_held(const LkState *ls, const LkOwner *owner, uint8_t key_type,
						 const char *key, size_t len, uint8_t mode, LkGrantInfo *grant);
extern bool lk_find_lease(const LkState *ls, const uint8_t *id, LkLeaseInfo *lease);

typedef struct LkCounts
{
	uint32_t	grants;
	uint32_t	leases;
	uint32_t	keys;			/* held, waited for or delayed */
	uint32_t	owners;
	uint32_t	nodes;
	uint32_t	waiters;
	uint32_t	journal;		/* undo records */
} LkCounts;

extern void lk_counts(const LkState *ls, LkCounts *counts);

/* NULL, or which invariant does not hold. For tests; slow. */
extern const char *lk_check(const LkState *ls);

/* ---------- the leader: judging ---------- */

typedef enum LkJudgement
{
	LK_JUDGED_APPEND = 1,		/* may be appended now */
	LK_JUDGED_WAIT,				/* a request that is not to be granted yet: lk_wait() */
	LK_JUDGED_REFUSE
} LkJudgement;

/* Why not. Goes to the session as NodeAnswer.conflict_key. */
typedef enum LkRefusal
{
	LK_REFUSED_TAKEN = 1,		/* LK_TRY, and somebody holds it or is first in line */
	LK_REFUSED_NOT_HELD,		/* release or break of what is not held (any more) */
	LK_REFUSED_NO_LEASE,		/* no lease with this id (any more) */
	LK_REFUSED_LEASE_EXISTS,
	LK_REFUSED_DEADLOCK,		/* 40P01; the message names the cycle */
	LK_REFUSED_OVER_LIMIT,		/* more permits than the semaphore has */
	LK_REFUSED_OLD_START,		/* from a former start of its server */
	LK_REFUSED_MALFORMED
} LkRefusal;

typedef struct LkVerdict
{
	LkJudgement judgement;
	LkRefusal	refusal;
	uint64_t	depends;		/* the refusal is certain once this entry is committed; 0: now */
	uint64_t	token;			/* TAKEN: of the grant in the way, 0: somebody is first in line */
	uint32_t	node;			/* TAKEN: of its owner */
} LkVerdict;

/*
 * May this be appended? from: member that asks. Requests that only the leader
 * itself makes are refused.
 */
extern void lk_judge(const LkState *ls, uint32_t from, const void *payload, size_t len,
					 int64_t now_us, LkVerdict *verdict);

/*
 * The payload as it is to be appended now: with lock delays filled in, without
 * fence keys where a lease gets nothing new. *len: of the payload, and of the
 * result, which is malloc'ed. NULL: as it is (or no memory, which costs a delay
 * or a fencing token's life, but no safety).
 */
extern uint8_t *lk_final_payload(const LkState *ls, const void *payload, size_t *len);

/* ---------- the leader: who waits ---------- */

/*
 * Put a request into the queue; age_us: how long it waits already (it was asked
 * for before another leader). data is the caller's and comes back with the
 * request. False: no memory.
 */
extern bool lk_wait(LkState *ls, uint32_t from, RaftToken token, const void *payload, size_t len,
					int64_t age_us, int64_t now_us, void *data);

/* It was sent again by its member: still there? */
extern bool lk_refresh(LkState *ls, RaftToken token, int64_t now_us);

/* Take it out of the queue: its data, or NULL. */
extern void *lk_withdraw(LkState *ls, RaftToken token);

/*
 * The next request that may be granted, out of the queue, or NULL. The caller
 * appends it at once (lk_append) or puts it back (lk_wait with its age).
 */
extern void *lk_take_grantable(LkState *ls, int64_t now_us, RaftToken *token, uint32_t *from,
							   int64_t *age_us);

/* Not refreshed since: out of the queue, one a call. NULL: none (left). */
extern void *lk_take_stale(LkState *ls, int64_t before_us, RaftToken *token);

/* Of a member that cannot be reached nothing is granted, and nobody waits for it. */
extern void lk_member_up(LkState *ls, uint32_t node, bool up);

/*
 * Look for cycles among those whose time to do so has come. A victim, the
 * youngest of its cycle, out of the queue: its data; message (size bytes) names
 * the cycle, nodes by node_name. NULL: none (left).
 */
typedef const char *(*LkNodeNameFn) (void *arg, uint32_t node);
extern void *lk_take_deadlocked(LkState *ls, int64_t now_us, LkNodeNameFn node_name, void *arg,
								RaftToken *token, uint32_t *from,
								char *message, size_t size);

/* When to look again, INT64_MAX: nobody waits so. */
extern int64_t lk_deadlock_check_us(const LkState *ls);

typedef struct LkWaiterInfo
{
	RaftToken	request;
	LkOwner		owner;
	uint8_t		key_type;
	uint8_t		mode;
	uint16_t	len;
	const char *key;
	uint32_t	position;		/* in the queue of this key, from 1 */
	int64_t		since_us;
} LkWaiterInfo;

/* A row for each key that somebody waits for. */
typedef void (*LkWaiterFn) (void *arg, const LkWaiterInfo *waiter);
extern void lk_each_waiter(const LkState *ls, LkWaiterFn fn, void *arg);

/* ---------- the leader: time ---------- */

/*
 * Leadership has begun: every lease starts afresh. Holds and delays count from
 * when this member saw the entry, which is no earlier than the leader then did.
 */
extern void lk_lead(LkState *ls, int64_t now_us);

/* Leadership has ended: the queue is dropped; `drop` gets each one's data. */
extern void lk_follow(LkState *ls, void (*drop) (void *arg, void *data), void *arg);

/* This process did not run for so long: nobody may have lost a lease by that. */
extern void lk_shift(LkState *ls, int64_t gap_us);

/* A member says that it lives; lease_ms: its quorum.lease_timeout. */
extern void lk_renew_node(LkState *ls, uint32_t node, uint32_t boot, uint32_t lease_ms,
						  int64_t now_us);

/* False: there is no such lease. */
extern bool lk_renew_lease(LkState *ls, const uint8_t *id, int64_t now_us, uint32_t *ttl_ms);

/* What is left, for views; -1: not known here. */
extern int64_t lk_lease_left_us(const LkState *ls, const uint8_t *id, int64_t now_us);

/*
 * An entry that is due: the payload (malloc'ed) of an expiry, to be appended at
 * once. NULL: none (left), or no memory. Never earlier than the time to live
 * after the last renewal.
 */
extern uint8_t *lk_expiry(LkState *ls, int64_t now_us, size_t *len);

/* When to call again at the latest, INT64_MAX: nothing is timed. */
extern int64_t lk_deadline(const LkState *ls);

/* Lock delays that are over end; anywhere, now and then. */
extern void lk_tick(LkState *ls, int64_t now_us);

/* ---------- a member: its own ---------- */

/* Sessions of this member that hold something, and how much. */
typedef void (*LkSessionFn) (void *arg, uint32_t boot, uint64_t session, uint32_t grants);
extern void lk_each_session(const LkState *ls, uint32_t node, LkSessionFn fn, void *arg);

/* Grants of sessions of this member. */
extern uint32_t lk_session_grants(const LkState *ls, uint32_t node);
/* The shortest server lease that any of them was granted under; UINT32_MAX: none. */
extern uint32_t lk_least_lease_ms(const LkState *ls, uint32_t node);
extern bool lk_holds_from_before(const LkState *ls, uint32_t node, uint32_t boot);

#endif							/* PGQ_LOCKSTATE_H */
