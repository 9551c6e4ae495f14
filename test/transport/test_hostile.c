/*-------------------------------------------------------------------------
 *
 * test_hostile.c
 *		Whoever can reach the port and does not mean well, or not us.
 *
 * After each of them two members that are connected still are, and a third can
 * still join them.
 *
 *-------------------------------------------------------------------------
 */
#include "harness.h"

#include <stdlib.h>
#include <unistd.h>

#include "transport/handshake.h"

static Node *a;
static Node *b;

static void
still_fine(void)
{
	b->nreceived = 0;
	CHECK(node_send(a, b, 1, TP_URGENT, "ping", 4) == TP_SEND_OK);
	WAIT_FOR(b->nreceived == 1);
	CHECK(a->downs == 0 && b->downs == 0);
}

/* Send it all; the transport must hang up without a word. */
static void
expect_hang_up(const void *bytes, size_t len)
{
	Raw		   *raw = raw_connect(a);

	raw_send(raw, bytes, len);
	wait_begin();
	do
		raw_poll(raw);
	while (!raw->eof && wait_more());
	CHECK(raw->eof && raw->ngot == 0);
	raw_close(raw);
}

static void
test_garbage(void)
{
	uint8_t		noise[4096];
	uint32_t	state = 12345;
	char		frame[8 + 16];

	begin("hostile: random bytes, another protocol, huge lengths");
	for (int round = 0; round < 50; round++)
	{
		for (size_t i = 0; i < sizeof(noise); i++)
		{
			state = state * 1664525 + 1013904223;
			noise[i] = (uint8_t) (state >> 24);
		}
		expect_hang_up(noise, 1 + (size_t) round * 80);
	}
	expect_hang_up("GET / HTTP/1.1\r\nHost: x\r\n\r\n", 27);
	memcpy(frame, FRAME_PREAMBLE, 8);
	memset(frame + 8, 0xFF, 16);
	expect_hang_up(frame, 24);
	expect_hang_up("PGQUORUM\0\0\0\0\x01\x02\0\0\x01\0\0\0\0\0\0\0", 24);	/* 513 bytes */

	/* a frame in order, but not of the handshake */
	tp_frame_header((uint8_t *) frame + 8, FRAME_DATA, FRAME_FIRST | FRAME_LAST, 1, 0, NULL,
					0);
	expect_hang_up(frame, 24);
	tp_frame_header((uint8_t *) frame + 8, FRAME_HELLO, 0, 0, 0, NULL, 0);
	expect_hang_up(frame, 24);
	CHECK(node_logged(a, "not the pg_quorum protocol"));
	CHECK(node_logged(a, "frame too long"));
	CHECK(node_logged(a, "malformed HELLO"));
	CHECK(a->nlog < 40);		/* more than fifty of them: the log was spared */
	still_fine();
}

static void
test_slow_loris(void)
{
	Raw		   *raws[20];
	int			hung_up = 0;
	size_t		sent = 0;
	uint64_t	started = uv_hrtime();
	uint64_t	next = started;

	begin("hostile: one byte at a time buys no time");
	for (int i = 0; i < 20; i++)
		raws[i] = raw_connect(a);
	wait_begin();
	while (hung_up < 20 && wait_more())
	{
		hung_up = 0;
		for (int i = 0; i < 20; i++)
		{
			if (uv_hrtime() > next && sent < FRAME_PREAMBLE_LEN)
				raw_send(raws[i], &FRAME_PREAMBLE[sent], 1);
			raw_poll(raws[i]);
			hung_up += raws[i]->eof;
		}
		if (uv_hrtime() > next)
		{
			next += 100000000;
			sent++;
		}
	}
	CHECK(hung_up == 20);
	CHECK(uv_hrtime() - started < 5000000000u); /* the limit here is 2 s */
	CHECK(node_logged(a, "the handshake timed out"));
	for (int i = 0; i < 20; i++)
		raw_close(raws[i]);
	still_fine();
}

static void
test_crowd(void)
{
	Raw		   *raws[150];
	int			hung_up = 0;
	Node	   *c = node_start(3, 1, SECRET_A);

	begin("hostile: a crowd at the door does not keep a member out");
	for (int i = 0; i < 150; i++)
	{
		raws[i] = raw_connect(a);
		if (i % 50 == 0)
			uv_run(loop, UV_RUN_NOWAIT);
	}
	node_know(a, c);
	WAIT_FOR(node_linked(a, c));
	for (int i = 0; i < 150; i++)
	{
		raw_poll(raws[i]);
		hung_up += raws[i]->eof;
	}
	CHECK(hung_up >= 150 - 64);
	for (int i = 0; i < 150; i++)
		raw_close(raws[i]);
	tp_peer_remove(a->tp, 3);
	node_stop(c);
	still_fine();
}

