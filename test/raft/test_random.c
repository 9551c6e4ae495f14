/*-------------------------------------------------------------------------
 *
 * test_random.c
 *		Everything at once, by chance: the oracle watches, and in the end all must
 *		come together again. Not a replacement for test/sim, which has the real log
 *		and driver; a second pair of eyes that shares no code with it.
 *
 * RANDOM_SEEDS and RANDOM_FIRST in the environment ask for more.
 *
 *-------------------------------------------------------------------------
 */
#include "harness.h"

#define NODES 5

static uint64_t s;
static uint64_t read_ids[MAX_NODES + 1];

static uint64_t
upto(uint64_t n)
{
	return rnd(&s) % n;
}

static uint32_t
some_node(void)
{
	return 1 + (uint32_t) upto(NODES);
}

/* Of those that are up; 0: none. */
static uint32_t
some_up(void)
{
	uint32_t	id = some_node();

	return nodes[id].up ? id : 0;
}

static void
start(bool leases)
{
	base_config.lease_reads = leases;
	base_config.max_message_bytes = 1 + (uint32_t) upto(300);
	base_config.max_inflight_messages = 1 + (uint32_t) upto(5);
	base_config.max_inflight_bytes = 1 + upto(500);
	base_config.max_uncommitted_bytes = 1 + upto(2000);
	base_config.max_apply_entries = 1 + (uint32_t) upto(8);
	base_config.cache_bytes = upto(2) == 0 ? upto(300) : 100000;
	memset(read_ids, 0, sizeof(read_ids));
	cluster_of(IDS(1, 2, 3), 0);
	add_node(4);
	add_node(5);
}

static void
some_change(uint32_t leader)
{
	Ids			voters = 0;
	Ids			learners = 0;

	for (uint32_t id = 1; id <= NODES; id++)
		switch (upto(3))
		{
			case 0:
			case 1:
				voters |= (Ids) 1 << id;
				break;
			default:
				learners |= upto(2) == 0 ? (Ids) 1 << id : 0;
		}
	if (upto(6) == 0)
		try_change_explicit(leader, voters, learners, NULL);
	else
		try_change(leader, voters, learners, NULL);
}

/* What a driver does about an image, compaction included. */
static void
some_image(void)
{
	uint32_t	id = some_up();
	uint32_t	from = some_up();
	Node	   *n = &nodes[id];

	if (id == 0)
		return;
	if (n->writes == NULL && n->applied > n->disk.base && n->conf.index <= n->applied &&
		upto(3) == 0)
		compact(id, n->disk.base + 2 + upto(n->applied - n->disk.base));
	else if (n->install && from != 0 && nodes[from].applied >= n->install_index &&
			 raft_committed_conf(core(from))->index <= nodes[from].applied)
		install(id, from);
}

static void
some_fault(void)
{
	uint32_t	id = some_node();

	switch (upto(8))
	{
		case 0:
			crash(id);
			break;
		case 1:
		case 2:
			if (!nodes[id].up)
				restart(id);
			break;
		case 3:
			if (nodes[id].up)
				hold_disk(id);
			break;
		case 4:
			if (nodes[id].up)
				release_disk(id);
			break;
		case 5:
			isolate(id);
			break;
		case 6:
			cut(id, some_node());
			break;
		case 7:
			heal();
			break;
	}
}

static void
step(void)
{
	uint32_t	id = some_up();
	uint32_t	leader = leader_now();

	switch (upto(20))
	{
		case 0:
		case 1:
		case 2:
			if (leader != 0)
				try_propose(leader, "some payload", NULL);
			break;
		case 3:
			if (id != 0 && is_leader(id))	/* an old one, perhaps */
				try_propose(id, "of an old leader", NULL);
			break;
		case 4:
			if (count_msgs(ANY, ANY, ANY) > 0 && count_msgs(ANY, ANY, ANY) < 100)
				duplicate(ANY, ANY, ANY);
			break;
		case 5:
			if (count_msgs(ANY, ANY, ANY) > 0)
				packet_free(take(ANY, ANY, ANY));
			break;
		case 6:
			if (id != 0)
				elapse_one(id, (int64_t) upto(2 * T_US));
			break;
		case 7:
			elapse((int64_t) upto(2 * HB_US));
			break;
		case 8:
			if (id != 0)
				campaign(id);
			break;
		case 9:
			if (id != 0 && read_ids[id] < 60)
				read_index(id, ++read_ids[id]);
			break;
		case 10:
			if (id != 0)
				sync_one(id);
			break;
		case 11:
			some_fault();
			break;
		case 12:
			some_image();
			break;
		case 13:
			if (leader != 0 && upto(3) == 0)
				some_change(leader);
			break;
		case 14:
			if (leader != 0 && upto(3) == 0)
				transfer(leader, some_node());
			if (leader != 0 && upto(4) == 0)
				leave_joint(leader);
			break;
		case 15:
			if (id != 0)
			{
				if (upto(2) == 0)
					raft_peer_down(core(id), some_node(), now_us);
				else
					raft_peer_up(core(id), some_node(), now_us);
				drain(id);
			}
			break;
		default:
			if (upto(3) == 0)
				shuffle(&s);
			for (int k = 1 + (int) upto(12); k > 0 && count_msgs(ANY, ANY, ANY) > 0; k--)
				deliver(ANY, ANY, ANY);
			break;
	}
}

/* All well again: one leader, joint left, logs equal, reads ended, no quota used. */
static void
end(void)
{
	uint32_t	leader = 0;

	trace("the end: all well");
	heal();
	for (uint32_t id = 1; id <= NODES; id++)
	{
		if (!nodes[id].up)
			restart(id);
		release_disk(id);
		for (uint32_t other = 1; other <= NODES; other++)
			raft_peer_up(core(id), other, now_us);
		drain(id);
	}
	for (int i = 0; i < 60; i++)
	{
		run(T_US / 2);
		leader = leader_now();
		if (leader == 0)
			continue;
		if (raft_conf(core(leader))->joint && raft_conf(core(leader))->explicit_leave)
			leave_joint(leader);
		for (uint32_t id = 1; id <= NODES; id++)
			if (nodes[id].install && nodes[leader].applied >= nodes[id].install_index)
				install(id, leader);
	}
	check_converged();
	leader = leader_now();
	CHECK(!raft_conf(core(leader))->joint);
	for (uint32_t id = 1; id <= NODES; id++)
		for (size_t i = 0; i < nodes[id].nreads; i++)
			CHECK(nodes[id].reads[i].done);
	propose(leader, "the last one");
	run(HB_US);
	CHECK_EQ(commit_of(leader), last_of(leader));
}

static void
stories(bool leases)
{
	const char *seeds = getenv("RANDOM_SEEDS");
	const char *first = getenv("RANDOM_FIRST");
	uint64_t	from = first != NULL ? strtoull(first, NULL, 10) : 1;
	uint64_t	n = seeds != NULL ? strtoull(seeds, NULL, 10) : 40;

	for (uint64_t seed = from; seed < from + n; seed++)
	{
		harness_end();
		harness_begin();
		s = seed * 7919 + leases;
		trace("seed %llu", (unsigned long long) seed);
		start(leases);
		for (int i = 0; i < 600; i++)
			step();
		end();
	}
}

static void
random_stories(void)
{
	stories(false);
}

static void
random_stories_with_leases(void)
{
	stories(true);
}

const Test	tests_random[] = {
	TEST(random_stories),
	TEST(random_stories_with_leases),
	{NULL, NULL}
};
