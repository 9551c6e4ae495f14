/*-------------------------------------------------------------------------
 *
 * tablecopy.c
 *		Sends the rows of a table that is being added, in chunks, while it is
 *		written. See tablecopy.h.
 *
 * A chunk says what to insert, and by their keys what to delete first. Between two
 * snapshots a row that is visible to the older one only is deleted, one that the
 * newer one alone shows is inserted; an updated row is both. All deletions of a
 * round go before its insertions, so that no unique index stands in the way: that
 * is why the table is read twice where there are both.
 *
 * A chunk that may or may not be in the log is sent again: it has a number, and
 * counts once. So changes of the leader do not end a copy.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "access/tableam.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "executor/spi.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "node/node.h"
#include "replication/keys.h"
#include "replication/logentry.h"
#include "replication/ownsql.h"
#include "replication/replication.h"
#include "replication/rowcodec.h"
#include "replication/session.h"
#include "replication/tablecopy.h"
#include "replication/writeset_build.h"
#include "replication/wsput.h"

#define CHUNK_BYTES			(Size) (1024 * 1024)
#define SMALL_PART			64	/* of quorum.max_transaction_size; compressed values grow */
#define SMALL_BYTES			(uint64) (16 * 1024)	/* an empty table has some, too */
#define FEW_CHANGES			1000	/* worth keeping writers out for */
#define MOST_ROUNDS			10
#define QUORUM_PATIENCE_US	INT64CONST(60000000)
#define RETRY_MS			100
#define APPLY_LOOK_US		INT64CONST(500000)
#define NOTICE_EVERY_US		INT64CONST(10000000)
#define LOCK_CLASS			0x5154	/* of advisory locks; SQL knows 1 and 2 */

struct TableCopy
{
	char	   *id;
	Oid			relid;
	char	   *name;
	List	   *relids;			/* those that hold rows */
	Snapshot	sent;			/* what the chunks so far amount to */
	uint32		chunks;
	uint64		rows;
	uint64		bytes;
	uint64		bytes_total;	/* about; as they lie in the table */
	uint64		changed;
	int64		next_notice_us;
};

typedef enum Pass
{
	PASS_ALL,					/* what the newer snapshot shows */
	PASS_DELETED,				/* what it does not show any more */
	PASS_ADDED					/* what the older one did not show */
} Pass;

const char *
tablecopy_id(const TableCopy *copy)
{
	return copy->id;
}

uint32
tablecopy_chunks(const TableCopy *copy)
{
	return copy->chunks;
}

uint64
tablecopy_key(const char *id)
{
	return hash_bytes_extended((const unsigned char *) id, (int) strlen(id), UINT64CONST(0x7067636f7079));
}

/* Until the end of the transaction, however it comes about. */
bool
tablecopy_lock(const char *id)
{
	uint64		key = tablecopy_key(id);
	LOCKTAG		tag;

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, (uint32) (key >> 32), (uint32) key, LOCK_CLASS);
	return LockAcquire(&tag, ExclusiveLock, false, true) != LOCKACQUIRE_NOT_AVAIL;
}

/* ---------- the table ---------- */

static uint64
table_bytes(Oid relid)
{
	OwnSql		saved;
	Oid			types[] = {OIDOID};
	Datum		values[] = {ObjectIdGetDatum(relid)};
	uint64		bytes;

	ownsql_begin(&saved);
	/* an ordinary table is no tree */
	ownsql_run("SELECT (pg_table_size($1) + coalesce((SELECT sum(pg_table_size(relid)) FROM pg_partition_tree($1)), 0))::bigint",
			   1, types, values, NULL, SPI_OK_SELECT);
	bytes = strtoull(ownsql_text(0, 1), NULL, 10);
	ownsql_end(&saved);
	return bytes;
}

bool
tablecopy_is_due(Relation rel)
{
	return table_bytes(RelationGetRelid(rel)) >
		Max((uint64) quorum_max_transaction_size_kb * 1024 / SMALL_PART, SMALL_BYTES);
}

static List *
relations_with_rows(Oid relid, LOCKMODE mode)
{
	List	   *result = NIL;
	List	   *all;
	ListCell   *lc;

	if (get_rel_relkind(relid) != RELKIND_PARTITIONED_TABLE)
		return list_make1_oid(relid);
	all = find_all_inheritors(relid, mode, NULL);
	foreach(lc, all)
		if (RELKIND_HAS_STORAGE(get_rel_relkind(lfirst_oid(lc))))
			result = lappend_oid(result, lfirst_oid(lc));
	return result;
}

/* Versions that a registered snapshot shows may be removed under this setting (up to PostgreSQL 16). */
static bool
may_lose_old_versions(void)
{
	const char *threshold = GetConfigOption("old_snapshot_threshold", true, false);

	return threshold != NULL && strcmp(threshold, "-1") != 0;
}

/* ---------- entries ---------- */

/* Up to where the bytes of the chunk come. Layout: writeset.h. */
static void
put_chunk_head(StringInfo to, const TableCopy *copy, uint32 nrows, Size len)
{
	initStringInfo(to);
	ws_put_header(to, 0, 0, 0);
	appendStringInfoCharMacro(to, 'C');
	ws_put_string(to, copy->id);
	ws_put_varint(to, copy->chunks + 1);
	ws_put_varint(to, nrows);
	ws_put_varint(to, len);
}