/* Drive a raw client through the handshake as member `id`. */
static bool
raw_handshake(Raw *raw, Handshake *hs, const HsLocal *local)
{
	HsOutput	out;
	size_t		at = FRAME_PREAMBLE_LEN;

	CHECK(tp_hs_init(hs, local, true, true, TP_PURPOSE_PEER, 1, &out));
	raw_send(raw, out.bytes, out.len);
	wait_begin();
	while (hs->state < HS_PROVEN && !raw->eof && wait_more())
	{
		const char *error;
		size_t		need;
		Frame		frame;

		raw_poll(raw);
		if (raw->ngot > at &&
			tp_frame_parse(raw->got + at, raw->ngot - at, HS_PAYLOAD_MAX, &frame, &need,
						   &error) == FRAME_OK)
		{
			at += FRAME_HEADER_LEN + frame.len;
			if (tp_hs_input(hs, local, &frame, &out) == HS_GO_ON)
				raw_send(raw, out.bytes, out.len);
		}
	}
	return hs->state == HS_PROVEN;
}

/*
 * A member gone mad: it knows the secret, and then sends this. The connection
 * goes, with one line in the log, and nothing else happens.
 */
static void
expect_member_dropped(const uint8_t *bytes, size_t len, const char *logged)
{
	TpIdentity	self;
	HsLocal		local = {&self, 99, (const uint8_t *) SECRET_A, strlen(SECRET_A)};
	Handshake	hs;
	Raw		   *raw = raw_connect(a);
	int			messages = a->nreceived;

	memset(&self, 0, sizeof(self));
	memset(self.cluster_id, 1, TP_ID_LEN);
	self.member_id = 9;
	memset(self.instance_id, 9, TP_ID_LEN);
	snprintf(self.name, sizeof(self.name), "mad");
	CHECK(raw_handshake(raw, &hs, &local));
	raw_send(raw, bytes, len);
	wait_begin();
	do
		raw_poll(raw);
	while (!raw->eof && wait_more());
	CHECK(raw->eof);
	CHECK(node_logged(a, logged));
	CHECK(a->nreceived == messages);
	raw_close(raw);
}

static void
test_mad_member(void)
{
	uint8_t		frame[64];

	begin("hostile: an authenticated member that sends nonsense");
	CHECK(tp_peer_add(a->tp, 9, "127.0.0.1:1"));

	memset(frame, 0, sizeof(frame));
	expect_member_dropped(frame, sizeof(frame), "dropped: malformed frame header");
	memset(frame, 0xFF, sizeof(frame));
	expect_member_dropped(frame, sizeof(frame), "dropped: frame too long");
	tp_frame_header(frame, FRAME_DATA, FRAME_FIRST | FRAME_LAST, 1, 0, NULL, 0);
	frame[0] ^= 1;
	expect_member_dropped(frame, FRAME_HEADER_LEN, "dropped: frame checksum does not match");
	tp_frame_header(frame, FRAME_DATA, FRAME_LAST, 1, 0, NULL, 0);
	expect_member_dropped(frame, FRAME_HEADER_LEN, "dropped: fragment without a beginning");
	tp_frame_header(frame, FRAME_HELLO, 0, 0, 0, NULL, 0);
	expect_member_dropped(frame, FRAME_HEADER_LEN, "dropped: unexpected frame");
	{
		TpPart		part = {"x", 1};

		tp_frame_header(frame, FRAME_DATA, FRAME_FIRST, 1, 0xFFFFFFFF, &part, 1);
		frame[FRAME_HEADER_LEN] = 'x';
		expect_member_dropped(frame, FRAME_HEADER_LEN + 1, "dropped: message too long");
	}
	CHECK(a->downs == 6);		/* each of them was a connection in use */
	a->downs = 0;
	tp_peer_remove(a->tp, 9);
	still_fine();
}

