/*-------------------------------------------------------------------------
 *
 * check.c
 *		Invariants of one core, for tests and the simulator.
 *
 *-------------------------------------------------------------------------
 */
#include "raft/raft_internal.h"

static const char *
check_log(const Raft *r)
{
	const RaftLog *log = &r->log;
	uint64_t	bytes = 0;
	uint64_t	term = log->prev_term;

	if (log->first_index - 1 > log->stable)
		return "first_index - 1 <= stable";
	if (log->stable > log->handed)
		return "stable <= handed";
	if (log->handed > log->last_index)
		return "handed <= last_index";
	if (raft_log_cache_first(log) > log->stable + 1)
		return "everything above stable is in memory";
	if (raft_log_cache_first(log) < log->first_index)
		return "nothing compacted is in memory";
	for (size_t i = 0; i < log->cache_len; i++)
	{
		const RaftEntry *e = &log->cache[log->cache_head + i];

		bytes += raft_entry_bytes(e);
		if (e->index != raft_log_cache_first(log) + i)
			return "cached entries are consecutive";
		if (!raft_log_matches(log, e->index, e->term))
			return "cached entries have the terms of the log";
	}
	if (bytes != log->cache_bytes)
		return "cache bytes add up";
	for (size_t i = 0; i < log->nruns; i++)
	{
		const RaftTermRun *run = &log->runs[log->runs_head + i];

		if (i == 0 ? run->first_index != log->first_index :
			run->first_index <= run[-1].first_index)
			return "term runs ascend from first_index";
		if (run->first_index > log->last_index)
			return "term runs end with the log";
		if (i == 0 ? run->term < term : run->term <= term)
			return "terms ascend";
		term = run->term;
	}
	if ((log->nruns == 0) != (log->last_index < log->first_index))
		return "an empty log has no term runs";
	if (term > r->hard.term)
		return "no entry is from a later term";
	for (size_t i = 0; i < log->nout; i++)
		if (log->out[log->out_head + i].upto > log->handed)
			return "nothing was handed out above handed";
	return NULL;
}

static const char *
check_confs(const Raft *r)
{
	if (r->confs.n == 0)
		return "there is a configuration";
	for (size_t i = 0; i < r->confs.n; i++)
	{
		const RaftConf *c = r->confs.confs[i];

		if (!raft_conf_valid(c))
			return "configurations are valid";
		if (i > 0 && c->index > r->log.last_index)
			return "configurations are in the log";
		if (i > 0 && c->index <= r->confs.confs[i - 1]->index)
			return "configurations ascend";
		if (i > 0 && c->index <= r->hard.commit)
			return "only one configuration is committed";
	}
	return NULL;
}

static const char *
check_leader(const Raft *r)
{
	uint64_t	uncommitted = 0;

	if (r->leader != r->cfg.id)
		return "a leader knows itself as the leader";
	if (r->term_start > r->log.last_index || r->term_start == 0)
		return "a leader has its no-op";
	if (r->hard.commit >= r->term_start &&
		raft_term_at(r, r->hard.commit) != r->hard.term)
		return "what is committed by counting is of the own term";
	for (uint64_t i = (r->hard.commit > r->term_start ? r->hard.commit : r->term_start) + 1;
		 i <= r->log.last_index; i++)
	{
		const RaftEntry *e = raft_log_get(&r->log, i);

		if (e == NULL)
			return "a leader's uncommitted entries are in memory";
		if (e->type == RAFT_ENTRY_DATA && e->data != NULL)
			uncommitted += e->data->len;
	}
	if (uncommitted != r->uncommitted_bytes)
		return "uncommitted bytes add up";
	for (uint32_t i = 0; i < r->npeers; i++)
	{
		const Progress *p = &r->peers[i];
		uint64_t	bytes = 0;

		if (p->match >= p->next)
			return "match < next";
		if (p->match > r->log.last_index || p->next > r->log.last_index + 1)
			return "no peer is ahead of the leader";
		if (p->count > p->cap)
			return "the window holds what it can";
		for (uint32_t j = 0; j < p->count; j++)
		{
			const RaftInflight *f = &p->ring[(p->head + j) % p->cap];

			bytes += f->bytes;
			if (f->last <= p->match || f->last >= p->next)
				return "the window is between match and next";
		}
		if (bytes != p->inflight_bytes)
			return "bytes in flight add up";
		if (p->state != PROGRESS_REPLICATE && p->count > 0)
			return "only a replicating peer has entries in flight";
		for (uint32_t j = 0; j < i; j++)
			if (r->peers[j].ring == p->ring || r->peers[j].id == p->id)
				return "each peer has a window of its own";
	}
	return NULL;
}

const char *
raft_check_invariants(const Raft *r)
{
	const char *bad = check_log(r);

	if (bad == NULL)
		bad = check_confs(r);
	if (bad != NULL)
		return bad;
	if (r->hard.commit > r->log.last_index)
		return "commit <= last_index";
	if (r->emitted > r->hard.commit)
		return "applied <= commit";
	if (r->fenced && r->role != RAFT_FOLLOWER)
		return "a fenced member does not lead or campaign";
	if (r->role == RAFT_CANDIDATE && r->hard.vote != r->cfg.id)
		return "a candidate votes for itself";
	if (r->role != RAFT_LEADER && r->uncommitted_bytes != 0)
		return "only a leader has a quota in use";
	if (r->role != RAFT_LEADER && r->leader == r->cfg.id)
		return "who knows itself as the leader leads";
	if (r->role == RAFT_LEADER)
		return check_leader(r);
	return NULL;
}
