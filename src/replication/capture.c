/*-------------------------------------------------------------------------
 *
 * capture.c
 *		The AFTER ROW trigger that every replicated table carries.
 *
 * One trigger a table, ENABLE ALWAYS, its only argument the table's number.
 * PostgreSQL itself clones it to partitions. Its name sorts before those of
 * foreign-key triggers, which matters for the bases of keys (keys.c); the
 * order of records does not depend on when it fires (writeset.c).
 *
 * In a server that does not preload the library the function is loaded on
 * first use, finds no shared memory and refuses the change: a replicated table
 * is never written behind the cluster's back. On a table that is not known as a
 * replicated one (a dump was restored) it does nothing.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_class.h"
#include "commands/trigger.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "replication/origin.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "node/node.h"
#include "replication/capture.h"
#include "replication/keys.h"
#include "replication/replication.h"
#include "replication/rowcodec.h"
#include "replication/sequences.h"
#include "replication/session.h"
#include "replication/tables.h"

PG_FUNCTION_INFO_V1(quorum_capture);

/* May this relation be written by this session now? */
void
capture_prepare(RelPlan *plan)
{
	if (!node_is_member())
		node_require_member();
	if (!session_in_quorum_database())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table \"%s\" is a replicated table of another database",
						get_rel_name(plan->relid)),
				 errdetail("Only database \"%s\" takes part in the cluster (quorum.database).",
						   quorum_database)));
	if (replorigin_session_origin != InvalidRepOriginId)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("replicated table \"%s\" cannot be written by a session with a replication origin",
						get_rel_name(plan->relid)),
				 errdetail("The commit record has room for one origin, and it carries the index of the log entry."),
				 errhint("Subscriptions cannot write replicated tables; elsewhere use pg_replication_origin_session_reset() first.")));
	if (plan->problem)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("replicated table \"%s\" cannot be written",
						get_rel_name(plan->relid)),
				 errdetail("%s", plan->problem),
				 errhint("Give it one, or make it an ordinary table with quorum.remove_table.")));
}

/*
 * The command that made (or ended) this tuple version: the order in which
 * changes really took place.
 */
static CommandId
command_of(TupleTableSlot *slot, bool ended)
{
	HeapTuple	tuple;
	bool		must_free;
	CommandId	cid;

	if (!TTS_IS_BUFFERTUPLE(slot))
		return GetCurrentCommandId(false);
	tuple = ExecFetchSlotHeapTuple(slot, false, &must_free);
	if (ended)
	{
		if (!TransactionIdIsCurrentTransactionId(HeapTupleHeaderGetUpdateXid(tuple->t_data)))
			return GetCurrentCommandId(false);
		cid = HeapTupleHeaderGetCmax(tuple->t_data);
	}
	else
	{
		if (!TransactionIdIsCurrentTransactionId(HeapTupleHeaderGetXmin(tuple->t_data)))
			return GetCurrentCommandId(false);
		cid = HeapTupleHeaderGetCmin(tuple->t_data);
	}
	if (must_free)
		heap_freetuple(tuple);
	return cid;
}

Datum
quorum_capture(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	RelPlan    *plan;
	uint64		base;

	if (!CALLED_AS_TRIGGER(fcinfo) ||
		!TRIGGER_FIRED_AFTER(trigger->tg_event) ||
		!TRIGGER_FIRED_FOR_ROW(trigger->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("quorum.capture() is the row trigger of replicated tables"),
				 errhint("Use quorum.add_table.")));
	if (replication_is_applying())
		return PointerGetDatum(NULL);

	/* without shared memory nothing cached is told of changes */
	if (!node_is_loaded() && tables_id_of(trigger->tg_relation) == 0)
		return PointerGetDatum(NULL);
	node_require_loaded();
	plan = keys_plan(trigger->tg_relation);
	if (plan->kind != REL_REPLICATED)
		return PointerGetDatum(NULL);
	capture_prepare(plan);
	mixed_replicated_change();

	base = node_base_index();
	if (TRIGGER_FIRED_BY_INSERT(trigger->tg_event))
	{
		keys_add_insert(plan, trigger->tg_trigslot, base);
		rowcodec_insert(plan, trigger->tg_trigslot, command_of(trigger->tg_trigslot, false));
		sequences_row_written(plan->relid, plan->table_id, trigger->tg_trigslot);
	}
	else if (TRIGGER_FIRED_BY_UPDATE(trigger->tg_event))
	{
		bool		identity_changed = keys_add_update(plan, trigger->tg_trigslot,
													   trigger->tg_newslot, base);

		rowcodec_update(plan, trigger->tg_trigslot, trigger->tg_newslot, identity_changed,
						command_of(trigger->tg_newslot, false));
		sequences_row_written(plan->relid, plan->table_id, trigger->tg_newslot);
	}
	else
	{
		keys_add_delete(plan, trigger->tg_trigslot, base);
		rowcodec_delete(plan, trigger->tg_trigslot, command_of(trigger->tg_trigslot, true));
	}
	return PointerGetDatum(NULL);
}

/*
 * A table that becomes replicated brings its rows along, as inserts of the
 * same entry. The caller holds a lock that keeps writers out, and the
 * exclusive key of the table stands for all rows.
 */
static void
capture_rows_of(Oid relid)
{
	Relation	rel = table_open(relid, AccessShareLock);

	if (RELKIND_HAS_STORAGE(rel->rd_rel->relkind))
	{
		RelPlan    *plan = keys_plan(rel);
		TupleTableSlot *slot = table_slot_create(rel, NULL);
		TableScanDesc scan = table_beginscan(rel, GetActiveSnapshot(), 0, NULL);
		MemoryContext per_row = AllocSetContextCreate(CurrentMemoryContext,
													  "rows of a new replicated table",
													  ALLOCSET_DEFAULT_SIZES);
		CommandId	cid = GetCurrentCommandId(false);

		while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
		{
			MemoryContext old = MemoryContextSwitchTo(per_row);

			CHECK_FOR_INTERRUPTS();
			rowcodec_insert(plan, slot, cid);
			MemoryContextSwitchTo(old);
			MemoryContextReset(per_row);
		}
		table_endscan(scan);
		ExecDropSingleTupleTableSlot(slot);
		MemoryContextDelete(per_row);
	}
	table_close(rel, NoLock);
}

void
capture_existing_rows(Relation rel)
{
	List	   *relids;
	ListCell   *lc;

	PushActiveSnapshot(GetLatestSnapshot());
	if (rel->rd_rel->relkind == RELKIND_PARTITIONED_TABLE)
		relids = find_all_inheritors(RelationGetRelid(rel), AccessShareLock, NULL);
	else
		relids = list_make1_oid(RelationGetRelid(rel));
	foreach(lc, relids)
		capture_rows_of(lfirst_oid(lc));
	PopActiveSnapshot();
}
