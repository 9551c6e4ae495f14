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
 * A row that does not qualify any more once it is locked stays locked, and is
 * not returned. To see those as well the node's input is wrapped too: when the
 * next candidate is asked for, the slots still hold the one before. SKIP LOCKED
 * leaves rows in the slots that it did not get, so it is left out there.
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
#include "utils/memutils.h"

#include "node/node.h"
#include "replication/capture.h"
#include "replication/gate.h"
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

/* A LockRows node that is wrapped; in the query's memory. */
typedef struct Watched
{
	struct Watched *next;
	LockRowsState *node;
	ExecProcNodeMtd input;		/* of its outer plan */
	bool		noted;			/* what the slots hold has its keys */
	MemoryContextCallback at_end;
} Watched;

static Watched *watched = NULL;

static void
unwatch(void *arg)
{
	for (Watched **at = &watched; *at; at = &(*at)->next)
	{
		if (*at == arg)
		{
			*at = (*at)->next;
			return;
		}
	}
}

/* The newest queries are at the front. */
static Watched *
find_watched(PlanState *input)
{
	Watched    *at = watched;

	while (outerPlanState(&at->node->ps) != input)
		at = at->next;
	return at;
}

static void
note_locked(LockRowsState *node, bool returned)
{
	uint64		base = node_base_index();
	ListCell   *lc;

	foreach(lc, node->lr_arowMarks)
	{
		ExecRowMark *mark = ((ExecAuxRowMark *) lfirst(lc))->rowmark;
		TupleTableSlot *slot;
		RelPlan    *plan;

		if (!mark->ermActive || mark->relation == NULL ||
			(!returned && mark->waitPolicy != LockWaitBlock))
			continue;
		plan = keys_plan(mark->relation);
		if (plan->kind != REL_REPLICATED)
			continue;
		slot = EvalPlanQualSlot(&node->lr_epqstate, mark->relation, mark->rti);
		if (!TupIsNull(slot))
			keys_add_lock(plan, slot, lock_mode(mark->markType), base);
	}
}

static TupleTableSlot *
next_candidate(PlanState *state)
{
	Watched    *watch = find_watched(state);

	if (!watch->noted)
		note_locked(watch->node, false);
	watch->noted = false;
	return watch->input(state);
}

static TupleTableSlot *
lock_rows_and_note(PlanState *state)
{
	TupleTableSlot *result = lock_rows(state);

	if (!TupIsNull(result))
	{
		note_locked((LockRowsState *) state, true);
		find_watched(outerPlanState(state))->noted = true;
	}
	return result;
}

static void
watch_node(LockRowsState *node)
{
	MemoryContext context = node->ps.state->es_query_cxt;
	PlanState  *input = outerPlanState(&node->ps);
	Watched    *watch = MemoryContextAllocZero(context, sizeof(Watched));

	watch->node = node;
	watch->input = input->ExecProcNodeReal;
	watch->noted = true;		/* nothing in the slots yet */
	watch->next = watched;
	watch->at_end.func = unwatch;
	watch->at_end.arg = watch;
	MemoryContextRegisterResetCallback(context, &watch->at_end);
	watched = watch;

	/* the first execution replaces ExecProcNode, and leaves these alone */
	lock_rows = node->ps.ExecProcNodeReal;
	node->ps.ExecProcNodeReal = lock_rows_and_note;
	input->ExecProcNodeReal = next_candidate;
}

static bool
wrap(PlanState *state, void *context)
{
	if (state == NULL)
		return false;
	if (IsA(state, LockRowsState) && state->ExecProcNodeReal != lock_rows_and_note)
		watch_node((LockRowsState *) state);
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

/* Before it waits for them. */
void
rowlocks_close_gates(const LockStmt *stmt)
{
	List	   *relids = NIL;
	ListCell   *lc;

	if (stmt->mode < ShareLock)
		return;
	foreach(lc, stmt->relations)
		relids = lappend_oid(relids, RangeVarGetRelid(lfirst_node(RangeVar, lc), NoLock, true));
	gate_close(relids);
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
