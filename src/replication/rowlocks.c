/*-------------------------------------------------------------------------
 *
 * rowlocks.c
 *		Row locks and LOCK TABLE as keys, so that they count across the cluster.
 *
 * SELECT ... FOR UPDATE and its kin run through LockRows plan nodes, and so do
 * the foreign-key checks (they are queries with FOR KEY SHARE). When such a
 * plan starts on a replicated table, ExecProcNode of its LockRows nodes is
 * wrapped: after the node has locked a row, the slot it locked it into (that
 * of EvalPlanQual, which after a concurrent update holds the newest version)
 * gives the row's key.
 *
 * A transaction that only locks proposes nothing (commit.c).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/namespace.h"
#include "catalog/pg_inherits.h"
#include "executor/executor.h"
#include "nodes/execnodes.h"
#include "nodes/nodeFuncs.h"
#include "nodes/plannodes.h"
#include "parser/parsetree.h"

#include "node/node.h"
#include "replication/capture.h"
#include "replication/keys.h"

/* The static ExecLockRows, the same for all nodes. */
static ExecProcNodeMtd lock_rows = NULL;

static LockTupleMode
lock_mode(RowMarkType type)
{
	switch (type)
	{
		case ROW_MARK_EXCLUSIVE:
			return LockTupleExclusive;
		case ROW_MARK_NOKEYEXCLUSIVE:
			return LockTupleNoKeyExclusive;
		case ROW_MARK_SHARE:
			return LockTupleShare;
		default:
			return LockTupleKeyShare;
	}
}

static TupleTableSlot *
lock_rows_and_note(PlanState *state)
{
	LockRowsState *node = (LockRowsState *) state;
	TupleTableSlot *result = lock_rows(state);
	ListCell   *lc;
	uint64		base;

	if (TupIsNull(result))
		return result;
	base = node_base_index();
	foreach(lc, node->lr_arowMarks)
	{
		ExecRowMark *mark = ((ExecAuxRowMark *) lfirst(lc))->rowmark;
		TupleTableSlot *slot;
		RelPlan    *plan;

		if (!mark->ermActive || mark->relation == NULL)
			continue;
		plan = keys_plan(mark->relation);
		if (plan->kind != REL_REPLICATED)
			continue;
		slot = EvalPlanQualSlot(&node->lr_epqstate, mark->relation, mark->rti);
		if (!TupIsNull(slot))
			keys_add_lock(plan, slot, lock_mode(mark->markType), base);
	}
	return result;
}

static bool
wrap(PlanState *state, void *context)
{
	if (state == NULL)
		return false;
	if (IsA(state, LockRowsState))
	{
		/* first execution replaces ExecProcNode, and leaves this one alone */
		if (state->ExecProcNodeReal != lock_rows_and_note)
		{
			lock_rows = state->ExecProcNodeReal;
			state->ExecProcNodeReal = lock_rows_and_note;
		}
	}
	return planstate_tree_walker(state, wrap, context);
}

/* After ExecutorStart. */
void
rowlocks_watch(QueryDesc *query)
{
	ListCell   *lc;

	foreach(lc, query->plannedstmt->rowMarks)
	{
		PlanRowMark *mark = lfirst_node(PlanRowMark, lc);
		RangeTblEntry *rte = rt_fetch(mark->rti, query->plannedstmt->rtable);

		/* a parent's children have marks of their own */
		if (rte->rtekind == RTE_RELATION && RowMarkRequiresRowShareLock(mark->markType) &&
			keys_rel_kind(rte->relid) == REL_REPLICATED)
		{
			(void) wrap(query->planstate, NULL);
			return;
		}
	}
}

/* ---------- LOCK TABLE ---------- */

static void
lock_one(Oid relid)
{
	Relation	rel = try_table_open(relid, NoLock);

	if (rel == NULL)
		return;
	if (keys_rel_kind(relid) == REL_REPLICATED)
	{
		RelPlan    *plan = keys_plan(rel);

		capture_prepare(plan);
		keys_add_table(plan, true, node_base_index());
	}
	table_close(rel, NoLock);
}

/* After LOCK TABLE has got its locks. */
void
rowlocks_lock_table(const LockStmt *stmt)
{
	ListCell   *lc;

	/* weaker ones let writers in, here as everywhere */
	if (stmt->mode < ShareLock)
		return;
	foreach(lc, stmt->relations)
	{
		RangeVar   *name = lfirst_node(RangeVar, lc);
		Oid			relid = RangeVarGetRelid(name, NoLock, true);
		ListCell   *child;

		if (!OidIsValid(relid))
			continue;
		if (!name->inh)
			lock_one(relid);
		else
			foreach(child, find_all_inheritors(relid, NoLock, NULL))
				lock_one(lfirst_oid(child));
	}
}
