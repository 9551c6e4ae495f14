/*-------------------------------------------------------------------------
 *
 * test_flow.c
 *		How much is on its way, and that it starts again after any loss (P-20,
 *		P-21); entries read from disk for slow peers.
 *
 *-------------------------------------------------------------------------
 */
#include "harness.h"

/* ---------- limits ---------- */

static void
flow_window_in_messages(void)
{
	base_config.max_inflight_messages = 3;
	cluster(3);
	elect(1);
	run(HB_US);
	drop(ANY, ANY, ANY);
	for (int i = 0; i < 10; i++)
		propose(1, "a");
	CHECK_EQ(count_msgs(RAFT_MSG_APPEND, 1, 2), 3);
	CHECK_EQ(peer_of(1, 2).inflight_messages, 3);
	/* each answer makes room for one more, that carries all the rest */
	deliver(RAFT_MSG_APPEND, 1, 2);
	deliver(RAFT_MSG_APPEND_RESP, 2, 1);
	CHECK_EQ(count_msgs(RAFT_MSG_APPEND, 1, 2), 3);
	settle();
	CHECK(logs_equal(1, 2));
	check_converged();
}

static void
flow_window_in_bytes(void)
{
	char		kb[1001];

	memset(kb, 'k', 1000);
	kb[1000] = '\0';
	base_config.max_inflight_bytes = 5000;
	cluster(3);
	elect(1);
	run(HB_US);
	drop(ANY, ANY, ANY);
	for (int i = 0; i < 20; i++)
		propose(1, kb);
	CHECK(peer_of(1, 2).inflight_bytes <= 5000 + 1000 + 100);
	CHECK(count_msgs(RAFT_MSG_APPEND, 1, 2) <= 6);
	settle();
	check_converged();
}

static void
flow_message_size_is_bounded(void)
{
	char		kb[1001];
	uint64_t	bytes;

	memset(kb, 'k', 1000);
	kb[1000] = '\0';
	base_config.max_message_bytes = 4000;
	cluster(3);
	elect(1);
	isolate(2);
	for (int i = 0; i < 30; i++)
		propose(1, kb);
	settle();
	heal();
	for (int i = 0; i < 200 && (i == 0 || count_msgs(ANY, ANY, ANY) > 0); i++)
	{
		const RaftMsg *m = peek(RAFT_MSG_APPEND, 1, 2);

		if (m != NULL)
		{
			bytes = 0;
			for (uint32_t k = 0; k < m->nentries; k++)
				bytes += m->entries[k].data != NULL ? m->entries[k].data->len : 0;
			CHECK(bytes <= 4000);
		}
		if (i == 0)
			elapse_one(1, 2 * HB_US);
		if (count_msgs(ANY, ANY, ANY) > 0)
			deliver(ANY, ANY, ANY);
	}
	settle();
	CHECK(logs_equal(1, 2));
}

/* The driver's send queue is full: entries stop, heartbeats need not. */
static void
flow_paused_by_the_driver(void)
{
	cluster(3);
	elect(1);
	run(HB_US);
	drop(ANY, ANY, ANY);
	raft_peer_paused(core(1), 2, true);
	drain(1);
	for (int i = 0; i < 10; i++)
		propose(1, "a");
	CHECK_EQ(count_msgs(RAFT_MSG_APPEND, 1, 2), 0);
	settle();
	CHECK_EQ(commit_of(1), last_of(1));
	raft_peer_paused(core(1), 2, false);
	drain(1);
	settle();
	CHECK(logs_equal(1, 2));
	check_converged();
}

/* ---------- P-20 ---------- */

/* etcd replicate_pause.txt (etcd#14633) */
static void
P20_full_window_all_lost(void)
{
	base_config.max_inflight_messages = 3;
	cluster(3);
	elect(1);
	run(HB_US);
	drop(ANY, ANY, ANY);
	for (int i = 0; i < 3; i++)
		propose(1, "a");
	CHECK_EQ(peer_of(1, 3).inflight_messages, 3);
	settle_only(IDS(1, 2));
	CHECK(drop(ANY, 1, 3) >= 3);
	for (int i = 0; i < 3; i++)
		propose(1, "b");
	settle_only(IDS(1, 2));
	CHECK_EQ(commit_of(1), last_of(1));
	CHECK(last_of(3) < last_of(1));
	run(4 * HB_US);
	CHECK(logs_equal(1, 3));
	CHECK(all_replicating(1));
	CHECK_EQ(peer_of(1, 3).inflight_bytes, 0);
}

