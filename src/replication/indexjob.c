/*-------------------------------------------------------------------------
 *
 * indexjob.c
 *		CREATE INDEX CONCURRENTLY and DROP INDEX CONCURRENTLY on replicated
 *		tables.
 *
 * They run outside of any transaction and wait for all others, so the apply
 * worker cannot do it, for which others wait. The statement runs to its end where it
 * was issued, as ever. Then an entry makes it a job of each other member: a
 * row of quorum.index_job, which a background worker there works off, apart
 * from the log's order. That is fine because such an index changes nothing that
 * members have to agree on. A unique one does, and is refused.
 *
 * The job's text is the index's definition as it came to be, name included, so
 * that it means the same everywhere. A job is repeated until it is done: what a
 * crash, a cancel or an error left behind is an invalid index, which is
 * dropped first, and what is there already is not made again. Whatever the log
 * does to the table meanwhile goes first: the worker is cancelled, and tries again.
 * A table or index that is gone ends the job.
 *
 * One worker a server, started by the apply worker when there is a job, gone
 * when there is none. A lock on quorum.index_job that is held for the session keeps
 * a second one waiting. The table is this server's own.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/index.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "access/relation.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "storage/lmgr.h"
#include "tcop/tcopprot.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/relcache.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "node/node.h"
#include "replication/ddl_internal.h"
#include "replication/indexjob.h"
#include "replication/jobworker.h"
#include "replication/logentry.h"
#include "replication/ownsql.h"
#include "replication/replication.h"
#include "replication/tables.h"

PG_FUNCTION_INFO_V1(quorum_do_index_job);

#define RETRY_MS	5000

/* ---------- where it was issued ---------- */

bool
indexjob_is(Node *stmt)
{
	return (IsA(stmt, IndexStmt) && ((IndexStmt *) stmt)->concurrent) ||
		(IsA(stmt, DropStmt) && ((DropStmt *) stmt)->concurrent);
}

static void
refuse_unique(void)
{
	ddl_refuse("a unique index of a replicated table cannot be created or dropped CONCURRENTLY",
			   "All members have to enforce it from the same place in the log on: use the statement without CONCURRENTLY.");
}

static void
name_index(IndexJob *job, Oid index)
{
	job->table = IndexGetRelation(index, false);
	job->schema = get_namespace_name(get_rel_namespace(index));
	job->name = get_rel_name(index);
}

IndexJob *
indexjob_before(Node *stmt)
{
	/* the statement ends transactions, and their memory with it */
	MemoryContext old = MemoryContextSwitchTo(PortalContext ? PortalContext : CurrentMemoryContext);
	IndexJob   *job = palloc0_object(IndexJob);
	Relation	rel;

	if (IsA(stmt, DropStmt))
	{
		List	   *names = linitial_node(List, ((DropStmt *) stmt)->objects);
		Oid			index = RangeVarGetRelid(makeRangeVarFromNameList(names), NoLock, true);

		if (OidIsValid(index) && get_rel_relkind(index) == RELKIND_INDEX)
		{
			rel = relation_open(index, AccessShareLock);
			if (rel->rd_index->indisunique)
				refuse_unique();
			relation_close(rel, AccessShareLock);
			name_index(job, index);
		}
	}
	else
	{
		if (((IndexStmt *) stmt)->unique)
			refuse_unique();
		job->table = RangeVarGetRelid(((IndexStmt *) stmt)->relation, NoLock, true);
		if (OidIsValid(job->table))
		{
			rel = relation_open(job->table, AccessShareLock);
			job->before = RelationGetIndexList(rel);
			relation_close(rel, AccessShareLock);
			if (((IndexStmt *) stmt)->idxname)
			{
				job->schema = get_namespace_name(get_rel_namespace(job->table));
				job->name = pstrdup(((IndexStmt *) stmt)->idxname);
			}
		}
	}
	MemoryContextSwitchTo(old);
	return job;
}

/* The index that came to be, or that IF NOT EXISTS found. */
static Oid
made_index(const IndexJob *job)
{
	Relation	rel = relation_open(job->table, AccessShareLock);
	List	   *fresh = list_difference_oid(RelationGetIndexList(rel), job->before);

	relation_close(rel, AccessShareLock);
	if (fresh != NIL)
		return llast_oid(fresh);
	return job->name ? get_relname_relid(job->name, get_namespace_oid(job->schema, false)) : InvalidOid;
}

static char *
definition_of(Oid index)
{
	OwnSql		saved;
	Oid			types[] = {OIDOID};
	Datum		values[] = {ObjectIdGetDatum(index)};
	MemoryContext caller = CurrentMemoryContext;
	char	   *text;

	ownsql_begin(&saved);
	ownsql_run("SELECT pg_get_indexdef($1)", 1, types, values, NULL, SPI_OK_SELECT);
	text = MemoryContextStrdup(caller, ownsql_text(0, 1));
	ownsql_end(&saved);
	return text;
}

