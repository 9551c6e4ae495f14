/*-------------------------------------------------------------------------
 *
 * test_snapshot.c
 *		Compaction, and images that members get in place of entries (P-25 to P-27,
 *		P-30).
 *
 * There is no InstallSnapshot that carries state: the leader says "what you need
 * is compacted" (RAFT_MSG_SNAPSHOT), the driver fetches an image of the tables
 * by other means and calls raft_installed().
 *
 *-------------------------------------------------------------------------
 */
#include "harness.h"

/* 3 lags, the leader has compacted what it needs, and has told it so. */
static void
lagging_member(void)
{
	cluster(3);
	elect(1);
	propose(1, "first");
	settle();
	isolate(3);
	for (int i = 0; i < 10; i++)
		propose(1, "a");
	settle();
	run(HB_US);
	compact(1, commit_of(1) - 2);
	propose(1, "behind it");
	settle();
	run(HB_US);
	heal();
	run(3 * HB_US);
	CHECK(is_leader(1));
	CHECK(node(3)->install);
	CHECK_EQ(node(3)->install_from, 1);
	CHECK(peer_of(1, 3).snapshot);
}

static RaftMsg
append(uint32_t from, uint32_t to, uint64_t term, uint64_t prev, uint64_t prev_term,
	   uint64_t commit, const int *terms)
{
	RaftMsg		m = message(RAFT_MSG_APPEND, from, to, term);

	m.index = prev;
	m.log_term = prev_term;
	m.commit = commit;
	m.entries = entries_of(prev + 1, terms, &m.nentries);
	return m;
}

static void
snapshot_lagging_member_gets_an_image(void)
{
	lagging_member();
	CHECK(!raft_is_promotable(core(3)));	/* rule 5: not while one is to come */
	CHECK_EQ(install(3, 1), RAFT_OK);
	CHECK(!node(3)->install);
	run(3 * HB_US);
	CHECK(!peer_of(1, 3).snapshot);
	CHECK_EQ(last_of(3), last_of(1));
	CHECK(raft_is_promotable(core(3)));
	restart(3);
	check_converged();
}

/* It is asked for again and again until it is there, and the peer is not sent entries. */
static void
snapshot_offer_is_repeated(void)
{
	lagging_member();
	restart(3);					/* forgets that it needs one */
	run(5 * HB_US);
	CHECK(node(3)->install);
	CHECK_EQ(install(3, 1), RAFT_OK);
	run(3 * HB_US);
	check_converged();
}

static void
snapshot_failed_and_reported(void)
{
	lagging_member();
	raft_report_snapshot(core(1), 3, false, now_us);
	drain(1);
	run(3 * HB_US);
	CHECK(node(3)->install);
	CHECK_EQ(install(3, 1), RAFT_OK);
	raft_report_snapshot(core(1), 3, true, now_us);
	drain(1);
	run(3 * HB_US);
	CHECK(all_replicating(1));
	check_converged();
}

/* etcd snapshot_succeed_via_app_resp.txt (etcd#10308): nobody reports success. */
static void
P21_snapshot_state_ends_by_an_acknowledgement(void)
{
	lagging_member();
	CHECK_EQ(install(3, 1), RAFT_OK);
	settle();
	run(2 * HB_US);
	CHECK(peer_of(1, 3).replicating);
	CHECK(all_replicating(1));
}

/* An older image than was asked for, then one that is enough. */
static void
P21_snapshot_behind_what_was_asked(void)
{
	RaftConf	conf;
	uint64_t	wanted;

	lagging_member();
	conf = *raft_committed_conf(core(1));
	wanted = node(3)->install_index;
	CHECK(wanted > commit_of(3) + 1);
	install_at(3, wanted - 1, raft_term(core(1)), &conf);
	CHECK(node(3)->install);	/* still */
	run(3 * HB_US);
	CHECK(node(3)->install);
	CHECK_EQ(install(3, 1), RAFT_OK);
	run(3 * HB_US);
	check_converged();
}

