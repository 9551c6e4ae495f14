/*-------------------------------------------------------------------------
 *
 * test_wsread.c
 *		Reading write sets: what was written comes back, and nothing that is
 *		cut short or scribbled on is taken for whole or read past its end.
 *
 *-------------------------------------------------------------------------
 */
#include "payload.h"

#include <stdlib.h>

static WsColumn old_columns[WS_MAX_COLUMNS];
static WsColumn new_columns[WS_MAX_COLUMNS];
static uint32_t table_ids[WS_MAX_TRUNCATE];

static WsRecord
new_record(void)
{
	WsRecord	rec;

	memset(&rec, 0, sizeof(rec));
	rec.old_tuple.cols = old_columns;
	rec.new_tuple.cols = new_columns;
	rec.table_ids = table_ids;
	return rec;
}

/* One of everything. */
static void
build_all(Payload *p)
{
	WsKey		keys[] = {
		{UINT64_MAX, 100, true},
		{0, 7, false},
		{0, 9, true},
		{12345, 0, false},
	};

	put_header(p, keys, 4, 7);

	put_u8(p, 'I');
	put_varint(p, 300);
	put_varint(p, 4);
	put_u8(p, 'n');
	put_u8(p, 'u');
	put_u8(p, 'b');
	put_bytes(p, "\1\0\2", 3);
	put_u8(p, 't');
	put_string(p, "text");

	put_u8(p, 'U');
	put_varint(p, UINT32_MAX);
	put_u8(p, 1);
	put_varint(p, 1);
	put_u8(p, 't');
	put_string(p, "old");
	put_varint(p, 0);

	put_u8(p, 'D');
	put_varint(p, 1);
	put_varint(p, 1);
	put_u8(p, 'b');
	put_bytes(p, "", 0);

	put_u8(p, 'T');
	put_varint(p, 2);
	put_varint(p, 5);
	put_varint(p, 6);
	put_u8(p, 1);

	put_u8(p, 'X');
	put_string(p, "role");
	put_string(p, "a, b");
	put_varint(p, 1);
	put_string(p, "name");
	put_string(p, "value");
	put_string(p, "ALTER TABLE x");

	put_u8(p, 'C');
	put_string(p, "1-2-3");
	put_varint(p, 300);
	put_varint(p, 7);
	put_bytes(p, "a\0b\0", 4);

	put_u8(p, 'G');
	put_u8(p, 2);
	put_u32(p, 1);
	put_u32(p, 2);
	put_u32(p, 3);
	put_u32(p, UINT32_C(1) << 24);
	put_varint(p, 1);
	put_varint(p, 300);
}

static bool
is(WsString s, const char *text)
{
	return s.len == strlen(text) && memcmp(s.data, text, s.len) == 0;
}

