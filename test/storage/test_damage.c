/*-------------------------------------------------------------------------
 *
 * test_damage.c
 *		Damage to what was acknowledged is never silently accepted nor silently
 *		dropped (P-32); what can be salvaged is, and is not trusted until a
 *		leader has given it back.
 *
 *-------------------------------------------------------------------------
 */
#include "harness.h"

#define LAST 40

static void
build(DiskEnv *de)
{
	Rlog	   *log;

	make_log(de);
	log = open_log(de);
	rlog_set_hard_state(log, 3, 2, 0, true);
	for (uint64_t i = 1; i <= LAST; i++)
	{
		append(log, i, 3, (uint32_t) (i * 37 % 400));
		if (i % 3 == 0)
			round_of_io(log);
	}
	while (round_of_io(log) == RLOG_OK)
		;
	rlog_close(log);
}

static SimInode *
file_named(DiskEnv *de, const char *name)
{
	for (int i = 0; i < de->disk.current.count; i++)
		if (strcmp(de->disk.current.names[i].name, name) == 0)
			return de->disk.current.names[i].inode;
	return NULL;
}

static bool
is_whole(DiskEnv *de, uint64_t first, uint64_t last)
{
	RlogReader *reader = open_reader(de);
	RlogRecord	rec;
	bool		good = true;

	for (uint64_t i = first; i <= last && good; i++)
		good = rlog_reader_get(reader, i, last, &rec, last_error) == RLOG_OK &&
			is_record(&rec, i, 3, (uint32_t) (i * 37 % 400));
	rlog_reader_close(reader);
	return good;
}

/* Open it, salvage if need be; every outcome must be an honest one. */
static void
check_damaged(DiskEnv *de, const char *file, size_t offset)
{
	Rlog	   *log;
	uint64_t	damaged = 0;
	uint64_t	last;
	RlogStatus	status = try_open(de, &log);
	RlogOptions options = {.segment_bytes = SEGMENT};

	if (status == RLOG_OK)
	{
		/* then nothing was lost */
		if (rlog_last_index(log) != LAST || !is_whole(de, 1, LAST))
		{
			printf("  byte %zu of %s: silently lost from %lu on\n", offset, file,
				   (unsigned long) rlog_last_index(log) + 1);
			CHECK(false);
		}
		rlog_close(log);
		return;
	}
	CHECK_EQ(status, RLOG_DAMAGED);
	CHECK(strstr(last_error, "damaged") != NULL);
	status = rlog_salvage(&de->env, DIR_NAME, &options, &log, &damaged, last_notice, last_error);
	CHECK_EQ(status, RLOG_OK);
	if (status != RLOG_OK)
		return;
	last = rlog_last_index(log);
	CHECK_EQ(damaged, last + 1);
	CHECK(is_whole(de, 1, last));
	CHECK(rlog_distrusted_until(log) >= damaged && rlog_distrusted_until(log) <= LAST);
	damaged = rlog_distrusted_until(log);
	rlog_close(log);
	/* it stays distrusted, and what was lost can be appended again */
	log = open_log(de);
	CHECK_EQ(rlog_distrusted_until(log), damaged);
	CHECK_EQ(rlog_last_index(log), last);
	for (uint64_t i = last + 1; i <= LAST; i++)
		append(log, i, 3, (uint32_t) (i * 37 % 400));
	CHECK_EQ(rlog_trust(log), RLOG_OK);
	CHECK_EQ(round_of_io(log), RLOG_OK);
	rlog_close(log);
	log = open_log(de);
	CHECK_EQ(rlog_distrusted_until(log), 0);
	CHECK(is_whole(de, 1, LAST));
	rlog_close(log);
}

static void
flip(DiskEnv *de, const char *name, size_t offset, uint8_t bits)
{
	SimInode   *inode = file_named(de, name);

	inode->current[offset] ^= bits;
	if (offset < inode->durable_size)
		inode->durable[offset] ^= bits;
}

static void
P32_every_byte_of_the_segments(void)
{
	DiskEnv    *sample = disk_env_new(21);
	char		names[16][64];
	size_t		sizes[16];
	int			n = 0;

	build(sample);
	for (int i = 0; i < sample->disk.current.count && n < 16; i++)
	{
		if (strncmp(sample->disk.current.names[i].name, "log/log-", 8) != 0)
			continue;
		snprintf(names[n], sizeof(names[n]), "%s", sample->disk.current.names[i].name);
		sizes[n++] = sample->disk.current.names[i].inode->size;
	}
	disk_env_free(sample);
	CHECK(n > 2);
	for (int f = 0; f < n && checks_failed == 0; f++)
	{
		for (size_t at = 0; at < sizes[f] && checks_failed == 0; at += at < 400 ? 1 : 7)
		{
			DiskEnv    *de = disk_env_new(21);

			build(de);
			flip(de, names[f], at, 0x10);
			check_damaged(de, names[f], at);
			disk_env_free(de);
		}
	}
}

/* A sector that cannot be read, or a record written to the wrong place. */
static void
P32_sectors_gone(void)
{
	for (size_t at = 0; at < SEGMENT && checks_failed == 0; at += 512)
	{
		DiskEnv    *de = disk_env_new(22);
		SimInode   *inode;

		build(de);
		inode = file_named(de, "log/log-0000000000000002");
		CHECK(inode != NULL);
		memset(inode->current + at, 0, 512);
		memset(inode->durable + at, 0, 512);
		check_damaged(de, "log/log-0000000000000002", at);
		disk_env_free(de);
	}
}

