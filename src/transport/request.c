/*-------------------------------------------------------------------------
 *
 * request.c
 *		One message there, one back, over a connection of its own: how a server
 *		that is not a member yet asks one that is.
 *
 * The asking side drives: it dials the addresses of the host in turn, sends,
 * waits, closes. Its one timer covers all of it. The asked side keeps no more
 * than the connection, found again by a number (not by a pointer, because the
 * asker may go while the caller works on the answer).
 *
 *-------------------------------------------------------------------------
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "transport/internal.h"

struct Request
{
	Transport  *tp;
	Request    *prev;			/* tp->requests */
	Request    *next;
	char		host[TP_ADDRESS_LEN];
	int			port;
	bool		started;
	Resolve    *resolve;
	Addresses	addresses;
	int			address_at;
	Conn	   *conn;
	uv_timer_t	start;			/* zero: so that callbacks come from uv_run */
	uv_timer_t	timeout;
	int			handles;
	TpRequestDone done;
	void	   *arg;
	uint8_t		type;
	size_t		len;
	uint8_t		data[];
};

static void
timer_closed_cb(uv_handle_t *handle)
{
	Request    *request = handle->data;
	Transport  *tp = request->tp;

	if (--request->handles > 0)
		return;
	free(request);
	tp_unref(tp);
}

/* Off the list, in silence. */
void
tp_request_free(Request *request)
{
	Transport  *tp = request->tp;

	if (request->prev == NULL)
		tp->requests = request->next;
	else
		request->prev->next = request->next;
	if (request->next != NULL)
		request->next->prev = request->prev;

	if (request->resolve != NULL)
		tp_resolve_abandon(request->resolve);
	if (request->conn != NULL)
		tp_conn_close(request->conn);
	request->done = NULL;
	uv_close((uv_handle_t *) &request->start, timer_closed_cb);
	uv_close((uv_handle_t *) &request->timeout, timer_closed_cb);
}

static void
finish(Request *request, TpRefusal status, const char *error, TpMessage *msg)
{
	TpRequestDone done = request->done;
	void	   *arg = request->arg;

	TP_ASSERT(done != NULL && (status == TP_ACCEPT) == (msg != NULL));
	tp_request_free(request);
	done(arg, status, error, msg);
}

const char *
tp_request_host(const Request *request)
{
	return request->host;
}

/* ---------- asking ---------- */

static void
try_next_address(Request *request, TpRefusal status, const char *why)
{
	Transport  *tp = request->tp;

	for (; request->address_at < request->addresses.n; request->address_at++)
	{
		const struct sockaddr_storage *addr = &request->addresses.addr[request->address_at];

		if (!tp_is_guarded(tp) && !tp_address_is_loopback(addr))
		{
			status = TP_REFUSED_LOOPBACK;
			why = tp_refusal_text(status);
			continue;
		}
		request->conn = tp_conn_dial(tp, addr, TP_PURPOSE_JOIN, 0, &why);
		if (request->conn != NULL)
		{
			request->conn->request = request;
			request->address_at++;
			return;
		}
		status = TP_REFUSED_INTERNAL;
	}
	finish(request, status, why, NULL);
}

static void
request_resolved(void *arg, const char *error, const Addresses *addresses)
{
	Request    *request = arg;

	request->resolve = NULL;
	if (error != NULL)
	{
		finish(request, TP_REFUSED_INTERNAL, error, NULL);
		return;
	}
	request->addresses = *addresses;
	try_next_address(request, TP_REFUSED_INTERNAL, "no address");
}

static void
start_cb(uv_timer_t *timer)
{
	Request    *request = timer->data;
	const char *error;

	if (tp_address_numeric(request->host, request->port, &request->addresses))
	{
		try_next_address(request, TP_REFUSED_INTERNAL, "no address");
		return;
	}
	request->resolve = tp_resolve(request->tp, request->host, request->port,
								  request_resolved, request, &error);
	if (request->resolve == NULL)
		finish(request, TP_REFUSED_INTERNAL, error, NULL);
}

static void
timeout_cb(uv_timer_t *timer)
{
	finish(timer->data, TP_REFUSED_INTERNAL, "no answer in time", NULL);
}

