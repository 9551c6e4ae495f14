/*-------------------------------------------------------------------------
 *
 * sim_rand.h
 *		The simulator's one source of chance, and its running hash.
 *
 * xoshiro256** seeded by splitmix64. Everything that is not decided by the
 * code under test is drawn from one SimRand, so the seed decides the run.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SIM_RAND_H
#define SIM_RAND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SIM_PPM 1000000

typedef struct SimRand
{
	uint64_t	s[4];
} SimRand;

extern void sim_rand_seed(SimRand *rand, uint64_t seed);
extern uint64_t sim_rand_next(SimRand *rand);

/* uniform in [0, n); n > 0 */
extern uint64_t sim_below(SimRand *rand, uint64_t n);

/* uniform in [low, high], both included */
extern uint64_t sim_between(SimRand *rand, uint64_t low, uint64_t high);

/* true with a probability of ppm millionths */
extern bool sim_chance(SimRand *rand, uint32_t ppm);

/* one more value, or bytes, into a running 64-bit hash */
extern uint64_t sim_mix(uint64_t hash, uint64_t value);
extern uint64_t sim_mix_bytes(uint64_t hash, const void *data, size_t len);

#endif							/* SIM_RAND_H */
