/*-------------------------------------------------------------------------
 *
 * worker_join.c
 *		How a server becomes a member: it founds a cluster, or joins one.
 *
 * Joining: the new server asks a member, which sends it on to the leader; the
 * leader adds it as a learner and answers with the cluster's id, the new
 * member's id and the configuration. Then the new server makes its log and runs.
 * The instance id is made durable before the first question, so that a server
 * that asks again after a crash is recognised as the one that was added.
 *
 * Files, and what a crash leaves
 *		pg_quorum/instance	16 bytes, written once, before anything else
 *		pg_quorum/image		the mark (image.c): this server's tables are not what the
 *							log begins with. Alone it means nothing, and is written
 *							anew by the next try
 *		pg_quorum/log.new	a log being made; removed when seen at the next try
 *		pg_quorum/log		renamed from it when complete with its configuration:
 *							from then on this server is a member
 * For a server that was a member before: rejoin.c.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/file_perm.h"
#include "miscadmin.h"
#include "postmaster/postmaster.h"
#include "storage/fd.h"

#include "node/worker.h"

#define NEW_LOG_DIRECTORY	NODE_DIRECTORY "/log.new"
#define REQUEST_TIMEOUT_MS	15000
#define RETRY_US			INT64CONST(200000)
#define PATIENCE_US			INT64CONST(50000000)

typedef struct JoinOp
{
	int			procno;
	RaftToken	token;
	bool		replace;
	bool		probe;			/* only to know who is there */
	bool		anew;			/* was a member, or is a copy of one: its cluster */
	uint8		former_cluster[16];
	char		asked[NODE_ADDRESS_LEN];	/* the user's */
	char		address[NODE_ADDRESS_LEN];	/* where to ask now */
	bool		waiting;		/* a request is under way */
	int64		again_us;
	int64		deadline_us;

	/* the last answer */
	bool		answered;
	TpRefusal	status;
	char		error[TP_TEXT_LEN];
	uint8	   *reply;
	Size		reply_len;
} JoinOp;

/* ---------- on disk ---------- */

/* By rename; durable when it returns 0, else an errno. */
int
worker_write_file(const char *path, const void *data, Size len)
{
	char		tmp[MAXPGPATH];
	int			fd;
	int			save;

	snprintf(tmp, sizeof(tmp), "%s.tmp", path);
	fd = open(tmp, O_CREAT | O_TRUNC | O_WRONLY | PG_BINARY, pg_file_create_mode);
	if (fd < 0)
		return errno;
	errno = ENOSPC;				/* in case of a short write */
	if (write(fd, data, len) != (ssize_t) len || pg_fsync(fd) != 0)
	{
		save = errno;
		close(fd);
		return save;
	}
	close(fd);
	return durable_rename(tmp, path, LOG) == 0 ? 0 : (errno ? errno : EIO);
}

/* This data directory's id, made at the first use. */
static bool
own_instance(uint8 *instance, char *error)
{
	int			fd = open(WORKER_INSTANCE_FILE, O_RDONLY | PG_BINARY);
	int			failed;

	if (fd >= 0)
	{
		ssize_t		len = read(fd, instance, RAFT_INSTANCE_LEN);

		close(fd);
		if (len == RAFT_INSTANCE_LEN)
			return true;
	}
	if (mkdir(NODE_DIRECTORY, pg_dir_create_mode) == 0)
		fsync_fname(".", true);
	if (!pg_strong_random(instance, RAFT_INSTANCE_LEN))
	{
		strlcpy(error, "could not get random bytes", NODE_DETAIL_LEN);
		return false;
	}
	failed = worker_write_file(WORKER_INSTANCE_FILE, instance, RAFT_INSTANCE_LEN);
	if (failed != 0)
	{
		snprintf(error, NODE_DETAIL_LEN, "could not write file \"%s\": %s",
				 WORKER_INSTANCE_FILE, strerror(failed));
		return false;
	}
	return true;
}

