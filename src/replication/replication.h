/*-------------------------------------------------------------------------
 *
 * replication.h
 *		Public face of the replication layer towards pg_quorum.c.
 *
 * Session side (capture, keys, write set, commit), apply side (apply worker,
 * brute-force abort), table designation, sequences, DDL. Each file's header
 * says what it shares with whom.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGQ_REPLICATION_H
#define PGQ_REPLICATION_H

#include "postgres.h"

#include "raft/raft.h"
#include "utils/snapshot.h"

/* called by pg_quorum.c */
extern void replication_define_settings(void);
extern Size replication_shmem_size(void);
extern void replication_shmem_init(void);
extern void replication_install_hooks(void);	/* xact callbacks, executor and utility hooks */
extern void replication_install_ops(void);	/* NodeOps: certification, apply_watch */

/* the apply worker's entry point */
extern PGDLLEXPORT void replication_apply_main(Datum arg);

/* ---------- between the session side and the apply side ---------- */

/* True in the apply worker while it applies: capture does nothing. */
extern bool replication_is_applying(void);

/* This process fills tables with what is in the log already (copy workers). */
extern void replication_become_applier(void);

/*
 * True in the apply worker while it applies an entry that a session of this very
 * member proposed: the session failed after the decision, or a crash has taken
 * its commit back.
 */
extern bool replication_is_own_entry(void);

/* Name of the replication origin that carries the applied index. */
#define REPLICATION_ORIGIN_NAME "pg_quorum"

/*
 * The local commit of log entry `index` in the current transaction (used by
 * sessions in PRE_COMMIT and by the apply worker): origin setup with the guard
 * of feasibility.md A.1, async commit, restored at COMMIT or ABORT.
 * ordercommit.c; its transaction callback calls node_turn_done/abandon.
 */
extern void ordercommit_arm(uint64 index, TimestampTz stamp);

/*
 * The entry at which this snapshot stands: it shows every entry up to there and
 * none above (image_snapshot.c). Any MVCC snapshot that was taken in this life of
 * the server; ERROR 40001 for one so old that it cannot be told any more.
 */
extern uint64 replication_snapshot_index(Snapshot snapshot);

/*
 * Doom (conflict.c): has the apply worker decided that this session's current
 * transaction must go? Sessions poll it where they wait and in PRE_COMMIT.
 */
extern bool conflict_is_doomed(void);
extern _Noreturn void conflict_report_doomed(void);	/* ereport 40001 */

#endif							/* PGQ_REPLICATION_H */
