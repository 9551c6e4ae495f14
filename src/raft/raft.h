/*-------------------------------------------------------------------------
 *
 * raft.h
 *		Public face of the consensus core: a pure state machine.
 *
 * No I/O, no clock, no threads, no random numbers of its own, no PostgreSQL.
 * Time (monotonic microseconds) and entropy come in with the inputs; what is
 * to be persisted, sent and applied comes out in one RaftOutput.
 *
 * Life of a round
 * ---------------
 *	1. any number of inputs: raft_tick, raft_recv, raft_propose, ...
 *	2. raft_take_output(): the driver then
 *		a. truncates and appends out.entries to its log, writes hard state;
 *		b. sends out.msgs at once (the leader's appends overlap its own write);
 *		c. keeps out.msgs_after for when everything handed out so far is
 *		   durable (votes, acknowledgements, their rejections too);
 *		d. applies out.committed (all committed AND durable here).
 *	3. when the write of step a is durable: raft_append_done(), then (c).
 *
 * Who owns what: everything in RaftOutput belongs to the core and is valid
 * until the next call into it, except messages, which the driver owns
 * (raft_msg_free). Payloads are refcounted and never copied.
 *
 * Crash: nothing in here survives; raft_create() starts from hard state, the
 * log's entries and the configuration, all as they are on disk.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGQ_RAFT_H
#define PGQ_RAFT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RAFT_NONE			0
#define RAFT_MAX_MEMBERS	64
#define RAFT_NAME_LEN		64
#define RAFT_ADDRESS_LEN	256
#define RAFT_INSTANCE_LEN	16

/* ---------- words ---------- */

/* Identifies one proposal for ever. */
typedef struct RaftToken
{
	uint32_t	node;
	uint32_t	boot;
	uint64_t	counter;
} RaftToken;

/* A hybrid logical clock stamp; carried, never looked at. */
typedef struct RaftStamp
{
	int64_t		physical_us;
	uint32_t	logical;
	uint32_t	node;
} RaftStamp;

static inline bool
raft_token_equal(RaftToken a, RaftToken b)
{
	return a.counter == b.counter && a.node == b.node && a.boot == b.boot;
}

/* Immutable, refcounted bytes. */
typedef struct RaftBuf
{
	uint32_t	refs;			/* one thread only */
	uint32_t	len;
	uint8_t    *data;			/* behind this struct, or in what follows: */
	struct RaftBuf *whole;		/* data lies in there; NULL: not a part */
	void	   *heap;			/* a block that was taken over, or NULL */
} RaftBuf;

extern RaftBuf *raft_buf_new(const void *data, size_t len);	/* data NULL: uninitialised */

/* Take a malloc'ed block over without a copy. NULL: it stays the caller's. */
extern RaftBuf *raft_buf_take(void *heap, size_t len);

/* len bytes of another one, which is kept as long as this. */
extern RaftBuf *raft_buf_part(RaftBuf *whole, size_t offset, size_t len);
extern RaftBuf *raft_buf_ref(RaftBuf *buf);
extern void raft_buf_unref(RaftBuf *buf);	/* NULL is fine */

typedef enum RaftEntryType
{
	RAFT_ENTRY_NOOP = 1,
	RAFT_ENTRY_DATA = 2,
	RAFT_ENTRY_CONF = 3			/* payload: raft_conf_encode */
} RaftEntryType;

typedef struct RaftEntry
{
	uint64_t	index;
	uint64_t	term;
	RaftStamp	stamp;
	RaftToken	token;
	uint8_t		type;
	RaftBuf    *data;			/* may be NULL */
} RaftEntry;

/* ---------- membership ---------- */

typedef struct RaftMember
{
	uint32_t	id;
	uint32_t	seq_slot;		/* the application's: slot for sequences */
	bool		voter;			/* in the incoming (or only) configuration */
	bool		voter_outgoing; /* in the outgoing half of a joint configuration */
	bool		learner;
	char		name[RAFT_NAME_LEN];
	char		address[RAFT_ADDRESS_LEN];
	uint8_t		instance[RAFT_INSTANCE_LEN];
} RaftMember;

/*
 * Joint while any voter_outgoing is set. Members sorted by id. A configuration
 * is in force from the moment its entry is in the log (append-time activation,
 * Ongaro 4.1), and out of force again when that entry is cut off. So raft_conf()
 * may still be undone; raft_committed_conf() may not, and is the one to save.
 */
typedef struct RaftConf
{
	uint64_t	index;			/* of the entry that made it */
	uint32_t	next_id;		/* ids are never given out twice */
	bool		joint;
	bool		explicit_leave; /* joint: stays so until raft_leave_joint() */
	uint32_t	nmembers;
	RaftMember	members[RAFT_MAX_MEMBERS];
} RaftConf;

