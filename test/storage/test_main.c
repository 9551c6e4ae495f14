/*-------------------------------------------------------------------------
 *
 * test_main.c
 *		Runs the tests of the log, and what they share.
 *
 *-------------------------------------------------------------------------
 */
#include "harness.h"

const char *current_test = "";
int			checks_failed = 0;
char		last_notice[RLOG_ERROR_LEN];
char		last_error[RLOG_ERROR_LEN];

static const RlogOptions options = {.segment_bytes = SEGMENT, .watch_type = 3};

RlogStatus
make_log(DiskEnv *de)
{
	RlogIdentity identity = {.node_id = 7};

	memset(identity.cluster_id, 0xC1, 16);
	memset(identity.instance_id, 0x1D, 16);
	return rlog_create(&de->env, DIR_NAME, &options, &identity, last_error);
}

RlogStatus
try_open(DiskEnv *de, Rlog **log)
{
	return rlog_open(&de->env, DIR_NAME, &options, log, last_notice, last_error);
}

Rlog *
open_log(DiskEnv *de)
{
	Rlog	   *log;
	RlogStatus	status = try_open(de, &log);

	CHECK_EQ(status, RLOG_OK);
	if (status != RLOG_OK)
		printf("  %s\n", last_error);
	return log;
}

void
fill_payload(uint8_t *data, uint64_t index, uint64_t term, uint32_t len)
{
	for (uint32_t i = 0; i < len; i++)
		data[i] = (uint8_t) (index * 31 + term * 7 + i * 13 + 1);
}

static void
free_payload(void *arg)
{
	free(arg);
}

RlogStatus
append(Rlog *log, uint64_t index, uint64_t term, uint32_t len)
{
	RlogRecord	rec = {.index = index, .term = term, .type = 2, .len = len};
	uint8_t    *data = malloc(len + 1);
	RlogStatus	status;

	fill_payload(data, index, term, len);
	memset(rec.stamp, (int) index, 16);
	memset(rec.token, (int) term, 16);
	rec.data = data;
	rec.release = free_payload;
	rec.release_arg = data;
	status = rlog_append(log, &rec);
	if (status != RLOG_OK)
		free(data);
	return status;
}

RlogStatus
round_of_io(Rlog *log)
{
	RlogIo	   *io = rlog_io_begin(log);

	if (io == NULL)
		return RLOG_END;
	rlog_io_run(io);
	return rlog_io_done(log, io);
}

bool
is_record(const RlogRecord *rec, uint64_t index, uint64_t term, uint32_t len)
{
	uint8_t    *want;
	bool		same;

	if (rec->index != index || rec->term != term || rec->len != len || rec->type != 2 ||
		rec->stamp[5] != (uint8_t) index || rec->token[5] != (uint8_t) term)
		return false;
	want = malloc(len + 1);
	fill_payload(want, index, term, len);
	same = len == 0 || memcmp(want, rec->data, len) == 0;
	free(want);
	return same;
}

RlogReader *
open_reader(DiskEnv *de)
{
	RlogReader *reader;

	CHECK_EQ(rlog_reader_open(&de->env, DIR_NAME, &reader, last_error), RLOG_OK);
	return reader;
}

int
main(int argc, char **argv)
{
	const Test *const all[] = {tests_basic, tests_crash, tests_damage, tests_tokens};
	int			passed = 0,
				failed = 0;

	for (int i = 0; i < 4; i++)
	{
		for (const Test *test = all[i]; test->name != NULL; test++)
		{
			if (argc > 1 && strstr(test->name, argv[1]) == NULL)
				continue;
			current_test = test->name;
			checks_failed = 0;
			test->run();
			if (checks_failed > 0)
				failed++;
			else
				passed++;
		}
	}
	printf("%d passed, %d failed\n", passed, failed);
	return failed > 0;
}
