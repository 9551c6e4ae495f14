/*-------------------------------------------------------------------------
 *
 * inquiry.c
 *		The same question to all members, at one index (inquiry.h).
 *
 * The asking session puts an entry into the log that calls quorum._inquire().
 * On each member the apply worker, when it comes to that entry, exports its
 * snapshot: everything below is visible then, nothing above can be. It starts a
 * background worker, waits until that one has taken the snapshot over (some
 * milliseconds; at most HAND_OVER_MS, then this member gives no answer), and
 * goes on applying. The worker runs the query under that snapshot, as long as
 * it may take, and puts the answer into the log, in an entry that calls
 * quorum._answer(). So all members have all answers, in quorum.inquiry_answer,
 * and the asking session finds them there.
 *
 * A snapshot does not protect against what is not MVCC-safe: a table that is
 * truncated or rewritten looks empty in older snapshots. So the worker locks the
 * tables in question before it lets the apply worker go on; where it would have
 * to wait for the lock, it leaves the table out and says so.
 *
 * Between apply worker and background worker there is a DSM segment (Errand):
 * made and filled by the apply worker before it starts the other; `state` is
 * written by the background worker alone. Both map it; it is gone when both have
 * let go, or with the server.
 *
 * A crash of a member: if the entry is applied again, so is the answer given
 * again; if not, the member does not answer, and the asking session notices that
 * it was away.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "libpq/pqsignal.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/dsm.h"
#include "storage/ipc.h"
#include "storage/lmgr.h"
#include "storage/proc.h"
#include "tcop/tcopprot.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "node/node.h"
#include "replication/inquiry.h"
#include "replication/logentry.h"
#include "replication/ownsql.h"
#include "replication/tables.h"

PG_FUNCTION_INFO_V1(quorum_do_inquire);
PG_FUNCTION_INFO_V1(quorum_do_answer);

#define HAND_OVER_MS		10000
#define POLL_MS				20
#define UNREACHABLE_US		INT64CONST(3000000)	/* members that are not there */
#define NO_PROGRESS_US		INT64CONST(15000000)	/* that do not get to the entry, or begin */
#define ANSWER_TRIES		20
#define ANSWER_PAUSE_MS		500
#define LOCK_TIMEOUT		"3s"	/* in the query */
#define REQUEST_LEN			64
#define SNAPSHOT_LEN		64

typedef enum ErrandState
{
	ERRAND_WAITING,
	ERRAND_READY,				/* the snapshot is taken over */
	ERRAND_FAILED
} ErrandState;

typedef struct Errand
{
	pg_atomic_uint32 state;
	int			applier;		/* procno: whom to wake */
	uint64		index;
	char		request[REQUEST_LEN];
	char		snapshot[SNAPSHOT_LEN];
	int			ntables;
	Size		query;			/* offset of the text */
	uint32		tables[FLEXIBLE_ARRAY_MEMBER];
} Errand;

/* in the background worker: tables that are locked, and the entry */
static List *locked = NIL;
static uint64 asked_index = 0;

bool
inquiry_locked(uint32 table_id)
{
	return list_member_int(locked, (int) table_id);
}

uint64
inquiry_index(void)
{
	return asked_index;
}

/* ---------- the apply worker ---------- */

static dsm_segment *
make_errand(const char *request, ArrayType *tables, const char *query)
{
	Datum	   *ids;
	int			ntables;
	Size		query_at;
	dsm_segment *segment;
	Errand	   *errand;

	deconstruct_array(tables, INT4OID, sizeof(int32), true, TYPALIGN_INT, &ids, NULL, &ntables);
	query_at = offsetof(Errand, tables) + sizeof(uint32) * ntables;
	segment = dsm_create(query_at + strlen(query) + 1, DSM_CREATE_NULL_IF_MAXSEGMENTS);
	if (segment == NULL)
		return NULL;
	errand = dsm_segment_address(segment);
	pg_atomic_init_u32(&errand->state, ERRAND_WAITING);
	errand->applier = compat_my_procno();
	errand->index = logentry_current_index();
	strlcpy(errand->request, request, sizeof(errand->request));
	errand->ntables = ntables;
	for (int i = 0; i < ntables; i++)
		errand->tables[i] = (uint32) DatumGetInt32(ids[i]);
	errand->query = query_at;
	strcpy((char *) errand + query_at, query);
	return segment;
}

