/*-------------------------------------------------------------------------
 *
 * worker_propose.c
 *		Proposals: certified and appended where this member leads, forwarded to
 *		the leader where it does not. Exactly once, by their tokens.
 *
 * The rules that make a verdict final
 * -----------------------------------
 *	- A leader judges a proposal only after an entry of its own term is
 *	  committed. What is not in its log then can never be committed by being in
 *	  somebody else's, so "refused" stands for ever.
 *	- A forwarded proposal carries the leader's term, is good for that leadership
 *	  only, and so is the verdict on it. A member sends a proposal on to the next
 *	  leader only after it has seen its term, and from then on does not listen to
 *	  the former one's verdict.
 *	- A token that is in the log already is not appended again. Its entry comes
 *	  back to the origin with the log, which is how it learns of success.
 *	- What is in this member's own log is never sent again while it is there; cut
 *	  off it is again like one that was never sent.
 *
 * So a proposal in flight survives any number of leader changes, and its
 * session hears "committed" if and only if it is, or "refused".
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"

#include "compat.h"
#include "lock/lock_payload.h"
#include "node/worker.h"
#include "node/worker_lock.h"

#define RETRY_US		INT64CONST(5000)
#define APPLY_LAG_MAX	(NODE_TURN_RING / 2)
#define PARKED_REFRESH_US	INT64CONST(3000000)
#define FORWARD_COPY_MAX	(64 * 1024)

/* ---------- leadership ---------- */

bool
worker_leads(const Worker *w)
{
	return w->raft != NULL && raft_role(w->raft) == RAFT_LEADER;
}

/* ... and everything that may be committed is in this log (see above). */
bool
worker_leads_surely(const Worker *w)
{
	uint64		commit;

	if (!worker_leads(w))
		return false;
	commit = raft_commit_index(w->raft);
	return commit > 0 && raft_term_at(w->raft, commit) == raft_term(w->raft);
}

bool
propose_may_append(const Worker *w)
{
	return worker_leads_surely(w) && raft_transferee(w->raft) == RAFT_NONE &&
		!w->clock_fenced && w->health == RLOG_OK;
}

/* Can something be done with a new proposal now? */
bool
propose_may_take(const Worker *w)
{
	uint64		lag = pg_atomic_read_u64(&node_shared->commit_index) -
		pg_atomic_read_u64(&node_shared->applied_index);

	if (w->state != WORKER_RUNNING || w->leaving)
		return false;
	/* this server's tables lag: do not let its sessions run further ahead */
	if (pg_atomic_read_u32(&node_shared->apply_ready) == 0 || w->needs_image ||
		w->ring_limited || lag > APPLY_LAG_MAX)
		return false;
	if (worker_leads(w))
		return propose_may_append(w);
	return raft_leader(w->raft) != RAFT_NONE &&
		peer_is_up((Worker *) w, raft_leader(w->raft));
}

/* ---------- the table of proposals ---------- */

static inline uint32
bucket_of(RaftToken token)
{
	return (uint32) token.counter & (WORKER_PENDING_BUCKETS - 1);
}

Pending *
pending_find(const Worker *w, RaftToken token)
{
	Pending    *p = w->buckets[bucket_of(token)];

	while (p != NULL && !raft_token_equal(p->token, token))
		p = p->chain;
	return p;
}

/* Since when its session waits: a worker that is started anew does not forget it. */
static int64
posted_at(const Worker *w, int procno, RaftToken token)
{
	int64		posted_us = w->now_us;
	NodeSlot   *slot;

	if (procno < 0)
		return posted_us;
	slot = &node_shared->slots[procno];
	SpinLockAcquire(&slot->mutex);
	if (raft_token_equal(slot->token, token) && slot->posted_us < posted_us)
		posted_us = slot->posted_us;
	SpinLockRelease(&slot->mutex);
	return posted_us;
}

