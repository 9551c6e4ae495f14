/*-------------------------------------------------------------------------
 *
 * lock_fence_table.c
 *		The trigger behind quorum.fence_table(): a row that carries an older
 *		fencing token than one that was seen for its resource is refused.
 *
 * What was seen is a replicated table of its own beside the guarded one
 * (sqlsrc/40_lock.sql): one row a resource with the highest token so far. The
 * trigger reads it, locks the row shared when the token is the same, and raises
 * it when the token is newer. So all that makes writes of replicated tables
 * correct makes this correct, too: of two transactions on two members that
 * raise the same resource, or of which one raises it and one relies on it,
 * certification lets only the first one pass (the other gets 40001, and its
 * retry sees the newer token). A row that is deleted leaves its resource's
 * token behind.
 *
 * The trigger fires AFTER the row, when all BEFORE triggers have had their say,
 * and not in the apply worker: what is in the log was judged where it came
 * from.
 *
 * The memory table is read and written as its owner, so that who may write the
 * guarded table needs no rights on it; the expression is evaluated as the
 * guarded table's owner, with search_path pg_catalog, as for index expressions.
 *
 * Plans are kept per trigger, private to the process; a relcache invalidation
 * of either table is dealt with by the plans themselves.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/relation.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "lock/lock_sql.h"
#include "replication/replication.h"
#include "replication/tables.h"

#define ARG_MEMORY		0		/* cluster-wide number of the memory table */
#define ARG_TOKEN		1		/* column */
#define ARG_EXPRESSION	2
#define NARGS			3

#define RAISE_ATTEMPTS	100

PG_FUNCTION_INFO_V1(quorum_fence_row);

typedef struct FencePlans
{
	Oid			trigger;		/* hash key */
	Oid			memory;			/* what the plans were made for */
	Oid			row_type;
	char	   *expression;
	SPIPlanPtr	resource;		/* NULL: to be made */
	SPIPlanPtr	look;
	SPIPlanPtr	share;
	SPIPlanPtr	raise;
	SPIPlanPtr	insert;
} FencePlans;

static HTAB *plans = NULL;

static SPIPlanPtr
make_plan(const char *sql, int nargs, Oid *types)
{
	SPIPlanPtr	plan = SPI_prepare(sql, nargs, types);

	if (plan == NULL || SPI_keepplan(plan) != 0)
		elog(ERROR, "could not prepare \"%s\": %s", sql, SPI_result_code_string(SPI_result));
	return plan;
}

static void
drop_plan(SPIPlanPtr *plan)
{
	if (*plan != NULL)
		SPI_freeplan(*plan);
	*plan = NULL;
}

static FencePlans *
plans_of(const Trigger *trigger, Relation rel, Oid memory)
{
	FencePlans *p;
	bool		found;

	if (plans == NULL)
	{
		HASHCTL		ctl;

		memset(&ctl, 0, sizeof(ctl));
		ctl.keysize = sizeof(Oid);
		ctl.entrysize = sizeof(FencePlans);
		ctl.hcxt = TopMemoryContext;
		plans = hash_create("pg_quorum fence plans", 16, &ctl,
							HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	}
	p = hash_search(plans, &trigger->tgoid, HASH_ENTER, &found);
	if (!found)
		memset((char *) p + sizeof(Oid), 0, sizeof(*p) - sizeof(Oid));
	if (p->insert != NULL && p->memory == memory && p->row_type == rel->rd_rel->reltype &&
		strcmp(p->expression, trigger->tgargs[ARG_EXPRESSION]) == 0)
		return p;

	drop_plan(&p->resource);
	drop_plan(&p->look);
	drop_plan(&p->share);
	drop_plan(&p->raise);
	drop_plan(&p->insert);
	p->memory = memory;
	p->row_type = rel->rd_rel->reltype;
	if (p->expression)
		pfree(p->expression);
	p->expression = NULL;
	p->expression = MemoryContextStrdup(TopMemoryContext, trigger->tgargs[ARG_EXPRESSION]);
	return p;
}

static void
prepare(FencePlans *p, Relation rel, Relation memory, const char *token_column)
{
	Oid			row_args[] = {p->row_type};
	Oid			args[] = {TEXTOID, INT8OID};
	const char *name = quote_qualified_identifier(get_namespace_name(RelationGetNamespace(memory)),
												  RelationGetRelationName(memory));

	if (p->insert != NULL)
		return;
	p->resource = make_plan(psprintf("SELECT (%s)::pg_catalog.text, (%s)::pg_catalog.int8 FROM (SELECT ($1).*) AS %s",
									 p->expression, quote_identifier(token_column),
									 quote_identifier(RelationGetRelationName(rel))),
							1, row_args);
	p->look = make_plan(psprintf("SELECT token FROM %s WHERE resource = $1", name), 1, args);
	p->share = make_plan(psprintf("SELECT token FROM %s WHERE resource = $1 FOR SHARE", name), 1, args);
	p->raise = make_plan(psprintf("UPDATE %s SET token = $2 WHERE resource = $1 AND token < $2", name), 2, args);
	p->insert = make_plan(psprintf("INSERT INTO %s (resource, token) VALUES ($1, $2) ON CONFLICT (resource) DO NOTHING", name),
						  2, args);
}

static void
execute(SPIPlanPtr plan, Datum *values)
{
	int			result = SPI_execute_plan(plan, values, NULL, false, 0);

	if (result < 0)
		elog(ERROR, "unexpected result of a fence's statement: %s", SPI_result_code_string(result));
}

/* The token of the one row that was found; false: none was. */
static bool
found_token(int64 *token)
{
	bool		isnull;

	if (SPI_processed == 0)
		return false;
	*token = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	return true;
}

static void
refuse(Relation rel, Datum resource, int64 token, int64 seen)
{
	ereport(ERROR,
			(errcode(ERRCODE_QUORUM_STALE_TOKEN),
			 errmsg("fencing token of resource \"%s\" is stale: " INT64_FORMAT " < " INT64_FORMAT ": rejected",
					TextDatumGetCString(resource), token, seen),
			 errdetail("A row with the newer token was written to table \"%s\" before.",
					   RelationGetRelationName(rel)),
			 errhint("The lock was given to somebody else since: acquire it again.")));
}

/*
 * Make sure that token is the highest one of its resource, and stays so until
 * we commit.
 */
static void
pass(FencePlans *p, Relation rel, Datum resource, int64 token)
{
	Datum		values[] = {resource, Int64GetDatum(token)};

	for (int i = 0; i < RAISE_ATTEMPTS; i++)
	{
		int64		seen;

		execute(p->look, values);
		if (!found_token(&seen))
		{
			execute(p->insert, values);
			if (SPI_processed > 0)
				return;
			/* in REPEATABLE READ its row stays invisible, and this fails with 40001 */
			continue;
		}
		if (token < seen)
			refuse(rel, resource, token, seen);
		if (token > seen)
		{
			execute(p->raise, values);
			if (SPI_processed > 0)
				return;
			continue;
		}
		execute(p->share, values);
		if (found_token(&seen) && seen == token)
			return;
	}
	ereport(ERROR,
			(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
			 errmsg("could not compare the fencing token of resource \"%s\" with the last one seen",
					TextDatumGetCString(resource)),
			 errhint("The transaction might succeed if retried.")));
}

static void
check_call(FunctionCallInfo fcinfo)
{
	TriggerData *data = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("quorum.fence_row() was not called by trigger manager")));
	if (!TRIGGER_FIRED_AFTER(data->tg_event) || !TRIGGER_FIRED_FOR_ROW(data->tg_event) ||
		data->tg_trigger->tgnargs != NARGS)
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("trigger \"%s\" was not made by quorum.fence_table", data->tg_trigger->tgname)));
}

