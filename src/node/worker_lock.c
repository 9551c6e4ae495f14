/*-------------------------------------------------------------------------
 *
 * worker_lock.c
 *		The lock state in the Raft worker: built from the log as entries are
 *		appended, asked before a lock entry is.
 *
 * Where it begins
 * ---------------
 *	Grants may be older than the log, so the state begins with what the tables
 *	say: the apply worker hands it over (lock.h), as of its applied index. Lock
 *	entries that are appended before it is there are kept (the backlog, which
 *	begins with the tail of the log that a start reads); those between the applied
 *	index and the beginning of the backlog, if there are any, are read from the
 *	log's files, some in each turn of the loop. Then the state is live: from there
 *	on it moves with the log, back as well (lk_truncate).
 *
 *	Until it is live lock requests wait; nothing else does.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/proc.h"

#include "node/worker_lock.h"

#define ASK_US			INT64CONST(1000000)
#define FEED_AT_ONCE	4096
#define BACKLOG_MAX		(Size) (64 * 1024 * 1024)

typedef struct Backlog
{
	dlist_node	link;
	uint64		index;
	RaftToken	token;
	RaftStamp	stamp;
	RaftBuf    *data;
} Backlog;

LockWorker	locks;

void
lock_out_of_memory(void)
{
	ereport(FATAL, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory"),
					errdetail("The lock state could not be kept.")));
	pg_unreachable();
}

/* A token of this start of the server, as node_next_token() gives out. */
RaftToken
lock_fresh_token(Worker *w)
{
	RaftToken	token = {0};

	token.node = w->id;
	token.boot = pg_atomic_read_u32(&node_shared->boot);
	token.counter = pg_atomic_fetch_add_u64(&node_shared->token_counter, 1) + 1;
	return token;
}

/* ---------- the backlog ---------- */

static void
drop_backlog(void)
{
	while (!dlist_is_empty(&locks.backlog))
	{
		Backlog    *b = dlist_head_element(Backlog, link, &locks.backlog);

		dlist_delete(&b->link);
		raft_buf_unref(b->data);
		free(b);
	}
	locks.backlog_bytes = 0;
}

static void
keep_backlog(uint64 index, RaftToken token, RaftStamp stamp, const void *data, Size len)
{
	Backlog    *b = malloc(sizeof(Backlog));

	if (b == NULL)
		lock_out_of_memory();
	*b = (Backlog) {.index = index, .token = token, .stamp = stamp};
	b->data = raft_buf_new(data, len);
	if (b->data == NULL)
		lock_out_of_memory();
	dlist_push_tail(&locks.backlog, &b->link);
	locks.backlog_bytes += len + sizeof(Backlog);

	/* what is dropped is on disk, and read from there */
	while (locks.backlog_bytes > BACKLOG_MAX)
	{
		b = dlist_head_element(Backlog, link, &locks.backlog);
		locks.backlog_first = b->index + 1;
		locks.backlog_bytes -= b->data->len + sizeof(Backlog);
		dlist_delete(&b->link);
		raft_buf_unref(b->data);
		free(b);
	}
}

/* ---------- entries ---------- */

typedef struct Taken
{
	Worker	   *w;
	uint64		index;
	uint64		token;			/* of the first grant that the entry made or counted */
} Taken;

static void
on_effect(void *arg, const LkEffect *effect)
{
	Taken	   *taken = arg;

	if ((effect->kind == LK_GRANTED || effect->kind == LK_COUNTED) && taken->token == 0)
		taken->token = effect->grant->token;
	if (effect->kind == LK_GONE && lock_was_taken_away(effect->reason))
		locks.loss_index = taken->index;
	lock_own_effect(taken->w, effect);
}

static uint64
take_in(Worker *w, uint64 index, RaftToken token, RaftStamp stamp, const void *data, Size len)
{
	Taken		taken = {w, index, 0};
	LkStatus	status = lk_append(locks.ls, index, token, stamp.physical_us, data, len,
								   w->now_us, on_effect, &taken);

	if (status == LK_NO_MEMORY)
		lock_out_of_memory();
	if (status == LK_MALFORMED)
		ereport(LOG,
				(errmsg("lock entry " UINT64_FORMAT " of the log is not understood", index),
				 errhint("It may have been written by a newer version of pg_quorum: upgrade this member.")));
	return taken.token;
}

/* Entry `index` is in the log. The token of the grant that it makes, or 0. */
uint64
lock_appended(Worker *w, uint64 index, RaftToken token, RaftStamp stamp,
			  const void *data, Size len)
{
	if (!lk_is_lock(data, len))
		return 0;
	if (locks.live)
		return take_in(w, index, token, stamp, data, len);
	keep_backlog(index, token, stamp, data, len);
	return 0;
}

