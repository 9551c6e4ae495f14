/*-------------------------------------------------------------------------
 *
 * client_services.c
 *		The workload election: campaigns, resignations, what is observed of them,
 *		writes of leaders; and latches that are counted down.
 *
 *-------------------------------------------------------------------------
 */
#include "client.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ELECTION		20
#define ELECTIONS		2
#define LATCH			1000
#define LATCH_COUNT		40

static atomic_int counted;		/* latches come one after another */

/* ---------- elections ---------- */

static void
observe(Client *c)
{
	for (int key = ELECTION; key < ELECTION + ELECTIONS; key++)
		if (!run_ok(c, false, "SELECT quorum.election_observe('k%d')", key))
			return;
	c->observing = c->session;
}

/* What was told on this connection since: each a line. */
static void
told(Client *c, char *ops)
{
	PGnotify   *notice;

	while (c->conn && c->observing == c->session && (notice = PQnotifies(c->conn)))
	{
		const char *key = strstr(notice->relname, "_k");
		const char *token = strstr(notice->extra, "\"token\":");

		if (key && token && token[8] != 'n')
		{
			ops[0] = '\0';
			begin_record(c);
			add_op(ops, " y:%d:%lld", atoi(key + 2), atoll(token + 8));
			end_record(c, "rc", ops);
		}
		PQfreemem(notice);
	}
}

static void
campaign(Client *c, char *ops)
{
	int			key = ELECTION + random_below(c, ELECTIONS);
	int			value = new_value();
	int			wait_ms = random_below(c, 2000);
	bool		leased = c->lease.number >= 0;
	PGresult   *res;

	begin_record(c);
	if (leased)
		res = run(c, true, "SELECT quorum.election_campaign('k%d', '%d', '%d ms', '%s')", key, value,
				  wait_ms, c->lease.id);
	else
		res = run(c, true, "SELECT quorum.election_campaign('k%d', '%d', '%d ms')", key, value, wait_ms);
	if (res && PQgetisnull(res, 0, 0))
		c->verdict = V_FAIL;
	if (c->verdict != V_OK)
	{
		add_op(ops, " %c:%d:? w:%d:%d", leased ? 'g' : 'k', key, key, value);
		if (!leased)
			c->asked_key = key;
	}
	else
	{
		Held		held = {key, leased ? 'g' : 'k', atoll(PQgetvalue(res, 0, 0))};

		add_op(ops, " %c:%d:%lld", held.kind, key, (long long) held.token);
		if (leased)
		{
			add_op(ops, ":%d", c->lease.number);
			c->lease.held[c->lease.nheld++] = held;
		}
		else
			c->held[c->nheld++] = held;
		add_op(ops, " w:%d:%d", key, value);
	}
	PQclear(res);
	if (leased && c->verdict != V_OK)
		(void) lease_is_over(c, ops);
	end_record(c, "rc", ops);
}

static void
resign(Client *c, Held *list, int *n, char *ops)
{
	Held		held = list[0];
	PGresult   *res;

	forget_held(list, n, 0);
	c->late = held;
	begin_record(c);
	res = run(c, true, "SELECT quorum.election_resign('k%d', %lld)", held.key, (long long) held.token);
	record_released(c, &held, res, ops);
	if (held.kind == 'g')
		lease_abandon(c);
}

/* A campaign that failed leads nothing. */
static void
not_elected(Client *c, char *ops)
{
	PGresult   *res;

	begin_record(c);
	res = run(c, true, "SELECT quorum.election_resign('k%d')", c->asked_key);
	record_not_held(c, res, ops);
}

static void
look_at_leader(Client *c, char *ops)
{
	int			key = ELECTION + random_below(c, ELECTIONS);
	PGresult   *res;

	begin_record(c);
	res = run(c, false, "SELECT token, value FROM quorum.election_leader('k%d')", key);
	if (!res)
		add_op(ops, " v:%d:?", key);
	else if (PQgetisnull(res, 0, 0))
		add_op(ops, " v:%d:nil:nil", key);
	else
		add_op(ops, " v:%d:%s:%s", key, PQgetvalue(res, 0, 0),
			   PQgetisnull(res, 0, 1) ? "nil" : PQgetvalue(res, 0, 1));
	PQclear(res);
	end_record(c, "rc", ops);
}

