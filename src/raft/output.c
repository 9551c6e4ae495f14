/*-------------------------------------------------------------------------
 *
 * output.c
 *		raft_take_output, and the queues that it empties.
 *
 * Two sets of queues take turns: what was handed out stays as it is while the
 * next inputs fill the other one.
 *
 *-------------------------------------------------------------------------
 */
#include <stdlib.h>
#include <string.h>

#include "raft/raft_assert.h"
#include "raft/raft_internal.h"

static bool
grow(void **array, size_t *cap, size_t n, size_t size)
{
	size_t		want = *cap > 0 ? *cap * 2 : 32;
	void	   *bigger;

	if (n < *cap)
		return true;
	bigger = realloc(*array, want * size);
	if (bigger == NULL)
		return false;
	*array = bigger;
	*cap = want;
	return true;
}

void
raft_send(Raft *r, uint32_t to, RaftMsg *msg, bool after)
{
	RaftOutSet *set = &r->sets[r->filling];
	RaftMsgQueue *q = after ? &set->after : &set->now;

	RAFT_ASSERT(to != RAFT_NONE && to != r->cfg.id);
	/* lost, like any message may be */
	if (!grow((void **) &q->msgs, &q->cap, q->n, sizeof(RaftMsg)))
	{
		raft_msg_free(msg);
		return;
	}
	msg->from = r->cfg.id;
	msg->to = to;
	if (msg->term == 0)
		msg->term = r->hard.term;
	msg->stamp = r->stamp;
	memcpy(msg->instance, r->cfg.instance, RAFT_INSTANCE_LEN);
	q->msgs[q->n++] = *msg;
}

void
raft_emit_read(Raft *r, uint64_t id, bool ok, uint64_t index)
{
	RaftReadQueue *q = &r->sets[r->filling].reads;

	if (!grow((void **) &q->reads, &q->cap, q->n, sizeof(RaftRead)))
		return;
	q->reads[q->n].id = id;
	q->reads[q->n].ok = ok;
	q->reads[q->n].index = index;
	q->n++;
}

RaftLoad *
raft_emit_load(Raft *r)
{
	RaftOutSet *set = &r->sets[r->filling];

	return set->nloads < RAFT_MAX_MEMBERS ? &set->loads[set->nloads++] : NULL;
}

static void
free_queue(RaftMsgQueue *q)
{
	for (size_t i = 0; i < q->n; i++)
		raft_msg_free(&q->msgs[i]);
	free(q->msgs);
}

void
raft_output_free(Raft *r)
{
	/* messages of the set that was handed out are the driver's */
	r->sets[r->filling ^ 1].now.n = 0;
	r->sets[r->filling ^ 1].after.n = 0;
	for (int i = 0; i < 2; i++)
	{
		free_queue(&r->sets[i].now);
		free_queue(&r->sets[i].after);
		free(r->sets[i].reads.reads);
	}
}

/* ---------- handing out ---------- */

static void
hand_out_writes(Raft *r, RaftOutput *out)
{
	RaftLog    *log = &r->log;
	bool		voted = r->hard.term != r->handed_hard.term ||
		r->hard.vote != r->handed_hard.vote;
	uint64_t	durable = r->reset_unsynced ? 0 : log->stable;

	/*
	 * The commit index is written only as far as the entries are durable: so
	 * one above the log's end, found later, means that the disk lost something.
	 */
	out->hard = r->hard;
	if (out->hard.commit > durable)
		out->hard.commit = durable > r->handed_hard.commit ?
			durable : r->handed_hard.commit;
	out->hard_changed = voted || out->hard.commit != r->handed_hard.commit;
	out->reset_index = r->reset_index;
	out->reset_term = r->reset_term;
	out->truncate_from = log->truncate_from;
	if (log->last_index > log->handed)
	{
		out->entries = raft_log_get(log, log->handed + 1);
		out->nentries = log->last_index - log->handed;
		RAFT_ASSERT(out->entries != NULL);
	}
	out->must_sync = voted || out->nentries > 0 || out->truncate_from != 0 ||
		out->reset_index != 0;

	log->truncate_from = 0;
	log->handed = log->last_index;
	r->reset_index = r->reset_term = 0;
	r->handed_hard = out->hard;

	if (out->must_sync || r->append_again)
	{
		raft_log_push_handout(log, r->hard.term, r->now_us);
		out->append_pending = true;
		out->append_term = r->hard.term;
		out->append_index = log->handed;
		r->append_again = false;
	}
}

