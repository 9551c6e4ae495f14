/*-------------------------------------------------------------------------
 *
 * rlog_meta.c
 *		Reading and writing the metadata file. Layout: rlog_format.c.
 *
 * At every moment at least one copy on disk is whole and says either what was
 * acknowledged last or what is being written now; the copy that is not good is
 * always the one that is written first.
 *
 *-------------------------------------------------------------------------
 */
#include "storage/rlog_internal.h"

#include <errno.h>
#include <string.h>

int
meta_write(RlogFiles *files, const uint8_t *bytes, size_t len, int *copies_done)
{
	const RlogEnv *env = files->env;

	RLOG_ASSERT(len >= META_HEADER_BYTES && len <= META_COPY_BYTES);
	while (*copies_done < 2)
	{
		int			copy = *copies_done == 0 ? files->first_copy : 1 - files->first_copy;
		int			rc;

		rc = env->pwrite(env->ctx, files->meta_fd, bytes, len, META_COPY_OFFSET(copy));
		if (rc == 0)
			rc = file_sync(files, files->meta_fd);
		if (rc != 0)
			return rc;
		files->mark_dirty = false;
		(*copies_done)++;
	}
	return 0;
}

/* Not synced: it tells what is true already, and need not be there. */
int
mark_write(RlogFiles *files, const RlogMark *mark)
{
	const RlogEnv *env = files->env;
	uint8_t		bytes[MARK_BYTES];
	int			rc;

	mark_encode(mark, bytes);
	rc = env->pwrite(env->ctx, files->meta_fd, bytes, sizeof(bytes), 0);
	if (rc == 0)
		files->mark_dirty = true;
	return is_no_space(rc) ? 0 : rc;
}

static RlogStatus
read_all(RlogFiles *files, uint8_t *bytes, size_t size, size_t *got, char *error)
{
	const RlogEnv *env = files->env;

	memset(bytes, 0, size);
	*got = 0;
	/* by sectors once that fails, so that one bad sector costs one copy only */
	for (size_t at = 0; at < size;)
	{
		int64_t		n = env->pread(env->ctx, files->meta_fd, bytes + at, size - at, at);

		if (n == -EIO)
		{
			size_t		len = size - at < META_SECTOR ? size - at : META_SECTOR;

			n = env->pread(env->ctx, files->meta_fd, bytes + at, len, at);
			if (n == -EIO)
			{
				memset(bytes + at, 0, len);
				n = (int64_t) len;
			}
		}
		if (n < 0)
		{
			fail(error, "could not read metadata of the log in \"%s\": %s", files->dir,
				 strerror((int) -n));
			return RLOG_IO_ERROR;
		}
		if (n == 0)
			break;
		at += (size_t) n;
		*got = at;
	}
	return RLOG_OK;
}

RlogStatus
meta_read(RlogFiles *files, RlogMeta *meta, uint8_t **conf, RlogMark *mark, bool *has_mark,
		  char *error)
{
	uint8_t    *bytes = malloc(META_FILE_BYTES);
	RlogMeta	found;
	uint64_t	seqs[2] = {0, 0};
	uint64_t	best = 0;
	size_t		best_at = 0;
	size_t		got;
	RlogStatus	status;

	if (bytes == NULL)
		return RLOG_NO_MEMORY;
	status = read_all(files, bytes, META_FILE_BYTES, &got, error);
	if (status != RLOG_OK)
	{
		free(bytes);
		return status;
	}
	*has_mark = mark_decode(bytes, mark);
	for (size_t at = 0; at < META_FILE_BYTES; at += META_SECTOR)
	{
		if (!meta_decode(bytes + at, META_FILE_BYTES - at, &found))
			continue;
		for (int copy = 0; copy < 2; copy++)
		{
			if (at == META_COPY_OFFSET(copy))
				seqs[copy] = found.meta_seq;
		}
		if (found.meta_seq > best)
		{
			best = found.meta_seq;
			best_at = at;
			*meta = found;
		}
	}
	*conf = NULL;
	if (best == 0)
	{
		fail(error, "both copies of the metadata of the log in \"%s\" are damaged", files->dir);
		status = RLOG_DAMAGED;
	}
	else if (meta->conf_len > 0)
	{
		*conf = malloc(meta->conf_len);
		if (*conf == NULL)
			status = RLOG_NO_MEMORY;
		else
			memcpy(*conf, bytes + best_at + META_HEADER_BYTES, meta->conf_len);
	}
	files->first_copy = seqs[0] <= seqs[1] ? 0 : 1;
	free(bytes);
	return status;
}
