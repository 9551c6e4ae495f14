/*-------------------------------------------------------------------------
 *
 * jobworker.c
 *		See jobworker.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "executor/spi.h"
#include "libpq/pqsignal.h"
#include "miscadmin.h"
#include "postmaster/interrupt.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "node/node.h"
#include "replication/jobworker.h"
#include "replication/ownsql.h"

bool
jobworker_finds(const char *query)
{
	OwnSql		saved;
	bool		found;

	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	ownsql_begin(&saved);
	ownsql_run(query, 0, NULL, NULL, NULL, SPI_OK_SELECT);
	found = SPI_processed > 0;
	ownsql_end(&saved);
	PopActiveSnapshot();
	CommitTransactionCommand();
	return found;
}

void
jobworker_turn(JobWorker *job)
{
	BackgroundWorker worker;
	MemoryContext old;
	pid_t		pid;

	if (!job->due)
		return;
	if (job->handle && GetBackgroundWorkerPid(job->handle, &pid) != BGWH_STOPPED)
		return;					/* and once more when it has gone */
	if (job->handle)
		pfree(job->handle);
	job->handle = NULL;
	if (!job->is_waiting())
	{
		job->due = false;
		return;
	}
	memset(&worker, 0, sizeof(worker));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = job->restart_s;
	strlcpy(worker.bgw_library_name, "pg_quorum", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, job->function, BGW_MAXLEN);
	strlcpy(worker.bgw_name, job->name, BGW_MAXLEN);
	strlcpy(worker.bgw_type, job->name, BGW_MAXLEN);
	old = MemoryContextSwitchTo(TopMemoryContext);
	/* no slot left: some other time */
	(void) RegisterDynamicBackgroundWorker(&worker, &job->handle);
	MemoryContextSwitchTo(old);
}

void
jobworker_begin(void)
{
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGINT, StatementCancelHandler);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnection(quorum_database, NULL, 0);
	SetConfigOption("search_path", "pg_catalog", PGC_SUSET, PGC_S_OVERRIDE);
	SetConfigOption("statement_timeout", "0", PGC_SUSET, PGC_S_OVERRIDE);
	SetConfigOption("lock_timeout", "0", PGC_SUSET, PGC_S_OVERRIDE);
	SetConfigOption("default_transaction_isolation", "read committed", PGC_SUSET, PGC_S_OVERRIDE);
	SetConfigOption("default_transaction_read_only", "off", PGC_SUSET, PGC_S_OVERRIDE);
}
