/*-------------------------------------------------------------------------
 *
 * writeset_build.h
 *		Building the write set of this process's current transaction.
 *
 * Everything is private to the process. The caller brackets a record:
 *
 *	writeset_begin(cid); writeset_put_*(...); writeset_end();
 *
 * An error inside the bracket is harmless: it ends the (sub)transaction, which
 * drops whatever was written since its start.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGQ_WRITESET_BUILD_H
#define PGQ_WRITESET_BUILD_H

#include "postgres.h"

#include "node/node.h"

/* ---------- records ---------- */

extern void writeset_begin(CommandId cid);
extern void writeset_put_byte(uint8 value);
extern void writeset_put_varint(uint64 value);
extern void writeset_put_bytes(const void *data, Size len);
extern void writeset_put_string(const char *text);	/* varint length, bytes */
extern void writeset_end(void);

/*
 * In between, rows (rowcodec.h) go into a buffer of its own, and not into the
 * transaction's write set. The end of the (sub)transaction ends it, too.
 */
extern void writeset_divert(void);
extern const char *writeset_diverted(Size *len, uint32 *nrecords);
extern void writeset_divert_empty(void);
extern void writeset_divert_end(void);

/* ---------- keys ---------- */

/* What a key stands for, to name it when it conflicts. */
typedef enum KeyKind
{
	KEY_TABLE,
	KEY_ROW,
	KEY_IDENTITY,
	KEY_UNIQUE,
	KEY_CATALOG,
	KEY_FENCE					/* relid: number of the fence (lock_fence.c) */
} KeyKind;

/* Number of this transaction for (relation, index, kind); 0 when there are too many. */
extern uint32 writeset_origin(Oid relid, Oid indexid, KeyKind kind);
extern void writeset_add_key(uint64 key, bool exclusive, uint64 base, uint32 origin);

/* Counts transactions that built something here; caches compare with it. */
extern uint64 writeset_serial(void);

/* For what lives as long as the write set. */
extern MemoryContext writeset_context(void);

/* ---------- the transaction ---------- */

extern bool writeset_has_records(void);
extern bool writeset_has_keys(void);

/* Payload, in at most WRITESET_PARTS parts; lives until writeset_reset(). */
#define WRITESET_PARTS 2
extern int	writeset_seal(NodePart *parts);

/* What a key of the sealed set stands for; false: not ours. */
extern bool writeset_find_key(uint64 key, Oid *relid, Oid *indexid, KeyKind *kind);

/* When there is nothing to seal: rolled-back savepoints may have spilled. */
extern void writeset_close_file(void);

extern void writeset_reset(void);	/* end of the transaction */

/* Sub-transaction ends; called while it is still the current one. */
extern void writeset_subcommit(int nest_level);
extern void writeset_subabort(int nest_level);

#endif							/* PGQ_WRITESET_BUILD_H */
