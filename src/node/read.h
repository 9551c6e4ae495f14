/*-------------------------------------------------------------------------
 *
 * read.h
 *		Linearizable reads, between sessions (read.c) and the Raft worker
 *		(worker_read.c).
 *
 * A session that wants one draws a ticket and wakes the worker. The worker asks
 * the core for one read index for all tickets that are out (a batch); the answer
 * is good for every ticket up to the one that was the newest when it asked. So
 * concurrent readers share rounds, and one system call wakes all of a batch.
 *
 * Shared state (NodeReads), who writes it
 * ---------------------------------------
 *	asked			sessions, atomically: the last ticket handed out.
 *	wake_at			worker: the ticket that is to wake it. While a batch is under way
 *					nobody has to; after one it gathers (worker_read.c). It stores
 *					this before it looks at asked for the last time, a session draws
 *					its ticket before it looks at this: one of the two sees the other.
 *	begun			worker: number and last ticket of the newest batch, in one word
 *					(read_begun_*). Stored after the look at asked that fixed that
 *					ticket, and before the batch can be answered. By it a session
 *					knows which batch answers it, and sleeps under the bit of that.
 *	done_index, done_ticket	worker, in this order; both only grow. All tickets up to
 *					done_ticket are answered by done_index (or less).
 *	done_count		worker, after done_ticket: the futex. A session reads it before it
 *					looks at done_ticket, and that before begun: so it sleeps only if
 *					no batch has been answered since, and begun is of that time.
 *	slots[].ticket	its process: what it waits for, 0 nothing. May stay behind when
 *					a session gives up: that costs one wake-up too many.
 *	slots[].on_latch	its process sets it, the worker takes it: to be woken by latch.
 *	any_on_latch	sessions set it, after their slot's; the worker takes it after
 *					storing done_ticket, and then looks at all slots.
 *	fresh_index, fresh_us	worker, in this order; both only grow: the state at
 *					fresh_index holds everything that was acknowledged anywhere
 *					before fresh_us by this server's monotonic clock. Whoever reads
 *					fresh_us first gets a pair that is true.
 *	lease_until_us	worker: up to when a leader's lease holds, 0: no lease. See below.
 *	demand_us, demand_staleness_us	sessions: when somebody last asked for data of
 *					bounded age, and how much age it bears.
 *
 * A crash starts with all of it zero. The worker, started anew, takes up the
 * tickets that are not answered.
 *
 * The lease without the worker
 * ----------------------------
 * While the lease holds nobody but this leader can commit. A session that reads
 * the commit index and THEN finds that the lease still holds has all that was
 * acknowledged anywhere before: an acknowledgement by another member or to one
 * of our own sessions follows from a message or a word of the worker, and the
 * worker stores the commit index before either leaves. An order to take over
 * ends a lease early: the worker stores 0 before the order leaves, so whoever
 * sees the lease after reading the commit index has read it before any successor
 * could commit. A worker that is stopped changes nothing: the limit is a time on
 * the monotonic clock, and passes.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGQ_READ_H
#define PGQ_READ_H

#include "node/node_internal.h"

/* Batches whose sessions sleep apart from each other: one bit of a futex each. */
#define READ_BATCH_BITS	5
#define READ_BATCHES	(1 << READ_BATCH_BITS)

static inline uint64
read_begun_make(uint64 batch, uint64 last_ticket)
{
	return (last_ticket << READ_BATCH_BITS) | (batch % READ_BATCHES);
}

static inline uint64
read_begun_ticket(uint64 begun)
{
	return begun >> READ_BATCH_BITS;
}

/* The bit of the batch that answers a ticket. */
static inline uint32
read_begun_bit(uint64 begun, uint64 ticket)
{
	uint64		batch = begun % READ_BATCHES;

	if (ticket > read_begun_ticket(begun))
		batch++;
	return (uint32) 1 << (batch % READ_BATCHES);
}

typedef struct ReadSlot
{
	pg_atomic_uint64 ticket;
	pg_atomic_uint32 on_latch;
	char		pad[PG_CACHE_LINE_SIZE - 12];	/* each reader its own line */
} ReadSlot;

typedef struct NodeReads
{
	/* sessions write this one all the time */
	pg_atomic_uint64 asked;
	char		pad[PG_CACHE_LINE_SIZE - 8];

	pg_atomic_uint64 wake_at;
	pg_atomic_uint64 begun;
	pg_atomic_uint64 done_index;
	pg_atomic_uint64 done_ticket;
	pg_atomic_uint32 done_count;
	pg_atomic_uint32 any_on_latch;
	pg_atomic_uint64 fresh_index;
	pg_atomic_uint64 fresh_us;
	pg_atomic_uint64 lease_until_us;

	pg_atomic_uint64 demand_us;
	pg_atomic_uint64 demand_staleness_us;

	ReadSlot	slots[FLEXIBLE_ARRAY_MEMBER];	/* MaxBackends */
} NodeReads;

extern NodeReads *node_reads;

extern void node_reads_wake(uint32 batches);
extern Size node_reads_shmem_size(void);
extern void node_reads_shmem_init(void);

#endif							/* PGQ_READ_H */
