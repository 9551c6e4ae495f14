/*-------------------------------------------------------------------------
 *
 * ddl.c
 *		Schema statements: which travel in the log, which are refused.
 *
 * A statement runs here first, inside its transaction, and is then appended to
 * the write set as text, with the role, the search_path and the settings that
 * it was run under, and with the exclusive key of every replicated table that
 * it names. The applier of each other member runs it at the same place in the
 * log, between the same rows.
 *
 * Only statements whose effect follows from their text may travel: what is
 * evaluated per row anew (a volatile default for existing rows) or cannot run
 * in a transaction (CONCURRENTLY) is refused before it does anything, or
 * undone with the error. What reaches a replicated table in a way that this
 * file does not know is stopped by ddlguard.c.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/index.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "commands/sequence.h"
#include "commands/tablecmds.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "parser/parser.h"
#include "optimizer/optimizer.h"
#include "rewrite/rewriteHandler.h"
#include "tcop/tcopprot.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"

#include "node/node.h"
#include "replication/capture.h"
#include "replication/ddl.h"
#include "replication/ddl_internal.h"
#include "replication/designate.h"
#include "replication/gate.h"
#include "replication/indexjob.h"
#include "replication/keys_internal.h"
#include "replication/schema.h"
#include "replication/session.h"
#include "replication/tables.h"
#include "replication/writeset_build.h"

PG_FUNCTION_INFO_V1(quorum_execute_ddl);

int			ddl_depth = 0;
bool		ddl_forced = false;

/* Settings that change what a statement means; shipped with it. */
static const char *const shipped_settings[] = {
	"TimeZone", "DateStyle", "IntervalStyle", "standard_conforming_strings",
	"backslash_quote", "default_tablespace", "default_table_access_method",
	"default_toast_compression", "check_function_bodies", "xmloption",
};

void
ddl_put_statement(const char *text)
{
	int			nsettings = lengthof(shipped_settings);

	writeset_begin(GetCurrentCommandId(false));
	writeset_put_byte('X');
	writeset_put_string(GetUserNameFromId(GetUserId(), false));
	writeset_put_string(namespace_search_path);
	writeset_put_varint(nsettings);
	for (int i = 0; i < nsettings; i++)
	{
		writeset_put_string(shipped_settings[i]);
		writeset_put_string(GetConfigOption(shipped_settings[i], false, false));
	}
	writeset_put_string(text);
	writeset_end();
}

/* ---------- refusals ---------- */

void
ddl_refuse(const char *message, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("%s", message),
			 errhint("%s", hint)));
}

static void
refuse_concurrently(bool concurrent)
{
	if (concurrent)
		ddl_refuse("CONCURRENTLY is not supported on replicated tables",
			   "Use the statement without CONCURRENTLY.");
}

static void
refuse_own_trigger(const char *name)
{
	if (name && strncmp(name, "!pg_quorum_", 11) == 0)
		ddl_refuse(psprintf("trigger \"%s\" belongs to pg_quorum", name),
			   "Use quorum.remove_table to make the table an ordinary one.");
}

/* ---------- what is known not to work ---------- */

static void
check_foreign_key(const Constraint *constraint)
{
	Oid			target;

	if (constraint->contype != CONSTR_FOREIGN || constraint->pktable == NULL)
		return;
	target = RangeVarGetRelid(constraint->pktable, NoLock, true);
	if (OidIsValid(target) && tables_id_of_oid(target) == 0)
		ddl_refuse(psprintf("a replicated table cannot refer to table \"%s\", which is not replicated",
						get_rel_name(target)),
			   "Add that table with quorum.add_table first.");
}

static void
check_constraints(List *constraints)
{
	ListCell   *lc;

	foreach(lc, constraints)
		if (IsA(lfirst(lc), Constraint))
			check_foreign_key(lfirst_node(Constraint, lc));
}

static void
check_columns(List *elements)
{
	ListCell   *lc;

	foreach(lc, elements)
		if (IsA(lfirst(lc), ColumnDef))
			check_constraints(lfirst_node(ColumnDef, lc)->constraints);
		else
			check_constraints(list_make1(lfirst(lc)));
}

