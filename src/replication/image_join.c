/*-------------------------------------------------------------------------
 *
 * image_join.c
 *		quorum.join_cluster, quorum.join_progress, and the settings and shared
 *		memory that go with images.
 *
 * The calling session looks first, over an SQL connection, whether the image
 * could come in; only then the server becomes a learner. The apply worker loads
 * the image, the leader promotes the learner when it has caught up, and the
 * session tells how it goes. It all goes on without the session.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/shmem.h"
#include "utils/builtins.h"
#include "utils/resowner.h"
#include "utils/guc.h"
#include "utils/timestamp.h"

#include "clock/clock_shmem.h"
#include "compat.h"
#include "replication/image_internal.h"

#define POLL_MS			20
#define NOTICE_US		INT64CONST(2000000)
#define PATIENCE_US		INT64CONST(60000000)	/* without progress */

PG_FUNCTION_INFO_V1(quorum_join_cluster);
PG_FUNCTION_INFO_V1(quorum_join_progress);

char	   *quorum_copy_conninfo = NULL;
int			quorum_copy_workers = 2;

ImageShared *image_shared = NULL;

/* ---------- settings and shared memory ---------- */

static bool
check_conninfo(char **newval, void **extra, GucSource source)
{
	char	   *error = NULL;
	PQconninfoOption *options;

	if (*newval == NULL || **newval == '\0')
		return true;
	if (strlen(*newval) > IMAGE_CONNINFO_LEN / 2)
	{
		GUC_check_errdetail("It is too long.");
		return false;
	}
	options = PQconninfoParse(*newval, &error);
	if (options == NULL)
	{
		GUC_check_errdetail("%s", error ? error : "out of memory");
		PQfreemem(error);
		return false;
	}
	PQconninfoFree(options);
	return true;
}

void
image_define_settings(void)
{
	DefineCustomStringVariable("quorum.copy_conninfo",
							   "Connection parameters for the SQL port of the member that gives an image.",
							   "Added to, and going before, what members tell each other: "
							   "user, passfile, sslmode, sslrootcert, host, port ...",
							   &quorum_copy_conninfo, "",
							   PGC_SIGHUP, GUC_SUPERUSER_ONLY, check_conninfo, NULL, NULL);
	DefineCustomIntVariable("quorum.copy_workers",
							"Tables that are copied at a time when this server joins.",
							NULL, &quorum_copy_workers, 2, 0, 16,
							PGC_SIGHUP, 0, NULL, NULL, NULL);
}

Size
image_shmem_size(void)
{
	return MAXALIGN(sizeof(ImageShared));
}

void
image_shmem_init(void)
{
	bool		found;

	image_shared = ShmemInitStruct("pg_quorum image", image_shmem_size(), &found);
	if (found)
		return;
	memset(image_shared, 0, sizeof(*image_shared));
	SpinLockInit(&image_shared->mutex);
	pg_atomic_init_u32(&image_shared->tables_done, 0);
	pg_atomic_init_u64(&image_shared->bytes, 0);
	pg_atomic_init_u64(&image_shared->rows, 0);
	pg_atomic_init_u32(&image_shared->guarded, node_image_is_marked() ? 1 : 0);
	pg_atomic_init_u64(&image_shared->replaced_xid, 0);
	pg_atomic_init_u32(&image_shared->attempt, 0);
}

void
image_show_phase(ImagePhaseShown phase)
{
	int64		now_us = clock_monotonic_us();

	SpinLockAcquire(&image_shared->mutex);
	image_shared->phase = phase;
	image_shared->table[0] = '\0';
	if (phase == IMAGE_CONNECT)
		image_shared->entry = image_shared->tables_total = image_shared->bytes_total =
			image_shared->copy_begun_us = image_shared->copy_ended_us = 0;
	else if (phase == IMAGE_DATA)
		image_shared->copy_begun_us = now_us;
	else if (phase == IMAGE_INDEXES || phase == IMAGE_LOG)
		image_shared->copy_ended_us = image_shared->copy_ended_us ? image_shared->copy_ended_us : now_us;
	SpinLockRelease(&image_shared->mutex);
	if (phase == IMAGE_CONNECT)
	{
		pg_atomic_write_u32(&image_shared->tables_done, 0);
		pg_atomic_write_u64(&image_shared->bytes, 0);
		pg_atomic_write_u64(&image_shared->rows, 0);
	}
}

