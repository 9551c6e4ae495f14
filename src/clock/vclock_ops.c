/*-------------------------------------------------------------------------
 *
 * vclock_ops.c
 *		Orders, functions and hash of quorum.vclock.
 *
 * Two orders
 * ----------
 * The one that means something is the partial order <@, @>, =: happened before
 * or the same. There is no < on purpose.
 *
 * For GROUP BY, DISTINCT and merge joins there is a total order with its own
 * operators *<, *<=, *>=, *>. It goes by the number of events known (the sum
 * of the counters) and then by content, so it is a linear extension of the
 * partial order: sorting puts causes before effects, but that a *< b says
 * nothing about a and b.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "clock/vclock.h"
#include "common/hashfn.h"
#include "funcapi.h"
#include "utils/array.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(vclock_eq);
PG_FUNCTION_INFO_V1(vclock_ne);
PG_FUNCTION_INFO_V1(vclock_contained);
PG_FUNCTION_INFO_V1(vclock_contains);
PG_FUNCTION_INFO_V1(vclock_concurrent);
PG_FUNCTION_INFO_V1(vclock_compare);
PG_FUNCTION_INFO_V1(vclock_canonical_cmp);
PG_FUNCTION_INFO_V1(vclock_canonical_lt);
PG_FUNCTION_INFO_V1(vclock_canonical_le);
PG_FUNCTION_INFO_V1(vclock_canonical_gt);
PG_FUNCTION_INFO_V1(vclock_canonical_ge);
PG_FUNCTION_INFO_V1(vclock_hash);
PG_FUNCTION_INFO_V1(vclock_hash_extended);
PG_FUNCTION_INFO_V1(vclock_tick);
PG_FUNCTION_INFO_V1(vclock_tick_id);
PG_FUNCTION_INFO_V1(vclock_merge);
PG_FUNCTION_INFO_V1(vclock_get);
PG_FUNCTION_INFO_V1(vclock_entries);
PG_FUNCTION_INFO_V1(vclock_prune);
PG_FUNCTION_INFO_V1(vclock_limit);

/* ---------- the partial order ---------- */

static bool
same_bytes(const VClock *a, const VClock *b)
{
	return VARSIZE(a) == VARSIZE(b) && memcmp(a, b, VARSIZE(a)) == 0;
}

Datum
vclock_eq(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(same_bytes(PG_GETARG_VCLOCK_P(0), PG_GETARG_VCLOCK_P(1)));
}

Datum
vclock_ne(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(!same_bytes(PG_GETARG_VCLOCK_P(0), PG_GETARG_VCLOCK_P(1)));
}

static VClockOrder
order_of_args(FunctionCallInfo fcinfo)
{
	return vclock_order(PG_GETARG_VCLOCK_P(0), PG_GETARG_VCLOCK_P(1));
}

Datum
vclock_contained(PG_FUNCTION_ARGS)
{
	VClockOrder order = order_of_args(fcinfo);

	PG_RETURN_BOOL(order == VCLOCK_BEFORE || order == VCLOCK_EQUAL);
}

Datum
vclock_contains(PG_FUNCTION_ARGS)
{
	VClockOrder order = order_of_args(fcinfo);

	PG_RETURN_BOOL(order == VCLOCK_AFTER || order == VCLOCK_EQUAL);
}

Datum
vclock_concurrent(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(order_of_args(fcinfo) == VCLOCK_CONCURRENT);
}

Datum
vclock_compare(PG_FUNCTION_ARGS)
{
	static const char *const words[] = {
		[VCLOCK_EQUAL] = "equal",
		[VCLOCK_BEFORE] = "before",
		[VCLOCK_AFTER] = "after",
		[VCLOCK_CONCURRENT] = "concurrent"
	};

	PG_RETURN_TEXT_P(cstring_to_text(words[order_of_args(fcinfo)]));
}

/* ---------- the canonical order ---------- */

/* Sum of the counters, which does not fit into 64 bits. */
typedef struct EventCount
{
	uint64		high;
	uint64		low;
} EventCount;

