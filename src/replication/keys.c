/*-------------------------------------------------------------------------
 *
 * keys.c
 *		The keys of a row (design.md section 5), added to the write set.
 *
 * Bases
 * -----
 *	A base is node_base_index() at a moment when the row's lock is held and
 *	before anything was concluded from it. Our trigger sorts before PostgreSQL's
 *	foreign-key triggers: the applier inserts a child row without locking its
 *	parent, so a child that arrives while the parent is being deleted must be
 *	either above the base of the parent's identity key, or visible to the check
 *	that runs after it. (A later base would let an orphan through.)
 *
 *	An entry that takes the same row in a conflicting mode cannot be applied
 *	here while the lock is held, so any moment after the lock is as good as
 *	its own, and a session that waited for another one's commit has that
 *	commit in its base (node_base_index waits for it to be counted).
 *
 *	REPEATABLE READ needs no lower base: what was applied after the snapshot
 *	and before the lock makes PostgreSQL itself fail with 40001 when the row
 *	is locked or changed; what was not applied by then is above the base.
 *	Bounding the base by the snapshot would refuse what one server lets pass.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "catalog/index.h"
#include "common/hashfn.h"
#include "executor/executor.h"
#include "utils/datum.h"
#include "utils/memutils.h"

#include "node/node.h"
#include "replication/keys.h"
#include "replication/keys_internal.h"
#include "replication/writeset_build.h"

/* What belongs to the transaction is made on a plan's first use in it. */
static inline void
enter_transaction(RelPlan *plan)
{
	uint64		serial = writeset_serial();

	if (plan->serial == serial)
		return;
	plan->serial = serial;
	plan->table_origin = 0;
	plan->row_origin = 0;
	plan->identity_origin = 0;
	plan->estate = NULL;
	for (int i = 0; i < plan->nuniques; i++)
	{
		plan->unique_origins[i] = 0;
		plan->uniques[i].info = NULL;
	}
}

static inline uint32
origin(uint32 *known, Oid relid, Oid indexid, KeyKind kind)
{
	if (*known == 0)
		*known = writeset_origin(relid, indexid, kind);
	return *known;
}

/* Origins are numbered per write set; a savepoint does not take them back. */
static void
add_table_key(RelPlan *plan, bool exclusive, uint64 base)
{
	writeset_add_key(plan->table_key, exclusive, base,
					 origin(&plan->table_origin, plan->relid, InvalidOid, KEY_TABLE));
}

void
keys_add_table(RelPlan *plan, bool exclusive, uint64 base)
{
	enter_transaction(plan);
	add_table_key(plan, exclusive, base);
}

static uint64
hash_value(KeyColumn *column, Datum value, uint64 seed)
{
	uint64		hash = 0;

	switch (column->method)
	{
		case HASH_EXTENDED:
			hash = DatumGetUInt64(FunctionCall2Coll(&column->function, column->collation,
													value, Int64GetDatum((int64) seed)));
			break;
		case HASH_PLAIN:
			hash = DatumGetUInt32(FunctionCall1Coll(&column->function, column->collation, value));
			break;
		case HASH_TEXT:
			{
				char	   *text = OutputFunctionCall(&column->function, value);

				hash = hash_bytes_extended((const unsigned char *) text, strlen(text), seed);
				pfree(text);
				break;
			}
		case HASH_NONE:
			Assert(false);
	}
	return keys_mix(seed, hash);
}

/* Identity columns are NOT NULL. */
static uint64
identity_hash(RelPlan *plan, TupleTableSlot *slot)
{
	uint64		hash = UINT64CONST(0x70675f71756f7275);

	for (int i = 0; i < plan->nidentity; i++)
	{
		bool		isnull;
		Datum		value = slot_getattr(slot, plan->identity[i].attnum, &isnull);

		hash = isnull ? keys_mix(hash, 0) : hash_value(&plan->identity[i], value, hash);
	}
	return hash;
}

typedef enum Use
{
	USE_NONE,
	USE_SHARED,
	USE_EXCLUSIVE
} Use;

