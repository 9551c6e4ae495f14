/*-------------------------------------------------------------------------
 *
 * links.c
 *		links NAME=PORT... - all links between the members, to cut and to mend.
 *
 * For each ordered pair it listens on a port of its own, says which ("link FROM
 * TO PORT", then "ready"), and passes on to TO's port what comes. A member dials
 * another one for what it has to say to it, so that a link is one direction.
 * (test/tools/faults.c leads the members here.) Commands, answered with "ok":
 *
 *		cut FROM TO			nothing gets through; connections stay open, new ones
 *							hang. What was sent meanwhile arrives, late, once the
 *							link is mended: as when TCP outlasts a partition
 *		refuse FROM TO		connections are reset, now and when they are made
 *		reset FROM TO		connections are reset, once
 *		slow FROM TO MS		everything takes so much longer; order is kept
 *		mend FROM TO		none of these any more
 *
 * Ends with its standard input.
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MAX_MEMBERS		9
#define MAX_CONNS		400			/* poll takes no more than 1024 by default */
#define CHUNK			65536
#define MAX_QUEUED		(4 * 1024 * 1024)

typedef struct Chunk
{
	struct Chunk *next;
	int64_t		due_us;
	size_t		at;
	size_t		len;
	char		data[];
} Chunk;

/* One direction of a connection. */
typedef struct Flow
{
	Chunk	   *first;
	Chunk	   *last;
	size_t		queued;
	bool		ended;			/* nothing more comes in */
	bool		shut;			/* and that was passed on */
} Flow;

typedef enum LinkState
{
	LINK_GOOD,
	LINK_CUT,
	LINK_REFUSED
} LinkState;

typedef struct Link
{
	const char *from;
	const char *to;
	int			listener;
	int			to_port;
	LinkState	state;
	int			delay_us;
} Link;

typedef struct Conn
{
	Link	   *link;			/* NULL: free */
	int			fd[2];			/* the dialer; the member dialled, or -1 yet */
	bool		connecting;
	Flow		flow[2];		/* what came in on fd[i] */
} Conn;

static Link links[MAX_MEMBERS * MAX_MEMBERS];
static int	nlinks;
static Conn conns[MAX_CONNS];

static void __attribute__((noreturn))
die(const char *what)
{
	perror(what);
	exit(1);
}

static int64_t
now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * INT64_C(1000000) + t.tv_nsec / 1000;
}

static struct sockaddr_in
loopback(int port)
{
	return (struct sockaddr_in)
	{
		.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)
	};
}

static void
listen_for(Link *link)
{
	struct sockaddr_in addr = loopback(0);
	socklen_t	len = sizeof(addr);

	link->listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (link->listener < 0 || bind(link->listener, (struct sockaddr *) &addr, len) != 0 ||
		listen(link->listener, 64) != 0 ||
		getsockname(link->listener, (struct sockaddr *) &addr, &len) != 0)
		die("listen");
	printf("link %s %s %d\n", link->from, link->to, ntohs(addr.sin_port));
}

static void
close_fd(int fd, bool reset)
{
	struct linger linger = {.l_onoff = 1};

	if (fd < 0)
		return;
	if (reset)
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	close(fd);
}

static void
end_conn(Conn *conn, bool reset)
{
	for (int i = 0; i < 2; i++)
	{
		close_fd(conn->fd[i], reset);
		while (conn->flow[i].first)
		{
			Chunk	   *next = conn->flow[i].first->next;

			free(conn->flow[i].first);
			conn->flow[i].first = next;
		}
	}
	memset(conn, 0, sizeof(*conn));
}

