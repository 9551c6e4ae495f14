/*-------------------------------------------------------------------------
 *
 * outcome_keeper.c
 *		The keeper: a background worker that keeps outcomes and idempotency keys
 *		for quorum.outcome_retention, and no longer.
 *
 * Outcomes. It reads committed entries from the log's files, like the apply
 * worker, and adds their tokens to the archive (storage/tokens.h), BATCH entries
 * at a time, or fewer when somebody wants them: the Raft worker, which keeps the
 * log until its tokens are archived (node_set_archived_index), or a session that
 * asks for an outcome. An archive that cannot be written keeps the log, and is
 * said in the server's log once a minute.
 *
 * A member that is given an image of the tables, since its log does not reach back,
 * gets the giving member's archive with it (outcome_transfer.c). Where its log
 * begins later than its archive ends all the same, it knows nothing of what lies
 * between; the others do.
 *
 * Keys. On the leader it deletes old rows of quorum.idempotency, in transactions
 * like any session's, so a key ends at the same entry of the log for every member.
 * It connects to the database only for that, and so does without one elsewhere.
 *
 * Everything is in the files, and nothing in memory outlives an error or a crash:
 * the postmaster starts the process again.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <unistd.h>

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "common/file_utils.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "raft/raft.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "consistency/outcome.h"
#include "node/node.h"
#include "storage/rlog.h"
#include "storage/tokens.h"

#define BATCH			65536	/* entries */
#define IDLE_MS			2000
#define RESTART_S		2
#define REPEAT_LOG_US	INT64CONST(60000000)
#define LONGEST_TICK_US INT64CONST(600000000)
#define KEYS_AT_ONCE	1000

static TokArchive *archive = NULL;
static uint8 archive_instance[RAFT_INSTANCE_LEN];
static RlogReader *reader = NULL;
static TokToken *tokens = NULL;
static bool connected = false;
static int64 last_logged_us = 0;
static int64 tick_us = 0;		/* look for what is too old then */
static int64 retry_us = 0;		/* after a failure: not before */

static void
complain(const char *what, const char *why)
{
	int64		now_us = node_monotonic_us();

	retry_us = now_us + (int64) IDLE_MS * 1000;
	if (last_logged_us != 0 && now_us - last_logged_us < REPEAT_LOG_US)
		return;
	last_logged_us = now_us;
	ereport(LOG,
			(errmsg("pg_quorum: %s: %s", what, why),
			 errdetail("Until it works the log is kept, however long it is.")));
}

static void
close_files(void)
{
	if (reader != NULL)
		rlog_reader_close(reader);
	if (archive != NULL)
		tok_close(archive);
	reader = NULL;
	archive = NULL;
}

static void
at_exit(int code, Datum arg)
{
	close_files();
}

/* ---------- the archive ---------- */

/* Where this server stands; false: nothing to do yet. */
static bool
open_archive(void)
{
	uint8		instance[RAFT_INSTANCE_LEN];
	uint64		first = node_log_first_index();
	char	   *dir;
	char		error[RLOG_ERROR_LEN];

	if (!node_is_member() || first == 0 || !node_instance(instance))
	{
		close_files();			/* the next log may be another */
		return false;
	}
	if (archive != NULL && memcmp(instance, archive_instance, sizeof(instance)) == 0)
		return true;
	close_files();
	dir = node_outcome_dir();
	archive = tok_open(rlog_env_posix(), dir, instance, first, error);
	pfree(dir);
	if (archive == NULL)
	{
		complain("the archive of outcomes cannot be opened", error);
		return false;
	}
	memcpy(archive_instance, instance, sizeof(instance));
	node_set_archived_index(tok_archived(archive));
	return true;
}

/* What came with an image. */
static void
adopt_fetched(void)
{
	char	   *dir = node_outcome_fetched_dir();
	char	   *horizon = psprintf("%s/horizon", dir);
	char		error[RLOG_ERROR_LEN];

	if (access(horizon, F_OK) == 0)
	{
		if (!tok_adopt(archive, dir, error))
			complain("another member's outcomes cannot be taken over", error);
		else
			(void) rmtree(dir, true);
		node_set_archived_index(tok_archived(archive));
	}
	pfree(horizon);
	pfree(dir);
}

