/*-------------------------------------------------------------------------
 *
 * image_replace.c
 *		An image for a member that has tables: it fell behind the others' logs.
 *
 * Its tables are old, but consistent, and are read meanwhile. So everything
 * happens in one transaction: who reads sees the old state until it commits, and
 * the new one from then on, never half of each.
 *
 * Where a table is defined here as it is at the source (quorum._table_fingerprint
 * says so) only its rows are brought over: into a new heap, as CLUSTER makes
 * one, which takes the old one's place at the end. Readers are locked out for
 * that end only, which makes the indexes anew: ACCESS EXCLUSIVE, as for CLUSTER.
 *
 * Where schema changes were missed the table is dropped and made again from the
 * source's dump, and locked from then on. What depends on it here without
 * being replicated itself (a view, say) stands in the way, and the image waits
 * until it is gone: nothing is dropped that is not ours. Tables with foreign keys
 * to such a one are made again as well.
 *
 * A crash on the way leaves the old state, and so does an error.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/multixact.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "commands/cluster.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "parser/parse_type.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "replication/conflict.h"
#include "replication/designate.h"
#include "replication/guests.h"
#include "replication/image_internal.h"
#include "replication/image_stale.h"
#include "replication/tables.h"

/* What happens to a replicated table. */
typedef struct Replacement
{
	const ImageSource *source;
	List	   *anew;			/* numbers of tables to be made (again) */
	List	   *swaps;			/* of Swap */
} Replacement;

typedef struct Swap
{
	Oid			old_heap;
	Oid			new_heap;
} Swap;

static Oid
oid_of(const char *schema, const char *name)
{
	Oid			namespace_id = get_namespace_oid(schema, true);

	return OidIsValid(namespace_id) ? get_relname_relid(name, namespace_id) : InvalidOid;
}

static const ImageRelation *
root_named(const ImageSource *source, const char *schema, const char *name)
{
	ListCell   *lc;

	foreach(lc, source->relations)
	{
		const ImageRelation *r = lfirst(lc);

		if (strcmp(r->name, name) == 0 && strcmp(r->schema, schema) == 0)
			return r;
	}
	return NULL;
}

/* ---------- what is to be done ---------- */

static bool
is_same(const ImageRelation *root, Oid relid)
{
	char	   *fingerprint;

	if (!OidIsValid(relid) || oid_of(root->schema, root->name) != relid)
		return false;
	fingerprint = image_execute(psprintf("SELECT quorum._table_fingerprint(%u)", relid));
	return fingerprint != NULL && strcmp(fingerprint, root->fingerprint) == 0;
}

/* Tables whose foreign keys stand in the way of dropping those in the list. */
static void
add_referencing(Replacement *plan)
{
	for (bool more = true; more;)
	{
		ListCell   *lc;

		more = false;
		foreach(lc, plan->source->relations)
		{
			const ImageRelation *root = lfirst(lc);
			Oid			relid;
			ListCell   *target;

			if (!root->is_root || list_member_int(plan->anew, (int) root->table_id))
				continue;
			relid = tables_oid_of(root->table_id);
			foreach(target, plan->anew)
			{
				Oid			dropped = tables_oid_of((uint32) lfirst_int(target));

				if (OidIsValid(dropped) && OidIsValid(relid) &&
					image_execute(psprintf("SELECT 1 FROM pg_constraint WHERE contype = 'f' "
										   "AND conrelid = %u AND confrelid = %u LIMIT 1", relid, dropped)))
				{
					plan->anew = lappend_int(plan->anew, (int) root->table_id);
					more = true;
					break;
				}
			}
		}
	}
}

/* Replicated here, and not there: dropped or removed from the cluster meanwhile. */
static void
release_former_tables(Replacement *plan, List **to_drop)
{
	char	   *list = image_execute("SELECT array_agg(table_id::text) FROM quorum.replicated_table r "
									 "JOIN pg_class c ON c.oid = r.relid");
	ListCell   *lc;

	if (list == NULL)
		return;
	foreach(lc, image_text_array(list))
	{
		uint32		id = (uint32) strtoul(lfirst(lc), NULL, 10);
		Oid			relid = tables_oid_of(id);
		bool		known = false;
		ListCell   *other;

		foreach(other, plan->source->relations)
			known |= ((ImageRelation *) lfirst(other))->table_id == id;
		if (known || !OidIsValid(relid))
			continue;
		if (root_named(plan->source, get_namespace_name(get_rel_namespace(relid)), get_rel_name(relid)))
			*to_drop = lappend_oid(*to_drop, relid);
		else
			designate_remove_here(id);
	}
}

