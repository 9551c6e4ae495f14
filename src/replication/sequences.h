/*-------------------------------------------------------------------------
 *
 * sequences.h
 *		Sequences owned by replicated tables (serial and identity columns).
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGQ_SEQUENCES_H
#define PGQ_SEQUENCES_H

#include "postgres.h"

/*
 * On every member, in the transaction that makes the table replicated, or gives
 * a replicated table a new column: owned sequences hand out this member's
 * values only. ERROR 0A000 for sequences that cannot be shared out.
 */
extern void sequences_adopt(Oid relid);

/* The table is ordinary again: increment 1, past everything handed out. */
extern void sequences_release(Oid relid);

#endif							/* PGQ_SEQUENCES_H */
