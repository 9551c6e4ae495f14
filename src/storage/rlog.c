/*-------------------------------------------------------------------------
 *
 * rlog.c
 *		The log as the loop sees it: what is in it, and changes, which become
 *		steps of the next round of I/O. Nothing here touches a file.
 *
 *-------------------------------------------------------------------------
 */
#include "storage/rlog_internal.h"

#include <inttypes.h>
#include <string.h>

/* ---------- bookkeeping ---------- */

bool
array_grow(void *array, size_t *size, size_t need, size_t element)
{
	void	  **pointer = array;
	size_t		new_size = *size ? *size : 16;
	void	   *p;

	if (need <= *size)
		return true;
	while (new_size < need)
		new_size *= 2;
	p = realloc(*pointer, new_size * element);
	if (p == NULL)
		return false;
	*pointer = p;
	*size = new_size;
	return true;
}

Rlog *
rlog_new(const RlogEnv *env, const char *dir, const RlogOptions *options)
{
	Rlog	   *log = calloc(1, sizeof(Rlog));

	if (log == NULL)
		return NULL;
	log->files.env = env;
	snprintf(log->files.dir, sizeof(log->files.dir), "%s", dir);
	log->files.segment_bytes = DEFAULT_SEGMENT_BYTES;
	if (options != NULL && options->segment_bytes != 0)
		log->files.segment_bytes = options->segment_bytes;
	if (log->files.segment_bytes < MIN_SEGMENT_BYTES)
		log->files.segment_bytes = MIN_SEGMENT_BYTES;
	if (log->files.segment_bytes > MAX_RECORD_BYTES)
		log->files.segment_bytes = MAX_RECORD_BYTES;
	log->files.segment_bytes &= ~UINT64_C(7);
	log->files.meta_fd = -1;
	log->files.spare_fd = -1;
	log->files.buffer = malloc(WRITE_BUFFER_BYTES);
	if (options != NULL)
		log->watch_type = options->watch_type;
	steps_init(&log->queue);
	log->health = RLOG_OK;
	if (log->files.buffer == NULL)
	{
		free(log);
		return NULL;
	}
	return log;
}

void
segment_free(Segment *segment)
{
	RLOG_ASSERT(segment->fd < 0);
	free(segment->offsets);
	free(segment);
}

bool
rlog_add_segment(Rlog *log, Segment *segment)
{
	if (!array_grow(&log->segments, &log->segments_size, log->nsegments + 1, sizeof(Segment *)))
		return false;
	log->segments[log->nsegments++] = segment;
	return true;
}

bool
rlog_note_record(Rlog *log, Segment *segment, uint64_t offset, uint64_t end, uint64_t index,
				 uint64_t term, uint8_t type)
{
	size_t		size = segment->offsets_size;

	RLOG_ASSERT(index == log->last_index + 1);
	RLOG_ASSERT(index == segment->first_index + segment->count);
	if (!array_grow(&segment->offsets, &size, segment->count + 1, sizeof(uint32_t)))
		return false;
	segment->offsets_size = (uint32_t) size;
	if (term != log->last_term || log->nruns == 0)
	{
		if (!array_grow(&log->runs, &log->runs_size, log->nruns + 1, sizeof(RlogTermRun)))
			return false;
		log->runs[log->nruns++] = (RlogTermRun)
		{
			index, term
		};
	}
	if (log->watch_type != 0 && type == log->watch_type)
	{
		if (!array_grow(&log->watched, &log->watched_size, log->nwatched + 1, sizeof(uint64_t)))
			return false;
		log->watched[log->nwatched++] = index;
	}
	segment->offsets[segment->count++] = (uint32_t) offset;
	segment->end = end;
	log->last_index = index;
	log->last_term = term;
	return true;
}

void
rlog_forget_suffix(Rlog *log, uint64_t from)
{
	while (log->nruns > 0 && log->runs[log->nruns - 1].first_index >= from)
		log->nruns--;
	while (log->nwatched > 0 && log->watched[log->nwatched - 1] >= from)
		log->nwatched--;
	log->last_index = from - 1;
	log->last_term = log->nruns > 0 ? log->runs[log->nruns - 1].term : log->meta.prev_term;
}

void
rlog_unload(Rlog *log)
{
	for (size_t i = 0; i + LOADED_SEGMENTS < log->nsegments; i++)
	{
		Segment    *segment = log->segments[i];

		/* only what is on disk can be read from there again */
		if (segment->first_index + segment->count > log->durable_index + 1)
			break;
		free(segment->offsets);
		segment->offsets = NULL;
		segment->offsets_size = 0;
	}
}

/* ---------- questions ---------- */

const RlogIdentity *
rlog_identity(const Rlog *log)
{
	return &log->meta.identity;
}

uint64_t
rlog_first_index(const Rlog *log)
{
	return log->meta.first_index;
}

uint64_t
rlog_last_index(const Rlog *log)
{
	return log->last_index;
}

uint64_t
rlog_durable_index(const Rlog *log)
{
	return log->durable_index;
}

uint64_t
rlog_prev_term(const Rlog *log)
{
	return log->meta.prev_term;
}

uint64_t
rlog_bytes(const Rlog *log)
{
	uint64_t	bytes = 0;

	for (size_t i = 0; i < log->nsegments; i++)
		bytes += log->segments[i]->size;
	return bytes;
}

uint64_t
rlog_tail_index(const Rlog *log, uint64_t bytes)
{
	uint64_t	found = 0;

	for (size_t i = log->nsegments; i-- > 0;)
	{
		found += log->segments[i]->end;
		if (found >= bytes)
			return log->segments[i]->first_index;
	}
	return rlog_first_index(log);
}

uint64_t
rlog_bytes_from(const Rlog *log, uint64_t index)
{
	uint64_t	bytes = 0;

	for (size_t i = log->nsegments; i-- > 0;)
	{
		bytes += log->segments[i]->size;
		if (log->segments[i]->first_index <= index)
			break;
	}
	return bytes;
}

size_t
rlog_term_runs(const Rlog *log, const RlogTermRun **runs)
{
	*runs = log->runs;
	return log->nruns;
}

size_t
rlog_watched(const Rlog *log, const uint64_t **indexes)
{
	*indexes = log->watched;
	return log->nwatched;
}

void
rlog_hard_state(const Rlog *log, uint64_t *term, uint32_t *vote, uint64_t *commit)
{
	*term = log->meta.term;
	*vote = log->meta.vote;
	*commit = log->meta.commit;
}

const void *
rlog_conf(const Rlog *log, size_t *len, uint64_t *index)
{
	*len = log->meta.conf_len;
	*index = log->meta.conf_index;
	return log->conf;
}

uint64_t
rlog_distrusted_until(const Rlog *log)
{
	return log->meta.distrusted_until;
}
