/*-------------------------------------------------------------------------
 *
 * client_locks.c
 *		The workloads lock (of sessions) and lease (from any connection), and what
 *		is guarded by tokens in both.
 *
 * Keys: 0 to 2 are numbers, 3 to 5 text, from SEMAPHORE on semaphores, from
 * ELECTION on elections.
 *
 * A lock guards a row that its holder reads, and later writes as a whole: an
 * update is lost unless one holder sees what the one before it wrote and no late
 * one gets through. A table with a fence takes rows that carry tokens, old ones at
 * times.
 *
 *-------------------------------------------------------------------------
 */
#include "client.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NUMBERS			3
#define TEXTS			3
#define SEMAPHORE		10
#define SEMAPHORES		2
#define PERMITS			3		/* of each semaphore */
#define ELECTION		20

const char *
key_sql(int key)
{
	static _Thread_local char buffers[4][32];
	static _Thread_local int next;
	char	   *buffer = buffers[next++ % 4];

	snprintf(buffer, sizeof(buffers[0]), key < NUMBERS ? "%d::bigint" : "'k%d'", key);
	return buffer;
}

void
forget_held(Held *list, int *n, int at)
{
	memmove(&list[at], &list[at + 1], sizeof(Held) * (*n - at - 1));
	(*n)--;
}

static bool
holds_key(const Held *list, int n, int key)
{
	for (int i = 0; i < n; i++)
		if (list[i].key == key)
			return true;
	return false;
}

/* ---------- what a token guards ---------- */

static int
length_of_guarded(Client *c, int key)
{
	PGresult   *res = run(c, false, "SELECT cardinality(v) FROM fault_guarded WHERE k = %d", key);
	int			length = 0;

	if (!res)
		return -1;
	if (PQntuples(res) == 1)
		length = atoi(PQgetvalue(res, 0, 0));
	PQclear(res);
	return length;
}

/*
 * What was read before, and one element more, replace the row. Where others hold
 * the lock as well, it is added to what is there.
 */
void
guarded_write(Client *c, const Held *held, char *ops)
{
	int			value = new_value();
	bool		alone = held->kind == 'k' || held->kind == 'g';
	bool		handed_on = held->kind == 'g' || held->key >= ELECTION;
	int			length = 0;
	char		start[40] = "fault_guarded.v";

	add_op(ops, " f:%d:%lld:%d", held->key, (long long) held->token, value);
	begin_record(c);
	/* the session that has acquired the lock may rely on what it reads */
	if (alone && !handed_on)
	{
		length = length_of_guarded(c, held->key);
		usleep(random_below(c, 4000));
	}
	if (length >= 0 && run_ok(c, false, "BEGIN") &&
		run_ok(c, false, "SELECT quorum.%scheck_fence(%s, %lld)",
			   held->key >= ELECTION ? "election_" : "", key_sql(held->key), (long long) held->token))
	{
		/* others know that once the token has been looked at */
		if (alone && handed_on)
			length = length_of_guarded(c, held->key);
		if (alone)
			snprintf(start, sizeof(start), "fault_guarded.v[1:%d]", length);
		if (length >= 0 &&
			run_ok(c, false, "INSERT INTO fault_guarded VALUES (%d, ARRAY[%d]) "
				   "ON CONFLICT (k) DO UPDATE SET v = %s || EXCLUDED.v", held->key, value, start))
			run_ok(c, true, "COMMIT");
	}
	end_record(c, "rc", ops);
}

void
row_with_token(Client *c, const Held *held, char *ops)
{
	int			value = new_value();

	add_op(ops, " j:%d:%lld:%d", held->key, (long long) held->token, value);
	begin_record(c);
	run_ok(c, true, "INSERT INTO fault_job VALUES (%d, 'r%d', %lld)", value, held->key,
		   (long long) held->token);
	end_record(c, "rc", ops);
}

/* Work that comes too late: refused if anybody had the lock since. */
static void
late_work(Client *c, char *ops)
{
	if (random_below(c, 2))
		guarded_write(c, &c->late, ops);
	else
		row_with_token(c, &c->late, ops);
	if (random_below(c, 3) == 0)
		c->late.token = 0;
}

/* ---------- locks of sessions ---------- */

static void
note_held(Client *c, int key, char kind, int64_t token)
{
	c->held[c->nheld++] = (Held)
	{
		key, kind, token
	};
}

