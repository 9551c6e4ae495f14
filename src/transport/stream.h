/*-------------------------------------------------------------------------
 *
 * stream.h
 *		A stream of bytes to somebody: today plain TCP over libuv.
 *
 * The connection layer knows bytes only through this header. TLS takes its
 * place behind it: decrypting between the socket's read and on_read, encrypting
 * in stream_write (whose contract, all or pending, allows for a buffer in
 * between), and reporting on_connect after its own handshake.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGQ_TP_STREAM_H
#define PGQ_TP_STREAM_H

#include <stdbool.h>
#include <uv.h>

/* Bytes that the kernel may hold unsent before an urgent frame must wait. */
#define STREAM_UNSENT_BYTES (256 * 1024)

typedef struct TpStream
{
	uv_tcp_t	tcp;
	uv_connect_t connecting;
	uv_write_t	write;
	bool		writing;		/* a write is under way: no other may start */
	bool		closing;

	/* set by the owner; status is a libuv error or zero */
	void	   *owner;
	void		(*on_connect) (void *owner, int status);
	void		(*on_space) (void *owner, uv_buf_t *buf);	/* where to read to */
	void		(*on_read) (void *owner, ssize_t nread);	/* or a libuv error */
	void		(*on_written) (void *owner, int status);
	void		(*on_closed) (void *owner);
} TpStream;

/* After stream_init succeeded only stream_close ends it (on_closed follows). */
extern int	tp_stream_init(TpStream *stream, uv_loop_t *loop, void *owner);
extern int	tp_stream_connect(TpStream *stream, const struct sockaddr *addr);
extern int	tp_stream_accept(TpStream *stream, uv_stream_t *listener);

/* Socket options of a connection in use. */
extern void tp_stream_tune(TpStream *stream, int link_timeout_ms);
extern int	tp_stream_read(TpStream *stream);

/*
 * Write all of the buffers. 0: done. 1: under way, the bytes (not the array)
 * must stay until on_written. Negative: a libuv error.
 */
extern int	tp_stream_write(TpStream *stream, uv_buf_t *bufs, int nbufs);
extern void tp_stream_close(TpStream *stream);

#endif							/* PGQ_TP_STREAM_H */
