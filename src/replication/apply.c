/*-------------------------------------------------------------------------
 *
 * apply.c
 *		The apply worker: makes this member's tables what the log says.
 *
 * Takes committed entries that no local session commits itself, in log order,
 * straight from the log's files, and performs them. Several entries share one
 * transaction when there is a backlog; a batch ends before an entry that a
 * session commits, since the turn goes from entry to entry.
 *
 * Progress is the replication origin's (ordercommit.c), so that a crash at any
 * point leaves exactly a prefix of the log applied. Entries without effect
 * (leader changes, membership) only move the applied index in memory: after a
 * crash they are passed again.
 *
 * What cannot be applied is never skipped: the worker stops at that entry, says
 * why in quorum.status and in the log (once a minute, or when the reason
 * changes), and tries again, ever more slowly, until the cause is gone.
 *
 * Errors stay inside: an entry's error aborts its transaction only. Errors
 * outside of one (no database, a broken connection) end this process, and the
 * postmaster starts it again; none of it restarts the server.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <unistd.h>

#include "access/xact.h"
#include "catalog/pg_control.h"
#include "commands/dbcommands.h"
#include "commands/extension.h"
#include "common/controldata_utils.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "replication/origin.h"
#include "storage/ipc.h"
#include "storage/shmem.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "clock/clock_shmem.h"
#include "compat.h"
#include "node/node.h"
#include "replication/apply_internal.h"
#include "replication/ddl.h"
#include "replication/gate.h"
#include "replication/guests.h"
#include "replication/resync.h"
#include "replication/image_internal.h"
#include "replication/indexjob.h"
#include "replication/session.h"
#include "replication/stats.h"
#include "replication/tablecopy.h"
#include "storage/rlog.h"

#define BATCH_ENTRIES		64
#define BATCH_BYTES			(Size) (1024 * 1024)
#define FLUSH_INTERVAL_MS	2000
#define WAIT_EXTENSION_MS	200
#define GATE_RETRY_MS		1000
#define RETRY_FIRST_MS		5
#define RETRY_LAST_MS		5000
#define PAUSE_LOOK_MS		100
#define START_RETRY_LAST_MS 10000
#define REPEAT_LOG_US		INT64CONST(60000000)

ApplyShared *apply_shared = NULL;
EntryGuest	entry_guest;

static bool applying = false;	/* this process is the apply worker */
static RepOriginId origin = InvalidRepOriginId;
static uint32 entry_node = 0;	/* where the entry that is being applied came from */
static uint64 flushed_index = 0;

static int64 gate_next_us = 0;

static RlogReader *reader = NULL;

static void fix_settings(void);

/* arrays that a record is read into */
static WsColumn *old_columns;
static WsColumn *new_columns;
static uint32_t *truncate_ids;
static WsRecord *record;

/* the entry that does not want to be applied */
static int	failures = 0;
static char last_reason[NODE_DETAIL_LEN];
static int64 last_logged_us = 0;

bool
replication_is_applying(void)
{
	return applying;
}

void
replication_become_applier(void)
{
	applying = true;
	fix_settings();
}

bool
replication_is_own_entry(void)
{
	return applying && entry_node != 0 && entry_node == node_id();
}

/* ---------- shared memory ---------- */

/* The control file is still that of the server's last life. */
static bool
was_not_shut_down(void)
{
	bool		crc_ok;
	ControlFileData *control = get_controlfile(DataDir, &crc_ok);
	bool		answer = !crc_ok || control->state != DB_SHUTDOWNED;

	pfree(control);
	return answer;
}

Size
apply_shmem_size(void)
{
	return MAXALIGN(sizeof(ApplyShared));
}

