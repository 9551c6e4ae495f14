/*-------------------------------------------------------------------------
 *
 * mailbox.c
 *		The session's side of the mailbox: post, wait, withdraw.
 *
 * Slot states and who changes them: node_internal.h. Rules of waiting:
 * design.md section 6. A session never learns "cancelled" or "no quorum" of a
 * proposal that may still commit: that is only said when the proposal was
 * taken back before the Raft worker had it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/proc.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "compat.h"
#include "node/node_internal.h"

static void
push_on_stack(uint32 procno)
{
	NodeSlot   *slot = &node_shared->slots[procno];
	uint32		head;

	/* still on the stack from a withdrawn post: the worker will look at it */
	if (pg_atomic_exchange_u32(&slot->queued, 1) != 0)
		return;
	head = pg_atomic_read_u32(&node_shared->stack_head);
	do
	{
		pg_atomic_write_u32(&slot->next, head);
	} while (!pg_atomic_compare_exchange_u32(&node_shared->stack_head, &head, procno));
}

void
node_post(NodeRequestKind kind, RaftToken token, const NodePart *parts, int nparts, Size len,
		  bool applier_owns)
{
	uint32		procno = compat_my_procno();
	NodeSlot   *slot = &node_shared->slots[procno];
	dsa_pointer large = InvalidDsaPointer;
	char	   *dest = slot->small;
	int64		posted_us = node_monotonic_us();

	Assert(slot->state == SLOT_FREE);
	if (len > NODE_INLINE_SIZE)
	{
		large = dsa_allocate_extended(node_dsa(), len, DSA_ALLOC_HUGE);
		dest = dsa_get_address(node_dsa(), large);
	}
	for (int i = 0; i < nparts; i++)
	{
		memcpy(dest, parts[i].data, parts[i].len);
		dest += parts[i].len;
	}

	SpinLockAcquire(&slot->mutex);
	slot->kind = kind;
	slot->applier_owns = applier_owns;
	slot->token = token;
	slot->len = len;
	slot->large = large;
	slot->sqlstate = 0;
	slot->answer.verdict = 0;
	slot->parked = false;
	slot->posted_us = posted_us;
	slot->state = SLOT_POSTED;
	SpinLockRelease(&slot->mutex);

	pg_memory_barrier();
	push_on_stack(procno);
	node_wake_proc(pg_atomic_read_u32(&node_shared->raft_proc));
}

/* Take the post back, if the worker has not taken it. */
bool
node_withdraw_post(NodeSlot *slot)
{
	bool		done = false;

	SpinLockAcquire(&slot->mutex);
	if (slot->state == SLOT_POSTED)
	{
		slot->state = SLOT_ANSWERED;	/* ours again; freed by the caller */
		done = true;
	}
	SpinLockRelease(&slot->mutex);
	return done;
}

static void
release_payload(NodeSlot *slot)
{
	dsa_pointer large = slot->large;

	if (DsaPointerIsValid(large))
	{
		slot->large = InvalidDsaPointer;
		dsa_free(node_dsa(), large);
	}
}

bool
node_answered(const NodeSlot *slot)
{
	NodeSlotState state = *(volatile const NodeSlotState *) &slot->state;

	return state == SLOT_ANSWERED || state == SLOT_DECIDED;
}

/* Sleep until the latch is set; false: deadline_us (0: none) has passed. */
bool
node_sleep_until(int64 deadline_us)
{
	int			events = WL_LATCH_SET | WL_EXIT_ON_PM_DEATH;
	long		timeout_ms = -1;

	if (deadline_us != 0)
	{
		int64		left_us = deadline_us - node_monotonic_us();

		if (left_us <= 0)
			return false;
		events |= WL_TIMEOUT;
		timeout_ms = (long) Min((left_us + 999) / 1000, INT_MAX);
	}
	(void) WaitLatch(MyLatch, events, timeout_ms, PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	return true;
}

/*
 * A server that joins has nothing to propose before its tables are there: nobody
 * could tell when that will be, so nobody waits for it. (A member that fell behind
 * gets its image by itself, and its sessions wait.)
 */
void
node_require_joined(void)
{
	if (pg_atomic_read_u32(&node_shared->image_wanted) != 2)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("this server is still loading the cluster's tables"),
			 errdetail("It takes part as soon as they are complete."),
			 errhint("See quorum.join_progress, or use another member.")));
}

