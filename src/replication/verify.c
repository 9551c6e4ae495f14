/*-------------------------------------------------------------------------
 *
 * verify.c
 *		quorum.verify: are the replicated tables the same on all members?
 *
 * All members compute digests of their tables as of one entry of the log
 * (inquiry.c), each table in RANGES key ranges whose bounds the asking member
 * draws from a sample of its own rows; any bounds would do, as long as they are
 * the same everywhere. What most members have is right. Where one differs, the
 * ranges in question are asked for again with finer bounds, as of a later entry,
 * until they are small or do not get smaller.
 *
 * What was found is put into the log as well (quorum._mark), so that every
 * member shows it (quorum.differences) and the one concerned says it in its log.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/relation.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/wait_event.h"

#include "compat.h"
#include "node/node.h"
#include "replication/digest.h"
#include "replication/inquiry.h"
#include "replication/logentry.h"
#include "replication/ownsql.h"
#include "replication/resync.h"
#include "replication/session.h"
#include "replication/tables.h"
#include "replication/verify.h"

PG_FUNCTION_INFO_V1(quorum_verify);
PG_FUNCTION_INFO_V1(quorum_verify_table);
PG_FUNCTION_INFO_V1(quorum_do_mark);

#define RANGES			64		/* of a table, in one round */
#define SAMPLE_ROWS		30000
#define SMALL_RANGE		50		/* rows: not divided any more */
#define ROUNDS			4
#define MARK_WAIT_US	INT64CONST(10000000)
#define BUSY_ROUNDS		10		/* for tables that were just being changed as a whole */
#define BUSY_PAUSE_MS	100
#define AWAY_US			INT64CONST(10000000)

typedef struct Have
{
	char	   *node_name;
	uint32		node_id;
	Digest	   *ranges;			/* NULL: no digest, see problem */
	Digest		total;
	char	   *problem;		/* why there is none */
	bool		missing;		/* the table is not there: that is an answer, too */
	bool		differs;
	List	   *different;		/* of ranges, by number */
	char	   *outcome;		/* of its last repair, if that was asked for */
} Have;

typedef struct Subject
{
	uint32		table_id;
	Oid			relid;
	char	   *name;
	char	   *key;			/* "(a, b)" */
	char	   *key_order;		/* "a, b" */
	char	   *key_text;		/* "a::text, b::text" */
	int			nbounds;
	char	  **bounds;			/* as arrays, in text form */
	uint64		index;
	bool		busy;
	bool		refine;
	bool		split;			/* no majority */
	List	   *have;
} Subject;

/* ---------- what is to be compared ---------- */

static Subject *
make_subject(uint32 table_id, Oid relid)
{
	Subject    *subject = palloc0_object(Subject);
	Relation	rel = relation_open(relid, AccessShareLock);
	Relation	index = index_open(tables_identity_index(rel), AccessShareLock);
	StringInfoData order;
	StringInfoData text;

	subject->table_id = table_id;
	subject->relid = relid;
	subject->name = quote_qualified_identifier(get_namespace_name(RelationGetNamespace(rel)),
											   RelationGetRelationName(rel));
	initStringInfo(&order);
	initStringInfo(&text);
	for (int i = 0; i < index->rd_index->indnkeyatts; i++)
	{
		const char *name = quote_identifier(get_attname(relid, index->rd_index->indkey.values[i], false));

		appendStringInfo(&order, "%s%s", i > 0 ? ", " : "", name);
		appendStringInfo(&text, "%s%s::text", i > 0 ? ", " : "", name);
	}
	subject->key_order = order.data;
	subject->key = psprintf("(%s)", order.data);
	subject->key_text = text.data;
	index_close(index, AccessShareLock);
	relation_close(rel, AccessShareLock);
	return subject;
}

uint32
verify_table_id(Oid relid)
{
	uint32		table_id = tables_id_of_oid(relid);

	if (table_id == 0 || tables_oid_of(table_id) != relid)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table \"%s\" is not a replicated table", get_rel_name(relid)),
				 errhint("quorum.tables lists them.")));
	return table_id;
}

