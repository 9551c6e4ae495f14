/*-------------------------------------------------------------------------
 *
 * address.c
 *		host:port, its look-up, and what counts as loopback.
 *
 * Numeric addresses never touch the thread pool. Names do; the pool's threads
 * are made by the first use, and must not be the ones to get the server's
 * signals, hence the mask around it.
 *
 *-------------------------------------------------------------------------
 */
#include <arpa/inet.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "transport/internal.h"

struct Resolve
{
	Transport  *tp;
	uv_getaddrinfo_t req;
	int			port;
	ResolveDone done;			/* NULL: abandoned */
	void	   *arg;
};

/* Decimal 0 .. 65535, nothing else around it. -1: not that. */
static int
parse_port(const char *text)
{
	int			port = 0;

	if (*text == '\0' || strlen(text) > 5)
		return -1;
	for (; *text != '\0'; text++)
	{
		if (*text < '0' || *text > '9')
			return -1;
		port = port * 10 + (*text - '0');
	}
	return port <= 65535 ? port : -1;
}

/* host: TP_ADDRESS_LEN bytes, without brackets. */
bool
tp_address_parse(const char *address, char *host, int *port)
{
	const char *start = address;
	const char *end;
	const char *colon;

	if (strlen(address) >= TP_ADDRESS_LEN)
		return false;
	if (address[0] == '[')
	{
		start = address + 1;
		end = strchr(start, ']');
		if (end == NULL || end[1] != ':')
			return false;
		colon = end + 1;
	}
	else
	{
		/* A bare v6 address has more than one colon: which is the port's? */
		colon = strchr(address, ':');
		if (colon == NULL || strchr(colon + 1, ':') != NULL)
			return false;
		end = colon;
	}
	if (end == start)
		return false;
	for (const char *p = start; p < end; p++)
		if ((unsigned char) *p <= 0x20 || *p == 0x7F || *p == '[' || *p == ']' || *p == '/')
			return false;

	*port = parse_port(colon + 1);
	if (*port < 0)
		return false;
	memcpy(host, start, (size_t) (end - start));
	host[end - start] = '\0';
	return true;
}

bool
tp_address_valid(const char *address)
{
	char		host[TP_ADDRESS_LEN];
	int			port;

	return tp_address_parse(address, host, &port);
}

bool
tp_address_numeric(const char *host, int port, Addresses *addresses)
{
	memset(addresses, 0, sizeof(*addresses));
	if (uv_ip4_addr(host, port, (struct sockaddr_in *) &addresses->addr[0]) != 0 &&
		uv_ip6_addr(host, port, (struct sockaddr_in6 *) &addresses->addr[0]) != 0)
		return false;
	addresses->n = 1;
	return true;
}

bool
tp_address_is_loopback(const struct sockaddr_storage *addr)
{
	if (addr->ss_family == AF_INET)
	{
		const struct sockaddr_in *in = (const struct sockaddr_in *) addr;

		return (ntohl(in->sin_addr.s_addr) >> 24) == 127;
	}
	if (addr->ss_family == AF_INET6)
	{
		const struct in6_addr *in6 = &((const struct sockaddr_in6 *) addr)->sin6_addr;

		/* a socket on [::] sees v4 peers as mapped addresses */
		return IN6_IS_ADDR_LOOPBACK(in6) ||
			(IN6_IS_ADDR_V4MAPPED(in6) && in6->s6_addr[12] == 127);
	}
	return false;
}

void
tp_address_format(const struct sockaddr_storage *addr, char *text)
{
	char		ip[INET6_ADDRSTRLEN] = "?";

	if (addr->ss_family == AF_INET6)
	{
		const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *) addr;

		uv_ip6_name(in6, ip, sizeof(ip));
		snprintf(text, TP_ADDRESS_LEN, "[%s]:%d", ip, ntohs(in6->sin6_port));
		return;
	}
	if (addr->ss_family == AF_INET)
		uv_ip4_name((const struct sockaddr_in *) addr, ip, sizeof(ip));
	snprintf(text, TP_ADDRESS_LEN, "%s:%d", ip,
			 ntohs(((const struct sockaddr_in *) addr)->sin_port));
}

static void
collect(Addresses *addresses, const struct addrinfo *list, int port)
{
	memset(addresses, 0, sizeof(*addresses));
	for (; list != NULL && addresses->n < TP_MAX_ADDRESSES; list = list->ai_next)
	{
		struct sockaddr_storage *addr = &addresses->addr[addresses->n];

		if (list->ai_family == AF_INET && list->ai_addrlen == sizeof(struct sockaddr_in))
		{
			memcpy(addr, list->ai_addr, sizeof(struct sockaddr_in));
			((struct sockaddr_in *) addr)->sin_port = htons((uint16_t) port);
			addresses->n++;
		}
		else if (list->ai_family == AF_INET6 &&
				 list->ai_addrlen == sizeof(struct sockaddr_in6))
		{
			memcpy(addr, list->ai_addr, sizeof(struct sockaddr_in6));
			((struct sockaddr_in6 *) addr)->sin6_port = htons((uint16_t) port);
			addresses->n++;
		}
	}
}

static void
resolved_cb(uv_getaddrinfo_t *req, int status, struct addrinfo *list)
{
	Resolve    *resolve = req->data;
	Transport  *tp = resolve->tp;
	Addresses	addresses;

	if (resolve->done != NULL)
	{
		collect(&addresses, status == 0 ? list : NULL, resolve->port);
		if (status == 0 && addresses.n == 0)
			status = UV_EAI_NODATA;
		resolve->done(resolve->arg, status == 0 ? NULL : uv_strerror(status), &addresses);
	}
	uv_freeaddrinfo(list);
	free(resolve);
	tp_unref(tp);
}

Resolve *
tp_resolve(Transport *tp, const char *host, int port, ResolveDone done, void *arg,
		   const char **error)
{
	struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
	Resolve    *resolve = calloc(1, sizeof(Resolve));
	sigset_t	all;
	sigset_t	before;
	int			status;

	if (resolve == NULL)
	{
		*error = "out of memory";
		return NULL;
	}
	resolve->tp = tp;
	resolve->port = port;
	resolve->done = done;
	resolve->arg = arg;
	resolve->req.data = resolve;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	status = uv_getaddrinfo(tp->loop, &resolve->req, resolved_cb, host, NULL, &hints);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (status != 0)
	{
		*error = uv_strerror(status);
		free(resolve);
		return NULL;
	}
	tp_ref(tp);
	return resolve;
}

void
tp_resolve_abandon(Resolve *resolve)
{
	resolve->done = NULL;
	(void) uv_cancel((uv_req_t *) &resolve->req);
}