static void
acquire(Client *c, char *ops)
{
	int			key = random_below(c, NUMBERS + TEXTS);
	bool		shared = random_below(c, 4) == 0;
	PGresult   *res;

	/* a second one, at times: two who do that in turn wait for each other */
	if (holds_key(c->held, c->nheld, key))
		return;
	begin_record(c);
	if (random_below(c, 2))
		res = run(c, true, "SELECT quorum.advisory_lock%s(%s)", shared ? "_shared" : "", key_sql(key));
	else
		res = run(c, true, "SELECT quorum.try_advisory_lock%s(%s, '%d ms')", shared ? "_shared" : "",
				  key_sql(key), random_below(c, 1500));
	if (res && PQgetisnull(res, 0, 0))
		c->verdict = V_FAIL;
	if (c->verdict == V_OK)
	{
		note_held(c, key, shared ? 'K' : 'k', atoll(PQgetvalue(res, 0, 0)));
		add_op(ops, " %c:%d:%s", shared ? 'K' : 'k', key, PQgetvalue(res, 0, 0));
	}
	else
	{
		add_op(ops, " %c:%d:?", shared ? 'K' : 'k', key);
		c->asked_key = key;
		c->asked_shared = shared;
	}
	PQclear(res);
	end_record(c, "rc", ops);
}

/* Two or three at once, or none of them. */
static void
acquire_many(Client *c, char *ops)
{
	int			n = 2 + random_below(c, TEXTS - 1);
	int			first = random_below(c, TEXTS);
	char		keys[TEXTS * 8] = "";
	int			at = 0;
	int64_t		tokens[TEXTS];
	PGresult   *res;

	for (int i = 0; i < n; i++)
		at += snprintf(keys + at, sizeof(keys) - at, "%sk%d", i ? "," : "",
					   NUMBERS + (first + i) % TEXTS);
	begin_record(c);
	res = run(c, true, "SELECT unnest(quorum.advisory_lock_many('{%s}'))", keys);
	for (int i = 0; i < n; i++)
	{
		int			key = NUMBERS + (first + i) % TEXTS;

		if (!res)
		{
			add_op(ops, " k:%d:?", key);
			continue;
		}
		tokens[i] = atoll(PQgetvalue(res, i, 0));
		add_op(ops, " k:%d:%lld", key, (long long) tokens[i]);
		note_held(c, key, 'k', tokens[i]);
	}
	if (!res)
	{
		c->asked_key = NUMBERS + first;
		c->asked_shared = false;
	}
	PQclear(res);
	end_record(c, "rc", ops);
}

void
record_released(Client *c, const Held *held, PGresult *res, char *ops)
{
	add_op(ops, " %c:%d:%lld", res && strcmp(PQgetvalue(res, 0, 0), "f") == 0 ? 'x' : 'u',
		   held->key, (long long) held->token);
	PQclear(res);
	end_record(c, "rc", ops);
}

void
record_not_held(Client *c, PGresult *res, char *ops)
{
	add_op(ops, " q:%d:%s", c->asked_key, res ? strcmp(PQgetvalue(res, 0, 0), "t") == 0 ? "1" : "0" : "?");
	PQclear(res);
	c->asked_key = -1;
	end_record(c, "rc", ops);
}

/* An acquisition that failed has left nothing behind. */
static void
not_acquired(Client *c, char *ops)
{
	PGresult   *res;

	begin_record(c);
	res = run(c, true, "SELECT quorum.advisory_unlock%s(%s)", c->asked_shared ? "_shared" : "",
			  key_sql(c->asked_key));
	record_not_held(c, res, ops);
}

static void
release(Client *c, int at, char *ops)
{
	Held		held = c->held[at];
	PGresult   *res;

	forget_held(c->held, &c->nheld, at);
	c->late = held;
	begin_record(c);
	res = run(c, true, "SELECT quorum.advisory_unlock_token(%s, %lld)", key_sql(held.key),
			  (long long) held.token);
	record_released(c, &held, res, ops);
}

/* For how long is this certain? */
static void
safe_time(Client *c, char *ops)
{
	PGresult   *res;

	begin_record(c);
	res = run(c, false, "SELECT (extract(epoch FROM quorum.lock_safe_time()) * 1e6)::bigint");
	if (res && PQgetisnull(res, 0, 0))
		c->verdict = V_FAIL;	/* the server knows of no lock of its sessions */
	for (int i = 0; i < c->nheld; i++)
		add_op(ops, " s:%d:%lld:%s", c->held[i].key, (long long) c->held[i].token,
			   c->verdict == V_OK ? PQgetvalue(res, 0, 0) : "0");
	PQclear(res);
	end_record(c, "rc", ops);
}

