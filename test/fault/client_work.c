/*-------------------------------------------------------------------------
 *
 * client_work.c
 *		The workloads: what one transaction does, and how all is read in the end.
 *
 * Keys come in slots. A slot's key is replaced by a new one after some writes,
 * so that lists stay short and the search for an order of a register small.
 * Values are numbered through, so that each is written once.
 *
 * A step fills in what the history says about it: the operations with their
 * results if it went well, with ? in place of results if it did not.
 *
 *-------------------------------------------------------------------------
 */
#include "client.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SLOTS			5
#define LIST_LENGTH		60		/* writes to a key before the next one */
#define SET_SIZE		150
#define REGISTER_WRITES 40
#define BALANCE			100		/* of an account at first: FaultRun.pm */
#define MAX_OPS			4

static atomic_int writes[SLOTS];
static atomic_int last_value;

/* The key of a slot now; write: there will be one more. */
static int
slot_key(int slot, int per_key, bool write)
{
	int			n = write ? atomic_fetch_add(&writes[slot], 1) : atomic_load(&writes[slot]);

	return slot + SLOTS * (n / per_key);
}

static int
keys_used(int per_key)
{
	int			most = 0;

	for (int slot = 0; slot < SLOTS; slot++)
		if (slot_key(slot, per_key, false) > most)
			most = slot_key(slot, per_key, false);
	return most + 1;
}

int
new_value(void)
{
	return atomic_fetch_add(&last_value, 1) + 1;
}

void
add_op(char *ops, const char *format,...)
{
	va_list		args;

	ops += strlen(ops);
	va_start(args, format);
	vsprintf(ops, format, args);
	va_end(args);
}

/* An array as PostgreSQL prints it, added without its braces. */
void
add_list(char *ops, int key, const char *array)
{
	size_t		len = array ? strlen(array) : 0;

	add_op(ops, " l:%d:%.*s", key, len > 2 ? (int) len - 2 : 0, len > 2 ? array + 1 : "");
}

/* ---------- append ---------- */

typedef struct ListOp
{
	bool		append;
	bool		lock;			/* a read FOR UPDATE */
	int			key;
	int			element;
} ListOp;

static bool
do_list_op(Client *c, const ListOp *op, bool commits, char *ops, bool *missing)
{
	PGresult   *res;

	if (op->append)
	{
		add_op(ops, " a:%d:%d", op->key, op->element);
		return run_ok(c, commits, "INSERT INTO fault_list VALUES (%d, ARRAY[%d]) "
					  "ON CONFLICT (k) DO UPDATE SET v = fault_list.v || EXCLUDED.v",
					  op->key, op->element);
	}
	res = run(c, false, "SELECT v FROM fault_list WHERE k = %d%s", op->key,
			  op->lock ? " FOR UPDATE" : "");
	if (!res)
		return false;
	*missing = PQntuples(res) == 0;
	add_list(ops, op->key, *missing ? NULL : PQgetvalue(res, 0, 0));
	PQclear(res);
	return true;
}

static void
list_failed(const ListOp *list, int n, char *ops)
{
	ops[0] = '\0';
	for (int i = 0; i < n; i++)
	{
		if (list[i].append)
			add_op(ops, " a:%d:%d", list[i].key, list[i].element);
		else
			add_op(ops, " l:%d:?", list[i].key);
	}
}

/* Several keys in one statement: one snapshot, whatever the isolation is. */
static void
list_read_many(Client *c, char *ops)
{
	char		keys[MAX_OPS * 12] = "";
	int			key[SLOTS];
	int			n = 2 + random_below(c, MAX_OPS - 1);
	int			first = random_below(c, SLOTS);
	PGresult   *res;

	for (int i = 0; i < n; i++)
	{
		key[i] = slot_key((first + i) % SLOTS, LIST_LENGTH, false);
		add_op(keys, "%s%d", i ? "," : "", key[i]);
	}
	begin_record(c);
	res = run(c, false, "SELECT k, v FROM fault_list WHERE k IN (%s)", keys);
	for (int i = 0; i < n; i++)
	{
		const char *value = NULL;

		for (int row = 0; res && row < PQntuples(res); row++)
			if (atoi(PQgetvalue(res, row, 0)) == key[i])
				value = PQgetvalue(res, row, 1);
		if (res)
			add_list(ops, key[i], value);
		else
			add_op(ops, " l:%d:?", key[i]);
	}
	PQclear(res);
	end_record(c, "rr", ops);
}

