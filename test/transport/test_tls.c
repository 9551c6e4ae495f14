/*-------------------------------------------------------------------------
 *
 * test_tls.c
 *		TLS: who is let in by it, and what goes wrong without it. That messages,
 *		requests and connections work as they do without is shown by the tests of
 *		those, which run a second time with TLS (harness.c).
 *
 *-------------------------------------------------------------------------
 */
#include "harness.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "certs.h"

static TpTls *
must_load(const char *file, const char *authority)
{
	char		error[TP_TEXT_LEN];
	TpTls	   *tls = cert_load(file, authority, error);

	if (tls == NULL)
		printf("# %s\n", error);
	CHECK(tls != NULL);
	return tls;
}

static Node *
start(uint32_t id, const char *file)
{
	Node	   *node = node_new(id, 1, NULL, NULL);

	if (file != NULL)
		tp_set_tls(node->tp, must_load(file, "ca"));
	node_listen(node, "127.0.0.1:0");
	CHECK(node->listen_status == TP_LISTEN_OK);
	return node;
}

static void
stop(Node *a, Node *b)
{
	node_stop(a);
	node_stop(b);
}

/* ---------- files ---------- */

static bool
refused(const char *cert, const char *key, const char *ca, const char *text)
{
	char		error[TP_TEXT_LEN];
	TpTls	   *tls = tp_tls_load(cert, key, ca, error);
	bool		so = tls == NULL && strstr(error, text) != NULL;

	if (!so)
		printf("# %s\n", error);
	tp_tls_drop(tls);
	return so;
}

static void
test_files(void)
{
	FILE	   *file;

	begin("tls: files that will not do");
	CHECK(refused("/nowhere.crt", cert_path("one", ".key"), cert_path("ca", ".crt"),
				  "could not load certificate file \"/nowhere.crt\": No such file"));
	CHECK(refused(cert_path("one", ".crt"), "/nowhere.key", cert_path("ca", ".crt"),
				  "could not read key file \"/nowhere.key\": No such file"));
	CHECK(refused(cert_path("one", ".crt"), cert_path("one", ".key"), "/nowhere",
				  "could not load CA file \"/nowhere\""));
	CHECK(refused(cert_path("one", ".crt"), cert_path("two", ".key"), cert_path("ca", ".crt"),
				  "key"));
	CHECK(refused(cert_path("one", ".crt"), "/", cert_path("ca", ".crt"), "not a regular file"));
	CHECK(chmod(cert_path("one", ".key"), 0644) == 0);
	CHECK(refused(cert_path("one", ".crt"), cert_path("one", ".key"), cert_path("ca", ".crt"),
				  "has group or world access"));
	CHECK(chmod(cert_path("one", ".key"), 0600) == 0);
	file = fopen(cert_path("garbage", ".crt"), "w");
	CHECK(file != NULL && fputs("no certificate\n", file) > 0 && fclose(file) == 0);
	CHECK(refused(cert_path("garbage", ".crt"), cert_path("one", ".key"), cert_path("ca", ".crt"),
				  "could not load certificate file"));
	CHECK(refused(cert_path("one", ".crt"), cert_path("one", ".key"), cert_path("garbage", ".crt"),
				  "could not load CA file"));
}

/* ---------- who is let in ---------- */

/* Member 1 has file a, member 2 has b; both logs are to say text. */
static void
check_apart(const char *name, const char *a_file, const char *b_file, const char *a_text,
			const char *b_text)
{
	Node	   *a = start(1, a_file);
	Node	   *b = start(2, b_file);

	begin(name);
	node_know(a, b);
	WAIT_FOR(node_logged(a, a_text) && node_logged(b, b_text));
	CHECK(a->ups == 0 && b->ups == 0 && a->nreceived == 0 && b->nreceived == 0);
	stop(a, b);
}

static void
check_together(const char *name, const char *a_file, const char *b_file)
{
	Node	   *a = start(1, a_file);
	Node	   *b = start(2, b_file);

	begin(name);
	node_know(a, b);
	WAIT_FOR(node_linked(a, b));
	CHECK(node_send(a, b, 1, TP_BULK, "hello", 5) == TP_SEND_OK);
	WAIT_FOR(b->nreceived == 1);
	stop(a, b);
}

