/*-------------------------------------------------------------------------
 *
 * sim_faults.c
 *		What goes wrong, and when.
 *
 * Faults that destroy data (rot, misdirected write, wipe) happen to one member
 * at a time, only where a quorum remains without it and all agree on the
 * configuration: more than that no consensus survives, and no test may ask.
 *
 *-------------------------------------------------------------------------
 */
#include "sim.h"

#include <string.h>

const char *const sim_fault_name[SIM_FAULT_BITS] = {
	"crash", "power", "pause", "slow", "partition", "one-way", "clog", "partial", "eio",
	"enospc", "stall", "rot", "misdirect", "wipe", "all-down", "transfer", "campaign"
};

#define TRANSFER_BIT 15
_Static_assert(SIM_FAULT_TRANSFER == 1 << TRANSFER_BIT, "its place in sim_fault_name");

static void
plan_fault(SimWorld *world)
{
	SimEvent	event = {.kind = SIM_EV_FAULT, .machine = -1, .value = 0};

	event.at_us = world->now_us + 1 +
		(int64_t) sim_below(&world->rand, 2 * (uint64_t) world->options.fault_gap_us);
	sim_queue_push(&world->queue, event);
}

void
sim_faults_start(SimWorld *world)
{
	plan_fault(world);
}

static SimNode *
random_member(SimWorld *world)
{
	int			start = (int) sim_below(&world->rand, (uint64_t) world->nnodes);

	for (int i = 0; i < world->nnodes; i++)
	{
		SimNode    *node = &world->nodes[(start + i) % world->nnodes];

		if (node->up)
			return node;
	}
	return NULL;
}

static int64_t
a_while(SimWorld *world)
{
	return (int64_t) sim_below(&world->rand, (uint64_t) world->options.election_timeout_us *
							   (sim_chance(&world->rand, SIM_PPM / 4) ? 12 : 3)) + 1;
}

/* ---------- network ---------- */

static void
block(SimWorld *world, int from, int to)
{
	world->links[from][to].blocked = true;
}

/* Links come back by themselves, all at once. */
static void
heal_later(SimWorld *world)
{
	SimEvent	event = {.kind = SIM_EV_FAULT, .machine = -1, .value = 1};

	event.at_us = world->now_us + a_while(world);
	sim_queue_push(&world->queue, event);
}

static void
partition(SimWorld *world, bool one_way)
{
	bool		side[SIM_MAX_MACHINES];

	for (int i = 0; i < world->nnodes; i++)
		side[i] = sim_chance(&world->rand, SIM_PPM / 2);
	for (int i = 0; i < world->nnodes; i++)
		for (int j = 0; j < world->nnodes; j++)
		{
			if (side[i] && !side[j])
			{
				block(world, i, j);
				if (!one_way)
					block(world, j, i);
			}
		}
	heal_later(world);
}

/* Howard 2020: all reach one hub (or two), hardly anybody reaches anybody else. */
static void
partial(SimWorld *world)
{
	int			hub = (int) sim_below(&world->rand, (uint64_t) world->nnodes);
	int			spare = (int) sim_below(&world->rand, (uint64_t) world->nnodes);

	for (int i = 0; i < world->nnodes; i++)
		for (int j = 0; j < world->nnodes; j++)
		{
			if (i != hub && j != hub && !(i == spare && j % 2 == 0) &&
				!(j == spare && i % 2 == 0))
				block(world, i, j);
		}
	heal_later(world);
}

static void
clog_link(SimWorld *world)
{
	int			from = (int) sim_below(&world->rand, (uint64_t) world->nnodes);
	int			to = (int) sim_below(&world->rand, (uint64_t) world->nnodes);
	int64_t		until = world->now_us + a_while(world);
	SimNode    *sender = &world->nodes[from];

	world->links[from][to].clogged_until_us = until;
	/* half the time the sender's transport notices that its queue is full */
	if (from != to && sender->up && world->nodes[to].id != 0 &&
		sim_chance(&world->rand, SIM_PPM / 2))
	{
		SimEvent	event = {.kind = SIM_EV_PEER, .machine = from, .from = world->nodes[to].id,
		.incarnation = sender->incarnation};

		event.value = 2;
		event.at_us = world->now_us;
		sim_queue_push(&world->queue, event);
		event.value = 3;
		event.at_us = until;
		sim_queue_push(&world->queue, event);
	}
}

/* ---------- disks ---------- */

static bool
may_lose(SimWorld *world, const SimNode *node)
{
	RaftConf	conf;
	uint32_t	voters = 0;

	sim_oracle_conf(world, UINT64_MAX, &conf);
	for (uint32_t i = 0; i < conf.nmembers; i++)
		voters += conf.members[i].voter;
	return voters >= 3 && raft_conf_find(&conf, node->id) != NULL && sim_operator_calm(world);
}

static void
wipe(SimWorld *world, SimNode *node)
{
	uint32_t	id = node->id;
	RaftConf	conf;

	sim_node_lose(node, "its disk was wiped");
	if (sim_chance(&world->rand, SIM_PPM / 2))
		return;

	/* somebody brings it back under its old id, with nothing on its disk */
	sim_oracle_conf(world, UINT64_MAX, &conf);
	conf.index = 0;
	sim_node_create(node, id, &conf);
	for (int i = 0; i < RAFT_INSTANCE_LEN; i++)
		node->instance[i] = (uint8_t) sim_below(&world->rand, 256);
	node->impostor = true;
	world->stats.impostors++;
	sim_node_start(node);
}

