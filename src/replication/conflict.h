/*-------------------------------------------------------------------------
 *
 * conflict.h
 *		Between conflict.c (who dooms whom) and conflict_hooks.c (what the doomed
 *		session says), and the apply worker.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGQ_CONFLICT_H
#define PGQ_CONFLICT_H

#include "postgres.h"

/* No relation has this OID; it reaches everybody's callback, and means us. */
#define CONFLICT_INVAL_RELID	((Oid) 1)

#define CONFLICT_MESSAGE "transaction was aborted in favour of one that was ordered before it in the cluster"
#define CONFLICT_DETAIL "It held a lock on table \"%s\" that log entry " UINT64_FORMAT " needs here."
#define CONFLICT_HINT "The transaction might succeed if retried."

/* A cancel or terminate that this process gets now was sent by us. */
extern bool conflict_cancelled_us(void);

/* The entry in whose favour this process was doomed. */
extern uint64 conflict_winner(void);

/* The table that the apply worker is busy with; racy. */
extern const char *conflict_table(void);
extern void conflict_note_table(const char *name);

/* How many statements of this session are running inside each other. */
extern int	conflict_statement_depth(void);

extern _Noreturn void conflict_raise(uint64 index, const char *table);

#endif							/* PGQ_CONFLICT_H */
