/*-------------------------------------------------------------------------
 *
 * lock_fence.c
 *		check_fence: the current transaction commits only if the grant whose
 *		token it carries was not followed by one that conflicts with it.
 *
 * At the call the tables are looked at: what they show decides at once. If the
 * token is good at applied index N, the keys of the lock's name go into the
 * transaction's write set, shared, with base N. A grant writes them exclusive,
 * so certification refuses the transaction exactly if a conflicting grant was
 * ordered after N and before it: in log order, with no clock and no race. A
 * holder that slept through the end of its lease wakes up to that.
 *
 * A transaction that has checked a fence and changed no replicated table is
 * proposed all the same (commit.c), so that its COMMIT, too, answers the
 * question; what it changed in this server's own tables is then guarded as
 * well.
 *
 * State: the fences of the current transaction, in the write set's memory.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "lock/lock_sql.h"
#include "lock/lock_tables.h"
#include "node/node.h"
#include "replication/guests.h"
#include "replication/writeset_build.h"

PG_FUNCTION_INFO_V1(quorum_check_fence_text);
PG_FUNCTION_INFO_V1(quorum_check_fence_int8);
PG_FUNCTION_INFO_V1(quorum_check_fence_election);

typedef struct Fence
{
	char	   *key;			/* as shown */
	uint64		token;
} Fence;

static Fence *fences = NULL;
static uint32 nfences = 0;
static uint32 fences_size = 0;
static uint64 serial = 0;		/* of the write set they belong to */

/* ---------- what the tables say ---------- */

typedef struct Standing
{
	bool		found;			/* a grant of this key and token */
	bool		exclusive;
	uint64		newest;			/* of any mode, 0: none known */
	uint64		newest_exclusive;
} Standing;

static void
look_into(LockTable table, const LockKey *key, uint64 token, Standing *standing)
{
	Relation	rel = lock_table_open(table, AccessShareLock);
	TupleDesc	desc = RelationGetDescr(rel);
	SysScanDesc scan = lock_scan_key(rel, table, key->type,
									 PointerGetDatum(lock_key_to_text(key->type, key->data, key->len)));
	HeapTuple	tuple;

	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		uint64		other = (uint64) lock_row_int(tuple, Anum_token, desc);
		bool		exclusive = lock_row_int(tuple, Anum_mode, desc) == LK_EXCLUSIVE;

		if (other == token)
		{
			standing->found = true;
			standing->exclusive |= exclusive;
		}
		standing->newest = Max(standing->newest, other);
		if (exclusive)
			standing->newest_exclusive = Max(standing->newest_exclusive, other);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
}

static _Noreturn void
report_stale(const char *key, uint64 token, uint64 newer)
{
	ereport(ERROR,
			(errcode(ERRCODE_QUORUM_STALE_TOKEN),
			 errmsg("fencing token " UINT64_FORMAT " of lock \"%s\" is stale", token, key),
			 errdetail("The lock was granted again, with token " UINT64_FORMAT ".", newer),
			 errhint("Acquire the lock again.")));
}

static _Noreturn void
report_unknown(const char *key, uint64 token)
{
	ereport(ERROR,
			(errcode(ERRCODE_QUORUM_STALE_TOKEN),
			 errmsg("fencing token " INT64_FORMAT " of lock \"%s\" is not valid", (int64) token, key),
			 errdetail("The lock was never granted with it, or it was released too long ago to be remembered."),
			 errhint("Acquire the lock again.")));
}

/* ---------- the write set ---------- */

static bool
used(void)
{
	return nfences > 0 && writeset_has_keys() && serial == writeset_serial();
}

/* Numbers begin with 1. */
static uint32
remember(const char *key, uint64 token)
{
	MemoryContext context = writeset_context();
	Fence	   *fence;

	if (serial != writeset_serial())
	{
		serial = writeset_serial();
		fences = NULL;
		nfences = fences_size = 0;
	}
	if (nfences == fences_size)
	{
		fences_size = Max(fences_size * 2, 4);
		fences = fences ? repalloc(fences, fences_size * sizeof(Fence)) :
			MemoryContextAlloc(context, fences_size * sizeof(Fence));
	}
	fence = &fences[nfences++];
	fence->key = MemoryContextStrdup(context, key);
	fence->token = token;
	return nfences;
}

static void
report_refused(uint32 number, uint64 winner)
{
	if (number == 0 || number > nfences)
		elog(ERROR, "fence %u of the transaction is not known", number);
	report_stale(fences[number - 1].key, fences[number - 1].token, winner);
}

static void
add_keys(const LockKey *key, const char *shown, uint64 token, bool exclusive, uint64 base)
{
	uint32		origin = writeset_origin((Oid) remember(shown, token), InvalidOid, KEY_FENCE);
	uint64		a;
	uint64		b;

	lk_fence_keys(key->type, key->data, key->len, &a, &b);
	writeset_add_key(a, false, base, origin);
	if (exclusive)
		writeset_add_key(b, false, base, origin);
}

static Datum
check_fence(FunctionCallInfo fcinfo, uint8 key_type)
{
	LockKey		key;
	char	   *shown;
	uint64		token;
	uint64		base;
	Standing	standing = {0};

	lock_require_cluster();
	lock_get_key(fcinfo, 0, key_type, &key);
	token = lock_get_token(fcinfo, 1);
	shown = lock_show_key(&key);
	if (!lock_wait_for_token(token))
		report_unknown(shown, token);
	/* a later grant to a session of this server is known at once, not at COMMIT only */
	lock_settle();

	/* the base first: the scans that follow see at least that much */
	base = node_applied_index();
	look_into(LOCK_GRANT, &key, token, &standing);
	look_into(LOCK_MEMORY, &key, token, &standing);
	if (!standing.found)
	{
		if (standing.newest > token)
			report_stale(shown, token, standing.newest);
		report_unknown(shown, token);
	}
	if (standing.exclusive && standing.newest > token)
		report_stale(shown, token, standing.newest);
	if (!standing.exclusive && standing.newest_exclusive > token)
		report_stale(shown, token, standing.newest_exclusive);
	add_keys(&key, shown, token, standing.exclusive, base);
	PG_RETURN_VOID();
}

/* check_fence(key, token) - Q0001 now or at COMMIT when the token is stale. */
Datum
quorum_check_fence_text(PG_FUNCTION_ARGS)
{
	return check_fence(fcinfo, LK_KEY_TEXT);
}

Datum
quorum_check_fence_int8(PG_FUNCTION_ARGS)
{
	return check_fence(fcinfo, LK_KEY_BIGINT);
}

/* election_check_fence(name, token) - the same for the token of a leader. */
Datum
quorum_check_fence_election(PG_FUNCTION_ARGS)
{
	return check_fence(fcinfo, LK_KEY_ELECTION);
}

void
lock_fence_install(void)
{
	fence_guest.used = used;
	fence_guest.report_refused = report_refused;
}