/* ---------- latches ---------- */

static void
latch_count(Client *c, char *ops)
{
	int			key = LATCH + atomic_fetch_add(&counted, 1) / (LATCH_COUNT + 4);
	PGresult   *res;

	/* so that it is there, whoever made it; a few count it down once too often */
	begin_record(c);
	if (!run_ok(c, false, "SELECT quorum.latch_create('l%lld.%d', %d)", (long long) setup.started_us,
				key, LATCH_COUNT))
		return;
	begin_record(c);
	res = run(c, true, "SELECT quorum.latch_count_down('l%lld.%d')", (long long) setup.started_us, key);
	add_op(ops, " d:%d:%d:%s", key, LATCH_COUNT, res ? PQgetvalue(res, 0, 0) : "nil");
	PQclear(res);
	end_record(c, "rc", ops);
}

/* Is it open? It may be one that nobody has made yet, or that is not known here. */
static void
latch_look(Client *c, char *ops)
{
	int			key = LATCH + atomic_load(&counted) / (LATCH_COUNT + 4);
	PGresult   *res;

	if (key > LATCH && random_below(c, 2))
		key--;
	begin_record(c);
	res = run(c, false, "SELECT quorum.latch_await(name, '%d ms') FROM quorum.latches WHERE name = 'l%lld.%d'",
			  random_below(c, 100), (long long) setup.started_us, key);
	if (res && PQntuples(res) == 1 && strcmp(PQgetvalue(res, 0, 0), "t") == 0)
		add_op(ops, " b:%d:%d:0", key, LATCH_COUNT);
	else
		c->verdict = V_FAIL;
	PQclear(res);
	if (c->verdict == V_OK)
		end_record(c, "rc", ops);
}

/* ---------- the workload ---------- */

void
election_step(Client *c, char *ops)
{
	int			dice = random_below(c, 100);
	Lease	   *lease = &c->lease;
	bool		leads = c->nheld > 0 || lease->nheld > 0;
	const Held *held = c->nheld > 0 ? &c->held[0] : &lease->held[0];

	if (c->observing != c->session)
	{
		begin_record(c);
		observe(c);
		return;
	}
	if (c->late.token && random_below(c, 8) == 0)
	{
		guarded_write(c, &c->late, ops);
		c->late.token = 0;
	}
	else if (c->asked_key >= 0 && random_below(c, 2) && !leads)
		not_elected(c, ops);
	else if (dice < 20)
		latch_count(c, ops);
	else if (dice < 25)
		latch_look(c, ops);
	else if (dice < 45)
		look_at_leader(c, ops);
	else if (lease->number >= 0 && dice < 60)
		lease_renew(c, ops);
	else if (leads)
	{
		usleep(random_below(c, 20000));
		if (dice < 48 && c->nheld > 0)
			disconnect(c);
		else if (dice < 75)
			guarded_write(c, held, ops);
		else if (c->nheld > 0)
			resign(c, c->held, &c->nheld, ops);
		else
			resign(c, lease->held, &lease->nheld, ops);
	}
	else if (c->id % 2 && lease->number < 0)
		(void) lease_open(c, 500 + random_below(c, 2000), ops);
	else
		campaign(c, ops);
	told(c, ops);
}

void
election_final(Client *c, char *ops)
{
	locks_final(c, ops);
	for (int key = LATCH; key <= LATCH + atomic_load(&counted) / (LATCH_COUNT + 4) &&
		 c->verdict == V_OK; key++)
	{
		PGresult   *res;

		ops[0] = '\0';
		begin_record(c);
		res = run(c, false, "SELECT remaining FROM quorum.latches WHERE name = 'l%lld.%d'",
				  (long long) setup.started_us, key);
		if (!res)
			return;
		if (PQntuples(res) == 1)
		{
			add_op(ops, " b:%d:%d:%s", key, LATCH_COUNT, PQgetvalue(res, 0, 0));
			end_record(c, "rr", ops);
		}
		PQclear(res);
	}
}
