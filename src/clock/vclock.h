/*-------------------------------------------------------------------------
 *
 * vclock.h
 *		Vector clocks: a sparse map from node name to counter.
 *
 * Fidge (1988), Mattern (1989). A node that is not in the map stands at 0, and
 * zeros are not kept, so equal clocks are equal byte by byte.
 *
 * Layout: varlena header, number of entries, the entries sorted by name
 * (bytewise, shorter first), then the names without separators in the same
 * order.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGQ_VCLOCK_H
#define PGQ_VCLOCK_H

#include "postgres.h"

#include "compat.h"
#include "fmgr.h"

#define VCLOCK_MAX_NAME_LEN		255
#define VCLOCK_MAX_ENTRIES		65535

typedef struct VClockEntry
{
	int64		counter;		/* > 0 */
	uint32		offset;			/* of the name, from the start of the value */
	uint32		length;
} VClockEntry;

typedef struct VClock
{
	int32		vl_len_;
	uint32		count;
	VClockEntry entries[FLEXIBLE_ARRAY_MEMBER];
} VClock;

/* What a clock is made of. The name need not be terminated. */
typedef struct VClockItem
{
	const char *name;
	uint32		length;
	int64		counter;
} VClockItem;

typedef enum VClockOrder
{
	VCLOCK_EQUAL,
	VCLOCK_BEFORE,
	VCLOCK_AFTER,
	VCLOCK_CONCURRENT
} VClockOrder;

#define DatumGetVClockP(datum)	((VClock *) PG_DETOAST_DATUM(datum))
#define PG_GETARG_VCLOCK_P(n)	DatumGetVClockP(PG_GETARG_DATUM(n))

static inline const char *
vclock_name(const VClock *clock, uint32 i)
{
	return (const char *) clock + clock->entries[i].offset;
}

extern int	vclock_compare_names(const char *a, uint32 alen, const char *b, uint32 blen);

/* Position of a node, or -1. */
extern int	vclock_find(const VClock *clock, const char *name, uint32 length);

/* The items of a clock, room for one more at the end; how many. */
extern uint32 vclock_items(const VClock *clock, VClockItem **items);

/* From items sorted by name without duplicates; zeros are left out. */
extern VClock *vclock_build(const VClockItem *items, uint32 count);

/*
 * Sort items and build. With a duplicate name NULL, and *duplicate tells it.
 */
extern VClock *vclock_from_items(VClockItem *items, uint32 count,
								 const VClockItem **duplicate);

/* ERROR 22023 / 54000 unless a name, a number of entries is acceptable. */
extern const char *vclock_name_problem(uint32 length);
extern void vclock_check_count(uint64 count);

extern VClockOrder vclock_order(const VClock *a, const VClock *b);

#endif							/* PGQ_VCLOCK_H */
