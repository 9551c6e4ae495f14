/*-------------------------------------------------------------------------
 *
 * resync.c
 *		quorum.resync_table: a member whose table differs gets it from another.
 *
 * An entry of the log says which member takes which table from whom
 * (quorum._resync). It carries the table's exclusive key, so no transaction that
 * has touched the table before it can come after it: none of this member's
 * sessions holds a lock on it and waits for its turn. Everybody but the member
 * concerned passes the entry by. There the apply worker, in the entry's own
 * transaction,
 *	- connects to the other member's SQL port, and begins a transaction there
 *	  whose snapshot stands at an entry no earlier than everything applied here;
 *	- copies the table's rows into a temporary table;
 *	- deletes what is not the same there, and inserts what is missing then; so
 *	  rows that are right stay untouched.
 * The other member goes on meanwhile, so its snapshot may stand at a later entry.
 * Then the table is ahead of the others here: quorum.resync_state remembers up to
 * where, and the apply worker leaves out the entries' changes of this table up to
 * there. It is all one transaction, with the entry's progress.
 *
 * Applying stands still on this one member while the rows come. What goes wrong
 * (no connection, another definition) undoes the repair, is remembered, and the
 * entry counts as applied: a repair that fails does not stop a member.
 *
 * A member that has stopped at an entry which its table does not allow will never
 * come to such an entry. There a session asks the apply worker directly
 * (ResyncShared): the same is done at the point where it stands, in a transaction
 * of its own.
 *
 * How it went is asked afterwards, along with digests of all members, by an
 * inquiry. quorum.resync_state is this member's own and not part of the log.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "pgstat.h"
#include "storage/shmem.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "node/node.h"
#include "replication/apply_internal.h"
#include "replication/designate.h"
#include "replication/image_internal.h"
#include "replication/keys_internal.h"
#include "replication/logentry.h"
#include "replication/ownsql.h"
#include "replication/resync.h"
#include "replication/session.h"
#include "replication/tables.h"
#include "replication/verify.h"

PG_FUNCTION_INFO_V1(quorum_resync_table);
PG_FUNCTION_INFO_V1(quorum_do_resync);
PG_FUNCTION_INFO_V1(quorum_resync_outcome);

#define SOURCE_PATIENCE_US	INT64CONST(30000000)	/* until it is as far as we are */
#define FIND_PATIENCE_US	INT64CONST(5000000)	/* until it can be reached */
#define SOURCE_PAUSE_MS		50
#define LOCK_TIMEOUT		"10s"	/* local sessions that hold rows */
#define HERE_PATIENCE_US	INT64CONST(60000000)	/* until the apply worker takes a request */
#define OUTCOME_LEN			512
#define STAGE				"pg_quorum_resync"

/* ---------- a request of a session here, where the log does not get to ---------- */

typedef enum HereState
{
	HERE_NONE,
	HERE_ASKED,					/* session */
	HERE_WORKING,				/* apply worker */
	HERE_DONE					/* apply worker; the session makes NONE of it */
} HereState;

/*
 * All under the mutex; stopped is the apply worker's. Zero at the server's start,
 * crash restarts included: the session is gone then, too. One request at a time;
 * a session that goes away before it was taken takes it back.
 */
typedef struct ResyncShared
{
	slock_t		mutex;
	HereState	state;
	uint64		request;		/* counts, so that nobody takes another's answer */
	uint32		table_id;
	uint32		source;
	bool		stopped;
	char		outcome[OUTCOME_LEN];
} ResyncShared;

static ResyncShared *shared = NULL;

Size
resync_shmem_size(void)
{
	return MAXALIGN(sizeof(ResyncShared));
}

void
resync_shmem_init(void)
{
	bool		found;

	shared = ShmemInitStruct("pg_quorum resync", resync_shmem_size(), &found);
	if (found)
		return;
	memset(shared, 0, sizeof(*shared));
	SpinLockInit(&shared->mutex);
}

