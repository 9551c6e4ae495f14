/*-------------------------------------------------------------------------
 *
 * clock_shmem.h
 *		Public face of the clock: one hybrid logical clock a server, in shared
 *		memory, plus what is known of the other members' clocks.
 *
 * Nothing here throws, unless it says so: the Raft worker may call all of it.
 *
 * Physical time is microseconds since 2000-01-01 UTC, i.e. a TimestampTz.
 *
 * Which stamp for what
 * --------------------
 *	clock_now()				an event of this node: a log entry that the leader
 *							appends, hlc_now(). Unique, strictly increasing.
 *	clock_message_stamp()	what a message carries: not below anything this node
 *							has handed out or seen. Not unique, costs one atomic
 *							read, moves nothing.
 *	clock_observe()			the receive rule, for the stamp of every message and
 *							entry that comes in, BEFORE acting on it.
 *
 * State, who writes it, under what, and what a crash leaves: clock_shmem.c.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGQ_CLOCK_SHMEM_H
#define PGQ_CLOCK_SHMEM_H

#include "postgres.h"

#include "clock/hlc.h"

/* quorum.max_clock_offset, milliseconds */
extern int	quorum_max_clock_offset_ms;

/* ---------- start-up (pg_quorum.c) ---------- */

extern void clock_define_settings(void);
extern Size clock_shmem_size(void);
extern void clock_shmem_init(void); /* AddinShmemInitLock held */
extern void clock_register_worker(void);	/* preload only */

/* True when the shared clock exists (loaded by shared_preload_libraries). */
extern bool clock_is_loaded(void);

/* ---------- the clock ---------- */

typedef enum ClockVerdict
{
	CLOCK_OK = 0,
	CLOCK_TOO_FAR_AHEAD,		/* stamp beyond quorum.max_clock_offset; nothing merged */
	CLOCK_NOT_READY,			/* just recovered: wall clock has not reached the
								 * bound of before the crash yet (2 s at most) */
	CLOCK_BROKEN				/* the bound could not be read or written */
} ClockVerdict;

/*
 * The next stamp of this node. CLOCK_OK, or CLOCK_NOT_READY / CLOCK_BROKEN
 * and *stamp is zero. Does not wait, save for one small fsync when the clock
 * has run into its persisted bound (never while the clock worker keeps up).
 *
 * Does not look at the fence: whoever leads or stamps entries asks
 * clock_is_fenced() as well.
 */
extern ClockVerdict clock_now(HlcStamp *stamp);

/*
 * The time of day as ticks see it is the wall clock; while fenced by a majority,
 * that majority's (clock_watch.c).
 *
 * What a message carries. Zero while not ready; receivers skip a zero stamp
 * (clock_observe takes it as OK and does nothing).
 */
extern void clock_message_stamp(HlcStamp *stamp);

/*
 * Merge a stamp that came from elsewhere; without a stamp asked for, no wait for
 * the disk. With stamp != NULL also tick: the
 * receive event's own stamp, as hlc_observe() returns it. from_node != 0
 * counts a refusal against that peer.
 */
extern ClockVerdict clock_observe(HlcStamp remote, uint32 from_node, HlcStamp *stamp);

/*
 * This node's wall clock and its monotonic clock, microseconds. Put the wall
 * clock into messages if peers are to estimate offsets well (clock_peer_sample).
 */
extern int64 clock_wall_us(void);
extern int64 clock_monotonic_us(void);

/* ---------- membership (Raft worker) ---------- */

/*
 * Node id of all stamps and ids from now on; 0 when not a member. Ids must
 * never be given to another member later. next_id() has room for 1 .. 1023.
 */
extern void clock_set_node(uint32 node_id);

/* The other members, self not among them: entries of others are dropped. */
extern void clock_set_peers(const uint32 *node_ids, int count);

/*
 * An answer of node_id's, sent when its clock said remote.physical_us, came in
 * just now; rtt_us is the time since the request it answers left (monotonic
 * clock). remote is best made from the peer's wall clock alone (its
 * clock_wall_us(), logical 0), since the hybrid part of a stamp follows the
 * fastest member; a plain message stamp does, but hides offsets behind that.
 * Call it before clock_observe() of the same message, refused or not: this is
 * how a member finds out that it is itself the one that is off.
 */
extern void clock_peer_sample(uint32 node_id, HlcStamp remote, int64 rtt_us);

/*
 * True while this node's wall clock is known to be off from a majority of the
 * members by more than quorum.max_clock_offset, or its clock is unusable: it
 * must neither lead nor stamp entries. why may be NULL. Cheap (an atomic read)
 * while not fenced.
 */
extern bool clock_is_fenced(char *why, Size why_size);

/* ---------- transactions (replication layer) ---------- */

/* Remember the leader's stamp of this session's commit: transaction_hlc(). */
extern void clock_set_transaction_stamp(HlcStamp stamp);

#endif							/* PGQ_CLOCK_SHMEM_H */
