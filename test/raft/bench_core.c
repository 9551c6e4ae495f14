/*-------------------------------------------------------------------------
 *
 * bench_core.c
 *		Proposals a second through three cores in memory: what the core itself
 *		costs, without disk, network or PostgreSQL.
 *
 *		bench_core [PAYLOAD BYTES] [SECONDS EACH]
 *
 * One thread runs all three cores. A batch is what comes in between two calls
 * of raft_take_output, as in one turn of the event loop. Also: what an idle
 * leader does in a minute, and the price of raft_take_output with nothing to do.
 *
 *-------------------------------------------------------------------------
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "raft/raft.h"

#define NODES 3

typedef struct Queue
{
	RaftMsg    *msgs;
	size_t		n;
	size_t		cap;
} Queue;

static Raft *cores[NODES + 1];
static Queue queue;
static int64_t now_us;
static int64_t deadlines[NODES + 1];
static uint64_t committed;
static uint64_t syncs;
static uint64_t messages;

static double
seconds(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double) ts.tv_sec + (double) ts.tv_nsec / 1e9;
}

static void
enqueue(const RaftMsg *msgs, size_t n)
{
	if (queue.n + n > queue.cap)
	{
		queue.cap = (queue.n + n) * 2;
		queue.msgs = realloc(queue.msgs, queue.cap * sizeof(RaftMsg));
	}
	if (n > 0)
		memcpy(queue.msgs + queue.n, msgs, n * sizeof(RaftMsg));
	queue.n += n;
	messages += n;
}

/* A disk that takes no time. */
static void
drain(int id)
{
	RaftOutput	out;

	for (;;)
	{
		raft_take_output(cores[id], &out);
		enqueue(out.msgs, out.nmsgs);
		enqueue(out.msgs_after, out.nmsgs_after);
		if (id == 1 && out.commit_first != 0)
			committed = out.commit_last;
		deadlines[id] = out.next_deadline_us;
		syncs += out.must_sync;
		if (out.append_pending)
			raft_append_done(cores[id], out.append_term, out.append_index, now_us);
		else if (out.commit_first == 0 || out.next_deadline_us > now_us)
			break;
	}
}

static void
deliver(void)
{
	static Queue moving;

	while (queue.n > 0)
	{
		bool		touched[NODES + 1] = {false};
		Queue		empty = moving;

		moving = queue;
		queue = empty;
		queue.n = 0;
		for (size_t i = 0; i < moving.n; i++)
		{
			uint32_t	to = moving.msgs[i].to;

			(void) raft_recv(cores[to], &moving.msgs[i], now_us);
			touched[to] = true;
		}
		for (int id = 1; id <= NODES; id++)
			if (touched[id])
				drain(id);
	}
}

static void
pass_time(int64_t us)
{
	now_us += us;
	for (int id = 1; id <= NODES; id++)
		if (deadlines[id] <= now_us)
		{
			raft_tick(cores[id], now_us, 1);
			drain(id);
		}
	deliver();
}

static void
start(void)
{
	RaftConfig	config;
	RaftConf	conf;

	raft_config_default(&config);
	memset(&conf, 0, sizeof(conf));
	for (uint32_t i = 0; i < NODES; i++)
	{
		conf.members[i].id = i + 1;
		conf.members[i].voter = true;
	}
	conf.nmembers = NODES;
	conf.next_id = NODES + 1;
	for (uint32_t id = 1; id <= NODES; id++)
	{
		RaftDisk	disk;

		memset(&disk, 0, sizeof(disk));
		disk.first_index = 1;
		disk.conf = conf;
		config.id = id;
		if (raft_create(&config, &disk, now_us, id, &cores[id]) != RAFT_OK)
			abort();
	}
	raft_campaign(cores[1], now_us);
	drain(1);
	deliver();
	if (raft_role(cores[1]) != RAFT_LEADER)
		abort();
}

static void
throughput(int batch, size_t bytes, double limit)
{
	double		begin = seconds();
	double		took;
	uint64_t	first = committed;
	RaftStamp	stamp = {0};
	RaftToken	token = {1, 1, 0};

	while ((took = seconds() - begin) < limit)
		for (int turn = 0; turn < 256; turn++)
		{
			for (int i = 0; i < batch; i++)
			{
				RaftBuf    *buf = raft_buf_new(NULL, bytes);

				memset(buf->data, 0, bytes);
				token.counter++;
				if (raft_propose(cores[1], RAFT_ENTRY_DATA, stamp, token, buf, NULL) != RAFT_OK)
					abort();
			}
			drain(1);
			deliver();
			pass_time(10);
		}
	printf("batch %4d, %zu bytes: %10.0f proposals/s committed\n", batch, bytes,
		   (double) (committed - first) / took);
}

int
main(int argc, char **argv)
{
	size_t		bytes = argc > 1 ? (size_t) atoi(argv[1]) : 200;
	double		limit = argc > 2 ? atof(argv[2]) : 1.0;
	double		begin;
	RaftOutput	out;
	int			calls = 5000000;

	start();
	for (int batch = 1; batch <= 1024; batch *= 4)
		throughput(batch, bytes, limit);

	syncs = messages = 0;
	for (int ms = 0; ms < 60000; ms++)
		pass_time(1000);
	printf("idle minute: %llu messages, %llu syncs\n",
		   (unsigned long long) messages, (unsigned long long) syncs);

	begin = seconds();
	for (int i = 0; i < calls; i++)
		raft_take_output(cores[1], &out);
	printf("raft_take_output with nothing to do: %.0f ns\n", (seconds() - begin) / calls * 1e9);

	for (int id = 1; id <= NODES; id++)
		raft_free(cores[id]);
	free(queue.msgs);
	return 0;
}
