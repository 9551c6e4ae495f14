/*-------------------------------------------------------------------------
 *
 * locktime.c
 *		Time in the lock state: server leases, leases with an id, maximum hold
 *		times, lock delays. Only ever monotonic microseconds of one process.
 *
 * What runs out is decided by the leader, as an entry of the log; nothing runs
 * out by itself. The leader counts from when a renewal reached it, its owner from
 * when it sent it: so the owner always stops first. A leader that did not run for
 * a while (stopped, swapped out) adds that time to every lease (lk_shift), since
 * the renewals may still lie in its sockets.
 *
 * A scan of everything timed finds what is due; due_us says when the next one is
 * worth it. Renewals only move that later, so they need not touch it; scans come
 * no faster than every SCAN_US.
 *
 *-------------------------------------------------------------------------
 */
#include <stdlib.h>
#include <string.h>

#include "lock/lockstate_internal.h"

#define SCAN_US			INT64_C(20000)
#define HOLDS_AT_ONCE	64

void
lks_due_at(LkState *ls, int64_t at_us)
{
	if (at_us < ls->due_us)
		ls->due_us = at_us;
}

/* ---------- lock delays ---------- */

void
lks_set_delay(LkState *ls, LkKey *key, uint32_t delay_ms, uint64_t index, int64_t now_us)
{
	int64_t		until_us = now_us + (int64_t) delay_ms * 1000;

	if (delay_ms == 0)
		return;
	if (link_alone(&key->delayed))
	{
		key->refs++;
		link_before(&ls->delayed, &key->delayed);
		key->delayed_until_us = until_us;
		key->delay_index = index;
	}
	else if (key->delayed_until_us < until_us)
	{
		key->delayed_until_us = until_us;
		key->delay_index = index;
	}
}

void
lks_end_delay(LkState *ls, LkKey *key)
{
	if (link_alone(&key->delayed))
		return;
	link_remove(&key->delayed);
	lks_mark_dirty(ls, key);
	lks_key_unref(ls, key);
}

void
lks_end_delays(LkState *ls, int64_t now_us)
{
	for each_link_safe(at, following, &ls->delayed)
	{
		LkKey	   *key = container(LkKey, delayed, at);

		if (key->delayed_until_us <= now_us)
			lks_end_delay(ls, key);
	}
}

void
lk_tick(LkState *ls, int64_t now_us)
{
	lks_end_delays(ls, now_us);
}

/* ---------- leadership ---------- */

void
lk_lead(LkState *ls, int64_t now_us)
{
	ls->leading = true;
	for each_link(at, &ls->nodes)
		container(LkNode, link, at)->renewed_us = now_us;
	for each_link(at, &ls->leases)
		container(LkLease, link, at)->renewed_us = now_us;
	ls->due_us = now_us;
	ls->scanned_us = 0;
}

void
lk_follow(LkState *ls, void (*drop) (void *arg, void *data), void *arg)
{
	ls->leading = false;
	while (!link_alone(&ls->waiters))
	{
		LkWaiter   *w = container(LkWaiter, link, ls->waiters.prev);
		void	   *data = lk_withdraw(ls, w->token);

		if (drop != NULL)
			drop(arg, data);
	}
	ls->ndown = 0;
	ls->check_us = INT64_MAX;
}

void
lk_shift(LkState *ls, int64_t gap_us)
{
	for each_link(at, &ls->nodes)
		container(LkNode, link, at)->renewed_us += gap_us;
	for each_link(at, &ls->leases)
		container(LkLease, link, at)->renewed_us += gap_us;
}

/* ---------- renewal ---------- */

void
lk_renew_node(LkState *ls, uint32_t node, uint32_t boot, uint32_t lease_ms, int64_t now_us)
{
	for each_link(at, &ls->nodes)
	{
		LkNode	   *n = container(LkNode, link, at);

		if (n->node != node || n->boot != boot)
			continue;
		if (n->renewed_us < now_us)
			n->renewed_us = now_us;
		if (n->lease_ms < lease_ms)
			n->lease_ms = lease_ms;
	}
}

static LkLease *
find_lease(const LkState *ls, const uint8_t *id)
{
	LkOwner		owner;
	LkOwnerRec *rec;

	memset(&owner, 0, sizeof(owner));
	owner.kind = LK_OWNER_LEASE;
	memcpy(owner.lease, id, LK_UUID_LEN);
	rec = lks_find_owner(ls, &owner);
	return rec == NULL ? NULL : rec->lease;
}

bool
lk_renew_lease(LkState *ls, const uint8_t *id, int64_t now_us, uint32_t *ttl_ms)
{
	LkLease    *lease = find_lease(ls, id);

	if (lease == NULL)
		return false;
	if (lease->renewed_us < now_us)
		lease->renewed_us = now_us;
	*ttl_ms = lease->info.ttl_ms;
	return true;
}

