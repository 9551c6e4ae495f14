/*-------------------------------------------------------------------------
 *
 * entries.c
 *		Lock entries for the tests.
 *
 *-------------------------------------------------------------------------
 */
#include "harness.h"

uint64_t	rng_state = 1;

uint32_t
rnd(uint32_t below)
{
	uint64_t	z = (rng_state += UINT64_C(0x9e3779b97f4a7c15));

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return (uint32_t) ((z ^ (z >> 31)) % below);
}

LkOwner
session_owner(uint32_t node, uint32_t boot, uint64_t session)
{
	LkOwner		owner;

	memset(&owner, 0, sizeof(owner));
	owner.kind = LK_OWNER_SESSION;
	owner.node = node;
	owner.boot = boot;
	owner.session = session;
	owner.pid = (uint32_t) (1000 * node + session);
	return owner;
}

LkOwner
lease_owner(uint8_t lease, uint32_t node, uint64_t session)
{
	LkOwner		owner = session_owner(node, 1, session);

	owner.kind = LK_OWNER_LEASE;
	memset(owner.lease, lease, LK_UUID_LEN);
	return owner;
}

LkItem
item_of(const char *key, LkMode mode)
{
	LkItem		item;

	memset(&item, 0, sizeof(item));
	item.key_type = LK_KEY_TEXT;
	item.mode = (uint8_t) mode;
	item.key = key;
	item.len = (uint16_t) strlen(key);
	if (mode == LK_PERMIT)
	{
		item.weight = 1;
		item.limit = 3;
	}
	return item;
}

void
make(Payload *p, const LkRecord *rec, const LkItem *items)
{
	p->len = lk_write(p->data, sizeof(p->data), rec, items);
	MUST(p->len > 0, "op %c", rec->op);
}

void
make_grant(Payload *p, LkOwner owner, const char *key, LkMode mode, bool is_try)
{
	LkRecord	rec = {.op = LK_OP_GRANT, .owner = owner, .nitems = 1, .deadlock_ms = 1000,
	.lease_ms = 10000, .flags = is_try ? LK_TRY : 0};
	LkItem		item = item_of(key, mode);

	make(p, &rec, &item);
}

void
make_release(Payload *p, const char *key, uint64_t token, bool whole)
{
	LkRecord	rec = {.op = LK_OP_RELEASE, .reason = LK_RELEASED, .nitems = 1};
	LkItem		item = item_of(key, LK_EXCLUSIVE);

	item.token = token;
	item.whole = whole;
	make(p, &rec, &item);
}

void
make_lease_open(Payload *p, uint8_t lease, uint32_t ttl_ms)
{
	LkRecord	rec = {.op = LK_OP_LEASE_OPEN, .ttl_ms = ttl_ms, .node = 1, .boot = 1, .pid = 1,
	.name = "a lease", .name_len = 7};

	memset(rec.lease, lease, LK_UUID_LEN);
	make(p, &rec, NULL);
}

void
make_lease_close(Payload *p, uint8_t lease)
{
	LkRecord	rec = {.op = LK_OP_LEASE_CLOSE};

	memset(rec.lease, lease, LK_UUID_LEN);
	make(p, &rec, NULL);
}