static void
test_everything(void)
{
	Payload		p = {0};
	WsReader	rd;
	WsRecord	rec = new_record();
	WsKey		key;

	build_all(&p);
	CHECK(ws_read_open(&rd, p.data, p.len));
	CHECK(rd.nkeys == 4 && rd.nrecords == 7 && rd.base_max == 100);
	key = ws_read_key(&rd, 0);
	CHECK(key.key == 0 && key.base == 7 && !key.exclusive);
	key = ws_read_key(&rd, 1);
	CHECK(key.key == 0 && key.base == 9 && key.exclusive);
	key = ws_read_key(&rd, 2);
	CHECK(key.key == 12345 && key.base == 0 && !key.exclusive);
	key = ws_read_key(&rd, 3);
	CHECK(key.key == UINT64_MAX && key.base == 100 && key.exclusive);

	CHECK(ws_read_record(&rd, &rec) && rec.type == 'I' && rec.table_id == 300);
	CHECK(!rec.has_old && rec.new_tuple.natts == 4);
	CHECK(new_columns[0].kind == 'n' && new_columns[1].kind == 'u');
	CHECK(new_columns[2].kind == 'b' && new_columns[2].len == 3 &&
		  memcmp(new_columns[2].data, "\1\0\2", 3) == 0);
	CHECK(new_columns[3].kind == 't' && new_columns[3].len == 4);

	CHECK(ws_read_record(&rd, &rec) && rec.type == 'U' && rec.table_id == UINT32_MAX);
	CHECK(rec.has_old && rec.old_tuple.natts == 1 && old_columns[0].len == 3);
	CHECK(rec.new_tuple.natts == 0);

	CHECK(ws_read_record(&rd, &rec) && rec.type == 'D' && rec.table_id == 1);
	CHECK(rec.old_tuple.natts == 1 && old_columns[0].kind == 'b' && old_columns[0].len == 0);

	CHECK(ws_read_record(&rd, &rec) && rec.type == 'T' && rec.ntables == 2);
	CHECK(table_ids[0] == 5 && table_ids[1] == 6 && rec.restart_identity);

	CHECK(ws_read_record(&rd, &rec) && rec.type == 'X');
	CHECK(is(rec.role, "role") && is(rec.search_path, "a, b") && is(rec.statement, "ALTER TABLE x"));
	CHECK(rec.nsettings == 1 && is(rec.setting_names[0], "name") && is(rec.setting_values[0], "value"));

	CHECK(ws_read_record(&rd, &rec) && rec.type == 'C' && is(rec.copy_id, "1-2-3"));
	CHECK(rec.chunk_number == 300 && rec.chunk_rows == 7 && rec.chunk.len == 4 &&
		  memcmp(rec.chunk.data, "a\0b\0", 4) == 0);

	CHECK(ws_read_record(&rd, &rec) && rec.type == 'G' && rec.gate_action == 2);
	CHECK(rec.gate_owner.node == 1 && rec.gate_owner.boot == 2 &&
		  rec.gate_owner.counter == (UINT64_C(1) << 56 | 3));
	CHECK(rec.ntables == 1 && table_ids[0] == 300);

	CHECK(!ws_read_record(&rd, &rec) && rd.error == NULL);
	CHECK(!ws_read_record(&rd, &rec) && rd.error == NULL);
	payload_free(&p);
}

/* Reads all of it; true when it was whole. */
static bool
read_all(const void *data, size_t len)
{
	WsReader	rd;
	WsRecord	rec = new_record();

	if (!ws_read_open(&rd, data, len))
		return false;
	for (uint32_t i = 0; i < rd.nkeys; i++)
		(void) ws_read_key(&rd, i);
	while (ws_read_record(&rd, &rec))
		;
	return rd.error == NULL;
}

/* Every shorter piece is refused; copies are exact so that a sanitizer sees. */
static void
test_cut(void)
{
	Payload		p = {0};

	build_all(&p);
	for (size_t len = 0; len < p.len; len++)
	{
		uint8_t    *copy = malloc(len ? len : 1);

		memcpy(copy, p.data, len);
		CHECK(!read_all(copy, len));
		free(copy);
	}
	put_u8(&p, 0);
	CHECK(!read_all(p.data, p.len));
	payload_free(&p);
}

static void
test_scribbled(void)
{
	Payload		p = {0};

	build_all(&p);
	for (int round = 0; round < 200000; round++)
	{
		uint8_t		saved[4];
		size_t		at[4];

		for (int i = 0; i < 4; i++)
		{
			at[i] = random_u64() % p.len;
			saved[i] = p.data[at[i]];
			p.data[at[i]] = (uint8_t) random_u64();
		}
		(void) read_all(p.data, p.len);
		for (int i = 3; i >= 0; i--)
			p.data[at[i]] = saved[i];
	}
	CHECK(read_all(p.data, p.len));
	payload_free(&p);
}

static void
refused(Payload *p, bool refuse)
{
	CHECK(read_all(p->data, p->len) == !refuse);
	payload_free(p);
}

