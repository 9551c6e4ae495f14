/*-------------------------------------------------------------------------
 *
 * worker_peer.c
 *		The transport's callbacks, and the pings that members exchange.
 *
 * Nothing in a callback throws or waits: messages go into the core or into
 * queues that the running turn of the loop looks at afterwards.
 *
 * Pings tell four things: that the sender lives (also when it is no leader),
 * how far its tables are, what its wall clock says (clock_peer_sample), and what
 * it knows of the receiver's past. The last is the guard against a data
 * directory that was restored from an old copy: entries that were committed, and
 * durable here, cannot be missing from this log. If a member says that we once
 * had more than our log holds, then we have forgotten what we acknowledged, and
 * neither vote nor campaign until it is back. So that this is known before a
 * vote is given, a member that has just started is on probation: until every
 * other voter has spoken and the apply worker has said how far the tables are
 * (check_applied), or for one election timeout.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <fcntl.h>
#include <unistd.h>

#include "common/file_perm.h"
#include "miscadmin.h"
#include "postmaster/postmaster.h"
#include "storage/fd.h"

#include "node/worker.h"

#define COPY_MAX_BYTES	(Size) 16384	/* larger messages are sent without a copy */
#define KEEP_MIN_BYTES	(Size) (256 * 1024) /* larger ones are taken in without one */
#define GONE_US			INT64CONST(20000000)

static bool
is_zero(const uint8 *bytes, Size len)
{
	for (Size i = 0; i < len; i++)
		if (bytes[i] != 0)
			return false;
	return true;
}

PeerInfo *
peer_find(Worker *w, uint32 id)
{
	for (int i = 0; i < w->npeers; i++)
		if (w->peers[i].id == id)
			return &w->peers[i];
	return NULL;
}

bool
peer_is_up(Worker *w, uint32 id)
{
	PeerInfo   *peer = peer_find(w, id);

	return peer != NULL && peer->up;
}

/* ---------- probation ---------- */

bool
worker_muted(const Worker *w)
{
	return w->muted_until != 0 || w->probation_until_us != 0 || w->recovering;
}

bool
worker_may_campaign(const Worker *w)
{
	return !worker_muted(w) && !w->clock_fenced;
}

static void
look_at_probation(Worker *w)
{
	const RaftConf *conf = raft_conf(w->raft);
	bool		all = pg_atomic_read_u32(&node_shared->apply_ready) != 0;

	if (w->muted_until != 0 && w->committed >= w->muted_until && !w->recovering)
	{
		ereport(LOG, (errmsg("this member has again what it had forgotten, and votes")));
		w->muted_until = 0;
		worker_set_detail(w, "");
	}
	if (w->probation_until_us == 0)
		return;
	for (int i = 0; i < conf->nmembers && all; i++)
	{
		PeerInfo   *peer = peer_find(w, conf->members[i].id);

		if (conf->members[i].voter && conf->members[i].id != w->id &&
			(peer == NULL || !peer->heard))
			all = false;
	}
	if (all || w->now_us >= w->probation_until_us)
		w->probation_until_us = 0;
}

static void
heard_of_own_past(Worker *w, uint64 known_index)
{
	uint64		last = rlog_last_index(w->log);
	char		detail[NODE_DETAIL_LEN];

	if (known_index <= last || known_index <= w->muted_until)
		return;
	if (w->muted_until == 0 && !w->recovering)
	{
		snprintf(detail, sizeof(detail),
				 "this member has forgotten entries up to " UINT64_FORMAT " that it had acknowledged; it does not vote until it has them again",
				 known_index);
		ereport(LOG,
				(errmsg("%s", detail),
				 errhint("Has the data directory been restored from an old copy?")));
		worker_set_detail(w, detail);
	}
	w->muted_until = known_index;
}

/* ---------- sending ---------- */

bool
peer_send(Worker *w, uint32 id, WireType type, const void *data, Size len)
{
	TpPart		part = {data, len};

	return tp_send(w->tp, id, (uint8) type, TP_URGENT, &part, 1, NULL, NULL) == TP_SEND_OK;
}

typedef struct Outgoing
{
	RaftMsg		msg;
	uint8_t    *head;
} Outgoing;

static void
release_outgoing(void *arg)
{
	Outgoing   *out = arg;

	raft_msg_free(&out->msg);
	free(out->head);
	free(out);
}

