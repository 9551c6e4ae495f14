/*-------------------------------------------------------------------------
 *
 * designate.c
 *		quorum.add_table and quorum.remove_table.
 *
 * Both take effect here at once and travel as a statement record, so that
 * every member does the same at the same place in the log. Numbers are given
 * out under an exclusive key of their own: of two members that add tables at
 * the same time one is refused. Rows of quorum.replicated_table are never
 * deleted, so no number comes back.
 *
 * The rows that a small table has here follow the statement in the same entry as
 * inserts; those of a larger one have gone ahead of it (tablecopy.h). The other
 * members insist on an empty table of the same definition:
 * they are asked before (inquiry.h), and what does not fit is an error here. Only
 * a member that cannot be asked, or changes its table just then, may find out
 * when it applies the entry; it then stops there and says why, and never merges.
 *
 * The catalog is written as the bootstrap superuser; who may call is checked
 * before.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/relation.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/catalog.h"
#include "catalog/namespace.h"
#include "catalog/objectaddress.h"
#include "catalog/pg_class.h"
#include "catalog/pg_constraint.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/relcache.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "node/node.h"
#include "replication/capture.h"
#include "replication/ddl_internal.h"
#include "replication/designate.h"
#include "replication/gate.h"
#include "replication/inquiry.h"
#include "replication/keys_internal.h"
#include "replication/ownsql.h"
#include "replication/replication.h"
#include "replication/sequences.h"
#include "replication/session.h"
#include "replication/tablecopy.h"
#include "replication/tables.h"

PG_FUNCTION_INFO_V1(quorum_add_table);
PG_FUNCTION_INFO_V1(quorum_remove_table);
PG_FUNCTION_INFO_V1(quorum_table_state);
PG_FUNCTION_INFO_V1(quorum_do_add_table);
PG_FUNCTION_INFO_V1(quorum_do_add_table_copied);
PG_FUNCTION_INFO_V1(quorum_do_remove_table);

/* ---------- SQL on our own catalog ---------- */

static uint32
next_table_id(void)
{
	OwnSql		saved;
	uint32		id;

	ownsql_begin(&saved);
	ownsql_run("LOCK TABLE quorum.replicated_table IN SHARE ROW EXCLUSIVE MODE",
			   0, NULL, NULL, NULL, SPI_OK_UTILITY);
	ownsql_run("SELECT (coalesce(max(table_id), 0) + 1)::text FROM quorum.replicated_table",
			   0, NULL, NULL, NULL, SPI_OK_SELECT);
	id = (uint32) strtoul(ownsql_text(0, 1), NULL, 10);
	ownsql_end(&saved);
	return id;
}

/* What all members must agree on, one line an item. */
char *
designate_definition(Oid relid)
{
	OwnSql		saved;
	MemoryContext caller = CurrentMemoryContext;
	Oid			types[] = {REGCLASSOID};
	Datum		values[] = {ObjectIdGetDatum(relid)};
	char	   *text;
	char	   *copy;

	ownsql_begin(&saved);
	ownsql_run("SELECT quorum._table_definition($1)", 1, types, values, NULL, SPI_OK_SELECT);
	text = ownsql_text(0, 1);
	copy = MemoryContextStrdup(caller, text ? text : "");
	ownsql_end(&saved);
	return copy;
}

static void
register_table(uint32 table_id, Relation rel)
{
	OwnSql		saved;
	Oid			types[] = {INT8OID, OIDOID, TEXTOID, TEXTOID};
	Datum		values[4];

	ownsql_begin(&saved);
	values[0] = Int64GetDatum(table_id);
	values[1] = ObjectIdGetDatum(RelationGetRelid(rel));
	values[2] = CStringGetTextDatum(get_namespace_name(RelationGetNamespace(rel)));
	values[3] = CStringGetTextDatum(RelationGetRelationName(rel));
	ownsql_run("INSERT INTO quorum.replicated_table (table_id, relid, schema_name, table_name) "
			   "VALUES ($1::int, $2, $3, $4)", 4, types, values, NULL, SPI_OK_INSERT);
	ownsql_end(&saved);
	tables_forget_caches();
	CommandCounterIncrement();
}

