/*-------------------------------------------------------------------------
 *
 * log.c
 *		The core's picture of the log. See log.h.
 *
 * Arrays with a head that moves: dropping from the front costs nothing, and the
 * part handed to the driver is contiguous. Everything is O(1) amortised or a
 * binary search over the runs.
 *
 *-------------------------------------------------------------------------
 */
#include <stdlib.h>
#include <string.h>

#include "raft/log.h"
#include "raft/raft_assert.h"
#include "raft/raft_internal.h"

/*
 * Make room for n more elements behind head + len: by moving to the front where
 * at least half is free, else by growing.
 */
static void *
make_room(void *array, size_t size, size_t *head, size_t len, size_t *cap, size_t n)
{
	char	   *a = array;
	size_t		want;

	if (*head + len + n <= *cap)
		return array;
	if (len + n <= *cap / 2)
	{
		memmove(a, a + *head * size, len * size);
		*head = 0;
		return array;
	}
	want = *cap > 0 ? *cap : 16;
	while (want < (len + n) * 2)
		want *= 2;
	a = malloc(want * size);
	if (a == NULL)
		return NULL;
	if (len > 0)
		memcpy(a, (char *) array + *head * size, len * size);
	free(array);
	*head = 0;
	*cap = want;
	return a;
}

static inline RaftTermRun *
run_at(const RaftLog *log, size_t i)
{
	return &log->runs[log->runs_head + i];
}

RaftStatus
raft_log_init(RaftLog *log, const RaftDisk *disk)
{
	uint64_t	index = disk->first_index;
	uint64_t	term = disk->prev_term;

	memset(log, 0, sizeof(*log));
	if (disk->first_index == 0 || disk->last_index + 1 < disk->first_index ||
		(disk->first_index == 1) != (disk->prev_term == 0))
		return RAFT_FENCED;
	log->first_index = disk->first_index;
	log->prev_term = disk->prev_term;
	log->last_index = disk->last_index;
	log->handed = log->stable = log->last_index;

	log->runs = make_room(NULL, sizeof(RaftTermRun), &log->runs_head, 0, &log->runs_cap,
						  disk->nruns + 1);
	if (log->runs == NULL)
		return RAFT_NO_MEMORY;
	for (size_t i = 0; i < disk->nruns; i++)
	{
		RaftTermRun run = disk->runs[i];

		/* a run that begins in the compacted part */
		if (i + 1 < disk->nruns && disk->runs[i + 1].first_index <= disk->first_index)
			continue;
		if (run.first_index < disk->first_index)
			run.first_index = disk->first_index;
		if (run.first_index > disk->last_index)
			break;
		if (log->nruns == 0 ? run.first_index != index : run.first_index <= index)
			return RAFT_FENCED;
		if (run.term < term || run.term == 0 || run.term > RAFT_LIMIT)
			return RAFT_FENCED;
		index = run.first_index;
		term = run.term;
		*run_at(log, log->nruns++) = run;
	}
	if (log->nruns == 0 && log->last_index >= log->first_index)
		return RAFT_FENCED;
	return RAFT_OK;
}

void
raft_log_free(RaftLog *log)
{
	for (size_t i = 0; i < log->cache_len; i++)
		raft_buf_unref(log->cache[log->cache_head + i].data);
	free(log->cache);
	free(log->runs);
	free(log->out);
	memset(log, 0, sizeof(*log));
}

/* ---------- terms ---------- */

/* The run that holds index, which must be in [first_index, last_index]. */
static size_t
find_run(const RaftLog *log, uint64_t index)
{
	size_t		lo = 0,
				hi = log->nruns;

	/* nearly all questions are about the newest run */
	if (run_at(log, hi - 1)->first_index <= index)
		return hi - 1;
	while (hi - lo > 1)
	{
		size_t		mid = lo + (hi - lo) / 2;

		if (run_at(log, mid)->first_index <= index)
			lo = mid;
		else
			hi = mid;
	}
	return lo;
}

bool
raft_log_term(const RaftLog *log, uint64_t index, uint64_t *term)
{
	/* P-18: an index that is compacted or not there matches nothing */
	if (index + 1 < log->first_index || index > log->last_index)
		return false;
	if (index + 1 == log->first_index)
		*term = log->prev_term;
	else
		*term = run_at(log, find_run(log, index))->term;
	return true;
}

