/*-------------------------------------------------------------------------
 *
 * sequences_claim.c
 *		How far each slot's values of a sequence may have gone: in the log.
 *
 * A member that takes over the slot of one that has gone has to go on behind
 * all that this one handed out, and keys of rows do not tell: rows are deleted,
 * values are held by clients only. So a value is given to a client after the log
 * has an entry which claims it for the slot; one entry claims a block of values,
 * ever larger ones while they are used up quickly, and before the last
 * ones are used up. quorum.sequence_claim has the highest value claimed for each
 * sequence and slot, the same on all members.
 *
 * Where values are looked at:
 *	- nextval() of a query, which is turned into quorum.nextval() when the query is
 *	  planned (sequences_setval.c), after it has drawn the value;
 *	- rows with a value for a serial or identity column, by the capture
 *	  trigger, whatever drew it (COPY, identity); nothing is told to the client before
 *	  that has fired. A value above the sequence's own was chosen by a user;
 *	- after other statements that drew one (an argument of CALL or EXECUTE).
 *
 * Where claims count: a sequence that gets a slot (a server joins, a table is
 * added) goes past all that other members have claimed for the slot; and a
 * server that starts after a crash past its own, as WAL of nextval() may be lost.
 *
 * What this session knows to be claimed is cached by sequence; invalidations drop
 * it, and quorum.sequence_claim is asked again. A claim that two sessions make at the same
 * time does no harm.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/namespace.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_class.h"
#include "catalog/pg_sequence.h"
#include "catalog/pg_type.h"
#include "commands/sequence.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"
#include "utils/varlena.h"

#include "compat.h"
#include "node/node.h"
#include "replication/logentry.h"
#include "replication/ownsql.h"
#include "replication/replication.h"
#include "replication/sequences.h"
#include "replication/sequences_internal.h"
#include "replication/session.h"
#include "replication/tables.h"

PG_FUNCTION_INFO_V1(quorum_nextval);
PG_FUNCTION_INFO_V1(quorum_do_claim_sequence);

#define FIRST_BLOCK		32		/* values of one claim */
#define LAST_BLOCK		8192
#define BLOCKS_OF_RANGE	64		/* a block is at most this part of a slot's values */

/* What this process knows; see above. */
typedef struct KnownSequence
{
	Oid			seq;			/* hash key */
	bool		valid;
	Oid			table;			/* the replicated table that owns it; 0: not ours */
	uint32		member;			/* who we were */
	int			slot;
	int64		claimed;		/* for the slot, at least; if has_claim */
	bool		has_claim;
	int64		block;			/* values of the next claim */
	int64		largest_block;
	int64		max;			/* the sequence's MAXVALUE */
} KnownSequence;

/* Columns of a table that owned sequences fill. */
typedef struct KnownTable
{
	Oid			relid;			/* hash key */
	bool		valid;
	int			n;
	struct
	{
		AttrNumber	column;
		Oid			type;
		Oid			seq;
	}		   *columns;
} KnownTable;

static HTAB *known_sequences = NULL;
static HTAB *known_tables = NULL;

/* ---------- the caches ---------- */

static void
forget(Oid relid)
{
	HASH_SEQ_STATUS scan;
	KnownSequence *s;
	KnownTable *t;

	hash_seq_init(&scan, known_sequences);
	while ((s = hash_seq_search(&scan)) != NULL)
		if (!OidIsValid(relid) || s->seq == relid || s->table == relid)
			s->valid = false;
	hash_seq_init(&scan, known_tables);
	while ((t = hash_seq_search(&scan)) != NULL)
		if (!OidIsValid(relid) || t->relid == relid)
			t->valid = false;
}

static void
relation_changed(Datum arg, Oid relid)
{
	forget(relid);
}

static void
sequence_changed(Datum arg, int cache, uint32 hash)
{
	forget(InvalidOid);
}

