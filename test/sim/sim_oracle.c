/*-------------------------------------------------------------------------
 *
 * sim_oracle.c
 *		Watches from outside. Remembers across crashes what every member ever
 *		said, and compares it with the promises of Raft.
 *
 * The word before the colon of each complaint names the invariant:
 *
 *	election-safety		at most one leader a term, across restarts
 *	double-vote			one vote per (term, voter, instance), across restarts
 *	append-only			a leader never cuts its log
 *	log-matching		same (index, term): same entry, same entry before it
 *	vote-quorum			a leader has the votes of a quorum, of both halves when joint
 *	vote-stale			nobody votes for a log that is worse than its own
 *	conf-early			configurations change after a commit in the leader's own term
 *	conf-overlap		... and only when the one before is committed
 *	leader-complete		a leader has all that earlier terms committed
 *	committed-cut		no member cuts what it helped to commit
 *	state-machine		all apply the same entries in the same order
 *	commit-durable		a committed entry is durable on a quorum
 *	commit-back			the commit index of a process never goes back
 *	old-term-commit		a leader commits by counting only in its own term
 *	early-ack			what a member acknowledges is durable on it
 *	early-vote			a vote is durable before it is told
 *	match				0 <= match < next; what a leader believes matched is there
 *	forgotten			a restart finds what was acknowledged, nothing else
 *	stale-read			a read sees what was acknowledged before it began
 *	lost-ack			what was acknowledged stays committed
 *	core				the core's own invariants
 *	leak				at rest nothing is in flight or uncommitted
 *
 *-------------------------------------------------------------------------
 */
#include "sim.h"

#include <stdlib.h>
#include <string.h>

static void *
grow(void *array, size_t count, size_t *capacity, size_t size)
{
	if (count < *capacity)
		return array;
	*capacity = *capacity ? *capacity * 2 : 64;
	array = realloc(array, *capacity * size);
	if (array == NULL)
		abort();
	return array;
}

#define U(x) ((unsigned long) (x))

/* ---------- who has what ---------- */

static bool
shadow_has(const SimShadow *shadow, uint64_t index, uint64_t term)
{
	if (index < shadow->base_index)
		return true;			/* only committed entries are compacted */
	return index <= sim_shadow_last(shadow) && sim_shadow_term(shadow, index) == term;
}

/* Has this member made the entry durable, or had it before it lost its disk? */
static bool
member_has(SimWorld *world, uint32_t id, uint64_t index, uint64_t term)
{
	SimNode    *node = sim_node_of(world, id);

	if (node == NULL)
		return false;
	if (node->ghost_id == id && shadow_has(&node->ghost, index, term))
		return true;
	return !node->impostor && shadow_has(&node->durable, index, term);
}

static bool
majority_has(SimWorld *world, const RaftConf *conf, bool outgoing, uint64_t index, uint64_t term)
{
	uint32_t	voters = 0;
	uint32_t	have = 0;

	for (uint32_t i = 0; i < conf->nmembers; i++)
	{
		const RaftMember *m = &conf->members[i];

		if (outgoing ? !m->voter_outgoing : !m->voter)
			continue;
		voters++;
		have += member_has(world, m->id, index, term);
	}
	return voters == 0 ? outgoing : have > voters / 2;
}

/* ---------- entries ---------- */

static size_t
seen_slot(const SimOracle *oracle, uint64_t index, uint64_t term)
{
	size_t		i = sim_mix(sim_mix(7, index), term) & (oracle->seen_capacity - 1);

	while (oracle->seen[i].index != 0 &&
		   (oracle->seen[i].index != index || oracle->seen[i].term != term))
		i = (i + 1) & (oracle->seen_capacity - 1);
	return i;
}

static void
seen_grow(SimOracle *oracle)
{
	SimSeen    *old = oracle->seen;
	size_t		n = oracle->seen_capacity;

	if (oracle->nseen * 2 < n)
		return;
	oracle->seen_capacity = n ? n * 2 : 4096;
	oracle->seen = calloc(oracle->seen_capacity, sizeof(SimSeen));
	if (oracle->seen == NULL)
		abort();
	for (size_t i = 0; i < n; i++)
	{
		if (old[i].index != 0)
			oracle->seen[seen_slot(oracle, old[i].index, old[i].term)] = old[i];
	}
	free(old);
}

/*
 * Configurations are in force from the append on, so a leader may propose one
 * only when it has committed in its own term, and the one before is committed.
 */
