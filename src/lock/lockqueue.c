/*-------------------------------------------------------------------------
 *
 * lockqueue.c
 *		The leader's part of the lock state: may a request be granted, who waits
 *		behind whom, and who waits in a circle.
 *
 * Each key has its line of waits; a request has a wait in the line of each key
 * that it wants. A request may be granted when, at each of its keys, it fits to
 * what others hold, the key is not blocked by a lock delay, and no request further
 * ahead conflicts with it. Keys at which something has changed are on a list
 * (dirty): only their lines are looked at, from the front and no further than
 * to the first that has to wait and keeps all others waiting.
 *
 * Deadlocks. A request waits for
 *	- whoever holds what it conflicts with, if that owner waits itself;
 *	- the requests ahead of it in a line that it conflicts with: back to the
 *	  nearest that is not shared, which waits for everything further ahead.
 * The session that asks on behalf of a lease is stuck as long as the request
 * waits, so what it holds itself counts as well. Permits: any holder of some may
 * give them back, so only a single one is waited for. The search begins at a
 * request that has waited for its deadlock_timeout; a cycle is closed by the
 * last request in it to begin to wait, whose own search then finds it. Requests
 * are looked at again later, ever more rarely, in case a search missed a cycle
 * that was only then completed by a queue that was changed.
 *
 *-------------------------------------------------------------------------
 */
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lock/lockstate_internal.h"

#define CHECK_MAX_US	INT64_C(60000000)
#define KEY_SHOWN		40		/* bytes of a key in a message */
#define PATH_SHOWN		32		/* members of a cycle, at most */

/* ---------- the table of waiters ---------- */

static uint32_t
token_hash(RaftToken token)
{
	uint64_t	h = token.counter * UINT64_C(0x9e3779b97f4a7c15);

	h ^= ((uint64_t) token.node << 32 | token.boot) * UINT64_C(0xc2b2ae3d27d4eb4f);
	h ^= h >> 29;
	return (uint32_t) (h >> 7);
}

LkWaiter *
lks_find_waiter(const LkState *ls, RaftToken token)
{
	LkWaiter   *w = ls->waiter_table[token_hash(token) & ls->waiter_mask];

	while (w != NULL && !raft_token_equal(w->token, token))
		w = w->chain;
	return w;
}

static void
grow_waiters(LkState *ls)
{
	uint32_t	mask = 2 * ls->waiter_mask + 1;
	LkWaiter  **bigger = calloc((size_t) mask + 1, sizeof(LkWaiter *));

	if (bigger == NULL)
		return;
	for (uint32_t i = 0; i <= ls->waiter_mask; i++)
		while (ls->waiter_table[i] != NULL)
		{
			LkWaiter   *w = ls->waiter_table[i];
			uint32_t	b = token_hash(w->token) & mask;

			ls->waiter_table[i] = w->chain;
			w->chain = bigger[b];
			bigger[b] = w;
		}
	free(ls->waiter_table);
	ls->waiter_table = bigger;
	ls->waiter_mask = mask;
}

void
lks_mark_dirty(LkState *ls, LkKey *key)
{
	if (link_alone(&key->dirty) && !link_alone(&key->waits))
		link_before(&ls->dirty, &key->dirty);
}

static void
mark_keys_dirty(LkState *ls, LkWaiter *w)
{
	for (uint32_t i = 0; i < w->nwaits; i++)
		lks_mark_dirty(ls, w->waits[i].key);
}

/* Out of every list; returns its data. */
static void *
remove_waiter(LkState *ls, LkWaiter *w)
{
	LkWaiter  **at = &ls->waiter_table[token_hash(w->token) & ls->waiter_mask];
	void	   *data = w->data;

	while (*at != w)
		at = &(*at)->chain;
	*at = w->chain;
	link_remove(&w->link);
	link_remove(&w->by_owner);
	if (w->session != NULL)
	{
		link_remove(&w->by_session);
		lks_owner_unref(ls, w->session);
	}
	lks_owner_unref(ls, w->owner);
	mark_keys_dirty(ls, w);
	for (uint32_t i = 0; i < w->nwaits; i++)
	{
		link_remove(&w->waits[i].by_key);
		if (link_alone(&w->waits[i].key->waits))
		{
			link_remove(&w->waits[i].key->dirty);
			link_remove(&w->waits[i].key->waited);
		}
		lks_key_unref(ls, w->waits[i].key);
	}
	ls->nwaiters--;
	free(w);
	return data;
}