/* Entries at and above from are not in the log any more; 1: nor is anything. */
void
lock_truncated(Worker *w, uint64 from)
{
	if (from <= 1 || (!locks.live && locks.ls != NULL && from <= locks.next))
	{
		lock_forget(w);
		if (from <= 1)
			drop_backlog();
	}
	else if (locks.live)
	{
		lk_truncate(locks.ls, from, w->now_us);
		locks.loss_index = Min(locks.loss_index, from - 1);
		locks.look_at_sessions = true;
	}
	while (!dlist_is_empty(&locks.backlog))
	{
		Backlog    *b = dlist_tail_element(Backlog, link, &locks.backlog);

		if (b->index < from)
			break;
		locks.backlog_bytes -= b->data->len + sizeof(Backlog);
		dlist_delete(&b->link);
		raft_buf_unref(b->data);
		free(b);
	}
}

/* Every entry from first on will be told, or was. */
void
lock_coverage_starts(Worker *w, uint64 first)
{
	locks.backlog_first = first;
}

void
lock_committed(Worker *w)
{
	if (locks.live)
		lk_commit(locks.ls, w->committed);
}

/* The state is not worth anything any more: it begins anew. */
void
lock_forget(Worker *w)
{
	lock_lead_drop(w);
	lk_free(locks.ls);
	locks.ls = NULL;
	locks.live = false;
	locks.ask_us = 0;
}

/* ---------- the beginning ---------- */

void
lock_init(Worker *w)
{
	memset(&locks, 0, sizeof(locks));
	dlist_init(&locks.backlog);
	dlist_init(&locks.confirm_next);
	dlist_init(&locks.confirm_now);
	dlist_init(&locks.own);
	dlist_init(&locks.renewals);
	locks.backlog_first = 1;

	/* an image from before may lie there: better a new one */
	pg_atomic_write_u32(&lock_shared->image_there, 0);
}

static void
ask_for_image(Worker *w)
{
	if (w->now_us < locks.ask_us)
		return;
	locks.ask_us = w->now_us + ASK_US;
	pg_atomic_write_u32(&lock_shared->image_wanted, 1);
	pg_memory_barrier();
	node_wake_proc(pg_atomic_read_u32(&node_shared->apply_proc));
}

static void
take_image(Worker *w)
{
	uint64		index;
	bool		good;

	if (!LWLockConditionalAcquire(lock_shared->lock, LW_EXCLUSIVE))
		return;
	pg_atomic_write_u32(&lock_shared->image_there, 0);
	locks.ls = lk_create();
	if (locks.ls == NULL)
		lock_out_of_memory();
	index = lock_shared->image_index;
	good = DsaPointerIsValid(lock_shared->image) &&
		lk_load(locks.ls, dsa_get_address(node_dsa(), lock_shared->image),
				lock_shared->image_len, w->now_us);
	LWLockRelease(lock_shared->lock);

	/* the tables are ahead of a log that was cut, or behind one that begins later */
	if (!good || index > rlog_last_index(w->log) || index + 1 < rlog_first_index(w->log))
	{
		lk_free(locks.ls);
		locks.ls = NULL;
		return;
	}
	locks.next = index + 1;
	locks.loss_index = index;	/* there may be some below */
}

/* What lies between the tables and the backlog, from the log's files. False: not done yet. */
static bool
feed_from_log(Worker *w)
{
	for (int n = 0; locks.next < locks.backlog_first; n++)
	{
		RlogRecord	rec;
		RaftToken	token;
		RaftStamp	stamp;
		char		error[RLOG_ERROR_LEN] = "";

		if (n >= FEED_AT_ONCE)
			return false;
		if (rlog_reader_get(w->reader, locks.next, rlog_durable_index(w->log), &rec,
							error) != RLOG_OK)
		{
			/* compacted meanwhile, or damaged: with newer tables it may do */
			lk_free(locks.ls);
			locks.ls = NULL;
			return false;
		}
		memcpy(&token, rec.token, sizeof(token));
		memcpy(&stamp, rec.stamp, sizeof(stamp));
		if (rec.type == RAFT_ENTRY_DATA && lk_is_lock(rec.data, rec.len))
			(void) take_in(w, locks.next, token, stamp, rec.data, rec.len);
		locks.next++;
	}
	return true;
}

/* Bring the state to where the log is. */
static void
begin_state(Worker *w)
{
	dlist_iter	iter;

	if (locks.ls == NULL)
	{
		if (pg_atomic_read_u32(&lock_shared->image_there) != 0)
			take_image(w);
		if (locks.ls == NULL)
		{
			ask_for_image(w);
			return;
		}
	}
	if (!feed_from_log(w))
		return;
	dlist_foreach(iter, &locks.backlog)
	{
		Backlog    *b = dlist_container(Backlog, link, iter.cur);

		if (b->index >= locks.next)
			(void) take_in(w, b->index, b->token, b->stamp, b->data->data, b->data->len);
	}
	drop_backlog();
	locks.live = true;
	lk_commit(locks.ls, w->committed);
	lock_own_live(w);
}

