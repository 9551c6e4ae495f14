/*-------------------------------------------------------------------------
 *
 * worker.h
 *		The Raft worker's inside: what its files share.
 *
 * One process, one thread of our own. Callbacks of libuv and of the transport
 * only feed the core and queues; nothing in them throws (a longjmp would leave
 * uv_run half done). The work of a turn of the loop is in worker_turn():
 *
 *		uv_run()			messages in: raft_recv, queues
 *		mailbox				proposals and requests of sessions
 *		proposals			certify, append; or forward to the leader
 *		drive()				core's output: send, write, publish commits
 *		tp_flush()			everything said in this turn leaves at once
 *
 * Files
 *		worker.c			start, loop, shutdown
 *		worker_open.c		from the log on disk to a running core, and back
 *		worker_drive.c		the core's output: log, messages, loads
 *		worker_io.c			writing the log: inline or on the thread pool
 *		worker_mailbox.c	the other end of mailbox.c
 *		worker_propose.c	proposals, here and forwarded; verdicts
 *		worker_publish.c	commits to their owners; the log's old end
 *		worker_image.c		a member whose tables are replaced by an image
 *		worker_salvage.c	a log that was damaged below what was acknowledged
 *		worker_peer.c		the transport's callbacks, pings
 *		worker_admin.c		changes of membership and leadership
 *		worker_join.c		becoming a member: founding, joining
 *		worker_force.c		going on alone
 *		rejoin.c			a server that was a member, or a copy of one
 *		worker_outcome.c	what became of a token
 *		worker_applied.c	who has applied what, for those who wait for it
 *		worker_lock*.c		the lock service (worker_lock.h)
 *		worker_read.c		linearizable reads of sessions (their ids: below 2^63)
 *		worker_status.c		quorum.status and quorum.members
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGQ_NODE_WORKER_H
#define PGQ_NODE_WORKER_H

#include "node/node_internal.h"

#include <uv.h>

#include "clock/clock_shmem.h"
#include "lib/ilist.h"
#include "storage/rlog.h"
#include "transport/transport.h"

#define WORKER_VERSION			"1.0"
#define WORKER_REMOVED_FILE		NODE_DIRECTORY "/removed"
#define WORKER_INSTANCE_FILE	NODE_DIRECTORY "/instance"
#define WORKER_PENDING_BUCKETS	1024
#define WORKER_PING_US			INT64CONST(1000000)
#define WORKER_FEED_ENTRIES		65536	/* read again at start */
#define WORKER_REMOTE_MAX_BYTES	(Size) (256 * 1024 * 1024)

/* ---------- messages of our own (same byte order: the handshake checks) ---------- */

#define WIRE_SOCKET_DIR_LEN 128

typedef enum WireType
{
	WIRE_RAFT = 1,				/* raft_msg_encode */
	WIRE_FORWARD,				/* WireForward, payload: append this, leader */
	WIRE_VERDICT,				/* WireVerdict: it was not appended, because */
	WIRE_PING,
	WIRE_PONG,
	WIRE_ADMIN,
	WIRE_ADMIN_REPLY,
	WIRE_ASK,					/* WireAsk: what became of this token? */
	WIRE_ANSWER,
	WIRE_APPLIED_ASK,			/* WireAppliedAsk: say when you have applied this */
	WIRE_APPLIED,				/* WireApplied */
	WIRE_LOCK = 20,				/* WireLock (worker_lock.h) */
	WIRE_JOIN = 64,				/* requests */
	WIRE_JOIN_REPLY
} WireType;

typedef struct WireForward
{
	uint64		term;			/* good for this leadership only */
	RaftToken	token;
	RaftStamp	stamp;			/* the origin's clock: the entry's is larger */
	int64		age_us;			/* how long it is pursued already */
} WireForward;

typedef struct WireVerdict
{
	uint64		term;
	RaftToken	token;
	uint32		verdict;		/* NODE_REFUSED; NODE_UNAVAILABLE: not taken, try again */
	uint32		conflict_node;
	uint64		conflict_key;
	uint64		conflict_index;
	char		message[NODE_MESSAGE_LEN];	/* sent up to its end */
} WireVerdict;

