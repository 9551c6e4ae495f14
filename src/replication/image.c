/*-------------------------------------------------------------------------
 *
 * image.c
 *		The apply worker gets an image: the state of all replicated tables at one
 *		entry of the log, from another member.
 *
 * A server that has none of it (it joins) gets the schema, then rows, several
 * tables at a time, then indexes, constraints and triggers. That is many
 * transactions. Until the last one commits the server's progress is 0 and the
 * mark (node/image.c) is there, so whatever was loaded counts for nothing: a
 * crash or an error makes it begin again, with another snapshot. What a former
 * attempt has made is in quorum._image_table, and goes away first.
 *
 * The last transaction sets the replication origin's progress to the image's
 * entry, like any entry's commit. Then the Raft worker makes the log go on behind
 * it, and takes the mark away.
 *
 * A member that fell behind has tables that are read: image_replace.c.
 *
 * Everything is tried again until it works or is not wanted any more, each time
 * with the next member that can give an image; quorum.status says why it failed.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "replication/origin.h"
#include "storage/latch.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "clock/clock_shmem.h"
#include "compat.h"
#include "replication/apply_internal.h"
#include "replication/guests.h"
#include "replication/image_internal.h"
#include "replication/image_stale.h"
#include "replication/tables.h"

ImageGuest	image_guest;

#define SOURCE_WAIT_MS		100
#define RETRY_FIRST_MS		200
#define RETRY_LAST_MS		10000
#define DONE_RETRY_MS		100

static MemoryContext image_context = NULL;
static int	failures = 0;		/* in a row */

/* ---------- transactions ---------- */

void
image_begin(void)
{
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	MemoryContextSwitchTo(image_context);
}

void
image_end(void)
{
	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(image_context);
}

/* ---------- the last transaction ---------- */

static void
tell_raft_worker(const NodeImagePoint *point)
{
	/* the tables' commit first, then the log's change */
	(void) replorigin_get_progress(replorigin_by_name(REPLICATION_ORIGIN_NAME, false), true);
	node_image_done(point);
}

void
image_commit(const NodeImagePoint *point)
{
	RepOriginId origin = ordercommit_origin();

	tables_forget_caches();
	node_image_loaded(point);
	ordercommit_arm(point->index, GetCurrentTimestamp());
	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(image_context);
	(void) replorigin_get_progress(origin, true);
	node_image_done(point);
}

/*
 * After a start. The mark says that an image was loaded up to its last
 * transaction, and progress that this one was committed: only the Raft worker
 * has not been told, or not finished. Otherwise the mark stays, and leads to
 * another image.
 */
void
image_resume(void)
{
	NodeImagePoint point;

	if (!node_image_was_loaded(&point))
		return;
	if (point.index != node_applied_index())
	{
		free(point.conf);
		return;
	}
	for (bool done = false; !done;)
	{
		volatile bool good = true;

		PG_TRY();
		{
			StartTransactionCommand();
			tell_raft_worker(&point);
			CommitTransactionCommand();
		}
		PG_CATCH();
		{
			/* it is not running yet */
			FreeErrorData(apply_clean_up_after_error());
			good = false;
		}
		PG_END_TRY();
		done = good;
		if (!good)
			apply_pause_ms(DONE_RETRY_MS);
	}
	free(point.conf);
	image_guard_over();
}

/* ---------- a server that has nothing yet ---------- */

static ImageUse
use_fresh(const char *schema, const char *name, void *arg)
{
	ImageSource *source = arg;
	ListCell   *lc;

	foreach(lc, source->relations)
	{
		const ImageRelation *r = lfirst(lc);

		if (strcmp(r->name, name) == 0 && strcmp(r->schema, schema) == 0)
			return r->here ? IMAGE_COMPLETE : IMAGE_CREATE;
	}
	return IMAGE_LEAVE;
}