void
designate_clear(uint32 table_id)
{
	OwnSql		saved;
	Oid			types[] = {INT8OID};
	Datum		values[] = {Int64GetDatum(table_id)};

	ownsql_begin(&saved);
	ownsql_run("UPDATE quorum.replicated_table SET relid = NULL, removed_at = now() WHERE table_id = $1::int",
			   1, types, values, NULL, SPI_OK_UPDATE);
	ownsql_end(&saved);
	tables_forget_caches();
	CommandCounterIncrement();
}

/* ---------- triggers ---------- */

static char *
qualified_name(Relation rel)
{
	return quote_qualified_identifier(get_namespace_name(RelationGetNamespace(rel)),
									  RelationGetRelationName(rel));
}

static void
execute_own(const char *sql)
{
	OwnSql		saved;

	ownsql_begin(&saved);
	ddl_depth++;
	PG_TRY();
	{
		ownsql_run(sql, 0, NULL, NULL, NULL, SPI_OK_UTILITY);
	}
	PG_FINALLY();
	{
		ddl_depth--;
	}
	PG_END_TRY();
	ownsql_end(&saved);
}

/*
 * ALTER TABLE and DROP TRIGGER insist that nobody in this session has the
 * relation open: it is closed meanwhile, and opened anew with its triggers.
 */
static Relation
run_on_closed(Relation rel, int nstatements, char **statements)
{
	Oid			relid = RelationGetRelid(rel);

	relation_close(rel, NoLock);
	for (int i = 0; i < nstatements; i++)
		execute_own(statements[i]);
	CommandCounterIncrement();
	return relation_open(relid, NoLock);
}

static Relation
make_triggers(uint32 table_id, Relation rel)
{
	char	   *name = qualified_name(rel);
	char	   *statements[] = {
		psprintf("CREATE TRIGGER \"%s\" AFTER INSERT OR UPDATE OR DELETE ON %s "
				 "FOR EACH ROW EXECUTE FUNCTION quorum.capture('%u')",
				 CAPTURE_TRIGGER, name, table_id),
		psprintf("CREATE TRIGGER \"%s\" AFTER TRUNCATE ON %s "
				 "FOR EACH STATEMENT EXECUTE FUNCTION quorum.capture_truncate()",
				 CAPTURE_TRUNCATE_TRIGGER, name),
		psprintf("ALTER TABLE %s ENABLE ALWAYS TRIGGER \"%s\", ENABLE ALWAYS TRIGGER \"%s\"",
				 name, CAPTURE_TRIGGER, CAPTURE_TRUNCATE_TRIGGER)
	};

	return run_on_closed(rel, lengthof(statements), statements);
}

static Relation
drop_triggers(Relation rel)
{
	char	   *name = qualified_name(rel);
	static const char *const ours[] = {CAPTURE_TRIGGER, CAPTURE_TRUNCATE_TRIGGER};
	char	   *statements[lengthof(ours)];
	int			n = 0;

	for (int i = 0; i < lengthof(ours); i++)
		if (OidIsValid(get_trigger_oid(RelationGetRelid(rel), ours[i], true)))
			statements[n++] = psprintf("DROP TRIGGER \"%s\" ON %s", ours[i], name);
	return run_on_closed(rel, n, statements);
}

/* A restored dump brings triggers along that mean nothing here (tables.h). */
static Relation
drop_leftover_triggers(Relation rel)
{
	return tables_has_triggers(rel) ? drop_triggers(rel) : rel;
}

/* ---------- checks ---------- */

static void
check_permission(Oid relid)
{
	Oid			admin = get_role_oid("quorum_admin", true);

	if (superuser())
		return;
	if (!compat_owns_relation(relid, GetUserId()))
		aclcheck_error(ACLCHECK_NOT_OWNER, OBJECT_TABLE, get_rel_name(relid));
	if (!OidIsValid(admin) || !has_privs_of_role(GetUserId(), admin))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to change which tables are replicated"),
				 errhint("Besides owning the table one must be a member of role quorum_admin.")));
}

