/*-------------------------------------------------------------------------
 *
 * test_reads.c
 *		Linearizable reads and leases (P-37 to P-42). The oracle fails a story in
 *		which a read is answered below what was committed when it was asked.
 *
 *-------------------------------------------------------------------------
 */
#include "harness.h"

static bool
read_done(uint32_t id, uint64_t read_id)
{
	return read_of(id, read_id)->done;
}

static bool
read_ok(uint32_t id, uint64_t read_id)
{
	return read_of(id, read_id)->done && read_of(id, read_id)->ok;
}

static void
reads_on_leader_follower_learner(void)
{
	uint64_t	index;

	cluster_of(IDS(1, 2, 3), IDS(4));
	elect(1);
	index = propose(1, "a");
	settle();
	for (uint32_t id = 1; id <= 4; id++)
	{
		read_index(id, 10 + id);
		CHECK(!read_done(id, 10 + id));
		settle();
		CHECK(read_ok(id, 10 + id));
		CHECK(read_of(id, 10 + id)->index >= index);
	}
}

static void
reads_that_come_together_share_a_round(void)
{
	cluster(3);
	elect(1);
	run(HB_US / 2);
	drop(ANY, ANY, ANY);
	read_index(1, 1);
	for (uint64_t i = 2; i <= 40; i++)
		read_index(1, i);
	/* a few rounds at most, not one a read */
	CHECK(count_msgs(RAFT_MSG_HEARTBEAT, 1, 2) <= 8);
	settle();
	run(2 * HB_US);
	for (uint64_t i = 1; i <= 40; i++)
		CHECK(read_ok(1, i));
	read_index(2, 50);
	for (uint64_t i = 51; i <= 60; i++)
		read_index(2, i);
	settle();
	run(2 * HB_US);
	for (uint64_t i = 50; i <= 60; i++)
		CHECK(read_ok(2, i));
}

/* ---------- as few messages as will do ---------- */

/* Among three a forwarded read is its sender's answer, too. */
static void
forwarded_read_of_three_needs_no_round(void)
{
	uint64_t	index;

	cluster(3);
	elect(1);
	index = propose(1, "a");
	settle();
	read_index(2, 1);
	deliver(RAFT_MSG_READ_INDEX, 2, 1);
	CHECK_EQ(count_msgs(RAFT_MSG_HEARTBEAT, 1, ANY), 0);
	deliver(RAFT_MSG_READ_INDEX_RESP, 1, 2);
	CHECK(read_ok(2, 1));
	CHECK(read_of(2, 1)->index >= index);
}

/* Elsewhere it is not enough. */
static void
P39_forwarded_read_alone_is_no_quorum_of_five(void)
{
	cluster(5);
	elect(1);
	run(HB_US);
	isolate_groups(IDS(1, 2), IDS(3, 4, 5));
	read_index(2, 1);
	settle();
	CHECK(!read_done(2, 1));
	heal();
	run(2 * HB_US);
	CHECK(read_ok(2, 1));
}

static void
P39_forwarded_read_of_a_learner_confirms_nothing(void)
{
	cluster_of(IDS(1, 2, 3), IDS(4));
	elect(1);
	run(HB_US);
	isolate(2);
	isolate(3);
	read_index(4, 1);
	settle();
	CHECK(!read_done(4, 1));
}

static void
P39_forwarded_read_of_one_half_is_not_enough(void)
{
	cluster_of(IDS(1, 2, 3), IDS(4, 5));
	elect(1);
	CHECK_EQ(try_change_explicit(1, IDS(1, 4, 5), 0, NULL), RAFT_OK);
	settle();
	run(HB_US);
	isolate_groups(IDS(1, 2), IDS(3, 4, 5));
	read_index(2, 1);
	settle();
	CHECK(!read_done(2, 1));
}

/*
 * A request that was under way for long reaches a leader that is none any more:
 * what it says holds for the reads that it was sent for, and nobody waits for
 * those.
 */
