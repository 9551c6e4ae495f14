/*-------------------------------------------------------------------------
 *
 * ddl_exprs.c
 *		Expressions in schema statements that each server would evaluate to
 *		something else.
 *
 * A statement that computes values for rows that are there (a default of a new
 * column, USING) or for the schema (a partition's bound) may travel only if
 * all servers compute the same. Immutable is fine. So are stable functions of
 * PostgreSQL itself that depend on settings alone, as casts and operators of dates
 * do: those settings travel with the statement. What depends on the moment, the
 * session or the server is not, and nothing volatile is. Of stable functions of
 * users nothing is known.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/transam.h"
#include "catalog/pg_proc.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parse_expr.h"
#include "parser/parse_node.h"
#include "parser/parse_relation.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "compat.h"
#include "replication/ddl_internal.h"

/* What dates and times read as the moment of the statement. */
static bool
is_moment(const char *text)
{
	static const char *const words[] = {"now", "today", "tomorrow", "yesterday"};
	const char *end;

	while (isspace((unsigned char) *text))
		text++;
	end = text + strlen(text);
	while (end > text && isspace((unsigned char) end[-1]))
		end--;
	for (int i = 0; i < lengthof(words); i++)
		if (strlen(words[i]) == (Size) (end - text) &&
			pg_strncasecmp(text, words[i], end - text) == 0)
			return true;
	return false;
}

static bool
raw_walker(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, SQLValueFunction) || (IsA(node, FuncCall) && context != NULL))
		return true;
	if (IsA(node, A_Const))
	{
		A_Const    *constant = (A_Const *) node;

		return !constant->isnull && IsA(&constant->val, String) &&
			is_moment(strVal(&constant->val));
	}
	return raw_expression_tree_walker(node, raw_walker, context);
}

bool
ddl_raw_differs(Node *raw)
{
	return raw_walker(raw, NULL);
}

/* A bound is computed where the statement is analysed: literals only. */
bool
ddl_bound_differs(const PartitionBoundSpec *bound)
{
	const List *const lists[] = {bound->listdatums, bound->lowerdatums, bound->upperdatums};
	static int	no_functions;

	for (int i = 0; i < lengthof(lists); i++)
	{
		const ListCell *lc;

		foreach(lc, lists[i])
			if (raw_walker(lfirst(lc), &no_functions))
				return true;
	}
	return false;
}

/* Of PostgreSQL itself, and all it looks at are its arguments and settings. */
static bool
depends_on_settings_only(Oid function)
{
	static const char *const others[] = {"pg_", "has_", "current_", "inet_", "txid_", "to_reg", "age"};
	char	   *name;

	if (function >= FirstNormalObjectId || get_func_nargs(function) == 0)
		return false;
	name = get_func_name(function);
	for (int i = 0; i < lengthof(others); i++)
		if (strncmp(name, others[i], strlen(others[i])) == 0)
			return false;
	return true;
}

static bool
function_differs(Oid function, void *context)
{
	switch (func_volatile(function))
	{
		case PROVOLATILE_IMMUTABLE:
			return false;
		case PROVOLATILE_STABLE:
			return !depends_on_settings_only(function);
		default:
			return true;
	}
}

static bool
expr_walker(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, SQLValueFunction) || IsA(node, NextValueExpr))
		return true;
	if (check_functions_in_node(node, function_differs, context))
		return true;
	return expression_tree_walker(node, expr_walker, context);
}

bool
ddl_expr_differs(Node *expr)
{
	return expr_walker(expr, NULL);
}

bool
ddl_using_differs(Oid relid, Node *raw)
{
	Relation	rel;
	ParseState *pstate;
	ParseNamespaceItem *item;
	Node	   *expr;
	bool		differs;

	if (raw == NULL)
		return false;
	if (ddl_raw_differs(raw))
		return true;
	rel = relation_open(relid, AccessShareLock);
	pstate = make_parsestate(NULL);
	item = addRangeTableEntryForRelation(pstate, rel, AccessShareLock, NULL, false, true);
	addNSItemToQuery(pstate, item, false, true, true);
	expr = transformExpr(pstate, copyObject(raw), EXPR_KIND_ALTER_COL_TRANSFORM);
	differs = ddl_expr_differs(expr);
	free_parsestate(pstate);
	relation_close(rel, AccessShareLock);
	return differs;
}
