/*-------------------------------------------------------------------------
 *
 * test_hlc.c
 *		The two events of figure 5 by tables, at their edges, and in both forms.
 *
 *-------------------------------------------------------------------------
 */
#include "harness.h"

#include "clock/hlc.h"

static HlcStamp
stamp(int64_t physical_us, uint32_t logical, uint32_t node)
{
	return (HlcStamp) {.physical_us = physical_us, .logical = logical, .node = node};
}

static bool
same(HlcStamp a, HlcStamp b)
{
	return a.physical_us == b.physical_us && a.logical == b.logical && a.node == b.node;
}

static void
test_compare(void)
{
	/* ascending */
	static const HlcStamp order[] = {
		{INT64_MIN, 0, 0}, {-1, UINT32_MAX, UINT32_MAX}, {0, 0, 0}, {0, 0, 1}, {0, 1, 0},
		{0, UINT32_MAX, 0}, {1, 0, 0}, {1, 0, UINT32_MAX}, {1, 2, 1}, {INT64_MAX, 0, 0}
	};
	int			n = sizeof(order) / sizeof(order[0]);

	for (int i = 0; i < n; i++)
	{
		for (int j = 0; j < n; j++)
		{
			int			want = i < j ? -1 : (i > j ? 1 : 0);

			check(hlc_compare(order[i], order[j]) == want, "compare %d with %d", i, j);
		}
		check(hlc_is_zero(order[i]) == (i == 2), "is %d zero", i);
	}
}

/* Kulkarni et al. 2014, figure 5, case by case. */
static void
test_events(void)
{
	static const struct
	{
		HlcStamp	last;
		int64_t		wall_us;
		HlcStamp	want;
	}			local[] = {
		{{10, 0, 1}, 11, {11, 0, 1}},	/* the clock has moved on */
		{{10, 7, 1}, 10, {10, 8, 1}},	/* it has not */
		{{10, 7, 1}, 3, {10, 8, 1}},	/* it was set back */
		{{10, UINT32_MAX, 1}, 10, {11, 0, 1}},	/* counter full */
		{{0, 0, 0}, -5, {0, 1, 1}}
	};
	static const struct
	{
		HlcStamp	last;
		HlcStamp	remote;
		int64_t		wall_us;
		HlcStamp	want;
	}			receive[] = {
		{{10, 3, 1}, {9, 5, 2}, 12, {12, 0, 1}},	/* pt is the largest */
		{{10, 3, 1}, {9, 5, 2}, 10, {10, 4, 1}},	/* l.j is */
		{{10, 3, 1}, {14, 5, 2}, 12, {14, 6, 1}},	/* l.m is */
		{{10, 3, 1}, {10, 5, 2}, 9, {10, 6, 1}},	/* both: the larger counter */
		{{10, 8, 1}, {10, 5, 2}, 10, {10, 9, 1}},
		{{10, 3, 1}, {10, UINT32_MAX, 2}, 10, {11, 0, 1}},
		{{10, 3, 1}, {14, UINT32_MAX, 2}, 12, {15, 0, 1}},
		{{10, 3, 1}, {10, 3, 9}, 10, {10, 4, 1}}	/* a larger node id is no way out */
	};

	for (unsigned i = 0; i < sizeof(local) / sizeof(local[0]); i++)
		check(same(hlc_local_event(local[i].last, local[i].wall_us, 1), local[i].want),
			  "local event %u", i);
	for (unsigned i = 0; i < sizeof(receive) / sizeof(receive[0]); i++)
		check(same(hlc_receive_event(receive[i].last, receive[i].remote, receive[i].wall_us, 1),
				   receive[i].want), "receive event %u", i);
}

static void
test_offset(void)
{
	check(hlc_within_offset(stamp(100, 0, 1), 100, 0), "now");
	check(hlc_within_offset(stamp(150, 9, 1), 100, 50), "at the limit");
	check(!hlc_within_offset(stamp(151, 0, 1), 100, 50), "beyond it");
	check(hlc_within_offset(stamp(INT64_MIN, 0, 1), 100, 50), "long ago");
	check(hlc_within_offset(stamp(-5, 0, 1), INT64_MAX, 0), "longer ago");
	check(!hlc_within_offset(stamp(INT64_MAX, 0, 1), INT64_MIN, INT64_MAX), "does not overflow");
	check(!hlc_within_offset(stamp(INT64_MAX, 0, 1), 0, INT64_MAX - 1), "nor here");
}

static void
test_word(void)
{
	HlcWord		top = hlc_word_at(HLC_WORD_PHYSICAL_MAX_US) | HLC_WORD_LOGICAL_MAX;

	check(hlc_word_at(0) == 0 && hlc_word_at(-7) == 0, "before the epoch is 0");
	check(hlc_word_physical_us(top) == HLC_WORD_PHYSICAL_MAX_US, "largest time");
	check(top < UINT64_MAX, "and one tick is left above it");
	check(same(hlc_word_stamp(hlc_word_at(77) | 5, 3), stamp(77, 5, 3)), "parts of a word");
	check(hlc_word_from_stamp(stamp(77, 5, 3)) == (hlc_word_at(77) | 5), "word of a stamp");
	check(hlc_word_from_stamp(stamp(77, 4096, 3)) == hlc_word_at(78), "a counter too large for it");
	check(hlc_word_from_stamp(stamp(-77, 5, 3)) == 0, "a stamp before the epoch");
	check(hlc_word_local_event(hlc_word_at(77) | HLC_WORD_LOGICAL_MAX, 5) == hlc_word_at(78),
		  "a full counter carries");
}

/*
 * The 64-bit form never gives a stamp that the paper's would not be below or
 * equal to, and is strictly above last and remote: for random inputs near each
 * other, where all cases meet.
 */
static void
test_forms_agree(void)
{
	uint64_t	seed = 5;
	bool		good = true;

	for (int i = 0; i < 1000000 && good; i++)
	{
		int64_t		base = 1 + (int64_t) random_below(&seed, UINT64_C(1) << 50);
		HlcStamp	last = stamp(base + random_below(&seed, 3), random_below(&seed, 4), 1);
		HlcStamp	remote = stamp(base + random_below(&seed, 3), random_below(&seed, 4), 2);
		int64_t		wall = base + random_below(&seed, 3);
		HlcStamp	paper = hlc_receive_event(last, remote, wall, 1);
		HlcWord		word = hlc_word_receive_event(hlc_word_from_stamp(last),
												  hlc_word_from_stamp(remote), wall);

		good = same(hlc_word_stamp(word, 1), paper) &&
			hlc_compare(paper, last) > 0 && hlc_compare(paper, remote) > 0;
		good = good && same(hlc_word_stamp(hlc_word_local_event(hlc_word_from_stamp(last), wall), 1),
							hlc_local_event(last, wall, 1));
		/* words compare as stamps do */
		good = good && (hlc_word_from_stamp(last) < hlc_word_from_stamp(remote)) ==
			(last.physical_us < remote.physical_us ||
			 (last.physical_us == remote.physical_us && last.logical < remote.logical));
	}
	check(good, "both forms agree on a million random events");
}

void
test_hlc(void)
{
	test_compare();
	test_events();
	test_offset();
	test_word();
	test_forms_agree();
}
