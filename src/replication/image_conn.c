/*-------------------------------------------------------------------------
 *
 * image_conn.c
 *		Connections to the member that gives an image.
 *
 * libpq, used without blocking inside it, so that a cancel, a shutdown or the
 * postmaster's death end any wait. A connection outlives an error of its
 * transaction; so all of them are remembered, and closed by who catches the
 * error, or at exit. Results are copied at once: nothing of libpq's is left
 * behind by an error.
 *
 * Private to the process.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_authid.h"
#include "libpq-fe.h"
#include "libpq/libpq-be-fe-helpers.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "compat.h"
#include "replication/image_internal.h"

#define MAX_CONNECTIONS 4

static PGconn *connections[MAX_CONNECTIONS];
static bool exit_registered = false;

/* What makes all members' text read alike, and lets nothing time out or compile. */
#define SESSION_OPTIONS \
	"-c datestyle=ISO -c intervalstyle=postgres -c extra_float_digits=3 -c bytea_output=hex " \
	"-c timezone=UTC -c search_path=pg_catalog -c row_security=off -c statement_timeout=0 " \
	"-c lock_timeout=0 -c idle_in_transaction_session_timeout=0 " \
	"-c jit=off -c default_transaction_read_only=off -c standard_conforming_strings=on"

static void
append_value(StringInfo to, const char *keyword, const char *value)
{
	appendStringInfo(to, "%s='", keyword);
	for (const char *c = value; *c; c++)
	{
		if (*c == '\'' || *c == '\\')
			appendStringInfoChar(to, '\\');
		appendStringInfoChar(to, *c);
	}
	appendStringInfoString(to, "' ");
}

/*
 * Where members talk over TLS, rows do so here, too. quorum.copy_conninfo comes
 * last, and what it says goes.
 */
char *
image_conninfo(const NodeSqlAddress *sql)
{
	StringInfoData text;

	initStringInfo(&text);
	append_value(&text, "host", sql->host);
	appendStringInfo(&text, "port='%u' ", sql->port);
	append_value(&text, "dbname", quorum_database);
	append_value(&text, "user", GetUserNameFromId(BOOTSTRAP_SUPERUSERID, false));
	append_value(&text, "application_name", "pg_quorum image");
	append_value(&text, "client_encoding", GetDatabaseEncodingName());
	append_value(&text, "options", SESSION_OPTIONS);
	appendStringInfoString(&text, "connect_timeout='10' keepalives='1' keepalives_idle='10' "
						   "keepalives_interval='5' keepalives_count='3' tcp_user_timeout='30000' ");
	if (quorum_ssl == QUORUM_SSL_REQUIRE)
		append_value(&text, "sslmode", "require");
	appendStringInfoString(&text, quorum_copy_conninfo ? quorum_copy_conninfo : "");
	return text.data;
}

static void
at_exit(int code, Datum arg)
{
	image_disconnect_all();
}

static void
forget(PGconn *conn)
{
	for (int i = 0; i < MAX_CONNECTIONS; i++)
		if (connections[i] == conn)
			connections[i] = NULL;
}

static bool
is_refusal(const char *message)
{
	return strstr(message, "pg_hba.conf") != NULL || strstr(message, "authentication") != NULL ||
		strstr(message, "password") != NULL || strstr(message, "role \"") != NULL;
}

