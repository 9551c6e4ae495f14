/*-------------------------------------------------------------------------
 *
 * bench.c
 *		What the lock state costs the Raft worker: judging, granting and releasing
 *		a free lock, and handing one over in a long line.
 *
 *-------------------------------------------------------------------------
 */
#include <time.h>

#include "harness.h"

int			passed = 0;
int			failed = 0;

static double
now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double) ts.tv_sec * 1e9 + (double) ts.tv_nsec;
}

static void
bench_free(int n)
{
	LkState    *ls = lk_create();
	uint64_t	index = 0;
	Payload		p;
	char		key[32];
	LkVerdict	verdict;
	RaftToken	token = {1, 1, 0};
	double		begun = now_ns();

	lk_lead(ls, 0);
	for (int i = 0; i < n; i++)
	{
		snprintf(key, sizeof(key), "key %d", i % 1000);
		make_grant(&p, session_owner(1, 1, (uint64_t) i % 50), key, LK_EXCLUSIVE, false);
		lk_judge(ls, 1, p.data, p.len, 1, &verdict);
		token.counter++;
		lk_append(ls, ++index, token, 0, p.data, p.len, 1, NULL, NULL);
		make_release(&p, key, index, true);
		lk_judge(ls, 1, p.data, p.len, 1, &verdict);
		token.counter++;
		lk_append(ls, ++index, token, 0, p.data, p.len, 1, NULL, NULL);
		lk_commit(ls, index);
	}
	printf("free lock: %.0f ns for a grant and its release\n", (now_ns() - begun) / n);
	lk_free(ls);
}

static void
bench_line(int waiters, int n)
{
	LkState    *ls = lk_create();
	uint64_t	index = 0;
	Payload		p;
	Payload		next;
	RaftToken	token = {1, 1, 0};
	uint32_t	from;
	int64_t		age_us;
	double		begun;

	lk_lead(ls, 0);
	make_grant(&p, session_owner(1, 1, 1000000), "k", LK_EXCLUSIVE, false);
	lk_append(ls, ++index, token, 0, p.data, p.len, 1, NULL, NULL);
	for (int i = 0; i < waiters; i++)
	{
		token.counter++;
		make_grant(&next, session_owner(1, 1, (uint64_t) i), "k", LK_EXCLUSIVE, false);
		lk_wait(ls, 1, token, next.data, next.len, 0, 2, &next);
	}
	begun = now_ns();
	for (int i = 0; i < n; i++)
	{
		RaftToken	granted;

		make_release(&p, "k", index, true);
		lk_append(ls, ++index, token, 0, p.data, p.len, 1, NULL, NULL);
		MUST(lk_take_grantable(ls, 3, &granted, &from, &age_us) != NULL, "nobody");
		make_grant(&p, session_owner(1, 1, granted.counter), "k", LK_EXCLUSIVE, false);
		lk_append(ls, ++index, granted, 0, p.data, p.len, 1, NULL, NULL);
		token.counter++;
		lk_wait(ls, 1, token, p.data, p.len, 0, 2, &next);
		lk_commit(ls, index);
	}
	printf("line of %d: %.0f ns for a release, the next grant and a new request\n", waiters,
		   (now_ns() - begun) / n);
	lk_follow(ls, NULL, NULL);
	lk_free(ls);
}

int
main(void)
{
	bench_free(200000);
	bench_line(10, 200000);
	bench_line(5000, 200000);
	return 0;
}
