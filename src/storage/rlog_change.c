/*-------------------------------------------------------------------------
 *
 * rlog_change.c
 *		Changes: append, truncate, hard state, configuration, reset. Each is done
 *		in memory at once and queued as steps for the disk.
 *
 * A place in a segment is decided here, on the loop, so that what is appended
 * while a round is out needs no word from the pool thread.
 *
 *-------------------------------------------------------------------------
 */
#include "storage/rlog_internal.h"

#include <inttypes.h>
#include <string.h>

static RlogStatus
out_of_memory(Rlog *log)
{
	/* memory and queue may disagree by now: as bad as a failed write */
	log->health = RLOG_IO_ERROR;
	snprintf(log->health_text, sizeof(log->health_text), "out of memory in the log store");
	return RLOG_NO_MEMORY;
}

static bool
is_poisoned(const Rlog *log)
{
	return log->health == RLOG_IO_ERROR;
}

static Segment *
last_segment(const Rlog *log)
{
	return log->nsegments > 0 ? log->segments[log->nsegments - 1] : NULL;
}

/* ---------- metadata ---------- */

bool
rlog_queue_meta(Rlog *log, bool cuts)
{
	Step	   *step = steps_tail(&log->queue);
	RlogMeta	meta;
	uint8_t    *bytes;

	/* nothing in between: the newer one says all. Unless it was begun already */
	if (step == NULL || step->kind != STEP_META || step->copies_done > 0)
		step = step_new(&log->queue, STEP_META);
	if (step == NULL)
		return false;
	log->meta.meta_seq++;
	meta = log->meta;
	/* what the log does not have (yet) it does not know to be committed */
	if (meta.commit > log->last_index)
		meta.commit = log->last_index;
	bytes = malloc(META_HEADER_BYTES + meta.conf_len);
	if (bytes == NULL)
		return false;
	meta_encode(&meta, log->conf, bytes);
	free(step->bytes);
	step->bytes = bytes;
	step->len = META_HEADER_BYTES + meta.conf_len;
	step->durable_after = log->last_index;
	if (cuts && !step->cuts)
	{
		step->cuts = true;
		log->pending_cuts++;
	}
	return true;
}

RlogStatus
rlog_set_hard_state(Rlog *log, uint64_t term, uint32_t vote, uint64_t commit, bool sync)
{
	bool		same = term == log->meta.term && vote == log->meta.vote;

	if (is_poisoned(log))
		return RLOG_IO_ERROR;
	if (term < log->meta.term ||
		(term == log->meta.term && log->meta.vote != 0 && vote != log->meta.vote))
		return RLOG_INVALID;
	log->meta.term = term;
	log->meta.vote = vote;
	if (commit > log->meta.commit)
		log->meta.commit = commit;
	if (same || !sync)
		return RLOG_OK;
	return rlog_queue_meta(log, false) ? RLOG_OK : out_of_memory(log);
}

RlogStatus
rlog_set_conf(Rlog *log, const void *conf, size_t len, uint64_t index)
{
	uint8_t    *copy;

	if (is_poisoned(log))
		return RLOG_IO_ERROR;
	if (len > RLOG_MAX_CONF)
		return RLOG_INVALID;
	copy = malloc(len + 1);
	if (copy == NULL)
		return RLOG_NO_MEMORY;
	if (len > 0)
		memcpy(copy, conf, len);
	free(log->conf);
	log->conf = copy;
	log->meta.conf_len = (uint32_t) len;
	log->meta.conf_index = index;
	return rlog_queue_meta(log, false) ? RLOG_OK : out_of_memory(log);
}

RlogStatus
rlog_force(Rlog *log, const uint8_t *cluster_id, const void *conf, size_t len)
{
	RlogStatus	status;

	if (is_poisoned(log))
		return RLOG_IO_ERROR;
	if (len > RLOG_MAX_CONF)
		return RLOG_INVALID;
	memcpy(log->meta.identity.cluster_id, cluster_id, sizeof(log->meta.identity.cluster_id));
	log->meta.distrusted_until = 0;
	log->meta.commit = log->last_index;
	/* queues the metadata as a whole */
	status = rlog_set_conf(log, conf, len, log->last_index);
	return status == RLOG_NO_MEMORY ? out_of_memory(log) : status;
}

RlogStatus
rlog_trust(Rlog *log)
{
	if (is_poisoned(log))
		return RLOG_IO_ERROR;
	if (log->meta.distrusted_until == 0)
		return RLOG_OK;
	log->meta.distrusted_until = 0;
	return rlog_queue_meta(log, false) ? RLOG_OK : out_of_memory(log);
}

/* ---------- append ---------- */