/* Takes over the payload. */
Pending *
pending_add(Worker *w, int procno, RaftToken token, RaftBuf *data)
{
	Pending    *p = calloc(1, sizeof(Pending));
	uint32		b = bucket_of(token);

	if (p == NULL)
		ereport(FATAL, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	p->procno = procno;
	p->token = token;
	p->data = data;
	p->state = PENDING_QUEUED;
	p->taken_us = posted_at(w, procno, token);
	p->lock_op = lk_op(data->data, data->len);
	p->chain = w->buckets[b];
	w->buckets[b] = p;
	dlist_push_tail(&w->queued, &p->link);
	w->npending++;
	if (p->lock_op == LK_OP_GRANT)
		lock_request_taken(w, p);
	return p;
}

void
pending_free(Worker *w, Pending *p)
{
	Pending   **at = &w->buckets[bucket_of(p->token)];

	while (*at != p)
		at = &(*at)->chain;
	*at = p->chain;
	dlist_delete(&p->link);
	if (p->lock_op == LK_OP_GRANT || p->own != NULL)
		lock_own_freed(w, p);
	raft_buf_unref(p->data);
	free(p);
	w->npending--;
}

/* For its session: the wait is one in a queue now, or is not any more. */
static void
set_parked(const Pending *p, bool parked)
{
	NodeSlot   *slot;

	if (p->procno < 0)
		return;
	slot = &node_shared->slots[p->procno];
	SpinLockAcquire(&slot->mutex);
	if (slot->state == SLOT_TAKEN && raft_token_equal(slot->token, p->token))
		slot->parked = parked;
	SpinLockRelease(&slot->mutex);
	node_wake_proc((uint32) p->procno + 1);
}

static void
set_state(Worker *w, Pending *p, PendingState state)
{
	dlist_delete(&p->link);
	if ((p->state == PENDING_PARKED) != (state == PENDING_PARKED))
		set_parked(p, state == PENDING_PARKED);
	p->state = state;
	switch (state)
	{
		case PENDING_QUEUED:
			p->index = 0;
			p->waits_for = 0;
			dlist_push_tail(&w->queued, &p->link);
			break;
		case PENDING_SENT:
			p->exposed = true;
			dlist_push_tail(&w->sent, &p->link);
			break;
		case PENDING_PARKED:
			dlist_push_tail(&w->parked, &p->link);
			break;
		case PENDING_APPENDED:
			p->exposed = true;
			dlist_push_tail(&w->appended, &p->link);
			break;
	}
}

/* An entry with this token is in our log now. Entries come in log order. */
void
pending_appended(Worker *w, uint64 index, RaftToken token, RaftStamp stamp, uint64 lock_token)
{
	Pending    *p = pending_find(w, token);

	if (p == NULL)
		return;
	set_state(w, p, PENDING_APPENDED);
	p->index = index;
	p->stamp = stamp;
	p->lock_token = lock_token;

	/*
	 * Entries of locks change nothing that users keep. What was cut off since may
	 * have counted: then it is waited for more than has to be.
	 */
	p->rows_index = Min(w->rows_index, index - 1);
}

void
pending_truncated(Worker *w, uint64 from)
{
	while (!dlist_is_empty(&w->appended))
	{
		Pending    *p = dlist_tail_element(Pending, link, &w->appended);

		if (p->index < from)
			break;
		set_state(w, p, PENDING_QUEUED);
	}
}

/* Leader or term changed: what was sent is to be sent again. */
void
pending_requeue(Worker *w)
{
	while (!dlist_is_empty(&w->parked))
	{
		Pending    *p = dlist_tail_element(Pending, link, &w->parked);

		set_state(w, p, PENDING_QUEUED);
		dlist_delete(&p->link);
		dlist_push_head(&w->queued, &p->link);
	}
	while (!dlist_is_empty(&w->sent))
	{
		Pending    *p = dlist_tail_element(Pending, link, &w->sent);

		dlist_delete(&p->link);
		p->state = PENDING_QUEUED;
		p->waits_for = 0;
		dlist_push_head(&w->queued, &p->link);
	}
}

/* The log is being closed: its entries will be told again. */
void
pending_forget_log(Worker *w)
{
	pending_truncated(w, 0);
	pending_requeue(w);
}

/* This member takes no part any more: what it pursued may be committed or not. */
void
pending_give_up(Worker *w, const char *why)
{
	NodeAnswer	answer;

	memset(&answer, 0, sizeof(answer));
	answer.verdict = NODE_UNKNOWN;
	strlcpy(answer.message, why, sizeof(answer.message));
	while (!dlist_is_empty(&w->queued))
	{
		Pending    *p = dlist_head_element(Pending, link, &w->queued);

		if (p->procno >= 0)
			node_answer_slot(p->procno, p->token, &answer, 0);
		pending_free(w, p);
	}
}

/*
 * This member's tables jump to entry `index`. What it pursued may be in there,
 * and comes back with no log: nobody can commit it here.
 */
void
pending_jump(Worker *w, uint64 index)
{
	NodeAnswer	answer;

	memset(&answer, 0, sizeof(answer));
	answer.verdict = NODE_UNKNOWN;
	strlcpy(answer.message, "this member's tables were replaced by an image meanwhile",
			sizeof(answer.message));
	while (!dlist_is_empty(&w->appended))
	{
		Pending    *p = dlist_head_element(Pending, link, &w->appended);

		if (p->index > index)
			break;
		node_answer_slot(p->procno, p->token, &answer, 0);
		pending_free(w, p);
	}
	pending_requeue(w);
	pending_give_up(w, answer.message);
}

/* Refused: final. Whoever waits in the slot hears of it. */
static void
answer_pending(Worker *w, Pending *p, const NodeAnswer *answer)
{
	if (p->own != NULL)
		lock_own_decided(w, p, 0);
	else if (p->procno >= 0)
		node_answer_slot(p->procno, p->token, answer, 0);
	pending_free(w, p);
}

/* ---------- the leader ---------- */

/* Append what was judged. The reference to data stays the caller's. */
Judgement
propose_append(Worker *w, RaftToken token, RaftBuf *data)
{
	HlcStamp	stamp;
	uint64_t	index;

	if (!propose_may_append(w) || clock_now(&stamp) != CLOCK_OK)
		return JUDGED_LATER;
	if (raft_propose(w->raft, RAFT_ENTRY_DATA, from_hlc(stamp), token, data, &index) != RAFT_OK)
		return JUDGED_LATER;
	raft_buf_ref(data);			/* the core took one */

	/* the next proposal is judged against this one as well */
	if (w->fed_from == 0)
		w->fed_from = index;
	w->fed_to = index;
	drive_note_appended(w, index, token, from_hlc(stamp), RAFT_ENTRY_DATA,
						data->data, data->len, data);
	return JUDGED_APPENDED;
}

/* Certify and append. The reference to data stays the caller's. */
static Judgement
judge(Worker *w, uint32 from, RaftToken token, RaftBuf *data, int64 age_us,
	  uint64 *waits_for, NodeAnswer *answer)
{
	if (node_ops && node_ops->find_token && node_ops->find_token(token) != 0)
		return JUDGED_APPENDED;
	if (!propose_may_append(w))
		return JUDGED_LATER;
	memset(answer, 0, sizeof(*answer));
	answer->verdict = NODE_REFUSED;
	if (outcome_is_aborted(w, token))
	{
		strlcpy(answer->message, "the transaction was given up when its outcome was asked for",
				sizeof(answer->message));
		return JUDGED_REFUSED;
	}
	if (lk_is_lock(data->data, data->len))
		return lock_judge(w, from, token, data, age_us, waits_for, answer);

	/* a large one is not to be looked through again in each turn until then */
	if (*waits_for > raft_commit_index(w->raft) && *waits_for <= raft_last_index(w->raft))
		return JUDGED_WAITS;
	switch (node_ops && node_ops->certify ? node_ops->certify(token, data, answer) : NODE_CERT_PASSED)
	{
		case NODE_CERT_PASSED:
			break;
		case NODE_CERT_UNFINISHED:
			return JUDGED_UNFINISHED;
		case NODE_CERT_REFUSED:

			/*
			 * Not before the winner itself is certain: without a majority "retry"
			 * would be bad advice.
			 */
			answer->verdict = NODE_REFUSED;
			if (*waits_for == 0)
				*waits_for = answer->conflict_index;
			return *waits_for > raft_commit_index(w->raft) ? JUDGED_WAITS : JUDGED_REFUSED;
	}
	return propose_append(w, token, data);
}

/*
 * While one is judged over several turns, nothing is appended that the part of
 * it that was judged already could collide with: all others wait.
 */
static bool
must_wait(Worker *w, RaftToken token)
{
	if (w->judging.counter == 0)
		return false;
	if (!raft_token_equal(w->judging, token))
		return true;
	w->judging_seen = true;
	return false;
}

/* True: stop here, there is more to do on it in the next turn. */
static bool
note_judged(Worker *w, RaftToken token, Judgement judgement)
{
	if (judgement == JUDGED_UNFINISHED)
	{
		w->judging = token;
		w->judging_seen = true;
		return true;
	}
	memset(&w->judging, 0, sizeof(w->judging));
	return false;
}

static void
judge_own(Worker *w)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &w->queued)
	{
		Pending    *p = dlist_container(Pending, link, iter.cur);
		NodeAnswer	answer;
		Judgement	judgement;

		if (must_wait(w, p->token))
			continue;
		if (p->withdrawn)
		{
			/* not in the log of a leader that is sure of it: nowhere */
			lock_withdrawn(w, p);
			pending_free(w, p);
			continue;
		}
		judgement = judge(w, w->id, p->token, p->data, w->now_us - p->taken_us,
						  &p->waits_for, &answer);
		if (note_judged(w, p->token, judgement))
			return;
		switch (judgement)
		{
			case JUDGED_UNFINISHED:
				return;
			case JUDGED_APPENDED:
				/* pending_appended() has moved it; or it lies further back */
				if (p->state == PENDING_QUEUED)
				{
					/*
					 * In the log, yet not seen by drive_note_appended as ours:
					 * cannot be, as the table is filled before the log is read.
					 */
					elog(LOG, "proposal %u-%u-" UINT64_FORMAT " is in the log unseen",
						 p->token.node, p->token.boot, (uint64) p->token.counter);
					memset(&answer, 0, sizeof(answer));
					answer.verdict = NODE_UNKNOWN;
					answer_pending(w, p, &answer);
				}
				break;
			case JUDGED_REFUSED:
				answer_pending(w, p, &answer);
				break;
			case JUDGED_WAITS:
				break;
			case JUDGED_PARKED:
				set_state(w, p, PENDING_PARKED);
				p->sent_us = w->now_us;
				break;
			case JUDGED_LATER:
				w->retry_us = w->now_us + RETRY_US;
				return;
		}
	}
}

