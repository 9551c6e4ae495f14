/*-------------------------------------------------------------------------
 *
 * test_time.c
 *		Leases, hold times and lock delays: never early, and not much too late.
 *
 *-------------------------------------------------------------------------
 */
#include "bed.h"

#define S(n) session_owner(1, 1, n)
#define SECOND INT64_C(1000000)

/* Append what is due; how many entries that were. */
static int
expire(Bed *bed, LkReader *last)
{
	static uint8_t *kept = NULL;
	int			n = 0;
	size_t		len;
	uint8_t    *entry;
	RaftToken	token = {1, 1, 0};

	while ((entry = lk_expiry(bed->ls, bed->now_us, &len)) != NULL)
	{
		n++;
		token.counter = ++bed->counter;
		bed_append(bed, token, entry, len);
		if (last != NULL)
			MUST(lk_read_open(last, entry, len), "own entry");
		free(kept);
		kept = entry;
	}
	bed_grant_parked(bed);
	return n;
}

static void
test_server_lease(void)
{
	Bed			bed;
	LkReader	rd;
	int64_t		begun_us;

	bed_init(&bed);
	begun_us = bed.now_us;
	bed_ask(&bed, S(1), "k", LK_EXCLUSIVE);
	bed_ask(&bed, session_owner(2, 1, 1), "j", LK_EXCLUSIVE);
	CHECK(lk_deadline(bed.ls) <= begun_us + 10 * SECOND + 100);
	bed.now_us = begun_us + 10 * SECOND;
	CHECK(expire(&bed, NULL) == 0);
	lk_renew_node(bed.ls, 1, 1, 10000, bed.now_us);
	lk_renew_node(bed.ls, 1, 7, 10000, bed.now_us); /* nobody */
	bed.now_us += SECOND;
	CHECK(expire(&bed, &rd) == 1 && rd.rec.op == LK_OP_EXPIRE_NODE && rd.rec.node == 2);
	CHECK(expire(&bed, &rd) == 0);

	/* a longer one that was promised counts, a shorter one does not */
	lk_renew_node(bed.ls, 1, 1, 60000, bed.now_us);
	lk_renew_node(bed.ls, 1, 1, 1000, bed.now_us);
	bed.now_us += 60 * SECOND;
	CHECK(expire(&bed, &rd) == 0);

	/* we stood still */
	lk_shift(bed.ls, 30 * SECOND);
	bed.now_us += 30 * SECOND;
	CHECK(expire(&bed, &rd) == 0);

	/* a new leader begins afresh */
	lk_follow(bed.ls, bed_drop, NULL);
	bed.now_us += 100 * SECOND;
	CHECK(expire(&bed, &rd) == 0);
	lk_lead(bed.ls, bed.now_us);
	bed.now_us += 59 * SECOND;
	CHECK(expire(&bed, &rd) == 0);
	bed.now_us += 2 * SECOND;
	CHECK(expire(&bed, &rd) == 1 && rd.rec.node == 1);
	bed_end(&bed);
}

static void
test_lease(void)
{
	Bed			bed;
	Payload		p;
	LkReader	rd;
	uint32_t	ttl_ms;
	LkCounts	counts;
	uint8_t		id[LK_UUID_LEN];

	memset(id, 1, sizeof(id));
	bed_init(&bed);
	make_lease_open(&p, 1, 5000);
	bed_propose(&bed, 1, &p);
	bed_ask(&bed, lease_owner(1, 1, 1), "k", LK_EXCLUSIVE);
	bed_ask(&bed, S(1), "k", LK_EXCLUSIVE);		/* 3 */
	bed.now_us += 4 * SECOND;
	CHECK(expire(&bed, NULL) == 0);
	CHECK(lk_lease_left_us(bed.ls, id, bed.now_us) > SECOND / 2 &&
		  lk_lease_left_us(bed.ls, id, bed.now_us) <= SECOND);
	CHECK(lk_renew_lease(bed.ls, id, bed.now_us, &ttl_ms) && ttl_ms == 5000);
	bed.now_us += 5 * SECOND;
	CHECK(expire(&bed, NULL) == 0);
	bed.now_us += SECOND;
	CHECK(expire(&bed, &rd) == 1 && rd.rec.op == LK_OP_LEASE_EXPIRE);
	CHECK(bed.ngranted == 1 && bed.granted[0] == 3);
	CHECK(!lk_renew_lease(bed.ls, id, bed.now_us, &ttl_ms));
	lk_counts(bed.ls, &counts);
	CHECK(counts.leases == 0 && counts.grants == 1);
	bed_end(&bed);
}

