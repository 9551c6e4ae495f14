/*-------------------------------------------------------------------------
 *
 * test_replication.c
 *		What a follower does with appends, and a leader with their answers
 *		(P-12 to P-15, P-17 to P-19).
 *
 *-------------------------------------------------------------------------
 */
#include "harness.h"

/* An append of entries with these terms behind (prev, prev_term). */
static RaftMsg
append(uint32_t from, uint32_t to, uint64_t term, uint64_t prev, uint64_t prev_term,
	   uint64_t commit, const int *terms)
{
	RaftMsg		m = message(RAFT_MSG_APPEND, from, to, term);

	m.index = prev;
	m.log_term = prev_term;
	m.commit = commit;
	m.entries = entries_of(prev + 1, terms, &m.nentries);
	if (m.nentries == 0)
	{
		free(m.entries);
		m.entries = NULL;
	}
	return m;
}

/* Node 2 with this log, following 1 or 3 when told so. */
static void
follower_with(const int *terms)
{
	cluster_unstarted(IDS(1, 2, 3), 0);
	seed_log(2, terms);
	start_all();
	quorum_oracle = false;		/* its leader is this file */
}

static const RaftMsg *
answer(void)
{
	const RaftMsg *m = peek(RAFT_MSG_APPEND_RESP, 2, ANY);

	CHECK(m != NULL);
	return m;
}

/* ---------- P-12 ---------- */

static void
P12_commit_not_past_what_an_empty_append_matched(void)
{
	follower_with(TERMS(1, 1, 1, 1, 1));	/* 4 and 5 are a stale tail */
	inject(2, append(1, 2, 2, 3, 1, 5, TERMS(0)));
	CHECK_EQ(commit_of(2), 3);
	CHECK_EQ(node(2)->applied, 3);
	CHECK_EQ(answer()->index, 3);
	CHECK(!answer()->reject);
}

static void
P12_commit_not_past_what_an_append_brought(void)
{
	follower_with(TERMS(1, 1, 1, 1, 1));
	inject(2, append(1, 2, 2, 1, 1, 5, TERMS(1, 1)));	/* 2 and 3, known ones */
	CHECK_EQ(commit_of(2), 3);
	CHECK_EQ(last_of(2), 5);
	inject(2, append(1, 2, 2, 3, 1, 9, TERMS(2)));
	CHECK_EQ(commit_of(2), 4);
	CHECK_EQ(last_of(2), 4);
}

static void
P12_commit_not_moved_by_a_refused_append(void)
{
	follower_with(TERMS(1, 1, 1));
	inject(2, append(1, 2, 2, 5, 2, 5, TERMS(2)));
	CHECK_EQ(commit_of(2), 0);
	CHECK(answer()->reject);
	drop(ANY, ANY, ANY);
	inject(2, append(1, 2, 2, 3, 2, 3, TERMS(2)));	/* term of 3 is another */
	CHECK(answer()->reject);
	CHECK_EQ(commit_of(2), 0);
}

/*
 * A heartbeat says nothing about the receiver's tail: the leader caps its commit
 * index by what it knows to match, which the oracle checks for all heartbeats.
 */
static void
P12_heartbeat_does_not_commit_a_stale_tail(void)
{
	RaftMsg		m;

	follower_with(TERMS(1, 1, 1, 1, 1));
	m = message(RAFT_MSG_HEARTBEAT, 1, 2, 2);
	m.commit = 0;				/* a leader knows no match yet */
	inject(2, m);
	CHECK_EQ(commit_of(2), 0);
	inject(2, append(1, 2, 2, 3, 1, 3, TERMS(0)));
	CHECK_EQ(commit_of(2), 3);
	m = message(RAFT_MSG_HEARTBEAT, 1, 2, 2);
	m.commit = 3;
	inject(2, m);
	CHECK_EQ(commit_of(2), 3);
}

