/*-------------------------------------------------------------------------
 *
 * write.h
 *		Write levels (quorum.write_consistency), towards commit.c and pg_quorum.c.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGQ_WRITE_H
#define PGQ_WRITE_H

#include "postgres.h"

extern void write_define_settings(void);
extern void write_install(void);

/* At XACT_EVENT_COMMIT: entry `index` is committed here and visible. */
extern void write_level_committed(uint64 index);

#endif							/* PGQ_WRITE_H */