static EventCount
count_events(const VClock *clock)
{
	EventCount	sum = {0, 0};

	for (uint32 i = 0; i < clock->count; i++)
	{
		sum.low += (uint64) clock->entries[i].counter;
		sum.high += sum.low < (uint64) clock->entries[i].counter;
	}
	return sum;
}

static int
canonical_cmp(const VClock *a, const VClock *b)
{
	EventCount	asum = count_events(a);
	EventCount	bsum = count_events(b);

	if (asum.high != bsum.high)
		return asum.high < bsum.high ? -1 : 1;
	if (asum.low != bsum.low)
		return asum.low < bsum.low ? -1 : 1;
	for (uint32 i = 0; i < Min(a->count, b->count); i++)
	{
		int			cmp = vclock_compare_names(vclock_name(a, i), a->entries[i].length,
											   vclock_name(b, i), b->entries[i].length);

		if (cmp != 0)
			return cmp;
		if (a->entries[i].counter != b->entries[i].counter)
			return a->entries[i].counter < b->entries[i].counter ? -1 : 1;
	}
	return a->count == b->count ? 0 : (a->count < b->count ? -1 : 1);
}

Datum
vclock_canonical_cmp(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT32(canonical_cmp(PG_GETARG_VCLOCK_P(0), PG_GETARG_VCLOCK_P(1)));
}

#define CANONICAL_COMPARISON(name, op) \
Datum \
name(PG_FUNCTION_ARGS) \
{ \
	PG_RETURN_BOOL(canonical_cmp(PG_GETARG_VCLOCK_P(0), PG_GETARG_VCLOCK_P(1)) op 0); \
}

CANONICAL_COMPARISON(vclock_canonical_lt, <)
CANONICAL_COMPARISON(vclock_canonical_le, <=)
CANONICAL_COMPARISON(vclock_canonical_gt, >)
CANONICAL_COMPARISON(vclock_canonical_ge, >=)

/* ---------- hash ---------- */

Datum
vclock_hash(PG_FUNCTION_ARGS)
{
	VClock	   *clock = PG_GETARG_VCLOCK_P(0);

	return hash_any((unsigned char *) VARDATA(clock), VARSIZE(clock) - VARHDRSZ);
}

Datum
vclock_hash_extended(PG_FUNCTION_ARGS)
{
	VClock	   *clock = PG_GETARG_VCLOCK_P(0);

	return hash_any_extended((unsigned char *) VARDATA(clock), VARSIZE(clock) - VARHDRSZ,
							 PG_GETARG_INT64(1));
}

/* ---------- functions ---------- */

static VClock *
tick(const VClock *clock, const char *name, uint32 length)
{
	VClockItem *items;
	uint32		count = vclock_items(clock, &items);
	int			at = vclock_find(clock, name, length);
	const VClockItem *duplicate;

	if (vclock_name_problem(length))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid node name in a vclock"),
				 errdetail_internal("%s", vclock_name_problem(length))));
	if (at < 0)
	{
		items[count] = (VClockItem) {.name = name, .length = length, .counter = 1};
		return vclock_from_items(items, count + 1, &duplicate);
	}
	if (items[at].counter == PG_INT64_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
				 errmsg("vclock counter out of range")));
	items[at].counter++;
	return vclock_build(items, count);
}

Datum
vclock_tick(PG_FUNCTION_ARGS)
{
	text	   *node = PG_GETARG_TEXT_PP(1);

	PG_RETURN_POINTER(tick(PG_GETARG_VCLOCK_P(0), VARDATA_ANY(node),
						   VARSIZE_ANY_EXHDR(node)));
}

/* A node id is a node name of digits. */
Datum
vclock_tick_id(PG_FUNCTION_ARGS)
{
	int64		id = PG_GETARG_INT64(1);
	char		name[32];

	if (id < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("node id out of range: %lld", (long long) id)));
	snprintf(name, sizeof(name), INT64_FORMAT, id);
	PG_RETURN_POINTER(tick(PG_GETARG_VCLOCK_P(0), name, strlen(name)));
}

