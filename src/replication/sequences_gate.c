/*-------------------------------------------------------------------------
 *
 * sequences_gate.c
 *		When owned sequences are put right (sequences.c says why and how).
 *
 *	- after a start: the gate. A session waits until the barrier is applied here,
 *	  then puts its table's sequences right by itself: it may hold that table
 *	  locked, so nobody else could be sure to. The apply worker does the same for
 *	  all tables that it gets hold of, and opens the gate for good when it had
 *	  all of them;
 *	  A nextval() by itself passes the gate like a change of its table
 *	  (sequences_claim.c);
 *	- after setval(): at the end of the statement that called it; on the others
 *	  where the log sets it (sequences_setval.c);
 *	- after ALTER SEQUENCE, ALTER TABLE ... ALTER COLUMN ... RESTART and the
 *	  like: at the end of the statement. INCREMENT and CYCLE are refused;
 *	- after ALTER TABLE of a replicated table, which may have given it a serial or
 *	  identity column: at the end of the statement, on every member.
 *
 * While the gate is open all of this costs one look at shared memory for each
 * statement.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/namespace.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_proc.h"
#include "commands/defrem.h"
#include "executor/executor.h"
#include "nodes/nodeFuncs.h"
#include "nodes/plannodes.h"
#include "miscadmin.h"
#include "catalog/pg_class.h"
#include "parser/parsetree.h"
#include "storage/lmgr.h"
#include "storage/proc.h"
#include "tcop/utility.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/wait_event.h"

#include "compat.h"
#include "node/node.h"
#include "replication/conflict.h"
#include "replication/apply_internal.h"
#include "replication/sequences.h"
#include "replication/sequences_internal.h"
#include "replication/session.h"
#include "replication/tables.h"
#include "replication/writeset.h"

static ExecutorStart_hook_type prev_executor_start = NULL;
static ExecutorRun_hook_type prev_executor_run = NULL;
static ProcessUtility_hook_type prev_process_utility = NULL;
static object_access_hook_type prev_object_access = NULL;

static bool setval_called = false;
static bool nextval_called = false; /* where the planner was not asked */

/* ---------- the gate: sessions ---------- */

static inline bool
gate_is_open(void)
{
	return apply_shared == NULL || pg_atomic_read_u32(&apply_shared->gate_open) != 0;
}

/* An entry without content; where it stands is the barrier. */
static void
propose_barrier(void)
{
	uint8		payload[WS_HEADER_SIZE] = {WS_VERSION, WS_KIND_TRANSACTION};
	NodePart	part = {payload, sizeof(payload)};
	NodeAnswer	answer;
	uint64		none = 0;

	memset(&answer, 0, sizeof(answer));
	(void) node_propose(node_next_token(), &part, 1, conflict_is_doomed, &answer);
	if (answer.verdict == NODE_COMMITTED)
	{
		(void) pg_atomic_compare_exchange_u64(&apply_shared->barrier_index, &none, answer.index);
		node_turn_abandon();
		return;
	}
	node_turn_abandon();
	CHECK_FOR_INTERRUPTS();
	if (answer.verdict == NODE_DOOMED)
		conflict_report_doomed();
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("the cluster has no quorum"),
			 errdetail("After a start this server has to hear from it before it takes rows for replicated tables."),
			 errhint("Nothing was changed. Retry when quorum.status shows has_quorum.")));
}

static bool
table_is_done(uint32 table_id)
{
	return table_id < APPLY_GATE_TABLES &&
		(pg_atomic_read_u32(&apply_shared->gate_done[table_id / 32]) & (1u << table_id % 32)) != 0;
}

static void
set_table_done(uint32 table_id)
{
	if (table_id < APPLY_GATE_TABLES)
		(void) pg_atomic_fetch_or_u32(&apply_shared->gate_done[table_id / 32], 1u << table_id % 32);
}

static void
wait_for_barrier(void)
{
	if (pg_atomic_read_u64(&apply_shared->barrier_index) == 0)
		propose_barrier();
	ConditionVariablePrepareToSleep(&apply_shared->gate_cv);
	while (pg_atomic_read_u32(&apply_shared->barrier_passed) == 0)
		ConditionVariableSleep(&apply_shared->gate_cv, PG_WAIT_EXTENSION);
	ConditionVariableCancelSleep();
}

