/*-------------------------------------------------------------------------
 *
 * sim.h
 *		The simulated cluster: machines with disks, a network, clients, an
 *		operator, a fault injector, and an oracle that watches from outside.
 *
 * One process, one thread, virtual time, one seed. Everything that happens is
 * an event in SimWorld.queue; everything that is chance comes from SimWorld.rand.
 *
 * Two kinds of knowledge are kept strictly apart:
 *	- what a machine knows: its disk, and the core and log built from it. The
 *	  driver (sim_node.c) may use nothing else.
 *	- what the oracle knows: what every machine ever said or made durable. It
 *	  outlives crashes, and nothing flows from it back into the machines. The
 *	  operator (sim_operator.c) may look at it, as a person with a dashboard.
 *
 * The code under test is src/raft and src/storage as they are in production.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SIM_H
#define SIM_H

#include <stdio.h>

#include "raft/raft.h"
#include "sim_disk.h"
#include "sim_rand.h"
#include "storage/rlog.h"

#define SIM_MAX_MACHINES	10
#define SIM_MAX_IDS			64	/* member ids ever given out in one run */
#define SIM_MAX_CLIENTS		8
#define SIM_MAX_READS		32	/* outstanding */
#define SIM_LOG_DIR			"log"

#define SIM_MS				INT64_C(1000)
#define SIM_SECOND			INT64_C(1000000)

typedef struct SimWorld SimWorld;
typedef struct SimNode SimNode;

/* ---------- shadow of a log (sim_shadow.c) ---------- */

typedef struct SimEntry
{
	uint64_t	term;
	uint64_t	hash;			/* of type, stamp, token and payload */
	RaftToken	token;
	uint8_t		type;
	RaftBuf    *data;			/* kept for CONF entries only, else NULL */
} SimEntry;

typedef struct SimShadow
{
	uint64_t	base_index;		/* entries[0] is base_index + 1 */
	uint64_t	base_term;
	SimEntry   *entries;
	size_t		count;
	size_t		capacity;
} SimShadow;

/* One thing handed to the log and not known to be durable yet. */
typedef enum SimChangeKind
{
	SIM_CHANGE_TRUNCATE,
	SIM_CHANGE_APPEND,
	SIM_CHANGE_HARD,
	SIM_CHANGE_RESET			/* whole log dropped; goes on behind index */
} SimChangeKind;

typedef struct SimChange
{
	SimChangeKind kind;
	uint64_t	index;			/* truncate from; append: index; reset: base */
	uint64_t	term;			/* reset: of the base */
	SimEntry	entry;
	RaftHardState hard;
} SimChange;

typedef struct SimChanges
{
	SimChange  *items;
	size_t		count;
	size_t		capacity;
} SimChanges;

extern uint64_t sim_entry_hash(const RaftEntry *entry);
extern uint64_t sim_shadow_last(const SimShadow *shadow);
extern const SimEntry *sim_shadow_at(const SimShadow *shadow, uint64_t index);
extern uint64_t sim_shadow_term(const SimShadow *shadow, uint64_t index);	/* 0: none */
extern void sim_shadow_reset(SimShadow *shadow, uint64_t base_index, uint64_t base_term);
extern void sim_shadow_append(SimShadow *shadow, uint64_t index, const SimEntry *entry);
extern void sim_shadow_truncate(SimShadow *shadow, uint64_t from);
extern void sim_shadow_compact(SimShadow *shadow, uint64_t base_index);
extern void sim_shadow_copy(SimShadow *to, const SimShadow *from);
extern void sim_shadow_free(SimShadow *shadow);
extern void sim_shadow_apply(SimShadow *shadow, const SimChange *change);
extern void sim_changes_add(SimChanges *changes, const SimChange *change);
extern void sim_changes_move(SimChanges *to, SimChanges *from);	/* appends, empties */
extern void sim_changes_clear(SimChanges *changes);
extern void sim_changes_free(SimChanges *changes);

/*
 * After a restart: is `found` what some prefix of `pending`, done on top of
 * `durable`, leaves? Anything else is a forgotten or an invented entry.
 */
extern bool sim_shadow_explains(const SimShadow *durable, const SimChanges *pending,
								const SimShadow *found);

/* ---------- events (sim_queue.c) ---------- */