static void
add_row_keys(RelPlan *plan, TupleTableSlot *slot, Use row, Use identity, uint64 base)
{
	uint64		hash;

	add_table_key(plan, plan->coarse && (row == USE_EXCLUSIVE || identity == USE_EXCLUSIVE), base);
	if (plan->coarse)
		return;
	hash = identity_hash(plan, slot);
	if (row != USE_NONE)
		writeset_add_key(keys_mix(plan->row_seed, hash), row == USE_EXCLUSIVE, base,
						 origin(&plan->row_origin, plan->relid, plan->identity_index, KEY_ROW));
	writeset_add_key(keys_mix(plan->identity_seed, hash), identity == USE_EXCLUSIVE, base,
					 origin(&plan->identity_origin, plan->relid, plan->identity_index, KEY_IDENTITY));
}

void
keys_add_lock(RelPlan *plan, TupleTableSlot *slot, LockTupleMode mode, uint64 base)
{
	enter_transaction(plan);
	switch (mode)
	{
		case LockTupleKeyShare:
			add_row_keys(plan, slot, USE_NONE, USE_SHARED, base);
			break;
		case LockTupleShare:
			add_row_keys(plan, slot, USE_SHARED, USE_SHARED, base);
			break;
		case LockTupleNoKeyExclusive:
			add_row_keys(plan, slot, USE_EXCLUSIVE, USE_SHARED, base);
			break;
		case LockTupleExclusive:
			add_row_keys(plan, slot, USE_EXCLUSIVE, USE_EXCLUSIVE, base);
			break;
	}
}

/* ---------- further unique indexes ---------- */

static EState *
expressions_of(RelPlan *plan, UniqueKey *unique)
{
	MemoryContext old;

	if (plan->estate == NULL)
	{
		old = MemoryContextSwitchTo(writeset_context());
		plan->estate = CreateExecutorState();
		MemoryContextSwitchTo(old);
	}
	if (unique->info == NULL)
	{
		Relation	index = index_open(unique->indexid, AccessShareLock);

		old = MemoryContextSwitchTo(plan->estate->es_query_cxt);
		unique->info = BuildIndexInfo(index);
		unique->info->ii_PredicateState = ExecPrepareQual(unique->info->ii_Predicate, plan->estate);
		MemoryContextSwitchTo(old);
		index_close(index, AccessShareLock);
	}
	return plan->estate;
}

/* The key's hash of this row; false: the row has no entry that could collide. */
static bool
unique_hash(RelPlan *plan, UniqueKey *unique, TupleTableSlot *slot, uint64 *hash)
{
	Datum		values[INDEX_MAX_KEYS];
	bool		isnull[INDEX_MAX_KEYS];

	if (unique->computed)
	{
		EState	   *estate = expressions_of(plan, unique);
		ExprContext *econtext = GetPerTupleExprContext(estate);

		econtext->ecxt_scantuple = slot;
		if (!ExecQual(unique->info->ii_PredicateState, econtext))
			return false;
		FormIndexDatum(unique->info, slot, estate, values, isnull);
	}
	else
		for (int i = 0; i < unique->ncolumns; i++)
			values[i] = slot_getattr(slot, unique->columns[i].attnum, &isnull[i]);

	*hash = unique->seed;
	for (int i = 0; i < unique->ncolumns; i++)
	{
		if (isnull[i])
		{
			if (unique->nulls_distinct)
				return false;
			*hash = keys_mix(*hash, 0);
		}
		else if (!unique->whole)
			*hash = hash_value(&unique->columns[i], values[i], *hash);
	}
	if (unique->whole)
		*hash = unique->seed;
	return true;
}

static bool
same_image(TupleTableSlot *a, TupleTableSlot *b, AttrNumber attnum)
{
	bool		null_a;
	bool		null_b;
	Datum		value_a = slot_getattr(a, attnum, &null_a);
	Datum		value_b = slot_getattr(b, attnum, &null_b);
	Form_pg_attribute att = TupleDescAttr(a->tts_tupleDescriptor, attnum - 1);

	if (null_a || null_b)
		return null_a == null_b;
	return datum_image_eq(value_a, value_b, att->attbyval, att->attlen);
}

