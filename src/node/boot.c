/*-------------------------------------------------------------------------
 *
 * boot.c
 *		Numbers the starts of this server, so that transaction tokens are never
 *		given out twice.
 *
 * A start's number is above that of every start before it, and not below the
 * seconds since 2020: a data directory that is restored from an old copy has
 * forgotten some of its starts, but not that time has passed. Should the clock
 * have lied, the log may still show a token of ours with a higher number; then
 * numbering goes on from there (boot_raise).
 *
 * File pg_quorum/boot, text: one number and its bitwise complement. Written
 * anew (temporary file, fsync, rename, fsync of the directory) by the Raft
 * worker at each start before any token can be made. A crash leaves the old or
 * the new number; the new one is used only after it is durable. A file that
 * cannot be believed counts as none.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include "common/file_perm.h"
#include "storage/fd.h"

#include "node/worker.h"

#define BOOT_FILE		NODE_DIRECTORY "/boot"
#define BOOT_FILE_TMP	NODE_DIRECTORY "/boot.tmp"
#define BOOT_EPOCH_S	1577836800	/* 2020-01-01 */

static bool
read_count(uint32 *count, bool *exists)
{
	char		buf[64] = {0};
	unsigned int value,
				check;
	int			fd = open(BOOT_FILE, O_RDONLY | PG_BINARY);
	ssize_t		len;

	*exists = fd >= 0 || errno != ENOENT;
	if (fd < 0)
		return false;
	len = read(fd, buf, sizeof(buf) - 1);
	close(fd);
	if (len <= 0 || sscanf(buf, "%u %u", &value, &check) != 2 || check != ~value)
		return false;
	*count = value;
	return true;
}

/* FATAL when it cannot be made durable. */
static void
write_count(uint32 count)
{
	char		buf[64];
	int			len = snprintf(buf, sizeof(buf), "%u %u\n", count, ~count);
	int			fd = open(BOOT_FILE_TMP, O_CREAT | O_TRUNC | O_WRONLY | PG_BINARY,
						  pg_file_create_mode);

	if (fd < 0 || write(fd, buf, len) != len || pg_fsync(fd) != 0 || close(fd) != 0)
		ereport(FATAL,
				(errcode_for_file_access(),
				 errmsg("could not write file \"%s\": %m", BOOT_FILE_TMP)));
	if (durable_rename(BOOT_FILE_TMP, BOOT_FILE, LOG) != 0)
		ereport(FATAL,
				(errcode_for_file_access(),
				 errmsg("could not rename file \"%s\" to \"%s\": %m",
						BOOT_FILE_TMP, BOOT_FILE)));
}

uint32
boot_count_start(void)
{
	uint32		count = 0;
	uint32		now_s = (uint32) (time(NULL) - BOOT_EPOCH_S);
	bool		exists;

	if (!read_count(&count, &exists) && exists)
		ereport(LOG,
				(errmsg("file \"%s\" is damaged, starts are counted on from %u",
						BOOT_FILE, now_s)));
	count = Max(count + 1, now_s);
	write_count(count);
	return count;
}

/* The number `seen` was used before, in a past that was forgotten here. */
uint32
boot_raise(uint32 seen)
{
	ereport(LOG,
			(errmsg("this member has given out tokens that it does not remember"),
			 errdetail("The log has one of start %u; starts are counted on from there.", seen)));
	write_count(seen + 1);
	return seen + 1;
}
