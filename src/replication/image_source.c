/*-------------------------------------------------------------------------
 *
 * image_source.c
 *		The member that gives an image: what it runs, and what is asked of it.
 *
 * A REPEATABLE READ transaction whose first statement is quorum._image_begin()
 * shows the tables at exactly one entry of the log. Its snapshot is exported, so
 * that other connections and pg_dump see the same. No lock is taken but what
 * reading takes; a schema change that the giving member applies meanwhile ends
 * the transaction, and the image is begun again.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "fmgr.h"
#include "funcapi.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/uuid.h"

#include "compat.h"
#include "node/node_internal.h"
#include "replication/image_internal.h"
#include "replication/replication.h"

#define BEGIN_ATTEMPTS	50		/* the membership may be changing just now */

PG_FUNCTION_INFO_V1(quorum_image_begin);

/* ---------- in the giving member ---------- */

Datum
quorum_image_begin(PG_FUNCTION_ARGS)
{
	TupleDesc	desc;
	Datum		values[6];
	bool		nulls[6] = {false};
	NodeImagePoint point;
	bytea	   *conf;
	pg_uuid_t	cluster;

	node_require_member();
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	if (!IsolationUsesXactSnapshot())
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_TRANSACTION_STATE),
				 errmsg("an image needs a transaction with isolation level REPEATABLE READ")));
	node_image_position(replication_snapshot_index(GetActiveSnapshot()), &point);
	conf = palloc(VARHDRSZ + point.conf_len);
	SET_VARSIZE(conf, VARHDRSZ + point.conf_len);
	memcpy(VARDATA(conf), point.conf, point.conf_len);
	LWLockAcquire(node_shared->status_lock, LW_SHARED);
	cluster = node_shared->status.cluster_id;
	LWLockRelease(node_shared->status_lock);

	values[0] = Int64GetDatum((int64) point.index);
	values[1] = Int64GetDatum((int64) point.term);
	values[2] = Int64GetDatum((int64) point.conf_index);
	values[3] = PointerGetDatum(conf);
	values[4] = CStringGetTextDatum(ExportSnapshot(GetActiveSnapshot()));
	values[5] = DirectFunctionCall1(uuid_out, UUIDPGetDatum(&cluster));
	values[5] = CStringGetTextDatum(DatumGetCString(values[5]));
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(desc, values, nulls)));
}

/* ---------- in the receiving server ---------- */

static uint64
to_uint64(const char *text)
{
	return text ? strtoull(text, NULL, 10) : 0;
}

void
image_source_open(ImageSource *source, const NodeSqlAddress *sql)
{
	ImageRows  *rows;

	memset(source, 0, sizeof(*source));
	source->sql = *sql;
	source->conninfo = image_conninfo(sql);
	source->conn = image_connect(source->conninfo, sql->name);

	/* is it the server that it should be? */
	rows = image_query(source->conn,
					   "SELECT current_setting('quorum.node_name', true), "
					   "(SELECT count(*) FROM pg_extension WHERE extname = 'pg_quorum'), "
					   "current_setting('server_version_num')::int / 10000, version(), "
					   "current_setting('server_encoding')");
	if (image_value(rows, 0, 0) == NULL || strcmp(image_value(rows, 0, 0), sql->name) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_CONNECTION_FAILURE),
				 errmsg("the server at %s, port %u, is not member \"%s\"",
						sql->host, sql->port, sql->name),
				 errhint("Set quorum.copy_conninfo so that members reach each other's SQL ports.")));
	if (strcmp(image_value(rows, 0, 1), "0") == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("extension pg_quorum is missing in database \"%s\" of member \"%s\"",
						quorum_database, sql->name),
				 errhint("quorum.database must be the same on all members.")));
	if (strcmp(image_value(rows, 0, 4), GetDatabaseEncodingName()) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("database \"%s\" of member \"%s\" has encoding %s, here it is %s",
						quorum_database, sql->name, image_value(rows, 0, 4),
						GetDatabaseEncodingName()),
				 errhint("Create this server's database with the same encoding.")));
}

