/*-------------------------------------------------------------------------
 *
 * sequences.c
 *		Sequences owned by replicated tables: no value twice, on no two members
 *		and after no crash.
 *
 * With S = quorum.sequence_stride, a member with slot k hands out the values v
 * with v mod S = k: increment S, and a next value in its own class. START is
 * in the class as well, so that RESTART, TRUNCATE ... RESTART IDENTITY included,
 * does not leave it.
 *
 * Crash: commits are asynchronous, so the WAL of nextval() may be lost while the
 * rows come back from the log. And a proposal of this server's former life may
 * still be on its way. So after each start of the server there is a gate before
 * the first statement that changes a replicated table: whoever comes to it
 * proposes an entry without content, the barrier. Once that is applied here
 * everything older is, and owned sequences are set past every key of their
 * tables (sequences_gate.c). The same gate serves a new member that inherits the
 * slot of one that has gone.
 *
 * Values that are in no row any more are not handed out again either: how far
 * each slot's went is in the log (sequences_claim.c).
 *
 * A value that a user chose may lie far above those of the sequence. It is
 * passed too, unless that would use up half of the sequence's range; then only
 * what may have come from the sequence itself is passed.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_sequence.h"
#include "catalog/pg_type.h"
#include "commands/sequence.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "parser/parse_node.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "compat.h"
#include "node/node.h"
#include "replication/apply_internal.h"
#include "replication/ddl.h"
#include "replication/sequences.h"
#include "replication/sequences_internal.h"
#include "replication/tables.h"

#define LOST_VALUES	INT64CONST(1000000) /* that a crash may have made the sequence forget */

/* ---------- as superuser, by SQL ---------- */

typedef struct Elevated
{
	Oid			user;
	int			sec_context;
	int			nest_level;
} Elevated;

/* An error leaves the way back to the end of the (sub)transaction. */
static void
elevate(Elevated *saved)
{
	GetUserIdAndSecContext(&saved->user, &saved->sec_context);
	SetUserIdAndSecContext(BOOTSTRAP_SUPERUSERID,
						   saved->sec_context | SECURITY_LOCAL_USERID_CHANGE);
	saved->nest_level = NewGUCNestLevel();
	(void) set_config_option("search_path", "pg_catalog", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	PushActiveSnapshot(GetLatestSnapshot());
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
}

static void
descend(const Elevated *saved)
{
	SPI_finish();
	PopActiveSnapshot();
	AtEOXact_GUC(true, saved->nest_level);
	SetUserIdAndSecContext(saved->user, saved->sec_context);
}

static char *
qualified(Oid relid)
{
	return quote_qualified_identifier(get_namespace_name(get_rel_namespace(relid)),
									  get_rel_name(relid));
}

/* One row of one or two columns; false when the first is NULL. */
static bool
query_int64(const char *sql, int64 *value, bool *flag)
{
	bool		isnull;
	Datum		datum;

	if (SPI_execute(sql, true, 1) != SPI_OK_SELECT || SPI_processed != 1)
		elog(ERROR, "could not run \"%s\"", sql);
	datum = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	if (isnull)
		return false;
	*value = DatumGetInt64(datum);
	if (flag)
		*flag = DatumGetBool(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 2, &isnull));
	return true;
}

/* ---------- one sequence ---------- */

typedef struct OwnedSequence
{
	Oid			seq;
	Oid			table;
	AttrNumber	column;
	FormData_pg_sequence form;
	int64		last;			/* highest value handed out, or one below the first */
	int64		next;			/* what nextval() would give */
} OwnedSequence;

static void
load_sequence(OwnedSequence *s)
{
	HeapTuple	tuple = SearchSysCache1(SEQRELID, ObjectIdGetDatum(s->seq));
	bool		is_called = false;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for sequence %u", s->seq);
	s->form = *(Form_pg_sequence) GETSTRUCT(tuple);
	ReleaseSysCache(tuple);
	if (!query_int64(psprintf("SELECT last_value, is_called FROM %s", qualified(s->seq)),
					 &s->last, &is_called))
		elog(ERROR, "sequence %u has no last value", s->seq);
	s->next = is_called ? s->last + s->form.seqincrement : s->last;
	if (!is_called)
		s->last--;
}

