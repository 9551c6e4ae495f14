/*-------------------------------------------------------------------------
 *
 * oracle.c
 *		The rules of Raft, checked from outside at every step.
 *
 * Remembers over crashes what nodes said and made durable. Nothing flows from
 * here back into the cores.
 *
 *-------------------------------------------------------------------------
 */
#include "harness.h"

#define MAX_TERMS	512
#define MAX_INDEX	8192

static uint32_t leaders[MAX_TERMS];
static uint32_t votes[MAX_NODES + 1][MAX_TERMS];	/* told to others, or made durable */
static struct
{
	uint64_t	term;
	uint64_t	hash;
}			committed[MAX_INDEX];
static uint64_t ncommitted;

/* (index, term) -> hash of the entry that ever had it */
static struct
{
	uint64_t	index;
	uint64_t	term;
	uint64_t	hash;
}		   *seen;
static size_t nseen;
static size_t size_seen;

#define BROKEN(...) fail_at(__FILE__, __LINE__, __VA_ARGS__)
#define U(x) ((unsigned long long) (x))

void
oracle_reset(void)
{
	memset(leaders, 0, sizeof(leaders));
	memset(votes, 0, sizeof(votes));
	memset(committed, 0, sizeof(committed));
	ncommitted = 0;
	free(seen);
	seen = NULL;
	nseen = size_seen = 0;
}

uint64_t
oracle_committed(void)
{
	return ncommitted;
}

static uint64_t
mix(uint64_t hash, const void *data, size_t len)
{
	const uint8_t *p = data;

	for (size_t i = 0; i < len; i++)
		hash = (hash ^ p[i]) * 0x100000001b3u;
	return hash;
}

uint64_t
entry_hash(const RaftEntry *e)
{
	uint64_t	hash = 0xcbf29ce484222325u;

	if (e == NULL)
		return 0;
	hash = mix(hash, &e->index, sizeof(e->index));
	hash = mix(hash, &e->term, sizeof(e->term));
	hash = mix(hash, &e->stamp.physical_us, sizeof(e->stamp.physical_us));
	hash = mix(hash, &e->stamp.logical, sizeof(e->stamp.logical));
	hash = mix(hash, &e->stamp.node, sizeof(e->stamp.node));
	hash = mix(hash, &e->token.node, sizeof(e->token.node));
	hash = mix(hash, &e->token.boot, sizeof(e->token.boot));
	hash = mix(hash, &e->token.counter, sizeof(e->token.counter));
	hash = mix(hash, &e->type, sizeof(e->type));
	if (e->data != NULL)
		hash = mix(hash, e->data->data, e->data->len);
	return hash;
}

/* ---------- entries ---------- */

/* Log matching: one content for each (index, term). */
void
oracle_appended(const Node *n, const RaftEntry *e)
{
	uint64_t	hash = entry_hash(e);

	for (size_t i = nseen; i > 0; i--)
		if (seen[i - 1].index == e->index && seen[i - 1].term == e->term)
		{
			if (seen[i - 1].hash != hash)
				BROKEN("log matching: node %u has another entry %llu/%llu", n->id,
					   U(e->index), U(e->term));
			return;
		}
	if (nseen == size_seen)
	{
		size_seen = size_seen > 0 ? size_seen * 2 : 256;
		seen = realloc(seen, size_seen * sizeof(*seen));
	}
	seen[nseen].index = e->index;
	seen[nseen].term = e->term;
	seen[nseen++].hash = hash;
}

/* ---------- votes ---------- */

static void
note_vote(uint32_t id, uint64_t term, uint32_t whom)
{
	if (term >= MAX_TERMS || whom == 0)
		return;
	if (votes[id][term] != 0 && votes[id][term] != whom)
		BROKEN("node %u voted for %u and for %u in term %llu", id, votes[id][term], whom,
			   U(term));
	votes[id][term] = whom;
}

