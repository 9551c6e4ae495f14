/*-------------------------------------------------------------------------
 *
 * test_rules.c
 *		The rules of granting, one by one.
 *
 *-------------------------------------------------------------------------
 */
#include "bed.h"

#define S(n) session_owner(1, 1, n)

static void
test_exclusive_and_shared(void)
{
	Bed			bed;
	uint64_t	a,
				b;

	bed_init(&bed);
	a = bed_ask(&bed, S(1), "k", LK_EXCLUSIVE);
	CHECK(a != 0);
	CHECK(bed_try(&bed, S(2), "k", LK_EXCLUSIVE) == 0 &&
		  bed.verdict.refusal == LK_REFUSED_TAKEN && bed.verdict.token == a &&
		  bed.verdict.node == 1 && bed.verdict.depends == a);
	CHECK(bed_try(&bed, S(2), "k", LK_SHARED) == 0);
	CHECK(bed_try(&bed, S(2), "other", LK_SHARED) != 0);
	CHECK(bed_release(&bed, "k", a + 100) == 0 && bed.verdict.refusal == LK_REFUSED_NOT_HELD);
	CHECK(bed_release(&bed, "k", a) != 0);
	CHECK(bed_release(&bed, "k", a) == 0 && bed.verdict.refusal == LK_REFUSED_NOT_HELD);
	a = bed_try(&bed, S(2), "k", LK_SHARED);
	b = bed_try(&bed, S(3), "k", LK_SHARED);
	CHECK(a != 0 && b != 0 && a != b);
	CHECK(bed_try(&bed, S(1), "k", LK_EXCLUSIVE) == 0);
	bed_end(&bed);
}

/* First come, first served; a reader behind a waiting writer waits. */
static void
test_fairness(void)
{
	Bed			bed;
	uint64_t	held;
	uint64_t	reader = 0;

	bed_init(&bed);
	held = bed_ask(&bed, S(1), "k", LK_SHARED);		/* request 1 */
	bed_ask(&bed, S(2), "k", LK_EXCLUSIVE);			/* 2 */
	CHECK(bed.verdict.judgement == LK_JUDGED_WAIT);
	bed_ask(&bed, S(3), "k", LK_SHARED);			/* 3 */
	CHECK(bed.verdict.judgement == LK_JUDGED_WAIT);
	bed_ask(&bed, S(4), "k", LK_SHARED);			/* 4 */
	bed_ask(&bed, S(5), "k", LK_EXCLUSIVE);			/* 5 */
	CHECK(bed_try(&bed, S(6), "k", LK_SHARED) == 0 && bed.verdict.token == 0);
	CHECK(bed_release(&bed, "k", held) != 0);
	CHECK(bed.ngranted == 1 && bed.granted[0] == 2);

	/* its release lets both readers in, and not the writer behind them */
	CHECK(bed_release(&bed, "k", bed.index) != 0);
	CHECK(bed.ngranted == 3 && bed.granted[1] == 3 && bed.granted[2] == 4);
	reader = bed.index;
	bed_release(&bed, "k", reader);
	CHECK(bed.ngranted == 3);
	bed_release(&bed, "k", reader - 1);
	CHECK(bed.ngranted == 4 && bed.granted[3] == 5);
	bed_end(&bed);
}

static void
test_withdrawal(void)
{
	Bed			bed;
	uint64_t	held;

	bed_init(&bed);
	held = bed_ask(&bed, S(1), "k", LK_SHARED);
	bed_ask(&bed, S(2), "k", LK_EXCLUSIVE);			/* 2 */
	bed_ask(&bed, S(3), "k", LK_SHARED);			/* 3 */
	CHECK(bed_withdraw(&bed, 1, 2));
	CHECK(!bed_withdraw(&bed, 1, 2));
	CHECK(bed.ngranted == 1 && bed.granted[0] == 3);
	(void) held;
	bed_end(&bed);
}

/* A holder that asks for more goes ahead of those that wait for what it holds. */
static void
test_upgrade(void)
{
	Bed			bed;
	uint64_t	other;

	bed_init(&bed);
	bed_ask(&bed, S(1), "k", LK_SHARED);
	CHECK(bed_ask(&bed, S(1), "k", LK_EXCLUSIVE) != 0);	/* alone: at once */
	bed_end(&bed);

	bed_init(&bed);
	bed_ask(&bed, S(1), "k", LK_SHARED);
	other = bed_ask(&bed, S(2), "k", LK_SHARED);
	bed_ask(&bed, S(3), "k", LK_EXCLUSIVE);			/* 3 */
	bed_ask(&bed, S(1), "k", LK_EXCLUSIVE);			/* 4 */
	bed_release(&bed, "k", other);
	CHECK(bed.ngranted == 1 && bed.granted[0] == 4);
	bed_end(&bed);
}