bool
tp_request(Transport *tp, const char *address, uint8_t type, const void *data, size_t len,
		   int timeout_ms, TpRequestDone done, void *arg)
{
	Request    *request;
	char		host[TP_ADDRESS_LEN];
	int			port;

	TP_ASSERT(!tp->closing && timeout_ms > 0);
	if (!tp_address_parse(address, host, &port) || len > TP_SERVE_MAX_BYTES)
		return false;
	request = calloc(1, sizeof(Request) + len);
	if (request == NULL)
		return false;
	request->tp = tp;
	memcpy(request->host, host, sizeof(host));
	request->port = port;
	request->done = done;
	request->arg = arg;
	request->type = type;
	request->len = len;
	if (len > 0)
		memcpy(request->data, data, len);

	request->next = tp->requests;
	if (tp->requests != NULL)
		tp->requests->prev = request;
	tp->requests = request;

	uv_update_time(tp->loop);
	uv_timer_init(tp->loop, &request->start);
	uv_timer_init(tp->loop, &request->timeout);
	request->start.data = request;
	request->timeout.data = request;
	request->handles = 2;
	tp_ref(tp);
	uv_timer_start(&request->start, start_cb, 0, 0);
	uv_timer_start(&request->timeout, timeout_cb, (uint64_t) timeout_ms, 0);
	return true;
}

void
tp_request_conn_up(Conn *conn)
{
	Request    *request = conn->request;
	TpPart		part = {request->data, request->len};

	TP_ASSERT(request->conn == conn);
	if (tp_outq_add(&conn->out, request->type, TP_BULK, &part, 1, request->len, NULL,
					NULL) != TP_SEND_OK)
		tp_conn_break(conn, "out of memory");
	tp_conn_mark_dirty(conn);
}

void
tp_request_conn_lost(Request *request, bool was_up, TpRefusal status, const char *why)
{
	request->conn = NULL;

	/*
	 * Who reached nobody tries the next address; who was refused is told so. A
	 * request that may have arrived is never sent a second time.
	 */
	if (!was_up && status == TP_REFUSED_INTERNAL)
		try_next_address(request, status, why);
	else
		finish(request, status, why, NULL);
}

void
tp_request_message(Conn *conn, TpMessage *msg)
{
	Request    *request = conn->request;

	TP_ASSERT(request != NULL && request->conn == conn);
	finish(request, TP_ACCEPT, "", msg);
}

/* ---------- being asked ---------- */

static bool
is_serving(const Conn *conn)
{
	return conn->incoming && conn->state == CONN_UP && conn->peer == NULL;
}

bool
tp_serve_room(const Transport *tp)
{
	int			n = 0;

	if (tp->callbacks.request == NULL)
		return false;
	for (const Conn *conn = tp->conns; conn != NULL; conn = conn->next)
		if (is_serving(conn))
			n++;
	return n < tp->config.max_requests;
}

void
tp_serve_conn_up(Conn *conn)
{
	/* until the request is there */
	tp_conn_set_timer(conn, conn->tp->config.handshake_timeout_ms);
}

void
tp_serve_message(Conn *conn, TpMessage *msg)
{
	Transport  *tp = conn->tp;

	if (conn->serving != 0)
	{
		tp_conn_drop(conn, "more than one request");
		return;
	}
	tp_conn_set_timer(conn, 0);
	conn->serving = ++tp->next_serving;
	tp->callbacks.request(tp->user, conn->serving, &conn->hs.remote, msg);
}

bool
tp_reply(Transport *tp, uint64_t request_id, uint8_t type, const void *data, size_t len)
{
	TpPart		part = {data, len};
	Conn	   *conn = tp->conns;

	while (conn != NULL && !(is_serving(conn) && conn->serving == request_id))
		conn = conn->next;
	if (conn == NULL || conn->broken != NULL || len > tp->config.max_message_bytes)
		return false;
	if (tp_outq_add(&conn->out, type, TP_BULK, &part, 1, len, NULL, NULL) != TP_SEND_OK)
		return false;
	tp_conn_mark_dirty(conn);

	/* The asker closes once it has the reply; if it does not, we do. */
	conn->serving = UINT64_MAX;
	tp_conn_set_timer(conn, tp->config.handshake_timeout_ms);
	return true;
}
