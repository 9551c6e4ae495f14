/*-------------------------------------------------------------------------
 *
 * load.c
 *		Writes without end, and a record of what each write came to.
 *
 * load -r RUN -c CLIENTS -m mixed|insert -o FILE CONNINFO...
 *
 * One process a client; client i uses CONNINFO number i modulo their count and
 * connects again when the connection is lost. Each operation inserts two rows
 * (part 1 and 2) into table load and, in mode mixed, adds one to a row of
 * load_counter, in one transaction of varying shape. A row of part 3 is only
 * ever inserted under a savepoint that is rolled back.
 *
 * The record has two lines an operation, written with one write() each:
 *		S time_us client n
 *		A|R|U time_us client n sqlstate hint
 * A: COMMIT was answered with success. U: COMMIT was under way and the
 * connection broke, or the server said 40003. R: everything else; the server
 * said that the transaction has no effect, or COMMIT had not been sent. Times
 * are of CLOCK_MONOTONIC. An operation with no second line was cut off.
 *
 * SIGTERM: no operation is begun any more; what is under way may end within
 * GRACE_S, then the clients are killed.
 *
 *-------------------------------------------------------------------------
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <libpq-fe.h>

#define GRACE_S			5
#define RETRY_US		20000
#define MAX_CLIENTS		128
#define COUNTERS		4

static volatile sig_atomic_t stopping = 0;

typedef struct Client
{
	int			run;
	int			id;
	int			out;
	bool		counters;
	const char *conninfo;
	PGconn	   *conn;
} Client;

typedef struct Outcome
{
	char		verdict;
	char		state[6];
	char		hint[200];
} Outcome;

static void
on_term(int signo)
{
	(void) signo;
	stopping = 1;
}

static long long
now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000LL + t.tv_nsec / 1000;
}

static void
record(const Client *c, const char *line, int len)
{
	if (write(c->out, line, len) != len)
	{
		perror("load: record");
		_exit(1);
	}
}

/* sending_commit: does this statement, if it takes effect, commit? */
static bool
run_sql(Client *c, const char *sql, bool sending_commit, Outcome *o)
{
	PGresult   *res = PQexec(c->conn, sql);
	ExecStatusType status = PQresultStatus(res);
	const char *state = PQresultErrorField(res, PG_DIAG_SQLSTATE);
	const char *hint = PQresultErrorField(res, PG_DIAG_MESSAGE_HINT);
	const char *severity = PQresultErrorField(res, PG_DIAG_SEVERITY_NONLOCALIZED);
	const char *tag = PQcmdStatus(res);
	bool		good = status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK;

	/* COMMIT of a failed transaction answers ROLLBACK */
	if (good && strcmp(sql, "COMMIT") == 0 && strcmp(tag, "COMMIT") != 0)
	{
		good = false;
		state = "25P02";
	}
	if (!good)
	{
		bool		lost = PQstatus(c->conn) == CONNECTION_BAD;
		bool		fatal = severity && strcmp(severity, "ERROR") != 0;

		/* 40001 says "no effect" whatever else happens to the session */
		o->verdict = 'R';
		if (state && strcmp(state, "40003") == 0)
			o->verdict = 'U';
		else if (sending_commit && (lost || fatal) &&
				 !(state && strcmp(state, "40001") == 0))
			o->verdict = 'U';
		snprintf(o->state, sizeof(o->state), "%s", state ? state : "lost");
		snprintf(o->hint, sizeof(o->hint), "%s", hint ? hint : "");
		for (char *p = o->hint; *p; p++)
			if (*p == '\n')
				*p = ' ';
	}
	PQclear(res);
	return good;
}