/* The step that writes at the end of this segment. */
static Step *
write_step(Rlog *log, Segment *segment)
{
	Step	   *step = steps_tail(&log->queue);

	if (step == NULL || step->kind != STEP_WRITE || step->segment != segment)
	{
		step = step_new(&log->queue, STEP_WRITE);
		if (step == NULL)
			return NULL;
		step->segment = segment;
		step->start = segment->end;
		step->end = segment->end;
		step->generation = log->meta.generation;
		step->last_index = log->last_index;
		step->durable_after = log->last_index;
	}
	RLOG_ASSERT(step->end == segment->end && step->generation == log->meta.generation);
	if (!array_grow(&step->records, &step->records_size, step->nrecords + 1, sizeof(StepRecord)))
		return NULL;
	return step;
}

static bool
end_segment(Rlog *log, Segment *segment)
{
	Step	   *step;
	StepRecord *item;

	if (segment->size - segment->end < RECORD_HEADER_BYTES)
		return true;
	step = write_step(log, segment);
	if (step == NULL)
		return false;
	item = &step->records[step->nrecords++];
	memset(item, 0, sizeof(*item));
	item->kind = RECORD_END;
	item->offset = segment->end;
	item->record.index = log->last_index + 1;
	item->record.term = log->last_term;
	return true;
}

static Segment *
begin_segment(Rlog *log, uint64_t need)
{
	Segment    *segment = calloc(1, sizeof(Segment));
	Step	   *step;

	if (segment == NULL)
		return NULL;
	segment->fd = -1;
	segment->seq = log->next_seq++;
	segment->first_index = log->last_index + 1;
	segment->prev_term = log->last_term;
	segment->generation = log->meta.generation;
	segment->size = log->files.segment_bytes;
	segment->end = SEGMENT_HEADER_BYTES;
	if (segment->size < SEGMENT_HEADER_BYTES + need)
		segment->size = SEGMENT_HEADER_BYTES + need;
	step = step_new(&log->queue, STEP_ROTATE);
	if (step == NULL || !rlog_add_segment(log, segment))
	{
		free(segment);
		return NULL;
	}
	step->segment = segment;
	step->durable_after = log->last_index;
	rlog_unload(log);
	return segment;
}

RlogStatus
rlog_append(Rlog *log, const RlogRecord *record)
{
	Segment    *segment = last_segment(log);
	uint64_t	need = record_bytes(record->len);
	uint64_t	offset;
	Step	   *step;

	if (is_poisoned(log))
		return RLOG_IO_ERROR;
	if (record->index != log->last_index + 1 || record->term < log->last_term ||
		record->len > MAX_RECORD_BYTES)
		return RLOG_INVALID;
	if (segment == NULL || segment->size - segment->end < need)
	{
		if (segment != NULL && !end_segment(log, segment))
			return out_of_memory(log);
		segment = begin_segment(log, need);
		if (segment == NULL)
			return out_of_memory(log);
	}
	step = write_step(log, segment);
	if (step == NULL)
		return out_of_memory(log);
	offset = segment->end;
	if (!rlog_note_record(log, segment, offset, offset + need, record->index, record->term,
						  record->type))
		return out_of_memory(log);
	step->records[step->nrecords++] = (StepRecord)
	{
		.record = *record,
		.offset = offset,
		.kind = RECORD_ENTRY,
	};
	step->end = segment->end;
	step->last_index = record->index;
	step->durable_after = record->index;
	return RLOG_OK;
}

/* ---------- truncation ---------- */

/* Segments [from, to) are garbage once the metadata says so. */
static bool
drop_segments(Rlog *log, size_t from, size_t to)
{
	Step	   *step;

	if (from == to)
		return true;
	step = step_new(&log->queue, STEP_DROP);
	if (step == NULL)
		return false;
	step->dropped = malloc((to - from) * sizeof(Segment *));
	if (step->dropped == NULL)
		return false;
	step->durable_after = log->last_index;
	step->ndropped = to - from;
	memcpy(step->dropped, log->segments + from, (to - from) * sizeof(Segment *));
	memmove(log->segments + from, log->segments + to,
			(log->nsegments - to) * sizeof(Segment *));
	log->nsegments -= to - from;
	return true;
}

/* Read the places of its records again; all of them are durable. */
static RlogStatus
load_offsets(Rlog *log, Segment *segment)
{
	const RlogEnv *env = log->files.env;
	char		path[PATH_BYTES];
	uint64_t	at = SEGMENT_HEADER_BYTES;
	RlogStatus	status = RLOG_OK;
	Scan		scan;
	int			fd;

	segment_path(&log->files, segment->seq, path);
	if (env->open(env->ctx, path, false, false, &fd) != 0)
		return RLOG_IO_ERROR;
	segment->offsets = malloc(segment->count * sizeof(uint32_t));
	if (segment->offsets == NULL || !scan_init(&scan, env, fd, segment->seq, segment->size))
	{
		env->close(env->ctx, fd);
		return RLOG_NO_MEMORY;
	}
	segment->offsets_size = segment->count;
	for (uint32_t i = 0; i < segment->count; i++)
	{
		RecordHeader header;

		if (scan_header(&scan, at, &header) != 1 || header.kind != RECORD_ENTRY ||
			header.index != segment->first_index + i)
		{
			status = RLOG_IO_ERROR;
			break;
		}
		segment->offsets[i] = (uint32_t) at;
		at += record_bytes(header.len);
	}
	scan_free(&scan);
	env->close(env->ctx, fd);
	return status;
}

