/*-------------------------------------------------------------------------
 *
 * apply_map.c
 *		The relations that the apply worker has open in its transaction, and
 *		rows between the log's form and theirs.
 *
 * A relation is opened once a transaction, with its indexes, and found again
 * by its number in the log; a statement in the log, and the end of the
 * transaction, close all of them. So nothing here has to follow invalidations:
 * the lock keeps the definition as it is.
 *
 * Triggers are taken out of the executor's sight. What they did on the server
 * where the transaction ran is in the log, row by row, and that goes for
 * ENABLE ALWAYS triggers, foreign keys and our own capture trigger too.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/tupmacs.h"
#include "access/xact.h"
#include "catalog/index.h"
#include "catalog/partition.h"
#include "lib/stringinfo.h"
#include "nodes/makefuncs.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "compat.h"
#include "replication/apply_map.h"
#include "replication/conflict.h"
#include "replication/tables.h"

static MemoryContext map_context = NULL;	/* child of TopTransactionContext */
static List *open_rels = NIL;
static ApplyRel *recent = NULL;		/* the last one asked for by number */

/* ---------- columns ---------- */

static Bitmapset *
key_columns(Oid index)
{
	Relation	rel = index_open(index, AccessShareLock);
	Bitmapset  *columns = NULL;

	for (int i = 0; i < rel->rd_index->indnkeyatts; i++)
		columns = bms_add_member(columns, rel->rd_index->indkey.values[i]);
	index_close(rel, NoLock);
	return columns;
}

static void
describe_columns(ApplyRel *r)
{
	TupleDesc	desc = RelationGetDescr(r->rel);
	Bitmapset  *keys = key_columns(r->identity);

	r->columns = palloc0_array(ApplyColumn, Max(desc->natts, 1));
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);
		ApplyColumn *column;

		if (att->attisdropped)
			continue;
		column = &r->columns[r->ncolumns++];
		column->attnum = att->attnum;
		column->typlen = att->attlen;
		column->typbyval = att->attbyval;
		column->generated = att->attgenerated != '\0';
		column->is_key = bms_is_member(att->attnum, keys);
		column->type = att->atttypid;
		column->typmod = att->atttypmod;
	}
	bms_free(keys);
}

/* ---------- open and close ---------- */

/*
 * The index of a partition that belongs to the identity index of its root, any
 * number of levels up.
 */
static Oid
identity_of_partition(ApplyRel *root, Relation leaf)
{
	List	   *ancestors = get_partition_ancestors(RelationGetRelid(leaf));
	Oid			index = root->identity;
	bool		below = false;
	Relation	rel;

	/* from the root down; the list goes up */
	for (int i = list_length(ancestors) - 1; i >= 0; i--)
	{
		Oid			relid = list_nth_oid(ancestors, i);

		if (below)
		{
			rel = table_open(relid, AccessShareLock);
			index = index_get_partition(rel, index);
			table_close(rel, NoLock);
		}
		if (relid == root->relid)
			below = true;
		if (!OidIsValid(index))
			return InvalidOid;
	}
	list_free(ancestors);
	return below ? index_get_partition(leaf, index) : InvalidOid;
}

static void
open_executor(ApplyRel *r)
{
	r->estate = CreateExecutorState();
	compat_init_range_table(r->estate, r->rel);
	r->info = makeNode(ResultRelInfo);
	InitResultRelInfo(r->info, r->rel, 1, NULL, 0);
	r->info->ri_TrigDesc = NULL;
	r->estate->es_output_cid = GetCurrentCommandId(true);
	compat_eval_plan_qual_init(&r->epq, r->estate);

	if (r->rel->rd_rel->relkind == RELKIND_PARTITIONED_TABLE)
	{
		r->mtstate = makeNode(ModifyTableState);
		r->mtstate->ps.plan = NULL;
		r->mtstate->ps.state = r->estate;
		r->mtstate->operation = CMD_INSERT;
		r->mtstate->resultRelInfo = r->info;
		r->mtstate->rootResultRelInfo = r->info;
		r->routing = ExecSetupPartitionTupleRouting(r->estate, r->rel);
	}
	else
	{
		ExecOpenIndices(r->info, false);
		r->found_slot = table_slot_create(r->rel, NULL);
	}
	r->new_slot = MakeSingleTupleTableSlot(RelationGetDescr(r->rel), &TTSOpsVirtual);
	r->key_slot = MakeSingleTupleTableSlot(RelationGetDescr(r->rel), &TTSOpsVirtual);
}

