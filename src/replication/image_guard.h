/*-------------------------------------------------------------------------
 *
 * image_guard.h
 *		Tables that a server is loading because it joins, and everybody else's
 *		statements (image_guard.c).
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGQ_IMAGE_GUARD_H
#define PGQ_IMAGE_GUARD_H

#include "nodes/plannodes.h"
#include "nodes/primnodes.h"

/* Is the table being loaded? */
extern bool image_guard_stands(Oid relid);

/* 55000 if so: around ExecutorStart, before COPY, a schema statement, a scan of ours. */
extern void image_guard_check_query(const PlannedStmt *plan, int eflags);
extern void image_guard_check_copy(const RangeVar *name);
extern void image_guard_check_schema(Oid relid);
extern void image_guard_check_read(Oid relid);

#endif							/* PGQ_IMAGE_GUARD_H */
