/*-------------------------------------------------------------------------
 *
 * lock_views.c
 *		What there is: quorum.locks and its kin; and what a session may still
 *		rely on.
 *
 * Grants come from this member's tables, at its applied index, so that reading
 * them costs no message; who waits is what the leader said last. Only what
 * sessions of this server were told of grants and releases is waited for, for a
 * moment.
 *
 * A lease's id, and the token of what it holds, let anybody release it: both are
 * shown to superusers and members of quorum_admin only.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"
#include "utils/uuid.h"

#include "lock/lock_sql.h"
#include "lock/lock_tables.h"
#include "node/node_internal.h"

#define SAFE_WAIT_US	INT64CONST(100000)

PG_FUNCTION_INFO_V1(quorum_locks);
PG_FUNCTION_INFO_V1(quorum_leases);
PG_FUNCTION_INFO_V1(quorum_lock_history);
PG_FUNCTION_INFO_V1(quorum_lock_safe_time);
PG_FUNCTION_INFO_V1(quorum_lost_locks);

static bool
may_see_capabilities(void)
{
	Oid			admin = get_role_oid("quorum_admin", true);

	return superuser() || (OidIsValid(admin) && has_privs_of_role(GetUserId(), admin));
}

static Datum
interval_datum(int64 us)
{
	return IntervalPGetDatum(lock_us_interval(us));
}

/* ---------- quorum.locks ---------- */

enum
{
	LOCKS_KEY_TYPE, LOCKS_KEY, LOCKS_MODE, LOCKS_GRANTED, LOCKS_NODE, LOCKS_PID, LOCKS_LEASE,
	LOCKS_TOKEN, LOCKS_HOLD_COUNT, LOCKS_ACQUIRED, LOCKS_EXPIRES, LOCKS_POSITION, LOCKS_WAITED,
	LOCKS_COLUMNS
};

/*
 * What is left of a lease: the leader's word, and where that has not come yet
 * (right after the lease was opened, or after an election) what is left of its
 * first time to live, before which nobody can end it. -1: neither is known.
 */
static int64
lease_left_us(HeapTuple lease, TupleDesc desc)
{
	bool		isnull;
	Datum		id = heap_getattr(lease, Anum_lease_id, desc, &isnull);
	int64		told_us = lock_lease_left_us(DatumGetUUIDP(id)->data);
	int64		first_us;

	if (told_us >= 0)
		return told_us;
	first_us = lock_row_int(lease, Anum_lease_opened, desc) +
		lock_row_int(lease, Anum_lease_ttl, desc) * 1000 - GetCurrentTimestamp();
	return first_us > 0 ? first_us : -1;
}

