/*-------------------------------------------------------------------------
 *
 * quorum.h
 *		Arithmetic of majorities, plain and joint. No state, no side effects.
 *
 * A joint configuration agrees where both halves agree (Ongaro 4.3). An empty
 * half agrees to everything, so a plain configuration is the special case of an
 * empty outgoing half.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGQ_RAFT_QUORUM_H
#define PGQ_RAFT_QUORUM_H

#include "raft/raft.h"

typedef enum RaftVerdict
{
	RAFT_VOTE_PENDING = 0,
	RAFT_VOTE_WON,
	RAFT_VOTE_LOST
} RaftVerdict;

/* What is known of one member: its match index, last contact, read round. */
typedef uint64_t (*RaftValueFn) (const void *arg, uint32_t id);
/* 1: granted, 0: rejected, -1: not heard. */
typedef int (*RaftBallotFn) (const void *arg, uint32_t id);

/* Largest value that a majority of v[0..n-1] reaches. Reorders v. */
extern uint64_t raft_majority_value(uint64_t *v, size_t n);
extern RaftVerdict raft_majority_vote(size_t n, size_t yes, size_t no);

/* The same for a configuration: what both halves reach, decide. */
extern uint64_t raft_quorum_value(const RaftConf *conf, RaftValueFn value, const void *arg);
extern RaftVerdict raft_quorum_vote(const RaftConf *conf, RaftBallotFn ballot, const void *arg);

#endif							/* PGQ_RAFT_QUORUM_H */
