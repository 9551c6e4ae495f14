/*-------------------------------------------------------------------------
 *
 * ddl_search.c
 *		Which replicated tables a schema statement names, and so changes.
 *
 * Names are looked up as the statement itself is going to, without locks: what
 * changes in between changes under the statement, too, and ddlguard.c looks at
 * what it really does. A foreign key names the table that it refers to, whose
 * rows it ties. A schema with replicated tables stands for all of them.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/dependency.h"
#include "catalog/index.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_statistic_ext.h"
#include "commands/defrem.h"
#include "commands/sequence.h"
#include "nodes/makefuncs.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "replication/ddl_internal.h"
#include "replication/image_guard.h"
#include "replication/schema.h"
#include "replication/tables.h"

/* The table that an index, a sequence or a table itself belongs to. */
static Oid
table_of(Oid relid)
{
	Oid			owner = InvalidOid;
	int32		column;

	switch (get_rel_relkind(relid))
	{
		case RELKIND_INDEX:
		case RELKIND_PARTITIONED_INDEX:
			return IndexGetRelation(relid, true);
		case RELKIND_SEQUENCE:
			if (!sequenceIsOwned(relid, DEPENDENCY_AUTO, &owner, &column))
				(void) sequenceIsOwned(relid, DEPENDENCY_INTERNAL, &owner, &column);
			return owner;
		default:
			return relid;
	}
}

static void
look_at(DdlSearch *search, Oid relid)
{
	Oid			table;
	uint32		table_id;

	if (!OidIsValid(relid))
		return;
	if (get_rel_persistence(relid) == RELPERSISTENCE_TEMP)
		search->temporary++;
	else
		search->permanent++;
	table = table_of(relid);
	if (OidIsValid(table))
		image_guard_check_schema(table);
	table_id = OidIsValid(table) ? tables_id_of_oid(table) : 0;
	if (table_id == 0)
	{
		search->others++;
		return;
	}
	search->plan->relids = lappend_oid(search->plan->relids, table);
	search->plan->table_ids = lappend_int(search->plan->table_ids, (int) table_id);
}

static void
look_at_name(DdlSearch *search, const RangeVar *name)
{
	if (name)
		look_at(search, RangeVarGetRelid(name, NoLock, true));
}

static void
look_at_names(DdlSearch *search, List *names)
{
	ListCell   *lc;

	foreach(lc, names)
		if (IsA(lfirst(lc), RangeVar))
			look_at_name(search, lfirst_node(RangeVar, lc));
}

/* A qualified name as a list of strings, less its last `drop` parts. */
static void
look_at_list(DdlSearch *search, Node *object, int drop)
{
	List	   *names;

	if (object == NULL || !IsA(object, List))
		return;
	names = list_copy((List *) object);
	if (list_length(names) <= drop)
		return;
	names = list_truncate(names, list_length(names) - drop);
	look_at_name(search, makeRangeVarFromNameList(names));
}

/* Extended statistics belong to a table. */
static void
look_at_statistics(DdlSearch *search, List *name)
{
	Oid			id = get_statistics_object_oid(name, true);
	HeapTuple	tuple;

	if (!OidIsValid(id))
		return;
	tuple = SearchSysCache1(STATEXTOID, ObjectIdGetDatum(id));
	if (!HeapTupleIsValid(tuple))
		return;
	look_at(search, ((Form_pg_statistic_ext) GETSTRUCT(tuple))->stxrelid);
	ReleaseSysCache(tuple);
}

/* Its replicated tables only: the statement is about the schema. */
static bool
look_at_schema(DdlSearch *search, const char *name)
{
	Oid			schema = name ? get_namespace_oid(name, true) : InvalidOid;
	List	   *tables;
	ListCell   *lc;

	if (!OidIsValid(schema))
		return false;
	tables = schema_replicated_tables(schema);
	foreach(lc, tables)
		look_at(search, lfirst_oid(lc));
	return tables != NIL || schema_is_replicated(schema);
}

/* The tables that foreign keys of this statement will refer to; search NULL: it stays here. */
static void
look_at_foreign_keys(DdlSearch *search, List *constraints)
{
	ListCell   *lc;

	foreach(lc, constraints)
	{
		Constraint *constraint = (Constraint *) lfirst(lc);
		Oid			target;

		if (!IsA(constraint, Constraint) || constraint->contype != CONSTR_FOREIGN ||
			constraint->pktable == NULL)
			continue;
		target = RangeVarGetRelid(constraint->pktable, NoLock, true);
		if (OidIsValid(target))
			image_guard_check_schema(target);
		if (OidIsValid(target) && search && tables_id_of_oid(target) != 0)
			look_at(search, target);
	}
}