void
resync_note_stopped(bool stopped)
{
	SpinLockAcquire(&shared->mutex);
	shared->stopped = stopped;
	SpinLockRelease(&shared->mutex);
}

/* ---------- tables that are ahead ---------- */

typedef struct Ahead
{
	uint32		table_id;
	uint64		until;			/* entries up to here are in the table */
} Ahead;

/* private to the apply worker; few, and mostly none */
static Ahead *ahead = NULL;
static int	nahead = 0;

static void
read_ahead(void)
{
	OwnSql		saved;
	MemoryContext old;

	ownsql_begin(&saved);
	ownsql_run(psprintf("SELECT table_id, ahead_until FROM quorum.resync_state WHERE ahead_until > " UINT64_FORMAT,
						node_applied_index()), 0, NULL, NULL, NULL, SPI_OK_SELECT);
	old = MemoryContextSwitchTo(TopMemoryContext);
	if (ahead)
		pfree(ahead);
	ahead = palloc_array(Ahead, SPI_processed + 1);
	nahead = (int) SPI_processed;
	MemoryContextSwitchTo(old);
	for (int i = 0; i < nahead; i++)
	{
		ahead[i].table_id = (uint32) strtoul(ownsql_text(i, 1), NULL, 10);
		ahead[i].until = strtoull(ownsql_text(i, 2), NULL, 10);
	}
	ownsql_end(&saved);
}

void
resync_load(void)
{
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	read_ahead();
	PopActiveSnapshot();
	CommitTransactionCommand();
}

/* What is passed must not be taken for something, should the server join another cluster. */
void
resync_tidy(void)
{
	OwnSql		saved;

	for (int i = 0; i < nahead; i++)
		if (ahead[i].until > node_applied_index())
			return;
	if (nahead == 0)
		return;
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	ownsql_begin(&saved);
	ownsql_run("UPDATE quorum.resync_state SET ahead_until = 0", 0, NULL, NULL, NULL, SPI_OK_UPDATE);
	ownsql_end(&saved);
	PopActiveSnapshot();
	CommitTransactionCommand();
	nahead = 0;
}

bool
resync_covers(uint32 table_id, uint64 index)
{
	for (int i = 0; i < nahead; i++)
		if (ahead[i].table_id == table_id && index <= ahead[i].until)
			return true;
	return false;
}

bool
resync_is_ahead(uint32 table_id, uint64 index)
{
	OwnSql		saved;
	bool		found;

	ownsql_begin(&saved);
	ownsql_run(psprintf("SELECT 1 FROM quorum.resync_state WHERE table_id = %u AND ahead_until >= " UINT64_FORMAT,
						table_id, index), 0, NULL, NULL, NULL, SPI_OK_SELECT);
	found = SPI_processed > 0;
	ownsql_end(&saved);
	return found;
}

static void
remember(uint32 table_id, uint64 index, uint64 until, bool good, const char *outcome)
{
	OwnSql		saved;
	Oid			types[] = {INT4OID, INT8OID, INT8OID, BOOLOID, TEXTOID};
	Datum		values[] = {Int32GetDatum((int32) table_id), Int64GetDatum((int64) index),
	Int64GetDatum((int64) until), BoolGetDatum(good), CStringGetTextDatum(outcome)};

	ownsql_begin(&saved);
	/* a failed try leaves what an earlier one has done */
	ownsql_run("INSERT INTO quorum.resync_state AS s (table_id, log_index, ahead_until, good, outcome) "
			   "VALUES ($1, $2, $3, $4, $5) ON CONFLICT (table_id) DO UPDATE SET log_index = $2, good = $4, outcome = $5, "
			   "ahead_until = CASE WHEN $4 THEN $3 ELSE s.ahead_until END",
			   lengthof(types), types, values, NULL, SPI_OK_INSERT);
	CommandCounterIncrement();
	ownsql_end(&saved);
	read_ahead();
}

