/*-------------------------------------------------------------------------
 *
 * lock_request.c
 *		The session's side of lock requests: ask, wait, leave (lock.h).
 *
 * A request for a lock is a proposal in the mailbox slot whose entry is the apply
 * worker's. What differs from a commit is how it may end: whoever waits for a lock
 * may leave at any time, since a lock that nobody wants any more is released by
 * the Raft worker. Leaving sets the request's counter into the session's list of
 * forsaken ones and frees the slot; the Raft worker sees to the rest.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/proc.h"
#include "utils/wait_event.h"

#include "compat.h"
#include "lock/lock_internal.h"

/* What this session waits for, to be left at its exit: a counter, or 0. */
static uint64 waiting_counter = 0;
static bool exit_registered = false;

/* ---------- the session ---------- */

static inline LockSession *
my_session(void)
{
	return &lock_shared->sessions[compat_my_procno()];
}

/* False: all places are taken. */
static bool
set_forsaken(uint64 counter)
{
	LockSession *session = my_session();

	for (int i = 0; i < LOCK_FORSAKEN; i++)
	{
		uint64		zero = 0;

		if (pg_atomic_compare_exchange_u64(&session->forsaken[i], &zero, counter))
		{
			pg_atomic_fetch_add_u32(&lock_shared->forsaken, 1);
			return true;
		}
	}
	return false;
}

bool
lock_forsake(RaftToken request)
{
	bool		set = set_forsaken(request.counter);

	lock_call_attention();
	return set;
}

/* Let go of the request; the Raft worker withdraws it, or releases what comes of it. */
static void
leave(void)
{
	NodeSlot   *slot = &node_shared->slots[compat_my_procno()];
	bool		refused;

	if (waiting_counter == 0)
		return;

	/*
	 * Never taken, or refused: then there is nothing to be looked after. All
	 * places taken: the worker still sees that the slot is not ours any more.
	 */
	refused = node_withdraw_post(slot) ||
		(node_answered(slot) && slot->answer.verdict != NODE_COMMITTED);
	if (!refused)
		(void) set_forsaken(waiting_counter);
	waiting_counter = 0;
	node_turn_abandon();
	if (!refused)
		lock_call_attention();
}

static void
at_exit(int code, Datum arg)
{
	leave();
	pg_atomic_write_u64(&my_session()->number, 0);
	lock_call_attention();
}

uint64
lock_session_number(void)
{
	return lock_shared && exit_registered ? pg_atomic_read_u64(&my_session()->number) : 0;
}

uint64
lock_session_register(void)
{
	LockSession *session;

	node_require_member();
	session = my_session();
	if (!exit_registered)
	{
		before_shmem_exit(at_exit, (Datum) 0);
		exit_registered = true;
		/* what the place's former owner had left is not known by this number */
		pg_atomic_write_u64(&session->number, 0);
	}
	if (pg_atomic_read_u64(&session->number) == 0)
		pg_atomic_write_u64(&session->number,
							pg_atomic_fetch_add_u64(&lock_shared->session_counter, 1) + 1);
	return pg_atomic_read_u64(&session->number);
}

void
lock_own_owner(LkOwner *owner)
{
	memset(owner, 0, sizeof(*owner));
	owner->kind = LK_OWNER_SESSION;
	owner->session = lock_session_register();
	owner->node = node_id();
	owner->boot = pg_atomic_read_u32(&node_shared->boot);
	owner->pid = (uint32) MyProcPid;
}

/* ---------- answers ---------- */

