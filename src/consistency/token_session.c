/*-------------------------------------------------------------------------
 *
 * token_session.c
 *		The session's causal token: quorum.causal_token.
 *
 * The setting is a window on what the session has seen (token.h): SET merges a
 * token in, an older one changes nothing, and what is shown and reported to the
 * client is always the newest. So neither ROLLBACK nor RESET takes anything
 * back. The server reports a setting when it is assigned; so it is assigned anew
 * where the token moved: in the callback at the end of a commit, which also puts
 * it into the answer to COMMIT, and after a causal read inside a transaction.
 *
 * A token can be set where tables cannot be read (a connection's options, ALTER
 * ROLE ... SET, a parallel worker). Then only its form is checked, and the rest
 * when the next statement wants to know (pending).
 *
 * All state is private to the process.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/parallel.h"
#include "access/xact.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

#include "clock/clock_shmem.h"
#include "compat.h"
#include "consistency/read.h"
#include "consistency/token.h"
#include "node/node.h"
#include "replication/guests.h"
#include "replication/replication.h"
#include "replication/session.h"

PG_FUNCTION_INFO_V1(quorum_current_token);
PG_FUNCTION_INFO_V1(quorum_wait_for);

#define KEY_POLL_MS		10

/* What the check hook hands to the assign hook. */
typedef struct SetToken
{
	bool		checked;
	CausalToken token;
} SetToken;

static char *quorum_causal_token = NULL;

static uint64 required = 0;
static uint64 seen = 0;
static uint64 seen_committed = 0;	/* by the transaction under way, decided in the log */
static HlcStamp seen_stamp;
static bool report_due = false;
static bool reporting = false;

static CausalToken pending;
static bool has_pending = false;

/* the text for shown_index, once made */
static char shown[TOKEN_TEXT_LEN + 1];
static uint64 shown_index = 0;

/* ---------- checking ---------- */

/* NULL: it is one of this cluster's. Else why not. */
static const char *
find_fault(const CausalToken *token, const uint8 *key)
{
	pg_uuid_t	cluster;

	if (node_cluster_id(&cluster) &&
		memcmp(token->cluster, cluster.data, TOKEN_CLUSTER_LEN) != 0)
		return "It is a token of another cluster.";
	if (!token_is_authentic(token, key))
		return "It was not given out by this cluster.";
	return NULL;
}

static void
report_bad_token(const char *why)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("invalid causal token"),
			 errdetail("%s", why),
			 errhint("Tokens come from quorum.causal_token or quorum.current_token(), on any member of this cluster.")));
}

/*
 * The key has to be there before a token can be checked. Where there is a
 * token there is a key, somewhere in the log below it: wait for that. NULL: it
 * did not come in time.
 */
static const uint8 *
wait_for_key(int64 deadline_us)
{
	const uint8 *key;

	while ((key = token_key_load()) == NULL)
	{
		if (deadline_us != 0 && node_monotonic_us() >= deadline_us)
			return NULL;
		node_pause(KEY_POLL_MS);
	}
	return key;
}

/* ---------- what the session has seen ---------- */

static void
take_in(const CausalToken *token)
{
	required = Max(required, token->index);
	if (token->index > seen)
	{
		seen = token->index;
		seen_stamp = token->stamp;
	}
	/* one that is too far ahead is not merged, and does not matter to the index */
	if (clock_is_loaded())
		(void) clock_observe(token->stamp, 0, NULL);
}

static void
check_pending(int64 deadline_us)
{
	const uint8 *key = wait_for_key(deadline_us);
	const char *fault;

	if (key == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the causal token cannot be checked on this server yet"),
				 errdetail("This member's tables have not reached the entry that holds the cluster's key for tokens."),
				 errhint("Try again, or on another member; quorum.status shows how far this one is.")));
	has_pending = false;
	fault = find_fault(&pending, key);
	if (fault != NULL)
		report_bad_token(fault);
	take_in(&pending);
}

uint64
token_required(int64 deadline_us)
{
	if (has_pending)
		check_pending(deadline_us);
	return required;
}

/* The newest text that can be made; "" when there is none. */
const char *
token_current(void)
{
	const uint8 *key = token_key_cached();
	CausalToken token;
	pg_uuid_t	cluster;

	if (seen == shown_index || key == NULL || !node_cluster_id(&cluster))
		return shown;
	memset(&token, 0, sizeof(token));
	memcpy(token.cluster, cluster.data, TOKEN_CLUSTER_LEN);
	token.index = seen;
	token.stamp = seen_stamp;
	token_encode(&token, key, shown);
	shown_index = seen;
	return shown;
}

/* Assigning it is what makes the server tell the client. */
static void
report(void)
{
	const char *text = token_current();

	report_due = false;
	if (text[0] == '\0')
		return;
	reporting = true;
	PG_TRY();
	{
		SetConfigOption("quorum.causal_token", text, PGC_USERSET, PGC_S_SESSION);
	}
	PG_FINALLY();
	{
		reporting = false;
	}
	PG_END_TRY();
}

void
token_saw(uint64 index)
{
	HlcStamp	stamp;

	if (index <= seen)
		return;
	clock_message_stamp(&stamp);
	seen = index;
	seen_stamp = stamp;
	(void) token_key_load();
	if (IsTransactionBlock() && !IsInParallelMode())
		report();
	else
		report_due = true;
}

