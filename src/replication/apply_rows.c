/*-------------------------------------------------------------------------
 *
 * apply_rows.c
 *		Row changes of the log, through the executor's replication routines.
 *
 * Certification has shown that no two entries fight over a row, so what is
 * changed or deleted must be there, and what is inserted must not. If it is
 * otherwise this member's tables are not what the log makes of them: that is an
 * error, and if it is still there in a new transaction, with fresh snapshots,
 * the worker stops at the entry and says so. It never skips.
 *
 * Waiting for a local session's lock happens inside the routines called here;
 * conflict.c sees to it that the wait is short.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/tableam.h"
#include "utils/memutils.h"

#include "replication/apply_internal.h"
#include "replication/apply_map.h"

#define FIND_TRIES	3

static MemoryContext row_context = NULL;	/* reset after each record */

/*
 * The row with this key, locked, in rel->found_slot. Each look takes a dirty
 * snapshot of its own: one that runs beside an update of the row, by a session
 * that has to give way to us, can pass the old version and miss the new one.
 */
static void
find_row(ApplyRel *rel, TupleTableSlot *key, LockTupleMode mode, const char *what)
{
	for (int i = 0; i < FIND_TRIES; i++)
	{
		if (apply_find_row(rel->rel, rel->identity, mode, key, rel->found_slot))
			return;
	}
	ereport(ERROR,
			(errcode(ERRCODE_DATA_CORRUPTED),
			 errmsg("row to be %s is missing from table \"%s\"", what,
					RelationGetRelationName(rel->rel)),
			 errdetail("Key %s.", apply_map_describe_key(rel, key)),
			 errhint("The table was changed behind the cluster's back on this member; "
					 "quorum.resync_table makes it the same as the others' again.")));
}

/* The leaf for a row or key of rel's layout, and the row in the leaf's layout. */
static ApplyRel *
leaf_of(ApplyRel *rel, TupleTableSlot *row, TupleTableSlot **leaf_row, bool key)
{
	ApplyRel   *leaf;
	TupleTableSlot *target;

	*leaf_row = row;
	if (rel->routing == NULL)
		return rel;
	leaf = apply_map_partition(rel, row);
	target = key ? leaf->key_slot : leaf->new_slot;
	if (leaf->from_root)
	{
		ExecClearTuple(target);
		*leaf_row = execute_attr_map_slot(leaf->from_root->attrMap, row, target);
	}
	return leaf;
}

static void
insert_row(ApplyRel *leaf, TupleTableSlot *row)
{
	ExecSimpleRelationInsert(leaf->info, leaf->estate, row);
	ResetPerTupleExprContext(leaf->estate);
	ExecClearTuple(row);
}

static void
delete_row(ApplyRel *leaf)
{
	EvalPlanQualSetSlot(&leaf->epq, leaf->found_slot);
	ExecSimpleRelationDelete(leaf->info, leaf->estate, &leaf->epq, leaf->found_slot);
	ResetPerTupleExprContext(leaf->estate);
	ExecClearTuple(leaf->found_slot);
}

static void
apply_insert(WsRecord *rec)
{
	ApplyRel   *rel = apply_map_table(rec->table_id);
	ApplyRel   *leaf;
	TupleTableSlot *row;

	apply_map_row(rel, &rec->new_tuple, rel->new_slot, NULL);
	leaf = leaf_of(rel, rel->new_slot, &row, false);
	insert_row(leaf, row);
}

static void
apply_delete(WsRecord *rec)
{
	ApplyRel   *rel = apply_map_table(rec->table_id);
	ApplyRel   *leaf;
	TupleTableSlot *key;

	apply_map_key(rel, &rec->old_tuple, rel->key_slot);
	leaf = leaf_of(rel, rel->key_slot, &key, true);
	find_row(leaf, key, LockTupleExclusive, "deleted");
	delete_row(leaf);
}

static void
apply_update(WsRecord *rec)
{
	ApplyRel   *rel = apply_map_table(rec->table_id);
	ApplyRel   *leaf;
	ApplyRel   *new_leaf;
	TupleTableSlot *key;
	TupleTableSlot *row;
	TupleTableSlot *old;

	apply_map_key(rel, rec->has_old ? &rec->old_tuple : &rec->new_tuple, rel->key_slot);
	leaf = leaf_of(rel, rel->key_slot, &key, true);
	/* no more than certification counts with: key-share locks may stand beside */
	find_row(leaf, key, rec->has_old ? LockTupleExclusive : LockTupleNoKeyExclusive,
			 "updated");

	old = leaf->found_slot;
	if (leaf->to_root)
	{
		ExecClearTuple(rel->key_slot);
		old = execute_attr_map_slot(leaf->to_root->attrMap, old, rel->key_slot);
	}
	apply_map_row(rel, &rec->new_tuple, rel->new_slot, old);
	new_leaf = leaf_of(rel, rel->new_slot, &row, false);
	if (new_leaf == leaf)
	{
		EvalPlanQualSetSlot(&leaf->epq, row);
		ExecSimpleRelationUpdate(leaf->info, leaf->estate, &leaf->epq, leaf->found_slot, row);
		ResetPerTupleExprContext(leaf->estate);
		ExecClearTuple(row);
		ExecClearTuple(leaf->found_slot);
		return;
	}
	/* what was not sent may still point into the old row */
	ExecMaterializeSlot(row);
	delete_row(leaf);
	insert_row(new_leaf, row);
}

void
apply_rows_record(WsRecord *rec)
{
	MemoryContext old;

	if (row_context == NULL)
		row_context = AllocSetContextCreate(TopMemoryContext, "pg_quorum apply row",
											ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(row_context);
	switch (rec->type)
	{
		case 'I':
			apply_insert(rec);
			break;
		case 'U':
			apply_update(rec);
			break;
		case 'D':
			apply_delete(rec);
			break;
		default:
			elog(ERROR, "record of type %d is no row change", rec->type);
	}
	MemoryContextSwitchTo(old);
	MemoryContextReset(row_context);
}

void
apply_rows_end(void)
{
	apply_map_close();
}

void
apply_rows_forget(void)
{
	apply_map_forget();
	if (row_context)
		MemoryContextReset(row_context);
}