static bool
open_reader(void)
{
	char	   *dir;
	char		error[RLOG_ERROR_LEN] = "";
	RlogStatus	status;

	if (reader != NULL)
		return true;
	dir = node_log_dir();
	status = rlog_reader_open(rlog_env_posix(), dir, &reader, error);
	pfree(dir);
	if (status == RLOG_OK)
		return true;
	reader = NULL;
	complain("the log cannot be read for the archive of outcomes", error);
	return false;
}

/* The token of one entry. False: it cannot be read now. */
static bool
read_token(uint64 index, uint64 limit, TokToken *token, int64 *stamp_us)
{
	RlogRecord	entry;
	RaftToken	in_entry;
	RaftStamp	stamp;
	char		error[RLOG_ERROR_LEN] = "";
	RlogStatus	status = rlog_reader_get(reader, index, limit, &entry, error);

	if (status != RLOG_OK)
	{
		rlog_reader_close(reader);
		reader = NULL;
		if (status == RLOG_DAMAGED)
			node_log_suspect(index);
		if (status != RLOG_COMPACTED && status != RLOG_END)
			complain("the log cannot be read for the archive of outcomes", error);
		return false;
	}
	memcpy(&stamp, entry.stamp, sizeof(stamp));
	memcpy(&in_entry, entry.token, sizeof(in_entry));
	*stamp_us = stamp.physical_us;
	memset(token, 0, sizeof(*token));
	if (entry.type == RAFT_ENTRY_DATA)
		*token = (TokToken) {in_entry.node, in_entry.boot, in_entry.counter};
	return true;
}

static void
archive_upto(uint64 last)
{
	uint64		first = tok_archived(archive) + 1;
	size_t		n = 0;
	int64		newest_us = 0;
	char		error[RLOG_ERROR_LEN];

	for (uint64 i = first; i <= last; i++)
	{
		int64		stamp_us;

		if (!read_token(i, last, &tokens[n], &stamp_us))
			return;
		newest_us = Max(newest_us, stamp_us);
		if (tokens[n].node != 0)
			n++;
		if ((i & 255) == 0)
			CHECK_FOR_INTERRUPTS();
	}
	if (!tok_add(archive, last, tokens, n, newest_us, error))
	{
		complain("outcomes cannot be archived", error);
		return;
	}
	node_set_archived_index(tok_archived(archive));
}

/* True: there may be more to do at once. */
static bool
archive_some(void)
{
	uint64		archived = tok_archived(archive);
	uint64		commit = node_commit_index();
	uint64		first = node_log_first_index();
	char		error[RLOG_ERROR_LEN];

	if (first > archived + 1)
	{
		if (!tok_skip_to(archive, first, error))
		{
			complain("the archive of outcomes cannot go on", error);
			return false;
		}
		node_set_archived_index(tok_archived(archive));
		return true;
	}
	if (commit <= archived ||
		(commit - archived < BATCH && node_archive_wanted() <= archived))
		return false;
	if (!open_reader())
		return false;
	archive_upto(Min(commit, archived + BATCH));
	return tok_archived(archive) > archived;
}

static void
expire_outcomes(int64 before_us)
{
	size_t		removed;
	char		error[RLOG_ERROR_LEN];

	if (!tok_expire(archive, before_us, &removed, error))
		complain("old outcomes cannot be removed", error);
	else if (removed > 0)
		ereport(DEBUG1,
				(errmsg_internal("pg_quorum: removed %zu segments of old outcomes", removed)));
}

/* ---------- keys ---------- */

static void
connect_to_database(void)
{
	static const char *const settings[][2] = {
		{"search_path", "pg_catalog"},
		{"quorum.idempotency_key", ""},
		{"quorum.write_consistency", "quorum"},
		{"quorum.commit_timeout", "10s"},
		{"default_transaction_isolation", "read committed"},
		{"default_transaction_read_only", "off"},
		{"statement_timeout", "0"},
		{"lock_timeout", "1s"},
	};

	BackgroundWorkerInitializeConnection(quorum_database, NULL, 0);
	for (int i = 0; i < lengthof(settings); i++)
		SetConfigOption(settings[i][0], settings[i][1], PGC_SUSET, PGC_S_OVERRIDE);
	connected = true;
}

