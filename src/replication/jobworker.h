/*-------------------------------------------------------------------------
 *
 * jobworker.h
 *		Background workers that come when there is something to do for them, and
 *		go when it is done.
 *
 * What there is to do stands in a table. The apply worker looks there when
 * something was put in (due), and once after its start; it starts a worker and
 * looks again when that one has ended. So nothing is forgotten over a crash of
 * either, and a worker that can not be had now is had later.
 *
 * A JobWorker is private to the apply worker.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGQ_JOBWORKER_H
#define PGQ_JOBWORKER_H

#include "postgres.h"

#include "postmaster/bgworker.h"

typedef struct JobWorker
{
	const char *function;		/* its entry point, in this library */
	const char *name;
	int			restart_s;
	bool		(*is_waiting) (void);	/* outside a transaction */
	bool		due;			/* begins true */
	BackgroundWorkerHandle *handle;
} JobWorker;

/* In the apply worker, once in each turn of its loop, outside a transaction. */
extern void jobworker_turn(JobWorker *job);

/* For is_waiting: does this query have a row? */
extern bool jobworker_finds(const char *query);

/* In the worker: signals, the database, settings that nobody is to change for it. */
extern void jobworker_begin(void);

#endif							/* PGQ_JOBWORKER_H */
