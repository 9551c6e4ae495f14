/*-------------------------------------------------------------------------
 *
 * test_basic.c
 *		What the log promises when nothing crashes: appends, truncation at both
 *		ends, metadata, rounds of I/O, failures of the disk, readers.
 *
 *-------------------------------------------------------------------------
 */
#include "harness.h"

static void
reads_back(DiskEnv *de, uint64_t first, uint64_t last, uint64_t term)
{
	RlogReader *reader = open_reader(de);
	RlogRecord	rec;

	for (uint64_t i = first; i <= last; i++)
	{
		CHECK_EQ(rlog_reader_get(reader, i, last, &rec, last_error), RLOG_OK);
		CHECK(is_record(&rec, i, term, (uint32_t) (i * 37 % 900)));
	}
	CHECK_EQ(rlog_reader_get(reader, last + 1, last, &rec, last_error), RLOG_END);
	rlog_reader_close(reader);
}

static void
create_and_open(void)
{
	DiskEnv    *de = disk_env_new(1);
	Rlog	   *log;
	uint64_t	term,
				commit,
				index;
	uint32_t	vote;
	size_t		len;

	CHECK_EQ(try_open(de, &log), RLOG_NOT_FOUND);
	CHECK_EQ(make_log(de), RLOG_OK);
	CHECK_EQ(make_log(de), RLOG_EXISTS);
	log = open_log(de);
	CHECK_EQ(rlog_identity(log)->node_id, 7);
	CHECK_EQ(rlog_first_index(log), 1);
	CHECK_EQ(rlog_last_index(log), 0);
	rlog_hard_state(log, &term, &vote, &commit);
	CHECK(term == 0 && vote == 0 && commit == 0);
	CHECK_EQ(rlog_set_hard_state(log, 5, 3, 0, true), RLOG_OK);
	CHECK_EQ(rlog_set_conf(log, "abc", 3, 9), RLOG_OK);
	/* P-01, P-02: neither a lower term nor a second vote in one */
	CHECK_EQ(rlog_set_hard_state(log, 4, 0, 0, true), RLOG_INVALID);
	CHECK_EQ(rlog_set_hard_state(log, 5, 2, 0, true), RLOG_INVALID);
	CHECK_EQ(round_of_io(log), RLOG_OK);
	rlog_close(log);
	log = open_log(de);
	rlog_hard_state(log, &term, &vote, &commit);
	CHECK(term == 5 && vote == 3 && commit == 0);
	CHECK(memcmp(rlog_conf(log, &len, &index), "abc", 3) == 0);
	CHECK(len == 3 && index == 9);
	rlog_close(log);
	disk_env_free(de);
}

static void
append_and_read_over_segments(void)
{
	DiskEnv    *de = disk_env_new(2);
	Rlog	   *log;
	const RlogTermRun *runs;

	make_log(de);
	log = open_log(de);
	for (uint64_t i = 1; i <= 200; i++)
	{
		CHECK_EQ(append(log, i, 1, (uint32_t) (i * 37 % 900)), RLOG_OK);
		if (i % 7 == 0)
			CHECK_EQ(round_of_io(log), RLOG_OK);
	}
	CHECK_EQ(append(log, 202, 1, 0), RLOG_INVALID);
	CHECK_EQ(append(log, 201, 0, 0), RLOG_INVALID);
	round_of_io(log);
	CHECK_EQ(rlog_durable_index(log), 200);
	reads_back(de, 1, 200, 1);
	rlog_close(log);
	log = open_log(de);
	CHECK_EQ(rlog_last_index(log), 200);
	CHECK_EQ(rlog_term_runs(log, &runs), 1);
	reads_back(de, 1, 200, 1);
	rlog_close(log);
	disk_env_free(de);
}

static void
record_larger_than_a_segment(void)
{
	DiskEnv    *de = disk_env_new(3);
	Rlog	   *log;
	RlogReader *reader;
	RlogRecord	rec;

	make_log(de);
	log = open_log(de);
	append(log, 1, 1, 10);
	append(log, 2, 1, 700000);
	append(log, 3, 1, 20);
	CHECK_EQ(round_of_io(log), RLOG_OK);
	rlog_close(log);
	log = open_log(de);
	reader = open_reader(de);
	CHECK_EQ(rlog_reader_get(reader, 2, 3, &rec, last_error), RLOG_OK);
	CHECK(is_record(&rec, 2, 1, 700000));
	CHECK_EQ(rlog_reader_get(reader, 3, 3, &rec, last_error), RLOG_OK);
	CHECK(is_record(&rec, 3, 1, 20));
	rlog_reader_close(reader);
	rlog_close(log);
	disk_env_free(de);
}

