/*-------------------------------------------------------------------------
 *
 * transport.h
 *		Public face of the transport: authenticated, framed messages between
 *		members over TCP, on a libuv loop that the caller owns and runs.
 *
 * Shape
 * -----
 *	One simplex connection for each direction, as in etcd: A dials B for what A
 *	has to say to B, and B dials A for its own. So there is no tie to break when
 *	both dial at once, each side retries by itself, and a restarted peer simply
 *	dials again. A newer authenticated connection from a member replaces the
 *	older one. When a member dials us while our own dial to it waits out a
 *	back-off, we dial at once.
 *
 *	Messages are fire and forget: what is queued when a connection drops is
 *	released and lost (Raft sends again). Within a lane order is kept; an urgent
 *	message overtakes bulk ones between frames. A message is delivered whole and
 *	at most once, or not at all.
 *
 * Rules for the caller
 * --------------------
 *	- One thread: that of the loop. No callback may longjmp (no ereport(ERROR)).
 *	- All callbacks are made from inside uv_run(), except TpRelease, which may
 *	  also be called from tp_send(), tp_flush(), tp_peer_remove() and tp_close().
 *	- Every function here may be called from inside any callback.
 *	- SIGPIPE must be ignored in the process (PostgreSQL's workers do).
 *	- tp_send() only queues. What was queued leaves at the end of the running
 *	  loop iteration, or at the next one, or at tp_flush(): call that before
 *	  sleeping outside of uv_run(). (While something is unflushed,
 *	  uv_backend_timeout() is 0, so a forgotten flush costs a turn, no more.)
 *	- Host names are resolved on libuv's thread pool, numeric addresses are not.
 *	  The transport blocks all signals around the calls that can create the
 *	  pool's threads; the caller's own first use of the pool must do the same.
 *	  Give the pool two threads at least: libuv then keeps one free of look-ups,
 *	  so that a slow name server cannot hold up an fdatasync.
 *
 * Shared state: none. Everything belongs to the process and its loop thread; a
 * crash leaves nothing behind but closed sockets.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGQ_TRANSPORT_H
#define PGQ_TRANSPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct uv_loop_s;

typedef struct Transport Transport;

#define TP_ID_LEN			16	/* cluster id, instance id */
#define TP_NAME_LEN			64	/* node name with its terminator */
#define TP_ADDRESS_LEN		256 /* host:port with its terminator */
#define TP_TEXT_LEN			256 /* error texts with their terminator */
#define TP_SECRET_MIN_BYTES 16
#define TP_SECRET_MAX_BYTES 1024
#define TP_FRAME_MAX_BYTES	(256 * 1024)	/* payload of one frame */

/* ---------- words ---------- */

/* Who somebody is. Without a cluster: cluster_id all zero, member_id 0. */
typedef struct TpIdentity
{
	uint8_t		cluster_id[TP_ID_LEN];
	uint32_t	member_id;
	uint8_t		instance_id[TP_ID_LEN]; /* of the data directory */
	char		name[TP_NAME_LEN];
} TpIdentity;

typedef enum TpLogLevel
{
	TP_LOG_DEBUG,
	TP_LOG_INFO,				/* connections come and go */
	TP_LOG_WARNING				/* an administrator should look */
} TpLogLevel;

typedef enum TpPurpose
{
	TP_PURPOSE_PEER = 1,		/* a member, to exchange messages */
	TP_PURPOSE_JOIN = 2			/* one request, one reply; need not be a member */
} TpPurpose;

/*
 * Why a handshake was refused. The values go over the wire: append only.
 * TP_ACCEPT and those marked (*) are what accept_peer may return.
 */
