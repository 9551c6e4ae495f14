/*-------------------------------------------------------------------------
 *
 * commit.c
 *		The end of a transaction: proposal, verdict, turn, local commit.
 *
 * XACT_EVENT_PRE_COMMIT is the last moment at which an error aborts cleanly,
 * and runs after deferred constraints and triggers. What PostgreSQL checks
 * after it and could still fail (the serializable check) is run before the
 * proposal, since a decided entry stands whatever becomes of the session.
 *
 * Once decided, the session waits for its turn and commits with the entry's
 * index in its commit record (ordercommit.c). Should it fail after the
 * decision, the apply worker applies the entry here as everywhere.
 *
 * Parallel workers change nothing and have events of their own; the apply
 * worker captures nothing. Any other process that changed replicated tables
 * proposes, a background worker of another extension included.
 *
 * State is private to the process. Tokens: that of the current transaction is
 * drawn at the proposal or when quorum.transaction_token() asks for it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_index.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/predicate.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/resowner.h"
#include "utils/ruleutils.h"
#include "utils/timestamp.h"

#include "clock/clock_shmem.h"
#include "node/node.h"
#include "replication/capture.h"
#include "replication/ddl.h"
#include "replication/gate.h"
#include "replication/guests.h"
#include "replication/replication.h"
#include "replication/session.h"
#include "replication/stats.h"
#include "replication/writeset_build.h"

/* A refused transaction: for how long it waits for what it was refused for. */
#define RETRY_WAIT_US	INT64CONST(500000)

PG_FUNCTION_INFO_V1(quorum_transaction_token);

TokenGuest	token_guest;
WriteGuest	write_guest;
FenceGuest	fence_guest;
RepetitionGuest repetition_guest;

static RaftToken current_token;
static bool has_token = false;
static RaftToken last_token;
static bool has_last_token = false;
static HlcStamp decided_stamp;
static uint64 decided_index;
static bool decided = false;
static ErrorContextCallback in_doubt;
static uint64 in_the_way = 0;	/* the entry that this transaction was refused for */

static int64
now_us(void)
{
	return clock_monotonic_us();
}

RaftToken
commit_token(void)
{
	if (!has_token)
	{
		current_token = node_next_token();
		has_token = true;
	}
	return current_token;
}

/* The current transaction is a repetition of the one with this token. */
void
commit_stands_for(RaftToken token)
{
	last_token = token;
	has_last_token = true;
}

/* ---------- verdicts ---------- */

static char *
columns_of(Oid indexid)
{
	return pg_get_indexdef_columns(indexid, false);
}

/* "Key (id) of table "t" ...", or NULL when it is not known. */
static char *
name_conflict(const NodeAnswer *answer)
{
	Oid			relid;
	Oid			indexid;
	KeyKind		kind;
	char	   *what;
	char	   *name;
	StringInfoData text;

	if (answer->conflict_key == 0)
		return pstrdup("What the transaction had read is older than what the leader remembers of recent changes.");
	if (!writeset_find_key(answer->conflict_key, &relid, &indexid, &kind))
		return answer->message[0] ? pstrdup(answer->message) : NULL;

	name = OidIsValid(relid) ? get_rel_name(relid) : NULL;
	switch (kind)
	{
		case KEY_TABLE:
			what = psprintf("Table \"%s\"", name ? name : "?");
			break;
		case KEY_CATALOG:
			what = pstrdup("The set of replicated tables");
			break;
		case KEY_FENCE:
			what = pstrdup("A lock");
			break;
		default:
			what = psprintf("%s (%s) of table \"%s\"",
							kind == KEY_UNIQUE ? "A value of" : "A row with key",
							columns_of(indexid), name ? name : "?");
			break;
	}
	initStringInfo(&text);
	appendStringInfo(&text, "%s was used by log entry " UINT64_FORMAT, what, answer->conflict_index);
	if (answer->conflict_node != 0)
		appendStringInfo(&text, " of node %u", answer->conflict_node);
	appendStringInfoString(&text, ", which is not in what this transaction has seen.");
	return text.data;
}

/* Was it a fencing token that stood in the way? That is no matter of retrying. */
static void
check_fence_refused(const NodeAnswer *answer)
{
	Oid			number;
	Oid			none;
	KeyKind		kind;

	if (answer->conflict_key != 0 &&
		writeset_find_key(answer->conflict_key, &number, &none, &kind) && kind == KEY_FENCE)
		fence_guest.report_refused((uint32) number, answer->conflict_index);
}

static void
report_refused(const NodeAnswer *answer)
{
	char	   *detail = name_conflict(answer);

	check_fence_refused(answer);	/* counts as no conflict */
	stats_add(STAT_REFUSED, 1);
	if (answer->conflict_key == 0)
		stats_add(STAT_REFUSED_TOO_OLD, 1);
	else
		in_the_way = answer->conflict_index;
	ereport(ERROR,
			(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
			 errmsg("transaction conflicts with one that was ordered before it in the cluster"),
			 detail ? errdetail("%s", detail) : 0,
			 errhint("The transaction might succeed if retried.")));
}

