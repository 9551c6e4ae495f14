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
	{"an idle single voter has its quorum", 18, 0},
	{"records of a process that crashed before its sync are made durable", 26, 0},
	{"what a failed sync left in the page cache is written again", 25, 0},
	{"a cut record is not read where a write was lost", 402149, 0},
	{"a wiped member does not lead while its removal is uncommitted", 1406, 0},
};

#endif							/* SIM_REGRESSIONS_H */
