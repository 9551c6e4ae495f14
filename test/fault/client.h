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
	int			locks;
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
	int			held;			/* key of the lock that it holds, or -1 */
	int64_t		held_token;
	int64_t		last_value;		/* of a register, and its key */
	int			last_key;
} Client;

extern int64_t now_us(void);
extern uint64_t next_random(Client *c);
extern int	random_below(Client *c, int below);

/* ---------- recording (client.c) ---------- */

/* The next connection: of this session, elsewhere, or of a new one. */
extern void move(Client *c);

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

/* ---------- workloads (client_work.c) ---------- */

typedef struct Workload
{
	const char *name;
	void		(*step) (Client *c, char *ops);
	void		(*final) (Client *c, char *ops);
} Workload;

extern const Workload *find_workload(const char *name);

#endif							/* TEST_FAULT_CLIENT_H */
