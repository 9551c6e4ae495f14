/*-------------------------------------------------------------------------
 *
 * lock_sql.c
 *		SQL functions that acquire and release locks (doc/locks.md).
 *
 * One C function for each name and type of key; what differs between them is
 * in the flags. Acquiring returns the fencing token, a try NULL when the lock
 * was not to be had in the time that was given.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "lock/lock_sql.h"

#define HOW_TRY		0x1			/* second argument: how long to wait */
#define HOW_SHARED	0x2
#define HOW_XACT	0x4

static Datum
acquire(FunctionCallInfo fcinfo, uint8 key_type, int how)
{
	int			lease_arg = (how & HOW_TRY) ? 2 : 1;
	uint8		mode = (how & HOW_SHARED) ? LK_SHARED : LK_EXCLUSIVE;
	int64		wait_us = -1;
	uint64		token;
	LockKey		key;
	bool		acquired;

	lock_require_cluster();
	lock_get_key(fcinfo, 0, key_type, &key);
	if (how & HOW_TRY)
		wait_us = lock_get_wait(fcinfo, 1);
	if (PG_NARGS() > lease_arg)
		acquired = lock_acquire_for_lease(&key, 1, mode, lock_get_lease(fcinfo, lease_arg),
										  wait_us, &token);
	else
		acquired = lock_acquire(&key, 1, mode,
								(how & HOW_XACT) ? LOCK_SCOPE_XACT : LOCK_SCOPE_SESSION,
								wait_us, &token);
	if (!acquired)
		PG_RETURN_NULL();
	PG_RETURN_INT64((int64) token);
}

#define ACQUIRE(name, how) \
	PG_FUNCTION_INFO_V1(quorum_ ## name ## _text); \
	PG_FUNCTION_INFO_V1(quorum_ ## name ## _int8); \
	Datum quorum_ ## name ## _text(PG_FUNCTION_ARGS) \
	{ \
		return acquire(fcinfo, LK_KEY_TEXT, how); \
	} \
	Datum quorum_ ## name ## _int8(PG_FUNCTION_ARGS) \
	{ \
		return acquire(fcinfo, LK_KEY_BIGINT, how); \
	}

ACQUIRE(advisory_lock, 0)
ACQUIRE(advisory_lock_shared, HOW_SHARED)
ACQUIRE(try_advisory_lock, HOW_TRY)
ACQUIRE(try_advisory_lock_shared, HOW_TRY | HOW_SHARED)
ACQUIRE(advisory_xact_lock, HOW_XACT)
ACQUIRE(advisory_xact_lock_shared, HOW_XACT | HOW_SHARED)
ACQUIRE(try_advisory_xact_lock, HOW_XACT | HOW_TRY)
ACQUIRE(try_advisory_xact_lock_shared, HOW_XACT | HOW_TRY | HOW_SHARED)

/* ---------- several at once ---------- */

static LockKey *
get_keys(FunctionCallInfo fcinfo, int *nkeys)
{
	ArrayType  *array;
	Datum	   *elements;
	bool	   *nulls;
	LockKey    *keys;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("array of lock keys must not be null")));
	array = PG_GETARG_ARRAYTYPE_P(0);
	if (ARR_NDIM(array) > 1)
		ereport(ERROR,
				(errcode(ERRCODE_ARRAY_SUBSCRIPT_ERROR),
				 errmsg("array of lock keys must have one dimension")));
	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &elements, &nulls, nkeys);
	if (*nkeys > LK_MAX_ITEMS)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("too many lock keys at once"),
				 errdetail("There are %d; the limit is %d.", *nkeys, LK_MAX_ITEMS)));
	keys = palloc(Max(*nkeys, 1) * sizeof(LockKey));
	for (int i = 0; i < *nkeys; i++)
	{
		if (nulls[i])
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("lock key must not be null")));
		lock_text_key(DatumGetTextPP(elements[i]), LK_KEY_TEXT, &keys[i]);
	}
	return keys;
}

PG_FUNCTION_INFO_V1(quorum_advisory_lock_many);

/*
 * advisory_lock_many(keys [, lease]) - all of them, by one entry of the log; a
 * token for each. Nothing is held while it waits.
 */
Datum
quorum_advisory_lock_many(PG_FUNCTION_ARGS)
{
	int			nkeys;
	LockKey    *keys;
	uint64	   *tokens;
	Datum	   *result;

	lock_require_cluster();
	keys = get_keys(fcinfo, &nkeys);
	if (nkeys == 0)
		PG_RETURN_ARRAYTYPE_P(construct_empty_array(INT8OID));
	tokens = palloc(nkeys * sizeof(uint64));
	if (PG_NARGS() > 1)
		(void) lock_acquire_for_lease(keys, nkeys, LK_EXCLUSIVE, lock_get_lease(fcinfo, 1), -1, tokens);
	else
		(void) lock_acquire(keys, nkeys, LK_EXCLUSIVE, LOCK_SCOPE_SESSION, -1, tokens);
	result = palloc(nkeys * sizeof(Datum));
	for (int i = 0; i < nkeys; i++)
		result[i] = Int64GetDatum((int64) tokens[i]);
	PG_RETURN_ARRAYTYPE_P(construct_array(result, nkeys, INT8OID, sizeof(int64),
										  FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

/* ---------- releasing ---------- */

static Datum
unlock(FunctionCallInfo fcinfo, uint8 key_type, uint8 mode)
{
	LockKey		key;

	lock_require_cluster();
	lock_get_key(fcinfo, 0, key_type, &key);
	PG_RETURN_BOOL(lock_unlock(&key, mode, 0));
}

static Datum
unlock_token(FunctionCallInfo fcinfo, uint8 key_type)
{
	LockKey		key;
	uint64		token;
	LocalLock  *mine;

	lock_require_cluster();
	lock_get_key(fcinfo, 0, key_type, &key);
	token = lock_get_token(fcinfo, 1);
	mine = lock_local_by_token(key.type, key.data, key.len, token);
	if (token != 0 && mine != NULL)
		PG_RETURN_BOOL(lock_unlock(&key, mine->name.exclusive ? LK_EXCLUSIVE : LK_SHARED, token));
	PG_RETURN_BOOL(lock_release_token(&key, token));
}

#define UNLOCK(name, call) \
	PG_FUNCTION_INFO_V1(quorum_ ## name); \
	Datum quorum_ ## name(PG_FUNCTION_ARGS) \
	{ \
		return call; \
	}

UNLOCK(advisory_unlock_text, unlock(fcinfo, LK_KEY_TEXT, LK_EXCLUSIVE))
UNLOCK(advisory_unlock_int8, unlock(fcinfo, LK_KEY_BIGINT, LK_EXCLUSIVE))
UNLOCK(advisory_unlock_shared_text, unlock(fcinfo, LK_KEY_TEXT, LK_SHARED))
UNLOCK(advisory_unlock_shared_int8, unlock(fcinfo, LK_KEY_BIGINT, LK_SHARED))
UNLOCK(advisory_unlock_token_text, unlock_token(fcinfo, LK_KEY_TEXT))
UNLOCK(advisory_unlock_token_int8, unlock_token(fcinfo, LK_KEY_BIGINT))

PG_FUNCTION_INFO_V1(quorum_advisory_unlock_all);

/* advisory_unlock_all() - what the session holds; not what its transaction holds. */
Datum
quorum_advisory_unlock_all(PG_FUNCTION_ARGS)
{
	lock_require_cluster();
	lock_unlock_all();
	PG_RETURN_VOID();
}
