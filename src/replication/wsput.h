/*-------------------------------------------------------------------------
 *
 * wsput.h
 *		Write sets that are put together by hand: of one record, in one piece of
 *		memory. What transactions gather is writeset_build.h's; layout: writeset.h.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGQ_WSPUT_H
#define PGQ_WSPUT_H

#include "postgres.h"

#include "lib/stringinfo.h"

extern void ws_put_varint(StringInfo to, uint64 value);
extern void ws_put_fixed(StringInfo to, uint64 value, int bytes);
extern void ws_put_string(StringInfo to, const char *text);

/* Header of a write set with one record; its keys come next. */
extern void ws_put_header(StringInfo to, uint16 flags, uint32 nkeys, uint64 base);

/* The record: a statement that the apply worker runs; role "": as itself. */
extern void ws_put_statement(StringInfo to, const char *role, const char *search_path,
							 const char *statement);

#endif							/* PGQ_WSPUT_H */
