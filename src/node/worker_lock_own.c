/*-------------------------------------------------------------------------
 *
 * worker_lock_own.c
 *		The lock service for this member's own sessions: what they leave behind is
 *		withdrawn or released, their server lease is renewed, the queue is shown.
 *
 * Nothing here is a list of things to do that could be lost. What is to be
 * released follows from what the log says is held, compared with who is
 * there (lock_internal.h):
 *	- a session of this start that is in no place of the session table is gone;
 *	- a start before this one is gone;
 *	- a grant whose request is on its session's list of forsaken ones, or whose
 *	  session did not wait any more when it was committed, is an orphan;
 *	- a drop is at work until its entry is committed.
 * Each leads to a proposal of this worker's own, which is pursued like any other
 * until it is in the log. If it is lost (the worker stops, or is started anew), the
 * comparison brings it about again; the second release of a thing is refused. An
 * orphan's release has a token derived from its request's, so that it counts once
 * also where a lease holds the same grant several times.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/proc.h"
#include "utils/memutils.h"

#include "node/worker_lock.h"

#define DROPS_AT_ONCE	64
#define ORPHAN_BIT		UINT64CONST(0x8000000000000000)	/* of a token's counter */
#define RENEW_RETRY_US	INT64CONST(100000)
#define TOLD_RETRY_US	INT64CONST(5000)
#define LEASE_RETRY_US	INT64CONST(300000)
#define LEASE_PATIENCE_US INT64CONST(60000000)

/* A session renews a lease. */
typedef struct LeaseRenewal
{
	dlist_node	link;
	int			procno;
	RaftToken	slot_token;
	uint8		lease[LK_UUID_LEN];
	uint64		id;				/* of the newest message; 0: none sent */
	int64		sent_us;
	int64		deadline_us;
} LeaseRenewal;

static bool redo_drops = false;

/* ---------- proposals of our own ---------- */

static LockOwn *
propose_own(Worker *w, LockOwnKind kind, RaftToken token, const LkRecord *rec,
			const LkItem *items, int ndrops)
{
	LockOwn    *own = calloc(1, offsetof(LockOwn, drops) + sizeof(dsa_pointer) * ndrops);
	Size		bound = lk_write_bound(rec, items);
	RaftBuf    *buf = raft_buf_new(NULL, bound);
	Pending    *p;

	if (own == NULL || buf == NULL)
		lock_out_of_memory();
	buf->len = (uint32_t) lk_write(buf->data, bound, rec, items);
	Assert(buf->len > 0);
	own->kind = kind;
	own->ndrops = ndrops;
	dlist_push_tail(&locks.own, &own->link);
	p = pending_add(w, -1, token, buf);
	p->own = own;
	return own;
}

static bool
is_proposed(LockOwnKind kind, uint64 session)
{
	dlist_iter	iter;

	dlist_foreach(iter, &locks.own)
	{
		LockOwn    *own = dlist_container(LockOwn, link, iter.cur);

		if (own->kind == kind && own->session == session)
			return true;
	}
	return false;
}

/* ---------- drops ---------- */

static inline LockDrop *
drop_at(dsa_pointer dp)
{
	return dsa_get_address(node_dsa(), dp);
}

static void
put_to_work(dsa_pointer dp)
{
	LockDrop   *drop = drop_at(dp);

	drop->prev = InvalidDsaPointer;
	drop->next = lock_shared->at_work;
	if (DsaPointerIsValid(drop->next))
		drop_at(drop->next)->prev = dp;
	lock_shared->at_work = dp;
	drop->in_flight = false;
}

static void
finish_drop(dsa_pointer dp, uint64 index)
{
	LockDrop   *drop = drop_at(dp);

	if (DsaPointerIsValid(drop->next))
		drop_at(drop->next)->prev = drop->prev;
	if (DsaPointerIsValid(drop->prev))
		drop_at(drop->prev)->next = drop->next;
	else
		lock_shared->at_work = drop->next;
	drop->index = index;
	pg_write_barrier();
	pg_atomic_write_u32(&drop->done, 1);
	pg_memory_barrier();
	node_wake_proc(drop->procno + 1);
	lock_drop_finished(dp);
}

