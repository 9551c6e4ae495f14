/*-------------------------------------------------------------------------
 *
 * vclock_io.c
 *		Text, binary and jsonb forms of quorum.vclock.
 *
 * Text: {a:1,b:2}. A name that has anything else in it than letters, digits,
 * "_", "-", "." or bytes above 127 is written in double quotes, with \ before
 * a quote or backslash in it; input takes any name in quotes, and white space
 * between the parts.
 *
 * Binary: int32 number of entries, then for each a counted string (int32
 * length, name in the client's encoding) and int64 counter.
 *
 * jsonb: an object of integers.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <ctype.h>

#include "clock/soft_input.h"
#include "clock/vclock.h"
#include "lib/stringinfo.h"
#include "libpq/pqformat.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"

PG_FUNCTION_INFO_V1(vclock_in);
PG_FUNCTION_INFO_V1(vclock_out);
PG_FUNCTION_INFO_V1(vclock_recv);
PG_FUNCTION_INFO_V1(vclock_send);
PG_FUNCTION_INFO_V1(vclock_to_jsonb);
PG_FUNCTION_INFO_V1(vclock_from_jsonb);

/* A growing list of items. */
typedef struct ItemList
{
	VClockItem *items;
	uint32		count;
	uint32		room;
} ItemList;

static void
append_item(ItemList *list, const char *name, uint32 length, int64 counter)
{
	vclock_check_count((uint64) list->count + 1);
	if (list->count == list->room)
	{
		list->room = list->room ? list->room * 2 : 8;
		list->items = list->items ?
			repalloc(list->items, sizeof(VClockItem) * list->room) :
			palloc(sizeof(VClockItem) * list->room);
	}
	list->items[list->count++] =
		(VClockItem) {.name = name, .length = length, .counter = counter};
}

/* ---------- text ---------- */

static bool
is_plain_char(char c)
{
	return IS_HIGHBIT_SET(c) || isalnum((unsigned char) c) ||
		c == '_' || c == '-' || c == '.';
}

static void
skip_space(const char **at)
{
	while (isspace((unsigned char) **at))
		(*at)++;
}

/* Behind the opening quote. NULL when the closing one is missing. */
static char *
parse_quoted(const char **at, uint32 *length)
{
	char	   *name = palloc(strlen(*at) + 1);

	*length = 0;
	while (**at != '"')
	{
		if (**at == '\\')
			(*at)++;
		if (**at == '\0')
			return NULL;
		name[(*length)++] = *(*at)++;
	}
	(*at)++;
	return name;
}

static bool
parse_counter(const char **at, int64 *counter)
{
	char	   *end;

	/* strtoll would take a sign and blanks */
	if (!isdigit((unsigned char) **at))
		return false;
	errno = 0;
	*counter = strtoll(*at, &end, 10);
	*at = end;
	return errno == 0;
}

/* name:counter. NULL, or what is wrong. */
static const char *
parse_item(const char **at, ItemList *list)
{
	const char *name = *at;
	uint32		length = 0;
	int64		counter;
	const char *problem;

	if (**at == '"')
	{
		(*at)++;
		name = parse_quoted(at, &length);
		if (name == NULL)
			return "A quoted name does not end.";
	}
	else
	{
		while (is_plain_char(**at))
			(*at)++;
		length = *at - name;
	}
	problem = vclock_name_problem(length);
	if (problem)
		return problem;

	skip_space(at);
	if (*(*at) != ':')
		return "There is no \":\" after a node name.";
	(*at)++;
	skip_space(at);
	if (!parse_counter(at, &counter))
		return "A counter is an integer from 0 to 9223372036854775807.";
	skip_space(at);
	append_item(list, name, length, counter);
	return NULL;
}

