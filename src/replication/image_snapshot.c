/*-------------------------------------------------------------------------
 *
 * image_snapshot.c
 *		Which entry of the log a snapshot of this server stands at.
 *
 * Commits of entries become visible in log order, one after the other (turn.c).
 * So a snapshot shows the entries up to some index and none above, and that
 * index is the highest one whose transaction the snapshot sees. Which
 * transaction an entry was is announced before its commit record and remembered
 * for the last NODE_TURN_RING entries (node_commit_xid).
 *
 * Nothing is locked and nobody waits; the snapshot may have been taken at any
 * time before. Entries without effect (changes of leader or membership) that
 * follow belong to the same state, and the highest of those is told: an image at
 * that one needs no configuration of the past. All but the last entry of a batch
 * have no transaction of their own, and need no look.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/transam.h"
#include "fmgr.h"
#include "utils/snapmgr.h"

#include "node/node.h"
#include "replication/replication.h"

PG_FUNCTION_INFO_V1(quorum_snapshot_index);

/* Older than this a transaction is over for every snapshot there can be. */
#define LONG_AGO	INT64CONST(1000000000)

/* Is the transaction committed as far as the snapshot is concerned? */
static bool
is_visible(FullTransactionId full, Snapshot snapshot, uint64 next)
{
	TransactionId xid = XidFromFullTransactionId(full);

	if ((int64) (next - U64FromFullTransactionId(full)) > LONG_AGO)
		return true;
	/* announced, and then aborted: another one follows, or followed */
	return !XidInMVCCSnapshot(xid, snapshot) && TransactionIdDidCommit(xid);
}

/* Entries without effect that follow change nothing: as far as is known. */
static uint64
and_empty_ones(uint64 index)
{
	while (node_commit_is_empty(index + 1))
		index++;
	return index;
}

uint64
replication_snapshot_index(Snapshot snapshot)
{
	uint64		start = node_start_index();
	uint64		highest = node_committing_index();
	uint64		next = U64FromFullTransactionId(ReadNextFullTransactionId());

	Assert(IsMVCCSnapshot(snapshot));
	for (uint64 i = highest; i > start; i--)
	{
		FullTransactionId xid;

		if (highest - i >= NODE_TURN_RING)
			ereport(ERROR,
					(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
					 errmsg("this transaction's snapshot is too old to tell which entry of the log it stands at"),
					 errhint("Begin a new transaction.")));
		if (node_commit_xid(i, &xid) && is_visible(xid, snapshot, next))
			return and_empty_ones(i);
	}
	return and_empty_ones(start);
}

/*
 * _snapshot_index() - the entry that the current snapshot stands at.
 */
Datum
quorum_snapshot_index(PG_FUNCTION_ARGS)
{
	node_require_loaded();
	PG_RETURN_INT64((int64) replication_snapshot_index(GetActiveSnapshot()));
}
