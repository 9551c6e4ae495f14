/*-------------------------------------------------------------------------
 *
 * worker_admin.c
 *		Changes of membership and of leadership.
 *
 * An AdminOp is pursued until it is done, wherever it came from: a session
 * here, a member that forwarded one of its sessions' (WIRE_ADMIN), a server
 * that wants to join, or this member itself. Each turn of the loop takes every
 * op one step further: on the leader by proposing and waiting, elsewhere by
 * asking the leader. A change of leader starts the step again; all of them can
 * be repeated without harm.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <fcntl.h>
#include <unistd.h>

#include "common/file_perm.h"
#include "miscadmin.h"
#include "storage/fd.h"

#include "node/worker.h"

#define ADMIN_PATIENCE_US	INT64CONST(50000000)
#define ADMIN_TRY_AGAIN		(-1)
#define ANNOUNCE_US			INT64CONST(1000000)
#define PROMOTE_MAX_LAG		1000	/* entries not yet in the learner's tables */

/* ---------- answers ---------- */

static void
answer_slot_va(int procno, RaftToken token, int sqlstate, const char *message)
{
	NodeAnswer	answer;

	memset(&answer, 0, sizeof(answer));
	answer.verdict = sqlstate == 0 ? NODE_COMMITTED : NODE_REFUSED;
	strlcpy(answer.message, message, sizeof(answer.message));
	node_answer_slot(procno, token, &answer, sqlstate);
}

/* The final answer to a session's request. sqlstate 0: done. */
void
answer_request(Worker *w, int procno, RaftToken token, int sqlstate, const char *fmt,...)
{
	char		message[NODE_DETAIL_LEN];
	va_list		args;

	va_start(args, fmt);
	vsnprintf(message, sizeof(message), fmt, args);
	va_end(args);
	answer_slot_va(procno, token, sqlstate, message);
}

static void
op_free(AdminOp *op)
{
	dlist_delete(&op->link);
	free(op);
}

static void
reply_to_joiner(Worker *w, AdminOp *op, int sqlstate, const char *message)
{
	WireJoinReply reply;
	RaftBuf    *conf = NULL;
	uint8	   *bytes;
	Size		len = sizeof(reply);

	memset(&reply, 0, sizeof(reply));
	reply.sqlstate = sqlstate;
	strlcpy(reply.message, message, sizeof(reply.message));
	if (sqlstate == 0)
	{
		const RaftConf *now = raft_conf(w->raft);

		join_introduce(w, &reply);
		reply.conf_index = now->index;
		for (int i = 0; i < now->nmembers; i++)
			if (memcmp(now->members[i].instance, op->instance, RAFT_INSTANCE_LEN) == 0)
				reply.id = now->members[i].id;
		memcpy(reply.cluster_id, w->cluster_id, sizeof(reply.cluster_id));
		conf = raft_conf_encode(now);
		if (conf == NULL)
			return;				/* it asks again */
		len += conf->len;
	}
	else if (sqlstate == ADMIN_TRY_AGAIN && w->raft != NULL)
	{
		const RaftMember *leader = raft_conf_find(raft_conf(w->raft), raft_leader(w->raft));

		if (leader != NULL && leader->id != w->id)
			strlcpy(reply.address, leader->address, sizeof(reply.address));
	}
	bytes = malloc(len);
	if (bytes != NULL)
	{
		memcpy(bytes, &reply, sizeof(reply));
		if (conf != NULL)
			memcpy(bytes + sizeof(reply), conf->data, conf->len);
		(void) tp_reply(w->tp, op->request, WIRE_JOIN_REPLY, bytes, len);
		free(bytes);
	}
	raft_buf_unref(conf);
}

/* The op has come to its end. */
static void finish(Worker *w, AdminOp *op, int sqlstate, const char *fmt,...) pg_attribute_printf(4, 5);

