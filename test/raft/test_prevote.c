/*-------------------------------------------------------------------------
 *
 * test_prevote.c
 *		Who may disturb whom: pre-vote, check-quorum, sticky leader, learners that
 *		are asked to vote (P-10, P-11), and topologies that must settle.
 *
 *-------------------------------------------------------------------------
 */
#include "harness.h"

/* etcd campaign_learner_must_vote.txt */
static void
P10_learner_votes_when_asked(void)
{
	cluster_of(IDS(1, 2), IDS(3));
	elect(1);
	change(1, IDS(1, 2, 3), 0);
	settle_only(IDS(1, 2));
	drop(ANY, ANY, 3);
	CHECK(raft_conf_find(raft_conf(core(2)), 3)->voter);
	CHECK(!raft_conf_find(raft_conf(core(3)), 3)->voter);

	crash(1);
	jump(2 * T_US);
	campaign(2);
	settle();
	CHECK(is_leader(2));		/* with 3's vote */
	CHECK_EQ(commit_of(2), last_of(2));
	CHECK(raft_conf_find(raft_conf(core(3)), 3)->voter);
}

/* A learner itself does not campaign. */
static void
P10_learner_never_campaigns(void)
{
	cluster_of(IDS(1, 2), IDS(3));
	CHECK(!raft_is_promotable(core(3)));
	isolate(1);
	isolate(2);
	run(10 * T_US);
	CHECK_EQ(raft_role(core(3)), RAFT_FOLLOWER);
	CHECK_EQ(raft_term(core(3)), 0);
	campaign(3);
	CHECK_EQ(raft_role(core(3)), RAFT_FOLLOWER);
	CHECK_EQ(count_msgs(ANY, 3, ANY), 0);
}

/* ---------- P-11 ---------- */

static void
P11_isolated_member_does_not_raise_terms(void)
{
	uint64_t	term;

	cluster(3);
	elect(1);
	term = raft_term(core(1));
	isolate(3);
	run(30 * T_US);
	CHECK_EQ(raft_term(core(3)), term);
	heal();
	run(3 * T_US);
	CHECK(is_leader(1));
	CHECK_EQ(raft_term(core(1)), term);
	CHECK_EQ(raft_leader(core(3)), 1);
}

/* etcd TestDisruptiveFollowerPreVote, TestPreVoteWithCheckQuorum */
static void
P11_follower_that_hears_nobody_does_not_disrupt(void)
{
	uint64_t	term;

	cluster(3);
	elect(1);
	term = raft_term(core(1));
	cut(1, 3);					/* 3 is heard, but hears only 2 */
	for (int i = 0; i < 20; i++)
	{
		run(T_US);
		CHECK(is_leader(1));
	}
	CHECK_EQ(raft_term(core(1)), term);
	CHECK_EQ(raft_term(core(2)), term);
	heal();
	check_converged();
}

/* A vote request of a higher term, not only a pre-vote, from a disrupter. */
static void
P11_sticky_leader_ignores_higher_terms_of_candidates(void)
{
	uint64_t	term;

	cluster(3);
	elect(1);
	run(HB_US);
	term = raft_term(core(1));
	for (uint32_t id = 1; id <= 2; id++)
	{
		RaftMsg		m = message(RAFT_MSG_VOTE, 3, id, term + 7);

		m.index = 100;
		m.log_term = term + 6;
		inject(id, m);
		CHECK_EQ(raft_term(core(id)), term);
		CHECK_EQ(node(id)->hard.vote, 1);
	}
	settle();
	CHECK(is_leader(1));
}

/*
 * etcd TestFreeStuckCandidateWithCheckQuorum, TestPreVoteMigrationWithFreeStuck...:
 * a member with a higher term than the leader's, which nobody votes for. The
 * leader must hear of it, and the group get together again.
 */
static void
P11_member_stuck_at_a_higher_term_is_freed(void)
{
	cluster(3);
	elect(1);
	propose(1, "a");
	settle();
	crash(3);
	node(3)->hard.term = 50;
	node(3)->hard.vote = 3;
	node(3)->hard_out = node(3)->hard;
	propose(1, "b");			/* 3 cannot win */
	settle();
	restart(3);
	check_converged();
	CHECK(raft_term(core(1)) >= 50);
}

