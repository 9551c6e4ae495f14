/*-------------------------------------------------------------------------
 *
 * shmem.c
 *		The node layer's shared memory: creation, lock-free accessors, the
 *		shared area for payloads that do not fit a mailbox slot.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <time.h>
#include <unistd.h>

#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "storage/ipc.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "storage/shmem.h"
#include "utils/memutils.h"

#include "compat.h"
#include "node/read.h"

#define NODE_TRANCHE "pg_quorum_node"

NodeShared *node_shared = NULL;
const NodeOps *node_ops = NULL;

static dsa_area *attached_area = NULL;

Size
node_shmem_size(void)
{
	RequestNamedLWLockTranche(NODE_TRANCHE, 3);
	return add_size(node_reads_shmem_size(),
					add_size(offsetof(NodeShared, slots),
							 mul_size(MaxBackends, sizeof(NodeSlot))));
}

void
node_shmem_init(void)
{
	bool		found;
	LWLockPadded *locks;
	dsa_area   *area;

	attached_area = NULL;
	node_reads_shmem_init();
	node_shared = ShmemInitStruct("pg_quorum node",
								  add_size(offsetof(NodeShared, slots),
										   mul_size(MaxBackends, sizeof(NodeSlot))),
								  &found);
	if (found)
		return;

	rejoin_finish();
	memset(node_shared, 0, offsetof(NodeShared, slots));
	locks = GetNamedLWLockTranche(NODE_TRANCHE);
	node_shared->status_lock = &locks[0].lock;
	node_shared->wait_lock = &locks[2].lock;
	pg_atomic_init_u64(&node_shared->wait_least, PG_UINT64_MAX);
	node_shared->wait_head = NODE_STACK_END;
	pg_atomic_init_u32(&node_shared->membership,
					   access(NODE_LOG_DIRECTORY, F_OK) == 0 ? NODE_STARTING : NODE_NONE);
	pg_atomic_init_u32(&node_shared->id, 0);
	pg_atomic_init_u32(&node_shared->seq_slot, 0);
	pg_atomic_init_u32(&node_shared->is_leader, 0);
	pg_atomic_init_u32(&node_shared->boot, 0);
	pg_atomic_init_u64(&node_shared->token_counter, 0);
	pg_atomic_init_u64(&node_shared->commit_index, 0);
	pg_atomic_init_u64(&node_shared->applied_index, 0);
	pg_atomic_init_u64(&node_shared->flushed_index, 0);
	pg_atomic_init_u64(&node_shared->suspect_index, 0);
	pg_atomic_init_u64(&node_shared->committing_index, 0);
	pg_atomic_init_u32(&node_shared->committing_xid, 0);
	pg_atomic_init_u64(&node_shared->start_index, 0);
	for (int i = 0; i < NODE_TURN_RING; i++)
	{
		pg_atomic_init_u32(&node_shared->owner[i], 0);
		pg_atomic_init_u64(&node_shared->commits[i].index, 0);
		pg_atomic_init_u64(&node_shared->commits[i].first, 0);
		pg_atomic_init_u64(&node_shared->commits[i].xid, 0);
	}
	pg_atomic_init_u64(&node_shared->applied_wanted, PG_UINT64_MAX);
	pg_atomic_init_u32(&node_shared->image_wanted, 0);
	pg_atomic_init_u64(&node_shared->image_least, 0);
	pg_atomic_init_u64(&node_shared->image_hold, 0);
	pg_atomic_init_u64(&node_shared->log_first, 0);
	pg_atomic_init_u64(&node_shared->archived_index, 0);
	pg_atomic_init_u64(&node_shared->archive_wanted, 0);
	pg_atomic_init_u32(&node_shared->keeper_proc, 0);
	pg_atomic_init_u64(&node_shared->longest_turn_us, 0);
	pg_atomic_init_u64(&node_shared->raft_term, 0);
	pg_atomic_init_u64(&node_shared->raft_commit, 0);
	pg_atomic_init_u64(&node_shared->raft_last, 0);
	pg_atomic_init_u32(&node_shared->has_quorum, 0);
	pg_atomic_init_u32(&node_shared->raft_proc, 0);
	pg_atomic_init_u32(&node_shared->apply_proc, 0);
	pg_atomic_init_u32(&node_shared->apply_pid, 0);
	pg_atomic_init_u32(&node_shared->apply_ready, 0);
	pg_atomic_init_u64(&node_shared->apply_busy_index, 0);
	pg_atomic_init_u64(&node_shared->apply_busy_since_us, 0);
	pg_atomic_init_u32(&node_shared->stack_head, NODE_STACK_END);
	ConditionVariableInit(&node_shared->status_cv);
	/* what a member is until its worker knows better */
	if (pg_atomic_read_u32(&node_shared->membership) == NODE_STARTING)
	{
		strlcpy(node_shared->status.role, "follower", sizeof(node_shared->status.role));
		strlcpy(node_shared->status.detail, "the Raft worker is starting",
				sizeof(node_shared->status.detail));
	}
	else
		strlcpy(node_shared->status.role, "stopped", sizeof(node_shared->status.role));

	for (int i = 0; i < MaxBackends; i++)
	{
		NodeSlot   *slot = &node_shared->slots[i];

		SpinLockInit(&slot->mutex);
		slot->state = SLOT_FREE;
		slot->large = InvalidDsaPointer;
		slot->applier_owns = false;
		slot->parked = false;
		slot->wait_index = 0;
		pg_atomic_init_u32(&slot->queued, 0);
		pg_atomic_init_u32(&slot->next, NODE_STACK_END);
	}

	area = dsa_create_in_place(node_shared->dsa_space, NODE_DSA_INITIAL,
							   locks[1].lock.tranche, NULL);
	dsa_pin(area);
	dsa_detach(area);
}

