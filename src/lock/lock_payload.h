/*-------------------------------------------------------------------------
 *
 * lock_payload.h
 *		The payload of a lock entry of the log: grants, releases, leases.
 *
 * Plain C, no postgres.h: written by sessions and by the Raft worker, read by
 * the Raft worker (lockstate.c), by the apply worker and by the tests.
 *
 * Byte layout (little-endian)
 *
 *	header, 24 bytes, and key array: as in writeset.h, with
 *		u8	version			1 (WS_VERSION)
 *		u8	kind			2 (WS_KIND_LOCK)
 *		u32 nrecords		1
 *		u64 base_max		0
 *	The keys are what check_fence() looks at in the certification map: a grant in
 *	mode exclusive writes keys A and B of its name, any other grant writes B only
 *	(lk_fence_keys); all of them exclusive, base 0. Entries that grant nothing
 *	have none. They are never certified.
 *
 *	one record:
 *		u8	op				LkOp
 *		then, by op:
 *	'G' grant (and the request for it)
 *		owner (38 bytes: u8 kind, u32 node, u32 boot, u64 session, 16 bytes lease,
 *		u32 pid, u8 zero)
 *		u8	flags			LK_TRY, LK_AGAIN
 *		u32 deadlock_ms		look for a deadlock after this long a wait
 *		u32 max_hold_ms		0: none
 *		u32 delay_ms		lock delay after an involuntary loss, 0: none
 *		u32 lease_ms		of the origin's server lease (quorum.lease_timeout)
 *		u16 nitems			each: u8 key_type, u8 mode, u32 weight, u32 limit,
 *							u16 length, bytes of the key
 *	'R' release, of single grants
 *		u8	reason			LkReason
 *		u16 nitems			each: u8 key_type, u8 whole, u64 token, u16 length, key
 *							whole 0: once, of a grant that a lease holds several times
 *	'S' all that a session holds: u32 node, u32 boot, u64 session, u64 last token
 *	'N' all that sessions of a node's former starts hold: u32 node, u32 boot (now), delays
 *	'X' the server lease of a node ran out: u32 node, u32 boot, delays
 *	'H' the maximum hold time of a grant ran out: as 'R', delays
 *	'O' a lease opens: 16 bytes id, u32 ttl_ms, u32 node, u32 boot, u32 pid,
 *		u16 length, name
 *	'C' a lease is closed by its user: 16 bytes id
 *	'E' a lease ran out: 16 bytes id, delays
 *	'B' an administrator breaks a lock, whoever holds it:
 *		u8 key_type, u16 length, key, u16 length, role, u16 length, reason, delays
 *	delays: u16 ndelays, each: u8 key_type, u32 delay_ms, u16 length, key
 *		The leader fills them in when it appends: locks that nobody gets for so
 *		long after the loss.
 *
 * N, X, H and E name only the leader's own entries: it refuses such a request
 * from anybody (but N, which a member asks for after a restart).
 *
 * Reading never trusts a length.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGQ_LOCK_PAYLOAD_H
#define PGQ_LOCK_PAYLOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LK_MAX_KEY_LEN		1024	/* bytes of a key */
#define LK_MAX_NAME_LEN		64	/* of a lease's name, zero byte included */
#define LK_MAX_TEXT_LEN		1024	/* of a reason or a role's name */
#define LK_MAX_ITEMS		1024	/* keys of one entry */
#define LK_UUID_LEN			16

/* Different types are different locks. The name in quorum.locks is lk_key_type_name(). */
typedef enum LkKeyType
{
	LK_KEY_TEXT = 1,			/* the text, in UTF-8 or whatever the database has */
	LK_KEY_BIGINT = 2,			/* 8 bytes, big-endian, so that text order is not needed */
	LK_KEY_SEMAPHORE = 3,
	LK_KEY_ELECTION = 4,
	LK_KEY_LATCH = 5
} LkKeyType;

#define LK_KEY_TYPE_MAX		15	/* read as valid; above is malformed */

typedef enum LkMode
{
	LK_EXCLUSIVE = 1,
	LK_SHARED = 2,

	/*
	 * A semaphore's: holders' weights together stay within the limit that the
	 * request carries. Also counts what its own owner holds already.
	 */
	LK_PERMIT = 3
} LkMode;

typedef enum LkOp
{
	LK_OP_GRANT = 'G',
	LK_OP_RELEASE = 'R',
	LK_OP_RELEASE_SESSION = 'S',
	LK_OP_RELEASE_NODE = 'N',
	LK_OP_EXPIRE_NODE = 'X',
	LK_OP_EXPIRE_HOLD = 'H',
	LK_OP_LEASE_OPEN = 'O',
	LK_OP_LEASE_CLOSE = 'C',
	LK_OP_LEASE_EXPIRE = 'E',
	LK_OP_BREAK = 'B'
} LkOp;

/* Why a grant is no more; also for the history table. */
typedef enum LkReason
{
	LK_RELEASED = 1,			/* unlocked */
	LK_GIVEN_UP,				/* granted to a session that did not wait any more */
	LK_SESSION_ENDED,
	LK_NODE_RESTARTED,
	LK_NODE_EXPIRED,
	LK_HOLD_EXPIRED,
	LK_LEASE_CLOSED,
	LK_LEASE_EXPIRED,
	LK_BROKEN
} LkReason;