void
indexjob_after(Node *stmt, IndexJob *job)
{
	static const char create[] = "CREATE INDEX ";
	char	   *statement;
	bool		pushed = !ActiveSnapshotSet();

	if (!OidIsValid(job->table))
		return;
	/* the statement has left us a transaction, and nothing in it */
	if (pushed)
		PushActiveSnapshot(GetTransactionSnapshot());
	if (IsA(stmt, DropStmt))
		statement = psprintf("DROP INDEX CONCURRENTLY IF EXISTS %s",
							 quote_qualified_identifier(job->schema, job->name));
	else
	{
		Oid			index = made_index(job);
		char	   *definition;

		if (!OidIsValid(index))
			elog(ERROR, "could not find the index that was made");
		definition = definition_of(index);
		if (strncmp(definition, create, strlen(create)) != 0)
			elog(ERROR, "unexpected definition of an index: %s", definition);
		statement = psprintf("CREATE INDEX CONCURRENTLY IF NOT EXISTS %s", definition + strlen(create));
		name_index(job, index);
	}
	if (pushed)
		PopActiveSnapshot();
	(void) logentry_submit(psprintf("SELECT quorum._index_job(%u, %s, %s, %s)", node_id(),
									quote_literal_cstr(job->schema), quote_literal_cstr(job->name),
									quote_literal_cstr(statement)), false);
}

/* ---------- the apply worker ---------- */

static bool
is_waiting(void)
{
	return jobworker_finds("SELECT 1 FROM quorum.index_job LIMIT 1");
}

static JobWorker job_worker = {
	.function = "indexjob_main",
	.name = "pg_quorum index worker",
	.restart_s = RETRY_MS / 1000,
	.is_waiting = is_waiting,
	.due = true,
};

Datum
quorum_do_index_job(PG_FUNCTION_ARGS)
{
	OwnSql		saved;
	Oid			types[] = {TEXTOID, TEXTOID, TEXTOID};
	Datum		values[] = {PG_GETARG_DATUM(1), PG_GETARG_DATUM(2), PG_GETARG_DATUM(3)};

	logentry_require_applying("_index_job");
	if ((uint32) PG_GETARG_INT64(0) == node_id())
		PG_RETURN_VOID();
	ownsql_begin(&saved);
	ownsql_run("INSERT INTO quorum.index_job (job_id, schema_name, index_name, statement) "
			   "SELECT coalesce(max(job_id), 0) + 1, $1, $2, $3 FROM quorum.index_job",
			   3, types, values, NULL, SPI_OK_INSERT);
	ownsql_end(&saved);
	job_worker.due = true;
	PG_RETURN_VOID();
}

void
indexjob_look_again(void)
{
	job_worker.due = true;
}

void
indexjob_work(void)
{
	jobworker_turn(&job_worker);
}

/* ---------- the index worker ---------- */

static MemoryContext job_context;

typedef struct Job
{
	char	   *id;
	char	   *schema;
	char	   *name;
	char	   *statement;
} Job;

/* As the client of a session would send it: on its own, outside a transaction. */
static void
run_alone(const char *statement)
{
	RawStmt    *raw;
	PlannedStmt *pstmt;
	MemoryContext old = MemoryContextSwitchTo(job_context);

	raw = linitial_node(RawStmt, pg_parse_query(statement));
	pstmt = makeNode(PlannedStmt);
	pstmt->commandType = CMD_UTILITY;
	pstmt->canSetTag = true;
	pstmt->utilityStmt = raw->stmt;
	pstmt->stmt_location = -1;

	debug_query_string = statement;
	pgstat_report_activity(STATE_RUNNING, statement);
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	MemoryContextSwitchTo(job_context);
	ProcessUtility(pstmt, statement, false, PROCESS_UTILITY_TOPLEVEL, NULL, NULL,
				   None_Receiver, NULL);
	if (ActiveSnapshotSet())
		PopActiveSnapshot();
	CommitTransactionCommand();
	debug_query_string = NULL;
	MemoryContextSwitchTo(old);
}

/* SQL of our own, in a transaction. */
static void
change(const char *sql)
{
	OwnSql		saved;

	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	ownsql_begin(&saved);
	if (SPI_execute(sql, false, 0) < 0)
		elog(ERROR, "could not run \"%s\"", sql);
	ownsql_end(&saved);
	PopActiveSnapshot();
	CommitTransactionCommand();
}

