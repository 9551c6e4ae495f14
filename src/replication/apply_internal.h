/*-------------------------------------------------------------------------
 *
 * apply_internal.h
 *		What the files of the apply side share among themselves.
 *
 *	apply.c			the worker: start-up, the loop, errors, shutdown
 *	apply_rows.c	row changes through the executor
 *	apply_map.c		relation cache, tuples from the log's form
 *	apply_ddl.c		TRUNCATE and statements
 *	ordercommit.c	the commit of an entry, here and in sessions
 *	conflict.c		sessions that stand in the applier's way
 *	conflict_hooks.c	what they tell their clients
 *	sequences.c		sequences of replicated tables: their values
 *	sequences_gate.c	and when they are put right
 *	ops.c			what the Raft worker calls
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGQ_APPLY_INTERNAL_H
#define PGQ_APPLY_INTERNAL_H

#include "postgres.h"

#include "access/attmap.h"
#include "access/tupconvert.h"
#include "nodes/execnodes.h"
#include "port/atomics.h"
#include "storage/condition_variable.h"
#include "storage/lock.h"
#include "utils/rel.h"

#include "replication/replication.h"
#include "replication/writeset.h"

/* ---------- shared memory (apply.c) ---------- */

/*
 * Made zero at the server's start, crash restarts included. Written by the
 * apply worker, but for barrier_index, which sessions that wait for the gate
 * set, once, and gate_done, which they set too (sequences_gate.c); all of it
 * atomic, no lock.
 */
#define APPLY_GATE_TABLES 65536 /* table numbers above are checked every time until the gate is open */

typedef struct ApplyShared
{
	pg_atomic_uint32 announced; /* node_apply_ready() was called in this life */
	pg_atomic_uint32 failed_starts; /* in a row; paces the next one */
	bool		crashed;		/* the server's start was not after a clean shutdown; never changes */
	pg_atomic_uint32 gate_open; /* owned sequences are past every replayed key */
	pg_atomic_uint32 barrier_passed;
	pg_atomic_uint64 barrier_index; /* the gate may be opened once this is applied */
	pg_atomic_uint32 gate_done[APPLY_GATE_TABLES / 32]; /* a bit a table number */
	ConditionVariable gate_cv;
} ApplyShared;

extern ApplyShared *apply_shared;

extern Size apply_shmem_size(void);
extern void apply_shmem_init(void);

/* The caller is in a PG_CATCH block; everything of the transaction is gone. */
extern ErrorData *apply_clean_up_after_error(void);
extern void apply_pause_ms(int64 duration_ms);

/* ---------- ordercommit.c ---------- */

extern void ordercommit_install(void);

/* The origin's id; InvalidRepOriginId when there is none. Needs a transaction. */
extern RepOriginId ordercommit_origin(void);

/* ---------- conflict.c ---------- */

extern Size conflict_shmem_size(void);
extern void conflict_shmem_init(void);
extern void conflict_install(void);

/* NodeOps.apply_watch */
extern void conflict_apply_watch(int apply_pid, uint64 index, int64 busy_us);

/* ---------- sequences_gate.c ---------- */

extern void sequences_install(void);

/*
 * In the apply worker, outside a transaction: the barrier is applied; put
 * sequences right, false when some have to wait. May throw.
 */
extern bool sequences_gate_due(void);
extern bool sequences_open_gate(void);

/* ---------- apply_rows.c ---------- */

/*
 * Bracket of one PostgreSQL transaction of the apply worker. Relations stay
 * open in between; apply_rows_end() closes all of them (before a statement
 * that may change them, and before the commit). An abort needs no call but
 * apply_rows_forget().
 */
extern void apply_rows_record(WsRecord *rec);
extern void apply_rows_end(void);
extern void apply_rows_forget(void);

/* ---------- apply_ddl.c ---------- */

extern void apply_truncate(WsRecord *rec, uint64 index);
extern void apply_statement(WsRecord *rec);

#endif							/* PGQ_APPLY_INTERNAL_H */