static int64
left_of_lease_us(Datum id)
{
	Relation	rel = lock_table_open(LOCK_LEASE, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	int64		left_us;

	ScanKeyInit(&key, Anum_lease_id, BTEqualStrategyNumber, F_UUID_EQ, id);
	scan = systable_beginscan(rel, lock_table_index(LOCK_LEASE), true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	left_us = HeapTupleIsValid(tuple) ? lease_left_us(tuple, RelationGetDescr(rel)) : -1;
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return left_us;
}

/* The least of what is known of its end; false: nothing is. */
static bool
expires_in(HeapTuple tuple, TupleDesc desc, bool of_lease, Datum lease, bool here, int64 *left_us)
{
	int64		max_hold_ms = lock_row_int(tuple, Anum_grant_max_hold, desc);
	int64		left = PG_INT64_MAX;

	if (of_lease)
	{
		int64		known = left_of_lease_us(lease);

		if (known >= 0)
			left = known;
	}
	else if (here)
		left = Max(lock_safe_us(), 0);
	if (max_hold_ms > 0)
	{
		TimestampTz end = lock_row_int(tuple, Anum_grant_acquired, desc) + max_hold_ms * 1000;

		left = Min(left, Max(end - GetCurrentTimestamp(), 0));
	}
	*left_us = left;
	return left != PG_INT64_MAX;
}

static void
put_grant(ReturnSetInfo *result, HeapTuple tuple, TupleDesc desc, bool all)
{
	Datum		values[LOCKS_COLUMNS];
	bool		nulls[LOCKS_COLUMNS] = {false};
	uint8		key_type = (uint8) lock_row_int(tuple, Anum_key_type, desc);
	uint64		token = (uint64) lock_row_int(tuple, Anum_token, desc);
	bool		isnull;
	Datum		key = heap_getattr(tuple, Anum_key, desc, &isnull);
	Datum		lease = heap_getattr(tuple, Anum_grant_lease, desc, &isnull);
	bool		of_lease = !isnull;
	bool		here = lock_row_int(tuple, Anum_grant_node, desc) == node_id() &&
		lock_row_int(tuple, Anum_grant_boot, desc) == pg_atomic_read_u32(&node_shared->boot);
	int64		left_us;

	values[LOCKS_KEY_TYPE] = CStringGetTextDatum(lk_key_type_name(key_type));
	values[LOCKS_KEY] = key;
	values[LOCKS_MODE] = CStringGetTextDatum(lk_mode_name((uint8) lock_row_int(tuple, Anum_mode, desc)));
	values[LOCKS_GRANTED] = BoolGetDatum(true);
	values[LOCKS_NODE] = Int64GetDatum(lock_row_int(tuple, Anum_grant_node, desc));
	values[LOCKS_PID] = Int32GetDatum((int32) lock_row_int(tuple, Anum_grant_pid, desc));
	values[LOCKS_LEASE] = lease;
	nulls[LOCKS_LEASE] = !of_lease || !all;
	values[LOCKS_TOKEN] = Int64GetDatum((int64) token);
	nulls[LOCKS_TOKEN] = of_lease && !all;
	if (of_lease)
		values[LOCKS_HOLD_COUNT] = Int64GetDatum(lock_row_int(tuple, Anum_grant_count, desc));
	else if (here)
	{
		uint16		len;
		char	   *bytes = lock_key_from_text(key_type, DatumGetTextPP(key), &len);

		values[LOCKS_HOLD_COUNT] = Int64GetDatum(lock_holds_get(key_type, bytes, len, token));
	}
	else
		nulls[LOCKS_HOLD_COUNT] = true;
	values[LOCKS_ACQUIRED] = heap_getattr(tuple, Anum_grant_acquired, desc, &isnull);
	nulls[LOCKS_EXPIRES] = !expires_in(tuple, desc, of_lease, lease, here, &left_us);
	values[LOCKS_EXPIRES] = nulls[LOCKS_EXPIRES] ? (Datum) 0 : interval_datum(left_us);
	nulls[LOCKS_POSITION] = true;
	nulls[LOCKS_WAITED] = true;
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

static void
put_waiter(ReturnSetInfo *result, const LockWaitRow *row, bool all)
{
	Datum		values[LOCKS_COLUMNS];
	bool		nulls[LOCKS_COLUMNS] = {false};
	bool		of_lease = row->owner_kind == LK_OWNER_LEASE;
	pg_uuid_t	lease;

	memcpy(lease.data, row->lease, UUID_LEN);
	values[LOCKS_KEY_TYPE] = CStringGetTextDatum(lk_key_type_name(row->key_type));
	values[LOCKS_KEY] = PointerGetDatum(lock_key_to_text(row->key_type, row->key, row->len));
	values[LOCKS_MODE] = CStringGetTextDatum(lk_mode_name(row->mode));
	values[LOCKS_GRANTED] = BoolGetDatum(false);
	values[LOCKS_NODE] = Int64GetDatum(row->node);
	values[LOCKS_PID] = Int32GetDatum((int32) row->pid);
	values[LOCKS_LEASE] = UUIDPGetDatum(&lease);
	nulls[LOCKS_LEASE] = !of_lease || !all;
	nulls[LOCKS_TOKEN] = true;
	nulls[LOCKS_HOLD_COUNT] = true;
	nulls[LOCKS_ACQUIRED] = true;
	nulls[LOCKS_EXPIRES] = true;
	values[LOCKS_POSITION] = Int64GetDatum(row->position);
	nulls[LOCKS_POSITION] = row->position == 0;
	values[LOCKS_WAITED] = interval_datum(Max(row->waited_us, 0));
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/* _locks() - grants and waiters. Nothing where there is no cluster. */
Datum
quorum_locks(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	bool		all = may_see_capabilities();
	Relation	rel;
	SysScanDesc scan;
	HeapTuple	tuple;
	LockWaitRow *waiters;
	int			nwaiters;

	InitMaterializedSRF(fcinfo, 0);
	node_require_loaded();
	if (node_id() == 0)
		return (Datum) 0;
	lock_settle();
	rel = lock_table_open(LOCK_GRANT, AccessShareLock);
	scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
		put_grant(result, tuple, RelationGetDescr(rel), all);
	systable_endscan(scan);
	table_close(rel, AccessShareLock);

	waiters = lock_wait_rows(&nwaiters);
	for (int i = 0; i < nwaiters; i++)
		put_waiter(result, &waiters[i], all);
	return (Datum) 0;
}

/* ---------- quorum.leases ---------- */

/* _leases() - for quorum_admin: the ids are capabilities. */
Datum
quorum_leases(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	Relation	rel;
	SysScanDesc scan;
	HeapTuple	tuple;

	InitMaterializedSRF(fcinfo, 0);
	node_require_loaded();
	rel = lock_table_open(LOCK_LEASE, AccessShareLock);
	scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		TupleDesc	desc = RelationGetDescr(rel);
		Datum		values[7];
		bool		nulls[7] = {false};
		int64		left_us;

		values[0] = heap_getattr(tuple, Anum_lease_id, desc, &nulls[0]);
		values[1] = heap_getattr(tuple, Anum_lease_name, desc, &nulls[1]);
		values[2] = interval_datum(lock_row_int(tuple, Anum_lease_ttl, desc) * 1000);
		left_us = lease_left_us(tuple, desc);
		nulls[3] = left_us < 0;
		values[3] = nulls[3] ? (Datum) 0 : interval_datum(left_us);
		values[4] = Int64GetDatum(lock_row_int(tuple, Anum_lease_node, desc));
		values[5] = Int32GetDatum((int32) lock_row_int(tuple, Anum_lease_pid, desc));
		values[6] = heap_getattr(tuple, Anum_lease_opened, desc, &nulls[6]);
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return (Datum) 0;
}

/* ---------- quorum.lock_history ---------- */

/* _lock_history() - locks that were taken from their holders. */
Datum
quorum_lock_history(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	bool		all = may_see_capabilities();
	Relation	rel;
	SysScanDesc scan;
	HeapTuple	tuple;

	InitMaterializedSRF(fcinfo, 0);
	node_require_loaded();
	rel = lock_table_open(LOCK_LOSS, AccessShareLock);
	scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		TupleDesc	desc = RelationGetDescr(rel);
		Datum		values[12];
		bool		nulls[12] = {false};

		values[0] = CStringGetTextDatum(lk_key_type_name((uint8) lock_row_int(tuple, Anum_loss_key_type, desc)));
		values[1] = heap_getattr(tuple, Anum_loss_key, desc, &nulls[1]);
		values[2] = CStringGetTextDatum(lk_mode_name((uint8) lock_row_int(tuple, Anum_loss_mode, desc)));
		values[3] = Int64GetDatum(lock_row_int(tuple, Anum_loss_token, desc));
		values[4] = Int64GetDatum(lock_row_int(tuple, Anum_loss_node, desc));
		values[5] = Int32GetDatum((int32) lock_row_int(tuple, Anum_loss_pid, desc));
		values[6] = heap_getattr(tuple, Anum_loss_lease, desc, &nulls[6]);
		nulls[6] |= !all;
		values[7] = CStringGetTextDatum(lk_reason_name((LkReason) lock_row_int(tuple, Anum_loss_cause, desc)));
		values[8] = heap_getattr(tuple, Anum_loss_role, desc, &nulls[8]);
		values[9] = heap_getattr(tuple, Anum_loss_reason, desc, &nulls[9]);
		values[10] = heap_getattr(tuple, Anum_loss_at, desc, &nulls[10]);
		values[11] = Int64GetDatum(lock_row_int(tuple, Anum_loss_index, desc));
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return (Datum) 0;
}

/* ---------- what this session may rely on ---------- */

static void
look_if_lost(LocalLock *lock, void *arg)
{
	bool	   *lost = arg;

	*lost |= lock->token != 0 && !lock_is_held(lock);
}

/*
 * lock_safe_time() - for how long the locks that this session holds are certainly
 * its own, whatever happens to the network: from when the last confirmed renewal
 * of the server's lease was sent, on the monotonic clock. Zero: may be lost, or one
 * of them is. NULL: it holds none.
 */
Datum
quorum_lock_safe_time(PG_FUNCTION_ARGS)
{
	int64		safe_us;
	bool		lost = false;

	lock_require_cluster();
	if (lock_local_count() == 0)
		PG_RETURN_NULL();
	(void) lock_wait_safe(SAFE_WAIT_US);
	safe_us = lock_safe_us();
	/* after the time was read: what it does not cover is gone from the tables by then */
	lock_local_each(look_if_lost, &lost);
	PG_RETURN_INTERVAL_P(lock_us_interval(lost ? 0 : Max(safe_us, 0)));
}

static void
put_if_lost(LocalLock *lock, void *arg)
{
	ReturnSetInfo *result = arg;
	Datum		values[4];
	bool		nulls[4] = {false};

	if (lock->token == 0 || lock_is_held(lock))
		return;
	values[0] = CStringGetTextDatum(lk_key_type_name(lock->name.type));
	values[1] = PointerGetDatum(lock_key_to_text(lock->name.type, lock->name.key, lock->name.len));
	values[2] = CStringGetTextDatum(lk_mode_name(lock->name.exclusive ? LK_EXCLUSIVE : LK_SHARED));
	values[3] = Int64GetDatum((int64) lock->token);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/* lost_locks() - what this session acquired, never released, and has no more. */
Datum
quorum_lost_locks(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;

	InitMaterializedSRF(fcinfo, 0);
	lock_require_cluster();
	lock_local_each(put_if_lost, result);
	return (Datum) 0;
}
