/*-------------------------------------------------------------------------
 *
 * pool.c
 *		Messages on their way: delivered, dropped, doubled, reordered by hand.
 *
 * Each goes through the wire form, so that cores share no memory and the codec
 * is part of every test. All addresses accept ANY.
 *
 *-------------------------------------------------------------------------
 */
#include "harness.h"

#define MAX_DELIVERIES 100000

static Packet **pool;
static size_t npool;
static size_t size_pool;
static bool cut_links[MAX_NODES + 1][MAX_NODES + 1];

/* ---------- text ---------- */

static const char *const type_names[] = {"?", "PREVOTE", "PREVOTE_RESP", "VOTE", "VOTE_RESP",
	"APPEND", "APPEND_RESP", "HEARTBEAT", "HEARTBEAT_RESP", "TIMEOUT_NOW", "READ_INDEX",
"READ_INDEX_RESP", "SNAPSHOT"};

const char *
describe(const RaftMsg *m)
{
	static char text[256];
	int			len;

	len = snprintf(text, sizeof(text), "%u>%u %s t%llu i%llu/%llu c%llu", m->from, m->to,
				   m->type < sizeof(type_names) / sizeof(type_names[0]) ? type_names[m->type] : "?",
				   (unsigned long long) m->term, (unsigned long long) m->index,
				   (unsigned long long) m->log_term, (unsigned long long) m->commit);
	if (m->reject)
		len += snprintf(text + len, sizeof(text) - len, " REJECT hint %llu",
						(unsigned long long) m->hint);
	if (m->context != 0)
		len += snprintf(text + len, sizeof(text) - len, " ctx %llu",
						(unsigned long long) m->context);
	if (m->transfer)
		len += snprintf(text + len, sizeof(text) - len, " transfer");
	if (m->nentries > 0)
		snprintf(text + len, sizeof(text) - len, " n%u: %llu/%llu..%llu/%llu", m->nentries,
				 (unsigned long long) m->entries[0].index,
				 (unsigned long long) m->entries[0].term,
				 (unsigned long long) m->entries[m->nentries - 1].index,
				 (unsigned long long) m->entries[m->nentries - 1].term);
	return text;
}

/* ---------- packets ---------- */

typedef struct Bytes
{
	uint8_t    *data;
	size_t		len;
} Bytes;

static void
add_part(void *arg, const void *data, size_t len)
{
	Bytes	   *b = arg;

	b->data = realloc(b->data, b->len + len + 1);
	memcpy(b->data + b->len, data, len);
	b->len += len;
}

Packet *
packet_of(const RaftMsg *msg)
{
	Packet	   *p = calloc(1, sizeof(Packet));
	Bytes		b = {malloc(1), 0};
	uint8_t    *head = raft_msg_encode(msg, add_part, &b);

	CHECK(head != NULL);
	free(head);
	p->bytes = b.data;
	p->len = b.len;
	CHECK(raft_msg_decode(p->bytes, p->len, &p->msg));
	return p;
}

Packet *
copy_packet(const Packet *packet)
{
	Packet	   *p = calloc(1, sizeof(Packet));

	p->bytes = malloc(packet->len + 1);
	p->len = packet->len;
	memcpy(p->bytes, packet->bytes, p->len);
	CHECK(raft_msg_decode(p->bytes, p->len, &p->msg));
	return p;
}

void
packet_free(Packet *packet)
{
	raft_msg_free(&packet->msg);
	free(packet->bytes);
	free(packet);
}

/* ---------- the pool ---------- */

void
pool_add(Packet *packet)
{
	trace("  send %s", describe(&packet->msg));
	if (npool == size_pool)
	{
		size_pool = size_pool > 0 ? size_pool * 2 : 64;
		pool = realloc(pool, size_pool * sizeof(*pool));
	}
	pool[npool++] = packet;
}

void
put(Packet *packet)
{
	pool_add(packet);
}

void
pool_clear(void)
{
	for (size_t i = 0; i < npool; i++)
		packet_free(pool[i]);
	free(pool);
	pool = NULL;
	npool = size_pool = 0;
	memset(cut_links, 0, sizeof(cut_links));
}

static Packet *
remove_at(size_t i)
{
	Packet	   *p = pool[i];

	memmove(pool + i, pool + i + 1, (--npool - i) * sizeof(*pool));
	return p;
}

static bool
fits(const Packet *p, uint8_t type, uint32_t from, uint32_t to)
{
	return (type == ANY || p->msg.type == type) && (from == ANY || p->msg.from == from) &&
		(to == ANY || p->msg.to == to);
}

