/*-------------------------------------------------------------------------
 *
 * hlc_io.c
 *		Text and binary forms of quorum.hlc.
 *
 * Text: 2026-11-23T01:02:03.456789Z/3@2, i.e. physical time in UTC with
 * always six digits of fraction, "/" logical counter, "@" node id. Input also
 * takes a blank or "t" for "T", fewer digits of fraction, and a numeric time
 * zone. Neither direction depends on any setting, so both are immutable. No
 * rounding: what cannot be kept exactly is refused.
 *
 * Binary: int64 physical, uint32 logical, uint32 node, in network byte order.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <ctype.h>

#include "clock/hlc_type.h"
#include "clock/soft_input.h"
#include "libpq/pqformat.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(hlc_in);
PG_FUNCTION_INFO_V1(hlc_out);
PG_FUNCTION_INFO_V1(hlc_recv);
PG_FUNCTION_INFO_V1(hlc_send);

#define MAX_ZONE_HOURS	15

/* ---------- output ---------- */

void
hlc_to_text(HlcStamp stamp, char *buf)
{
	int64		days = stamp.physical_us / USECS_PER_DAY;
	int64		rest_us = stamp.physical_us % USECS_PER_DAY;
	int			year;
	int			month;
	int			day;
	int			seconds;

	if (rest_us < 0)
	{
		rest_us += USECS_PER_DAY;
		days--;
	}
	j2date((int) days + POSTGRES_EPOCH_JDATE, &year, &month, &day);
	seconds = rest_us / USECS_PER_SEC;

	buf = pg_ultostr_zeropad(buf, year, 4);
	*buf++ = '-';
	buf = pg_ultostr_zeropad(buf, month, 2);
	*buf++ = '-';
	buf = pg_ultostr_zeropad(buf, day, 2);
	*buf++ = 'T';
	buf = pg_ultostr_zeropad(buf, seconds / SECS_PER_HOUR, 2);
	*buf++ = ':';
	buf = pg_ultostr_zeropad(buf, seconds / SECS_PER_MINUTE % MINS_PER_HOUR, 2);
	*buf++ = ':';
	buf = pg_ultostr_zeropad(buf, seconds % SECS_PER_MINUTE, 2);
	*buf++ = '.';
	buf = pg_ultostr_zeropad(buf, rest_us % USECS_PER_SEC, 6);
	*buf++ = 'Z';
	*buf++ = '/';
	buf += pg_ultoa_n(stamp.logical, buf);
	*buf++ = '@';
	buf += pg_ultoa_n(stamp.node, buf);
	*buf = '\0';
}

Datum
hlc_out(PG_FUNCTION_ARGS)
{
	char	   *buf = palloc(HLC_TEXT_LEN);

	hlc_to_text(*PG_GETARG_HLC_P(0), buf);
	PG_RETURN_CSTRING(buf);
}

/* ---------- input ---------- */

/* Exactly width digits. */
static bool
parse_fixed(const char **at, int width, int *value)
{
	*value = 0;
	for (int i = 0; i < width; i++, (*at)++)
	{
		if (!isdigit((unsigned char) **at))
			return false;
		*value = *value * 10 + (**at - '0');
	}
	return true;
}

static bool
parse_char(const char **at, char c)
{
	if (**at != c)
		return false;
	(*at)++;
	return true;
}

/* One digit or more, up to 2^32 - 1. */
static bool
parse_uint32(const char **at, uint32 *value)
{
	uint64		sum = 0;

	if (!isdigit((unsigned char) **at))
		return false;
	for (; isdigit((unsigned char) **at); (*at)++)
	{
		sum = sum * 10 + (**at - '0');
		if (sum > PG_UINT32_MAX)
			return false;
	}
	*value = (uint32) sum;
	return true;
}

/* ".123" and the like, at most six digits; nothing at all is zero. */
static bool
parse_fraction(const char **at, int *us)
{
	int			unit = 100000;

	*us = 0;
	if (!parse_char(at, '.'))
		return true;
	if (!isdigit((unsigned char) **at))
		return false;
	for (; isdigit((unsigned char) **at); (*at)++)
	{
		if (unit == 0)
			return false;
		*us += (**at - '0') * unit;
		unit /= 10;
	}
	return true;
}