/*
 * Read committed, yet no update is lost: the row is locked where it is read.
 * Repeatable read is what the history may claim of it.
 */
static void
list_locked(Client *c, char *ops)
{
	ListOp		list[2] = {{.lock = true}, {.append = true}};
	bool		missing = false;

	list[0].key = list[1].key = slot_key(random_below(c, SLOTS), LIST_LENGTH, true);
	list[1].element = new_value();
	begin_record(c);
	if (!(run_ok(c, false, "BEGIN") &&
		  do_list_op(c, &list[0], false, ops, &missing) &&
		  do_list_op(c, &list[1], false, ops, &missing) &&
		  run_ok(c, true, "COMMIT")))
		list_failed(list, 2, ops);
	end_record(c, missing ? "rc" : "rr", ops);
}

static bool
get_token(Client *c, char *token, size_t size)
{
	PGresult   *res = run(c, false, "SELECT quorum.transaction_token()");

	if (res && !PQgetisnull(res, 0, 0))
		snprintf(token, size, "%s", PQgetvalue(res, 0, 0));
	PQclear(res);
	return res != NULL;
}

/*
 * The same key again and again until the outcome is known: it happens once, or
 * not at all. Told as one transaction, from the first attempt to the last.
 */
static void
append_once(Client *c, char *ops)
{
	int			key = slot_key(random_below(c, SLOTS), LIST_LENGTH, true);
	int			element = new_value();
	bool		unknown = false;
	int64_t		begin_us;
	Verdict		verdict;

	add_op(ops, " a:%d:%d", key, element);
	begin_record(c);
	begin_us = c->begin_us;
	for (int attempt = 0; attempt < 100; attempt++)
	{
		if (attempt > 0 && !connected(c))
		{
			move(c);
			continue;
		}
		c->verdict = V_OK;
		(void) (run_ok(c, false, "SET quorum.idempotency_key = 'once-%lld-%d'",
					   (long long) begin_us, element) &&
				run_ok(c, true, "INSERT INTO fault_list VALUES (%d, ARRAY[%d]) "
					   "ON CONFLICT (k) DO UPDATE SET v = fault_list.v || EXCLUDED.v",
					   key, element));
		unknown |= c->verdict == V_INFO;
		if (c->verdict == V_OK || (c->verdict == V_FAIL && !unknown))
			break;
		c->verdict = V_INFO;
		if (c->conn && PQtransactionStatus(c->conn) != PQTRANS_IDLE)
			disconnect(c);
		usleep(10000);
	}
	c->begin_us = begin_us;
	/* a repetition did not wait for anybody's application */
	c->warned |= unknown;
	verdict = c->verdict;
	if (c->conn && !run_ok(c, false, "RESET quorum.idempotency_key"))
		disconnect(c);
	/* that it could not be reset says nothing about what was done */
	c->verdict = verdict;
	end_record(c, "rc", ops);
}

static void
append_step(Client *c, char *ops)
{
	ListOp		list[MAX_OPS];
	int			n = random_below(c, 2) ? 1 : 2 + random_below(c, MAX_OPS - 1);
	bool		repeatable = random_below(c, 3) > 0;
	int			shape = random_below(c, 10);
	char		token[80] = "";
	bool		missing;
	bool		good = true;

	if (shape < 2)
	{
		list_read_many(c, ops);
		return;
	}
	if (shape == 2)
	{
		if (random_below(c, 2))
			list_locked(c, ops);
		else
			append_once(c, ops);
		return;
	}
	for (int i = 0; i < n; i++)
	{
		list[i].append = random_below(c, 2);
		list[i].lock = false;
		list[i].key = slot_key(random_below(c, SLOTS), LIST_LENGTH, list[i].append);
		list[i].element = list[i].append ? new_value() : 0;
	}
	begin_record(c);
	if (n == 1)
		good = do_list_op(c, &list[0], true, ops, &missing);
	else
	{
		good = run_ok(c, false, repeatable ? "BEGIN ISOLATION LEVEL REPEATABLE READ" : "BEGIN");
		for (int i = 0; good && i < n; i++)
			good = do_list_op(c, &list[i], false, ops, &missing);
		if (good && random_below(c, 2))
			good = get_token(c, token, sizeof(token));
		good = good && run_ok(c, true, "COMMIT");
		if (!good && c->verdict == V_INFO)
		{
			resolve(c, token);
			good = c->verdict == V_OK;
		}
	}
	if (!good)
		list_failed(list, n, ops);
	end_record(c, repeatable && n > 1 ? "rr" : "rc", ops);
}