/* How many rows went. May throw. */
static uint64
delete_keys(TimestampTz before)
{
	Oid			types[] = {TIMESTAMPTZOID, INT4OID};
	Datum		values[] = {TimestampTzGetDatum(before), Int32GetDatum(KEYS_AT_ONCE)};
	uint64		n;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	SPI_connect();
	pgstat_report_activity(STATE_RUNNING, "removing old idempotency keys");
	if (SPI_execute_with_args("DELETE FROM quorum.idempotency WHERE key = ANY (ARRAY("
							  "SELECT key FROM quorum.idempotency WHERE committed_at < $1 "
							  "ORDER BY committed_at LIMIT $2))",
							  2, types, values, NULL, false, 0) != SPI_OK_DELETE)
		elog(ERROR, "could not delete idempotency keys");
	n = SPI_processed;
	SPI_finish();
	PopActiveSnapshot();
	CommitTransactionCommand();
	pgstat_report_stat(false);
	pgstat_report_activity(STATE_IDLE, NULL);
	return n;
}

/* A failure (no quorum, a conflict) is no news: the next tick tries again. */
static void
expire_keys(TimestampTz before)
{
	volatile bool more = true;
	MemoryContext old = CurrentMemoryContext;

	if (!connected)
		connect_to_database();
	while (more && node_is_leader())
	{
		PG_TRY();
		{
			more = delete_keys(before) == KEYS_AT_ONCE;
		}
		PG_CATCH();
		{
			ErrorData  *edata;

			HOLD_INTERRUPTS();
			MemoryContextSwitchTo(old);
			edata = CopyErrorData();
			FlushErrorState();
			AbortCurrentTransaction();
			ereport(DEBUG1,
					(errmsg_internal("pg_quorum: could not remove old idempotency keys: %s", edata->message)));
			FreeErrorData(edata);
			QueryCancelPending = false;
			RESUME_INTERRUPTS();
			more = false;
		}
		PG_END_TRY();
		MemoryContextSwitchTo(old);
		CHECK_FOR_INTERRUPTS();
	}
}

/* ---------- the worker ---------- */

static void
tick(void)
{
	int64		now_us = node_monotonic_us();
	int64		retention_us = (int64) quorum_outcome_retention_s * 1000000;
	TimestampTz before = GetCurrentTimestamp() - retention_us;

	if (now_us < tick_us)
		return;
	tick_us = now_us + Max(Min(retention_us / 10, LONGEST_TICK_US), INT64CONST(500000));
	expire_outcomes(before);	/* stamps count from the same epoch */
	if (node_is_leader() && node_apply_is_ready())
		expire_keys(before);
}

void
outcome_keeper_main(Datum arg)
{
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	before_shmem_exit(at_exit, (Datum) 0);
	node_keeper_ready();
	tokens = MemoryContextAlloc(TopMemoryContext, BATCH * sizeof(TokToken));

	for (;;)
	{
		bool		more = false;

		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
			tick_us = 0;
		}
		if (node_monotonic_us() >= retry_us && open_archive())
		{
			adopt_fetched();
			more = archive_some();
			tick();
		}
		if (more)
			continue;
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 Min((long) IDLE_MS, Max(100L, quorum_outcome_retention_s * 100L)),
						 PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
	}
}

void
outcome_register_keeper(void)
{
	BackgroundWorker worker;

	memset(&worker, 0, sizeof(worker));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = RESTART_S;
	strlcpy(worker.bgw_library_name, "pg_quorum", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, "outcome_keeper_main", BGW_MAXLEN);
	strlcpy(worker.bgw_name, "pg_quorum keeper", BGW_MAXLEN);
	strlcpy(worker.bgw_type, "pg_quorum keeper", BGW_MAXLEN);
	RegisterBackgroundWorker(&worker);
}
