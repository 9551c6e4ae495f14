/*-------------------------------------------------------------------------
 *
 * test_connections.c
 *		Connections that come, go, come back, or are not welcome.
 *
 *-------------------------------------------------------------------------
 */
#include "harness.h"

#include <stdlib.h>

static Node *
restart_on(uint32_t id, int port, uint8_t instance)
{
	Node	   *node = node_new(id, 1, NULL, NULL);
	char		address[64];

	if (instance != 0)
	{
		memset(node->id.instance_id, instance, TP_ID_LEN);
		tp_set_identity(node->tp, &node->id);
	}
	snprintf(address, sizeof(address), "127.0.0.1:%d", port);
	node_listen(node, address);
	CHECK(node->listen_status == TP_LISTEN_OK);
	return node;
}

static void
test_reconnect(void)
{
	Node	   *a = node_start(1, 1, NULL);
	Node	   *b = node_start(2, 1, NULL);
	int			port = b->port;

	begin("connections: a peer that dies is reported at once and comes back");
	node_know(a, b);
	WAIT_FOR(node_linked(a, b));
	CHECK(a->ups == 1 && b->ups == 1);
	CHECK(node_logged(a, "connected to member 2 \"node2\""));
	node_stop(b);
	WAIT_FOR(a->downs == 1);
	WAIT_FOR(a->failures >= 3); /* it keeps trying */
	CHECK(a->downs == 1);		/* two connections dropped, one report */
	CHECK(node_logged(a, "lost the connection with member 2"));
	CHECK(node_logged(a, "connection refused"));

	b = restart_on(2, port, 0);
	CHECK(tp_peer_add(b->tp, 1, node_address(a)));
	WAIT_FOR(node_linked(a, b));
	CHECK(a->ups == 2 && node_stats(a, b).connects == 2);
	CHECK(node_send(a, b, 1, TP_BULK, "again", 5) == TP_SEND_OK);
	WAIT_FOR(b->nreceived == 1);
	node_stop(a);
	node_stop(b);
}

static void
test_dialled_when_it_returns(void)
{
	TpConfig	config = quick_config();
	Node	   *a;
	Node	   *b = node_start(2, 1, NULL);
	int			port = b->port;
	uint64_t	before;

	begin("connections: a returning peer is dialled without waiting out the back-off");
	config.backoff_min_ms = 60000;
	config.backoff_max_ms = 60000;
	a = node_new(1, 1, NULL, &config);
	node_listen(a, "127.0.0.1:0");
	node_know(a, b);
	WAIT_FOR(node_linked(a, b));
	node_stop(b);
	WAIT_FOR(a->downs == 1);
	b = restart_on(2, port, 0);
	before = uv_hrtime();
	CHECK(tp_peer_add(b->tp, 1, node_address(a)));
	WAIT_FOR(node_linked(a, b));
	CHECK(uv_hrtime() - before < 5000000000u);
	node_stop(a);
	node_stop(b);
}

static void
test_simultaneous(void)
{
	Node	   *nodes[5];
	bool		all = true;

	begin("connections: five members that all dial each other at once");
	for (int i = 0; i < 5; i++)
		nodes[i] = node_start((uint32_t) i + 1, 1, SECRET_A);
	for (int i = 0; i < 5; i++)
		for (int j = 0; j < i; j++)
			node_know(nodes[i], nodes[j]);
	for (int i = 0; i < 5; i++)
		for (int j = 0; j < i; j++)
			WAIT_FOR(node_linked(nodes[i], nodes[j]));
	for (int i = 0; i < 5; i++)
		all = all && nodes[i]->ups == 4 && nodes[i]->downs == 0 && nodes[i]->failures == 0;
	CHECK(all);
	for (int i = 0; i < 5; i++)
		node_stop(nodes[i]);
}

static void
test_half_open(void)
{
	Node	   *a = node_start(1, 1, NULL);
	Node	   *b = node_start(2, 1, NULL);
	Node	   *copy = node_start(2, 1, NULL);

	begin("connections: a new run of a peer makes the connection to the old one stale");
	node_know(a, b);
	WAIT_FOR(node_linked(a, b));
	CHECK(tp_peer_add(copy->tp, 1, node_address(a)));
	WAIT_FOR(a->downs == 1);
	CHECK(strcmp(a->down_why, "the member was restarted") == 0);

	begin("connections: two that run as one member are noticed");
	WAIT_FOR(node_logged(a, "two servers are running as member 2"));
	node_stop(copy);
	WAIT_FOR(node_linked(a, b));
	node_stop(a);
	node_stop(b);
}

static void
test_late_goodbye(void)
{
	Node	   *a = node_start(1, 1, NULL);
	Node	   *old = node_start(2, 1, NULL);
	Node	   *new = node_start(2, 1, NULL);

	begin("connections: the last of an old run goes unreported once the new one is up");
	CHECK(tp_peer_add(new->tp, 1, "127.0.0.1:1"));	/* expects a, finds nobody */
	CHECK(tp_peer_add(a->tp, 2, node_address(new)));
	WAIT_FOR(a->ups == 1);
	CHECK(tp_peer_add(old->tp, 1, node_address(a)));
	WAIT_FOR(a->downs == 1 && a->ups == 2 && node_stats(a, new).incoming);
	node_stop(old);
	WAIT_FOR(!node_stats(a, new).incoming);
	CHECK(a->downs == 1 && node_stats(a, new).state == TP_PEER_UP);
	node_stop(a);
	node_stop(new);
}

