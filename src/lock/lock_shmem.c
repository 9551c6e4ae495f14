/*-------------------------------------------------------------------------
 *
 * lock_shmem.c
 *		The lock service's setting and shared memory; what can be asked without
 *		waiting; the hand-over from the apply worker to the Raft worker.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/guc.h"

#include "lock/lock_internal.h"

#define LOCK_TRANCHE "pg_quorum_lock"

int			quorum_lease_timeout_ms = 10000;

LockShared *lock_shared = NULL;

void
lock_define_settings(void)
{
	DefineCustomIntVariable("quorum.lease_timeout",
							"Time after which the locks of a server's sessions are given to others when the leader does not hear of the server.",
							NULL,
							&quorum_lease_timeout_ms,
							10000, 1000, 3600 * 1000,
							PGC_SIGHUP,
							GUC_UNIT_MS,
							NULL, NULL, NULL);
}

Size
lock_shmem_size(void)
{
	RequestNamedLWLockTranche(LOCK_TRANCHE, 1);
	return add_size(offsetof(LockShared, sessions),
					mul_size(MaxBackends, sizeof(LockSession)));
}

void
lock_shmem_init(void)
{
	bool		found;

	lock_shared = ShmemInitStruct("pg_quorum locks",
								  add_size(offsetof(LockShared, sessions),
										   mul_size(MaxBackends, sizeof(LockSession))),
								  &found);
	if (found)
		return;
	memset(lock_shared, 0, offsetof(LockShared, sessions));
	lock_shared->lock = &GetNamedLWLockTranche(LOCK_TRANCHE)[0].lock;
	pg_atomic_init_u64(&lock_shared->session_counter, 0);
	pg_atomic_init_u32(&lock_shared->attention, 0);
	pg_atomic_init_u32(&lock_shared->forsaken, 0);
	pg_atomic_init_u64(&lock_shared->drops, InvalidDsaPointer);
	pg_atomic_init_u64(&lock_shared->spent, InvalidDsaPointer);
	lock_shared->at_work = InvalidDsaPointer;
	pg_atomic_init_u64(&lock_shared->safe_until_us, 0);
	pg_atomic_init_u64(&lock_shared->losses, 0);
	pg_atomic_init_u64(&lock_shared->settles_at, 0);
	lock_shared->image = InvalidDsaPointer;
	pg_atomic_init_u32(&lock_shared->image_there, 0);
	pg_atomic_init_u32(&lock_shared->image_wanted, 0);
	for (int i = 0; i < MaxBackends; i++)
	{
		pg_atomic_init_u64(&lock_shared->sessions[i].number, 0);
		for (int k = 0; k < LOCK_FORSAKEN; k++)
			pg_atomic_init_u64(&lock_shared->sessions[i].forsaken[k], 0);
	}
}

void
lock_call_attention(void)
{
	pg_memory_barrier();
	pg_atomic_exchange_u32(&lock_shared->attention, 1);
	node_wake_proc(pg_atomic_read_u32(&node_shared->raft_proc));
}

/* ---------- questions ---------- */

int64
lock_safe_us(void)
{
	if (lock_shared == NULL)
		return 0;
	return (int64) pg_atomic_read_u64(&lock_shared->safe_until_us) - node_monotonic_us();
}

uint64
lock_losses(void)
{
	return lock_shared ? pg_atomic_read_u64(&lock_shared->losses) : 0;
}

/* A copy of the queue, palloc'ed; NULL: there is none. */
static char *
copy_queue(Size *len, int64 *age_us)
{
	char	   *copy = NULL;

	if (lock_shared == NULL)
		return NULL;
	LWLockAcquire(lock_shared->lock, LW_SHARED);
	if (lock_shared->queue_len > 0)
	{
		*len = lock_shared->queue_len;
		*age_us = node_monotonic_us() - lock_shared->queue_us;
		copy = palloc(*len);
		memcpy(copy, lock_shared->queue, *len);
	}
	LWLockRelease(lock_shared->lock);
	return copy;
}

