/*-------------------------------------------------------------------------
 *
 * image_state.c
 *		What an image has besides the rows of replicated tables: the extension's
 *		own tables that are part of the state, and sequences.
 *
 * quorum._state_table lists those tables: all in schema quorum that are not listed
 * as a server's own. Columns of theirs that hold OIDs of relations are sent as
 * names and looked up here, so they come after the tables they name.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "compat.h"
#include "replication/image_internal.h"
#include "replication/sequences.h"
#include "replication/tables.h"

static bool
contains(List *names, const char *name)
{
	ListCell   *lc;

	foreach(lc, names)
		if (strcmp(lfirst(lc), name) == 0)
			return true;
	return false;
}

/* Few rows, with names of relations in them. */
static void
load_with_relations(PGconn *conn, const char *table, List *columns, List *relid_columns)
{
	StringInfoData query;
	ImageRows  *rows;
	ListCell   *lc;

	initStringInfo(&query);
	appendStringInfoString(&query, "SELECT ");
	foreach(lc, columns)
	{
		const char *column = quote_identifier(lfirst(lc));

		appendStringInfoString(&query, foreach_current_index(lc) > 0 ? ", " : "");
		if (contains(relid_columns, lfirst(lc)))
			appendStringInfo(&query, "(SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname) "
							 "FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = t.%s)", column);
		else
			appendStringInfo(&query, "t.%s::text", column);
	}
	appendStringInfo(&query, " FROM %s t", table);
	rows = image_query(conn, query.data);

	for (int i = 0; i < rows->n; i++)
	{
		resetStringInfo(&query);
		appendStringInfo(&query, "INSERT INTO %s (%s) VALUES (", table, image_column_list(columns));
		foreach(lc, columns)
		{
			int			k = foreach_current_index(lc);
			const char *value = image_value(rows, i, k);

			appendStringInfoString(&query, k > 0 ? ", " : "");
			if (value == NULL)
				appendStringInfoString(&query, "NULL");
			else if (contains(relid_columns, lfirst(lc)))
				appendStringInfo(&query, "to_regclass(%s)::oid", quote_literal_cstr(value));
			else
				appendStringInfoString(&query, quote_literal_cstr(value));
		}
		appendStringInfoChar(&query, ')');
		(void) image_execute(query.data);
	}
}

static void
load_rows(PGconn *conn, const char *table, List *columns)
{
	Oid			relid = DatumGetObjectId(strtoul(image_execute(psprintf("SELECT %s::regclass::oid::text",
																			quote_literal_cstr(table))), NULL, 10));
	Relation	rel = table_open(relid, RowExclusiveLock);

	(void) image_copy_rows(conn, psprintf("COPY %s (%s) TO STDOUT", table, image_column_list(columns)),
						   rel, columns, false);
	table_close(rel, NoLock);
}

/* Replaces what is here. In a transaction. */
void
image_load_state(PGconn *conn)
{
	ImageRows  *tables = image_query(conn,
									 "SELECT rel::text, relid_columns, columns FROM quorum._state_table ORDER BY 1");

	for (int i = 0; i < tables->n; i++)
	{
		const char *table = image_value(tables, i, 0);
		List	   *relid_columns = image_text_array(image_value(tables, i, 1));
		List	   *columns = image_text_array(image_value(tables, i, 2));

		(void) image_execute(psprintf("DELETE FROM %s", table));
		if (relid_columns != NIL)
			load_with_relations(conn, table, columns, relid_columns);
		else
			load_rows(conn, table, columns);
		CommandCounterIncrement();
	}
	tables_forget_caches();
	CommandCounterIncrement();
}

/* ---------- sequences ---------- */

static Oid
sequence_here(const ImageRelation *r)
{
	Oid			namespace_id;
	char	   *name = NULL;

	if (r->owner_table)
		name = image_execute(psprintf("SELECT pg_get_serial_sequence(%s, %s)::regclass::oid",
									  quote_literal_cstr(quote_qualified_identifier(r->owner_schema, r->owner_table)),
									  quote_literal_cstr(r->owner_column)));
	if (name)
		return (Oid) strtoul(name, NULL, 10);
	namespace_id = get_namespace_oid(r->schema, true);
	return OidIsValid(namespace_id) ? get_relname_relid(r->name, namespace_id) : InvalidOid;
}

/*
 * Past everything that the source has handed out, and then into this member's
 * class of values. The tables are filled.
 */
void
image_set_sequences(const ImageSource *source)
{
	ListCell   *lc;

	foreach(lc, source->relations)
	{
		const ImageRelation *r = lfirst(lc);
		Oid			seq;

		if (r->relkind != RELKIND_SEQUENCE || r->last_value == NULL)
			continue;
		seq = sequence_here(r);
		if (!OidIsValid(seq) || get_rel_relkind(seq) != RELKIND_SEQUENCE)
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_TABLE),
					 errmsg("sequence \"%s.%s\" does not exist on this server", r->schema, r->name)));
		(void) image_execute(psprintf("SELECT setval(%u, greatest(%s, coalesce(pg_sequence_last_value(%u), %s)))",
									  seq, r->last_value, seq, r->last_value));
	}
	foreach(lc, source->relations)
	{
		const ImageRelation *r = lfirst(lc);

		if (r->relkind != RELKIND_SEQUENCE)
			sequences_adopt(get_relname_relid(r->name, get_namespace_oid(r->schema, false)));
	}
}