static void
P38_late_request_at_a_stale_leader(void)
{
	Packet	   *late;

	cluster(3);
	elect(1);
	run(HB_US);
	read_index(2, 'A');
	late = take(RAFT_MSG_READ_INDEX, 2, 1);
	isolate(1);
	elect(3);
	propose(3, "newer");
	settle();
	CHECK(read_done(2, 'A') && !read_ok(2, 'A'));
	read_index(1, 'B');
	read_index(2, 'C');
	drop(RAFT_MSG_READ_INDEX, 2, 3);
	heal();
	put(late);
	deliver(RAFT_MSG_READ_INDEX, 2, 1);
	CHECK(!read_done(1, 'B'));
	CHECK_EQ(deliver_all(RAFT_MSG_READ_INDEX_RESP, 1, 2), 1);
	CHECK(!read_done(2, 'C'));
	run(2 * T_US);
	CHECK(read_done(1, 'B') && read_done(2, 'C'));
}

static void
round_of_a_read_is_narrow(void)
{
	cluster(5);
	elect(1);
	run(2 * HB_US);
	drop(ANY, ANY, ANY);
	read_index(1, 1);
	CHECK_EQ(count_msgs(RAFT_MSG_HEARTBEAT, 1, ANY), 2);
	settle();
	CHECK(read_ok(1, 1));
}

/* Whom it went to does not answer: soon all are asked, and next time others. */
static void
late_answer_widens_the_round(void)
{
	uint32_t	silent;

	cluster(3);
	elect(1);
	run(2 * HB_US);
	read_index(1, 1);
	CHECK_EQ(count_msgs(RAFT_MSG_HEARTBEAT, 1, ANY), 1);
	silent = count_msgs(RAFT_MSG_HEARTBEAT, 1, 2) > 0 ? 2 : 3;
	isolate(silent);
	settle();
	CHECK(!read_done(1, 1));
	elapse_one(1, HB_US / 4);
	settle();
	CHECK(read_ok(1, 1));
	elapse_one(1, HB_US / 4);
	read_index(1, 2);
	settle();
	CHECK(read_ok(1, 2));

	/* once it has answered it is as good as the other one */
	heal();
	run(4 * HB_US);
	isolate(2 + 3 - silent);
	read_index(1, 3);
	settle();
	if (!read_done(1, 3))
		elapse_one(1, HB_US / 4);
	settle();
	CHECK(read_ok(1, 3));
}

/* ---------- P-37 ---------- */

/* etcd#7331, TestReadOnlyForNewLeader */
static void
P37_new_leader_answers_after_its_own_entry_is_committed(void)
{
	uint64_t	index;

	cluster(3);
	elect(1);
	index = propose(1, "known to be committed at 1 only");
	deliver_all(RAFT_MSG_APPEND, 1, ANY);
	deliver(RAFT_MSG_APPEND_RESP, 2, 1);
	CHECK_EQ(commit_of(1), index);
	drop(ANY, ANY, ANY);
	CHECK_EQ(commit_of(2), index - 1);
	crash(1);

	jump(2 * T_US);
	campaign(2);
	for (int i = 0; i < 100 && !is_leader(2); i++)
		deliver(ANY, ANY, ANY);
	CHECK(is_leader(2));
	read_index(2, 1);
	/* rounds of heartbeats succeed, appends do not */
	for (int i = 0; i < 5; i++)
	{
		drop(RAFT_MSG_APPEND, ANY, ANY);
		deliver_all(RAFT_MSG_HEARTBEAT, ANY, ANY);
		deliver_all(RAFT_MSG_HEARTBEAT_RESP, ANY, ANY);
		elapse_one(2, HB_US);
		CHECK(!read_ok(2, 1));
	}
	drop(ANY, ANY, ANY);
	run(3 * HB_US);
	CHECK(read_ok(2, 1));
	CHECK(read_of(2, 1)->index >= index);
}

