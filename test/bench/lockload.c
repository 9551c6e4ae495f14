/*-------------------------------------------------------------------------
 *
 * lockload.c
 *		Lock load for PostgreSQL servers (pg_quorum, pg_advisory_lock) and for
 *		Redlock, timed in the same way: locks.sh has the etcd side in Go.
 *
 *	lockload quorum|advisory|redlock pairs CLIENTS SECONDS SERVER...
 *		each client acquires and releases a lock of its own, over and over
 *	lockload quorum|advisory|redlock handover CLIENTS SECONDS SERVER...
 *		all clients want the same lock: from the beginning of a release to the
 *		return of the next acquisition
 *
 * SERVER: a connection string, or host:port of a Redis server (all of them are
 * asked, side by side, and a majority counts). PostgreSQL clients are dealt out
 * over the servers. Prints "rate p50_us p99_us".
 *
 * Redlock as its author describes it: SET NX PX on all, retry after a random
 * delay of up to 2 ms, compare-and-delete by script on all.
 *
 *-------------------------------------------------------------------------
 */
#include <errno.h>
#include <hiredis/hiredis.h>
#include <libpq-fe.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define MAX_SERVERS	16
#define MAX_SAMPLES	(4 * 1024 * 1024)

typedef enum Kind
{
	QUORUM,
	ADVISORY,
	REDLOCK
} Kind;

typedef struct Client
{
	pthread_t	thread;
	int			number;
	PGconn	   *conn;
	redisContext *redis[MAX_SERVERS];
	unsigned	seed;
	char		value[32];
	uint32_t   *samples;
	size_t		nsamples;
} Client;

static Kind kind;
static int	handover;
static int	nservers;
static char **servers;
static int64_t end_us;
static int64_t released_us;		/* handover: when the last release began; holder writes */

static int64_t
now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t) t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static void
die(const char *what, const char *why)
{
	fprintf(stderr, "lockload: %s: %s\n", what, why);
	exit(1);
}

/* ---------- PostgreSQL ---------- */

static void
pg_connect(Client *c)
{
	c->conn = PQconnectdb(servers[c->number % nservers]);
	if (PQstatus(c->conn) != CONNECTION_OK)
		die("connect", PQerrorMessage(c->conn));
	for (int i = 0; i < 2; i++)
	{
		const char *prefix = kind == QUORUM ? "quorum." : "pg_";
		char		sql[128];
		PGresult   *result;

		snprintf(sql, sizeof(sql), "SELECT %sadvisory_%s($1::bigint)", prefix, i ? "unlock" : "lock");
		result = PQprepare(c->conn, i ? "unlock" : "lock", sql, 1, NULL);
		if (PQresultStatus(result) != PGRES_COMMAND_OK)
			die("prepare", PQerrorMessage(c->conn));
		PQclear(result);
	}
}

static void
pg_call(Client *c, const char *name)
{
	char		key[16];
	const char *values[] = {key};
	PGresult   *result;

	snprintf(key, sizeof(key), "%d", handover ? 0 : c->number + 1);
	result = PQexecPrepared(c->conn, name, 1, values, NULL, NULL, 0);
	if (PQresultStatus(result) != PGRES_TUPLES_OK)
		die(name, PQerrorMessage(c->conn));
	PQclear(result);
}

/* ---------- Redlock ---------- */

static const char delete_script[] =
"if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) else return 0 end";

static void
redis_connect(Client *c)
{
	for (int i = 0; i < nservers; i++)
	{
		char		host[64];
		char	   *colon;

		snprintf(host, sizeof(host), "%s", servers[i]);
		colon = strchr(host, ':');
		if (colon == NULL)
			die(servers[i], "host:port is wanted");
		*colon = '\0';
		c->redis[i] = redisConnect(host, atoi(colon + 1));
		if (c->redis[i] == NULL || c->redis[i]->err)
			die(servers[i], c->redis[i] ? c->redis[i]->errstr : "out of memory");
	}
}

