/*-------------------------------------------------------------------------
 *
 * sim_liveness.c
 *		The second phase: a random quorum is healed, the rest stays away for
 *		good, and everything that is outstanding must end in bounded time. Then
 *		the cluster is left alone, and must be quiet: same leader, same term, no
 *		sync, nothing in flight.
 *
 *-------------------------------------------------------------------------
 */
#include "sim.h"

#include <stdlib.h>

#define LIVENESS_ROUNDS 120		/* election timeouts until all must be well */
#define QUIET_ROUNDS 10
#define LATE_ROUNDS 8			/* the network delays by up to 6 */

/* ---------- who may stay away ---------- */

/* Is there a majority of both halves among those who are here? */
static bool
majority_here(SimWorld *world, const RaftConf *conf)
{
	uint32_t	voters[2] = {0};
	uint32_t	here[2] = {0};

	for (uint32_t i = 0; i < conf->nmembers; i++)
	{
		const RaftMember *m = &conf->members[i];
		SimNode    *node = sim_node_of(world, m->id);
		bool		present = node != NULL && !node->lost && !node->impostor && !node->recovering &&
			!world->excluded[node->machine];

		voters[0] += m->voter;
		here[0] += m->voter && present;
		voters[1] += m->voter_outgoing;
		here[1] += m->voter_outgoing && present;
	}
	return (voters[0] == 0 || here[0] > voters[0] / 2) &&
		(voters[1] == 0 || here[1] > voters[1] / 2);
}

/* ... for every configuration that may be in force after an election. */
static bool
quorum_here(SimWorld *world)
{
	RaftConf	conf;

	sim_oracle_conf(world, UINT64_MAX, &conf);
	if (!majority_here(world, &conf))
		return false;
	for (int i = 0; i < world->nnodes; i++)
	{
		const SimNode *node = &world->nodes[i];
		const SimShadow *shadows[2] = {&node->durable, &node->appended};

		if (node->id == 0 || node->lost || node->impostor)
			continue;
		for (int s = 0; s < 2; s++)
			for (size_t e = 0; e < shadows[s]->count; e++)
			{
				const RaftBuf *data = shadows[s]->entries[e].data;

				if (data == NULL || shadows[s]->base_index + 1 + e <= conf.index)
					continue;
				if (!raft_conf_decode(data->data, data->len, &conf) ||
					!majority_here(world, &conf))
					return false;
			}
	}
	return true;
}

static void
choose(SimWorld *world)
{
	int			order[SIM_MAX_MACHINES];

	for (int i = 0; i < world->nnodes; i++)
		order[i] = i;
	for (int i = world->nnodes - 1; i > 0; i--)
	{
		int			j = (int) sim_below(&world->rand, (uint64_t) i + 1);
		int			t = order[i];

		order[i] = order[j];
		order[j] = t;
	}
	for (int i = 0; i < world->nnodes; i++)
	{
		SimNode    *node = &world->nodes[order[i]];

		if (node->id != 0 && (node->lost || node->impostor || node->damage != SIM_SOUND))
			world->excluded[node->machine] = true;
	}
	for (int i = 0; i < world->nnodes; i++)
	{
		if (world->excluded[order[i]] || world->nodes[order[i]].id == 0 || sim_chance(&world->rand, SIM_PPM / 3))
			continue;
		world->excluded[order[i]] = true;
		if (!quorum_here(world))
			world->excluded[order[i]] = false;
	}
}

/* ---------- is it over? ---------- */

static const char *
unfinished(SimWorld *world)
{
	SimNode    *leader = sim_world_leader(world);
	uint64_t	last;

	if (leader == NULL)
		return "no leader";
	last = raft_last_index(leader->raft);
	if (!sim_client_idle(world))
		return "a client or a read still waits";
	if (raft_commit_index(leader->raft) != last)
		return "the leader's log is not committed";
	if (raft_conf(leader->raft)->joint)
		return "the configuration is still a joint one";
	if (raft_transferee(leader->raft) != RAFT_NONE)
		return "a transfer is still under way";
	for (uint32_t i = 0; i < raft_conf(leader->raft)->nmembers; i++)
	{
		if (world->machine_of[raft_conf(leader->raft)->members[i].id] < 0)
			return "a member has not been made yet";
	}
	for (int i = 0; i < world->nnodes; i++)
	{
		SimNode    *node = &world->nodes[i];
		RaftPeerStatus status;

		if (node->id == 0 || world->excluded[i])
			continue;
		if (raft_conf_find(raft_conf(leader->raft), node->id) == NULL)
			return "a member that was removed is still there";
		if (!node->up)
			return "a member is down";
		if (node->recovering)
			return "a member has not got back what it lost";
		if (raft_last_index(node->raft) != last || raft_commit_index(node->raft) != last)
			return "a member lags";
		if (node->applied.index != last)
			return "a member has not applied all";
		if (node->next.wanted || node->io != NULL)
			return "a member still writes";
		if (raft_leader(node->raft) != leader->id)
			return "a member does not know the leader";
		if (node == leader)
			continue;
		if (!raft_peer_status(leader->raft, node->id, &status) || !status.replicating ||
			status.match != last || status.inflight_messages > 0)
			return "a peer is not replicated to as it should be";
	}
	return NULL;
}

