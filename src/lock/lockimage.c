/*-------------------------------------------------------------------------
 *
 * lockimage.c
 *		Grants and leases from tables and from another process; questions; the
 *		check of invariants that the tests use.
 *
 * The image is read by a process of the same build on the same machine, but it
 * comes through shared memory: lengths are checked all the same.
 *
 *-------------------------------------------------------------------------
 */
#include <stdlib.h>
#include <string.h>

#include "lock/lockstate_internal.h"

#define IMAGE_MAGIC 0x4c6b4931u

typedef struct ImageHead
{
	uint32_t	magic;
	uint32_t	nleases;
	uint32_t	ngrants;
	uint32_t	unused;
} ImageHead;

/* ---------- from tables ---------- */

bool
lk_restore_lease(LkState *ls, const LkLeaseInfo *lease)
{
	LkLeaseInfo there;

	return !lk_find_lease(ls, lease->id, &there) && lks_add_lease(ls, lease, 0, NULL);
}

bool
lk_restore_grant(LkState *ls, const LkGrantInfo *grant)
{
	LkKey	   *key = lks_find_key(ls, grant->key_type, grant->key, grant->len);

	if (key != NULL && lks_find_grant(key, grant->token) != NULL)
		return false;
	return lks_add_grant(ls, grant, 0, NULL);
}

/* ---------- to and from another process ---------- */

uint8_t *
lk_dump(const LkState *ls, size_t *len)
{
	size_t		size = sizeof(ImageHead) + ls->nleases * sizeof(LkLeaseInfo);
	ImageHead	head = {IMAGE_MAGIC, ls->nleases, ls->ngrants, 0};
	uint8_t    *image;
	uint8_t    *at;

	for (uint32_t i = 0; i <= ls->owner_mask; i++)
		for (const LkOwnerRec *owner = ls->owners[i]; owner != NULL; owner = owner->chain)
			for each_link(l, &owner->grants)
				size += sizeof(LkGrantInfo) + container(LkGrant, by_owner, l)->key->len;
	image = at = malloc(size);
	if (image == NULL)
		return NULL;
	memcpy(at, &head, sizeof(head));
	at += sizeof(head);
	for each_link(l, &ls->leases)
	{
		memcpy(at, &container(LkLease, link, l)->info, sizeof(LkLeaseInfo));
		at += sizeof(LkLeaseInfo);
	}
	for (uint32_t i = 0; i <= ls->owner_mask; i++)
		for (const LkOwnerRec *owner = ls->owners[i]; owner != NULL; owner = owner->chain)
			for each_link(l, &owner->grants)
			{
				LkGrantInfo info;

				lks_fill(container(LkGrant, by_owner, l), &info);
				memcpy(at, &info, sizeof(info));
				at += sizeof(info);
				memcpy(at, info.key, info.len);
				at += info.len;
			}
	*len = size;
	return image;
}

bool
lk_load(LkState *ls, const void *image, size_t len, int64_t now_us)
{
	const uint8_t *at = image;
	const uint8_t *end = at + len;
	ImageHead	head;

	if (len < sizeof(head))
		return false;
	memcpy(&head, at, sizeof(head));
	at += sizeof(head);
	if (head.magic != IMAGE_MAGIC)
		return false;
	for (uint32_t i = 0; i < head.nleases; i++)
	{
		LkLeaseInfo info;

		if ((size_t) (end - at) < sizeof(info))
			return false;
		memcpy(&info, at, sizeof(info));
		at += sizeof(info);
		if (!lks_add_lease(ls, &info, now_us, NULL))
			return false;
	}
	for (uint32_t i = 0; i < head.ngrants; i++)
	{
		LkGrantInfo info;

		if ((size_t) (end - at) < sizeof(info))
			return false;
		memcpy(&info, at, sizeof(info));
		at += sizeof(info);
		if ((size_t) (end - at) < info.len)
			return false;
		info.key = (const char *) at;
		at += info.len;
		if (!lks_add_grant(ls, &info, now_us, NULL))
			return false;
	}
	return at == end;
}

/* ---------- questions ---------- */

void
lk_each_grant(const LkState *ls, LkGrantFn fn, void *arg)
{
	for (uint32_t i = 0; i <= ls->owner_mask; i++)
		for (const LkOwnerRec *owner = ls->owners[i]; owner != NULL; owner = owner->chain)
			for each_link(l, &owner->grants)
			{
				LkGrantInfo info;

				lks_fill(container(LkGrant, by_owner, l), &info);
				fn(arg, &info);
			}
}

void
lk_each_lease(const LkState *ls, LkLeaseFn fn, void *arg)
{
	for each_link(l, &ls->leases)
		fn(arg, &container(LkLease, link, l)->info);
}

bool
lk_find_grant(const LkState *ls, uint8_t key_type, const char *key, size_t len,
			  uint64_t token, LkGrantInfo *grant)
{
	LkKey	   *k = lks_find_key(ls, key_type, key, len);
	LkGrant    *g = k ? lks_find_grant(k, token) : NULL;

	if (g == NULL)
		return false;
	lks_fill(g, grant);
	return true;
}

bool
lk_find_held(const LkState *ls, const LkOwner *owner, uint8_t key_type,
			 const char *key, size_t len, uint8_t mode, LkGrantInfo *grant)
{
	LkOwnerRec *rec = lks_find_owner(ls, owner);
	LkKey	   *k = lks_find_key(ls, key_type, key, len);
	LkGrant    *g = rec && k ? lks_find_held(rec, k, mode) : NULL;

	if (g == NULL)
		return false;
	lks_fill(g, grant);
	return true;
}

