/*-------------------------------------------------------------------------
 *
 * lockstate_internal.h
 *		The lock state's inside, for its own files.
 *
 *	lockstate.c		grants and leases: what entries do, and undoing them
 *	lockqueue.c		the leader: judging, the queue, deadlocks
 *	locktime.c		the leader: leases, hold times, delays
 *	lockimage.c		from tables, to another process; questions
 *
 * Lifetime: keys and owners are counted (refs): by linked grants, by grants that
 * only the journal knows any more, by waiters, by a delay, by a lease. Whoever
 * drops the last one frees.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGQ_LOCKSTATE_INTERNAL_H
#define PGQ_LOCKSTATE_INTERNAL_H

#include "lock/lockstate.h"

/* A doubly linked ring; a list's head is one, too. Alone: linked to itself. */
typedef struct Link
{
	struct Link *prev;
	struct Link *next;
} Link;

#define container(type, member, link) \
	((type *) ((char *) (link) - offsetof(type, member)))
#define each_link(at, head) \
	(Link *at = (head)->next; at != (head); at = at->next)
#define each_link_safe(at, following, head) \
	(Link *at = (head)->next, *following = at->next; at != (head); \
	 at = following, following = at->next)

static inline void
link_init(Link *l)
{
	l->prev = l->next = l;
}

static inline bool
link_alone(const Link *l)
{
	return l->next == l;
}

static inline void
link_before(Link *where, Link *l)
{
	l->prev = where->prev;
	l->next = where;
	where->prev->next = l;
	where->prev = l;
}

static inline void
link_remove(Link *l)
{
	l->prev->next = l->next;
	l->next->prev = l->prev;
	link_init(l);
}

typedef struct LkKey
{
	struct LkKey *chain;
	uint64_t	hash;
	uint32_t	refs;
	Link		holders;		/* LkGrant.by_key */
	Link		waits;			/* LkWait.by_key, first in line first */
	Link		dirty;			/* in LkState.dirty: somebody may be granted now */
	Link		waited;			/* in LkState.waited: somebody waits */
	Link		delayed;		/* in LkState.delayed */
	int64_t		delayed_until_us;
	uint64_t	delay_index;	/* of the entry */
	uint8_t		type;
	uint16_t	len;
	char		key[];
} LkKey;

/* A start of a member's server, while its sessions hold something. */
typedef struct LkNode
{
	Link		link;
	uint32_t	node;
	uint32_t	boot;
	uint32_t	grants;
	uint32_t	lease_ms;		/* the longest that was promised */
	uint32_t	least_lease_ms; /* the shortest that something was granted under */
	int64_t		renewed_us;
	Link		owners;			/* LkOwnerRec.by_node */
} LkNode;

typedef struct LkOwnerRec
{
	struct LkOwnerRec *chain;
	uint32_t	refs;
	LkOwner		id;
	LkNode	   *node;			/* sessions that hold something */
	Link		by_node;
	uint32_t	ngrants;
	Link		grants;			/* LkGrant.by_owner, in order of tokens */
	Link		waiters;		/* LkWaiter.by_owner */
	Link		asking;			/* LkWaiter.by_session: for a lease */
	struct LkLease *lease;		/* open */
} LkOwnerRec;

typedef struct LkLease
{
	Link		link;			/* in LkState.leases */
	LkOwnerRec *owner;
	LkLeaseInfo info;
	int64_t		renewed_us;
} LkLease;

typedef struct LkGrant
{
	Link		by_key;
	Link		by_owner;
	Link		timed;			/* in LkState.timed: has a maximum hold time */
	LkKey	   *key;
	LkOwnerRec *owner;
	LkGrantInfo info;			/* key, owner filled in when asked for */
	int64_t		seen_us;		/* when it was appended here, or we began to lead */
} LkGrant;

typedef struct LkWait
{
	Link		by_key;
	struct LkWaiter *waiter;
	LkKey	   *key;
	uint8_t		mode;
	uint32_t	weight;
	uint32_t	limit;
} LkWait;