/* ---------- the repair ---------- */

static void
pause_for_source(void)
{
	node_pause(SOURCE_PAUSE_MS);
}

static bool
is_reachable(uint32 node, NodeSqlAddress *sql)
{
	int			n;
	NodeImageSource *sources = node_image_sources(&n);
	bool		found = false;

	for (int i = 0; i < n && !found; i++)
	{
		found = sources[i].id == node;
		if (found)
			*sql = sources[i].sql;
	}
	pfree(sources);
	return found;
}

/* It may just have been started, as we may have. */
static void
find_source(uint32 node, NodeSqlAddress *sql)
{
	int64		deadline_us = node_monotonic_us() + FIND_PATIENCE_US;

	while (!is_reachable(node, sql))
	{
		if (node_monotonic_us() > deadline_us)
			ereport(ERROR,
					(errcode(ERRCODE_CONNECTION_FAILURE),
					 errmsg("member %u, which is to give the rows, cannot be reached", node)));
		pause_for_source();
	}
}

/* Until its snapshot has everything that was applied here. */
static void
begin_at_source(ImageSource *source, uint64 least)
{
	int64		deadline_us = node_monotonic_us() + SOURCE_PATIENCE_US;

	for (;;)
	{
		image_source_begin(source);
		if (source->point.index >= least)
			return;
		if (node_monotonic_us() > deadline_us)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("member \"%s\" is at entry " UINT64_FORMAT " of the log, behind this one",
							source->sql.name, source->point.index)));
		(void) image_query(source->conn, "ROLLBACK");
		pause_for_source();
	}
}

/* The table's name there; ERROR unless it is defined as it is here. */
static char *
name_at_source(ImageSource *source, uint32 table_id, const char *definition)
{
	ImageRows  *rows = image_query(source->conn, psprintf(
		"SELECT pg_catalog.quote_ident(n.nspname) || '.' || pg_catalog.quote_ident(c.relname), "
		"quorum._table_definition(c.oid) FROM quorum.replicated_table r "
		"JOIN pg_catalog.pg_class c ON c.oid = r.relid "
		"JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE r.table_id = %u", table_id));

	if (rows->n != 1)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("member \"%s\" has no such table", source->sql.name)));
	if (image_value(rows, 0, 1) == NULL || strcmp(image_value(rows, 0, 1), definition) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the table is defined differently on member \"%s\"", source->sql.name),
				 errhint("A schema change may be on its way: try again.")));
	return image_value(rows, 0, 0);
}

/* Columns that have values of their own, and those by which rows are found. */
static List *
own_columns(Relation rel)
{
	TupleDesc	desc = RelationGetDescr(rel);
	List	   *columns = NIL;

	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);

		if (!att->attisdropped && att->attgenerated == '\0')
			columns = lappend(columns, pstrdup(NameStr(att->attname)));
	}
	return columns;
}

static char *
qualified_list(const char *alias, List *columns)
{
	StringInfoData text;
	ListCell   *lc;

	initStringInfo(&text);
	foreach(lc, columns)
		appendStringInfo(&text, "%s%s.%s", text.len > 0 ? ", " : "", alias, quote_identifier(lfirst(lc)));
	return text.data;
}

static char *
same_key(Relation rel)
{
	Relation	index = index_open(tables_identity_index(rel), AccessShareLock);
	StringInfoData text;

	initStringInfo(&text);
	for (int i = 0; i < index->rd_index->indnkeyatts; i++)
	{
		const char *name = quote_identifier(get_attname(RelationGetRelid(rel),
														index->rd_index->indkey.values[i], false));

		appendStringInfo(&text, "%st.%s = s.%s", i > 0 ? " AND " : "", name, name);
	}
	index_close(index, AccessShareLock);
	return text.data;
}