static void
check_kind(Relation rel)
{
	const char *name = RelationGetRelationName(rel);

	if (IsCatalogRelation(rel) || IsToastRelation(rel) ||
		tables_is_own_namespace(RelationGetNamespace(rel)))
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("system table \"%s\" cannot be replicated", name)));
	if (rel->rd_rel->relkind != RELKIND_RELATION &&
		rel->rd_rel->relkind != RELKIND_PARTITIONED_TABLE)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is not a table", name),
				 errhint("Only tables and partitioned tables can be replicated.")));
	if (rel->rd_rel->relpersistence != RELPERSISTENCE_PERMANENT)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is %s table and cannot be replicated", name,
						rel->rd_rel->relpersistence == RELPERSISTENCE_TEMP ? "a temporary" : "an unlogged"),
				 errhint("Only permanent tables can be replicated.")));
	if (rel->rd_rel->relispartition)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is a partition", name),
				 errhint("Add the partitioned table itself; its partitions come along.")));
	if (tables_id_of(rel) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("table \"%s\" is replicated already", name)));
}

static void
check_identity(Relation rel)
{
	if (!OidIsValid(tables_identity_index(rel)))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("table \"%s\" has no primary key and no usable replica identity",
						RelationGetRelationName(rel)),
				 errdetail("Its rows could not be told apart on the other servers."),
				 errhint("Add a primary key that is not deferrable, or a unique index on columns that are NOT NULL and "
						 "ALTER TABLE ... REPLICA IDENTITY USING INDEX.")));
}

/* Rows that refer to, or stand in, what is not replicated. */
static void
check_foreign_keys(Relation rel)
{
	ListCell   *lc;

	foreach(lc, RelationGetFKeyList(rel))
	{
		ForeignKeyCacheInfo *key = lfirst(lc);

		if (key->confrelid == RelationGetRelid(rel) || tables_id_of_oid(key->confrelid) != 0)
			continue;
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("table \"%s\" has a foreign key to table \"%s\", which is not replicated",
						RelationGetRelationName(rel), get_rel_name(key->confrelid)),
				 errdetail("Foreign key \"%s\" could not be kept on the other servers.",
						   get_constraint_name(key->conoid)),
				 errhint("Add table \"%s\" first.", get_rel_name(key->confrelid))));
	}
}

static void
check_here(void)
{
	node_require_member();
	if (!session_in_quorum_database())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("only tables of database \"%s\" can be replicated", quorum_database),
				 errhint("Connect to that database, or change quorum.database.")));
}

/* The foreign keys of replicated tables must stay within. */
static void
check_not_referenced(Relation rel)
{
	OwnSql		saved;
	Oid			types[] = {OIDOID};
	Datum		values[] = {ObjectIdGetDatum(RelationGetRelid(rel))};
	char	   *found;

	ownsql_begin(&saved);
	ownsql_run("SELECT r.schema_name || '.' || r.table_name FROM pg_catalog.pg_constraint c "
			   "JOIN quorum.replicated_table r ON r.relid = c.conrelid "
			   "WHERE c.contype = 'f' AND c.confrelid = $1 AND c.conrelid <> $1 LIMIT 1",
			   1, types, values, NULL, SPI_OK_SELECT);
	found = ownsql_text(0, 1);
	if (found)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("replicated table \"%s\" has a foreign key to table \"%s\"",
						found, RelationGetRelationName(rel)),
				 errhint("Remove that table from the cluster first, or drop the foreign key.")));
	ownsql_end(&saved);
}

/* ---------- the other members, asked before ---------- */

/*
 * _table_state(asker, schema, name) - what a member says of its table, under an
 * inquiry: "missing", "rows", or "empty" and its definition. NULL where it was
 * asked.
 */