/* With a fresh snapshot: the statement may have written all rows anew. */
static bool
has_rows(Oid relid)
{
	bool		answer;

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	if (SPI_execute(psprintf("SELECT 1 FROM %s LIMIT 1",
							 quote_qualified_identifier(get_namespace_name(get_rel_namespace(relid)),
														get_rel_name(relid))),
					false, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not look into table %u", relid);
	answer = SPI_processed > 0;
	SPI_finish();
	return answer;
}

static void
check_attached(const PartitionCmd *command)
{
	Oid			partition = RangeVarGetRelid(command->name, NoLock, true);

	if (OidIsValid(partition) && tables_id_of_oid(partition) == 0 && has_rows(partition))
		ddl_refuse(psprintf("table \"%s\" has rows and cannot become a partition of a replicated table",
						get_rel_name(partition)),
			   "Attach an empty table, then insert the rows.");
}

static void
refuse_bound(void)
{
	ddl_refuse("bound of a partition is computed when the statement runs, and could be another one on each server",
			   "Write the value itself.");
}

static void
check_type(Oid relid, const AlterTableCmd *command)
{
	Node	   *using = ((ColumnDef *) command->def)->raw_default;

	if (using != NULL && OidIsValid(relid) && ddl_using_differs(relid, using) && has_rows(relid))
		ddl_refuse(psprintf("USING of column \"%s\" would give the rows different values on each server",
							command->name),
				   "Add another column, UPDATE the rows, then drop the old column.");
}

/* Sub-commands of ALTER TABLE that travels; on a replicated table, or another. */
static void
check_alter(const AlterTableStmt *stmt, bool replicated)
{
	Oid			relid = RangeVarGetRelid(stmt->relation, NoLock, true);
	ListCell   *lc;

	foreach(lc, stmt->cmds)
	{
		AlterTableCmd *command = lfirst_node(AlterTableCmd, lc);

		if (command->subtype == AT_DetachPartition && IsA(command->def, PartitionCmd))
			refuse_concurrently(((PartitionCmd *) command->def)->concurrent);
		if (!replicated)
			continue;
		switch (command->subtype)
		{
			case AT_EnableTrig:
			case AT_EnableAlwaysTrig:
			case AT_EnableReplicaTrig:
			case AT_DisableTrig:
				refuse_own_trigger(command->name);
				break;
			case AT_EnableTrigAll:
			case AT_EnableTrigUser:
			case AT_DisableTrigAll:
			case AT_DisableTrigUser:
				ddl_refuse("all triggers of a replicated table cannot be enabled or disabled at once",
						   "That includes those of pg_quorum. Name the triggers.");
				break;
			case AT_SetUnLogged:
				ddl_refuse("a replicated table cannot become unlogged",
						   "Use quorum.remove_table first.");
				break;
			case AT_AddConstraint:
				check_constraints(list_make1(command->def));
				break;
			case AT_AddColumn:
				check_constraints(((ColumnDef *) command->def)->constraints);
				break;
			case AT_AlterColumnType:
				check_type(relid, command);
				break;
			case AT_AttachPartition:
				if (!IsA(command->def, PartitionCmd))
					break;
				check_attached((PartitionCmd *) command->def);
				if (((PartitionCmd *) command->def)->bound &&
					ddl_bound_differs(((PartitionCmd *) command->def)->bound))
					refuse_bound();
				break;
			default:
				break;
		}
	}
}

/* Rows of the child would be read with those of the parent, on one server. */
static void
check_parents(const CreateStmt *stmt, const DdlPlan *plan)
{
	ListCell   *lc;

	if (stmt->partbound || plan->adds)
		return;
	foreach(lc, stmt->inhRelations)
	{
		Oid			parent = RangeVarGetRelid(lfirst_node(RangeVar, lc), NoLock, true);

		if (OidIsValid(parent) && tables_id_of_oid(parent) != 0)
			ddl_refuse(psprintf("an ordinary table cannot inherit from replicated table \"%s\"", get_rel_name(parent)),
					   "Set quorum.replicate_ddl to \"all\", so that it is made on all members, and add it with quorum.add_table.");
	}
}

/* What of a statement on replicated tables is known not to work. */
static void
check_statement(Node *stmt, const DdlSearch *search)
{
	switch (nodeTag(stmt))
	{
		case T_AlterTableStmt:
			check_alter((AlterTableStmt *) stmt, search->plan->relids != NIL);
			break;
		case T_DropStmt:
			if (((DropStmt *) stmt)->removeType == OBJECT_TRIGGER)
			{
				ListCell   *lc;

				foreach(lc, ((DropStmt *) stmt)->objects)
					refuse_own_trigger(strVal(llast(lfirst(lc))));
			}
			break;
		case T_CreateStmt:
			if (search->plan->replicated)
			{
				check_constraints(((CreateStmt *) stmt)->constraints);
				check_columns(((CreateStmt *) stmt)->tableElts);
			}
			if (((CreateStmt *) stmt)->partbound &&
				ddl_bound_differs(((CreateStmt *) stmt)->partbound))
				refuse_bound();
			break;
		case T_RenameStmt:
			if (((RenameStmt *) stmt)->renameType == OBJECT_TRIGGER)
				refuse_own_trigger(((RenameStmt *) stmt)->subname);
			break;
		default:
			break;
	}
	if (search->others > 0 && search->plan->relids != NIL)
		ddl_refuse("a schema statement cannot name replicated tables and others together",
			   "Use one statement for the replicated tables and another for the rest.");
}

/* ---------- before ---------- */

static bool
is_maintenance(Node *stmt)
{
	switch (nodeTag(stmt))
	{
		case T_VacuumStmt:
		case T_ClusterStmt:
		case T_ReindexStmt:
		case T_RefreshMatViewStmt:
			return true;
		default:
			return false;
	}
}

/* Whole-server objects and what only makes sense on one server. */
static bool
stays_here(Node *stmt)
{
	switch (nodeTag(stmt))
	{
		case T_CreatedbStmt:
		case T_DropdbStmt:
		case T_AlterDatabaseStmt:
		case T_AlterDatabaseSetStmt:
		case T_CreateTableSpaceStmt:
		case T_DropTableSpaceStmt:
		case T_AlterTableSpaceOptionsStmt:
		case T_AlterSystemStmt:
		case T_CreateSubscriptionStmt:
		case T_AlterSubscriptionStmt:
		case T_DropSubscriptionStmt:
		case T_LoadStmt:
			return true;
		default:
			return false;
	}
}

/* ddlguard.c would stop it too, after a long list of what depends on us. */
static void
refuse_own_extension(const DropStmt *stmt)
{
	ListCell   *lc;

	if (stmt->removeType != OBJECT_EXTENSION || !node_is_member())
		return;
	foreach(lc, stmt->objects)
		if (strcmp(strVal(lfirst(lc)), "pg_quorum") == 0)
			ddlguard_refuse_extension();
}

/* CREATE TABLE AS and SELECT INTO; what a view holds is each server's own. */
static bool
is_computed_table(Node *stmt)
{
	return IsA(stmt, CreateTableAsStmt) && ((CreateTableAsStmt *) stmt)->objtype == OBJECT_TABLE;
}

static Oid
moved_table(const AlterObjectSchemaStmt *stmt)
{
	return RangeVarGetRelid(stmt->relation, NoLock, true);
}

/* An ordinary table becomes one of a replicated schema. */
static bool
moves_into_schema(Node *stmt)
{
	const AlterObjectSchemaStmt *move = (AlterObjectSchemaStmt *) stmt;
	Oid			relid;
	Oid			schema;

	if (!IsA(stmt, AlterObjectSchemaStmt) || move->objectType != OBJECT_TABLE || !node_is_member())
		return false;
	relid = moved_table(move);
	schema = get_namespace_oid(move->newschema, true);
	return OidIsValid(relid) && OidIsValid(schema) && tables_id_of_oid(relid) == 0 &&
		get_rel_persistence(relid) == RELPERSISTENCE_PERMANENT && schema_is_replicated(schema);
}

void
ddl_warn_of_edge(const char *target)
{
	ereport(WARNING,
			(errmsg("foreign key from an ordinary table to replicated table \"%s\" holds for changes made on this server only",
					target),
			 errdetail("Rows that other servers delete or change are not checked against the ordinary table, and nothing cascades to it."),
			 errhint("Add the ordinary table to the cluster with quorum.add_table.")));
}

static void
warn_of_keys(List *constraints)
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
		if (OidIsValid(target) && tables_id_of_oid(target) != 0)
			ddl_warn_of_edge(get_rel_name(target));
	}
}

