/*-------------------------------------------------------------------------
 *
 * test_tokens.c
 *		The archive of committed tokens. What it says is true at any time: found is
 *		committed, "absent up to an entry" is in none of them; and what it was
 *		given and has not given up for its age is found, after a crash at every
 *		single effect, too.
 *
 *-------------------------------------------------------------------------
 */
#include "harness.h"
#include "storage/tokens.h"
#include "storage/tokens_format.h"

#define MAX_INDEX	1200
#define MAX_NEVER	600
#define NODES		3
#define ARCHIVE		"outcomes"

typedef struct History
{
	SimRand		rand;
	TokToken	at[MAX_INDEX];	/* by entry; node 0: none */
	uint64_t	last;			/* entries there are */
	TokToken	never[MAX_NEVER];
	int			nnever;
	TokToken	late[NODES];	/* drawn, to be committed later */
	uint32_t	boot[NODES];
	uint64_t	counter[NODES];
	/* what was archived, and what may be gone */
	uint64_t	acknowledged;
	uint64_t	given;			/* of a call that may not have come to its end */
	uint64_t	gone_upto;		/* expired, or may be */
	bool		gap[MAX_INDEX]; /* skipped over */
	bool		complete;
} History;

static const uint8_t owner[16] = {1, 2, 3};
static const uint8_t other_owner[16] = {9};

static int64_t
stamp_of(uint64_t index)
{
	return (int64_t) index * 1000;
}

static void
history_init(History *h, uint64_t seed)
{
	memset(h, 0, sizeof(*h));
	sim_rand_seed(&h->rand, seed);
	h->complete = true;
	for (int i = 0; i < NODES; i++)
		h->boot[i] = 100;
}

/* One more entry. */
static void
history_grow(History *h)
{
	uint64_t	n = sim_below(&h->rand, NODES);
	TokToken	token;

	if (h->last + 1 >= MAX_INDEX)
		return;
	h->last++;
	if (sim_below(&h->rand, 12) == 0)
		return;					/* not a transaction */
	if (h->late[n].node != 0 && sim_below(&h->rand, 6) == 0)
	{
		h->at[h->last] = h->late[n];
		h->late[n].node = 0;
		return;
	}
	if (sim_below(&h->rand, 60) == 0)
	{
		h->boot[n]++;
		h->counter[n] = 0;
	}
	token = (TokToken) {(uint32_t) n + 1, h->boot[n], ++h->counter[n]};
	if (sim_below(&h->rand, 5) == 0 && h->nnever < MAX_NEVER)
	{
		h->never[h->nnever++] = token;
		token.counter = ++h->counter[n];
	}
	if (h->late[n].node == 0 && sim_below(&h->rand, 8) == 0)
	{
		h->late[n] = token;
		token.counter = ++h->counter[n];
	}
	h->at[h->last] = token;
}

static void
look_at_all(const History *h, DiskEnv *de, uint64_t archived)
{
	uint64_t	upto;

	for (uint64_t i = 1; i <= h->last; i++)
	{
		TokResult	result;

		if (h->at[i].node == 0)
			continue;
		result = tok_lookup(&de->env, ARCHIVE, h->at[i], &upto);
		CHECK(upto <= archived || result == TOK_FOUND);
		CHECK(result != TOK_ABSENT || upto < i);
		if (i <= archived && i > h->gone_upto && !h->gap[i])
			CHECK_EQ(result, TOK_FOUND);
	}
	for (int i = 0; i < h->nnever; i++)
	{
		TokResult	result = tok_lookup(&de->env, ARCHIVE, h->never[i], &upto);

		CHECK(result != TOK_FOUND);
		if (h->gone_upto == 0 && h->complete)
		{
			CHECK_EQ(result, TOK_ABSENT);
			CHECK_EQ(upto, archived);
		}
	}
}

static size_t
tokens_of(const History *h, uint64_t first, uint64_t last, TokToken *tokens)
{
	size_t		n = 0;

	for (uint64_t i = first; i <= last; i++)
		if (h->at[i].node != 0)
			tokens[n++] = h->at[i];
	return n;
}

