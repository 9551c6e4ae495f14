/*-------------------------------------------------------------------------
 *
 * read.c
 *		Linearizable reads, the session's side. See read.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/proc.h"
#include "storage/shmem.h"
#include "utils/wait_event.h"

#include "compat.h"
#include "node/read.h"

NodeReads  *node_reads = NULL;

Size
node_reads_shmem_size(void)
{
	return add_size(offsetof(NodeReads, slots), mul_size(MaxBackends, sizeof(ReadSlot)));
}

void
node_reads_shmem_init(void)
{
	bool		found;

	node_reads = ShmemInitStruct("pg_quorum reads", node_reads_shmem_size(), &found);
	if (found)
		return;
	pg_atomic_init_u64(&node_reads->asked, 0);
	pg_atomic_init_u32(&node_reads->stack_head, NODE_STACK_END);
	pg_atomic_init_u64(&node_reads->done_index, 0);
	pg_atomic_init_u64(&node_reads->done_ticket, 0);
	pg_atomic_init_u64(&node_reads->fresh_index, 0);
	pg_atomic_init_u64(&node_reads->fresh_us, 0);
	pg_atomic_init_u64(&node_reads->lease_until_us, 0);
	pg_atomic_init_u64(&node_reads->demand_us, 0);
	pg_atomic_init_u64(&node_reads->demand_staleness_us, 0);
	for (int i = 0; i < MaxBackends; i++)
	{
		pg_atomic_init_u32(&node_reads->slots[i].queued, 0);
		pg_atomic_init_u32(&node_reads->slots[i].next, NODE_STACK_END);
		pg_atomic_init_u64(&node_reads->slots[i].ticket, 0);
	}
}

static void
push_on_stack(uint32 procno)
{
	ReadSlot   *slot = &node_reads->slots[procno];
	uint32		head;

	if (pg_atomic_exchange_u32(&slot->queued, 1) != 0)
		return;
	head = pg_atomic_read_u32(&node_reads->stack_head);
	do
	{
		pg_atomic_write_u32(&slot->next, head);
	} while (!pg_atomic_compare_exchange_u32(&node_reads->stack_head, &head, procno));
}

/* The lease, if this member leads and has one (read.h says why this is enough). */
static bool
lease_read(uint64 *index)
{
	uint64		commit;
	int64		until_us;

	if (pg_atomic_read_u64(&node_reads->lease_until_us) == 0)
		return false;
	pg_memory_barrier();
	commit = pg_atomic_read_u64(&node_shared->raft_commit);
	pg_memory_barrier();
	until_us = (int64) pg_atomic_read_u64(&node_reads->lease_until_us);
	if (node_monotonic_us() >= until_us)
		return false;
	*index = commit;
	return true;
}

bool
node_read_index(int64 deadline_us, uint64 *index)
{
	uint32		procno = compat_my_procno();
	ReadSlot   *slot = &node_reads->slots[procno];
	uint64		ticket;

	if (lease_read(index))
		return true;

	ticket = pg_atomic_fetch_add_u64(&node_reads->asked, 1) + 1;
	pg_atomic_write_u64(&slot->ticket, ticket);
	pg_memory_barrier();
	push_on_stack(procno);
	node_wake_proc(pg_atomic_read_u32(&node_shared->raft_proc));

	while (pg_atomic_read_u64(&node_reads->done_ticket) < ticket)
	{
		int			events = WL_LATCH_SET | WL_EXIT_ON_PM_DEATH;
		long		timeout_ms = -1;

		if (deadline_us != 0)
		{
			int64		left_us = deadline_us - node_monotonic_us();

			if (left_us <= 0)
			{
				pg_atomic_write_u64(&slot->ticket, 0);
				return false;
			}
			events |= WL_TIMEOUT;
			timeout_ms = (long) Min((left_us + 999) / 1000, INT_MAX);
		}
		(void) WaitLatch(MyLatch, events, timeout_ms, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
	pg_read_barrier();
	*index = pg_atomic_read_u64(&node_reads->done_index);
	pg_atomic_write_u64(&slot->ticket, 0);
	return true;
}

bool
node_freshness(int64 *as_of_us, uint64 *index)
{
	/* in this order: see read.h */
	*as_of_us = (int64) pg_atomic_read_u64(&node_reads->fresh_us);
	pg_read_barrier();
	*index = pg_atomic_read_u64(&node_reads->fresh_index);
	return *as_of_us != 0;
}

bool
node_freshness_is_now(uint64 *index)
{
	return lease_read(index);
}

/*
 * A hint for the worker, so races between sessions do not matter: the smallest
 * age that was asked for lately.
 */
void
node_want_freshness(int64 staleness_us, int64 now_us)
{
	uint64		known = pg_atomic_read_u64(&node_reads->demand_staleness_us);

	if (known == 0 || (uint64) staleness_us < known)
		pg_atomic_write_u64(&node_reads->demand_staleness_us, Max(staleness_us, 1));
	/* not each time: readers share the cache line */
	if (now_us - (int64) pg_atomic_read_u64(&node_reads->demand_us) > 100000)
		pg_atomic_write_u64(&node_reads->demand_us, now_us);
}
