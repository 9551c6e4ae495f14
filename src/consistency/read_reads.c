/*-------------------------------------------------------------------------
 *
 * read_reads.c
 *		Which statements a read level is about.
 *
 * Not those that read nothing at all (SELECT now()), and not monitoring: what
 * names relations or functions of schema quorum, or the system's statistics views,
 * and besides them at most the system's catalogs. Nor those on this session's
 * temporary tables alone. These answer at once, in whatever state the cluster is.
 *
 * A plan lists its relations, and, by hash, the functions it depends on that are
 * not PostgreSQL's own. A statement without relations may read through such a
 * function; a few shapes of plan are looked into for which functions they are.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_namespace.h"
#include "nodes/nodeFuncs.h"
#include "nodes/plannodes.h"
#include "access/transam.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "consistency/read.h"
#include "replication/keys_internal.h"

static bool
is_foreign_function(Oid function, void *context)
{
	return function >= FirstNormalObjectId &&
		!tables_is_own_namespace(get_func_namespace(function));
}

static bool
calls_others(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (check_functions_in_node(node, is_foreign_function, context))
		return true;
	return expression_tree_walker(node, calls_others, context);
}

static bool
depends_on_functions(const PlannedStmt *stmt)
{
	ListCell   *lc;

	foreach(lc, stmt->invalItems)
		if (lfirst_node(PlanInvalItem, lc)->cacheId == PROCOID)
			return true;
	return false;
}

/* Could a function in it read something? */
static bool
may_read_by_function(const PlannedStmt *stmt)
{
	Plan	   *plan = stmt->planTree;
	ListCell   *lc;

	if (!depends_on_functions(stmt))
		return false;
	if (plan == NULL || stmt->subplans != NIL || plan->lefttree != NULL ||
		plan->righttree != NULL || plan->initPlan != NIL)
		return true;
	if (calls_others((Node *) plan->targetlist, NULL) || calls_others((Node *) plan->qual, NULL))
		return true;
	if (IsA(plan, Result))
		return calls_others(((Result *) plan)->resconstantqual, NULL);
	if (IsA(plan, FunctionScan))
	{
		foreach(lc, ((FunctionScan *) plan)->functions)
			if (calls_others(((RangeTblFunction *) lfirst(lc))->funcexpr, NULL))
				return true;
		return false;
	}
	return !IsA(plan, ProjectSet);
}

/* pg_stat_activity and its kind, and who locks what. */
static bool
is_system_monitor(Oid relid)
{
	char	   *name = get_rel_name(relid);
	bool		is = name != NULL && (strncmp(name, "pg_stat_", 8) == 0 ||
									  strncmp(name, "pg_statio_", 10) == 0 ||
									  strcmp(name, "pg_locks") == 0 ||
									  strcmp(name, "pg_settings") == 0);

	if (name != NULL)
		pfree(name);
	return is;
}

bool
read_has_to_wait(const PlannedStmt *stmt)
{
	bool		monitoring = false;
	bool		temporary = true;
	ListCell   *lc;

	if (stmt->commandType == CMD_UTILITY)
		return false;
	if (stmt->relationOids == NIL)
		return may_read_by_function(stmt);
	foreach(lc, stmt->relationOids)
	{
		Oid			namespace_id = get_rel_namespace(lfirst_oid(lc));

		if (isTempNamespace(namespace_id))
			continue;
		temporary = false;
		if (tables_is_own_namespace(namespace_id))
			monitoring = true;
		else if (namespace_id != PG_CATALOG_NAMESPACE)
			return true;
		else if (!monitoring)
			monitoring = is_system_monitor(lfirst_oid(lc));
	}
	return temporary ? depends_on_functions(stmt) : !monitoring;
}
