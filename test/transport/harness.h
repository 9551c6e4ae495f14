/*-------------------------------------------------------------------------
 *
 * harness.h
 *		Several transports on one loop over 127.0.0.1, and what they did.
 *
 * Nothing sleeps: WAIT_FOR runs the loop until a condition holds, for ten
 * seconds at most.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGQ_TP_HARNESS_H
#define PGQ_TP_HARNESS_H

#include <stdio.h>
#include <string.h>
#include <uv.h>

#include "transport/transport.h"

#define SECRET_A "correct horse battery staple"
#define SECRET_B "correct horse battery stapler"

typedef struct Received
{
	uint32_t	from;
	uint8_t		type;
	TpLane		lane;
	size_t		len;
	uint32_t	sum;			/* of the bytes */
	uint64_t	first;			/* the first eight bytes */
} Received;

/* One member and everything that its callbacks saw. */
typedef struct Node
{
	Transport  *tp;
	bool		closed;
	TpIdentity	id;
	TpListenStatus listen_status;
	char		listen_error[512];
	int			port;

	int			ups;
	int			downs;			/* of connections that were established */
	int			failures;		/* of attempts */
	int			refusals;
	int			writables;
	TpRefusal	refusal;
	char		refusal_detail[TP_TEXT_LEN];
	char		down_why[TP_TEXT_LEN];

	Received   *received;
	int			nreceived;
	int			size_received;
	bool		echo;			/* send urgent messages of type 1 back as type 2 */
	bool		steal;

	/* sees every message first, and may do to the transport what it likes */
	void		(*hook) (struct Node *node, uint32_t from, TpMessage *msg);
	bool		closing;

	/* policy of accept_peer */
	TpRefusal	answer;
	uint8_t		expect_instance;	/* 0: any */
	int			asked;

	/* requests */
	uint64_t	request_id;
	int			requests;
	size_t		request_len;
	bool		reply_at_once;

	int			nlog;
	char		log[64][512];
} Node;

extern uv_loop_t *loop;

/* Every node_new() comes with a certificate of its own. */
extern bool harness_tls;
extern int	passed;
extern int	failed;

extern void check_at(bool ok, const char *file, int line, const char *what);
extern void begin(const char *name);

#define CHECK(condition) check_at((condition), __FILE__, __LINE__, #condition)

extern void wait_begin(void);
extern bool wait_more(void);

#define WAIT_FOR(condition) \
	do { \
		wait_begin(); \
		while (!(condition) && wait_more()) \
			; \
		CHECK(condition); \
	} while (0)

/* A configuration with short times. */
extern TpConfig quick_config(void);

/* Member `id` of cluster `cluster`, not listening yet. secret may be NULL. */
extern Node *node_new(uint32_t id, uint8_t cluster, const char *secret,
					  const TpConfig *config);
extern void node_listen(Node *node, const char *address);

/* node_new and listening on 127.0.0.1, any port. */
extern Node *node_start(uint32_t id, uint8_t cluster, const char *secret);
extern const char *node_address(const Node *node);

/* a and b know each other. */
extern void node_know(Node *a, Node *b);
extern bool node_linked(const Node *a, const Node *b);
extern void node_stop(Node *node);

/* The first half of node_stop, good inside callbacks too. */
extern void node_close(Node *node);
extern bool node_logged(const Node *node, const char *text);
extern TpSendResult node_send(Node *from, const Node *to, uint8_t type, TpLane lane,
							  const void *data, size_t len);
extern TpPeerStats node_stats(const Node *node, const Node *peer);

extern uint32_t sum_of(const uint8_t *bytes, size_t len);

/* ---------- a client that speaks bytes ---------- */

typedef struct Raw
{
	int			fd;
	uint8_t		got[65536];
	size_t		ngot;
	bool		eof;			/* or reset */
} Raw;

extern Raw *raw_connect(const Node *node);

/* A server of that kind: listen, then poll for the next connection. */
extern int	raw_listen(int *port);
extern Raw *raw_accept(int listener);
extern void raw_send(Raw *raw, const void *bytes, size_t len);
extern void raw_poll(Raw *raw);
extern void raw_close(Raw *raw);

/* the test files */
extern void test_units(void);
extern void test_messages(void);
extern void test_connections(void);
extern void test_security(void);
extern void test_hostile(void);
extern void test_requests(void);
extern void test_churn(void);
extern void test_tls(void);

#endif							/* PGQ_TP_HARNESS_H */