/* P-24: one sync for a batch, none for nothing. */
static void
P24_syncs_are_counted(void)
{
	DiskEnv    *de = disk_env_new(4);
	Rlog	   *log;
	uint64_t	before;

	make_log(de);
	log = open_log(de);
	append(log, 1, 1, 10);
	while (round_of_io(log) == RLOG_OK)
		;
	before = de->syncs;
	for (uint64_t i = 2; i <= 11; i++)
		append(log, i, 1, 10);
	rlog_set_hard_state(log, 0, 0, 5, false);
	CHECK_EQ(round_of_io(log), RLOG_OK);
	CHECK_EQ(de->syncs - before, 1);
	before = de->effects;
	rlog_set_hard_state(log, 0, 0, 9, true);
	for (int i = 0; i < 100; i++)
		CHECK_EQ(round_of_io(log), RLOG_END);
	CHECK_EQ(de->effects - before, 0);
	rlog_close(log);
	disk_env_free(de);
}

/* P-31, P-17: a suffix is cut while its writes are under way. */
static void
P31_truncate_with_writes_in_flight(void)
{
	DiskEnv    *de = disk_env_new(5);
	RlogReader *reader;
	RlogRecord	rec;
	RlogIo	   *io;
	Rlog	   *log;

	make_log(de);
	log = open_log(de);
	for (uint64_t i = 1; i <= 10; i++)
		append(log, i, 1, 100);
	CHECK_EQ(round_of_io(log), RLOG_OK);
	for (uint64_t i = 11; i <= 60; i++)
		append(log, i, 1, 100);
	io = rlog_io_begin(log);
	CHECK(io != NULL);
	CHECK_EQ(rlog_truncate_suffix(log, 12), RLOG_OK);
	append(log, 12, 2, 50);
	append(log, 13, 2, 50);
	CHECK_EQ(rlog_truncate_suffix(log, 13), RLOG_OK);
	append(log, 13, 3, 70);
	rlog_io_run(io);
	CHECK_EQ(rlog_io_done(log, io), RLOG_OK);
	/* what was in flight said 60, which is something else by now */
	CHECK(rlog_durable_index(log) <= 11);
	CHECK_EQ(round_of_io(log), RLOG_OK);
	CHECK_EQ(rlog_durable_index(log), 13);
	rlog_close(log);
	log = open_log(de);
	CHECK_EQ(rlog_last_index(log), 13);
	reader = open_reader(de);
	CHECK_EQ(rlog_reader_get(reader, 12, 13, &rec, last_error), RLOG_OK);
	CHECK(is_record(&rec, 12, 2, 50));
	CHECK_EQ(rlog_reader_get(reader, 13, 13, &rec, last_error), RLOG_OK);
	CHECK(is_record(&rec, 13, 3, 70));
	rlog_reader_close(reader);
	rlog_close(log);
	disk_env_free(de);
}

/* A prefix goes by segments, files are used again, readers are told. */
static void
P30_prefix_and_recycling(void)
{
	DiskEnv    *de = disk_env_new(6);
	RlogReader *reader;
	RlogRecord	rec;
	Rlog	   *log;
	uint64_t	bytes;

	make_log(de);
	log = open_log(de);
	reader = open_reader(de);
	for (uint64_t i = 1; i <= 2000; i++)
	{
		append(log, i, 1 + i / 500, (uint32_t) (i * 37 % 900));
		if (i % 10 == 0)
		{
			CHECK_EQ(round_of_io(log), RLOG_OK);
			CHECK_EQ(rlog_reader_get(reader, i, i, &rec, last_error), RLOG_OK);
			CHECK(is_record(&rec, i, 1 + i / 500, (uint32_t) (i * 37 % 900)));
		}
		if (i % 50 == 0)
			CHECK_EQ(rlog_truncate_prefix(log, i - 20), RLOG_OK);
	}
	round_of_io(log);
	bytes = rlog_bytes(log);
	CHECK(bytes < 20 * SEGMENT);
	CHECK_EQ(rlog_bytes_from(log, rlog_first_index(log)), bytes);
	CHECK_EQ(rlog_tail_index(log, 1000000000), rlog_first_index(log));
	CHECK(rlog_tail_index(log, 1) > rlog_first_index(log));
	CHECK(rlog_bytes_from(log, rlog_tail_index(log, SEGMENT)) <= 3 * SEGMENT);
	CHECK(rlog_bytes_from(log, 2000) <= SEGMENT);
	CHECK(sim_disk_used(&de->disk) < bytes + 200000);
	CHECK(rlog_first_index(log) > 1900 && rlog_first_index(log) <= 1980);
	CHECK_EQ(rlog_reader_get(reader, 5, 2000, &rec, last_error), RLOG_COMPACTED);
	CHECK_EQ(rlog_reader_get(reader, rlog_first_index(log), 2000, &rec, last_error), RLOG_OK);
	CHECK_EQ(rlog_prev_term(log), 1 + (rlog_first_index(log) - 1) / 500);
	rlog_reader_close(reader);
	bytes = rlog_first_index(log);
	rlog_close(log);
	log = open_log(de);
	CHECK_EQ(rlog_first_index(log), bytes);
	CHECK_EQ(rlog_last_index(log), 2000);
	rlog_close(log);
	disk_env_free(de);
}

