/*-------------------------------------------------------------------------
 *
 * raft.c
 *		Life of a core, time, dispatch of messages, changes of role and term.
 *
 * Terms are compared once, at the top of dispatch(), before anything looks at
 * the role. The vote is forgotten only where the term changes (P-03).
 *
 *-------------------------------------------------------------------------
 */
#include <stdlib.h>
#include <string.h>

#include "raft/raft_assert.h"
#include "raft/raft_internal.h"

void
raft_config_default(RaftConfig *config)
{
	memset(config, 0, sizeof(*config));
	config->election_timeout_us = 1000000;
	config->heartbeat_interval_us = 100000;
	config->max_message_bytes = 1024 * 1024;
	config->max_inflight_messages = 256;
	config->max_inflight_bytes = 16 * 1024 * 1024;
	config->max_uncommitted_bytes = 256 * 1024 * 1024;
	config->cache_bytes = 32 * 1024 * 1024;
	config->max_apply_entries = 4096;
	config->lease_drift_us = 0;
}

/* What makes no sense is moved to the nearest thing that does. */
static void
set_config(Raft *r, const RaftConfig *config)
{
	r->cfg = *config;
	if (r->cfg.heartbeat_interval_us < 1)
		r->cfg.heartbeat_interval_us = 1;
	if (r->cfg.election_timeout_us < 2 * r->cfg.heartbeat_interval_us)
		r->cfg.election_timeout_us = 2 * r->cfg.heartbeat_interval_us;
	if (r->cfg.max_message_bytes == 0)
		r->cfg.max_message_bytes = 1;
	if (r->cfg.max_inflight_messages == 0)
		r->cfg.max_inflight_messages = 1;
	if (r->cfg.max_inflight_bytes == 0)
		r->cfg.max_inflight_bytes = 1;
	if (r->cfg.max_apply_entries == 0)
		r->cfg.max_apply_entries = 1;
	if (r->cfg.lease_drift_us <= 0)
		r->cfg.lease_drift_us = r->cfg.election_timeout_us / 10;
}

