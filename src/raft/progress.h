/*-------------------------------------------------------------------------
 *
 * progress.h
 *		What a leader knows of one peer, and how much it may send to it.
 *
 * Invariants: match < next; match never goes back within a leader's term; in
 * state REPLICATE everything in (match, next) is in flight, and the window's
 * entries are ascending; in PROBE one append at a time is out and the window is
 * empty; in SNAPSHOT nothing is sent but the offer.
 *
 * Owner: the leader's core; rebuilt at each election, nothing survives a crash.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGQ_RAFT_PROGRESS_H
#define PGQ_RAFT_PROGRESS_H

#include "raft/raft.h"

typedef enum ProgressState
{
	PROGRESS_PROBE = 0,			/* looking for where the logs meet */
	PROGRESS_REPLICATE,			/* pipelining */
	PROGRESS_SNAPSHOT			/* needs an image */
} ProgressState;

typedef struct RaftInflight
{
	uint64_t	last;			/* last index of the append */
	uint64_t	bytes;
} RaftInflight;

typedef struct Progress
{
	uint32_t	id;
	ProgressState state;
	uint64_t	match;
	uint64_t	next;
	uint64_t	told_commit;	/* newest commit index that the peer should know */
	uint64_t	asked_round;	/* newest heartbeat round sent to it */
	uint64_t	acked_round;	/* newest one it answered */
	int64_t		silent_since_us;	/* asked_round > acked_round: since when it owes an answer */
	int64_t		rtt_us;			/* of rounds, smoothed; 0 before the first answer */
	int64_t		last_contact_us;
	uint64_t	round_goal;		/* last index when the catch-up round began */
	int64_t		round_start_us;
	bool		caught_up;		/* the last round was short enough */
	bool		probe_sent;		/* PROBE: one is out */
	bool		driver_paused;	/* its send queue is full */
	uint64_t	nudge_match;	/* match at its last heartbeat answer */
	bool		load_pending;	/* entries asked for from disk */
	uint64_t	load_first;

	/* SNAPSHOT: entries above this one are here again */
	uint64_t	snapshot_index;
	bool		snapshot_sent;

	/* last index named by TIMEOUT_NOWs to it, void once match is above; 0: none */
	uint64_t	order_index;

	/* removed member that has not learned it yet */
	bool		departing;
	uint64_t	departing_index;
	int64_t		departing_until_us;
	uint32_t	departing_grace;

	/* window: ring of capacity cap, owned by the Raft */
	RaftInflight *ring;
	uint32_t	cap;
	uint32_t	head;
	uint32_t	count;
	uint64_t	inflight_bytes;
} Progress;

extern void progress_init(Progress *p, uint32_t id, uint64_t next, int64_t now_us,
						  RaftInflight *ring, uint32_t cap);
extern void progress_to_probe(Progress *p);
extern void progress_to_replicate(Progress *p);
extern void progress_to_snapshot(Progress *p, uint64_t index);

/* May a TIMEOUT_NOW that was sent to it still make it campaign? */
static inline bool
raft_order_open(const Progress *p)
{
	return p->order_index != 0 && p->match <= p->order_index;
}

/* Acknowledged up to index. True when that is news. */
extern bool progress_acked(Progress *p, uint64_t index);
/*
 * An append behind `rejected` was refused; the logs may meet at `meet`. False
 * when the refusal is stale.
 */
extern bool progress_rejected(Progress *p, uint64_t rejected, uint64_t meet);

/*
 * The peer's disk lost what it had acknowledged above `last`. The one way in
 * which match goes back: less is always safe to believe.
 */
extern void progress_lost(Progress *p, uint64_t last);

extern bool progress_window_full(const Progress *p, uint32_t max_messages, uint64_t max_bytes);
/* Entries up to last, of this size, were sent (REPLICATE). */
extern void progress_sent(Progress *p, uint64_t last, uint64_t bytes);

/* It answered a round of heartbeats that began so long ago. */
extern void progress_answered(Progress *p, int64_t rtt_us);

/* Catch-up rounds of a learner (Ongaro 4.2.1): called at each acknowledgement. */
extern void progress_round(Progress *p, uint64_t last_index, int64_t now_us, int64_t limit_us);

#endif							/* PGQ_RAFT_PROGRESS_H */
