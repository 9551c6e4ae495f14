/*-------------------------------------------------------------------------
 *
 * lock_tables.h
 *		The tables of sqlsrc/40_lock.sql as C sees them.
 *
 * Read by sessions, written by the apply worker only (lock_apply.c), by the
 * index and heap routines that the catalogs use: an entry costs microseconds.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGQ_LOCK_TABLES_H
#define PGQ_LOCK_TABLES_H

#include "postgres.h"

#include "access/genam.h"
#include "lib/stringinfo.h"
#include "utils/rel.h"

#include "lock/lockstate.h"

typedef enum LockTable
{
	LOCK_GRANT,
	LOCK_MEMORY,
	LOCK_LEASE,
	LOCK_LOSS
} LockTable;

/* lock_grant and lock_memory begin alike */
#define Anum_key			1
#define Anum_key_type		2
#define Anum_token			3
#define Anum_mode			4

#define Anum_grant_weight	5
#define Anum_grant_permits	6
#define Anum_grant_node		7
#define Anum_grant_boot		8
#define Anum_grant_session	9
#define Anum_grant_pid		10
#define Anum_grant_lease	11
#define Anum_grant_request_node 12
#define Anum_grant_request_boot 13
#define Anum_grant_request_counter 14
#define Anum_grant_max_hold	15
#define Anum_grant_delay	16
#define Anum_grant_lease_time 17
#define Anum_grant_count	18
#define Anum_grant_acquired	19
#define Natts_grant			19

#define Anum_memory_released 5
#define Anum_memory_released_at 6
#define Natts_memory		6

#define Anum_lease_id		1
#define Anum_lease_index	2
#define Anum_lease_ttl		3
#define Anum_lease_node		4
#define Anum_lease_boot		5
#define Anum_lease_pid		6
#define Anum_lease_opened	7
#define Anum_lease_name		8
#define Natts_lease			8

#define Anum_loss_index		1
#define Anum_loss_n			2
#define Anum_loss_key		3
#define Anum_loss_key_type	4
#define Anum_loss_token		5
#define Anum_loss_mode		6
#define Anum_loss_node		7
#define Anum_loss_pid		8
#define Anum_loss_lease		9
#define Anum_loss_cause		10
#define Anum_loss_at		11
#define Anum_loss_role		12
#define Anum_loss_reason	13
#define Natts_loss			13

extern Relation lock_table_open(LockTable table, LOCKMODE mode);

/* The index of the primary key, or of lock_memory.released. */
extern Oid	lock_table_index(LockTable table);
extern Oid	lock_memory_order_index(void);

/* Rows of one key; in lock_grant or lock_memory. */
extern SysScanDesc lock_scan_key(Relation rel, LockTable table, uint8 key_type, Datum key_text);
extern SysScanDesc lock_scan_token(Relation rel, LockTable table, uint8 key_type, Datum key_text,
								   uint64 token);

/* A key as the tables and messages show it, and back to what the log has. */
extern text *lock_key_to_text(uint8 key_type, const char *key, Size len);
extern char *lock_key_from_text(uint8 key_type, text *shown, uint16 *len);

extern int64 lock_row_int(HeapTuple tuple, int attnum, TupleDesc desc);

#endif							/* PGQ_LOCK_TABLES_H */
