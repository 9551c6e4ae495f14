/*-------------------------------------------------------------------------
 *
 * harness.h
 *		What the tests of the lock state share: checks, entries, the naive model.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LOCK_TEST_HARNESS_H
#define LOCK_TEST_HARNESS_H

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lock/lockstate.h"

extern int	passed;
extern int	failed;

#define CHECK(condition) \
	do { \
		if (condition) \
			passed++; \
		else \
		{ \
			failed++; \
			printf("%s:%d: %s\n", __FILE__, __LINE__, #condition); \
		} \
	} while (0)

/* In loops: counted once, by the caller. Ends the program. */
#define MUST(condition, ...) \
	do { \
		if (!(condition)) \
		{ \
			printf("%s:%d: %s: ", __FILE__, __LINE__, #condition); \
			printf(__VA_ARGS__); \
			printf("\n"); \
			exit(1); \
		} \
	} while (0)

/* ---------- entries (entries.c) ---------- */

typedef struct Payload
{
	uint8_t		data[8192];
	size_t		len;
} Payload;

extern LkOwner session_owner(uint32_t node, uint32_t boot, uint64_t session);
extern LkOwner lease_owner(uint8_t lease, uint32_t node, uint64_t session);
extern LkItem item_of(const char *key, LkMode mode);
extern void make(Payload *p, const LkRecord *rec, const LkItem *items);
extern void make_grant(Payload *p, LkOwner owner, const char *key, LkMode mode, bool is_try);
extern void make_release(Payload *p, const char *key, uint64_t token, bool whole);
extern void make_lease_open(Payload *p, uint8_t lease, uint32_t ttl_ms);
extern void make_lease_close(Payload *p, uint8_t lease);

/* ---------- random numbers ---------- */

extern uint64_t rng_state;
extern uint32_t rnd(uint32_t below);

/* ---------- the model (model.c) ---------- */

/*
 * The log as a list of entries, and what it means, found by going through all of
 * it each time. The rules are those of lockstate.h, written down anew.
 */
#define MODEL_MAX 4096

typedef struct ModelGrant
{
	uint64_t	token;
	uint8_t		key_type;
	char		key[64];
	uint8_t		mode;
	uint32_t	weight;
	LkOwner		owner;
	uint32_t	count;
} ModelGrant;

typedef struct Model
{
	ModelGrant	grants[MODEL_MAX];
	int			ngrants;
	uint8_t		leases[64][LK_UUID_LEN];
	int			nleases;
} Model;

typedef struct LogEntry
{
	uint64_t	index;
	RaftToken	token;
	Payload		payload;
} LogEntry;

extern void model_replay(Model *model, const LogEntry *log, int n);
extern bool model_conflicts(uint8_t a, uint8_t b);
extern bool model_fits(const Model *model, const LkOwner *owner, const LkItem *item);
extern void model_compare(const Model *model, const LkState *ls, const char *where);

/* ---------- the tests ---------- */

extern void test_payload(void);
extern void test_rules(void);
extern void test_deadlock(void);
extern void test_time(void);
extern void test_random(uint64_t first_seed, uint64_t seeds);

#endif							/* LOCK_TEST_HARNESS_H */
