/*-------------------------------------------------------------------------
 *
 * hlc_ops.c
 *		Order, hash, sort support, casts and arithmetic of quorum.hlc.
 *
 * The total order is (physical, logical, node). It agrees with the order of
 * the text form in the physical part, and it is the order in which the log is.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "clock/hlc_type.h"
#include "common/hashfn.h"
#include "utils/fmgrprotos.h"
#include "utils/sortsupport.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(hlc_eq);
PG_FUNCTION_INFO_V1(hlc_ne);
PG_FUNCTION_INFO_V1(hlc_lt);
PG_FUNCTION_INFO_V1(hlc_le);
PG_FUNCTION_INFO_V1(hlc_gt);
PG_FUNCTION_INFO_V1(hlc_ge);
PG_FUNCTION_INFO_V1(hlc_cmp);
PG_FUNCTION_INFO_V1(hlc_larger);
PG_FUNCTION_INFO_V1(hlc_smaller);
PG_FUNCTION_INFO_V1(hlc_sortsupport);
PG_FUNCTION_INFO_V1(hlc_hash);
PG_FUNCTION_INFO_V1(hlc_hash_extended);
PG_FUNCTION_INFO_V1(hlc_subdiff);
PG_FUNCTION_INFO_V1(hlc_physical);
PG_FUNCTION_INFO_V1(hlc_logical);
PG_FUNCTION_INFO_V1(hlc_node);
PG_FUNCTION_INFO_V1(hlc_make);
PG_FUNCTION_INFO_V1(hlc_from_timestamptz);
PG_FUNCTION_INFO_V1(hlc_pl_interval);
PG_FUNCTION_INFO_V1(interval_pl_hlc);
PG_FUNCTION_INFO_V1(hlc_mi_interval);
PG_FUNCTION_INFO_V1(hlc_mi);
PG_FUNCTION_INFO_V1(hlc_in_range_interval);

/* ---------- comparison ---------- */

#define HLC_COMPARISON(name, op) \
Datum \
name(PG_FUNCTION_ARGS) \
{ \
	PG_RETURN_BOOL(hlc_compare(*PG_GETARG_HLC_P(0), *PG_GETARG_HLC_P(1)) op 0); \
}

HLC_COMPARISON(hlc_eq, ==)
HLC_COMPARISON(hlc_ne, !=)
HLC_COMPARISON(hlc_lt, <)
HLC_COMPARISON(hlc_le, <=)
HLC_COMPARISON(hlc_gt, >)
HLC_COMPARISON(hlc_ge, >=)

Datum
hlc_cmp(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT32(hlc_compare(*PG_GETARG_HLC_P(0), *PG_GETARG_HLC_P(1)));
}

Datum
hlc_larger(PG_FUNCTION_ARGS)
{
	HlcStamp   *a = PG_GETARG_HLC_P(0);
	HlcStamp   *b = PG_GETARG_HLC_P(1);

	PG_RETURN_HLC_P(hlc_compare(*a, *b) >= 0 ? a : b);
}

Datum
hlc_smaller(PG_FUNCTION_ARGS)
{
	HlcStamp   *a = PG_GETARG_HLC_P(0);
	HlcStamp   *b = PG_GETARG_HLC_P(1);

	PG_RETURN_HLC_P(hlc_compare(*a, *b) <= 0 ? a : b);
}

/* ---------- sort support ---------- */

static int
compare_full(Datum a, Datum b, SortSupport ssup)
{
	return hlc_compare(*DatumGetHlcP(a), *DatumGetHlcP(b));
}

#if SIZEOF_DATUM == 8

/*
 * The abbreviated key is the clock's 64-bit word: physical and logical part in
 * order, for the years 2000 to 2142 and counters up to 4,095; beyond that it is
 * cut off at the ends, and equal keys are decided by the full comparison.
 */
static Datum
abbreviate(Datum original, SortSupport ssup)
{
	HlcStamp   *stamp = DatumGetHlcP(original);
	uint64		logical = Min(stamp->logical, HLC_WORD_LOGICAL_MAX);

	if (stamp->physical_us < 0)
		return (Datum) 0;
	if (stamp->physical_us > HLC_WORD_PHYSICAL_MAX_US)
		return (Datum) PG_UINT64_MAX;
	return (Datum) (hlc_word_at(stamp->physical_us) | logical);
}

/*
 * Making a key takes a shift and two comparisons, and saves following two
 * pointers at every comparison. There is nothing to be gained by stopping.
 */
static bool
never_abort(int memtupcount, SortSupport ssup)
{
	return false;
}
#endif

Datum
hlc_sortsupport(PG_FUNCTION_ARGS)
{
	SortSupport ssup = (SortSupport) PG_GETARG_POINTER(0);

	ssup->comparator = compare_full;
#if SIZEOF_DATUM == 8
	if (ssup->abbreviate)
	{
		ssup->comparator = ssup_datum_unsigned_cmp;
		ssup->abbrev_converter = abbreviate;
		ssup->abbrev_abort = never_abort;
		ssup->abbrev_full_comparator = compare_full;
	}
#endif
	PG_RETURN_VOID();
}