/* The whole story: a real leader, and a follower with a longer, stale tail. */
static void
P12_heartbeat_of_a_real_leader_to_a_stale_tail(void)
{
	uint64_t	index;

	cluster(3);
	elect(1);
	isolate(1);
	for (int i = 0; i < 5; i++)
		propose(1, "lost");
	settle();
	heal();
	isolate(1);
	elect(2);
	index = propose(2, "kept");
	propose(2, "kept too");
	settle();
	heal();

	/* heartbeats arrive at 1 before any append */
	run(2 * HB_US);
	drop(ANY, ANY, ANY);
	check_converged();
	CHECK(has_data(1, index, "kept"));
}

static void
P12_read_index_answer_does_not_commit(void)
{
	RaftMsg		m;

	follower_with(TERMS(1, 1, 1, 1, 1));
	inject(2, message(RAFT_MSG_HEARTBEAT, 1, 2, 2));
	read_index(2, 7);
	m = message(RAFT_MSG_READ_INDEX_RESP, 1, 2, 2);
	CHECK_EQ(count_msgs(RAFT_MSG_READ_INDEX, 2, 1), 1);
	m.context = peek(RAFT_MSG_READ_INDEX, 2, 1)->context;
	m.index = 5;
	m.commit = 5;
	inject(2, m);
	CHECK_EQ(commit_of(2), 0);
	CHECK(read_of(2, 7)->done);
}

static void
P12_commit_index_never_goes_back(void)
{
	follower_with(TERMS(1, 1, 1, 1, 1));
	inject(2, append(1, 2, 1, 5, 1, 4, TERMS(0)));
	CHECK_EQ(commit_of(2), 4);
	inject(2, append(1, 2, 1, 5, 1, 2, TERMS(0)));
	inject(2, append(1, 2, 1, 2, 1, 5, TERMS(0)));
	CHECK_EQ(commit_of(2), 4);
	inject(2, message(RAFT_MSG_HEARTBEAT, 1, 2, 1));
	CHECK_EQ(commit_of(2), 4);
}

/* ---------- P-13 ---------- */

static void
P13_append_of_a_prefix_keeps_the_tail(void)
{
	follower_with(TERMS(1, 1, 2, 2, 2));
	inject(2, append(1, 2, 2, 0, 0, 0, TERMS(1, 1)));
	CHECK_EQ(last_of(2), 5);
	inject(2, append(1, 2, 2, 2, 1, 0, TERMS(2)));
	CHECK_EQ(last_of(2), 5);
	inject(2, append(1, 2, 2, 3, 2, 0, TERMS(0)));
	CHECK_EQ(last_of(2), 5);
	CHECK_EQ(node(2)->syncs, 0);	/* nothing to write either */
}

static void
P13_cut_only_from_the_first_conflict(void)
{
	follower_with(TERMS(1, 1, 2, 2, 2));
	inject(2, append(3, 2, 4, 1, 1, 0, TERMS(1, 2, 4)));
	CHECK_EQ(last_of(2), 4);
	CHECK_EQ(log_term(&node(2)->log, 3), 2);
	CHECK_EQ(log_term(&node(2)->log, 4), 4);
	CHECK(has_data(2, 3, "3/2"));
}

/* Reordered and doubled appends of one leader, all orders by chance. */
static void
P13_reordered_and_doubled_appends(void)
{
	for (uint64_t seed = 1; seed <= 200; seed++)
	{
		uint64_t	s = seed * 77;

		harness_end();
		harness_begin();
		base_config.max_message_bytes = 1 + rnd(&s) % 200;
		cluster(3);
		elect(1);
		for (int i = 0; i < 12; i++)
		{
			char		text[16];
			uint64_t	before;

			snprintf(text, sizeof(text), "p%d", i);
			propose(1, text);
			if (count_msgs(RAFT_MSG_APPEND, ANY, ANY) > 0 && rnd(&s) % 2 == 0)
				duplicate(RAFT_MSG_APPEND, ANY, ANY);
			shuffle(&s);
			for (int k = (int) (rnd(&s) % 4); k > 0 && count_msgs(ANY, ANY, ANY) > 0; k--)
			{
				before = last_of(2);
				if (rnd(&s) % 8 == 0)
					duplicate(ANY, ANY, ANY);
				deliver(ANY, ANY, ANY);
				CHECK(last_of(2) >= before);	/* nothing conflicts here */
			}
		}
		while (count_msgs(ANY, ANY, ANY) > 0)
		{
			shuffle(&s);
			deliver(ANY, ANY, ANY);
		}
		check_converged();
	}
}

