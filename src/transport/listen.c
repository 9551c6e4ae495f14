/*-------------------------------------------------------------------------
 *
 * listen.c
 *		The listening socket.
 *
 * Without a secret or TLS nobody but processes of this machine may reach the port, so
 * a non-loopback address is not even bound.
 *
 *-------------------------------------------------------------------------
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "transport/internal.h"

#define LISTEN_BACKLOG		128

struct Listener
{
	Transport  *tp;
	uv_tcp_t	tcp;
};

static void
connection_cb(uv_stream_t *server, int status)
{
	Listener   *listener = server->data;
	Transport  *tp = listener->tp;

	if (status < 0)
		tp_log(tp, TP_LOG_WARNING, "could not take an incoming connection: %s",
			   uv_strerror(status));
	else
		tp_conn_accept(tp, server);
}

static void
listener_closed_cb(uv_handle_t *handle)
{
	Listener   *listener = handle->data;
	Transport  *tp = listener->tp;

	free(listener);
	tp_unref(tp);
}

/* Bind and listen. Zero, or a libuv error. */
static int
open_listener(Transport *tp, const struct sockaddr_storage *addr)
{
	Listener   *listener = calloc(1, sizeof(Listener));
	struct sockaddr_storage bound;
	int			len = sizeof(bound);
	int			status;

	if (listener == NULL)
		return UV_ENOMEM;
	listener->tp = tp;
	status = uv_tcp_init(tp->loop, &listener->tcp);
	if (status != 0)
	{
		free(listener);
		return status;
	}
	listener->tcp.data = listener;
	tp_ref(tp);

	memset(&bound, 0, sizeof(bound));
	status = uv_tcp_bind(&listener->tcp, (const struct sockaddr *) addr, 0);
	if (status == 0)
		status = uv_listen((uv_stream_t *) &listener->tcp, LISTEN_BACKLOG, connection_cb);
	if (status == 0)
		status = uv_tcp_getsockname(&listener->tcp, (struct sockaddr *) &bound, &len);
	if (status != 0)
	{
		uv_close((uv_handle_t *) &listener->tcp, listener_closed_cb);
		return status;
	}
	tp->listener = listener;
	tp->listen_port = ntohs(bound.ss_family == AF_INET6 ?
							((struct sockaddr_in6 *) &bound)->sin6_port :
							((struct sockaddr_in *) &bound)->sin_port);
	return 0;
}

static void
listen_on(Transport *tp, const Addresses *addresses, TpListenDone done)
{
	const struct sockaddr_storage *addr = &addresses->addr[0];
	char		text[TP_ADDRESS_LEN];
	char		error[TP_TEXT_LEN + TP_ADDRESS_LEN];
	int			status;

	TP_ASSERT(addresses->n > 0);
	tp_address_format(addr, text);
	if (!tp_is_guarded(tp) && !tp_address_is_loopback(addr))
	{
		snprintf(error, sizeof(error),
				 "will not listen on %.64s: %s", text, tp_refusal_text(TP_REFUSED_LOOPBACK));
		done(tp->user, TP_LISTEN_INSECURE, error);
		return;
	}

	status = open_listener(tp, addr);
	if (status == 0)
	{
		done(tp->user, TP_LISTEN_OK, "");
		return;
	}
	snprintf(error, sizeof(error), "could not listen on %.64s: %s%s", text,
			 uv_strerror(status),
			 status == UV_EADDRINUSE ? " (is another server using this quorum.address?)" : "");
	done(tp->user, status == UV_EADDRINUSE ? TP_LISTEN_IN_USE : TP_LISTEN_SYSTEM, error);
}

static void
listen_resolved(void *arg, const char *error, const Addresses *addresses)
{
	Transport  *tp = arg;
	TpListenDone done = tp->listen_done;
	char		text[TP_TEXT_LEN];

	tp->listen_resolve = NULL;
	tp->listen_done = NULL;
	if (error == NULL)
	{
		listen_on(tp, addresses, done);
		return;
	}
	snprintf(text, sizeof(text), "could not look up the address to listen on: %s", error);
	done(tp->user, TP_LISTEN_RESOLVE, text);
}

void
tp_listen(Transport *tp, const char *address, TpListenDone done)
{
	Addresses	addresses;
	char		host[TP_ADDRESS_LEN];
	char		text[TP_TEXT_LEN];
	const char *error;
	int			port;

	TP_ASSERT(!tp->closing);
	tp_unlisten(tp);
	if (!tp_address_parse(address, host, &port))
	{
		snprintf(text, sizeof(text), "\"%.150s\" is not an address of the form host:port",
				 address);
		done(tp->user, TP_LISTEN_BAD_ADDRESS, text);
		return;
	}
	if (!tp_in_cluster(tp))
	{
		done(tp->user, TP_LISTEN_NO_IDENTITY, "this server is not part of a cluster");
		return;
	}
	if (tp_address_numeric(host, port, &addresses))
	{
		listen_on(tp, &addresses, done);
		return;
	}

	tp->listen_done = done;
	tp->listen_resolve = tp_resolve(tp, host, port, listen_resolved, tp, &error);
	if (tp->listen_resolve == NULL)
	{
		tp->listen_done = NULL;
		snprintf(text, sizeof(text), "could not look up \"%.150s\": %s", host, error);
		done(tp->user, TP_LISTEN_RESOLVE, text);
	}
}

void
tp_unlisten(Transport *tp)
{
	if (tp->listen_resolve != NULL)
	{
		tp_resolve_abandon(tp->listen_resolve);
		tp->listen_resolve = NULL;
		tp->listen_done = NULL;
	}
	if (tp->listener != NULL)
	{
		uv_close((uv_handle_t *) &tp->listener->tcp, listener_closed_cb);
		tp->listener = NULL;
		tp->listen_port = 0;
	}
}

int
tp_listen_port(const Transport *tp)
{
	return tp->listen_port;
}