static void
add_part(void *arg, const void *data, size_t len)
{
	Worker	   *w = arg;

	if (w->nparts == w->parts_cap)
	{
		int			cap = Max(64, w->parts_cap * 2);
		TpPart	   *bigger = realloc(w->parts, sizeof(TpPart) * cap);

		if (bigger == NULL)
		{
			w->nparts = -1;
			return;
		}
		w->parts = bigger;
		w->parts_cap = cap;
	}
	if (w->nparts >= 0)
		w->parts[w->nparts++] = (TpPart) {data, len};
}

/*
 * Send a message of the core's; takes it over. Appends stay in order in one
 * lane, everything else overtakes them.
 */
void
peer_send_raft(Worker *w, RaftMsg *msg)
{
	uint32		to = msg->to;
	bool		append = msg->type == RAFT_MSG_APPEND || msg->type == RAFT_MSG_SNAPSHOT;
	Size		bytes = 0;
	uint8_t    *head;
	Outgoing   *out;
	TpSendResult result;

	w->nparts = 0;
	head = peer_is_up(w, to) ? raft_msg_encode(msg, add_part, w) : NULL;
	if (head == NULL || w->nparts < 0)
	{
		free(head);
		raft_msg_free(msg);
		return;
	}
	for (int i = 0; i < w->nparts; i++)
		bytes += w->parts[i].len;
	if (bytes <= COPY_MAX_BYTES || (out = malloc(sizeof(Outgoing))) == NULL)
	{
		result = tp_send(w->tp, to, WIRE_RAFT, append ? TP_BULK : TP_URGENT,
						 w->parts, w->nparts, NULL, NULL);
		free(head);
		raft_msg_free(msg);
	}
	else
	{
		out->msg = *msg;
		out->head = head;
		result = tp_send(w->tp, to, WIRE_RAFT, append ? TP_BULK : TP_URGENT,
						 w->parts, w->nparts, release_outgoing, out);
		if (result != TP_SEND_OK)
			release_outgoing(out);
	}
	if (result == TP_SEND_FULL && append && w->raft != NULL)
		raft_peer_paused(w->raft, to, true);
	else if (result == TP_SEND_TOO_LARGE)
		ereport(LOG, (errmsg("an entry of the log is too large to be sent to member %u", to)));
}

static void
send_ping(Worker *w, PeerInfo *peer)
{
	WirePing	ping;

	memset(&ping, 0, sizeof(ping));
	ping.sent_us = node_monotonic_us();
	ping.wall_us = clock_wall_us();
	ping.applied_index = pg_atomic_read_u64(&node_shared->applied_index);
	ping.committed_index = w->committed;
	ping.last_index = rlog_durable_index(w->log);
	ping.known_index = peer->known_index;
	ping.boot = pg_atomic_read_u32(&node_shared->boot);
	ping.recovering = w->recovering ? 1 : 0;
	strlcpy(ping.version, WORKER_VERSION, sizeof(ping.version));
	ping.image_index = pg_atomic_read_u64(&node_shared->image_hold);
	ping.sql_port = PostPortNumber;
	image_socket_dir(ping.socket_dir, sizeof(ping.socket_dir));
	(void) peer_send(w, peer->id, WIRE_PING, &ping, sizeof(ping));
}

/* To everybody, now and then. */
void
peer_ping(Worker *w)
{
	const RaftMember *self;

	if (w->now_us < w->ping_us)
		return;
	self = raft_conf_find(raft_conf(w->raft), w->id);
	/* the leader waits for a learner's tables */
	w->ping_us = w->now_us + (self == NULL || self->learner ? WORKER_PING_US / 10 : WORKER_PING_US);
	for (int i = 0; i < w->npeers; i++)
	{
		PeerInfo   *peer = &w->peers[i];
		RaftPeerStatus status;

		/* the leader knows at first hand what a peer has acknowledged */
		if (raft_peer_status(w->raft, peer->id, &status))
			peer->known_index = Max(peer->known_index, Min(status.match, w->committed));
		if (peer->up)
			send_ping(w, peer);
	}
	if (w->npeers > 0)
		w->status_dirty = true;	/* last_contact and the like */
}

