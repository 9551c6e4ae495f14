/*-------------------------------------------------------------------------
 *
 * lockstate.c
 *		Grants and leases: what the lock entries of the log do to them, and how
 *		that is undone (lockstate.h).
 *
 * What an entry does depends on grants and leases alone, never on the queue, on
 * time, or on who leads: it is the same on every member. Everything it changes
 * is written into the journal. A grant or lease that is gone lives on there, for
 * as long as it may have to come back.
 *
 *-------------------------------------------------------------------------
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "lock/lockstate_internal.h"

#define MIN_BUCKETS 64

/* ---------- life ---------- */

LkState *
lk_create(void)
{
	LkState    *ls = calloc(1, sizeof(LkState));

	if (ls == NULL)
		return NULL;
	ls->keys = calloc(MIN_BUCKETS, sizeof(LkKey *));
	ls->owners = calloc(MIN_BUCKETS, sizeof(LkOwnerRec *));
	ls->waiter_table = calloc(MIN_BUCKETS, sizeof(LkWaiter *));
	ls->key_mask = ls->owner_mask = ls->waiter_mask = MIN_BUCKETS - 1;
	link_init(&ls->nodes);
	link_init(&ls->leases);
	link_init(&ls->timed);
	link_init(&ls->delayed);
	link_init(&ls->waiters);
	link_init(&ls->waited);
	link_init(&ls->dirty);
	ls->check_us = ls->due_us = INT64_MAX;
	if (ls->keys == NULL || ls->owners == NULL || ls->waiter_table == NULL)
	{
		lk_free(ls);
		return NULL;
	}
	return ls;
}

void
lk_free(LkState *ls)
{
	if (ls == NULL)
		return;
	for (size_t i = ls->undo_start; i < ls->undo_end; i++)
	{
		if (ls->journal[i].kind == UNDO_GONE)
			free(ls->journal[i].grant);
		if (ls->journal[i].kind == UNDO_LEASE_GONE)
			free(ls->journal[i].lease);
	}
	free(ls->journal);
	for each_link_safe(at, following, &ls->waiters)
		free(container(LkWaiter, link, at));
	for each_link_safe(at, following, &ls->leases)
		free(container(LkLease, link, at));
	for each_link_safe(at, following, &ls->nodes)
		free(container(LkNode, link, at));
	for (uint32_t i = 0; ls->owners != NULL && i <= ls->owner_mask; i++)
		while (ls->owners[i] != NULL)
		{
			LkOwnerRec *owner = ls->owners[i];

			ls->owners[i] = owner->chain;
			for each_link_safe(at, following, &owner->grants)
				free(container(LkGrant, by_owner, at));
			free(owner);
		}
	for (uint32_t i = 0; ls->keys != NULL && i <= ls->key_mask; i++)
		while (ls->keys[i] != NULL)
		{
			LkKey	   *key = ls->keys[i];

			ls->keys[i] = key->chain;
			free(key);
		}
	free(ls->keys);
	free(ls->owners);
	free(ls->waiter_table);
	free(ls);
}

/* ---------- keys ---------- */