typedef enum SimEventKind
{
	SIM_EV_WAKE = 1,			/* a node's next deadline */
	SIM_EV_MESSAGE,				/* bytes arrive */
	SIM_EV_IO_RUN,				/* the pool thread does the writing */
	SIM_EV_IO_DONE,				/* and the loop hears of it */
	SIM_EV_RESTART,
	SIM_EV_CLIENT,
	SIM_EV_FAULT,
	SIM_EV_OPERATOR,
	SIM_EV_PEER,				/* a connection dropped or came up */
	SIM_EV_FORWARD,				/* bytes between drivers, not for the core */
	SIM_EV_APPLY,				/* the database commits what is published */
	SIM_EV_LOAD,				/* entries for a peer were read from the files */
	SIM_EV_INSTALL				/* an image has arrived */
} SimEventKind;

typedef struct SimEvent
{
	int64_t		at_us;
	uint64_t	seq;			/* breaks ties: first in, first out */
	SimEventKind kind;
	int			machine;
	uint64_t	incarnation;	/* of the machine; stale events are dropped */
	uint64_t	value;
	uint32_t	from;			/* member id */
	uint32_t	to;
	uint8_t    *bytes;
	size_t		len;
} SimEvent;

typedef struct SimQueue
{
	SimEvent   *heap;
	size_t		count;
	size_t		capacity;
	uint64_t	next_seq;
} SimQueue;

extern void sim_queue_push(SimQueue *queue, SimEvent event);
extern bool sim_queue_pop(SimQueue *queue, SimEvent *event);
extern void sim_queue_free(SimQueue *queue);

/* ---------- options drawn from the seed ---------- */

typedef struct SimOptions
{
	int			voters;			/* at the start */
	int			machines;
	int64_t		election_timeout_us;
	int64_t		heartbeat_interval_us;
	int64_t		delay_min_us;
	int64_t		delay_max_us;
	int64_t		disk_min_us;
	int64_t		disk_max_us;
	uint32_t	loss_ppm;
	uint32_t	duplicate_ppm;
	uint32_t	flip_ppm;
	bool		ordered;		/* as one TCP stream per direction */
	uint32_t	fault_mix;		/* bits: SIM_FAULT_* that may happen */
	int64_t		fault_gap_us;	/* mean time between faults */
	uint32_t	effect_crash_ppm;	/* crash at an effect boundary, per effect */
	uint64_t	segment_bytes;
	uint32_t	max_message_bytes;
	uint32_t	max_inflight_messages;
	uint64_t	max_inflight_bytes;
	uint64_t	max_uncommitted_bytes;
	uint64_t	cache_bytes;
	uint32_t	max_apply_entries;
	int			clients;
	int64_t		client_gap_us;
	uint32_t	payload_max;
	int64_t		operator_gap_us;
	uint64_t	keep_entries;	/* log kept behind the applied index */
	int64_t		apply_max_us;	/* how far the database may lag */
	int32_t		drift_ppm;		/* clock rates differ by up to this, each way */
	bool		membership;		/* the operator changes the configuration */
	bool		compaction;
	bool		lease_reads;
} SimOptions;

enum
{
	SIM_FAULT_CRASH = 1 << 0,
	SIM_FAULT_POWER = 1 << 1,	/* crash that loses unsynced writes */
	SIM_FAULT_PAUSE = 1 << 2,
	SIM_FAULT_SLOW = 1 << 3,
	SIM_FAULT_PARTITION = 1 << 4,
	SIM_FAULT_ONE_WAY = 1 << 5,
	SIM_FAULT_CLOG = 1 << 6,
	SIM_FAULT_PARTIAL = 1 << 7, /* Howard 2020 */
	SIM_FAULT_EIO = 1 << 8,
	SIM_FAULT_ENOSPC = 1 << 9,
	SIM_FAULT_STALL = 1 << 10,
	SIM_FAULT_ROT = 1 << 11,
	SIM_FAULT_MISDIRECT = 1 << 12,
	SIM_FAULT_WIPE = 1 << 13,
	SIM_FAULT_ALL_DOWN = 1 << 14,
	SIM_FAULT_TRANSFER = 1 << 15,
	SIM_FAULT_CAMPAIGN = 1 << 16,
	SIM_FAULT_BITS = 17
};

extern const char *const sim_fault_name[SIM_FAULT_BITS];

/* ---------- network (sim_net.c) ---------- */

typedef struct SimLink
{
	bool		blocked;
	int64_t		clogged_until_us;	/* held back, then all at once */
	int64_t		last_arrival_us;	/* for ordered links */
} SimLink;

/* ---------- a machine and the member that runs on it ---------- */

