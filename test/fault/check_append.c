/*-------------------------------------------------------------------------
 *
 * check_append.c
 *		Cycles between transactions that append to lists and read them.
 *
 * Edges (Adya; Elle section 2), A -> B:
 *		ww		B's append to a key is the next after A's
 *		wr		B read what A appended, as the last element
 *		rw		A read a list whose next element is B's
 *		so		A came before B in a session, and B has to see that
 *		rt		A ended before B, a strong read, began
 *
 * An edge other than rw means that A is committed before the snapshot of B; rw
 * means that A's snapshot was taken before B is committed. So under snapshot
 * isolation (repeatable read, and any transaction of a single operation) a
 * cycle must have two rw edges next to each other (Fekete; Cerone and Gotsman).
 * Every other one is an anomaly:
 *		G0			ww only
 *		G1c			ww and wr
 *		G-single	one rw: a lost update, a fractured read
 *		long-fork	several rw, no two next to each other: snapshots whose
 *					order is not one order
 * -session, -realtime: with so, rt edges, so that it breaks what a session, or a
 * strong read, promises. Read committed transactions of several operations have
 * no one snapshot: their rw edges are left out.
 *
 * To look for cycles without two rw in a row, every transaction is two
 * vertices: v0, come to by another edge, and v1, come to by rw, from which no
 * rw leads on. Real time is a chain of barriers in the order of the strong
 * transactions' begin.
 *
 *-------------------------------------------------------------------------
 */
#include "history.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum
{
	WW = 1,
	WR = 2,
	RW = 4,
	SO = 8,
	RT = 16
};

static const struct
{
	int			kind;
	const char *name;
}			edge_names[] = {{WW, "ww"}, {WR, "wr"}, {RW, "rw"}, {SO, "so"}, {RT, "rt"}};

typedef struct Edge
{
	int			to;
	int			kind;
	int64_t		key;
	int			next;			/* of the same vertex, or -1 */
} Edge;

/* Vertices: transactions, then barriers. */
typedef struct Graph
{
	const History *h;
	int			n;
	int		   *first;
	int			nedges;
	int			room;
	Edge	   *edges;
	/* of a search, over doubled vertices 2v + (come to by rw) */
	int			mask;
	int		   *number;
	int		   *low;
	int		   *component;
	int			ncomponents;
} Graph;

static void
add_edge(Graph *g, int from, int to, int kind, int64_t key)
{
	if (from == to)
		return;
	if (g->nedges == g->room)
	{
		Edge	   *old = g->edges;

		g->room = g->room ? g->room * 2 : 4096;
		g->edges = memory(g->room, sizeof(Edge));
		if (old)
			memcpy(g->edges, old, g->nedges * sizeof(Edge));
	}
	g->edges[g->nedges] = (Edge) {.to = to, .kind = kind, .key = key, .next = g->first[from]};
	g->first[from] = g->nedges++;
}

static bool
one_snapshot(const Txn *t)
{
	return t->isolation != ISO_RC || t->nops == 1;
}

/* ---------- building ---------- */

static void
add_key_edges(Graph *g, const Lists *lists)
{
	for (int i = 0; i < lists->nkeys; i++)
	{
		const Key  *key = &lists->keys[i];

		for (int p = 0; p + 1 < key->norder; p++)
			add_edge(g, key->elements[key->order[p]].txn,
					 key->elements[key->order[p + 1]].txn, WW, key->key);
	}
}

static void
add_read_edges(Graph *g, const Lists *lists, int txn)
{
	const Txn  *t = &g->h->txns[txn];

	for (int i = 0; i < t->nops; i++)
	{
		const Key  *key = lists_key(lists, t->ops[i].key);
		int			seen = t->ops[i].kind == 'l' ? lists_seen(lists, txn, i) : -1;

		if (seen < 0)
			continue;
		if (seen > 0)
			add_edge(g, key->elements[key->order[seen - 1]].txn, txn, WR, key->key);
		/* its own elements are no later ones */
		while (seen < key->norder && key->elements[key->order[seen]].txn == txn)
			seen++;
		if (seen < key->norder && one_snapshot(t))
			add_edge(g, txn, key->elements[key->order[seen]].txn, RW, key->key);
		if (!one_snapshot(t))
			continue;
		/* acknowledged, and never read by anyone: also later than this read */
		for (int e = 0; e < key->nelements; e++)
			if (key->elements[e].place < 0 && lists->happened[key->elements[e].txn])
				add_edge(g, txn, key->elements[e].txn, RW, key->key);
	}
}

static bool
appends(const Txn *t)
{
	for (int i = 0; i < t->nops; i++)
		if (t->ops[i].kind == 'a')
			return true;
	return false;
}

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
by_begin(const void *a, const void *b)
{
	const Txn  *x = &sort_base[*(const int *) a];
	const Txn  *y = &sort_base[*(const int *) b];

	return x->begin_us < y->begin_us ? -1 : x->begin_us > y->begin_us;
}

