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
#include "replication/gate.h"
#include "replication/keys_internal.h"
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

static void
refuse(const char *message, const char *hint)
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
		refuse("CONCURRENTLY is not supported on replicated tables",
			   "Use the statement without CONCURRENTLY.");
}

static void
refuse_own_trigger(const char *name)
{
	if (name && strncmp(name, "!pg_quorum_", 11) == 0)
		refuse(psprintf("trigger \"%s\" belongs to pg_quorum", name),
			   "Use quorum.remove_table to make the table an ordinary one.");
}

/* ---------- which replicated tables a statement names ---------- */

typedef struct Search
{
	DdlPlan    *plan;
	int			others;			/* relations that are not replicated */
	int			permanent;		/* of any kind, not temporary */
	int			temporary;
} Search;

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
look_at(Search *search, Oid relid)
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
look_at_name(Search *search, const RangeVar *name)
{
	if (name)
		look_at(search, RangeVarGetRelid(name, NoLock, true));
}

static void
look_at_names(Search *search, List *names)
{
	ListCell   *lc;

	foreach(lc, names)
		if (IsA(lfirst(lc), RangeVar))
			look_at_name(search, lfirst_node(RangeVar, lc));
}

/* A qualified name as a list of strings, less its last `drop` parts. */
static void
look_at_list(Search *search, Node *object, int drop)
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

