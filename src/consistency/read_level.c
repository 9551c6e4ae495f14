/*-------------------------------------------------------------------------
 *
 * read_level.c
 *		Read levels: settings, and what each of them waits for.
 *
 *	strong				the read index (node/read.h), then its being applied here
 *	causal, read_your_writes	the session's token (token.h) being applied here
 *	bounded_staleness	a read index that was asked for no longer ago than
 *						quorum.max_staleness, by this server's monotonic clock from
 *						the moment of asking; so neither clocks nor messages that were
 *						under way for long can make data look younger than they are
 *	eventual			nothing
 *
 * The wait is an ordinary one: it can be cancelled, and ends when the apply
 * worker needs a lock that the session holds.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/parallel.h"
#include "access/xact.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "utils/guc.h"

#include "compat.h"
#include "consistency/read.h"
#include "consistency/token.h"
#include "node/node.h"
#include "replication/replication.h"
#include "replication/session.h"
#include "replication/tables.h"

int			quorum_read_consistency = READ_EVENTUAL;
int			quorum_max_staleness_ms = 1000;
int			quorum_read_timeout_ms = 10000;

static const struct config_enum_entry levels[] = {
	{"eventual", READ_EVENTUAL, false},
	{"bounded_staleness", READ_BOUNDED, false},
	{"read_your_writes", READ_YOUR_WRITES, false},
	{"causal", READ_CAUSAL, false},
	{"strong", READ_STRONG, false},
	{NULL, 0, false}
};

void
read_define_settings(void)
{
	DefineCustomEnumVariable("quorum.read_consistency",
							 "What a statement's data are at least as new as.",
							 NULL, &quorum_read_consistency, READ_EVENTUAL, levels,
							 PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("quorum.max_staleness",
							"Greatest age of data under bounded_staleness.",
							NULL, &quorum_max_staleness_ms, 1000, 0, INT_MAX,
							PGC_USERSET, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("quorum.read_timeout",
							"Bound on a statement's wait for its level of consistency; 0 waits.",
							"Past it the statement fails; it never answers with older data.",
							&quorum_read_timeout_ms, 10000, 0, INT_MAX,
							PGC_USERSET, GUC_UNIT_MS, NULL, NULL, NULL);
	token_define_settings();
}

const char *
read_level_name(ReadLevel level)
{
	return levels[level].name;
}

bool
read_concerns_us(void)
{
	return node_is_loaded() && !IsParallelWorker() && IsTransactionState() &&
		(MyBackendType == B_BACKEND || MyBackendType == B_BG_WORKER) &&
		!replication_is_applying() && !creating_extension &&
		session_in_quorum_database() && OidIsValid(tables_catalog_oid());
}

/* ---------- errors ---------- */

static void
report_late(ReadLevel level, const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("read consistency \"%s\" could not be reached within quorum.read_timeout (%d ms)",
					read_level_name(level), quorum_read_timeout_ms),
			 errdetail_internal("%s", detail),
			 errhint("Retry when quorum.status shows has_quorum, or read what this server has with quorum.read_consistency = eventual.")));
}

static void
report_no_answer(ReadLevel level)
{
	report_late(level, "No leader confirmed in time that it has a majority behind it.");
}

static void
report_not_applied(ReadLevel level, uint64 index)
{
	report_late(level, psprintf("The tables of this server are at entry " UINT64_FORMAT
								" of the log, entry " UINT64_FORMAT " is asked for.",
								node_applied_index(), index));
}

/* ---------- waiting ---------- */

static void
reach_strong(int64 deadline_us, ReadReached *reached)
{
	if (!node_read_index(deadline_us, &reached->index))
		report_no_answer(reached->level);
	if (!node_wait_applied(reached->index, deadline_us))
		report_not_applied(reached->level, reached->index);
	reached->strong = true;
	reached->as_of_us = reached->begun_us;
}

static void
reach_token(int64 deadline_us, ReadReached *reached)
{
	reached->index = token_required(deadline_us);
	if (!node_wait_applied(reached->index, deadline_us))
		report_not_applied(reached->level, reached->index);
}