static void
need_caches(void)
{
	HASHCTL		ctl = {.keysize = sizeof(Oid),.entrysize = sizeof(KnownSequence)};

	if (known_tables)
		return;
	if (!known_sequences)
		known_sequences = hash_create("pg_quorum sequences", 64, &ctl, HASH_ELEM | HASH_BLOBS);
	ctl.entrysize = sizeof(KnownTable);
	known_tables = hash_create("pg_quorum tables with sequences", 64, &ctl, HASH_ELEM | HASH_BLOBS);
	CacheRegisterRelcacheCallback(relation_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(SEQRELID, sequence_changed, (Datum) 0);
}

/* Values that one claim may take: not too large a part of what a slot has. */
static int64
largest_block(const FormData_pg_sequence *form)
{
	double		values = ((double) form->seqmax - (double) form->seqmin) / quorum_sequence_stride;

	return Max(1, (int64) Min((double) LAST_BLOCK, values / BLOCKS_OF_RANGE));
}

static void
load_limits(KnownSequence *s)
{
	HeapTuple	tuple = SearchSysCache1(SEQRELID, ObjectIdGetDatum(s->seq));

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for sequence %u", s->seq);
	s->max = ((Form_pg_sequence) GETSTRUCT(tuple))->seqmax;
	s->largest_block = largest_block((Form_pg_sequence) GETSTRUCT(tuple));
	ReleaseSysCache(tuple);
	s->block = Min(s->block, s->largest_block);
}

static KnownSequence *
known_sequence(Oid seq)
{
	KnownSequence *s;
	bool		found;
	Oid			table = InvalidOid;
	int32		column;

	need_caches();
	s = hash_search(known_sequences, &seq, HASH_FIND, NULL);
	if (s && s->valid && s->member == node_id() && s->slot == node_slot())
		return s;
	if ((!sequenceIsOwned(seq, DEPENDENCY_AUTO, &table, &column) &&
		 !sequenceIsOwned(seq, DEPENDENCY_INTERNAL, &table, &column)) ||
		tables_id_of_oid(table) == 0)
		table = InvalidOid;
	s = hash_search(known_sequences, &seq, HASH_ENTER, &found);
	if (!found)
		s->block = FIRST_BLOCK;
	s->table = table;
	s->member = node_id();
	s->slot = node_slot();
	s->has_claim = false;
	s->valid = false;
	if (OidIsValid(table))
		load_limits(s);
	s->valid = true;
	return s;
}

/* table_id: of the replicated table that relid is, or is a partition of. */
static KnownTable *
known_table(Oid relid, uint32 table_id)
{
	KnownTable *t;
	Oid			root;
	bool		found;
	List	   *sequences;
	ListCell   *lc;
	int			n = 0;

	need_caches();
	t = hash_search(known_tables, &relid, HASH_FIND, NULL);
	if (t && t->valid)
		return t;
	root = tables_oid_of(table_id);
	sequences = getOwnedSequences(root);
	t = hash_search(known_tables, &relid, HASH_ENTER, &found);
	if (found && t->columns)
		pfree(t->columns);
	t->valid = false;
	t->n = 0;
	t->columns = NULL;
	if (sequences != NIL)
		t->columns = MemoryContextAllocZero(TopMemoryContext, sizeof(*t->columns) * list_length(sequences));
	foreach(lc, sequences)
	{
		Oid			seq = lfirst_oid(lc);
		Oid			table;
		int32		attnum;

		if (!sequenceIsOwned(seq, DEPENDENCY_AUTO, &table, &attnum) &&
			!sequenceIsOwned(seq, DEPENDENCY_INTERNAL, &table, &attnum))
			continue;
		if (relid != root)
			attnum = get_attnum(relid, get_attname(root, attnum, false));
		if (attnum <= 0)
			continue;
		t->columns[n].column = attnum;
		t->columns[n].type = get_atttype(relid, attnum);
		t->columns[n++].seq = seq;
	}
	t->n = n;
	t->valid = true;
	return t;
}

/* ---------- claims ---------- */

/* The last value that the sequence has handed out here; false: none yet. */
static bool
last_value(Oid seq, int64 *value)
{
	LOCAL_FCINFO(fcinfo, 1);
	Oid			user;
	int			context;

	GetUserIdAndSecContext(&user, &context);
	SetUserIdAndSecContext(BOOTSTRAP_SUPERUSERID, context | SECURITY_LOCAL_USERID_CHANGE);
	InitFunctionCallInfoData(*fcinfo, NULL, 1, InvalidOid, NULL, NULL);
	fcinfo->args[0].value = ObjectIdGetDatum(seq);
	fcinfo->args[0].isnull = false;
	*value = DatumGetInt64(pg_sequence_last_value(fcinfo));
	SetUserIdAndSecContext(user, context);
	return !fcinfo->isnull;
}

/* Of committed entries that are applied here. */
static void
look_up(KnownSequence *s)
{
	OwnSql		saved;
	Oid			types[] = {OIDOID, INT4OID, INT8OID};
	Datum		values[] = {ObjectIdGetDatum(s->seq), Int32GetDatum(s->slot), Int64GetDatum(s->member)};
	char	   *text;

	ownsql_begin(&saved);
	ownsql_look("SELECT claimed FROM quorum.sequence_claim WHERE relid = $1 AND slot = $2 AND member = $3",
				3, types, values);
	text = ownsql_text(0, 1);
	if (text)
	{
		int64		claimed = strtoll(text, NULL, 10);

		if (!s->has_claim || claimed > s->claimed)
			s->claimed = claimed;
		s->has_claim = true;
	}
	ownsql_end(&saved);
}

/* A block from this value on. Waits for the majority, not for its being applied here. */
static void
claim(KnownSequence *s, int64 value)
{
	int64		block = s->block * quorum_sequence_stride;
	int64		upto = value < s->max - block ? value + block : s->max;

	(void) logentry_submit(psprintf("SELECT quorum._claim_sequence(%s, %d, %u, " INT64_FORMAT ")",
									quote_literal_cstr(quote_qualified_identifier(get_namespace_name(get_rel_namespace(s->seq)),
																				  get_rel_name(s->seq))),
									s->slot, s->member, upto), false);
	s->block = Min(s->block * 2, s->largest_block);
	if (!s->has_claim || upto > s->claimed)
		s->claimed = upto;
	s->has_claim = true;
}

/* Claimed, and not so close to the end of the claim that the next one should be made. */
static bool
is_enough(const KnownSequence *s, int64 value)
{
	int64		ahead = s->block / 4 * quorum_sequence_stride;

	return s->has_claim && (s->claimed >= s->max ? value <= s->claimed : value <= s->claimed - ahead);
}

/* This value was drawn: nobody sees it before it is claimed. */
static void
cover(KnownSequence *s, int64 value)
{
	if (is_enough(s, value))
		return;
	look_up(s);
	if (is_enough(s, value))
		return;
	if (!s->has_claim || value > s->claimed)
		claim(s, value);
	else if (ConditionalLockDatabaseObject(RelationRelationId, s->seq, 1, ExclusiveLock))
	{
		/* soon: one does it, for all */
		claim(s, s->claimed);
		UnlockDatabaseObject(RelationRelationId, s->seq, 1, ExclusiveLock);
	}
}

static bool
concerns_us(void)
{
	return node_is_member() && node_slot() >= 0 && !replication_is_applying() && session_in_quorum_database();
}

/* See sequences.h. */
void
sequences_row_written(Oid relid, uint32 table_id, TupleTableSlot *row)
{
	KnownTable *t;

	if (node_slot() < 0)
		return;
	t = known_table(relid, table_id);
	for (int i = 0; i < t->n; i++)
	{
		KnownSequence *s;
		bool		isnull;
		Datum		datum = slot_getattr(row, t->columns[i].column, &isnull);
		int64		value;
		int64		last;

		if (isnull)
			continue;
		switch (t->columns[i].type)
		{
			case INT2OID:
				value = DatumGetInt16(datum);
				break;
			case INT4OID:
				value = DatumGetInt32(datum);
				break;
			case INT8OID:
				value = DatumGetInt64(datum);
				break;
			default:
				continue;
		}
		if (value % quorum_sequence_stride != node_slot())
			continue;
		s = known_sequence(t->columns[i].seq);
		if (s->has_claim && value <= s->claimed)
			continue;
		if (OidIsValid(s->table) && last_value(s->seq, &last) && value <= last)
			cover(s, last);
	}
}

/* See sequences_internal.h. */
void
sequences_cover_all(void)
{
	OwnSql		saved;
	List	   *sequences = NIL;
	ListCell   *lc;

	if (!concerns_us() || !OidIsValid(tables_catalog_oid()))
		return;
	ownsql_begin(&saved);
	ownsql_look("SELECT relid FROM quorum.replicated_table WHERE relid IS NOT NULL", 0, NULL, NULL);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		Oid			relid = (Oid) strtoul(ownsql_text(i, 1), NULL, 10);

		if (get_rel_relkind(relid) != '\0')
			sequences = list_concat(sequences, getOwnedSequences(relid));
	}
	foreach(lc, sequences)
	{
		int64		last;
		KnownSequence *s = known_sequence(lfirst_oid(lc));

		if (OidIsValid(s->table) && last_value(s->seq, &last))
			cover(s, last);
	}
	ownsql_end(&saved);
}