static void
check_foreign_key(const Constraint *constraint)
{
	Oid			target;

	if (constraint->contype != CONSTR_FOREIGN || constraint->pktable == NULL)
		return;
	target = RangeVarGetRelid(constraint->pktable, NoLock, true);
	if (OidIsValid(target) && tables_id_of_oid(target) == 0)
		refuse(psprintf("a replicated table cannot refer to table \"%s\", which is not replicated",
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
		refuse(psprintf("table \"%s\" has rows and cannot become a partition of a replicated table",
						get_rel_name(partition)),
			   "Attach an empty table, then insert the rows.");
}

/* Sub-commands of ALTER TABLE on a replicated table. */
static void
check_alter(const AlterTableStmt *stmt, bool replicated)
{
	ListCell   *lc;

	foreach(lc, stmt->cmds)
	{
		AlterTableCmd *command = lfirst_node(AlterTableCmd, lc);

		switch (command->subtype)
		{
			case AT_EnableTrig:
			case AT_EnableAlwaysTrig:
			case AT_EnableReplicaTrig:
			case AT_DisableTrig:
				if (replicated)
					refuse_own_trigger(command->name);
				break;
			case AT_EnableTrigAll:
			case AT_EnableTrigUser:
			case AT_DisableTrigAll:
			case AT_DisableTrigUser:
				if (!replicated)
					break;
				refuse("all triggers of a replicated table cannot be enabled or disabled at once",
					   "That includes those of pg_quorum. Name the triggers.");
				break;
			case AT_SetUnLogged:
				refuse("a replicated table cannot become unlogged",
					   "Use quorum.remove_table first.");
				break;
			case AT_AddConstraint:
				check_constraints(list_make1(command->def));
				break;
			case AT_AddColumn:
				check_constraints(((ColumnDef *) command->def)->constraints);
				break;
			case AT_AttachPartition:
				if (IsA(command->def, PartitionCmd))
					check_attached((PartitionCmd *) command->def);
				break;
			case AT_DetachPartition:
				if (IsA(command->def, PartitionCmd))
					refuse_concurrently(((PartitionCmd *) command->def)->concurrent);
				break;
			default:
				break;
		}
	}
}

static void
search_drop(Search *search, const DropStmt *stmt)
{
	ListCell   *lc;

	foreach(lc, stmt->objects)
	{
		Node	   *object = lfirst(lc);

		switch (stmt->removeType)
		{
			case OBJECT_TABLE:
			case OBJECT_INDEX:
			case OBJECT_SEQUENCE:
			case OBJECT_VIEW:
			case OBJECT_MATVIEW:
			case OBJECT_FOREIGN_TABLE:
				look_at_list(search, object, 0);
				break;
			case OBJECT_TRIGGER:
			case OBJECT_RULE:
			case OBJECT_POLICY:
				look_at_list(search, object, 1);
				break;
			default:
				break;
		}
	}
}

static void
search_comment(Search *search, const CommentStmt *stmt)
{
	switch (stmt->objtype)
	{
		case OBJECT_TABLE:
		case OBJECT_INDEX:
		case OBJECT_SEQUENCE:
			look_at_list(search, stmt->object, 0);
			break;
		case OBJECT_COLUMN:
		case OBJECT_TABCONSTRAINT:
		case OBJECT_TRIGGER:
		case OBJECT_RULE:
		case OBJECT_POLICY:
			look_at_list(search, stmt->object, 1);
			break;
		default:
			break;
	}
}

/* Only a partition of a replicated table makes a new table one. */
static void
search_create(Search *search, const CreateStmt *stmt)
{
	if (stmt->relation->relpersistence == RELPERSISTENCE_TEMP)
		search->temporary++;
	else
		search->permanent++;
	if (stmt->partbound)
		look_at_names(search, stmt->inhRelations);
}

static void
note_new(Search *search, const RangeVar *name)
{
	if (name && (name->relpersistence == RELPERSISTENCE_TEMP ||
				 (name->schemaname && strcmp(name->schemaname, "pg_temp") == 0)))
		search->temporary++;
	else
		search->permanent++;
}

static void
search_statement(Search *search, Node *stmt)
{
	switch (nodeTag(stmt))
	{
		case T_AlterTableStmt:
			if (((AlterTableStmt *) stmt)->objtype != OBJECT_TYPE)
				look_at_name(search, ((AlterTableStmt *) stmt)->relation);
			break;
		case T_RenameStmt:
			if (((RenameStmt *) stmt)->renameType != OBJECT_TYPE &&
				((RenameStmt *) stmt)->renameType != OBJECT_ATTRIBUTE)
				look_at_name(search, ((RenameStmt *) stmt)->relation);
			break;
		case T_AlterObjectSchemaStmt:
			look_at_name(search, ((AlterObjectSchemaStmt *) stmt)->relation);
			break;
		case T_IndexStmt:
			look_at_name(search, ((IndexStmt *) stmt)->relation);
			break;
		case T_DropStmt:
			search_drop(search, (DropStmt *) stmt);
			break;
		case T_CommentStmt:
			search_comment(search, (CommentStmt *) stmt);
			break;
		case T_GrantStmt:
			if (((GrantStmt *) stmt)->targtype == ACL_TARGET_OBJECT)
				look_at_names(search, ((GrantStmt *) stmt)->objects);
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
}

/* What of a statement on replicated tables is known not to work. */
static void
check_statement(Node *stmt, const Search *search)
{
	switch (nodeTag(stmt))
	{
		case T_AlterTableStmt:
			check_alter((AlterTableStmt *) stmt, search->plan->relids != NIL);
			break;
		case T_IndexStmt:
			refuse_concurrently(((IndexStmt *) stmt)->concurrent);
			break;
		case T_DropStmt:
			refuse_concurrently(((DropStmt *) stmt)->concurrent);
			if (((DropStmt *) stmt)->removeType == OBJECT_TRIGGER)
			{
				ListCell   *lc;

				foreach(lc, ((DropStmt *) stmt)->objects)
					refuse_own_trigger(strVal(llast(lfirst(lc))));
			}
			break;
		case T_RenameStmt:
			if (((RenameStmt *) stmt)->renameType == OBJECT_TRIGGER)
				refuse_own_trigger(((RenameStmt *) stmt)->subname);
			break;
		default:
			break;
	}
	if (search->others > 0 && search->plan->relids != NIL)
		refuse("a schema statement cannot name replicated tables and others together",
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

void
ddl_examine(PlannedStmt *pstmt, DdlPlan *plan)
{
	Node	   *stmt = pstmt->utilityStmt;
	Search		search = {plan, 0, 0, 0};

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
	search_statement(&search, stmt);
	if (search.temporary > 0 && search.permanent == 0)
		return;

	if (plan->relids == NIL)
	{
		bool		all = ddl_forced || quorum_replicate_ddl == QUORUM_DDL_ALL;

		if (!all || stays_here(stmt) || !node_is_member())
		{
			if (ddl_forced)
				refuse(psprintf("%s cannot be replicated", plan->tag),
					   "Run it on each server by itself.");
			plan->kind = DDL_LOCAL;
			mixed_local_ddl(plan->tag);
			return;
		}
		if (IsA(stmt, CreateTableAsStmt))
			refuse(psprintf("%s cannot be replicated: its rows are computed", plan->tag),
				   "Create the table first, add it with quorum.add_table, then insert the rows.");
	}
	else if (quorum_replicate_ddl == QUORUM_DDL_OFF && !ddl_forced)
		refuse(psprintf("%s on a replicated table must go through the cluster", plan->tag),
			   "Use quorum.execute_ddl, or set quorum.replicate_ddl to \"replicated\".");

	node_require_member();
	check_statement(stmt, &search);
	mixed_replicated_change();
	gate_close(plan->relids);
	plan->kind = DDL_TRAVELS;
}

/* ---------- after ---------- */

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
			(expression && contain_mutable_functions(expression));
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
		keys_add_table_id((uint32) lfirst_int(id), lfirst_oid(relid));
	}
	ddl_put_statement(statement_text(pstmt, query));
	ddlguard_forget_dropped_tables();
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
