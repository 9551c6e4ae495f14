/*-------------------------------------------------------------------------
 *
 * wsread.c
 *		Reading a write set. Layout: writeset.h.
 *
 * Plain C, no postgres.h: used by the Raft worker (keys), the apply worker
 * (records) and the tests. The bytes may come from a member of another version
 * or from a damaged file, so no length is believed: every read is bounded by
 * what is left, and a first error sticks.
 *
 *-------------------------------------------------------------------------
 */
#include <string.h>

#include "replication/writeset.h"

#define FAIL(rd, text) ((rd)->error = (text), false)

static uint32_t
get_u32(const uint8_t *p)
{
	return (uint32_t) p[0] | (uint32_t) p[1] << 8 | (uint32_t) p[2] << 16 |
		(uint32_t) p[3] << 24;
}

static uint64_t
get_u64(const uint8_t *p)
{
	return get_u32(p) | (uint64_t) get_u32(p + 4) << 32;
}

/* ---------- header and keys ---------- */

bool
ws_read_open(WsReader *rd, const void *data, size_t len)
{
	const uint8_t *p = data;

	memset(rd, 0, sizeof(*rd));
	rd->data = p;
	rd->len = len;
	if (len < WS_HEADER_SIZE)
		return FAIL(rd, "write set is shorter than its header");
	if (p[0] != WS_VERSION)
		return FAIL(rd, "write set has an unknown version");
	if (p[1] != WS_KIND_TRANSACTION && p[1] != WS_KIND_LOCK)
		return FAIL(rd, "write set is of an unknown kind");
	if ((p[2] & ~WS_FLAG_ALONE) != 0 || p[3] != 0 || get_u32(p + 12) != 0)
		return FAIL(rd, "write set has unknown flags");
	rd->kind = p[1];
	rd->nkeys = get_u32(p + 4);
	rd->nrecords = get_u32(p + 8);
	rd->base_max = get_u64(p + 16);
	if (rd->nkeys > (len - WS_HEADER_SIZE) / WS_KEY_SIZE)
		return FAIL(rd, "write set has more keys than fit into it");
	rd->pos = WS_HEADER_SIZE + (size_t) rd->nkeys * WS_KEY_SIZE;
	/* the smallest record is a deletion with a tuple of no columns: 3 bytes */
	if (rd->nrecords > (len - rd->pos) / 3)
		return FAIL(rd, "write set has more records than fit into it");

	for (uint32_t i = 0; i < rd->nkeys; i++)
	{
		const uint8_t *k = p + WS_HEADER_SIZE + (size_t) i * WS_KEY_SIZE;
		uint32_t	packed = get_u32(k + 8);

		if (packed >> 1 != WS_MAX_DELTA && packed >> 1 > rd->base_max)
			return FAIL(rd, "write set has a key with a base below zero");
		if (i > 0)
		{
			uint64_t	previous = get_u64(k - WS_KEY_SIZE);
			uint64_t	current = get_u64(k);

			if (current < previous ||
				(current == previous && (packed & 1) <= (get_u32(k - 4) & 1)))
				return FAIL(rd, "write set has keys out of order");
		}
	}
	return true;
}

bool
ws_stands_alone(const void *data, size_t len)
{
	const uint8_t *p = data;

	return len >= WS_HEADER_SIZE && p[0] == WS_VERSION && p[1] == WS_KIND_TRANSACTION &&
		(p[2] & WS_FLAG_ALONE) != 0;
}

WsKey
ws_read_key(const WsReader *rd, uint32_t i)
{
	const uint8_t *k = rd->data + WS_HEADER_SIZE + (size_t) i * WS_KEY_SIZE;
	uint32_t	packed = get_u32(k + 8);
	WsKey		key;

	key.key = get_u64(k);
	key.exclusive = packed & 1;
	key.base = packed >> 1 == WS_MAX_DELTA ? 0 : rd->base_max - (packed >> 1);
	return key;
}

/* ---------- records ---------- */

static bool
read_u8(WsReader *rd, uint8_t *value)
{
	if (rd->pos >= rd->len)
		return FAIL(rd, "write set ends inside a record");
	*value = rd->data[rd->pos++];
	return true;
}

/* LEB128, at most 32 bits, no superfluous bytes */
static bool
read_varint(WsReader *rd, uint32_t *value)
{
	uint32_t	result = 0;

	for (int shift = 0; shift < 35; shift += 7)
	{
		uint8_t		b;

		if (!read_u8(rd, &b))
			return false;
		if (shift == 28 && b > 0x0f)
			return FAIL(rd, "write set has a number above 32 bits");
		if (shift > 0 && b == 0)
			return FAIL(rd, "write set has a number in an odd form");
		result |= (uint32_t) (b & 0x7f) << shift;
		if (!(b & 0x80))
		{
			*value = result;
			return true;
		}
	}
	return FAIL(rd, "write set has a number above 32 bits");
}

static bool
read_bytes(WsReader *rd, const uint8_t **data, uint32_t *len)
{
	if (!read_varint(rd, len))
		return false;
	if (*len > rd->len - rd->pos)
		return FAIL(rd, "write set has a value that reaches past its end");
	*data = rd->data + rd->pos;
	rd->pos += *len;
	return true;
}

