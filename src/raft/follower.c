/*-------------------------------------------------------------------------
 *
 * follower.c
 *		What a leader sends: appends, heartbeats, offers of an image.
 *
 * Three rules whose breach is behind most of the lost data in other people's
 * trackers: the commit index never goes above what this very message matched
 * (P-12); the log is cut only at the first conflicting entry (P-13); only what
 * this very message matched is acknowledged (P-15).
 *
 *-------------------------------------------------------------------------
 */
#include <stdlib.h>
#include <string.h>

#include "raft/raft_assert.h"
#include "raft/raft_internal.h"

static void
acknowledge(Raft *r, uint32_t to, uint64_t index)
{
	RaftMsg		resp = {0};

	resp.type = RAFT_MSG_APPEND_RESP;
	resp.index = index;
	raft_send(r, to, &resp, true);
}

static void
refuse(Raft *r, const RaftMsg *m)
{
	RaftMsg		resp = {0};

	/*
	 * Everything here with a term above the leader's cannot match, so the hint
	 * skips all of it; the leader does the same with its side.
	 */
	resp.type = RAFT_MSG_APPEND_RESP;
	resp.reject = true;
	resp.index = m->index;
	resp.transfer = r->distrusted_until != 0 && m->index > r->log.last_index;
	resp.hint = raft_log_meet(&r->log, m->index, m->log_term, &resp.log_term);
	raft_send(r, m->from, &resp, true);
}

/*
 * Decode the configurations among entries [from, n). Returns false on a broken
 * one; then nothing has changed.
 */
static RaftStatus
decode_confs(const RaftMsg *m, uint32_t from, RaftConf ***confs, size_t *nconfs)
{
	RaftStatus	status = RAFT_OK;
	size_t		n = 0;

	*confs = NULL;
	*nconfs = 0;
	for (uint32_t i = from; i < m->nentries; i++)
		n += m->entries[i].type == RAFT_ENTRY_CONF;
	if (n == 0)
		return RAFT_OK;
	*confs = calloc(n, sizeof(RaftConf *));
	if (*confs == NULL)
		return RAFT_NO_MEMORY;
	for (uint32_t i = from; i < m->nentries && status == RAFT_OK; i++)
	{
		const RaftEntry *e = &m->entries[i];
		RaftConf   *conf;

		if (e->type != RAFT_ENTRY_CONF)
			continue;
		conf = malloc(sizeof(RaftConf));
		if (conf == NULL)
		{
			status = RAFT_NO_MEMORY;
			break;
		}
		(*confs)[(*nconfs)++] = conf;
		if (e->data == NULL || !raft_conf_decode(e->data->data, e->data->len, conf) ||
			conf->nmembers == 0)
			status = RAFT_INVALID;
		conf->index = e->index;
	}
	if (status != RAFT_OK)
	{
		for (size_t i = 0; i < *nconfs; i++)
			free((*confs)[i]);
		free(*confs);
		*confs = NULL;
		*nconfs = 0;
	}
	return status;
}

/* Entries [from, n) go behind the log, which is cut at their start if need be. */
static RaftStatus
take_entries(Raft *r, RaftMsg *m, uint32_t from)
{
	RaftConf  **confs;
	size_t		nconfs;
	RaftStatus	status = decode_confs(m, from, &confs, &nconfs);
	bool		activated = false;

	if (status != RAFT_OK)
		return status;
	if (!raft_log_reserve(&r->log, m->nentries - from) ||
		!raft_confs_reserve(&r->confs, nconfs))
	{
		for (size_t i = 0; i < nconfs; i++)
			free(confs[i]);
		free(confs);
		return RAFT_NO_MEMORY;
	}

	if (m->entries[from].index <= r->log.last_index)
	{
		raft_log_truncate(&r->log, m->entries[from].index);
		activated = raft_confs_truncate(&r->confs, m->entries[from].index);
	}
	for (uint32_t i = from; i < m->nentries; i++)
	{
		raft_log_append(&r->log, &m->entries[i]);
		m->entries[i].data = NULL;
	}
	for (size_t i = 0; i < nconfs; i++)
	{
		/* after a torn reset the saved one may be ahead of the log */
		if (confs[i]->index <= r->confs.confs[0]->index)
		{
			free(confs[i]);
			continue;
		}
		raft_confs_push(&r->confs, confs[i]);
		activated = true;
	}
	free(confs);
	if (activated)
		raft_conf_activated(r);
	return RAFT_OK;
}

/*
 * A leader has all that is committed. One whose log says otherwise of an entry
 * up to our commit index was elected by members that forgot something.
 */
static bool
contradicts(const Raft *r, const RaftMsg *m)
{
	uint64_t	term;

	if (m->index > r->hard.commit)
		return false;
	if (raft_log_term(&r->log, m->index, &term) && term != m->log_term)
		return true;
	for (uint32_t i = 0; i < m->nentries && m->entries[i].index <= r->hard.commit; i++)
		if (raft_log_term(&r->log, m->entries[i].index, &term) && term != m->entries[i].term)
			return true;
	return false;
}

