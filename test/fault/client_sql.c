/*-------------------------------------------------------------------------
 *
 * client_sql.c
 *		Statements that end: with an answer, or with the client's patience.
 *
 *-------------------------------------------------------------------------
 */
#include "client.h"

#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CONNECT_US		3000000
#define PATIENCE_US		20000000	/* beyond the server's own time-outs */
#define RETRY_US		20000
#define MAX_STATES		64
#define RESOLVE_TRIES	60
#define RESOLVE_US		100000

/*
 * The server gives up first, so that its own bounds are tried, too. Settings
 * that this version of the extension does not have are left out.
 */
#define SESSION_SETTINGS \
	"SELECT set_config(s.name, v.value, false) FROM pg_settings s JOIN (VALUES " \
	"('statement_timeout', '12s'), ('lock_timeout', '6s'), ('quorum.commit_timeout', '6s'), " \
	"('quorum.read_timeout', '4s'), ('quorum.max_staleness', '1s'), " \
	"('quorum.applied_timeout', '1s')) v(name, value) USING (name)"

static pthread_mutex_t states_lock = PTHREAD_MUTEX_INITIALIZER;
static struct
{
	char		state[6];
	long		count;
	char		text[160];
}			states[MAX_STATES];

static void
count_state(const char *state, const char *text)
{
	pthread_mutex_lock(&states_lock);
	for (int i = 0; i < MAX_STATES; i++)
	{
		if (states[i].count == 0)
		{
			snprintf(states[i].state, sizeof(states[i].state), "%s", state);
			snprintf(states[i].text, sizeof(states[i].text), "%s", text ? text : "");
			for (char *p = states[i].text; *p; p++)
				if (*p == '\n')
					*p = ' ';
		}
		if (strcmp(states[i].state, state) == 0)
		{
			states[i].count++;
			break;
		}
	}
	pthread_mutex_unlock(&states_lock);
}

void
print_states(void)
{
	for (int i = 0; i < MAX_STATES && states[i].count > 0; i++)
		printf("state %s %ld %s\n", states[i].state, states[i].count, states[i].text);
}

void
disconnect(Client *c)
{
	if (c->conn)
		PQfinish(c->conn);
	c->conn = NULL;
}

static bool
wait_socket(PGconn *conn, short events, int64_t until_us)
{
	struct pollfd p = {.fd = PQsocket(conn), .events = events};
	int64_t		left_us = until_us - now_us();

	return left_us > 0 && p.fd >= 0 && poll(&p, 1, (int) (left_us / 1000) + 1) > 0;
}

static bool
try_connect(Client *c)
{
	int64_t		until_us = now_us() + CONNECT_US;

	c->conn = PQconnectStart(setup.conninfo[c->node]);
	if (!c->conn || PQstatus(c->conn) == CONNECTION_BAD)
		return false;
	for (PostgresPollingStatusType next = PGRES_POLLING_WRITING; next != PGRES_POLLING_OK;)
	{
		if (!wait_socket(c->conn, next == PGRES_POLLING_READING ? POLLIN : POLLOUT, until_us))
			return false;
		next = PQconnectPoll(c->conn);
		if (next == PGRES_POLLING_FAILED)
			return false;
	}
	return true;
}

static const char *
setting_of(const char *level)
{
	if (setup.lie)
		return "eventual";
	if (strcmp(level, "bounded") == 0)
		return "bounded_staleness";
	if (strcmp(level, "ryw") == 0)
		return "read_your_writes";
	return strcmp(level, "final") == 0 ? "eventual" : level;
}

static void
on_notice(void *arg, const PGresult *res)
{
	Client	   *c = arg;
	const char *severity = PQresultErrorField(res, PG_DIAG_SEVERITY_NONLOCALIZED);

	c->warned |= severity && strcmp(severity, "WARNING") == 0;
}

bool
connected(Client *c)
{
	bool		good;

	if (c->conn && PQstatus(c->conn) == CONNECTION_OK &&
		PQtransactionStatus(c->conn) == PQTRANS_IDLE)
		return true;
	if (c->conn)
	{
		disconnect(c);
		return false;
	}
	begin_record(c);
	good = try_connect(c);
	if (good)
	{
		PQsetNoticeReceiver(c->conn, on_notice, c);
		good = run_ok(c, false, SESSION_SETTINGS) &&
			(setup.nlevels == 1 && strcmp(setup.levels[0], "eventual") == 0 ? true :
			 run_ok(c, false, "SET quorum.read_consistency = '%s'", setting_of(c->level))) &&
			(!c->applied_all ||
			 run_ok(c, false, "SET quorum.write_consistency = 'applied_all'")) &&
			(c->token[0] == '\0' ||
			 run_ok(c, false, "SET quorum.causal_token = '%s'", c->token));
	}
	if (!good)
	{
		disconnect(c);
		usleep(RETRY_US);
	}
	return good;
}

