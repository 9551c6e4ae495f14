/*-------------------------------------------------------------------------
 *
 * read.c
 *		Linearizable reads, the session's side. See read.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <errno.h>
#include <limits.h>
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
#define FUTEX_NS	4000000

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
	pg_atomic_init_u64(&node_reads->begun, 0);
	pg_atomic_init_u64(&node_reads->done_index, 0);
	pg_atomic_init_u64(&node_reads->done_ticket, 0);
	pg_atomic_init_u32(&node_reads->done_count, 0);
	pg_atomic_init_u32(&node_reads->any_on_latch, 0);
	pg_atomic_init_u64(&node_reads->fresh_index, 0);
	pg_atomic_init_u64(&node_reads->fresh_us, 0);
	pg_atomic_init_u64(&node_reads->lease_until_us, 0);
	pg_atomic_init_u64(&node_reads->demand_us, 0);
	pg_atomic_init_u64(&node_reads->demand_staleness_us, 0);
	for (int i = 0; i < MaxBackends; i++)
	{
		pg_atomic_init_u64(&node_reads->slots[i].ticket, 0);
		pg_atomic_init_u32(&node_reads->slots[i].on_latch, 0);
	}
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

/*
 * Most rounds are over in a fraction of a millisecond. For a moment a session
 * sleeps on a futex that the whole batch shares; being woken that way costs less
 * than half of what a latch does. Then it goes on on its latch, where interrupts
 * reach it.
 */

static bool
is_answered(uint64 ticket)
{
	return pg_atomic_read_u64(&node_reads->done_ticket) >= ticket;
}

/* For a moment; whatever wakes us, the caller looks again. */
static void
sleep_on_futex(uint64 ticket)
{
#ifdef __linux__
	struct timespec until;

	/* the one clock that a wait under a bit knows, and it takes a point in time */
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_nsec += FUTEX_NS;
	if (until.tv_nsec >= 1000000000)
	{
		until.tv_sec++;
		until.tv_nsec -= 1000000000;
	}
	while (!InterruptPending)
	{
		uint32		count = pg_atomic_read_u32(&node_reads->done_count);
		uint64		begun;

		pg_read_barrier();
		if (is_answered(ticket))
			break;
		pg_read_barrier();
		begun = pg_atomic_read_u64(&node_reads->begun);
		if (syscall(SYS_futex, &node_reads->done_count, FUTEX_WAIT_BITSET, count, &until, NULL,
					read_begun_bit(begun, ticket)) < 0 && errno != EAGAIN)
			break;				/* its time is over, or a signal came */
	}
#endif
}

/* False: deadline_us has passed. */
static bool
sleep_on_latch(ReadSlot *slot, uint64 ticket, int64 deadline_us)
{
	pg_atomic_write_u32(&slot->on_latch, 1);
	pg_write_barrier();
	pg_atomic_write_u32(&node_reads->any_on_latch, 1);
	pg_memory_barrier();
	return is_answered(ticket) || node_sleep_until(deadline_us);
}

/* The worker has stored what the sessions of these batches wait for. */
void
node_reads_wake(uint32 batches)
{
	pg_memory_barrier();
	pg_atomic_write_u32(&node_reads->done_count, pg_atomic_read_u32(&node_reads->done_count) + 1);
#ifdef __linux__
	(void) syscall(SYS_futex, &node_reads->done_count, FUTEX_WAKE_BITSET, INT_MAX, NULL, NULL,
				   batches);
#endif
	if (pg_atomic_read_u32(&node_reads->any_on_latch) == 0)
		return;
	pg_atomic_exchange_u32(&node_reads->any_on_latch, 0);
	for (int procno = 0; procno < MaxBackends; procno++)
	{
		ReadSlot   *slot = &node_reads->slots[procno];

		if (pg_atomic_read_u32(&slot->on_latch) == 0)
			continue;
		if (!is_answered(pg_atomic_read_u64(&slot->ticket)))
			pg_atomic_write_u32(&node_reads->any_on_latch, 1);
		else if (pg_atomic_exchange_u32(&slot->on_latch, 0) != 0)
			node_wake_proc((uint32) procno + 1);
	}
}

/* ---------- asking ---------- */

bool
node_read_index(int64 deadline_us, uint64 *index)
{
	ReadSlot   *slot = &node_reads->slots[compat_my_procno()];
	uint64		ticket;

	if (lease_read(index))
		return true;

	ticket = pg_atomic_fetch_add_u64(&node_reads->asked, 1) + 1;
	pg_atomic_write_u64(&slot->ticket, ticket);
	pg_memory_barrier();
	if (ticket >= pg_atomic_read_u64(&node_reads->wake_at))
		node_wake_proc(pg_atomic_read_u32(&node_shared->raft_proc));

	if (!is_answered(ticket))
		sleep_on_futex(ticket);
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