static List *
find_subjects(Oid only)
{
	OwnSql		saved;
	MemoryContext caller = CurrentMemoryContext;
	List	   *subjects = NIL;
	List	   *ids = NIL;
	List	   *relids = NIL;
	ListCell   *id;
	ListCell   *relid;

	if (OidIsValid(only))
		return list_make1(make_subject(verify_table_id(only), only));
	ownsql_begin(&saved);
	ownsql_look("SELECT table_id, rel::oid FROM quorum.tables ORDER BY 1", 0, NULL, NULL);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		MemoryContext old = MemoryContextSwitchTo(caller);

		ids = lappend_int(ids, atoi(ownsql_text(i, 1)));
		relids = lappend_oid(relids, (Oid) strtoul(ownsql_text(i, 2), NULL, 10));
		MemoryContextSwitchTo(old);
	}
	ownsql_end(&saved);
	forboth(id, ids, relid, relids)
		subjects = lappend(subjects, make_subject((uint32) lfirst_int(id), lfirst_oid(relid)));
	return subjects;
}

/* ---------- bounds ---------- */

static List *
sample(Subject *subject, const char *condition, int wanted)
{
	MemoryContext caller = CurrentMemoryContext;
	List	   *bounds = NIL;
	OwnSql		saved;
	StringInfoData sql;

	ownsql_begin(&saved);
	(void) digest_fix_settings();
	initStringInfo(&sql);
	appendStringInfo(&sql, "SELECT ARRAY[%s]::text FROM (SELECT %s, row_number() OVER (ORDER BY %s) AS \"pgq n\", "
					 "count(*) OVER () AS \"pgq c\" FROM %s",
					 subject->key_text, subject->key_order, subject->key_order, subject->name);
	if (condition)
		appendStringInfo(&sql, " WHERE %s", condition);
	else
	{
		ownsql_look(psprintf("SELECT sum(greatest(reltuples, 0))::float8 FROM pg_class WHERE oid IN "
							 "(SELECT relid FROM pg_partition_tree(%u) UNION SELECT %u)",
							 subject->relid, subject->relid), 0, NULL, NULL);
		if (atof(ownsql_text(0, 1)) > SAMPLE_ROWS)
			appendStringInfo(&sql, " TABLESAMPLE SYSTEM (%f)",
							 Max(100.0 * SAMPLE_ROWS / atof(ownsql_text(0, 1)), 0.001));
	}
	appendStringInfo(&sql, ") s WHERE \"pgq n\" %% ((\"pgq c\" + %d) / %d) = 0 ORDER BY \"pgq n\"",
					 wanted - 1, wanted);
	ownsql_look(sql.data, 0, NULL, NULL);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		MemoryContext old = MemoryContextSwitchTo(caller);

		bounds = lappend(bounds, pstrdup(ownsql_text(i, 1)));
		MemoryContextSwitchTo(old);
	}
	ownsql_end(&saved);
	return bounds;
}

static void
set_bounds(Subject *subject, List *bounds)
{
	ListCell   *lc;

	subject->nbounds = 0;
	subject->bounds = palloc_array(char *, list_length(bounds) + 1);
	foreach(lc, bounds)
	{
		char	   *bound = lfirst(lc);

		if (subject->nbounds == 0 || strcmp(subject->bounds[subject->nbounds - 1], bound) != 0)
			subject->bounds[subject->nbounds++] = bound;
	}
}

static void
deconstruct_text(char *literal, Datum **texts, int *n)
{
	Oid			in;
	Oid			ioparam;

	getTypeInputInfo(TEXTARRAYOID, &in, &ioparam);
	deconstruct_array(DatumGetArrayTypeP(OidInputFunctionCall(in, literal, ioparam, -1)),
					  TEXTOID, -1, false, TYPALIGN_INT, texts, NULL, n);
}

/* "(a, b) >= ('1', 'x')" */
static void
put_condition(StringInfo to, const Subject *subject, const char *operator, char *bound)
{
	Datum	   *texts;
	int			n;

	deconstruct_text(bound, &texts, &n);
	appendStringInfo(to, "%s %s (", subject->key, operator);
	for (int i = 0; i < n; i++)
		appendStringInfo(to, "%s%s", i > 0 ? ", " : "",
						 quote_literal_cstr(TextDatumGetCString(texts[i])));
	appendStringInfoChar(to, ')');
}