/* All or none, and a place in each line. */
static void
test_many(void)
{
	Bed			bed;
	Payload		p;
	LkItem		items[3] = {item_of("a", LK_EXCLUSIVE), item_of("b", LK_EXCLUSIVE),
	item_of("a", LK_EXCLUSIVE)};
	LkRecord	rec = {.op = LK_OP_GRANT, .owner = S(1), .nitems = 3};
	uint64_t	b,
				many;
	LkGrantInfo grant;

	bed_init(&bed);
	b = bed_ask(&bed, S(2), "b", LK_EXCLUSIVE);
	make(&p, &rec, items);
	bed_propose(&bed, 1, &p);						/* 2 */
	CHECK(bed.verdict.judgement == LK_JUDGED_WAIT);
	CHECK(bed_try(&bed, S(3), "a", LK_EXCLUSIVE) == 0);
	bed_ask(&bed, S(3), "a", LK_EXCLUSIVE);			/* 4 */
	CHECK(bed.ngranted == 0);
	bed_release(&bed, "b", b);
	CHECK(bed.ngranted == 1 && bed.granted[0] == 2);
	many = bed.index;
	CHECK(lk_find_grant(bed.ls, LK_KEY_TEXT, "a", 1, many, &grant));
	CHECK(lk_find_grant(bed.ls, LK_KEY_TEXT, "b", 1, many, &grant));
	bed_release(&bed, "a", many);
	CHECK(bed.ngranted == 2 && bed.granted[1] == 4);
	bed_end(&bed);
}

static void
test_leases(void)
{
	Bed			bed;
	Payload		p;
	uint64_t	a;
	LkGrantInfo grant;
	LkCounts	counts;

	bed_init(&bed);
	CHECK(bed_ask(&bed, lease_owner(1, 1, 1), "k", LK_EXCLUSIVE) == 0 &&
		  bed.verdict.refusal == LK_REFUSED_NO_LEASE);
	make_lease_open(&p, 1, 5000);
	CHECK(bed_propose(&bed, 1, &p) != 0);
	CHECK(bed_propose(&bed, 1, &p) == 0 && bed.verdict.refusal == LK_REFUSED_LEASE_EXISTS);
	a = bed_ask(&bed, lease_owner(1, 1, 1), "k", LK_EXCLUSIVE);

	/* again, from another node: the same grant, counted */
	CHECK(bed_ask(&bed, lease_owner(1, 2, 7), "k", LK_EXCLUSIVE) != 0);
	CHECK(lk_find_grant(bed.ls, LK_KEY_TEXT, "k", 1, a, &grant) && grant.count == 2);
	make_release(&p, "k", a, false);
	CHECK(bed_propose(&bed, 1, &p) != 0);
	CHECK(lk_find_grant(bed.ls, LK_KEY_TEXT, "k", 1, a, &grant) && grant.count == 1);
	bed_ask(&bed, S(3), "k", LK_SHARED);
	make_lease_close(&p, 1);
	CHECK(bed_propose(&bed, 1, &p) != 0);
	CHECK(bed.ngranted == 1);
	CHECK(bed_propose(&bed, 1, &p) == 0 && bed.verdict.refusal == LK_REFUSED_NOT_HELD);
	lk_commit(bed.ls, bed.index);
	lk_counts(bed.ls, &counts);
	CHECK(counts.grants == 1 && counts.leases == 0 && counts.owners == 1 && counts.journal == 0);
	bed_end(&bed);
}

/* What a lease gets again makes no token stale. */
static void
test_again_has_no_fence_keys(void)
{
	Bed			bed;
	Payload		p;
	size_t		len;
	uint8_t    *final;
	LkReader	rd;

	bed_init(&bed);
	make_lease_open(&p, 1, 5000);
	bed_propose(&bed, 1, &p);
	bed_ask(&bed, lease_owner(1, 1, 1), "k", LK_SHARED);
	make_grant(&p, lease_owner(1, 1, 1), "k", LK_SHARED, false);
	len = p.len;
	final = lk_final_payload(bed.ls, p.data, &len);
	CHECK(final != NULL && len < p.len && lk_read_open(&rd, final, len) &&
		  rd.rec.flags == LK_AGAIN && rd.rec.nitems == 1);
	free(final);
	make_grant(&p, lease_owner(1, 1, 1), "k", LK_EXCLUSIVE, false);
	len = p.len;
	CHECK(lk_final_payload(bed.ls, p.data, &len) == NULL);
	bed_end(&bed);
}

