/*-------------------------------------------------------------------------
 *
 * lock_payload.c
 *		Writing and reading lock entries. Layout: lock_payload.h.
 *
 * Plain C, no postgres.h. The reader goes over the whole payload once, when it is
 * opened, so that those who walk through the items afterwards meet no surprise
 * half-way.
 *
 *-------------------------------------------------------------------------
 */
#include <stdlib.h>
#include <string.h>

#include "lock/lock_payload.h"
#include "replication/writeset.h"

#define FAIL(rd, text) ((rd)->error = (text), false)

#define OWNER_BYTES		38
#define ITEM_BYTES		16		/* fixed part of an item, at most */

/* ---------- names ---------- */

const char *
lk_reason_name(LkReason reason)
{
	switch (reason)
	{
		case LK_RELEASED:
			return "released";
		case LK_GIVEN_UP:
			return "given up";
		case LK_SESSION_ENDED:
			return "session ended";
		case LK_NODE_RESTARTED:
			return "server restarted";
		case LK_NODE_EXPIRED:
			return "server lease expired";
		case LK_HOLD_EXPIRED:
			return "hold time over";
		case LK_LEASE_CLOSED:
			return "lease closed";
		case LK_LEASE_EXPIRED:
			return "lease expired";
		case LK_BROKEN:
			return "broken";
	}
	return "unknown";
}

const char *
lk_key_type_name(uint8_t key_type)
{
	switch (key_type)
	{
		case LK_KEY_TEXT:
			return "text";
		case LK_KEY_BIGINT:
			return "bigint";
		case LK_KEY_SEMAPHORE:
			return "semaphore";
		case LK_KEY_ELECTION:
			return "election";
		case LK_KEY_LATCH:
			return "latch";
	}
	return "unknown";
}

const char *
lk_mode_name(uint8_t mode)
{
	switch (mode)
	{
		case LK_EXCLUSIVE:
			return "exclusive";
		case LK_SHARED:
			return "shared";
		case LK_PERMIT:
			return "permit";
	}
	return "unknown";
}

bool
lk_owner_equal(const LkOwner *a, const LkOwner *b)
{
	if (a->kind != b->kind)
		return false;
	if (a->kind == LK_OWNER_LEASE)
		return memcmp(a->lease, b->lease, LK_UUID_LEN) == 0;
	return a->node == b->node && a->boot == b->boot && a->session == b->session;
}

/* ---------- keys ---------- */

void
lk_bigint_key(int64_t value, char key[8])
{
	for (int i = 0; i < 8; i++)
		key[i] = (char) ((uint64_t) value >> (56 - 8 * i));
}

int64_t
lk_bigint_value(const char key[8])
{
	uint64_t	value = 0;

	for (int i = 0; i < 8; i++)
		value = value << 8 | (uint8_t) key[i];
	return (int64_t) value;
}

