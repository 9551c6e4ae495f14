/*-------------------------------------------------------------------------
 *
 * node.h
 *		Public face of the node layer: the Raft worker process, and the shared
 *		memory through which sessions and the apply worker talk to it.
 *
 * Who does what
 * -------------
 *	Raft worker		drives src/raft with src/storage and src/transport.
 *	session			posts a proposal or a request into its mailbox slot (one
 *					slot a PGPROC) and sleeps on its own latch.
 *	apply worker	reads committed entries straight from the log files
 *					(RlogReader) up to the published commit index.
 *
 * Shared state, who writes it, under what
 * ---------------------------------------
 *	NodeShared.commit_index		Raft worker only; atomic. Highest index that is
 *								committed AND durable in the local log AND whose
 *								turn owner has been recorded. What may be applied.
 *	NodeShared.applied_index	whoever holds the turn; atomic. Raised only after
 *								the entry's transaction is visible here.
 *	NodeShared.owner[]			ring indexed by log index: which process commits
 *								that entry here (procno + 1), or 0 for the apply
 *								worker. Written by the Raft worker before it
 *								publishes commit_index, changed to 0 by a session
 *								that gives its entry up. The ring is never lapped:
 *								commit_index <= applied_index + NODE_TURN_RING.
 *	NodeShared.commits[]		ring indexed by log index: which transaction commits
 *								that entry here. Written by whoever holds the turn,
 *								before the commit record; read without a lock, the
 *								index is the proof that the pair belongs together.
 *	NodeShared.start_index		apply worker, once: what was applied at the start.
 *	NodeSlot					state and token under its own spinlock.
 *	NodeShared.wait_*, NodeSlot.wait_*	who waits for an entry to be applied: a list
 *								under NodeShared.wait_lock. Sessions put themselves in
 *								and out; whoever raises applied_index wakes.
 *	NodeShared.flushed_index	apply worker only; atomic. Highest entry whose local
 *								commit is flushed: the log below it may go.
 *	NodeShared.suspect_index	apply worker sets, Raft worker clears; atomic. An
 *								entry that is damaged in the log's files, 0: none.
 *	status part					Raft worker, under NodeShared.status_lock.
 *
 * Crash: a backend or worker that dies by a signal takes the whole server
 * through a restart, so all of this is rebuilt from the log and from the
 * replication origin; nothing in shared memory outlives it.
 *
 * The life of a turn
 * ------------------
 *	node_propose()		-> verdict. On NODE_COMMITTED the session owns answer.index.
 *	node_turn_wait()	-> returns when applied_index == index - 1.
 *	(commit locally with origin LSN = index)
 *	node_turn_done()	-> at XACT_EVENT_COMMIT: applied_index = index, next woken.
 *	node_turn_abandon()	-> at XACT_EVENT_ABORT and at exit, in whatever state: a
 *						   proposal not yet taken is withdrawn; an entry that is
 *						   or will be decided goes to the apply worker.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGQ_NODE_H
#define PGQ_NODE_H

#include "postgres.h"

#include "access/transam.h"
#include "port/atomics.h"
#include "storage/latch.h"
#include "storage/s_lock.h"
#include "storage/spin.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "raft/raft.h"

#define NODE_TURN_RING		16384	/* entries published ahead of applied */
#define NODE_MAX_MEMBERS	64
#define NODE_NAME_LEN		64
#define NODE_ADDRESS_LEN	256
#define NODE_DETAIL_LEN		256
#define NODE_MESSAGE_LEN	1024	/* of an answer: names the members of a deadlock */

/* ---------- settings (settings.c) ---------- */

extern char *quorum_database;
extern char *quorum_node_name;
extern char *quorum_address;
extern char *quorum_secret_file;

typedef enum QuorumSsl
{
	QUORUM_SSL_OFF,
	QUORUM_SSL_REQUIRE
} QuorumSsl;

extern int	quorum_ssl;			/* QuorumSsl */
extern char *quorum_ssl_cert_file;
extern char *quorum_ssl_key_file;
extern char *quorum_ssl_ca_file;
extern int	quorum_heartbeat_interval_ms;
extern int	quorum_election_timeout_ms;
extern int	quorum_max_log_size_mb;
extern int	quorum_commit_timeout_ms;
extern bool quorum_leader_lease;
extern int	quorum_sequence_stride;

