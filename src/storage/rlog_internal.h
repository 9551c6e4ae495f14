/*-------------------------------------------------------------------------
 *
 * rlog_internal.h
 *		What the files of src/storage share.
 *
 * Two threads, one rule: RlogFiles and the steps of an RlogIo belong to
 * whoever has the RlogIo; the rest of an Rlog belongs to the loop. Of a
 * Segment the loop has all but fd; at most one is open, RlogFiles.active.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGQ_RLOG_INTERNAL_H
#define PGQ_RLOG_INTERNAL_H

#include <stdio.h>
#include <stdlib.h>

#include "storage/rlog.h"
#include "storage/rlog_format.h"

/* Cheap, and on in production: better no log than a wrong one. */
#define RLOG_ASSERT(condition) \
	do { \
		if (!(condition)) \
		{ \
			fprintf(stderr, "log store: assertion failed at %s:%d: %s\n", \
					__FILE__, __LINE__, #condition); \
			abort(); \
		} \
	} while (0)

#define DEFAULT_SEGMENT_BYTES	(UINT64_C(16) * 1024 * 1024)
#define MIN_SEGMENT_BYTES		4096
#define MAX_RECORD_BYTES		(UINT32_C(1) << 30)
#define SPARE_SLICE_BYTES		(UINT64_C(1) * 1024 * 1024)
#define WRITE_BUFFER_BYTES		(256 * 1024)
#define SCAN_BUFFER_BYTES		(256 * 1024)
#define PATH_BYTES				1024
#define SYNC_HAD_NO_SPACE		(-1000000)	/* no errno: not to be tried again */
#define LOADED_SEGMENTS			2	/* this many keep their offsets */

typedef struct Segment
{
	uint64_t	seq;
	uint64_t	first_index;
	uint64_t	prev_term;
	uint64_t	size;			/* of the file */
	uint64_t	end;			/* where the next record goes */
	uint32_t	generation;		/* in its header */
	uint32_t	count;			/* records in it */
	uint32_t   *offsets;		/* of each; NULL: to be read from the file again */
	uint32_t	offsets_size;
	int			fd;				/* pool thread; -1: not open */
} Segment;

/* ---------- steps: what a round of I/O does, in order ---------- */

typedef enum StepKind
{
	STEP_WRITE,					/* records into one segment, one sync */
	STEP_META,					/* both copies, two syncs */
	STEP_ROTATE,				/* a file for a new segment */
	STEP_DROP					/* files that are garbage by the metadata */
} StepKind;

typedef struct StepRecord
{
	RlogRecord	record;
	uint64_t	offset;
	uint8_t		kind;			/* RecordKind */
} StepRecord;

typedef struct Step
{
	struct Step *next;
	StepKind	kind;
	uint64_t	durable_after;	/* last durable index once this is done (loop) */
	Segment    *segment;		/* WRITE, ROTATE */
	/* WRITE */
	uint64_t	start;
	uint64_t	end;			/* after the last entry */
	uint64_t	last_index;
	uint32_t	generation;
	StepRecord *records;
	size_t		nrecords;
	size_t		records_size;
	/* META */
	uint8_t    *bytes;
	size_t		len;
	int			copies_done;
	bool		cuts;			/* a suffix, or everything */
	/* DROP */
	Segment   **dropped;
	size_t		ndropped;
} Step;

typedef struct StepQueue
{
	Step	   *head;
	Step	  **tail;
} StepQueue;

/* ---------- files ---------- */

typedef struct RlogFiles
{
	const RlogEnv *env;
	char		dir[PATH_BYTES - 64];
	uint8_t		instance_id[16];
	uint64_t	segment_bytes;
	int			meta_fd;
	int			first_copy;		/* write this one first (never the only good one) */
	bool		mark_dirty;		/* the mark was written since meta_fd was synced */
	bool		spare_ready;
	int			spare_fd;		/* of spare.tmp, being made; -1 */
	uint64_t	spare_done;		/* bytes of it */
	Segment    *active;			/* written to last; no other one is kept open */
	uint8_t    *buffer;			/* WRITE_BUFFER_BYTES */
} RlogFiles;

struct RlogIo
{
	RlogFiles  *files;
	StepQueue	todo;
	StepQueue	done;
	uint64_t	commit;
	bool		make_spare;
	bool		spare_failed;	/* for want of space */
	RlogStatus	status;
	char		error[RLOG_ERROR_LEN];
};

struct Rlog
{
	RlogFiles	files;
	RlogMeta	meta;			/* as of the newest change queued */
	uint8_t    *conf;
	uint64_t	last_index;
	uint64_t	last_term;
	uint64_t	durable_index;
	uint32_t	pending_cuts;	/* STEP_META with cuts that are not done */
	uint64_t	durable_cap;	/* while there are: durable_index is at most this */
	uint64_t	next_seq;
	Segment   **segments;		/* oldest first; the last one is written to */
	size_t		nsegments;
	size_t		segments_size;
	RlogTermRun *runs;
	size_t		nruns;
	size_t		runs_size;
	uint8_t		watch_type;
	uint64_t   *watched;
	size_t		nwatched;
	size_t		watched_size;
	StepQueue	queue;			/* not handed out yet */
	RlogIo	   *io;				/* out */
	RlogStatus	health;
	char		health_text[RLOG_ERROR_LEN];
	bool		blocked;		/* the head of queue did not fit on the disk */
	bool		spare_wanted;
	bool		spare_failed;
	uint32_t	begin_calls;	/* since space ran out */
};

/* ---------- rlog.c ---------- */

extern Rlog *rlog_new(const RlogEnv *env, const char *dir, const RlogOptions *options);
extern bool rlog_add_segment(Rlog *log, Segment *segment);
/* Bookkeeping of a record that is in segment at offset. */
extern bool rlog_note_record(Rlog *log, Segment *segment, uint64_t offset, uint64_t end,
							 uint64_t index, uint64_t term, uint8_t type);
/* Forget the entries from `from` on, in memory. */
extern void rlog_forget_suffix(Rlog *log, uint64_t from);
/* Write metadata as it is now. */
extern bool rlog_queue_meta(Rlog *log, bool cuts);
extern void segment_free(Segment *segment);
/* Keep offsets of the newest segments only. */
extern void rlog_unload(Rlog *log);
extern bool array_grow(void *array, size_t *size, size_t need, size_t element);

/* ---------- rlog_steps.c ---------- */

extern void steps_init(StepQueue *queue);
extern void steps_push(StepQueue *queue, Step *step);
extern Step *steps_tail(const StepQueue *queue);
extern Step *step_new(StepQueue *queue, StepKind kind);
extern void step_free(Step *step);	/* releases payloads */
extern void steps_free(StepQueue *queue);

/* ---------- rlog_files.c ---------- */

extern void fail(char *error, const char *format,...) __attribute__((format(printf, 2, 3)));
extern void file_path(const RlogFiles *files, const char *name, char *path);
extern void segment_path(const RlogFiles *files, uint64_t seq, char *path);
extern bool segment_name_parse(const char *name, uint64_t *seq);
extern bool is_no_space(int rc);
/* As fdatasync, but want of space comes back as SYNC_HAD_NO_SPACE. */
extern int	file_sync(RlogFiles *files, int fd);
extern int	segment_open(RlogFiles *files, Segment *segment);
extern void segment_close(RlogFiles *files, Segment *segment);
/* One slice of the spare (or all of it); 0 or -errno. */
extern int	spare_work(RlogFiles *files, bool all);
extern int	segment_create_file(RlogFiles *files, Segment *segment);
extern int	segment_drop_file(RlogFiles *files, uint64_t seq, uint64_t size);

/* ---------- rlog_meta.c ---------- */

extern int	meta_write(RlogFiles *files, const uint8_t *bytes, size_t len, int *copies_done);
extern int	mark_write(RlogFiles *files, const RlogMark *mark);
/* files->meta_fd must be open. *conf is malloc'ed or NULL. */
extern RlogStatus meta_read(RlogFiles *files, RlogMeta *meta, uint8_t **conf, RlogMark *mark,
							bool *has_mark, char *error);

/* ---------- rlog_scan.c ---------- */

typedef struct Scan
{
	const RlogEnv *env;
	int			fd;
	uint64_t	seq;
	uint64_t	size;			/* look no further */
	uint8_t    *buffer;
	uint64_t	buffer_start;
	size_t		buffer_len;
	size_t		window;			/* bytes to read at once, at most SCAN_BUFFER_BYTES */
	bool		unreadable;		/* the disk gave EIO somewhere */
} Scan;

extern bool scan_init(Scan *scan, const RlogEnv *env, int fd, uint64_t seq, uint64_t size);
extern void scan_free(Scan *scan);
extern void scan_forget(Scan *scan);
/* len bytes at offset, len <= SCAN_BUFFER_BYTES; NULL: beyond the end */
extern int	scan_bytes(Scan *scan, uint64_t offset, size_t len, const uint8_t **bytes);
/* 1: a record header that fits; 0: none; else -errno */
extern int	scan_header(Scan *scan, uint64_t offset, RecordHeader *header);
/* 1: payload is good; 0: not; else -errno. copy may be NULL. */
extern int	scan_payload(Scan *scan, uint64_t offset, const RecordHeader *header, uint8_t *copy);

/* ---------- rlog_list.c ---------- */

typedef struct SegmentList
{
	uint64_t   *seqs;			/* ascending */
	size_t		count;
	size_t		size;
	bool		has_spare;
	bool		out_of_memory;
} SegmentList;

extern int	segment_list(const RlogFiles *files, SegmentList *list);

#endif							/* PGQ_RLOG_INTERNAL_H */
