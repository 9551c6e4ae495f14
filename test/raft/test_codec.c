/*-------------------------------------------------------------------------
 *
 * test_codec.c
 *		Bytes of messages and configurations: round trips, every truncation, random
 *		damage. Inputs sit in blocks of exactly their size, so that a sanitizer sees
 *		each byte read too many.
 *
 *-------------------------------------------------------------------------
 */
#include "harness.h"

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

static Bytes
encode(const RaftMsg *msg)
{
	Bytes		b = {malloc(1), 0};
	uint8_t    *head = raft_msg_encode(msg, add_part, &b);

	CHECK(head != NULL);
	free(head);
	return b;
}

/* Without a copy of what is large: the same, and it outlives the block. */
static void
decode_taken(uint8_t *block, size_t len, bool ok, const RaftMsg *expected)
{
	RaftBuf    *buf = raft_buf_take(block, len);
	RaftMsg		msg;

	CHECK(raft_msg_decode_buf(buf, &msg) == ok);
	raft_buf_unref(buf);
	if (!ok)
		return;
	CHECK(msg.nentries == expected->nentries);
	for (uint32_t i = 0; i < msg.nentries; i++)
	{
		const RaftBuf *a = msg.entries[i].data;
		const RaftBuf *b = expected->entries[i].data;

		CHECK((a == NULL) == (b == NULL));
		if (a != NULL)
			CHECK(a->len == b->len && memcmp(a->data, b->data, a->len) == 0 &&
				  (a->whole != NULL) == (a->len > len / 2));
	}
	raft_msg_free(&msg);
}

/* From a block of that size and no more. */
static bool
decode(const uint8_t *data, size_t len, RaftMsg *msg)
{
	uint8_t    *exact = malloc(len > 0 ? len : 1);
	bool		ok;

	memcpy(exact, data, len);
	ok = raft_msg_decode(exact, len, msg);
	decode_taken(exact, len, ok, msg);
	return ok;
}

/* A message of this type that is valid, everything else by chance. */
static RaftMsg
random_message(uint8_t type, uint64_t *s)
{
	RaftMsg		m;
	uint64_t	small = rnd(s) % 3 == 0 ? 4 : 1000000;

	memset(&m, 0, sizeof(m));
	m.type = type;
	m.from = 1 + (uint32_t) (rnd(s) % 9);
	m.to = 10 + (uint32_t) (rnd(s) % 9);
	m.term = 1 + rnd(s) % small;
	m.log_term = rnd(s) % (m.term + 1);
	m.index = m.log_term == 0 ? 0 : 1 + rnd(s) % small;
	m.commit = rnd(s) % small;
	m.hint = rnd(s) % small;
	m.context = rnd(s);
	m.reject = rnd(s) % 2 == 0;
	m.transfer = rnd(s) % 2 == 0;
	m.stamp.physical_us = (int64_t) rnd(s);
	m.stamp.logical = (uint32_t) rnd(s);
	m.stamp.node = (uint32_t) rnd(s);
	for (int i = 0; i < RAFT_INSTANCE_LEN; i++)
		m.instance[i] = (uint8_t) rnd(s);
	if (type == RAFT_MSG_SNAPSHOT)
	{
		m.log_term = m.log_term > 0 ? m.log_term : 1;
		m.index = m.index > 0 ? m.index : 1;
		m.nentries = 1;
	}
	else if (type == RAFT_MSG_APPEND)
		m.nentries = (uint32_t) (rnd(s) % 6);
	if (m.nentries > 0)
		m.entries = calloc(m.nentries, sizeof(RaftEntry));
	for (uint32_t i = 0; i < m.nentries; i++)
	{
		RaftEntry  *e = &m.entries[i];
		uint8_t		bytes[300];
		size_t		len = rnd(s) % sizeof(bytes);

		for (size_t k = 0; k < len; k++)
			bytes[k] = (uint8_t) rnd(s);
		e->index = m.index + 1 + i;
		e->term = m.term;
		e->type = type == RAFT_MSG_SNAPSHOT ? RAFT_ENTRY_CONF : (uint8_t) (1 + rnd(s) % 3);
		e->stamp.physical_us = (int64_t) rnd(s);
		e->stamp.logical = (uint32_t) rnd(s);
		e->token.node = (uint32_t) rnd(s);
		e->token.boot = (uint32_t) rnd(s);
		e->token.counter = rnd(s);
		if (type == RAFT_MSG_SNAPSHOT || rnd(s) % 4 != 0)
			e->data = raft_buf_new(bytes, len);
	}
	return m;
}

