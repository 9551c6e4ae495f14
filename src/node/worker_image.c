/*-------------------------------------------------------------------------
 *
 * worker_image.c
 *		Images, as far as the Raft worker has to do with them: when one is
 *		needed, and how the log goes on behind it.
 *
 * The apply worker loads it (replication/image.c). It is needed
 *	- by a server that has just joined: the mark on disk (image.c) says so;
 *	- where the leader's log does not reach back to this member's (out.install);
 *	- where this member's own log does not reach back to its tables.
 * Meanwhile no commit is published here and no proposal taken: the tables do
 * not move. When the image is in the tables, durably, the core is told
 * (raft_installed) and, if the log does not hold that entry, the log begins anew
 * behind it. Publishing goes on once that is durable, and the mark goes away
 * then: whatever happens before is taken up again by the next start.
 *
 * A learner's log may begin behind the image as soon as it is known which entry
 * the image will be of, before its rows are there: it counts for no majority.
 * Then the leader need not keep its log for as long as the copy takes. A voter
 * must not: what it acknowledged would rest on tables that it does not have. Where
 * the leader's log cannot wait for a voter, the leader makes it a learner
 * (worker_admin.c).
 *
 * Worker.image_* are the Raft worker's own; NodeShared.image_wanted and
 * image_least tell the apply worker.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "postmaster/postmaster.h"

#include "node/worker.h"

/* ---------- is one needed? ---------- */

static void
tell_apply_worker(Worker *w, uint64 least)
{
	bool		was = pg_atomic_read_u32(&node_shared->image_wanted) != 0;

	pg_atomic_write_u64(&node_shared->image_least, least);
	pg_write_barrier();
	pg_atomic_write_u32(&node_shared->image_wanted, !w->needs_image ? 0 : w->image_marked ? 2 : 1);
	if (was != w->needs_image)
		node_wake_proc(pg_atomic_read_u32(&node_shared->apply_proc));
}

/* The log is open: is there a mark? False: w is halted. */
bool
image_open(Worker *w)
{
	ImagePhase	phase;
	NodeImagePoint point;
	char		error[NODE_DETAIL_LEN];

	w->image_marked = node_image_mark_read(&phase, &point, error);
	if (!w->image_marked && error[0] != '\0')
	{
		worker_halt(w, "stopped", 0, "%s", error);
		return false;
	}
	w->image_least = w->image_marked && phase == IMAGE_WANTED ? point.index : 0;
	free(point.conf);
	w->needs_image = w->image_marked;
	w->image_offered = 0;
	tell_apply_worker(w, w->image_least);
	return true;
}

void
image_close(Worker *w)
{
	w->needs_image = false;
	w->image_marked = false;
	if (w->image_procno_set)
		answer_request(w, w->image_procno, w->image_token, ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
					   "this server takes no part in its cluster now");
	w->image_procno_set = false;
}

/* What the core says with each output. */
void
image_offered(Worker *w, const RaftOutput *out)
{
	uint64		offered = out->install ? out->install_index : 0;

	if (offered == w->image_offered)
		return;
	w->image_offered = offered;
	image_review(w);
}

/* Does this member need an image, as things are now? */
void
image_review(Worker *w)
{
	uint64		applied = pg_atomic_read_u64(&node_shared->applied_index);
	uint64		first = rlog_first_index(w->log);
	bool		ready = pg_atomic_read_u32(&node_shared->apply_ready) != 0;
	bool		behind = ready && applied + 1 < first;
	bool		loading = w->needs_image && pg_atomic_read_u64(&node_shared->image_hold) != 0;
	bool		needed = w->image_marked || w->image_offered > applied || behind || loading;
	char		detail[NODE_DETAIL_LEN];

	if (needed && !w->needs_image && !w->image_marked)
	{
		if (behind)
			snprintf(detail, sizeof(detail),
					 "this member needs a fresh image: its tables are at entry " UINT64_FORMAT
					 ", its log begins with " UINT64_FORMAT, applied, first);
		else
			snprintf(detail, sizeof(detail),
					 "this member needs a fresh image: the others' logs begin behind entry " UINT64_FORMAT,
					 w->image_offered);
		ereport(LOG, (errmsg("%s", detail)));
		worker_set_detail(w, detail);
	}
	if (!needed && w->needs_image)
		worker_set_detail(w, "");
	if (needed == w->needs_image && !needed)
		return;
	w->needs_image = needed;
	tell_apply_worker(w, Max(Max(w->image_least, w->image_offered), first - 1));
}

