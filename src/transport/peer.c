/*-------------------------------------------------------------------------
 *
 * peer.c
 *		The member table: who is dialled when, and what is known of each.
 *
 * The outgoing direction of a peer is in one of four states:
 *
 *		waiting			the timer will dial (or there is no identity yet)
 *		connecting		peer->resolve or peer->out is at work
 *		up				peer->out is CONN_UP
 *		refused			as waiting, at the longest back-off
 *
 * Invariant: out == NULL and resolve == NULL in waiting and refused, and the
 * timer runs there whenever we have an identity.
 *
 * The incoming direction is just peer->in. When a process dies both directions
 * drop, one after the other; boot ids tell whether a connection that drops
 * later belonged to a run of the peer that is already known to be gone.
 *
 *-------------------------------------------------------------------------
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "transport/internal.h"

static void dial_next_address(Peer *peer, const char *why);

Peer *
tp_peer_find(const Transport *tp, uint32_t member_id)
{
	Peer	   *peer = tp->peers;

	while (peer != NULL && peer->id < member_id)
		peer = peer->next;
	return peer != NULL && peer->id == member_id ? peer : NULL;
}

/* ---------- dialling ---------- */

static int
backoff_with_jitter(Peer *peer, int backoff_ms)
{
	Transport  *tp = peer->tp;
	uint64_t	half = (uint64_t) backoff_ms / 2;

	/* Between half and all of it, so that members do not march in step. */
	return (int) (half + tp->callbacks.entropy(tp->user) % (half + 1));
}

static void
set_error(Peer *peer, const char *why)
{
	snprintf(peer->stats.last_error, sizeof(peer->stats.last_error), "%s", why);
}

/* The outgoing direction failed or dropped: when to try again. */
static void
back_off(Peer *peer)
{
	int			max_ms = peer->tp->config.backoff_max_ms;

	TP_ASSERT(peer->out == NULL && peer->resolve == NULL);
	if (peer->state == TP_PEER_REFUSED)
	{
		tp_peer_dial_soon(peer, backoff_with_jitter(peer, max_ms));
		return;
	}
	peer->state = TP_PEER_WAITING;
	tp_peer_dial_soon(peer, backoff_with_jitter(peer, peer->backoff_ms));
	peer->backoff_ms = peer->backoff_ms * 2 < max_ms ? peer->backoff_ms * 2 : max_ms;
}

static void
dial_failed(Peer *peer, const char *why)
{
	Transport  *tp = peer->tp;

	set_error(peer, why);
	back_off(peer);
	tp_log(tp, TP_LOG_INFO, "could not connect to member %u at %s: %s", peer->id,
		   peer->address, why);
	tp->callbacks.peer_down(tp->user, peer->id, false, why);
}

static void
dial_refused(Peer *peer, TpRefusal refusal, const char *detail, const char *why)
{
	Transport  *tp = peer->tp;

	set_error(peer, why);
	peer->state = TP_PEER_REFUSED;
	back_off(peer);
	tp_log(tp, TP_LOG_WARNING, "no connection to member %u at %s: %s", peer->id,
		   peer->address, why);
	tp->callbacks.peer_refused(tp->user, peer->id, refusal, detail);
}

/*
 * Try the addresses of the peer's host in turn; why: what came of the last one.
 */
static void
dial_next_address(Peer *peer, const char *why)
{
	Transport  *tp = peer->tp;

	TP_ASSERT(peer->out == NULL && peer->resolve == NULL);
	for (; peer->address_at < peer->addresses.n; peer->address_at++)
	{
		const struct sockaddr_storage *addr = &peer->addresses.addr[peer->address_at];

		if (!tp_is_guarded(tp) && !tp_address_is_loopback(addr))
		{
			why = tp_refusal_text(TP_REFUSED_LOOPBACK);
			continue;
		}
		peer->out = tp_conn_dial(tp, addr, TP_PURPOSE_PEER, peer->id, &why);
		if (peer->out != NULL)
		{
			peer->out->peer = peer;
			peer->address_at++;
			peer->state = TP_PEER_CONNECTING;
			return;
		}
	}
	if (why == tp_refusal_text(TP_REFUSED_LOOPBACK))
		dial_refused(peer, TP_REFUSED_LOOPBACK, "", why);
	else
		dial_failed(peer, why);
}

static void
peer_resolved(void *arg, const char *error, const Addresses *addresses)
{
	Peer	   *peer = arg;

	peer->resolve = NULL;
	if (error == NULL)
		peer->addresses = *addresses;

	/* While the name service is down, what it said before is worth a try. */
	else if (peer->addresses.n == 0)
	{
		dial_failed(peer, error);
		return;
	}
	peer->address_at = 0;
	dial_next_address(peer, "no address");
}

static void
dial(Peer *peer)
{
	Transport  *tp = peer->tp;
	char		host[TP_ADDRESS_LEN];
	const char *error;
	int			port;

	if (!tp_in_cluster(tp) || peer->out != NULL || peer->resolve != NULL)
		return;
	if (!tp_address_parse(peer->address, host, &port))
		TP_ASSERT(false);		/* tp_peer_add checked it */

	if (tp_address_numeric(host, port, &peer->addresses))
	{
		peer->address_at = 0;
		dial_next_address(peer, "no address");
		return;
	}
	peer->state = TP_PEER_CONNECTING;
	peer->resolve = tp_resolve(tp, host, port, peer_resolved, peer, &error);
	if (peer->resolve == NULL)
		dial_failed(peer, error);
}

