/*-------------------------------------------------------------------------
 *
 * image_stale.h
 *		Snapshots from before the tables were replaced by an image.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGQ_IMAGE_STALE_H
#define PGQ_IMAGE_STALE_H

#include "nodes/plannodes.h"
#include "utils/snapshot.h"

/* The apply worker's transaction is about to exchange tables. */
extern void image_note_replacing(void);

/* 40001 when a replicated table of the plan would look empty to the snapshot. */
extern void image_check_query(const PlannedStmt *plan, Snapshot snapshot);

/* The same for a utility statement that has locked, or read, its tables. */
extern void image_check_snapshot(void);

#endif							/* PGQ_IMAGE_STALE_H */
