/*-------------------------------------------------------------------------
 *
 * gate.c
 *		A schema statement's head start against writers on other servers.
 *
 * A statement that changes a table takes the table's key exclusive, so any
 * row that somebody else writes between its start and its place in the log
 * makes certification refuse it. Where other servers write without pause it
 * would lose for ever. So before it takes its locks it closes a gate: an entry
 * of its own with the exclusive key of each table, which always passes.
 *
 *	- What was written on the table before the gate was known is refused (40001):
 *	  its base is below the gate. Nothing else is.
 *	- When the gate is applied on a server, the apply worker there takes the lock
 *	  that keeps writers of the table out, and holds on to it: they queue as they
 *	  would for a schema change of their own server (gate_apply.c). Readers do not
 *	  notice.
 *	- The session that closed it waits until the gate is applied here, and has the
 *	  table for itself then.
 *
 * A gate belongs to the transaction whose token it carries, and ends with that
 * transaction's entry. When it ends otherwise the apply worker of its server
 * has an entry written that opens the gate; while it lasts, one a second that
 * keeps it. Each server opens by itself what it has not heard of for
 * GATE_LEASE_US of its own monotonic clock. So whatever crashes, nothing stays
 * closed. And nothing depends on it: gates are courtesy, certification is the
 * rule. quorum.ddl_gate_timeout bounds how long a transaction keeps others out.
 *
 * Of two that close the same table the second one must not make the first one's
 * statement conflict. A second key, exclusive too, stands for the gate itself:
 * its base is what the second one had seen when it found the table open. Refused,
 * it waits until it sees the first one's gate, then until that is open.
 *
 * The tables that this transaction has closed are private to the process; what
 * is shared is described in gate_internal.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/relation.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "storage/proc.h"
#include "storage/shmem.h"
#include "utils/memutils.h"
#include "utils/wait_event.h"

#include "node/node.h"
#include "replication/gate_internal.h"
#include "replication/keys_internal.h"
#include "replication/replication.h"
#include "replication/session.h"
#include "replication/tables.h"
#include "replication/writeset.h"

#define CLOSED_POLL_MS	100
#define ABOVE_ALL		((uint64) 1 << 30)	/* entries that can come in between */

int			quorum_ddl_gate_timeout_ms = 60000;

GateShared *gate_shared = NULL;

/* of the current transaction, in TopTransactionContext; or it goes without */
static List *closed_ids = NIL;

Size
gate_shmem_size(void)
{
	return MAXALIGN(sizeof(GateShared));
}

void
gate_shmem_init(void)
{
	bool		found;

	gate_shared = ShmemInitStruct("pg_quorum gates", gate_shmem_size(), &found);
	if (found)
		return;
	memset(gate_shared, 0, sizeof(*gate_shared));
	SpinLockInit(&gate_shared->mutex);
	ConditionVariableInit(&gate_shared->opened);
}

/* ---------- payload ---------- */

static char *
put_le(char *to, uint64 value, int bytes)
{
	for (int i = 0; i < bytes; i++)
		*to++ = (char) (value >> (8 * i));
	return to;
}

static char *
put_varint(char *to, uint32 value)
{
	while (value >= 0x80)
	{
		*to++ = (char) (value | 0x80);
		value >>= 7;
	}
	*to++ = (char) value;
	return to;
}

typedef struct GateKey
{
	uint64		key;
	uint32		delta;
} GateKey;

static int
compare_keys(const void *a, const void *b)
{
	uint64		left = ((const GateKey *) a)->key;
	uint64		right = ((const GateKey *) b)->key;

	return left < right ? -1 : left > right;
}

