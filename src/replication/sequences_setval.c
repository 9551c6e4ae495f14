/*-------------------------------------------------------------------------
 *
 * sequences_setval.c
 *		setval() of sequences that belong to replicated tables: in the log, so
 *		that it counts on every member. And how calls of setval() and nextval()
 *		become calls of ours.
 *
 * Calls of PostgreSQL's setval() are turned into calls of quorum.setval() when a
 * query is planned: it does the same here, and puts a statement into the
 * transaction's write set, which every other member runs at the entry's place.
 * Each brings its own next value into its class (sequences.c). As on one server
 * the value set here does not come back when the transaction is rolled back; the
 * others then never hear of it.
 *
 * A function in SQL that calls it is not taken apart by the planner, which would do
 * so behind this file's back: its body is planned by itself. What PostgreSQL
 * evaluates without asking the planner (defaults that COPY fills in, CHECK
 * constraints, arguments of CALL and EXECUTE, calls by the client's fast path) is
 * refused when it is about to be: object_access() in sequences_gate.c.
 *
 * The applier's own calls (by triggers that are ENABLE ALWAYS) count here only, as the
 * others make them as well; the next value goes into the class.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_language.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "nodes/pg_list.h"
#include "optimizer/planner.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
#include "utils/varlena.h"

#include "compat.h"
#include "node/node.h"
#include "replication/ddl.h"
#include "replication/logentry.h"
#include "replication/replication.h"
#include "replication/sequences_internal.h"
#include "replication/session.h"

PG_FUNCTION_INFO_V1(quorum_setval);
PG_FUNCTION_INFO_V1(quorum_do_setval);

static planner_hook_type prev_planner = NULL;
static needs_fmgr_hook_type prev_needs_fmgr_hook = NULL;

/* ---------- planning ---------- */

/*
 * What a call of this function becomes; 0: it stays. Who calls need not have rights on
 * the schema; and it must be a function of ours, which only superusers can make.
 */
static Oid
own_function(Oid function)
{
	Oid			types[] = {REGCLASSOID, INT8OID, BOOLOID};
	const char *name;
	int			nargs;
	HeapTuple	tuple;
	Oid			ours = InvalidOid;

	switch (function)
	{
		case F_NEXTVAL:
			name = "nextval";
			nargs = 1;
			break;
		case F_SETVAL_REGCLASS_INT8:
			name = "setval";
			nargs = 2;
			break;
		case F_SETVAL_REGCLASS_INT8_BOOL:
			name = "setval";
			nargs = 3;
			break;
		default:
			return InvalidOid;
	}
	tuple = SearchSysCache3(PROCNAMEARGSNSP, CStringGetDatum(name),
							PointerGetDatum(buildoidvector(types, nargs)),
							ObjectIdGetDatum(get_namespace_oid("quorum", true)));
	if (!HeapTupleIsValid(tuple))
		return InvalidOid;
	if (((Form_pg_proc) GETSTRUCT(tuple))->prolang == ClanguageId)
		ours = ((Form_pg_proc) GETSTRUCT(tuple))->oid;
	ReleaseSysCache(tuple);
	return ours;
}

static bool
replace_calls(Node *node, void *context)
{
	Oid			ours;

	if (node == NULL)
		return false;
	if (IsA(node, FuncExpr))
	{
		ours = own_function(((FuncExpr *) node)->funcid);
		if (OidIsValid(ours))
			((FuncExpr *) node)->funcid = ours;
	}
	else if (IsA(node, OpExpr))
	{
		/* somebody's operator */
		set_opfuncid((OpExpr *) node);
		ours = own_function(((OpExpr *) node)->opfuncid);
		if (OidIsValid(ours))
			((OpExpr *) node)->opfuncid = ours;
	}
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, replace_calls, context, 0);
	return expression_tree_walker(node, replace_calls, context);
}

