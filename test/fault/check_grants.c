/*-------------------------------------------------------------------------
 *
 * check_grants.c
 *		Grants: who surely held what, and whether that fits together.
 *
 *		token-reuse			two grants of a key have one token
 *		token-order			a grant that came later has a smaller token
 *		overlap				two conflicting holders at one time
 *		too-many			more permits are out than a semaphore has
 *		lost-early			a lock, or a lease, was gone while the server's word for
 *							it was good still
 *		held-after-error	an acquisition failed, and its session held the lock
 *
 * A grant surely held its lock from the answer of the acquisition to the request
 * of a release that succeeded, or to the last time that the server said it is held
 * (h), or as long as the server gave its word for: the time to live of its lease
 * from when that was asked to be opened (o) or renewed (n), or the session's safe
 * time (s), provided that the session was there still. It ends at the first attempt
 * to give it, or its lease, back. What came of a lock whose session was lost is
 * nobody's promise.
 *
 *-------------------------------------------------------------------------
 */
#include "grants.h"

#include <stdlib.h>
#include <string.h>

typedef struct LeaseTime
{
	int64_t		until_us;		/* the word that reaches furthest */
	const Txn  *word;			/* who got it */
	int64_t		closed_us;		/* first attempt to */
} LeaseTime;

bool
grants_conflict(const Grant *a, const Grant *b)
{
	return a->mode == 'x' || b->mode == 'x';
}

const Grant *
grants_find(const Grants *g, int64_t key, int64_t token)
{
	int			at = map_get(g->by_token, key, token);

	return at < 0 ? NULL : &g->grants[at];
}

static int
by_start(const void *a, const void *b)
{
	const Grant *x = a;
	const Grant *y = b;

	if (x->key != y->key)
		return x->key < y->key ? -1 : 1;
	return x->from_us < y->from_us ? -1 : x->from_us > y->from_us;
}

static bool
is_acquisition(const Op *op)
{
	return strchr("kKgGp", op->kind) != NULL;
}

static void
collect(const History *h, Grants *g)
{
	int			room = 0;

	for (int i = 0; i < h->count; i++)
		for (int k = 0; k < h->txns[i].nops; k++)
			room += is_acquisition(&h->txns[i].ops[k]);
	g->grants = memory(room, sizeof(Grant));
	for (int i = 0; i < h->count; i++)
	{
		const Txn  *t = &h->txns[i];

		for (int k = 0; k < t->nops; k++)
		{
			const Op   *op = &t->ops[k];
			Grant	   *grant = &g->grants[g->count];

			if (!is_acquisition(op))
				continue;
			if (t->outcome == OUT_INFO)
				*map_at(g->unknown, op->key, 0) = 1;
			if (t->outcome != OUT_OK)
				continue;
			*grant = (Grant)
			{
				.key = op->key, .token = op->values[0], .lease = -1,
					.mode = op->kind == 'p' ? 'p' : op->kind == 'K' || op->kind == 'G' ? 's' : 'x',
					.acquired = t, .from_us = t->end_us, .to_us = t->end_us, .stop_us = NEVER
			};
			if (op->count > 1)
				grant->lease = op->values[1];
			if (op->kind == 'p')
			{
				grant->permits = op->values[2];
				grant->size = op->values[3];
			}
			g->count++;
		}
	}
	qsort(g->grants, g->count, sizeof(Grant), by_start);
	for (int i = 0; i < g->count; i++)
	{
		int		   *at = map_at(g->by_token, g->grants[i].key, g->grants[i].token);

		if (*at < 0)
			*at = i;
	}
}

/* The last time that a session is known to have been there, by connection. */
static Map *
last_seen(const History *h)
{
	Map		   *last = map_new();

	for (int i = 0; i < h->count; i++)
	{
		const Txn  *t = &h->txns[i];
		int		   *at = map_at(last, t->session, t->connection);

		if (t->outcome == OUT_OK && (*at < 0 || h->txns[*at].begin_us < t->begin_us))
			*at = i;
	}
	return last;
}

