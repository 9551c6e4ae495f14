/*-------------------------------------------------------------------------
 *
 * certify.h
 *		The certification map: which key was used last at which log index, and
 *		which recent tokens are in the log. Plain C, no postgres.h: lives in the
 *		Raft worker's private memory and in the unit tests.
 *
 * Built from the entries as they are appended, on every member, so that a new
 * leader already has it. Bounded: when the key table is full, the oldest half
 * of what it covers is dropped and `floor` rises; a key with a base below the
 * floor cannot be judged and is refused.
 *
 * Rule (design.md section 5): an exclusive use conflicts with any later use,
 * a shared use with a later exclusive one; later = at an index above the base.
 * After a truncated suffix keys that were used in it count as used right before
 * it: that can only refuse a transaction that would have passed, and only for a
 * moment. Tokens are removed exactly.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGQ_CERTIFY_H
#define PGQ_CERTIFY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "raft/raft.h"

typedef struct CertMap CertMap;

typedef struct CertConflict
{
	uint64_t	key;			/* 0: base below the floor, or malformed */
	uint64_t	index;			/* the later use */
	const char *reason;			/* static text */
} CertConflict;

extern CertMap *cert_create(uint32_t max_keys, uint32_t max_tokens);
extern void cert_free(CertMap *map);

/* May this payload be appended? Malformed or of an unknown kind: no. */
extern bool cert_check(const CertMap *map, const void *payload, size_t len,
					   CertConflict *conflict);

/* Entry `index` was appended. */
extern void cert_appended(CertMap *map, uint64_t index, RaftToken token,
						  const void *payload, size_t len);

/* Entries at and above `from` were cut off. */
extern void cert_truncated(CertMap *map, uint64_t from);

/* Nothing below `first` is known (start-up, snapshot). */
extern void cert_set_floor(CertMap *map, uint64_t first);

extern uint64_t cert_find_token(const CertMap *map, RaftToken token);
/* The token of a recent entry; all zero when it is not known (any more). */
extern RaftToken cert_token_at(const CertMap *map, uint64_t index);
extern uint64_t cert_token_floor(const CertMap *map);
extern uint64_t cert_floor(const CertMap *map);

#endif							/* PGQ_CERTIFY_H */