static void
complain_of_size(const TableCopy *copy)
{
	ereport(ERROR,
			(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
			 errmsg("a row of table \"%s\" exceeds quorum.max_transaction_size (%d kB)",
					copy->name, quorum_max_transaction_size_kb),
			 errhint("Let a superuser raise quorum.max_transaction_size.")));
}

/* Is in the log when it returns its index; perhaps twice. */
static uint64
submit_chunk(const TableCopy *copy, const NodePart *parts, int nparts)
{
	int64		deadline_us = 0;
	NodeAnswer	answer;

	for (;;)
	{
		switch (node_submit(node_next_token(), parts, nparts, conflict_is_doomed, &answer))
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
			case NODE_TOO_LARGE:
				complain_of_size(copy);
			case NODE_UNKNOWN:
			case NODE_UNAVAILABLE:
				break;
			case NODE_NOT_MEMBER:
				node_require_member();
				/* FALLTHROUGH */
			default:
				elog(ERROR, "unexpected verdict on a chunk of rows");
		}
		if (deadline_us == 0)
			deadline_us = node_monotonic_us() + QUORUM_PATIENCE_US;
		else if (node_monotonic_us() > deadline_us)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("the cluster has no quorum"),
					 answer.message[0] ? errdetail("%s", answer.message) : 0,
					 errhint("Nothing was changed. Retry when quorum.status shows has_quorum.")));
		node_pause(RETRY_MS);
	}
}

/* Not ahead of this member's own apply worker, which may want us out of its way. */
static void
wait_applied(uint64 index)
{
	while (!node_wait_applied(index, node_monotonic_us() + APPLY_LOOK_US))
	{
		CHECK_FOR_INTERRUPTS();
		if (conflict_is_doomed())
			conflict_report_doomed();
		node_require_member();
	}
}

static char *
pretty_bytes(uint64 bytes)
{
	return text_to_cstring(DatumGetTextPP(DirectFunctionCall1(pg_size_pretty, Int64GetDatum((int64) bytes))));
}

static void
say_how_far(TableCopy *copy)
{
	if (node_monotonic_us() < copy->next_notice_us)
		return;
	copy->next_notice_us = node_monotonic_us() + NOTICE_EVERY_US;
	ereport(NOTICE,
			(errmsg("table \"%s\": " UINT64_FORMAT " rows copied (%s; the table has %s)", copy->name,
					copy->rows, pretty_bytes(copy->bytes), pretty_bytes(copy->bytes_total))));
}

static void
flush_chunk(TableCopy *copy)
{
	StringInfoData head;
	NodePart	parts[2];
	Size		len;
	uint32		nrows;
	const char *data = writeset_diverted(&len, &nrows);

	if (nrows == 0)
		return;
	if (len > (Size) quorum_max_transaction_size_kb * 1024)
		complain_of_size(copy);
	put_chunk_head(&head, copy, nrows, len);
	parts[0].data = head.data;
	parts[0].len = head.len;
	parts[1].data = data;
	parts[1].len = len;
	wait_applied(submit_chunk(copy, parts, lengthof(parts)));
	pfree(head.data);
	writeset_divert_empty();
	copy->chunks++;
	copy->rows += nrows;
	copy->bytes += len;
	say_how_far(copy);
}

/* ---------- rows ---------- */

/* Does this version matter to the pass? What concerns the other one is counted. */
static bool
is_wanted(Relation rel, TupleTableSlot *slot, Pass pass, Snapshot before, Snapshot after, uint64 *others)
{
	bool		was;
	bool		is;

	if (pass == PASS_ALL)
		return true;
	was = table_tuple_satisfies_snapshot(rel, slot, before);
	is = table_tuple_satisfies_snapshot(rel, slot, after);
	if (was == is)
		return false;
	if (was == (pass == PASS_DELETED))
		return true;
	(*others)++;
	return false;
}

static uint64
send_relation(TableCopy *copy, Oid relid, Pass pass, Snapshot after, uint64 *others)
{
	Relation	rel = table_open(relid, AccessShareLock);
	RelPlan    *plan = keys_plan_of_new(rel);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	TableScanDesc scan = table_beginscan(rel, pass == PASS_ALL ? after : SnapshotAny, 0, NULL);
	MemoryContext per_row = AllocSetContextCreate(CurrentMemoryContext,
												  "rows of a new replicated table",
												  ALLOCSET_DEFAULT_SIZES);
	Size		chunk_bytes = Min(CHUNK_BYTES, (Size) quorum_max_transaction_size_kb * 1024 / 4);
	uint64		n = 0;

	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		MemoryContext old;
		Size		len;
		uint32		nrows;

		CHECK_FOR_INTERRUPTS();
		if (!is_wanted(rel, slot, pass, copy->sent, after, others))
			continue;
		old = MemoryContextSwitchTo(per_row);
		if (pass == PASS_DELETED)
			rowcodec_delete(plan, slot, 0);
		else
			rowcodec_insert(plan, slot, 0);
		MemoryContextSwitchTo(old);
		MemoryContextReset(per_row);
		n++;
		(void) writeset_diverted(&len, &nrows);
		if (len >= chunk_bytes)
			flush_chunk(copy);
	}
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	MemoryContextDelete(per_row);
	keys_forget_plan_of_new(plan);
	table_close(rel, NoLock);
	return n;
}

