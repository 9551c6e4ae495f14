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

static void
put_varint(StringInfo to, uint64 value)
{
	while (value >= 0x80)
	{
		appendStringInfoCharMacro(to, (char) (value | 0x80));
		value >>= 7;
	}
	appendStringInfoCharMacro(to, (char) value);
}

static void
put_string(StringInfo to, const char *text)
{
	put_varint(to, strlen(text));
	appendStringInfoString(to, text);
}

static void
put_fixed(StringInfo to, uint64 value, int bytes)
{
	for (int i = 0; i < bytes; i++)
		appendStringInfoCharMacro(to, (char) (value >> (8 * i)));
}

/* key 0: none. Layout: writeset.h. */
static void
put_payload(StringInfo to, const char *statement, bool alone, uint64 key)
{
	initStringInfo(to);
	put_fixed(to, WS_VERSION, 1);
	put_fixed(to, WS_KIND_TRANSACTION, 1);
	put_fixed(to, alone ? WS_FLAG_ALONE : 0, 2);
	put_fixed(to, key != 0 ? 1 : 0, 4);
	put_fixed(to, 1, 4);
	put_fixed(to, 0, 4);
	put_fixed(to, PG_INT64_MAX, 8);
	if (key != 0)
	{
		put_fixed(to, key, 8);
		put_fixed(to, 1, 4);	/* at the highest base, exclusive */
	}
	appendStringInfoCharMacro(to, 'X');
	put_string(to, "");
	put_string(to, "pg_catalog");
	put_varint(to, 0);
	put_string(to, statement);
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
