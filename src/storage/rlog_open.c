/*-------------------------------------------------------------------------
 *
 * rlog_open.c
 *		Making a log, opening one, and taking what is good from a damaged one.
 *
 * Opening follows the chain of valid records through the segments, from the
 * first index that the metadata names. Where the chain ends, the rules at the
 * top of rlog_format.c decide whether something acknowledged lay there: then the
 * log is damaged; otherwise it was torn, and is cut there.
 *
 * The cut is written (a new generation) even where nothing was torn, before
 * anything else can be done with the log: what lies behind it, whatever it is,
 * can never be taken for records again. All of this can be interrupted at any
 * point and begun again; until the cut is in the metadata nothing on disk has
 * changed but that garbage is gone.
 *
 *-------------------------------------------------------------------------
 */
#include "storage/rlog_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

/* Where the chain ended, and why. */
typedef struct Recovery
{
	Rlog	   *log;
	SegmentList list;
	RlogMark	mark;
	bool		has_mark;		/* and it is of the present generation */
	RlogPosition end;
	const char *evidence;		/* NULL: torn at worst; else why this is damage */
	uint64_t	known_index;	/* highest index that is known to have been there */
	bool		torn;			/* there was the beginning of something */
	char	   *error;
} Recovery;

/* ---------- create ---------- */

static int
sync_parent(const RlogFiles *files)
{
	char		parent[PATH_BYTES];
	char	   *slash;

	snprintf(parent, sizeof(parent), "%s", files->dir);
	slash = strrchr(parent, '/');
	if (slash == NULL)
		snprintf(parent, sizeof(parent), ".");
	else if (slash == parent)
		parent[1] = '\0';
	else
		*slash = '\0';
	return files->env->fsync_dir(files->env->ctx, parent);
}

static int
create_meta_file(RlogFiles *files, const RlogMeta *meta)
{
	const RlogEnv *env = files->env;
	uint8_t		bytes[META_HEADER_BYTES];
	char		temporary[PATH_BYTES];
	char		path[PATH_BYTES];
	int			copies_done = 0;
	int			rc;

	file_path(files, "meta.tmp", temporary);
	file_path(files, "meta", path);
	meta_encode(meta, NULL, bytes);
	rc = env->open(env->ctx, temporary, true, true, &files->meta_fd);
	if (rc != 0)
		return rc;
	rc = env->allocate(env->ctx, files->meta_fd, META_FILE_BYTES);
	if (rc == 0)
		rc = meta_write(files, bytes, sizeof(bytes), &copies_done);
	env->close(env->ctx, files->meta_fd);
	files->meta_fd = -1;
	if (rc == 0)
		rc = env->rename(env->ctx, temporary, path);
	if (rc == 0)
		rc = env->fsync_dir(env->ctx, files->dir);
	if (rc == 0)
		rc = sync_parent(files);
	return rc;
}

RlogStatus
rlog_create(const RlogEnv *env, const char *dir, const RlogOptions *options,
			const RlogIdentity *identity, char *error)
{
	Rlog	   *log = rlog_new(env, dir, options);
	RlogMeta	meta = {
		.meta_seq = 1,
		.identity = *identity,
		.first_index = 1,
		.first_seq = 1,
		.cut_next_seq = 1,
		.generation = 1,
	};
	char		path[PATH_BYTES];
	int			fd;
	int			rc;

	if (error != NULL)
		error[0] = '\0';
	if (log == NULL)
		return RLOG_NO_MEMORY;
	file_path(&log->files, "meta", path);
	rc = env->open(env->ctx, path, false, false, &fd);
	if (rc == 0)
	{
		env->close(env->ctx, fd);
		rlog_close(log);
		fail(error, "there is a log in \"%s\" already", dir);
		return RLOG_EXISTS;
	}
	rc = env->mkdir(env->ctx, dir);
	if (rc == 0 || rc == -EEXIST)
		rc = create_meta_file(&log->files, &meta);
	rlog_close(log);
	if (rc == 0)
		return RLOG_OK;
	fail(error, "could not create the log in \"%s\": %s", dir,
		 rc == SYNC_HAD_NO_SPACE ? strerror(ENOSPC) : strerror(-rc));
	return is_no_space(rc) || rc == SYNC_HAD_NO_SPACE ? RLOG_NO_SPACE : RLOG_IO_ERROR;
}

/* ---------- following the chain ---------- */

