/*-------------------------------------------------------------------------
 *
 * clock_shmem.c
 *		The hybrid logical clock of a server, in shared memory.
 *
 * Every process moves it by compare-and-swap on one 64-bit word (hlc.h), so a
 * stamp is unique, larger than all before it, and nobody ever waits for
 * anybody. There is no write per tick: a bound above the word is kept on disk,
 * and no stamp at or above the bound is handed out. After a crash the clock
 * goes on from the bound, which is above all stamps that can exist.
 *
 * Shared state (ClockShared)
 * --------------------------
 *	word			the last stamp handed out or seen. Anybody, by CAS; only grows.
 *	bound			what was handed out is below it. Raised under persist_lock,
 *					after the file was made durable; lowered only by the
 *					postmaster at a clean end, when it is alone. What was only
 *					seen may be above it: after a crash the stamps that matter
 *					are seen again in the log.
 *	persist_failed_mono_us	under persist_lock; read without.
 *	node_id			Raft worker; atomic.
 *	state			start-up (BROKEN, CATCHING_UP), then CATCHING_UP -> READY
 *					once, by whoever notices; atomic.
 *	last_id			next_id()'s last result. Anybody, by CAS; only grows.
 *	refusals		atomic counter.
 *	fenced, correction_us	clock_update_fence(), under peers_lock; read without.
 *	watch_*, jumps_*	under watch_lock (clock_watch.c).
 *	npeers, peers		under peers_lock; written by the Raft worker.
 *
 * What a crash leaves behind
 * --------------------------
 * The file pg_quorum/clock with a bound that is above every stamp and id that
 * was handed out. Shared memory is never trusted after a crash of a backend
 * either: the word is rebuilt from the file.
 *
 * After a crash the bound is up to CLOCK_BOUND_AHEAD_US ahead of the wall
 * clock, and the other members would refuse stamps from there. So the clock
 * waits (CATCHING_UP) until the wall clock is near the bound. If the wall
 * clock is further behind than that can explain, it was set back while the
 * server was down: waiting would be no use, the clock goes on from the bound.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <time.h>

#include "clock/clock_internal.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "storage/shmem.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

#define CLOCK_FILE_NAME		"clock"
#define CLOCK_FILE_MAGIC	"PGQCLOCK"
#define CLOCK_RETRY_US		INT64CONST(1000000)

typedef struct ClockFile
{
	int64		bound_us;
} ClockFile;

int			quorum_max_clock_offset_ms = 500;
ClockShared *clock_shared = NULL;

static int64
max_offset_us(void)
{
	return (int64) quorum_max_clock_offset_ms * 1000;
}

void
clock_define_settings(void)
{
	DefineCustomIntVariable("quorum.max_clock_offset",
							"A peer or a time stamp further ahead of this server's clock is refused.",
							"A member whose clock is off by more from the majority's "
							"does not lead.",
							&quorum_max_clock_offset_ms,
							500, 1, 24 * 60 * 60 * 1000,
							PGC_SIGHUP, GUC_UNIT_MS,
							NULL, NULL, NULL);
}

/*
 * A time beyond the year 2100 or so is nonsense that must not overflow a word;
 * leave room above for offsets, bounds and carries.
 */
static int64
within_word(int64 time_us)
{
	return Min(time_us, HLC_WORD_PHYSICAL_MAX_US - (INT64CONST(1) << 40));
}

int64
clock_wall_us(void)
{
	return within_word(GetCurrentTimestamp());
}

int64
clock_physical_us(void)
{
	int64		correction_us = (int64) pg_atomic_read_u64(&clock_shared->correction_us);

	if (likely(correction_us == 0))
		return clock_wall_us();
	return within_word(Max(clock_wall_us() + correction_us, 0));
}

int64
clock_checked_physical_us(HlcWord last)
{
	int64		now_us = clock_physical_us();
	int64		ahead_us = now_us - hlc_word_physical_us(last);

	if (likely(ahead_us >= -CLOCK_JUMP_US && ahead_us <= CLOCK_SUSPECT_US))
		return now_us;
	clock_check_wall(ahead_us > 0);
	return clock_physical_us();
}

