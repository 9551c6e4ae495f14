/*-------------------------------------------------------------------------
 *
 * worker_applied.c
 *		Which members have applied an entry, for sessions whose commit waits for
 *		that (quorum.write_consistency).
 *
 * The session has committed already, so this member counts. The others are
 * asked to say when they have applied it; pings, once a second, would be far
 * too slow. A peer keeps one wish for each member, "tell me of progress from
 * index a on, and no more once you are at b", and so concurrent commits share
 * messages and waits: while one is waited for, later ones only raise b. The
 * peer looks at its applied_index in each turn of its loop, and whoever applies
 * an entry there wakes the loop once that entry is wanted
 * (NodeShared.applied_wanted). The Raft worker stores that first and reads
 * applied_index afterwards, the other side the other way round, both with a
 * barrier between: no wake-up is lost, and while nobody waits the price is one
 * read.
 *
 * Who is waited for: the voting members of the newest configuration, so that a
 * member that is removed meanwhile does not count any more, and one that is still
 * being brought up (a learner) does not count yet.
 *
 * What a peer said holds for the connection over which it said it: a server
 * that crashed may have to apply its last entries once more. Messages are asked
 * for again now and then, since a full queue may drop one.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "node/worker.h"

#define ASK_AGAIN_US	INT64CONST(500000)

/* ---------- what others want to hear from us ---------- */

void
applied_ask(Worker *w, uint32 from, const uint8 *data, Size len)
{
	PeerInfo   *peer = peer_find(w, from);
	WireAppliedAsk ask;

	if (len != sizeof(ask) || peer == NULL)
		return;
	memcpy(&ask, data, sizeof(ask));
	if (ask.upto == 0 || ask.from > ask.upto)
		return;
	w->napplied_wants++;
	peer->wants_from = ask.from;
	peer->wants_upto = ask.upto;
	peer->wants_told = 0;
}

/* Tell who wants to know; what is wanted next. */
static uint64
tell(Worker *w, uint64 applied)
{
	uint64		next = PG_UINT64_MAX;

	w->napplied_wants = 0;
	for (int i = 0; i < w->npeers; i++)
	{
		PeerInfo   *peer = &w->peers[i];

		if (peer->wants_upto == 0)
			continue;
		if (applied >= peer->wants_from && applied > peer->wants_told)
		{
			WireApplied wire;

			wire.index = applied;
			(void) peer_send(w, peer->id, WIRE_APPLIED, &wire, sizeof(wire));
			peer->wants_told = applied;
		}
		if (applied >= peer->wants_upto)
		{
			peer->wants_upto = 0;
			continue;
		}
		w->napplied_wants++;
		next = Min(next, Max(peer->wants_from, peer->wants_told + 1));
	}
	return next;
}

static void
serve(Worker *w)
{
	uint64		applied;
	uint64		next;

	do
	{
		applied = pg_atomic_read_u64(&node_shared->applied_index);
		next = tell(w, applied);
		pg_atomic_write_u64(&node_shared->applied_wanted, next);
		pg_memory_barrier();
	} while (pg_atomic_read_u64(&node_shared->applied_index) >= next);
}

/* ---------- what we want to hear ---------- */

/* The connection is new, or gone: what was said over it counts no more. */
void
applied_peer_changed(PeerInfo *peer)
{
	peer->told_applied = 0;
	peer->asked_upto = 0;
}

void
applied_told(Worker *w, uint32 from, const uint8 *data, Size len)
{
	PeerInfo   *peer = peer_find(w, from);
	WireApplied wire;

	if (len != sizeof(wire) || peer == NULL)
		return;
	memcpy(&wire, data, sizeof(wire));
	peer->has_applied = true;
	peer->applied_index = wire.index;
	peer->told_applied = wire.index;
}

static bool
has_applied(Worker *w, const RaftMember *m, uint64 index)
{
	PeerInfo   *peer;

	if (m->id == w->id)
		return true;			/* the session comes from its own commit */
	peer = peer_find(w, m->id);
	return peer != NULL && peer->told_applied >= index;
}

static bool
is_reached(Worker *w, const NodeAppliedRequest *request)
{
	const RaftConf *conf = raft_conf(w->raft);
	int			voters = 0;
	int			have = 0;

	for (int i = 0; i < conf->nmembers; i++)
	{
		if (!conf->members[i].voter)
			continue;
		voters++;
		if (has_applied(w, &conf->members[i], request->index))
			have++;
	}
	return request->all ? have == voters : 2 * have > voters;
}

