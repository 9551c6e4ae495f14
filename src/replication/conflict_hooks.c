/*-------------------------------------------------------------------------
 *
 * conflict_hooks.c
 *		What a session that was doomed (conflict.c) tells its client.
 *
 * Executing: the SIGINT raises 57014, which exception blocks do not catch with
 * WHEN OTHERS. Where the statement ends, outside of all of them, it becomes
 * 40001. Errors from elsewhere (parsing, planning, a FATAL) are renamed on
 * their way out, in emit_log_hook, which runs before the client is told. With
 * log_min_messages above the error's level that hook is not called, and the
 * client sees the original code.
 *
 * Idle in a transaction: everything is rolled back where the session waits for
 * its client, and an empty failed transaction is put in its place. So locks are
 * gone at once and the connection lives; the next statement is refused as in
 * any failed transaction, with 40001 as the code, and so is COMMIT, which would
 * otherwise answer ROLLBACK as if nothing had happened. That the session is
 * idle is known from its own status entry, hence needs track_activities;
 * without it conflict.c ends the session.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/proc.h"
#include "tcop/utility.h"
#include "utils/backend_status.h"
#include "utils/elog.h"
#include "utils/inval.h"

#include "compat.h"
#include "replication/apply_internal.h"
#include "replication/conflict.h"
#include "replication/stats.h"

static ExecutorRun_hook_type prev_executor_run = NULL;
static ProcessUtility_hook_type prev_process_utility = NULL;
static emit_log_hook_type prev_emit_log = NULL;

static int	nesting = 0;

/* rolled back while idle; the client has not been told yet */
static bool rolled_back_idle = false;
static uint64 rolled_back_for;
static char rolled_back_table[NAMEDATALEN];

int
conflict_statement_depth(void)
{
	return nesting;
}

/* ---------- executing ---------- */

/* In PG_CATCH of the outermost statement: our cancel leaves as 40001. */
static void
rename_cancel(void)
{
	if (nesting == 0 && geterrcode() == ERRCODE_QUERY_CANCELED && conflict_cancelled_us())
	{
		FlushErrorState();
		stats_add(STAT_DOOMED, 1);
		conflict_report_doomed();
	}
}

static void
executor_run(QueryDesc *query, ScanDirection direction, uint64 count COMPAT_EXECUTE_ONCE_PARAM)
{
	nesting++;
	PG_TRY();
	{
		if (prev_executor_run)
			prev_executor_run(query, direction, count COMPAT_EXECUTE_ONCE_ARG);
		else
			standard_ExecutorRun(query, direction, count COMPAT_EXECUTE_ONCE_ARG);
		nesting--;
	}
	PG_CATCH();
	{
		nesting--;
		rename_cancel();
		PG_RE_THROW();
	}
	PG_END_TRY();
}

/* ---------- told after the fact ---------- */

static bool
ends_transaction(Node *stmt)
{
	return IsA(stmt, TransactionStmt) &&
		(castNode(TransactionStmt, stmt)->kind == TRANS_STMT_COMMIT ||
		 castNode(TransactionStmt, stmt)->kind == TRANS_STMT_PREPARE);
}

static void
process_utility(PlannedStmt *pstmt, const char *query_string, bool read_only_tree,
				ProcessUtilityContext context, ParamListInfo params,
				QueryEnvironment *env, DestReceiver *dest, QueryCompletion *qc)
{
	volatile bool was_rolled_back = rolled_back_idle;
	volatile bool refuse = was_rolled_back && ends_transaction(pstmt->utilityStmt);

	/* the savepoint went with everything else; "does not exist" is no answer */
	if (was_rolled_back && IsA(pstmt->utilityStmt, TransactionStmt) &&
		castNode(TransactionStmt, pstmt->utilityStmt)->kind == TRANS_STMT_ROLLBACK_TO)
		conflict_raise(rolled_back_for, rolled_back_table);

	nesting++;
	PG_TRY();
	{
		if (prev_process_utility)
			prev_process_utility(pstmt, query_string, read_only_tree, context, params, env, dest, qc);
		else
			standard_ProcessUtility(pstmt, query_string, read_only_tree, context, params, env, dest, qc);
		nesting--;
	}
	PG_CATCH();
	{
		nesting--;
		rename_cancel();
		PG_RE_THROW();
	}
	PG_END_TRY();

	if (was_rolled_back && IsA(pstmt->utilityStmt, TransactionStmt))
		rolled_back_idle = false;
	/* the failed transaction is over now; the error ends what is left of it */
	if (refuse)
		conflict_raise(rolled_back_for, rolled_back_table);
}

/*
 * Anything may be going on here but catalog access or an error of our own. The
 * strings live as long as the message: constants, and one buffer.
 */
static void
emit_log(ErrorData *edata)
{
	static char detail[512];
	uint64		index = 0;
	const char *table = NULL;

	if (edata->sqlerrcode == ERRCODE_IN_FAILED_SQL_TRANSACTION && rolled_back_idle)
	{
		index = rolled_back_for;
		table = rolled_back_table;
	}
	else if ((edata->sqlerrcode == ERRCODE_QUERY_CANCELED ||
			  edata->sqlerrcode == ERRCODE_ADMIN_SHUTDOWN) &&
			 edata->elevel >= ERROR && conflict_cancelled_us())
	{
		index = conflict_winner();
		table = conflict_table();
	}
	if (table)
	{
		snprintf(detail, sizeof(detail), CONFLICT_DETAIL, table, index);
		edata->sqlerrcode = ERRCODE_T_R_SERIALIZATION_FAILURE;
		edata->message = MemoryContextStrdup(edata->assoc_context, CONFLICT_MESSAGE);
		edata->detail = MemoryContextStrdup(edata->assoc_context, detail);
		edata->hint = MemoryContextStrdup(edata->assoc_context, CONFLICT_HINT);
	}
	if (prev_emit_log)
		prev_emit_log(edata);
}

/* ---------- idle in a transaction ---------- */

static void
roll_back_idle(void)
{
	rolled_back_for = conflict_winner();
	strlcpy(rolled_back_table, conflict_table(), sizeof(rolled_back_table));
	rolled_back_idle = true;
	stats_add(STAT_DOOMED, 1);

	/* all of it, savepoints included, and a failed transaction instead */
	AbortOutOfAnyTransaction();
	StartTransactionCommand();
	BeginTransactionBlock();
	CommitTransactionCommand();
	StartTransactionCommand();
	AbortCurrentTransaction();
	pgstat_report_activity(STATE_IDLEINTRANSACTION_ABORTED, NULL);
}

static void
relcache_callback(Datum arg, Oid relid)
{
	if (relid != CONFLICT_INVAL_RELID || MyBackendType != B_BACKEND ||
		!conflict_is_doomed() || !IsTransactionBlock() ||
		IsAbortedTransactionBlockState() ||
		MyBEEntry == NULL || MyBEEntry->st_state != STATE_IDLEINTRANSACTION)
		return;
	roll_back_idle();
}

/* ---------- install ---------- */

void
conflict_install(void)
{
	prev_executor_run = ExecutorRun_hook;
	ExecutorRun_hook = executor_run;
	prev_process_utility = ProcessUtility_hook;
	ProcessUtility_hook = process_utility;
	prev_emit_log = emit_log_hook;
	emit_log_hook = emit_log;
	CacheRegisterRelcacheCallback(relcache_callback, (Datum) 0);
}
