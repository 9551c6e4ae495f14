/*-------------------------------------------------------------------------
 *
 * lamport_shmem.c
 *		Named Lamport counters in shared memory, durable.
 *
 * Not a table: a value that was handed out may have left the transaction (in a
 * message, in a NOTIFY), so it must not come back when the transaction is
 * rolled back, and no session should wait for another's commit to count. Like
 * a sequence, then; and as with the clock, without a write per tick: on disk
 * there is a limit per counter, no value above its limit is handed out, and
 * after a crash a counter goes on from the limit. A crash leaves a gap of up to
 * LAMPORT_STEP in the values, which Lamport's rules do not mind; a clean end
 * leaves none.
 *
 * Shared state
 * ------------
 *	table (hash)	entries come and go under table_lock exclusive.
 *	entry.value		anybody, by CAS, with table_lock shared; only grows.
 *	entry.limit		under persist_lock, after the file is durable; atomic.
 *	broken			start-up only.
 *
 * persist_lock is taken before table_lock, and is the right to write the file.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "clock/clock_internal.h"
#include "clock/lamport.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/shmem.h"
#include "utils/hsearch.h"

#define LAMPORT_FILE_NAME	"lamport"
#define LAMPORT_FILE_MAGIC	"PGQLAMPT"
#define LAMPORT_STEP		INT64CONST(8192)

typedef struct LamportEntry
{
	char		name[LAMPORT_NAME_LEN];
	pg_atomic_uint64 value;		/* last one handed out */
	pg_atomic_uint64 limit;		/* none above this without a write */
	int64		start;			/* value at start-up */
} LamportEntry;

typedef struct LamportShared
{
	LWLock		persist_lock;
	LWLock		table_lock;
	bool		broken;
} LamportShared;

static LamportShared *lamport_shared = NULL;
static HTAB *lamport_table = NULL;

/* ---------- start and end ---------- */

Size
lamport_shmem_size(void)
{
	return add_size(MAXALIGN(sizeof(LamportShared)),
					hash_estimate_size(LAMPORT_MAX_COUNTERS, sizeof(LamportEntry)));
}

static LamportEntry *
enter_counter(const char *name, int64 value)
{
	LamportEntry *entry;
	bool		found;

	if (hash_get_num_entries(lamport_table) >= LAMPORT_MAX_COUNTERS)
		return hash_search(lamport_table, name, HASH_FIND, NULL);
	entry = hash_search(lamport_table, name, HASH_ENTER_NULL, &found);
	if (entry && !found)
	{
		pg_atomic_init_u64(&entry->value, value);
		pg_atomic_init_u64(&entry->limit, value);
		entry->start = value;
	}
	return entry;
}

static void
recover_counters(void)
{
	Size		max_len = sizeof(LamportCounter) * LAMPORT_MAX_COUNTERS;
	LamportCounter *counters = palloc(max_len);
	Size		len = 0;
	ClockFileResult result;

	result = clock_file_read(LAMPORT_FILE_NAME, LAMPORT_FILE_MAGIC, counters, max_len, &len);
	if (result == CLOCK_FILE_DAMAGED || len % sizeof(LamportCounter) != 0)
		lamport_shared->broken = true;
	else
	{
		for (Size i = 0; i < len / sizeof(LamportCounter); i++)
		{
			counters[i].name[LAMPORT_NAME_LEN - 1] = '\0';
			(void) enter_counter(counters[i].name, counters[i].value);
		}
	}
	pfree(counters);
}

/* A clean end: everybody else is gone, leave the exact values. */
static void
write_final_values(int code, Datum arg)
{
	LamportCounter *counters;
	int			count;

	if (code != 0 || IsUnderPostmaster || lamport_shared->broken ||
		hash_get_num_entries(lamport_table) == 0)
		return;
	counters = malloc(sizeof(LamportCounter) * LAMPORT_MAX_COUNTERS);
	if (counters == NULL)
		return;					/* the limits on disk are good enough */
	count = lamport_counter_list(counters);
	(void) clock_file_write(LAMPORT_FILE_NAME, LAMPORT_FILE_MAGIC,
							counters, sizeof(LamportCounter) * count);
	free(counters);
}