typedef struct WirePing
{
	int64		sent_us;		/* sender's monotonic clock */
	int64		wall_us;
	uint64		applied_index;
	uint64		committed_index;	/* and durable at the sender */
	uint64		last_index;		/* durable */
	uint64		known_index;	/* the receiver once had that much, committed */
	uint32		boot;
	uint32		recovering;		/* entries were lost, the core has them sent again */
	char		version[32];
	uint64		image_index;	/* the sender is loading an image of this entry; 0 no */
	uint32		sql_port;
	char		socket_dir[WIRE_SOCKET_DIR_LEN];
} WirePing;

typedef struct WirePong
{
	int64		sent_us;		/* as in the ping */
	int64		wall_us;
} WirePong;

typedef enum AdminKind
{
	ADMIN_ADD = 1,
	ADMIN_REMOVE,
	ADMIN_TRANSFER,
	ADMIN_ADDRESS,
	ADMIN_PROMOTE
} AdminKind;

typedef struct WireAdmin
{
	uint64		id;				/* the asking member's */
	uint32		kind;			/* AdminKind */
	char		name[NODE_NAME_LEN];
	char		address[NODE_ADDRESS_LEN];
} WireAdmin;

typedef struct WireAdminReply
{
	uint64		id;
	int32		sqlstate;		/* 0: done; -1: not leader, try again */
	char		message[NODE_DETAIL_LEN];
} WireAdminReply;

typedef enum AskedAs
{
	ASKED_AS_ORIGIN = 1,
	ASKED_AS_LEADER,
	ASKED_AS_ARCHIVE
} AskedAs;

typedef struct WireAsk
{
	uint64		id;
	RaftToken	token;
	uint32		origin;			/* AskedAs */
	uint32		reserved;
	uint64		absent_upto;	/* ASKED_AS_LEADER: what an archive says */
} WireAsk;

typedef struct WireAnswer
{
	uint64		id;
	uint32		outcome;		/* Outcome */
	uint32		reserved;
	uint64		absent_upto;	/* OUTCOME_ABSENT */
} WireAnswer;

/* Progress between the two is worth a message; nothing further once at upto. */
typedef struct WireAppliedAsk
{
	uint64		from;
	uint64		upto;
} WireAppliedAsk;

typedef struct WireApplied
{
	uint64		index;			/* applied_index of the sender */
} WireApplied;

typedef struct WireJoin
{
	uint32		version;		/* WIRE_JOIN_VERSION */
	uint32		probe;			/* only say who you are */
	uint32		replace;
	uint32		sequence_stride;
	uint8		instance[RAFT_INSTANCE_LEN];
	char		name[NODE_NAME_LEN];
	char		address[NODE_ADDRESS_LEN];
} WireJoin;

#define WIRE_JOIN_VERSION 2

/* %s: the name */
#define JOIN_NAME_IS_TAKEN \
	"the cluster has a member of the name \"%s\" already, which is another server or this one before it lost its data; " \
	"join_cluster(address, replace => true) takes its place"

typedef struct WireJoinReply
{
	int32		sqlstate;		/* 0: member; -1: try address (or later, if empty) */
	uint32		id;
	uint8		cluster_id[16];
	char		address[NODE_ADDRESS_LEN];
	char		message[NODE_DETAIL_LEN];
	uint64		conf_index;		/* of the configuration that has the new member */
	/* who answers: */
	char		name[NODE_NAME_LEN];
	uint32		sql_port;
	char		socket_dir[WIRE_SOCKET_DIR_LEN];
	/* sqlstate 0: an encoded RaftConf follows */
} WireJoinReply;

/* ---------- proposals ---------- */

typedef enum PendingState
{
	PENDING_QUEUED,				/* wants a leader */
	PENDING_SENT,				/* forwarded in sent_term */
	PENDING_PARKED,				/* a request for a lock: in the leader's queue, or in ours */
	PENDING_APPENDED			/* in this member's log at index, not committed */
} PendingState;