NodePart
gate_payload(GateAction action, RaftToken owner, const List *table_ids, uint64 base)
{
	int			ntables = list_length(table_ids);
	int			nkeys = 2 * ntables;
	GateKey    *keys = palloc_array(GateKey, nkeys + 1);
	char	   *data = palloc(WS_HEADER_SIZE + nkeys * WS_KEY_SIZE + 64 + 5 * ntables);
	char	   *to = data;
	const ListCell *lc;
	int			n = 0;

	foreach(lc, table_ids)
	{
		keys[n].key = keys_seed((uint32) lfirst_int(lc), 'T');
		keys[n++].delta = 0;
		keys[n].key = keys_seed((uint32) lfirst_int(lc), 'G');
		keys[n++].delta = ABOVE_ALL;
	}
	qsort(keys, nkeys, sizeof(GateKey), compare_keys);

	*to++ = WS_VERSION;
	*to++ = WS_KIND_TRANSACTION;
	to = put_le(to, 0, 2);
	to = put_le(to, nkeys, 4);
	to = put_le(to, 1, 4);
	to = put_le(to, 0, 4);
	to = put_le(to, base + ABOVE_ALL, 8);
	for (int i = 0; i < nkeys; i++)
	{
		to = put_le(to, keys[i].key, 8);
		to = put_le(to, (uint64) keys[i].delta << 1 | 1, 4);
	}
	*to++ = 'G';
	*to++ = (char) action;
	to = put_le(to, owner.node, 4);
	to = put_le(to, owner.boot, 4);
	to = put_le(to, owner.counter, 8);
	to = put_varint(to, ntables);
	foreach(lc, table_ids)
		to = put_varint(to, (uint32) lfirst_int(lc));
	pfree(keys);
	return (NodePart) {data, to - data};
}

/* ---------- which tables ---------- */

/*
 * Written or locked before: its own keys are older than the gate, and its locks
 * would be in the gate's way.
 */
static bool
is_ours_already(Oid relid)
{
	Relation	rel = try_relation_open(relid, AccessShareLock);
	bool		ours = true;

	if (rel)
	{
		ours = CheckRelationLockedByMe(rel, RowShareLock, true);
		relation_close(rel, AccessShareLock);
	}
	return ours;
}

static List *
tables_to_close(List *relids)
{
	List	   *ids = NIL;
	ListCell   *lc;

	foreach(lc, relids)
	{
		uint32		id = tables_id_of_oid(lfirst_oid(lc));
		Oid			root = id ? tables_oid_of(id) : InvalidOid;

		if (OidIsValid(root) && !list_member_int(closed_ids, (int) id) &&
			!is_ours_already(root) && !is_ours_already(lfirst_oid(lc)))
			ids = list_append_unique_int(ids, (int) id);
	}
	return ids;
}

/* ---------- the owner's slot ---------- */

static GateOwner *
find_owner(RaftToken token)
{
	for (int i = 0; i < GATE_MAX; i++)
		if (gate_shared->owners[i].token.node != 0 &&
			raft_token_equal(gate_shared->owners[i].token, token))
			return &gate_shared->owners[i];
	return NULL;
}

/* False: too many at once. */
static bool
enter_owner(RaftToken token)
{
	int64		now_us = node_monotonic_us();
	GateOwner  *free = NULL;
	GateOwner  *mine;

	SpinLockAcquire(&gate_shared->mutex);
	mine = find_owner(token);
	for (int i = 0; mine == NULL && free == NULL && i < GATE_MAX; i++)
		if (gate_shared->owners[i].token.node == 0)
			free = &gate_shared->owners[i];
	if (mine == NULL && free != NULL)
	{
		free->token = token;
		free->ended = false;
		free->deadline_us = now_us + (int64) quorum_ddl_gate_timeout_ms * 1000;
		free->renewed_us = now_us;
		mine = free;
	}
	SpinLockRelease(&gate_shared->mutex);
	return mine != NULL;
}

static void
open_own_tables(RaftToken token)
{
	for (int i = 0; i < GATE_MAX; i++)
		if (gate_shared->tables[i].table_id != 0 &&
			raft_token_equal(gate_shared->tables[i].owner, token))
			gate_shared->tables[i].table_id = 0;
}

void
gate_transaction_end(bool in_log)
{
	RaftToken	token;
	GateOwner  *owner;

	if (closed_ids == NIL)
		return;
	closed_ids = NIL;			/* its memory goes with the transaction */
	token = commit_token();
	SpinLockAcquire(&gate_shared->mutex);
	owner = find_owner(token);
	if (owner && in_log)
	{
		owner->token.node = 0;
		open_own_tables(token);
	}
	else if (owner)
		owner->ended = true;
	SpinLockRelease(&gate_shared->mutex);
	if (in_log)
		ConditionVariableBroadcast(&gate_shared->opened);
	else
		node_wake_apply();
}

/* ---------- closing ---------- */