void
apply_shmem_init(void)
{
	bool		found;

	apply_shared = ShmemInitStruct("pg_quorum apply", apply_shmem_size(), &found);
	if (found)
		return;
	pg_atomic_init_u32(&apply_shared->announced, 0);
	pg_atomic_init_u32(&apply_shared->failed_starts, 0);
	apply_shared->crashed = was_not_shut_down();
	pg_atomic_init_u32(&apply_shared->gate_open, 0);
	pg_atomic_init_u32(&apply_shared->barrier_passed, 0);
	pg_atomic_init_u64(&apply_shared->barrier_index, 0);
	for (int i = 0; i < lengthof(apply_shared->gate_done); i++)
		pg_atomic_init_u32(&apply_shared->gate_done[i], 0);
	ConditionVariableInit(&apply_shared->gate_cv);
}

/* ---------- waiting ---------- */

static void
wait_ms(long timeout_ms)
{
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					 timeout_ms, PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
	}
}

/* For the whole time, however often the latch is set; unless there is something to be done about it. */
void
apply_pause_ms(int64 duration_ms)
{
	int64		end_us = clock_monotonic_us() + duration_ms * 1000;
	int64		left_us;

	while ((left_us = end_us - clock_monotonic_us()) > 0 && !resync_wanted_here())
		wait_ms(Min(left_us / 1000 + 1, PAUSE_LOOK_MS));
}

/* ---------- the log ---------- */

static void
close_reader(void)
{
	if (reader)
		rlog_reader_close(reader);
	reader = NULL;
}

static void
read_entry(uint64 index, RlogRecord *entry)
{
	char		error[RLOG_ERROR_LEN] = "";
	RlogStatus	status;

	if (reader == NULL)
	{
		char	   *dir = node_log_dir();

		status = rlog_reader_open(rlog_env_posix(), dir, &reader, error);
		pfree(dir);
		if (status != RLOG_OK)
		{
			reader = NULL;
			ereport(ERROR,
					(errcode(ERRCODE_IO_ERROR),
					 errmsg("could not open the log for reading: %s", error)));
		}
	}
	status = rlog_reader_get(reader, index, node_commit_index(), entry, error);
	if (status == RLOG_OK)
		return;
	close_reader();
	if (status == RLOG_COMPACTED)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("entry " UINT64_FORMAT " is not in this member's log any more", index),
				 errhint("Let this server join the cluster again.")));
	if (status == RLOG_DAMAGED)
		node_log_suspect(index);
	ereport(ERROR,
			(errcode(status == RLOG_DAMAGED ? ERRCODE_DATA_CORRUPTED : ERRCODE_IO_ERROR),
			 errmsg("could not read entry " UINT64_FORMAT " of the log: %s", index,
					error[0] ? error : "it is not there")));
}

/* ---------- one entry ---------- */

typedef struct Batch
{
	uint64		first;
	uint64		last;			/* applied so far in this transaction */
	Size		bytes;
	uint64		entries;
	uint64		rows;
	uint64		statements;
	RaftStamp	stamp;			/* of the last one with an effect */
	bool		has_effect;
	bool		closed;			/* nothing more in this transaction */
} Batch;

/* The caller checked the type. */
static void
apply_data(const RlogRecord *entry, Batch *batch)
{
	WsReader	rd;
	RaftToken	token;

	memcpy(&token, entry->token, sizeof(token));
	memcpy(&batch->stamp, entry->stamp, sizeof(batch->stamp));
	entry_node = token.node;
	if (entry_guest.is_theirs(entry->data, entry->len))
	{
		entry_guest.apply(entry->index, token, batch->stamp, entry->data, entry->len);
		batch->has_effect = true;
		return;
	}
	if (!ws_read_open(&rd, entry->data, entry->len))
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("entry " UINT64_FORMAT " of the log cannot be read: %s",
						entry->index, rd.error),
				 errhint("It may have been written by a newer version of pg_quorum: upgrade this member.")));
	while (ws_read_record(&rd, record))
	{
		switch (record->type)
		{
			case 'T':
				apply_rows_end();
				apply_truncate(record, entry->index);
				batch->closed = true;
				batch->statements++;
				break;
			case 'X':
				apply_rows_end();
				apply_statement(record);
				batch->closed = true;
				batch->statements++;
				break;
			case 'C':
				tablecopy_keep_chunk(record);
				break;
			case 'G':
				gate_apply_record(record);
				batch->closed = true;
				break;
			default:
				if (resync_covers(record->table_id, entry->index))
					continue;
				apply_rows_record(record);
				batch->rows++;
				break;
		}
		CommandCounterIncrement();
		if ((batch->rows & 0xff) == 0)
			CHECK_FOR_INTERRUPTS();
	}
	if (rd.error)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("entry " UINT64_FORMAT " of the log cannot be read: %s",
						entry->index, rd.error)));
	gate_entry_applied(token);
	batch->has_effect = true;
}