/* ---------- judging ---------- */

/* Append, after the leader's last touch on it. */
Judgement
lock_append_now(Worker *w, RaftToken token, const void *payload, Size len)
{
	size_t		final_len = len;
	uint8_t    *final = lk_final_payload(locks.ls, payload, &final_len);
	RaftBuf    *buf = final ? raft_buf_new(final, final_len) : raft_buf_new(payload, len);
	Judgement	judgement;

	free(final);
	if (buf == NULL)
		return JUDGED_LATER;
	judgement = propose_append(w, token, buf);
	raft_buf_unref(buf);
	return judgement;
}

static void
explain(const LkVerdict *verdict, NodeAnswer *answer)
{
	answer->conflict_key = verdict->refusal;
	answer->conflict_index = verdict->token;
	answer->conflict_node = verdict->node;
	if (verdict->refusal == LK_REFUSED_OLD_START)
		strlcpy(answer->message, "the request is from before the last restart of its server",
				sizeof(answer->message));
	else if (verdict->refusal == LK_REFUSED_MALFORMED)
		strlcpy(answer->message, "the leader does not understand the request",
				sizeof(answer->message));
}

/* In the place of certification, for lock entries. */
Judgement
lock_judge(Worker *w, uint32 from, RaftToken token, RaftBuf *data, int64 age_us,
		   uint64 *waits_for, NodeAnswer *answer)
{
	LkVerdict	verdict;

	lock_lead_look(w);
	if (!locks.live || !locks.leading)
		return JUDGED_WAITS;
	if (lk_refresh(locks.ls, token, w->now_us))
		return JUDGED_PARKED;
	lk_judge(locks.ls, from, data->data, data->len, w->now_us, &verdict);
	switch (verdict.judgement)
	{
		case LK_JUDGED_APPEND:
			return lock_append_now(w, token, data->data, data->len);
		case LK_JUDGED_WAIT:
			if (!lk_wait(locks.ls, from, token, data->data, data->len, age_us, w->now_us,
						 raft_buf_ref(data)))
			{
				raft_buf_unref(data);
				return JUDGED_LATER;
			}
			return JUDGED_PARKED;
		case LK_JUDGED_REFUSE:
			break;
	}
	explain(&verdict, answer);

	/* what it was refused for must not be undone; but it may be over by then */
	if (*waits_for == 0)
		*waits_for = verdict.depends;
	if (*waits_for > raft_commit_index(w->raft))
		return JUDGED_WAITS;
	return JUDGED_REFUSED;
}

/* ---------- in each turn of the loop ---------- */

void
lock_before(Worker *w)
{
	if (!locks.live && pg_atomic_read_u32(&node_shared->apply_ready) != 0)
		begin_state(w);
	lock_own_begin(w);
}

void
lock_after(Worker *w)
{
	lock_lead_run(w);
	lock_own_end(w);
	if (locks.live)
		lk_tick(locks.ls, w->now_us);
}

int64
lock_deadline(const Worker *w)
{
	int64		deadline_us = INT64_MAX;

	if (locks.live)
	{
		deadline_us = lk_deadline(locks.ls);
		deadline_us = Min(deadline_us, lock_lead_deadline(w));
	}
	else if (locks.ls != NULL)
		deadline_us = w->now_us;	/* more to be read */
	else if (pg_atomic_read_u32(&node_shared->apply_ready) != 0)
		deadline_us = locks.ask_us;
	return Min(deadline_us, lock_own_deadline(w));
}

/* The loop is about to sleep for so long at most. */
void
lock_slept(Worker *w, long timeout_ms)
{
	locks.expected_us = node_monotonic_us() + (int64) timeout_ms * 1000;
}

void
lock_peer_up(Worker *w, uint32 id, bool up)
{
	if (locks.live && locks.leading)
		lk_member_up(locks.ls, id, up);
}

void
lock_message(Worker *w, uint32 from, const uint8 *data, Size len)
{
	WireLock	wire;

	if (len < sizeof(wire))
		return;
	memcpy(&wire, data, sizeof(wire));
	switch ((WireLockKind) wire.kind)
	{
		case LOCK_WITHDRAW:
		case LOCK_RENEW:
		case LOCK_LEASE_RENEW:
			lock_lead_message(w, from, &wire);
			break;
		case LOCK_RENEWED:
		case LOCK_LEASE_RENEWED:
		case LOCK_QUEUE:
			lock_own_message(w, from, &wire, data + sizeof(wire), len - sizeof(wire));
			break;
	}
}
