/*-------------------------------------------------------------------------
 *
 * test_membership.c
 *		Changes of one voter at a time, learners, removal (P-06, P-07). Joint
 *		configurations: test_joint.c.
 *
 *-------------------------------------------------------------------------
 */
#include "harness.h"

static bool
is_voter(uint32_t at, uint32_t id)
{
	const RaftMember *m = raft_conf_find(raft_conf(core(at)), id);

	return m != NULL && m->voter;
}

static bool
is_member(uint32_t at, uint32_t id)
{
	return raft_conf_find(raft_conf(core(at)), id) != NULL;
}

/* ---------- the plain thing ---------- */

static void
membership_learner_catches_up_and_is_promoted(void)
{
	cluster(3);
	elect(1);
	for (int i = 0; i < 20; i++)
		propose(1, "a");
	settle();
	change(1, IDS(1, 2, 3), IDS(4));
	add_node(4);
	CHECK(!raft_caught_up(core(1), 4));
	run(T_US);
	CHECK(logs_equal(1, 4));
	CHECK(raft_caught_up(core(1), 4));
	CHECK(!raft_is_promotable(core(4)));
	change(1, IDS(1, 2, 3, 4), 0);
	settle();
	CHECK(is_voter(4, 4));
	CHECK(raft_is_promotable(core(4)));
	elect(4);
	check_converged();
}

static void
membership_learner_does_not_count(void)
{
	uint64_t	index;

	cluster_of(IDS(1, 2, 3), IDS(4, 5));
	elect(1);
	isolate(2);
	isolate(3);
	index = propose(1, "a");
	settle();
	run(5 * HB_US);
	CHECK_EQ(last_of(4), index);
	CHECK_EQ(commit_of(1), index - 1);
}

static void
membership_of_one_grows_to_three(void)
{
	cluster(1);
	run(1);
	CHECK(is_leader(1));
	propose(1, "a");
	change(1, IDS(1), IDS(2));
	add_node(2);
	run(T_US);
	change(1, IDS(1, 2), 0);
	run(T_US);
	change(1, IDS(1, 2), IDS(3));
	add_node(3);
	run(T_US);
	change(1, IDS(1, 2, 3), 0);
	run(T_US);
	CHECK(is_voter(3, 3));
	crash(1);
	CHECK(run_until_leader(10 * T_US) != 0);
}

static void
membership_removed_follower_is_told(void)
{
	cluster(3);
	elect(1);
	change(1, IDS(1, 2), 0);
	run(T_US);
	CHECK(!is_member(1, 3));
	CHECK(!is_member(3, 3));	/* it learned so, and stays quiet */
	CHECK(!raft_is_promotable(core(3)));
	run(10 * T_US);
	CHECK(is_leader(1));
	CHECK(raft_role(core(3)) == RAFT_FOLLOWER);
}

/* etcd confchange_v1_remove_leader_stepdown.txt, Ongaro 4.2.2 */
static void
membership_leader_removes_itself(void)
{
	uint64_t	index;

	cluster(3);
	elect(1);
	isolate(3);
	index = change(1, IDS(2, 3), 0);
	/* it leads on until that is committed, without counting itself */
	CHECK(is_leader(1));
	deliver_all(RAFT_MSG_APPEND, 1, 2);
	deliver_all(RAFT_MSG_APPEND_RESP, 2, 1);
	CHECK(commit_of(1) < index);
	heal();
	run(3 * HB_US);
	run(T_US);
	CHECK(!is_leader(1));
	CHECK(run_until_leader(5 * T_US) >= 2);
	CHECK(commit_of(leader_now()) >= index);
	CHECK(!is_member(leader_now(), 1));
	run(5 * T_US);
	CHECK(leader_now() >= 2);
	propose(leader_now(), "x");
	settle();
	CHECK_EQ(commit_of(leader_now()), last_of(leader_now()));
}