static int
by_end(const void *a, const void *b)
{
	const Txn  *x = &sort_base[*(const int *) a];
	const Txn  *y = &sort_base[*(const int *) b];

	return x->end_us < y->end_us ? -1 : x->end_us > y->end_us;
}

/*
 * On one connection every transaction sees the ones before it. Elsewhere only
 * with the token: all that the session saw or wrote under causal, what it wrote
 * under read your writes.
 */
static void
add_session_edges(Graph *g, const Lists *lists)
{
	const Txn  *txns = g->h->txns;
	int		   *order = memory(g->h->count, sizeof(int));
	int			n = 0;
	int			last_writer = -1;

	for (int i = 0; i < g->h->count; i++)
		if (lists->happened[i] && txns[i].level != LEVEL_FINAL)
			order[n++] = i;
	sort_base = txns;
	qsort(order, n, sizeof(int), by_session);
	for (int i = 1; i < n; i++)
	{
		const Txn  *before = &txns[order[i - 1]];
		const Txn  *t = &txns[order[i]];

		if (before->session != t->session)
		{
			last_writer = -1;
			continue;
		}
		/* an outcome that nobody knew left nothing to promise */
		if (before->outcome == OUT_OK)
		{
			if (before->connection == t->connection || t->level == LEVEL_CAUSAL)
				add_edge(g, order[i - 1], order[i], SO, 0);
			if (appends(before))
				last_writer = order[i - 1];
		}
		if (last_writer >= 0 && t->level == LEVEL_RYW)
			add_edge(g, last_writer, order[i], SO, 0);
	}
}

static void
add_realtime_edges(Graph *g, const Lists *lists)
{
	const Txn  *txns = g->h->txns;
	int		   *ended = memory(g->h->count, sizeof(int));
	int		   *strong = memory(g->h->count, sizeof(int));
	int			nended = 0;
	int			nstrong = 0;
	int			next = 0;

	for (int i = 0; i < g->h->count; i++)
	{
		if (txns[i].outcome == OUT_OK)
			ended[nended++] = i;
		if (lists->happened[i] && txns[i].level >= LEVEL_STRONG)
			strong[nstrong++] = i;
	}
	sort_base = txns;
	qsort(ended, nended, sizeof(int), by_end);
	qsort(strong, nstrong, sizeof(int), by_begin);
	for (int i = 0; i < nstrong; i++)
	{
		int			barrier = g->h->count + i;

		for (; next < nended && txns[ended[next]].end_us < txns[strong[i]].begin_us; next++)
			add_edge(g, ended[next], barrier, RT, 0);
		if (i > 0)
			add_edge(g, barrier - 1, barrier, RT, 0);
		add_edge(g, barrier, strong[i], RT, 0);
	}
}

/* ---------- searching ---------- */

/* The doubled vertex that edge e leads to from d, or -1. */
static int
follow(const Graph *g, int d, const Edge *e)
{
	if (!(e->kind & g->mask))
		return -1;
	if (e->kind == RW)
		return d & 1 ? -1 : 2 * e->to + 1;
	return 2 * e->to;
}

/* Tarjan's strongly connected components, without recursion. */
static void
find_components(Graph *g)
{
	int			count = 2 * g->n;
	int		   *stack = memory(count, sizeof(int));
	int		   *path = memory(count, sizeof(int));
	int		   *edge = memory(count, sizeof(int));
	bool	   *on_stack = memory(count, sizeof(bool));
	int			nstack = 0;
	int			npath = 0;
	int			numbers = 0;

	memset(g->number, 0, count * sizeof(int));
	memset(g->component, 0xff, count * sizeof(int));
	g->ncomponents = 0;
	for (int root = 0; root < count; root++)
	{
		if (g->number[root])
			continue;
		path[npath++] = root;
		while (npath > 0)
		{
			int			d = path[npath - 1];
			bool		down = false;

			if (!g->number[d])
			{
				g->number[d] = g->low[d] = ++numbers;
				edge[d] = g->first[d / 2];
				stack[nstack++] = d;
				on_stack[d] = true;
			}
			for (; edge[d] >= 0 && !down; edge[d] = g->edges[edge[d]].next)
			{
				int			to = follow(g, d, &g->edges[edge[d]]);

				if (to < 0)
					continue;
				if (!g->number[to])
				{
					/* comes back to this edge, which is then a lower one */
					path[npath++] = to;
					down = true;
					break;
				}
				if (on_stack[to] && g->low[to] < g->low[d])
					g->low[d] = g->low[to];
			}
			if (down)
				continue;
			npath--;
			if (g->low[d] == g->number[d])
			{
				int			member;

				do
				{
					member = stack[--nstack];
					on_stack[member] = false;
					g->component[member] = g->ncomponents;
				} while (member != d);
				g->ncomponents++;
			}
		}
	}
}

