/*-------------------------------------------------------------------------
 *
 * test_commit.c
 *		What counts as committed, what is handed out for applying, when (P-05,
 *		P-16, P-22 to P-24, P-28, P-29, P-44).
 *
 *-------------------------------------------------------------------------
 */
#include "harness.h"

/* ---------- P-05 ---------- */

/*
 * Raft figure 8. 1 leads in term 4 and has brought entry 2 of term 2 to 2 and 3,
 * a majority. Counting alone must not commit it: 5 can still win with term 3.
 */
static void
figure_8(void)
{
	base_config.max_message_bytes = 1;
	cluster_unstarted(IDS(1, 2, 3, 4, 5), 0);
	for (uint32_t id = 1; id <= 5; id++)
	{
		seed_log(id, TERMS(1));
		node(id)->hard.term = 3;
	}
	seed_log(1, TERMS(2));
	seed_log(2, TERMS(2));
	seed_log(5, TERMS(3));
	start_all();
	isolate(5);
	isolate(4);
	jump(2 * T_US);
	campaign(1);
	for (int i = 0; i < 100 && !is_leader(1); i++)
		deliver(ANY, ANY, ANY);
	CHECK(is_leader(1));
	CHECK_EQ(raft_term(core(1)), 4);

	/* entry 2 to 3 by hand; entry 3 (term 4) to 2 only */
	for (int i = 0; i < 50 && last_of(3) < 2; i++)
	{
		deliver(RAFT_MSG_APPEND, 1, 3);
		drop(RAFT_MSG_APPEND, 1, 4);
		if (last_of(3) < 2)
			deliver(RAFT_MSG_APPEND_RESP, 3, 1);
	}
	CHECK_EQ(raft_term_at(core(3), 2), 2);
	CHECK_EQ(last_of(3), 2);
	deliver_all(RAFT_MSG_APPEND_RESP, 3, 1);
	deliver_all(RAFT_MSG_APPEND, 1, 2);
	deliver_all(RAFT_MSG_APPEND_RESP, 2, 1);
	CHECK_EQ(peer_of(1, 3).match, 2);
	CHECK(peer_of(1, 2).match >= 2);
}

static void
P05_entry_of_an_earlier_term_not_committed_by_counting(void)
{
	figure_8();
	CHECK_EQ(commit_of(1), 0);

	/* (d): 5 wins with the votes of 3 and 4 and overwrites it */
	crash(1);
	drop(ANY, ANY, ANY);
	heal();
	isolate(2);
	elect(5);
	CHECK_EQ(raft_term_at(core(3), 2), 3);
	heal();
	restart(1);
	check_converged();
	CHECK_EQ(raft_term_at(core(1), 2), 3);
}

static void
P05_committed_together_with_an_entry_of_the_own_term(void)
{
	figure_8();
	/* (e): entry 3, of term 4, reaches a majority */
	drop(RAFT_MSG_APPEND, 1, 4);
	deliver_all(RAFT_MSG_APPEND, 1, 3);
	deliver_all(RAFT_MSG_APPEND_RESP, 3, 1);
	CHECK_EQ(commit_of(1), 3);
	drop(ANY, ANY, ANY);
	heal();
	isolate(1);
	jump(2 * T_US);
	campaign(5);
	settle();
	CHECK(!is_leader(5));
	heal();
	check_converged();
	CHECK_EQ(raft_term_at(core(5), 2), 2);
}

/* etcd TestCommitWithoutNewTermEntry and its opposite: a leader commits a no-op itself. */
static void
P05_new_leader_commits_what_it_found(void)
{
	uint64_t	index;

	cluster(3);
	elect(1);
	isolate(3);
	index = propose(1, "a");
	deliver_all(RAFT_MSG_APPEND, 1, 2);
	drop(ANY, ANY, ANY);
	crash(1);
	heal();
	elect(2);					/* no proposal of anybody */
	CHECK_EQ(commit_of(2), index + 1);
	CHECK(has_data(3, index, "a"));
}

