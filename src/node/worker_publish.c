/*-------------------------------------------------------------------------
 *
 * worker_publish.c
 *		Commits to their owners (turn.c), the watch over an apply worker that is
 *		held up, and the end of old log.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"

#include "node/worker.h"

#define WATCH_US			INT64CONST(2000)
#define WATCH_LONG_US		INT64CONST(10000)
#define KEEP_BYTES			UINT64CONST(67108864)	/* of log, though nobody needs it */
#define SEGMENTS_HELD		UINT64CONST(50331648)	/* a log cannot be held shorter: three segments */
#define WATCH_SHORT_FOR_US	INT64CONST(100000)

/*
 * Record the owner of each committed entry, then publish. Bounded by the ring;
 * what does not fit follows when the tables have caught up (w->ring_limited).
 */
void
publish_commits(Worker *w)
{
	uint64		published,
				applied,
				limit;

	w->ring_limited = false;
	if (pg_atomic_read_u32(&node_shared->apply_ready) == 0 || w->needs_image)
		return;
	published = pg_atomic_read_u64(&node_shared->commit_index);
	if (w->committed <= published)
		return;
	applied = pg_atomic_read_u64(&node_shared->applied_index);
	Assert(applied >= published || published - applied <= NODE_TURN_RING);
	limit = Min(w->committed, applied + NODE_TURN_RING);
	w->ring_limited = limit < w->committed;
	if (limit <= published)
		return;

	for (uint64 i = published + 1; i <= limit; i++)
	{
		Pending    *p = dlist_is_empty(&w->appended) ? NULL :
			dlist_head_element(Pending, link, &w->appended);
		bool		given = false;

		while (p != NULL && p->index < i)
		{
			/* published by a former start of this worker, with its owner */
			if (p->own != NULL)
				lock_own_decided(w, p, p->index);
			else if (p->withdrawn)
				lock_orphan(w, p, p->index);
			pending_free(w, p);
			p = dlist_is_empty(&w->appended) ? NULL :
				dlist_head_element(Pending, link, &w->appended);
		}
		if (p != NULL && p->index == i)
		{
			if (p->own != NULL)
				lock_own_decided(w, p, i);
			else
			{
				bool		there = false;

				if (p->procno >= 0)
					given = node_give_turn(p->procno, p->token, i, p->rows_index, p->stamp,
										   p->lock_token, &there);
				if (!there)
					lock_orphan(w, p, i);
			}
			pending_free(w, p);
		}
		if (!given)
			pg_atomic_write_u32(&node_shared->owner[i % NODE_TURN_RING], 0);
	}
	node_publish_commit(published + 1, limit);
}

/*
 * Do the tables and the log belong together? Known as soon as the apply worker
 * has said how far the tables are. False: w is halted.
 */
bool
check_applied(Worker *w)
{
	uint64		applied;

	if (pg_atomic_read_u32(&node_shared->apply_ready) == 0)
		return true;
	applied = pg_atomic_read_u64(&node_shared->applied_index);
	if (applied > rlog_last_index(w->log) &&
		(w->recovering || w->image_marked || pg_atomic_read_u64(&node_shared->image_hold) != 0))
		;						/* what is missing comes (worker_salvage.c, worker_image.c) */
	else if (applied > rlog_last_index(w->log))
		worker_halt(w, "fenced", 0,
					"entries up to " UINT64_FORMAT " were applied here, but the log ends with "
					UINT64_FORMAT ": log and data directory do not belong together",
					applied, (uint64) rlog_last_index(w->log));
	else
		image_review(w);
	return w->state == WORKER_RUNNING;
}

/*
 * While something published is not applied yet: does a local session hold up
 * the apply worker? Sets when to look again.
 */