/* An append of the leader before, late, must not touch what the new one sent. */
static void
P13_append_of_an_old_term_changes_nothing(void)
{
	follower_with(TERMS(1, 1));
	inject(2, append(3, 2, 3, 2, 1, 3, TERMS(3, 3)));
	CHECK_EQ(commit_of(2), 3);
	inject(2, append(1, 2, 2, 2, 1, 0, TERMS(2, 2, 2)));
	CHECK_EQ(last_of(2), 4);
	CHECK_EQ(log_term(&node(2)->log, 3), 3);
	CHECK_EQ(raft_term(core(2)), 3);
}

/* What is committed is never cut, whoever asks: refused, not obeyed. */
static void
P13_committed_entries_are_never_cut(void)
{
	follower_with(TERMS(1, 1, 1));
	inject(2, append(1, 2, 1, 3, 1, 3, TERMS(0)));
	CHECK_EQ(commit_of(2), 3);
	inject(2, append(3, 2, 2, 1, 1, 1, TERMS(2)));
	CHECK_EQ(log_term(&node(2)->log, 2), 1);
	CHECK_EQ(commit_of(2), 3);
}

/* ---------- P-14 ---------- */

static void
P14_refusal_never_moves_match(void)
{
	uint64_t	index;
	RaftMsg		m;

	cluster(3);
	elect(1);
	isolate(3);
	index = propose(1, "a");
	isolate(2);
	for (int i = 0; i < 4; i++)
		propose(1, "b");
	drop(ANY, ANY, ANY);
	CHECK_EQ(peer_of(1, 2).match, index - 1);

	/* a refusal that names a high index as hint, and one as index */
	m = message(RAFT_MSG_APPEND_RESP, 2, 1, raft_term(core(1)));
	m.reject = true;
	m.index = last_of(1);
	m.hint = last_of(1);
	m.log_term = 1;
	inject(1, m);
	CHECK_EQ(peer_of(1, 2).match, index - 1);
	CHECK_EQ(commit_of(1), index - 1);
	m.from = 3;
	instance_of(3, m.instance);
	inject(1, m);
	CHECK_EQ(peer_of(1, 3).match, index - 1);
	CHECK_EQ(commit_of(1), index - 1);
}

static void
P14_stale_refusal_moves_nothing(void)
{
	RaftPeerStatus s;
	RaftMsg		m;

	cluster(3);
	elect(1);
	for (int i = 0; i < 5; i++)
		propose(1, "a");
	settle();
	s = peer_of(1, 2);
	for (uint64_t at = 0; at <= last_of(1); at++)
	{
		m = message(RAFT_MSG_APPEND_RESP, 2, 1, raft_term(core(1)));
		m.reject = true;
		m.index = at;
		m.hint = at > 0 ? at - 1 : 0;
		inject(1, m);
		CHECK_EQ(peer_of(1, 2).match, s.match);
		CHECK(peer_of(1, 2).next > s.match);
	}
	check_converged();
}

/* Acks out of order, doubled, and of less than is known. */
static void
P14_match_only_grows(void)
{
	RaftMsg		m;

	cluster(3);
	elect(1);
	for (int i = 0; i < 5; i++)
		propose(1, "a");
	settle();
	m = message(RAFT_MSG_APPEND_RESP, 2, 1, raft_term(core(1)));
	for (uint64_t at = last_of(1) + 1; at-- > 0;)
	{
		m.index = at;
		inject(1, m);
		CHECK_EQ(peer_of(1, 2).match, last_of(1));
	}
}