static bool
save_first_conf(const RaftConf *conf, char *error)
{
	RlogOptions options = {.watch_type = RAFT_ENTRY_CONF};
	char		notice[RLOG_ERROR_LEN];
	RaftBuf    *buf;
	Rlog	   *log;
	RlogIo	   *io;
	RlogStatus	status;

	status = rlog_open(rlog_env_posix(), NEW_LOG_DIRECTORY, &options, &log, notice, error);
	if (status != RLOG_OK)
		return false;
	strlcpy(error, "out of memory", RLOG_ERROR_LEN);
	status = RLOG_NO_MEMORY;
	buf = raft_conf_encode(conf);
	if (buf != NULL)
		status = rlog_set_conf(log, buf->data, buf->len, 0);
	raft_buf_unref(buf);
	if (status == RLOG_OK && (io = rlog_io_begin(log)) != NULL)
	{
		rlog_io_run(io);
		status = rlog_io_done(log, io);
	}
	if (status != RLOG_OK)
	{
		const char *text = NULL;

		if (rlog_health(log, &text) != RLOG_OK && text != NULL)
			strlcpy(error, text, RLOG_ERROR_LEN);
	}
	rlog_close(log);
	return status == RLOG_OK;
}

/* Make the log of a new member: complete, or not there. */
static bool
make_log(const RlogIdentity *identity, const RaftConf *conf, bool anew, char *error)
{
	RlogOptions options = {.watch_type = RAFT_ENTRY_CONF};
	char		reason[RLOG_ERROR_LEN] = "";

	if (access(NEW_LOG_DIRECTORY, F_OK) == 0 && !rmtree(NEW_LOG_DIRECTORY, true))
		snprintf(reason, sizeof(reason), "could not remove directory \"%s\"", NEW_LOG_DIRECTORY);
	else if ((access(NODE_OUTCOME_DIRECTORY, F_OK) == 0 && !rmtree(NODE_OUTCOME_DIRECTORY, true)) ||
			 (access(NODE_OUTCOME_FETCHED, F_OK) == 0 && !rmtree(NODE_OUTCOME_FETCHED, true)))
		/* outcomes of a log that is no more */
		snprintf(reason, sizeof(reason), "could not remove directory \"%s\"", NODE_OUTCOME_DIRECTORY);
	else if (rlog_create(rlog_env_posix(), NEW_LOG_DIRECTORY, &options, identity,
						 reason) == RLOG_OK && save_first_conf(conf, reason))
	{
		if (anew ? rejoin_swap() : rename(NEW_LOG_DIRECTORY, NODE_LOG_DIRECTORY) == 0)
		{
			fsync_fname(NODE_DIRECTORY, true);
			return true;
		}
		snprintf(reason, sizeof(reason), "could not rename \"%s\": %s",
				 NEW_LOG_DIRECTORY, strerror(errno));
	}
	snprintf(error, NODE_DETAIL_LEN, "the log could not be created: %.200s", reason);
	return false;
}

/* ---------- what both ways have in common ---------- */

/* May this server become a member now? If not, the session has its answer. */
static bool
ready(Worker *w, int procno, RaftToken token)
{
	char		error[Max(TP_TEXT_LEN, NODE_DETAIL_LEN)];

	if (w->state == WORKER_RUNNING)
		answer_request(w, procno, token, ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
					   "this server is a member of a cluster already");
	else if (w->state == WORKER_HALTED && !w->may_join_anew)
		answer_request(w, procno, token, ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
					   "this server is, or was, a member of a cluster: %s", w->detail);
	else if (w->join != NULL)
		answer_request(w, procno, token, ERRCODE_OBJECT_IN_USE,
					   "this server is just joining a cluster");
	else if (!worker_address_is_safe(error) || !worker_load_credentials(w, error) ||
			 !(w->state == WORKER_HALTED ? rejoin_instance(w->instance, error) :
			   own_instance(w->instance, error)))
		answer_request(w, procno, token, ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, "%s", error);
	else
		return true;
	return false;
}

/* The log is there: run. */
static void
begin_membership(Worker *w, int procno, RaftToken token)
{
	worker_open(w);
	if (w->state == WORKER_RUNNING)
		answer_request(w, procno, token, 0, "%s", "");
	else
		answer_request(w, procno, token, ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
					   "%s", w->detail);
}

/* ---------- founding ---------- */

