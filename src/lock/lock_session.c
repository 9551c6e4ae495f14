/*-------------------------------------------------------------------------
 *
 * lock_session.c
 *		This session's locks, from the request to the release.
 *
 * The rules are those of pg_advisory_lock: a lock that is held is acquired again
 * by counting; what was acquired for the session stays over the end and the
 * failure of transactions; what was acquired for the transaction goes when it
 * ends, or when the savepoint before it is rolled back.
 *
 * The release is made ready before the request (LocalLock.drop), so that
 * giving a lock back never fails, not even in the middle of an abort. At the
 * end of a transaction it is posted once the commit is visible, and waited for
 * a moment, with no interrupts: whoever is told of the commit and asks for the
 * lock finds it free. It is not waited until it is applied here, which the
 * transaction's own locks might keep from happening.
 *
 * A grant can be taken away while the session believes to have it. Whenever it
 * relies on one, it looks into the table. A grant that is not applied here yet is
 * not in the table; nor can its loss be, which comes later in the log.
 *
 * Whoever is given a lock sees all that its former holder wrote. For this the
 * entries before the grant have to be applied, and of those only the ones that
 * change rows: not the grant, nor other sessions' locks. quorum.locks waits for
 * what was granted and released here before (lock_settle).
 *
 * State: private to the process (lock_local.c). What becomes of the locks of a
 * session that is gone is the Raft worker's business (lock.h).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "storage/ipc.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "tcop/utility.h"
#include "utils/timeout.h"

#include "lock/lock_internal.h"
#include "lock/lock_sql.h"
#include "lock/lock_tables.h"
#include "node/node.h"
#include "replication/replication.h"

/* At the end of a transaction: for how long the next one of its releases is waited for. */
#define RELEASE_WAIT_US		INT64CONST(1000000)

/* quorum.locks waits so long for what sessions of this server were told. */
#define SETTLE_US			INT64CONST(2000000)

/*
 * The first lock of a server begins its lease, and the first renewal confirms it a
 * moment later: no reason to call it unsafe.
 */
#define SAFE_WAIT_US		INT64CONST(500000)

/* Where neither quorum.commit_timeout nor a wait is given: for how long no leader may be there. */
#define NO_QUORUM_MS		10000

/*
 * So far may this server's tables be behind a grant that a session goes on with:
 * locks are handed out no faster than their entries are applied, and a commit does
 * not have to wait for thousands of those.
 */
#define GRANT_LAG_MAX		64

static ProcessUtility_hook_type prev_process_utility = NULL;

/* ---------- what the tables say ---------- */

static bool
is_in_table(uint8 type, const char *key, Size len, uint64 token)
{
	Relation	rel = lock_table_open(LOCK_GRANT, AccessShareLock);
	SysScanDesc scan = lock_scan_token(rel, LOCK_GRANT, type,
									   PointerGetDatum(lock_key_to_text(type, key, len)), token);
	bool		found = HeapTupleIsValid(systable_getnext(scan));

	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return found;
}

bool
lock_is_held(const LocalLock *lock)
{
	return node_applied_index() < lock->index ||
		is_in_table(lock->name.type, lock->name.key, lock->name.len, lock->token);
}

/* ---------- requests ---------- */

static void
arm_lock_timeout(bool on)
{
	if (LockTimeout <= 0)
		return;
	if (on)
		enable_timeout_after(LOCK_TIMEOUT, LockTimeout);
	else
		disable_timeout(LOCK_TIMEOUT, true);
}

LockResult
lock_ask(LkRecord *rec, const LkItem *items, int64 wait_us, LockAnswer *answer)
{
	int			saved = quorum_commit_timeout_ms;

	rec->op = LK_OP_GRANT;
	rec->deadlock_ms = (uint32) DeadlockTimeout;
	rec->max_hold_ms = (uint32) quorum_lock_max_hold_ms;
	rec->delay_ms = (uint32) quorum_lock_delay_ms;

	if (saved == 0 && wait_us < 0)
		quorum_commit_timeout_ms = NO_QUORUM_MS;
	arm_lock_timeout(wait_us != 0);
	PG_TRY();
	{
		(void) lock_request(rec, items, wait_us, answer);
	}
	PG_FINALLY();
	{
		arm_lock_timeout(false);
		quorum_commit_timeout_ms = saved;
	}
	PG_END_TRY();
	return answer->result;
}

