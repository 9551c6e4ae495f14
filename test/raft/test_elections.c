/*-------------------------------------------------------------------------
 *
 * test_elections.c
 *		Votes: what must be on disk before they leave, how often, in which phase
 *		they count (P-01 to P-04). Pre-vote and disruption: test_prevote.c.
 *
 *-------------------------------------------------------------------------
 */
#include "harness.h"

static void
again(void)
{
	harness_end();
	harness_begin();
}

/* `id` asks for pre-votes; voters answer; then it is a candidate. */
static void
become_candidate(uint32_t id, Ids granters)
{
	campaign(id);
	for (uint32_t v = 1; v <= MAX_NODES; v++)
		if (ids_have(granters, v))
		{
			deliver(RAFT_MSG_PREVOTE, id, v);
			deliver(RAFT_MSG_PREVOTE_RESP, v, id);
		}
	CHECK_EQ(raft_role(core(id)), RAFT_CANDIDATE);
}

/* ---------- the plain thing ---------- */

static void
election_of_three(void)
{
	cluster(3);
	elect(1);
	CHECK_EQ(raft_leader(core(2)), 1);
	CHECK_EQ(raft_leader(core(3)), 1);
	CHECK_EQ(commit_of(3), 1);
	CHECK_EQ(raft_term(core(3)), 1);
	elect(2);
	CHECK_EQ(raft_leader(core(1)), 2);
	CHECK(raft_term(core(1)) > 1);
	CHECK(!is_leader(1));
}

static void
election_by_timeout(void)
{
	uint32_t	leader;

	cluster(5);
	leader = run_until_leader(4 * T_US);
	CHECK(leader != 0);
	CHECK_EQ(raft_term(core(leader)), 1);
	run(20 * T_US);
	CHECK_EQ(leader_now(), leader); /* and it stays */
	CHECK_EQ(raft_term(core(leader)), 1);
	crash(leader);
	CHECK(run_until_leader(6 * T_US) != 0);
}

/* Drawn from [T, 2T), newly for each campaign and not the same for all. */
static void
election_timeouts_are_spread(void)
{
	int64_t		seen[40];
	int			distinct = 0;

	cluster(2);
	isolate(1);
	isolate(2);
	tick(1);
	for (int i = 0; i < 40; i++)
	{
		seen[i] = node(1)->deadline_us - now_us;
		CHECK(seen[i] >= 0 && seen[i] <= 2 * T_US);
		now_us = node(1)->deadline_us;
		tick(1);
	}
	for (int i = 1; i < 40; i++)
		distinct += seen[i] != seen[i - 1];
	CHECK(distinct > 30);
}

static void
election_needs_a_current_log(void)
{
	cluster_unstarted(IDS(1, 2, 3), 0);
	seed_log(1, TERMS(1, 1));
	seed_log(2, TERMS(1, 1, 1));	/* longer */
	seed_log(3, TERMS(2));		/* newer */
	start_all();
	jump(2 * T_US);
	campaign(1);
	settle();
	CHECK(!is_leader(1));
	jump(3 * T_US);
	campaign(2);				/* 1 says yes, 3 no */
	settle();
	CHECK(is_leader(2) || raft_role(core(2)) != RAFT_LEADER);
	jump(3 * T_US);
	campaign(3);
	settle();
	CHECK(is_leader(3) || is_leader(2));
	check_converged();
}

static void
election_of_one_waits_for_nobody(void)
{
	cluster(1);
	run(1);
	CHECK(is_leader(1));
	CHECK_EQ(commit_of(1), 1);
	CHECK_EQ(raft_leader(core(1)), 1);
}

/* ---------- P-01 ---------- */

static void
P01_vote_waits_for_the_disk(void)
{
	cluster(3);
	jump(2 * T_US);
	isolate(3);
	hold_disk(2);
	campaign(1);
	settle();
	CHECK_EQ(raft_role(core(1)), RAFT_CANDIDATE);
	CHECK_EQ(count_msgs(RAFT_MSG_VOTE_RESP, 2, 1), 0);
	CHECK_EQ(node(2)->hard.vote, 0);

	/* lost with the crash: it never left, so 2 may vote for 3 in that term */
	restart(2);
	settle();
	CHECK(!is_leader(1));
	CHECK_EQ(raft_term(core(2)), 0);
	heal();
	elect(3);
	CHECK_EQ(raft_leader(core(2)), 3);
}

