/*-------------------------------------------------------------------------
 *
 * gate_apply.c
 *		Gates in the apply worker: locks that keep writers out, and entries that
 *		keep or open the gates of this server's sessions.
 *
 * Closed on the word of another server, a table and its partitions are locked
 * in EXCLUSIVE mode, as a session lock, which outlives the transaction: writers
 * and row locks wait, readers do not. Whoever wrote the table and has not
 * committed stands in the way of the lock and is aborted (conflict.c); its
 * commit would be refused by the gate's key.
 *
 * On the server where the gate comes from the lock is let go with the entry's
 * transaction: by then no writer is left whose base is below the gate, and the
 * session that closed it queues for its own lock.
 *
 * An abort of the apply worker's transaction takes all session locks with it;
 * they are taken again at the start of the next one.
 *
 * The list of gates is private to the apply worker. If that goes, so do its
 * locks; the gates stay in shared memory until they lapse.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "node/node.h"
#include "replication/gate_internal.h"
#include "replication/tables.h"

#define GATE_LOCK			ExclusiveLock
#define SEND_PATIENCE_US	INT64CONST(50000)
#define RETRY_MS			200

typedef struct Gate
{
	uint32		table_id;
	RaftToken	owner;
	int64		until_us;
	bool		foreign;		/* locked beyond the transaction */
	bool		ending;			/* with this transaction */
	List	   *locked;			/* relations, in TopMemoryContext */
} Gate;

static Gate gates[GATE_MAX];
static int	ngates = 0;

/* ---------- locks ---------- */

static LockRelId
lock_id(Oid relid)
{
	return (LockRelId) {.relId = relid, .dbId = MyDatabaseId};
}

static void
unlock(Gate *gate)
{
	ListCell   *lc;

	foreach(lc, gate->locked)
	{
		LockRelId	id = lock_id(lfirst_oid(lc));

		UnlockRelationIdForSession(&id, GATE_LOCK);
	}
	list_free(gate->locked);
	gate->locked = NIL;
}

static void
lock(Gate *gate)
{
	Oid			relid = tables_oid_of(gate->table_id);
	List	   *relids;
	ListCell   *lc;
	MemoryContext old;

	if (!OidIsValid(relid))
		return;
	LockRelationOid(relid, GATE_LOCK);
	if (get_rel_relkind(relid) == RELKIND_PARTITIONED_TABLE)
		relids = find_all_inheritors(relid, GATE_LOCK, NULL);
	else
		relids = list_make1_oid(relid);
	if (!gate->foreign)
		return;
	foreach(lc, relids)
	{
		LockRelId	id = lock_id(lfirst_oid(lc));

		LockRelationIdForSession(&id, GATE_LOCK);
		old = MemoryContextSwitchTo(TopMemoryContext);
		gate->locked = lappend_oid(gate->locked, lfirst_oid(lc));
		MemoryContextSwitchTo(old);
	}
}

/* ---------- what others on this server see ---------- */

static bool is_own(RaftToken owner);
static void end_gate(int i);

/* Its transaction has committed: not by way of the apply worker. */
static void
end_own(void)
{
	for (int i = ngates - 1; i >= 0; i--)
		if (!gates[i].foreign && !is_own(gates[i].owner))
			end_gate(i);
}

static void
publish(void)
{
	end_own();
	SpinLockAcquire(&gate_shared->mutex);
	for (int i = 0; i < GATE_MAX; i++)
	{
		GateTable  *to = &gate_shared->tables[i];

		to->table_id = i < ngates ? gates[i].table_id : 0;
		if (i < ngates)
		{
			to->owner = gates[i].owner;
			to->until_us = gates[i].until_us;
		}
	}
	SpinLockRelease(&gate_shared->mutex);
	ConditionVariableBroadcast(&gate_shared->opened);
}

static void
end_gate(int i)
{
	unlock(&gates[i]);
	gates[i] = gates[--ngates];
}

/* ---------- entries ---------- */

static bool
is_own(RaftToken owner)
{
	bool		own = false;

	if (owner.node != node_id())
		return false;
	SpinLockAcquire(&gate_shared->mutex);
	for (int i = 0; i < GATE_MAX; i++)
		own = own || raft_token_equal(gate_shared->owners[i].token, owner);
	SpinLockRelease(&gate_shared->mutex);
	return own;
}

static Gate *
find(uint32 table_id)
{
	for (int i = 0; i < ngates; i++)
		if (gates[i].table_id == table_id)
			return &gates[i];
	return NULL;
}

