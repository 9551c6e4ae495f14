/*-------------------------------------------------------------------------
 *
 * readindex.c
 *		Linearizable reads (Ongaro 6.4) and leases.
 *
 * At the leader a read waits for: an entry of this term to be committed (P-37),
 * then a round of heartbeats begun after it came in and answered by a quorum
 * (P-39). Rounds are numbered by a counter that never goes back; what a caller
 * calls its read plays no role (P-38). All reads that come in meanwhile share
 * the next round.
 *
 * Such a round is narrow: it goes to as many voters as make a quorum with the
 * leader, those that answer fastest. When an answer is late, a round goes to
 * everybody, which confirms the narrow ones too; and whoever owes an answer for
 * so long is not chosen until it has answered.
 *
 * Elsewhere reads are forwarded, in one message for all that came in. The message
 * is an answer at the same time: when it left, later than all its reads came
 * in, its sender was in the leader's term and followed it. Where leader and
 * sender are a quorum, as among three, no newer leader had been elected by
 * then: the leader's commit index is good, and no round is needed. Contexts of
 * forwarded reads count up from a random start, so that an answer to an earlier
 * life of this member matches nothing. Every read ends, with a failure when the
 * leader changes or does not answer within an election timeout (P-40).
 *
 * Leases: a follower that answers round R, begun at time t by the leader's clock,
 * has promised to vote nobody else in for an election timeout that began after
 * t. So with a quorum of such answers the leader may serve reads until t + T less
 * clock drift (P-42). A TIMEOUT_NOW breaks promises, so the lease is off from
 * then on until every target has an entry that makes it void (P-41).
 *
 *-------------------------------------------------------------------------
 */
#include <stdlib.h>
#include <string.h>

#include "raft/raft_assert.h"
#include "raft/raft_internal.h"

static bool
push_wait(Raft *r, const RaftReadWait *w)
{
	if (r->waits.n == r->waits.cap)
	{
		size_t		cap = r->waits.cap > 0 ? r->waits.cap * 2 : 64;
		RaftReadWait *bigger = realloc(r->waits.waits, cap * sizeof(*bigger));

		if (bigger == NULL)
			return false;
		r->waits.waits = bigger;
		r->waits.cap = cap;
	}
	r->waits.waits[r->waits.n++] = *w;
	return true;
}

static void
drop_waits(Raft *r, size_t n)
{
	RAFT_ASSERT(n <= r->waits.n);
	if (n == 0)
		return;
	r->waits.n -= n;
	memmove(r->waits.waits, r->waits.waits + n, r->waits.n * sizeof(RaftReadWait));
}

static void
finish(Raft *r, const RaftReadWait *w, bool ok, uint64_t index)
{
	RaftMsg		m = {0};

	if (w->from == r->cfg.id)
	{
		raft_emit_read(r, w->id, ok, index);
		return;
	}
	m.type = RAFT_MSG_READ_INDEX_RESP;
	m.reject = !ok;
	m.index = ok ? index : 0;
	m.context = w->id;
	raft_send(r, w->from, &m, false);
}

void
raft_read_index(Raft *r, uint64_t id, int64_t now_us)
{
	RaftReadWait w = {0};

	if (now_us > r->now_us)
		r->now_us = now_us;
	w.id = id;
	w.from = r->cfg.id;
	w.since_us = r->now_us;
	if (r->fenced || r->leader == RAFT_NONE || !push_wait(r, &w))
		finish(r, &w, false, 0);
}

/* ---------- leader ---------- */

typedef struct Pair
{
	uint32_t	one;
	uint32_t	other;
} Pair;

static int
is_of_pair(const void *arg, uint32_t id)
{
	const Pair *pair = arg;

	return id == pair->one || id == pair->other;
}

void
raft_recv_read_index(Raft *r, const RaftMsg *m)
{
	RaftReadWait w = {0};
	Pair		both = {r->cfg.id, m->from};

	w.id = m->context;
	w.from = m->from;
	w.since_us = r->now_us;
	if (r->role == RAFT_LEADER && r->hard.commit >= r->term_start &&
		raft_quorum_vote(raft_active(r), is_of_pair, &both) == RAFT_VOTE_WON)
		finish(r, &w, true, r->hard.commit);
	else if (r->role != RAFT_LEADER || !push_wait(r, &w))
		finish(r, &w, false, 0);
}