static void
search_alter(DdlSearch *search, const AlterTableStmt *stmt)
{
	ListCell   *lc;

	if (stmt->objtype == OBJECT_TYPE)
		return;
	look_at_name(search, stmt->relation);
	if (search->plan->relids == NIL)
		search = NULL;
	foreach(lc, stmt->cmds)
	{
		AlterTableCmd *command = lfirst_node(AlterTableCmd, lc);

		if (command->subtype == AT_AddConstraint)
			look_at_foreign_keys(search, list_make1(command->def));
		else if (command->subtype == AT_AddColumn)
			look_at_foreign_keys(search, ((ColumnDef *) command->def)->constraints);
	}
}

/*
 * A partition of a replicated table is one, and so is a table in a replicated
 * schema.
 */
static void
search_create(DdlSearch *search, const CreateStmt *stmt)
{
	ListCell   *lc;

	if (stmt->relation->relpersistence == RELPERSISTENCE_TEMP)
	{
		search->temporary++;
		return;
	}
	search->permanent++;
	if (stmt->partbound)
		look_at_names(search, stmt->inhRelations);
	else if (stmt->relation->relpersistence == RELPERSISTENCE_PERMANENT)
		search->plan->adds = schema_is_replicated_name(stmt->relation);
	if (search->plan->relids == NIL && !search->plan->adds)
		search = NULL;
	look_at_foreign_keys(search, stmt->constraints);
	foreach(lc, stmt->tableElts)
	{
		if (IsA(lfirst(lc), ColumnDef))
			look_at_foreign_keys(search, lfirst_node(ColumnDef, lc)->constraints);
		else if (IsA(lfirst(lc), Constraint))
			look_at_foreign_keys(search, list_make1(lfirst(lc)));
	}
}

static void
note_new(DdlSearch *search, const RangeVar *name)
{
	if (name && (name->relpersistence == RELPERSISTENCE_TEMP ||
				 (name->schemaname && strcmp(name->schemaname, "pg_temp") == 0)))
		search->temporary++;
	else
		search->permanent++;
}

static void
search_rename(DdlSearch *search, const RenameStmt *stmt)
{
	switch (stmt->renameType)
	{
		case OBJECT_TYPE:
		case OBJECT_ATTRIBUTE:
			break;
		case OBJECT_STATISTIC_EXT:
			look_at_statistics(search, castNode(List, stmt->object));
			break;
		case OBJECT_SCHEMA:
			if (look_at_schema(search, stmt->subname))
				search->plan->replicated = true;
			break;
		default:
			look_at_name(search, stmt->relation);
			break;
	}
}

static void
search_grant(DdlSearch *search, const GrantStmt *stmt)
{
	ListCell   *lc;

	if (stmt->targtype == ACL_TARGET_DEFAULTS)
		return;
	if (stmt->targtype == ACL_TARGET_OBJECT && stmt->objtype != OBJECT_SCHEMA)
	{
		if (stmt->objtype == OBJECT_TABLE || stmt->objtype == OBJECT_SEQUENCE)
			look_at_names(search, stmt->objects);
		return;
	}
	if (stmt->objtype != OBJECT_SCHEMA && stmt->objtype != OBJECT_TABLE &&
		stmt->objtype != OBJECT_SEQUENCE)
		return;
	foreach(lc, stmt->objects)
		if (look_at_schema(search, strVal(lfirst(lc))))
			search->plan->replicated = true;
}

/* What DROP, COMMENT and SECURITY LABEL name. */
static void
look_at_object(DdlSearch *search, ObjectType type, Node *object)
{
	switch (type)
	{
		case OBJECT_TABLE:
		case OBJECT_INDEX:
		case OBJECT_SEQUENCE:
		case OBJECT_VIEW:
		case OBJECT_MATVIEW:
		case OBJECT_FOREIGN_TABLE:
			look_at_list(search, object, 0);
			break;
		case OBJECT_COLUMN:
		case OBJECT_TABCONSTRAINT:
		case OBJECT_TRIGGER:
		case OBJECT_RULE:
		case OBJECT_POLICY:
			look_at_list(search, object, 1);
			break;
		case OBJECT_STATISTIC_EXT:
			look_at_statistics(search, castNode(List, object));
			break;
		case OBJECT_SCHEMA:
			if (look_at_schema(search, strVal(object)))
				search->plan->replicated = true;
			break;
		default:
			break;
	}
}

