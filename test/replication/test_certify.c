/*-------------------------------------------------------------------------
 *
 * test_certify.c
 *		The certification map against a model that remembers everything.
 *
 * The model keeps the log as a list of entries with their keys, and judges by
 * looking through all of it. The map may refuse more than the model (a base
 * below the floor, a key of a truncated suffix), and each such refusal has to be
 * one of those; it must never let through what the model refuses.
 *
 *-------------------------------------------------------------------------
 */
#include "payload.h"

#include <stdlib.h>

#include "replication/certify.h"

#define MODEL_KEYS	8
#define MODEL_LOG	4096

typedef struct ModelEntry
{
	RaftToken	token;
	uint32_t	nkeys;
	WsKey		keys[MODEL_KEYS];
} ModelEntry;

static ModelEntry model[MODEL_LOG + 1]; /* by index */
static uint64_t model_last;

static uint64_t
model_conflict(const WsKey *keys, uint32_t nkeys)
{
	for (uint64_t index = model_last; index > 0; index--)
	{
		for (uint32_t i = 0; i < nkeys; i++)
		{
			if (index <= keys[i].base)
				continue;
			for (uint32_t j = 0; j < model[index].nkeys; j++)
			{
				const WsKey *k = &model[index].keys[j];

				if (k->key == keys[i].key && (k->exclusive || keys[i].exclusive))
					return index;
			}
		}
	}
	return 0;
}

static RaftToken
token_of(uint64_t n)
{
	return (RaftToken) {(uint32_t) (n % 3 + 1), (uint32_t) (n % 5 + 1), n};
}

static uint32_t
random_keys(WsKey *keys, uint64_t key_space, uint64_t base_low)
{
	uint32_t	n = (uint32_t) (random_u64() % (MODEL_KEYS + 1));
	uint32_t	kept = 0;

	for (uint32_t i = 0; i < n; i++)
	{
		WsKey		key;
		bool		twice = false;

		key.key = 1 + random_u64() % key_space;
		key.exclusive = random_u64() % 2;
		key.base = model_last - random_u64() % (model_last - base_low + 1);
		for (uint32_t j = 0; j < kept; j++)
			twice |= keys[j].key == key.key && keys[j].exclusive == key.exclusive;
		if (!twice)
			keys[kept++] = key;
	}
	return kept;
}

/* Turns of a few keys each, as a worker with little time has them. */
static bool in_pieces;
static uint64_t checks;

static bool
map_check(CertMap *map, const WsKey *keys, uint32_t nkeys, CertConflict *conflict)
{
	Payload		p = {0};
	CertVerdict verdict;

	put_header(&p, keys, nkeys, 0);
	if (!in_pieces)
		verdict = cert_check(map, p.data, p.len, conflict) ? CERT_PASSED : CERT_REFUSED;
	else
	{
		RaftToken	token = token_of(1000000 + ++checks);

		while ((verdict = cert_check_some(map, token, p.data, p.len, conflict)) == CERT_UNFINISHED)
			(void) cert_begin_turn(map, (uint32_t) (random_u64() % 4));
	}
	payload_free(&p);
	return verdict == CERT_PASSED;
}

static void
map_append(CertMap *map, uint64_t index, RaftToken token, const WsKey *keys, uint32_t nkeys)
{
	Payload		p = {0};

	put_header(&p, keys, nkeys, 0);
	if (in_pieces)
	{
		RaftBuf    *buf = raft_buf_new(p.data, p.len);

		cert_appended_some(map, index, token, buf);
		raft_buf_unref(buf);
	}
	else
		cert_appended(map, index, token, p.data, p.len);
	payload_free(&p);
}

static bool
any_base_below(const WsKey *keys, uint32_t nkeys, uint64_t floor)
{
	for (uint32_t i = 0; i < nkeys; i++)
	{
		if (keys[i].base < floor)
			return true;
	}
	return false;
}

/* A key that a truncated suffix has used: may count as used right before. */
static bool clamped_key[(1 << 12) + 1];
static uint64_t clamped_at[(1 << 12) + 1];

static bool
any_clamped(const WsKey *keys, uint32_t nkeys)
{
	for (uint32_t i = 0; i < nkeys; i++)
	{
		if (clamped_key[keys[i].key] && keys[i].base < clamped_at[keys[i].key])
			return true;
	}
	return false;
}