static void
misdirected_write(void)
{
	for (uint64_t seed = 1; seed <= 40 && checks_failed == 0; seed++)
	{
		DiskEnv    *de = disk_env_new(seed);
		Rlog	   *log;

		make_log(de);
		log = open_log(de);
		rlog_set_hard_state(log, 3, 2, 0, true);
		for (uint64_t i = 1; i <= LAST; i++)
		{
			append(log, i, 3, (uint32_t) (i * 37 % 400));
			if (i == 10 + seed % 20)
				de->disk.misdirect_next = true;
			round_of_io(log);
		}
		rlog_close(log);
		check_damaged(de, "misdirected", seed);
		disk_env_free(de);
	}
}

/* Whichever single byte of the metadata goes, the other copy knows all. */
static void
every_byte_of_the_metadata(void)
{
	size_t		places[600];
	int			n = 0;

	for (size_t at = 0; at < 48; at++)
		places[n++] = at;
	for (size_t at = 0; at < 170; at++)
	{
		places[n++] = 4096 + at;
		places[n++] = 69632 + at;
	}
	for (int i = 0; i < n && checks_failed == 0; i++)
	{
		DiskEnv    *de = disk_env_new(23);
		uint64_t	term,
					commit;
		uint32_t	vote;
		Rlog	   *log;

		build(de);
		flip(de, "log/meta", places[i], 0x04);
		log = open_log(de);
		if (log == NULL)
			break;
		rlog_hard_state(log, &term, &vote, &commit);
		CHECK(term == 3 && vote == 2);
		CHECK_EQ(rlog_last_index(log), LAST);
		CHECK(is_whole(de, 1, LAST));
		rlog_close(log);
		disk_env_free(de);
	}
}

/* With both copies gone term and vote are: nothing to salvage (P-34's business). */
static void
P34_metadata_lost(void)
{
	DiskEnv    *de = disk_env_new(24);
	RlogOptions options = {.segment_bytes = SEGMENT};
	uint64_t	damaged;
	Rlog	   *log;

	build(de);
	flip(de, "log/meta", 4096 + 30, 1);
	flip(de, "log/meta", 69632 + 30, 1);
	CHECK_EQ(try_open(de, &log), RLOG_DAMAGED);
	CHECK_EQ(rlog_salvage(&de->env, DIR_NAME, &options, &log, &damaged, last_notice, last_error),
			 RLOG_DAMAGED);
	CHECK(strstr(last_error, "metadata") != NULL);
	disk_env_free(de);
}

static void
segment_file_missing(void)
{
	for (int which = 1; which <= 4 && checks_failed == 0; which++)
	{
		DiskEnv    *de = disk_env_new(25);
		char		name[64];

		build(de);
		snprintf(name, sizeof(name), "log/log-%016x", which);
		if (file_named(de, name) != NULL)
		{
			sim_disk_unlink(&de->disk, name);
			check_damaged(de, name, 0);
		}
		disk_env_free(de);
	}
}

/* The last segment holds one batch, the mark is gone, and one before it as well. */
static void
segment_missing_and_no_mark(void)
{
	for (int which = 1; which <= 3; which++)
	{
		DiskEnv    *de = disk_env_new(26);
		char		name[64];
		Rlog	   *log;

		make_log(de);
		log = open_log(de);
		rlog_set_hard_state(log, 3, 2, 0, true);
		for (uint64_t i = 1; i <= 3; i++)
		{
			append(log, i, 3, 3500);
			CHECK_EQ(round_of_io(log), RLOG_OK);
		}
		rlog_close(log);
		snprintf(name, sizeof(name), "log/log-%016x", which);
		CHECK(file_named(de, name) != NULL);
		sim_disk_unlink(&de->disk, name);
		flip(de, "log/meta", 20, 1);
		/* with the last one gone nothing is left that could tell */
		CHECK_EQ(try_open(de, &log), which < 3 ? RLOG_DAMAGED : RLOG_OK);
		if (log != NULL)
			rlog_close(log);
		disk_env_free(de);
	}
}

static void
P34_metadata_file_missing(void)
{
	DiskEnv    *de = disk_env_new(27);
	Rlog	   *log;

	build(de);
	sim_disk_unlink(&de->disk, "log/meta");
	CHECK_EQ(try_open(de, &log), RLOG_DAMAGED);
	CHECK(strstr(last_error, "missing") != NULL);
	disk_env_free(de);
}

/* After a clean end even a power cut leaves the proof of what was acknowledged. */
static void
clean_end_keeps_the_mark(void)
{
	DiskEnv    *de = disk_env_new(28);
	Rlog	   *log;

	build(de);
	disk_env_crash(de, false);
	for (int i = 0; i < de->disk.current.count; i++)
	{
		SimInode   *inode = de->disk.current.names[i].inode;

		/* the last record that was written, wherever it is: spoil its end */
		if (strncmp(de->disk.current.names[i].name, "log/log-", 8) != 0)
			continue;
		for (size_t at = inode->size; at-- > 64;)
		{
			if (inode->current[at] == 0)
				continue;
			inode->current[at] ^= 1;
			break;
		}
	}
	CHECK_EQ(try_open(de, &log), RLOG_DAMAGED);
	disk_env_free(de);
}

const Test	tests_damage[] = {
	TEST(P32_every_byte_of_the_segments),
	TEST(P32_sectors_gone),
	TEST(misdirected_write),
	TEST(every_byte_of_the_metadata),
	TEST(P34_metadata_lost),
	TEST(segment_file_missing),
	TEST(segment_missing_and_no_mark),
	TEST(P34_metadata_file_missing),
	TEST(clean_end_keeps_the_mark),
	{NULL, NULL}
};
