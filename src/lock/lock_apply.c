/*-------------------------------------------------------------------------
 *
 * lock_apply.c
 *		Lock entries, applied: what the lock state machine says becomes rows.
 *
 * The apply worker runs the same state machine as the Raft worker (lockstate.h),
 * one entry after the other in log order, and does to the tables what comes out:
 * a row of lock_grant for each grant; when it is over, a row of lock_memory as
 * long as its token may still be good; a row of lock_loss when it was taken from
 * its holder. The machine is loaded from the tables when it is first needed, and
 * thrown away when a transaction was undone: the tables are the truth.
 *
 * Fencing memory
 * --------------
 *	A token is stale once a later grant of its key conflicts with it. So a grant
 *	deletes the rows of those it makes stale, and a token without a row is
 *	refused, whatever the reason. Rows nobody makes stale go after a day, or when
 *	there are more than MEMORY_ROWS, oldest first; a little of that is done now
 *	and then, by stamps and numbers of the log, so that all members delete the
 *	same.
 *
 * Elections and their like are told to whoever LISTENs, with the entry.
 *
 * State: private to the apply worker. A crash loses it; the tables stand at the
 * applied index.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "commands/async.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "lock/lock.h"
#include "lock/lock_election.h"
#include "lock/lock_sql.h"
#include "lock/lock_tables.h"
#include "node/node.h"
#include "replication/guests.h"

#define MEMORY_ROWS		16384
#define MEMORY_AGE_US	(USECS_PER_DAY)
#define LOSS_ROWS		16384
#define PRUNE_MORE		2		/* rows deleted beyond those that were added */
#define PRUNE_AGED_EVERY 64		/* entries of the log between two looks at ages */
#define PRUNE_AGED_ROWS 256

static LkState *state = NULL;
static bool in_machine = false; /* an error now leaves the machine unusable */
static int64 memory_rows = -1;	/* -1: to be counted */
static int64 loss_rows = -1;

/* ---------- effects, collected ---------- */

/*
 * The machine must not be left by an error, so its effects are copied first.
 * Keys and names are the machine's or the payload's: a grant that is gone may
 * be freed when lk_append() returns.
 */
typedef struct Change
{
	LkEffectKind kind;
	LkReason	reason;
	LkGrantInfo grant;
	LkLeaseInfo lease;
} Change;

typedef struct Changes
{
	Change	   *list;
	int			count;
	int			size;
} Changes;

static void
collect(void *arg, const LkEffect *effect)
{
	Changes    *changes = arg;
	Change	   *change;

	if (changes->count == changes->size)
	{
		changes->size = Max(changes->size * 2, 4);
		changes->list = changes->list ?
			repalloc(changes->list, changes->size * sizeof(Change)) :
			palloc(changes->size * sizeof(Change));
	}
	change = &changes->list[changes->count++];
	memset(change, 0, sizeof(*change));
	change->kind = effect->kind;
	change->reason = effect->reason;
	if (effect->grant)
	{
		change->grant = *effect->grant;
		/* bytes, not text: zeros are as good as any */
		change->grant.key = memcpy(palloc(effect->grant->len + 1), effect->grant->key, effect->grant->len);
	}
	if (effect->lease)
		change->lease = *effect->lease;
}

/* ---------- rows ---------- */

static Datum
uuid_datum(const uint8_t *id)
{
	pg_uuid_t  *uuid = palloc(sizeof(pg_uuid_t));

	memcpy(uuid->data, id, UUID_LEN);
	return UUIDPGetDatum(uuid);
}

static Datum
key_datum(const LkGrantInfo *grant)
{
	return PointerGetDatum(lock_key_to_text(grant->key_type, grant->key, grant->len));
}

static void
insert_row(LockTable table, Datum *values, bool *nulls)
{
	Relation	rel = lock_table_open(table, RowExclusiveLock);
	HeapTuple	tuple = heap_form_tuple(RelationGetDescr(rel), values, nulls);

	CatalogTupleInsert(rel, tuple);
	heap_freetuple(tuple);
	table_close(rel, RowExclusiveLock);
	CommandCounterIncrement();
}

