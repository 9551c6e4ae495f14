/*-------------------------------------------------------------------------
 *
 * ddlguard.c
 *		The net under ddl.c: changes to replicated tables that came about in a
 *		way it does not know (DROP ... CASCADE from elsewhere, DROP OWNED,
 *		ALTER ... ALL IN TABLESPACE, commands of other extensions) are refused.
 *
 * It hangs into PostgreSQL's object access hook, which sees every drop and
 * alteration of catalog objects. While a statement runs that the cluster knows
 * about (ddl_depth > 0) it only notes which replicated tables are dropped, so
 * that they leave quorum.replicated_table when the statement is done.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/index.h"
#include "catalog/indexing.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_class.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_trigger.h"
#include "commands/extension.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "node/node.h"
#include "replication/ddl.h"
#include "replication/designate.h"
#include "replication/image_guard.h"
#include "replication/session.h"
#include "replication/tables.h"

static object_access_hook_type prev_object_access = NULL;

/* Numbers of dropped tables, in TopTransactionContext. */
static List *dropped = NIL;

static void
refuse(Oid relid)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("replicated table \"%s\" cannot be changed by this statement",
					get_rel_name(relid)),
			 errdetail("The change would take place on this server only."),
			 errhint("Name the table in a statement of its own, or use quorum.execute_ddl or quorum.remove_table.")));
}

static Oid
table_of(Oid relid)
{
	char		kind = get_rel_relkind(relid);

	if (kind == RELKIND_INDEX || kind == RELKIND_PARTITIONED_INDEX)
		return IndexGetRelation(relid, true);
	return kind == RELKIND_RELATION || kind == RELKIND_PARTITIONED_TABLE ? relid : InvalidOid;
}

static void
relation_dropped(Oid relid, int column, int flags)
{
	Oid			table = table_of(relid);
	uint32		table_id;

	if (!OidIsValid(table) || (flags & PERFORM_DELETION_INTERNAL))
		return;
	image_guard_check_schema(table);
	table_id = tables_id_of_oid(table);
	if (table_id == 0)
		return;
	if (ddl_depth == 0)
		refuse(table);
	if (table == relid && column == 0 && tables_oid_of(table_id) == relid)
	{
		MemoryContext old = MemoryContextSwitchTo(TopTransactionContext);

		dropped = list_append_unique_int(dropped, (int) table_id);
		MemoryContextSwitchTo(old);
	}
}

/* A trigger by itself; with its table it goes in a known statement. */
static void
trigger_dropped(Oid trigger_id)
{
	Relation	triggers;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	Oid			relid = InvalidOid;

	if (ddl_depth > 0)
		return;
	triggers = table_open(TriggerRelationId, AccessShareLock);
	ScanKeyInit(&key, Anum_pg_trigger_oid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(trigger_id));
	scan = systable_beginscan(triggers, TriggerOidIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	/* those of a foreign key go with the other table */
	if (HeapTupleIsValid(tuple) && !((Form_pg_trigger) GETSTRUCT(tuple))->tgisinternal)
		relid = ((Form_pg_trigger) GETSTRUCT(tuple))->tgrelid;
	systable_endscan(scan);
	table_close(triggers, AccessShareLock);
	if (OidIsValid(relid) && tables_id_of_oid(relid) != 0)
		refuse(relid);
}

void
ddlguard_refuse_extension(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_IN_USE),
			 errmsg("cannot drop extension pg_quorum while this server is a member of a cluster"),
			 errhint("Call quorum.leave_cluster first.")));
}

static void
extension_dropped(Oid extension_id)
{
	char	   *name = get_extension_name(extension_id);

	if (name && strcmp(name, "pg_quorum") == 0 && node_is_member())
		ddlguard_refuse_extension();
}

static void
object_access(ObjectAccessType access, Oid class_id, Oid object_id, int sub_id, void *arg)
{
	if (prev_object_access)
		prev_object_access(access, class_id, object_id, sub_id, arg);

	if (access != OAT_DROP && access != OAT_POST_ALTER)
		return;
	if (class_id != RelationRelationId && class_id != TriggerRelationId &&
		class_id != ExtensionRelationId)
		return;
	if (!node_is_loaded() || !IsTransactionState() || !session_in_quorum_database())
		return;

	if (access == OAT_DROP)
	{
		if (class_id == ExtensionRelationId)
			extension_dropped(object_id);
		else if (!OidIsValid(tables_catalog_oid()))
			return;
		else if (class_id == RelationRelationId)
			relation_dropped(object_id, sub_id, ((ObjectAccessDrop *) arg)->dropflags);
		else
			trigger_dropped(object_id);
	}
	else if (class_id == RelationRelationId && ddl_depth == 0 &&
			 !((ObjectAccessPostAlter *) arg)->is_internal &&
			 OidIsValid(tables_catalog_oid()))
	{
		Oid			table = table_of(object_id);

		if (OidIsValid(table))
			image_guard_check_schema(table);
		if (OidIsValid(table) && tables_id_of_oid(table) != 0)
			refuse(table);
	}
}

void
ddlguard_install(void)
{
	prev_object_access = object_access_hook;
	object_access_hook = object_access;
}

void
ddlguard_forget(void)
{
	dropped = NIL;
}

void
ddlguard_forget_dropped_tables(void)
{
	List	   *numbers = dropped;
	ListCell   *lc;

	dropped = NIL;
	foreach(lc, numbers)
		designate_clear((uint32) lfirst_int(lc));
}
