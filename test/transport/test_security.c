/*-------------------------------------------------------------------------
 *
 * test_security.c
 *		Secrets: who has to have one, what a proof is good for, the file.
 *
 *-------------------------------------------------------------------------
 */
#include "harness.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "transport/handshake.h"

/* ---------- between transports ---------- */

static void
test_pairs(void)
{
	static const struct
	{
		const char *a;
		const char *b;
		TpRefusal	why;
		const char *text;
	}			pairs[] = {
		{SECRET_A, SECRET_A, TP_ACCEPT, "connected to member"},
		{SECRET_A, SECRET_B, TP_REFUSED_SECRET, "the shared secrets differ"},
		{SECRET_A, NULL, TP_REFUSED_SECRET_MISSING, "only one of the two servers has"},
		{NULL, SECRET_A, TP_REFUSED_SECRET_MISSING, "only one of the two servers has"},
	};

	begin("security: secrets that agree, differ, or are missing on one side");
	for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++)
	{
		Node	   *a = node_start(1, 1, pairs[i].a);
		Node	   *b = node_start(2, 1, pairs[i].b);

		node_know(a, b);
		if (pairs[i].why == TP_ACCEPT)
			WAIT_FOR(node_linked(a, b));
		else
		{
			WAIT_FOR(a->refusals > 1 && b->refusals > 1);
			CHECK(a->refusal == pairs[i].why && b->refusal == pairs[i].why);
			CHECK(a->ups == 0 && b->ups == 0 && a->asked == 0 && b->asked == 0);
		}
		CHECK(node_logged(a, pairs[i].text) && node_logged(b, pairs[i].text));
		node_stop(a);
		node_stop(b);
	}
}

static void
test_secret_changes(void)
{
	Node	   *a = node_start(1, 1, NULL);
	Node	   *b = node_start(2, 1, NULL);

	begin("security: a secret that is set drops those who proved nothing");
	node_know(a, b);
	WAIT_FOR(node_linked(a, b));
	tp_set_secret(a->tp, (const uint8_t *) SECRET_A, strlen(SECRET_A));
	WAIT_FOR(a->downs == 1 && b->downs == 1);
	WAIT_FOR(b->refusal == TP_REFUSED_SECRET_MISSING);
	tp_set_secret(b->tp, (const uint8_t *) SECRET_A, strlen(SECRET_A));
	WAIT_FOR(node_linked(a, b));

	begin("security: a changed secret counts for the next connection");
	a->downs = b->downs = 0;
	tp_set_secret(a->tp, (const uint8_t *) SECRET_B, strlen(SECRET_B));
	tp_set_secret(b->tp, (const uint8_t *) SECRET_B, strlen(SECRET_B));
	CHECK(node_send(a, b, 1, TP_BULK, "x", 1) == TP_SEND_OK);
	WAIT_FOR(b->nreceived == 1);
	CHECK(a->downs == 0 && b->downs == 0);
	node_stop(a);
	node_stop(b);
}

static void
test_loopback_only(void)
{
	Node	   *a = node_start(1, 1, NULL);

	begin("security: without a secret no other than loopback addresses");
	node_listen(a, "0.0.0.0:0");
	CHECK(a->listen_status == TP_LISTEN_INSECURE);
	CHECK(strstr(a->listen_error, "a non-loopback address needs quorum.ssl or "
				 "quorum.secret_file") != NULL);
	node_listen(a, "[::]:0");
	CHECK(a->listen_status == TP_LISTEN_INSECURE);
	node_listen(a, "127.9.8.7:0");
	CHECK(a->listen_status == TP_LISTEN_OK);

	/* Dialled neither. The address is of the documentation range. */
	CHECK(tp_peer_add(a->tp, 2, "198.51.100.1:7432"));
	WAIT_FOR(a->refusals > 0);
	CHECK(a->refusal == TP_REFUSED_LOOPBACK && a->failures == 0);

	tp_set_secret(a->tp, (const uint8_t *) SECRET_A, strlen(SECRET_A));
	tp_peer_remove(a->tp, 2);
	node_listen(a, "0.0.0.0:0");
	CHECK(a->listen_status == TP_LISTEN_OK);
	node_stop(a);
}