static void
timer_cb(uv_timer_t *timer)
{
	dial(timer->data);
}

void
tp_peer_dial_soon(Peer *peer, int delay_ms)
{
	if (!tp_in_cluster(peer->tp))
		return;
	uv_update_time(peer->tp->loop);
	uv_timer_start(&peer->timer, timer_cb, (uint64_t) delay_ms, 0);
}

/* ---------- what connections report ---------- */

/*
 * A run of the peer that was replaced by another one is over, and cannot connect
 * again, unless both are there: somebody has started a copy.
 */
static void
notice_copies(Peer *peer, uint64_t boot_id)
{
	if (boot_id == peer->boot_id)
		return;
	if (boot_id == peer->former_boot_id)
		tp_log(peer->tp, TP_LOG_WARNING,
			   "two servers are running as member %u: has its data directory been copied?",
			   peer->id);
	peer->former_boot_id = peer->boot_id;
	peer->boot_id = boot_id;
}

static void
incoming_up(Peer *peer, Conn *conn)
{
	Conn	   *old = peer->in;

	notice_copies(peer, conn->hs.remote_boot_id);
	peer->in = conn;
	if (old != NULL)
		tp_conn_close(old);

	/*
	 * A newer run of the peer has introduced itself, so our connection leads
	 * to one that is gone, even if its machine could not tell us.
	 */
	if (peer->state == TP_PEER_UP && peer->out->hs.remote_boot_id != conn->hs.remote_boot_id)
	{
		peer->backoff_ms = peer->tp->config.backoff_min_ms;
		tp_conn_drop(peer->out, "the member was restarted");
	}

	/* It is there: no point in waiting out a back-off. */
	else if (peer->state == TP_PEER_WAITING || peer->state == TP_PEER_REFUSED)
	{
		peer->backoff_ms = peer->tp->config.backoff_min_ms;
		tp_peer_dial_soon(peer, 0);
	}
}

void
tp_peer_conn_up(Peer *peer, Conn *conn)
{
	Transport  *tp = peer->tp;

	peer->down_reported = false;
	peer->stats.last_contact_us = tp_now_us();
	if (conn->incoming)
	{
		incoming_up(peer, conn);
		return;
	}

	TP_ASSERT(conn == peer->out);
	peer->state = TP_PEER_UP;
	peer->backoff_ms = tp->config.backoff_min_ms;
	peer->stats.connects++;
	peer->stats.last_error[0] = '\0';
	tp_log_change(tp, "connected to member %u \"%s\" at %s", peer->id,
				  conn->hs.remote.name, peer->address);
	tp->callbacks.peer_up(tp->user, peer->id);
}

static void
report_lost(Peer *peer, const char *why)
{
	Transport  *tp = peer->tp;

	if (peer->down_reported)
		return;
	peer->down_reported = true;
	tp_log_change(tp, "lost the connection with member %u at %s: %s", peer->id,
				  peer->address, why);
	tp->callbacks.peer_down(tp->user, peer->id, true, why);
}

void
tp_peer_conn_lost(Peer *peer, Conn *conn, bool was_up, const char *why)
{
	if (conn == peer->in)
	{
		bool		stale = peer->state == TP_PEER_UP &&
			peer->out->hs.remote_boot_id != conn->hs.remote_boot_id;

		peer->in = NULL;
		set_error(peer, why);
		if (!stale)
			report_lost(peer, why);
		return;
	}

	TP_ASSERT(conn == peer->out);
	peer->out = NULL;
	if (was_up)
	{
		set_error(peer, why);
		peer->state = TP_PEER_WAITING;
		back_off(peer);
		report_lost(peer, why);
	}
	else if (conn->hs.state == HS_FAILED && conn->hs.refusal != TP_REFUSED_PROTOCOL)
		dial_refused(peer, conn->hs.refusal, conn->hs.detail, why);
	else
		dial_next_address(peer, why);
}

void
tp_peer_message(Peer *peer, TpMessage *msg)
{
	Transport  *tp = peer->tp;

	if (peer->blocked_in)
		return;
	peer->stats.messages_in++;
	tp->callbacks.message(tp->user, peer->id, msg);
}

/* ---------- the table ---------- */

static Peer *
peer_new(Transport *tp, uint32_t member_id)
{
	Peer	   *peer = calloc(1, sizeof(Peer));
	Peer	  **at = &tp->peers;

	if (peer == NULL)
		return NULL;
	peer->tp = tp;
	peer->id = member_id;
	peer->backoff_ms = tp->config.backoff_min_ms;
	uv_timer_init(tp->loop, &peer->timer);
	peer->timer.data = peer;
	tp_ref(tp);

	while (*at != NULL && (*at)->id < member_id)
		at = &(*at)->next;
	peer->next = *at;
	*at = peer;
	return peer;
}

