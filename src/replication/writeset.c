/*-------------------------------------------------------------------------
 *
 * writeset.c
 *		Builds the write set (writeset.h) of the current transaction.
 *
 * Records go into one growing buffer; past SPILL_BYTES the buffer moves to a
 * temporary file and starts afresh. Keys stay in memory, 16 bytes each. All of
 * it lives in one memory context that is reset, not deleted, at the end of a
 * transaction: a small transaction allocates nothing from the system.
 *
 * Savepoints: whoever appends first makes sure that there is a mark for the
 * current nesting level, with the lengths of that moment; rolling back a level
 * cuts to its mark, releasing it hands the mark down. So sub-transactions that
 * write nothing replicated cost nothing.
 *
 * Order: AFTER ROW triggers fire when their statement is done, so a row that
 * was changed by a statement and then by another row's trigger may be captured
 * the other way round. Every run of records carries the command id of its
 * changes; the seal sorts runs by it where they are out of order. Within one
 * command the order of capture is the order in which the rows were changed.
 *
 * A key that is used twice keeps its earliest base: nothing that conflicts
 * with the first use can have been applied here since, as the first use's lock
 * is still held. A shared and an exclusive use of one key are kept side by
 * side when the shared one is older: between the two, others may have shared
 * the key, which only the later exclusive use minds.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "storage/buffile.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#include "replication/session.h"
#include "replication/writeset.h"
#include "replication/writeset_build.h"

#define SPILL_BYTES		(Size) (8 * 1024 * 1024)
#define SEGMENT_BYTES	(uint64) (1024 * 1024 * 1024)	/* of a BufFile */
#define RECENT_KEYS		64		/* direct-mapped, to skip repeated uses */

#define ORIGIN_BITS		19
#define MAX_ORIGINS		((1u << ORIGIN_BITS) - 1)

/* base << 20 | origin << 1 | exclusive */
typedef struct BuildKey
{
	uint64		key;
	uint64		packed;
} BuildKey;

typedef struct Run
{
	CommandId	cid;
	uint64		start;			/* offset in the stream of records */
} Run;

typedef struct Origin
{
	Oid			relid;
	Oid			indexid;
	KeyKind		kind;
} Origin;

/* How far everything had come when a nesting level appended first. */
typedef struct Mark
{
	int			level;
	uint64		bytes;
	uint32		nrecords;
	uint32		nkeys;
	uint32		nruns;
} Mark;

static MemoryContext context = NULL;
static uint64 serial = 0;
static bool active = false;

static char *buffer = NULL;
static Size buffer_len = 0;
static Size buffer_size = 0;
static BufFile *file = NULL;
static uint64 spilled = 0;		/* bytes of the stream that are in the file */
static uint32 nrecords = 0;

static BuildKey *keys = NULL;
static uint32 nkeys = 0;
static uint32 keys_size = 0;
static uint32 recent[RECENT_KEYS];

static Run *runs = NULL;
static uint32 nruns = 0;
static uint32 runs_size = 0;

static Origin *origins = NULL;
static uint32 norigins = 0;
static uint32 origins_size = 0;

static Mark *marks = NULL;
static int	nmarks = 0;
static int	marks_size = 0;

/* While rows go elsewhere (writeset_divert): the write set's own buffer. */
static bool diverted = false;
static uint32 diverted_records = 0;
static char *kept_buffer = NULL;
static Size kept_len = 0;
static Size kept_size = 0;

static inline bool
key_exclusive(const BuildKey *k)
{
	return (k->packed & 1) != 0;
}

static inline uint64
key_base(const BuildKey *k)
{
	return k->packed >> (ORIGIN_BITS + 1);
}

static inline uint32
key_origin(const BuildKey *k)
{
	return (uint32) (k->packed >> 1) & MAX_ORIGINS;
}

/* ---------- memory ---------- */

static void
activate(void)
{
	if (context == NULL)
		context = AllocSetContextCreate(TopMemoryContext, "pg_quorum write set",
										ALLOCSET_DEFAULT_SIZES);
	active = true;
	serial++;
	memset(recent, 0, sizeof(recent));
}

/* Room for one more element; arrays double, and may pass 1 GB. */
static void *
grow(void *array, uint32 *size, uint32 initial, Size element)
{
	uint32		wanted = array ? *size * 2 : initial;

	if (array == NULL)
		array = MemoryContextAlloc(context, wanted * element);
	else
		array = repalloc_huge(array, (Size) wanted * element);
	*size = wanted;
	return array;
}