/* ---------- the handshake by itself ---------- */

/* payload of HELLO and CHALLENGE with a name of five bytes, as in handshake.h */
#define INTRO_LEN (2 + 2 + 4 + 4 + 16 + 4 + 4 + 16 + 8 + 32 + 1 + 5)

#define MEMBER_ID_AT (2 + 2 + 4 + 4 + 16)

typedef struct Side
{
	TpIdentity	self;
	HsLocal		local;
	Handshake	hs;
	HsOutput	out;
} Side;

static void
side_init(Side *side, uint32_t id, const char *secret, bool initiator, uint32_t target)
{
	memset(side, 0, sizeof(*side));
	memset(side->self.cluster_id, 5, TP_ID_LEN);
	side->self.member_id = id;
	memset(side->self.instance_id, (int) id, TP_ID_LEN);
	snprintf(side->self.name, sizeof(side->self.name), "side%u", id);
	side->local.self = &side->self;
	side->local.boot_id = id;
	side->local.secret = (const uint8_t *) secret;
	side->local.secret_len = secret != NULL ? strlen(secret) : 0;
	CHECK(tp_hs_init(&side->hs, &side->local, initiator, true, TP_PURPOSE_PEER, target,
					 &side->out));
}

/* Feed the one frame that is in out (behind a preamble or not). */
static HsResult
give(Side *to, const HsOutput *out)
{
	size_t		at = out->len >= FRAME_PREAMBLE_LEN &&
		tp_hs_preamble(out->bytes, out->len) == 2 ? FRAME_PREAMBLE_LEN : 0;
	const char *error;
	size_t		need;
	Frame		frame;

	if (tp_frame_parse(out->bytes + at, out->len - at, HS_PAYLOAD_MAX, &frame, &need,
					   &error) != FRAME_OK)
		return HS_MALFORMED;
	return tp_hs_input(&to->hs, &to->local, &frame, &to->out);
}

static void
test_handshake_runs(const char *secret)
{
	Side		i;
	Side		a;

	side_init(&i, 1, secret, true, 2);
	side_init(&a, 2, secret, false, 0);
	CHECK(give(&a, &i.out) == HS_GO_ON);
	CHECK(give(&i, &a.out) == HS_GO_ON);
	CHECK(give(&a, &i.out) == HS_ASK);
	CHECK(tp_hs_decide(&a.hs, &a.local, TP_ACCEPT, "", &a.out) == HS_ESTABLISHED);
	CHECK(give(&i, &a.out) == HS_ASK);
	CHECK(tp_hs_decide(&i.hs, &i.local, TP_ACCEPT, "", &i.out) == HS_ESTABLISHED);
	CHECK(i.hs.remote.member_id == 2 && a.hs.remote.member_id == 1);
	CHECK(strcmp(i.hs.remote.name, "side2") == 0 && i.hs.version == HS_VERSION_MAX);
}