static void
test_hold_and_delay(void)
{
	Bed			bed;
	Payload		p;
	LkReader	rd;
	LkItem		item = item_of("k", LK_EXCLUSIVE);
	LkRecord	rec = {.op = LK_OP_GRANT, .owner = S(1), .nitems = 1, .max_hold_ms = 2000,
	.delay_ms = 3000, .lease_ms = 100000};
	LkCounts	counts;

	bed_init(&bed);
	make(&p, &rec, &item);
	CHECK(bed_propose(&bed, 1, &p) != 0);
	bed_ask(&bed, S(2), "k", LK_EXCLUSIVE);		/* 2 */
	bed.now_us += 2 * SECOND - 100;
	CHECK(expire(&bed, NULL) == 0);
	bed.now_us += 30000;
	CHECK(expire(&bed, &rd) == 1 && rd.rec.op == LK_OP_EXPIRE_HOLD && rd.rec.ndelays == 1);
	CHECK(bed.ngranted == 0);
	CHECK(bed_try(&bed, S(3), "k", LK_SHARED) == 0);
	CHECK(lk_deadline(bed.ls) <= bed.now_us + 3 * SECOND);
	bed.now_us += 3 * SECOND - 1000;
	bed_grant_parked(&bed);
	CHECK(bed.ngranted == 0);
	bed.now_us += 2000;
	bed_grant_parked(&bed);
	CHECK(bed.ngranted == 1 && bed.granted[0] == 2);
	bed_release(&bed, "k", bed.index);
	lk_commit(bed.ls, bed.index);
	lk_counts(bed.ls, &counts);
	CHECK(counts.keys == 0 && counts.owners == 0);

	/* one that is released by its owner leaves no delay */
	CHECK(bed_propose(&bed, 1, &p) != 0);
	bed_release(&bed, "k", bed.index);
	CHECK(bed_try(&bed, S(3), "k", LK_SHARED) != 0);
	bed_release(&bed, "k", bed.index);

	/* broken: a delay, and undone with its entry */
	CHECK(bed_propose(&bed, 1, &p) != 0);
	{
		LkRecord	broken = {.op = LK_OP_BREAK, .role = "r", .role_len = 1};
		Payload		b;
		uint64_t	at;

		broken.broken = item;
		make(&b, &broken, NULL);
		at = bed_propose(&bed, 1, &b);
		CHECK(at != 0);
		CHECK(bed_try(&bed, S(3), "k", LK_SHARED) == 0);
		lk_truncate(bed.ls, at, bed.now_us);
		lk_counts(bed.ls, &counts);
		CHECK(counts.grants == 1);
		CHECK(lk_check(bed.ls) == NULL);
	}
	bed_end(&bed);

	/* a restart of the server is an involuntary loss as well */
	bed_init(&bed);
	CHECK(bed_propose(&bed, 1, &p) != 0);
	{
		LkRecord	node = {.op = LK_OP_RELEASE_NODE, .node = 1, .boot = 2};
		Payload		n;

		make(&n, &node, NULL);
		CHECK(bed_propose(&bed, 1, &n) != 0);
		CHECK(bed_try(&bed, session_owner(2, 1, 1), "k", LK_SHARED) == 0 &&
			  bed.verdict.token == 0);
		bed.now_us += 3 * SECOND;
		lk_tick(bed.ls, bed.now_us);
		CHECK(bed_try(&bed, session_owner(2, 1, 1), "k", LK_SHARED) != 0);
	}
	bed_end(&bed);
}

void
test_time(void)
{
	test_server_lease();
	test_lease();
	test_hold_and_delay();
}