static void
finish(Worker *w, AdminOp *op, int sqlstate, const char *fmt,...)
{
	char		message[NODE_DETAIL_LEN];
	va_list		args;

	va_start(args, fmt);
	vsnprintf(message, sizeof(message), fmt, args);
	va_end(args);
	switch (op->origin)
	{
		case ADMIN_FROM_SESSION:
			answer_slot_va(op->procno, op->slot_token, sqlstate, message);
			break;
		case ADMIN_FROM_MEMBER:
			{
				WireAdminReply reply;

				memset(&reply, 0, sizeof(reply));
				reply.id = op->member_op;
				reply.sqlstate = sqlstate;
				strlcpy(reply.message, message, sizeof(reply.message));
				(void) peer_send(w, op->member, WIRE_ADMIN_REPLY, &reply, sizeof(reply));
				break;
			}
		case ADMIN_FROM_REQUEST:
			reply_to_joiner(w, op, sqlstate, message);
			break;
		case ADMIN_FROM_SELF:
			if (sqlstate > 0)
				ereport(LOG, (errmsg("%s", message)));
			break;
	}
	op_free(op);
}

/* ---------- where ops come from ---------- */

static AdminOp *
new_op(Worker *w, AdminKind kind, AdminOrigin origin)
{
	AdminOp    *op = calloc(1, sizeof(AdminOp));

	if (op == NULL)
		return NULL;
	op->kind = kind;
	op->origin = origin;
	op->id = ++w->next_op;
	op->deadline_us = w->now_us + ADMIN_PATIENCE_US;
	dlist_push_tail(&w->admin, &op->link);
	return op;
}

void
admin_request(Worker *w, int procno, RaftToken token, NodeRequestKind kind,
			  const char *data, Size len)
{
	AdminOp    *op;

	if (w->state != WORKER_RUNNING)
	{
		answer_request(w, procno, token, ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
					   "this server takes no part in a cluster%s%s",
					   w->detail[0] ? ": " : "", w->detail);
		return;
	}
	op = new_op(w, kind == NODE_REQ_REMOVE ? ADMIN_REMOVE : ADMIN_TRANSFER, ADMIN_FROM_SESSION);
	if (op == NULL || len >= sizeof(op->name))
	{
		if (op != NULL)
			op_free(op);
		answer_request(w, procno, token, ERRCODE_UNDEFINED_OBJECT,
					   "there is no member of that name");
		return;
	}
	op->procno = procno;
	op->slot_token = token;
	memcpy(op->name, data, len);
}

void
admin_message(Worker *w, uint32 from, const uint8 *data, Size len)
{
	WireAdmin	wire;
	AdminOp    *op;

	if (len != sizeof(wire))
		return;
	memcpy(&wire, data, sizeof(wire));
	if (wire.kind != ADMIN_REMOVE && wire.kind != ADMIN_TRANSFER && wire.kind != ADMIN_ADDRESS)
		return;
	op = new_op(w, wire.kind, ADMIN_FROM_MEMBER);
	if (op == NULL)
		return;
	op->member = from;
	op->member_op = wire.id;
	wire.name[sizeof(wire.name) - 1] = wire.address[sizeof(wire.address) - 1] = '\0';
	strlcpy(op->name, wire.name, sizeof(op->name));
	strlcpy(op->address, wire.address, sizeof(op->address));
}

void
admin_add(Worker *w, uint64 request, const WireJoin *join)
{
	AdminOp    *op = new_op(w, ADMIN_ADD, ADMIN_FROM_REQUEST);

	if (op == NULL)
		return;
	op->request = request;
	op->replace = join->replace != 0;
	op->stride = join->sequence_stride;
	memcpy(op->instance, join->instance, sizeof(op->instance));
	strlcpy(op->name, join->name, sizeof(op->name));
	strlcpy(op->address, join->address, sizeof(op->address));
}

/* ---------- on the leader ---------- */

static RaftMember *
by_name(const RaftConf *conf, const char *name)
{
	for (uint32 i = 0; i < conf->nmembers; i++)
		if (strcmp(conf->members[i].name, name) == 0)
			return (RaftMember *) &conf->members[i];
	return NULL;
}

static int
count_voters(const RaftConf *conf)
{
	int			n = 0;

	for (uint32 i = 0; i < conf->nmembers; i++)
		n += conf->members[i].voter;
	return n;
}

static void
drop_member(RaftConf *conf, uint32 id)
{
	uint32		n = 0;

	for (uint32 i = 0; i < conf->nmembers; i++)
		if (conf->members[i].id != id)
			conf->members[n++] = conf->members[i];
	memset(&conf->members[n], 0, (RAFT_MAX_MEMBERS - n) * sizeof(RaftMember));
	conf->nmembers = n;
}