/* ---------- P-25 ---------- */

/* Raft fig. 13 rule 6: the entry is there already; what follows it stays. */
static void
P25_image_with_a_matching_entry_keeps_the_suffix(void)
{
	RaftConf	conf;

	cluster_unstarted(IDS(1, 2, 3), 0);
	seed_log(2, TERMS(1, 1, 2, 2, 2, 2));
	start_all();
	quorum_oracle = false;
	inject(2, append(1, 2, 2, 6, 2, 1, TERMS(0)));
	conf = *raft_committed_conf(core(2));
	CHECK_EQ(install_at(2, 4, 2, &conf), RAFT_OK);
	CHECK_EQ(last_of(2), 6);
	CHECK(commit_of(2) >= 4);
	CHECK_EQ(log_term(&node(2)->log, 5), 2);
	CHECK_EQ(log_term(&node(2)->disk, 6), 2);
}

/* Rule 7: another entry at that index, or none: all of the log goes. */
static void
P25_image_with_a_conflicting_entry_drops_all(void)
{
	RaftConf	conf;

	cluster_unstarted(IDS(1, 2, 3), 0);
	seed_log(2, TERMS(1, 1, 2, 2, 2, 2));
	start_all();
	quorum_oracle = false;
	inject(2, append(1, 2, 3, 2, 1, 1, TERMS(0)));
	drop(ANY, ANY, ANY);
	conf = *raft_committed_conf(core(2));
	CHECK_EQ(install_at(2, 4, 3, &conf), RAFT_OK);	/* entry 4 has term 2 here */
	CHECK_EQ(last_of(2), 4);
	CHECK_EQ(commit_of(2), 4);
	CHECK_EQ(node(2)->disk.n, 0);
	CHECK_EQ(node(2)->disk.base, 4);
	CHECK_EQ(raft_term_at(core(2), 4), 3);
	CHECK_EQ(raft_term_at(core(2), 5), 0);	/* nothing of the old suffix */

	/* and then it goes on behind it: no download for ever (hashicorp#704) */
	inject(2, append(1, 2, 3, 4, 3, 5, TERMS(3)));
	CHECK_EQ(last_of(2), 5);
	CHECK_EQ(commit_of(2), 5);
	restart(2);
	CHECK_EQ(last_of(2), 5);
	CHECK_EQ(commit_of(2), 5);
}

static void
P25_image_above_the_log(void)
{
	RaftConf	conf;

	cluster_unstarted(IDS(1, 2, 3), 0);
	seed_log(2, TERMS(1, 1));
	start_all();
	quorum_oracle = false;
	conf = *raft_committed_conf(core(2));
	CHECK_EQ(install_at(2, 9, 4, &conf), RAFT_OK);
	CHECK_EQ(last_of(2), 9);
	CHECK_EQ(commit_of(2), 9);
	CHECK_EQ(raft_term(core(2)), 4);	/* no entry is from a later term than the own */
	CHECK_EQ(node(2)->disk.base, 9);
	CHECK_EQ(node(2)->disk.base_term, 4);
}

/* The whole story, with a real leader and a conflicting suffix at the lagging one. */
static void
P25_lagging_member_with_a_foreign_suffix(void)
{
	cluster(3);
	elect(1);
	propose(1, "a");
	settle();
	isolate(1);
	for (int i = 0; i < 8; i++)
		propose(1, "lost");
	elect(2);
	for (int i = 0; i < 5; i++)
		propose(2, "kept");
	settle();
	run(HB_US);
	compact(2, commit_of(2) + 1);
	compact(3, commit_of(3) + 1);
	heal();
	run(3 * HB_US);
	CHECK(node(1)->install);
	CHECK_EQ(install(1, 2), RAFT_OK);
	run(3 * HB_US);
	CHECK_EQ(last_of(1), last_of(2));
	propose(2, "more");
	settle();
	restart(1);
	check_converged();
}