/* Nor does it for a follower's forwarded read. */
static void
P37_forwarded_read_waits_for_it_too(void)
{
	uint64_t	index;

	cluster(3);
	elect(1);
	index = propose(1, "a");
	deliver_all(RAFT_MSG_APPEND, 1, ANY);
	deliver(RAFT_MSG_APPEND_RESP, 2, 1);
	drop(ANY, ANY, ANY);
	crash(1);
	jump(2 * T_US);
	campaign(2);
	for (int i = 0; i < 100 && !is_leader(2); i++)
		deliver(ANY, ANY, ANY);
	deliver_all(RAFT_MSG_HEARTBEAT, ANY, ANY);
	if (raft_leader(core(3)) == 0)
		deliver(RAFT_MSG_APPEND, 2, 3);
	drop(RAFT_MSG_APPEND_RESP, ANY, ANY);
	read_index(3, 1);
	deliver_all(RAFT_MSG_READ_INDEX, 3, 2);
	deliver_all(RAFT_MSG_HEARTBEAT, ANY, ANY);
	deliver_all(RAFT_MSG_HEARTBEAT_RESP, ANY, ANY);
	CHECK_EQ(count_msgs(RAFT_MSG_READ_INDEX_RESP, 2, 3), 0);
	run(4 * HB_US);
	CHECK(read_ok(3, 1));
	CHECK(read_of(3, 1)->index >= index);
}

/* ---------- P-38 ---------- */

/* etcd#20418, TestReadOnlyDuplicateRequest */
static void
P38_doubled_request_and_delayed_heartbeat_answers(void)
{
	Packet	   *again;
	Packet	   *delayed[16];
	int			n = 0;

	/* five: leader and sender are no quorum, so rounds decide */
	cluster(5);
	elect(1);
	run(HB_US);
	read_index(2, 'A');
	again = take(RAFT_MSG_READ_INDEX, 2, 1);
	put(copy_packet(again));
	deliver(RAFT_MSG_READ_INDEX, 2, 1);
	deliver_all(RAFT_MSG_HEARTBEAT, 1, ANY);
	while (count_msgs(RAFT_MSG_HEARTBEAT_RESP, ANY, 1) > 0)
		delayed[n++] = take(RAFT_MSG_HEARTBEAT_RESP, ANY, 1);
	CHECK(n > 0);
	elapse_one(1, HB_US);
	settle();					/* A is answered through the next rounds */
	CHECK(read_ok(2, 'A'));

	isolate(1);
	elect(2);
	propose(2, "someOp");
	settle();
	read_index(1, 'B');			/* at the stale leader */
	heal();
	put(again);
	deliver_all(RAFT_MSG_READ_INDEX, 2, 1);
	for (int i = 0; i < n; i++)
	{
		put(delayed[i]);
		deliver(RAFT_MSG_HEARTBEAT_RESP, ANY, 1);
	}
	CHECK(!read_ok(1, 'B'));
	run(2 * T_US);
	CHECK(read_done(1, 'B'));
}

/* Answers to a round of an earlier leadership of the same node. */
static void
P38_answers_of_an_earlier_term_confirm_nothing(void)
{
	Packet	   *delayed[8];
	int			n = 0;

	cluster(3);
	elect(1);
	run(HB_US);
	for (uint64_t i = 1; i <= 3; i++)
		read_index(1, i);
	deliver_all(RAFT_MSG_HEARTBEAT, 1, ANY);
	while (count_msgs(RAFT_MSG_HEARTBEAT_RESP, ANY, 1) > 0 && n < 8)
		delayed[n++] = take(RAFT_MSG_HEARTBEAT_RESP, ANY, 1);
	drop(ANY, ANY, ANY);
	elect(2);
	for (uint64_t i = 1; i <= 3; i++)
		CHECK(read_done(1, i) && !read_ok(1, i));
	elect(1);
	isolate(1);
	read_index(1, 9);
	heal();
	drop(ANY, ANY, ANY);
	for (int i = 0; i < n; i++)
	{
		put(delayed[i]);
		deliver(RAFT_MSG_HEARTBEAT_RESP, ANY, 1);
	}
	CHECK(!read_done(1, 9));

	/* and over a restart, where counting starts again */
	restart(1);
}

