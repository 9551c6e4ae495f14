/*-------------------------------------------------------------------------
 *
 * internal.h
 *		What the files of the transport share. Nobody outside includes this.
 *
 *		transport.c		life, identity, flushing
 *		listen.c		the listener and incoming connections
 *		conn.c			one connection: its life, and batches out
 *		input.c			one connection: handshake and frames in
 *		peer.c			the member table: dialling, back-off, statistics
 *		request.c		one-shot requests, both sides
 *		address.c		host:port, look-up, loopback
 *		log.c			rate-limited lines
 *		secret.c		the secret file
 *		stream, tls, outq, frame, handshake, crc32c: see their headers
 *
 * Ownership: the Transport owns peers, requests, connections. A connection
 * belongs to at most one of peer->out, peer->in, a request, or serves a request;
 * when it drops it is detached from its owner first, the owner is told second,
 * and its memory goes in libuv's close callback. So a Conn pointer is good until
 * the end of the loop iteration even when a callback of the caller closed it:
 * code that has called one looks at conn->state before going on.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGQ_TP_INTERNAL_H
#define PGQ_TP_INTERNAL_H

#include <netinet/in.h>
#include <uv.h>

#include "transport/frame.h"
#include "transport/handshake.h"
#include "transport/outq.h"
#include "transport/stream.h"
#include "transport/tp_assert.h"
#include "transport/transport.h"

#define TP_MAX_ADDRESSES	8	/* of one host name */
#define TP_LOG_SLOTS		16
#define TP_SERVE_MAX_BYTES	(1024 * 1024)	/* a join request */

typedef struct Conn Conn;
typedef struct Peer Peer;
typedef struct Request Request;
typedef struct Resolve Resolve;

typedef struct Addresses
{
	int			n;
	struct sockaddr_storage addr[TP_MAX_ADDRESSES];
} Addresses;

/* ---------- connections (conn.c) ---------- */

typedef enum ConnState
{
	CONN_CONNECTING,
	CONN_SHAKING,
	CONN_UP,
	CONN_CLOSED					/* waiting for libuv */
} ConnState;

struct Conn
{
	Transport  *tp;
	Conn	   *prev;			/* tp->conns, newest first */
	Conn	   *next;
	Conn	   *dirty_next;		/* tp->dirty */
	bool		dirty;

	ConnState	state;
	bool		incoming;
	bool		loopback;
	bool		proven;			/* by a secret */
	bool		wants_writable; /* tp_send said full */
	bool		writing_batch;
	bool		refused_by_us;
	const char *broken;			/* to be dropped from the loop, and why */
	char		address[TP_ADDRESS_LEN];	/* numeric, of the other side */
	int			handles;		/* not closed yet */
	TpStream	stream;
	uv_timer_t	timer;

	/* at most one of these */
	Peer	   *peer;
	Request    *request;
	uint64_t	serving;		/* request id at the asked side, 0 none yet */

	Handshake	hs;
	bool		preamble_seen;
	HsOutput	raw;			/* what the handshake sends */

	/* bytes read: in[in_start .. in_end) wait to be parsed */
	uint8_t    *in;
	size_t		in_size;
	size_t		in_start;
	size_t		in_end;
	size_t		in_need;		/* the next frame wants that many */
	Assembly	lanes[2];

	OutQueue	out;
};

/* Dial. NULL: *error says why (nothing else happens). */
extern Conn *tp_conn_dial(Transport *tp, const struct sockaddr_storage *addr,
						  TpPurpose purpose, uint32_t target, const char **error);
extern void tp_conn_accept(Transport *tp, uv_stream_t *listener);

/* Close without telling anybody. */
extern void tp_conn_close(Conn *conn);

/* Close, log, and tell the owner. Only from inside uv_run. */
extern void tp_conn_drop(Conn *conn, const char *why);

/* The same, because of something that the protocol does not allow. */
extern void tp_conn_malformed(Conn *conn, const char *what);

/* The same, as soon as the loop runs. */
extern void tp_conn_break(Conn *conn, const char *why);

/* Hand frames to the stream; calls nobody but releases. */
extern void tp_conn_flush(Conn *conn);
extern void tp_conn_mark_dirty(Conn *conn);

/* Did the last flush stop for others' sake, not the stream's? */
extern bool tp_conn_has_more(const Conn *conn);
extern void tp_conn_set_timer(Conn *conn, int timeout_ms);

/* ---------- input (input.c) ---------- */

extern void tp_input_start(Conn *conn);
extern void tp_input_space(void *owner, uv_buf_t *buf);
extern void tp_input_read(void *owner, ssize_t nread);

/* ---------- peers (peer.c) ---------- */