static const char *
parse_vclock(const char *at, ItemList *list)
{
	const char *problem;

	skip_space(&at);
	if (*at++ != '{')
		return "It does not begin with \"{\".";
	skip_space(&at);
	while (*at != '}')
	{
		if (list->count > 0)
		{
			if (*at++ != ',')
				return "There is no \",\" between two nodes.";
			skip_space(&at);
		}
		problem = parse_item(&at, list);
		if (problem)
			return problem;
	}
	at++;
	skip_space(&at);
	return *at == '\0' ? NULL : "There is something after \"}\".";
}

Datum
vclock_in(PG_FUNCTION_ARGS)
{
	char	   *text = PG_GETARG_CSTRING(0);
	ItemList	list = {0};
	const char *problem = parse_vclock(text, &list);
	const VClockItem *duplicate = NULL;
	VClock	   *clock = NULL;

	if (problem == NULL)
		clock = vclock_from_items(list.items, list.count, &duplicate);
	if (duplicate)
		problem = psprintf("Node \"%s\" appears twice.",
						   pnstrdup(duplicate->name, duplicate->length));
	if (problem)
		ereturn(fcinfo->context, (Datum) 0,
				(errcode(ERRCODE_INVALID_TEXT_REPRESENTATION),
				 errmsg("invalid input syntax for type %s: \"%s\"", "vclock", text),
				 errdetail_internal("%s", problem)));
	PG_RETURN_POINTER(clock);
}

static void
append_name(StringInfo out, const char *name, uint32 length)
{
	bool		plain = true;

	for (uint32 i = 0; i < length; i++)
		plain = plain && is_plain_char(name[i]);
	if (plain)
	{
		appendBinaryStringInfo(out, name, length);
		return;
	}
	appendStringInfoChar(out, '"');
	for (uint32 i = 0; i < length; i++)
	{
		if (name[i] == '"' || name[i] == '\\')
			appendStringInfoChar(out, '\\');
		appendStringInfoChar(out, name[i]);
	}
	appendStringInfoChar(out, '"');
}

Datum
vclock_out(PG_FUNCTION_ARGS)
{
	VClock	   *clock = PG_GETARG_VCLOCK_P(0);
	StringInfoData out;

	initStringInfo(&out);
	appendStringInfoChar(&out, '{');
	for (uint32 i = 0; i < clock->count; i++)
	{
		if (i > 0)
			appendStringInfoChar(&out, ',');
		append_name(&out, vclock_name(clock, i), clock->entries[i].length);
		appendStringInfo(&out, ":" INT64_FORMAT, clock->entries[i].counter);
	}
	appendStringInfoChar(&out, '}');
	PG_RETURN_CSTRING(out.data);
}

/* ---------- binary ---------- */

static void
bad_binary(const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_BINARY_REPRESENTATION),
			 errmsg("invalid binary form of type %s", "vclock"),
			 errdetail_internal("%s", detail)));
}

Datum
vclock_recv(PG_FUNCTION_ARGS)
{
	StringInfo	buf = (StringInfo) PG_GETARG_POINTER(0);
	ItemList	list = {0};
	const VClockItem *duplicate;
	VClock	   *clock;
	uint32		count = pq_getmsgint(buf, 4);

	for (uint32 i = 0; i < count; i++)
	{
		uint32		raw_len = pq_getmsgint(buf, 4);
		int			length;
		char	   *name;
		int64		counter;

		if (raw_len > PG_INT32_MAX)
			bad_binary("A length is out of range.");
		name = pq_getmsgtext(buf, (int) raw_len, &length);
		counter = pq_getmsgint64(buf);
		if (vclock_name_problem(length))
			bad_binary(vclock_name_problem(length));
		if (memchr(name, '\0', length))
			bad_binary("A node name contains a zero byte.");
		if (counter <= 0)
			bad_binary("A counter is not positive.");
		append_item(&list, name, length, counter);
	}
	clock = vclock_from_items(list.items, list.count, &duplicate);
	if (clock == NULL)
		bad_binary("A node appears twice.");
	PG_RETURN_POINTER(clock);
}

