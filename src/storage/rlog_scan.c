/*-------------------------------------------------------------------------
 *
 * rlog_scan.c
 *		Reading records out of a segment file, through a window.
 *
 *-------------------------------------------------------------------------
 */
#include "storage/rlog_internal.h"

#include <errno.h>
#include <string.h>

#include "storage/crc32c.h"

bool
scan_init(Scan *scan, const RlogEnv *env, int fd, uint64_t seq, uint64_t size)
{
	memset(scan, 0, sizeof(*scan));
	scan->env = env;
	scan->fd = fd;
	scan->seq = seq;
	scan->size = size;
	scan->window = SCAN_BUFFER_BYTES;
	scan->buffer = malloc(SCAN_BUFFER_BYTES);
	return scan->buffer != NULL;
}

void
scan_free(Scan *scan)
{
	free(scan->buffer);
	scan->buffer = NULL;
}

/* What was read may have changed. */
void
scan_forget(Scan *scan)
{
	scan->buffer_len = 0;
}

/* An unreadable sector reads as zeros, which are no record. */
static int64_t
read_some(Scan *scan, uint64_t offset, uint8_t *to, size_t len)
{
	int64_t		n = scan->env->pread(scan->env->ctx, scan->fd, to, len, offset);

	if (n != -EIO)
		return n;
	if (len > META_SECTOR)
		len = META_SECTOR - offset % META_SECTOR;
	n = scan->env->pread(scan->env->ctx, scan->fd, to, len, offset);
	if (n != -EIO)
		return n;
	scan->unreadable = true;
	memset(to, 0, len);
	return (int64_t) len;
}

static int
fill(Scan *scan, uint64_t offset, size_t need)
{
	size_t		want = scan->window > need ? scan->window : need;

	if (want > scan->size - offset)
		want = (size_t) (scan->size - offset);
	scan->buffer_start = offset;
	scan->buffer_len = 0;
	while (scan->buffer_len < need)
	{
		int64_t		n = read_some(scan, offset + scan->buffer_len,
								  scan->buffer + scan->buffer_len, want - scan->buffer_len);

		if (n < 0)
		{
			scan->buffer_len = 0;
			return (int) n;
		}
		if (n == 0)
			break;
		scan->buffer_len += (size_t) n;
	}
	return 0;
}

int
scan_bytes(Scan *scan, uint64_t offset, size_t len, const uint8_t **bytes)
{
	*bytes = NULL;
	RLOG_ASSERT(len <= SCAN_BUFFER_BYTES);
	if (offset > scan->size || len > scan->size - offset)
		return 0;
	if (offset < scan->buffer_start ||
		offset + len > scan->buffer_start + scan->buffer_len)
	{
		int			rc = fill(scan, offset, len);

		if (rc < 0)
			return rc;
		if (scan->buffer_len < len)
			return 0;
	}
	*bytes = scan->buffer + (offset - scan->buffer_start);
	return 0;
}

int
scan_header(Scan *scan, uint64_t offset, RecordHeader *header)
{
	const uint8_t *bytes;
	RlogPosition at = {scan->seq, offset};
	int			rc = scan_bytes(scan, offset, RECORD_HEADER_BYTES, &bytes);

	if (rc < 0)
		return rc;
	if (bytes == NULL || !record_header_decode(bytes, at, header))
		return 0;
	return record_bytes(header->len) <= scan->size - offset;
}

int
scan_payload(Scan *scan, uint64_t offset, const RecordHeader *header, uint8_t *copy)
{
	uint32_t	crc = pgq_crc32c_start();
	uint64_t	at = offset + RECORD_HEADER_BYTES;
	uint64_t	end = offset + record_bytes(header->len);
	uint64_t	left = header->len;

	while (at < end)
	{
		size_t		len = end - at < SCAN_BUFFER_BYTES ? (size_t) (end - at) : SCAN_BUFFER_BYTES;
		const uint8_t *bytes;
		int			rc;

		/* what the window has already, if anything */
		if (at >= scan->buffer_start && at < scan->buffer_start + scan->buffer_len &&
			len > scan->buffer_start + scan->buffer_len - at)
			len = (size_t) (scan->buffer_start + scan->buffer_len - at);
		rc = scan_bytes(scan, at, len, &bytes);
		if (rc < 0)
			return rc;
		if (bytes == NULL)
			return 0;
		crc = pgq_crc32c_add(crc, bytes, len);
		if (copy != NULL && left > 0)
		{
			size_t		part = left < len ? (size_t) left : len;

			memcpy(copy, bytes, part);
			copy += part;
			left -= part;
		}
		at += len;
	}
	return pgq_crc32c_finish(crc) == header->payload_crc;
}
