/*-------------------------------------------------------------------------
 *
 * check_session.c
 *		What a session may rely on, and how old a bounded read may be.
 *
 * Terry et al., "Session guarantees for weakly consistent replicated data",
 * 1994. On one connection all of them hold whatever the level is; on another
 * connection or node, after the token was carried there, all under causal and
 * the first under read your writes:
 *		read-your-writes	a read sees what the session wrote
 *		monotonic-reads		and everything that it saw before
 *		monotonic-writes	writes of a session are in its order
 *		writes-follow-reads	a write is behind all that its session had seen,
 *							for everybody
 * Works on lists.
 *
 *-------------------------------------------------------------------------
 */
#include "history.h"

#include <stdlib.h>
#include <string.h>

#define UNREAD		INT32_MAX	/* the place of an element nobody read */

/* What a session has of a key. */
typedef struct Mark
{
	int			seen;			/* places */
	int			seen_txn;
	int			wrote;			/* places, up to its own last one */
	int			wrote_txn;
} Mark;

static const Txn *sort_base;

static int
by_session(const void *a, const void *b)
{
	const Txn  *x = &sort_base[*(const int *) a];
	const Txn  *y = &sort_base[*(const int *) b];

	if (x->session != y->session)
		return x->session < y->session ? -1 : 1;
	return x->begin_us < y->begin_us ? -1 : x->begin_us > y->begin_us;
}

static int
end_place(const Lists *lists, const Op *op)
{
	const Key  *key = lists_key(lists, op->key);
	int			e = map_get(lists->elements, op->key, op->values[0]);

	return e < 0 || key->elements[e].place < 0 ? UNREAD : key->elements[e].place + 1;
}

static void
judge_txn(const Lists *lists, int txn, Mark *marks)
{
	const Txn  *txns = lists->history->txns;
	const Txn  *t = &txns[txn];

	for (int i = 0; i < t->nops; i++)
	{
		Mark	   *m = &marks[map_get(lists->keys_by_name, t->ops[i].key, 0)];
		bool		same;
		int			seen;
		int			end;

		if (t->ops[i].kind == 'l')
		{
			seen = lists_seen(lists, txn, i);
			if (seen < 0)
				continue;
			same = txns[m->wrote_txn].connection == t->connection;
			if (m->wrote > seen && m->wrote_txn != txn &&
				(same || t->level == LEVEL_RYW || t->level == LEVEL_CAUSAL))
			{
				anomaly("read-your-writes", "key %lld: a session misses its own write",
						(long long) t->ops[i].key);
				anomaly_line(&txns[m->wrote_txn], "wrote");
				anomaly_line(t, "read");
			}
			same = txns[m->seen_txn].connection == t->connection;
			if (m->seen > seen && (same || t->level == LEVEL_CAUSAL))
			{
				anomaly("monotonic-reads", "key %lld: a session misses what it saw before",
						(long long) t->ops[i].key);
				anomaly_line(&txns[m->seen_txn], "before");
				anomaly_line(t, "after");
			}
			if (seen > m->seen || !same)
				m->seen = seen, m->seen_txn = txn;
			continue;
		}
		if (t->ops[i].kind != 'a' || t->outcome != OUT_OK)
			continue;
		end = end_place(lists, &t->ops[i]);
		if (end < m->wrote && m->wrote != UNREAD)
		{
			anomaly("monotonic-writes", "key %lld: two writes of a session changed places",
					(long long) t->ops[i].key);
			anomaly_line(&txns[m->wrote_txn], "first");
			anomaly_line(t, "second");
		}
		if (end <= m->seen)
		{
			anomaly("writes-follow-reads", "key %lld: a write is before what its session saw",
					(long long) t->ops[i].key);
			anomaly_line(&txns[m->seen_txn], "read");
			anomaly_line(t, "wrote");
		}
		/* what nobody ever read, a read of this session misses: that counts */
		m->wrote = end;
		m->wrote_txn = txn;
	}
}

/*
 * Everybody who sees what t wrote sees what the transaction before it in its
 * session saw and wrote.
 */
static void
judge_readers(const Lists *lists, int txn, const int *before)
{
	const Txn  *txns = lists->history->txns;
	const Txn  *t = &txns[txn];

	for (int i = 0; i < t->nops; i++)
	{
		const Key  *key = lists_key(lists, t->ops[i].key);
		int			seen = t->ops[i].kind == 'l' ? lists_seen(lists, txn, i) : -1;

		for (int p = 0; p < seen; p++)
		{
			int			writer = key->elements[key->order[p]].txn;
			int			b = before[writer];

			for (int k = 0; b >= 0 && k < txns[b].nops; k++)
			{
				const Op   *op = &txns[b].ops[k];
				int			needed = op->kind == 'l' ? lists_seen(lists, b, k) :
					op->kind == 'a' ? end_place(lists, op) : -1;

				for (int r = 0; r < t->nops && needed > 0; r++)
				{
					int			got;

					if (t->ops[r].kind != 'l' || t->ops[r].key != op->key ||
						(t->isolation == ISO_RC && r < i))
						continue;
					got = lists_seen(lists, txn, r);
					if (got < 0 || got >= needed || writer == txn || b == txn)
						continue;
					anomaly("writes-follow-reads",
							"a reader sees a write to key %lld without what its session had of key %lld",
							(long long) key->key, (long long) op->key);
					anomaly_line(&txns[b], "first");
					anomaly_line(&txns[writer], "wrote");
					anomaly_line(t, "read");
					return;
				}
			}
		}
	}
}