/* Counted: the same token means that it is held still. */
static void
acquire_again(Client *c, int at, char *ops)
{
	Held		held = c->held[at];
	const char *shared = held.kind == 'K' ? "_shared" : "";
	PGresult   *res;

	begin_record(c);
	res = run(c, true, "SELECT quorum.advisory_lock%s(%s), quorum.advisory_unlock%s(%s)",
			  shared, key_sql(held.key), shared, key_sql(held.key));
	if (res && atoll(PQgetvalue(res, 0, 0)) == held.token)
		add_op(ops, " h:%d:%lld", held.key, (long long) held.token);
	else
	{
		add_op(ops, res ? " x:%d:%lld" : " h:%d:%lld", held.key, (long long) held.token);
		if (res)
			forget_held(c->held, &c->nheld, at);
	}
	PQclear(res);
	end_record(c, "rc", ops);
}

void
lock_step(Client *c, char *ops)
{
	int			dice = random_below(c, 100);
	int			at;

	if (c->late.token && random_below(c, 6) == 0)
		late_work(c, ops);
	else if (c->asked_key >= 0 && random_below(c, 2) && !holds_key(c->held, c->nheld, c->asked_key))
		not_acquired(c, ops);
	else if (c->nheld == 0 && random_below(c, 6) == 0)
		acquire_many(c, ops);
	else if (c->nheld == 0 || (c->nheld < 2 && dice < 3))
		acquire(c, ops);
	else
	{
		usleep(random_below(c, 30000));
		at = random_below(c, c->nheld);
		/* now and then a session ends with what it holds */
		if (dice < 10)
		{
			c->late = c->held[at];
			disconnect(c);
		}
		else if (dice < 40)
			guarded_write(c, &c->held[at], ops);
		else if (dice < 50)
			row_with_token(c, &c->held[at], ops);
		else if (dice < 58)
			safe_time(c, ops);
		else if (dice < 64)
			acquire_again(c, at, ops);
		else
			release(c, at, ops);
	}
}

/* ---------- leases ---------- */

bool
lease_open(Client *c, int ttl_ms, char *ops)
{
	static atomic_int leases;
	int			number = atomic_fetch_add(&leases, 1);
	PGresult   *res;
	bool		good;

	begin_record(c);
	res = run(c, true, "SELECT quorum.lease_open('%d ms', 'client %d')", ttl_ms, c->id);
	good = res != NULL;
	add_op(ops, good ? " o:%d:%d" : " o:%d:?", number, ttl_ms * 1000);
	if (res)
	{
		snprintf(c->lease.id, sizeof(c->lease.id), "%s", PQgetvalue(res, 0, 0));
		c->lease.number = number;
		c->lease.nheld = 0;
	}
	PQclear(res);
	end_record(c, "rc", ops);
	return good;
}

/* What may have been given back or not makes the lease useless. */
void
lease_abandon(Client *c)
{
	if (c->verdict == V_OK)
		return;
	c->lease.number = -1;
	c->lease.nheld = 0;
}

/*
 * The statement under the lease failed: since there is no such lease any more? What
 * nobody knows the outcome of ends its use, too.
 */
bool
lease_is_over(Client *c, char *ops)
{
	bool		over = c->verdict == V_FAIL && strcmp(c->state, "22023") == 0;

	if (!over && c->verdict != V_INFO)
		return false;
	if (over)
	{
		ops[0] = '\0';
		add_op(ops, " z:%d:0", c->lease.number);
		c->verdict = V_OK;
	}
	if (c->lease.nheld > 0)
		c->late = c->lease.held[0];
	c->lease.number = -1;
	c->lease.nheld = 0;
	return over;
}

void
lease_renew(Client *c, char *ops)
{
	PGresult   *res;

	begin_record(c);
	res = run(c, false, "SELECT (extract(epoch FROM quorum.lease_renew('%s')) * 1e6)::bigint", c->lease.id);
	add_op(ops, " n:%d:%s", c->lease.number, res ? PQgetvalue(res, 0, 0) : "?");
	PQclear(res);
	(void) lease_is_over(c, ops);
	end_record(c, "rc", ops);
}