/* Attach once a process, for its life. */
dsa_area *
node_dsa(void)
{
	if (attached_area == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

		attached_area = dsa_attach_in_place(node_shared->dsa_space, NULL);
		dsa_pin_mapping(attached_area);
		MemoryContextSwitchTo(old);
	}
	return attached_area;
}

void
node_set_ops(const NodeOps *ops)
{
	node_ops = ops;
}

void
node_register_workers(void)
{
	BackgroundWorker worker;

	memset(&worker, 0, sizeof(worker));
	/* no database, but connected: that is what shows it in pg_stat_activity */
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = 1;
	strlcpy(worker.bgw_library_name, "pg_quorum", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, "node_raft_main", BGW_MAXLEN);
	strlcpy(worker.bgw_name, "pg_quorum raft worker", BGW_MAXLEN);
	strlcpy(worker.bgw_type, "pg_quorum raft worker", BGW_MAXLEN);
	RegisterBackgroundWorker(&worker);

	strlcpy(worker.bgw_function_name, "replication_apply_main", BGW_MAXLEN);
	strlcpy(worker.bgw_name, "pg_quorum apply worker", BGW_MAXLEN);
	strlcpy(worker.bgw_type, "pg_quorum apply worker", BGW_MAXLEN);
	RegisterBackgroundWorker(&worker);
}

int64
node_monotonic_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64) ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

void
node_wake_proc(uint32 procno_plus_one)
{
	if (procno_plus_one != 0)
		SetLatch(&ProcGlobal->allProcs[procno_plus_one - 1].procLatch);
}

bool
node_is_loaded(void)
{
	return node_shared != NULL;
}

void
node_require_loaded(void)
{
	if (node_shared == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("pg_quorum must be loaded via shared_preload_libraries"),
				 errhint("Add pg_quorum to shared_preload_libraries and restart the server.")));
}

/* Right after a start the log is being opened: wait for that. */
static void
wait_until_started(void)
{
	int64		deadline_us = node_monotonic_us() + (int64) 30 * 1000 * 1000;

	while (pg_atomic_read_u32(&node_shared->membership) == NODE_STARTING &&
		   node_monotonic_us() < deadline_us)
	{
		node_pause(10L);
	}
}

void
node_require_member(void)
{
	node_require_loaded();
	wait_until_started();
	switch ((NodeMembership) pg_atomic_read_u32(&node_shared->membership))
	{
		case NODE_MEMBER:
			return;
		case NODE_REMOVED:
			ereport(ERROR,
					(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
					 errmsg("this server was removed from its cluster"),
					 errhint("To take part again it has to join anew, with quorum.join_cluster.")));
		case NODE_FENCED:
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("this member is fenced"),
					 errhint("See column detail of quorum.status.")));
		case NODE_STARTING:
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("the Raft worker of this member has not started"),
					 errhint("See the server log and column detail of quorum.status.")));
		case NODE_NONE:
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("this server is not part of a cluster"),
					 errhint("Call quorum.create_cluster or quorum.join_cluster first.")));
	}
}

bool
node_is_member(void)
{
	return node_shared != NULL &&
		pg_atomic_read_u32(&node_shared->membership) == NODE_MEMBER;
}

bool
node_has_former_tables(void)
{
	NodeMembership membership = node_shared ? pg_atomic_read_u32(&node_shared->membership) : NODE_NONE;

	return membership == NODE_REMOVED || membership == NODE_FENCED;
}

