/*-------------------------------------------------------------------------
 *
 * worker_outcome.c
 *		quorum.outcome(): what became of a token.
 *
 * "committed" is read from the log. "aborted" has to be made true for ever: a
 * proposal that is nowhere to be seen may be on its way still. So
 *	1. the token's origin is asked, if it can be reached: while it pursues the
 *	   proposal, the answer is in_progress;
 *	2. otherwise the leader puts a marker into the log, an entry of type NOOP that
 *	   carries the token. Once it is committed every leader there will be has it,
 *	   and none appends the token any more (worker_propose.c).
 * If the map of tokens does not reach back to the beginning of the log's
 * history, a token that is not in it may be an old one: unknown.
 *
 * Markers are kept in this process's memory; a start reads them from the log.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"

#include "node/worker.h"

#define MARKER_BUCKETS	256
#define PATIENCE_US		INT64CONST(30000000)
#define ASK_AGAIN_US	INT64CONST(30000)
#define ORIGIN_WAIT_US	INT64CONST(2000000)

typedef struct Marker
{
	struct Marker *chain;
	RaftToken	token;
	uint64		index;
} Marker;

static Marker *markers[MARKER_BUCKETS];
static int	nmarkers = 0;

static Marker *
find_marker(RaftToken token)
{
	Marker	   *m = markers[token.counter % MARKER_BUCKETS];

	while (m != NULL && !raft_token_equal(m->token, token))
		m = m->chain;
	return m;
}

/* A marker's entry is in the log now. */
void
outcome_note_marker(Worker *w, RaftToken token, uint64 index)
{
	Marker	   *m = find_marker(token);

	if (m != NULL)
		return;					/* the first one counts */
	m = malloc(sizeof(Marker));
	if (m == NULL)
		ereport(FATAL, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	m->token = token;
	m->index = index;
	m->chain = markers[token.counter % MARKER_BUCKETS];
	markers[token.counter % MARKER_BUCKETS] = m;
	nmarkers++;
}

/* Entries at and above from are not in the log any more. */
void
outcome_truncated(Worker *w, uint64 from)
{
	if (nmarkers == 0)
		return;
	for (int i = 0; i < MARKER_BUCKETS; i++)
	{
		Marker	  **at = &markers[i];

		while (*at != NULL)
		{
			Marker	   *m = *at;

			if (m->index >= from)
			{
				*at = m->chain;
				free(m);
				nmarkers--;
			}
			else
				at = &m->chain;
		}
	}
}

bool
outcome_is_aborted(const Worker *w, RaftToken token)
{
	return nmarkers > 0 && find_marker(token) != NULL;
}

/* ---------- what can be said here ---------- */

/* From this member's log alone; 0: nothing. */
static Outcome
from_log(Worker *w, RaftToken token)
{
	uint64		index = node_ops && node_ops->find_token ? node_ops->find_token(token) : 0;
	Marker	   *marker;

	if (index != 0)
		return index <= raft_commit_index(w->raft) ? OUTCOME_COMMITTED : OUTCOME_IN_PROGRESS;
	marker = find_marker(token);
	if (marker != NULL && marker->index <= raft_commit_index(w->raft))
		return OUTCOME_ABORTED;
	return 0;
}

/* As the token's origin: is it pursued here? */
static Outcome
as_origin(Worker *w, RaftToken token)
{
	uint32		boot = pg_atomic_read_u32(&node_shared->boot);

	if (pending_find(w, token) != NULL)
		return OUTCOME_IN_PROGRESS;
	for (int i = 0; i < w->nposted; i++)
	{
		NodeSlot   *slot = &node_shared->slots[w->posted[i]];
		bool		same;

		SpinLockAcquire(&slot->mutex);
		same = slot->state == SLOT_POSTED && raft_token_equal(slot->token, token);
		SpinLockRelease(&slot->mutex);
		if (same)
			return OUTCOME_IN_PROGRESS;
	}
	/* never given out */
	if (token.boot > boot ||
		(token.boot == boot && token.counter > pg_atomic_read_u64(&node_shared->token_counter)))
		return OUTCOME_UNKNOWN;
	return OUTCOME_NOT_HERE;
}

/* As the leader: the final word, or NOT_HERE: not yet. */
static Outcome
as_leader(Worker *w, RaftToken token)
{
	Outcome		outcome = from_log(w, token);
	HlcStamp	stamp;
	uint64_t	index;
	dlist_iter	iter;

	if (!worker_leads_surely(w))
		return OUTCOME_NOT_HERE;
	if (outcome != 0)
		return outcome;
	dlist_foreach(iter, &w->remote)
		if (raft_token_equal(dlist_container(RemoteProposal, link, iter.cur)->token, token))
		return OUTCOME_IN_PROGRESS;
	if (find_marker(token) != NULL)
		return OUTCOME_NOT_HERE;	/* as soon as it is committed */
	if (node_ops && node_ops->token_floor && node_ops->token_floor() > 1)
		return OUTCOME_UNKNOWN;
	if (!w->clock_fenced && w->health == RLOG_OK && clock_now(&stamp) == CLOCK_OK &&
		raft_propose(w->raft, RAFT_ENTRY_NOOP, from_hlc(stamp), token, NULL, &index) == RAFT_OK)
	{
		if (w->fed_from == 0)
			w->fed_from = index;
		w->fed_to = index;
		outcome_note_marker(w, token, index);
	}
	return OUTCOME_NOT_HERE;
}

/* ---------- asked by another member ---------- */

void
outcome_ask(Worker *w, uint32 from, const uint8 *data, Size len)
{
	WireAsk		ask;
	WireAnswer	answer;
	OutcomeOp  *op;

	if (len != sizeof(ask))
		return;
	memcpy(&ask, data, sizeof(ask));
	if (ask.origin == 1)
	{
		memset(&answer, 0, sizeof(answer));
		answer.id = ask.id;
		answer.outcome = from_log(w, ask.token);
		if (answer.outcome == 0)
			answer.outcome = as_origin(w, ask.token);
		(void) peer_send(w, from, WIRE_ANSWER, &answer, sizeof(answer));
		return;
	}

	/* not inside a callback: it may propose */
	op = calloc(1, sizeof(OutcomeOp));
	if (op == NULL)
		return;
	op->procno = -1;
	op->asked_member = from;
	op->id = ask.id;
	op->token = ask.token;
	dlist_push_tail(&w->outcomes, &op->link);
}

/* ---------- asked by a session ---------- */

static const char *
outcome_name(Outcome outcome)
{
	switch (outcome)
	{
		case OUTCOME_COMMITTED:
			return "committed";
		case OUTCOME_ABORTED:
			return "aborted";
		case OUTCOME_IN_PROGRESS:
			return "in_progress";
		default:
			return "unknown";
	}
}

static void
finish(Worker *w, OutcomeOp *op, Outcome outcome)
{
	if (op->procno >= 0)
		answer_request(w, op->procno, op->slot_token, 0, "%s", outcome_name(outcome));
	else
	{
		WireAnswer	answer;

		memset(&answer, 0, sizeof(answer));
		answer.id = op->id;
		answer.outcome = outcome;
		(void) peer_send(w, op->asked_member, WIRE_ANSWER, &answer, sizeof(answer));
	}
	dlist_delete(&op->link);
	free(op);
}

void
outcome_begin(Worker *w, int procno, RaftToken slot_token, RaftToken token)
{
	OutcomeOp  *op = calloc(1, sizeof(OutcomeOp));

	if (op == NULL || w->state != WORKER_RUNNING)
	{
		free(op);
		answer_request(w, procno, slot_token, 0, "unknown");
		return;
	}
	/* ids are given out one after the other: nobody had that one yet */
	if (token.node >= raft_committed_conf(w->raft)->next_id)
	{
		free(op);
		answer_request(w, procno, slot_token, ERRCODE_INVALID_PARAMETER_VALUE,
					   "no member of this cluster has given out such a transaction token");
		return;
	}
	op->procno = procno;
	op->slot_token = slot_token;
	op->token = token;
	op->id = ++w->next_op;
	op->deadline_us = w->now_us + PATIENCE_US;
	dlist_push_tail(&w->outcomes, &op->link);
}

void
outcome_answer(Worker *w, uint32 from, const uint8 *data, Size len)
{
	WireAnswer	answer;
	dlist_mutable_iter iter;

	if (len != sizeof(answer))
		return;
	memcpy(&answer, data, sizeof(answer));
	dlist_foreach_modify(iter, &w->outcomes)
	{
		OutcomeOp  *op = dlist_container(OutcomeOp, link, iter.cur);

		if (op->procno < 0 || op->id != answer.id || op->asked_member != from)
			continue;
		if (answer.outcome == OUTCOME_NOT_HERE)
		{
			if (!op->origin_done)
			{
				op->origin_done = true;
				op->asked_us = 0;
			}
			op->asked_member = 0;
		}
		else
			finish(w, op, answer.outcome);
		return;
	}
}

static void
ask(Worker *w, OutcomeOp *op, uint32 whom)
{
	WireAsk		wire;

	memset(&wire, 0, sizeof(wire));
	wire.id = op->id;
	wire.token = op->token;
	wire.origin = op->origin_done ? 2 : 1;
	if (peer_send(w, whom, WIRE_ASK, &wire, sizeof(wire)))
	{
		op->asked_member = whom;
		op->asked_us = w->now_us;
	}
}

static void
step(Worker *w, OutcomeOp *op)
{
	Outcome		outcome;
	uint32		leader;

	if (op->procno < 0)
	{
		finish(w, op, as_leader(w, op->token));
		return;
	}
	outcome = from_log(w, op->token);
	if (outcome != 0)
	{
		finish(w, op, outcome);
		return;
	}
	if (w->now_us >= op->deadline_us)
	{
		finish(w, op, OUTCOME_UNKNOWN);
		return;
	}
	if (!op->origin_done)
	{
		if (op->token.node == w->id)
		{
			outcome = as_origin(w, op->token);
			if (outcome != OUTCOME_NOT_HERE)
			{
				finish(w, op, outcome);
				return;
			}
			op->origin_done = true;
		}
		else if (!peer_is_up(w, op->token.node) ||
				 (op->asked_us != 0 && w->now_us - op->asked_us > ORIGIN_WAIT_US))
			op->origin_done = true;
		else if (op->asked_us == 0)
		{
			ask(w, op, op->token.node);
			return;
		}
		else
			return;
		op->asked_us = 0;
		op->asked_member = 0;
	}

	if (worker_leads(w))
	{
		outcome = as_leader(w, op->token);
		if (outcome != OUTCOME_NOT_HERE)
			finish(w, op, outcome);
		return;
	}
	leader = raft_leader(w->raft);
	if (leader != RAFT_NONE && peer_is_up(w, leader) &&
		w->now_us - op->asked_us > (op->asked_member != 0 ? ORIGIN_WAIT_US : ASK_AGAIN_US))
		ask(w, op, leader);
}

void
outcome_run(Worker *w)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &w->outcomes)
		step(w, dlist_container(OutcomeOp, link, iter.cur));
}