/* An ack above the leader's end is a lie (a restarted or broken peer). */
static void
P14_ack_above_the_end_is_ignored(void)
{
	RaftMsg		m;

	cluster(3);
	elect(1);
	isolate(2);
	isolate(3);
	propose(1, "a");
	m = message(RAFT_MSG_APPEND_RESP, 2, 1, raft_term(core(1)));
	m.index = last_of(1) + 5;
	inject(1, m);
	CHECK(peer_of(1, 2).match <= last_of(1));
	m.index = UINT64_MAX;
	inject(1, m);
	CHECK(peer_of(1, 2).match <= last_of(1));
	CHECK_EQ(raft_check_invariants(core(1)) == NULL, 1);
}

/* CCF suffix_collision.3: two long branches with the same indexes. */
static void
P14_commit_not_advanced_by_a_refusal_of_a_colliding_suffix(void)
{
	uint64_t	commit;

	cluster(5);
	elect(1);
	propose(1, "hello");
	propose(1, "saluton");
	settle();
	run(HB_US);
	isolate_groups(IDS(1, 2), IDS(3, 4, 5));
	for (int i = 0; i < 3; i++)
		propose(1, "branch a");
	drop(ANY, ANY, ANY);
	elect(3);
	for (int i = 0; i < 4; i++)
		propose(3, "branch b");
	drop(ANY, ANY, ANY);
	CHECK(last_of(3) > last_of(1));

	/* 3 leads again in a later term, and 1 refuses what it sends */
	commit = commit_of(3);
	heal();
	isolate_groups(IDS(4, 5), IDS(1, 2, 3));
	run(3 * HB_US);
	CHECK_EQ(raft_leader(core(1)), 3);
	settle();
	CHECK(commit_of(3) >= commit);
	heal();
	check_converged();
	CHECK(has_data(1, last_of(3), "branch b") || last_of(3) > 8);
}

/* ---------- P-15 ---------- */

static void
P15_ack_names_what_the_message_matched(void)
{
	follower_with(TERMS(1, 1, 1, 1, 1));
	inject(2, append(1, 2, 2, 1, 1, 0, TERMS(1)));
	CHECK(!answer()->reject);
	CHECK_EQ(answer()->index, 2);
	drop(ANY, ANY, ANY);
	inject(2, append(1, 2, 2, 3, 1, 0, TERMS(0)));
	CHECK_EQ(answer()->index, 3);
	drop(ANY, ANY, ANY);
	inject(2, append(1, 2, 2, 3, 1, 0, TERMS(2, 2, 2)));
	CHECK_EQ(answer()->index, 6);
}

/* The whole story: 2's foreign tail must not count for commit. */
static void
P15_longer_foreign_tail_does_not_commit(void)
{
	cluster_unstarted(IDS(1, 2, 3), 0);
	seed_log(1, TERMS(1, 3));
	seed_log(2, TERMS(1, 2, 2, 2, 2));
	seed_log(3, TERMS(1));
	start_all();
	isolate(3);
	base_config.max_message_bytes = 1;
	jump(2 * T_US);
	campaign(1);
	settle();
	CHECK(is_leader(1));
	CHECK_EQ(commit_of(1), last_of(1));
	CHECK(logs_equal(1, 2));
	heal();
	check_converged();
}

/* ---------- P-17 ---------- */