PGconn *
image_connect(const char *conninfo, const char *member)
{
	PGconn	   *conn;
	int			at = 0;

	if (!exit_registered)
	{
		before_shmem_exit(at_exit, (Datum) 0);
		exit_registered = true;
	}
	while (at < MAX_CONNECTIONS && connections[at] != NULL)
		at++;
	if (at == MAX_CONNECTIONS)
		elog(ERROR, "too many connections to other members");
	conn = libpqsrv_connect(conninfo, PG_WAIT_EXTENSION);
	if (conn != NULL)
		connections[at] = conn;
	if (conn == NULL || PQstatus(conn) != CONNECTION_OK)
	{
		char	   *message = pstrdup(conn ? PQerrorMessage(conn) : "out of memory");
		Size		len = strlen(message);

		while (len > 0 && message[len - 1] == '\n')
			message[--len] = '\0';
		if (conn)
			image_disconnect(conn);
		ereport(ERROR,
				(errcode(ERRCODE_CONNECTION_FAILURE),
				 errmsg("could not connect to the SQL port of member \"%s\": %s", member, message),
				 errdetail("Schema and rows of the replicated tables come over an ordinary connection to that server."),
				 is_refusal(message) ?
				 errhint("Let this server in by pg_hba.conf there, and set quorum.copy_conninfo (user, passfile, sslmode, ...) here if need be.") :
				 errhint("Set quorum.copy_conninfo if another host, port or user is to be used.")));
	}
	PQsetNoticeProcessor(conn, NULL, NULL);
	/* only where there is such a setting */
	(void) image_query(conn, "SELECT set_config(name, 'eventual', false) FROM pg_settings WHERE name = 'quorum.read_consistency'");
	return conn;
}

void
image_disconnect(PGconn *conn)
{
	forget(conn);
	libpqsrv_disconnect(conn);
}

void
image_disconnect_all(void)
{
	for (int i = 0; i < MAX_CONNECTIONS; i++)
		if (connections[i] != NULL)
			image_disconnect(connections[i]);
}

/* Clears the result. */
void
image_remote_error(PGconn *conn, PGresult *result, const char *what)
{
	const char *state = result ? PQresultErrorField(result, PG_DIAG_SQLSTATE) : NULL;
	const char *field;
	char	   *primary;
	char	   *detail = NULL;
	char	   *hint = NULL;
	Size		len;
	int			sqlstate = ERRCODE_CONNECTION_FAILURE;

	if (state)
		sqlstate = MAKE_SQLSTATE(state[0], state[1], state[2], state[3], state[4]);
	field = result ? PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY) : NULL;
	primary = pstrdup(field ? field : PQerrorMessage(conn));
	len = strlen(primary);
	while (len > 0 && primary[len - 1] == '\n')
		primary[--len] = '\0';
	field = result ? PQresultErrorField(result, PG_DIAG_MESSAGE_DETAIL) : NULL;
	if (field)
		detail = pstrdup(field);
	field = result ? PQresultErrorField(result, PG_DIAG_MESSAGE_HINT) : NULL;
	if (field)
		hint = pstrdup(field);
	PQclear(result);
	ereport(ERROR,
			(errcode(sqlstate),
			 errmsg("%s: %s", what, primary[0] ? primary : "the connection was lost"),
			 detail ? errdetail_internal("%s", detail) : 0,
			 hint ? errhint("%s", hint) : 0));
}

PGresult *
image_exec(PGconn *conn, const char *sql)
{
	return libpqsrv_exec(conn, sql, PG_WAIT_EXTENSION);
}

/* One statement; ERROR unless it succeeds. */
ImageRows *
image_query(PGconn *conn, const char *sql)
{
	PGresult   *result = image_exec(conn, sql);
	ExecStatusType status = PQresultStatus(result);
	ImageRows  *rows;

	if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK)
		image_remote_error(conn, result, "the member that gives the image reports");
	rows = palloc0(sizeof(ImageRows));
	rows->n = PQntuples(result);
	rows->ncols = PQnfields(result);
	rows->values = MemoryContextAllocHuge(CurrentMemoryContext,
										  sizeof(char *) * Max((Size) rows->n * rows->ncols, 1));
	for (int i = 0; i < rows->n; i++)
		for (int k = 0; k < rows->ncols; k++)
			rows->values[i * rows->ncols + k] = PQgetisnull(result, i, k) ? NULL :
				pstrdup(PQgetvalue(result, i, k));
	PQclear(result);
	return rows;
}

/* An idle one: has the other side gone away? */
bool
image_connection_is_good(PGconn *conn)
{
	return PQconsumeInput(conn) == 1 && PQstatus(conn) == CONNECTION_OK;
}
