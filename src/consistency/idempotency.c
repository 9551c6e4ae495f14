/*-------------------------------------------------------------------------
 *
 * idempotency.c
 *		quorum.idempotency_key: a transaction that is sent again commits once.
 *
 * Table quorum.idempotency has a row for each key that was used. It is a
 * replicated table like others (tables.h), and a transaction with a key inserts
 * its row there before its first change of a replicated table: the claim. So
 * everything that keeps a primary key unique over the cluster keeps the key
 * unique:
 *	- The key is there already: whoever used it has committed, and its changes
 *	  are visible here, since both are one entry of the log. This transaction is a
 *	  repetition: its changes are not made, its COMMIT proposes nothing.
 *	- Another session of this server holds the claim: wait for how it ends.
 *	- A transaction of another member with the same key is ordered first: its
 *	  entry's first record is the claim, so the applier meets ours before it makes
 *	  any other change, and this session gives way with 40001 instead of running
 *	  into what the first one did (a duplicate key of its own tables, say). If this
 *	  one is proposed already, certification refuses it, with 40001 as well. The
 *	  retry finds the key.
 *
 * The claim has to come before any other record of the transaction; a key that
 * is set later is refused at the next change. A savepoint that is rolled back
 * takes a claim along that was made in it, and the next change makes it anew.
 *
 * A repetition runs no change of a permanent table: the plan's ModifyTable
 * nodes return no row, so that no trigger fires, no default is computed and no
 * row counted. Everything else in the transaction runs: it sees what the first
 * one did, if that is within its snapshot.
 *
 * Rows go after quorum.outcome_retention, by a replicated DELETE like any other
 * (outcome_keeper.c); so a key is free again from the same place in the log on
 * for all members.
 *
 * State is private to the process.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/execnodes.h"
#include "nodes/makefuncs.h"
#include "parser/parsetree.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/rel.h"

#include "consistency/idempotency.h"
#include "consistency/token.h"
#include "consistency/write.h"
#include "node/node.h"
#include "replication/capture.h"
#include "replication/guests.h"
#include "replication/keys.h"
#include "replication/session.h"
#include "replication/writeset_build.h"

#define MAX_KEY_BYTES	255

PG_FUNCTION_INFO_V1(quorum_transaction_was_duplicate);

char	   *quorum_idempotency_key = NULL;

typedef enum Claim
{
	CLAIM_NONE,
	CLAIM_MADE,					/* our row is in the table, uncommitted */
	CLAIM_REPEATED				/* somebody else's is, committed */
} Claim;

static Claim claim = CLAIM_NONE;
static int	claim_level = 0;	/* nesting level in which it was made */
static uint64 repeated_upto = 0;	/* the first one's entry is not above this */
static bool claiming = false;	/* our own statements are running */
static bool last_was_duplicate = false;

static SPIPlanPtr insert_plan = NULL;
static SPIPlanPtr select_plan = NULL;

/* ---------- setting ---------- */

static bool
check_key(char **newval, void **extra, GucSource source)
{
	if (*newval != NULL && strlen(*newval) > MAX_KEY_BYTES)
	{
		GUC_check_errdetail("An idempotency key has at most %d bytes.", MAX_KEY_BYTES);
		return false;
	}
	return true;
}

void
idempotency_define_settings(void)
{
	DefineCustomStringVariable("quorum.idempotency_key",
							   "A transaction whose key has committed before is not applied twice.",
							   "Counts at the transaction's first change of a replicated table. Empty: none.",
							   &quorum_idempotency_key, "",
							   PGC_USERSET, 0, check_key, NULL, NULL);
}

static bool
is_asked(void)
{
	return !claiming &&
		(claim != CLAIM_NONE || (quorum_idempotency_key != NULL && quorum_idempotency_key[0] != '\0'));
}

/* ---------- the claim ---------- */

