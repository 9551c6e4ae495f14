/*-------------------------------------------------------------------------
 *
 * test_random.c
 *		Random histories: a leader, a follower, an applier, against the naive model.
 *
 * One log. The leader judges random requests, appends, parks, grants, breaks
 * deadlocks, lets things expire. The follower gets the entries, sometimes late,
 * and some of its log is cut off again and written anew, as after an election; the
 * applier gets committed ones and is thrown away now and then, and made again from
 * an image. Leadership moves between the two states. After each step every state
 * is compared with the model at its place in the log; and of the queue
 *	- what was granted could be granted: nothing held, and nobody ahead in a line,
 *	  conflicted (by the model);
 *	- what was left waiting could not be.
 *
 *-------------------------------------------------------------------------
 */
#include "harness.h"

#define STEPS		400
#define MAX_LOG		4000
#define KEYS		5
#define NODES		3

typedef struct World
{
	LogEntry   *log;
	int			n;				/* entries */
	int			committed;
	LkState    *leader;
	LkState    *follower;
	int			follower_n;		/* entries it has, a prefix of log or of `other` */
	LkState    *applier;
	int			applier_n;
	int64_t		now_us;
	uint64_t	counter;
	Model	   *model;
	uint64_t	seed;
	bool		down[NODES + 1];
} World;

static const char *const keys[KEYS] = {"a", "b", "c", "longer key", "e"};

static LkState *
new_state(void)
{
	LkState    *ls = lk_create();

	MUST(ls != NULL, "memory");
	return ls;
}

static void
feed(LkState *ls, const LogEntry *entry, int64_t now_us)
{
	LkStatus	status = lk_append(ls, entry->index, entry->token, 1, entry->payload.data,
								   entry->payload.len, now_us, NULL, NULL);

	MUST(status == LK_OK || status == LK_NO_EFFECT, "status %d", status);
}

/* ---------- the leader ---------- */

static uint64_t
append(World *w, RaftToken token, const void *payload, size_t len)
{
	LogEntry   *entry = &w->log[w->n];

	MUST(w->n < MAX_LOG, "log too long");
	entry->index = w->n == 0 ? 1 : w->log[w->n - 1].index + 1 + rnd(3);
	entry->token = token;
	memcpy(entry->payload.data, payload, len);
	entry->payload.len = len;
	w->n++;
	feed(w->leader, entry, w->now_us);
	return entry->index;
}

typedef struct Line
{
	LkWaiterInfo rows[512];
	char		key_bytes[512][32];
	int			n;
} Line;

static void
add_row(void *arg, const LkWaiterInfo *waiter)
{
	Line	   *line = arg;

	MUST(line->n < 512, "too many waiters");
	line->rows[line->n] = *waiter;
	memcpy(line->key_bytes[line->n], waiter->key, waiter->len);
	line->rows[line->n].key = line->key_bytes[line->n];
	line->n++;
}

/* By the model: could this request be granted, given who waits ahead of it? */
static bool
may_be_granted(World *w, const Line *line, RaftToken token, const uint8_t *payload, size_t len)
{
	LkReader	rd;
	LkItem		item;

	MUST(lk_read_open(&rd, payload, len), "payload");
	if (w->down[token.node])
		return false;
	while (lk_read_item(&rd, &item))
	{
		uint32_t	mine = 0;

		if (!model_fits(w->model, &rd.rec.owner, &item))
			return false;
		for (int i = 0; i < line->n; i++)
			if (raft_token_equal(line->rows[i].request, token) &&
				line->rows[i].len == item.len && memcmp(line->rows[i].key, item.key, item.len) == 0)
				mine = line->rows[i].position;
		MUST(mine > 0, "not in the line of a key");
		for (int i = 0; i < line->n; i++)
		{
			const LkWaiterInfo *other = &line->rows[i];

			if (other->len == item.len && memcmp(other->key, item.key, item.len) == 0 &&
				other->position < mine && !w->down[other->request.node] &&
				model_conflicts(other->mode, item.mode) &&
				!lk_owner_equal(&other->owner, &rd.rec.owner))
				return false;
		}
	}
	return true;
}

typedef struct Parked
{
	RaftToken	token;
	size_t		len;
	uint8_t		payload[8192];
} Parked;

/* All that wait, so that the property can be looked at from outside. */
static Parked *parked[512];
static int	nparked = 0;

