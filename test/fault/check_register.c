/*-------------------------------------------------------------------------
 *
 * check_register.c
 *		Is each register linearizable?
 *
 * Keys are independent (a history is linearizable exactly when that of each key
 * is: Herlihy and Wing, section 3.2), so each is searched for an order by
 * itself: Wing and Gong's algorithm with Lowe's memory of configurations that
 * were tried ("Testing for linearizability", 2017). Writes of unknown outcome
 * may take place at any time after they began, or never; one whose value nobody
 * saw is left out, which changes no answer and saves most of the search.
 *
 * Reads below strong promise no recency and are only checked to have read
 * something that was written, or may have been.
 *
 *-------------------------------------------------------------------------
 */
#include "history.h"

#include <stdlib.h>
#include <string.h>

#define MAX_STEPS	30000000	/* of one key */

typedef struct Call
{
	const Txn  *txn;
	char		kind;			/* r, w, c */
	bool		certain;
	int64_t		begin_us;
	int64_t		end_us;
	int64_t		from;			/* read, or expected by a compare and set */
	int64_t		to;
} Call;

typedef struct Event
{
	int64_t		time_us;
	bool		is_return;
	int			call;
	struct Event *prev;
	struct Event *next;
	struct Event *match;		/* of a call: its return, or NULL */
} Event;

typedef struct Register
{
	int64_t		key;
	int			ncalls;
	Call	   *calls;
} Register;

/* ---------- configurations that were tried ---------- */

typedef struct Tried
{
	uint64_t	hash;
	int64_t		state;
	uint64_t   *done;			/* NULL: free slot */
} Tried;

typedef struct Memo
{
	int			words;
	size_t		size;
	size_t		used;
	Tried	   *slots;
} Memo;

/* True when it is new. */
static bool
memo_add(Memo *memo, const uint64_t *done, int64_t state)
{
	uint64_t	hash = (uint64_t) state * UINT64_C(0x9e3779b97f4a7c15);
	size_t		i;

	for (int w = 0; w < memo->words; w++)
	{
		hash = (hash ^ done[w]) * UINT64_C(0xbf58476d1ce4e5b9);
		hash ^= hash >> 31;
	}
	if (memo->used * 2 >= memo->size)
	{
		Memo		old = *memo;

		memo->size = old.size ? old.size * 2 : 1024;
		memo->slots = calloc(memo->size, sizeof(Tried));
		if (!memo->slots)
			abort();
		for (size_t k = 0; k < old.size; k++)
		{
			if (!old.slots[k].done)
				continue;
			for (i = old.slots[k].hash & (memo->size - 1); memo->slots[i].done;)
				i = (i + 1) & (memo->size - 1);
			memo->slots[i] = old.slots[k];
		}
		free(old.slots);
	}
	for (i = hash & (memo->size - 1); memo->slots[i].done; i = (i + 1) & (memo->size - 1))
	{
		if (memo->slots[i].hash == hash && memo->slots[i].state == state &&
			memcmp(memo->slots[i].done, done, memo->words * sizeof(uint64_t)) == 0)
			return false;
	}
	memo->slots[i].hash = hash;
	memo->slots[i].state = state;
	memo->slots[i].done = malloc(memo->words * sizeof(uint64_t));
	if (!memo->slots[i].done)
		abort();
	memcpy(memo->slots[i].done, done, memo->words * sizeof(uint64_t));
	memo->used++;
	return true;
}

static void
memo_free(Memo *memo)
{
	for (size_t i = 0; i < memo->size; i++)
		free(memo->slots[i].done);
	free(memo->slots);
}

/* ---------- the search ---------- */

static int
by_time(const void *a, const void *b)
{
	const Event *x = a;
	const Event *y = b;

	if (x->time_us != y->time_us)
		return x->time_us < y->time_us ? -1 : 1;
	/* at one moment: calls first, so that they count as concurrent */
	return (int) x->is_return - (int) y->is_return;
}

static Event *
make_events(const Register *reg)
{
	Event	   *events = memory(2 * reg->ncalls + 1, sizeof(Event));
	Event	  **call = memory(reg->ncalls, sizeof(Event *));
	int			n = 1;			/* events[0] is the list's head */

	for (int i = 0; i < reg->ncalls; i++)
	{
		events[n++] = (Event) {.time_us = reg->calls[i].begin_us, .call = i};
		if (reg->calls[i].certain)
			events[n++] = (Event) {.time_us = reg->calls[i].end_us, .is_return = true, .call = i};
	}
	qsort(events + 1, n - 1, sizeof(Event), by_time);
	for (int i = 0; i < n; i++)
	{
		events[i].prev = i > 0 ? &events[i - 1] : NULL;
		events[i].next = i + 1 < n ? &events[i + 1] : NULL;
		if (i > 0 && !events[i].is_return)
			call[events[i].call] = &events[i];
		else if (i > 0)
			call[events[i].call]->match = &events[i];
	}
	return events;
}

static void
unlink_event(Event *e)
{
	e->prev->next = e->next;
	if (e->next)
		e->next->prev = e->prev;
}

static void
link_event(Event *e)
{
	e->prev->next = e;
	if (e->next)
		e->next->prev = e;
}

static bool
possible(const Call *call, int64_t state, int64_t *next)
{
	*next = call->kind == 'r' ? state : call->to;
	return call->kind == 'w' || call->from == state;
}

static void
report_stuck(const Register *reg, const Call *at)
{
	anomaly("nonlinearizable", "key %lld: no order explains the answer",
			(long long) reg->key);
	anomaly_line(at->txn, "cannot be placed");
	for (int i = 0, shown = 0; i < reg->ncalls && shown < 12; i++)
	{
		const Call *c = &reg->calls[i];

		if (c != at && c->begin_us <= at->end_us && c->end_us >= at->begin_us - 200000)
		{
			anomaly_line(c->txn, "about then");
			shown++;
		}
	}
}

