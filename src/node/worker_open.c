/*-------------------------------------------------------------------------
 *
 * worker_open.c
 *		From the log on disk to a running core, and back.
 *
 * worker_open() is safe to call again and again: it ends in one of
 *		WORKER_ALONE	there is no log: no cluster here yet
 *		WORKER_RUNNING
 *		WORKER_HALTED	a member that takes no part; quorum.status says why
 * A setting that is in the way (name, address without a secret, ...) halts, and
 * a reload of the configuration tries again.
 *
 * What is read again at start: the newest WORKER_FEED_ENTRIES entries, for the
 * certification map and the tokens; and every configuration above the saved one.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <sys/stat.h>
#include <unistd.h>

#include "common/file_perm.h"
#include "miscadmin.h"
#include "utils/guc.h"

#include "compat.h"
#include "node/worker.h"

#define LISTEN_RETRY_US		INT64CONST(1000000)

/* ---------- halting ---------- */

void
worker_set_detail(Worker *w, const char *detail)
{
	if (detail[0] == '\0')
		detail = w->standing;
	if (strcmp(w->detail, detail) == 0)
		return;
	strlcpy(w->detail, detail, sizeof(w->detail));
	w->status_dirty = true;
	w->status_us = 0;
}

/*
 * Take no part from now on; the reason goes to the log and to quorum.status.
 * retry_us: try again after that time, 0 never (but at a reload).
 */
void
worker_halt(Worker *w, const char *role, int64 retry_us, const char *fmt,...)
{
	char		detail[NODE_DETAIL_LEN];
	bool		news;
	va_list		args;

	va_start(args, fmt);
	vsnprintf(detail, sizeof(detail), fmt, args);
	va_end(args);

	news = strcmp(detail, w->detail) != 0;
	worker_close(w);
	w->state = WORKER_HALTED;
	w->halted_role = role;
	w->retry_open_us = retry_us > 0 ? w->now_us + retry_us : 0;
	worker_set_detail(w, detail);
	pg_atomic_write_u32(&node_shared->membership,
						strcmp(role, "removed") == 0 ? NODE_REMOVED : NODE_FENCED);
	if (news)
		ereport(LOG,
				(errmsg("this server takes no part in its cluster"),
				 errdetail("%s", detail)));
}

/*
 * Undo worker_open. What sessions wait for stays queued, for when this member
 * runs again.
 */
void
worker_close(Worker *w)
{
	Raft	   *raft = w->raft;

	pg_atomic_write_u32(&node_shared->is_leader, 0);
	pg_atomic_write_u32(&node_shared->has_quorum, 0);
	w->raft = NULL;				/* callbacks do nothing from here on */
	lock_forget(w);
	read_forget(w);
	io_wait(w);
	io_batch_clear(&w->batch);
	io_batch_clear(&w->inflight);
	if (raft != NULL)
		raft_free(raft);
	if (w->reader != NULL)
		rlog_reader_close(w->reader);
	w->reader = NULL;
	if (w->log != NULL)
	{
		if (rlog_health(w->log, NULL) == RLOG_IO_ERROR)
			w->log_failed = true;
		rlog_close(w->log);
	}
	w->log = NULL;
	tp_flush(w->tp);
	tp_unlisten(w->tp);
	w->listening = false;
	for (int i = 0; i < w->npeers; i++)
		tp_peer_remove(w->tp, w->peers[i].id);
	w->npeers = 0;
	pending_forget_log(w);
	remote_drop(w);
	admin_drop(w);
	applied_drop(w, "this server takes no part in its cluster any more");
	w->committed = 0;
	w->fed_from = w->fed_to = 0;
	image_close(w);
	w->muted_until = 0;
	w->recovering = false;
	w->standing[0] = '\0';
	if (w->state == WORKER_RUNNING)
		w->state = WORKER_HALTED;
	w->status_dirty = true;
}

/* ---------- settings that can be in the way ---------- */

/* What a setting of ours says, or else PostgreSQL's setting of this name. */
static const char *
or_server_s(const char *own, const char *name)
{
	const char *server_s;

	if (own != NULL && own[0] != '\0')
		return own;
	server_s = GetConfigOption(name, true, false);
	return server_s != NULL ? server_s : "";
}

/* The transport has a certificate. */
static bool tls_in_use = false;