static bool
owned_by(Oid seq, Oid *table, AttrNumber *column)
{
	int32		attnum;

	if (!sequenceIsOwned(seq, DEPENDENCY_AUTO, table, &attnum) &&
		!sequenceIsOwned(seq, DEPENDENCY_INTERNAL, table, &attnum))
		return false;
	*column = (AttrNumber) attnum;
	return true;
}

/* A replicated table's? */
bool
sequences_is_ours(Oid seq)
{
	Oid			table;
	AttrNumber	column;

	return OidIsValid(seq) && owned_by(seq, &table, &column) && tables_id_of_oid(table) != 0;
}

/* Smallest value above `last` in this member's class. */
static int64
next_in_class(int64 last, int slot)
{
	int64		stride = quorum_sequence_stride;
	int64		value = last + 1;
	int64		off = (slot - value % stride) % stride;

	return value + (off < 0 ? off + stride : off);
}

static bool
has_integer_column(const OwnedSequence *s)
{
	Oid			type = get_atttype(s->table, s->column);

	return type == INT2OID || type == INT4OID || type == INT8OID;
}

/* Highest key in the table that the sequence must not hand out (again). */
static int64
highest_key(const OwnedSequence *s)
{
	char	   *column;
	char	   *table;
	int64		highest;
	int64		half = s->form.seqmin / 2 + s->form.seqmax / 2;
	int64		reach;
	int64		found;

	if (!has_integer_column(s))
		return s->last;
	table = qualified(s->table);
	column = pstrdup(quote_identifier(get_attname(s->table, s->column, false)));
	if (!query_int64(psprintf("SELECT max(%s)::int8 FROM %s", column, table), &highest, NULL) ||
		highest <= s->last)
		return s->last;
	if (highest <= half)
		return highest;

	/* chosen by somebody: only what may have come from here, step by step */
	highest = s->last;
	reach = LOST_VALUES * quorum_sequence_stride;
	while (highest < s->form.seqmax - reach &&
		   query_int64(psprintf("SELECT max(%s)::int8 FROM %s WHERE %s > " INT64_FORMAT
								" AND %s <= " INT64_FORMAT,
								column, table, column, highest, column, highest + reach),
					   &found, NULL))
		highest = found;
	return highest;
}

static void
alter(Oid seq, int64 increment, int64 start, int64 restart)
{
	AlterSeqStmt *stmt = makeNode(AlterSeqStmt);
	ParseState *pstate = make_parsestate(NULL);

	stmt->sequence = makeRangeVar(get_namespace_name(get_rel_namespace(seq)),
								  get_rel_name(seq), -1);
	/* an integer constant of any size is a Float to the grammar */
	stmt->options = list_make3(makeDefElem("increment", (Node *) makeFloat(psprintf(INT64_FORMAT, increment)), -1),
							   makeDefElem("start", (Node *) makeFloat(psprintf(INT64_FORMAT, start)), -1),
							   makeDefElem("restart", (Node *) makeFloat(psprintf(INT64_FORMAT, restart)), -1));
	ddl_depth++;
	PG_TRY();
	{
		(void) AlterSequence(pstate, stmt);
	}
	PG_FINALLY();
	{
		ddl_depth--;
	}
	PG_END_TRY();
	free_parsestate(pstate);
	CommandCounterIncrement();
}

static void
refuse(const OwnedSequence *s, const char *why)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("sequence \"%s\" of column \"%s\" of table \"%s\" cannot be shared out among the members",
					get_rel_name(s->seq), get_attname(s->table, s->column, false),
					get_rel_name(s->table)),
			 errdetail_internal("%s", why),
			 errhint("Give it INCREMENT 1 and NO CYCLE, or drop it and fill the column otherwise.")));
}

static int
my_slot(void)
{
	int			slot = node_slot();

	if (slot < 0 || slot >= quorum_sequence_stride)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("this member has no slot for sequence values yet")));
	return slot;
}

/* Past what others have handed out in this slot, and we before a crash. In SPI. */
static int64
past_claims(const OwnedSequence *s, int slot, int64 value)
{
	int64		claimed = sequences_claimed(s->seq, &s->form, slot, false);

	value = Max(value, claimed);
	claimed = apply_shared->crashed ? sequences_claimed(s->seq, &s->form, slot, true) : PG_INT64_MIN;
	/* far above, it is older than a RESTART or a setval() */
	if (claimed > value &&
		(double) claimed - (double) s->last <= Min((double) LOST_VALUES * quorum_sequence_stride,
												   ((double) s->form.seqmax - (double) s->form.seqmin) / 4))
		value = claimed;
	return value;
}