/* An answer meant for an earlier life of the asking follower. */
static void
P38_answer_to_an_earlier_life(void)
{
	Packet	   *late;

	cluster(3);
	elect(1);
	run(HB_US);
	read_index(2, 7);
	deliver_all(RAFT_MSG_READ_INDEX, 2, 1);
	deliver_all(RAFT_MSG_HEARTBEAT, 1, 3);
	deliver_all(RAFT_MSG_HEARTBEAT_RESP, 3, 1);
	late = take(RAFT_MSG_READ_INDEX_RESP, 1, 2);
	restart(2);
	propose(1, "newer");
	settle();
	run(HB_US);
	read_index(2, 7);			/* the same id */
	put(late);
	deliver(RAFT_MSG_READ_INDEX_RESP, 1, 2);
	CHECK(!read_ok(2, 7));		/* the oracle would see it as well */
	settle();
	CHECK(read_ok(2, 7));
}

/* The same id is asked twice at once: both end, neither too early. */
static void
P38_same_id_from_two_members(void)
{
	cluster(3);
	elect(1);
	run(HB_US);
	read_index(1, 5);
	read_index(2, 5);
	read_index(3, 5);
	settle();
	run(HB_US);
	for (uint32_t id = 1; id <= 3; id++)
		CHECK(read_ok(id, 5));
}

static void
P38_random_delays_and_doubles(void)
{
	for (uint64_t seed = 1; seed <= 150; seed++)
	{
		uint64_t	s = seed * 1009;
		uint64_t	read_id = 1;

		harness_end();
		harness_begin();
		cluster(3);
		elect(1);
		for (int i = 0; i < 120; i++)
		{
			uint32_t	id = 1 + (uint32_t) (rnd(&s) % 3);
			uint32_t	leader = leader_now();

			switch (rnd(&s) % 8)
			{
				case 0:
					if (read_id < 60)
						read_index(id, read_id++);
					break;
				case 1:
					if (leader != 0)
						try_propose(leader, "x", NULL);
					break;
				case 2:
					jump((int64_t) (rnd(&s) % 400000));
					campaign(id);
					break;
				case 3:
					elapse((int64_t) (rnd(&s) % 300000));
					break;
				case 4:
					if (count_msgs(ANY, ANY, ANY) > 0 && count_msgs(ANY, ANY, ANY) < 200)
						duplicate(ANY, ANY, ANY);
					break;
				default:
					shuffle(&s);
					for (int k = (int) (rnd(&s) % 12); k > 0 && count_msgs(ANY, ANY, ANY) > 0; k--)
						deliver(ANY, ANY, ANY);
					break;
			}
		}
		run(4 * T_US);
		for (uint32_t id = 1; id <= 3; id++)
			for (size_t i = 0; i < node(id)->nreads; i++)
				CHECK(node(id)->reads[i].done); /* P-40 as well */
	}
}

/* ---------- P-39 ---------- */

static void
P39_partitioned_leader_answers_nothing(void)
{
	cluster(3);
	elect(1);
	run(HB_US);
	isolate(1);
	read_index(1, 1);
	settle();
	CHECK(!read_done(1, 1));
	elect(2);
	propose(2, "newer");
	settle();
	CHECK(!read_ok(1, 1));
	run(3 * T_US);
	CHECK(read_done(1, 1) && !read_ok(1, 1));
}

/* A round that was under way when the read came in confirms nothing for it. */
static void
P39_round_begun_before_the_read_does_not_count(void)
{
	cluster(3);
	elect(1);
	run(HB_US);
	drop(ANY, ANY, ANY);
	elapse_one(1, HB_US);
	deliver_all(RAFT_MSG_HEARTBEAT, 1, ANY);
	CHECK(count_msgs(RAFT_MSG_HEARTBEAT_RESP, ANY, 1) >= 2);
	read_index(1, 1);
	drop(RAFT_MSG_HEARTBEAT, ANY, ANY);
	deliver_all(RAFT_MSG_HEARTBEAT_RESP, ANY, 1);
	CHECK(!read_done(1, 1));
	run(2 * HB_US);
	CHECK(read_ok(1, 1));
}