bool
raft_log_matches(const RaftLog *log, uint64_t index, uint64_t term)
{
	uint64_t	t;

	return raft_log_term(log, index, &t) && t == term;
}

uint64_t
raft_log_last_term(const RaftLog *log)
{
	/* P-26: an empty log behind an image has the image's term */
	return log->nruns > 0 ? run_at(log, log->nruns - 1)->term : log->prev_term;
}

uint64_t
raft_log_meet(const RaftLog *log, uint64_t index, uint64_t term, uint64_t *at)
{
	size_t		lo = 0,
				hi = log->nruns;

	if (index > log->last_index)
		index = log->last_index;
	if (index + 1 < log->first_index)
	{
		*at = 0;
		return index;
	}

	/* number of runs with a term <= term */
	while (lo < hi)
	{
		size_t		mid = lo + (hi - lo) / 2;

		if (run_at(log, mid)->term <= term)
			lo = mid + 1;
		else
			hi = mid;
	}
	if (lo < log->nruns && run_at(log, lo)->first_index <= index)
		index = run_at(log, lo)->first_index - 1;
	if (!raft_log_term(log, index, at))
		*at = 0;
	return index;
}

/* ---------- entries ---------- */

const RaftEntry *
raft_log_get(const RaftLog *log, uint64_t index)
{
	uint64_t	first = raft_log_cache_first(log);

	if (index < first || index > log->last_index)
		return NULL;
	return &log->cache[log->cache_head + (index - first)];
}

bool
raft_log_reserve(RaftLog *log, size_t n)
{
	void	   *p;

	p = make_room(log->cache, sizeof(RaftEntry), &log->cache_head, log->cache_len,
				  &log->cache_cap, n);
	if (p == NULL)
		return false;
	log->cache = p;
	p = make_room(log->runs, sizeof(RaftTermRun), &log->runs_head, log->nruns,
				  &log->runs_cap, n);
	if (p == NULL)
		return false;
	log->runs = p;
	return true;
}

void
raft_log_append(RaftLog *log, const RaftEntry *e)
{
	RAFT_ASSERT(e->index == log->last_index + 1);
	RAFT_ASSERT(e->term >= raft_log_last_term(log) && e->term > 0);
	RAFT_ASSERT(log->cache_head + log->cache_len < log->cache_cap);

	if (log->nruns == 0 || run_at(log, log->nruns - 1)->term != e->term)
	{
		RAFT_ASSERT(log->runs_head + log->nruns < log->runs_cap);
		run_at(log, log->nruns)->first_index = e->index;
		run_at(log, log->nruns)->term = e->term;
		log->nruns++;
	}
	log->cache[log->cache_head + log->cache_len++] = *e;
	log->cache_bytes += raft_entry_bytes(e);
	log->last_index = e->index;
}

void
raft_log_truncate(RaftLog *log, uint64_t from)
{
	RAFT_ASSERT(from >= log->first_index && from <= log->last_index);

	while (log->cache_len > 0 && log->last_index >= from)
	{
		RaftEntry  *e = &log->cache[log->cache_head + --log->cache_len];

		log->cache_bytes -= raft_entry_bytes(e);
		raft_buf_unref(e->data);
		log->last_index--;
	}
	log->last_index = from - 1;
	while (log->nruns > 0 && run_at(log, log->nruns - 1)->first_index >= from)
		log->nruns--;

	if (from <= log->handed)
	{
		if (log->truncate_from == 0 || from < log->truncate_from)
			log->truncate_from = from;
		log->handed = from - 1;
	}
	if (log->stable > from - 1)
		log->stable = from - 1;
	for (size_t i = 0; i < log->nout; i++)
	{
		RaftHandout *h = &log->out[log->out_head + i];

		if (h->upto > from - 1)
			h->upto = from - 1;
	}
}

