/*-------------------------------------------------------------------------
 *
 * harness.c
 *		See harness.h.
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE				/* accept4 */

#include "harness.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "certs.h"

#define WAIT_MS 10000

uv_loop_t  *loop;
bool		harness_tls = false;
int			passed;
int			failed;

static Authority *authority = NULL;
static uv_timer_t tick;			/* so that uv_run(ONCE) comes back */
static int64_t wait_until_us;
static uint64_t entropy_state = 88172645463325252u;

void
check_at(bool ok, const char *file, int line, const char *what)
{
	if (ok)
	{
		passed++;
		return;
	}
	failed++;
	printf("FAILED %s:%d: %s\n", strrchr(file, '/') ? strrchr(file, '/') + 1 : file, line,
		   what);
	fflush(stdout);
}

void
begin(const char *name)
{
	printf("# %s\n", name);
	fflush(stdout);
}

static void
tick_cb(uv_timer_t *timer)
{
	(void) timer;
}

void
wait_begin(void)
{
	wait_until_us = (int64_t) (uv_hrtime() / 1000) + WAIT_MS * 1000LL;
}

bool
wait_more(void)
{
	uv_run(loop, UV_RUN_ONCE);
	return (int64_t) (uv_hrtime() / 1000) < wait_until_us;
}

uint32_t
sum_of(const uint8_t *bytes, size_t len)
{
	uint32_t	sum = 1;

	for (size_t i = 0; i < len; i++)
		sum = sum * 31 + bytes[i];
	return sum;
}

/* ---------- callbacks ---------- */

static void
on_log(void *user, TpLogLevel level, const char *text)
{
	Node	   *node = user;

	(void) level;
	snprintf(node->log[node->nlog % 64], sizeof(node->log[0]), "%s", text);
	node->nlog++;
	if (getenv("TP_TEST_LOG") != NULL)
		printf("  [%u] %s\n", node->id.member_id, text);
}

static uint64_t
on_entropy(void *user)
{
	(void) user;
	entropy_state ^= entropy_state << 13;
	entropy_state ^= entropy_state >> 7;
	entropy_state ^= entropy_state << 17;
	return entropy_state;
}

static TpRefusal
on_accept(void *user, const TpIdentity *who, TpPurpose purpose, const char *address,
		  char *detail)
{
	Node	   *node = user;

	(void) purpose;
	node->asked++;
	CHECK(address[0] != '\0' && who->name[0] != '\0');
	if (node->answer != TP_ACCEPT)
		snprintf(detail, TP_TEXT_LEN, "because %s says so", node->id.name);
	else if (node->expect_instance != 0 && who->instance_id[0] != node->expect_instance)
		return TP_REFUSED_INSTANCE;
	return node->answer;
}

static void
on_up(void *user, uint32_t member_id)
{
	(void) member_id;
	((Node *) user)->ups++;
}

static void
on_down(void *user, uint32_t member_id, bool was_established, const char *why)
{
	Node	   *node = user;

	(void) member_id;
	if (was_established)
		node->downs++;
	else
		node->failures++;
	snprintf(node->down_why, sizeof(node->down_why), "%s", why);
}

static void
on_refused(void *user, uint32_t member_id, TpRefusal why, const char *detail)
{
	Node	   *node = user;

	(void) member_id;
	node->refusals++;
	node->refusal = why;
	snprintf(node->refusal_detail, sizeof(node->refusal_detail), "%s", detail);
}

static void
on_message(void *user, uint32_t member_id, TpMessage *msg)
{
	Node	   *node = user;
	Received   *r;

	if (node->hook != NULL)
	{
		node->hook(node, member_id, msg);
		return;
	}
	if (node->nreceived == node->size_received)
	{
		node->size_received = node->size_received * 2 + 64;
		node->received = realloc(node->received,
								 (size_t) node->size_received * sizeof(Received));
	}
	r = &node->received[node->nreceived++];
	memset(r, 0, sizeof(*r));
	r->from = member_id;
	r->type = msg->type;
	r->lane = msg->lane;
	r->len = msg->len;
	r->sum = sum_of(msg->data, msg->len);
	if (msg->len >= 8)
		memcpy(&r->first, msg->data, 8);
	if (node->steal)
	{
		uint8_t    *bytes = tp_message_steal(msg);

		CHECK(bytes != NULL && sum_of(bytes, msg->len) == r->sum);
		free(bytes);
	}
	else if (node->echo && msg->type == 1)
	{
		TpPart		part = {msg->data, msg->len};

		CHECK(tp_send(node->tp, member_id, 2, msg->lane, &part, 1, NULL, NULL) ==
			  TP_SEND_OK);
	}
}