static void
report_unknown(const char *detail)
{
	stats_add(STAT_UNKNOWN, 1);
	ereport(ERROR,
			(errcode(ERRCODE_T_R_STATEMENT_COMPLETION_UNKNOWN),
			 errmsg("outcome of the transaction is unknown"),
			 detail && detail[0] ? errdetail("%s", detail) : 0,
			 errhint("Ask for it later with SELECT quorum.outcome('%s').",
					 node_token_out(current_token))));
}

static void
report_verdict(const NodeAnswer *answer)
{
	switch (answer->verdict)
	{
		case NODE_COMMITTED:
			break;
		case NODE_REFUSED:
			report_refused(answer);
			break;
		case NODE_UNAVAILABLE:
			stats_add(STAT_UNAVAILABLE, 1);
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("the cluster has no quorum"),
					 errdetail("%s", answer->message[0] ? answer->message :
							   "No leader took the transaction in time."),
					 errhint("Nothing was changed. Retry when quorum.status shows has_quorum.")));
			break;
		case NODE_WITHDRAWN:
			stats_add(STAT_WITHDRAWN, 1);
			QueryCancelPending = false;
			ereport(ERROR,
					(errcode(ERRCODE_QUERY_CANCELED),
					 errmsg("canceling COMMIT due to user request"),
					 errdetail("The transaction had not been handed to the cluster yet; nothing was changed.")));
			break;
		case NODE_UNKNOWN:
			report_unknown(answer->message);
			break;
		case NODE_TOO_LARGE:
			ereport(ERROR,
					(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
					 errmsg("the write set of the transaction is too large for one log entry"),
					 answer->message[0] ? errdetail("%s", answer->message) : 0,
					 errhint("Change fewer rows in one transaction.")));
			break;
		case NODE_DOOMED:
			stats_add(STAT_DOOMED, 1);
			conflict_report_doomed();
			break;
		case NODE_NOT_MEMBER:
			node_require_member();
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("this server does not take part in the cluster at the moment"),
					 answer->message[0] ? errdetail("%s", answer->message) : 0,
					 errhint("See column detail of quorum.status.")));
			break;
	}
}

/* ---------- pre-commit ---------- */

static const char decided_detail[] =
"The transaction is committed in the log, and applied here by the apply worker.";

static void
propose(NodeAnswer *answer)
{
	NodePart	parts[WRITESET_PARTS];
	int			nparts = writeset_seal(parts);
	RaftToken	token = commit_token();
	int64		begun = now_us();
	Size		bytes = 0;

	for (int i = 0; i < nparts; i++)
		bytes += parts[i].len;
	last_token = token;
	has_last_token = true;
	(void) node_propose(token, parts, nparts, conflict_is_doomed, answer);
	stats_add(STAT_PROPOSED_BYTES, bytes);
	stats_add(STAT_VERDICT_WAIT_US, now_us() - begun);
}

/*
 * A message that is no error looks at interrupts, and the cancel that comes
 * with being doomed would take our own error's place: hence the hold, which
 * the error ends.
 */
static void
report_turn_lost(uint64 index)
{
	uint64		least;

	HOLD_INTERRUPTS();
	if (!ProcDiePending)
		QueryCancelPending = false;
	/* by the keys this should not be (design.md section 6), but for an image */
	if (!ProcDiePending && !node_image_wanted(&least))
	{
		stats_add(STAT_DEFECTS, 1);
		ereport(LOG,
				(errmsg("session was aborted in favour of an earlier entry although its own entry " UINT64_FORMAT " is decided",
						index),
				 errdetail("The apply worker applies it. Please report this: certification should have refused one of the two.")));
	}
	report_unknown(decided_detail);
}

static void
wait_for_turn(uint64 index)
{
	int64		begun;
	bool		mine;

	if (node_applied_index() == index - 1)
		return;
	begun = now_us();
	mine = node_turn_wait(index, conflict_is_doomed);
	stats_add(STAT_TURN_WAITS, 1);
	stats_add(STAT_TURN_WAIT_US, now_us() - begun);
	if (!mine)
		report_turn_lost(index);
}

/*
 * While a decided entry is on its way into the commit record: whatever goes
 * wrong, the client must not take it for "nothing happened". Runs inside
 * errfinish(), for all messages.
 */
static void
error_in_doubt(void *arg)
{
	int			code = geterrcode();

	if (ERRCODE_TO_CATEGORY(code) == ERRCODE_SUCCESSFUL_COMPLETION ||
		ERRCODE_TO_CATEGORY(code) == ERRCODE_WARNING ||
		code == ERRCODE_T_R_STATEMENT_COMPLETION_UNKNOWN)
		return;
	errcode(ERRCODE_T_R_STATEMENT_COMPLETION_UNKNOWN);
	errdetail("%s", decided_detail);
	errhint("Ask for it later with SELECT quorum.outcome('%s').",
			node_token_out(current_token));
}

/*
 * The entry stands: wait for the turn, then arm the local commit with it. The
 * callback stays until XACT_EVENT_COMMIT; after an error the stack is reset by
 * whoever catches it.
 */
