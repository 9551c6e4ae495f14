/*-------------------------------------------------------------------------
 *
 * test_churn.c
 *		Five members to whom everything happens at once, in random order.
 *
 * Members stop and start, forget each other, change addresses, identities and
 * secrets, also from inside callbacks, while messages of all sizes are under
 * way. What must hold: every message that arrives is the one that was sent, in
 * order within its lane and connection; every release is called once; and when
 * it is over all of them connect again. TP_CHURN_SEED, a number, gives another
 * course of events. Under AddressSanitizer this is the test
 * of who frees what when.
 *
 *-------------------------------------------------------------------------
 */
#include "harness.h"

#include <stdlib.h>

#define MEMBERS		5
#define STEPS		6000
#define MAX_BYTES	700000

typedef struct Cargo
{
	uint64_t	number;			/* grows with every message of the test */
	uint64_t	seed;			/* of the bytes behind it */
} Cargo;

static Node *members[MEMBERS];
static uint64_t state;
static uint64_t numbered;
static uint64_t last_seen[MEMBERS + 1][MEMBERS + 1][2];
static int	taken;
static int	released;
static int	arrived;
static int	damaged;
static int	disordered;

static uint64_t
roll(uint64_t n)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state % n;
}

static void
fill(uint8_t *bytes, size_t len, uint64_t seed)
{
	for (size_t i = 0; i < len; i++)
		bytes[i] = (uint8_t) ((seed + i) * 2654435761u >> 11);
}

static void
on_release(void *arg)
{
	free(arg);
	released++;
}

static void
know_again(Node *node, uint32_t id)
{
	char		address[64];
	Node	   *other = members[id - 1];

	if (other == NULL || node->closing || other == node)
		return;
	snprintf(address, sizeof(address), "%s:%d", roll(20) == 0 ? "localhost" : "127.0.0.1",
			 other->port);
	CHECK(tp_peer_add(node->tp, id, address));
}

static void
hook(Node *node, uint32_t from, TpMessage *msg)
{
	uint32_t	me = node->id.member_id;
	Cargo		cargo;
	uint8_t    *want;

	arrived++;
	if (msg->len < sizeof(cargo))
	{
		damaged++;
		return;
	}
	memcpy(&cargo, msg->data, sizeof(cargo));
	want = malloc(msg->len);
	memcpy(want, &cargo, sizeof(cargo));
	fill(want + sizeof(cargo), msg->len - sizeof(cargo), cargo.seed);
	damaged += memcmp(want, msg->data, msg->len) != 0;
	free(want);
	disordered += cargo.number <= last_seen[me][from][msg->lane];
	last_seen[me][from][msg->lane] = cargo.number;

	switch (roll(400))
	{
		case 0:
			tp_peer_remove(node->tp, from);
			break;
		case 1:
			tp_peer_remove(node->tp, from);
			know_again(node, from);
			break;
		case 2:
			node_close(node);
			break;
		case 3:
			free(tp_message_steal(msg));
			tp_flush(node->tp);
			break;
	}
}

static void
send_something(Node *from, uint32_t to)
{
	size_t		len = sizeof(Cargo) + (size_t) roll(roll(10) == 0 ? MAX_BYTES : 6000);
	TpLane		lane = roll(3) == 0 ? TP_URGENT : TP_BULK;
	uint8_t    *bytes = malloc(len);
	Cargo		cargo = {++numbered, roll(1000000)};
	size_t		cut = (size_t) roll(len + 1);
	TpPart		parts[2] = {{bytes, cut}, {bytes + cut, len - cut}};

	memcpy(bytes, &cargo, sizeof(cargo));
	fill(bytes + sizeof(cargo), len - sizeof(cargo), cargo.seed);
	if (tp_send(from->tp, to, 1, lane, parts, 2, on_release, bytes) == TP_SEND_OK)
		taken++;
	else
		free(bytes);
}

static void
start_member(int i)
{
	members[i] = node_start((uint32_t) i + 1, 1, SECRET_A);
	members[i]->hook = hook;
	for (int j = 0; j < MEMBERS; j++)
	{
		know_again(members[i], (uint32_t) j + 1);
		if (members[j] != NULL)
			know_again(members[j], (uint32_t) i + 1);
	}
}

/* Those that closed in a callback, or just now, start over. */
static void
bury_closed(void)
{
	for (int i = 0; i < MEMBERS; i++)
	{
		if (members[i] != NULL && members[i]->closing)
		{
			Node	   *gone = members[i];

			members[i] = NULL;
			node_stop(gone);
			start_member(i);
		}
	}
}

static void
something_happens(void)
{
	Node	   *node = members[roll(MEMBERS)];
	uint32_t	other = (uint32_t) roll(MEMBERS) + 1;
	const char *secret = roll(10) == 0 ? SECRET_B : SECRET_A;
	TpIdentity	none = {.name = "nobody"};

	if (node->closing)
		return;
	switch (roll(300))
	{
		case 0:
			node_close(node);
			break;
		case 1:
			tp_peer_remove(node->tp, other);
			break;
		case 2:
			tp_set_identity(node->tp, &none);
			tp_set_identity(node->tp, &node->id);
			break;
		case 3:
			tp_set_secret(node->tp, (const uint8_t *) secret, strlen(secret));
			break;
		case 4:
			tp_set_blocked(node->tp, other, roll(2) == 0, roll(2) == 0);
			break;
		case 5:
			raw_close(raw_connect(node));
			break;
		default:
			if (roll(12) == 0)
				know_again(node, other);
			send_something(node, other);
	}
}

static void
settle(void)
{
	bury_closed();
	for (int i = 0; i < MEMBERS; i++)
	{
		members[i]->hook = NULL;
		tp_set_secret(members[i]->tp, (const uint8_t *) SECRET_A, strlen(SECRET_A));
		for (int j = 0; j < MEMBERS; j++)
		{
			tp_set_blocked(members[i]->tp, (uint32_t) j + 1, false, false);
			know_again(members[i], (uint32_t) j + 1);
		}
	}
	for (int i = 0; i < MEMBERS; i++)
		for (int j = 0; j < i; j++)
			WAIT_FOR(node_linked(members[i], members[j]));
}

void
test_churn(void)
{
	const char *seed = getenv("TP_CHURN_SEED");

	begin("churn: five members, everything at once");
	memset(members, 0, sizeof(members));
	memset(last_seen, 0, sizeof(last_seen));
	numbered = 0;
	taken = released = arrived = damaged = disordered = 0;
	state = 0x9E3779B97F4A7C15u + (seed != NULL ? (uint64_t) atoi(seed) : 0);
	for (int i = 0; i < MEMBERS; i++)
		start_member(i);
	for (int step = 0; step < STEPS; step++)
	{
		something_happens();
		if (roll(3) == 0)
			uv_run(loop, UV_RUN_NOWAIT);
		if (roll(20) == 0)
			bury_closed();
	}
	settle();
	for (int i = 0; i < MEMBERS; i++)
		node_stop(members[i]);
	CHECK(arrived > STEPS / 10);
	CHECK(damaged == 0 && disordered == 0);
	CHECK(taken > arrived && released == taken);
	printf("  %d messages taken, %d arrived\n", taken, arrived);
}
