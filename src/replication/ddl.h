/*-------------------------------------------------------------------------
 *
 * ddl.h
 *		Schema statements in the log.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGQ_DDL_H
#define PGQ_DDL_H

#include "postgres.h"

#include "nodes/parsenodes.h"
#include "nodes/plannodes.h"

/* Append an 'X' record: this text, as the current role, with its settings. */
extern void ddl_put_statement(const char *text);

/* What a utility statement is to the cluster (ddl.c). */
typedef enum DdlKind
{
	DDL_NONE,					/* no schema change, or of temporary things only */
	DDL_LOCAL,					/* changes the schema of this server alone */
	DDL_TRAVELS,				/* goes into the log */
	DDL_CONCURRENTLY,			/* outside transactions, on each member by itself */
	DDL_MAINTENANCE				/* touches replicated tables, changes nothing (REINDEX ...) */
} DdlKind;

typedef struct DdlPlan
{
	DdlKind		kind;
	const char *tag;			/* the command's name, for messages */
	List	   *relids;			/* replicated tables it names, locked */
	List	   *table_ids;		/* their numbers, in the same order */
	bool		replicated;		/* is about replicated tables or schemas */
	bool		light;			/* leaves rows and their writers alone */
	struct IndexJob *job;		/* DDL_CONCURRENTLY */
	bool		adds;			/* makes a table that becomes a replicated one */
} DdlPlan;

/* Before it runs: refuses what cannot be replicated. */
extern void ddl_examine(PlannedStmt *pstmt, DdlPlan *plan);

/* A statement that another one makes while it runs (an event trigger's, say): refused if it would have to travel. */
extern void ddl_check_nested(PlannedStmt *pstmt);

/* After it ran, here and on the others: what our own catalog says. */
extern void ddl_note_catalog(Node *stmt);

/* After it ran: the record and its keys. */
extern void ddl_done(PlannedStmt *pstmt, const char *query, DdlPlan *plan);

/*
 * While > 0, a statement that the cluster knows about is running, here or in
 * the applier: what it does to replicated tables is fine (ddlguard.c).
 */
extern int	ddl_depth;

/* Inside quorum.execute_ddl(): everything travels. */
extern bool ddl_forced;

/* ddlguard.c */
extern void ddlguard_install(void);
extern void ddlguard_forget(void);
extern _Noreturn void ddlguard_refuse_extension(void);

/* Tables dropped by the statement that just ran leave quorum.replicated_table. */
extern void ddlguard_forget_dropped_tables(void);

#endif							/* PGQ_DDL_H */