static void
remote_free(Worker *w, RemoteProposal *rp)
{
	dlist_delete(&rp->link);
	w->remote_bytes -= rp->data->len;
	w->nremote--;
	raft_buf_unref(rp->data);
	free(rp);
}

void
remote_drop(Worker *w)
{
	while (!dlist_is_empty(&w->remote))
		remote_free(w, dlist_head_element(RemoteProposal, link, &w->remote));
}

static void
send_verdict(Worker *w, uint32 to, uint64 term, RaftToken token, const NodeAnswer *answer)
{
	WireVerdict v;

	memset(&v, 0, sizeof(v));
	v.term = term;
	v.token = token;
	v.verdict = (uint32) answer->verdict;
	v.conflict_key = answer->conflict_key;
	v.conflict_index = answer->conflict_index;
	v.conflict_node = answer->conflict_node;
	strlcpy(v.message, answer->message, sizeof(v.message));
	(void) peer_send(w, to, WIRE_VERDICT, &v,
					 offsetof(WireVerdict, message) + strlen(v.message) + 1);
}

/* Parked, or withdrawn (worker_lock.h). */
void
send_lock_verdict(Worker *w, uint32 to, uint64 term, RaftToken token, uint32 verdict)
{
	WireVerdict v;

	memset(&v, 0, sizeof(v));
	v.term = term;
	v.token = token;
	v.verdict = verdict;
	(void) peer_send(w, to, WIRE_VERDICT, &v, offsetof(WireVerdict, message) + 1);
}