/* ---------- who is ahead of whom ---------- */

/* Would these two exclude each other? Permits: the one behind lets the other go first. */
static inline bool
modes_conflict(uint8_t a, uint8_t b)
{
	return !(a == LK_SHARED && b == LK_SHARED);
}

/* Does owner hold something at this key that this wait is kept out by? */
static bool
waits_for_owner(const LkWait *wait, const LkKey *key, const LkOwner *owner)
{
	if (lk_owner_equal(&wait->waiter->owner->id, owner))
		return false;
	for each_link(at, &key->holders)
	{
		const LkGrant *g = container(LkGrant, by_key, at);

		if (lk_owner_equal(&g->info.owner, owner) && wait->mode != LK_PERMIT &&
			modes_conflict(wait->mode, g->info.mode))
			return true;
	}
	return false;
}

static bool
holds_any(const LkKey *key, const LkOwnerRec *owner)
{
	for each_link(at, &key->holders)
		if (container(LkGrant, by_key, at)->owner == owner)
			return true;
	return false;
}

/*
 * Where in the line such a request belongs: before the result, which is the end
 * (the list's head) for a new one. One that waited longer already, elsewhere,
 * goes ahead of younger ones; one whose owner holds the key goes ahead of those
 * that wait for just that.
 */
static Link *
place_in_line(const LkState *ls, const LkKey *key, const LkOwner *owner, int64_t since_us)
{
	const Link *place = &key->waits;
	const LkOwnerRec *rec;

	while (place->prev != &key->waits &&
		   container(LkWait, by_key, place->prev)->waiter->since_us > since_us)
		place = place->prev;
	rec = lks_find_owner(ls, owner);
	if (rec != NULL && rec->ngrants > 0 && holds_any(key, rec))
		for (const Link *at = key->waits.next; at != place; at = at->next)
			if (waits_for_owner(container(LkWait, by_key, at), key, owner))
				return (Link *) at;
	return (Link *) place;
}

/* Is there a request before `place` in the line that has to be granted first? */
static bool
somebody_ahead(const LkKey *key, const Link *place, const LkOwner *owner, uint8_t mode)
{
	for (const Link *at = place->prev; at != &key->waits; at = at->prev)
	{
		const LkWait *other = container(LkWait, by_key, at);

		if (!other->waiter->suspended && modes_conflict(mode, other->mode) &&
			!lk_owner_equal(&other->waiter->owner->id, owner))
			return true;
	}
	return false;
}

static bool
blocked_by_delay(const LkKey *key, int64_t now_us)
{
	return !link_alone(&key->delayed) && now_us < key->delayed_until_us;
}

static bool
is_grantable(const LkWaiter *w, int64_t now_us)
{
	const LkOwner *owner = &w->owner->id;

	if (w->suspended)
		return false;
	for (uint32_t i = 0; i < w->nwaits; i++)
	{
		const LkWait *wait = &w->waits[i];

		if (!lks_fits_holders(wait->key, owner, wait->mode, wait->weight, wait->limit) ||
			blocked_by_delay(wait->key, now_us) ||
			somebody_ahead(wait->key, &wait->by_key, owner, wait->mode))
			return false;
	}
	return true;
}

/* ---------- judging ---------- */

static LkJudgement
refuse(LkVerdict *verdict, LkRefusal refusal, uint64_t depends)
{
	verdict->judgement = LK_JUDGED_REFUSE;
	verdict->refusal = refusal;
	verdict->depends = depends;
	return LK_JUDGED_REFUSE;
}

static bool
is_old_start(const LkState *ls, uint32_t node, uint32_t boot)
{
	for (int i = 0; i < ls->nfloors; i++)
		if (ls->floors[i].node == node && boot < ls->floors[i].boot)
			return true;
	return false;
}