typedef struct LkWaiter
{
	Link		link;			/* in LkState.waiters */
	struct LkWaiter *chain;
	RaftToken	token;
	uint32_t	from;
	LkOwner		asked_by;		/* as in the request */
	LkOwnerRec *owner;
	Link		by_owner;
	LkOwnerRec *session;		/* of a request for a lease: who waits */
	Link		by_session;
	int64_t		since_us;
	int64_t		refreshed_us;
	int64_t		check_us;		/* look for a deadlock then; INT64_MAX never */
	int64_t		check_interval_us;
	bool		suspended;		/* its member cannot be reached */
	void	   *data;
	/* while looking for a cycle */
	uint64_t	visit;
	struct LkWaiter *parent;
	LkWait	   *parent_wait;	/* what parent waits for */
	struct LkWaiter *visit_next;
	uint32_t	nwaits;
	LkWait		waits[];
} LkWaiter;

typedef enum UndoKind
{
	UNDO_GRANTED = 1,
	UNDO_GONE,
	UNDO_COUNTED,
	UNDO_LEASE_OPENED,
	UNDO_LEASE_GONE
} UndoKind;

typedef struct Undo
{
	uint64_t	index;
	UndoKind	kind;
	int32_t		delta;			/* COUNTED */
	LkGrant    *grant;
	LkLease    *lease;
} Undo;

/* Requests of starts before this one are refused: they were released. */
typedef struct LkFloor
{
	uint32_t	node;
	uint32_t	boot;
	uint64_t	index;
} LkFloor;

#define LK_MAX_FLOORS	64
#define LK_MAX_DOWN		64

struct LkState
{
	LkKey	  **keys;
	uint32_t	nkeys;
	uint32_t	key_mask;
	LkOwnerRec **owners;
	uint32_t	nowners;
	uint32_t	owner_mask;
	Link		nodes;
	Link		leases;
	Link		timed;
	Link		delayed;
	uint32_t	ngrants;
	uint32_t	nleases;
	uint64_t	last_index;		/* of a lock entry */
	bool		broken;			/* memory ran out where nothing could be said */

	Undo	   *journal;		/* [start, end) in log order */
	size_t		undo_start;
	size_t		undo_end;
	size_t		undo_cap;

	bool		leading;
	Link		waiters;		/* in order of since_us */
	LkWaiter  **waiter_table;
	uint32_t	nwaiters;
	uint32_t	waiter_mask;
	Link		waited;
	Link		dirty;
	uint64_t	visit;
	int64_t		check_us;		/* of the waiters, the earliest; may be too early */
	int64_t		due_us;			/* of leases and holds, the earliest; may be too early */
	int64_t		scanned_us;

	LkFloor		floors[LK_MAX_FLOORS];
	int			nfloors;
	uint32_t	down[LK_MAX_DOWN];
	int			ndown;
};

/* lockstate.c */
extern LkKey *lks_find_key(const LkState *ls, uint8_t type, const char *key, size_t len);
extern LkKey *lks_get_key(LkState *ls, uint8_t type, const char *key, size_t len);
extern void lks_key_unref(LkState *ls, LkKey *key);
extern LkOwnerRec *lks_find_owner(const LkState *ls, const LkOwner *id);
extern LkOwnerRec *lks_get_owner(LkState *ls, const LkOwner *id);
extern void lks_owner_unref(LkState *ls, LkOwnerRec *owner);
extern LkGrant *lks_find_grant(const LkKey *key, uint64_t token);
extern LkGrant *lks_find_held(const LkOwnerRec *owner, const LkKey *key, uint8_t mode);
extern void lks_fill(const LkGrant *g, LkGrantInfo *info);
extern bool lks_add_grant(LkState *ls, const LkGrantInfo *info, int64_t now_us, LkGrant **added);
extern bool lks_add_lease(LkState *ls, const LkLeaseInfo *info, int64_t now_us, LkLease **added);

/* May this be held beside what others hold? mode etc. of the one that asks. */
extern bool lks_fits_holders(const LkKey *key, const LkOwner *owner, uint8_t mode,
							 uint32_t weight, uint32_t limit);

/* lockqueue.c */
extern void lks_mark_dirty(LkState *ls, LkKey *key);
extern LkWaiter *lks_find_waiter(const LkState *ls, RaftToken token);

/* locktime.c */
extern void lks_set_delay(LkState *ls, LkKey *key, uint32_t delay_ms, uint64_t index,
						  int64_t now_us);
extern void lks_end_delay(LkState *ls, LkKey *key);
extern void lks_end_delays(LkState *ls, int64_t now_us);
extern void lks_due_at(LkState *ls, int64_t at_us);

#endif							/* PGQ_LOCKSTATE_INTERNAL_H */