static void
insert_grant(const LkGrantInfo *grant, Datum key)
{
	Datum		values[Natts_grant];
	bool		nulls[Natts_grant] = {false};

#define SET(column, datum) values[Anum_grant_ ## column - 1] = (datum)
	values[Anum_key - 1] = key;
	values[Anum_key_type - 1] = Int16GetDatum(grant->key_type);
	values[Anum_token - 1] = Int64GetDatum((int64) grant->token);
	values[Anum_mode - 1] = Int16GetDatum(grant->mode);
	SET(weight, Int64GetDatum(grant->weight));
	SET(permits, Int64GetDatum(grant->limit));
	SET(node, Int64GetDatum(grant->owner.node));
	SET(boot, Int64GetDatum(grant->owner.boot));
	SET(session, Int64GetDatum((int64) grant->owner.session));
	SET(pid, Int64GetDatum(grant->owner.pid));
	SET(lease, uuid_datum(grant->owner.lease));
	nulls[Anum_grant_lease - 1] = grant->owner.kind != LK_OWNER_LEASE;
	SET(request_node, Int64GetDatum(grant->request.node));
	SET(request_boot, Int64GetDatum(grant->request.boot));
	SET(request_counter, Int64GetDatum((int64) grant->request.counter));
	SET(max_hold, Int64GetDatum(grant->max_hold_ms));
	SET(delay, Int64GetDatum(grant->delay_ms));
	SET(lease_time, Int64GetDatum(grant->lease_ms));
	SET(count, Int64GetDatum(grant->count));
	SET(acquired, TimestampTzGetDatum((TimestampTz) grant->acquired_us));
#undef SET
	insert_row(LOCK_GRANT, values, nulls);
}

/* The row of a grant; NULL when there is none, which the machine rules out. */
static HeapTuple
grant_row(Relation rel, const LkGrantInfo *grant, Datum key)
{
	SysScanDesc scan = lock_scan_token(rel, LOCK_GRANT, grant->key_type, key, grant->token);
	HeapTuple	tuple = systable_getnext(scan);

	tuple = HeapTupleIsValid(tuple) ? heap_copytuple(tuple) : NULL;
	systable_endscan(scan);
	if (tuple == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("table quorum.lock_grant has no row for token " UINT64_FORMAT,
						(uint64) grant->token),
				 errdetail("Only the apply worker may change this table.")));
	return tuple;
}

static void
delete_grant(const LkGrantInfo *grant, Datum key)
{
	Relation	rel = lock_table_open(LOCK_GRANT, RowExclusiveLock);
	HeapTuple	tuple = grant_row(rel, grant, key);

	CatalogTupleDelete(rel, &tuple->t_self);
	table_close(rel, RowExclusiveLock);
	CommandCounterIncrement();
}

static void
update_count(const LkGrantInfo *grant, Datum key)
{
	Relation	rel = lock_table_open(LOCK_GRANT, RowExclusiveLock);
	HeapTuple	tuple = grant_row(rel, grant, key);
	Datum		values[Natts_grant];
	bool		nulls[Natts_grant] = {false};
	bool		replace[Natts_grant] = {false};

	values[Anum_grant_count - 1] = Int64GetDatum(grant->count);
	replace[Anum_grant_count - 1] = true;
	tuple = heap_modify_tuple(tuple, RelationGetDescr(rel), values, nulls, replace);
	CatalogTupleUpdate(rel, &tuple->t_self, tuple);
	table_close(rel, RowExclusiveLock);
	CommandCounterIncrement();
}

/* ---------- fencing memory ---------- */

static int64
count_rows(LockTable table)
{
	Relation	rel = lock_table_open(table, AccessShareLock);
	SysScanDesc scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	int64		count = 0;

	while (HeapTupleIsValid(systable_getnext(scan)))
		count++;
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return count;
}

/* A grant makes tokens stale: exclusive ones always, others if it is exclusive. */
static void
forget_stale(const LkGrantInfo *grant, Datum key)
{
	Relation	rel = lock_table_open(LOCK_MEMORY, RowExclusiveLock);
	SysScanDesc scan = lock_scan_key(rel, LOCK_MEMORY, grant->key_type, key);
	HeapTuple	tuple;

	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		if (grant->mode != LK_EXCLUSIVE &&
			lock_row_int(tuple, Anum_mode, RelationGetDescr(rel)) != LK_EXCLUSIVE)
			continue;
		CatalogTupleDelete(rel, &tuple->t_self);
		memory_rows--;
	}
	systable_endscan(scan);
	table_close(rel, RowExclusiveLock);
	CommandCounterIncrement();
}

static void
remember(const LkGrantInfo *grant, Datum key, uint64 index, RaftStamp stamp)
{
	Datum		values[Natts_memory];
	bool		nulls[Natts_memory] = {false};

	values[Anum_key - 1] = key;
	values[Anum_key_type - 1] = Int16GetDatum(grant->key_type);
	values[Anum_token - 1] = Int64GetDatum((int64) grant->token);
	values[Anum_mode - 1] = Int16GetDatum(grant->mode);
	values[Anum_memory_released - 1] = Int64GetDatum((int64) index);
	values[Anum_memory_released_at - 1] = TimestampTzGetDatum((TimestampTz) stamp.physical_us);
	insert_row(LOCK_MEMORY, values, nulls);
	memory_rows++;
}

