/*-------------------------------------------------------------------------
 *
 * worker_salvage.c
 *		A member whose log is damaged below what it acknowledged.
 *
 * What is good before the first damaged record is kept, the rest is cut and
 * fetched from the leader again (rlog_salvage, RaftDisk.distrusted_until).
 * Until everything is back the member neither votes nor campaigns: the others
 * may count on entries that it does not hold any more. That it is not to be
 * trusted is in the log's metadata, so that a restart on the way goes on.
 *
 * The tables may be ahead of such a log: their transactions are in this
 * server's own WAL. The core hands out those entries once more; publishing goes
 * on behind what was published or applied already (publish_commits), so nothing
 * is applied twice. Trust returns only when the log has reached the tables, too
 * (salvage_look), since entries that were applied here were committed with this
 * member's acknowledgement, whatever the log still knows of them.
 *
 * Worker.recovering is the Raft worker's own. It is set when a log is opened
 * that is not trusted, and cleared together with rlog_trust(). A crash leaves
 * it to the metadata.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "node/worker.h"

#define REOPEN_US	INT64CONST(500000)

/*
 * rlog_open() has called the log damaged, for the reason in error. RLOG_OK: it
 * is open, with what could be kept. Else w is halted.
 */
RlogStatus
salvage_open(Worker *w, const RlogOptions *options, const char *error)
{
	char		notice[RLOG_ERROR_LEN] = "";
	char		reason[RLOG_ERROR_LEN] = "";
	uint64_t	damaged = 0;
	RlogStatus	status;

	status = rlog_salvage(rlog_env_posix(), NODE_LOG_DIRECTORY, options, &w->log, &damaged,
						  notice, reason);
	if (status == RLOG_OK)
	{
		ereport(WARNING,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("the log of this member is damaged at entry " UINT64_FORMAT,
						(uint64) (damaged != 0 ? damaged : rlog_last_index(w->log) + 1)),
				 errdetail("%s", notice[0] != '\0' ? notice : error),
				 errhint("Look for the cause: files do not change by themselves on sound disks.")));
		return RLOG_OK;
	}
	w->log = NULL;
	if (status == RLOG_DAMAGED)
		worker_halt(w, "fenced", 0,
					"the log's metadata is gone, and with it this member's votes (%.90s): join anew with an empty data directory, by quorum.join_cluster(address, true)",
					reason);
	else
		worker_halt(w, "stopped", 2 * INT64CONST(1000000), "the log cannot be opened: %s", reason);
	return status;
}

/* The member runs with the log it has: is there something to be got again? */
void
salvage_begin(Worker *w)
{
	const RaftConf *conf = raft_conf(w->raft);
	uint64		until = rlog_distrusted_until(w->log);
	bool		alone = true;

	w->recovering = until != 0;
	if (!w->recovering)
		return;
	for (int i = 0; i < conf->nmembers; i++)
		if (conf->members[i].id != w->id && (conf->members[i].voter || conf->members[i].voter_outgoing))
			alone = false;
	snprintf(w->standing, sizeof(w->standing),
			 "this member's log was damaged and ends before entry " UINT64_FORMAT
			 "; it does not vote until it has everything up to entry " UINT64_FORMAT " again%s",
			 (uint64) rlog_last_index(w->log) + 1, until,
			 alone ? ", and there is no other member to get it from" : "");
	ereport(LOG, (errmsg("%s", w->standing)));
	worker_set_detail(w, "");
}

/*
 * An entry that the log holds cannot be read: open the log anew, which looks at
 * all of it. Another member can lead meanwhile.
 */
void
salvage_reopen(Worker *w, uint64 index, const char *error)
{
	worker_halt(w, "stopped", REOPEN_US,
				"entry " UINT64_FORMAT " of the log cannot be read, so the log is looked through: %.150s",
				index, error);
}

/*
 * Is everything back? Asked with every turn. The other way round: does the
 * apply worker miss something? (What is on its way again it may well miss.)
 */
void
salvage_look(Worker *w)
{
	uint64		durable = rlog_durable_index(w->log);
	uint64		suspect = pg_atomic_read_u64(&node_shared->suspect_index);

	if (suspect != 0)
	{
		pg_atomic_write_u64(&node_shared->suspect_index, 0);
		if (!w->recovering && suspect <= durable)
		{
			salvage_reopen(w, suspect, "the apply worker found it damaged");
			return;
		}
	}
	if (!w->recovering || raft_is_recovering(w->raft) ||
		pg_atomic_read_u32(&node_shared->apply_ready) == 0)
		return;
	if (durable < pg_atomic_read_u64(&node_shared->applied_index) ||
		w->committed < w->muted_until)
		return;
	if (rlog_trust(w->log) != RLOG_OK)
		return;					/* the next round of I/O says why */
	w->batch.writes = true;
	w->recovering = false;
	w->muted_until = 0;
	w->standing[0] = '\0';
	ereport(LOG,
			(errmsg("this member has everything again that its damaged log had lost, and votes"),
			 errdetail("Its log reaches to entry " UINT64_FORMAT ".", durable)));
	worker_set_detail(w, "");
}
