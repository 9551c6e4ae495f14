/*-------------------------------------------------------------------------
 *
 * test_messages.c
 *		What is sent arrives: whole, in order, urgent first, within bounds.
 *
 *-------------------------------------------------------------------------
 */
#include "harness.h"

#include <stdlib.h>

static int	released;

static void
count_release(void *arg)
{
	(void) arg;
	released++;
}

static uint8_t *
pattern(size_t len)
{
	uint8_t    *bytes = malloc(len > 0 ? len : 1);

	for (size_t i = 0; i < len; i++)
		bytes[i] = (uint8_t) (i * 2654435761u >> 13);
	return bytes;
}

static bool
has_type(const Node *node, uint8_t type)
{
	for (int i = 0; i < node->nreceived; i++)
		if (node->received[i].type == type)
			return true;
	return false;
}

static void
test_echo(Node *a, Node *b)
{
	begin("messages: echo, and statistics that agree with it");
	b->echo = true;
	CHECK(node_send(a, b, 1, TP_URGENT, "hello", 5) == TP_SEND_OK);
	CHECK(node_send(a, b, 1, TP_BULK, NULL, 0) == TP_SEND_OK);
	WAIT_FOR(a->nreceived == 2);
	CHECK(a->received[0].type == 2 && a->received[0].len == 5 &&
		  a->received[0].sum == sum_of((const uint8_t *) "hello", 5) &&
		  a->received[0].from == b->id.member_id && a->received[0].lane == TP_URGENT);
	CHECK(a->received[1].len == 0 && a->received[1].lane == TP_BULK);
	CHECK(node_stats(a, b).messages_out == 2 && node_stats(a, b).messages_in == 2);
	CHECK(node_stats(a, b).bytes_out == 2 * 16 + 5);
	CHECK(node_stats(a, b).last_contact_us > 0);
	CHECK(node_stats(a, b).connects == 1);
	b->echo = false;
	a->nreceived = b->nreceived = 0;
}

static void
test_flush(Node *a, Node *b)
{
	uint64_t	before = node_stats(a, b).bytes_out;

	begin("messages: nothing leaves before the flush, and the loop does not sleep on it");
	for (int i = 0; i < 100; i++)
		CHECK(node_send(a, b, 3, TP_BULK, "small", 5) == TP_SEND_OK);
	CHECK(uv_backend_timeout(loop) == 0);
	CHECK(node_stats(a, b).bytes_out == before);
	tp_flush(a->tp);
	CHECK(node_stats(a, b).bytes_out == before + 100 * (16 + 5));
	CHECK(tp_queued_bytes(a->tp, 2) == 0);
	CHECK(node_send(a, b, 4, TP_BULK, "forgotten", 9) == TP_SEND_OK);
	WAIT_FOR(b->nreceived == 101);
	b->nreceived = 0;
}

static void
test_sizes(Node *a, Node *b)
{
	static const size_t sizes[] = {0, 1, 4095, 4096, 4097, 65536, 262143, 262144, 262145,
	524288, 1000003, 15000003};
	int			n = sizeof(sizes) / sizeof(sizes[0]);

	begin("messages: every size, copied and not, stolen by the receiver");
	b->steal = true;
	released = 0;
	for (int i = 0; i < n; i++)
	{
		uint8_t    *bytes = pattern(sizes[i]);
		uint32_t	sum = sum_of(bytes, sizes[i]);
		TpPart		parts[3] = {{bytes, sizes[i] / 3}, {NULL, 0},
		{bytes + sizes[i] / 3, sizes[i] - sizes[i] / 3}};

		b->nreceived = 0;
		CHECK(node_send(a, b, 5, TP_BULK, bytes, sizes[i]) == TP_SEND_OK);
		CHECK(tp_send(a->tp, b->id.member_id, 6, TP_BULK, parts, 3, count_release,
					  NULL) == TP_SEND_OK);
		WAIT_FOR(b->nreceived == 2);
		CHECK(b->received[0].len == sizes[i] && b->received[0].sum == sum);
		CHECK(b->received[1].len == sizes[i] && b->received[1].sum == sum);
		WAIT_FOR(released == i + 1);
		free(bytes);
	}
	CHECK(tp_queued_bytes(a->tp, b->id.member_id) == 0);
	b->steal = false;
	b->nreceived = 0;
}

