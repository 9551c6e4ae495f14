/*-------------------------------------------------------------------------
 *
 * bench.c
 *		bench DIR: entries and bytes a second that the log makes durable in DIR,
 *		by entries a sync, beside the rate of bare writes of the same size with
 *		fdatasync into a preallocated file there. The ratio counts; both are
 *		measured in turn.
 *
 *-------------------------------------------------------------------------
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "storage/rlog.h"

#define ENTRY_BYTES 200
#define TURN_S		0.5
#define TURNS		4
#define RAW_BYTES	(16 << 20)

static double
now_s(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double) ts.tv_sec + (double) ts.tv_nsec / 1e9;
}

static void
must(bool fine, const char *what)
{
	if (fine)
		return;
	perror(what);
	exit(1);
}

static double
raw_rate(int fd, int batch, const char *bytes)
{
	double		begin = now_s();
	size_t		len = (size_t) batch * (ENTRY_BYTES + 72);
	off_t		at = 0;
	long		n = 0;

	while (now_s() - begin < TURN_S)
	{
		if (at + (off_t) len > RAW_BYTES)
			at = 0;
		must(pwrite(fd, bytes, len, at) == (ssize_t) len, "pwrite");
		must(fdatasync(fd) == 0, "fdatasync");
		at += (off_t) len;
		n += batch;
	}
	return (double) n / (now_s() - begin);
}

static double
log_rate(Rlog *log, int batch, const char *bytes)
{
	double		begin = now_s();
	long		n = 0;

	while (now_s() - begin < TURN_S)
	{
		RlogIo	   *io;

		for (int i = 0; i < batch; i++)
		{
			RlogRecord	rec = {.index = rlog_last_index(log) + 1, .term = 1, .type = 2,
			.data = bytes, .len = ENTRY_BYTES};

			must(rlog_append(log, &rec) == RLOG_OK, "append");
		}
		io = rlog_io_begin(log);
		rlog_io_run(io);
		must(rlog_io_done(log, io) == RLOG_OK, "round");
		n += batch;
		if (n % 4096 < batch && rlog_last_index(log) > 200000)
			(void) rlog_truncate_prefix(log, rlog_last_index(log) - 100000);
	}
	return (double) n / (now_s() - begin);
}

int
main(int argc, char **argv)
{
	static const int batches[] = {1, 4, 16, 64, 256};
	RlogIdentity identity = {.node_id = 1};
	char		dir[512];
	char		path[600];
	char		error[RLOG_ERROR_LEN];
	char		notice[RLOG_ERROR_LEN];
	char	   *bytes = calloc(256, ENTRY_BYTES + 72);
	Rlog	   *log;
	int			fd;

	must(argc == 2, "usage: bench DIR");
	snprintf(dir, sizeof(dir), "%s/bench-log.%d", argv[1], (int) getpid());
	snprintf(path, sizeof(path), "%s/bench-raw.%d", argv[1], (int) getpid());
	must(rlog_create(rlog_env_posix(), dir, NULL, &identity, error) == RLOG_OK, error);
	must(rlog_open(rlog_env_posix(), dir, NULL, &log, notice, error) == RLOG_OK, error);
	fd = open(path, O_CREAT | O_RDWR | O_TRUNC, 0600);
	must(fd >= 0 && rlog_env_posix()->allocate(NULL, fd, RAW_BYTES) == 0 && fsync(fd) == 0, path);
	printf("entries of %d bytes; mean of %d turns of %.1f s\n%10s %12s %10s %12s %8s\n",
		   ENTRY_BYTES, TURNS, TURN_S, "per sync", "entries/s", "MB/s", "raw/s", "ratio");
	for (size_t b = 0; b < sizeof(batches) / sizeof(batches[0]); b++)
	{
		double		ours = 0,
					raw = 0;

		for (int turn = 0; turn < TURNS; turn++)
		{
			ours += log_rate(log, batches[b], bytes) / TURNS;
			raw += raw_rate(fd, batches[b], bytes) / TURNS;
		}
		printf("%10d %12.0f %10.1f %12.0f %8.2f\n", batches[b], ours, ours * ENTRY_BYTES / 1e6,
			   raw, ours / raw);
	}
	rlog_close(log);
	close(fd);
	unlink(path);
	snprintf(path, sizeof(path), "rm -rf '%s'", dir);
	return system(path) == 0 ? 0 : 1;
}