/* An ordinary table is tied to a replicated one. */
static void
warn_of_edge(Node *stmt)
{
	ListCell   *lc;

	if (IsA(stmt, CreateStmt))
	{
		warn_of_keys(((CreateStmt *) stmt)->constraints);
		foreach(lc, ((CreateStmt *) stmt)->tableElts)
			if (IsA(lfirst(lc), ColumnDef))
				warn_of_keys(lfirst_node(ColumnDef, lc)->constraints);
			else
				warn_of_keys(list_make1(lfirst(lc)));
	}
	else if (IsA(stmt, AlterTableStmt))
		foreach(lc, ((AlterTableStmt *) stmt)->cmds)
		{
			AlterTableCmd *command = lfirst_node(AlterTableCmd, lc);

			if (command->subtype == AT_AddConstraint)
				warn_of_keys(list_make1(command->def));
			else if (command->subtype == AT_AddColumn)
				warn_of_keys(((ColumnDef *) command->def)->constraints);
		}
}

void
ddl_examine(PlannedStmt *pstmt, DdlPlan *plan)
{
	Node	   *stmt = pstmt->utilityStmt;
	DdlSearch	search = {plan, 0, 0, 0};

	memset(plan, 0, sizeof(*plan));
	if (IsA(stmt, DropStmt))
		refuse_own_extension((DropStmt *) stmt);
	if (is_maintenance(stmt))
	{
		plan->kind = DDL_MAINTENANCE;
		return;
	}
	if (GetCommandLogLevel(stmt) != LOGSTMT_DDL)
		return;
	plan->tag = GetCommandTagName(CreateCommandTag(stmt));
	ddl_search(&search, stmt);
	if (search.temporary > 0 && search.permanent == 0)
		return;

	if (IsA(stmt, CreateStmt) && node_is_member() && !ddl_forced && quorum_replicate_ddl != QUORUM_DDL_ALL)
		check_parents((CreateStmt *) stmt, plan);
	if (!plan->replicated && moves_into_schema(stmt))
		plan->replicated = true;
	if (!plan->replicated)
	{
		bool		all = ddl_forced || quorum_replicate_ddl == QUORUM_DDL_ALL;

		if (is_computed_table(stmt) && node_is_member() &&
			(all || schema_is_replicated_name(((CreateTableAsStmt *) stmt)->into->rel)))
			ddl_refuse(psprintf("%s cannot be replicated: its rows are computed", plan->tag),
					   "Create the table first, add it with quorum.add_table, then insert the rows.");
		if (!all || stays_here(stmt) || !node_is_member())
		{
			if (ddl_forced)
				ddl_refuse(psprintf("%s cannot be replicated", plan->tag),
						   "Run it on each server by itself.");
			plan->kind = DDL_LOCAL;
			warn_of_edge(stmt);
			mixed_local_ddl(plan->tag);
			return;
		}
	}
	else if (quorum_replicate_ddl == QUORUM_DDL_OFF && !ddl_forced)
		ddl_refuse(psprintf("%s on a replicated table must go through the cluster", plan->tag),
				   "Use quorum.execute_ddl, or set quorum.replicate_ddl to \"replicated\".");

	node_require_member();
	check_statement(stmt, &search);
	if (indexjob_is(stmt))
	{
		plan->job = indexjob_before(stmt);
		plan->kind = DDL_CONCURRENTLY;
		return;
	}
	mixed_replicated_change();
	if (moves_into_schema(stmt))
	{
		/* as a replicated table it is moved on all members */
		designate_add(moved_table((AlterObjectSchemaStmt *) stmt));
		ddl_search(&search, stmt);
	}
	if (!plan->light)
		gate_close(plan->relids);
	plan->kind = DDL_TRAVELS;
}