static void
forget_parked(Parked *p)
{
	for (int i = 0; i < nparked; i++)
		if (parked[i] == p)
		{
			parked[i] = parked[--nparked];
			break;
		}
	free(p);
}

static void
grant_parked(World *w)
{
	RaftToken	token;
	uint32_t	from;
	int64_t		age_us;

	for (;;)
	{
		Line	   *before = calloc(1, sizeof(Line));
		Parked	   *p;
		size_t		len;
		uint8_t    *final;

		lk_each_waiter(w->leader, add_row, before);
		p = lk_take_grantable(w->leader, w->now_us, &token, &from, &age_us);
		model_replay(w->model, w->log, w->n);
		if (p == NULL)
		{
			for (int i = 0; i < nparked; i++)
				MUST(!may_be_granted(w, before, parked[i]->token, parked[i]->payload,
									 parked[i]->len),
					 "seed %" PRIu64 ": request %" PRIu64 " is left waiting", w->seed,
					 parked[i]->token.counter);
			free(before);
			return;
		}
		MUST(may_be_granted(w, before, token, p->payload, p->len),
			 "seed %" PRIu64 ": request %" PRIu64 " is granted", w->seed, token.counter);
		free(before);
		len = p->len;
		final = lk_final_payload(w->leader, p->payload, &len);
		append(w, token, final ? final : p->payload, final ? len : p->len);
		free(final);
		forget_parked(p);
	}
}

static void
propose(World *w, uint32_t from, const Payload *p)
{
	RaftToken	token = {from, 1, ++w->counter};
	LkVerdict	verdict;

	lk_judge(w->leader, from, p->data, p->len, w->now_us, &verdict);
	if (verdict.judgement == LK_JUDGED_APPEND)
	{
		size_t		len = p->len;
		uint8_t    *final = lk_final_payload(w->leader, p->data, &len);

		append(w, token, final ? final : p->data, final ? len : p->len);
		free(final);
	}
	else if (verdict.judgement == LK_JUDGED_WAIT)
	{
		Parked	   *copy = malloc(sizeof(Parked));

		MUST(nparked < 500, "too many");
		copy->token = token;
		copy->len = p->len;
		memcpy(copy->payload, p->data, p->len);
		parked[nparked++] = copy;
		MUST(lk_wait(w->leader, from, token, p->data, p->len, rnd(3) ? 0 : rnd(5000), w->now_us,
					 copy), "memory");
	}
	grant_parked(w);
}

/* ---------- what may happen ---------- */

static LkOwner
some_owner(void)
{
	uint32_t	node = 1 + rnd(NODES);

	if (rnd(4) == 0)
		return lease_owner((uint8_t) (1 + rnd(3)), node, 1 + rnd(3));
	return session_owner(node, 1 + rnd(2), 1 + rnd(3));
}

static LkItem
some_item(void)
{
	static const LkMode modes[] = {LK_EXCLUSIVE, LK_EXCLUSIVE, LK_SHARED, LK_SHARED, LK_PERMIT};

	return item_of(keys[rnd(KEYS)], modes[rnd(5)]);
}

static void
ask(World *w)
{
	LkItem		items[4];
	LkRecord	rec = {.op = LK_OP_GRANT, .owner = some_owner(), .deadlock_ms = 1,
	.lease_ms = 20 + rnd(20), .max_hold_ms = rnd(5) ? 0 : 5 + rnd(20),
	.flags = rnd(3) ? 0 : LK_TRY};
	Payload		p;

	if (w->down[rec.owner.node] || nparked > 100)
		return;
	rec.nitems = (uint16_t) (rnd(4) ? 1 : 1 + rnd(4));
	for (int i = 0; i < rec.nitems; i++)
		items[i] = some_item();
	make(&p, &rec, items);
	propose(w, rec.owner.node, &p);
}

static void
release(World *w)
{
	Payload		p;
	const ModelGrant *g;
	LkRecord	rec = {.op = LK_OP_RELEASE, .reason = LK_RELEASED, .nitems = 1};
	LkItem		item;

	model_replay(w->model, w->log, w->n);
	if (w->model->ngrants == 0)
		return;
	g = &w->model->grants[rnd((uint32_t) w->model->ngrants)];
	item = item_of(g->key, LK_EXCLUSIVE);
	item.token = rnd(20) ? g->token : g->token + 1;
	item.whole = rnd(2);
	make(&p, &rec, &item);
	propose(w, 1 + rnd(NODES), &p);
}

