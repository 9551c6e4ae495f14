/*-------------------------------------------------------------------------
 *
 * history.h
 *		What clients saw: one transaction a line, for every checker.
 *
 * A history is text. Lines that begin with # are comments, empty lines nothing.
 *
 *		process session.connection node begin end outcome level/isolation[/all] op...
 *
 *	process		one after another: its next transaction begins after the last
 *				one's end, unless that never ended
 *	session		transactions whose guarantees belong together; connection
 *				counts those that carried it, from 0. A session moves to another
 *				connection (and node) only by its token
 *	node		name of the server asked
 *	begin, end	microseconds on one monotonic clock; end - when there was none
 *	outcome		ok: it happened; fail: it did not; info: nobody knows
 *	level		eventual, bounded, ryw, causal, strong; final: a read after
 *				everything was healed and settled
 *	isolation	rc, rr, ser
 *	all			acknowledged as applied by every member (applied_all), none of which
 *				forgot it since
 *
 * Operations, in the order they were made. An element or value is written once
 * to a key in the whole history; what a read that failed would have seen is ?.
 *
 *		r:KEY:VALUE		read of a register; VALUE may be nil
 *		w:KEY:VALUE		write of one
 *		c:KEY:OLD:NEW	compare and set that took place
 *		a:KEY:ELEMENT	append to a list, or add to a set
 *		l:KEY:E,E,...	read of a list, a set, or all balances of a bank
 *		t:FROM:TO:SUM	transfer
 *		k:KEY:TOKEN		exclusive lock acquired; K: shared
 *		g:KEY:TOKEN:LEASE	the same under a lease; G: shared
 *		p:KEY:TOKEN:LEASE:PERMITS:SIZE	permits of a semaphore
 *		u:KEY:TOKEN		released: ok when the server said that it was held
 *		x:KEY:TOKEN		the same, and the server said that it was not held
 *		h:KEY:TOKEN		the server said that it is held
 *		s:KEY:TOKEN:US	the server said that it is safe for so long, from the begin on
 *		q:KEY:HELD		released after an acquisition that failed: was it held?
 *		o:LEASE:US		a lease is opened with that time to live
 *		n:LEASE:US		renewed: good for so long, from the begin on
 *		e:LEASE:0		closed
 *		z:LEASE:0		the server said that there is no such lease
 *		f:KEY:TOKEN:E	appended to a list, guarded by the fence of TOKEN
 *		j:KEY:TOKEN:E	inserted into a table with a fence
 *		v:KEY:TOKEN:VALUE	the leader of an election as seen; nil: none
 *		y:KEY:TOKEN		a notification of a leader
 *		d:KEY:COUNT:LEFT	a latch, made with COUNT, was counted down by one
 *		b:KEY:COUNT:LEFT	it was looked at
 *
 *-------------------------------------------------------------------------
 */
#ifndef TEST_FAULT_HISTORY_H
#define TEST_FAULT_HISTORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NIL			INT64_MIN
#define NEVER		INT64_MAX	/* the end of a transaction that had none */

typedef enum Outcome
{
	OUT_OK,
	OUT_FAIL,
	OUT_INFO
} Outcome;

typedef enum Level
{
	LEVEL_EVENTUAL,
	LEVEL_BOUNDED,
	LEVEL_RYW,
	LEVEL_CAUSAL,
	LEVEL_STRONG,
	LEVEL_FINAL
} Level;

typedef enum Isolation
{
	ISO_RC,
	ISO_RR,
	ISO_SER
} Isolation;

typedef struct Op
{
	char		kind;
	bool		unknown;		/* ? */
	int			count;			/* of values */
	int64_t		key;
	int64_t    *values;
} Op;

typedef struct Txn
{
	int			line;			/* in the file, from 1 */
	int			process;
	int			session;
	int			connection;
	int			node;			/* index in History.nodes */
	int64_t		begin_us;
	int64_t		end_us;
	Outcome		outcome;
	Level		level;
	Isolation	isolation;
	bool		applied_all;
	int			nops;
	Op		   *ops;
	const char *text;
} Txn;

typedef struct History
{
	int			count;
	Txn		   *txns;			/* in the order of the file */
	int			nnodes;
	const char **nodes;
} History;

/* Exits with a message on what cannot be read or makes no sense. */
extern History *history_read(const char *path);

/* Zeroed memory that lives until memory_release(). */
extern void *memory(size_t count, size_t size);
extern void memory_release(void);

/* ---------- what a checker says ---------- */

/* One anomaly: its name, what it is, and the transactions that show it. */
extern void anomaly(const char *name, const char *what, ...) __attribute__((format(printf, 2, 3)));
extern void anomaly_line(const Txn *txn, const char *note);
extern int	anomalies(void);

/* ---------- a map from (key, value) to a number ---------- */

typedef struct Map Map;

extern Map *map_new(void);

/* The slot of (a, b); made with -1 where it does not exist. */
extern int *map_at(Map *map, int64_t a, int64_t b);

/* What is there, or -1. */
extern int	map_get(const Map *map, int64_t a, int64_t b);

/* ---------- lists: the order of each key's elements ---------- */

typedef struct Element
{
	int64_t		value;
	int			txn;			/* who appended it */
	int			place;			/* in the key's order, or -1: nobody read it */
	bool		last;			/* the last one that its transaction gave the key */
} Element;

typedef struct Key
{
	int64_t		key;
	int			nelements;		/* appended by anybody, whatever came of it */
	Element    *elements;
	int			norder;
	int		   *order;			/* elements by place */
} Key;

typedef struct Lists
{
	const History *history;
	Map		   *keys_by_name;
	Map		   *elements;		/* (key, value) -> index in Key.elements */
	int			nkeys;
	Key		   *keys;
	bool	   *happened;		/* of each transaction: ok, or seen by others */
} Lists;

/*
 * Works out each key's order from what was read, and reports everything wrong
 * with single keys on the way: reads that do not fit together, elements from
 * nowhere, doubled ones, of failed transactions (G1a), of the middle of a
 * transaction (G1b), and acknowledged ones that a final read does not have.
 */
extern Lists *lists_build(const History *h);
extern Key *lists_key(const Lists *lists, int64_t key);

/*
 * How many elements of the key's order a read saw before the transaction's own
 * ones, or -1 when the read does not count.
 */
extern int	lists_seen(const Lists *lists, int txn, int op);

/* ---------- the checkers ---------- */

typedef struct CheckOptions
{
	int64_t		staleness_us;	/* bound of bounded reads */
	int64_t		total;			/* of a bank; NIL: that of the first read */
} CheckOptions;

extern void check_register(const History *h, const CheckOptions *o);
extern void check_append(const History *h, const CheckOptions *o);
extern void check_session(const History *h, const CheckOptions *o);
extern void check_staleness(const History *h, const CheckOptions *o);
extern void check_bank(const History *h, const CheckOptions *o);
extern void check_set(const History *h, const CheckOptions *o);
extern void check_pair(const History *h, const CheckOptions *o);
extern void check_lock(const History *h, const CheckOptions *o);
extern void check_election(const History *h, const CheckOptions *o);
extern void check_latch(const History *h, const CheckOptions *o);

#endif							/* TEST_FAULT_HISTORY_H */
