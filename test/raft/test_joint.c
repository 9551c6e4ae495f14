/*-------------------------------------------------------------------------
 *
 * test_joint.c
 *		Joint configurations: both halves decide, left once and only when the joint
 *		entry itself is committed (P-08, P-09). The oracle checks the latter too.
 *
 *-------------------------------------------------------------------------
 */
#include "harness.h"

#define OLD IDS(1, 2, 3)
#define NEW IDS(1, 4, 5)

static void
five_nodes(void)
{
	cluster_of(OLD, IDS(4, 5));
	elect(1);
	for (int i = 0; i < 3; i++)
		propose(1, "a");
	settle();
}

static uint64_t
go_joint(bool explicit_leave)
{
	uint64_t	index;

	CHECK_EQ(explicit_leave ? try_change_explicit(1, NEW, 0, &index) :
			 try_change(1, NEW, 0, &index), RAFT_OK);
	CHECK(raft_conf(core(1))->joint);
	CHECK_EQ(raft_conf(core(1))->explicit_leave, explicit_leave);
	return index;
}

static int
conf_entries_above(uint32_t id, uint64_t index)
{
	int			count = 0;

	for (uint64_t i = index + 1; i <= log_last(&node(id)->log); i++)
		count += log_at(&node(id)->log, i)->type == RAFT_ENTRY_CONF;
	return count;
}

/* The end of all these stories: the new configuration, entered and left once. */
static void
check_left(uint64_t joint)
{
	uint32_t	leader;

	run(5 * T_US);
	leader = run_until_leader(20 * T_US);
	CHECK(ids_have(NEW, leader));
	run(2 * T_US);
	leader = leader_now();
	CHECK(!raft_conf(core(leader))->joint);
	CHECK_EQ(raft_conf(core(leader))->nmembers, 3);
	CHECK(raft_conf_find(raft_conf(core(leader)), 4)->voter);
	CHECK(raft_conf_find(raft_conf(core(leader)), 2) == NULL);
	CHECK_EQ(conf_entries_above(leader, joint), 1);
	CHECK_EQ(commit_of(leader), last_of(leader));
	propose(leader, "z");
	run(T_US);
	CHECK_EQ(commit_of(leader_now()), last_of(leader_now()));
}

static void
joint_is_entered_and_left_by_itself(void)
{
	uint64_t	index;

	five_nodes();
	index = go_joint(false);
	settle();
	check_left(index);
}

static void
joint_needs_both_majorities_to_commit(void)
{
	uint64_t	index;

	five_nodes();
	isolate(2);
	isolate(3);
	index = go_joint(false);
	settle();
	run(3 * HB_US);
	CHECK_EQ(commit_of(1), index - 1);	/* 1, 4, 5: the new half only */

	harness_end();
	harness_begin();
	five_nodes();
	isolate(4);
	isolate(5);
	index = go_joint(false);
	settle();
	run(3 * HB_US);
	CHECK_EQ(commit_of(1), index - 1);	/* 1, 2, 3: the old half only */
	heal();
	isolate(3);
	isolate(5);
	run(T_US / 2);
	CHECK(commit_of(1) >= index);	/* 1, 2 and 1, 4 */
}

static void
joint_needs_both_majorities_to_elect(void)
{
	uint64_t	index;

	five_nodes();
	index = go_joint(true);
	settle();
	CHECK(commit_of(4) >= index);
	crash(1);
	isolate(4);
	jump(2 * T_US);
	campaign(2);
	settle();
	CHECK(!is_leader(2));		/* 2, 3 and 5: one of {1, 4, 5} only */
	heal();
	elect(2);					/* 2, 3 and 4, 5 */
	restart(1);
	CHECK(raft_conf(core(1))->joint);
}

static void
joint_allows_no_other_change(void)
{
	five_nodes();
	go_joint(true);
	CHECK_EQ(try_change(1, OLD, 0, NULL), RAFT_BUSY);
	settle();
	CHECK_EQ(try_change(1, OLD, 0, NULL), RAFT_BUSY);
	CHECK_EQ(leave_joint(1), RAFT_OK);
	CHECK_EQ(leave_joint(1), RAFT_BUSY);
	settle();
	CHECK_EQ(leave_joint(1), RAFT_INVALID);
	CHECK_EQ(try_change(1, IDS(1, 4), 0, NULL), RAFT_OK);
}

/* ---------- P-08 ---------- */

