/*-------------------------------------------------------------------------
 *
 * worker_force.c
 *		quorum.force_new_cluster(): the majority is lost for good, this member
 *		goes on alone.
 *
 * The log's metadata gets, in one write (rlog_force), a new cluster id and a
 * configuration as of the log's last entry whose only voter is this member. So
 * everything that this member's log holds counts as committed, also what it had
 * not been told to be: a client may have been told so. A crash leaves the old
 * state, and the call can be made again, or the new one, and this member leads.
 *
 * The new cluster id is what keeps the others out: a handshake between different
 * clusters is refused before anything else is said (handshake.c), in either
 * direction, whatever the others believe and however many they are.
 *
 * File pg_quorum/forced: the new cluster id (16 bytes), then a text that
 * quorum.status shows while this member is alone. Written before the metadata;
 * it counts only if the log has the same id. Nothing depends on it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <fcntl.h>
#include <unistd.h>

#include "common/file_perm.h"
#include "miscadmin.h"
#include "storage/fd.h"
#include "utils/timestamp.h"

#include "node/worker.h"

#define FORCED_FILE		NODE_DIRECTORY "/forced"
#define CLUSTER_ID_LEN	16

typedef struct ForcedFile
{
	uint8		cluster_id[CLUSTER_ID_LEN];
	char		text[NODE_DETAIL_LEN];
} ForcedFile;

static void
id_out(const uint8 *id, char *text)
{
	for (int i = 0; i < CLUSTER_ID_LEN; i++)
		text += sprintf(text, "%s%02x", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", id[i]);
}

static bool
write_file(const ForcedFile *file)
{
	int			fd = open(FORCED_FILE, O_CREAT | O_TRUNC | O_WRONLY | PG_BINARY, pg_file_create_mode);
	bool		good;

	if (fd < 0)
		return false;
	good = write(fd, file, sizeof(*file)) == (ssize_t) sizeof(*file) && pg_fsync(fd) == 0;
	close(fd);
	fsync_fname(NODE_DIRECTORY, true);
	return good;
}

/* Do enough voters answer to make a majority with this member? */
static bool
majority_is_up(Worker *w)
{
	const RaftConf *conf = raft_conf(w->raft);
	int			voters = 0;
	int			up = 0;

	for (uint32 i = 0; i < conf->nmembers; i++)
	{
		const RaftMember *m = &conf->members[i];

		if (!m->voter && !m->voter_outgoing)
			continue;
		voters++;
		up += m->id == w->id || peer_is_up(w, m->id);
	}
	return 2 * up > voters;
}

/* This member alone, a voter. False: it is in no configuration. */
static bool
make_conf(Worker *w, RaftConf *conf)
{
	const RaftConf *now = raft_conf(w->raft);
	const RaftMember *self = raft_conf_find(now, w->id);

	if (self == NULL)
		self = raft_conf_find(raft_committed_conf(w->raft), w->id);
	if (self == NULL)
		return false;
	memset(conf, 0, sizeof(*conf));
	conf->index = raft_last_index(w->raft);
	conf->next_id = Max(now->next_id, raft_committed_conf(w->raft)->next_id);
	conf->nmembers = 1;
	conf->members[0] = *self;
	conf->members[0].voter = true;
	conf->members[0].voter_outgoing = false;
	conf->members[0].learner = false;
	return true;
}

static bool
force_log(const uint8 *cluster_id, const RaftConf *conf, char *error)
{
	RlogOptions options = {.watch_type = RAFT_ENTRY_CONF};
	char		notice[RLOG_ERROR_LEN];
	RaftBuf    *buf = raft_conf_encode(conf);
	RlogStatus	status;
	Rlog	   *log;
	RlogIo	   *io;

	strlcpy(error, "out of memory", RLOG_ERROR_LEN);
	if (buf == NULL)
		return false;
	status = rlog_open(rlog_env_posix(), NODE_LOG_DIRECTORY, &options, &log, notice, error);
	if (status == RLOG_OK)
	{
		status = rlog_force(log, cluster_id, buf->data, buf->len);
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
	}
	raft_buf_unref(buf);
	return status == RLOG_OK;
}