static void
check_change(SimWorld *world, SimNode *node, uint64_t index)
{
	uint64_t	commit = raft_commit_index(node->raft);

	SIM_CHECK(world, sim_shadow_term(&node->appended, commit) == raft_term(node->raft),
			  "conf-early: n%u leads term %lu and changes the configuration, its commit index %lu "
			  "is of term %lu", node->id, U(raft_term(node->raft)), U(commit),
			  U(sim_shadow_term(&node->appended, commit)));
	for (uint64_t i = index - 1; i > commit && i > node->appended.base_index; i--)
		SIM_CHECK(world, sim_shadow_at(&node->appended, i)->type != RAFT_ENTRY_CONF,
				  "conf-overlap: n%u appends a configuration at %lu, the one at %lu is not "
				  "committed (%lu)", node->id, U(index), U(i), U(commit));
}

void
sim_oracle_appended(SimWorld *world, SimNode *node, uint64_t index, const SimEntry *entry,
					uint64_t prev_term)
{
	SimOracle  *oracle = &world->oracle;
	SimSeen    *seen;

	if (entry->type == RAFT_ENTRY_CONF && raft_role(node->raft) == RAFT_LEADER &&
		entry->term == raft_term(node->raft))
		check_change(world, node, index);
	seen_grow(oracle);
	seen = &oracle->seen[seen_slot(oracle, index, entry->term)];
	world->hash = sim_mix(sim_mix(world->hash, index), entry->hash);
	if (seen->index == 0)
	{
		*seen = (SimSeen) {index, entry->term, entry->hash, prev_term};
		oracle->nseen++;
		return;
	}
	SIM_CHECK(world, seen->hash == entry->hash && seen->prev_term == prev_term,
			  "log-matching: n%u appends %lu/%lu (before it %lu), another had a different one "
			  "(before it %lu)", node->id, U(index), U(entry->term), U(prev_term),
			  U(seen->prev_term));
}

void
sim_oracle_truncated(SimWorld *world, SimNode *node, uint64_t from)
{
	SimOracle  *oracle = &world->oracle;
	uint64_t	last = sim_shadow_last(&node->appended);

	sim_trace(world, "n%u cuts its log from %lu (last %lu)", node->id, U(from), U(last));
	SIM_CHECK(world, node->seen_role != RAFT_LEADER || node->seen_term != raft_term(node->raft) ||
			  raft_role(node->raft) != RAFT_LEADER,
			  "append-only: n%u leads term %lu and cuts its log from %lu", node->id,
			  U(node->seen_term), U(from));
	SIM_CHECK(world, from > node->seen_commit,
			  "committed-cut: n%u cuts from %lu, its commit index is %lu", node->id, U(from),
			  U(node->seen_commit));
	for (uint64_t i = from; i <= last && i <= oracle->ncommitted; i++)
	{
		const SimCommitted *c = &oracle->committed[i - 1];

		SIM_CHECK(world, sim_shadow_term(&node->appended, i) != c->term ||
				  raft_term(node->raft) < c->by_term,
				  "committed-cut: n%u in term %lu cuts %lu/%lu, which term %lu committed",
				  node->id, U(raft_term(node->raft)), U(i), U(c->term), U(c->by_term));
	}
}

/* ---------- votes and leaders ---------- */

static void
record_vote(SimWorld *world, SimNode *node, uint64_t term, uint32_t candidate)
{
	SimOracle  *oracle = &world->oracle;
	SimVote		vote = {.term = term, .voter = node->id, .candidate = candidate};

	memcpy(vote.instance, node->instance, RAFT_INSTANCE_LEN);
	for (size_t i = oracle->nvotes; i-- > 0;)
	{
		const SimVote *old = &oracle->votes[i];

		if (old->term != term || old->voter != node->id ||
			memcmp(old->instance, node->instance, RAFT_INSTANCE_LEN) != 0)
			continue;
		SIM_CHECK(world, old->candidate == candidate,
				  "double-vote: n%u votes for n%u in term %lu, had voted for n%u", node->id,
				  candidate, U(term), old->candidate);
		return;
	}
	oracle->votes = grow(oracle->votes, oracle->nvotes, &oracle->votes_capacity, sizeof(SimVote));
	oracle->votes[oracle->nvotes++] = vote;
}

