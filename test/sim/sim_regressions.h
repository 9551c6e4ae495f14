/*-------------------------------------------------------------------------
 *
 * sim_regressions.h
 *		Seeds that once failed, with the name of what they found.
 *
 * A seed leads to the same run only as long as nothing is drawn differently;
 * where a bug has a deterministic test of its own in test/raft or test/storage,
 * that is the lasting one.
 *
 *-------------------------------------------------------------------------
 */
#ifndef SIM_REGRESSIONS_H
#define SIM_REGRESSIONS_H

#include <stdint.h>

static const struct
{
	const char *name;
	uint64_t	seed;
	uint64_t	steps;
}			sim_regressions[] = {
	{"first seed", 1, 0},
};

#endif							/* SIM_REGRESSIONS_H */