static ApplyRel *
open_rel(Oid relid, uint32 table_id, ApplyRel *root)
{
	MemoryContext old;
	ApplyRel   *r;
	Relation	rel = try_table_open(relid, RowExclusiveLock);

	if (rel == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("replicated table with OID %u does not exist on this member", relid)));
	if (rel->rd_rel->relkind != RELKIND_RELATION &&
		rel->rd_rel->relkind != RELKIND_PARTITIONED_TABLE)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is not a table, and rows of the log cannot be applied to it",
						RelationGetRelationName(rel))));
	if (map_context == NULL)
		map_context = AllocSetContextCreate(TopTransactionContext,
											"pg_quorum apply relations",
											ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(map_context);
	r = palloc0_object(ApplyRel);
	r->relid = relid;
	r->table_id = table_id;
	r->rel = rel;
	r->root = root;
	r->identity = root ? identity_of_partition(root, rel) : tables_identity_index(rel);
	if (!OidIsValid(r->identity))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("replicated table \"%s\" has no primary key or replica identity on this member",
						RelationGetRelationName(rel))));
	describe_columns(r);
	if (root)
	{
		r->from_root = convert_tuples_by_name(RelationGetDescr(root->rel), RelationGetDescr(rel));
		r->to_root = convert_tuples_by_name(RelationGetDescr(rel), RelationGetDescr(root->rel));
	}
	open_executor(r);
	open_rels = lcons(r, open_rels);
	conflict_note_table(RelationGetRelationName(rel));
	MemoryContextSwitchTo(old);
	return r;
}

ApplyRel *
apply_map_table(uint32 table_id)
{
	ListCell   *lc;
	Oid			relid;

	if (recent && recent->table_id == table_id)
		return recent;
	foreach(lc, open_rels)
	{
		ApplyRel   *r = lfirst(lc);

		if (r->table_id == table_id)
			return recent = r;
	}
	relid = tables_oid_of(table_id);
	if (!OidIsValid(relid))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("replicated table number %u is not known on this member", table_id),
				 errdetail("The log changes rows of it. Table quorum.replicated_table lists the numbers.")));
	return recent = open_rel(relid, table_id, NULL);
}

ApplyRel *
apply_map_partition(ApplyRel *root, TupleTableSlot *row)
{
	ResultRelInfo *info;
	Oid			relid;
	ListCell   *lc;

	info = ExecFindPartition(root->mtstate, root->info, root->routing, row, root->estate);
	ResetPerTupleExprContext(root->estate);
	relid = RelationGetRelid(info->ri_RelationDesc);
	foreach(lc, open_rels)
	{
		ApplyRel   *r = lfirst(lc);

		if (r->relid == relid && r->root == root)
			return r;
	}
	return open_rel(relid, 0, root);
}

void
apply_map_close(void)
{
	ListCell   *lc;

	foreach(lc, open_rels)
	{
		ApplyRel   *r = lfirst(lc);

		EvalPlanQualEnd(&r->epq);
		ExecDropSingleTupleTableSlot(r->new_slot);
		ExecDropSingleTupleTableSlot(r->key_slot);
		if (r->found_slot)
			ExecDropSingleTupleTableSlot(r->found_slot);
		if (r->routing)
			ExecCleanupTupleRouting(r->mtstate, r->routing);
		else
			ExecCloseIndices(r->info);
		ExecResetTupleTable(r->estate->es_tupleTable, false);
		FreeExecutorState(r->estate);
		table_close(r->rel, NoLock);
	}
	if (map_context)
		MemoryContextDelete(map_context);
	apply_map_forget();
}

void
apply_map_forget(void)
{
	map_context = NULL;
	open_rels = NIL;
	recent = NULL;
}

/* ---------- rows ---------- */

static void
bad_column(ApplyRel *rel, const ApplyColumn *column, const char *what)
{
	ereport(ERROR,
			(errcode(ERRCODE_DATA_CORRUPTED),
			 errmsg("the log has a value for column \"%s\" of table \"%s\" that this member cannot use",
					NameStr(TupleDescAttr(RelationGetDescr(rel->rel), column->attnum - 1)->attname),
					RelationGetRelationName(rel->rel)),
			 errdetail_internal("%s", what)));
}

static Datum
binary_value(ApplyRel *rel, const ApplyColumn *column, const WsColumn *from)
{
	char	   *value;

	if (column->typlen > 0 && from->len != column->typlen)
		bad_column(rel, column, "Its length is not that of the column's type.");
	if (column->typbyval)
	{
		union
		{
			char		bytes[sizeof(Datum)];
			Datum		aligned;
		}			buf;

		memcpy(buf.bytes, from->data, from->len);
		return fetch_att(buf.bytes, true, column->typlen);
	}
	switch (column->typlen)
	{
		case -1:
			if (from->len > MaxAllocSize - VARHDRSZ)
				bad_column(rel, column, "It is too long.");
			value = palloc(from->len + VARHDRSZ);
			SET_VARSIZE(value, from->len + VARHDRSZ);
			memcpy(VARDATA(value), from->data, from->len);
			break;
		case -2:
			value = pnstrdup((const char *) from->data, from->len);
			break;
		default:
			value = palloc(from->len);
			memcpy(value, from->data, from->len);
			break;
	}
	return PointerGetDatum(value);
}

