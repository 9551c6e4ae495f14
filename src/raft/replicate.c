/*-------------------------------------------------------------------------
 *
 * replicate.c
 *		What the leader sends, to whom, and when.
 *
 * Nothing is sent while inputs come in; raft_take_output() calls
 * raft_flush_peers() once. So all proposals of one turn of the event loop
 * travel in one message a peer, and a new commit index travels with them.
 *
 *-------------------------------------------------------------------------
 */
#include <stdlib.h>

#include "raft/raft_assert.h"
#include "raft/raft_internal.h"

/* Ask the driver for entries that are only on disk. */
static void
request_load(Raft *r, Progress *p)
{
	RaftLoad   *load;
	uint64_t	last = raft_log_cache_first(&r->log) - 1;

	if (p->load_pending)
		return;
	load = raft_emit_load(r);
	if (load == NULL)
		return;
	RAFT_ASSERT(last <= r->log.stable && p->next <= last);
	load->peer = p->id;
	load->first_index = p->next;
	load->last_index = last;
	load->max_bytes = r->cfg.max_message_bytes;
	p->load_pending = true;
	p->load_first = p->next;
}

static void
note_commit_told(Raft *r, Progress *p, uint64_t upto)
{
	uint64_t	told = r->hard.commit < upto ? r->hard.commit : upto;

	if (p->told_commit < told)
		p->told_commit = told;
}

/*
 * One append with n of these entries (references are taken), behind p->next - 1.
 */
static bool
send_append(Raft *r, Progress *p, const RaftEntry *entries, size_t n, uint64_t bytes, bool quiet)
{
	RaftMsg		m = {0};

	m.type = RAFT_MSG_APPEND;
	m.index = p->next - 1;
	m.commit = r->hard.commit;
	m.context = quiet ? 1 : 0;
	if (!raft_log_term(&r->log, m.index, &m.log_term))
		return false;
	if (n > 0)
	{
		m.entries = malloc(n * sizeof(RaftEntry));
		if (m.entries == NULL)
			return false;
		for (size_t i = 0; i < n; i++)
		{
			RAFT_ASSERT_SLOW(entries[i].index == p->next + i);
			m.entries[i] = entries[i];
			raft_buf_ref(entries[i].data);
		}
		m.nentries = (uint32_t) n;
	}
	raft_send(r, p->id, &m, false);

	if (p->state == PROGRESS_PROBE)
		p->probe_sent = true;
	else
	{
		if (n > 0)
			progress_sent(p, m.index + n, bytes);
		note_commit_told(r, p, m.index + n);
	}
	return true;
}

/* As many of entries[0..n) as one message takes; at least one. */
static size_t
fit(const Raft *r, const RaftEntry *entries, size_t n, uint64_t *bytes)
{
	size_t		i = 0;

	*bytes = 0;
	for (; i < n && i < RAFT_MAX_ENTRIES; i++)
	{
		uint64_t	b = raft_entry_bytes(&entries[i]);

		if (i > 0 && *bytes + b > r->cfg.max_message_bytes)
			break;
		*bytes += b;
	}
	return i;
}

static void
offer_snapshot(Raft *r, Progress *p)
{
	RaftMsg		m = {0};
	RaftEntry  *e;

	if (p->snapshot_sent)
		return;
	e = calloc(1, sizeof(RaftEntry));
	if (e == NULL)
		return;
	e->data = raft_conf_encode(raft_committed_conf(r));
	if (e->data == NULL)
	{
		free(e);
		return;
	}
	e->type = RAFT_ENTRY_CONF;
	e->index = r->log.first_index - 1;
	e->term = r->log.prev_term;
	m.type = RAFT_MSG_SNAPSHOT;
	m.index = e->index;
	m.log_term = e->term;
	m.commit = r->hard.commit;
	m.entries = e;
	m.nentries = 1;
	p->snapshot_index = e->index;
	p->snapshot_sent = true;
	raft_send(r, p->id, &m, false);
}

/* The next append to this peer. False: nothing (more) to send now. */
static bool
send_next(Raft *r, Progress *p)
{
	const RaftEntry *e;
	size_t		n;
	uint64_t	bytes;

	if (p->state == PROGRESS_SNAPSHOT)
	{
		offer_snapshot(r, p);
		return false;
	}
	if (p->state == PROGRESS_PROBE && p->probe_sent)
		return false;
	if (p->next < r->log.first_index)
	{
		progress_to_snapshot(p, r->log.first_index - 1);
		return true;
	}
	if (p->state == PROGRESS_REPLICATE)
	{
		if (p->next > r->log.last_index ||
			progress_window_full(p, r->cfg.max_inflight_messages, r->cfg.max_inflight_bytes))
			return false;
	}
	else if (p->next > r->log.last_index)
	{
		(void) send_append(r, p, NULL, 0, 0, false);
		return false;
	}

	e = raft_log_get(&r->log, p->next);
	if (e == NULL)
	{
		/* where the logs meet is asked before anything is read from disk */
		if (p->state == PROGRESS_PROBE)
			(void) send_append(r, p, NULL, 0, 0, false);
		else
			request_load(r, p);
		return false;
	}
	n = fit(r, e, r->log.last_index - p->next + 1, &bytes);
	return send_append(r, p, e, n, bytes, false);
}

