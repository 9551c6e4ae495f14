/*-------------------------------------------------------------------------
 *
 * lock_statement.c
 *		A statement of ours as an entry of its own: run by the apply worker of
 *		every member, this one included, at one place in the log.
 *
 * For state that is counted rather than written, such as a latch: such entries
 * carry no keys, so they never conflict, and what they do depends only on the
 * order in which they stand in the log. They are outside the caller's
 * transaction: what was submitted stands when that is rolled back.
 *
 * The statements call functions that refuse to run anywhere but in the apply
 * worker (quorum._in_log), and that must not fail there.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fmgr.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "lock/lock_sql.h"
#include "node/node.h"
#include "replication/replication.h"
#include "replication/wsput.h"

PG_FUNCTION_INFO_V1(quorum_submit_statement);
PG_FUNCTION_INFO_V1(quorum_in_log);
PG_FUNCTION_INFO_V1(quorum_wait_for_entry);

/*
 * _submit_statement(sql) - returns when it was run here; the token of the entry.
 */
Datum
quorum_submit_statement(PG_FUNCTION_ARGS)
{
	char	   *sql = text_to_cstring(PG_GETARG_TEXT_PP(0));
	RaftToken	token;
	StringInfoData payload;
	NodePart	part;
	NodeAnswer	answer;

	lock_require_cluster();
	token = node_next_token();
	initStringInfo(&payload);
	ws_put_header(&payload, 0, 0, 0);
	ws_put_statement(&payload, "", "pg_catalog, pg_temp", sql);
	part.data = payload.data;
	part.len = payload.len;
	(void) node_submit(token, &part, 1, conflict_is_doomed, &answer);
	lock_check_verdict(&answer, token);
	lock_wait_effect(answer.index);
	PG_RETURN_TEXT_P(cstring_to_text(node_token_out(token)));
}

/* _in_log() - is this the apply worker, running what stands in the log? */
Datum
quorum_in_log(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(replication_is_applying());
}

/*
 * _wait_for_entry(until) - returns when some entry was applied since the call,
 * or at that time; NULL: no such bound. For loops that look again and again.
 */
Datum
quorum_wait_for_entry(PG_FUNCTION_ARGS)
{
	int64		deadline_us = 0;

	lock_require_cluster();
	if (!PG_ARGISNULL(0))
	{
		TimestampTz left = PG_GETARG_TIMESTAMPTZ(0) - GetCurrentTimestamp();

		deadline_us = node_monotonic_us() + Max(left, 1);
	}
	(void) node_wait_applied(node_applied_index() + 1, deadline_us);
	PG_RETURN_VOID();
}
