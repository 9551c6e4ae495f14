/*-------------------------------------------------------------------------
 *
 * election.c
 *		Pre-votes, votes and campaigns.
 *
 * A member that hears no leader first asks whether it could win (pre-vote,
 * Ongaro 9.6); only then it raises its term. Members that hear a leader refuse.
 *
 * Vote requests, unlike in most implementations, leave only when the new term
 * and the own vote are durable: a candidate that crashes and comes back with a
 * shorter log must never be able to collect the answers to what it asked before.
 *
 * Hurry: when a leader's process dies, all others lose their connection at about
 * the same time, and would split the vote. So for a moment pre-candidates that
 * campaign for that reason rank themselves: one refuses a lower-ranking pre-vote
 * (and asks that member in turn), and gives way to a higher-ranking one. Refusing
 * is always safe; the moment is bounded, so it costs no liveness.
 *
 *-------------------------------------------------------------------------
 */
#include <string.h>

#include "raft/raft_assert.h"
#include "raft/raft_internal.h"

void
raft_reset_election_timer(Raft *r)
{
	int64_t		t = r->cfg.election_timeout_us;

	r->election_deadline_us = r->now_us + t + (int64_t) (raft_random(r) % (uint64_t) t);
}

bool
raft_leader_is_alive(const Raft *r)
{
	if (r->now_us < r->promise_until_us)
		return true;
	if (r->leader == RAFT_NONE)
		return false;
	if (r->role == RAFT_LEADER)
		return r->now_us - raft_quorum_contact(r) <= r->cfg.election_timeout_us;
	return r->now_us - r->leader_contact_us < r->cfg.election_timeout_us;
}

/* ---------- counting ---------- */

static int
ballot_of(const void *arg, uint32_t id)
{
	const Raft *r = arg;

	if (id == r->cfg.id)
		return r->role == RAFT_PRECANDIDATE || r->self_vote ? 1 : -1;
	for (uint32_t i = 0; i < r->nballots; i++)
		if (r->ballots[i].id == id)
			return r->ballots[i].granted;
	return -1;
}

/* The first answer of each member counts. */
static void
record_ballot(Raft *r, uint32_t id, bool granted)
{
	for (uint32_t i = 0; i < r->nballots; i++)
		if (r->ballots[i].id == id)
		{
			/* a pre-vote may be asked for again */
			if (r->role == RAFT_PRECANDIDATE && granted)
				r->ballots[i].granted = true;
			return;
		}
	if (r->nballots < RAFT_MAX_MEMBERS)
	{
		r->ballots[r->nballots].id = id;
		r->ballots[r->nballots].granted = granted;
		r->nballots++;
	}
}

static void
count_ballots(Raft *r)
{
	switch (raft_quorum_vote(raft_active(r), ballot_of, r))
	{
		case RAFT_VOTE_WON:
			if (r->role == RAFT_PRECANDIDATE)
				raft_start_vote(r, false);
			else
				raft_become_leader(r);
			break;
		case RAFT_VOTE_LOST:

			/*
			 * Same term: the vote stays (P-03). So does the timer, and in a
			 * hurry the campaign: who refused may just not have noticed yet.
			 */
			if (r->role == RAFT_PRECANDIDATE && r->now_us < r->hurry_until_us)
				break;
			{
				int64_t		deadline = r->election_deadline_us;

				raft_become_follower(r, r->hard.term, RAFT_NONE);
				r->election_deadline_us = deadline;
			}
			break;
		case RAFT_VOTE_PENDING:
			break;
	}
}

static void
ask(Raft *r, uint32_t to)
{
	RaftMsg		m = {0};
	bool		pre = r->role == RAFT_PRECANDIDATE;

	m.type = pre ? RAFT_MSG_PREVOTE : RAFT_MSG_VOTE;
	m.term = pre ? r->hard.term + 1 : r->hard.term;
	m.index = r->log.last_index;
	m.log_term = raft_log_last_term(&r->log);
	m.transfer = !pre && r->transfer_campaign;
	raft_send(r, to, &m, !pre);
}

static void
ask_all(Raft *r)
{
	const RaftConf *conf = raft_active(r);

	for (uint32_t i = 0; i < conf->nmembers; i++)
	{
		const RaftMember *m = &conf->members[i];

		if (m->id != r->cfg.id && (m->voter || m->voter_outgoing))
			ask(r, m->id);
	}
}

/* ---------- campaigns ---------- */

/* A campaign in a hurry that comes to nothing is tried again soon. */
static void
reset_campaign_timer(Raft *r)
{
	uint64_t	quarter = (uint64_t) r->cfg.election_timeout_us / 4 + 1;

	raft_reset_election_timer(r);
	if (r->now_us < r->hurry_until_us)
		r->election_deadline_us = r->hurry_until_us + (int64_t) (raft_random(r) % quarter);
}

void
raft_start_prevote(Raft *r)
{
	RAFT_ASSERT(r->role != RAFT_LEADER);
	RAFT_ASSERT(raft_is_promotable(r));
	if (r->hard.term >= RAFT_LIMIT - 1)
		return;
	if (r->now_us < r->promise_until_us)
	{
		/* the own vote counts too, and is promised not to be given */
		r->election_deadline_us = r->promise_until_us;
		return;
	}
	raft_set_leader(r, RAFT_NONE);
	r->role = RAFT_PRECANDIDATE;
	r->role_changed = true;
	r->nballots = 0;
	r->self_vote = false;
	r->transfer_campaign = false;
	reset_campaign_timer(r);
	ask_all(r);
	count_ballots(r);
}