static uint64
send_pass(TableCopy *copy, Pass pass, Snapshot after, uint64 *others)
{
	uint64		n = 0;
	ListCell   *lc;

	writeset_divert();
	foreach(lc, copy->relids)
		n += send_relation(copy, lfirst_oid(lc), pass, after, others);
	flush_chunk(copy);
	writeset_divert_end();
	return n;
}

/* From what has been sent to what is there now. Returns how many rows that was. */
static uint64
send_changes(TableCopy *copy)
{
	Snapshot	now = RegisterSnapshot(GetLatestSnapshot());
	uint64		added = 0;
	uint64		n;

	n = send_pass(copy, PASS_DELETED, now, &added);
	if (added > 0)
	{
		uint64		deleted = 0;

		n += send_pass(copy, PASS_ADDED, now, &deleted);
	}
	UnregisterSnapshot(copy->sent);
	copy->sent = now;
	copy->changed += n;
	return n;
}

/* ---------- the copy ---------- */

static void
announce(const TableCopy *copy, Relation rel)
{
	TimestampTz now = GetCurrentTimestamp();
	int64		epoch_us = now + (int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY;
	uint64		index;

	index = logentry_submit(psprintf("SELECT quorum._copy_begin(%s, %u, %s, %s, " UINT64_FORMAT ", to_timestamp(" INT64_FORMAT "::float8 / 1000000))",
									 quote_literal_cstr(copy->id), node_id(),
									 quote_literal_cstr(get_namespace_name(RelationGetNamespace(rel))),
									 quote_literal_cstr(copy->name), copy->bytes_total,
									 epoch_us), false);
	wait_applied(index);
}

TableCopy *
tablecopy_begin(Relation rel)
{
	TableCopy  *copy = palloc0_object(TableCopy);
	uint64		others = 0;
	uint64		before = PG_UINT64_MAX;

	copy->id = node_token_out(node_next_token());
	copy->relid = RelationGetRelid(rel);
	copy->name = pstrdup(RelationGetRelationName(rel));
	copy->bytes_total = table_bytes(copy->relid);
	if (may_lose_old_versions())
		LockRelationOid(copy->relid, ShareRowExclusiveLock);
	copy->relids = relations_with_rows(copy->relid, may_lose_old_versions() ? ShareRowExclusiveLock : ShareUpdateExclusiveLock);
	copy->next_notice_us = node_monotonic_us() + NOTICE_EVERY_US;
	if (!tablecopy_lock(copy->id))
		elog(ERROR, "somebody holds the lock of copy %s", copy->id);
	announce(copy, rel);

	copy->sent = RegisterSnapshot(GetLatestSnapshot());
	(void) send_pass(copy, PASS_ALL, copy->sent, &others);
	for (int round = 0; round < MOST_ROUNDS; round++)
	{
		uint64		n = send_changes(copy);

		/* it does not get less: writers are as fast as we are */
		if (n < FEW_CHANGES || n > before / 2)
			break;
		before = n;
	}
	return copy;
}

/* The copy is still what we made it: nobody has ended it for us. */
static void
check_chunks(const TableCopy *copy)
{
	OwnSql		saved;
	Oid			types[] = {TEXTOID};
	Datum		values[] = {CStringGetTextDatum(copy->id)};
	uint64		n;

	ownsql_begin(&saved);
	ownsql_look("SELECT count(*) FROM quorum.table_copy_chunk WHERE copy_id = $1 "
				"AND EXISTS (SELECT FROM quorum.table_copy c WHERE c.copy_id = $1 AND phase = 'copying')", 1, types, values);
	n = strtoull(ownsql_text(0, 1), NULL, 10);
	ownsql_end(&saved);
	if (n != copy->chunks)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("the copy of table \"%s\" was ended by another member", copy->name),
				 errhint("Call quorum.add_table again.")));
}

void
tablecopy_finish(TableCopy *copy)
{
	LockRelationOid(copy->relid, ShareRowExclusiveLock);
	(void) relations_with_rows(copy->relid, ShareRowExclusiveLock);
	(void) send_changes(copy);
	UnregisterSnapshot(copy->sent);
	copy->sent = NULL;

	/* first the key: an end that we do not see yet is above its base */
	writeset_add_key(tablecopy_key(copy->id), true, node_base_index(),
					 writeset_origin(copy->relid, InvalidOid, KEY_TABLE));
	check_chunks(copy);
	tablecopy_note_added(copy->id);
	ereport(NOTICE,
			(errmsg("table \"%s\": " UINT64_FORMAT " rows (%s) copied to all members, " UINT64_FORMAT " of them changed meanwhile",
					copy->name, copy->rows, pretty_bytes(copy->bytes), copy->changed)));
}