static SPIPlanPtr
prepare(const char *sql, int nargs, Oid *types)
{
	SPIPlanPtr	plan = SPI_prepare(sql, nargs, types);

	if (plan == NULL || SPI_keepplan(plan) != 0)
		elog(ERROR, "could not prepare \"%s\"", sql);
	return plan;
}

static bool
insert_row(Datum key)
{
	Oid			types[] = {TEXTOID, TEXTOID};
	Datum		values[2];
	int			result;

	if (insert_plan == NULL)
		insert_plan = prepare("INSERT INTO quorum.idempotency (key, token, committed_at) "
							  "VALUES ($1, $2, pg_catalog.clock_timestamp()) ON CONFLICT (key) DO NOTHING",
							  2, types);
	values[0] = key;
	values[1] = CStringGetTextDatum(node_token_out(commit_token()));
	result = SPI_execute_plan(insert_plan, values, NULL, false, 0);
	if (result != SPI_OK_INSERT)
		elog(ERROR, "unexpected result %d of a claim", result);
	return SPI_processed == 1;
}

/* False: the row has gone meanwhile, past its retention. */
static bool
find_row(Datum key)
{
	Oid			types[] = {TEXTOID};
	char	   *token_text;
	char	   *when;
	RaftToken	token;

	if (select_plan == NULL)
		select_plan = prepare("SELECT token, committed_at FROM quorum.idempotency WHERE key = $1",
							  1, types);
	if (SPI_execute_plan(select_plan, &key, NULL, false, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not look up an idempotency key");
	if (SPI_processed == 0)
		return false;
	token_text = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1);
	when = SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2);
	if (token_text != NULL && node_token_in(token_text, &token))
		commit_stands_for(token);

	repeated_upto = node_base_index();
	ereport(NOTICE,
			(errmsg("a transaction with idempotency key \"%s\" has committed before; this one has no effect",
					quorum_idempotency_key),
			 errdetail("Its token is %s, it was made at %s.", token_text, when)));
	return true;
}