static void
test_new_instance(void)
{
	Node	   *a = node_start(1, 1, NULL);
	Node	   *b = node_start(2, 1, NULL);
	int			port = b->port;

	begin("connections: a member that returns with another data directory is refused");
	a->expect_instance = b->id.instance_id[0];
	node_know(a, b);
	WAIT_FOR(node_linked(a, b));
	node_stop(b);
	b = restart_on(2, port, 0x77);
	CHECK(tp_peer_add(b->tp, 1, node_address(a)));
	WAIT_FOR(b->refusals > 0 && a->refusals > 0);
	CHECK(b->refusal == TP_REFUSED_INSTANCE && a->refusal == TP_REFUSED_INSTANCE);
	CHECK(node_logged(a, "this member id belongs to another data directory"));
	CHECK(node_logged(b, "this member id belongs to another data directory"));
	CHECK(node_stats(a, b).state != TP_PEER_UP && node_stats(b, a).state != TP_PEER_UP);
	CHECK(node_send(a, b, 1, TP_BULK, "x", 1) == TP_SEND_DOWN);

	/* The right one is taken again. */
	node_stop(b);
	b = restart_on(2, port, 0);
	CHECK(tp_peer_add(b->tp, 1, node_address(a)));
	WAIT_FOR(node_linked(a, b));
	node_stop(a);
	node_stop(b);
}

static void
test_refusals(void)
{
	Node	   *a = node_start(1, 1, NULL);
	Node	   *b = node_start(2, 2, NULL);
	Node	   *c = node_start(3, 1, NULL);
	Node	   *d = node_start(1, 1, NULL);
	char		address[64];

	begin("connections: wrong cluster");
	node_know(a, b);
	WAIT_FOR(a->refusals > 0 && b->refusals > 0);
	CHECK(a->refusal == TP_REFUSED_CLUSTER && b->refusal == TP_REFUSED_CLUSTER);
	CHECK(node_logged(a, "different clusters") && node_logged(b, "different clusters"));
	CHECK(node_stats(a, b).state == TP_PEER_REFUSED);
	CHECK(strstr(node_stats(a, b).last_error, "different clusters") != NULL);
	CHECK(a->asked == 0);		/* not even asked */

	begin("connections: not in the member table");
	CHECK(tp_peer_add(c->tp, 1, node_address(a)));
	WAIT_FOR(c->refusals > 0);
	CHECK(c->refusal == TP_REFUSED_UNKNOWN_MEMBER);
	CHECK(node_logged(a, "which says it is member 3 \"node3\": not a member"));

	begin("connections: the caller's own decision, with its words in both logs");
	a->answer = TP_REFUSED_NAME;
	WAIT_FOR(c->refusal == TP_REFUSED_NAME);
	CHECK(strcmp(c->refusal_detail, "because node1 says so") == 0);
	CHECK(node_logged(c, "the node name is taken (because node1 says so)"));
	CHECK(node_logged(a, "the node name is taken (because node1 says so)"));
	a->answer = TP_ACCEPT;

	begin("connections: refused for good until it is put right");
	CHECK(tp_peer_add(a->tp, 3, node_address(c)));
	WAIT_FOR(node_linked(a, c));

	begin("connections: an address that leads to another member, or to oneself");
	snprintf(address, sizeof(address), "127.0.0.1:%d", c->port);
	CHECK(tp_peer_add(a->tp, 4, address));
	WAIT_FOR(a->refusal == TP_REFUSED_WRONG_MEMBER);
	a->refusal = TP_ACCEPT;
	snprintf(address, sizeof(address), "127.0.0.1:%d", a->port);
	CHECK(tp_peer_add(a->tp, 5, address));
	WAIT_FOR(a->refusal == TP_REFUSED_WRONG_MEMBER);
	CHECK(node_logged(a, "both sides say that they are the same member"));

	begin("connections: two servers with one member id");
	CHECK(tp_peer_add(d->tp, 1, node_address(a)));
	WAIT_FOR(d->refusal == TP_REFUSED_WRONG_MEMBER);
	node_stop(a);
	node_stop(b);
	node_stop(c);
	node_stop(d);
}

