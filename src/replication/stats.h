/*-------------------------------------------------------------------------
 *
 * stats.h
 *		Counters behind quorum.stat_replication.
 *
 * One array of atomics in shared memory, since the server's start. Each
 * counter says who adds to it; nobody ever takes away, and a crash restarts
 * all of them at zero.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGQ_STATS_H
#define PGQ_STATS_H

#include "postgres.h"

typedef enum StatCounter
{
	/* sessions, at the end of a replicated transaction */
	STAT_COMMITS,				/* committed here by their own session */
	STAT_PROPOSED_BYTES,		/* payload of all proposals */
	STAT_REFUSED,				/* certification conflicts */
	STAT_REFUSED_TOO_OLD,		/* of these: base older than the map covers */
	STAT_UNKNOWN,				/* 40003 */
	STAT_UNAVAILABLE,			/* 55000, certainly not appended */
	STAT_WITHDRAWN,				/* cancelled before it was taken */
	STAT_DOOMED,				/* aborted in favour of an earlier entry */
	STAT_VERDICT_WAIT_US,		/* time between proposal and verdict */
	STAT_TURN_WAITS,			/* commits that had to wait for their turn */
	STAT_TURN_WAIT_US,
	STAT_DEFECTS,				/* decided here, and aborted all the same */

	/* apply worker */
	STAT_APPLIED_ENTRIES,
	STAT_APPLIED_ROWS,
	STAT_APPLIED_BYTES,
	STAT_APPLIED_STATEMENTS,
	STAT_APPLY_BUSY_US,
	STAT_APPLY_COMMITS,			/* PostgreSQL transactions that carried them */

	/* whoever runs apply_watch (conflict.c) */
	STAT_SESSIONS_DOOMED,		/* sessions told to go */

	STAT_COUNTERS
} StatCounter;

extern void stats_add(StatCounter counter, uint64 n);

extern Size stats_shmem_size(void);
extern void stats_shmem_init(void);

#endif							/* PGQ_STATS_H */