/* As the owner of the extension's tables; an error leaves restoring to its end. */
static void
make_claim(void)
{
	Oid			user;
	int			sec_context;
	int			nest_level;
	Datum		key;

	GetUserIdAndSecContext(&user, &sec_context);
	SetUserIdAndSecContext(BOOTSTRAP_SUPERUSERID, sec_context | SECURITY_LOCAL_USERID_CHANGE);
	nest_level = NewGUCNestLevel();
	(void) set_config_option("search_path", "pg_catalog", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	key = CStringGetTextDatum(quorum_idempotency_key);
	while (claim == CLAIM_NONE)
	{
		if (insert_row(key))
			claim = CLAIM_MADE;
		else if (find_row(key))
		{
			claim = CLAIM_REPEATED;
			(void) token_key_load();
		}
		CHECK_FOR_INTERRUPTS();
	}
	claim_level = GetCurrentTransactionNestLevel();
	SPI_finish();
	AtEOXact_GUC(true, nest_level);
	SetUserIdAndSecContext(user, sec_context);
}

static void
ensure_claim(void)
{
	if (claim != CLAIM_NONE)
		return;
	if (writeset_has_records() || mixed_has_ordinary_change())
		ereport(ERROR,
				(errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
				 errmsg("quorum.idempotency_key must be set before the first change of a transaction"),
				 errdetail("Changes that were made already could not be told from a repetition.")));
	node_require_member();
	claiming = true;
	PG_TRY();
	{
		make_claim();
	}
	PG_FINALLY();
	{
		claiming = false;
	}
	PG_END_TRY();
}

/* A statement that changes a relation of this kind: true when it is not to. */
static bool
skips(RelKind kind)
{
	if (kind == REL_REPLICATED)
		ensure_claim();
	return claim == CLAIM_REPEATED && kind != REL_FREE;
}

/* ---------- statements ---------- */

static bool
skips_query(QueryDesc *query, int eflags)
{
	const PlannedStmt *stmt = query->plannedstmt;
	bool		skip = false;
	ListCell   *lc;

	if (eflags & EXEC_FLAG_EXPLAIN_ONLY)
		return false;
	foreach(lc, stmt->resultRelations)
		if (skips(keys_rel_kind_locking(rt_fetch(lfirst_int(lc), stmt->rtable)->relid)))
			skip = true;
	return skip;
}

static TupleTableSlot *
no_row(PlanState *state)
{
	return NULL;
}

static void
skip_node(PlanState *state)
{
	ModifyTableState *node = castNode(ModifyTableState, state);

	/* one statement's tables are of one kind, but for partitions, which follow */
	if (node->mt_nrels > 0 &&
		keys_rel_kind(RelationGetRelid(node->resultRelInfo[0].ri_RelationDesc)) != REL_FREE)
		ExecSetExecProcNode(state, no_row);
}

/*
 * The main statement's node is the top of the plan; those of writable WITH
 * clauses are run to their end by ExecutorFinish, from a list.
 */
static void
skip_changes(QueryDesc *query)
{
	ListCell   *lc;

	if (IsA(query->planstate, ModifyTableState))
		skip_node(query->planstate);
	foreach(lc, query->estate->es_auxmodifytables)
		skip_node(lfirst(lc));
}

static bool
skips_target(const RangeVar *target)
{
	Oid			relid;

	if (!is_asked())
		return false;
	relid = RangeVarGetRelid(target, NoLock, true);
	return OidIsValid(relid) && skips(keys_rel_kind_locking(relid));
}

static bool
skips_truncate(const TruncateStmt *stmt)
{
	bool		skip = false;
	ListCell   *lc;

	foreach(lc, stmt->relations)
		if (skips_target(lfirst_node(RangeVar, lc)))
			skip = true;
	return skip;
}

static bool
skips_schema(bool replicated)
{
	return is_asked() && skips(replicated ? REL_REPLICATED : REL_ORDINARY);
}

static PlannedStmt *
copy_nothing(PlannedStmt *pstmt)
{
	PlannedStmt *copy = copyObject(pstmt);
	CopyStmt   *stmt = castNode(CopyStmt, copy->utilityStmt);
	A_Const    *no = makeNode(A_Const);

	no->val.boolval.type = T_Boolean;
	no->val.boolval.boolval = false;
	no->location = -1;
	stmt->whereClause = (Node *) no;
	return copy;
}

/* ---------- ends ---------- */

static void
committed(bool with_entry)
{
	if (claim == CLAIM_REPEATED)
	{
		last_was_duplicate = true;
		/* COMMIT promises the same for the first one */
		write_level_committed(repeated_upto);
		token_repeated(repeated_upto);
	}
	else if (with_entry)
		last_was_duplicate = false;
}

static void
forget(void)
{
	claim = CLAIM_NONE;
	claim_level = 0;
}

static void
subcommit(int nest_level)
{
	if (claim_level == nest_level)
		claim_level = nest_level - 1;
}

static void
subabort(int nest_level)
{
	if (claim_level >= nest_level)
		forget();
}

/*
 * transaction_was_duplicate() - is the current transaction a repetition, or was
 * this session's last one that changed a replicated table, or would have?
 */
Datum
quorum_transaction_was_duplicate(PG_FUNCTION_ARGS)
{
	if (claim != CLAIM_NONE)
		PG_RETURN_BOOL(claim == CLAIM_REPEATED);
	PG_RETURN_BOOL(last_was_duplicate);
}

void
idempotency_install(void)
{
	repetition_guest = (RepetitionGuest) {
		.is_asked = is_asked,
		.skips_query = skips_query,
		.skips_target = skips_target,
		.skips_truncate = skips_truncate,
		.skips_schema = skips_schema,
		.skip_changes = skip_changes,
		.copy_nothing = copy_nothing,
		.committed = committed,
		.forget = forget,
		.subcommit = subcommit,
		.subabort = subabort,
	};
}
