/*-------------------------------------------------------------------------
 *
 * tablecopy.h
 *		The rows of a large table that becomes a replicated one travel ahead of
 *		the entry that makes it one, in chunks.
 *
 * quorum.add_table puts into the log, one after the other, entries of bounded
 * size:
 *	- the beginning of a copy (quorum._copy_begin): a row of quorum.table_copy;
 *	- chunks ('C' records, writeset.h): row changes of the table as in any write
 *	  set, kept by every member as rows of quorum.table_copy_chunk;
 *	- the entry of its own transaction, quorum._add_table_copied: every other
 *	  member does what the chunks say, in this one transaction, with the table
 *	  empty before. The member where it was called has the rows already;
 *	- the end (quorum._copy_forget), which deletes the chunks again.
 * So until that one entry the table is on all other members what it was: an
 * ordinary, empty one. Nobody ever sees a part of it. Chunks are made by the log
 * alone and are the same everywhere, so images have them and nothing need be
 * known of who was there when.
 *
 * Writers go on meanwhile. The caller holds a lock that keeps schema changes and
 * VACUUM out and sends what one snapshot shows; then what another, later snapshot
 * shows otherwise, until that is little; then it keeps writers out, and sends the
 * last of it. What changed between two snapshots is found by visibility: the
 * older one is still registered, so no version that it shows has been removed.
 *
 * A copy whose caller is gone, for whatever reason (error, cancel, crash of the
 * session or the server), or whose transaction is over, is forgotten. The caller
 * holds a lock named after the copy as long as its transaction lasts; a worker on
 * its server waits until that is free, and then puts the end into the log, again
 * and again, until the rows are gone. The apply worker starts it. Copies of
 * members that have been removed are ended by all others. The end carries an
 * exclusive key of the copy that is never refused, and so does the caller's
 * transaction: should it come after the end, it is refused (40001), and never
 * finds its chunks gone.
 *
 * quorum.table_copy and quorum.table_copy_chunk are changed by entries of the log
 * only, but for column phase, which the caller's transaction sets, as the entry
 * does on the other members.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGQ_TABLECOPY_H
#define PGQ_TABLECOPY_H

#include "postgres.h"

#include "utils/rel.h"

#include "replication/writeset.h"

/* ---------- where quorum.add_table is called (tablecopy.c) ---------- */

typedef struct TableCopy TableCopy;

/*
 * Is it so large that one transaction should not carry it? The relation is locked
 * against schema changes and may be written.
 */
extern bool tablecopy_is_due(Relation rel);

/* Most of its rows; writers go on. */
extern TableCopy *tablecopy_begin(Relation rel);

/* The rest; keeps writers out from here to the end of the transaction. */
extern void tablecopy_finish(TableCopy *copy);

extern const char *tablecopy_id(const TableCopy *copy);
extern uint32 tablecopy_chunks(const TableCopy *copy);

/* The copy's key, see above. */
extern uint64 tablecopy_key(const char *id);

/* ---------- everywhere else (tablecopy_apply.c) ---------- */

/* A 'C' record. */
extern void tablecopy_keep_chunk(const WsRecord *rec);

/* The rows of all chunks, for the table of that number; the caller closes it. */
extern void tablecopy_load(const char *id, uint32 chunks, uint32 table_id);

/* The table is in: said by the caller's transaction and by its entry. */
extern void tablecopy_note_added(const char *id);

/* In the apply worker, between entries: start the worker that ends copies. */
extern void tablecopy_work(void);
extern void tablecopy_look_again(void);

extern PGDLLEXPORT void tablecopy_end_main(Datum arg);

/* The lock that the caller holds; false: it is not free, and was not waited for. */
extern bool tablecopy_lock(const char *id);

#endif							/* PGQ_TABLECOPY_H */
