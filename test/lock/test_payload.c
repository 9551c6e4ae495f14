/*-------------------------------------------------------------------------
 *
 * test_payload.c
 *		Lock entries: written and read, malformed ones, fence keys.
 *
 *-------------------------------------------------------------------------
 */
#include "harness.h"
#include "replication/writeset.h"

static bool
reads(const Payload *p)
{
	LkReader	rd;

	return lk_read_open(&rd, p->data, p->len);
}

static void
test_round_trip(void)
{
	Payload		p;
	LkReader	rd;
	LkItem		item;
	LkItem		items[3] = {item_of("one", LK_EXCLUSIVE), item_of("two", LK_SHARED),
	item_of("three", LK_PERMIT)};
	LkRecord	rec = {.op = LK_OP_GRANT, .owner = lease_owner(7, 2, 9), .nitems = 3,
	.deadlock_ms = 5, .max_hold_ms = 6, .delay_ms = 7, .lease_ms = 8, .flags = LK_TRY};
	WsReader	ws;
	uint64_t	a,
				b;
	int			found = 0;

	make(&p, &rec, items);
	CHECK(p.len <= lk_write_bound(&rec, items));
	CHECK(lk_op(p.data, p.len) == LK_OP_GRANT);
	CHECK(lk_read_open(&rd, p.data, p.len));
	CHECK(lk_owner_equal(&rd.rec.owner, &rec.owner) && rd.rec.owner.node == 2 &&
		  rd.rec.owner.session == 9);
	CHECK(rd.rec.deadlock_ms == 5 && rd.rec.max_hold_ms == 6 && rd.rec.delay_ms == 7 &&
		  rd.rec.lease_ms == 8 && rd.rec.flags == LK_TRY && rd.rec.nitems == 3);
	for (int i = 0; i < 3; i++)
	{
		CHECK(lk_read_item(&rd, &item));
		CHECK(item.len == items[i].len && memcmp(item.key, items[i].key, item.len) == 0 &&
			  item.mode == items[i].mode && item.weight == items[i].weight);
	}
	CHECK(!lk_read_item(&rd, &item) && !lk_read_delay(&rd, &item));

	/* fence keys: A and B of the exclusive one, B of the others */
	CHECK(ws_read_open(&ws, p.data, p.len) && ws.kind == WS_KIND_LOCK && ws.nkeys == 4);
	lk_fence_keys(LK_KEY_TEXT, "one", 3, &a, &b);
	for (uint32_t i = 0; i < ws.nkeys; i++)
	{
		WsKey		key = ws_read_key(&ws, i);

		CHECK(key.exclusive && key.base == 0);
		found += key.key == a || key.key == b;
	}
	CHECK(found == 2);
	lk_fence_keys(LK_KEY_TEXT, "two", 3, &a, &b);
	for (uint32_t i = 0; i < ws.nkeys; i++)
		CHECK(ws_read_key(&ws, i).key != a);

	rec.flags = LK_AGAIN;
	make(&p, &rec, items);
	CHECK(ws_read_open(&ws, p.data, p.len) && ws.nkeys == 0);
}

static void
test_other_operations(void)
{
	Payload		p;
	LkReader	rd;
	LkItem		item;
	LkItem		two[2] = {item_of("k", LK_EXCLUSIVE), item_of("d", LK_EXCLUSIVE)};
	LkRecord	rec = {.op = LK_OP_EXPIRE_HOLD, .reason = LK_HOLD_EXPIRED, .nitems = 1,
	.ndelays = 1};
	LkRecord	broken = {.op = LK_OP_BREAK, .role = "alice", .role_len = 5, .text = "stuck",
	.text_len = 5};

	two[0].token = 77;
	two[0].whole = true;
	two[1].delay_ms = 500;
	make(&p, &rec, two);
	CHECK(lk_read_open(&rd, p.data, p.len) && rd.rec.reason == LK_HOLD_EXPIRED);
	CHECK(lk_read_item(&rd, &item) && item.token == 77 && item.whole);
	CHECK(lk_read_delay(&rd, &item) && item.delay_ms == 500 && item.key[0] == 'd');
	CHECK(!lk_read_delay(&rd, &item));

	broken.broken = item_of("b", LK_EXCLUSIVE);
	make(&p, &broken, NULL);
	CHECK(lk_read_open(&rd, p.data, p.len) && rd.rec.reason == LK_BROKEN &&
		  rd.rec.role_len == 5 && memcmp(rd.rec.text, "stuck", 5) == 0);

	make_lease_open(&p, 3, 4000);
	CHECK(lk_read_open(&rd, p.data, p.len) && rd.rec.ttl_ms == 4000 && rd.rec.name_len == 7);
}