/* One entry for these. */
static void
propose_drops(Worker *w, const dsa_pointer *drops, int n)
{
	LkItem		items[DROPS_AT_ONCE];
	LkRecord	rec = {.op = LK_OP_RELEASE, .reason = LK_RELEASED};
	LockOwn    *own;

	memset(items, 0, sizeof(items));
	for (int i = 0; i < n; i++)
	{
		LockDrop   *drop = drop_at(drops[i]);

		items[i].key_type = drop->key_type;
		items[i].key = drop->key;
		items[i].len = drop->len;
		items[i].token = drop->token;
		items[i].whole = true;
		drop->in_flight = true;
	}
	rec.nitems = (uint16_t) n;
	own = propose_own(w, LOCK_OWN_DROPS, lock_fresh_token(w), &rec, items, n);
	memcpy(own->drops, drops, sizeof(dsa_pointer) * n);
}

static void
take_drops(Worker *w)
{
	dsa_pointer batch[DROPS_AT_ONCE];
	int			n = 0;
	dsa_pointer at;

	if (pg_atomic_read_u64(&lock_shared->drops) != InvalidDsaPointer)
	{
		at = (dsa_pointer) pg_atomic_exchange_u64(&lock_shared->drops, InvalidDsaPointer);
		pg_read_barrier();
		while (DsaPointerIsValid(at))
		{
			dsa_pointer next = drop_at(at)->next;

			put_to_work(at);
			at = next;
		}
		redo_drops = true;
	}
	if (!redo_drops || w->state != WORKER_RUNNING)
		return;
	redo_drops = false;

	/* what is not in flight is at the list's beginning, but after a failure */
	for (at = lock_shared->at_work; DsaPointerIsValid(at); at = drop_at(at)->next)
	{
		if (drop_at(at)->in_flight)
			continue;
		batch[n++] = at;
		if (n == DROPS_AT_ONCE)
		{
			propose_drops(w, batch, n);
			n = 0;
		}
	}
	if (n > 0)
		propose_drops(w, batch, n);
}

/* ---------- what sessions have forsaken ---------- */

static void
clear_place(pg_atomic_uint64 *place)
{
	pg_atomic_write_u64(place, 0);
	pg_atomic_fetch_sub_u32(&lock_shared->forsaken, 1);
}

static void
clear_forsaken(uint64 counter)
{
	if (pg_atomic_read_u32(&lock_shared->forsaken) == 0)
		return;
	for (int i = 0; i < MaxBackends; i++)
		for (int k = 0; k < LOCK_FORSAKEN; k++)
			if (pg_atomic_read_u64(&lock_shared->sessions[i].forsaken[k]) == counter)
				clear_place(&lock_shared->sessions[i].forsaken[k]);
}

/* A session counts after it has set its place, and calls for attention after that. */
static bool
is_forsaken(uint64 counter)
{
	if (pg_atomic_read_u32(&lock_shared->forsaken) == 0)
		return false;
	for (int i = 0; i < MaxBackends; i++)
		for (int k = 0; k < LOCK_FORSAKEN; k++)
			if (pg_atomic_read_u64(&lock_shared->sessions[i].forsaken[k]) == counter)
				return true;
	return false;
}

static void
propose_orphan(Worker *w, RaftToken request, const LkItem *items, uint16 nitems)
{
	LkRecord	rec = {.op = LK_OP_RELEASE, .reason = LK_GIVEN_UP, .nitems = nitems};
	RaftToken	token = request;
	LockOwn    *own;

	token.counter |= ORPHAN_BIT;
	if (pending_find(w, token) != NULL)
		return;
	own = propose_own(w, LOCK_OWN_ORPHAN, token, &rec, items, 0);
	own->request = request;
}

/* Its entry is committed, and nobody waited for it: the grant is released. */
void
lock_orphan(Worker *w, Pending *p, uint64 index)
{
	LkReader	rd;
	LkItem	   *items;

	if (p->lock_op != LK_OP_GRANT)
		return;
	locks.look_at_grants = true;	/* a stub of a former worker's: by the state */
	if (!lk_read_open(&rd, p->data->data, p->data->len))
		return;
	items = malloc(sizeof(LkItem) * rd.rec.nitems);
	if (items == NULL)
		lock_out_of_memory();
	for (int i = 0; i < rd.rec.nitems; i++)
	{
		(void) lk_read_item(&rd, &items[i]);
		items[i].token = p->lock_token != 0 ? p->lock_token : index;
		items[i].whole = false;
	}
	propose_orphan(w, p->token, items, rd.rec.nitems);
	free(items);
}