static bool
load_tls(Worker *w, char *error)
{
	const char *cert = or_server_s(quorum_ssl_cert_file, "ssl_cert_file");
	const char *key = or_server_s(quorum_ssl_key_file, "ssl_key_file");
	const char *ca = or_server_s(quorum_ssl_ca_file, "ssl_ca_file");
	TpTls	   *tls;

	if (quorum_ssl == QUORUM_SSL_OFF)
	{
		tp_set_tls(w->tp, NULL);
		tls_in_use = false;
		return true;
	}
	if (ca[0] == '\0')
	{
		strlcpy(error, "quorum.ssl needs quorum.ssl_ca_file or ssl_ca_file, by which other members are known",
				TP_TEXT_LEN);
		return false;
	}
	tls = tp_tls_load(cert, key, ca, error);
	if (tls == NULL)
		return false;
	tp_set_tls(w->tp, tls);
	tls_in_use = true;
	return true;
}

static bool
load_secret(Worker *w, char *error)
{
	uint8_t		secret[TP_SECRET_MAX_BYTES];
	size_t		len = 0;

	error[0] = '\0';
	if (quorum_secret_file != NULL && quorum_secret_file[0] != '\0')
	{
		char		reason[TP_TEXT_LEN] = "";

		if (tp_read_secret_file(quorum_secret_file, secret, &len, reason) != TP_SECRET_OK)
		{
			strlcpy(error, reason, TP_TEXT_LEN);
			return false;
		}
	}
	tp_set_secret(w->tp, secret, len);
	explicit_bzero(secret, sizeof(secret));
	return true;
}

/* Give the transport secret and certificate. False: why not is in error (TP_TEXT_LEN). */
bool
worker_load_credentials(Worker *w, char *error)
{
	error[0] = '\0';
	return load_secret(w, error) && load_tls(w, error);
}

/*
 * The same while members are connected: files that are just being replaced, or
 * were badly, leave the certificate that was read before in use, as PostgreSQL's
 * own do.
 */
static bool
reload_credentials(Worker *w, char *error)
{
	error[0] = '\0';
	if (!load_secret(w, error))
		return false;
	if (load_tls(w, error))
		return true;
	if (!tls_in_use)
		return false;
	ereport(LOG,
			(errmsg("could not reload the certificate of this member, the former one stays in use: %s", error)));
	return true;
}

static void
core_config(RaftConfig *config)
{
	raft_config_default(config);
	config->heartbeat_interval_us = (int64) quorum_heartbeat_interval_ms * 1000;
	config->election_timeout_us =
		(int64) Max(quorum_election_timeout_ms, 3 * quorum_heartbeat_interval_ms) * 1000;
	config->lease_reads = quorum_leader_lease;
}

/* The configuration files were read again. */
void
worker_configure(Worker *w)
{
	RaftConfig	config;
	char		error[TP_TEXT_LEN];

	if (w->state == WORKER_HALTED)
	{
		worker_open(w);
		return;
	}
	if (w->state != WORKER_RUNNING)
		return;
	if (!reload_credentials(w, error))
	{
		worker_halt(w, "stopped", 0, "%s", error);
		return;
	}
	core_config(&config);
	config.id = w->id;
	memcpy(config.instance, w->instance, sizeof(config.instance));
	raft_set_config(w->raft, &config);
}

/* ---------- listening ---------- */

static void
listened(void *user, TpListenStatus status, const char *error)
{
	Worker	   *w = user;

	if (status == TP_LISTEN_OK)
	{
		if (w->listen_logged)
			ereport(LOG, (errmsg("listening for members on \"%s\"", quorum_address)));
		if (w->listen_logged)
			worker_set_detail(w, "");
		w->listening = true;
		w->listen_logged = false;
		return;
	}
	w->listening = false;
	w->listen_retry_us = w->now_us + LISTEN_RETRY_US;
	if (!w->listen_logged)
	{
		char		detail[NODE_DETAIL_LEN];

		snprintf(detail, sizeof(detail), "could not listen on quorum.address \"%s\": %.120s",
				 quorum_address, error);
		ereport(LOG,
				(errmsg("%s", detail),
				 errdetail("This member cannot be reached by the others; it goes on trying.")));
		worker_set_detail(w, detail);
	}
	w->listen_logged = true;
}

void
worker_listen(Worker *w)
{
	w->listen_retry_us = w->now_us + 10 * LISTEN_RETRY_US;
	tp_listen(w->tp, quorum_address, listened);
}