void
oracle_durable(const Node *n)
{
	note_vote(n->id, n->hard.term, n->hard.vote);
}

/* What leaves a node must be backed by its disk. */
void
oracle_sent(const Node *n, const RaftMsg *m)
{
	if (m->from != n->id)
		BROKEN("node %u sends as %u", n->id, m->from);
	if (n->distrusted_until != 0 && !m->reject &&
		(m->type == RAFT_MSG_VOTE_RESP || m->type == RAFT_MSG_PREVOTE_RESP))
		BROKEN("node %u votes although its disk lost entries", n->id);
	if (m->type == RAFT_MSG_VOTE_RESP && !m->reject)
	{
		if (n->hard.term < m->term || (n->hard.term == m->term && n->hard.vote != m->to))
			BROKEN("node %u grants %u a vote of term %llu that is not on its disk", n->id, m->to,
				   U(m->term));
		note_vote(n->id, m->term, m->to);
	}

	/*
	 * Durable here when the message was handed out. A later write that is also
	 * on the disk by now may have cut it off again, in a later term only.
	 */
	if (m->type == RAFT_MSG_APPEND_RESP && !m->reject && n->hard.term <= m->term &&
		m->index > log_last(&n->disk))
		BROKEN("node %u acknowledges %llu, on disk is %llu", n->id, U(m->index),
			   U(log_last(&n->disk)));

	/* P-12: what a heartbeat commits must be known to match */
	if (m->type == RAFT_MSG_HEARTBEAT && m->commit > 0)
	{
		RaftPeerStatus s;

		if (raft_peer_status(n->raft, m->to, &s) && m->commit > s.match)
			BROKEN("heartbeat of %u commits %llu at %u, whose match is %llu", n->id,
				   U(m->commit), m->to, U(s.match));
	}
	if ((m->type == RAFT_MSG_APPEND_RESP || m->type == RAFT_MSG_VOTE_RESP ||
		 m->type == RAFT_MSG_VOTE || m->type == RAFT_MSG_APPEND) && n->hard.term < m->term)
		BROKEN("node %u speaks in term %llu, on disk is %llu: %s", n->id, U(m->term),
			   U(n->hard.term), describe(m));
}

/* ---------- commit ---------- */

static bool
majority_has(const RaftConf *conf, uint64_t index, uint64_t term, bool outgoing)
{
	int			voters = 0;
	int			have = 0;

	for (uint32_t i = 0; i < conf->nmembers; i++)
	{
		const RaftMember *m = &conf->members[i];
		const Node *n = &nodes[m->id];

		if (outgoing ? !m->voter_outgoing : !m->voter)
			continue;
		voters++;
		if (m->id <= MAX_NODES && n->exists &&
			(log_term(&n->disk, index) == term || n->disk.base >= index))
			have++;
	}
	return voters == 0 || have > voters / 2;
}

static void
check_commit(Node *n)
{
	uint64_t	commit = raft_commit_index(n->raft);

	if (commit < n->commit_seen)
		BROKEN("commit index of %u went from %llu back to %llu", n->id, U(n->commit_seen),
			   U(commit));
	if (commit >= MAX_INDEX || commit > log_last(&n->log))
		return;					/* not handed out yet: looked at after the output */
	for (uint64_t i = n->commit_seen + 1; i <= commit; i++)
	{
		const RaftEntry *e = log_at(&n->log, i);
		uint64_t	hash = entry_hash(e);

		if (e == NULL)			/* below an image */
			continue;
		if (i > ncommitted)
			ncommitted = i;
		if (committed[i].term != 0)
		{
			if (committed[i].hash != hash)
				BROKEN("node %u commits %llu/%llu, but %llu/%llu was committed there", n->id,
					   U(i), U(e->term), U(i), U(committed[i].term));
			continue;
		}
		committed[i].term = e->term;
		committed[i].hash = hash;
		if (quorum_oracle &&
			!(majority_has(raft_conf(n->raft), i, e->term, false) &&
			  majority_has(raft_conf(n->raft), i, e->term, true)))
			BROKEN("node %u commits %llu/%llu, which no quorum has on disk", n->id, U(i),
				   U(e->term));
	}
	n->commit_seen = commit;
}