static void
check_same(const RaftMsg *a, const RaftMsg *b)
{
	CHECK(a->type == b->type && a->reject == b->reject && a->transfer == b->transfer);
	CHECK(a->from == b->from && a->to == b->to && a->term == b->term);
	CHECK(a->index == b->index && a->log_term == b->log_term && a->commit == b->commit);
	CHECK(a->hint == b->hint && a->context == b->context);
	CHECK(a->stamp.physical_us == b->stamp.physical_us && a->stamp.node == b->stamp.node &&
		  a->stamp.logical == b->stamp.logical);
	CHECK(memcmp(a->instance, b->instance, RAFT_INSTANCE_LEN) == 0);
	CHECK_EQ(a->nentries, b->nentries);
	for (uint32_t i = 0; i < a->nentries; i++)
	{
		const RaftEntry *x = &a->entries[i];
		const RaftEntry *y = &b->entries[i];

		CHECK(entry_hash(x) == entry_hash(y));
		CHECK((x->data == NULL) == (y->data == NULL));
		CHECK(x->data == NULL || (x->data->len == y->data->len &&
								  memcmp(x->data->data, y->data->data, x->data->len) == 0));
	}
}

static void
codec_round_trip(void)
{
	uint64_t	s = 1;

	for (int i = 0; i < 3000; i++)
	{
		RaftMsg		m = random_message((uint8_t) (1 + i % RAFT_MSG_SNAPSHOT), &s);
		RaftMsg		back;
		Bytes		b = encode(&m);

		CHECK(decode(b.data, b.len, &back));
		check_same(&m, &back);
		raft_msg_free(&back);
		raft_msg_free(&m);
		free(b.data);
	}
}

static void
codec_every_truncation_is_refused(void)
{
	uint64_t	s = 2;

	for (int i = 0; i < 4 * RAFT_MSG_SNAPSHOT; i++)
	{
		RaftMsg		m = random_message((uint8_t) (1 + i % RAFT_MSG_SNAPSHOT), &s);
		RaftMsg		back;
		Bytes		b = encode(&m);

		for (size_t len = 0; len < b.len; len++)
			CHECK(!decode(b.data, len, &back));
		/* and a byte too many */
		b.data = realloc(b.data, b.len + 1);
		b.data[b.len] = 0;
		CHECK(!decode(b.data, b.len + 1, &back));
		raft_msg_free(&m);
		free(b.data);
	}
	CHECK(!raft_msg_decode(NULL, 0, &(RaftMsg) {0}));
}

/* What is let through says the same when written again. */
static void
codec_damaged_bytes(void)
{
	uint64_t	s = 3;
	int			let_through = 0;

	for (int i = 0; i < 60000; i++)
	{
		RaftMsg		m = random_message((uint8_t) (1 + i % RAFT_MSG_SNAPSHOT), &s);
		RaftMsg		back;
		Bytes		b = encode(&m);
		Bytes		b2;

		for (int k = 1 + (int) (rnd(&s) % 4); k > 0; k--)
		{
			size_t		at = rnd(&s) % (rnd(&s) % 2 == 0 ? b.len : b.len < 170 ? b.len : 170);

			if (rnd(&s) % 2 == 0)
				b.data[at] ^= (uint8_t) (1u << rnd(&s) % 8);
			else
				b.data[at] = (uint8_t) (rnd(&s) % 2 == 0 ? 0xff : rnd(&s));
		}
		if (decode(b.data, b.len, &back))
		{
			let_through++;
			b2 = encode(&back);
			CHECK(b2.len == b.len && memcmp(b2.data, b.data, b.len) == 0);
			free(b2.data);
			raft_msg_free(&back);
		}
		raft_msg_free(&m);
		free(b.data);
	}
	CHECK(let_through > 1000);	/* payload bytes may be anything */
}

/* Counts and lengths that would overflow or ask for gigabytes. */
static void
codec_huge_counts(void)
{
	static const uint32_t sizes[] = {1, 2, 0xffff, 0x10000, 0xfffffe, 0x7fffffff, 0x80000000u,
	0xfffffffeu, 0xffffffffu};
	uint64_t	s = 4;
	RaftMsg		m = random_message(RAFT_MSG_APPEND, &s);
	RaftMsg		back;
	Bytes		b;

	while (m.nentries < 3)
	{
		raft_msg_free(&m);
		m = random_message(RAFT_MSG_APPEND, &s);
	}
	b = encode(&m);
	for (size_t at = 0; at + 4 <= b.len && at < 300; at++)
		for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		{
			uint8_t		old[4];

			memcpy(old, b.data + at, 4);
			for (int k = 0; k < 4; k++)
				b.data[at + k] = (uint8_t) (sizes[i] >> 8 * k);
			if (decode(b.data, b.len, &back))
				raft_msg_free(&back);
			memcpy(b.data + at, old, 4);
		}
	raft_msg_free(&m);
	free(b.data);
}

