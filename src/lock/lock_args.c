/*-------------------------------------------------------------------------
 *
 * lock_args.c
 *		Arguments of the lock functions, their errors, and their settings.
 *
 * A bad argument is refused before anything is asked of the cluster: 22004 for
 * NULL, 22023 otherwise.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>

#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

#include "lock/lock_sql.h"
#include "lock/lock_tables.h"
#include "replication/replication.h"
#include "replication/session.h"

#define MAX_WAIT_DAYS	366

int			quorum_lock_max_hold_ms = 0;
int			quorum_lock_delay_ms = 0;

void
lock_define_session_settings(void)
{
	DefineCustomIntVariable("quorum.lock_max_hold",
							"Longest time that a lock acquired from now on is held; 0: no bound.",
							"The cluster takes it away then, whatever its session does.",
							&quorum_lock_max_hold_ms, 0, 0, INT_MAX,
							PGC_USERSET, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("quorum.lock_delay",
							"For how long nobody gets a lock whose holder has lost it; 0: at once.",
							"Counts for locks acquired from now on that are taken away from their "
							"holder, not for those that are released.",
							&quorum_lock_delay_ms, 0, 0, INT_MAX,
							PGC_USERSET, GUC_UNIT_MS, NULL, NULL, NULL);
}

void
lock_require_cluster(void)
{
	node_require_loaded();
	if (!session_in_quorum_database())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("only database \"%s\" takes part in the cluster", quorum_database),
				 errhint("Connect to that database, or change quorum.database.")));
	if (replication_is_applying())
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("locks of the cluster cannot be used while the log is applied")));
	node_require_member();
}

/* ---------- keys ---------- */

static void
refuse_null(const char *what)
{
	ereport(ERROR,
			(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
			 errmsg("%s must not be null", what)));
}

void
lock_text_key(text *given, uint8 type, LockKey *key)
{
	Size		len = VARSIZE_ANY_EXHDR(given);

	if (len == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("lock key must not be empty")));
	if (len > LK_MAX_KEY_LEN)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("lock key is too long"),
				 errdetail("It has %zu bytes; the limit is %d.", len, LK_MAX_KEY_LEN)));
	memset(key, 0, sizeof(*key));
	key->type = type;
	key->len = (uint16) len;
	key->data = VARDATA_ANY(given);
}

void
lock_get_key(FunctionCallInfo fcinfo, int argno, uint8 type, LockKey *key)
{
	if (PG_ARGISNULL(argno))
		refuse_null("lock key");
	if (type == LK_KEY_BIGINT)
	{
		memset(key, 0, sizeof(*key));
		key->type = type;
		key->len = sizeof(key->number);
		key->data = key->number;
		lk_bigint_key(PG_GETARG_INT64(argno), key->number);
		return;
	}
	lock_text_key(PG_GETARG_TEXT_PP(argno), type, key);
}

char *
lock_show_key(const LockKey *key)
{
	return text_to_cstring(lock_key_to_text(key->type, key->data, key->len));
}

/* ---------- times ---------- */

/* As a number that is good for comparisons with any bound, infinity included. */
static double
interval_seconds(const Interval *interval)
{
	return (double) interval->month * DAYS_PER_MONTH * SECS_PER_DAY +
		(double) interval->day * SECS_PER_DAY + (double) interval->time / USECS_PER_SEC;
}

/* The caller has checked the bounds. */
int64
lock_interval_us(const Interval *interval)
{
	return ((int64) interval->month * DAYS_PER_MONTH + interval->day) * USECS_PER_DAY +
		interval->time;
}

Interval *
lock_us_interval(int64 us)
{
	Interval   *interval = palloc0(sizeof(Interval));

	interval->time = us;
	return interval;
}

int64
lock_get_time(FunctionCallInfo fcinfo, int argno, const char *what)
{
	const Interval *wait;
	double		seconds;

	if (PG_ARGISNULL(argno))
		refuse_null(what);
	wait = PG_GETARG_INTERVAL_P(argno);
	seconds = interval_seconds(wait);
	if (seconds < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must not be negative", what)));
	if (seconds > (double) MAX_WAIT_DAYS * SECS_PER_DAY)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s is too long", what),
				 errdetail("The limit is %d days.", MAX_WAIT_DAYS)));
	return lock_interval_us(wait);
}

int64
lock_get_wait(FunctionCallInfo fcinfo, int argno)
{
	return lock_get_time(fcinfo, argno, "time to wait for a lock");
}