static Datum
text_value(ApplyRel *rel, ApplyColumn *column, const WsColumn *from)
{
	char	   *text = pnstrdup((const char *) from->data, from->len);

	if (!OidIsValid(column->input.fn_oid))
	{
		Oid			function;

		getTypeInputInfo(column->type, &function, &column->ioparam);
		fmgr_info_cxt(function, &column->input, map_context);
	}
	return InputFunctionCall(&column->input, text, column->ioparam, column->typmod);
}

static void
check_shape(ApplyRel *rel, const WsTuple *tuple)
{
	if (tuple->natts != (uint32) rel->ncolumns)
		ereport(ERROR,
				(errcode(ERRCODE_DATATYPE_MISMATCH),
				 errmsg("table \"%s\" has %d columns on this member, and the log has a row of %u",
						RelationGetRelationName(rel->rel), rel->ncolumns, tuple->natts),
				 errhint("Replicated tables must be defined alike on all members.")));
}

static void
set_column(ApplyRel *rel, ApplyColumn *column, const WsColumn *from, TupleTableSlot *slot)
{
	int			i = column->attnum - 1;

	slot->tts_isnull[i] = false;
	if (from->kind == 'b')
		slot->tts_values[i] = binary_value(rel, column, from);
	else if (from->kind == 't')
		slot->tts_values[i] = text_value(rel, column, from);
	else
		slot->tts_isnull[i] = true;
}

static void
start_row(TupleTableSlot *slot)
{
	int			natts = slot->tts_tupleDescriptor->natts;

	ExecClearTuple(slot);
	memset(slot->tts_isnull, true, natts * sizeof(bool));
	memset(slot->tts_values, 0, natts * sizeof(Datum));
}

void
apply_map_row(ApplyRel *rel, const WsTuple *tuple, TupleTableSlot *slot, TupleTableSlot *old)
{
	check_shape(rel, tuple);
	start_row(slot);
	if (old)
		slot_getallattrs(old);
	for (int i = 0; i < rel->ncolumns; i++)
	{
		ApplyColumn *column = &rel->columns[i];
		const WsColumn *from = &tuple->cols[i];

		if (column->generated)
			continue;			/* the executor computes it */
		if (from->kind != 'u')
			set_column(rel, column, from, slot);
		else if (old)
		{
			slot->tts_values[column->attnum - 1] = old->tts_values[column->attnum - 1];
			slot->tts_isnull[column->attnum - 1] = old->tts_isnull[column->attnum - 1];
		}
		else
			bad_column(rel, column, "It is said to be unchanged in a row that is new.");
	}
	ExecStoreVirtualTuple(slot);
}

void
apply_map_key(ApplyRel *rel, const WsTuple *tuple, TupleTableSlot *slot)
{
	check_shape(rel, tuple);
	start_row(slot);
	for (int i = 0; i < rel->ncolumns; i++)
	{
		ApplyColumn *column = &rel->columns[i];
		const WsColumn *from = &tuple->cols[i];

		if (!column->is_key)
			continue;
		if (from->kind == 'u' || from->kind == 'n')
			bad_column(rel, column, "It is part of the row's identity here, and was not sent or is NULL.");
		set_column(rel, column, from, slot);
	}
	ExecStoreVirtualTuple(slot);
}

char *
apply_map_describe_key(ApplyRel *rel, TupleTableSlot *slot)
{
	StringInfoData names,
				values;

	initStringInfo(&names);
	initStringInfo(&values);
	slot_getallattrs(slot);
	for (int i = 0; i < rel->ncolumns; i++)
	{
		ApplyColumn *column = &rel->columns[i];
		Oid			function;
		bool		varlena;
		char	   *text;

		if (!column->is_key)
			continue;
		getTypeOutputInfo(column->type, &function, &varlena);
		text = slot->tts_isnull[column->attnum - 1] ? "null" :
			OidOutputFunctionCall(function, slot->tts_values[column->attnum - 1]);
		appendStringInfo(&names, "%s%s", names.len ? ", " : "",
						 NameStr(TupleDescAttr(RelationGetDescr(rel->rel),
											   column->attnum - 1)->attname));
		appendStringInfo(&values, "%s%s", values.len ? ", " : "", text);
	}
	return psprintf("(%s) = (%s)", names.data, values.data);
}