static void
stage_rows(ImageSource *source, const char *remote_name, const char *name, List *columns)
{
	Relation	stage;

	ownsql_run(psprintf("CREATE TEMP TABLE " STAGE " AS SELECT %s FROM %s WITH NO DATA",
						image_column_list(columns), name), 0, NULL, NULL, NULL, SPI_OK_UTILITY);
	CommandCounterIncrement();
	stage = table_openrv(makeRangeVar("pg_temp", STAGE, -1), RowExclusiveLock);
	(void) image_copy_rows(source->conn, psprintf("COPY (SELECT %s FROM %s) TO STDOUT",
												  image_column_list(columns), remote_name),
						   stage, columns, false);
	table_close(stage, NoLock);
	CommandCounterIncrement();
	ownsql_run("ANALYZE pg_temp." STAGE, 0, NULL, NULL, NULL, SPI_OK_UTILITY);
}

/*
 * Make the table what member `node` has, at an entry of `least` or above, which
 * goes to *until. Returns what was done, for people.
 */
static char *
repair(uint32 table_id, uint32 node, uint64 least, uint64 *until)
{
	Oid			relid = tables_oid_of(table_id);
	NodeSqlAddress sql;
	ImageSource source;
	Relation	rel;
	List	   *columns;
	char	   *name;
	char	   *key;
	char	   *remote_name;
	uint64		deleted;
	uint64		inserted;
	OwnSql		saved;

	if (!OidIsValid(relid))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("the table is missing on this member")));
	find_source(node, &sql);
	image_source_open(&source, &sql);
	rel = table_open(relid, RowExclusiveLock);
	name = quote_qualified_identifier(get_namespace_name(RelationGetNamespace(rel)),
									  RelationGetRelationName(rel));
	columns = own_columns(rel);
	key = same_key(rel);
	begin_at_source(&source, least);
	remote_name = name_at_source(&source, table_id, designate_definition(relid));

	ownsql_begin(&saved);
	(void) set_config_option("lock_timeout", LOCK_TIMEOUT, PGC_SUSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	stage_rows(&source, remote_name, name, columns);
	*until = source.point.index;
	image_disconnect(source.conn);

	/* first what is too much or different, so that no unique index stands in the way of the rest */
	ownsql_run(psprintf("DELETE FROM %s t WHERE NOT EXISTS (SELECT 1 FROM pg_temp." STAGE " s WHERE %s AND ROW(%s)::record *= ROW(%s)::record)",
						name, key, qualified_list("s", columns), qualified_list("t", columns)),
			   0, NULL, NULL, NULL, SPI_OK_DELETE);
	deleted = SPI_processed;
	CommandCounterIncrement();
	ownsql_run(psprintf("INSERT INTO %s (%s) OVERRIDING SYSTEM VALUE SELECT %s FROM pg_temp." STAGE " s "
						"WHERE NOT EXISTS (SELECT 1 FROM %s t WHERE %s)",
						name, image_column_list(columns), qualified_list("s", columns), name, key),
			   0, NULL, NULL, NULL, SPI_OK_INSERT);
	inserted = SPI_processed;
	CommandCounterIncrement();
	ownsql_run("DROP TABLE pg_temp." STAGE, 0, NULL, NULL, NULL, SPI_OK_UTILITY);
	ownsql_end(&saved);
	table_close(rel, NoLock);
	return psprintf(UINT64_FORMAT " rows deleted, " UINT64_FORMAT " inserted, as member \"%s\" had them at entry " UINT64_FORMAT,
					deleted, inserted, sql.name, *until);
}

/*
 * The same, with what goes wrong undone and told in *outcome. `index`: the entry
 * behind which this stands. In a transaction.
 */