static bool
start_worker(dsm_segment *segment, BackgroundWorkerHandle **handle)
{
	BackgroundWorker worker;

	memset(&worker, 0, sizeof(worker));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	strlcpy(worker.bgw_library_name, "pg_quorum", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, "inquiry_worker_main", BGW_MAXLEN);
	strlcpy(worker.bgw_name, "pg_quorum inquiry worker", BGW_MAXLEN);
	strlcpy(worker.bgw_type, "pg_quorum inquiry worker", BGW_MAXLEN);
	worker.bgw_main_arg = UInt32GetDatum(dsm_segment_handle(segment));
	worker.bgw_notify_pid = MyProcPid;
	return RegisterDynamicBackgroundWorker(&worker, handle);
}

/* Until the worker has the snapshot. False: it has not. */
static bool
hand_over(Errand *errand, BackgroundWorkerHandle *handle)
{
	int64		deadline_us = node_monotonic_us() + (int64) HAND_OVER_MS * 1000;

	for (;;)
	{
		pid_t		pid;

		if (pg_atomic_read_u32(&errand->state) != ERRAND_WAITING)
			return pg_atomic_read_u32(&errand->state) == ERRAND_READY;
		if (GetBackgroundWorkerPid(handle, &pid) == BGWH_STOPPED ||
			node_monotonic_us() > deadline_us)
			return false;
		node_pause(POLL_MS);
	}
}

/* Answers of inquiries long past go. */
static void
forget_old_answers(void)
{
	OwnSql		saved;

	ownsql_begin(&saved);
	ownsql_run("DELETE FROM quorum.inquiry_answer WHERE log_index < "
			   "(SELECT min(log_index) FROM (SELECT DISTINCT log_index FROM quorum.inquiry_answer "
			   "ORDER BY log_index DESC LIMIT 20) newest)", 0, NULL, NULL, NULL, SPI_OK_DELETE);
	ownsql_end(&saved);
}

/*
 * _inquire(request, tables, query) - part of the log. A member that cannot do
 * it gives no answer; it does not stop applying for that.
 */
Datum
quorum_do_inquire(PG_FUNCTION_ARGS)
{
	char	   *request = text_to_cstring(PG_GETARG_TEXT_PP(0));
	ArrayType  *tables = PG_GETARG_ARRAYTYPE_P(1);
	char	   *query = text_to_cstring(PG_GETARG_TEXT_PP(2));
	dsm_segment *segment;
	Errand	   *errand;
	BackgroundWorkerHandle *handle;

	logentry_require_applying("_inquire");
	segment = make_errand(request, tables, query);
	if (segment == NULL)
		ereport(LOG,
				(errmsg("pg_quorum: inquiry %s is not answered here: too many dynamic shared memory segments",
						request)));
	else
	{
		errand = dsm_segment_address(segment);
		strlcpy(errand->snapshot, ExportSnapshot(GetLatestSnapshot()), sizeof(errand->snapshot));
		if (!start_worker(segment, &handle))
			ereport(LOG,
					(errmsg("pg_quorum: inquiry %s is not answered here: no background worker is free", request),
					 errhint("You may need to increase max_worker_processes.")));
		else if (!hand_over(errand, handle))
			ereport(LOG,
					(errmsg("pg_quorum: inquiry %s is not answered here: the worker did not take the snapshot over",
							request)));
		dsm_detach(segment);
	}
	forget_old_answers();
	PG_RETURN_VOID();
}

/*
 * _answer(request, log_index, node_id, state, rows) - part of the log. state:
 * begun, done, failed.
 */