/* etcd async_storage_writes_append_aba_race.txt, seven nodes. */
static void
P17_late_ack_of_an_overwritten_write(void)
{
	uint64_t	index;

	cluster(7);
	elect(2);
	hold_disk(1);
	index = propose(2, "first");
	deliver(RAFT_MSG_APPEND, 2, 1);
	drop(ANY, 2, ANY);
	CHECK_EQ(last_of(1), index);

	/* 3 leads in the next term and overwrites the same index at 1 only */
	jump(2 * T_US);
	campaign(3);
	for (uint32_t id = 4; id <= 6; id++)
	{
		deliver(RAFT_MSG_PREVOTE, 3, id);
		deliver(RAFT_MSG_PREVOTE_RESP, id, 3);
	}
	for (uint32_t id = 4; id <= 6; id++)
	{
		deliver(RAFT_MSG_VOTE, 3, id);
		deliver(RAFT_MSG_VOTE_RESP, id, 3);
	}
	CHECK(is_leader(3));
	deliver(RAFT_MSG_APPEND, 3, 1);
	drop(ANY, ANY, ANY);
	CHECK_EQ(raft_term_at(core(1), index), raft_term(core(3)));

	/* 3 crashes; 4 leads, 1 hears of it: the third entry at that index */
	crash(3);
	jump(2 * T_US);
	campaign(4);
	for (uint32_t id = 5; id <= 7; id++)
	{
		deliver(RAFT_MSG_PREVOTE, 4, id);
		deliver(RAFT_MSG_PREVOTE_RESP, id, 4);
	}
	if (!is_leader(4) && raft_role(core(4)) != RAFT_CANDIDATE)
	{
		/* 7 was behind in terms and so was 4's first try */
		drop(ANY, ANY, ANY);
		jump(2 * T_US);
		campaign(4);
		for (uint32_t id = 5; id <= 7; id++)
		{
			deliver(RAFT_MSG_PREVOTE, 4, id);
			deliver(RAFT_MSG_PREVOTE_RESP, id, 4);
		}
	}
	for (uint32_t id = 5; id <= 7; id++)
	{
		deliver(RAFT_MSG_VOTE, 4, id);
		deliver(RAFT_MSG_VOTE_RESP, id, 4);
	}
	CHECK(is_leader(4));
	drop(RAFT_MSG_APPEND, 4, 5);
	drop(RAFT_MSG_APPEND, 4, 6);
	drop(RAFT_MSG_APPEND, 4, 7);
	deliver(RAFT_MSG_APPEND, 4, 1);
	CHECK_EQ(raft_term_at(core(1), index), raft_term(core(4)));

	/* now the writes finish, oldest first: the first vouches for nothing */
	CHECK(sync_one(1));
	CHECK_EQ(log_term(&node(1)->disk, index), 1);
	CHECK_EQ(raft_term_at(core(1), index), raft_term(core(4)));
	crash(2);
	while (sync_one(1))
		;
	CHECK_EQ(log_term(&node(1)->disk, index), raft_term(core(4)));
	release_disk(1);
	heal();
	check_converged();
}

/* The same for a leader's own write that counts for commit. */
static void
P17_late_ack_does_not_vouch_for_the_successor(void)
{
	uint64_t	index;

	cluster_unstarted(IDS(1, 2, 3), 0);
	start_all();
	elect(1);
	hold_disk(1);
	isolate(1);
	index = propose(1, "overwritten");
	propose(1, "and this");
	elect(2);
	propose(2, "x");
	settle();
	heal();
	run(2 * HB_US);				/* 1 takes 2's entries; nothing of it is durable */
	CHECK_EQ(raft_term_at(core(1), index), raft_term(core(2)));
	jump(2 * T_US);
	isolate(3);

	/* the old writes end: 1 must not apply or acknowledge on their strength */
	for (int i = 0; i < 2; i++)
	{
		sync_one(1);
		CHECK(node(1)->applied < index);
		settle();
	}
	while (sync_one(1))
		settle();
	release_disk(1);
	heal();
	check_converged();
}

/* Liveness half: after all those overwrites the real write is acknowledged. */
static void
P17_entries_are_acknowledged_in_the_end(void)
{
	cluster(3);
	elect(1);
	isolate(3);
	hold_disk(2);
	propose(1, "a");
	settle();
	/* a term change while the write is out, with nothing new to write */
	inject(2, message(RAFT_MSG_VOTE, 3, 2, raft_term(core(1)) + 1));
	jump(2 * T_US);
	release_disk(2);
	heal();
	check_converged();
}

