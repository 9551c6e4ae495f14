/*-------------------------------------------------------------------------
 *
 * lock_local.c
 *		The counts behind this session's grants (lock_local.h).
 *
 * A hash table of locks, and a stack of what the transaction holds: one element
 * for each run of acquisitions of one lock at one nesting level. Levels end
 * from the top, so the end of one looks only at what it took.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "common/hashfn.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

#include "lock/lock_local.h"
#include "lock/lock_sql.h"

typedef struct XactHold
{
	LocalLock  *lock;
	int			level;
	int64		count;
} XactHold;

static MemoryContext context = NULL;
static HTAB *locks = NULL;
static XactHold *stack = NULL;
static int	depth = 0;
static int	stack_size = 0;
static slist_head to_release = SLIST_STATIC_INIT(to_release);

static uint32
name_hash(const void *key, Size keysize)
{
	const LockName *name = key;

	return hash_bytes((const unsigned char *) name->key, name->len) ^
		(name->type << 1 | name->exclusive);
}

static int
name_compare(const void *a, const void *b, Size keysize)
{
	const LockName *left = a;
	const LockName *right = b;

	return !(left->type == right->type && left->exclusive == right->exclusive &&
			 left->len == right->len && memcmp(left->key, right->key, left->len) == 0);
}

static void
create(void)
{
	HASHCTL		ctl;

	if (locks != NULL)
		return;
	context = AllocSetContextCreate(TopMemoryContext, "pg_quorum locks", ALLOCSET_SMALL_SIZES);
	memset(&ctl, 0, sizeof(ctl));
	ctl.keysize = sizeof(LockName);
	ctl.entrysize = sizeof(LocalLock);
	ctl.hash = name_hash;
	ctl.match = name_compare;
	ctl.hcxt = context;
	locks = hash_create("pg_quorum locks of this session", 16, &ctl,
						HASH_ELEM | HASH_FUNCTION | HASH_COMPARE | HASH_CONTEXT);
}

LocalLock *
lock_local_find(const LockName *name)
{
	return locks ? hash_search(locks, name, HASH_FIND, NULL) : NULL;
}

LocalLock *
lock_local_by_token(uint8 type, const char *key, Size len, uint64 token)
{
	for (int exclusive = 0; exclusive < 2; exclusive++)
	{
		LockName	name = {type, exclusive != 0, (uint16) len, key};
		LocalLock  *lock = lock_local_find(&name);

		if (lock != NULL && lock->token == token)
			return lock;
	}
	return NULL;
}

void
lock_local_reserve(const LockName *name)
{
	LocalLock  *lock;
	bool		found;

	create();
	if (depth == stack_size)
	{
		int			wanted = stack_size ? stack_size * 2 : 16;

		stack = stack ? repalloc_huge(stack, wanted * sizeof(XactHold)) :
			MemoryContextAlloc(context, wanted * sizeof(XactHold));
		stack_size = wanted;
	}
	if (lock_local_find(name) == NULL)
	{
		char	   *bytes = MemoryContextAlloc(context, Max(name->len, 1));

		memcpy(bytes, name->key, name->len);
		lock = hash_search(locks, name, HASH_ENTER, &found);
		/* the key's bytes were the caller's: the same, but ours from here on */
		lock->name.key = bytes;
		lock->token = 0;
		lock->drop = InvalidDsaPointer;
		lock->session_holds = 0;
		lock->xact_holds = 0;
		lock->releasing = false;
	}
}

static void
hold_in_xact(LocalLock *lock)
{
	int			level = GetCurrentTransactionNestLevel();

	lock->xact_holds++;
	if (depth > 0 && stack[depth - 1].lock == lock && stack[depth - 1].level == level)
	{
		stack[depth - 1].count++;
		return;
	}
	Assert(depth < stack_size);
	stack[depth].lock = lock;
	stack[depth].level = level;
	stack[depth].count = 1;
	depth++;
}

LocalLock *
lock_local_note(const LockName *name, uint64 token, LockScope scope)
{
	LocalLock  *lock = lock_local_find(name);

	Assert(lock != NULL);
	lock->token = token;
	if (scope == LOCK_SCOPE_XACT)
		hold_in_xact(lock);
	else
		lock->session_holds++;
	return lock;
}

bool
lock_local_unhold(LocalLock *lock)
{
	if (lock->session_holds == 0)
		return false;
	lock->session_holds--;
	return true;
}

void
lock_local_forget(LocalLock *lock)
{
	char	   *bytes = unconstify(char *, lock->name.key);
	int			kept = 0;

	if (lock->xact_holds > 0)
	{
		for (int i = 0; i < depth; i++)
			if (stack[i].lock != lock)
				stack[kept++] = stack[i];
		depth = kept;
	}
	(void) hash_search(locks, &lock->name, HASH_REMOVE, NULL);
	pfree(bytes);
}

static void
put_for_release(LocalLock *lock)
{
	if (lock->session_holds > 0 || lock->xact_holds > 0)
	{
		lock_holds_set(lock->name.type, lock->name.key, lock->name.len, lock->token,
					   lock->session_holds + lock->xact_holds);
		return;
	}
	if (lock->releasing)
		return;
	lock->releasing = true;
	slist_push_head(&to_release, &lock->link);
}

void
lock_local_end_level(int level, bool keep)
{
	int			first = depth;

	while (first > 0 && stack[first - 1].level >= level)
		first--;
	if (keep && level > 1)
	{
		for (int i = first; i < depth; i++)
			stack[i].level = level - 1;
		return;
	}
	while (depth > first)
	{
		XactHold   *hold = &stack[--depth];

		hold->lock->xact_holds -= hold->count;
		put_for_release(hold->lock);
	}
}

bool
lock_local_any_release(void)
{
	return !slist_is_empty(&to_release);
}

void
lock_local_drop_session_holds(void)
{
	HASH_SEQ_STATUS status;
	LocalLock  *lock;

	if (locks == NULL)
		return;
	hash_seq_init(&status, locks);
	while ((lock = hash_seq_search(&status)) != NULL)
	{
		lock->session_holds = 0;
		put_for_release(lock);
	}
}

void
lock_local_each_release(void (*visit) (LocalLock *lock))
{
	slist_iter	iter;

	slist_foreach(iter, &to_release)
		visit(slist_container(LocalLock, link, iter.cur));
}

LocalLock *
lock_local_next_release(void)
{
	LocalLock  *lock;

	if (slist_is_empty(&to_release))
		return NULL;
	lock = slist_container(LocalLock, link, slist_pop_head_node(&to_release));
	lock->releasing = false;
	return lock;
}

int64
lock_local_count(void)
{
	return locks ? hash_get_num_entries(locks) : 0;
}

bool
lock_local_any_xact(void)
{
	return depth > 0;
}

void
lock_local_each(void (*visit) (LocalLock *lock, void *arg), void *arg)
{
	HASH_SEQ_STATUS status;
	LocalLock  *lock;

	if (locks == NULL)
		return;
	hash_seq_init(&status, locks);
	while ((lock = hash_seq_search(&status)) != NULL)
		visit(lock, arg);
}
