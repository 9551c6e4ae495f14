/*-------------------------------------------------------------------------
 *
 * idempotency.h
 *		quorum.idempotency_key, towards the session side of the replication layer.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGQ_IDEMPOTENCY_H
#define PGQ_IDEMPOTENCY_H

#include "postgres.h"

extern char *quorum_idempotency_key;

extern void idempotency_define_settings(void);

extern void idempotency_install(void);

#endif							/* PGQ_IDEMPOTENCY_H */
