/*-------------------------------------------------------------------------
 *
 * hlc.c
 *		Hybrid logical clock: the algorithm. See hlc.h.
 *
 * The names in comments are those of Kulkarni et al. 2014, figure 5: pt is the
 * node's physical clock, l.j the largest physical time heard of, c.j the
 * counter that tells events with the same l.j apart.
 *
 *-------------------------------------------------------------------------
 */
#include "hlc.h"

#include <stdlib.h>

/*
 * Cheap enough to stay on in production: a clock that breaks its own order
 * must not go on handing out stamps.
 */
#define hlc_assert(cond) \
	do { \
		if (!(cond)) \
			abort(); \
	} while (0)

int
hlc_compare(HlcStamp a, HlcStamp b)
{
	if (a.physical_us != b.physical_us)
		return a.physical_us < b.physical_us ? -1 : 1;
	if (a.logical != b.logical)
		return a.logical < b.logical ? -1 : 1;
	if (a.node != b.node)
		return a.node < b.node ? -1 : 1;
	return 0;
}

bool
hlc_is_zero(HlcStamp stamp)
{
	return stamp.physical_us == 0 && stamp.logical == 0 && stamp.node == 0;
}

/*
 * c.j := c.j + 1, which the paper leaves unbounded. A full counter moves on to
 * the next microsecond instead of wrapping.
 */
static HlcStamp
count_up(int64_t physical_us, uint32_t logical, uint32_t node)
{
	HlcStamp	next = {.physical_us = physical_us, .logical = logical + 1, .node = node};

	if (logical == UINT32_MAX)
	{
		hlc_assert(physical_us < INT64_MAX);
		next.physical_us = physical_us + 1;
		next.logical = 0;
	}
	return next;
}

HlcStamp
hlc_local_event(HlcStamp last, int64_t wall_us, uint32_t node)
{
	/* l.j := max(l'.j, pt.j); if (l.j = l'.j) c.j := c.j + 1 else c.j := 0 */
	if (last.physical_us >= wall_us)
		return count_up(last.physical_us, last.logical, node);
	return (HlcStamp) {.physical_us = wall_us, .logical = 0, .node = node};
}

HlcStamp
hlc_receive_event(HlcStamp last, HlcStamp remote, int64_t wall_us, uint32_t node)
{
	HlcStamp	next;

	/*
	 * l.j := max(l'.j, l.m, pt.j), and c.j counts on from whichever of the
	 * two the maximum came from, from the larger counter if from both.
	 */
	if (wall_us > last.physical_us && wall_us > remote.physical_us)
		next = (HlcStamp) {.physical_us = wall_us, .logical = 0, .node = node};
	else if (last.physical_us == remote.physical_us)
		next = count_up(last.physical_us,
						last.logical > remote.logical ? last.logical : remote.logical,
						node);
	else if (last.physical_us > remote.physical_us)
		next = count_up(last.physical_us, last.logical, node);
	else
		next = count_up(remote.physical_us, remote.logical, node);

	hlc_assert(next.physical_us > last.physical_us ||
			   (next.physical_us == last.physical_us && next.logical > last.logical));
	hlc_assert(hlc_compare(next, remote) > 0);
	return next;
}

bool
hlc_within_offset(HlcStamp remote, int64_t wall_us, int64_t max_offset_us)
{
	hlc_assert(max_offset_us >= 0);

	/* in two comparisons, since remote may be anything and must not overflow */
	if (remote.physical_us <= wall_us)
		return true;
	return (uint64_t) remote.physical_us - (uint64_t) wall_us <= (uint64_t) max_offset_us;
}

HlcWord
hlc_word_at(int64_t physical_us)
{
	if (physical_us <= 0)
		return 0;
	hlc_assert(physical_us <= HLC_WORD_PHYSICAL_MAX_US);
	return (HlcWord) physical_us << HLC_WORD_LOGICAL_BITS;
}

HlcWord
hlc_word_from_stamp(HlcStamp stamp)
{
	if (stamp.physical_us < 0)
		return 0;
	if (stamp.logical > HLC_WORD_LOGICAL_MAX)
		return hlc_word_at(stamp.physical_us + 1);
	return hlc_word_at(stamp.physical_us) | stamp.logical;
}

HlcStamp
hlc_word_stamp(HlcWord word, uint32_t node)
{
	return (HlcStamp) {
		.physical_us = hlc_word_physical_us(word),
		.logical = (uint32_t) (word & HLC_WORD_LOGICAL_MAX),
		.node = node
	};
}

int64_t
hlc_word_physical_us(HlcWord word)
{
	return (int64_t) (word >> HLC_WORD_LOGICAL_BITS);
}

HlcWord
hlc_word_local_event(HlcWord last, int64_t wall_us)
{
	HlcWord		wall = hlc_word_at(wall_us);

	hlc_assert(last < UINT64_MAX);
	return wall > last ? wall : last + 1;
}

HlcWord
hlc_word_receive_event(HlcWord last, HlcWord remote, int64_t wall_us)
{
	return hlc_word_local_event(last > remote ? last : remote, wall_us);
}