Datum
quorum_table_state(PG_FUNCTION_ARGS)
{
	char	   *schema = text_to_cstring(PG_GETARG_TEXT_PP(1));
	char	   *name = text_to_cstring(PG_GETARG_TEXT_PP(2));
	Oid			namespace_id;
	Oid			relid;
	OwnSql		saved;
	bool		has_rows;
	char		kind;

	if (PG_GETARG_INT64(0) == node_id())
		PG_RETURN_NULL();
	namespace_id = get_namespace_oid(schema, true);
	relid = OidIsValid(namespace_id) ? get_relname_relid(name, namespace_id) : InvalidOid;
	kind = OidIsValid(relid) ? get_rel_relkind(relid) : '\0';
	if (kind != RELKIND_RELATION && kind != RELKIND_PARTITIONED_TABLE)
		PG_RETURN_TEXT_P(cstring_to_text("missing"));
	ownsql_begin(&saved);
	ownsql_look(psprintf("SELECT 1 FROM %s LIMIT 1", quote_qualified_identifier(schema, name)), 0, NULL, NULL);
	has_rows = SPI_processed > 0;
	ownsql_end(&saved);
	if (has_rows)
		PG_RETURN_TEXT_P(cstring_to_text("rows"));
	PG_RETURN_TEXT_P(cstring_to_text(psprintf("empty %s", designate_definition(relid))));
}

static void
check_answer(Relation rel, const InquiryAnswer *answer, const char *definition)
{
	const char *name = RelationGetRelationName(rel);
	const char *state = answer->nrows > 0 ? answer->rows[0] : NULL;

	if (!answer->answered)
	{
		ereport(WARNING,
				(errmsg("member \"%s\" could not be asked about its table \"%s\": %s",
						answer->node_name, name, answer->problem),
				 errhint("Without an empty table of the same definition it will stop applying there.")));
		return;
	}
	if (state == NULL)
		return;
	if (strcmp(state, "missing") == 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("table \"%s\" does not exist on member \"%s\"", name, answer->node_name),
				 errhint("Create it there, empty and with the same definition, or create it everywhere with quorum.execute_ddl.")));
	if (strcmp(state, "rows") == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table \"%s\" has rows on member \"%s\"", name, answer->node_name),
				 errdetail("The rows of a new replicated table come from the member where quorum.add_table is called; "
						   "rows of two members are never merged."),
				 errhint("Empty the table there, or call quorum.add_table there and empty it here.")));
	if (strncmp(state, "empty ", 6) != 0 || strcmp(state + 6, definition) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table \"%s\" is defined differently on member \"%s\"", name, answer->node_name),
				 errdetail("Here: %s; there: %s.", definition, strncmp(state, "empty ", 6) == 0 ? state + 6 : state)));
}

static bool
is_alone(void)
{
	OwnSql		saved;
	bool		alone;

	ownsql_begin(&saved);
	ownsql_look("SELECT 1 FROM quorum._members()", 0, NULL, NULL);
	alone = SPI_processed <= 1;
	ownsql_end(&saved);
	return alone;
}

/* A table that this transaction has made is not there yet on the others. */
static void
check_others(Relation rel, const char *definition)
{
	List	   *answers;
	ListCell   *lc;
	uint64		index;

	if (rel->rd_createSubid != InvalidSubTransactionId || is_alone())
		return;
	answers = inquiry_ask(psprintf("SELECT quorum._table_state(%u, %s, %s)", node_id(),
								   quote_literal_cstr(get_namespace_name(RelationGetNamespace(rel))),
								   quote_literal_cstr(RelationGetRelationName(rel))),
						  NIL, &index);
	foreach(lc, answers)
		check_answer(rel, lfirst(lc), definition);
}

