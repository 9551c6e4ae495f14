/*-------------------------------------------------------------------------
 *
 * image_guard.c
 *		Nobody takes half a table for a whole: while a server that joins is
 *		loading its tables, only the loading itself gets at them.
 *
 * Each of them carries a trigger of ours from the transaction that makes the
 * table, or finds it, to the one that completes the image. So the catalog says
 * whether a table is being loaded, and a crash, a restart, or the end of the
 * membership on the way changes nothing about that.
 *
 * The trigger refuses writes by itself. Reading is refused where a statement
 * starts: queries at any depth at ExecutorStart, COPY of a table and schema
 * statements as utility commands, what is dropped in passing by the object access
 * hook. Snapshots that were taken before the image was complete would still show
 * part of it afterwards: image_stale.c has them fail.
 *
 * Shared state: ImageShared.guarded, atomic; 1 says that such tables may be here.
 * Set when shared memory is made, where the mark (node/image.c) says that this
 * server waits for an image; by the apply worker before the first trigger is made,
 * and cleared by it after the last one went. A crash begins with what the mark
 * says, which is there for longer than any trigger. Elsewhere all that this costs
 * a statement is one comparison.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/parallel.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "node/node.h"
#include "replication/image_guard.h"
#include "replication/image_internal.h"
#include "replication/replication.h"

#define GUARD_TRIGGER	"!pg_quorum_loading"

PG_FUNCTION_INFO_V1(quorum_loading);

/* ---------- is a table being loaded? ---------- */

static bool
may_be_any(void)
{
	return image_shared != NULL && pg_atomic_read_u32(&image_shared->guarded) != 0;
}

static bool
carries_guard(Relation rel)
{
	if (rel->trigdesc == NULL)
		return false;
	for (int i = 0; i < rel->trigdesc->numtriggers; i++)
		if (strcmp(rel->trigdesc->triggers[i].tgname, GUARD_TRIGGER) == 0)
			return true;
	return false;
}

bool
image_guard_stands(Oid relid)
{
	Relation	rel;
	bool		stands;

	if (!may_be_any())
		return false;

	/* a lock that is held already brought no news */
	AcceptInvalidationMessages();
	rel = RelationIdGetRelation(relid);
	if (!RelationIsValid(rel))
		return false;
	stands = carries_guard(rel);
	RelationClose(rel);
	return stands;
}

/* ---------- errors ---------- */

static _Noreturn void
refuse(const char *table, const char *what)
{
	char	   *progress = image_progress_text();

	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("table \"%s\" is being loaded with the cluster's rows", table),
			 progress ? errdetail_internal("%s", progress) : 0,
			 node_is_member() ?
			 errhint("It can be %s once this server has joined; see quorum.join_progress.", what) :
			 errhint("Call quorum.join_cluster to have it loaded, or drop it; see quorum.status.")));
}

/* The trigger of tables that are being loaded. */
Datum
quorum_loading(PG_FUNCTION_ARGS)
{
	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("quorum._loading() is the trigger of tables that are being loaded")));
	if (!replication_is_applying())
		refuse(RelationGetRelationName(((TriggerData *) fcinfo->context)->tg_relation), "written");
	return PointerGetDatum(NULL);
}

/* ---------- where statements meet it ---------- */

/* Around ExecutorStart: the tables are locked. */
void
image_guard_check_query(const PlannedStmt *plan, int eflags)
{
	ListCell   *lc;

	if (!may_be_any() || IsParallelWorker() || (eflags & EXEC_FLAG_EXPLAIN_ONLY) != 0)
		return;
	foreach(lc, plan->rtable)
	{
		const RangeTblEntry *rte = lfirst_node(RangeTblEntry, lc);

		if (rte->rtekind == RTE_RELATION && image_guard_stands(rte->relid))
			refuse(get_rel_name(rte->relid), "used");
	}
}

/*
 * Before COPY of a table. Its snapshot is taken: where the guard comes up only
 * now, all that is loaded is too young for it.
 */
void
image_guard_check_copy(const RangeVar *name)
{
	Oid			relid = may_be_any() ? RangeVarGetRelid(name, NoLock, true) : InvalidOid;

	if (OidIsValid(relid) && image_guard_stands(relid))
		refuse(get_rel_name(relid), "used");
}

/*
 * Schema statements: the table is to become what it is in the cluster. Where the
 * server is a member no more nobody loads it, and it can be dropped.
 */
void
image_guard_check_schema(Oid relid)
{
	if (may_be_any() && node_is_member() && !replication_is_applying() && image_guard_stands(relid))
		refuse(get_rel_name(relid), "changed");
}

/* Before a function of ours that scans the table. */
void
image_guard_check_read(Oid relid)
{
	if (image_guard_stands(relid))
		refuse(get_rel_name(relid), "used");
}

/* ---------- the apply worker ---------- */

/*
 * Put it up, or take it down, in a transaction. Each changes the table under a
 * lock: who comes after that finds it as it is.
 */
void
image_guard_tables(const ImageSource *source, bool on)
{
	ListCell   *lc;

	if (on)
		(void) pg_atomic_exchange_u32(&image_shared->guarded, 1);	/* a barrier */
	foreach(lc, source->relations)
	{
		const ImageRelation *r = lfirst(lc);
		char	   *name = quote_qualified_identifier(r->schema, r->name);

		if (r->relkind != RELKIND_RELATION && r->relkind != RELKIND_PARTITIONED_TABLE)
			continue;
		if (on)
			(void) image_execute(psprintf("CREATE TRIGGER \"" GUARD_TRIGGER "\" BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON %s "
										  "EXECUTE FUNCTION quorum._loading(); "
										  "ALTER TABLE ONLY %s ENABLE ALWAYS TRIGGER \"" GUARD_TRIGGER "\"", name, name));
		else
			(void) image_execute(psprintf("DROP TRIGGER \"" GUARD_TRIGGER "\" ON %s", name));
	}
}

/* What is left of a former attempt. */
void
image_guard_drop_all(void)
{
	(void) image_execute("DO $$ DECLARE t regclass; BEGIN "
						 "FOR t IN SELECT tgrelid FROM pg_trigger WHERE tgname = '" GUARD_TRIGGER "' "
						 "AND tgfoid = 'quorum._loading()'::regprocedure LOOP "
						 "EXECUTE format('DROP TRIGGER \"" GUARD_TRIGGER "\" ON %s', t); END LOOP; END $$");
}

/* An image is complete, and committed. */
void
image_guard_over(void)
{
	pg_atomic_write_u32(&image_shared->guarded, 0);
}