/* Everything is lost for a while, in each state of a peer; then nothing more. */
static void
P20_total_loss_in_every_state(void)
{
	for (int state = 0; state < 4; state++)
		for (int window = 1; window <= 4; window++)
		{
			harness_end();
			harness_begin();
			base_config.max_inflight_messages = (uint32_t) window;
			base_config.max_inflight_bytes = window == 2 ? 10 : 100000;
			cluster(3);
			elect(1);
			run(HB_US);
			switch (state)
			{
				case 0:			/* replicating */
					break;
				case 1:			/* probing */
					raft_peer_down(core(1), 3, now_us);
					drain(1);
					break;
				case 2:			/* probing behind, after a restart of the peer */
					isolate(3);
					propose(1, "x");
					settle();
					restart(3);
					raft_peer_down(core(1), 3, now_us);
					raft_peer_up(core(1), 3, now_us);
					drain(1);
					break;
				case 3:			/* waiting for an image */
					isolate(3);
					for (int i = 0; i < 5; i++)
						propose(1, "x");
					settle();
					run(HB_US);
					compact(1, commit_of(1) + 1);
					heal();
					run(3 * HB_US);
					CHECK(peer_of(1, 3).snapshot);
					break;
			}
			isolate(3);
			for (int i = 0; i < 10; i++)
			{
				propose(1, "lost on the way to 3");
				settle();
				run(HB_US / 2);
			}
			heal();
			run(4 * HB_US);
			if (state == 3)
			{
				CHECK(node(3)->install);
				CHECK_EQ(install(3, 1), RAFT_OK);
				run(4 * HB_US);
			}
			CHECK(logs_equal(1, 3));
			CHECK(all_replicating(1));
			check_converged();
		}
}

/* Answers are lost instead: the other direction. */
static void
P20_all_answers_lost(void)
{
	base_config.max_inflight_messages = 2;
	cluster(3);
	elect(1);
	run(HB_US);
	cut(3, 1);
	for (int i = 0; i < 8; i++)
	{
		propose(1, "a");
		settle();
	}
	run(T_US / 2);
	heal();
	run(4 * HB_US);
	CHECK(all_replicating(1));
	check_converged();
}

/* Random loss of 50 % for a while, then none: all windows drain (etcd e419ba5). */
static void
P20_random_loss_ends(void)
{
	for (uint64_t seed = 1; seed <= 100; seed++)
	{
		uint64_t	s = seed;

		harness_end();
		harness_begin();
		base_config.max_inflight_messages = 1 + (uint32_t) (rnd(&s) % 4);
		base_config.max_inflight_bytes = 1 + rnd(&s) % 100;
		base_config.max_message_bytes = 1 + (uint32_t) (rnd(&s) % 100);
		base_config.cache_bytes = rnd(&s) % 300;
		cluster(3);
		elect(1);
		for (int i = 0; i < 40; i++)
		{
			if (leader_now() != 0)
				try_propose(leader_now(), "abcdef", NULL);
			while (count_msgs(ANY, ANY, ANY) > 0)
				if (rnd(&s) % 2 == 0)
				{
					Packet	   *p = take(ANY, ANY, ANY);

					packet_free(p);
				}
				else
					deliver(ANY, ANY, ANY);
			elapse((int64_t) (rnd(&s) % (2 * HB_US)));
		}
		check_converged();
	}
}

/* ---------- P-21 ---------- */

/* etcd heartbeat_resp_recovers_from_probing.txt */
static void
P21_caught_up_peer_leaves_probing(void)
{
	cluster(3);
	elect(1);
	run(HB_US);
	CHECK(peer_of(1, 2).replicating);
	raft_peer_down(core(1), 2, now_us);	/* "unreachable" */
	drain(1);
	CHECK(!peer_of(1, 2).replicating);
	run(2 * HB_US);
	CHECK(peer_of(1, 2).replicating);
	raft_peer_down(core(1), 2, now_us);
	raft_peer_up(core(1), 2, now_us);
	drain(1);
	settle();
	CHECK(peer_of(1, 2).replicating);
	CHECK(all_replicating(1));
}

/* A connection that comes and goes with entries in flight. */
static void
P21_connection_flaps(void)
{
	for (uint64_t seed = 1; seed <= 60; seed++)
	{
		uint64_t	s = seed * 31;

		harness_end();
		harness_begin();
		base_config.max_inflight_messages = 2;
		cluster(3);
		elect(1);
		for (int i = 0; i < 30; i++)
		{
			uint32_t	id = 2 + (uint32_t) (rnd(&s) % 2);

			if (!is_leader(1))
				break;
			switch (rnd(&s) % 5)
			{
				case 0:
					raft_peer_down(core(1), id, now_us);
					drain(1);
					drop(ANY, 1, id);
					drop(ANY, id, 1);
					break;
				case 1:
					raft_peer_up(core(1), id, now_us);
					drain(1);
					break;
				case 2:
					raft_peer_paused(core(1), id, rnd(&s) % 2 == 0);
					drain(1);
					break;
				case 3:
					propose(1, "a");
					break;
				default:
					settle();
					break;
			}
		}
		for (uint32_t id = 2; id <= 3; id++)
		{
			raft_peer_up(core(1), id, now_us);
			raft_peer_paused(core(1), id, false);
		}
		drain(1);
		check_converged();
	}
}