extern void node_define_settings(void);

/* ---------- start-up (called by pg_quorum.c) ---------- */

extern Size node_shmem_size(void);
extern void node_shmem_init(void);
extern void node_register_workers(void);

/* True when shared memory is there (loaded by shared_preload_libraries). */
extern bool node_is_loaded(void);

/* ERROR 55000 with a HINT unless loaded / unless member of a cluster. */
extern void node_require_loaded(void);
extern void node_require_member(void);

/* 55000 while this server loads the cluster's tables to join; proposals ask by themselves. */
extern void node_require_joined(void);

/* ---------- what everybody may ask, lock-free ---------- */

extern uint64 node_applied_index(void);

/* The longest time that the Raft worker took for one turn of its loop. */
extern uint64 node_longest_turn_us(void);
extern uint64 node_commit_index(void);
extern bool node_is_member(void);	/* created or joined, and not removed */
extern bool node_is_removed(void);
extern uint32 node_id(void);	/* 0 before there is a cluster */
extern int	node_slot(void);	/* 0 .. sequence_stride - 1; -1 before */
extern bool node_is_leader(void);
extern bool node_is_alone(void);	/* no other member is known */
extern uint64 node_known_commit_index(void);	/* may be ahead of node_commit_index() */
extern bool node_cluster_id(pg_uuid_t *id); /* false: none, or not known yet */

/*
 * Base for a key of a row that the caller has locked already: every entry up
 * to the result was visible before this call, and none above it is visible
 * now. (Waits for a commit that is visible but not yet counted, so that a
 * session that follows another on the same row is not refused.)
 */
extern uint64 node_base_index(void);

/* ---------- proposals (mailbox.c) ---------- */

typedef enum NodeVerdict
{
	NODE_COMMITTED = 1,			/* decided; answer.index is ours to commit */
	NODE_REFUSED,				/* certification conflict, nothing in the log */
	NODE_UNAVAILABLE,			/* no quorum, certainly never appended: 55000 */
	NODE_WITHDRAWN,				/* cancelled before it was taken: 57014 */
	NODE_UNKNOWN,				/* outcome unknown: 40003 */
	NODE_TOO_LARGE,				/* 54000 */
	NODE_DOOMED,				/* withdrawn because doomed_check said so: 40001 */
	NODE_NOT_MEMBER				/* no cluster here, or removed */
} NodeVerdict;

typedef struct NodeAnswer
{
	NodeVerdict verdict;
	uint64		index;			/* NODE_COMMITTED: our entry */
	RaftStamp	stamp;			/* NODE_COMMITTED: the leader's HLC */
	uint64		rows_index;		/* NODE_COMMITTED: rows as of index are those as of here */
	/* NODE_REFUSED: */
	uint64		conflict_key;	/* 0: base older than the map covers */
	uint64		conflict_index; /* the winner */
	uint32		conflict_node;	/* where the winner came from, 0 unknown */
	char		message[NODE_MESSAGE_LEN];	/* reason, for DETAIL; may be empty */
} NodeAnswer;

typedef struct NodePart
{
	const void *data;
	Size		len;
} NodePart;

/* A fresh token of this server start. Never returns the same one twice. */
extern RaftToken node_next_token(void);
extern char *node_token_out(RaftToken token);	/* palloc'ed text */
extern bool node_token_in(const char *text, RaftToken *token);

/*
 * Post the payload (parts are concatenated) and wait for the verdict.
 * Interrupts: a cancel withdraws the proposal if it was not taken yet
 * (NODE_WITHDRAWN), else goes on waiting. quorum.commit_timeout, or a
 * terminate: NODE_UNAVAILABLE when it could be withdrawn, else NODE_UNKNOWN.
 * Never throws once the proposal is posted, except FATAL on postmaster death.
 * The caller turns the verdict into an error. doomed_check (may be NULL) is
 * asked whenever the latch is set: true withdraws if that is still possible.
 */