Datum
quorum_do_answer(PG_FUNCTION_ARGS)
{
	OwnSql		saved;
	Oid			types[] = {TEXTOID, INT8OID, INT8OID, TEXTOID, TEXTARRAYOID};
	Datum		values[] = {PG_GETARG_DATUM(0), PG_GETARG_DATUM(1), PG_GETARG_DATUM(2),
	PG_GETARG_DATUM(3), PG_GETARG_DATUM(4)};

	logentry_require_applying("_answer");
	ownsql_begin(&saved);
	ownsql_run("INSERT INTO quorum.inquiry_answer (request, log_index, node_id, state, answer) "
			   "VALUES ($1, $2, $3, $4, $5) ON CONFLICT (request, node_id) "
			   "DO UPDATE SET state = EXCLUDED.state, answer = EXCLUDED.answer",
			   lengthof(types), types, values, NULL, SPI_OK_INSERT);
	ownsql_end(&saved);
	PG_RETURN_VOID();
}

/* ---------- the background worker ---------- */

static void
set_state(Errand *errand, ErrandState state)
{
	pg_atomic_write_u32(&errand->state, state);
	SetLatch(&ProcGlobal->allProcs[errand->applier].procLatch);
}

/* All of a partition tree, or nothing, without waiting. */
static bool
lock_table(uint32 table_id)
{
	Oid			relid = tables_oid_of(table_id);
	List	   *tree;
	ListCell   *lc;

	if (!OidIsValid(relid) || !ConditionalLockRelationOid(relid, AccessShareLock))
		return false;
	if (get_rel_relkind(relid) != RELKIND_PARTITIONED_TABLE)
		return OidIsValid(get_rel_namespace(relid));
	tree = find_all_inheritors(relid, NoLock, NULL);
	foreach(lc, tree)
		if (!ConditionalLockRelationOid(lfirst_oid(lc), AccessShareLock))
			return false;
	return true;
}

static void
take_over(Errand *errand)
{
	asked_index = errand->index;
	XactIsoLevel = XACT_REPEATABLE_READ;
	ImportSnapshot(errand->snapshot);
	for (int i = 0; i < errand->ntables; i++)
	{
		if (lock_table(errand->tables[i]))
			locked = lappend_int(locked, (int) errand->tables[i]);
	}
	set_state(errand, ERRAND_READY);
}

static char *
answer_statement(const Errand *errand, const char *state, int nrows, char **rows)
{
	StringInfoData sql;

	initStringInfo(&sql);
	appendStringInfo(&sql, "SELECT quorum._answer(%s, " UINT64_FORMAT ", %u, '%s', ARRAY[",
					 quote_literal_cstr(errand->request), errand->index, node_id(), state);
	for (int i = 0; i < nrows; i++)
		appendStringInfo(&sql, "%s%s", i > 0 ? ", " : "",
						 rows[i] ? quote_literal_cstr(rows[i]) : "NULL");
	appendStringInfoString(&sql, "]::text[])");
	return sql.data;
}

/* A leader may be missing for the moment. */
static void
submit_patiently(const char *statement)
{
	MemoryContext context = CurrentMemoryContext;

	for (volatile int i = 1;; i++)
	{
		volatile bool done = false;

		PG_TRY();
		{
			(void) logentry_submit(statement, false);
			done = true;
		}
		PG_CATCH();
		{
			if (i == ANSWER_TRIES || ProcDiePending)
				PG_RE_THROW();
			MemoryContextSwitchTo(context);
			FlushErrorState();
		}
		PG_END_TRY();
		if (done)
			return;
		node_pause(ANSWER_PAUSE_MS);
	}
}

/* The rows, in `context`. */
static char **
run_query(const char *query, MemoryContext context, int *nrows)
{
	char	  **rows;
	MemoryContext old;

	PushActiveSnapshot(GetTransactionSnapshot());
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	if (SPI_execute(query, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "the inquiry is no query");
	old = MemoryContextSwitchTo(context);
	*nrows = (int) SPI_processed;
	rows = palloc_array(char *, Max(*nrows, 1));
	for (int i = 0; i < *nrows; i++)
	{
		char	   *value = SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1);

		rows[i] = value ? MemoryContextStrdup(context, value) : NULL;
	}
	MemoryContextSwitchTo(old);
	SPI_finish();
	PopActiveSnapshot();
	return rows;
}

