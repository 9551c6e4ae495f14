/*-------------------------------------------------------------------------
 *
 * test_transfer.c
 *		Leadership transfer (P-43): etcd's fifteen TestLeaderTransfer* in meaning.
 *		Leases during a transfer: test_reads.c (P-41).
 *
 *-------------------------------------------------------------------------
 */
#include "harness.h"

static void
P43_to_an_up_to_date_member(void)
{
	uint64_t	term;

	cluster(3);
	elect(1);
	run(HB_US);
	term = raft_term(core(1));
	CHECK_EQ(transfer(1, 2), RAFT_OK);
	CHECK_EQ(raft_transferee(core(1)), 2);
	settle();					/* at once, in spite of the leader being alive */
	CHECK(is_leader(2));
	CHECK_EQ(raft_term(core(2)), term + 1);
	CHECK_EQ(raft_leader(core(1)), 2);
	CHECK_EQ(raft_transferee(core(1)), 0);
	propose(2, "x");
	settle();
	CHECK_EQ(transfer(2, 1), RAFT_OK);
	settle();
	CHECK(is_leader(1));
	check_converged();
}

static void
P43_only_by_the_leader(void)
{
	cluster(3);
	CHECK_EQ(transfer(2, 3), RAFT_NOT_LEADER);
	elect(1);
	CHECK_EQ(transfer(2, 3), RAFT_NOT_LEADER);
	CHECK_EQ(transfer(2, 2), RAFT_NOT_LEADER);
}

/* etcd TestLeaderTransferToSlowFollower: it catches up first. */
static void
P43_to_a_lagging_member(void)
{
	cluster(3);
	elect(1);
	isolate(3);
	for (int i = 0; i < 20; i++)
		propose(1, "a");
	settle();
	heal();
	CHECK_EQ(transfer(1, 3), RAFT_OK);
	CHECK_EQ(count_msgs(RAFT_MSG_TIMEOUT_NOW, 1, 3), 0);	/* not yet */
	settle();
	run(3 * HB_US);
	CHECK(is_leader(3));
	CHECK(logs_equal(1, 3));
	check_converged();
}

/* etcd TestLeaderTransferAfterSnapshot */
static void
P43_to_a_member_that_needs_an_image(void)
{
	cluster(3);
	elect(1);
	isolate(3);
	for (int i = 0; i < 20; i++)
		propose(1, "a");
	settle();
	run(HB_US);
	compact(1, commit_of(1) + 1);
	heal();
	run(2 * HB_US);
	CHECK(node(3)->install);
	CHECK_EQ(transfer(1, 3), RAFT_OK);
	settle();
	CHECK(!is_leader(3));
	CHECK_EQ(install(3, 1), RAFT_OK);
	run(4 * HB_US);
	CHECK(is_leader(3));
	check_converged();
}

static void
P43_to_itself_learner_stranger(void)
{
	cluster_of(IDS(1, 2, 3), IDS(4));
	elect(1);
	CHECK_EQ(transfer(1, 1), RAFT_OK);
	CHECK_EQ(raft_transferee(core(1)), 0);
	CHECK_EQ(transfer(1, 4), RAFT_INVALID);
	CHECK_EQ(transfer(1, 9), RAFT_UNKNOWN_MEMBER);
	CHECK_EQ(transfer(1, 0), RAFT_UNKNOWN_MEMBER);
	CHECK_EQ(raft_transferee(core(1)), 0);
	CHECK_EQ(try_propose(1, "x", NULL), RAFT_OK);
	settle();
	CHECK(is_leader(1));
}

/* etcd TestLeaderTransferTimeout */
static void
P43_given_up_after_an_election_timeout(void)
{
	int64_t		start;

	cluster(3);
	elect(1);
	run(HB_US);
	isolate(3);
	start = now_us;
	CHECK_EQ(transfer(1, 3), RAFT_OK);
	CHECK_EQ(try_propose(1, "x", NULL), RAFT_TRANSFERRING);
	run(T_US / 2);
	CHECK_EQ(raft_transferee(core(1)), 3);
	while (raft_transferee(core(1)) != 0 && now_us - start < 3 * T_US)
		run(HB_US / 2);
	CHECK(now_us - start <= T_US + HB_US);
	CHECK(is_leader(1));
	CHECK_EQ(try_propose(1, "x", NULL), RAFT_OK);
	settle();
	CHECK_EQ(commit_of(1), last_of(1));
}

