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

extern void outcome_install(void);
extern void outcome_register_keeper(void);

/* the keeper's entry point */
extern PGDLLEXPORT void outcome_keeper_main(Datum arg);

#endif							/* PGQ_OUTCOME_H */