/* What a former attempt has left: tables that it made, rows in those that were here. */
static void
forget_former_attempt(void)
{
	char	   *created;
	char	   *filled;

	image_begin();
	created = image_execute("SELECT string_agg(DISTINCT coalesce(p.root, c.oid::regclass)::text, ', ') "
							"FROM quorum._image_table t JOIN pg_class c ON c.oid = t.relid "
							"LEFT JOIN LATERAL (SELECT pg_partition_root(c.oid) AS root) p ON true WHERE t.created");
	if (created)
		(void) image_execute(psprintf("DROP TABLE %s", created));
	filled = image_execute("SELECT string_agg(c.oid::regclass::text, ', ') "
						   "FROM quorum._image_table t JOIN pg_class c ON c.oid = t.relid WHERE NOT t.created");
	if (filled)
	{
		ErrorData  *edata = image_run_statement(psprintf("TRUNCATE %s", filled), false);

		if (edata && edata->sqlerrcode != ERRCODE_FEATURE_NOT_SUPPORTED)
			ReThrowError(edata);
		if (edata)				/* a table of this server's own refers to one of them */
			(void) image_execute("DO $$ DECLARE t regclass; BEGIN "
								 "FOR t IN SELECT relid FROM quorum._image_table WHERE NOT created LOOP "
								 "EXECUTE format('DELETE FROM %s', t); END LOOP; END $$");
	}
	image_guard_drop_all();
	(void) image_execute("DELETE FROM quorum._image_table");
	image_end();
}

static bool
was_here(const ImageSource *source, const ImageUnit *unit)
{
	ListCell   *lc;

	foreach(lc, source->relations)
	{
		const ImageRelation *r = lfirst(lc);

		if (strcmp(r->name, unit->name) == 0 && strcmp(r->schema, unit->schema) == 0)
			return r->here;
	}
	return false;
}

static char *
array_literal(List *names)
{
	StringInfoData text;
	ListCell   *lc;

	initStringInfo(&text);
	appendStringInfoString(&text, "ARRAY[");
	foreach(lc, names)
		appendStringInfo(&text, "%s%s", foreach_current_index(lc) > 0 ? ", " : "",
						 quote_literal_cstr(lfirst(lc)));
	appendStringInfoString(&text, "]::text[]");
	return text.data;
}

static void
note_units(ImageSource *source)
{
	ListCell   *lc;

	foreach(lc, source->units)
	{
		ImageUnit  *unit = lfirst(lc);

		(void) image_execute(psprintf("INSERT INTO quorum._image_table VALUES (%d, %s::regclass::oid, %s, %s, %s, %s, "
									  UINT64_FORMAT ", %s)",
									  foreach_current_index(lc),
									  quote_literal_cstr(quote_qualified_identifier(unit->schema, unit->name)),
									  quote_literal_cstr(unit->schema), quote_literal_cstr(unit->name),
									  array_literal(unit->columns), unit->binary ? "true" : "false",
									  unit->bytes, was_here(source, unit) ? "false" : "true"));
	}
}

/* Each carries its number now, by its trigger and in quorum.replicated_table. */
void
image_check_all_there(const ImageSource *source)
{
	ListCell   *lc;

	foreach(lc, source->relations)
	{
		const ImageRelation *r = lfirst(lc);
		Oid			relid;
		Relation	rel;
		uint32		id;

		if (!r->is_root)
			continue;
		relid = get_relname_relid(r->name, get_namespace_oid(r->schema, false));
		rel = relation_open(relid, AccessShareLock);
		id = tables_id_of(rel);
		relation_close(rel, NoLock);
		if (id != r->table_id || tables_oid_of(r->table_id) != relid)
			ereport(ERROR,
					(errcode(ERRCODE_INTERNAL_ERROR),
					 errmsg("table \"%s.%s\" did not become replicated table number %u",
							r->schema, r->name, r->table_id)));
	}
}

static void
show_totals(const ImageSource *source)
{
	uint64		bytes = 0;
	ListCell   *lc;

	foreach(lc, source->units)
		bytes += ((ImageUnit *) lfirst(lc))->bytes;
	SpinLockAcquire(&image_shared->mutex);
	image_shared->entry = source->point.index;
	image_shared->tables_total = list_length(source->units);
	image_shared->bytes_total = bytes;
	SpinLockRelease(&image_shared->mutex);
}

static void
load_fresh(ImageSource *source)
{
	List	   *before;
	List	   *after;

	/* sessions that hold what is needed have to go (conflict.c) */
	node_apply_busy(source->point.index);
	forget_former_attempt();
	node_apply_busy(0);
	image_show_phase(IMAGE_SCHEMA);
	before = image_dump(source->conninfo, "pre-data", source->snapshot, source->excluded);
	after = image_dump(source->conninfo, "post-data", source->snapshot, source->excluded);
	image_begin();
	image_check(source, list_concat_copy(before, after));
	image_run_statements(before, use_fresh, source);
	note_units(source);
	image_guard_tables(source, true);
	image_end();

	image_show_phase(IMAGE_DATA);
	image_guest.fetch(source->conn);
	image_copy_all(source->conn, source->conninfo, source->snapshot);
	image_begin();
	image_load_state(source->conn);
	image_end();
	image_disconnect(source->conn);
	source->conn = NULL;

	image_show_phase(IMAGE_INDEXES);
	image_begin();
	node_apply_busy(source->point.index);
	image_run_statements(after, use_fresh, source);
	CommandCounterIncrement();
	image_note_replacing();		/* of older snapshots some see half of it */
	image_guard_tables(source, false);
	image_set_sequences(source);
	image_check_all_there(source);
	(void) image_execute("DELETE FROM quorum._image_table");
	image_commit(&source->point);
	node_apply_busy(0);
}

