/*-------------------------------------------------------------------------
 *
 * bench.c
 *		Round trips and throughput between two processes over 127.0.0.1.
 *
 * The parent sends, the child echoes (short messages) or acknowledges (long
 * ones). CPU is user + system of both processes.
 *
 *		bench [seconds for each figure, default 2]
 *
 *-------------------------------------------------------------------------
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include <uv.h>

#include "transport/transport.h"

#define LONG_BYTES (1024 * 1024)

enum
{
	MSG_ECHO = 1,
	MSG_ECHOED,
	MSG_LONG,
	MSG_LONG_ACK,
	MSG_CPU,					/* how much have you used so far? */
	MSG_CPU_IS,
	MSG_QUIT
};

static uv_loop_t *loop;
static Transport *tp;
static uint32_t other;
static uint64_t replies;
static double child_cpu = -1;
static uint8_t *long_bytes;
static bool up;
static bool quit;

static double
cpu_now(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return (double) usage.ru_utime.tv_sec + (double) usage.ru_stime.tv_sec +
		1e-6 * (double) (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

static void
no_release(void *arg)
{
	(void) arg;
}

static void
send_bytes(uint8_t type, TpLane lane, const void *data, size_t len)
{
	TpPart		part = {data, len};

	if (tp_send(tp, other, type, lane, &part, 1, len > 4096 ? no_release : NULL, NULL) !=
		TP_SEND_OK)
	{
		fprintf(stderr, "send failed\n");
		exit(1);
	}
}

static void
on_message(void *user, uint32_t from, TpMessage *msg)
{
	double		cpu;

	(void) user;
	(void) from;
	switch (msg->type)
	{
		case MSG_ECHO:
			send_bytes(MSG_ECHOED, TP_URGENT, msg->data, msg->len);
			break;
		case MSG_LONG:
			send_bytes(MSG_LONG_ACK, TP_URGENT, msg->data, 8);
			break;
		case MSG_CPU:
			cpu = cpu_now();
			send_bytes(MSG_CPU_IS, TP_URGENT, &cpu, sizeof(cpu));
			break;
		case MSG_CPU_IS:
			memcpy(&child_cpu, msg->data, sizeof(child_cpu));
			break;
		case MSG_QUIT:
			quit = true;
			break;
		default:
			replies++;
	}
}

static void
on_log(void *user, TpLogLevel level, const char *text)
{
	(void) user;
	if (level == TP_LOG_WARNING)
		fprintf(stderr, "%s\n", text);
}

static uint64_t
on_entropy(void *user)
{
	(void) user;
	return uv_hrtime() * 2862933555777941757u;
}

static TpRefusal
on_accept(void *user, const TpIdentity *who, TpPurpose purpose, const char *address,
		  char *detail)
{
	(void) user;
	(void) who;
	(void) purpose;
	(void) address;
	(void) detail;
	return TP_ACCEPT;
}

static void
on_up(void *user, uint32_t id)
{
	(void) user;
	(void) id;
	up = true;
}

static void
on_down(void *user, uint32_t id, bool was_established, const char *why)
{
	(void) user;
	(void) id;
	(void) why;
	if (was_established)
		quit = true;
}

static void
on_refused(void *user, uint32_t id, TpRefusal why, const char *detail)
{
	(void) user;
	(void) id;
	(void) why;
	(void) detail;
}

static void
on_listen(void *user, TpListenStatus status, const char *error)
{
	(void) user;
	if (status != TP_LISTEN_OK)
	{
		fprintf(stderr, "%s\n", error);
		exit(1);
	}
}

static void
start(uint32_t id)
{
	static const TpCallbacks callbacks = {
		.log = on_log,
		.entropy = on_entropy,
		.accept_peer = on_accept,
		.peer_up = on_up,
		.peer_down = on_down,
		.peer_refused = on_refused,
		.message = on_message,
	};
	TpIdentity	self;
	TpConfig	config;

	memset(&self, 7, sizeof(self));
	self.member_id = id;
	snprintf(self.name, sizeof(self.name), "bench%u", id);
	other = 3 - id;
	loop = uv_default_loop();
	tp_config_default(&config);
	tp = tp_create(loop, &config, &callbacks, NULL);
	tp_set_secret(tp, (const uint8_t *) "benchmark secret", 16);
	tp_set_identity(tp, &self);
	tp_listen(tp, "127.0.0.1:0", on_listen);
}

static void
add_peer(int port)
{
	char		address[64];

	snprintf(address, sizeof(address), "127.0.0.1:%d", port);
	tp_peer_add(tp, other, address);
}

static double
both_cpu(void)
{
	child_cpu = -1;
	send_bytes(MSG_CPU, TP_URGENT, "", 0);
	while (child_cpu < 0)
		uv_run(loop, UV_RUN_ONCE);
	return child_cpu + cpu_now();
}

/* Keep `window` messages under way for `seconds`. */
static void
measure(const char *what, uint8_t type, TpLane lane, size_t len, uint64_t window,
		double seconds)
{
	double		cpu = both_cpu();
	uint64_t	start_ns = uv_hrtime();
	uint64_t	sent = 0;
	double		elapsed;

	replies = 0;
	while ((double) (uv_hrtime() - start_ns) < seconds * 1e9)
	{
		while (sent < replies + window)
		{
			send_bytes(type, lane, long_bytes, len);
			sent++;
		}
		uv_run(loop, UV_RUN_ONCE);
	}
	while (replies < sent)
		uv_run(loop, UV_RUN_ONCE);
	elapsed = (double) (uv_hrtime() - start_ns) / 1e9;
	cpu = both_cpu() - cpu;
	printf("%-34s %9.0f round trips/s %8.1f MB/s %7.1f us each, CPU %6.2f us each\n", what,
		   (double) sent / elapsed, (double) sent * (double) len / elapsed / 1e6,
		   elapsed * 1e6 / (double) sent, cpu * 1e6 / (double) sent);
	fflush(stdout);
}

int
main(int argc, char **argv)
{
	double		seconds = argc > 1 ? atof(argv[1]) : 2;
	int			to_child[2];
	int			to_parent[2];
	int			port;
	pid_t		child;

	signal(SIGPIPE, SIG_IGN);
	long_bytes = calloc(1, LONG_BYTES);
	if (pipe(to_child) != 0 || pipe(to_parent) != 0)
		return 1;
	child = fork();
	start(child == 0 ? 2 : 1);
	port = tp_listen_port(tp);
	if (write(child == 0 ? to_parent[1] : to_child[1], &port, sizeof(port)) != sizeof(port) ||
		read(child == 0 ? to_child[0] : to_parent[0], &port, sizeof(port)) != sizeof(port))
		return 1;
	add_peer(port);
	while (!up)
		uv_run(loop, UV_RUN_ONCE);
	if (child == 0)
	{
		while (!quit)
			uv_run(loop, UV_RUN_ONCE);
		return 0;
	}

	measure("200 bytes, one under way", MSG_ECHO, TP_URGENT, 200, 1, seconds);
	measure("200 bytes, 16 under way", MSG_ECHO, TP_URGENT, 200, 16, seconds);
	measure("200 bytes, 1000 under way", MSG_ECHO, TP_URGENT, 200, 1000, seconds);
	measure("1 MB, 8 under way", MSG_LONG, TP_BULK, LONG_BYTES, 8, seconds);
	send_bytes(MSG_QUIT, TP_URGENT, "", 0);
	tp_flush(tp);
	waitpid(child, NULL, 0);
	free(long_bytes);
	return 0;
}
