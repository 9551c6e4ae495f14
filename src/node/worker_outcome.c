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
 *
 * The map of tokens does not reach back to the beginning of history. What it does
 * not cover is in the archive of each member (storage/tokens.h), which is files,
 * read by the session that asks before it asks here: the worker never waits for a
 * disk. The session passes on up to which entry the archive denies the token,
 * and the leader decides when that meets the beginning of its map. A session whose
 * member's archive does not go back far enough has other members asked for theirs
 * (ASKED_AS_ARCHIVE), who look on a thread of libuv's pool.
 *
 * Markers are kept in this process's memory; a start reads them from the log. A
 * marker may leave both while its token's transaction is still open, idle: that
 * one can then not commit any more, since it has locked something before its token
 * was known to anybody, and bases below the beginning of the log are refused.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"

#include "node/worker.h"
#include "storage/tokens.h"

#define MARKER_BUCKETS	256
#define PATIENCE_US		INT64CONST(30000000)
#define ASK_AGAIN_US	INT64CONST(30000)
#define ORIGIN_WAIT_US	INT64CONST(2000000)
#define MAX_LOOKUPS		16

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

/* The map of tokens does not know the entries below. */
static uint64
map_floor(void)
{
	return node_ops && node_ops->token_floor ? node_ops->token_floor() : 1;
}

/* As the leader: the final word, or NOT_HERE: not yet. */
static Outcome
as_leader(Worker *w, RaftToken token, uint64 absent_upto)
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
	if (absent_upto + 1 < map_floor())
		return OUTCOME_EVIDENCE;
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

typedef struct Lookup
{
	uv_work_t	work;
	Worker	   *w;
	uint32		from;
	uint64		id;
	TokToken	token;
	TokResult	result;
	uint64		upto;
} Lookup;

static int	nlookups = 0;

/* On a thread of the pool: touches nothing but its own. */
static void
look(uv_work_t *work)
{
	Lookup	   *lookup = work->data;

	lookup->result = tok_lookup(rlog_env_posix(), NODE_OUTCOME_DIRECTORY, lookup->token,
								&lookup->upto);
}

static void
looked(uv_work_t *work, int status)
{
	Lookup	   *lookup = work->data;
	WireAnswer	answer;

	nlookups--;
	memset(&answer, 0, sizeof(answer));
	answer.id = lookup->id;
	answer.outcome = OUTCOME_UNKNOWN;
	if (status == 0 && lookup->result == TOK_FOUND)
		answer.outcome = OUTCOME_COMMITTED;
	else if (status == 0 && lookup->result == TOK_ABSENT)
	{
		answer.outcome = OUTCOME_ABSENT;
		answer.absent_upto = lookup->upto;
	}
	if (lookup->w->raft != NULL)
		(void) peer_send(lookup->w, lookup->from, WIRE_ANSWER, &answer, sizeof(answer));
	free(lookup);
}

/* Too many at a time are not answered; who asked asks another member. */
static void
look_up(Worker *w, uint32 from, const WireAsk *ask)
{
	Lookup	   *lookup;

	if (nlookups >= MAX_LOOKUPS || (lookup = calloc(1, sizeof(Lookup))) == NULL)
		return;
	if (ask->absent_upto != 0 && ask->absent_upto >= node_archived_index())
		node_want_archived(node_commit_index());	/* for when it is asked again */
	lookup->work.data = lookup;
	lookup->w = w;
	lookup->from = from;
	lookup->id = ask->id;
	lookup->token = (TokToken) {ask->token.node, ask->token.boot, ask->token.counter};
	if (uv_queue_work(&w->loop, &lookup->work, look, looked) != 0)
		free(lookup);
	else
		nlookups++;
}

void
outcome_ask(Worker *w, uint32 from, const uint8 *data, Size len)
{
	WireAsk		ask;
	WireAnswer	answer;
	OutcomeOp  *op;

	if (len != sizeof(ask))
		return;
	memcpy(&ask, data, sizeof(ask));
	if (ask.origin == ASKED_AS_ARCHIVE)
	{
		look_up(w, from, &ask);
		return;
	}
	if (ask.origin == ASKED_AS_ORIGIN)
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
	op->absent_upto = ask.absent_upto;
	dlist_push_tail(&w->outcomes, &op->link);
}