/* The answer's statement, in `context`; the transaction is over. */
static char *
find_answer(Errand *errand, MemoryContext context)
{
	char	   *answer;

	PG_TRY();
	{
		char	  **rows;
		int			nrows;

		SetCurrentStatementStartTimestamp();
		StartTransactionCommand();
		take_over(errand);
		submit_patiently(answer_statement(errand, "begun", 0, NULL));
		pgstat_report_activity(STATE_RUNNING, (char *) errand + errand->query);
		rows = run_query((char *) errand + errand->query, context, &nrows);
		CommitTransactionCommand();
		MemoryContextSwitchTo(context);
		answer = answer_statement(errand, "done", nrows, rows);
	}
	PG_CATCH();
	{
		ErrorData  *edata;

		MemoryContextSwitchTo(context);
		if (pg_atomic_read_u32(&errand->state) == ERRAND_WAITING)
			set_state(errand, ERRAND_FAILED);
		if (ProcDiePending)
			PG_RE_THROW();
		edata = CopyErrorData();
		FlushErrorState();
		AbortCurrentTransaction();
		QueryCancelPending = false;
		MemoryContextSwitchTo(context);
		ereport(LOG,
				(errmsg("pg_quorum: inquiry %s cannot be answered: %s", errand->request, edata->message)));
		answer = answer_statement(errand, "failed", 1, &edata->message);
	}
	PG_END_TRY();
	pgstat_report_activity(STATE_IDLE, NULL);
	return answer;
}

void
inquiry_worker_main(Datum arg)
{
	dsm_segment *segment;
	Errand	   *errand;
	MemoryContext context;

	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	CurrentResourceOwner = ResourceOwnerCreate(NULL, "pg_quorum inquiry");
	segment = dsm_attach(DatumGetUInt32(arg));
	if (segment == NULL)
		proc_exit(0);			/* the apply worker did not wait for us */
	dsm_pin_mapping(segment);
	errand = dsm_segment_address(segment);
	BackgroundWorkerInitializeConnection(quorum_database, NULL, 0);
	SetConfigOption("lock_timeout", LOCK_TIMEOUT, PGC_SUSET, PGC_S_OVERRIDE);
	context = AllocSetContextCreate(TopMemoryContext, "pg_quorum inquiry", ALLOCSET_DEFAULT_SIZES);
	submit_patiently(find_answer(errand, context));
	dsm_detach(segment);
	proc_exit(0);
}

/* ---------- the asking session ---------- */

typedef struct Member
{
	InquiryAnswer *answer;
	bool		closed;			/* answered, or given up */
	bool		begun;
	bool		away;			/* was not reachable at some time */
	uint64		applied;
	int64		moved_us;		/* it came nearer to the entry, or began, or came back */
	int64		seen_us;		/* reachable */
} Member;

static Member *
find_member(List *members, uint32 node)
{
	ListCell   *lc;

	foreach(lc, members)
	{
		Member	   *m = lfirst(lc);

		if (m->answer->node_id == node)
			return m;
	}
	return NULL;
}

static void
give_up(Member *m, char *problem)
{
	m->closed = true;
	m->answer->problem = problem;
}

/* Who the members are and how far they have come; new ones are added at the first look. */
static List *
look_at_members(List *members, MemoryContext context, uint64 index, bool first)
{
	int64		now_us = node_monotonic_us();

	ownsql_look("SELECT node_id, node_name, reachable, coalesce(applied_index, 0) FROM quorum._members() ORDER BY 1",
				0, NULL, NULL);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		MemoryContext old = MemoryContextSwitchTo(context);
		uint32		node = (uint32) strtoul(ownsql_text(i, 1), NULL, 10);
		bool		reachable = ownsql_text(i, 3)[0] == 't';
		uint64		applied = strtoull(ownsql_text(i, 4), NULL, 10);
		Member	   *m = find_member(members, node);

		if (m == NULL && first)
		{
			m = palloc0_object(Member);
			m->answer = palloc0_object(InquiryAnswer);
			m->answer->node_id = node;
			m->answer->node_name = pstrdup(ownsql_text(i, 2));
			m->moved_us = m->seen_us = now_us;
			members = lappend(members, m);
		}
		MemoryContextSwitchTo(old);
		if (m == NULL)
			continue;
		if (reachable)
			m->seen_us = now_us;
		else
			m->away = true;
		if (!reachable || (m->applied < index && applied > m->applied))
			m->moved_us = now_us;
		m->applied = applied;
	}
	return members;
}