static void
test_many_parts(Node *a, Node *b)
{
	enum
	{
		NPARTS = 3000
	};
	size_t		len = NPARTS * 33;
	uint8_t    *bytes = pattern(len);
	TpPart	   *parts = malloc(NPARTS * sizeof(TpPart));

	begin("messages: more parts than one write takes");
	for (int i = 0; i < NPARTS; i++)
	{
		parts[i].data = bytes + i * 33;
		parts[i].len = 33;
	}
	released = 0;
	CHECK(tp_send(a->tp, b->id.member_id, 8, TP_BULK, parts, NPARTS, count_release,
				  NULL) == TP_SEND_OK);
	free(parts);				/* the array is the caller's, the bytes stay */
	WAIT_FOR(b->nreceived == 1 && released == 1);
	CHECK(b->received[0].sum == sum_of(bytes, len) && b->received[0].len == len);
	b->nreceived = 0;
	free(bytes);
}

static void
test_order(Node *a, Node *b)
{
	uint64_t	n = 20000;
	uint64_t	next[2] = {0, 0};
	bool		ordered = true;

	begin("messages: order within a lane, many sizes in a stream");
	for (uint64_t i = 0; i < n; i++)
	{
		uint64_t	words[1200] = {0};
		size_t		len = 8 + (size_t) (i * 7919 % (i % 50 == 0 ? 9500 : 300));

		words[0] = i / 2;
		CHECK(node_send(a, b, 1, i % 2 == 0 ? TP_URGENT : TP_BULK, words, len) == TP_SEND_OK);
		if (i % 200 == 0)
			uv_run(loop, UV_RUN_NOWAIT);
	}
	WAIT_FOR(b->nreceived == (int) n);
	for (int i = 0; i < b->nreceived; i++)
		ordered = ordered && b->received[i].first == next[b->received[i].lane]++;
	CHECK(ordered && next[0] == n / 2 && next[1] == n / 2);
	b->nreceived = 0;
}

static void
test_priority(Node *a, Node *b)
{
	size_t		len = 30 * 1024 * 1024;
	uint8_t    *bytes = pattern(len);
	TpPart		part = {bytes, len};
	int			before = 0;

	begin("messages: urgent ones overtake a large one on its way");
	released = 0;
	CHECK(tp_send(a->tp, b->id.member_id, 9, TP_BULK, &part, 1, count_release, NULL) ==
		  TP_SEND_OK);
	tp_flush(a->tp);

	/* Most of it waits where it can be overtaken, not in the kernel. */
	CHECK(tp_queued_bytes(a->tp, 2) > len - 3 * 512 * 1024);
	for (int i = 0; i < 10; i++)
	{
		CHECK(node_send(a, b, 1, TP_URGENT, "vote", 4) == TP_SEND_OK);
		uv_run(loop, UV_RUN_NOWAIT);
	}
	WAIT_FOR(has_type(b, 9));
	while (b->received[before].type == 1)
		before++;
	CHECK(before == 10 && released == 1);
	CHECK(b->received[10].sum == sum_of(bytes, len));
	b->nreceived = 0;
	free(bytes);
}

