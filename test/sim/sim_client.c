/*-------------------------------------------------------------------------
 *
 * sim_client.c
 *		Sessions: each proposes one entry at a time, under a token that stays
 *		the same over retries at other members, and reads now and then.
 *
 * A proposal reaches the leader directly or through the member that the client
 * talks to. It is acknowledged by that member when it sees the token in its own
 * committed entries, as the Raft worker does; so the leader never answers.
 *
 *-------------------------------------------------------------------------
 */
#include "sim.h"

#include <stdlib.h>
#include <string.h>

/* What one driver sends to another; first byte of the message. */
#define FORWARD_PROPOSAL	'P'
#define FORWARD_REPORT		'S'

#define RECENT 500				/* entries whose tokens a driver remembers */

typedef struct Forwarded
{
	uint8_t		kind;
	RaftToken	token;
	uint32_t	payload;
} Forwarded;

static RaftBuf *
make_payload(RaftToken token, uint32_t len)
{
	RaftBuf    *buf = raft_buf_new(NULL, len);
	uint64_t	x = sim_mix(sim_mix(11, token.node), token.counter);

	if (buf == NULL)
		abort();
	for (uint32_t i = 0; i < len; i++)
	{
		if (i % 8 == 0)
			x = sim_mix(x, i);
		buf->data[i] = (uint8_t) (x >> (i % 8 * 8));
	}
	return buf;
}

/* Tokens of recent entries are remembered: where is this one? 0: nowhere. */
static uint64_t
find_token(const SimShadow *log, uint64_t upto, RaftToken token)
{
	for (uint64_t i = upto; i > log->base_index && i + RECENT > upto; i--)
	{
		if (raft_token_equal(sim_shadow_at(log, i)->token, token))
			return i;
	}
	return 0;
}

/* The leader's side. What is in the log already is not proposed again. */
static void
propose_here(SimNode *node, RaftToken token, uint32_t payload)
{
	SimWorld   *world = node->world;
	RaftBuf    *buf;
	uint64_t	index = 0;
	RaftStatus	status;

	if (rlog_health(node->log, NULL) != RLOG_OK)
		return;					/* a full disk takes no new proposals */
	if (find_token(&node->appended, sim_shadow_last(&node->appended), token) != 0)
		return;
	buf = make_payload(token, payload);
	status = raft_propose(node->raft, RAFT_ENTRY_DATA, sim_next_stamp(world), token, buf, &index);
	if (status != RAFT_OK)
	{
		raft_buf_unref(buf);
		return;					/* the client tries again */
	}
	SIM_CHECK(world, index == raft_last_index(node->raft),
			  "core: n%u: a proposal got index %lu, last is %lu", node->id,
			  (unsigned long) index, (unsigned long) raft_last_index(node->raft));
}

static SimNode *
pick_member(SimWorld *world)
{
	int			start = (int) sim_below(&world->rand, (uint64_t) world->nnodes);

	for (int i = 0; i < world->nnodes; i++)
	{
		SimNode    *node = &world->nodes[(start + i) % world->nnodes];

		if (node->up && node->raft != NULL && !node->impostor &&
			node->paused_until_us <= world->now_us &&
			!world->excluded[node->machine])
			return node;
	}
	return NULL;
}

static void
acknowledge(SimNode *node, SimClient *client, uint64_t index)
{
	sim_oracle_acknowledged(node->world, node, client->token, index);
	client->busy = false;
	client->acknowledged++;
	if (client->wanted > 0)
		client->wanted--;
}

static void
attempt(SimWorld *world, int number)
{
	SimClient  *client = &world->clients[number];
	SimNode    *node = pick_member(world);
	uint32_t	leader;
	uint64_t	index;

	client->asked_us = world->now_us;
	if (node == NULL)
		return;
	index = find_token(&node->durable, node->published < sim_shadow_last(&node->durable) ?
					   node->published : sim_shadow_last(&node->durable), client->token);
	if (index != 0)
	{
		acknowledge(node, client, index);
		return;
	}
	if (node->nproposals == SIM_MAX_PROPOSALS)
	{
		/* the oldest client gave up long ago */
		memmove(&node->proposals[0], &node->proposals[1],
				sizeof(SimProposal) * (SIM_MAX_PROPOSALS - 1));
		node->nproposals--;
	}
	node->proposals[node->nproposals++] = (SimProposal) {client->token, number};

	leader = raft_leader(node->raft);
	if (raft_role(node->raft) == RAFT_LEADER)
	{
		propose_here(node, client->token, client->payload);
		sim_node_drain(node);
	}
	else if (leader != RAFT_NONE)
	{
		Forwarded	f;

		memset(&f, 0, sizeof(f));
		f.kind = FORWARD_PROPOSAL;
		f.token = client->token;
		f.payload = client->payload;
		sim_net_forward(world, node, leader, &f, sizeof(f));
	}
}