static void
apply_entry(uint64 index, Batch *batch)
{
	RlogRecord	entry;

	read_entry(index, &entry);
	if (batch->has_effect && entry.type == RAFT_ENTRY_DATA &&
		ws_stands_alone(entry.data, entry.len))
	{
		batch->closed = true;	/* in the next transaction */
		return;
	}
	if (entry.index != index)
		elog(ERROR, "asked for entry " UINT64_FORMAT ", got " UINT64_FORMAT, index, entry.index);
	switch (entry.type)
	{
		case RAFT_ENTRY_NOOP:
			break;
		case RAFT_ENTRY_CONF:
			tablecopy_look_again(); /* who was removed ends nothing any more */
			break;
		case RAFT_ENTRY_DATA:
			apply_data(&entry, batch);
			break;
		default:
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("entry " UINT64_FORMAT " of the log is of type %u, which this version does not know",
							index, entry.type),
					 errhint("Upgrade pg_quorum on this member.")));
	}
	batch->bytes += entry.len;
	batch->entries++;
	batch->last = index;
}

/* ---------- one transaction ---------- */

static void
apply_batch(uint64 first, uint64 last, Batch *batch)
{
	memset(batch, 0, sizeof(*batch));
	batch->first = first;
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	gate_begin();
	for (uint64 index = first; index <= last && !batch->closed; index++)
	{
		apply_entry(index, batch);
		if (batch->bytes >= BATCH_BYTES)
			batch->closed = true;
	}
	apply_rows_end();
	PopActiveSnapshot();
	if (batch->has_effect)
		ordercommit_arm(batch->last, (TimestampTz) batch->stamp.physical_us);
	CommitTransactionCommand();
	gate_committed();
	if (!batch->has_effect)
		node_turn_passed(batch->first, batch->last);
}

static bool
is_passing(int sqlstate)
{
	return sqlstate == ERRCODE_T_R_SERIALIZATION_FAILURE ||
		sqlstate == ERRCODE_T_R_DEADLOCK_DETECTED ||
		sqlstate == ERRCODE_QUERY_CANCELED ||
		sqlstate == ERRCODE_LOCK_NOT_AVAILABLE;
}

/* A row that is missing, or there already: this member is not what it should be. */
static bool
is_row_clash(int sqlstate)
{
	return sqlstate == ERRCODE_UNIQUE_VIOLATION ||
		sqlstate == ERRCODE_EXCLUSION_VIOLATION ||
		sqlstate == ERRCODE_DATA_CORRUPTED;
}

static const char *
failure_message(const ErrorData *edata)
{
	if (is_row_clash(edata->sqlerrcode) && edata->table_name)
		return psprintf("a row of the log does not fit into table \"%s\": %s",
						edata->table_name, edata->message);
	return edata->message;
}

static const char *
failure_hint(const ErrorData *edata)
{
	if (edata->hint == NULL && is_row_clash(edata->sqlerrcode) && edata->table_name)
		return "The table was changed behind the cluster's back on this member; "
			"quorum.resync_table makes it the same as the others' again.";
	return edata->hint;
}

