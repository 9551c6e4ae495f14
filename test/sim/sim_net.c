/*-------------------------------------------------------------------------
 *
 * sim_net.c
 *		The network: what is sent is encoded, and may be lost, late, doubled,
 *		out of order or damaged. Each direction of each pair is its own link.
 *
 * Messages are decoded again at the receiver, so the wire form is part of what
 * is tested. A damaged message is decoded too, and then dropped: the transport
 * would not have let it through, the decoder must survive it all the same.
 *
 *-------------------------------------------------------------------------
 */
#include "sim.h"

#include <stdlib.h>
#include <string.h>

static const char *const msg_name[] = {
	"?", "prevote", "prevote-resp", "vote", "vote-resp", "append", "append-resp",
	"heartbeat", "heartbeat-resp", "timeout-now", "read-index", "read-index-resp",
	"snapshot"
};

void
sim_msg_print(char *out, size_t size, const RaftMsg *msg)
{
	size_t		known = sizeof(msg_name) / sizeof(msg_name[0]);

	snprintf(out, size, "%s%s%s %u->%u term %lu index %lu/%lu commit %lu hint %lu ctx %lu n %u",
			 msg_name[msg->type < known ? msg->type : 0], msg->reject ? " REJECT" : "",
			 msg->transfer ? " transfer" : "", msg->from, msg->to,
			 (unsigned long) msg->term, (unsigned long) msg->index,
			 (unsigned long) msg->log_term, (unsigned long) msg->commit,
			 (unsigned long) msg->hint, (unsigned long) msg->context, msg->nentries);
}

typedef struct Collected
{
	uint8_t    *bytes;
	size_t		len;
	size_t		capacity;
} Collected;

static void
collect(void *arg, const void *data, size_t len)
{
	Collected  *c = arg;

	if (c->len + len > c->capacity)
	{
		c->capacity = (c->len + len) * 2;
		c->bytes = realloc(c->bytes, c->capacity);
		if (c->bytes == NULL)
			abort();
	}
	if (len > 0)
		memcpy(c->bytes + c->len, data, len);
	c->len += len;
}

uint8_t *
sim_encode(const RaftMsg *msg, size_t *len)
{
	Collected	c = {0};
	uint8_t    *head = raft_msg_encode(msg, collect, &c);

	if (head == NULL)
		abort();
	free(head);
	*len = c.len;
	return c.bytes;
}

/* Now and then far later than usual. */
static int64_t
draw_delay(SimWorld *world)
{
	const SimOptions *o = &world->options;
	int64_t		delay = (int64_t) sim_between(&world->rand, (uint64_t) o->delay_min_us,
											  (uint64_t) o->delay_max_us);

	if (world->phase == SIM_PHASE_SAFETY && sim_chance(&world->rand, SIM_PPM / 200))
		delay += (int64_t) sim_below(&world->rand, 3 * (uint64_t) o->election_timeout_us);
	return delay;
}

/* Takes over bytes. */
static void
transmit(SimWorld *world, SimNode *node, uint32_t to, SimEventKind kind,
		 uint8_t *bytes, size_t len)
{
	const SimOptions *o = &world->options;
	SimNode    *target = sim_node_of(world, to);
	SimLink    *link;
	SimEvent	event = {0};

	world->stats.messages++;
	world->hash = sim_mix_bytes(world->hash, bytes, len);
	if (target == NULL)
	{
		free(bytes);
		return;
	}
	link = &world->links[node->machine][target->machine];
	if (link->blocked || (world->phase == SIM_PHASE_SAFETY &&
						  sim_chance(&world->rand, o->loss_ppm)))
	{
		world->stats.lost++;
		free(bytes);
		return;
	}

	event.kind = kind;
	event.machine = target->machine;
	event.from = node->id;
	event.to = to;
	event.bytes = bytes;
	event.len = len;
	event.at_us = world->now_us + draw_delay(world);
	if (event.at_us < link->clogged_until_us)
		event.at_us = link->clogged_until_us;
	if (o->ordered && event.at_us <= link->last_arrival_us)
		event.at_us = link->last_arrival_us + 1;
	link->last_arrival_us = event.at_us;

	if (world->phase == SIM_PHASE_SAFETY && kind == SIM_EV_MESSAGE)
	{
		if (sim_chance(&world->rand, o->duplicate_ppm))
		{
			SimEvent	again = event;

			again.bytes = malloc(len);
			if (again.bytes == NULL)
				abort();
			memcpy(again.bytes, bytes, len);
			again.at_us += draw_delay(world);
			world->stats.duplicated++;
			sim_queue_push(&world->queue, again);
		}
		if (sim_chance(&world->rand, o->flip_ppm))
		{
			RaftMsg		msg;

			bytes[sim_below(&world->rand, len)] ^= (uint8_t) (1 << sim_below(&world->rand, 8));
			if (sim_chance(&world->rand, SIM_PPM / 2))
				len = sim_below(&world->rand, len + 1);
			world->stats.flipped++;
			if (raft_msg_decode(bytes, len, &msg))
			{
				world->stats.flips_decoded++;
				raft_msg_free(&msg);
			}
			free(bytes);
			return;
		}
	}
	sim_queue_push(&world->queue, event);
}

void
sim_net_send(SimWorld *world, SimNode *node, const RaftMsg *msg)
{
	size_t		len;
	uint8_t    *bytes = sim_encode(msg, &len);

	if (world->trace != NULL)
	{
		char		text[256];

		sim_msg_print(text, sizeof(text), msg);
		sim_trace(world, "send %s", text);
	}
	transmit(world, node, msg->to, SIM_EV_MESSAGE, bytes, len);
}

/* Between drivers: proposals for the leader, reports about images. */
void
sim_net_forward(SimWorld *world, SimNode *node, uint32_t to, const void *data, size_t len)
{
	uint8_t    *bytes = malloc(len);

	if (bytes == NULL)
		abort();
	memcpy(bytes, data, len);
	transmit(world, node, to, SIM_EV_FORWARD, bytes, len);
}

void
sim_net_heal(SimWorld *world)
{
	for (int from = 0; from < SIM_MAX_MACHINES; from++)
		for (int to = 0; to < SIM_MAX_MACHINES; to++)
		{
			world->links[from][to].blocked = false;
			world->links[from][to].clogged_until_us = 0;
		}
}