typedef enum TpRefusal
{
	TP_ACCEPT = 0,
	TP_REFUSED_VERSION = 1,		/* no protocol version in common */
	TP_REFUSED_ARCH = 2,		/* byte order or word size differs */
	TP_REFUSED_CLUSTER = 3,		/* belongs to another cluster */
	TP_REFUSED_WRONG_MEMBER = 4,	/* address leads to another member (or to
									 * the caller itself) */
	TP_REFUSED_UNKNOWN_MEMBER = 5,	/* (*) */
	TP_REFUSED_INSTANCE = 6,	/* (*) right member id, other data directory */
	TP_REFUSED_NAME = 7,		/* (*) node name taken */
	TP_REFUSED_REMOVED = 8,		/* (*) was removed from the cluster */
	TP_REFUSED_NOT_READY = 9,	/* (*) try again later */
	TP_REFUSED_SECRET = 10,		/* proof does not match: secrets differ */
	TP_REFUSED_SECRET_MISSING = 11, /* one side has a secret, the other none */
	TP_REFUSED_LOOPBACK = 12,	/* no secret, and not a loopback address */
	TP_REFUSED_NO_CLUSTER = 13, /* the server asked is in no cluster */
	TP_REFUSED_PROTOCOL = 14,	/* malformed handshake */
	TP_REFUSED_INTERNAL = 15,	/* out of memory or entropy */
	TP_REFUSED_CERTIFICATE = 16 /* not the certificate of who it says it is */
} TpRefusal;

/* A sentence part for people: "the shared secrets differ". Never NULL. */
extern const char *tp_refusal_text(TpRefusal why);

typedef enum TpLane
{
	TP_URGENT = 0,				/* heartbeats, votes, acknowledgements */
	TP_BULK = 1					/* entries, snapshots */
} TpLane;

typedef struct TpPart
{
	const void *data;
	size_t		len;
} TpPart;

/* The parts given to tp_send() are no longer needed. */
typedef void (*TpRelease) (void *arg);

typedef struct TpMessage
{
	uint8_t		type;			/* the caller's */
	TpLane		lane;
	const uint8_t *data;		/* valid during the callback; not aligned */
	size_t		len;
	void	   *heap;			/* private: see tp_message_steal */
} TpMessage;

/*
 * Keep a message's bytes beyond the callback: a malloc'ed block of len bytes
 * that the caller frees. No copy where the message had been put together from
 * several frames. NULL: out of memory. msg->data stays valid until the callback
 * returns (it points into the block).
 */
extern uint8_t *tp_message_steal(TpMessage *msg);

/* ---------- what the caller provides ---------- */

typedef struct TpCallbacks
{
	/* One line, no newline. Already rate limited. */
	void		(*log) (void *user, TpLogLevel level, const char *text);

	/* 64 random bits, for jitter only (nonces come from OpenSSL). */
	uint64_t	(*entropy) (void *user);

	/*
	 * Asked on both sides once the other has proved itself (or, without a
	 * secret, sits on loopback): may it be who it says it is? detail (of
	 * TP_TEXT_LEN bytes, empty on entry) may be filled with what people should
	 * read; it is sent to the other side too. address: where the connection
	 * comes from or goes to.
	 */
	TpRefusal	(*accept_peer) (void *user, const TpIdentity *who, TpPurpose purpose,
								const char *address, char *detail);

	/* tp_send() to this member works from now on. */
	void		(*peer_up) (void *user, uint32_t member_id);

	/*
	 * was_established: a connection to or from this member that was in use
	 * just dropped (called once where both drop together; a replaced older
	 * connection is not reported). Otherwise: an attempt to reach it failed.
	 */
	void		(*peer_down) (void *user, uint32_t member_id, bool was_established,
							  const char *why);

	/*
	 * We dialled, and were refused or refused. Tried again at the longest
	 * back-off, as an administrator may put it right.
	 */
	void		(*peer_refused) (void *user, uint32_t member_id, TpRefusal why,
								 const char *detail);

	/* May be called before peer_up: the two directions are independent. */
	void		(*message) (void *user, uint32_t member_id, TpMessage *msg);

	/* After TP_SEND_FULL: the queue has drained to half its bound. May be NULL. */
	void		(*writable) (void *user, uint32_t member_id);

	/*
	 * A join request. Answer with tp_reply(), now or later; the one asking
	 * gives up after its own timeout. NULL: such requests are refused.
	 */
	void		(*request) (void *user, uint64_t request_id, const TpIdentity *who,
							TpMessage *msg);
} TpCallbacks;