static LockName
name_of(const LockKey *key, uint8 mode)
{
	LockName	name = {key->type, mode == LK_EXCLUSIVE, key->len, key->data};

	return name;
}

/* What is given back has no other use for its entry. */
static void
post_release(LocalLock *lock, bool want_wait)
{
	dsa_pointer drop = lock->drop;
	uint64		token = lock->token;

	lock_holds_set(lock->name.type, lock->name.key, lock->name.len, token, 0);
	lock_local_forget(lock);
	if (DsaPointerIsValid(drop))
		lock_drop_post(drop, token, want_wait);
}

static void
forget_lost(LocalLock *lock)
{
	dsa_pointer drop = lock->drop;

	lock_holds_set(lock->name.type, lock->name.key, lock->name.len, lock->token, 0);
	lock_local_forget(lock);
	if (DsaPointerIsValid(drop))
		lock_drop_cancel(drop);
}

/*
 * A lock that this session holds, as far as anybody knows here; NULL otherwise.
 * What it lost without noticing is forgotten, with a warning.
 */
static LocalLock *
find_held(const LockName *name, const LockKey *key)
{
	LocalLock  *lock = lock_local_find(name);

	if (lock == NULL || lock->token == 0)
		return NULL;
	if (lock_is_held(lock))
		return lock;
	ereport(WARNING,
			(errcode(ERRCODE_WARNING),
			 errmsg("lock \"%s\" was taken away from this session", lock_show_key(key)),
			 errdetail("Token " UINT64_FORMAT " is not valid any more.", lock->token)));
	forget_lost(lock);
	return NULL;
}

static void
note(const LockName *name, const LockKey *key, uint64 token, LockScope scope)
{
	LocalLock  *lock = lock_local_note(name, token, scope);
	int64		count = lock->session_holds + lock->xact_holds;

	if (count > 1)
		lock_holds_set(name->type, name->key, name->len, token, count);
}

bool
lock_wait_safe(int64 patience_us)
{
	int64		deadline_us = node_monotonic_us() + patience_us;

	while (lock_safe_us() <= 0)
	{
		if (node_monotonic_us() >= deadline_us)
			return false;
		node_pause(1L);
	}
	return true;
}

/* A lease that may have run out is no ground to build on. */
static void
check_safe(const LockKey *key)
{
	if (!lock_wait_safe(SAFE_WAIT_US))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("lock \"%s\" may be lost", lock_show_key(key)),
				 errdetail("This server has not been able to renew its lease in time."),
				 errhint("Retry when quorum.status shows has_quorum.")));
}

/* Keys of one request that this session does not hold yet, each once. */
typedef struct Wanted
{
	int			count;
	int		   *at;				/* places in the caller's keys */
	LkItem	   *items;
	dsa_pointer *drops;
} Wanted;

static void
want(Wanted *wanted, const LockKey *key, int at, uint8 mode)
{
	LkItem	   *item = &wanted->items[wanted->count];
	LockName	name = name_of(key, mode);

	lock_local_reserve(&name);
	memset(item, 0, sizeof(*item));
	item->key_type = key->type;
	item->mode = mode;
	item->len = key->len;
	item->key = key->data;
	wanted->at[wanted->count] = at;
	wanted->drops[wanted->count] = lock_drop_prepare(key->type, key->data, key->len);
	wanted->count++;
}

static void
unwant(Wanted *wanted, const LockKey *keys, uint8 mode)
{
	for (int i = 0; i < wanted->count; i++)
	{
		LockName	name = name_of(&keys[wanted->at[i]], mode);
		LocalLock  *lock = lock_local_find(&name);

		lock_drop_cancel(wanted->drops[i]);
		if (lock != NULL && lock->token == 0)
			lock_local_forget(lock);
	}
}

static bool
is_wanted(const Wanted *wanted, const LockKey *keys, const LockKey *key)
{
	for (int i = 0; i < wanted->count; i++)
	{
		const LockKey *other = &keys[wanted->at[i]];

		if (other->len == key->len && memcmp(other->data, key->data, key->len) == 0)
			return true;
	}
	return false;
}

/* The grant is ours: every key is noted before anything can fail. */
static void
note_granted(Wanted *wanted, const LockKey *keys, uint8 mode, LockScope scope,
			 const LockAnswer *answer)
{
	for (int i = 0; i < wanted->count; i++)
	{
		const LockKey *key = &keys[wanted->at[i]];
		LockName	name = name_of(key, mode);
		LocalLock  *lock = lock_local_find(&name);

		lock->drop = wanted->drops[i];
		lock->index = answer->index;
		note(&name, key, answer->token, scope);
	}
}

