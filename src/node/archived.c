/*-------------------------------------------------------------------------
 *
 * archived.c
 *		Between the Raft worker, sessions and the keeper of the archive of
 *		outcomes: how far the archive is, and questions about a token.
 *
 * archived_index is the keeper's: the tokens of all entries up to there are
 * durable in the archive, so the log below may go. It is 0 after a start until
 * the keeper has looked, which keeps the log whole. archive_wanted only rises; the
 * keeper is woken by whoever raises it.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/proc.h"

#include "compat.h"
#include "node/node_internal.h"

char *
node_outcome_dir(void)
{
	return psprintf("%s/%s", DataDir, NODE_OUTCOME_DIRECTORY);
}

char *
node_outcome_fetched_dir(void)
{
	return psprintf("%s/%s", DataDir, NODE_OUTCOME_FETCHED);
}

uint64
node_log_first_index(void)
{
	return pg_atomic_read_u64(&node_shared->log_first);
}

bool
node_instance(uint8 id[RAFT_INSTANCE_LEN])
{
	uint8		zero[RAFT_INSTANCE_LEN] = {0};

	LWLockAcquire(node_shared->status_lock, LW_SHARED);
	memcpy(id, node_shared->status.instance, RAFT_INSTANCE_LEN);
	LWLockRelease(node_shared->status_lock);
	return memcmp(id, zero, RAFT_INSTANCE_LEN) != 0;
}

uint64
node_archived_index(void)
{
	return pg_atomic_read_u64(&node_shared->archived_index);
}

void
node_set_archived_index(uint64 index)
{
	pg_atomic_write_u64(&node_shared->archived_index, index);
}

void
node_want_archived(uint64 index)
{
	uint64		wanted = pg_atomic_read_u64(&node_shared->archive_wanted);

	while (wanted < index &&
		   !pg_atomic_compare_exchange_u64(&node_shared->archive_wanted, &wanted, index))
		;
	if (wanted < index)
		node_wake_proc(pg_atomic_read_u32(&node_shared->keeper_proc));
}

uint64
node_archive_wanted(void)
{
	return pg_atomic_read_u64(&node_shared->archive_wanted);
}

static void
keeper_gone(int code, Datum arg)
{
	pg_atomic_write_u32(&node_shared->keeper_proc, 0);
}

void
node_keeper_ready(void)
{
	before_shmem_exit(keeper_gone, (Datum) 0);
	pg_atomic_write_u32(&node_shared->keeper_proc, compat_my_procno() + 1);
}

bool
node_apply_is_ready(void)
{
	return pg_atomic_read_u32(&node_shared->apply_ready) != 0;
}

/* ---------- questions ---------- */

static NodeOutcome
ask(const NodeOutcomeRequest *request, uint64 *absent_upto)
{
	NodeAnswer	answer;
	int			sqlstate;

	(void) node_request(NODE_REQ_OUTCOME, request, sizeof(*request), 0, &answer, &sqlstate);
	if (sqlstate != 0)
		ereport(ERROR, (errcode(sqlstate), errmsg("%s", answer.message)));
	*absent_upto = (uint64) answer.stamp.physical_us;
	return (NodeOutcome) answer.index;
}

NodeOutcome
node_ask_outcome(RaftToken token, bool looked, uint64 absent_upto)
{
	NodeOutcomeRequest request;

	memset(&request, 0, sizeof(request));
	request.token = token;
	request.looked = looked;
	request.absent_upto = absent_upto;
	return ask(&request, &absent_upto);
}

NodeOutcome
node_ask_archives(RaftToken token, uint64 *absent_upto)
{
	NodeOutcomeRequest request;
	int			outcome;

	memset(&request, 0, sizeof(request));
	request.token = token;
	request.archives = true;
	request.absent_upto = *absent_upto;
	outcome = ask(&request, absent_upto);
	if (outcome == NODE_OUTCOME_COMMITTED || outcome == NODE_OUTCOME_UNKNOWN)
		return outcome;
	return NODE_OUTCOME_EVIDENCE;
}
