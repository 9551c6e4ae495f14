/*-------------------------------------------------------------------------
 *
 * input.c
 *		What a connection reads: the handshake first, then messages.
 *
 * Before CONN_UP the other side is a stranger: it gets a small fixed buffer,
 * frames of HS_PAYLOAD_MAX, one timer for all of it (so that sending slowly
 * buys no time), and, when it talks nonsense, no answer.
 *
 * Bytes are parsed where they were read to. A frame's payload stays in place
 * until the next read asks for space, so it may be used until then.
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

/* ---------- handshake ---------- */

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
		tp_conn_malformed(conn, "handshake out of turn");
		return false;
	}
	status = tp_stream_write(&conn->stream, &buf, 1);
	if (status < 0)
	{
		tp_conn_drop(conn, tp_stream_error(&conn->stream, status));
		return false;
	}
	return true;
}

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

/* host:port without the port, and [] of an IPv6 address. */
static bool
is_host_of(const Conn *conn, const char *address)
{
	char		host[TP_ADDRESS_LEN];
	int			port;

	return tp_address_parse(address, host, &port) && tp_tls_peer_is(conn->stream.tls, host);
}

/*
 * Anybody whose certificate the CA has signed gets this far. It has to be for
 * the node name that is claimed, or for where the member of that id lives, or
 * for where this connection leads to or comes from.
 */
static bool
certificate_fits(const Conn *conn, char *detail)
{
	const TpIdentity *who = &conn->hs.remote;
	const Peer *peer = who->member_id != 0 ? tp_peer_find(conn->tp, who->member_id) : NULL;
	char		subject[TP_TEXT_LEN / 2];

	if (tp_tls_peer_is(conn->stream.tls, who->name) || is_host_of(conn, conn->address) ||
		(peer != NULL && is_host_of(conn, peer->address)) ||
		(conn->request != NULL && tp_tls_peer_is(conn->stream.tls, tp_request_host(conn->request))))
		return true;
	tp_tls_peer_subject(conn->stream.tls, subject, sizeof(subject));
	snprintf(detail, TP_TEXT_LEN, "\"%s\" is for neither node \"%.40s\" nor its address", subject,
			 who->name);
	return false;
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
	if (conn->stream.tls != NULL && !certificate_fits(conn, detail))
		return TP_REFUSED_CERTIFICATE;
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
			tp_conn_malformed(conn, conn->hs.detail);
			break;
		case HS_ASK:
			TP_ASSERT(false);
	}
}

/* The connection stands: introduce ourselves, or wait for the other to. */
void
tp_input_start(Conn *conn)
{
	HsLocal		local = tp_local(conn->tp);
	Handshake  *hs = &conn->hs;
	int			status;

	/* purpose and target were left there by tp_conn_dial */
	if (!tp_hs_init(hs, &local, !conn->incoming, conn->loopback || conn->stream.tls != NULL,
					hs->purpose, hs->target,
					&conn->raw))
	{
		tp_conn_drop(conn, "no random bytes to be had");
		return;
	}
	conn->state = CONN_SHAKING;
	if (conn->incoming)
		conn->tp->pending++;
	tp_conn_set_timer(conn, conn->tp->config.handshake_timeout_ms);
	if (!send_raw(conn))
		return;
	status = tp_stream_read(&conn->stream);
	if (status < 0)
		tp_conn_drop(conn, tp_stream_error(&conn->stream, status));
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
		tp_conn_malformed(conn, "unexpected frame");
		return;
	}
	if (conn->peer != NULL && !conn->incoming)
	{
		tp_conn_malformed(conn, "message in the wrong direction");
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
			tp_conn_malformed(conn, error);
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

/* The first byte of what a TLS client or server says first: a greeting, or an alert. */
static bool
is_tls_record(uint8_t byte)
{
	return byte == 0x16 || byte == 0x15;
}

/* Consume the preamble. False: not all there, or wrong. */
static bool
take_preamble(Conn *conn)
{
	int			found = tp_hs_preamble(conn->in + conn->in_start,
									   conn->in_end - conn->in_start);

	if (found == 0)
		tp_conn_malformed(conn, is_tls_record(conn->in[conn->in_start]) ?
						  "the other side uses TLS (quorum.ssl has to be the same on all members)" :
						  "not the pg_quorum protocol");
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
				tp_conn_malformed(conn, error);
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

void
tp_input_read(void *owner, ssize_t nread)
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
					 nread == UV_ENOBUFS ? "out of memory" :
					 tp_stream_error(&conn->stream, (int) nread));
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

void
tp_input_space(void *owner, uv_buf_t *buf)
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