int64
clock_monotonic_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64) ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

/* ---------- start and end ---------- */

Size
clock_shmem_size(void)
{
	return add_size(MAXALIGN(sizeof(ClockShared)), lamport_shmem_size());
}

bool
clock_is_loaded(void)
{
	return clock_shared != NULL;
}

/*
 * A clean end: everybody else is gone, so write down exactly where the clock
 * stands and the next start has nothing to wait for.
 */
static void
write_final_bound(int code, Datum arg)
{
	int64		word_us = hlc_word_physical_us(pg_atomic_read_u64(&clock_shared->word));
	int64		id_us = clock_id_time_us(pg_atomic_read_u64(&clock_shared->last_id));
	ClockFile	file = {.bound_us = Max(word_us, id_us) + 1};

	if (code == 0 && !IsUnderPostmaster &&
		pg_atomic_read_u32(&clock_shared->state) == CLOCK_STATE_READY &&
		pg_atomic_read_u64(&clock_shared->bound) > clock_shared->start_word)
		(void) clock_file_write(CLOCK_FILE_NAME, CLOCK_FILE_MAGIC, &file, sizeof(file));
}

/* Take up the clock where the file says the last server may have left it. */
static void
recover_clock(void)
{
	ClockFile	file = {0};
	Size		len = 0;
	int64		behind_us;

	switch (clock_file_read(CLOCK_FILE_NAME, CLOCK_FILE_MAGIC, &file, sizeof(file), &len))
	{
		case CLOCK_FILE_ABSENT:
			pg_atomic_write_u32(&clock_shared->state, CLOCK_STATE_READY);
			return;
		case CLOCK_FILE_DAMAGED:
			pg_atomic_write_u32(&clock_shared->state, CLOCK_STATE_BROKEN);
			return;
		case CLOCK_FILE_OK:
			break;
	}
	if (len != sizeof(file) || file.bound_us < 0 ||
		file.bound_us > HLC_WORD_PHYSICAL_MAX_US)
	{
		ereport(LOG,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("file \"pg_quorum/clock\" cannot be used: no valid time in it")));
		pg_atomic_write_u32(&clock_shared->state, CLOCK_STATE_BROKEN);
		return;
	}

	clock_shared->start_word = hlc_word_at(file.bound_us);
	pg_atomic_write_u64(&clock_shared->word, clock_shared->start_word);
	pg_atomic_write_u64(&clock_shared->bound, clock_shared->start_word);
	pg_atomic_write_u64(&clock_shared->last_id, clock_id_before(clock_shared->start_word));

	behind_us = file.bound_us - clock_wall_us();
	if (behind_us > CLOCK_BOUND_AHEAD_US + max_offset_us())
	{
		clock_count_jump(-behind_us);
		pg_atomic_write_u32(&clock_shared->state, CLOCK_STATE_READY);
	}
	else
		pg_atomic_write_u32(&clock_shared->state, CLOCK_STATE_CATCHING_UP);
}

void
clock_shmem_init(void)
{
	bool		found;
	ClockShared *shared = ShmemInitStruct("pg_quorum clock", sizeof(ClockShared), &found);

	clock_shared = shared;
	if (!found)
	{
		int			tranche = LWLockNewTrancheId();

		memset(shared, 0, sizeof(ClockShared));
		pg_atomic_init_u64(&shared->word, 0);
		pg_atomic_init_u64(&shared->bound, 0);
		pg_atomic_init_u32(&shared->node_id, 0);
		pg_atomic_init_u32(&shared->state, CLOCK_STATE_CATCHING_UP);
		pg_atomic_init_u64(&shared->last_id, 0);
		pg_atomic_init_u64(&shared->refusals, 0);
		pg_atomic_init_u32(&shared->fenced, 0);
		pg_atomic_init_u64(&shared->persist_failed_mono_us, 0);
		pg_atomic_init_u64(&shared->correction_us, 0);
		LWLockInitialize(&shared->persist_lock, tranche);
		LWLockInitialize(&shared->watch_lock, tranche);
		LWLockInitialize(&shared->peers_lock, tranche);
		shared->start_mono_us = clock_monotonic_us();
		recover_clock();
		if (!IsUnderPostmaster)
			on_shmem_exit(write_final_bound, (Datum) 0);
	}
	LWLockRegisterTranche(shared->persist_lock.tranche, "pg_quorum_clock");
	lamport_shmem_init();
}