static void
test_who(void)
{
	check_together("tls: certificates for the node names", "one", "two");
	check_together("tls: certificates for the address", "address", "address");
	check_apart("tls: a certificate for somebody else", "one", "three",
				"the certificate is not this member's", "\"node2\" nor its address");
	check_apart("tls: another CA's certificate", "one", "stranger",
				"certificate is not accepted", "TLS: ");
	check_apart("tls: a certificate that has expired", "one", "old",
				"certificate has expired", "TLS: ");
	check_apart("tls: a client's certificate", "one", "client",
				"certificate is not accepted", "TLS: ");
	check_apart("tls: one side without TLS", "one", NULL,
				"the other side does not speak it", "the other side uses TLS");
}

/* The secret is demanded as well where there is one. */
static void
test_with_secret(void)
{
	Node	   *a = start(1, "one");
	Node	   *b = start(2, "two");

	begin("tls: a secret counts all the same");
	tp_set_secret(a->tp, (const uint8_t *) SECRET_A, strlen(SECRET_A));
	node_know(a, b);
	WAIT_FOR(a->refusals > 1 && b->refusals > 1);
	CHECK(a->refusal == TP_REFUSED_SECRET_MISSING);
	tp_set_secret(b->tp, (const uint8_t *) SECRET_A, strlen(SECRET_A));
	WAIT_FOR(node_linked(a, b));
	stop(a, b);
}

/* ---------- changes ---------- */

static void
test_changes(void)
{
	Node	   *a = start(1, NULL);
	Node	   *b = start(2, NULL);

	begin("tls: switched on and off again");
	node_know(a, b);
	WAIT_FOR(node_linked(a, b));
	tp_set_tls(a->tp, must_load("one", "ca"));
	WAIT_FOR(a->downs >= 1 && b->downs >= 1);
	WAIT_FOR(node_logged(b, "uses TLS"));
	CHECK(!node_linked(a, b));
	tp_set_tls(b->tp, must_load("two", "ca"));
	WAIT_FOR(node_linked(a, b));

	begin("tls: new files count for the next connection");
	a->downs = b->downs = 0;
	tp_set_tls(a->tp, must_load("one", "ca"));
	CHECK(node_send(a, b, 1, TP_BULK, "x", 1) == TP_SEND_OK);
	WAIT_FOR(b->nreceived == 1);
	CHECK(a->downs == 0 && b->downs == 0 && node_linked(a, b));

	tp_set_tls(a->tp, NULL);
	tp_set_tls(b->tp, NULL);
	WAIT_FOR(a->downs >= 1 && b->downs >= 1);
	WAIT_FOR(node_linked(a, b));
	stop(a, b);
}

static void
test_addresses(void)
{
	Node	   *a = start(1, "one");

	begin("tls: other than loopback addresses");
	node_listen(a, "0.0.0.0:0");
	CHECK(a->listen_status == TP_LISTEN_OK);
	node_stop(a);
}

/* ---------- strangers ---------- */

static void
test_strangers(void)
{
	static const uint8_t greeting[] = {0x16, 0x03, 0x01, 0x00, 0x05, 1, 2, 3, 4, 5};
	Node	   *a = start(1, "one");
	Raw		   *raw;

	begin("tls: bytes that are none");
	raw = raw_connect(a);
	raw_send(raw, greeting, sizeof(greeting));
	WAIT_FOR((raw_poll(raw), raw->eof));
	raw_close(raw);
	raw = raw_connect(a);
	raw_send(raw, "GET / HTTP/1.1\r\n\r\n", 18);
	WAIT_FOR((raw_poll(raw), raw->eof));
	raw_close(raw);
	CHECK(node_logged(a, "connection from 127.0.0.1: TLS: "));
	CHECK(a->asked == 0 && a->ups == 0);

	begin("tls: many who say nothing");
	for (int i = 0; i < 3; i++)
	{
		raw = raw_connect(a);
		raw_close(raw);
	}
	node_stop(a);
}

void
test_tls(void)
{
	Authority  *ca = authority_new("ca");
	Authority  *other = authority_new("other");

	cert_make(ca, "one", &(CertWish) {.cn = "node1"});
	cert_make(ca, "two", &(CertWish) {.cn = "host2", .alt = "DNS:node2"});
	cert_make(ca, "three", &(CertWish) {.cn = "node3", .alt = "IP:127.0.0.3"});
	cert_make(ca, "address", &(CertWish) {.cn = "somewhere", .alt = "IP:127.0.0.1"});
	cert_make(ca, "old", &(CertWish) {.cn = "node2", .expired = true});
	cert_make(ca, "client", &(CertWish) {.cn = "node2", .for_clients = true});
	cert_make(other, "stranger", &(CertWish) {.cn = "node2"});

	test_files();
	test_who();
	test_with_secret();
	test_changes();
	test_addresses();
	test_strangers();
	authority_free(ca);
	authority_free(other);
}
