/*-------------------------------------------------------------------------
 *
 * lamport.c
 *		SQL type quorum.lamport and its functions.
 *
 * The type is a bigint that is not negative; comparison, hash and binary form
 * are int8's own functions under other names (30_clock.sql).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "clock/clock_internal.h"
#include "clock/lamport.h"
#include "clock/soft_input.h"
#include "fmgr.h"
#include "funcapi.h"
#include "libpq/pqformat.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"

PG_FUNCTION_INFO_V1(lamport_in);
PG_FUNCTION_INFO_V1(lamport_recv);
PG_FUNCTION_INFO_V1(lamport_from_int8);
PG_FUNCTION_INFO_V1(lamport_from_int4);
PG_FUNCTION_INFO_V1(lamport_tick_value);
PG_FUNCTION_INFO_V1(lamport_observe_value);
PG_FUNCTION_INFO_V1(lamport_tick_counter);
PG_FUNCTION_INFO_V1(lamport_observe_counter);
PG_FUNCTION_INFO_V1(lamport_value);
PG_FUNCTION_INFO_V1(lamport_drop);
PG_FUNCTION_INFO_V1(lamport_list);

static int64
check_lamport(int64 value)
{
	if (value < 0)
		ereport(ERROR,
				(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
				 errmsg("a Lamport time cannot be negative: %lld", (long long) value)));
	return value;
}

Datum
lamport_in(PG_FUNCTION_ARGS)
{
	char	   *text = PG_GETARG_CSTRING(0);
	char	   *end;
	long long	value;

	errno = 0;
	value = strtoll(text, &end, 10);
	if (end != text)
		end += strspn(end, " \t\n\r\f\v");
	if (end == text || *end != '\0')
		ereturn(fcinfo->context, (Datum) 0,
				(errcode(ERRCODE_INVALID_TEXT_REPRESENTATION),
				 errmsg("invalid input syntax for type %s: \"%s\"", "lamport", text)));
	if (errno == ERANGE || value < 0)
		ereturn(fcinfo->context, (Datum) 0,
				(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
				 errmsg("value \"%s\" is out of range for type %s", text, "lamport")));
	PG_RETURN_INT64(value);
}

Datum
lamport_recv(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64(check_lamport(pq_getmsgint64((StringInfo) PG_GETARG_POINTER(0))));
}

Datum
lamport_from_int8(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64(check_lamport(PG_GETARG_INT64(0)));
}

Datum
lamport_from_int4(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64(check_lamport(PG_GETARG_INT32(0)));
}

/* ---------- the rules ---------- */

int64
lamport_after(int64 own, int64 seen)
{
	int64		base = Max(own, seen);

	if (base == PG_INT64_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
				 errmsg("Lamport time out of range")));
	return base + 1;
}

Datum
lamport_tick_value(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64(lamport_after(PG_GETARG_INT64(0), 0));
}

Datum
lamport_observe_value(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64(lamport_after(PG_GETARG_INT64(0), PG_GETARG_INT64(1)));
}

/* ---------- named counters ---------- */

static void
get_name_arg(FunctionCallInfo fcinfo, char *name)
{
	text	   *arg = PG_GETARG_TEXT_PP(0);
	Size		len = VARSIZE_ANY_EXHDR(arg);

	if (len == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the name of a Lamport counter cannot be empty")));
	if (len >= LAMPORT_NAME_LEN)
		ereport(ERROR,
				(errcode(ERRCODE_NAME_TOO_LONG),
				 errmsg("the name of a Lamport counter is too long"),
				 errdetail("It can have up to %d bytes.", LAMPORT_NAME_LEN - 1)));
	memset(name, 0, LAMPORT_NAME_LEN);
	memcpy(name, VARDATA_ANY(arg), len);
}

Datum
lamport_tick_counter(PG_FUNCTION_ARGS)
{
	char		name[LAMPORT_NAME_LEN];

	get_name_arg(fcinfo, name);
	PG_RETURN_INT64(lamport_counter_move(name, 0));
}

Datum
lamport_observe_counter(PG_FUNCTION_ARGS)
{
	char		name[LAMPORT_NAME_LEN];

	get_name_arg(fcinfo, name);
	PG_RETURN_INT64(lamport_counter_move(name, PG_GETARG_INT64(1)));
}

/* NULL where there is no such counter. */
Datum
lamport_value(PG_FUNCTION_ARGS)
{
	char		name[LAMPORT_NAME_LEN];
	int64		value;

	get_name_arg(fcinfo, name);
	if (!lamport_counter_read(name, &value))
		PG_RETURN_NULL();
	PG_RETURN_INT64(value);
}

Datum
lamport_drop(PG_FUNCTION_ARGS)
{
	char		name[LAMPORT_NAME_LEN];

	get_name_arg(fcinfo, name);
	PG_RETURN_BOOL(lamport_counter_drop(name));
}

/*
 * Counters belong to the server, not to a database: a name made in a database
 * of another encoding may not be valid text here, and is left out.
 */
Datum
lamport_list(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	LamportCounter *counters = palloc(sizeof(LamportCounter) * LAMPORT_MAX_COUNTERS);
	int			count;

	clock_require_loaded();
	InitMaterializedSRF(fcinfo, 0);
	count = lamport_counter_list(counters);
	for (int i = 0; i < count; i++)
	{
		bool		nulls[2] = {false, false};
		Datum		values[2];

		if (!pg_verifymbstr(counters[i].name, strlen(counters[i].name), true))
			continue;
		values[0] = CStringGetTextDatum(counters[i].name);
		values[1] = Int64GetDatum(counters[i].value);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}
