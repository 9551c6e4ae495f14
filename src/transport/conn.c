/*-------------------------------------------------------------------------
 *
 * conn.c
 *		One connection, from dial or accept to its end.
 *
 *		CONN_CONNECTING -> CONN_SHAKING -> CONN_UP
 *			  any of them -> CONN_CLOSED -> freed by libuv's close callbacks
 *
 * What is read and what it means: input.c.
 *
 *-------------------------------------------------------------------------
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "transport/internal.h"

#define FLUSH_MAX_BYTES		(2 * OUTQ_BATCH_BYTES)	/* in one go */

/* ---------- the end ---------- */

static void
conn_handle_closed(Conn *conn)
{
	Transport  *tp = conn->tp;

	TP_ASSERT(conn->handles > 0 && conn->state == CONN_CLOSED);
	if (--conn->handles > 0)
		return;

	for (Conn **at = &tp->dirty; *at != NULL; at = &(*at)->dirty_next)
	{
		if (*at == conn)
		{
			*at = conn->dirty_next;
			break;
		}
	}
	tp_assembly_free(&conn->lanes[0]);
	tp_assembly_free(&conn->lanes[1]);
	free(conn->in);
	free(conn);
	tp_unref(tp);
}

static void
timer_closed_cb(uv_handle_t *handle)
{
	conn_handle_closed(handle->data);
}

static void
on_closed(void *owner)
{
	conn_handle_closed(owner);
}

void
tp_conn_close(Conn *conn)
{
	Transport  *tp = conn->tp;

	if (conn->state == CONN_CLOSED)
		return;
	if (conn->incoming && conn->state == CONN_SHAKING)
	{
		TP_ASSERT(tp->pending > 0);
		tp->pending--;
	}
	conn->state = CONN_CLOSED;

	if (conn->prev == NULL)
		tp->conns = conn->next;
	else
		conn->prev->next = conn->next;
	if (conn->next != NULL)
		conn->next->prev = conn->prev;

	tp_stream_close(&conn->stream);
	uv_close((uv_handle_t *) &conn->timer, timer_closed_cb);

	/* The socket is closed: nobody reads the queued bytes any more. */
	if (conn->peer != NULL)
		conn->peer->stats.messages_dropped += conn->out.messages;
	tp_outq_clear(&conn->out);
}

/*
 * "the shared secrets differ", and what the side that refused had to add.
 */
static void
describe_refusal(const Conn *conn, char *text, size_t size)
{
	const Handshake *hs = &conn->hs;

	snprintf(text, size, "%s%s%s%s%s", conn->refused_by_us ? "" : "refused by the other side: ",
			 tp_refusal_text(hs->refusal),
			 hs->detail[0] != '\0' ? " (" : "", hs->detail, hs->detail[0] != '\0' ? ")" : "");
}

static bool
was_refused(const Conn *conn)
{
	return conn->hs.state == HS_FAILED && conn->hs.refusal != TP_REFUSED_PROTOCOL;
}

static void
log_stranger(Conn *conn, const char *why)
{
	Transport  *tp = conn->tp;
	char		host[TP_ADDRESS_LEN];

	/* without the port, which differs each time */
	snprintf(host, sizeof(host), "%s", conn->address);
	if (strrchr(host, ':') != NULL)
		*strrchr(host, ':') = '\0';

	if (conn->hs.remote.name[0] != '\0')
		tp_log(tp, TP_LOG_WARNING, "connection from %s, which says it is member %u \"%s\": %s",
			   host, conn->hs.remote.member_id, conn->hs.remote.name, why);
	else
		/* somebody who only looks whether the port is open is no news */
		tp_log(tp, conn->in_end > 0 || tp_stream_has_failed(&conn->stream) ? TP_LOG_WARNING : TP_LOG_DEBUG,
			   "connection from %s: %s", host, why);
}

void
tp_conn_drop(Conn *conn, const char *why)
{
	bool		was_up = conn->state == CONN_UP;
	Peer	   *peer = conn->peer;
	Request    *request = conn->request;
	char		refusal[2 * TP_TEXT_LEN];

	if (conn->state == CONN_CLOSED)
		return;
	if (was_refused(conn))
	{
		describe_refusal(conn, refusal, sizeof(refusal));
		why = refusal;
	}

	tp_conn_close(conn);
	if (peer != NULL)
		tp_peer_conn_lost(peer, conn, was_up, why);
	else if (request != NULL)
		tp_request_conn_lost(request, was_up, was_refused(conn) ? conn->hs.refusal :
							 TP_REFUSED_INTERNAL, why);
	else if (!was_up)
		log_stranger(conn, why);
}

void
tp_conn_break(Conn *conn, const char *why)
{
	if (conn->state == CONN_CLOSED || conn->broken != NULL)
		return;
	conn->broken = why;
	tp_conn_mark_dirty(conn);
}

/* Something that the protocol does not allow. */
void
tp_conn_malformed(Conn *conn, const char *what)
{
	char		why[TP_TEXT_LEN + 16];

	snprintf(why, sizeof(why), "dropped: %s", what);
	tp_conn_drop(conn, why);
}

/* ---------- timers ---------- */

static void
timer_cb(uv_timer_t *timer)
{
	Conn	   *conn = timer->data;

	if (conn->state == CONN_CONNECTING)
		tp_conn_drop(conn, "connecting timed out");
	else if (conn->state == CONN_SHAKING)
		tp_conn_drop(conn, "the handshake timed out");
	else
		tp_conn_drop(conn, "timed out");
}

void
tp_conn_set_timer(Conn *conn, int timeout_ms)
{
	uv_update_time(conn->tp->loop);
	if (timeout_ms > 0)
		uv_timer_start(&conn->timer, timer_cb, (uint64_t) timeout_ms, 0);
	else
		uv_timer_stop(&conn->timer);
}