static void
reserve(Size more)
{
	Size		wanted;

	if (buffer_len + more <= buffer_size)
		return;
	wanted = Max(buffer_size * 2, (Size) 1024);
	while (wanted < buffer_len + more)
		wanted *= 2;
	if (buffer == NULL)
		buffer = MemoryContextAllocHuge(context, wanted);
	else
		buffer = repalloc_huge(buffer, wanted);
	buffer_size = wanted;
}

/* The file belongs to the whole transaction, whatever savepoint we are in. */
static void
seek_file(uint64 offset)
{
	if (BufFileSeek(file, (int) (offset / SEGMENT_BYTES),
					(off_t) (offset % SEGMENT_BYTES), SEEK_SET) != 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not seek in the temporary file of a write set: %m")));
}

static void
spill(void)
{
	if (file == NULL)
	{
		ResourceOwner old_owner = CurrentResourceOwner;
		MemoryContext old_context = MemoryContextSwitchTo(context);

		CurrentResourceOwner = TopTransactionResourceOwner;
		PG_TRY();
		{
			file = BufFileCreateTemp(false);
		}
		PG_FINALLY();
		{
			CurrentResourceOwner = old_owner;
		}
		PG_END_TRY();
		MemoryContextSwitchTo(old_context);
	}
	else
		seek_file(spilled);
	BufFileWrite(file, buffer, buffer_len);
	spilled += buffer_len;
	buffer_len = 0;
}

static void
check_size(void)
{
	uint64		total = WS_HEADER_SIZE + (uint64) nkeys * WS_KEY_SIZE + spilled + buffer_len;

	if (total > (uint64) quorum_max_transaction_size_kb * 1024)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("the write set of the transaction exceeds quorum.max_transaction_size (%d kB)",
						quorum_max_transaction_size_kb),
				 errhint("Change fewer rows in one transaction, or let a superuser raise quorum.max_transaction_size.")));
}

/* ---------- savepoints ---------- */

static void
ensure_mark(void)
{
	int			level = GetCurrentTransactionNestLevel();
	Mark	   *mark;

	if (!active)
		activate();
	if (level <= 1 || (nmarks > 0 && marks[nmarks - 1].level >= level))
		return;
	if (nmarks == marks_size)
		marks = grow(marks, (uint32 *) &marks_size, 8, sizeof(Mark));
	mark = &marks[nmarks++];
	mark->level = level;
	mark->bytes = spilled + buffer_len;
	mark->nrecords = nrecords;
	mark->nkeys = nkeys;
	mark->nruns = nruns;
}

void
writeset_subcommit(int nest_level)
{
	Mark	   *mark;

	if (!active || nmarks == 0 || marks[nmarks - 1].level < nest_level)
		return;
	Assert(!diverted);
	mark = &marks[nmarks - 1];
	mark->level = nest_level - 1;
	if (mark->level <= 1 || (nmarks > 1 && marks[nmarks - 2].level == mark->level))
		nmarks--;
}

void
writeset_subabort(int nest_level)
{
	const Mark *mark = NULL;

	if (!active)
		return;
	writeset_divert_end();
	while (nmarks > 0 && marks[nmarks - 1].level >= nest_level)
		mark = &marks[--nmarks];
	if (mark == NULL)
		return;
	if (mark->bytes >= spilled)
		buffer_len = mark->bytes - spilled;
	else
	{
		spilled = mark->bytes;	/* the rest of the file is written over */
		buffer_len = 0;
	}
	nrecords = mark->nrecords;
	nkeys = mark->nkeys;
	nruns = mark->nruns;
}

/* ---------- records ---------- */

void
writeset_begin(CommandId cid)
{
	if (diverted)
		return;
	ensure_mark();
	if (buffer_len > SPILL_BYTES)
		spill();
	if (nruns == 0 || runs[nruns - 1].cid != cid)
	{
		if (nruns == runs_size)
			runs = grow(runs, &runs_size, 8, sizeof(Run));
		runs[nruns].cid = cid;
		runs[nruns].start = spilled + buffer_len;
		nruns++;
	}
}

void
writeset_put_byte(uint8 value)
{
	reserve(1);
	buffer[buffer_len++] = (char) value;
}

void
writeset_put_varint(uint64 value)
{
	reserve(10);
	while (value >= 0x80)
	{
		buffer[buffer_len++] = (char) (value | 0x80);
		value >>= 7;
	}
	buffer[buffer_len++] = (char) value;
}

void
writeset_put_bytes(const void *data, Size len)
{
	reserve(len);
	memcpy(buffer + buffer_len, data, len);
	buffer_len += len;
}

void
writeset_put_string(const char *text)
{
	Size		len = strlen(text);

	writeset_put_varint(len);
	writeset_put_bytes(text, len);
}

void
writeset_end(void)
{
	if (diverted)
	{
		diverted_records++;
		return;
	}
	nrecords++;
	check_size();
}