static void
P01_vote_survives_the_crash(void)
{
	cluster(3);
	jump(2 * T_US);
	become_candidate(1, IDS(2));
	drop(ANY, ANY, 3);
	become_candidate(3, IDS(2));
	deliver(RAFT_MSG_VOTE, 1, 2);
	CHECK_EQ(node(2)->hard.vote, 1);
	CHECK_EQ(node(2)->hard.term, 1);
	drop(RAFT_MSG_VOTE_RESP, 2, 1);
	restart(2);
	jump(2 * T_US);
	deliver(RAFT_MSG_VOTE, 3, 2);
	if (count_msgs(RAFT_MSG_VOTE_RESP, 2, 3) > 0)
		CHECK(peek(RAFT_MSG_VOTE_RESP, 2, 3)->reject);
	settle();
	CHECK(!is_leader(3));

	/* but the same candidate may ask again */
	inject(2, (RaftMsg) {.type = RAFT_MSG_VOTE,.from = 1,.to = 2,.term = 1,
		   .instance = {0xa0, 1}});
	CHECK(!peek(RAFT_MSG_VOTE_RESP, 2, 1)->reject);
}

/* A rejection says "my term is yours": that must be on disk as well. */
static void
P01_rejection_waits_for_the_disk(void)
{
	cluster_unstarted(IDS(1, 2, 3), 0);
	seed_log(2, TERMS(1, 1));
	seed_log(3, TERMS(1, 1));
	start_all();
	jump(2 * T_US);
	hold_disk(2);
	inject(2, message(RAFT_MSG_VOTE, 1, 2, 5));
	CHECK_EQ(raft_term(core(2)), 5);
	CHECK_EQ(count_msgs(RAFT_MSG_VOTE_RESP, 2, 1), 0);
	release_disk(2);
	CHECK_EQ(node(2)->hard.term, 5);
	CHECK(peek(RAFT_MSG_VOTE_RESP, 2, 1)->reject);
	drop(ANY, ANY, ANY);

	hold_disk(3);
	inject(3, (RaftMsg) {.type = RAFT_MSG_APPEND,.from = 1,.to = 3,.term = 5,.index = 9,
		   .log_term = 4,.instance = {0xa0, 1}});
	CHECK_EQ(count_msgs(RAFT_MSG_APPEND_RESP, 3, 1), 0);
	release_disk(3);
	CHECK(peek(RAFT_MSG_APPEND_RESP, 3, 1)->reject);
}

static void
P01_acknowledgement_waits_for_the_disk(void)
{
	uint64_t	index;

	cluster(3);
	elect(1);
	isolate(3);
	hold_disk(2);
	index = propose(1, "a");
	settle();
	CHECK_EQ(last_of(2), index);
	CHECK_EQ(commit_of(1), index - 1);
	restart(2);
	CHECK_EQ(last_of(2), index - 1);
	settle();
	CHECK_EQ(commit_of(1), index - 1);
	run(4 * HB_US);				/* and it is sent again */
	CHECK_EQ(commit_of(1), index);
}

/*
 * A candidate that asks for votes before its term is durable may, after a
 * crash, be a candidate of the same term again, with a shorter log. Votes given
 * to its first self would then elect the second: 2 has and acknowledged entry 2,
 * which is committed; 3 only had it in memory when it asked.
 */
