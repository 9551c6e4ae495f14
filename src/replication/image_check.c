/*-------------------------------------------------------------------------
 *
 * image_check.c
 *		What stands in the way of an image, said before anything is done.
 *
 * Run by the session that wants to join, while its server is nobody's member
 * yet, and once more by the apply worker. Tables of the same name are used if
 * they are the same and empty, and are an error otherwise: rows are never merged
 * by luck.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_class.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "replication/image_guard.h"
#include "replication/image_internal.h"
#include "replication/tables.h"

/* An error leaves user and settings to the end of the (sub)transaction. */
char *
image_execute(const char *sql)
{
	MemoryContext caller = CurrentMemoryContext;
	Oid			user;
	int			context;
	int			nest_level;
	char	   *value = NULL;

	GetUserIdAndSecContext(&user, &context);
	SetUserIdAndSecContext(BOOTSTRAP_SUPERUSERID, context | SECURITY_LOCAL_USERID_CHANGE);
	nest_level = NewGUCNestLevel();
	(void) set_config_option("search_path", "pg_catalog", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	(void) set_config_option("jit", "off", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	PushActiveSnapshot(GetLatestSnapshot());
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	if (SPI_execute(sql, false, 0) < 0)
		elog(ERROR, "could not run \"%s\"", sql);
	if (SPI_tuptable != NULL && SPI_processed > 0)
	{
		value = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
		if (value)
			value = MemoryContextStrdup(caller, value);
	}
	SPI_finish();
	PopActiveSnapshot();
	AtEOXact_GUC(true, nest_level);
	SetUserIdAndSecContext(user, context);
	return value;
}

static Oid
relation_here(const char *schema, const char *name)
{
	Oid			namespace_id = get_namespace_oid(schema, true);

	return OidIsValid(namespace_id) ? get_relname_relid(name, namespace_id) : InvalidOid;
}

static void
check_table(const ImageRelation *r, Oid relid)
{
	char	   *name = quote_qualified_identifier(r->schema, r->name);
	char	   *definition;

	if (get_rel_relkind(relid) != r->relkind)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_TABLE),
				 errmsg("\"%s\" is a replicated table of the cluster, and something else on this server", name),
				 errhint("Rename or drop it here.")));
	if (tables_id_of_oid(relid) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_TABLE),
				 errmsg("table \"%s\" on this server is left from a cluster that it was a member of", name),
				 errhint("Drop it here; its rows come with the image.")));
	definition = image_execute(psprintf("SELECT quorum._table_definition(%u)", relid));
	if (definition == NULL || strcmp(definition, r->definition) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_TABLE),
				 errmsg("table \"%s\" of this server is defined differently in the cluster", name),
				 errdetail("Here: %s; in the cluster: %s.", definition ? definition : "", r->definition),
				 errhint("Rename or drop it here.")));
	if (image_execute(psprintf("SELECT 1 FROM %s LIMIT 1", name)) != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_TABLE),
				 errmsg("table \"%s\" of this server has rows", name),
				 errdetail("It is a replicated table of the cluster; rows of two servers are never merged."),
				 errhint("Empty, rename or drop it here.")));
}

static const ImageRelation *
root_of(const ImageSource *source, const ImageRelation *r)
{
	ListCell   *lc;

	foreach(lc, source->relations)
	{
		const ImageRelation *other = lfirst(lc);

		if (other->is_root && other->table_id == r->table_id)
			return other;
	}
	return NULL;
}

/*
 * Where text compares in another way, a partition's bound, a CHECK or a key's range
 * means other rows. Spelling does not count: en_US.UTF-8 and en_US.utf8 are one.
 */
static void
check_locale(const ImageSource *source)
{
	static const char *const query =
		"SELECT concat_ws(', ', lower(replace(d.datcollate, '-', '')), lower(replace(d.datctype, '-', '')), "
		"CASE to_jsonb(d) ->> 'datlocprovider' WHEN 'i' THEN 'ICU' WHEN 'b' THEN 'builtin' END, "
		"coalesce(to_jsonb(d) ->> 'datlocale', to_jsonb(d) ->> 'daticulocale')) "
		"FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()";
	char	   *there = image_value(image_query(source->conn, query), 0, 0);
	char	   *here = image_execute(query);

	if (strcmp(here, there) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("database \"%s\" of member \"%s\" has another locale than the one of this server",
						quorum_database, source->sql.name),
				 errdetail("Here: %s; in the cluster: %s.", here, there),
				 errhint("Create this server's database with the same locale.")));
}

/* Those that types and operator classes of the tables come from. */
static void
check_extensions(const ImageSource *source)
{
	ImageRows  *rows = image_query(source->conn,
								   "SELECT DISTINCT e.extname FROM ("
								   "SELECT 'pg_type'::regclass, coalesce(nullif(t.typelem, 0), t.oid) FROM quorum._image_relation r "
								   "JOIN pg_attribute a ON a.attrelid = r.relid AND a.attnum > 0 AND NOT a.attisdropped "
								   "JOIN pg_type t ON t.oid = a.atttypid "
								   "UNION ALL SELECT 'pg_opclass'::regclass, unnest(i.indclass) FROM quorum._image_relation r "
								   "JOIN pg_index i ON i.indrelid = r.relid) used(class, id) "
								   "JOIN pg_depend d ON d.classid = used.class AND d.objid = used.id AND d.deptype = 'e' "
								   "JOIN pg_extension e ON d.refclassid = 'pg_extension'::regclass AND e.oid = d.refobjid "
								   "WHERE e.extname <> 'pg_quorum' ORDER BY 1");
	StringInfoData missing;

	initStringInfo(&missing);
	for (int i = 0; i < rows->n; i++)
	{
		char	   *name = image_value(rows, i, 0);

		if (image_execute(psprintf("SELECT 1 FROM pg_available_extensions WHERE name = %s",
								   quote_literal_cstr(name))) == NULL)
			appendStringInfo(&missing, "%s\"%s\"", missing.len > 0 ? ", " : "", name);
	}
	if (missing.len > 0)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("extensions that replicated tables need are not installed on this server: %s", missing.data),
				 errhint("Install their files; CREATE EXTENSION is run by itself.")));
}

/* Roots come first among the relations of a table. In a transaction. */
void
image_check(ImageSource *source, List *statements)
{
	ListCell   *lc;

	check_locale(source);
	check_extensions(source);
	foreach(lc, source->relations)
	{
		ImageRelation *r = lfirst(lc);
		Oid			relid = relation_here(r->schema, r->name);
		const ImageRelation *root = root_of(source, r);

		r->here = OidIsValid(relid);
		if (!r->here || image_guard_stands(relid))
			continue;			/* what is left of a former attempt goes first */
		if (r->is_root)
			check_table(r, relid);
		else if (root && !root->here && (r->relkind != RELKIND_SEQUENCE || r->owner_table))
			ereport(ERROR,
					(errcode(ERRCODE_DUPLICATE_TABLE),
					 errmsg("\"%s\" exists on this server, but table \"%s\", which it belongs to in the cluster, does not",
							quote_qualified_identifier(r->schema, r->name),
							quote_qualified_identifier(root->schema, root->name)),
					 errhint("Rename or drop it here.")));
	}
	image_check_roles(statements);
}