static bool
try_repair(uint32 table_id, uint32 node, uint64 index, char *outcome)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	volatile bool good = false;
	uint64	   *until = palloc0_object(uint64);

	BeginInternalSubTransaction(NULL);
	PG_TRY();
	{
		MemoryContextSwitchTo(context);
		strlcpy(outcome, repair(table_id, node, index, until), OUTCOME_LEN);
		ReleaseCurrentSubTransaction();
		good = true;
	}
	PG_CATCH();
	{
		ErrorData  *edata;

		if (ProcDiePending)
			PG_RE_THROW();
		MemoryContextSwitchTo(context);
		edata = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		image_disconnect_all();
		QueryCancelPending = false;
		snprintf(outcome, OUTCOME_LEN, "%s%s%s", edata->message, edata->detail ? ": " : "",
				 edata->detail ? edata->detail : "");
		FreeErrorData(edata);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	remember(table_id, index, *until, good, outcome);
	ereport(LOG,
			((good ?
			 errmsg("pg_quorum: replicated table \"%s\" is made the same as the others': %s",
					get_rel_name(tables_oid_of(table_id)), outcome) :
			 errmsg("pg_quorum: replicated table \"%s\" could not be made the same as the others': %s",
					get_rel_name(tables_oid_of(table_id)), outcome)),
			 errhidecontext(true)));
	return good;
}

/*
 * _resync(table_id, target, source) - part of the log.
 */
Datum
quorum_do_resync(PG_FUNCTION_ARGS)
{
	char		outcome[OUTCOME_LEN];

	logentry_require_applying("_resync");
	if ((uint32) PG_GETARG_INT64(1) == node_id())
		(void) try_repair((uint32) PG_GETARG_INT32(0), (uint32) PG_GETARG_INT64(2),
						  logentry_current_index() - 1, outcome);
	PG_RETURN_VOID();
}

/* ---------- where the log does not get to ---------- */

bool
resync_wanted_here(void)
{
	bool		wanted;

	SpinLockAcquire(&shared->mutex);
	wanted = shared->stopped && shared->state == HERE_ASKED;
	SpinLockRelease(&shared->mutex);
	return wanted;
}

static void
answer_here(uint64 request, const char *outcome)
{
	SpinLockAcquire(&shared->mutex);
	if (shared->state == HERE_WORKING && shared->request == request)
	{
		strlcpy(shared->outcome, outcome, sizeof(shared->outcome));
		shared->state = HERE_DONE;
	}
	SpinLockRelease(&shared->mutex);
}

void
resync_here(void)
{
	volatile uint32 table_id = 0;
	volatile uint32 source = 0;
	volatile uint64 request = 0;
	char		outcome[OUTCOME_LEN];
	bool		good;

	SpinLockAcquire(&shared->mutex);
	if (shared->state == HERE_ASKED)
	{
		shared->state = HERE_WORKING;
		table_id = shared->table_id;
		source = shared->source;
		request = shared->request;
	}
	SpinLockRelease(&shared->mutex);
	if (table_id == 0)
		return;
	PG_TRY();
	{
		StartTransactionCommand();
		PushActiveSnapshot(GetTransactionSnapshot());
		good = try_repair(table_id, source, node_applied_index(), outcome);
		PopActiveSnapshot();
		CommitTransactionCommand();
		answer_here(request, good ? "" : outcome);
	}
	PG_CATCH();
	{
		answer_here(request, "the apply worker met an error, see the server log");
		PG_RE_THROW();
	}
	PG_END_TRY();
}

static bool
is_stopped_here(void)
{
	bool		stopped;

	SpinLockAcquire(&shared->mutex);
	stopped = shared->stopped;
	SpinLockRelease(&shared->mutex);
	return stopped;
}

static uint64
ask_here(uint32 table_id, uint32 source)
{
	volatile uint64 request = 0;

	SpinLockAcquire(&shared->mutex);
	if (shared->state == HERE_NONE || shared->state == HERE_DONE)
	{
		shared->state = HERE_ASKED;
		shared->table_id = table_id;
		shared->source = source;
		request = ++shared->request;
	}
	SpinLockRelease(&shared->mutex);
	if (request == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("another table of this member is being repaired")));
	return request;
}