static void
test_queue_bound(void)
{
	TpConfig	config = quick_config();
	Node	   *a;
	Node	   *b = node_start(2, 1, NULL);
	uint8_t    *bytes = pattern(300000);
	TpSendResult result = TP_SEND_OK;
	int			sent = 0;
	bool		urgent_ok = true;

	begin("messages: bounded queue, told full and then writable");
	config.queue_bytes = 1000000;
	config.urgent_queue_bytes = 1000;
	config.max_message_bytes = 2000000;
	a = node_new(1, 1, NULL, &config);
	node_listen(a, "127.0.0.1:0");
	node_know(a, b);
	WAIT_FOR(node_linked(a, b));

	/* The loop does not run: nothing leaves. */
	while (sent < 100 && result == TP_SEND_OK)
	{
		result = node_send(a, b, 1, TP_BULK, bytes, 300000);
		sent += result == TP_SEND_OK;
	}
	CHECK(result == TP_SEND_FULL && sent == 3);
	CHECK(tp_queued_bytes(a->tp, 2) >= 900000 && tp_queued_bytes(a->tp, 2) <= 1000000);
	CHECK(node_stats(a, b).messages_dropped == 1);

	/* The urgent lane has a bound of its own. */
	for (int i = 0; i < 9; i++)
		urgent_ok = urgent_ok && node_send(a, b, 2, TP_URGENT, bytes, 90) == TP_SEND_OK;
	CHECK(urgent_ok);
	CHECK(node_send(a, b, 2, TP_URGENT, bytes, 500) == TP_SEND_FULL);
	WAIT_FOR(b->nreceived == 12 && a->writables == 1);

	/* Above the bound, but alone. */
	free(bytes);
	bytes = pattern(2000001);
	CHECK(node_send(a, b, 1, TP_BULK, bytes, 2000000) == TP_SEND_OK);
	CHECK(node_send(a, b, 1, TP_BULK, bytes, 1) == TP_SEND_FULL);
	CHECK(node_send(a, b, 1, TP_BULK, bytes, 2000001) == TP_SEND_TOO_LARGE);
	WAIT_FOR(b->nreceived == 13 && a->writables == 2);
	CHECK(tp_send(a->tp, 77, 1, TP_BULK, NULL, 0, NULL, NULL) == TP_SEND_DOWN);
	free(bytes);
	node_stop(a);
	node_stop(b);
}

static void
test_release_on_drop(void)
{
	Node	   *a = node_start(1, 1, NULL);
	Node	   *b = node_start(2, 1, NULL);
	size_t		len = 25 * 1024 * 1024;
	uint8_t    *bytes = pattern(len);
	TpPart		part = {bytes, len};
	TpPeerStats stats;

	begin("messages: what was queued when a connection drops is released, once");
	node_know(a, b);
	WAIT_FOR(node_linked(a, b));
	released = 0;
	CHECK(tp_send(a->tp, 2, 1, TP_BULK, &part, 1, count_release, NULL) == TP_SEND_OK);
	CHECK(tp_send(a->tp, 2, 1, TP_URGENT, &part, 1, count_release, NULL) == TP_SEND_OK);
	tp_flush(a->tp);
	CHECK(released == 0);
	node_stop(b);
	WAIT_FOR(a->downs == 1);
	CHECK(released == 2);
	CHECK(tp_peer_stats(a->tp, 2, &stats) && stats.messages_dropped == 2);
	CHECK(tp_send(a->tp, 2, 1, TP_BULK, &part, 1, count_release, NULL) == TP_SEND_DOWN);
	CHECK(released == 2);
	free(bytes);
	node_stop(a);
}

static void
test_blocked(Node *a, Node *b)
{
	uint64_t	connects = node_stats(a, b).connects;

	begin("messages: a blocked peer loses messages, not connections");
	tp_set_blocked(a->tp, 2, false, true);
	CHECK(node_send(a, b, 1, TP_URGENT, "x", 1) == TP_SEND_OK);
	tp_set_blocked(a->tp, 2, true, false);
	CHECK(node_send(a, b, 3, TP_URGENT, "y", 1) == TP_SEND_OK);
	CHECK(node_send(b, a, 4, TP_URGENT, "z", 1) == TP_SEND_OK);
	WAIT_FOR(b->nreceived == 1 && node_stats(b, a).bytes_out > 0 &&
			 node_stats(b, a).queued_bytes == 0);
	CHECK(b->received[0].type == 3);
	for (int i = 0; i < 5; i++)
		uv_run(loop, UV_RUN_ONCE);
	CHECK(a->nreceived == 0);
	tp_set_blocked(a->tp, 2, false, false);
	CHECK(node_send(b, a, 5, TP_URGENT, "z", 1) == TP_SEND_OK);
	WAIT_FOR(a->nreceived == 1);
	CHECK(a->received[0].type == 5 && node_stats(a, b).connects == connects);
}

void
test_messages(void)
{
	Node	   *a = node_start(1, 1, NULL);
	Node	   *b = node_start(2, 1, NULL);

	node_know(a, b);
	WAIT_FOR(node_linked(a, b));
	test_echo(a, b);
	test_flush(a, b);
	test_sizes(a, b);
	test_many_parts(a, b);
	test_order(a, b);
	test_priority(a, b);
	test_blocked(a, b);
	CHECK(a->downs == 0 && b->downs == 0);
	node_stop(a);
	node_stop(b);
	test_queue_bound();
	test_release_on_drop();
}
