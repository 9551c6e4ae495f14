/*-------------------------------------------------------------------------
 *
 * transport.c
 *		Life of a transport: creation, identity, secret and TLS, flushing, the end.
 *
 * tp->refs counts what libuv still holds of ours (handles, look-ups). It
 * reaches zero only after tp_close(), and then the memory goes.
 *
 *-------------------------------------------------------------------------
 */
#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <stdlib.h>
#include <string.h>

#include "transport/internal.h"

#define MB (1024 * 1024)

void
tp_config_default(TpConfig *config)
{
	memset(config, 0, sizeof(*config));
	config->max_message_bytes = 160 * (size_t) MB;
	config->queue_bytes = 32 * (size_t) MB;
	config->urgent_queue_bytes = 1 * (size_t) MB;
	config->handshake_timeout_ms = 5000;
	config->connect_timeout_ms = 1000;
	config->link_timeout_ms = 3000;
	config->backoff_min_ms = 50;
	config->backoff_max_ms = 2000;
	config->max_pending = 64;
	config->max_requests = 16;
}

HsLocal
tp_local(const Transport *tp)
{
	HsLocal		local = {&tp->self, tp->boot_id, tp->secret, tp->secret_len};

	return local;
}

uint8_t *
tp_message_steal(TpMessage *msg)
{
	uint8_t    *bytes = msg->heap;

	if (bytes != NULL)
	{
		msg->heap = NULL;
		return bytes;
	}
	bytes = malloc(msg->len > 0 ? msg->len : 1);
	if (bytes != NULL && msg->len > 0)
		memcpy(bytes, msg->data, msg->len);
	return bytes;
}

/* ---------- flushing ---------- */

static void
idle_cb(uv_idle_t *idle)
{
	/* Being active is all that it is for. */
	(void) idle;
}

void
tp_keep_awake(Transport *tp)
{
	if (!tp->closing)
		uv_idle_start(&tp->idle, idle_cb);
}

static bool
has_drained(const Conn *conn)
{
	return conn->wants_writable && conn->peer != NULL &&
		conn->out.lane[TP_BULK].bytes <= conn->tp->config.queue_bytes / 2 &&
		conn->out.lane[TP_URGENT].bytes <= conn->tp->config.urgent_queue_bytes / 2;
}

/*
 * Look at the connections that are dirty now; those that callbacks make dirty
 * meanwhile wait for the next turn, so that a caller who refills a queue
 * whenever it is told writable cannot keep the loop here.
 */
static void
tend_dirty(Transport *tp)
{
	Conn	   *list = tp->dirty;

	if (list == NULL)
		return;
	tp->dirty = NULL;
	while (list != NULL)
	{
		Conn	   *conn = list;

		list = conn->dirty_next;
		conn->dirty = false;
		tp_conn_flush(conn);
		if (conn->state == CONN_CLOSED)
			continue;
		if (conn->broken != NULL)
			tp_conn_drop(conn, conn->broken);
		else if (has_drained(conn))
		{
			conn->wants_writable = false;
			if (tp->callbacks.writable != NULL)
				tp->callbacks.writable(tp->user, conn->peer->id);
		}
	}
	if (tp->dirty == NULL && !tp->closing)
		uv_idle_stop(&tp->idle);
}

static void
prepare_cb(uv_prepare_t *prepare)
{
	tend_dirty(prepare->data);
}

static void
check_cb(uv_check_t *check)
{
	tend_dirty(check->data);
}

void
tp_flush(Transport *tp)
{
	Conn	  **at = &tp->dirty;

	while (*at != NULL)
	{
		Conn	   *conn = *at;

		conn->dirty = true;
		tp_conn_flush(conn);

		/* What needs a callback stays for the loop, and what has had its share. */
		if (conn->state == CONN_UP && (conn->broken != NULL || has_drained(conn) ||
									   tp_conn_has_more(conn)))
			at = &conn->dirty_next;
		else
		{
			*at = conn->dirty_next;
			conn->dirty = false;
		}
	}
	if (tp->dirty == NULL && !tp->closing)
		uv_idle_stop(&tp->idle);
}

/* ---------- life ---------- */

void
tp_ref(Transport *tp)
{
	tp->refs++;
}