static bool
next_job(Job *job)
{
	OwnSql		saved;
	bool		found;

	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	ownsql_begin(&saved);
	ownsql_run("SELECT job_id::text, schema_name, index_name, statement FROM quorum.index_job ORDER BY attempts, job_id LIMIT 1",
			   0, NULL, NULL, NULL, SPI_OK_SELECT);
	found = SPI_processed > 0;
	if (found)
	{
		job->id = MemoryContextStrdup(job_context, ownsql_text(0, 1));
		job->schema = MemoryContextStrdup(job_context, ownsql_text(0, 2));
		job->name = MemoryContextStrdup(job_context, ownsql_text(0, 3));
		job->statement = MemoryContextStrdup(job_context, ownsql_text(0, 4));
	}
	ownsql_end(&saved);
	PopActiveSnapshot();
	CommitTransactionCommand();
	return found;
}

/* Left behind by an attempt that did not get to its end. */
static bool
is_invalid(const Job *job)
{
	Oid			schema;
	Oid			relid;
	bool		invalid = false;

	StartTransactionCommand();
	schema = get_namespace_oid(job->schema, true);
	relid = OidIsValid(schema) ? get_relname_relid(job->name, schema) : InvalidOid;
	if (OidIsValid(relid) && get_rel_relkind(relid) == RELKIND_INDEX)
	{
		Relation	index = try_relation_open(relid, AccessShareLock);

		if (index)
		{
			invalid = !index->rd_index->indisvalid;
			relation_close(index, AccessShareLock);
		}
	}
	CommitTransactionCommand();
	return invalid;
}

static void
run_job(const Job *job)
{
	MemoryContext old = MemoryContextSwitchTo(job_context);
	char	   *drop = psprintf("DROP INDEX CONCURRENTLY IF EXISTS %s",
								quote_qualified_identifier(job->schema, job->name));
	char	   *finish = psprintf("DELETE FROM quorum.index_job WHERE job_id = %s", job->id);

	MemoryContextSwitchTo(old);
	if (is_invalid(job))
		run_alone(drop);
	run_alone(job->statement);
	change(finish);
	ereport(LOG, (errmsg("pg_quorum: done: %s", job->statement)));
}

/* The table or schema has gone meanwhile, or so changed that it makes no sense. */
static bool
is_obsolete(int sqlstate)
{
	return sqlstate == ERRCODE_UNDEFINED_TABLE || sqlstate == ERRCODE_UNDEFINED_SCHEMA ||
		sqlstate == ERRCODE_UNDEFINED_COLUMN;
}

/* False: it has to be tried again. */
static bool
try_job(const Job *job)
{
	volatile bool done = true;

	PG_TRY();
	{
		run_job(job);
	}
	PG_CATCH();
	{
		ErrorData  *edata;

		HOLD_INTERRUPTS();
		MemoryContextSwitchTo(job_context);
		edata = CopyErrorData();
		FlushErrorState();
		AbortOutOfAnyTransaction();
		QueryCancelPending = false;
		debug_query_string = NULL;
		RESUME_INTERRUPTS();
		ereport(LOG,
				(errcode(edata->sqlerrcode),
				 errmsg("pg_quorum: could not run \"%s\": %s", job->statement, edata->message),
				 edata->detail ? errdetail_internal("%s", edata->detail) : 0,
				 is_obsolete(edata->sqlerrcode) ? errhint("What it was for has gone.") :
				 errhint("It will be tried again; quorum.index_job lists what waits.")));
		if (is_obsolete(edata->sqlerrcode))
			change(psprintf("DELETE FROM quorum.index_job WHERE job_id = %s", job->id));
		else
		{
			done = false;
			change(psprintf("UPDATE quorum.index_job SET attempts = attempts + 1, last_error = %s WHERE job_id = %s",
							quote_literal_cstr(edata->message), job->id));
		}
	}
	PG_END_TRY();
	return done;
}

/* Only one at a time; an abort has taken the lock away. */
static void
lock_out_others(void)
{
	static LockRelId id;

	if (!OidIsValid(id.relId))
	{
		StartTransactionCommand();
		id.relId = get_relname_relid("index_job", get_namespace_oid("quorum", false));
		id.dbId = MyDatabaseId;
		CommitTransactionCommand();
	}
	StartTransactionCommand();
	LockRelationIdForSession(&id, ShareUpdateExclusiveLock);
	CommitTransactionCommand();
}

/* Session locks outlive a process that ends outside a transaction. */
static void
at_exit(int code, Datum arg)
{
	LockReleaseSession(DEFAULT_LOCKMETHOD);
}

void
indexjob_main(Datum arg)
{
	Job			job;

	jobworker_begin();
	job_context = AllocSetContextCreate(TopMemoryContext, "pg_quorum index job",
										ALLOCSET_DEFAULT_SIZES);
	/* what it does is known to the cluster */
	ddl_depth = 1;

	before_shmem_exit(at_exit, (Datum) 0);
	lock_out_others();
	while (next_job(&job))
	{
		if (!try_job(&job))
		{
			lock_out_others();
			pgstat_report_activity(STATE_IDLE, NULL);
			node_pause(RETRY_MS);
		}
		MemoryContextReset(job_context);
	}
	proc_exit(0);
}