/* The edge of what is replicated: told once the table is in. */
static void
warn_of_references(Relation rel)
{
	OwnSql		saved;
	Oid			types[] = {OIDOID};
	Datum		values[] = {ObjectIdGetDatum(RelationGetRelid(rel))};
	bool		found;

	ownsql_begin(&saved);
	ownsql_run("SELECT 1 FROM pg_catalog.pg_constraint c JOIN pg_catalog.pg_class r ON r.oid = c.conrelid "
			   "WHERE c.contype = 'f' AND c.confrelid = $1 AND c.conrelid <> $1 AND NOT r.relispartition "
			   "AND NOT EXISTS (SELECT FROM quorum.replicated_table t WHERE t.relid = c.conrelid) LIMIT 1",
			   1, types, values, NULL, SPI_OK_SELECT);
	found = SPI_processed > 0;
	ownsql_end(&saved);
	if (found)
		ddl_warn_of_edge(RelationGetRelationName(rel));
}

/* ---------- here ---------- */

/*
 * add_table(rel) - every row of rel, now and later, is the same on all members.
 */
Datum
quorum_add_table(PG_FUNCTION_ARGS)
{
	Oid			relid = PG_GETARG_OID(0);
	Relation	rel;

	check_here();
	/* writers are kept out later, maybe much later */
	LockRelationOid(relid, ShareUpdateExclusiveLock);
	check_permission(relid);
	designate_add(relid);
	rel = relation_open(relid, NoLock);
	warn_of_references(rel);
	relation_close(rel, NoLock);
	PG_RETURN_VOID();
}

void
designate_add(Oid relid)
{
	Relation	rel;
	uint32		table_id;
	char	   *definition;
	TableCopy  *copy = NULL;
	StringInfoData statement;

	rel = relation_open(relid, ShareUpdateExclusiveLock);
	check_kind(rel);
	check_identity(rel);
	check_foreign_keys(rel);
	mixed_replicated_change();
	definition = designate_definition(relid);
	check_others(rel, definition);
	if (tablecopy_is_due(rel))
		copy = tablecopy_begin(rel);
	LockRelationOid(relid, ShareRowExclusiveLock);
	if (copy)
	{
		tablecopy_finish(copy);
		check_others(rel, definition);	/* that took a while */
	}

	table_id = next_table_id();
	rel = make_triggers(table_id, drop_leftover_triggers(rel));
	register_table(table_id, rel);
	sequences_adopt(relid);
	sequences_warn_of_others(relid);

	initStringInfo(&statement);
	appendStringInfo(&statement, "SELECT quorum.%s(%u, %s, %s, %s", copy ? "_add_table_copied" : "_add_table", table_id,
					 quote_literal_cstr(get_namespace_name(RelationGetNamespace(rel))),
					 quote_literal_cstr(RelationGetRelationName(rel)),
					 quote_literal_cstr(definition));
	if (copy)
		appendStringInfo(&statement, ", %s, %u", quote_literal_cstr(tablecopy_id(copy)), tablecopy_chunks(copy));
	appendStringInfoChar(&statement, ')');
	keys_add_catalog();
	keys_add_table_id(table_id, relid);
	ddl_put_statement(statement.data);
	if (!copy)
		capture_existing_rows(rel);
	relation_close(rel, NoLock);
}

/*
 * remove_table(rel) - rel is an ordinary table on each member, rows as they are.
 */
Datum
quorum_remove_table(PG_FUNCTION_ARGS)
{
	Oid			relid = PG_GETARG_OID(0);
	Relation	rel;
	uint32		table_id;

	check_here();
	gate_close(list_make1_oid(relid));
	rel = relation_open(relid, ShareRowExclusiveLock);
	table_id = tables_is_own_namespace(RelationGetNamespace(rel)) ? 0 : tables_id_of(rel);
	if (table_id == 0 || rel->rd_rel->relispartition)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table \"%s\" is not a replicated table", RelationGetRelationName(rel)),
				 errhint("quorum.tables lists them.")));
	check_permission(relid);
	check_not_referenced(rel);
	mixed_replicated_change();

	keys_add_catalog();
	keys_add_table_id(table_id, relid);
	ddl_put_statement(psprintf("SELECT quorum._remove_table(%u)", table_id));
	drop_triggers(rel);
	sequences_release(relid);
	designate_clear(table_id);
	relation_close(rel, NoLock);
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
				 errhint("Use quorum.add_table or quorum.remove_table.")));
}