/* ---------- requests ---------- */

/* Source: the term of an entry, and the newest committed configuration. */
static void
position(Worker *w, int procno, RaftToken token, uint64 index)
{
	RaftBuf    *conf;
	NodeAnswer	answer;

	if (w->state != WORKER_RUNNING || w->needs_image)
	{
		answer_request(w, procno, token, ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
					   "this member cannot give an image now%s%s",
					   w->detail[0] ? ": " : "", w->detail);
		return;
	}
	conf = raft_conf_encode(raft_committed_conf(w->raft));
	if (conf == NULL || conf->len > sizeof(node_shared->image_conf))
	{
		raft_buf_unref(conf);
		answer_request(w, procno, token, ERRCODE_OUT_OF_MEMORY, "out of memory");
		return;
	}
	LWLockAcquire(node_shared->status_lock, LW_EXCLUSIVE);
	node_shared->image_conf_index = raft_committed_conf(w->raft)->index;
	node_shared->image_conf_len = conf->len;
	memcpy(node_shared->image_conf, conf->data, conf->len);
	LWLockRelease(node_shared->status_lock);
	raft_buf_unref(conf);
	memset(&answer, 0, sizeof(answer));
	answer.verdict = NODE_COMMITTED;
	answer.index = raft_term_at(w->raft, index);
	node_answer_slot(procno, token, &answer, 0);
}

/* The log is to begin behind that entry, unless it holds it. */
static RaftStatus
install(Worker *w, uint64 index, uint64 term, const RaftConf *conf)
{
	if (index <= raft_commit_index(w->raft))
		return index + 1 >= rlog_first_index(w->log) ? RAFT_OK : RAFT_INVALID;
	return raft_installed(w->raft, index, term, conf, w->now_us);
}

/*
 * The log may begin behind this image before its rows are here. The image's
 * configuration is a committed one: where it has this member as a learner nothing
 * rests on what this member acknowledged when it was a voter, for a majority of the
 * others has all of that. From then on the mark says that the tables come.
 */
static void
begin_log_early(Worker *w, uint64 index, uint64 term, const RaftConf *conf)
{
	const RaftMember *self = raft_conf_find(conf, w->id);
	NodeImagePoint wanted = {.index = index};
	char		error[NODE_DETAIL_LEN];

	if (!w->image_marked)
	{
		if (self == NULL || !self->learner || conf->joint)
			return;
		if (!node_image_mark_write(IMAGE_WANTED, &wanted, error))
		{
			ereport(LOG, (errmsg("%s", error)));
			return;
		}
		w->image_marked = true;
		w->image_least = index;
		image_review(w);
	}
	(void) install(w, index, term, conf);
}

static bool
is_learner(const Worker *w)
{
	const RaftMember *self = raft_conf_find(raft_committed_conf(w->raft), w->id);
	const RaftMember *now = raft_conf_find(raft_conf(w->raft), w->id);

	return self != NULL && self->learner && now != NULL && now->learner;
}

