/*-------------------------------------------------------------------------
 *
 * worker_lock.h
 *		The lock service in the Raft worker: what its files share.
 *
 *	worker_lock.c		the lock state: from the log, judged by, and its start
 *	worker_lock_lead.c	the leader: queue, deadlocks, expiry, renewals, broadcast
 *	worker_lock_own.c	a member: what its sessions have left behind, renewals
 *	worker_lock_queue.c	who waits, for quorum.locks
 *
 * Messages: WIRE_LOCK, a WireLock and what its kind says. Withdrawals go the way
 * of proposals (one lane, in order), the rest need not.
 *
 * Renewals are promises about time, so the leader answers one only when a round of
 * the majority, begun after it came in, has confirmed that it leads still: a
 * successor then begins to count later than the sender did. (Without it a leader
 * that is cut off, and does not know yet, would confirm leases that the next one
 * ends.)
 *
 * What was lost before the renewal came in is not had back by it: a server that was
 * cut off for longer than its lease may hear that it is renewed before it hears
 * which of its locks are gone. So the answer says up to where the log has to be
 * applied before the word counts.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGQ_WORKER_LOCK_H
#define PGQ_WORKER_LOCK_H

#include "lock/lock_internal.h"
#include "node/worker.h"

typedef enum WireLockKind
{
	LOCK_WITHDRAW = 1,			/* token, term: to the leader; the answer is a WIRE_VERDICT */
	LOCK_RENEW,					/* boot, lease_ms, id: a server lease */
	LOCK_RENEWED,				/* id, term: an index, what is lost stands up to there */
	LOCK_LEASE_RENEW,			/* lease, id */
	LOCK_LEASE_RENEWED,			/* id, lease_ms its time to live; 0: there is no such lease */
	LOCK_QUEUE					/* LockQueueHead ... follows */
} WireLockKind;

typedef struct WireLock
{
	uint32		kind;
	uint32		boot;
	uint64		term;
	uint64		id;				/* the sender's, for the answer */
	RaftToken	token;
	uint32		lease_ms;
	uint32		unused;
	uint8		lease[LK_UUID_LEN];
} WireLock;

/* Answers of a leader beside NodeVerdict, in WireVerdict.verdict. */
#define LOCK_VERDICT_PARKED		100
#define LOCK_VERDICT_WITHDRAWN	101

/* What this worker proposes by itself (Pending.own). */
typedef enum LockOwnKind
{
	LOCK_OWN_DROPS,				/* releases of sessions, many in one */
	LOCK_OWN_ORPHAN,			/* a grant that nobody waited for any more */
	LOCK_OWN_SESSION,			/* all of a session that is gone */
	LOCK_OWN_NODE				/* all of former starts of the server */
} LockOwnKind;

typedef struct LockOwn
{
	dlist_node	link;			/* in locks.own */
	LockOwnKind kind;
	uint64		session;		/* SESSION */
	RaftToken	request;		/* ORPHAN: of the grant */
	int			ndrops;
	dsa_pointer drops[FLEXIBLE_ARRAY_MEMBER];
} LockOwn;

typedef struct LockWorker
{
	/* the state; NULL, or behind the log, unless live */
	LkState    *ls;
	bool		live;
	uint64		next;			/* not live, ls: the next entry that it wants */
	int64		ask_us;			/* not live: ask for a hand-over again then */
	dlist_head	backlog;		/* lock entries while not live */
	uint64		backlog_first;	/* nothing is missing in it from here on */
	Size		backlog_bytes;

	/* the leader */
	bool		leading;
	uint64		lead_term;
	int64		expected_us;	/* when the loop should have gone on at the latest */
	int64		retry_us;
	int64		broadcast_us;
	uint64		broadcast_version;
	bool		broadcast_any;	/* the last one was not empty */
	int64		stale_us;
	uint64		loss_index;		/* of the last entry that took a lock from a living owner, or above */
	dlist_head	confirm_next;	/* LockConfirm: to be confirmed by the next round */
	dlist_head	confirm_now;	/* by the one under way */
	uint64		confirm_id;		/* 0: none under way */
	uint64		confirm_last;
	int64		confirm_us;

	/* a member */
	dlist_head	own;			/* LockOwn */
	bool		look_at_sessions;
	bool		look_at_grants;
	int			waiting;		/* lock requests of own sessions among the proposals */
	uint64		renew_id;
	int64		renew_us;		/* the next one is due */
	int64		renew_sent_us[8];	/* by id */
	uint32		renew_lease_ms[8];
	int64		confirmed_us;	/* when the newest confirmed renewal was sent */
	int64		told_until_us;	/* the leader's word, good once loss_index is applied here; 0: none */
	uint64		told_index;
	dlist_head	renewals;		/* LeaseRenewal: of sessions */
	uint64		renewal_id;
	char	   *queue;			/* the leader's words, malloc'ed */
	Size		queue_len;
	int64		queue_us;
	int64		publish_us;
	bool		publish_wanted;
	bool		published_any;
} LockWorker;

extern LockWorker locks;

/* From an owner that did not give it back. */
static inline bool
lock_was_taken_away(LkReason reason)
{
	return reason != LK_RELEASED && reason != LK_GIVEN_UP && reason != LK_SESSION_ENDED;
}

/* worker_lock.c */
extern RaftToken lock_fresh_token(Worker *w);
extern Judgement lock_append_now(Worker *w, RaftToken token, const void *payload, Size len);

/* worker_lock_lead.c */
extern void lock_lead_look(Worker *w);
extern void lock_lead_run(Worker *w);
extern void lock_lead_drop(Worker *w);
extern void lock_lead_message(Worker *w, uint32 from, const WireLock *wire);
extern int64 lock_lead_deadline(const Worker *w);
extern void lock_lead_renew(Worker *w, uint32 from, uint32 boot, uint32 lease_ms, uint64 id);
extern void lock_lead_lease_renew(Worker *w, uint32 from, const uint8 *lease, uint64 id);

/* worker_lock_own.c */
extern void lock_own_effect(Worker *w, const LkEffect *effect);
extern void lock_own_live(Worker *w);
extern void lock_own_begin(Worker *w);	/* before proposals are judged */
extern void lock_own_end(Worker *w);	/* after */
extern void lock_own_message(Worker *w, uint32 from, const WireLock *wire,
							 const uint8 *rest, Size len);
extern void lock_own_renewed(Worker *w, uint64 id, uint64 loss_index);
extern void lock_own_lease_renewed(Worker *w, uint64 id, uint32 ttl_ms);
extern int64 lock_own_deadline(const Worker *w);
extern bool lock_own_interest(const Worker *w);

/* worker_lock.c: FATAL; the worker is started anew */
extern _Noreturn void lock_out_of_memory(void);

/* worker_lock_queue.c: is what a leader has said well-formed; what views see */
extern bool lock_queue_is_sound(const char *data, Size len);
extern void lock_queue_publish(Worker *w);

#endif							/* PGQ_WORKER_LOCK_H */