/* Say it in the status at once, in the log when it is news. */
static void
report_failure(uint64 index, const ErrorData *edata)
{
	char		reason[NODE_DETAIL_LEN];
	int64		now_us = clock_monotonic_us();

	failures++;
	resync_note_stopped(true);
	if (failures == 1 && (is_passing(edata->sqlerrcode) || is_row_clash(edata->sqlerrcode)))
		return;
	snprintf(reason, sizeof(reason), "stopped at entry " UINT64_FORMAT ": %s",
			 index, failure_message(edata));
	node_apply_detail(reason);
	if (strcmp(reason, last_reason) == 0 && now_us - last_logged_us < REPEAT_LOG_US)
		return;
	strlcpy(last_reason, reason, sizeof(last_reason));
	last_logged_us = now_us;
	ereport(LOG,
			(errcode(edata->sqlerrcode),
			 errmsg("pg_quorum: could not apply entry " UINT64_FORMAT ": %s",
					index, failure_message(edata)),
			 edata->detail ? errdetail_internal("%s", edata->detail) : 0,
			 failure_hint(edata) ? errhint("%s", failure_hint(edata)) : 0,
			 edata->context ? errcontext("%s", edata->context) : 0));
}

static void
report_success(void)
{
	if (failures == 0)
		return;
	failures = 0;
	resync_note_stopped(false);
	if (last_reason[0] != '\0')
		ereport(LOG,
				(errmsg("pg_quorum: entries of the log are applied again")));
	last_reason[0] = '\0';
	node_apply_detail(NULL);
}

/*
 * After an error: everything of the transaction is gone when this returns.
 * The caller is in a PG_CATCH block.
 */
ErrorData *
apply_clean_up_after_error(void)
{
	ErrorData  *edata;

	HOLD_INTERRUPTS();
	MemoryContextSwitchTo(TopMemoryContext);
	edata = CopyErrorData();
	FlushErrorState();
	AbortCurrentTransaction();
	gate_aborted();
	apply_rows_forget();
	entry_guest.forget();
	ddl_depth = 0;
	QueryCancelPending = false;
	RESUME_INTERRUPTS();
	return edata;
}

/* Entries from first on, as far as they are ours; or a pause after a failure. */
static void
apply_from(uint64 first)
{
	/* after a failure one by one, to get at the one that fails */
	uint64		last = failures ? first : node_apply_run_end(first, first + BATCH_ENTRIES - 1);
	int64		begun_us = clock_monotonic_us();
	volatile bool good = true;
	Batch		batch;

	pgstat_report_activity(STATE_RUNNING, "applying entries of the log");
	node_apply_busy(first);
	PG_TRY();
	{
		apply_batch(first, last, &batch);
	}
	PG_CATCH();
	{
		ErrorData  *edata = apply_clean_up_after_error();

		node_apply_busy(0);
		report_failure(node_applied_index() + 1, edata);
		FreeErrorData(edata);
		good = false;
	}
	PG_END_TRY();
	if (good)
	{
		node_apply_busy(0);
		report_success();
		stats_add(STAT_APPLIED_ENTRIES, batch.entries);
		stats_add(STAT_APPLIED_ROWS, batch.rows);
		stats_add(STAT_APPLIED_BYTES, batch.bytes);
		stats_add(STAT_APPLIED_STATEMENTS, batch.statements);
		stats_add(STAT_APPLY_COMMITS, 1);
		stats_add(STAT_APPLY_BUSY_US, clock_monotonic_us() - begun_us);
		return;
	}
	apply_pause_ms(Min((int64) RETRY_FIRST_MS << Min(failures - 1, 16), RETRY_LAST_MS));
}

/* ---------- what else there is to do ---------- */

