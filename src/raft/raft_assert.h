/*-------------------------------------------------------------------------
 *
 * raft_assert.h
 *		Assertions of the consensus core.
 *
 * RAFT_ASSERT is for what the core itself guarantees, never for input from
 * disk or network, and is cheap enough to stay on in production: a core whose
 * state is broken must not vote or acknowledge. RAFT_ASSERT_SLOW is on where
 * RAFT_SLOW_CHECKS is defined (tests, simulator).
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGQ_RAFT_ASSERT_H
#define PGQ_RAFT_ASSERT_H

extern _Noreturn void raft_assert_failed(const char *file, int line, const char *expr);

#define RAFT_ASSERT(cond) \
	((cond) ? (void) 0 : raft_assert_failed(__FILE__, __LINE__, #cond))

#ifdef RAFT_SLOW_CHECKS
#define RAFT_ASSERT_SLOW(cond) RAFT_ASSERT(cond)
#else
#define RAFT_ASSERT_SLOW(cond) ((void) 0)
#endif

#endif							/* PGQ_RAFT_ASSERT_H */