static LockResult
result_of_refusal(LkRefusal refusal)
{
	switch (refusal)
	{
		case LK_REFUSED_TAKEN:
			return LOCK_TAKEN;
		case LK_REFUSED_NOT_HELD:
			return LOCK_NOT_HELD;
		case LK_REFUSED_NO_LEASE:
			return LOCK_NO_LEASE;
		case LK_REFUSED_LEASE_EXISTS:
			return LOCK_LEASE_EXISTS;
		case LK_REFUSED_DEADLOCK:
			return LOCK_DEADLOCK;
		case LK_REFUSED_OVER_LIMIT:
			return LOCK_OVER_LIMIT;
		case LK_REFUSED_OLD_START:
		case LK_REFUSED_MALFORMED:
			break;
	}
	return LOCK_REFUSED;
}

static LockResult
take_answer(const NodeAnswer *from, NodeVerdict verdict, LockAnswer *answer)
{
	strlcpy(answer->message, from->message, sizeof(answer->message));
	switch (verdict)
	{
		case NODE_COMMITTED:
			answer->index = from->index;
			answer->rows_index = from->rows_index;
			answer->token = from->conflict_index != 0 ? from->conflict_index : from->index;
			answer->stamp_us = from->stamp.physical_us;
			return answer->result = LOCK_GRANTED;
		case NODE_REFUSED:
			answer->conflict_node = from->conflict_node;
			return answer->result = result_of_refusal((LkRefusal) from->conflict_key);
		case NODE_UNAVAILABLE:
			return answer->result = LOCK_NO_QUORUM;
		case NODE_NOT_MEMBER:
			return answer->result = LOCK_NOT_MEMBER;
		case NODE_UNKNOWN:
			return answer->result = LOCK_UNKNOWN;
		case NODE_WITHDRAWN:
		case NODE_TOO_LARGE:
		case NODE_DOOMED:
			break;
	}
	return answer->result = LOCK_REFUSED;
}

static char *
build(const LkRecord *rec, const LkItem *items, Size *len)
{
	Size		bound = lk_write_bound(rec, items);
	char	   *payload = palloc(bound);

	*len = lk_write(payload, bound, rec, items);
	if (*len == 0)
		elog(ERROR, "lock entry with arguments out of bounds");
	return payload;
}

/* ---------- a grant ---------- */

typedef struct Wait
{
	NodeSlot   *slot;
	int64		begun_us;
	int64		wait_us;		/* as in lock_request() */
	int64		patience_us;	/* for a leader to look at it; 0 without end */
} Wait;

static void
begin_wait(Wait *wait, NodeSlot *slot, int64 wait_us)
{
	int64		election_us = (int64) Max(quorum_election_timeout_ms,
										  3 * quorum_heartbeat_interval_ms) * 1000;

	wait->slot = slot;
	wait->begun_us = node_monotonic_us();
	wait->wait_us = wait_us;
	wait->patience_us = (int64) quorum_commit_timeout_ms * 1000;
	if (wait_us >= 0 && wait->patience_us == 0)
		/* a leader that is lost is replaced within that time, if it can be */
		wait->patience_us = Max(wait_us, 4 * election_us);
}

/* How the wait ends now; 0: not yet, *left_us at most. */
static LockResult
look_at_time(const Wait *wait, int64 *left_us)
{
	int64		waited_us = node_monotonic_us() - wait->begun_us;

	*left_us = PG_INT64_MAX;
	if (*(volatile bool *) &wait->slot->parked)
	{
		if (wait->wait_us < 0)
			return 0;
		*left_us = wait->wait_us - waited_us;
		return *left_us <= 0 ? LOCK_TIMED_OUT : 0;
	}
	if (wait->patience_us == 0)
		return 0;
	*left_us = wait->patience_us - waited_us;
	if (*left_us <= 0)
		return LOCK_NO_QUORUM;
	/* a leader may be about to say that it is parked: then the wait counts */
	if (wait->wait_us > 0)
		*left_us = Min(*left_us, Max(wait->wait_us - waited_us, 50 * 1000));
	return 0;
}

