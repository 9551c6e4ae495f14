/*-------------------------------------------------------------------------
 *
 * history.c
 *		Reading histories, and what all checkers use.
 *
 *-------------------------------------------------------------------------
 */
#include "history.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_PRINTED		10		/* anomalies in full */
#define LINE_PRINTED	240		/* bytes of a transaction */

/* ---------- memory ---------- */

typedef struct Block
{
	struct Block *next;
	void	   *pad;			/* keeps data aligned */
	char		data[];
} Block;

static Block *blocks;

void *
memory(size_t count, size_t size)
{
	Block	   *block = calloc(1, sizeof(Block) + (count ? count : 1) * size);

	if (!block)
	{
		fprintf(stderr, "out of memory\n");
		exit(2);
	}
	block->next = blocks;
	blocks = block;
	return block->data;
}

void
memory_release(void)
{
	while (blocks)
	{
		Block	   *next = blocks->next;

		free(blocks);
		blocks = next;
	}
}

/* ---------- anomalies ---------- */

static int	found;

void
anomaly(const char *name, const char *what,...)
{
	va_list		args;

	if (++found > MAX_PRINTED)
		return;
	va_start(args, what);
	printf("ANOMALY %s: ", name);
	vprintf(what, args);
	putchar('\n');
	va_end(args);
}

void
anomaly_line(const Txn *txn, const char *note)
{
	if (found <= MAX_PRINTED)
		printf("    line %d%s%s: %.*s\n", txn->line, *note ? ", " : "", note,
			   LINE_PRINTED, txn->text);
}

int
anomalies(void)
{
	return found;
}

/* ---------- map ---------- */

typedef struct MapSlot
{
	int64_t		a;
	int64_t		b;
	int			value;
	bool		used;
} MapSlot;

struct Map
{
	int			size;			/* a power of two */
	int			used;
	MapSlot    *slots;
};

Map *
map_new(void)
{
	Map		   *map = memory(1, sizeof(Map));

	map->size = 1024;
	map->slots = memory(map->size, sizeof(MapSlot));
	return map;
}

static MapSlot *
map_slot(const Map *map, int64_t a, int64_t b)
{
	uint64_t	hash = ((uint64_t) a * UINT64_C(0x9e3779b97f4a7c15)) ^
		((uint64_t) b * UINT64_C(0xc2b2ae3d27d4eb4f));
	int			i;

	hash ^= hash >> 29;
	hash *= UINT64_C(0xbf58476d1ce4e5b9);
	hash ^= hash >> 32;
	for (i = hash & (map->size - 1); map->slots[i].used; i = (i + 1) & (map->size - 1))
	{
		if (map->slots[i].a == a && map->slots[i].b == b)
			break;
	}
	return &map->slots[i];
}

int *
map_at(Map *map, int64_t a, int64_t b)
{
	MapSlot    *slot = map_slot(map, a, b);

	if (slot->used)
		return &slot->value;
	if (map->used * 2 >= map->size)
	{
		Map			old = *map;

		map->size *= 2;
		map->slots = memory(map->size, sizeof(MapSlot));
		for (int i = 0; i < old.size; i++)
			if (old.slots[i].used)
				*map_slot(map, old.slots[i].a, old.slots[i].b) = old.slots[i];
		slot = map_slot(map, a, b);
	}
	*slot = (MapSlot) {.a = a, .b = b, .value = -1, .used = true};
	map->used++;
	return &slot->value;
}

int
map_get(const Map *map, int64_t a, int64_t b)
{
	MapSlot    *slot = map_slot(map, a, b);

	return slot->used ? slot->value : -1;
}

/* ---------- reading ---------- */

static const char *const outcome_names[] = {"ok", "fail", "info", NULL};
static const char *const level_names[] = {"eventual", "bounded", "ryw", "causal", "strong",
	"final", NULL};
static const char *const isolation_names[] = {"rc", "rr", "ser", NULL};

static const char *file_name;
static int	line_number;

static void __attribute__((noreturn, format(printf, 1, 2)))
bad(const char *what,...)
{
	va_list		args;

	va_start(args, what);
	fprintf(stderr, "%s:%d: ", file_name, line_number);
	vfprintf(stderr, what, args);
	fputc('\n', stderr);
	va_end(args);
	exit(2);
}

static int
name_index(const char *const *names, const char *name)
{
	for (int i = 0; names[i]; i++)
		if (strcmp(names[i], name) == 0)
			return i;
	bad("what is \"%s\"?", name);
}

static int64_t
number(const char **p)
{
	char	   *end;
	int64_t		n;

	if (strncmp(*p, "nil", 3) == 0)
	{
		*p += 3;
		return NIL;
	}
	errno = 0;
	n = strtoll(*p, &end, 10);
	if (end == *p || errno)
		bad("no number: \"%s\"", *p);
	*p = end;
	return n;
}

