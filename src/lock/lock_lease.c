/*-------------------------------------------------------------------------
 *
 * lock_lease.c
 *		Leases, which outlive connections, what is held under them, and the
 *		administrator's way to take a lock away.
 *
 * A lease is renewed by whoever knows its id, from any connection to any member.
 * What is held under it is known to the cluster alone: this session counts
 * nothing, and has nothing to release.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_authid.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "lock/lock_sql.h"
#include "lock/lock_tables.h"
#include "node/node.h"

#define MIN_TTL_US			(100 * INT64CONST(1000))
#define MAX_TTL_US			(30 * USECS_PER_DAY)
#define RENEW_TIMEOUT_US	(10 * USECS_PER_SEC)
#define TOKEN_PATIENCE_US	(20 * INT64CONST(1000))
#define TOKEN_TIMEOUT_US	(10 * USECS_PER_SEC)

PG_FUNCTION_INFO_V1(quorum_lease_open);
PG_FUNCTION_INFO_V1(quorum_lease_renew);
PG_FUNCTION_INFO_V1(quorum_lease_close);
PG_FUNCTION_INFO_V1(quorum_break_lock_text);
PG_FUNCTION_INFO_V1(quorum_break_lock_int8);

/* ---------- leases ---------- */

/*
 * lease_open(ttl, name) - its id. It ends by itself when it was not renewed for
 * its time to live.
 */
Datum
quorum_lease_open(PG_FUNCTION_ARGS)
{
	pg_uuid_t  *id;
	int64		ttl_us;
	LkRecord	rec;
	LockAnswer	answer;

	lock_require_cluster();
	ttl_us = lock_get_time(fcinfo, 0, "time to live of a lease");
	if (ttl_us < MIN_TTL_US || ttl_us > MAX_TTL_US)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("time to live of a lease is out of range"),
				 errdetail("It can be from 100 milliseconds to 30 days.")));

	id = DatumGetUUIDP(DirectFunctionCall1(gen_random_uuid, (Datum) 0));
	memset(&rec, 0, sizeof(rec));
	rec.op = LK_OP_LEASE_OPEN;
	memcpy(rec.lease, id->data, LK_UUID_LEN);
	rec.ttl_ms = (uint32) ((ttl_us + 999) / 1000);
	lock_own_owner(&rec.owner);
	rec.node = rec.owner.node;
	rec.boot = rec.owner.boot;
	rec.pid = rec.owner.pid;
	if (!PG_ARGISNULL(1))
	{
		text	   *name = PG_GETARG_TEXT_PP(1);

		if (VARSIZE_ANY_EXHDR(name) >= LK_MAX_NAME_LEN)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("name of a lease is too long"),
					 errdetail("The limit is %d bytes.", LK_MAX_NAME_LEN - 1)));
		rec.name = VARDATA_ANY(name);
		rec.name_len = (uint16) VARSIZE_ANY_EXHDR(name);
	}
	(void) lock_submit(&rec, NULL, &answer);
	lock_check_result(&answer);
	lock_wait_effect(answer.index);
	PG_RETURN_UUID_P(id);
}

static void
report_no_lease(void)
{
	LockAnswer	answer = {.result = LOCK_NO_LEASE};

	lock_check_result(&answer);
}

/* lease_renew(lease) - how long it is good for, counted from before the call. */
Datum
quorum_lease_renew(PG_FUNCTION_ARGS)
{
	pg_uuid_t  *id;
	LockAnswer	answer = {0};
	int64		left_us = 0;

	lock_require_cluster();
	id = lock_get_lease(fcinfo, 0);
	answer.result = lock_renew_lease(id->data, RENEW_TIMEOUT_US, &left_us);
	lock_check_result(&answer);
	if (left_us <= 0)
		report_no_lease();
	PG_RETURN_INTERVAL_P(lock_us_interval(left_us));
}

/* lease_close(lease) - and all that is held under it. False: there is none. */
Datum
quorum_lease_close(PG_FUNCTION_ARGS)
{
	LkRecord	rec;
	LockAnswer	answer;

	lock_require_cluster();
	memset(&rec, 0, sizeof(rec));
	rec.op = LK_OP_LEASE_CLOSE;
	memcpy(rec.lease, lock_get_lease(fcinfo, 0)->data, LK_UUID_LEN);
	switch (lock_submit(&rec, NULL, &answer))
	{
		case LOCK_NO_LEASE:
		case LOCK_NOT_HELD:
			ereport(WARNING,
					(errcode(ERRCODE_WARNING),
					 errmsg("there is no such lease")));
			PG_RETURN_BOOL(false);
		default:
			lock_check_result(&answer);
	}
	lock_wait_effect(answer.index);
	PG_RETURN_BOOL(true);
}