static NodeVerdict
propose(RaftToken token, const NodePart *parts, int nparts, bool applier_owns,
		bool (*doomed_check) (void), NodeAnswer *answer)
{
	NodeSlot   *slot = &node_shared->slots[compat_my_procno()];
	Size		len = 0;
	int64		deadline_us = 0;
	bool		in_doubt = false;
	uint64		least;

	memset(answer, 0, sizeof(*answer));
	if (!node_is_member())
		return answer->verdict = NODE_NOT_MEMBER;
	for (int i = 0; i < nparts; i++)
		len += parts[i].len;
	if (len > NODE_MAX_PAYLOAD)
		return answer->verdict = NODE_TOO_LARGE;
	node_require_joined();
	if (quorum_commit_timeout_ms > 0)
		deadline_us = node_monotonic_us() + (int64) quorum_commit_timeout_ms * 1000;

	node_post(NODE_REQ_PROPOSE, token, parts, nparts, len, applier_owns);

	while (!node_answered(slot))
	{
		NodeVerdict taken_back = 0;

		if (ProcDiePending)
			taken_back = NODE_UNAVAILABLE;
		else if (doomed_check && doomed_check())
			taken_back = NODE_DOOMED;
		else if (QueryCancelPending)
			taken_back = NODE_WITHDRAWN;

		if (taken_back != 0 && node_withdraw_post(slot))
		{
			answer->verdict = taken_back;
			break;
		}
		if (ProcDiePending)
			in_doubt = true;
		else if (taken_back == NODE_DOOMED && node_image_wanted(&least))
		{
			/* the image waits for our locks, and the verdict for the image */
			in_doubt = true;
			strlcpy(answer->message, "this member's tables are being replaced by an image",
					sizeof(answer->message));
		}
		else if (InterruptPending)
		{
			/* barriers, catch-up; FATAL at worst; a cancel stays pending */
			HOLD_CANCEL_INTERRUPTS();
			CHECK_FOR_INTERRUPTS();
			RESUME_CANCEL_INTERRUPTS();
		}

		if (!in_doubt && !node_sleep_until(deadline_us))
		{
			if (node_withdraw_post(slot))
			{
				answer->verdict = NODE_UNAVAILABLE;
				break;
			}
			in_doubt = true;
		}
		if (in_doubt && !node_answered(slot))
		{
			/* The worker pursues it; its entry will be the applier's. */
			answer->verdict = NODE_UNKNOWN;
			node_turn_abandon();
			return answer->verdict;
		}
	}

	release_payload(slot);
	if (answer->verdict == 0)
		*answer = slot->answer;
	if (answer->verdict != NODE_COMMITTED || applier_owns)
	{
		SpinLockAcquire(&slot->mutex);
		slot->state = SLOT_FREE;
		SpinLockRelease(&slot->mutex);
	}
	return answer->verdict;
}

NodeVerdict
node_propose(RaftToken token, const NodePart *parts, int nparts,
			 bool (*doomed_check) (void), NodeAnswer *answer)
{
	return propose(token, parts, nparts, false, doomed_check, answer);
}

NodeVerdict
node_submit(RaftToken token, const NodePart *parts, int nparts,
			bool (*doomed_check) (void), NodeAnswer *answer)
{
	return propose(token, parts, nparts, true, doomed_check, answer);
}

bool
node_send_off(RaftToken token, const NodePart *parts, int nparts, int64 patience_us)
{
	NodeSlot   *slot = &node_shared->slots[compat_my_procno()];
	int64		deadline_us = node_monotonic_us() + patience_us;
	NodeSlotState state;
	Size		len = 0;

	if (!node_is_member())
		return false;
	for (int i = 0; i < nparts; i++)
		len += parts[i].len;
	node_post(NODE_REQ_PROPOSE, token, parts, nparts, len, true);
	for (;;)
	{
		state = *(volatile const NodeSlotState *) &slot->state;
		if (state != SLOT_POSTED && state != SLOT_TAKING)
			break;
		if (node_monotonic_us() > deadline_us)
			break;
		pg_usleep(200);			/* the worker sets no latch when it takes one */
	}
	/* taken: pursued all the same; not taken: withdrawn */
	if (state == SLOT_POSTED && !node_withdraw_post(slot))
		state = SLOT_TAKEN;
	node_turn_abandon();
	return state != SLOT_POSTED;
}

/*
 * A request to the worker that is no proposal (create, join, ...). Ordinary
 * interrupts; the caller reports sqlstate with answer->message.
 */
NodeVerdict
node_request(NodeRequestKind kind, const void *data, Size len, int timeout_ms,
			 NodeAnswer *answer, int *sqlstate)
{
	NodeSlot   *slot = &node_shared->slots[compat_my_procno()];
	NodePart	part = {data, len};
	RaftToken	token = {0};
	int64		deadline_us = timeout_ms > 0 ?
		node_monotonic_us() + (int64) timeout_ms * 1000 : 0;

	/* not a proposal's token: node 0, so that it is never found in the log */
	token.counter = pg_atomic_fetch_add_u64(&node_shared->token_counter, 1) + 1;
	memset(answer, 0, sizeof(*answer));
	*sqlstate = 0;

	PG_TRY();
	{
		node_post(kind, token, &part, 1, len, false);
		while (!node_answered(slot))
		{
			if (!node_sleep_until(deadline_us))
			{
				answer->verdict = node_withdraw_post(slot) ? NODE_UNAVAILABLE : NODE_UNKNOWN;
				break;
			}
			CHECK_FOR_INTERRUPTS();
		}
	}
	PG_CATCH();
	{
		node_turn_abandon();
		PG_RE_THROW();
	}
	PG_END_TRY();

	if (answer->verdict == 0)
	{
		*answer = slot->answer;
		*sqlstate = slot->sqlstate;
	}
	node_turn_abandon();		/* frees the slot and the payload */
	return answer->verdict;
}

NodeVerdict
node_request_held(NodeRequestKind kind, const void *data, Size len, int64 deadline_us,
				  bool *interrupted, NodeAnswer *answer)
{
	NodeSlot   *slot = &node_shared->slots[compat_my_procno()];
	NodePart	part = {data, len};
	RaftToken	token = {0};

	Assert(len <= NODE_INLINE_SIZE);	/* nothing is allocated */
	token.counter = pg_atomic_fetch_add_u64(&node_shared->token_counter, 1) + 1;
	memset(answer, 0, sizeof(*answer));
	*interrupted = false;

	node_post(kind, token, &part, 1, len, false);
	while (!node_answered(slot))
	{
		if (ProcDiePending || QueryCancelPending)
			*interrupted = true;
		if (*interrupted || !node_sleep_until(deadline_us))
		{
			answer->verdict = node_withdraw_post(slot) ? NODE_UNAVAILABLE : NODE_UNKNOWN;
			break;
		}
	}
	if (answer->verdict == 0)
		*answer = slot->answer;
	node_turn_abandon();
	return answer->verdict;
}
