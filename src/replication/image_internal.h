/*-------------------------------------------------------------------------
 *
 * image_internal.h
 *		What the files of the image share.
 *
 *	image.c			the apply worker's: an image is wanted, so get and load one
 *	image_source.c	SQL functions that the giving member runs
 *	image_snapshot.c	which entry a snapshot stands at
 *	image_conn.c	connections to the giving member
 *	image_schema.c	pg_dump's statements: read, judged, run
 *	image_copy.c	rows, table by table, in several workers
 *	image_replace.c	a member that has tables: all of them in one transaction
 *	image_guard.c	tables that are being loaded, and everybody else's statements
 *	image_stale.c	snapshots from before that was over
 *	image_adopt.c	a server that joins with tables of the cluster
 *	image_state.c	the extension's own tables, and sequences
 *	image_check.c	what stands in the way, said before anything is done
 *	image_join.c	quorum.join_cluster and quorum.join_progress
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGQ_IMAGE_INTERNAL_H
#define PGQ_IMAGE_INTERNAL_H

#include "postgres.h"

#include "libpq-fe.h"
#include "nodes/parsenodes.h"
#include "nodes/pg_list.h"
#include "port/atomics.h"
#include "storage/s_lock.h"
#include "utils/rel.h"

#include "node/node.h"

#define IMAGE_CONNINFO_LEN	4096
#define IMAGE_NAME_LEN		(2 * NAMEDATALEN + 8)

/* ---------- shared memory (image_join.c) ---------- */

typedef enum ImagePhaseShown
{
	IMAGE_IDLE = 0,				/* none since this server started */
	IMAGE_CONNECT,
	IMAGE_SCHEMA,
	IMAGE_DATA,
	IMAGE_INDEXES,
	IMAGE_LOG					/* in the tables; the log follows */
} ImagePhaseShown;

/*
 * Zero at the server's start. The apply worker writes, its copy workers add to
 * the counters and leave their error; sessions read. The counters are atomic,
 * the rest is under the mutex. A crash starts with nothing: the tables and the
 * mark (node/image.c) say how far it had come.
 */
typedef struct ImageShared
{
	slock_t		mutex;
	ImagePhaseShown phase;
	uint64		entry;
	uint32		attempts;
	int64		begun_us;
	int64		copy_begun_us;
	int64		copy_ended_us;
	uint32		tables_total;
	uint64		bytes_total;
	char		source[NODE_NAME_LEN];
	char		table[IMAGE_NAME_LEN];
	pg_atomic_uint32 tables_done;
	pg_atomic_uint64 bytes;
	pg_atomic_uint64 rows;
	pg_atomic_uint32 guarded;	/* image_guard.c */
	pg_atomic_uint64 replaced_xid;	/* image_stale.c; 0: none in this life of the server */

	/* for copy workers, of this attempt only */
	pg_atomic_uint32 attempt;	/* 0: stop */
	char		conninfo[IMAGE_CONNINFO_LEN];
	char		snapshot[64];
	int			error_sqlstate; /* 0 none: the first that a worker met */
	char		error[NODE_DETAIL_LEN];
} ImageShared;

extern ImageShared *image_shared;

extern Size image_shmem_size(void);
extern void image_shmem_init(void);
extern void image_define_settings(void);

extern char *quorum_copy_conninfo;
extern int	quorum_copy_workers;

extern void image_show_phase(ImagePhaseShown phase);
extern void image_show_table(const char *schema, const char *name);

/* How far it is, as a sentence; NULL: none has been begun. */
extern char *image_progress_text(void);

/* ---------- image_conn.c ---------- */

/* All of a result, as text; NULL for NULL. */
typedef struct ImageRows
{
	int			n;
	int			ncols;
	char	  **values;			/* n * ncols */
} ImageRows;

static inline char *
image_value(const ImageRows *rows, int row, int column)
{
	return rows->values[row * rows->ncols + column];
}

extern char *image_conninfo(const NodeSqlAddress *sql);

/* ERROR unless connected. Closed by image_disconnect(), or image_disconnect_all() after an error. */
extern PGconn *image_connect(const char *conninfo, const char *member);
extern void image_disconnect(PGconn *conn);
extern void image_disconnect_all(void);
extern PGresult *image_exec(PGconn *conn, const char *sql); /* for who looks at the result */
extern ImageRows *image_query(PGconn *conn, const char *sql);
extern bool image_connection_is_good(PGconn *conn);
extern _Noreturn void image_remote_error(PGconn *conn, PGresult *result, const char *what);

/* ---------- image_copy.c ---------- */