static void
test_permits(void)
{
	Bed			bed;
	uint64_t	tokens[3];

	bed_init(&bed);
	for (int i = 0; i < 3; i++)
		CHECK((tokens[i] = bed_try(&bed, S(1), "s", LK_PERMIT)) != 0);
	CHECK(bed_try(&bed, S(2), "s", LK_PERMIT) == 0 && bed.verdict.refusal == LK_REFUSED_TAKEN);
	bed_ask(&bed, S(2), "s", LK_PERMIT);
	bed_release(&bed, "s", tokens[1]);
	CHECK(bed.ngranted == 1);
	{
		Payload		p;
		LkRecord	rec = {.op = LK_OP_GRANT, .owner = S(4), .nitems = 1};
		LkItem		item = item_of("s", LK_PERMIT);

		item.weight = 4;
		make(&p, &rec, &item);
		CHECK(bed_propose(&bed, 1, &p) == 0 && bed.verdict.refusal == LK_REFUSED_OVER_LIMIT);
	}
	bed_end(&bed);
}

static void
test_ends_of_sessions(void)
{
	Bed			bed;
	Payload		p;
	LkRecord	rec = {.op = LK_OP_RELEASE_SESSION, .node = 1, .boot = 1, .session = 1,
	.last_token = UINT64_MAX};
	LkCounts	counts;
	uint64_t	first;

	bed_init(&bed);
	first = bed_ask(&bed, S(1), "a", LK_EXCLUSIVE);
	bed_ask(&bed, S(1), "b", LK_SHARED);
	bed_ask(&bed, S(2), "c", LK_SHARED);
	bed_ask(&bed, session_owner(2, 1, 1), "c", LK_SHARED);
	rec.last_token = first;
	make(&p, &rec, NULL);
	CHECK(bed_propose(&bed, 2, &p) == 0 && bed.verdict.refusal == LK_REFUSED_MALFORMED);
	CHECK(bed_propose(&bed, 1, &p) != 0);
	CHECK(bed_propose(&bed, 1, &p) == 0 && bed.verdict.refusal == LK_REFUSED_NOT_HELD);
	rec.last_token = UINT64_MAX;
	make(&p, &rec, NULL);
	CHECK(bed_propose(&bed, 1, &p) != 0);
	lk_counts(bed.ls, &counts);
	CHECK(counts.grants == 2);

	/* a restart: everything of before, and requests from before are refused */
	CHECK(lk_holds_from_before(bed.ls, 1, 2) && !lk_holds_from_before(bed.ls, 1, 1));
	rec.op = LK_OP_RELEASE_NODE;
	rec.boot = 2;
	make(&p, &rec, NULL);
	CHECK(bed_propose(&bed, 1, &p) != 0);
	CHECK(bed_ask(&bed, S(9), "z", LK_SHARED) == 0 && bed.verdict.refusal == LK_REFUSED_OLD_START);
	CHECK(bed_ask(&bed, session_owner(1, 2, 1), "z", LK_SHARED) != 0);
	lk_counts(bed.ls, &counts);
	CHECK(counts.grants == 2 && counts.nodes == 2);
	bed_end(&bed);
}

/* Nothing is granted to who cannot be reached, and nobody waits for them. */
static void
test_suspended(void)
{
	Bed			bed;
	uint64_t	held;

	bed_init(&bed);
	held = bed_ask(&bed, S(1), "k", LK_EXCLUSIVE);
	bed_ask(&bed, session_owner(2, 1, 1), "k", LK_EXCLUSIVE);	/* 2 */
	bed_ask(&bed, S(3), "k", LK_EXCLUSIVE);						/* 3 */
	lk_member_up(bed.ls, 2, false);
	bed_release(&bed, "k", held);
	CHECK(bed.ngranted == 1 && bed.granted[0] == 3);
	bed_release(&bed, "k", bed.index);
	CHECK(bed.ngranted == 1);
	CHECK(bed_try(&bed, S(4), "k", LK_EXCLUSIVE) != 0);
	lk_member_up(bed.ls, 2, true);
	bed_release(&bed, "k", bed.index);
	CHECK(bed.ngranted == 2 && bed.granted[1] == 2);
	bed_end(&bed);
}