/*
 * Its place among the statements of the log would be before the one that it is made
 * by, and event triggers do not fire in the applier.
 */
void
ddl_check_nested(PlannedStmt *pstmt)
{
	Node	   *stmt = pstmt->utilityStmt;
	DdlPlan		plan;
	DdlSearch	search = {&plan, 0, 0, 0};

	if (is_maintenance(stmt) || GetCommandLogLevel(stmt) != LOGSTMT_DDL || !node_is_member())
		return;
	memset(&plan, 0, sizeof(plan));
	plan.tag = GetCommandTagName(CreateCommandTag(stmt));
	ddl_search(&search, stmt);
	if (search.temporary > 0 && search.permanent == 0)
		return;
	if (plan.replicated || (quorum_replicate_ddl == QUORUM_DDL_ALL && !stays_here(stmt)))
		ddl_refuse(psprintf("%s cannot be replicated: another schema statement makes it while it runs", plan.tag),
				   "An event trigger or a function does that. Make it a statement of its own.");
}

/* ---------- after ---------- */

/* DEFAULT 'now' is a constant once it is analysed. */
static bool
has_moment(const AlterTableCmd *command)
{
	ListCell   *lc;

	foreach(lc, ((ColumnDef *) command->def)->constraints)
	{
		Constraint *constraint = (Constraint *) lfirst(lc);

		if (IsA(constraint, Constraint) && constraint->contype == CONSTR_DEFAULT &&
			ddl_raw_differs(constraint->raw_expr))
			return true;
	}
	return false;
}