static void
on_ping(Worker *w, uint32 from, const TpMessage *msg)
{
	PeerInfo   *peer = peer_find(w, from);
	RaftPeerStatus status;
	WirePing	ping;
	WirePong	pong;

	if (msg->len != sizeof(ping) || peer == NULL)
		return;
	memcpy(&ping, msg->data, sizeof(ping));
	pong.sent_us = ping.sent_us;
	pong.wall_us = clock_wall_us();
	(void) peer_send(w, from, WIRE_PONG, &pong, sizeof(pong));

	if (!peer->has_applied || peer->applied_index != ping.applied_index)
		w->status_dirty = true;
	peer->has_applied = true;
	peer->applied_index = ping.applied_index;
	peer->told_applied = ping.applied_index;
	peer->boot = ping.boot;
	peer->image_index = ping.image_index;
	peer->sql_port = ping.sql_port;
	ping.socket_dir[sizeof(ping.socket_dir) - 1] = '\0';
	strlcpy(peer->socket_dir, ping.socket_dir, sizeof(peer->socket_dir));
	ping.version[sizeof(ping.version) - 1] = '\0';
	strlcpy(peer->version, ping.version, sizeof(peer->version));

	/* it said so itself; but what its log does not hold it does not have */
	if (ping.committed_index <= ping.last_index)
		peer->known_index = Max(peer->known_index, ping.committed_index);

	/*
	 * It has less than it acknowledged to us: an old copy. The core's progress
	 * never goes back within a term (P-14), so another leader has to feed it.
	 * Unless it knows by itself: then its core has told ours.
	 */
	if (worker_leads(w) && !ping.recovering && raft_peer_status(w->raft, from, &status) &&
		ping.last_index < Min(status.match, w->committed) &&
		raft_transferee(w->raft) == RAFT_NONE)
	{
		ereport(LOG,
				(errmsg("member %u has forgotten entries that it had acknowledged; another member is to lead",
						from)));
		peer->known_index = Max(peer->known_index, Min(status.match, w->committed));
		worker_hand_over(w, from);
	}
	if (!peer->heard)
	{
		peer->heard = true;
		/* what we know of it, it should hear at once */
		send_ping(w, peer);
	}
	heard_of_own_past(w, ping.known_index);
	look_at_probation(w);
}

static void
on_pong(Worker *w, uint32 from, const TpMessage *msg)
{
	WirePong	pong;
	HlcStamp	remote = {0};

	if (msg->len != sizeof(pong))
		return;
	memcpy(&pong, msg->data, sizeof(pong));
	remote.physical_us = pong.wall_us;
	remote.node = from;
	clock_peer_sample(from, remote, node_monotonic_us() - pong.sent_us);
}

/* ---------- callbacks ---------- */

static void
cb_log(void *user, TpLogLevel level, const char *text)
{
	ereport(level == TP_LOG_DEBUG ? DEBUG1 : LOG, (errmsg("%s", text)));
}

static uint64_t
cb_entropy(void *user)
{
	return worker_entropy(user);
}

static TpRefusal
cb_accept_peer(void *user, const TpIdentity *who, TpPurpose purpose, const char *address,
			   char *detail)
{
	Worker	   *w = user;
	const RaftMember *m;

	if (purpose == TP_PURPOSE_JOIN)
		return TP_ACCEPT;
	if (w->raft == NULL)
		return TP_REFUSED_NOT_READY;
	m = raft_conf_find(raft_conf(w->raft), who->member_id);
	if (m == NULL)
		m = raft_conf_find(raft_committed_conf(w->raft), who->member_id);
	if (m == NULL)
	{
		/* ids are never given out twice; above that, it is us who are behind */
		if (who->member_id < raft_committed_conf(w->raft)->next_id)
			return TP_REFUSED_REMOVED;
		return TP_ACCEPT;
	}
	if (!is_zero(m->instance, sizeof(m->instance)) &&
		memcmp(m->instance, who->instance_id, sizeof(m->instance)) != 0)
	{
		snprintf(detail, TP_TEXT_LEN, "member %u is another server", who->member_id);
		return TP_REFUSED_INSTANCE;
	}
	return TP_ACCEPT;
}

static void
cb_peer_up(void *user, uint32_t id)
{
	Worker	   *w = user;
	PeerInfo   *peer = peer_find(w, id);

	if (peer == NULL || w->raft == NULL)
		return;
	peer->up = true;
	peer->says_removed = false;
	applied_peer_changed(peer);
	w->status_dirty = true;
	raft_peer_up(w->raft, id, node_monotonic_us());
	lock_peer_up(w, id, true);
	send_ping(w, peer);
	if (raft_leader(w->raft) == id)
		w->retry_us = 0;
}

