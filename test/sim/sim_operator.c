/*-------------------------------------------------------------------------
 *
 * sim_operator.c
 *		The person with the dashboard: adds, promotes, demotes, removes and
 *		replaces members, alone and several at once, and moves the leadership.
 *
 * What it wants to know it may take from the oracle, but it acts only through
 * the leader, as an administrator would. A lost member is removed before
 * anything else is done, and its machine is used again with a fresh identity.
 *
 *-------------------------------------------------------------------------
 */
#include "sim.h"

#include <string.h>

static void
plan_operator(SimWorld *world)
{
	SimEvent	event = {.kind = SIM_EV_OPERATOR, .machine = -1};

	event.at_us = world->now_us + 1 +
		(int64_t) sim_below(&world->rand, 2 * (uint64_t) world->options.operator_gap_us);
	sim_queue_push(&world->queue, event);
}

void
sim_operator_start(SimWorld *world)
{
	plan_operator(world);
}

static uint32_t
voters_of(const RaftConf *conf)
{
	uint32_t	n = 0;

	for (uint32_t i = 0; i < conf->nmembers; i++)
		n += conf->members[i].voter;
	return n;
}

static void
drop(RaftConf *conf, uint32_t id)
{
	uint32_t	n = 0;

	for (uint32_t i = 0; i < conf->nmembers; i++)
	{
		if (conf->members[i].id != id)
			conf->members[n++] = conf->members[i];
	}
	memset(&conf->members[n], 0, sizeof(RaftMember) * (RAFT_MAX_MEMBERS - n));
	conf->nmembers = n;
}

static SimNode *
free_machine(SimWorld *world)
{
	for (int i = 0; i < world->nnodes; i++)
	{
		if (world->nodes[i].id == 0)
			return &world->nodes[i];
	}
	return NULL;
}

static SimNode *
lost_member(SimWorld *world)
{
	for (int i = 0; i < world->nnodes; i++)
	{
		if (world->nodes[i].id != 0 && (world->nodes[i].lost || world->nodes[i].impostor))
			return &world->nodes[i];
	}
	return NULL;
}

bool
sim_operator_calm(SimWorld *world)
{
	RaftConf	conf;

	sim_oracle_conf(world, UINT64_MAX, &conf);
	if (lost_member(world) != NULL || conf.joint)
		return false;
	for (int i = 0; i < world->nnodes; i++)
	{
		const SimNode *node = &world->nodes[i];

		if (node->id == 0)
			continue;
		if (node->damage != SIM_SOUND || node->recovering)
			return false;
		if (node->raft != NULL && raft_conf(node->raft)->index > conf.index)
			return false;
	}
	return true;
}

static void
propose(SimWorld *world, SimNode *leader, const RaftConf *target)
{
	RaftToken	none = {0};
	RaftStatus	status;

	status = raft_propose_conf(leader->raft, target, sim_next_stamp(world), none, NULL);
	sim_trace(world, "operator: n%u is asked for %u members, %u voters%s: %d", leader->id,
			  target->nmembers, voters_of(target), target->explicit_leave ? ", explicit" : "",
			  status);
	SIM_CHECK(world, status != RAFT_INVALID && status != RAFT_UNKNOWN_MEMBER,
			  "conf-refused: n%u refuses a fair configuration with %d", leader->id, status);
	if (status == RAFT_OK)
		world->stats.conf_changes++;
	sim_node_drain(leader);
}

/* A new member on a free machine: learner first, told to the cluster, then made. */
static bool
add_member(SimWorld *world, RaftConf *target, SimNode **machine)
{
	SimNode    *node = free_machine(world);
	RaftMember *m;

	if (node == NULL || target->nmembers >= RAFT_MAX_MEMBERS || target->next_id >= SIM_MAX_IDS)
		return false;
	m = &target->members[target->nmembers++];
	memset(m, 0, sizeof(*m));
	m->id = target->next_id++;
	m->learner = true;
	snprintf(m->name, sizeof(m->name), "n%u", m->id);
	snprintf(m->address, sizeof(m->address), "machine%d:1", node->machine);
	for (int i = 0; i < RAFT_INSTANCE_LEN; i++)
		m->instance[i] = (uint8_t) sim_below(&world->rand, 256);
	*machine = node;
	return true;
}