static RlogStatus
io_failed(Recovery *r, int rc, const char *what)
{
	fail(r->error, "could not %s the log in \"%s\": %s", what, r->log->files.dir,
		 rc == SYNC_HAD_NO_SPACE ? strerror(ENOSPC) : strerror(-rc));
	return RLOG_IO_ERROR;
}

static bool
is_garbage(const RlogMeta *meta, uint64_t seq)
{
	return seq < meta->first_seq || (seq > meta->cut.seq && seq < meta->cut_next_seq);
}

static RlogStatus
remove_leftovers(Recovery *r)
{
	static const char *const names[] = {"meta.tmp", "spare.tmp", "new.tmp"};
	RlogFiles  *files = &r->log->files;
	const RlogEnv *env = files->env;
	char		path[PATH_BYTES];
	size_t		kept = 0;
	int			rc;

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
	{
		file_path(files, names[i], path);
		rc = env->unlink(env->ctx, path);
		if (rc != 0 && rc != -ENOENT)
			return io_failed(r, rc, "remove leftovers of");
	}
	rc = segment_list(files, &r->list);
	if (rc != 0)
		return io_failed(r, rc, "list the files of");
	if (r->list.out_of_memory)
		return RLOG_NO_MEMORY;
	for (size_t i = 0; i < r->list.count; i++)
	{
		uint64_t	seq = r->list.seqs[i];

		if (seq >= r->log->next_seq)
			r->log->next_seq = seq + 1;
		if (!is_garbage(&r->log->meta, seq))
		{
			r->list.seqs[kept++] = seq;
			continue;
		}
		segment_path(files, seq, path);
		rc = env->unlink(env->ctx, path);
		if (rc != 0 && rc != -ENOENT)
			return io_failed(r, rc, "remove a segment of");
	}
	r->list.count = kept;
	return RLOG_OK;
}

/* A spare of another size, after a change of settings, is no use. */
static RlogStatus
look_at_spare(Recovery *r)
{
	RlogFiles  *files = &r->log->files;
	const RlogEnv *env = files->env;
	char		path[PATH_BYTES];
	int64_t		size;
	int			fd;
	int			rc;

	r->log->spare_wanted = true;
	if (!r->list.has_spare)
		return RLOG_OK;
	file_path(files, "spare", path);
	rc = env->open(env->ctx, path, false, false, &fd);
	if (rc != 0)
		return io_failed(r, rc, "open a spare segment of");
	size = env->size(env->ctx, fd);
	env->close(env->ctx, fd);
	if (size == (int64_t) files->segment_bytes)
	{
		files->spare_ready = true;
		r->log->spare_wanted = false;
		return RLOG_OK;
	}
	rc = env->unlink(env->ctx, path);
	return rc == 0 ? RLOG_OK : io_failed(r, rc, "remove a spare segment of");
}

/* Is this the next link of the chain, and whole? -errno or yes or no. */
static int
is_next_record(Recovery *r, Scan *scan, uint64_t at, RecordHeader *header)
{
	Rlog	   *log = r->log;
	const RlogMeta *meta = &log->meta;
	RlogPosition place = {scan->seq, at};
	int			rc = scan_header(scan, at, header);

	if (rc != 1)
		return rc;
	if (header->generation > meta->generation ||
		(!position_before(place, meta->cut) && header->generation != meta->generation))
		return 0;
	if (header->generation == meta->generation && header->kind == RECORD_ENTRY)
		r->torn = true;			/* unless it turns out to be whole */
	if (header->index != log->last_index + 1)
		return 0;
	if (header->kind == RECORD_END)
		return header->len == 0;
	if (header->term < log->last_term || header->term == 0)
		return 0;
	return scan_payload(scan, at, header, NULL);
}

/*
 * Look at all that lies behind the end of the chain in this segment for proof
 * that the end was acknowledged (rule 3), and for the highest index of it.
 */
static int
search_behind(Recovery *r, Scan *scan, uint64_t end)
{
	for (uint64_t at = end; at + RECORD_HEADER_BYTES <= scan->size; at += 8)
	{
		RecordHeader header;
		int			rc = scan_header(scan, at, &header);

		if (rc < 0)
			return rc;
		if (rc == 0 || header.generation != r->log->meta.generation)
			continue;
		r->torn = true;
		if (header.batch_start <= end)
			continue;
		if (r->evidence == NULL)
			r->evidence = "records that were written after it was acknowledged follow";
		if (header.index > r->known_index)
			r->known_index = header.index;
	}
	return 0;
}