extern RaftBuf *raft_conf_encode(const RaftConf *conf);
extern bool raft_conf_decode(const void *data, size_t len, RaftConf *conf);
extern const RaftMember *raft_conf_find(const RaftConf *conf, uint32_t id);
extern bool raft_conf_valid(const RaftConf *conf);	/* sorted, flags and sizes make sense */

/* ---------- messages ---------- */

typedef enum RaftMsgType
{
	RAFT_MSG_PREVOTE = 1,
	RAFT_MSG_PREVOTE_RESP,
	RAFT_MSG_VOTE,
	RAFT_MSG_VOTE_RESP,
	RAFT_MSG_APPEND,
	RAFT_MSG_APPEND_RESP,
	RAFT_MSG_HEARTBEAT,
	RAFT_MSG_HEARTBEAT_RESP,
	RAFT_MSG_TIMEOUT_NOW,
	RAFT_MSG_READ_INDEX,
	RAFT_MSG_READ_INDEX_RESP,
	RAFT_MSG_SNAPSHOT			/* what you need is compacted: get an image, at index or above */
} RaftMsgType;

typedef struct RaftMsg
{
	uint8_t		type;
	bool		reject;
	bool		transfer;		/* VOTE: leadership transfer, ignores stickiness; APPEND_RESP:
								 * entries acknowledged before are lost, hint is the last */
	uint32_t	from;
	uint32_t	to;
	uint64_t	term;
	uint64_t	index;			/* APPEND: prev index; APPEND_RESP: match or rejected prev; votes,
								 * TIMEOUT_NOW: last index; SNAPSHOT: last compacted */
	uint64_t	log_term;		/* term of index; rejections: hint's term */
	uint64_t	commit;
	uint64_t	hint;			/* rejections: where to try next */
	uint64_t	context;		/* read round / read id; APPEND: 1 if success needs no answer */
	RaftStamp	stamp;
	uint8_t		instance[RAFT_INSTANCE_LEN];	/* sender's */
	uint32_t	nentries;
	RaftEntry  *entries;		/* each holds a reference to its payload. SNAPSHOT: one, type
								 * CONF, the newest committed configuration */
} RaftMsg;

extern void raft_msg_free(RaftMsg *msg);	/* frees entries, not msg itself */

/*
 * Wire form (codec.c): fixed header, then per entry a fixed header; payloads
 * are separate parts, so nothing is copied. encode: *head is malloc'ed with
 * everything but the payloads; parts are emitted through the callback in order.
 */
typedef void (*RaftPartFn) (void *arg, const void *data, size_t len);
extern uint8_t *raft_msg_encode(const RaftMsg *msg, RaftPartFn part, void *arg);
extern bool raft_msg_decode(const void *data, size_t len, RaftMsg *msg);

/* The same; a payload that is most of buf is not copied but keeps buf. */
extern bool raft_msg_decode_buf(RaftBuf *buf, RaftMsg *msg);

/* ---------- configuration of the core ---------- */

typedef struct RaftConfig
{
	uint32_t	id;
	uint8_t		instance[RAFT_INSTANCE_LEN];
	int64_t		election_timeout_us;	/* drawn from [T, 2T) */
	int64_t		heartbeat_interval_us;
	uint32_t	max_message_bytes;	/* of entries in one append; one entry always fits */
	uint32_t	max_inflight_messages;
	uint64_t	max_inflight_bytes;
	uint64_t	max_uncommitted_bytes;
	uint64_t	cache_bytes;	/* recent entries kept in memory */
	uint32_t	max_apply_entries;
	bool		lease_reads;	/* reads on the leader without a round while its lease holds;
								 * the same on all members (a restart waits a lease out) */
	int64_t		lease_drift_us; /* taken off the lease: how far clock rates may differ over it */
} RaftConfig;

extern void raft_config_default(RaftConfig *config);

typedef struct RaftHardState
{
	uint64_t	term;
	uint32_t	vote;
	uint64_t	commit;
} RaftHardState;

typedef struct RaftTermRun
{
	uint64_t	first_index;
	uint64_t	term;
} RaftTermRun;

/* What is on disk. first_index - 1 is the last compacted entry, or 0. */
typedef struct RaftDisk
{
	RaftHardState hard;
	RaftConf	conf;			/* newest committed one that was saved (raft_committed_conf) */
	uint64_t	first_index;
	uint64_t	prev_term;		/* term of first_index - 1 */
	uint64_t	last_index;
	const RaftTermRun *runs;
	size_t		nruns;
	const RaftConf *confs;		/* the decoded payloads of all CONF entries in the log above
								 * conf.index, ascending; .index set to the entry's index */
	size_t		nconfs;
	uint64_t	applied;		/* 0: commit_first starts at first_index; else behind this */

	/*
	 * 0, or: entries up to here were acknowledged once, and the disk has lost
	 * some (rlog_salvage). Until they are here again the member takes part
	 * without voting or campaigning; RaftOutput.trusted says when that ends.
	 */
	uint64_t	distrusted_until;
} RaftDisk;

