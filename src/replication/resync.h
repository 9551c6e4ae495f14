/*-------------------------------------------------------------------------
 *
 * resync.h
 *		A member's table replaced by another member's rows.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGQ_RESYNC_H
#define PGQ_RESYNC_H

#include "postgres.h"

extern Size resync_shmem_size(void);
extern void resync_shmem_init(void);

/* ---------- in the apply worker ---------- */

/* At its start, and now and then; outside a transaction. May throw. */
extern void resync_load(void);
extern void resync_tidy(void);

/*
 * The table's rows are those of a later entry already: is entry `index`'s change
 * of it in them?
 */
extern bool resync_covers(uint32 table_id, uint64 index);

/*
 * Outside a transaction, at an entry that cannot be applied: does a session ask
 * for a table to be repaired at this point?
 */
extern bool resync_wanted_here(void);
extern void resync_here(void);	/* may throw */

/* stopped: this member cannot apply what comes next */
extern void resync_note_stopped(bool stopped);

/* ---------- under an inquiry's snapshot ---------- */

/* Is this member's table ahead of entry `index`? */
extern bool resync_is_ahead(uint32 table_id, uint64 index);

#endif							/* PGQ_RESYNC_H */
