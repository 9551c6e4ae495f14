/*-------------------------------------------------------------------------
 *
 * tablecopy_apply.c
 *		Chunks of rows of a table that is being added: kept, put into the table,
 *		and deleted again. See tablecopy.h.
 *
 * Rows go into the table one chunk at a time, so that memory is bounded, in the
 * transaction of the entry that adds it. Deleting is done in portions, an entry
 * each, so that applying never stands still for long.
 *
 * The worker that ends copies is there while this member has copies to look after.
 * It holds nothing but locks; an error ends it, and the postmaster starts it again.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "node/node.h"
#include "replication/apply_internal.h"
#include "replication/jobworker.h"
#include "replication/logentry.h"
#include "replication/ownsql.h"
#include "replication/replication.h"
#include "replication/tablecopy.h"

PG_FUNCTION_INFO_V1(quorum_do_copy_begin);
PG_FUNCTION_INFO_V1(quorum_do_copy_forget);

#define FORGET_AT_ONCE	"128"	/* chunks */
#define LOOK_MS			300
#define RESTART_S		5

/* Copies that this member has to end: its own, and those of members that are none any more. */
#define OURS_TO_END \
	"FROM quorum.table_copy c WHERE node_id = %u " \
	"OR NOT EXISTS (SELECT FROM quorum._members() m WHERE m.node_id = c.node_id)"

/* ---------- entries ---------- */

Datum
quorum_do_copy_begin(PG_FUNCTION_ARGS)
{
	OwnSql		saved;
	Oid			types[] = {TEXTOID, INT8OID, TEXTOID, TEXTOID, INT8OID, TIMESTAMPTZOID};
	Datum		values[lengthof(types)];

	logentry_require_applying("_copy_begin");
	for (int i = 0; i < lengthof(types); i++)
		values[i] = PG_GETARG_DATUM(i);
	ownsql_begin(&saved);
	ownsql_run("INSERT INTO quorum.table_copy (copy_id, node_id, schema_name, table_name, bytes_total, started_at) "
			   "VALUES ($1, $2, $3, $4, $5, $6)", lengthof(types), types, values, NULL, SPI_OK_INSERT);
	ownsql_end(&saved);
	tablecopy_look_again();
	PG_RETURN_VOID();
}

static Datum
text_of(WsString string)
{
	return PointerGetDatum(cstring_to_text_with_len(string.data, (int) string.len));
}

/* Not after the copy was ended; and once, if it is in the log twice. */
void
tablecopy_keep_chunk(const WsRecord *rec)
{
	OwnSql		saved;
	Oid			types[] = {TEXTOID, INT4OID, INT4OID, BYTEAOID};
	Datum		values[lengthof(types)];

	ownsql_begin(&saved);
	values[0] = text_of(rec->copy_id);
	values[1] = Int32GetDatum((int32) rec->chunk_number);
	values[2] = Int32GetDatum((int32) rec->chunk_rows);
	values[3] = text_of(rec->chunk);
	ownsql_run("INSERT INTO quorum.table_copy_chunk (copy_id, chunk, row_count, byte_count, data) "
			   "SELECT $1, $2, $3, length($4), $4 WHERE EXISTS "
			   "(SELECT FROM quorum.table_copy WHERE copy_id = $1 AND phase = 'copying') ON CONFLICT DO NOTHING",
			   lengthof(types), types, values, NULL, SPI_OK_INSERT);
	ownsql_end(&saved);
}

void
tablecopy_note_added(const char *id)
{
	OwnSql		saved;
	Oid			types[] = {TEXTOID};
	Datum		values[] = {CStringGetTextDatum(id)};

	ownsql_begin(&saved);
	ownsql_run("UPDATE quorum.table_copy SET phase = 'added' WHERE copy_id = $1",
			   1, types, values, NULL, SPI_OK_UPDATE);
	ownsql_end(&saved);
}

/*
 * _copy_forget(copy_id) - some of its chunks; the copy itself with the last ones.
 */
Datum
quorum_do_copy_forget(PG_FUNCTION_ARGS)
{
	OwnSql		saved;
	Oid			types[] = {TEXTOID};
	Datum		values[] = {PG_GETARG_DATUM(0)};

	logentry_require_applying("_copy_forget");
	ownsql_begin(&saved);
	ownsql_run("UPDATE quorum.table_copy SET phase = 'ended' WHERE copy_id = $1",
			   1, types, values, NULL, SPI_OK_UPDATE);
	ownsql_run("DELETE FROM quorum.table_copy_chunk WHERE copy_id = $1 AND chunk IN "
			   "(SELECT chunk FROM quorum.table_copy_chunk WHERE copy_id = $1 ORDER BY chunk LIMIT " FORGET_AT_ONCE ")",
			   1, types, values, NULL, SPI_OK_DELETE);
	CommandCounterIncrement();
	ownsql_run("DELETE FROM quorum.table_copy c WHERE copy_id = $1 "
			   "AND NOT EXISTS (SELECT FROM quorum.table_copy_chunk k WHERE k.copy_id = c.copy_id)",
			   1, types, values, NULL, SPI_OK_DELETE);
	ownsql_end(&saved);
	PG_RETURN_VOID();
}

/* ---------- rows ---------- */

