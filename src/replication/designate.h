/*-------------------------------------------------------------------------
 *
 * designate.h
 *		Making tables replicated, and ordinary again.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGQ_DESIGNATE_H
#define PGQ_DESIGNATE_H

#include "postgres.h"

#include "utils/rel.h"

/* The row of quorum.replicated_table loses its relation: dropped or removed. */
extern void designate_clear(uint32 table_id);

#endif							/* PGQ_DESIGNATE_H */