/* A session's proposal that was taken. Pursued even if the session gives up. */
typedef struct Pending
{
	dlist_node	link;			/* in queued, sent or parked (by time), appended (by index) */
	struct Pending *chain;
	PendingState state;
	int			procno;
	RaftToken	token;
	RaftBuf    *data;
	uint64		index;
	RaftStamp	stamp;
	uint64		sent_term;
	int64		sent_us;
	uint64		waits_for;		/* refused once this entry is committed */
	int64		taken_us;		/* since when it is pursued */

	/* of the lock service */
	uint8		lock_op;		/* LkOp; 0: a transaction */
	bool		withdrawn;		/* nobody wants it any more */
	bool		exposed;		/* may be in a log somewhere */
	uint64		lock_token;		/* APPENDED: of the grant */
	uint64		rows_index;		/* APPENDED: the last entry before it that may change rows */
	struct LockOwn *own;		/* this worker's own; procno is -1 */
} Pending;

/*
 * A large proposal that is copied out of its slot, some of it each turn. The
 * slot is in SLOT_TAKING all that time: its session waits with it, and a worker
 * that is started anew takes it from the beginning.
 */
typedef struct LargeTake
{
	RaftBuf    *buf;			/* NULL: none */
	Size		done;
	int			procno;
	RaftToken	token;
	const uint8 *from;
} LargeTake;

/* A proposal that another member forwarded to us. */
typedef struct RemoteProposal
{
	dlist_node	link;
	uint32		from;
	uint64		term;
	RaftToken	token;
	RaftBuf    *data;
	uint64		waits_for;
	int64		age_us;
} RemoteProposal;

typedef enum Judgement
{
	JUDGED_APPENDED,			/* or in the log already */
	JUDGED_REFUSED,
	JUDGED_WAITS,				/* refused, if what it conflicts with is committed */
	JUDGED_PARKED,				/* a request for a lock that waits in the queue */
	JUDGED_UNFINISHED,			/* the same again in the next turn, before any other */
	JUDGED_LATER
} Judgement;

/* ---------- administration ---------- */

typedef enum AdminOrigin
{
	ADMIN_FROM_SESSION,
	ADMIN_FROM_MEMBER,
	ADMIN_FROM_REQUEST,			/* a join request */
	ADMIN_FROM_SELF
} AdminOrigin;

typedef struct AdminOp
{
	dlist_node	link;
	AdminKind	kind;
	AdminOrigin origin;
	int			procno;			/* FROM_SESSION */
	RaftToken	slot_token;
	uint32		member;			/* FROM_MEMBER */
	uint64		member_op;
	uint64		request;		/* FROM_REQUEST */
	char		name[NODE_NAME_LEN];
	char		address[NODE_ADDRESS_LEN];
	uint8		instance[RAFT_INSTANCE_LEN];
	bool		replace;
	uint32		stride;

	uint64		id;				/* ours, for the reply to a forwarded one */
	uint64		asked_term;		/* forwarded to the leader of this term */
	uint64		conf_index;		/* the change is this entry */
	uint64		conf_term;
	uint32		target;			/* of a transfer under way */
	bool		tried;
	int64		deadline_us;
} AdminOp;

typedef enum Outcome
{
	OUTCOME_UNKNOWN = NODE_OUTCOME_UNKNOWN,
	OUTCOME_COMMITTED = NODE_OUTCOME_COMMITTED,
	OUTCOME_ABORTED = NODE_OUTCOME_ABORTED,
	OUTCOME_IN_PROGRESS = NODE_OUTCOME_IN_PROGRESS,
	OUTCOME_EVIDENCE = NODE_OUTCOME_EVIDENCE,
	OUTCOME_NOT_HERE,			/* origin: not pending here; leader: ask another */
	OUTCOME_ABSENT				/* archive: in none of the entries up to absent_upto */
} Outcome;