/* etcd TestLeaderTransferIgnoreProposal */
static void
P43_proposals_are_refused_meanwhile(void)
{
	uint64_t	last;

	cluster(3);
	elect(1);
	isolate(3);
	last = last_of(1);
	CHECK_EQ(transfer(1, 3), RAFT_OK);
	CHECK_EQ(try_propose(1, "x", NULL), RAFT_TRANSFERRING);
	CHECK_EQ(try_change(1, IDS(1, 2), 0, NULL), RAFT_TRANSFERRING);
	CHECK_EQ(last_of(1), last);
	/* entries on their way are still committed, reads still answered */
	read_index(1, 1);
	settle();
	CHECK(read_of(1, 1)->done);
}

/* etcd TestLeaderTransferReceiveHigherTermVote */
static void
P43_higher_term_ends_it(void)
{
	cluster(3);
	elect(1);
	isolate(3);
	CHECK_EQ(transfer(1, 3), RAFT_OK);
	/* 2 leads in a later term, by votes of a configuration that 1 does not know */
	inject(1, message(RAFT_MSG_HEARTBEAT, 2, 1, raft_term(core(1)) + 1));
	CHECK(!is_leader(1));
	CHECK_EQ(raft_transferee(core(1)), 0);
	CHECK_EQ(try_propose(1, "x", NULL), RAFT_NOT_LEADER);
	heal();
	check_converged();
}

/* etcd TestLeaderTransferRemoveNode: the target leaves; here the change is refused
 * while the transfer lasts, and a removed one is no target. */
static void
P43_removed_target(void)
{
	cluster(3);
	elect(1);
	isolate(3);
	CHECK_EQ(transfer(1, 3), RAFT_OK);
	CHECK_EQ(try_change(1, IDS(1, 2), 0, NULL), RAFT_TRANSFERRING);
	run(T_US + 2 * HB_US);
	CHECK_EQ(raft_transferee(core(1)), 0);
	CHECK_EQ(try_change(1, IDS(1, 2), 0, NULL), RAFT_OK);
	CHECK_EQ(transfer(1, 3), RAFT_UNKNOWN_MEMBER);
	settle();
	CHECK_EQ(transfer(1, 2), RAFT_OK);
	settle();
	CHECK(is_leader(2));
}

/* etcd TestLeaderTransferDemoteNode */
static void
P43_demoted_target(void)
{
	cluster(3);
	elect(1);
	CHECK_EQ(try_change(1, IDS(1, 2), IDS(3), NULL), RAFT_OK);
	CHECK_EQ(transfer(1, 3), RAFT_INVALID);
	settle();
	CHECK_EQ(transfer(1, 3), RAFT_INVALID);
}

/* A target in the outgoing half of a joint configuration is on its way out. */
static void
P43_outgoing_voter_is_no_target(void)
{
	cluster_of(IDS(1, 2, 3), IDS(4, 5));
	elect(1);
	CHECK_EQ(try_change_explicit(1, IDS(1, 4, 5), 0, NULL), RAFT_OK);
	settle();
	CHECK(transfer(1, 2) != RAFT_OK);
	CHECK_EQ(transfer(1, 4), RAFT_OK);
	settle();
	CHECK(is_leader(4));
}

/* etcd TestLeaderTransferBack */
static void
P43_back_to_itself_gives_up(void)
{
	cluster(3);
	elect(1);
	isolate(3);
	CHECK_EQ(transfer(1, 3), RAFT_OK);
	CHECK_EQ(transfer(1, 1), RAFT_OK);
	CHECK_EQ(raft_transferee(core(1)), 0);
	CHECK_EQ(try_propose(1, "x", NULL), RAFT_OK);
	settle();
	CHECK_EQ(commit_of(1), last_of(1));
}

/* etcd TestLeaderTransferSecondTransferToAnotherNode */
static void
P43_second_transfer_to_another(void)
{
	cluster(3);
	elect(1);
	isolate(3);
	CHECK_EQ(transfer(1, 3), RAFT_OK);
	CHECK_EQ(transfer(1, 2), RAFT_OK);
	CHECK_EQ(raft_transferee(core(1)), 2);
	settle();
	run(2 * HB_US);
	CHECK(is_leader(2));
}