/* ---------- P-18 ---------- */

static void
compacted_follower(void)
{
	follower_with(TERMS(1, 1, 1, 1, 1, 1));
	inject(2, append(1, 2, 1, 6, 1, 5, TERMS(0)));
	drop(ANY, ANY, ANY);
	CHECK_EQ(node(2)->applied, 5);
	compact(2, 5);				/* 1..4 are gone */
}

static void
P18_prev_zero_is_not_a_match_after_compaction(void)
{
	compacted_follower();
	/* conflicting entries from the very start */
	inject(2, append(3, 2, 4, 0, 0, 9, TERMS(4, 4, 4, 4, 4, 4, 4)));
	CHECK_EQ(log_term(&node(2)->log, 5), 1);
	CHECK_EQ(commit_of(2), 5);
}

static void
P18_prev_below_the_first_index(void)
{
	compacted_follower();
	for (uint64_t prev = 0; prev < 4; prev++)
	{
		/* whatever term it claims: nothing is known of it here */
		inject(2, append(1, 2, 1, prev, 0, 0, TERMS(1)));
		inject(2, append(1, 2, 1, prev, 7, 0, TERMS(0)));
		CHECK_EQ(last_of(2), 6);
		CHECK_EQ(commit_of(2), 5);
	}
	for (int i = 0; i < count_msgs(RAFT_MSG_APPEND_RESP, 2, 1); i++)
	{
		const RaftMsg *m = peek(RAFT_MSG_APPEND_RESP, 2, 1);

		/* either refused, or only what is committed is acknowledged */
		CHECK(m->reject || m->index <= 5);
		drop(RAFT_MSG_APPEND_RESP, 2, 1);
	}
}

static void
P18_first_append_again_after_compaction(void)
{
	Packet	   *first;

	cluster(3);
	jump(2 * T_US);
	campaign(1);
	for (int i = 0; count_msgs(RAFT_MSG_APPEND, 1, 2) == 0; i++)
	{
		CHECK(i < 100);
		deliver(ANY, ANY, ANY);
	}
	first = take(RAFT_MSG_APPEND, 1, 2);
	run(T_US);
	for (int i = 0; i < 8; i++)
		propose(1, "a");
	settle();
	compact(2, commit_of(2));
	put(first);
	settle();
	CHECK_EQ(last_of(2), last_of(1));
	check_converged();
}

/* A log that begins behind a compacted prefix: its own prev matches. */
static void
P18_prev_at_the_compacted_index_matches(void)
{
	compacted_follower();
	inject(2, append(1, 2, 1, 4, 1, 5, TERMS(1, 1)));
	CHECK(!answer()->reject);
	CHECK(answer()->index == 5 || answer()->index == 6);
	CHECK_EQ(last_of(2), 6);
	drop(ANY, ANY, ANY);
	inject(2, append(1, 2, 1, 4, 9, 5, TERMS(0)));	/* wrong term */
	CHECK_EQ(last_of(2), 6);
}

/* ---------- P-19 ---------- */

static void
P19_extreme_indexes(void)
{
	static const uint64_t at[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 1u << 31, 1ull << 32, INT64_MAX,
	UINT64_MAX - 1, UINT64_MAX};
	int			n = sizeof(at) / sizeof(at[0]);

	compacted_follower();
	for (int i = 0; i < n; i++)
		for (int j = 0; j < n; j++)
			for (int type = RAFT_MSG_PREVOTE; type <= RAFT_MSG_SNAPSHOT; type++)
				for (int k = 0; k < 2; k++)
				{
					RaftMsg		m = message((uint8_t) type, 1, 2, 1);

					m.index = at[i];
					m.commit = at[j];
					m.hint = at[j];
					m.log_term = k == 0 ? 1 : at[j];
					m.reject = k == 1;
					inject(2, m);
					drop(ANY, ANY, ANY);
					CHECK(last_of(2) >= 5);
					CHECK(raft_term(core(2)) <= 2);
				}
}