/* ---------- leaders ---------- */

static void
check_leader(Node *n)
{
	uint64_t	term = raft_term(n->raft);
	const RaftConf *conf = raft_conf(n->raft);

	if (term >= MAX_TERMS)
		return;
	if (leaders[term] != 0 && leaders[term] != n->id)
		BROKEN("%u and %u lead in term %llu", leaders[term], n->id, U(term));
	if (leaders[term] == 0)
	{
		leaders[term] = n->id;
		for (uint64_t i = n->log.base + 1; i <= ncommitted; i++)
			if (committed[i].term != 0 && committed[i].term < term &&
				raft_term_at(n->raft, i) != committed[i].term)
				BROKEN("leader %u of term %llu lacks committed entry %llu/%llu", n->id, U(term),
					   U(i), U(committed[i].term));
	}

	/* P-08: a joint configuration is left only when it is committed itself */
	if (conf->joint)
		n->joint_seen = conf->index;
	else if (n->joint_seen != 0)
	{
		if (conf->index > n->joint_seen && raft_commit_index(n->raft) < n->joint_seen)
			BROKEN("%u leaves the joint configuration %llu, committed is %llu", n->id,
				   U(n->joint_seen), U(raft_commit_index(n->raft)));
		n->joint_seen = 0;
	}
	if (n->match_term != term)
	{
		memset(n->match_seen, 0, sizeof(n->match_seen));
		n->match_term = term;
	}
	for (uint32_t id = 1; id <= MAX_NODES; id++)
		if (raft_conf_find(conf, id) == NULL)
			n->match_seen[id] = 0;	/* who comes back starts anew */
	for (uint32_t i = 0; i < conf->nmembers; i++)
	{
		uint32_t	id = conf->members[i].id;
		RaftPeerStatus s;

		if (id == n->id || !raft_peer_status(n->raft, id, &s))
			continue;
		if (s.match >= s.next)
			BROKEN("%u has match %llu, next %llu of %u", n->id, U(s.match), U(s.next), id);
		if (id > MAX_NODES)
			continue;
		if (s.match < n->match_seen[id] && nodes[id].exists && nodes[id].distrusted_until == 0)
			BROKEN("match of %u at %u went from %llu to %llu", id, n->id,
				   U(n->match_seen[id]), U(s.match));
		n->match_seen[id] = s.match;
	}
}

void
oracle_after(Node *n)
{
	const char *why;

	if (!n->up)
		return;
	why = raft_check_invariants(n->raft);
	if (why != NULL)
		BROKEN("node %u: invariant %s", n->id, why);
	if (raft_term(n->raft) < n->term_seen)
		BROKEN("term of %u went from %llu to %llu", n->id, U(n->term_seen),
			   U(raft_term(n->raft)));
	n->term_seen = raft_term(n->raft);
	if (raft_role(n->raft) == RAFT_LEADER)
		check_leader(n);

	/* the log of the harness is that of the core between outputs only */
	if (raft_last_index(n->raft) == log_last(&n->log) &&
		raft_term_at(n->raft, log_last(&n->log)) == log_term(&n->log, log_last(&n->log)))
		check_commit(n);
}

void
oracle_restarted(Node *n)
{
	n->term_seen = raft_term(n->raft);
	n->commit_seen = raft_commit_index(n->raft);
	n->match_term = 0;
	n->joint_seen = raft_conf(n->raft)->joint ? raft_conf(n->raft)->index : 0;
	if (n->term_seen < n->hard.term || n->commit_seen < n->hard.commit)
		BROKEN("node %u forgot its term or commit index", n->id);
}