extern NodeVerdict node_propose(RaftToken token, const NodePart *parts, int nparts,
								bool (*doomed_check) (void), NodeAnswer *answer);

/*
 * Like node_propose(), but the entry is the apply worker's, on this member too:
 * for what a session does in the middle of a transaction. NODE_COMMITTED:
 * answer.index; it is not applied here yet (node_wait_applied). Nothing to be
 * abandoned afterwards.
 */
extern NodeVerdict node_submit(RaftToken token, const NodePart *parts, int nparts,
							   bool (*doomed_check) (void), NodeAnswer *answer);

/*
 * Hand an entry over and do not wait for its fate; the applier owns it. False
 * when nobody takes it within patience_us: it will not be in the log. For a
 * process that has no proposal of its own under way; does not throw.
 */
extern bool node_send_off(RaftToken token, const NodePart *parts, int nparts, int64 patience_us);

/*
 * Sleep until applied_index >= index: true. False: deadline_us (of
 * node_monotonic_us(), 0: none) has passed. Ordinary interrupts: may throw.
 */
extern bool node_wait_applied(uint64 index, int64 deadline_us);

/* Sleep so long, or until the latch is set. Ordinary interrupts (may throw). */
extern void node_pause(long ms);
extern int64 node_monotonic_us(void);

/* ---------- linearizable reads (read.c) ---------- */

/*
 * The read index: everything that was acknowledged anywhere before this call is
 * in the entries up to there (wait for them: node_wait_applied). Shared with all
 * who ask at the same time; without a round trip on a leader with a lease.
 * False: deadline_us has passed (0: none), nobody could say. Ordinary interrupts.
 */
extern bool node_read_index(int64 deadline_us, uint64 *index);

/*
 * The newest thing known about the age of data: what was acknowledged before
 * *as_of_us (node_monotonic_us()) is in the entries up to *index. False: nothing
 * known yet. With a lease: the same as of now.
 */
extern bool node_freshness(int64 *as_of_us, uint64 *index);
extern bool node_freshness_is_now(uint64 *index);

/* Somebody wants data no older than this: keep node_freshness() young for a while. */
extern void node_want_freshness(int64 staleness_us, int64 now_us);

/*
 * After a commit, with interrupts held; never throws (applied.c). Wait until
 * entry `index` is applied on a majority of the voting members, or on all of
 * them. message: the members that had not applied when the time was over.
 */
typedef enum NodeApplied
{
	NODE_APPLIED = 1,
	NODE_APPLIED_LATE,			/* deadline_us has passed */
	NODE_APPLIED_INTERRUPTED,	/* a cancel or terminate is pending */
	NODE_APPLIED_HALTED			/* this member takes no part; message: why */
} NodeApplied;

extern NodeApplied node_wait_applied_elsewhere(uint64 index, bool all, int64 deadline_us,
											   char message[NODE_DETAIL_LEN]);

/*
 * Wait until applied_index == index - 1. False: doomed_check said true or the
 * backend is being terminated; the caller must then abort with 40003 (its
 * entry stands, and goes to the apply worker by node_turn_abandon).
 */
extern bool node_turn_wait(uint64 index, bool (*doomed_check) (void));

/*
 * Bracket the commit record: node_turn_committing() as the last act of
 * PRE_COMMIT tells others which xid is about to become visible under which
 * index (for node_base_index); node_turn_done() at XACT_EVENT_COMMIT.
 */
extern void node_turn_committing(uint64 index, TransactionId xid);
extern void node_turn_done(uint64 index);
extern void node_turn_passed(uint64 first, uint64 last);	/* without effect, so without a commit */

/*
 * For who wants to know which entries a snapshot of this server holds
 * (replication_snapshot_index): the transaction that was last announced for
 * entry `index`; false: none, or one of so long ago that it is not known any
 * more. The highest entry that was announced or applied; and the one up to which
 * everything was there when this life of the server began.
 */
extern bool node_commit_xid(uint64 index, FullTransactionId *xid);
extern bool node_commit_is_empty(uint64 index);	/* known to have no effect */
/* ... and the first entry that this transaction carries (a batch ends with index). */
extern bool node_commit_covers(uint64 index, uint64 *first, FullTransactionId *xid);
extern uint64 node_committing_index(void);
extern uint64 node_start_index(void);
extern void node_turn_abandon(void);

