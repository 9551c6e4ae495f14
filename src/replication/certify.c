/*-------------------------------------------------------------------------
 *
 * certify.c
 *		The certification map (certify.h).
 *
 * Keys live in two hash tables, the current generation and the one before.
 * Entries are added to the current one only; when it has its share of keys, the
 * older one is dropped, the current one becomes the older, and the floor rises
 * to what the older one covers. So no key is ever moved or deleted by itself,
 * and a look-up is at most two probes. Open addressing with linear probing; a
 * slot is empty when both of its indexes are zero, so that every 64-bit key may
 * be stored. What one entry needs is fetched ahead: a large map is out of the
 * caches, and the misses of one entry's keys then overlap.
 *
 * An entry that cannot be taken in (malformed, of a newer version, or with more
 * keys than a generation holds) is treated as one that used every key there is:
 * the map is emptied and the floor is that entry.
 *
 * In pieces (certify.h): the generation and the room for an entry's keys are
 * settled when its first key is noted, and no other entry's keys come between.
 * What a cut entry had noted is handled as that of any other one.
 *
 * Memory that cannot be had is handled in the same way, so that the worst that
 * ever comes of it is a refused transaction.
 *
 *-------------------------------------------------------------------------
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "replication/certify.h"
#include "replication/writeset.h"

#define PREFETCH_AHEAD	12
#define MIN_KEYS		64
#define MIN_TOKENS		16

typedef struct Slot
{
	uint64_t	key;
	uint64_t	exclusive;		/* last index that used it so, or 0 */
	uint64_t	shared;
} Slot;

typedef struct Generation
{
	Slot	   *slots;			/* NULL: empty */
	uint32_t	count;
	uint64_t	first;			/* covers the entries from here on */
	uint64_t	highest;		/* no index in it is above this */
} Generation;

/* An entry whose keys are not all noted. */
typedef struct Backlog
{
	struct Backlog *next;
	uint64_t	index;
	RaftBuf    *payload;
	WsReader	rd;
	uint32_t	noted;			/* keys */
} Backlog;

/* A check that goes on in the next turn. */
typedef struct Check
{
	const void *payload;		/* NULL: none */
	size_t		len;
	RaftToken	token;
	uint64_t	version;		/* of the map when it began */
	uint32_t	checked;		/* keys */
	WsReader	rd;
} Check;

typedef struct TokenSlot
{
	uint64_t	index;
	RaftToken	token;
} TokenSlot;

struct CertMap
{
	uint32_t	share;			/* keys of one generation */
	uint32_t	mask;			/* slots of one generation - 1 */
	uint32_t	shift;
	Generation	current;
	Generation	older;
	uint64_t	floor;			/* bases below cannot be judged */
	uint64_t	version;		/* whatever a verdict may rest on changes it */
	uint32_t	budget;			/* keys that this turn may still look at */
	Backlog    *backlog;		/* in log order */
	Backlog   **backlog_tail;
	Check		check;

	/* tokens: a ring in log order, and where in it each one stands */
	TokenSlot  *ring;
	uint32_t	ring_size;
	uint32_t	ring_start;
	uint32_t	ring_count;
	uint32_t   *where;			/* ring place + 1, 0 empty */
	uint32_t	where_mask;
	uint64_t	token_floor;
};

static uint32_t
power_of_two(uint32_t n)
{
	uint32_t	p = 1;

	while (p < n)
		p <<= 1;
	return p;
}

/* ---------- life ---------- */

