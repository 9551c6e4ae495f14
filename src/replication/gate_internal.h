/*-------------------------------------------------------------------------
 *
 * gate_internal.h
 *		Shared memory and payload of gates, between gate.c and gate_apply.c.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGQ_GATE_INTERNAL_H
#define PGQ_GATE_INTERNAL_H

#include "postgres.h"

#include "storage/condition_variable.h"
#include "storage/spin.h"

#include "node/node.h"
#include "replication/gate.h"

#define GATE_MAX		64
#define GATE_LEASE_US	INT64CONST(5000000)	/* without word of the owner's server */
#define GATE_RENEW_US	INT64CONST(1000000)

typedef enum GateAction
{
	GATE_CLOSE = 1,
	GATE_KEEP,
	GATE_OPEN
} GateAction;

/* A transaction of this server that has closed gates. */
typedef struct GateOwner
{
	RaftToken	token;			/* node 0: free */
	bool		ended;			/* without an entry: its gates are to be opened */
	int64		deadline_us;	/* no renewal after it */
	int64		renewed_us;
} GateOwner;

/* A table that is closed, as the apply worker of this server knows. */
typedef struct GateTable
{
	uint32		table_id;		/* 0: free */
	RaftToken	owner;
	int64		until_us;
} GateTable;

/*
 * All under mutex. owners: their sessions, and the apply worker, which frees
 * those that have ended. tables: the apply worker, and a session that commits,
 * which frees its own. Zero at the server's start: a crash opens all gates here,
 * and those that this server's sessions had closed elsewhere lapse.
 */
typedef struct GateShared
{
	slock_t		mutex;
	GateOwner	owners[GATE_MAX];
	GateTable	tables[GATE_MAX];
	ConditionVariable opened;
} GateShared;

extern GateShared *gate_shared;

/* Payload of an entry; palloc'ed. Keys only for GATE_CLOSE. */
extern NodePart gate_payload(GateAction action, RaftToken owner,
							 const List *table_ids, uint64 base);

#endif							/* PGQ_GATE_INTERNAL_H */