/* Ranges first..last as a condition. */
static char *
describe_ranges(const Subject *subject, int first, int last)
{
	StringInfoData text;

	initStringInfo(&text);
	if (first > 0)
		put_condition(&text, subject, ">=", subject->bounds[first - 1]);
	if (first > 0 && last < subject->nbounds)
		appendStringInfoString(&text, " AND ");
	if (last < subject->nbounds)
		put_condition(&text, subject, "<", subject->bounds[last]);
	if (text.len == 0)
		appendStringInfoString(&text, "true");
	return text.data;
}

/* Conditions for a list of range numbers, neighbours in one. */
static List *
describe_all(const Subject *subject, List *numbers)
{
	List	   *texts = NIL;
	int			first = -1;
	int			last = -1;
	ListCell   *lc;

	foreach(lc, numbers)
	{
		if (first >= 0 && lfirst_int(lc) != last + 1)
			texts = lappend(texts, describe_ranges(subject, first, last));
		if (first < 0 || lfirst_int(lc) != last + 1)
			first = lfirst_int(lc);
		last = lfirst_int(lc);
	}
	if (first >= 0)
		texts = lappend(texts, describe_ranges(subject, first, last));
	return texts;
}

/* ---------- the question, as each member answers it ---------- */

/*
 * _verify_table(table_id, bounds) - under the snapshot of an inquiry.
 */
Datum
quorum_verify_table(PG_FUNCTION_ARGS)
{
	uint32		table_id = (uint32) PG_GETARG_INT32(0);
	Oid			relid = tables_oid_of(table_id);
	StringInfoData text;
	Digest	   *digests;
	int			n;

	initStringInfo(&text);
	appendStringInfo(&text, "%u", table_id);
	if (!OidIsValid(relid))
		appendStringInfoString(&text, " missing");
	else if (!inquiry_locked(table_id) || resync_is_ahead(table_id, inquiry_index()))
		appendStringInfoString(&text, " busy");
	else
	{
		digests = digest_table(relid, PG_GETARG_ARRAYTYPE_P(1), &n);
		for (int i = 0; i < n; i++)
			appendStringInfo(&text, " %s", digest_out(&digests[i]));
	}
	PG_RETURN_TEXT_P(cstring_to_text_with_len(text.data, text.len));
}

static char *
bounds_literal(const Subject *subject)
{
	Datum	   *texts = palloc_array(Datum, subject->nbounds + 1);
	Oid			out;
	bool		varlena;

	for (int i = 0; i < subject->nbounds; i++)
		texts[i] = CStringGetTextDatum(subject->bounds[i]);
	getTypeOutputInfo(TEXTARRAYOID, &out, &varlena);
	return OidOutputFunctionCall(out, PointerGetDatum(construct_array(texts, subject->nbounds, TEXTOID,
																	  -1, false, TYPALIGN_INT)));
}

static char *
make_query(List *subjects, bool outcome, List **table_ids)
{
	StringInfoData sql;
	ListCell   *lc;

	*table_ids = NIL;
	initStringInfo(&sql);
	appendStringInfoString(&sql, "SELECT quorum._verify_table(id, bounds) FROM (VALUES ");
	foreach(lc, subjects)
	{
		Subject    *subject = lfirst(lc);

		appendStringInfo(&sql, "%s(%u, %s::text[])", lc == list_head(subjects) ? "" : ", ",
						 subject->table_id, quote_literal_cstr(bounds_literal(subject)));
		*table_ids = lappend_int(*table_ids, (int) subject->table_id);
	}
	appendStringInfoString(&sql, ") AS v (id, bounds)");
	if (outcome)
		appendStringInfo(&sql, " UNION ALL SELECT 'resync ' || quorum._resync_outcome(%u)",
						 ((Subject *) linitial(subjects))->table_id);
	return sql.data;
}

/* ---------- answers ---------- */

static bool
same_digest(const Digest *a, const Digest *b)
{
	return a->rows == b->rows && a->first == b->first && a->second == b->second;
}