/* The same when it only hears appends, never heartbeats, and the other way. */
static void
P11_stale_leader_is_answered(void)
{
	cluster(3);
	jump(2 * T_US);
	inject(2, message(RAFT_MSG_HEARTBEAT, 3, 2, 9));
	drop(ANY, ANY, ANY);
	inject(2, message(RAFT_MSG_APPEND, 1, 2, 4));
	CHECK_EQ(count_msgs(ANY, 2, 1), 1);
	CHECK_EQ(peek(ANY, 2, 1)->term, 9);
	drop(ANY, ANY, ANY);
	inject(2, message(RAFT_MSG_HEARTBEAT, 1, 2, 4));
	CHECK_EQ(count_msgs(ANY, 2, 1), 1);
	CHECK_EQ(peek(ANY, 2, 1)->term, 9);
	CHECK_EQ(raft_term(core(2)), 9);
	CHECK_EQ(raft_leader(core(2)), 3);
}

/* CRDB leader_step_down_stranded_peer_prevote.txt: one peer is left at a new term. */
static void
P11_stranded_peer_catches_up_in_terms(void)
{
	cluster(3);
	jump(2 * T_US);

	/* 3 becomes candidate of term 1, and its requests are lost */
	campaign(3);
	deliver(RAFT_MSG_PREVOTE, 3, 2);
	deliver(RAFT_MSG_PREVOTE_RESP, 2, 3);
	CHECK_EQ(raft_role(core(3)), RAFT_CANDIDATE);
	drop(ANY, ANY, ANY);
	isolate(3);
	elect(1);
	propose(1, "a");
	settle();
	heal();
	check_converged();
}

/* etcd TestLeaderStepdownWhenQuorumLost; interface.md: at most two timeouts. */
static void
P11_leader_without_a_quorum_steps_down(void)
{
	int64_t		start;

	cluster(5);
	elect(1);
	run(T_US);
	CHECK(raft_has_quorum(core(1), now_us));
	start = now_us;
	isolate_groups(IDS(1, 2), IDS(3, 4, 5));
	while (is_leader(1) && now_us - start < 3 * T_US)
		run(HB_US);
	CHECK(!is_leader(1));
	CHECK(now_us - start <= 2 * T_US + 2 * HB_US);
	CHECK(!raft_has_quorum(core(1), now_us + 2 * T_US));
	run(6 * T_US);
	CHECK(leader_now() >= 3);
}

static void
P11_leader_with_a_quorum_stays(void)
{
	uint64_t	term;

	cluster(5);
	elect(1);
	term = raft_term(core(1));
	isolate(4);
	isolate(5);
	for (int i = 0; i < 15; i++)
	{
		run(T_US);
		CHECK(is_leader(1));
		CHECK(raft_has_quorum(core(1), now_us));
	}
	CHECK_EQ(raft_term(core(1)), term);
}

/* Learners and members that left do not make up a leader's quorum. */
static void
P11_learners_do_not_keep_a_leader(void)
{
	cluster_of(IDS(1, 2, 3), IDS(4, 5));
	elect(1);
	isolate(2);
	isolate(3);
	run(3 * T_US);
	CHECK(!is_leader(1));
}

/* Howard 2020: five members, links 4-2 and 5-3 ... of the old leader are left. */
static void
P11_partial_partition_settles(void)
{
	uint32_t	leader;

	/* only 2-1, 2-3, 2-4, 2-5 work: 2 is the only one that can lead */
	cluster(5);
	elect(4);
	for (uint32_t a = 1; a <= 5; a++)
		for (uint32_t b = 1; b <= 5; b++)
			if (a != 2 && b != 2)
				cut(a, b);
	leader = 0;
	for (int i = 0; i < 60 && leader != 2; i++)
	{
		run(T_US);
		leader = leader_now();
	}
	CHECK_EQ(leader, 2);
	run(T_US);
	propose(2, "a");
	settle();
	CHECK_EQ(commit_of(2), last_of(2));
	for (int i = 0; i < 10; i++)
	{
		run(T_US);
		CHECK(is_leader(2));
	}
}

/* The topology of the Cloudflare outage: the leader 4 keeps one link, to 2. */
static void
P11_leader_with_one_link_left(void)
{
	uint32_t	leader = 0;

	cluster(5);
	elect(4);
	for (uint32_t id = 1; id <= 5; id++)
		if (id != 2 && id != 4)
		{
			cut(4, id);
			cut(id, 4);
		}
	/* and 5 only talks to 3 */
	for (uint32_t id = 1; id <= 5; id++)
		if (id != 3 && id != 5)
		{
			cut(5, id);
			cut(id, 5);
		}
	for (int i = 0; i < 60; i++)
	{
		run(T_US);
		leader = leader_now();
		if (leader == 2 || leader == 3)
			break;
	}
	CHECK(leader == 2 || leader == 3);
	run(T_US);
	propose(leader, "a");
	run(2 * T_US);
	CHECK_EQ(commit_of(leader), last_of(leader));
}