static void
search_drop(DdlSearch *search, const DropStmt *stmt)
{
	ListCell   *lc;

	foreach(lc, stmt->objects)
		look_at_object(search, stmt->removeType, lfirst(lc));
}

static void
search_moved(DdlSearch *search, const AlterObjectSchemaStmt *stmt)
{
	if (stmt->objectType == OBJECT_STATISTIC_EXT)
		look_at_statistics(search, castNode(List, stmt->object));
	else
		look_at_name(search, stmt->relation);
}

static void
search_owner(DdlSearch *search, const AlterOwnerStmt *stmt)
{
	if (stmt->objectType == OBJECT_STATISTIC_EXT)
		look_at_statistics(search, castNode(List, stmt->object));
	else if (stmt->objectType == OBJECT_SCHEMA &&
			 look_at_schema(search, strVal(stmt->object)))
		search->plan->replicated = true;
}

/* What leaves rows and writers alone. */
static bool
is_light(Node *stmt)
{
	switch (nodeTag(stmt))
	{
		case T_CommentStmt:
		case T_SecLabelStmt:
		case T_GrantStmt:
		case T_CreateStatsStmt:
		case T_AlterStatsStmt:
			return true;
		case T_DropStmt:
			return ((DropStmt *) stmt)->removeType == OBJECT_STATISTIC_EXT;
		case T_RenameStmt:
			return ((RenameStmt *) stmt)->renameType == OBJECT_STATISTIC_EXT;
		default:
			return false;
	}
}

void
ddl_search(DdlSearch *search, Node *stmt)
{
	search->plan->light = is_light(stmt);
	switch (nodeTag(stmt))
	{
		case T_AlterTableStmt:
			search_alter(search, (AlterTableStmt *) stmt);
			break;
		case T_RenameStmt:
			search_rename(search, (RenameStmt *) stmt);
			break;
		case T_AlterObjectSchemaStmt:
			search_moved(search, (AlterObjectSchemaStmt *) stmt);
			break;
		case T_AlterOwnerStmt:
			search_owner(search, (AlterOwnerStmt *) stmt);
			break;
		case T_AlterObjectDependsStmt:
			look_at_name(search, ((AlterObjectDependsStmt *) stmt)->relation);
			break;
		case T_AlterStatsStmt:
			look_at_statistics(search, ((AlterStatsStmt *) stmt)->defnames);
			break;
		case T_IndexStmt:
			look_at_name(search, ((IndexStmt *) stmt)->relation);
			break;
		case T_DropStmt:
			search_drop(search, (DropStmt *) stmt);
			break;
		case T_CommentStmt:
			look_at_object(search, ((CommentStmt *) stmt)->objtype, ((CommentStmt *) stmt)->object);
			break;
		case T_SecLabelStmt:
			look_at_object(search, ((SecLabelStmt *) stmt)->objtype, ((SecLabelStmt *) stmt)->object);
			break;
		case T_GrantStmt:
			search_grant(search, (GrantStmt *) stmt);
			break;
		case T_CreateTrigStmt:
			look_at_name(search, ((CreateTrigStmt *) stmt)->relation);
			break;
		case T_CreatePolicyStmt:
			look_at_name(search, ((CreatePolicyStmt *) stmt)->table);
			break;
		case T_AlterPolicyStmt:
			look_at_name(search, ((AlterPolicyStmt *) stmt)->table);
			break;
		case T_RuleStmt:
			look_at_name(search, ((RuleStmt *) stmt)->relation);
			break;
		case T_CreateStatsStmt:
			look_at_names(search, ((CreateStatsStmt *) stmt)->relations);
			break;
		case T_AlterSeqStmt:
			look_at_name(search, ((AlterSeqStmt *) stmt)->sequence);
			break;
		case T_CreateStmt:
			search_create(search, (CreateStmt *) stmt);
			break;
		case T_CreateTableAsStmt:
			note_new(search, ((CreateTableAsStmt *) stmt)->into->rel);
			break;
		case T_ViewStmt:
			note_new(search, ((ViewStmt *) stmt)->view);
			break;
		case T_CreateSeqStmt:
			note_new(search, ((CreateSeqStmt *) stmt)->sequence);
			break;
		default:
			break;
	}
	if (search->plan->adds || search->plan->relids != NIL)
		search->plan->replicated = true;
}
