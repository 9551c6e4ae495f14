/*-------------------------------------------------------------------------
 *
 * client.h
 *		Clients that work on all nodes and record what they saw (history.h).
 *
 * One thread a client. A client owns a session: a connection to one node, and
 * the level its reads have. A session under read_your_writes or causal moves to
 * other nodes at times and takes its token with it; any other one ends with its
 * connection.
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEST_FAULT_CLIENT_H
#define TEST_FAULT_CLIENT_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include <libpq-fe.h>

#define MAX_NODES		16
#define MAX_CLIENTS		128
#define MAX_LEVELS		8
#define LINE_SIZE		(256 * 1024)

/* What a client is told: setup, in short, for all of them. */
typedef struct Setup
{
	const char *workload;
	int			nnodes;
	const char *names[MAX_NODES];
	const char *conninfo[MAX_NODES];
	int			nlevels;
	const char *levels[MAX_LEVELS]; /* of a history: eventual, bounded, ... */
	int			clients;
	int			pause_us;		/* longest one between two transactions */
	bool		applied_all;	/* some sessions write with it */
	bool		lie;			/* all reads are eventual, whatever they are called */
	int			accounts;		/* of the bank */
	int64_t		started_us;		/* makes names of this run only */
	int			out;
} Setup;

extern Setup setup;
extern atomic_bool stopping;

typedef enum Verdict
{
	V_OK,
	V_FAIL,						/* it has no effect */
	V_INFO						/* nobody knows */
} Verdict;

#define MAX_HELD	4

/* A grant that a client goes by. */
typedef struct Held
{
	int			key;
	char		kind;			/* of the operation: k K g G p */
	int64_t		token;			/* 0: none */
} Held;

typedef struct Lease
{
	int			number;			/* in the history, or -1 */
	char		id[40];
	int			nheld;
	Held		held[MAX_HELD];
} Lease;

typedef struct Client
{
	int			id;
	int			process;
	uint64_t	random;
	PGconn	   *conn;
	int			node;
	int			session;
	int			connection;
	const char *level;
	char		token[512];		/* quorum.causal_token; "" */
	bool		applied_all;	/* so writes this session */
	bool		warned;			/* since the transaction began */
	int64_t		begin_us;		/* of the transaction under way */
	Verdict		verdict;
	char		state[6];		/* SQLSTATE of what went wrong */
	int			nheld;			/* locks that the session has, as far as it knows */
	Held		held[MAX_HELD];
	Held		late;			/* one that it had: its token is not good for anything */
	Lease		lease;			/* outlives sessions */
	int			asked_key;		/* an acquisition that failed; or -1 */
	bool		asked_shared;
	int			observing;		/* the connection on which it listens, or -1 */
	int64_t		last_value;		/* of a register, and its key */
	int			last_key;
} Client;

extern int64_t now_us(void);
extern uint64_t next_random(Client *c);
extern int	random_below(Client *c, int below);

/* ---------- recording (client.c) ---------- */

/* The next connection: of this session, elsewhere, or of a new one. */
extern void move(Client *c);

/* To any node, on a new connection of a new session. */
extern void hop(Client *c);

/* A transaction begins now. */
extern void begin_record(Client *c);

/* It came to c->verdict; ops is what the line says it did. */
extern void end_record(Client *c, const char *isolation, const char *ops);

/* ---------- SQL (client_sql.c) ---------- */

/* Has a connection that is in no transaction, or false after a short wait. */
extern bool connected(Client *c);
extern void disconnect(Client *c);

/*
 * One statement; commits: if it takes effect, it also commits. The result, or
 * NULL after which c->verdict says what the transaction came to.
 */
extern PGresult *run(Client *c, bool commits, const char *format, ...)
			__attribute__((format(printf, 3, 4)));

/* The same when there is nothing to look at. */
extern bool run_ok(Client *c, bool commits, const char *format, ...)
			__attribute__((format(printf, 3, 4)));

/*
 * The transaction's COMMIT was not answered (V_INFO): asks the nodes, one after
 * another, what came of it, and corrects c->verdict where one knows.
 */
extern void resolve(Client *c, const char *transaction_token);

/* Reports of each SQLSTATE how often it came. */
extern void print_states(void);

/* ---------- workloads (client_work.c, client_locks.c, client_services.c) ---------- */

extern int	new_value(void);
extern void add_op(char *ops, const char *format,...) __attribute__((format(printf, 2, 3)));

/* An array as PostgreSQL prints it, added without its braces. */
extern void add_list(char *ops, int key, const char *array);

/* The key of a lock, an election or a semaphore as SQL; in one of some buffers. */
extern const char *key_sql(int key);

extern void lock_step(Client *c, char *ops);
extern void lease_step(Client *c, char *ops);
extern void locks_final(Client *c, char *ops);
extern void election_step(Client *c, char *ops);
extern void election_final(Client *c, char *ops);

/* What several of them do with a grant. */
extern void guarded_write(Client *c, const Held *held, char *ops);
extern void row_with_token(Client *c, const Held *held, char *ops);
extern void forget_held(Held *list, int *n, int at);

/* The answer to a release: of this grant, or of a key that is not held. Ends the record. */
extern void record_released(Client *c, const Held *held, PGresult *res, char *ops);
extern void record_not_held(Client *c, PGresult *res, char *ops);
extern bool lease_open(Client *c, int ttl_ms, char *ops);
extern void lease_renew(Client *c, char *ops);
extern void lease_abandon(Client *c);
extern bool lease_is_over(Client *c, char *ops);

typedef struct Workload
{
	const char *name;
	void		(*step) (Client *c, char *ops);
	void		(*final) (Client *c, char *ops);
} Workload;

extern const Workload *find_workload(const char *name);

#endif							/* TEST_FAULT_CLIENT_H */