void
lk_each_session(const LkState *ls, uint32_t node, LkSessionFn fn, void *arg)
{
	for each_link(at, &ls->nodes)
	{
		const LkNode *n = container(LkNode, link, at);

		if (n->node != node)
			continue;
		for each_link(o, &n->owners)
		{
			const LkOwnerRec *owner = container(LkOwnerRec, by_node, o);

			fn(arg, n->boot, owner->id.session, owner->ngrants);
		}
	}
}

uint32_t
lk_session_grants(const LkState *ls, uint32_t node)
{
	uint32_t	grants = 0;

	for each_link(at, &ls->nodes)
	{
		const LkNode *n = container(LkNode, link, at);

		if (n->node == node)
			grants += n->grants;
	}
	return grants;
}

uint32_t
lk_least_lease_ms(const LkState *ls, uint32_t node)
{
	uint32_t	least = UINT32_MAX;

	for each_link(at, &ls->nodes)
	{
		const LkNode *n = container(LkNode, link, at);

		if (n->node == node && n->least_lease_ms < least)
			least = n->least_lease_ms;
	}
	return least;
}

bool
lk_holds_from_before(const LkState *ls, uint32_t node, uint32_t boot)
{
	for each_link(at, &ls->nodes)
	{
		const LkNode *n = container(LkNode, link, at);

		if (n->node == node && n->boot < boot)
			return true;
	}
	return false;
}

void
lk_counts(const LkState *ls, LkCounts *counts)
{
	memset(counts, 0, sizeof(*counts));
	counts->grants = ls->ngrants;
	counts->leases = ls->nleases;
	counts->keys = ls->nkeys;
	counts->owners = ls->nowners;
	for each_link(at, &ls->nodes)
		counts->nodes++;
	counts->waiters = ls->nwaiters;
	counts->journal = (uint32_t) (ls->undo_end - ls->undo_start);
}

/* ---------- invariants ---------- */

static const char *
check_key(const LkKey *key)
{
	uint32_t	refs = 0;
	bool		exclusive = false;
	bool		permits = false;
	bool		shared = false;
	const LkOwner *first = NULL;
	bool		several = false;

	for each_link(at, &key->holders)
	{
		const LkGrant *g = container(LkGrant, by_key, at);

		refs++;
		exclusive |= g->info.mode == LK_EXCLUSIVE;
		shared |= g->info.mode == LK_SHARED;
		permits |= g->info.mode == LK_PERMIT;
		if (g->key != key)
			return "a grant in the list of another key";
		if (g->info.count == 0)
			return "a grant that is held no times";
		if (first == NULL)
			first = &g->info.owner;
		else if (!lk_owner_equal(first, &g->info.owner))
			several = true;
		for each_link(other, &key->holders)
			if (other != at && container(LkGrant, by_key, other)->info.token == g->info.token)
				return "two grants of one key with the same token";
	}
	if (several && (exclusive || (permits && shared)))
		return "owners that exclude each other";
	for each_link(at, &key->waits)
		refs++;
	if (!link_alone(&key->delayed))
		refs++;
	if (refs > key->refs)
		return "a key with too few references";
	return NULL;
}

const char *
lk_check(const LkState *ls)
{
	uint32_t	keys = 0,
				owners = 0,
				grants = 0,
				waiters = 0,
				node_grants = 0,
				session_grants = 0;

	for (uint32_t i = 0; i <= ls->key_mask; i++)
		for (const LkKey *key = ls->keys[i]; key != NULL; key = key->chain)
		{
			const char *wrong = check_key(key);

			if (wrong != NULL)
				return wrong;
			if (key->refs == 0)
				return "a key that nobody refers to";
			if (link_alone(&key->waits) != link_alone(&key->waited))
				return "a key that is waited for and not listed so, or the other way round";
			keys++;
		}
	for (uint32_t i = 0; i <= ls->owner_mask; i++)
		for (const LkOwnerRec *owner = ls->owners[i]; owner != NULL; owner = owner->chain)
		{
			uint32_t	n = 0;

			owners++;
			for each_link(at, &owner->grants)
			{
				if (container(LkGrant, by_owner, at)->owner != owner)
					return "a grant in the list of another owner";
				n++;
			}
			if (n != owner->ngrants)
				return "an owner with a wrong count of grants";
			if (owner->id.kind == LK_OWNER_LEASE && n > 0 && owner->lease == NULL)
				return "a lease that is closed holds something";
			if (owner->id.kind == LK_OWNER_SESSION)
				session_grants += n;
			if ((owner->node != NULL) != (owner->id.kind == LK_OWNER_SESSION && n > 0))
				return "a session that is in no node, or the other way round";
			grants += n;
		}
	for each_link(at, &ls->nodes)
	{
		if (container(LkNode, link, at)->grants == 0)
			return "a node that holds nothing";
		node_grants += container(LkNode, link, at)->grants;
	}
	for each_link(at, &ls->waiters)
	{
		const LkWaiter *w = container(LkWaiter, link, at);

		waiters++;
		if (lks_find_waiter(ls, w->token) != w)
			return "a waiter that cannot be found";
		if (at->next != &ls->waiters &&
			container(LkWaiter, link, at->next)->since_us < w->since_us)
			return "waiters out of order";
	}
	if (keys != ls->nkeys || owners != ls->nowners || grants != ls->ngrants ||
		waiters != ls->nwaiters || node_grants != session_grants)
		return "a wrong count";
	if (ls->ngrants == 0 && ls->nwaiters == 0 && ls->nleases == 0 &&
		ls->undo_start == ls->undo_end && link_alone(&ls->delayed) &&
		(ls->nkeys > 0 || ls->nowners > 0))
		return "something is left behind";
	return NULL;
}