static void
check_relation(Oid relid)
{
	uint32		table_id = OidIsValid(relid) ? tables_id_of_oid(relid) : 0;
	uint64		image;
	Oid			root;

	/* a server that joins with tables of its own has another member's values yet */
	if (table_id != 0 && !replication_is_applying() && node_image_wanted(&image))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("this member is not up to date yet"),
				 errhint("See column detail of quorum.status.")));
	if (table_id == 0 || table_is_done(table_id) || gate_is_open() || replication_is_applying())
		return;
	node_require_member();
	wait_for_barrier();
	/* one does it; those who waited find it done */
	root = tables_oid_of(table_id);
	LockDatabaseObject(RelationRelationId, root, 0, ExclusiveLock);
	if (!table_is_done(table_id))
	{
		sequences_fix(root);
		set_table_done(table_id);
	}
	UnlockDatabaseObject(RelationRelationId, root, 0, ExclusiveLock);
}

/* See sequences_internal.h. */
void
sequences_pass_gate(Oid table)
{
	if (!gate_is_open())
		check_relation(table);
}

static void
check_plan(PlannedStmt *stmt)
{
	ListCell   *lc;

	foreach(lc, stmt->resultRelations)
		check_relation(rt_fetch(lfirst_int(lc), stmt->rtable)->relid);
}

/* ---------- the gate: apply worker ---------- */

bool
sequences_gate_due(void)
{
	uint64		barrier;

	if (gate_is_open())
		return false;
	barrier = pg_atomic_read_u64(&apply_shared->barrier_index);
	if (barrier == 0 || node_applied_index() < barrier)
		return false;
	if (pg_atomic_exchange_u32(&apply_shared->barrier_passed, 1) == 0)
		ConditionVariableBroadcast(&apply_shared->gate_cv);
	return true;
}

/* False: some table is locked, once more later. */
bool
sequences_open_gate(void)
{
	bool		all;

	StartTransactionCommand();
	all = sequences_fix_all(true, false, table_is_done, set_table_done);
	CommitTransactionCommand();
	if (all)
		pg_atomic_write_u32(&apply_shared->gate_open, 1);
	return all;
}

/* ---------- setval() ---------- */

static void
object_access(ObjectAccessType access, Oid class_id, Oid object_id, int sub_id, void *arg)
{
	if (prev_object_access)
		prev_object_access(access, class_id, object_id, sub_id, arg);
	if (access == OAT_FUNCTION_EXECUTE && object_id == F_NEXTVAL)
		nextval_called = true;
	if (access == OAT_FUNCTION_EXECUTE &&
		(object_id == F_SETVAL_REGCLASS_INT8 || object_id == F_SETVAL_REGCLASS_INT8_BOOL) &&
		node_is_member() && !replication_is_applying() && session_in_quorum_database())
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("setval() cannot be called here"),
				 errdetail("Sequences of replicated tables are set on all members, which does not follow from a call in a place like this one."),
				 errhint("Call quorum.setval(), which takes the same arguments, or call setval() in a query.")));
}

void
sequences_note_setval(void)
{
	setval_called = true;
}

/* At the end of the outermost statement, within what conflict_hooks.c counts. */
static void
after_statement(void)
{
	bool		set = setval_called;
	bool		drawn = nextval_called;

	if ((!set && !drawn) || conflict_statement_depth() > 1)
		return;
	setval_called = nextval_called = false;
	if (replication_is_applying() || !node_is_member() || node_slot() < 0 ||
		!IsTransactionState() || !session_in_quorum_database())
		return;
	if (set)
		(void) sequences_fix_all(false, true, NULL, NULL);
	if (drawn)
		sequences_cover_all();
}

/* ---------- ALTER SEQUENCE ---------- */

static void
check_alter(const AlterSeqStmt *stmt)
{
	ListCell   *lc;

	foreach(lc, stmt->options)
	{
		DefElem    *option = lfirst_node(DefElem, lc);

		if (strcmp(option->defname, "increment") == 0 ||
			(strcmp(option->defname, "cycle") == 0 && option->arg && defGetBoolean(option)))
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("cannot change INCREMENT or CYCLE of sequence \"%s\"", stmt->sequence->relname),
					 errdetail("It belongs to a replicated table: each member hands out every %dth value.",
							   quorum_sequence_stride),
					 errhint("Take the table out of the cluster first, with quorum.remove_table.")));
	}
}

