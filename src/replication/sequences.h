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

#include "executor/tuptable.h"

/*
 * On every member, in the transaction that makes the table replicated, or gives
 * a replicated table a new column: owned sequences hand out this member's
 * values only. ERROR 0A000 for sequences that cannot be shared out.
 */
extern void sequences_adopt(Oid relid);

/* In the session that makes a table replicated: a WARNING if it uses sequences of others. */
extern void sequences_warn_of_others(Oid relid);

/* The table is ordinary again: increment 1, past everything handed out. */
extern void sequences_release(Oid relid);

/*
 * A session has written this row of a replicated table: values of serial and
 * identity columns that were drawn for it are claimed in the log. Costs little
 * unless that is due; waits for the majority then.
 */
extern void sequences_row_written(Oid relid, uint32 table_id, TupleTableSlot *row);

#endif							/* PGQ_SEQUENCES_H */