static uint64_t
mix(uint64_t z)
{
	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

/* In the log for good: never to be changed. */
static uint64_t
hash_key(uint64_t seed, uint8_t key_type, const char *key, size_t len)
{
	uint64_t	h = mix(seed ^ ((uint64_t) key_type << 56 | len));

	while (len > 0)
	{
		uint64_t	word = 0;
		size_t		n = len < 8 ? len : 8;

		for (size_t i = 0; i < n; i++)
			word |= (uint64_t) (uint8_t) key[i] << (8 * i);
		h = mix((h ^ word) + UINT64_C(0x9e3779b97f4a7c15));
		key += n;
		len -= n;
	}
	return mix(h);
}

void
lk_fence_keys(uint8_t key_type, const char *key, size_t len, uint64_t *a, uint64_t *b)
{
	*a = hash_key(UINT64_C(0x6c6f636b2d41), key_type, key, len);
	*b = hash_key(UINT64_C(0x6c6f636b2d42), key_type, key, len);
}

bool
lk_is_lock(const void *data, size_t len)
{
	return len >= WS_HEADER_SIZE && ((const uint8_t *) data)[1] == WS_KIND_LOCK;
}

uint8_t
lk_op(const void *data, size_t len)
{
	const uint8_t *p = data;
	uint32_t	nkeys;

	if (!lk_is_lock(data, len))
		return 0;
	nkeys = (uint32_t) p[4] | (uint32_t) p[5] << 8 | (uint32_t) p[6] << 16 | (uint32_t) p[7] << 24;
	if (nkeys >= (len - WS_HEADER_SIZE) / WS_KEY_SIZE + 1 ||
		len <= WS_HEADER_SIZE + (size_t) nkeys * WS_KEY_SIZE)
		return 0;
	return p[WS_HEADER_SIZE + (size_t) nkeys * WS_KEY_SIZE];
}

/* ---------- writing ---------- */

typedef struct Writer
{
	uint8_t    *at;
	uint8_t    *end;
	bool		bad;
} Writer;

static void
put(Writer *w, const void *data, size_t len)
{
	if (w->bad || (size_t) (w->end - w->at) < len)
	{
		w->bad = true;
		return;
	}
	if (len > 0)
		memcpy(w->at, data, len);
	w->at += len;
}

static void
put_int(Writer *w, uint64_t value, size_t bytes)
{
	uint8_t		out[8];

	for (size_t i = 0; i < bytes; i++)
		out[i] = (uint8_t) (value >> (8 * i));
	put(w, out, bytes);
}

static void
put_string(Writer *w, const char *data, size_t len)
{
	put_int(w, len, 2);
	put(w, data, len);
}

static bool
valid_mode(const LkItem *item)
{
	switch (item->mode)
	{
		case LK_EXCLUSIVE:
		case LK_SHARED:
			return item->weight == 0 && item->limit == 0;
		case LK_PERMIT:
			return item->weight > 0 && item->limit > 0;
		default:
			return false;
	}
}

static bool
valid_key(uint8_t key_type, size_t len)
{
	if (key_type == 0 || key_type > LK_KEY_TYPE_MAX)
		return false;
	if (key_type == LK_KEY_BIGINT)
		return len == 8;
	return len > 0 && len <= LK_MAX_KEY_LEN;
}

static int
compare_u64(const void *a, const void *b)
{
	uint64_t	x = *(const uint64_t *) a;
	uint64_t	y = *(const uint64_t *) b;

	return x < y ? -1 : x > y;
}

static void
put_header(Writer *w, uint32_t nkeys)
{
	put_int(w, WS_VERSION, 1);
	put_int(w, WS_KIND_LOCK, 1);
	put_int(w, 0, 2);
	put_int(w, nkeys, 4);
	put_int(w, 1, 4);
	put_int(w, 0, 4);
	put_int(w, 0, 8);
}

/* Header and fence keys. */
static void
put_keys(Writer *w, const LkRecord *rec, const LkItem *items)
{
	uint64_t   *keys;
	uint32_t	n = 0;
	uint32_t	distinct = 0;

	if (rec->op != LK_OP_GRANT || (rec->flags & LK_AGAIN))
	{
		put_header(w, 0);
		return;
	}
	keys = malloc(2 * LK_MAX_ITEMS * sizeof(uint64_t));
	if (keys == NULL)
	{
		w->bad = true;
		return;
	}
	for (uint32_t i = 0; i < rec->nitems; i++)
	{
		uint64_t	a,
					b;

		lk_fence_keys(items[i].key_type, items[i].key, items[i].len, &a, &b);
		if (items[i].mode == LK_EXCLUSIVE)
			keys[n++] = a;
		keys[n++] = b;
	}
	qsort(keys, n, sizeof(uint64_t), compare_u64);
	for (uint32_t i = 0; i < n; i++)
		if (i == 0 || keys[i] != keys[i - 1])
			keys[distinct++] = keys[i];
	put_header(w, distinct);
	for (uint32_t i = 0; i < distinct; i++)
	{
		put_int(w, keys[i], 8);
		put_int(w, 1, 4);		/* base 0, exclusive */
	}
	free(keys);
}

static void
put_owner(Writer *w, const LkOwner *owner)
{
	put_int(w, owner->kind, 1);
	put_int(w, owner->node, 4);
	put_int(w, owner->boot, 4);
	put_int(w, owner->session, 8);
	put(w, owner->lease, LK_UUID_LEN);
	put_int(w, owner->pid, 4);
	put_int(w, 0, 1);
}

static void
put_grant(Writer *w, const LkRecord *rec, const LkItem *items)
{
	put_owner(w, &rec->owner);
	put_int(w, rec->flags, 1);
	put_int(w, rec->deadlock_ms, 4);
	put_int(w, rec->max_hold_ms, 4);
	put_int(w, rec->delay_ms, 4);
	put_int(w, rec->lease_ms, 4);
	put_int(w, rec->nitems, 2);
	for (uint32_t i = 0; i < rec->nitems; i++)
	{
		if (!valid_mode(&items[i]))
			w->bad = true;
		put_int(w, items[i].key_type, 1);
		put_int(w, items[i].mode, 1);
		put_int(w, items[i].weight, 4);
		put_int(w, items[i].limit, 4);
		put_string(w, items[i].key, items[i].len);
	}
}

static void
put_releases(Writer *w, const LkRecord *rec, const LkItem *items)
{
	put_int(w, rec->reason, 1);
	put_int(w, rec->nitems, 2);
	for (uint32_t i = 0; i < rec->nitems; i++)
	{
		put_int(w, items[i].key_type, 1);
		put_int(w, items[i].whole, 1);
		put_int(w, items[i].token, 8);
		put_string(w, items[i].key, items[i].len);
	}
}

static void
put_delays(Writer *w, const LkRecord *rec, const LkItem *delays)
{
	put_int(w, rec->ndelays, 2);
	for (uint32_t i = 0; i < rec->ndelays; i++)
	{
		put_int(w, delays[i].key_type, 1);
		put_int(w, delays[i].delay_ms, 4);
		put_string(w, delays[i].key, delays[i].len);
	}
}

static bool
has_items(uint8_t op)
{
	return op == LK_OP_GRANT || op == LK_OP_RELEASE || op == LK_OP_EXPIRE_HOLD;
}

static bool
has_delays(uint8_t op)
{
	return op == LK_OP_RELEASE_NODE || op == LK_OP_EXPIRE_NODE || op == LK_OP_EXPIRE_HOLD ||
		op == LK_OP_LEASE_EXPIRE || op == LK_OP_BREAK;
}

static bool
in_bounds(const LkRecord *rec, const LkItem *items)
{
	if (has_items(rec->op) ? rec->nitems == 0 || rec->nitems > LK_MAX_ITEMS : rec->nitems != 0)
		return false;
	if (has_delays(rec->op) ? rec->ndelays > LK_MAX_ITEMS : rec->ndelays != 0)
		return false;
	for (uint32_t i = 0; i < (uint32_t) rec->nitems + rec->ndelays; i++)
		if (!valid_key(items[i].key_type, items[i].len))
			return false;
	if (rec->op == LK_OP_GRANT &&
		((rec->flags & ~LK_FLAGS) != 0 ||
		 (rec->owner.kind != LK_OWNER_SESSION && rec->owner.kind != LK_OWNER_LEASE)))
		return false;
	if (rec->op == LK_OP_BREAK &&
		(!valid_key(rec->broken.key_type, rec->broken.len) ||
		 rec->role_len > LK_MAX_TEXT_LEN || rec->text_len > LK_MAX_TEXT_LEN))
		return false;
	if (rec->op == LK_OP_LEASE_OPEN && (rec->name_len >= LK_MAX_NAME_LEN || rec->ttl_ms == 0))
		return false;
	return true;
}

size_t
lk_write_bound(const LkRecord *rec, const LkItem *items)
{
	size_t		size = WS_HEADER_SIZE + 128;

	for (uint32_t i = 0; i < (uint32_t) rec->nitems + rec->ndelays; i++)
		size += 2 * WS_KEY_SIZE + ITEM_BYTES + items[i].len;
	if (rec->op == LK_OP_LEASE_OPEN)
		size += rec->name_len;
	if (rec->op == LK_OP_BREAK)
		size += (size_t) rec->broken.len + rec->role_len + rec->text_len;
	return size;
}

size_t
lk_write(void *buf, size_t size, const LkRecord *rec, const LkItem *items)
{
	Writer		w = {buf, (uint8_t *) buf + size, false};

	if (!in_bounds(rec, items))
		return 0;
	put_keys(&w, rec, items);
	put_int(&w, rec->op, 1);
	switch ((LkOp) rec->op)
	{
		case LK_OP_GRANT:
			put_grant(&w, rec, items);
			break;
		case LK_OP_RELEASE:
		case LK_OP_EXPIRE_HOLD:
			put_releases(&w, rec, items);
			break;
		case LK_OP_RELEASE_SESSION:
			put_int(&w, rec->node, 4);
			put_int(&w, rec->boot, 4);
			put_int(&w, rec->session, 8);
			put_int(&w, rec->last_token, 8);
			break;
		case LK_OP_RELEASE_NODE:
		case LK_OP_EXPIRE_NODE:
			put_int(&w, rec->node, 4);
			put_int(&w, rec->boot, 4);
			break;
		case LK_OP_LEASE_OPEN:
			put(&w, rec->lease, LK_UUID_LEN);
			put_int(&w, rec->ttl_ms, 4);
			put_int(&w, rec->node, 4);
			put_int(&w, rec->boot, 4);
			put_int(&w, rec->pid, 4);
			put_string(&w, rec->name, rec->name_len);
			break;
		case LK_OP_LEASE_CLOSE:
		case LK_OP_LEASE_EXPIRE:
			put(&w, rec->lease, LK_UUID_LEN);
			break;
		case LK_OP_BREAK:
			put_int(&w, rec->broken.key_type, 1);
			put_string(&w, rec->broken.key, rec->broken.len);
			put_string(&w, rec->role, rec->role_len);
			put_string(&w, rec->text, rec->text_len);
			break;
		default:
			return 0;
	}
	if (has_delays(rec->op))
		put_delays(&w, rec, items + rec->nitems);
	return w.bad ? 0 : (size_t) (w.at - (uint8_t *) buf);
}

/* ---------- reading ---------- */

static bool
get_int(LkReader *rd, size_t bytes, uint64_t *value)
{
	if (rd->len - rd->pos < bytes)
		return FAIL(rd, "lock entry ends too early");
	*value = 0;
	for (size_t i = 0; i < bytes; i++)
		*value |= (uint64_t) rd->data[rd->pos + i] << (8 * i);
	rd->pos += bytes;
	return true;
}

static bool
get_u8(LkReader *rd, uint8_t *value)
{
	uint64_t	v;

	if (!get_int(rd, 1, &v))
		return false;
	*value = (uint8_t) v;
	return true;
}

static bool
get_u16(LkReader *rd, uint16_t *value)
{
	uint64_t	v;

	if (!get_int(rd, 2, &v))
		return false;
	*value = (uint16_t) v;
	return true;
}

static bool
get_u32(LkReader *rd, uint32_t *value)
{
	uint64_t	v;

	if (!get_int(rd, 4, &v))
		return false;
	*value = (uint32_t) v;
	return true;
}

static bool
get_flag(LkReader *rd, bool *value)
{
	uint8_t		v;

	if (!get_u8(rd, &v))
		return false;
	if (v > 1)
		return FAIL(rd, "lock entry has a flag that is neither 0 nor 1");
	*value = v != 0;
	return true;
}

static bool
get_bytes(LkReader *rd, void *out, size_t len)
{
	if (rd->len - rd->pos < len)
		return FAIL(rd, "lock entry ends too early");
	memcpy(out, rd->data + rd->pos, len);
	rd->pos += len;
	return true;
}

static bool
get_string(LkReader *rd, const char **data, uint16_t *len, size_t max)
{
	if (!get_u16(rd, len))
		return false;
	if (*len > max)
		return FAIL(rd, "lock entry has a string that is too long");
	if (rd->len - rd->pos < *len)
		return FAIL(rd, "lock entry has a string that reaches past its end");
	*data = (const char *) rd->data + rd->pos;
	rd->pos += *len;
	return true;
}

static bool
get_key(LkReader *rd, LkItem *item)
{
	if (!get_string(rd, &item->key, &item->len, LK_MAX_KEY_LEN))
		return false;
	if (!valid_key(item->key_type, item->len))
		return FAIL(rd, "lock entry has a key that cannot be");
	return true;
}

static bool
get_owner(LkReader *rd, LkOwner *owner)
{
	uint8_t		zero;

	if (!get_u8(rd, &owner->kind) || !get_u32(rd, &owner->node) ||
		!get_u32(rd, &owner->boot) || !get_int(rd, 8, &owner->session) ||
		!get_bytes(rd, owner->lease, LK_UUID_LEN) || !get_u32(rd, &owner->pid) ||
		!get_u8(rd, &zero))
		return false;
	if ((owner->kind != LK_OWNER_SESSION && owner->kind != LK_OWNER_LEASE) || zero != 0)
		return FAIL(rd, "lock entry has an owner of an unknown kind");
	return true;
}

static bool
get_item(LkReader *rd, LkItem *item)
{
	memset(item, 0, sizeof(*item));
	if (!get_u8(rd, &item->key_type))
		return false;
	if (rd->rec.op != LK_OP_GRANT)
		return get_flag(rd, &item->whole) && get_int(rd, 8, &item->token) && get_key(rd, item);
	if (!get_u8(rd, &item->mode) || !get_u32(rd, &item->weight) ||
		!get_u32(rd, &item->limit) || !get_key(rd, item))
		return false;
	if (!valid_mode(item))
		return FAIL(rd, "lock entry has a mode that cannot be");
	return true;
}

static bool
get_delay(LkReader *rd, LkItem *item)
{
	memset(item, 0, sizeof(*item));
	return get_u8(rd, &item->key_type) && get_u32(rd, &item->delay_ms) && get_key(rd, item);
}

static bool
get_grant(LkReader *rd)
{
	LkRecord   *rec = &rd->rec;

	if (!get_owner(rd, &rec->owner) || !get_u8(rd, &rec->flags) ||
		!get_u32(rd, &rec->deadlock_ms) || !get_u32(rd, &rec->max_hold_ms) ||
		!get_u32(rd, &rec->delay_ms) || !get_u32(rd, &rec->lease_ms))
		return false;
	if ((rec->flags & ~LK_FLAGS) != 0)
		return FAIL(rd, "lock entry has unknown flags");
	return true;
}

static bool
get_release_reason(LkReader *rd)
{
	if (!get_u8(rd, &rd->rec.reason))
		return false;
	if (rd->rec.reason < LK_RELEASED || rd->rec.reason > LK_BROKEN)
		return FAIL(rd, "lock entry has an unknown reason");
	return true;
}

/* What comes before the items. */
static bool
get_fixed_part(LkReader *rd)
{
	LkRecord   *rec = &rd->rec;

	switch ((LkOp) rec->op)
	{
		case LK_OP_GRANT:
			return get_grant(rd);
		case LK_OP_RELEASE:
			return get_release_reason(rd);
		case LK_OP_EXPIRE_HOLD:
			return get_release_reason(rd);
		case LK_OP_RELEASE_SESSION:
			rec->reason = LK_SESSION_ENDED;
			return get_u32(rd, &rec->node) && get_u32(rd, &rec->boot) &&
				get_int(rd, 8, &rec->session) && get_int(rd, 8, &rec->last_token);
		case LK_OP_RELEASE_NODE:
			rec->reason = LK_NODE_RESTARTED;
			return get_u32(rd, &rec->node) && get_u32(rd, &rec->boot);
		case LK_OP_EXPIRE_NODE:
			rec->reason = LK_NODE_EXPIRED;
			return get_u32(rd, &rec->node) && get_u32(rd, &rec->boot);
		case LK_OP_LEASE_OPEN:
			if (!get_bytes(rd, rec->lease, LK_UUID_LEN) || !get_u32(rd, &rec->ttl_ms) ||
				!get_u32(rd, &rec->node) || !get_u32(rd, &rec->boot) ||
				!get_u32(rd, &rec->pid) ||
				!get_string(rd, &rec->name, &rec->name_len, LK_MAX_NAME_LEN - 1))
				return false;
			return rec->ttl_ms > 0 || FAIL(rd, "lock entry has a lease without time to live");
		case LK_OP_LEASE_CLOSE:
			rec->reason = LK_LEASE_CLOSED;
			return get_bytes(rd, rec->lease, LK_UUID_LEN);
		case LK_OP_LEASE_EXPIRE:
			rec->reason = LK_LEASE_EXPIRED;
			return get_bytes(rd, rec->lease, LK_UUID_LEN);
		case LK_OP_BREAK:
			rec->reason = LK_BROKEN;
			return get_u8(rd, &rec->broken.key_type) && get_key(rd, &rec->broken) &&
				get_string(rd, &rec->role, &rec->role_len, LK_MAX_TEXT_LEN) &&
				get_string(rd, &rec->text, &rec->text_len, LK_MAX_TEXT_LEN);
	}
	return FAIL(rd, "lock entry has an unknown operation");
}

bool
lk_read_open(LkReader *rd, const void *data, size_t len)
{
	WsReader	ws;
	LkItem		item;
	size_t		items_pos;

	memset(rd, 0, sizeof(*rd));
	rd->data = data;
	rd->len = len;
	if (!ws_read_open(&ws, data, len))
		return FAIL(rd, ws.error);
	if (ws.kind != WS_KIND_LOCK || ws.nrecords != 1)
		return FAIL(rd, "entry is no lock entry");
	rd->pos = ws.pos;
	if (!get_u8(rd, &rd->rec.op) || !get_fixed_part(rd))
		return false;
	if (has_items(rd->rec.op))
	{
		if (!get_u16(rd, &rd->rec.nitems))
			return false;
		if (rd->rec.nitems == 0 || rd->rec.nitems > LK_MAX_ITEMS)
			return FAIL(rd, "lock entry has no keys, or too many");
	}
	items_pos = rd->pos;
	for (uint32_t i = 0; i < rd->rec.nitems; i++)
		if (!get_item(rd, &item))
			return false;
	if (has_delays(rd->rec.op))
	{
		if (!get_u16(rd, &rd->rec.ndelays))
			return false;
		if (rd->rec.ndelays > LK_MAX_ITEMS)
			return FAIL(rd, "lock entry has too many delays");
		for (uint32_t i = 0; i < rd->rec.ndelays; i++)
			if (!get_delay(rd, &item))
				return false;
	}
	if (rd->pos != len)
		return FAIL(rd, "lock entry has bytes after its end");
	rd->pos = items_pos;
	return true;
}

bool
lk_read_item(LkReader *rd, LkItem *item)
{
	if (rd->error != NULL || rd->items_read == rd->rec.nitems || !get_item(rd, item))
		return false;
	rd->items_read++;
	return true;
}

bool
lk_read_delay(LkReader *rd, LkItem *item)
{
	if (rd->error != NULL || rd->items_read != rd->rec.nitems ||
		rd->delays_read == rd->rec.ndelays)
		return false;
	if (rd->delays_read == 0)
		rd->pos += 2;			/* their number, read before */
	if (!get_delay(rd, item))
		return false;
	rd->delays_read++;
	return true;
}
