/*-------------------------------------------------------------------------
 *
 * client.c
 *		client -w WORKLOAD -o HISTORY [-c CLIENTS] [-s SEED] [-l LEVEL,...]
 *			[-p PAUSE_US] [-a] [-e] NAME=CONNINFO...
 *
 * Works until the line "stop" comes from standard input, and then says
 * "stopped"; nothing is under way any more. At the line "final" every node is
 * read as a whole, by every client's worth of keys, and "done" ends it.
 *
 *-------------------------------------------------------------------------
 */
#include "client.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define FINAL_TRIES		100

Setup		setup = {.clients = 6, .pause_us = 4000, .accounts = 8, .out = -1};
atomic_bool stopping;

static const Workload *workload;
static atomic_int sessions;
static atomic_int processes;

int64_t
now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * INT64_C(1000000) + t.tv_nsec / 1000;
}

uint64_t
next_random(Client *c)
{
	uint64_t	z = (c->random += UINT64_C(0x9e3779b97f4a7c15));

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

int
random_below(Client *c, int below)
{
	return (int) (next_random(c) % (uint64_t) below);
}

void
begin_record(Client *c)
{
	c->verdict = V_OK;
	c->warned = false;
	c->state[0] = '\0';
	c->begin_us = now_us();
}

void
end_record(Client *c, const char *isolation, const char *ops)
{
	static const char *const outcomes[] = {"ok", "fail", "info"};
	size_t		size = strlen(ops) + 256;
	char	   *line = malloc(size);
	char		end[32];
	int			len;

	if (!line)
		abort();
	/* what nobody knows of may take effect at any time from now on */
	snprintf(end, sizeof(end), "%lld", (long long) now_us());
	len = snprintf(line, size, "%d %d.%d %s %lld %s %s %s/%s%s%s\n", c->process, c->session,
				   c->connection, setup.names[c->node], (long long) c->begin_us,
				   c->verdict == V_INFO ? "-" : end, outcomes[c->verdict], c->level, isolation,
				   c->applied_all && !c->warned && c->verdict == V_OK ? "/all" : "", ops);
	if (write(setup.out, line, len) != len)
	{
		perror("client: history");
		_exit(1);
	}
	free(line);
	/* whoever may still be at work is not who goes on */
	if (c->verdict == V_INFO)
	{
		c->process = atomic_fetch_add(&processes, 1);
		disconnect(c);
	}
}

static void
new_session(Client *c)
{
	c->session = atomic_fetch_add(&sessions, 1);
	c->connection = -1;
	c->token[0] = '\0';
	c->level = setup.levels[random_below(c, setup.nlevels)];
	c->applied_all = setup.applied_all && random_below(c, 3) == 0;
	c->nheld = 0;
	c->asked_key = -1;
}

void
hop(Client *c)
{
	disconnect(c);
	new_session(c);
	c->node = random_below(c, setup.nnodes);
	c->connection++;
}

void
move(Client *c)
{
	bool		carried = c->session >= 0 &&
		(strcmp(c->level, "ryw") == 0 || strcmp(c->level, "causal") == 0);

	disconnect(c);
	if (!carried || random_below(c, 8) == 0)
		new_session(c);
	/* else at home, so that all nodes are in use all the time */
	c->node = carried ? random_below(c, setup.nnodes) : c->id % setup.nnodes;
	c->connection++;
	c->nheld = 0;
	c->asked_key = -1;
	c->last_key = -1;
}

static void *
client_main(void *arg)
{
	Client	   *c = arg;
	char	   *ops = malloc(LINE_SIZE);

	if (!ops)
		abort();
	c->process = atomic_fetch_add(&processes, 1);
	c->session = -1;
	c->lease.number = -1;
	c->observing = -1;
	c->node = c->id % setup.nnodes;
	while (!atomic_load(&stopping))
	{
		if (!c->conn || random_below(c, 200) == 0 ||
			(c->token[0] && random_below(c, 25) == 0))
			move(c);
		if (!connected(c))
			continue;
		ops[0] = '\0';
		workload->step(c, ops);
		/* refused at once, again and again, is no contest of who spins faster */
		usleep(random_below(c, setup.pause_us + 1) + (c->verdict == V_OK ? 0 : 5000));
	}
	disconnect(c);
	free(ops);
	return NULL;
}

/* Each node, as a whole; tried again until it answers. */
static bool
read_all(uint64_t seed)
{
	Client		c = {.id = 0, .random = seed, .session = -1, .observing = -1,
	.lease.number = -1};
	char	   *ops = malloc(64 * LINE_SIZE);
	bool		good = ops != NULL;

	for (int node = 0; good && node < setup.nnodes; node++)
	{
		c.process = atomic_fetch_add(&processes, 1);
		good = false;
		for (int i = 0; i < FINAL_TRIES && !good; i++)
		{
			disconnect(&c);
			new_session(&c);
			c.level = "final";
			c.node = node;
			c.connection = 0;
			if (!connected(&c))
				continue;
			ops[0] = '\0';
			workload->final(&c, ops);
			good = c.verdict == V_OK;
		}
		if (!good)
			fprintf(stderr, "client: no final read of %s\n", setup.names[node]);
	}
	disconnect(&c);
	free(ops);
	return good;
}

static void __attribute__((noreturn))
usage(void)
{
	fprintf(stderr, "usage: client -w WORKLOAD -o HISTORY [-c CLIENTS] [-s SEED] [-l LEVEL,...] "
			"[-p PAUSE_US] [-a] [-e] NAME=CONNINFO...\n");
	exit(2);
}

static void
read_options(int argc, char **argv, uint64_t *seed)
{
	int			opt;

	while ((opt = getopt(argc, argv, "w:o:c:s:l:p:ae")) != -1)
	{
		if (opt == 'w')
			setup.workload = optarg;
		else if (opt == 'o')
			setup.out = open(optarg, O_WRONLY | O_CREAT | O_APPEND, 0644);
		else if (opt == 'c')
			setup.clients = atoi(optarg);
		else if (opt == 's')
			*seed = strtoull(optarg, NULL, 10);
		else if (opt == 'p')
			setup.pause_us = atoi(optarg);
		else if (opt == 'a')
			setup.applied_all = true;
		else if (opt == 'e')
			setup.lie = true;
		else if (opt == 'l')
		{
			for (char *level; (level = strsep(&optarg, ",")) && setup.nlevels < MAX_LEVELS;)
				setup.levels[setup.nlevels++] = level;
		}
		else
			usage();
	}
	for (int i = optind; i < argc && setup.nnodes < MAX_NODES; i++)
	{
		char	   *equals = strchr(argv[i], '=');

		if (!equals)
			usage();
		*equals = '\0';
		setup.names[setup.nnodes] = argv[i];
		setup.conninfo[setup.nnodes++] = equals + 1;
	}
	if (setup.nlevels == 0)
		setup.levels[setup.nlevels++] = "eventual";
	workload = setup.workload ? find_workload(setup.workload) : NULL;
	if (!workload || setup.out < 0 || setup.nnodes == 0 || setup.clients < 1 ||
		setup.clients > MAX_CLIENTS)
		usage();
}

int
main(int argc, char **argv)
{
	static Client clients[MAX_CLIENTS];
	pthread_t	threads[MAX_CLIENTS];
	uint64_t	seed = 1;
	char		line[64];
	int			status = 0;

	read_options(argc, argv, &seed);
	setup.started_us = now_us();
	signal(SIGPIPE, SIG_IGN);
	setvbuf(stdout, NULL, _IOLBF, 0);
	for (int i = 0; i < setup.clients; i++)
	{
		clients[i].id = i;
		clients[i].random = seed * 1000 + i;
		if (pthread_create(&threads[i], NULL, client_main, &clients[i]) != 0)
			abort();
	}
	while (fgets(line, sizeof(line), stdin))
	{
		if (strcmp(line, "stop\n") == 0 && !atomic_exchange(&stopping, true))
		{
			for (int i = 0; i < setup.clients; i++)
				pthread_join(threads[i], NULL);
			printf("stopped\n");
		}
		else if (strcmp(line, "final\n") == 0 && atomic_load(&stopping))
		{
			status = read_all(seed) ? 0 : 1;
			print_states();
			printf("done\n");
			break;
		}
	}
	return status;
}