/* What waits for one round of I/O. */
typedef struct SimBatch
{
	RaftMsg    *msgs;
	size_t		nmsgs;
	size_t		msgs_capacity;
	bool		wanted;			/* there is something to wait for */
	bool		writes;			/* the log has something to write */
	bool		done_wanted;
	uint64_t	done_term;
	uint64_t	done_index;
	SimChanges	changes;
	uint64_t	conf_index;		/* of the configuration that is saved with it */
} SimBatch;

/* A proposal that came in here and that a client waits for. */
typedef struct SimProposal
{
	RaftToken	token;
	int			client;
} SimProposal;

#define SIM_MAX_PROPOSALS 64

/* What a restart of the database finds: one transactionally stored row. */
typedef struct SimRow
{
	uint64_t	index;
	uint64_t	term;
	uint64_t	chain;			/* hash of all entries up to index */
	uint64_t	conf_index;		/* newest configuration at or below index */
} SimRow;

typedef enum SimDamage
{
	SIM_SOUND = 0,
	SIM_ROTTEN,					/* acknowledged bytes flipped: must be noticed */
	SIM_MISDIRECTED				/* a write went astray: must not be acted upon */
} SimDamage;

struct SimNode
{
	SimWorld   *world;
	int			machine;
	uint32_t	id;				/* 0: no member on this machine */
	uint8_t		instance[RAFT_INSTANCE_LEN];
	SimDisk		disk;
	RlogEnv		env;
	uint64_t	incarnation;	/* counts process starts */
	int64_t		clock_offset_us;
	int32_t		clock_ppm;

	/* the process; all gone at a crash */
	bool		up;
	bool		dying;			/* crashed between two effects: unwind */
	int64_t		crash_after;	/* effects left to live; < 0: no plan */
	Raft	   *raft;
	Rlog	   *log;
	RlogReader *load_reader;
	RlogReader *apply_reader;
	RlogIo	   *io;
	SimBatch	next;			/* since the last rlog_io_begin */
	SimBatch	flying;			/* with the RlogIo that is out */
	uint64_t	published;		/* committed and durable here, may be applied */
	uint64_t	conf_saved;		/* index of the configuration known to be durable */
	int64_t		wake_at_us;
	bool		apply_planned;
	bool		installing;		/* an image is on its way */
	uint64_t	install_index;	/* wanted by the core, at least; 0: none */
	SimProposal proposals[SIM_MAX_PROPOSALS];
	int			nproposals;

	/* what was handed to the log, and what it said is durable */
	SimShadow	appended;
	SimShadow	durable;
	SimChanges	unsettled;		/* under way when the process ended */
	uint64_t	batch_from;		/* durable end before the newest batch that wrote entries */
	bool		lost_power;		/* the last time it stopped */
	RaftHardState durable_hard;
	RaftHardState hard;			/* last handed to the log */
	SimDamage	damage;
	bool		lost;			/* cannot go on; waits to be removed and replaced */
	bool		recovering;		/* lost acknowledged entries, gets them again; may not vote */
	bool		salvaged;		/* at any time: what it says of its loss may still be under way */
	bool		impostor;		/* came back with an empty disk under its old id */

	/* what a member that lost its disk had acknowledged (the oracle's memory) */
	SimShadow	ghost;
	uint32_t	ghost_id;

	/* the database: committed up to applied, on its disk up to flushed */
	SimRow		applied;
	SimRow		flushed;

	/* weather */
	int64_t		paused_until_us;
	int64_t		slow_until_us;
	int64_t		slow_by_us;
	int64_t		stalled_until_us;	/* disk */

	/* oracle's notes about the running process */
	RaftRole	seen_role;
	uint64_t	seen_term;
	uint64_t	seen_commit;
	uint64_t	seen_match[SIM_MAX_IDS];
};

/* ---------- oracle (sim_oracle.c) ---------- */

typedef struct SimCommitted
{
	uint64_t	term;
	uint64_t	by_term;		/* of the leader that committed it */
	uint64_t	hash;
	uint64_t	chain;			/* of the state machine after it */
	RaftToken	token;
	uint8_t		type;
	RaftBuf    *conf;			/* CONF entries */
} SimCommitted;

typedef struct SimVote
{
	uint64_t	term;
	uint32_t	voter;
	uint32_t	candidate;
	uint8_t		instance[RAFT_INSTANCE_LEN];
} SimVote;

typedef struct SimLeader
{
	uint64_t	term;
	uint32_t	id;
	uint8_t		instance[RAFT_INSTANCE_LEN];
} SimLeader;

typedef struct SimSeen			/* every entry ever appended, by (index, term) */
{
	uint64_t	index;
	uint64_t	term;
	uint64_t	hash;
	uint64_t	prev_term;
} SimSeen;

