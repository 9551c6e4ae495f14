/*-------------------------------------------------------------------------
 *
 * test_identity.c
 *		Members whose disk was wiped, lost acknowledged entries, or hangs (P-32 as
 *		far as the core takes part in it, P-34, P-35).
 *
 *-------------------------------------------------------------------------
 */
#include "harness.h"

/* ---------- P-32 ---------- */

/* 1 and 3 have the last entries; 3's disk loses them. */
static uint64_t
lossy_member(void)
{
	uint64_t	index = 0;

	cluster(3);
	elect(1);
	propose(1, "a");
	settle();
	run(HB_US);
	isolate(2);
	for (int i = 0; i < 3; i++)
		index = propose(1, "committed by 1 and 3");
	settle();
	run(HB_US);
	CHECK_EQ(commit_of(1), index);
	quorum_oracle = false;		/* it is broken from outside now */
	lose_tail(3, 2);
	return index;
}

static void
P32_lost_entries_are_sent_again(void)
{
	uint64_t	index = lossy_member();

	restart(3);
	CHECK(raft_is_recovering(core(3)));
	heal();
	run(4 * HB_US);
	CHECK(is_leader(1));
	CHECK(has_data(3, index, "committed by 1 and 3"));
	CHECK(!raft_is_recovering(core(3)));
	CHECK_EQ(node(3)->distrusted_until, 0);
	CHECK(raft_is_promotable(core(3)));
	check_converged();
}

/* Not before they are durable, and not with anything less. */
static void
P32_trusted_only_when_they_are_on_disk(void)
{
	uint64_t	index = lossy_member();

	restart(3);
	hold_disk(3);
	run(4 * HB_US);
	CHECK_EQ(last_of(3), index);
	CHECK(raft_is_recovering(core(3)));
	CHECK(!raft_is_promotable(core(3)));
	restart(3);					/* lost again, with the crash */
	CHECK(raft_is_recovering(core(3)));
	run(4 * HB_US);
	CHECK(!raft_is_recovering(core(3)));
	heal();
	check_converged();
}

/* Without 1 the entries exist nowhere: 2 must not be elected with 3's vote. */
static void
P32_no_vote_and_no_campaign_before(void)
{
	uint64_t	index = lossy_member();

	crash(1);
	restart(3);
	heal();
	for (int i = 0; i < 4; i++)
	{
		jump(2 * T_US);
		campaign(2);
		campaign(3);
		settle();
		CHECK_EQ(leader_now(), 0);
	}
	run(10 * T_US);
	CHECK_EQ(leader_now(), 0);
	inject(3, message(RAFT_MSG_VOTE, 2, 3, 50));	/* of an empty log, but still */
	CHECK(node(3)->hard.vote != 2);
	drop(ANY, ANY, ANY);
	restart(1);
	check_converged();
	CHECK(has_data(2, index, "committed by 1 and 3"));
	CHECK(!raft_is_recovering(core(3)));
}

/* An acknowledgement from before the loss, late: it costs no liveness. */
static void
P32_late_acknowledgement_of_lost_entries(void)
{
	Packet	   *late;
	uint64_t	index;

	cluster(3);
	elect(1);
	run(HB_US);
	isolate(2);
	propose(1, "a");
	index = propose(1, "b");
	deliver_all(RAFT_MSG_APPEND, 1, 3);
	late = NULL;
	while (count_msgs(RAFT_MSG_APPEND_RESP, 3, 1) > 0)
	{
		if (late != NULL)
			packet_free(late);
		late = take(RAFT_MSG_APPEND_RESP, 3, 1);
	}
	CHECK_EQ(late->msg.index, index);
	quorum_oracle = false;
	lose_tail(3, 2);
	restart(3);
	put(copy_packet(late));
	settle();
	put(late);
	run(4 * HB_US);
	CHECK(has_data(3, index, "b"));
	heal();
	check_converged();
	CHECK(!raft_is_recovering(core(3)));
}

/*
 * The tables are ahead of what is left of the log: the lost entries are handed
 * out once more, and the driver, whose tables say what they have, skips them.
 */
static void
P32_applied_above_the_salvaged_log(void)
{
	uint64_t	index = lossy_member();

	node(3)->give_applied = true;
	node(3)->applied = index;
	restart(3);
	CHECK(raft_is_recovering(core(3)));
	heal();
	check_converged();
	CHECK_EQ(node(3)->applied, last_of(3));
}

