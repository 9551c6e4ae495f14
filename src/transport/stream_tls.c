/*-------------------------------------------------------------------------
 *
 * stream_tls.c
 *		Streams with TLS: between the socket and the owner.
 *
 * Encrypted bytes that the socket does not take at once are moved to a block of
 * their own (stream->unsent), since the session's buffer may have to grow while
 * libuv writes: reading can make TLS speak, too. While they are under way
 * (sending) nothing else is written; what gathers meanwhile goes next. The owner
 * is told on_written when nothing of its is left.
 *
 *-------------------------------------------------------------------------
 */
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "transport/stream.h"
#include "transport/tp_assert.h"

#define RECEIVE_BYTES	(32 * 1024)
#define RECORD_BYTES	(16 * 1024)		/* TLS's own limit */

static int	send_pending(TpStream *stream);

int
tp_stream_tls_init(TpStream *stream, TpTls *tls, bool server)
{
	stream->reading = false;
	stream->sending = false;
	stream->unsent = NULL;
	stream->received = malloc(RECEIVE_BYTES);
	stream->tls = stream->received != NULL ? tp_tls_session_new(tls, server) : NULL;
	if (stream->tls != NULL)
		return 0;
	free(stream->received);
	return UV_ENOMEM;
}

void
tp_stream_tls_end(TpStream *stream)
{
	if (stream->tls == NULL)
		return;
	TP_ASSERT(stream->unsent == NULL);
	tp_tls_session_free(stream->tls);
	free(stream->received);
	stream->tls = NULL;
}

/* ---------- out ---------- */

static void
sent_cb(uv_write_t *req, int status)
{
	TpStream   *stream = req->data;

	free(stream->unsent);
	stream->unsent = NULL;
	stream->sending = false;
	if (status == 0 && !stream->closing)
	{
		status = send_pending(stream);
		if (status == 1)
			return;
	}
	if (stream->writing)
	{
		stream->writing = false;
		stream->on_written(stream->owner, status);
	}
	else if (status < 0 && !stream->closing)
		stream->on_read(stream->owner, status);
}

/* 0: nothing is left. 1: under way. Negative: a libuv error. */
static int
send_pending(TpStream *stream)
{
	const uint8_t *bytes;
	size_t		len = tp_tls_pending(stream->tls, &bytes);
	uv_buf_t	buf = uv_buf_init((char *) bytes, (unsigned int) len);
	int			n;

	if (stream->sending)
		return 1;
	if (len == 0)
		return 0;
	TP_ASSERT(len <= INT_MAX);
	n = uv_try_write((uv_stream_t *) &stream->tcp, &buf, 1);
	if (n < 0 && n != UV_EAGAIN)
		return n;
	if (n < 0)
		n = 0;
	if ((size_t) n < len)
	{
		int			status;

		buf.len = len - (size_t) n;
		stream->unsent = malloc(buf.len);
		if (stream->unsent == NULL)
			return UV_ENOMEM;
		memcpy(stream->unsent, bytes + n, buf.len);
		buf.base = (char *) stream->unsent;
		status = uv_write(&stream->write, (uv_stream_t *) &stream->tcp, &buf, 1, sent_cb);
		if (status < 0)
		{
			free(stream->unsent);
			stream->unsent = NULL;
			return status;
		}
		stream->sending = true;
	}
	tp_tls_sent(stream->tls);
	return stream->sending ? 1 : 0;
}

/* Small pieces share a record: each costs a header, a checksum and a call. */
int
tp_stream_tls_write(TpStream *stream, const uv_buf_t *bufs, int nbufs)
{
	uint8_t		record[RECORD_BYTES];
	size_t		used = 0;
	int			status;

	for (int i = 0; i < nbufs; i++)
	{
		const uint8_t *at = (const uint8_t *) bufs[i].base;
		size_t		left = bufs[i].len;

		while (left > 0)
		{
			size_t		n = left < RECORD_BYTES - used ? left : RECORD_BYTES - used;

			memcpy(record + used, at, n);
			used += n;
			at += n;
			left -= n;
			if (used < RECORD_BYTES)
				continue;
			if (tp_tls_write(stream->tls, record, used) != TLS_DONE)
				return UV_EPROTO;
			used = 0;
		}
	}
	if (tp_tls_write(stream->tls, record, used) != TLS_DONE)
		return UV_EPROTO;
	status = send_pending(stream);
	stream->writing = status == 1;
	return status;
}