/*
 * Propose *target. RAFT_OK: op->conf_index is its entry. RAFT_INVALID has ended
 * the op; anything else is tried again in a later turn.
 */
static RaftStatus
propose_conf(Worker *w, AdminOp *op, const RaftConf *target)
{
	RaftToken	none = {0};
	HlcStamp	stamp;
	uint64_t	index;
	RaftStatus	status;

	if (w->clock_fenced || w->health != RLOG_OK || clock_now(&stamp) != CLOCK_OK)
		return RAFT_BUSY;
	status = raft_propose_conf(w->raft, target, from_hlc(stamp), none, &index);
	if (status == RAFT_OK && op != NULL)
	{
		op->conf_index = index;
		op->conf_term = raft_term(w->raft);
		op->tried = true;
	}
	else if (status == RAFT_INVALID && op != NULL)
		finish(w, op, ERRCODE_INTERNAL_ERROR, "the change of membership is not possible");
	return status;
}

/* Has the change been proposed, and what came of it? True: op is dealt with. */
static bool
change_under_way(Worker *w, AdminOp *op)
{
	const RaftConf *committed = raft_committed_conf(w->raft);

	if (op->conf_index == 0)
		return false;
	if (op->conf_term != raft_term(w->raft))
	{
		op->conf_index = 0;		/* its fate is open: look again */
		return false;
	}
	if (committed->index >= op->conf_index && !committed->joint)
		finish(w, op, 0, "%s", "");
	return true;
}

static void
lead_remove(Worker *w, AdminOp *op)
{
	RaftConf	target = *raft_conf(w->raft);
	const RaftMember *m = by_name(&target, op->name);

	if (change_under_way(w, op))
		return;
	if (m == NULL)
	{
		if (op->tried && raft_conf(w->raft)->index <= raft_commit_index(w->raft))
			finish(w, op, 0, "%s", "");
		else if (!op->tried)
			finish(w, op, ERRCODE_UNDEFINED_OBJECT, "there is no member named \"%s\"", op->name);
		return;
	}
	if (m->voter && count_voters(&target) == 1)
	{
		finish(w, op, ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
			   "the last voting member cannot be removed");
		return;
	}
	drop_member(&target, m->id);
	(void) propose_conf(w, op, &target);
}

static int
free_slot(const RaftConf *conf)
{
	for (int slot = 0; slot < quorum_sequence_stride; slot++)
	{
		bool		taken = false;

		for (uint32 i = 0; i < conf->nmembers; i++)
			taken |= conf->members[i].seq_slot == slot;
		if (!taken)
			return slot;
	}
	return -1;
}

static void
lead_add(Worker *w, AdminOp *op)
{
	RaftConf	target = *raft_conf(w->raft);
	RaftMember *m;
	int			slot;

	if (change_under_way(w, op))
		return;
	m = by_name(&target, op->name);
	if (m != NULL && memcmp(m->instance, op->instance, RAFT_INSTANCE_LEN) == 0)
	{
		/* asked again, the first answer got lost */
		if (raft_conf(w->raft)->index <= raft_commit_index(w->raft))
			finish(w, op, 0, "%s", "");
		return;
	}
	if (op->stride != quorum_sequence_stride)
	{
		finish(w, op, ERRCODE_INVALID_PARAMETER_VALUE,
			   "quorum.sequence_stride is %u there, but %d in the cluster",
			   op->stride, quorum_sequence_stride);
		return;
	}
	if (m != NULL && !op->replace)
	{
		finish(w, op, ERRCODE_DUPLICATE_OBJECT,
			   JOIN_NAME_IS_TAKEN, op->name);
		return;
	}
	if (m != NULL && (m->id == w->id || (m->voter && count_voters(&target) == 1)))
	{
		finish(w, op, ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
			   m->id == w->id ? "member \"%s\" cannot be replaced now: it leads the cluster" :
			   "member \"%s\" cannot be replaced: it is the last voting member", op->name);
		return;
	}
	if (m != NULL)
		drop_member(&target, m->id);
	slot = free_slot(&target);
	if (slot < 0 || target.nmembers >= NODE_MAX_MEMBERS)
	{
		finish(w, op, ERRCODE_PROGRAM_LIMIT_EXCEEDED,
			   "the cluster has as many members as quorum.sequence_stride (%d) allows",
			   quorum_sequence_stride);
		return;
	}

	/* ids grow: the newest comes last */
	m = &target.members[target.nmembers++];
	memset(m, 0, sizeof(*m));
	m->id = target.next_id++;
	m->seq_slot = slot;
	m->learner = true;
	memcpy(m->instance, op->instance, RAFT_INSTANCE_LEN);
	strlcpy(m->name, op->name, sizeof(m->name));
	strlcpy(m->address, op->address, sizeof(m->address));
	(void) propose_conf(w, op, &target);
}