static void
test_out_of_bounds(void)
{
	static char long_key[LK_MAX_KEY_LEN + 2];
	uint8_t		buf[16384];
	LkRecord	rec = {.op = LK_OP_GRANT, .owner = session_owner(1, 1, 1), .nitems = 1};
	LkItem		item;

	memset(long_key, 'x', sizeof(long_key) - 1);
	item = item_of(long_key, LK_EXCLUSIVE);
	CHECK(lk_write(buf, sizeof(buf), &rec, &item) == 0);
	item.len = LK_MAX_KEY_LEN;
	CHECK(lk_write(buf, sizeof(buf), &rec, &item) > 0);
	CHECK(lk_write(buf, 100, &rec, &item) == 0);
	item.len = 0;
	CHECK(lk_write(buf, sizeof(buf), &rec, &item) == 0);
	item = item_of("k", LK_EXCLUSIVE);
	item.key_type = LK_KEY_BIGINT;
	CHECK(lk_write(buf, sizeof(buf), &rec, &item) == 0);
	item = item_of("k", LK_EXCLUSIVE);
	item.mode = 9;
	CHECK(lk_write(buf, sizeof(buf), &rec, &item) == 0);
	rec.nitems = 0;
	CHECK(lk_write(buf, sizeof(buf), &rec, &item) == 0);
}

/* Cut anywhere, or with any byte changed: read or refused, never out of bounds. */
static void
test_malformed(void)
{
	LkItem		items[2] = {item_of("one", LK_EXCLUSIVE), item_of("two", LK_SHARED)};
	LkRecord	rec = {.op = LK_OP_GRANT, .owner = session_owner(1, 1, 1), .nitems = 2};
	Payload		good;
	int			cut_read = 0;

	make(&good, &rec, items);
	CHECK(reads(&good));
	for (size_t len = 0; len < good.len; len++)
	{
		uint8_t    *exact = malloc(len + 1);
		LkReader	rd;

		memcpy(exact, good.data, len);
		cut_read += lk_read_open(&rd, exact, len);
		(void) lk_op(exact, len);
		free(exact);
	}
	CHECK(cut_read == 0);
	for (size_t at = 0; at < good.len; at++)
		for (int value = 0; value < 256; value += 5)
		{
			Payload		bad = good;
			LkReader	rd;
			LkItem		item;

			bad.data[at] = (uint8_t) value;
			if (!lk_read_open(&rd, bad.data, bad.len))
				continue;
			while (lk_read_item(&rd, &item))
				;
			while (lk_read_delay(&rd, &item))
				;
			MUST(rd.error == NULL, "an error after a sound opening");
		}
	passed++;
}

static void
test_bigint(void)
{
	static const int64_t values[] = {0, 1, -1, INT64_MAX, INT64_MIN, 42, -1000000007};
	char		key[8];

	for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++)
	{
		lk_bigint_key(values[i], key);
		CHECK(lk_bigint_value(key) == values[i]);
	}
}

void
test_payload(void)
{
	test_round_trip();
	test_other_operations();
	test_out_of_bounds();
	test_malformed();
	test_bigint();
}
