/*-------------------------------------------------------------------------
 *
 * keys_internal.h
 *		Between keyplan.c, keys.c and tables.c.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGQ_KEYS_INTERNAL_H
#define PGQ_KEYS_INTERNAL_H

#include "postgres.h"

extern uint64 keys_mix(uint64 a, uint64 b);
extern uint64 keys_seed(uint32 table_id, char space);

/* tables.c: no catalog access; InvalidOid when not looked up yet */
extern Oid	tables_catalog_oid_cached(void);
extern bool tables_is_own_namespace(Oid namespace_id);

#endif							/* PGQ_KEYS_INTERNAL_H */