static void
flush_peer(Raft *r, Progress *p)
{
	if (p->driver_paused)
		return;
	while (send_next(r, p))
		;

	/*
	 * A new commit index is told at once: sessions wait for it. Nothing but it
	 * to say, so nothing to answer.
	 */
	if (p->state == PROGRESS_REPLICATE && p->told_commit < r->hard.commit &&
		p->told_commit < p->next - 1)
		(void) send_append(r, p, NULL, 0, 0, true);
}

void
raft_flush_peers(Raft *r)
{
	RAFT_ASSERT(r->role == RAFT_LEADER);
	if (!r->dirty)
		return;
	r->dirty = false;
	for (uint32_t i = 0; i < r->npeers; i++)
		flush_peer(r, &r->peers[i]);
}

void
raft_loaded(Raft *r, uint32_t peer, RaftEntry *entries, size_t n, int64_t now_us)
{
	Progress   *p = r->role == RAFT_LEADER ? raft_peer(r, peer) : NULL;
	size_t		good = 0;
	uint64_t	bytes;

	if (now_us > r->now_us)
		r->now_us = now_us;
	if (p != NULL && p->load_pending)
	{
		p->load_pending = false;

		/* gone: raft_compacted() tells more; do not ask again in a loop */
		if (n > 0)
			r->dirty = true;

		/* what was read may not be the log any more, or not wanted */
		while (good < n && entries[good].index == p->next + good &&
			   raft_log_matches(&r->log, entries[good].index, entries[good].term))
			good++;
		if (good > 0 && !p->driver_paused && p->state == PROGRESS_REPLICATE &&
			!progress_window_full(p, r->cfg.max_inflight_messages, r->cfg.max_inflight_bytes))
		{
			good = fit(r, entries, good, &bytes);
			(void) send_append(r, p, entries, good, bytes, false);
		}
	}
	for (size_t i = 0; i < n; i++)
	{
		raft_buf_unref(entries[i].data);
		entries[i].data = NULL;
	}
}

/* Removed members hear of it before they are left alone. True: enough. */
static bool
departed(Raft *r, Progress *p)
{
	if (!p->departing)
		return false;
	if (r->now_us >= p->departing_until_us)
		return true;
	if (p->match >= p->departing_index && r->hard.commit >= p->departing_index)
		p->departing_grace++;
	return p->departing_grace > 3;
}

/* A new round of heartbeats; who gets it is up to the caller. */
void
raft_begin_round(Raft *r)
{
	RAFT_ASSERT(r->role == RAFT_LEADER);
	r->round++;
	r->round_start_us[r->round % RAFT_ROUNDS] = r->now_us;
}

void
raft_send_heartbeat(Raft *r, Progress *p)
{
	RaftMsg		m = {0};

	m.type = RAFT_MSG_HEARTBEAT;
	m.context = r->round;
	/* never above what this peer has of us (P-12) */
	m.commit = p->match < r->hard.commit ? p->match : r->hard.commit;
	m.hint = r->cfg.lease_reads ? (uint64_t) r->cfg.election_timeout_us : 0;
	if (p->acked_round >= p->asked_round)
		p->silent_since_us = r->now_us;
	p->asked_round = r->round;
	raft_send(r, p->id, &m, false);
	note_commit_told(r, p, p->match);
}

void
raft_broadcast_heartbeat(Raft *r)
{
	uint32_t	kept = 0;

	raft_begin_round(r);
	r->wide_round = r->round;
	r->heartbeat_deadline_us = r->now_us + r->cfg.heartbeat_interval_us;

	for (uint32_t i = 0; i < r->npeers; i++)
	{
		Progress   *p = &r->peers[kept];

		if (departed(r, &r->peers[i]))
		{
			r->order_lost |= raft_order_open(&r->peers[i]);
			continue;
		}
		if (kept != i)
			*p = r->peers[i];
		kept++;
		raft_send_heartbeat(r, p);

		/*
		 * The window has not moved since the last one: ask whether it arrived.
		 * The refusal, if not, starts probing.
		 */
		if (p->state == PROGRESS_REPLICATE && p->count > 0)
		{
			if (p->nudge_match == p->match + 1)
				(void) send_append(r, p, NULL, 0, 0, false);
			p->nudge_match = p->match + 1;
		}
		else
			p->nudge_match = 0;
	}
	r->npeers = kept;
}

void
raft_send_timeout_now(Raft *r, uint32_t to)
{
	RaftMsg		m = {0};
	Progress   *p = raft_peer(r, to);

	m.type = RAFT_MSG_TIMEOUT_NOW;
	m.index = r->log.last_index;
	m.log_term = raft_log_last_term(&r->log);
	r->timeout_now_sent = true;
	r->timeout_now_index = m.index;
	if (p != NULL)
		p->order_index = m.index;
	raft_send(r, to, &m, false);
}