/*
 * See sequences_internal.h. A member that is lost together with the majority
 * (force_new_cluster) may have claimed a block more than we know of.
 */
int64
sequences_claimed(Oid seq, const FormData_pg_sequence *form, int slot, bool own)
{
	Oid			types[] = {OIDOID, INT4OID, INT8OID};
	Datum		values[] = {ObjectIdGetDatum(seq), Int32GetDatum(slot), Int64GetDatum((int64) node_id())};
	char	   *text;
	int64		claimed;
	int64		margin = largest_block(form) * quorum_sequence_stride;

	ownsql_look(own ? "SELECT claimed FROM quorum.sequence_claim WHERE relid = $1 AND slot = $2 AND member = $3"
				: "SELECT claimed FROM quorum.sequence_claim WHERE relid = $1 AND slot = $2 AND member <> $3",
				3, types, values);
	text = ownsql_text(0, 1);
	if (text == NULL)
		return PG_INT64_MIN;
	claimed = strtoll(text, NULL, 10);
	if (own)
		return claimed;
	return claimed < form->seqmax - margin ? claimed + margin : form->seqmax;
}

/* ---------- the functions ---------- */

/* What nextval() of a query becomes. */
Datum
quorum_nextval(PG_FUNCTION_ARGS)
{
	Oid			seq = PG_GETARG_OID(0);
	KnownSequence *s = NULL;
	int64		value;

	if (concerns_us())
	{
		s = known_sequence(seq);
		if (OidIsValid(s->table))
			sequences_pass_gate(s->table);
	}
	value = DatumGetInt64(DirectFunctionCall1(nextval_oid, ObjectIdGetDatum(seq)));
	if (s)
	{
		s = known_sequence(seq);
		if (OidIsValid(s->table))
			cover(s, value);
	}
	PG_RETURN_INT64(value);
}