static void
read_digests(Have *have, const Subject *subject, char *text)
{
	int			n = subject->nbounds + 1;
	char	   *save = NULL;
	Digest	   *digests = palloc0_array(Digest, n);

	for (int i = 0; i < n; i++)
	{
		char	   *word = strtok_r(i == 0 ? text : NULL, " ", &save);

		if (word == NULL || !digest_in(word, &digests[i]))
		{
			have->problem = "gave an answer that cannot be understood";
			return;
		}
		have->total.rows += digests[i].rows;
		have->total.first += digests[i].first;
		have->total.second += digests[i].second;
	}
	have->ranges = digests;
}

static void
take_answer(Subject *subject, const InquiryAnswer *answer)
{
	Have	   *have = palloc0_object(Have);
	char	   *prefix = psprintf("%u ", subject->table_id);

	have->node_name = answer->node_name;
	have->node_id = answer->node_id;
	have->problem = answer->answered ? "gave no answer for this table" : answer->problem;
	for (int i = 0; i < answer->nrows; i++)
	{
		char	   *rest;

		if (answer->rows[i] && strncmp(answer->rows[i], "resync ", 7) == 0)
			have->outcome = answer->rows[i] + 7;
		if (answer->rows[i] == NULL || strncmp(answer->rows[i], prefix, strlen(prefix)) != 0)
			continue;
		have->problem = NULL;
		rest = pstrdup(answer->rows[i] + strlen(prefix));
		if (strcmp(rest, "busy") == 0)
		{
			have->problem = "its definition was being changed";
			subject->busy = true;
		}
		else if (strcmp(rest, "missing") == 0)
		{
			have->problem = "the table is missing";
			have->missing = true;
		}
		else
			read_digests(have, subject, rest);
	}
	subject->have = lappend(subject->have, have);
}

/* Do they say the same? */
static bool
agree(const Have *a, const Have *b)
{
	return a->missing == b->missing && (a->missing || same_digest(&a->total, &b->total));
}

static bool
counts(const Have *have)
{
	return have->ranges != NULL || have->missing;
}

static void
judge(Subject *subject)
{
	Have	   *right = NULL;
	int			answered = 0;
	ListCell   *lc;
	ListCell   *lc2;

	foreach(lc, subject->have)
		answered += counts(lfirst(lc));
	foreach(lc, subject->have)
	{
		int			n = 0;

		foreach(lc2, subject->have)
			n += counts(lfirst(lc)) && counts(lfirst(lc2)) && agree(lfirst(lc), lfirst(lc2));
		if (2 * n > answered)
			right = lfirst(lc);
	}
	subject->split = right == NULL && answered > 0;
	subject->refine = false;
	foreach(lc, subject->have)
	{
		Have	   *have = lfirst(lc);

		have->differs = counts(have) && (right == NULL || !agree(have, right));
		for (int i = 0; have->differs && i <= subject->nbounds; i++)
		{
			uint64		rows = 0;
			bool		different = false;

			/* without a majority: wherever not all are the same */
			foreach(lc2, subject->have)
			{
				Have	   *other = lfirst(lc2);

				if (have->ranges == NULL || other->ranges == NULL || (right != NULL && other != right))
					continue;
				different |= !same_digest(&have->ranges[i], &other->ranges[i]);
				rows = Max(rows, Max(have->ranges[i].rows, other->ranges[i].rows));
			}
			if (!different)
				continue;
			have->different = lappend_int(have->different, i);
			subject->refine |= rows > SMALL_RANGE;
		}
	}
}

/* Finer bounds where members differ. False: there are none. */
static bool
refine(Subject *subject)
{
	Bitmapset  *numbers = NULL;
	List	   *bounds = NIL;
	int			number = -1;
	int			share;
	ListCell   *lc;

	foreach(lc, subject->have)
	{
		ListCell   *lc2;

		foreach(lc2, ((Have *) lfirst(lc))->different)
			numbers = bms_add_member(numbers, lfirst_int(lc2));
	}
	if (bms_is_empty(numbers))
		return false;
	share = Max(RANGES / bms_num_members(numbers), 2);
	while ((number = bms_next_member(numbers, number)) >= 0)
	{
		if (number > 0)
			bounds = lappend(bounds, subject->bounds[number - 1]);
		bounds = list_concat(bounds, sample(subject, describe_ranges(subject, number, number), share));
		if (number < subject->nbounds)
			bounds = lappend(bounds, subject->bounds[number]);
	}
	set_bounds(subject, bounds);
	return true;
}