/* What stands in the way at this key. False: nothing. */
static bool
in_the_way(const LkState *ls, const LkItem *item, const LkOwner *owner, int64_t now_us,
		   int64_t since_us, LkVerdict *verdict)
{
	const LkKey *key = lks_find_key(ls, item->key_type, item->key, item->len);

	if (key == NULL)
		return false;
	if (!lks_fits_holders(key, owner, item->mode, item->weight, item->limit))
	{
		const LkGrant *g = container(LkGrant, by_key, key->holders.next);

		for each_link(at, &key->holders)
		{
			g = container(LkGrant, by_key, at);
			if (!lk_owner_equal(&g->info.owner, owner))
				break;
		}
		verdict->token = g->info.token;
		verdict->node = g->info.owner.node;
		verdict->depends = g->info.token;
		return true;
	}
	return blocked_by_delay(key, now_us) ||
		somebody_ahead(key, place_in_line(ls, key, owner, since_us), owner, item->mode);
}

static void
judge_grant(const LkState *ls, LkReader *rd, uint32_t from, int64_t now_us, LkVerdict *verdict)
{
	const LkOwner *owner = &rd->rec.owner;
	LkItem		item;

	if (owner->node != from || (rd->rec.flags & LK_AGAIN))
	{
		refuse(verdict, LK_REFUSED_MALFORMED, 0);
		return;
	}
	if (is_old_start(ls, owner->node, owner->boot))
	{
		refuse(verdict, LK_REFUSED_OLD_START, 0);
		return;
	}
	if (owner->kind == LK_OWNER_LEASE)
	{
		LkOwnerRec *rec = lks_find_owner(ls, owner);

		if (rec == NULL || rec->lease == NULL)
		{
			refuse(verdict, LK_REFUSED_NO_LEASE, ls->last_index);
			return;
		}
	}
	while (lk_read_item(rd, &item))
	{
		if (item.mode == LK_PERMIT && item.weight > item.limit)
		{
			refuse(verdict, LK_REFUSED_OVER_LIMIT, 0);
			return;
		}
		if (verdict->judgement == LK_JUDGED_APPEND &&
			in_the_way(ls, &item, owner, now_us, now_us, verdict))
		{
			verdict->judgement = LK_JUDGED_WAIT;
			if (rd->rec.flags & LK_TRY)
				refuse(verdict, LK_REFUSED_TAKEN, verdict->depends);
		}
	}
}

static void
judge_releases(const LkState *ls, LkReader *rd, LkVerdict *verdict)
{
	LkItem		item;

	while (lk_read_item(rd, &item))
	{
		const LkKey *key = lks_find_key(ls, item.key_type, item.key, item.len);

		if (key != NULL && lks_find_grant(key, item.token) != NULL)
			return;
	}
	refuse(verdict, LK_REFUSED_NOT_HELD, ls->last_index);
}

static void
judge_session(const LkState *ls, const LkRecord *rec, LkVerdict *verdict)
{
	LkOwner		id;
	LkOwnerRec *owner;

	memset(&id, 0, sizeof(id));
	id.kind = LK_OWNER_SESSION;
	id.node = rec->node;
	id.boot = rec->boot;
	id.session = rec->session;
	owner = lks_find_owner(ls, &id);
	if (owner != NULL)
		for each_link(at, &owner->grants)
			if (container(LkGrant, by_owner, at)->info.token <= rec->last_token)
				return;
	refuse(verdict, LK_REFUSED_NOT_HELD, ls->last_index);
}

static bool
lease_is_open(const LkState *ls, const uint8_t *id)
{
	LkLeaseInfo info;

	return lk_find_lease(ls, id, &info);
}

