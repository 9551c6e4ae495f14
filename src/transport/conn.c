/*-------------------------------------------------------------------------
 *
 * conn.c
 *		One connection, from dial or accept to its end.
 *
 *		CONN_CONNECTING -> CONN_SHAKING -> CONN_UP
 *			  any of them -> CONN_CLOSED -> freed by libuv's close callbacks
 *
 * Before CONN_UP the other side is a stranger: it gets a small fixed buffer,
 * frames of HS_PAYLOAD_MAX, one timer for all of it (so that sending slowly
 * buys no time), and, when it talks nonsense, no answer.
 *
 *-------------------------------------------------------------------------
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "transport/internal.h"

#define IN_SHAKING_BYTES	1024
#define IN_UP_BYTES			(64 * 1024)
#define IN_FRAMES_BYTES		(2 * (FRAME_HEADER_LEN + TP_FRAME_MAX_BYTES))

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
		tp_log(tp, conn->in_end == 0 ? TP_LOG_DEBUG : TP_LOG_WARNING,
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
static void
conn_malformed(Conn *conn, const char *what)
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

void
tp_conn_flush(Conn *conn)
{
	while (conn->state == CONN_UP && conn->broken == NULL && !conn->stream.writing &&
		   tp_outq_next_batch(&conn->out))
	{
		OutBatch   *batch = &conn->out.batch;
		int			status = tp_stream_write(&conn->stream, batch->bufs, batch->nbufs);

		if (status < 0)
			tp_conn_break(conn, uv_strerror(status));
		else if (status == 1)
			conn->writing_batch = true;
		else
			batch_written(conn);
		if (status != 0)
			break;
	}
}

static void
on_written(void *owner, int status)
{
	Conn	   *conn = owner;

	if (conn->state == CONN_CLOSED)
		return;
	if (status < 0)
	{
		tp_conn_drop(conn, uv_strerror(status));
		return;
	}
	if (conn->writing_batch)
	{
		conn->writing_batch = false;
		batch_written(conn);
	}
	tp_conn_mark_dirty(conn);
}

/* Handshake bytes. What does not fit the socket now will follow. */
static bool
send_raw(Conn *conn)
{
	uv_buf_t	buf = uv_buf_init((char *) conn->raw.bytes, (unsigned int) conn->raw.len);
	int			status;

	if (conn->raw.len == 0)
		return true;

	/* Only a peer that does not wait its turn makes us write twice at once. */
	if (conn->stream.writing)
	{
		conn_malformed(conn, "handshake out of turn");
		return false;
	}
	status = tp_stream_write(&conn->stream, &buf, 1);
	if (status < 0)
	{
		tp_conn_drop(conn, uv_strerror(status));
		return false;
	}
	return true;
}

/* ---------- handshake ---------- */

static void
conn_established(Conn *conn)
{
	Transport  *tp = conn->tp;

	TP_ASSERT(conn->state == CONN_SHAKING && conn->hs.state == HS_DONE);
	if (conn->incoming)
		tp->pending--;
	conn->state = CONN_UP;
	conn->proven = tp->secret_len > 0;
	tp_conn_set_timer(conn, 0);
	tp_stream_tune(&conn->stream, tp->config.link_timeout_ms);

	if (conn->request != NULL)
		tp_request_conn_up(conn);
	else if (conn->hs.purpose == TP_PURPOSE_JOIN)
		tp_serve_conn_up(conn);
	else
	{
		if (conn->incoming)
			conn->peer = tp_peer_find(tp, conn->hs.remote.member_id);
		TP_ASSERT(conn->peer != NULL);
		tp_peer_conn_up(conn->peer, conn);
	}
}

/* The other side has proved itself: is it welcome? */
static TpRefusal
ask_caller(Conn *conn, char *detail)
{
	Transport  *tp = conn->tp;
	Handshake  *hs = &conn->hs;
	TpRefusal	refusal;

	detail[0] = '\0';
	if (conn->incoming && hs->purpose == TP_PURPOSE_JOIN && !tp_serve_room(tp))
		return TP_REFUSED_NOT_READY;
	refusal = tp->callbacks.accept_peer(tp->user, &hs->remote, hs->purpose, conn->address,
										detail);
	if (refusal == TP_ACCEPT && conn->incoming && hs->purpose == TP_PURPOSE_PEER &&
		tp_peer_find(tp, hs->remote.member_id) == NULL)
		refusal = TP_REFUSED_UNKNOWN_MEMBER;
	return refusal;
}

