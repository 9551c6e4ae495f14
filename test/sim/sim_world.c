/*-------------------------------------------------------------------------
 *
 * sim_world.c
 *		Beginning, event loop and end of one run.
 *
 *-------------------------------------------------------------------------
 */
#include "sim.h"

#include <assert.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static SimWorld *running;		/* for the core's assertions */

void
sim_fail(SimWorld *world, const char *format,...)
{
	va_list		args;

	fflush(stdout);
	fprintf(stderr, "seed %lu at %.6f s, step %lu: ", (unsigned long) world->seed,
			(double) world->now_us / SIM_SECOND, (unsigned long) world->stats.steps);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fprintf(stderr, "\n");
	fflush(stderr);
	if (world->trace != NULL)
		fflush(world->trace);
	_exit(1);
}

static void
core_assert(const char *file, int line, const char *expr)
{
	sim_fail(running, "assert: %s:%d: %s", file, line, expr);
}

void
sim_trace(SimWorld *world, const char *format,...)
{
	va_list		args;

	if (world->trace == NULL)
		return;
	fprintf(world->trace, "%12.6f ", (double) world->now_us / SIM_SECOND);
	va_start(args, format);
	vfprintf(world->trace, format, args);
	va_end(args);
	fputc('\n', world->trace);
}

SimNode *
sim_node_of(SimWorld *world, uint32_t id)
{
	if (id >= SIM_MAX_IDS || world->machine_of[id] < 0)
		return NULL;
	return &world->nodes[world->machine_of[id]];
}

SimNode *
sim_world_leader(SimWorld *world)
{
	SimNode    *leader = NULL;

	for (int i = 0; i < world->nnodes; i++)
	{
		SimNode    *node = &world->nodes[i];

		if (node->up && node->raft != NULL && raft_role(node->raft) == RAFT_LEADER &&
			(leader == NULL || raft_term(node->raft) > raft_term(leader->raft)))
			leader = node;
	}
	return leader;
}

/* ---------- one event ---------- */

/* Processes that died in the middle of something are dead now. */
static void
bury(SimWorld *world)
{
	for (int i = 0; i < world->nnodes; i++)
	{
		SimNode    *node = &world->nodes[i];

		if (node->up && node->dying)
			sim_node_stop(node, sim_chance(&world->rand, SIM_PPM / 2));
	}
}

/* True: the machine is not in a state to notice the event now. */
static bool
put_off(SimWorld *world, SimNode *node, SimEvent *event)
{
	if (node->paused_until_us > world->now_us && event->kind != SIM_EV_IO_RUN)
	{
		event->at_us = node->paused_until_us;
		sim_queue_push(&world->queue, *event);
		return true;
	}
	if (node->slow_until_us > world->now_us && event->kind == SIM_EV_MESSAGE &&
		event->value == 0)
	{
		event->value = 1;		/* once */
		event->at_us = world->now_us + node->slow_by_us;
		sim_queue_push(&world->queue, *event);
		return true;
	}
	return false;
}

static void
machine_event(SimWorld *world, SimEvent *event)
{
	SimNode    *node = &world->nodes[event->machine];
	bool		for_anyone = event->kind == SIM_EV_MESSAGE || event->kind == SIM_EV_FORWARD;

	if (event->kind == SIM_EV_RESTART)
	{
		if (!node->up && node->id != 0 && !node->lost && event->incarnation == node->incarnation)
			sim_node_start(node);
	}
	else if (event->kind == SIM_EV_FAULT)
		node->disk.capacity = 0;
	else if (node->up && (for_anyone || event->incarnation == node->incarnation))
	{
		if (put_off(world, node, event))
			return;				/* the bytes are still its own */
		sim_node_event(node, event);
	}
	free(event->bytes);
}

void
sim_world_step(SimWorld *world, SimEvent *event)
{
	assert(event->at_us >= world->now_us);
	world->now_us = event->at_us;
	world->stats.steps++;
	world->hash = sim_mix(sim_mix(world->hash, (uint64_t) event->at_us),
						  (uint64_t) event->kind * 16 + (uint64_t) (event->machine + 1));
	if (event->machine >= 0)
		machine_event(world, event);
	else if (event->kind == SIM_EV_CLIENT)
		sim_client_event(world, event);
	else if (event->kind == SIM_EV_OPERATOR)
		sim_operator_event(world);
	else if (world->phase == SIM_PHASE_SAFETY)
	{
		assert(event->kind == SIM_EV_FAULT);
		if (event->value == 1)
			sim_net_heal(world);
		else
			sim_faults_event(world);
	}
	bury(world);
}

/* ---------- one run ---------- */

static void
first_members(SimWorld *world)
{
	RaftConf   *conf = &world->first_conf;

	conf->next_id = (uint32_t) world->options.voters + 1;
	conf->nmembers = (uint32_t) world->options.voters;
	for (uint32_t i = 0; i < conf->nmembers; i++)
	{
		RaftMember *m = &conf->members[i];

		m->id = i + 1;
		m->voter = true;
		snprintf(m->name, sizeof(m->name), "n%u", m->id);
		snprintf(m->address, sizeof(m->address), "machine%u:1", i);
		for (int b = 0; b < RAFT_INSTANCE_LEN; b++)
			m->instance[b] = (uint8_t) sim_below(&world->rand, 256);
	}
	for (uint32_t i = 0; i < conf->nmembers; i++)
	{
		sim_node_create(&world->nodes[i], i + 1, conf);
		sim_node_start(&world->nodes[i]);
	}
	bury(world);
}

static void
collect_stats(SimWorld *world)
{
	SimStats   *stats = &world->stats;

	for (int i = 0; i < world->nnodes; i++)
	{
		const SimDisk *disk = &world->nodes[i].disk;

		stats->writes_lost += disk->writes_lost;
		stats->writes_torn += disk->writes_torn;
		stats->names_lost += disk->names_lost;
		stats->syncs += disk->syncs;
	}
	stats->checks = world->oracle.checks;
	stats->virtual_us = (uint64_t) world->now_us;
}

void
sim_world_run(SimWorld *world, uint64_t seed, uint64_t steps, FILE *trace)
{
	memset(world, 0, sizeof(*world));
	running = world;
	raft_on_assert = core_assert;
	world->seed = seed;
	world->trace = trace;
	world->hash = 1;
	sim_rand_seed(&world->rand, seed);
	sim_options_draw(&world->options, &world->rand);
	if (trace != NULL)
		sim_options_print(&world->options, trace);
	for (int i = 0; i < SIM_MAX_IDS; i++)
		world->machine_of[i] = -1;
	world->nnodes = world->options.machines;
	for (int i = 0; i < world->nnodes; i++)
		sim_node_init(world, i);

	first_members(world);
	sim_client_start(world);
	sim_operator_start(world);
	sim_faults_start(world);
	while (steps-- > 0)
	{
		SimEvent	event;

		if (!sim_queue_pop(&world->queue, &event))
			sim_fail(world, "queue: nothing is going to happen any more");
		sim_world_step(world, &event);
	}
	sim_liveness(world);
	collect_stats(world);
}

void
sim_world_free(SimWorld *world)
{
	world->phase = SIM_PHASE_LIVENESS;
	for (int i = 0; i < world->nnodes; i++)
		sim_node_free(&world->nodes[i]);
	sim_queue_free(&world->queue);
	sim_oracle_free(&world->oracle);
}