void
raft_log_compact(RaftLog *log, uint64_t first_index)
{
	uint64_t	term;

	if (first_index <= log->first_index)
		return;
	RAFT_ASSERT(first_index <= log->stable + 1);
	if (!raft_log_term(log, first_index - 1, &term))
		return;
	while (log->cache_len > 0 && raft_log_cache_first(log) < first_index)
	{
		RaftEntry  *e = &log->cache[log->cache_head];

		log->cache_bytes -= raft_entry_bytes(e);
		raft_buf_unref(e->data);
		log->cache_head++;
		log->cache_len--;
	}
	while (log->nruns > 0 &&
		   (log->nruns > 1 ? run_at(log, 1)->first_index : log->last_index + 1) <= first_index)
	{
		log->runs_head++;
		log->nruns--;
	}
	if (log->nruns > 0 && run_at(log, 0)->first_index < first_index)
		run_at(log, 0)->first_index = first_index;
	log->first_index = first_index;
	log->prev_term = term;
}

void
raft_log_reset(RaftLog *log, uint64_t index, uint64_t term)
{
	for (size_t i = 0; i < log->cache_len; i++)
		raft_buf_unref(log->cache[log->cache_head + i].data);
	log->cache_len = log->cache_head = 0;
	log->cache_bytes = 0;
	log->nruns = log->runs_head = 0;
	log->nout = log->out_head = 0;
	log->truncate_from = 0;
	log->first_index = index + 1;
	log->prev_term = term;
	log->last_index = log->handed = log->stable = index;
}

void
raft_log_evict(RaftLog *log, uint64_t bytes, uint64_t keep)
{
	if (keep > log->stable)
		keep = log->stable;
	while (log->cache_bytes > bytes && log->cache_len > 0 &&
		   raft_log_cache_first(log) <= keep)
	{
		RaftEntry  *e = &log->cache[log->cache_head];

		log->cache_bytes -= raft_entry_bytes(e);
		raft_buf_unref(e->data);
		log->cache_head++;
		log->cache_len--;
	}
}

/* ---------- hand-outs ---------- */

bool
raft_log_reserve_handout(RaftLog *log)
{
	void	   *p = make_room(log->out, sizeof(RaftHandout), &log->out_head, log->nout,
							  &log->out_cap, 1);

	if (p == NULL)
		return false;
	log->out = p;
	return true;
}

void
raft_log_push_handout(RaftLog *log, uint64_t term, int64_t at_us)
{
	RaftHandout *h;

	RAFT_ASSERT(log->out_head + log->nout < log->out_cap);
	RAFT_ASSERT(log->handed == log->last_index);
	if (log->nout > 0)
	{
		h = &log->out[log->out_head + log->nout - 1];
		if (h->term == term && h->index == log->handed && h->upto == h->index)
			return;
	}
	h = &log->out[log->out_head + log->nout];
	h->term = term;
	h->index = h->upto = log->handed;
	h->at_us = at_us;
	log->nout++;
}

void
raft_log_drop_handouts(RaftLog *log)
{
	log->nout = log->out_head = 0;
}

bool
raft_log_durable(RaftLog *log, uint64_t term, uint64_t index, bool *again)
{
	size_t		i = 0;
	bool		clamped;

	*again = false;
	while (i < log->nout && (log->out[log->out_head + i].term != term ||
							 log->out[log->out_head + i].index != index))
		i++;
	if (i == log->nout)
		return false;

	/* whatever was handed out before it is durable as well */
	for (size_t j = 0; j <= i; j++)
	{
		RaftHandout *h = &log->out[log->out_head + j];

		RAFT_ASSERT(h->upto <= log->handed);
		if (h->upto > log->stable)
			log->stable = h->upto;
	}
	clamped = log->out[log->out_head + i].upto != index;
	log->out_head += i + 1;
	log->nout -= i + 1;

	/*
	 * The same name again. Not cut: says the same, done too. Cut: the log was
	 * cut and grew to the same length within a term, and the driver may have
	 * meant the later one; ask it again rather than guess.
	 */
	for (size_t j = 0; j < log->nout; j++)
		if (log->out[log->out_head + j].term == term &&
			log->out[log->out_head + j].index == index)
			*again = clamped;
	while (!clamped && log->nout > 0 && log->out[log->out_head].term == term &&
		   log->out[log->out_head].index == index)
	{
		log->out_head++;
		log->nout--;
	}
	return true;
}

bool
raft_log_oldest_handout(const RaftLog *log, int64_t *at_us)
{
	if (log->nout == 0)
		return false;
	*at_us = log->out[log->out_head].at_us;
	return true;
}