static void
lead_address(Worker *w, AdminOp *op)
{
	RaftConf	target = *raft_conf(w->raft);
	RaftMember *m = by_name(&target, op->name);

	if (change_under_way(w, op))
		return;
	if (m == NULL || strcmp(m->address, op->address) == 0)
	{
		finish(w, op, 0, "%s", "");
		return;
	}
	strlcpy(m->address, op->address, sizeof(m->address));
	(void) propose_conf(w, op, &target);
}

static void
lead_transfer(Worker *w, AdminOp *op)
{
	const RaftConf *conf = raft_conf(w->raft);
	const RaftMember *m = NULL;
	uint64		best_match = 0;

	if (op->target != 0)
	{
		if (raft_transferee(w->raft) != op->target)
			finish(w, op, ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
				   "the member did not take over leadership in time");
		return;
	}
	if (op->name[0] != '\0')
	{
		m = by_name(conf, op->name);
		if (m == NULL)
		{
			finish(w, op, ERRCODE_UNDEFINED_OBJECT, "there is no member named \"%s\"", op->name);
			return;
		}
		if (m->id == w->id)
		{
			finish(w, op, 0, "%s", "");
			return;
		}
	}
	else
		for (uint32 i = 0; i < conf->nmembers; i++)
		{
			RaftPeerStatus peer;

			if (conf->members[i].voter &&
				raft_peer_status(w->raft, conf->members[i].id, &peer) &&
				peer.recent_active && (m == NULL || peer.match > best_match))
			{
				m = &conf->members[i];
				best_match = peer.match;
			}
		}
	if (m == NULL || !m->voter)
	{
		finish(w, op, ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
			   m == NULL ? "there is no other voting member that could lead" :
			   "a learner cannot lead");
		return;
	}
	if (raft_transferee(w->raft) != RAFT_NONE)
		return;					/* another one is under way: after it */
	switch (raft_transfer(w->raft, m->id, w->now_us))
	{
		case RAFT_OK:
			op->target = m->id;
			break;
		default:
			finish(w, op, ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
				   "leadership cannot be handed over now");
			break;
	}
}

/*
 * A learner votes as soon as its log and its tables keep up: one whose tables
 * cannot be written (another schema) stays a learner.
 */
static void
promote_learners(Worker *w)
{
	const RaftConf *conf = raft_conf(w->raft);

	if (conf->joint || conf->index > raft_commit_index(w->raft))
		return;
	for (uint32 i = 0; i < conf->nmembers; i++)
	{
		const RaftMember *m = &conf->members[i];
		PeerInfo   *peer;
		RaftConf	target;

		if (!m->learner || !raft_caught_up(w->raft, m->id))
			continue;
		peer = peer_find(w, m->id);
		if (peer == NULL || !peer->has_applied || peer->applied_index < conf->index ||
			peer->applied_index + PROMOTE_MAX_LAG < raft_commit_index(w->raft))
			continue;
		target = *conf;
		target.members[i].learner = false;
		target.members[i].voter = true;
		(void) propose_conf(w, NULL, &target);
		return;
	}
}

/* Would these voters be a majority by themselves, as things are? */
static bool
others_go_on(Worker *w, const RaftConf *target)
{
	int			voters = 0;
	int			active = 0;

	for (uint32 i = 0; i < target->nmembers; i++)
	{
		uint32		id = target->members[i].id;
		PeerInfo   *peer = peer_find(w, id);
		RaftPeerStatus status;

		if (!target->members[i].voter)
			continue;
		voters++;
		active += id == w->id || (peer != NULL && peer->image_index == 0 &&
								  raft_peer_status(w->raft, id, &status) && status.recent_active);
	}
	return voters >= 2 && active > voters / 2;
}