void
check_session(const History *h, const CheckOptions *o)
{
	Lists	   *lists = lists_build(h);
	int		   *order = memory(h->count, sizeof(int));
	int		   *before = memory(h->count, sizeof(int));
	Mark	   *marks = memory(lists->nkeys, sizeof(Mark));
	int			n = 0;
	int			previous = -1;

	(void) o;
	memset(before, 0xff, h->count * sizeof(int));
	for (int i = 0; i < h->count; i++)
		if (lists->happened[i] && h->txns[i].level != LEVEL_FINAL)
			order[n++] = i;
	sort_base = h->txns;
	qsort(order, n, sizeof(int), by_session);
	for (int i = 0; i < n; i++)
	{
		const Txn  *t = &h->txns[order[i]];

		if (previous >= 0 && h->txns[previous].session != t->session)
		{
			previous = -1;
			memset(marks, 0, lists->nkeys * sizeof(Mark));
		}
		judge_txn(lists, order[i], marks);
		if (previous >= 0 && h->txns[previous].outcome == OUT_OK &&
			(h->txns[previous].connection == t->connection || t->level == LEVEL_CAUSAL))
			before[order[i]] = previous;
		previous = order[i];
	}
	for (int i = 0; i < h->count; i++)
		judge_readers(lists, i, before);
}

/* ---------- staleness ---------- */

typedef struct Acked
{
	int64_t		end_us;
	int			place;			/* the highest one up to here, + 1 */
	int			txn;			/* whose */
} Acked;

/* Acknowledged appends of each key, by time. */
typedef struct AckedLists
{
	Acked	  **acked;
	int		   *count;
} AckedLists;

static int
by_end(const void *a, const void *b)
{
	const Acked *x = a;
	const Acked *y = b;

	return x->end_us < y->end_us ? -1 : x->end_us > y->end_us;
}

static AckedLists
acked_lists(const Lists *lists, bool applied_all)
{
	const Txn  *txns = lists->history->txns;
	AckedLists	l;

	l.acked = memory(lists->nkeys, sizeof(Acked *));
	l.count = memory(lists->nkeys, sizeof(int));
	for (int i = 0; i < lists->nkeys; i++)
	{
		const Key  *key = &lists->keys[i];
		Acked	   *acked = memory(key->nelements, sizeof(Acked));
		int			n = 0;

		for (int k = 0; k < key->nelements; k++)
		{
			const Element *e = &key->elements[k];

			if (txns[e->txn].outcome == OUT_OK && (!applied_all || txns[e->txn].applied_all))
				acked[n++] = (Acked)
			{
				txns[e->txn].end_us, e->place < 0 ? UNREAD : e->place + 1, e->txn
			};
		}
		qsort(acked, n, sizeof(Acked), by_end);
		for (int k = 1; k < n; k++)
			if (acked[k].place < acked[k - 1].place)
				acked[k].place = acked[k - 1].place, acked[k].txn = acked[k - 1].txn;
		l.acked[i] = acked;
		l.count[i] = n;
	}
	return l;
}

/* Whose append, acknowledged before limit, the read misses, or -1. */
static int
missed(const AckedLists *l, int key, int64_t limit, int seen, int reader)
{
	int			low = 0;
	int			high = l->count[key];

	while (low < high)
	{
		int			mid = (low + high) / 2;

		if (l->acked[key][mid].end_us < limit)
			low = mid + 1;
		else
			high = mid;
	}
	/* its own elements are not counted in seen */
	if (low == 0 || l->acked[key][low - 1].place <= seen || l->acked[key][low - 1].txn == reader)
		return -1;
	return l->acked[key][low - 1].txn;
}

static void
report_missed(const Txn *by, const Txn *t, const Op *op, const char *name)
{
	anomaly(name, "key %lld: a read misses what was acknowledged %lld us before it began",
			(long long) op->key, (long long) (t->begin_us - by->end_us));
	anomaly_line(by, "acknowledged");
	anomaly_line(t, "read");
}

/*
 * A bounded read contains all that was acknowledged more than the bound before
 * it began; a strong one all that was acknowledged before; any read what was
 * acknowledged as applied everywhere.
 */
void
check_staleness(const History *h, const CheckOptions *o)
{
	Lists	   *lists = lists_build(h);
	AckedLists	any = acked_lists(lists, false);
	AckedLists	everywhere = acked_lists(lists, true);

	for (int t = 0; t < h->count; t++)
	{
		const Txn  *txn = &h->txns[t];

		for (int k = 0; k < txn->nops; k++)
		{
			const Op   *op = &txn->ops[k];
			int			key = map_get(lists->keys_by_name, op->key, 0);
			int			seen = op->kind == 'l' ? lists_seen(lists, t, k) : -1;
			int			by;

			if (seen < 0)
				continue;
			by = missed(&everywhere, key, txn->begin_us, seen, t);
			if (by >= 0)
				report_missed(&h->txns[by], txn, op, "not-applied-everywhere");
			by = txn->level >= LEVEL_STRONG ? missed(&any, key, txn->begin_us, seen, t) :
				txn->level == LEVEL_BOUNDED ?
				missed(&any, key, txn->begin_us - o->staleness_us, seen, t) : -1;
			if (by >= 0)
				report_missed(&h->txns[by], txn, op, txn->level == LEVEL_BOUNDED ? "too-stale" :
							  "stale-strong-read");
		}
	}
}
