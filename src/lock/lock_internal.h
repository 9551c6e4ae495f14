/*-------------------------------------------------------------------------
 *
 * lock_internal.h
 *		Shared memory of the lock service: sessions (lock_request.c, lock_drop.c),
 *		the Raft worker (node/worker_lock*.c) and the apply worker (lock_shmem.c).
 *
 * Who writes what, and under which lock, is said with each field. A crash takes
 * all of it along (lock.h).
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGQ_LOCK_INTERNAL_H
#define PGQ_LOCK_INTERNAL_H

#include "lock/lock.h"
#include "node/node_internal.h"

#define LOCK_FORSAKEN	8
#define LOCK_QUEUE_MAX	(256 * 1024)	/* bytes of the queue that are shown */

/*
 * A place a PGPROC. number: set by its session at its first lock, zero again at
 * its end; all of one session's locks carry it. forsaken: counters of requests
 * that the session has left before it knew what became of them; set by the
 * session where there is a zero, zeroed by the Raft worker when nothing can come
 * of them any more. It outlives a restart of the Raft worker.
 */
typedef struct LockSession
{
	pg_atomic_uint64 number;
	pg_atomic_uint64 forsaken[LOCK_FORSAKEN];
} LockSession;

/*
 * A release on its way (in node_dsa()). Posted: the Raft worker's, which keeps it
 * in the list at_work until its entry is committed; then done is set. The worker
 * frees nothing, since it must not wait for whoever is stopped while it holds a
 * lock of the memory area: chunks whose last reference it drops go on the stack
 * of spent ones, which the next session that needs a chunk frees.
 */
typedef struct LockDrop
{
	dsa_pointer next;			/* stack; then at_work: Raft worker */
	dsa_pointer prev;			/* at_work */
	pg_atomic_uint32 refs;
	pg_atomic_uint32 done;		/* after index was set */
	uint32		procno;			/* to be woken; of the session that posted it */
	uint64		token;
	uint64		index;			/* of the release's entry; 0: there was nothing to release */
	bool		in_flight;		/* Raft worker: part of a proposal */
	uint8		key_type;
	uint16		len;
	char		key[FLEXIBLE_ARRAY_MEMBER];
} LockDrop;

/* Rows of the queue as they are kept in shared memory and sent between members. */
typedef struct LockQueueRow
{
	RaftToken	request;
	uint32		node;
	uint32		pid;
	uint32		position;
	uint8		owner_kind;
	uint8		key_type;
	uint8		mode;
	uint8		unused;
	uint16		len;			/* of the key, which follows */
	uint16		unused2;
	uint32		unused3;
	int64		waited_us;
	uint8		lease[LK_UUID_LEN];
} LockQueueRow;

typedef struct LockQueueLease
{
	uint8		id[LK_UUID_LEN];
	int64		left_us;
} LockQueueLease;

/* Then nleases x LockQueueLease, nrows x (LockQueueRow, key) */
typedef struct LockQueueHead
{
	uint32		nleases;
	uint32		nrows;
} LockQueueHead;

typedef struct LockShared
{
	pg_atomic_uint64 session_counter;
	pg_atomic_uint32 attention; /* sessions set, Raft worker clears: see who has left */
	pg_atomic_uint32 forsaken;	/* how many counters there are in all places, about */
	pg_atomic_uint64 drops;		/* stack of LockDrop; sessions push, Raft worker pops all */
	pg_atomic_uint64 spent;		/* the same, the other way round: to be freed */
	dsa_pointer at_work;		/* Raft worker alone */

	pg_atomic_uint64 safe_until_us; /* Raft worker: node_monotonic_us(); 0 never */
	pg_atomic_uint64 losses;	/* Raft worker: lock_losses() */

	/*
	 * The newest entry of a lock that a session of this server was told of; any of
	 * them writes, only ever up. A crash: begins again with 0, nobody was told.
	 */
	pg_atomic_uint64 settles_at;

	/* protects what follows; the Raft worker never waits for it */
	LWLock	   *lock;

	/* the queue as it is known here: Raft worker writes */
	Size		queue_len;		/* 0: there is none */
	int64		queue_us;		/* node_monotonic_us() when it was made */
	char		queue[LOCK_QUEUE_MAX];	/* LockQueueHead ... */

	/* hand-over: apply worker writes, and frees the one before; Raft worker reads */
	dsa_pointer image;
	Size		image_len;
	uint64		image_index;
	pg_atomic_uint32 image_there;	/* atomic: looked at without the lock */
	pg_atomic_uint32 image_wanted;	/* Raft worker sets, apply worker clears */

	LockSession sessions[FLEXIBLE_ARRAY_MEMBER];	/* MaxBackends of them */
} LockShared;

extern LockShared *lock_shared;

/* The Raft worker is to look at what sessions have left behind. */
extern void lock_call_attention(void);

/* lock_drop.c */
extern void lock_drop_finished(dsa_pointer dp);	/* the Raft worker's reference */

#endif							/* PGQ_LOCK_INTERNAL_H */