typedef struct FindGrant
{
	RaftToken	request;
	LkItem	   *items;
	int			n;
	int			cap;
} FindGrant;

static void
find_by_request(void *arg, const LkGrantInfo *grant)
{
	FindGrant  *find = arg;

	if (!raft_token_equal(grant->request, find->request))
		return;
	if (find->n == find->cap)
	{
		find->cap = Max(16, 2 * find->cap);
		find->items = realloc(find->items, sizeof(LkItem) * find->cap);
		if (find->items == NULL)
			lock_out_of_memory();
	}
	memset(&find->items[find->n], 0, sizeof(LkItem));
	find->items[find->n].key_type = grant->key_type;
	find->items[find->n].key = grant->key;
	find->items[find->n].len = grant->len;
	find->items[find->n].token = grant->token;
	find->n++;
}

/* Requests that were left and are not pursued (any more): granted, or nothing? */
static void
look_at_forsaken(Worker *w)
{
	FindGrant	find = {0};

	find.request.node = w->id;
	find.request.boot = pg_atomic_read_u32(&node_shared->boot);
	for (int i = 0; i < MaxBackends; i++)
		for (int k = 0; k < LOCK_FORSAKEN; k++)
		{
			RaftToken	release = find.request;

			find.request.counter = pg_atomic_read_u64(&lock_shared->sessions[i].forsaken[k]);
			if (find.request.counter == 0)
				continue;
			release.counter = find.request.counter | ORPHAN_BIT;
			if (pending_find(w, find.request) != NULL || pending_find(w, release) != NULL)
				continue;
			find.n = 0;
			lk_each_grant(locks.ls, find_by_request, &find);
			if (find.n > 0)
				propose_orphan(w, find.request, find.items, (uint16) Min(find.n, LK_MAX_ITEMS));
			else
				clear_place(&lock_shared->sessions[i].forsaken[k]);
		}
	free(find.items);
}

/* Withdrawn for good, or known nowhere: nothing comes of it any more. */
void
lock_withdrawn(Worker *w, Pending *p)
{
	if (locks.leading)
	{
		RaftBuf    *data = lk_withdraw(locks.ls, p->token);

		raft_buf_unref(data);
	}
	/* a stub may stand for a grant that is older than the tokens in memory */
	if (p->data->len == 0)
		locks.look_at_grants = true;
	else
		clear_forsaken(p->token.counter);
}

static void
withdraw_left(Worker *w, dlist_head *list)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, list)
	{
		Pending    *p = dlist_container(Pending, link, iter.cur);
		NodeSlot   *slot;
		bool		waits;

		if (p->lock_op != LK_OP_GRANT || p->procno < 0 || p->withdrawn)
			continue;
		slot = &node_shared->slots[p->procno];
		SpinLockAcquire(&slot->mutex);
		waits = slot->state == SLOT_TAKEN && raft_token_equal(slot->token, p->token);
		SpinLockRelease(&slot->mutex);
		if (!waits)
			propose_withdraw(w, p);
	}
}

static void
look_who_left(Worker *w)
{
	if (pg_atomic_read_u32(&lock_shared->attention) == 0)
		return;
	pg_atomic_exchange_u32(&lock_shared->attention, 0);
	withdraw_left(w, &w->parked);
	withdraw_left(w, &w->sent);
	withdraw_left(w, &w->queued);
	locks.look_at_sessions = true;
	locks.look_at_grants = true;
	locks.publish_wanted = true;
}

/* ---------- sessions that are gone ---------- */

typedef struct Present
{
	Worker	   *w;
	uint32		boot;
	uint64	   *numbers;		/* sorted */
	int			n;
} Present;

static int
compare_numbers(const void *a, const void *b)
{
	uint64		x = *(const uint64 *) a;
	uint64		y = *(const uint64 *) b;

	return x < y ? -1 : x > y;
}