/* Kinds of operations, and how many values each has. */
static const char op_kinds[] = "rwcaltkKgGpuxhsqonezfjvydb";
static const char op_values[] = "11210211224111211111222122";

static Op
parse_op(const char *word)
{
	Op			op = {.kind = word[0]};
	const char *p = word + 2;
	int			commas = 0;
	const char *known;

	if (!word[0] || !(known = strchr(op_kinds, word[0])) || word[1] != ':')
		bad("no operation: \"%s\"", word);
	op.key = number(&p);
	if (*p++ != ':')
		bad("no operation: \"%s\"", word);
	if (strcmp(p, "?") == 0)
	{
		op.unknown = true;
		return op;
	}
	for (const char *q = p; *q; q++)
		commas += *q == ',' || *q == ':';
	op.values = memory(commas + 1, sizeof(int64_t));
	while (*p)
	{
		op.values[op.count++] = number(&p);
		if (*p && *p != (op.kind == 'l' ? ',' : ':'))
			bad("no operation: \"%s\"", word);
		if (*p && !*++p)
			bad("no operation: \"%s\"", word);
	}
	if (op.kind != 'l' && op.count != op_values[known - op_kinds] - '0')
		bad("%d values instead of %c: \"%s\"", op.count, op_values[known - op_kinds], word);
	return op;
}

static int
node_index(History *h, const char *name)
{
	for (int i = 0; i < h->nnodes; i++)
		if (strcmp(h->nodes[i], name) == 0)
			return i;
	if (h->nnodes >= 64)
		bad("more than 64 nodes");
	h->nodes[h->nnodes] = strcpy(memory(strlen(name) + 1, 1), name);
	return h->nnodes++;
}

static Txn
parse_txn(History *h, char *line)
{
	Txn			t = {.line = line_number};
	char	   *word[7];
	char	   *rest = line;
	const char *p;
	char	   *slash;
	int			ops = 0;

	t.text = strcpy(memory(strlen(line) + 1, 1), line);
	for (int i = 0; i < 7; i++)
	{
		word[i] = strsep(&rest, " ");
		if (!word[i] || !*word[i])
			bad("the line is cut off");
	}
	p = word[0];
	t.process = (int) number(&p);
	p = word[1];
	t.session = (int) number(&p);
	if (*p++ != '.')
		bad("no session: \"%s\"", word[1]);
	t.connection = (int) number(&p);
	t.node = node_index(h, word[2]);
	p = word[3];
	t.begin_us = number(&p);
	p = word[4];
	t.end_us = strcmp(p, "-") == 0 ? NEVER : number(&p);
	t.outcome = name_index(outcome_names, word[5]);
	slash = strchr(word[6], '/');
	if (!slash)
		bad("no isolation: \"%s\"", word[6]);
	*slash = '\0';
	t.level = name_index(level_names, word[6]);
	p = slash + 1;
	slash = strchr(p, '/');
	if (slash)
	{
		if (strcmp(slash, "/all") != 0)
			bad("what is \"%s\"?", slash);
		*slash = '\0';
		t.applied_all = true;
	}
	t.isolation = name_index(isolation_names, p);
	if (t.end_us < t.begin_us)
		bad("it ends before it begins");
	if (t.end_us == NEVER && t.outcome != OUT_INFO)
		bad("never ended, and the outcome is known");

	for (const char *q = rest; q && *q; q++)
		ops += *q == ' ';
	t.ops = memory(ops + 1, sizeof(Op));
	for (char *w; (w = strsep(&rest, " "));)
		if (*w)
			t.ops[t.nops++] = parse_op(w);
	for (int i = 0; i < t.nops; i++)
		if (t.ops[i].unknown && t.outcome == OUT_OK)
			bad("done, and what it read is unknown");
	return t;
}

History *
history_read(const char *path)
{
	History    *h = memory(1, sizeof(History));
	FILE	   *in = fopen(path, "r");
	char	   *line = NULL;
	size_t		size = 0;
	ssize_t		len;
	int			room = 0;

	file_name = path;
	line_number = 0;
	if (!in)
	{
		fprintf(stderr, "%s: %s\n", path, strerror(errno));
		exit(2);
	}
	h->nodes = memory(64, sizeof(char *));
	while ((len = getline(&line, &size, in)) > 0)
	{
		line_number++;
		while (len > 0 && isspace((unsigned char) line[len - 1]))
			line[--len] = '\0';
		if (len == 0 || line[0] == '#')
			continue;
		if (h->count == room)
		{
			Txn		   *old = h->txns;

			room = room ? room * 2 : 1024;
			h->txns = memory(room, sizeof(Txn));
			if (old)
				memcpy(h->txns, old, h->count * sizeof(Txn));
		}
		h->txns[h->count++] = parse_txn(h, line);
	}
	free(line);
	fclose(in);
	return h;
}
