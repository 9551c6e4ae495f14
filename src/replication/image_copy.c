/*-------------------------------------------------------------------------
 *
 * image_copy.c
 *		Rows of an image, table by table, in several workers.
 *
 * What there is to copy is in quorum._image_table, a row a table or partition.
 * Each copy worker takes one that nobody else has (FOR UPDATE SKIP LOCKED),
 * copies it and marks it done in the same transaction: so a table is loaded
 * whole or not at all, whoever fails. A worker whose connection breaks takes a
 * new one and goes on with the next table, as long as the giving member's
 * exported snapshot is there; the apply worker watches over the connection that
 * holds it, and over the workers.
 *
 * COPY on both sides, one row in memory at a time: binary where no column's form
 * holds OIDs that differ between servers, text elsewhere. The tables have no
 * index and no trigger yet.
 *
 * Workers share ImageShared (image_internal.h). `attempt` is the apply worker's
 * number for the image it is loading: a worker of another one ends.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/copy.h"
#include "executor/spi.h"
#include "libpq-fe.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "parser/parse_relation.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/latch.h"
#include "tcop/tcopprot.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"
#include "utils/wait_event.h"

#include "compat.h"
#include "replication/apply_internal.h"
#include "replication/image_internal.h"

#define MAX_WORKERS			16
#define RECONNECTS			20		/* in a row, without a table in between */
#define RECONNECT_PAUSE_MS	500
#define WATCH_MS			200

/* ---------- names ---------- */

List *
image_text_array(const char *literal)
{
	Datum		array = OidInputFunctionCall(F_ARRAY_IN, pstrdup(literal), TEXTOID, -1);
	Datum	   *items;
	int			n;
	List	   *list = NIL;

	deconstruct_array(DatumGetArrayTypeP(array), TEXTOID, -1, false, TYPALIGN_INT, &items, NULL, &n);
	for (int i = 0; i < n; i++)
		list = lappend(list, TextDatumGetCString(items[i]));
	return list;
}

char *
image_column_list(List *columns)
{
	StringInfoData text;
	ListCell   *lc;

	initStringInfo(&text);
	foreach(lc, columns)
		appendStringInfo(&text, "%s%s", text.len > 0 ? ", " : "", quote_identifier(lfirst(lc)));
	return text.data;
}

/* ---------- one COPY ---------- */

static PGconn *copy_conn = NULL;
static char *copy_row = NULL;	/* libpq's */
static int	copy_row_len = 0;
static int	copy_row_pos = 0;
static uint64 copy_messages = 0;
static bool copy_ended = false;

static void
copy_forget_row(void)
{
	if (copy_row != NULL)
		PQfreemem(copy_row);
	copy_row = NULL;
	copy_row_len = copy_row_pos = 0;
}