CertMap *
cert_create(uint32_t max_keys, uint32_t max_tokens)
{
	CertMap    *map = calloc(1, sizeof(CertMap));
	uint32_t	slots;

	if (map == NULL)
		return NULL;
	if (max_keys < MIN_KEYS)
		max_keys = MIN_KEYS;
	if (max_keys > UINT32_MAX / 4)
		max_keys = UINT32_MAX / 4;
	if (max_tokens < MIN_TOKENS)
		max_tokens = MIN_TOKENS;
	if (max_tokens > UINT32_MAX / 4)
		max_tokens = UINT32_MAX / 4;

	map->backlog_tail = &map->backlog;
	map->budget = UINT32_MAX;
	map->share = max_keys / 2;
	slots = power_of_two(map->share + map->share / 2);
	map->mask = slots - 1;
	map->shift = 64 - (uint32_t) __builtin_ctz(slots);
	map->current.first = 1;
	map->older.first = 1;
	map->token_floor = 1;

	map->ring_size = max_tokens;
	map->where_mask = power_of_two(2 * max_tokens) - 1;
	map->ring = malloc((size_t) map->ring_size * sizeof(TokenSlot));
	map->where = calloc((size_t) map->where_mask + 1, sizeof(uint32_t));
	if (map->ring == NULL || map->where == NULL)
	{
		cert_free(map);
		return NULL;
	}
	return map;
}

/* Entries from `from` on. */
static void
drop_backlog(CertMap *map, uint64_t from)
{
	Backlog   **at = &map->backlog;
	Backlog    *item;

	while (*at != NULL && (*at)->index < from)
		at = &(*at)->next;
	map->backlog_tail = at;
	item = *at;
	*at = NULL;
	while (item != NULL)
	{
		Backlog    *next = item->next;

		raft_buf_unref(item->payload);
		free(item);
		item = next;
	}
}

void
cert_free(CertMap *map)
{
	if (map == NULL)
		return;
	drop_backlog(map, 0);
	free(map->current.slots);
	free(map->older.slots);
	free(map->ring);
	free(map->where);
	free(map);
}

/* ---------- keys ---------- */

static inline uint32_t
slot_of(const CertMap *map, uint64_t key)
{
	return (uint32_t) (((key ^ key >> 31) * UINT64_C(0x9e3779b97f4a7c15)) >> map->shift);
}

static inline const Slot *
find_slot(const CertMap *map, const Generation *gen, uint64_t key)
{
	if (gen->slots == NULL)
		return NULL;
	for (uint32_t i = slot_of(map, key);; i = (i + 1) & map->mask)
	{
		const Slot *slot = &gen->slots[i];

		if ((slot->exclusive | slot->shared) == 0)
			return NULL;
		if (slot->key == key)
			return slot;
	}
}

static inline void
note_key(CertMap *map, Generation *gen, WsKey key, uint64_t index)
{
	for (uint32_t i = slot_of(map, key.key);; i = (i + 1) & map->mask)
	{
		Slot	   *slot = &gen->slots[i];

		if ((slot->exclusive | slot->shared) == 0)
		{
			slot->key = key.key;
			gen->count++;
			assert(gen->count <= map->share);
		}
		else if (slot->key != key.key)
			continue;
		if (key.exclusive && slot->exclusive < index)
			slot->exclusive = index;
		if (!key.exclusive && slot->shared < index)
			slot->shared = index;
		return;
	}
}

static inline void
prefetch_key(const CertMap *map, const WsReader *rd, uint32_t i)
{
	uint32_t	slot;

	if (i >= rd->nkeys)
		return;
	slot = slot_of(map, ws_read_key(rd, i).key);
	if (map->current.slots)
		__builtin_prefetch(&map->current.slots[slot]);
	if (map->older.slots)
		__builtin_prefetch(&map->older.slots[slot]);
}

static void
drop_generation(Generation *gen, uint64_t first)
{
	free(gen->slots);
	memset(gen, 0, sizeof(*gen));
	gen->first = first;
}

static void
raise_floor(CertMap *map, uint64_t floor)
{
	if (map->floor < floor)
		map->floor = floor;
}

/* Entry `index` may have used any key. */
static void
forget_all(CertMap *map, uint64_t index)
{
	map->version++;
	drop_generation(&map->older, index + 1);
	drop_generation(&map->current, index + 1);
	raise_floor(map, index);
}

/* The current generation is full; entry `index` is the first of a new one. */
static void
next_generation(CertMap *map, uint64_t index)
{
	free(map->older.slots);
	map->older = map->current;
	raise_floor(map, map->older.first - 1);
	memset(&map->current, 0, sizeof(map->current));
	map->current.first = index;
}

