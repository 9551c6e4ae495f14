/*-------------------------------------------------------------------------
 *
 * bed.h
 *		A leader's lock state with a log that counts up, for tests of single rules.
 *
 *-------------------------------------------------------------------------
 */
#ifndef LOCK_TEST_BED_H
#define LOCK_TEST_BED_H

#include "harness.h"

typedef struct Bed
{
	LkState    *ls;
	uint64_t	index;
	int64_t		now_us;
	uint64_t	counter;
	LkVerdict	verdict;
	uint64_t	granted[64];	/* counters of requests, in the order of their grants */
	int			ngranted;
} Bed;

static inline void
bed_init(Bed *bed)
{
	memset(bed, 0, sizeof(*bed));
	bed->ls = lk_create();
	bed->now_us = 1000000;
	bed->index = 10;
	lk_lead(bed->ls, bed->now_us);
}

static inline uint64_t
bed_append(Bed *bed, RaftToken token, const void *payload, size_t len)
{
	(void) lk_append(bed->ls, ++bed->index, token, 5, payload, len, bed->now_us, NULL, NULL);
	MUST(lk_check(bed->ls) == NULL, "%s", lk_check(bed->ls));
	return bed->index;
}

/* What the Raft worker does after each change. */
static inline void
bed_grant_parked(Bed *bed)
{
	RaftToken	token;
	uint32_t	from;
	int64_t		age_us;
	Payload    *p;

	while ((p = lk_take_grantable(bed->ls, bed->now_us, &token, &from, &age_us)) != NULL)
	{
		size_t		len = p->len;
		uint8_t    *final = lk_final_payload(bed->ls, p->data, &len);

		bed_append(bed, token, final ? final : p->data, final ? len : p->len);
		bed->granted[bed->ngranted++] = token.counter;
		free(final);
		free(p);
	}
}

/* Propose; the entry's index, or 0 where it waits or is refused (verdict says). */
static inline uint64_t
bed_propose(Bed *bed, uint32_t from, const Payload *p)
{
	RaftToken	token = {from, 1, ++bed->counter};
	uint64_t	index = 0;

	lk_judge(bed->ls, from, p->data, p->len, bed->now_us, &bed->verdict);
	if (bed->verdict.judgement == LK_JUDGED_APPEND)
	{
		size_t		len = p->len;
		uint8_t    *final = lk_final_payload(bed->ls, p->data, &len);

		index = bed_append(bed, token, final ? final : p->data, final ? len : p->len);
		free(final);
	}
	else if (bed->verdict.judgement == LK_JUDGED_WAIT)
	{
		Payload    *copy = malloc(sizeof(Payload));

		*copy = *p;
		MUST(lk_wait(bed->ls, from, token, p->data, p->len, 0, bed->now_us, copy), "memory");
	}
	bed_grant_parked(bed);
	bed->now_us += 10;
	return index;
}

static inline uint64_t
bed_ask(Bed *bed, LkOwner owner, const char *key, LkMode mode)
{
	Payload		p;

	make_grant(&p, owner, key, mode, false);
	return bed_propose(bed, owner.node, &p);
}

static inline uint64_t
bed_try(Bed *bed, LkOwner owner, const char *key, LkMode mode)
{
	Payload		p;

	make_grant(&p, owner, key, mode, true);
	return bed_propose(bed, owner.node, &p);
}

static inline uint64_t
bed_release(Bed *bed, const char *key, uint64_t token)
{
	Payload		p;

	make_release(&p, key, token, true);
	return bed_propose(bed, 1, &p);
}

static inline bool
bed_withdraw(Bed *bed, uint32_t node, uint64_t counter)
{
	RaftToken	token = {node, 1, counter};
	void	   *data = lk_withdraw(bed->ls, token);

	free(data);
	bed_grant_parked(bed);
	return data != NULL;
}

static inline void
bed_drop(void *arg, void *data)
{
	(void) arg;
	free(data);
}

static inline void
bed_end(Bed *bed)
{
	lk_follow(bed->ls, bed_drop, NULL);
	lk_free(bed->ls);
}

#endif							/* LOCK_TEST_BED_H */