/* ---------- the persisted bound ---------- */

bool
clock_persist_bound(HlcWord word, int64 left_us)
{
	ClockFile	file;
	bool		done;
	int64		now_us = clock_monotonic_us();
	int64		failed_us;
	int64		front_us = hlc_word_physical_us(word);
	int64		ahead_us = clock_physical_us() - front_us;

	LWLockAcquire(&clock_shared->persist_lock, LW_EXCLUSIVE);
	done = word + hlc_word_at(left_us) < pg_atomic_read_u64(&clock_shared->bound);

	/* after a failure leave the disk, and the log, alone for a second */
	failed_us = (int64) pg_atomic_read_u64(&clock_shared->persist_failed_mono_us);
	if (!done && (failed_us == 0 || now_us - failed_us >= CLOCK_RETRY_US))
	{
		if (ahead_us > 0 && ahead_us <= CLOCK_FOLLOW_WALL_US)
			front_us += ahead_us;
		file.bound_us = front_us + CLOCK_BOUND_AHEAD_US;
		done = file.bound_us <= HLC_WORD_PHYSICAL_MAX_US &&
			clock_file_write(CLOCK_FILE_NAME, CLOCK_FILE_MAGIC, &file, sizeof(file));
		if (done)
			pg_atomic_write_u64(&clock_shared->bound, hlc_word_at(file.bound_us));
		pg_atomic_write_u64(&clock_shared->persist_failed_mono_us, done ? 0 : now_us);
	}
	LWLockRelease(&clock_shared->persist_lock);
	return done;
}

/* ---------- ticks ---------- */

/* Slow path of clock_usable(): has the wall clock come near the bound yet? */
static ClockVerdict
try_to_catch_up(void)
{
	int64		limit_us = CLOCK_BOUND_AHEAD_US + max_offset_us();
	int64		behind_us = hlc_word_physical_us(clock_shared->start_word) - clock_wall_us();

	if (pg_atomic_read_u32(&clock_shared->state) == CLOCK_STATE_BROKEN)
		return CLOCK_BROKEN;

	/*
	 * Half of the allowed offset is left to the difference between clocks. A
	 * wall clock that stands still or is set back meanwhile does not hold us
	 * up for longer than a healthy one would.
	 */
	if (behind_us > max_offset_us() / 2 &&
		clock_monotonic_us() - clock_shared->start_mono_us < limit_us)
		return CLOCK_NOT_READY;
	pg_atomic_write_u32(&clock_shared->state, CLOCK_STATE_READY);
	return CLOCK_OK;
}

ClockVerdict
clock_usable(void)
{
	Assert(clock_shared != NULL);
	if (likely(pg_atomic_read_u32(&clock_shared->state) == CLOCK_STATE_READY))
		return CLOCK_OK;
	return try_to_catch_up();
}

/*
 * Move the clock past whatever it stands at, and past seen; the result is
 * nobody else's.
 */
static ClockVerdict
advance(HlcWord seen, HlcStamp *stamp)
{
	ClockVerdict verdict = clock_usable();
	int64		now_us;
	HlcWord		last;
	HlcWord		next;

	memset(stamp, 0, sizeof(*stamp));
	if (verdict != CLOCK_OK)
		return verdict;

	last = pg_atomic_read_u64(&clock_shared->word);
	now_us = clock_checked_physical_us(last);
	do
	{
		next = hlc_word_receive_event(last, seen, now_us);
		if (unlikely(next >= pg_atomic_read_u64(&clock_shared->bound)) &&
			!clock_persist_bound(next, 0))
			return CLOCK_BROKEN;
	} while (!pg_atomic_compare_exchange_u64(&clock_shared->word, &last, next));

	*stamp = hlc_word_stamp(next, pg_atomic_read_u32(&clock_shared->node_id));
	return CLOCK_OK;
}