/* ---------- marks ---------- */

typedef struct Lists
{
	StringInfoData tables;
	StringInfoData nodes;
	StringInfoData names;
	StringInfoData ranges;
	int			n;
} Lists;

static char *
array_literal(List *texts)
{
	Datum	   *datums = palloc_array(Datum, list_length(texts) + 1);
	int			n = 0;
	Oid			out;
	bool		varlena;
	ListCell   *lc;

	foreach(lc, texts)
		datums[n++] = CStringGetTextDatum(lfirst(lc));
	getTypeOutputInfo(TEXTARRAYOID, &out, &varlena);
	return OidOutputFunctionCall(out, PointerGetDatum(construct_array(datums, n, TEXTOID,
																	  -1, false, TYPALIGN_INT)));
}

static bool
has_marks(void)
{
	OwnSql		saved;
	bool		any;

	ownsql_begin(&saved);
	ownsql_look("SELECT 1 FROM quorum.difference LIMIT 1", 0, NULL, NULL);
	any = SPI_processed > 0;
	ownsql_end(&saved);
	return any;
}

/* Let all members know; what is the same now loses its mark. The entry's index, or 0. */
static uint64
mark_table(const Subject *subject)
{
	Lists		l = {0};
	StringInfoData asked;
	ListCell   *lc;

	initStringInfo(&asked);
	initStringInfo(&l.tables);
	initStringInfo(&l.nodes);
	initStringInfo(&l.names);
	initStringInfo(&l.ranges);
	foreach(lc, subject->have)
	{
		const Have *have = lfirst(lc);
		const char *comma = l.n > 0 ? ", " : "";

		if (!counts(have))
			continue;
		appendStringInfo(&asked, "%s%u", asked.len > 0 ? ", " : "", have->node_id);
		if (!have->differs)
			continue;
		appendStringInfo(&l.tables, "%s%u", comma, subject->table_id);
		appendStringInfo(&l.nodes, "%s%u", comma, have->node_id);
		appendStringInfo(&l.names, "%s%s", comma, quote_literal_cstr(have->node_name));
		appendStringInfo(&l.ranges, "%s%s", comma,
						 quote_literal_cstr(array_literal(describe_all(subject, have->different))));
		l.n++;
	}
	if (asked.len == 0)
		return 0;
	return logentry_submit(psprintf("SELECT quorum._mark(" UINT64_FORMAT ", ARRAY[%u], ARRAY[%s]::bigint[], "
								   "ARRAY[%s]::int[], ARRAY[%s]::bigint[], ARRAY[%s]::text[], ARRAY[%s]::text[])",
								   subject->index, subject->table_id, asked.data, l.tables.data,
								   l.nodes.data, l.names.data, l.ranges.data), false);
}

static void
tell_here(uint64 index, Datum tables)
{
	Oid			types[] = {INT4ARRAYOID};

	ownsql_run(psprintf("SELECT r.schema_name || '.' || r.table_name, d.key_ranges::text "
						"FROM quorum.difference d JOIN quorum.replicated_table r USING (table_id) "
						"WHERE d.node_id = %u AND d.log_index = " UINT64_FORMAT " AND table_id = ANY ($1)",
						node_id(), index),
			   1, types, &tables, NULL, SPI_OK_SELECT);
	for (uint64 i = 0; i < SPI_processed; i++)
		ereport(LOG,
				(errmsg("pg_quorum: table \"%s\" of this member differs from those of the other members as of entry "
						UINT64_FORMAT, ownsql_text(i, 1), index),
				 errdetail("Key ranges: %s", ownsql_text(i, 2)),
				 errhint("quorum.resync_table makes it the same again."),
				 errhidecontext(true)));
}

/*
 * _mark(log_index, tables, nodes, ...) - part of the log: of those tables on
 * those nodes these differ.
 */