int64_t
lk_lease_left_us(const LkState *ls, const uint8_t *id, int64_t now_us)
{
	LkLease    *lease = find_lease(ls, id);
	int64_t		left_us;

	if (lease == NULL || !ls->leading)
		return -1;
	left_us = lease->renewed_us + (int64_t) lease->info.ttl_ms * 1000 - now_us;
	return left_us > 0 ? left_us : 0;
}

bool
lk_find_lease(const LkState *ls, const uint8_t *id, LkLeaseInfo *info)
{
	LkLease    *lease = find_lease(ls, id);

	if (lease == NULL)
		return false;
	*info = lease->info;
	return true;
}

/* ---------- entries that the leader makes ---------- */

static uint8_t *
write_entry(const LkRecord *rec, const LkItem *items, size_t *len)
{
	size_t		bound = lk_write_bound(rec, items);
	uint8_t    *buf = malloc(bound);

	if (buf == NULL)
		return NULL;
	*len = lk_write(buf, bound, rec, items);
	if (*len == 0)
	{
		free(buf);
		return NULL;
	}
	return buf;
}

typedef struct Delays
{
	LkItem	   *items;
	uint32_t	n;
} Delays;

static void
add_delay(Delays *delays, const LkGrant *g)
{
	LkItem	   *item;

	if (g->info.delay_ms == 0 || delays->n == LK_MAX_ITEMS)
		return;
	item = &delays->items[delays->n++];
	memset(item, 0, sizeof(*item));
	item->key_type = g->key->type;
	item->key = g->key->key;
	item->len = g->key->len;
	item->delay_ms = g->info.delay_ms;
}

static void
add_delays_of(Delays *delays, const LkOwnerRec *owner)
{
	for each_link(at, &owner->grants)
		add_delay(delays, container(LkGrant, by_owner, at));
}

static void
add_delays_of_node(const LkState *ls, Delays *delays, uint32_t node, uint32_t boot, bool this_start)
{
	for each_link(at, &ls->nodes)
	{
		LkNode	   *n = container(LkNode, link, at);

		if (n->node != node || n->boot > boot || (n->boot == boot && !this_start))
			continue;
		for each_link(o, &n->owners)
			add_delays_of(delays, container(LkOwnerRec, by_node, o));
	}
}

static uint8_t *
expire_node(const LkState *ls, const LkNode *n, size_t *len)
{
	LkRecord	rec = {.op = LK_OP_EXPIRE_NODE, .node = n->node, .boot = n->boot};
	Delays		delays = {malloc(LK_MAX_ITEMS * sizeof(LkItem)), 0};
	uint8_t    *entry = NULL;

	if (delays.items != NULL)
	{
		add_delays_of_node(ls, &delays, n->node, n->boot, true);
		rec.ndelays = (uint16_t) delays.n;
		entry = write_entry(&rec, delays.items, len);
	}
	free(delays.items);
	return entry;
}

static uint8_t *
expire_lease(const LkLease *lease, size_t *len)
{
	LkRecord	rec = {.op = LK_OP_LEASE_EXPIRE};
	Delays		delays = {malloc(LK_MAX_ITEMS * sizeof(LkItem)), 0};
	uint8_t    *entry = NULL;

	memcpy(rec.lease, lease->info.id, LK_UUID_LEN);
	if (delays.items != NULL)
	{
		add_delays_of(&delays, lease->owner);
		rec.ndelays = (uint16_t) delays.n;
		entry = write_entry(&rec, delays.items, len);
	}
	free(delays.items);
	return entry;
}

static bool
hold_is_over(const LkGrant *g, int64_t now_us)
{
	return now_us > g->seen_us + (int64_t) g->info.max_hold_ms * 1000;
}

static uint8_t *
expire_holds(const LkState *ls, int64_t now_us, size_t *len)
{
	LkItem		items[2 * HOLDS_AT_ONCE];
	LkItem		delay_items[HOLDS_AT_ONCE];
	Delays		delays = {delay_items, 0};
	LkRecord	rec = {.op = LK_OP_EXPIRE_HOLD, .reason = LK_HOLD_EXPIRED};

	for each_link(at, &ls->timed)
	{
		const LkGrant *g = container(LkGrant, timed, at);

		if (rec.nitems == HOLDS_AT_ONCE)
			break;
		if (!hold_is_over(g, now_us))
			continue;
		items[rec.nitems++] = (LkItem) {.key_type = g->key->type, .key = g->key->key,
			.len = g->key->len, .token = g->info.token, .whole = true};
		add_delay(&delays, g);
	}
	memcpy(items + rec.nitems, delay_items, delays.n * sizeof(LkItem));
	rec.ndelays = (uint16_t) delays.n;
	return write_entry(&rec, items, len);
}