ClockVerdict
clock_now(HlcStamp *stamp)
{
	return advance(0, stamp);
}

void
clock_message_stamp(HlcStamp *stamp)
{
	HlcWord		word = pg_atomic_read_u64(&clock_shared->word);
	HlcWord		wall = hlc_word_at(clock_checked_physical_us(word));

	memset(stamp, 0, sizeof(*stamp));
	if (clock_usable() == CLOCK_OK)
		*stamp = hlc_word_stamp(Max(word, wall), pg_atomic_read_u32(&clock_shared->node_id));
}

/*
 * Merge without an event of our own. Never waits for the disk: nothing is handed
 * out here, and whoever does next looks at the bound.
 */
static ClockVerdict
merge(HlcWord seen)
{
	HlcWord		last = pg_atomic_read_u64(&clock_shared->word);
	ClockVerdict verdict = clock_usable();

	while (verdict == CLOCK_OK && last < seen &&
		   !pg_atomic_compare_exchange_u64(&clock_shared->word, &last, seen))
		;
	return verdict;
}

static void
count_refusal(uint32 from_node)
{
	pg_atomic_fetch_add_u64(&clock_shared->refusals, 1);
	if (from_node == 0)
		return;
	LWLockAcquire(&clock_shared->peers_lock, LW_EXCLUSIVE);
	for (int i = 0; i < clock_shared->npeers; i++)
	{
		if (clock_shared->peers[i].node_id == from_node)
			clock_shared->peers[i].refusals++;
	}
	LWLockRelease(&clock_shared->peers_lock);
}

ClockVerdict
clock_observe(HlcStamp remote, uint32 from_node, HlcStamp *stamp)
{
	HlcWord		word = pg_atomic_read_u64(&clock_shared->word);
	HlcStamp	here = hlc_word_stamp(word, UINT32_MAX);
	HlcWord		seen;

	if (stamp != NULL)
		memset(stamp, 0, sizeof(*stamp));

	/*
	 * Where our own clock already stands nothing can be dragged along: after
	 * the wall clock was set back our own stamps come home, too.
	 */
	if (hlc_compare(remote, here) > 0 &&
		!hlc_within_offset(remote, clock_checked_physical_us(word), max_offset_us()))
	{
		count_refusal(from_node);
		return CLOCK_TOO_FAR_AHEAD;
	}

	seen = hlc_word_from_stamp(remote);
	return stamp != NULL ? advance(seen, stamp) : merge(seen);
}

/* ---------- for sessions ---------- */

void
clock_require_loaded(void)
{
	if (clock_shared == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the clock of pg_quorum is not running"),
				 errhint("Add pg_quorum to shared_preload_libraries and restart the server.")));
}

/* A crash was just recovered from: at most CLOCK_BOUND_AHEAD_US. */
void
clock_wait_ready(void)
{
	while (clock_usable() == CLOCK_NOT_READY)
	{
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 10, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

void
clock_report(ClockVerdict verdict)
{
	switch (verdict)
	{
		case CLOCK_OK:
			return;
		case CLOCK_TOO_FAR_AHEAD:
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("time stamp is too far ahead of this server's clock"),
					 errdetail("More than quorum.max_clock_offset (%d ms).",
							   quorum_max_clock_offset_ms)));
			break;
		case CLOCK_NOT_READY:
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("the clock has not caught up after a crash yet")));
			break;
		case CLOCK_BROKEN:
			ereport(ERROR,
					(errcode(ERRCODE_IO_ERROR),
					 errmsg("the clock's persisted bound could not be read or written"),
					 errdetail("The server log says why."),
					 errhint("If the file \"pg_quorum/clock\" in the data directory is "
							 "damaged beyond repair, stop the server and remove it: the "
							 "clock then starts at the time of day.")));
			break;
	}
}
