/*-------------------------------------------------------------------------
 *
 * logentry.c
 *		Statements of ours in the log. See logentry.h.
 *
 * The payload is a write set that has one 'X' record with an empty role, and no
 * key or one whose base is above all that ever was: so it is never refused in
 * favour of another one.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "miscadmin.h"

#include "node/node.h"
#include "replication/logentry.h"
#include "replication/replication.h"
#include "replication/writeset.h"
#include "replication/wsput.h"

/* key 0: none. */
static void
put_payload(StringInfo to, const char *statement, bool alone, uint64 key)
{
	initStringInfo(to);
	ws_put_header(to, alone ? WS_FLAG_ALONE : 0, key != 0 ? 1 : 0, PG_INT64_MAX);
	if (key != 0)
	{
		ws_put_fixed(to, key, 8);
		ws_put_fixed(to, 1, 4); /* at the highest base, exclusive */
	}
	ws_put_statement(to, "", "pg_catalog", statement);
}

static uint64
submit(const char *statement, bool alone, uint64 key)
{
	StringInfoData payload;
	NodePart	part;
	NodeAnswer	answer;
	RaftToken	token;

	node_require_member();
	put_payload(&payload, statement, alone, key);
	part.data = payload.data;
	part.len = payload.len;
	token = node_next_token();
	(void) node_submit(token, &part, 1, conflict_is_doomed, &answer);
	pfree(payload.data);
	switch (answer.verdict)
	{
		case NODE_COMMITTED:
			return answer.index;
		case NODE_DOOMED:
			conflict_report_doomed();
		case NODE_WITHDRAWN:
			CHECK_FOR_INTERRUPTS();
			ereport(ERROR,
					(errcode(ERRCODE_QUERY_CANCELED),
					 errmsg("canceling statement due to user request")));
		case NODE_UNKNOWN:
			ereport(ERROR,
					(errcode(ERRCODE_T_R_STATEMENT_COMPLETION_UNKNOWN),
					 errmsg("it is not known whether the cluster took the request"),
					 answer.message[0] ? errdetail("%s", answer.message) : 0,
					 errhint("Ask for it later with SELECT quorum.outcome('%s').",
							 node_token_out(token))));
		case NODE_TOO_LARGE:
			ereport(ERROR,
					(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
					 errmsg("the request is too large for one log entry")));
		case NODE_NOT_MEMBER:
			node_require_member();
			/* FALLTHROUGH */
		default:
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("the cluster has no quorum"),
					 answer.message[0] ? errdetail("%s", answer.message) : 0,
					 errhint("Nothing was changed. Retry when quorum.status shows has_quorum.")));
	}
}

void
logentry_require_applying(const char *function)
{
	if (!replication_is_applying())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("quorum.%s is part of the log and cannot be called", function)));
}

uint64
logentry_submit(const char *statement, bool alone)
{
	return submit(statement, alone, 0);
}

uint64
logentry_submit_key(const char *statement, uint64 key)
{
	return submit(statement, true, key);
}

/* It has the turn: everything below is applied, and it is next. */
uint64
logentry_current_index(void)
{
	Assert(replication_is_applying());
	return node_applied_index() + 1;
}