static void
lease_close(Client *c, char *ops)
{
	PGresult   *res;

	begin_record(c);
	res = run(c, true, "SELECT quorum.lease_close('%s')", c->lease.id);
	add_op(ops, res && strcmp(PQgetvalue(res, 0, 0), "f") == 0 ? " z:%d:0" : " e:%d:0", c->lease.number);
	PQclear(res);
	if (c->lease.nheld > 0)
		c->late = c->lease.held[0];
	c->lease.number = -1;
	c->lease.nheld = 0;
	end_record(c, "rc", ops);
}

static void
lease_acquire(Client *c, char *ops)
{
	bool		permits = random_below(c, 3) == 0;
	int			key = permits ? SEMAPHORE + random_below(c, SEMAPHORES) : random_below(c, NUMBERS + TEXTS);
	int			weight = 1 + random_below(c, 2);
	bool		shared = random_below(c, 4) == 0;
	char		kind = permits ? 'p' : shared ? 'G' : 'g';
	int			wait_ms = random_below(c, 800);
	PGresult   *res;

	if (holds_key(c->lease.held, c->lease.nheld, key))
		return;
	begin_record(c);
	if (permits)
		res = run(c, true, "SELECT quorum.semaphore_acquire('s%d', %d, '%s', %d, '%d ms')", key, PERMITS,
				  c->lease.id, weight, wait_ms);
	else
		res = run(c, true, "SELECT quorum.try_advisory_lock%s(%s, '%d ms', '%s')", shared ? "_shared" : "",
				  key_sql(key), wait_ms, c->lease.id);
	if (res && PQgetisnull(res, 0, 0))
		c->verdict = V_FAIL;
	if (c->verdict == V_OK)
	{
		add_op(ops, " %c:%d:%s:%d", kind, key, PQgetvalue(res, 0, 0), c->lease.number);
		if (permits)
			add_op(ops, ":%d:%d", weight, PERMITS);
		c->lease.held[c->lease.nheld++] = (Held)
		{
			key, kind, atoll(PQgetvalue(res, 0, 0))
		};
	}
	else
		add_op(ops, " %c:%d:?", kind, key);
	PQclear(res);
	if (c->verdict != V_OK)
		(void) lease_is_over(c, ops);
	end_record(c, "rc", ops);
}

static void
lease_release(Client *c, int at, char *ops)
{
	Held		held = c->lease.held[at];
	PGresult   *res;

	forget_held(c->lease.held, &c->lease.nheld, at);
	if (held.kind != 'p')
		c->late = held;
	begin_record(c);
	if (held.kind == 'p')
		res = run(c, true, "SELECT quorum.semaphore_release('s%d', %lld)", held.key, (long long) held.token);
	else
		res = run(c, true, "SELECT quorum.advisory_unlock_token(%s, %lld)", key_sql(held.key),
				  (long long) held.token);
	record_released(c, &held, res, ops);
	lease_abandon(c);
}

void
lease_step(Client *c, char *ops)
{
	int			dice = random_below(c, 100);
	int			at;

	/* a pooler gives another connection at any time */
	if (random_below(c, 4) == 0)
	{
		hop(c);
		c->verdict = V_OK;
		return;
	}
	if (c->late.token && random_below(c, 8) == 0)
	{
		late_work(c, ops);
		return;
	}
	if (c->lease.number < 0)
	{
		(void) lease_open(c, 400 + random_below(c, 2600), ops);
		return;
	}
	at = c->lease.nheld > 0 ? random_below(c, c->lease.nheld) : 0;
	if (dice < 25)
		lease_renew(c, ops);
	else if (dice < 28)
		lease_close(c, ops);
	else if (dice < 29)
		usleep(random_below(c, 4000000));	/* a holder that stands still */
	else if (c->lease.nheld == 0 || (c->lease.nheld < MAX_HELD && dice < 50))
		lease_acquire(c, ops);
	else if (c->lease.held[at].kind == 'p' || dice >= 75)
		lease_release(c, at, ops);
	else if (dice < 68)
		guarded_write(c, &c->lease.held[at], ops);
	else
		row_with_token(c, &c->lease.held[at], ops);
}

/* ---------- in the end ---------- */

void
locks_final(Client *c, char *ops)
{
	c->verdict = V_OK;
	for (int key = 0; key < ELECTION + 4 && c->verdict == V_OK; key++)
	{
		PGresult   *res;

		ops[0] = '\0';
		begin_record(c);
		res = run(c, false, "SELECT coalesce((SELECT v FROM fault_guarded WHERE k = %d), '{}')", key);
		if (!res)
			return;
		add_list(ops, key, PQgetvalue(res, 0, 0));
		PQclear(res);
		end_record(c, "rr", ops);
	}
}