/* splitmix64; entropy comes in with ticks. */
uint64_t
raft_random(Raft *r)
{
	uint64_t	z = (r->rng += 0x9e3779b97f4a7c15u);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

static void
set_now(Raft *r, int64_t now_us)
{
	if (now_us > r->now_us)
		r->now_us = now_us;
}

/* ---------- life ---------- */

/* Configurations above the saved one, and what the disk says about commit. */
static RaftStatus
load_disk(Raft *r, const RaftDisk *disk)
{
	RaftStatus	status = raft_log_init(&r->log, disk);
	uint64_t	last = 0;
	uint64_t	applied = disk->applied;

	if (status != RAFT_OK)
		return status;
	if (disk->hard.term > RAFT_LIMIT || disk->last_index > RAFT_LIMIT)
		return RAFT_FENCED;

	/*
	 * Never a crash on what the disk says (etcd's panics made wiped disks into
	 * crash loops): a typed result that keeps this member out.
	 */
	if (disk->hard.commit > disk->last_index || !raft_conf_valid(&disk->conf) ||
		disk->distrusted_until > RAFT_LIMIT ||
		(disk->applied > disk->last_index && disk->applied > disk->distrusted_until))
		return RAFT_FENCED;

	if (!raft_confs_init(&r->confs, &disk->conf) ||
		!raft_confs_reserve(&r->confs, disk->nconfs))
		return RAFT_NO_MEMORY;
	last = disk->conf.index;
	for (size_t i = 0; i < disk->nconfs; i++)
	{
		RaftConf   *copy;

		if (disk->confs[i].index <= last || disk->confs[i].index > disk->last_index ||
			!raft_conf_valid(&disk->confs[i]))
			return RAFT_FENCED;
		last = disk->confs[i].index;
		copy = malloc(sizeof(RaftConf));
		if (copy == NULL)
			return RAFT_NO_MEMORY;
		*copy = disk->confs[i];
		raft_confs_push(&r->confs, copy);
	}

	/*
	 * What was saved as committed, applied or compacted was committed. A
	 * configuration above the log's end came with an image whose reset of the
	 * log was torn: it is in force all the same, and harmless, since a quorum
	 * of it has a longer log than this member.
	 */
	r->hard = disk->hard;
	r->handed_hard = r->hard;

	/*
	 * Entries of a newer term than the hard state: the write that was to make
	 * both durable was torn. No vote of that term was given yet.
	 */
	if (r->hard.term < raft_log_last_term(&r->log))
	{
		r->hard.term = raft_log_last_term(&r->log);
		r->hard.vote = RAFT_NONE;
	}
	if (r->hard.commit < disk->conf.index && disk->conf.index <= disk->last_index)
		r->hard.commit = disk->conf.index;
	if (r->hard.commit < disk->first_index - 1)
		r->hard.commit = disk->first_index - 1;
	if (applied > disk->last_index)
		applied = disk->last_index; /* the rest was lost; it comes again */
	if (r->hard.commit < applied)
		r->hard.commit = applied;
	r->emitted = disk->first_index - 1;
	if (r->emitted < applied)
		r->emitted = applied;
	r->distrusted_until = disk->distrusted_until;
	r->saved_conf = disk->conf.index;
	raft_confs_commit(&r->confs, r->hard.commit);
	return RAFT_OK;
}

RaftStatus
raft_create(const RaftConfig *config, const RaftDisk *disk, int64_t now_us,
			uint64_t entropy, Raft **raft)
{
	Raft	   *r;
	RaftStatus	status;

	*raft = NULL;
	if (config->id == RAFT_NONE)
		return RAFT_INVALID;
	r = calloc(1, sizeof(Raft));
	if (r == NULL)
		return RAFT_NO_MEMORY;
	r->now_us = now_us;
	r->rng = entropy;
	set_config(r, config);
	r->ring_cap = r->cfg.max_inflight_messages > 65536 ? 65536 : r->cfg.max_inflight_messages;
	r->rings = malloc((size_t) RAFT_MAX_MEMBERS * r->ring_cap * sizeof(RaftInflight));
	status = r->rings != NULL ? load_disk(r, disk) : RAFT_NO_MEMORY;
	if (status != RAFT_OK)
	{
		raft_free(r);
		return status;
	}
	r->forward_seq = raft_random(r) | 1;
	r->leader_contact_us = now_us;
	raft_conf_activated(r);
	raft_reset_election_timer(r);

	/*
	 * An earlier life may have promised a leader its lease. Nothing on disk
	 * says so, hence where leases are in use it waits one out.
	 */
	r->promise_until_us = now_us;
	if (r->cfg.lease_reads && raft_other_voters(r))
		r->promise_until_us = now_us + r->cfg.election_timeout_us;

	/* nobody to wait for */
	if (raft_is_promotable(r) && !raft_other_voters(r))
		r->election_deadline_us = now_us;
	*raft = r;
	return RAFT_OK;
}

void
raft_free(Raft *r)
{
	if (r == NULL)
		return;
	raft_output_free(r);
	raft_log_free(&r->log);
	raft_confs_free(&r->confs);
	free(r->waits.waits);
	free(r->rings);
	free(r);
}

void
raft_set_config(Raft *r, const RaftConfig *config)
{
	RaftConfig	c = *config;

	/* who we are does not change, windows do not grow above their memory */
	c.id = r->cfg.id;
	memcpy(c.instance, r->cfg.instance, RAFT_INSTANCE_LEN);

	/* answers to earlier rounds promised what was asked for then */
	if (c.lease_reads != r->cfg.lease_reads ||
		c.election_timeout_us != r->cfg.election_timeout_us)
		r->lease_floor = r->round;
	set_config(r, &c);
	r->dirty = true;
}

/* ---------- role and term ---------- */

void
raft_set_leader(Raft *r, uint32_t leader)
{
	if (r->leader == leader)
		return;
	raft_fail_reads(r);
	r->leader = leader;
	r->role_changed = true;
}

void
raft_become_follower(Raft *r, uint64_t term, uint32_t leader)
{
	RAFT_ASSERT(term >= r->hard.term);

	if (r->role == RAFT_LEADER)
		raft_leave_leader(r);
	raft_set_leader(r, leader);
	if (term != r->hard.term)
	{
		r->hard.term = term;
		r->hard.vote = RAFT_NONE;
		raft_log_drop_handouts(&r->log);
		r->role_changed = true;
		raft_reset_election_timer(r);
	}
	if (r->role != RAFT_FOLLOWER)
	{
		r->role = RAFT_FOLLOWER;
		r->role_changed = true;
		raft_reset_election_timer(r);
	}
}

void
raft_fence(Raft *r)
{
	if (r->fenced)
		return;
	raft_become_follower(r, r->hard.term, RAFT_NONE);
	r->fenced = true;
	r->role_changed = true;
}

bool
raft_stalled(const Raft *r)
{
	int64_t		at;

	return raft_log_oldest_handout(&r->log, &at) &&
		r->now_us - at > r->cfg.election_timeout_us;
}

bool
raft_other_voters(const Raft *r)
{
	const RaftConf *conf = raft_active(r);

	for (uint32_t i = 0; i < conf->nmembers; i++)
		if (conf->members[i].id != r->cfg.id &&
			(conf->members[i].voter || conf->members[i].voter_outgoing))
			return true;
	return false;
}

/*
 * May this instance use this id? Asked of the committed configuration too: a
 * member that is about to be removed still counts, and its id is not free for
 * somebody without its disk (P-34).
 */
static bool
is_instance_of(const Raft *r, uint32_t id, const uint8_t *instance)
{
	static const uint8_t none[RAFT_INSTANCE_LEN];
	const RaftConf *confs[2] = {raft_active(r), r->confs.confs[0]};

	for (int i = 0; i < 2; i++)
	{
		const RaftMember *m = raft_conf_find(confs[i], id);

		if (m != NULL && memcmp(m->instance, none, RAFT_INSTANCE_LEN) != 0 &&
			memcmp(m->instance, instance, RAFT_INSTANCE_LEN) != 0)
			return false;
	}
	return true;
}

/* Another configuration is in force. */
void
raft_conf_activated(Raft *r)
{
	r->conf_changed = true;
	r->foreign = !is_instance_of(r, r->cfg.id, r->cfg.instance);
	if (r->role == RAFT_LEADER)
		raft_rebuild_peers(r);
}

void
raft_set_commit(Raft *r, uint64_t commit)
{
	uint64_t	old = r->hard.commit;

	RAFT_ASSERT(commit <= r->log.last_index);
	if (commit <= old)
		return;
	r->hard.commit = commit;
	raft_confs_commit(&r->confs, commit);

	if (r->role != RAFT_LEADER)
		return;

	/* what this leadership proposed is in memory until committed */
	for (uint64_t i = (old > r->term_start ? old : r->term_start) + 1; i <= commit; i++)
	{
		const RaftEntry *e = raft_log_get(&r->log, i);

		RAFT_ASSERT(e != NULL);
		if (e->type == RAFT_ENTRY_DATA && e->data != NULL)
		{
			RAFT_ASSERT(r->uncommitted_bytes >= e->data->len);
			r->uncommitted_bytes -= e->data->len;
		}
	}
	r->dirty = true;
}

/* ---------- inputs ---------- */

void
raft_tick(Raft *r, int64_t now_us, uint64_t entropy)
{
	set_now(r, now_us);
	r->rng ^= entropy;
	if (r->fenced)
		return;
	raft_expire_reads(r);
	if (r->role == RAFT_LEADER)
		raft_tick_leader(r);
	else
		raft_tick_follower(r);
}

void
raft_set_stamp(Raft *r, RaftStamp stamp)
{
	r->stamp = stamp;
}

/* A message of an older term. Never changes anything here. */
static void
answer_stale(Raft *r, const RaftMsg *m)
{
	RaftMsg		resp = {0};

	switch (m->type)
	{
		case RAFT_MSG_APPEND:
		case RAFT_MSG_HEARTBEAT:
		case RAFT_MSG_SNAPSHOT:

			/*
			 * A leader that this member cannot follow any more because it is
			 * ahead in terms: without an answer it would stay ahead for ever
			 * (P-11, etcd's TestFreeStuckCandidateWithCheckQuorum).
			 */
			resp.type = RAFT_MSG_APPEND_RESP;
			resp.reject = true;
			resp.index = m->index;
			raft_send(r, m->from, &resp, true);
			break;
		case RAFT_MSG_PREVOTE:
			raft_refuse_vote(r, m);
			break;
		default:
			break;
	}
}

/* A message of a newer term. False: that was all. */
static bool
enter_term(Raft *r, const RaftMsg *m)
{
	switch (m->type)
	{
		case RAFT_MSG_PREVOTE:
		case RAFT_MSG_VOTE:
			if (!m->transfer && raft_leader_is_alive(r))
			{
				/* a leader that is heard is not voted out */
				if (m->type == RAFT_MSG_PREVOTE)
					raft_refuse_vote(r, m);
				return false;
			}
			if (m->type == RAFT_MSG_VOTE)
				raft_become_follower(r, m->term, RAFT_NONE);
			break;
		case RAFT_MSG_PREVOTE_RESP:
			/* granted: carries the term that the campaign would be in */
			if (m->reject)
				raft_become_follower(r, m->term, RAFT_NONE);
			break;
		case RAFT_MSG_APPEND:
		case RAFT_MSG_HEARTBEAT:
		case RAFT_MSG_SNAPSHOT:
			raft_become_follower(r, m->term, m->from);
			break;
		default:
			raft_become_follower(r, m->term, RAFT_NONE);
			break;
	}
	return true;
}

/* APPEND, HEARTBEAT, SNAPSHOT of this term: its sender leads. */
static RaftStatus
from_leader(Raft *r, RaftMsg *m)
{
	if (r->role == RAFT_LEADER || (r->leader != RAFT_NONE && r->leader != m->from))
		return RAFT_INVALID;	/* two leaders in one term: not ours to follow */
	if (r->role != RAFT_FOLLOWER)
		raft_become_follower(r, m->term, m->from);
	raft_set_leader(r, m->from);
	r->leader_contact_us = r->now_us;
	r->hurry_until_us = 0;
	raft_reset_election_timer(r);

	switch (m->type)
	{
		case RAFT_MSG_APPEND:
			return raft_recv_append(r, m);
		case RAFT_MSG_HEARTBEAT:
			return raft_recv_heartbeat(r, m);
		default:
			return raft_recv_snapshot(r, m);
	}
}

static RaftStatus
dispatch(Raft *r, RaftMsg *m)
{
	if (m->term > r->hard.term)
	{
		if (!enter_term(r, m))
			return RAFT_OK;
	}
	else if (m->term < r->hard.term && m->type != RAFT_MSG_PREVOTE_RESP)
	{
		answer_stale(r, m);
		return RAFT_OK;
	}

	switch (m->type)
	{
		case RAFT_MSG_APPEND:
		case RAFT_MSG_HEARTBEAT:
		case RAFT_MSG_SNAPSHOT:
			return from_leader(r, m);
		case RAFT_MSG_PREVOTE:
			raft_recv_prevote(r, m);
			break;
		case RAFT_MSG_VOTE:
			raft_recv_vote(r, m);
			break;
		case RAFT_MSG_PREVOTE_RESP:
		case RAFT_MSG_VOTE_RESP:
			raft_recv_vote_resp(r, m);
			break;
		case RAFT_MSG_APPEND_RESP:
			raft_recv_append_resp(r, m);
			break;
		case RAFT_MSG_HEARTBEAT_RESP:
			raft_recv_heartbeat_resp(r, m);
			break;
		case RAFT_MSG_TIMEOUT_NOW:
			raft_recv_timeout_now(r, m);
			break;
		case RAFT_MSG_READ_INDEX:
			raft_recv_read_index(r, m);
			break;
		case RAFT_MSG_READ_INDEX_RESP:
			raft_recv_read_index_resp(r, m);
			break;
	}
	return RAFT_OK;
}

RaftStatus
raft_recv(Raft *r, RaftMsg *msg, int64_t now_us)
{
	RaftStatus	status;

	set_now(r, now_us);
	if (!raft_msg_valid(msg) || msg->to != r->cfg.id)
		status = RAFT_INVALID;
	else if (r->fenced)
		status = RAFT_FENCED;
	else if (!is_instance_of(r, msg->from, msg->instance))
		status = RAFT_WRONG_INSTANCE;
	else if (r->foreign && (msg->type == RAFT_MSG_VOTE || msg->type == RAFT_MSG_PREVOTE ||
							msg->type == RAFT_MSG_TIMEOUT_NOW))
		status = RAFT_WRONG_INSTANCE;
	else
		status = dispatch(r, msg);
	raft_msg_free(msg);
	return status;
}

void
raft_append_done(Raft *r, uint64_t term, uint64_t index, int64_t now_us)
{
	bool		again;

	set_now(r, now_us);

	/*
	 * An answer from before a change of term is ignored: what it stands for is
	 * handed out again by name, with the new term (P-17).
	 */
	if (term != r->hard.term || !raft_log_durable(&r->log, term, index, &again))
		return;
	r->append_again |= again;
	r->reset_unsynced = r->reset_unsynced && r->reset_index != 0;
	if (r->fenced)
		return;
	if (r->role == RAFT_CANDIDATE && !r->self_vote)
		raft_own_vote_durable(r);
	else if (r->role == RAFT_LEADER)
		raft_advance_commit(r);
}

void
raft_campaign(Raft *r, int64_t now_us)
{
	set_now(r, now_us);
	if (r->role != RAFT_LEADER && raft_is_promotable(r))
		raft_start_prevote(r);
}

void
raft_peer_down(Raft *r, uint32_t peer, int64_t now_us)
{
	Progress   *p;

	set_now(r, now_us);
	if (r->role == RAFT_LEADER)
	{
		p = raft_peer(r, peer);
		if (p != NULL && p->state == PROGRESS_REPLICATE)
		{
			/* what was in flight is lost; wait for a sign of life */
			progress_to_probe(p);
			p->probe_sent = true;
		}
		return;
	}
	if (peer == RAFT_NONE || peer != r->leader)
		return;

	/*
	 * The leader's process is gone, most likely. Ask the others at once; those
	 * that still hear it refuse. A promised lease is kept all the same.
	 */
	if (raft_is_promotable(r) && r->now_us >= r->promise_until_us)
	{
		r->hurry_until_us = r->now_us + r->cfg.election_timeout_us / 4;
		raft_start_prevote(r);
	}
	else
		raft_set_leader(r, RAFT_NONE);
}

void
raft_peer_up(Raft *r, uint32_t peer, int64_t now_us)
{
	Progress   *p;

	set_now(r, now_us);
	p = r->role == RAFT_LEADER ? raft_peer(r, peer) : NULL;
	if (p == NULL)
		return;
	if (p->state == PROGRESS_REPLICATE)
		progress_to_probe(p);
	p->probe_sent = false;
	p->snapshot_sent = false;
	p->driver_paused = false;
	r->dirty = true;
}

void
raft_peer_paused(Raft *r, uint32_t peer, bool paused)
{
	Progress   *p = r->role == RAFT_LEADER ? raft_peer(r, peer) : NULL;

	if (p == NULL)
		return;
	p->driver_paused = paused;
	r->dirty = true;
}

void
raft_compacted(Raft *r, uint64_t first_index)
{
	/* only what is committed and durable can be gone */
	if (first_index > r->hard.commit + 1 || first_index > r->log.stable + 1)
		return;
	raft_log_compact(&r->log, first_index);
	if (r->emitted + 1 < first_index)
		r->emitted = first_index - 1;
	r->dirty = true;
}

/* ---------- questions ---------- */

RaftRole
raft_role(const Raft *r)
{
	return r->role;
}

uint64_t
raft_term(const Raft *r)
{
	return r->hard.term;
}

uint32_t
raft_leader(const Raft *r)
{
	return r->leader;
}

uint64_t
raft_commit_index(const Raft *r)
{
	return r->hard.commit;
}

uint64_t
raft_last_index(const Raft *r)
{
	return r->log.last_index;
}

uint64_t
raft_term_at(const Raft *r, uint64_t index)
{
	uint64_t	term;

	return raft_log_term(&r->log, index, &term) ? term : 0;
}

const RaftConf *
raft_conf(const Raft *r)
{
	return raft_active(r);
}

const RaftConf *
raft_committed_conf(const Raft *r)
{
	return r->confs.confs[0];
}

bool
raft_is_fenced(const Raft *r)
{
	return r->fenced;
}

bool
raft_is_recovering(const Raft *r)
{
	return r->distrusted_until != 0;
}

bool
raft_is_promotable(const Raft *r)
{
	if (r->fenced || r->foreign || r->install || r->distrusted_until != 0 || raft_stalled(r))
		return false;

	/*
	 * A voter that an entry takes away is needed until that entry is committed:
	 * it may be the only one that has it (Ongaro 4.2.2). It asks the quorum of
	 * the new configuration, without counting itself.
	 */
	for (size_t i = 0; i < r->confs.n; i++)
		if (raft_conf_is_voter(r->confs.confs[i], r->cfg.id))
			return true;
	return false;
}

bool
raft_has_quorum(const Raft *r, int64_t now_us)
{
	/* alone: nobody to hear of, and no input that moves r->now_us on */
	if (r->role == RAFT_LEADER)
		return !raft_other_voters(r) ||
			now_us - raft_quorum_contact(r) <= r->cfg.election_timeout_us;
	return r->leader != RAFT_NONE &&
		now_us - r->leader_contact_us <= 2 * r->cfg.election_timeout_us;
}

uint64_t
raft_uncommitted_bytes(const Raft *r)
{
	return r->uncommitted_bytes;
}

uint32_t
raft_transferee(const Raft *r)
{
	return r->transferee;
}
