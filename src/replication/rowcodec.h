/*-------------------------------------------------------------------------
 *
 * rowcodec.h
 *		Row changes as records of the write set (writeset.h), session side.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGQ_ROWCODEC_H
#define PGQ_ROWCODEC_H

#include "postgres.h"

#include "replication/keys.h"

extern void rowcodec_insert(RelPlan *plan, TupleTableSlot *row, CommandId cid);
extern void rowcodec_update(RelPlan *plan, TupleTableSlot *old_row, TupleTableSlot *new_row,
							bool identity_changed, CommandId cid);
extern void rowcodec_delete(RelPlan *plan, TupleTableSlot *row, CommandId cid);

#endif							/* PGQ_ROWCODEC_H */