void
lk_judge(const LkState *ls, uint32_t from, const void *payload, size_t len,
		 int64_t now_us, LkVerdict *verdict)
{
	LkReader	rd;
	LkKey	   *key;

	memset(verdict, 0, sizeof(*verdict));
	verdict->judgement = LK_JUDGED_APPEND;
	if (!lk_read_open(&rd, payload, len))
	{
		refuse(verdict, LK_REFUSED_MALFORMED, 0);
		return;
	}
	switch ((LkOp) rd.rec.op)
	{
		case LK_OP_GRANT:
			judge_grant(ls, &rd, from, now_us, verdict);
			break;
		case LK_OP_RELEASE:
			judge_releases(ls, &rd, verdict);
			break;
		case LK_OP_RELEASE_SESSION:
			if (rd.rec.node != from)
				refuse(verdict, LK_REFUSED_MALFORMED, 0);
			else
				judge_session(ls, &rd.rec, verdict);
			break;
		case LK_OP_RELEASE_NODE:
			if (rd.rec.node != from)
				refuse(verdict, LK_REFUSED_MALFORMED, 0);
			else if (!lk_holds_from_before(ls, rd.rec.node, rd.rec.boot))
				refuse(verdict, LK_REFUSED_NOT_HELD, ls->last_index);
			break;
		case LK_OP_LEASE_OPEN:
			if (lease_is_open(ls, rd.rec.lease))
				refuse(verdict, LK_REFUSED_LEASE_EXISTS, ls->last_index);
			break;
		case LK_OP_LEASE_CLOSE:
			if (!lease_is_open(ls, rd.rec.lease))
				refuse(verdict, LK_REFUSED_NOT_HELD, ls->last_index);
			break;
		case LK_OP_BREAK:
			key = lks_find_key(ls, rd.rec.broken.key_type, rd.rec.broken.key, rd.rec.broken.len);
			if (key == NULL || link_alone(&key->holders))
				refuse(verdict, LK_REFUSED_NOT_HELD, ls->last_index);
			break;
		case LK_OP_EXPIRE_NODE:
		case LK_OP_EXPIRE_HOLD:
		case LK_OP_LEASE_EXPIRE:
			refuse(verdict, LK_REFUSED_MALFORMED, 0);
			break;
	}
}

/* ---------- the queue ---------- */

static bool
is_down(const LkState *ls, uint32_t node)
{
	for (int i = 0; i < ls->ndown; i++)
		if (ls->down[i] == node)
			return true;
	return false;
}

static void
insert_by_age(LkState *ls, LkWaiter *w)
{
	Link	   *place = &ls->waiters;

	while (place->prev != &ls->waiters &&
		   container(LkWaiter, link, place->prev)->since_us > w->since_us)
		place = place->prev;
	link_before(place, &w->link);
}

bool
lk_wait(LkState *ls, uint32_t from, RaftToken token, const void *payload, size_t len,
		int64_t age_us, int64_t now_us, void *data)
{
	LkReader	rd;
	LkItem		item;
	LkWaiter   *w;
	LkOwner		session;
	uint32_t	b;

	assert(lks_find_waiter(ls, token) == NULL);
	if (!lk_read_open(&rd, payload, len) || rd.rec.op != LK_OP_GRANT)
		return false;
	w = calloc(1, sizeof(LkWaiter) + rd.rec.nitems * sizeof(LkWait));
	if (w == NULL)
		return false;
	w->token = token;
	w->from = from;
	w->asked_by = rd.rec.owner;
	w->data = data;
	w->since_us = now_us - (age_us > 0 ? age_us : 0);
	w->refreshed_us = now_us;
	w->suspended = is_down(ls, from);
	w->check_interval_us = (int64_t) rd.rec.deadlock_ms * 1000;
	w->check_us = rd.rec.deadlock_ms > 0 ? now_us + w->check_interval_us : INT64_MAX;
	link_init(&w->link);
	link_init(&w->by_owner);
	link_init(&w->by_session);

	session = rd.rec.owner;
	session.kind = LK_OWNER_SESSION;
	memset(session.lease, 0, LK_UUID_LEN);
	w->owner = lks_get_owner(ls, &rd.rec.owner);
	if (rd.rec.owner.kind == LK_OWNER_LEASE)
		w->session = lks_get_owner(ls, &session);
	if (w->owner == NULL || (rd.rec.owner.kind == LK_OWNER_LEASE && w->session == NULL))
		goto no_memory;

	while (lk_read_item(&rd, &item))
	{
		LkKey	   *key = lks_get_key(ls, item.key_type, item.key, item.len);
		LkWait	   *wait = &w->waits[w->nwaits];

		if (key == NULL)
			goto no_memory;
		*wait = (LkWait) {.waiter = w, .key = key, .mode = item.mode,
			.weight = item.weight, .limit = item.limit};
		w->nwaits++;
		link_before(place_in_line(ls, key, &w->owner->id, w->since_us), &wait->by_key);
		if (link_alone(&key->waited))
			link_before(&ls->waited, &key->waited);
	}
	link_before(&w->owner->waiters, &w->by_owner);
	if (w->session != NULL)
		link_before(&w->session->asking, &w->by_session);
	insert_by_age(ls, w);
	if (ls->nwaiters > ls->waiter_mask)
		grow_waiters(ls);
	b = token_hash(token) & ls->waiter_mask;
	w->chain = ls->waiter_table[b];
	ls->waiter_table[b] = w;
	ls->nwaiters++;
	if (w->check_us < ls->check_us)
		ls->check_us = w->check_us;

	/* it may have become grantable between the judgement and now */
	mark_keys_dirty(ls, w);
	return true;

no_memory:
	for (uint32_t i = 0; i < w->nwaits; i++)
	{
		link_remove(&w->waits[i].by_key);
		if (link_alone(&w->waits[i].key->waits))
			link_remove(&w->waits[i].key->waited);
		lks_key_unref(ls, w->waits[i].key);
	}
	if (w->owner != NULL)
		lks_owner_unref(ls, w->owner);
	if (w->session != NULL)
		lks_owner_unref(ls, w->session);
	free(w);
	return false;
}

