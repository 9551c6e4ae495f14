/*-------------------------------------------------------------------------
 *
 * harness.h
 *		Several consensus cores on one table: disks, messages and time moved by hand.
 *
 * Nothing happens by itself. A test says which message arrives, which write
 * gets durable, when time passes and who crashes; settle() and run() do the
 * obvious thing for the parts of a story that are not its point.
 *
 * Each node has two logs: `log`, what was handed to the disk, and `disk`, what
 * a crash leaves. With hold_disk() writes queue up between the two, and with
 * them the messages that must wait for them.
 *
 * After every call into a core the oracle (oracle.c) checks from outside, from
 * what all nodes ever said or made durable: one leader a term, one vote a term
 * and node (across restarts), log matching, leader completeness, state machine
 * safety, commit only what a quorum has on disk, nothing acknowledged or applied
 * that is not on disk, match < next, commit and match never going back, reads
 * not older than what was committed before them, and the core's own invariants.
 * So a story fails at the step that breaks a rule, even where its own checks
 * would not see it.
 *
 * A failed check prints the test's name and the trace of all that happened.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGQ_RAFT_HARNESS_H
#define PGQ_RAFT_HARNESS_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "raft/raft.h"

#define MAX_NODES	9
#define T_US		INT64_C(1000000)	/* election timeout */
#define HB_US		INT64_C(100000)
#define ANY			0

/* Members 1, 2, 5 as IDS(1, 2, 5). */
typedef uint32_t Ids;

#define IDS(...)	ids_of((const int[]) {__VA_ARGS__, 0})

typedef struct Log
{
	uint64_t	base;			/* index before the first entry */
	uint64_t	base_term;
	size_t		n;
	size_t		size;
	RaftEntry  *entries;
} Log;

typedef struct Packet
{
	RaftMsg		msg;			/* decoded, for looking at */
	uint8_t    *bytes;
	size_t		len;
} Packet;

/* One output on its way to the disk. */
typedef struct Write
{
	struct Write *next;
	bool		must_sync;
	bool		hard_changed;
	RaftHardState hard;
	uint64_t	reset_index;
	uint64_t	reset_term;
	uint64_t	truncate_from;
	Log			entries;		/* base is not used */
	bool		pending;
	uint64_t	append_term;
	uint64_t	append_index;
	RaftConf   *conf;
	Packet	  **after;
	size_t		nafter;
} Write;

typedef struct Read
{
	uint64_t	id;
	uint64_t	floor;			/* committed somewhere when it was asked */
	bool		done;
	bool		ok;
	uint64_t	index;
} Read;

typedef struct Node
{
	uint32_t	id;
	bool		up;
	bool		exists;
	Raft	   *raft;
	RaftConfig	config;

	/* what a crash leaves */
	Log			disk;
	RaftHardState hard;
	RaftConf	conf;
	uint64_t	applied;		/* and with give_applied, told at restart */
	bool		give_applied;
	uint64_t	distrusted_until;	/* see lose_tail() */

	Log			log;			/* as handed out */
	RaftHardState hard_out;
	Write	   *writes;
	bool		hold_disk;
	bool		hold_loads;
	bool		paused;			/* no ticks */
	RaftLoad	loads[16];
	size_t		nloads;
	int64_t		deadline_us;

	/* the newest output that wanted an image */
	bool		install;
	uint32_t	install_from;
	uint64_t	install_index;
	uint64_t	install_term;

	Read		reads[64];
	size_t		nreads;

	/* counts since the test last set them to zero */
	int			syncs;			/* outputs with must_sync */
	int			appends;		/* outputs with entries */
	int			outputs;
	uint64_t	max_page;		/* longest run handed out for applying */

	/* oracle */
	uint64_t	commit_seen;
	uint64_t	term_seen;
	uint64_t	match_seen[MAX_NODES + 1];
	uint64_t	match_term;
	uint64_t	joint_seen;		/* as leader: index of a joint configuration in force */
} Node;

extern RaftConfig base_config;	/* set before cluster() */
extern int64_t now_us;
extern bool quorum_oracle;		/* off where a test wipes a disk */

extern Ids	ids_of(const int *list);
extern bool ids_have(Ids ids, uint32_t id);

/* ---------- tests ---------- */

