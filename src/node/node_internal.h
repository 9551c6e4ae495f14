/*-------------------------------------------------------------------------
 *
 * node_internal.h
 *		Shared memory of the node layer, as seen by its own files only.
 *
 * Locking is described in node.h. Details of a mailbox slot:
 *
 *	FREE      -> POSTED     session, under mutex; then pushed on the stack
 *	POSTED    -> FREE       session (withdraw), under mutex
 *	POSTED    -> TAKING     worker, under mutex: payload is being copied
 *	TAKING    -> TAKEN      worker, under mutex: the session may free the payload
 *	TAKEN     -> FREE       session gives up (orphan): the worker pursues the
 *							proposal all the same, its entry is the applier's
 *	TAKEN     -> DECIDED    worker, under mutex: owner[index] is the session
 *	TAKEN     -> ANSWERED   worker, under mutex: refused, or a request's answer, or
 *							(applier_owns) committed: owner[index] is the applier
 *	DECIDED   -> FREE       session: committed, or gave its entry to the applier
 *	ANSWERED  -> FREE       session
 *
 * The worker recognises its own view of a slot by token: a slot that was freed
 * and posted again has another one.
 *
 * The stack (head, NodeSlot.next) is a Treiber stack that is popped whole, so
 * it has no ABA problem; `queued` keeps a slot from being pushed twice.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGQ_NODE_INTERNAL_H
#define PGQ_NODE_INTERNAL_H

#include "node/node.h"

#include "storage/condition_variable.h"
#include "storage/lwlock.h"
#include "utils/dsa.h"

#include "storage/rlog.h"

#define NODE_DIRECTORY		"pg_quorum"
#define NODE_LOG_DIRECTORY	"pg_quorum/log"
#define NODE_IMAGE_FILE		"pg_quorum/image"
#define NODE_OUTCOME_DIRECTORY	"pg_quorum/outcomes"
#define NODE_OUTCOME_FETCHED	"pg_quorum/outcomes.fetched"
#define NODE_INLINE_SIZE	2048
#define NODE_DSA_INITIAL	(1024 * 1024)
#define NODE_STACK_END		UINT32_MAX

/* Upper bound of one entry's payload; above any quorum.max_transaction_size */
#define NODE_MAX_PAYLOAD	(Size) (1024 * 1024 * 1024 - 64 * 1024)

typedef enum NodeSlotState
{
	SLOT_FREE = 0,
	SLOT_POSTED,
	SLOT_TAKING,
	SLOT_TAKEN,
	SLOT_DECIDED,
	SLOT_ANSWERED
} NodeSlotState;

typedef enum NodeRequestKind
{
	NODE_REQ_PROPOSE = 1,
	NODE_REQ_CREATE,
	NODE_REQ_JOIN,
	NODE_REQ_REMOVE,
	NODE_REQ_TRANSFER,
	NODE_REQ_OUTCOME,
	NODE_REQ_FORCE,
	NODE_REQ_APPLIED,			/* NodeAppliedRequest */
	NODE_REQ_PROBE,				/* who is at that address? */
	NODE_REQ_IMAGE_AT,			/* source: term and configuration of an entry */
	NODE_REQ_IMAGE_BEGUN,		/* receiver: an image of that entry is being loaded */
	NODE_REQ_IMAGE_DONE,		/* receiver: it is in the tables, durably */
	NODE_REQ_LEASE_RENEW = 20	/* 16 bytes of a lease's id; answer.index: what is left, us */
} NodeRequestKind;

typedef struct NodeSlot
{
	slock_t		mutex;
	NodeSlotState state;
	NodeRequestKind kind;
	pg_atomic_uint32 queued;
	pg_atomic_uint32 next;
	bool		applier_owns;	/* node_submit(): the session does not commit it */
	bool		parked;			/* Raft worker: a leader has it, and lets it wait */
	int64		posted_us;		/* node_monotonic_us() */
	RaftToken	token;
	Size		len;
	dsa_pointer large;			/* InvalidDsaPointer: payload is in small[] */
	NodeAnswer	answer;
	int			sqlstate;		/* requests: 0 fine, else error */
	uint64		wait_index;		/* waits for this to be applied; 0 no. wait_lock */
	uint32		wait_prev;		/* procnos of the list, or NODE_STACK_END. wait_lock */
	uint32		wait_next;
	char		small[NODE_INLINE_SIZE];
} NodeSlot;