/* Counting uses each member's durable match, at every size of a group. */
static void
P05_majority_of_every_size(void)
{
	for (int n = 1; n <= 9; n++)
	{
		uint64_t	index;
		int			needed = n / 2;

		harness_end();
		harness_begin();
		cluster(n);
		elect(1);
		for (int id = 2; id <= n; id++)
			cut((uint32_t) id, 1);
		index = propose(1, "a");
		settle();
		CHECK_EQ(commit_of(1), n == 1 ? index : index - 1);
		for (int id = 2; id <= n; id++)
		{
			RaftMsg		m = message(RAFT_MSG_APPEND_RESP, (uint32_t) id, 1,
									raft_term(core(1)));

			m.index = index;
			inject(1, m);
			CHECK_EQ(commit_of(1), id - 1 >= needed ? index : index - 1);
		}
	}
}

/* ---------- P-16 ---------- */

static void
P16_single_voter_commits_only_what_is_on_disk(void)
{
	uint64_t	index;

	cluster(1);
	run(1);
	CHECK(is_leader(1));
	hold_disk(1);
	index = propose(1, "a");
	CHECK_EQ(commit_of(1), index - 1);
	CHECK_EQ(node(1)->applied, index - 1);
	restart(1);
	run(1);
	CHECK(!has_data(1, index, "a"));
	index = propose(1, "b");
	CHECK_EQ(commit_of(1), index);
	CHECK_EQ(node(1)->applied, index);
	restart(1);
	CHECK(has_data(1, index, "b"));
}

/* And its leadership too: term and own vote first. */
static void
P16_single_voter_elects_itself_only_on_disk(void)
{
	cluster_unstarted(IDS(1), 0);
	restart(1);
	crash(1);
	node(1)->hard.term = 0;
	node(1)->hard.vote = 0;
	log_reset(&node(1)->disk, 0, 0);
	quorum_oracle = false;
	restart(1);
	hold_disk(1);
	run(3 * T_US);
	CHECK(!is_leader(1) || node(1)->hard.vote == 1);
	release_disk(1);
	run(3 * T_US);
	CHECK(is_leader(1));
}

/* A leader of three, whose own disk is slow, may commit through the others. */
static void
P16_leader_counts_itself_only_when_durable(void)
{
	uint64_t	index;

	cluster(3);
	elect(1);
	hold_disk(1);
	isolate(3);
	index = propose(1, "a");
	settle();
	CHECK_EQ(commit_of(1), index - 1);	/* 2 alone is no majority */
	heal();
	run(3 * HB_US);
	CHECK_EQ(commit_of(1), index);	/* 2 and 3 are */
	CHECK_EQ(node(1)->applied, index - 1);	/* but not applied before it is here */
	release_disk(1);
	CHECK_EQ(node(1)->applied, index);
}

static void
P16_follower_applies_only_what_is_on_disk(void)
{
	uint64_t	index;

	cluster(3);
	elect(1);
	hold_disk(2);
	index = propose(1, "a");
	settle();
	run(3 * HB_US);
	CHECK_EQ(commit_of(1), index);
	CHECK_EQ(node(2)->applied, index - 1);
	release_disk(2);
	CHECK_EQ(node(2)->applied, index);
}

/* ---------- P-22 ---------- */

static void
P22_uncommitted_size_is_bounded_and_released(void)
{
	char		kb[1025];
	int			taken = 0;
	RaftStatus	status;

	memset(kb, 'k', 1024);
	kb[1024] = '\0';
	base_config.max_uncommitted_bytes = 10 * 1024;
	cluster(3);
	elect(1);
	isolate(2);
	isolate(3);
	while ((status = try_propose(1, kb, NULL)) == RAFT_OK)
		CHECK(++taken <= 10);
	CHECK_EQ(status, RAFT_BUSY);
	CHECK_EQ(taken, 10);		/* the payload only is counted */
	CHECK_EQ(raft_uncommitted_bytes(core(1)), 10 * 1024);
	CHECK_EQ(last_of(1), 11);	/* what was refused is not in the log */
	heal();
	run(5 * HB_US);
	CHECK_EQ(raft_uncommitted_bytes(core(1)), 0);
	CHECK_EQ(try_propose(1, kb, NULL), RAFT_OK);
	check_converged();
}

static void
P22_one_proposal_always_fits(void)
{
	char		big[5001];

	memset(big, 'b', 5000);
	big[5000] = '\0';
	base_config.max_uncommitted_bytes = 100;
	base_config.max_message_bytes = 100;
	base_config.max_inflight_bytes = 100;
	cluster(3);
	elect(1);
	for (int i = 0; i < 3; i++)
	{
		propose(1, big);
		CHECK_EQ(try_propose(1, "x", NULL), RAFT_BUSY);
		settle();
		CHECK_EQ(raft_uncommitted_bytes(core(1)), 0);
	}
	check_converged();
}