/* A question about a token, asked by a session here. */
typedef struct OutcomeOp
{
	dlist_node	link;
	int			procno;
	RaftToken	slot_token;
	RaftToken	token;
	bool		looked;			/* as in NodeOutcomeRequest */
	bool		archives;
	int			next_peer;		/* archives: whom to ask */
	uint64		absent_upto;
	uint64		id;
	bool		origin_done;	/* the token's origin has said it is not pending */
	uint32		asked_member;
	uint64		asked_term;
	int64		asked_us;
	int64		deadline_us;
} OutcomeOp;

/* A session that waits until its entry is applied on other members. */
typedef struct AppliedOp
{
	dlist_node	link;
	int			procno;
	RaftToken	slot_token;
	NodeAppliedRequest request;
} AppliedOp;

/* ---------- peers ---------- */

typedef struct PeerInfo
{
	uint32		id;
	bool		up;				/* tp_send works */
	bool		has_applied;
	uint64		applied_index;
	uint64		known_index;	/* committed, and durable there: for ever */
	uint64		image_index;	/* it is loading an image of this entry; 0 no */
	uint32		sql_port;
	char		socket_dir[WIRE_SOCKET_DIR_LEN];
	uint32		boot;
	bool		heard;			/* a ping came since we started */
	bool		says_removed;
	int64		gone_us;		/* not in the configuration any more, since */

	/* who waits for whose tables (worker_applied.c) */
	uint64		told_applied;	/* by the peer, over this connection */
	uint64		asked_upto;		/* by us, over this connection; 0 nothing */
	uint64		wants_from;		/* the peer of us */
	uint64		wants_upto;		/* 0: nothing */
	uint64		wants_told;		/* what we told it last */
	char		version[32];
} PeerInfo;

/* ---------- writing the log ---------- */

/* What waits for one round of log I/O. */
typedef struct IoBatch
{
	RaftMsg    *msgs;			/* may leave when it is durable */
	size_t		nmsgs;
	size_t		cap;
	bool		writes;			/* something was queued in the log */
	bool		done_wanted;
	uint64		term;
	uint64		index;
	Size		bytes;
} IoBatch;

typedef enum WorkerState
{
	WORKER_ALONE,				/* no cluster */
	WORKER_RUNNING,
	WORKER_HALTED				/* a member that takes no part; detail says why */
} WorkerState;

typedef struct Worker
{
	uv_loop_t	loop;
	uv_timer_t	keepalive;		/* one active handle: an empty loop does not poll */
	Transport  *tp;
	int64		now_us;			/* of this turn */
	uint64		entropy;

	WorkerState state;
	const char *halted_role;
	bool		may_join_anew;	/* HALTED: removed, or a copy of another member */
	int64		retry_open_us;	/* HALTED: open again then; 0 never */
	bool		leaving;		/* shutting down */
	int64		leave_deadline_us;

	/* running */
	Rlog	   *log;
	RlogReader *reader;
	Raft	   *raft;
	uint8		cluster_id[16];
	uint8		instance[RAFT_INSTANCE_LEN];
	uint32		id;
	int64		deadline_us;	/* the core's */
	uint64		committed;		/* and durable here */
	bool		needs_image;	/* nothing is published meanwhile (worker_image.c) */
	bool		image_marked;	/* the mark is on disk */
	uint64		image_least;	/* the mark's: of which entry at least */
	uint64		image_offered;	/* the core's, 0 none */
	bool		image_procno_set;	/* the apply worker waits for the log */
	bool		image_driven;
	int			image_procno;
	RaftToken	image_token;
	uint64		image_index;
	bool		conf_dirty;
	uint64		muted_until;	/* neither votes nor campaigns before this is committed */
	int64		probation_until_us;
	bool		recovering;		/* what a damaged log had is not all back (worker_salvage.c) */
	bool		log_failed;		/* a write or sync failed: not opened again by this process */
	bool		clock_fenced;

	/* listening */
	bool		listening;
	int64		listen_retry_us;
	bool		listen_logged;

	/* log I/O */
	IoBatch		batch;			/* being collected */
	IoBatch		inflight;		/* being written */
	RlogIo	   *io;
	uv_work_t	io_work;
	bool		io_posted;		/* on the pool, not back yet */
	bool		pool_started;
	int64		io_average_us;
	int64		io_since_us;
	RlogStatus	health;
	TpPart	   *parts;			/* scratch */
	int			nparts;
	int			parts_cap;

	/* proposals */
	dlist_head	queued;
	dlist_head	sent;
	dlist_head	parked;
	dlist_head	appended;
	int			npending;
	Pending    *buckets[WORKER_PENDING_BUCKETS];
	dlist_head	remote;
	Size		remote_bytes;
	int			nremote;
	int		   *posted;			/* procnos whose proposals were not taken yet */
	int			nposted;
	bool	   *is_posted;
	int64		retry_us;		/* leave queued ones alone until then */
	RaftToken	judging;		/* the one that is judged over several turns; 0 none */
	bool		judging_seen;	/* it was still there */
	bool		unfinished;		/* NodeOps.begin_turn left something */
	LargeTake	taking;
	uint64		fed_from;		/* entries told to node_ops already, not yet output */
	uint64		fed_to;
	uint64		rows_index;		/* no entry of the log above it changes rows of tables */
	bool		ring_limited;
	int			at_work;		/* sessions in flight at a time, lately */
	int64		watch_us;
	int64		lag_since_us;
	int64		apply_missing_us;	/* no apply worker since then */

	/* administration */
	dlist_head	admin;
	dlist_head	outcomes;
	dlist_head	applied;		/* AppliedOp */
	int			napplied_wants;	/* 0: no peer has wants_upto */
	int64		applied_us;		/* look at them again then */
	uint64		next_op;
	struct JoinOp *join;
	int64		announce_us;	/* of an address that changed */

	PeerInfo	peers[NODE_MAX_MEMBERS];
	int			npeers;
	int64		ping_us;

	/* status */
	bool		status_dirty;
	int64		status_us;
	char		detail[NODE_DETAIL_LEN];
	char		standing[NODE_DETAIL_LEN];	/* shown while there is no other detail */
	bool		forced_shown;	/* it is worker_force.c's */
	int64		maintain_us;
} Worker;