typedef enum RaftRole
{
	RAFT_FOLLOWER = 0,
	RAFT_PRECANDIDATE,
	RAFT_CANDIDATE,
	RAFT_LEADER
} RaftRole;

typedef enum RaftStatus
{
	RAFT_OK = 0,
	RAFT_NOT_LEADER,
	RAFT_TRANSFERRING,			/* leadership is being handed over */
	RAFT_BUSY,					/* uncommitted size or a pending configuration change */
	RAFT_UNKNOWN_MEMBER,
	RAFT_INVALID,
	RAFT_FENCED,				/* the disk contradicts what this member acknowledged */
	RAFT_NO_MEMORY,
	RAFT_WRONG_INSTANCE			/* another server uses this member's id; message ignored */
} RaftStatus;

typedef struct Raft Raft;

/* ---------- output ---------- */

typedef struct RaftLoad
{
	uint32_t	peer;
	uint64_t	first_index;	/* entries wanted from the log for this peer */
	uint64_t	last_index;
	uint32_t	max_bytes;
} RaftLoad;

typedef struct RaftRead
{
	uint64_t	id;
	bool		ok;				/* false: no leader or it changed: ask again */
	uint64_t	index;
} RaftRead;

typedef struct RaftOutput
{
	bool		hard_changed;
	bool		must_sync;		/* term, vote or entries: must be durable before msgs_after */
	RaftHardState hard;
	uint64_t	truncate_from;	/* 0: no; else cut the log from here first */
	const RaftEntry *entries;	/* to append */
	size_t		nentries;
	RaftMsg    *msgs;
	size_t		nmsgs;
	RaftMsg    *msgs_after;
	size_t		nmsgs_after;
	uint64_t	append_term;	/* give these to raft_append_done() when durable */
	uint64_t	append_index;
	bool		append_pending; /* raft_append_done() is wanted */
	uint64_t	commit_first;	/* 0: nothing; committed and durable here */
	uint64_t	commit_last;
	const RaftLoad *loads;
	size_t		nloads;
	const RaftRead *reads;
	size_t		nreads;
	bool		role_changed;	/* role, leader or term */
	bool		conf_changed;	/* raft_conf() is another one */
	bool		trusted;		/* what RaftDisk.distrusted_until missed is here and durable */
	bool		conf_committed; /* raft_committed_conf() is another one and durable: save it */

	/*
	 * Image needed: what follows in the leader's log is compacted. The driver
	 * gets an image at install_index or above (asking install_from first), makes
	 * it durable and calls raft_installed(). Set in every output until then.
	 */
	bool		install;
	uint32_t	install_from;
	uint64_t	install_index;
	uint64_t	install_term;

	/*
	 * After raft_installed(), where the log had no such entry: drop the whole
	 * log, before truncate_from and entries, and go on behind this one. 0: no.
	 * conf_committed is set in the same output; that configuration must be
	 * durable no later than the reset.
	 */
	uint64_t	reset_index;
	uint64_t	reset_term;
	int64_t		next_deadline_us;
} RaftOutput;

/* ---------- life ---------- */

/* RAFT_FENCED: commit above the log's end and the like; *raft is NULL then. */
extern RaftStatus raft_create(const RaftConfig *config, const RaftDisk *disk,
							  int64_t now_us, uint64_t entropy, Raft **raft);
extern void raft_free(Raft *r);
extern void raft_set_config(Raft *r, const RaftConfig *config);	/* timeouts, sizes */

/* ---------- inputs ---------- */

extern void raft_tick(Raft *r, int64_t now_us, uint64_t entropy);
extern void raft_set_stamp(Raft *r, RaftStamp stamp);	/* for messages from now on */

/* Takes over msg's entries (raft_msg_free is not needed any more). */
extern RaftStatus raft_recv(Raft *r, RaftMsg *msg, int64_t now_us);

/* Leader only. Payload references are taken over when RAFT_OK. */
extern RaftStatus raft_propose(Raft *r, uint8_t type, RaftStamp stamp, RaftToken token,
							   RaftBuf *data, uint64_t *index);

/*
 * Leader only: make `voters` and `learners` of *target the configuration
 * (voter/learner flags are read). More than one voter changes: through a joint
 * configuration that is left by itself.
 */
