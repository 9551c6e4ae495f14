/*-------------------------------------------------------------------------
 *
 * tables.h
 *		Which relations are replicated, and under which cluster-wide number.
 *
 * A table is replicated where it carries our capture trigger and
 * quorum.replicated_table knows it under the number that is the trigger's
 * argument: so the relation's own trigger descriptor tells, transactionally. A
 * trigger without that comes from a dump (pg_dump knows triggers, but not our
 * catalog): it does nothing, and the table is an ordinary one. The other way, a
 * number to this member's relation, goes through quorum.replicated_table alone.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGQ_TABLES_H
#define PGQ_TABLES_H

#include "postgres.h"

#include "utils/rel.h"

/*
 * The extension's own replicated tables: there from CREATE EXTENSION on, on
 * every member, under numbers that quorum.add_table never reaches. Their triggers
 * are made by the extension's script.
 */
#define TABLES_IDEMPOTENCY_ID	4000000001U

/* The table's number; that of its root for a partition. 0: not replicated. */
extern uint32 tables_id_of(Relation rel);

/* Does it carry triggers of ours, whatever they are good for? */
extern bool tables_has_triggers(Relation rel);

/*
 * The number by OID, without a lock on the relation being needed, and 0 for the
 * extension's own tables: what may be done to them follows other rules.
 */
extern uint32 tables_id_of_oid(Oid relid);

/*
 * This member's relation of that number (the root, of a partitioned table).
 * InvalidOid: unknown here. Needs a transaction. Cached, invalidated with
 * quorum.replicated_table.
 */
extern Oid	tables_oid_of(uint32 table_id);

/*
 * The index whose columns are the row's identity, in keys and when rows are
 * looked up: the primary key, or else the index of REPLICA IDENTITY USING
 * INDEX. REPLICA IDENTITY FULL or NOTHING make no difference. InvalidOid:
 * the table has none and cannot be replicated.
 */
extern Oid	tables_identity_index(Relation rel);

/*
 * Both run as SQL statements of 'X' records on the other members, and
 * directly where they were called: quorum._add_table(id, schema, name,
 * definition) and quorum._remove_table(id). tables_forget_caches() after any
 * change to quorum.replicated_table.
 */
extern void tables_forget_caches(void);

/* OID of quorum.replicated_table; InvalidOid without the extension. */
extern Oid	tables_catalog_oid(void);

#endif							/* PGQ_TABLES_H */