/* After a change of leaders requests come again, each with its age. */
static void
test_age(void)
{
	Bed			bed;
	Payload		p;
	RaftToken	old = {2, 1, 500};
	RaftToken	young = {3, 1, 600};
	uint64_t	held;
	Payload    *copies[2] = {malloc(sizeof(Payload)), malloc(sizeof(Payload))};

	bed_init(&bed);
	held = bed_ask(&bed, S(1), "k", LK_EXCLUSIVE);
	make_grant(&p, session_owner(3, 1, 1), "k", LK_EXCLUSIVE, false);
	*copies[0] = p;
	CHECK(lk_wait(bed.ls, 3, young, p.data, p.len, 1000, bed.now_us, copies[0]));
	make_grant(&p, session_owner(2, 1, 1), "k", LK_EXCLUSIVE, false);
	*copies[1] = p;
	CHECK(lk_wait(bed.ls, 2, old, p.data, p.len, 900000, bed.now_us, copies[1]));
	CHECK(lk_check(bed.ls) == NULL);
	bed_release(&bed, "k", held);
	CHECK(bed.ngranted == 1 && bed.granted[0] == 500);

	/* not heard of again */
	CHECK(lk_refresh(bed.ls, young, bed.now_us) && !lk_refresh(bed.ls, old, bed.now_us));
	CHECK(lk_take_stale(bed.ls, bed.now_us, &old) == NULL);
	{
		void	   *data = lk_take_stale(bed.ls, bed.now_us + 1, &old);

		CHECK(data != NULL && old.counter == 600);
		free(data);
	}
	bed_end(&bed);
}

/* An entry that the state forbids has no effect. */
static void
test_forbidden_entries(void)
{
	Bed			bed;
	Payload		p;
	RaftToken	token = {9, 9, 9};
	LkCounts	counts;

	bed_init(&bed);
	bed_ask(&bed, S(1), "k", LK_EXCLUSIVE);
	make_grant(&p, S(2), "k", LK_EXCLUSIVE, false);
	CHECK(lk_append(bed.ls, 100, token, 0, p.data, p.len, 0, NULL, NULL) == LK_NO_EFFECT);
	make_grant(&p, lease_owner(5, 1, 1), "x", LK_EXCLUSIVE, false);
	CHECK(lk_append(bed.ls, 101, token, 0, p.data, p.len, 0, NULL, NULL) == LK_NO_EFFECT);
	CHECK(lk_append(bed.ls, 102, token, 0, p.data, 30, 0, NULL, NULL) == LK_MALFORMED);
	lk_counts(bed.ls, &counts);
	CHECK(counts.grants == 1);
	bed_end(&bed);
}

static void
test_image(void)
{
	Bed			bed;
	Payload		p;
	size_t		len;
	uint8_t    *image;
	LkState    *copy;
	LkCounts	a,
				b;

	bed_init(&bed);
	make_lease_open(&p, 1, 5000);
	bed_propose(&bed, 1, &p);
	bed_ask(&bed, lease_owner(1, 1, 1), "k", LK_SHARED);
	bed_ask(&bed, S(2), "k", LK_SHARED);
	bed_ask(&bed, S(2), "other key", LK_EXCLUSIVE);
	image = lk_dump(bed.ls, &len);
	copy = lk_create();
	CHECK(lk_load(copy, image, len, 0));
	lk_counts(bed.ls, &a);
	lk_counts(copy, &b);
	CHECK(a.grants == b.grants && a.leases == b.leases && a.keys == b.keys && a.owners == b.owners);
	CHECK(lk_check(copy) == NULL);
	lk_free(copy);
	for (size_t cut = 0; cut < len; cut++)
	{
		copy = lk_create();
		MUST(!lk_load(copy, image, cut, 0), "cut at %zu", cut);
		lk_free(copy);
	}
	free(image);
	bed_end(&bed);
}

void
test_rules(void)
{
	test_exclusive_and_shared();
	test_fairness();
	test_withdrawal();
	test_upgrade();
	test_many();
	test_leases();
	test_again_has_no_fence_keys();
	test_permits();
	test_ends_of_sessions();
	test_suspended();
	test_age();
	test_forbidden_entries();
	test_image();
}
