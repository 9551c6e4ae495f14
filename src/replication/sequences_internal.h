/*-------------------------------------------------------------------------
 *
 * sequences_internal.h
 *		Between sequences.c (values), sequences_gate.c (when) and sequences_claim.c
 *		(how far).
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGQ_SEQUENCES_INTERNAL_H
#define PGQ_SEQUENCES_INTERNAL_H

#include "postgres.h"

#include "catalog/pg_sequence.h"

/* Owned by a replicated table? */
extern bool sequences_is_ours(Oid seq);

/* After setval() in the applier: this member's next value. */
extern void sequences_into_class(Oid seq);

/* setval() was called: this statement's end puts the sequence right. */
extern void sequences_note_setval(void);

/* Before a value is drawn: waits until the table's sequences are put right. */
extern void sequences_pass_gate(Oid table);

/*
 * sequences_claim.c: the highest value that the log has claimed for this slot, by
 * this member (own) or by those that had the slot before, with a margin; the lowest number
 * there is if none. In SPI, as anyone.
 */
extern int64 sequences_claimed(Oid seq, const FormData_pg_sequence *form, int slot, bool own);

/* Some statement drew a value unseen: claims for all sequences, where that is due. */
extern void sequences_cover_all(void);

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