/* All of a leader's majority but itself lossy, one after the other. */
static void
P32_leader_loses_its_tail(void)
{
	uint64_t	index;

	cluster(3);
	elect(1);
	index = propose(1, "a");
	settle();
	run(HB_US);
	quorum_oracle = false;
	lose_tail(1, 1);
	restart(1);
	CHECK(!raft_is_promotable(core(1)));
	run(6 * T_US);
	CHECK(leader_now() >= 2);
	check_converged();
	CHECK(has_data(1, index, "a"));
	CHECK(!raft_is_recovering(core(1)));
}

/* ---------- P-34 ---------- */

/*
 * An entry is committed by 1 and 3; 3's disk is wiped and 1 dies. 2, which lacks
 * the entry, must not be elected by 3's new self.
 */
static void
wiped_voter(bool knows_members)
{
	uint64_t	index;

	harness_end();
	harness_begin();
	cluster(3);
	elect(1);
	isolate(2);
	index = propose(1, "committed by 1 and 3");
	settle();
	CHECK_EQ(commit_of(1), index);
	quorum_oracle = false;
	wipe(3);
	if (!knows_members)
	{
		memset(&node(3)->conf, 0, sizeof(RaftConf));
		node(3)->conf.next_id = 1;
	}
	if (try_restart(3) != RAFT_OK)
		node(3)->up = false;
	crash(1);
	heal();
	for (int i = 0; i < 4; i++)
	{
		jump(2 * T_US);
		campaign(2);
		settle();
		CHECK(!is_leader(2));
	}
	run(20 * T_US);
	CHECK_EQ(leader_now(), 0);	/* no majority: no availability, and nothing lost */
	restart(1);
	run(10 * T_US);
	CHECK(leader_now() == 1);
	CHECK(has_data(2, index, "committed by 1 and 3"));
}

static void
P34_wiped_voter_that_knows_the_members(void)
{
	wiped_voter(true);
}

static void
P34_wiped_voter_that_knows_nothing(void)
{
	wiped_voter(false);
}

/* Its acknowledgements do not count either. */
static void
P34_wiped_voter_does_not_commit(void)
{
	uint64_t	index;

	cluster(3);
	elect(1);
	isolate(2);
	quorum_oracle = false;
	wipe(3);
	restart(3);
	run(HB_US);
	index = propose(1, "x");
	settle();
	run(4 * HB_US);
	if (is_leader(1))
		CHECK(commit_of(1) < index);
	/* check-quorum: the old leader has no majority */
	run(3 * T_US);
	CHECK(!is_leader(1));
}

/* Every kind of message of a stranger with a member's id is refused, typed. */
static void
P34_messages_of_another_instance_are_refused(void)
{
	cluster(3);
	elect(1);
	run(HB_US);
	for (int type = RAFT_MSG_PREVOTE; type <= RAFT_MSG_READ_INDEX_RESP; type++)
	{
		RaftMsg		m = message((uint8_t) type, 3, 1, raft_term(core(1)) + 5);

		m.instance[5]++;
		m.index = 100;
		m.log_term = 1;
		CHECK_EQ(inject(1, m), RAFT_WRONG_INSTANCE);
		CHECK(is_leader(1));
		CHECK_EQ(count_msgs(ANY, ANY, ANY), 0);
	}
}

/* The way back: the old member out, a new id in. */
static void
P34_comes_back_under_a_new_id(void)
{
	cluster(3);
	elect(1);
	propose(1, "a");
	settle();
	quorum_oracle = false;
	crash(3);
	change(1, IDS(1, 2), 0);
	settle();
	change(1, IDS(1, 2), IDS(4));
	settle();
	add_node(4);
	run(T_US);
	change(1, IDS(1, 2, 4), 0);
	settle();
	CHECK(logs_equal(1, 4));
	crash(1);
	CHECK(run_until_leader(10 * T_US) != 0);
}

static void
P34_id_belongs_to_one_instance(void)
{
	RaftConf	target;
	RaftStamp	stamp = {0};

	cluster(3);
	elect(1);
	target = *raft_conf(core(1));
	target.members[2].instance[3]++;
	CHECK_EQ(raft_propose_conf(core(1), &target, stamp, next_token(1), NULL), RAFT_INVALID);
	drain(1);
}

/* ---------- P-35 ---------- */