typedef enum Link
{
	LINK_GOES_ON,				/* the segment is full: see the next one */
	LINK_ENDS,					/* the chain ends in it */
	LINK_EMPTY,					/* no valid header: nothing was written to it yet */
	LINK_FAILED
} Link;

static Link
follow_records(Recovery *r, Segment *segment, Scan *scan, RlogStatus *status)
{
	Rlog	   *log = r->log;
	uint64_t	at = SEGMENT_HEADER_BYTES;

	for (;;)
	{
		RecordHeader header;
		int			rc;

		r->end = (RlogPosition) {segment->seq, at};
		segment->end = at;
		if (segment->size - at < RECORD_HEADER_BYTES)
			return LINK_GOES_ON;
		rc = is_next_record(r, scan, at, &header);
		if (rc < 0)
		{
			*status = io_failed(r, rc, "read");
			return LINK_FAILED;
		}
		if (rc == 0)
			break;
		r->torn = false;
		if (header.kind == RECORD_END)
			return LINK_GOES_ON;
		if (!rlog_note_record(log, segment, at, at + record_bytes(header.len), header.index,
							  header.term, header.type))
		{
			*status = RLOG_NO_MEMORY;
			return LINK_FAILED;
		}
		at += record_bytes(header.len);
	}
	if (scan->unreadable)
		r->evidence = "the disk cannot read what lies there";
	if (search_behind(r, scan, at) < 0)
	{
		*status = io_failed(r, -EIO, "read");
		return LINK_FAILED;
	}
	return LINK_ENDS;
}

static Link
follow_segment(Recovery *r, uint64_t seq, RlogStatus *status)
{
	Rlog	   *log = r->log;
	const RlogEnv *env = log->files.env;
	SegmentHeader header;
	Segment    *segment;
	const uint8_t *bytes;
	char		path[PATH_BYTES];
	int64_t		size;
	Scan		scan;
	Link		link;
	int			fd;
	int			rc;

	segment_path(&log->files, seq, path);
	rc = env->open(env->ctx, path, false, false, &fd);
	if (rc != 0)
	{
		*status = io_failed(r, rc, "open a segment of");
		return LINK_FAILED;
	}
	size = env->size(env->ctx, fd);
	if (size < 0 || !scan_init(&scan, env, fd, seq, (uint64_t) size))
	{
		env->close(env->ctx, fd);
		*status = size < 0 ? io_failed(r, (int) size, "read") : RLOG_NO_MEMORY;
		return LINK_FAILED;
	}
	link = LINK_EMPTY;
	rc = scan_bytes(&scan, 0, SEGMENT_HEADER_BYTES, &bytes);
	if (rc == 0 && bytes != NULL && segment_header_decode(bytes, &header) &&
		header.version == RLOG_FORMAT_VERSION && header.seq == seq &&
		memcmp(header.instance_id, log->files.instance_id, 16) == 0 &&
		header.first_index == log->last_index + 1 && header.prev_term == log->last_term)
	{
		segment = calloc(1, sizeof(Segment));
		if (segment == NULL || !rlog_add_segment(log, segment))
		{
			free(segment);
			*status = RLOG_NO_MEMORY;
			link = LINK_FAILED;
		}
		else
		{
			segment->fd = -1;
			segment->seq = seq;
			segment->first_index = header.first_index;
			segment->prev_term = header.prev_term;
			segment->generation = header.generation;
			segment->size = header.size < (uint64_t) size ? header.size : (uint64_t) size;
			scan.size = segment->size;
			scan_forget(&scan);
			link = follow_records(r, segment, &scan, status);
		}
	}
	else if (rc == 0 && bytes != NULL && segment_header_decode(bytes, &header) &&
			 header.version == RLOG_FORMAT_VERSION && header.seq == seq &&
			 memcmp(header.instance_id, log->files.instance_id, 16) == 0)
	{
		/* a header is written after all that lies before it was synced */
		r->evidence = "a segment after it begins with another index";
		if (header.first_index > 0 && header.first_index - 1 > r->known_index)
			r->known_index = header.first_index - 1;
	}
	else if (scan.unreadable)
		r->evidence = "the disk cannot read the beginning of a segment";
	else if (search_behind(r, &scan, SEGMENT_HEADER_BYTES) < 0)
	{
		*status = io_failed(r, -EIO, "read");
		link = LINK_FAILED;
	}
	scan_free(&scan);
	env->close(env->ctx, fd);
	return link;
}

