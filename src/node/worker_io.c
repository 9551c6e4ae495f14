/*-------------------------------------------------------------------------
 *
 * worker_io.c
 *		Writing the log, and what waits for it.
 *
 * One round of log I/O is out at a time; what is appended meanwhile goes into
 * the next one. A batch holds the messages that may leave only when everything
 * handed out so far is durable (votes, acknowledgements), and the point up to
 * which the core is told then.
 *
 * Inline or on the thread pool: a write that takes some hundred microseconds
 * costs less than two process switches, and nothing useful could be done
 * meanwhile: what the leader says has left before, the followers' answers are
 * not back. So rounds run inline as long as the disk is quick, and move to the
 * pool when it is not, so that heartbeats go on. Large rounds always do.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <signal.h>

#include "miscadmin.h"

#include "node/worker.h"

#define INLINE_SHARE		4		/* of a heartbeat interval, average of the last rounds */
#define INLINE_MAX_BYTES	(Size) (256 * 1024)

void
io_batch_clear(IoBatch *batch)
{
	for (size_t i = 0; i < batch->nmsgs; i++)
		raft_msg_free(&batch->msgs[i]);
	batch->nmsgs = 0;
	batch->writes = batch->done_wanted = false;
	batch->bytes = 0;
}

/* Keep messages until what is queued in the log now is durable. */
void
io_collect_messages(Worker *w, const RaftMsg *msgs, size_t n)
{
	IoBatch    *batch = &w->batch;

	if (batch->nmsgs + n > batch->cap)
	{
		size_t		cap = Max(batch->cap * 2, batch->nmsgs + n + 16);
		RaftMsg    *bigger = realloc(batch->msgs, cap * sizeof(RaftMsg));

		if (bigger == NULL)
		{
			/* lost, as any message may be */
			for (size_t i = 0; i < n; i++)
			{
				RaftMsg		msg = msgs[i];

				raft_msg_free(&msg);
			}
			return;
		}
		batch->msgs = bigger;
		batch->cap = cap;
	}
	memcpy(batch->msgs + batch->nmsgs, msgs, n * sizeof(RaftMsg));
	batch->nmsgs += n;
}

/* Everything that this batch waited for is durable. */
static void
batch_done(Worker *w, IoBatch *batch)
{
	if (w->raft != NULL)
	{
		if (batch->done_wanted)
			raft_append_done(w->raft, batch->term, batch->index, w->now_us);
		for (size_t i = 0; i < batch->nmsgs; i++)
			peer_send_raft(w, &batch->msgs[i]);
		batch->nmsgs = 0;
	}
	io_batch_clear(batch);
}

static void
note_health(Worker *w, RlogStatus status)
{
	const char *text = NULL;
	RlogStatus	health = rlog_health(w->log, &text);

	if (status != RLOG_OK)
		health = status;
	if (health == w->health)
		return;
	w->health = health;
	if (health == RLOG_NO_SPACE)
	{
		ereport(LOG,
				(errcode(ERRCODE_DISK_FULL),
				 errmsg("no space for the log of this member: %s", text ? text : ""),
				 errhint("This member takes no proposals until there is space again.")));
		worker_set_detail(w, "No space left on device for the log");
	}
	else if (health == RLOG_OK)
	{
		ereport(LOG, (errmsg("there is space for the log of this member again")));
		worker_set_detail(w, "");
	}
}

/* The round in w->io ran. False: the log is unusable, w is halted. */
static bool
finish(Worker *w)
{
	int64		took_us = node_monotonic_us() - w->io_since_us;
	RlogStatus	status = rlog_io_done(w->log, w->io);

	w->io = NULL;
	w->now_us = node_monotonic_us();
	w->io_average_us += (took_us - w->io_average_us) / 8;
	if (status == RLOG_OK)
	{
		batch_done(w, &w->inflight);
		note_health(w, RLOG_OK);
		return true;
	}
	if (status == RLOG_NO_SPACE)
	{
		/* nothing is lost, the log keeps it queued: so do we, in front */
		IoBatch		newer = w->batch;

		w->batch = w->inflight;
		w->inflight = newer;
		io_collect_messages(w, newer.msgs, newer.nmsgs);
		if (newer.done_wanted)
		{
			w->batch.done_wanted = true;
			w->batch.term = newer.term;
			w->batch.index = newer.index;
		}
		w->batch.writes = true;
		w->inflight.nmsgs = 0;
		io_batch_clear(&w->inflight);
		note_health(w, RLOG_NO_SPACE);
		return true;
	}
	if (w->raft != NULL)
	{
		const char *text = NULL;

		(void) rlog_health(w->log, &text);
		worker_halt(w, "stopped", 0,
					"the log cannot be written, this member acknowledges nothing any more: %s",
					text ? text : "");
	}
	return false;
}

static void
run_on_pool(uv_work_t *work)
{
	rlog_io_run((RlogIo *) work->data);
}

static void
back_from_pool(uv_work_t *work, int status)
{
	Worker	   *w = (Worker *) ((char *) work - offsetof(Worker, io_work));

	w->io_posted = false;
}

static void
post_to_pool(Worker *w)
{
	sigset_t	all,
				saved;
	int			result;

	/* the pool's threads are made now: signals are not for them */
	if (!w->pool_started)
	{
		sigfillset(&all);
		pthread_sigmask(SIG_SETMASK, &all, &saved);
	}
	w->io_work.data = w->io;
	w->io_posted = true;
	result = uv_queue_work(&w->loop, &w->io_work, run_on_pool, back_from_pool);
	if (!w->pool_started)
		pthread_sigmask(SIG_SETMASK, &saved, NULL);
	w->pool_started = true;
	if (result != 0)
	{
		w->io_posted = false;
		rlog_io_run(w->io);
	}
}

/*
 * Start the next round, if one is wanted and none is out. True: something
 * became durable right now, so the core has more to say.
 */
bool
io_start(Worker *w)
{
	IoBatch		empty;
	const char *text;

	if (w->io != NULL)
	{
		if (w->io_posted)
			return false;
		return finish(w);		/* back from the pool */
	}
	if (!w->batch.writes && w->batch.nmsgs == 0 && !w->batch.done_wanted)
		return false;
	if (!w->batch.writes)
	{
		batch_done(w, &w->batch);
		return true;
	}

	w->io = rlog_io_begin(w->log);
	if (w->io == NULL)
	{
		if (rlog_durable_index(w->log) < rlog_last_index(w->log) ||
			rlog_health(w->log, &text) != RLOG_OK)
			return false;		/* no space: the next attempt comes later */
		batch_done(w, &w->batch);	/* there was nothing to write after all */
		return true;
	}
	empty = w->inflight;
	Assert(empty.nmsgs == 0);
	w->inflight = w->batch;
	w->batch = empty;
	io_batch_clear(&w->batch);
	w->io_since_us = node_monotonic_us();

	if (w->io_average_us <= (int64) quorum_heartbeat_interval_ms * 1000 / INLINE_SHARE &&
		w->inflight.bytes <= INLINE_MAX_BYTES)
	{
		tp_flush(w->tp);		/* the others can work meanwhile */
		rlog_io_run(w->io);
		return finish(w);
	}
	post_to_pool(w);
	if (!w->io_posted)
		return finish(w);
	return false;
}

/* Wait until no round is out. Its outcome does not matter to the core any more. */
void
io_wait(Worker *w)
{
	while (w->io_posted)
		uv_run(&w->loop, UV_RUN_ONCE);
	if (w->io != NULL)
	{
		(void) rlog_io_done(w->log, w->io);
		w->io = NULL;
	}
}