static size_t
find(uint8_t type, uint32_t from, uint32_t to)
{
	for (size_t i = 0; i < npool; i++)
		if (fits(pool[i], type, from, to))
			return i;
	fail_at(__FILE__, __LINE__, "no message %s %u>%u",
			type < sizeof(type_names) / sizeof(type_names[0]) ? type_names[type] : "?", from, to);
}

int
count_msgs(uint8_t type, uint32_t from, uint32_t to)
{
	int			count = 0;

	for (size_t i = 0; i < npool; i++)
		count += fits(pool[i], type, from, to);
	return count;
}

const RaftMsg *
peek(uint8_t type, uint32_t from, uint32_t to)
{
	for (size_t i = 0; i < npool; i++)
		if (fits(pool[i], type, from, to))
			return &pool[i]->msg;
	return NULL;
}

Packet *
take(uint8_t type, uint32_t from, uint32_t to)
{
	return remove_at(find(type, from, to));
}

static void
arrive(Packet *p)
{
	uint32_t	to = p->msg.to;
	RaftMsg		msg;

	if (to <= MAX_NODES && nodes[to].up &&
		!(p->msg.from <= MAX_NODES && cut_links[p->msg.from][to]))
	{
		trace("deliver %s", describe(&p->msg));
		CHECK(raft_msg_decode(p->bytes, p->len, &msg));
		packet_free(p);
		(void) raft_recv(nodes[to].raft, &msg, now_us);
		drain(to);
		return;
	}
	trace("lost %s", describe(&p->msg));
	packet_free(p);
}

void
deliver(uint8_t type, uint32_t from, uint32_t to)
{
	arrive(take(type, from, to));
}

void
deliver_last(uint8_t type, uint32_t from, uint32_t to)
{
	for (size_t i = npool; i > 0; i--)
		if (fits(pool[i - 1], type, from, to))
		{
			arrive(remove_at(i - 1));
			return;
		}
	find(type, from, to);
}

int
deliver_all(uint8_t type, uint32_t from, uint32_t to)
{
	int			count = count_msgs(type, from, to);

	for (int i = 0; i < count; i++)
		deliver(type, from, to);
	return count;
}

int
drop(uint8_t type, uint32_t from, uint32_t to)
{
	int			count = 0;

	for (size_t i = 0; i < npool;)
	{
		if (!fits(pool[i], type, from, to))
		{
			i++;
			continue;
		}
		trace("drop %s", describe(&pool[i]->msg));
		packet_free(remove_at(i));
		count++;
	}
	return count;
}

void
duplicate(uint8_t type, uint32_t from, uint32_t to)
{
	pool_add(copy_packet(pool[find(type, from, to)]));
}

void
shuffle(uint64_t *seed)
{
	for (size_t i = npool; i > 1; i--)
	{
		size_t		j = rnd(seed) % i;
		Packet	   *p = pool[i - 1];

		pool[i - 1] = pool[j];
		pool[j] = p;
	}
}

/* ---------- links ---------- */

void
cut(uint32_t from, uint32_t to)
{
	trace("cut %u>%u", from, to);
	cut_links[from][to] = true;
}

void
uncut(uint32_t from, uint32_t to)
{
	trace("uncut %u>%u", from, to);
	cut_links[from][to] = false;
}

void
isolate(uint32_t id)
{
	trace("isolate %u", id);
	for (uint32_t other = 1; other <= MAX_NODES; other++)
		cut_links[id][other] = cut_links[other][id] = true;
}

void
isolate_groups(Ids a, Ids b)
{
	trace("isolate %x from %x", a >> 1, b >> 1);
	for (uint32_t i = 1; i <= MAX_NODES; i++)
		for (uint32_t j = 1; j <= MAX_NODES; j++)
			if (ids_have(a, i) && ids_have(b, j))
				cut_links[i][j] = cut_links[j][i] = true;
}

void
heal(void)
{
	trace("heal");
	memset(cut_links, 0, sizeof(cut_links));
}

void
settle_only(Ids ids)
{
	int			count = 0;

	for (size_t i = 0; i < npool;)
	{
		if (!ids_have(ids, pool[i]->msg.from) || !ids_have(ids, pool[i]->msg.to))
		{
			i++;
			continue;
		}
		if (++count > MAX_DELIVERIES)
			fail_at(__FILE__, __LINE__, "messages without end");
		arrive(remove_at(i));
		i = 0;
	}
}

void
settle(void)
{
	settle_only(~(Ids) 0);
}