/* Has a quorum of both halves voted for it? */
static bool
elected(SimWorld *world, const RaftConf *conf, bool outgoing, uint64_t term, uint32_t id)
{
	const SimOracle *oracle = &world->oracle;
	uint32_t	voters = 0;
	uint32_t	votes = 0;

	for (uint32_t i = 0; i < conf->nmembers; i++)
	{
		const RaftMember *m = &conf->members[i];

		if (outgoing ? !m->voter_outgoing : !m->voter)
			continue;
		voters++;
		for (size_t v = oracle->nvotes; v-- > 0;)
		{
			const SimVote *vote = &oracle->votes[v];

			if (vote->term == term && vote->voter == m->id && vote->candidate == id &&
				memcmp(vote->instance, m->instance, RAFT_INSTANCE_LEN) == 0)
			{
				votes++;
				break;
			}
		}
	}
	return voters == 0 ? outgoing : votes > voters / 2;
}

static void
record_leader(SimWorld *world, SimNode *node, uint64_t term)
{
	SimOracle  *oracle = &world->oracle;

	sim_trace(world, "n%u leads term %lu", node->id, U(term));
	world->stats.elections++;
	world->hash = sim_mix(sim_mix(world->hash, term), node->id);
	for (size_t i = 0; i < oracle->nleaders; i++)
	{
		SIM_CHECK(world, oracle->leaders[i].term != term,
				  "election-safety: n%u leads term %lu, n%u did%s", node->id, U(term),
				  oracle->leaders[i].id,
				  oracle->leaders[i].id == node->id ? " before its restart" : "");
	}
	oracle->leaders = grow(oracle->leaders, oracle->nleaders, &oracle->leaders_capacity,
						   sizeof(SimLeader));
	oracle->leaders[oracle->nleaders].term = term;
	oracle->leaders[oracle->nleaders].id = node->id;
	memcpy(oracle->leaders[oracle->nleaders].instance, node->instance, RAFT_INSTANCE_LEN);
	oracle->nleaders++;

	SIM_CHECK(world, node->durable_hard.term == term && node->durable_hard.vote == node->id,
			  "early-vote: n%u leads term %lu, its own vote is not durable", node->id, U(term));
	SIM_CHECK(world, !node->recovering, "distrust: n%u leads before it has got back what it "
			  "lost", node->id);
	SIM_CHECK(world, !node->impostor, "impostor: n%u leads without its disk", node->id);
	record_vote(world, node, term, node->id);

	SIM_CHECK(world, elected(world, raft_conf(node->raft), false, term, node->id) &&
			  elected(world, raft_conf(node->raft), true, term, node->id),
			  "vote-quorum: n%u leads term %lu without a quorum's votes", node->id, U(term));

	/* newest first: with log matching the first one settles the others */
	for (size_t i = oracle->ncommitted; i > node->appended.base_index; i--)
	{
		const SimCommitted *c = &oracle->committed[i - 1];

		if (c->by_term >= term)
			continue;
		SIM_CHECK(world, sim_shadow_term(&node->appended, i) == c->term,
				  "leader-complete: n%u leads term %lu without %lu/%lu, committed in term %lu",
				  node->id, U(term), U(i), U(c->term), U(c->by_term));
		break;
	}
}

/* ---------- messages ---------- */

/* Only a candidate with a log at least as good gets a vote. */
static void
check_candidate(SimWorld *world, SimNode *voter, SimNode *candidate, uint64_t term)
{
	uint64_t	last = sim_shadow_last(&voter->appended);
	uint64_t	last_term = sim_shadow_term(&voter->appended, last);
	uint64_t	its,
				its_term;

	if (candidate == NULL || !candidate->up || candidate->raft == NULL ||
		raft_role(candidate->raft) != RAFT_CANDIDATE || raft_term(candidate->raft) != term)
		return;
	its = sim_shadow_last(&candidate->appended);
	its_term = sim_shadow_term(&candidate->appended, its);
	if (last_term >= term)
		return;					/* it follows the winner of that term by now */
	SIM_CHECK(world, its_term > last_term || (its_term == last_term && its >= last),
			  "vote-stale: n%u with %lu/%lu votes for n%u with %lu/%lu in term %lu", voter->id,
			  U(last), U(last_term), candidate->id, U(its), U(its_term), U(term));
}

