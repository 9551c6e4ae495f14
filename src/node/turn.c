/*-------------------------------------------------------------------------
 *
 * turn.c
 *		Who may commit which entry on this server, and when: in log order.
 *
 * The Raft worker records for each newly committed entry who commits it here
 * (a session that waits for it, or the apply worker) and then publishes the
 * commit index. Whoever has finished entry i wakes the owner of i + 1; the
 * publisher wakes the owner of applied + 1. Each side stores first and looks
 * second, with a full barrier between, so at least one of the two sees the
 * other and no wake-up is lost.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "storage/proc.h"
#include "utils/wait_event.h"

#include "compat.h"
#include "node/node_internal.h"

static inline pg_atomic_uint32 *
owner_of(uint64 index)
{
	return &node_shared->owner[index % NODE_TURN_RING];
}

static void
wake_owner(uint64 index)
{
	uint32		owner = pg_atomic_read_u32(owner_of(index));

	node_wake_proc(owner ? owner : pg_atomic_read_u32(&node_shared->apply_proc));
}

/* ---------- the Raft worker's side ---------- */

/*
 * Entry `index` is committed and carries `token`: is the session that posted
 * it still waiting in its slot (there)? Then the turn is its own, unless it is
 * the applier's anyway. detail: NodeAnswer.conflict_index, a lock's token.
 */
bool
node_give_turn(int procno, RaftToken token, uint64 index, uint64 rows_index, RaftStamp stamp,
			   uint64 detail, bool *there)
{
	NodeSlot   *slot = &node_shared->slots[procno];
	bool		taken = false;
	bool		answered = false;

	SpinLockAcquire(&slot->mutex);
	if (slot->state == SLOT_TAKEN && raft_token_equal(slot->token, token))
	{
		slot->answer.verdict = NODE_COMMITTED;
		slot->answer.index = index;
		slot->answer.rows_index = rows_index;
		slot->answer.stamp = stamp;
		slot->answer.conflict_index = detail;
		*there = true;
		if (slot->applier_owns)
		{
			slot->state = SLOT_ANSWERED;
			answered = true;
		}
		else
		{
			slot->state = SLOT_DECIDED;
			pg_atomic_write_u32(owner_of(index), procno + 1);
			taken = true;
		}
	}
	SpinLockRelease(&slot->mutex);
	if (answered)
		node_wake_proc(procno + 1);
	return taken;
}

/*
 * Entries first..last have their owners recorded (node_give_turn, or nothing
 * for the apply worker's, whose ring places the caller has cleared).
 */
void
node_publish_commit(uint64 first, uint64 last)
{
	uint64		next;

	Assert(first <= last);
	Assert(last <= pg_atomic_read_u64(&node_shared->applied_index) + NODE_TURN_RING);
	Assert(pg_atomic_read_u64(&node_shared->commit_index) == first - 1);

	pg_write_barrier();
	pg_atomic_write_u64(&node_shared->commit_index, last);
	pg_memory_barrier();
	next = pg_atomic_read_u64(&node_shared->applied_index) + 1;
	if (next >= first && next <= last)
		wake_owner(next);
}

/* Final answer other than "committed". The slot may be another's by now. */
void
node_answer_slot(int procno, RaftToken token, const NodeAnswer *answer, int sqlstate)
{
	NodeSlot   *slot = &node_shared->slots[procno];
	bool		answered = false;

	SpinLockAcquire(&slot->mutex);
	if (slot->state == SLOT_TAKEN && raft_token_equal(slot->token, token))
	{
		slot->answer = *answer;
		slot->sqlstate = sqlstate;
		slot->state = SLOT_ANSWERED;
		answered = true;
	}
	SpinLockRelease(&slot->mutex);
	if (answered)
		node_wake_proc(procno + 1);
}

/* ---------- the session's side ---------- */

/* What this process announced by node_turn_committing and has not finished. */
static uint64 announced_index = 0;

static inline NodeSlot *
my_slot(void)
{
	return &node_shared->slots[compat_my_procno()];
}

bool
node_turn_wait(uint64 index, bool (*doomed_check) (void))
{
	for (;;)
	{
		if (pg_atomic_read_u64(&node_shared->applied_index) == index - 1)
			return true;
		if (ProcDiePending || (doomed_check && doomed_check()))
			return false;
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_EXIT_ON_PM_DEATH, -1L,
						 PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		if (InterruptPending && !ProcDiePending)
		{
			/* barriers, catch-up; a cancel stays pending: the entry stands */
			HOLD_CANCEL_INTERRUPTS();
			CHECK_FOR_INTERRUPTS();
			RESUME_CANCEL_INTERRUPTS();
		}
	}
}