void
lamport_shmem_init(void)
{
	bool		found;
	HASHCTL		info = {.keysize = LAMPORT_NAME_LEN, .entrysize = sizeof(LamportEntry)};

	lamport_shared = ShmemInitStruct("pg_quorum lamport", sizeof(LamportShared), &found);
	lamport_table = ShmemInitHash("pg_quorum lamport counters",
								  LAMPORT_MAX_COUNTERS, LAMPORT_MAX_COUNTERS,
								  &info, HASH_ELEM | HASH_STRINGS);
	if (!found)
	{
		int			tranche = LWLockNewTrancheId();

		LWLockInitialize(&lamport_shared->persist_lock, tranche);
		LWLockInitialize(&lamport_shared->table_lock, tranche);
		lamport_shared->broken = false;
		recover_counters();
		if (!IsUnderPostmaster)
			on_shmem_exit(write_final_values, (Datum) 0);
	}
	LWLockRegisterTranche(lamport_shared->persist_lock.tranche, "pg_quorum_lamport");
}

/* ---------- limits on disk ---------- */

static int64
limit_above(int64 value)
{
	return value > PG_INT64_MAX - LAMPORT_STEP ? PG_INT64_MAX : value + LAMPORT_STEP;
}

/* In use since start-up, and half of the way to its limit or less is left. */
static bool
runs_short(LamportEntry *entry)
{
	int64		value = pg_atomic_read_u64(&entry->value);
	int64		left = (int64) pg_atomic_read_u64(&entry->limit) - value;

	return value > entry->start && left < LAMPORT_STEP / 2 && value < PG_INT64_MAX;
}

/*
 * Limits as they are to be: raised for counters that run short, and for the
 * one named to reach past need. Called with persist_lock held.
 */
static int
plan_limits(LamportCounter *plan, const char *name, int64 need)
{
	HASH_SEQ_STATUS scan;
	LamportEntry *entry;
	int			count = 0;

	LWLockAcquire(&lamport_shared->table_lock, LW_SHARED);
	hash_seq_init(&scan, lamport_table);
	while ((entry = hash_seq_search(&scan)) != NULL)
	{
		int64		value = pg_atomic_read_u64(&entry->value);
		int64		limit = pg_atomic_read_u64(&entry->limit);

		if (name && strcmp(name, entry->name) == 0 && need > limit)
			limit = limit_above(need);
		else if (runs_short(entry))
			limit = limit_above(value);
		memcpy(plan[count].name, entry->name, LAMPORT_NAME_LEN);
		plan[count++].value = limit;
	}
	LWLockRelease(&lamport_shared->table_lock);
	return count;
}

static void
publish_limits(const LamportCounter *plan, int count)
{
	LWLockAcquire(&lamport_shared->table_lock, LW_SHARED);
	for (int i = 0; i < count; i++)
	{
		LamportEntry *entry = hash_search(lamport_table, plan[i].name, HASH_FIND, NULL);

		if (entry)
			pg_atomic_write_u64(&entry->limit, plan[i].value);
	}
	LWLockRelease(&lamport_shared->table_lock);
}

/* Caller holds persist_lock. */
static bool
write_limits(const char *name, int64 need)
{
	LamportCounter *plan = palloc0(sizeof(LamportCounter) * LAMPORT_MAX_COUNTERS);
	int			count = plan_limits(plan, name, need);
	bool		done = clock_file_write(LAMPORT_FILE_NAME, LAMPORT_FILE_MAGIC,
										plan, sizeof(LamportCounter) * count);

	if (done)
		publish_limits(plan, count);
	pfree(plan);
	return done;
}

static void
report_unwritable(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_IO_ERROR),
			 errmsg("the Lamport counters could not be written"),
			 errdetail("The server log says why.")));
}

/* See to it that the counter may reach value. */
static void
extend_limit(const char *name, int64 value)
{
	LamportEntry *entry;
	bool		done;

	LWLockAcquire(&lamport_shared->persist_lock, LW_EXCLUSIVE);
	LWLockAcquire(&lamport_shared->table_lock, LW_SHARED);
	entry = hash_search(lamport_table, name, HASH_FIND, NULL);
	done = entry && value <= (int64) pg_atomic_read_u64(&entry->limit);
	LWLockRelease(&lamport_shared->table_lock);
	if (!done)
		done = write_limits(name, value);
	LWLockRelease(&lamport_shared->persist_lock);
	if (!done)
		report_unwritable();
}

/* The clock worker's part: write before a session has to. */
void
lamport_renew_ahead(void)
{
	HASH_SEQ_STATUS scan;
	LamportEntry *entry;
	bool		needed = false;

	LWLockAcquire(&lamport_shared->table_lock, LW_SHARED);
	hash_seq_init(&scan, lamport_table);
	while ((entry = hash_seq_search(&scan)) != NULL)
		needed |= runs_short(entry);
	LWLockRelease(&lamport_shared->table_lock);
	if (!needed)
		return;

	LWLockAcquire(&lamport_shared->persist_lock, LW_EXCLUSIVE);
	(void) write_limits(NULL, 0);
	LWLockRelease(&lamport_shared->persist_lock);
}

