/*-------------------------------------------------------------------------
 *
 * leader.c
 *		The leader: proposals, acknowledgements, commit, transfer, and noticing
 *		that it does not lead any more.
 *
 * The leader sends entries to the others while it writes them itself, and counts
 * itself only as far as its own writes are done (log.stable). It commits by
 * counting only entries of its own term (Raft 5.4.2, P-05).
 *
 *-------------------------------------------------------------------------
 */
#include <string.h>

#include "raft/raft_assert.h"
#include "raft/raft_internal.h"

const Progress *
raft_peer_const(const Raft *r, uint32_t id)
{
	for (uint32_t i = 0; i < r->npeers; i++)
		if (r->peers[i].id == id)
			return &r->peers[i];
	return NULL;
}

Progress *
raft_peer(Raft *r, uint32_t id)
{
	return (Progress *) raft_peer_const(r, id);
}

/* The newer of the clock's last word and what is in the log already. */
static RaftStamp
own_stamp(const Raft *r)
{
	RaftStamp	a = r->stamp,
				b = r->last_stamp;

	if (a.physical_us != b.physical_us)
		return a.physical_us > b.physical_us ? a : b;
	return a.logical >= b.logical ? a : b;
}

/* ---------- appending ---------- */

/* Takes over the entry's payload when RAFT_OK. Index and term are filled in. */
RaftStatus
raft_leader_append(Raft *r, RaftEntry *e)
{
	RAFT_ASSERT(r->role == RAFT_LEADER);
	if (r->log.last_index >= RAFT_LIMIT)
		return RAFT_INVALID;
	if (!raft_log_reserve(&r->log, 1))
		return RAFT_NO_MEMORY;
	e->index = r->log.last_index + 1;
	e->term = r->hard.term;
	raft_log_append(&r->log, e);
	if (e->stamp.physical_us > r->last_stamp.physical_us ||
		(e->stamp.physical_us == r->last_stamp.physical_us &&
		 e->stamp.logical > r->last_stamp.logical))
		r->last_stamp = e->stamp;
	r->dirty = true;
	return RAFT_OK;
}

RaftStatus
raft_propose(Raft *r, uint8_t type, RaftStamp stamp, RaftToken token,
			 RaftBuf *data, uint64_t *index)
{
	RaftEntry	e = {0};
	RaftStatus	status;
	uint64_t	len = data != NULL ? data->len : 0;

	if (r->fenced)
		return RAFT_FENCED;
	if (r->role != RAFT_LEADER)
		return RAFT_NOT_LEADER;
	if (type != RAFT_ENTRY_DATA && type != RAFT_ENTRY_NOOP)
		return RAFT_INVALID;
	if (r->transferee != RAFT_NONE || !raft_conf_is_voter(raft_active(r), r->cfg.id))
		return RAFT_TRANSFERRING;

	/* only payload counts, and one proposal always fits (P-22) */
	if (type == RAFT_ENTRY_DATA && len > 0 && r->uncommitted_bytes > 0 &&
		r->uncommitted_bytes + len > r->cfg.max_uncommitted_bytes)
		return RAFT_BUSY;

	e.type = type;
	e.stamp = stamp;
	e.token = token;
	e.data = data;
	status = raft_leader_append(r, &e);
	if (status != RAFT_OK)
		return status;
	if (type == RAFT_ENTRY_DATA)
		r->uncommitted_bytes += len;
	if (index != NULL)
		*index = e.index;
	return RAFT_OK;
}

/* ---------- role ---------- */

void
raft_become_leader(Raft *r)
{
	RaftEntry	noop = {0};

	RAFT_ASSERT(r->role == RAFT_CANDIDATE && r->hard.vote == r->cfg.id);
	r->role = RAFT_LEADER;
	r->leader = r->cfg.id;
	r->leader_contact_us = r->now_us;
	r->role_changed = true;
	r->hurry_until_us = 0;
	r->npeers = 0;
	r->uncommitted_bytes = 0;
	r->transferee = RAFT_NONE;
	r->order_lost = false;
	r->confirmed_round = r->round;
	r->term_start = r->log.last_index + 1;
	r->heartbeat_deadline_us = r->now_us;
	raft_rebuild_peers(r);

	/*
	 * The no-op: nothing of earlier terms is committed by counting, and the
	 * commit index is not known, before it is committed.
	 */
	noop.type = RAFT_ENTRY_NOOP;
	noop.stamp = own_stamp(r);
	if (raft_leader_append(r, &noop) != RAFT_OK)
		raft_become_follower(r, r->hard.term, RAFT_NONE);
}