static void
check_same_definition(Relation rel, const char *wanted)
{
	char	   *have = designate_definition(RelationGetRelid(rel));

	if (strcmp(have, wanted) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table \"%s\" is defined differently on this server",
						RelationGetRelationName(rel)),
				 errdetail("Here: %s; in the cluster: %s.", have, wanted),
				 errhint("Change the table on this server to that definition; applying goes on by itself.")));
}

/*
 * The rows follow in the same entry, or have come before. Where they came from they are there
 * already, when the entry is applied because a crash took the commit back.
 */
static void
check_empty(Relation rel)
{
	OwnSql		saved;
	bool		has_rows;

	ownsql_begin(&saved);
	if (replication_is_own_entry())
		ownsql_run(psprintf("DELETE FROM %s", qualified_name(rel)),
				   0, NULL, NULL, NULL, SPI_OK_DELETE);
	ownsql_run(psprintf("SELECT 1 FROM %s LIMIT 1", qualified_name(rel)),
			   0, NULL, NULL, NULL, SPI_OK_SELECT);
	has_rows = SPI_processed > 0;
	ownsql_end(&saved);
	if (has_rows)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table \"%s\" has rows on this server", RelationGetRelationName(rel)),
				 errdetail("Its rows come from the member where quorum.add_table was called; "
						   "rows of two members are never merged."),
				 errhint("Empty the table on this server; applying goes on by itself.")));
}

/* copy: which one has the rows; NULL: they follow. */
static void
add_here(FunctionCallInfo fcinfo, const char *copy, uint32 chunks)
{
	uint32		table_id = (uint32) PG_GETARG_INT32(0);
	char	   *schema = text_to_cstring(PG_GETARG_TEXT_PP(1));
	char	   *name = text_to_cstring(PG_GETARG_TEXT_PP(2));
	char	   *definition = text_to_cstring(PG_GETARG_TEXT_PP(3));
	Oid			namespace_id = get_namespace_oid(schema, true);
	Oid			relid = OidIsValid(namespace_id) ? get_relname_relid(name, namespace_id) : InvalidOid;
	Relation	rel;

	require_applying("_add_table");
	if (!OidIsValid(relid))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("table \"%s.%s\" does not exist on this server", schema, name),
				 errdetail("It became a replicated table of the cluster: %s.", definition),
				 errhint("Create it, empty, with that definition; applying goes on by itself.")));
	rel = relation_open(relid, ShareRowExclusiveLock);
	check_kind(rel);
	check_same_definition(rel, definition);
	check_identity(rel);
	check_empty(rel);
	rel = drop_leftover_triggers(rel);
	register_table(table_id, rel);
	if (copy)
	{
		tablecopy_load(copy, chunks, table_id);
		tablecopy_note_added(copy);
	}
	rel = make_triggers(table_id, rel);
	sequences_adopt(relid);
	relation_close(rel, NoLock);
}

Datum
quorum_do_add_table(PG_FUNCTION_ARGS)
{
	add_here(fcinfo, NULL, 0);
	PG_RETURN_VOID();
}

/* _add_table_copied(table_id, schema, name, definition, copy_id, chunks) */
Datum
quorum_do_add_table_copied(PG_FUNCTION_ARGS)
{
	add_here(fcinfo, text_to_cstring(PG_GETARG_TEXT_PP(4)), (uint32) PG_GETARG_INT32(5));
	PG_RETURN_VOID();
}

void
designate_remove_here(uint32 table_id)
{
	Oid			relid = tables_oid_of(table_id);
	Relation	rel = OidIsValid(relid) ? try_relation_open(relid, ShareRowExclusiveLock) : NULL;

	if (rel)
	{
		rel = drop_triggers(rel);
		sequences_release(relid);
		relation_close(rel, NoLock);
	}
	designate_clear(table_id);
}

Datum
quorum_do_remove_table(PG_FUNCTION_ARGS)
{
	require_applying("_remove_table");
	designate_remove_here((uint32) PG_GETARG_INT32(0));
	PG_RETURN_VOID();
}