/* The last voter cannot go, targets that make no sense are refused. */
static void
membership_nonsense_is_refused(void)
{
	RaftConf	target;
	RaftStamp	stamp = {0};
	uint64_t	last;

	cluster(3);
	elect(1);
	last = last_of(1);
	CHECK_EQ(try_change(1, 0, IDS(1), NULL), RAFT_INVALID);
	CHECK_EQ(try_change(1, 0, 0, NULL), RAFT_INVALID);
	target = *raft_conf(core(1));
	target.members[2] = target.members[1];	/* the same id twice */
	CHECK_EQ(raft_propose_conf(core(1), &target, stamp, next_token(1), NULL), RAFT_INVALID);
	target = *raft_conf(core(1));
	target.members[0] = target.members[2];	/* not sorted */
	CHECK_EQ(raft_propose_conf(core(1), &target, stamp, next_token(1), NULL), RAFT_INVALID);
	target = *raft_conf(core(1));
	target.nmembers = RAFT_MAX_MEMBERS + 1;
	CHECK_EQ(raft_propose_conf(core(1), &target, stamp, next_token(1), NULL), RAFT_INVALID);
	target = *raft_conf(core(1));
	target.members[1].learner = true;	/* both */
	CHECK_EQ(raft_propose_conf(core(1), &target, stamp, next_token(1), NULL), RAFT_INVALID);
	target = *raft_conf(core(1));
	target.members[1].id = 0;
	CHECK_EQ(raft_propose_conf(core(1), &target, stamp, next_token(1), NULL), RAFT_INVALID);
	drain(1);
	CHECK_EQ(last_of(1), last);
	CHECK_EQ(try_change(2, IDS(1, 2), 0, NULL), RAFT_NOT_LEADER);
	/* as an ordinary proposal it may not come in at all */
	CHECK_EQ(raft_propose(core(1), RAFT_ENTRY_CONF, stamp, next_token(1), NULL, NULL),
			 RAFT_INVALID);
}

/* ---------- P-06 ---------- */

/* Ongaro's raft-dev posting of 2015-07-10: the rule. */
static void
P06_no_change_before_an_entry_of_the_own_term_is_committed(void)
{
	uint64_t	last;

	cluster(3);
	jump(2 * T_US);
	campaign(1);
	for (int i = 0; i < 100 && !is_leader(1); i++)
		deliver(ANY, ANY, ANY);
	CHECK(is_leader(1));
	last = last_of(1);
	CHECK(commit_of(1) < last);
	CHECK_EQ(try_change(1, IDS(1, 2, 3), IDS(4), NULL), RAFT_BUSY);
	CHECK_EQ(try_change(1, IDS(1, 2), 0, NULL), RAFT_BUSY);
	CHECK_EQ(last_of(1), last);
	settle();
	CHECK_EQ(try_change(1, IDS(1, 2), 0, NULL), RAFT_OK);
}

static void
P06_no_change_while_one_is_uncommitted(void)
{
	uint64_t	last;

	cluster(3);
	elect(1);
	change(1, IDS(1, 2, 3), IDS(4));
	last = last_of(1);
	CHECK_EQ(try_change(1, IDS(1, 2, 3), IDS(4, 5), NULL), RAFT_BUSY);
	CHECK_EQ(try_change(1, IDS(1, 2), 0, NULL), RAFT_BUSY);
	CHECK_EQ(last_of(1), last);
	settle();
	CHECK_EQ(try_change(1, IDS(1, 2, 3), IDS(4, 5), NULL), RAFT_OK);
}

/* A new leader that found an uncommitted change in its log (NuRaft#67). */
static void
P06_no_change_while_an_inherited_one_is_uncommitted(void)
{
	cluster(3);
	elect(1);
	change(1, IDS(1, 2, 3), IDS(4));
	deliver_all(RAFT_MSG_APPEND, 1, 2);
	drop(ANY, ANY, ANY);
	CHECK(is_member(2, 4));
	crash(1);
	jump(2 * T_US);
	campaign(2);
	for (int i = 0; i < 100 && !is_leader(2); i++)
		deliver(ANY, ANY, ANY);
	CHECK(is_leader(2));
	CHECK_EQ(try_change(2, IDS(2, 3), 0, NULL), RAFT_BUSY);
	settle();
	CHECK(is_member(3, 4));
	CHECK_EQ(try_change(2, IDS(2, 3), 0, NULL), RAFT_OK);
}

/*
 * The counter-examples. Two leaders of different terms each append a change
 * from the same old configuration; if the second may do so before anything of
 * its term is committed, the two new configurations have disjoint majorities.
 * `first` is what leader 1 appends and keeps to itself; `second` what 2 wants.
 */
