/*-------------------------------------------------------------------------
 *
 * worker_status.c
 *		What quorum.status and quorum.members show.
 *
 * Progress goes to atomics with every turn; the rest is copied when something
 * changed, and at most every STATUS_MIN_US unless it is a change of role.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/timestamp.h"

#include "node/worker.h"

#define STATUS_MIN_US	INT64CONST(200000)

static void
store_if_changed(pg_atomic_uint64 *at, uint64 value)
{
	/* readers keep their cache line while nothing changes */
	if (pg_atomic_read_u64(at) != value)
		pg_atomic_write_u64(at, value);
}

void
status_progress(Worker *w)
{
	uint64		last = raft_last_index(w->raft);

	if (pg_atomic_read_u64(&node_shared->raft_last) != last)
	{
		pg_atomic_write_u64(&node_shared->raft_last, last);
		w->status_dirty = true;
	}
	store_if_changed(&node_shared->log_first, rlog_first_index(w->log));
	store_if_changed(&node_shared->raft_commit, raft_commit_index(w->raft));
	store_if_changed(&node_shared->raft_term, raft_term(w->raft));
}

static const char *
role_name(const Worker *w)
{
	const RaftMember *self;

	if (w->state != WORKER_RUNNING)
		return w->state == WORKER_HALTED ? w->halted_role : "stopped";
	switch (raft_role(w->raft))
	{
		case RAFT_LEADER:
			return "leader";
		case RAFT_CANDIDATE:
		case RAFT_PRECANDIDATE:
			return "candidate";
		default:
			break;
	}
	self = raft_conf_find(raft_conf(w->raft), w->id);
	return self == NULL || (!self->voter && !self->voter_outgoing) ? "learner" : "follower";
}

static void
fill_member(Worker *w, const RaftMember *m, NodeMemberStatus *to)
{
	TpPeerStats stats;
	RaftPeerStatus progress;
	PeerInfo   *peer;

	memset(to, 0, sizeof(*to));
	strlcpy(to->name, m->name, sizeof(to->name));
	strlcpy(to->address, m->address, sizeof(to->address));
	to->id = m->id;
	to->is_learner = !m->voter;
	to->is_leader = raft_leader(w->raft) == m->id;
	if (m->id == w->id)
	{
		strlcpy(to->version, WORKER_VERSION, sizeof(to->version));
		to->reachable = true;
		to->last_contact = GetCurrentTimestamp();
		to->has_match = worker_leads(w);
		to->match_index = rlog_durable_index(w->log);
		return;
	}
	if (tp_peer_stats(w->tp, m->id, &stats))
	{
		to->reachable = stats.state == TP_PEER_UP && stats.incoming;
		if (stats.last_contact_us != 0)
			to->last_contact = GetCurrentTimestamp() -
				(node_monotonic_us() - stats.last_contact_us);
	}
	if (raft_peer_status(w->raft, m->id, &progress))
	{
		to->has_match = true;
		to->match_index = progress.match;
	}
	peer = peer_find(w, m->id);
	if (peer != NULL)
	{
		to->has_applied = peer->has_applied;
		to->applied_index = peer->applied_index;
		strlcpy(to->version, peer->version, sizeof(to->version));
		strlcpy(to->sql.name, m->name, sizeof(to->sql.name));
		image_sql_address(m->address, peer->socket_dir, peer->sql_port, &to->sql);
	}
}

void
status_publish(Worker *w)
{
	NodeStatus *status = &node_shared->status;

	w->status_dirty = false;
	w->status_us = w->now_us + STATUS_MIN_US;
	LWLockAcquire(node_shared->status_lock, LW_EXCLUSIVE);
	memcpy(&status->cluster_id, w->cluster_id, sizeof(status->cluster_id));
	memcpy(status->instance, w->instance, sizeof(status->instance));
	strlcpy(status->role, role_name(w), sizeof(status->role));
	strlcpy(status->detail, w->detail, sizeof(status->detail));
	status->leader_id = 0;
	status->leader[0] = '\0';
	if (w->state == WORKER_RUNNING)
	{
		const RaftConf *conf = raft_conf(w->raft);
		const RaftMember *leader = raft_conf_find(conf, raft_leader(w->raft));

		if (leader != NULL)
		{
			status->leader_id = leader->id;
			strlcpy(status->leader, leader->name, sizeof(status->leader));
		}
		status->nmembers = Min(conf->nmembers, NODE_MAX_MEMBERS);
		for (int i = 0; i < status->nmembers; i++)
			fill_member(w, &conf->members[i], &status->members[i]);
	}
	else if (w->state == WORKER_ALONE)
		status->nmembers = 0;
	LWLockRelease(node_shared->status_lock);
	ConditionVariableBroadcast(&node_shared->status_cv);
}