static bool
read_string(WsReader *rd, WsString *string)
{
	const uint8_t *data;

	if (!read_bytes(rd, &data, &string->len))
		return false;
	if (memchr(data, 0, string->len) != NULL)
		return FAIL(rd, "write set has a string with a zero byte");
	string->data = (const char *) data;
	return true;
}

static bool
read_tuple(WsReader *rd, WsTuple *tuple)
{
	if (!read_varint(rd, &tuple->natts))
		return false;
	if (tuple->natts > WS_MAX_COLUMNS)
		return FAIL(rd, "write set has a tuple with too many columns");
	for (uint32_t i = 0; i < tuple->natts; i++)
	{
		WsColumn   *col = &tuple->cols[i];
		uint8_t		kind;

		if (!read_u8(rd, &kind))
			return false;
		col->kind = (char) kind;
		col->data = NULL;
		col->len = 0;
		switch (kind)
		{
			case 'n':
			case 'u':
				break;
			case 'b':
			case 't':
				if (!read_bytes(rd, &col->data, &col->len))
					return false;
				break;
			default:
				return FAIL(rd, "write set has a column of an unknown kind");
		}
	}
	return true;
}

static bool
read_flag(WsReader *rd, bool *flag)
{
	uint8_t		b;

	if (!read_u8(rd, &b))
		return false;
	if (b > 1)
		return FAIL(rd, "write set has a flag that is neither 0 nor 1");
	*flag = b != 0;
	return true;
}

static bool
read_tables(WsReader *rd, WsRecord *rec)
{
	if (!read_varint(rd, &rec->ntables))
		return false;
	if (rec->ntables > WS_MAX_TRUNCATE)
		return FAIL(rd, "write set names too many tables at once");
	for (uint32_t i = 0; i < rec->ntables; i++)
	{
		if (!read_varint(rd, &rec->table_ids[i]))
			return false;
	}
	return true;
}

static bool
read_truncate(WsReader *rd, WsRecord *rec)
{
	return read_tables(rd, rec) && read_flag(rd, &rec->restart_identity);
}

static bool
read_gate(WsReader *rd, WsRecord *rec)
{
	if (!read_u8(rd, &rec->gate_action))
		return false;
	if (rd->len - rd->pos < 16)
		return FAIL(rd, "write set ends inside a record");
	rec->gate_owner.node = get_u32(rd->data + rd->pos);
	rec->gate_owner.boot = get_u32(rd->data + rd->pos + 4);
	rec->gate_owner.counter = get_u64(rd->data + rd->pos + 8);
	rd->pos += 16;
	return read_tables(rd, rec);
}

static bool
read_statement(WsReader *rd, WsRecord *rec)
{
	if (!read_string(rd, &rec->role) || !read_string(rd, &rec->search_path) ||
		!read_varint(rd, &rec->nsettings))
		return false;
	if (rec->nsettings > WS_MAX_SETTINGS)
		return FAIL(rd, "write set has a statement with too many settings");
	for (uint32_t i = 0; i < rec->nsettings; i++)
	{
		if (!read_string(rd, &rec->setting_names[i]) ||
			!read_string(rd, &rec->setting_values[i]))
			return false;
	}
	return read_string(rd, &rec->statement);
}

static bool
read_chunk(WsReader *rd, WsRecord *rec)
{
	const uint8_t *data;

	if (!read_string(rd, &rec->copy_id) || !read_varint(rd, &rec->chunk_number) ||
		!read_varint(rd, &rec->chunk_rows) || !read_bytes(rd, &data, &rec->chunk.len))
		return false;
	rec->chunk.data = (const char *) data;
	return true;
}

bool
ws_read_record(WsReader *rd, WsRecord *rec)
{
	uint8_t		type;

	if (rd->error)
		return false;
	if (rd->records_read == rd->nrecords)
	{
		if (rd->pos != rd->len)
			return FAIL(rd, "write set has bytes after its last record");
		return false;
	}
	if (rd->kind != WS_KIND_TRANSACTION)
		return FAIL(rd, "entry is no write set");
	if (!read_u8(rd, &type))
		return false;
	rec->type = (char) type;
	rec->table_id = 0;
	rec->has_old = false;
	switch (type)
	{
		case 'I':
			if (!read_varint(rd, &rec->table_id) || !read_tuple(rd, &rec->new_tuple))
				return false;
			break;
		case 'U':
			if (!read_varint(rd, &rec->table_id) || !read_flag(rd, &rec->has_old) ||
				(rec->has_old && !read_tuple(rd, &rec->old_tuple)) ||
				!read_tuple(rd, &rec->new_tuple))
				return false;
			break;
		case 'D':
			if (!read_varint(rd, &rec->table_id) || !read_tuple(rd, &rec->old_tuple))
				return false;
			rec->has_old = true;
			break;
		case 'T':
			if (!read_truncate(rd, rec))
				return false;
			break;
		case 'X':
			if (!read_statement(rd, rec))
				return false;
			break;
		case 'C':
			if (!read_chunk(rd, rec))
				return false;
			break;
		case 'G':
			if (!read_gate(rd, rec))
				return false;
			break;
		default:
			return FAIL(rd, "write set has a record of an unknown type");
	}
	rd->records_read++;
	return true;
}