static void
commit_decided(const NodeAnswer *answer)
{
	int			synchronous;

	in_doubt.callback = error_in_doubt;
	in_doubt.arg = NULL;
	in_doubt.previous = error_context_stack;
	error_context_stack = &in_doubt;

	token_guest.decided(answer->index, answer->stamp);
	wait_for_turn(answer->index);
	decided = true;
	decided_index = answer->index;
	decided_stamp.physical_us = answer->stamp.physical_us;
	decided_stamp.logical = answer->stamp.logical;
	decided_stamp.node = answer->stamp.node;
	synchronous = synchronous_commit;
	ordercommit_arm(answer->index, (TimestampTz) answer->stamp.physical_us);
	/* what a fence alone guards is in this server's WAL and nowhere else */
	if (!writeset_has_records())
		synchronous_commit = synchronous;
}

static void
pre_commit(void)
{
	NodeAnswer	answer;

	if (!writeset_has_records() && !fence_guest.used())
	{
		writeset_close_file();
		return;
	}
	PreCommit_CheckForSerializationFailure();
	if (conflict_is_doomed())
	{
		stats_add(STAT_DOOMED, 1);
		conflict_report_doomed();
	}

	token_guest.before_propose();

	/*
	 * From the proposal on a cancel is dealt with by node_propose() alone: it
	 * knows whether "cancelled" is the truth. Errors end the hold.
	 */
	HOLD_CANCEL_INTERRUPTS();
	propose(&answer);
	report_verdict(&answer);
	commit_decided(&answer);
	RESUME_CANCEL_INTERRUPTS();
}

static void
pre_prepare(void)
{
	if (writeset_has_records() || writeset_has_keys())
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot PREPARE a transaction that has changed or locked rows of replicated tables"),
				 errdetail("A prepared transaction could not give way to transactions that the cluster ordered before it."),
				 errhint("Use COMMIT: the cluster itself makes the transaction atomic on all of its servers.")));
}

static void
forget(void)
{
	writeset_reset();
	mixed_reset();
	truncate_forget();
	ddlguard_forget();
	repetition_guest.forget();
	has_token = false;
	decided = false;
}

static void
xact_callback(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
			if (!replication_is_applying())
				pre_commit();
			break;
		case XACT_EVENT_PRE_PREPARE:
			pre_prepare();
			break;
		case XACT_EVENT_COMMIT:
			if (decided)
			{
				if (error_context_stack == &in_doubt)
					error_context_stack = in_doubt.previous;
				clock_set_transaction_stamp(decided_stamp);
				write_guest.committed(decided_index);
				stats_add(STAT_COMMITS, 1);
			}
			gate_transaction_end(decided);
			repetition_guest.committed(decided);
			forget();
			break;
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			gate_transaction_end(false);
			forget();
			break;
		default:
			break;
	}
}

static void
subxact_callback(SubXactEvent event, SubTransactionId mine, SubTransactionId parent, void *arg)
{
	int			level = GetCurrentTransactionNestLevel();

	switch (event)
	{
		case SUBXACT_EVENT_COMMIT_SUB:
			writeset_subcommit(level);
			mixed_subcommit(level);
			repetition_guest.subcommit(level);
			break;
		case SUBXACT_EVENT_ABORT_SUB:
			writeset_subabort(level);
			mixed_subabort(level);
			repetition_guest.subabort(level);
			truncate_forget();
			ddlguard_forget();
			break;
		default:
			break;
	}
}

/*
 * A client that is refused tries again at once, and is refused for the same reason
 * while this member has not applied what stood in the way. So it gets its answer a
 * moment later, when nothing is locked any more that the entry may need. Called
 * for each owner of the tree, with interrupts held.
 */
static void
resources_released(ResourceReleasePhase phase, bool is_commit, bool is_top_level, void *arg)
{
	uint64		index = in_the_way;

	if (index == 0 || phase != RESOURCE_RELEASE_AFTER_LOCKS || !is_top_level)
		return;
	in_the_way = 0;
	if (!is_commit && !ProcDiePending && !proc_exit_inprogress)
		(void) node_wait_applied(index, node_monotonic_us() + RETRY_WAIT_US);
}

void
commit_install(void)
{
	RegisterXactCallback(xact_callback, NULL);
	RegisterResourceReleaseCallback(resources_released, NULL);
	RegisterSubXactCallback(subxact_callback, NULL);
}

/*
 * transaction_token() - token of the current transaction once it has changed
 * a replicated table, else of this session's last one; NULL before the first.
 * Of a repetition (quorum.idempotency_key): the token of the first one.
 */
Datum
quorum_transaction_token(PG_FUNCTION_ARGS)
{
	node_require_loaded();
	if (writeset_has_records())
		PG_RETURN_TEXT_P(cstring_to_text(node_token_out(commit_token())));
	if (has_last_token)
		PG_RETURN_TEXT_P(cstring_to_text(node_token_out(last_token)));
	PG_RETURN_NULL();
}