/* Rules 1, 2, 4 and 5; follow_records has seen to 3. */
static void
judge_end(Recovery *r, bool more_segments)
{
	const RlogMeta *meta = &r->log->meta;
	uint64_t	next = r->log->last_index + 1;

	if (position_before(r->end, meta->cut) && meta->cut.seq >= meta->first_seq)
		r->evidence = "it was there when the metadata was written";
	else if (r->has_mark && position_before(r->end, r->mark.position))
		r->evidence = "the mark says that it was durable";
	else if (more_segments)
		r->evidence = "there is a segment after it";
	else if (meta->commit >= next || (r->has_mark && r->mark.commit >= next))
		r->evidence = "it was committed";
}

static void
note_known_index(Recovery *r)
{
	const RlogMeta *meta = &r->log->meta;

	if (meta->cut.seq >= meta->first_seq && meta->cut_index > r->known_index)
		r->known_index = meta->cut_index;
	if (meta->commit > r->known_index)
		r->known_index = meta->commit;
	if (r->has_mark && r->mark.index > r->known_index)
		r->known_index = r->mark.index;
	if (r->has_mark && r->mark.commit > r->known_index)
		r->known_index = r->mark.commit;
}

/* The highest index that a segment behind the damage says anything about. */
static void
look_into_lost_segment(Recovery *r, uint64_t seq)
{
	Rlog	   *log = r->log;
	const RlogEnv *env = log->files.env;
	char		path[PATH_BYTES];
	int64_t		size;
	Scan		scan;
	int			fd;

	segment_path(&log->files, seq, path);
	if (env->open(env->ctx, path, false, false, &fd) != 0)
		return;
	size = env->size(env->ctx, fd);
	if (size > 0 && scan_init(&scan, env, fd, seq, (uint64_t) size))
	{
		for (uint64_t at = SEGMENT_HEADER_BYTES; at + RECORD_HEADER_BYTES <= scan.size;)
		{
			RecordHeader header;
			int			rc = scan_header(&scan, at, &header);

			if (rc < 0)
				break;
			if (rc == 1 && header.kind == RECORD_ENTRY && header.index > r->known_index)
				r->known_index = header.index;
			at += rc == 1 ? record_bytes(header.len) : 8;
		}
		scan_free(&scan);
	}
	env->close(env->ctx, fd);
}

static RlogStatus
follow_chain(Recovery *r)
{
	RlogStatus	status = RLOG_OK;
	Link		link = LINK_GOES_ON;
	size_t		behind = 0;		/* first segment that is not part of the chain */

	r->end = (RlogPosition) {0, 0};
	while (link == LINK_GOES_ON && behind < r->list.count)
	{
		link = follow_segment(r, r->list.seqs[behind], &status);
		if (link == LINK_FAILED)
			return status;
		if (link != LINK_EMPTY)
			behind++;
	}

	/* one last segment that nothing was written to proves nothing */
	judge_end(r, behind + (link == LINK_EMPTY ? 1 : 0) < r->list.count);
	if (r->evidence != NULL)
	{
		note_known_index(r);
		for (; behind < r->list.count; behind++)
			look_into_lost_segment(r, r->list.seqs[behind]);
	}
	return RLOG_OK;
}

/* ---------- the cut at the end ---------- */

/*
 * What the process before us wrote after its last batch was synced may be in the
 * system's cache only, and a sync that failed may have left it there as clean:
 * it is written once more, the same bytes, and synced, before the metadata says
 * that it is there. What the mark or the cut speaks of is on disk.
 */
static RlogStatus
make_tail_durable(Recovery *r)
{
	RlogFiles  *files = &r->log->files;
	const RlogEnv *env = files->env;
	uint64_t	from = 0;
	char		path[PATH_BYTES];
	int			fd;
	int			rc;

	if (r->end.seq == 0)
		return RLOG_OK;
	if (r->log->meta.cut.seq == r->end.seq)
		from = r->log->meta.cut.offset;
	if (r->has_mark && r->mark.position.seq == r->end.seq && r->mark.position.offset > from)
		from = r->mark.position.offset;
	if (from >= r->end.offset)
		return RLOG_OK;
	segment_path(files, r->end.seq, path);
	rc = env->open(env->ctx, path, false, true, &fd);
	if (rc != 0)
		return io_failed(r, rc, "open a segment of");
	while (rc == 0 && from < r->end.offset)
	{
		size_t		len = r->end.offset - from < WRITE_BUFFER_BYTES ?
			(size_t) (r->end.offset - from) : WRITE_BUFFER_BYTES;
		int64_t		n = env->pread(env->ctx, fd, files->buffer, len, from);

		rc = n == (int64_t) len ? env->pwrite(env->ctx, fd, files->buffer, len, from) :
			n < 0 ? (int) n : -EIO;
		from += len;
	}
	if (rc == 0)
		rc = file_sync(files, fd);
	env->close(env->ctx, fd);
	return rc == 0 ? RLOG_OK : io_failed(r, rc, "write records of");
}

