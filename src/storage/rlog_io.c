/*-------------------------------------------------------------------------
 *
 * rlog_io.c
 *		Rounds of I/O: handing out what is queued, doing it, taking it back.
 *
 * A round is a list of steps, done strictly in order, each durable before the
 * next one begins. That is what makes a crash leave a prefix of the calls. The
 * common round is one step, STEP_WRITE: one or a few writes and one fdatasync.
 *
 *-------------------------------------------------------------------------
 */
#include "storage/rlog_internal.h"

#include <inttypes.h>
#include <string.h>

/* ---------- on the pool thread ---------- */

typedef struct Writer
{
	RlogFiles  *files;
	int			fd;
	uint64_t	at;				/* where buffer[0] goes */
	size_t		used;
} Writer;

static int
writer_flush(Writer *w)
{
	const RlogEnv *env = w->files->env;
	int			rc = 0;

	if (w->used > 0)
		rc = env->pwrite(env->ctx, w->fd, w->files->buffer, w->used, w->at);
	w->at += w->used;
	w->used = 0;
	return rc;
}

static int
writer_put(Writer *w, const void *data, size_t len)
{
	const RlogEnv *env = w->files->env;
	int			rc;

	if (w->used + len > WRITE_BUFFER_BYTES)
	{
		rc = writer_flush(w);
		if (rc != 0)
			return rc;
	}
	if (len > WRITE_BUFFER_BYTES / 4)
	{
		/* long payloads are not copied */
		rc = writer_flush(w);
		if (rc == 0)
			rc = env->pwrite(env->ctx, w->fd, data, len, w->at);
		w->at += len;
		return rc;
	}
	if (len > 0)
		memcpy(w->files->buffer + w->used, data, len);
	w->used += len;
	return 0;
}

static int
write_segment_header(Writer *w, const Segment *segment)
{
	SegmentHeader header = {
		.version = RLOG_FORMAT_VERSION,
		.generation = segment->generation,
		.seq = segment->seq,
		.first_index = segment->first_index,
		.prev_term = segment->prev_term,
		.size = segment->size,
	};
	uint8_t		bytes[SEGMENT_HEADER_BYTES];

	memcpy(header.instance_id, w->files->instance_id, 16);
	segment_header_encode(&header, bytes);
	return writer_put(w, bytes, sizeof(bytes));
}

static int
write_record(Writer *w, const Step *step, const StepRecord *item)
{
	static const uint8_t zeros[8] = {0};
	const RlogRecord *record = &item->record;
	RlogPosition at = {step->segment->seq, item->offset};
	RecordHeader header = {
		.type = record->type,
		.kind = item->kind,
		.len = record->len,
		.payload_crc = record_payload_crc(record->data, record->len),
		.generation = step->generation,
		.batch_start = (uint32_t) step->start,
		.index = record->index,
		.term = record->term,
	};
	uint8_t		bytes[RECORD_HEADER_BYTES];
	int			rc;

	memcpy(header.stamp, record->stamp, 16);
	memcpy(header.token, record->token, 16);
	record_header_encode(&header, at, bytes);
	rc = writer_put(w, bytes, sizeof(bytes));
	if (rc == 0)
		rc = writer_put(w, record->data, record->len);
	if (rc == 0)
		rc = writer_put(w, zeros, (8 - record->len % 8) % 8);
	return rc;
}

static int
run_write(RlogIo *io, Step *step)
{
	Writer		w = {.files = io->files, .at = step->start};
	int			rc;

	if (io->files->active != NULL && io->files->active != step->segment)
		segment_close(io->files, io->files->active);
	rc = segment_open(io->files, step->segment);
	if (rc != 0)
		return rc;
	io->files->active = step->segment;
	w.fd = step->segment->fd;
	if (step->start == SEGMENT_HEADER_BYTES)
	{
		w.at = 0;
		rc = write_segment_header(&w, step->segment);
	}
	for (size_t i = 0; rc == 0 && i < step->nrecords; i++)
		rc = write_record(&w, step, &step->records[i]);
	if (rc == 0)
		rc = writer_flush(&w);
	if (rc != 0)
		return rc;
	rc = file_sync(io->files, w.fd);
	if (rc != 0)
		return rc;
	if (step->end > step->start)
	{
		RlogMark	mark = {
			.generation = step->generation,
			.position = {step->segment->seq, step->end},
			.index = step->last_index,
			.commit = io->commit < step->last_index ? io->commit : step->last_index,
		};

		rc = mark_write(io->files, &mark);
	}
	return rc;
}

static int
run_drop(RlogIo *io, Step *step)
{
	for (size_t i = 0; i < step->ndropped; i++)
	{
		Segment    *segment = step->dropped[i];
		int			rc;

		segment_close(io->files, segment);
		rc = segment_drop_file(io->files, segment->seq, segment->size);
		if (rc != 0)
			return rc;
	}
	return 0;
}