/* The shortest cycle through d inside its component: edges, in order. */
static int
shortest_cycle(const Graph *g, int start, int *cycle, int *from, int *via, int *queue)
{
	int			head = 0;
	int			tail = 0;

	memset(from, 0xff, 2 * g->n * sizeof(int));
	queue[tail++] = start;
	while (head < tail)
	{
		int			d = queue[head++];

		for (int e = g->first[d / 2]; e >= 0; e = g->edges[e].next)
		{
			int			to = follow(g, d, &g->edges[e]);

			if (to < 0 || g->component[to] != g->component[start])
				continue;
			if (to == start)
			{
				int			n = 0;

				cycle[n++] = e;
				for (; d != start; d = from[d])
					cycle[n++] = via[d];
				for (int i = 0; i < n / 2; i++)
				{
					int			swap = cycle[i];

					cycle[i] = cycle[n - 1 - i];
					cycle[n - 1 - i] = swap;
				}
				return n;
			}
			if (from[to] >= 0)
				continue;
			from[to] = d;
			via[to] = e;
			queue[tail++] = to;
		}
	}
	return 0;
}

static void
report(const Graph *g, int start, const int *cycle, int n)
{
	int			kinds = 0;
	int			rw = 0;
	int			vertex = start / 2;
	char		name[64];

	for (int i = 0; i < n; i++)
	{
		kinds |= g->edges[cycle[i]].kind;
		rw += g->edges[cycle[i]].kind == RW;
	}
	snprintf(name, sizeof(name), "%s%s", rw > 1 ? "long-fork" : rw ? "G-single" :
			 kinds & ~WW ? "G1c" : "G0",
			 kinds & RT ? "-realtime" : kinds & SO ? "-session" : "");
	anomaly(name, "a cycle of %d", n);
	for (int i = 0; i < n; i++)
	{
		const Edge *e = &g->edges[cycle[i]];
		char		note[80];

		for (int k = 0; k < 5; k++)
		{
			if (edge_names[k].kind != e->kind)
				continue;
			if (e->kind & (SO | RT))
				snprintf(note, sizeof(note), "%s", edge_names[k].name);
			else
				snprintf(note, sizeof(note), "%s on key %lld", edge_names[k].name,
						 (long long) e->key);
		}
		if (vertex < g->h->count)
			anomaly_line(&g->h->txns[vertex], note);
		vertex = e->to;
	}
}

/* Reports at most one cycle a component. */
static bool
search(Graph *g, int mask)
{
	int			count = 2 * g->n;
	int		   *members;
	bool	   *done;
	int		   *from;
	int		   *via;
	int		   *queue;
	int		   *cycle;
	bool		any = false;

	g->mask = mask;
	find_components(g);
	members = memory(g->ncomponents, sizeof(int));
	done = memory(g->ncomponents, sizeof(bool));
	from = memory(count, sizeof(int));
	via = memory(count, sizeof(int));
	queue = memory(count + 1, sizeof(int));
	cycle = memory(count + 1, sizeof(int));
	for (int d = 0; d < count; d++)
		members[g->component[d]]++;
	for (int d = 0; d < count && anomalies() < 20; d++)
	{
		int			c = g->component[d];
		int			best = 0;
		int			best_start = d;
		int			tried = 0;

		if (members[c] < 2 || done[c])
			continue;
		done[c] = true;
		/* the shortest tells most; some starts will do */
		for (int s = d; s < count && tried < 200; s++)
		{
			int			n;

			if (g->component[s] != c)
				continue;
			tried++;
			n = shortest_cycle(g, s, cycle, from, via, queue);
			if (n > 0 && (best == 0 || n < best))
			{
				best = n;
				best_start = s;
			}
		}
		if (best > 0)
		{
			shortest_cycle(g, best_start, cycle, from, via, queue);
			report(g, best_start, cycle, best);
			any = true;
		}
	}
	return any;
}

void
check_append(const History *h, const CheckOptions *o)
{
	Graph		g = {.h = h};
	Lists	   *lists = lists_build(h);
	int			count = 2 * h->count;

	(void) o;
	g.n = count;				/* at most as many barriers */
	g.first = memory(g.n, sizeof(int));
	memset(g.first, 0xff, g.n * sizeof(int));
	g.number = memory(2 * g.n, sizeof(int));
	g.low = memory(2 * g.n, sizeof(int));
	g.component = memory(2 * g.n, sizeof(int));
	add_key_edges(&g, lists);
	for (int i = 0; i < h->count; i++)
		if (lists->happened[i])
			add_read_edges(&g, lists, i);
	add_session_edges(&g, lists);
	add_realtime_edges(&g, lists);

	/* the plainest first: each of the later ones finds it again */
	(void) (search(&g, WW) || search(&g, WW | WR) || search(&g, WW | WR | RW) ||
			search(&g, WW | WR | SO) || search(&g, WW | WR | RW | SO) ||
			search(&g, WW | WR | RW | SO | RT));
}
