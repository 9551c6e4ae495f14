/*-------------------------------------------------------------------------
 *
 * log.h
 *		What the core knows of the log: terms of all entries (as runs), recent
 *		entries themselves, and how far the driver got with writing.
 *
 *		first_index .. stable .. handed .. last_index
 *
 * Invariants: first_index - 1 <= stable <= handed <= last_index; the cache holds
 * a suffix of the log with at least everything above stable; terms never go
 * down. The payloads on disk are the truth; here they only save reading them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGQ_RAFT_LOG_H
#define PGQ_RAFT_LOG_H

#include "raft/raft.h"

/*
 * A hand-out to the driver that is not known to be durable yet. `upto` is the
 * index told, unless the log was cut below it meanwhile: then what is left of
 * it. So a late acknowledgement never vouches for entries that took the place
 * of the written ones (P-17).
 */
typedef struct RaftHandout
{
	uint64_t	term;
	uint64_t	index;
	uint64_t	upto;
	int64_t		at_us;
} RaftHandout;

typedef struct RaftLog
{
	uint64_t	first_index;
	uint64_t	prev_term;		/* of first_index - 1 */
	uint64_t	last_index;
	uint64_t	handed;
	uint64_t	stable;
	uint64_t	truncate_from;	/* to be told to the driver; 0: nothing */

	/* terms: run i covers [first_index, next run's first_index) */
	RaftTermRun *runs;
	size_t		runs_head;
	size_t		nruns;
	size_t		runs_cap;

	/* entries (last_index - cache_len, last_index] at cache[cache_head] */
	RaftEntry  *cache;
	size_t		cache_head;
	size_t		cache_len;
	size_t		cache_cap;
	uint64_t	cache_bytes;

	/* hand-outs, oldest first */
	RaftHandout *out;
	size_t		out_head;
	size_t		nout;
	size_t		out_cap;
} RaftLog;

#define RAFT_ENTRY_OVERHEAD 56	/* of an entry on the wire, see codec.c */

static inline uint64_t
raft_entry_bytes(const RaftEntry *e)
{
	return RAFT_ENTRY_OVERHEAD + (e->data != NULL ? e->data->len : 0);
}

static inline uint64_t
raft_log_cache_first(const RaftLog *log)
{
	return log->last_index + 1 - log->cache_len;
}

extern RaftStatus raft_log_init(RaftLog *log, const RaftDisk *disk);
extern void raft_log_free(RaftLog *log);

/* False: not known (compacted, or above the end). Index 0 has term 0. */
extern bool raft_log_term(const RaftLog *log, uint64_t index, uint64_t *term);
extern bool raft_log_matches(const RaftLog *log, uint64_t index, uint64_t term);
extern uint64_t raft_log_last_term(const RaftLog *log);
/* Largest index <= index whose term is <= term (etcd's findConflictByTerm). */
extern uint64_t raft_log_meet(const RaftLog *log, uint64_t index, uint64_t term, uint64_t *at);

/* NULL: not in memory. */
extern const RaftEntry *raft_log_get(const RaftLog *log, uint64_t index);

/* Room for n entries, so that the appends that follow cannot fail. */
extern bool raft_log_reserve(RaftLog *log, size_t n);
extern void raft_log_append(RaftLog *log, const RaftEntry *e);	/* takes over the reference */
extern void raft_log_truncate(RaftLog *log, uint64_t from);
extern void raft_log_compact(RaftLog *log, uint64_t first_index);
extern void raft_log_reset(RaftLog *log, uint64_t index, uint64_t term);
/* Forget the oldest entries above `bytes`, but only durable ones up to keep. */
extern void raft_log_evict(RaftLog *log, uint64_t bytes, uint64_t keep);

/* Hand-outs. push: room must be reserved. */
extern bool raft_log_reserve_handout(RaftLog *log);
extern void raft_log_push_handout(RaftLog *log, uint64_t term, int64_t at_us);
extern void raft_log_drop_handouts(RaftLog *log);
/*
 * True when that hand-out was known; stable has moved then. *again: another one
 * of the same name is left, so the driver may have meant that one.
 */
extern bool raft_log_durable(RaftLog *log, uint64_t term, uint64_t index, bool *again);
extern bool raft_log_oldest_handout(const RaftLog *log, int64_t *at_us);

#endif							/* PGQ_RAFT_LOG_H */
