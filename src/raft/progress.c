/*-------------------------------------------------------------------------
 *
 * progress.c
 *		What a leader knows of one peer. See progress.h.
 *
 *-------------------------------------------------------------------------
 */
#include <string.h>

#include "raft/progress.h"
#include "raft/raft_assert.h"

void
progress_init(Progress *p, uint32_t id, uint64_t next, int64_t now_us,
			  RaftInflight *ring, uint32_t cap)
{
	RAFT_ASSERT(next > 0 && cap > 0);
	memset(p, 0, sizeof(*p));
	p->id = id;
	p->next = next;
	p->last_contact_us = now_us;
	p->ring = ring;
	p->cap = cap;
}

static void
window_reset(Progress *p)
{
	p->head = 0;
	p->count = 0;
	p->inflight_bytes = 0;
}

static void
window_free_to(Progress *p, uint64_t index)
{
	while (p->count > 0 && p->ring[p->head].last <= index)
	{
		RAFT_ASSERT(p->inflight_bytes >= p->ring[p->head].bytes);
		p->inflight_bytes -= p->ring[p->head].bytes;
		p->head = (p->head + 1) % p->cap;
		p->count--;
	}
	RAFT_ASSERT(p->count > 0 || p->inflight_bytes == 0);
}

void
progress_to_probe(Progress *p)
{
	uint64_t	next = p->match + 1;

	/* what refusals taught so far stays good */
	if (p->state == PROGRESS_PROBE)
	{
		p->probe_sent = false;
		return;
	}
	/* an image that was installed is worth probing behind */
	if (p->state == PROGRESS_SNAPSHOT && p->snapshot_index >= next)
		next = p->snapshot_index + 1;
	p->state = PROGRESS_PROBE;
	p->probe_sent = false;
	p->next = next;
	p->snapshot_index = 0;
	window_reset(p);
	RAFT_ASSERT(p->match < p->next);
}

void
progress_to_replicate(Progress *p)
{
	p->state = PROGRESS_REPLICATE;
	p->probe_sent = false;
	p->next = p->match + 1;
	p->snapshot_index = 0;
	window_reset(p);
}

void
progress_to_snapshot(Progress *p, uint64_t index)
{
	p->state = PROGRESS_SNAPSHOT;
	p->snapshot_index = index;
	p->snapshot_sent = false;
	p->probe_sent = false;
	p->next = p->match + 1;
	window_reset(p);
}

bool
progress_acked(Progress *p, uint64_t index)
{
	bool		news = index > p->match;

	if (news)
		p->match = index;
	if (p->next <= index)
		p->next = index + 1;
	window_free_to(p, index);
	RAFT_ASSERT(p->match < p->next);
	return news;
}

bool
progress_rejected(Progress *p, uint64_t rejected, uint64_t meet)
{
	/*
	 * Refusals never move match (P-14): neither up, whatever they hint at, nor
	 * down.
	 */
	if (p->state == PROGRESS_REPLICATE)
	{
		if (rejected <= p->match)
			return false;
		progress_to_probe(p);
		if (meet >= p->next)
			p->next = (meet < rejected ? meet : rejected - 1) + 1;
		RAFT_ASSERT(p->match < p->next);
		return true;
	}
	if (p->state == PROGRESS_SNAPSHOT || rejected != p->next - 1)
		return false;

	if (meet >= rejected)
		meet = rejected > 0 ? rejected - 1 : 0;
	p->next = (meet > p->match ? meet : p->match) + 1;
	p->probe_sent = false;
	RAFT_ASSERT(p->match < p->next);
	return true;
}

void
progress_lost(Progress *p, uint64_t last)
{
	if (p->match <= last)
		return;
	p->match = last;
	p->told_commit = 0;
	p->caught_up = false;
	p->state = PROGRESS_REPLICATE;
	progress_to_probe(p);
	RAFT_ASSERT(p->next == last + 1);
}

bool
progress_window_full(const Progress *p, uint32_t max_messages, uint64_t max_bytes)
{
	return p->count >= p->cap || p->count >= max_messages ||
		(p->count > 0 && p->inflight_bytes >= max_bytes);
}

void
progress_sent(Progress *p, uint64_t last, uint64_t bytes)
{
	RaftInflight *slot;

	RAFT_ASSERT(p->state == PROGRESS_REPLICATE && p->count < p->cap);
	RAFT_ASSERT(last >= p->next);
	slot = &p->ring[(p->head + p->count) % p->cap];
	slot->last = last;
	slot->bytes = bytes;
	p->count++;
	p->inflight_bytes += bytes;
	p->next = last + 1;
}

void
progress_answered(Progress *p, int64_t rtt_us)
{
	RAFT_ASSERT(rtt_us >= 0);
	if (p->rtt_us == 0)
		p->rtt_us = rtt_us;
	else
		p->rtt_us += (rtt_us - p->rtt_us) / 8;
	if (p->rtt_us == 0)
		p->rtt_us = 1;
}

void
progress_round(Progress *p, uint64_t last_index, int64_t now_us, int64_t limit_us)
{
	if (p->round_goal == 0)
	{
		p->round_goal = last_index;
		p->round_start_us = now_us;
	}
	if (p->match < p->round_goal)
		return;
	/* a round that took less than an election timeout: close enough */
	p->caught_up = now_us - p->round_start_us <= limit_us;
	p->round_goal = last_index;
	p->round_start_us = now_us;
}
