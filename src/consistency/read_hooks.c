/*-------------------------------------------------------------------------
 *
 * read_hooks.c
 *		Where statements meet quorum.read_consistency.
 *
 * Every query, at any depth, however it got here, passes ExecutorStart with its
 * snapshot taken and nothing read yet: there it waits for its level, and gets a
 * younger snapshot if its own is too old (read_snapshot.c). COPY of a table does
 * not pass there and is met as a utility command.
 *
 * Under REPEATABLE READ and SERIALIZABLE the snapshot is the transaction's. It is
 * waited for before it is taken: when the transaction begins, and again when a
 * setting is changed before the first query. All queries then share what was
 * reached. A query that finds a snapshot that was taken too early fails, 40001.
 * The same holds for stable functions, which use the snapshot of the query that
 * calls them: what that query reached is remembered with it.
 *
 * Nobody waits in the planner's own executions for long: the snapshot there is
 * replaced as elsewhere. Checks of foreign keys are part of their statement.
 *
 * With eventual consistency all this is one comparison a query.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "commands/defrem.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "storage/proc.h"
#include "tcop/utility.h"
#include "utils/lsyscache.h"
#include "tcop/pquery.h"
#include "utils/portal.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "consistency/read.h"
#include "consistency/token.h"
#include "node/node.h"
#include "replication/keys_internal.h"
#include "replication/replication.h"

#define KNOWN_MAX	8

/* What queries that may be running have reached, by their snapshot. */
typedef struct Known
{
	Snapshot	snapshot;
	ReadReached reached;
} Known;

static Known known[KNOWN_MAX];
static int	nknown = 0;			/* entries in use */
static int	next_known = 0;

/* The transaction's snapshot: what was reached before it was taken. */
static ReadReached transaction_reached;
static uint32 transaction_lxid = 0; /* of which transaction that is; 0 none */

static ExecutorStart_hook_type prev_executor_start = NULL;
static ProcessUtility_hook_type prev_process_utility = NULL;

/* ---------- what was reached ---------- */

/*
 * A snapshot's address says which it is only while it lives. So a query that
 * comes with an address that is known is the newer one, whatever its level.
 */
static void
forget(Snapshot snapshot)
{
	for (int i = 0; i < nknown; i++)
		if (known[i].snapshot == snapshot)
			known[i].snapshot = NULL;
}

static void
forget_all(void)
{
	nknown = next_known = 0;
}

static void
remember(Snapshot snapshot, const ReadReached *reached)
{
	forget(snapshot);
	known[next_known].snapshot = snapshot;
	known[next_known].reached = *reached;
	next_known = (next_known + 1) % KNOWN_MAX;
	nknown = Max(nknown, next_known == 0 ? KNOWN_MAX : next_known);
}

static const ReadReached *
find_known(Snapshot snapshot)
{
	for (int i = 0; i < nknown; i++)
		if (known[i].snapshot == snapshot)
			return &known[i].reached;
	return NULL;
}

/* ---------- queries ---------- */

/* What the transaction's snapshot shows goes into the token, once. */
static void
note_transaction_seen(Snapshot snapshot)
{
	static uint32 noted_lxid = 0;

	if (noted_lxid == compat_proc_lxid(MyProc))
		return;
	token_saw(replication_snapshot_index(snapshot));
	noted_lxid = compat_proc_lxid(MyProc);
}

/* The transaction's snapshot is there, or this query has just had it taken. */
static void
serve_in_transaction(Snapshot snapshot, ReadLevel level)
{
	ReadReached reached;

	if (transaction_lxid == compat_proc_lxid(MyProc) &&
		read_still_good(level, &transaction_reached, snapshot))
	{
		reached = transaction_reached;
		reached.level = level;
		reached.waited_us = 0;
	}
	else
	{
		read_reach(level, &reached);
		if (!read_snapshot_holds(snapshot, reached.index))
			read_report_too_old(level, reached.index);
		transaction_reached = reached;
		transaction_lxid = compat_proc_lxid(MyProc);
	}
	read_note(&reached);
	if (level == READ_CAUSAL)
		note_transaction_seen(snapshot);
}