static void
make_plan(Replacement *plan, List **to_drop)
{
	ListCell   *lc;

	foreach(lc, plan->source->relations)
	{
		const ImageRelation *root = lfirst(lc);
		Oid			relid;
		Oid			here;

		if (!root->is_root)
			continue;
		relid = tables_oid_of(root->table_id);
		here = oid_of(root->schema, root->name);
		if (OidIsValid(here) && tables_id_of_oid(here) == 0)
			ereport(ERROR,
					(errcode(ERRCODE_DUPLICATE_TABLE),
					 errmsg("\"%s.%s\" exists on this server and is not replicated, in the cluster it is a replicated table",
							root->schema, root->name),
					 errhint("Rename or drop it here.")));
		if (!is_same(root, relid))
			plan->anew = lappend_int(plan->anew, (int) root->table_id);
	}
	add_referencing(plan);
	foreach(lc, plan->anew)
	{
		Oid			relid = tables_oid_of((uint32) lfirst_int(lc));

		if (OidIsValid(relid))
			*to_drop = lappend_oid(*to_drop, relid);
	}
	release_former_tables(plan, to_drop);
}

/* ---------- tables that are as they were ---------- */

static const char *
copy_command(const ImageUnit *unit, List *columns)
{
	const char *name = quote_qualified_identifier(unit->schema, unit->name);
	const char *format = unit->binary ? " (FORMAT binary)" : "";

	/* COPY of a table refuses generated columns */
	if (list_length(columns) > list_length(unit->columns))
		return psprintf("COPY (SELECT %s FROM ONLY %s) TO STDOUT%s", image_column_list(columns),
						name, format);
	return psprintf("COPY %s (%s) TO STDOUT%s", name, image_column_list(columns), format);
}

/*
 * Its rows into a new heap. That has the table's columns, and nothing computes
 * them: what is generated comes along.
 */
static void
load_new_heap(Replacement *plan, const ImageUnit *unit)
{
	Oid			relid = oid_of(unit->schema, unit->name);
	Relation	rel = table_open(relid, AccessShareLock);
	Swap	   *swap = palloc(sizeof(Swap));

	swap->old_heap = relid;
	swap->new_heap = make_new_heap(relid, rel->rd_rel->reltablespace, rel->rd_rel->relam,
								   rel->rd_rel->relpersistence, AccessShareLock);
	table_close(rel, NoLock);
	(void) image_execute(psprintf("UPDATE pg_attribute SET attgenerated = '' WHERE attrelid = %u AND attgenerated = 's'",
								  swap->new_heap));
	CommandCounterIncrement();
	rel = table_open(swap->new_heap, AccessExclusiveLock);
	(void) image_copy_rows(plan->source->conn, copy_command(unit, unit->stored_columns), rel,
						   unit->stored_columns, unit->binary);
	table_close(rel, NoLock);
	plan->swaps = lappend(plan->swaps, swap);
}

static void
swap_heaps(Replacement *plan)
{
	ListCell   *lc;

	foreach(lc, plan->swaps)
	{
		Swap	   *swap = lfirst(lc);

		conflict_note_table(get_rel_name(swap->old_heap));
		LockRelationOid(swap->old_heap, AccessExclusiveLock);
		finish_heap_swap(swap->old_heap, swap->new_heap, false, false, false, true,
						 RecentXmin, ReadNextMultiXactId(), RELPERSISTENCE_PERMANENT);
		CommandCounterIncrement();
	}
}

/* ---------- tables that are made again ---------- */

/*
 * All in one statement, so that what refers to each other goes together. For a
 * trial first, before hours are spent on rows: then nothing has changed after it.
 */