static void
search(const Register *reg)
{
	Event	   *head = make_events(reg);
	Event	  **stack = memory(reg->ncalls + 1, sizeof(Event *));
	int64_t    *states = memory(reg->ncalls + 1, sizeof(int64_t));
	Memo		memo = {.words = reg->ncalls / 64 + 1};
	uint64_t   *done = memory(memo.words, sizeof(uint64_t));
	Event	   *e = head->next;
	const Event *furthest = NULL;
	int64_t		state = NIL;
	int			depth = 0;
	int			left = 0;
	long		steps = 0;

	for (int i = 0; i < reg->ncalls; i++)
		left += reg->calls[i].certain;
	while (left > 0)
	{
		int64_t		next;

		if (++steps > MAX_STEPS)
		{
			anomaly("undecided", "key %lld: gave up after %d steps", (long long) reg->key, MAX_STEPS);
			break;
		}
		if (e && !e->is_return)
		{
			const Call *call = &reg->calls[e->call];
			uint64_t	bit = UINT64_C(1) << (e->call % 64);

			if (possible(call, state, &next))
			{
				done[e->call / 64] |= bit;
				if (memo_add(&memo, done, next))
				{
					stack[depth] = e;
					states[depth++] = state;
					state = next;
					left -= call->certain;
					unlink_event(e);
					if (e->match)
						unlink_event(e->match);
					e = head->next;
					continue;
				}
				done[e->call / 64] &= ~bit;
			}
			e = e->next;
			continue;
		}
		if (e && (!furthest || e->time_us > furthest->time_us))
			furthest = e;
		if (depth == 0)
		{
			report_stuck(reg, &reg->calls[furthest->call]);
			break;
		}
		e = stack[--depth];
		state = states[depth];
		left += reg->calls[e->call].certain;
		done[e->call / 64] &= ~(UINT64_C(1) << (e->call % 64));
		if (e->match)
			link_event(e->match);
		link_event(e);
		e = e->next;
	}
	memo_free(&memo);
}

/* ---------- taking the history apart ---------- */

static void
judge_values(const History *h)
{
	Map		   *written = map_new();

	for (int i = 0; i < h->count; i++)
	{
		for (int k = 0; k < h->txns[i].nops; k++)
		{
			const Op   *op = &h->txns[i].ops[k];

			if (op->kind == 'w' || op->kind == 'c')
				*map_at(written, op->key, op->values[op->count - 1]) = i;
		}
	}
	for (int i = 0; i < h->count; i++)
	{
		const Txn  *t = &h->txns[i];

		for (int k = 0; k < t->nops; k++)
		{
			const Op   *op = &t->ops[k];
			int			by;

			if (op->kind != 'r' || t->outcome != OUT_OK || op->values[0] == NIL)
				continue;
			by = map_get(written, op->key, op->values[0]);
			if (by >= 0 && h->txns[by].outcome != OUT_FAIL && h->txns[by].begin_us <= t->end_us)
				continue;
			anomaly(by < 0 ? "phantom" : h->txns[by].outcome == OUT_FAIL ? "G1a" : "from-the-future",
					"a read of key %lld saw a value that %s", (long long) op->key,
					by < 0 ? "nobody wrote" : "was not written by then");
			anomaly_line(t, "read");
			if (by >= 0)
				anomaly_line(&h->txns[by], "wrote");
		}
	}
}

static bool
make_call(const Txn *t, const Op *op, const Map *seen, Call *call)
{
	*call = (Call)
	{
		.txn = t, .kind = op->kind, .certain = t->outcome == OUT_OK,
			.begin_us = t->begin_us, .end_us = t->end_us
	};
	if (t->outcome == OUT_FAIL || op->unknown || !strchr("rwc", op->kind))
		return false;
	call->from = op->values[0];
	call->to = op->values[op->count - 1];
	if (op->kind == 'r')
		return t->outcome == OUT_OK && t->level >= LEVEL_STRONG;
	return call->certain || map_get(seen, op->key, call->to) >= 0;
}

void
check_register(const History *h, const CheckOptions *o)
{
	Map		   *index = map_new();
	Map		   *seen = map_new();
	Register   *regs;
	int			nregs = 0;

	(void) o;
	judge_values(h);
	for (int i = 0; i < h->count; i++)
	{
		for (int k = 0; k < h->txns[i].nops; k++)
		{
			const Op   *op = &h->txns[i].ops[k];
			int		   *at = map_at(index, op->key, 0);

			if (*at < 0)
				*at = nregs++;
			if (op->unknown)
				continue;
			if ((op->kind == 'r' && h->txns[i].outcome == OUT_OK) || op->kind == 'c')
				*map_at(seen, op->key, op->values[0]) = 1;
		}
	}
	regs = memory(nregs, sizeof(Register));
	/* once to count, once to fill */
	for (int round = 0; round < 2; round++)
	{
		for (int i = 0; i < nregs && round == 1; i++)
		{
			regs[i].calls = memory(regs[i].ncalls, sizeof(Call));
			regs[i].ncalls = 0;
		}
		for (int i = 0; i < h->count; i++)
		{
			for (int k = 0; k < h->txns[i].nops; k++)
			{
				Register   *reg = &regs[map_get(index, h->txns[i].ops[k].key, 0)];
				Call		call;

				if (!make_call(&h->txns[i], &h->txns[i].ops[k], seen, &call))
					continue;
				reg->key = h->txns[i].ops[k].key;
				if (round == 1)
					reg->calls[reg->ncalls] = call;
				reg->ncalls++;
			}
		}
	}
	for (int i = 0; i < nregs; i++)
		search(&regs[i]);
}