/* Committed and durable here, and not while an image is to come. */
static bool
hand_out_commits(Raft *r, RaftOutput *out)
{
	uint64_t	last = r->hard.commit < r->log.stable ? r->hard.commit : r->log.stable;

	if ((r->confs.confs[0]->index > r->saved_conf || r->conf_unsaved) &&
		r->confs.confs[0]->index <= last)
	{
		r->conf_unsaved = false;
		out->conf_committed = true;
		r->saved_conf = r->confs.confs[0]->index;
	}
	if (r->distrusted_until != 0 && r->log.stable >= r->distrusted_until && !r->reset_unsynced)
	{
		r->distrusted_until = 0;
		out->trusted = true;
	}
	if (r->install || last <= r->emitted)
		return false;
	out->commit_first = r->emitted + 1;
	if (last - r->emitted > r->cfg.max_apply_entries)
		last = r->emitted + r->cfg.max_apply_entries;
	out->commit_last = last;
	r->emitted = last;
	return r->hard.commit > last && r->log.stable > last;
}

static int64_t
next_deadline(const Raft *r)
{
	int64_t		deadline = raft_reads_deadline(r);
	int64_t		at;

	if (r->fenced)
		return INT64_MAX;
	if (r->role != RAFT_LEADER)
		return r->election_deadline_us < deadline ? r->election_deadline_us : deadline;
	if (r->npeers > 0 && r->heartbeat_deadline_us < deadline)
		deadline = r->heartbeat_deadline_us;
	at = raft_narrow_deadline(r);
	if (at < deadline)
		deadline = at;
	if (r->transferee != RAFT_NONE && r->transfer_deadline_us < deadline)
		deadline = r->transfer_deadline_us;
	if (raft_log_oldest_handout(&r->log, &at) && raft_other_voters(r) &&
		at + r->cfg.election_timeout_us + 1 < deadline)
		deadline = at + r->cfg.election_timeout_us + 1;
	return deadline;
}

void
raft_take_output(Raft *r, RaftOutput *out)
{
	RaftOutSet *set;
	bool		more;

	memset(out, 0, sizeof(*out));
	if (!raft_log_reserve_handout(&r->log))
	{
		/* nothing may leave that is not accounted for; later, then */
		out->hard = r->handed_hard;
		out->next_deadline_us = r->now_us;
		return;
	}
	if (r->role == RAFT_LEADER)
	{
		raft_flush_peers(r);
		raft_retire(r);
	}
	raft_flush_reads(r);

	hand_out_writes(r, out);
	more = hand_out_commits(r, out);
	raft_log_evict(&r->log, r->cfg.cache_bytes,
				   r->role == RAFT_LEADER ? r->hard.commit : r->log.stable);

	set = &r->sets[r->filling];
	out->msgs = set->now.msgs;
	out->nmsgs = set->now.n;
	out->msgs_after = set->after.msgs;
	out->nmsgs_after = set->after.n;
	out->loads = set->loads;
	out->nloads = set->nloads;
	out->reads = set->reads.reads;
	out->nreads = set->reads.n;
	r->filling ^= 1;
	set = &r->sets[r->filling];
	set->now.n = set->after.n = set->reads.n = 0;
	set->nloads = 0;

	out->install = r->install;
	out->install_from = r->install_from;
	out->install_index = r->install_index;
	out->install_term = r->install_term;
	out->role_changed = r->role_changed;
	out->conf_changed = r->conf_changed;
	r->role_changed = r->conf_changed = false;
	out->next_deadline_us = more ? r->now_us : next_deadline(r);
}