void
raft_start_vote(Raft *r, bool transfer)
{
	RAFT_ASSERT(r->role != RAFT_LEADER && !r->fenced);
	if (r->hard.term >= RAFT_LIMIT - 1)
		return;
	raft_become_follower(r, r->hard.term + 1, RAFT_NONE);
	r->role = RAFT_CANDIDATE;
	r->hard.vote = r->cfg.id;
	r->nballots = 0;
	r->self_vote = false;		/* counts when durable (P-04) */
	r->transfer_campaign = transfer;
	reset_campaign_timer(r);
	ask_all(r);
}

void
raft_own_vote_durable(Raft *r)
{
	RAFT_ASSERT(r->role == RAFT_CANDIDATE && r->hard.vote == r->cfg.id);
	r->self_vote = true;
	count_ballots(r);
}

void
raft_tick_follower(Raft *r)
{
	if (r->now_us < r->election_deadline_us)
		return;
	if (raft_is_promotable(r))
	{
		raft_start_prevote(r);
		return;
	}
	/* nobody leads here as far as this member knows */
	raft_become_follower(r, r->hard.term, RAFT_NONE);
	raft_reset_election_timer(r);
}

void
raft_recv_timeout_now(Raft *r, const RaftMsg *m)
{
	/*
	 * Only from the leader of this term and only with exactly the log that it
	 * meant: so a late one dies with the first entry behind it (P-41).
	 */
	if (r->role != RAFT_FOLLOWER || r->leader != m->from || !raft_is_promotable(r) ||
		m->index != r->log.last_index || m->log_term != raft_log_last_term(&r->log))
		return;
	r->promise_until_us = r->now_us;
	raft_start_vote(r, true);
}

/* ---------- answers ---------- */

void
raft_refuse_vote(Raft *r, const RaftMsg *m)
{
	RaftMsg		resp = {0};

	resp.type = m->type == RAFT_MSG_PREVOTE ? RAFT_MSG_PREVOTE_RESP : RAFT_MSG_VOTE_RESP;
	resp.reject = true;
	resp.term = r->hard.term;
	raft_send(r, m->from, &resp, true);
}

/* Is the sender's log at least as new as ours? (Raft 5.4.1) */
static bool
up_to_date(const Raft *r, const RaftMsg *m)
{
	uint64_t	last_term = raft_log_last_term(&r->log);

	return m->log_term > last_term ||
		(m->log_term == last_term && m->index >= r->log.last_index);
}

static bool
outranks(const Raft *r, const RaftMsg *m)
{
	uint64_t	last_term = raft_log_last_term(&r->log);

	if (last_term != m->log_term)
		return last_term > m->log_term;
	if (r->log.last_index != m->index)
		return r->log.last_index > m->index;
	return r->cfg.id < m->from;
}

void
raft_recv_prevote(Raft *r, const RaftMsg *m)
{
	RaftMsg		resp = {0};

	/* nothing is promised by a pre-vote, so only the term and the log count */
	if (r->distrusted_until != 0 || (m->term <= r->hard.term &&
		 (r->leader != RAFT_NONE || (r->hard.vote != RAFT_NONE && r->hard.vote != m->from))) ||
		!up_to_date(r, m))
	{
		raft_refuse_vote(r, m);
		if (r->role == RAFT_PRECANDIDATE && r->now_us < r->hurry_until_us)
			ask(r, m->from);
		return;
	}
	if (r->role == RAFT_PRECANDIDATE && r->now_us < r->hurry_until_us)
	{
		if (outranks(r, m))
		{
			raft_refuse_vote(r, m);
			ask(r, m->from);
			return;
		}
		r->hurry_until_us = 0;
		raft_become_follower(r, r->hard.term, RAFT_NONE);
	}
	resp.type = RAFT_MSG_PREVOTE_RESP;
	resp.term = m->term;
	raft_send(r, m->from, &resp, true);
}

void
raft_recv_vote(Raft *r, const RaftMsg *m)
{
	RaftMsg		resp = {0};

	RAFT_ASSERT(m->term == r->hard.term);

	/*
	 * With acknowledged entries lost, the own log is no measure of what may be
	 * committed (P-32).
	 */
	if (r->distrusted_until != 0 || (r->hard.vote != m->from && (r->hard.vote != RAFT_NONE || r->leader != RAFT_NONE)) ||
		!up_to_date(r, m))
	{
		raft_refuse_vote(r, m);
		return;
	}
	r->hard.vote = m->from;
	if (r->role == RAFT_PRECANDIDATE)
		raft_become_follower(r, r->hard.term, RAFT_NONE);
	raft_reset_election_timer(r);
	resp.type = RAFT_MSG_VOTE_RESP;
	raft_send(r, m->from, &resp, true);
}

void
raft_recv_vote_resp(Raft *r, const RaftMsg *m)
{
	if (m->type == RAFT_MSG_VOTE_RESP)
	{
		if (r->role != RAFT_CANDIDATE || m->term != r->hard.term)
			return;
	}
	else
	{
		if (r->role != RAFT_PRECANDIDATE ||
			(m->reject ? m->term > r->hard.term : m->term != r->hard.term + 1))
			return;
	}
	if (!raft_conf_is_voter(raft_active(r), m->from))
		return;
	record_ballot(r, m->from, !m->reject);
	count_ballots(r);
}