/* The next row into copy_row; false: there are no more. */
static bool
copy_next_row(void)
{
	copy_forget_row();
	while (!copy_ended)
	{
		int			len = PQgetCopyData(copy_conn, &copy_row, 1);

		if (len > 0)
		{
			copy_row_len = len;
			copy_messages++;
			pg_atomic_fetch_add_u64(&image_shared->bytes, len);
			pg_atomic_fetch_add_u64(&image_shared->rows, 1);
			return true;
		}
		if (len == -1)
		{
			copy_ended = true;
			break;
		}
		if (len < -1)
			image_remote_error(copy_conn, NULL, "could not receive rows");
		(void) WaitLatchOrSocket(MyLatch, WL_LATCH_SET | WL_SOCKET_READABLE | WL_EXIT_ON_PM_DEATH,
								 PQsocket(copy_conn), -1L, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		if (PQconsumeInput(copy_conn) == 0)
			image_remote_error(copy_conn, NULL, "could not receive rows");
	}
	return false;
}

static int
copy_source(void *to, int least, int most)
{
	int			have = 0;

	while (have < least)
	{
		int			take;

		if (copy_row_pos == copy_row_len && !copy_next_row())
			break;
		take = Min(copy_row_len - copy_row_pos, most - have);
		memcpy((char *) to + have, copy_row + copy_row_pos, take);
		copy_row_pos += take;
		have += take;
	}
	if (copy_row_pos == copy_row_len)
		copy_forget_row();		/* it may be a large one, and more is made of it now */
	CHECK_FOR_INTERRUPTS();
	return have;
}

uint64
image_copy_rows(PGconn *conn, const char *query, Relation rel, List *columns, bool binary)
{
	List	   *options = binary ?
		list_make1(makeDefElem("format", (Node *) makeString("binary"), -1)) : NIL;
	List	   *names = NIL;
	ParseState *pstate;
	CopyFromState state;
	PGresult   *result;
	ListCell   *lc;
	uint64		rows;

	foreach(lc, columns)
		names = lappend(names, makeString(lfirst(lc)));
	result = image_exec(conn, query);
	if (PQresultStatus(result) != PGRES_COPY_OUT)
		image_remote_error(conn, result, "could not copy rows");
	PQclear(result);

	copy_forget_row();
	copy_conn = conn;
	copy_messages = 0;
	copy_ended = false;
	pstate = make_parsestate(NULL);
	(void) addRangeTableEntryForRelation(pstate, rel, AccessShareLock, NULL, false, false);
	state = BeginCopyFrom(pstate, rel, NULL, NULL, false, copy_source, names, options);
	rows = CopyFrom(state);
	EndCopyFrom(state);

	/* what COPY leaves unread behind its end mark, and how it ended there */
	while (copy_next_row())
		;
	result = PQgetResult(conn);
	if (PQresultStatus(result) != PGRES_COMMAND_OK)
		image_remote_error(conn, result, "could not copy rows");
	PQclear(result);
	while ((result = PQgetResult(conn)) != NULL)
		PQclear(result);
	/* messages are rows, but for the ends of the binary form */
	pg_atomic_fetch_add_u64(&image_shared->rows, rows - copy_messages);
	return rows;
}

/* ---------- one table ---------- */

typedef struct Claim
{
	int			unit;
	Oid			relid;
	char	   *schema;
	char	   *table;
	List	   *columns;
	bool		binary;
} Claim;

/* In a transaction with a snapshot, connected to SPI. False: none is left. */
static bool
claim_table(Claim *claim)
{
	HeapTuple	row;
	TupleDesc	desc;

	if (SPI_execute("SELECT unit, relid::text, schema_name, table_name, columns::text, is_binary FROM quorum._image_table "
					"WHERE NOT done ORDER BY unit LIMIT 1 FOR UPDATE SKIP LOCKED", false, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not read quorum._image_table");
	if (SPI_processed == 0)
		return false;
	row = SPI_tuptable->vals[0];
	desc = SPI_tuptable->tupdesc;
	claim->unit = atoi(SPI_getvalue(row, desc, 1));
	claim->relid = (Oid) strtoul(SPI_getvalue(row, desc, 2), NULL, 10);
	claim->schema = SPI_getvalue(row, desc, 3);
	claim->table = SPI_getvalue(row, desc, 4);
	claim->columns = image_text_array(SPI_getvalue(row, desc, 5));
	claim->binary = SPI_getvalue(row, desc, 6)[0] == 't';
	return true;
}

/* One table in one transaction. False: none is left. */
static bool
copy_one_table(PGconn *conn)
{
	Claim		claim;
	Relation	rel;
	char	   *name;
	bool		found;

	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	found = claim_table(&claim);
	if (found)
	{
		image_show_table(claim.schema, claim.table);
		pgstat_report_activity(STATE_RUNNING, psprintf("copying rows of %s.%s", claim.schema, claim.table));
		rel = table_open(claim.relid, RowExclusiveLock);
		name = quote_qualified_identifier(claim.schema, claim.table);
		(void) image_copy_rows(conn, claim.columns == NIL ?
							   psprintf("COPY (SELECT FROM ONLY %s) TO STDOUT%s", name,
										claim.binary ? " (FORMAT binary)" : "") :
							   psprintf("COPY %s (%s) TO STDOUT%s", name, image_column_list(claim.columns),
										claim.binary ? " (FORMAT binary)" : ""),
							   rel, claim.columns, claim.binary);
		table_close(rel, NoLock);
		if (SPI_execute(psprintf("UPDATE quorum._image_table SET done = true WHERE unit = %d", claim.unit),
						false, 0) != SPI_OK_UPDATE)
			elog(ERROR, "could not write quorum._image_table");
	}
	SPI_finish();
	PopActiveSnapshot();
	CommitTransactionCommand();
	if (found)
		pg_atomic_fetch_add_u32(&image_shared->tables_done, 1);
	return found;
}

/* ---------- a worker ---------- */

static void
see_snapshot(PGconn *conn, const char *snapshot)
{
	(void) image_query(conn, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
	(void) image_query(conn, psprintf("SET TRANSACTION SNAPSHOT %s", quote_literal_cstr(snapshot)));
}

static bool
is_connection_error(int sqlstate)
{
	return ERRCODE_TO_CATEGORY(sqlstate) == ERRCODE_CONNECTION_EXCEPTION ||
		sqlstate == ERRCODE_ADMIN_SHUTDOWN || sqlstate == ERRCODE_CRASH_SHUTDOWN ||
		sqlstate == ERRCODE_CANNOT_CONNECT_NOW;
}

static void
leave_error(const ErrorData *edata)
{
	SpinLockAcquire(&image_shared->mutex);
	if (image_shared->error_sqlstate == 0)
	{
		image_shared->error_sqlstate = edata->sqlerrcode;
		strlcpy(image_shared->error, edata->message, sizeof(image_shared->error));
	}
	SpinLockRelease(&image_shared->mutex);
}

/* All that is to be had over one connection. False: it broke, so another one. */
static bool
copy_tables(uint32 attempt, const char *conninfo, const char *snapshot, const char *member,
			int *reconnects)
{
	volatile bool good = true;
	PGconn	   *volatile conn = NULL;

	PG_TRY();
	{
		conn = image_connect(conninfo, member);
		see_snapshot(conn, snapshot);
		while (pg_atomic_read_u32(&image_shared->attempt) == attempt && copy_one_table(conn))
			*reconnects = 0;
	}
	PG_CATCH();
	{
		ErrorData  *edata;

		HOLD_INTERRUPTS();
		MemoryContextSwitchTo(TopMemoryContext);
		edata = CopyErrorData();
		FlushErrorState();
		AbortCurrentTransaction();
		copy_forget_row();
		RESUME_INTERRUPTS();
		good = !is_connection_error(edata->sqlerrcode) || ++*reconnects > RECONNECTS;
		if (good)
			leave_error(edata);
		else
			ereport(LOG,
					(errmsg("copying rows from member \"%s\" is taken up again: %s",
							member, edata->message)));
		FreeErrorData(edata);
	}
	PG_END_TRY();
	/* the apply worker, if it copies by itself, has the snapshot's, too */
	if (conn != NULL)
		image_disconnect(conn);
	return good;
}

/* Runs until no table is left, an error cannot be overcome, or it is over. */
static void
copy_until_done(uint32 attempt)
{
	char	   *conninfo = palloc(IMAGE_CONNINFO_LEN);
	char		snapshot[sizeof(image_shared->snapshot)];
	char		member[NODE_NAME_LEN];
	int			reconnects = 0;

	SpinLockAcquire(&image_shared->mutex);
	memcpy(conninfo, image_shared->conninfo, IMAGE_CONNINFO_LEN);
	memcpy(snapshot, image_shared->snapshot, sizeof(snapshot));
	memcpy(member, image_shared->source, sizeof(member));
	SpinLockRelease(&image_shared->mutex);
	while (pg_atomic_read_u32(&image_shared->attempt) == attempt &&
		   !copy_tables(attempt, conninfo, snapshot, member, &reconnects))
	{
		node_pause(RECONNECT_PAUSE_MS);
	}
}

void
replication_image_copy_main(Datum arg)
{
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnection(quorum_database, NULL, 0);
	replication_become_applier();
	copy_until_done(DatumGetUInt32(arg));
}

/* ---------- the apply worker: all tables ---------- */

static BackgroundWorkerHandle *handles[MAX_WORKERS];
static int	nhandles = 0;

static void
start_workers(uint32 attempt, int wanted)
{
	BackgroundWorker worker;
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

	memset(&worker, 0, sizeof(worker));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	strlcpy(worker.bgw_library_name, "pg_quorum", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, "replication_image_copy_main", BGW_MAXLEN);
	strlcpy(worker.bgw_name, "pg_quorum copy worker", BGW_MAXLEN);
	strlcpy(worker.bgw_type, "pg_quorum copy worker", BGW_MAXLEN);
	worker.bgw_main_arg = UInt32GetDatum(attempt);
	worker.bgw_notify_pid = MyProcPid;
	while (nhandles < wanted && nhandles < MAX_WORKERS &&
		   RegisterDynamicBackgroundWorker(&worker, &handles[nhandles]))
		nhandles++;
	MemoryContextSwitchTo(old);
}

/* How many of them still run. */
static int
running_workers(void)
{
	int			running = 0;

	for (int i = 0; i < nhandles; i++)
	{
		pid_t		pid;
		BgwHandleStatus status = GetBackgroundWorkerPid(handles[i], &pid);

		running += status == BGWH_STARTED || status == BGWH_NOT_YET_STARTED;
	}
	return running;
}

/* This process ends: so do its copy workers. */
void
image_copy_abandon(void)
{
	if (nhandles == 0)
		return;
	pg_atomic_write_u32(&image_shared->attempt, 0);
	for (int i = 0; i < nhandles; i++)
		TerminateBackgroundWorker(handles[i]);
}

/* End all copy workers, and wait until they have. Never throws. */
void
image_copy_stop(void)
{
	pg_atomic_write_u32(&image_shared->attempt, 0);
	copy_forget_row();
	for (int i = 0; i < nhandles; i++)
		TerminateBackgroundWorker(handles[i]);
	while (running_workers() > 0)
	{
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, 10L,
						 PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
	}
	for (int i = 0; i < nhandles; i++)
		pfree(handles[i]);
	nhandles = 0;
}

static int64
count_undone(void)
{
	int64		n;
	bool		isnull;

	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	if (SPI_connect() != SPI_OK_CONNECT ||
		SPI_execute("SELECT count(*) FROM quorum._image_table WHERE NOT done", true, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not read quorum._image_table");
	n = DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
	SPI_finish();
	PopActiveSnapshot();
	CommitTransactionCommand();
	return n;
}

static void
raise_workers_error(void)
{
	char		message[NODE_DETAIL_LEN];
	int			sqlstate;

	SpinLockAcquire(&image_shared->mutex);
	sqlstate = image_shared->error_sqlstate;
	memcpy(message, image_shared->error, sizeof(message));
	SpinLockRelease(&image_shared->mutex);
	if (sqlstate != 0)
		ereport(ERROR, (errcode(sqlstate), errmsg("%s", message)));
}

/* Outside a transaction. */
void
image_copy_all(PGconn *holder, const char *conninfo, const char *snapshot)
{
	int64		undone = count_undone();
	uint32		attempt = image_shared->attempts;

	if (undone == 0)
		return;
	if (strlen(conninfo) >= IMAGE_CONNINFO_LEN || strlen(snapshot) >= sizeof(image_shared->snapshot))
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("quorum.copy_conninfo is too long")));
	SpinLockAcquire(&image_shared->mutex);
	strlcpy(image_shared->conninfo, conninfo, sizeof(image_shared->conninfo));
	strlcpy(image_shared->snapshot, snapshot, sizeof(image_shared->snapshot));
	image_shared->error_sqlstate = 0;
	SpinLockRelease(&image_shared->mutex);
	pg_atomic_write_u32(&image_shared->attempt, attempt);
	start_workers(attempt, (int) Min(undone, quorum_copy_workers));
	if (nhandles == 0)
		copy_until_done(attempt);	/* no slot of max_worker_processes is free */

	while (running_workers() > 0)
	{
		(void) WaitLatchOrSocket(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_SOCKET_READABLE | WL_EXIT_ON_PM_DEATH,
								 PQsocket(holder), WATCH_MS, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		if (!image_connection_is_good(holder))
			image_remote_error(holder, NULL, "the member that gives the image has gone");
		raise_workers_error();
	}
	image_copy_stop();
	raise_workers_error();
	if (count_undone() > 0)
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("copy workers have ended before all rows were there")));
}
