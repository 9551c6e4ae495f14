/*-------------------------------------------------------------------------
 *
 * conflict.c
 *		Local sessions that stand in the apply worker's way must go.
 *
 * The apply worker waits for locks like everybody else. While it is busy with
 * one entry for longer than a moment the Raft worker looks every 2 ms whom it
 * waits for (conflict_apply_watch) and dooms them: notes the victim's
 * transaction, then wakes it,
 *
 *	- by SIGINT, when it is executing. Its error, 57014, is made 40001 where the
 *	  statement ends (conflict_hooks.c), so that no exception block between
 *	  takes it for something else;
 *	- by an invalidation message of our own and a catch-up interrupt, when it is
 *	  idle in a transaction: it rolls back where it waits for its client, and
 *	  the next statement gets 40001 (conflict_hooks.c);
 *	- by SIGTERM, when it is still in the way after DOOM_TERMINATE_US.
 *
 * Left alone: a session that waits for its verdict. Certification knows of the
 * entry that is being applied, so the verdict ends the wait. One that is decided
 * and waits for its turn cannot stand in the way, by the keys that it carries;
 * should it, for long, it is doomed too, and its entry goes to the applier.
 * Neither holds while an image replaces the tables: verdicts come with the log,
 * which goes on only behind the image, and its locks are on whole tables. So then
 * both have to go, with 40003 where the proposal is under way.
 *
 * Shared state: one ConflictSlot a process, written by the Raft worker only,
 * read by the process; atomics, no lock. A doom names the victim's local
 * transaction, so that one that comes late hits nobody else. A crash starts
 * with all of it zero.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <signal.h>

#include "miscadmin.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "storage/procsignal.h"
#include "storage/shmem.h"
#include "storage/sinval.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"

#include "clock/clock_shmem.h"
#include "compat.h"
#include "node/node.h"
#include "replication/apply_internal.h"
#include "replication/conflict.h"
#include "replication/stats.h"

#define DOOM_AGAIN_US		INT64CONST(20000)	/* between two wake-ups of one victim */
#define DOOM_TURN_US		INT64CONST(200000)	/* before a decided session is doomed */
#define DOOM_TERMINATE_US	INT64CONST(2000000)
#define CANCEL_GRACE_US		INT64CONST(1000000) /* how late a SIGINT of ours may be */
#define PREPARED_LOG_US		INT64CONST(60000000)

typedef struct ConflictSlot
{
	pg_atomic_uint32 doomed_lxid;	/* 0: nobody */
	pg_atomic_uint64 index;		/* in favour of this entry */
	pg_atomic_uint64 doomed_us;
	pg_atomic_uint64 signalled_us;
} ConflictSlot;

typedef struct ConflictShared
{
	/* apply worker writes, anyone reads; a torn name harms nobody */
	char		table[NAMEDATALEN];
	ConflictSlot slots[FLEXIBLE_ARRAY_MEMBER];	/* MaxBackends */
} ConflictShared;

static ConflictShared *shared = NULL;

/* the Raft worker's own */
static MemoryContext watch_context = NULL;
static int64 prepared_logged_us = 0;

Size
conflict_shmem_size(void)
{
	return add_size(offsetof(ConflictShared, slots),
					mul_size(MaxBackends, sizeof(ConflictSlot)));
}

void
conflict_shmem_init(void)
{
	bool		found;

	shared = ShmemInitStruct("pg_quorum conflict", conflict_shmem_size(), &found);
	if (found)
		return;
	memset(shared->table, 0, sizeof(shared->table));
	for (int i = 0; i < MaxBackends; i++)
	{
		pg_atomic_init_u32(&shared->slots[i].doomed_lxid, 0);
		pg_atomic_init_u64(&shared->slots[i].index, 0);
		pg_atomic_init_u64(&shared->slots[i].doomed_us, 0);
		pg_atomic_init_u64(&shared->slots[i].signalled_us, 0);
	}
}

/* ---------- the victim's side ---------- */

/* NULL for auxiliary processes, which have no slot. */
static inline ConflictSlot *
my_slot(void)
{
	if (shared == NULL || MyProc == NULL || compat_my_procno() >= MaxBackends)
		return NULL;
	return &shared->slots[compat_my_procno()];
}

bool
conflict_is_doomed(void)
{
	ConflictSlot *slot = my_slot();
	uint32		lxid;

	if (slot == NULL)
		return false;
	lxid = pg_atomic_read_u32(&slot->doomed_lxid);
	return lxid != 0 && lxid == compat_proc_lxid(MyProc);
}

/* Is a cancel that arrives now ours? It may come when its victim is gone. */
bool
conflict_cancelled_us(void)
{
	ConflictSlot *slot = my_slot();
	uint64		sent;

	if (slot == NULL)
		return false;
	if (conflict_is_doomed())
		return true;
	sent = pg_atomic_read_u64(&slot->signalled_us);
	return sent != 0 && clock_monotonic_us() - (int64) sent < CANCEL_GRACE_US;
}

uint64
conflict_winner(void)
{
	ConflictSlot *slot = my_slot();

	return slot ? pg_atomic_read_u64(&slot->index) : 0;
}

