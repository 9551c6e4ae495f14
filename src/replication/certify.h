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
 * In pieces: a transaction of a million keys must not keep the worker from its
 * heartbeats. cert_begin_turn() allows a number of keys, which are noted
 * (backlog first, in log order) and checked until it is used up.
 *
 *	- An entry whose keys are not all noted is in the backlog, and nothing that
 *	  has keys passes a check before the backlog is empty. Tokens are never late.
 *	- A check that was not finished goes on where it stopped only if nothing was
 *	  noted and nothing was cut off meanwhile; otherwise it begins anew. So what
 *	  passes has been compared with the map as it is, all of it. The caller
 *	  appends nothing with keys while a check is under way, or it takes longer.
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

typedef enum CertVerdict
{
	CERT_PASSED,
	CERT_REFUSED,				/* *conflict says why */
	CERT_UNFINISHED				/* ask again in the next turn */
} CertVerdict;

/* A new turn, of at most so many keys. True: there is a backlog even so. */
extern bool cert_begin_turn(CertMap *map, uint32_t keys);

/*
 * May this payload be appended? Malformed or of an unknown kind: no. One check
 * at a time goes on over several turns; the payload of a token stays where it is
 * meanwhile, or the check begins anew.
 */
extern CertVerdict cert_check_some(CertMap *map, RaftToken token, const void *payload,
								   size_t len, CertConflict *conflict);

/* The same, at once and as a whole. */
extern bool cert_check(CertMap *map, const void *payload, size_t len, CertConflict *conflict);

/* Entry `index` was appended. Noted at once and as a whole. */
extern void cert_appended(CertMap *map, uint64_t index, RaftToken token,
						  const void *payload, size_t len);

/* The same; its keys may have to wait for another turn. */
extern void cert_appended_some(CertMap *map, uint64_t index, RaftToken token, RaftBuf *payload);

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
