/*-------------------------------------------------------------------------
 *
 * sim_rand.c
 *		Random numbers (xoshiro256**, Blackman and Vigna) and the run's hash.
 *
 *-------------------------------------------------------------------------
 */
#include "sim_rand.h"

#include <string.h>

static uint64_t
splitmix(uint64_t *state)
{
	uint64_t	z = (*state += UINT64_C(0x9e3779b97f4a7c15));

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

static uint64_t
rotate_left(uint64_t x, int k)
{
	return (x << k) | (x >> (64 - k));
}

void
sim_rand_seed(SimRand *rand, uint64_t seed)
{
	for (int i = 0; i < 4; i++)
		rand->s[i] = splitmix(&seed);
}

uint64_t
sim_rand_next(SimRand *rand)
{
	uint64_t   *s = rand->s;
	uint64_t	result = rotate_left(s[1] * 5, 7) * 9;
	uint64_t	t = s[1] << 17;

	s[2] ^= s[0];
	s[3] ^= s[1];
	s[1] ^= s[2];
	s[0] ^= s[3];
	s[2] ^= t;
	s[3] = rotate_left(s[3], 45);
	return result;
}

uint64_t
sim_below(SimRand *rand, uint64_t n)
{
	/* the bias of a plain modulo is of no consequence here */
	return n <= 1 ? 0 : sim_rand_next(rand) % n;
}

uint64_t
sim_between(SimRand *rand, uint64_t low, uint64_t high)
{
	return high <= low ? low : low + sim_below(rand, high - low + 1);
}

bool
sim_chance(SimRand *rand, uint32_t ppm)
{
	return ppm > 0 && sim_below(rand, SIM_PPM) < ppm;
}

uint64_t
sim_mix(uint64_t hash, uint64_t value)
{
	hash ^= value + UINT64_C(0x9e3779b97f4a7c15) + (hash << 6) + (hash >> 2);
	hash *= UINT64_C(0xff51afd7ed558ccd);
	return hash ^ (hash >> 32);
}

uint64_t
sim_mix_bytes(uint64_t hash, const void *data, size_t len)
{
	const uint8_t *p = data;
	uint64_t	word;

	hash = sim_mix(hash, len);
	for (; len >= sizeof(word); len -= sizeof(word), p += sizeof(word))
	{
		memcpy(&word, p, sizeof(word));
		hash = sim_mix(hash, word);
	}
	if (len > 0)
	{
		word = 0;
		memcpy(&word, p, len);
		hash = sim_mix(hash, word);
	}
	return hash;
}