/* Learners' and strangers' answers are no quorum. */
static void
P39_answers_of_learners_do_not_count(void)
{
	cluster_of(IDS(1, 2, 3), IDS(4, 5));
	elect(1);
	run(HB_US);
	isolate(2);
	isolate(3);
	read_index(1, 1);
	settle();
	CHECK_EQ(count_msgs(ANY, ANY, ANY), 0);
	CHECK(!read_done(1, 1));
}

/* In a joint configuration both halves must answer. */
static void
P39_joint_round_needs_both_halves(void)
{
	cluster_of(IDS(1, 2, 3), IDS(4, 5));
	elect(1);
	CHECK_EQ(try_change_explicit(1, IDS(1, 4, 5), 0, NULL), RAFT_OK);
	settle();
	run(HB_US);
	isolate(2);
	isolate(3);
	read_index(1, 1);
	settle();
	CHECK(!read_done(1, 1));
	heal();
	run(2 * HB_US);
	CHECK(read_ok(1, 1));
}

/* ---------- P-40 ---------- */

static void
P40_read_of_a_single_voter(void)
{
	cluster(1);
	run(1);
	read_index(1, 1);
	CHECK(read_ok(1, 1));
	CHECK(read_of(1, 1)->index >= 1);
}

static void
P40_read_of_a_learner_of_a_single_voter(void)
{
	cluster_of(IDS(1), IDS(2));
	run(2 * HB_US);
	CHECK(is_leader(1));
	read_index(2, 1);
	settle();
	CHECK(read_ok(2, 1));
}

static void
P40_read_without_a_leader_is_refused(void)
{
	cluster(3);
	read_index(2, 1);
	CHECK(read_done(2, 1) && !read_ok(2, 1));
}

static void
P40_reads_end_when_the_leader_changes(void)
{
	cluster(3);
	elect(1);
	run(HB_US);
	read_index(1, 1);
	read_index(2, 2);
	read_index(3, 3);
	drop(ANY, ANY, ANY);
	isolate(1);
	elect(2);
	CHECK(read_done(2, 2) && read_done(3, 3));
	heal();
	run(2 * HB_US);
	CHECK(read_done(1, 1) && !read_ok(1, 1));
}

static void
P40_lost_requests_and_answers_end(void)
{
	cluster(3);
	elect(1);
	run(HB_US);
	read_index(2, 1);
	drop(RAFT_MSG_READ_INDEX, ANY, ANY);
	read_index(3, 2);
	deliver_all(RAFT_MSG_READ_INDEX, 3, 1);
	deliver_all(RAFT_MSG_HEARTBEAT, 1, 2);
	deliver_all(RAFT_MSG_HEARTBEAT_RESP, 2, 1);
	CHECK(drop(RAFT_MSG_READ_INDEX_RESP, 1, 3) > 0);
	run(2 * T_US);
	CHECK(read_done(2, 1) && read_done(3, 2));
	CHECK(is_leader(1));
}

/* tikv#5316 and others: the asked member does not lead any more. */
static void
P40_old_leader_refuses_forwarded_reads(void)
{
	RaftMsg		m;

	cluster(3);
	elect(1);
	run(HB_US);
	read_index(3, 1);
	/* 2 leads now, and 3's request finds 1 as a follower of the same term */
	elect(2);
	m = message(RAFT_MSG_READ_INDEX, 3, 1, raft_term(core(1)));
	m.context = 77;
	inject(1, m);
	CHECK_EQ(count_msgs(RAFT_MSG_READ_INDEX_RESP, 1, 3), 1);
	CHECK(peek(RAFT_MSG_READ_INDEX_RESP, 1, 3)->reject);
	run(2 * T_US);
	CHECK(read_done(3, 1));
}

/* raft-rs#368: the quorum shrinks, and what is there is enough now. */
static void
P40_smaller_quorum_completes_the_round(void)
{
	cluster(4);
	elect(1);
	run(HB_US);
	isolate(3);
	isolate(4);
	read_index(1, 1);
	settle();
	CHECK(!read_done(1, 1));	/* 1 and 2 of four */
	change(1, IDS(1, 2, 3), 0);
	CHECK(read_ok(1, 1));		/* at once: the round is answered by a majority of three */
	settle();
	CHECK(commit_of(1) == last_of(1));
}