/* Oldest first, as far as there are too many or they are too old. */
static void
prune_memory(int most, RaftStamp stamp)
{
	Relation	rel = lock_table_open(LOCK_MEMORY, RowExclusiveLock);
	Relation	index = index_open(lock_memory_order_index(), AccessShareLock);
	SysScanDesc scan = systable_beginscan_ordered(rel, index, NULL, 0, NULL);
	HeapTuple	tuple;

	while (most-- > 0 &&
		   HeapTupleIsValid(tuple = systable_getnext_ordered(scan, ForwardScanDirection)))
	{
		int64		at = lock_row_int(tuple, Anum_memory_released_at, RelationGetDescr(rel));

		if (memory_rows <= MEMORY_ROWS && at > (int64) stamp.physical_us - MEMORY_AGE_US)
			break;
		CatalogTupleDelete(rel, &tuple->t_self);
		memory_rows--;
	}
	systable_endscan_ordered(scan);
	index_close(index, AccessShareLock);
	table_close(rel, RowExclusiveLock);
	CommandCounterIncrement();
}

/* ---------- losses ---------- */

static bool
is_loss(LkReason reason)
{
	switch (reason)
	{
		case LK_NODE_RESTARTED:
		case LK_NODE_EXPIRED:
		case LK_HOLD_EXPIRED:
		case LK_LEASE_EXPIRED:
		case LK_BROKEN:
			return true;
		default:
			return false;
	}
}

static void
insert_loss(const LkGrantInfo *grant, Datum key, LkReason reason, const LkRecord *rec,
			uint64 index, int n, RaftStamp stamp)
{
	Datum		values[Natts_loss];
	bool		nulls[Natts_loss] = {false};

#define SET(column, datum) values[Anum_loss_ ## column - 1] = (datum)
	SET(index, Int64GetDatum((int64) index));
	SET(n, Int32GetDatum(n));
	SET(key, key);
	SET(key_type, Int16GetDatum(grant->key_type));
	SET(token, Int64GetDatum((int64) grant->token));
	SET(mode, Int16GetDatum(grant->mode));
	SET(node, Int64GetDatum(grant->owner.node));
	SET(pid, Int64GetDatum(grant->owner.pid));
	SET(lease, uuid_datum(grant->owner.lease));
	nulls[Anum_loss_lease - 1] = grant->owner.kind != LK_OWNER_LEASE;
	SET(cause, Int16GetDatum(reason));
	SET(at, TimestampTzGetDatum((TimestampTz) stamp.physical_us));
	if (rec->op == LK_OP_BREAK)
	{
		SET(role, PointerGetDatum(cstring_to_text_with_len(rec->role, rec->role_len)));
		SET(reason, PointerGetDatum(cstring_to_text_with_len(rec->text, rec->text_len)));
	}
	else
		nulls[Anum_loss_role - 1] = nulls[Anum_loss_reason - 1] = true;
#undef SET
	insert_row(LOCK_LOSS, values, nulls);
	loss_rows++;
}

static void
prune_losses(int most)
{
	Relation	rel = lock_table_open(LOCK_LOSS, RowExclusiveLock);
	Relation	index = index_open(lock_table_index(LOCK_LOSS), AccessShareLock);
	SysScanDesc scan = systable_beginscan_ordered(rel, index, NULL, 0, NULL);
	HeapTuple	tuple;

	while (most-- > 0 && loss_rows > LOSS_ROWS &&
		   HeapTupleIsValid(tuple = systable_getnext_ordered(scan, ForwardScanDirection)))
	{
		CatalogTupleDelete(rel, &tuple->t_self);
		loss_rows--;
	}
	systable_endscan_ordered(scan);
	index_close(index, AccessShareLock);
	table_close(rel, RowExclusiveLock);
	CommandCounterIncrement();
}

/* ---------- leases ---------- */

