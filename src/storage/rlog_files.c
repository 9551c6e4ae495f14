/*-------------------------------------------------------------------------
 *
 * rlog_files.c
 *		Files of the log: names, the spare segment, making and dropping
 *		segments. Runs on the pool thread, or on the loop while no round is out.
 *
 * Every function can be called again after it failed for want of space and
 * goes on where it was.
 *
 *-------------------------------------------------------------------------
 */
#include "storage/rlog_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <string.h>

void
fail(char *error, const char *format,...)
{
	va_list		args;

	if (error == NULL)
		return;
	va_start(args, format);
	vsnprintf(error, RLOG_ERROR_LEN, format, args);
	va_end(args);
}

void
file_path(const RlogFiles *files, const char *name, char *path)
{
	snprintf(path, PATH_BYTES, "%s/%s", files->dir, name);
}

void
segment_path(const RlogFiles *files, uint64_t seq, char *path)
{
	snprintf(path, PATH_BYTES, "%s/log-%016" PRIx64, files->dir, seq);
}

bool
segment_name_parse(const char *name, uint64_t *seq)
{
	char	   *end;

	if (strncmp(name, "log-", 4) != 0 || strlen(name) != 4 + 16 ||
		strspn(name + 4, "0123456789abcdef") != 16)
		return false;
	*seq = strtoull(name + 4, &end, 16);
	return *end == '\0' && *seq != 0;
}

bool
is_no_space(int rc)
{
	return rc == -ENOSPC || rc == -EDQUOT;
}

int
file_sync(RlogFiles *files, int fd)
{
	int			rc = files->env->fdatasync(files->env->ctx, fd);

	return is_no_space(rc) ? SYNC_HAD_NO_SPACE : rc;
}

int
segment_open(RlogFiles *files, Segment *segment)
{
	char		path[PATH_BYTES];

	if (segment->fd >= 0)
		return 0;
	segment_path(files, segment->seq, path);
	return files->env->open(files->env->ctx, path, false, true, &segment->fd);
}

void
segment_close(RlogFiles *files, Segment *segment)
{
	if (segment->fd >= 0)
		files->env->close(files->env->ctx, segment->fd);
	segment->fd = -1;
	if (files->active == segment)
		files->active = NULL;
}

/*
 * The spare grows by slices that are synced one by one: a batch that shares its
 * round with one waits for a megabyte, not for a segment.
 */
int
spare_work(RlogFiles *files, bool all)
{
	const RlogEnv *env = files->env;
	char		temporary[PATH_BYTES];
	char		path[PATH_BYTES];
	int			rc;

	file_path(files, "spare.tmp", temporary);
	file_path(files, "spare", path);
	while (!files->spare_ready)
	{
		if (files->spare_fd < 0)
		{
			rc = env->open(env->ctx, temporary, true, true, &files->spare_fd);
			if (rc != 0)
			{
				files->spare_fd = -1;
				return rc;
			}
			files->spare_done = 0;
		}
		if (files->spare_done < files->segment_bytes)
		{
			uint64_t	next = files->spare_done + SPARE_SLICE_BYTES;

			if (next > files->segment_bytes)
				next = files->segment_bytes;
			rc = env->allocate(env->ctx, files->spare_fd, next);
			if (rc != 0)
				return rc;
			rc = env->fdatasync(env->ctx, files->spare_fd);
			if (rc != 0)
				return rc;
			files->spare_done = next;
		}
		if (files->spare_done >= files->segment_bytes)
		{
			env->close(env->ctx, files->spare_fd);
			files->spare_fd = -1;
			rc = env->rename(env->ctx, temporary, path);
			if (rc != 0)
				return rc;
			files->spare_ready = true;
		}
		if (!all)
			break;
	}
	return 0;
}

/* A file of a size of its own, for a record that no ordinary segment holds. */
static int
create_odd_file(RlogFiles *files, Segment *segment, const char *path)
{
	const RlogEnv *env = files->env;
	char		temporary[PATH_BYTES];
	int			fd;
	int			rc;

	file_path(files, "new.tmp", temporary);
	rc = env->open(env->ctx, temporary, true, true, &fd);
	if (rc != 0)
		return rc;
	rc = env->allocate(env->ctx, fd, segment->size);
	if (rc == 0)
		rc = env->fdatasync(env->ctx, fd);
	env->close(env->ctx, fd);
	if (is_no_space(rc))
		(void) env->unlink(env->ctx, temporary);	/* do not sit on what there is */
	if (rc != 0)
		return rc;
	return env->rename(env->ctx, temporary, path);
}

int
segment_create_file(RlogFiles *files, Segment *segment)
{
	const RlogEnv *env = files->env;
	char		spare[PATH_BYTES];
	char		path[PATH_BYTES];
	int			rc;

	segment_path(files, segment->seq, path);
	if (segment->size == files->segment_bytes)
	{
		rc = spare_work(files, true);
		if (rc != 0)
			return rc;
		file_path(files, "spare", spare);
		rc = env->rename(env->ctx, spare, path);
		if (rc == 0)
			files->spare_ready = false;
	}
	else
		rc = create_odd_file(files, segment, path);
	if (rc != 0)
		return rc;
	/* before anything in it is acknowledged, its name must be on disk */
	return env->fsync_dir(env->ctx, files->dir);
}

/*
 * The metadata says already that this one is garbage. It becomes the spare, or
 * goes. No directory sync: should it come back, it is garbage still.
 */
int
segment_drop_file(RlogFiles *files, uint64_t seq, uint64_t size)
{
	const RlogEnv *env = files->env;
	char		path[PATH_BYTES];
	char		spare[PATH_BYTES];
	int			rc;

	segment_path(files, seq, path);
	if (files->spare_ready || size != files->segment_bytes)
		rc = env->unlink(env->ctx, path);
	else
	{
		if (files->spare_fd >= 0)
		{
			env->close(env->ctx, files->spare_fd);
			files->spare_fd = -1;
			file_path(files, "spare.tmp", spare);
			rc = env->unlink(env->ctx, spare);
			if (rc != 0)
				return rc;
		}
		file_path(files, "spare", spare);
		rc = env->rename(env->ctx, path, spare);
		if (rc == 0)
			files->spare_ready = true;
	}
	return rc == -ENOENT ? 0 : rc;
}
