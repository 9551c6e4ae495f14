/*-------------------------------------------------------------------------
 *
 * verify.h
 *		What resync.c needs of verify.c.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGQ_VERIFY_H
#define PGQ_VERIFY_H

#include "postgres.h"

/* The number of a replicated table (no partition); ERROR otherwise. */
extern uint32 verify_table_id(Oid relid);

/*
 * A repair of the table on that member is entry `index`: wait until it has taken
 * place, compare all members, mark them. NOTICE with what was done; ERROR when it
 * failed there.
 */
extern void verify_repaired(Oid relid, uint64 index, uint32 node, const char *name);

#endif							/* PGQ_VERIFY_H */