void
join_found(Worker *w, int procno, RaftToken token)
{
	RlogIdentity identity;
	RaftConf	conf;
	char		error[NODE_DETAIL_LEN];

	if (w->state == WORKER_HALTED)
	{
		answer_request(w, procno, token, ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
					   "this server is, or was, a member of a cluster: %s", w->detail);
		return;
	}
	if (!ready(w, procno, token))
		return;
	memset(&identity, 0, sizeof(identity));
	if (!pg_strong_random(identity.cluster_id, sizeof(identity.cluster_id)))
	{
		answer_request(w, procno, token, ERRCODE_INTERNAL_ERROR, "could not get random bytes");
		return;
	}
	/* a version 4 UUID */
	identity.cluster_id[6] = (identity.cluster_id[6] & 0x0f) | 0x40;
	identity.cluster_id[8] = (identity.cluster_id[8] & 0x3f) | 0x80;
	memcpy(identity.instance_id, w->instance, sizeof(identity.instance_id));
	identity.node_id = 1;

	memset(&conf, 0, sizeof(conf));
	conf.next_id = 2;
	conf.nmembers = 1;
	conf.members[0].id = 1;
	conf.members[0].voter = true;
	memcpy(conf.members[0].instance, w->instance, RAFT_INSTANCE_LEN);
	strlcpy(conf.members[0].name, quorum_node_name, sizeof(conf.members[0].name));
	strlcpy(conf.members[0].address, quorum_address, sizeof(conf.members[0].address));

	node_image_mark_remove();	/* of a try to join that came to nothing */
	if (!make_log(&identity, &conf, false, error))
	{
		answer_request(w, procno, token, ERRCODE_IO_ERROR, "%s", error);
		return;
	}
	begin_membership(w, procno, token);
}

/* ---------- joining: the new server ---------- */

static void
join_end(Worker *w)
{
	bool		anew = w->join->anew;

	free(w->join->reply);
	free(w->join);
	w->join = NULL;

	/* came to nothing: what it was it is again */
	if (anew && w->state == WORKER_HALTED)
		worker_open(w);
}

static JoinOp *
begin(Worker *w, int procno, RaftToken token, const char *address, Size len)
{
	JoinOp	   *op;

	if (!ready(w, procno, token))
		return NULL;
	op = calloc(1, sizeof(JoinOp));
	if (op == NULL || len < 1 || len >= sizeof(op->asked))
	{
		free(op);
		answer_request(w, procno, token, ERRCODE_INVALID_PARAMETER_VALUE, "invalid address");
		return NULL;
	}
	op->procno = procno;
	op->token = token;
	memcpy(op->asked, address, len);
	strlcpy(op->address, op->asked, sizeof(op->address));
	op->deadline_us = w->now_us + PATIENCE_US;
	op->anew = w->state == WORKER_HALTED;
	memcpy(op->former_cluster, w->cluster_id, sizeof(op->former_cluster));
	w->join = op;
	w->id = 0;
	memset(w->cluster_id, 0, sizeof(w->cluster_id));
	worker_set_identity(w);
	return op;
}

/* data: a byte (replace), then the address. */
void
join_begin(Worker *w, int procno, RaftToken token, const char *data, Size len)
{
	JoinOp	   *op = begin(w, procno, token, data + 1, len > 0 ? len - 1 : 0);

	if (op != NULL)
		op->replace = data[0] != 0;
}

/* Only ask who is there, and whether the name is free: nothing changes. */
void
join_probe(Worker *w, int procno, RaftToken token, const char *data, Size len)
{
	JoinOp	   *op = begin(w, procno, token, data + 1, len > 0 ? len - 1 : 0);

	if (op == NULL)
		return;
	op->replace = data[0] != 0;
	op->probe = true;
}

static void
answer_came(void *arg, TpRefusal status, const char *error, TpMessage *msg)
{
	Worker	   *w = arg;
	JoinOp	   *op = w->join;

	if (op == NULL)
		return;
	op->waiting = false;
	op->answered = true;
	op->status = status;
	strlcpy(op->error, error ? error : "", sizeof(op->error));
	free(op->reply);
	op->reply = NULL;
	if (status == TP_ACCEPT && msg != NULL)
	{
		op->reply_len = msg->len;
		op->reply = tp_message_steal(msg);
	}
}