/* ---------- in ---------- */

/* The owner learns of it where it waits for something. */
static void
fail(TpStream *stream, bool connecting, int status)
{
	if (connecting)
		stream->on_connect(stream->owner, status);
	else
		stream->on_read(stream->owner, status);
}

/* Give the owner what there is. It may close the stream at any call. */
static void
deliver(TpStream *stream)
{
	while (stream->reading && !stream->closing)
	{
		uv_buf_t	buf = uv_buf_init(NULL, 0);
		size_t		got = 0;

		stream->on_space(stream->owner, &buf);
		if (buf.base == NULL || buf.len == 0)
		{
			stream->on_read(stream->owner, UV_ENOBUFS);
			return;
		}
		switch (tp_tls_read(stream->tls, buf.base, buf.len, &got))
		{
			case TLS_DONE:
				stream->on_read(stream->owner, (ssize_t) got);
				break;
			case TLS_MORE:
				return;
			case TLS_EOF:
				stream->on_read(stream->owner, UV_EOF);
				return;
			case TLS_FAILED:
				(void) send_pending(stream);	/* tell the other side */
				stream->on_read(stream->owner, UV_EPROTO);
				return;
		}
	}
}

/* The initiator's owner waits for on_connect until the hands are shaken. */
static bool
is_connecting(const TpStream *stream)
{
	return !stream->reading && !tp_tls_is_open(stream->tls);
}

/* Bytes have come, or we are to begin. */
static void
turn(TpStream *stream)
{
	int			status;

	if (!tp_tls_is_open(stream->tls))
	{
		bool		connecting = is_connecting(stream);
		TlsResult	result = tp_tls_shake(stream->tls);

		status = send_pending(stream);
		if (result == TLS_MORE && status >= 0)
			return;
		if (result != TLS_DONE || status < 0)
		{
			fail(stream, connecting, result == TLS_EOF ? UV_EOF :
				 result == TLS_FAILED ? UV_EPROTO : status);
			return;
		}
		if (connecting)
			stream->on_connect(stream->owner, 0);
	}
	deliver(stream);
	if (!stream->closing && (status = send_pending(stream)) < 0)
		stream->on_read(stream->owner, status);
}

static void
alloc_cb(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
	TpStream   *stream = handle->data;

	(void) suggested;
	*buf = uv_buf_init((char *) stream->received, RECEIVE_BYTES);
}

static void
read_cb(uv_stream_t *handle, ssize_t nread, const uv_buf_t *buf)
{
	TpStream   *stream = handle->data;

	(void) buf;
	if (nread == 0 || stream->closing)
		return;
	if (nread > 0 && !tp_tls_put(stream->tls, stream->received, (size_t) nread))
		nread = UV_ENOMEM;
	if (nread < 0)
		fail(stream, is_connecting(stream), (int) nread);
	else
		turn(stream);
}

/* The initiator: on_connect comes later. 0, or a libuv error. */
int
tp_stream_tls_begin(TpStream *stream)
{
	int			status = uv_read_start((uv_stream_t *) &stream->tcp, alloc_cb, read_cb);

	if (status == 0 && tp_tls_shake(stream->tls) == TLS_FAILED)
		status = UV_EPROTO;
	if (status == 0)
	{
		status = send_pending(stream);
		if (status == 1)
			status = 0;
	}
	return status;
}

/* The owner is ready. The acceptor's socket is not read before this. */
int
tp_stream_tls_read(TpStream *stream)
{
	stream->reading = true;
	if (tp_tls_is_open(stream->tls))
	{
		deliver(stream);
		return 0;
	}
	return uv_read_start((uv_stream_t *) &stream->tcp, alloc_cb, read_cb);
}