static void
reset_behind_an_image(void)
{
	DiskEnv    *de = disk_env_new(7);
	RlogReader *reader;
	RlogRecord	rec;
	Rlog	   *log;

	make_log(de);
	log = open_log(de);
	for (uint64_t i = 1; i <= 100; i++)
		append(log, i, 1, 200);
	round_of_io(log);
	reader = open_reader(de);
	CHECK_EQ(rlog_reset(log, 5000, 9), RLOG_OK);
	append(log, 5001, 9, 33);
	CHECK_EQ(round_of_io(log), RLOG_OK);
	CHECK_EQ(rlog_reader_get(reader, 5001, 5001, &rec, last_error), RLOG_OK);
	CHECK(is_record(&rec, 5001, 9, 33));
	CHECK_EQ(rlog_reader_get(reader, 50, 5001, &rec, last_error), RLOG_COMPACTED);
	rlog_reader_close(reader);
	rlog_close(log);
	log = open_log(de);
	CHECK_EQ(rlog_first_index(log), 5001);
	CHECK_EQ(rlog_last_index(log), 5001);
	CHECK_EQ(rlog_prev_term(log), 9);
	rlog_close(log);
	disk_env_free(de);
}

/* P-33: a failed write or sync is never retried as if nothing had happened. */
static void
P33_first_failure_poisons(void)
{
	for (int kind = 0; kind < 2; kind++)
	{
		DiskEnv    *de = disk_env_new(8);
		const char *text;
		Rlog	   *log;

		make_log(de);
		log = open_log(de);
		append(log, 1, 1, 10);
		while (round_of_io(log) == RLOG_OK)
			;
		if (kind == 0)
			de->disk.fail_next_write = true;
		else
			de->disk.fail_next_sync = true;
		append(log, 2, 1, 10);
		CHECK_EQ(round_of_io(log), RLOG_IO_ERROR);
		CHECK_EQ(rlog_durable_index(log), 1);
		CHECK_EQ(rlog_health(log, &text), RLOG_IO_ERROR);
		CHECK(strstr(text, "error") != NULL);
		CHECK_EQ(append(log, 3, 1, 10), RLOG_IO_ERROR);
		CHECK_EQ(rlog_set_hard_state(log, 9, 1, 0, true), RLOG_IO_ERROR);
		CHECK_EQ(round_of_io(log), RLOG_END);
		rlog_close(log);
		/* the process goes, the cache with the write that was never synced stays */
		disk_env_crash(de, true);
		log = open_log(de);
		CHECK(rlog_last_index(log) >= 1);
		if (rlog_last_index(log) == 2)
		{
			/* then it is on disk now, and stays */
			rlog_close(log);
			disk_env_crash(de, false);
			log = open_log(de);
			CHECK_EQ(rlog_last_index(log), 2);
		}
		rlog_close(log);
		disk_env_free(de);
	}
}