static void
ask(Worker *w, JoinOp *op)
{
	WireJoin	join;

	memset(&join, 0, sizeof(join));
	join.version = WIRE_JOIN_VERSION;
	join.replace = op->replace;
	join.probe = op->probe;
	join.sequence_stride = quorum_sequence_stride;
	memcpy(join.instance, w->instance, sizeof(join.instance));
	strlcpy(join.name, quorum_node_name, sizeof(join.name));
	strlcpy(join.address, quorum_address, sizeof(join.address));
	op->answered = false;
	op->waiting = tp_request(w->tp, op->address, WIRE_JOIN, &join, sizeof(join),
							 REQUEST_TIMEOUT_MS, answer_came, w);
	if (!op->waiting)
	{
		op->answered = true;
		op->status = TP_REFUSED_INTERNAL;
		strlcpy(op->error, "the address cannot be used", sizeof(op->error));
	}
}

static void
try_again(Worker *w, JoinOp *op, const char *address)
{
	strlcpy(op->address, address, sizeof(op->address));
	op->again_us = w->now_us + RETRY_US;
	op->answered = false;
}

static void
became_member(Worker *w, JoinOp *op, const WireJoinReply *reply)
{
	RlogIdentity identity;
	RaftConf	conf;
	char		error[NODE_DETAIL_LEN];

	memset(&identity, 0, sizeof(identity));
	memcpy(identity.cluster_id, reply->cluster_id, sizeof(identity.cluster_id));
	memcpy(identity.instance_id, w->instance, sizeof(identity.instance_id));
	identity.node_id = reply->id;
	if (reply->id == 0 ||
		!raft_conf_decode(op->reply + sizeof(*reply), op->reply_len - sizeof(*reply), &conf) ||
		raft_conf_find(&conf, reply->id) == NULL)
		answer_request(w, op->procno, op->token, ERRCODE_PROTOCOL_VIOLATION,
					   "the answer of the cluster cannot be understood");
	else
	{
		NodeImagePoint wanted = {.index = reply->conf_index};

		/* the log is empty: nothing of it is committed here yet */
		conf.index = 0;
		if (!node_image_mark_write(IMAGE_WANTED, &wanted, error) || !make_log(&identity, &conf, op->anew, error))
			answer_request(w, op->procno, op->token, ERRCODE_IO_ERROR, "%s", error);
		else
			begin_membership(w, op->procno, op->token);
	}
	join_end(w);
}

static void
probed(Worker *w, JoinOp *op, const WireJoinReply *reply)
{
	NodeSqlAddress sql;

	memset(&sql, 0, sizeof(sql));
	strlcpy(sql.name, reply->name, sizeof(sql.name));
	image_sql_address(op->address, reply->socket_dir, reply->sql_port, &sql);
	LWLockAcquire(node_shared->status_lock, LW_EXCLUSIVE);
	node_shared->probed = sql;
	LWLockRelease(node_shared->status_lock);
	answer_request(w, op->procno, op->token, 0, "%s", "");
	join_end(w);
}