Datum
quorum_do_mark(PG_FUNCTION_ARGS)
{
	Oid			types[] = {INT8OID, INT4ARRAYOID, INT8ARRAYOID, INT4ARRAYOID, INT8ARRAYOID,
	TEXTARRAYOID, TEXTARRAYOID};
	Datum		values[lengthof(types)];
	OwnSql		saved;

	logentry_require_applying("_mark");
	for (int i = 0; i < lengthof(types); i++)
		values[i] = PG_GETARG_DATUM(i);
	ownsql_begin(&saved);
	ownsql_run("DELETE FROM quorum.difference WHERE log_index <= $1 AND table_id = ANY ($2) AND node_id = ANY ($3)",
			   3, types, values, NULL, SPI_OK_DELETE);
	ownsql_run("INSERT INTO quorum.difference (table_id, node_id, node_name, log_index, key_ranges) "
			   "SELECT t, n, m, $1, r::text[] FROM unnest($4, $5, $6, $7) AS d (t, n, m, r) "
			   "WHERE $2 IS NOT NULL AND $3 IS NOT NULL ON CONFLICT DO NOTHING",
			   lengthof(types), types, values, NULL, SPI_OK_INSERT);
	CommandCounterIncrement();
	tell_here((uint64) PG_GETARG_INT64(0), values[1]);
	ownsql_end(&saved);
	PG_RETURN_VOID();
}

/* ---------- verify ---------- */

/* One inquiry about all of these; the answers are in the subjects. */
static void
ask_about(List *subjects, bool outcome)
{
	List	   *table_ids;
	char	   *query = make_query(subjects, outcome, &table_ids);
	uint64		index;
	List	   *answers = inquiry_ask(query, table_ids, &index);
	ListCell   *lc;
	ListCell   *lc2;

	foreach(lc, subjects)
	{
		Subject    *subject = lfirst(lc);

		subject->index = index;
		subject->busy = false;
		subject->have = NIL;
		foreach(lc2, answers)
			take_answer(subject, lfirst(lc2));
		judge(subject);
	}
}

static void
compare(List *subjects, bool outcome)
{
	List	   *now = subjects;

	for (int round = 1; now != NIL; round++)
	{
		List	   *next = NIL;
		bool		busy = false;
		ListCell   *lc;

		ask_about(now, outcome);
		foreach(lc, now)
		{
			Subject    *subject = lfirst(lc);

			busy |= subject->busy;
			if (subject->busy ? round < BUSY_ROUNDS :
				subject->refine && round < ROUNDS && refine(subject))
				next = lappend(next, subject);
		}
		now = next;
		if (busy && now != NIL)
		{
			(void) WaitLatch(MyLatch, WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, BUSY_PAUSE_MS, PG_WAIT_EXTENSION);
			CHECK_FOR_INTERRUPTS();
		}
	}
}