static inline HlcStamp
to_hlc(RaftStamp stamp)
{
	return (HlcStamp) {stamp.physical_us, stamp.logical, stamp.node};
}

static inline RaftStamp
from_hlc(HlcStamp stamp)
{
	return (RaftStamp) {stamp.physical_us, stamp.logical, stamp.node};
}

/* boot.c */
extern uint32 boot_count_start(void);
extern uint32 boot_raise(uint32 seen);

/* worker.c */
extern uint64 worker_entropy(Worker *w);

/* worker_open.c */
extern void worker_open(Worker *w);
extern void worker_close(Worker *w);
extern void worker_halt(Worker *w, const char *role, int64 retry_us, const char *fmt,...) pg_attribute_printf(4, 5);
extern void worker_set_detail(Worker *w, const char *detail);
extern bool worker_load_credentials(Worker *w, char *error);
extern bool worker_address_is_safe(char *why);
extern void worker_set_identity(Worker *w);
extern void worker_listen(Worker *w);
extern void worker_configure(Worker *w);
extern RlogStatus worker_save_conf(Worker *w);

/* worker_drive.c */
extern void drive(Worker *w);
extern void drive_note_appended(Worker *w, uint64 index, RaftToken token, RaftStamp stamp,
								uint8 type, const void *data, Size len, RaftBuf *buf);

/* worker_io.c */
extern void io_collect_messages(Worker *w, const RaftMsg *msgs, size_t n);
extern bool io_start(Worker *w);
extern void io_wait(Worker *w);
extern void io_batch_clear(IoBatch *batch);

/* worker_mailbox.c */
extern void mailbox_init(Worker *w);
extern void mailbox_collect(Worker *w);
extern void mailbox_take_posted(Worker *w);
extern void mailbox_copy_some(Worker *w);
extern void mailbox_refuse_posted(Worker *w, const char *why);

/* worker_propose.c */
extern void propose_run(Worker *w);
extern bool propose_may_take(const Worker *w);
extern Pending *pending_add(Worker *w, int procno, RaftToken token, RaftBuf *data);
extern Pending *pending_find(const Worker *w, RaftToken token);
extern void pending_free(Worker *w, Pending *p);
extern void pending_appended(Worker *w, uint64 index, RaftToken token, RaftStamp stamp,
							 uint64 lock_token);