void
image_show_table(const char *schema, const char *name)
{
	char		full[IMAGE_NAME_LEN];

	snprintf(full, sizeof(full), "%s.%s", schema, name);
	SpinLockAcquire(&image_shared->mutex);
	memcpy(image_shared->table, full, sizeof(full));
	SpinLockRelease(&image_shared->mutex);
}

/* ---------- progress ---------- */

typedef struct Progress
{
	ImagePhaseShown phase;
	const char *phase_name;
	char		source[NODE_NAME_LEN];
	char		table[IMAGE_NAME_LEN];
	uint64		entry;
	uint32		attempts;
	uint32		tables_done;
	uint32		tables_total;
	uint64		bytes;
	uint64		bytes_total;
	uint64		rows;
	int64		elapsed_us;
	uint64		rate;			/* bytes a second; 0 not known */
	int64		remaining_us;	/* of the copying; -1 not known */
} Progress;

static void
get_progress(Progress *p)
{
	static const char *const names[] = {"", "connect", "schema", "data", "indexes", "log"};
	int64		now_us = clock_monotonic_us();
	int64		begun_us,
				copy_begun_us,
				copy_us;
	char		detail[NODE_DETAIL_LEN];

	memset(p, 0, sizeof(*p));
	SpinLockAcquire(&image_shared->mutex);
	p->phase = image_shared->phase;
	p->entry = image_shared->entry;
	p->attempts = image_shared->attempts;
	p->tables_total = image_shared->tables_total;
	p->bytes_total = image_shared->bytes_total;
	memcpy(p->source, image_shared->source, sizeof(p->source));
	memcpy(p->table, image_shared->table, sizeof(p->table));
	begun_us = image_shared->begun_us;
	copy_begun_us = image_shared->copy_begun_us;
	copy_us = (image_shared->copy_ended_us ? image_shared->copy_ended_us : now_us) - copy_begun_us;
	SpinLockRelease(&image_shared->mutex);
	p->tables_done = pg_atomic_read_u32(&image_shared->tables_done);
	p->bytes = pg_atomic_read_u64(&image_shared->bytes);
	p->rows = pg_atomic_read_u64(&image_shared->rows);
	p->elapsed_us = now_us - begun_us;
	p->remaining_us = -1;
	if (copy_begun_us != 0 && copy_us > 0 && p->bytes > 0)
	{
		p->rate = (uint64) (p->bytes * 1e6 / copy_us);
		if (p->phase == IMAGE_DATA && p->rate > 0)
			p->remaining_us = p->bytes_total > p->bytes ?
				(int64) ((p->bytes_total - p->bytes) * 1e6 / p->rate) : 0;
	}
	p->phase_name = names[p->phase];
	if (p->phase == IMAGE_LOG && node_joined(detail))
		p->phase_name = "done";
}

char *
image_progress_text(void)
{
	Progress	p;

	get_progress(&p);
	if (p.phase == IMAGE_IDLE)
		return NULL;
	if (p.phase != IMAGE_DATA)
		return psprintf("An image of member \"%s\" is loaded: phase %s.", p.source, p.phase_name);
	return psprintf("An image of member \"%s\" is loaded: %u of %u tables, " UINT64_FORMAT " rows, "
					UINT64_FORMAT " of about " UINT64_FORMAT " MB.", p.source, p.tables_done, p.tables_total,
					p.rows, p.bytes / (1024 * 1024), p.bytes_total / (1024 * 1024));
}

static Interval *
interval_of(int64 us)
{
	Interval   *interval = palloc0(sizeof(Interval));

	interval->time = us;
	return interval;
}