/*
 * The committed configuration and the machines: make those that were added and
 * do not run yet, take those away that were removed.
 */
static void
follow_conf(SimWorld *world)
{
	RaftConf	conf;

	sim_oracle_conf(world, UINT64_MAX, &conf);
	if (conf.joint)
		return;
	for (int i = 0; i < world->nnodes; i++)
	{
		SimNode    *node = &world->nodes[i];

		if (node->id != 0 && raft_conf_find(&conf, node->id) == NULL &&
			(node->lost || node->impostor || world->phase == SIM_PHASE_LIVENESS ||
			 sim_chance(&world->rand, SIM_PPM / 3)))
		{
			world->stats.replaced += node->lost || node->impostor;
			sim_node_vacate(node);
		}
	}
	for (uint32_t i = 0; i < conf.nmembers; i++)
	{
		SimNode    *node = free_machine(world);
		RaftConf	first = conf;

		if (world->machine_of[conf.members[i].id] >= 0 || node == NULL)
			continue;
		first.index = 0;
		world->excluded[node->machine] = false;
		sim_node_create(node, conf.members[i].id, &first);
		sim_node_start(node);
	}
}

/* Change one or more members at random. False: nothing to do. */
static bool
draw_change(SimWorld *world, SimNode *leader, RaftConf *target)
{
	uint64_t	changes = sim_chance(&world->rand, SIM_PPM * 2 / 3) ? 1 :
		sim_between(&world->rand, 2, 4);
	bool		any = false;

	while (changes-- > 0)
	{
		SimNode    *machine;
		RaftMember *m = &target->members[sim_below(&world->rand, target->nmembers)];
		uint64_t	what = sim_below(&world->rand, 4);

		/* whoever was added in this very change has no process yet */
		if (world->machine_of[m->id] < 0)
			continue;
		if (what == 0)
			any |= target->nmembers < (uint32_t) world->nnodes &&
				add_member(world, target, &machine);
		else if (m->learner && what <= 2 && raft_caught_up(leader->raft, m->id))
		{
			m->learner = false;
			m->voter = true;
			any = true;
		}
		else if (m->voter && what == 1 && voters_of(target) > 3)
		{
			m->voter = false;
			m->learner = true;
			any = true;
		}
		else if (what == 3 && (m->learner || voters_of(target) > 3))
		{
			drop(target, m->id);
			any = true;
		}
	}
	target->explicit_leave = any && sim_chance(&world->rand, SIM_PPM / 6);
	return any && voters_of(target) > 0;
}

void
sim_operator_event(SimWorld *world)
{
	SimNode    *leader = sim_world_leader(world);
	SimNode    *lost = lost_member(world);
	RaftToken	none = {0};
	RaftConf	target;

	plan_operator(world);
	follow_conf(world);
	if (leader == NULL || leader->paused_until_us > world->now_us)
		return;
	target = *raft_conf(leader->raft);
	if (target.joint)
	{
		if (target.explicit_leave && raft_leave_joint(leader->raft, sim_next_stamp(world),
													  none, NULL) == RAFT_OK)
			sim_node_drain(leader);
		return;
	}
	if (world->phase == SIM_PHASE_LIVENESS)
		return;
	target.explicit_leave = false;
	if (lost != NULL)
	{
		if (raft_conf_find(&target, lost->id) != NULL && voters_of(&target) > 1)
		{
			drop(&target, lost->id);
			propose(world, leader, &target);
		}
		return;
	}
	if (!world->options.membership || !sim_operator_calm(world))
		return;
	if (draw_change(world, leader, &target))
		propose(world, leader, &target);
}