/* "Z", or +hh, +hhmm, +hh:mm east of Greenwich. */
static bool
parse_zone(const char **at, int *east_seconds)
{
	int			sign;
	int			hours;
	int			minutes = 0;

	*east_seconds = 0;
	if (parse_char(at, 'Z') || parse_char(at, 'z'))
		return true;
	if (**at != '+' && **at != '-')
		return false;
	sign = *(*at)++ == '-' ? -1 : 1;
	if (!parse_fixed(at, 2, &hours) || hours > MAX_ZONE_HOURS)
		return false;
	if ((parse_char(at, ':') || isdigit((unsigned char) **at)) &&
		(!parse_fixed(at, 2, &minutes) || minutes >= MINS_PER_HOUR))
		return false;
	*east_seconds = sign * (hours * SECS_PER_HOUR + minutes * SECS_PER_MINUTE);
	return true;
}

static bool
parse_date(const char **at, int *days)
{
	int			year;
	int			month;
	int			day;

	if (!parse_fixed(at, 4, &year) || !parse_char(at, '-') ||
		!parse_fixed(at, 2, &month) || !parse_char(at, '-') ||
		!parse_fixed(at, 2, &day))
		return false;
	if (year < 1 || month < 1 || month > MONTHS_PER_YEAR ||
		day < 1 || day > day_tab[isleap(year)][month - 1])
		return false;
	*days = date2j(year, month, day) - POSTGRES_EPOCH_JDATE;
	return true;
}

static bool
parse_time(const char **at, int *seconds, int *us)
{
	int			hour;
	int			minute;
	int			second;

	if (!parse_fixed(at, 2, &hour) || !parse_char(at, ':') ||
		!parse_fixed(at, 2, &minute) || !parse_char(at, ':') ||
		!parse_fixed(at, 2, &second) || !parse_fraction(at, us))
		return false;
	*seconds = hour * SECS_PER_HOUR + minute * SECS_PER_MINUTE + second;
	return hour < HOURS_PER_DAY && minute < MINS_PER_HOUR && second < SECS_PER_MINUTE;
}

static bool
parse_hlc(const char *at, HlcStamp *stamp)
{
	int			days;
	int			seconds;
	int			us;
	int			east_seconds;

	while (isspace((unsigned char) *at))
		at++;
	if (!parse_date(&at, &days) ||
		!(parse_char(&at, 'T') || parse_char(&at, 't') || parse_char(&at, ' ')) ||
		!parse_time(&at, &seconds, &us) || !parse_zone(&at, &east_seconds) ||
		!parse_char(&at, '/') || !parse_uint32(&at, &stamp->logical) ||
		!parse_char(&at, '@') || !parse_uint32(&at, &stamp->node))
		return false;
	while (isspace((unsigned char) *at))
		at++;
	stamp->physical_us = days * USECS_PER_DAY +
		(seconds - east_seconds) * USECS_PER_SEC + us;
	return *at == '\0';
}

static bool
in_range(int64 physical_us)
{
	return physical_us >= HLC_MIN_PHYSICAL_US && physical_us < HLC_END_PHYSICAL_US;
}

Datum
hlc_in(PG_FUNCTION_ARGS)
{
	char	   *text = PG_GETARG_CSTRING(0);
	HlcStamp   *stamp = palloc0(sizeof(HlcStamp));

	if (!parse_hlc(text, stamp))
		ereturn(fcinfo->context, (Datum) 0,
				(errcode(ERRCODE_INVALID_TEXT_REPRESENTATION),
				 errmsg("invalid input syntax for type %s: \"%s\"", "hlc", text),
				 errhint("The form is 2026-11-23T01:02:03.456789Z/counter@node.")));
	if (!in_range(stamp->physical_us))
		ereturn(fcinfo->context, (Datum) 0,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("hlc out of range: \"%s\"", text)));
	PG_RETURN_HLC_P(stamp);
}

void
hlc_check_range(int64 physical_us)
{
	if (!in_range(physical_us))
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("hlc out of range"),
				 errdetail("Its physical time lies between the years 1 and 9999.")));
}

Datum
hlc_recv(PG_FUNCTION_ARGS)
{
	StringInfo	buf = (StringInfo) PG_GETARG_POINTER(0);
	HlcStamp   *stamp = palloc0(sizeof(HlcStamp));

	stamp->physical_us = pq_getmsgint64(buf);
	stamp->logical = pq_getmsgint(buf, 4);
	stamp->node = pq_getmsgint(buf, 4);
	hlc_check_range(stamp->physical_us);
	PG_RETURN_HLC_P(stamp);
}

Datum
hlc_send(PG_FUNCTION_ARGS)
{
	HlcStamp   *stamp = PG_GETARG_HLC_P(0);
	StringInfoData buf;

	pq_begintypsend(&buf);
	pq_sendint64(&buf, stamp->physical_us);
	pq_sendint32(&buf, stamp->logical);
	pq_sendint32(&buf, stamp->node);
	PG_RETURN_BYTEA_P(pq_endtypsend(&buf));
}