static bool
next_generation(Rlog *log, RlogPosition cut)
{
	log->meta.generation++;
	log->meta.cut = cut;
	log->meta.cut_index = log->last_index;
	log->meta.cut_next_seq = log->next_seq;
	if (log->durable_index > log->last_index)
		log->durable_index = log->last_index;
	if (log->pending_cuts == 0 || log->durable_cap > log->last_index)
		log->durable_cap = log->last_index;
	return rlog_queue_meta(log, true);
}

RlogStatus
rlog_truncate_suffix(Rlog *log, uint64_t from)
{
	size_t		i = log->nsegments;
	Segment    *segment;
	uint32_t	keep;

	if (is_poisoned(log))
		return RLOG_IO_ERROR;
	if (from == log->last_index + 1)
		return RLOG_OK;
	if (from > log->last_index || from < log->meta.first_index || from <= log->meta.commit)
		return RLOG_INVALID;
	do
	{
		RLOG_ASSERT(i > 0);
		segment = log->segments[--i];
	} while (segment->first_index > from || segment->count == 0);
	keep = (uint32_t) (from - segment->first_index);
	RLOG_ASSERT(keep < segment->count);
	if (segment->offsets == NULL)
	{
		RlogStatus	status = load_offsets(log, segment);

		if (status != RLOG_OK)
		{
			log->health = RLOG_IO_ERROR;
			fail(log->health_text, "could not read segment %" PRIx64 " of the log in \"%s\" again",
				 segment->seq, log->files.dir);
			return status;
		}
	}
	segment->end = segment->offsets[keep];
	segment->count = keep;
	rlog_forget_suffix(log, from);
	if (!next_generation(log, (RlogPosition) {segment->seq, segment->end}) ||
		!drop_segments(log, i + 1, log->nsegments))
		return out_of_memory(log);
	return RLOG_OK;
}

RlogStatus
rlog_truncate_prefix(Rlog *log, uint64_t index)
{
	size_t		drop = 0;
	size_t		runs = 0;
	size_t		watched = 0;
	const Segment *first;

	if (is_poisoned(log))
		return RLOG_IO_ERROR;
	while (drop + 1 < log->nsegments && log->segments[drop + 1]->first_index <= index &&
		   log->segments[drop + 1]->first_index <= log->durable_index + 1)
		drop++;
	if (drop == 0)
		return RLOG_OK;
	first = log->segments[drop];
	log->meta.first_index = first->first_index;
	log->meta.prev_term = first->prev_term;
	log->meta.first_seq = first->seq;
	while (runs + 1 < log->nruns && log->runs[runs + 1].first_index <= first->first_index)
		runs++;
	if (log->nruns > 0)
	{
		memmove(log->runs, log->runs + runs, (log->nruns - runs) * sizeof(RlogTermRun));
		log->nruns -= runs;
		if (log->runs[0].first_index < first->first_index)
			log->runs[0].first_index = first->first_index;
		if (log->runs[0].first_index > log->last_index)
			log->nruns = 0;
	}
	while (watched < log->nwatched && log->watched[watched] < first->first_index)
		watched++;
	log->nwatched -= watched;
	if (log->nwatched > 0)
		memmove(log->watched, log->watched + watched, log->nwatched * sizeof(uint64_t));
	if (!rlog_queue_meta(log, false) || !drop_segments(log, 0, drop))
		return out_of_memory(log);
	return RLOG_OK;
}

RlogStatus
rlog_reset(Rlog *log, uint64_t index, uint64_t term)
{
	if (is_poisoned(log))
		return RLOG_IO_ERROR;
	log->nruns = 0;
	log->nwatched = 0;
	log->last_index = index;
	log->last_term = term;
	log->meta.first_index = index + 1;
	log->meta.prev_term = term;
	log->meta.commit = index;
	log->meta.first_seq = log->next_seq;
	log->durable_index = 0;
	if (!next_generation(log, (RlogPosition) {0, 0}))
		return out_of_memory(log);
	log->durable_cap = 0;
	if (!drop_segments(log, 0, log->nsegments))
		return out_of_memory(log);
	return RLOG_OK;
}
