/*-------------------------------------------------------------------------
 *
 * logentry.h
 *		Entries of the log that are statements of ours, outside of any
 *		transaction: what an administrator's call makes all members do.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGQ_LOGENTRY_H
#define PGQ_LOGENTRY_H

#include "postgres.h"

/*
 * Put one statement into the log. Each member's apply worker runs it, this one's
 * too, as superuser, at the entry's place; it must call a function that is
 * refused elsewhere (logentry_require_applying), and must not fail for reasons
 * that a member may have of its own. alone: everything before it is committed
 * and visible when it runs. Returns its index; it is not applied here yet.
 * ERROR when it is not in the log, or not known to be.
 */
extern uint64 logentry_submit(const char *statement, bool alone);

/*
 * The same, alone, with an exclusive key that is never refused: transactions
 * that have used the key before it are, if they come after it.
 */
extern uint64 logentry_submit_key(const char *statement, uint64 key);

/* For the functions that such statements call: ERROR outside the apply worker. */
extern void logentry_require_applying(const char *function);

/* In the apply worker: the entry that is being applied, if it stands alone. */
extern uint64 logentry_current_index(void);

#endif							/* PGQ_LOGENTRY_H */
