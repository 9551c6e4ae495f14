/*-------------------------------------------------------------------------
 *
 * hlc.h
 *		Hybrid logical clock: the algorithm, and nothing else.
 *
 * Kulkarni, Demirbas, Madappa, Avva, Leone, "Logical Physical Clocks and
 * Consistent Snapshots in Globally Distributed Databases" (2014), figure 5.
 * Pure C11: no PostgreSQL, no system clock (readings come in as arguments),
 * no I/O, no shared state. Used by the server's shared-memory clock, by the
 * Raft worker and by simulations.
 *
 * Physical time is in microseconds since 2000-01-01 00:00:00 UTC, PostgreSQL's
 * own epoch, so that a timestamptz and the physical part of a stamp are the
 * same number.
 *
 * Two forms
 * ---------
 * HlcStamp is what is stored, sent and compared: physical, logical, node, in
 * this order of significance.
 *
 * HlcWord is one server's clock in 64 bits, so that a single compare-and-swap
 * moves it: physical in the upper 52 bits, logical in the lower 12. A counter
 * that is full carries into the microsecond by plain addition: the stamp stays
 * larger than all before it, and is 1 us further ahead of the wall clock. To
 * drift that way a server would have to hand out more than 4,096 stamps a
 * microsecond. 52 bits of microseconds last until the year 2142.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGQ_HLC_H
#define PGQ_HLC_H

#include <stdbool.h>
#include <stdint.h>

/*
 * Same layout as the stamp in Raft's messages and entries (RaftStamp), and as
 * the SQL type quorum.hlc on disk. All zero means "no stamp".
 */
typedef struct HlcStamp
{
	int64_t		physical_us;
	uint32_t	logical;
	uint32_t	node;
} HlcStamp;

_Static_assert(sizeof(HlcStamp) == 16, "HlcStamp is a fixed 16-byte layout");

typedef uint64_t HlcWord;

#define HLC_WORD_LOGICAL_BITS	12
#define HLC_WORD_LOGICAL_MAX	((UINT64_C(1) << HLC_WORD_LOGICAL_BITS) - 1)
#define HLC_WORD_PHYSICAL_MAX_US ((INT64_C(1) << (64 - HLC_WORD_LOGICAL_BITS)) - 2)

/* Total order: physical, then logical, then node. -1, 0, 1. */
extern int	hlc_compare(HlcStamp a, HlcStamp b);

extern bool hlc_is_zero(HlcStamp stamp);

/*
 * Figure 5, "send or local event": the stamp after last, at wall_us on node.
 * A full 32-bit counter carries into the physical part.
 */
extern HlcStamp hlc_local_event(HlcStamp last, int64_t wall_us, uint32_t node);

/* Figure 5, "receive event of message m": larger than last and than remote. */
extern HlcStamp hlc_receive_event(HlcStamp last, HlcStamp remote,
								  int64_t wall_us, uint32_t node);

/*
 * May a stamp of the remote's be merged? Not if its physical part is more
 * than max_offset_us ahead of this node's wall clock: one broken clock would
 * otherwise drag every other one along with it.
 */
extern bool hlc_within_offset(HlcStamp remote, int64_t wall_us, int64_t max_offset_us);

/* ---------- the 64-bit form ---------- */

/* First word at a physical time; times before the epoch give 0. */
extern HlcWord hlc_word_at(int64_t physical_us);

/* Smallest word that is not below the stamp. */
extern HlcWord hlc_word_from_stamp(HlcStamp stamp);

extern HlcStamp hlc_word_stamp(HlcWord word, uint32_t node);
extern int64_t hlc_word_physical_us(HlcWord word);

/* The two events of figure 5. Precondition: last and remote are below UINT64_MAX. */
extern HlcWord hlc_word_local_event(HlcWord last, int64_t wall_us);
extern HlcWord hlc_word_receive_event(HlcWord last, HlcWord remote, int64_t wall_us);

#endif							/* PGQ_HLC_H */