/* The row as one value of the table's row type. */
static Datum
row_value(TriggerData *data)
{
	HeapTuple	tuple = TRIGGER_FIRED_BY_UPDATE(data->tg_event) ?
		data->tg_newtuple : data->tg_trigtuple;

	return heap_copy_tuple_as_datum(tuple, RelationGetDescr(data->tg_relation));
}

static void
evaluate(FencePlans *p, TriggerData *data, Datum *resource, int64 *token)
{
	Datum		row[] = {row_value(data)};
	bool		no_resource;
	bool		no_token;

	execute(p->resource, row);
	*resource = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &no_resource);
	*token = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, &no_token));
	if (no_resource || no_token)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 no_token ?
				 errmsg("row of table \"%s\" carries no fencing token",
						RelationGetRelationName(data->tg_relation)) :
				 errmsg("row of table \"%s\" names no resource",
						RelationGetRelationName(data->tg_relation)),
				 no_token ?
				 errdetail("Column \"%s\" is NULL.", data->tg_trigger->tgargs[ARG_TOKEN]) :
				 errdetail("Expression \"%s\" is NULL.", data->tg_trigger->tgargs[ARG_EXPRESSION])));
}

/*
 * fence_row() - AFTER ROW trigger of INSERT and UPDATE. Arguments: number of
 * the memory table, token column, expression of the resource.
 */
Datum
quorum_fence_row(PG_FUNCTION_ARGS)
{
	TriggerData *data = (TriggerData *) fcinfo->context;
	Relation	rel;
	Relation	memory;
	Oid			memory_oid;
	FencePlans *p;
	Oid			user;
	int			context;
	int			nest_level;
	Datum		resource;
	int64		token;

	check_call(fcinfo);
	if (replication_is_applying())
		PG_RETURN_POINTER(NULL);
	rel = data->tg_relation;
	memory_oid = tables_oid_of((uint32) strtoul(data->tg_trigger->tgargs[ARG_MEMORY], NULL, 10));
	memory = OidIsValid(memory_oid) ? try_relation_open(memory_oid, AccessShareLock) : NULL;
	if (memory == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("the table that remembers the fencing tokens of table \"%s\" is gone",
						RelationGetRelationName(rel)),
				 errhint("Use quorum.unfence_table and quorum.fence_table.")));

	GetUserIdAndSecContext(&user, &context);
	nest_level = NewGUCNestLevel();
	(void) set_config_option("search_path", "pg_catalog, pg_temp", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	SetUserIdAndSecContext(rel->rd_rel->relowner, context | SECURITY_LOCAL_USERID_CHANGE);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");

	p = plans_of(data->tg_trigger, rel, memory_oid);
	prepare(p, rel, memory, data->tg_trigger->tgargs[ARG_TOKEN]);
	evaluate(p, data, &resource, &token);
	SetUserIdAndSecContext(memory->rd_rel->relowner, context | SECURITY_LOCAL_USERID_CHANGE);
	pass(p, rel, resource, token);

	SPI_finish();
	relation_close(memory, AccessShareLock);
	SetUserIdAndSecContext(user, context);
	AtEOXact_GUC(true, nest_level);
	PG_RETURN_POINTER(NULL);
}