void
sim_client_forwarded(SimNode *node, const uint8_t *bytes, size_t len)
{
	if (bytes[0] == FORWARD_PROPOSAL && len == sizeof(Forwarded))
	{
		Forwarded	f;

		memcpy(&f, bytes, sizeof(f));
		if (raft_role(node->raft) == RAFT_LEADER)
			propose_here(node, f.token, f.payload);
	}
	else if (bytes[0] == FORWARD_REPORT && len == 3)
		raft_report_snapshot(node->raft, bytes[2], bytes[1] != 0, sim_node_now(node));
}

/* ---------- reads ---------- */

static void
start_read(SimWorld *world)
{
	SimNode    *node = pick_member(world);

	if (node == NULL)
		return;
	for (int i = 0; i < SIM_MAX_READS; i++)
	{
		SimRead    *read = &world->reads[i];

		if (read->used)
			continue;
		*read = (SimRead)
		{
			.used = true, .id = ++world->next_read, .machine = node->machine,
				.incarnation = node->incarnation, .floor = world->oracle.acknowledged,
				.asked_us = world->now_us,
		};
		raft_read_index(node->raft, read->id, sim_node_now(node));
		sim_node_drain(node);
		return;
	}
}

void
sim_client_read_done(SimNode *node, const RaftRead *done)
{
	SimWorld   *world = node->world;

	for (int i = 0; i < SIM_MAX_READS; i++)
	{
		SimRead    *read = &world->reads[i];

		if (!read->used || read->id != done->id)
			continue;
		SIM_CHECK(world, read->machine == node->machine &&
				  read->incarnation == node->incarnation,
				  "read: n%u answers a read that was not asked here", node->id);
		read->used = false;
		if (done->ok)
		{
			world->stats.reads_ok++;
			sim_oracle_read(world, node, read, done->index);
		}
		else
			world->stats.reads_failed++;
		return;
	}
	sim_fail(world, "read: n%u answers read %lu, which nobody waits for", node->id,
			 (unsigned long) done->id);
}

void
sim_client_node_gone(SimNode *node)
{
	for (int i = 0; i < SIM_MAX_READS; i++)
	{
		if (node->world->reads[i].machine == node->machine)
			node->world->reads[i].used = false;
	}
	node->nproposals = 0;
}

/* ---------- life ---------- */

/* An entry is committed and durable here: does somebody here wait for it? */
void
sim_client_committed(SimNode *node, uint64_t index, const SimEntry *entry)
{
	SimWorld   *world = node->world;

	for (int i = 0; i < node->nproposals; i++)
	{
		SimClient  *client;

		if (!raft_token_equal(node->proposals[i].token, entry->token))
			continue;
		client = &world->clients[node->proposals[i].client];
		node->proposals[i] = node->proposals[--node->nproposals];
		if (!client->busy || !raft_token_equal(client->token, entry->token))
			return;
		acknowledge(node, client, index);
		return;
	}
}

static void
plan_client(SimWorld *world, int number)
{
	SimEvent	event = {.kind = SIM_EV_CLIENT, .machine = -1, .value = (uint64_t) number};

	event.at_us = world->now_us + 1 +
		(int64_t) sim_below(&world->rand, 2 * (uint64_t) world->options.client_gap_us);
	sim_queue_push(&world->queue, event);
}

void
sim_client_event(SimWorld *world, const SimEvent *event)
{
	int			number = (int) event->value;
	SimClient  *client = &world->clients[number];
	bool		may_start = world->phase == SIM_PHASE_SAFETY || client->wanted > 0;

	if (client->busy)
	{
		if (world->now_us - client->asked_us > world->options.election_timeout_us)
			attempt(world, number);
	}
	else if (may_start && sim_chance(&world->rand, SIM_PPM * 3 / 5))
	{
		client->busy = true;
		client->number++;
		client->token = (RaftToken) {1000 + (uint32_t) number, 1, client->number};
		client->payload = (uint32_t) sim_below(&world->rand, world->options.payload_max + 1);
		attempt(world, number);
	}
	else if (may_start)
		start_read(world);
	plan_client(world, number);
}

void
sim_client_start(SimWorld *world)
{
	for (int i = 0; i < world->options.clients; i++)
		plan_client(world, i);
}

void
sim_client_finish(SimWorld *world)
{
	for (int i = 0; i < world->options.clients; i++)
		world->clients[i].wanted = 3;
}

bool
sim_client_idle(SimWorld *world)
{
	for (int i = 0; i < world->options.clients; i++)
	{
		if (world->clients[i].busy || world->clients[i].wanted > 0)
			return false;
	}
	for (int i = 0; i < SIM_MAX_READS; i++)
	{
		if (world->reads[i].used && !world->excluded[world->reads[i].machine])
			return false;
	}
	return true;
}
