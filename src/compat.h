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

#include "access/xact.h"
#include "replication/origin.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "storage/sinval.h"
#if PG_VERSION_NUM >= 180000
#include "storage/waiteventset.h"
#endif
#include "utils/memutils.h"

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

#endif							/* PGQ_COMPAT_H */