static void
put_result(ReturnSetInfo *result, const Subject *subject, const Have *have)
{
	Datum		values[8];
	bool		nulls[8] = {false};
	List	   *ranges = describe_all(subject, have->different);
	Datum	   *texts = palloc_array(Datum, list_length(ranges) + 1);
	int			n = 0;
	ListCell   *lc;

	foreach(lc, ranges)
		texts[n++] = CStringGetTextDatum(lfirst(lc));
	values[0] = CStringGetTextDatum(subject->name);
	values[1] = CStringGetTextDatum(have->node_name);
	values[2] = BoolGetDatum(!have->differs);
	nulls[2] = !counts(have);
	values[3] = Int64GetDatum((int64) subject->index);
	values[4] = Int64GetDatum((int64) have->total.rows);
	values[5] = CStringGetTextDatum(digest_out(&have->total));
	nulls[4] = nulls[5] = have->ranges == NULL;
	values[6] = PointerGetDatum(construct_array(texts, n, TEXTOID, -1, false, TYPALIGN_INT));
	nulls[6] = n == 0;
	if (have->problem)
		values[7] = CStringGetTextDatum(have->problem);
	else if (have->differs && subject->split)
		values[7] = CStringGetTextDatum("no majority of the members has the same");
	else
		nulls[7] = true;
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/*
 * verify(rel) - one row a table and member.
 */
Datum
quorum_verify(PG_FUNCTION_ARGS)
{
	Oid			only = PG_ARGISNULL(0) ? InvalidOid : PG_GETARG_OID(0);
	List	   *subjects;
	ListCell   *lc;
	ListCell   *lc2;
	bool		marked;
	uint64		last = 0;

	node_require_member();
	if (!session_in_quorum_database())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("only database \"%s\" takes part in the cluster", quorum_database)));
	InitMaterializedSRF(fcinfo, 0);
	subjects = find_subjects(only);
	foreach(lc, subjects)
		set_bounds(lfirst(lc), sample(lfirst(lc), NULL, RANGES));
	compare(subjects, false);
	marked = has_marks();
	foreach(lc, subjects)
	{
		Subject    *subject = lfirst(lc);
		bool		differs = false;

		foreach(lc2, subject->have)
		{
			differs |= ((Have *) lfirst(lc2))->differs;
			put_result((ReturnSetInfo *) fcinfo->resultinfo, subject, lfirst(lc2));
		}
		if (differs)
			ereport(WARNING,
					(errmsg("table %s is not the same on all members", subject->name),
					 errhint("See quorum.differences; quorum.resync_table repairs a member's table.")));
		if (differs || marked)
			last = Max(last, mark_table(subject));
	}
	/* so that who asked sees the marks; they are in the log in any case */
	(void) node_wait_applied(last, node_monotonic_us() + MARK_WAIT_US);
	return (Datum) 0;
}

/* ---------- after a repair ---------- */

/* The rows may take their time; who cannot be reached for long does not. */
static void
wait_for_member(uint32 node, const char *name, uint64 index)
{
	int64		seen_us = node_monotonic_us();

	for (;;)
	{
		OwnSql		saved;
		bool		reachable;
		bool		there;

		ownsql_begin(&saved);
		ownsql_look(psprintf("SELECT reachable, applied_index >= " UINT64_FORMAT " FROM quorum._members() WHERE node_id = %u",
							 index, node), 0, NULL, NULL);
		reachable = SPI_processed > 0 && ownsql_text(0, 1)[0] == 't';
		there = SPI_processed > 0 && ownsql_text(0, 2) && ownsql_text(0, 2)[0] == 't';
		ownsql_end(&saved);
		if (there)
			return;
		if (reachable)
			seen_us = node_monotonic_us();
		if (node_monotonic_us() - seen_us > AWAY_US)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("member \"%s\" cannot be reached", name),
					 errdetail("It repairs the table when it comes to entry " UINT64_FORMAT " of the log.", index)));
		(void) WaitLatch(MyLatch, WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, BUSY_PAUSE_MS, PG_WAIT_EXTENSION);
		CHECK_FOR_INTERRUPTS();
	}
}

static void
report_repair(const Have *have)
{
	bool		good = have->outcome && strncmp(have->outcome, "good ", 5) == 0;

	if (!good)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the table could not be repaired on member \"%s\"", have->node_name),
				 errdetail("%s", have->problem ? have->problem :
						   have->outcome && strchr(have->outcome, ' ') ? strchr(have->outcome, ' ') + 1 : "It gave no answer.")));
	if (have->differs)
		ereport(WARNING,
				(errmsg("the table on member \"%s\" still differs from the majority's", have->node_name),
				 errhint("See quorum.verify.")));
	ereport(NOTICE, (errmsg("member \"%s\": %s", have->node_name, have->outcome + 5)));
}

void
verify_repaired(Oid relid, uint64 index, uint32 node, const char *name)
{
	Subject    *subject = make_subject(verify_table_id(relid), relid);
	uint64		marked = 0;
	ListCell   *lc;

	wait_for_member(node, name, index);
	set_bounds(subject, sample(subject, NULL, RANGES));
	compare(list_make1(subject), true);
	if (has_marks())
		marked = mark_table(subject);
	(void) node_wait_applied(marked, node_monotonic_us() + MARK_WAIT_US);
	foreach(lc, subject->have)
	{
		if (((Have *) lfirst(lc))->node_id == node)
			report_repair(lfirst(lc));
	}
}
