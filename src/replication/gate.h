/*-------------------------------------------------------------------------
 *
 * gate.h
 *		Gates: a schema statement closes its tables to writers everywhere
 *		before it runs, so that it need not win against them (gate.c).
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGQ_GATE_H
#define PGQ_GATE_H

#include "postgres.h"

#include "nodes/pg_list.h"

#include "raft/raft.h"
#include "replication/writeset.h"

extern int	quorum_ddl_gate_timeout_ms;

extern Size gate_shmem_size(void);
extern void gate_shmem_init(void);

/* ---------- sessions (gate.c) ---------- */

/*
 * Before a statement that takes the exclusive keys of these tables, and before
 * it takes locks: nobody else writes them until this transaction ends. Ordinary
 * tables among them are left out, and so are those that the transaction has
 * written or locked already. May wait, may throw.
 */
extern void gate_close(List *relids);

/* This transaction has keys of the table that a gate of its own would refuse. */
extern void gate_forgo(uint32 table_id);

/* The transaction is over; committed with an entry in the log, or otherwise. */
extern void gate_transaction_end(bool in_log);

/* ---------- the apply worker (gate_apply.c) ---------- */

/* A 'G' record; inside the transaction. */
extern void gate_apply_record(const WsRecord *rec);

/* An entry with this token was applied: its gates end with the commit. */
extern void gate_entry_applied(RaftToken token);

/* At the start of a transaction; after its commit; after its abort. */
extern void gate_begin(void);
extern void gate_committed(void);
extern void gate_aborted(void);

/* The process ends, perhaps outside a transaction: its locks must not outlive it. */
extern void gate_exit(void);

/* Outside a transaction: what is due. Returns when to call again, in ms. */
extern long gate_work(void);

#endif							/* PGQ_GATE_H */