static void
lists_final(Client *c, char *ops, const char *sql, int keys)
{
	PGresult   *res;
	int			row = 0;

	begin_record(c);
	res = run(c, false, "%s", sql);
	for (int key = 0; res && key < keys; key++)
	{
		const char *value = NULL;

		if (row < PQntuples(res) && atoi(PQgetvalue(res, row, 0)) == key)
			value = PQgetvalue(res, row++, 1);
		add_list(ops + strlen(ops), key, value);
	}
	if (res && row < PQntuples(res))
		fprintf(stderr, "client: more keys than were written\n");
	PQclear(res);
	end_record(c, "rr", ops);
}

static void
append_final(Client *c, char *ops)
{
	lists_final(c, ops, "SELECT k, v FROM fault_list ORDER BY k", keys_used(LIST_LENGTH));
}

/* ---------- register ---------- */

static void
register_step(Client *c, char *ops)
{
	int			dice = random_below(c, 10);
	int			key = slot_key(random_below(c, SLOTS), REGISTER_WRITES, dice >= 5);
	int			value = dice >= 5 ? new_value() : 0;
	PGresult   *res;

	begin_record(c);
	if (dice < 5)
	{
		res = run(c, false, "SELECT v FROM fault_register WHERE k = %d", key);
		if (!res)
			add_op(ops, " r:%d:?", key);
		else if (PQntuples(res) == 0)
			add_op(ops, " r:%d:nil", key);
		else
		{
			c->last_key = key;
			c->last_value = atoi(PQgetvalue(res, 0, 0));
			add_op(ops, " r:%d:%lld", key, (long long) c->last_value);
		}
		PQclear(res);
	}
	else if (dice < 8 || c->last_key < 0)
	{
		add_op(ops, " w:%d:%d", key, value);
		run_ok(c, true, "INSERT INTO fault_register VALUES (%d, %d) "
			   "ON CONFLICT (k) DO UPDATE SET v = EXCLUDED.v", key, value);
	}
	else
	{
		add_op(ops, " c:%d:%lld:%d", c->last_key, (long long) c->last_value, value);
		res = run(c, true, "UPDATE fault_register SET v = %d WHERE k = %d AND v = %lld", value,
				  c->last_key, (long long) c->last_value);
		if (res && strcmp(PQcmdTuples(res), "0") == 0)
			c->verdict = V_FAIL;	/* another value was there */
		PQclear(res);
		c->last_key = -1;
	}
	end_record(c, "rc", ops);
}

static void
register_final(Client *c, char *ops)
{
	PGresult   *res;

	begin_record(c);
	res = run(c, false, "SELECT k, v FROM fault_register ORDER BY k");
	for (int row = 0; res && row < PQntuples(res); row++)
		add_op(ops + strlen(ops), " r:%s:%s", PQgetvalue(res, row, 0), PQgetvalue(res, row, 1));
	PQclear(res);
	end_record(c, "rr", ops);
}

/* ---------- set ---------- */