static void
one_call(History *h, DiskEnv *de, TokArchive *a)
{
	TokToken	tokens[MAX_INDEX];
	uint64_t	pick = sim_below(&h->rand, 20);
	uint64_t	archived = tok_archived(a);
	char		error[RLOG_ERROR_LEN];

	if (pick == 0 && h->last > 60)
	{
		uint64_t	keep = sim_below(&h->rand, 60);
		size_t		removed;

		if (h->last - keep > h->gone_upto)
			h->gone_upto = h->last - keep;
		CHECK(tok_expire(a, stamp_of(h->last - keep), &removed, error) || de->dead);
		return;
	}
	if (pick == 1 && h->last > 100)
	{
		uint64_t	first;

		for (int i = 0; i < 20; i++)
			history_grow(h);
		first = archived + 2 + sim_below(&h->rand, 10);
		if (first > h->last)
			return;
		for (uint64_t i = archived + 1; i < first; i++)
			h->gap[i] = true;
		h->complete = false;
		h->given = first - 1;
		CHECK(tok_skip_to(a, first, error) || de->dead);
		if (!de->dead)
			h->acknowledged = tok_archived(a);
		return;
	}
	for (uint64_t i = 1 + sim_below(&h->rand, 40); i > 0; i--)
		history_grow(h);
	if (h->last <= archived)
		return;
	h->given = h->last;
	CHECK(tok_add(a, h->last, tokens, tokens_of(h, archived + 1, h->last, tokens),
				  stamp_of(h->last), error) || de->dead);
	if (!de->dead)
		h->acknowledged = tok_archived(a);
}

static void
says_the_truth(void)
{
	for (uint64_t seed = 1; seed <= 30; seed++)
	{
		DiskEnv    *de = disk_env_new(seed);
		History    *h = malloc(sizeof(History));
		char		error[RLOG_ERROR_LEN];
		TokArchive *a = tok_open(&de->env, ARCHIVE, owner, 1, error);

		history_init(h, seed);
		CHECK(a != NULL);
		for (int call = 0; call < 25 && a != NULL; call++)
		{
			one_call(h, de, a);
			if (call % 7 == 6)
			{
				uint64_t	archived = tok_archived(a);

				tok_close(a);
				a = tok_open(&de->env, ARCHIVE, owner, 1, error);
				CHECK(a != NULL && tok_archived(a) == archived);
			}
			if (call % 5 == 4)
				look_at_all(h, de, tok_archived(a));
		}
		tok_close(a);
		free(h);
		disk_env_free(de);
	}
}

/* True: it came to its end without dying. */
static bool
die_at(uint64_t seed, int64_t at, bool keep_cache)
{
	DiskEnv    *de = disk_env_new(seed);
	History    *h = malloc(sizeof(History));
	char		error[RLOG_ERROR_LEN];
	TokArchive *a;
	uint64_t	archived;
	bool		died;

	history_init(h, seed);
	de->die_after = at;
	a = tok_open(&de->env, ARCHIVE, owner, 1, error);
	for (int call = 0; call < 9 && a != NULL && !de->dead; call++)
		one_call(h, de, a);
	died = de->dead;
	if (a != NULL)
		tok_close(a);
	disk_env_crash(de, keep_cache);

	a = tok_open(&de->env, ARCHIVE, owner, 1, error);
	CHECK(a != NULL);
	if (a != NULL)
	{
		archived = tok_archived(a);
		CHECK(archived == h->acknowledged || (died && archived == h->given));
		if (archived != h->given)
			for (uint64_t i = h->acknowledged + 1; i <= h->given; i++)
				h->gap[i] = false;
		look_at_all(h, de, archived);
		tok_close(a);
	}
	free(h);
	disk_env_free(de);
	return !died;
}

static void
crash_at_every_effect(void)
{
	for (uint64_t seed = 1; seed <= 12; seed++)
		for (int keep_cache = 0; keep_cache < 2; keep_cache++)
			for (int64_t at = 0; checks_failed == 0 && !die_at(seed, at, keep_cache); at++)
				;
}

