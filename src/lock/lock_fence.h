/*-------------------------------------------------------------------------
 *
 * lock_fence.h
 *		What commit.c has to know of the fences that the current transaction has
 *		checked (lock_fence.c).
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGQ_LOCK_FENCE_H
#define PGQ_LOCK_FENCE_H

#include "postgres.h"

/* Has it checked any? Then it is proposed even if it has changed nothing. */
extern bool lock_fence_used(void);

/*
 * A key of kind KEY_FENCE was refused: number is its origin's relid, winner the
 * entry that came first. Q0001.
 */
extern _Noreturn void lock_fence_report_refused(uint32 number, uint64 winner);

#endif							/* PGQ_LOCK_FENCE_H */