/*
 * A voter that loads an image acknowledges nothing until it has it, so the log
 * behind the image has to be kept here; and if more is written in that time than
 * quorum.max_log_size the image is of no use, and so would be the next. A learner
 * takes the log from the moment on at which its image begins (worker_image.c). So
 * that member goes on as a learner, which is promoted when it has caught up.
 * It could not be counted on before either: nobody else has to be up for that.
 */
static void
demote_outlasted(Worker *w)
{
	const RaftConf *conf = raft_conf(w->raft);

	if (conf->joint || conf->index > raft_commit_index(w->raft))
		return;
	for (uint32 i = 0; i < conf->nmembers; i++)
	{
		const RaftMember *m = &conf->members[i];
		PeerInfo   *peer = peer_find(w, m->id);
		RaftConf	target = *conf;

		if (!m->voter || m->id == w->id || peer == NULL || !peer->up ||
			!image_outlasts_log(w, peer))
			continue;
		target.members[i].learner = true;
		target.members[i].voter = false;
		if (!others_go_on(w, &target) || propose_conf(w, NULL, &target) != RAFT_OK)
			continue;
		ereport(LOG,
				(errmsg("member \"%s\" goes on as a learner: more is written than quorum.max_log_size holds while it loads an image",
						m->name),
				 errdetail("It votes again when it has caught up.")));
		return;
	}
}

/* ---------- elsewhere ---------- */

void
admin_reply(Worker *w, uint32 from, const uint8 *data, Size len)
{
	WireAdminReply reply;
	dlist_mutable_iter iter;

	if (len != sizeof(reply))
		return;
	memcpy(&reply, data, sizeof(reply));
	reply.message[sizeof(reply.message) - 1] = '\0';
	dlist_foreach_modify(iter, &w->admin)
	{
		AdminOp    *op = dlist_container(AdminOp, link, iter.cur);

		if (op->id != reply.id || op->asked_term == 0)
			continue;
		if (reply.sqlstate == ADMIN_TRY_AGAIN)
			op->asked_term = 0;
		else
			finish(w, op, reply.sqlstate, "%s", reply.message);
		return;
	}
}

static void
ask_leader(Worker *w, AdminOp *op)
{
	uint32		leader = raft_leader(w->raft);
	WireAdmin	wire;

	if (op->kind == ADMIN_TRANSFER && op->tried && leader != RAFT_NONE)
	{
		/* the leader that was asked leads no more: is it as wanted? */
		const RaftMember *m = raft_conf_find(raft_conf(w->raft), leader);

		if (op->target != leader && (op->name[0] == '\0' || (m && strcmp(m->name, op->name) == 0)))
		{
			finish(w, op, 0, "%s", "");
			return;
		}
	}
	if (leader == RAFT_NONE || op->asked_term == raft_term(w->raft) || !peer_is_up(w, leader))
		return;
	memset(&wire, 0, sizeof(wire));
	wire.id = op->id;
	wire.kind = op->kind;
	strlcpy(wire.name, op->name, sizeof(wire.name));
	strlcpy(wire.address, op->address, sizeof(wire.address));
	if (peer_send(w, leader, WIRE_ADMIN, &wire, sizeof(wire)))
	{
		op->asked_term = raft_term(w->raft);
		op->target = leader;
		op->tried = true;
	}
}

static void
step(Worker *w, AdminOp *op)
{
	if (w->now_us >= op->deadline_us)
	{
		finish(w, op, ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
			   "the cluster did not answer in time (is there a leader and a majority?)");
		return;
	}
	if (worker_leads(w))
	{
		if (op->origin != ADMIN_FROM_MEMBER && op->asked_term != 0)
		{
			/* it was for another leader to do; now it is for us */
			if (op->kind == ADMIN_TRANSFER && op->name[0] == '\0')
			{
				finish(w, op, 0, "%s", "");	/* done: we are the one */
				return;
			}
			op->asked_term = 0;
			op->target = 0;
		}
		if (!worker_leads_surely(w))
			return;
		switch (op->kind)
		{
			case ADMIN_ADD:
				lead_add(w, op);
				break;
			case ADMIN_REMOVE:
				lead_remove(w, op);
				break;
			case ADMIN_ADDRESS:
				lead_address(w, op);
				break;
			case ADMIN_TRANSFER:
				lead_transfer(w, op);
				break;
			case ADMIN_PROMOTE:
				break;
		}
		return;
	}

	/* a transfer that was under way here has made somebody leader */
	if (op->kind == ADMIN_TRANSFER && op->asked_term == 0 && op->target != 0)
	{
		if (raft_leader(w->raft) == RAFT_NONE)
			return;
		if (raft_leader(w->raft) == op->target)
			finish(w, op, 0, "%s", "");
		else
			finish(w, op, ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
				   "another member took over leadership");
		return;
	}
	if (op->origin == ADMIN_FROM_MEMBER || op->origin == ADMIN_FROM_REQUEST)
	{
		finish(w, op, ADMIN_TRY_AGAIN, "%s", "");
		return;
	}
	ask_leader(w, op);
}