static void
fill(DiskEnv *de, History *h, int calls)
{
	char		error[RLOG_ERROR_LEN];
	TokToken	tokens[MAX_INDEX];
	TokArchive *a = tok_open(&de->env, ARCHIVE, owner, 1, error);

	for (int call = 0; call < calls; call++)
	{
		uint64_t	first = h->last + 1;

		for (int i = 0; i < 50; i++)
			history_grow(h);
		CHECK(tok_add(a, h->last, tokens, tokens_of(h, first, h->last, tokens), stamp_of(h->last), error));
	}
	CHECK(tok_segments(a) > 1);
	h->acknowledged = tok_archived(a);
	tok_close(a);
}

/* A file that cannot be read is a hole: less is said, and nothing wrong. */
static void
damaged_files(void)
{
	for (uint64_t seed = 1; seed <= 40; seed++)
	{
		DiskEnv    *de = disk_env_new(seed);
		History    *h = malloc(sizeof(History));
		char		error[RLOG_ERROR_LEN];
		char		path[TOK_PATH_LEN];
		TokSegmentList list;
		TokArchive *a;
		uint8_t		byte;
		uint64_t	where;
		int64_t		size;
		int			fd;

		history_init(h, seed);
		fill(de, h, 8);
		CHECK_EQ(tok_list(&de->env, ARCHIVE, &list), 0);
		if (seed % 4 == 0)
			snprintf(path, sizeof(path), ARCHIVE "/" TOK_HORIZON_NAME);
		else
		{
			const TokSegment *s = &list.segments[sim_below(&h->rand, list.n)];

			tok_segment_path(ARCHIVE, s->first, s->last, path);
			for (uint64_t i = s->first; i <= s->last; i++)
				h->gap[i] = true;
		}
		free(list.segments);
		CHECK_EQ(de->env.open(de, path, false, true, &fd), 0);
		size = de->env.size(de, fd);
		where = sim_below(&h->rand, (uint64_t) size);
		CHECK_EQ(de->env.pread(de, fd, &byte, 1, where), 1);
		byte ^= (uint8_t) (1 << sim_below(&h->rand, 8));
		CHECK_EQ(de->env.pwrite(de, fd, &byte, 1, where), 0);
		(void) de->env.close(de, fd);
		h->complete = false;
		look_at_all(h, de, h->acknowledged);

		a = tok_open(&de->env, ARCHIVE, owner, 1, error);
		CHECK(a != NULL);
		if (a != NULL)
		{
			look_at_all(h, de, tok_archived(a));
			tok_close(a);
		}
		free(h);
		disk_env_free(de);
	}
}

static void
begins_late_and_other_owners(void)
{
	DiskEnv    *de = disk_env_new(1);
	char		error[RLOG_ERROR_LEN];
	TokToken	tokens[] = {{2, 5, 7}, {1, 5, 9}, {1, 5, 8}, {1, 5, 8}};
	TokArchive *a = tok_open(&de->env, ARCHIVE, owner, 100, error);
	uint64_t	upto;

	CHECK_EQ(tok_archived(a), 99);
	CHECK(tok_add(a, 110, tokens, 4, 1, error));
	CHECK_EQ(tok_archived(a), 110);
	CHECK_EQ(tok_lookup(&de->env, ARCHIVE, (TokToken) {1, 5, 8}, &upto), TOK_FOUND);
	CHECK_EQ(tok_lookup(&de->env, ARCHIVE, (TokToken) {1, 5, 10}, &upto), TOK_UNSURE);
	CHECK_EQ(upto, 110);
	tok_close(a);
	a = tok_open(&de->env, ARCHIVE, other_owner, 1, error);
	CHECK_EQ(tok_archived(a), 0);
	CHECK_EQ(tok_lookup(&de->env, ARCHIVE, (TokToken) {1, 5, 8}, &upto), TOK_ABSENT);
	CHECK_EQ(upto, 0);
	tok_close(a);
	disk_env_free(de);
}