static void
on_writable(void *user, uint32_t member_id)
{
	(void) member_id;
	((Node *) user)->writables++;
}

static void
on_request(void *user, uint64_t request_id, const TpIdentity *who, TpMessage *msg)
{
	Node	   *node = user;

	CHECK(who->name[0] != '\0');
	node->requests++;
	node->request_id = request_id;
	node->request_len = msg->len;
	if (node->reply_at_once)
		CHECK(tp_reply(node->tp, request_id, 43, msg->data, msg->len));
}

static void
on_closed(void *user)
{
	((Node *) user)->closed = true;
}

static void
on_listen(void *user, TpListenStatus status, const char *error)
{
	Node	   *node = user;

	node->listen_status = status;
	snprintf(node->listen_error, sizeof(node->listen_error), "%s", error);
	node->port = tp_listen_port(node->tp);
}

/* ---------- nodes ---------- */

TpConfig
quick_config(void)
{
	TpConfig	config;

	tp_config_default(&config);
	config.handshake_timeout_ms = 2000;
	config.link_timeout_ms = 1000;
	config.backoff_min_ms = 10;
	config.backoff_max_ms = 100;
	return config;
}

/* A certificate for this name, by an authority that all tests share. */
static TpTls *
tls_of(const char *name)
{
	char		error[TP_TEXT_LEN];
	TpTls	   *tls;

	if (authority == NULL)
		authority = authority_new("harness");
	cert_make(authority, name, &(CertWish) {.cn = name});
	tls = cert_load(name, "harness", error);
	CHECK(tls != NULL);
	return tls;
}

Node *
node_new(uint32_t id, uint8_t cluster, const char *secret, const TpConfig *config)
{
	static const TpCallbacks callbacks = {
		.log = on_log,
		.entropy = on_entropy,
		.accept_peer = on_accept,
		.peer_up = on_up,
		.peer_down = on_down,
		.peer_refused = on_refused,
		.message = on_message,
		.writable = on_writable,
		.request = on_request,
	};
	Node	   *node = calloc(1, sizeof(Node));
	TpConfig	quick = quick_config();

	node->tp = tp_create(loop, config != NULL ? config : &quick, &callbacks, node);
	if (cluster != 0)
		memset(node->id.cluster_id, cluster, TP_ID_LEN);
	node->id.member_id = id;
	memset(node->id.instance_id, (int) (id * 16 + 1), TP_ID_LEN);
	snprintf(node->id.name, sizeof(node->id.name), "node%u", id);
	if (secret != NULL)
		tp_set_secret(node->tp, (const uint8_t *) secret, strlen(secret));
	if (harness_tls)
		tp_set_tls(node->tp, tls_of(node->id.name));
	tp_set_identity(node->tp, &node->id);
	return node;
}

void
node_listen(Node *node, const char *address)
{
	node->listen_status = (TpListenStatus) -1;
	tp_listen(node->tp, address, on_listen);
}

Node *
node_start(uint32_t id, uint8_t cluster, const char *secret)
{
	Node	   *node = node_new(id, cluster, secret, NULL);

	node_listen(node, "127.0.0.1:0");
	CHECK(node->listen_status == TP_LISTEN_OK && node->port > 0);
	return node;
}

const char *
node_address(const Node *node)
{
	static char text[4][64];
	static int	at = 0;

	at = (at + 1) % 4;
	snprintf(text[at], sizeof(text[at]), "127.0.0.1:%d", node->port);
	return text[at];
}

void
node_know(Node *a, Node *b)
{
	CHECK(tp_peer_add(a->tp, b->id.member_id, node_address(b)));
	CHECK(tp_peer_add(b->tp, a->id.member_id, node_address(a)));
}

