/*-------------------------------------------------------------------------
 *
 * lock_election.h
 *		Elections, as far as the apply worker has to do with them.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGQ_LOCK_ELECTION_H
#define PGQ_LOCK_ELECTION_H

#include "postgres.h"

/*
 * Tell who LISTENs on the election's channel that it has a leader, with this
 * token, or (0) has none any more. Inside a transaction.
 */
extern void election_notify(Datum name, uint64 token);

#endif							/* PGQ_LOCK_ELECTION_H */