static uint64_t
round_of(const void *arg, uint32_t id)
{
	const Raft *r = arg;
	const Progress *p;

	if (id == r->cfg.id)
		return r->round;
	p = raft_peer_const(r, id);
	return p != NULL ? p->acked_round : 0;
}

/* Rounds may be confirmed now: answer the reads that waited for them. */
void
raft_rounds_acked(Raft *r)
{
	uint64_t	confirmed = raft_quorum_value(raft_active(r), round_of, r);
	size_t		n = 0;

	RAFT_ASSERT(r->role == RAFT_LEADER);
	if (confirmed > r->round)
		confirmed = r->round;
	if (confirmed > r->confirmed_round)
		r->confirmed_round = confirmed;
	while (n < r->waits.n && r->waits.waits[n].round != 0 &&
		   r->waits.waits[n].round <= confirmed)
	{
		finish(r, &r->waits.waits[n], true, r->waits.waits[n].index);
		n++;
	}
	drop_waits(r, n);
}

int64_t
raft_lease_until(const Raft *r)
{
	uint64_t	round;
	int64_t		until;

	if (!r->cfg.lease_reads || r->role != RAFT_LEADER || r->hard.commit < r->term_start)
		return 0;
	if (r->order_lost)
		return 0;
	for (uint32_t i = 0; i < r->npeers; i++)
		if (raft_order_open(&r->peers[i]))
			return 0;
	if (!raft_other_voters(r))
		return INT64_MAX;
	round = raft_quorum_value(raft_active(r), round_of, r);
	if (round <= r->lease_floor || round > r->round || r->round - round >= RAFT_ROUNDS)
		return 0;
	until = r->round_start_us[round % RAFT_ROUNDS] + r->cfg.election_timeout_us -
		r->cfg.lease_drift_us;
	return until > 0 ? until : 0;
}

bool
raft_lease_valid(const Raft *r, int64_t now_us)
{
	int64_t		until = raft_lease_until(r);

	return now_us < until && r->now_us < until;
}

/* How long an answer may take before everybody is asked. */
static int64_t
patience_us(const Raft *r, const Progress *p)
{
	return r->cfg.heartbeat_interval_us / 8 + 2 * p->rtt_us;
}

/* Likely to answer at once? */
static bool
is_prompt(const Raft *r, const Progress *p)
{
	return p->state == PROGRESS_REPLICATE && !p->departing && p->acked_round != 0 &&
		(p->acked_round >= p->asked_round ||
		 r->now_us - p->silent_since_us < patience_us(r, p));
}

typedef struct Chosen
{
	const Raft *r;
	uint64_t	peers;			/* bit i: r->peers[i] */
} Chosen;

static int
is_chosen(const void *arg, uint32_t id)
{
	const Chosen *chosen = arg;
	const Raft *r = chosen->r;

	for (uint32_t i = 0; i < r->npeers; i++)
		if (r->peers[i].id == id)
			return (chosen->peers >> i) & 1;
	return id == r->cfg.id;
}

/* The fastest ones that make a quorum with this leader. False: there are none. */
static bool
choose_quorum(const Raft *r, Chosen *chosen)
{
	const RaftConf *conf = raft_active(r);

	chosen->r = r;
	chosen->peers = 0;
	while (raft_quorum_vote(conf, is_chosen, chosen) != RAFT_VOTE_WON)
	{
		uint32_t	best = r->npeers;

		for (uint32_t i = 0; i < r->npeers; i++)
		{
			const Progress *p = &r->peers[i];

			if (((chosen->peers >> i) & 1) == 0 && is_prompt(r, p) &&
				raft_conf_is_voter(conf, p->id) &&
				(best == r->npeers || p->rtt_us < r->peers[best].rtt_us))
				best = i;
		}
		if (best == r->npeers)
			return false;
		chosen->peers |= (uint64_t) 1 << best;
	}
	return true;
}

/* A round for reads. */
static void
ask_quorum(Raft *r)
{
	Chosen		chosen;

	if (!choose_quorum(r, &chosen))
	{
		raft_broadcast_heartbeat(r);
		return;
	}
	raft_begin_round(r);
	for (uint32_t i = 0; i < r->npeers; i++)
		if ((chosen.peers >> i) & 1)
			raft_send_heartbeat(r, &r->peers[i]);
}