/* ---------- leases: P-41, P-42 ---------- */

static void
lease_cluster(int n)
{
	base_config.lease_reads = true;
	cluster(n);
	elect(1);
	run(3 * HB_US);
	CHECK(raft_lease_valid(core(1), now_us));
}

static void
lease_read_needs_no_round(void)
{
	lease_cluster(3);
	isolate(1);
	read_index(1, 1);
	CHECK(read_ok(1, 1));
	CHECK(read_of(1, 1)->index >= commit_of(1));

	harness_end();
	harness_begin();
	base_config.lease_reads = false;
	cluster(3);
	elect(1);
	run(3 * HB_US);
	CHECK(!raft_lease_valid(core(1), now_us));
	read_index(1, 1);
	CHECK(!read_done(1, 1));
}

/* Nobody else votes: no limit. */
static void
lease_of_a_single_voter(void)
{
	base_config.lease_reads = true;
	cluster(1);
	elect(1);
	CHECK_EQ(raft_lease_until(core(1)), INT64_MAX);
	CHECK(raft_lease_valid(core(1), now_us + 100 * T_US));
}

static void
P41_lease_ends_when_timeout_now_is_sent(void)
{
	lease_cluster(3);
	CHECK_EQ(transfer(1, 2), RAFT_OK);
	CHECK_EQ(count_msgs(RAFT_MSG_TIMEOUT_NOW, 1, 2), 1);
	CHECK(!raft_lease_valid(core(1), now_us));
	CHECK_EQ(raft_lease_until(core(1)), 0);
	read_index(1, 1);
	CHECK(!read_done(1, 1));
	/* the transfer succeeds while 1 hears nothing of it */
	isolate(1);
	uncut(1, 2);
	deliver(RAFT_MSG_TIMEOUT_NOW, 1, 2);
	settle();
	CHECK(is_leader(2));
	propose(2, "newer");
	settle();
	read_index(1, 2);
	CHECK(!read_ok(1, 1) && !read_ok(1, 2));
	heal();
	run(2 * T_US);
	CHECK(read_done(1, 1) && read_done(1, 2));
}

/* raft-rs#234: the transfer is given up, TIMEOUT_NOW arrives all the same. */
static void
P41_late_timeout_now_of_an_aborted_transfer(void)
{
	Packet	   *late;

	lease_cluster(3);
	CHECK_EQ(transfer(1, 2), RAFT_OK);
	late = take(RAFT_MSG_TIMEOUT_NOW, 1, 2);
	CHECK_EQ(transfer(1, 1), RAFT_OK);	/* aborts */
	CHECK_EQ(raft_transferee(core(1)), 0);
	isolate(2);
	run(3 * HB_US);
	/* 2 has not been heard since: it may still start an election */
	CHECK(!raft_lease_valid(core(1), now_us));
	heal();
	isolate(1);
	put(late);
	uncut(1, 2);
	deliver(RAFT_MSG_TIMEOUT_NOW, 1, 2);
	settle();
	if (is_leader(2))
		propose(2, "newer");
	settle();
	read_index(1, 1);
	CHECK(!read_ok(1, 1) || !is_leader(2));
	heal();
	check_converged();

	/* once the target has an entry behind, the order is void and the lease good */
	harness_end();
	harness_begin();
	lease_cluster(3);
	CHECK_EQ(transfer(1, 2), RAFT_OK);
	late = take(RAFT_MSG_TIMEOUT_NOW, 1, 2);
	CHECK_EQ(transfer(1, 1), RAFT_OK);
	settle();
	run(2 * HB_US);
	CHECK(raft_lease_valid(core(1), now_us));
	put(late);
	settle();
	CHECK(is_leader(1));
	CHECK_EQ(raft_term(core(2)), raft_term(core(1)));
}