static bool
same_images(TupleTableSlot *a, TupleTableSlot *b, const AttrNumber *attnums, int n)
{
	for (int i = 0; i < n; i++)
	{
		if (attnums[i] == 0)	/* the whole row */
			return false;
		if (!same_image(a, b, attnums[i]))
			return false;
	}
	return true;
}

static void
add_unique_key(RelPlan *plan, int i, uint64 hash, uint64 base)
{
	writeset_add_key(hash, true, base,
					 origin(&plan->unique_origins[i], plan->relid,
							plan->uniques[i].indexid, KEY_UNIQUE));
}

static void
forget_expressions(RelPlan *plan)
{
	if (plan->estate)
		ResetPerTupleExprContext(plan->estate);
}

/* A value appears, disappears, or both with a row each. */
static void
add_unique_keys(RelPlan *plan, TupleTableSlot *old_row, TupleTableSlot *new_row, uint64 base)
{
	for (int i = 0; i < plan->nuniques; i++)
	{
		UniqueKey  *unique = &plan->uniques[i];
		uint64		old_hash = 0;
		uint64		new_hash = 0;
		bool		had = false;
		bool		has = false;

		if (old_row && new_row &&
			same_images(old_row, new_row, unique->attnums, unique->nattnums))
			continue;
		if (old_row)
			had = unique_hash(plan, unique, old_row, &old_hash);
		if (new_row)
			has = unique_hash(plan, unique, new_row, &new_hash);
		if (had && has && old_hash == new_hash && !unique->whole)
			continue;
		/* a whole index only minds values that are added */
		if (had && !unique->whole)
			add_unique_key(plan, i, old_hash, base);
		if (has)
			add_unique_key(plan, i, new_hash, base);
	}
	forget_expressions(plan);
}

/* ---------- rows ---------- */

void
keys_add_insert(RelPlan *plan, TupleTableSlot *row, uint64 base)
{
	enter_transaction(plan);
	add_row_keys(plan, row, USE_EXCLUSIVE, USE_EXCLUSIVE, base);
	if (plan->nuniques > 0)
		add_unique_keys(plan, NULL, row, base);
}

void
keys_add_delete(RelPlan *plan, TupleTableSlot *row, uint64 base)
{
	enter_transaction(plan);
	add_row_keys(plan, row, USE_EXCLUSIVE, USE_EXCLUSIVE, base);
	if (plan->nuniques > 0)
		add_unique_keys(plan, row, NULL, base);
}

bool
keys_add_update(RelPlan *plan, TupleTableSlot *old_row, TupleTableSlot *new_row, uint64 base)
{
	bool		identity_changed = false;
	bool		key_changed = !same_images(old_row, new_row,
										   plan->key_attnums, plan->nkey_attnums);

	enter_transaction(plan);
	if (key_changed)
		for (int i = 0; i < plan->nidentity && !identity_changed; i++)
			identity_changed = !same_image(old_row, new_row, plan->identity[i].attnum);

	add_row_keys(plan, old_row, USE_EXCLUSIVE,
				 key_changed ? USE_EXCLUSIVE : USE_SHARED, base);
	if (identity_changed)
		add_row_keys(plan, new_row, USE_EXCLUSIVE, USE_EXCLUSIVE, base);
	if (plan->nuniques > 0)
		add_unique_keys(plan, old_row, new_row, base);
	return identity_changed;
}

/* ---------- schema ---------- */

void
keys_add_catalog(void)
{
	writeset_add_key(keys_seed(0, 'C'), true, node_base_index(),
					 writeset_origin(InvalidOid, InvalidOid, KEY_CATALOG));
}

void
keys_add_table_id(uint32 table_id, Oid relid)
{
	writeset_add_key(keys_seed(table_id, 'T'), true, node_base_index(),
					 writeset_origin(relid, InvalidOid, KEY_TABLE));
}

void
keys_add_table_light(uint32 table_id, Oid relid)
{
	uint64		base = node_base_index();
	uint32		of = writeset_origin(relid, InvalidOid, KEY_TABLE);

	writeset_add_key(keys_seed(table_id, 'T'), false, base, of);
	writeset_add_key(keys_seed(table_id, 'L'), true, base, of);
}
