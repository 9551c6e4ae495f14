/*-------------------------------------------------------------------------
 *
 * test_requests.c
 *		One-shot requests of servers that are not members yet.
 *
 *-------------------------------------------------------------------------
 */
#include "harness.h"

#include <stdlib.h>

typedef struct Answer
{
	int			calls;
	TpRefusal	status;
	char		error[512];
	uint8_t		type;
	size_t		len;
	uint32_t	sum;
} Answer;

static void
on_answer(void *arg, TpRefusal status, const char *error, TpMessage *msg)
{
	Answer	   *answer = arg;

	answer->calls++;
	answer->status = status;
	snprintf(answer->error, sizeof(answer->error), "%s", error);
	CHECK((status == TP_ACCEPT) == (msg != NULL));
	if (msg != NULL)
	{
		answer->type = msg->type;
		answer->len = msg->len;
		answer->sum = sum_of(msg->data, msg->len);
	}
}

static Answer
ask(Node *from, const char *address, const void *data, size_t len, int timeout_ms)
{
	Answer		answer;

	memset(&answer, 0, sizeof(answer));
	CHECK(tp_request(from->tp, address, 42, data, len, timeout_ms, on_answer, &answer));
	CHECK(answer.calls == 0);	/* not before the loop runs */
	WAIT_FOR(answer.calls == 1);
	return answer;
}

static void
test_ask(void)
{
	Node	   *a = node_start(1, 1, SECRET_A);
	Node	   *joiner = node_new(0, 0, SECRET_A, NULL);
	uint8_t    *bytes = calloc(1, 1000000);
	char		by_name[64];
	Answer		answer;

	begin("requests: one question, one answer, by address and by name");
	a->reply_at_once = true;
	answer = ask(joiner, node_address(a), "let me in", 9, 5000);
	CHECK(answer.status == TP_ACCEPT && answer.type == 43 && answer.len == 9 &&
		  answer.sum == sum_of((const uint8_t *) "let me in", 9));
	snprintf(by_name, sizeof(by_name), "localhost:%d", a->port);
	bytes[77] = 1;
	answer = ask(joiner, by_name, bytes, 1000000, 5000);
	CHECK(answer.status == TP_ACCEPT && answer.len == 1000000 &&
		  answer.sum == sum_of(bytes, 1000000));
	answer = ask(joiner, node_address(a), NULL, 0, 5000);
	CHECK(answer.status == TP_ACCEPT && answer.len == 0);
	CHECK(a->requests == 3 && a->nreceived == 0 && joiner->nreceived == 0);
	CHECK(!tp_request(joiner->tp, "nonsense", 1, NULL, 0, 100, on_answer, NULL));
	CHECK(!tp_request(joiner->tp, "127.0.0.1:1", 1, bytes, 2000000, 100, on_answer, NULL));
	free(bytes);

	begin("requests: an answer that takes its time, and one that never comes");
	a->reply_at_once = false;
	memset(&answer, 0, sizeof(answer));
	CHECK(tp_request(joiner->tp, node_address(a), 42, "x", 1, 5000, on_answer, &answer));
	WAIT_FOR(a->requests == 4);
	for (int i = 0; i < 20; i++)
		uv_run(loop, UV_RUN_ONCE);
	CHECK(answer.calls == 0);
	CHECK(tp_reply(a->tp, a->request_id, 43, "yes", 3));
	CHECK(!tp_reply(a->tp, a->request_id, 43, "yes", 3));	/* once */
	WAIT_FOR(answer.calls == 1);
	CHECK(answer.len == 3);
	answer = ask(joiner, node_address(a), "x", 1, 100);
	CHECK(answer.status == TP_REFUSED_INTERNAL &&
		  strcmp(answer.error, "no answer in time") == 0);
	CHECK(a->requests == 5);
	for (int i = 0; i < 10; i++)
		uv_run(loop, UV_RUN_ONCE);
	CHECK(!tp_reply(a->tp, a->request_id, 43, "too late", 8));
	node_stop(joiner);
	node_stop(a);
}

static void
test_not_answered(void)
{
	Node	   *a = node_start(1, 1, SECRET_A);
	Node	   *b = node_start(2, 2, SECRET_A);
	Node	   *joiner = node_new(0, 0, SECRET_A, NULL);
	Node	   *stranger = node_new(0, 0, SECRET_B, NULL);
	Node	   *naked = node_new(0, 0, NULL, NULL);
	char		address[64];
	Answer		answer;

	begin("requests: refused, each with its reason");
	answer = ask(stranger, node_address(a), "x", 1, 5000);
	CHECK(answer.status == TP_REFUSED_SECRET);
	answer = ask(naked, node_address(a), "x", 1, 5000);
	CHECK(answer.status == TP_REFUSED_SECRET_MISSING);
	if (!harness_tls)
	{
		answer = ask(naked, "198.51.100.1:7432", "x", 1, 5000);
		CHECK(answer.status == TP_REFUSED_LOOPBACK);
	}
	answer = ask(b, node_address(a), "x", 1, 5000);
	CHECK(answer.status == TP_REFUSED_CLUSTER);
	a->answer = TP_REFUSED_NAME;
	answer = ask(joiner, node_address(a), "x", 1, 5000);
	CHECK(answer.status == TP_REFUSED_NAME);
	CHECK(strstr(answer.error, "because node1 says so") != NULL);
	a->answer = TP_ACCEPT;
	CHECK(a->requests == 0);

	begin("requests: nobody there, and a server that goes away");
	snprintf(address, sizeof(address), "127.0.0.1:%d", b->port);
	node_stop(b);
	answer = ask(joiner, address, "x", 1, 5000);
	CHECK(answer.status == TP_REFUSED_INTERNAL &&
		  strstr(answer.error, "connection refused") != NULL);
	memset(&answer, 0, sizeof(answer));
	CHECK(tp_request(joiner->tp, node_address(a), 42, "x", 1, 5000, on_answer, &answer));
	WAIT_FOR(a->requests == 1);
	node_stop(a);
	WAIT_FOR(answer.calls == 1);
	CHECK(answer.status == TP_REFUSED_INTERNAL);

	begin("requests: closing with one under way calls nobody");
	memset(&answer, 0, sizeof(answer));
	CHECK(tp_request(joiner->tp, "127.0.0.1:1", 42, "x", 1, 5000, on_answer, &answer));
	node_stop(joiner);
	CHECK(answer.calls == 0);
	node_stop(stranger);
	node_stop(naked);
}

static void
test_crowd_of_requests(void)
{
	TpConfig	config = quick_config();
	Node	   *a;
	Node	   *joiner = node_new(0, 0, NULL, NULL);
	Answer		answers[4];
	int			refused = 0;

	begin("requests: as many at a time as are allowed");
	config.max_requests = 3;
	a = node_new(1, 1, NULL, &config);
	node_listen(a, "127.0.0.1:0");
	memset(answers, 0, sizeof(answers));
	for (int i = 0; i < 4; i++)
		CHECK(tp_request(joiner->tp, node_address(a), 42, "x", 1, 5000, on_answer,
						 &answers[i]));
	WAIT_FOR(a->requests == 3);
	wait_begin();
	do
	{
		refused = 0;
		for (int i = 0; i < 4; i++)
			refused += answers[i].calls == 1 && answers[i].status == TP_REFUSED_NOT_READY;
	}
	while (refused == 0 && wait_more());
	CHECK(refused == 1);
	node_stop(joiner);
	node_stop(a);
}

void
test_requests(void)
{
	test_ask();
	test_not_answered();
	test_crowd_of_requests();
}