static void
leader_change(bool explicit_leave, int stage)
{
	uint64_t	index;
	uint32_t	leader;

	harness_end();
	harness_begin();
	five_nodes();
	index = go_joint(explicit_leave);
	switch (stage)
	{
		case 0:					/* appended at 1 and 2 */
			deliver_all(RAFT_MSG_APPEND, 1, 2);
			break;
		case 1:					/* committed, and 1 alone knows; it may have appended the leave */
			deliver_all(RAFT_MSG_APPEND, ANY, ANY);
			deliver_all(RAFT_MSG_APPEND_RESP, ANY, ANY);
			CHECK(commit_of(1) >= index);
			break;
		case 2:					/* applied everywhere */
			settle();
			run(2 * HB_US);
			break;
	}
	drop(ANY, ANY, ANY);
	crash(1);
	for (int i = 0; i < 3 && !is_leader(2); i++)
	{
		jump(2 * T_US);
		campaign(2);
		/* step by step: the oracle looks after each */
		while (count_msgs(ANY, ANY, ANY) > 0)
			deliver(ANY, ANY, ANY);
	}
	leader = leader_now();
	if (explicit_leave)
	{
		CHECK_EQ(leader, 2);
		CHECK(raft_conf(core(2))->joint);
		CHECK(raft_conf(core(2))->explicit_leave);
		run(3 * T_US);
		leader = run_until_leader(10 * T_US);
		CHECK(raft_conf(core(leader))->joint);
		CHECK_EQ(conf_entries_above(leader, index), 0);
		CHECK_EQ(leave_joint(leader), RAFT_OK);
		settle();
	}
	restart(1);
	check_left(index);
}

static void
P08_leader_change_with_the_joint_entry_appended(void)
{
	leader_change(false, 0);
	leader_change(true, 0);
}

static void
P08_leader_change_with_the_joint_entry_committed(void)
{
	leader_change(false, 1);
	leader_change(true, 1);
}

static void
P08_leader_change_with_the_joint_entry_applied(void)
{
	leader_change(false, 2);
	leader_change(true, 2);
}

/* camunda#60086: all restart with an uncommitted joint entry in the log. */
static void
P08_recovered_joint_entry_is_not_left_before_it_is_committed(void)
{
	uint64_t	index;

	five_nodes();
	index = go_joint(false);
	deliver_all(RAFT_MSG_APPEND, 1, 2);
	drop(ANY, ANY, ANY);
	for (uint32_t id = 1; id <= 5; id++)
		restart(id);
	CHECK(raft_conf(core(1))->joint);
	CHECK(raft_conf(core(2))->joint);
	CHECK(!raft_conf(core(3))->joint);
	isolate(4);
	isolate(5);
	/* 2 may win {1,2,3}, but not {1,4,5} without 4 or 5: nobody may leave */
	run(5 * T_US);
	for (uint32_t id = 1; id <= 3; id++)
		if (raft_conf(core(id))->index > index)
			CHECK(commit_of(id) >= index);
	heal();
	run(10 * T_US);
	if (raft_conf(core(leader_now()))->index >= index)
		check_left(index);
	else
		check_converged();		/* it may have been undone by 3, with 1 or 2 down: not here */
}

/* The commit index moves on, but not as far as the joint entry. */
static void
P08_commit_of_an_earlier_entry_does_not_leave(void)
{
	uint64_t	before;
	uint64_t	joint;

	base_config.max_message_bytes = 1;
	five_nodes();
	run(HB_US);
	drop(ANY, ANY, ANY);
	before = propose(1, "b");
	joint = go_joint(false);
	for (uint32_t id = 2; id <= 5; id++)
	{
		deliver(RAFT_MSG_APPEND, 1, id);
		CHECK_EQ(last_of(id), before);
		deliver(RAFT_MSG_APPEND_RESP, id, 1);
	}
	CHECK_EQ(commit_of(1), before);
	CHECK(raft_conf(core(1))->joint);
	CHECK_EQ(conf_entries_above(1, joint), 0);
	settle();
	check_left(joint);
}

static void
P08_leave_waits_for_the_own_term(void)
{
	uint64_t	index;

	/* new leader, joint committed in an earlier term: no leave before its no-op */
	five_nodes();
	index = go_joint(false);
	deliver_all(RAFT_MSG_APPEND, ANY, ANY);
	drop(ANY, ANY, ANY);
	crash(1);
	jump(2 * T_US);
	campaign(2);
	for (int i = 0; i < 300 && !is_leader(2); i++)
		deliver(ANY, ANY, ANY);
	CHECK(is_leader(2));
	CHECK(raft_conf(core(2))->joint);
	CHECK_EQ(raft_conf(core(2))->index, index);
	CHECK_EQ(conf_entries_above(2, index), 0);
	settle();
	CHECK_EQ(conf_entries_above(2, index), 1);
}

/* ---------- P-09 ---------- */

static void
P09_joint_survives_restarts(void)
{
	uint64_t	index;

	five_nodes();
	index = go_joint(true);
	settle();
	run(2 * HB_US);
	for (uint32_t id = 1; id <= 5; id++)
	{
		restart(id);
		CHECK(raft_conf(core(id))->joint);
		CHECK(raft_conf(core(id))->explicit_leave);
		CHECK_EQ(raft_conf(core(id))->index, index);
		CHECK(raft_conf_find(raft_conf(core(id)), 3)->voter_outgoing);
		CHECK(!raft_conf_find(raft_conf(core(id)), 3)->voter);
	}
	isolate(4);
	isolate(5);
	run(5 * T_US);
	CHECK_EQ(leader_now(), 1 * is_leader(1));	/* 2 and 3 cannot: {1,4,5} has 1 only */
	heal();
	run(5 * T_US);
	CHECK(raft_conf(core(leader_now()))->joint);
	CHECK_EQ(leave_joint(leader_now()), RAFT_OK);
	check_left(index);
}

