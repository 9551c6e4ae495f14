/*-------------------------------------------------------------------------
 *
 * lock_local.h
 *		What this session believes to hold: the counts behind the grants.
 *
 * The cluster knows a session's lock once, as one grant with one token. How
 * often the session has acquired it, and for which scope (the session, or a
 * nesting level of its transaction), is known here only, as PostgreSQL's
 * advisory locks count.
 *
 * A grant that was taken away (its lease expired, or it was broken) stays here
 * until the session looks: lock_sql.c compares with the tables before it relies
 * on what is here.
 *
 * Everything is private to the process. Nothing here throws except where memory
 * is allocated, in lock_local_note() and the reservation before it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGQ_LOCK_LOCAL_H
#define PGQ_LOCK_LOCAL_H

#include "postgres.h"

#include "lib/ilist.h"
#include "utils/dsa.h"

typedef struct LockName
{
	uint8		type;			/* LOCK_KEY_* */
	bool		exclusive;
	uint16		len;
	const char *key;
} LockName;

typedef struct LocalLock
{
	LockName	name;			/* hash key; owns its bytes */
	uint64		token;			/* 0: reserved, not granted yet */
	uint64		index;			/* of the grant's entry: before it is applied the tables cannot know it */
	dsa_pointer drop;			/* its release, made ready (lock.h) */
	int64		session_holds;	/* by advisory_lock ... */
	int64		xact_holds;		/* by advisory_xact_lock ..., all levels */
	slist_node	link;			/* in the list of those to be released */
	bool		releasing;
} LocalLock;

typedef enum LockScope
{
	LOCK_SCOPE_SESSION,
	LOCK_SCOPE_XACT
} LockScope;

extern LocalLock *lock_local_find(const LockName *name);

/* Any mode, by token. */
extern LocalLock *lock_local_by_token(uint8 type, const char *key, Size len, uint64 token);

/* Room for one more hold, so that lock_local_note() cannot fail after a grant. */
extern void lock_local_reserve(const LockName *name);
extern LocalLock *lock_local_note(const LockName *name, uint64 token, LockScope scope);

/* One session hold less. The caller releases the lock when none is left. */
extern bool lock_local_unhold(LocalLock *lock);

/* It is not ours any more, whatever the counts say. */
extern void lock_local_forget(LocalLock *lock);

/*
 * The end of a nesting level of the transaction (1: of the whole). Kept holds
 * go to the level above. Locks that nothing holds any more are put on a list,
 * which lock_local_each_release() goes through and lock_local_next_release() takes
 * off again; the caller forgets them.
 */
extern void lock_local_end_level(int level, bool keep);
extern void lock_local_drop_session_holds(void);
extern bool lock_local_any_release(void);
extern LocalLock *lock_local_next_release(void);
extern void lock_local_each_release(void (*visit) (LocalLock *lock));

extern int64 lock_local_count(void);
extern bool lock_local_any_xact(void);

/* All of them, in no order; NULL ends. */
extern void lock_local_each(void (*visit) (LocalLock *lock, void *arg), void *arg);

#endif							/* PGQ_LOCK_LOCAL_H */