const char *
conflict_table(void)
{
	return shared->table;
}

void
conflict_note_table(const char *name)
{
	strlcpy(shared->table, name, sizeof(shared->table));
}

void
conflict_report_doomed(void)
{
	conflict_raise(conflict_winner(), conflict_table());
}

void
conflict_raise(uint64 index, const char *table)
{
	ereport(ERROR,
			(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
			 errmsg("%s", CONFLICT_MESSAGE),
			 errdetail(CONFLICT_DETAIL, table, index),
			 errhint("%s", CONFLICT_HINT)));
}

/* ---------- the Raft worker's side ---------- */

static void
wake_idle(PGPROC *proc, int pid)
{
	SharedInvalidationMessage msg;

	memset(&msg, 0, sizeof(msg));
	msg.rc.id = SHAREDINVALRELCACHE_ID;
	msg.rc.dbId = InvalidOid;
	msg.rc.relId = CONFLICT_INVAL_RELID;
	SendSharedInvalidMessages(&msg, 1);
	(void) SendProcSignal(pid, PROCSIG_CATCHUP_INTERRUPT, INVALID_PROC_NUMBER);
}

static void
doom(PGPROC *proc, int pid, uint64 index, int64 now_us)
{
	ConflictSlot *slot = &shared->slots[compat_proc_procno(proc)];
	uint32		lxid = compat_proc_lxid(proc);

	if (lxid == InvalidLocalTransactionId)
		return;
	if (pg_atomic_read_u32(&slot->doomed_lxid) != lxid)
	{
		pg_atomic_write_u64(&slot->index, index);
		pg_atomic_write_u64(&slot->doomed_us, now_us);
		pg_atomic_write_u64(&slot->signalled_us, 0);
		pg_write_barrier();
		pg_atomic_write_u32(&slot->doomed_lxid, lxid);
		stats_add(STAT_SESSIONS_DOOMED, 1);
	}
	else if (now_us - (int64) pg_atomic_read_u64(&slot->signalled_us) < DOOM_AGAIN_US)
		return;

	pg_atomic_write_u64(&slot->signalled_us, now_us);
	pg_memory_barrier();
	if (now_us - (int64) pg_atomic_read_u64(&slot->doomed_us) > DOOM_TERMINATE_US)
	{
		(void) kill(pid, SIGTERM);
		return;
	}
	(void) kill(pid, SIGINT);
	wake_idle(proc, pid);
	/* it may be waiting in the mailbox or for its turn */
	SetLatch(&proc->procLatch);
}

static void
say_prepared(uint64 index, int64 now_us)
{
	if (prepared_logged_us != 0 && now_us - prepared_logged_us < PREPARED_LOG_US)
		return;
	prepared_logged_us = now_us;
	ereport(LOG,
			(errmsg("pg_quorum: entry " UINT64_FORMAT " waits for a lock of a prepared transaction", index),
			 errhint("Prepared transactions cannot be aborted from outside: see pg_prepared_xacts, and use COMMIT PREPARED or ROLLBACK PREPARED.")));
}

static void
deal_with(int pid, uint64 index, int64 busy_us, int64 now_us)
{
	PGPROC	   *proc;
	uint64		least;

	if (pid == 0)
	{
		say_prepared(index, now_us);
		return;
	}
	proc = BackendPidGetProc(pid);
	if (proc == NULL)
		return;
	switch (node_wait_state(compat_proc_procno(proc)))
	{
		case NODE_WAIT_VERDICT:
			if (!node_image_wanted(&least))
				return;
			/* FALLTHROUGH */
		case NODE_WAIT_TURN:
			if (busy_us < DOOM_TURN_US)
				return;
			break;
		case NODE_WAIT_NONE:
			break;
	}
	doom(proc, pid, index, now_us);
}

/* NodeOps.apply_watch: no error may leave, nothing may block. */
void
conflict_apply_watch(int apply_pid, uint64 index, int64 busy_us)
{
	PGPROC	   *proc = BackendPidGetProc(apply_pid);
	MemoryContext old;

	/* a racy peek: is it waiting for a lock at all? */
	if (proc == NULL || proc->waitLock == NULL)
		return;
	if (watch_context == NULL)
		watch_context = AllocSetContextCreate(TopMemoryContext, "pg_quorum conflict watch",
											  ALLOCSET_SMALL_SIZES);
	old = MemoryContextSwitchTo(watch_context);
	PG_TRY();
	{
		ArrayType  *pids = DatumGetArrayTypeP(DirectFunctionCall1(pg_blocking_pids,
																  Int32GetDatum(apply_pid)));
		int			count = ArrayGetNItems(ARR_NDIM(pids), ARR_DIMS(pids));
		int64		now_us = clock_monotonic_us();

		for (int i = 0; i < count; i++)
			deal_with(((int32 *) ARR_DATA_PTR(pids))[i], index, busy_us, now_us);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(old);
		EmitErrorReport();
		FlushErrorState();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(old);
	MemoryContextReset(watch_context);
}