typedef struct SimOracle
{
	SimCommitted *committed;	/* [i] is index i + 1 */
	size_t		ncommitted;
	size_t		committed_capacity;
	SimVote    *votes;
	size_t		nvotes;
	size_t		votes_capacity;
	SimLeader  *leaders;
	size_t		nleaders;
	size_t		leaders_capacity;
	SimSeen    *seen;			/* open hash table */
	size_t		nseen;
	size_t		seen_capacity;
	uint64_t	acknowledged;	/* newest index told to a client */
	uint64_t	checks;
} SimOracle;

/* ---------- clients (sim_client.c) ---------- */

typedef struct SimClient
{
	bool		busy;
	RaftToken	token;
	uint32_t	payload;
	uint64_t	number;			/* of its operations so far */
	int64_t		asked_us;		/* of the current attempt */
	uint64_t	acknowledged;	/* operations */
	uint64_t	wanted;			/* liveness phase: operations still to do */
} SimClient;

typedef struct SimRead
{
	bool		used;
	uint64_t	id;
	int			machine;
	uint64_t	incarnation;
	uint64_t	floor;			/* acknowledged when it was asked */
	int64_t		asked_us;
} SimRead;

/* ---------- figures for the report ---------- */

typedef struct SimStats
{
	uint64_t	steps;
	uint64_t	elections;		/* leaders made */
	uint64_t	crashes;
	uint64_t	effect_crashes;
	uint64_t	restarts;
	uint64_t	messages;
	uint64_t	lost;
	uint64_t	duplicated;
	uint64_t	flipped;
	uint64_t	flips_decoded;
	uint64_t	faults[SIM_FAULT_BITS];
	uint64_t	writes_lost;
	uint64_t	writes_torn;
	uint64_t	names_lost;
	uint64_t	damage_reported;
	uint64_t	salvaged;
	uint64_t	trusted;
	uint64_t	committed;
	uint64_t	acknowledged;
	uint64_t	reads_ok;
	uint64_t	reads_failed;
	uint64_t	conf_changes;
	uint64_t	replaced;
	uint64_t	impostors;
	uint64_t	transfers;
	uint64_t	compactions;
	uint64_t	images;
	uint64_t	loads;
	uint64_t	syncs;
	uint64_t	checks;
	uint64_t	virtual_us;
} SimStats;

/* ---------- the world ---------- */

typedef enum SimPhase
{
	SIM_PHASE_SAFETY,
	SIM_PHASE_LIVENESS
} SimPhase;

struct SimWorld
{
	uint64_t	seed;
	SimOptions	options;
	SimRand		rand;
	SimQueue	queue;
	int64_t		now_us;
	SimPhase	phase;
	uint64_t	hash;
	FILE	   *trace;			/* NULL: quiet */
	SimStats	stats;

	SimNode		nodes[SIM_MAX_MACHINES];
	int			nnodes;
	bool		excluded[SIM_MAX_MACHINES]; /* liveness phase: stays away */
	int			machine_of[SIM_MAX_IDS];	/* by member id; -1: none */
	SimLink		links[SIM_MAX_MACHINES][SIM_MAX_MACHINES];
	RaftConf	first_conf;
	SimOracle	oracle;
	SimClient	clients[SIM_MAX_CLIENTS];
	SimRead		reads[SIM_MAX_READS];
	uint64_t	next_read;
	RaftStamp	stamp;
};

/* ends the run: prints the violation and leaves with status 1 */
extern void sim_fail(SimWorld *world, const char *format,...)
			__attribute__((format(printf, 2, 3), noreturn));
extern void sim_trace(SimWorld *world, const char *format,...)
			__attribute__((format(printf, 2, 3)));

#define SIM_CHECK(world, condition, ...) \
	do { \
		(world)->oracle.checks++; \
		if (!(condition)) \
			sim_fail(world, __VA_ARGS__); \
	} while (0)

/* an event for a machine's present process */
extern void sim_later(SimNode *node, SimEventKind kind, int64_t delay_us, uint64_t value);

/* sim_env.c */
extern void sim_env_init(SimNode *node);
/* true when the process died at this very effect */
extern bool sim_effect(SimNode *node, const char *what);