/* The slot's state, for detectors: is this process waiting for a verdict? */
typedef enum NodeWaitState
{
	NODE_WAIT_NONE = 0,
	NODE_WAIT_VERDICT,			/* proposed, not decided */
	NODE_WAIT_TURN				/* decided, not committed here yet */
} NodeWaitState;

extern NodeWaitState node_wait_state(int procno);

/* ---------- outcomes of transactions (archived.c, outcome.c) ---------- */

/*
 * The log is kept until the tokens of its entries are in the archive: the keeper
 * (src/consistency/outcome_keeper.c) says how far it is, others what they want.
 * Lock-free. node_want_archived() wakes the keeper.
 */
extern char *node_outcome_dir(void);
extern char *node_outcome_fetched_dir(void);	/* a copy of another member's, to be adopted */
extern uint64 node_log_first_index(void);	/* 0: not known yet */
extern bool node_instance(uint8 id[RAFT_INSTANCE_LEN]);	/* whose log it is; false: none */
extern uint64 node_archived_index(void);
extern void node_set_archived_index(uint64 index);
extern void node_want_archived(uint64 index);
extern uint64 node_archive_wanted(void);
extern void node_keeper_ready(void);
extern bool node_apply_is_ready(void);

/*
 * What the Raft workers know of a token. absent_upto: the archive says that it is
 * in none of the entries up to there; looked: that archive was asked at all.
 */
typedef enum NodeOutcome
{
	NODE_OUTCOME_UNKNOWN = 1,
	NODE_OUTCOME_COMMITTED,
	NODE_OUTCOME_ABORTED,
	NODE_OUTCOME_IN_PROGRESS,
	NODE_OUTCOME_EVIDENCE		/* ask the archive first, or wait for more of it */
} NodeOutcome;

extern NodeOutcome node_ask_outcome(RaftToken token, bool looked, uint64 absent_upto);

/*
 * The archives of other members: COMMITTED; EVIDENCE with *absent_upto; UNKNOWN.
 * *absent_upto says what was not enough so far.
 */
extern NodeOutcome node_ask_archives(RaftToken token, uint64 *absent_upto);

/* ---------- the apply worker's side (turn.c) ---------- */

/*
 * Called by the apply worker once, when it knows the origin's progress; from
 * then on the Raft worker starts (or goes on) and publishes commits.
 * node_apply_not_ready() takes it back with a reason shown in quorum.status
 * (extension missing, stopped on an error ...).
 */
extern void node_apply_ready(uint64 applied_index);
extern void node_apply_not_ready(const char *reason);
extern void node_apply_detail(const char *reason);	/* NULL clears */

/*
 * The apply worker, now and then (it is what lets old log go): every entry up
 * to index is applied here and the WAL of that is flushed.
 */
extern void node_set_flushed_index(uint64 index);

/* The apply worker found this entry damaged in the log: have it looked through. */
extern void node_log_suspect(uint64 index);

/* True when entry applied_index + 1 is published and is the applier's. */
extern bool node_apply_next(uint64 *index);

/* Largest i >= first such that first..i are all published and the applier's. */
extern uint64 node_apply_run_end(uint64 first, uint64 limit);

/* Directory of the log (for RlogReader), valid once a member. */
extern char *node_log_dir(void);

/* Have the apply worker look at what there is to do. */
extern void node_wake_apply(void);

/* For the detector: the apply worker says what it is busy with, 0 = idle. */
extern void node_apply_busy(uint64 index);

/* ---------- images (image.c; the Raft worker's side: worker_image.c) ---------- */

/* How a member's SQL port is reached. */
typedef struct NodeSqlAddress
{
	char		name[NODE_NAME_LEN];	/* the member's */
	char		host[NODE_ADDRESS_LEN]; /* a name, or the directory of a socket */
	uint32		port;
} NodeSqlAddress;

typedef struct NodeImageSource
{
	NodeSqlAddress sql;
	uint32		id;
	bool		is_leader;
	uint64		applied_index;
} NodeImageSource;