/* ---------- P-26 ---------- */

static void
P26_last_term_of_an_empty_log_behind_an_image(void)
{
	RaftConf	conf;
	RaftMsg		m;

	cluster(3);
	quorum_oracle = false;
	conf = *raft_committed_conf(core(2));
	CHECK_EQ(install_at(2, 9, 4, &conf), RAFT_OK);
	for (int restarted = 0; restarted < 2; restarted++)
	{
		jump(2 * T_US);
		campaign(2);
		CHECK_EQ(peek(RAFT_MSG_PREVOTE, 2, 1)->index, 9);
		CHECK_EQ(peek(RAFT_MSG_PREVOTE, 2, 1)->log_term, 4);
		drop(ANY, ANY, ANY);

		/* and what it asks of others */
		m = message(RAFT_MSG_VOTE, 3, 2, 20 + (uint64_t) restarted);
		m.index = 100;
		m.log_term = 3;
		inject(2, m);
		CHECK(peek(RAFT_MSG_VOTE_RESP, 2, 3)->reject);
		drop(ANY, ANY, ANY);
		m.term++;
		m.index = 8;
		m.log_term = 4;
		jump(2 * T_US);
		inject(2, m);
		CHECK(peek(RAFT_MSG_VOTE_RESP, 2, 3)->reject);
		drop(ANY, ANY, ANY);
		restart(2);
	}
	jump(2 * T_US);
	m.term += 5;
	m.index = 9;
	inject(2, m);
	CHECK(!peek(RAFT_MSG_VOTE_RESP, 2, 3)->reject);
}

/* The same behind a compaction that took everything. */
static void
P26_last_term_of_a_compacted_log(void)
{
	cluster(3);
	elect(1);
	propose(1, "a");
	settle();
	run(HB_US);
	for (uint32_t id = 1; id <= 3; id++)
		compact(id, commit_of(id) + 1);
	for (uint32_t id = 1; id <= 3; id++)
		restart(id);
	jump(2 * T_US);
	campaign(3);
	CHECK_EQ(peek(RAFT_MSG_PREVOTE, 3, 1)->log_term, 1);
	CHECK_EQ(peek(RAFT_MSG_PREVOTE, 3, 1)->index, 2);
	settle();
	CHECK(is_leader(3));
	check_converged();
}

/* ---------- P-27 ---------- */

/* An image while committed entries wait to be applied: no gap, nothing twice. */
static void
P27_image_while_entries_wait_to_be_applied(void)
{
	RaftConf	conf;

	cluster_unstarted(IDS(1, 2, 3), 0);
	seed_log(2, TERMS(1, 1, 1, 1, 1, 1));
	start_all();
	quorum_oracle = false;
	node(2)->hold_disk = true;
	inject(2, append(1, 2, 2, 6, 1, 6, TERMS(2, 2)));
	CHECK_EQ(node(2)->applied, 6);	/* 7 and 8 are being written */
	conf = *raft_committed_conf(core(2));
	CHECK_EQ(install_at(2, 7, 2, &conf), RAFT_OK);
	release_disk(2);
	CHECK_EQ(last_of(2), 8);
	inject(2, append(1, 2, 2, 8, 2, 8, TERMS(0)));
	CHECK_EQ(node(2)->applied, 8);	/* 8 only: the harness would see a gap */
}

/* While an image is wanted nothing is handed out (rule 5). */
static void
P27_nothing_applied_while_an_image_is_wanted(void)
{
	uint64_t	applied;

	lagging_member();
	applied = node(3)->applied;
	run(2 * HB_US);
	CHECK_EQ(node(3)->applied, applied);
	CHECK(!raft_is_promotable(core(3)));
	campaign(3);
	CHECK_EQ(raft_role(core(3)), RAFT_FOLLOWER);
	drop(ANY, ANY, ANY);
}