static void
age(void)
{
	DiskEnv    *de = disk_env_new(1);
	char		error[RLOG_ERROR_LEN];
	TokToken	early[] = {{1, 5, 1}, {1, 5, 2}, {1, 5, 4}};
	TokToken	later[] = {{1, 5, 6}, {2, 7, 1}};
	TokArchive *a = tok_open(&de->env, ARCHIVE, owner, 1, error);
	uint64_t	upto;
	size_t		removed;

	CHECK(tok_add(a, 70, early, 3, 1000, error));
	CHECK(tok_add(a, 140, later, 2, 2000, error));
	CHECK(tok_expire(a, 1000, &removed, error));
	CHECK_EQ(removed, 0);
	CHECK(tok_expire(a, 1500, &removed, error));
	CHECK_EQ(removed, 1);
	CHECK_EQ(tok_lookup(&de->env, ARCHIVE, (TokToken) {1, 5, 2}, &upto), TOK_UNSURE);
	CHECK_EQ(tok_lookup(&de->env, ARCHIVE, (TokToken) {1, 5, 3}, &upto), TOK_UNSURE);
	CHECK_EQ(tok_lookup(&de->env, ARCHIVE, (TokToken) {1, 4, 9}, &upto), TOK_UNSURE);
	/* above all that went: nowhere */
	CHECK_EQ(tok_lookup(&de->env, ARCHIVE, (TokToken) {1, 5, 5}, &upto), TOK_ABSENT);
	CHECK_EQ(upto, 140);
	CHECK_EQ(tok_lookup(&de->env, ARCHIVE, (TokToken) {1, 5, 6}, &upto), TOK_FOUND);
	CHECK_EQ(tok_lookup(&de->env, ARCHIVE, (TokToken) {2, 7, 2}, &upto), TOK_ABSENT);
	CHECK(tok_expire(a, 5000, &removed, error));
	CHECK_EQ(removed, 1);
	CHECK_EQ(tok_archived(a), 140);
	CHECK_EQ(tok_lookup(&de->env, ARCHIVE, (TokToken) {2, 7, 1}, &upto), TOK_UNSURE);
	CHECK_EQ(tok_lookup(&de->env, ARCHIVE, (TokToken) {2, 7, 2}, &upto), TOK_ABSENT);
	tok_close(a);
	disk_env_free(de);
}

static void
copy_file(DiskEnv *de, const char *from, const char *to)
{
	RlogEnv    *env = &de->env;
	uint8_t		content[20000];
	int64_t		n;
	int			in;
	int			out;

	CHECK_EQ(env->open(de, from, false, false, &in), 0);
	n = env->pread(de, in, content, sizeof(content), 0);
	CHECK(n > 0 && n < (int64_t) sizeof(content));
	CHECK_EQ(env->open(de, to, true, true, &out), 0);
	CHECK_EQ(env->pwrite(de, out, content, (size_t) n, 0), 0);
	(void) env->close(de, in);
	(void) env->close(de, out);
}

