/*-------------------------------------------------------------------------
 *
 * stats.c
 *		Counters in shared memory (stats.h) and the function that shows them.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "fmgr.h"
#include "funcapi.h"
#include "port/atomics.h"
#include "storage/shmem.h"
#include "utils/timestamp.h"

#include "node/node.h"
#include "replication/stats.h"

PG_FUNCTION_INFO_V1(quorum_stat_replication);

typedef struct StatsShared
{
	TimestampTz since;			/* written once, at start */
	pg_atomic_uint64 counters[STAT_COUNTERS];
} StatsShared;

static StatsShared *stats = NULL;

Size
stats_shmem_size(void)
{
	return sizeof(StatsShared);
}

void
stats_shmem_init(void)
{
	bool		found;

	stats = ShmemInitStruct("pg_quorum replication counters", sizeof(StatsShared), &found);
	if (found)
		return;
	stats->since = GetCurrentTimestamp();
	for (int i = 0; i < STAT_COUNTERS; i++)
		pg_atomic_init_u64(&stats->counters[i], 0);
}

void
stats_add(StatCounter counter, uint64 n)
{
	Assert(counter < STAT_COUNTERS);
	if (stats && n > 0)
		pg_atomic_fetch_add_u64(&stats->counters[counter], n);
}

/* All counters, the Raft worker's longest turn, then the time they started from. */
Datum
quorum_stat_replication(PG_FUNCTION_ARGS)
{
	TupleDesc	desc;
	Datum		values[STAT_COUNTERS + 2];
	bool		nulls[STAT_COUNTERS + 2] = {0};

	node_require_loaded();
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE ||
		desc->natts != STAT_COUNTERS + 2)
		elog(ERROR, "unexpected result type of quorum._stat_replication");
	for (int i = 0; i < STAT_COUNTERS; i++)
		values[i] = Int64GetDatum((int64) pg_atomic_read_u64(&stats->counters[i]));
	values[STAT_COUNTERS] = Int64GetDatum((int64) node_longest_turn_us());
	values[STAT_COUNTERS + 1] = TimestampTzGetDatum(stats->since);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}