static void
insert_lease(const LkLeaseInfo *lease)
{
	Datum		values[Natts_lease];
	bool		nulls[Natts_lease] = {false};

#define SET(column, datum) values[Anum_lease_ ## column - 1] = (datum)
	SET(id, uuid_datum(lease->id));
	SET(index, Int64GetDatum((int64) lease->index));
	SET(ttl, Int64GetDatum(lease->ttl_ms));
	SET(node, Int64GetDatum(lease->node));
	SET(boot, Int64GetDatum(lease->boot));
	SET(pid, Int64GetDatum(lease->pid));
	SET(opened, TimestampTzGetDatum((TimestampTz) lease->opened_us));
	SET(name, PointerGetDatum(cstring_to_text(lease->name)));
	nulls[Anum_lease_name - 1] = lease->name[0] == '\0';
#undef SET
	insert_row(LOCK_LEASE, values, nulls);
}

static void
delete_lease(const LkLeaseInfo *lease)
{
	Relation	rel = lock_table_open(LOCK_LEASE, RowExclusiveLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&key, Anum_lease_id, BTEqualStrategyNumber, F_UUID_EQ, uuid_datum(lease->id));
	scan = systable_beginscan(rel, lock_table_index(LOCK_LEASE), true, NULL, 1, &key);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
		CatalogTupleDelete(rel, &tuple->t_self);
	systable_endscan(scan);
	table_close(rel, RowExclusiveLock);
	CommandCounterIncrement();
}

/* ---------- from the tables ---------- */

static void
load_leases(LkState *into)
{
	Relation	rel = lock_table_open(LOCK_LEASE, AccessShareLock);
	TupleDesc	desc = RelationGetDescr(rel);
	SysScanDesc scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	HeapTuple	tuple;

	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		LkLeaseInfo lease;
		bool		isnull;
		Datum		name = heap_getattr(tuple, Anum_lease_name, desc, &isnull);

		memset(&lease, 0, sizeof(lease));
		if (!isnull)
			text_to_cstring_buffer(DatumGetTextPP(name), lease.name, sizeof(lease.name));
		memcpy(lease.id, DatumGetUUIDP(heap_getattr(tuple, Anum_lease_id, desc, &isnull))->data,
			   LK_UUID_LEN);
		lease.index = (uint64) lock_row_int(tuple, Anum_lease_index, desc);
		lease.ttl_ms = (uint32) lock_row_int(tuple, Anum_lease_ttl, desc);
		lease.node = (uint32) lock_row_int(tuple, Anum_lease_node, desc);
		lease.boot = (uint32) lock_row_int(tuple, Anum_lease_boot, desc);
		lease.pid = (uint32) lock_row_int(tuple, Anum_lease_pid, desc);
		lease.opened_us = lock_row_int(tuple, Anum_lease_opened, desc);
		if (!lk_restore_lease(into, &lease))
			elog(ERROR, "could not take in a lease");
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
}

static void
load_grants(LkState *into)
{
	Relation	rel = lock_table_open(LOCK_GRANT, AccessShareLock);
	TupleDesc	desc = RelationGetDescr(rel);
	SysScanDesc scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	HeapTuple	tuple;

	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		LkGrantInfo grant;
		bool		isnull;
		Datum		lease;
		text	   *shown;

		memset(&grant, 0, sizeof(grant));
		grant.key_type = (uint8) lock_row_int(tuple, Anum_key_type, desc);
		shown = DatumGetTextPP(heap_getattr(tuple, Anum_key, desc, &isnull));
		grant.key = lock_key_from_text(grant.key_type, shown, &grant.len);
		grant.token = (uint64) lock_row_int(tuple, Anum_token, desc);
		grant.mode = (uint8) lock_row_int(tuple, Anum_mode, desc);
		grant.weight = (uint32) lock_row_int(tuple, Anum_grant_weight, desc);
		grant.limit = (uint32) lock_row_int(tuple, Anum_grant_permits, desc);
		grant.owner.node = (uint32) lock_row_int(tuple, Anum_grant_node, desc);
		grant.owner.boot = (uint32) lock_row_int(tuple, Anum_grant_boot, desc);
		grant.owner.session = (uint64) lock_row_int(tuple, Anum_grant_session, desc);
		grant.owner.pid = (uint32) lock_row_int(tuple, Anum_grant_pid, desc);
		lease = heap_getattr(tuple, Anum_grant_lease, desc, &isnull);
		grant.owner.kind = isnull ? LK_OWNER_SESSION : LK_OWNER_LEASE;
		if (!isnull)
			memcpy(grant.owner.lease, DatumGetUUIDP(lease)->data, LK_UUID_LEN);
		grant.request.node = (uint32) lock_row_int(tuple, Anum_grant_request_node, desc);
		grant.request.boot = (uint32) lock_row_int(tuple, Anum_grant_request_boot, desc);
		grant.request.counter = (uint64) lock_row_int(tuple, Anum_grant_request_counter, desc);
		grant.max_hold_ms = (uint32) lock_row_int(tuple, Anum_grant_max_hold, desc);
		grant.delay_ms = (uint32) lock_row_int(tuple, Anum_grant_delay, desc);
		grant.lease_ms = (uint32) lock_row_int(tuple, Anum_grant_lease_time, desc);
		grant.count = (uint32) lock_row_int(tuple, Anum_grant_count, desc);
		grant.acquired_us = lock_row_int(tuple, Anum_grant_acquired, desc);
		if (!lk_restore_grant(into, &grant))
			elog(ERROR, "could not take in a grant of token " UINT64_FORMAT, (uint64) grant.token);
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
}

