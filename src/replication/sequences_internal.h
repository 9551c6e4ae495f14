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

/* After setval() in the applier: this member's next value. */
extern void sequences_into_class(Oid seq);

/* setval() was called: this statement's end puts the sequence right. */
extern void sequences_note_setval(void);

/* sequences_setval.c */
extern void setval_install(void);

/* A replicated table was altered: those that it has got by that. */
extern void sequences_adopt_new(Oid relid);

/* This table's sequences past all of its keys. */
extern void sequences_fix(Oid relid);

/*
 * All owned sequences back into this member's class; past all keys of their
 * tables, too, if past_keys. Not those of tables where skip says so; done is
 * told of each that is. wait false: tables and sequences that are locked are
 * left out, and the result is false. In a transaction, as anyone.
 */
extern bool sequences_fix_all(bool past_keys, bool wait, bool (*skip) (uint32 table_id),
							  void (*done) (uint32 table_id));

#endif							/* PGQ_SEQUENCES_INTERNAL_H */