extern void pending_truncated(Worker *w, uint64 from);
extern void pending_requeue(Worker *w);
extern void pending_forget_log(Worker *w);
extern void pending_jump(Worker *w, uint64 index);
extern void pending_give_up(Worker *w, const char *why);
extern void remote_forward(Worker *w, uint32 from, const uint8 *data, Size len, RaftBuf *kept);
extern void remote_drop(Worker *w);
extern void propose_verdict(Worker *w, uint32 from, const uint8 *data, Size len);
extern bool propose_goes_on(const Worker *w);
extern Judgement propose_append(Worker *w, RaftToken token, RaftBuf *data);
extern bool propose_may_append(const Worker *w);
extern void propose_withdraw(Worker *w, Pending *p);
extern void propose_refuse(Worker *w, uint32 from, uint64 term, RaftToken token,
						   const NodeAnswer *answer);
extern bool remote_withdraw(Worker *w, uint32 from, RaftToken token);
extern void send_lock_verdict(Worker *w, uint32 to, uint64 term, RaftToken token, uint32 verdict);
extern bool worker_leads(const Worker *w);
extern bool worker_leads_surely(const Worker *w);

/* worker_publish.c */
extern void publish_commits(Worker *w);
extern bool check_applied(Worker *w);
extern void watch_apply(Worker *w);
extern void truncate_log(Worker *w);
extern bool image_outlasts_log(const Worker *w, const PeerInfo *peer);

/* worker_image.c */
extern bool image_open(Worker *w);
extern void image_close(Worker *w);
extern void image_offered(Worker *w, const RaftOutput *out);
extern void image_review(Worker *w);
extern void image_request(Worker *w, int procno, RaftToken token, NodeRequestKind kind,
						  const char *data, Size len);
extern void image_run(Worker *w);
extern void image_socket_dir(char *dir, Size size);
extern void image_sql_address(const char *address, const char *socket_dir, uint32 port,
							  NodeSqlAddress *sql);

/* worker_salvage.c */
extern RlogStatus salvage_open(Worker *w, const RlogOptions *options, const char *error);
extern void salvage_begin(Worker *w);
extern void salvage_look(Worker *w);
extern void salvage_reopen(Worker *w, uint64 index, const char *error);

/* worker_peer.c */
extern bool peer_create_transport(Worker *w);
extern void peer_sync(Worker *w);
extern PeerInfo *peer_find(Worker *w, uint32 id);
extern bool peer_is_up(Worker *w, uint32 id);
extern bool peer_send(Worker *w, uint32 id, WireType type, const void *data, Size len);
extern void peer_send_raft(Worker *w, RaftMsg *msg);
extern void peer_ping(Worker *w);
extern bool worker_muted(const Worker *w);
extern bool worker_may_campaign(const Worker *w);
extern void peer_maintain(Worker *w);
extern void worker_hand_over(Worker *w, uint32 except);

/* worker_admin.c */
extern void admin_request(Worker *w, int procno, RaftToken token, NodeRequestKind kind,
						  const char *data, Size len);
extern void admin_message(Worker *w, uint32 from, const uint8 *data, Size len);
extern void admin_reply(Worker *w, uint32 from, const uint8 *data, Size len);
extern void admin_add(Worker *w, uint64 request, const WireJoin *join);
extern void admin_run(Worker *w);
extern void admin_drop(Worker *w);
extern void admin_announce_address(Worker *w);
extern void admin_became_removed(Worker *w);
extern void answer_request(Worker *w, int procno, RaftToken token, int sqlstate, const char *fmt,...) pg_attribute_printf(5, 6);

/* worker_join.c */
extern int	worker_write_file(const char *path, const void *data, Size len);
extern void join_found(Worker *w, int procno, RaftToken token);
extern void join_begin(Worker *w, int procno, RaftToken token, const char *data, Size len);
extern void join_probe(Worker *w, int procno, RaftToken token, const char *data, Size len);
extern void join_run(Worker *w);
extern void join_introduce(const Worker *w, WireJoinReply *reply);
extern void join_request(Worker *w, uint64 request, const uint8 *data, Size len);