/* The larger of both counters, node by node. Also the aggregate's transition. */
Datum
vclock_merge(PG_FUNCTION_ARGS)
{
	VClockItem *a;
	VClockItem *b;
	uint32		acount = vclock_items(PG_GETARG_VCLOCK_P(0), &a);
	uint32		bcount = vclock_items(PG_GETARG_VCLOCK_P(1), &b);
	VClockItem *merged = palloc(sizeof(VClockItem) * ((Size) acount + bcount + 1));
	uint32		count = 0;
	uint32		i = 0;
	uint32		j = 0;
	VClock	   *result;

	while (i < acount || j < bcount)
	{
		int			cmp;

		if (i == acount || j == bcount)
			cmp = i == acount ? 1 : -1;
		else
			cmp = vclock_compare_names(a[i].name, a[i].length, b[j].name, b[j].length);
		merged[count] = cmp <= 0 ? a[i] : b[j];
		if (cmp == 0)
			merged[count].counter = Max(a[i].counter, b[j].counter);
		count++;
		i += cmp <= 0;
		j += cmp >= 0;
	}
	result = vclock_build(merged, count);
	pfree(merged);
	pfree(a);
	pfree(b);
	PG_RETURN_POINTER(result);
}

/* A node that is not there stands at 0. */
Datum
vclock_get(PG_FUNCTION_ARGS)
{
	VClock	   *clock = PG_GETARG_VCLOCK_P(0);
	text	   *node = PG_GETARG_TEXT_PP(1);
	int			at = vclock_find(clock, VARDATA_ANY(node), VARSIZE_ANY_EXHDR(node));

	PG_RETURN_INT64(at < 0 ? 0 : clock->entries[at].counter);
}

Datum
vclock_entries(PG_FUNCTION_ARGS)
{
	VClock	   *clock = PG_GETARG_VCLOCK_P(0);
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;

	InitMaterializedSRF(fcinfo, 0);
	for (uint32 i = 0; i < clock->count; i++)
	{
		bool		nulls[2] = {false, false};
		Datum		values[2];

		values[0] = PointerGetDatum(cstring_to_text_with_len(vclock_name(clock, i),
															 clock->entries[i].length));
		values[1] = Int64GetDatum(clock->entries[i].counter);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}

/* ---------- pruning ---------- */

static bool
is_listed(const VClockItem *item, const Datum *names, const bool *nulls, int nnames)
{
	for (int i = 0; i < nnames; i++)
	{
		text	   *name;

		if (nulls[i])
			continue;
		name = DatumGetTextPP(names[i]);
		if (vclock_compare_names(item->name, item->length, VARDATA_ANY(name),
								 VARSIZE_ANY_EXHDR(name)) == 0)
			return true;
	}
	return false;
}

/* Keep only the nodes listed. */
Datum
vclock_prune(PG_FUNCTION_ARGS)
{
	VClockItem *items;
	uint32		count = vclock_items(PG_GETARG_VCLOCK_P(0), &items);
	Datum	   *names;
	bool	   *nulls;
	int			nnames;

	deconstruct_array(PG_GETARG_ARRAYTYPE_P(1), TEXTOID, -1, false, TYPALIGN_INT,
					  &names, &nulls, &nnames);
	for (uint32 i = 0; i < count; i++)
	{
		if (!is_listed(&items[i], names, nulls, nnames))
			items[i].counter = 0;
	}
	PG_RETURN_POINTER(vclock_build(items, count));
}

/* Larger counters first, equal ones by name. */
static int
compare_by_counter(const void *a, const void *b)
{
	const VClockItem *left = a;
	const VClockItem *right = b;

	if (left->counter != right->counter)
		return left->counter > right->counter ? -1 : 1;
	return vclock_compare_names(left->name, left->length, right->name, right->length);
}

/* Keep only the max_entries nodes with the largest counters. */
Datum
vclock_limit(PG_FUNCTION_ARGS)
{
	VClockItem *items;
	uint32		count = vclock_items(PG_GETARG_VCLOCK_P(0), &items);
	int32		max_entries = PG_GETARG_INT32(1);
	const VClockItem *duplicate;

	if (max_entries < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a vclock cannot be limited to %d nodes", max_entries)));
	if (count > (uint32) max_entries)
	{
		qsort(items, count, sizeof(VClockItem), compare_by_counter);
		count = max_entries;
	}
	PG_RETURN_POINTER(vclock_from_items(items, count, &duplicate));
}