static Oid
altered_sequence(Node *stmt)
{
	Oid			seq;

	if (!IsA(stmt, AlterSeqStmt) || !node_is_member() || !session_in_quorum_database())
		return InvalidOid;
	seq = RangeVarGetRelid(castNode(AlterSeqStmt, stmt)->sequence, NoLock, true);
	return sequences_is_ours(seq) ? seq : InvalidOid;
}

/* The replicated table that an ALTER TABLE has changed. */
static Oid
altered_table(Node *stmt, ProcessUtilityContext context)
{
	Oid			relid;

	if (!IsA(stmt, AlterTableStmt) || context == PROCESS_UTILITY_SUBCOMMAND ||
		!node_is_member() || node_slot() < 0 || !session_in_quorum_database())
		return InvalidOid;
	relid = RangeVarGetRelid(castNode(AlterTableStmt, stmt)->relation, NoLock, true);
	return OidIsValid(relid) && tables_id_of_oid(relid) != 0 ? relid : InvalidOid;
}

/* ---------- hooks ---------- */

static void
executor_start(QueryDesc *query, int eflags)
{
	if (!gate_is_open() && !(eflags & EXEC_FLAG_EXPLAIN_ONLY) && node_is_member() &&
		query->plannedstmt->commandType != CMD_UTILITY && session_in_quorum_database())
		check_plan(query->plannedstmt);
	if (prev_executor_start)
		prev_executor_start(query, eflags);
	else
		standard_ExecutorStart(query, eflags);
}

static void
executor_run(QueryDesc *query, ScanDirection direction, uint64 count COMPAT_EXECUTE_ONCE_PARAM)
{
	if (prev_executor_run)
		prev_executor_run(query, direction, count COMPAT_EXECUTE_ONCE_ARG);
	else
		standard_ExecutorRun(query, direction, count COMPAT_EXECUTE_ONCE_ARG);
	after_statement();
}

static void
process_utility(PlannedStmt *pstmt, const char *query_string, bool read_only_tree,
				ProcessUtilityContext context, ParamListInfo params,
				QueryEnvironment *env, DestReceiver *dest, QueryCompletion *qc)
{
	Node	   *stmt = pstmt->utilityStmt;
	Oid			seq = InvalidOid;

	if (IsA(stmt, CopyStmt) && !gate_is_open() && node_is_member() &&
		castNode(CopyStmt, stmt)->is_from && castNode(CopyStmt, stmt)->relation)
		check_relation(RangeVarGetRelid(castNode(CopyStmt, stmt)->relation, NoLock, true));
	else if (IsA(stmt, AlterSeqStmt))
	{
		seq = altered_sequence(stmt);
		if (OidIsValid(seq))
			check_alter(castNode(AlterSeqStmt, stmt));
	}

	if (prev_process_utility)
		prev_process_utility(pstmt, query_string, read_only_tree, context, params, env, dest, qc);
	else
		standard_ProcessUtility(pstmt, query_string, read_only_tree, context, params, env, dest, qc);

	if (OidIsValid(seq))
	{
		Oid			table;
		int32		column;

		CommandCounterIncrement();
		if (get_rel_relkind(seq) == RELKIND_SEQUENCE && sequences_is_ours(seq) &&
			(sequenceIsOwned(seq, DEPENDENCY_AUTO, &table, &column) ||
			 sequenceIsOwned(seq, DEPENDENCY_INTERNAL, &table, &column)))
			sequences_adopt(table);
	}
	if (IsA(stmt, AlterTableStmt))
	{
		Oid			relid = altered_table(stmt, context);

		if (OidIsValid(relid))
		{
			CommandCounterIncrement();
			sequences_adopt_new(relid);
		}
	}
	/* a procedure may have ended the transaction that we began in */
	if (!IsA(stmt, TransactionStmt))
		after_statement();
}

void
sequences_install(void)
{
	prev_executor_start = ExecutorStart_hook;
	ExecutorStart_hook = executor_start;
	prev_executor_run = ExecutorRun_hook;
	ExecutorRun_hook = executor_run;
	prev_process_utility = ProcessUtility_hook;
	ProcessUtility_hook = process_utility;
	prev_object_access = object_access_hook;
	object_access_hook = object_access;
	setval_install();
}