static void
run_until(SimWorld *world, int64_t until_us, bool all)
{
	int			checked = 0;

	while (world->now_us < until_us && world->queue.count > 0)
	{
		SimEvent	event;

		sim_queue_pop(&world->queue, &event);
		sim_world_step(world, &event);
		if (!all && ++checked % 16 == 0 && unfinished(world) == NULL)
			return;
	}
}

static void
describe(SimWorld *world)
{
	for (int i = 0; i < world->nnodes; i++)
	{
		SimNode    *node = &world->nodes[i];

		if (node->id == 0)
			continue;
		fprintf(stderr, "machine %d n%u %s%s%s", i, node->id, node->up ? "up" : "down",
				node->lost ? " lost" : node->impostor ? " impostor" : "",
				world->excluded[i] ? " excluded" : "");
		if (node->raft != NULL)
			fprintf(stderr, " role %d term %lu leader %u last %lu commit %lu published %lu "
					"applied %lu conf %lu%s%s", raft_role(node->raft),
					(unsigned long) raft_term(node->raft), raft_leader(node->raft),
					(unsigned long) raft_last_index(node->raft),
					(unsigned long) raft_commit_index(node->raft),
					(unsigned long) node->published, (unsigned long) node->applied.index,
					(unsigned long) raft_conf(node->raft)->index,
					raft_conf(node->raft)->joint ? " joint" : "",
					node->install_index ? " wants an image" : "");
		fprintf(stderr, "\n");
	}
	for (int i = 0; i < world->options.clients; i++)
	{
		const SimClient *client = &world->clients[i];

		if (client->busy || client->wanted > 0)
			fprintf(stderr, "client %d: %s %lu/%lu, asked at %.6f, %lu to do\n", i,
					client->busy ? "waits for" : "is done with",
					(unsigned long) client->token.node, (unsigned long) client->token.counter,
					(double) client->asked_us / SIM_SECOND, (unsigned long) client->wanted);
	}
	for (int i = 0; i < SIM_MAX_READS; i++)
	{
		const SimRead *read = &world->reads[i];

		if (read->used)
			fprintf(stderr, "read %lu on machine %d of process %lu, asked at %.6f\n",
					(unsigned long) read->id, read->machine, (unsigned long) read->incarnation,
					(double) read->asked_us / SIM_SECOND);
	}
}

void
sim_liveness(SimWorld *world)
{
	int64_t		timeout = world->options.election_timeout_us;
	const char *why;
	SimNode    *leader;
	uint64_t	term;
	uint64_t	syncs = 0;

	world->phase = SIM_PHASE_LIVENESS;
	sim_faults_heal(world);
	choose(world);
	for (int i = 0; i < world->nnodes; i++)
	{
		SimNode    *node = &world->nodes[i];

		if (node->id == 0)
			continue;
		if (world->excluded[i])
		{
			node->lost = true;
			sim_trace(world, "n%u stays away", node->id);
			if (node->up)
				sim_node_stop(node, false);
		}
		else if (!node->up)
			sim_node_start(node);
	}
	sim_client_finish(world);
	sim_trace(world, "liveness phase begins");

	/* the second time for what was late in the network, such as proposals */
	for (int i = 0; i < 2; i++)
	{
		run_until(world, world->now_us + LIVENESS_ROUNDS * timeout +
				  10 * world->options.operator_gap_us + 60 * SIM_SECOND, false);
		why = unfinished(world);
		if (why != NULL)
		{
			describe(world);
			sim_fail(world, "liveness: %s, long after everything was healed", why);
		}
		world->oracle.checks++;
		if (i == 0)
			run_until(world, world->now_us + LATE_ROUNDS * timeout, true);
	}

	/* and now nothing is to happen any more */
	sim_trace(world, "all is done");
	leader = sim_world_leader(world);
	term = raft_term(leader->raft);
	for (int i = 0; i < world->nnodes; i++)
		syncs += world->nodes[i].disk.syncs;
	run_until(world, world->now_us + QUIET_ROUNDS * timeout, true);
	SIM_CHECK(world, leader == sim_world_leader(world) && raft_term(leader->raft) == term,
			  "liveness: the leader changes at rest");
	for (int i = 0; i < world->nnodes; i++)
		syncs -= world->nodes[i].disk.syncs;
	SIM_CHECK(world, syncs == 0, "liveness: %lu syncs at rest", (unsigned long) -syncs);
	sim_oracle_at_rest(world, leader);
}
