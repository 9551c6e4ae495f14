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

/* What all members must agree on, as text. */
extern char *designate_definition(Oid relid);
/*
 * What quorum.add_table does, whoever calls: for tables of a replicated schema,
 * whose owner need not be allowed to change which tables are replicated.
 */
extern void designate_add(Oid relid);

/* The table of that number is an ordinary one on this member; not in the log. */
extern void designate_remove_here(uint32 table_id);

/* The row of quorum.replicated_table loses its relation: dropped or removed. */
extern void designate_clear(uint32 table_id);

#endif							/* PGQ_DESIGNATE_H */