/* An offer of the leader before, late. */
static void
P27_offer_of_an_old_leader(void)
{
	Packet	   *late;

	cluster(3);
	elect(1);
	isolate(3);
	for (int i = 0; i < 5; i++)
		propose(1, "a");
	settle();
	run(HB_US);
	compact(1, commit_of(1) + 1);
	heal();
	for (int i = 0; i < 200 && count_msgs(RAFT_MSG_SNAPSHOT, 1, 3) == 0; i++)
	{
		if (count_msgs(ANY, ANY, ANY) == 0)
			elapse_one(1, HB_US);
		else
			deliver(ANY, ANY, ANY);
	}
	late = take(RAFT_MSG_SNAPSHOT, 1, 3);
	elect(2);					/* it has all entries */
	run(2 * HB_US);
	CHECK_EQ(last_of(3), last_of(2));
	propose(2, "b");
	settle();
	put(copy_packet(late));
	settle();
	CHECK(!node(3)->install);
	CHECK_EQ(raft_leader(core(3)), 2);

	/* and one that is just late, of the leader of now, for a member that is ahead */
	late->msg.term = 0;
	packet_free(late);
	{
		RaftMsg		m = message(RAFT_MSG_SNAPSHOT, 2, 3, raft_term(core(2)));

		m.index = 3;
		m.log_term = 1;
		m.entries = entries_of(3, TERMS(1), &m.nentries);
		m.entries[0].type = RAFT_ENTRY_CONF;
		raft_buf_unref(m.entries[0].data);
		m.entries[0].data = raft_conf_encode(raft_committed_conf(core(2)));
		inject(3, m);
	}
	CHECK(!node(3)->install);
	CHECK_EQ(last_of(3), last_of(2));
	check_converged();
}

/* The image comes when the member does not need it any more, or is behind. */
static void
P27_old_image_is_refused(void)
{
	RaftConf	conf;
	uint64_t	last;

	cluster(3);
	elect(1);
	for (int i = 0; i < 5; i++)
		propose(1, "a");
	settle();
	run(HB_US);
	conf = *raft_committed_conf(core(3));
	last = last_of(3);
	CHECK_EQ(install_at(3, 2, 1, &conf), RAFT_INVALID);
	CHECK_EQ(install_at(3, 0, 0, &conf), RAFT_INVALID);
	CHECK_EQ(last_of(3), last);
	CHECK_EQ(commit_of(3), last);
	CHECK_EQ(node(3)->disk.base, 0);
	check_converged();
}

/* Leadership changes while the image is on its way. */
static void
P27_leader_changes_during_the_image(void)
{
	uint64_t	index;
	uint64_t	term;
	RaftConf	conf;

	lagging_member();
	index = node(1)->applied;
	term = log_term(&node(1)->disk, index);
	conf = *raft_committed_conf(core(1));
	elect(2);
	propose(2, "b");
	settle();
	if (node(3)->install || commit_of(3) < index)
		CHECK_EQ(install_at(3, index, term, &conf), RAFT_OK);
	else
		install_at(3, index, term, &conf);
	run(3 * HB_US);
	CHECK(!node(3)->install);
	check_converged();
}

/* ---------- P-30 ---------- */

/*
 * Crash between "the image is durable" and "the log starts anew", and after. The
 * tables (applied) are at the image, the log is the old one: told by
 * RaftDisk.applied, refused rather than guessed, and the driver's repair (drop
 * the log, start behind the image) works.
 */
