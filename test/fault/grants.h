/*-------------------------------------------------------------------------
 *
 * grants.h
 *		Who surely held what, and when, as far as a history tells.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEST_FAULT_GRANTS_H
#define TEST_FAULT_GRANTS_H

#include "history.h"

typedef struct Grant
{
	int64_t		key;
	int64_t		token;
	char		mode;			/* x exclusive, s shared, p permits */
	int64_t		lease;			/* number; -1: a session's */
	int64_t		permits;
	int64_t		size;			/* of the semaphore */
	const Txn  *acquired;
	int64_t		from_us;		/* surely held from here */
	int64_t		to_us;			/* to here; from_us: not known to have been */
	int64_t		promised_us;	/* the server's word: not lost before */
	int64_t		stop_us;		/* when its owner first tried to give it back */
} Grant;

typedef struct Grants
{
	int			count;
	Grant	   *grants;			/* by key, then from_us */
	Map		   *by_token;		/* (key, token) -> index */
	Map		   *unknown;		/* (key, 0): somebody may have got it unknown to the history */
} Grants;

extern Grants *grants_build(const History *h);
extern bool grants_conflict(const Grant *a, const Grant *b);

/* NULL: nobody is known to have got it. */
extern const Grant *grants_find(const Grants *g, int64_t key, int64_t token);

/* Token order, holders at one time, permits, promises. */
extern void grants_judge(const History *h, const Grants *g);

#endif							/* TEST_FAULT_GRANTS_H */