/*
 * Applied here, and asked for no longer ago than that? The newest answer may not
 * be applied yet, so the last one that was is remembered.
 */
static bool
is_fresh(int64 max_age_us, ReadReached *reached)
{
	static int64 applied_as_of_us = 0;
	static uint64 applied_index = 0;
	int64		as_of_us;
	uint64		index;

	if (node_freshness(&as_of_us, &index) && as_of_us > applied_as_of_us &&
		node_applied_index() >= index)
	{
		applied_as_of_us = as_of_us;
		applied_index = index;
	}
	if (applied_as_of_us != 0 && node_monotonic_us() - applied_as_of_us <= max_age_us)
	{
		reached->as_of_us = applied_as_of_us;
		reached->index = applied_index;
		return true;
	}
	as_of_us = node_monotonic_us();
	if (node_freshness_is_now(&index) && node_applied_index() >= index)
	{
		reached->as_of_us = as_of_us;
		reached->index = index;
		return true;
	}
	return false;
}

static void
reach_bounded(int64 deadline_us, ReadReached *reached)
{
	int64		max_age_us = (int64) quorum_max_staleness_ms * 1000;

	node_want_freshness(max_age_us, reached->begun_us);
	if (is_fresh(max_age_us, reached))
		return;

	/*
	 * Ask, then wait for what the answer says, as long as that is young enough.
	 * With an age of zero the answer itself is good: it is younger than the
	 * statement.
	 */
	for (;;)
	{
		int64		asked_us = node_monotonic_us();

		if (!node_read_index(deadline_us, &reached->index))
			report_no_answer(reached->level);
		reached->as_of_us = asked_us;
		if (!node_wait_applied(reached->index, deadline_us))
			report_not_applied(reached->level, reached->index);
		if (asked_us >= reached->begun_us && max_age_us == 0)
			return;
		if (node_monotonic_us() - asked_us <= max_age_us || is_fresh(max_age_us, reached))
			return;
		if (deadline_us != 0 && node_monotonic_us() >= deadline_us)
			report_late(reached->level, "What could be had in time was older than quorum.max_staleness.");
	}
}

static void
wait_for_level(ReadReached *reached)
{
	int64		deadline_us = quorum_read_timeout_ms > 0 ?
		reached->begun_us + (int64) quorum_read_timeout_ms * 1000 : 0;

	switch (reached->level)
	{
		case READ_STRONG:
			reach_strong(deadline_us, reached);
			break;
		case READ_CAUSAL:
		case READ_YOUR_WRITES:
			reach_token(deadline_us, reached);
			break;
		case READ_BOUNDED:
			reach_bounded(deadline_us, reached);
			break;
		case READ_EVENTUAL:
			break;
	}
}

void
read_reach(ReadLevel level, ReadReached *reached)
{
	if (!node_is_member())
		node_require_member();
	memset(reached, 0, sizeof(*reached));
	reached->level = level;
	reached->begun_us = node_monotonic_us();

	/*
	 * A cancel that the applier sent must leave as what it is. (An executor hook
	 * sees to that, but no statement is running yet.)
	 */
	PG_TRY();
	{
		wait_for_level(reached);
	}
	PG_CATCH();
	{
		if (geterrcode() == ERRCODE_QUERY_CANCELED && conflict_is_doomed())
		{
			FlushErrorState();
			conflict_report_doomed();
		}
		PG_RE_THROW();
	}
	PG_END_TRY();
	reached->waited_us = node_monotonic_us() - reached->begun_us;
}

bool
read_still_good(ReadLevel level, const ReadReached *reached, Snapshot snapshot)
{
	uint64		index;

	switch (level)
	{
		case READ_STRONG:
			return reached->strong;
		case READ_BOUNDED:
			return reached->as_of_us != 0 &&
				node_monotonic_us() - reached->as_of_us <= (int64) quorum_max_staleness_ms * 1000;
		case READ_CAUSAL:
		case READ_YOUR_WRITES:
			index = token_required(1);
			return index <= reached->index || read_snapshot_holds(snapshot, index);
		case READ_EVENTUAL:
			break;
	}
	return true;
}