static int
count_leases(const History *h)
{
	int64_t		most = -1;

	for (int i = 0; i < h->count; i++)
		for (int k = 0; k < h->txns[i].nops; k++)
			if (h->txns[i].ops[k].kind == 'o' && h->txns[i].ops[k].key > most)
				most = h->txns[i].ops[k].key;
	return (int) most + 1;
}

static LeaseTime *
lease_times(const History *h, int n)
{
	LeaseTime  *leases = memory(n, sizeof(LeaseTime));

	for (int i = 0; i < n; i++)
		leases[i].closed_us = NEVER;
	for (int i = 0; i < h->count; i++)
	{
		const Txn  *t = &h->txns[i];

		for (int k = 0; k < t->nops; k++)
		{
			const Op   *op = &t->ops[k];
			LeaseTime  *lease = op->key >= 0 && op->key < n ? &leases[op->key] : NULL;

			if (!lease || !strchr("one", op->kind))
				continue;
			if (op->kind == 'e')
			{
				if (t->begin_us < lease->closed_us)
					lease->closed_us = t->begin_us;
			}
			else if (t->outcome == OUT_OK && lease->until_us < t->begin_us + op->values[0])
			{
				lease->until_us = t->begin_us + op->values[0];
				lease->word = t;
			}
		}
	}
	return leases;
}

