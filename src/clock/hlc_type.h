/*-------------------------------------------------------------------------
 *
 * hlc_type.h
 *		HlcStamp as the SQL type quorum.hlc.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGQ_HLC_TYPE_H
#define PGQ_HLC_TYPE_H

#include "postgres.h"

#include "clock/hlc.h"
#include "fmgr.h"

#define DatumGetHlcP(datum)		((HlcStamp *) DatumGetPointer(datum))
#define HlcPGetDatum(stamp)		PointerGetDatum(stamp)
#define PG_GETARG_HLC_P(n)		DatumGetHlcP(PG_GETARG_DATUM(n))
#define PG_RETURN_HLC_P(stamp)	return HlcPGetDatum(stamp)

/*
 * Values of the type lie between the years 1 and 9999: the text form then has
 * one length up to the fraction, and sorts.
 */
#define HLC_MIN_PHYSICAL_US		INT64CONST(-63082281600000000)	/* 0001-01-01 */
#define HLC_END_PHYSICAL_US		INT64CONST(252455616000000000)	/* 10000-01-01 */

#define HLC_TEXT_LEN			64

extern void hlc_to_text(HlcStamp stamp, char *buf); /* HLC_TEXT_LEN bytes */

/* ERROR 22008 unless within the type's range. */
extern void hlc_check_range(int64 physical_us);

#endif							/* PGQ_HLC_TYPE_H */
