/*-------------------------------------------------------------------------
 *
 * raft_internal.h
 *		The state of one core, and what its parts offer each other.
 *
 *		raft.c		life, ticks, dispatch of messages, changes of role
 *		output.c	raft_take_output and the queues behind it
 *		election.c	pre-votes, votes, campaigns
 *		follower.c	appends, heartbeats and image offers from a leader
 *		leader.c	proposals, acknowledgements, commit, transfer, check-quorum
 *		replicate.c	what is sent to which peer
 *		member.c	changes of membership
 *		readindex.c	linearizable reads, leases
 *		check.c		invariants
 *
 * One thread, no locks. Nothing here survives a crash.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGQ_RAFT_INTERNAL_H
#define PGQ_RAFT_INTERNAL_H

#include "raft/raft.h"
#include "raft/conf.h"
#include "raft/log.h"
#include "raft/progress.h"
#include "raft/quorum.h"

#define RAFT_LIMIT			((uint64_t) 1 << 62)	/* of terms and indexes */
#define RAFT_MAX_ENTRIES	(1u << 20)	/* in one message */
#define RAFT_ROUNDS			64			/* heartbeat rounds whose start is remembered */
#define RAFT_OPEN_ROUNDS	4			/* read rounds under way at a time */

typedef struct RaftMsgQueue
{
	RaftMsg    *msgs;
	size_t		n;
	size_t		cap;
} RaftMsgQueue;

typedef struct RaftReadQueue
{
	RaftRead   *reads;
	size_t		n;
	size_t		cap;
} RaftReadQueue;

/* A read that waits: at the leader for a round, elsewhere for the leader. */
typedef struct RaftReadWait
{
	uint64_t	id;				/* the driver's, or the asking member's context */
	uint32_t	from;			/* who asked; the own id for the driver here */
	uint64_t	round;			/* leader: 0 none yet; else: context sent, 0 not sent */
	uint64_t	index;
	int64_t		since_us;
} RaftReadWait;

typedef struct RaftWaitQueue
{
	RaftReadWait *waits;
	size_t		n;
	size_t		cap;
} RaftWaitQueue;

/* One generation of outputs: the one being filled, the one handed out. */
typedef struct RaftOutSet
{
	RaftMsgQueue now;
	RaftMsgQueue after;
	RaftReadQueue reads;
	RaftLoad    loads[RAFT_MAX_MEMBERS];
	size_t		nloads;
} RaftOutSet;

struct Raft
{
	RaftConfig	cfg;
	int64_t		now_us;
	uint64_t	rng;
	RaftStamp	stamp;
	RaftStamp	last_stamp;		/* newest in the log or on a message of ours */

	RaftHardState hard;
	RaftHardState handed_hard;	/* as of the last output */
	RaftRole	role;
	uint32_t	leader;
	bool		fenced;
	bool		foreign;		/* our id belongs to another instance */
	uint64_t	distrusted_until;	/* recovering what the disk lost; 0: no */

	RaftLog		log;
	uint64_t	emitted;		/* committed and durable up to here was handed out */
	RaftConfStack confs;
	uint64_t	saved_conf;		/* index of the last one flagged conf_committed */
	bool		conf_unsaved;	/* came with an image */

	/* elections */
	int64_t		election_deadline_us;
	int64_t		leader_contact_us;	/* last word of the leader of this term */
	int64_t		promise_until_us;	/* a leader's lease: no votes until then */
	int64_t		hurry_until_us; /* campaign after a lost connection, see election.c */
	bool		transfer_campaign;
	bool		self_vote;		/* our own vote is durable */
	uint32_t	nballots;
	struct
	{
		uint32_t	id;
		bool		granted;
	}			ballots[RAFT_MAX_MEMBERS];

	/* image wanted (follower) */
	bool		install;
	uint32_t	install_from;
	uint64_t	install_index;
	uint64_t	install_term;
	uint64_t	reset_index;	/* to be told to the driver */
	uint64_t	reset_term;
	bool		reset_unsynced; /* told, not known to be durable */

	/* leader */
	Progress	peers[RAFT_MAX_MEMBERS];
	uint32_t	npeers;
	RaftInflight *rings;		/* RAFT_MAX_MEMBERS windows of ring_cap each */
	uint32_t	ring_cap;
	uint64_t	term_start;		/* index of our no-op */
	uint64_t	uncommitted_bytes;
	int64_t		heartbeat_deadline_us;
	bool		dirty;			/* something may have become sendable */
	uint32_t	transferee;
	int64_t		transfer_deadline_us;
	bool		timeout_now_sent;	/* for the current transfer */
	uint64_t	timeout_now_index;
	bool		order_lost;		/* leases: one that may act went to a peer not followed any more */
	uint64_t	round;			/* newest heartbeat round; never goes back */
	uint64_t	wide_round;		/* newest one that went to everybody */
	uint64_t	confirmed_round;
	uint64_t	lease_floor;	/* rounds up to here give no lease */
	int64_t		round_start_us[RAFT_ROUNDS];