static void
cb_peer_down(void *user, uint32_t id, bool was_established, const char *why)
{
	Worker	   *w = user;
	PeerInfo   *peer = peer_find(w, id);
	TpPeerStats stats;

	if (peer == NULL || w->raft == NULL)
		return;
	if (!tp_peer_stats(w->tp, id, &stats) || stats.state != TP_PEER_UP)
		peer->up = false;
	lock_peer_up(w, id, peer->up);
	if (!was_established)
		return;
	applied_peer_changed(peer);
	w->status_dirty = true;
	if (raft_leader(w->raft) == id)
		pending_requeue(w);		/* the verdict may have been on its way */
	if (worker_leads(w) || worker_may_campaign(w))
		raft_peer_down(w->raft, id, node_monotonic_us());
}

static void
cb_peer_refused(void *user, uint32_t id, TpRefusal why, const char *detail)
{
	Worker	   *w = user;
	PeerInfo   *peer = peer_find(w, id);

	if (peer != NULL && why == TP_REFUSED_REMOVED)
		peer->says_removed = true;
	if (peer != NULL && why == TP_REFUSED_CLUSTER && w->raft != NULL)
	{
		const RaftMember *m = raft_conf_find(raft_conf(w->raft), id);
		char		text[NODE_DETAIL_LEN];

		snprintf(text, sizeof(text),
				 "member \"%s\" belongs to another cluster now (was quorum.force_new_cluster called there?) and has no part in this one",
				 m != NULL ? m->name : "");
		worker_set_detail(w, text);
	}
}

static void
cb_writable(void *user, uint32_t id)
{
	Worker	   *w = user;

	if (w->raft != NULL)
		raft_peer_paused(w->raft, id, false);
}

/*
 * A message that outlives its callback: large ones are taken over as they are.
 * NULL: too small to be worth it, or no memory.
 */
static RaftBuf *
keep_message(TpMessage *msg)
{
	uint8_t    *heap;
	RaftBuf    *buf;

	if (msg->heap == NULL || msg->len < KEEP_MIN_BYTES)
		return NULL;
	heap = tp_message_steal(msg);
	buf = raft_buf_take(heap, msg->len);
	if (buf == NULL)
		msg->heap = heap;		/* given back */
	return buf;
}

static bool
decode_raft(TpMessage *tp_msg, RaftMsg *msg)
{
	RaftBuf    *buf = keep_message(tp_msg);
	bool		ok;

	if (buf == NULL)
		return raft_msg_decode(tp_msg->data, tp_msg->len, msg);
	ok = raft_msg_decode_buf(buf, msg);
	raft_buf_unref(buf);
	return ok;
}

static void
on_raft(Worker *w, uint32 from, TpMessage *tp_msg)
{
	RaftMsg		msg;

	if (!decode_raft(tp_msg, &msg))
	{
		ereport(LOG, (errmsg("member %u sent a malformed message", from)));
		return;
	}

	/*
	 * The stamp of a message is not below that of any entry in it. A sender whose
	 * clock is out of bounds is not listened to.
	 */
	if (msg.from != from ||
		clock_observe(to_hlc(msg.stamp), from, NULL) == CLOCK_TOO_FAR_AHEAD ||
		(msg.type == RAFT_MSG_TIMEOUT_NOW && !worker_may_campaign(w)) ||
		((msg.type == RAFT_MSG_VOTE || msg.type == RAFT_MSG_PREVOTE) && worker_muted(w)))
	{
		raft_msg_free(&msg);
		return;
	}

	/*
	 * The leader caps this by what we acknowledged to it. If it is not here we
	 * have forgotten it; the core would fence itself for good, but what was
	 * committed can be had again. A core that knows of the loss answers it so.
	 */
	if (msg.type == RAFT_MSG_HEARTBEAT && msg.commit > raft_last_index(w->raft) &&
		!raft_is_recovering(w->raft))
	{
		heard_of_own_past(w, msg.commit);
		raft_msg_free(&msg);
		return;
	}
	(void) raft_recv(w->raft, &msg, node_monotonic_us());
}