bool
node_is_removed(void)
{
	return node_shared != NULL &&
		pg_atomic_read_u32(&node_shared->membership) == NODE_REMOVED;
}

uint32
node_id(void)
{
	return node_shared ? pg_atomic_read_u32(&node_shared->id) : 0;
}

int
node_slot(void)
{
	return node_shared ? (int) pg_atomic_read_u32(&node_shared->seq_slot) - 1 : -1;
}

bool
node_is_leader(void)
{
	return node_shared != NULL && pg_atomic_read_u32(&node_shared->is_leader) != 0;
}

bool
node_is_alone(void)
{
	bool		alone;

	if (node_shared == NULL)
		return true;
	LWLockAcquire(node_shared->status_lock, LW_SHARED);
	alone = node_shared->status.nmembers <= 1;
	LWLockRelease(node_shared->status_lock);
	return alone;
}

uint64
node_applied_index(void)
{
	return node_shared ? pg_atomic_read_u64(&node_shared->applied_index) : 0;
}

uint64
node_longest_turn_us(void)
{
	return pg_atomic_read_u64(&node_shared->longest_turn_us);
}

uint64
node_commit_index(void)
{
	return node_shared ? pg_atomic_read_u64(&node_shared->commit_index) : 0;
}

uint64
node_known_commit_index(void)
{
	return node_shared ? Max(pg_atomic_read_u64(&node_shared->raft_commit),
							 pg_atomic_read_u64(&node_shared->applied_index)) : 0;
}

bool
node_cluster_id(pg_uuid_t *id)
{
	static const pg_uuid_t none;

	if (!node_is_member())
		return false;
	LWLockAcquire(node_shared->status_lock, LW_SHARED);
	*id = node_shared->status.cluster_id;
	LWLockRelease(node_shared->status_lock);
	return memcmp(id, &none, sizeof(none)) != 0;
}

/*
 * See node.h. A commit becomes visible (ProcArrayEndTransaction) a moment
 * before applied_index counts it (XACT_EVENT_COMMIT). Whoever locks a row in
 * that moment has seen the entry and must have it in its base.
 */
uint64
node_base_index(void)
{
	for (int spins = 0;; spins++)
	{
		uint64		applied = pg_atomic_read_u64(&node_shared->applied_index);
		uint64		committing;
		TransactionId xid;

		pg_read_barrier();
		committing = pg_atomic_read_u64(&node_shared->committing_index);
		if (committing <= applied)
			return applied;
		pg_read_barrier();
		xid = pg_atomic_read_u32(&node_shared->committing_xid);
		if (!TransactionIdIsValid(xid) || TransactionIdIsInProgress(xid))
		{
			/* the pair may have changed while we looked: once more */
			pg_read_barrier();
			if (pg_atomic_read_u64(&node_shared->committing_index) == committing &&
				pg_atomic_read_u32(&node_shared->committing_xid) == xid &&
				pg_atomic_read_u64(&node_shared->applied_index) == applied)
				return applied;
			continue;
		}
		/* visible, about to be counted (or being undone): a few instructions */
		if (spins < 100)
			pg_spin_delay();
		else
			pg_usleep(20);
	}
}

RaftToken
node_next_token(void)
{
	RaftToken	token = {0};

	node_require_member();
	token.node = pg_atomic_read_u32(&node_shared->id);
	token.boot = pg_atomic_read_u32(&node_shared->boot);
	token.counter = pg_atomic_fetch_add_u64(&node_shared->token_counter, 1) + 1;
	return token;
}

char *
node_token_out(RaftToken token)
{
	return psprintf("%u-%u-" UINT64_FORMAT, token.node, token.boot, token.counter);
}

bool
node_token_in(const char *text, RaftToken *token)
{
	unsigned long long parts[3];
	const char *c = text;

	for (int i = 0; i < 3; i++)
	{
		char	   *end;

		if (*c < '0' || *c > '9')
			return false;
		errno = 0;
		parts[i] = strtoull(c, &end, 10);
		if (errno != 0 || (i < 2 && parts[i] > UINT32_MAX) ||
			*end != (i < 2 ? '-' : '\0'))
			return false;
		c = end + 1;
	}
	token->node = (uint32) parts[0];
	token->boot = (uint32) parts[1];
	token->counter = parts[2];
	return token->node != 0 && token->boot != 0 && token->counter != 0;
}

char *
node_log_dir(void)
{
	return psprintf("%s/%s", DataDir, NODE_LOG_DIRECTORY);
}