/* Give the sequence its class, or bring it back there. */
static void
adopt_one(OwnedSequence *s, int slot)
{
	int64		next;
	int64		start;

	load_sequence(s);
	if (s->form.seqcycle)
		refuse(s, "It cycles, and would hand out values again.");
	if (s->form.seqincrement != 1 && s->form.seqincrement != quorum_sequence_stride)
		refuse(s, "Its increment is not 1.");
	next = next_in_class(Max(highest_key(s), sequences_claimed(s->seq, &s->form, slot, false)), slot);
	start = next_in_class(s->form.seqstart - 1, slot);
	if (next > s->form.seqmax || start > s->form.seqmax)
		ereport(ERROR,
				(errcode(ERRCODE_SEQUENCE_GENERATOR_LIMIT_EXCEEDED),
				 errmsg("sequence \"%s\" has no values left for this member", get_rel_name(s->seq)),
				 errdetail("Each member hands out every %dth value.", quorum_sequence_stride),
				 errhint("Use a larger type.")));
	alter(s->seq, quorum_sequence_stride, start, next);
}

static List *
owned_sequences(Oid table)
{
	List	   *result = NIL;
	ListCell   *lc;

	foreach(lc, getOwnedSequences(table))
	{
		OwnedSequence *s = palloc0_object(OwnedSequence);

		s->seq = lfirst_oid(lc);
		if (owned_by(s->seq, &s->table, &s->column))
			result = lappend(result, s);
	}
	return result;
}

static void
adopt(Oid relid, bool only_new)
{
	List	   *sequences = owned_sequences(relid);
	Elevated	saved;
	ListCell   *lc;
	int			slot;

	if (sequences == NIL)
		return;
	slot = my_slot();
	elevate(&saved);
	foreach(lc, sequences)
	{
		OwnedSequence *s = lfirst(lc);

		if (only_new)
		{
			load_sequence(s);
			if (s->form.seqincrement == quorum_sequence_stride)
				continue;
		}
		adopt_one(s, slot);
	}
	descend(&saved);
}

void
sequences_adopt(Oid relid)
{
	adopt(relid, false);
}

void
sequences_adopt_new(Oid relid)
{
	adopt(relid, true);
}

void
sequences_release(Oid relid)
{
	List	   *sequences = owned_sequences(relid);
	Elevated	saved;
	ListCell   *lc;

	if (sequences == NIL)
		return;
	elevate(&saved);
	foreach(lc, sequences)
	{
		OwnedSequence *s = lfirst(lc);
		int64		next;

		load_sequence(s);
		if (s->form.seqincrement != quorum_sequence_stride)
			continue;
		next = highest_key(s) + 1;
		alter(s->seq, 1, Max(s->form.seqmin, s->form.seqstart - s->form.seqstart % quorum_sequence_stride),
			  Min(next, s->form.seqmax));
	}
	descend(&saved);
}

/*
 * Defaults that draw from a sequence which no replicated table owns: each member
 * has that one for itself, and they give out the same values.
 */
void
sequences_warn_of_others(Oid relid)
{
	Elevated	saved;

	elevate(&saved);
	if (SPI_execute(psprintf("SELECT s.oid, a.attname::text FROM pg_attrdef d"
							 " JOIN pg_depend p ON p.classid = 'pg_attrdef'::regclass AND p.objid = d.oid"
							 " AND p.refclassid = 'pg_class'::regclass"
							 " JOIN pg_class s ON s.oid = p.refobjid AND s.relkind = 'S'"
							 " JOIN pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum"
							 " WHERE d.adrelid = %u ORDER BY d.adnum", relid),
					true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not look at the defaults of table %u", relid);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		Oid			seq = (Oid) strtoul(SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1), NULL, 10);
		Oid			table;
		AttrNumber	column;

		if (owned_by(seq, &table, &column) && (table == relid || tables_id_of_oid(table) != 0))
			continue;
		ereport(WARNING,
				(errmsg("column \"%s\" of replicated table \"%s\" draws from sequence \"%s\", which no replicated table owns",
						SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 2),
						get_rel_name(relid), get_rel_name(seq)),
				 errdetail("Each member has a sequence of its own there, and they give out the same values."),
				 errhint("Use ALTER SEQUENCE ... OWNED BY before the table becomes a replicated one.")));
	}
	descend(&saved);
}