static void
P01_candidate_never_uses_a_term_twice(void)
{
	uint64_t	index;

	cluster(3);
	elect(1);
	hold_disk(3);
	index = propose(1, "committed by 1 and 2");
	settle();
	CHECK_EQ(commit_of(1), index);
	CHECK_EQ(last_of(3), index);
	CHECK_EQ(log_last(&node(3)->disk), index - 1);

	/* 3 campaigns with the unwritten entry, 2 would vote for it */
	isolate(1);
	jump(2 * T_US);
	campaign(3);
	deliver_all(RAFT_MSG_PREVOTE, 3, 2);
	deliver_all(RAFT_MSG_PREVOTE_RESP, 2, 3);
	deliver_all(RAFT_MSG_VOTE, 3, 2);
	crash(3);					/* nothing of it was written */
	restart(3);
	CHECK_EQ(last_of(3), index - 1);

	/* the grant, if there is one, is slow and finds the second campaign */
	jump(2 * T_US);
	campaign(3);
	while (count_msgs(RAFT_MSG_PREVOTE, 3, 2) > 0)
		deliver(RAFT_MSG_PREVOTE, 3, 2);
	if (raft_role(core(3)) != RAFT_CANDIDATE)
		inject(3, message(RAFT_MSG_PREVOTE_RESP, 2, 3, raft_term(core(3)) + 1));
	while (count_msgs(RAFT_MSG_VOTE_RESP, 2, 3) > 0)
		deliver(RAFT_MSG_VOTE_RESP, 2, 3);
	CHECK(!is_leader(3));
	heal();
	check_converged();
	CHECK(has_data(3, index, "committed by 1 and 2"));
}

/* Crash after each write of an election and of replication, at each node. */
static void
P01_crash_after_every_write(void)
{
	for (uint32_t victim = 1; victim <= 3; victim++)
		for (int budget = 0; budget < 14; budget++)
		{
			int			left = budget;

			again();
			cluster(3);
			hold_disk(victim);
			jump(2 * T_US);
			campaign(1);
			for (int step = 0; step < 40; step++)
			{
				settle();
				if (step % 5 == 4 && leader_now() != 0)
					try_propose(leader_now(), "x", NULL);
				if (step == 20 && node(2)->up)
					campaign(2);
				if (!node(victim)->up || node(victim)->writes == NULL)
					continue;
				if (left-- > 0)
					sync_one(victim);
				else
					crash(victim);
			}
			restart(victim);
			check_converged();
		}
}

/* ---------- P-02 ---------- */

static void
P02_term_and_vote_in_one_write(void)
{
	cluster(3);
	jump(2 * T_US);
	hold_disk(1);
	hold_disk(2);
	campaign(1);
	settle();
	for (Write *w = node(1)->writes; w != NULL; w = w->next)
		CHECK(!w->hard_changed || w->hard.term == 0 || w->hard.vote == 1);
	CHECK(node(1)->writes != NULL && node(1)->writes->hard.term == 1);

	/* all of it, at any moment: the voter either has both or none */
	release_disk(1);
	settle();
	for (Write *w = node(2)->writes; w != NULL; w = w->next)
		CHECK(!w->hard_changed || w->hard.term == 0 || w->hard.vote == 1);
	CHECK(node(2)->writes != NULL && node(2)->writes->hard.term == 1);
	release_disk(2);
	settle();
	CHECK(is_leader(1));
}

/* ---------- P-03 ---------- */

/* CCF's pre_vote_double_leader. */
static void
P03_vote_kept_by_precandidate_on_unmatched_append(void)
{
	cluster_unstarted(IDS(1, 2, 3), 0);
	seed_log(1, TERMS(1, 1, 1, 1, 1));
	seed_log(2, TERMS(1, 1, 1, 1));
	seed_log(3, TERMS(1, 1, 1, 1));
	start_all();
	jump(2 * T_US);
	campaign(1);
	campaign(3);
	drop(ANY, 1, 3);
	drop(ANY, 3, 1);
	deliver(RAFT_MSG_PREVOTE, 1, 2);
	deliver(RAFT_MSG_PREVOTE, 3, 2);
	deliver(RAFT_MSG_PREVOTE_RESP, 2, 1);
	deliver(RAFT_MSG_PREVOTE_RESP, 2, 3);
	CHECK_EQ(raft_role(core(1)), RAFT_CANDIDATE);
	CHECK_EQ(raft_role(core(3)), RAFT_CANDIDATE);

	deliver(RAFT_MSG_VOTE, 1, 2);
	deliver(RAFT_MSG_VOTE_RESP, 2, 1);
	CHECK(is_leader(1));
	CHECK_EQ(raft_term(core(1)), 2);

	/* 2 voted in term 2, is a pre-candidate in it, hears from the leader */
	jump(2 * T_US);
	campaign(2);
	CHECK_EQ(raft_role(core(2)), RAFT_PRECANDIDATE);
	CHECK_EQ(raft_term(core(2)), 2);
	drop(ANY, 2, ANY);
	CHECK(peek(RAFT_MSG_APPEND, 1, 2)->index > last_of(2));
	deliver(RAFT_MSG_APPEND, 1, 2);
	CHECK_EQ(raft_role(core(2)), RAFT_FOLLOWER);
	CHECK_EQ(last_of(2), 4);
	CHECK_EQ(node(2)->hard.vote, 1);
	drop(ANY, 2, ANY);

	jump(2 * T_US);
	deliver(RAFT_MSG_VOTE, 3, 2);
	deliver_all(RAFT_MSG_VOTE_RESP, 2, 3);
	CHECK(!is_leader(3));
	CHECK_EQ(node(2)->hard.vote, 1);
	check_converged();
}