/* max_keys 0: all fit; truncations with this many in a thousand */
static void
against_model(uint64_t seed, uint32_t max_keys, uint64_t key_space, int truncations)
{
	CertMap    *map = cert_create(max_keys ? max_keys : 1 << 16, 256);
	int			let_through = 0;
	int			unexplained = 0;
	int			wrong_winner = 0;
	int			wrong_token = 0;
	uint64_t	accepted = 0;
	uint64_t	counter = 0;

	random_seed(seed);
	model_last = 0;
	memset(clamped_key, 0, sizeof(clamped_key));
	memset(clamped_at, 0, sizeof(clamped_at));
	for (int step = 0; step < 6000 && model_last < MODEL_LOG; step++)
	{
		WsKey		keys[MODEL_KEYS];
		CertConflict conflict;
		uint64_t	low = model_last > 200 ? model_last - 200 : 0;
		uint32_t	n = random_keys(keys, key_space, low);
		uint64_t	winner = model_conflict(keys, n);
		bool		good = map_check(map, keys, n, &conflict);

		if (good && winner != 0)
			let_through++;
		if (!good && winner == 0)
		{
			if (conflict.key == 0)
				unexplained += !any_base_below(keys, n, cert_floor(map));
			else
				unexplained += !any_clamped(keys, n);
		}
		if (!good && conflict.key != 0 && truncations == 0)
		{
			/* the named entry used the named key after some base of it */
			WsKey		named[MODEL_KEYS];
			uint32_t	count = 0;
			bool		found = false;

			for (uint32_t i = 0; i < n; i++)
			{
				if (keys[i].key == conflict.key)
					named[count++] = keys[i];
			}
			for (uint32_t j = 0; j < model[conflict.index].nkeys; j++)
				found |= model[conflict.index].keys[j].key == conflict.key;
			wrong_winner += count == 0 || !found || model_conflict(named, count) == 0;
		}
		if (winner == 0)
		{
			/* as a member does that only follows, append also what was refused here */
			model_last++;
			accepted++;
			model[model_last].token = token_of(++counter);
			model[model_last].nkeys = n;
			memcpy(model[model_last].keys, keys, sizeof(keys));
			map_append(map, model_last, model[model_last].token, keys, n);
		}
		if (model_last > 10 && (int) (random_u64() % 1000) < truncations)
		{
			uint64_t	from = model_last - random_u64() % 10;

			for (uint64_t index = from; index <= model_last; index++)
			{
				for (uint32_t j = 0; j < model[index].nkeys; j++)
				{
					clamped_key[model[index].keys[j].key] = true;
					clamped_at[model[index].keys[j].key] = from - 1;
				}
				wrong_token += cert_find_token(map, model[index].token) != index;
			}
			cert_truncated(map, from);
			for (uint64_t index = from; index <= model_last; index++)
				wrong_token += cert_find_token(map, model[index].token) != 0;
			model_last = from - 1;
		}
		if (model_last > 0)
		{
			uint64_t	index = 1 + random_u64() % model_last;
			uint64_t	found = cert_find_token(map, model[index].token);
			RaftToken	at = cert_token_at(map, index);

			if (index >= cert_token_floor(map))
				wrong_token += found != index || !raft_token_equal(at, model[index].token);
			else
				wrong_token += found != 0 || at.node != 0;
		}
	}
	CHECK(accepted > 500);
	CHECK(let_through == 0);
	CHECK(unexplained == 0);
	CHECK(wrong_winner == 0);
	CHECK(wrong_token == 0);
	cert_free(map);
}

/* ---------- by hand ---------- */

static void
test_rules(void)
{
	CertMap    *map = cert_create(1000, 1000);
	CertConflict conflict;
	WsKey		exclusive = {42, 0, true};
	WsKey		shared = {42, 0, false};

	CHECK(map_check(map, &exclusive, 1, &conflict));
	map_append(map, 1, token_of(1), &shared, 1);
	/* shared after shared */
	CHECK(map_check(map, &shared, 1, &conflict));
	/* exclusive after shared */
	CHECK(!map_check(map, &exclusive, 1, &conflict) && conflict.key == 42 && conflict.index == 1);
	exclusive.base = 1;
	CHECK(map_check(map, &exclusive, 1, &conflict));
	map_append(map, 2, token_of(2), &exclusive, 1);
	/* anything after exclusive */
	CHECK(!map_check(map, &shared, 1, &conflict) && conflict.index == 2);
	CHECK(!map_check(map, &exclusive, 1, &conflict) && conflict.index == 2);
	shared.base = 2;
	CHECK(map_check(map, &shared, 1, &conflict));
	/* key zero is a key like others */
	shared.key = 0;
	map_append(map, 3, token_of(3), &shared, 1);
	exclusive.key = 0;
	exclusive.base = 2;
	CHECK(!map_check(map, &exclusive, 1, &conflict) && conflict.index == 3);
	cert_free(map);
}

