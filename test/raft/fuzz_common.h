/*-------------------------------------------------------------------------
 *
 * fuzz_common.h
 *		What the fuzz targets share. `target --write-seeds DIR` writes the seeds.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGQ_RAFT_FUZZ_COMMON_H
#define PGQ_RAFT_FUZZ_COMMON_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "raft/raft.h"

#define FUZZ_CHECK(condition) \
	do { \
		if (!(condition)) \
		{ \
			fprintf(stderr, "property violated at line %d: %s\n", __LINE__, #condition); \
			abort(); \
		} \
	} while (0)

extern int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
extern int	LLVMFuzzerInitialize(int *argc, char ***argv);

/* each target's own */
extern void write_seeds(const char *dir);

static inline void
fuzz_instance(uint32_t id, uint8_t *instance)
{
	memset(instance, 0, RAFT_INSTANCE_LEN);
	instance[0] = 0xa0;
	instance[1] = (uint8_t) id;
}

static inline void
fuzz_conf_of(uint32_t voters, RaftConf *conf)
{
	memset(conf, 0, sizeof(*conf));
	conf->next_id = voters + 1;
	conf->nmembers = voters;
	for (uint32_t i = 0; i < voters; i++)
	{
		conf->members[i].id = i + 1;
		conf->members[i].voter = true;
		snprintf(conf->members[i].name, RAFT_NAME_LEN, "node%u", i + 1);
		fuzz_instance(i + 1, conf->members[i].instance);
	}
}

/* Member 1 of this many, with three entries in its log. */
static inline Raft *
fuzz_core(uint32_t voters)
{
	static const RaftTermRun runs[] = {{1, 1}, {3, 2}};
	RaftConfig	config;
	RaftDisk	disk;
	Raft	   *r;

	raft_config_default(&config);
	config.id = 1;
	config.max_message_bytes = 64;
	config.max_inflight_messages = 2;
	config.lease_reads = true;
	config.max_apply_entries = 2;
	fuzz_instance(1, config.instance);
	memset(&disk, 0, sizeof(disk));
	disk.hard.term = 2;
	disk.hard.commit = 1;
	disk.first_index = 1;
	disk.last_index = 3;
	disk.runs = runs;
	disk.nruns = 2;
	fuzz_conf_of(voters, &disk.conf);
	FUZZ_CHECK(raft_create(&config, &disk, 1000000, 7, &r) == RAFT_OK);
	return r;
}

/* Take an output and throw away what is in it. */
static inline void
fuzz_take(Raft *r)
{
	RaftOutput	out;

	raft_take_output(r, &out);
	for (size_t i = 0; i < out.nmsgs; i++)
		raft_msg_free(&out.msgs[i]);
	for (size_t i = 0; i < out.nmsgs_after; i++)
		raft_msg_free(&out.msgs_after[i]);
	FUZZ_CHECK(raft_check_invariants(r) == NULL);
}

static inline void
write_seed(const char *dir, const char *name, const uint8_t *bytes, size_t len)
{
	char		path[1024];
	FILE	   *f;

	snprintf(path, sizeof(path), "%s/seed-%s", dir, name);
	f = fopen(path, "wb");
	if (f == NULL || fwrite(bytes, 1, len, f) != len || fclose(f) != 0)
	{
		fprintf(stderr, "could not write %s\n", path);
		exit(1);
	}
}

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	if (*argc == 3 && strcmp((*argv)[1], "--write-seeds") == 0)
	{
		write_seeds((*argv)[2]);
		exit(0);
	}
	return 0;
}

#endif							/* PGQ_RAFT_FUZZ_COMMON_H */