static void
conn_shake(Conn *conn, const Frame *frame)
{
	HsLocal		local = tp_local(conn->tp);
	HsResult	result = tp_hs_input(&conn->hs, &local, frame, &conn->raw);
	char		detail[TP_TEXT_LEN];

	if (result == HS_ASK)
	{
		TpRefusal	refusal = ask_caller(conn, detail);

		/* The caller may have closed us, or changed what local points to. */
		if (conn->state == CONN_CLOSED)
			return;
		local = tp_local(conn->tp);
		result = tp_hs_decide(&conn->hs, &local, refusal, detail, &conn->raw);
	}

	switch (result)
	{
		case HS_GO_ON:
			(void) send_raw(conn);
			break;
		case HS_ESTABLISHED:
			if (send_raw(conn))
				conn_established(conn);
			break;
		case HS_REFUSED:
			conn->refused_by_us = true;
			if (send_raw(conn))
				tp_conn_drop(conn, "refused");
			break;
		case HS_WAS_REFUSED:
			tp_conn_drop(conn, "refused");
			break;
		case HS_MALFORMED:
			conn_malformed(conn, conn->hs.detail);
			break;
		case HS_ASK:
			TP_ASSERT(false);
	}
}

static bool
start_shaking(Conn *conn)
{
	HsLocal		local = tp_local(conn->tp);
	Handshake  *hs = &conn->hs;

	/* purpose and target were left there by tp_conn_dial */
	if (!tp_hs_init(hs, &local, !conn->incoming, conn->loopback, hs->purpose, hs->target,
					&conn->raw))
	{
		tp_conn_drop(conn, "no random bytes to be had");
		return false;
	}
	conn->state = CONN_SHAKING;
	if (conn->incoming)
		conn->tp->pending++;
	tp_conn_set_timer(conn, conn->tp->config.handshake_timeout_ms);
	return true;
}

/* ---------- reading ---------- */

/* A frame on an established connection. */
static void
conn_data(Conn *conn, const Frame *frame)
{
	Transport  *tp = conn->tp;
	size_t		max = tp->config.max_message_bytes;
	TpMessage	msg;
	const char *error;

	if (frame->kind == FRAME_REFUSE && conn->incoming && frame->len >= 1 &&
		frame->payload[0] != TP_ACCEPT)
	{
		/* The initiator has the last word on who we are. */
		conn->hs.state = HS_FAILED;
		conn->hs.refusal = (TpRefusal) frame->payload[0];
		tp_hs_clean_text(conn->hs.detail, sizeof(conn->hs.detail), frame->payload + 1,
						 frame->len - 1);
		tp_conn_drop(conn, "refused");
		return;
	}
	if (frame->kind != FRAME_DATA)
	{
		conn_malformed(conn, "unexpected frame");
		return;
	}
	if (conn->peer != NULL && !conn->incoming)
	{
		conn_malformed(conn, "message in the wrong direction");
		return;
	}
	if (conn->incoming && conn->peer == NULL && max > TP_SERVE_MAX_BYTES)
		max = TP_SERVE_MAX_BYTES;

	switch (tp_assembly_add(&conn->lanes[(frame->flags & FRAME_BULK) ? 1 : 0], frame, max,
							&msg, &error))
	{
		case ASSEMBLY_MORE:
			return;
		case ASSEMBLY_BAD:
			conn_malformed(conn, error);
			return;
		case ASSEMBLY_DONE:
			break;
	}
	if (conn->peer != NULL)
		tp_peer_message(conn->peer, &msg);
	else if (conn->request != NULL)
		tp_request_message(conn, &msg);
	else
		tp_serve_message(conn, &msg);
	free(msg.heap);
}

/* Consume the preamble. False: not all there, or wrong. */
static bool
take_preamble(Conn *conn)
{
	int			found = tp_hs_preamble(conn->in + conn->in_start,
									   conn->in_end - conn->in_start);

	if (found == 0)
		conn_malformed(conn, "not the pg_quorum protocol");
	if (found != 2)
		return false;
	conn->in_start += FRAME_PREAMBLE_LEN;
	conn->preamble_seen = true;
	return true;
}