static void
test_recorded_on_the_wire(void)
{
	TpIdentity	self;
	HsLocal		local = {&self, 99, (const uint8_t *) SECRET_B, strlen(SECRET_B)};
	Handshake	hs;
	Raw		   *raw = raw_connect(a);

	begin("hostile: a client without the right secret gets a reason, no more");
	memset(&self, 0, sizeof(self));
	memset(self.cluster_id, 1, TP_ID_LEN);
	self.member_id = 2;
	snprintf(self.name, sizeof(self.name), "b");
	CHECK(!raw_handshake(raw, &hs, &local));
	CHECK(hs.state == HS_FAILED && hs.refusal == TP_REFUSED_SECRET);
	raw_close(raw);
	still_fine();
}

/* More than the kernel takes, to a member that is connected now. */
static void
flood(uint32_t id)
{
	size_t		len = 30 * 1024 * 1024;
	uint8_t    *bytes = calloc(1, len);
	TpPart		part = {bytes, len};
	TpPeerStats stats;

	WAIT_FOR(tp_peer_stats(a->tp, id, &stats) && stats.state == TP_PEER_UP);
	CHECK(tp_send(a->tp, id, 1, TP_BULK, &part, 1, NULL, NULL) == TP_SEND_OK);
	free(bytes);
}

/*
 * Whoever has taken the port where a member should be.
 */
typedef enum Behaviour
{
	SAYS_NOTHING,
	TALKS_SMTP,
	TALKS_BACK,					/* after the handshake, where only we may talk */
	STOPS_READING				/* after the handshake */
} Behaviour;

static void
test_bogus_server(Behaviour behave, const char *logged)
{
	TpIdentity	self;
	HsLocal		local = {&self, 99, (const uint8_t *) SECRET_A, strlen(SECRET_A)};
	char		address[64];
	HsOutput	out;
	Handshake	hs;
	size_t		at = FRAME_PREAMBLE_LEN;
	int			messages = a->nreceived;
	int			port;
	int			listener = raw_listen(&port);
	Raw		   *raw;

	snprintf(address, sizeof(address), "127.0.0.1:%d", port);
	CHECK(tp_peer_add(a->tp, 7, address));
	raw = raw_accept(listener);
	memset(&self, 0, sizeof(self));
	memset(self.cluster_id, 1, TP_ID_LEN);
	self.member_id = 7;
	snprintf(self.name, sizeof(self.name), "bogus");
	CHECK(tp_hs_init(&hs, &local, false, true, TP_PURPOSE_PEER, 0, &out));
	if (behave == TALKS_SMTP)
		raw_send(raw, "220 smtp.example.com ESMTP\r\n", 28);

	wait_begin();
	while (!raw->eof && hs.state != HS_DONE && wait_more())
	{
		const char *error;
		size_t		need;
		Frame		frame;

		raw_poll(raw);
		if (behave < TALKS_BACK || raw->ngot <= at ||
			tp_frame_parse(raw->got + at, raw->ngot - at, HS_PAYLOAD_MAX, &frame, &need,
						   &error) != FRAME_OK)
			continue;
		at += FRAME_HEADER_LEN + frame.len;
		if (tp_hs_input(&hs, &local, &frame, &out) == HS_ASK)
		{
			CHECK(tp_hs_decide(&hs, &local, TP_ACCEPT, "", &out) == HS_ESTABLISHED);
			tp_frame_header(out.bytes + out.len, FRAME_DATA, FRAME_FIRST | FRAME_LAST, 1, 0,
							NULL, 0);
			out.len += behave == TALKS_BACK ? FRAME_HEADER_LEN : 0;
		}
		raw_send(raw, out.bytes, out.len);
	}
	if (behave == STOPS_READING)
		flood(7);
	WAIT_FOR(node_logged(a, logged));
	CHECK(a->nreceived == messages);
	CHECK(a->downs == (behave >= TALKS_BACK));
	a->downs = 0;
	tp_peer_remove(a->tp, 7);
	raw_close(raw);
	close(listener);
	still_fine();
}

void
test_hostile(void)
{
	a = node_start(1, 1, SECRET_A);
	b = node_start(2, 1, SECRET_A);
	node_know(a, b);
	WAIT_FOR(node_linked(a, b));
	test_garbage();
	test_slow_loris();
	test_crowd();
	test_mad_member();
	test_recorded_on_the_wire();
	begin("hostile: something else on a member's port");
	test_bogus_server(SAYS_NOTHING, "could not connect to member 7 at 127.0.0.1:");
	test_bogus_server(TALKS_SMTP, "dropped: not the pg_quorum protocol");
	test_bogus_server(TALKS_BACK, "dropped: message in the wrong direction");
	begin("hostile: a member that stops reading is let go");
	test_bogus_server(STOPS_READING, "connection timed out");
	node_stop(a);
	node_stop(b);
}