/* On a server that is no member yet, too: its plans are kept when it becomes one. */
static PlannedStmt *
plan_query(Query *parse, const char *query_string, int cursor_options, ParamListInfo params)
{
	if (parse->commandType != CMD_UTILITY && session_in_quorum_database())
		(void) replace_calls((Node *) parse, NULL);
	if (prev_planner)
		return prev_planner(parse, query_string, cursor_options, params);
	return standard_planner(parse, query_string, cursor_options, params);
}

/*
 * A body of a function that may name setval(): as text, or with its characters
 * as escapes (U&"..."), or parsed.
 */
static bool
may_call_setval(HeapTuple function)
{
	bool		isnull;
	Datum		body = SysCacheGetAttr(PROCOID, function, Anum_pg_proc_prosqlbody, &isnull);
	char	   *source;

	if (!isnull)
	{
		source = TextDatumGetCString(body);
		return strstr(source, psprintf(":funcid %u ", F_SETVAL_REGCLASS_INT8)) != NULL ||
			strstr(source, psprintf(":funcid %u ", F_SETVAL_REGCLASS_INT8_BOOL)) != NULL ||
			strstr(source, psprintf(":opfuncid %u ", F_SETVAL_REGCLASS_INT8)) != NULL;
	}
	body = SysCacheGetAttr(PROCOID, function, Anum_pg_proc_prosrc, &isnull);
	if (isnull)
		return false;
	source = TextDatumGetCString(body);
	for (const char *p = source; *p; p++)
		if (pg_strncasecmp(p, "setval", 6) == 0 || pg_strncasecmp(p, "u&", 2) == 0)
			return true;
	return false;
}

/* True: the planner leaves calls of this function as they are. */
static bool
keep_call(Oid function)
{
	HeapTuple	tuple;
	bool		answer = false;

	if (prev_needs_fmgr_hook && prev_needs_fmgr_hook(function))
		return true;
	if (!session_in_quorum_database())
		return false;
	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	if (!HeapTupleIsValid(tuple))
		return false;
	if (((Form_pg_proc) GETSTRUCT(tuple))->prolang == SQLlanguageId)
		answer = may_call_setval(tuple);
	ReleaseSysCache(tuple);
	return answer;
}

void
setval_install(void)
{
	prev_planner = planner_hook;
	planner_hook = plan_query;
	prev_needs_fmgr_hook = needs_fmgr_hook;
	needs_fmgr_hook = keep_call;
}

/* ---------- the functions ---------- */

static void
set_value(Oid seq, int64 value, bool is_called)
{
	(void) DirectFunctionCall3(setval3_oid, ObjectIdGetDatum(seq), Int64GetDatum(value),
							   BoolGetDatum(is_called));
}

/* setval(sequence, value [, is_called]) */
Datum
quorum_setval(PG_FUNCTION_ARGS)
{
	Oid			seq = PG_GETARG_OID(0);
	int64		value = PG_GETARG_INT64(1);
	bool		is_called = PG_NARGS() < 3 || PG_GETARG_BOOL(2);

	set_value(seq, value, is_called);
	if (!node_is_member() || !session_in_quorum_database() || !sequences_is_ours(seq))
		PG_RETURN_INT64(value);
	if (replication_is_applying())
		sequences_into_class(seq);
	else
	{
		char	   *name = quote_qualified_identifier(get_namespace_name(get_rel_namespace(seq)),
													  get_rel_name(seq));

		sequences_note_setval();
		ddl_put_statement(psprintf("SELECT quorum._setval(%s, " INT64_FORMAT ", %s)",
								   quote_literal_cstr(name), value, is_called ? "true" : "false"));
	}
	PG_RETURN_INT64(value);
}

/* _setval(sequence text, value, is_called): of the log */
Datum
quorum_do_setval(PG_FUNCTION_ARGS)
{
	List	   *names = textToQualifiedNameList(PG_GETARG_TEXT_PP(0));
	Oid			seq;

	logentry_require_applying("_setval");
	seq = RangeVarGetRelid(makeRangeVarFromNameList(names), NoLock, false);
	set_value(seq, PG_GETARG_INT64(1), PG_GETARG_BOOL(2));
	sequences_into_class(seq);
	PG_RETURN_VOID();
}