RaftStatus
raft_recv_append(Raft *r, RaftMsg *m)
{
	uint64_t	match;
	uint32_t	i = 0;

	RAFT_ASSERT(r->role == RAFT_FOLLOWER && r->leader == m->from);

	if (contradicts(r, m))
	{
		raft_fence(r);
		return RAFT_FENCED;
	}
	if (m->index < r->hard.commit)
	{
		/* late; what is committed here is the leader's as well */
		acknowledge(r, m->from, r->hard.commit);
		return RAFT_OK;
	}
	if (!raft_log_matches(&r->log, m->index, m->log_term))
	{
		refuse(r, m);
		return RAFT_OK;
	}

	while (i < m->nentries && raft_log_matches(&r->log, m->entries[i].index, m->entries[i].term))
		i++;
	match = m->index + m->nentries;
	if (i < m->nentries)
	{
		RaftStatus	status;

		RAFT_ASSERT(m->entries[i].index > r->hard.commit);
		status = take_entries(r, m, i);
		if (status != RAFT_OK)
			return status;
	}

	/* the logs meet: no image is needed */
	r->install = false;
	raft_set_commit(r, m->commit < match ? m->commit : match);
	if (m->context == 0 || m->nentries > 0)
		acknowledge(r, m->from, match);
	raft_log_evict(&r->log, r->cfg.cache_bytes, r->log.stable);
	return RAFT_OK;
}

RaftStatus
raft_recv_heartbeat(Raft *r, const RaftMsg *m)
{
	RaftMsg		resp = {0};

	/*
	 * The leader caps it by what this member acknowledged in this term. Not
	 * here means lost since, on a disk that said it was safe.
	 */
	if (m->commit > r->log.last_index && r->distrusted_until == 0)
	{
		raft_fence(r);
		return RAFT_FENCED;
	}
	if (m->commit > r->log.last_index)
	{
		/* known to be lost: have it sent again */
		RaftMsg		lost = {0};

		lost.type = RAFT_MSG_APPEND_RESP;
		lost.reject = lost.transfer = true;
		lost.index = m->commit;
		lost.hint = r->log.last_index;
		lost.log_term = raft_log_last_term(&r->log);
		raft_send(r, m->from, &lost, true);
	}
	raft_set_commit(r, m->commit < r->log.last_index ? m->commit : r->log.last_index);

	/* hint: for how long, from now, the leader relies on not being voted out */
	if (m->hint > 0 && m->hint < (uint64_t) 3600 * 1000000 &&
		r->promise_until_us < r->now_us + (int64_t) m->hint)
		r->promise_until_us = r->now_us + (int64_t) m->hint;

	resp.type = RAFT_MSG_HEARTBEAT_RESP;
	resp.context = m->context;
	raft_send(r, m->from, &resp, false);
	return RAFT_OK;
}

RaftStatus
raft_recv_snapshot(Raft *r, const RaftMsg *m)
{
	uint64_t	term;

	if (m->index <= r->hard.commit)
	{
		if (raft_log_term(&r->log, m->index, &term) && term != m->log_term)
		{
			raft_fence(r);
			return RAFT_FENCED;
		}
		acknowledge(r, m->from, r->hard.commit);
		return RAFT_OK;
	}
	if (raft_log_matches(&r->log, m->index, m->log_term))
	{
		/* compacted there, so committed; and it is here already */
		raft_set_commit(r, m->index);
		acknowledge(r, m->from, m->index);
		return RAFT_OK;
	}
	r->install = true;
	r->install_from = m->from;
	r->install_index = m->index;
	r->install_term = m->log_term;
	return RAFT_OK;
}

RaftStatus
raft_installed(Raft *r, uint64_t index, uint64_t term, const RaftConf *conf, int64_t now_us)
{
	if (now_us > r->now_us)
		r->now_us = now_us;
	if (r->fenced)
		return RAFT_FENCED;
	if (index == 0 || term == 0 || index > RAFT_LIMIT || term > RAFT_LIMIT ||
		conf->index > index || !raft_conf_valid(conf) || index < r->hard.commit)
		return RAFT_INVALID;

	if (term > r->hard.term)
		raft_become_follower(r, term, RAFT_NONE);
	if (raft_log_matches(&r->log, index, term))
	{
		/* Raft fig. 13 rule 6: the same entry is here, what follows it stays */
		raft_set_commit(r, index);
		if (r->emitted < index)
			r->emitted = index;
	}
	else
	{
		/* rule 7: the whole log goes, the conflicting entry too (P-25) */
		if (r->role == RAFT_LEADER || index <= r->hard.commit)
			return RAFT_INVALID;
		if (!raft_confs_reset(&r->confs, conf))
			return RAFT_NO_MEMORY;
		raft_log_reset(&r->log, index, term);
		r->hard.commit = r->emitted = index;
		r->reset_index = index;
		r->reset_term = term;
		r->conf_unsaved = true;
		r->reset_unsynced = true;
		raft_conf_activated(r);
	}
	if (r->install && index >= r->install_index)
		r->install = false;
	if (r->leader != RAFT_NONE && r->role == RAFT_FOLLOWER)
		acknowledge(r, r->leader, index);
	return RAFT_OK;
}