/* All that the former holder wrote is to be seen here. */
static void
see_rows(const LockAnswer *answer)
{
	uint64		index = answer->rows_index;

	lock_settles_at(answer->index);
	if (answer->index > GRANT_LAG_MAX)
		index = Max(index, answer->index - GRANT_LAG_MAX);
	(void) node_wait_applied(index, 0);
}

/* The same; else the lock is given back. */
static void
see_rows_or_release(Wanted *wanted, const LockKey *keys, uint8 mode, const LockAnswer *answer)
{
	PG_TRY();
	{
		see_rows(answer);
	}
	PG_CATCH();
	{
		for (int i = 0; i < wanted->count; i++)
		{
			LockName	name = name_of(&keys[wanted->at[i]], mode);
			LocalLock  *lock = lock_local_find(&name);

			if (lock != NULL)
				post_release(lock, false);
		}
		PG_RE_THROW();
	}
	PG_END_TRY();
}

static bool
request(Wanted *wanted, const LockKey *keys, uint8 mode, LockScope scope, int64 wait_us)
{
	LockAnswer	answer;
	LkRecord	rec;

	memset(&rec, 0, sizeof(rec));
	lock_own_owner(&rec.owner);
	rec.nitems = (uint16) wanted->count;
	PG_TRY();
	{
		if (lock_ask(&rec, wanted->items, wait_us, &answer) != LOCK_GRANTED)
			lock_check_result(&answer);
	}
	PG_CATCH();
	{
		unwant(wanted, keys, mode);
		PG_RE_THROW();
	}
	PG_END_TRY();
	if (answer.result != LOCK_GRANTED)
	{
		unwant(wanted, keys, mode);
		return false;
	}
	note_granted(wanted, keys, mode, scope, &answer);
	see_rows_or_release(wanted, keys, mode, &answer);
	return true;
}

bool
lock_acquire(const LockKey *keys, int nkeys, uint8 mode, LockScope scope, int64 wait_us,
			 uint64 *tokens)
{
	Wanted		wanted = {0};

	lock_require_cluster();
	(void) lock_session_register();
	wanted.at = palloc(nkeys * sizeof(int));
	wanted.items = palloc(nkeys * sizeof(LkItem));
	wanted.drops = palloc(nkeys * sizeof(dsa_pointer));

	PG_TRY();
	{
		for (int i = 0; i < nkeys; i++)
		{
			LockName	name = name_of(&keys[i], mode);

			/* looked at once more when it is safe: it may be known only then that it is lost */
			if (find_held(&name, &keys[i]) != NULL)
				check_safe(&keys[i]);
			if (find_held(&name, &keys[i]) == NULL && !is_wanted(&wanted, keys, &keys[i]))
				want(&wanted, &keys[i], i, mode);
		}
	}
	PG_CATCH();
	{
		unwant(&wanted, keys, mode);
		PG_RE_THROW();
	}
	PG_END_TRY();
	if (wanted.count > 0 && !request(&wanted, keys, mode, scope, wait_us))
		return false;

	for (int i = 0, next = 0; i < nkeys; i++)
	{
		LockName	name = name_of(&keys[i], mode);
		LocalLock  *lock = lock_local_find(&name);

		tokens[i] = lock->token;
		if (next < wanted.count && wanted.at[next] == i)
			next++;				/* counted when it was granted */
		else
		{
			lock_local_reserve(&name);
			note(&name, &keys[i], lock->token, scope);
		}
	}
	return true;
}

/* ---------- releases ---------- */

void
lock_settles_at(uint64 index)
{
	pg_atomic_uint64 *newest = &lock_shared->settles_at;
	uint64		old = pg_atomic_read_u64(newest);

	while (old < index && !pg_atomic_compare_exchange_u64(newest, &old, index))
		;
}

void
lock_settle(void)
{
	uint64		index = pg_atomic_read_u64(&lock_shared->settles_at);

	if (index > node_applied_index())
		(void) node_wait_applied(index, node_monotonic_us() + SETTLE_US);
}

