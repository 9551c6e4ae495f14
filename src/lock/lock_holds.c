/*-------------------------------------------------------------------------
 *
 * lock_holds.c
 *		How often sessions of this server hold their locks, where that is more
 *		than once: for column hold_count of quorum.locks in other sessions.
 *
 * Shared memory: a hash table under a lock of its own; an entry for each grant
 * that its session has acquired more than once, written by that session, taken
 * out when the count falls to one, and at its exit. When the table is full the
 * count is not shown, and nothing else happens. A crash starts with an empty
 * one, as it does with sessions.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"
#include "utils/hsearch.h"

#include "lock/lock_sql.h"

#define HOLDS_MAX	4096
#define HOLDS_TRANCHE "pg_quorum lock holds"

typedef struct HoldKey
{
	uint64		token;
	uint64		name;			/* hash of the key */
} HoldKey;

typedef struct Hold
{
	HoldKey		key;
	int64		count;
} Hold;

typedef struct HoldsShared
{
	LWLock		lock;
} HoldsShared;

static HoldsShared *shared = NULL;
static HTAB *holds = NULL;
static int64 mine = 0;			/* entries of this session */
static bool exit_registered = false;

Size
lock_holds_shmem_size(void)
{
	return add_size(MAXALIGN(sizeof(HoldsShared)), hash_estimate_size(HOLDS_MAX, sizeof(Hold)));
}

void
lock_holds_shmem_init(void)
{
	HASHCTL		ctl;
	bool		found;

	shared = ShmemInitStruct("pg_quorum lock holds", sizeof(HoldsShared), &found);
	if (!found)
		LWLockInitialize(&shared->lock, LWLockNewTrancheId());
	LWLockRegisterTranche(shared->lock.tranche, HOLDS_TRANCHE);
	memset(&ctl, 0, sizeof(ctl));
	ctl.keysize = sizeof(HoldKey);
	ctl.entrysize = sizeof(Hold);
	holds = ShmemInitHash("pg_quorum lock hold counts", HOLDS_MAX, HOLDS_MAX, &ctl,
						  HASH_ELEM | HASH_BLOBS);
}

static HoldKey
make_key(uint8 type, const char *key, Size len, uint64 token)
{
	HoldKey		made;

	memset(&made, 0, sizeof(made));
	made.token = token;
	made.name = hash_bytes_extended((const unsigned char *) key, (int) len, type);
	return made;
}

static void
drop_one(LocalLock *lock, void *arg)
{
	lock_holds_set(lock->name.type, lock->name.key, lock->name.len, lock->token, 0);
}

static void
at_exit(int code, Datum arg)
{
	if (mine > 0)
		lock_local_each(drop_one, NULL);
}

/* One, or none, is what everybody takes for granted. */
void
lock_holds_set(uint8 type, const char *key, Size len, uint64 token, int64 count)
{
	HoldKey		wanted = make_key(type, key, len, token);
	bool		found = false;

	if (count <= 1 && mine == 0)
		return;
	if (!exit_registered)
	{
		before_shmem_exit(at_exit, (Datum) 0);
		exit_registered = true;
	}
	LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
	if (count <= 1)
	{
		(void) hash_search(holds, &wanted, HASH_REMOVE, &found);
		mine -= found;
	}
	else
	{
		Hold	   *hold = hash_search(holds, &wanted, HASH_ENTER_NULL, &found);

		if (hold != NULL)
		{
			hold->count = count;
			mine += !found;
		}
	}
	LWLockRelease(&shared->lock);
}

int64
lock_holds_get(uint8 type, const char *key, Size len, uint64 token)
{
	HoldKey		wanted = make_key(type, key, len, token);
	const Hold *hold;
	int64		count = 1;

	LWLockAcquire(&shared->lock, LW_SHARED);
	hold = hash_search(holds, &wanted, HASH_FIND, NULL);
	if (hold != NULL)
		count = hold->count;
	LWLockRelease(&shared->lock);
	return count;
}
