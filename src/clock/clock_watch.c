/*-------------------------------------------------------------------------
 *
 * clock_watch.c
 *		Watching clocks: jumps of this server's wall clock, and how far the
 *		other members' clocks are from it.
 *
 * Jumps
 * -----
 * A step of the wall clock changes its distance from the monotonic clock;
 * slewing (adjtime) moves both and does not. So two readings of the pair tell
 * a jump from time that merely passed while nobody looked. (The monotonic
 * clock stands still while a machine is suspended; waking up counts as a jump
 * forward, and for the clock it is one.) Looked at by the clock worker several
 * times a second, and by a tick that finds the wall clock behind the last stamp
 * or far ahead of it. watch_lock guards the last pair of readings and the
 * counters.
 *
 * What is known of the peers' clocks is moved along with a jump, at once and
 * before any stamp is made by the new time. So a member that knows its peers
 * fences itself within the tick that would have followed the jump.
 *
 * Peers
 * -----
 * clock_peer_sample() turns "the peer's clock said R when its answer came in,
 * and the answer took at most the round trip" into an interval that contains
 * the offset, as NTP does: R - now + rtt/2, give or take rtt/2. Of the last
 * few samples the one with the least error counts; a sample whose interval
 * does not meet that one's means that a clock jumped, and starts afresh.
 * peers_lock guards the array; it is written by the Raft worker, except for
 * the refusal counters.
 *
 * Fence
 * -----
 * A member is off when its interval lies outside quorum.max_clock_offset as a
 * whole. When so many peers that they and we cannot all be right say that we
 * are off from them, and they are a majority of the members, it is us: fenced.
 * The fence falls only on evidence, too: a majority, us included, in agreement.
 * Silence changes nothing.
 *
 * While fenced this server takes the time from that majority: the median of
 * what its peers say corrects the wall clock (clock_physical_us). So it can
 * follow the log, whose stamps it would otherwise have to refuse, its own stamps
 * do not run away from the cluster's, and happens-before holds for its sessions
 * as well. It is not good enough to lead by.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "clock/clock_internal.h"
#include "utils/timestamp.h"

/* Part of the interval that covers the time between reading two clocks. */
#define SAMPLE_SLACK_US		INT64CONST(500)

/* ---------- jumps ---------- */

/*
 * Read both clocks at the same time, as nearly as this can be done in user
 * space. False if we were interrupted every time.
 */
static bool
read_both_clocks(int64 *wall_us, int64 *mono_us)
{
	for (int attempt = 0; attempt < 5; attempt++)
	{
		int64		before_us = clock_monotonic_us();

		*wall_us = clock_wall_us();
		*mono_us = clock_monotonic_us();
		if (*mono_us - before_us < CLOCK_JUMP_US / 10)
			return true;
	}
	return false;
}

static void
log_jump(int64 shift_us)
{
	ereport(LOG,
			(errmsg("wall clock jumped %s by %lld ms",
					shift_us < 0 ? "backwards" : "forwards",
					(long long) (shift_us < 0 ? -shift_us : shift_us) / 1000),
			 pg_atomic_read_u32(&clock_shared->fenced) != 0 ?
			 errdetail("The hybrid clock goes by the clocks of the other members.") :
			 shift_us < 0 ?
			 errdetail("The hybrid clock goes on from where it was.") :
			 errdetail("The hybrid clock follows it.")));
}

static void
record_jump(int64 shift_us)
{
	if (shift_us < 0)
		clock_shared->jumps_backward++;
	else
		clock_shared->jumps_forward++;
	clock_shared->last_jump_us = shift_us;
	clock_shared->last_jump_at_us = clock_wall_us();
}

/* For start-up, when nobody else is there. */
void
clock_count_jump(int64 shift_us)
{
	record_jump(shift_us);
	log_jump(shift_us);
}

/* ---------- peers ---------- */

static ClockPeer *
find_peer(uint32 node_id)
{
	for (int i = 0; i < clock_shared->npeers; i++)
	{
		if (clock_shared->peers[i].node_id == node_id)
			return &clock_shared->peers[i];
	}
	return NULL;
}

void
clock_set_node(uint32 node_id)
{
	pg_atomic_write_u32(&clock_shared->node_id, node_id);
}

