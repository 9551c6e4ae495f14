/*-------------------------------------------------------------------------
 *
 * read.h
 *		Read levels: what the files of the read side share, and what pg_quorum.c
 *		calls.
 *
 *	read_hooks.c	where a statement meets its level (executor, utility commands)
 *	read_level.c	settings, and the wait that each level asks for
 *	read_snapshot.c	does a snapshot hold an entry; a younger one in its place
 *	read_explain.c	what EXPLAIN ANALYZE says about it
 *	read_info.c		SQL functions
 *	token*.c		causal tokens (token.h)
 *
 * All state here is private to the process.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGQ_CONSISTENCY_READ_H
#define PGQ_CONSISTENCY_READ_H

#include "postgres.h"

#include "executor/execdesc.h"
#include "nodes/plannodes.h"
#include "tcop/dest.h"
#include "utils/portal.h"
#include "utils/snapshot.h"

/* The order is that of the setting's values; higher is not always stronger. */
typedef enum ReadLevel
{
	READ_EVENTUAL = 0,
	READ_BOUNDED,
	READ_YOUR_WRITES,
	READ_CAUSAL,
	READ_STRONG
} ReadLevel;

extern int	quorum_read_consistency;	/* ReadLevel */
extern int	quorum_max_staleness_ms;
extern int	quorum_read_timeout_ms;

/* What a statement's data are good for. */
typedef struct ReadReached
{
	ReadLevel	level;
	bool		strong;			/* linearizable at the moment as_of_us */
	uint64		index;			/* entries up to here are in them */
	int64		as_of_us;		/* all that was acknowledged before; 0: not known */
	int64		begun_us;		/* when the statement asked */
	int64		waited_us;
	int64		age_us;			/* of the data when it was served, at most; -1 not known */
} ReadReached;

/* ---------- pg_quorum.c ---------- */

extern void read_define_settings(void);
extern void read_install(void); /* before the hooks of the replication layer */

/* ---------- read_level.c ---------- */

extern const char *read_level_name(ReadLevel level);

/* Do levels mean anything to this process, in this database, now? */
extern bool read_concerns_us(void);

/*
 * Wait until this server's tables are fit for the level: a snapshot taken
 * afterwards is. 55000 past quorum.read_timeout; 40001 when the applier needs a
 * lock that we hold.
 */
extern void read_reach(ReadLevel level, ReadReached *reached);

/* Would data reached before still do for the level, through this snapshot? */
extern bool read_still_good(ReadLevel level, const ReadReached *reached, Snapshot snapshot);

/* ---------- read_snapshot.c ---------- */

/* Is the entry, and all below, in the snapshot? The entry is applied here. */
extern bool read_snapshot_holds(Snapshot snapshot, uint64 index);

/* May the query's snapshot be replaced by a younger one? Then do it. */
extern bool read_may_replace(const QueryDesc *query);
extern void read_replace_snapshot(QueryDesc *query);

/* The same for the snapshot that a utility command will use; false: it is fixed. */
extern bool read_replace_utility_snapshot(void);

/* The portal of an EXECUTE or DECLARE CURSOR that is running; NULL: none. */
extern Portal read_utility_portal;

extern _Noreturn void read_report_too_old(ReadLevel level, uint64 index);

/* ---------- read_reads.c ---------- */

/* Does the statement read anything that a level could be about? */
extern bool read_has_to_wait(const PlannedStmt *stmt);

/* ---------- read_info.c ---------- */

/* Of the last statement that had a level; count: how many there were. */
extern void read_note(const ReadReached *reached);
extern uint64 read_noted(ReadReached *reached);

/* ---------- read_explain.c ---------- */

extern DestReceiver *read_explain_begin(DestReceiver *dest, List *options);

#endif							/* PGQ_CONSISTENCY_READ_H */