/* An entry as an image needs it: with the newest configuration up to there. */
typedef struct NodeImagePoint
{
	uint64		index;
	uint64		term;
	uint64		conf_index;
	uint32		conf_len;
	char	   *conf;			/* raft_conf_encode() */
} NodeImagePoint;

/* Is there the mark on disk that says so? For who makes shared memory. */
extern bool node_image_is_marked(void);

/* Must this server's tables be replaced by an image, of which entry at least? */
extern bool node_image_wanted(uint64 *least);

/* Reachable members whose SQL port and progress are known, best first; palloc'ed. */
extern NodeImageSource *node_image_sources(int *count);

/*
 * A server that joins with tables of its own (rejoin.c): may they serve as the
 * image? The term of an entry, of whose log it goes on behind; 0: not known. The
 * point of such an image has no configuration.
 */
extern bool node_image_may_adopt(void);
extern uint64 node_image_term(uint64 index);
extern void node_image_adopted(void);

/* A server that is halted, and may join with the tables it has. */
extern bool node_has_former_tables(void);

/* Source: ERROR 40001 when that cannot be said of this entry (now). */
extern void node_image_position(uint64 index, NodeImagePoint *point);

/*
 * Receiver, the apply worker only. begun: an image of that entry is being
 * loaded; a learner's log may go on behind it at once, and the others keep
 * theirs. loaded: durable before it returns; to be called before the last
 * transaction, whose origin progress decides whether it is true. done: after it
 * was flushed; returns when the log agrees, and entries are applied again.
 */
extern void node_image_begun(const NodeImagePoint *point);
extern void node_image_loaded(const NodeImagePoint *point);
extern void node_image_done(const NodeImagePoint *point);
extern void node_image_over(void);	/* given up, or done: nothing is being loaded */

/* After a start: was an image loaded up to its last transaction? */
extern bool node_image_was_loaded(NodeImagePoint *point);

/*
 * Session, before and while this server joins. probe: who is at that address.
 * join: returns when this server is a learner. joined: it votes.
 */
extern void node_join_probe(const char *address, bool replace, NodeSqlAddress *sql);
extern void node_join(const char *address, bool replace);
extern bool node_joined(char *detail);	/* NODE_DETAIL_LEN: what it says meanwhile */

/* ---------- what the layer above hangs in ---------- */

typedef enum NodeCertified
{
	NODE_CERT_PASSED,			/* may be appended, now */
	NODE_CERT_REFUSED,
	NODE_CERT_UNFINISHED		/* ask for the same again next turn, before any other */
} NodeCertified;

typedef struct NodeOps
{
	/*
	 * All run inside the Raft worker; must not ereport(ERROR), must not block.
	 * begin_turn: once a turn, before all else; what follows in this turn does a
	 * bounded amount of work. True: something is left to do in the next one.
	 * certify: leader only, before an entry is appended.
	 * appended: every DATA entry, on every member, in order; buf, which payload
	 * is in, is NULL at start-up when the tail of the log is read again;
	 * truncated: entries >= from are gone; coverage_starts: the map knows
	 * nothing below first.
	 */
	bool		(*begin_turn) (void);
	NodeCertified (*certify) (RaftToken token, const RaftBuf *payload, NodeAnswer *conflict);
	void		(*appended) (uint64 index, RaftToken token, const void *payload, Size len, RaftBuf *buf);
	void		(*truncated) (uint64 from);
	void		(*coverage_starts) (uint64 first);
	/* the index under which a recent entry carries this token, or 0 */
	uint64		(*find_token) (RaftToken token);
	/* tokens of entries below this index may be forgotten already */
	uint64		(*token_floor) (void);

	/*
	 * Called every 2 ms while the apply worker has been busy with one entry
	 * for longer than that: abort whoever blocks it.
	 */
	void		(*apply_watch) (int apply_pid, uint64 index, int64 busy_us);
} NodeOps;

extern void node_set_ops(const NodeOps *ops);

/* bgworker entry points; the apply worker's lives in src/replication */
extern PGDLLEXPORT void node_raft_main(Datum arg);

#endif							/* PGQ_NODE_H */