/* Give up what the outgoing direction is doing. */
static void
stop_dialling(Peer *peer)
{
	if (peer->resolve != NULL)
		tp_resolve_abandon(peer->resolve);
	peer->resolve = NULL;
	if (peer->out != NULL)
		tp_conn_close(peer->out);
	peer->out = NULL;
	peer->state = TP_PEER_WAITING;
}

bool
tp_peer_add(Transport *tp, uint32_t member_id, const char *address)
{
	Peer	   *peer = tp_peer_find(tp, member_id);

	TP_ASSERT(member_id != 0 && !tp->closing);
	if (!tp_address_valid(address))
		return false;
	if (peer != NULL && strcmp(peer->address, address) == 0)
		return true;
	if (peer == NULL)
	{
		peer = peer_new(tp, member_id);
		if (peer == NULL)
			return false;
	}
	snprintf(peer->address, sizeof(peer->address), "%s", address);
	peer->addresses.n = 0;
	peer->backoff_ms = tp->config.backoff_min_ms;

	/* One in use is reported when it goes, and dialled anew by that. */
	if (peer->state == TP_PEER_UP)
		tp_conn_break(peer->out, "the member's address was changed");
	else
	{
		stop_dialling(peer);
		tp_peer_dial_soon(peer, 0);
	}
	return true;
}

static void
timer_closed_cb(uv_handle_t *handle)
{
	Peer	   *peer = handle->data;
	Transport  *tp = peer->tp;

	free(peer);
	tp_unref(tp);
}

/* Take it off the table, in silence. */
void
tp_peer_free(Peer *peer)
{
	Peer	  **at = &peer->tp->peers;

	while (*at != peer)
		at = &(*at)->next;
	*at = peer->next;

	stop_dialling(peer);
	if (peer->in != NULL)
		tp_conn_close(peer->in);
	peer->in = NULL;
	uv_close((uv_handle_t *) &peer->timer, timer_closed_cb);
}

void
tp_peer_remove(Transport *tp, uint32_t member_id)
{
	Peer	   *peer = tp_peer_find(tp, member_id);

	if (peer != NULL)
		tp_peer_free(peer);
}

bool
tp_peer_stats(const Transport *tp, uint32_t member_id, TpPeerStats *stats)
{
	const Peer *peer = tp_peer_find(tp, member_id);

	if (peer == NULL)
		return false;
	*stats = peer->stats;
	stats->member_id = member_id;
	snprintf(stats->address, sizeof(stats->address), "%s", peer->address);
	stats->state = peer->state;
	stats->incoming = peer->in != NULL;
	stats->queued_bytes = tp_queued_bytes(tp, member_id);
	return true;
}

int
tp_peer_list(const Transport *tp, uint32_t *ids, int max)
{
	int			n = 0;

	for (const Peer *peer = tp->peers; peer != NULL; peer = peer->next)
	{
		if (n < max)
			ids[n] = peer->id;
		n++;
	}
	return n;
}

void
tp_set_blocked(Transport *tp, uint32_t member_id, bool in, bool out)
{
	Peer	   *peer = tp_peer_find(tp, member_id);

	if (peer != NULL)
	{
		peer->blocked_in = in;
		peer->blocked_out = out;
	}
}

/* ---------- sending ---------- */

TpSendResult
tp_send(Transport *tp, uint32_t member_id, uint8_t type, TpLane lane, const TpPart *parts,
		int nparts, TpRelease release, void *arg)
{
	Peer	   *peer = tp_peer_find(tp, member_id);
	size_t		limit = lane == TP_URGENT ? tp->config.urgent_queue_bytes :
		tp->config.queue_bytes;
	size_t		queued;
	size_t		total = 0;
	TpSendResult result;
	Conn	   *conn;

	if (peer == NULL)
		return TP_SEND_DOWN;
	for (int i = 0; i < nparts; i++)
	{
		if (parts[i].len > tp->config.max_message_bytes - total)
			return TP_SEND_TOO_LARGE;
		total += parts[i].len;
	}
	conn = peer->out;
	if (peer->state != TP_PEER_UP || conn->broken != NULL)
	{
		peer->stats.messages_dropped++;
		return TP_SEND_DOWN;
	}
	if (peer->blocked_out)
	{
		peer->stats.messages_dropped++;
		if (release != NULL)
			release(arg);
		return TP_SEND_OK;
	}

	queued = conn->out.lane[lane].bytes;
	if (queued > 0 && queued + total > limit)
	{
		peer->stats.messages_dropped++;
		conn->wants_writable = true;
		return TP_SEND_FULL;
	}
	result = tp_outq_add(&conn->out, type, lane, parts, nparts, total, release, arg);
	if (result == TP_SEND_OK)
	{
		peer->stats.messages_out++;
		tp_conn_mark_dirty(conn);
	}
	return result;
}

size_t
tp_queued_bytes(const Transport *tp, uint32_t member_id)
{
	const Peer *peer = tp_peer_find(tp, member_id);

	return peer != NULL && peer->state == TP_PEER_UP ? tp_outq_bytes(&peer->out->out) : 0;
}