/* CCF's former_candidate_double_vote (#5891), five nodes. */
static void
P03_vote_kept_by_former_candidate(void)
{
	cluster_unstarted(IDS(1, 2, 3, 4, 5), 0);
	for (uint32_t id = 1; id <= 5; id++)
		seed_log(id, TERMS(1, 1, 1));
	seed_log(3, TERMS(1));
	start_all();
	jump(2 * T_US);
	campaign(2);
	campaign(3);
	campaign(4);
	for (uint32_t c = 2; c <= 4; c++)
	{
		deliver(RAFT_MSG_PREVOTE, c, 1);
		deliver(RAFT_MSG_PREVOTE, c, 5);
	}
	for (uint32_t c = 2; c <= 4; c++)
	{
		deliver(RAFT_MSG_PREVOTE_RESP, 1, c);
		deliver(RAFT_MSG_PREVOTE_RESP, 5, c);
		CHECK_EQ(raft_role(core(c)), RAFT_CANDIDATE);
	}
	drop(RAFT_MSG_PREVOTE, ANY, ANY);

	deliver(RAFT_MSG_VOTE, 3, 1);
	deliver(RAFT_MSG_VOTE_RESP, 1, 3);
	deliver(RAFT_MSG_VOTE, 3, 5);
	deliver(RAFT_MSG_VOTE_RESP, 5, 3);
	CHECK(is_leader(3));

	deliver(RAFT_MSG_VOTE, 3, 2);
	CHECK_EQ(raft_role(core(2)), RAFT_CANDIDATE);
	deliver(RAFT_MSG_APPEND, 3, 2);
	CHECK_EQ(raft_role(core(2)), RAFT_FOLLOWER);
	jump(2 * T_US);
	deliver(RAFT_MSG_VOTE, 4, 2);
	CHECK_EQ(node(2)->hard.vote, 2);
	settle();
	CHECK(!is_leader(4));
}

/* A candidate that steps down to the winner of its term keeps its own vote. */
static void
P03_vote_kept_by_loser(void)
{
	cluster(3);
	jump(2 * T_US);
	become_candidate(1, IDS(2));
	drop(ANY, 1, 3);
	inject(1, message(RAFT_MSG_HEARTBEAT, 3, 1, raft_term(core(1))));
	CHECK_EQ(raft_role(core(1)), RAFT_FOLLOWER);
	jump(2 * T_US);
	inject(1, message(RAFT_MSG_VOTE, 2, 1, raft_term(core(1))));
	CHECK_EQ(node(1)->hard.vote, 1);
	if (count_msgs(RAFT_MSG_VOTE_RESP, 1, 2) > 0)
		CHECK(peek(RAFT_MSG_VOTE_RESP, 1, 2)->reject);
}

/* ---------- P-04 ---------- */

/* etcd TestCandidateSelfVoteAfterLostElection */
static void
P04_self_vote_after_lost_election(void)
{
	cluster(3);
	jump(2 * T_US);
	hold_disk(1);
	become_candidate(1, IDS(2));
	inject(1, message(RAFT_MSG_HEARTBEAT, 2, 1, raft_term(core(1))));
	CHECK_EQ(raft_role(core(1)), RAFT_FOLLOWER);
	release_disk(1);
	CHECK_EQ(raft_role(core(1)), RAFT_FOLLOWER);
	inject(1, message(RAFT_MSG_VOTE_RESP, 3, 1, raft_term(core(1))));
	CHECK_EQ(raft_role(core(1)), RAFT_FOLLOWER);
}

