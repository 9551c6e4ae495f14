/*-------------------------------------------------------------------------
 *
 * write.c
 *		quorum.write_consistency: how far a commit is when COMMIT returns.
 *
 *	quorum			durable on a majority (the log)
 *	applied_quorum	and visible on a majority of the voting members
 *	applied_all		and visible on all of them
 *
 * The wait comes after the commit and after all locks were released, so that it
 * holds up nobody else. PostgreSQL has no callback for that moment but the one of
 * resource owners, after the phase in which locks go. Interrupts are held there
 * and an error would be a PANIC or worse, since the transaction is over: a cancel,
 * a terminate or the end of quorum.applied_timeout end the wait with a WARNING,
 * as with PostgreSQL's own synchronous replication. The commit stands.
 *
 * The level that counts is that of the COMMIT: it is read at XACT_EVENT_COMMIT,
 * while SET LOCAL still holds. State is private to the process.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>

#include "miscadmin.h"
#include "tcop/dest.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/resowner.h"

#include "consistency/write.h"
#include "node/node.h"
#include "replication/guests.h"

typedef enum WriteLevel
{
	WRITE_QUORUM,
	WRITE_APPLIED_QUORUM,
	WRITE_APPLIED_ALL
} WriteLevel;

static int	write_consistency = WRITE_QUORUM;
static int	applied_timeout_ms = 10000;

/* what is to be waited for once the locks are gone; 0 nothing */
static uint64 pending_index = 0;
static bool pending_all;
static int	pending_timeout_ms;

static const struct config_enum_entry level_values[] = {
	{"quorum", WRITE_QUORUM, false},
	{"applied_quorum", WRITE_APPLIED_QUORUM, false},
	{"applied_all", WRITE_APPLIED_ALL, false},
	{NULL, 0, false}
};

void
write_define_settings(void)
{
	DefineCustomEnumVariable("quorum.write_consistency",
							 "Where a transaction is in effect when COMMIT returns.",
							 "quorum: durable on a majority; applied_quorum, applied_all: also visible to reads on a majority, or on all members.",
							 &write_consistency, WRITE_QUORUM, level_values,
							 PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("quorum.applied_timeout",
							"How long COMMIT waits for other members under applied_quorum and applied_all.",
							"The commit stands in any case. 0 waits without a bound.",
							&applied_timeout_ms, 10000, 0, INT_MAX,
							PGC_USERSET, GUC_UNIT_MS, NULL, NULL, NULL);
}

void
write_level_committed(uint64 index)
{
	if (write_consistency == WRITE_QUORUM)
		return;
	pending_index = index;
	pending_all = write_consistency == WRITE_APPLIED_ALL;
	pending_timeout_ms = applied_timeout_ms;
}

static void
warn(NodeApplied outcome, const char *message)
{
	const char *whom = pending_all ? "every member" : "a majority of the members";

	switch (outcome)
	{
		case NODE_APPLIED:
			break;
		case NODE_APPLIED_LATE:
			ereport(WARNING,
					(errmsg("the transaction is committed, but was not applied on %s within quorum.applied_timeout (%d ms)",
							whom, pending_timeout_ms),
					 message[0] ? errdetail("Not applied yet on %s.", message) :
					 errdetail("The Raft worker of this server did not answer in time.")));
			break;
		case NODE_APPLIED_INTERRUPTED:
			if (ProcDiePending)
			{
				/* nobody will read it: the connection ends as soon as we are back */
				ereport(WARNING,
						(errcode(ERRCODE_ADMIN_SHUTDOWN),
						 errmsg("canceling the wait for other members and terminating connection due to administrator command"),
						 errdetail("The transaction is committed, but may not be applied on %s yet.", whom)));
				whereToSendOutput = DestNone;
			}
			else
			{
				QueryCancelPending = false;
				ereport(WARNING,
						(errmsg("canceling the wait for other members due to user request"),
						 errdetail("The transaction is committed, but may not be applied on %s yet.", whom)));
			}
			break;
		case NODE_APPLIED_HALTED:
			ereport(WARNING,
					(errmsg("the transaction is committed, but whether it is applied on %s is not known", whom),
					 errdetail("%s.", message)));
			break;
	}
}

/* Called for each owner of the tree, children first: the first call does it. */
static void
resources_released(ResourceReleasePhase phase, bool is_commit, bool is_top_level, void *arg)
{
	uint64		index = pending_index;
	char		message[NODE_DETAIL_LEN];
	NodeApplied outcome;

	if (index == 0 || phase != RESOURCE_RELEASE_AFTER_LOCKS || !is_top_level)
		return;
	pending_index = 0;
	if (!is_commit)
		return;
	outcome = node_wait_applied_elsewhere(index, pending_all,
										  pending_timeout_ms == 0 ? 0 :
										  node_monotonic_us() + (int64) pending_timeout_ms * 1000,
										  message);
	warn(outcome, message);
}

void
write_install(void)
{
	write_guest.committed = write_level_committed;
	RegisterResourceReleaseCallback(resources_released, NULL);
}
