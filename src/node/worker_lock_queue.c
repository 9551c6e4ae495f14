/*-------------------------------------------------------------------------
 *
 * worker_lock_queue.c
 *		Who waits for locks, for quorum.locks: this member's own requests and what
 *		the leader has said of the others', put into shared memory (lock.h).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/proc.h"
#include "utils/memutils.h"

#include "node/worker_lock.h"

#define PUBLISH_US		INT64CONST(50000)
#define SHOW_AFTER_US	INT64CONST(30000)	/* a request that is not parked may be about to be granted */
#define QUEUE_OLD_US	INT64CONST(3000000) /* the leader's words are not worth much any more */

/* What a leader has said, checked as a whole. */
bool
lock_queue_is_sound(const char *data, Size len)
{
	LockQueueHead head;
	Size		at = sizeof(head);

	if (len < sizeof(head))
		return false;
	memcpy(&head, data, sizeof(head));
	if (head.nleases > (len - at) / sizeof(LockQueueLease))
		return false;
	at += head.nleases * sizeof(LockQueueLease);
	for (uint32 i = 0; i < head.nrows; i++)
	{
		LockQueueRow row;

		if (len - at < sizeof(row))
			return false;
		memcpy(&row, data + at, sizeof(row));
		at += sizeof(row);
		if (len - at < row.len)
			return false;
		at += row.len;
	}
	return at == len;
}

typedef struct Rows
{
	char	   *data;
	Size		len;
	Size		cap;
	LockQueueHead head;
} Rows;

static void
add_bytes(Rows *rows, const void *data, Size len)
{
	if (rows->len + len > rows->cap)
	{
		Size		cap = Max(2 * rows->cap, rows->len + len + 1024);
		char	   *bigger = realloc(rows->data, cap);

		if (bigger == NULL)
			lock_out_of_memory();
		rows->data = bigger;
		rows->cap = cap;
	}
	memcpy(rows->data + rows->len, data, len);
	rows->len += len;
}

/* No more than there is room for. */
static void
add_row(Rows *rows, const LockQueueRow *row, const char *key)
{
	if (rows->len + sizeof(*row) + row->len > LOCK_QUEUE_MAX)
		return;
	add_bytes(rows, row, sizeof(*row));
	add_bytes(rows, key, row->len);
	rows->head.nrows++;
}

/* What the leader said last: its head, and what follows; NULL: too long ago. */
static const char *
leaders_queue(const Worker *w, LockQueueHead *head)
{
	if (locks.queue == NULL || w->now_us - locks.queue_us > QUEUE_OLD_US)
		return NULL;
	memcpy(head, locks.queue, sizeof(*head));
	return locks.queue + sizeof(*head);
}

/* What the leader says of leases ... */
static void
add_leases(Worker *w, Rows *rows)
{
	LockQueueHead head;
	const char *at = leaders_queue(w, &head);

	if (at == NULL)
		return;
	for (uint32 i = 0; i < head.nleases; i++)
	{
		LockQueueLease lease;

		memcpy(&lease, at, sizeof(lease));
		at += sizeof(lease);
		lease.left_us = Max(lease.left_us - (w->now_us - locks.queue_us), 0);
		add_bytes(rows, &lease, sizeof(lease));
		rows->head.nleases++;
	}
}

/* ... and of who waits on other members. */
static void
add_others(Worker *w, Rows *rows)
{
	LockQueueHead head;
	const char *at = leaders_queue(w, &head);

	if (at == NULL)
		return;
	at += head.nleases * sizeof(LockQueueLease);
	for (uint32 i = 0; i < head.nrows; i++)
	{
		LockQueueRow row;

		memcpy(&row, at, sizeof(row));
		at += sizeof(row);
		if (row.node != w->id)
		{
			row.waited_us += w->now_us - locks.queue_us;
			add_row(rows, &row, at);
		}
		at += row.len;
	}
}

/* Where the leader has this request in the line of this key; 0: it does not say. */
static uint32
position_of(RaftToken request, const LkItem *item)
{
	LockQueueHead head;
	const char *at = locks.queue;

	if (at == NULL)
		return 0;
	memcpy(&head, at, sizeof(head));
	at += sizeof(head) + head.nleases * sizeof(LockQueueLease);
	for (uint32 i = 0; i < head.nrows; i++)
	{
		LockQueueRow row;

		memcpy(&row, at, sizeof(row));
		at += sizeof(row);
		if (raft_token_equal(row.request, request) && row.key_type == item->key_type &&
			row.len == item->len && memcmp(at, item->key, row.len) == 0)
			return row.position;
		at += row.len;
	}
	return 0;
}

/* Our own, from what is pursued here. */
static void
add_own(Worker *w, Rows *rows, const dlist_head *list)
{
	dlist_iter	iter;

	dlist_foreach(iter, unconstify(dlist_head *, list))
	{
		Pending    *p = dlist_container(Pending, link, iter.cur);
		LkReader	rd;
		LkItem		item;

		if (p->lock_op != LK_OP_GRANT || p->withdrawn || p->procno < 0 ||
			(p->state != PENDING_PARKED && w->now_us - p->taken_us < SHOW_AFTER_US) ||
			!lk_read_open(&rd, p->data->data, p->data->len))
			continue;
		while (lk_read_item(&rd, &item))
		{
			LockQueueRow row;

			memset(&row, 0, sizeof(row));
			row.request = p->token;
			row.node = rd.rec.owner.node;
			row.pid = rd.rec.owner.pid;
			row.position = p->state == PENDING_PARKED ? position_of(p->token, &item) : 0;
			row.owner_kind = rd.rec.owner.kind;
			memcpy(row.lease, rd.rec.owner.lease, LK_UUID_LEN);
			row.key_type = item.key_type;
			row.mode = item.mode;
			row.len = item.len;
			row.waited_us = w->now_us - p->taken_us;
			add_row(rows, &row, item.key);
		}
	}
}

void
lock_queue_publish(Worker *w)
{
	Rows		rows;

	if ((!locks.publish_wanted && locks.waiting == 0 && !locks.published_any) ||
		w->now_us < locks.publish_us)
		return;
	locks.publish_us = w->now_us + PUBLISH_US;
	locks.publish_wanted = false;
	memset(&rows, 0, sizeof(rows));
	add_bytes(&rows, &rows.head, sizeof(rows.head));
	add_leases(w, &rows);
	add_own(w, &rows, &w->parked);
	add_own(w, &rows, &w->sent);
	add_own(w, &rows, &w->queued);
	add_others(w, &rows);
	memcpy(rows.data, &rows.head, sizeof(rows.head));

	/* whoever reads may be stopped meanwhile: not for us to wait for */
	if (LWLockConditionalAcquire(lock_shared->lock, LW_EXCLUSIVE))
	{
		locks.published_any = rows.head.nrows > 0 || rows.head.nleases > 0;
		memcpy(lock_shared->queue, rows.data, rows.len);
		lock_shared->queue_len = locks.published_any ? rows.len : 0;
		lock_shared->queue_us = w->now_us;
		LWLockRelease(lock_shared->lock);
	}
	else
		locks.publish_wanted = true;
	free(rows.data);
}
