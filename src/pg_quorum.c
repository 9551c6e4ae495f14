/*-------------------------------------------------------------------------
 *
 * pg_quorum.c
 *		Module start-up: settings, shared memory, hooks, workers. Nothing else.
 *
 * Loaded by shared_preload_libraries everything below is set up. Loaded later
 * (CREATE EXTENSION in a server that does not preload it) only the types work;
 * whatever needs shared memory says so with a HINT (node_require_loaded).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/guc.h"

#include "clock/clock_shmem.h"
#include "consistency/idempotency.h"
#include "consistency/read.h"
#include "consistency/outcome.h"
#include "consistency/write.h"
#include "lock/lock.h"
#include "lock/lock_sql.h"
#include "node/node.h"
#include "replication/replication.h"

PG_MODULE_MAGIC;

void		_PG_init(void);

static shmem_request_hook_type prev_shmem_request_hook = NULL;
static shmem_startup_hook_type prev_shmem_startup_hook = NULL;

static void
quorum_shmem_request(void)
{
	if (prev_shmem_request_hook)
		prev_shmem_request_hook();
	RequestAddinShmemSpace(node_shmem_size());
	RequestAddinShmemSpace(replication_shmem_size());
	RequestAddinShmemSpace(clock_shmem_size());
	RequestAddinShmemSpace(lock_shmem_size());
	RequestAddinShmemSpace(lock_holds_shmem_size());
}

static void
quorum_shmem_startup(void)
{
	if (prev_shmem_startup_hook)
		prev_shmem_startup_hook();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	node_shmem_init();
	replication_shmem_init();
	clock_shmem_init();
	lock_shmem_init();
	lock_holds_shmem_init();
	LWLockRelease(AddinShmemInitLock);
}

void
_PG_init(void)
{
	node_define_settings();
	replication_define_settings();
	clock_define_settings();
	lock_define_settings();
	write_define_settings();
	idempotency_define_settings();
	read_define_settings();
	outcome_define_settings();
	lock_define_session_settings();
	MarkGUCPrefixReserved("quorum");

	if (!process_shared_preload_libraries_in_progress)
		return;

	prev_shmem_request_hook = shmem_request_hook;
	shmem_request_hook = quorum_shmem_request;
	prev_shmem_startup_hook = shmem_startup_hook;
	shmem_startup_hook = quorum_shmem_startup;

	read_install();
	lock_session_install();		/* its end of a transaction comes after theirs */
	replication_install_hooks();
	replication_install_ops();
	write_install();
	idempotency_install();
	outcome_install();
	lock_apply_install();
	lock_fence_install();
	node_register_workers();
	clock_register_worker();
	outcome_register_keeper();
}