/* ---------- what is on disk ---------- */

static bool
decode_record_conf(const RlogRecord *rec, RaftConf *conf)
{
	if (rec->type != RAFT_ENTRY_CONF || !raft_conf_decode(rec->data, rec->len, conf))
		return false;
	conf->index = rec->index;
	return true;
}

/* Configurations in the log above the saved one. False: w is halted. */
static bool
load_confs(Worker *w, uint64 as_of, RaftConf **confs, size_t *nconfs)
{
	const uint64_t *indexes;
	size_t		n = rlog_watched(w->log, &indexes);
	uint64		last = rlog_last_index(w->log);

	*nconfs = 0;
	*confs = calloc(n + 1, sizeof(RaftConf));
	for (size_t i = 0; i < n && *confs != NULL; i++)
	{
		RlogRecord	rec;
		char		error[RLOG_ERROR_LEN] = "";

		if (indexes[i] <= as_of)
			continue;
		if (rlog_reader_get(w->reader, indexes[i], last, &rec, error) != RLOG_OK ||
			!decode_record_conf(&rec, &(*confs)[*nconfs]))
		{
			worker_halt(w, "stopped", 0, "entry " UINT64_FORMAT " of the log cannot be read: %s",
						(uint64) indexes[i], error[0] ? error : "no configuration");
			return false;
		}
		(*nconfs)++;
	}
	return *confs != NULL;
}

/* Tell the layer above, and the proposals in flight, what the log ends with. */
static bool
feed_tail(Worker *w)
{
	uint64		last = rlog_last_index(w->log);
	uint64		first = rlog_first_index(w->log);

	if (last >= WORKER_FEED_ENTRIES)
		first = Max(first, last - WORKER_FEED_ENTRIES + 1);
	if (node_ops && node_ops->truncated)
		node_ops->truncated(1);
	outcome_truncated(w, 1);
	if (node_ops && node_ops->coverage_starts)
		node_ops->coverage_starts(first);
	lock_truncated(w, 1);
	lock_coverage_starts(w, first);
	w->rows_index = first - 1;
	for (uint64 i = first; i <= last; i++)
	{
		RlogRecord	rec;
		RaftToken	token;
		RaftStamp	stamp;
		char		error[RLOG_ERROR_LEN] = "";

		if (rlog_reader_get(w->reader, i, last, &rec, error) != RLOG_OK)
		{
			worker_halt(w, "stopped", 0, "entry " UINT64_FORMAT " of the log cannot be read: %s",
						i, error);
			return false;
		}
		memcpy(&token, rec.token, sizeof(token));
		memcpy(&stamp, rec.stamp, sizeof(stamp));
		drive_note_appended(w, i, token, stamp, rec.type, rec.data, rec.len, NULL);
		if ((i & 1023) == 0)
			CHECK_FOR_INTERRUPTS();
	}
	return true;
}

static bool
open_log(Worker *w)
{
	RlogOptions options = {.watch_type = RAFT_ENTRY_CONF};
	char		notice[RLOG_ERROR_LEN] = "";
	char		error[RLOG_ERROR_LEN] = "";
	RlogStatus	status;

	status = rlog_open(rlog_env_posix(), NODE_LOG_DIRECTORY, &options, &w->log, notice, error);
	if (status == RLOG_NOT_FOUND)
	{
		w->state = WORKER_ALONE;
		w->retry_open_us = 0;
		worker_set_detail(w, "");
		pg_atomic_write_u32(&node_shared->membership, NODE_NONE);
		return false;
	}
	if (status == RLOG_DAMAGED)
	{
		if (salvage_open(w, &options, error) != RLOG_OK)
			return false;
	}
	else if (status != RLOG_OK)
	{
		w->log = NULL;
		worker_halt(w, "stopped", 2 * INT64CONST(1000000), "the log cannot be opened: %s", error);
		return false;
	}
	if (notice[0] != '\0')
		ereport(LOG, (errmsg("%s", notice)));
	status = rlog_reader_open(rlog_env_posix(), NODE_LOG_DIRECTORY, &w->reader, error);
	if (status != RLOG_OK)
	{
		w->reader = NULL;
		worker_halt(w, "stopped", 2 * INT64CONST(1000000), "the log cannot be read: %s", error);
		return false;
	}
	return true;
}

