/*-------------------------------------------------------------------------
 *
 * quorum.c
 *		Arithmetic of majorities, plain and joint. See quorum.h.
 *
 *-------------------------------------------------------------------------
 */
#include "raft/quorum.h"
#include "raft/raft_assert.h"

uint64_t
raft_majority_value(uint64_t *v, size_t n)
{
	if (n == 0)
		return UINT64_MAX;

	/* insertion sort, descending: n is a handful and mostly sorted */
	for (size_t i = 1; i < n; i++)
	{
		uint64_t	x = v[i];
		size_t		j = i;

		for (; j > 0 && v[j - 1] < x; j--)
			v[j] = v[j - 1];
		v[j] = x;
	}
	return v[n / 2];
}

RaftVerdict
raft_majority_vote(size_t n, size_t yes, size_t no)
{
	size_t		need = n / 2 + 1;

	RAFT_ASSERT(yes + no <= n);
	if (n == 0 || yes >= need)
		return RAFT_VOTE_WON;
	if (no > n - need)
		return RAFT_VOTE_LOST;
	return RAFT_VOTE_PENDING;
}

static uint64_t
half_value(const RaftConf *conf, bool outgoing, RaftValueFn value, const void *arg)
{
	uint64_t	v[RAFT_MAX_MEMBERS];
	size_t		n = 0;

	for (uint32_t i = 0; i < conf->nmembers; i++)
	{
		const RaftMember *m = &conf->members[i];

		if (outgoing ? m->voter_outgoing : m->voter)
			v[n++] = value(arg, m->id);
	}
	return raft_majority_value(v, n);
}

uint64_t
raft_quorum_value(const RaftConf *conf, RaftValueFn value, const void *arg)
{
	uint64_t	in = half_value(conf, false, value, arg);

	if (conf->joint)
	{
		uint64_t	out = half_value(conf, true, value, arg);

		if (out < in)
			return out;
	}
	return in;
}

static RaftVerdict
half_vote(const RaftConf *conf, bool outgoing, RaftBallotFn ballot, const void *arg)
{
	size_t		n = 0,
				yes = 0,
				no = 0;

	for (uint32_t i = 0; i < conf->nmembers; i++)
	{
		const RaftMember *m = &conf->members[i];

		if (outgoing ? m->voter_outgoing : m->voter)
		{
			int			b = ballot(arg, m->id);

			n++;
			yes += b == 1;
			no += b == 0;
		}
	}
	return raft_majority_vote(n, yes, no);
}

RaftVerdict
raft_quorum_vote(const RaftConf *conf, RaftBallotFn ballot, const void *arg)
{
	RaftVerdict in = half_vote(conf, false, ballot, arg);
	RaftVerdict out = conf->joint ? half_vote(conf, true, ballot, arg) : RAFT_VOTE_WON;

	if (in == RAFT_VOTE_LOST || out == RAFT_VOTE_LOST)
		return RAFT_VOTE_LOST;
	if (in == RAFT_VOTE_WON && out == RAFT_VOTE_WON)
		return RAFT_VOTE_WON;
	return RAFT_VOTE_PENDING;
}
