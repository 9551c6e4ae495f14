/*-------------------------------------------------------------------------
 *
 * test_deadlock.c
 *		Cycles are found, one waiter is chosen, and nothing else is.
 *
 *-------------------------------------------------------------------------
 */
#include "bed.h"

#define S(n) session_owner(1, 1, n)
#define T(n) session_owner(2, 1, n)

static const char *
name_of(void *arg, uint32_t node)
{
	(void) arg;
	return node == 1 ? "alpha" : "beta";
}

/* The counter of the victim's request, or 0. */
static uint64_t
victim(Bed *bed, char *message, size_t size)
{
	RaftToken	token;
	uint32_t	from;
	void	   *data;

	bed->now_us += 1000000;
	message[0] = '\0';
	data = lk_take_deadlocked(bed->ls, bed->now_us, name_of, NULL, &token, &from, message, size);
	MUST(lk_check(bed->ls) == NULL, "%s", lk_check(bed->ls));
	free(data);
	if (data != NULL)
		bed_grant_parked(bed);
	return data != NULL ? token.counter : 0;
}

/* Of ten sessions, all are named in what a session gets to read (NODE_MESSAGE_LEN). */
static void
test_ten(void)
{
	Bed			bed;
	char		message[1024];
	char		keys[10][8];

	bed_init(&bed);
	for (int i = 0; i < 10; i++)
	{
		snprintf(keys[i], sizeof(keys[i]), "key %d", i);
		bed_ask(&bed, S(i + 1), keys[i], LK_EXCLUSIVE);
	}
	for (int i = 0; i < 10; i++)
		bed_ask(&bed, S(i + 1), keys[(i + 1) % 10], LK_EXCLUSIVE);
	CHECK(victim(&bed, message, sizeof(message)) == 20);
	for (int i = 0; i < 10; i++)
	{
		char		wanted[80];

		snprintf(wanted, sizeof(wanted), "process %d on alpha waits for exclusive lock \"key %d\"",
				 1001 + i, (i + 1) % 10);
		CHECK(strstr(message, wanted) != NULL);
	}
	CHECK(strstr(message, "...") == NULL);
	bed_end(&bed);
}

static void
test_two(void)
{
	Bed			bed;
	char		message[256];
	char		small[100];

	bed_init(&bed);
	bed_ask(&bed, S(1), "a", LK_EXCLUSIVE);
	bed_ask(&bed, T(2), "b", LK_EXCLUSIVE);
	bed_ask(&bed, S(1), "b", LK_EXCLUSIVE);		/* 3 */
	CHECK(lk_deadlock_check_us(bed.ls) != INT64_MAX);
	CHECK(victim(&bed, message, sizeof(message)) == 0);
	bed_ask(&bed, T(2), "a", LK_SHARED);		/* 4 */
	CHECK(victim(&bed, message, sizeof(message)) == 4);
	CHECK(strstr(message, "process 1001 on alpha waits for exclusive lock \"b\"") != NULL);
	CHECK(strstr(message, "process 2002 on beta waits for shared lock \"a\"") != NULL);
	CHECK(victim(&bed, message, sizeof(message)) == 0);

	/* no room for all of it */
	bed_ask(&bed, T(2), "a", LK_SHARED);		/* 5 */
	CHECK(victim(&bed, small, sizeof(small)) == 5);
	CHECK(strlen(small) < sizeof(small) && strstr(small, "...") != NULL);
	bed_end(&bed);
}

/* Both hold shared, both want exclusive. */
static void
test_upgrades(void)
{
	Bed			bed;
	char		message[256];

	bed_init(&bed);
	bed_ask(&bed, S(1), "k", LK_SHARED);
	bed_ask(&bed, T(2), "k", LK_SHARED);
	bed_ask(&bed, S(1), "k", LK_EXCLUSIVE);		/* 3 */
	bed_ask(&bed, T(2), "k", LK_EXCLUSIVE);		/* 4 */
	CHECK(victim(&bed, message, sizeof(message)) == 4);
	CHECK(victim(&bed, message, sizeof(message)) == 0);
	bed_end(&bed);
}