/* A query that uses another's snapshot, or one that has to stay. */
static void
serve_fixed(QueryDesc *query, ReadLevel level)
{
	const ReadReached *before = find_known(query->snapshot);
	ReadReached reached;

	if (before != NULL && read_still_good(level, before, query->snapshot))
		return;
	read_reach(level, &reached);
	if (!read_snapshot_holds(query->snapshot, reached.index))
		read_report_too_old(level, reached.index);
	remember(query->snapshot, &reached);
	read_note(&reached);
}

static void
serve(QueryDesc *query, ReadLevel level)
{
	ReadReached reached;

	if (IsolationUsesXactSnapshot())
	{
		serve_in_transaction(query->snapshot, level);
		return;
	}
	if (!read_may_replace(query))
	{
		serve_fixed(query, level);
		return;
	}
	read_reach(level, &reached);
	reached.index = Max(reached.index, node_base_index());
	if (!read_snapshot_holds(query->snapshot, reached.index))
		read_replace_snapshot(query);
	remember(query->snapshot, &reached);
	read_note(&reached);
	if (level == READ_CAUSAL)
		token_saw(node_base_index());
}

static void
executor_start(QueryDesc *query, int eflags)
{
	/* nobody else refers to it: it is not one that a running query has */
	if (unlikely(nknown > 0) && query->snapshot != InvalidSnapshot &&
		query->snapshot->regd_count <= 1)
		forget(query->snapshot);
	if (unlikely(quorum_read_consistency != READ_EVENTUAL) &&
		(eflags & EXEC_FLAG_EXPLAIN_ONLY) == 0 &&
		read_concerns_us() && !InNoForceRLSOperation() &&
		query->snapshot != InvalidSnapshot && read_has_to_wait(query->plannedstmt))
		serve(query, (ReadLevel) quorum_read_consistency);

	if (prev_executor_start)
		prev_executor_start(query, eflags);
	else
		standard_ExecutorStart(query, eflags);
}

/* ---------- utility commands ---------- */

/*
 * The transaction's snapshot is still to be taken: now is the time to wait. Also
 * where another level or token was set since.
 */
static void
prepare_transaction_snapshot(void)
{
	ReadReached reached;
	ReadLevel	level = (ReadLevel) quorum_read_consistency;

	if (level == READ_EVENTUAL || !IsTransactionBlock() ||
		IsAbortedTransactionBlockState() || !IsolationUsesXactSnapshot() ||
		HaveRegisteredOrActiveSnapshot() || !read_concerns_us())
		return;
	if (transaction_lxid == compat_proc_lxid(MyProc) &&
		(level == READ_STRONG || level == READ_BOUNDED) &&
		read_still_good(level, &transaction_reached, InvalidSnapshot))
		return;
	read_reach(level, &reached);
	reached.index = Max(reached.index, node_base_index());
	transaction_reached = reached;
	transaction_lxid = compat_proc_lxid(MyProc);
}

static bool
begins_or_sets(const Node *stmt)
{
	return IsA(stmt, VariableSetStmt) ||
		((const TransactionStmt *) stmt)->kind == TRANS_STMT_BEGIN ||
		((const TransactionStmt *) stmt)->kind == TRANS_STMT_START;
}

static bool
is_monitoring(const RangeVar *name)
{
	Oid			relid = RangeVarGetRelid(name, NoLock, true);

	return OidIsValid(relid) && tables_is_own_namespace(get_rel_namespace(relid));
}