/* The leader refuses a request that it has let wait. */
void
propose_refuse(Worker *w, uint32 from, uint64 term, RaftToken token, const NodeAnswer *answer)
{
	Pending    *p;

	if (from != w->id)
		send_verdict(w, from, term, token, answer);
	else if ((p = pending_find(w, token)) != NULL)
		answer_pending(w, p, answer);
}

/* "Not taken, send it again": to somebody who may have become leader, too. */
static void
send_back(Worker *w, uint32 to, uint64 term, RaftToken token)
{
	NodeAnswer	answer;

	memset(&answer, 0, sizeof(answer));
	answer.verdict = NODE_UNAVAILABLE;
	send_verdict(w, to, term, token, &answer);
}

/*
 * A member has forwarded a proposal to us. Judged later in this turn.
 * kept: data lies in there; NULL: it has to be copied.
 */
void
remote_forward(Worker *w, uint32 from, const uint8 *data, Size len, RaftBuf *kept)
{
	WireForward forward;
	RemoteProposal *rp;

	if (len < sizeof(forward))
		return;
	memcpy(&forward, data, sizeof(forward));
	data += sizeof(forward);
	len -= sizeof(forward);

	/*
	 * Whatever the session has seen is below the stamp of its commit. An origin
	 * whose clock is out of bounds tries again until it is not.
	 */
	if (!worker_leads(w) || forward.term != raft_term(w->raft) ||
		clock_observe(to_hlc(forward.stamp), from, NULL) == CLOCK_TOO_FAR_AHEAD ||
		w->remote_bytes + len > WORKER_REMOTE_MAX_BYTES ||
		(rp = calloc(1, sizeof(*rp))) == NULL)
	{
		send_back(w, from, forward.term, forward.token);
		return;
	}
	rp->from = from;
	rp->term = forward.term;
	rp->token = forward.token;
	rp->age_us = forward.age_us;
	rp->data = kept != NULL ? raft_buf_part(kept, sizeof(forward), len) : raft_buf_new(data, len);
	if (rp->data == NULL)
	{
		free(rp);
		send_back(w, from, forward.term, forward.token);
		return;
	}
	w->remote_bytes += len;
	w->nremote++;
	dlist_push_tail(&w->remote, &rp->link);
}

