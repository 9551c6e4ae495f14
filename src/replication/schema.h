/*-------------------------------------------------------------------------
 *
 * schema.h
 *		Schemas all of whose tables are replicated, now and later (schema.c).
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGQ_SCHEMA_H
#define PGQ_SCHEMA_H

#include "postgres.h"

#include "nodes/pg_list.h"
#include "nodes/primnodes.h"

extern bool schema_is_replicated(Oid schema);

/* Would a table of this name be made in one? */
extern bool schema_is_replicated_name(const RangeVar *name);

/* The replicated tables that lie in it, roots of partitioned ones only. */
extern List *schema_replicated_tables(Oid schema);

/* After ALTER SCHEMA ... RENAME, DROP SCHEMA, here and on the others. */
extern void schema_renamed(const char *from, const char *to);
extern void schema_dropped(const char *name);

#endif							/* PGQ_SCHEMA_H */