static int
run_step(RlogIo *io, Step *step, const char **what)
{
	switch (step->kind)
	{
		case STEP_WRITE:
			*what = "write records of";
			return run_write(io, step);
		case STEP_META:
			*what = "write metadata of";
			return meta_write(io->files, step->bytes, step->len, &step->copies_done);
		case STEP_ROTATE:
			*what = "make a segment of";
			return segment_create_file(io->files, step->segment);
		case STEP_DROP:
			*what = "remove a segment of";
			return run_drop(io, step);
	}
	return SYNC_HAD_NO_SPACE;	/* not reached */
}

static void
set_error(RlogIo *io, int rc, const char *what)
{
	io->status = is_no_space(rc) ? RLOG_NO_SPACE : RLOG_IO_ERROR;
	fail(io->error, "could not %s the log in \"%s\": %s", what, io->files->dir,
		 rc == SYNC_HAD_NO_SPACE ? "no space left in a sync" : strerror(-rc));
}

void
rlog_io_run(RlogIo *io)
{
	const char *what = "";
	int			rc;

	while (io->todo.head != NULL)
	{
		Step	   *step = io->todo.head;

		rc = run_step(io, step, &what);
		if (rc != 0)
		{
			set_error(io, rc, what);
			return;
		}
		io->todo.head = step->next;
		if (io->todo.head == NULL)
			steps_init(&io->todo);
		steps_push(&io->done, step);
	}
	if (!io->make_spare)
		return;
	rc = spare_work(io->files, false);
	io->spare_failed = is_no_space(rc);
	if (rc != 0)
	{
		set_error(io, rc, "make a spare segment of");
		if (io->spare_failed)
			io->status = RLOG_OK;	/* what was asked for is done */
	}
}

/* ---------- on the loop ---------- */

RlogIo *
rlog_io_begin(Rlog *log)
{
	RlogIo	   *io;
	bool		attempt = true;

	if (log->io != NULL || log->health == RLOG_IO_ERROR)
		return NULL;
	if (log->blocked || log->spare_failed)
	{
		attempt = ++log->begin_calls >= RLOG_RETRY_CALLS;
		if (log->blocked && !attempt)
			return NULL;
	}
	if (log->queue.head == NULL && !(log->spare_wanted && attempt))
		return NULL;
	io = calloc(1, sizeof(RlogIo));
	if (io == NULL)
		return NULL;			/* the next call may have more luck */
	if (attempt)
		log->begin_calls = 0;
	io->files = &log->files;
	io->make_spare = attempt;
	io->commit = log->meta.commit;
	io->status = RLOG_OK;
	steps_init(&io->done);
	io->todo = log->queue;
	if (io->todo.head == NULL)
		steps_init(&io->todo);
	steps_init(&log->queue);
	log->io = io;
	return io;
}

/* Put what was not done back in front of what was queued meanwhile. */
static void
requeue(Rlog *log, RlogIo *io)
{
	if (io->todo.head == NULL)
		return;
	*io->todo.tail = log->queue.head;
	if (log->queue.head == NULL)
		log->queue.tail = io->todo.tail;
	log->queue.head = io->todo.head;
	steps_init(&io->todo);
}

/*
 * Until the cut itself is done, indexes after it mean entries that are about to
 * go: those that are in flight must not count as durable (P-17, P-31).
 */
static void
count_done(Rlog *log, const Step *step)
{
	if (step->kind == STEP_META && step->cuts)
	{
		RLOG_ASSERT(log->pending_cuts > 0);
		log->pending_cuts--;
	}
	log->durable_index = step->durable_after;
	if (log->pending_cuts > 0 && log->durable_index > log->durable_cap)
		log->durable_index = log->durable_cap;
}

static void
set_health(Rlog *log, RlogStatus health, const char *text)
{
	log->health = health;
	snprintf(log->health_text, sizeof(log->health_text), "%s", text);
}

RlogStatus
rlog_io_done(Rlog *log, RlogIo *io)
{
	RlogStatus	status = io->status;

	RLOG_ASSERT(log->io == io);
	log->io = NULL;
	for (const Step *step = io->done.head; step != NULL; step = step->next)
		count_done(log, step);
	log->blocked = status == RLOG_NO_SPACE;
	if (io->make_spare)
		log->spare_failed = io->spare_failed;
	else if (log->files.spare_ready)
		log->spare_failed = false;
	log->spare_wanted = !log->files.spare_ready;
	if (status == RLOG_IO_ERROR)
		set_health(log, RLOG_IO_ERROR, io->error);
	else if (io->error[0] != '\0')
		set_health(log, RLOG_NO_SPACE, io->error);
	else if (!log->blocked && !log->spare_failed)
		set_health(log, RLOG_OK, "");
	requeue(log, io);
	steps_free(&io->done);
	free(io);
	return status;
}

bool
rlog_io_busy(const Rlog *log)
{
	return log->io != NULL;
}

RlogStatus
rlog_health(const Rlog *log, const char **text)
{
	if (text != NULL)
		*text = log->health_text;
	return log->health;
}
