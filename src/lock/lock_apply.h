/*-------------------------------------------------------------------------
 *
 * lock_apply.h
 *		Lock entries in the apply worker.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGQ_LOCK_APPLY_H
#define PGQ_LOCK_APPLY_H

#include "postgres.h"

#include "raft/raft.h"

/*
 * Outside a transaction: hand what the tables say at applied_index to the Raft
 * worker; before node_apply_ready(), and when it asks again. May throw.
 */
extern void lock_apply_hand_over(uint64 applied_index);

/* Inside the transaction of a batch. May throw; then lock_apply_forget(). */
extern void lock_apply_entry(uint64 index, RaftToken token, RaftStamp stamp,
							 const void *data, Size len);

/* The transaction was undone, or other hands have changed the tables. */
extern void lock_apply_forget(void);

#endif							/* PGQ_LOCK_APPLY_H */