static bool
is_closed(const List *ids, RaftToken mine)
{
	int64		now_us = node_monotonic_us();
	bool		closed = false;

	SpinLockAcquire(&gate_shared->mutex);
	for (int i = 0; i < GATE_MAX && !closed; i++)
	{
		const GateTable *table = &gate_shared->tables[i];

		closed = table->table_id != 0 && table->until_us > now_us &&
			!raft_token_equal(table->owner, mine) &&
			list_member_int(ids, (int) table->table_id);
	}
	SpinLockRelease(&gate_shared->mutex);
	return closed;
}

static void
report_busy(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
			 errmsg("could not close the table to other writers of the cluster"),
			 errdetail("Another transaction that changes the table's schema has kept it closed."),
			 errhint("The transaction might succeed if retried.")));
}

static void
wait_until_open(const List *ids, RaftToken mine, int64 deadline_us)
{
	if (!is_closed(ids, mine))
		return;
	ConditionVariablePrepareToSleep(&gate_shared->opened);
	while (is_closed(ids, mine))
	{
		if (node_monotonic_us() > deadline_us)
		{
			ConditionVariableCancelSleep();
			report_busy();
		}
		(void) ConditionVariableTimedSleep(&gate_shared->opened, CLOSED_POLL_MS,
										   PG_WAIT_EXTENSION);
	}
	ConditionVariableCancelSleep();
}

static void
report_verdict(const NodeAnswer *answer)
{
	switch (answer->verdict)
	{
		case NODE_COMMITTED:
			break;
		case NODE_DOOMED:
			conflict_report_doomed();
			break;
		case NODE_NOT_MEMBER:
			node_require_member();
			/* FALLTHROUGH */
		default:
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("the cluster has no quorum"),
					 answer->message[0] ? errdetail("%s", answer->message) :
					 errdetail("The table could not be closed to other writers."),
					 errhint("Nothing was changed. Retry when quorum.status shows has_quorum.")));
	}
}

static void
wait_applied(uint64 index, int64 deadline_us)
{
	if (node_wait_applied(index, deadline_us))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("this server has not applied the log in time"),
			 errdetail("A schema change has to see everything that was written before it."),
			 errhint("See column detail of quorum.status, and quorum.ddl_gate_timeout.")));
}

/*
 * One attempt; false: again. What the gate is judged by was read before the
 * tables were found open.
 */
static bool
try_to_close(const List *ids, RaftToken token, int64 deadline_us)
{
	uint64		base = node_applied_index();
	NodePart	part;
	NodeAnswer	answer;

	wait_until_open(ids, token, deadline_us);
	part = gate_payload(GATE_CLOSE, token, ids, base);
	(void) node_submit(node_next_token(), &part, 1, conflict_is_doomed, &answer);
	if (answer.verdict == NODE_REFUSED)
	{
		wait_applied(answer.conflict_index, deadline_us);
		return false;
	}
	CHECK_FOR_INTERRUPTS();
	report_verdict(&answer);
	wait_applied(answer.index, deadline_us);
	return true;
}

void
gate_forgo(uint32 table_id)
{
	MemoryContext old = MemoryContextSwitchTo(TopTransactionContext);

	closed_ids = list_append_unique_int(closed_ids, (int) table_id);
	MemoryContextSwitchTo(old);
}

void
gate_close(List *relids)
{
	RaftToken	token;
	List	   *ids;
	ListCell   *lc;
	int64		deadline_us;
	MemoryContext old;

	if (quorum_ddl_gate_timeout_ms == 0 || !node_is_member() || node_is_alone())
		return;
	ids = tables_to_close(relids);
	if (ids == NIL)
		return;

	token = commit_token();
	if (!enter_owner(token))
		return;
	deadline_us = node_monotonic_us() + (int64) quorum_ddl_gate_timeout_ms * 1000;
	/* two that wait for each other's tables do not for long */
	if (closed_ids != NIL)
		deadline_us = Min(deadline_us, node_monotonic_us() + (int64) DeadlockTimeout * 2000);

	/* noted first: from the proposal on it may stand, whatever happens here */
	old = MemoryContextSwitchTo(TopTransactionContext);
	foreach(lc, ids)
		closed_ids = lappend_int(closed_ids, lfirst_int(lc));
	MemoryContextSwitchTo(old);
	while (!try_to_close(ids, token, deadline_us))
		;
}
