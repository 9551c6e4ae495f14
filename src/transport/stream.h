/*-------------------------------------------------------------------------
 *
 * stream.h
 *		A stream of bytes to somebody: TCP over libuv, plain or with TLS.
 *
 * The connection layer knows bytes only through this header. With TLS
 * (stream_tls.c) on_connect comes after its handshake, what is read has been
 * decrypted, and what is written is encrypted at once: the owner's bytes are free
 * then, only that it is told later where the socket did not take them all.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGQ_TP_STREAM_H
#define PGQ_TP_STREAM_H

#include <stdbool.h>
#include <uv.h>

#include "transport/tls.h"

/* Bytes that the kernel may hold unsent before an urgent frame must wait. */
#define STREAM_UNSENT_BYTES (256 * 1024)

typedef struct TpStream
{
	uv_tcp_t	tcp;
	uv_connect_t connecting;
	uv_write_t	write;
	bool		writing;		/* a write is under way: no other may start */
	bool		closing;

	/* with TLS: */
	TpTlsSession *tls;			/* NULL: plain */
	bool		reading;		/* the owner wants to be told what comes in */
	bool		sending;		/* of encrypted bytes: a write is under way */
	uint8_t    *received;		/* encrypted bytes are read to here */
	uint8_t    *unsent;			/* and written from here */

	/* set by the owner; status is a libuv error or zero */
	void	   *owner;
	void		(*on_connect) (void *owner, int status);
	void		(*on_space) (void *owner, uv_buf_t *buf);	/* where to read to */
	void		(*on_read) (void *owner, ssize_t nread);	/* or a libuv error */
	void		(*on_written) (void *owner, int status);
	void		(*on_closed) (void *owner);
} TpStream;

/* After stream_init succeeded only stream_close ends it (on_closed follows). */
extern int	tp_stream_init(TpStream *stream, uv_loop_t *loop, TpTls *tls, bool server,
						   void *owner);
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

/* Has TLS found fault with the other side? */
extern bool tp_stream_has_failed(const TpStream *stream);

/* A status that the owner was told, for people. */
extern const char *tp_stream_error(const TpStream *stream, int status);

/* ---------- stream_tls.c, for stream.c ---------- */

extern int	tp_stream_tls_init(TpStream *stream, TpTls *tls, bool server);
extern void tp_stream_tls_end(TpStream *stream);
extern int	tp_stream_tls_begin(TpStream *stream);	/* connected: shake hands */
extern int	tp_stream_tls_read(TpStream *stream);
extern int	tp_stream_tls_write(TpStream *stream, const uv_buf_t *bufs, int nbufs);

#endif							/* PGQ_TP_STREAM_H */