static void
counter_example(Ids voters, Ids first, Ids second)
{
	harness_end();
	harness_begin();
	cluster_of(voters, 0);
	for (uint32_t id = 1; id <= 6; id++)
		if (!nodes[id].exists)
			add_node(id);
	elect(1);
	isolate(1);
	change(1, first, 0);		/* in force at 1, nobody else has it */

	/* 2 leads in a later term, and tries the other change as soon as it can */
	jump(2 * T_US);
	campaign(2);
	for (int i = 0; i < 200 && !is_leader(2); i++)
		deliver(ANY, ANY, ANY);
	CHECK(is_leader(2));
	CHECK_EQ(try_change(2, second, 0, NULL), RAFT_BUSY);
	settle();
	CHECK_EQ(try_change(2, second, 0, NULL), RAFT_OK);
	settle();
	CHECK(commit_of(2) == last_of(2));

	/* 1 comes back with its own majority, as far as it believes, and campaigns */
	restart(1);
	heal();
	isolate(2);
	jump(2 * T_US);
	campaign(1);
	settle();
	CHECK(!is_leader(1));		/* its log is behind what is committed */
	heal();
	check_converged();
}

static void
P06_counter_example_add_and_remove(void)
{
	counter_example(IDS(1, 2, 3, 4), IDS(1, 2, 3, 4, 5), IDS(2, 3, 4));
}

static void
P06_counter_example_two_adds(void)
{
	counter_example(IDS(1, 2, 3, 4), IDS(1, 2, 3, 4, 5), IDS(1, 2, 3, 4, 6));
}

static void
P06_counter_example_two_removes(void)
{
	counter_example(IDS(1, 2, 3, 4), IDS(1, 2, 4), IDS(2, 3, 4));
}

/* Two voters at once is joint, never a jump between disjoint majorities. */
static void
P06_two_changes_at_once_go_through_a_joint_one(void)
{
	cluster(3);
	add_node(4);
	add_node(5);
	elect(1);
	isolate(1);
	change(1, IDS(1, 4, 5), 0);
	CHECK(raft_conf(core(1))->joint);
	CHECK(raft_conf_find(raft_conf(core(1)), 2)->voter_outgoing);
	CHECK(!raft_conf_find(raft_conf(core(1)), 2)->voter);
	/* swap of one voter for another: two changes */
	heal();
	check_converged();
	CHECK(!raft_conf(core(leader_now()))->joint);
}

/* ---------- P-07 ---------- */

/* canonical/raft recvRollbackConfigurationToInitial / ToPrevious */
static void
P07_uncommitted_change_is_rolled_back(void)
{
	cluster(3);
	add_node(4);
	elect(1);
	isolate(1);
	change(1, IDS(1, 2, 3, 4), 0);
	CHECK(is_voter(1, 4));		/* in force at once */
	CHECK_EQ(raft_committed_conf(core(1))->nmembers, 3);
	elect(2);
	heal();
	run(5 * HB_US);
	CHECK(!is_member(1, 4));	/* and out of force with its entry */
	CHECK(!is_member(2, 4));
	check_converged();
}

static void
P07_rolled_back_to_the_previous_committed_one(void)
{
	cluster(3);
	add_node(4);
	add_node(5);
	elect(1);
	change(1, IDS(1, 2, 3), IDS(4));
	settle();
	isolate(1);
	change(1, IDS(1, 2, 3), IDS(4, 5));
	CHECK(is_member(1, 5));
	elect(2);
	heal();
	run(5 * HB_US);
	CHECK(is_member(1, 4));
	CHECK(!is_member(1, 5));
	check_converged();
}

/* Restart with the uncommitted one in the log: in force again, undone later. */
static void
P07_uncommitted_change_survives_a_restart_and_is_undone(void)
{
	uint64_t	index;

	cluster(3);
	add_node(4);
	elect(1);
	isolate(1);
	index = change(1, IDS(1, 2, 3), IDS(4));
	restart(1);
	CHECK(is_member(1, 4));
	CHECK_EQ(raft_conf(core(1))->index, index);
	CHECK(raft_committed_conf(core(1))->index < index);
	elect(2);
	heal();
	run(5 * HB_US);
	CHECK(!is_member(1, 4));
	check_converged();
}

