/*-------------------------------------------------------------------------
 *
 * harness.h
 *		Counting of passed and failed checks, and numbers from a seed.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEST_CLOCK_HARNESS_H
#define TEST_CLOCK_HARNESS_H

#include <stdbool.h>
#include <stdint.h>

/* One check; what says which one failed. Returns cond. */
extern bool check(bool cond, const char *what, ...) __attribute__((format(printf, 2, 3)));

/* splitmix64: the same numbers for the same seed everywhere. */
extern uint64_t next_random(uint64_t *seed);

/* 0 .. below - 1 */
extern uint64_t random_below(uint64_t *seed, uint64_t below);

extern void test_hlc(void);
extern void test_cluster(void);

#endif							/* TEST_CLOCK_HARNESS_H */