static void
take_answer(Member *m, const char *state, char *array)
{
	Oid			in;
	Oid			ioparam;
	Datum	   *texts;
	bool	   *nulls;
	int			n;

	if (strcmp(state, "begun") == 0)
	{
		if (!m->begun)
			m->moved_us = node_monotonic_us();
		m->begun = true;
		return;
	}
	getTypeInputInfo(TEXTARRAYOID, &in, &ioparam);
	deconstruct_array(DatumGetArrayTypeP(OidInputFunctionCall(in, array, ioparam, -1)),
					  TEXTOID, -1, false, TYPALIGN_INT, &texts, &nulls, &n);
	m->closed = true;
	if (strcmp(state, "done") != 0)
	{
		m->answer->problem = n > 0 && !nulls[0] ? TextDatumGetCString(texts[0]) : pstrdup("failed");
		return;
	}
	m->answer->answered = true;
	m->answer->nrows = n;
	m->answer->rows = palloc_array(char *, Max(n, 1));
	for (int i = 0; i < n; i++)
		m->answer->rows[i] = nulls[i] ? NULL : TextDatumGetCString(texts[i]);
}

static void
look_at_answers(List *members, MemoryContext context, const char *request)
{
	Oid			types[] = {TEXTOID};
	Datum		values[] = {CStringGetTextDatum(request)};

	ownsql_look("SELECT node_id, state, answer FROM quorum.inquiry_answer WHERE request = $1",
				1, types, values);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		Member	   *m = find_member(members, (uint32) strtoul(ownsql_text(i, 1), NULL, 10));
		MemoryContext old = MemoryContextSwitchTo(context);

		if (m != NULL && !m->closed)
			take_answer(m, ownsql_text(i, 2), ownsql_text(i, 3));
		MemoryContextSwitchTo(old);
	}
}

/* Is there any point in waiting for this one? */
static void
look_at_patience(Member *m, uint64 index)
{
	int64		now_us = node_monotonic_us();

	if (m->closed)
		return;
	if (now_us - m->seen_us > UNREACHABLE_US)
		give_up(m, pstrdup("cannot be reached"));
	else if (m->applied < index && now_us - m->moved_us > NO_PROGRESS_US)
		give_up(m, psprintf("has not applied the log that far: it is at entry " UINT64_FORMAT, m->applied));
	else if ((!m->begun || m->away) && now_us - m->moved_us > NO_PROGRESS_US)
		give_up(m, pstrdup("gave no answer; see its server log"));
}

static bool
look(List **members, MemoryContext context, const char *request, uint64 index, bool first)
{
	bool		all = true;
	OwnSql		saved;
	ListCell   *lc;

	ownsql_begin(&saved);
	*members = look_at_members(*members, context, index, first);
	look_at_answers(*members, context, request);
	ownsql_end(&saved);
	MemoryContextSwitchTo(context);
	foreach(lc, *members)
	{
		look_at_patience(lfirst(lc), index);
		all &= ((Member *) lfirst(lc))->closed;
	}
	return all;
}

static char *
tables_literal(List *table_ids)
{
	StringInfoData text;
	ListCell   *lc;

	initStringInfo(&text);
	appendStringInfoChar(&text, '{');
	foreach(lc, table_ids)
		appendStringInfo(&text, "%s%d", lc == list_head(table_ids) ? "" : ",", lfirst_int(lc));
	appendStringInfoChar(&text, '}');
	return text.data;
}

List *
inquiry_ask(const char *query, List *table_ids, uint64 *index)
{
	MemoryContext context = CurrentMemoryContext;
	List	   *members = NIL;
	List	   *answers = NIL;
	ListCell   *lc;
	char	   *request;
	bool		first = true;

	node_require_member();
	request = node_token_out(node_next_token());
	*index = logentry_submit(psprintf("SELECT quorum._inquire(%s, '%s', %s)",
									  quote_literal_cstr(request), tables_literal(table_ids),
									  quote_literal_cstr(query)), true);
	while (!look(&members, context, request, *index, first))
	{
		first = false;
		node_pause(POLL_MS);
	}
	foreach(lc, members)
		answers = lappend(answers, ((Member *) lfirst(lc))->answer);
	return answers;
}