static void
set_step(Client *c, char *ops)
{
	bool		add = random_below(c, 10) < 6;
	int			key = slot_key(0, SET_SIZE, add);
	int			value = add ? new_value() : 0;
	PGresult   *res;

	begin_record(c);
	if (add)
	{
		add_op(ops, " a:%d:%d", key, value);
		if (random_below(c, 3))
			run_ok(c, true, "INSERT INTO fault_set VALUES (%d, %d)", key, value);
		else
			(void) (run_ok(c, false, "BEGIN") &&
					run_ok(c, false, "INSERT INTO fault_set VALUES (%d, %d)", key, value) &&
					run_ok(c, true, "COMMIT"));
	}
	else
	{
		/* the one before is still of interest: its last elements */
		if (key >= SLOTS && random_below(c, 4) == 0)
			key -= SLOTS;
		res = run(c, false, "SELECT array_agg(e) FROM fault_set WHERE k = %d", key);
		if (res)
			add_list(ops, key, PQgetvalue(res, 0, 0));
		else
			add_op(ops, " l:%d:?", key);
		PQclear(res);
	}
	end_record(c, "rc", ops);
}

/* A line a set. */
static void
set_final(Client *c, char *ops)
{
	for (int key = 0; key < keys_used(SET_SIZE) && c->verdict == V_OK; key += SLOTS)
	{
		PGresult   *res;

		ops[0] = '\0';
		begin_record(c);
		res = run(c, false, "SELECT array_agg(e) FROM fault_set WHERE k = %d", key);
		if (res)
			add_list(ops, key, PQgetvalue(res, 0, 0));
		PQclear(res);
		if (res)
			end_record(c, "rr", ops);
	}
}

/* ---------- bank ---------- */

static void
bank_read(Client *c, char *ops)
{
	PGresult   *res;
	int			n = 0;

	add_op(ops, " l:0:");
	begin_record(c);
	if (random_below(c, 2))
	{
		res = run(c, false, "SELECT balance FROM fault_bank ORDER BY id");
		for (n = 0; res && n < PQntuples(res); n++)
			add_op(ops, "%s%s", n ? "," : "", PQgetvalue(res, n, 0));
		PQclear(res);
	}
	else if (run_ok(c, false, "BEGIN ISOLATION LEVEL REPEATABLE READ"))
	{
		for (; n < setup.accounts; n++)
		{
			res = run(c, false, "SELECT balance FROM fault_bank WHERE id = %d", n);
			if (!res)
				break;
			add_op(ops, "%s%s", n ? "," : "", PQgetvalue(res, 0, 0));
			PQclear(res);
		}
		if (n == setup.accounts)
			run_ok(c, true, "COMMIT");
	}
	if (c->verdict != V_OK)
		strcpy(ops, " l:0:?");
	end_record(c, "rr", ops);
}

static bool
bank_pay(Client *c, int from, int to, int sum)
{
	PGresult   *res = run(c, false, "UPDATE fault_bank SET balance = balance - %d "
						  "WHERE id = %d AND balance >= %d", sum, from, sum);
	bool		enough = res && strcmp(PQcmdTuples(res), "1") == 0;

	PQclear(res);
	if (!res)
		return false;
	if (!enough)
	{
		run_ok(c, false, "ROLLBACK");
		c->verdict = V_FAIL;
		return false;
	}
	return run_ok(c, false, "UPDATE fault_bank SET balance = balance + %d WHERE id = %d", sum, to) &&
		run_ok(c, true, "COMMIT");
}

/* The balances are looked at first, and set to what was worked out. */
static bool
bank_pay_worked_out(Client *c, int from, int to, int sum)
{
	int			balance[2];

	for (int i = 0; i < 2; i++)
	{
		PGresult   *res = run(c, false, "SELECT balance FROM fault_bank WHERE id = %d", i ? to : from);

		if (!res)
			return false;
		balance[i] = atoi(PQgetvalue(res, 0, 0));
		PQclear(res);
	}
	if (balance[0] < sum)
	{
		run_ok(c, false, "ROLLBACK");
		c->verdict = V_FAIL;
		return false;
	}
	return run_ok(c, false, "UPDATE fault_bank SET balance = %d WHERE id = %d", balance[0] - sum, from) &&
		run_ok(c, false, "UPDATE fault_bank SET balance = %d WHERE id = %d", balance[1] + sum, to) &&
		run_ok(c, true, "COMMIT");
}

