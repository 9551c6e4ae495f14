/*-------------------------------------------------------------------------
 *
 * worker_lock_lead.c
 *		The lock service where this member leads: parked requests are granted,
 *		deadlocks broken, what runs out is ended, renewals are confirmed, the queue
 *		is told to all.
 *
 * All of it only while the leadership is sure (worker_leads_surely): then
 * everything that may be committed is in this log, and so in the lock state.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"

#include "node/worker_lock.h"

#define LATE_US			INT64CONST(1000000)	/* the loop did not run for longer than that */
#define RETRY_US		INT64CONST(5000)
#define BROADCAST_US	INT64CONST(100000)
#define BROADCAST_LEASES_US INT64CONST(1000000)
#define BROADCAST_MAX	(Size) (64 * 1024)
#define STALE_US		INT64CONST(10000000)	/* not heard of again: its member has dropped it */
#define CONFIRM_US		INT64CONST(2000000)
#define READ_IDS		UINT64CONST(0x8000000000000000) /* of our reads (RaftRead.id) */

/* A renewal that is to be confirmed. */
typedef struct LockConfirm
{
	dlist_node	link;
	uint32		to;
	uint64		id;
	bool		server;			/* lease of a server, else one with an id */
	uint32		ttl_ms;
	uint64		loss_index;		/* server: when the renewal came in */
} LockConfirm;

/* ---------- leadership ---------- */

static void
drop_parked(void *arg, void *data)
{
	raft_buf_unref(data);
}

static void
drop_confirms(dlist_head *list)
{
	while (!dlist_is_empty(list))
	{
		LockConfirm *c = dlist_head_element(LockConfirm, link, list);

		dlist_delete(&c->link);
		free(c);
	}
}

void
lock_lead_drop(Worker *w)
{
	if (locks.leading)
	{
		lk_follow(locks.ls, drop_parked, NULL);
		pending_requeue(w);		/* ours were among them */
	}
	locks.leading = false;
	drop_confirms(&locks.confirm_next);
	drop_confirms(&locks.confirm_now);
	locks.confirm_id = 0;
}

/* Does this member lead now, and is it the same leadership as before? */
void
lock_lead_look(Worker *w)
{
	bool		leads = locks.live && worker_leads_surely(w);

	if (locks.leading && (!leads || locks.lead_term != raft_term(w->raft)))
		lock_lead_drop(w);
	if (!leads || locks.leading)
		return;
	locks.leading = true;
	locks.lead_term = raft_term(w->raft);
	lk_lead(locks.ls, w->now_us);
	for (int i = 0; i < w->npeers; i++)
		lk_member_up(locks.ls, w->peers[i].id, w->peers[i].up);
	locks.broadcast_us = 0;
	locks.broadcast_any = true; /* so that what the former leader said is taken back */
	locks.stale_us = w->now_us + STALE_US;
}

/* ---------- granting ---------- */

