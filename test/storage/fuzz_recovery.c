/*-------------------------------------------------------------------------
 *
 * fuzz_recovery.c
 *		Opens logs whose bytes were put there by a fuzzer: any status will do, no
 *		crash, no endless loop; and whatever opens can be read, used and opened
 *		again.
 *
 * The input is a list of patches to the files of a sound log: file, offset,
 * length, bytes; a patch may mend the checksum of a record or header it hit, so
 * that the fuzzer gets past it.
 *
 *-------------------------------------------------------------------------
 */
#include <stdlib.h>
#include <string.h>

#include "disk_env.h"
#include "storage/crc32c.h"
#include "storage/rlog_format.h"

extern int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const RlogOptions options = {.segment_bytes = 4096, .watch_type = 2};

static Rlog *
build(DiskEnv *de)
{
	RlogIdentity identity = {.node_id = 1};
	char		error[RLOG_ERROR_LEN];
	char		notice[RLOG_ERROR_LEN];
	uint8_t		bytes[300] = {1, 2, 3};
	Rlog	   *log;

	if (rlog_create(&de->env, "log", &options, &identity, error) != RLOG_OK ||
		rlog_open(&de->env, "log", &options, &log, notice, error) != RLOG_OK)
		abort();
	for (uint64_t i = 1; i <= 30; i++)
	{
		RlogRecord	rec = {.index = i, .term = 1 + i / 10, .type = 2, .data = bytes,
		.len = (uint32_t) (i * 10 % 300)};
		RlogIo	   *io;

		rlog_append(log, &rec);
		io = rlog_io_begin(log);
		if (io != NULL)
		{
			rlog_io_run(io);
			rlog_io_done(log, io);
		}
	}
	return log;
}

static void
mend(SimInode *inode, size_t start, size_t len, uint64_t seq, bool record)
{
	uint32_t	crc = pgq_crc32c_start();
	uint8_t		place[16];

	if (start + len > inode->size)
		return;
	for (int i = 0; i < 8; i++)
	{
		place[i] = (uint8_t) (seq >> (8 * i));
		place[8 + i] = (uint8_t) ((uint64_t) start >> (8 * i));
	}
	if (record)
		crc = pgq_crc32c_add(crc, place, 16);
	crc = pgq_crc32c_finish(pgq_crc32c_add(crc, inode->current + start + 4, len - 4));
	memcpy(inode->current + start, &crc, 4);
}

static void
patch(DiskEnv *de, const uint8_t *p, size_t len)
{
	SimInode   *inode = de->disk.current.names[p[0] % de->disk.current.count].inode;
	const char *name = de->disk.current.names[p[0] % de->disk.current.count].name;
	size_t		at;

	if (inode->size == 0)
		return;
	at = (p[1] | (size_t) p[2] << 8 | (size_t) p[3] << 16) % inode->size;
	if (len > inode->size - at)
		len = inode->size - at;
	memcpy(inode->current + at, p + 6, len);
	if (p[4] & 1)
		mend(inode, at & ~(size_t) 7, RECORD_HEADER_BYTES,
			 strtoull(name + strlen(name) - 4, NULL, 16), true);
	if (p[4] & 2)
		mend(inode, 0, SEGMENT_HEADER_BYTES, 0, false);
	if (p[4] & 4 && inode->size > 200000 / 2)
		mend(inode, META_COPY_OFFSET(p[4] >> 7), META_HEADER_BYTES, 0, false);
}

static void
use(Rlog *log, DiskEnv *de)
{
	char		error[RLOG_ERROR_LEN];
	RlogReader *reader;
	RlogRecord	rec;
	RlogIo	   *io;
	uint64_t	last = rlog_last_index(log);

	if (rlog_reader_open(&de->env, "log", &reader, error) == RLOG_OK)
	{
		for (uint64_t i = rlog_first_index(log); i <= last; i++)
			(void) rlog_reader_get(reader, i, last, &rec, error);
		rlog_reader_close(reader);
	}
	rec = (RlogRecord) {.index = last + 1, .term = UINT64_MAX, .type = 2};
	if (last < UINT64_MAX - 1)
		(void) rlog_append(log, &rec);
	io = rlog_io_begin(log);
	if (io != NULL)
	{
		rlog_io_run(io);
		(void) rlog_io_done(log, io);
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	DiskEnv    *de = disk_env_new(1);
	char		error[RLOG_ERROR_LEN];
	char		notice[RLOG_ERROR_LEN];
	uint64_t	damaged;
	Rlog	   *log;

	rlog_close(build(de));
	disk_env_crash(de, true);
	while (size > 6)
	{
		size_t		len = data[5] < size - 6 ? data[5] : size - 6;

		patch(de, data, len);
		data += 6 + len;
		size -= 6 + len;
	}
	if (rlog_open(&de->env, "log", &options, &log, notice, error) == RLOG_OK ||
		rlog_salvage(&de->env, "log", &options, &log, &damaged, notice, error) == RLOG_OK)
	{
		use(log, de);
		rlog_close(log);
		if (rlog_open(&de->env, "log", &options, &log, notice, error) == RLOG_OK)
			rlog_close(log);
	}
	disk_env_free(de);
	return 0;
}