/* etcd TestCandidateDeliversPreCandidateSelfVoteAfterBecomingCandidate */
static void
P04_precandidate_self_vote_after_becoming_candidate(void)
{
	uint64_t	term;

	cluster(3);
	jump(2 * T_US);
	hold_disk(1);
	campaign(1);
	CHECK_EQ(raft_role(core(1)), RAFT_PRECANDIDATE);
	term = raft_term(core(1)) + 1;
	inject(1, message(RAFT_MSG_PREVOTE_RESP, 2, 1, term));
	inject(1, message(RAFT_MSG_PREVOTE_RESP, 3, 1, term));
	CHECK_EQ(raft_role(core(1)), RAFT_CANDIDATE);

	/* its own vote is not on disk: one grant is one vote, not two */
	inject(1, message(RAFT_MSG_VOTE_RESP, 2, 1, term));
	CHECK_EQ(raft_role(core(1)), RAFT_CANDIDATE);
	release_disk(1);
	CHECK(is_leader(1));
}

/* etcd TestLeaderMsgAppSelfAckAfterTermChange */
static void
P04_leader_self_ack_after_term_change(void)
{
	uint64_t	index;

	cluster(3);
	elect(1);
	hold_disk(1);
	index = propose(1, "a");
	drop(ANY, ANY, ANY);
	inject(1, message(RAFT_MSG_HEARTBEAT, 2, 1, raft_term(core(1)) + 1));
	CHECK_EQ(raft_role(core(1)), RAFT_FOLLOWER);
	release_disk(1);
	CHECK_EQ(raft_role(core(1)), RAFT_FOLLOWER);
	CHECK_EQ(commit_of(1), index - 1);
}

static void
P04_grant_of_an_earlier_term_does_not_count(void)
{
	Packet	   *stale;
	RaftMsg		rejected;

	cluster(3);
	isolate(3);
	jump(2 * T_US);
	become_candidate(1, IDS(2));
	deliver(RAFT_MSG_VOTE, 1, 2);
	stale = take(RAFT_MSG_VOTE_RESP, 2, 1);
	drop(ANY, ANY, ANY);
	jump(3 * T_US);
	become_candidate(1, IDS(2));
	CHECK(raft_term(core(1)) > stale->msg.term);
	put(stale);
	deliver(RAFT_MSG_VOTE_RESP, 2, 1);
	CHECK_EQ(raft_role(core(1)), RAFT_CANDIDATE);

	/* nor does a grant of this term to a follower of it */
	rejected = message(RAFT_MSG_HEARTBEAT, 3, 1, raft_term(core(1)));
	inject(1, rejected);
	CHECK_EQ(raft_role(core(1)), RAFT_FOLLOWER);
	settle();
	CHECK_EQ(raft_role(core(1)), RAFT_FOLLOWER);
}

static void
P04_doubled_grants_count_once(void)
{
	cluster(5);
	jump(2 * T_US);
	become_candidate(1, IDS(2, 3));
	deliver(RAFT_MSG_VOTE, 1, 2);
	duplicate(RAFT_MSG_VOTE_RESP, 2, 1);
	duplicate(RAFT_MSG_VOTE_RESP, 2, 1);
	CHECK_EQ(deliver_all(RAFT_MSG_VOTE_RESP, 2, 1), 3);
	CHECK_EQ(raft_role(core(1)), RAFT_CANDIDATE);
	deliver(RAFT_MSG_VOTE, 1, 3);
	deliver(RAFT_MSG_VOTE_RESP, 3, 1);
	CHECK(is_leader(1));
}

static void
P04_prevote_grants_are_not_votes(void)
{
	uint64_t	term;

	cluster(5);
	jump(2 * T_US);
	become_candidate(1, IDS(2, 3));
	term = raft_term(core(1));
	for (uint32_t id = 2; id <= 5; id++)
	{
		inject(1, message(RAFT_MSG_PREVOTE_RESP, id, 1, term));
		inject(1, message(RAFT_MSG_PREVOTE_RESP, id, 1, term + 1));
	}
	CHECK(raft_term(core(1)) == term);
	CHECK_EQ(raft_role(core(1)), RAFT_CANDIDATE);
}

