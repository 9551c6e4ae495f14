/*-------------------------------------------------------------------------
 *
 * member.c
 *		Changes of membership, on the leader. The rules are in conf.h.
 *
 *-------------------------------------------------------------------------
 */
#include <stdlib.h>
#include <string.h>

#include "raft/raft_assert.h"
#include "raft/raft_internal.h"

/*
 * Bring the peers into line with the configuration in force. Who stays keeps
 * what is known of it; who goes is told so for a while.
 */
void
raft_rebuild_peers(Raft *r)
{
	const RaftConf *conf = raft_active(r);
	Progress	peers[RAFT_MAX_MEMBERS];
	bool		ring_taken[RAFT_MAX_MEMBERS] = {false};
	uint32_t	n = 0;
	uint32_t	ndeparting = 0;
	uint32_t	free_ring = 0;

	for (uint32_t i = 0; i < r->npeers; i++)
	{
		const RaftMember *m = raft_conf_find(conf, r->peers[i].id);

		if (m == NULL)
			continue;
		peers[n] = r->peers[i];
		peers[n].departing = false;
		n++;
	}
	for (uint32_t i = 0; i < r->npeers; i++)
	{
		if (raft_conf_find(conf, r->peers[i].id) != NULL)
			continue;
		if (ndeparting + conf->nmembers >= RAFT_MAX_MEMBERS)
		{
			r->order_lost |= raft_order_open(&r->peers[i]);
			continue;
		}
		peers[n] = r->peers[i];
		if (!peers[n].departing)
		{
			peers[n].departing = true;
			peers[n].departing_index = conf->index;
			peers[n].departing_until_us = r->now_us + 10 * r->cfg.election_timeout_us;
			peers[n].departing_grace = 0;
		}
		ndeparting++;
		n++;
	}
	for (uint32_t i = 0; i < n; i++)
		ring_taken[(size_t) (peers[i].ring - r->rings) / r->ring_cap] = true;

	for (uint32_t i = 0; i < conf->nmembers; i++)
	{
		uint32_t	id = conf->members[i].id;

		if (id == r->cfg.id || raft_peer(r, id) != NULL)
			continue;
		while (ring_taken[free_ring])
			free_ring++;
		RAFT_ASSERT(n < RAFT_MAX_MEMBERS && free_ring < RAFT_MAX_MEMBERS);
		ring_taken[free_ring] = true;
		progress_init(&peers[n++], id, r->log.last_index + 1, r->now_us,
					  r->rings + (size_t) free_ring * r->ring_cap, r->ring_cap);
	}
	memcpy(r->peers, peers, n * sizeof(Progress));
	r->npeers = n;
	if (r->transferee != RAFT_NONE && !raft_conf_is_voter(conf, r->transferee))
		raft_abort_transfer(r);
	r->dirty = true;
	raft_rounds_acked(r);		/* a smaller quorum may be complete (P-40) */
}

/* Append *conf as an entry; in force from now on. */
static RaftStatus
append_conf(Raft *r, const RaftConf *conf, RaftStamp stamp, RaftToken token, uint64_t *index)
{
	RaftEntry	e = {0};
	RaftConf   *copy = malloc(sizeof(RaftConf));
	RaftStatus	status = RAFT_NO_MEMORY;

	if (copy != NULL)
	{
		*copy = *conf;
		copy->index = r->log.last_index + 1;
		e.type = RAFT_ENTRY_CONF;
		e.stamp = stamp;
		e.token = token;
		e.data = raft_conf_encode(copy);
		if (e.data != NULL && raft_confs_reserve(&r->confs, 1))
			status = raft_leader_append(r, &e);
	}
	if (status != RAFT_OK)
	{
		raft_buf_unref(e.data);
		free(copy);
		return status;
	}
	RAFT_ASSERT(e.index == copy->index);
	raft_confs_push(&r->confs, copy);
	raft_conf_activated(r);
	if (index != NULL)
		*index = e.index;
	return RAFT_OK;
}

/* P-06: own term committed, and no change under way. */
static RaftStatus
may_change(const Raft *r)
{
	if (r->fenced)
		return RAFT_FENCED;
	if (r->role != RAFT_LEADER)
		return RAFT_NOT_LEADER;
	if (r->transferee != RAFT_NONE)
		return RAFT_TRANSFERRING;
	if (r->hard.commit < r->term_start || raft_active(r)->index > r->hard.commit)
		return RAFT_BUSY;
	return RAFT_OK;
}

RaftStatus
raft_propose_conf(Raft *r, const RaftConf *target, RaftStamp stamp, RaftToken token,
				  uint64_t *index)
{
	RaftConf	next;
	RaftStatus	status = may_change(r);

	if (status == RAFT_OK)
		status = raft_conf_change(raft_active(r), target, &next);
	if (status != RAFT_OK)
		return status;
	return append_conf(r, &next, stamp, token, index);
}

RaftStatus
raft_leave_joint(Raft *r, RaftStamp stamp, RaftToken token, uint64_t *index)
{
	RaftConf	next;
	RaftStatus	status = may_change(r);

	if (status != RAFT_OK)
		return status;
	if (!raft_active(r)->joint)
		return RAFT_INVALID;
	raft_conf_leave(raft_active(r), &next);
	return append_conf(r, &next, stamp, token, index);
}

/*
 * The commit index moved on: leave a joint configuration that is committed
 * itself (P-08), once (P-09: it is not the one in force any more then).
 */
void
raft_conf_committed_here(Raft *r)
{
	RaftToken	none = {0};
	RaftConf	next;

	if (r->hard.commit < r->term_start || raft_active(r)->index > r->hard.commit)
		return;
	if (!raft_active(r)->joint || raft_active(r)->explicit_leave)
		return;
	raft_conf_leave(raft_active(r), &next);
	(void) append_conf(r, &next, r->last_stamp, none, NULL);
}

/*
 * A leader that the committed configuration does not have as a voter steps down
 * (Ongaro 4.2.2), after everybody was told the commit index, and hands over.
 */
void
raft_retire(Raft *r)
{
	uint32_t	to = RAFT_NONE;

	if (r->role != RAFT_LEADER || raft_active(r)->index > r->hard.commit ||
		raft_conf_is_voter(raft_active(r), r->cfg.id))
		return;
	for (uint32_t i = 0; i < r->npeers; i++)
		if (r->peers[i].match == r->log.last_index &&
			raft_conf_is_voter(raft_active(r), r->peers[i].id))
			to = r->peers[i].id;
	if (to != RAFT_NONE)
		raft_send_timeout_now(r, to);
	raft_become_follower(r, r->hard.term, RAFT_NONE);
}