/* ---------- counters ---------- */

static void
require_counters(void)
{
	clock_require_loaded();
	if (lamport_shared->broken)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("the file of the Lamport counters is damaged"),
				 errdetail("The server log says how."),
				 errhint("Restore the file \"pg_quorum/lamport\" in the data directory; or "
						 "stop the server and remove it: all counters then start again.")));
}

static void
create_counter(const char *name)
{
	LamportEntry *entry;

	LWLockAcquire(&lamport_shared->table_lock, LW_EXCLUSIVE);
	entry = enter_counter(name, 0);
	LWLockRelease(&lamport_shared->table_lock);
	if (entry == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("too many Lamport counters"),
				 errdetail("A server has room for %d.", LAMPORT_MAX_COUNTERS),
				 errhint("Remove those no longer needed with quorum.lamport_drop().")));
}

typedef enum MoveResult
{
	MOVE_DONE,
	MOVE_NO_COUNTER,
	MOVE_AT_LIMIT,				/* *value is what is wanted */
	MOVE_OVERFLOW
} MoveResult;

static MoveResult
try_move(const char *name, int64 seen, int64 *value)
{
	LamportEntry *entry;
	MoveResult	result = MOVE_NO_COUNTER;
	uint64		last;

	LWLockAcquire(&lamport_shared->table_lock, LW_SHARED);
	entry = hash_search(lamport_table, name, HASH_FIND, NULL);
	if (entry != NULL)
	{
		last = pg_atomic_read_u64(&entry->value);
		do
		{
			int64		base = Max((int64) last, seen);

			if (base == PG_INT64_MAX)
			{
				result = MOVE_OVERFLOW;
				break;
			}
			*value = base + 1;
			if (*value > (int64) pg_atomic_read_u64(&entry->limit))
			{
				result = MOVE_AT_LIMIT;
				break;
			}
			result = MOVE_DONE;
		} while (!pg_atomic_compare_exchange_u64(&entry->value, &last, *value));
	}
	LWLockRelease(&lamport_shared->table_lock);
	return result;
}

int64
lamport_counter_move(const char *name, int64 seen)
{
	int64		value = 0;

	require_counters();
	for (;;)
	{
		switch (try_move(name, seen, &value))
		{
			case MOVE_DONE:
				return value;
			case MOVE_NO_COUNTER:
				create_counter(name);
				break;
			case MOVE_AT_LIMIT:
				extend_limit(name, value);
				break;
			case MOVE_OVERFLOW:
				return lamport_after(PG_INT64_MAX, 0);	/* throws */
		}
		CHECK_FOR_INTERRUPTS();
	}
}

bool
lamport_counter_read(const char *name, int64 *value)
{
	LamportEntry *entry;

	require_counters();
	LWLockAcquire(&lamport_shared->table_lock, LW_SHARED);
	entry = hash_search(lamport_table, name, HASH_FIND, NULL);
	if (entry)
		*value = pg_atomic_read_u64(&entry->value);
	LWLockRelease(&lamport_shared->table_lock);
	return entry != NULL;
}

bool
lamport_counter_drop(const char *name)
{
	bool		found;
	bool		done;

	require_counters();
	LWLockAcquire(&lamport_shared->persist_lock, LW_EXCLUSIVE);
	LWLockAcquire(&lamport_shared->table_lock, LW_EXCLUSIVE);
	(void) hash_search(lamport_table, name, HASH_REMOVE, &found);
	LWLockRelease(&lamport_shared->table_lock);
	done = !found || write_limits(NULL, 0);
	LWLockRelease(&lamport_shared->persist_lock);
	if (!done)
		report_unwritable();
	return found;
}

/* Also called by the postmaster at the end, when it cannot and need not lock. */
int
lamport_counter_list(LamportCounter *counters)
{
	HASH_SEQ_STATUS scan;
	LamportEntry *entry;
	int			count = 0;

	if (IsUnderPostmaster)
	{
		require_counters();
		LWLockAcquire(&lamport_shared->table_lock, LW_SHARED);
	}
	hash_seq_init(&scan, lamport_table);
	while ((entry = hash_seq_search(&scan)) != NULL)
	{
		memcpy(counters[count].name, entry->name, LAMPORT_NAME_LEN);
		counters[count++].value = pg_atomic_read_u64(&entry->value);
	}
	if (IsUnderPostmaster)
		LWLockRelease(&lamport_shared->table_lock);
	return count;
}
