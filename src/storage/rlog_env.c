/*-------------------------------------------------------------------------
 *
 * rlog_env.c
 *		File operations of the real world, for RlogEnv.
 *
 *-------------------------------------------------------------------------
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "storage/rlog.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_MODE	0600
#define DIR_MODE	0700
#define ZERO_BYTES	(64 * 1024)

static int
posix_open(void *ctx, const char *path, bool create, bool writable, int *fd)
{
	int			flags = O_CLOEXEC | (writable ? O_RDWR : O_RDONLY);

	(void) ctx;
	if (create)
		flags |= O_CREAT | O_TRUNC;
	do
		*fd = open(path, flags, FILE_MODE);
	while (*fd < 0 && errno == EINTR);
	return *fd < 0 ? -errno : 0;
}

static int
posix_close(void *ctx, int fd)
{
	(void) ctx;
	return close(fd) == 0 ? 0 : -errno;
}

static int64_t
posix_pread(void *ctx, int fd, void *buf, size_t len, uint64_t offset)
{
	size_t		done = 0;

	(void) ctx;
	while (done < len)
	{
		ssize_t		n = pread(fd, (char *) buf + done, len - done, (off_t) (offset + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		done += (size_t) n;
	}
	return (int64_t) done;
}

static int
posix_pwrite(void *ctx, int fd, const void *buf, size_t len, uint64_t offset)
{
	size_t		done = 0;

	(void) ctx;
	while (done < len)
	{
		ssize_t		n = pwrite(fd, (const char *) buf + done, len - done,
							   (off_t) (offset + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -ENOSPC;
		done += (size_t) n;
	}
	return 0;
}

static int
posix_fdatasync(void *ctx, int fd)
{
	(void) ctx;
	/* an interrupted sync has promised nothing: no loop that hides a failure */
	return fdatasync(fd) == 0 ? 0 : -errno;
}

static int
posix_fsync_dir(void *ctx, const char *path)
{
	int			fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int			rc = 0;

	(void) ctx;
	if (fd < 0)
		return -errno;
	/* some file systems cannot sync a directory, and need not */
	if (fsync(fd) != 0 && errno != EINVAL && errno != EBADF)
		rc = -errno;
	close(fd);
	return rc;
}

static int
posix_rename(void *ctx, const char *from, const char *to)
{
	(void) ctx;
	return rename(from, to) == 0 ? 0 : -errno;
}

static int
posix_unlink(void *ctx, const char *path)
{
	(void) ctx;
	return unlink(path) == 0 ? 0 : -errno;
}

static int
posix_truncate(void *ctx, int fd, uint64_t size)
{
	(void) ctx;
	return ftruncate(fd, (off_t) size) == 0 ? 0 : -errno;
}

/*
 * Zeros are really written: blocks that are only reserved would have to be
 * marked as written by the first sync of a record, which costs a journal
 * transaction of the file system each time.
 */
static int
posix_allocate(void *ctx, int fd, uint64_t size)
{
	static const char zeros[ZERO_BYTES];
	struct stat st;
	uint64_t	at;

	if (fstat(fd, &st) != 0)
		return -errno;
	at = (uint64_t) st.st_size;
	while (at < size)
	{
		size_t		len = size - at < ZERO_BYTES ? (size_t) (size - at) : ZERO_BYTES;
		int			rc = posix_pwrite(ctx, fd, zeros, len, at);

		if (rc != 0)
			return rc;
		at += len;
	}
	return 0;
}

static int64_t
posix_size(void *ctx, int fd)
{
	struct stat st;

	(void) ctx;
	return fstat(fd, &st) == 0 ? (int64_t) st.st_size : -errno;
}

static int
posix_mkdir(void *ctx, const char *path)
{
	(void) ctx;
	return mkdir(path, DIR_MODE) == 0 ? 0 : -errno;
}

static int
posix_list(void *ctx, const char *path, void (*name) (void *arg, const char *name), void *arg)
{
	DIR		   *dir = opendir(path);
	struct dirent *entry;
	int			rc;

	(void) ctx;
	if (dir == NULL)
		return -errno;
	while (errno = 0, (entry = readdir(dir)) != NULL)
	{
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
			name(arg, entry->d_name);
	}
	rc = -errno;				/* a list that broke off would look like lost segments */
	closedir(dir);
	return rc;
}

const RlogEnv *
rlog_env_posix(void)
{
	static const RlogEnv env = {
		.open = posix_open,
		.close = posix_close,
		.pread = posix_pread,
		.pwrite = posix_pwrite,
		.fdatasync = posix_fdatasync,
		.fsync_dir = posix_fsync_dir,
		.rename = posix_rename,
		.unlink = posix_unlink,
		.truncate = posix_truncate,
		.allocate = posix_allocate,
		.size = posix_size,
		.mkdir = posix_mkdir,
		.list = posix_list,
	};

	return &env;
}
