/*-------------------------------------------------------------------------
 *
 * disk_env.h
 *		An RlogEnv over the simulator's disk that can die at any effect.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DISK_ENV_H
#define DISK_ENV_H

#include "sim_disk.h"
#include "storage/rlog.h"

typedef struct DiskEnv
{
	SimDisk		disk;
	SimRand		rand;
	RlogEnv		env;
	int64_t		die_after;		/* effects left; < 0: for ever */
	bool		dead;			/* nothing reaches the disk any more */
	uint64_t	effects;
	uint64_t	syncs;
} DiskEnv;

extern DiskEnv *disk_env_new(uint64_t seed);
extern void disk_env_free(DiskEnv *de);

/* The process is gone; keep_cache: the machine goes on. */
extern void disk_env_crash(DiskEnv *de, bool keep_cache);

#endif							/* DISK_ENV_H */
