/*-------------------------------------------------------------------------
 *
 * test_units_conf.c
 *		Changes of configuration, their encoding and their stack, against sets.
 *
 * The naive version is a pair of bit sets, old and new voters. What has to hold
 * of any step that a leader may append: a quorum before the step and one after
 * it always share a member, tried over all subsets.
 *
 *-------------------------------------------------------------------------
 */
#include "harness.h"

#include "raft/conf.h"

static unsigned
voters_of(const RaftConf *conf, bool outgoing)
{
	unsigned	set = 0;

	for (uint32_t i = 0; i < conf->nmembers; i++)
		if (outgoing ? conf->members[i].voter_outgoing : conf->members[i].voter)
			set |= 1u << conf->members[i].id;
	return set;
}

static bool
majority(unsigned set, unsigned voters)
{
	return 2 * __builtin_popcount(set & voters) > __builtin_popcount(voters);
}

static bool
agrees(const RaftConf *conf, unsigned set)
{
	return majority(set, voters_of(conf, false)) &&
		(!conf->joint || majority(set, voters_of(conf, true)));
}

/* Quorums of a and of b, over members 1..6, always meet. */
static bool
quorums_meet(const RaftConf *a, const RaftConf *b)
{
	for (unsigned s = 0; s < 128; s += 2)
		if (agrees(a, s) && agrees(b, ~s & 126))
			return false;
	return true;
}

static void
random_target(RaftConf *conf, uint64_t *seed)
{
	memset(conf, 0, sizeof(*conf));
	for (uint32_t id = 1; id <= 6; id++)
	{
		RaftMember *m = &conf->members[conf->nmembers];
		uint64_t	x = rnd(seed);

		if (x % 3 == 0)
			continue;
		m->id = id;
		m->voter = (x >> 8) % 3 != 0;
		m->learner = !m->voter;
		snprintf(m->name, sizeof(m->name), "node%u", id);
		snprintf(m->address, sizeof(m->address), "host%u:7432", id);
		memset(m->instance, (int) id, sizeof(m->instance));
		conf->nmembers++;
	}
}

static void
units_changes_keep_quorums_together(void)
{
	uint64_t	seed = 3;
	RaftConf	now,
				target,
				next,
				left;
	int			joint = 0,
				simple = 0;

	memset(&now, 0, sizeof(now));
	now.nmembers = 1;
	now.members[0].id = 1;
	now.members[0].voter = true;
	memset(now.members[0].instance, 1, RAFT_INSTANCE_LEN);
	for (int round = 0; round < 4000; round++)
	{
		unsigned	wanted;
		RaftStatus	status;

		random_target(&target, &seed);
		target.explicit_leave = rnd(&seed) % 4 == 0;
		wanted = voters_of(&target, false);
		status = raft_conf_change(&now, &target, &next);
		CHECK_EQ(status, wanted == 0 ? RAFT_INVALID : RAFT_OK);
		if (status != RAFT_OK)
			continue;

		CHECK(raft_conf_valid(&next));
		CHECK_EQ(voters_of(&next, false), wanted);
		CHECK(quorums_meet(&now, &next));
		CHECK(next.next_id >= now.next_id);
		if (next.joint)
		{
			joint++;
			CHECK_EQ(voters_of(&next, true), voters_of(&now, false));
			CHECK_EQ(next.explicit_leave, target.explicit_leave);
			CHECK_EQ(raft_conf_change(&next, &target, &left), RAFT_BUSY);
			raft_conf_leave(&next, &left);
			CHECK(raft_conf_valid(&left) && !left.joint && !left.explicit_leave);
			CHECK(quorums_meet(&next, &left));
			CHECK_EQ(left.nmembers, target.nmembers);
			CHECK_EQ(voters_of(&left, false), wanted);
			CHECK_EQ(left.next_id, next.next_id);
			for (uint32_t i = 0; i < left.nmembers; i++)
				CHECK_EQ(left.members[i].learner, target.members[i].learner);
			now = left;
		}
		else
		{
			simple++;
			CHECK(__builtin_popcount(wanted ^ voters_of(&now, false)) <= 1);
			now = next;
		}
	}
	CHECK(joint > 500 && simple > 100);
}

static void
units_targets_that_make_no_sense(void)
{
	RaftConf	now = {0},
				target,
				next;

	now.nmembers = 2;
	now.members[0].id = 1;
	now.members[0].voter = true;
	now.members[0].instance[0] = 1;
	now.members[1].id = 2;
	now.members[1].voter = true;

	target = now;
	target.members[0].id = 2;	/* twice */
	CHECK_EQ(raft_conf_change(&now, &target, &next), RAFT_INVALID);
	target = now;
	target.members[0].id = 0;
	CHECK_EQ(raft_conf_change(&now, &target, &next), RAFT_INVALID);
	target = now;
	target.members[0].learner = true;	/* and voter */
	CHECK_EQ(raft_conf_change(&now, &target, &next), RAFT_INVALID);
	target = now;
	target.members[0].voter = false;	/* neither */
	CHECK_EQ(raft_conf_change(&now, &target, &next), RAFT_INVALID);
	target = now;
	target.nmembers = RAFT_MAX_MEMBERS + 1;
	CHECK_EQ(raft_conf_change(&now, &target, &next), RAFT_INVALID);
	target = now;
	memset(target.members[1].name, 'x', RAFT_NAME_LEN); /* no end */
	CHECK_EQ(raft_conf_change(&now, &target, &next), RAFT_INVALID);
	target = now;
	target.members[0].instance[0] = 9;	/* an id of another server */
	CHECK_EQ(raft_conf_change(&now, &target, &next), RAFT_INVALID);
	target = now;
	target.members[1].instance[0] = 9;	/* not known before: fine */
	CHECK_EQ(raft_conf_change(&now, &target, &next), RAFT_OK);
}

