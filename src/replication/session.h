/*-------------------------------------------------------------------------
 *
 * session.h
 *		What the session side of the replication layer offers to module.c and
 *		to the apply side.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGQ_SESSION_H
#define PGQ_SESSION_H

#include "postgres.h"

#include "raft/raft.h"

/* settings.c */
typedef enum QuorumMixed
{
	QUORUM_MIXED_ERROR,
	QUORUM_MIXED_WARN,
	QUORUM_MIXED_ALLOW
} QuorumMixed;

typedef enum QuorumDdl
{
	QUORUM_DDL_OFF,
	QUORUM_DDL_REPLICATED,
	QUORUM_DDL_ALL
} QuorumDdl;

extern int	quorum_mixed_transactions;
extern int	quorum_replicate_ddl;
extern int	quorum_max_transaction_size_kb;
extern bool quorum_debug_apply_hold;

extern void session_define_settings(void);

/* hooks.c: executor, utility, object access and transaction hooks */
extern void session_install_hooks(void);

/* commit.c */
extern void commit_install(void);

/* The token of the current transaction, drawn on first use. */
extern RaftToken commit_token(void);

/* It repeats the one with this token, and has no effect. */
extern void commit_stands_for(RaftToken token);

/* True in the database that quorum.database names (cached). */
extern bool session_in_quorum_database(void);

#endif							/* PGQ_SESSION_H */