static RlogStatus
write_meta(Recovery *r)
{
	Rlog	   *log = r->log;
	size_t		len = META_HEADER_BYTES + log->meta.conf_len;
	uint8_t    *bytes = malloc(len);
	int			copies_done = 0;
	int			rc;

	if (bytes == NULL)
		return RLOG_NO_MEMORY;
	meta_encode(&log->meta, log->conf, bytes);
	rc = meta_write(&log->files, bytes, len, &copies_done);
	free(bytes);
	return rc == 0 ? RLOG_OK : io_failed(r, rc, "write metadata of");
}

static RlogStatus
write_cut(Recovery *r)
{
	Rlog	   *log = r->log;
	RlogMeta   *meta = &log->meta;

	meta->meta_seq++;
	meta->generation++;
	meta->cut = r->end;
	meta->cut_index = log->last_index;
	meta->cut_next_seq = log->next_seq;
	if (meta->commit > log->last_index)
		meta->commit = log->last_index;
	return write_meta(r);
}

/* Segments behind the cut: by now the metadata calls them garbage. */
static RlogStatus
remove_behind(Recovery *r)
{
	RlogFiles  *files = &r->log->files;
	const RlogEnv *env = files->env;
	char		path[PATH_BYTES];

	for (size_t i = 0; i < r->list.count; i++)
	{
		int			rc;

		if (r->list.seqs[i] <= r->end.seq)
			continue;
		segment_path(files, r->list.seqs[i], path);
		rc = env->unlink(env->ctx, path);
		if (rc != 0 && rc != -ENOENT)
			return io_failed(r, rc, "remove a segment of");
	}
	return RLOG_OK;
}

/* ---------- open ---------- */

static RlogStatus
open_meta(Recovery *r)
{
	Rlog	   *log = r->log;
	RlogFiles  *files = &log->files;
	const RlogEnv *env = files->env;
	char		path[PATH_BYTES];
	RlogStatus	status;
	int			rc;

	file_path(files, "meta", path);
	rc = env->open(env->ctx, path, false, true, &files->meta_fd);
	if (rc != 0)
	{
		files->meta_fd = -1;
		if (rc != -ENOENT)
			return io_failed(r, rc, "open");
		rc = segment_list(files, &r->list);
		if (rc != 0 && rc != -ENOENT)
			return io_failed(r, rc, "list the files of");
		if (rc == 0 && r->list.count > 0)
		{
			fail(r->error, "the metadata of the log in \"%s\" is missing, but it has segments",
				 files->dir);
			return RLOG_DAMAGED;
		}
		fail(r->error, "there is no log in \"%s\"", files->dir);
		return RLOG_NOT_FOUND;
	}
	status = meta_read(files, &log->meta, &log->conf, &r->mark, &r->has_mark, r->error);
	if (status != RLOG_OK)
		return status;
	memcpy(files->instance_id, log->meta.identity.instance_id, 16);
	/* a mark from before the last cut may speak of what was cut */
	r->has_mark = r->has_mark && r->mark.generation == log->meta.generation;
	log->last_index = log->meta.first_index - 1;
	log->last_term = log->meta.prev_term;
	log->next_seq = log->meta.cut_next_seq;
	if (log->next_seq <= log->meta.first_seq)
		log->next_seq = log->meta.first_seq;
	if (log->next_seq == 0)
		log->next_seq = 1;
	return RLOG_OK;
}

/* A process that was killed in rlog_create may have left them in the cache only. */
static RlogStatus
make_names_durable(Recovery *r)
{
	const RlogFiles *files = &r->log->files;
	int			rc = files->env->fsync_dir(files->env->ctx, files->dir);

	if (rc == 0)
		rc = sync_parent(files);
	return rc == 0 ? RLOG_OK : io_failed(r, rc, "sync the directory of");
}