/* rejoin.c */
#define REJOIN_MAGIC 0x314d5150 /* "PQM1" */

typedef struct RejoinMember
{
	uint32		magic;
	uint32		id;
	uint8		cluster_id[16];
	char		name[NODE_NAME_LEN];
} RejoinMember;

extern bool rejoin_read_member(RejoinMember *member);
extern void rejoin_write_member(const Worker *w);
extern bool rejoin_instance(uint8 *instance, char *error);
extern bool rejoin_swap(void);

/* worker_force.c */
extern void force_begin(Worker *w, int procno, RaftToken token);
extern void force_show(Worker *w);
extern void force_review(Worker *w);

/* worker_outcome.c */
extern void outcome_begin(Worker *w, int procno, RaftToken slot_token,
						  const NodeOutcomeRequest *request);
extern void outcome_run(Worker *w);
extern void outcome_ask(Worker *w, uint32 from, const uint8 *data, Size len);
extern void outcome_answer(Worker *w, uint32 from, const uint8 *data, Size len);
extern void outcome_note_marker(Worker *w, RaftToken token, uint64 index);
extern void outcome_truncated(Worker *w, uint64 from);
extern bool outcome_is_aborted(const Worker *w, RaftToken token);

/* worker_applied.c */
extern void applied_begin(Worker *w, int procno, RaftToken slot_token, const char *data, Size len);
extern void applied_run(Worker *w);
extern void applied_drop(Worker *w, const char *why);
extern void applied_peer_changed(PeerInfo *peer);
extern void applied_ask(Worker *w, uint32 from, const uint8 *data, Size len);
extern void applied_told(Worker *w, uint32 from, const uint8 *data, Size len);

/* worker_lock.c: the rest of the worker calls these */
extern void lock_init(Worker *w);
extern void lock_own_start(Worker *w);	/* after mailbox_init() */
extern uint64 lock_appended(Worker *w, uint64 index, RaftToken token, RaftStamp stamp,
							const void *data, Size len);
extern void lock_truncated(Worker *w, uint64 from);
extern void lock_coverage_starts(Worker *w, uint64 first);
extern void lock_committed(Worker *w);
extern void lock_forget(Worker *w);
extern Judgement lock_judge(Worker *w, uint32 from, RaftToken token, RaftBuf *data, int64 age_us,
							uint64 *waits_for, NodeAnswer *answer);
extern void lock_before(Worker *w); /* proposals are judged */
extern void lock_grant_parked(Worker *w);	/* something may have been released */
extern void lock_after(Worker *w);
extern int64 lock_deadline(const Worker *w);
extern void lock_slept(Worker *w, long timeout_ms);
extern void lock_peer_up(Worker *w, uint32 id, bool up);
extern void lock_message(Worker *w, uint32 from, const uint8 *data, Size len);
extern void lock_reads(Worker *w, const RaftRead *reads, size_t n);
extern void lock_request_taken(Worker *w, Pending *p);
extern void lock_orphan(Worker *w, Pending *p, uint64 index);
extern void lock_own_decided(Worker *w, Pending *p, uint64 index);	/* 0: refused */
extern void lock_own_freed(Worker *w, Pending *p);
extern void lock_withdrawn(Worker *w, Pending *p);
extern void lock_renewal_begin(Worker *w, int procno, RaftToken slot_token,
							   const char *data, Size len);

/* worker_read.c */
extern void read_init(Worker *w);
extern bool read_run(Worker *w);
extern void read_answered(Worker *w, const RaftRead *answers, size_t n);
extern void read_wake(void);
extern void read_role_changed(Worker *w);
extern void read_forget(Worker *w);
extern int64 read_deadline(const Worker *w);
extern void read_publish_lease(Worker *w);

/* worker_status.c */
extern void status_progress(Worker *w);
extern void status_publish(Worker *w);

#endif							/* PGQ_NODE_WORKER_H */
