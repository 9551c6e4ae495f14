/*-------------------------------------------------------------------------
 *
 * schema.c
 *		quorum.add_schema and quorum.remove_schema.
 *
 * Which schemas those are is in quorum.replicated_schema, by name, written by
 * statements of the log as quorum.replicated_table is. What makes a table of
 * such a schema a replicated one:
 *
 *	- those that are there: add_schema, in the order in which foreign keys let it;
 *	- CREATE TABLE: travels, whatever quorum.replicate_ddl says but "off", and is
 *	  followed by what quorum.add_table does, in the same entry (ddl.c);
 *	- ALTER TABLE ... SET SCHEMA into it: the table is added first, and is then
 *	  moved as a replicated table (ddl.c).
 *
 * What cannot be replicated for want of a key is refused there and then.
 * Temporary, unlogged and foreign tables, and partitions, which come with their
 * root, are left alone.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/xact.h"
#include "catalog/catalog.h"
#include "catalog/namespace.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "compat.h"
#include "node/node.h"
#include "replication/capture.h"
#include "replication/ddl.h"
#include "replication/designate.h"
#include "replication/keys.h"
#include "replication/keys_internal.h"
#include "replication/ownsql.h"
#include "replication/replication.h"
#include "replication/schema.h"
#include "replication/session.h"
#include "replication/tables.h"

PG_FUNCTION_INFO_V1(quorum_add_schema);
PG_FUNCTION_INFO_V1(quorum_remove_schema);
PG_FUNCTION_INFO_V1(quorum_do_add_schema);
PG_FUNCTION_INFO_V1(quorum_do_remove_schema);

/* ---------- our catalog ---------- */

static bool
is_known(const char *name)
{
	OwnSql		saved;
	Oid			types[] = {TEXTOID};
	Datum		values[] = {CStringGetTextDatum(name)};
	bool		known;

	ownsql_begin(&saved);
	ownsql_run("SELECT 1 FROM quorum.replicated_schema WHERE schema_name = $1",
			   1, types, values, NULL, SPI_OK_SELECT);
	known = SPI_processed > 0;
	ownsql_end(&saved);
	return known;
}

static void
change(const char *sql, const char *a, const char *b, int expected)
{
	OwnSql		saved;
	Oid			types[] = {TEXTOID, TEXTOID};
	Datum		values[2];

	values[0] = CStringGetTextDatum(a);
	values[1] = CStringGetTextDatum(b ? b : "");
	ownsql_begin(&saved);
	ownsql_run(sql, b ? 2 : 1, types, values, NULL, expected);
	ownsql_end(&saved);
	CommandCounterIncrement();
}

static void
note_schema(const char *name)
{
	change("INSERT INTO quorum.replicated_schema (schema_name) VALUES ($1) ON CONFLICT DO NOTHING",
		   name, NULL, SPI_OK_INSERT);
}

void
schema_renamed(const char *from, const char *to)
{
	change("UPDATE quorum.replicated_schema SET schema_name = $2 WHERE schema_name = $1",
		   from, to, SPI_OK_UPDATE);
}

void
schema_dropped(const char *name)
{
	change("DELETE FROM quorum.replicated_schema WHERE schema_name = $1",
		   name, NULL, SPI_OK_DELETE);
}

/* ---------- what others ask ---------- */

bool
schema_is_replicated(Oid schema)
{
	char	   *name = get_namespace_name(schema);

	return name != NULL && node_is_member() && OidIsValid(tables_catalog_oid()) && is_known(name);
}

bool
schema_is_replicated_name(const RangeVar *name)
{
	Oid			schema;

	/* errors are the statement's own to raise */
	if (name->schemaname)
		schema = get_namespace_oid(name->schemaname, true);
	else
	{
		List	   *path = fetch_search_path(false);

		schema = path == NIL ? InvalidOid : linitial_oid(path);
	}
	return OidIsValid(schema) && schema_is_replicated(schema);
}

static List *
tables_of(Oid schema, const char *condition)
{
	OwnSql		saved;
	Oid			types[] = {OIDOID};
	Datum		values[] = {ObjectIdGetDatum(schema)};
	MemoryContext caller = CurrentMemoryContext;
	List	   *result = NIL;

	ownsql_begin(&saved);
	ownsql_run(psprintf("SELECT c.oid FROM pg_class c LEFT JOIN quorum.replicated_table r ON r.relid = c.oid "
						"WHERE c.relnamespace = $1 AND c.relkind IN ('r', 'p') AND c.relpersistence = 'p' "
						"AND NOT c.relispartition AND %s ORDER BY c.relname COLLATE \"C\"", condition),
			   1, types, values, NULL, SPI_OK_SELECT);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool		isnull;
		Datum		relid = SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull);
		MemoryContext old = MemoryContextSwitchTo(caller);

		result = lappend_oid(result, DatumGetObjectId(relid));
		MemoryContextSwitchTo(old);
	}
	ownsql_end(&saved);
	return result;
}