static LockResult
wait_for_grant(Wait *wait)
{
	while (!node_answered(wait->slot))
	{
		int			events = WL_LATCH_SET | WL_EXIT_ON_PM_DEATH;
		long		timeout_ms = -1;
		int64		left_us;
		LockResult	result = look_at_time(wait, &left_us);

		if (result != 0 && !node_answered(wait->slot))
			return result;
		if (left_us != PG_INT64_MAX)
		{
			events |= WL_TIMEOUT;
			timeout_ms = (long) Min(Max(left_us, 0) / 1000 + 1, INT_MAX);
		}
		(void) WaitLatch(MyLatch, events, timeout_ms, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
	return 0;
}

LockResult
lock_request(LkRecord *rec, const LkItem *items, int64 wait_us, LockAnswer *answer)
{
	NodeSlot   *slot = &node_shared->slots[compat_my_procno()];
	NodePart	part;
	RaftToken	token;
	Wait		wait;
	volatile LockResult result = 0;
	NodeAnswer	verdict;

	memset(answer, 0, sizeof(*answer));
	if (!node_is_member())
		return answer->result = LOCK_NOT_MEMBER;
	node_require_joined();
	Assert(rec->op == LK_OP_GRANT);
	rec->lease_ms = (uint32) quorum_lease_timeout_ms;
	rec->flags = wait_us == 0 ? LK_TRY : 0;
	if (rec->deadlock_ms == 0)
		rec->deadlock_ms = (uint32) DeadlockTimeout;
	part.data = build(rec, items, &part.len);
	token = answer->request = node_next_token();
	begin_wait(&wait, slot, wait_us);

	node_post(NODE_REQ_PROPOSE, token, &part, 1, part.len, true);
	waiting_counter = token.counter;
	PG_TRY();
	{
		result = wait_for_grant(&wait);
	}
	PG_CATCH();
	{
		leave();
		PG_RE_THROW();
	}
	PG_END_TRY();

	if (result != 0)
	{
		leave();
		pfree((void *) part.data);
		return answer->result = result;
	}
	waiting_counter = 0;
	verdict = slot->answer;
	node_turn_abandon();		/* frees the slot and the payload */
	pfree((void *) part.data);
	return take_answer(&verdict, verdict.verdict, answer);
}

/* ---------- everything else ---------- */

LockResult
lock_submit(const LkRecord *rec, const LkItem *items, LockAnswer *answer)
{
	NodePart	part;
	NodeAnswer	node_answer;
	NodeVerdict verdict;

	memset(answer, 0, sizeof(*answer));
	memset(&node_answer, 0, sizeof(node_answer));
	if (!node_is_member())
		return answer->result = LOCK_NOT_MEMBER;
	part.data = build(rec, items, &part.len);
	answer->request = node_next_token();
	verdict = node_submit(answer->request, &part, 1, NULL, &node_answer);
	pfree((void *) part.data);
	if (verdict == NODE_WITHDRAWN)
	{
		CHECK_FOR_INTERRUPTS();
		/* the cancel was taken back meanwhile: as if it had been served */
		ereport(ERROR, (errcode(ERRCODE_QUERY_CANCELED),
						errmsg("canceling statement due to user request")));
	}
	return take_answer(&node_answer, verdict, answer);
}

LockResult
lock_renew_lease(const uint8 *id, int64 timeout_us, int64 *left_us)
{
	NodeAnswer	answer;
	int			sqlstate = 0;
	NodeVerdict verdict;

	*left_us = 0;
	if (!node_is_member())
		return LOCK_NOT_MEMBER;
	verdict = node_request(NODE_REQ_LEASE_RENEW, id, LK_UUID_LEN,
						   (int) Min(Max(timeout_us / 1000, 1), INT_MAX), &answer, &sqlstate);
	switch (verdict)
	{
		case NODE_COMMITTED:
			*left_us = (int64) answer.index;
			return LOCK_GRANTED;
		case NODE_REFUSED:
			return LOCK_NO_LEASE;
		default:
			return LOCK_NO_QUORUM;
	}
}