void
image_request(Worker *w, int procno, RaftToken token, NodeRequestKind kind,
			  const char *data, Size len)
{
	uint64		index;
	uint64		term;
	uint64		conf_index;
	RaftConf	conf;

	if (kind == NODE_REQ_IMAGE_AT)
	{
		memcpy(&index, data, sizeof(index));
		position(w, procno, token, index);
		return;
	}
	if (w->state != WORKER_RUNNING)
	{
		answer_request(w, procno, token, ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
					   "this server takes no part in its cluster now");
		return;
	}
	memcpy(&index, data, sizeof(uint64));
	memcpy(&term, data + sizeof(uint64), sizeof(uint64));
	memcpy(&conf_index, data + 2 * sizeof(uint64), sizeof(uint64));
	if (len == 3 * sizeof(uint64))
		conf = *raft_committed_conf(w->raft);	/* the one that it was given when it joined */
	else if (!raft_conf_decode(data + 3 * sizeof(uint64), len - 3 * sizeof(uint64), &conf))
	{
		answer_request(w, procno, token, ERRCODE_DATA_CORRUPTED,
					   "the configuration that came with the image cannot be read");
		return;
	}
	conf.index = conf_index;
	if (kind == NODE_REQ_IMAGE_BEGUN && !w->needs_image)
	{
		answer_request(w, procno, token, ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
					   "no image is needed any more");
		return;
	}
	if (kind == NODE_REQ_IMAGE_BEGUN)
	{
		w->ping_us = 0;			/* let the others know what to keep */
		if (is_learner(w) || !w->image_marked)
			begin_log_early(w, index, term, &conf);
		answer_request(w, procno, token, 0, "%s", "");
		return;
	}
	if (install(w, index, term, &conf) != RAFT_OK)
	{
		answer_request(w, procno, token, ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
					   "the image at entry " UINT64_FORMAT " does not go with this member's log", index);
		return;
	}

	/* answered when the log is as durable as the tables (image_run) */
	w->image_procno_set = true;
	w->image_procno = procno;
	w->image_token = token;
	w->image_index = index;
	w->image_driven = false;
}

/* Called with every turn, after the core's output was dealt with. */
void
image_run(Worker *w)
{
	if (!w->image_procno_set)
		return;

	/* what raft_installed() led to goes out with the next output, and is written */
	if (!w->image_driven)
	{
		w->image_driven = true;
		return;
	}
	if (w->batch.writes || w->io != NULL || rlog_io_busy(w->log))
		return;
	if (w->image_index + 1 < rlog_first_index(w->log) || w->image_index > rlog_last_index(w->log))
		return;
	pending_jump(w, w->image_index);
	w->committed = Max(w->committed, w->image_index);
	if (pg_atomic_read_u64(&node_shared->applied_index) < w->image_index)
		pg_atomic_write_u64(&node_shared->applied_index, w->image_index);
	if (pg_atomic_read_u64(&node_shared->commit_index) < w->image_index)
		pg_atomic_write_u64(&node_shared->commit_index, w->image_index);
	pg_atomic_write_u64(&node_shared->image_hold, 0);
	node_image_mark_remove();
	w->image_marked = false;
	w->image_least = 0;
	w->image_procno_set = false;
	ereport(LOG,
			(errmsg("this member has an image of entry " UINT64_FORMAT " and goes on from there",
					w->image_index)));
	image_review(w);
	worker_set_detail(w, "");
	w->status_us = 0;
	w->status_dirty = true;
	w->ping_us = 0;
	answer_request(w, w->image_procno, w->image_token, 0, "%s", "");
}

/* ---------- where this server's SQL port is ---------- */

static bool
is_loopback(const char *host)
{
	return strcmp(host, "::1") == 0 || strcmp(host, "localhost") == 0 ||
		(strncmp(host, "127.", 4) == 0 && strspn(host, "0123456789.") == strlen(host));
}

/* The first directory of unix_socket_directories; empty when there is none. */
void
image_socket_dir(char *dir, Size size)
{
	const char *list = Unix_socket_directories ? Unix_socket_directories : "";
	char		first[MAXPGPATH];
	Size		len;

	while (*list == ' ' || *list == '"')
		list++;
	len = strcspn(list, ",\"");
	while (len > 0 && list[len - 1] == ' ')
		len--;
	snprintf(first, sizeof(first), "%.*s", (int) Min(len, sizeof(first) - 1), list);
	if (first[0] == '\0' || first[0] == '/' || first[0] == '@')
		strlcpy(dir, first, size);
	else
		snprintf(dir, size, "%s/%s", DataDir, first);
}

/* How the member with that Raft address and these announcements is reached. */
void
image_sql_address(const char *address, const char *socket_dir, uint32 port, NodeSqlAddress *sql)
{
	char		host[NODE_ADDRESS_LEN];
	int			raft_port;

	sql->port = port;
	if (!node_parse_address(address, host, sizeof(host), &raft_port))
		sql->host[0] = '\0';
	else if (is_loopback(host) && socket_dir[0] != '\0')
		strlcpy(sql->host, socket_dir, sizeof(sql->host));
	else
		strlcpy(sql->host, host, sizeof(sql->host));
}
