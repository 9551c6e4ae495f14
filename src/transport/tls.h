/*-------------------------------------------------------------------------
 *
 * tls.h
 *		TLS under a stream: OpenSSL between two buffers, without a socket.
 *
 * Both sides show a certificate and check the other's against the CA; TLS 1.2
 * at least, no session tickets, no renegotiation. Whose certificate it is, is
 * asked when the handshake above (handshake.h) has told who it claims to be.
 *
 * A TpTls is what connections share: certificate, key, CA. It stays until the last
 * of them is gone, so new files are a new TpTls for new connections. A
 * TpTlsSession is one connection's, and its stream's alone.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGQ_TP_TLS_H
#define PGQ_TP_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "transport/transport.h"

typedef struct TpTlsSession TpTlsSession;

extern void tp_tls_hold(TpTls *tls);

/* NULL: out of memory. */
extern TpTlsSession *tp_tls_session_new(TpTls *tls, bool server);
extern void tp_tls_session_free(TpTlsSession *session);

typedef enum TlsResult
{
	TLS_DONE,
	TLS_MORE,					/* nothing to be had before more bytes come in */
	TLS_EOF,					/* the other side has said goodbye */
	TLS_FAILED					/* tp_tls_error() says why; send what is left, close */
} TlsResult;

/* Bytes from the network. False: out of memory. */
extern bool tp_tls_put(TpTlsSession *session, const uint8_t *bytes, size_t len);

/* Bytes for the network: those that wait, and that so many are on their way. */
extern size_t tp_tls_pending(TpTlsSession *session, const uint8_t **bytes);
extern void tp_tls_sent(TpTlsSession *session);

/* TLS_DONE: the handshake is over. */
extern TlsResult tp_tls_shake(TpTlsSession *session);
extern bool tp_tls_is_open(const TpTlsSession *session);

/* Plain bytes; TLS_DONE: *got of them. */
extern TlsResult tp_tls_read(TpTlsSession *session, void *buf, size_t size, size_t *got);

/* All of them, or failure. */
extern TlsResult tp_tls_write(TpTlsSession *session, const void *bytes, size_t len);

extern const char *tp_tls_error(const TpTlsSession *session);

/* Is the other side's certificate for this host name, address or node name? */
extern bool tp_tls_peer_is(const TpTlsSession *session, const char *name);

/* Its subject, for messages. */
extern void tp_tls_peer_subject(const TpTlsSession *session, char *text, size_t size);

#endif							/* PGQ_TP_TLS_H */