/* Which transaction entry `index` is. An older one may be there. */
static void
record_commit(uint64 index, FullTransactionId xid)
{
	NodeCommit *commit = &node_shared->commits[index % NODE_TURN_RING];

	pg_atomic_write_u64(&commit->index, 0);
	pg_write_barrier();
	pg_atomic_write_u64(&commit->first, pg_atomic_read_u64(&node_shared->applied_index) + 1);
	pg_atomic_write_u64(&commit->xid, U64FromFullTransactionId(xid));
	pg_write_barrier();
	pg_atomic_write_u64(&commit->index, index);
}

/* Entries first..last have no effect on the tables: passed. */
void
node_turn_passed(uint64 first, uint64 last)
{
	/* so many at a time that the ring is not lapped: the applier's batches */
	for (uint64 i = first; i <= last; i++)
		record_commit(i, InvalidFullTransactionId);
	node_turn_done(last);
}

bool
node_commit_is_empty(uint64 index)
{
	NodeCommit *commit = &node_shared->commits[index % NODE_TURN_RING];
	uint64		xid;

	if (pg_atomic_read_u64(&commit->index) != index)
		return false;
	pg_read_barrier();
	xid = pg_atomic_read_u64(&commit->xid);
	pg_read_barrier();
	return xid == 0 && pg_atomic_read_u64(&commit->index) == index;
}

/* See node.h. */
bool
node_commit_xid(uint64 index, FullTransactionId *xid)
{
	NodeCommit *commit = &node_shared->commits[index % NODE_TURN_RING];

	if (pg_atomic_read_u64(&commit->index) != index)
		return false;
	pg_read_barrier();
	*xid = FullTransactionIdFromU64(pg_atomic_read_u64(&commit->xid));
	pg_read_barrier();
	return pg_atomic_read_u64(&commit->index) == index && FullTransactionIdIsValid(*xid);
}

/* See node.h. */
bool
node_commit_covers(uint64 index, uint64 *first, FullTransactionId *xid)
{
	NodeCommit *commit = &node_shared->commits[index % NODE_TURN_RING];

	if (pg_atomic_read_u64(&commit->index) != index)
		return false;
	pg_read_barrier();
	*first = pg_atomic_read_u64(&commit->first);
	*xid = FullTransactionIdFromU64(pg_atomic_read_u64(&commit->xid));
	pg_read_barrier();
	return pg_atomic_read_u64(&commit->index) == index && FullTransactionIdIsValid(*xid);
}

uint64
node_committing_index(void)
{
	return Max(pg_atomic_read_u64(&node_shared->committing_index),
			   pg_atomic_read_u64(&node_shared->applied_index));
}

uint64
node_start_index(void)
{
	return pg_atomic_read_u64(&node_shared->start_index);
}

void
node_turn_committing(uint64 index, TransactionId xid)
{
	Assert(index > pg_atomic_read_u64(&node_shared->applied_index));
	record_commit(index, GetTopFullTransactionIdIfAny());
	pg_atomic_write_u32(&node_shared->committing_xid, xid);
	pg_write_barrier();
	announced_index = index;
	pg_atomic_write_u64(&node_shared->committing_index, index);
	/* nobody may see the commit before the announcement */
	pg_memory_barrier();
}

void
node_turn_done(uint64 index)
{
	NodeSlot   *slot = my_slot();

	Assert(pg_atomic_read_u64(&node_shared->applied_index) < index);
	announced_index = 0;
	pg_atomic_write_u64(&node_shared->applied_index, index);
	pg_memory_barrier();
	pg_atomic_write_u32(&node_shared->committing_xid, InvalidTransactionId);
	if (pg_atomic_read_u64(&node_shared->commit_index) > index)
		wake_owner(index + 1);
	node_wake_waiters(index);
	if (pg_atomic_read_u64(&node_shared->applied_wanted) <= index)
		node_wake_proc(pg_atomic_read_u32(&node_shared->raft_proc));

	if (slot->state == SLOT_DECIDED)
	{
		SpinLockAcquire(&slot->mutex);
		slot->state = SLOT_FREE;
		SpinLockRelease(&slot->mutex);
	}
}

void
node_wake_apply(void)
{
	node_wake_proc(pg_atomic_read_u32(&node_shared->apply_proc));
}

/*
 * Whatever this process had posted or been given: let go of it. Idempotent.
 * An entry that is decided goes to the apply worker.
 */
