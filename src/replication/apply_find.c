/*-------------------------------------------------------------------------
 *
 * apply_find.c
 *		The row with a given key, found by the index that is its identity, and
 *		locked.
 *
 * The executor's own RelationFindReplTupleByIndex() trusts an index, from
 * PostgreSQL 16 on, only if it is what the table itself calls its replica identity;
 * with any other it compares whole rows, and we have only the key. Ours need not
 * be: the primary key goes first (tables.h), and partitions go by the index of
 * their root.
 *
 * A dirty snapshot shows rows of transactions that are still running: those are
 * waited for, and then the search begins anew.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/skey.h"
#include "access/stratnum.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_index.h"
#include "storage/lmgr.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "compat.h"
#include "replication/apply_map.h"

/* column = value of key, for each column of the index; all are NOT NULL */
static int
make_scan_keys(Relation index, TupleTableSlot *key, ScanKey keys)
{
	int			n = IndexRelationGetNumberOfKeyAttributes(index);

	slot_getallattrs(key);
	for (int i = 0; i < n; i++)
	{
		AttrNumber	attnum = index->rd_index->indkey.values[i];
		Oid			type = index->rd_opcintype[i];
		Oid			operator = get_opfamily_member(index->rd_opfamily[i], type, type,
												   BTEqualStrategyNumber);

		if (!OidIsValid(operator) || attnum <= 0)
			elog(ERROR, "index \"%s\" cannot identify rows", RelationGetRelationName(index));
		ScanKeyEntryInitialize(&keys[i], 0, i + 1, BTEqualStrategyNumber, type,
							   index->rd_indcollation[i], get_opcode(operator),
							   key->tts_values[attnum - 1]);
	}
	return n;
}

/* The transaction that has to end before we know, or none. */
static TransactionId
in_progress(const SnapshotData *snapshot)
{
	return TransactionIdIsValid(snapshot->xmin) ? snapshot->xmin : snapshot->xmax;
}

/* False: it was changed meanwhile. */
static bool
lock_row(Relation rel, TupleTableSlot *row, LockTupleMode mode)
{
	TM_FailureData failure;
	TM_Result	result;

	PushActiveSnapshot(GetLatestSnapshot());
	result = table_tuple_lock(rel, &row->tts_tid, GetActiveSnapshot(), row,
							  GetCurrentCommandId(false), mode, LockWaitBlock, 0, &failure);
	PopActiveSnapshot();
	switch (result)
	{
		case TM_Ok:
			return true;
		case TM_Updated:
		case TM_Deleted:
			return false;
		default:
			elog(ERROR, "unexpected result %d of locking a row of table \"%s\"",
				 (int) result, RelationGetRelationName(rel));
			return false;
	}
}

bool
apply_find_row(Relation rel, Oid indexid, LockTupleMode mode,
			   TupleTableSlot *key, TupleTableSlot *row)
{
	Relation	index = index_open(indexid, RowExclusiveLock);
	ScanKeyData keys[INDEX_MAX_KEYS];
	int			nkeys = make_scan_keys(index, key, keys);
	SnapshotData snapshot;
	IndexScanDesc scan;
	bool		found = false;
	bool		again;

	InitDirtySnapshot(snapshot);
	scan = compat_index_beginscan(rel, index, &snapshot, nkeys);
	do
	{
		TransactionId other = InvalidTransactionId;

		again = false;
		index_rescan(scan, keys, nkeys, NULL, 0);
		found = index_getnext_slot(scan, ForwardScanDirection, row);
		if (!found)
			break;
		ExecMaterializeSlot(row);
		other = in_progress(&snapshot);
		if (TransactionIdIsValid(other))
		{
			XactLockTableWait(other, NULL, NULL, XLTW_None);
			again = true;
		}
		else if (!lock_row(rel, row, mode))
			again = true;
	} while (again);
	index_endscan(scan);
	index_close(index, NoLock);
	return found;
}
