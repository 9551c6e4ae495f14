/*-------------------------------------------------------------------------
 *
 * lists.c
 *		The order of each key's elements, out of what was read.
 *
 * Appends make a key's value tell its whole history, so the longest read of a
 * key is the order of its writes, and all other reads must be prefixes of it.
 * (Kingsbury and Alvaro, "Elle", VLDB 2020, section 4.)
 *
 *-------------------------------------------------------------------------
 */
#include "history.h"

#include <string.h>

static Key *
key_make(Lists *lists, int64_t key)
{
	int		   *at = map_at(lists->keys_by_name, key, 0);

	if (*at < 0)
	{
		if ((lists->nkeys & (lists->nkeys - 1)) == 0)
		{
			Key		   *old = lists->keys;

			lists->keys = memory(lists->nkeys ? lists->nkeys * 2 : 1, sizeof(Key));
			if (old)
				memcpy(lists->keys, old, lists->nkeys * sizeof(Key));
		}
		*at = lists->nkeys;
		lists->keys[lists->nkeys++].key = key;
	}
	return &lists->keys[*at];
}

Key *
lists_key(const Lists *lists, int64_t key)
{
	int			at = map_get(lists->keys_by_name, key, 0);

	return at < 0 ? NULL : &lists->keys[at];
}

static void
add_element(Lists *lists, int txn, const Op *op)
{
	Key		   *key = key_make(lists, op->key);
	int		   *at = map_at(lists->elements, op->key, op->values[0]);

	if (*at >= 0)
	{
		anomaly("bad-history", "element %lld of key %lld is appended twice",
				(long long) op->values[0], (long long) op->key);
		anomaly_line(&lists->history->txns[txn], "");
		return;
	}
	if ((key->nelements & (key->nelements - 1)) == 0)
	{
		Element    *old = key->elements;

		key->elements = memory(key->nelements ? key->nelements * 2 : 1, sizeof(Element));
		if (old)
			memcpy(key->elements, old, key->nelements * sizeof(Element));
	}
	*at = key->nelements;
	for (int i = key->nelements - 1; i >= 0 && key->elements[i].txn == txn; i--)
		key->elements[i].last = false;
	key->elements[key->nelements++] = (Element)
	{
		.value = op->values[0], .txn = txn, .place = -1, .last = true
	};
}

static bool
counts(const Txn *t, const Op *op)
{
	return op->kind == 'l' && t->outcome == OUT_OK && !op->unknown;
}

/* The longest read of each key becomes its order. */
static void
find_orders(Lists *lists)
{
	const History *h = lists->history;
	const Txn **from;
	const Op  **longest;

	for (int i = 0; i < h->count; i++)
		for (int k = 0; k < h->txns[i].nops; k++)
			if (counts(&h->txns[i], &h->txns[i].ops[k]))
				key_make(lists, h->txns[i].ops[k].key);
	longest = memory(lists->nkeys, sizeof(Op *));
	from = memory(lists->nkeys, sizeof(Txn *));
	for (int i = 0; i < h->count; i++)
	{
		for (int k = 0; k < h->txns[i].nops; k++)
		{
			const Op   *op = &h->txns[i].ops[k];
			int			at = map_get(lists->keys_by_name, op->key, 0);

			if (counts(&h->txns[i], op) &&
				(!longest[at] || op->count > longest[at]->count))
			{
				longest[at] = op;
				from[at] = &h->txns[i];
			}
		}
	}
	for (int i = 0; i < lists->nkeys; i++)
	{
		Key		   *key = &lists->keys[i];

		if (!longest[i])
			continue;
		key->order = memory(longest[i]->count, sizeof(int));
		for (int k = 0; k < longest[i]->count; k++)
		{
			int			e = map_get(lists->elements, key->key, longest[i]->values[k]);

			if (e < 0 || key->elements[e].place >= 0)
			{
				anomaly(e < 0 ? "phantom" : "duplicate",
						"key %lld has element %lld, which %s", (long long) key->key,
						(long long) longest[i]->values[k],
						e < 0 ? "nobody appended" : "is there twice");
				anomaly_line(from[i], "");
				continue;
			}
			key->elements[e].place = key->norder;
			key->order[key->norder++] = e;
		}
	}
}