Datum
quorum_join_progress(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	Datum		values[13];
	bool		nulls[13] = {false};
	Progress	p;

	node_require_loaded();
	InitMaterializedSRF(fcinfo, 0);
	get_progress(&p);
	if (p.phase == IMAGE_IDLE)
		return (Datum) 0;
	values[0] = CStringGetTextDatum(p.phase_name);
	values[1] = CStringGetTextDatum(p.source);
	values[2] = Int64GetDatum((int64) p.entry);
	nulls[2] = p.entry == 0;
	values[3] = CStringGetTextDatum(p.table);
	nulls[3] = p.table[0] == '\0';
	values[4] = Int32GetDatum((int32) p.tables_done);
	values[5] = Int32GetDatum((int32) p.tables_total);
	values[6] = Int64GetDatum((int64) p.bytes);
	values[7] = Int64GetDatum((int64) p.bytes_total);
	values[8] = Int64GetDatum((int64) p.rows);
	values[9] = Int64GetDatum((int64) p.rate);
	nulls[9] = p.rate == 0;
	values[10] = IntervalPGetDatum(interval_of(p.elapsed_us));
	values[11] = IntervalPGetDatum(interval_of(p.remaining_us));
	nulls[11] = p.remaining_us < 0;
	values[12] = Int32GetDatum((int32) p.attempts);
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	return (Datum) 0;
}

/* ---------- joining ---------- */

static pg_noinline void
look(const NodeSqlAddress *sql)
{
	ImageSource source;
	List	   *statements;

	image_source_open(&source, sql);
	image_source_describe(&source);
	statements = image_dump(source.conninfo, "pre-data", NULL, source.excluded);
	statements = list_concat(statements,
							 image_dump(source.conninfo, "post-data", NULL, source.excluded));
	image_check(&source, statements);
}

/*
 * Could the image come in? ERROR if not; nothing was done then. In a
 * subtransaction that ends here: locks on tables that are looked at would stand
 * in the way of who loads them, while we wait for that.
 */
static void
look_before(const NodeSqlAddress *sql)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;

	BeginInternalSubTransaction(NULL);
	PG_TRY();
	{
		look(sql);
	}
	PG_CATCH();
	{
		image_disconnect_all();
		PG_RE_THROW();
	}
	PG_END_TRY();
	image_disconnect_all();
	RollbackAndReleaseCurrentSubTransaction();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
}

static void
tell(const Progress *p)
{
	switch (p->phase)
	{
		case IMAGE_DATA:
			ereport(NOTICE,
					(errmsg("copying rows from member \"%s\": %u of %u tables, " UINT64_FORMAT " rows, " UINT64_FORMAT " MB%s%s",
							p->source, p->tables_done, p->tables_total, p->rows, p->bytes / (1024 * 1024),
							p->table[0] ? ", now " : "", p->table)));
			break;
		case IMAGE_INDEXES:
			ereport(NOTICE, (errmsg("rows are here, making indexes and constraints")));
			break;
		case IMAGE_LOG:
			ereport(NOTICE,
					(errmsg("the image is here, applying the log from entry " UINT64_FORMAT ", now at " UINT64_FORMAT,
							p->entry, node_applied_index())));
			break;
		default:
			break;
	}
}

/* As long as something moves. */
static void
wait_until_voter(void)
{
	int64		last_moved_us = clock_monotonic_us();
	int64		last_told_us = last_moved_us;
	uint64		last_sum = 0;
	char		detail[NODE_DETAIL_LEN];

	while (!node_joined(detail))
	{
		Progress	p;
		uint64		sum;
		int64		now_us = clock_monotonic_us();

		get_progress(&p);
		sum = p.bytes + p.rows + p.tables_done + p.phase + node_applied_index();
		if (sum != last_sum || p.phase == IMAGE_INDEXES)
			last_moved_us = now_us;
		last_sum = sum;
		if (now_us - last_told_us >= NOTICE_US)
		{
			tell(&p);
			last_told_us = now_us;
		}
		if (now_us - last_moved_us > PATIENCE_US)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("gave up waiting until this member has caught up and votes"),
					 detail[0] ? errdetail("%s", detail) : 0,
					 errhint("It goes on in the background; see quorum.status and quorum.join_progress.")));
		node_pause(POLL_MS);
	}
}

/*
 * join_cluster(address, replace) - returns when this server is a voter.
 */
Datum
quorum_join_cluster(PG_FUNCTION_ARGS)
{
	char	   *address = text_to_cstring(PG_GETARG_TEXT_PP(0));
	bool		replace = PG_GETARG_BOOL(1);
	NodeSqlAddress sql;

	node_join_probe(address, replace, &sql);
	if (!node_has_former_tables())
		look_before(&sql);
	node_join(address, replace);
	wait_until_voter();
	PG_RETURN_VOID();
}