static int64_t
least(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

/* The lease ended although nobody closed it, before its time. */
static void
judge_lease_end(const Txn *t, const LeaseTime *lease)
{
	if (!lease->word || lease->until_us <= t->end_us || lease->closed_us < t->end_us)
		return;
	anomaly("lost-early", "a lease was over %lld us before its time",
			(long long) (lease->until_us - t->end_us));
	anomaly_line(lease->word, "the server's word");
	anomaly_line(t, "over");
}

static void
take_evidence(const History *h, Grants *g)
{
	int			nleases = count_leases(h);
	LeaseTime  *leases = lease_times(h, nleases);
	Map		   *last = last_seen(h);

	for (int i = 0; i < g->count; i++)
	{
		Grant	   *grant = &g->grants[i];

		if (grant->lease < 0 || grant->lease >= nleases)
			continue;
		grant->promised_us = leases[grant->lease].until_us;
		grant->stop_us = leases[grant->lease].closed_us;
	}
	for (int i = 0; i < h->count; i++)
	{
		const Txn  *t = &h->txns[i];

		for (int k = 0; k < t->nops; k++)
		{
			const Op   *op = &t->ops[k];
			Grant	   *grant = NULL;

			if (op->kind == 'z' && t->outcome == OUT_OK && op->key >= 0 && op->key < nleases)
				judge_lease_end(t, &leases[op->key]);
			if (!strchr("uxhs", op->kind) || op->unknown)
				continue;
			grant = (Grant *) grants_find(g, op->key, op->values[0]);
			if (!grant)
				continue;
			if ((op->kind == 'u' || op->kind == 'x') && t->begin_us < grant->stop_us)
				grant->stop_us = t->begin_us;
			if (t->outcome != OUT_OK)
				continue;
			if (op->kind == 's')
			{
				int64_t		alive_us = h->txns[map_get(last, t->session, t->connection)].begin_us;
				int64_t		word_us = least(t->begin_us + op->values[1], alive_us);

				/* 0: it may be lost already */
				if (op->values[1] > 0 && grant->promised_us < word_us)
					grant->promised_us = word_us;
			}
			else if (op->kind != 'x' && grant->to_us < t->begin_us)
				grant->to_us = t->begin_us;
		}
	}
	for (int i = 0; i < g->count; i++)
	{
		Grant	   *grant = &g->grants[i];

		if (grant->to_us < grant->promised_us)
			grant->to_us = grant->promised_us;
		grant->to_us = least(grant->to_us, grant->stop_us);
		if (grant->to_us < grant->from_us)
			grant->to_us = grant->from_us;
	}
}

Grants *
grants_build(const History *h)
{
	Grants	   *g = memory(1, sizeof(Grants));

	g->by_token = map_new();
	g->unknown = map_new();
	collect(h, g);
	take_evidence(h, g);
	return g;
}

/* ---------- judgement ---------- */

static void
judge_tokens(const Grants *g)
{
	for (int i = 0; i < g->count; i++)
	{
		for (int k = i + 1; k < g->count && g->grants[k].key == g->grants[i].key; k++)
		{
			const Grant *a = &g->grants[i];
			const Grant *b = &g->grants[k];

			if (a->token == b->token)
				anomaly("token-reuse", "key %lld: token %lld was given out twice",
						(long long) a->key, (long long) a->token);
			else if (a->acquired->end_us < b->acquired->begin_us && a->token > b->token)
				anomaly("token-order", "key %lld: token %lld came before %lld", (long long) a->key,
						(long long) a->token, (long long) b->token);
			else
				continue;
			anomaly_line(a->acquired, "before");
			anomaly_line(b->acquired, "after");
		}
	}
}

static void
judge_overlaps(const Grants *g)
{
	for (int i = 0; i < g->count; i++)
	{
		for (int k = i + 1; k < g->count && g->grants[k].key == g->grants[i].key; k++)
		{
			const Grant *a = &g->grants[i];
			const Grant *b = &g->grants[k];

			if (a->mode != 'p' && grants_conflict(a, b) && b->from_us < a->to_us &&
				b->to_us > b->from_us)
			{
				anomaly("overlap", "key %lld: two holders for %lld us", (long long) a->key,
						(long long) (least(a->to_us, b->to_us) - b->from_us));
				anomaly_line(a->acquired, "holds");
				anomaly_line(b->acquired, "holds too");
			}
		}
	}
}

static void
judge_permits(const Grants *g)
{
	for (int i = 0; i < g->count; i++)
	{
		const Grant *b = &g->grants[i];
		int64_t		out = b->permits;

		if (b->mode != 'p' || b->to_us <= b->from_us)
			continue;
		for (int k = i - 1; k >= 0 && g->grants[k].key == b->key; k--)
			if (g->grants[k].to_us > b->from_us)
				out += g->grants[k].permits;
		if (out <= b->size)
			continue;
		anomaly("too-many", "semaphore %lld: %lld permits of %lld are out", (long long) b->key,
				(long long) out, (long long) b->size);
		for (int k = i - 1; k >= 0 && g->grants[k].key == b->key; k--)
			if (g->grants[k].to_us > b->from_us)
				anomaly_line(g->grants[k].acquired, "holds");
		anomaly_line(b->acquired, "holds too");
	}
}

static void
judge_answers(const History *h, const Grants *g)
{
	for (int i = 0; i < h->count; i++)
	{
		const Txn  *t = &h->txns[i];

		for (int k = 0; k < t->nops && t->outcome == OUT_OK; k++)
		{
			const Op   *op = &t->ops[k];
			const Grant *grant;

			if (op->kind == 'q' && op->values[0] != 0)
			{
				anomaly("held-after-error", "key %lld: an acquisition that failed left it held",
						(long long) op->key);
				anomaly_line(t, "");
			}
			if (op->kind != 'x')
				continue;
			grant = grants_find(g, op->key, op->values[0]);
			if (!grant || grant->stop_us < t->begin_us || grant->promised_us <= t->end_us)
				continue;
			anomaly("lost-early", "key %lld: token %lld was lost %lld us before its time",
					(long long) op->key, (long long) op->values[0],
					(long long) (grant->promised_us - t->end_us));
			anomaly_line(grant->acquired, "acquired");
			anomaly_line(t, "lost");
		}
	}
}

void
grants_judge(const History *h, const Grants *g)
{
	judge_tokens(g);
	judge_overlaps(g);
	judge_permits(g);
	judge_answers(h, g);
}