static void
P19_extreme_indexes_at_a_leader(void)
{
	static const uint64_t at[] = {0, 1, 2, 3, 4, 5, 1ull << 32, INT64_MAX, UINT64_MAX - 1,
	UINT64_MAX};
	int			n = sizeof(at) / sizeof(at[0]);

	cluster(3);
	elect(1);
	quorum_oracle = false;		/* acks that nobody sent */
	for (int i = 0; i < 4; i++)
		propose(1, "a");
	isolate(2);
	isolate(3);
	propose(1, "b");
	for (int i = 0; i < n; i++)
		for (int j = 0; j < n; j++)
			for (int type = RAFT_MSG_PREVOTE; type <= RAFT_MSG_SNAPSHOT; type++)
				for (int k = 0; k < 2; k++)
				{
					RaftMsg		m = message((uint8_t) type, 2, 1, raft_term(core(1)));

					m.index = at[i];
					m.commit = at[j];
					m.hint = at[j];
					m.context = at[j];
					m.log_term = k == 0 ? 1 : at[j];
					m.reject = k == 1;
					/* a pre-vote refusal may end a leadership, an ack may commit: not more */
					inject(1, m);
					drop(ANY, ANY, ANY);
					CHECK(commit_of(1) <= last_of(1));
				}
	heal();
}

/* Entries in a message that do not follow one another, or go down in term. */
static void
P19_malformed_entries_are_refused(void)
{
	RaftMsg		m;

	follower_with(TERMS(1, 1));
	m = append(1, 2, 3, 2, 1, 0, TERMS(3, 3));
	m.entries[1].index = 5;
	CHECK_EQ(inject(2, m), RAFT_INVALID);
	m = append(1, 2, 3, 2, 1, 0, TERMS(3, 2));
	CHECK_EQ(inject(2, m), RAFT_INVALID);
	m = append(1, 2, 3, 2, 1, 0, TERMS(4));
	CHECK_EQ(inject(2, m), RAFT_INVALID);
	m = append(1, 2, 3, 2, 1, 0, TERMS(3));
	m.entries[0].index = 2;
	CHECK_EQ(inject(2, m), RAFT_INVALID);
	CHECK_EQ(last_of(2), 2);
	CHECK_EQ(raft_term(core(2)), 1);
}

/* ---------- back-tracking ---------- */

/* The pictures of Raft's figure 7: all logs become the leader's, in few steps. */
static void
replication_repairs_all_logs_of_figure_7(void)
{
	static const int leader[] = {1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 0};
	static const int logs[6][16] = {
		{1, 1, 1, 4, 4, 5, 5, 6, 6, 0},
		{1, 1, 1, 4, 0},
		{1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6, 0},
		{1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7, 0},
		{1, 1, 1, 4, 4, 4, 4, 0},
		{1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3, 0}
	};

	cluster(7);
	for (uint32_t id = 1; id <= 7; id++)
	{
		crash(id);
		seed_log(id, id == 1 ? leader : logs[id - 2]);
	}
	start_all();
	jump(2 * T_US);
	elect(1);
	run(2 * HB_US);
	for (uint32_t id = 2; id <= 7; id++)
		CHECK(logs_equal(1, id));
	CHECK(all_replicating(1));
}

