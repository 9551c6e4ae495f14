/*-------------------------------------------------------------------------
 *
 * apply_map.h
 *		The relations that the apply worker has open in its transaction, and
 *		rows between the log's form and theirs.
 *
 * Private to the apply worker, valid within one transaction.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGQ_APPLY_MAP_H
#define PGQ_APPLY_MAP_H

#include "postgres.h"

#include "access/tupconvert.h"
#include "executor/execPartition.h"
#include "executor/executor.h"
#include "nodes/execnodes.h"
#include "utils/rel.h"

#include "replication/writeset.h"

typedef struct ApplyColumn
{
	AttrNumber	attnum;
	int16		typlen;
	bool		typbyval;
	bool		generated;
	bool		is_key;			/* part of the row's identity */
	Oid			type;
	int32		typmod;
	Oid			ioparam;
	FmgrInfo	input;			/* fn_oid invalid until needed */
} ApplyColumn;

typedef struct ApplyRel
{
	Oid			relid;
	uint32		table_id;		/* 0 for a partition: reached by its root */
	Relation	rel;
	EState	   *estate;
	ResultRelInfo *info;
	EPQState	epq;
	Oid			identity;		/* index by which rows are found */

	int			ncolumns;		/* live ones */
	ApplyColumn *columns;

	TupleTableSlot *new_slot;	/* virtual */
	TupleTableSlot *key_slot;	/* virtual */
	TupleTableSlot *found_slot; /* of the table's kind; NULL when partitioned */

	/* of a partitioned table */
	ModifyTableState *mtstate;
	PartitionTupleRouting *routing;

	/* of a partition; NULL where both have one layout */
	struct ApplyRel *root;
	TupleConversionMap *from_root;
	TupleConversionMap *to_root;
} ApplyRel;

/* By the log's number; ERROR when it is not here. */
extern ApplyRel *apply_map_table(uint32 table_id);

/* The partition where a row of the root's layout belongs. */
extern ApplyRel *apply_map_partition(ApplyRel *root, TupleTableSlot *row);

/* Close all; the locks stay until the transaction ends. */
extern void apply_map_close(void);

/* After an abort, which has closed and freed everything. */
extern void apply_map_forget(void);

/*
 * The row as the log has it. Columns that were not sent are copied from `old`
 * (same layout), or left NULL when old is NULL.
 */
extern void apply_map_row(ApplyRel *rel, const WsTuple *tuple, TupleTableSlot *slot,
						  TupleTableSlot *old);

/* Identity columns only; ERROR when one is missing or NULL. */
extern void apply_map_key(ApplyRel *rel, const WsTuple *tuple, TupleTableSlot *slot);

/* "(a, b) = (1, x)", for messages. */
extern char *apply_map_describe_key(ApplyRel *rel, TupleTableSlot *slot);

/*
 * apply_find.c: the row of rel whose columns of the index are those of key, locked,
 * in row. One look with a dirty snapshot; false: it was not seen.
 */
extern bool apply_find_row(Relation rel, Oid indexid, LockTupleMode mode,
						   TupleTableSlot *key, TupleTableSlot *row);

#endif							/* PGQ_APPLY_MAP_H */