struct Peer
{
	Transport  *tp;
	Peer	   *next;			/* tp->peers, by member id */
	uint32_t	id;
	char		address[TP_ADDRESS_LEN];
	TpPeerState state;
	Conn	   *out;			/* ours to it, in whatever state */
	Conn	   *in;				/* its to us, always CONN_UP */
	Resolve    *resolve;
	Addresses	addresses;
	int			address_at;		/* being tried */
	uv_timer_t	timer;			/* next dial */
	int			backoff_ms;
	bool		down_reported;	/* since a connection last came up */
	bool		blocked_in;
	bool		blocked_out;
	uint64_t	boot_id;		/* of its run that last connected to us ... */
	uint64_t	former_boot_id; /* ... and of the one before */
	TpPeerStats stats;			/* counters and last_error only */
};

extern Peer *tp_peer_find(const Transport *tp, uint32_t member_id);
extern void tp_peer_conn_up(Peer *peer, Conn *conn);
extern void tp_peer_conn_lost(Peer *peer, Conn *conn, bool was_up, const char *why);
extern void tp_peer_message(Peer *peer, TpMessage *msg);
extern void tp_peer_dial_soon(Peer *peer, int delay_ms);
extern void tp_peer_free(Peer *peer);

/* ---------- requests (request.c) ---------- */

extern void tp_request_conn_up(Conn *conn);
extern void tp_request_conn_lost(Request *request, bool was_up, TpRefusal status,
								 const char *why);
extern void tp_request_message(Conn *conn, TpMessage *msg);
extern void tp_request_free(Request *request);
extern const char *tp_request_host(const Request *request);
extern bool tp_serve_room(const Transport *tp);
extern void tp_serve_conn_up(Conn *conn);
extern void tp_serve_message(Conn *conn, TpMessage *msg);

/* ---------- addresses (address.c) ---------- */

extern bool tp_address_parse(const char *address, char *host, int *port);
extern bool tp_address_numeric(const char *host, int port, Addresses *addresses);
extern bool tp_address_is_loopback(const struct sockaddr_storage *addr);
extern void tp_address_format(const struct sockaddr_storage *addr, char *text);

/* error NULL: addresses holds at least one. */
typedef void (*ResolveDone) (void *arg, const char *error, const Addresses *addresses);

/* NULL: *error says why, done will not be called. Otherwise from uv_run. */
extern Resolve *tp_resolve(Transport *tp, const char *host, int port, ResolveDone done,
						   void *arg, const char **error);
extern void tp_resolve_abandon(Resolve *resolve);

/* ---------- the listener (listen.c) ---------- */

typedef struct Listener Listener;

/* ---------- lines (log.c) ---------- */

typedef struct LogSlot
{
	uint32_t	hash;
	int64_t		at_us;
	unsigned	repeated;
} LogSlot;

typedef struct LogBucket
{
	int			tokens;
	int64_t		refilled_us;
} LogBucket;

typedef struct LogLimit
{
	LogSlot		slot[TP_LOG_SLOTS];
	int			next;
	LogBucket	complaints;
	LogBucket	changes;
	unsigned	unsaid;
} LogLimit;

/* A complaint: the same one is not repeated for a while. */
extern void tp_log(Transport *tp, TpLogLevel level, const char *format,...)
			__attribute__((format(printf, 3, 4)));

/* A member has come or gone. */
extern void tp_log_change(Transport *tp, const char *format,...)
			__attribute__((format(printf, 2, 3)));

/* ---------- the whole (transport.c) ---------- */

struct Transport
{
	uv_loop_t  *loop;
	TpConfig	config;
	TpCallbacks callbacks;
	void	   *user;
	TpIdentity	self;
	uint64_t	boot_id;
	uint8_t		secret[TP_SECRET_MAX_BYTES];
	size_t		secret_len;
	TpTls	   *tls;			/* NULL: plain connections */

	Conn	   *conns;
	Conn	   *dirty;			/* to be flushed, dropped, or told writable */
	Peer	   *peers;
	Request    *requests;
	uint64_t	next_serving;
	int			pending;		/* incoming connections in CONN_SHAKING */

	Listener   *listener;
	Resolve    *listen_resolve;
	TpListenDone listen_done;
	int			listen_port;

	uv_prepare_t prepare;		/* flush what was sent outside of uv_run ... */
	uv_check_t	check;			/* ... and what callbacks sent */
	uv_idle_t	idle;			/* runs while dirty: no sleep before a flush */
	LogLimit	log_limit;

	bool		closing;
	void		(*closed) (void *user);
	int			refs;			/* handles and look-ups that libuv still holds */
};

extern void tp_ref(Transport *tp);
extern void tp_unref(Transport *tp);
extern HsLocal tp_local(const Transport *tp);

/* The loop must not sleep before dirty connections have been looked at. */
extern void tp_keep_awake(Transport *tp);

static inline bool
tp_in_cluster(const Transport *tp)
{
	return tp->self.member_id != 0;
}

/* May this transport talk to more than this machine? */
static inline bool
tp_is_guarded(const Transport *tp)
{
	return tp->secret_len > 0 || tp->tls != NULL;
}

static inline int64_t
tp_now_us(void)
{
	return (int64_t) (uv_hrtime() / 1000);
}

#endif							/* PGQ_TP_INTERNAL_H */
