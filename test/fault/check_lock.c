/*-------------------------------------------------------------------------
 *
 * check_lock.c
 *		Locks: one holder at a time, tokens that grow, fences that hold.
 *
 *		token-reuse			two grants of a key have one token
 *		token-order			a grant that came later has a smaller token
 *		overlap				two conflicting holders at one time. A grant surely
 *							held its lock from the answer of the acquisition to
 *							the request of a release that succeeded; or to the
 *							last time that the server said it is held (h). What
 *							came of a lock whose session was lost is nobody's
 *							promise
 *		stale-fence			a guarded write took place although a conflicting
 *							later grant had been given before it began
 *		fence-order			guarded writes landed in another order than that of
 *							their tokens
 * The order in which guarded writes landed is a list that each of them appends
 * to: f:KEY:TOKEN:ELEMENT, and l:KEY:ELEMENTS.
 *
 *-------------------------------------------------------------------------
 */
#include "history.h"

#include <stdlib.h>
#include <string.h>

typedef struct Grant
{
	int64_t		key;
	int64_t		token;
	bool		shared;
	const Txn  *acquired;
	int64_t		from_us;		/* surely held from here */
	int64_t		to_us;			/* to here; from_us: not known to have been */
} Grant;

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
conflict(const Grant *a, const Grant *b)
{
	return !a->shared || !b->shared;
}

static void
judge_overlaps(const Grant *grants, int n)
{
	for (int i = 0; i < n; i++)
	{
		for (int k = i + 1; k < n && grants[k].key == grants[i].key; k++)
		{
			const Grant *a = &grants[i];
			const Grant *b = &grants[k];

			if (conflict(a, b) && b->from_us < a->to_us && b->to_us > b->from_us)
			{
				anomaly("overlap", "key %lld: two holders for %lld us", (long long) a->key,
						(long long) ((a->to_us < b->to_us ? a->to_us : b->to_us) - b->from_us));
				anomaly_line(a->acquired, "holds");
				anomaly_line(b->acquired, "holds too");
			}
		}
	}
}

static void
judge_tokens(const Grant *grants, int n)
{
	for (int i = 0; i < n; i++)
	{
		for (int k = i + 1; k < n && grants[k].key == grants[i].key; k++)
		{
			const Grant *a = &grants[i];
			const Grant *b = &grants[k];

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
judge_fence(const Grant *grants, int n, const Map *by_token, const Txn *t, const Op *op)
{
	int			at = map_get(by_token, op->key, op->values[0]);

	if (at < 0)
	{
		anomaly("phantom", "token %lld of key %lld was given to nobody",
				(long long) op->values[0], (long long) op->key);
		anomaly_line(t, "");
		return;
	}
	for (int i = 0; i < n; i++)
	{
		if (grants[i].key != op->key || grants[i].token <= op->values[0] ||
			!conflict(&grants[i], &grants[at]) || grants[i].acquired->end_us >= t->begin_us)
			continue;
		anomaly("stale-fence", "key %lld: token %lld let a write through after %lld was given",
				(long long) op->key, (long long) op->values[0], (long long) grants[i].token);
		anomaly_line(grants[i].acquired, "later grant");
		anomaly_line(t, "guarded write");
		return;
	}
}

static void
judge_landed(const History *h, const Grant *grants, const Map *by_token, const Map *writes,
			 const Txn *t, const Op *op)
{
	for (int i = 0; i < op->count; i++)
	{
		int			a = map_get(writes, op->key, op->values[i]);
		int			b = i > 0 ? map_get(writes, op->key, op->values[i - 1]) : -1;
		const Grant *later;
		const Grant *before;

		if (a < 0 || h->txns[a].outcome == OUT_FAIL)
		{
			anomaly(a < 0 ? "phantom" : "G1a", "element %lld of key %lld %s",
					(long long) op->values[i], (long long) op->key,
					a < 0 ? "was written by nobody" : "is of a write that failed");
			anomaly_line(a < 0 ? t : &h->txns[a], "");
			continue;
		}
		if (b < 0)
			continue;
		a = map_get(by_token, op->key, h->txns[a].ops[0].values[0]);
		b = map_get(by_token, op->key, h->txns[b].ops[0].values[0]);
		if (a < 0 || b < 0)
			continue;
		later = &grants[a];
		before = &grants[b];
		if (later->token < before->token && conflict(later, before))
		{
			anomaly("fence-order", "key %lld: a write with token %lld landed after one with %lld",
					(long long) op->key, (long long) later->token, (long long) before->token);
			anomaly_line(&h->txns[map_get(writes, op->key, op->values[i])], "landed late");
			anomaly_line(&h->txns[map_get(writes, op->key, op->values[i - 1])], "landed before");
		}
	}
}

void
check_lock(const History *h, const CheckOptions *o)
{
	Grant	   *grants = memory(h->count, sizeof(Grant));
	Map		   *by_token = map_new();
	Map		   *writes = map_new();
	int			n = 0;

	(void) o;
	for (int i = 0; i < h->count; i++)
	{
		const Txn  *t = &h->txns[i];
		const Op   *op = &t->ops[0];

		if (t->nops < 1 || op->unknown)
			continue;
		if ((op->kind == 'k' || op->kind == 'K') && t->outcome == OUT_OK)
			grants[n++] = (Grant)
		{
			.key = op->key, .token = op->values[0], .shared = op->kind == 'K',
				.acquired = t, .from_us = t->end_us, .to_us = t->end_us
		};
		else if (op->kind == 'f')
			*map_at(writes, op->key, op->values[1]) = i;
	}
	qsort(grants, n, sizeof(Grant), by_start);
	judge_tokens(grants, n);
	for (int i = 0; i < n; i++)
		*map_at(by_token, grants[i].key, grants[i].token) = i;
	for (int i = 0; i < h->count; i++)
	{
		const Txn  *t = &h->txns[i];
		const Op   *op = &t->ops[0];
		int			at;

		if (t->nops < 1 || t->outcome != OUT_OK || (op->kind != 'u' && op->kind != 'h'))
			continue;
		at = map_get(by_token, op->key, op->values[0]);
		if (at >= 0 && grants[at].to_us < t->begin_us)
			grants[at].to_us = t->begin_us;
	}
	judge_overlaps(grants, n);
	for (int i = 0; i < h->count; i++)
	{
		const Txn  *t = &h->txns[i];
		const Op   *op = &t->ops[0];

		if (t->nops < 1 || t->outcome != OUT_OK)
			continue;
		if (op->kind == 'f')
			judge_fence(grants, n, by_token, t, op);
		else if (op->kind == 'l')
			judge_landed(h, grants, by_token, writes, t, op);
		if (op->kind != 'l' || t->level != LEVEL_FINAL)
			continue;
		/* nothing acknowledged may be missing */
		for (int k = 0; k < h->count; k++)
		{
			const Op   *w = &h->txns[k].ops[0];
			bool		there = false;

			if (h->txns[k].nops < 1 || w->kind != 'f' || w->key != op->key ||
				h->txns[k].outcome != OUT_OK)
				continue;
			for (int v = 0; v < op->count; v++)
				there |= op->values[v] == w->values[1];
			if (!there)
			{
				anomaly("lost", "key %lld: a guarded write was acknowledged, and is gone",
						(long long) op->key);
				anomaly_line(&h->txns[k], "");
			}
		}
	}
}