/* A hold less; the last one gives the lock back. Interrupts are served. */
static void
unhold(LocalLock *lock)
{
	dsa_pointer drop = lock->drop;
	uint64		index;

	(void) lock_local_unhold(lock);
	if (lock->session_holds > 0 || lock->xact_holds > 0)
	{
		lock_holds_set(lock->name.type, lock->name.key, lock->name.len, lock->token,
					   lock->session_holds + lock->xact_holds);
		return;
	}
	post_release(lock, true);
	index = lock_drop_wait(drop, node_monotonic_us() + RELEASE_WAIT_US, true);
	lock_settles_at(index);
}

bool
lock_unlock(const LockKey *key, uint8 mode, uint64 token)
{
	LockName	name = name_of(key, mode);
	LocalLock  *lock;

	lock_require_cluster();
	lock = find_held(&name, key);
	if (lock == NULL || lock->session_holds == 0 || (token != 0 && lock->token != token))
	{
		ereport(WARNING,
				(errcode(ERRCODE_WARNING),
				 errmsg("you don't own a lock of type %s on \"%s\"", lk_mode_name(mode),
						lock_show_key(key)),
				 lock != NULL && token == 0 ?
				 errdetail("It was acquired for the transaction, and goes with it.") : 0));
		return false;
	}
	unhold(lock);
	return true;
}

static void
post_for_wait(LocalLock *lock)
{
	lock_drop_post(lock->drop, lock->token, true);
}

/*
 * Whatever nothing holds any more: all of it is posted, then waited for, with no
 * interrupts: an error half way through would leave locks here that are on their
 * way out. Not in an exiting process: its locks go when the Raft worker finds it
 * gone.
 */
static void
release_unheld(void)
{
	int64		deadline_us;
	bool		wait = !proc_exit_inprogress;
	uint64		index;
	LocalLock  *lock;

	if (!lock_local_any_release())
		return;					/* as at the end of almost every transaction */
	deadline_us = node_monotonic_us() + RELEASE_WAIT_US;
	if (wait)
		lock_local_each_release(post_for_wait);
	while ((lock = lock_local_next_release()) != NULL)
	{
		dsa_pointer drop = lock->drop;

		if (!wait)
		{
			post_release(lock, false);
			continue;
		}
		lock->drop = InvalidDsaPointer;
		post_release(lock, false);	/* it is on its way */
		index = lock_drop_wait(drop, deadline_us, false);
		lock_settles_at(index);
		/* thousands go in several entries: for as long as there are more */
		if (index != 0)
			deadline_us = node_monotonic_us() + RELEASE_WAIT_US;
	}
}

void
lock_unlock_all(void)
{
	lock_local_drop_session_holds();
	release_unheld();
}

/* ---------- the ends of transactions and sessions ---------- */

static void
xact_callback(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_ABORT:
			lock_local_end_level(1, false);
			release_unheld();
			break;
		case XACT_EVENT_PRE_PREPARE:
			if (lock_local_any_xact())
				ereport(ERROR,
						(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						 errmsg("cannot PREPARE a transaction that holds locks of the cluster"),
						 errhint("Use quorum.advisory_lock, whose locks are the session's.")));
			break;
		default:
			break;
	}
}

static void
subxact_callback(SubXactEvent event, SubTransactionId mine, SubTransactionId parent, void *arg)
{
	int			level = GetCurrentTransactionNestLevel();

	switch (event)
	{
		case SUBXACT_EVENT_COMMIT_SUB:
			lock_local_end_level(level, true);
			break;
		case SUBXACT_EVENT_ABORT_SUB:
			lock_local_end_level(level, false);
			release_unheld();
			break;
		default:
			break;
	}
}

static void
process_utility(PlannedStmt *pstmt, const char *query, bool read_only_tree,
				ProcessUtilityContext context, ParamListInfo params,
				QueryEnvironment *env, DestReceiver *dest, QueryCompletion *qc)
{
	if (prev_process_utility)
		prev_process_utility(pstmt, query, read_only_tree, context, params, env, dest, qc);
	else
		standard_ProcessUtility(pstmt, query, read_only_tree, context, params, env, dest, qc);

	if (IsA(pstmt->utilityStmt, DiscardStmt) &&
		castNode(DiscardStmt, pstmt->utilityStmt)->target == DISCARD_ALL &&
		lock_local_count() > 0)
		lock_unlock_all();
}

void
lock_session_install(void)
{
	RegisterXactCallback(xact_callback, NULL);
	RegisterSubXactCallback(subxact_callback, NULL);
	prev_process_utility = ProcessUtility_hook;
	ProcessUtility_hook = process_utility;
}