static void
P09_joint_survives_an_image(void)
{
	uint64_t	index;

	cluster_of(OLD, IDS(4, 5, 6));
	elect(1);
	isolate(6);
	CHECK_EQ(try_change_explicit(1, NEW, IDS(6), &index), RAFT_OK);
	settle();
	for (int i = 0; i < 3; i++)
		propose(1, "b");
	settle();
	run(HB_US);
	compact(1, commit_of(1) + 1);
	heal();
	run(4 * HB_US);
	CHECK(node(6)->install);
	CHECK_EQ(install(6, 1), RAFT_OK);
	CHECK(raft_conf(core(6))->joint);
	CHECK(raft_conf(core(6))->explicit_leave);
	CHECK_EQ(raft_conf(core(6))->index, index);
	restart(6);
	CHECK(raft_conf(core(6))->joint);
	run(T_US);
	CHECK_EQ(last_of(6), last_of(1));
	CHECK_EQ(leave_joint(leader_now()), RAFT_OK);
	run(T_US);
	CHECK(!raft_conf(core(6))->joint);
	CHECK(raft_conf_find(raft_conf(core(6)), 6)->learner);
}

static void
P09_left_once_with_proposals_in_between(void)
{
	uint64_t	index;

	five_nodes();
	index = go_joint(false);
	for (int i = 0; i < 5; i++)
		propose(1, "b");
	while (count_msgs(ANY, ANY, ANY) > 0)
	{
		deliver(ANY, ANY, ANY);
		if (is_leader(1) && last_of(1) < 40)
			try_propose(1, "c", NULL);
	}
	CHECK_EQ(conf_entries_above(1, index), 1);
	check_left(index);
}

/* The last voter of the old half that goes is told before it is left alone. */
static void
P09_members_that_left_learn_of_it(void)
{
	five_nodes();
	go_joint(false);
	settle();
	run(T_US);
	CHECK(raft_conf_find(raft_conf(core(2)), 2) == NULL);
	CHECK(raft_conf_find(raft_conf(core(3)), 3) == NULL);
	run(10 * T_US);
	CHECK_EQ(raft_term(core(2)), raft_term(core(1)));
	CHECK(is_leader(1));
}

/* etcd confchange_v2_replace_leader.txt: the leader itself is replaced. */
static void
joint_replaces_the_leader(void)
{
	uint32_t	leader;

	cluster_of(OLD, IDS(4));
	elect(1);
	CHECK_EQ(try_change(1, IDS(2, 3, 4), 0, NULL), RAFT_OK);
	settle();
	run(3 * T_US);
	leader = run_until_leader(10 * T_US);
	CHECK(leader >= 2 && leader <= 4);
	CHECK(!is_leader(1));
	CHECK(raft_conf_find(raft_conf(core(leader)), 1) == NULL);
	propose(leader, "x");
	settle();
	CHECK_EQ(commit_of(leader), last_of(leader));
}

/* A voter becomes a learner, another learner a voter, in one step. */
static void
joint_demotes_and_promotes(void)
{
	cluster_of(OLD, IDS(4));
	elect(1);
	CHECK_EQ(try_change(1, IDS(1, 2, 4), IDS(3), NULL), RAFT_OK);
	CHECK(raft_conf_find(raft_conf(core(1)), 3)->voter_outgoing);
	settle();
	run(T_US);
	CHECK(raft_conf_find(raft_conf(core(3)), 3)->learner);
	CHECK(!raft_is_promotable(core(3)));
	CHECK(raft_conf_find(raft_conf(core(4)), 4)->voter);
	check_converged();
}

const Test	tests_joint[] = {
	TEST(joint_is_entered_and_left_by_itself),
	TEST(joint_needs_both_majorities_to_commit),
	TEST(joint_needs_both_majorities_to_elect),
	TEST(joint_allows_no_other_change),
	TEST(joint_replaces_the_leader),
	TEST(joint_demotes_and_promotes),
	TEST(P08_leader_change_with_the_joint_entry_appended),
	TEST(P08_leader_change_with_the_joint_entry_committed),
	TEST(P08_leader_change_with_the_joint_entry_applied),
	TEST(P08_recovered_joint_entry_is_not_left_before_it_is_committed),
	TEST(P08_commit_of_an_earlier_entry_does_not_leave),
	TEST(P08_leave_waits_for_the_own_term),
	TEST(P09_joint_survives_restarts),
	TEST(P09_joint_survives_an_image),
	TEST(P09_left_once_with_proposals_in_between),
	TEST(P09_members_that_left_learn_of_it),
	{NULL, NULL}
};