List *
schema_replicated_tables(Oid schema)
{
	return node_is_member() && OidIsValid(tables_catalog_oid()) ?
		tables_of(schema, "r.relid IS NOT NULL") : NIL;
}

/* ---------- here ---------- */

static Oid
check_schema(const char *name)
{
	Oid			schema = get_namespace_oid(name, false);
	Oid			admin = get_role_oid("quorum_admin", true);

	node_require_member();
	if (!session_in_quorum_database())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("only schemas of database \"%s\" can be replicated", quorum_database),
				 errhint("Connect to that database, or change quorum.database.")));
	if (IsCatalogNamespace(schema) || IsToastNamespace(schema) || isAnyTempNamespace(schema) ||
		tables_is_own_namespace(schema) || strcmp(name, "information_schema") == 0)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("system schema \"%s\" cannot be replicated", name)));
	if (superuser())
		return schema;
	if (!compat_owns_schema(schema, GetUserId()))
		aclcheck_error(ACLCHECK_NOT_OWNER, OBJECT_SCHEMA, name);
	if (!OidIsValid(admin) || !has_privs_of_role(GetUserId(), admin))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to change which tables are replicated"),
				 errhint("Besides owning the schema one must be a member of role quorum_admin.")));
	return schema;
}

/* Do its foreign keys point to what is replicated already, or to itself? */
static bool
may_be_added(Oid relid)
{
	Relation	rel = relation_open(relid, AccessShareLock);
	bool		may = true;
	ListCell   *lc;

	foreach(lc, RelationGetFKeyList(rel))
	{
		ForeignKeyCacheInfo *key = lfirst(lc);

		if (key->confrelid != relid && tables_id_of_oid(key->confrelid) == 0)
			may = false;
	}
	relation_close(rel, AccessShareLock);
	return may;
}

static void
add_tables(List *relids)
{
	while (relids != NIL)
	{
		List	   *left = NIL;
		ListCell   *lc;

		foreach(lc, relids)
		{
			if (may_be_added(lfirst_oid(lc)))
				designate_add(lfirst_oid(lc));
			else
				left = lappend_oid(left, lfirst_oid(lc));
		}
		/* none was: let the first one say what is wrong with it */
		if (list_length(left) == list_length(relids))
			designate_add(linitial_oid(left));
		relids = left;
	}
}

/*
 * add_schema(name) - every table of the schema, now and later, is replicated.
 */
Datum
quorum_add_schema(PG_FUNCTION_ARGS)
{
	char	   *name = NameStr(*PG_GETARG_NAME(0));
	Oid			schema = check_schema(name);

	mixed_replicated_change();
	note_schema(name);
	keys_add_catalog();
	ddl_put_statement(psprintf("SELECT quorum._add_schema(%s)", quote_literal_cstr(name)));
	add_tables(tables_of(schema, "r.relid IS NULL"));
	PG_RETURN_VOID();
}

/*
 * remove_schema(name) - later tables of the schema are ordinary ones; those that
 * are replicated stay so.
 */
Datum
quorum_remove_schema(PG_FUNCTION_ARGS)
{
	char	   *name = NameStr(*PG_GETARG_NAME(0));

	(void) check_schema(name);
	if (!is_known(name))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("schema \"%s\" is not a replicated schema", name),
				 errhint("quorum.replicated_schema lists them.")));
	mixed_replicated_change();
	schema_dropped(name);
	keys_add_catalog();
	ddl_put_statement(psprintf("SELECT quorum._remove_schema(%s)", quote_literal_cstr(name)));
	PG_RETURN_VOID();
}

/* ---------- on the other members, in the apply worker ---------- */

static void
require_applying(const char *function)
{
	if (!replication_is_applying())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("quorum.%s is part of the log and cannot be called", function),
				 errhint("Use quorum.add_schema or quorum.remove_schema.")));
}

Datum
quorum_do_add_schema(PG_FUNCTION_ARGS)
{
	char	   *name = NameStr(*PG_GETARG_NAME(0));

	require_applying("_add_schema");
	if (!OidIsValid(get_namespace_oid(name, true)))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_SCHEMA),
				 errmsg("schema \"%s\" does not exist on this server", name),
				 errdetail("It became a replicated schema of the cluster."),
				 errhint("Create it; applying goes on by itself.")));
	note_schema(name);
	PG_RETURN_VOID();
}

Datum
quorum_do_remove_schema(PG_FUNCTION_ARGS)
{
	require_applying("_remove_schema");
	schema_dropped(NameStr(*PG_GETARG_NAME(0)));
	PG_RETURN_VOID();
}