/* ---------- commits ---------- */

/*
 * The key is needed when the transaction is over, and tables cannot be read
 * any more then.
 */
static void
before_propose(void)
{
	if (token_key_cached() == NULL && session_in_quorum_database())
		(void) token_key_make();
}

/* The entry stands, whatever becomes of the local commit. */
static void
entry_decided(uint64 index, RaftStamp stamp)
{
	required = Max(required, index);
	if (index > seen)
	{
		seen = index;
		seen_stamp.physical_us = stamp.physical_us;
		seen_stamp.logical = stamp.logical;
		seen_stamp.node = stamp.node;
	}
	seen_committed = index;
}

void
token_repeated(uint64 index)
{
	HlcStamp	stamp;

	required = Max(required, index);
	if (index > seen)
	{
		clock_message_stamp(&stamp);
		seen = index;
		seen_stamp = stamp;
	}
	report_due = true;
}

static void
xact_callback(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_COMMIT:
			if ((report_due || seen_committed != 0) && !IsParallelWorker() &&
				!replication_is_applying())
				report();
			seen_committed = 0;
			break;
		case XACT_EVENT_ABORT:
			seen_committed = 0;
			break;
		default:
			break;
	}
}

/* ---------- the setting ---------- */

static bool
check_token(char **newval, void **extra, GucSource source)
{
	SetToken	set;
	const uint8 *key = NULL;
	const char *fault = NULL;

	if (reporting || (*newval)[0] == '\0')
		return true;
	memset(&set, 0, sizeof(set));
	if (!token_decode(*newval, &set.token))
		fault = "It does not have the form of one.";
	else if (source == PGC_S_SESSION && IsTransactionState() && !IsParallelWorker() &&
			 node_is_member() && session_in_quorum_database())
	{
		key = token_key_load();
		if (key != NULL)
			fault = find_fault(&set.token, key);
		set.checked = key != NULL;
	}
	if (fault != NULL)
	{
		GUC_check_errcode(ERRCODE_INVALID_PARAMETER_VALUE);
		GUC_check_errmsg("invalid causal token");
		GUC_check_errdetail("%s", fault);
		GUC_check_errhint("Tokens come from quorum.causal_token or quorum.current_token(), on any member of this cluster.");
		return false;
	}
	*extra = compat_guc_malloc(sizeof(set));
	if (*extra == NULL)
		return false;
	memcpy(*extra, &set, sizeof(set));
	return true;
}

static void
assign_token(const char *newval, void *extra)
{
	const SetToken *set = extra;

	if (set == NULL || IsParallelWorker())
		return;
	if (set->checked)
		take_in(&set->token);
	else if (set->token.index > required &&
			 (!has_pending || set->token.index > pending.index))
	{
		pending = set->token;
		has_pending = true;
	}
}

static const char *
show_token(void)
{
	const char *text = token_current();

	/* set, but it could not be checked yet */
	if (has_pending && quorum_causal_token && quorum_causal_token[0] != '\0')
		return quorum_causal_token;
	return text;
}

void
token_define_settings(void)
{
	DefineCustomStringVariable("quorum.causal_token",
							   "What this session has seen; set it elsewhere to see that there.",
							   "Moves forward with each commit, and with reads under causal consistency.",
							   &quorum_causal_token, "",
							   PGC_USERSET, GUC_REPORT, check_token, assign_token, show_token);
}

void
token_install(void)
{
	token_guest.before_propose = before_propose;
	token_guest.decided = entry_decided;
	RegisterXactCallback(xact_callback, NULL);
}

/* ---------- SQL ---------- */

/*
 * current_token() - quorum.causal_token.
 */
Datum
quorum_current_token(PG_FUNCTION_ARGS)
{
	(void) token_key_load();
	PG_RETURN_TEXT_P(cstring_to_text(show_token()));
}

static int64
interval_us(const Interval *interval)
{
	double		us = (double) interval->time +
		((double) interval->day + 30.0 * interval->month) * USECS_PER_DAY;

	if (us < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("timeout must not be negative")));
	return us > (double) (PG_INT64_MAX / 4) ? PG_INT64_MAX / 4 : (int64) us;
}

/*
 * wait_for(token, timeout) - has this server applied what the token stands for
 * within timeout (quorum.read_timeout when NULL)?
 */
Datum
quorum_wait_for(PG_FUNCTION_ARGS)
{
	int64		deadline_us = 0;
	CausalToken token;
	const uint8 *key;
	const char *fault;

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	node_require_member();
	if (!session_in_quorum_database())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("only database \"%s\" takes part in the cluster", quorum_database)));
	if (!PG_ARGISNULL(1))
		deadline_us = node_monotonic_us() + interval_us(PG_GETARG_INTERVAL_P(1));
	else if (quorum_read_timeout_ms > 0)
		deadline_us = node_monotonic_us() + (int64) quorum_read_timeout_ms * 1000;
	if (!token_decode(text_to_cstring(PG_GETARG_TEXT_PP(0)), &token))
		report_bad_token("It does not have the form of one.");
	key = wait_for_key(deadline_us);
	if (key == NULL)
		PG_RETURN_BOOL(false);
	fault = find_fault(&token, key);
	if (fault != NULL)
		report_bad_token(fault);
	PG_RETURN_BOOL(node_wait_applied(token.index, deadline_us));
}
