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

/* Roots come first among the relations of a table. In a transaction. */
void
image_check(ImageSource *source, List *statements)
{
	ListCell   *lc;

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