/* COPY table TO: scans with the active snapshot, without the executor. */
static void
serve_copy(const CopyStmt *stmt)
{
	ReadLevel	level = (ReadLevel) quorum_read_consistency;
	ReadReached reached;

	if (stmt->is_from || stmt->relation == NULL || !read_concerns_us() ||
		!ActiveSnapshotSet() || is_monitoring(stmt->relation))
		return;
	if (IsolationUsesXactSnapshot())
	{
		serve_in_transaction(GetActiveSnapshot(), level);
		return;
	}
	read_reach(level, &reached);
	reached.index = Max(reached.index, node_base_index());
	if (!read_snapshot_holds(GetActiveSnapshot(), reached.index) &&
		!read_replace_utility_snapshot())
		read_report_too_old(level, reached.index);
	read_note(&reached);
	if (level == READ_CAUSAL)
		token_saw(node_base_index());
}

static void
call_next(PlannedStmt *pstmt, const char *query, bool read_only_tree,
		  ProcessUtilityContext context, ParamListInfo params,
		  QueryEnvironment *env, DestReceiver *dest, QueryCompletion *qc)
{
	if (prev_process_utility)
		prev_process_utility(pstmt, query, read_only_tree, context, params, env, dest, qc);
	else
		standard_ProcessUtility(pstmt, query, read_only_tree, context, params, env, dest, qc);
}

/* Commands that open another portal, with their own's snapshot. */
static void
run_in_portal(PlannedStmt *pstmt, const char *query, bool read_only_tree,
			  ProcessUtilityContext context, ParamListInfo params,
			  QueryEnvironment *env, DestReceiver *dest, QueryCompletion *qc)
{
	Portal		saved = read_utility_portal;

	read_utility_portal = ActivePortal;
	PG_TRY();
	{
		call_next(pstmt, query, read_only_tree, context, params, env, dest, qc);
	}
	PG_FINALLY();
	{
		read_utility_portal = saved;
	}
	PG_END_TRY();
}

static bool
is_analyze(const ExplainStmt *stmt)
{
	ListCell   *lc;
	bool		analyze = false;

	foreach(lc, stmt->options)
	{
		DefElem    *option = lfirst_node(DefElem, lc);

		if (strcmp(option->defname, "analyze") == 0)
			analyze = defGetBoolean(option);
	}
	return analyze;
}

static void
process_utility(PlannedStmt *pstmt, const char *query, bool read_only_tree,
				ProcessUtilityContext context, ParamListInfo params,
				QueryEnvironment *env, DestReceiver *dest, QueryCompletion *qc)
{
	Node	   *stmt = pstmt->utilityStmt;

	if (context == PROCESS_UTILITY_TOPLEVEL && nknown > 0)
		forget_all();			/* no query is running */
	switch (nodeTag(stmt))
	{
		case T_TransactionStmt:
		case T_VariableSetStmt:
			call_next(pstmt, query, read_only_tree, context, params, env, dest, qc);
			if (context == PROCESS_UTILITY_TOPLEVEL && begins_or_sets(stmt))
				prepare_transaction_snapshot();
			return;
		case T_CopyStmt:
			if (quorum_read_consistency != READ_EVENTUAL)
				serve_copy((CopyStmt *) stmt);
			break;
		case T_ExecuteStmt:
		case T_DeclareCursorStmt:
			if (quorum_read_consistency != READ_EVENTUAL)
			{
				run_in_portal(pstmt, query, read_only_tree, context, params, env, dest, qc);
				return;
			}
			break;
		case T_ExplainStmt:
			if (is_analyze((ExplainStmt *) stmt) && read_concerns_us() && node_is_member())
				dest = read_explain_begin(dest, ((ExplainStmt *) stmt)->options);
			break;
		default:
			break;
	}
	call_next(pstmt, query, read_only_tree, context, params, env, dest, qc);
}

void
read_install(void)
{
	prev_executor_start = ExecutorStart_hook;
	ExecutorStart_hook = executor_start;
	prev_process_utility = ProcessUtility_hook;
	ProcessUtility_hook = process_utility;
	token_install();
}
