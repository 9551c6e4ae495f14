/*-------------------------------------------------------------------------
 *
 * check_lock.c
 *		Locks: grants that fit together (check_grants.c), fences that hold.
 *
 *		stale-fence			a guarded write took place although a conflicting
 *							later grant had been given before it began
 *		fence-order			guarded writes landed in another order than that of
 *							their tokens
 *		stale-row			a table with a fence took a row whose token is older than
 *							that of a row that was there before
 *		lost				a guarded write was acknowledged, and is gone
 *		G1a, phantom		an element of a write that failed, or of nobody
 *
 * The order in which guarded writes landed is a list that each of them appends
 * to: f:KEY:TOKEN:ELEMENT, and l:KEY:ELEMENTS.
 *
 *-------------------------------------------------------------------------
 */
#include "grants.h"

#include <stdlib.h>
#include <string.h>

static const Op *
first_op(const Txn *t, char kind)
{
	return t->nops > 0 && t->ops[0].kind == kind && !t->ops[0].unknown ? &t->ops[0] : NULL;
}

static void
judge_fence(const Grants *g, const Txn *t, const Op *op)
{
	const Grant *own = grants_find(g, op->key, op->values[0]);

	if (!own)
	{
		anomaly("phantom", "token %lld of key %lld was given to nobody",
				(long long) op->values[0], (long long) op->key);
		anomaly_line(t, "");
		return;
	}
	for (int i = 0; i < g->count; i++)
	{
		const Grant *later = &g->grants[i];

		if (later->key != op->key || later->token <= op->values[0] ||
			!grants_conflict(later, own) || later->acquired->end_us >= t->begin_us)
			continue;
		anomaly("stale-fence", "key %lld: token %lld let a write through after %lld was given",
				(long long) op->key, (long long) op->values[0], (long long) later->token);
		anomaly_line(later->acquired, "later grant");
		anomaly_line(t, "guarded write");
		return;
	}
}

static void
judge_landed(const History *h, const Grants *g, const Map *writes, const Txn *t, const Op *op)
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
		later = grants_find(g, op->key, h->txns[a].ops[0].values[0]);
		before = grants_find(g, op->key, h->txns[b].ops[0].values[0]);
		if (later && before && later->token < before->token && grants_conflict(later, before))
		{
			anomaly("fence-order", "key %lld: a write with token %lld landed after one with %lld",
					(long long) op->key, (long long) later->token, (long long) before->token);
			anomaly_line(&h->txns[a], "landed late");
			anomaly_line(&h->txns[b], "landed before");
		}
	}
}

/* Nothing acknowledged may be missing. */
static void
judge_final(const History *h, const Op *op)
{
	Map		   *there = map_new();

	for (int v = 0; v < op->count; v++)
		*map_at(there, op->values[v], 0) = v;
	for (int k = 0; k < h->count; k++)
	{
		const Op   *w = first_op(&h->txns[k], 'f');

		if (!w || w->key != op->key || h->txns[k].outcome != OUT_OK ||
			map_get(there, w->values[1], 0) >= 0)
			continue;
		anomaly("lost", "key %lld: a guarded write was acknowledged, and is gone",
				(long long) op->key);
		anomaly_line(&h->txns[k], "");
	}
}

/* ---------- rows with tokens ---------- */

static int
by_key_and_begin(const void *a, const void *b)
{
	const Txn  *x = *(const Txn *const *) a;
	const Txn  *y = *(const Txn *const *) b;

	if (x->ops[0].key != y->ops[0].key)
		return x->ops[0].key < y->ops[0].key ? -1 : 1;
	return x->begin_us < y->begin_us ? -1 : x->begin_us > y->begin_us;
}

static int
by_key_and_end(const void *a, const void *b)
{
	const Txn  *x = *(const Txn *const *) a;
	const Txn  *y = *(const Txn *const *) b;

	if (x->ops[0].key != y->ops[0].key)
		return x->ops[0].key < y->ops[0].key ? -1 : 1;
	return x->end_us < y->end_us ? -1 : x->end_us > y->end_us;
}

static void
judge_rows(const History *h)
{
	const Txn **begun = memory(h->count, sizeof(Txn *));
	const Txn **ended = memory(h->count, sizeof(Txn *));
	const Txn  *newest = NULL;
	int			n = 0;
	int			next = 0;

	for (int i = 0; i < h->count; i++)
		if (h->txns[i].outcome == OUT_OK && first_op(&h->txns[i], 'j'))
			begun[n++] = &h->txns[i];
	memcpy(ended, begun, sizeof(Txn *) * n);
	qsort(begun, n, sizeof(Txn *), by_key_and_begin);
	qsort(ended, n, sizeof(Txn *), by_key_and_end);
	for (int i = 0; i < n; i++)
	{
		const Op   *op = &begun[i]->ops[0];

		/* what had been answered when it began */
		for (; next < n && (ended[next]->ops[0].key < op->key ||
							(ended[next]->ops[0].key == op->key &&
							 ended[next]->end_us < begun[i]->begin_us)); next++)
		{
			if (!newest || newest->ops[0].key != ended[next]->ops[0].key ||
				newest->ops[0].values[0] < ended[next]->ops[0].values[0])
				newest = ended[next];
		}
		if (!newest || newest->ops[0].key != op->key || newest->ops[0].values[0] <= op->values[0])
			continue;
		anomaly("stale-row", "resource %lld: a row with token %lld after one with %lld",
				(long long) op->key, (long long) op->values[0],
				(long long) newest->ops[0].values[0]);
		anomaly_line(newest, "before");
		anomaly_line(begun[i], "after");
	}
}

void
check_lock(const History *h, const CheckOptions *o)
{
	Grants	   *g = grants_build(h);
	Map		   *writes = map_new();

	(void) o;
	grants_judge(h, g);
	for (int i = 0; i < h->count; i++)
	{
		const Op   *op = first_op(&h->txns[i], 'f');

		if (op)
			*map_at(writes, op->key, op->values[1]) = i;
	}
	for (int i = 0; i < h->count; i++)
	{
		const Txn  *t = &h->txns[i];

		if (t->nops < 1 || t->outcome != OUT_OK)
			continue;
		if (t->ops[0].kind == 'f')
			judge_fence(g, t, &t->ops[0]);
		else if (t->ops[0].kind == 'l')
		{
			judge_landed(h, g, writes, t, &t->ops[0]);
			if (t->level == LEVEL_FINAL)
				judge_final(h, &t->ops[0]);
		}
	}
	judge_rows(h);
}