/*
 * The address in the settings is another one than the cluster knows. The leader
 * cannot reach us to say that it leads: so whoever may be it is told, until the
 * configuration has it.
 */
void
admin_announce_address(Worker *w)
{
	const RaftMember *self = raft_conf_find(raft_conf(w->raft), w->id);
	WireAdmin	wire;

	if (self == NULL || !w->listening || strcmp(self->address, quorum_address) == 0 ||
		w->now_us < w->announce_us)
		return;
	if (w->announce_us == 0)
		ereport(LOG,
				(errmsg("address of this member changes from \"%s\" to \"%s\"",
						self->address, quorum_address)));
	w->announce_us = w->now_us + ANNOUNCE_US;
	if (worker_leads(w))
	{
		AdminOp    *op = new_op(w, ADMIN_ADDRESS, ADMIN_FROM_SELF);

		if (op == NULL)
			return;
		strlcpy(op->name, self->name, sizeof(op->name));
		strlcpy(op->address, quorum_address, sizeof(op->address));
		return;
	}
	memset(&wire, 0, sizeof(wire));
	wire.kind = ADMIN_ADDRESS;
	strlcpy(wire.name, self->name, sizeof(wire.name));
	strlcpy(wire.address, quorum_address, sizeof(wire.address));
	for (int i = 0; i < w->npeers; i++)
		if (w->peers[i].up)
			(void) peer_send(w, w->peers[i].id, WIRE_ADMIN, &wire, sizeof(wire));
}

void
admin_run(Worker *w)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &w->admin)
		step(w, dlist_container(AdminOp, link, iter.cur));
	if (worker_leads_surely(w) && raft_transferee(w->raft) == RAFT_NONE)
	{
		promote_learners(w);
		demote_outlasted(w);
	}
}

/* This member stops running: nobody is to wait for it. */
void
admin_drop(Worker *w)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &w->admin)
	{
		AdminOp    *op = dlist_container(AdminOp, link, iter.cur);

		if (op->origin == ADMIN_FROM_SESSION)
			answer_slot_va(op->procno, op->slot_token, ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
						   "this server takes no part in its cluster any more");
		op_free(op);
	}
	dlist_foreach_modify(iter, &w->outcomes)
	{
		OutcomeOp  *op = dlist_container(OutcomeOp, link, iter.cur);

		if (op->procno >= 0)
			answer_slot_va(op->procno, op->slot_token, 0, "unknown");
		dlist_delete(&op->link);
		free(op);
	}
}

/* Committed: this member is none any more. For good, so remember it. */
void
admin_became_removed(Worker *w)
{
	dlist_mutable_iter iter;
	int			fd = open(WORKER_REMOVED_FILE, O_CREAT | O_WRONLY, pg_file_create_mode);

	if (fd < 0 || pg_fsync(fd) != 0)
		ereport(LOG,
				(errcode_for_file_access(),
				 errmsg("could not write file \"%s\": %m", WORKER_REMOVED_FILE)));
	if (fd >= 0)
		close(fd);
	fsync_fname(NODE_DIRECTORY, true);
	dlist_foreach_modify(iter, &w->admin)
	{
		AdminOp    *op = dlist_container(AdminOp, link, iter.cur);

		if (op->kind == ADMIN_REMOVE && op->tried)
			finish(w, op, 0, "%s", "");
	}
	tp_flush(w->tp);
	worker_halt(w, "removed", 0, "this member was removed from its cluster");
	w->may_join_anew = true;
}
