/*-------------------------------------------------------------------------
 *
 * rlog_reader.c
 *		Reading the log while somebody else, perhaps another process, writes it.
 *
 * Nothing is shared but the files, and no lock is taken. It works because of
 * what the caller promises (index <= limit, and limit is durable) and of what
 * the writer's rounds of I/O do in strict order (rlog_io.c):
 *
 *	- A durable record is never written over while it is part of the log.
 *	- Steps that were queued before a record was are done when it is durable. So
 *	  when the record at limit can be asked for, files of segments that were cut
 *	  off before are out of the directory, and among the segments there the one
 *	  with the highest number whose first index is not above the wanted one has it.
 *	- A file keeps its bytes only as long as it has its name; then it may be
 *	  filled with other records. Those carry another segment number in their
 *	  checksum: what is read from a file that is no longer ours is no record, and
 *	  the reader looks for the right segment anew.
 *
 * So the directory is listed anew whenever another segment is needed, and bytes
 * that were read ahead when they were not known to be durable are read again.
 *
 * State belongs to the reader; a crash leaves nothing behind.
 *
 *-------------------------------------------------------------------------
 */
#include "storage/rlog_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#define KEEP_PAYLOAD_BYTES	(4 * 1024 * 1024)
#define FIND_ATTEMPTS 5			/* segments may be recycled under our eyes */
#define TAIL_WINDOW_BYTES 8192	/* nobody wants more than the newest entries */
#define TAIL_ENTRIES 32

struct RlogReader
{
	RlogFiles	files;			/* env and dir only */
	SegmentList list;
	Scan		scan;
	bool		is_open;		/* scan is on a segment */
	uint64_t	at;				/* there: offset of next_index */
	uint64_t	next_index;
	uint32_t	generation;		/* of the record before it */
	uint64_t	fresh_limit;	/* what is in the window was durable up to here */
	uint8_t    *payload;
	size_t		payload_size;
};

RlogStatus
rlog_reader_open(const RlogEnv *env, const char *dir, RlogReader **reader, char *error)
{
	RlogReader *r = calloc(1, sizeof(RlogReader));
	char		path[PATH_BYTES];
	int			fd;
	int			rc;

	*reader = NULL;
	if (r == NULL)
		return RLOG_NO_MEMORY;
	r->files.env = env;
	snprintf(r->files.dir, sizeof(r->files.dir), "%s", dir);
	file_path(&r->files, "meta", path);
	rc = env->open(env->ctx, path, false, false, &fd);
	if (rc != 0)
	{
		free(r);
		fail(error, "could not open the log in \"%s\": %s", dir, strerror(-rc));
		return rc == -ENOENT ? RLOG_NOT_FOUND : RLOG_IO_ERROR;
	}
	env->close(env->ctx, fd);
	*reader = r;
	return RLOG_OK;
}

static void
close_segment(RlogReader *r)
{
	if (!r->is_open)
		return;
	r->files.env->close(r->files.env->ctx, r->scan.fd);
	scan_free(&r->scan);
	r->is_open = false;
}

void
rlog_reader_close(RlogReader *r)
{
	close_segment(r);
	free(r->list.seqs);
	free(r->payload);
	free(r);
}

void
rlog_reader_forget(RlogReader *r)
{
	close_segment(r);
}

/* 1: open, and it may have the index; 0: it is another one, or gone; -errno */
static int
try_segment(RlogReader *r, uint64_t seq, uint64_t index)
{
	const RlogEnv *env = r->files.env;
	SegmentHeader header;
	const uint8_t *bytes;
	char		path[PATH_BYTES];
	int64_t		size;
	int			fd;
	int			rc;

	segment_path(&r->files, seq, path);
	rc = env->open(env->ctx, path, false, false, &fd);
	if (rc != 0)
		return rc == -ENOENT ? 0 : rc;
	size = env->size(env->ctx, fd);
	if (size < 0 || !scan_init(&r->scan, env, fd, seq, (uint64_t) size))
	{
		env->close(env->ctx, fd);
		return size < 0 ? (int) size : -ENOMEM;
	}
	r->is_open = true;
	rc = scan_bytes(&r->scan, 0, SEGMENT_HEADER_BYTES, &bytes);
	if (rc == 0 && bytes != NULL && segment_header_decode(bytes, &header) &&
		header.seq == seq && header.first_index <= index)
	{
		r->at = SEGMENT_HEADER_BYTES;
		r->next_index = header.first_index;
		r->generation = header.generation;
		return 1;
	}
	close_segment(r);
	return rc;
}