/* sim_node.c: life of a member */
extern void sim_node_init(SimWorld *world, int machine);
extern void sim_node_create(SimNode *node, uint32_t id, const RaftConf *conf);
extern bool sim_node_start(SimNode *node);
extern void sim_node_stop(SimNode *node, bool power_cut);	/* crash */
extern void sim_node_lose(SimNode *node, const char *why);	/* its disk is of no use any more */
extern void sim_node_vacate(SimNode *node); /* removed: the machine is free again */
extern void sim_node_free(SimNode *node);
extern int64_t sim_node_now(const SimNode *node);	/* by its own clock */
extern void sim_entry_from_record(RaftEntry *entry, const RlogRecord *record);

/* sim_drive.c: what the Raft worker does with the core's output */
extern void sim_node_drain(SimNode *node);
extern void sim_node_event(SimNode *node, SimEvent *event);
extern void sim_batch_clear(SimBatch *batch);
extern RaftStamp sim_next_stamp(SimWorld *world);

/* sim_db.c: the database, images, reading the log */
extern void sim_db_plan(SimNode *node);
extern void sim_db_apply(SimNode *node);
extern void sim_db_crash(SimNode *node);
extern void sim_db_compact(SimNode *node);
extern void sim_db_load(SimNode *node, const RaftLoad *load);
extern void sim_db_image_start(SimNode *node, uint32_t from, uint64_t index);
extern void sim_db_image_arrived(SimNode *node);

/* sim_net.c */
extern void sim_net_send(SimWorld *world, SimNode *node, const RaftMsg *msg);
extern void sim_net_forward(SimWorld *world, SimNode *node, uint32_t to, const void *data,
							size_t len);
extern void sim_net_heal(SimWorld *world);
extern uint8_t *sim_encode(const RaftMsg *msg, size_t *len);
extern void sim_msg_print(char *out, size_t size, const RaftMsg *msg);

/* sim_oracle.c */
extern void sim_oracle_appended(SimWorld *world, SimNode *node, uint64_t index,
								const SimEntry *entry, uint64_t prev_term);
extern void sim_oracle_truncated(SimWorld *world, SimNode *node, uint64_t from);
extern void sim_oracle_sent(SimWorld *world, SimNode *node, const RaftMsg *msg);
extern void sim_oracle_stepped(SimWorld *world, SimNode *node);
extern void sim_oracle_applied(SimWorld *world, SimNode *node, const SimRow *row);
extern void sim_oracle_restarted(SimWorld *world, SimNode *node, const SimShadow *found,
								 RaftHardState hard);
extern void sim_oracle_acknowledged(SimWorld *world, SimNode *node, RaftToken token,
									uint64_t index);
extern void sim_oracle_read(SimWorld *world, SimNode *node, const SimRead *read,
							uint64_t index);
extern void sim_oracle_at_rest(SimWorld *world, SimNode *leader);
/* the newest committed configuration at or below index */
extern void sim_oracle_conf(const SimWorld *world, uint64_t index, RaftConf *conf);
extern void sim_oracle_free(SimOracle *oracle);

/* sim_client.c */
extern void sim_client_start(SimWorld *world);
extern void sim_client_event(SimWorld *world, const SimEvent *event);
extern void sim_client_forwarded(SimNode *node, const uint8_t *bytes, size_t len);
extern void sim_client_committed(SimNode *node, uint64_t index, const SimEntry *entry);
extern void sim_client_read_done(SimNode *node, const RaftRead *read);
extern void sim_client_node_gone(SimNode *node);
extern void sim_client_finish(SimWorld *world);	/* a few more operations each, then none */
extern bool sim_client_idle(SimWorld *world);

/* sim_operator.c */
extern void sim_operator_start(SimWorld *world);
extern void sim_operator_event(SimWorld *world);
/* nothing is lost or being replaced, and all agree on the configuration */
extern bool sim_operator_calm(SimWorld *world);

/* sim_options.c */
extern void sim_options_draw(SimOptions *options, SimRand *rand);
extern void sim_options_print(const SimOptions *options, FILE *out);

/* sim_faults.c */
extern void sim_faults_start(SimWorld *world);
extern void sim_faults_event(SimWorld *world);
extern void sim_faults_heal(SimWorld *world);

/* sim_world.c */
extern void sim_world_run(SimWorld *world, uint64_t seed, uint64_t steps, FILE *trace);
extern void sim_world_free(SimWorld *world);
extern SimNode *sim_world_leader(SimWorld *world);	/* of the highest term; or NULL */
extern void sim_world_step(SimWorld *world, SimEvent *event);
extern SimNode *sim_node_of(SimWorld *world, uint32_t id);	/* NULL: none */

/* sim_liveness.c */
extern void sim_liveness(SimWorld *world);

#endif							/* SIM_H */