/* ---------- rows that go elsewhere ---------- */

void
writeset_divert(void)
{
	ensure_mark();
	Assert(!diverted);
	kept_buffer = buffer;
	kept_len = buffer_len;
	kept_size = buffer_size;
	buffer = NULL;
	buffer_len = buffer_size = 0;
	diverted_records = 0;
	diverted = true;
}

const char *
writeset_diverted(Size *len, uint32 *n)
{
	Assert(diverted);
	*len = buffer_len;
	*n = diverted_records;
	return buffer;
}

void
writeset_divert_empty(void)
{
	Assert(diverted);
	buffer_len = 0;
	diverted_records = 0;
}

void
writeset_divert_end(void)
{
	if (!diverted)
		return;
	if (buffer)
		pfree(buffer);
	buffer = kept_buffer;
	buffer_len = kept_len;
	buffer_size = kept_size;
	kept_buffer = NULL;
	diverted = false;
}

/* ---------- keys ---------- */

uint64
writeset_serial(void)
{
	ensure_mark();
	return serial;
}

MemoryContext
writeset_context(void)
{
	ensure_mark();
	return context;
}

uint32
writeset_origin(Oid relid, Oid indexid, KeyKind kind)
{
	ensure_mark();
	if (norigins >= MAX_ORIGINS)
		return 0;
	if (norigins == origins_size)
		origins = grow(origins, &origins_size, 16, sizeof(Origin));
	origins[norigins].relid = relid;
	origins[norigins].indexid = indexid;
	origins[norigins].kind = kind;
	return ++norigins;
}

void
writeset_add_key(uint64 key, bool exclusive, uint64 base, uint32 origin)
{
	uint32		place = (uint32) (key % RECENT_KEYS);
	uint32		at;

	ensure_mark();
	at = recent[place];
	/* the place may tell of a key that a rolled-back savepoint took along */
	if (at < nkeys && keys[at].key == key && (key_exclusive(&keys[at]) || !exclusive))
		return;
	if (nkeys == keys_size)
		keys = grow(keys, &keys_size, 32, sizeof(BuildKey));
	keys[nkeys].key = key;
	keys[nkeys].packed = base << (ORIGIN_BITS + 1) | (uint64) origin << 1 | (exclusive ? 1 : 0);
	recent[place] = nkeys;
	nkeys++;
	if (nkeys % 1024 == 0)
	{
		check_size();
		CHECK_FOR_INTERRUPTS();
	}
}

/* ---------- the transaction ---------- */

bool
writeset_has_records(void)
{
	return active && nrecords > 0;
}

bool
writeset_has_keys(void)
{
	return active && nkeys > 0;
}

static int
compare_keys(const void *a, const void *b)
{
	const BuildKey *left = a;
	const BuildKey *right = b;

	if (left->key != right->key)
		return left->key < right->key ? -1 : 1;
	if (key_exclusive(left) != key_exclusive(right))
		return key_exclusive(left) ? 1 : -1;
	if (key_base(left) != key_base(right))
		return key_base(left) < key_base(right) ? -1 : 1;
	return 0;
}

/* Sort; per key and mode only the earliest base, see the top of the file. */
static void
compact_keys(void)
{
	uint32		kept = 0;

	qsort(keys, nkeys, sizeof(BuildKey), compare_keys);
	for (uint32 i = 0; i < nkeys; i++)
	{
		BuildKey   *last = kept > 0 ? &keys[kept - 1] : NULL;

		if (last != NULL && last->key == keys[i].key)
		{
			if (key_exclusive(last) == key_exclusive(&keys[i]))
				continue;
			/* shared before, exclusive now: one is enough if as old */
			if (key_base(&keys[i]) <= key_base(last))
			{
				*last = keys[i];
				continue;
			}
		}
		keys[kept++] = keys[i];
	}
	nkeys = kept;
	memset(recent, 0, sizeof(recent));
}

static inline char *
put_u32(char *to, uint32 value)
{
	for (int i = 0; i < 4; i++)
		*to++ = (char) (value >> (8 * i));
	return to;
}

static inline char *
put_u64(char *to, uint64 value)
{
	to = put_u32(to, (uint32) value);
	return put_u32(to, (uint32) (value >> 32));
}

