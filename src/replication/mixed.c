/*-------------------------------------------------------------------------
 *
 * mixed.c
 *		Transactions that change replicated tables and others.
 *
 * A replicated transaction commits here without waiting for its own WAL, since
 * the majority's log is its durability; after a crash the log brings back what
 * WAL has lost. It brings back the replicated half only. So a transaction that
 * also changes an ordinary permanent table, or the schema by a statement that
 * does not travel in the log, is refused unless quorum.mixed_transactions says
 * otherwise. Temporary and unlogged tables lose their content in a crash in
 * any case, and are free.
 *
 * Noticed per statement, where it starts: a statement on an ordinary table
 * counts even if it finds no row. State is private to the process: the lowest
 * nesting level at which each half was seen.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "executor/executor.h"
#include "nodes/plannodes.h"
#include "parser/parsetree.h"
#include "utils/lsyscache.h"

#include "node/node.h"
#include "replication/capture.h"
#include "replication/session.h"

static int	replicated_level = 0;	/* 0: none seen */
static int	other_level = 0;
static char other_what[2 * NAMEDATALEN + 32];
static bool warned = false;

static void
complain(void)
{
	if (quorum_mixed_transactions == QUORUM_MIXED_ALLOW || warned)
		return;
	warned = true;
	ereport(quorum_mixed_transactions == QUORUM_MIXED_WARN ? WARNING : ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("a transaction cannot change both replicated tables and %s", other_what),
			 errdetail("After a crash of this server only the replicated changes would be brought back."),
			 errhint("Use two transactions, add the table to the cluster with quorum.add_table, "
					 "run schema changes through quorum.execute_ddl, "
					 "or set quorum.mixed_transactions to \"allow\".")));
}

static void
note(int *level)
{
	int			now = GetCurrentTransactionNestLevel();

	if (*level == 0 || now < *level)
		*level = now;
}

void
mixed_replicated_change(void)
{
	note(&replicated_level);
	if (other_level != 0)
		complain();
}

void
mixed_ordinary_change(Oid relid)
{
	if (other_level == 0)
		snprintf(other_what, sizeof(other_what), "ordinary table \"%s\"", get_rel_name(relid));
	note(&other_level);
	if (replicated_level != 0)
		complain();
}

void
mixed_local_ddl(const char *what)
{
	if (other_level == 0)
		snprintf(other_what, sizeof(other_what), "the schema of this server alone (%s)", what);
	note(&other_level);
	if (replicated_level != 0)
		complain();
}

/* After ExecutorStart, which has locked the tables. */
void
mixed_check_query(QueryDesc *query, int eflags)
{
	const PlannedStmt *stmt = query->plannedstmt;
	ListCell   *lc;

	if (eflags & EXEC_FLAG_EXPLAIN_ONLY)
		return;
	foreach(lc, stmt->resultRelations)
	{
		Oid			relid = rt_fetch(lfirst_int(lc), stmt->rtable)->relid;

		switch (keys_rel_kind(relid))
		{
			case REL_ORDINARY:
				mixed_ordinary_change(relid);
				break;
			case REL_REPLICATED:
				/* fail now rather than with the first row */
				if (!node_is_member())
					node_require_member();
				break;
			case REL_FREE:
				break;
		}
	}
}

bool
mixed_has_ordinary_change(void)
{
	return other_level != 0;
}

void
mixed_reset(void)
{
	replicated_level = 0;
	other_level = 0;
	warned = false;
}

static void
end_level(int *level, int nest_level, bool keep)
{
	if (*level == nest_level && keep)
		*level = nest_level - 1;
	else if (*level >= nest_level)
		*level = 0;
}

void
mixed_subcommit(int nest_level)
{
	end_level(&replicated_level, nest_level, true);
	end_level(&other_level, nest_level, true);
}

void
mixed_subabort(int nest_level)
{
	end_level(&replicated_level, nest_level, false);
	end_level(&other_level, nest_level, false);
}