void
node_turn_abandon(void)
{
	NodeSlot   *slot;
	uint64		index = 0;
	dsa_pointer large = InvalidDsaPointer;

	if (node_shared == NULL || MyProc == NULL)
		return;
	if (announced_index != 0)
	{
		/* aborted after all: let node_base_index() go on */
		announced_index = 0;
		pg_atomic_write_u64(&node_shared->committing_index, 0);
	}
	slot = my_slot();
	if (slot->state == SLOT_FREE)
		return;

	for (;;)
	{
		SpinLockAcquire(&slot->mutex);
		if (slot->state != SLOT_TAKING)
			break;
		SpinLockRelease(&slot->mutex);
		pg_usleep(100);			/* the worker is copying our payload */
	}
	if (slot->state == SLOT_DECIDED)
		index = slot->answer.index;
	large = slot->large;
	slot->large = InvalidDsaPointer;
	slot->state = SLOT_FREE;
	SpinLockRelease(&slot->mutex);

	if (DsaPointerIsValid(large))
		dsa_free(node_dsa(), large);
	if (index != 0)
	{
		pg_atomic_write_u32(owner_of(index), 0);
		pg_memory_barrier();
		if (pg_atomic_read_u64(&node_shared->applied_index) == index - 1)
			node_wake_proc(pg_atomic_read_u32(&node_shared->apply_proc));
	}
}

NodeWaitState
node_wait_state(int procno)
{
	/* a racy peek: the detector looks again before it acts */
	switch (node_shared->slots[procno].state)
	{
		case SLOT_POSTED:
		case SLOT_TAKING:
		case SLOT_TAKEN:
			return NODE_WAIT_VERDICT;
		case SLOT_DECIDED:
			return NODE_WAIT_TURN;
		default:
			return NODE_WAIT_NONE;
	}
}

/* ---------- the apply worker's side ---------- */

void
node_apply_ready(uint64 applied_index)
{
	/*
	 * Only ever up: when the apply worker was restarted, sessions have gone on
	 * committing since it looked.
	 */
	if (pg_atomic_read_u64(&node_shared->applied_index) < applied_index)
	{
		pg_atomic_write_u64(&node_shared->start_index, applied_index);
		pg_atomic_write_u64(&node_shared->applied_index, applied_index);
	}
	if (pg_atomic_read_u64(&node_shared->commit_index) < applied_index)
		pg_atomic_write_u64(&node_shared->commit_index, applied_index);
	pg_atomic_write_u32(&node_shared->apply_proc, compat_my_procno() + 1);
	pg_atomic_write_u32(&node_shared->apply_pid, MyProcPid);
	node_apply_detail(NULL);
	pg_memory_barrier();
	pg_atomic_write_u32(&node_shared->apply_ready, 1);
	node_wake_waiters(pg_atomic_read_u64(&node_shared->applied_index));
	node_wake_proc(pg_atomic_read_u32(&node_shared->raft_proc));
}

void
node_apply_not_ready(const char *reason)
{
	pg_atomic_write_u32(&node_shared->apply_ready, 0);
	node_apply_busy(0);
	node_apply_detail(reason);
	node_wake_proc(pg_atomic_read_u32(&node_shared->raft_proc));
}

void
node_apply_detail(const char *reason)
{
	LWLockAcquire(node_shared->status_lock, LW_EXCLUSIVE);
	strlcpy(node_shared->apply_detail, reason ? reason : "",
			sizeof(node_shared->apply_detail));
	LWLockRelease(node_shared->status_lock);
}

void
node_set_flushed_index(uint64 index)
{
	pg_atomic_write_u64(&node_shared->flushed_index, index);
}

void
node_log_suspect(uint64 index)
{
	pg_atomic_write_u64(&node_shared->suspect_index, index);
	node_wake_proc(pg_atomic_read_u32(&node_shared->raft_proc));
}

bool
node_apply_next(uint64 *index)
{
	uint64		next = pg_atomic_read_u64(&node_shared->applied_index) + 1;

	if (next > pg_atomic_read_u64(&node_shared->commit_index))
		return false;
	pg_read_barrier();
	if (pg_atomic_read_u32(owner_of(next)) != 0)
		return false;
	*index = next;
	return true;
}

uint64
node_apply_run_end(uint64 first, uint64 limit)
{
	uint64		commit = pg_atomic_read_u64(&node_shared->commit_index);
	uint64		last = first;

	pg_read_barrier();
	while (last < limit && last < commit &&
		   pg_atomic_read_u32(owner_of(last + 1)) == 0)
		last++;
	return last;
}

void
node_apply_busy(uint64 index)
{
	if (index == 0)
	{
		pg_atomic_write_u64(&node_shared->apply_busy_index, 0);
		return;
	}
	pg_atomic_write_u64(&node_shared->apply_busy_since_us, node_monotonic_us());
	pg_write_barrier();
	pg_atomic_write_u64(&node_shared->apply_busy_index, index);
}