static void
judge_remote(Worker *w)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &w->remote)
	{
		RemoteProposal *rp = dlist_container(RemoteProposal, link, iter.cur);
		NodeAnswer	answer;
		Judgement	judgement;

		if (worker_leads(w) && must_wait(w, rp->token))
			continue;
		if (!worker_leads(w) || rp->term != raft_term(w->raft) ||
			raft_transferee(w->raft) != RAFT_NONE || w->clock_fenced ||
			w->health != RLOG_OK)
		{
			send_back(w, rp->from, rp->term, rp->token);
			remote_free(w, rp);
			continue;
		}
		judgement = judge(w, rp->from, rp->token, rp->data, rp->age_us, &rp->waits_for, &answer);
		if (note_judged(w, rp->token, judgement))
			return;
		switch (judgement)
		{
			case JUDGED_UNFINISHED:
				return;
			case JUDGED_APPENDED:
				break;
			case JUDGED_REFUSED:
				send_verdict(w, rp->from, rp->term, rp->token, &answer);
				break;
			case JUDGED_WAITS:
				continue;
			case JUDGED_PARKED:
				send_lock_verdict(w, rp->from, rp->term, rp->token, LOCK_VERDICT_PARKED);
				break;
			case JUDGED_LATER:
				w->retry_us = w->now_us + RETRY_US;
				return;
		}
		remote_free(w, rp);
	}
}