bool
lk_refresh(LkState *ls, RaftToken token, int64_t now_us)
{
	LkWaiter   *w = lks_find_waiter(ls, token);

	if (w == NULL)
		return false;
	w->refreshed_us = now_us;
	return true;
}

void *
lk_withdraw(LkState *ls, RaftToken token)
{
	LkWaiter   *w = lks_find_waiter(ls, token);

	return w == NULL ? NULL : remove_waiter(ls, w);
}

/* The first in this line that may be granted. */
static LkWaiter *
first_grantable(LkKey *key, int64_t now_us)
{
	for each_link(at, &key->waits)
	{
		LkWait	   *wait = container(LkWait, by_key, at);

		if (is_grantable(wait->waiter, now_us))
			return wait->waiter;
		if (wait->waiter->suspended || wait->mode == LK_SHARED)
			continue;

		/* behind this one everybody waits, but others of the same owner */
		for each_link(o, &wait->waiter->owner->waiters)
		{
			LkWaiter   *other = container(LkWaiter, by_owner, o);

			for (uint32_t i = 0; i < other->nwaits; i++)
				if (other->waits[i].key == key && is_grantable(other, now_us))
					return other;
		}
		return NULL;
	}
	return NULL;
}

void *
lk_take_grantable(LkState *ls, int64_t now_us, RaftToken *token, uint32_t *from, int64_t *age_us)
{
	lks_end_delays(ls, now_us);
	while (!link_alone(&ls->dirty))
	{
		LkKey	   *key = container(LkKey, dirty, ls->dirty.next);
		LkWaiter   *w = first_grantable(key, now_us);

		if (w == NULL)
		{
			link_remove(&key->dirty);
			continue;
		}
		*token = w->token;
		*from = w->from;
		*age_us = now_us - w->since_us;
		return remove_waiter(ls, w);
	}
	return NULL;
}

void *
lk_take_stale(LkState *ls, int64_t before_us, RaftToken *token)
{
	for each_link(at, &ls->waiters)
	{
		LkWaiter   *w = container(LkWaiter, link, at);

		if (w->refreshed_us < before_us)
		{
			*token = w->token;
			return remove_waiter(ls, w);
		}
	}
	return NULL;
}