static void
test_floor(void)
{
	CertMap    *map = cert_create(1000, 16);
	CertConflict conflict;
	WsKey		key = {7, 98, true};

	cert_set_floor(map, 100);
	CHECK(cert_floor(map) == 99 && cert_token_floor(map) == 100);
	CHECK(!map_check(map, &key, 1, &conflict) && conflict.key == 0);
	key.base = 99;
	CHECK(map_check(map, &key, 1, &conflict));
	cert_set_floor(map, 50);
	CHECK(cert_floor(map) == 99);

	/* malformed, or of a newer version: as if it had used every key */
	cert_appended(map, 100, token_of(1), "x", 1);
	CHECK(!map_check(map, &key, 1, &conflict) && conflict.key == 0);
	CHECK(cert_find_token(map, token_of(1)) == 100);
	key.base = 100;
	CHECK(map_check(map, &key, 1, &conflict));
	CHECK(!cert_check(map, "x", 1, &conflict) && conflict.key == 0 && conflict.reason != NULL);
	cert_free(map);
}

/* One entry with more keys than a generation holds. */
static void
test_huge_entry(void)
{
	CertMap    *map = cert_create(100, 16);
	CertConflict conflict;
	WsKey		keys[200];

	for (int i = 0; i < 200; i++)
		keys[i] = (WsKey) {(uint64_t) i, 0, true};
	map_append(map, 5, token_of(1), keys, 200);
	CHECK(!map_check(map, keys, 1, &conflict));
	keys[0].base = 5;
	CHECK(map_check(map, keys, 1, &conflict));
	keys[0].key = 1000;
	keys[0].base = 4;
	CHECK(!map_check(map, keys, 1, &conflict) && conflict.key == 0);
	cert_free(map);
}

/*
 * A hot row in a suffix that is cut off: the row must be writable at once, not
 * only when the log is as long as it was.
 */
static void
test_hot_row_after_truncation(void)
{
	CertMap    *map = cert_create(1000, 16);
	CertConflict conflict;
	WsKey		key = {7, 0, true};

	for (uint64_t index = 1; index <= 10; index++)
	{
		key.base = index - 1;
		map_append(map, index, token_of(index), &key, 1);
	}
	cert_truncated(map, 4);
	key.base = 3;
	CHECK(map_check(map, &key, 1, &conflict));
	key.base = 2;
	CHECK(!map_check(map, &key, 1, &conflict) && conflict.index == 3);
	cert_truncated(map, 1);
	key.base = 0;
	CHECK(map_check(map, &key, 1, &conflict));
	CHECK(cert_find_token(map, token_of(1)) == 0);
	cert_free(map);
}

/* Tokens come and go through a small ring, over and over. */
static void
test_token_ring(void)
{
	CertMap    *map = cert_create(100, 16);
	uint64_t	last = 0;
	int			wrong = 0;

	random_seed(4);
	for (int step = 0; step < 20000; step++)
	{
		if (random_u64() % 4 == 0 && last > 20)
		{
			uint64_t	from = last - random_u64() % 8;

			cert_truncated(map, from);
			last = from - 1;
			wrong += cert_find_token(map, token_of(last + 1)) != 0;
		}
		last++;
		map_append(map, last, token_of(last), NULL, 0);
		for (uint64_t back = 0; back < 24 && back < last; back++)
		{
			uint64_t	index = last - back;
			uint64_t	found = cert_find_token(map, token_of(index));

			wrong += found != index && (found != 0 || index >= cert_token_floor(map));
		}
	}
	CHECK(wrong == 0);
	cert_free(map);
}

/* ---------- in pieces ---------- */

static CertVerdict
check_some(CertMap *map, RaftToken token, const Payload *p)
{
	CertConflict conflict;

	return cert_check_some(map, token, p->data, p->len, &conflict);
}

static void
many_keys(WsKey *keys, int n, uint64_t first, uint64_t base)
{
	for (int i = 0; i < n; i++)
		keys[i] = (WsKey) {first + (uint64_t) i, base, true};
}

static void
append_keys(CertMap *map, uint64_t index, const WsKey *keys, uint32_t n)
{
	in_pieces = true;
	map_append(map, index, token_of(index), keys, n);
	in_pieces = false;
}