/* Called while the role still is RAFT_LEADER. */
void
raft_leave_leader(Raft *r)
{
	RAFT_ASSERT(r->role == RAFT_LEADER);
	raft_fail_reads(r);
	r->npeers = 0;
	r->uncommitted_bytes = 0;
	r->transferee = RAFT_NONE;
	r->dirty = false;
}

/* ---------- commit ---------- */

static uint64_t
match_of(const void *arg, uint32_t id)
{
	const Raft *r = arg;
	const Progress *p;

	if (id == r->cfg.id)
		return r->log.stable;
	p = raft_peer_const(r, id);
	return p != NULL ? p->match : 0;
}

void
raft_advance_commit(Raft *r)
{
	RAFT_ASSERT(r->role == RAFT_LEADER);
	for (;;)
	{
		uint64_t	index = raft_quorum_value(raft_active(r), match_of, r);

		if (index <= r->hard.commit || index < r->term_start || index > r->log.last_index)
			break;
		RAFT_ASSERT_SLOW(raft_term_at(r, index) == r->hard.term);
		raft_set_commit(r, index);

		/* may put another configuration into force: count again */
		raft_conf_committed_here(r);
	}
}

void
raft_recv_append_resp(Raft *r, const RaftMsg *m)
{
	Progress   *p = r->role == RAFT_LEADER ? raft_peer(r, m->from) : NULL;

	if (p == NULL)
		return;
	p->last_contact_us = r->now_us;

	if (m->reject)
	{
		uint64_t	t;
		uint64_t	meet = raft_log_meet(&r->log, m->hint, m->log_term, &t);

		if (m->transfer && m->hint < p->match)
			progress_lost(p, m->hint);
		else if (!progress_rejected(p, m->index, meet))
			return;
		p->probe_sent = false;
		r->dirty = true;
		return;
	}
	if (m->index > r->log.last_index)
		return;					/* it cannot have that from us */

	if (progress_acked(p, m->index))
	{
		progress_round(p, r->log.last_index, r->now_us, r->cfg.election_timeout_us);
		raft_advance_commit(r);
		if (r->role != RAFT_LEADER || (p = raft_peer(r, m->from)) == NULL)
			return;
	}
	/* any success ends probing, and waiting for an image that is not needed */
	if (p->state == PROGRESS_PROBE ||
		(p->state == PROGRESS_SNAPSHOT && p->match + 1 >= r->log.first_index))
		progress_to_replicate(p);
	if (r->transferee == p->id && p->match == r->log.last_index)
		raft_send_timeout_now(r, p->id);
	r->dirty = true;
}

void
raft_recv_heartbeat_resp(Raft *r, const RaftMsg *m)
{
	Progress   *p = r->role == RAFT_LEADER ? raft_peer(r, m->from) : NULL;
	uint64_t	round = m->context;

	if (p == NULL)
		return;
	p->last_contact_us = r->now_us;
	if (round > r->round)
		return;
	if (round > p->acked_round)
	{
		p->acked_round = round;
		p->silent_since_us = r->now_us;
		if (r->round - round < RAFT_ROUNDS)
			progress_answered(p, r->now_us - r->round_start_us[round % RAFT_ROUNDS]);
	}

	/* a sign of life: what got lost may be tried again (P-20, P-21) */
	p->probe_sent = false;
	p->snapshot_sent = false;
	r->dirty = true;
	raft_rounds_acked(r);
}

/* ---------- time ---------- */

static uint64_t
contact_of(const void *arg, uint32_t id)
{
	const Raft *r = arg;
	const Progress *p;

	if (id == r->cfg.id)
		return (uint64_t) r->now_us ^ ((uint64_t) 1 << 63);
	p = raft_peer_const(r, id);
	return p != NULL ? (uint64_t) p->last_contact_us ^ ((uint64_t) 1 << 63) : 0;
}

/* The latest time by which a quorum had been heard. */
int64_t
raft_quorum_contact(const Raft *r)
{
	uint64_t	v = raft_quorum_value(raft_active(r), contact_of, r);

	return (int64_t) (v ^ ((uint64_t) 1 << 63));
}

/* A voter with the whole log, RAFT_NONE if there is none. */
static uint32_t
best_successor(const Raft *r)
{
	for (uint32_t i = 0; i < r->npeers; i++)
	{
		const Progress *p = &r->peers[i];
		const RaftMember *m = raft_conf_find(raft_active(r), p->id);

		if (m != NULL && m->voter && p->match == r->log.last_index &&
			r->now_us - p->last_contact_us < r->cfg.election_timeout_us)
			return p->id;
	}
	return RAFT_NONE;
}

/* Give up leadership, to somebody who is ready for it where there is one. */
static void
hand_over(Raft *r)
{
	uint32_t	to = best_successor(r);

	if (to != RAFT_NONE)
		raft_send_timeout_now(r, to);
	raft_become_follower(r, r->hard.term, RAFT_NONE);
}