/* ---------- choosing, trying, failing ---------- */

/* The next one in turn whose tables are far enough. False: none now. */
static bool
choose_source(uint64 least, NodeSqlAddress *sql)
{
	int			n;
	NodeImageSource *sources = node_image_sources(&n);
	int			good = 0;

	for (int i = 0; i < n; i++)
		if (sources[i].applied_index >= least)
			sources[good++] = sources[i];
	if (good > 0)
		*sql = sources[failures % good].sql;
	pfree(sources);
	return good > 0;
}

static void
load(const NodeSqlAddress *sql, uint64 least)
{
	ImageSource source;

	SpinLockAcquire(&image_shared->mutex);
	image_shared->attempts++;
	image_shared->begun_us = clock_monotonic_us();
	strlcpy(image_shared->source, sql->name, sizeof(image_shared->source));
	SpinLockRelease(&image_shared->mutex);
	image_show_phase(IMAGE_CONNECT);

	image_begin();					/* for the name of this server's superuser */
	image_source_open(&source, sql);
	image_end();
	if (image_adopt(&source))
	{
		image_disconnect(source.conn);
		image_guard_over();
		image_show_phase(IMAGE_LOG);
		return;
	}
	image_source_begin(&source);
	if (source.point.index < least)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("member \"%s\" is at entry " UINT64_FORMAT ", an image of entry " UINT64_FORMAT " or above is needed",
						sql->name, source.point.index, least)));
	image_begin();
	image_source_describe(&source);
	image_end();
	show_totals(&source);
	node_image_begun(&source.point);
	ereport(LOG,
			(errmsg("pg_quorum: loading an image of entry " UINT64_FORMAT " from member \"%s\"",
					source.point.index, sql->name)));
	if (node_applied_index() == 0)
		load_fresh(&source);
	else
		image_replace(&source);
	image_guard_over();
	image_show_phase(IMAGE_LOG);
}

static void
report_failure(const ErrorData *edata)
{
	static char last[NODE_DETAIL_LEN];
	char		reason[NODE_DETAIL_LEN];

	failures++;
	snprintf(reason, sizeof(reason), "no image yet: %s%s%s", edata->message,
			 edata->detail ? ". " : "", edata->detail ? edata->detail : "");
	node_apply_detail(reason);
	if (failures > 1 && strcmp(reason, last) == 0)
		return;
	strlcpy(last, reason, sizeof(last));
	ereport(LOG,
			(errcode(edata->sqlerrcode),
			 errmsg("pg_quorum: could not load an image: %s", edata->message),
			 edata->detail ? errdetail_internal("%s", edata->detail) : 0,
			 edata->hint ? errhint("%s", edata->hint) : 0,
			 edata->context ? errcontext("%s", edata->context) : 0));
}

bool
image_turn(void)
{
	uint64		least;
	NodeSqlAddress sql;
	volatile bool good = true;

	if (!node_image_wanted(&least))
		return false;
	if (image_context == NULL)
		image_context = AllocSetContextCreate(TopMemoryContext, "image", ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(image_context);
	if (!choose_source(least, &sql))
	{
		node_apply_detail("no member that could give an image is reachable now");
		apply_pause_ms(SOURCE_WAIT_MS);
		return true;
	}
	pgstat_report_activity(STATE_RUNNING, "loading an image");
	node_apply_detail(failures == 0 ? "an image is being loaded" : NULL);
	PG_TRY();
	{
		load(&sql, least);
	}
	PG_CATCH();
	{
		ErrorData  *edata = apply_clean_up_after_error();

		node_apply_busy(0);
		image_copy_stop();
		image_disconnect_all();
		node_image_over();
		report_failure(edata);
		FreeErrorData(edata);
		good = false;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(TopMemoryContext);
	MemoryContextReset(image_context);
	if (good)
	{
		failures = 0;
		node_apply_detail(NULL);
	}
	else
		apply_pause_ms(Min((int64) RETRY_FIRST_MS << Min(failures - 1, 10), RETRY_LAST_MS));
	return true;
}
