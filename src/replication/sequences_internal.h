/*-------------------------------------------------------------------------
 *
 * sequences_internal.h
 *		Between sequences.c (values) and sequences_gate.c (when).
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGQ_SEQUENCES_INTERNAL_H
#define PGQ_SEQUENCES_INTERNAL_H

#include "postgres.h"

/* Owned by a replicated table? */
extern bool sequences_is_ours(Oid seq);

/*
 * All owned sequences back into this member's class, and past all keys of
 * their tables. In a transaction, as anyone.
 */
extern void sequences_fix_all(bool past_keys);

#endif							/* PGQ_SEQUENCES_INTERNAL_H */