/* ---------- asked by a session ---------- */

/* The final answer to a session. */
static void
answer_session(Worker *w, int procno, RaftToken slot_token, Outcome outcome, uint64 absent_upto)
{
	NodeAnswer	answer;

	memset(&answer, 0, sizeof(answer));
	answer.verdict = NODE_COMMITTED;
	answer.index = outcome;
	answer.stamp.physical_us = (int64) absent_upto;
	node_answer_slot(procno, slot_token, &answer, 0);
}

static void
finish(Worker *w, OutcomeOp *op, Outcome outcome)
{
	if (op->procno >= 0)
		answer_session(w, op->procno, op->slot_token, outcome, op->absent_upto);
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
outcome_begin(Worker *w, int procno, RaftToken slot_token, const NodeOutcomeRequest *request)
{
	RaftToken	token = request->token;
	OutcomeOp  *op = calloc(1, sizeof(OutcomeOp));

	if (op == NULL || w->state != WORKER_RUNNING)
	{
		free(op);
		answer_session(w, procno, slot_token, OUTCOME_UNKNOWN, 0);
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
	op->looked = request->looked;
	op->archives = request->archives;
	op->absent_upto = request->absent_upto;
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
		if (op->archives)
		{
			if (answer.outcome != OUTCOME_COMMITTED && answer.outcome != OUTCOME_ABSENT)
				op->asked_member = 0;	/* the next one, in the next turn */
			else
			{
				op->absent_upto = answer.absent_upto;
				finish(w, op, answer.outcome);
			}
			return;
		}
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
ask(Worker *w, OutcomeOp *op, uint32 whom, AskedAs as)
{
	WireAsk		wire;

	memset(&wire, 0, sizeof(wire));
	wire.id = op->id;
	wire.token = op->token;
	wire.origin = as;
	wire.absent_upto = op->absent_upto;
	if (peer_send(w, whom, WIRE_ASK, &wire, sizeof(wire)))
	{
		op->asked_member = whom;
		op->asked_us = w->now_us;
	}
}

/* One member after the other, until one knows. */
static void
step_archives(Worker *w, OutcomeOp *op)
{
	if (op->asked_member != 0 && w->now_us - op->asked_us <= ORIGIN_WAIT_US)
		return;
	op->asked_member = 0;
	while (op->next_peer < w->npeers && op->asked_member == 0)
	{
		PeerInfo   *peer = &w->peers[op->next_peer++];

		if (peer->up)
			ask(w, op, peer->id, ASKED_AS_ARCHIVE);
	}
	if (op->asked_member == 0)
		finish(w, op, OUTCOME_UNKNOWN);
}

static void
step(Worker *w, OutcomeOp *op)
{
	Outcome		outcome;
	uint32		leader;

	if (op->procno < 0)
	{
		finish(w, op, as_leader(w, op->token, op->absent_upto));
		return;
	}
	outcome = from_log(w, op->token);
	if (outcome != 0)
	{
		finish(w, op, outcome);
		return;
	}
	if (op->archives)
	{
		step_archives(w, op);
		return;
	}
	if (!op->looked && map_floor() > 1)
	{
		finish(w, op, OUTCOME_EVIDENCE);
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
			ask(w, op, op->token.node, ASKED_AS_ORIGIN);
			return;
		}
		else
			return;
		op->asked_us = 0;
		op->asked_member = 0;
	}

	if (worker_leads(w))
	{
		outcome = as_leader(w, op->token, op->absent_upto);
		if (outcome != OUTCOME_NOT_HERE)
			finish(w, op, outcome);
		return;
	}
	leader = raft_leader(w->raft);
	if (leader != RAFT_NONE && peer_is_up(w, leader) &&
		w->now_us - op->asked_us > (op->asked_member != 0 ? ORIGIN_WAIT_US : ASK_AGAIN_US))
		ask(w, op, leader, ASKED_AS_LEADER);
}

void
outcome_run(Worker *w)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &w->outcomes)
		step(w, dlist_container(OutcomeOp, link, iter.cur));
}