static void
end_something(World *w)
{
	LkRecord	rec = {0};
	Payload		p;
	uint32_t	node = 1 + rnd(NODES);

	rec.node = node;
	switch (rnd(5))
	{
		case 0:
			rec.op = LK_OP_RELEASE_SESSION;
			rec.boot = 1 + rnd(2);
			rec.session = 1 + rnd(3);
			rec.last_token = rnd(2) ? UINT64_MAX : rnd(1000);
			break;
		case 1:
			if (rnd(10))
				return;
			rec.op = LK_OP_RELEASE_NODE;
			rec.boot = 2;
			break;
		case 2:
			rec.op = LK_OP_LEASE_CLOSE;
			memset(rec.lease, (int) (1 + rnd(3)), LK_UUID_LEN);
			break;
		case 3:
			rec.op = LK_OP_BREAK;
			rec.broken = item_of(keys[rnd(KEYS)], LK_EXCLUSIVE);
			break;
		default:
			make_lease_open(&p, (uint8_t) (1 + rnd(3)), 5 + rnd(40));
			propose(w, node, &p);
			return;
	}
	make(&p, &rec, NULL);
	propose(w, node, &p);
}

static void
withdraw(World *w)
{
	Parked	   *p;

	if (nparked == 0)
		return;
	p = parked[rnd((uint32_t) nparked)];
	MUST(lk_withdraw(w->leader, p->token) == p, "not there");
	forget_parked(p);
	grant_parked(w);
}

static const char *
name_of(void *arg, uint32_t node)
{
	(void) arg;
	(void) node;
	return "n";
}

static void
time_passes(World *w)
{
	uint8_t    *entry;
	size_t		len;
	char		message[200];
	RaftToken	token;
	uint32_t	from;
	Parked	   *p;

	w->now_us += rnd(4000);
	if (rnd(3))
		lk_renew_node(w->leader, 1 + rnd(NODES), 1 + rnd(2), 20, w->now_us);
	while ((entry = lk_expiry(w->leader, w->now_us, &len)) != NULL)
	{
		RaftToken	own = {1, 9, ++w->counter};

		append(w, own, entry, len);
		free(entry);
	}
	while ((p = lk_take_deadlocked(w->leader, w->now_us, name_of, NULL, &token, &from, message,
								   sizeof(message))) != NULL)
	{
		MUST(strlen(message) > 10, "no message");
		forget_parked(p);
	}
	grant_parked(w);
}

static void
connection(World *w)
{
	uint32_t	node = 2 + rnd(NODES - 1);

	w->down[node] = !w->down[node];
	lk_member_up(w->leader, node, !w->down[node]);
	grant_parked(w);
}

static void
commit_some(World *w)
{
	if (w->n == w->committed)
		return;
	w->committed += 1 + (int) rnd((uint32_t) (w->n - w->committed));
	lk_commit(w->leader, w->log[w->committed - 1].index);
	if (w->follower_n >= w->committed)
		lk_commit(w->follower, w->log[w->committed - 1].index);
}

static void
follow(World *w)
{
	int			upto = w->follower_n + (int) rnd((uint32_t) (w->n - w->follower_n) + 1);

	while (w->follower_n < upto)
		feed(w->follower, &w->log[w->follower_n++], w->now_us);
	if (w->committed > 0 && w->follower_n >= w->committed)
		lk_commit(w->follower, w->log[w->committed - 1].index);
}

static void
drop_one(void *arg, void *data)
{
	(void) arg;
	forget_parked(data);
}

/* The follower leads now: the rest of the log never happened. */
static void
elect(World *w)
{
	LkState    *old = w->leader;

	if (w->follower_n < w->committed)
		return;
	lk_follow(old, drop_one, NULL);
	MUST(nparked == 0, "%d parked", nparked);
	if (w->follower_n < w->n)
		lk_truncate(old, w->follower_n > 0 ? w->log[w->follower_n - 1].index + 1 : 1, w->now_us);
	w->n = w->follower_n;
	w->leader = w->follower;
	w->follower = old;
	lk_lead(w->leader, w->now_us);
	memset(w->down, 0, sizeof(w->down));
	model_replay(w->model, w->log, w->n);
	model_compare(w->model, old, "cut off");
}

