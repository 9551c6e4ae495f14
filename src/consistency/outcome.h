/*-------------------------------------------------------------------------
 *
 * outcome.h
 *		Outcomes of transactions, towards pg_quorum.c.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGQ_OUTCOME_H
#define PGQ_OUTCOME_H

#include "postgres.h"

extern int	quorum_outcome_retention_s;

extern void outcome_define_settings(void);

/*
 * In the apply worker, while an image is being loaded: fetch the giving member's
 * archive over this connection (a PGconn), for the keeper to adopt.
 */
extern void outcome_fetch_archive(void *conn);
extern void outcome_register_keeper(void);

/* the keeper's entry point */
extern PGDLLEXPORT void outcome_keeper_main(Datum arg);

#endif							/* PGQ_OUTCOME_H */
