/*-------------------------------------------------------------------------
 *
 * vclock.c
 *		Vector clocks: building, finding, comparing. See vclock.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "clock/vclock.h"

int
vclock_compare_names(const char *a, uint32 alen, const char *b, uint32 blen)
{
	int			cmp = memcmp(a, b, Min(alen, blen));

	if (cmp != 0)
		return cmp < 0 ? -1 : 1;
	return alen == blen ? 0 : (alen < blen ? -1 : 1);
}

static int
compare_entries(const VClock *a, uint32 i, const VClock *b, uint32 j)
{
	return vclock_compare_names(vclock_name(a, i), a->entries[i].length,
								vclock_name(b, j), b->entries[j].length);
}

int
vclock_find(const VClock *clock, const char *name, uint32 length)
{
	uint32		low = 0;
	uint32		high = clock->count;

	while (low < high)
	{
		uint32		mid = low + (high - low) / 2;
		int			cmp = vclock_compare_names(vclock_name(clock, mid),
											   clock->entries[mid].length,
											   name, length);

		if (cmp == 0)
			return (int) mid;
		if (cmp < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return -1;
}

uint32
vclock_items(const VClock *clock, VClockItem **items)
{
	*items = palloc(sizeof(VClockItem) * (clock->count + 1));
	for (uint32 i = 0; i < clock->count; i++)
	{
		(*items)[i].name = vclock_name(clock, i);
		(*items)[i].length = clock->entries[i].length;
		(*items)[i].counter = clock->entries[i].counter;
	}
	return clock->count;
}

void
vclock_check_count(uint64 count)
{
	if (count > VCLOCK_MAX_ENTRIES)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("too many nodes in a vclock"),
				 errdetail("It has room for %d.", VCLOCK_MAX_ENTRIES)));
}

/* What is wrong with a name of this length, or NULL. */
const char *
vclock_name_problem(uint32 length)
{
	if (length == 0)
		return "A node name cannot be empty.";
	if (length > VCLOCK_MAX_NAME_LEN)
		return "A node name can have up to 255 bytes.";
	return NULL;
}

VClock *
vclock_build(const VClockItem *items, uint32 count)
{
	VClock	   *clock;
	uint32		kept = 0;
	Size		names_len = 0;
	Size		at;
	Size		len;

	for (uint32 i = 0; i < count; i++)
	{
		Assert(items[i].counter >= 0);
		if (items[i].counter == 0)
			continue;
		kept++;
		names_len += items[i].length;
	}
	vclock_check_count(kept);

	at = offsetof(VClock, entries) + sizeof(VClockEntry) * kept;
	len = at + names_len;
	clock = palloc0(len);
	SET_VARSIZE(clock, len);
	for (uint32 i = 0; i < count; i++)
	{
		VClockEntry *entry = &clock->entries[clock->count];

		if (items[i].counter == 0)
			continue;
		entry->counter = items[i].counter;
		entry->offset = (uint32) at;
		entry->length = items[i].length;
		memcpy((char *) clock + at, items[i].name, items[i].length);
		at += items[i].length;
		clock->count++;
	}
	Assert(at == len);
	return clock;
}

static int
compare_items(const void *a, const void *b)
{
	const VClockItem *left = a;
	const VClockItem *right = b;

	return vclock_compare_names(left->name, left->length, right->name, right->length);
}

VClock *
vclock_from_items(VClockItem *items, uint32 count, const VClockItem **duplicate)
{
	*duplicate = NULL;
	if (count > 1)
		qsort(items, count, sizeof(VClockItem), compare_items);
	for (uint32 i = 1; i < count; i++)
	{
		if (compare_items(&items[i - 1], &items[i]) == 0)
		{
			*duplicate = &items[i];
			return NULL;
		}
	}
	return vclock_build(items, count);
}

/*
 * a is before b when no counter of a is larger than b's and at least one is
 * smaller: every event a knows of, b knows of, too.
 */
VClockOrder
vclock_order(const VClock *a, const VClock *b)
{
	bool		a_has_more = false;
	bool		b_has_more = false;
	uint32		i = 0;
	uint32		j = 0;

	while (i < a->count && j < b->count && !(a_has_more && b_has_more))
	{
		int			cmp = compare_entries(a, i, b, j);

		if (cmp < 0)
			a_has_more = true;
		else if (cmp > 0)
			b_has_more = true;
		else if (a->entries[i].counter > b->entries[j].counter)
			a_has_more = true;
		else if (a->entries[i].counter < b->entries[j].counter)
			b_has_more = true;
		i += cmp <= 0;
		j += cmp >= 0;
	}
	a_has_more |= i < a->count && j >= b->count;
	b_has_more |= j < b->count && i >= a->count;

	if (a_has_more && b_has_more)
		return VCLOCK_CONCURRENT;
	return a_has_more ? VCLOCK_AFTER : (b_has_more ? VCLOCK_BEFORE : VCLOCK_EQUAL);
}
