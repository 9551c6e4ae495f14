/*-------------------------------------------------------------------------
 *
 * rlog.h
 *		Public face of the durable log: segments of checksummed records, and a
 *		small metadata file (identity, term and vote, configuration).
 *
 * Pure C11: no PostgreSQL, no libuv, no threads, no clock. All file operations
 * go through RlogEnv, so that the simulator can put a faulty disk under it.
 *
 * Threads: an Rlog belongs to one thread (the event loop). The only thing that
 * may run elsewhere is rlog_io_run() on an RlogIo: it touches nothing but the
 * RlogIo and the files. At most one RlogIo is out at a time; what is appended
 * meanwhile goes into the next one (group commit):
 *
 *		rlog_append(...);  rlog_set_hard_state(...);  rlog_truncate_suffix(...)
 *		io = rlog_io_begin(log);		-- NULL: nothing to do, or one is out
 *		rlog_io_run(io);				-- on a pool thread: write, fdatasync
 *		rlog_io_done(log, io);			-- back on the loop: durable now
 *
 * After rlog_io_done everything appended, truncated or set before its
 * rlog_io_begin is durable, in order: a crash in between leaves what some
 * prefix of those calls would have left. First failed write or sync poisons the
 * log until it is reopened.
 *
 * Full disk. One spare segment is kept ahead. When it cannot be made,
 * rlog_health() says RLOG_NO_SPACE while appends still fit into what is there.
 * When a round cannot be written at all, rlog_io_done() returns RLOG_NO_SPACE:
 * what was not written stays queued, in order, and the log is not poisoned (a
 * write that was refused for want of space has lost nothing, unlike a sync).
 * rlog_io_begin() then makes a new attempt with every RLOG_RETRY_CALLS-th call
 * only, so that a loop which calls it all the time does not spin; call it from
 * a timer too. Health is RLOG_OK again once the spare is there.
 *
 * The commit index is kept as a hint: at most the last index that was durable
 * when it was written, so after a crash it is never above rlog_last_index().
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGQ_RLOG_H
#define PGQ_RLOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RLOG_ERROR_LEN 256
#define RLOG_RETRY_CALLS 32
#define RLOG_MAX_CONF 65000		/* bytes of rlog_set_conf */

typedef enum RlogStatus
{
	RLOG_OK = 0,
	RLOG_END,					/* reader: nothing (yet) at that index */
	RLOG_COMPACTED,				/* that index was truncated away */
	RLOG_NOT_FOUND,				/* no log in this directory */
	RLOG_EXISTS,				/* rlog_create: there is one */
	RLOG_DAMAGED,				/* acknowledged records cannot be read */
	RLOG_IO_ERROR,				/* the log is poisoned */
	RLOG_NO_SPACE,				/* headroom is gone: refuse new proposals */
	RLOG_NO_MEMORY,
	RLOG_INVALID
} RlogStatus;

/* Blocking file operations; all return 0 or -errno, sizes in bytes. */
typedef struct RlogEnv
{
	void	   *ctx;
	int			(*open) (void *ctx, const char *path, bool create, bool writable, int *fd);
	int			(*close) (void *ctx, int fd);
	int64_t		(*pread) (void *ctx, int fd, void *buf, size_t len, uint64_t offset);	/* bytes read */
	int			(*pwrite) (void *ctx, int fd, const void *buf, size_t len, uint64_t offset);	/* all or error */
	int			(*fdatasync) (void *ctx, int fd);
	int			(*fsync_dir) (void *ctx, const char *path);
	int			(*rename) (void *ctx, const char *from, const char *to);
	int			(*unlink) (void *ctx, const char *path);
	int			(*truncate) (void *ctx, int fd, uint64_t size);
	int			(*allocate) (void *ctx, int fd, uint64_t size);	/* zeros on disk, size set */
	int64_t		(*size) (void *ctx, int fd);
	int			(*mkdir) (void *ctx, const char *path);
	int			(*list) (void *ctx, const char *path, void (*name) (void *arg, const char *name), void *arg);
} RlogEnv;

extern const RlogEnv *rlog_env_posix(void);

typedef struct RlogIdentity
{
	uint8_t		cluster_id[16];
	uint8_t		instance_id[16];
	uint32_t	node_id;
} RlogIdentity;

/* One record. stamp and token are opaque bytes. */
typedef struct RlogRecord
{
	uint64_t	index;
	uint64_t	term;
	uint8_t		type;
	uint8_t		stamp[16];
	uint8_t		token[16];
	const void *data;
	uint32_t	len;
	/* called once when data is not needed any more (after the write); may be NULL */
	void		(*release) (void *arg);
	void	   *release_arg;
} RlogRecord;

typedef struct RlogTermRun
{
	uint64_t	first_index;
	uint64_t	term;
} RlogTermRun;

typedef struct RlogOptions
{
	uint64_t	segment_bytes;	/* 0: default, 16 MB; at least 4096 */
	uint8_t		watch_type;		/* 0: none; rlog_watched() lists records of it */
} RlogOptions;

typedef struct Rlog Rlog;
typedef struct RlogIo RlogIo;

/* Make a new, empty log. All durable when it returns. */
extern RlogStatus rlog_create(const RlogEnv *env, const char *dir, const RlogOptions *options,
							  const RlogIdentity *identity, char *error);

/*
 * Open and recover. RLOG_DAMAGED: *log is NULL and error says what was found
 * where. A torn tail that was never acknowledged is cut; *notice (RLOG_ERROR_LEN,
 * may be empty) says so.
 */
