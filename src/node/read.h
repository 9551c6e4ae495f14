/*-------------------------------------------------------------------------
 *
 * read.h
 *		Linearizable reads, between sessions (read.c) and the Raft worker
 *		(worker_read.c).
 *
 * A session that wants one draws a ticket and wakes the worker. The worker asks
 * the core for one read index for all tickets that are out (a batch); the answer
 * is good for every ticket up to the one that was the newest when it asked. So
 * concurrent readers share rounds, and no slot is locked or copied.
 *
 * Shared state (NodeReads), who writes it
 * ---------------------------------------
 *	asked			sessions, atomically: the last ticket handed out.
 *	wake_at			worker: the ticket that is to wake it. While a batch is under way
 *					nobody has to; after one it gathers (worker_read.c). It stores
 *					this before it looks at asked for the last time, a session draws
 *					its ticket before it looks at this: one of the two sees the other.
 *	stack_head, slots[].next, .queued	Treiber stack of processes that have come
 *					since the worker looked last; popped whole (as in mailbox.c).
 *	slots[].ticket	its process: what it waits for, 0 nothing. May stay behind when
 *					a session gives up: that costs one wake-up too many.
 *	done_index, done_ticket	worker, in this order; both only grow. All tickets up to
 *					done_ticket are answered by done_index (or less).
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

/*
 * How a session waits. Most rounds are over in a fraction of a millisecond: for
 * so long it sleeps on a futex, where being woken costs half of what a latch
 * does, and then on its latch, where interrupts reach it. It stores this before
 * it looks at done_ticket for the last time; the worker stores done_ticket
 * before it takes this.
 */
typedef enum ReadSleep
{
	READ_AWAKE = 0,
	READ_ON_FUTEX,
	READ_ON_LATCH
} ReadSleep;

typedef struct ReadSlot
{
	pg_atomic_uint32 queued;
	pg_atomic_uint32 next;
	pg_atomic_uint64 ticket;
	pg_atomic_uint32 sleep;		/* ReadSleep */
} ReadSlot;

typedef struct NodeReads
{
	pg_atomic_uint64 asked;
	pg_atomic_uint64 wake_at;
	pg_atomic_uint32 stack_head;

	pg_atomic_uint64 done_index;
	pg_atomic_uint64 done_ticket;
	pg_atomic_uint64 fresh_index;
	pg_atomic_uint64 fresh_us;
	pg_atomic_uint64 lease_until_us;

	pg_atomic_uint64 demand_us;
	pg_atomic_uint64 demand_staleness_us;

	ReadSlot	slots[FLEXIBLE_ARRAY_MEMBER];	/* MaxBackends */
} NodeReads;

extern NodeReads *node_reads;

extern void node_read_wake(uint32 procno);
extern Size node_reads_shmem_size(void);
extern void node_reads_shmem_init(void);

#endif							/* PGQ_READ_H */
