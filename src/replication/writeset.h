/*-------------------------------------------------------------------------
 *
 * writeset.h
 *		The payload of a transaction's log entry: keys for certification, then
 *		row changes and statements in the order in which they happened.
 *
 * Byte layout (little-endian; "varint" is LEB128, unsigned):
 *
 *	header, 24 bytes
 *		u8	version			1
 *		u8	kind			WS_KIND_TRANSACTION; WS_KIND_LOCK: records as in
 *							lock/lock_payload.h, header and keys as here
 *		u16 flags			WS_FLAG_ALONE, or 0
 *		u32 nkeys
 *		u32 nrecords
 *		u32 reserved		0
 *		u64 base_max		highest base of any key
 *	keys, nkeys x 12 bytes, sorted by (key, mode), no duplicates
 *		u64 key
 *		u32 (base_max - base) << 1 | exclusive; a difference that does not fit
 *			is stored as 0x7fffffff, which reads as base 0
 *	records, nrecords times
 *		u8	type, then:
 *		'I' varint table_id, tuple (new)
 *		'U' varint table_id, u8 has_old, [tuple (old key columns)], tuple (new)
 *		'D' varint table_id, tuple (old key columns)
 *		'T' varint n, n x varint table_id, u8 restart_identity
 *		'X' string role, string search_path, varint nsettings,
 *			nsettings x (string name, string value), string statement
 *			an empty role is the apply worker's own: statements of ours only
 *		'C' string copy, varint number, varint rows, varint length, bytes: records
 *			'I' and 'D' of a table that is being added, with number 0 (tablecopy.h)
 *		'G' u8 action, token of the owner (u32 node, u32 boot, u64 counter),
 *			varint n, n x varint table_id: a gate (gate.c)
 *		string: varint length, bytes
 *		tuple:	varint natts (live columns in attnum order), then for each
 *				'n' null | 'u' unchanged, not sent | 'b' varint len, bytes
 *				(the type's in-memory form, only for built-in types whose form
 *				holds no OID) | 't' varint len, text form
 *		in-memory form: by value, typlen bytes, low byte first; fixed length by
 *			reference, typlen bytes; varlena, the bytes after the header of the
 *			detoasted, uncompressed value (the reader makes a new header)
 *		columns are those of the numbered table (of the root, for a partition);
 *			generated ones are 'u' and computed anew; in an old tuple every
 *			column that is not part of the identity is 'u'
 *
 * table_id is the cluster-wide number that quorum.add_table gives out; each
 * member maps it to its own relation OID in quorum.replicated_table.
 *
 * Reading is bounded and never trusts a length (an entry may come from a
 * member of another version). This header is shared by the session's side
 * (writeset.c: build), the Raft worker's (certify.c: keys only) and the apply
 * worker's (apply.c: records).
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGQ_WRITESET_H
#define PGQ_WRITESET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "raft/raft.h"

#define WS_VERSION				1
#define WS_KIND_TRANSACTION		1
#define WS_KIND_LOCK			2
#define WS_FLAG_ALONE			1	/* applied in a transaction of its own: all before is visible */
#define WS_HEADER_SIZE			24
#define WS_KEY_SIZE				12
#define WS_MAX_DELTA			0x7fffffffu

/* ---------- reading: plain C, no postgres.h (wsread.c) ---------- */

typedef struct WsKey
{
	uint64_t	key;
	uint64_t	base;
	bool		exclusive;
} WsKey;

typedef struct WsReader
{
	const uint8_t *data;
	size_t		len;
	size_t		pos;			/* next record */
	uint8_t		kind;			/* WS_KIND_...; records are read here of transactions only */
	uint32_t	nkeys;
	uint32_t	nrecords;
	uint32_t	records_read;
	uint64_t	base_max;
	const char *error;			/* static text once something was malformed */
} WsReader;

typedef struct WsColumn
{
	char		kind;			/* 'n', 'u', 'b', 't' */
	const uint8_t *data;
	uint32_t	len;
} WsColumn;

typedef struct WsString
{
	const char *data;			/* not zero-terminated */
	uint32_t	len;
} WsString;

#define WS_MAX_COLUMNS	1664	/* PostgreSQL's MaxTupleAttributeNumber */
#define WS_MAX_SETTINGS 32
#define WS_MAX_TRUNCATE 4096

typedef struct WsTuple
{
	uint32_t	natts;
	WsColumn   *cols;			/* caller-owned array of WS_MAX_COLUMNS */
} WsTuple;

typedef struct WsRecord
{
	char		type;			/* 'I', 'U', 'D', 'T', 'X', 'C', 'G' */
	uint32_t	table_id;
	bool		has_old;
	WsTuple		old_tuple;
	WsTuple		new_tuple;
	/* 'T', 'G' */
	uint32_t	ntables;
	uint32_t   *table_ids;		/* caller-owned array of WS_MAX_TRUNCATE */
	bool		restart_identity;
	/* 'X' */
	WsString	role;
	WsString	search_path;
	uint32_t	nsettings;
	WsString	setting_names[WS_MAX_SETTINGS];
	WsString	setting_values[WS_MAX_SETTINGS];
	WsString	statement;
	/* 'C' */
	WsString	copy_id;
	uint32_t	chunk_number;
	uint32_t	chunk_rows;
	WsString	chunk;			/* bytes of any value */
	/* 'G' */
	uint8_t		gate_action;
	RaftToken	gate_owner;
} WsRecord;

/* Header and key array checked as a whole; false with rd->error set. */
extern bool ws_read_open(WsReader *rd, const void *data, size_t len);

/* Must all before it be committed when it is applied? Looks at the header only. */
extern bool ws_stands_alone(const void *data, size_t len);
extern WsKey ws_read_key(const WsReader *rd, uint32_t i);

/* Next record; false at the end (error NULL) or when malformed (error set). */
extern bool ws_read_record(WsReader *rd, WsRecord *rec);

#endif							/* PGQ_WRITESET_H */