/* In the order of their coming; one that is judged already goes first. */
static void
judge_all(Worker *w)
{
	bool		one = w->judging.counter != 0;

	w->judging_seen = false;
	judge_remote(w);
	judge_own(w);
	if (one && !w->judging_seen)
		memset(&w->judging, 0, sizeof(w->judging)); /* it has gone */
	if (one && w->judging.counter == 0)
	{
		judge_remote(w);
		judge_own(w);
	}
}

/* ---------- everybody else ---------- */

/* One that is sent without a copy. */
typedef struct Forwarded
{
	WireForward message;
	RaftBuf    *data;
} Forwarded;

static void
release_forwarded(void *arg)
{
	Forwarded  *large = arg;

	raft_buf_unref(large->data);
	free(large);
}

/* To the leader; one that nobody wants any more is withdrawn instead. */
static bool
forward(Worker *w, Pending *p, uint32 leader)
{
	TpPart		parts[2];

	if (p->withdrawn)
	{
		WireLock	wire;

		memset(&wire, 0, sizeof(wire));
		wire.kind = LOCK_WITHDRAW;
		wire.term = raft_term(w->raft);
		wire.token = p->token;
		/* in the same lane, so that it cannot overtake what it takes back */
		parts[0] = (TpPart) {&wire, sizeof(wire)};
		return tp_send(w->tp, leader, WIRE_LOCK, TP_BULK, parts, 1, NULL, NULL) == TP_SEND_OK;
	}
	else
	{
		WireForward message;
		HlcStamp	stamp;
		Forwarded  *large;

		memset(&message, 0, sizeof(message));
		message.term = raft_term(w->raft);
		message.token = p->token;
		message.age_us = w->now_us - p->taken_us;
		clock_message_stamp(&stamp);
		message.stamp = from_hlc(stamp);
		parts[0] = (TpPart) {&message, sizeof(message)};
		parts[1] = (TpPart) {p->data->data, p->data->len};
		if (p->data->len < FORWARD_COPY_MAX || (large = malloc(sizeof(Forwarded))) == NULL)
			return tp_send(w->tp, leader, WIRE_FORWARD, TP_BULK, parts, 2, NULL, NULL) == TP_SEND_OK;

		large->message = message;
		large->data = raft_buf_ref(p->data);
		parts[0].data = &large->message;
		if (tp_send(w->tp, leader, WIRE_FORWARD, TP_BULK, parts, 2, release_forwarded, large) == TP_SEND_OK)
			return true;
		release_forwarded(large);
		return false;
	}
}

static void
forward_queued(Worker *w)
{
	uint32		leader = raft_leader(w->raft);

	while (!dlist_is_empty(&w->queued))
	{
		Pending    *p = dlist_head_element(Pending, link, &w->queued);

		if (!forward(w, p, leader))
		{
			w->retry_us = w->now_us + RETRY_US;
			return;
		}
		set_state(w, p, PENDING_SENT);
		p->sent_term = raft_term(w->raft);
		p->sent_us = w->now_us;
	}
}

/*
 * A request for a lock that its session has left. What may be in some log is
 * taken back from the leader; where it was appended already, the grant is
 * released once it is committed (publish_commits).
 */
void
propose_withdraw(Worker *w, Pending *p)
{
	p->withdrawn = true;
	switch (p->state)
	{
		case PENDING_QUEUED:
			if (!p->exposed)
				pending_free(w, p);
			break;
		case PENDING_SENT:
		case PENDING_PARKED:
			set_state(w, p, PENDING_QUEUED);
			w->retry_us = 0;
			break;
		case PENDING_APPENDED:
			break;
	}
}

/* A member takes a request back that it forwarded to us, before it was judged. */
bool
remote_withdraw(Worker *w, uint32 from, RaftToken token)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &w->remote)
	{
		RemoteProposal *rp = dlist_container(RemoteProposal, link, iter.cur);

		if (rp->from == from && raft_token_equal(rp->token, token))
		{
			remote_free(w, rp);
			return true;
		}
	}
	return false;
}