/* Room for the keys of entry `index`. False: it has too many, or no memory. */
static bool
make_room(CertMap *map, const WsReader *rd, uint64_t index)
{
	if (rd->nkeys > map->share)
		return false;
	if (map->current.count + rd->nkeys > map->share)
		next_generation(map, index);
	if (map->current.slots == NULL)
	{
		map->current.slots = calloc((size_t) map->mask + 1, sizeof(Slot));
		if (map->current.slots == NULL)
			return false;
	}
	if (map->current.highest < index)
		map->current.highest = index;
	return true;
}

/* Keys [from, to) of entry `index`, for which there is room. */
static void
note_keys(CertMap *map, const WsReader *rd, uint32_t from, uint32_t to, uint64_t index)
{
	map->version++;
	for (uint32_t i = from; i < from + PREFETCH_AHEAD; i++)
		prefetch_key(map, rd, i);
	for (uint32_t i = from; i < to; i++)
	{
		prefetch_key(map, rd, i + PREFETCH_AHEAD);
		note_key(map, &map->current, ws_read_key(rd, i), index);
	}
}

static void
note_entry(CertMap *map, const WsReader *rd, uint64_t index)
{
	if (rd->nkeys == 0)
		return;
	if (make_room(map, rd, index))
		note_keys(map, rd, 0, rd->nkeys, index);
	else
		forget_all(map, index);
}

/* Part of the budget, and how much it is. */
static uint32_t
spend(CertMap *map, uint32_t wanted)
{
	uint32_t	granted = wanted < map->budget ? wanted : map->budget;

	map->budget -= granted;
	return granted;
}

static void
work_off_backlog(CertMap *map)
{
	Backlog    *item;

	while ((item = map->backlog) != NULL && map->budget > 0)
	{
		uint32_t	n;

		if (item->noted == 0 && !make_room(map, &item->rd, item->index))
		{
			forget_all(map, item->index);
			item->noted = item->rd.nkeys;
		}
		n = spend(map, item->rd.nkeys - item->noted);
		note_keys(map, &item->rd, item->noted, item->noted + n, item->index);
		item->noted += n;
		if (item->noted < item->rd.nkeys)
			return;
		map->backlog = item->next;
		if (map->backlog == NULL)
			map->backlog_tail = &map->backlog;
		raft_buf_unref(item->payload);
		free(item);
	}
}

/* Everything that is late, now. */
static void
catch_up(CertMap *map)
{
	uint32_t	budget = map->budget;

	map->budget = UINT32_MAX;
	while (map->backlog != NULL)
	{
		work_off_backlog(map);
		map->budget = UINT32_MAX;
	}
	map->budget = budget;
}

bool
cert_begin_turn(CertMap *map, uint32_t keys)
{
	map->budget = keys;
	work_off_backlog(map);
	return map->backlog != NULL;
}

/* The last use of this key that stands in its way, or 0. */
static inline uint64_t
later_use(const Slot *slot, WsKey key)
{
	uint64_t	last;

	if (slot == NULL)
		return 0;
	last = slot->exclusive;
	if (key.exclusive && slot->shared > last)
		last = slot->shared;
	return last > key.base ? last : 0;
}

/* Keys [from, to) against the map. False: *conflict says why. */
static bool
check_keys(const CertMap *map, const WsReader *rd, uint32_t from, uint32_t to,
		   CertConflict *conflict)
{
	for (uint32_t i = from; i < from + PREFETCH_AHEAD; i++)
		prefetch_key(map, rd, i);
	for (uint32_t i = from; i < to; i++)
	{
		WsKey		key = ws_read_key(rd, i);
		uint64_t	newer;
		uint64_t	old;

		prefetch_key(map, rd, i + PREFETCH_AHEAD);
		if (key.base < map->floor)
		{
			conflict->index = map->floor;
			conflict->reason = "the transaction began too long ago to be checked";
			return false;
		}
		newer = later_use(find_slot(map, &map->current, key.key), key);
		old = later_use(find_slot(map, &map->older, key.key), key);
		if (newer != 0 || old != 0)
		{
			conflict->key = key.key;
			conflict->index = newer > old ? newer : old;
			conflict->reason = "a row or table was changed by a transaction that committed first";
			return false;
		}
	}
	return true;
}