static bool
create_core(Worker *w)
{
	RaftConfig	config;
	RaftDisk	disk;
	RaftConf   *confs = NULL;
	const void *saved;
	const RlogTermRun *runs;
	RaftTermRun *own_runs;
	size_t		len;
	uint64_t	as_of = 0;
	RaftStatus	status = RAFT_NO_MEMORY;

	memset(&disk, 0, sizeof(disk));
	core_config(&config);
	config.id = w->id;
	memcpy(config.instance, w->instance, sizeof(config.instance));

	rlog_hard_state(w->log, &disk.hard.term, &disk.hard.vote, &disk.hard.commit);
	disk.first_index = rlog_first_index(w->log);
	disk.prev_term = rlog_prev_term(w->log);
	disk.last_index = rlog_last_index(w->log);
	disk.distrusted_until = rlog_distrusted_until(w->log);
	saved = rlog_conf(w->log, &len, &as_of);
	if (saved == NULL || !raft_conf_decode(saved, len, &disk.conf))
	{
		worker_halt(w, "stopped", 0, "the log's metadata holds no configuration");
		return false;
	}
	disk.conf.index = as_of;
	disk.nruns = rlog_term_runs(w->log, &runs);
	own_runs = malloc(sizeof(RaftTermRun) * (disk.nruns + 1));
	for (size_t i = 0; own_runs != NULL && i < disk.nruns; i++)
		own_runs[i] = (RaftTermRun) {runs[i].first_index, runs[i].term};
	disk.runs = own_runs;
	if (own_runs != NULL && load_confs(w, as_of, &confs, &disk.nconfs))
	{
		disk.confs = confs;
		status = raft_create(&config, &disk, w->now_us, worker_entropy(w), &w->raft);
	}
	free(own_runs);
	free(confs);
	if (w->state == WORKER_HALTED && w->log == NULL)
		return false;
	if (status != RAFT_OK)
	{
		w->raft = NULL;
		if (status == RAFT_FENCED)
			worker_halt(w, "fenced", 0,
						"the log contradicts itself: it ends with entry " UINT64_FORMAT
						", entries up to " UINT64_FORMAT " were committed",
						(uint64) disk.last_index, (uint64) disk.hard.commit);
		else
			worker_halt(w, "stopped", 2 * INT64CONST(1000000), "out of memory");
		return false;
	}
	w->committed = Min(raft_commit_index(w->raft), disk.last_index);
	return true;
}

/* Is there something in the settings that keeps this member out? */
static bool
settings_fit(Worker *w)
{
	const RaftMember *self = raft_conf_find(raft_conf(w->raft), w->id);

	if (self != NULL && strcmp(self->name, quorum_node_name) != 0)
	{
		worker_halt(w, "stopped", 0,
					"quorum.node_name is \"%s\", but the cluster knows this member as \"%s\"",
					quorum_node_name, self->name);
		return false;
	}
	return true;
}

/*
 * A copy of another member's data directory, or one whose name was changed. The
 * log is not looked at: copied while it was written, it may be torn.
 */
static bool
is_copy(Worker *w)
{
	RejoinMember member;

	if (!rejoin_read_member(&member) || strcmp(member.name, quorum_node_name) == 0 ||
		access(NODE_LOG_DIRECTORY, F_OK) != 0)
		return false;
	memcpy(w->cluster_id, member.cluster_id, sizeof(w->cluster_id));
	w->id = member.id;
	pg_atomic_write_u32(&node_shared->id, w->id);
	worker_halt(w, "stopped", 0,
				"quorum.node_name is \"%s\", but this data directory is that of member \"%s\", or a copy of it; quorum.join_cluster makes a copy a new member",
				quorum_node_name, member.name);
	w->may_join_anew = true;
	return true;
}

static bool
file_exists(const char *path)
{
	return access(path, F_OK) == 0;
}

void
worker_set_identity(Worker *w)
{
	TpIdentity	self;

	memset(&self, 0, sizeof(self));
	memcpy(self.cluster_id, w->cluster_id, sizeof(self.cluster_id));
	memcpy(self.instance_id, w->instance, sizeof(self.instance_id));
	self.member_id = w->id;
	strlcpy(self.name, quorum_node_name, sizeof(self.name));
	tp_set_identity(w->tp, &self);
}