/*
 * Existing rows got the new column's default here; elsewhere they would get
 * another one if it is not immutable.
 */
static void
check_new_columns(const AlterTableStmt *stmt, Oid relid)
{
	ListCell   *lc;
	Relation	rel = NULL;

	foreach(lc, stmt->cmds)
	{
		AlterTableCmd *command = lfirst_node(AlterTableCmd, lc);
		AttrNumber	attnum;
		Node	   *expression;
		bool		bad;

		if (command->subtype != AT_AddColumn)
			continue;
		attnum = get_attnum(relid, ((ColumnDef *) command->def)->colname);
		if (attnum <= 0)
			continue;
		if (rel == NULL)
			rel = relation_open(relid, NoLock);
		if (TupleDescAttr(RelationGetDescr(rel), attnum - 1)->attgenerated)
			continue;
		expression = build_column_default(rel, attnum);
		bad = TupleDescAttr(RelationGetDescr(rel), attnum - 1)->attidentity != '\0' ||
			has_moment(command) || (expression && ddl_expr_differs(expression));
		if (bad && has_rows(relid))
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("default of new column \"%s\" would give existing rows different values on each server",
							((ColumnDef *) command->def)->colname),
					 errhint("Add the column without a default, set the default with ALTER COLUMN ... SET DEFAULT, then UPDATE the rows.")));
	}
	if (rel)
		relation_close(rel, NoLock);
}

static void
check_still_usable(Oid relid)
{
	Relation	rel = try_relation_open(relid, AccessShareLock);

	if (rel == NULL)
		return;					/* dropped */
	if (tables_id_of(rel) != 0 && !OidIsValid(tables_identity_index(rel)))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("replicated table \"%s\" would be left without a primary key or replica identity",
						RelationGetRelationName(rel)),
				 errhint("Give it another one first, or use quorum.remove_table.")));
	relation_close(rel, NoLock);
}

