/*-------------------------------------------------------------------------
 *
 * test_units_progress.c
 *		What a leader knows of a peer: transitions, the window, learner rounds.
 *
 *-------------------------------------------------------------------------
 */
#include "harness.h"

#include "raft/progress.h"

#define CAP 4

static RaftInflight ring[CAP];

static Progress
fresh(uint64_t next)
{
	Progress	p;

	progress_init(&p, 2, next, 0, ring, CAP);
	return p;
}

static void
units_probe_learns_from_refusals(void)
{
	Progress	p = fresh(11);

	/* stale: not about what was sent last */
	CHECK(!progress_rejected(&p, 9, 5));
	CHECK_EQ(p.next, 11);

	p.probe_sent = true;
	CHECK(progress_rejected(&p, 10, 5));
	CHECK_EQ(p.next, 6);
	CHECK(!p.probe_sent);
	CHECK_EQ(p.match, 0);

	/* a hint that does not lead down still does */
	CHECK(progress_rejected(&p, 5, 400));
	CHECK_EQ(p.next, 5);

	/* a lost connection does not unlearn it */
	progress_to_probe(&p);
	CHECK_EQ(p.next, 5);

	CHECK(progress_acked(&p, 4));
	progress_to_replicate(&p);
	CHECK_EQ(p.match, 4);
	CHECK_EQ(p.next, 5);
}

/* P-14: whatever a refusal says, match stays. */
static void
units_P14_refusals_never_move_match(void)
{
	uint64_t	seed = 7;

	for (int round = 0; round < 2000; round++)
	{
		Progress	p = fresh(1 + rnd(&seed) % 50);
		uint64_t	match;

		if (rnd(&seed) % 2)
		{
			progress_acked(&p, rnd(&seed) % 50);
			progress_to_replicate(&p);
			if (rnd(&seed) % 2)
				progress_sent(&p, p.next + rnd(&seed) % 5, 10);
		}
		match = p.match;
		progress_rejected(&p, rnd(&seed) % 60, rnd(&seed) % 60);
		CHECK_EQ(p.match, match);
		CHECK(p.match < p.next);
	}
}

static void
units_window_counts_messages_and_bytes(void)
{
	Progress	p = fresh(1);

	progress_to_replicate(&p);
	CHECK(!progress_window_full(&p, 10, 100));
	progress_sent(&p, 3, 60);
	CHECK(!progress_window_full(&p, 10, 100));
	progress_sent(&p, 5, 60);
	CHECK(progress_window_full(&p, 10, 100));	/* bytes */
	CHECK(!progress_window_full(&p, 10, 1000));
	CHECK(progress_window_full(&p, 2, 1000));	/* messages */
	CHECK_EQ(p.next, 6);

	/* half of the second append acknowledged frees the first only */
	CHECK(progress_acked(&p, 4));
	CHECK_EQ(p.count, 1);
	CHECK_EQ(p.inflight_bytes, 60);
	CHECK(!progress_acked(&p, 2));	/* old news */
	CHECK_EQ(p.match, 4);

	/* around the ring, and full at its end */
	progress_sent(&p, 6, 1);
	progress_sent(&p, 7, 2);
	progress_sent(&p, 8, 3);
	CHECK(progress_window_full(&p, 100, 100000));
	CHECK(progress_acked(&p, 8));
	CHECK_EQ(p.count, 0);
	CHECK_EQ(p.inflight_bytes, 0);

	/* one append always fits, however large (P-20) */
	CHECK(!progress_window_full(&p, 1, 1));
	progress_sent(&p, 9, UINT64_C(1) << 40);
	CHECK(progress_window_full(&p, 100, 100));

	/* leaving the state gives all of it back */
	progress_to_probe(&p);
	CHECK_EQ(p.count, 0);
	CHECK_EQ(p.inflight_bytes, 0);
	CHECK_EQ(p.next, 9);
}

static void
units_image_then_probe_behind_it(void)
{
	Progress	p = fresh(2);

	progress_to_snapshot(&p, 50);
	CHECK(!progress_rejected(&p, 1, 0));	/* of an append before */
	CHECK_EQ(p.state, PROGRESS_SNAPSHOT);
	progress_to_probe(&p);
	CHECK_EQ(p.next, 51);
	CHECK_EQ(p.match, 0);

	progress_to_snapshot(&p, 50);
	p.snapshot_index = 0;		/* it failed */
	progress_to_probe(&p);
	CHECK_EQ(p.next, 1);

	/* or the peer turns out not to need it */
	progress_to_snapshot(&p, 50);
	CHECK(progress_acked(&p, 60));
	progress_to_replicate(&p);
	CHECK_EQ(p.next, 61);
}

/* Ongaro 4.2.1: rounds get shorter as the learner gets closer. */
static void
units_learner_is_caught_up_when_a_round_is_short(void)
{
	Progress	p = fresh(1);

	progress_acked(&p, 1);
	progress_round(&p, 1000, 0, 100);	/* first goal: 1000 */
	CHECK(!p.caught_up);
	progress_acked(&p, 999);
	progress_round(&p, 1500, 400, 100);
	CHECK(!p.caught_up);
	progress_acked(&p, 1000);
	progress_round(&p, 1500, 500, 100);	/* took 500: goal is 1500 now */
	CHECK(!p.caught_up);
	progress_acked(&p, 1500);
	progress_round(&p, 1600, 590, 100);
	CHECK(p.caught_up);

	/* and not any more when it falls behind */
	progress_acked(&p, 1600);
	progress_round(&p, 1700, 900, 100);
	CHECK(!p.caught_up);
}

const Test	tests_units_progress[] = {
	TEST(units_probe_learns_from_refusals),
	TEST(units_P14_refusals_never_move_match),
	TEST(units_window_counts_messages_and_bytes),
	TEST(units_image_then_probe_behind_it),
	TEST(units_learner_is_caught_up_when_a_round_is_short),
	{NULL, NULL}
};