/* True when it is answered; the state afterwards is another request's. */
static bool
look_here(uint64 request, HereState *state, char *outcome)
{
	bool		done = false;

	SpinLockAcquire(&shared->mutex);
	*state = shared->request == request ? shared->state : HERE_NONE;
	if (*state == HERE_DONE)
	{
		memcpy(outcome, shared->outcome, OUTCOME_LEN);
		shared->state = HERE_NONE;
		done = true;
	}
	SpinLockRelease(&shared->mutex);
	return done;
}

static void
take_back(uint64 request)
{
	SpinLockAcquire(&shared->mutex);
	if (shared->request == request && shared->state == HERE_ASKED)
		shared->state = HERE_NONE;
	SpinLockRelease(&shared->mutex);
}

static void
repair_here(uint32 table_id, uint32 source)
{
	uint64		request = ask_here(table_id, source);
	int64		deadline_us = node_monotonic_us() + HERE_PATIENCE_US;
	char		outcome[OUTCOME_LEN];
	HereState	state;

	PG_TRY();
	{
		while (!look_here(request, &state, outcome))
		{
			if (state == HERE_NONE || (state == HERE_ASKED && node_monotonic_us() > deadline_us))
				ereport(ERROR,
						(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						 errmsg("the apply worker did not take the request"),
						 errhint("See column detail of quorum.status.")));
			node_pause(20L);
		}
	}
	PG_CATCH();
	{
		take_back(request);
		PG_RE_THROW();
	}
	PG_END_TRY();
	if (outcome[0] != '\0')
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the table could not be repaired on this member"),
				 errdetail("%s", outcome)));
}

/* ---------- resync_table ---------- */

typedef struct Party
{
	uint32		node_id;
	char	   *name;
	bool		reachable;
	bool		marked;
	uint64		applied;
} Party;

static List *
find_parties(uint32 table_id)
{
	MemoryContext caller = CurrentMemoryContext;
	List	   *parties = NIL;
	OwnSql		saved;

	ownsql_begin(&saved);
	ownsql_look(psprintf("SELECT m.node_id, m.node_name, m.reachable, coalesce(m.applied_index, 0), d.node_id IS NOT NULL "
						 "FROM quorum._members() m LEFT JOIN quorum.difference d ON d.node_id = m.node_id AND d.table_id = %u "
						 "ORDER BY 4 DESC, 1", table_id), 0, NULL, NULL);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		MemoryContext old = MemoryContextSwitchTo(caller);
		Party	   *party = palloc_object(Party);

		party->node_id = (uint32) strtoul(ownsql_text(i, 1), NULL, 10);
		party->name = pstrdup(ownsql_text(i, 2));
		party->reachable = ownsql_text(i, 3)[0] == 't';
		party->applied = strtoull(ownsql_text(i, 4), NULL, 10);
		party->marked = ownsql_text(i, 5)[0] == 't';
		parties = lappend(parties, party);
		MemoryContextSwitchTo(old);
	}
	ownsql_end(&saved);
	return parties;
}

static Party *
party_named(List *parties, const char *name)
{
	ListCell   *lc;

	foreach(lc, parties)
	{
		if (strcmp(((Party *) lfirst(lc))->name, name) == 0)
			return lfirst(lc);
	}
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("there is no member named \"%s\"", name)));
}

/* Who is to give the rows: who is named, or one that is not marked where some are. */
static Party *
choose_source(List *parties, const char *name, const char *target)
{
	bool		any = false;
	Party	   *best = NULL;
	ListCell   *lc;

	if (name)
		return party_named(parties, name);
	foreach(lc, parties)
	{
		Party	   *party = lfirst(lc);

		any |= party->marked;
		if (best == NULL && !party->marked && party->reachable && (target == NULL || strcmp(party->name, target) != 0))
			best = party;
	}
	if (!any || best == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("it is not known which member has the right rows"),
				 errhint("Compare them with quorum.verify, or name the member: quorum.resync_table(rel, \"from\" => ...).")));
	return best;
}