/* A member gets another's archive, which may have lost its old end; both go on. */
static void
adopted(void)
{
	for (uint64_t seed = 1; seed <= 24; seed++)
	{
		DiskEnv    *de = disk_env_new(seed);
		History    *h = malloc(sizeof(History));
		char		error[RLOG_ERROR_LEN];
		char		from[TOK_PATH_LEN];
		char		to[TOK_PATH_LEN];
		TokToken	tokens[MAX_INDEX];
		TokSegmentList list;
		TokArchive *a;
		uint64_t	own = 0;
		size_t		removed = 0;

		history_init(h, seed);
		fill(de, h, 8);
		a = tok_open(&de->env, ARCHIVE, owner, 1, error);
		if (seed % 2 == 0)
		{
			CHECK(tok_expire(a, stamp_of(150), &removed, error));
			h->gone_upto = 150;
		}
		tok_close(a);
		CHECK_EQ(tok_list(&de->env, ARCHIVE, &list), 0);
		for (size_t i = 0; i < list.n; i++)
		{
			tok_segment_path(ARCHIVE, list.segments[i].first, list.segments[i].last, from);
			tok_segment_path("fetched", list.segments[i].first, list.segments[i].last, to);
			copy_file(de, from, to);
			CHECK_EQ(de->env.unlink(de, from), 0);
		}
		free(list.segments);
		copy_file(de, ARCHIVE "/" TOK_HORIZON_NAME, "fetched/" TOK_HORIZON_NAME);
		CHECK_EQ(de->env.unlink(de, ARCHIVE "/" TOK_HORIZON_NAME), 0);

		/* the other one: new, with a beginning of its own, or from later on */
		a = tok_open(&de->env, ARCHIVE, other_owner, seed % 3 == 2 ? h->last + 1 : 1, error);
		if (seed % 3 == 1)
		{
			own = 1 + sim_below(&h->rand, 250);
			CHECK(tok_add(a, own, tokens, tokens_of(h, 1, own, tokens), stamp_of(own), error));
		}
		CHECK(tok_adopt(a, "fetched", error));
		CHECK_EQ(tok_archived(a), h->last);
		look_at_all(h, de, h->last);
		own = h->last + 1;
		for (int i = 0; i < 30; i++)
			history_grow(h);
		CHECK(tok_add(a, h->last, tokens, tokens_of(h, own, h->last, tokens), stamp_of(h->last), error));
		look_at_all(h, de, h->last);
		tok_close(a);
		a = tok_open(&de->env, ARCHIVE, other_owner, 1, error);
		CHECK(a != NULL && tok_archived(a) == h->last);
		look_at_all(h, de, h->last);
		/* the highest tokens of those that went are known: above them "absent" */
		CHECK_EQ(tok_lookup(&de->env, ARCHIVE, (TokToken) {1, h->boot[0], h->counter[0] + 1}, &own),
				 TOK_ABSENT);
		tok_close(a);
		free(h);
		disk_env_free(de);
	}
}

/* Each file operation fails once; nothing is lost by it. */
static int
failing_pwrite(void *ctx, int fd, const void *buf, size_t len, uint64_t offset)
{
	(void) ctx, (void) fd, (void) buf, (void) len, (void) offset;
	return -28;					/* ENOSPC */
}

static int
failing_sync(void *ctx, int fd)
{
	(void) ctx, (void) fd;
	return -5;					/* EIO */
}

static int
failing_rename(void *ctx, const char *from, const char *to)
{
	(void) ctx, (void) from, (void) to;
	return -5;
}

static void
failing_disk(void)
{
	for (int what = 0; what < 3; what++)
	{
		DiskEnv    *de = disk_env_new(3);
		History    *h = malloc(sizeof(History));
		char		error[RLOG_ERROR_LEN] = "";
		TokToken	tokens[MAX_INDEX];
		TokArchive *a;
		RlogEnv		good = de->env;
		uint64_t	first;

		history_init(h, 3);
		fill(de, h, 3);
		a = tok_open(&de->env, ARCHIVE, owner, 1, error);
		first = h->last + 1;
		for (int i = 0; i < 5; i++)
			history_grow(h);
		if (what == 0)
			de->env.pwrite = failing_pwrite;
		else if (what == 1)
			de->env.fdatasync = failing_sync;
		else
			de->env.rename = failing_rename;
		CHECK(!tok_add(a, h->last, tokens, tokens_of(h, first, h->last, tokens), 1, error));
		CHECK(strstr(error, "could not write") != NULL);
		CHECK_EQ(tok_archived(a), first - 1);
		look_at_all(h, de, first - 1);
		de->env = good;
		CHECK(tok_add(a, h->last, tokens, tokens_of(h, first, h->last, tokens), 1, error));
		look_at_all(h, de, h->last);
		tok_close(a);
		free(h);
		disk_env_free(de);
	}
}

const Test	tests_tokens[] = {
	TEST(says_the_truth),
	TEST(crash_at_every_effect),
	TEST(damaged_files),
	TEST(begins_late_and_other_owners),
	TEST(age),
	TEST(adopted),
	TEST(failing_disk),
	{NULL, NULL}
};