/* 64 voters replaced by 64 others do not fit into one joint configuration. */
static void
units_a_joint_configuration_has_room_for_64(void)
{
	RaftConf	now = {0},
				target = {0},
				next;

	for (uint32_t i = 0; i < RAFT_MAX_MEMBERS; i++)
	{
		now.members[i].id = i + 1;
		now.members[i].voter = true;
		target.members[i].id = i + 2;
		target.members[i].voter = true;
	}
	now.nmembers = target.nmembers = RAFT_MAX_MEMBERS;
	CHECK_EQ(raft_conf_change(&now, &target, &next), RAFT_INVALID);
	target.nmembers = RAFT_MAX_MEMBERS - 1;
	CHECK_EQ(raft_conf_change(&now, &target, &next), RAFT_OK);
	CHECK(!next.joint);
	target.nmembers = RAFT_MAX_MEMBERS - 2;
	CHECK_EQ(raft_conf_change(&now, &target, &next), RAFT_OK);
	CHECK(next.joint && next.nmembers == RAFT_MAX_MEMBERS);
}

static void
units_conf_encoding_round_trip(void)
{
	uint64_t	seed = 4;
	RaftConf	conf,
				copy;

	for (int round = 0; round < 500; round++)
	{
		RaftBuf    *buf;

		random_target(&conf, &seed);
		if (voters_of(&conf, false) == 0 && conf.nmembers > 0)
			continue;
		conf.index = rnd(&seed);
		conf.next_id = 100;
		buf = raft_conf_encode(&conf);
		CHECK(buf != NULL);
		CHECK(raft_conf_decode(buf->data, buf->len, &copy));
		CHECK(memcmp(&conf, &copy, sizeof(conf)) == 0);

		/* nothing shorter or longer is a configuration */
		for (size_t len = 0; len < buf->len; len++)
			CHECK(!raft_conf_decode(buf->data, len, &copy));

		/* and a flipped bit is refused, or gives one that makes sense */
		for (int flip = 0; flip < 50; flip++)
		{
			uint64_t	bit = rnd(&seed) % (buf->len * 8);

			buf->data[bit / 8] ^= (uint8_t) (1 << (bit % 8));
			if (raft_conf_decode(buf->data, buf->len, &copy))
				CHECK(raft_conf_valid(&copy));
			buf->data[bit / 8] ^= (uint8_t) (1 << (bit % 8));
		}
		raft_buf_unref(buf);
	}
}

static RaftConf *
conf_at(uint64_t index)
{
	RaftConf   *conf = calloc(1, sizeof(RaftConf));

	conf->index = index;
	return conf;
}

static void
units_stack_of_configurations(void)
{
	RaftConf	base = {0};
	RaftConfStack s;

	base.index = 5;
	CHECK(raft_confs_init(&s, &base));
	CHECK(raft_confs_reserve(&s, 3));
	raft_confs_push(&s, conf_at(7));
	raft_confs_push(&s, conf_at(9));
	raft_confs_push(&s, conf_at(12));
	CHECK_EQ(raft_confs_active(&s)->index, 12);

	/* cut: the ones above go, the committed one never */
	CHECK(!raft_confs_truncate(&s, 13));
	CHECK(raft_confs_truncate(&s, 9));
	CHECK_EQ(raft_confs_active(&s)->index, 7);
	raft_confs_push(&s, conf_at(10));
	raft_confs_push(&s, conf_at(11));

	/* committed: the newest at or below stays as the first */
	CHECK(!raft_confs_commit(&s, 6));
	CHECK(raft_confs_commit(&s, 10));
	CHECK_EQ(s.confs[0]->index, 10);
	CHECK_EQ(s.n, 2);
	CHECK(raft_confs_truncate(&s, 1));
	CHECK_EQ(s.n, 1);
	CHECK_EQ(raft_confs_active(&s)->index, 10);

	base.index = 40;
	CHECK(raft_confs_reset(&s, &base));
	CHECK_EQ(s.n, 1);
	CHECK_EQ(raft_confs_active(&s)->index, 40);
	raft_confs_free(&s);
}

const Test	tests_units_conf[] = {
	TEST(units_changes_keep_quorums_together),
	TEST(units_targets_that_make_no_sense),
	TEST(units_a_joint_configuration_has_room_for_64),
	TEST(units_conf_encoding_round_trip),
	TEST(units_stack_of_configurations),
	{NULL, NULL}
};