static void
disk_fault(SimWorld *world, SimNode *node, uint32_t fault)
{
	char		name[SIM_NAME_LEN];
	uint64_t	offset;

	switch (fault)
	{
		case SIM_FAULT_EIO:
			if (sim_chance(&world->rand, SIM_PPM / 2))
				node->disk.fail_next_write = true;
			else
				node->disk.fail_next_sync = true;
			break;
		case SIM_FAULT_ENOSPC:
			{
				SimEvent	event = {.kind = SIM_EV_FAULT, .machine = node->machine, .value = 2};

				node->disk.capacity = sim_disk_used(&node->disk) +
					sim_below(&world->rand, 3 * world->options.segment_bytes);
				event.at_us = world->now_us + a_while(world);
				sim_queue_push(&world->queue, event);
				break;
			}
		case SIM_FAULT_STALL:
			node->stalled_until_us = world->now_us + a_while(world);
			break;
		case SIM_FAULT_ROT:
			if (may_lose(world, node) && sim_disk_rot(&node->disk, SIM_LOG_DIR, name, &offset))
			{
				sim_trace(world, "n%u: a bit of %s flips at %lu", node->id, name,
						  (unsigned long) offset);
				node->damage = SIM_ROTTEN;
			}
			break;
		case SIM_FAULT_MISDIRECT:
			if (may_lose(world, node))
			{
				node->disk.misdirect_next = true;
				node->damage = SIM_MISDIRECTED;
			}
			break;
		case SIM_FAULT_WIPE:
			if (may_lose(world, node))
				wipe(world, node);
			break;
	}
}

/* ---------- choice ---------- */

static void
all_down(SimWorld *world)
{
	for (int i = 0; i < world->nnodes; i++)
	{
		if (world->nodes[i].up)
			sim_node_stop(&world->nodes[i], true);
	}
}

static void
ask_transfer(SimWorld *world)
{
	SimNode    *leader = sim_world_leader(world);
	const RaftConf *conf;

	if (leader == NULL)
		return;
	conf = raft_conf(leader->raft);
	(void) raft_transfer(leader->raft,
						 conf->members[sim_below(&world->rand, conf->nmembers)].id,
						 sim_node_now(leader));
	world->stats.transfers++;
	sim_node_drain(leader);

	/*
	 * And sometimes the old leader is cut off with the order under way: it does
	 * not hear of its successor, and clients go on reading from it.
	 */
	if (sim_chance(&world->rand, SIM_PPM / 3))
	{
		for (int i = 0; i < world->nnodes; i++)
		{
			block(world, i, leader->machine);
			block(world, leader->machine, i);
		}
		heal_later(world);
	}
}

static void
strike(SimWorld *world, uint32_t fault)
{
	SimNode    *node = random_member(world);

	if (node == NULL)
		return;
	switch (fault)
	{
		case SIM_FAULT_CRASH:
			sim_node_stop(node, false);
			break;
		case SIM_FAULT_POWER:
			sim_node_stop(node, true);
			break;
		case SIM_FAULT_PAUSE:
			node->paused_until_us = world->now_us + a_while(world);
			break;
		case SIM_FAULT_SLOW:
			node->slow_until_us = world->now_us + a_while(world);
			node->slow_by_us = (int64_t) sim_below(&world->rand,
												   (uint64_t) world->options.heartbeat_interval_us);
			break;
		case SIM_FAULT_PARTITION:
			partition(world, false);
			break;
		case SIM_FAULT_ONE_WAY:
			partition(world, true);
			break;
		case SIM_FAULT_CLOG:
			clog_link(world);
			break;
		case SIM_FAULT_PARTIAL:
			partial(world);
			break;
		case SIM_FAULT_ALL_DOWN:
			if (sim_chance(&world->rand, SIM_PPM / 4))
				all_down(world);
			break;
		case SIM_FAULT_TRANSFER:
			ask_transfer(world);
			break;
		case SIM_FAULT_CAMPAIGN:
			raft_campaign(node->raft, sim_node_now(node));
			sim_node_drain(node);
			break;
		default:
			disk_fault(world, node, fault);
			break;
	}
}

void
sim_faults_event(SimWorld *world)
{
	int			bit = (int) sim_below(&world->rand, SIM_FAULT_BITS);

	/* transfers are what makes two leaders at a time */
	if (sim_chance(&world->rand, SIM_PPM / 8))
		bit = TRANSFER_BIT;
	plan_fault(world);
	if ((world->options.fault_mix & (UINT32_C(1) << bit)) == 0)
		return;
	sim_trace(world, "fault: %s", sim_fault_name[bit]);
	world->stats.faults[bit]++;
	strike(world, UINT32_C(1) << bit);
}

/* Nothing new goes wrong from here on; what destroyed data stays destroyed. */
void
sim_faults_heal(SimWorld *world)
{
	sim_net_heal(world);
	for (int i = 0; i < world->nnodes; i++)
	{
		SimNode    *node = &world->nodes[i];

		node->paused_until_us = node->slow_until_us = node->stalled_until_us = 0;
		node->disk.capacity = 0;
		node->disk.fail_next_write = node->disk.fail_next_sync = false;
		if (node->disk.misdirect_next)
		{
			node->disk.misdirect_next = false;
		}
		node->crash_after = -1;
	}
}