typedef struct TpConfig
{
	size_t		max_message_bytes;	/* default 160 MB */
	size_t		queue_bytes;	/* bulk lane of one peer, default 32 MB */
	size_t		urgent_queue_bytes; /* urgent lane of one peer, default 1 MB */
	int			handshake_timeout_ms;	/* default 5000 */
	int			connect_timeout_ms; /* default 1000 */
	int			link_timeout_ms;	/* sent data unacknowledged by the peer's
									 * kernel: drop, default 3000 */
	int			backoff_min_ms; /* default 50 */
	int			backoff_max_ms; /* default 2000 */
	int			max_pending;	/* incoming connections in handshake, default
								 * 64; past it the oldest is dropped */
	int			max_requests;	/* join requests being served, default 16 */
} TpConfig;

extern void tp_config_default(TpConfig *config);

/* ---------- life ---------- */

/* NULL: out of memory. callbacks and config are copied. Nothing listens yet. */
extern Transport *tp_create(struct uv_loop_s *loop, const TpConfig *config,
							const TpCallbacks *callbacks, void *user);

/*
 * Close every socket and timer. No callback but releases (at once) and closed
 * (from uv_run, may be NULL) happens any more; the transport is freed right
 * after closed returned. Keep running the loop until then.
 */
extern void tp_close(Transport *tp, void (*closed) (void *user));

/*
 * Who we are. May be called again (after create or join; a new member id).
 * Connections made under another identity are dropped.
 */
extern void tp_set_identity(Transport *tp, const TpIdentity *self);

/*
 * The shared secret; len 0 takes it away. Connections stay, as sessions stay
 * when a password changes, with one exception: where there was no secret
 * before, connections that proved nothing are dropped.
 */
extern void tp_set_secret(Transport *tp, const uint8_t *secret, size_t len);

typedef enum TpSecretStatus
{
	TP_SECRET_OK = 0,
	TP_SECRET_CANNOT_READ,
	TP_SECRET_NOT_A_FILE,
	TP_SECRET_WRONG_OWNER,
	TP_SECRET_WRONG_MODE,		/* group or others may do anything with it */
	TP_SECRET_TOO_SHORT,
	TP_SECRET_TOO_LONG
} TpSecretStatus;

/*
 * Read and check a secret file. One newline at the end is not part of it.
 * secret: TP_SECRET_MAX_BYTES. error: TP_TEXT_LEN, says what to do about it.
 */
extern TpSecretStatus tp_read_secret_file(const char *path, uint8_t *secret, size_t *len,
										  char *error);

/* Certificate, key and CA: what TLS takes (tls.h). */
typedef struct TpTls TpTls;

/* NULL: error (TP_TEXT_LEN) says why. Drop it, or give it to tp_set_tls. */
extern TpTls *tp_tls_load(const char *cert_file, const char *key_file, const char *ca_file,
						  char *error);
extern void tp_tls_drop(TpTls *tls);

/*
 * From now on every connection uses TLS, and takes as a member only who shows a
 * certificate for its node name, its host or its address. NULL: none does.
 * Connections of the other kind are dropped; those that use TLS already go on.
 * The transport owns it.
 */
extern void tp_set_tls(Transport *tp, TpTls *tls);

/* ---------- listening ---------- */

typedef enum TpListenStatus
{
	TP_LISTEN_OK = 0,
	TP_LISTEN_BAD_ADDRESS,		/* not host:port or [v6 address]:port */
	TP_LISTEN_INSECURE,			/* not loopback, neither TLS nor a secret */
	TP_LISTEN_RESOLVE,			/* host name not found */
	TP_LISTEN_IN_USE,
	TP_LISTEN_NO_IDENTITY,		/* no cluster: nothing to listen for */
	TP_LISTEN_SYSTEM			/* anything else the system said */
} TpListenStatus;

typedef void (*TpListenDone) (void *user, TpListenStatus status, const char *error);

/*
 * Listen on host:port (port 0: any free one). done is called exactly once,
 * with user as given to tp_create: before this returns for a numeric address,
 * from uv_run for a name (never, if tp_unlisten, tp_listen or tp_close comes in
 * between). Replaces an earlier listener. error is "" when fine.
 */
extern void tp_listen(Transport *tp, const char *address, TpListenDone done);
extern void tp_unlisten(Transport *tp);

/* The port listened on, 0 when not listening. */
extern int	tp_listen_port(const Transport *tp);

/* True for a well-formed host:port (no look-up is made). For setting checks. */
extern bool tp_address_valid(const char *address);