static void
compare_session(void *arg, uint32_t boot, uint64_t session, uint32_t grants)
{
	Present    *present = arg;
	Worker	   *w = present->w;
	LkRecord	rec = {0};
	uint64		number = session;

	rec.node = w->id;
	if (boot < present->boot)
	{
		if (is_proposed(LOCK_OWN_NODE, 0))
			return;
		rec.op = LK_OP_RELEASE_NODE;
		rec.boot = present->boot;
		(void) propose_own(w, LOCK_OWN_NODE, lock_fresh_token(w), &rec, NULL, 0);
		return;
	}
	if (boot > present->boot ||
		bsearch(&number, present->numbers, present->n, sizeof(uint64), compare_numbers) != NULL ||
		is_proposed(LOCK_OWN_SESSION, session))
		return;
	rec.op = LK_OP_RELEASE_SESSION;
	rec.boot = boot;
	rec.session = session;
	rec.last_token = PG_UINT64_MAX;
	propose_own(w, LOCK_OWN_SESSION, lock_fresh_token(w), &rec, NULL, 0)->session = session;
}

static void
look_for_gone_sessions(Worker *w)
{
	static uint64 *numbers = NULL;
	Present		present = {.w = w, .boot = pg_atomic_read_u32(&node_shared->boot)};

	if (numbers == NULL)
		numbers = MemoryContextAlloc(TopMemoryContext, sizeof(uint64) * MaxBackends);
	present.numbers = numbers;
	for (int i = 0; i < MaxBackends; i++)
	{
		uint64		number = pg_atomic_read_u64(&lock_shared->sessions[i].number);

		if (number != 0)
			numbers[present.n++] = number;
	}
	qsort(numbers, present.n, sizeof(uint64), compare_numbers);
	lk_each_session(locks.ls, w->id, compare_session, &present);
}

static bool
session_is_there(uint64 session)
{
	for (int i = 0; i < MaxBackends; i++)
		if (pg_atomic_read_u64(&lock_shared->sessions[i].number) == session)
			return true;
	return false;
}

/* What an entry has done, as it was appended. */
void
lock_own_effect(Worker *w, const LkEffect *effect)
{
	const LkGrantInfo *grant = effect->grant;

	if (grant == NULL || grant->owner.node != w->id)
		return;
	if (effect->kind == LK_GRANTED)
	{
		if (grant->owner.kind == LK_OWNER_SESSION &&
			(grant->owner.boot != pg_atomic_read_u32(&node_shared->boot) ||
			 !session_is_there(grant->owner.session)))
			locks.look_at_sessions = true;
		if (is_forsaken(grant->request.counter))
			locks.look_at_grants = true;
	}
	else if (effect->kind == LK_GONE && lock_was_taken_away(effect->reason) &&
			 grant->owner.kind == LK_OWNER_SESSION)
		pg_atomic_fetch_add_u64(&lock_shared->losses, 1);
}

/* ---------- own proposals end ---------- */

/* In the log at index, and committed; or 0: there is nothing to be released. */
void
lock_own_decided(Worker *w, Pending *p, uint64 index)
{
	LockOwn    *own = p->own;

	for (int i = 0; i < own->ndrops; i++)
		finish_drop(own->drops[i], index);
	own->ndrops = 0;
	if (own->kind == LOCK_OWN_ORPHAN)
		clear_forsaken(own->request.counter);
}

void
lock_own_freed(Worker *w, Pending *p)
{
	LockOwn    *own = p->own;

	if (own == NULL)
	{
		locks.waiting--;
		locks.publish_wanted = true;
		return;
	}
	/* not decided: it is to be had again */
	for (int i = 0; i < own->ndrops; i++)
		drop_at(own->drops[i])->in_flight = false;
	redo_drops |= own->ndrops > 0;
	if (own->kind == LOCK_OWN_ORPHAN)
		locks.look_at_grants = true;
	else if (own->kind != LOCK_OWN_DROPS)
		locks.look_at_sessions = true;
	dlist_delete(&own->link);
	free(own);
}

void
lock_request_taken(Worker *w, Pending *p)
{
	locks.waiting++;
	locks.publish_wanted = true;
}

/* ---------- the server lease ---------- */

bool
lock_own_interest(const Worker *w)
{
	return locks.waiting > 0 || (locks.live && lk_session_grants(locks.ls, w->id) > 0);
}

/*
 * What this member counts on is the least of what the leader may go by: it knows
 * what the grants say, and the longest that was ever asked for.
 */
static uint32
lease_ms(const Worker *w)
{
	uint32		least = (uint32) quorum_lease_timeout_ms;

	if (locks.live)
		least = Min(least, lk_least_lease_ms(locks.ls, w->id));
	return least;
}