void
sim_oracle_sent(SimWorld *world, SimNode *node, const RaftMsg *msg)
{
	if (msg->type == RAFT_MSG_VOTE_RESP && !msg->reject)
	{
		SIM_CHECK(world, !node->recovering, "distrust: n%u votes before it has got back what "
				  "it lost", node->id);
		SIM_CHECK(world, node->durable_hard.term > msg->term ||
				  (node->durable_hard.term == msg->term && node->durable_hard.vote == msg->to),
				  "early-vote: n%u tells n%u of its vote in term %lu, durable is term %lu vote %u",
				  node->id, msg->to, U(msg->term), U(node->durable_hard.term),
				  node->durable_hard.vote);
		check_candidate(world, node, sim_node_of(world, msg->to), msg->term);
		record_vote(world, node, msg->term, msg->to);
	}
	else if (msg->type == RAFT_MSG_APPEND_RESP && !msg->reject)
	{
		SIM_CHECK(world, node->durable_hard.term >= msg->term,
				  "early-ack: n%u acknowledges in term %lu, durable is term %lu", node->id,
				  U(msg->term), U(node->durable_hard.term));
		/*
		 * An answer of a term that is over may leave when the entries are cut
		 * already: whoever votes later did so with them in its log.
		 */
		SIM_CHECK(world, msg->index <= sim_shadow_last(&node->durable) ||
				  node->hard.term > msg->term,
				  "early-ack: n%u acknowledges %lu, durable is %lu", node->id, U(msg->index),
				  U(sim_shadow_last(&node->durable)));
	}
}

/* ---------- what the running process believes ---------- */

static void
learn_committed(SimWorld *world, SimNode *node, uint64_t commit)
{
	SimOracle  *oracle = &world->oracle;
	uint64_t	first = node->seen_commit + 1;

	if (first <= node->appended.base_index)
		first = node->appended.base_index + 1;
	if (node->recovering && commit > sim_shadow_last(&node->appended))
		commit = sim_shadow_last(&node->appended);
	SIM_CHECK(world, commit <= raft_last_index(node->raft),
			  "core: n%u has commit %lu beyond its log's end %lu", node->id, U(commit),
			  U(raft_last_index(node->raft)));
	for (uint64_t i = first; i <= commit; i++)
	{
		const SimEntry *entry = sim_shadow_at(&node->appended, i);
		SimCommitted *c;

		SIM_CHECK(world, entry != NULL, "core: n%u commits %lu, which it has not handed out",
				  node->id, U(i));
		if (i <= oracle->ncommitted)
		{
			c = &oracle->committed[i - 1];
			SIM_CHECK(world, c->term == entry->term && c->hash == entry->hash,
					  "state-machine: n%u commits %lu/%lu, committed was term %lu", node->id,
					  U(i), U(entry->term), U(c->term));
			continue;
		}
		oracle->committed = grow(oracle->committed, oracle->ncommitted,
								 &oracle->committed_capacity, sizeof(SimCommitted));
		c = &oracle->committed[oracle->ncommitted];
		*c = (SimCommitted)
		{
			.term = entry->term, .by_term = raft_term(node->raft), .hash = entry->hash,
				.token = entry->token, .type = entry->type,
				.conf = entry->data != NULL ? raft_buf_ref(entry->data) : NULL,
		};
		c->chain = sim_mix(sim_mix(oracle->ncommitted ? c[-1].chain : 0, i), entry->hash);
		oracle->ncommitted++;
		world->stats.committed++;
	}
	if (commit > node->seen_commit)
		node->seen_commit = commit;
}

/* A leader has just counted up to commit. */
static void
check_counted(SimWorld *world, SimNode *node, uint64_t commit)
{
	const RaftConf *conf = raft_conf(node->raft);
	uint64_t	term = sim_shadow_term(&node->appended, commit);

	SIM_CHECK(world, term == raft_term(node->raft),
			  "old-term-commit: n%u leads term %lu and commits %lu of term %lu", node->id,
			  U(raft_term(node->raft)), U(commit), U(term));
	SIM_CHECK(world, majority_has(world, conf, false, commit, term) &&
			  majority_has(world, conf, true, commit, term),
			  "commit-durable: n%u commits %lu/%lu, which no quorum has on disk", node->id,
			  U(commit), U(term));
}