static void
test_replay_and_reflection(void)
{
	Side		i;
	Side		a;
	Side		victim;
	HsOutput	hello;
	HsOutput	proof;
	HsOutput	accept;

	begin("security: a recorded conversation is worth nothing");
	side_init(&i, 1, SECRET_A, true, 2);
	side_init(&a, 2, SECRET_A, false, 0);
	hello = i.out;
	CHECK(give(&a, &i.out) == HS_GO_ON);
	CHECK(give(&i, &a.out) == HS_GO_ON);
	proof = i.out;
	CHECK(give(&a, &proof) == HS_ASK);
	CHECK(tp_hs_decide(&a.hs, &a.local, TP_ACCEPT, "", &a.out) == HS_ESTABLISHED);
	accept = a.out;

	side_init(&victim, 2, SECRET_A, false, 0);
	CHECK(give(&victim, &hello) == HS_GO_ON);
	CHECK(give(&victim, &proof) == HS_REFUSED && victim.hs.refusal == TP_REFUSED_SECRET);

	begin("security: a proof sent back to its maker is not accepted");
	side_init(&i, 1, SECRET_A, true, 2);
	side_init(&a, 2, SECRET_B, false, 0);	/* does not know the secret */
	CHECK(give(&a, &i.out) == HS_GO_ON);
	CHECK(give(&i, &a.out) == HS_GO_ON);
	proof = i.out;
	{
		/* the same mac, dressed as the acceptor's */
		HsOutput	forged = {.len = 0};
		TpPart		mac = {proof.bytes + FRAME_HEADER_LEN, HS_MAC_LEN};

		tp_frame_header(forged.bytes, FRAME_ACCEPT, 0, 0, 0, &mac, 1);
		memcpy(forged.bytes + FRAME_HEADER_LEN, mac.data, HS_MAC_LEN);
		forged.len = FRAME_HEADER_LEN + HS_MAC_LEN;
		CHECK(give(&i, &forged) == HS_REFUSED && i.hs.refusal == TP_REFUSED_SECRET);
	}

	begin("security: nor is an older acceptance, an empty proof, or a skipped step");
	side_init(&i, 1, SECRET_A, true, 2);
	side_init(&a, 2, SECRET_A, false, 0);
	CHECK(give(&a, &i.out) == HS_GO_ON);
	CHECK(give(&i, &a.out) == HS_GO_ON);
	CHECK(give(&i, &accept) == HS_REFUSED && i.hs.refusal == TP_REFUSED_SECRET);
	{
		HsOutput	empty = {.len = FRAME_HEADER_LEN};

		tp_frame_header(empty.bytes, FRAME_PROOF, 0, 0, 0, NULL, 0);
		CHECK(give(&a, &empty) == HS_REFUSED && a.hs.refusal == TP_REFUSED_SECRET);
	}
	side_init(&a, 2, SECRET_A, false, 0);
	CHECK(give(&a, &proof) == HS_MALFORMED);
	side_init(&i, 1, SECRET_A, true, 2);
	CHECK(give(&i, &accept) == HS_MALFORMED);
}

/* Change one byte of a frame's payload and make its checksum fit again. */
static void
tamper(HsOutput *out, size_t at, uint8_t change)
{
	size_t		start = tp_hs_preamble(out->bytes, out->len) == 2 ? FRAME_PREAMBLE_LEN : 0;
	uint8_t    *frame = out->bytes + start;
	TpPart		part = {frame + FRAME_HEADER_LEN, out->len - start - FRAME_HEADER_LEN};

	frame[FRAME_HEADER_LEN + at] ^= change;
	tp_frame_header(frame, (FrameKind) frame[8], frame[9], frame[10], 0, &part, 1);
}

static void
test_tampering(void)
{
	bool		hello_ok = true;
	bool		challenge_ok = true;

	begin("security: whatever byte of an introduction is changed, both fall out");
	for (size_t at = 0; at < INTRO_LEN; at++)
	{
		Side		i;
		Side		a;

		side_init(&i, 1, SECRET_A, true, 2);
		side_init(&a, 2, SECRET_A, false, 0);
		CHECK(i.out.len == FRAME_PREAMBLE_LEN + FRAME_HEADER_LEN + INTRO_LEN);
		tamper(&i.out, at, 0x04);
		if (give(&a, &i.out) == HS_GO_ON && give(&i, &a.out) == HS_GO_ON)
			hello_ok = hello_ok && give(&a, &i.out) == HS_REFUSED;

		side_init(&i, 1, SECRET_A, true, 2);
		side_init(&a, 2, SECRET_A, false, 0);
		CHECK(give(&a, &i.out) == HS_GO_ON);
		tamper(&a.out, at, 0x04);
		if (give(&i, &a.out) == HS_GO_ON)
			challenge_ok = challenge_ok && give(&a, &i.out) == HS_REFUSED;
	}
	CHECK(hello_ok && challenge_ok);
}