static void
bank_step(Client *c, char *ops)
{
	int			from = random_below(c, setup.accounts);
	int			to = (from + 1 + random_below(c, setup.accounts - 1)) % setup.accounts;
	int			sum = 1 + random_below(c, BALANCE / 4);
	int			way = random_below(c, 3);
	bool		ordered = way == 0;

	if (random_below(c, 3) == 0)
	{
		bank_read(c, ops);
		return;
	}
	/* the same order for all where rows stay locked */
	if (ordered && from > to)
	{
		int			swap = from;

		from = to;
		to = swap;
	}
	add_op(ops, " t:%d:%d:%d", from, to, sum);
	begin_record(c);
	if (way == 0)
		(void) (run_ok(c, false, "BEGIN") && bank_pay(c, from, to, sum));
	else if (way == 1)
		(void) (run_ok(c, false, "BEGIN ISOLATION LEVEL REPEATABLE READ") &&
				bank_pay_worked_out(c, from, to, sum));
	else
		run_ok(c, true, "UPDATE fault_bank SET balance = balance + CASE id WHEN %d THEN %d ELSE %d END "
			   "WHERE id IN (%d, %d)", to, sum, -sum, from, to);
	end_record(c, way == 1 ? "rr" : "rc", ops);
}

static void
bank_final(Client *c, char *ops)
{
	bank_read(c, ops);
}

/* ---------- pair ---------- */

#define PAIRS		3

static const char *const pair_lock[] = {"UPDATE", "NO KEY UPDATE", "SHARE"};

/*
 * Both halves are locked and looked at, and one of them is lowered when their
 * sum allows it: two who each lower another half saw what the other one changed.
 */
static bool
pair_take(Client *c, int pair, int half, int sum)
{
	PGresult   *res = run(c, false, "SELECT balance FROM fault_pair WHERE pair = %d "
						  "ORDER BY half FOR %s", pair, pair_lock[random_below(c, 3)]);
	int			both;

	if (!res)
		return false;
	both = atoi(PQgetvalue(res, 0, 0)) + atoi(PQgetvalue(res, 1, 0));
	PQclear(res);
	if (both < sum)
		sum = both - 150;		/* there is to be something to be taken from */
	usleep(random_below(c, 3000));
	return run_ok(c, false, "UPDATE fault_pair SET balance = balance - %d "
				  "WHERE pair = %d AND half = %d", sum, pair, half) &&
		run_ok(c, true, "COMMIT");
}

static void
pair_read(Client *c, int pair, char *ops)
{
	PGresult   *res;

	begin_record(c);
	res = run(c, false, "SELECT array_agg(balance) FROM fault_pair WHERE pair = %d", pair);
	if (res)
		add_list(ops, pair, PQgetvalue(res, 0, 0));
	else
		add_op(ops, " l:%d:?", pair);
	PQclear(res);
	end_record(c, "rr", ops);
}

static void
pair_step(Client *c, char *ops)
{
	int			pair = random_below(c, PAIRS);
	int			half = random_below(c, 2);
	int			sum = 60 + random_below(c, 60);
	bool		repeatable = random_below(c, 2);

	if (random_below(c, 4) == 0)
	{
		pair_read(c, pair, ops);
		return;
	}
	add_op(ops, " t:%d:%d:%d", pair, half, sum);
	begin_record(c);
	(void) (run_ok(c, false, repeatable ? "BEGIN ISOLATION LEVEL REPEATABLE READ" : "BEGIN") &&
			pair_take(c, pair, half, sum));
	end_record(c, repeatable ? "rr" : "rc", ops);
}

static void
pair_final(Client *c, char *ops)
{
	c->verdict = V_OK;
	for (int pair = 0; pair < PAIRS && c->verdict == V_OK; pair++)
	{
		ops[0] = '\0';
		pair_read(c, pair, ops);
	}
}

static const Workload workloads[] = {
	{"append", append_step, append_final},
	{"register", register_step, register_final},
	{"set", set_step, set_final},
	{"bank", bank_step, bank_final},
	{"pair", pair_step, pair_final},
	{"lock", lock_step, locks_final},
	{"lease", lease_step, locks_final},
	{"election", election_step, election_final},
};

const Workload *
find_workload(const char *name)
{
	for (size_t i = 0; i < sizeof(workloads) / sizeof(workloads[0]); i++)
		if (strcmp(workloads[i].name, name) == 0)
			return &workloads[i];
	return NULL;
}