static void
test_listen(void)
{
	Node	   *a = node_start(1, 1, NULL);
	Node	   *b = node_new(2, 1, NULL, NULL);
	Node	   *c = node_new(0, 0, NULL, NULL);

	begin("listening: port taken, and free again");
	node_listen(b, node_address(a));
	CHECK(b->listen_status == TP_LISTEN_IN_USE && b->port == 0);
	CHECK(strstr(b->listen_error, "address already in use") != NULL);
	CHECK(strstr(b->listen_error, "quorum.address") != NULL);
	tp_unlisten(a->tp);
	for (int i = 0; i < 3; i++)
		uv_run(loop, UV_RUN_ONCE);
	node_listen(b, node_address(a));
	CHECK(b->listen_status == TP_LISTEN_OK && b->port == a->port);
	node_listen(b, "127.0.0.1:0");	/* somewhere else instead */
	CHECK(b->listen_status == TP_LISTEN_OK && b->port != a->port);

	begin("listening: nonsense, and no cluster");
	node_listen(b, "nonsense");
	CHECK(b->listen_status == TP_LISTEN_BAD_ADDRESS);
	node_listen(c, "127.0.0.1:0");
	CHECK(c->listen_status == TP_LISTEN_NO_IDENTITY);
	node_listen(b, "198.51.100.1:7432");	/* documentation range: not ours */
	CHECK(b->listen_status == (harness_tls ? TP_LISTEN_SYSTEM : TP_LISTEN_INSECURE));
	tp_set_secret(b->tp, (const uint8_t *) SECRET_A, strlen(SECRET_A));
	node_listen(b, "198.51.100.1:7432");
	CHECK(b->listen_status == TP_LISTEN_SYSTEM);

	begin("listening: a host name");
	node_listen(b, "localhost:0");
	WAIT_FOR(b->listen_status == TP_LISTEN_OK);
	node_listen(b, "no-such-host.invalid:0");
	WAIT_FOR(b->listen_status == TP_LISTEN_RESOLVE);
	node_stop(a);
	node_stop(b);
	node_stop(c);
}

static void
test_table_changes(void)
{
	Node	   *a = node_start(1, 1, NULL);
	Node	   *b = node_start(2, 1, NULL);
	uint32_t	ids[4];
	char		address[64];

	begin("connections: names, a changed address, a removed peer");
	snprintf(address, sizeof(address), "localhost:%d", b->port);
	CHECK(tp_peer_add(a->tp, 2, address));
	CHECK(tp_peer_add(b->tp, 1, node_address(a)));
	WAIT_FOR(node_linked(a, b));
	CHECK(tp_peer_add(a->tp, 2, address));	/* no change */
	CHECK(!tp_peer_add(a->tp, 2, "nonsense"));
	CHECK(node_linked(a, b));
	CHECK(tp_peer_add(a->tp, 2, node_address(b)));
	CHECK(node_send(a, b, 1, TP_BULK, "x", 1) == TP_SEND_DOWN);
	WAIT_FOR(a->downs == 1);
	WAIT_FOR(node_linked(a, b));
	CHECK(strstr(a->down_why, "address was changed") != NULL || a->ups == 2);
	CHECK(tp_peer_add(a->tp, 9, "127.0.0.1:1"));
	CHECK(tp_peer_list(a->tp, ids, 4) == 2 && ids[0] == 2 && ids[1] == 9);

	tp_peer_remove(a->tp, 2);
	WAIT_FOR(b->refusals > 0);
	CHECK(b->refusal == TP_REFUSED_UNKNOWN_MEMBER);
	CHECK(tp_peer_list(a->tp, ids, 4) == 1);
	CHECK(a->downs == 1);		/* we did that ourselves */
	node_stop(a);
	node_stop(b);
}

static void
test_identity(void)
{
	Node	   *a = node_start(1, 1, NULL);
	Node	   *b = node_new(0, 0, NULL, NULL);

	begin("connections: a server that becomes a member later");
	CHECK(tp_peer_add(b->tp, 1, node_address(a)));
	for (int i = 0; i < 20; i++)
		uv_run(loop, UV_RUN_ONCE);
	CHECK(b->failures == 0 && b->refusals == 0);
	memset(b->id.cluster_id, 1, TP_ID_LEN);
	b->id.member_id = 2;
	tp_set_identity(b->tp, &b->id);
	node_listen(b, "127.0.0.1:0");
	CHECK(b->listen_status == TP_LISTEN_OK);
	CHECK(tp_peer_add(a->tp, 2, node_address(b)));
	WAIT_FOR(node_linked(a, b));

	begin("connections: closing while a name is looked up");
	CHECK(tp_peer_add(b->tp, 8, "no-such-host.invalid:1"));
	CHECK(tp_peer_add(b->tp, 9, "no-such-host.invalid:2"));
	WAIT_FOR(node_stats(b, a).state == TP_PEER_UP);
	tp_peer_remove(b->tp, 8);

	begin("connections: and leaves the cluster again");
	memset(b->id.cluster_id, 0, TP_ID_LEN);
	b->id.member_id = 0;
	tp_set_identity(b->tp, &b->id);
	tp_unlisten(b->tp);
	WAIT_FOR(a->downs == 1 && b->downs == 1);
	CHECK(node_stats(b, a).state == TP_PEER_WAITING);
	node_stop(a);
	node_stop(b);
}

void
test_connections(void)
{
	test_reconnect();
	test_dialled_when_it_returns();
	test_simultaneous();
	test_half_open();
	test_late_goodbye();
	test_new_instance();
	test_refusals();
	test_listen();
	test_table_changes();
	test_identity();
}