/* See node_set_flushed_index(): the log below may go. */
static void
publish_flushed(void)
{
	uint64		progress;

	if (node_applied_index() == flushed_index)
		return;
	progress = replorigin_get_progress(origin, true);
	if (progress > flushed_index)
	{
		flushed_index = progress;
		node_set_flushed_index(progress);
	}
}

/* An error in it (a broken index, say) is no reason not to apply. */
static void
open_gate(void)
{
	volatile bool all = false;

	PG_TRY();
	{
		all = sequences_open_gate();
	}
	PG_CATCH();
	{
		ErrorData  *edata = apply_clean_up_after_error();

		ereport(LOG,
				(errcode(edata->sqlerrcode),
				 errmsg("pg_quorum: could not set sequences past replayed keys: %s", edata->message)));
		FreeErrorData(edata);
	}
	PG_END_TRY();
	gate_next_us = all ? 0 : clock_monotonic_us() + GATE_RETRY_MS * INT64CONST(1000);
}

/* A session asks for a table to be put right, so that we can go on. */
static void
put_right(void)
{
	node_apply_busy(node_applied_index() + 1);
	PG_TRY();
	{
		resync_here();
	}
	PG_CATCH();
	{
		ErrorData  *edata = apply_clean_up_after_error();

		ereport(LOG,
				(errcode(edata->sqlerrcode),
				 errmsg("pg_quorum: could not repair a table: %s", edata->message)));
		FreeErrorData(edata);
	}
	PG_END_TRY();
	node_apply_busy(0);
}

static void
main_loop(void)
{
	int64		next_flush_us = clock_monotonic_us() + FLUSH_INTERVAL_MS * INT64CONST(1000);

	for (;;)
	{
		uint64		first;
		int64		now_us;
		long		wait;

		CHECK_FOR_INTERRUPTS();
		wait = gate_work();
		wait = Min(wait, FLUSH_INTERVAL_MS);
		if (resync_wanted_here())
			put_right();
		if (image_turn())
		{
			close_reader();		/* the log may be another one */
			entry_guest.forget();	/* an image brings tables of its own */
			indexjob_look_again();
			tablecopy_look_again();
			continue;
		}
		if (entry_guest.hand_over_wanted())
			entry_guest.hand_over(node_applied_index());
		indexjob_work();
		tablecopy_work();
		if (!quorum_debug_apply_hold && node_apply_next(&first))
			apply_from(first);
		else if (sequences_gate_due() && clock_monotonic_us() >= gate_next_us)
			open_gate();
		else
		{
			pgstat_report_stat(false);
			pgstat_report_activity(STATE_IDLE, NULL);
			wait_ms(wait);
		}
		now_us = clock_monotonic_us();
		if (now_us >= next_flush_us)
		{
			publish_flushed();
			resync_tidy();
			pgstat_report_stat(false);
			next_flush_us = now_us + FLUSH_INTERVAL_MS * INT64CONST(1000);
		}
	}
}

/* ---------- start ---------- */

static void
at_exit(int code, Datum arg)
{
	node_apply_busy(0);
	image_copy_abandon();
	node_image_over();
	gate_exit();
	close_reader();
}

/*
 * A missing database ends the process with a FATAL that names it. The next
 * start then waits a little longer, so that the log does not fill with it.
 */
static void
connect_to_database(void)
{
	uint32		failed = pg_atomic_read_u32(&apply_shared->failed_starts);
	char		reason[NODE_DETAIL_LEN];

	if (failed > 0)
		apply_pause_ms(Min((int64) failed * 1000, START_RETRY_LAST_MS));
	pg_atomic_write_u32(&apply_shared->failed_starts, failed + 1);
	snprintf(reason, sizeof(reason), "the apply worker cannot connect to database \"%s\" (quorum.database)",
			 quorum_database);
	node_apply_detail(failed > 0 ? reason : NULL);
	BackgroundWorkerInitializeConnection(quorum_database, NULL, 0);
	pg_atomic_write_u32(&apply_shared->failed_starts, 0);
	node_apply_detail(NULL);
}