static char *
statement_text(const PlannedStmt *pstmt, const char *query)
{
	const char *text = query;
	int			location = pstmt->stmt_location;
	int			len = pstmt->stmt_len;

	if (location < 0)
		return pstrdup(query);
	text += location;
	if (len <= 0)
		len = strlen(text);
	while (len > 0 && isspace((unsigned char) text[len - 1]))
		len--;
	return pnstrdup(text, len);
}

void
ddl_done(PlannedStmt *pstmt, const char *query, DdlPlan *plan)
{
	ListCell   *id;
	ListCell   *relid;

	if (plan->kind == DDL_CONCURRENTLY)
		indexjob_after(pstmt->utilityStmt, plan->job);
	if (plan->kind != DDL_TRAVELS)
		return;
	CommandCounterIncrement();
	if (plan->relids == NIL)
		keys_add_catalog();
	forboth(id, plan->table_ids, relid, plan->relids)
	{
		if (IsA(pstmt->utilityStmt, AlterTableStmt))
			check_new_columns((AlterTableStmt *) pstmt->utilityStmt, lfirst_oid(relid));
		check_still_usable(lfirst_oid(relid));
		if (plan->light)
		{
			keys_add_table_light((uint32) lfirst_int(id), lfirst_oid(relid));
			gate_forgo((uint32) lfirst_int(id));
		}
		else
			keys_add_table_id((uint32) lfirst_int(id), lfirst_oid(relid));
	}
	ddl_put_statement(statement_text(pstmt, query));
	ddlguard_forget_dropped_tables();
	ddl_note_catalog(pstmt->utilityStmt);
	if (plan->adds)
	{
		Oid			made = RangeVarGetRelid(castNode(CreateStmt, pstmt->utilityStmt)->relation, NoLock, true);

		/* IF NOT EXISTS may have made none */
		if (OidIsValid(made) && tables_id_of_oid(made) == 0)
			designate_add(made);
	}
}

void
ddl_note_catalog(Node *stmt)
{
	ListCell   *lc;

	if (IsA(stmt, RenameStmt) && ((RenameStmt *) stmt)->renameType == OBJECT_SCHEMA)
		schema_renamed(((RenameStmt *) stmt)->subname, ((RenameStmt *) stmt)->newname);
	else if (IsA(stmt, DropStmt) && ((DropStmt *) stmt)->removeType == OBJECT_SCHEMA)
		foreach(lc, ((DropStmt *) stmt)->objects)
			schema_dropped(strVal(lfirst(lc)));
}

/* ---------- execute_ddl ---------- */

/*
 * execute_ddl(sql) - run schema statements here now, on the other members at
 * commit, whatever quorum.replicate_ddl says. Rights as for the statements.
 */
Datum
quorum_execute_ddl(PG_FUNCTION_ARGS)
{
	char	   *sql = text_to_cstring(PG_GETARG_TEXT_PP(0));
	List	   *statements;
	ListCell   *lc;
	bool		saved = ddl_forced;
	int			result;

	node_require_member();
	if (!session_in_quorum_database())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("only database \"%s\" takes part in the cluster", quorum_database)));
	statements = pg_parse_query(sql);
	foreach(lc, statements)
	{
		Node	   *stmt = lfirst_node(RawStmt, lc)->stmt;

		if (GetCommandLogLevel(stmt) != LOGSTMT_DDL || is_maintenance(stmt))
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("%s is not a schema statement that can be replicated",
							GetCommandTagName(CreateCommandTag(stmt))),
					 errhint("Rows of replicated tables travel by themselves; run maintenance on each server.")));
	}
	if (statements == NIL)
		PG_RETURN_VOID();

	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	ddl_forced = true;
	PG_TRY();
	{
		result = SPI_execute(sql, false, 0);
	}
	PG_FINALLY();
	{
		ddl_forced = saved;
	}
	PG_END_TRY();
	if (result < 0)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("the statement cannot be run by quorum.execute_ddl: %s",
						SPI_result_code_string(result))));
	SPI_finish();
	PG_RETURN_VOID();
}