static void
full_disk_is_told_and_survived(void)
{
	DiskEnv    *de = disk_env_new(9);
	RlogStatus	status = RLOG_OK;
	Rlog	   *log;
	uint64_t	last = 0;
	uint64_t	durable;

	make_log(de);
	log = open_log(de);
	append(log, ++last, 1, 500);
	while (round_of_io(log) == RLOG_OK)
		;
	de->disk.capacity = sim_disk_used(&de->disk) + 100;
	/* there is room in what is there already, and the log says that it ends */
	for (int i = 0; i < 12; i++)
	{
		append(log, ++last, 1, 500);
		status = round_of_io(log);
		if (status != RLOG_OK)
			break;
	}
	CHECK_EQ(rlog_health(log, NULL), RLOG_NO_SPACE);
	while (status == RLOG_OK)
	{
		append(log, ++last, 1, 500);
		status = round_of_io(log);
	}
	CHECK_EQ(status, RLOG_NO_SPACE);
	CHECK(last > 10);
	durable = rlog_durable_index(log);
	CHECK_EQ(durable, last - 1);
	/* the metadata can be written even so: this member can still vote */
	de->disk.capacity = 0;
	for (int i = 0; i < 3 * RLOG_RETRY_CALLS && rlog_durable_index(log) < last; i++)
		round_of_io(log);
	CHECK_EQ(rlog_durable_index(log), last);
	for (int i = 0; i < 3 * RLOG_RETRY_CALLS; i++)
		round_of_io(log);
	CHECK_EQ(rlog_health(log, NULL), RLOG_OK);
	rlog_close(log);
	log = open_log(de);
	CHECK_EQ(rlog_last_index(log), last);
	rlog_close(log);
	disk_env_free(de);
}

static void
vote_on_a_full_disk(void)
{
	DiskEnv    *de = disk_env_new(10);
	uint64_t	term,
				commit;
	uint32_t	vote;
	Rlog	   *log;

	make_log(de);
	log = open_log(de);
	while (round_of_io(log) == RLOG_OK)
		;
	de->disk.capacity = 1;
	CHECK_EQ(rlog_set_hard_state(log, 8, 2, 0, true), RLOG_OK);
	CHECK_EQ(round_of_io(log), RLOG_OK);
	rlog_close(log);
	disk_env_crash(de, false);
	log = open_log(de);
	rlog_hard_state(log, &term, &vote, &commit);
	CHECK(term == 8 && vote == 2);
	rlog_close(log);
	disk_env_free(de);
}

/* The reader goes on while suffixes are cut and written anew. */
static void
reader_after_truncation(void)
{
	DiskEnv    *de = disk_env_new(11);
	RlogReader *reader;
	RlogRecord	rec;
	Rlog	   *log;

	make_log(de);
	log = open_log(de);
	reader = open_reader(de);
	for (uint64_t i = 1; i <= 30; i++)
		append(log, i, 1, 100);
	round_of_io(log);
	CHECK_EQ(rlog_reader_get(reader, 20, 30, &rec, last_error), RLOG_OK);
	rlog_truncate_suffix(log, 15);
	rlog_reader_forget(reader);
	for (uint64_t i = 15; i <= 40; i++)
		append(log, i, 2, 100);
	round_of_io(log);
	for (uint64_t i = 10; i <= 40; i++)
	{
		CHECK_EQ(rlog_reader_get(reader, i, 40, &rec, last_error), RLOG_OK);
		CHECK(is_record(&rec, i, i < 15 ? 1 : 2, 100));
	}
	rlog_reader_close(reader);
	rlog_close(log);
	disk_env_free(de);
}

static void
committed_entries_are_not_cut(void)
{
	DiskEnv    *de = disk_env_new(12);
	Rlog	   *log;

	make_log(de);
	log = open_log(de);
	for (uint64_t i = 1; i <= 5; i++)
		append(log, i, 1, 10);
	rlog_set_hard_state(log, 1, 0, 3, true);
	CHECK_EQ(rlog_truncate_suffix(log, 3), RLOG_INVALID);
	CHECK_EQ(rlog_truncate_suffix(log, 4), RLOG_OK);
	CHECK_EQ(rlog_last_index(log), 3);
	round_of_io(log);
	rlog_close(log);
	disk_env_free(de);
}

const Test	tests_basic[] = {
	TEST(create_and_open),
	TEST(append_and_read_over_segments),
	TEST(record_larger_than_a_segment),
	TEST(P24_syncs_are_counted),
	TEST(P31_truncate_with_writes_in_flight),
	TEST(P30_prefix_and_recycling),
	TEST(reset_behind_an_image),
	TEST(P33_first_failure_poisons),
	TEST(full_disk_is_told_and_survived),
	TEST(vote_on_a_full_disk),
	TEST(reader_after_truncation),
	TEST(committed_entries_are_not_cut),
	{NULL, NULL}
};