/* ---------- sending ---------- */

void
tp_conn_mark_dirty(Conn *conn)
{
	Transport  *tp = conn->tp;

	if (conn->dirty || conn->state == CONN_CLOSED)
		return;
	conn->dirty = true;
	conn->dirty_next = tp->dirty;
	tp->dirty = conn;
	tp_keep_awake(tp);
}

static void
batch_written(Conn *conn)
{
	if (conn->peer != NULL)
		conn->peer->stats.bytes_out += conn->out.batch.bytes;
	tp_outq_batch_done(&conn->out);
}

/*
 * As much as the stream takes, but not for ever: where the other side reads as
 * fast as we write, a long message would keep the loop from all else.
 */
void
tp_conn_flush(Conn *conn)
{
	size_t		written = 0;

	while (conn->state == CONN_UP && conn->broken == NULL && !conn->stream.writing &&
		   tp_outq_next_batch(&conn->out))
	{
		OutBatch   *batch = &conn->out.batch;
		size_t		bytes = batch->bytes;
		int			status = tp_stream_write(&conn->stream, batch->bufs, batch->nbufs);

		if (status < 0)
			tp_conn_break(conn, tp_stream_error(&conn->stream, status));
		else if (status == 1)
			conn->writing_batch = true;
		else
			batch_written(conn);
		if (status != 0)
			break;
		written += bytes;
		if (written >= FLUSH_MAX_BYTES && tp_conn_has_more(conn))
		{
			tp_conn_mark_dirty(conn);
			break;
		}
	}
}

bool
tp_conn_has_more(const Conn *conn)
{
	return conn->state == CONN_UP && conn->broken == NULL && !conn->stream.writing &&
		conn->out.messages > 0;
}

static void
on_written(void *owner, int status)
{
	Conn	   *conn = owner;

	if (conn->state == CONN_CLOSED)
		return;
	if (status < 0)
	{
		tp_conn_drop(conn, tp_stream_error(&conn->stream, status));
		return;
	}
	if (conn->writing_batch)
	{
		conn->writing_batch = false;
		batch_written(conn);
	}
	tp_conn_mark_dirty(conn);
}

/* ---------- the beginning ---------- */

static void
on_connect(void *owner, int status)
{
	Conn	   *conn = owner;

	if (conn->state == CONN_CLOSED)
		return;
	if (status < 0)
	{
		tp_conn_drop(conn, tp_stream_error(&conn->stream, status));
		return;
	}
	(void) uv_tcp_nodelay(&conn->stream.tcp, 1);
	tp_input_start(conn);
}

static Conn *
conn_new(Transport *tp, bool incoming)
{
	Conn	   *conn = calloc(1, sizeof(Conn));

	if (conn == NULL)
		return NULL;
	conn->tp = tp;
	conn->incoming = incoming;
	if (tp_stream_init(&conn->stream, tp->loop, tp->tls, incoming, conn) != 0)
	{
		free(conn);
		return NULL;
	}
	conn->stream.on_connect = on_connect;
	conn->stream.on_space = tp_input_space;
	conn->stream.on_read = tp_input_read;
	conn->stream.on_written = on_written;
	conn->stream.on_closed = on_closed;
	uv_timer_init(tp->loop, &conn->timer);
	conn->timer.data = conn;
	conn->handles = 2;
	tp_ref(tp);

	conn->next = tp->conns;
	if (tp->conns != NULL)
		tp->conns->prev = conn;
	tp->conns = conn;
	return conn;
}

Conn *
tp_conn_dial(Transport *tp, const struct sockaddr_storage *addr, TpPurpose purpose,
			 uint32_t target, const char **error)
{
	Conn	   *conn;
	int			status;

	conn = conn_new(tp, false);
	if (conn == NULL)
	{
		*error = "out of memory";
		return NULL;
	}
	conn->loopback = tp_address_is_loopback(addr);
	conn->hs.purpose = purpose;
	conn->hs.target = target;
	tp_address_format(addr, conn->address);
	status = tp_stream_connect(&conn->stream, (const struct sockaddr *) addr);
	if (status < 0)
	{
		*error = uv_strerror(status);
		tp_conn_close(conn);
		return NULL;
	}
	tp_conn_set_timer(conn, tp->config.connect_timeout_ms);
	return conn;
}

/* Make room for one more stranger: the oldest has had its time. */
static void
drop_oldest_pending(Transport *tp)
{
	Conn	   *oldest = NULL;

	for (Conn *conn = tp->conns; conn != NULL; conn = conn->next)
		if (conn->incoming && conn->state == CONN_SHAKING)
			oldest = conn;
	TP_ASSERT(oldest != NULL);
	tp_conn_drop(oldest, "dropped: too many connections are in their handshake");
}

void
tp_conn_accept(Transport *tp, uv_stream_t *listener)
{
	struct sockaddr_storage addr;
	int			len = sizeof(addr);
	Conn	   *conn = conn_new(tp, true);

	if (conn == NULL)
	{
		tp_log(tp, TP_LOG_WARNING, "could not take an incoming connection: out of memory");
		return;
	}
	memset(&addr, 0, sizeof(addr));
	if (tp_stream_accept(&conn->stream, listener) != 0 ||
		uv_tcp_getpeername(&conn->stream.tcp, (struct sockaddr *) &addr, &len) != 0)
	{
		tp_conn_close(conn);	/* it has gone again */
		return;
	}
	conn->loopback = tp_address_is_loopback(&addr);
	tp_address_format(&addr, conn->address);
	(void) uv_tcp_nodelay(&conn->stream.tcp, 1);

	if (tp->pending >= tp->config.max_pending)
		drop_oldest_pending(tp);
	tp_input_start(conn);
}
