/*-------------------------------------------------------------------------
 *
 * read.c
 *		Linearizable reads, the session's side. See read.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <time.h>

#ifdef __linux__
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include "miscadmin.h"
#include "storage/proc.h"
#include "storage/shmem.h"
#include "utils/wait_event.h"

#include "compat.h"
#include "node/read.h"

/* How long a cancel may go unnoticed. */
#define FUTEX_US	INT64CONST(4000)

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
	pg_atomic_init_u64(&node_reads->wake_at, 0);
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
		pg_atomic_init_u32(&node_reads->slots[i].sleep, READ_AWAKE);
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

/* ---------- sleeping ---------- */

static bool
is_answered(uint64 ticket)
{
	return pg_atomic_read_u64(&node_reads->done_ticket) >= ticket;
}

/* For a moment; whatever wakes us, the caller looks again. */
static void
sleep_on_futex(ReadSlot *slot, uint64 ticket)
{
#ifdef __linux__
	int64		end_us = node_monotonic_us() + FUTEX_US;
	int64		left_us;

	while (!InterruptPending && (left_us = end_us - node_monotonic_us()) > 0)
	{
		struct timespec timeout = {0, left_us * 1000};

		pg_atomic_write_u32(&slot->sleep, READ_ON_FUTEX);
		pg_memory_barrier();
		if (is_answered(ticket))
			break;
		(void) syscall(SYS_futex, &slot->sleep, FUTEX_WAIT, READ_ON_FUTEX, &timeout, NULL, 0);
	}
	pg_atomic_write_u32(&slot->sleep, READ_AWAKE);
#endif
}

/* False: deadline_us has passed. */
static bool
sleep_on_latch(ReadSlot *slot, uint64 ticket, int64 deadline_us)
{
	pg_atomic_write_u32(&slot->sleep, READ_ON_LATCH);
	pg_memory_barrier();
	return is_answered(ticket) || node_sleep_until(deadline_us);
}

/* The worker has stored what this session waits for. */
void
node_read_wake(uint32 procno)
{
	ReadSlot   *slot = &node_reads->slots[procno];

	switch ((ReadSleep) pg_atomic_exchange_u32(&slot->sleep, READ_AWAKE))
	{
		case READ_AWAKE:
			break;
		case READ_ON_FUTEX:
#ifdef __linux__
			(void) syscall(SYS_futex, &slot->sleep, FUTEX_WAKE, 1, NULL, NULL, 0);
#endif
			break;
		case READ_ON_LATCH:
			node_wake_proc(procno + 1);
			break;
	}
}

/* ---------- asking ---------- */

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
	pg_memory_barrier();
	if (ticket >= pg_atomic_read_u64(&node_reads->wake_at))
		node_wake_proc(pg_atomic_read_u32(&node_shared->raft_proc));

	if (!is_answered(ticket))
		sleep_on_futex(slot, ticket);
	while (!is_answered(ticket))
	{
		CHECK_FOR_INTERRUPTS();
		if (!sleep_on_latch(slot, ticket, deadline_us))
		{
			pg_atomic_write_u64(&slot->ticket, 0);
			return false;
		}
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
