/*-------------------------------------------------------------------------
 *
 * worker_drive.c
 *		Carries out what the core says (RaftOutput): messages at once, the log,
 *		messages that wait for the log, loads for peers that lag, commits.
 *
 * Entries are told to the layer above (NodeOps.appended) in log order, before
 * the next proposal is certified: the leader's own when they are proposed
 * (fed_from..fed_to), all others here.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"

#include "lock/lock_payload.h"
#include "node/worker.h"

#define LOAD_MAX_ENTRIES	4096

/* Entry `index` is in the log now. buf: data is in there; NULL: in nobody's. */
void
drive_note_appended(Worker *w, uint64 index, RaftToken token, RaftStamp stamp,
					uint8 type, const void *data, Size len, RaftBuf *buf)
{
	/* what we stamp from now on comes after it, be it a no-op of the core's */
	(void) clock_observe(to_hlc(stamp), 0, NULL);
	if (type == RAFT_ENTRY_DATA)
	{
		bool		changes_rows = !lk_is_lock(data, len);
		uint64		lock_token = lock_appended(w, index, token, stamp, data, len);

		if (node_ops && node_ops->appended)
			node_ops->appended(index, token, data, len, buf);
		if (token.node == w->id)
		{
			if (token.boot > pg_atomic_read_u32(&node_shared->boot))
				pg_atomic_write_u32(&node_shared->boot, boot_raise(token.boot));
			pending_appended(w, index, token, stamp, lock_token);
		}
		if (changes_rows)
			w->rows_index = Max(w->rows_index, index);
	}
	else if (type == RAFT_ENTRY_NOOP && token.node != 0)
		outcome_note_marker(w, token, index);
}

static void
release_payload(void *arg)
{
	raft_buf_unref(arg);
}

/* A change that the log does not take ends this member's part. True: halted. */
static bool
log_refused(Worker *w, RlogStatus status, const char *what)
{
	const char *text = NULL;

	if (status == RLOG_OK)
		return false;
	(void) rlog_health(w->log, &text);
	worker_halt(w, "stopped", 0, "%s: %s", what,
				status == RLOG_NO_MEMORY ? "out of memory" :
				text != NULL && text[0] != '\0' ? text : "the change contradicts the log");
	return true;
}

static bool
append_entries(Worker *w, const RaftOutput *out)
{
	for (size_t i = 0; i < out->nentries; i++)
	{
		const RaftEntry *e = &out->entries[i];
		RlogRecord	rec;

		memset(&rec, 0, sizeof(rec));
		rec.index = e->index;
		rec.term = e->term;
		rec.type = e->type;
		StaticAssertStmt(sizeof(rec.stamp) == sizeof(e->stamp) &&
						 sizeof(rec.token) == sizeof(e->token), "log record fields");
		memcpy(rec.stamp, &e->stamp, sizeof(rec.stamp));
		memcpy(rec.token, &e->token, sizeof(rec.token));
		if (e->data != NULL)
		{
			rec.data = e->data->data;
			rec.len = e->data->len;
			rec.release = release_payload;
			rec.release_arg = raft_buf_ref(e->data);
		}
		if (rlog_append(w->log, &rec) != RLOG_OK)
		{
			const char *text = NULL;

			(void) rlog_health(w->log, &text);
			worker_halt(w, "stopped", 0, "entry " UINT64_FORMAT " cannot be added to the log: %s",
						(uint64) e->index, text ? text : "out of memory");
			return false;
		}
		w->batch.bytes += rec.len;
		if (w->fed_from != 0 && e->index >= w->fed_from && e->index <= w->fed_to)
			continue;
		drive_note_appended(w, e->index, e->token, e->stamp, e->type,
							rec.data, rec.len, e->data);
	}
	if (out->nentries > 0 && out->entries[out->nentries - 1].index >= w->fed_to)
		w->fed_from = w->fed_to = 0;
	return true;
}

static bool
write_log(Worker *w, const RaftOutput *out)
{
	/* ours to free, whatever happens */
	if (out->nmsgs_after > 0)
		io_collect_messages(w, out->msgs_after, out->nmsgs_after);

	/* before a reset: then both are one write of the metadata */
	if (out->conf_committed &&
		log_refused(w, worker_save_conf(w), "the configuration cannot be saved in the log"))
		return false;
	if (out->reset_index != 0)
	{
		if (node_ops && node_ops->truncated)
			node_ops->truncated(1);
		if (node_ops && node_ops->coverage_starts)
			node_ops->coverage_starts(out->reset_index + 1);
		lock_truncated(w, 1);
		lock_coverage_starts(w, out->reset_index + 1);
		w->rows_index = Max(w->rows_index, out->reset_index);
		pending_truncated(w, 1);
		outcome_truncated(w, 1);
		if (log_refused(w, rlog_reset(w->log, out->reset_index, out->reset_term),
						"the log cannot be begun anew"))
			return false;
		rlog_reader_forget(w->reader);
		w->batch.writes = true;
	}
	if (out->truncate_from != 0)
	{
		if (node_ops && node_ops->truncated)
			node_ops->truncated(out->truncate_from);
		lock_truncated(w, out->truncate_from);
		pending_truncated(w, out->truncate_from);
		outcome_truncated(w, out->truncate_from);
		w->fed_from = w->fed_to = 0;
		if (log_refused(w, rlog_truncate_suffix(w->log, out->truncate_from),
						"entries that no majority has cannot be cut off the log"))
			return false;
		rlog_reader_forget(w->reader);
		w->batch.writes = true;
	}
	if (out->nentries > 0)
	{
		if (!append_entries(w, out))
			return false;
		w->batch.writes = true;
	}
	if (out->hard_changed)
	{
		if (log_refused(w, rlog_set_hard_state(w->log, out->hard.term, out->hard.vote,
											   out->hard.commit, out->must_sync),
						"term and vote cannot be saved in the log"))
			return false;
		if (out->must_sync)
			w->batch.writes = true;
	}
	if (out->append_pending)
	{
		w->batch.done_wanted = true;
		w->batch.term = out->append_term;
		w->batch.index = out->append_index;
	}
	return true;
}