void
clock_set_peers(const uint32 *node_ids, int count)
{
	ClockShared *shared = clock_shared;
	ClockPeer	kept[CLOCK_MAX_PEERS];

	count = Min(count, CLOCK_MAX_PEERS);
	memset(kept, 0, sizeof(kept));

	LWLockAcquire(&shared->peers_lock, LW_EXCLUSIVE);
	for (int i = 0; i < count; i++)
	{
		ClockPeer  *known = find_peer(node_ids[i]);

		if (known)
			kept[i] = *known;
		else
			kept[i].node_id = node_ids[i];
	}
	memcpy(shared->peers, kept, sizeof(kept));
	shared->npeers = count;
	LWLockRelease(&shared->peers_lock);
	clock_update_fence();
}

static bool
samples_agree(ClockSample a, ClockSample b)
{
	int64		apart_us = a.offset_us - b.offset_us;

	if (apart_us < 0)
		apart_us = -apart_us;
	return apart_us <= a.error_us + b.error_us + CLOCK_JUMP_US;
}

static void
add_sample(ClockPeer *peer, ClockSample sample)
{
	if (peer->nsamples > 0 && !samples_agree(peer->best, sample))
	{
		peer->nsamples = 0;
		peer->next_sample = 0;
	}
	peer->samples[peer->next_sample] = sample;
	peer->next_sample = (peer->next_sample + 1) % CLOCK_PEER_SAMPLES;
	peer->nsamples = Min(peer->nsamples + 1, CLOCK_PEER_SAMPLES);

	peer->best = sample;
	for (int i = 0; i < peer->nsamples; i++)
	{
		if (peer->samples[i].error_us < peer->best.error_us)
			peer->best = peer->samples[i];
	}
}

void
clock_peer_sample(uint32 node_id, HlcStamp remote, int64 rtt_us)
{
	int64		wall_us = clock_wall_us();
	ClockSample sample;
	ClockPeer  *peer;

	/* nonsense from the other side must not overflow our arithmetic */
	if (rtt_us < 0 || hlc_is_zero(remote) || remote.physical_us < 0 ||
		remote.physical_us > HLC_WORD_PHYSICAL_MAX_US)
		return;
	sample.offset_us = remote.physical_us + rtt_us / 2 - wall_us;
	sample.error_us = rtt_us / 2 + SAMPLE_SLACK_US;

	LWLockAcquire(&clock_shared->peers_lock, LW_EXCLUSIVE);
	peer = find_peer(node_id);
	if (peer)
	{
		add_sample(peer, sample);
		peer->last_contact_us = wall_us;
		peer->last_contact_mono_us = clock_monotonic_us();
	}
	LWLockRelease(&clock_shared->peers_lock);
	if (peer)
		clock_update_fence();
}

/* ---------- the fence ---------- */

/*
 * Is this server off from the peer, for certain? By its wall clock, or because
 * its hybrid clock stands where the peer would refuse it.
 */
static bool
off_from(const ClockPeer *peer, int64 clock_ahead_us)
{
	int64		limit_us = (int64) quorum_max_clock_offset_ms * 1000 + peer->best.error_us;

	return peer->best.offset_us > limit_us || -peer->best.offset_us > limit_us ||
		clock_ahead_us - peer->best.offset_us > limit_us;
}

static int
compare_int64(const void *a, const void *b)
{
	int64		left = *(const int64 *) a;
	int64		right = *(const int64 *) b;

	return left < right ? -1 : (left > right ? 1 : 0);
}

/* The smaller of the two in the middle, should their number be even. */
static int64
median(int64 *values, int count)
{
	Assert(count > 0);
	qsort(values, count, sizeof(int64), compare_int64);
	return values[(count - 1) / 2];
}

typedef enum FenceChange
{
	FENCE_AS_IT_WAS,
	FENCE_UP,
	FENCE_DOWN
} FenceChange;

/* With peers_lock held. */
static FenceChange
judge_fence(void)
{
	ClockShared *shared = clock_shared;
	int64		offsets_us[CLOCK_MAX_PEERS];
	int64		now_us = clock_monotonic_us();
	int64		clock_ahead_us;
	int			off = 0;
	int			agree = 1;		/* with ourselves */
	int			members = shared->npeers + 1;
	uint32		was = pg_atomic_read_u32(&shared->fenced);
	uint32		is = was;

	clock_ahead_us =
		hlc_word_physical_us(pg_atomic_read_u64(&shared->word)) - clock_wall_us();
	for (int i = 0; i < shared->npeers; i++)
	{
		ClockPeer  *peer = &shared->peers[i];

		if (peer->nsamples == 0 || now_us - peer->last_contact_mono_us > CLOCK_PEER_FRESH_US)
			continue;
		if (off_from(peer, clock_ahead_us))
			offsets_us[off++] = peer->best.offset_us;
		else
			agree++;
	}
	if (off * 2 > members)
	{
		is = 1;
		pg_atomic_write_u64(&shared->correction_us, (uint64) median(offsets_us, off));
	}
	else if (agree * 2 > members)
	{
		is = 0;
		pg_atomic_write_u64(&shared->correction_us, 0);
	}
	pg_atomic_write_u32(&shared->fenced, is);
	return is == was ? FENCE_AS_IT_WAS : (is ? FENCE_UP : FENCE_DOWN);
}