static bool
one_transaction(Client *c, int n, Outcome *o)
{
	char		insert[3][256];
	char		update[128];
	char		all[800];
	int			counter = (c->id + n) % COUNTERS;

	for (int part = 1; part <= 3; part++)
		snprintf(insert[part - 1], sizeof(insert[0]),
				 "INSERT INTO load VALUES (%d, %d, %d, %d, current_setting('quorum.node_name'))",
				 c->run, c->id, n, part);
	snprintf(update, sizeof(update),
			 "UPDATE load_counter SET v = v + 1 WHERE id = %d", counter);

	if (!c->counters)
	{
		snprintf(all, sizeof(all), "WITH a AS (%s) %s", insert[0], insert[1]);
		return run_sql(c, all, true, o);
	}
	if (n % 3 == 0)
	{
		snprintf(all, sizeof(all), "WITH a AS (%s), b AS (%s) %s", insert[0], update, insert[1]);
		return run_sql(c, all, true, o);
	}
	return run_sql(c, "BEGIN", false, o) &&
		run_sql(c, insert[0], false, o) &&
		(n % 3 == 1 ||
		 (run_sql(c, "SAVEPOINT s", false, o) &&
		  run_sql(c, insert[2], false, o) &&
		  run_sql(c, "ROLLBACK TO s", false, o))) &&
		run_sql(c, insert[1], false, o) &&
		run_sql(c, update, false, o) &&
		run_sql(c, "COMMIT", true, o);
}

static bool
connected(Client *c)
{
	if (c->conn && PQstatus(c->conn) == CONNECTION_OK)
	{
		Outcome		ignored;

		if (PQtransactionStatus(c->conn) == PQTRANS_IDLE ||
			run_sql(c, "ROLLBACK", false, &ignored))
			return true;
	}
	if (c->conn)
		PQfinish(c->conn);
	c->conn = PQconnectdb(c->conninfo);
	if (PQstatus(c->conn) == CONNECTION_OK)
		return true;
	PQfinish(c->conn);
	c->conn = NULL;
	usleep(RETRY_US);
	return false;
}

static void
client_main(Client *c)
{
	char		line[400];
	int			n = 0;

	while (!stopping)
	{
		Outcome		o = {.verdict = 'A', .state = "00000"};
		int			len;

		if (!connected(c))
			continue;
		n++;
		len = snprintf(line, sizeof(line), "S %lld %d %d\n", now_us(), c->id, n);
		record(c, line, len);
		one_transaction(c, n, &o);
		len = snprintf(line, sizeof(line), "%c %lld %d %d %s %s\n", o.verdict,
					   now_us(), c->id, n, o.state, o.hint);
		record(c, line, len);
		/* refused at once, again and again: not a contest of who spins faster */
		if (o.verdict != 'A')
			usleep(RETRY_US / 10);
	}
	_exit(0);
}

static void
end_clients(const pid_t *pids, int count)
{
	long long	end = now_us() + GRACE_S * 1000000LL;
	int			left = count;

	for (int i = 0; i < count; i++)
		kill(pids[i], SIGTERM);
	while (left > 0 && now_us() < end)
	{
		if (waitpid(-1, NULL, WNOHANG) > 0)
			left--;
		else
			usleep(5000);
	}
	for (int i = 0; left > 0 && i < count; i++)
		kill(pids[i], SIGKILL);
	while (waitpid(-1, NULL, 0) > 0)
		;
}

int
main(int argc, char **argv)
{
	struct sigaction act = {.sa_handler = on_term};
	Client		c = {.run = 1, .out = -1};
	pid_t		pids[MAX_CLIENTS];
	int			clients = 1;
	int			opt;

	while ((opt = getopt(argc, argv, "r:c:m:o:")) != -1)
	{
		if (opt == 'r')
			c.run = atoi(optarg);
		else if (opt == 'c')
			clients = atoi(optarg);
		else if (opt == 'm')
			c.counters = strcmp(optarg, "mixed") == 0;
		else if (opt == 'o')
			c.out = open(optarg, O_WRONLY | O_CREAT | O_APPEND, 0600);
	}
	if (c.out < 0 || optind >= argc || clients < 1 || clients > MAX_CLIENTS)
	{
		fprintf(stderr, "usage: load -r RUN -c CLIENTS -m mixed|insert -o FILE CONNINFO...\n");
		return 2;
	}
	/* PQexec goes on waiting when interrupted: GRACE_S bounds that */
	sigaction(SIGTERM, &act, NULL);

	for (int i = 0; i < clients; i++)
	{
		pids[i] = fork();
		if (pids[i] < 0)
		{
			perror("load: fork");
			end_clients(pids, i);
			return 1;
		}
		if (pids[i] == 0)
		{
			c.id = i;
			c.conninfo = argv[optind + i % (argc - optind)];
			client_main(&c);
		}
	}
	while (!stopping)
		usleep(RETRY_US);
	end_clients(pids, clients);
	return 0;
}