static void
P04_grants_of_learners_and_strangers_do_not_count(void)
{
	uint64_t	term;

	cluster_of(IDS(1, 2, 3), IDS(4));
	jump(2 * T_US);
	campaign(1);
	term = raft_term(core(1)) + 1;
	inject(1, message(RAFT_MSG_PREVOTE_RESP, 4, 1, term));
	inject(1, message(RAFT_MSG_PREVOTE_RESP, 9, 1, term));
	CHECK_EQ(raft_role(core(1)), RAFT_PRECANDIDATE);
	inject(1, message(RAFT_MSG_PREVOTE_RESP, 2, 1, term));
	CHECK_EQ(raft_role(core(1)), RAFT_CANDIDATE);
	inject(1, message(RAFT_MSG_VOTE_RESP, 4, 1, term));
	inject(1, message(RAFT_MSG_VOTE_RESP, 9, 1, term));
	CHECK_EQ(raft_role(core(1)), RAFT_CANDIDATE);
	inject(1, message(RAFT_MSG_VOTE_RESP, 3, 1, term));
	CHECK(is_leader(1));
}

/* First the no of a majority, then late yeses: the first word of each counts. */
static void
P04_lost_election_is_lost(void)
{
	uint64_t	term;
	RaftMsg		no;

	cluster(5);
	jump(2 * T_US);
	become_candidate(1, IDS(2, 3));
	term = raft_term(core(1));
	for (uint32_t id = 3; id <= 5; id++)
	{
		no = message(RAFT_MSG_VOTE_RESP, id, 1, term);
		no.reject = true;
		inject(1, no);
	}
	CHECK(raft_role(core(1)) != RAFT_LEADER);
	for (uint32_t id = 2; id <= 5; id++)
		inject(1, message(RAFT_MSG_VOTE_RESP, id, 1, term));
	CHECK(!is_leader(1));
	CHECK_EQ(node(1)->hard.vote, 1);
}

/* Votes that are equal in number: nobody wins, the next round decides. */
static void
election_split_vote_ends(void)
{
	cluster(4);
	jump(2 * T_US);
	become_candidate(1, IDS(3, 4));
	become_candidate(2, IDS(3, 4));
	deliver(RAFT_MSG_VOTE, 1, 3);
	deliver(RAFT_MSG_VOTE, 2, 4);
	settle();
	CHECK_EQ(leader_now(), 0);
	check_converged();
}

/* Log rewound on the voter's side must not change its judgment: index 0 log. */
static void
election_vote_is_given_to_equal_logs_only_once(void)
{
	uint64_t	term;

	cluster(3);
	jump(2 * T_US);
	term = 7;
	inject(2, message(RAFT_MSG_VOTE, 1, 2, term));
	inject(2, message(RAFT_MSG_VOTE, 3, 2, term));
	CHECK(!peek(RAFT_MSG_VOTE_RESP, 2, 1)->reject);
	CHECK(peek(RAFT_MSG_VOTE_RESP, 2, 3)->reject);
}

const Test	tests_elections[] = {
	TEST(election_of_three),
	TEST(election_by_timeout),
	TEST(election_timeouts_are_spread),
	TEST(election_needs_a_current_log),
	TEST(election_of_one_waits_for_nobody),
	TEST(election_split_vote_ends),
	TEST(election_vote_is_given_to_equal_logs_only_once),
	TEST(P01_vote_waits_for_the_disk),
	TEST(P01_vote_survives_the_crash),
	TEST(P01_rejection_waits_for_the_disk),
	TEST(P01_acknowledgement_waits_for_the_disk),
	TEST(P01_candidate_never_uses_a_term_twice),
	TEST(P01_crash_after_every_write),
	TEST(P02_term_and_vote_in_one_write),
	TEST(P03_vote_kept_by_precandidate_on_unmatched_append),
	TEST(P03_vote_kept_by_former_candidate),
	TEST(P03_vote_kept_by_loser),
	TEST(P04_self_vote_after_lost_election),
	TEST(P04_precandidate_self_vote_after_becoming_candidate),
	TEST(P04_leader_self_ack_after_term_change),
	TEST(P04_grant_of_an_earlier_term_does_not_count),
	TEST(P04_doubled_grants_count_once),
	TEST(P04_prevote_grants_are_not_votes),
	TEST(P04_grants_of_learners_and_strangers_do_not_count),
	TEST(P04_lost_election_is_lost),
	{NULL, NULL}
};
