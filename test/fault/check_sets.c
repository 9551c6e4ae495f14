/*-------------------------------------------------------------------------
 *
 * check_sets.c
 *		Sets that only grow, a bank whose money neither comes nor goes, pairs whose
 *		sum is not to fall below nothing.
 *
 * All servers pass through the same sequence of states, so that any two reads
 * of a set, on any nodes, are one part of the other. Two of which each has
 * something that the other lacks are a long fork.
 *
 *-------------------------------------------------------------------------
 */
#include "history.h"

#include <stdlib.h>
#include <string.h>

typedef struct Read
{
	const Txn  *txn;
	int			count;
	int64_t    *values;			/* sorted */
} Read;

static int
by_value(const void *a, const void *b)
{
	int64_t		x = *(const int64_t *) a;
	int64_t		y = *(const int64_t *) b;

	return x < y ? -1 : x > y;
}

static int
by_key_and_size(const void *a, const void *b)
{
	const Read *x = a;
	const Read *y = b;
	int64_t		kx = x->txn->ops[0].key;
	int64_t		ky = y->txn->ops[0].key;

	if (kx != ky)
		return kx < ky ? -1 : 1;
	if (x->count != y->count)
		return x->count - y->count;
	return x->txn->line - y->txn->line;
}

static int
by_connection(const void *a, const void *b)
{
	const Read *x = a;
	const Read *y = b;
	int64_t		kx = x->txn->ops[0].key;
	int64_t		ky = y->txn->ops[0].key;

	if (kx != ky)
		return kx < ky ? -1 : 1;
	if (x->txn->session != y->txn->session)
		return x->txn->session - y->txn->session;
	if (x->txn->connection != y->txn->connection)
		return x->txn->connection - y->txn->connection;
	return x->txn->begin_us < y->txn->begin_us ? -1 : x->txn->begin_us > y->txn->begin_us;
}

static bool
has(const Read *read, int64_t value)
{
	return bsearch(&value, read->values, read->count, sizeof(int64_t), by_value) != NULL;
}

/* An element of a that b has not. */
static bool
missing(const Read *a, const Read *b, int64_t *value)
{
	int			k = 0;

	for (int i = 0; i < a->count; i++)
	{
		while (k < b->count && b->values[k] < a->values[i])
			k++;
		if (k == b->count || b->values[k] != a->values[i])
		{
			*value = a->values[i];
			return true;
		}
	}
	return false;
}

static void
judge_pair(const Read *smaller, const Read *larger, const char *name, const char *what)
{
	int64_t		value;

	if (smaller->txn->ops[0].key != larger->txn->ops[0].key || !missing(smaller, larger, &value))
		return;
	anomaly(name, "%s: element %lld of set %lld", what, (long long) value,
			(long long) smaller->txn->ops[0].key);
	anomaly_line(smaller->txn, "has it");
	anomaly_line(larger->txn, "has it not");
}

/* Does a read promise to contain what was acknowledged by then? */
static bool
must_have(const Txn *read, const Txn *add, const CheckOptions *o)
{
	if (add->outcome != OUT_OK)
		return false;
	if (read->level >= LEVEL_STRONG)
		return add->end_us < read->begin_us;
	if (read->level == LEVEL_BOUNDED)
		return add->end_us < read->begin_us - o->staleness_us;
	return add->session == read->session && add->end_us <= read->begin_us &&
		(add->connection == read->connection || read->level == LEVEL_RYW ||
		 read->level == LEVEL_CAUSAL);
}

