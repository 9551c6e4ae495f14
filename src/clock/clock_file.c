/*-------------------------------------------------------------------------
 *
 * clock_file.c
 *		Small checksummed files under $PGDATA/pg_quorum, replaced as a whole.
 *
 * Format, in the byte order of the machine:
 *
 *		offset	size
 *		0		8		magic
 *		8		4		version, 1
 *		12		4		length of the payload
 *		16		4		CRC32C of bytes 0-15 and of the payload
 *		20		4		zero
 *		24		...		payload
 *
 * Written to NAME.tmp, fsynced, renamed over NAME, directory fsynced: after a
 * crash at any point NAME is the old or the new content. So a damaged file is
 * a fault of the disk or of somebody's hand, never a torn write. A failed
 * fsync is not retried on the same pages: the next attempt starts a new file.
 *
 * Callers see to it that only one process at a time writes a name.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "clock/clock_internal.h"
#include "common/file_perm.h"
#include "port/pg_crc32c.h"
#include "storage/fd.h"

#define CLOCK_DIR			"pg_quorum"
#define CLOCK_FILE_VERSION	1

typedef struct ClockFileHeader
{
	char		magic[CLOCK_FILE_MAGIC_LEN];
	uint32		version;
	uint32		length;
	uint32		crc;
	uint32		zero;
} ClockFileHeader;

StaticAssertDecl(sizeof(ClockFileHeader) == 24, "file header has no padding");

static uint32
file_crc(const ClockFileHeader *header, const void *payload, Size len)
{
	pg_crc32c	crc;

	INIT_CRC32C(crc);
	COMP_CRC32C(crc, header, offsetof(ClockFileHeader, crc));
	COMP_CRC32C(crc, payload, len);
	FIN_CRC32C(crc);
	return crc;
}

static bool
ensure_directory(void)
{
	if (MakePGDirectory(CLOCK_DIR) == 0)
		return fsync_fname_ext(".", true, false, LOG) == 0;
	if (errno == EEXIST)
		return true;
	ereport(LOG,
			(errcode_for_file_access(),
			 errmsg("could not create directory \"%s\": %m", CLOCK_DIR)));
	return false;
}

static bool
write_all(int fd, const void *data, Size len)
{
	const char *at = data;

	while (len > 0)
	{
		ssize_t		n = write(fd, at, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
		{
			if (n == 0)
				errno = ENOSPC;
			return false;
		}
		at += n;
		len -= n;
	}
	return true;
}

/* True when the new content is durable. Failures are logged, never thrown. */
bool
clock_file_write(const char *name, const char *magic, const void *payload, Size len)
{
	ClockFileHeader header = {.version = CLOCK_FILE_VERSION, .length = (uint32) len};
	char		path[MAXPGPATH];
	char		tmp[MAXPGPATH];
	int			fd;
	bool		ok;

	Assert(len <= PG_UINT32_MAX);
	Assert(strlen(magic) == CLOCK_FILE_MAGIC_LEN);

	if (!ensure_directory())
		return false;
	snprintf(path, sizeof(path), CLOCK_DIR "/%s", name);
	snprintf(tmp, sizeof(tmp), CLOCK_DIR "/%s.tmp", name);
	memcpy(header.magic, magic, CLOCK_FILE_MAGIC_LEN);
	header.crc = file_crc(&header, payload, len);

	fd = BasicOpenFile(tmp, O_RDWR | O_CREAT | O_TRUNC | PG_BINARY);
	if (fd < 0)
	{
		ereport(LOG,
				(errcode_for_file_access(),
				 errmsg("could not create file \"%s\": %m", tmp)));
		return false;
	}
	ok = write_all(fd, &header, sizeof(header)) && write_all(fd, payload, len);
	if (!ok)
		ereport(LOG,
				(errcode_for_file_access(),
				 errmsg("could not write file \"%s\": %m", tmp)));
	close(fd);

	/* fsyncs the file before the rename, and the directory after it */
	return ok && durable_rename(tmp, path, LOG) == 0;
}

/* Why the bytes in buf are not a file of ours, or NULL. */
static const char *
find_damage(const char *buf, Size size, const char *magic, Size max_len)
{
	ClockFileHeader header;

	if (size < sizeof(header))
		return "it is too short";
	memcpy(&header, buf, sizeof(header));
	if (memcmp(header.magic, magic, CLOCK_FILE_MAGIC_LEN) != 0)
		return "it has the wrong magic number";
	if (header.version != CLOCK_FILE_VERSION)
		return "its version is not known";
	if (header.length != size - sizeof(header) || header.length > max_len)
		return "its length is wrong";
	if (header.crc != file_crc(&header, buf + sizeof(header), header.length))
		return "its checksum is wrong";
	return NULL;
}

/* Read up to max bytes; -1 with errno when that fails. */
static ssize_t
read_all(int fd, char *buf, Size max)
{
	Size		size = 0;

	while (size < max)
	{
		ssize_t		n = read(fd, buf + size, max - size);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -1;
		if (n == 0)
			break;
		size += n;
	}
	return size;
}

ClockFileResult
clock_file_read(const char *name, const char *magic, void *payload, Size max_len, Size *len)
{
	/* one byte more than allowed, so that a file that is too long shows */
	Size		max_size = sizeof(ClockFileHeader) + max_len + 1;
	char		path[MAXPGPATH];
	char	   *buf;
	int			fd;
	ssize_t		size;
	const char *damage;

	snprintf(path, sizeof(path), CLOCK_DIR "/%s", name);
	fd = BasicOpenFile(path, O_RDONLY | PG_BINARY);
	if (fd < 0 && errno == ENOENT)
		return CLOCK_FILE_ABSENT;
	if (fd < 0)
	{
		ereport(LOG,
				(errcode_for_file_access(),
				 errmsg("could not open file \"%s\": %m", path)));
		return CLOCK_FILE_DAMAGED;
	}

	buf = palloc(max_size);
	size = read_all(fd, buf, max_size);
	damage = size < 0 ? strerror(errno) : find_damage(buf, size, magic, max_len);
	close(fd);
	if (damage)
		ereport(LOG,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("file \"%s\" cannot be used: %s", path, damage)));
	else
	{
		*len = size - sizeof(ClockFileHeader);
		memcpy(payload, buf + sizeof(ClockFileHeader), *len);
	}
	pfree(buf);
	return damage ? CLOCK_FILE_DAMAGED : CLOCK_FILE_OK;
}
