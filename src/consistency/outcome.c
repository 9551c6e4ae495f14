/*-------------------------------------------------------------------------
 *
 * outcome.c
 *		quorum.outcome(): what became of a transaction, by its token.
 *
 * Recent tokens the Raft workers know (worker_outcome.c). Older ones are in the
 * archive (outcome_keeper.c), whose files are read here, in the session:
 *	- found: committed, whatever the state of the cluster;
 *	- denied for all entries up to one: the leader, which knows the entries from
 *	  some point on, can say "aborted" once the two meet, and makes it true;
 *	- neither (this member's archive does not reach back): other members' are asked;
 *	- nobody's reaches back, or the token is older than quorum.outcome_retention:
 *	  unknown.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>

#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"

#include "consistency/outcome.h"
#include "node/node.h"
#include "storage/tokens.h"

#define PATIENCE_US		INT64CONST(30000000)
#define STEP_US			INT64CONST(200000)

PG_FUNCTION_INFO_V1(quorum_outcome);

int			quorum_outcome_retention_s = 7 * 24 * 3600;

void
outcome_define_settings(void)
{
	DefineCustomIntVariable("quorum.outcome_retention",
							"How long outcomes of transactions and idempotency keys are kept.",
							NULL, &quorum_outcome_retention_s,
							7 * 24 * 3600, 1, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);
}

/*
 * What the archives cover is a little behind what the leader has forgotten: have
 * this member's brought up, and wait for that, or a moment for the others'.
 */
static void
wait_for_archive(uint64 index)
{
	int64		until_us = node_monotonic_us() + STEP_US;

	if (node_archived_index() <= index)
		node_want_archived(Max(node_commit_index(), index + 1));
	do
	{
		node_pause(10L);
	} while (node_archived_index() <= index && node_monotonic_us() < until_us);
}

/* COMMITTED, EVIDENCE with *absent_upto, or UNKNOWN. */
static NodeOutcome
ask_archives(RaftToken token, uint64 *absent_upto)
{
	char	   *dir = node_outcome_dir();
	uint64		not_enough = *absent_upto;
	TokResult	result = tok_lookup(rlog_env_posix(), dir,
									(TokToken) {token.node, token.boot, token.counter}, absent_upto);

	pfree(dir);
	switch (result)
	{
		case TOK_FOUND:
			return NODE_OUTCOME_COMMITTED;
		case TOK_ABSENT:
			return NODE_OUTCOME_EVIDENCE;
		default:
			*absent_upto = not_enough;
			return node_ask_archives(token, absent_upto);
	}
}

static NodeOutcome
find_outcome(RaftToken token)
{
	int64		deadline_us = node_monotonic_us() + PATIENCE_US;
	NodeOutcome outcome = node_ask_outcome(token, false, 0);
	uint64		absent_upto = 0;

	if (outcome != NODE_OUTCOME_EVIDENCE && outcome != NODE_OUTCOME_UNKNOWN)
		return outcome;
	for (;;)
	{
		outcome = ask_archives(token, &absent_upto);
		if (outcome != NODE_OUTCOME_EVIDENCE)
			return outcome;
		outcome = node_ask_outcome(token, true, absent_upto);
		if (outcome != NODE_OUTCOME_EVIDENCE)
			return outcome;
		if (node_monotonic_us() >= deadline_us)
			return NODE_OUTCOME_UNKNOWN;
		wait_for_archive(absent_upto);
	}
}

/*
 * outcome(token) - committed, aborted, in_progress or unknown
 */
Datum
quorum_outcome(PG_FUNCTION_ARGS)
{
	char	   *token_text = text_to_cstring(PG_GETARG_TEXT_PP(0));
	RaftToken	token;
	const char *name = "unknown";

	node_require_member();
	if (!node_token_in(token_text, &token))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid transaction token \"%s\"", token_text),
				 errhint("A token is what quorum.transaction_token() or the HINT of an error with SQLSTATE 40003 gave.")));
	switch (find_outcome(token))
	{
		case NODE_OUTCOME_COMMITTED:
			name = "committed";
			break;
		case NODE_OUTCOME_ABORTED:
			name = "aborted";
			break;
		case NODE_OUTCOME_IN_PROGRESS:
			name = "in_progress";
			break;
		case NODE_OUTCOME_UNKNOWN:
		case NODE_OUTCOME_EVIDENCE:
			break;
	}
	PG_RETURN_TEXT_P(cstring_to_text(name));
}
