/*-------------------------------------------------------------------------
 *
 * clock_worker.c
 *		Background worker that renews persisted bounds before anybody runs into
 *		them, and watches the wall clock.
 *
 * A process of its own because it waits for fsync, which must hold up neither
 * a tick nor the Raft worker's heartbeats. Everything works without it, only
 * that the tick which meets the bound does the work itself.
 *
 * A clock that nobody uses is left alone: no tick for CLOCK_IDLE_US, no writes.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "clock/clock_internal.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "utils/guc.h"

#define CLOCK_ACTIVE_SLEEP_MS	200
#define CLOCK_IDLE_SLEEP_MS		1000
#define CLOCK_IDLE_US			INT64CONST(10000000)

void
clock_register_worker(void)
{
	BackgroundWorker worker;

	memset(&worker, 0, sizeof(worker));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS;
	worker.bgw_start_time = BgWorkerStart_PostmasterStart;
	worker.bgw_restart_time = 1;
	snprintf(worker.bgw_library_name, BGW_MAXLEN, "pg_quorum");
	snprintf(worker.bgw_function_name, BGW_MAXLEN, "clock_worker_main");
	snprintf(worker.bgw_name, BGW_MAXLEN, "pg_quorum clock");
	snprintf(worker.bgw_type, BGW_MAXLEN, "pg_quorum clock");
	RegisterBackgroundWorker(&worker);
}

/*
 * Half of the way to the bound is left at least, for stamps and for ids. The
 * clock will follow the wall clock with its next tick, so measure from there,
 * unless that is out of the way (CLOCK_FOLLOW_WALL_US): then the tick that does
 * follow it writes.
 */
static void
renew_ahead(void)
{
	int64		front_us = Max(hlc_word_physical_us(pg_atomic_read_u64(&clock_shared->word)),
							   clock_id_time_us(pg_atomic_read_u64(&clock_shared->last_id)));

	if (clock_physical_us() - front_us <= CLOCK_FOLLOW_WALL_US)
		front_us = Max(front_us, clock_physical_us());
	if (clock_usable() == CLOCK_OK)
		(void) clock_persist_bound(hlc_word_at(front_us), CLOCK_BOUND_AHEAD_US / 2);
}

/* Has anybody used the clock within the last CLOCK_IDLE_US? */
static bool
clock_in_use(void)
{
	static uint64 seen_word = 0;
	static uint64 seen_id = 0;
	static int64 seen_at_us = 0;
	uint64		word = pg_atomic_read_u64(&clock_shared->word);
	uint64		id = pg_atomic_read_u64(&clock_shared->last_id);
	int64		now_us = clock_monotonic_us();

	if (word != seen_word || id != seen_id || seen_at_us == 0)
	{
		seen_word = word;
		seen_id = id;
		seen_at_us = now_us;
	}
	return now_us - seen_at_us < CLOCK_IDLE_US;
}

void
clock_worker_main(Datum arg)
{
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, SignalHandlerForShutdownRequest);
	BackgroundWorkerUnblockSignals();

	while (!ShutdownRequestPending)
	{
		bool		in_use = clock_in_use();

		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}

		clock_check_wall(true);
		if (in_use)
			renew_ahead();
		lamport_renew_ahead();

		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 in_use ? CLOCK_ACTIVE_SLEEP_MS : CLOCK_IDLE_SLEEP_MS,
						 PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
	proc_exit(0);
}