extern RlogStatus rlog_open(const RlogEnv *env, const char *dir, const RlogOptions *options,
							Rlog **log, char *notice, char *error);

/*
 * For a log that rlog_open calls RLOG_DAMAGED: keep what is good before the
 * first damaged record, cut the rest, and remember durably that this member
 * acknowledged more than it has: until it has got everything up to
 * rlog_distrusted_until() from a leader again, it must neither vote nor
 * campaign. *damaged: first index that was lost. The saved commit index is
 * lowered to the last good record. On a log that is not damaged the same as
 * rlog_open, *damaged = 0. RLOG_DAMAGED: the metadata itself is gone (term and
 * vote are forgotten), the member must join anew with another instance id.
 */
extern RlogStatus rlog_salvage(const RlogEnv *env, const char *dir, const RlogOptions *options,
							   Rlog **log, uint64_t *damaged, char *notice, char *error);

/* 0: trusted. Survives restarts until rlog_trust() is durable. */
extern uint64_t rlog_distrusted_until(const Rlog *log);
extern RlogStatus rlog_trust(Rlog *log);	/* queued, like the changes below */

extern void rlog_close(Rlog *log);	/* no RlogIo may be out */

/* ---------- what is in it (loop thread) ---------- */

extern const RlogIdentity *rlog_identity(const Rlog *log);
extern uint64_t rlog_first_index(const Rlog *log);	/* 1 for a new log */
extern uint64_t rlog_last_index(const Rlog *log);	/* appended, not nec. durable */
extern uint64_t rlog_durable_index(const Rlog *log);	/* of those, on disk */
extern uint64_t rlog_prev_term(const Rlog *log);	/* term of first_index - 1 */
extern uint64_t rlog_bytes(const Rlog *log);		/* size of all segments in use */
/* First record of the shortest end of the log, in whole segments, with that many bytes. */
extern uint64_t rlog_tail_index(const Rlog *log, uint64_t bytes);
extern uint64_t rlog_bytes_from(const Rlog *log, uint64_t index);	/* of segments from there on */
extern size_t rlog_term_runs(const Rlog *log, const RlogTermRun **runs);
/* Indexes of the records of options->watch_type, ascending. */
extern size_t rlog_watched(const Rlog *log, const uint64_t **indexes);
extern void rlog_hard_state(const Rlog *log, uint64_t *term, uint32_t *vote, uint64_t *commit);
extern const void *rlog_conf(const Rlog *log, size_t *len, uint64_t *index);

/* ---------- changes: queued, durable after the next round of I/O ---------- */

/* Next index must be last_index + 1. Copies the header, references the data. */
extern RlogStatus rlog_append(Rlog *log, const RlogRecord *record);
extern RlogStatus rlog_truncate_suffix(Rlog *log, uint64_t from);
/*
 * sync false: only remembered, written with the next synced change. Without a
 * change of term or vote nothing is synced either way. A lower term, or another
 * vote in the same term, is RLOG_INVALID.
 */
extern RlogStatus rlog_set_hard_state(Rlog *log, uint64_t term, uint32_t vote,
									  uint64_t commit, bool sync);
extern RlogStatus rlog_set_conf(Rlog *log, const void *conf, size_t len, uint64_t index);
/*
 * The member goes on without the others, under another cluster id: conf is the
 * configuration as of the last entry, all entries count as committed, and as
 * trusted. One write of the metadata: a crash leaves all of it or nothing.
 */
extern RlogStatus rlog_force(Rlog *log, const uint8_t *cluster_id, const void *conf, size_t len);
/*
 * Segments wholly below index may go: first_index is at most index afterwards.
 * Queued as the others are; files go in the next round.
 */
extern RlogStatus rlog_truncate_prefix(Rlog *log, uint64_t index);
/* Drop everything; the log then begins at index + 1, after an entry of term. */
extern RlogStatus rlog_reset(Rlog *log, uint64_t index, uint64_t term);

extern RlogIo *rlog_io_begin(Rlog *log);
extern void rlog_io_run(RlogIo *io);
/* RLOG_OK; RLOG_NO_SPACE: see above; RLOG_IO_ERROR: poisoned. Frees io. */
extern RlogStatus rlog_io_done(Rlog *log, RlogIo *io);
extern bool rlog_io_busy(const Rlog *log);

/* RLOG_OK, RLOG_NO_SPACE or RLOG_IO_ERROR with a text. */
extern RlogStatus rlog_health(const Rlog *log, const char **text);

/* ---------- reading ---------- */

/*
 * Read-only cursor over the files, for the owner and for other processes. The
 * caller only asks for indexes that it knows to be durable.
 */
typedef struct RlogReader RlogReader;

extern RlogStatus rlog_reader_open(const RlogEnv *env, const char *dir, RlogReader **reader,
								   char *error);
extern void rlog_reader_close(RlogReader *reader);

/*
 * A suffix was truncated, or everything reset: what the reader remembers of
 * places may be wrong. Needed by who reads entries that may yet be truncated;
 * not by who reads committed ones only.
 */
extern void rlog_reader_forget(RlogReader *reader);

/*
 * The record at index; limit: highest index known to be durable (read-ahead
 * goes no further). rec->data is valid until the next call. Sequential calls
 * are cheap. release fields are not set.
 */
extern RlogStatus rlog_reader_get(RlogReader *reader, uint64_t index, uint64_t limit,
								  RlogRecord *rec, char *error);

#endif							/* PGQ_RLOG_H */
