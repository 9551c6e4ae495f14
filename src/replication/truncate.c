/*-------------------------------------------------------------------------
 *
 * truncate.c
 *		TRUNCATE of replicated tables.
 *
 * A statement trigger on each replicated table (on the root of a partitioned
 * one) notes that PostgreSQL has truncated it, CASCADE included. The statement
 * as a whole becomes one record, since tables that refer to each other can
 * only be emptied together. A partition that is truncated by its own name has
 * no number of its own: that travels as a statement.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/heap.h"
#include "catalog/namespace.h"
#include "commands/trigger.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "node/node.h"
#include "replication/capture.h"
#include "replication/ddl.h"
#include "replication/gate.h"
#include "replication/keys.h"
#include "replication/replication.h"
#include "replication/tables.h"
#include "replication/writeset_build.h"

PG_FUNCTION_INFO_V1(quorum_capture_truncate);

struct TruncateScope
{
	TruncateScope *outer;
	MemoryContext context;
	const TruncateStmt *stmt;
	List	   *numbers;		/* of int: tables that the trigger saw */
};

static TruncateScope *current_scope = NULL;

static void
put_truncate(List *numbers, bool restart_identity)
{
	ListCell   *lc;

	writeset_begin(GetCurrentCommandId(false));
	writeset_put_byte('T');
	writeset_put_varint(list_length(numbers));
	foreach(lc, numbers)
		writeset_put_varint((uint32) lfirst_int(lc));
	writeset_put_byte(restart_identity ? 1 : 0);
	writeset_end();
}

Datum
quorum_capture_truncate(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	RelPlan    *plan;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_BY_TRUNCATE(trigger->tg_event))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("quorum.capture_truncate() is a trigger of replicated tables"),
				 errhint("Use quorum.add_table.")));
	if (replication_is_applying())
		return PointerGetDatum(NULL);
	if (!node_is_loaded() && tables_id_of(trigger->tg_relation) == 0)
		return PointerGetDatum(NULL);
	node_require_loaded();
	plan = keys_plan(trigger->tg_relation);
	if (plan->kind != REL_REPLICATED)
		return PointerGetDatum(NULL);
	capture_prepare(plan);
	mixed_replicated_change();
	keys_add_table(plan, true, node_base_index());

	if (current_scope)
	{
		MemoryContext old = MemoryContextSwitchTo(current_scope->context);

		current_scope->numbers = list_append_unique_int(current_scope->numbers,
														(int) plan->table_id);
		MemoryContextSwitchTo(old);
	}
	else
		put_truncate(list_make1_int((int) plan->table_id), false);
	return PointerGetDatum(NULL);
}

/* All that the statement will empty, those that refer to it included. */
static void
close_gates(const TruncateStmt *stmt)
{
	List	   *relids = NIL;
	ListCell   *lc;
	int			before;

	foreach(lc, stmt->relations)
	{
		Oid			relid = RangeVarGetRelid(lfirst_node(RangeVar, lc), NoLock, true);

		if (OidIsValid(relid))
			relids = list_append_unique_oid(relids, relid);
	}
	do
	{
		before = list_length(relids);
		if (stmt->behavior == DROP_CASCADE && relids != NIL)
			relids = list_concat_unique_oid(relids, heap_truncate_find_FKs(relids));
	} while (list_length(relids) > before);
	gate_close(relids);
}

TruncateScope *
truncate_begin(const TruncateStmt *stmt)
{
	TruncateScope *scope;

	close_gates(stmt);
	scope = palloc0(sizeof(TruncateScope));
	scope->outer = current_scope;
	scope->context = CurrentMemoryContext;
	scope->stmt = stmt;
	current_scope = scope;
	return scope;
}

/* TRUNCATE names a partition of a replicated table itself. */
static void
put_partition(TruncateScope *scope, Oid relid)
{
	Relation	rel = table_open(relid, NoLock);
	RelPlan    *plan = keys_plan(rel);
	StringInfoData text;

	if (plan->kind == REL_REPLICATED && rel->rd_rel->relispartition)
	{
		capture_prepare(plan);
		mixed_replicated_change();
		keys_add_table(plan, true, node_base_index());
		initStringInfo(&text);
		appendStringInfo(&text, "TRUNCATE %s",
						 quote_qualified_identifier(get_namespace_name(RelationGetNamespace(rel)),
													RelationGetRelationName(rel)));
		if (scope->stmt->restart_seqs)
			appendStringInfoString(&text, " RESTART IDENTITY");
		ddl_put_statement(text.data);
	}
	table_close(rel, NoLock);
}

/* After an error instead: truncate_forget(), when the (sub)transaction ends. */
void
truncate_end(TruncateScope *scope)
{
	ListCell   *lc;

	if (scope->numbers != NIL)
		put_truncate(scope->numbers, scope->stmt->restart_seqs);
	foreach(lc, scope->stmt->relations)
	{
		Oid			relid = RangeVarGetRelid(lfirst_node(RangeVar, lc), NoLock, true);

		if (OidIsValid(relid) && get_rel_relispartition(relid))
			put_partition(scope, relid);
	}
	current_scope = scope->outer;
}

void
truncate_forget(void)
{
	current_scope = NULL;
}