extern const char *lk_reason_name(LkReason reason); /* "released", "session ended", ... */
extern const char *lk_key_type_name(uint8_t key_type);	/* "text", "bigint", ... */
extern const char *lk_mode_name(uint8_t mode);	/* "exclusive", "shared", "permit" */

/*
 * Who holds a grant. A session is (node, boot, session); for a lease only the
 * id counts, and the other fields say who asked.
 */
typedef enum LkOwnerKind
{
	LK_OWNER_SESSION = 1,
	LK_OWNER_LEASE = 2
} LkOwnerKind;

typedef struct LkOwner
{
	uint8_t		kind;			/* LkOwnerKind */
	uint32_t	node;			/* member id */
	uint32_t	boot;			/* its start of the server */
	uint64_t	session;		/* lock_session_register() */
	uint8_t		lease[LK_UUID_LEN]; /* zero for a session */
	uint32_t	pid;			/* for views */
} LkOwner;

extern bool lk_owner_equal(const LkOwner *a, const LkOwner *b);

#define LK_TRY		0x01		/* refuse at once rather than wait */
#define LK_AGAIN	0x02		/* set by the leader: its lease holds all of it already */
#define LK_FLAGS	0x03

typedef struct LkItem
{
	uint8_t		key_type;
	uint8_t		mode;			/* grants */
	uint32_t	weight;			/* LK_PERMIT: permits wanted; else 0 */
	uint32_t	limit;			/* LK_PERMIT: of the semaphore; else 0 */
	uint64_t	token;			/* releases */
	bool		whole;			/* releases: whatever its count */
	uint32_t	delay_ms;		/* delays */
	uint16_t	len;
	const char *key;			/* not zero-terminated; when read: in the payload */
} LkItem;

/* Everything but the items. When read, pointers lead into the payload. */
typedef struct LkRecord
{
	uint8_t		op;				/* LkOp */
	/* G */
	LkOwner		owner;
	uint8_t		flags;
	uint32_t	deadlock_ms;
	uint32_t	max_hold_ms;
	uint32_t	delay_ms;
	uint32_t	lease_ms;
	/* R, H */
	uint8_t		reason;			/* LkReason; lk_read_open() sets it for all releases */
	/* S N X; O: who opened it */
	uint32_t	node;
	uint32_t	boot;
	uint64_t	session;
	uint64_t	last_token;		/* S: grants up to this one; UINT64_MAX: all */
	/* O C E */
	uint8_t		lease[LK_UUID_LEN];
	uint32_t	ttl_ms;
	uint32_t	pid;
	uint16_t	name_len;
	const char *name;
	/* B */
	LkItem		broken;
	uint16_t	role_len;
	const char *role;
	uint16_t	text_len;
	const char *text;

	uint16_t	nitems;			/* G R H */
	uint16_t	ndelays;		/* N X H E B */
} LkRecord;

/* Is this payload a lock entry? (Everybody dispatches on byte 1.) */
extern bool lk_is_lock(const void *data, size_t len);

/* Its LkOp, without a look at the rest; 0: no lock entry. */
extern uint8_t lk_op(const void *data, size_t len);

/* ---------- writing ---------- */

/*
 * Bytes that lk_write() needs at most, and the writing of header, fence keys
 * and record. Returns what was written; 0: an argument is out of bounds (no
 * items, a key too long or empty of type text, ...). Fence keys are derived
 * from the items (none with LK_AGAIN). items: nitems of them, then ndelays.
 */
extern size_t lk_write_bound(const LkRecord *rec, const LkItem *items);
extern size_t lk_write(void *buf, size_t size, const LkRecord *rec, const LkItem *items);

/* ---------- reading ---------- */

typedef struct LkReader
{
	const uint8_t *data;
	size_t		len;
	size_t		pos;
	LkRecord	rec;
	uint32_t	items_read;
	uint32_t	delays_read;
	const char *error;			/* static text once something was malformed */
} LkReader;

/*
 * Checks the whole payload, items included: after true the other two cannot
 * fail but at the end of what they read. lk_read_delay() comes after the last
 * item.
 */
extern bool lk_read_open(LkReader *rd, const void *data, size_t len);
extern bool lk_read_item(LkReader *rd, LkItem *item);
extern bool lk_read_delay(LkReader *rd, LkItem *item);

/* ---------- fencing ---------- */

/*
 * The keys of a lock's name in the certification map. A: the last exclusive
 * grant; B: the last grant of any kind. A guarded write uses, shared, with the
 * applied index at which it found the token valid as the base: A and B for the
 * token of an exclusive grant, A for any other.
 */
extern void lk_fence_keys(uint8_t key_type, const char *key, size_t len,
						  uint64_t *a, uint64_t *b);

/* A bigint as a key, and back. */
extern void lk_bigint_key(int64_t value, char key[8]);
extern int64_t lk_bigint_value(const char key[8]);

#endif							/* PGQ_LOCK_PAYLOAD_H */
