/*-------------------------------------------------------------------------
 *
 * image_stale.c
 *		Snapshots from before the tables were replaced by an image.
 *
 * image_replace.c puts new heaps in the place of old ones, and their rows are the
 * image's transaction's. A snapshot that was taken before that committed sees
 * none of them: to it the table is empty, as with TRUNCATE or a rewriting ALTER
 * TABLE. A session can have one in REPEATABLE READ and above, in a function that
 * keeps its caller's snapshot, in COPY that waited for the table's lock. Such a
 * statement fails with 40001.
 *
 * A server that joins fills its tables in many transactions, table by table, of
 * which a snapshot may show some. image_guard.c keeps everybody out until the
 * last one, which is noted here in the same way: who has a snapshot from before it
 * fails, too.
 *
 * The transaction is noted before its tables are locked for the exchange. Who
 * looks holds a lock on a table: so the exchange of that one is either over, and
 * its transaction noted and ended, or it comes after the statement.
 *
 * Shared state: ImageShared.replaced_xid, atomic; the apply worker writes it. A
 * crash forgets it along with all snapshots.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/xact.h"
#include "nodes/parsenodes.h"
#include "utils/snapmgr.h"

#include "replication/image_internal.h"
#include "replication/image_stale.h"
#include "replication/tables.h"

#define FORGET_AFTER_XIDS	(UINT64CONST(1) << 30)	/* no snapshot lives that long */

void
image_note_replacing(void)
{
	pg_atomic_write_u64(&image_shared->replaced_xid,
						U64FromFullTransactionId(GetTopFullTransactionId()));
	/* the locks that follow are a barrier */
}

static bool
is_from_before(Snapshot snapshot)
{
	uint64		full = image_shared ? pg_atomic_read_u64(&image_shared->replaced_xid) : 0;
	TransactionId xid = XidFromFullTransactionId(FullTransactionIdFromU64(full));

	if (full == 0 || snapshot == NULL || snapshot->snapshot_type != SNAPSHOT_MVCC ||
		TransactionIdPrecedes(xid, snapshot->xmin))
		return false;
	if (U64FromFullTransactionId(ReadNextFullTransactionId()) - full > FORGET_AFTER_XIDS)
		return false;
	return XidInMVCCSnapshot(xid, snapshot) && TransactionIdDidCommit(xid);
}

static void
report(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
			 errmsg("could not read replicated tables with a snapshot of before they were replaced"),
			 errdetail("This server's tables were loaded with an image of another member's meanwhile."),
			 errhint("The transaction might succeed if retried.")));
}

/* After ExecutorStart: the tables are locked. */
void
image_check_query(const PlannedStmt *plan, Snapshot snapshot)
{
	ListCell   *lc;

	if (!is_from_before(snapshot))
		return;
	foreach(lc, plan->rtable)
	{
		const RangeTblEntry *rte = lfirst_node(RangeTblEntry, lc);

		if (rte->rtekind == RTE_RELATION && tables_id_of_oid(rte->relid) != 0)
			report();
	}
}

/* After COPY, which reads by itself, and LOCK TABLE, after which others read. */
void
image_check_snapshot(void)
{
	Snapshot	snapshot = ActiveSnapshotSet() ? GetActiveSnapshot() :
		IsolationUsesXactSnapshot() && FirstSnapshotSet ? GetTransactionSnapshot() : NULL;

	if (is_from_before(snapshot))
		report();
}
