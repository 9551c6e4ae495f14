/*-------------------------------------------------------------------------
 *
 * read_info.c
 *		quorum.read_info(): what the session's last statement was served with.
 *
 * Noted for statements with a level; under eventual nothing is noted, and the
 * answer is about this moment.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "fmgr.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "consistency/read.h"
#include "node/node.h"

PG_FUNCTION_INFO_V1(quorum_read_info);

#define INFO_COLUMNS	6

static ReadReached last;
static uint64 count = 0;

void
read_note(const ReadReached *reached)
{
	last = *reached;
	last.age_us = -1;
	if (reached->as_of_us != 0)
		last.age_us = Max(node_monotonic_us() - reached->as_of_us, 0);
	count++;
}

uint64
read_noted(ReadReached *reached)
{
	*reached = last;
	return count;
}

static Datum
interval_datum(int64 us)
{
	Interval   *interval = palloc0(sizeof(Interval));

	interval->time = us;
	return IntervalPGetDatum(interval);
}

Datum
quorum_read_info(PG_FUNCTION_ARGS)
{
	TupleDesc	desc;
	Datum		values[INFO_COLUMNS];
	bool		nulls[INFO_COLUMNS] = {false};
	ReadReached about = last;

	node_require_loaded();
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	if (quorum_read_consistency == READ_EVENTUAL || count == 0)
	{
		int64		as_of_us;
		uint64		index;

		memset(&about, 0, sizeof(about));
		about.level = (ReadLevel) quorum_read_consistency;
		about.index = node_applied_index();
		about.age_us = -1;
		if (node_freshness(&as_of_us, &index) && about.index >= index)
			about.age_us = node_monotonic_us() - as_of_us;
	}
	values[0] = CStringGetTextDatum(read_level_name(about.level));
	values[1] = Int64GetDatum((int64) about.index);
	values[2] = Int64GetDatum((int64) node_known_commit_index());
	if (about.age_us >= 0)
		values[3] = interval_datum(about.age_us);
	else
		nulls[3] = true;
	values[4] = interval_datum(about.waited_us);
	values[5] = CStringGetTextDatum(quorum_node_name);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(desc, values, nulls)));
}
