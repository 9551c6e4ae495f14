/*-------------------------------------------------------------------------
 *
 * lamport.h
 *		Lamport clocks: the rules, and the named counters of this server.
 *
 * Lamport, "Time, Clocks, and the Ordering of Events in a Distributed System"
 * (1978): IR1, a process counts up between two events; IR2, on receipt of a
 * message it sets its clock past the message's stamp.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGQ_LAMPORT_H
#define PGQ_LAMPORT_H

#include "postgres.h"

#define LAMPORT_NAME_LEN		64	/* with the terminating zero */
#define LAMPORT_MAX_COUNTERS	1024

typedef struct LamportCounter
{
	char		name[LAMPORT_NAME_LEN];
	int64		value;
} LamportCounter;

/* max(own, seen) + 1; ERROR 22003 when that cannot be expressed. */
extern int64 lamport_after(int64 own, int64 seen);

/*
 * IR1 with seen = 0, IR2 with seen = the message's stamp, on a named counter
 * that is made if it is not there. Not transactional, durable. Throws.
 */
extern int64 lamport_counter_move(const char *name, int64 seen);

/* False when there is no such counter. */
extern bool lamport_counter_read(const char *name, int64 *value);
extern bool lamport_counter_drop(const char *name);

/* Copies up to LAMPORT_MAX_COUNTERS; how many. */
extern int	lamport_counter_list(LamportCounter *counters);

#endif							/* PGQ_LAMPORT_H */