/* A leader uses the new majority for the very entry that makes it. */
static void
P07_new_configuration_counts_from_its_own_entry(void)
{
	uint64_t	index;

	cluster(3);
	add_node(4);
	elect(1);
	isolate(3);
	isolate(4);
	index = change(1, IDS(1, 2, 3, 4), 0);
	settle();
	CHECK_EQ(commit_of(1), index - 1);	/* 1 and 2 are no majority of four */
	heal();
	run(4 * HB_US);
	CHECK_EQ(commit_of(1), index);
}

/* Removal: the smaller majority commits its own entry; the removed one does not count. */
static void
P07_removed_member_does_not_count(void)
{
	uint64_t	index;

	cluster(4);
	elect(1);
	isolate(2);
	isolate(3);
	index = change(1, IDS(1, 2, 3), 0);
	settle();
	run(2 * HB_US);
	CHECK_EQ(commit_of(1), index - 1);	/* 1 and 4: 4 is out */
	uncut(1, 2);
	uncut(2, 1);
	run(4 * HB_US);
	CHECK_EQ(commit_of(1), index);
}

/* etcd#11284: members that activate at different times must not elect two leaders. */
static void
P07_members_that_lag_cannot_elect_a_second_leader(void)
{
	cluster(2);
	add_node(3);
	elect(1);
	change(1, IDS(1, 2, 3), 0);
	deliver_all(RAFT_MSG_APPEND, 1, 3);
	deliver_all(RAFT_MSG_APPEND_RESP, 3, 1);
	run_until_leader(T_US);
	drop(ANY, ANY, 2);
	/* 2 does not know 3: its majority is {1, 2} */
	isolate_groups(IDS(1), IDS(2, 3));
	jump(2 * T_US);
	campaign(2);
	settle();
	run(4 * T_US);
	heal();
	check_converged();
}

/* The committed one is announced, once, when it is durable here. */
static void
P07_committed_configuration_is_saved(void)
{
	uint64_t	index;

	cluster(3);
	elect(1);
	hold_disk(2);
	index = change(1, IDS(1, 2, 3), IDS(4));
	settle();
	run(2 * HB_US);
	CHECK_EQ(raft_conf(core(2))->index, index);
	CHECK(node(2)->conf.index < index);
	release_disk(2);
	CHECK_EQ(node(2)->conf.index, index);
	CHECK_EQ(node(1)->conf.index, index);
	restart(2);
	CHECK_EQ(raft_conf(core(2))->index, index);
	CHECK(is_member(2, 4));
}

/* Ids are not given out twice, over removals and restarts. */
static void
P07_next_id_never_goes_back(void)
{
	cluster(3);
	elect(1);
	CHECK_EQ(raft_conf(core(1))->next_id, 4);
	change(1, IDS(1, 2, 3), IDS(4));
	settle();
	CHECK_EQ(raft_conf(core(1))->next_id, 5);
	change(1, IDS(1, 2, 3), 0);
	settle();
	CHECK_EQ(raft_conf(core(1))->next_id, 5);
	run(T_US);
	restart(2);
	CHECK_EQ(raft_conf(core(2))->next_id, 5);
	elect(2);
	CHECK_EQ(raft_conf(core(2))->next_id, 5);
}

const Test	tests_membership[] = {
	TEST(membership_learner_catches_up_and_is_promoted),
	TEST(membership_learner_does_not_count),
	TEST(membership_of_one_grows_to_three),
	TEST(membership_removed_follower_is_told),
	TEST(membership_leader_removes_itself),
	TEST(membership_nonsense_is_refused),
	TEST(P06_no_change_before_an_entry_of_the_own_term_is_committed),
	TEST(P06_no_change_while_one_is_uncommitted),
	TEST(P06_no_change_while_an_inherited_one_is_uncommitted),
	TEST(P06_counter_example_add_and_remove),
	TEST(P06_counter_example_two_adds),
	TEST(P06_counter_example_two_removes),
	TEST(P06_two_changes_at_once_go_through_a_joint_one),
	TEST(P07_uncommitted_change_is_rolled_back),
	TEST(P07_rolled_back_to_the_previous_committed_one),
	TEST(P07_uncommitted_change_survives_a_restart_and_is_undone),
	TEST(P07_new_configuration_counts_from_its_own_entry),
	TEST(P07_removed_member_does_not_count),
	TEST(P07_members_that_lag_cannot_elect_a_second_leader),
	TEST(P07_committed_configuration_is_saved),
	TEST(P07_next_id_never_goes_back),
	{NULL, NULL}
};