static void
renew(Worker *w)
{
	uint32		leader = raft_leader(w->raft);
	int64		every_us = (int64) quorum_lease_timeout_ms * 250;
	uint32		boot = pg_atomic_read_u32(&node_shared->boot);
	WireLock	wire;

	if (w->now_us < locks.renew_us || !lock_own_interest(w))
		return;
	if (locks.confirmed_us != 0 && w->now_us - locks.confirmed_us < every_us)
	{
		locks.renew_us = locks.confirmed_us + every_us;
		return;
	}
	locks.renew_us = w->now_us + RENEW_RETRY_US;
	if (leader == RAFT_NONE)
		return;
	locks.renew_id++;
	locks.renew_sent_us[locks.renew_id % lengthof(locks.renew_sent_us)] = w->now_us;
	locks.renew_lease_ms[locks.renew_id % lengthof(locks.renew_sent_us)] = lease_ms(w);
	if (leader == w->id)
	{
		lock_lead_renew(w, w->id, boot, (uint32) quorum_lease_timeout_ms, locks.renew_id);
		return;
	}
	memset(&wire, 0, sizeof(wire));
	wire.kind = LOCK_RENEW;
	wire.boot = boot;
	wire.lease_ms = (uint32) quorum_lease_timeout_ms;
	wire.id = locks.renew_id;
	(void) peer_send(w, leader, WIRE_LOCK, &wire, sizeof(wire));
}

/*
 * A word that counts: sessions look for their grants in the tables, and what was
 * lost before the renewal is not there any more.
 */
static void
publish_safe_time(void)
{
	if (locks.told_until_us == 0 || node_applied_index() < locks.told_index)
		return;
	pg_atomic_write_u64(&lock_shared->safe_until_us, (uint64) locks.told_until_us);
	locks.told_until_us = 0;
}

/* Confirmed by a majority. */
void
lock_own_renewed(Worker *w, uint64 id, uint64 loss_index)
{
	int			at = (int) (id % lengthof(locks.renew_sent_us));

	if (id == 0 || id > locks.renew_id || locks.renew_id - id >= lengthof(locks.renew_sent_us) ||
		locks.renew_sent_us[at] < locks.confirmed_us)
		return;
	locks.confirmed_us = locks.renew_sent_us[at];
	locks.renew_us = locks.confirmed_us + (int64) quorum_lease_timeout_ms * 250;
	locks.told_until_us = locks.confirmed_us + (int64) locks.renew_lease_ms[at] * 1000;
	locks.told_index = loss_index;
	publish_safe_time();
}

/* ---------- leases of sessions ---------- */

void
lock_renewal_begin(Worker *w, int procno, RaftToken slot_token, const char *data, Size len)
{
	LeaseRenewal *r = calloc(1, sizeof(LeaseRenewal));

	if (r == NULL || len != LK_UUID_LEN)
	{
		NodeAnswer	answer = {.verdict = NODE_UNAVAILABLE};

		free(r);
		node_answer_slot(procno, slot_token, &answer, 0);
		return;
	}
	r->procno = procno;
	r->slot_token = slot_token;
	memcpy(r->lease, data, LK_UUID_LEN);
	r->deadline_us = w->now_us + LEASE_PATIENCE_US;
	dlist_push_tail(&locks.renewals, &r->link);
}

static void
end_renewal(LeaseRenewal *r, NodeVerdict verdict, int64 left_us)
{
	NodeAnswer	answer = {.verdict = verdict, .index = (uint64) left_us};

	node_answer_slot(r->procno, r->slot_token, &answer, 0);
	dlist_delete(&r->link);
	free(r);
}

void
lock_own_lease_renewed(Worker *w, uint64 id, uint32 ttl_ms)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &locks.renewals)
	{
		LeaseRenewal *r = dlist_container(LeaseRenewal, link, iter.cur);

		if (r->id != id)
			continue;
		if (ttl_ms == 0)
			end_renewal(r, NODE_REFUSED, 0);
		else
			end_renewal(r, NODE_COMMITTED,
						Max(r->sent_us + (int64) ttl_ms * 1000 - node_monotonic_us(), 0));
		return;
	}
}