CertVerdict
cert_check_some(CertMap *map, RaftToken token, const void *payload, size_t len,
				CertConflict *conflict)
{
	Check	   *check = &map->check;
	uint32_t	upto;

	memset(conflict, 0, sizeof(*conflict));
	if (check->payload != payload || check->len != len ||
		!raft_token_equal(check->token, token) || check->version != map->version)
	{
		check->payload = NULL;
		if (!ws_read_open(&check->rd, payload, len))
		{
			conflict->reason = check->rd.error;
			return CERT_REFUSED;
		}
		if (check->rd.kind != WS_KIND_TRANSACTION || check->rd.nkeys == 0)
			return CERT_PASSED; /* the lock state judges the former */
		check->checked = 0;
	}
	if (map->backlog != NULL)
		return CERT_UNFINISHED;
	check->payload = payload;
	check->len = len;
	check->token = token;
	check->version = map->version;
	upto = check->checked + spend(map, check->rd.nkeys - check->checked);
	if (!check_keys(map, &check->rd, check->checked, upto, conflict))
	{
		check->payload = NULL;
		return CERT_REFUSED;
	}
	check->checked = upto;
	if (upto < check->rd.nkeys)
		return CERT_UNFINISHED;
	check->payload = NULL;
	return CERT_PASSED;
}

bool
cert_check(CertMap *map, const void *payload, size_t len, CertConflict *conflict)
{
	uint32_t	budget = map->budget;
	CertVerdict verdict;

	catch_up(map);
	map->check.payload = NULL;
	map->budget = UINT32_MAX;
	verdict = cert_check_some(map, (RaftToken) {0}, payload, len, conflict);
	map->budget = budget;
	assert(verdict != CERT_UNFINISHED);
	return verdict == CERT_PASSED;
}

/* ---------- tokens ---------- */

static inline uint32_t
token_hash(RaftToken token)
{
	uint64_t	h = token.counter * UINT64_C(0x9e3779b97f4a7c15);

	h ^= ((uint64_t) token.node << 32 | token.boot) * UINT64_C(0xc2b2ae3d27d4eb4f);
	h ^= h >> 29;
	h *= UINT64_C(0xbf58476d1ce4e5b9);
	return (uint32_t) (h >> 32);
}

/* Where in `where` this token stands, or the empty place where it would. */
static uint32_t
token_place(const CertMap *map, RaftToken token)
{
	uint32_t	i = token_hash(token) & map->where_mask;

	while (map->where[i] != 0 &&
		   !raft_token_equal(map->ring[map->where[i] - 1].token, token))
		i = (i + 1) & map->where_mask;
	return i;
}

/* Close the gap so that no probe sequence is broken. */
static void
remove_place(CertMap *map, uint32_t hole)
{
	uint32_t	i = hole;

	for (;;)
	{
		uint32_t	home;

		i = (i + 1) & map->where_mask;
		if (map->where[i] == 0)
			break;
		home = token_hash(map->ring[map->where[i] - 1].token) & map->where_mask;
		/* may it move back to the hole without passing its home? */
		if (((i - home) & map->where_mask) >= ((i - hole) & map->where_mask))
		{
			map->where[hole] = map->where[i];
			hole = i;
		}
	}
	map->where[hole] = 0;
}

static void
forget_token(CertMap *map, uint32_t ring_place)
{
	uint32_t	place = token_place(map, map->ring[ring_place].token);

	/* a later entry with the same token may have taken its place */
	if (map->where[place] == ring_place + 1)
		remove_place(map, place);
}

static void
note_token(CertMap *map, uint64_t index, RaftToken token)
{
	uint32_t	ring_place;
	uint32_t	place;

	if (map->ring_count == map->ring_size)
	{
		forget_token(map, map->ring_start);
		map->token_floor = map->ring[map->ring_start].index + 1;
		map->ring_start = (map->ring_start + 1) % map->ring_size;
		map->ring_count--;
	}
	ring_place = (map->ring_start + map->ring_count) % map->ring_size;
	place = token_place(map, token);
	map->ring[ring_place].index = index;
	map->ring[ring_place].token = token;
	map->where[place] = ring_place + 1;
	map->ring_count++;
}

