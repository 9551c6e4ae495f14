/*-------------------------------------------------------------------------
 *
 * read_snapshot.c
 *		Snapshots that are too old: telling, and replacing them.
 *
 * PostgreSQL takes a statement's snapshot before any hook runs, and the wait for
 * the level comes after that. Under READ COMMITTED the snapshot is then replaced
 * by a new one, where that cannot change anything else's view or pull memory
 * away from under it:
 *
 *	- it is the active snapshot, and
 *	- the query's portal pushed it for this query, or nobody but the top of the
 *	  snapshot stack and this query refers to it. A query that is running around
 *	  this one (a stable function called by it) has its snapshot registered, and
 *	  the portal of a utility command remembers its own: neither is ever touched.
 *
 * Whoever pushed it pops what is on top, whatever that is by then (SPI, SQL
 * functions, COPY, EXPLAIN, CREATE TABLE AS, portals).
 *
 * Where it must stay, it may still be young enough: it holds an entry when it
 * sees the transaction that brought it. Commits become visible in log order, so
 * then it holds all entries below, too.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/xact.h"
#include "tcop/pquery.h"
#include "utils/portal.h"
#include "utils/snapmgr.h"

#include "consistency/read.h"
#include "node/node.h"

/* Longer ago than this a transaction is over for every snapshot there can be. */
#define LONG_AGO	INT64CONST(1000000000)
#define MARGIN	256				/* of the ring, for what is committed while we look */

Portal		read_utility_portal = NULL;

static bool
sees(Snapshot snapshot, FullTransactionId full)
{
	uint64		next = U64FromFullTransactionId(ReadNextFullTransactionId());

	if ((int64) (next - U64FromFullTransactionId(full)) > LONG_AGO)
		return true;
	return !XidInMVCCSnapshot(XidFromFullTransactionId(full), snapshot);
}

bool
read_snapshot_holds(Snapshot snapshot, uint64 index)
{
	uint64		applied = node_applied_index();
	uint64		first;
	FullTransactionId xid;

	if (index <= node_start_index())
		return true;
	if (index > applied || snapshot->snapshot_type != SNAPSHOT_MVCC)
		return false;
	if (applied - index >= NODE_TURN_RING - MARGIN)
	{
		/* long ago: the oldest one that is remembered is younger */
		for (uint64 i = applied - NODE_TURN_RING + 1 + MARGIN; i <= applied; i++)
			if (node_commit_covers(i, &first, &xid))
				return sees(snapshot, xid);
		return true;
	}

	/* the transaction that brought it, with those that came with it */
	for (uint64 i = index; i <= applied; i++)
	{
		if (!node_commit_covers(i, &first, &xid))
			continue;
		if (first <= index)
			return sees(snapshot, xid);
		break;
	}
	/* it has no effect of its own: then the last one before that has */
	for (uint64 i = index - 1; i > node_start_index() && applied - i < NODE_TURN_RING; i--)
		if (node_commit_covers(i, &first, &xid))
			return sees(snapshot, xid);
	return true;
}

/* The portal that runs this very query, and is just starting it. */
static bool
is_portals_own(const QueryDesc *query)
{
	return ActivePortal != NULL && ActivePortal->strategy == PORTAL_ONE_SELECT &&
		ActivePortal->queryDesc == NULL &&
		list_member_ptr(ActivePortal->stmts, query->plannedstmt);
}

bool
read_may_replace(const QueryDesc *query)
{
	Snapshot	snapshot = query->snapshot;

	if (IsolationUsesXactSnapshot() || query->crosscheck_snapshot != InvalidSnapshot ||
		!ActiveSnapshotSet() || snapshot != GetActiveSnapshot())
		return false;
	if (is_portals_own(query))
	{
		/* EXECUTE and DECLARE CURSOR lend their own, which reads nothing by itself */
		bool		held = read_utility_portal != NULL &&
			read_utility_portal->holdSnapshot == snapshot;

		return snapshot->regd_count == (held ? 2 : 1);
	}
	return snapshot->active_count == 1 && snapshot->regd_count == 1 &&
		(ActivePortal == NULL || ActivePortal->portalSnapshot != snapshot);
}

void
read_replace_snapshot(QueryDesc *query)
{
	UnregisterSnapshot(query->snapshot);
	PopActiveSnapshot();
	/* a copy of its own: the command counter in it may be moved */
	PushCopiedSnapshot(GetTransactionSnapshot());
	query->snapshot = RegisterSnapshot(GetActiveSnapshot());
}

bool
read_replace_utility_snapshot(void)
{
	if (IsolationUsesXactSnapshot())
		return false;
	if (ActivePortal != NULL && ActivePortal->portalSnapshot == GetActiveSnapshot())
	{
		PopActiveSnapshot();
		ActivePortal->portalSnapshot = NULL;
		EnsurePortalSnapshotExists();
		return true;
	}
	if (GetActiveSnapshot()->active_count != 1 || GetActiveSnapshot()->regd_count != 0)
		return false;
	PopActiveSnapshot();
	PushCopiedSnapshot(GetTransactionSnapshot());
	return true;
}

void
read_report_too_old(ReadLevel level, uint64 index)
{
	ereport(ERROR,
			(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
			 errmsg("the snapshot is older than read consistency \"%s\" requires",
					read_level_name(level)),
			 errdetail("It was taken before entry " UINT64_FORMAT " of the log was applied here, and has to be kept.",
					   index),
			 IsolationUsesXactSnapshot() ?
			 errhint("The transaction might succeed if retried. Set quorum.read_consistency before BEGIN, or before the transaction's first query.") :
			 errhint("The statement might succeed if retried. A stable function uses the snapshot of the query that calls it: set quorum.read_consistency for that one.")));
}