/* ---------- what is held under them ---------- */

/* The newest grant of this key in this mode that the lease has; 0: none. */
static uint64
token_of_lease(const LockKey *key, uint8 mode, const pg_uuid_t *lease)
{
	Relation	rel = lock_table_open(LOCK_GRANT, AccessShareLock);
	TupleDesc	desc = RelationGetDescr(rel);
	SysScanDesc scan = lock_scan_key(rel, LOCK_GRANT, key->type,
									 PointerGetDatum(lock_key_to_text(key->type, key->data, key->len)));
	uint64		token = 0;
	HeapTuple	tuple;

	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		bool		isnull;
		Datum		held_by = heap_getattr(tuple, Anum_grant_lease, desc, &isnull);

		if (!isnull && memcmp(DatumGetUUIDP(held_by)->data, lease->data, UUID_LEN) == 0 &&
			lock_row_int(tuple, Anum_mode, desc) == mode)
			token = Max(token, (uint64) lock_row_int(tuple, Anum_token, desc));
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return token;
}

/*
 * All that the former holder wrote is to be seen; else the lock is given back. What
 * the lease held before is held as before, and was seen when it was acquired first.
 */
static void
wait_granted(const LockAnswer *answer)
{
	if (answer->token != answer->index)
	{
		lock_wait_effect(answer->index);
		return;
	}
	PG_TRY();
	{
		(void) node_wait_applied(answer->index, 0);
	}
	PG_CATCH();
	{
		if (!lock_forsake(answer->request))
			elog(LOG, "a lock that was granted to a lease could not be given back");
		PG_RE_THROW();
	}
	PG_END_TRY();
}

bool
lock_acquire_for_lease(const LockKey *keys, int nkeys, uint8 mode, const pg_uuid_t *lease,
					   int64 wait_us, uint64 *tokens)
{
	LkItem	   *items = palloc0(nkeys * sizeof(LkItem));
	LkRecord	rec;
	LockAnswer	answer;

	memset(&rec, 0, sizeof(rec));
	(void) lock_session_register();
	lock_own_owner(&rec.owner);
	rec.owner.kind = LK_OWNER_LEASE;
	memcpy(rec.owner.lease, lease->data, LK_UUID_LEN);
	for (int i = 0; i < nkeys; i++)
	{
		items[i].key_type = keys[i].type;
		items[i].mode = mode;
		items[i].weight = keys[i].weight;
		items[i].limit = keys[i].limit;
		items[i].len = keys[i].len;
		items[i].key = keys[i].data;
	}
	rec.nitems = (uint16) nkeys;
	if (lock_ask(&rec, items, wait_us, &answer) != LOCK_GRANTED)
	{
		lock_check_result(&answer);
		return false;
	}
	wait_granted(&answer);
	tokens[0] = answer.token;
	for (int i = 1; i < nkeys; i++)
	{
		tokens[i] = token_of_lease(&keys[i], mode, lease);
		if (tokens[i] == 0)		/* lost since */
			tokens[i] = answer.token;
	}
	return true;
}

bool
lock_wait_for_token(uint64 token)
{
	uint64		known;

	if ((int64) token <= 0)
		return false;
	if (node_wait_applied(token, node_monotonic_us() + TOKEN_PATIENCE_US))
		return true;

	/* made up, or is this server behind? */
	if (!node_read_index(node_monotonic_us() + TOKEN_TIMEOUT_US, &known))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("whether token " UINT64_FORMAT " is good cannot be told now", token),
				 errdetail("This server has no contact with a majority of the cluster."),
				 errhint("Retry when quorum.status shows has_quorum.")));
	return token <= known && node_wait_applied(token, 0);
}

typedef enum TokenOwner
{
	OWNER_NONE,					/* nobody holds this key by this token */
	OWNER_LEASE,
	OWNER_SESSION
} TokenOwner;

