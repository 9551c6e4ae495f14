/*-------------------------------------------------------------------------
 *
 * clock_id.c
 *		quorum.next_id(): 63-bit ids in the order of time.
 *
 *		bit 62 .. 22	milliseconds since 2025-01-01 00:00 UTC, until 2094
 *		bit 21 .. 12	node id of the member, 0 outside a cluster
 *		bit 11 .. 0		counter within the millisecond
 *
 * Unique in the cluster because node ids are handed out by membership and never
 * twice, and unique on the node because the last id lives in shared memory and
 * is moved by compare-and-swap. Increasing on a node: when the counter is full,
 * the wall clock was set back, or the node id became smaller, the time part
 * counts on by itself. The clock's persisted bound covers ids as well, so this
 * holds over crashes.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "clock/clock_internal.h"
#include "fmgr.h"
#include "utils/timestamp.h"

#define ID_MS_SHIFT		(CLOCK_ID_NODE_BITS + CLOCK_ID_COUNTER_BITS)
#define ID_COUNTER_MAX	((1 << CLOCK_ID_COUNTER_BITS) - 1)

PG_FUNCTION_INFO_V1(quorum_next_id);
PG_FUNCTION_INFO_V1(quorum_id_timestamp);
PG_FUNCTION_INFO_V1(quorum_id_node);
PG_FUNCTION_INFO_V1(quorum_id_counter);
PG_FUNCTION_INFO_V1(quorum_id_from_timestamp);

static inline int64
id_make(int64 ms, uint32 node, uint32 counter)
{
	return (ms << ID_MS_SHIFT) | ((int64) node << CLOCK_ID_COUNTER_BITS) | counter;
}

static inline int64
id_ms(int64 id)
{
	return id >> ID_MS_SHIFT;
}

static inline uint32
id_node(int64 id)
{
	return (id >> CLOCK_ID_COUNTER_BITS) & CLOCK_ID_NODE_MAX;
}

static inline uint32
id_counter(int64 id)
{
	return id & ID_COUNTER_MAX;
}

int64
clock_id_time_us(int64 id)
{
	return CLOCK_ID_EPOCH_US + id_ms(id) * 1000;
}

/*
 * An id is only made when the beginning of its millisecond is below the bound
 * (clock_next_id), so this last id of the millisecond that the word falls into
 * is larger than all.
 */
int64
clock_id_before(HlcWord word)
{
	int64		ms = (hlc_word_physical_us(word) - CLOCK_ID_EPOCH_US) / 1000;

	if (ms < 0)
		return 0;
	return id_make(Min(ms, CLOCK_ID_MS_MAX), CLOCK_ID_NODE_MAX, ID_COUNTER_MAX);
}

static int64
id_after(int64 last, int64 now_ms, uint32 node)
{
	if (now_ms > id_ms(last))
		return id_make(now_ms, node, 0);
	if (node == id_node(last) && id_counter(last) < ID_COUNTER_MAX)
		return last + 1;
	return id_make(id_ms(last) + 1, node, 0);
}

static ClockVerdict
clock_next_id(int64 *id)
{
	ClockVerdict verdict = clock_usable();
	uint32		node = pg_atomic_read_u32(&clock_shared->node_id);
	int64		now_us;
	HlcWord		word;
	uint64		last;
	int64		next;

	if (verdict != CLOCK_OK)
		return verdict;

	/* follow what the hybrid clock has seen of other members' time */
	word = pg_atomic_read_u64(&clock_shared->word);
	last = pg_atomic_read_u64(&clock_shared->last_id);

	/* the last id tells as well as the last stamp where the time ought to be */
	now_us = clock_checked_physical_us(Max(word, hlc_word_at(clock_id_time_us(last))));
	now_us = Max(now_us, hlc_word_physical_us(word));
	do
	{
		next = id_after(last, (now_us - CLOCK_ID_EPOCH_US) / 1000, node);
		if (id_ms(next) > CLOCK_ID_MS_MAX)
			ereport(ERROR,
					(errcode(ERRCODE_SEQUENCE_GENERATOR_LIMIT_EXCEEDED),
					 errmsg("the time is beyond what next_id() can express")));
		word = hlc_word_at(clock_id_time_us(next));
		if (unlikely(word >= pg_atomic_read_u64(&clock_shared->bound)) &&
			!clock_persist_bound(word, 0))
			return CLOCK_BROKEN;
	} while (!pg_atomic_compare_exchange_u64(&clock_shared->last_id, &last, next));

	*id = next;
	return CLOCK_OK;
}

Datum
quorum_next_id(PG_FUNCTION_ARGS)
{
	int64		id = 0;

	clock_require_loaded();
	if (pg_atomic_read_u32(&clock_shared->node_id) > CLOCK_ID_NODE_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("next_id() has no room for node id %u",
						pg_atomic_read_u32(&clock_shared->node_id)),
				 errdetail("Ids hold node ids up to %d.", CLOCK_ID_NODE_MAX)));
	clock_wait_ready();
	clock_report(clock_next_id(&id));
	PG_RETURN_INT64(id);
}

static int64
get_id_arg(FunctionCallInfo fcinfo)
{
	int64		id = PG_GETARG_INT64(0);

	if (id < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("not an id of quorum.next_id(): %lld", (long long) id)));
	return id;
}

Datum
quorum_id_timestamp(PG_FUNCTION_ARGS)
{
	PG_RETURN_TIMESTAMPTZ(clock_id_time_us(get_id_arg(fcinfo)));
}

Datum
quorum_id_node(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT32(id_node(get_id_arg(fcinfo)));
}

Datum
quorum_id_counter(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT32(id_counter(get_id_arg(fcinfo)));
}

/* The smallest id of a millisecond: WHERE id >= id_from_timestamp(...). */
Datum
quorum_id_from_timestamp(PG_FUNCTION_ARGS)
{
	TimestampTz at = PG_GETARG_TIMESTAMPTZ(0);
	int64		us;

	if (TIMESTAMP_NOT_FINITE(at) || at < CLOCK_ID_EPOCH_US ||
		(at - CLOCK_ID_EPOCH_US) / 1000 > CLOCK_ID_MS_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("time is out of the range of quorum.next_id()"),
				 errdetail("Ids reach from 2025-01-01 to 2094.")));

	/* round up, or the id of the millisecond begun would be too small */
	us = at - CLOCK_ID_EPOCH_US;
	PG_RETURN_INT64(id_make(us / 1000 + (us % 1000 != 0), 0, 0));
}
