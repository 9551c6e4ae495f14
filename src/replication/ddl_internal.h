/*-------------------------------------------------------------------------
 *
 * ddl_internal.h
 *		Between ddl.c, ddl_search.c and ddl_exprs.c.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGQ_DDL_INTERNAL_H
#define PGQ_DDL_INTERNAL_H

#include "postgres.h"

#include "nodes/parsenodes.h"

#include "replication/ddl.h"

/* ---------- ddl_search.c ---------- */

/* What a statement names. */
typedef struct DdlSearch
{
	DdlPlan    *plan;			/* gets the replicated tables */
	int			others;			/* relations that are not replicated */
	int			permanent;		/* of any kind, not temporary */
	int			temporary;
} DdlSearch;

extern void ddl_search(DdlSearch *search, Node *stmt);

/* ---------- ddl_exprs.c ---------- */

/*
 * May this expression have another value on another server, or at another
 * moment, with the same settings? As written, and after parse analysis.
 */
extern bool ddl_raw_differs(Node *raw);
extern bool ddl_expr_differs(Node *expr);

/* The bound of a partition, as written. */
extern bool ddl_bound_differs(const PartitionBoundSpec *bound);

/* The USING of ALTER COLUMN ... TYPE, before the statement runs. */
extern bool ddl_using_differs(Oid relid, Node *raw);

/* ---------- ddl.c ---------- */

/* A foreign key leads from an ordinary table to this replicated one. */
extern void ddl_warn_of_edge(const char *target);

extern void ddl_refuse(const char *message, const char *hint);

#endif							/* PGQ_DDL_INTERNAL_H */
