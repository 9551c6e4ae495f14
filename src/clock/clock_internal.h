/*-------------------------------------------------------------------------
 *
 * clock_internal.h
 *		What the files of src/clock share among themselves.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGQ_CLOCK_INTERNAL_H
#define PGQ_CLOCK_INTERNAL_H

#include "clock/clock_shmem.h"

#include "datatype/timestamp.h"
#include "port/atomics.h"
#include "storage/latch.h"
#include "storage/lwlock.h"

#define CLOCK_MAX_PEERS		64
#define CLOCK_PEER_SAMPLES	8

/*
 * The persisted bound is set this far ahead, and renewed by the clock worker
 * when less than half of it is left. It is also what a tick may have to wait
 * for the wall clock after a crash.
 */
#define CLOCK_BOUND_AHEAD_US	INT64CONST(2000000)

/* With less than this left and no way to write, a member leads no longer. */
#define CLOCK_BOUND_SHORT_US	INT64CONST(500000)

/* A wall clock further ahead of the last stamp than this is looked at closely. */
#define CLOCK_SUSPECT_US		INT64CONST(100000)

/* A step of the wall clock against the monotonic one that counts as a jump. */
#define CLOCK_JUMP_US			INT64CONST(10000)

/*
 * A wall clock further ahead of the last stamp than this is not written down as
 * a bound before a stamp follows it: it may be one that has gone astray, and
 * after a crash the bound is where the clock goes on.
 */
#define CLOCK_FOLLOW_WALL_US	INT64CONST(10000000)

/* A peer that was not heard of for this long has no say about our clock. */
#define CLOCK_PEER_FRESH_US		INT64CONST(10000000)

/* next_id(): 41 bits of milliseconds, 10 bits of node, 12 bits of counter */
#define CLOCK_ID_EPOCH_US		INT64CONST(789004800000000) /* 2025-01-01 UTC */
#define CLOCK_ID_COUNTER_BITS	12
#define CLOCK_ID_NODE_BITS		10
#define CLOCK_ID_NODE_MAX		((1 << CLOCK_ID_NODE_BITS) - 1)
#define CLOCK_ID_MS_MAX			((INT64CONST(1) << 41) - 1)

typedef enum ClockState
{
	CLOCK_STATE_CATCHING_UP = 0,
	CLOCK_STATE_READY,
	CLOCK_STATE_BROKEN			/* the file is there but damaged */
} ClockState;

typedef struct ClockSample
{
	int64		offset_us;		/* peer's wall clock minus ours */
	int64		error_us;		/* the true offset is within +- this */
} ClockSample;

typedef struct ClockPeer
{
	uint32		node_id;
	int			nsamples;
	int			next_sample;
	ClockSample samples[CLOCK_PEER_SAMPLES];
	ClockSample best;			/* of samples[], the one with least error */
	int64		last_contact_us;	/* wall clock, 0 = never */
	int64		last_contact_mono_us;
	uint64		refusals;
} ClockPeer;

/* See the header of clock_shmem.c for who writes what under which lock. */
typedef struct ClockShared
{
	/* what every tick touches */
	pg_atomic_uint64 word;
	pg_atomic_uint64 bound;
	pg_atomic_uint32 node_id;
	pg_atomic_uint32 state;
	char		pad[PG_CACHE_LINE_SIZE];

	pg_atomic_uint64 last_id;	/* of next_id() */
	char		pad2[PG_CACHE_LINE_SIZE];

	pg_atomic_uint64 refusals;
	pg_atomic_uint32 fenced;
	pg_atomic_uint64 correction_us; /* int64; 0 unless fenced */

	HlcWord		start_word;		/* constant after start-up */
	int64		start_mono_us;

	LWLock		persist_lock;
	pg_atomic_uint64 persist_failed_mono_us;	/* 0 = last attempt succeeded */

	LWLock		watch_lock;
	int64		watch_wall_us;	/* 0 = no reading yet */
	int64		watch_mono_us;
	uint64		jumps_forward;
	uint64		jumps_backward;
	int64		last_jump_us;	/* signed size */
	int64		last_jump_at_us;

	LWLock		peers_lock;
	int			npeers;
	ClockPeer	peers[CLOCK_MAX_PEERS];

} ClockShared;

extern ClockShared *clock_shared;

/* ---------- clock_shmem.c ---------- */

/* ERROR 55000 with a HINT unless the shared clock exists. */
extern void clock_require_loaded(void);

/*
 * See to it that word may be handed out and the bound is more than left_us
 * ahead of it. False: could not write.
 */
extern bool clock_persist_bound(HlcWord word, int64 left_us);

/* Wait for CLOCK_NOT_READY, throw for what is not CLOCK_OK (sessions only). */
extern void clock_report(ClockVerdict verdict);
extern void clock_wait_ready(void);

/*
 * The time that ticks and refusals go by: the wall clock, corrected by what a
 * majority says of it while that majority has this server fenced.
 */
extern int64 clock_physical_us(void);

/*
 * The same for whoever is about to act by it, with last as the clock's word: a
 * time that is not where it would be expected is looked at first, so that a
 * jump cannot get into a stamp before a majority that knows better has fenced
 * this server.
 */
extern int64 clock_checked_physical_us(HlcWord last);

/* The clock's own checks before it moves: CLOCK_OK, _NOT_READY or _BROKEN. */
extern ClockVerdict clock_usable(void);

/* ---------- clock_id.c ---------- */

/*
 * The last id that a server whose stamps are all below word can have made;
 * and a time of which all such ids are older.
 */
extern int64 clock_id_before(HlcWord word);
extern int64 clock_id_time_us(int64 id);

/* ---------- clock_watch.c ---------- */

extern void clock_check_wall(bool wait);
extern void clock_count_jump(int64 shift_us);
extern void clock_update_fence(void);

/* ---------- clock_file.c ---------- */

#define CLOCK_FILE_MAGIC_LEN	8

typedef enum ClockFileResult
{
	CLOCK_FILE_OK,
	CLOCK_FILE_ABSENT,
	CLOCK_FILE_DAMAGED			/* a LOG line says how */
} ClockFileResult;

extern bool clock_file_write(const char *name, const char *magic,
							 const void *payload, Size len);
extern ClockFileResult clock_file_read(const char *name, const char *magic,
									   void *payload, Size max_len, Size *len);

/* ---------- lamport_shmem.c ---------- */

extern Size lamport_shmem_size(void);
extern void lamport_shmem_init(void);
extern void lamport_renew_ahead(void);

/* ---------- clock_worker.c ---------- */

extern PGDLLEXPORT void clock_worker_main(Datum arg);

#endif							/* PGQ_CLOCK_INTERNAL_H */