/* An address that is not loopback wants TLS or a secret. False: why (NODE_DETAIL_LEN). */
bool
worker_address_is_safe(char *why)
{
	char		host[NODE_ADDRESS_LEN];
	int			port;

	if (quorum_ssl == QUORUM_SSL_REQUIRE ||
		(quorum_secret_file != NULL && quorum_secret_file[0] != '\0'))
		return true;
	if (!node_parse_address(quorum_address, host, sizeof(host), &port))
		return true;			/* tp_listen says more */
	if (strcmp(host, "::1") == 0 || strcmp(host, "localhost") == 0 ||
		(strncmp(host, "127.", 4) == 0 && strspn(host, "0123456789.") == strlen(host)))
		return true;
	snprintf(why, NODE_DETAIL_LEN,
			 "quorum.address \"%.100s\" is not a loopback address: it needs quorum.ssl or quorum.secret_file",
			 quorum_address);
	return false;
}

void
worker_open(Worker *w)
{
	const RlogIdentity *identity;
	const RaftMember *self;
	char		error[Max(TP_TEXT_LEN, NODE_DETAIL_LEN)];

	Assert(w->raft == NULL && w->log == NULL);
	w->state = WORKER_HALTED;
	w->retry_open_us = 0;
	w->may_join_anew = false;
	if (w->log_failed)
		return;					/* a failed sync cannot be trusted until a restart */
	if (is_copy(w) || !open_log(w))
		return;
	identity = rlog_identity(w->log);
	memcpy(w->cluster_id, identity->cluster_id, sizeof(w->cluster_id));
	memcpy(w->instance, identity->instance_id, sizeof(w->instance));
	w->id = identity->node_id;
	pg_atomic_write_u32(&node_shared->id, w->id);
	if (file_exists(WORKER_REMOVED_FILE))
	{
		worker_halt(w, "removed", 0, "this member was removed from its cluster");
		w->may_join_anew = true;
		return;
	}
	if (!worker_address_is_safe(error) || !worker_load_credentials(w, error))
	{
		worker_halt(w, "stopped", 0, "%s", error);
		return;
	}
	if (!create_core(w) || !settings_fit(w) || !image_open(w))
		return;

	/* counted once a start of the server: the token counter goes on */
	if (pg_atomic_read_u32(&node_shared->boot) == 0)
		pg_atomic_write_u32(&node_shared->boot, boot_count_start());
	if (!feed_tail(w))
		return;

	w->state = WORKER_RUNNING;
	rejoin_write_member(w);
	w->deadline_us = w->now_us;
	w->muted_until = 0;
	w->probation_until_us = 0;
	for (int i = 0; i < raft_conf(w->raft)->nmembers; i++)
		if (raft_conf(w->raft)->members[i].voter && raft_conf(w->raft)->members[i].id != w->id)
			w->probation_until_us = w->now_us +
				(int64) Max(quorum_election_timeout_ms, 3 * quorum_heartbeat_interval_ms) * 1000;
	w->conf_dirty = true;
	w->health = RLOG_OK;
	w->announce_us = 0;
	w->listen_logged = false;
	worker_set_detail(w, "");
	salvage_begin(w);
	force_show(w);
	self = raft_conf_find(raft_conf(w->raft), w->id);
	pg_atomic_write_u32(&node_shared->seq_slot, self != NULL ? self->seq_slot + 1 : 0);
	clock_set_node(w->id);
	worker_set_identity(w);
	peer_sync(w);
	worker_listen(w);
	status_progress(w);
	pg_atomic_write_u32(&node_shared->membership, NODE_MEMBER);

	/* alone: there is nobody to wait for */
	if (w->probation_until_us == 0)
		raft_campaign(w->raft, w->now_us);
	w->status_dirty = true;
	w->status_us = 0;
	ereport(LOG,
			(errmsg("member %u of the cluster starts with entries " UINT64_FORMAT " to " UINT64_FORMAT
					" in its log", w->id,
					(uint64) rlog_first_index(w->log), (uint64) rlog_last_index(w->log))));
}

/* Save the committed configuration: a start looks for others only above it. */
RlogStatus
worker_save_conf(Worker *w)
{
	RaftBuf    *buf = raft_conf_encode(raft_committed_conf(w->raft));
	RlogStatus	status;

	if (buf == NULL)
		return RLOG_NO_MEMORY;
	status = rlog_set_conf(w->log, buf->data, buf->len, raft_committed_conf(w->raft)->index);
	if (status == RLOG_OK)
		w->batch.writes = true;
	raft_buf_unref(buf);
	return status;
}