void
tp_unref(Transport *tp)
{
	TP_ASSERT(tp->refs > 0);
	if (--tp->refs > 0)
		return;

	TP_ASSERT(tp->closing && tp->conns == NULL && tp->peers == NULL);
	if (tp->closed != NULL)
		tp->closed(tp->user);
	OPENSSL_cleanse(tp->secret, sizeof(tp->secret));
	tp_tls_drop(tp->tls);
	free(tp);
}

static void
handle_closed_cb(uv_handle_t *handle)
{
	tp_unref(handle->data);
}

Transport *
tp_create(uv_loop_t *loop, const TpConfig *config, const TpCallbacks *callbacks, void *user)
{
	Transport  *tp = calloc(1, sizeof(Transport));

	TP_ASSERT(callbacks->log != NULL && callbacks->entropy != NULL &&
			  callbacks->accept_peer != NULL && callbacks->peer_up != NULL &&
			  callbacks->peer_down != NULL && callbacks->peer_refused != NULL &&
			  callbacks->message != NULL);
	TP_ASSERT(config->max_message_bytes <= UINT32_MAX);	/* a frame's field */
	if (tp == NULL)
		return NULL;
	tp->loop = loop;
	tp->config = *config;
	tp->callbacks = *callbacks;
	tp->user = user;
	tp->boot_id = callbacks->entropy(user);
	(void) RAND_bytes((unsigned char *) &tp->boot_id, sizeof(tp->boot_id));

	/* These three cannot fail. */
	uv_prepare_init(loop, &tp->prepare);
	uv_check_init(loop, &tp->check);
	uv_idle_init(loop, &tp->idle);
	tp->prepare.data = tp;
	tp->check.data = tp;
	tp->idle.data = tp;
	tp->refs = 3;
	uv_prepare_start(&tp->prepare, prepare_cb);
	uv_check_start(&tp->check, check_cb);
	return tp;
}

void
tp_close(Transport *tp, void (*closed) (void *user))
{
	TP_ASSERT(!tp->closing);
	tp->closing = true;
	tp->closed = closed;

	tp_unlisten(tp);
	while (tp->requests != NULL)
		tp_request_free(tp->requests);
	while (tp->peers != NULL)
		tp_peer_free(tp->peers);
	while (tp->conns != NULL)
		tp_conn_close(tp->conns);
	uv_close((uv_handle_t *) &tp->prepare, handle_closed_cb);
	uv_close((uv_handle_t *) &tp->check, handle_closed_cb);
	uv_close((uv_handle_t *) &tp->idle, handle_closed_cb);
}

/* ---------- identity and secret ---------- */

static bool
same_identity(const TpIdentity *a, const TpIdentity *b)
{
	return memcmp(a->cluster_id, b->cluster_id, TP_ID_LEN) == 0 &&
		a->member_id == b->member_id &&
		memcmp(a->instance_id, b->instance_id, TP_ID_LEN) == 0 &&
		strcmp(a->name, b->name) == 0;
}

void
tp_set_identity(Transport *tp, const TpIdentity *self)
{
	TpIdentity	clean = *self;

	clean.name[TP_NAME_LEN - 1] = '\0';
	TP_ASSERT(clean.name[0] != '\0');
	if (same_identity(&tp->self, &clean))
		return;
	tp->self = clean;

	for (Conn *conn = tp->conns; conn != NULL; conn = conn->next)
		tp_conn_break(conn, "this server's identity was changed");
	for (Peer *peer = tp->peers; peer != NULL; peer = peer->next)
		if (peer->out == NULL && peer->resolve == NULL)
			tp_peer_dial_soon(peer, 0);
}

void
tp_set_secret(Transport *tp, const uint8_t *secret, size_t len)
{
	bool		had_none = tp->secret_len == 0;

	TP_ASSERT(len <= TP_SECRET_MAX_BYTES);
	OPENSSL_cleanse(tp->secret, sizeof(tp->secret));
	if (len > 0)
		memcpy(tp->secret, secret, len);
	tp->secret_len = len;

	if (had_none && len > 0)
		for (Conn *conn = tp->conns; conn != NULL; conn = conn->next)
			if (!conn->proven)
				tp_conn_break(conn, "a shared secret is demanded from now on");
}

void
tp_set_tls(Transport *tp, TpTls *tls)
{
	tp_tls_drop(tp->tls);
	tp->tls = tls;
	for (Conn *conn = tp->conns; conn != NULL; conn = conn->next)
		if ((conn->stream.tls != NULL) != (tls != NULL))
			tp_conn_break(conn, tls != NULL ? "TLS is demanded from now on" :
						  "TLS is not used any more");
}