void
image_source_begin(ImageSource *source)
{
	Size		len;

	/* the member may be applying a change of the membership just now: once more */
	for (int attempt = 0;; attempt++)
	{
		PGresult   *result;
		const char *state;

		(void) image_query(source->conn, "BEGIN ISOLATION LEVEL REPEATABLE READ");
		result = image_exec(source->conn,
						    "SELECT entry, term, conf_index, encode(conf, 'hex'), snapshot FROM quorum._image_begin()");
		state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
		if (PQresultStatus(result) == PGRES_TUPLES_OK)
		{
			source->point.index = to_uint64(PQgetvalue(result, 0, 0));
			source->point.term = to_uint64(PQgetvalue(result, 0, 1));
			source->point.conf_index = to_uint64(PQgetvalue(result, 0, 2));
			len = PQgetlength(result, 0, 3);
			source->point.conf = palloc(len / 2 + 1);
			source->point.conf_len = (uint32) hex_decode(PQgetvalue(result, 0, 3), len,
														 source->point.conf);
			source->snapshot = pstrdup(PQgetvalue(result, 0, 4));
			PQclear(result);
			break;
		}
		if (state == NULL || strcmp(state, "40001") != 0 || attempt >= BEGIN_ATTEMPTS)
			image_remote_error(source->conn, result, "the member that gives the image reports");
		PQclear(result);
		(void) image_query(source->conn, "ROLLBACK");
		pg_usleep(20000);
		CHECK_FOR_INTERRUPTS();
	}
}

static void
describe_relations(ImageSource *source)
{
	ImageRows  *rows = image_query(source->conn,
								   "SELECT r.table_id, r.schema_name, r.relation_name, r.relkind, r.relid = r.root, "
								   "CASE WHEN r.relid = r.root THEN quorum._table_definition(r.relid) END, "
								   "CASE WHEN r.relid = r.root THEN quorum._table_fingerprint(r.relid) END, "
								   "n.nspname, o.relname, r.owner_column, "
								   "CASE WHEN r.relkind = 'S' THEN pg_sequence_last_value(r.relid) END "
								   "FROM quorum._image_relation r LEFT JOIN pg_class o ON o.oid = r.owner_relid "
								   "LEFT JOIN pg_namespace n ON n.oid = o.relnamespace "
								   "ORDER BY r.table_id, r.relid <> r.root, r.relid");

	for (int i = 0; i < rows->n; i++)
	{
		ImageRelation *r = palloc0(sizeof(ImageRelation));

		r->table_id = (uint32) to_uint64(image_value(rows, i, 0));
		r->schema = image_value(rows, i, 1);
		r->name = image_value(rows, i, 2);
		r->relkind = image_value(rows, i, 3)[0];
		r->is_root = image_value(rows, i, 4)[0] == 't';
		r->definition = image_value(rows, i, 5);
		r->fingerprint = image_value(rows, i, 6);
		r->owner_schema = image_value(rows, i, 7);
		r->owner_table = image_value(rows, i, 8);
		r->owner_column = image_value(rows, i, 9);
		r->last_value = image_value(rows, i, 10);
		source->relations = lappend(source->relations, r);
	}
}

static void
describe_units(ImageSource *source)
{
	ImageRows  *rows = image_query(source->conn,
								   "SELECT table_id, schema_name, table_name, columns, stored_columns, is_binary, bytes "
								   "FROM quorum._image_unit ORDER BY bytes DESC, relid");

	for (int i = 0; i < rows->n; i++)
	{
		ImageUnit  *u = palloc0(sizeof(ImageUnit));

		u->table_id = (uint32) to_uint64(image_value(rows, i, 0));
		u->schema = image_value(rows, i, 1);
		u->name = image_value(rows, i, 2);
		u->columns = image_text_array(image_value(rows, i, 3));
		u->stored_columns = image_text_array(image_value(rows, i, 4));
		u->binary = image_value(rows, i, 5)[0] == 't';
		u->bytes = to_uint64(image_value(rows, i, 6));
		source->units = lappend(source->units, u);
	}
}

/* Relations that pg_dump need not look at, as patterns of its. */
static void
describe_excluded(ImageSource *source)
{
	ImageRows  *rows = image_query(source->conn,
								   "SELECT '\"' || replace(n.nspname, '\"', '\"\"') || '\".\"' || replace(c.relname, '\"', '\"\"') || '\"' "
								   "FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
								   "WHERE c.relkind IN ('r', 'p', 'S', 'v', 'm', 'f') AND c.relpersistence <> 't' "
								   "AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'quorum') "
								   "AND NOT EXISTS (SELECT FROM quorum._image_relation r WHERE r.relid = c.oid) "
								   "AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')");

	for (int i = 0; i < rows->n; i++)
		source->excluded = lappend(source->excluded, image_value(rows, i, 0));
}

/* What it has; as of the image, if that was begun. */
void
image_source_describe(ImageSource *source)
{
	describe_relations(source);
	describe_units(source);
	describe_excluded(source);
}
