/*-------------------------------------------------------------------------
 *
 * tables.c
 *		Which relations are replicated (tables.h): trigger, number, OID.
 *
 * Two caches, both private to the process: number -> OID and the OIDs of our
 * own catalog objects. They are dropped when quorum.replicated_table is
 * invalidated, which designate.c does by hand after each change of its rows,
 * since a change of rows alone sends no relcache message.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/partition.h"
#include "catalog/pg_class.h"
#include "commands/trigger.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "compat.h"
#include "replication/capture.h"
#include "replication/keys_internal.h"
#include "replication/tables.h"

/* Columns of quorum.replicated_table (sqlsrc/20_tables.sql). */
#define Anum_table_id	1
#define Anum_relid		2
#define Natts_replicated_table 5

static Oid	catalog_oid = InvalidOid;
static Oid	namespace_oid = InvalidOid;
static Oid	idempotency_oid = InvalidOid;
static HTAB *numbers = NULL;
static bool callback_registered = false;

typedef struct NumberEntry
{
	uint32		table_id;
	Oid			relid;
} NumberEntry;

static void
drop_numbers(void)
{
	if (numbers)
		hash_destroy(numbers);
	numbers = NULL;
}

static void
invalidate(Datum arg, Oid relid)
{
	if (OidIsValid(relid) && relid != catalog_oid)
		return;
	drop_numbers();
	catalog_oid = InvalidOid;
	namespace_oid = InvalidOid;
	idempotency_oid = InvalidOid;
}

Oid
tables_catalog_oid_cached(void)
{
	return catalog_oid;
}

Oid
tables_catalog_oid(void)
{
	if (!callback_registered)
	{
		CacheRegisterRelcacheCallback(invalidate, (Datum) 0);
		callback_registered = true;
	}
	if (!OidIsValid(catalog_oid))
	{
		namespace_oid = get_namespace_oid("quorum", true);
		if (OidIsValid(namespace_oid))
			catalog_oid = get_relname_relid("replicated_table", namespace_oid);
	}
	return catalog_oid;
}

bool
tables_is_own_namespace(Oid namespace_id)
{
	(void) tables_catalog_oid();
	return OidIsValid(namespace_oid) && namespace_id == namespace_oid;
}

void
tables_forget_caches(void)
{
	if (OidIsValid(tables_catalog_oid()))
		CacheInvalidateRelcacheByRelid(catalog_oid);
}

/* ---------- by relation ---------- */

static bool
is_capture_function(Oid function)
{
	char	   *name = get_func_name(function);
	bool		ours = name != NULL && strcmp(name, "capture") == 0 &&
		tables_is_own_namespace(get_func_namespace(function));

	if (name)
		pfree(name);
	return ours;
}

/* The number is known here, and as that of this table or of a root above it. */
static bool
is_registered(uint32 table_id, Relation rel)
{
	Oid			known = tables_oid_of(table_id);
	List	   *ancestors;
	bool		above;

	if (!OidIsValid(known))
		return false;
	if (known == RelationGetRelid(rel))
		return true;
	if (!rel->rd_rel->relispartition)
		return false;
	ancestors = get_partition_ancestors(RelationGetRelid(rel));
	above = ancestors != NIL && llast_oid(ancestors) == known;
	list_free(ancestors);
	return above;
}

bool
tables_has_triggers(Relation rel)
{
	const TriggerDesc *triggers = rel->trigdesc;

	for (int i = 0; triggers != NULL && i < triggers->numtriggers; i++)
		if (strcmp(triggers->triggers[i].tgname, CAPTURE_TRIGGER) == 0 ||
			strcmp(triggers->triggers[i].tgname, CAPTURE_TRUNCATE_TRIGGER) == 0)
			return true;
	return false;
}

uint32
tables_id_of(Relation rel)
{
	const TriggerDesc *triggers = rel->trigdesc;

	if (triggers == NULL)
		return 0;
	for (int i = 0; i < triggers->numtriggers; i++)
	{
		const Trigger *trigger = &triggers->triggers[i];

		/* names are sorted, and ours comes early */
		if (strcmp(trigger->tgname, CAPTURE_TRIGGER) == 0 && trigger->tgnargs == 1 &&
			is_capture_function(trigger->tgfoid))
		{
			uint32		table_id = (uint32) strtoul(trigger->tgargs[0], NULL, 10);

			return is_registered(table_id, rel) ? table_id : 0;
		}
	}
	return 0;
}

uint32
tables_id_of_oid(Oid relid)
{
	Relation	rel = try_relation_open(relid, AccessShareLock);
	uint32		id = 0;

	if (rel)
	{
		if (!tables_is_own_namespace(RelationGetNamespace(rel)))
			id = tables_id_of(rel);
		relation_close(rel, AccessShareLock);
	}
	return id;
}

Oid
tables_identity_index(Relation rel)
{
	Oid			primary = compat_primary_key_index(rel);

	if (OidIsValid(primary))
		return primary;
	if (rel->rd_rel->relreplident == REPLICA_IDENTITY_INDEX)
		return RelationGetReplicaIndex(rel);
	return InvalidOid;
}

/* ---------- by number ---------- */

static void
load_numbers(void)
{
	HASHCTL		ctl;
	Relation	catalog;
	SysScanDesc scan;
	HeapTuple	tuple;
	HTAB	   *fresh;

	memset(&ctl, 0, sizeof(ctl));
	ctl.keysize = sizeof(uint32);
	ctl.entrysize = sizeof(NumberEntry);
	ctl.hcxt = TopMemoryContext;
	fresh = hash_create("pg_quorum table numbers", 64, &ctl,
						HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);

	/* opening first takes invalidations in: what is read then is current */
	catalog = table_open(catalog_oid, AccessShareLock);
	scan = systable_beginscan(catalog, InvalidOid, false, NULL, 0, NULL);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		bool		isnull;
		uint32		id = DatumGetUInt32(heap_getattr(tuple, Anum_table_id,
													 RelationGetDescr(catalog), &isnull));
		Oid			relid = DatumGetObjectId(heap_getattr(tuple, Anum_relid,
														  RelationGetDescr(catalog), &isnull));

		if (!isnull)
			((NumberEntry *) hash_search(fresh, &id, HASH_ENTER, NULL))->relid = relid;
	}
	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
	drop_numbers();
	numbers = fresh;
}

Oid
tables_oid_of(uint32 table_id)
{
	NumberEntry *entry;

	if (!OidIsValid(tables_catalog_oid()))
		return InvalidOid;
	if (table_id == TABLES_IDEMPOTENCY_ID)
	{
		if (!OidIsValid(idempotency_oid))
			idempotency_oid = get_relname_relid("idempotency", namespace_oid);
		return idempotency_oid;
	}
	if (numbers == NULL)
		load_numbers();
	entry = hash_search(numbers, &table_id, HASH_FIND, NULL);
	return entry ? entry->relid : InvalidOid;
}