/* Every peer replicates after any election, with nothing proposed. */
static void
P21_all_replicate_after_an_election(void)
{
	cluster_of(IDS(1, 2, 3), IDS(4, 5));
	for (uint32_t id = 1; id <= 3; id++)
	{
		elect(id);
		run(2 * HB_US);
		CHECK(all_replicating(id));
	}
}

/* The leader restarts or loses its state of peers: found out again. */
static void
P21_after_restarts_in_any_order(void)
{
	for (uint32_t a = 1; a <= 3; a++)
		for (uint32_t b = 1; b <= 3; b++)
		{
			harness_end();
			harness_begin();
			cluster(3);
			elect(1);
			propose(1, "a");
			settle();
			restart(a);
			propose(leader_now() != 0 ? leader_now() : run_until_leader(10 * T_US), "b");
			restart(b);
			check_converged();
		}
}

/* ---------- entries from disk ---------- */

static void
loads_slow_peer_is_fed_from_disk(void)
{
	base_config.cache_bytes = 100;
	base_config.max_message_bytes = 300;
	cluster(3);
	elect(1);
	isolate(3);
	for (int i = 0; i < 60; i++)
	{
		propose(1, "some payload, which does not stay in memory");
		settle();
	}
	heal();
	check_converged();
}

/* The driver is slow, and reads less than was asked for. */
static void
loads_short_and_late_answers(void)
{
	for (uint32_t count = 1; count <= 5; count++)
	{
		harness_end();
		harness_begin();
		base_config.cache_bytes = 1;
		cluster(3);
		elect(1);
		isolate(3);
		for (int i = 0; i < 20; i++)
		{
			propose(1, "abc");
			settle();
		}
		heal();
		node(1)->hold_loads = true;
		for (int i = 0; i < 200 && log_last(&node(3)->log) < last_of(1); i++)
		{
			run(HB_US);
			answer_loads(1, count);
		}
		CHECK(is_leader(1));
		CHECK(logs_equal(1, 3));
		node(1)->hold_loads = false;
		answer_loads(1, 1000);
		check_converged();
	}
}

/* Answers after the role, the term, the log or the peer has changed. */
static void
loads_stale_answers_do_no_harm(void)
{
	for (int what = 0; what < 4; what++)
	{
		harness_end();
		harness_begin();
		base_config.cache_bytes = 1;
		cluster(3);
		elect(1);
		isolate(3);
		for (int i = 0; i < 10; i++)
		{
			propose(1, "abc");
			settle();
		}
		heal();
		node(1)->hold_loads = true;
		run(2 * HB_US);
		CHECK(node(1)->nloads > 0);
		switch (what)
		{
			case 0:
				elect(2);
				break;
			case 1:
				elect(2);
				elect(1);
				break;
			case 2:
				change(1, IDS(1, 2), 0);
				settle();
				break;
			case 3:
				compact(1, commit_of(1) + 1);
				break;
		}
		/* n = 0: they are gone; then the old ones after all */
		answer_loads(1, 0);
		node(1)->hold_loads = false;
		answer_loads(1, 1000);
		run(4 * HB_US);
		if (node(3)->install)
			CHECK_EQ(install(3, leader_now()), RAFT_OK);
		run(4 * HB_US);
		CHECK_EQ(commit_of(leader_now()), last_of(leader_now()));
		if (what != 2)
			check_converged();
	}
}

const Test	tests_flow[] = {
	TEST(flow_window_in_messages),
	TEST(flow_window_in_bytes),
	TEST(flow_message_size_is_bounded),
	TEST(flow_paused_by_the_driver),
	TEST(P20_full_window_all_lost),
	TEST(P20_total_loss_in_every_state),
	TEST(P20_all_answers_lost),
	TEST(P20_random_loss_ends),
	TEST(P21_caught_up_peer_leaves_probing),
	TEST(P21_connection_flaps),
	TEST(P21_all_replicate_after_an_election),
	TEST(P21_after_restarts_in_any_order),
	TEST(loads_slow_peer_is_fed_from_disk),
	TEST(loads_short_and_late_answers),
	TEST(loads_stale_answers_do_no_harm),
	{NULL, NULL}
};