/* What must not depend on this server's configuration. */
static void
fix_settings(void)
{
	static const char *const settings[][2] = {
		{"session_replication_role", "replica"},
		{"search_path", ""},
		{"default_transaction_isolation", "read committed"},
		{"default_transaction_read_only", "off"},
		{"default_transaction_deferrable", "off"},
		{"statement_timeout", "0"},
		{"lock_timeout", "0"},
		{"idle_in_transaction_session_timeout", "0"},
		{"check_function_bodies", "off"},
		{"row_security", "off"},
		{"datestyle", "ISO, YMD"},
		{"intervalstyle", "postgres"},
		{"xmloption", "content"},
	};

	for (int i = 0; i < lengthof(settings); i++)
		SetConfigOption(settings[i][0], settings[i][1], PGC_SUSET, PGC_S_OVERRIDE);
}

static void
wait_for_extension(void)
{
	bool		said = false;

	for (;;)
	{
		bool		there;

		StartTransactionCommand();
		there = OidIsValid(get_extension_oid("pg_quorum", true));
		CommitTransactionCommand();
		if (there)
			break;
		if (!said)
		{
			char		reason[NODE_DETAIL_LEN];

			snprintf(reason, sizeof(reason), "extension pg_quorum is missing in database \"%s\" (quorum.database)",
					 quorum_database);
			node_apply_detail(reason);
			if (node_is_member())
				ereport(LOG,
						(errmsg("pg_quorum: extension pg_quorum is missing in database \"%s\"",
								quorum_database),
						 errhint("Create it there, or change quorum.database.")));
			said = true;
		}
		wait_ms(WAIT_EXTENSION_MS);
	}
	if (said)
		node_apply_detail(NULL);
}

/* Returns what this server's tables have of the log. */
static uint64
find_progress(void)
{
	char	   *log_dir = node_log_dir();
	uint64		progress;

	StartTransactionCommand();
	origin = replorigin_by_name(REPLICATION_ORIGIN_NAME, true);
	if (origin == InvalidRepOriginId)
		origin = replorigin_create(REPLICATION_ORIGIN_NAME);
	CommitTransactionCommand();

	/* without a log there is no cluster: whatever it says is of a former one */
	progress = replorigin_get_progress(origin, false);
	if (progress > 0 && access(log_dir, F_OK) != 0 &&
		pg_atomic_read_u32(&apply_shared->announced) == 0)
	{
		StartTransactionCommand();
		replorigin_advance(origin, InvalidXLogRecPtr, InvalidXLogRecPtr, true, true);
		CommitTransactionCommand();
		progress = 0;
	}
	pfree(log_dir);
	return progress;
}

static void
prepare_reading(void)
{
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

	old_columns = palloc_array(WsColumn, WS_MAX_COLUMNS);
	new_columns = palloc_array(WsColumn, WS_MAX_COLUMNS);
	truncate_ids = palloc_array(uint32_t, WS_MAX_TRUNCATE);
	record = palloc0_object(WsRecord);
	record->old_tuple.cols = old_columns;
	record->new_tuple.cols = new_columns;
	record->table_ids = truncate_ids;
	MemoryContextSwitchTo(old);
}

void
replication_apply_main(Datum arg)
{
	uint64		progress;

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	applying = true;
	before_shmem_exit(at_exit, (Datum) 0);

	connect_to_database();
	fix_settings();
	prepare_reading();
	pgstat_report_activity(STATE_IDLE, NULL);
	wait_for_extension();
	progress = find_progress();
	/* a second start in one life of the server: memory knows better */
	if (pg_atomic_exchange_u32(&apply_shared->announced, 1) != 0)
		progress = node_applied_index();
	entry_guest.hand_over(progress);
	node_apply_ready(progress);
	publish_flushed();
	resync_load();
	image_resume();
	main_loop();
}