/* A token is the index of an entry. What never was one is no error here. */
uint64
lock_get_token(FunctionCallInfo fcinfo, int argno)
{
	if (PG_ARGISNULL(argno))
		refuse_null("fencing token");
	return (uint64) PG_GETARG_INT64(argno);
}

pg_uuid_t *
lock_get_lease(FunctionCallInfo fcinfo, int argno)
{
	if (PG_ARGISNULL(argno))
		refuse_null("lease");
	return PG_GETARG_UUID_P(argno);
}

/* ---------- errors ---------- */

static void
report_no_quorum(const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("the cluster has no quorum"),
			 errdetail("%s", detail[0] ? detail : "No leader took the request in time."),
			 errhint("Nothing was changed. Retry when quorum.status shows has_quorum.")));
}

static void
report_not_member(const char *detail)
{
	node_require_member();
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("this server does not take part in the cluster at the moment"),
			 detail[0] ? errdetail("%s", detail) : 0,
			 errhint("See column detail of quorum.status.")));
}

void
lock_check_result(const LockAnswer *answer)
{
	switch (answer->result)
	{
		case LOCK_GRANTED:
		case LOCK_TAKEN:
		case LOCK_TIMED_OUT:
		case LOCK_NOT_HELD:
			break;
		case LOCK_DEADLOCK:
			ereport(ERROR,
					(errcode(ERRCODE_T_R_DEADLOCK_DETECTED),
					 errmsg("deadlock detected"),
					 errdetail_internal("%s", answer->message),
					 errhint("The transaction might succeed if retried.")));
			break;
		case LOCK_NO_LEASE:
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("there is no such lease"),
					 errdetail("It was never opened, was closed, or its time ran out."),
					 errhint("Open one with quorum.lease_open.")));
			break;
		case LOCK_LEASE_EXISTS:
			ereport(ERROR,
					(errcode(ERRCODE_DUPLICATE_OBJECT),
					 errmsg("a lease with this id exists already")));
			break;
		case LOCK_OVER_LIMIT:
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("more permits are asked for than there are"),
					 answer->message[0] ? errdetail("%s", answer->message) : 0));
			break;
		case LOCK_NO_QUORUM:
			report_no_quorum(answer->message);
			break;
		case LOCK_NOT_MEMBER:
			report_not_member(answer->message);
			break;
		case LOCK_UNKNOWN:
			ereport(ERROR,
					(errcode(ERRCODE_T_R_STATEMENT_COMPLETION_UNKNOWN),
					 errmsg("whether the request took effect is unknown"),
					 answer->message[0] ? errdetail("%s", answer->message) : 0,
					 errhint("View quorum.locks tells.")));
			break;
		case LOCK_REFUSED:
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("the cluster refused the request"),
					 answer->message[0] ? errdetail("%s", answer->message) : 0));
			break;
	}
}

void
lock_check_verdict(const NodeAnswer *answer, RaftToken token)
{
	switch (answer->verdict)
	{
		case NODE_COMMITTED:
			break;
		case NODE_DOOMED:
			conflict_report_doomed();
			break;
		case NODE_WITHDRAWN:
			QueryCancelPending = false;
			ereport(ERROR,
					(errcode(ERRCODE_QUERY_CANCELED),
					 errmsg("canceling statement due to user request")));
			break;
		case NODE_UNAVAILABLE:
			report_no_quorum(answer->message);
			break;
		case NODE_NOT_MEMBER:
			report_not_member(answer->message);
			break;
		case NODE_REFUSED:
			ereport(ERROR,
					(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
					 errmsg("the cluster refused the request"),
					 answer->message[0] ? errdetail("%s", answer->message) : 0));
			break;
		case NODE_TOO_LARGE:
			ereport(ERROR,
					(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
					 errmsg("the request is too large for one log entry")));
			break;
		case NODE_UNKNOWN:
			ereport(ERROR,
					(errcode(ERRCODE_T_R_STATEMENT_COMPLETION_UNKNOWN),
					 errmsg("whether the request took effect is unknown"),
					 answer->message[0] ? errdetail("%s", answer->message) : 0,
					 errhint("Ask for it later with SELECT quorum.outcome('%s').",
							 node_token_out(token))));
			break;
	}
}

void
lock_wait_effect(uint64 index)
{
	MemoryContext context = CurrentMemoryContext;

	PG_TRY();
	{
		(void) node_wait_applied(index, 0);
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		ereport(ERROR,
				(errcode(ERRCODE_T_R_STATEMENT_COMPLETION_UNKNOWN),
				 errmsg("the request took effect, but not on this server yet"),
				 errdetail("%s", error->message),
				 errhint("Do not repeat it.")));
	}
	PG_END_TRY();
}