static uint64_t
mix(uint64_t z)
{
	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

static uint64_t
hash_bytes(uint64_t h, const void *data, size_t len)
{
	const uint8_t *p = data;

	h = mix(h ^ len);
	while (len > 0)
	{
		uint64_t	word = 0;
		size_t		n = len < 8 ? len : 8;

		memcpy(&word, p, n);
		h = mix((h ^ word) + UINT64_C(0x9e3779b97f4a7c15));
		p += n;
		len -= n;
	}
	return h;
}

LkKey *
lks_find_key(const LkState *ls, uint8_t type, const char *key, size_t len)
{
	uint64_t	hash = hash_bytes(type, key, len);
	LkKey	   *k = ls->keys[hash & ls->key_mask];

	while (k != NULL &&
		   (k->hash != hash || k->type != type || k->len != len ||
			memcmp(k->key, key, len) != 0))
		k = k->chain;
	return k;
}

static void
grow_keys(LkState *ls)
{
	uint32_t	mask = 2 * ls->key_mask + 1;
	LkKey	  **bigger = calloc((size_t) mask + 1, sizeof(LkKey *));

	if (bigger == NULL)
		return;					/* longer chains, that is all */
	for (uint32_t i = 0; i <= ls->key_mask; i++)
		while (ls->keys[i] != NULL)
		{
			LkKey	   *k = ls->keys[i];

			ls->keys[i] = k->chain;
			k->chain = bigger[k->hash & mask];
			bigger[k->hash & mask] = k;
		}
	free(ls->keys);
	ls->keys = bigger;
	ls->key_mask = mask;
}

/* With one more reference. NULL: no memory. */
LkKey *
lks_get_key(LkState *ls, uint8_t type, const char *key, size_t len)
{
	LkKey	   *k = lks_find_key(ls, type, key, len);

	if (k == NULL)
	{
		k = calloc(1, sizeof(LkKey) + len);
		if (k == NULL)
			return NULL;
		if (ls->nkeys > ls->key_mask)
			grow_keys(ls);
		k->hash = hash_bytes(type, key, len);
		k->type = type;
		k->len = (uint16_t) len;
		memcpy(k->key, key, len);
		link_init(&k->holders);
		link_init(&k->waits);
		link_init(&k->waited);
		link_init(&k->dirty);
		link_init(&k->delayed);
		k->chain = ls->keys[k->hash & ls->key_mask];
		ls->keys[k->hash & ls->key_mask] = k;
		ls->nkeys++;
	}
	k->refs++;
	return k;
}

void
lks_key_unref(LkState *ls, LkKey *key)
{
	LkKey	  **at = &ls->keys[key->hash & ls->key_mask];

	assert(key->refs > 0);
	if (--key->refs > 0)
		return;
	assert(link_alone(&key->holders) && link_alone(&key->waits) && link_alone(&key->delayed));
	link_remove(&key->dirty);
	link_remove(&key->waited);
	while (*at != key)
		at = &(*at)->chain;
	*at = key->chain;
	free(key);
	ls->nkeys--;
}

/* ---------- owners and nodes ---------- */

static uint64_t
owner_hash(const LkOwner *id)
{
	if (id->kind == LK_OWNER_LEASE)
		return hash_bytes(1, id->lease, LK_UUID_LEN);
	return mix(id->session ^ mix((uint64_t) id->node << 32 | id->boot));
}

LkOwnerRec *
lks_find_owner(const LkState *ls, const LkOwner *id)
{
	LkOwnerRec *owner = ls->owners[owner_hash(id) & ls->owner_mask];

	while (owner != NULL && !lk_owner_equal(&owner->id, id))
		owner = owner->chain;
	return owner;
}

static void
grow_owners(LkState *ls)
{
	uint32_t	mask = 2 * ls->owner_mask + 1;
	LkOwnerRec **bigger = calloc((size_t) mask + 1, sizeof(LkOwnerRec *));

	if (bigger == NULL)
		return;
	for (uint32_t i = 0; i <= ls->owner_mask; i++)
		while (ls->owners[i] != NULL)
		{
			LkOwnerRec *owner = ls->owners[i];
			uint64_t	hash = owner_hash(&owner->id);

			ls->owners[i] = owner->chain;
			owner->chain = bigger[hash & mask];
			bigger[hash & mask] = owner;
		}
	free(ls->owners);
	ls->owners = bigger;
	ls->owner_mask = mask;
}

/* With one more reference. NULL: no memory. */
LkOwnerRec *
lks_get_owner(LkState *ls, const LkOwner *id)
{
	LkOwnerRec *owner = lks_find_owner(ls, id);

	if (owner == NULL)
	{
		uint64_t	hash = owner_hash(id);

		owner = calloc(1, sizeof(LkOwnerRec));
		if (owner == NULL)
			return NULL;
		if (ls->nowners > ls->owner_mask)
			grow_owners(ls);
		owner->id = *id;
		link_init(&owner->by_node);
		link_init(&owner->grants);
		link_init(&owner->waiters);
		link_init(&owner->asking);
		owner->chain = ls->owners[hash & ls->owner_mask];
		ls->owners[hash & ls->owner_mask] = owner;
		ls->nowners++;
	}
	owner->refs++;
	return owner;
}

void
lks_owner_unref(LkState *ls, LkOwnerRec *owner)
{
	LkOwnerRec **at = &ls->owners[owner_hash(&owner->id) & ls->owner_mask];

	assert(owner->refs > 0);
	if (--owner->refs > 0)
		return;
	assert(link_alone(&owner->grants) && link_alone(&owner->waiters) &&
		   link_alone(&owner->asking) && owner->lease == NULL && owner->node == NULL);
	while (*at != owner)
		at = &(*at)->chain;
	*at = owner->chain;
	free(owner);
	ls->nowners--;
}

static LkNode *
get_node(LkState *ls, uint32_t node, uint32_t boot, int64_t now_us)
{
	LkNode	   *n;

	for each_link(at, &ls->nodes)
	{
		n = container(LkNode, link, at);
		if (n->node == node && n->boot == boot)
			return n;
	}
	n = calloc(1, sizeof(LkNode));
	if (n == NULL)
		return NULL;
	n->node = node;
	n->boot = boot;
	n->renewed_us = now_us;		/* its first lock: the lease begins */
	n->least_lease_ms = UINT32_MAX;
	link_init(&n->owners);
	link_before(&ls->nodes, &n->link);
	return n;
}

/* ---------- grants in their lists ---------- */

static bool
link_grant(LkState *ls, LkGrant *g, int64_t now_us)
{
	LkOwnerRec *owner = g->owner;

	if (owner->id.kind == LK_OWNER_SESSION)
	{
		LkNode	   *n = owner->node;

		if (n == NULL)
		{
			n = get_node(ls, owner->id.node, owner->id.boot, now_us);
			if (n == NULL)
				return false;
			owner->node = n;
			link_before(&n->owners, &owner->by_node);
		}
		n->grants++;
		if (n->lease_ms < g->info.lease_ms)
			n->lease_ms = g->info.lease_ms;
		if (n->least_lease_ms > g->info.lease_ms)
			n->least_lease_ms = g->info.lease_ms;
		lks_due_at(ls, n->renewed_us + (int64_t) n->lease_ms * 1000);
	}
	owner->ngrants++;
	ls->ngrants++;
	link_before(&g->key->holders, &g->by_key);
	link_before(&owner->grants, &g->by_owner);
	if (g->info.max_hold_ms > 0)
	{
		link_before(&ls->timed, &g->timed);
		lks_due_at(ls, g->seen_us + (int64_t) g->info.max_hold_ms * 1000);
	}
	return true;
}

static void
unlink_grant(LkState *ls, LkGrant *g)
{
	LkOwnerRec *owner = g->owner;

	link_remove(&g->by_key);
	link_remove(&g->by_owner);
	link_remove(&g->timed);
	owner->ngrants--;
	ls->ngrants--;
	if (owner->node != NULL)
	{
		LkNode	   *n = owner->node;

		n->grants--;
		if (owner->ngrants == 0)
		{
			link_remove(&owner->by_node);
			owner->node = NULL;
		}
		if (n->grants == 0)
		{
			link_remove(&n->link);
			free(n);
		}
	}
	lks_mark_dirty(ls, g->key);
}

/* The references to key and owner, too. It is in no list. */
static void
free_grant(LkState *ls, LkGrant *g)
{
	lks_key_unref(ls, g->key);
	lks_owner_unref(ls, g->owner);
	free(g);
}

static void
free_lease(LkState *ls, LkLease *lease)
{
	lks_owner_unref(ls, lease->owner);
	free(lease);
}

void
lks_fill(const LkGrant *g, LkGrantInfo *info)
{
	*info = g->info;
	info->key_type = g->key->type;
	info->key = g->key->key;
	info->len = g->key->len;
}

bool
lks_add_grant(LkState *ls, const LkGrantInfo *info, int64_t now_us, LkGrant **added)
{
	LkGrant    *g = calloc(1, sizeof(LkGrant));

	if (g == NULL)
		return false;
	g->info = *info;
	g->info.key = NULL;
	g->seen_us = now_us;
	link_init(&g->by_key);
	link_init(&g->by_owner);
	link_init(&g->timed);
	g->key = lks_get_key(ls, info->key_type, info->key, info->len);
	g->owner = lks_get_owner(ls, &info->owner);
	if (g->key == NULL || g->owner == NULL || !link_grant(ls, g, now_us))
		return false;			/* the state is given up */
	if (added != NULL)
		*added = g;
	return true;
}

bool
lks_add_lease(LkState *ls, const LkLeaseInfo *info, int64_t now_us, LkLease **added)
{
	LkLease    *lease = calloc(1, sizeof(LkLease));
	LkOwner		id;

	if (lease == NULL)
		return false;
	memset(&id, 0, sizeof(id));
	id.kind = LK_OWNER_LEASE;
	memcpy(id.lease, info->id, LK_UUID_LEN);
	lease->info = *info;
	lease->renewed_us = now_us;
	lease->owner = lks_get_owner(ls, &id);
	if (lease->owner == NULL)
		return false;
	lease->owner->lease = lease;
	link_before(&ls->leases, &lease->link);
	ls->nleases++;
	lks_due_at(ls, now_us + (int64_t) info->ttl_ms * 1000);
	if (added != NULL)
		*added = lease;
	return true;
}

static void
unlink_lease(LkState *ls, LkLease *lease)
{
	link_remove(&lease->link);
	lease->owner->lease = NULL;
	ls->nleases--;
}

LkGrant *
lks_find_grant(const LkKey *key, uint64_t token)
{
	for each_link(at, &key->holders)
	{
		LkGrant    *g = container(LkGrant, by_key, at);

		if (g->info.token == token)
			return g;
	}
	return NULL;
}

LkGrant *
lks_find_held(const LkOwnerRec *owner, const LkKey *key, uint8_t mode)
{
	/* the newest first; owners of many hold few in one key's list, or the other way round */
	for (Link *at = key->holders.prev; at != &key->holders; at = at->prev)
	{
		LkGrant    *g = container(LkGrant, by_key, at);

		if (g->owner == owner && g->info.mode == mode)
			return g;
	}
	return NULL;
}

bool
lks_fits_holders(const LkKey *key, const LkOwner *owner, uint8_t mode,
				 uint32_t weight, uint32_t limit)
{
	uint64_t	permits = weight;

	for each_link(at, &key->holders)
	{
		const LkGrant *g = container(LkGrant, by_key, at);

		if (mode == LK_PERMIT && g->info.mode == LK_PERMIT)
		{
			permits += g->info.weight;
			continue;
		}
		if (mode == LK_SHARED && g->info.mode == LK_SHARED)
			continue;
		if (!lk_owner_equal(&g->info.owner, owner))
			return false;
	}
	return mode != LK_PERMIT || permits <= limit;
}

/* ---------- the journal ---------- */

static bool
note(LkState *ls, uint64_t index, UndoKind kind, LkGrant *grant, LkLease *lease, int32_t delta)
{
	if (ls->undo_end == ls->undo_cap)
	{
		if (ls->undo_start > ls->undo_cap / 2)
		{
			memmove(ls->journal, ls->journal + ls->undo_start,
					(ls->undo_end - ls->undo_start) * sizeof(Undo));
			ls->undo_end -= ls->undo_start;
			ls->undo_start = 0;
		}
		else
		{
			size_t		cap = ls->undo_cap ? 2 * ls->undo_cap : 64;
			Undo	   *bigger = realloc(ls->journal, cap * sizeof(Undo));

			if (bigger == NULL)
				return false;
			ls->journal = bigger;
			ls->undo_cap = cap;
		}
	}
	ls->journal[ls->undo_end++] = (Undo) {index, kind, delta, grant, lease};
	return true;
}

void
lk_commit(LkState *ls, uint64_t index)
{
	while (ls->undo_start < ls->undo_end && ls->journal[ls->undo_start].index <= index)
	{
		Undo	   *undo = &ls->journal[ls->undo_start++];

		if (undo->kind == UNDO_GONE)
			free_grant(ls, undo->grant);
		if (undo->kind == UNDO_LEASE_GONE)
			free_lease(ls, undo->lease);
	}
	if (ls->undo_start == ls->undo_end)
		ls->undo_start = ls->undo_end = 0;
}

void
lk_truncate(LkState *ls, uint64_t from, int64_t now_us)
{
	while (ls->undo_end > ls->undo_start && ls->journal[ls->undo_end - 1].index >= from)
	{
		Undo	   *undo = &ls->journal[--ls->undo_end];
		LkLease    *lease = undo->lease;

		switch (undo->kind)
		{
			case UNDO_GRANTED:
				unlink_grant(ls, undo->grant);
				free_grant(ls, undo->grant);
				break;
			case UNDO_GONE:
				if (!link_grant(ls, undo->grant, now_us))
					ls->broken = true;
				break;
			case UNDO_COUNTED:
				undo->grant->info.count -= (uint32_t) undo->delta;
				break;
			case UNDO_LEASE_OPENED:
				unlink_lease(ls, lease);
				free_lease(ls, lease);
				break;
			case UNDO_LEASE_GONE:
				lease->owner->lease = lease;
				link_before(&ls->leases, &lease->link);
				ls->nleases++;
				lks_due_at(ls, lease->renewed_us + (int64_t) lease->info.ttl_ms * 1000);
				break;
		}
	}
	for each_link_safe(at, following, &ls->delayed)
	{
		LkKey	   *key = container(LkKey, delayed, at);

		if (key->delay_index >= from)
			lks_end_delay(ls, key);
	}
	for (int i = 0; i < ls->nfloors; i++)
		if (ls->floors[i].index >= from)
			ls->floors[i--] = ls->floors[--ls->nfloors];
	if (ls->last_index >= from)
		ls->last_index = from - 1;
}

/* ---------- entries ---------- */

/* One entry as it is taken in. */
typedef struct Entry
{
	LkState    *ls;
	uint64_t	index;
	int64_t		now_us;
	LkEffectFn	effect;
	void	   *arg;
	bool		changed;
	bool		no_memory;
} Entry;

static void
tell(Entry *e, LkEffectKind kind, const LkGrant *g, const LkLeaseInfo *lease, LkReason reason)
{
	LkEffect	effect;
	LkGrantInfo info;

	e->changed = true;
	if (e->effect == NULL)
		return;
	memset(&effect, 0, sizeof(effect));
	effect.kind = kind;
	effect.lease = lease;
	effect.reason = reason;
	if (g != NULL)
	{
		lks_fill(g, &info);
		effect.grant = &info;
	}
	e->effect(e->arg, &effect);
}

static void
take_away(Entry *e, LkGrant *g, LkReason reason)
{
	tell(e, LK_GONE, g, NULL, reason);
	unlink_grant(e->ls, g);
	if (!note(e->ls, e->index, UNDO_GONE, g, NULL, 0))
		e->no_memory = true;
}

static void
take_all_of(Entry *e, LkOwnerRec *owner, uint64_t last_token, LkReason reason)
{
	for each_link_safe(at, following, &owner->grants)
	{
		LkGrant    *g = container(LkGrant, by_owner, at);

		if (g->info.token <= last_token)
			take_away(e, g, reason);
	}
}

static void
change_count(Entry *e, LkGrant *g, int32_t delta)
{
	g->info.count += (uint32_t) delta;
	if (!note(e->ls, e->index, UNDO_COUNTED, g, NULL, delta))
		e->no_memory = true;
	tell(e, LK_COUNTED, g, NULL, 0);
}

static bool
grant_allowed(Entry *e, LkReader rd)
{
	const LkOwner *owner = &rd.rec.owner;
	LkItem		item;

	if (owner->kind == LK_OWNER_LEASE)
	{
		LkOwnerRec *rec = lks_find_owner(e->ls, owner);

		if (rec == NULL || rec->lease == NULL)
			return false;
	}
	while (lk_read_item(&rd, &item))
	{
		LkKey	   *key = lks_find_key(e->ls, item.key_type, item.key, item.len);

		if (key != NULL &&
			!lks_fits_holders(key, owner, item.mode, item.weight, item.limit))
			return false;
		if (key == NULL && item.mode == LK_PERMIT && item.weight > item.limit)
			return false;
	}
	return true;
}

static void
grant_one(Entry *e, const LkRecord *rec, const LkItem *item, RaftToken request, int64_t stamp_us)
{
	LkState    *ls = e->ls;
	LkKey	   *key = lks_find_key(ls, item->key_type, item->key, item->len);
	LkGrantInfo info;
	LkGrant    *g;

	if (key != NULL && lks_find_grant(key, e->index) != NULL)
		return;					/* the same key twice in one request */
	if (key != NULL && rec->owner.kind == LK_OWNER_LEASE && item->mode != LK_PERMIT)
	{
		LkOwnerRec *owner = lks_find_owner(ls, &rec->owner);

		g = owner ? lks_find_held(owner, key, item->mode) : NULL;
		if (g != NULL)
		{
			change_count(e, g, 1);
			return;
		}
	}
	memset(&info, 0, sizeof(info));
	info.token = e->index;
	info.key_type = item->key_type;
	info.key = item->key;
	info.len = item->len;
	info.mode = item->mode;
	info.weight = item->weight;
	info.limit = item->limit;
	info.owner = rec->owner;
	info.request = request;
	info.max_hold_ms = rec->max_hold_ms;
	info.delay_ms = rec->delay_ms;
	info.lease_ms = rec->lease_ms;
	info.count = 1;
	info.acquired_us = stamp_us;
	if (!lks_add_grant(ls, &info, e->now_us, &g) ||
		!note(ls, e->index, UNDO_GRANTED, g, NULL, 0))
	{
		e->no_memory = true;
		return;
	}
	lks_end_delay(ls, g->key);
	tell(e, LK_GRANTED, g, NULL, 0);
}

static void
take_in_grant(Entry *e, LkReader *rd, RaftToken request, int64_t stamp_us)
{
	LkItem		item;

	if (!grant_allowed(e, *rd))
		return;
	while (!e->no_memory && lk_read_item(rd, &item))
		grant_one(e, &rd->rec, &item, request, stamp_us);
}

static void
take_in_releases(Entry *e, LkReader *rd)
{
	LkItem		item;

	while (lk_read_item(rd, &item))
	{
		LkKey	   *key = lks_find_key(e->ls, item.key_type, item.key, item.len);
		LkGrant    *g = key ? lks_find_grant(key, item.token) : NULL;

		if (g == NULL)
			continue;
		if (item.whole || g->info.count == 1)
			take_away(e, g, rd->rec.reason);
		else
			change_count(e, g, -1);
	}
}

static void
set_floor(LkState *ls, uint32_t node, uint32_t boot, uint64_t index)
{
	LkFloor    *floor = NULL;

	for (int i = 0; i < ls->nfloors; i++)
		if (ls->floors[i].node == node)
			floor = &ls->floors[i];
	if (floor == NULL)
	{
		if (ls->nfloors == LK_MAX_FLOORS)
			memmove(ls->floors, ls->floors + 1, sizeof(LkFloor) * --ls->nfloors);
		floor = &ls->floors[ls->nfloors++];
		memset(floor, 0, sizeof(*floor));
	}
	if (floor->boot < boot)
		*floor = (LkFloor) {node, boot, index};
}

/* All that sessions of this node hold: of starts before boot, or of boot and before. */
static void
take_from_node(Entry *e, uint32_t node, uint32_t boot, bool this_start, LkReason reason)
{
	bool		again = true;

	/* a node goes with its last grant: begin anew after each owner */
	while (again)
	{
		again = false;
		for each_link(at, &e->ls->nodes)
		{
			LkNode	   *n = container(LkNode, link, at);

			if (n->node != node || n->boot > boot || (n->boot == boot && !this_start))
				continue;
			take_all_of(e, container(LkOwnerRec, by_node, n->owners.next), UINT64_MAX, reason);
			again = true;
			break;
		}
	}
}

static void
take_in_lease_open(Entry *e, const LkRecord *rec, int64_t stamp_us)
{
	LkLeaseInfo info;
	LkLease    *lease;
	LkOwner		id;
	LkOwnerRec *owner;

	memset(&id, 0, sizeof(id));
	id.kind = LK_OWNER_LEASE;
	memcpy(id.lease, rec->lease, LK_UUID_LEN);
	owner = lks_find_owner(e->ls, &id);
	if (owner != NULL && owner->lease != NULL)
		return;
	memset(&info, 0, sizeof(info));
	memcpy(info.id, rec->lease, LK_UUID_LEN);
	info.index = e->index;
	info.ttl_ms = rec->ttl_ms;
	info.node = rec->node;
	info.boot = rec->boot;
	info.pid = rec->pid;
	info.opened_us = stamp_us;
	memcpy(info.name, rec->name, rec->name_len);
	if (!lks_add_lease(e->ls, &info, e->now_us, &lease) ||
		!note(e->ls, e->index, UNDO_LEASE_OPENED, NULL, lease, 0))
	{
		e->no_memory = true;
		return;
	}
	tell(e, LK_LEASE_OPENED, NULL, &lease->info, 0);
}

static void
take_in_lease_end(Entry *e, const LkRecord *rec)
{
	LkOwner		id;
	LkOwnerRec *owner;
	LkLease    *lease;

	memset(&id, 0, sizeof(id));
	id.kind = LK_OWNER_LEASE;
	memcpy(id.lease, rec->lease, LK_UUID_LEN);
	owner = lks_find_owner(e->ls, &id);
	if (owner == NULL || owner->lease == NULL)
		return;
	lease = owner->lease;
	take_all_of(e, owner, UINT64_MAX, rec->reason);
	tell(e, LK_LEASE_GONE, NULL, &lease->info, rec->reason);
	unlink_lease(e->ls, lease);
	if (!note(e->ls, e->index, UNDO_LEASE_GONE, NULL, lease, 0))
		e->no_memory = true;
}

static void
take_in_break(Entry *e, const LkRecord *rec)
{
	LkKey	   *key = lks_find_key(e->ls, rec->broken.key_type, rec->broken.key,
								   rec->broken.len);

	if (key == NULL)
		return;
	for each_link_safe(at, following, &key->holders)
		take_away(e, container(LkGrant, by_key, at), LK_BROKEN);
}

LkStatus
lk_append(LkState *ls, uint64_t index, RaftToken token, int64_t stamp_us,
		  const void *payload, size_t len, int64_t now_us, LkEffectFn effect, void *arg)
{
	Entry		e = {ls, index, now_us, effect, arg, false, false};
	LkReader	rd;
	LkItem		item;
	LkOwner		id;
	LkOwnerRec *owner;

	assert(index > ls->last_index);
	ls->last_index = index;
	lks_end_delays(ls, now_us);
	if (!lk_read_open(&rd, payload, len))
		return LK_MALFORMED;
	switch ((LkOp) rd.rec.op)
	{
		case LK_OP_GRANT:
			take_in_grant(&e, &rd, token, stamp_us);
			break;
		case LK_OP_RELEASE:
		case LK_OP_EXPIRE_HOLD:
			take_in_releases(&e, &rd);
			break;
		case LK_OP_RELEASE_SESSION:
			memset(&id, 0, sizeof(id));
			id.kind = LK_OWNER_SESSION;
			id.node = rd.rec.node;
			id.boot = rd.rec.boot;
			id.session = rd.rec.session;
			owner = lks_find_owner(ls, &id);
			if (owner != NULL)
				take_all_of(&e, owner, rd.rec.last_token, rd.rec.reason);
			break;
		case LK_OP_RELEASE_NODE:
			take_from_node(&e, rd.rec.node, rd.rec.boot, false, rd.rec.reason);
			set_floor(ls, rd.rec.node, rd.rec.boot, index);
			break;
		case LK_OP_EXPIRE_NODE:
			take_from_node(&e, rd.rec.node, rd.rec.boot, true, rd.rec.reason);
			break;
		case LK_OP_LEASE_OPEN:
			take_in_lease_open(&e, &rd.rec, stamp_us);
			break;
		case LK_OP_LEASE_CLOSE:
		case LK_OP_LEASE_EXPIRE:
			take_in_lease_end(&e, &rd.rec);
			break;
		case LK_OP_BREAK:
			take_in_break(&e, &rd.rec);
			break;
	}
	while (!e.no_memory && lk_read_delay(&rd, &item))
	{
		LkKey	   *key = lks_get_key(ls, item.key_type, item.key, item.len);

		if (key == NULL)
			e.no_memory = true;
		else
		{
			lks_set_delay(ls, key, item.delay_ms, index, now_us);
			lks_key_unref(ls, key);
		}
	}
	if (e.no_memory || ls->broken)
		return LK_NO_MEMORY;
	return e.changed ? LK_OK : LK_NO_EFFECT;
}