/* Counted, converted to the client's encoding. */
static void
send_name(StringInfo buf, const char *name, int length)
{
	char	   *converted = pg_server_to_client(name, length);

	if (converted != name)
		length = strlen(converted);
	pq_sendint32(buf, length);
	pq_sendbytes(buf, converted, length);
	if (converted != name)
		pfree(converted);
}

Datum
vclock_send(PG_FUNCTION_ARGS)
{
	VClock	   *clock = PG_GETARG_VCLOCK_P(0);
	StringInfoData buf;

	pq_begintypsend(&buf);
	pq_sendint32(&buf, clock->count);
	for (uint32 i = 0; i < clock->count; i++)
	{
		send_name(&buf, vclock_name(clock, i), clock->entries[i].length);
		pq_sendint64(&buf, clock->entries[i].counter);
	}
	PG_RETURN_BYTEA_P(pq_endtypsend(&buf));
}

/* ---------- jsonb ---------- */

Datum
vclock_to_jsonb(PG_FUNCTION_ARGS)
{
	VClock	   *clock = PG_GETARG_VCLOCK_P(0);
	JsonbParseState *state = NULL;
	JsonbValue *result;

	pushJsonbValue(&state, WJB_BEGIN_OBJECT, NULL);
	for (uint32 i = 0; i < clock->count; i++)
	{
		JsonbValue	value;

		value.type = jbvString;
		value.val.string.val = unconstify(char *, vclock_name(clock, i));
		value.val.string.len = clock->entries[i].length;
		pushJsonbValue(&state, WJB_KEY, &value);
		value.type = jbvNumeric;
		value.val.numeric = int64_to_numeric(clock->entries[i].counter);
		pushJsonbValue(&state, WJB_VALUE, &value);
	}
	result = pushJsonbValue(&state, WJB_END_OBJECT, NULL);
	PG_RETURN_JSONB_P(JsonbValueToJsonb(result));
}

/* A counter, or -1 for what is none. */
static int64
counter_from_jsonb(const JsonbValue *value)
{
	Numeric		number;
	Datum		truncated;
	int64		counter;

	if (value->type != jbvNumeric)
		return -1;
	number = value->val.numeric;
	truncated = DirectFunctionCall2(numeric_trunc, NumericGetDatum(number), Int32GetDatum(0));
	if (!DatumGetBool(DirectFunctionCall2(numeric_eq, truncated, NumericGetDatum(number))))
		return -1;
	counter = DatumGetInt64(DirectFunctionCall1(numeric_int8, truncated));
	return Max(counter, -1);
}

Datum
vclock_from_jsonb(PG_FUNCTION_ARGS)
{
	Jsonb	   *jsonb = PG_GETARG_JSONB_P(0);
	ItemList	list = {0};
	JsonbIterator *it;
	JsonbValue	value;
	JsonbIteratorToken token;
	const VClockItem *duplicate;

	if (!JB_ROOT_IS_OBJECT(jsonb))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("cannot cast jsonb to type %s", "vclock"),
				 errdetail("A vclock is an object whose values are counters.")));

	it = JsonbIteratorInit(&jsonb->root);
	while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
	{
		char	   *name;
		int			length;
		int64		counter;

		if (token != WJB_KEY)
			continue;
		name = value.val.string.val;
		length = value.val.string.len;
		(void) JsonbIteratorNext(&it, &value, true);
		counter = counter_from_jsonb(&value);
		if (counter < 0 || vclock_name_problem(length))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("cannot cast jsonb to type %s", "vclock"),
					 vclock_name_problem(length) ?
					 errdetail_internal("%s", vclock_name_problem(length)) :
					 errdetail("The value of \"%s\" is not an integer from 0 to "
							   "9223372036854775807.", pnstrdup(name, length))));
		append_item(&list, name, length, counter);
	}
	/* jsonb has no duplicate keys */
	PG_RETURN_POINTER(vclock_from_items(list.items, list.count, &duplicate));
}