uint8_t *
lk_expiry(LkState *ls, int64_t now_us, size_t *len)
{
	int64_t		due_us = INT64_MAX;

	if (!ls->leading || now_us < ls->due_us ||
		(ls->scanned_us != 0 && now_us < ls->scanned_us + SCAN_US))
		return NULL;
	for each_link(at, &ls->nodes)
	{
		LkNode	   *n = container(LkNode, link, at);
		int64_t		end_us = n->renewed_us + (int64_t) n->lease_ms * 1000;

		if (now_us > end_us)
			return expire_node(ls, n, len);
		due_us = end_us + 1 < due_us ? end_us + 1 : due_us;
	}
	for each_link(at, &ls->leases)
	{
		LkLease    *lease = container(LkLease, link, at);
		int64_t		end_us = lease->renewed_us + (int64_t) lease->info.ttl_ms * 1000;

		if (now_us > end_us)
			return expire_lease(lease, len);
		due_us = end_us + 1 < due_us ? end_us + 1 : due_us;
	}
	for each_link(at, &ls->timed)
	{
		const LkGrant *g = container(LkGrant, timed, at);
		int64_t		end_us = g->seen_us + (int64_t) g->info.max_hold_ms * 1000;

		if (now_us > end_us)
			return expire_holds(ls, now_us, len);
		due_us = end_us + 1 < due_us ? end_us + 1 : due_us;
	}
	ls->due_us = due_us;
	ls->scanned_us = now_us;
	return NULL;
}

int64_t
lk_deadline(const LkState *ls)
{
	int64_t		deadline_us = INT64_MAX;

	if (ls->leading && ls->due_us != INT64_MAX)
	{
		deadline_us = ls->due_us;
		if (ls->scanned_us != 0 && deadline_us < ls->scanned_us + SCAN_US)
			deadline_us = ls->scanned_us + SCAN_US;
	}
	for each_link(at, &ls->delayed)
	{
		const LkKey *key = container(LkKey, delayed, at);

		if (key->delayed_until_us < deadline_us)
			deadline_us = key->delayed_until_us;
	}
	return deadline_us;
}

/* ---------- a payload as it is to be appended ---------- */

/* Does its lease hold all of this already? */
static bool
holds_all(const LkState *ls, LkReader rd)
{
	LkOwnerRec *owner = lks_find_owner(ls, &rd.rec.owner);
	LkItem		item;

	if (owner == NULL || rd.rec.owner.kind != LK_OWNER_LEASE)
		return false;
	while (lk_read_item(&rd, &item))
	{
		LkKey	   *key = lks_find_key(ls, item.key_type, item.key, item.len);

		if (key == NULL || item.mode == LK_PERMIT ||
			lks_find_held(owner, key, item.mode) == NULL)
			return false;
	}
	return true;
}

/* Of a grant: the same with LK_AGAIN. */
static uint8_t *
grant_again(LkReader *rd, size_t *len)
{
	LkItem	   *items = malloc(rd->rec.nitems * sizeof(LkItem));
	uint8_t    *entry = NULL;

	if (items == NULL)
		return NULL;
	for (uint32_t i = 0; i < rd->rec.nitems; i++)
		(void) lk_read_item(rd, &items[i]);
	rd->rec.flags |= LK_AGAIN;
	entry = write_entry(&rd->rec, items, len);
	free(items);
	return entry;
}

uint8_t *
lk_final_payload(const LkState *ls, const void *payload, size_t *len)
{
	LkReader	rd;
	Delays		delays;
	LkKey	   *key;
	uint8_t    *entry;
	bool		opened = lk_read_open(&rd, payload, *len);

	*len = 0;
	if (!opened)
		return NULL;
	if (rd.rec.op == LK_OP_GRANT)
		return holds_all(ls, rd) ? grant_again(&rd, len) : NULL;
	if (rd.rec.op != LK_OP_RELEASE_NODE && rd.rec.op != LK_OP_BREAK)
		return NULL;

	delays.items = malloc(LK_MAX_ITEMS * sizeof(LkItem));
	delays.n = 0;
	if (delays.items == NULL)
		return NULL;			/* without delays, then */
	if (rd.rec.op == LK_OP_RELEASE_NODE)
		add_delays_of_node(ls, &delays, rd.rec.node, rd.rec.boot, false);
	else
	{
		key = lks_find_key(ls, rd.rec.broken.key_type, rd.rec.broken.key, rd.rec.broken.len);
		if (key != NULL)
			for each_link(at, &key->holders)
				add_delay(&delays, container(LkGrant, by_key, at));
	}
	rd.rec.ndelays = (uint16_t) delays.n;
	entry = write_entry(&rd.rec, delays.items, len);
	free(delays.items);
	return entry;
}