static void
look_at_answer(Worker *w, JoinOp *op)
{
	WireJoinReply reply;

	if (op->status == TP_REFUSED_NOT_READY ||
		(op->status == TP_REFUSED_INTERNAL && strcmp(op->address, op->asked) != 0))
	{
		/* the leader that we were sent to may have changed */
		try_again(w, op, op->asked);
		return;
	}
	if (op->status != TP_ACCEPT)
	{
		answer_request(w, op->procno, op->token, ERRCODE_CONNECTION_FAILURE,
					   "could not join the cluster at \"%s\": %s", op->address,
					   op->error[0] ? op->error : tp_refusal_text(op->status));
		join_end(w);
		return;
	}
	if (op->reply == NULL || op->reply_len < sizeof(reply))
	{
		answer_request(w, op->procno, op->token, ERRCODE_PROTOCOL_VIOLATION,
					   "the answer of \"%s\" cannot be understood", op->address);
		join_end(w);
		return;
	}
	memcpy(&reply, op->reply, sizeof(reply));
	reply.address[sizeof(reply.address) - 1] = '\0';
	reply.message[sizeof(reply.message) - 1] = '\0';
	reply.name[sizeof(reply.name) - 1] = '\0';
	reply.socket_dir[sizeof(reply.socket_dir) - 1] = '\0';
	if (reply.sqlstate == 0 && op->anew &&
		memcmp(reply.cluster_id, op->former_cluster, sizeof(reply.cluster_id)) != 0)
	{
		answer_request(w, op->procno, op->token, ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
					   "the replicated tables of this server are those of another cluster than the one at \"%s\"; "
					   "to join that one it needs a new data directory", op->address);
		join_end(w);
	}
	else if (reply.sqlstate == 0 && op->probe)
		probed(w, op, &reply);
	else if (reply.sqlstate == 0)
		became_member(w, op, &reply);
	else if (reply.sqlstate < 0)
		try_again(w, op, reply.address[0] ? reply.address : op->asked);
	else
	{
		answer_request(w, op->procno, op->token, reply.sqlstate, "%s", reply.message);
		join_end(w);
	}
}

void
join_run(Worker *w)
{
	JoinOp	   *op = w->join;

	if (op->answered)
	{
		look_at_answer(w, op);
		return;
	}
	if (op->waiting)
		return;
	if (w->now_us >= op->deadline_us)
	{
		answer_request(w, op->procno, op->token, ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
					   "the cluster at \"%s\" has no leader that could add a member", op->asked);
		join_end(w);
		return;
	}
	if (w->now_us >= op->again_us)
		ask(w, op);
}

/* ---------- joining: the member that is asked ---------- */

/* Who answers, and where its SQL port is. */
void
join_introduce(const Worker *w, WireJoinReply *reply)
{
	strlcpy(reply->name, quorum_node_name, sizeof(reply->name));
	reply->sql_port = PostPortNumber;
	image_socket_dir(reply->socket_dir, sizeof(reply->socket_dir));
	memcpy(reply->cluster_id, w->cluster_id, sizeof(reply->cluster_id));
}

static bool
is_taken(const Worker *w, const WireJoin *join)
{
	const RaftConf *conf = raft_conf(w->raft);

	for (uint32 i = 0; i < conf->nmembers; i++)
		if (strcmp(conf->members[i].name, join->name) == 0 &&
			memcmp(conf->members[i].instance, join->instance, RAFT_INSTANCE_LEN) != 0)
			return true;
	return false;
}

void
join_request(Worker *w, uint64 request, const uint8 *data, Size len)
{
	WireJoin	join;
	WireJoinReply reply;

	memset(&reply, 0, sizeof(reply));
	reply.sqlstate = ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE;
	memset(&join, 0, sizeof(join));
	if (len >= sizeof(uint32))
		memcpy(&join, data, Min(len, sizeof(join)));
	join.name[sizeof(join.name) - 1] = '\0';
	join.address[sizeof(join.address) - 1] = '\0';

	if (w->raft == NULL || w->leaving)
		strlcpy(reply.message, "the server that was asked takes no part in a cluster now",
				sizeof(reply.message));
	else if (join.version != WIRE_JOIN_VERSION || len != sizeof(join))
		strlcpy(reply.message, "the cluster runs another version of pg_quorum",
				sizeof(reply.message));
	else if (join.probe != 0 && join.replace == 0 && is_taken(w, &join))
	{
		reply.sqlstate = ERRCODE_DUPLICATE_OBJECT;
		snprintf(reply.message, sizeof(reply.message), JOIN_NAME_IS_TAKEN, join.name);
	}
	else if (join.probe != 0)
	{
		reply.sqlstate = 0;
		join_introduce(w, &reply);
	}
	else if (join.name[0] == '\0' || !tp_address_valid(join.address))
	{
		reply.sqlstate = ERRCODE_INVALID_PARAMETER_VALUE;
		strlcpy(reply.message, "name or address of the new member cannot be used",
				sizeof(reply.message));
	}
	else
	{
		admin_add(w, request, &join);
		return;
	}
	(void) tp_reply(w->tp, request, WIRE_JOIN_REPLY, &reply, sizeof(reply));
}