/* A turn looks at no more keys than it was given. */
static void
test_check_over_turns(void)
{
	CertMap    *map = cert_create(1000, 16);
	WsKey		keys[100];
	Payload		p = {0};
	Payload		other = {0};
	int			turns = 0;

	many_keys(keys, 100, 1, 0);
	put_header(&p, keys, 100, 0);
	do
	{
		CHECK(!cert_begin_turn(map, 10));
		turns++;
	} while (check_some(map, token_of(1), &p) == CERT_UNFINISHED);
	CHECK(turns == 10);
	CHECK(check_some(map, token_of(1), &p) == CERT_UNFINISHED);
	(void) cert_begin_turn(map, 100);
	CHECK(check_some(map, token_of(1), &p) == CERT_PASSED);

	/* what was judged already is used meanwhile: the verdict is not the old one */
	(void) cert_begin_turn(map, 60);
	CHECK(check_some(map, token_of(2), &p) == CERT_UNFINISHED);
	(void) cert_begin_turn(map, 60);
	append_keys(map, 1, &keys[5], 1);
	CHECK(check_some(map, token_of(2), &p) == CERT_REFUSED);

	/* nor after a part of it is taken away */
	many_keys(keys, 100, 1, 1);
	put_header(&other, keys, 100, 0);
	(void) cert_begin_turn(map, 60);
	CHECK(check_some(map, token_of(3), &other) == CERT_UNFINISHED);
	cert_set_floor(map, 5);
	(void) cert_begin_turn(map, 60);
	CHECK(check_some(map, token_of(3), &other) == CERT_REFUSED);

	/* one that passes by in between begins the other one anew, no more */
	(void) cert_begin_turn(map, 1000);
	many_keys(keys, 100, 500, 9);
	payload_free(&p);
	put_header(&p, keys, 100, 0);
	(void) cert_begin_turn(map, 60);
	CHECK(check_some(map, token_of(4), &p) == CERT_UNFINISHED);
	(void) cert_begin_turn(map, 120);
	CHECK(check_some(map, token_of(5), &p) == CERT_PASSED);
	CHECK(check_some(map, token_of(4), &p) == CERT_UNFINISHED);
	(void) cert_begin_turn(map, 100);
	CHECK(check_some(map, token_of(4), &p) == CERT_PASSED);
	payload_free(&p);
	payload_free(&other);
	cert_free(map);
}

static void
test_backlog(void)
{
	CertMap    *map = cert_create(1000, 16);
	WsKey		keys[100];
	WsKey		free_key = {5000, 0, true};
	Payload		p = {0};
	Payload		none = {0};

	put_header(&p, &free_key, 1, 0);
	put_header(&none, NULL, 0, 0);
	many_keys(keys, 100, 1, 0);
	CHECK(!cert_begin_turn(map, 30));
	append_keys(map, 1, keys, 100);
	append_keys(map, 2, &free_key, 1);

	/* the token at once, a verdict only when all keys are there */
	CHECK(cert_find_token(map, token_of(1)) == 1 && cert_find_token(map, token_of(2)) == 2);
	CHECK(check_some(map, token_of(9), &p) == CERT_UNFINISHED);
	CHECK(check_some(map, token_of(10), &none) == CERT_PASSED);
	CHECK(cert_begin_turn(map, 30) && cert_begin_turn(map, 30));
	CHECK(check_some(map, token_of(9), &p) == CERT_UNFINISHED);
	CHECK(!cert_begin_turn(map, 30));
	CHECK(check_some(map, token_of(9), &p) == CERT_REFUSED);

	/* cut off before it was noted: as if it had never been */
	cert_truncated(map, 2);
	(void) cert_begin_turn(map, 1);
	many_keys(keys, 100, 2000, 0);
	append_keys(map, 2, keys, 100);
	append_keys(map, 3, &free_key, 1);
	cert_truncated(map, 3);
	CHECK(cert_find_token(map, token_of(3)) == 0 && cert_find_token(map, token_of(2)) == 2);
	cert_truncated(map, 2);
	CHECK(!cert_begin_turn(map, 10));
	payload_free(&p);
	put_header(&p, &keys[99], 1, 0);
	CHECK(check_some(map, token_of(11), &p) == CERT_PASSED);

	/* more than a generation holds, behind others in the backlog */
	(void) cert_begin_turn(map, 1);
	append_keys(map, 2, keys, 50);
	{
		WsKey	   *all = calloc(700, sizeof(WsKey));

		many_keys(all, 700, 10000, 0);
		append_keys(map, 3, all, 700);
		free(all);
	}
	while (cert_begin_turn(map, 7))
		;
	CHECK(cert_floor(map) == 3);
	payload_free(&p);
	payload_free(&none);

	/* what is late goes with the map */
	(void) cert_begin_turn(map, 1);
	append_keys(map, 4, keys, 50);
	cert_free(map);
}

void
test_certify(void)
{
	test_check_over_turns();
	test_backlog();
	test_rules();
	test_floor();
	test_huge_entry();
	test_hot_row_after_truncation();
	test_token_ring();
	for (uint64_t seed = 1; seed <= 6; seed++)
	{
		against_model(seed, 0, 400, 0);
		against_model(seed, 0, 4000, 0);
		against_model(seed, 128, 400, 0);	/* generations go by */
		against_model(seed, 0, 400, 20);
		against_model(seed, 300, 1000, 20);
		in_pieces = true;
		against_model(seed, 0, 400, 0);
		against_model(seed, 128, 400, 0);
		against_model(seed, 0, 400, 20);
		against_model(seed, 300, 1000, 20);
		in_pieces = false;
	}
}