/* To all servers first, then the answers: how many said yes. */
static int
redis_all(Client *c, int set)
{
	char		key[32];
	int			yes = 0;

	snprintf(key, sizeof(key), "lock:%d", handover ? 0 : c->number);
	for (int i = 0; i < nservers; i++)
	{
		int			done = 0;

		if (set)
			redisAppendCommand(c->redis[i], "SET %s %s NX PX 10000", key, c->value);
		else
			redisAppendCommand(c->redis[i], "EVAL %s 1 %s %s", delete_script, key, c->value);
		while (!done)
			if (redisBufferWrite(c->redis[i], &done) != REDIS_OK)
				die("write", c->redis[i]->errstr);
	}
	for (int i = 0; i < nservers; i++)
	{
		redisReply *reply;

		if (redisGetReply(c->redis[i], (void **) &reply) != REDIS_OK)
			die("read", c->redis[i]->errstr);
		if (reply->type == REDIS_REPLY_ERROR)
			die("redis", reply->str);
		yes += set ? reply->type == REDIS_REPLY_STATUS : reply->integer == 1;
		freeReplyObject(reply);
	}
	return yes;
}

static void
redis_lock(Client *c)
{
	snprintf(c->value, sizeof(c->value), "%d-%d-%u", getpid(), c->number, rand_r(&c->seed));
	while (redis_all(c, 1) <= nservers / 2)
	{
		(void) redis_all(c, 0);
		usleep(rand_r(&c->seed) % 2000);
	}
}

/* ---------- load ---------- */

static void
lock(Client *c)
{
	if (kind == REDLOCK)
		redis_lock(c);
	else
		pg_call(c, "lock");
}

static void
unlock(Client *c)
{
	if (kind == REDLOCK)
		(void) redis_all(c, 0);
	else
		pg_call(c, "unlock");
}

static void
note(Client *c, int64_t us)
{
	if (c->nsamples < MAX_SAMPLES / 16)
		c->samples[c->nsamples++] = (uint32_t) us;
}

static void *
run(void *arg)
{
	Client	   *c = arg;

	while (now_us() < end_us)
	{
		int64_t		begun = now_us();

		lock(c);
		if (handover)
		{
			int64_t		released = __atomic_load_n(&released_us, __ATOMIC_ACQUIRE);

			/* only where somebody else waited for a release */
			if (released > begun)
				note(c, now_us() - released);
			__atomic_store_n(&released_us, now_us(), __ATOMIC_RELEASE);
		}
		unlock(c);
		if (!handover)
			note(c, now_us() - begun);
	}
	return NULL;
}

static int
compare(const void *a, const void *b)
{
	uint32_t	left = *(const uint32_t *) a;
	uint32_t	right = *(const uint32_t *) b;

	return (left > right) - (left < right);
}

int
main(int argc, char **argv)
{
	int			nclients;
	double		seconds;
	Client	   *clients;
	uint32_t   *all;
	size_t		n = 0;

	if (argc < 6)
		die("usage", "lockload quorum|advisory|redlock pairs|handover CLIENTS SECONDS SERVER...");
	kind = strcmp(argv[1], "redlock") == 0 ? REDLOCK : strcmp(argv[1], "advisory") == 0 ? ADVISORY : QUORUM;
	handover = strcmp(argv[2], "handover") == 0;
	nclients = atoi(argv[3]);
	seconds = atof(argv[4]);
	servers = argv + 5;
	nservers = argc - 5;
	if (nservers > MAX_SERVERS)
		die("servers", "too many");

	clients = calloc(nclients, sizeof(Client));
	for (int i = 0; i < nclients; i++)
	{
		clients[i].number = i;
		clients[i].seed = (unsigned) (i + 1);
		clients[i].samples = malloc(MAX_SAMPLES / 16 * sizeof(uint32_t));
		if (kind == REDLOCK)
			redis_connect(&clients[i]);
		else
			pg_connect(&clients[i]);
	}
	end_us = now_us() + (int64_t) (seconds * 1e6);
	for (int i = 0; i < nclients; i++)
		if (pthread_create(&clients[i].thread, NULL, run, &clients[i]) != 0)
			die("thread", strerror(errno));
	for (int i = 0; i < nclients; i++)
	{
		pthread_join(clients[i].thread, NULL);
		n += clients[i].nsamples;
	}
	all = malloc((n + 1) * sizeof(uint32_t));
	n = 0;
	for (int i = 0; i < nclients; i++)
	{
		memcpy(all + n, clients[i].samples, clients[i].nsamples * sizeof(uint32_t));
		n += clients[i].nsamples;
	}
	if (n == 0)
		die("result", "no sample");
	qsort(all, n, sizeof(uint32_t), compare);
	printf("%.0f %u %u\n", (double) n / seconds, all[n / 2], all[n * 99 / 100]);
	return 0;
}