void
lock_grant_parked(Worker *w)
{
	RaftToken	token;
	uint32		from;
	int64		age_us;
	RaftBuf    *data;

	lock_lead_look(w);
	if (!locks.leading || w->now_us < locks.retry_us || !propose_may_append(w))
		return;
	while ((data = lk_take_grantable(locks.ls, w->now_us, &token, &from, &age_us)) != NULL)
	{
		if (lock_append_now(w, token, data->data, data->len) != JUDGED_APPENDED)
		{
			locks.retry_us = w->now_us + RETRY_US;
			if (!lk_wait(locks.ls, from, token, data->data, data->len, age_us, w->now_us, data))
				ereport(FATAL, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
			return;
		}
		raft_buf_unref(data);
	}
}

/* ---------- deadlocks ---------- */

static const char *
node_name(void *arg, uint32 node)
{
	Worker	   *w = arg;
	const RaftMember *m = raft_conf_find(raft_conf(w->raft), node);

	return m != NULL ? m->name : "an unknown server";
}

static void
break_deadlocks(Worker *w)
{
	RaftToken	token;
	uint32		from;
	NodeAnswer	answer;
	RaftBuf    *data;

	memset(&answer, 0, sizeof(answer));
	while ((data = lk_take_deadlocked(locks.ls, w->now_us, node_name, w, &token, &from,
									  answer.message, sizeof(answer.message))) != NULL)
	{
		answer.verdict = NODE_REFUSED;
		answer.conflict_key = LK_REFUSED_DEADLOCK;
		propose_refuse(w, from, locks.lead_term, token, &answer);
		raft_buf_unref(data);
	}
}

/* ---------- what runs out ---------- */

static void
expire(Worker *w)
{
	size_t		len;
	uint8_t    *entry;

	if (w->now_us < locks.retry_us || !propose_may_append(w))
		return;
	while ((entry = lk_expiry(locks.ls, w->now_us, &len)) != NULL)
	{
		RaftBuf    *buf = raft_buf_new(entry, len);
		Judgement	judgement = JUDGED_LATER;

		free(entry);
		if (buf != NULL)
			judgement = propose_append(w, lock_fresh_token(w), buf);
		raft_buf_unref(buf);
		if (judgement != JUDGED_APPENDED)
		{
			locks.retry_us = w->now_us + RETRY_US;
			return;
		}
	}
}

/* Requests whose members have forgotten them. */
static void
drop_stale(Worker *w)
{
	RaftToken	token;
	RaftBuf    *data;
	dlist_iter	iter;

	if (w->now_us < locks.stale_us)
		return;
	locks.stale_us = w->now_us + STALE_US / 10;

	/* our own are not sent again */
	dlist_foreach(iter, &w->parked)
		(void) lk_refresh(locks.ls, dlist_container(Pending, link, iter.cur)->token, w->now_us);
	while ((data = lk_take_stale(locks.ls, w->now_us - STALE_US, &token)) != NULL)
		raft_buf_unref(data);
}

/* ---------- renewals ---------- */

static void
want_confirmation(Worker *w, uint32 to, uint64 id, bool server, uint32 ttl_ms)
{
	LockConfirm *c = malloc(sizeof(LockConfirm));

	if (c == NULL)
		return;					/* it is asked again */
	c->to = to;
	c->id = id;
	c->server = server;
	c->ttl_ms = ttl_ms;
	c->loss_index = locks.loss_index;
	dlist_push_tail(&locks.confirm_next, &c->link);
}

void
lock_lead_renew(Worker *w, uint32 from, uint32 boot, uint32 lease_ms, uint64 id)
{
	lock_lead_look(w);
	if (!locks.leading)
		return;
	lk_renew_node(locks.ls, from, boot, lease_ms, w->now_us);
	want_confirmation(w, from, id, true, lease_ms);
}

static void
tell_lease(Worker *w, uint32 to, uint64 id, uint32 ttl_ms)
{
	WireLock	wire;

	if (to == w->id)
	{
		lock_own_lease_renewed(w, id, ttl_ms);
		return;
	}
	memset(&wire, 0, sizeof(wire));
	wire.kind = LOCK_LEASE_RENEWED;
	wire.id = id;
	wire.lease_ms = ttl_ms;
	(void) peer_send(w, to, WIRE_LOCK, &wire, sizeof(wire));
}

void
lock_lead_lease_renew(Worker *w, uint32 from, const uint8 *lease, uint64 id)
{
	uint32_t	ttl_ms;

	lock_lead_look(w);
	if (!locks.leading)
		return;
	if (lk_renew_lease(locks.ls, lease, w->now_us, &ttl_ms))
		want_confirmation(w, from, id, false, ttl_ms);
	else
		tell_lease(w, from, id, 0);
}

static void
confirm(Worker *w)
{
	if (locks.confirm_id != 0)
	{
		/* the core ends every read; but not while it is not ticked */
		if (w->now_us - locks.confirm_us < CONFIRM_US)
			return;
		drop_confirms(&locks.confirm_now);
		locks.confirm_id = 0;
	}
	if (dlist_is_empty(&locks.confirm_next))
		return;
	while (!dlist_is_empty(&locks.confirm_next))
		dlist_push_tail(&locks.confirm_now, dlist_pop_head_node(&locks.confirm_next));
	locks.confirm_id = READ_IDS | ++locks.confirm_last;
	locks.confirm_us = w->now_us;
	raft_read_index(w->raft, locks.confirm_id, w->now_us);
}

/* The core's answers to reads; others' are among them. */
void
lock_reads(Worker *w, const RaftRead *reads, size_t n)
{
	for (size_t i = 0; i < n; i++)
	{
		if (reads[i].id != locks.confirm_id || locks.confirm_id == 0)
			continue;
		locks.confirm_id = 0;
		while (!dlist_is_empty(&locks.confirm_now))
		{
			LockConfirm *c = dlist_head_element(LockConfirm, link, &locks.confirm_now);

			dlist_delete(&c->link);
			if (!reads[i].ok)
				;				/* it is asked again */
			else if (!c->server)
				tell_lease(w, c->to, c->id, c->ttl_ms);
			else if (c->to == w->id)
				lock_own_renewed(w, c->id, c->loss_index);
			else
			{
				WireLock	wire;

				memset(&wire, 0, sizeof(wire));
				wire.kind = LOCK_RENEWED;
				wire.id = c->id;
				wire.term = c->loss_index;
				(void) peer_send(w, c->to, WIRE_LOCK, &wire, sizeof(wire));
			}
			free(c);
		}
	}
}

/* ---------- messages ---------- */

/*
 * A member's session does not want this lock any more. The request may be here more
 * than once, since what may have got lost is sent again: in the queue, among what is
 * not judged yet, and in the log.
 */
static void
withdraw(Worker *w, uint32 from, const WireLock *wire)
{
	lock_lead_look(w);
	if (!locks.leading || wire->term != locks.lead_term)
	{
		send_lock_verdict(w, from, wire->term, wire->token, NODE_UNAVAILABLE);
		return;
	}
	while (remote_withdraw(w, from, wire->token))
		;
	raft_buf_unref(lk_withdraw(locks.ls, wire->token));

	/* in the log: its member will see it there, and release it */
	if (node_ops && node_ops->find_token && node_ops->find_token(wire->token) != 0)
		return;
	send_lock_verdict(w, from, wire->term, wire->token, LOCK_VERDICT_WITHDRAWN);
}

void
lock_lead_message(Worker *w, uint32 from, const WireLock *wire)
{
	switch ((WireLockKind) wire->kind)
	{
		case LOCK_WITHDRAW:
			withdraw(w, from, wire);
			break;
		case LOCK_RENEW:
			lock_lead_renew(w, from, wire->boot, wire->lease_ms, wire->id);
			break;
		case LOCK_LEASE_RENEW:
			lock_lead_lease_renew(w, from, wire->lease, wire->id);
			break;
		default:
			break;
	}
}

/* ---------- what all are told ---------- */

typedef struct Message
{
	char	   *data;
	Size		len;
	Size		cap;
	LockQueueHead head;
	int64		now_us;
	const LkState *ls;
} Message;

static void
add_bytes(Message *m, const void *data, Size len)
{
	if (m->len + len > m->cap)
		return;
	memcpy(m->data + m->len, data, len);
	m->len += len;
}

static void
add_lease(void *arg, const LkLeaseInfo *lease)
{
	Message    *m = arg;
	LockQueueLease out;

	/* leave room for the queue */
	if (m->len + sizeof(out) > m->cap / 2)
		return;
	memset(&out, 0, sizeof(out));
	memcpy(out.id, lease->id, LK_UUID_LEN);
	out.left_us = lk_lease_left_us(m->ls, lease->id, m->now_us);
	add_bytes(m, &out, sizeof(out));
	m->head.nleases++;
}

static void
add_waiter(void *arg, const LkWaiterInfo *waiter)
{
	Message    *m = arg;
	LockQueueRow row;

	if (m->len + sizeof(row) + waiter->len > m->cap)
		return;
	memset(&row, 0, sizeof(row));
	row.request = waiter->request;
	row.node = waiter->owner.node;
	row.pid = waiter->owner.pid;
	row.position = waiter->position;
	row.owner_kind = waiter->owner.kind;
	memcpy(row.lease, waiter->owner.lease, LK_UUID_LEN);
	row.key_type = waiter->key_type;
	row.mode = waiter->mode;
	row.len = waiter->len;
	row.waited_us = m->now_us - waiter->since_us;
	add_bytes(m, &row, sizeof(row));
	add_bytes(m, waiter->key, waiter->len);
	m->head.nrows++;
}

/* While somebody waits or a lease is open, and once after. */
static void
broadcast(Worker *w)
{
	LkCounts	counts;
	WireLock	wire;
	Message		m;
	int64		every_us;

	if (w->now_us < locks.broadcast_us)
		return;
	lk_counts(locks.ls, &counts);
	if (counts.waiters == 0 && counts.leases == 0 && !locks.broadcast_any)
		return;
	every_us = counts.waiters > 0 ? BROADCAST_US : BROADCAST_LEASES_US;
	locks.broadcast_us = w->now_us + every_us;
	locks.broadcast_any = counts.waiters > 0 || counts.leases > 0;

	memset(&m, 0, sizeof(m));
	m.cap = BROADCAST_MAX;
	m.data = malloc(m.cap);
	if (m.data == NULL)
		return;
	m.now_us = w->now_us;
	m.ls = locks.ls;
	memset(&wire, 0, sizeof(wire));
	wire.kind = LOCK_QUEUE;
	wire.term = locks.lead_term;
	add_bytes(&m, &wire, sizeof(wire));
	add_bytes(&m, &m.head, sizeof(m.head));
	lk_each_lease(locks.ls, add_lease, &m);
	lk_each_waiter(locks.ls, add_waiter, &m);
	memcpy(m.data + sizeof(wire), &m.head, sizeof(m.head));
	for (int i = 0; i < w->npeers; i++)
		if (w->peers[i].up)
			(void) peer_send(w, w->peers[i].id, WIRE_LOCK, m.data, m.len);
	lock_own_message(w, w->id, &wire, (const uint8 *) m.data + sizeof(wire), m.len - sizeof(wire));
	free(m.data);
}

/* ---------- in each turn ---------- */

void
lock_lead_run(Worker *w)
{
	int64		late_us = locks.expected_us != 0 ? w->now_us - locks.expected_us : 0;

	locks.expected_us = 0;
	lock_lead_look(w);
	if (!locks.leading)
		return;

	/* we did not run: renewals may lie unread, and nobody is to lose by that */
	if (late_us > LATE_US)
		lk_shift(locks.ls, late_us);
	drop_stale(w);
	break_deadlocks(w);
	expire(w);
	lock_grant_parked(w);
	confirm(w);
	broadcast(w);
}

int64
lock_lead_deadline(const Worker *w)
{
	int64		deadline_us;

	if (!locks.leading)
		return INT64_MAX;
	deadline_us = lk_deadlock_check_us(locks.ls);
	if (w->now_us < locks.retry_us)
		deadline_us = Min(deadline_us, locks.retry_us);
	if (locks.broadcast_any)
		deadline_us = Min(deadline_us, locks.broadcast_us);
	if (!dlist_is_empty(&locks.confirm_next) || locks.confirm_id != 0)
		deadline_us = Min(deadline_us, locks.confirm_us + CONFIRM_US);
	return deadline_us;
}