static RlogStatus
recover(Recovery *r, bool salvage, uint64_t *damaged, char *notice)
{
	Rlog	   *log = r->log;
	RlogStatus	status = open_meta(r);

	/* it may be in the system's cache only; nothing is removed before it is safe */
	if (status == RLOG_OK)
		status = write_meta(r);
	if (status == RLOG_OK)
		status = make_names_durable(r);
	if (status == RLOG_OK)
		status = remove_leftovers(r);
	if (status == RLOG_OK)
		status = look_at_spare(r);
	if (status == RLOG_OK)
		status = follow_chain(r);
	if (status != RLOG_OK)
		return status;
	if (r->evidence != NULL)
	{
		if (!salvage)
		{
			fail(r->error, "the log in \"%s\" is damaged at index %" PRIu64
				 ", segment %" PRIx64 ", offset %" PRIu64 ": %s", log->files.dir,
				 log->last_index + 1, r->end.seq, r->end.offset, r->evidence);
			return RLOG_DAMAGED;
		}
		*damaged = log->last_index + 1;
		if (log->meta.distrusted_until < r->known_index)
			log->meta.distrusted_until = r->known_index;
		if (log->meta.distrusted_until < *damaged)
			log->meta.distrusted_until = *damaged;
		fail(notice, "the log in \"%s\" was damaged at index %" PRIu64 " of at least %" PRIu64
			 ": %s; it was cut there", log->files.dir, *damaged, log->meta.distrusted_until,
			 r->evidence);
	}
	else
	{
		if (r->torn)
			fail(notice, "cut a torn write that was never acknowledged off the log in \"%s\""
				 " after index %" PRIu64, log->files.dir, log->last_index);
		if (r->has_mark && r->mark.commit > log->meta.commit)
			log->meta.commit = r->mark.commit;
	}
	status = make_tail_durable(r);
	if (status == RLOG_OK)
		status = write_cut(r);
	if (status == RLOG_OK)
		status = remove_behind(r);
	return status;
}

static RlogStatus
open_log(const RlogEnv *env, const char *dir, const RlogOptions *options, bool salvage,
		 Rlog **log, uint64_t *damaged, char *notice, char *error)
{
	Recovery	r = {.error = error};
	RlogStatus	status;

	if (notice != NULL)
		notice[0] = '\0';
	if (error != NULL)
		error[0] = '\0';
	*log = NULL;
	r.log = rlog_new(env, dir, options);
	if (r.log == NULL)
		return RLOG_NO_MEMORY;
	status = recover(&r, salvage, damaged, notice);
	free(r.list.seqs);
	if (status != RLOG_OK)
	{
		rlog_close(r.log);
		return status;
	}
	r.log->durable_index = r.log->last_index;
	rlog_unload(r.log);
	*log = r.log;
	return RLOG_OK;
}

RlogStatus
rlog_open(const RlogEnv *env, const char *dir, const RlogOptions *options, Rlog **log,
		  char *notice, char *error)
{
	uint64_t	damaged = 0;

	return open_log(env, dir, options, false, log, &damaged, notice, error);
}

RlogStatus
rlog_salvage(const RlogEnv *env, const char *dir, const RlogOptions *options, Rlog **log,
			 uint64_t *damaged, char *notice, char *error)
{
	*damaged = 0;
	return open_log(env, dir, options, true, log, damaged, notice, error);
}

void
rlog_close(Rlog *log)
{
	RlogFiles  *files = &log->files;

	RLOG_ASSERT(log->io == NULL);
	/* after a clean end nothing of the last batch can pass for torn */
	if (files->meta_fd >= 0 && files->mark_dirty && log->health != RLOG_IO_ERROR)
		(void) file_sync(files, files->meta_fd);
	/* it may be among those that were to be dropped */
	if (files->active != NULL)
		segment_close(files, files->active);
	steps_free(&log->queue);
	for (size_t i = 0; i < log->nsegments; i++)
		segment_free(log->segments[i]);
	if (files->meta_fd >= 0)
		files->env->close(files->env->ctx, files->meta_fd);
	if (files->spare_fd >= 0)
		files->env->close(files->env->ctx, files->spare_fd);
	free(files->buffer);
	free(log->segments);
	free(log->runs);
	free(log->watched);
	free(log->conf);
	free(log);
}