/* Refused and ignored changes, empty payloads, no-ops: nothing is left over. */
static void
P22_nothing_is_left_over(void)
{
	RaftStamp	stamp = {0};

	base_config.max_uncommitted_bytes = 1000;
	cluster(3);
	elect(1);
	for (int i = 0; i < 30; i++)
	{
		propose(1, "");
		propose(1, "abc");
		try_change(1, IDS(1, 2, 3), IDS(4), NULL);
		try_change(1, IDS(1, 2), IDS(3), NULL);
		raft_propose(core(1), RAFT_ENTRY_NOOP, stamp, next_token(1), NULL, NULL);
		drain(1);
		settle();
		try_change(1, IDS(1, 2, 3), 0, NULL);
		settle();
		CHECK_EQ(raft_uncommitted_bytes(core(1)), 0);
	}

	/* the next leader starts from what it found, in its own books */
	isolate(1);
	for (int i = 0; i < 4; i++)
		try_propose(1, "lost lost lost", NULL);
	elect(2);
	CHECK_EQ(raft_uncommitted_bytes(core(2)), 0);
	heal();
	check_converged();
	CHECK_EQ(raft_uncommitted_bytes(core(1)), 0);
	elect(1);
	propose(1, "x");
	settle();
	CHECK_EQ(raft_uncommitted_bytes(core(1)), 0);
}

/* ---------- P-23 ---------- */

static void
P23_commits_are_handed_out_in_pages(void)
{
	for (uint32_t page = 1; page <= 7; page += 2)
	{
		uint64_t	last = 0;

		harness_end();
		harness_begin();
		base_config.max_apply_entries = page;
		cluster(3);
		elect(1);
		hold_disk(2);
		for (int i = 0; i < 10; i++)
			last = propose(1, "a");
		settle();
		node(2)->max_page = 0;
		release_disk(2);
		settle();
		CHECK_EQ(commit_of(2), last);
		CHECK_EQ(node(2)->applied, last);
		CHECK_EQ(node(2)->max_page, page < last ? page : last);
		check_converged();
		/* the durable commit index is not cut to the page */
		CHECK_EQ(node(2)->hard.commit, last);
		CHECK_EQ(node(1)->hard.commit, last);
		restart(2);
		CHECK_EQ(node(2)->applied, last);	/* all of it, again, from the start */
	}
}

/* One page at a time, and the next one is announced by the deadline. */
static void
P23_next_page_is_announced(void)
{
	RaftOutput	out;
	int			pages = 0;

	base_config.max_apply_entries = 2;
	cluster(1);
	run(1);
	for (int i = 0; i < 6; i++)
		propose(1, "a");
	crash(1);
	node(1)->config.max_apply_entries = 2;
	node(1)->hold_disk = false;
	{
		RaftDisk	disk;
		RaftTermRun run1 = {1, 1};
		Raft	   *r;

		memset(&disk, 0, sizeof(disk));
		disk.hard = node(1)->hard;
		disk.conf = node(1)->conf;
		disk.first_index = 1;
		disk.last_index = log_last(&node(1)->disk);
		disk.runs = &run1;
		disk.nruns = 1;
		CHECK_EQ(raft_create(&node(1)->config, &disk, now_us, 1, &r), RAFT_OK);
		for (uint64_t at = 0; at < disk.hard.commit; pages++)
		{
			CHECK(pages < 20);
			raft_take_output(r, &out);
			CHECK_EQ(out.commit_first, at + 1);
			CHECK(out.commit_last <= at + 2);
			at = out.commit_last;
			if (at < disk.hard.commit)
				CHECK(out.next_deadline_us <= now_us);
			CHECK(out.hard.commit == disk.hard.commit);
			CHECK_EQ(raft_commit_index(r), disk.hard.commit);
		}
		raft_free(r);
	}
	CHECK(pages >= 3);
}

/* ---------- P-24 ---------- */