static void
send_renewals(Worker *w)
{
	dlist_mutable_iter iter;
	uint32		leader = w->raft != NULL ? raft_leader(w->raft) : RAFT_NONE;

	dlist_foreach_modify(iter, &locks.renewals)
	{
		LeaseRenewal *r = dlist_container(LeaseRenewal, link, iter.cur);

		if (w->now_us >= r->deadline_us)
		{
			end_renewal(r, NODE_UNAVAILABLE, 0);
			continue;
		}
		if (leader == RAFT_NONE || (r->id != 0 && w->now_us - r->sent_us < LEASE_RETRY_US))
			continue;
		r->id = ++locks.renewal_id;
		r->sent_us = w->now_us;
		if (leader == w->id)
			lock_lead_lease_renew(w, w->id, r->lease, r->id);
		else
		{
			WireLock	wire;

			memset(&wire, 0, sizeof(wire));
			wire.kind = LOCK_LEASE_RENEW;
			wire.id = r->id;
			memcpy(wire.lease, r->lease, LK_UUID_LEN);
			(void) peer_send(w, leader, WIRE_LOCK, &wire, sizeof(wire));
		}
	}
}

/* ---------- what the leader says ---------- */

void
lock_own_message(Worker *w, uint32 from, const WireLock *wire, const uint8 *rest, Size len)
{
	char	   *copy;

	switch ((WireLockKind) wire->kind)
	{
		case LOCK_RENEWED:
			lock_own_renewed(w, wire->id, wire->term);
			return;
		case LOCK_LEASE_RENEWED:
			lock_own_lease_renewed(w, wire->id, wire->lease_ms);
			return;
		case LOCK_QUEUE:
			break;
		default:
			return;
	}
	if (from != raft_leader(w->raft) || !lock_queue_is_sound((const char *) rest, len) ||
		(copy = malloc(len)) == NULL)
		return;
	memcpy(copy, rest, len);
	free(locks.queue);
	locks.queue = copy;
	locks.queue_len = len;
	locks.queue_us = w->now_us;
	locks.publish_wanted = true;
}

/* ---------- in each turn ---------- */

/* A worker that was started anew takes up what its predecessor had begun. */
void
lock_own_start(Worker *w)
{
	RaftToken	token = {0};

	token.node = pg_atomic_read_u32(&node_shared->id);
	token.boot = pg_atomic_read_u32(&node_shared->boot);
	for (dsa_pointer at = lock_shared->at_work; DsaPointerIsValid(at); at = drop_at(at)->next)
		drop_at(at)->in_flight = false;
	redo_drops = true;
	for (int i = 0; i < MaxBackends && token.boot != 0; i++)
		for (int k = 0; k < LOCK_FORSAKEN; k++)
		{
			RaftBuf    *buf;
			Pending    *p;

			token.counter = pg_atomic_read_u64(&lock_shared->sessions[i].forsaken[k]);
			if (token.counter == 0 || pending_find(w, token) != NULL)
				continue;
			buf = raft_buf_new(NULL, 0);
			if (buf == NULL)
				lock_out_of_memory();
			p = pending_add(w, -1, token, buf);
			p->lock_op = LK_OP_GRANT;
			p->withdrawn = true;
			p->exposed = true;
			lock_request_taken(w, p);
		}
}

void
lock_own_live(Worker *w)
{
	locks.look_at_sessions = true;
	locks.look_at_grants = true;
}

void
lock_own_begin(Worker *w)
{
	look_who_left(w);
	take_drops(w);
	if (!locks.live)
		return;
	if (locks.look_at_sessions)
	{
		locks.look_at_sessions = false;
		look_for_gone_sessions(w);
	}
	if (locks.look_at_grants)
	{
		locks.look_at_grants = false;
		look_at_forsaken(w);
	}
}

void
lock_own_end(Worker *w)
{
	publish_safe_time();
	renew(w);
	send_renewals(w);
	lock_queue_publish(w);
}

int64
lock_own_deadline(const Worker *w)
{
	int64		deadline_us = INT64_MAX;

	if (lock_own_interest(w))
		deadline_us = locks.renew_us;
	if (locks.publish_wanted || locks.waiting > 0)
		deadline_us = Min(deadline_us, locks.publish_us);
	if (locks.told_until_us != 0)
		deadline_us = Min(deadline_us, w->now_us + TOLD_RETRY_US);
	if (!dlist_is_empty(&locks.renewals))
		deadline_us = Min(deadline_us, w->now_us + LEASE_RETRY_US);
	if (locks.live && (locks.look_at_sessions || locks.look_at_grants))
		deadline_us = w->now_us;
	return deadline_us;
}