void
watch_apply(Worker *w)
{
	uint64		busy = pg_atomic_read_u64(&node_shared->apply_busy_index);
	int64		busy_us;

	if (busy == 0 && pg_atomic_read_u64(&node_shared->commit_index) <=
		pg_atomic_read_u64(&node_shared->applied_index))
	{
		w->watch_us = 0;
		w->lag_since_us = 0;
		return;
	}
	if (w->lag_since_us == 0)
		w->lag_since_us = w->now_us;
	if (busy != 0)
	{
		pg_read_barrier();
		busy_us = node_monotonic_us() -
			(int64) pg_atomic_read_u64(&node_shared->apply_busy_since_us);
		if (busy_us >= WATCH_US && w->now_us >= w->watch_us &&
			node_ops && node_ops->apply_watch)
			node_ops->apply_watch((int) pg_atomic_read_u32(&node_shared->apply_pid),
								  busy, busy_us);
		else if (w->watch_us > w->now_us)
			return;
		w->watch_us = w->now_us + WATCH_US;
		return;
	}
	w->watch_us = w->now_us +
		(w->now_us - w->lag_since_us < WATCH_SHORT_FOR_US ? WATCH_US : WATCH_LONG_US);
}

/* Is there more behind the peer's image than the log is to hold for it? */
bool
image_outlasts_log(const Worker *w, const PeerInfo *peer)
{
	uint64		limit = (uint64) quorum_max_log_size_mb * 1024 * 1024;
	uint64		from = peer->image_index + 1;

	return from > 1 && (from < rlog_first_index(w->log) ||
						rlog_bytes_from(w->log, from) > Max(limit, SEGMENTS_HELD));
}

/*
 * The lowest entry that a member needs which is loading an image; UINT64_MAX: no
 * such one. Not for ever: its log is as bounded as the log altogether.
 */
static uint64
needed_behind_images(const Worker *w)
{
	uint64		keep = PG_UINT64_MAX;

	for (int i = 0; i < w->npeers; i++)
		if (w->peers[i].image_index > 0 && !image_outlasts_log(w, &w->peers[i]))
			keep = Min(keep, w->peers[i].image_index + 1);
	return keep;
}

/*
 * Let old log go: what is flushed in this server's tables, and what every member
 * has, save for some that lets a start remember recent tokens and keys. Past
 * quorum.max_log_size members that lag do not count any more.
 */
void
truncate_log(Worker *w)
{
	uint64		keep = pg_atomic_read_u64(&node_shared->flushed_index) + 1;
	uint64		bytes = rlog_bytes(w->log);
	uint64		limit = (uint64) quorum_max_log_size_mb * 1024 * 1024;
	uint64		spare = Min(KEEP_BYTES, limit / 2);
	bool		large = bytes > limit;
	uint64		before = rlog_first_index(w->log);

	if (bytes <= spare || rlog_last_index(w->log) < before)
		return;

	/* a start reads tokens and keys from what is left */
	keep = Min(keep, rlog_tail_index(w->log, spare));
	keep = Min(keep, w->committed + 1);
	keep = Min(keep, pg_atomic_read_u64(&node_shared->commit_index) + 1);
	keep = Min(keep, needed_behind_images(w));
	if (!large)
	{
		const RaftConf *conf = raft_conf(w->raft);

		for (int i = 0; i < conf->nmembers; i++)
		{
			PeerInfo   *peer;
			RaftPeerStatus status;
			uint64		has = 0;

			if (conf->members[i].id == w->id)
				continue;
			if (raft_peer_status(w->raft, conf->members[i].id, &status))
				has = status.match;
			else if ((peer = peer_find(w, conf->members[i].id)) != NULL)
				has = peer->known_index;
			peer = peer_find(w, conf->members[i].id);
			if (peer != NULL)
				has = Max(has, peer->image_index);
			keep = Min(keep, has + 1);
		}
	}

	/* what became of the entries' transactions stays known (archived.c) */
	if (keep > pg_atomic_read_u64(&node_shared->archived_index) + 1)
	{
		node_want_archived(keep - 1);
		keep = pg_atomic_read_u64(&node_shared->archived_index) + 1;
	}
	if (keep <= before)
		return;
	(void) rlog_truncate_prefix(w->log, keep);
	if (rlog_first_index(w->log) > before)
	{
		raft_compacted(w->raft, rlog_first_index(w->log));
		w->batch.writes = true;
	}
}