static void
check_peers(SimWorld *world, SimNode *node)
{
	const RaftConf *conf = raft_conf(node->raft);

	for (uint32_t i = 0; i < conf->nmembers; i++)
	{
		uint32_t	id = conf->members[i].id;
		RaftPeerStatus status;

		if (id == node->id || id >= SIM_MAX_IDS || !raft_peer_status(node->raft, id, &status))
			continue;
		SIM_CHECK(world, status.match < status.next,
				  "match: n%u has match %lu, next %lu for n%u", node->id, U(status.match),
				  U(status.next), id);
		SIM_CHECK(world, status.match >= node->seen_match[id] ||
				  (sim_node_of(world, id) != NULL && sim_node_of(world, id)->salvaged),
				  "match: n%u takes match of n%u back from %lu to %lu", node->id, id,
				  U(node->seen_match[id]), U(status.match));
		/* a leader of the past may not have heard that its entries were cut since */
		if (sim_node_of(world, id) != NULL &&
			sim_node_of(world, id)->hard.term <= raft_term(node->raft) &&
			status.match > node->seen_match[id] && status.match >= node->appended.base_index &&
			status.match <= sim_shadow_last(&node->appended))
			SIM_CHECK(world, member_has(world, id, status.match,
										sim_shadow_term(&node->appended, status.match)),
					  "match: n%u believes that n%u has %lu, it has not", node->id, id,
					  U(status.match));
		node->seen_match[id] = status.match;
	}
}

/*
 * Has the core handed out all that is in its log? By log matching the ends
 * decide. Until then the shadow may hold what the core has already cut off.
 */
static bool
in_step(const SimNode *node)
{
	uint64_t	last = sim_shadow_last(&node->appended);

	return raft_last_index(node->raft) == last &&
		raft_term_at(node->raft, last) == sim_shadow_term(&node->appended, last);
}

/* After every input and every output of a core. */
void
sim_oracle_stepped(SimWorld *world, SimNode *node)
{
	const char *broken;
	uint64_t	term,
				commit;
	RaftRole	role;

	if (!node->up || node->raft == NULL || node->dying)
		return;
	broken = raft_check_invariants(node->raft);
	SIM_CHECK(world, broken == NULL, "core: n%u: %s", node->id, broken);
	SIM_CHECK(world, !raft_is_fenced(node->raft) || node->impostor,
			  "fenced: n%u thinks that it has forgotten something", node->id);

	term = raft_term(node->raft);
	role = raft_role(node->raft);
	SIM_CHECK(world, term >= node->seen_term, "core: n%u goes back from term %lu to %lu",
			  node->id, U(node->seen_term), U(term));
	if (term != node->seen_term || role != node->seen_role)
	{
		memset(node->seen_match, 0, sizeof(node->seen_match));
		if (role == RAFT_LEADER && (term != node->seen_term || node->seen_role != RAFT_LEADER))
			record_leader(world, node, term);
		node->seen_term = term;
		node->seen_role = role;
	}

	commit = raft_commit_index(node->raft);
	SIM_CHECK(world, commit >= node->seen_commit, "commit-back: n%u goes from %lu to %lu",
			  node->id, U(node->seen_commit), U(commit));
	if (commit > node->seen_commit && in_step(node))
	{
		bool		counted = role == RAFT_LEADER && commit > world->oracle.ncommitted;

		learn_committed(world, node, commit);
		if (counted)
			check_counted(world, node, commit);
	}
	if (role == RAFT_LEADER)
		check_peers(world, node);
}

void
sim_oracle_applied(SimWorld *world, SimNode *node, const SimRow *row)
{
	SimOracle  *oracle = &world->oracle;

	SIM_CHECK(world, row->index <= oracle->ncommitted &&
			  oracle->committed[row->index - 1].chain == row->chain,
			  "state-machine: n%u applies another entry at %lu than was committed", node->id,
			  U(row->index));
}

void
sim_oracle_restarted(SimWorld *world, SimNode *node, const SimShadow *found, RaftHardState hard)
{
	bool		known = hard.term == node->durable_hard.term &&
		hard.vote == node->durable_hard.vote;

	for (size_t i = 0; i < node->unsettled.count && !known; i++)
	{
		const SimChange *change = &node->unsettled.items[i];

		known = change->kind == SIM_CHANGE_HARD && change->hard.term == hard.term &&
			change->hard.vote == hard.vote;
	}
	SIM_CHECK(world, known,
			  "forgotten: n%u comes back with term %lu vote %u, durable was term %lu vote %u",
			  node->id, U(hard.term), hard.vote, U(node->durable_hard.term),
			  node->durable_hard.vote);
	SIM_CHECK(world, sim_shadow_explains(&node->durable, &node->unsettled, found),
			  "forgotten: n%u comes back with %lu..%lu, durable was %lu..%lu (%zu changes under "
			  "way)", node->id, U(found->base_index + 1), U(sim_shadow_last(found)),
			  U(node->durable.base_index + 1), U(sim_shadow_last(&node->durable)),
			  node->unsettled.count);
	SIM_CHECK(world, hard.commit <= sim_shadow_last(found),
			  "forgotten: n%u comes back with commit %lu, log ends at %lu", node->id,
			  U(hard.commit), U(sim_shadow_last(found)));
}