/* etcd TestLeaderTransferSecondTransferToSameNode: the time does not start anew. */
static void
P43_second_transfer_to_the_same(void)
{
	int64_t		start;

	cluster(3);
	elect(1);
	run(HB_US);
	isolate(3);
	start = now_us;
	CHECK_EQ(transfer(1, 3), RAFT_OK);
	for (int i = 0; i < 20 && raft_transferee(core(1)) != 0; i++)
	{
		run(HB_US);
		if (raft_transferee(core(1)) != 0)
			CHECK_EQ(transfer(1, 3), RAFT_OK);
	}
	CHECK(now_us - start <= T_US + 2 * HB_US);
	CHECK(is_leader(1));
}

/* The target crashes with the order in hand. */
static void
P43_target_crashes(void)
{
	cluster(3);
	elect(1);
	CHECK_EQ(transfer(1, 2), RAFT_OK);
	crash(2);
	settle();
	run(2 * T_US);
	CHECK(is_leader(1));
	CHECK_EQ(raft_transferee(core(1)), 0);
	restart(2);
	check_converged();
}

/* The order names a log: one with more or less in it is not meant. */
static void
P43_order_is_void_with_another_log(void)
{
	RaftMsg		m;
	uint64_t	term;

	cluster(3);
	elect(1);
	propose(1, "a");
	settle();
	term = raft_term(core(1));
	m = message(RAFT_MSG_TIMEOUT_NOW, 1, 2, term);
	m.index = last_of(2) - 1;
	m.log_term = 1;
	inject(2, m);
	m.index = last_of(2) + 1;
	inject(2, m);
	m.index = last_of(2);
	m.log_term = 0;
	inject(2, m);
	CHECK_EQ(raft_term(core(2)), term);

	/* nor from somebody who does not lead, nor of an old term */
	m = message(RAFT_MSG_TIMEOUT_NOW, 3, 2, term);
	m.index = last_of(2);
	m.log_term = 1;
	inject(2, m);
	CHECK_EQ(raft_term(core(2)), term);
	CHECK_EQ(raft_leader(core(2)), 1);
}

/* A learner that gets one stays what it is. */
static void
P43_learner_does_not_obey(void)
{
	RaftMsg		m;

	cluster_of(IDS(1, 2), IDS(3));
	elect(1);
	run(HB_US);
	m = message(RAFT_MSG_TIMEOUT_NOW, 1, 3, raft_term(core(1)));
	m.index = last_of(3);
	m.log_term = raft_term(core(1));
	inject(3, m);
	settle();
	CHECK_EQ(raft_role(core(3)), RAFT_FOLLOWER);
	CHECK(is_leader(1));
}

/* Order and leader's own end cross: doubled orders make no two terms of trouble. */
static void
P43_doubled_order(void)
{
	cluster(3);
	elect(1);
	CHECK_EQ(transfer(1, 2), RAFT_OK);
	duplicate(RAFT_MSG_TIMEOUT_NOW, 1, 2);
	settle();
	CHECK(is_leader(2));
	check_converged();
	CHECK(is_leader(2));
}

/* Transfer with a majority of slow disks: nothing is lost on the way. */
static void
P43_with_entries_in_flight(void)
{
	uint64_t	index = 0;

	cluster(5);
	elect(1);
	hold_disk(3);
	hold_disk(4);
	for (int i = 0; i < 5; i++)
		index = propose(1, "a");
	CHECK_EQ(transfer(1, 2), RAFT_OK);
	settle();
	run(HB_US);
	release_disk(3);
	release_disk(4);
	check_converged();
	CHECK(commit_of(leader_now()) >= index);
	CHECK(has_data(leader_now(), index, "a"));
}

const Test	tests_transfer[] = {
	TEST(P43_to_an_up_to_date_member),
	TEST(P43_only_by_the_leader),
	TEST(P43_to_a_lagging_member),
	TEST(P43_to_a_member_that_needs_an_image),
	TEST(P43_to_itself_learner_stranger),
	TEST(P43_given_up_after_an_election_timeout),
	TEST(P43_proposals_are_refused_meanwhile),
	TEST(P43_higher_term_ends_it),
	TEST(P43_removed_target),
	TEST(P43_demoted_target),
	TEST(P43_outgoing_voter_is_no_target),
	TEST(P43_back_to_itself_gives_up),
	TEST(P43_second_transfer_to_another),
	TEST(P43_second_transfer_to_the_same),
	TEST(P43_target_crashes),
	TEST(P43_order_is_void_with_another_log),
	TEST(P43_learner_does_not_obey),
	TEST(P43_doubled_order),
	TEST(P43_with_entries_in_flight),
	{NULL, NULL}
};
