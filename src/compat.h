/*-------------------------------------------------------------------------
 *
 * compat.h
 *		The only file that looks at PG_VERSION_NUM.
 *
 * Wrappers carry the shape of the newest major; older ones are adapted to it.
 * Each says which upstream change it hides.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGQ_COMPAT_H
#define PGQ_COMPAT_H

#include "postgres.h"

#include "access/sysattr.h"
#include "access/xact.h"
#include "commands/tablecmds.h"
#include "executor/executor.h"
#include "nodes/makefuncs.h"
#include "parser/parse_relation.h"
#include "replication/origin.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "storage/sinval.h"
#if PG_VERSION_NUM >= 180000
#include "storage/waiteventset.h"
#endif
#include "utils/memutils.h"
#include "utils/rel.h"
#if PG_VERSION_NUM >= 160000	/* varlena macros left postgres.h (d952373a98) */
#include "varatt.h"
#endif

#if PG_VERSION_NUM < 150000
#error "pg_quorum needs PostgreSQL 15 or later"
#endif

/* 17: BackendId became ProcNumber (024c521117), PGPROC.lxid moved to vxid */
#if PG_VERSION_NUM < 170000
typedef int ProcNumber;

#define INVALID_PROC_NUMBER (-1)
#define compat_my_procno() (MyProc->pgprocno)
#define compat_proc_procno(proc) ((proc)->pgprocno)
#define compat_proc_lxid(proc) ((proc)->lxid)
#else
#define compat_my_procno() (MyProcNumber)
#define compat_proc_procno(proc) (GetNumberFromPGProc(proc))
#define compat_proc_lxid(proc) ((proc)->vxid.lxid)
#endif

/* 16: acquired_by argument (216a784829) */
static inline void
compat_replorigin_session_setup(RepOriginId node)
{
#if PG_VERSION_NUM >= 160000
	replorigin_session_setup(node, 0);
#else
	replorigin_session_setup(node);
#endif
}

/* 17: a resource owner instead of a memory context (50c67c2019) */
static inline WaitEventSet *
compat_create_wait_event_set(int nevents)
{
#if PG_VERSION_NUM >= 170000
	return CreateWaitEventSet(NULL, nevents);
#else
	return CreateWaitEventSet(TopMemoryContext, nevents);
#endif
}

/* 16: missing_ok argument (ad86d159b6) */
#if PG_VERSION_NUM >= 160000
#define compat_build_attrmap_by_name(in, out) build_attrmap_by_name(in, out, false)
#else
#define compat_build_attrmap_by_name(in, out) build_attrmap_by_name(in, out)
#endif

/* 18: a deferrable primary key is reported as well when asked for (7d6e703f3c) */
#if PG_VERSION_NUM >= 180000
#define compat_primary_key_index(rel) RelationGetPrimaryKeyIndex(rel, false)
#else
#define compat_primary_key_index(rel) RelationGetPrimaryKeyIndex(rel)
#endif

/* 16: object ownership by class (afbfc02983) */
#if PG_VERSION_NUM >= 160000
#define compat_owns_relation(relid, role) object_ownercheck(RelationRelationId, relid, role)
#define compat_owns_schema(schema, role) object_ownercheck(NamespaceRelationId, schema, role)
#else
#define compat_owns_relation(relid, role) pg_class_ownercheck(relid, role)
#define compat_owns_schema(schema, role) pg_namespace_ownercheck(schema, role)
#endif

/*
 * A range table of one relation, all of whose columns are updated.
 * 16: permissions left the range table (a61b1f7482); 18: unpruned relids
 * (525392d572)
 */
static inline void
compat_init_range_table(EState *estate, Relation rel)
{
	RangeTblEntry *rte = makeNode(RangeTblEntry);
	Bitmapset  *columns = NULL;

	for (int i = 1; i <= RelationGetNumberOfAttributes(rel); i++)
		columns = bms_add_member(columns, i - FirstLowInvalidHeapAttributeNumber);
	rte->rtekind = RTE_RELATION;
	rte->relid = RelationGetRelid(rel);
	rte->relkind = rel->rd_rel->relkind;
	rte->rellockmode = AccessShareLock;
#if PG_VERSION_NUM >= 160000
	{
		List	   *perminfos = NIL;

		addRTEPermissionInfo(&perminfos, rte);
		linitial_node(RTEPermissionInfo, perminfos)->updatedCols = columns;
#if PG_VERSION_NUM >= 180000
		ExecInitRangeTable(estate, list_make1(rte), perminfos, bms_make_singleton(1));
#else
		ExecInitRangeTable(estate, list_make1(rte), perminfos);
#endif
	}
#else
	rte->updatedCols = columns;
	ExecInitRangeTable(estate, list_make1(rte));
#endif
}

/* 16: resultRelations argument (70b42f2790) */
static inline void
compat_eval_plan_qual_init(EPQState *epq, EState *estate)
{
#if PG_VERSION_NUM >= 160000
	EvalPlanQualInit(epq, estate, NULL, NIL, -1, NIL);
#else
	EvalPlanQualInit(epq, estate, NULL, NIL, -1);
#endif
}

/* 18: where to count instrumentation (0fbceae841) */
#if PG_VERSION_NUM >= 180000
#define compat_index_beginscan(rel, index, snapshot, nkeys) \
	index_beginscan(rel, index, snapshot, NULL, nkeys, 0)
#else
#define compat_index_beginscan(rel, index, snapshot, nkeys) \
	index_beginscan(rel, index, snapshot, nkeys, 0)
#endif

/* 16: run_as_table_owner argument (1e10d49b65) */
#if PG_VERSION_NUM >= 160000
#define compat_truncate(rels, relids, logged, restart) \
	ExecuteTruncateGuts(rels, relids, logged, DROP_RESTRICT, restart, false)
#else
#define compat_truncate(rels, relids, logged, restart) \
	ExecuteTruncateGuts(rels, relids, logged, DROP_RESTRICT, restart)
#endif

/* 16: settings' extra data in memory of their own (407b50f2d4) */
#if PG_VERSION_NUM >= 160000
#define compat_guc_malloc(size) guc_malloc(LOG, size)
#else
#define compat_guc_malloc(size) malloc(size)
#endif

/* 18: ExecutorRun without execute_once (3eea7a0c97) */
#if PG_VERSION_NUM >= 180000
#define COMPAT_EXECUTE_ONCE_PARAM
#define COMPAT_EXECUTE_ONCE_ARG
#else
#define COMPAT_EXECUTE_ONCE_PARAM , bool execute_once
#define COMPAT_EXECUTE_ONCE_ARG , execute_once
#endif

#endif							/* PGQ_COMPAT_H */