static void
log_fence(FenceChange change)
{
	if (change == FENCE_UP)
		ereport(LOG,
				(errmsg("this server's clock differs from a majority of the members by more than %d ms",
						quorum_max_clock_offset_ms),
				 errdetail("It neither leads nor stamps entries until the clock is right again."),
				 errhint("Check the time synchronisation of this server.")));
	else if (change == FENCE_DOWN)
		ereport(LOG,
				(errmsg("this server's clock agrees with a majority of the members again")));
}

void
clock_update_fence(void)
{
	FenceChange change;

	LWLockAcquire(&clock_shared->peers_lock, LW_EXCLUSIVE);
	change = judge_fence();
	LWLockRelease(&clock_shared->peers_lock);
	log_fence(change);
}

/* Our wall clock has jumped: the peers' clocks have not. */
static FenceChange
move_fence(int64 shift_us)
{
	FenceChange change;

	LWLockAcquire(&clock_shared->peers_lock, LW_EXCLUSIVE);
	for (int i = 0; i < clock_shared->npeers; i++)
	{
		ClockPeer  *peer = &clock_shared->peers[i];

		for (int k = 0; k < peer->nsamples; k++)
			peer->samples[k].offset_us -= shift_us;
		peer->best.offset_us -= shift_us;
	}
	change = judge_fence();
	LWLockRelease(&clock_shared->peers_lock);
	return change;
}

/* ---------- jumps, once they are seen ---------- */

/* wait: also when somebody is looking right now, until the result is there. */
void
clock_check_wall(bool wait)
{
	int64		wall_us;
	int64		mono_us;
	int64		shift_us = 0;
	FenceChange change = FENCE_AS_IT_WAS;
	ClockShared *shared = clock_shared;

	if (wait)
		LWLockAcquire(&shared->watch_lock, LW_EXCLUSIVE);
	else if (!LWLockConditionalAcquire(&shared->watch_lock, LW_EXCLUSIVE))
		return;
	if (read_both_clocks(&wall_us, &mono_us))
	{
		if (shared->watch_wall_us != 0)
			shift_us = (wall_us - shared->watch_wall_us) - (mono_us - shared->watch_mono_us);

		/* time never runs backwards, whatever the monotonic clock claims */
		if (wall_us < shared->watch_wall_us)
			shift_us = Min(shift_us, wall_us - shared->watch_wall_us);
		shared->watch_wall_us = wall_us;
		shared->watch_mono_us = mono_us;
		if (shift_us > -CLOCK_JUMP_US && shift_us < CLOCK_JUMP_US)
			shift_us = 0;
		else
		{
			record_jump(shift_us);
			change = move_fence(shift_us);
		}
	}
	LWLockRelease(&shared->watch_lock);

	if (shift_us != 0)
		log_jump(shift_us);
	log_fence(change);
}


/* No room left in front of the clock, and no way to make some. */
static bool
runs_into_bound(void)
{
	HlcWord		word;
	int64		front_us;

	if (likely(pg_atomic_read_u64(&clock_shared->persist_failed_mono_us) == 0))
		return false;
	word = pg_atomic_read_u64(&clock_shared->word);
	front_us = Max(hlc_word_physical_us(word), clock_physical_us());
	return front_us + CLOCK_BOUND_SHORT_US >
		hlc_word_physical_us(pg_atomic_read_u64(&clock_shared->bound));
}

bool
clock_is_fenced(char *why, Size why_size)
{
	ClockVerdict verdict = clock_usable();
	const char *reason = NULL;

	if (verdict == CLOCK_BROKEN)
		reason = "the clock's persisted bound cannot be used";
	else if (verdict == CLOCK_NOT_READY)
		reason = "the clock has not caught up after a crash yet";
	else if (runs_into_bound())
		reason = "the clock's persisted bound cannot be written";
	else if (pg_atomic_read_u32(&clock_shared->fenced) != 0)
		reason = "the clock differs from a majority of the members by more than "
			"quorum.max_clock_offset";

	if (reason && why)
		strlcpy(why, reason, why_size);
	return reason != NULL;
}
