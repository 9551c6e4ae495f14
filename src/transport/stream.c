/*-------------------------------------------------------------------------
 *
 * stream.c
 *		Streams over TCP. Contract: stream.h.
 *
 *-------------------------------------------------------------------------
 */
#include "transport/stream.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "transport/tp_assert.h"

static void
closed_cb(uv_handle_t *handle)
{
	TpStream   *stream = handle->data;

	tp_stream_tls_end(stream);
	stream->on_closed(stream->owner);
}

static void
connect_cb(uv_connect_t *req, int status)
{
	TpStream   *stream = req->data;

	if (stream->closing)
		return;
	if (status == 0 && stream->tls != NULL)
	{
		status = tp_stream_tls_begin(stream);
		if (status == 0)
			return;
	}
	stream->on_connect(stream->owner, status);
}

static void
alloc_cb(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
	TpStream   *stream = handle->data;

	(void) suggested;
	stream->on_space(stream->owner, buf);
}

static void
read_cb(uv_stream_t *handle, ssize_t nread, const uv_buf_t *buf)
{
	TpStream   *stream = handle->data;

	(void) buf;
	/* zero means EAGAIN to libuv, not the end */
	if (nread != 0 && !stream->closing)
		stream->on_read(stream->owner, nread);
}

static void
write_cb(uv_write_t *req, int status)
{
	TpStream   *stream = req->data;

	stream->writing = false;

	/* Told even while closing: the owner's bytes are free from now on. */
	stream->on_written(stream->owner, status);
}

int
tp_stream_init(TpStream *stream, uv_loop_t *loop, TpTls *tls, bool server, void *owner)
{
	int			status;

	stream->owner = owner;
	stream->writing = false;
	stream->closing = false;
	stream->tcp.data = stream;
	stream->connecting.data = stream;
	stream->write.data = stream;
	stream->tls = NULL;
	if (tls != NULL && (status = tp_stream_tls_init(stream, tls, server)) != 0)
		return status;
	status = uv_tcp_init(loop, &stream->tcp);
	if (status != 0)
		tp_stream_tls_end(stream);
	return status;
}

int
tp_stream_connect(TpStream *stream, const struct sockaddr *addr)
{
	return uv_tcp_connect(&stream->connecting, &stream->tcp, addr, connect_cb);
}

int
tp_stream_accept(TpStream *stream, uv_stream_t *listener)
{
	return uv_accept(listener, (uv_stream_t *) &stream->tcp);
}

void
tp_stream_tune(TpStream *stream, int link_timeout_ms)
{
	uv_os_fd_t	fd;
	int			on = 1;
	int			idle_s = (link_timeout_ms + 999) / 1000;
	int			interval_s = 1;
	int			probes = 3;
	int			unsent = STREAM_UNSENT_BYTES;

	(void) uv_tcp_nodelay(&stream->tcp, 1);
	if (uv_fileno((uv_handle_t *) &stream->tcp, &fd) != 0)
		return;

	/*
	 * None of these is vital, so failures are ignored. A peer whose machine
	 * vanished is noticed by keepalive where nothing is under way, and by the
	 * user timeout where something is: otherwise a long partition would leave
	 * the connection to TCP's own back-off, of many seconds, after it healed.
	 */
	(void) setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
#ifdef TCP_KEEPIDLE
	(void) setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof(idle_s));
	(void) setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval_s, sizeof(interval_s));
	(void) setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof(probes));
#endif
#ifdef TCP_USER_TIMEOUT
	{
		unsigned int timeout = (unsigned int) link_timeout_ms;

		(void) setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout, sizeof(timeout));
	}
#endif
#ifdef TCP_NOTSENT_LOWAT
	/* What waits, waits in our queue, where urgent frames can overtake it. */
	(void) setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsent, sizeof(unsent));
#else
	(void) unsent;
#endif
}

int
tp_stream_read(TpStream *stream)
{
	if (stream->tls != NULL)
		return tp_stream_tls_read(stream);
	return uv_read_start((uv_stream_t *) &stream->tcp, alloc_cb, read_cb);
}

int
tp_stream_write(TpStream *stream, uv_buf_t *bufs, int nbufs)
{
	ssize_t		n;
	int			status;

	TP_ASSERT(!stream->writing && nbufs > 0);
	if (stream->closing)
		return UV_ECANCELED;
	if (stream->tls != NULL)
		return tp_stream_tls_write(stream, bufs, nbufs);

	n = uv_try_write((uv_stream_t *) &stream->tcp, bufs, (unsigned int) nbufs);
	if (n < 0 && n != UV_EAGAIN)
		return (int) n;
	if (n < 0)
		n = 0;
	while (nbufs > 0 && (size_t) n >= bufs->len)
	{
		n -= (ssize_t) bufs->len;
		bufs++;
		nbufs--;
	}
	if (nbufs == 0)
		return 0;
	bufs->base += n;
	bufs->len -= (size_t) n;

	status = uv_write(&stream->write, (uv_stream_t *) &stream->tcp, bufs,
					  (unsigned int) nbufs, write_cb);
	if (status < 0)
		return status;
	stream->writing = true;
	return 1;
}

void
tp_stream_close(TpStream *stream)
{
	if (stream->closing)
		return;
	stream->closing = true;
	uv_close((uv_handle_t *) &stream->tcp, closed_cb);
}

bool
tp_stream_has_failed(const TpStream *stream)
{
	return stream->tls != NULL && tp_tls_error(stream->tls)[0] != '\0';
}

const char *
tp_stream_error(const TpStream *stream, int status)
{
	if (status == UV_EPROTO && tp_stream_has_failed(stream))
		return tp_tls_error(stream->tls);
	return uv_strerror(status);
}