void
check_set(const History *h, const CheckOptions *o)
{
	Map		   *added = map_new();
	Read	   *reads = memory(h->count, sizeof(Read));
	int			nreads = 0;

	for (int i = 0; i < h->count; i++)
		for (int k = 0; k < h->txns[i].nops; k++)
			if (h->txns[i].ops[k].kind == 'a')
				*map_at(added, h->txns[i].ops[k].key, h->txns[i].ops[k].values[0]) = i;
	for (int i = 0; i < h->count; i++)
	{
		const Txn  *t = &h->txns[i];
		Read	   *read = &reads[nreads];

		if (t->outcome != OUT_OK || t->nops != 1 || t->ops[0].kind != 'l')
			continue;
		nreads++;
		read->txn = t;
		read->count = t->ops[0].count;
		read->values = t->ops[0].values;
		qsort(read->values, read->count, sizeof(int64_t), by_value);
		for (int k = 0; k < read->count; k++)
		{
			int			by = map_get(added, t->ops[0].key, read->values[k]);

			if (k > 0 && read->values[k] == read->values[k - 1])
			{
				anomaly("duplicate", "element %lld is there twice", (long long) read->values[k]);
				anomaly_line(t, "");
			}
			if (by >= 0 && h->txns[by].outcome != OUT_FAIL)
				continue;
			anomaly(by < 0 ? "phantom" : "G1a", "a read has element %lld, %s",
					(long long) read->values[k],
					by < 0 ? "which nobody added" : "whose transaction failed");
			anomaly_line(t, "read");
			if (by >= 0)
				anomaly_line(&h->txns[by], "added");
		}
	}

	qsort(reads, nreads, sizeof(Read), by_key_and_size);
	for (int i = 1; i < nreads; i++)
		judge_pair(&reads[i - 1], &reads[i], "long-fork", "two reads that no one order explains");
	for (int i = 0; i < h->count; i++)
	{
		const Txn  *add = &h->txns[i];

		if (add->nops != 1 || add->ops[0].kind != 'a' || add->outcome != OUT_OK)
			continue;
		for (int r = 0; r < nreads; r++)
		{
			const Txn  *t = reads[r].txn;

			if (t->ops[0].key != add->ops[0].key || !must_have(t, add, o) ||
				has(&reads[r], add->ops[0].values[0]))
				continue;
			anomaly(t->level == LEVEL_FINAL ? "lost" : t->level == LEVEL_STRONG ?
					"stale-strong-read" : t->level == LEVEL_BOUNDED ? "too-stale" :
					"read-your-writes", "element %lld of set %lld is missing",
					(long long) add->ops[0].values[0], (long long) add->ops[0].key);
			anomaly_line(add, "added");
			anomaly_line(t, "read");
		}
	}
	qsort(reads, nreads, sizeof(Read), by_connection);
	for (int i = 1; i < nreads; i++)
		if (reads[i].txn->session == reads[i - 1].txn->session &&
			reads[i].txn->level != LEVEL_FINAL &&
			(reads[i].txn->connection == reads[i - 1].txn->connection ||
			 reads[i].txn->level == LEVEL_CAUSAL))
			judge_pair(&reads[i - 1], &reads[i], "monotonic-reads", "what was seen before is gone");
}

void
check_bank(const History *h, const CheckOptions *o)
{
	int64_t		total = o->total;

	for (int i = 0; i < h->count; i++)
	{
		const Txn  *t = &h->txns[i];

		for (int k = 0; k < t->nops; k++)
		{
			int64_t		sum = 0;
			bool		negative = false;

			if (t->ops[k].kind != 'l' || t->outcome != OUT_OK)
				continue;
			for (int v = 0; v < t->ops[k].count; v++)
			{
				sum += t->ops[k].values[v];
				negative |= t->ops[k].values[v] < 0;
			}
			if (total == NIL)
				total = sum;
			if (sum != total)
				anomaly("total", "%lld instead of %lld", (long long) sum, (long long) total);
			else if (negative)
				anomaly("negative", "an account is overdrawn");
			else
				continue;
			anomaly_line(t, "");
		}
	}
}

/* The sum of a pair is never below nothing: whoever lowers a half has locked both. */
void
check_pair(const History *h, const CheckOptions *o)
{
	(void) o;
	for (int i = 0; i < h->count; i++)
	{
		const Txn  *t = &h->txns[i];
		int64_t		sum = 0;

		if (t->outcome != OUT_OK || t->nops < 1 || t->ops[0].kind != 'l')
			continue;
		for (int v = 0; v < t->ops[0].count; v++)
			sum += t->ops[0].values[v];
		if (sum >= 0)
			continue;
		anomaly("write-skew", "pair %lld: %lld", (long long) t->ops[0].key, (long long) sum);
		anomaly_line(t, "");
	}
}
