/*-------------------------------------------------------------------------
 *
 * test_cluster.c
 *		Nodes with skewed and jumping clocks that exchange messages at random.
 *
 * A vector clock beside every event is the oracle of happened-before. Checked:
 *
 *		- e happened before f  =>  hlc(e) < hlc(f)	(theorem 1 of the paper)
 *		- l is never below the node's own clock, and never further ahead of it
 *		  than the largest skew there was (theorem 3), counter carries apart
 *		- no two stamps are the same
 *
 *-------------------------------------------------------------------------
 */
#include "harness.h"

#include <stdlib.h>
#include <string.h>

#include "clock/hlc.h"

#define NODES		5
#define EVENTS		1500
#define MESSAGES	8
#define SKEW_US		400
#define RUNS		40

typedef struct Event
{
	HlcStamp	stamp;
	uint32_t	vector[NODES];
} Event;

typedef struct Node
{
	HlcWord		word;
	int64_t		skew_us;
	uint32_t	vector[NODES];
} Node;

typedef struct World
{
	uint64_t	seed;
	int64_t		now_us;
	Node		nodes[NODES];
	Event		events[EVENTS];
	int			nevents;
	Event		inflight[NODES][MESSAGES];
	int			ninflight[NODES];
} World;

static int64_t
wall_us(const World *world, int node)
{
	return world->now_us + world->nodes[node].skew_us;
}

static void
note_event(World *world, int node, HlcWord word)
{
	Node	   *n = &world->nodes[node];
	Event	   *e = &world->events[world->nevents++];

	n->word = word;
	n->vector[node]++;
	e->stamp = hlc_word_stamp(word, node + 1);
	memcpy(e->vector, n->vector, sizeof(e->vector));
}

static void
send_message(World *world, int from, int to)
{
	note_event(world, from, hlc_word_local_event(world->nodes[from].word, wall_us(world, from)));
	if (world->ninflight[to] < MESSAGES)
		world->inflight[to][world->ninflight[to]++] = world->events[world->nevents - 1];
}

/* Any of those under way: the network keeps no order. */
static void
receive_message(World *world, int node)
{
	Node	   *n = &world->nodes[node];
	int			i;
	Event		message;

	if (world->ninflight[node] == 0)
		return;
	i = random_below(&world->seed, world->ninflight[node]);
	message = world->inflight[node][i];
	world->inflight[node][i] = world->inflight[node][--world->ninflight[node]];
	if (!hlc_within_offset(message.stamp, wall_us(world, node), 2 * SKEW_US))
	{
		check(false, "a message within twice the skew was refused");
		return;
	}
	for (int k = 0; k < NODES; k++)
	{
		if (message.vector[k] > n->vector[k])
			n->vector[k] = message.vector[k];
	}
	note_event(world, node, hlc_word_receive_event(n->word, hlc_word_from_stamp(message.stamp),
												   wall_us(world, node)));
}

static bool
happened_before(const Event *a, const Event *b)
{
	bool		less = false;

	for (int k = 0; k < NODES; k++)
	{
		if (a->vector[k] > b->vector[k])
			return false;
		less |= a->vector[k] < b->vector[k];
	}
	return less;
}

static void
run(uint64_t seed)
{
	World	   *world = calloc(1, sizeof(World));
	bool		causal = true;
	bool		unique = true;
	bool		bounded = true;
	long		related = 0;

	world->seed = seed;
	world->now_us = 1000000;
	for (int i = 0; i < NODES; i++)
		world->nodes[i].skew_us = (int64_t) random_below(&world->seed, SKEW_US + 1) - SKEW_US / 2;

	while (world->nevents < EVENTS)
	{
		int			node = random_below(&world->seed, NODES);

		world->now_us += random_below(&world->seed, 4);
		switch (random_below(&world->seed, 8))
		{
			case 0:
				/* set forwards or backwards while running */
				world->nodes[node].skew_us =
					(int64_t) random_below(&world->seed, SKEW_US + 1) - SKEW_US / 2;
				continue;
			case 1:
			case 2:
			case 3:
				send_message(world, node, random_below(&world->seed, NODES));
				break;
			case 4:
				note_event(world, node,
						   hlc_word_local_event(world->nodes[node].word, wall_us(world, node)));
				break;
			default:
				receive_message(world, node);
				break;
		}
		for (int i = 0; i < NODES; i++)
		{
			int64_t		ahead_us = hlc_word_physical_us(world->nodes[i].word) - world->now_us;

			bounded &= ahead_us <= SKEW_US / 2 + 1;
		}
	}
	for (int i = 0; i < EVENTS; i++)
	{
		for (int j = i + 1; j < EVENTS; j++)
		{
			const Event *a = &world->events[i];
			const Event *b = &world->events[j];

			unique &= hlc_compare(a->stamp, b->stamp) != 0;
			if (happened_before(a, b))
			{
				related++;
				causal &= hlc_compare(a->stamp, b->stamp) < 0;
			}
		}
	}
	check(causal, "happened before means a smaller stamp, seed %llu", (unsigned long long) seed);
	check(unique, "no stamp twice, seed %llu", (unsigned long long) seed);
	check(bounded, "never further ahead than the fastest clock, seed %llu",
		  (unsigned long long) seed);
	check(related > EVENTS, "the run had something to check, seed %llu", (unsigned long long) seed);
	free(world);
}

void
test_cluster(void)
{
	for (uint64_t seed = 1; seed <= RUNS; seed++)
		run(seed);
}