void
lk_member_up(LkState *ls, uint32_t node, bool up)
{
	bool		was_down = is_down(ls, node);

	if (was_down != up)
		return;
	if (up)
	{
		for (int i = 0; i < ls->ndown; i++)
			if (ls->down[i] == node)
				ls->down[i--] = ls->down[--ls->ndown];
	}
	else if (ls->ndown < LK_MAX_DOWN)
		ls->down[ls->ndown++] = node;
	for each_link(at, &ls->waiters)
	{
		LkWaiter   *w = container(LkWaiter, link, at);

		if (w->from == node)
		{
			w->suspended = !up;
			mark_keys_dirty(ls, w);
		}
	}
}

void
lk_each_waiter(const LkState *ls, LkWaiterFn fn, void *arg)
{
	for each_link(k, &ls->waited)
	{
		const LkKey *key = container(LkKey, waited, k);
		uint32_t	position = 0;

		for each_link(at, &key->waits)
		{
			const LkWait *wait = container(LkWait, by_key, at);
			LkWaiterInfo info;

			memset(&info, 0, sizeof(info));
			info.request = wait->waiter->token;
			info.owner = wait->waiter->asked_by;
			info.key_type = key->type;
			info.mode = wait->mode;
			info.len = key->len;
			info.key = key->key;
			info.position = ++position;
			info.since_us = wait->waiter->since_us;
			fn(arg, &info);
		}
	}
}

/* ---------- deadlocks ---------- */

typedef struct Search
{
	LkState    *ls;
	LkWaiter   *start;
	LkWaiter   *head;			/* to be looked at */
	LkWaiter   *tail;
	bool		found;
} Search;

/* `from` waits, at `wait`, for `to`. */
static void
add_edge(Search *search, LkWaiter *from, LkWait *wait, LkWaiter *to)
{
	if (search->found)
		return;
	if (to == search->start)
	{
		search->found = true;
		to->parent = from;
		to->parent_wait = wait;
		return;
	}
	if (to->visit == search->ls->visit)
		return;
	to->visit = search->ls->visit;
	to->parent = from;
	to->parent_wait = wait;
	to->visit_next = NULL;
	if (search->tail != NULL)
		search->tail->visit_next = to;
	else
		search->head = to;
	search->tail = to;
}

/* All requests that keep this owner waiting. */
static void
add_owner(Search *search, LkWaiter *from, LkWait *wait, LkOwnerRec *owner)
{
	for each_link(at, &owner->waiters)
		add_edge(search, from, wait, container(LkWaiter, by_owner, at));
	for each_link(at, &owner->asking)
		add_edge(search, from, wait, container(LkWaiter, by_session, at));
}

static void
add_holders(Search *search, LkWaiter *w, LkWait *wait)
{
	LkOwnerRec *only = NULL;

	for each_link(at, &wait->key->holders)
	{
		LkGrant    *g = container(LkGrant, by_key, at);

		if (wait->mode == LK_PERMIT && g->info.mode == LK_PERMIT)
		{
			if (only != NULL && only != g->owner)
				return;
			only = g->owner;
		}
		else if (g->owner != w->owner && modes_conflict(wait->mode, g->info.mode))
			add_owner(search, w, wait, g->owner);
	}
	if (only != NULL)
		add_owner(search, w, wait, only);
}

static void
add_those_ahead(Search *search, LkWaiter *w, LkWait *wait)
{
	for (Link *at = wait->by_key.prev; at != &wait->key->waits; at = at->prev)
	{
		LkWait	   *other = container(LkWait, by_key, at);

		if (other->waiter->suspended || other->waiter->owner == w->owner ||
			!modes_conflict(wait->mode, other->mode))
			continue;
		add_edge(search, w, wait, other->waiter);
		if (other->mode != LK_SHARED)
			return;
	}
}

/* Breadth first, so that the cycle is as short as there is one. */
static bool
is_in_cycle(LkState *ls, LkWaiter *start)
{
	Search		search = {ls, start, NULL, NULL, false};
	LkWaiter   *w = start;

	ls->visit++;
	start->visit = ls->visit;
	start->visit_next = NULL;
	for (;;)
	{
		for (uint32_t i = 0; i < w->nwaits && !search.found; i++)
		{
			add_holders(&search, w, &w->waits[i]);
			add_those_ahead(&search, w, &w->waits[i]);
		}
		if (search.found)
			return true;
		w = search.head;
		if (w == NULL)
			return false;
		search.head = w->visit_next;
		if (search.head == NULL)
			search.tail = NULL;
	}
}