/* hashicorp#503, #666: the disk hangs, and the network is fine. */
static void
P35_leader_with_a_hung_disk_is_replaced(void)
{
	int64_t		start;
	uint64_t	index;

	cluster(3);
	elect(1);
	run(HB_US);
	hold_disk(1);
	start = now_us;
	index = propose(1, "committed by 2 and 3");
	while (leader_now() == 1 && now_us - start < 10 * T_US)
		run(HB_US);
	CHECK(!is_leader(1));
	CHECK(now_us - start <= 2 * T_US);
	run(4 * T_US);
	CHECK(leader_now() == 2 || leader_now() == 3);
	CHECK(has_data(leader_now(), index, "committed by 2 and 3"));
	propose(leader_now(), "b");
	settle();
	CHECK_EQ(commit_of(leader_now()), last_of(leader_now()));

	/* the disk comes back */
	release_disk(1);
	check_converged();
}

/* It goes on hanging: the member must not be elected, nor disturb. */
static void
P35_member_with_a_hung_disk_does_not_campaign(void)
{
	uint64_t	term;
	uint32_t	leader;

	cluster(3);
	elect(1);
	hold_disk(1);
	propose(1, "a");
	run(6 * T_US);
	leader = leader_now();
	CHECK(leader >= 2);
	term = raft_term(core(leader));
	for (int i = 0; i < 10; i++)
	{
		campaign(1);
		run(T_US);
		CHECK_EQ(leader_now(), leader);
	}
	CHECK_EQ(raft_term(core(leader)), term);
}

/* Nothing outstanding: a disk that is not asked cannot hang. */
static void
P35_idle_leader_is_not_stalled(void)
{
	cluster(3);
	elect(1);
	run(HB_US);
	hold_disk(1);
	hold_disk(2);
	run(10 * T_US);
	CHECK(is_leader(1));
}

/* Slow is not hung: each write takes most of an election timeout. */
static void
P35_slow_disk_is_not_a_hung_one(void)
{
	cluster(3);
	elect(1);
	run(HB_US);
	hold_disk(1);
	for (int i = 0; i < 10; i++)
	{
		propose(1, "a");
		run(T_US / 2);
		propose(1, "b");
		run(T_US / 4);
		CHECK(sync_one(1));
		run(T_US / 8);
		while (sync_one(1))
			;
		CHECK(is_leader(1));
	}
}

/* A group of one has nobody to hand over to. */
static void
P35_single_voter_waits_for_its_disk(void)
{
	cluster(1);
	run(1);
	hold_disk(1);
	propose(1, "a");
	run(5 * T_US);
	CHECK(is_leader(1));
	release_disk(1);
	CHECK_EQ(commit_of(1), last_of(1));
}

/* A follower's hung disk is its own problem. */
static void
P35_follower_with_a_hung_disk(void)
{
	cluster(3);
	elect(1);
	hold_disk(2);
	for (int i = 0; i < 20; i++)
	{
		propose(1, "a");
		run(T_US / 4);
		CHECK(is_leader(1));
		CHECK_EQ(commit_of(1), last_of(1));
	}
	CHECK(node(2)->applied < commit_of(1));
	release_disk(2);
	check_converged();
	CHECK(is_leader(1));
}

const Test	tests_identity[] = {
	TEST(P32_lost_entries_are_sent_again),
	TEST(P32_trusted_only_when_they_are_on_disk),
	TEST(P32_no_vote_and_no_campaign_before),
	TEST(P32_late_acknowledgement_of_lost_entries),
	TEST(P32_applied_above_the_salvaged_log),
	TEST(P32_leader_loses_its_tail),
	TEST(P34_wiped_voter_that_knows_the_members),
	TEST(P34_wiped_voter_that_knows_nothing),
	TEST(P34_wiped_voter_does_not_commit),
	TEST(P34_messages_of_another_instance_are_refused),
	TEST(P34_comes_back_under_a_new_id),
	TEST(P34_id_belongs_to_one_instance),
	TEST(P35_leader_with_a_hung_disk_is_replaced),
	TEST(P35_member_with_a_hung_disk_does_not_campaign),
	TEST(P35_idle_leader_is_not_stalled),
	TEST(P35_slow_disk_is_not_a_hung_one),
	TEST(P35_single_voter_waits_for_its_disk),
	TEST(P35_follower_with_a_hung_disk),
	{NULL, NULL}
};