static LkState *
load(void)
{
	LkState    *loaded = lk_create();

	if (loaded == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	PG_TRY();
	{
		load_leases(loaded);
		load_grants(loaded);
	}
	PG_CATCH();
	{
		lk_free(loaded);
		PG_RE_THROW();
	}
	PG_END_TRY();
	return loaded;
}

/* ---------- entries ---------- */

static void
grant_is_over(const Change *change, Datum key, const LkRecord *rec, uint64 index, int n,
			  RaftStamp stamp)
{
	delete_grant(&change->grant, key);
	remember(&change->grant, key, index, stamp);
	if (is_loss(change->reason))
		insert_loss(&change->grant, key, change->reason, rec, index, n, stamp);
	if (change->grant.key_type == LK_KEY_ELECTION)
		election_notify(key, 0);
}

static void
perform(const Changes *changes, const LkRecord *rec, uint64 index, RaftStamp stamp)
{
	int			over = 0;
	int			lost = 0;

	for (int i = 0; i < changes->count; i++)
	{
		const Change *change = &changes->list[i];
		Datum		key = (Datum) 0;

		if (change->grant.key != NULL)
			key = key_datum(&change->grant);
		switch (change->kind)
		{
			case LK_GRANTED:
				forget_stale(&change->grant, key);
				insert_grant(&change->grant, key);
				if (change->grant.key_type == LK_KEY_ELECTION)
					election_notify(key, change->grant.token);
				break;
			case LK_COUNTED:
				update_count(&change->grant, key);
				break;
			case LK_GONE:
				grant_is_over(change, key, rec, index, i, stamp);
				over++;
				lost += is_loss(change->reason);
				break;
			case LK_LEASE_OPENED:
				insert_lease(&change->lease);
				break;
			case LK_LEASE_GONE:
				delete_lease(&change->lease);
				break;
		}
	}
	if (memory_rows > MEMORY_ROWS)
		prune_memory(over + PRUNE_MORE, stamp);
	else if (index % PRUNE_AGED_EVERY == 0)
		prune_memory(PRUNE_AGED_ROWS, stamp);
	if (lost > 0)
		prune_losses(lost + PRUNE_MORE);
}

static void
apply_entry(uint64 index, RaftToken token, RaftStamp stamp, const void *data, Size len)
{
	Changes		changes = {0};
	LkReader	rd;
	LkStatus	status;

	if (!lk_read_open(&rd, data, len))
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("lock entry " UINT64_FORMAT " of the log cannot be read: %s", index, rd.error),
				 errhint("It may have been written by a newer version of pg_quorum: upgrade this member.")));
	if (state == NULL)
		state = load();
	if (memory_rows < 0)
		memory_rows = count_rows(LOCK_MEMORY);
	if (loss_rows < 0)
		loss_rows = count_rows(LOCK_LOSS);

	in_machine = true;
	lk_commit(state, node_applied_index());
	status = lk_append(state, index, token, (int64) stamp.physical_us, data, len, 0,
					   collect, &changes);
	in_machine = false;
	if (status == LK_NO_MEMORY)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	perform(&changes, &rd.rec, index, stamp);
}

static void
hand_over(uint64 applied_index)
{
	if (state == NULL)
	{
		StartTransactionCommand();
		state = load();
		CommitTransactionCommand();
	}
	lk_commit(state, applied_index);
	lock_hand_over(state, applied_index);
}

static void
forget(void)
{
	/* half way through an entry it cannot even be freed safely */
	if (state != NULL && !in_machine)
		lk_free(state);
	state = NULL;
	in_machine = false;
	memory_rows = -1;
	loss_rows = -1;
}

void
lock_apply_install(void)
{
	entry_guest = (EntryGuest) {
		.is_theirs = lk_is_lock,
		.apply = apply_entry,
		.forget = forget,
		.hand_over = hand_over,
		.hand_over_wanted = lock_hand_over_wanted,
	};
}