static void
close_gate(uint32 table_id, RaftToken owner)
{
	Gate	   *gate = find(table_id);

	if (gate != NULL)
		unlock(gate);			/* of one that has ended elsewhere */
	else if (ngates < GATE_MAX)
		gate = &gates[ngates++];
	else
		return;
	memset(gate, 0, sizeof(*gate));
	gate->table_id = table_id;
	gate->owner = owner;
	gate->until_us = node_monotonic_us() + GATE_LEASE_US;
	gate->foreign = !is_own(owner);
	lock(gate);
	/* the lock may have taken its time */
	gate->until_us = node_monotonic_us() + GATE_LEASE_US;
}

void
gate_apply_record(const WsRecord *rec)
{
	switch (rec->gate_action)
	{
		case GATE_CLOSE:
			for (uint32 i = 0; i < rec->ntables; i++)
				close_gate(rec->table_ids[i], rec->gate_owner);
			break;
		case GATE_KEEP:
			for (int i = 0; i < ngates; i++)
				if (raft_token_equal(gates[i].owner, rec->gate_owner))
					gates[i].until_us = node_monotonic_us() + GATE_LEASE_US;
			break;
		case GATE_OPEN:
			gate_entry_applied(rec->gate_owner);
			break;
	}
	publish();
}

void
gate_entry_applied(RaftToken token)
{
	for (int i = 0; i < ngates; i++)
		if (raft_token_equal(gates[i].owner, token))
			gates[i].ending = true;
}

void
gate_begin(void)
{
	for (int i = 0; i < ngates; i++)
		if (gates[i].foreign && gates[i].locked == NIL)
			lock(&gates[i]);
}

void
gate_committed(void)
{
	bool		ended = false;

	for (int i = ngates - 1; i >= 0; i--)
	{
		if (!gates[i].ending)
			continue;
		end_gate(i);
		ended = true;
	}
	if (ended)
		publish();
}

void
gate_aborted(void)
{
	for (int i = 0; i < ngates; i++)
	{
		list_free(gates[i].locked);
		gates[i].locked = NIL;
		gates[i].ending = false;
	}
}

void
gate_exit(void)
{
	LockReleaseSession(DEFAULT_LOCKMETHOD);
}

/* ---------- time ---------- */

static void
open_lapsed(int64 now_us)
{
	bool		ended = false;

	end_own();
	for (int i = ngates - 1; i >= 0; i--)
	{
		if (gates[i].until_us > now_us)
			continue;
		end_gate(i);
		ended = true;
	}
	if (ended)
		publish();
}

/* One owner for whom something is to be written; false: none. */
static bool
find_due(int64 now_us, GateOwner *due)
{
	bool		found = false;

	SpinLockAcquire(&gate_shared->mutex);
	for (int i = 0; i < GATE_MAX && !found; i++)
	{
		GateOwner  *owner = &gate_shared->owners[i];

		if (owner->token.node == 0)
			continue;
		if (!owner->ended &&
			(now_us < owner->renewed_us + GATE_RENEW_US || now_us > owner->deadline_us))
			continue;
		*due = *owner;
		found = true;
	}
	SpinLockRelease(&gate_shared->mutex);
	return found;
}

static void
note_sent(const GateOwner *sent, int64 now_us)
{
	SpinLockAcquire(&gate_shared->mutex);
	for (int i = 0; i < GATE_MAX; i++)
	{
		GateOwner  *owner = &gate_shared->owners[i];

		if (!raft_token_equal(owner->token, sent->token))
			continue;
		if (sent->ended)
			owner->token.node = 0;
		else
			owner->renewed_us = now_us;
	}
	SpinLockRelease(&gate_shared->mutex);
}

static bool
any_owner(void)
{
	bool		any = false;

	SpinLockAcquire(&gate_shared->mutex);
	for (int i = 0; i < GATE_MAX; i++)
		any = any || gate_shared->owners[i].token.node != 0;
	SpinLockRelease(&gate_shared->mutex);
	return any;
}

long
gate_work(void)
{
	int64		now_us = node_monotonic_us();
	GateOwner	due;

	if (ngates > 0)
		open_lapsed(now_us);
	while (find_due(now_us, &due))
	{
		NodePart	part = gate_payload(due.ended ? GATE_OPEN : GATE_KEEP, due.token, NIL, 0);
		bool		sent = node_send_off(node_next_token(), &part, 1, SEND_PATIENCE_US);

		pfree((void *) part.data);
		if (!sent)
			break;				/* no quorum at the moment */
		note_sent(&due, now_us);
	}
	return ngates > 0 || any_owner() ? RETRY_MS : LONG_MAX;
}