static void
apply(World *w)
{
	uint64_t	from;

	if (rnd(10) == 0)
	{
		size_t		len;
		uint8_t    *image = lk_dump(w->applier, &len);

		lk_free(w->applier);
		w->applier = new_state();
		MUST(lk_load(w->applier, image, len, w->now_us), "image");
		free(image);
	}
	while (w->applier_n < w->committed && rnd(5))
	{
		feed(w->applier, &w->log[w->applier_n++], 0);

		/* its transaction failed: once more */
		if (rnd(20) == 0)
		{
			from = w->log[--w->applier_n].index;
			lk_truncate(w->applier, from, 0);
		}
		else if (rnd(3) == 0)
			lk_commit(w->applier, w->log[w->applier_n - 1].index);
	}
}

static void
compare_all(World *w)
{
	char		where[64];

	snprintf(where, sizeof(where), "seed %" PRIu64 ", leader", w->seed);
	model_replay(w->model, w->log, w->n);
	model_compare(w->model, w->leader, where);
	snprintf(where, sizeof(where), "seed %" PRIu64 ", follower", w->seed);
	model_replay(w->model, w->log, w->follower_n);
	model_compare(w->model, w->follower, where);
	snprintf(where, sizeof(where), "seed %" PRIu64 ", applier", w->seed);
	model_replay(w->model, w->log, w->applier_n);
	model_compare(w->model, w->applier, where);
}

/* All is released: nothing is left behind. */
static void
wind_up(World *w)
{
	LkCounts	counts;

	lk_follow(w->leader, drop_one, NULL);
	lk_lead(w->leader, w->now_us);
	w->now_us += INT64_C(1000000000);
	for (int i = 0; i < 3; i++)
	{
		uint8_t    *entry;
		size_t		len;

		while ((entry = lk_expiry(w->leader, w->now_us, &len)) != NULL)
		{
			RaftToken	own = {1, 9, ++w->counter};

			append(w, own, entry, len);
			free(entry);
		}
		w->now_us += INT64_C(100000000);
	}
	lk_commit(w->leader, w->log[w->n - 1].index);
	lk_tick(w->leader, w->now_us + INT64_C(1000000000));
	lk_counts(w->leader, &counts);
	MUST(counts.grants == 0 && counts.leases == 0 && counts.keys == 0 && counts.owners == 0 &&
		 counts.nodes == 0 && counts.waiters == 0 && counts.journal == 0,
		 "seed %" PRIu64 ": %u grants, %u leases, %u keys, %u owners are left", w->seed,
		 counts.grants, counts.leases, counts.keys, counts.owners);
}

static void
run(uint64_t seed)
{
	World		w;

	memset(&w, 0, sizeof(w));
	rng_state = seed * UINT64_C(0x2545f4914f6cdd1d) + 1;
	w.seed = seed;
	w.log = calloc(MAX_LOG, sizeof(LogEntry));
	w.model = calloc(1, sizeof(Model));
	w.leader = new_state();
	w.follower = new_state();
	w.applier = new_state();
	w.now_us = 1000000;
	lk_lead(w.leader, w.now_us);
	for (int step = 0; step < STEPS && w.n < MAX_LOG - 1000; step++)
	{
		switch (rnd(16))
		{
			case 0:
			case 1:
			case 2:
			case 3:
			case 4:
				ask(&w);
				break;
			case 5:
			case 6:
			case 7:
				release(&w);
				break;
			case 8:
				end_something(&w);
				break;
			case 9:
				withdraw(&w);
				break;
			case 10:
				time_passes(&w);
				break;
			case 11:
				connection(&w);
				break;
			case 12:
				commit_some(&w);
				break;
			case 13:
				follow(&w);
				break;
			case 14:
				if (rnd(4) == 0)
					elect(&w);
				break;
			case 15:
				apply(&w);
				break;
		}
		w.now_us += rnd(300);
		if (step % 8 == 0)
			compare_all(&w);
	}
	compare_all(&w);
	if (w.n > 0)
		wind_up(&w);
	lk_free(w.leader);
	lk_free(w.follower);
	lk_free(w.applier);
	free(w.log);
	free(w.model);
	MUST(nparked == 0, "%d parked", nparked);
}

void
test_random(uint64_t first_seed, uint64_t seeds)
{
	for (uint64_t seed = first_seed; seed < first_seed + seeds; seed++)
	{
		run(seed);
		passed++;
	}
}