static void
test_checks_of_both_sides(void)
{
	Side		i;
	Side		a;

	begin("security: each side insists on loopback where there is no secret");
	side_init(&i, 1, NULL, true, 2);
	side_init(&a, 2, NULL, false, 0);
	a.hs.guarded = false;
	CHECK(give(&a, &i.out) == HS_REFUSED && a.hs.refusal == TP_REFUSED_LOOPBACK);
	CHECK(give(&i, &a.out) == HS_WAS_REFUSED && i.hs.refusal == TP_REFUSED_LOOPBACK);
	side_init(&i, 1, NULL, true, 2);
	side_init(&a, 2, NULL, false, 0);
	i.hs.guarded = false;
	CHECK(give(&a, &i.out) == HS_GO_ON);
	CHECK(give(&i, &a.out) == HS_REFUSED && i.hs.refusal == TP_REFUSED_LOOPBACK);

	begin("security: the one who dials checks whom it got");
	side_init(&i, 1, NULL, true, 2);
	side_init(&a, 2, NULL, false, 0);
	CHECK(give(&a, &i.out) == HS_GO_ON);
	tamper(&a.out, MEMBER_ID_AT, 0x01);
	CHECK(give(&i, &a.out) == HS_REFUSED && i.hs.refusal == TP_REFUSED_WRONG_MEMBER);

	begin("security: and whether it shares the cluster and the secret");
	side_init(&i, 1, NULL, true, 2);
	side_init(&a, 2, NULL, false, 0);
	CHECK(give(&a, &i.out) == HS_GO_ON);
	tamper(&a.out, 12, 1);
	CHECK(give(&i, &a.out) == HS_REFUSED && i.hs.refusal == TP_REFUSED_CLUSTER);
	side_init(&i, 1, NULL, true, 2);
	side_init(&a, 2, NULL, false, 0);
	CHECK(give(&a, &i.out) == HS_GO_ON);
	i.local.secret_len = 16;
	i.local.secret = (const uint8_t *) SECRET_A;
	CHECK(give(&i, &a.out) == HS_REFUSED && i.hs.refusal == TP_REFUSED_SECRET_MISSING);
}

static void
test_versions(void)
{
	Side		i;
	Side		a;

	begin("security: versions and architectures that do not fit are named");
	side_init(&i, 1, NULL, true, 2);
	side_init(&a, 2, NULL, false, 0);
	tamper(&i.out, 0, HS_VERSION_MIN ^ 9);	/* 9 .. 9 */
	tamper(&i.out, 2, HS_VERSION_MAX ^ 9);
	CHECK(give(&a, &i.out) == HS_REFUSED && a.hs.refusal == TP_REFUSED_VERSION);
	CHECK(give(&i, &a.out) == HS_WAS_REFUSED && i.hs.refusal == TP_REFUSED_VERSION);

	side_init(&i, 1, NULL, true, 2);
	side_init(&a, 2, NULL, false, 0);
	tamper(&i.out, 2, HS_VERSION_MAX ^ 9);	/* 1 .. 9: we choose 1 */
	CHECK(give(&a, &i.out) == HS_GO_ON && a.hs.version == HS_VERSION_MAX);

	side_init(&i, 1, NULL, true, 2);
	side_init(&a, 2, NULL, false, 0);
	tamper(&i.out, 4, 0x05);
	CHECK(give(&a, &i.out) == HS_REFUSED && a.hs.refusal == TP_REFUSED_ARCH);

	begin("security: a stranger's name cannot write into the log");
	side_init(&i, 1, NULL, true, 2);
	side_init(&a, 2, NULL, false, 0);
	tamper(&i.out, INTRO_LEN - 4, 'i' ^ '\n');
	CHECK(give(&a, &i.out) == HS_GO_ON && strcmp(a.hs.remote.name, "s?de1") == 0);
}