/* ---------- clients ---------- */

void
sim_oracle_acknowledged(SimWorld *world, SimNode *node, RaftToken token, uint64_t index)
{
	SimOracle  *oracle = &world->oracle;

	SIM_CHECK(world, index <= oracle->ncommitted &&
			  raft_token_equal(oracle->committed[index - 1].token, token),
			  "lost-ack: n%u acknowledges %lu, which is not that entry", node->id, U(index));
	if (index > oracle->acknowledged)
		oracle->acknowledged = index;
	world->stats.acknowledged++;
	world->hash = sim_mix(world->hash, index);
}

void
sim_oracle_read(SimWorld *world, SimNode *node, const SimRead *read, uint64_t index)
{
	SIM_CHECK(world, index >= read->floor,
			  "stale-read: n%u reads at %lu, %lu was acknowledged before the read began",
			  node->id, U(index), U(read->floor));
	SIM_CHECK(world, index <= world->oracle.ncommitted,
			  "stale-read: n%u reads at %lu, committed is %lu", node->id, U(index),
			  U(world->oracle.ncommitted));
	world->hash = sim_mix(world->hash, index);
}

/* ---------- configuration ---------- */

void
sim_oracle_conf(const SimWorld *world, uint64_t index, RaftConf *conf)
{
	const SimOracle *oracle = &world->oracle;

	*conf = world->first_conf;
	for (uint64_t i = index < oracle->ncommitted ? index : oracle->ncommitted; i > 0; i--)
	{
		const SimCommitted *c = &oracle->committed[i - 1];

		if (c->type != RAFT_ENTRY_CONF)
			continue;
		if (!raft_conf_decode(c->conf->data, c->conf->len, conf))
			abort();
		conf->index = i;
		return;
	}
}

/* ---------- at rest ---------- */

void
sim_oracle_at_rest(SimWorld *world, SimNode *leader)
{
	const RaftConf *conf = raft_conf(leader->raft);
	uint64_t	last = raft_last_index(leader->raft);

	SIM_CHECK(world, raft_uncommitted_bytes(leader->raft) == 0,
			  "leak: n%u at rest counts %lu uncommitted bytes", leader->id,
			  U(raft_uncommitted_bytes(leader->raft)));
	SIM_CHECK(world, raft_has_quorum(leader->raft, sim_node_now(leader)),
			  "leak: n%u leads at rest and thinks that it has no quorum", leader->id);
	for (uint32_t i = 0; i < conf->nmembers; i++)
	{
		SimNode    *peer = sim_node_of(world, conf->members[i].id);
		RaftPeerStatus status;

		if (peer == NULL || peer == leader || !peer->up || peer->impostor ||
			world->excluded[peer->machine])
			continue;
		SIM_CHECK(world, raft_peer_status(leader->raft, peer->id, &status),
				  "leak: n%u does not know n%u", leader->id, peer->id);
		SIM_CHECK(world, status.replicating && !status.snapshot && status.recent_active &&
				  status.inflight_messages == 0 && status.inflight_bytes == 0 &&
				  status.match == last,
				  "leak: at rest n%u is to n%u: replicating %d image %d active %d, %u messages "
				  "%lu bytes in flight, match %lu of %lu", peer->id, leader->id,
				  status.replicating, status.snapshot, status.recent_active,
				  status.inflight_messages, U(status.inflight_bytes), U(status.match), U(last));
	}
}

void
sim_oracle_free(SimOracle *oracle)
{
	for (size_t i = 0; i < oracle->ncommitted; i++)
		raft_buf_unref(oracle->committed[i].conf);
	free(oracle->committed);
	free(oracle->votes);
	free(oracle->leaders);
	free(oracle->seen);
	memset(oracle, 0, sizeof(*oracle));
}