typedef struct Test
{
	const char *name;
	void		(*run) (void);
} Test;

#define TEST(name) {#name, name}

extern void fail_at(const char *file, int line, const char *format,...)
			__attribute__((format(printf, 3, 4), noreturn));
extern void trace(const char *format,...) __attribute__((format(printf, 1, 2)));

#define CHECK(condition) \
	do { \
		if (!(condition)) \
			fail_at(__FILE__, __LINE__, "%s", #condition); \
	} while (0)

#define CHECK_EQ(a, b) \
	do { \
		long long	a_ = (long long) (a); \
		long long	b_ = (long long) (b); \
		if (a_ != b_) \
			fail_at(__FILE__, __LINE__, "%s is %lld, not %s = %lld", #a, a_, #b, b_); \
	} while (0)

/* ---------- nodes ---------- */

extern Node *node(uint32_t id);
extern Raft *core(uint32_t id);	/* of a node that is up */

/* Nodes 1..n, all voters, empty logs, no leader. */
extern void cluster(int nvoters);
extern void cluster_of(Ids voters, Ids learners);
/* One more node, with an empty log, in nobody's configuration yet. */
extern void add_node(uint32_t id);
extern void crash(uint32_t id);
extern RaftStatus try_restart(uint32_t id);
extern void restart(uint32_t id);	/* crashes it first when it is up */
extern void wipe(uint32_t id);	/* crash and lose disk and instance uuid */
/* Crash; the last n durable entries cannot be read any more (rlog_salvage). */
extern void lose_tail(uint32_t id, uint64_t n);

/* Put terms[0..n-1] of entries on a node's disk before it starts; 0 ends. */
extern void seed_log(uint32_t id, const int *terms);
#define TERMS(...)	((const int[]) {__VA_ARGS__, 0})
/* As cluster(), but nothing is started: seed_log() and hard state, then start_all(). */
extern void cluster_unstarted(Ids voters, Ids learners);
extern void start_all(void);

/* ---------- inputs; each takes the output afterwards ---------- */

extern void campaign(uint32_t id);
extern void elect(uint32_t id);	/* now, whoever led; settles */
extern uint64_t propose(uint32_t id, const char *data);
extern RaftStatus try_propose(uint32_t id, const char *data, uint64_t *index);
extern RaftStatus try_change(uint32_t id, Ids voters, Ids learners, uint64_t *index);
extern RaftStatus try_change_explicit(uint32_t id, Ids voters, Ids learners, uint64_t *index);
extern uint64_t change(uint32_t id, Ids voters, Ids learners);
extern RaftStatus leave_joint(uint32_t id);
extern RaftStatus transfer(uint32_t id, uint32_t to);
extern void read_index(uint32_t id, uint64_t read_id);
extern Read *read_of(uint32_t id, uint64_t read_id);	/* NULL: never asked */
extern void tick(uint32_t id);
extern RaftStatus inject(uint32_t to, RaftMsg msg);	/* takes over its entries */
extern void drain(uint32_t id); /* take outputs until there are no more */
extern void compact(uint32_t id, uint64_t first_index);
extern void answer_loads(uint32_t id, uint32_t max_entries);	/* of hold_loads */
/* Get the image that the node asked for from node `from`. */
extern RaftStatus install(uint32_t id, uint32_t from);
extern RaftStatus install_at(uint32_t id, uint64_t index, uint64_t term, const RaftConf *conf);

/* ---------- disks ---------- */

extern void hold_disk(uint32_t id);
extern bool sync_one(uint32_t id);	/* the oldest write; false: there is none */
extern void sync_disk(uint32_t id);	/* all there are now */
extern void release_disk(uint32_t id);
extern uint64_t log_last(const Log *log);
extern uint64_t log_term(const Log *log, uint64_t index);	/* 0: not there */
extern const RaftEntry *log_at(const Log *log, uint64_t index);
extern bool has_data(uint32_t id, uint64_t index, const char *data);	/* in its log */
extern bool logs_equal(uint32_t a, uint32_t b);

/* ---------- messages ---------- */

extern int	count_msgs(uint8_t type, uint32_t from, uint32_t to);
extern const RaftMsg *peek(uint8_t type, uint32_t from, uint32_t to);	/* oldest; NULL: none */
extern void deliver(uint8_t type, uint32_t from, uint32_t to);	/* the oldest; must exist */
extern void deliver_last(uint8_t type, uint32_t from, uint32_t to);
extern int	deliver_all(uint8_t type, uint32_t from, uint32_t to);	/* that exist now */
extern int	drop(uint8_t type, uint32_t from, uint32_t to);
extern void duplicate(uint8_t type, uint32_t from, uint32_t to);	/* oldest; copy goes last */
/* Out of the pool, and back in. */
extern Packet *take(uint8_t type, uint32_t from, uint32_t to);
extern Packet *copy_packet(const Packet *packet);
extern void put(Packet *packet);
extern void shuffle(uint64_t *seed);	/* reorders the pool */

/* A cut link loses what would be delivered over it. */
extern void cut(uint32_t from, uint32_t to);	/* one way */
extern void uncut(uint32_t from, uint32_t to);
extern void isolate(uint32_t id);
extern void isolate_groups(Ids a, Ids b);	/* nothing between a and b */
extern void heal(void);

extern void settle(void);		/* deliver until nothing is left; no time passes */
extern void settle_only(Ids ids);	/* among these; the rest stays in the pool */

/* ---------- time ---------- */

extern void jump(int64_t us);	/* the clock moves, nobody looks */
extern void elapse(int64_t us); /* ticks as deadlines come, no messages move */
extern void elapse_one(uint32_t id, int64_t us);	/* only its ticks */
extern void run(int64_t us);	/* ticks and messages */
extern uint32_t run_until_leader(int64_t limit_us); /* id of one that all up nodes follow */

/* ---------- shortcuts ---------- */

extern bool is_leader(uint32_t id);
extern uint32_t leader_now(void);	/* with the highest term among those up, or 0 */
extern uint64_t commit_of(uint32_t id);
extern uint64_t last_of(uint32_t id);
extern RaftPeerStatus peer_of(uint32_t leader, uint32_t peer);
extern bool all_replicating(uint32_t leader);
/* All up nodes agree on log and commit; leader's peers replicate. Runs for a while first. */
extern void check_converged(void);
extern uint64_t rnd(uint64_t *seed);
extern RaftMsg message(uint8_t type, uint32_t from, uint32_t to, uint64_t term);
extern RaftEntry *entries_of(uint64_t first, const int *terms, uint32_t *n);
extern RaftToken next_token(uint32_t id);
extern void instance_of(uint32_t id, uint8_t *instance);

/* internal to the harness */
extern void harness_begin(void);
extern void harness_end(void);
extern Node nodes[MAX_NODES + 1];
extern void packet_free(Packet *packet);
extern Packet *packet_of(const RaftMsg *msg);
extern void pool_add(Packet *packet);
extern void pool_clear(void);
extern const char *describe(const RaftMsg *msg);
extern void log_copy(Log *to, const Log *from);
extern void log_append(Log *log, const RaftEntry *entry);
extern void log_truncate(Log *log, uint64_t from);
extern void log_reset(Log *log, uint64_t base, uint64_t base_term);
extern void log_compact(Log *log, uint64_t first_index);
extern void log_free(Log *log);
extern void oracle_reset(void);
extern void oracle_sent(const Node *n, const RaftMsg *msg);
extern void oracle_appended(const Node *n, const RaftEntry *entry);
extern void oracle_durable(const Node *n);
extern void oracle_after(Node *n);
extern void oracle_restarted(Node *n);
extern uint64_t oracle_committed(void);
extern uint64_t entry_hash(const RaftEntry *entry);

/* ---------- the test files ---------- */

extern const Test tests_elections[];
extern const Test tests_prevote[];
extern const Test tests_replication[];
extern const Test tests_commit[];
extern const Test tests_membership[];
extern const Test tests_joint[];
extern const Test tests_reads[];
extern const Test tests_transfer[];
extern const Test tests_flow[];
extern const Test tests_snapshot[];
extern const Test tests_identity[];
extern const Test tests_codec[];
extern const Test tests_random[];
extern const Test tests_units_quorum[];
extern const Test tests_units_conf[];
extern const Test tests_units_progress[];
extern const Test tests_units_log[];

#endif							/* PGQ_RAFT_HARNESS_H */
