/*-------------------------------------------------------------------------
 *
 * wait.c
 *		Sessions that wait for an entry to be applied here.
 *
 * A list of slots under wait_lock, and in wait_least a bound that is read
 * without it: no waiter wants less. So whoever raises applied_index looks at one
 * word while nobody waits. A waiter writes wait_least before it looks at
 * applied_index for the last time, the other side the other way round, with a
 * barrier in between: one of the two sees the other.
 *
 * The waiter takes itself out of the list, on errors and at exit too.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/proc.h"

#include "compat.h"
#include "node/node_internal.h"

static bool exit_registered = false;

static void
publish_least(void)
{
	uint64		least = PG_UINT64_MAX;

	for (uint32 at = node_shared->wait_head; at != NODE_STACK_END;
		 at = node_shared->slots[at].wait_next)
		least = Min(least, node_shared->slots[at].wait_index);
	pg_atomic_write_u64(&node_shared->wait_least, least);
}

static void
enter(uint64 index)
{
	uint32		procno = compat_my_procno();
	NodeSlot   *slot = &node_shared->slots[procno];

	LWLockAcquire(node_shared->wait_lock, LW_EXCLUSIVE);
	Assert(slot->wait_index == 0);
	slot->wait_index = index;
	slot->wait_prev = NODE_STACK_END;
	slot->wait_next = node_shared->wait_head;
	if (slot->wait_next != NODE_STACK_END)
		node_shared->slots[slot->wait_next].wait_prev = procno;
	node_shared->wait_head = procno;
	if (index < pg_atomic_read_u64(&node_shared->wait_least))
		pg_atomic_write_u64(&node_shared->wait_least, index);
	LWLockRelease(node_shared->wait_lock);
	pg_memory_barrier();
}

static void
leave(void)
{
	NodeSlot   *slot = &node_shared->slots[compat_my_procno()];

	if (slot->wait_index == 0)
		return;
	LWLockAcquire(node_shared->wait_lock, LW_EXCLUSIVE);
	if (slot->wait_prev != NODE_STACK_END)
		node_shared->slots[slot->wait_prev].wait_next = slot->wait_next;
	else
		node_shared->wait_head = slot->wait_next;
	if (slot->wait_next != NODE_STACK_END)
		node_shared->slots[slot->wait_next].wait_prev = slot->wait_prev;
	slot->wait_index = 0;
	publish_least();
	LWLockRelease(node_shared->wait_lock);
}

static void
at_exit(int code, Datum arg)
{
	leave();
}

static bool
sleep_until_applied(uint64 index, int64 deadline_us)
{
	while (node_applied_index() < index)
	{
		if (!node_sleep_until(deadline_us))
			return false;
		CHECK_FOR_INTERRUPTS();
	}
	return true;
}

bool
node_wait_applied(uint64 index, int64 deadline_us)
{
	volatile bool applied = false;

	if (node_applied_index() >= index)
		return true;
	if (!exit_registered)
	{
		before_shmem_exit(at_exit, (Datum) 0);
		exit_registered = true;
	}
	enter(index);
	PG_TRY();
	{
		applied = sleep_until_applied(index, deadline_us);
	}
	PG_FINALLY();
	{
		leave();
	}
	PG_END_TRY();
	return applied;
}

/*
 * Runs after a commit, where nothing may fail. Wakes whom it concerns; they
 * leave by themselves.
 */
void
node_wake_waiters(uint64 applied)
{
	pg_memory_barrier();
	if (pg_atomic_read_u64(&node_shared->wait_least) > applied)
		return;
	LWLockAcquire(node_shared->wait_lock, LW_SHARED);
	for (uint32 at = node_shared->wait_head; at != NODE_STACK_END;
		 at = node_shared->slots[at].wait_next)
		if (node_shared->slots[at].wait_index <= applied)
			node_wake_proc(at + 1);
	LWLockRelease(node_shared->wait_lock);
}

void
node_pause(long ms)
{
	(void) node_sleep_until(node_monotonic_us() + ms * INT64CONST(1000));
	CHECK_FOR_INTERRUPTS();
}