/* The leader's answer to a proposal that it did not append. */
void
propose_verdict(Worker *w, uint32 from, const uint8 *data, Size len)
{
	WireVerdict v;
	Pending    *p;
	NodeAnswer	answer;

	if (len <= offsetof(WireVerdict, message) || len > sizeof(v))
		return;
	memset(&v, 0, sizeof(v));
	memcpy(&v, data, len);
	p = pending_find(w, v.token);
	if (p == NULL || (p->state != PENDING_SENT && p->state != PENDING_PARKED) ||
		p->sent_term != v.term)
		return;
	if (v.verdict == LOCK_VERDICT_PARKED)
	{
		if (!p->withdrawn && p->state == PENDING_SENT)
			set_state(w, p, PENDING_PARKED);
		return;
	}
	if (v.verdict == LOCK_VERDICT_WITHDRAWN)
	{
		if (p->withdrawn)
		{
			lock_withdrawn(w, p);
			pending_free(w, p);
		}
		return;
	}
	if (v.verdict == NODE_REFUSED)
	{
		memset(&answer, 0, sizeof(answer));
		answer.verdict = NODE_REFUSED;
		answer.conflict_key = v.conflict_key;
		answer.conflict_index = v.conflict_index;
		answer.conflict_node = v.conflict_node;
		v.message[sizeof(v.message) - 1] = '\0';
		strlcpy(answer.message, v.message, sizeof(answer.message));
		answer_pending(w, p, &answer);
		return;
	}
	/* not taken */
	set_state(w, p, PENDING_QUEUED);
	w->retry_us = w->now_us + RETRY_US;
}

/* A message or its answer got lost without a connection dropping. */
static void
resend_stale(Worker *w)
{
	int64		patience_us = 2 * (int64) Max(quorum_election_timeout_ms,
											  3 * quorum_heartbeat_interval_ms) * 1000;

	while (!dlist_is_empty(&w->sent))
	{
		Pending    *p = dlist_head_element(Pending, link, &w->sent);

		if (w->now_us - p->sent_us < patience_us)
			break;
		set_state(w, p, PENDING_QUEUED);
	}
}

/* The leader forgets a request that it does not hear of again. */
static void
refresh_parked(Worker *w)
{
	uint32		leader = raft_leader(w->raft);

	if (leader == w->id || leader == RAFT_NONE)
		return;
	for (;;)
	{
		Pending    *p = dlist_head_element(Pending, link, &w->parked);

		if (w->now_us - p->sent_us < PARKED_REFRESH_US || !forward(w, p, leader))
			return;
		p->sent_us = w->now_us;
		dlist_delete(&p->link);
		dlist_push_tail(&w->parked, &p->link);
	}
}

/* Is one judged over several turns, so that the next one should come at once? */
bool
propose_goes_on(const Worker *w)
{
	return w->judging.counter != 0 && w->state == WORKER_RUNNING && worker_leads_surely(w) &&
		w->retry_us <= w->now_us;
}

void
propose_run(Worker *w)
{
	if (w->nposted > 0 && propose_may_take(w))
		mailbox_take_posted(w);
	if (!dlist_is_empty(&w->sent))
		resend_stale(w);
	if (!dlist_is_empty(&w->parked))
		refresh_parked(w);
	lock_before(w);
	if (dlist_is_empty(&w->queued) && dlist_is_empty(&w->remote))
	{
		memset(&w->judging, 0, sizeof(w->judging));
		return;
	}
	if (w->now_us < w->retry_us)
		return;
	w->retry_us = 0;
	if (worker_leads(w))
	{
		if (worker_leads_surely(w))
		{
			judge_all(w);
			lock_grant_parked(w);
		}
		return;
	}
	memset(&w->judging, 0, sizeof(w->judging));
	judge_remote(w);			/* sends everything back */
	if (raft_leader(w->raft) != RAFT_NONE && peer_is_up(w, raft_leader(w->raft)))
		forward_queued(w);
}