/* etcd TestFastLogRejection: a step a term, not a step an entry. */
static void
replication_backs_up_a_term_at_a_time(void)
{
	int			mine[201];
	int			theirs[201];
	int			rejects = 0;

	for (int i = 0; i < 200; i++)
	{
		mine[i] = i < 3 ? 1 : 5;
		theirs[i] = i < 3 ? 1 : i < 100 ? 2 : 3;
	}
	mine[200] = theirs[200] = 0;
	cluster_unstarted(IDS(1, 2, 3), 0);
	seed_log(1, mine);
	seed_log(2, theirs);
	start_all();
	isolate(3);
	jump(2 * T_US);
	campaign(1);
	for (int i = 0; i < 1000 && count_msgs(ANY, ANY, ANY) > 0; i++)
	{
		const RaftMsg *m = peek(ANY, ANY, ANY);

		rejects += m->type == RAFT_MSG_APPEND_RESP && m->reject;
		deliver(ANY, ANY, ANY);
	}
	CHECK(is_leader(1));
	CHECK(logs_equal(1, 2));
	CHECK(rejects >= 1 && rejects <= 4);
}

/* Stamp, token and payload arrive as they were given. */
static void
replication_carries_stamp_token_payload(void)
{
	char		big[100000];
	uint64_t	index;

	memset(big, 'x', sizeof(big) - 1);
	big[sizeof(big) - 1] = '\0';
	cluster(3);
	elect(1);
	index = propose(1, big);
	propose(1, "");
	settle();
	CHECK(has_data(2, index, big));
	CHECK_EQ(log_at(&node(2)->log, index)->token.node, 1);
	CHECK_EQ(log_at(&node(2)->log, index)->stamp.physical_us, now_us);
	CHECK(logs_equal(1, 2) && logs_equal(1, 3));
}

/* A follower learns of a commit at once, not with the next heartbeat (design 7). */
static void
replication_commit_is_told_at_once(void)
{
	uint64_t	index;

	cluster(3);
	elect(1);
	index = propose(1, "a");
	settle();					/* no time passes */
	CHECK_EQ(commit_of(2), index);
	CHECK_EQ(commit_of(3), index);
	CHECK_EQ(node(2)->applied, index);
}

const Test	tests_replication[] = {
	TEST(replication_repairs_all_logs_of_figure_7),
	TEST(replication_backs_up_a_term_at_a_time),
	TEST(replication_carries_stamp_token_payload),
	TEST(replication_commit_is_told_at_once),
	TEST(P12_commit_not_past_what_an_empty_append_matched),
	TEST(P12_commit_not_past_what_an_append_brought),
	TEST(P12_commit_not_moved_by_a_refused_append),
	TEST(P12_heartbeat_does_not_commit_a_stale_tail),
	TEST(P12_heartbeat_of_a_real_leader_to_a_stale_tail),
	TEST(P12_read_index_answer_does_not_commit),
	TEST(P12_commit_index_never_goes_back),
	TEST(P13_append_of_a_prefix_keeps_the_tail),
	TEST(P13_cut_only_from_the_first_conflict),
	TEST(P13_reordered_and_doubled_appends),
	TEST(P13_append_of_an_old_term_changes_nothing),
	TEST(P13_committed_entries_are_never_cut),
	TEST(P14_refusal_never_moves_match),
	TEST(P14_stale_refusal_moves_nothing),
	TEST(P14_match_only_grows),
	TEST(P14_ack_above_the_end_is_ignored),
	TEST(P14_commit_not_advanced_by_a_refusal_of_a_colliding_suffix),
	TEST(P15_ack_names_what_the_message_matched),
	TEST(P15_longer_foreign_tail_does_not_commit),
	TEST(P17_late_ack_of_an_overwritten_write),
	TEST(P17_late_ack_does_not_vouch_for_the_successor),
	TEST(P17_entries_are_acknowledged_in_the_end),
	TEST(P18_prev_zero_is_not_a_match_after_compaction),
	TEST(P18_prev_below_the_first_index),
	TEST(P18_first_append_again_after_compaction),
	TEST(P18_prev_at_the_compacted_index_matches),
	TEST(P19_extreme_indexes),
	TEST(P19_extreme_indexes_at_a_leader),
	TEST(P19_malformed_entries_are_refused),
	{NULL, NULL}
};