static void
name_missing(Worker *w, uint64 index, char *names)
{
	const RaftConf *conf = raft_conf(w->raft);
	Size		len = 0;

	names[0] = '\0';
	for (int i = 0; i < conf->nmembers; i++)
	{
		const RaftMember *m = &conf->members[i];

		if (!m->voter || has_applied(w, m, index))
			continue;
		if (len + strlen(m->name) + 8 > NODE_DETAIL_LEN)
		{
			strlcpy(names + len, ", ...", NODE_DETAIL_LEN - len);
			break;
		}
		len += snprintf(names + len, NODE_DETAIL_LEN - len, "%s\"%s\"", len > 0 ? ", " : "", m->name);
	}
}

static void
answer(int procno, RaftToken token, NodeApplied outcome, const char *message)
{
	NodeAnswer	reply;

	memset(&reply, 0, sizeof(reply));
	reply.verdict = NODE_COMMITTED;
	reply.index = outcome;
	strlcpy(reply.message, message, sizeof(reply.message));
	node_answer_slot(procno, token, &reply, 0);
}

static void
finish(AppliedOp *op, NodeApplied outcome, const char *message)
{
	answer(op->procno, op->slot_token, outcome, message);
	dlist_delete(&op->link);
	free(op);
}

void
applied_drop(Worker *w, const char *why)
{
	while (!dlist_is_empty(&w->applied))
		finish(dlist_head_element(AppliedOp, link, &w->applied), NODE_APPLIED_HALTED, why);
	w->napplied_wants = 0;		/* the peers go, too */
	pg_atomic_write_u64(&node_shared->applied_wanted, PG_UINT64_MAX);
}

void
applied_begin(Worker *w, int procno, RaftToken slot_token, const char *data, Size len)
{
	AppliedOp  *op = calloc(1, sizeof(AppliedOp));

	if (op == NULL || len != sizeof(op->request) || w->state != WORKER_RUNNING)
	{
		free(op);
		answer(procno, slot_token, NODE_APPLIED_HALTED,
			   w->state == WORKER_RUNNING ? "out of memory" :
			   "this server takes no part in its cluster any more");
		return;
	}
	op->procno = procno;
	op->slot_token = slot_token;
	memcpy(&op->request, data, len);
	dlist_push_tail(&w->applied, &op->link);
}

/* Ask every peer that somebody waits for. */
static void
ask_peers(Worker *w, bool again)
{
	const RaftConf *conf = raft_conf(w->raft);

	for (int i = 0; i < conf->nmembers; i++)
	{
		PeerInfo   *peer = peer_find(w, conf->members[i].id);
		WireAppliedAsk ask = {PG_UINT64_MAX, 0};
		dlist_iter	iter;

		if (!conf->members[i].voter || peer == NULL || !peer->up)
			continue;
		dlist_foreach(iter, &w->applied)
		{
			uint64		index = dlist_container(AppliedOp, link, iter.cur)->request.index;

			if (index > peer->told_applied)
			{
				ask.from = Min(ask.from, index);
				ask.upto = Max(ask.upto, index);
			}
		}
		if (ask.upto == 0 || (ask.upto <= peer->asked_upto && !again))
			continue;
		if (peer_send(w, peer->id, WIRE_APPLIED_ASK, &ask, sizeof(ask)))
			peer->asked_upto = Max(peer->asked_upto, ask.upto);
	}
}

void
applied_run(Worker *w)
{
	dlist_mutable_iter iter;
	int64		first_deadline_us = PG_INT64_MAX;
	bool		again;

	if (w->napplied_wants > 0)
		serve(w);
	if (dlist_is_empty(&w->applied))
		return;

	dlist_foreach_modify(iter, &w->applied)
	{
		AppliedOp  *op = dlist_container(AppliedOp, link, iter.cur);
		char		names[NODE_DETAIL_LEN];

		if (is_reached(w, &op->request))
			finish(op, NODE_APPLIED, "");
		else if (op->request.deadline_us != 0 && w->now_us >= op->request.deadline_us)
		{
			name_missing(w, op->request.index, names);
			finish(op, NODE_APPLIED_LATE, names);
		}
		else if (op->request.deadline_us != 0)
			first_deadline_us = Min(first_deadline_us, op->request.deadline_us);
	}
	if (dlist_is_empty(&w->applied))
	{
		w->applied_us = 0;
		return;
	}
	again = w->applied_us != 0 && w->now_us >= w->applied_us;
	ask_peers(w, again);
	if (again || w->applied_us == 0)
		w->applied_us = w->now_us + ASK_AGAIN_US;
	w->applied_us = Min(w->applied_us, first_deadline_us);
}