/*
 * Entries for a peer that is behind what the core keeps in memory. False: the
 * log is damaged, and w halted to open it again (worker_salvage.c); another
 * member can lead meanwhile.
 */
static bool
load(Worker *w, const RaftLoad *wanted)
{
	static RaftEntry entries[LOAD_MAX_ENTRIES];
	uint64		durable = rlog_durable_index(w->log);
	uint64		last = Min(wanted->last_index, durable);
	size_t		n = 0;
	Size		bytes = 0;

	for (uint64 i = wanted->first_index; i <= last && n < LOAD_MAX_ENTRIES; i++)
	{
		RlogRecord	rec;
		RaftEntry  *e = &entries[n];
		char		error[RLOG_ERROR_LEN] = "";
		RlogStatus	status = rlog_reader_get(w->reader, i, durable, &rec, error);

		if (status == RLOG_DAMAGED)
		{
			for (size_t k = 0; k < n; k++)
				raft_buf_unref(entries[k].data);
			salvage_reopen(w, i, error);
			return false;
		}
		if (status != RLOG_OK)
		{
			if (status != RLOG_COMPACTED)
				ereport(LOG, (errmsg("entry " UINT64_FORMAT " of the log cannot be read: %s",
									 i, error)));
			break;
		}
		if (n > 0 && bytes + rec.len > wanted->max_bytes)
			break;
		memset(e, 0, sizeof(*e));
		e->index = rec.index;
		e->term = rec.term;
		e->type = rec.type;
		memcpy(&e->stamp, rec.stamp, sizeof(e->stamp));
		memcpy(&e->token, rec.token, sizeof(e->token));
		if (rec.len > 0 || rec.type != RAFT_ENTRY_NOOP)
		{
			e->data = raft_buf_new(rec.data, rec.len);
			if (e->data == NULL)
				break;
		}
		bytes += rec.len;
		n++;
	}
	raft_loaded(w->raft, wanted->peer, entries, n, w->now_us);
	return true;
}

static void
role_changed(Worker *w)
{
	bool		leads = raft_role(w->raft) == RAFT_LEADER;

	pg_atomic_write_u32(&node_shared->is_leader, leads ? 1 : 0);
	pg_atomic_write_u64(&node_shared->raft_term, raft_term(w->raft));
	pg_atomic_write_u32(&node_shared->has_quorum,
						raft_has_quorum(w->raft, w->now_us) ? 1 : 0);
	pending_requeue(w);
	read_role_changed(w);
	w->retry_us = 0;
	w->status_dirty = true;
	w->status_us = 0;
}

/* This member is not in the committed configuration, and once was. */
static bool
was_removed(const Worker *w)
{
	const RaftConf *conf = raft_committed_conf(w->raft);

	return conf->index > 0 && conf->next_id > w->id && raft_conf_find(conf, w->id) == NULL;
}

static void
conf_changed(Worker *w)
{
	const RaftMember *self = raft_conf_find(raft_conf(w->raft), w->id);

	if (self != NULL)
		pg_atomic_write_u32(&node_shared->seq_slot, self->seq_slot + 1);
	w->conf_dirty = true;
	force_review(w);
	w->status_dirty = true;
	w->status_us = 0;
}

void
drive(Worker *w)
{
	bool		again = true;

	while (again && w->raft != NULL)
	{
		RaftOutput	out;
		HlcStamp	stamp;
		bool		removed = false;

		clock_message_stamp(&stamp);
		raft_set_stamp(w->raft, from_hlc(stamp));
		raft_take_output(w->raft, &out);
		w->deadline_us = out.next_deadline_us;
		again = false;

		read_publish_lease(w);
		if (out.nreads > 0)
		{
			lock_reads(w, out.reads, out.nreads);
			read_answered(w, out.reads, out.nreads);
		}
		for (size_t i = 0; i < out.nmsgs; i++)
			peer_send_raft(w, &out.msgs[i]);
		if (!write_log(w, &out))
			return;
		if (out.commit_first != 0)
		{
			w->committed = out.commit_last;
			lock_committed(w);
			again = out.next_deadline_us <= w->now_us;
		}
		if (out.role_changed)
			role_changed(w);
		if (out.conf_changed || out.conf_committed)
		{
			conf_changed(w);
			removed = out.conf_committed && was_removed(w);
		}
		image_offered(w, &out);
		for (size_t i = 0; i < out.nloads; i++)
		{
			RaftLoad	wanted = out.loads[i];

			if (!load(w, &wanted))
				return;
			again = true;
		}
		if (removed)
		{
			publish_commits(w);
			admin_became_removed(w);
			return;
		}
		if (io_start(w))
			again = true;
		/* whoever came while these were asked for: their round begins at once */
		if (out.nreads > 0 && read_run(w))
			again = true;
	}
	if (w->raft == NULL)
		return;
	if (raft_is_fenced(w->raft))
	{
		worker_halt(w, "fenced", 0,
					"this member has forgotten entries that it had acknowledged (an old copy of the data directory?)");
		return;
	}
	salvage_look(w);
	if (w->raft == NULL)
		return;
	if (w->conf_dirty)
		peer_sync(w);
	status_progress(w);
}