TpPeerStats
node_stats(const Node *node, const Node *peer)
{
	TpPeerStats stats;

	memset(&stats, 0, sizeof(stats));
	(void) tp_peer_stats(node->tp, peer->id.member_id, &stats);
	return stats;
}

bool
node_linked(const Node *a, const Node *b)
{
	return node_stats(a, b).state == TP_PEER_UP && node_stats(b, a).state == TP_PEER_UP &&
		node_stats(a, b).incoming && node_stats(b, a).incoming;
}

void
node_close(Node *node)
{
	if (!node->closing)
		tp_close(node->tp, on_closed);
	node->closing = true;
}

void
node_stop(Node *node)
{
	node_close(node);
	WAIT_FOR(node->closed);
	free(node->received);
	free(node);
}

bool
node_logged(const Node *node, const char *text)
{
	int			n = node->nlog < 64 ? node->nlog : 64;

	for (int i = 0; i < n; i++)
		if (strstr(node->log[i], text) != NULL)
			return true;
	return false;
}

TpSendResult
node_send(Node *from, const Node *to, uint8_t type, TpLane lane, const void *data,
		  size_t len)
{
	TpPart		part = {data, len};

	return tp_send(from->tp, to->id.member_id, type, lane, &part, 1, NULL, NULL);
}

/* ---------- raw clients ---------- */

Raw *
raw_connect(const Node *node)
{
	Raw		   *raw = calloc(1, sizeof(Raw));
	struct sockaddr_in addr = {.sin_family = AF_INET};

	addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	addr.sin_port = htons((uint16_t) node->port);
	raw->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	/* the kernel completes this without anybody calling accept */
	CHECK(connect(raw->fd, (struct sockaddr *) &addr, sizeof(addr)) == 0);
	CHECK(fcntl(raw->fd, F_SETFL, O_NONBLOCK) == 0);
	return raw;
}

int
raw_listen(int *port)
{
	struct sockaddr_in addr = {.sin_family = AF_INET};
	socklen_t	len = sizeof(addr);
	int			fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	CHECK(bind(fd, (struct sockaddr *) &addr, sizeof(addr)) == 0 && listen(fd, 10) == 0 &&
		  getsockname(fd, (struct sockaddr *) &addr, &len) == 0);
	*port = ntohs(addr.sin_port);
	return fd;
}

Raw *
raw_accept(int listener)
{
	Raw		   *raw = calloc(1, sizeof(Raw));

	wait_begin();
	do
		raw->fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	while (raw->fd < 0 && wait_more());
	CHECK(raw->fd >= 0);
	return raw;
}

/* What the socket does not take is lost: tests of this kind do not care. */
void
raw_send(Raw *raw, const void *bytes, size_t len)
{
	ssize_t		n = send(raw->fd, bytes, len, MSG_NOSIGNAL);

	if (n < 0 && errno != EAGAIN)
		raw->eof = true;
}

void
raw_poll(Raw *raw)
{
	ssize_t		n = recv(raw->fd, raw->got + raw->ngot, sizeof(raw->got) - raw->ngot, 0);

	if (n > 0)
		raw->ngot += (size_t) n;
	else if (n == 0 || (errno != EAGAIN && errno != EINTR))
		raw->eof = true;
}

void
raw_close(Raw *raw)
{
	close(raw->fd);
	free(raw);
}

/* ---------- main ---------- */

int
main(void)
{
	signal(SIGPIPE, SIG_IGN);
	loop = uv_default_loop();
	uv_timer_init(loop, &tick);
	uv_timer_start(&tick, tick_cb, 1, 1);

	test_units();
	test_messages();
	test_connections();
	test_security();
	test_hostile();
	test_requests();
	test_churn();
	test_tls();

	/* the same over TLS */
	harness_tls = true;
	test_messages();
	test_connections();
	test_requests();
	test_churn();
	if (authority != NULL)
		authority_free(authority);
	certs_clean_up();

	uv_close((uv_handle_t *) &tick, NULL);
	uv_run(loop, UV_RUN_DEFAULT);
	CHECK(uv_loop_close(loop) == 0);
	uv_library_shutdown();
	printf("%d passed, %d failed\n", passed, failed);
	return failed == 0 ? 0 : 1;
}