/* Who is to be repaired: who is named, else those that are marked, else this one. */
static List *
choose_targets(List *parties, const char *name, const Party *source)
{
	List	   *targets = NIL;
	ListCell   *lc;

	if (name)
		targets = list_make1(party_named(parties, name));
	else
	{
		foreach(lc, parties)
			if (((Party *) lfirst(lc))->marked && lfirst(lc) != source)
				targets = lappend(targets, lfirst(lc));
		if (targets == NIL)
			targets = list_make1(party_named(parties, quorum_node_name));
	}
	foreach(lc, targets)
	{
		Party	   *party = lfirst(lc);

		if (party == source)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("member \"%s\" cannot take the rows from itself", party->name)));
		if (!party->reachable)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("member \"%s\" cannot be reached", party->name)));
	}
	return targets;
}

/* With the exclusive key of the table, above every use of it so far. */
static uint64
put_in_log(uint32 table_id, const Party *target, const Party *source)
{
	return logentry_submit_key(psprintf("SELECT quorum._resync(%u, %u, %u)", table_id,
										target->node_id, source->node_id),
							   keys_seed(table_id, 'T'));
}

static char *
optional_text(FunctionCallInfo fcinfo, int n)
{
	return PG_ARGISNULL(n) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(n));
}

/*
 * resync_table(rel, from, member) - the table's rows on that member (those that
 * quorum.verify has marked, else this one) become those of member `from`.
 */
Datum
quorum_resync_table(PG_FUNCTION_ARGS)
{
	Oid			relid;
	uint32		table_id;
	char	   *from = optional_text(fcinfo, 1);
	char	   *member = optional_text(fcinfo, 2);
	List	   *parties;
	Party	   *source;
	List	   *targets;
	ListCell   *lc;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("the table must not be null")));
	relid = PG_GETARG_OID(0);
	node_require_member();
	if (!session_in_quorum_database())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("only database \"%s\" takes part in the cluster", quorum_database)));
	table_id = verify_table_id(relid);
	parties = find_parties(table_id);
	source = choose_source(parties, from, member);
	targets = choose_targets(parties, member, source);

	if (is_stopped_here())
	{
		/* the log goes on elsewhere: what can be repaired from here is this member */
		if (list_length(targets) != 1 || strcmp(((Party *) linitial(targets))->name, quorum_node_name) != 0)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("this member has stopped applying the log"),
					 errhint("Call quorum.resync_table on another member, or for this one.")));
		repair_here(table_id, source->node_id);
		PG_RETURN_VOID();
	}
	foreach(lc, targets)
	{
		const Party *target = lfirst(lc);

		verify_repaired(relid, put_in_log(table_id, target, source), target->node_id, target->name);
	}
	PG_RETURN_VOID();
}

/*
 * _resync_outcome(table_id) - what the last repair of the table came to here:
 * a word, and a text.
 */
Datum
quorum_resync_outcome(PG_FUNCTION_ARGS)
{
	OwnSql		saved;
	text	   *result = NULL;
	MemoryContext caller = CurrentMemoryContext;

	ownsql_begin(&saved);
	ownsql_run(psprintf("SELECT CASE WHEN good THEN 'good ' ELSE 'failed ' END || outcome "
						"FROM quorum.resync_state WHERE table_id = %d", PG_GETARG_INT32(0)),
			   0, NULL, NULL, NULL, SPI_OK_SELECT);
	if (SPI_processed > 0)
	{
		MemoryContext old = MemoryContextSwitchTo(caller);

		result = cstring_to_text(ownsql_text(0, 1));
		MemoryContextSwitchTo(old);
	}
	ownsql_end(&saved);
	if (result == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(result);
}