static void
P24_idle_leader_writes_nothing(void)
{
	cluster(3);
	elect(1);
	propose(1, "a");
	settle();
	run(T_US);
	for (uint32_t id = 1; id <= 3; id++)
		node(id)->syncs = 0;
	run(20 * T_US);
	for (uint32_t id = 1; id <= 3; id++)
		CHECK_EQ(node(id)->syncs, 0);
	CHECK(is_leader(1));
}

static void
P24_batch_is_one_write_and_one_message(void)
{
	RaftStamp	stamp = {0};

	cluster(3);
	elect(1);
	run(T_US);
	for (uint32_t id = 1; id <= 3; id++)
		node(id)->syncs = 0;
	for (int i = 0; i < 50; i++)
		CHECK_EQ(raft_propose(core(1), RAFT_ENTRY_DATA, stamp, next_token(1),
							  raft_buf_new("x", 1), NULL), RAFT_OK);
	drain(1);
	CHECK_EQ(node(1)->syncs, 1);
	CHECK_EQ(count_msgs(RAFT_MSG_APPEND, 1, 2), 1);
	CHECK_EQ(peek(RAFT_MSG_APPEND, 1, 2)->nentries, 50);
	settle();
	CHECK_EQ(node(2)->syncs, 1);
	CHECK_EQ(node(3)->syncs, 1);
	CHECK_EQ(commit_of(3), last_of(1));
	CHECK_EQ(node(1)->syncs, 1);	/* a new commit index needs no fsync */
}

static void
P24_reads_and_heartbeats_do_not_sync(void)
{
	cluster(3);
	elect(1);
	run(T_US);
	for (uint32_t id = 1; id <= 3; id++)
		node(id)->syncs = 0;
	for (uint64_t i = 1; i <= 20; i++)
	{
		read_index(1 + (uint32_t) (i % 3), i);
		settle();
	}
	for (uint32_t id = 1; id <= 3; id++)
		CHECK_EQ(node(id)->syncs, 0);
}

/* ---------- P-28, P-29 ---------- */

/* The applied index of the disk is where handing out goes on. */
static void
P28_handing_out_goes_on_behind_the_applied_index(void)
{
	uint64_t	last = 0;

	cluster(3);
	elect(1);
	for (int i = 0; i < 6; i++)
		last = propose(1, "a");
	settle();
	run(2 * T_US);
	for (uint64_t at = 0; at <= last; at++)
	{
		crash(2);
		node(2)->applied = at;	/* what its tables say */
		node(2)->give_applied = true;
		restart(2);				/* the harness checks: starts at applied + 1, no gap */
		run(HB_US * 3);
		CHECK_EQ(node(2)->applied, last);
	}
}

/* Commit index on disk is behind (it is never synced for itself): told by applied. */
static void
P28_applied_above_the_saved_commit_index(void)
{
	uint64_t	last;

	cluster(3);
	elect(1);
	propose(1, "a");
	last = propose(1, "b");
	settle();
	run(T_US);
	crash(2);
	node(2)->hard.commit = 0;
	node(2)->give_applied = true;
	node(2)->applied = last;
	restart(2);
	CHECK(commit_of(2) >= last);
	CHECK_EQ(node(2)->applied, last);
	check_converged();
}

static void
P29_applied_above_the_log_is_fenced(void)
{
	cluster(3);
	elect(1);
	propose(1, "a");
	settle();
	run(T_US);
	crash(2);
	node(2)->give_applied = true;
	node(2)->applied = log_last(&node(2)->disk) + 1;
	CHECK_EQ(try_restart(2), RAFT_FENCED);
	propose(1, "b");
	settle();
	CHECK_EQ(commit_of(1), last_of(1)); /* the others go on */
}

/* etcd's "tocommit is out of range" panic: a typed answer, not a crash loop. */
static void
P29_commit_above_the_log_is_fenced(void)
{
	cluster(3);
	elect(1);
	propose(1, "a");
	settle();
	run(T_US);
	crash(2);
	node(2)->hard.commit = log_last(&node(2)->disk) + 3;
	CHECK_EQ(try_restart(2), RAFT_FENCED);
	CHECK_EQ(try_restart(2), RAFT_FENCED);
}