/* Open the segment that has this index. */
static RlogStatus
find_segment(RlogReader *r, uint64_t index, uint64_t limit, char *error)
{
	int			rc = 0;

	close_segment(r);
	for (int attempt = 0; attempt < FIND_ATTEMPTS; attempt++)
	{
		rc = segment_list(&r->files, &r->list);
		if (rc == 0 && r->list.out_of_memory)
			rc = -ENOMEM;
		for (size_t i = r->list.count; rc == 0 && i > 0; i--)
		{
			rc = try_segment(r, r->list.seqs[i - 1], index);
			if (rc == 1)
			{
				r->fresh_limit = limit;
				return RLOG_OK;
			}
		}
		if (rc < 0)
			break;
	}
	if (rc == -ENOMEM)
		return RLOG_NO_MEMORY;
	if (rc < 0)
	{
		fail(error, "could not read the log in \"%s\": %s", r->files.dir, strerror(-rc));
		return RLOG_IO_ERROR;
	}
	return RLOG_COMPACTED;
}

/*
 * Go to the record at index in the open segment. 1: header is its; 0: it is
 * not in here (any more); -errno.
 */
static int
walk_to(RlogReader *r, uint64_t index, RecordHeader *header)
{
	for (;;)
	{
		int			rc;

		if (r->scan.size - r->at < RECORD_HEADER_BYTES)
			return 0;
		rc = scan_header(&r->scan, r->at, header);
		if (rc != 1)
			return rc;
		if (header->kind != RECORD_ENTRY || header->index != r->next_index)
			return 0;

		/*
		 * Older than the record before it: it was cut off, and what should lie
		 * here now never arrived (a write that the drive lost or misdirected).
		 */
		if (header->generation < r->generation)
			return 0;
		r->generation = header->generation;
		if (header->index == index)
			return 1;
		r->at += record_bytes(header->len);
		r->next_index++;
	}
}

static RlogStatus
load_payload(RlogReader *r, const RecordHeader *header, int *found)
{
	/* one huge entry is no reason to be huge for ever */
	if (r->payload_size > KEEP_PAYLOAD_BYTES && header->len < r->payload_size / 4)
	{
		free(r->payload);
		r->payload = NULL;
		r->payload_size = 0;
	}
	if (header->len > r->payload_size)
	{
		uint8_t    *payload = realloc(r->payload, header->len);

		if (payload == NULL)
			return RLOG_NO_MEMORY;
		r->payload = payload;
		r->payload_size = header->len;
	}
	*found = scan_payload(&r->scan, r->at, header, r->payload);
	return RLOG_OK;
}

RlogStatus
rlog_reader_get(RlogReader *r, uint64_t index, uint64_t limit, RlogRecord *rec, char *error)
{
	RecordHeader header;
	RlogStatus	status;
	int			rc = 0;

	if (error != NULL)
		error[0] = '\0';
	if (index == 0 || index > limit)
		return RLOG_END;
	for (int attempt = 0; attempt < FIND_ATTEMPTS; attempt++)
	{
		/* the first attempt goes on where the last call ended, if it can */
		if (attempt > 0 || !r->is_open || r->next_index > index)
		{
			status = find_segment(r, index, limit, error);
			if (status != RLOG_OK)
				return status;
		}
		r->scan.window = limit - index < TAIL_ENTRIES ? TAIL_WINDOW_BYTES : SCAN_BUFFER_BYTES;
		if (index > r->fresh_limit)
		{
			scan_forget(&r->scan);
			r->fresh_limit = limit;
		}
		rc = walk_to(r, index, &header);
		if (rc == 1)
		{
			status = load_payload(r, &header, &rc);
			if (status != RLOG_OK)
				return status;
		}
		if (rc == 1)
			break;
		if (rc == -ENOMEM)
			return RLOG_NO_MEMORY;
	}
	if (rc < 0)
	{
		close_segment(r);
		fail(error, "could not read entry %" PRIu64 " of the log in \"%s\": %s", index,
			 r->files.dir, strerror(-rc));
		return RLOG_IO_ERROR;
	}
	if (rc == 0)
	{
		close_segment(r);
		fail(error, "entry %" PRIu64 " of the log in \"%s\" cannot be read, it is damaged",
			 index, r->files.dir);
		return RLOG_DAMAGED;
	}
	memset(rec, 0, sizeof(*rec));
	rec->index = index;
	rec->term = header.term;
	rec->type = header.type;
	memcpy(rec->stamp, header.stamp, 16);
	memcpy(rec->token, header.token, 16);
	rec->data = header.len > 0 ? r->payload : NULL;
	rec->len = header.len;
	r->at += record_bytes(header.len);
	r->next_index = index + 1;
	return RLOG_OK;
}
