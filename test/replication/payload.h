/*-------------------------------------------------------------------------
 *
 * payload.h
 *		Write sets for the tests, well formed or not, and counted checks.
 *
 * Written against the layout in writeset.h, not with the code that builds write
 * sets in a server, so that both sides are held to the same page.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGQ_TEST_PAYLOAD_H
#define PGQ_TEST_PAYLOAD_H

#include <stdio.h>
#include <string.h>

#include "replication/writeset.h"

typedef struct Payload
{
	uint8_t    *data;
	size_t		len;
	size_t		size;
} Payload;

extern void payload_free(Payload *p);
extern void put_u8(Payload *p, uint8_t value);
extern void put_u32(Payload *p, uint32_t value);
extern void put_u64(Payload *p, uint64_t value);
extern void put_varint(Payload *p, uint64_t value);
extern void put_bytes(Payload *p, const void *data, size_t len);	/* with a length before */
extern void put_string(Payload *p, const char *text);

/* Header and keys, sorted here; bases as they are. */
extern void put_header(Payload *p, const WsKey *keys, uint32_t nkeys, uint32_t nrecords);

extern uint64_t random_u64(void);
extern void random_seed(uint64_t seed);

extern int	passed;
extern int	failed;
extern void check_at(bool ok, const char *file, int line, const char *what);

#define CHECK(cond) check_at((cond), __FILE__, __LINE__, #cond)

extern void test_wsread(void);
extern void test_certify(void);

#endif							/* PGQ_TEST_PAYLOAD_H */