typedef enum NodeMembership
{
	NODE_NONE = 0,				/* no cluster here yet */
	NODE_STARTING,				/* there is a log; the worker has not opened it yet */
	NODE_MEMBER,
	NODE_REMOVED,
	NODE_FENCED
} NodeMembership;

typedef struct NodeMemberStatus
{
	char		name[NODE_NAME_LEN];
	char		address[NODE_ADDRESS_LEN];
	char		version[32];
	uint32		id;
	bool		is_learner;
	bool		is_leader;
	bool		reachable;
	bool		has_match;		/* known on the leader only */
	uint64		match_index;
	bool		has_applied;
	uint64		applied_index;
	TimestampTz last_contact;	/* 0: never */
	NodeSqlAddress sql;			/* port 0: not known */
} NodeMemberStatus;

typedef struct NodeStatus
{
	pg_uuid_t	cluster_id;
	uint8		instance[RAFT_INSTANCE_LEN];	/* whose log this is; zero: none yet */
	char		role[16];
	uint32		leader_id;
	char		leader[NODE_NAME_LEN];	/* empty: none known */
	char		detail[NODE_DETAIL_LEN];
	int			nmembers;
	NodeMemberStatus members[NODE_MAX_MEMBERS];
} NodeStatus;

/* An entry's local transaction; index is written last, and 0 while it changes. */
typedef struct NodeCommit
{
	pg_atomic_uint64 index;
	pg_atomic_uint64 first;		/* the transaction is that of entries first..index */
	pg_atomic_uint64 xid;		/* FullTransactionId */
} NodeCommit;

typedef struct NodeShared
{
	/* identity: Raft worker writes, anyone reads */
	pg_atomic_uint32 membership;	/* NodeMembership */
	pg_atomic_uint32 id;
	pg_atomic_uint32 seq_slot;	/* slot + 1, 0 unknown */
	pg_atomic_uint32 is_leader;
	pg_atomic_uint32 boot;		/* 0 until the worker has counted this start */
	pg_atomic_uint64 token_counter;

	/* progress */
	pg_atomic_uint64 commit_index;
	pg_atomic_uint64 applied_index;
	pg_atomic_uint64 flushed_index;	/* apply worker writes */
	pg_atomic_uint64 suspect_index;	/* apply worker sets, Raft worker clears */
	pg_atomic_uint64 committing_index;	/* turn holder; 0 none */
	pg_atomic_uint32 committing_xid;
	pg_atomic_uint32 owner[NODE_TURN_RING];

	/* which transaction committed an entry here (node_commit_xid): turn holder */
	pg_atomic_uint64 start_index;	/* applied when this life of the server began */
	NodeCommit	commits[NODE_TURN_RING];

	/* who waits for entries to be applied (wait.c) */
	LWLock	   *wait_lock;
	pg_atomic_uint64 wait_least;	/* no waiter below this; UINT64_MAX none at all */
	uint32		wait_head;

	/*
	 * Raft worker writes: some member wants to hear as soon as this much is
	 * applied here; UINT64_MAX nobody does (worker_applied.c)
	 */
	pg_atomic_uint64 applied_wanted;

	/* the core's view, for quorum.status: Raft worker writes */
	pg_atomic_uint64 longest_turn_us;	/* of the worker's loop; a restarted one goes on with it */
	pg_atomic_uint64 raft_term;
	pg_atomic_uint64 raft_commit;	/* may be ahead of commit_index */
	pg_atomic_uint64 raft_last;
	pg_atomic_uint32 has_quorum;

	/*
	 * Images. image_wanted and image_least (the tables must be replaced by an
	 * image, of an entry not below): Raft worker. image_hold (the image that is
	 * being loaded stands at; 0 none; the others keep their log from there on):
	 * apply worker. The rest: Raft worker, under status_lock.
	 */
	pg_atomic_uint32 image_wanted;
	pg_atomic_uint64 image_least;
	pg_atomic_uint64 image_hold;
	NodeSqlAddress probed;		/* answer to NODE_REQ_PROBE */
	uint64		image_conf_index;	/* newest committed configuration, encoded */
	uint32		image_conf_len;
	char		image_conf[RLOG_MAX_CONF];
	/* the archive of outcomes (archived.c) */
	pg_atomic_uint64 log_first; /* Raft worker writes: the log begins there */
	pg_atomic_uint64 archived_index;	/* keeper writes: tokens up to here are archived */
	pg_atomic_uint64 archive_wanted;	/* whoever wants more of that; only ever up */
	pg_atomic_uint32 keeper_proc;

	/* workers' latches by procno + 1; 0 not running */
	pg_atomic_uint32 raft_proc;
	pg_atomic_uint32 apply_proc;
	pg_atomic_uint32 apply_pid;
	pg_atomic_uint32 apply_ready;
	pg_atomic_uint64 apply_busy_index;
	pg_atomic_uint64 apply_busy_since_us;	/* monotonic */

	pg_atomic_uint32 stack_head;

	/* protects the two below */
	LWLock	   *status_lock;
	NodeStatus	status;
	char		apply_detail[NODE_DETAIL_LEN];

	ConditionVariable status_cv;	/* broadcast when status changed */

	char		dsa_space[NODE_DSA_INITIAL];
	NodeSlot	slots[FLEXIBLE_ARRAY_MEMBER];	/* MaxBackends of them */
} NodeShared;