/* When a narrow round is late; INT64_MAX: nobody waits for one. */
int64_t
raft_narrow_deadline(const Raft *r)
{
	int64_t		slowest_us = 0;

	RAFT_ASSERT(r->role == RAFT_LEADER);
	if (r->waits.n == 0 || r->waits.waits[0].round <= r->wide_round)
		return INT64_MAX;
	for (uint32_t i = 0; i < r->npeers; i++)
	{
		const Progress *p = &r->peers[i];

		if (p->asked_round > p->acked_round && p->asked_round > r->wide_round &&
			patience_us(r, p) > slowest_us)
			slowest_us = patience_us(r, p);
	}
	return r->waits.waits[0].since_us + slowest_us;
}

static void
flush_leader_reads(Raft *r)
{
	size_t		first = 0;

	/* reads without a round are at the end of the queue */
	if (r->waits.n == 0 || r->waits.waits[r->waits.n - 1].round != 0 ||
		r->hard.commit < r->term_start)
		return;
	while (r->waits.waits[first].round != 0)
		first++;

	if (raft_lease_valid(r, r->now_us))
	{
		for (size_t i = first; i < r->waits.n; i++)
			finish(r, &r->waits.waits[i], true, r->hard.commit);
		r->waits.n = first;
		return;
	}
	/* a few rounds at a time; the next heartbeat is one in any case */
	if (r->round - r->confirmed_round >= RAFT_OPEN_ROUNDS &&
		r->now_us - r->round_start_us[r->round % RAFT_ROUNDS] < r->cfg.heartbeat_interval_us)
		return;
	ask_quorum(r);
	for (size_t i = first; i < r->waits.n; i++)
	{
		r->waits.waits[i].round = r->round;
		r->waits.waits[i].index = r->hard.commit;
	}
	raft_rounds_acked(r);
}

/* ---------- others ---------- */

static void
forward_reads(Raft *r)
{
	RaftMsg		m = {0};
	bool		any = false;

	if (r->leader == RAFT_NONE)
		return;
	for (size_t i = r->waits.n; i > 0 && r->waits.waits[i - 1].round == 0; i--)
	{
		if (!any)
		{
			r->forward_seq++;
			if (r->forward_seq == 0)
				r->forward_seq = 1;
		}
		any = true;
		r->waits.waits[i - 1].round = r->forward_seq;
	}
	if (!any)
		return;
	m.type = RAFT_MSG_READ_INDEX;
	m.context = r->forward_seq;
	raft_send(r, r->leader, &m, false);
}

void
raft_recv_read_index_resp(Raft *r, const RaftMsg *m)
{
	size_t		kept = 0;

	if (r->role != RAFT_FOLLOWER || r->leader != m->from || m->context == 0)
		return;
	for (size_t i = 0; i < r->waits.n; i++)
	{
		RaftReadWait *w = &r->waits.waits[i];

		/* the index goes to the reader, never into our commit index (P-12) */
		if (w->round == m->context)
			finish(r, w, !m->reject, m->reject ? 0 : m->index);
		else
			r->waits.waits[kept++] = *w;
	}
	r->waits.n = kept;
}

/* ---------- both ---------- */

void
raft_flush_reads(Raft *r)
{
	if (r->waits.n == 0)
		return;
	if (r->role == RAFT_LEADER)
		flush_leader_reads(r);
	else
		forward_reads(r);
}

/* The leader is another one or none: all that wait have to ask again. */
void
raft_fail_reads(Raft *r)
{
	for (size_t i = 0; i < r->waits.n; i++)
		finish(r, &r->waits.waits[i], false, 0);
	r->waits.n = 0;
}

void
raft_expire_reads(Raft *r)
{
	size_t		n = 0;

	while (n < r->waits.n &&
		   r->now_us - r->waits.waits[n].since_us >= r->cfg.election_timeout_us)
	{
		finish(r, &r->waits.waits[n], false, 0);
		n++;
	}
	drop_waits(r, n);
}

int64_t
raft_reads_deadline(const Raft *r)
{
	return r->waits.n == 0 ? INT64_MAX :
		r->waits.waits[0].since_us + r->cfg.election_timeout_us;
}