/* A chain: 1-2-3, so that 1 and 3 never hear each other. */
static void
P11_chained_partition_settles(void)
{
	uint64_t	term;

	cluster(3);
	elect(1);
	cut(1, 3);
	cut(3, 1);
	run(10 * T_US);
	term = raft_term(core(2));
	CHECK(leader_now() != 0);
	run(20 * T_US);
	CHECK_EQ(raft_term(core(2)), term);
}

/* One way: the leader is heard by all and hears nobody. */
static void
P11_deaf_leader_steps_down(void)
{
	cluster(3);
	elect(1);
	cut(2, 1);
	cut(3, 1);
	run(8 * T_US);
	CHECK(!is_leader(1));
	CHECK(leader_now() == 2 || leader_now() == 3);
}

/* One way: the leader hears all and is heard by nobody. */
static void
P11_mute_leader_is_replaced(void)
{
	cluster(3);
	elect(1);
	cut(1, 2);
	cut(1, 3);
	run(8 * T_US);
	CHECK(leader_now() == 2 || leader_now() == 3);
	heal();
	check_converged();
}

/* A member that was removed and does not know it. */
static void
P11_removed_member_does_not_disrupt(void)
{
	uint64_t	term;

	cluster(4);
	elect(1);
	isolate(4);
	change(1, IDS(1, 2, 3), 0);
	settle();
	run(T_US);
	term = raft_term(core(1));
	heal();
	for (int i = 0; i < 15; i++)
	{
		run(T_US);
		CHECK(is_leader(1));
		CHECK_EQ(raft_term(core(1)), term);
	}
}

/* Two pre-candidates at once must not refuse each other for ever. */
static void
P11_prevote_split_ends(void)
{
	cluster(3);
	elect(1);
	crash(1);
	jump(2 * T_US);
	campaign(2);
	campaign(3);
	settle();
	CHECK(run_until_leader(10 * T_US) != 0);
}

/* design.md 7: a dropped connection from the leader's host starts a pre-vote. */
static void
P11_lost_connection_elects_soon(void)
{
	int64_t		start;

	cluster(3);
	elect(1);
	run(HB_US);
	start = now_us;
	crash(1);
	raft_peer_down(core(2), 1, now_us);
	drain(2);
	raft_peer_down(core(3), 1, now_us);
	drain(3);
	settle();
	while (leader_now() == 0 && now_us - start < T_US)
		run(10000);
	CHECK(leader_now() != 0);
	CHECK(now_us - start < T_US / 2);

	/* one that alone lost its connection gets no votes */
	harness_end();
	harness_begin();
	cluster(3);
	elect(1);
	run(HB_US);
	raft_peer_down(core(2), 1, now_us);
	drain(2);
	settle();
	CHECK(is_leader(1));
	run(T_US);
	CHECK(is_leader(1));
	CHECK_EQ(raft_leader(core(2)), 1);
}

const Test	tests_prevote[] = {
	TEST(P10_learner_votes_when_asked),
	TEST(P10_learner_never_campaigns),
	TEST(P11_isolated_member_does_not_raise_terms),
	TEST(P11_follower_that_hears_nobody_does_not_disrupt),
	TEST(P11_sticky_leader_ignores_higher_terms_of_candidates),
	TEST(P11_member_stuck_at_a_higher_term_is_freed),
	TEST(P11_stale_leader_is_answered),
	TEST(P11_stranded_peer_catches_up_in_terms),
	TEST(P11_leader_without_a_quorum_steps_down),
	TEST(P11_leader_with_a_quorum_stays),
	TEST(P11_learners_do_not_keep_a_leader),
	TEST(P11_partial_partition_settles),
	TEST(P11_leader_with_one_link_left),
	TEST(P11_chained_partition_settles),
	TEST(P11_deaf_leader_steps_down),
	TEST(P11_mute_leader_is_replaced),
	TEST(P11_removed_member_does_not_disrupt),
	TEST(P11_prevote_split_ends),
	TEST(P11_lost_connection_elects_soon),
	{NULL, NULL}
};
