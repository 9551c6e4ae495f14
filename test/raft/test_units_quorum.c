/*-------------------------------------------------------------------------
 *
 * test_units_quorum.c
 *		Arithmetic of majorities against tables and against brute force.
 *
 * The naive versions know nothing of sorting: they try every subset of voters,
 * as the definition of a quorum has it.
 *
 *-------------------------------------------------------------------------
 */
#include "harness.h"

#include "raft/quorum.h"

/* ---------- tables ---------- */

static void
units_majority_value_table(void)
{
	static const struct
	{
		size_t		n;
		uint64_t	v[7];
		uint64_t	want;
	}			rows[] = {
		{0, {0}, UINT64_MAX},
		{1, {7}, 7},
		{2, {3, 9}, 3},
		{3, {5, 5, 1}, 5},
		{3, {9, 0, 0}, 0},
		{4, {4, 3, 2, 1}, 2},
		{5, {1, 2, 3, 4, 5}, 3},
		{5, {0, 0, 8, 8, 8}, 8},
		{7, {1, 9, 2, 8, 3, 7, 4}, 4},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
	{
		uint64_t	v[7];

		memcpy(v, rows[i].v, sizeof(v));
		CHECK_EQ(raft_majority_value(v, rows[i].n), rows[i].want);
	}
}

static void
units_majority_vote_table(void)
{
	CHECK_EQ(raft_majority_vote(0, 0, 0), RAFT_VOTE_WON);
	CHECK_EQ(raft_majority_vote(1, 0, 0), RAFT_VOTE_PENDING);
	CHECK_EQ(raft_majority_vote(1, 1, 0), RAFT_VOTE_WON);
	CHECK_EQ(raft_majority_vote(1, 0, 1), RAFT_VOTE_LOST);
	CHECK_EQ(raft_majority_vote(2, 1, 0), RAFT_VOTE_PENDING);
	CHECK_EQ(raft_majority_vote(2, 1, 1), RAFT_VOTE_LOST);
	CHECK_EQ(raft_majority_vote(3, 2, 0), RAFT_VOTE_WON);
	CHECK_EQ(raft_majority_vote(3, 1, 1), RAFT_VOTE_PENDING);
	CHECK_EQ(raft_majority_vote(4, 2, 1), RAFT_VOTE_PENDING);
	CHECK_EQ(raft_majority_vote(4, 2, 2), RAFT_VOTE_LOST);
	CHECK_EQ(raft_majority_vote(5, 2, 2), RAFT_VOTE_PENDING);
	CHECK_EQ(raft_majority_vote(5, 2, 3), RAFT_VOTE_LOST);
}

/* ---------- brute force ---------- */

typedef struct World
{
	RaftConf	conf;
	uint64_t	value[8];
	int			ballot[8];
} World;

static uint64_t
value_of(const void *arg, uint32_t id)
{
	return ((const World *) arg)->value[id];
}

static int
ballot_of(const void *arg, uint32_t id)
{
	return ((const World *) arg)->ballot[id];
}

/* Is this set of members a quorum of that half? An empty half agrees to all. */
static bool
is_quorum(const RaftConf *conf, unsigned set, bool outgoing)
{
	int			all = 0,
				in = 0;

	for (uint32_t i = 0; i < conf->nmembers; i++)
	{
		const RaftMember *m = &conf->members[i];

		if (!(outgoing ? m->voter_outgoing : m->voter))
			continue;
		all++;
		in += (set >> m->id) & 1;
	}
	return all == 0 || 2 * in > all;
}

static bool
agrees(const RaftConf *conf, unsigned set)
{
	return is_quorum(conf, set, false) && (!conf->joint || is_quorum(conf, set, true));
}

static void
random_world(World *w, uint64_t *seed)
{
	bool		any = false;

	memset(w, 0, sizeof(*w));
	for (uint32_t id = 1; id <= 7; id++)
	{
		RaftMember *m = &w->conf.members[w->conf.nmembers];
		uint64_t	flags = rnd(seed);

		w->value[id] = rnd(seed) % 6;
		w->ballot[id] = (int) (rnd(seed) % 3) - 1;
		if (flags % 5 == 0)
			continue;
		m->id = id;
		m->voter = (flags >> 8) % 2;
		m->voter_outgoing = (flags >> 16) % 3 == 0;
		m->learner = !m->voter && (flags >> 24) % 2;
		if (!m->voter && !m->voter_outgoing)
			m->learner = true;
		any |= m->voter;
		w->conf.joint |= m->voter_outgoing;
		w->conf.nmembers++;
	}
	if (!any && w->conf.nmembers > 0)
	{
		w->conf.members[0].voter = true;
		w->conf.members[0].learner = false;
	}
}

static void
units_joint_value_is_what_a_quorum_reaches(void)
{
	uint64_t	seed = 1;
	World		w;

	for (int round = 0; round < 20000; round++)
	{
		uint64_t	got;

		random_world(&w, &seed);
		if (w.conf.nmembers == 0)
			continue;
		got = raft_quorum_value(&w.conf, value_of, &w);

		/* a quorum reaches it, and none reaches more */
		for (uint64_t v = 0; v <= 6; v++)
		{
			unsigned	set = 0;

			for (uint32_t id = 1; id <= 7; id++)
				if (w.value[id] >= v)
					set |= 1u << id;
			CHECK_EQ(agrees(&w.conf, set), v <= got);
		}
	}
}

static void
units_joint_vote_is_decided_when_it_must_be(void)
{
	uint64_t	seed = 2;
	World		w;

	for (int round = 0; round < 5000; round++)
	{
		unsigned	yes = 0,
					no = 0;
		bool		always = true,
					never = true;
		RaftVerdict got;

		random_world(&w, &seed);
		if (w.conf.nmembers == 0)
			continue;
		for (uint32_t id = 1; id <= 7; id++)
		{
			if (w.ballot[id] == 1)
				yes |= 1u << id;
			else if (w.ballot[id] == 0)
				no |= 1u << id;
		}
		/* every way in which those not heard may vote yet */
		for (unsigned more = 0; more < 256; more += 2)
			if ((more & (yes | no)) == 0)
			{
				if (agrees(&w.conf, yes | more))
					never = false;
				else
					always = false;
			}
		got = raft_quorum_vote(&w.conf, ballot_of, &w);
		CHECK_EQ(got, always ? RAFT_VOTE_WON : never ? RAFT_VOTE_LOST : RAFT_VOTE_PENDING);
	}
}

const Test	tests_units_quorum[] = {
	TEST(units_majority_value_table),
	TEST(units_majority_vote_table),
	TEST(units_joint_value_is_what_a_quorum_reaches),
	TEST(units_joint_vote_is_decided_when_it_must_be),
	{NULL, NULL}
};