/* _claim_sequence(sequence text, slot, member, value): of the log */
Datum
quorum_do_claim_sequence(PG_FUNCTION_ARGS)
{
	List	   *names = textToQualifiedNameList(PG_GETARG_TEXT_PP(0));
	OwnSql		saved;
	Oid			types[] = {OIDOID, INT4OID, INT8OID, INT8OID};
	Datum		values[4];
	Oid			seq;

	logentry_require_applying("_claim_sequence");
	seq = RangeVarGetRelid(makeRangeVarFromNameList(names), NoLock, true);
	if (!OidIsValid(seq))
		PG_RETURN_VOID();		/* dropped meanwhile */
	values[0] = ObjectIdGetDatum(seq);
	values[1] = PG_GETARG_DATUM(1);
	values[2] = PG_GETARG_DATUM(2);
	values[3] = PG_GETARG_DATUM(3);
	ownsql_begin(&saved);
	ownsql_run("INSERT INTO quorum.sequence_claim (relid, slot, member, claimed) VALUES ($1, $2, $3, $4) "
			   "ON CONFLICT (relid, slot) DO UPDATE SET member = excluded.member, "
			   "claimed = greatest(sequence_claim.claimed, excluded.claimed)",
			   4, types, values, NULL, SPI_OK_INSERT);
	ownsql_end(&saved);
	PG_RETURN_VOID();
}