/* A key as people write it; at most KEY_SHOWN bytes of it. */
static void
show_key(const LkKey *key, char *out, size_t size)
{
	size_t		n = key->len;

	if (key->type == LK_KEY_BIGINT)
	{
		snprintf(out, size, "%" PRId64, lk_bigint_value(key->key));
		return;
	}
	if (n > KEY_SHOWN)
	{
		n = KEY_SHOWN;
		/* not in the middle of a character */
		while (n > 0 && ((uint8_t) key->key[n] & 0xc0) == 0x80)
			n--;
	}
	snprintf(out, size, "\"%.*s%s\"", (int) n, key->key, n < key->len ? "..." : "");
}

/* Cuts off where there is no more room, between two of them. */
static void
describe_cycle(LkWaiter *start, LkNodeNameFn node_name, void *arg, char *message, size_t size)
{
	LkWaiter   *path[PATH_SHOWN];
	size_t		n = 0;
	size_t		used = 0;

	/* parents lead backwards: from the start to who waits for it, and so on */
	for (LkWaiter *w = start->parent;; w = w->parent)
	{
		if (n < PATH_SHOWN)
			path[n] = w;
		n++;
		if (w == start)
			break;
	}
	message[0] = '\0';
	for (size_t i = 0; i < n; i++)
	{
		/* path[n - 1] is the start: it waits for path[n - 2], and so on */
		LkWaiter   *w = n - 1 - i < PATH_SHOWN ? path[n - 1 - i] : NULL;
		LkWaiter   *next = i + 1 < n ? (n - 2 - i < PATH_SHOWN ? path[n - 2 - i] : NULL) : start;
		char		key[KEY_SHOWN + 8];
		char		line[256];
		int			len;

		if (w == NULL || next == NULL)
			continue;
		show_key(next->parent_wait->key, key, sizeof(key));
		len = snprintf(line, sizeof(line), "%sprocess %u on %s waits for %s lock %s%s",
					   used > 0 ? "; " : "", w->asked_by.pid, node_name(arg, w->asked_by.node),
					   lk_mode_name(next->parent_wait->mode), key,
					   w->asked_by.kind == LK_OWNER_LEASE ? " for a lease" : "");
		if (len < 0 || used + (size_t) len + 5 > size)
		{
			if (used + 5 <= size)
				snprintf(message + used, size - used, " ...");
			return;
		}
		memcpy(message + used, line, (size_t) len + 1);
		used += (size_t) len;
	}
}

static LkWaiter *
youngest_in_cycle(LkWaiter *start)
{
	LkWaiter   *youngest = start;

	for (LkWaiter *w = start->parent; w != start; w = w->parent)
		if (w->since_us > youngest->since_us ||
			(w->since_us == youngest->since_us && w->token.counter > youngest->token.counter))
			youngest = w;
	return youngest;
}

void *
lk_take_deadlocked(LkState *ls, int64_t now_us, LkNodeNameFn node_name, void *arg,
				   RaftToken *token, uint32_t *from, char *message, size_t size)
{
	if (now_us < ls->check_us)
		return NULL;
	ls->check_us = INT64_MAX;
	for each_link(at, &ls->waiters)
	{
		LkWaiter   *w = container(LkWaiter, link, at);

		if (w->check_us <= now_us)
		{
			w->check_interval_us = 2 * w->check_interval_us < CHECK_MAX_US ?
				2 * w->check_interval_us : CHECK_MAX_US;
			if (is_in_cycle(ls, w))
			{
				LkWaiter   *victim = youngest_in_cycle(w);

				describe_cycle(w, node_name, arg, message, size);
				*token = victim->token;
				*from = victim->from;
				ls->check_us = now_us;	/* there may be more */
				return remove_waiter(ls, victim);
			}
			w->check_us = now_us + w->check_interval_us;
		}
		if (w->check_us < ls->check_us)
			ls->check_us = w->check_us;
	}
	return NULL;
}

int64_t
lk_deadlock_check_us(const LkState *ls)
{
	return ls->check_us;
}