extern NodeShared *node_shared;
extern const NodeOps *node_ops;

/* address.c */
extern bool node_parse_address(const char *address, char *host, Size host_size, int *port);

/* image.c: the mark that says that this server's tables wait for an image */
typedef enum ImagePhase
{
	IMAGE_WANTED = 1,			/* one of point.index or above */
	IMAGE_LOADED				/* point is in the tables, if their progress says so */
} ImagePhase;

extern bool node_image_mark_write(ImagePhase phase, const NodeImagePoint *point, char *error);
extern bool node_image_mark_read(ImagePhase *phase, NodeImagePoint *point, char *error);
extern void node_image_mark_remove(void);

/* rejoin.c: what a crash has left undone */
extern void rejoin_finish(void);

/* shmem.c */
extern dsa_area *node_dsa(void);
extern void node_wake_proc(uint32 procno_plus_one);

/* mailbox.c */
extern bool node_sleep_until(int64 deadline_us);

/* wait.c: applied_index has risen to this */
extern void node_wake_waiters(uint64 applied);

/*
 * mailbox.c. The parts that a wait is made of: post (throws only before it is
 * posted), take the post back if the worker has not taken it, is there an answer.
 * node_turn_abandon() leaves the slot in whatever state.
 */
extern void node_post(NodeRequestKind kind, RaftToken token, const NodePart *parts, int nparts,
					  Size len, bool applier_owns);
extern bool node_withdraw_post(NodeSlot *slot);
extern bool node_answered(const NodeSlot *slot);

extern NodeVerdict node_request(NodeRequestKind kind, const void *data, Size len,
								int timeout_ms, NodeAnswer *answer, int *sqlstate);

/*
 * The same where nothing may be thrown and interrupts are held. Ends at
 * deadline_us (0: none) with NODE_UNAVAILABLE or NODE_UNKNOWN, and as soon as a
 * cancel or terminate is pending, with *interrupted.
 */
extern NodeVerdict node_request_held(NodeRequestKind kind, const void *data, Size len,
									 int64 deadline_us, bool *interrupted,
									 NodeAnswer *answer);

/* What NODE_REQ_OUTCOME carries; the answer's index goes with ABSENT. */
typedef struct NodeOutcomeRequest
{
	RaftToken	token;
	uint64		absent_upto;	/* the archive says: in none of the entries up to here */
	bool		looked;			/* the archive here was asked */
	bool		archives;		/* ask the archives of other members, nothing else */
} NodeOutcomeRequest;

/* What NODE_REQ_APPLIED carries. */
typedef struct NodeAppliedRequest
{
	uint64		index;
	bool		all;			/* every voting member, not just a majority */
	int64		deadline_us;	/* 0: none */
} NodeAppliedRequest;

/* turn.c, the worker's side */
extern void node_publish_commit(uint64 first, uint64 last);
extern bool node_give_turn(int procno, RaftToken token, uint64 index, uint64 rows_index, RaftStamp stamp,
						   uint64 detail, bool *there);
extern void node_answer_slot(int procno, RaftToken token, const NodeAnswer *answer, int sqlstate);

#endif							/* PGQ_NODE_INTERNAL_H */
