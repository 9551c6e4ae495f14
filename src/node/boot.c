/*-------------------------------------------------------------------------
 *
 * boot.c
 *		Counts the starts of this server, so that transaction tokens are never
 *		given out twice.
 *
 * File pg_quorum/boot, text: one number and its bitwise complement. Written
 * anew (temporary file, fsync, rename, fsync of the directory) by the Raft
 * worker at each start before any token can be made. A crash leaves the old or
 * the new number; the new one is used only after it is durable. When the file
 * cannot be believed, the count goes on from the seconds since 2020, which is
 * above anything that was counted.
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
uint32
boot_count_start(void)
{
	uint32		count = 0;
	bool		exists;
	char		buf[64];
	int			fd;
	int			len;

	if (!read_count(&count, &exists) && exists)
	{
		count = (uint32) (time(NULL) - BOOT_EPOCH_S);
		ereport(LOG,
				(errmsg("file \"%s\" is damaged, starts are counted on from %u",
						BOOT_FILE, count)));
	}
	count++;
	if (count == 0)
		count = 1;

	len = snprintf(buf, sizeof(buf), "%u %u\n", count, ~count);
	fd = open(BOOT_FILE_TMP, O_CREAT | O_TRUNC | O_WRONLY | PG_BINARY, pg_file_create_mode);
	if (fd < 0 || write(fd, buf, len) != len || pg_fsync(fd) != 0 || close(fd) != 0)
		ereport(FATAL,
				(errcode_for_file_access(),
				 errmsg("could not write file \"%s\": %m", BOOT_FILE_TMP)));
	if (durable_rename(BOOT_FILE_TMP, BOOT_FILE, LOG) != 0)
		ereport(FATAL,
				(errcode_for_file_access(),
				 errmsg("could not rename file \"%s\" to \"%s\": %m",
						BOOT_FILE_TMP, BOOT_FILE)));
	return count;
}