/* ---------- all of them ---------- */

/* Moves the next value up into the class and past all keys; never down. */
static void
fix_one(OwnedSequence *s, int slot, bool past_keys)
{
	int64		next;
	int64		highest;
	int64		passed;

	load_sequence(s);
	if (s->form.seqincrement != quorum_sequence_stride)
		return;					/* never shared out: not ours */
	highest = past_keys ? highest_key(s) : s->last;
	passed = past_keys ? past_claims(s, slot, highest) : highest;
	next = passed < s->form.seqmax ? next_in_class(passed, slot) : PG_INT64_MAX;
	if (next == s->next)
		return;
	if (next > s->form.seqmax)
	{
		if (passed > highest)
			(void) DirectFunctionCall3(setval3_oid, ObjectIdGetDatum(s->seq),
									   Int64GetDatum(s->form.seqmax), BoolGetDatum(true));
		ereport(LOG,
				(errmsg("pg_quorum: sequence \"%s\" has no values left for this member",
						get_rel_name(s->seq))));
		return;
	}
	(void) DirectFunctionCall3(setval3_oid, ObjectIdGetDatum(s->seq), Int64GetDatum(next),
							   BoolGetDatum(false));
}

/*
 * Locks of the sequence until it is done, so that of two who fix it the second
 * one sees what the first one set. wait false: not now, if that would wait.
 */
static bool
fix_table(Oid relid, int slot, bool past_keys, bool wait)
{
	ListCell   *lc;

	if (wait)
		LockRelationOid(relid, AccessShareLock);
	else if (!ConditionalLockRelationOid(relid, AccessShareLock))
		return false;
	foreach(lc, owned_sequences(relid))
	{
		OwnedSequence *s = lfirst(lc);

		if (wait)
			LockRelationOid(s->seq, ShareRowExclusiveLock);
		else if (!ConditionalLockRelationOid(s->seq, ShareRowExclusiveLock))
			return false;
		fix_one(s, slot, past_keys);
		UnlockRelationOid(s->seq, ShareRowExclusiveLock);
	}
	return true;
}

/* See sequences_internal.h. */
void
sequences_into_class(Oid seq)
{
	OwnedSequence s = {.seq = seq};
	Elevated	saved;

	if (node_slot() < 0 || !owned_by(seq, &s.table, &s.column))
		return;
	elevate(&saved);
	fix_one(&s, my_slot(), false);
	descend(&saved);
}

/* See sequences_internal.h. In a transaction. */
void
sequences_fix(Oid relid)
{
	Elevated	saved;

	elevate(&saved);
	(void) fix_table(relid, my_slot(), true, true);
	descend(&saved);
}

bool
sequences_fix_all(bool past_keys, bool wait, bool (*skip) (uint32 table_id),
				  void (*done) (uint32 table_id))
{
	Elevated	saved;
	List	   *tables = NIL;
	List	   *ids = NIL;
	ListCell   *lc;
	ListCell   *lc2;
	int			slot = my_slot();
	bool		all = true;

	if (!OidIsValid(tables_catalog_oid()))
		return true;
	elevate(&saved);
	if (SPI_execute("SELECT c.oid, r.table_id FROM quorum.replicated_table r JOIN pg_class c ON c.oid = r.relid",
					true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read quorum.replicated_table");
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool		isnull;

		tables = lappend_oid(tables, DatumGetObjectId(SPI_getbinval(SPI_tuptable->vals[i],
																	SPI_tuptable->tupdesc, 1, &isnull)));
		ids = lappend_int(ids, DatumGetInt32(SPI_getbinval(SPI_tuptable->vals[i],
														   SPI_tuptable->tupdesc, 2, &isnull)));
	}
	forboth(lc, tables, lc2, ids)
	{
		uint32		id = (uint32) lfirst_int(lc2);

		if (skip && skip(id))
			continue;
		if (fix_table(lfirst_oid(lc), slot, past_keys, wait))
		{
			if (done)
				done(id);
		}
		else
			all = false;
	}
	descend(&saved);
	return all;
}