/* A log that contradicts what is committed at the leader fences itself. */
static void
P29_lost_committed_entries_are_noticed(void)
{
	RaftMsg		m;

	cluster_unstarted(IDS(1, 2, 3), 0);
	seed_log(2, TERMS(1, 1, 1));
	start_all();
	quorum_oracle = false;
	m = message(RAFT_MSG_APPEND, 1, 2, 1);
	m.index = 3;
	m.log_term = 1;
	m.commit = 3;
	inject(2, m);
	CHECK_EQ(commit_of(2), 3);
	m = message(RAFT_MSG_APPEND, 3, 2, 2);
	m.index = 2;
	m.log_term = 1;
	m.entries = entries_of(3, TERMS(2), &m.nentries);
	inject(2, m);
	CHECK_EQ(raft_term_at(core(2), 3), 1);	/* the committed one stays */
	CHECK_EQ(commit_of(2), 3);
}

/* ---------- P-44 ---------- */

/* A refusal means: certainly not in the log. Whatever the reason of it. */
static void
P44_refused_means_not_in_the_log(void)
{
	uint64_t	last;
	char		big[2001];

	memset(big, 'b', 2000);
	big[2000] = '\0';
	base_config.max_uncommitted_bytes = 2500;
	cluster(3);
	CHECK_EQ(try_propose(1, "x", NULL), RAFT_NOT_LEADER);
	CHECK_EQ(last_of(1), 0);
	elect(1);
	last = last_of(1);
	CHECK_EQ(try_propose(2, "x", NULL), RAFT_NOT_LEADER);
	CHECK_EQ(last_of(2), last);
	isolate(2);
	CHECK_EQ(transfer(1, 2), RAFT_OK);
	CHECK_EQ(try_propose(1, "x", NULL), RAFT_TRANSFERRING);
	CHECK_EQ(last_of(1), last);
	CHECK_EQ(transfer(1, 1), RAFT_OK);
	last = last_of(1);
	isolate(3);
	CHECK_EQ(try_propose(1, big, NULL), RAFT_OK);
	CHECK_EQ(try_propose(1, big, NULL), RAFT_BUSY);
	CHECK_EQ(last_of(1), last + 1);
	CHECK_EQ(raft_propose(core(1), 99, (RaftStamp) {0}, next_token(1), NULL, NULL),
			 RAFT_INVALID);
	CHECK_EQ(last_of(1), last + 1);
}

/* The token travels with the entry, so that a retry can be recognised anywhere. */
static void
P44_tokens_are_in_every_copy_and_survive(void)
{
	uint64_t	index;
	RaftToken	token;

	cluster(3);
	elect(1);
	index = propose(1, "a");
	settle();
	token = log_at(&node(1)->log, index)->token;
	CHECK(token.counter != 0);
	restart(2);
	crash(1);
	elect(2);
	CHECK(raft_token_equal(log_at(&node(2)->log, index)->token, token));
	CHECK(raft_token_equal(log_at(&node(3)->log, index)->token, token));
}

const Test	tests_commit[] = {
	TEST(P05_entry_of_an_earlier_term_not_committed_by_counting),
	TEST(P05_committed_together_with_an_entry_of_the_own_term),
	TEST(P05_new_leader_commits_what_it_found),
	TEST(P05_majority_of_every_size),
	TEST(P16_single_voter_commits_only_what_is_on_disk),
	TEST(P16_single_voter_elects_itself_only_on_disk),
	TEST(P16_leader_counts_itself_only_when_durable),
	TEST(P16_follower_applies_only_what_is_on_disk),
	TEST(P22_uncommitted_size_is_bounded_and_released),
	TEST(P22_one_proposal_always_fits),
	TEST(P22_nothing_is_left_over),
	TEST(P23_commits_are_handed_out_in_pages),
	TEST(P23_next_page_is_announced),
	TEST(P24_idle_leader_writes_nothing),
	TEST(P24_batch_is_one_write_and_one_message),
	TEST(P24_reads_and_heartbeats_do_not_sync),
	TEST(P28_handing_out_goes_on_behind_the_applied_index),
	TEST(P28_applied_above_the_saved_commit_index),
	TEST(P29_applied_above_the_log_is_fenced),
	TEST(P29_commit_above_the_log_is_fenced),
	TEST(P29_lost_committed_entries_are_noticed),
	TEST(P44_refused_means_not_in_the_log),
	TEST(P44_tokens_are_in_every_copy_and_survive),
	{NULL, NULL}
};