	/* reads */
	RaftWaitQueue waits;
	uint64_t	forward_seq;	/* starts at random: contexts of an earlier life match nothing */

	/* output */
	RaftOutSet	sets[2];
	unsigned	filling;		/* which set */
	bool		append_again;	/* ask for raft_append_done once more */
	bool		role_changed;
	bool		conf_changed;
};

/* ---------- raft.c ---------- */
extern uint64_t raft_random(Raft *r);
extern void raft_become_follower(Raft *r, uint64_t term, uint32_t leader);
extern void raft_set_leader(Raft *r, uint32_t leader);
extern void raft_fence(Raft *r);
extern bool raft_stalled(const Raft *r);	/* own writes are out for too long */
extern bool raft_other_voters(const Raft *r);
extern void raft_set_commit(Raft *r, uint64_t commit);
extern void raft_conf_activated(Raft *r);

static inline const RaftConf *
raft_active(const Raft *r)
{
	return raft_confs_active(&r->confs);
}

/* ---------- output.c ---------- */
/* Fills in from, to, term (where 0), stamp and instance. Takes over entries. */
extern void raft_send(Raft *r, uint32_t to, RaftMsg *msg, bool after);
extern void raft_emit_read(Raft *r, uint64_t id, bool ok, uint64_t index);
extern RaftLoad *raft_emit_load(Raft *r);	/* NULL: no room */
extern void raft_output_free(Raft *r);

/* ---------- election.c ---------- */
extern void raft_reset_election_timer(Raft *r);
extern bool raft_leader_is_alive(const Raft *r);
extern void raft_start_prevote(Raft *r);
extern void raft_start_vote(Raft *r, bool transfer);
extern void raft_recv_prevote(Raft *r, const RaftMsg *m);
extern void raft_recv_vote(Raft *r, const RaftMsg *m);
extern void raft_recv_vote_resp(Raft *r, const RaftMsg *m);
extern void raft_refuse_vote(Raft *r, const RaftMsg *m);
extern void raft_recv_timeout_now(Raft *r, const RaftMsg *m);
extern void raft_own_vote_durable(Raft *r);
extern void raft_tick_follower(Raft *r);

/* ---------- follower.c ---------- */
extern RaftStatus raft_recv_append(Raft *r, RaftMsg *m);
extern RaftStatus raft_recv_heartbeat(Raft *r, const RaftMsg *m);
extern RaftStatus raft_recv_snapshot(Raft *r, const RaftMsg *m);

/* ---------- leader.c ---------- */
extern Progress *raft_peer(Raft *r, uint32_t id);
extern const Progress *raft_peer_const(const Raft *r, uint32_t id);
extern void raft_become_leader(Raft *r);
extern void raft_leave_leader(Raft *r);
extern RaftStatus raft_leader_append(Raft *r, RaftEntry *e);
extern void raft_advance_commit(Raft *r);
extern void raft_recv_append_resp(Raft *r, const RaftMsg *m);
extern void raft_recv_heartbeat_resp(Raft *r, const RaftMsg *m);
extern void raft_tick_leader(Raft *r);
extern int64_t raft_quorum_contact(const Raft *r);
extern void raft_abort_transfer(Raft *r);

/* ---------- replicate.c ---------- */
extern void raft_flush_peers(Raft *r);
extern void raft_begin_round(Raft *r);
extern void raft_send_heartbeat(Raft *r, Progress *p);
extern void raft_broadcast_heartbeat(Raft *r);
extern void raft_send_timeout_now(Raft *r, uint32_t to);

/* ---------- member.c ---------- */
extern void raft_rebuild_peers(Raft *r);
extern void raft_conf_committed_here(Raft *r);	/* leader: leave joint, step down */
extern void raft_retire(Raft *r);	/* leader that is no voter any more */

/* ---------- readindex.c ---------- */
extern void raft_flush_reads(Raft *r);
extern void raft_rounds_acked(Raft *r);
extern void raft_fail_reads(Raft *r);
extern void raft_expire_reads(Raft *r);
extern int64_t raft_reads_deadline(const Raft *r);
extern int64_t raft_narrow_deadline(const Raft *r);	/* ask everybody then */
extern void raft_recv_read_index(Raft *r, const RaftMsg *m);
extern void raft_recv_read_index_resp(Raft *r, const RaftMsg *m);

/* ---------- codec.c ---------- */
extern bool raft_msg_valid(const RaftMsg *msg);

#endif							/* PGQ_RAFT_INTERNAL_H */