static void
P30_crash_around_the_reset_of_the_log(void)
{
	uint64_t	index;
	uint64_t	term;

	/* before the log was reset */
	lagging_member();
	index = node(1)->applied;
	term = log_term(&node(1)->disk, index);
	crash(3);
	node(3)->give_applied = true;
	node(3)->applied = index;
	CHECK_EQ(try_restart(3), RAFT_FENCED);
	log_reset(&node(3)->disk, index, term);
	log_reset(&node(3)->log, index, term);
	node(3)->conf = *raft_committed_conf(core(1));
	restart(3);
	check_converged();

	/* handed out, but not written: the old log is found again */
	harness_end();
	harness_begin();
	lagging_member();
	hold_disk(3);
	CHECK_EQ(install(3, 1), RAFT_OK);
	crash(3);
	node(3)->applied = 0;
	restart(3);
	run(4 * HB_US);
	CHECK(node(3)->install);
	CHECK_EQ(install(3, 1), RAFT_OK);
	run(3 * HB_US);
	check_converged();

	/* written */
	harness_end();
	harness_begin();
	lagging_member();
	CHECK_EQ(install(3, 1), RAFT_OK);
	restart(3);
	check_converged();
}

/* Acknowledgement of an image waits for the disk like every other. */
static void
P30_image_is_acknowledged_when_durable(void)
{
	lagging_member();
	hold_disk(3);
	CHECK_EQ(install(3, 1), RAFT_OK);
	CHECK_EQ(count_msgs(RAFT_MSG_APPEND_RESP, 3, 1), 0);
	release_disk(3);
	run(2 * HB_US);
	CHECK(peer_of(1, 3).match >= node(3)->disk.base);
	check_converged();
}

/* ---------- compaction ---------- */

static void
snapshot_compaction_keeps_what_is_not_committed(void)
{
	cluster(3);
	elect(1);
	propose(1, "a");
	settle();
	run(HB_US);
	isolate(1);
	propose(1, "b");
	drop(ANY, ANY, ANY);
	raft_compacted(core(1), last_of(1) + 1);	/* nonsense: not committed */
	raft_compacted(core(1), UINT64_MAX);
	raft_compacted(core(1), 0);
	drain(1);
	CHECK_EQ(raft_term_at(core(1), last_of(1)), raft_term(core(1)));
	heal();
	check_converged();
}

/* Compacted while the peer is just behind: entries of the cache, then an image. */
static void
snapshot_compaction_under_a_replicating_peer(void)
{
	cluster(3);
	elect(1);
	for (int i = 0; i < 5; i++)
		propose(1, "a");
	settle();
	run(HB_US);
	for (int i = 0; i < 20; i++)
	{
		propose(1, "b");
		settle_only(IDS(1, 2));
		if (commit_of(1) == node(1)->applied && node(1)->disk.base < commit_of(1))
			compact(1, commit_of(1) + 1);
		if (i % 3 == 0)
			deliver_all(ANY, 1, 3);
		else
			drop(ANY, 1, 3);
	}
	run(4 * HB_US);
	if (node(3)->install)
		CHECK_EQ(install(3, 1), RAFT_OK);
	run(4 * HB_US);
	check_converged();
}

const Test	tests_snapshot[] = {
	TEST(snapshot_lagging_member_gets_an_image),
	TEST(snapshot_offer_is_repeated),
	TEST(snapshot_failed_and_reported),
	TEST(snapshot_compaction_keeps_what_is_not_committed),
	TEST(snapshot_compaction_under_a_replicating_peer),
	TEST(P21_snapshot_state_ends_by_an_acknowledgement),
	TEST(P21_snapshot_behind_what_was_asked),
	TEST(P25_image_with_a_matching_entry_keeps_the_suffix),
	TEST(P25_image_with_a_conflicting_entry_drops_all),
	TEST(P25_image_above_the_log),
	TEST(P25_lagging_member_with_a_foreign_suffix),
	TEST(P26_last_term_of_an_empty_log_behind_an_image),
	TEST(P26_last_term_of_a_compacted_log),
	TEST(P27_image_while_entries_wait_to_be_applied),
	TEST(P27_nothing_applied_while_an_image_is_wanted),
	TEST(P27_offer_of_an_old_leader),
	TEST(P27_old_image_is_refused),
	TEST(P27_leader_changes_during_the_image),
	TEST(P30_crash_around_the_reset_of_the_log),
	TEST(P30_image_is_acknowledged_when_durable),
	{NULL, NULL}
};