static void
accept_one(Link *link)
{
	int			fd = accept4(link->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	int			one = 1;

	if (fd < 0)
		return;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	for (int i = 0; i < MAX_CONNS && link->state != LINK_REFUSED; i++)
	{
		if (conns[i].link)
			continue;
		conns[i] = (Conn) {.link = link, .fd = {fd, -1}};
		return;
	}
	close_fd(fd, true);
}

/* The other half, once the link lets it through. */
static void
dial(Conn *conn)
{
	struct sockaddr_in addr = loopback(conn->link->to_port);
	int			one = 1;

	conn->fd[1] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (conn->fd[1] < 0)
		die("socket");
	setsockopt(conn->fd[1], IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	conn->connecting = true;
	if (connect(conn->fd[1], (struct sockaddr *) &addr, sizeof(addr)) != 0 && errno != EINPROGRESS)
		end_conn(conn, true);
}

/* False when the connection is broken. */
static bool
take_in(Conn *conn, int side)
{
	Flow	   *flow = &conn->flow[side];
	Chunk	   *chunk = malloc(sizeof(Chunk) + CHUNK);
	ssize_t		n;

	if (!chunk)
		die("malloc");
	n = recv(conn->fd[side], chunk->data, CHUNK, 0);
	if (n <= 0)
	{
		free(chunk);
		if (n < 0)
			return errno == EAGAIN || errno == EINTR;
		flow->ended = true;
		return true;
	}
	chunk->next = NULL;
	chunk->at = 0;
	chunk->len = n;
	chunk->due_us = now_us() + conn->link->delay_us;
	/* a link that gets faster does not turn the order round */
	if (flow->last && flow->last->due_us > chunk->due_us)
		chunk->due_us = flow->last->due_us;
	if (flow->last)
		flow->last->next = chunk;
	else
		flow->first = chunk;
	flow->last = chunk;
	flow->queued += n;
	return true;
}

static bool
pass_on(Conn *conn, int side, int64_t now)
{
	Flow	   *flow = &conn->flow[side];
	int			out = conn->fd[1 - side];

	while (flow->first && flow->first->due_us <= now)
	{
		Chunk	   *chunk = flow->first;
		ssize_t		n = send(out, chunk->data + chunk->at, chunk->len - chunk->at, MSG_NOSIGNAL);

		if (n < 0)
			return errno == EAGAIN || errno == EINTR;
		chunk->at += n;
		flow->queued -= n;
		if (chunk->at < chunk->len)
			return true;
		flow->first = chunk->next;
		if (!flow->first)
			flow->last = NULL;
		free(chunk);
	}
	if (!flow->first && flow->ended && !flow->shut)
	{
		shutdown(out, SHUT_WR);
		flow->shut = true;
	}
	return true;
}

static void
work(Conn *conn, const struct pollfd *p, int64_t now)
{
	if (conn->fd[1] < 0)
	{
		dial(conn);
		return;
	}
	if (conn->connecting)
	{
		int			error = 0;
		socklen_t	len = sizeof(error);

		if (!(p[1].revents & (POLLOUT | POLLERR | POLLHUP)))
			return;
		getsockopt(conn->fd[1], SOL_SOCKET, SO_ERROR, &error, &len);
		if (error)
		{
			end_conn(conn, true);
			return;
		}
		conn->connecting = false;
	}
	for (int side = 0; side < 2; side++)
	{
		if (!conn->flow[side].ended && conn->flow[side].queued < MAX_QUEUED &&
			(p[side].revents & (POLLIN | POLLERR | POLLHUP)) && !take_in(conn, side))
		{
			end_conn(conn, true);
			return;
		}
	}
	if (!pass_on(conn, 0, now) || !pass_on(conn, 1, now))
		end_conn(conn, true);
	else if (conn->flow[0].shut && conn->flow[1].shut)
		end_conn(conn, false);
}

static void
command(char *line)
{
	char		verb[16];
	char		from[64];
	char		to[64];
	int			ms = 0;

	if (sscanf(line, "%15s %63s %63s %d", verb, from, to, &ms) < 3)
	{
		printf("what?\n");
		return;
	}
	for (int i = 0; i < nlinks; i++)
	{
		Link	   *link = &links[i];

		if (strcmp(link->from, from) != 0 || strcmp(link->to, to) != 0)
			continue;
		if (strcmp(verb, "cut") == 0)
			link->state = LINK_CUT;
		else if (strcmp(verb, "refuse") == 0)
			link->state = LINK_REFUSED;
		else if (strcmp(verb, "slow") == 0)
			link->delay_us = ms * 1000;
		else if (strcmp(verb, "mend") == 0)
			link->state = LINK_GOOD, link->delay_us = 0;
		for (int c = 0; c < MAX_CONNS; c++)
			if (conns[c].link == link &&
				(strcmp(verb, "reset") == 0 || strcmp(verb, "refuse") == 0))
				end_conn(&conns[c], true);
	}
	printf("ok\n");
}

/* What to wait for on both sides of a connection; the time of the next chunk. */
static void
watch(const Conn *conn, struct pollfd *p, int64_t now, int64_t *wake_us)
{
	p[0] = p[1] = (struct pollfd) {.fd = -1};
	/* on a link that is cut not even an end is seen */
	if (!conn->link || conn->link->state == LINK_CUT)
		return;
	if (conn->fd[1] < 0)
	{
		*wake_us = now;
		return;
	}
	if (conn->connecting)
	{
		p[1] = (struct pollfd) {.fd = conn->fd[1], .events = POLLOUT};
		return;
	}
	for (int side = 0; side < 2; side++)
	{
		const Flow *in = &conn->flow[side];
		const Flow *out = &conn->flow[1 - side];

		if (!in->ended && in->queued < MAX_QUEUED)
			p[side].events |= POLLIN;
		if (out->first && out->first->due_us <= now)
			p[side].events |= POLLOUT;
		else if (out->first && out->first->due_us < *wake_us)
			*wake_us = out->first->due_us;
		if (p[side].events)
			p[side].fd = conn->fd[side];
	}
}

static void
read_commands(void)
{
	static char buffer[4096];
	static size_t used;
	ssize_t		n = read(0, buffer + used, sizeof(buffer) - 1 - used);
	char	   *end;

	if (n <= 0)
		exit(0);
	used += n;
	buffer[used] = '\0';
	while ((end = strchr(buffer, '\n')))
	{
		*end = '\0';
		command(buffer);
		used -= end + 1 - buffer;
		memmove(buffer, end + 1, used + 1);
	}
}

int
main(int argc, char **argv)
{
	static struct pollfd polled[1 + MAX_MEMBERS * MAX_MEMBERS + 2 * MAX_CONNS];
	int			ports[MAX_MEMBERS];

	if (argc < 2 || argc > MAX_MEMBERS + 1)
		return 2;
	signal(SIGPIPE, SIG_IGN);
	setvbuf(stdout, NULL, _IOLBF, 0);
	for (int i = 1; i < argc; i++)
	{
		char	   *equals = strchr(argv[i], '=');

		if (!equals)
			return 2;
		*equals = '\0';
		ports[i - 1] = atoi(equals + 1);
	}
	for (int i = 1; i < argc; i++)
	{
		for (int k = 1; k < argc; k++)
		{
			if (i == k)
				continue;
			links[nlinks] = (Link) {.from = argv[i], .to = argv[k], .to_port = ports[k - 1]};
			listen_for(&links[nlinks++]);
		}
	}
	printf("ready\n");

	for (;;)
	{
		int64_t		now = now_us();
		int64_t		wake_us = now + 1000000;
		struct pollfd *of_conns = polled + 1 + nlinks;

		polled[0] = (struct pollfd) {.fd = 0, .events = POLLIN};
		for (int i = 0; i < nlinks; i++)
			polled[1 + i] = (struct pollfd) {.fd = links[i].listener, .events = POLLIN};
		for (int i = 0; i < MAX_CONNS; i++)
			watch(&conns[i], of_conns + 2 * i, now, &wake_us);
		if (poll(polled, 1 + nlinks + 2 * MAX_CONNS,
				 wake_us <= now ? 0 : (int) ((wake_us - now + 999) / 1000)) < 0 && errno != EINTR)
			die("poll");
		now = now_us();
		/* first the connections: a command may end some that were polled */
		for (int i = 0; i < MAX_CONNS; i++)
			if (conns[i].link && conns[i].link->state != LINK_CUT)
				work(&conns[i], of_conns + 2 * i, now);
		for (int i = 0; i < nlinks; i++)
			if (polled[1 + i].revents)
				accept_one(&links[i]);
		if (polled[0].revents)
			read_commands();
	}
}