static TokenOwner
owner_of_token(const LockKey *key, uint64 token)
{
	Relation	rel = lock_table_open(LOCK_GRANT, AccessShareLock);
	SysScanDesc scan = lock_scan_token(rel, LOCK_GRANT, key->type,
									   PointerGetDatum(lock_key_to_text(key->type, key->data, key->len)),
									   token);
	HeapTuple	tuple = systable_getnext(scan);
	TokenOwner	owner = OWNER_NONE;

	if (HeapTupleIsValid(tuple))
	{
		bool		isnull;

		(void) heap_getattr(tuple, Anum_grant_lease, RelationGetDescr(rel), &isnull);
		owner = isnull ? OWNER_SESSION : OWNER_LEASE;
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return owner;
}

static bool
warn_not_released(const LockKey *key, uint64 token, const char *detail)
{
	ereport(WARNING,
			(errcode(ERRCODE_WARNING),
			 errmsg("token " INT64_FORMAT " does not hold lock \"%s\"", (int64) token, lock_show_key(key)),
			 detail ? errdetail("%s", detail) : 0));
	return false;
}

/* A lease's lock, by its token alone. */
bool
lock_release_token(const LockKey *key, uint64 token)
{
	LkRecord	rec;
	LkItem		item;
	LockAnswer	answer;

	if (!lock_wait_for_token(token))
		return warn_not_released(key, token, NULL);
	switch (owner_of_token(key, token))
	{
		case OWNER_NONE:
			return warn_not_released(key, token, NULL);
		case OWNER_SESSION:
			return warn_not_released(key, token, "It was given to another session, which has to release it.");
		case OWNER_LEASE:
			break;
	}
	memset(&rec, 0, sizeof(rec));
	memset(&item, 0, sizeof(item));
	rec.op = LK_OP_RELEASE;
	rec.reason = LK_RELEASED;
	rec.nitems = 1;
	item.key_type = key->type;
	item.token = token;
	item.whole = key->type == LK_KEY_SEMAPHORE;
	item.len = key->len;
	item.key = key->data;
	if (lock_submit(&rec, &item, &answer) == LOCK_NOT_HELD)
		return warn_not_released(key, token, NULL);
	lock_check_result(&answer);
	lock_wait_effect(answer.index);
	return true;
}

/* ---------- break_lock ---------- */

/* A reason may be long; it is cut where the log has its limit. */
static Datum
break_lock(FunctionCallInfo fcinfo, uint8 key_type)
{
	LockKey		key;
	LkRecord	rec;
	LockAnswer	answer;
	text	   *reason;
	char	   *role;

	lock_require_cluster();
	lock_get_key(fcinfo, 0, key_type, &key);
	if (PG_ARGISNULL(1) || VARSIZE_ANY_EXHDR(PG_GETARG_TEXT_PP(1)) == 0)
		ereport(ERROR,
				(errcode(PG_ARGISNULL(1) ? ERRCODE_NULL_VALUE_NOT_ALLOWED : ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a reason must be given to break a lock")));
	reason = PG_GETARG_TEXT_PP(1);
	if (VARSIZE_ANY_EXHDR(reason) > LK_MAX_TEXT_LEN)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("reason to break a lock is too long"),
				 errdetail("The limit is %d bytes.", LK_MAX_TEXT_LEN)));
	role = GetUserNameFromId(GetSessionUserId(), false);

	memset(&rec, 0, sizeof(rec));
	rec.op = LK_OP_BREAK;
	rec.broken.key_type = key.type;
	rec.broken.len = key.len;
	rec.broken.key = key.data;
	rec.role = role;
	rec.role_len = (uint16) strlen(role);
	rec.text = VARDATA_ANY(reason);
	rec.text_len = (uint16) VARSIZE_ANY_EXHDR(reason);
	if (lock_submit(&rec, NULL, &answer) == LOCK_NOT_HELD)
	{
		ereport(WARNING,
				(errcode(ERRCODE_WARNING),
				 errmsg("nobody holds lock \"%s\"", lock_show_key(&key))));
		PG_RETURN_BOOL(false);
	}
	lock_check_result(&answer);
	lock_wait_effect(answer.index);
	PG_RETURN_BOOL(true);
}

/* break_lock(key, reason) - take it from whoever holds it; quorum.lock_history tells. */
Datum
quorum_break_lock_text(PG_FUNCTION_ARGS)
{
	return break_lock(fcinfo, LK_KEY_TEXT);
}

Datum
quorum_break_lock_int8(PG_FUNCTION_ARGS)
{
	return break_lock(fcinfo, LK_KEY_BIGINT);
}
