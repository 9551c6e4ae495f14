/*-------------------------------------------------------------------------
 *
 * ordercommit.c
 *		The local commit of a log entry, in a session or in the apply worker.
 *
 * The index goes into the commit record as the LSN of a replication origin, so
 * after a crash the origin's progress says exactly which entries survived. The
 * commit is asynchronous: the majority's log is the durability, and what the
 * local WAL loses is applied again from there.
 *
 * The origin is exclusive to one process. It is set up by whoever has the turn,
 * as the last act before the commit record, and reset before the turn goes on.
 *
 * The guard: from PostgreSQL 16 on an abort with an origin set advances the
 * origin, and the entry would be lost for ever. An error context callback runs
 * before the abort does and takes the origin back. It must not do so for a
 * message that is no error, or the commit would go without its index.
 *
 * State is private to the process; a crash leaves nothing behind. What is
 * shared is the turn (node.h).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "miscadmin.h"
#include "replication/origin.h"
#include "storage/ipc.h"
#include "utils/memutils.h"

#include "compat.h"
#include "node/node.h"
#include "replication/apply_internal.h"

static uint64 armed_index = 0;
static int	saved_synchronous_commit;
static ErrorContextCallback guard;
static bool exit_registered = false;

RepOriginId
ordercommit_origin(void)
{
	return replorigin_by_name(REPLICATION_ORIGIN_NAME, true);
}

/*
 * Runs inside errfinish(), for messages of all levels. The code tells errors
 * from most others; where a mere message carries an error's code, its level is
 * looked up, with the origin already taken back in case that fails.
 */
static void
guard_callback(void *arg)
{
	RepOriginId saved = replorigin_session_origin;
	int			category = ERRCODE_TO_CATEGORY(geterrcode());
	MemoryContext old;
	ErrorData  *edata;

	if (armed_index == 0 || category == ERRCODE_SUCCESSFUL_COMPLETION ||
		category == ERRCODE_WARNING)
		return;
	replorigin_session_origin = InvalidRepOriginId;
	old = MemoryContextSwitchTo(TopMemoryContext);
	edata = CopyErrorData();
	if (edata->elevel < ERROR)
		replorigin_session_origin = saved;
	FreeErrorData(edata);
	MemoryContextSwitchTo(old);
}

static void
disarm(void)
{
	synchronous_commit = saved_synchronous_commit;
	replorigin_session_origin = InvalidRepOriginId;
	replorigin_session_origin_lsn = InvalidXLogRecPtr;
	replorigin_session_origin_timestamp = 0;
	replorigin_session_reset();
	if (error_context_stack == &guard)
		error_context_stack = guard.previous;
	armed_index = 0;
}

/* A process that goes lets go of its entry, whatever it was doing. */
static void
at_exit(int code, Datum arg)
{
	node_turn_abandon();
}

static void
xact_callback(XactEvent event, void *arg)
{
	uint64		index = armed_index;

	switch (event)
	{
		case XACT_EVENT_COMMIT:
			if (index != 0)
			{
				disarm();
				RESUME_INTERRUPTS();
				node_turn_done(index);
			}
			break;
		case XACT_EVENT_ABORT:
			/* the error has already ended the hold on interrupts */
			if (index != 0)
				disarm();
			node_turn_abandon();
			break;
		default:
			break;
	}
}

void
ordercommit_install(void)
{
	RegisterXactCallback(xact_callback, NULL);
}

void
ordercommit_arm(uint64 index, TimestampTz stamp)
{
	RepOriginId origin = ordercommit_origin();
	TransactionId xid;

	Assert(armed_index == 0);
	if (origin == InvalidRepOriginId)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("replication origin \"%s\" does not exist", REPLICATION_ORIGIN_NAME),
				 errdetail("It records which entries of the log are applied on this server."),
				 errhint("Restart this server: the apply worker creates it.")));
	if (!exit_registered)
	{
		on_shmem_exit(at_exit, (Datum) 0);
		exit_registered = true;
	}

	/* without a transaction id there would be no commit record */
	xid = GetTopTransactionId();
	compat_replorigin_session_setup(origin);

	/* nothing from here to the commit record waits or is interrupted */
	HOLD_INTERRUPTS();
	saved_synchronous_commit = synchronous_commit;
	synchronous_commit = SYNCHRONOUS_COMMIT_OFF;
	armed_index = index;
	guard.callback = guard_callback;
	guard.arg = NULL;
	guard.previous = error_context_stack;
	error_context_stack = &guard;
	replorigin_session_origin_lsn = index;
	replorigin_session_origin_timestamp = stamp;
	replorigin_session_origin = origin;
	node_turn_committing(index, xid);
}