/* ---------- hash ---------- */

/* No padding in an HlcStamp, and equal ones are equal byte by byte. */
Datum
hlc_hash(PG_FUNCTION_ARGS)
{
	return hash_any((unsigned char *) PG_GETARG_HLC_P(0), sizeof(HlcStamp));
}

Datum
hlc_hash_extended(PG_FUNCTION_ARGS)
{
	return hash_any_extended((unsigned char *) PG_GETARG_HLC_P(0), sizeof(HlcStamp),
							 PG_GETARG_INT64(1));
}

/* ---------- parts ---------- */

/* Distance in seconds, for GiST on hlcrange. */
Datum
hlc_subdiff(PG_FUNCTION_ARGS)
{
	HlcStamp   *a = PG_GETARG_HLC_P(0);
	HlcStamp   *b = PG_GETARG_HLC_P(1);

	PG_RETURN_FLOAT8(((double) a->physical_us - (double) b->physical_us) / USECS_PER_SEC);
}

Datum
hlc_physical(PG_FUNCTION_ARGS)
{
	PG_RETURN_TIMESTAMPTZ(PG_GETARG_HLC_P(0)->physical_us);
}

Datum
hlc_logical(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64(PG_GETARG_HLC_P(0)->logical);
}

Datum
hlc_node(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64(PG_GETARG_HLC_P(0)->node);
}

static HlcStamp *
make_stamp(TimestampTz physical, int64 logical, int64 node)
{
	HlcStamp   *stamp = palloc(sizeof(HlcStamp));

	/* infinity is outside, too */
	hlc_check_range(physical);
	stamp->physical_us = physical;
	stamp->logical = (uint32) logical;
	stamp->node = (uint32) node;
	return stamp;
}

Datum
hlc_make(PG_FUNCTION_ARGS)
{
	int64		logical = PG_GETARG_INT64(1);
	int64		node = PG_GETARG_INT64(2);

	if (logical < 0 || logical > PG_UINT32_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
				 errmsg("logical counter out of range: %lld", (long long) logical)));
	if (node < 0 || node > PG_UINT32_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
				 errmsg("node id out of range: %lld", (long long) node)));
	PG_RETURN_HLC_P(make_stamp(PG_GETARG_TIMESTAMPTZ(0), logical, node));
}

Datum
hlc_from_timestamptz(PG_FUNCTION_ARGS)
{
	PG_RETURN_HLC_P(make_stamp(PG_GETARG_TIMESTAMPTZ(0), 0, 0));
}

/* ---------- arithmetic: moves the physical part, keeps the rest ---------- */

static Datum
move_by_interval(const HlcStamp *stamp, Datum interval, PGFunction timestamptz_function)
{
	Datum		moved = DirectFunctionCall2(timestamptz_function,
											TimestampTzGetDatum(stamp->physical_us),
											interval);

	PG_RETURN_HLC_P(make_stamp(DatumGetTimestampTz(moved), stamp->logical, stamp->node));
}

Datum
hlc_pl_interval(PG_FUNCTION_ARGS)
{
	return move_by_interval(PG_GETARG_HLC_P(0), PG_GETARG_DATUM(1), timestamptz_pl_interval);
}

Datum
interval_pl_hlc(PG_FUNCTION_ARGS)
{
	return move_by_interval(PG_GETARG_HLC_P(1), PG_GETARG_DATUM(0), timestamptz_pl_interval);
}

Datum
hlc_mi_interval(PG_FUNCTION_ARGS)
{
	return move_by_interval(PG_GETARG_HLC_P(0), PG_GETARG_DATUM(1), timestamptz_mi_interval);
}

/* As timestamptz does it: days and smaller units, no months. */
Datum
hlc_mi(PG_FUNCTION_ARGS)
{
	return DirectFunctionCall2(timestamp_mi,
							   TimestampGetDatum(PG_GETARG_HLC_P(0)->physical_us),
							   TimestampGetDatum(PG_GETARG_HLC_P(1)->physical_us));
}

/*
 * Window frames: RANGE BETWEEN interval PRECEDING AND ... over an hlc column.
 * By physical time only: two stamps of one microsecond are zero apart.
 */
Datum
hlc_in_range_interval(PG_FUNCTION_ARGS)
{
	return DirectFunctionCall5(in_range_timestamptz_interval,
							   TimestampTzGetDatum(PG_GETARG_HLC_P(0)->physical_us),
							   TimestampTzGetDatum(PG_GETARG_HLC_P(1)->physical_us),
							   PG_GETARG_DATUM(2),
							   PG_GETARG_DATUM(3),
							   PG_GETARG_DATUM(4));
}