/* Nonsense inside well-formed bytes is refused by the decoder or by raft_recv. */
static void
codec_nonsense_is_refused(void)
{
	RaftMsg		m = message(RAFT_MSG_HEARTBEAT, 1, 2, 1);
	RaftMsg		back;
	Bytes		b;

	for (int type = 0; type < 256; type++)
	{
		if (type >= RAFT_MSG_PREVOTE && type <= RAFT_MSG_SNAPSHOT)
			continue;
		m.type = (uint8_t) type;
		b = encode(&m);
		CHECK(!decode(b.data, b.len, &back));
		free(b.data);
	}
	cluster(3);
	m = message(RAFT_MSG_HEARTBEAT, 1, 3, 1);
	CHECK_EQ(inject(2, m), RAFT_INVALID);	/* not for us */
	m = message(RAFT_MSG_HEARTBEAT, 2, 2, 1);
	CHECK_EQ(inject(2, m), RAFT_INVALID);	/* from ourselves */
	m = message(RAFT_MSG_HEARTBEAT, 0, 2, 1);
	CHECK_EQ(inject(2, m), RAFT_INVALID);	/* from nobody */
	CHECK_EQ(raft_term(core(2)), 0);
}

/* ---------- configurations ---------- */

static RaftConf
random_conf(uint64_t *s)
{
	RaftConf	c;
	uint32_t	id = 0;

	memset(&c, 0, sizeof(c));
	c.index = rnd(s) % 1000;
	c.joint = rnd(s) % 2 == 0;
	c.explicit_leave = c.joint && rnd(s) % 2 == 0;
	c.nmembers = 1 + (uint32_t) (rnd(s) % (rnd(s) % 5 == 0 ? RAFT_MAX_MEMBERS : 6));
	for (uint32_t i = 0; i < c.nmembers; i++)
	{
		RaftMember *m = &c.members[i];

		id += 1 + (uint32_t) (rnd(s) % 3);
		m->id = id;
		m->seq_slot = (uint32_t) rnd(s);
		m->voter = i == 0 || rnd(s) % 2 == 0;
		m->learner = !m->voter;
		m->voter_outgoing = c.joint && (i == 0 || rnd(s) % 2 == 0);
		snprintf(m->name, sizeof(m->name), "%.*s", (int) (rnd(s) % 63),
				 "a name that is as long as a name may be, which is sixty-three bytes");
		snprintf(m->address, sizeof(m->address), "host%u:%u", id, (unsigned) (rnd(s) % 65536));
		for (int k = 0; k < RAFT_INSTANCE_LEN; k++)
			m->instance[k] = (uint8_t) rnd(s);
	}
	c.next_id = id + 1 + (uint32_t) (rnd(s) % 5);
	return c;
}

static bool
conf_decode(const uint8_t *data, size_t len, RaftConf *conf)
{
	uint8_t    *exact = malloc(len > 0 ? len : 1);
	bool		ok;

	memcpy(exact, data, len);
	ok = raft_conf_decode(exact, len, conf);
	free(exact);
	return ok;
}

static void
codec_configurations(void)
{
	uint64_t	s = 5;

	for (int i = 0; i < 600; i++)
	{
		RaftConf	c = random_conf(&s);
		RaftConf	back;
		RaftBuf    *b;

		CHECK(raft_conf_valid(&c));
		b = raft_conf_encode(&c);
		CHECK(conf_decode(b->data, b->len, &back));
		CHECK(memcmp(&c, &back, sizeof(c)) == 0);
		for (size_t len = 0; len < b->len; len += 1 + (i % 5 == 0 ? 0 : rnd(&s) % 40))
			CHECK(!conf_decode(b->data, len, &back));
		for (int k = 0; k < 60; k++)
		{
			size_t		at = rnd(&s) % b->len;
			uint8_t		old = b->data[at];

			b->data[at] = (uint8_t) rnd(&s);
			if (conf_decode(b->data, b->len, &back))
				CHECK(raft_conf_valid(&back));
			b->data[at] = old;
		}
		raft_buf_unref(b);
	}
}

/* A CONF entry whose payload is garbage is refused and leaves nothing behind. */
static void
codec_garbage_configuration_entry(void)
{
	RaftMsg		m;

	cluster(3);
	elect(1);
	m = message(RAFT_MSG_APPEND, 1, 2, raft_term(core(1)));
	m.index = last_of(2);
	m.log_term = raft_term(core(1));
	m.entries = entries_of(m.index + 1, TERMS(1, 1), &m.nentries);
	m.entries[1].type = RAFT_ENTRY_CONF;
	CHECK_EQ(inject(2, m), RAFT_INVALID);
	CHECK_EQ(last_of(2), last_of(1));
	CHECK_EQ(raft_conf(core(2))->nmembers, 3);
	check_converged();
}

const Test	tests_codec[] = {
	TEST(codec_round_trip),
	TEST(codec_every_truncation_is_refused),
	TEST(codec_damaged_bytes),
	TEST(codec_huge_counts),
	TEST(codec_nonsense_is_refused),
	TEST(codec_configurations),
	TEST(codec_garbage_configuration_entry),
	{NULL, NULL}
};