extern RaftStatus raft_propose_conf(Raft *r, const RaftConf *target, RaftStamp stamp,
									RaftToken token, uint64_t *index);

/* Everything handed out with this (append_term, append_index) is durable. */
extern void raft_append_done(Raft *r, uint64_t term, uint64_t index, int64_t now_us);

/* Leader only: leave a joint configuration that was made with explicit_leave. */
extern RaftStatus raft_leave_joint(Raft *r, RaftStamp stamp, RaftToken token, uint64_t *index);

/*
 * Leader only. To itself: RAFT_OK, and a transfer under way is given up. Ends
 * with a new leader (role_changed), or after an election timeout with this one
 * (raft_transferee() is 0 again).
 */
extern RaftStatus raft_transfer(Raft *r, uint32_t to, int64_t now_us);
extern uint32_t raft_transferee(const Raft *r);
extern void raft_campaign(Raft *r, int64_t now_us);
/* The connection to this peer dropped: if it leads, elect soon. */
extern void raft_peer_down(Raft *r, uint32_t peer, int64_t now_us);
extern void raft_peer_up(Raft *r, uint32_t peer, int64_t now_us);
/* Queue to this peer is full, or drained: stop and go on sending entries. */
extern void raft_peer_paused(Raft *r, uint32_t peer, bool paused);
/*
 * Entries that a RaftLoad asked for; n = 0: they are gone (compacted). References
 * to payloads are taken over, the array is not.
 */
extern void raft_loaded(Raft *r, uint32_t peer, RaftEntry *entries, size_t n, int64_t now_us);
/* Linearizable read; ends with a RaftRead of this id. */
extern void raft_read_index(Raft *r, uint64_t id, int64_t now_us);
/* The log was cut below first_index. */
extern void raft_compacted(Raft *r, uint64_t first_index);
/*
 * An image of the state at index is durable here; conf is the newest committed
 * configuration at that index. RAFT_INVALID: older than what is committed here.
 */
extern RaftStatus raft_installed(Raft *r, uint64_t index, uint64_t term, const RaftConf *conf,
								 int64_t now_us);
/* Leader: the peer's driver says how getting the image went. */
extern void raft_report_snapshot(Raft *r, uint32_t peer, bool ok, int64_t now_us);

extern void raft_take_output(Raft *r, RaftOutput *out);

/* ---------- questions ---------- */

extern RaftRole raft_role(const Raft *r);
extern uint64_t raft_term(const Raft *r);
extern uint32_t raft_leader(const Raft *r);
extern uint64_t raft_commit_index(const Raft *r);
extern uint64_t raft_last_index(const Raft *r);
extern uint64_t raft_term_at(const Raft *r, uint64_t index);	/* 0: not known */
extern const RaftConf *raft_conf(const Raft *r);	/* in force */
extern const RaftConf *raft_committed_conf(const Raft *r);
extern bool raft_is_fenced(const Raft *r);
extern bool raft_is_recovering(const Raft *r);	/* distrusted_until is not reached yet */
extern bool raft_has_quorum(const Raft *r, int64_t now_us);	/* leader: heard a majority lately; else: knows a leader */
extern bool raft_is_promotable(const Raft *r);
/* Leader with lease_reads: does its lease hold? To be asked again after a read that used it. */
extern bool raft_lease_valid(const Raft *r, int64_t now_us);
/*
 * Up to when it does, as far as is known now; 0: it does not, INT64_MAX: nobody
 * else votes. What was said before is void as soon as a message leaves that came
 * out of the core later (an order to take over, a configuration): ask before
 * sending.
 */
extern int64_t raft_lease_until(const Raft *r);
/* Leader: this learner keeps up, so making it a voter costs no availability. */
extern bool raft_caught_up(const Raft *r, uint32_t peer);

typedef struct RaftPeerStatus
{
	uint64_t	match;
	uint64_t	next;
	bool		recent_active;
	int64_t		last_contact_us;
	bool		replicating;	/* neither probing nor waiting for an image */
	bool		snapshot;		/* waiting for an image */
	uint32_t	inflight_messages;
	uint64_t	inflight_bytes;
} RaftPeerStatus;

extern bool raft_peer_status(const Raft *r, uint32_t peer, RaftPeerStatus *status);

/* NULL, or which invariant does not hold. */
extern const char *raft_check_invariants(const Raft *r);
extern uint64_t raft_uncommitted_bytes(const Raft *r);

/*
 * Called where the core finds its own state broken (never because of input).
 * Must not return; NULL: abort().
 */
extern void (*raft_on_assert) (const char *file, int line, const char *expr);

#endif							/* PGQ_RAFT_H */