/* Rows of `query` (COPY ... TO STDOUT) into these columns of rel; how many. */
extern uint64 image_copy_rows(PGconn *conn, const char *query, Relation rel, List *columns,
							  bool binary);
extern List *image_text_array(const char *literal);	/* of char * */
extern char *image_column_list(List *columns);

/* Rows of quorum._image_table, all of them; `holder` must stay alive meanwhile. */
extern void image_copy_all(PGconn *holder, const char *conninfo, const char *snapshot);
extern void image_copy_stop(void);
extern void image_copy_abandon(void);

extern PGDLLEXPORT void replication_image_copy_main(Datum arg);

/* ---------- image_schema.c ---------- */

typedef struct ImageStatement
{
	char	   *text;
	Node	   *stmt;
	RangeVar   *target;			/* the relation that it is about, or NULL */
} ImageStatement;

/* The type that it makes; NULL: none. */
extern TypeName *image_made_type(const ImageStatement *statement);

/* Run in a subtransaction; NULL: it went well. trial: undone in any case. */
extern ErrorData *image_run_statement(const char *text, bool trial);

/* section: "pre-data" or "post-data"; snapshot NULL: now. excluded: quoted names */
extern List *image_dump(const char *conninfo, const char *section, const char *snapshot,
						List *excluded);
extern void image_check_roles(List *statements);

/* What to do with statements about that relation. */
typedef enum ImageUse
{
	IMAGE_CREATE,				/* run them; an error is an error */
	IMAGE_COMPLETE,				/* it is here: only what it lacks (indexes, triggers) */
	IMAGE_LEAVE					/* none of ours */
} ImageUse;

typedef ImageUse (*ImageUseFn) (const char *schema, const char *name, void *arg);
extern void image_run_statements(List *statements, ImageUseFn use, void *arg);

/* ---------- image_source.c: what the source has, asked over a connection ---------- */

typedef struct ImageRelation
{
	uint32		table_id;
	char	   *schema;
	char	   *name;
	char		relkind;
	bool		is_root;
	/* roots */
	char	   *definition;
	char	   *fingerprint;
	bool		here;			/* in this server, before anything is done (image_check) */
	/* sequences */
	char	   *owner_schema;	/* of the table that owns it, or NULL */
	char	   *owner_table;
	char	   *owner_column;
	char	   *last_value;		/* NULL: not called yet */
} ImageRelation;

typedef struct ImageUnit
{
	uint32		table_id;
	char	   *schema;
	char	   *name;
	List	   *columns;		/* of char *; without generated ones */
	List	   *stored_columns; /* with those that are stored */
	bool		binary;
	uint64		bytes;
} ImageUnit;

typedef struct ImageSource
{
	NodeSqlAddress sql;
	char	   *conninfo;
	PGconn	   *conn;			/* in its transaction, if begun */
	char	   *snapshot;
	NodeImagePoint point;
	List	   *relations;		/* of ImageRelation */
	List	   *units;			/* of ImageUnit, largest first */
	List	   *excluded;		/* of char *, quoted */
} ImageSource;

extern void image_source_open(ImageSource *source, const NodeSqlAddress *sql);
extern void image_source_begin(ImageSource *source);	/* a consistent image from here on */
extern void image_source_describe(ImageSource *source);

/* ---------- image_check.c ---------- */

/* ERROR when the source's tables cannot come into this server, which has no image. */
extern void image_check(ImageSource *source, List *statements);

/* ---------- image_guard.c ---------- */

extern void image_guard_tables(const ImageSource *source, bool on);
extern void image_guard_drop_all(void);
extern void image_guard_over(void);

/* ---------- image_state.c ---------- */

extern void image_load_state(PGconn *conn);
extern void image_set_sequences(const ImageSource *source);

/* ---------- image_adopt.c ---------- */

extern bool image_adopt(ImageSource *source);

/* ---------- image_replace.c ---------- */

extern void image_replace(ImageSource *source);

/* ---------- image.c ---------- */

/* In the apply worker: load one if it is wanted; false: not wanted. Never throws but FATAL. */
extern bool image_turn(void);

/* At its start: an image that was loaded just before a crash. */
extern void image_resume(void);

/* A transaction of the apply worker's, with a snapshot, in the image's memory. */
extern void image_begin(void);
extern void image_end(void);
extern void image_check_all_there(const ImageSource *source);

/* The last transaction: its commit makes the tables stand at that entry. */
extern void image_commit(const NodeImagePoint *point);

/*
 * Local SQL in a transaction, as superuser and with nothing but pg_catalog in the
 * search_path. The result's first value, or NULL.
 */
extern char *image_execute(const char *sql);

#endif							/* PGQ_IMAGE_INTERNAL_H */