static void
drop_tables(List *relids, bool trial)
{
	StringInfoData sql;
	ErrorData  *edata;
	ListCell   *lc;

	if (relids == NIL)
		return;
	initStringInfo(&sql);
	foreach(lc, relids)
	{
		Oid			relid = lfirst_oid(lc);

		appendStringInfo(&sql, "%s%s", sql.len > 0 ? ", " : "DROP TABLE ",
						 quote_qualified_identifier(get_namespace_name(get_rel_namespace(relid)),
													get_rel_name(relid)));
	}
	edata = image_run_statement(sql.data, trial);
	if (edata && edata->sqlerrcode == ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST)
		ereport(ERROR,
				(errcode(edata->sqlerrcode),
				 errmsg("tables whose schema was changed in the cluster cannot be made again here, because other objects depend on them"),
				 edata->detail ? errdetail_internal("%s", edata->detail) : 0,
				 errhint("Drop what depends on them on this server, and create it again when this member has caught up.")));
	if (edata)
		ReThrowError(edata);
	CommandCounterIncrement();
}

/* Types that the tables had, and may have another form now: if nothing else needs them. */
static void
drop_unused_types(List *statements)
{
	ListCell   *lc;

	foreach(lc, statements)
	{
		TypeName   *name = image_made_type(lfirst(lc));
		Oid			type = name ? LookupTypeNameOid(NULL, name, true) : InvalidOid;
		ErrorData  *edata;

		if (!OidIsValid(type))
			continue;
		edata = image_run_statement(psprintf("DROP TYPE %s", format_type_be_qualified(type)), false);
		if (edata)
			FreeErrorData(edata);
	}
}

static ImageUse
use_anew(const char *schema, const char *name, void *arg)
{
	const Replacement *plan = arg;
	const ImageRelation *r = root_named(plan->source, schema, name);

	return r && list_member_int(plan->anew, (int) r->table_id) ? IMAGE_CREATE : IMAGE_LEAVE;
}

static void
load_made_table(Replacement *plan, const ImageUnit *unit)
{
	Relation	rel = table_open(oid_of(unit->schema, unit->name), RowExclusiveLock);

	(void) image_copy_rows(plan->source->conn, copy_command(unit, unit->columns), rel,
						   unit->columns, unit->binary);
	table_close(rel, NoLock);
}

/* ---------- all of it ---------- */

static void
load_units(Replacement *plan, bool anew)
{
	ListCell   *lc;

	foreach(lc, plan->source->units)
	{
		const ImageUnit *unit = lfirst(lc);

		if (list_member_int(plan->anew, (int) unit->table_id) != anew)
			continue;
		image_show_table(unit->schema, unit->name);
		if (anew)
			load_made_table(plan, unit);
		else
			load_new_heap(plan, unit);
		pg_atomic_fetch_add_u32(&image_shared->tables_done, 1);
	}
}

void
image_replace(ImageSource *source)
{
	Replacement		plan = {.source = source};
	List	   *to_drop = NIL;
	List	   *before;
	List	   *after;

	image_show_phase(IMAGE_SCHEMA);
	before = image_dump(source->conninfo, "pre-data", source->snapshot, source->excluded);
	after = image_dump(source->conninfo, "post-data", source->snapshot, source->excluded);
	image_begin();
	image_check_roles(list_concat_copy(before, after));
	make_plan(&plan, &to_drop);
	node_apply_busy(source->point.index);
	drop_tables(to_drop, true);
	node_apply_busy(0);

	image_show_phase(IMAGE_DATA);
	image_guest.fetch(source->conn);
	load_units(&plan, false);

	/* from here on sessions that hold what is needed have to go (conflict.c) */
	node_apply_busy(source->point.index);
	image_note_replacing();
	drop_tables(to_drop, false);
	if (plan.anew != NIL)
		drop_unused_types(before);
	image_run_statements(before, use_anew, &plan);
	CommandCounterIncrement();
	load_units(&plan, true);
	image_load_state(source->conn);
	image_disconnect(source->conn);
	source->conn = NULL;

	image_show_phase(IMAGE_INDEXES);
	image_run_statements(after, use_anew, &plan);
	CommandCounterIncrement();
	swap_heaps(&plan);
	image_set_sequences(source);
	image_check_all_there(source);
	image_commit(&source->point);
	node_apply_busy(0);
}