static void
test_limits(void)
{
	Payload		p = {0};
	WsKey		far[] = {{1, 0, true}, {2, UINT64_C(1) << 40, true}};
	WsReader	rd;

	/* version, kind, flags */
	for (int i = 0; i < 4; i++)
	{
		put_header(&p, NULL, 0, 0);
		p.data[i] ^= 0x40;
		refused(&p, true);
	}
	put_header(&p, NULL, 0, 0);
	refused(&p, false);

	/* entries that stand alone */
	put_header(&p, NULL, 0, 0);
	CHECK(!ws_stands_alone(p.data, p.len));
	p.data[2] = WS_FLAG_ALONE;
	CHECK(ws_stands_alone(p.data, p.len));
	CHECK(!ws_stands_alone(p.data, WS_HEADER_SIZE - 1));
	refused(&p, false);

	/* counts that the length does not bear */
	put_header(&p, NULL, 0, 0);
	p.data[4] = 1;
	refused(&p, true);
	put_header(&p, NULL, 0, UINT32_MAX);
	refused(&p, true);
	put_header(&p, NULL, 0, 0);
	memset(p.data + 4, 0xff, 4);
	refused(&p, true);

	/* a difference that does not fit reads as base 0, one below zero is refused */
	put_header(&p, far, 2, 0);
	CHECK(ws_read_open(&rd, p.data, p.len) && ws_read_key(&rd, 0).base == 0);
	CHECK(ws_read_key(&rd, 1).base == UINT64_C(1) << 40);
	payload_free(&p);
	far[1].base = 5;
	put_header(&p, far, 2, 0);
	p.data[WS_HEADER_SIZE + 8] = 6 << 1;
	refused(&p, true);

	/* order */
	far[0].key = 2;
	put_header(&p, far, 2, 0);
	refused(&p, true);

	/* numbers */
	put_header(&p, NULL, 0, 1);
	put_u8(&p, 'D');
	put_varint(&p, UINT64_C(1) << 32);
	put_varint(&p, 0);
	refused(&p, true);
	put_header(&p, NULL, 0, 1);
	put_u8(&p, 'D');
	put_u8(&p, 0x81);
	put_u8(&p, 0x00);
	put_varint(&p, 0);
	refused(&p, true);

	/* columns, tables, settings */
	put_header(&p, NULL, 0, 1);
	put_u8(&p, 'D');
	put_varint(&p, 1);
	put_varint(&p, WS_MAX_COLUMNS);
	for (int i = 0; i < WS_MAX_COLUMNS; i++)
		put_u8(&p, 'n');
	refused(&p, false);
	put_header(&p, NULL, 0, 1);
	put_u8(&p, 'D');
	put_varint(&p, 1);
	put_varint(&p, WS_MAX_COLUMNS + 1);
	for (int i = 0; i < WS_MAX_COLUMNS + 1; i++)
		put_u8(&p, 'n');
	refused(&p, true);
	put_header(&p, NULL, 0, 1);
	put_u8(&p, 'T');
	put_varint(&p, WS_MAX_TRUNCATE + 1);
	for (int i = 0; i < WS_MAX_TRUNCATE + 1; i++)
		put_varint(&p, 1);
	put_u8(&p, 0);
	refused(&p, true);
	put_header(&p, NULL, 0, 1);
	put_u8(&p, 'X');
	put_string(&p, "r");
	put_string(&p, "s");
	put_varint(&p, WS_MAX_SETTINGS + 1);
	for (int i = 0; i < 2 * (WS_MAX_SETTINGS + 1); i++)
		put_string(&p, "v");
	put_string(&p, "x");
	refused(&p, true);
	put_header(&p, NULL, 0, 1);
	put_u8(&p, 'X');
	put_bytes(&p, "a\0b", 3);
	put_string(&p, "s");
	put_varint(&p, 0);
	put_string(&p, "x");
	refused(&p, true);

	/* unknown kinds of record and column, flags */
	put_header(&p, NULL, 0, 1);
	put_u8(&p, 'Q');
	put_varint(&p, 1);
	put_varint(&p, 0);
	refused(&p, true);
	put_header(&p, NULL, 0, 1);
	put_u8(&p, 'D');
	put_varint(&p, 1);
	put_varint(&p, 1);
	put_u8(&p, 'z');
	refused(&p, true);
	put_header(&p, NULL, 0, 1);
	put_u8(&p, 'T');
	put_varint(&p, 1);
	put_varint(&p, 1);
	put_u8(&p, 2);
	refused(&p, true);
}

void
test_wsread(void)
{
	test_everything();
	test_cut();
	test_scribbled();
	test_limits();
}