static bool
may_force(Worker *w, int procno, RaftToken token, RaftConf *conf)
{
	if (w->state != WORKER_RUNNING)
		answer_request(w, procno, token, ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
					   "this server takes no part in a cluster%s%s", w->detail[0] ? ": " : "", w->detail);
	else if (raft_has_quorum(w->raft, w->now_us) || majority_is_up(w))
		answer_request(w, procno, token, ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
					   "a majority of the members can be reached");
	else if (pg_atomic_read_u32(&node_shared->apply_ready) != 0 &&
			 pg_atomic_read_u64(&node_shared->applied_index) > rlog_last_index(w->log))
		answer_request(w, procno, token, ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
					   "this member's log was damaged: it ends with entry " UINT64_FORMAT ", its tables are at entry "
					   UINT64_FORMAT, (uint64) rlog_last_index(w->log),
					   pg_atomic_read_u64(&node_shared->applied_index));
	else if (w->needs_image)
		answer_request(w, procno, token, ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
					   "this member's tables are incomplete: %s", w->detail);
	else if (!make_conf(w, conf))
		answer_request(w, procno, token, ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
					   "this server is not in the configuration of its cluster");
	else
		return true;
	return false;
}

/*
 * A session asks for it, and has made sure that there was no quorum for a while.
 * Blocks this worker for the time of a few writes, as founding a cluster does.
 */
void
force_begin(Worker *w, int procno, RaftToken token)
{
	RaftConf	conf;
	ForcedFile	file;
	char		old_id[64];
	char		new_id[64];
	char		error[RLOG_ERROR_LEN];

	if (!may_force(w, procno, token, &conf))
		return;
	memset(&file, 0, sizeof(file));
	if (!pg_strong_random(file.cluster_id, sizeof(file.cluster_id)))
	{
		answer_request(w, procno, token, ERRCODE_INTERNAL_ERROR, "could not get random bytes");
		return;
	}
	file.cluster_id[6] = (file.cluster_id[6] & 0x0f) | 0x40;
	file.cluster_id[8] = (file.cluster_id[8] & 0x3f) | 0x80;
	id_out(w->cluster_id, old_id);
	id_out(file.cluster_id, new_id);
	snprintf(file.text, sizeof(file.text),
			 "goes on alone behind entry " UINT64_FORMAT " of cluster %s (quorum.force_new_cluster)",
			 conf.index, old_id);
	if (!write_file(&file))
	{
		answer_request(w, procno, token, ERRCODE_IO_ERROR, "could not write file \"%s\": %s",
					   FORCED_FILE, strerror(errno));
		return;
	}
	ereport(LOG,
			(errmsg("this member is forced to go on alone as cluster %s", new_id),
			 errdetail("It was a member of cluster %s; everything up to entry " UINT64_FORMAT
					   " in its log counts as committed. Members of that cluster are refused from now on.",
					   old_id, conf.index)));
	worker_close(w);
	if (!force_log(file.cluster_id, &conf, error))
	{
		ereport(LOG, (errmsg("it could not be forced: %s", error)));
		worker_open(w);
		answer_request(w, procno, token, ERRCODE_IO_ERROR, "the log could not be changed: %s", error);
		return;
	}
	worker_open(w);
	if (w->state == WORKER_RUNNING)
		answer_request(w, procno, token, 0, "%s", "");
	else
		answer_request(w, procno, token, ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, "%s", w->detail);
}

/* At the start of a member: say what it is, while it is alone. */
void
force_show(Worker *w)
{
	ForcedFile	file;
	int			fd;
	ssize_t		len;

	w->forced_shown = false;
	if (raft_conf(w->raft)->nmembers != 1 || w->standing[0] != '\0')
		return;
	fd = open(FORCED_FILE, O_RDONLY | PG_BINARY);
	if (fd < 0)
		return;
	len = read(fd, &file, sizeof(file));
	close(fd);
	if (len != sizeof(file) || memcmp(file.cluster_id, w->cluster_id, sizeof(file.cluster_id)) != 0)
		return;
	file.text[sizeof(file.text) - 1] = '\0';
	strlcpy(w->standing, file.text, sizeof(w->standing));
	w->forced_shown = true;
	worker_set_detail(w, "");
}

/* The configuration changed. */
void
force_review(Worker *w)
{
	if (!w->forced_shown || raft_conf(w->raft)->nmembers == 1)
		return;
	w->forced_shown = false;
	w->standing[0] = '\0';
	worker_set_detail(w, "");
}