static WsRecord *
record_with_room(void)
{
	WsRecord   *rec = palloc0_object(WsRecord);

	rec->old_tuple.cols = palloc_array(WsColumn, WS_MAX_COLUMNS);
	rec->new_tuple.cols = palloc_array(WsColumn, WS_MAX_COLUMNS);
	return rec;
}

static void
load_chunk(const bytea *data, uint32 nrows, uint32 table_id, WsRecord *rec)
{
	WsReader	rd = {
		.data = (const uint8_t *) VARDATA_ANY(data),
		.len = VARSIZE_ANY_EXHDR(data),
		.kind = WS_KIND_TRANSACTION,
		.nrecords = nrows
	};
	char		before = 'I';

	while (ws_read_record(&rd, rec))
	{
		if (rec->type != 'I' && rec->type != 'D')
			break;
		/* what was inserted can be deleted again only by a later command */
		if (rec->type != before)
			CommandCounterIncrement();
		before = rec->type;
		rec->table_id = table_id;
		apply_rows_record(rec);
		CHECK_FOR_INTERRUPTS();
	}
	apply_rows_end();
	CommandCounterIncrement();
	if (rd.error || rd.records_read != nrows)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("rows of a new replicated table cannot be read: %s",
						rd.error ? rd.error : "unexpected record"),
				 errhint("They may have been written by a newer version of pg_quorum: upgrade this member.")));
}

void
tablecopy_load(const char *id, uint32 chunks, uint32 table_id)
{
	WsRecord   *rec = record_with_room();

	for (uint32 i = 1; i <= chunks; i++)
	{
		OwnSql		saved;
		Oid			types[] = {TEXTOID, INT4OID};
		Datum		values[lengthof(types)];
		bool		isnull;
		Datum		data;

		ownsql_begin(&saved);
		values[0] = CStringGetTextDatum(id);
		values[1] = Int32GetDatum((int32) i);
		ownsql_run("SELECT row_count, data FROM quorum.table_copy_chunk WHERE copy_id = $1 AND chunk = $2",
				   lengthof(types), types, values, NULL, SPI_OK_SELECT);
		if (SPI_processed != 1)
			ereport(ERROR,
					(errcode(ERRCODE_DATA_CORRUPTED),
					 errmsg("chunk %u of %u of the rows of a new replicated table is missing on this server", i, chunks),
					 errdetail("Tables quorum.table_copy and quorum.table_copy_chunk were changed behind the cluster's back."),
					 errhint("Let this server join the cluster anew.")));
		data = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, &isnull);
		load_chunk(DatumGetByteaPP(data), (uint32) strtoul(ownsql_text(0, 1), NULL, 10), table_id, rec);
		ownsql_end(&saved);
	}
}

/* ---------- the apply worker ---------- */

static bool
is_waiting(void)
{
	char		query[sizeof(OURS_TO_END) + 64];

	snprintf(query, sizeof(query), "SELECT 1 " OURS_TO_END " LIMIT 1", node_id());
	return jobworker_finds(query);
}

static JobWorker job_worker = {
	.function = "tablecopy_end_main",
	.name = "pg_quorum table copy worker",
	.restart_s = RESTART_S,
	.is_waiting = is_waiting,
	.due = true,
};

void
tablecopy_look_again(void)
{
	job_worker.due = true;
}

void
tablecopy_work(void)
{
	if (job_worker.due && node_is_member())
		jobworker_turn(&job_worker);
}

/* ---------- the worker ---------- */

static List *
copies_to_end(MemoryContext context)
{
	List	   *ids = NIL;
	OwnSql		saved;
	MemoryContext old;

	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	ownsql_begin(&saved);
	ownsql_run(psprintf("SELECT copy_id " OURS_TO_END " ORDER BY copy_id", node_id()),
			   0, NULL, NULL, NULL, SPI_OK_SELECT);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		old = MemoryContextSwitchTo(context);
		ids = lappend(ids, pstrdup(ownsql_text(i, 1)));
		MemoryContextSwitchTo(old);
	}
	ownsql_end(&saved);
	PopActiveSnapshot();
	CommitTransactionCommand();
	return ids;
}

/* False: its caller is still at it. */
static bool
end_copy(const char *id)
{
	bool		free;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	free = tablecopy_lock(id);
	if (free)
	{
		pgstat_report_activity(STATE_RUNNING, "removing rows that were copied");
		(void) node_wait_applied(logentry_submit_key(psprintf("SELECT quorum._copy_forget(%s)", quote_literal_cstr(id)),
													 tablecopy_key(id)), 0);
	}
	PopActiveSnapshot();
	CommitTransactionCommand();
	pgstat_report_activity(STATE_IDLE, NULL);
	return free;
}

void
tablecopy_end_main(Datum arg)
{
	MemoryContext context;

	jobworker_begin();
	context = AllocSetContextCreate(TopMemoryContext, "pg_quorum copies to end", ALLOCSET_DEFAULT_SIZES);

	while (node_is_member())
	{
		List	   *ids;
		ListCell   *lc;
		bool		any = false;

		MemoryContextReset(context);
		ids = copies_to_end(context);
		if (ids == NIL)
			break;
		foreach(lc, ids)
			any |= end_copy(lfirst(lc));
		if (any)
			continue;
		node_pause(LOOK_MS);
	}
	proc_exit(0);
}