static void
parse_input(Conn *conn)
{
	if (!conn->preamble_seen && !take_preamble(conn))
		return;

	while (conn->state == CONN_SHAKING || conn->state == CONN_UP)
	{
		size_t		max = conn->state == CONN_UP ? TP_FRAME_MAX_BYTES : HS_PAYLOAD_MAX;
		const char *error;
		Frame		frame;

		switch (tp_frame_parse(conn->in + conn->in_start, conn->in_end - conn->in_start,
							   max, &frame, &conn->in_need, &error))
		{
			case FRAME_MORE:
				return;
			case FRAME_BAD:
				conn_malformed(conn, error);
				return;
			case FRAME_OK:
				break;
		}

		/* The payload stays in place until there is space to be made. */
		conn->in_start += FRAME_HEADER_LEN + frame.len;
		conn->in_need = 0;
		TP_ASSERT(conn->in_start <= conn->in_end);
		if (conn->state == CONN_UP)
			conn_data(conn, &frame);
		else
			conn_shake(conn, &frame);
	}
}

static void
on_read(void *owner, ssize_t nread)
{
	Conn	   *conn = owner;

	if (conn->broken != NULL)
	{
		tp_conn_drop(conn, conn->broken);
		return;
	}
	if (nread < 0)
	{
		tp_conn_drop(conn, nread == UV_EOF ? "closed by the other side" :
					 nread == UV_ENOBUFS ? "out of memory" : uv_strerror((int) nread));
		return;
	}
	conn->in_end += (size_t) nread;
	TP_ASSERT(conn->in_end <= conn->in_size);
	if (conn->peer != NULL && !conn->peer->blocked_in)
	{
		conn->peer->stats.bytes_in += (uint64_t) nread;
		conn->peer->stats.last_contact_us = tp_now_us();
	}
	parse_input(conn);
}

/* How large the buffer should be now. */
static size_t
in_size_wanted(const Conn *conn)
{
	if (conn->state != CONN_UP)
		return IN_SHAKING_BYTES;
	if (conn->in_need > IN_UP_BYTES || conn->in_size > IN_UP_BYTES)
		return IN_FRAMES_BYTES;
	return IN_UP_BYTES;
}

static void
on_space(void *owner, uv_buf_t *buf)
{
	Conn	   *conn = owner;
	size_t		have = conn->in_end - conn->in_start;
	size_t		size = in_size_wanted(conn);

	TP_ASSERT(conn->in_need <= size);
	if (conn->in_size < size)
	{
		uint8_t    *in = malloc(size);

		if (in == NULL)
		{
			*buf = uv_buf_init(NULL, 0);	/* read ends with ENOBUFS */
			return;
		}
		if (have > 0)
			memcpy(in, conn->in + conn->in_start, have);
		free(conn->in);
		conn->in = in;
		conn->in_size = size;
		conn->in_start = 0;
		conn->in_end = have;
	}
	else if (conn->in_start > 0 &&
			 (have == 0 || conn->in_size - conn->in_end < conn->in_size / 4 ||
			  conn->in_start + conn->in_need > conn->in_size))
	{
		memmove(conn->in, conn->in + conn->in_start, have);
		conn->in_start = 0;
		conn->in_end = have;
	}
	*buf = uv_buf_init((char *) conn->in + conn->in_end,
					   (unsigned int) (conn->in_size - conn->in_end));
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
		tp_conn_drop(conn, uv_strerror(status));
		return;
	}
	(void) uv_tcp_nodelay(&conn->stream.tcp, 1);
	if (!start_shaking(conn) || !send_raw(conn))
		return;
	status = tp_stream_read(&conn->stream);
	if (status < 0)
		tp_conn_drop(conn, uv_strerror(status));
}

static Conn *
conn_new(Transport *tp, bool incoming)
{
	Conn	   *conn = calloc(1, sizeof(Conn));

	if (conn == NULL)
		return NULL;
	conn->tp = tp;
	conn->incoming = incoming;
	if (tp_stream_init(&conn->stream, tp->loop, conn) != 0)
	{
		free(conn);
		return NULL;
	}
	conn->stream.on_connect = on_connect;
	conn->stream.on_space = on_space;
	conn->stream.on_read = on_read;
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
	if (start_shaking(conn) && tp_stream_read(&conn->stream) != 0)
		tp_conn_drop(conn, "could not start reading");
}
