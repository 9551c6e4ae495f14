/*-------------------------------------------------------------------------
 *
 * keys.h
 *		What a session has to know of a relation to capture its rows: its
 *		number, the columns to send, the keys of a row. Cached per process.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGQ_KEYS_H
#define PGQ_KEYS_H

#include "postgres.h"

#include "access/attnum.h"
#include "executor/tuptable.h"
#include "fmgr.h"
#include "nodes/bitmapset.h"
#include "nodes/execnodes.h"
#include "nodes/lockoptions.h"
#include "utils/rel.h"

typedef enum RelKind
{
	REL_FREE,					/* temporary, unlogged, catalogs, ours, no storage */
	REL_ORDINARY,				/* permanent and not replicated */
	REL_REPLICATED
} RelKind;

/* How values of a type are hashed so that equal ones get equal hashes everywhere. */
typedef enum HashMethod
{
	HASH_NONE,					/* not at all */
	HASH_EXTENDED,				/* the type's 64-bit function */
	HASH_PLAIN,					/* its 32-bit one */
	HASH_TEXT					/* the text form: types whose value is an OID */
} HashMethod;

typedef struct KeyColumn
{
	AttrNumber	attnum;			/* of the relation; 0 for an expression */
	HashMethod	method;
	Oid			collation;
	FmgrInfo	function;		/* hash, or output for HASH_TEXT */
} KeyColumn;

/* A further unique index or an exclusion constraint. */
typedef struct UniqueKey
{
	Oid			indexid;
	uint64		seed;			/* names the table and the index on all members */
	bool		whole;			/* no hash, or exclusion: one key for the index */
	bool		nulls_distinct;
	bool		computed;		/* has expressions or a predicate */
	int			ncolumns;
	KeyColumn  *columns;
	int			nattnums;		/* columns that matter to it, in any way */
	AttrNumber *attnums;
	IndexInfo  *info;			/* computed only; per transaction */
} UniqueKey;

typedef struct SendColumn
{
	AttrNumber	attnum;			/* of the relation, in the root's order */
	bool		binary;
	bool		is_key;
	bool		generated;		/* computed anew by the reader */
	int16		typlen;
	bool		typbyval;
	FmgrInfo	output;			/* text form */
} SendColumn;

typedef struct RelPlan
{
	Oid			relid;			/* hash key */
	bool		valid;
	RelKind		kind;

	/* the rest is for REL_REPLICATED only */
	MemoryContext context;
	uint32		table_id;
	char	   *problem;		/* why it cannot be written, or NULL */
	int			natts;
	SendColumn *send;
	bool		text_columns;	/* some are sent in text form */
	bool		named_objects;	/* some of these are names of catalog objects */
	uint64		table_key;
	uint64		row_seed;
	uint64		identity_seed;
	bool		coarse;			/* identity cannot be hashed: exclusive table key */
	Oid			identity_index;
	int			nidentity;
	KeyColumn  *identity;
	int			nkey_attnums;	/* columns whose update takes the strongest row lock */
	AttrNumber *key_attnums;
	int			nuniques;
	UniqueKey  *uniques;

	/* per transaction (writeset_serial) */
	uint64		serial;
	uint32		table_origin;
	uint32		row_origin;
	uint32		identity_origin;
	uint32	   *unique_origins;
	EState	   *estate;			/* for expressions and predicates */
} RelPlan;

/* Never NULL. The relation must be open with some lock. */
extern RelPlan *keys_plan(Relation rel);

/*
 * The same by OID; opens the relation only where nothing is cached. The
 * relation is locked by the caller, or for the moment.
 */
extern RelKind keys_rel_kind(Oid relid);
extern RelKind keys_rel_kind_locking(Oid relid);

/*
 * For encoding rows of a table that is not replicated yet: as if it were, under
 * number 0. Not cached; forget it.
 */
extern RelPlan *keys_plan_of_new(Relation rel);
extern void keys_forget_plan_of_new(RelPlan *plan);

extern void keys_add_table(RelPlan *plan, bool exclusive, uint64 base);
extern void keys_add_lock(RelPlan *plan, TupleTableSlot *slot, LockTupleMode mode, uint64 base);
extern void keys_add_insert(RelPlan *plan, TupleTableSlot *row, uint64 base);
extern void keys_add_delete(RelPlan *plan, TupleTableSlot *row, uint64 base);

/* True when a column of the identity changed, bit by bit. */
extern bool keys_add_update(RelPlan *plan, TupleTableSlot *old_row,
							TupleTableSlot *new_row, uint64 base);

/* The exclusive key of "which tables are replicated", and of other schema. */
extern void keys_add_catalog(void);

/* Exclusive table key by number, for what is being added or dropped. */
extern void keys_add_table_id(uint32 table_id, Oid relid);

/* Of a statement that leaves rows alone: others of its kind stay out, writers do not. */
extern void keys_add_table_light(uint32 table_id, Oid relid);

extern void keys_install(void);

#endif							/* PGQ_KEYS_H */