/* ---------- peers ---------- */

/*
 * Add a member, or change its address (the outgoing connection is then made
 * anew if the address differs). It is dialled as soon as the identity is set.
 * False: out of memory, or address malformed.
 */
extern bool tp_peer_add(Transport *tp, uint32_t member_id, const char *address);

/* Drops its connections, in silence: no peer_down. */
extern void tp_peer_remove(Transport *tp, uint32_t member_id);

typedef enum TpPeerState
{
	TP_PEER_WAITING,			/* back-off, or no identity yet */
	TP_PEER_CONNECTING,			/* name look-up, connect, handshake */
	TP_PEER_UP,
	TP_PEER_REFUSED				/* as waiting; last_error says why */
} TpPeerState;

typedef struct TpPeerStats
{
	uint32_t	member_id;
	char		address[TP_ADDRESS_LEN];
	TpPeerState state;			/* of the outgoing direction */
	bool		incoming;		/* its connection to us stands */
	int64_t		last_contact_us;	/* monotonic (uv_hrtime / 1000), 0 never:
									 * it was last heard from */
	uint64_t	bytes_in;
	uint64_t	bytes_out;
	uint64_t	messages_in;
	uint64_t	messages_out;	/* taken by tp_send */
	uint64_t	messages_dropped;	/* refused by tp_send, or lost in a drop */
	uint64_t	connects;		/* times the outgoing direction came up */
	size_t		queued_bytes;	/* both lanes, not yet taken by the kernel */
	char		last_error[TP_TEXT_LEN];
} TpPeerStats;

extern bool tp_peer_stats(const Transport *tp, uint32_t member_id, TpPeerStats *stats);

/* Member ids in ascending order; returns how many there are in all. */
extern int	tp_peer_list(const Transport *tp, uint32_t *ids, int max);

/*
 * For tests: messages from (in) or to (out) this member vanish as if the
 * network had eaten them; connections stay.
 */
extern void tp_set_blocked(Transport *tp, uint32_t member_id, bool in, bool out);

/* ---------- sending ---------- */

typedef enum TpSendResult
{
	TP_SEND_OK = 0,
	TP_SEND_DOWN,				/* no such peer, or not connected */
	TP_SEND_FULL,				/* queue bound reached: try after writable */
	TP_SEND_TOO_LARGE,			/* above max_message_bytes: never will be */
	TP_SEND_NO_MEMORY
} TpSendResult;

/*
 * Queue a message made of the given parts, in order. release NULL: the bytes
 * are copied. Otherwise they must stay as they are until release(arg), which
 * is called exactly once, possibly before this returns (short messages are
 * copied even so). Unless the result is TP_SEND_OK, nothing was taken and
 * release is not called. A message larger than the queue bound is taken when
 * its lane is empty.
 */
extern TpSendResult tp_send(Transport *tp, uint32_t member_id, uint8_t type, TpLane lane,
							const TpPart *parts, int nparts, TpRelease release, void *arg);

/* Hand queued frames to the kernel now. */
extern void tp_flush(Transport *tp);

/* Bytes waiting in both lanes: 0 when unknown or not connected. */
extern size_t tp_queued_bytes(const Transport *tp, uint32_t member_id);

/* ---------- one-shot requests (join) ---------- */

/*
 * status TP_ACCEPT: msg is the reply. Otherwise msg is NULL and error says what
 * happened (TP_REFUSED_INTERNAL also stands for timeout and network errors).
 */
typedef void (*TpRequestDone) (void *arg, TpRefusal status, const char *error,
							   TpMessage *msg);

/*
 * Connect to address with our identity (which may be without a cluster), send
 * one message, wait for one reply. done is called exactly once, from uv_run,
 * unless tp_close() comes first (then never). False: address malformed or out
 * of memory, done will not be called. The data is copied.
 */
extern bool tp_request(Transport *tp, const char *address, uint8_t type, const void *data,
					   size_t len, int timeout_ms, TpRequestDone done, void *arg);

/* False: the one asking has gone. The data is copied. */
extern bool tp_reply(Transport *tp, uint64_t request_id, uint8_t type, const void *data,
					 size_t len);

#endif							/* PGQ_TRANSPORT_H */