static void
judge_order(Lists *lists, const Key *key)
{
	const History *h = lists->history;

	for (int i = 0; i < key->norder; i++)
	{
		const Element *e = &key->elements[key->order[i]];
		const Element *next = i + 1 < key->norder ? &key->elements[key->order[i + 1]] : NULL;
		const Txn  *t = &h->txns[e->txn];

		lists->happened[e->txn] = true;
		if (t->outcome == OUT_FAIL)
		{
			anomaly("G1a", "element %lld of key %lld was read, and its transaction failed",
					(long long) e->value, (long long) key->key);
			anomaly_line(t, "");
		}
		if (!e->last && (!next || next->txn != e->txn))
		{
			anomaly("G1b", "element %lld of key %lld came from the middle of a transaction",
					(long long) e->value, (long long) key->key);
			anomaly_line(t, "");
		}
	}
}

/*
 * How much of the order a list shows: its length without the elements that the
 * transaction appended itself before this operation, which must be at its end.
 * -1: it does not fit.
 */
static int
fit(const Lists *lists, int txn, int opno)
{
	const Txn  *t = &lists->history->txns[txn];
	const Op   *op = &t->ops[opno];
	const Key  *key = lists_key(lists, op->key);
	int			len = op->count;

	for (int i = opno - 1; i >= 0; i--)
	{
		if (t->ops[i].kind != 'a' || t->ops[i].key != op->key)
			continue;
		if (len == 0 || op->values[len - 1] != t->ops[i].values[0])
			return -1;
		len--;
	}
	for (int i = 0; i < op->count; i++)
		if (i >= key->norder || key->elements[key->order[i]].value != op->values[i])
			return -1;
	return len;
}

int
lists_seen(const Lists *lists, int txn, int op)
{
	const Txn  *t = &lists->history->txns[txn];

	return counts(t, &t->ops[op]) ? fit(lists, txn, op) : -1;
}

static void
judge_read(Lists *lists, int txn, int opno)
{
	const Txn  *t = &lists->history->txns[txn];
	const Op   *op = &t->ops[opno];
	const Key  *key = lists_key(lists, op->key);
	int			len = fit(lists, txn, opno);

	if (len < 0)
	{
		anomaly("incompatible-order", "a read of key %lld is no prefix of the longest one",
				(long long) key->key);
		anomaly_line(t, "");
		return;
	}
	if (len > 0)
	{
		const Element *e = &key->elements[key->order[len - 1]];

		if (!e->last)
		{
			anomaly("G1b", "a read of key %lld saw the middle of a transaction",
					(long long) key->key);
			anomaly_line(t, "read");
			anomaly_line(&lists->history->txns[e->txn], "appended");
		}
	}
	/* repeatable: an earlier read of the same transaction is a prefix */
	for (int i = 0; i < opno; i++)
	{
		int			before;

		if (t->ops[i].kind != 'l' || t->ops[i].key != op->key)
			continue;
		before = fit(lists, txn, i);
		if (before > len || (t->isolation != ISO_RC && before >= 0 && before != len))
		{
			anomaly("internal", "two reads of key %lld in one transaction differ",
					(long long) key->key);
			anomaly_line(t, "");
		}
	}
	if (t->level != LEVEL_FINAL)
		return;
	for (int i = 0; i < key->nelements; i++)
	{
		const Element *e = &key->elements[i];
		const Txn  *by = &lists->history->txns[e->txn];

		if (by->outcome != OUT_OK ? lists->happened[e->txn] && e->place >= len :
			(e->place < 0 || e->place >= len))
		{
			anomaly("lost", "element %lld of key %lld was %s, and is not in a final read",
					(long long) e->value, (long long) key->key,
					by->outcome == OUT_OK ? "acknowledged" : "read");
			anomaly_line(by, "appended");
			anomaly_line(t, "read");
		}
	}
}

Lists *
lists_build(const History *h)
{
	Lists	   *lists = memory(1, sizeof(Lists));

	lists->history = h;
	lists->keys_by_name = map_new();
	lists->elements = map_new();
	lists->happened = memory(h->count, sizeof(bool));
	for (int i = 0; i < h->count; i++)
	{
		lists->happened[i] = h->txns[i].outcome == OUT_OK;
		for (int k = 0; k < h->txns[i].nops; k++)
			if (h->txns[i].ops[k].kind == 'a')
				add_element(lists, i, &h->txns[i].ops[k]);
	}
	find_orders(lists);
	for (int i = 0; i < lists->nkeys; i++)
		judge_order(lists, &lists->keys[i]);
	for (int i = 0; i < h->count; i++)
		for (int k = 0; k < h->txns[i].nops; k++)
			if (counts(&h->txns[i], &h->txns[i].ops[k]))
				judge_read(lists, i, k);
	return lists;
}