void
raft_tick_leader(Raft *r)
{
	/*
	 * Our own disk has hung for an election timeout: heartbeats from here would
	 * keep the cluster from finding a better leader (P-35).
	 */
	if (raft_stalled(r) && raft_other_voters(r))
	{
		hand_over(r);
		return;
	}
	/* check-quorum: a leader cut off from the majority stops to lead */
	if (r->now_us - raft_quorum_contact(r) > r->cfg.election_timeout_us)
	{
		raft_become_follower(r, r->hard.term, RAFT_NONE);
		return;
	}
	if (r->transferee != RAFT_NONE && r->now_us >= r->transfer_deadline_us)
		raft_abort_transfer(r);
	if (r->npeers > 0 &&
		(r->now_us >= r->heartbeat_deadline_us || r->now_us >= raft_narrow_deadline(r)))
		raft_broadcast_heartbeat(r);
}

/* ---------- transfer ---------- */

void
raft_abort_transfer(Raft *r)
{
	RaftEntry	noop = {0};
	bool		sent = r->timeout_now_sent;

	r->transferee = RAFT_NONE;
	r->timeout_now_sent = false;
	r->role_changed = true;

	/*
	 * A TIMEOUT_NOW that is still on its way acts only on the log it names. One
	 * more entry, and it is void as soon as the target has that entry (P-41).
	 */
	if (sent && r->timeout_now_index == r->log.last_index)
	{
		noop.type = RAFT_ENTRY_NOOP;
		noop.stamp = own_stamp(r);
		(void) raft_leader_append(r, &noop);
	}
}

RaftStatus
raft_transfer(Raft *r, uint32_t to, int64_t now_us)
{
	const RaftMember *m = raft_conf_find(raft_active(r), to);
	Progress   *p;

	if (now_us > r->now_us)
		r->now_us = now_us;
	if (r->fenced)
		return RAFT_FENCED;
	if (r->role != RAFT_LEADER)
		return RAFT_NOT_LEADER;
	if (to == r->cfg.id)
	{
		if (r->transferee != RAFT_NONE)
			raft_abort_transfer(r);
		return RAFT_OK;
	}
	p = raft_peer(r, to);
	if (m == NULL || p == NULL)
		return RAFT_UNKNOWN_MEMBER;
	if (!m->voter)
		return RAFT_INVALID;
	if (r->transferee == to)
		return RAFT_OK;			/* under way; its time does not start again */
	if (r->transferee != RAFT_NONE)
		raft_abort_transfer(r);

	r->transferee = to;
	r->transfer_deadline_us = r->now_us + r->cfg.election_timeout_us;
	r->timeout_now_sent = false;
	if (p->match == r->log.last_index)
		raft_send_timeout_now(r, to);
	p->probe_sent = false;
	r->dirty = true;
	return RAFT_OK;
}

/* ---------- images ---------- */

void
raft_report_snapshot(Raft *r, uint32_t peer, bool ok, int64_t now_us)
{
	Progress   *p = r->role == RAFT_LEADER ? raft_peer(r, peer) : NULL;

	if (now_us > r->now_us)
		r->now_us = now_us;
	if (p == NULL || p->state != PROGRESS_SNAPSHOT)
		return;
	/* failed: probe behind what is known, which ends in another offer */
	if (!ok)
		p->snapshot_index = 0;
	progress_to_probe(p);
	p->probe_sent = !ok;		/* not before it shows a sign of life */
	r->dirty = true;
}

/* ---------- questions ---------- */

bool
raft_caught_up(const Raft *r, uint32_t peer)
{
	const Progress *p = r->role == RAFT_LEADER ? raft_peer_const(r, peer) : NULL;

	if (peer == r->cfg.id)
		return r->role == RAFT_LEADER;
	return p != NULL && p->state == PROGRESS_REPLICATE &&
		r->now_us - p->last_contact_us < r->cfg.election_timeout_us &&
		(p->caught_up || p->match == r->log.last_index);
}

bool
raft_peer_status(const Raft *r, uint32_t peer, RaftPeerStatus *status)
{
	const Progress *p = r->role == RAFT_LEADER ? raft_peer_const(r, peer) : NULL;

	memset(status, 0, sizeof(*status));
	if (p == NULL)
		return false;
	status->match = p->match;
	status->next = p->next;
	status->last_contact_us = p->last_contact_us;
	status->recent_active = r->now_us - p->last_contact_us < r->cfg.election_timeout_us;
	status->replicating = p->state == PROGRESS_REPLICATE;
	status->snapshot = p->state == PROGRESS_SNAPSHOT;
	status->inflight_messages = p->count;
	status->inflight_bytes = p->inflight_bytes;
	return true;
}
