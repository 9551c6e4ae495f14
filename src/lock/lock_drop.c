/*-------------------------------------------------------------------------
 *
 * lock_drop.c
 *		Releases that cannot fail: made ready while an error still can be had,
 *		posted when nothing may go wrong any more (lock.h).
 *
 * Sessions push on a stack that the Raft worker pops as a whole, so there is no
 * ABA problem. Two references: the session's, until it has waited or does not
 * want to, and the worker's, until the release is committed.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/proc.h"
#include "utils/wait_event.h"

#include "compat.h"
#include "lock/lock_internal.h"

#define LOOK_US		INT64CONST(100000)	/* is there still a quorum? */

static inline LockDrop *
drop_at(dsa_pointer dp)
{
	return dsa_get_address(node_dsa(), dp);
}

/* What the Raft worker has done with. */
static void
free_spent(void)
{
	dsa_pointer at;

	if (pg_atomic_read_u64(&lock_shared->spent) == InvalidDsaPointer)
		return;
	at = (dsa_pointer) pg_atomic_exchange_u64(&lock_shared->spent, InvalidDsaPointer);
	while (DsaPointerIsValid(at))
	{
		dsa_pointer next = drop_at(at)->next;

		dsa_free(node_dsa(), at);
		at = next;
	}
}

dsa_pointer
lock_drop_prepare(uint8 key_type, const char *key, Size len)
{
	dsa_pointer dp;
	LockDrop   *drop;

	Assert(len <= LK_MAX_KEY_LEN);
	free_spent();
	dp = dsa_allocate(node_dsa(), offsetof(LockDrop, key) + len);
	drop = drop_at(dp);
	memset(drop, 0, offsetof(LockDrop, key));
	drop->next = drop->prev = InvalidDsaPointer;
	pg_atomic_init_u32(&drop->refs, 1);
	pg_atomic_init_u32(&drop->done, 0);
	drop->procno = compat_my_procno();
	drop->key_type = key_type;
	drop->len = (uint16) len;
	memcpy(drop->key, key, len);
	return dp;
}

static void
unref(dsa_pointer dp)
{
	if (pg_atomic_sub_fetch_u32(&drop_at(dp)->refs, 1) == 0)
		dsa_free(node_dsa(), dp);
}

void
lock_drop_finished(dsa_pointer dp)
{
	uint64		head;

	if (pg_atomic_sub_fetch_u32(&drop_at(dp)->refs, 1) > 0)
		return;
	head = pg_atomic_read_u64(&lock_shared->spent);
	do
	{
		drop_at(dp)->next = (dsa_pointer) head;
		pg_write_barrier();
	} while (!pg_atomic_compare_exchange_u64(&lock_shared->spent, &head, dp));
}

void
lock_drop_cancel(dsa_pointer dp)
{
	unref(dp);
}

void
lock_drop_post(dsa_pointer dp, uint64 token, bool want_wait)
{
	LockDrop   *drop = drop_at(dp);
	uint64		head = pg_atomic_read_u64(&lock_shared->drops);

	drop->token = token;
	if (want_wait)
		pg_atomic_fetch_add_u32(&drop->refs, 1);
	do
	{
		drop->next = (dsa_pointer) head;
		pg_write_barrier();
	} while (!pg_atomic_compare_exchange_u64(&lock_shared->drops, &head, dp));
	node_wake_proc(pg_atomic_read_u32(&node_shared->raft_proc));
}

static bool
wait_is_over(const LockDrop *drop, int64 deadline_us)
{
	return pg_atomic_read_u32((pg_atomic_uint32 *) &drop->done) != 0 ||
		(deadline_us != 0 && node_monotonic_us() >= deadline_us) ||
		!node_is_member() ||
		pg_atomic_read_u32(&node_shared->has_quorum) == 0;
}

uint64
lock_drop_wait(dsa_pointer dp, int64 deadline_us, bool interruptible)
{
	LockDrop   *drop = drop_at(dp);
	volatile uint64 index = 0;

	PG_TRY();
	{
		while (!wait_is_over(drop, deadline_us))
		{
			int64		left_us = LOOK_US;

			if (ProcDiePending && !interruptible)
				break;
			if (deadline_us != 0)
				left_us = Min(left_us, deadline_us - node_monotonic_us());
			(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
							 (long) Max(left_us / 1000, 1), PG_WAIT_EXTENSION);
			ResetLatch(MyLatch);
			if (interruptible)
				CHECK_FOR_INTERRUPTS();
		}
		if (pg_atomic_read_u32(&drop->done) != 0)
		{
			pg_read_barrier();
			index = drop->index;
		}
	}
	PG_FINALLY();
	{
		unref(dp);
	}
	PG_END_TRY();

	/* the latch may have been set for something else that somebody waits for */
	SetLatch(MyLatch);
	return index;
}