/* Requests of this server's sessions that wait for their answer right now. */
static RaftToken *
waiting_requests(int *n)
{
	RaftToken  *requests = palloc(sizeof(RaftToken) * MaxBackends);

	*n = 0;
	for (int i = 0; i < MaxBackends; i++)
	{
		NodeSlot   *slot = &node_shared->slots[i];

		/* most are not in use */
		if (*(volatile NodeSlotState *) &slot->state != SLOT_TAKEN)
			continue;
		SpinLockAcquire(&slot->mutex);
		if (slot->state == SLOT_TAKEN)
			requests[(*n)++] = slot->token;
		SpinLockRelease(&slot->mutex);
	}
	return requests;
}

static bool
is_among(RaftToken request, const RaftToken *requests, int n)
{
	for (int i = 0; i < n; i++)
		if (raft_token_equal(requests[i], request))
			return true;
	return false;
}

LockWaitRow *
lock_wait_rows(int *nrows)
{
	Size		len;
	int64		age_us;
	char	   *copy = copy_queue(&len, &age_us);
	char	   *at = copy;
	LockQueueHead head;
	LockWaitRow *rows;
	RaftToken  *waiting;
	int			nwaiting;

	*nrows = 0;
	if (copy == NULL)
		return NULL;
	memcpy(&head, at, sizeof(head));
	at += sizeof(head) + head.nleases * sizeof(LockQueueLease);
	if (head.nrows == 0)
		return NULL;
	waiting = waiting_requests(&nwaiting);
	rows = palloc0(sizeof(LockWaitRow) * head.nrows);
	for (uint32 i = 0; i < head.nrows; i++)
	{
		LockQueueRow row;
		LockWaitRow *out = &rows[*nrows];

		memcpy(&row, at, sizeof(row));
		at += sizeof(row) + row.len;

		/* the queue is a moment old; of our own sessions it is known who waits no more */
		if (row.node == node_id() && !is_among(row.request, waiting, nwaiting))
			continue;
		out->node = row.node;
		out->pid = row.pid;
		out->owner_kind = row.owner_kind;
		memcpy(out->lease, row.lease, LK_UUID_LEN);
		out->key_type = row.key_type;
		out->mode = row.mode;
		out->position = row.position;
		out->waited_us = row.waited_us + age_us;
		out->len = row.len;
		out->key = at - row.len;
		(*nrows)++;
	}
	pfree(waiting);
	return rows;
}

int64
lock_lease_left_us(const uint8 *id)
{
	Size		len;
	int64		age_us;
	char	   *copy = copy_queue(&len, &age_us);
	LockQueueHead head;
	int64		left_us = -1;

	if (copy == NULL)
		return -1;
	memcpy(&head, copy, sizeof(head));
	for (uint32 i = 0; i < head.nleases; i++)
	{
		LockQueueLease lease;

		memcpy(&lease, copy + sizeof(head) + i * sizeof(lease), sizeof(lease));
		if (memcmp(lease.id, id, LK_UUID_LEN) == 0)
			left_us = Max(lease.left_us - age_us, 0);
	}
	pfree(copy);
	return left_us;
}

/* ---------- hand-over ---------- */

bool
lock_hand_over_wanted(void)
{
	return lock_shared != NULL && pg_atomic_read_u32(&lock_shared->image_wanted) != 0;
}

void
lock_hand_over(const LkState *ls, uint64 applied_index)
{
	size_t		len;
	uint8_t    *image = lk_dump(ls, &len);
	dsa_pointer copy;
	dsa_pointer old;

	if (image == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	copy = dsa_allocate_extended(node_dsa(), len, DSA_ALLOC_HUGE | DSA_ALLOC_NO_OOM);
	if (!DsaPointerIsValid(copy))
	{
		free(image);
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	}
	memcpy(dsa_get_address(node_dsa(), copy), image, len);
	free(image);

	LWLockAcquire(lock_shared->lock, LW_EXCLUSIVE);
	old = lock_shared->image;
	lock_shared->image = copy;
	lock_shared->image_len = len;
	lock_shared->image_index = applied_index;
	pg_atomic_write_u32(&lock_shared->image_wanted, 0);
	pg_atomic_write_u32(&lock_shared->image_there, 1);
	LWLockRelease(lock_shared->lock);
	if (DsaPointerIsValid(old))
		dsa_free(node_dsa(), old);
	node_wake_proc(pg_atomic_read_u32(&node_shared->raft_proc));
}
