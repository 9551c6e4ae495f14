/*-------------------------------------------------------------------------
 *
 * check_services.c
 *		What is observed of elections; latches.
 *
 * Elections are grants (check_lock.c); a campaign says besides what the leader
 * tells of itself, w:KEY:VALUE.
 *
 *		phantom				a leader that was never elected
 *		wrong-value			the value is another leader's
 *		backwards			a connection saw, or was told of, a leader after a later one
 *
 * A latch is made with a count, and counted down by one (d), or looked at (b). What
 * remains is told after the own count was taken, others may have been too.
 *
 *		latch-high			more remained than was possible: a count was lost
 *		latch-low			less: somebody counted twice, or who failed
 *
 *-------------------------------------------------------------------------
 */
#include "grants.h"

#include <stdlib.h>
#include <string.h>

/* ---------- elections ---------- */

static void
judge_order(const History *h, Map *last, const Txn *t, int kind)
{
	const Op   *op = &t->ops[0];
	int		   *at = map_at(last, ((int64_t) t->session << 20) + t->connection, op->key * 2 + kind);

	if (*at >= 0 && h->txns[*at].ops[0].values[0] > op->values[0])
	{
		anomaly("backwards", "election %lld: %lld after %lld", (long long) op->key,
				(long long) op->values[0], (long long) h->txns[*at].ops[0].values[0]);
		anomaly_line(&h->txns[*at], "before");
		anomaly_line(t, "after");
	}
	*at = (int) (t - h->txns);
}

void
check_election(const History *h, const CheckOptions *o)
{
	Grants	   *g = grants_build(h);
	Map		   *values = map_new(); /* (election, value) -> campaign */
	Map		   *last = map_new();

	(void) o;
	for (int i = 0; i < h->count; i++)
	{
		const Txn  *t = &h->txns[i];

		if (t->nops == 2 && t->ops[1].kind == 'w')
			*map_at(values, t->ops[1].key, t->ops[1].values[0]) = i;
	}
	for (int i = 0; i < h->count; i++)
	{
		const Txn  *t = &h->txns[i];
		const Op   *op = &t->ops[0];
		int			campaign;

		if (t->nops < 1 || t->outcome != OUT_OK || (op->kind != 'v' && op->kind != 'y') ||
			op->values[0] == NIL)
			continue;
		judge_order(h, last, t, op->kind == 'y');
		if (!grants_find(g, op->key, op->values[0]) && map_get(g->unknown, op->key, 0) < 0)
		{
			anomaly("phantom", "election %lld: nobody was elected with token %lld",
					(long long) op->key, (long long) op->values[0]);
			anomaly_line(t, "");
		}
		if (op->kind != 'v' || op->values[1] == NIL)
			continue;
		campaign = map_get(values, op->key, op->values[1]);
		if (campaign >= 0 && h->txns[campaign].outcome == OUT_INFO)
			continue;
		if (campaign >= 0 && h->txns[campaign].outcome == OUT_OK &&
			h->txns[campaign].ops[0].values[0] == op->values[0])
			continue;
		anomaly("wrong-value", "election %lld: value %lld is not of the leader with token %lld",
				(long long) op->key, (long long) op->values[1], (long long) op->values[0]);
		if (campaign >= 0)
			anomaly_line(&h->txns[campaign], "whose it is");
		anomaly_line(t, "seen");
	}
}

/* ---------- latches ---------- */

static void
judge_latch(const History *h, const Txn *t, const Op *op)
{
	int64_t		most = op->values[0];	/* what may remain */
	int64_t		fewest = op->values[0];

	for (int i = 0; i < h->count; i++)
	{
		const Txn  *other = &h->txns[i];
		const Op   *count = &other->ops[0];

		if (other->nops < 1 || count->kind != 'd' || count->key != op->key ||
			other->outcome == OUT_FAIL)
			continue;
		if (other == t || (other->outcome == OUT_OK && other->end_us < t->begin_us))
			most--;
		if (other->begin_us < t->end_us || t->level == LEVEL_FINAL)
			fewest--;
	}
	most = most > 0 ? most : 0;
	fewest = fewest > 0 ? fewest : 0;
	if (op->values[1] > most && (op->kind == 'd' || t->level == LEVEL_FINAL))
		anomaly("latch-high", "latch %lld: %lld remain, at most %lld can", (long long) op->key,
				(long long) op->values[1], (long long) most);
	else if (op->values[1] < fewest)
		anomaly("latch-low", "latch %lld: %lld remain, at least %lld must", (long long) op->key,
				(long long) op->values[1], (long long) fewest);
	else
		return;
	anomaly_line(t, "");
}

void
check_latch(const History *h, const CheckOptions *o)
{
	(void) o;
	for (int i = 0; i < h->count; i++)
	{
		const Txn  *t = &h->txns[i];

		if (t->nops > 0 && t->outcome == OUT_OK && (t->ops[0].kind == 'd' || t->ops[0].kind == 'b'))
			judge_latch(h, t, &t->ops[0]);
	}
}