uint64_t
cert_find_token(const CertMap *map, RaftToken token)
{
	uint32_t	ring_place = map->where[token_place(map, token)];

	return ring_place == 0 ? 0 : map->ring[ring_place - 1].index;
}

RaftToken
cert_token_at(const CertMap *map, uint64_t index)
{
	RaftToken	none = {0};
	uint32_t	low = 0;
	uint32_t	high = map->ring_count;

	/* the ring is in log order, with gaps */
	while (low < high)
	{
		uint32_t	middle = low + (high - low) / 2;
		const TokenSlot *slot = &map->ring[(map->ring_start + middle) % map->ring_size];

		if (slot->index == index)
			return slot->token;
		if (slot->index < index)
			low = middle + 1;
		else
			high = middle;
	}
	return none;
}

uint64_t
cert_token_floor(const CertMap *map)
{
	return map->token_floor;
}

/* ---------- the log moves ---------- */

void
cert_appended(CertMap *map, uint64_t index, RaftToken token,
			  const void *payload, size_t len)
{
	WsReader	rd;

	assert(index > 0);
	catch_up(map);
	if (ws_read_open(&rd, payload, len))
		note_entry(map, &rd, index);
	else
		forget_all(map, index);
	note_token(map, index, token);
}

void
cert_appended_some(CertMap *map, uint64_t index, RaftToken token, RaftBuf *payload)
{
	WsReader	rd;
	Backlog    *item;

	if (!ws_read_open(&rd, payload->data, payload->len) ||
		(map->backlog == NULL && rd.nkeys <= map->budget) ||
		(item = malloc(sizeof(Backlog))) == NULL)
	{
		cert_appended(map, index, token, payload->data, payload->len);
		(void) spend(map, rd.nkeys);
		return;
	}
	note_token(map, index, token);
	if (rd.nkeys == 0)
	{
		free(item);
		return;
	}
	item->next = NULL;
	item->index = index;
	item->payload = raft_buf_ref(payload);
	item->rd = rd;
	item->noted = 0;
	*map->backlog_tail = item;
	map->backlog_tail = &item->next;
	work_off_backlog(map);
}

/*
 * What was cut off did not happen. When a key was last used before that is not
 * known any more; that it was before `from` is. To leave the higher index would
 * refuse everybody who uses the key until the log is that long again, which may
 * be never when all of them need it.
 */
static void
clamp_generation(const CertMap *map, Generation *gen, uint64_t from)
{
	if (gen->first > from)
		gen->first = from;
	if (gen->slots == NULL || gen->highest < from)
		return;
	gen->highest = from - 1;
	for (size_t i = 0; i <= map->mask; i++)
	{
		Slot	   *slot = &gen->slots[i];

		if (slot->exclusive >= from)
			slot->exclusive = from - 1;
		if (slot->shared >= from)
			slot->shared = from - 1;
	}
}

void
cert_truncated(CertMap *map, uint64_t from)
{
	map->version++;
	drop_backlog(map, from);
	if (from <= 1)
	{
		/* an index of zero would empty slots in the middle of a probe */
		drop_generation(&map->current, 1);
		drop_generation(&map->older, 1);
		map->floor = 0;
	}
	else
	{
		clamp_generation(map, &map->current, from);
		clamp_generation(map, &map->older, from);
		if (map->floor >= from)
			map->floor = from - 1;
	}
	while (map->ring_count > 0)
	{
		uint32_t	last = (map->ring_start + map->ring_count - 1) % map->ring_size;

		if (map->ring[last].index < from)
			break;
		forget_token(map, last);
		map->ring_count--;
	}
}

void
cert_set_floor(CertMap *map, uint64_t first)
{
	assert(first > 0);
	map->version++;
	raise_floor(map, first - 1);
	if (map->token_floor < first)
		map->token_floor = first;
	if (map->current.first < first)
		map->current.first = first;
}

uint64_t
cert_floor(const CertMap *map)
{
	return map->floor;
}