/* The last result of one query string, or NULL: no connection any more. */
static PGresult *
query(Client *c, const char *sql)
{
	int64_t		until_us = now_us() + PATIENCE_US;
	PGresult   *last = NULL;
	PGresult   *res;

	if (!PQsendQuery(c->conn, sql))
		return NULL;
	for (;;)
	{
		while (PQisBusy(c->conn))
		{
			if (!wait_socket(c->conn, POLLIN, until_us) || !PQconsumeInput(c->conn))
			{
				PQclear(last);
				return NULL;
			}
		}
		res = PQgetResult(c->conn);
		if (!res)
			return last;
		/* an error ends the string; the results before it do not matter */
		PQclear(last);
		last = res;
	}
}

PGresult *
run(Client *c, bool commits, const char *format,...)
{
	char		sql[4096];
	va_list		args;
	PGresult   *res;
	ExecStatusType status;
	const char *state;
	const char *severity;
	const char *token;
	bool		lost;

	va_start(args, format);
	vsnprintf(sql, sizeof(sql), format, args);
	va_end(args);

	res = query(c, sql);
	status = PQresultStatus(res);
	lost = !res || PQstatus(c->conn) != CONNECTION_OK;
	state = res ? PQresultErrorField(res, PG_DIAG_SQLSTATE) : NULL;
	severity = res ? PQresultErrorField(res, PG_DIAG_SEVERITY_NONLOCALIZED) : NULL;
	if (status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK)
	{
		/* COMMIT of a failed transaction answers ROLLBACK */
		if (strcmp(sql, "COMMIT") != 0 || strcmp(PQcmdStatus(res), "COMMIT") == 0)
		{
			token = PQparameterStatus(c->conn, "quorum.causal_token");
			if (token && *token &&
				(strcmp(c->level, "ryw") == 0 || strcmp(c->level, "causal") == 0))
				snprintf(c->token, sizeof(c->token), "%s", token);
			return res;
		}
		state = "25P02";
	}
	/* 40001 says "no effect" whatever else happens to the session */
	c->verdict = V_FAIL;
	if (state && strcmp(state, "40003") == 0)
		c->verdict = V_INFO;
	else if (commits && (lost || (severity && strcmp(severity, "ERROR") != 0)) &&
			 !(state && strcmp(state, "40001") == 0))
		c->verdict = V_INFO;
	snprintf(c->state, sizeof(c->state), "%s", state ? state : "lost");
	count_state(c->state, res ? PQresultErrorMessage(res) : PQerrorMessage(c->conn));
	PQclear(res);
	if (lost)
		disconnect(c);
	else if (PQtransactionStatus(c->conn) != PQTRANS_IDLE)
	{
		res = query(c, "ROLLBACK");
		if (PQresultStatus(res) != PGRES_COMMAND_OK)
			disconnect(c);
		PQclear(res);
	}
	return NULL;
}

bool
run_ok(Client *c, bool commits, const char *format,...)
{
	char		sql[4096];
	va_list		args;
	PGresult   *res;

	va_start(args, format);
	vsnprintf(sql, sizeof(sql), format, args);
	va_end(args);
	res = run(c, commits, "%s", sql);
	PQclear(res);
	return res != NULL;
}

void
resolve(Client *c, const char *transaction_token)
{
	Client		other = *c;

	other.conn = NULL;
	for (int i = 0; i < RESOLVE_TRIES && c->verdict == V_INFO && *transaction_token; i++)
	{
		PGresult   *res;

		other.node = (c->node + i) % setup.nnodes;
		if (!connected(&other))
			continue;
		res = run(&other, false, "SELECT quorum.outcome('%s')", transaction_token);
		if (res && strcmp(PQgetvalue(res, 0, 0), "committed") == 0)
			c->verdict = V_OK;
		else if (res && strcmp(PQgetvalue(res, 0, 0), "aborted") == 0)
			c->verdict = V_FAIL;
		PQclear(res);
		disconnect(&other);
		if (c->verdict == V_INFO)
			usleep(RESOLVE_US);
	}
	/* what the answer said about the application is lost with it */
	c->warned = true;
}