/* ---------- the file ---------- */

static TpSecretStatus
try_file(const char *path, const char *content, size_t len, mode_t mode, uint8_t *secret,
		 size_t *secret_len, char *error)
{
	int			fd;

	unlink(path);
	fd = open(path, O_CREAT | O_WRONLY | O_EXCL, 0600);
	CHECK(fd >= 0 && write(fd, content, len) == (ssize_t) len && fchmod(fd, mode) == 0);
	close(fd);
	return tp_read_secret_file(path, secret, secret_len, error);
}

static void
test_secret_file(void)
{
	char		dir[] = "/tmp/pgq_tp_secret_XXXXXX";
	char		path[64];
	char		big[TP_SECRET_MAX_BYTES + 2];
	char		error[TP_TEXT_LEN];
	uint8_t		secret[TP_SECRET_MAX_BYTES];
	size_t		len;

	begin("security: the secret file");
	CHECK(mkdtemp(dir) != NULL);
	snprintf(path, sizeof(path), "%s/secret", dir);
	memset(big, 'x', sizeof(big));

	CHECK(try_file(path, "0123456789abcdef", 16, 0600, secret, &len, error) ==
		  TP_SECRET_OK && len == 16 && memcmp(secret, "0123456789abcdef", 16) == 0);
	CHECK(try_file(path, "0123456789abcdef\n", 17, 0400, secret, &len, error) ==
		  TP_SECRET_OK && len == 16);
	CHECK(try_file(path, "0123456789abcdef\r\n", 18, 0600, secret, &len, error) ==
		  TP_SECRET_OK && len == 16);
	CHECK(try_file(path, "0123456789abcde\n", 16, 0600, secret, &len, error) ==
		  TP_SECRET_TOO_SHORT && len == 0 && strstr(error, "16 bytes") != NULL);
	CHECK(try_file(path, "", 0, 0600, secret, &len, error) == TP_SECRET_TOO_SHORT);
	CHECK(try_file(path, big, TP_SECRET_MAX_BYTES, 0600, secret, &len, error) ==
		  TP_SECRET_OK && len == TP_SECRET_MAX_BYTES);
	CHECK(try_file(path, big, TP_SECRET_MAX_BYTES + 1, 0600, secret, &len, error) ==
		  TP_SECRET_TOO_LONG);
	CHECK(try_file(path, big, 20, 0640, secret, &len, error) == TP_SECRET_WRONG_MODE &&
		  strstr(error, "0600") != NULL);
	CHECK(try_file(path, big, 20, 0604, secret, &len, error) == TP_SECRET_WRONG_MODE);
	if (geteuid() == 0)
	{
		CHECK(try_file(path, big, 20, 0600, secret, &len, error) == TP_SECRET_OK);
		CHECK(chown(path, 65534, 65534) == 0);
		CHECK(tp_read_secret_file(path, secret, &len, error) == TP_SECRET_WRONG_OWNER);
	}
	unlink(path);
	CHECK(tp_read_secret_file(path, secret, &len, error) == TP_SECRET_CANNOT_READ);
	CHECK(tp_read_secret_file(dir, secret, &len, error) == TP_SECRET_NOT_A_FILE);
	CHECK(mkfifo(path, 0600) == 0); /* must not wait for a writer */
	CHECK(tp_read_secret_file(path, secret, &len, error) == TP_SECRET_NOT_A_FILE);
	unlink(path);
	rmdir(dir);
}

void
test_security(void)
{
	begin("security: the handshake, with and without a secret");
	test_handshake_runs(NULL);
	test_handshake_runs(SECRET_A);
	test_replay_and_reflection();
	test_tampering();
	test_checks_of_both_sides();
	test_versions();
	test_secret_file();
	test_pairs();
	test_secret_changes();
	test_loopback_only();
}
