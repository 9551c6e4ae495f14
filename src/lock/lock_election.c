/*-------------------------------------------------------------------------
 *
 * lock_election.c
 *		What elections, semaphores and latches (sqlsrc/45_election.sql) need
 *		beyond SQL.
 *
 * An election is an exclusive lock of a key type of its own; its holder leads.
 * Each change is told with NOTIFY by the apply worker of each member, so that
 * any session anywhere can LISTEN for it; what is told is only that there is
 * something new, the state itself is in quorum.locks.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "commands/async.h"
#include "common/md5.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/json.h"

#include "lock/lock_election.h"
#include "lock/lock_sql.h"
#include "lock/lock_tables.h"

#define CHANNEL_PREFIX "quorum_election_"

PG_FUNCTION_INFO_V1(quorum_election_channel);
PG_FUNCTION_INFO_V1(quorum_election_notify);
PG_FUNCTION_INFO_V1(quorum_election_acquire);
PG_FUNCTION_INFO_V1(quorum_election_release);
PG_FUNCTION_INFO_V1(quorum_semaphore_acquire);
PG_FUNCTION_INFO_V1(quorum_semaphore_release);

/* The name itself where it fits into an identifier, else a hash of it. */
static char *
channel_of(Datum name)
{
	char	   *shown = TextDatumGetCString(name);
	char		hash[33];
	const char *error = NULL;

	if (strlen(shown) + strlen(CHANNEL_PREFIX) < NAMEDATALEN)
		return psprintf(CHANNEL_PREFIX "%s", shown);
	if (!pg_md5_hash(shown, strlen(shown), hash, &error))
		elog(ERROR, "could not compute a hash: %s", error);
	return psprintf(CHANNEL_PREFIX "%s", hash);
}

void
election_notify(Datum name, uint64 token)
{
	StringInfoData payload;

	initStringInfo(&payload);
	appendStringInfoString(&payload, "{\"election\":");
	escape_json(&payload, TextDatumGetCString(name));
	if (token != 0)
		appendStringInfo(&payload, ",\"token\":" UINT64_FORMAT "}", token);
	else
		appendStringInfoString(&payload, ",\"token\":null}");
	Async_Notify(channel_of(name), payload.data);
}

/* election_channel(name) - where to LISTEN. */
Datum
quorum_election_channel(PG_FUNCTION_ARGS)
{
	LockKey		key;

	lock_get_key(fcinfo, 0, LK_KEY_ELECTION, &key);
	PG_RETURN_TEXT_P(cstring_to_text(channel_of(PG_GETARG_DATUM(0))));
}

/* _election_notify(name, token) - the same for what the leader says of itself. */
Datum
quorum_election_notify(PG_FUNCTION_ARGS)
{
	election_notify(PG_GETARG_DATUM(0), (uint64) PG_GETARG_INT64(1));
	PG_RETURN_VOID();
}

/* ---------- elections ---------- */

/* _election_acquire(name, wait, lease) - wait NULL: until elected. The token. */
Datum
quorum_election_acquire(PG_FUNCTION_ARGS)
{
	LockKey		key;
	int64		wait_us;
	uint64		token;
	bool		acquired;

	lock_require_cluster();
	lock_get_key(fcinfo, 0, LK_KEY_ELECTION, &key);
	wait_us = PG_ARGISNULL(1) ? -1 : lock_get_wait(fcinfo, 1);
	if (PG_ARGISNULL(2))
		acquired = lock_acquire(&key, 1, LK_EXCLUSIVE, LOCK_SCOPE_SESSION, wait_us, &token);
	else
		acquired = lock_acquire_for_lease(&key, 1, LK_EXCLUSIVE, PG_GETARG_UUID_P(2), wait_us, &token);
	if (!acquired)
		PG_RETURN_NULL();
	PG_RETURN_INT64((int64) token);
}

/* election_resign(name [, token]) - with a token: what a lease leads. */
Datum
quorum_election_release(PG_FUNCTION_ARGS)
{
	LockKey		key;

	lock_require_cluster();
	lock_get_key(fcinfo, 0, LK_KEY_ELECTION, &key);
	if (PG_NARGS() > 1)
	{
		uint64		token = lock_get_token(fcinfo, 1);

		if (lock_local_by_token(key.type, key.data, key.len, token) == NULL)
			PG_RETURN_BOOL(lock_release_token(&key, token));
	}
	PG_RETURN_BOOL(lock_unlock(&key, LK_EXCLUSIVE, 0));
}

/* ---------- semaphores ---------- */

static uint32
get_permits(FunctionCallInfo fcinfo, int argno, const char *what)
{
	int32		permits;

	if (PG_ARGISNULL(argno))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("%s must not be null", what)));
	permits = PG_GETARG_INT32(argno);
	if (permits < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must be at least 1", what)));
	return (uint32) permits;
}

/* semaphore_acquire(name, size, lease, permits, wait) - a token, or NULL. */
Datum
quorum_semaphore_acquire(PG_FUNCTION_ARGS)
{
	LockKey		key;
	pg_uuid_t  *lease;
	uint64		token;

	lock_require_cluster();
	lock_get_key(fcinfo, 0, LK_KEY_SEMAPHORE, &key);
	key.limit = get_permits(fcinfo, 1, "size of a semaphore");
	lease = lock_get_lease(fcinfo, 2);
	key.weight = get_permits(fcinfo, 3, "number of permits");
	if (key.weight > key.limit)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("more permits are asked for than there are"),
				 errdetail("%u of %u.", key.weight, key.limit)));
	if (!lock_acquire_for_lease(&key, 1, LK_PERMIT, lease,
								PG_ARGISNULL(4) ? -1 : lock_get_wait(fcinfo, 4), &token))
		PG_RETURN_NULL();
	PG_RETURN_INT64((int64) token);
}

/* semaphore_release(name, token) - the permits that were acquired with it. */
Datum
quorum_semaphore_release(PG_FUNCTION_ARGS)
{
	LockKey		key;

	lock_require_cluster();
	lock_get_key(fcinfo, 0, LK_KEY_SEMAPHORE, &key);
	PG_RETURN_BOOL(lock_release_token(&key, lock_get_token(fcinfo, 1)));
}