/*
 * Two transfers, both given up. The order to the first target is still on its
 * way when the second target has long acknowledged. Five members: 1 (leader), 3
 * (second target) and 4 hold 1's lease; 2 (first target) may be elected by 4 and
 * 5, who need not have the entry that made the orders void.
 */
static void
P41_second_transfer_does_not_forget_the_first_order(void)
{
	Packet	   *late;

	lease_cluster(5);
	CHECK_EQ(transfer(1, 2), RAFT_OK);
	late = take(RAFT_MSG_TIMEOUT_NOW, 1, 2);
	isolate(2);
	/* entries reach 3 only; heartbeats reach all but 2 */
	CHECK_EQ(transfer(1, 1), RAFT_OK);
	drop(RAFT_MSG_APPEND, 1, 4);
	drop(RAFT_MSG_APPEND, 1, 5);
	settle();
	CHECK_EQ(transfer(1, 3), RAFT_OK);
	drop(RAFT_MSG_TIMEOUT_NOW, 1, 3);
	CHECK_EQ(transfer(1, 1), RAFT_OK);
	for (int i = 0; i < 4; i++)
	{
		drop(RAFT_MSG_APPEND, 1, 4);
		drop(RAFT_MSG_APPEND, 1, 5);
		settle();
		elapse_one(1, HB_US / 2);
	}
	drop(RAFT_MSG_APPEND, 1, 4);
	drop(RAFT_MSG_APPEND, 1, 5);
	settle();
	CHECK(last_of(4) < last_of(1) && last_of(3) == last_of(1));

	/* the old order arrives; 4 and 5 vote for 2, for it is a transfer */
	isolate_groups(IDS(1, 3), IDS(2, 4, 5));
	for (uint32_t id = 4; id <= 5; id++)
	{
		uncut(2, id);
		uncut(id, 2);
	}
	uncut(1, 2);
	put(late);
	deliver(RAFT_MSG_TIMEOUT_NOW, 1, 2);
	settle();
	if (is_leader(2))
	{
		propose(2, "newer");
		settle();
		CHECK_EQ(commit_of(2), last_of(2));
	}
	read_index(1, 1);			/* the oracle: not below what 2 committed */
	CHECK(!read_ok(1, 1) || !is_leader(2));
	heal();
	check_converged();
}

static void
P42_lease_is_counted_from_sending(void)
{
	int64_t		sent;

	lease_cluster(3);
	drop(ANY, ANY, ANY);
	elapse_one(1, HB_US);		/* a round goes out */
	sent = now_us;
	CHECK(count_msgs(RAFT_MSG_HEARTBEAT, 1, 2) > 0);
	jump(8 * T_US / 10);
	settle();					/* and is answered late */
	CHECK(raft_lease_valid(core(1), sent + 8 * T_US / 10));
	/* what readers of their own go by: the round's beginning, less the drift */
	CHECK_EQ(raft_lease_until(core(1)), sent + T_US - T_US / 10);
	jump(3 * T_US / 10);
	CHECK(!raft_lease_valid(core(1), now_us));
	CHECK(raft_lease_until(core(1)) <= now_us);
	isolate(1);
	read_index(1, 1);
	CHECK(!read_done(1, 1));
}

/* SIGSTOP of the leader: it wakes up and is asked before its timers ran. */
static void
P42_paused_leader_does_not_answer(void)
{
	lease_cluster(3);
	isolate(1);
	node(1)->paused = true;
	jump(T_US + 1);
	run(4 * T_US);
	CHECK(leader_now() >= 2);
	propose(leader_now(), "newer");
	settle();
	read_index(1, 1);			/* with the time of now, before any tick */
	CHECK(!read_ok(1, 1));
	node(1)->paused = false;
	heal();
	run(2 * T_US);
	CHECK(read_done(1, 1));
}

/* Lease with a minority's answers only. */
static void
P42_lease_needs_a_majority(void)
{
	lease_cluster(5);
	isolate(3);
	isolate(4);
	isolate(5);
	run(T_US - HB_US);
	read_index(1, 1);
	run(2 * HB_US);
	CHECK(!raft_lease_valid(core(1), now_us));
}