static Size
seal_head(char **head)
{
	Size		len = WS_HEADER_SIZE + (Size) nkeys * WS_KEY_SIZE;
	uint64		base_max = 0;
	char	   *to = MemoryContextAllocHuge(context, len);

	*head = to;
	for (uint32 i = 0; i < nkeys; i++)
		base_max = Max(base_max, key_base(&keys[i]));
	*to++ = WS_VERSION;
	*to++ = WS_KIND_TRANSACTION;
	*to++ = 0;
	*to++ = 0;
	to = put_u32(to, nkeys);
	to = put_u32(to, nrecords);
	to = put_u32(to, 0);
	to = put_u64(to, base_max);
	for (uint32 i = 0; i < nkeys; i++)
	{
		uint64		delta = base_max - key_base(&keys[i]);

		if (delta >= WS_MAX_DELTA)
			delta = WS_MAX_DELTA;
		to = put_u64(to, keys[i].key);
		to = put_u32(to, (uint32) delta << 1 | (key_exclusive(&keys[i]) ? 1 : 0));
	}
	Assert(to == *head + len);
	return len;
}

static int
compare_runs(const void *a, const void *b)
{
	const Run  *left = a;
	const Run  *right = b;

	if (left->cid != right->cid)
		return left->cid < right->cid ? -1 : 1;
	return left->start < right->start ? -1 : left->start > right->start;
}

static bool
runs_in_order(void)
{
	for (uint32 i = 1; i < nruns; i++)
		if (runs[i].cid < runs[i - 1].cid)
			return false;
	return true;
}

/* Before the commit, which warns of files left open. */
void
writeset_close_file(void)
{
	if (file != NULL)
		BufFileClose(file);
	file = NULL;
}

/* The whole stream in memory, in the order of the commands. */
static void
seal_records(char **data, Size *len)
{
	Size		total = spilled + buffer_len;

	*len = total;
	*data = buffer;
	if (spilled > 0)
	{
		char	   *all = MemoryContextAllocHuge(context, total);

		seek_file(0);
		for (uint64 done = 0; done < spilled;)
		{
			Size		piece = Min(spilled - done, SPILL_BYTES);

			if (BufFileRead(file, all + done, piece) != piece)
				ereport(ERROR,
						(errcode_for_file_access(),
						 errmsg("could not read back the temporary file of a write set: %m")));
			done += piece;
			CHECK_FOR_INTERRUPTS();
		}
		memcpy(all + spilled, buffer, buffer_len);
		*data = all;
	}
	writeset_close_file();
	if (!runs_in_order())
	{
		char	   *sorted = MemoryContextAllocHuge(context, total);
		char	   *to = sorted;
		Run		   *ends = MemoryContextAllocHuge(context, (Size) nruns * sizeof(Run));

		/* end offsets by start offset: runs are in stream order before the sort */
		memcpy(ends, runs, (Size) nruns * sizeof(Run));
		qsort(runs, nruns, sizeof(Run), compare_runs);
		for (uint32 i = 0; i < nruns; i++)
		{
			uint32		low = 0;
			uint32		high = nruns;
			uint64		end;

			/* the last run that starts here is the one with the bytes */
			while (high - low > 1)
			{
				uint32		middle = low + (high - low) / 2;

				if (ends[middle].start <= runs[i].start)
					low = middle;
				else
					high = middle;
			}
			if (ends[low].cid != runs[i].cid)
				continue;		/* an empty run, left by a savepoint */
			end = low + 1 < nruns ? ends[low + 1].start : total;
			memcpy(to, *data + runs[i].start, end - runs[i].start);
			to += end - runs[i].start;
		}
		Assert(to == sorted + total);
		if (*data != buffer)
			pfree(*data);
		*data = sorted;
	}
}

int
writeset_seal(NodePart *parts)
{
	char	   *head;
	char	   *data;
	Size		len;

	Assert(active);
	compact_keys();
	seal_records(&data, &len);
	parts[0].len = seal_head(&head);
	parts[0].data = head;
	parts[1].data = data;
	parts[1].len = len;
	return WRITESET_PARTS;
}

bool
writeset_find_key(uint64 key, Oid *relid, Oid *indexid, KeyKind *kind)
{
	for (uint32 i = 0; active && i < nkeys; i++)
	{
		uint32		origin = key_origin(&keys[i]);

		if (keys[i].key != key || origin == 0)
			continue;
		*relid = origins[origin - 1].relid;
		*indexid = origins[origin - 1].indexid;
		*kind = origins[origin - 1].kind;
		return true;
	}
	return false;
}

void
writeset_reset(void)
{
	if (!active)
		return;
	active = false;
	diverted = false;
	kept_buffer = NULL;
	/* on abort the file is closed with its resource owner */
	file = NULL;
	buffer = NULL;
	buffer_len = buffer_size = 0;
	spilled = 0;
	nrecords = 0;
	keys = NULL;
	nkeys = keys_size = 0;
	runs = NULL;
	nruns = runs_size = 0;
	origins = NULL;
	norigins = origins_size = 0;
	marks = NULL;
	nmarks = marks_size = 0;
	MemoryContextReset(context);
}
