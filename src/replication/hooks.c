/*-------------------------------------------------------------------------
 *
 * hooks.c
 *		Where the session side hangs into the executor and utility commands.
 *
 * A statement that touches nothing replicated pays one look at its plan: no
 * result relation and no row mark means nothing to do; otherwise one hash
 * look-up a relation.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/parallel.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "commands/extension.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/plannodes.h"
#include "tcop/utility.h"

#include "node/node.h"
#include "replication/capture.h"
#include "replication/ddl.h"
#include "replication/guests.h"
#include "replication/image_guard.h"
#include "replication/image_stale.h"
#include "replication/keys.h"
#include "replication/replication.h"
#include "replication/session.h"
#include "replication/tables.h"

static ExecutorStart_hook_type prev_executor_start = NULL;
static ProcessUtility_hook_type prev_process_utility = NULL;

/*
 * Is there anything for us in this process and database? In the database that
 * takes part, once the extension is there.
 */
static bool
concerns_us(void)
{
	return node_is_loaded() && !IsParallelWorker() && IsTransactionState() &&
		session_in_quorum_database() && OidIsValid(tables_catalog_oid());
}

static bool
is_our_session(void)
{
	return concerns_us() && !replication_is_applying();
}

static void
executor_start(QueryDesc *query, int eflags)
{
	bool		no_effect = query->plannedstmt->resultRelations != NIL &&
		repetition_guest.is_asked() && is_our_session() && repetition_guest.skips_query(query, eflags);

	if (!replication_is_applying())
		image_guard_check_query(query->plannedstmt, eflags);
	if (prev_executor_start)
		prev_executor_start(query, eflags);
	else
		standard_ExecutorStart(query, eflags);

	/* the snapshot may be another one now (consistency/read_hooks.c) */
	if (!replication_is_applying())
	{
		image_guard_check_query(query->plannedstmt, eflags);
		image_check_query(query->plannedstmt, query->snapshot);
	}
	if (query->plannedstmt->resultRelations == NIL && query->plannedstmt->rowMarks == NIL)
		return;
	if (!is_our_session())
		return;
	if (no_effect)
		repetition_guest.skip_changes(query);
	else if (query->plannedstmt->resultRelations != NIL)
		mixed_check_query(query, eflags);
	if (query->plannedstmt->rowMarks != NIL)
		rowlocks_watch(query);
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

/*
 * Statements that name their tables themselves. The lock is let go at once:
 * the statement takes its own, after its check of privileges.
 */
static void
check_target(const RangeVar *name)
{
	Oid			relid = RangeVarGetRelid(name, NoLock, true);

	if (!OidIsValid(relid))
		return;
	switch (keys_rel_kind_locking(relid))
	{
		case REL_ORDINARY:
			mixed_ordinary_change(relid);
			break;
		case REL_REPLICATED:
			if (!node_is_member())
				node_require_member();
			break;
		case REL_FREE:
			break;
	}
}

/* COPY ... FROM does not pass through ExecutorStart. */
static bool
copy_changes(const CopyStmt *stmt)
{
	return stmt->is_from && stmt->relation != NULL;
}

/* TRUNCATE of ordinary tables counts as a change of them. */
static void
check_truncate(const TruncateStmt *stmt)
{
	ListCell   *lc;

	foreach(lc, stmt->relations)
		check_target(lfirst_node(RangeVar, lc));
}

/* Of ddl_depth: schema statements of users, not what we do by ourselves. */
static int	users_statements = 0;

static void
run_schema_statement(PlannedStmt *pstmt, const char *query, bool read_only_tree,
					 ProcessUtilityContext context, ParamListInfo params,
					 QueryEnvironment *env, DestReceiver *dest, QueryCompletion *qc)
{
	DdlPlan		plan;
	bool		known;

	memset(&plan, 0, sizeof(plan));
	if (ddl_depth == 0)
		ddl_examine(pstmt, &plan);
	else if (ddl_depth == users_statements && !creating_extension &&
			 (context == PROCESS_UTILITY_QUERY || context == PROCESS_UTILITY_QUERY_NONATOMIC))
		ddl_check_nested(pstmt);	/* else part of a statement that is known, or ours */
	if (plan.kind == DDL_NONE)
	{
		call_next(pstmt, query, read_only_tree, context, params, env, dest, qc);
		return;
	}
	if (plan.kind != DDL_MAINTENANCE && plan.kind != DDL_CONCURRENTLY &&
		repetition_guest.skips_schema(plan.kind == DDL_TRAVELS))
		return;
	known = plan.kind != DDL_LOCAL;
	if (known)
	{
		ddl_depth++;
		users_statements++;
	}
	PG_TRY();
	{
		call_next(pstmt, query, read_only_tree, context, params, env, dest, qc);
	}
	PG_FINALLY();
	{
		if (known)
		{
			ddl_depth--;
			users_statements--;
		}
	}
	PG_END_TRY();
	ddl_done(pstmt, query, &plan);
}

static void
process_utility(PlannedStmt *pstmt, const char *query, bool read_only_tree,
				ProcessUtilityContext context, ParamListInfo params,
				QueryEnvironment *env, DestReceiver *dest, QueryCompletion *qc)
{
	Node	   *stmt = pstmt->utilityStmt;

	switch (nodeTag(stmt))
	{
			/* often used, and never of interest */
		case T_TransactionStmt:
		case T_VariableSetStmt:
		case T_VariableShowStmt:
		case T_FetchStmt:
		case T_ClosePortalStmt:
		case T_DeclareCursorStmt:
		case T_PrepareStmt:
		case T_ExecuteStmt:
		case T_DeallocateStmt:
		case T_ExplainStmt:
		case T_DoStmt:
		case T_CallStmt:
		case T_ListenStmt:
		case T_UnlistenStmt:
		case T_NotifyStmt:
		case T_CheckPointStmt:
		case T_DiscardStmt:
		case T_ConstraintsSetStmt:
			call_next(pstmt, query, read_only_tree, context, params, env, dest, qc);
			return;
		default:
			break;
	}
	if (!concerns_us())
	{
		call_next(pstmt, query, read_only_tree, context, params, env, dest, qc);
		return;
	}
	if (replication_is_applying())
	{
		ddl_depth++;
		PG_TRY();
		{
			call_next(pstmt, query, read_only_tree, context, params, env, dest, qc);
		}
		PG_FINALLY();
		{
			ddl_depth--;
		}
		PG_END_TRY();
		ddlguard_forget_dropped_tables();
		ddl_note_catalog(stmt);
		return;
	}

	switch (nodeTag(stmt))
	{
		case T_CopyStmt:
			if (((CopyStmt *) stmt)->relation != NULL)
				image_guard_check_copy(((CopyStmt *) stmt)->relation);
			if (copy_changes((CopyStmt *) stmt))
			{
				check_target(((CopyStmt *) stmt)->relation);
				if (repetition_guest.skips_target(((CopyStmt *) stmt)->relation))
				{
					call_next(repetition_guest.copy_nothing(pstmt), query, read_only_tree, context,
							  params, env, dest, qc);
					break;
				}
			}
			call_next(pstmt, query, read_only_tree, context, params, env, dest, qc);
			if (((CopyStmt *) stmt)->relation != NULL)
				image_check_snapshot();
			break;
		case T_LockStmt:
			rowlocks_close_gates((LockStmt *) stmt);
			call_next(pstmt, query, read_only_tree, context, params, env, dest, qc);
			rowlocks_lock_table((LockStmt *) stmt);
			image_check_snapshot();
			break;
		case T_TruncateStmt:
			{
				TruncateScope *scope;

				check_truncate((TruncateStmt *) stmt);
				if (repetition_guest.skips_truncate((TruncateStmt *) stmt))
					break;
				scope = truncate_begin((TruncateStmt *) stmt);
				call_next(pstmt, query, read_only_tree, context, params, env, dest, qc);
				truncate_end(scope);
				break;
			}
		default:
			if (context == PROCESS_UTILITY_SUBCOMMAND)
				call_next(pstmt, query, read_only_tree, context, params, env, dest, qc);
			else
				run_schema_statement(pstmt, query, read_only_tree, context, params, env, dest, qc);
			break;
	}
}

void
session_install_hooks(void)
{
	prev_executor_start = ExecutorStart_hook;
	ExecutorStart_hook = executor_start;
	prev_process_utility = ProcessUtility_hook;
	ProcessUtility_hook = process_utility;
	ddlguard_install();
	keys_install();
	commit_install();
}