/* Round a ring of ten, and through a line: the last one is the youngest. */
static void
test_ring(void)
{
	Bed			bed;
	char		message[2048];
	char		key[16];

	bed_init(&bed);
	for (uint64_t i = 0; i < 10; i++)
	{
		snprintf(key, sizeof(key), "k%d", (int) i);
		bed_ask(&bed, S(i + 1), key, LK_EXCLUSIVE);
	}
	for (uint64_t i = 0; i < 10; i++)
	{
		snprintf(key, sizeof(key), "k%d", (int) ((i + 1) % 10));
		bed_ask(&bed, S(i + 1), key, LK_EXCLUSIVE); /* 11 .. 20 */
	}
	CHECK(victim(&bed, message, sizeof(message)) == 20);
	CHECK(strstr(message, "\"k0\"") != NULL && strstr(message, "\"k9\"") != NULL);
	CHECK(victim(&bed, message, sizeof(message)) == 0);
	bed_end(&bed);

	/* A waits in line behind B, which waits for what A holds */
	bed_init(&bed);
	bed_ask(&bed, S(3), "x", LK_SHARED);
	bed_ask(&bed, S(1), "a", LK_EXCLUSIVE);
	bed_ask(&bed, S(2), "x", LK_EXCLUSIVE);		/* 3: behind the reader */
	{
		Payload		p;
		LkItem		items[2] = {item_of("x", LK_SHARED), item_of("y", LK_EXCLUSIVE)};
		LkRecord	rec = {.op = LK_OP_GRANT, .owner = S(1), .nitems = 2, .deadlock_ms = 1000};

		make(&p, &rec, items);
		bed_propose(&bed, 1, &p);				/* 4: behind 3 */
	}
	CHECK(victim(&bed, message, sizeof(message)) == 0);
	bed_ask(&bed, S(3), "a", LK_SHARED);		/* 5: 3 -> S3 -> a -> S1 -> 3 */
	CHECK(victim(&bed, message, sizeof(message)) == 5);
	bed_end(&bed);
}

/* The session that waits for a lease's sake is stuck with all that it holds. */
static void
test_lease(void)
{
	Bed			bed;
	Payload		p;
	char		message[256];

	bed_init(&bed);
	make_lease_open(&p, 1, 5000);
	bed_propose(&bed, 1, &p);
	bed_ask(&bed, S(1), "a", LK_EXCLUSIVE);
	bed_ask(&bed, T(2), "b", LK_EXCLUSIVE);
	bed_ask(&bed, lease_owner(1, 1, 1), "b", LK_EXCLUSIVE); /* 4: session 1 of node 1 asks */
	bed_ask(&bed, T(2), "a", LK_EXCLUSIVE);					/* 5 */
	CHECK(victim(&bed, message, sizeof(message)) == 5);
	CHECK(strstr(message, "for a lease") != NULL);
	bed_end(&bed);

	/* alone with itself */
	bed_init(&bed);
	bed_propose(&bed, 1, &p);
	bed_ask(&bed, S(1), "a", LK_EXCLUSIVE);
	bed_ask(&bed, lease_owner(1, 1, 1), "a", LK_EXCLUSIVE); /* 3 */
	CHECK(victim(&bed, message, sizeof(message)) == 3);
	bed_end(&bed);
}

/* Waiting for each other's permits is not for ever while a third has one. */
static void
test_permits(void)
{
	Bed			bed;
	char		message[256];

	bed_init(&bed);
	bed_ask(&bed, S(1), "s", LK_PERMIT);
	bed_ask(&bed, S(2), "s", LK_PERMIT);
	bed_ask(&bed, S(3), "s", LK_PERMIT);
	bed_ask(&bed, S(1), "s", LK_PERMIT);
	bed_ask(&bed, S(2), "s", LK_PERMIT);
	CHECK(victim(&bed, message, sizeof(message)) == 0);
	bed_end(&bed);
}

/* A long line is no cycle, and not slow. */
static void
test_long_line(void)
{
	Bed			bed;
	char		message[256];

	bed_init(&bed);
	for (uint64_t i = 1; i <= 3000; i++)
		bed_ask(&bed, S(i), "k", i % 3 ? LK_SHARED : LK_EXCLUSIVE);
	for (int i = 0; i < 5; i++)
		CHECK(victim(&bed, message, sizeof(message)) == 0);
	bed_end(&bed);
}

void
test_deadlock(void)
{
	test_two();
	test_ten();
	test_upgrades();
	test_ring();
	test_lease();
	test_permits();
	test_long_line();
}