static void
cb_message(void *user, uint32_t from, TpMessage *msg)
{
	Worker	   *w = user;

	if (w->raft == NULL)
		return;
	switch ((WireType) msg->type)
	{
		case WIRE_RAFT:
			on_raft(w, from, msg);
			break;
		case WIRE_FORWARD:
			{
				RaftBuf    *kept = keep_message(msg);

				remote_forward(w, from, msg->data, msg->len, kept);
				raft_buf_unref(kept);
				break;
			}
		case WIRE_VERDICT:
			propose_verdict(w, from, msg->data, msg->len);
			break;
		case WIRE_PING:
			on_ping(w, from, msg);
			break;
		case WIRE_PONG:
			on_pong(w, from, msg);
			break;
		case WIRE_ADMIN:
			admin_message(w, from, msg->data, msg->len);
			break;
		case WIRE_ADMIN_REPLY:
			admin_reply(w, from, msg->data, msg->len);
			break;
		case WIRE_ASK:
			outcome_ask(w, from, msg->data, msg->len);
			break;
		case WIRE_ANSWER:
			outcome_answer(w, from, msg->data, msg->len);
			break;
		case WIRE_APPLIED_ASK:
			applied_ask(w, from, msg->data, msg->len);
			break;
		case WIRE_APPLIED:
			applied_told(w, from, msg->data, msg->len);
			break;
		case WIRE_LOCK:
			lock_message(w, from, msg->data, msg->len);
			break;
		default:
			break;				/* of a newer version */
	}
}

static void
cb_request(void *user, uint64_t request, const TpIdentity *who, TpMessage *msg)
{
	if (msg->type == WIRE_JOIN)
		join_request(user, request, msg->data, msg->len);
}

bool
peer_create_transport(Worker *w)
{
	TpConfig	config;
	TpCallbacks callbacks = {
		.log = cb_log,
		.entropy = cb_entropy,
		.accept_peer = cb_accept_peer,
		.peer_up = cb_peer_up,
		.peer_down = cb_peer_down,
		.peer_refused = cb_peer_refused,
		.message = cb_message,
		.writable = cb_writable,
		.request = cb_request,
	};

	tp_config_default(&config);
	config.max_message_bytes = NODE_MAX_PAYLOAD + 64 * 1024;
	w->tp = tp_create(&w->loop, &config, &callbacks, w);
	return w->tp != NULL;
}

/* ---------- who the peers are ---------- */

static void
keep_peer(Worker *w, const RaftMember *m)
{
	PeerInfo   *peer = peer_find(w, m->id);

	if (m->id == w->id)
		return;
	if (peer == NULL)
	{
		if (w->npeers == NODE_MAX_MEMBERS)
			return;
		peer = &w->peers[w->npeers++];
		memset(peer, 0, sizeof(*peer));
		peer->id = m->id;
	}
	peer->gone_us = 0;
	if (!tp_peer_add(w->tp, m->id, m->address))
		ereport(LOG, (errmsg("member %u has an address that cannot be used: \"%s\"",
							 m->id, m->address)));
}

/* Bring the connections into line with the configurations. */
void
peer_sync(Worker *w)
{
	const RaftConf *confs[2] = {raft_conf(w->raft), raft_committed_conf(w->raft)};
	uint32		ids[NODE_MAX_MEMBERS];
	int			nids = 0;

	w->conf_dirty = false;
	for (int c = 0; c < 2; c++)
		for (int i = 0; i < confs[c]->nmembers; i++)
			if (c == 0 || raft_conf_find(confs[0], confs[c]->members[i].id) == NULL)
				keep_peer(w, &confs[c]->members[i]);

	/*
	 * Who left is told so for a while by the core. A joining member whose log
	 * does not reach yet to its own addition keeps those it was told of.
	 */
	for (int i = 0; i < w->npeers; i++)
	{
		PeerInfo   *peer = &w->peers[i];

		if (raft_conf_find(confs[0], peer->id) != NULL)
			ids[nids++] = peer->id;
		else if (raft_conf_find(confs[1], peer->id) == NULL && peer->gone_us == 0 &&
				 raft_conf_find(confs[0], w->id) != NULL)
			peer->gone_us = w->now_us;
	}
	clock_set_peers(ids, nids);
}

void
peer_maintain(Worker *w)
{
	const RaftMember *self = raft_conf_find(raft_conf(w->raft), w->id);

	for (int i = 0; i < w->npeers; i++)
	{
		PeerInfo   *peer = &w->peers[i];

		if (peer->gone_us != 0 && w->now_us - peer->gone_us > GONE_US)
		{
			tp_peer_remove(w->tp, peer->id);
			w->peers[i--] = w->peers[--w->npeers];
			continue;
		}
		/* the others have it from their committed configuration */
		if (peer->says_removed && self != NULL)
		{
			admin_became_removed(w);
			return;
		}
	}
	look_at_probation(w);
}