/* Who answered a heartbeat votes for nobody else until the lease is over. */
static void
P42_promise_is_kept(void)
{
	lease_cluster(3);
	isolate(1);
	jump(T_US / 2);
	/* by whatever way: campaign, a lost connection, a plain vote request */
	campaign(2);
	raft_peer_down(core(3), 1, now_us);
	drain(3);
	settle();
	CHECK(leader_now() == 1);
	inject(3, message(RAFT_MSG_VOTE, 2, 3, raft_term(core(1)) + 1));
	settle();
	CHECK_EQ(node(3)->hard.vote, 1);
	CHECK_EQ(leader_now(), 1);
	read_index(1, 1);
	CHECK(read_ok(1, 1) || !raft_lease_valid(core(1), now_us));
}

/* A restart forgets the promise, so it waits a lease out. */
static void
P42_promise_is_kept_over_a_restart(void)
{
	lease_cluster(3);
	isolate(1);
	jump(HB_US);
	restart(2);
	restart(3);
	campaign(2);
	settle();
	campaign(3);
	settle();
	CHECK_EQ(leader_now(), 1);
	read_index(1, 1);
	jump(2 * T_US);
	campaign(2);
	settle();
	CHECK(is_leader(2));
}

/* A leader that steps down and leads again has no lease from before. */
static void
P42_lease_does_not_survive_its_term(void)
{
	lease_cluster(3);
	inject(1, message(RAFT_MSG_HEARTBEAT, 2, 1, raft_term(core(1)) + 1));
	CHECK(!is_leader(1));
	CHECK(!raft_lease_valid(core(1), now_us));
	read_index(1, 1);
	CHECK(!read_ok(1, 1));
}

const Test	tests_reads[] = {
	TEST(reads_on_leader_follower_learner),
	TEST(reads_that_come_together_share_a_round),
	TEST(forwarded_read_of_three_needs_no_round),
	TEST(round_of_a_read_is_narrow),
	TEST(late_answer_widens_the_round),
	TEST(P37_new_leader_answers_after_its_own_entry_is_committed),
	TEST(P37_forwarded_read_waits_for_it_too),
	TEST(P38_doubled_request_and_delayed_heartbeat_answers),
	TEST(P38_answers_of_an_earlier_term_confirm_nothing),
	TEST(P38_answer_to_an_earlier_life),
	TEST(P38_same_id_from_two_members),
	TEST(P38_random_delays_and_doubles),
	TEST(P38_late_request_at_a_stale_leader),
	TEST(P39_forwarded_read_alone_is_no_quorum_of_five),
	TEST(P39_forwarded_read_of_a_learner_confirms_nothing),
	TEST(P39_forwarded_read_of_one_half_is_not_enough),
	TEST(P39_partitioned_leader_answers_nothing),
	TEST(P39_round_begun_before_the_read_does_not_count),
	TEST(P39_answers_of_learners_do_not_count),
	TEST(P39_joint_round_needs_both_halves),
	TEST(P40_read_of_a_single_voter),
	TEST(P40_read_of_a_learner_of_a_single_voter),
	TEST(P40_read_without_a_leader_is_refused),
	TEST(P40_reads_end_when_the_leader_changes),
	TEST(P40_lost_requests_and_answers_end),
	TEST(P40_old_leader_refuses_forwarded_reads),
	TEST(P40_smaller_quorum_completes_the_round),
	TEST(lease_read_needs_no_round),
	TEST(lease_of_a_single_voter),
	TEST(P41_lease_ends_when_timeout_now_is_sent),
	TEST(P41_late_timeout_now_of_an_aborted_transfer),
	TEST(P41_second_transfer_does_not_forget_the_first_order),
	TEST(P42_lease_is_counted_from_sending),
	TEST(P42_paused_leader_does_not_answer),
	TEST(P42_lease_needs_a_majority),
	TEST(P42_promise_is_kept),
	TEST(P42_promise_is_kept_over_a_restart),
	TEST(P42_lease_does_not_survive_its_term),
	{NULL, NULL}
};
