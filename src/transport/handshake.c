/*-------------------------------------------------------------------------
 *
 * handshake.c
 *		The mutual introduction. Protocol and its reasons: handshake.h.
 *
 * Everything up to HS_PROVEN comes from a stranger. What is refused before that
 * (version, architecture, cluster, address that leads to the wrong member) tells
 * a stranger no more than that; what depends on the member table is asked of
 * the caller only afterwards.
 *
 *-------------------------------------------------------------------------
 */
#include "transport/handshake.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <string.h>

#include "transport/tp_assert.h"

#define ARCH_WORD			0x01020304
#define FLAG_SECRET			0x01

/* fixed part of HELLO and CHALLENGE */
#define INTRO_FIXED_LEN		(2 + 2 + 4 + 4 + TP_ID_LEN + 4 + 4 + TP_ID_LEN + 8 + HS_NONCE_LEN + 1)

typedef struct Intro
{
	uint16_t	version_min;
	uint16_t	version_max;
	uint32_t	arch;
	uint8_t		pointer_size;
	uint8_t		purpose;
	uint8_t		flags;
	TpIdentity	who;
	uint32_t	target;
	uint64_t	boot_id;
} Intro;

const char *
tp_refusal_text(TpRefusal why)
{
	switch (why)
	{
		case TP_ACCEPT:
			return "accepted";
		case TP_REFUSED_VERSION:
			return "no protocol version in common";
		case TP_REFUSED_ARCH:
			return "byte order or word size differs";
		case TP_REFUSED_CLUSTER:
			return "the servers belong to different clusters";
		case TP_REFUSED_WRONG_MEMBER:
			return "the address leads to another member";
		case TP_REFUSED_UNKNOWN_MEMBER:
			return "not a member of this cluster";
		case TP_REFUSED_INSTANCE:
			return "this member id belongs to another data directory";
		case TP_REFUSED_NAME:
			return "the node name is taken";
		case TP_REFUSED_REMOVED:
			return "the member was removed from the cluster";
		case TP_REFUSED_NOT_READY:
			return "not ready yet";
		case TP_REFUSED_SECRET:
			return "the shared secrets differ";
		case TP_REFUSED_SECRET_MISSING:
			return "only one of the two servers has a shared secret (quorum.secret_file)";
		case TP_REFUSED_LOOPBACK:
			return "a non-loopback address needs quorum.ssl or quorum.secret_file";
		case TP_REFUSED_NO_CLUSTER:
			return "the server asked is not part of a cluster";
		case TP_REFUSED_PROTOCOL:
			return "malformed handshake";
		case TP_REFUSED_INTERNAL:
			return "internal error";
		case TP_REFUSED_CERTIFICATE:
			return "the certificate is not this member's";
	}
	return "unknown reason";
}

void
tp_hs_clean_text(char *dst, size_t size, const uint8_t *src, size_t len)
{
	size_t		n = len < size - 1 ? len : size - 1;

	TP_ASSERT(size > 0);
	for (size_t i = 0; i < n; i++)
		dst[i] = (src[i] >= 0x20 && src[i] != 0x7F) ? (char) src[i] : '?';
	dst[n] = '\0';
}

int
tp_hs_preamble(const uint8_t *bytes, size_t len)
{
	size_t		n = len < FRAME_PREAMBLE_LEN ? len : FRAME_PREAMBLE_LEN;

	if (memcmp(bytes, FRAME_PREAMBLE, n) != 0)
		return 0;
	return n < FRAME_PREAMBLE_LEN ? 1 : 2;
}

/* ---------- output ---------- */

static void
out_preamble(HsOutput *out)
{
	memcpy(out->bytes + out->len, FRAME_PREAMBLE, FRAME_PREAMBLE_LEN);
	out->len += FRAME_PREAMBLE_LEN;
}

static void
out_frame(HsOutput *out, FrameKind kind, const uint8_t *payload, size_t len)
{
	TpPart		part = {payload, len};

	TP_ASSERT(len <= HS_PAYLOAD_MAX);
	TP_ASSERT(out->len + FRAME_HEADER_LEN + len <= sizeof(out->bytes));
	tp_frame_header(out->bytes + out->len, kind, 0, 0, 0, &part, 1);
	out->len += FRAME_HEADER_LEN;
	if (len > 0)
		memcpy(out->bytes + out->len, payload, len);
	out->len += len;
}

static HsResult
refuse(Handshake *hs, TpRefusal why, const char *detail, HsOutput *out)
{
	uint8_t		payload[1 + TP_TEXT_LEN];
	size_t		len;

	TP_ASSERT(why != TP_ACCEPT);
	hs->state = HS_FAILED;
	hs->refusal = why;
	snprintf(hs->detail, sizeof(hs->detail), "%s", detail);

	len = strlen(hs->detail);
	payload[0] = (uint8_t) why;
	memcpy(payload + 1, hs->detail, len);
	out_frame(out, FRAME_REFUSE, payload, 1 + len);
	return HS_REFUSED;
}

static HsResult
malformed(Handshake *hs, const char *detail)
{
	hs->state = HS_FAILED;
	hs->refusal = TP_REFUSED_PROTOCOL;
	snprintf(hs->detail, sizeof(hs->detail), "%s", detail);
	return HS_MALFORMED;
}

/* ---------- introductions ---------- */

static uint8_t *
put_bytes(uint8_t *p, const void *src, size_t len)
{
	memcpy(p, src, len);
	return p + len;
}

/* Our own HELLO or CHALLENGE, into out and into the transcript. */
static void
introduce(Handshake *hs, const HsLocal *local, FrameKind kind, HsOutput *out)
{
	uint8_t		payload[HS_PAYLOAD_MAX];
	uint8_t    *p = payload;
	uint32_t	arch = ARCH_WORD;
	bool		hello = kind == FRAME_HELLO;
	size_t		name_len = strnlen(local->self->name, TP_NAME_LEN - 1);

	tp_put_u16(p, hello ? HS_VERSION_MIN : hs->version);
	tp_put_u16(p + 2, hello ? HS_VERSION_MAX : hs->version);
	memcpy(p + 4, &arch, 4);
	p[8] = sizeof(void *);
	p[9] = (uint8_t) hs->purpose;
	p[10] = local->secret_len > 0 ? FLAG_SECRET : 0;
	p[11] = 0;
	p = put_bytes(p + 12, local->self->cluster_id, TP_ID_LEN);
	tp_put_u32(p, local->self->member_id);
	tp_put_u32(p + 4, hello ? hs->target : hs->remote.member_id);
	p = put_bytes(p + 8, local->self->instance_id, TP_ID_LEN);
	tp_put_u64(p, local->boot_id);
	p = put_bytes(p + 8, hs->nonce, HS_NONCE_LEN);
	*p++ = (uint8_t) name_len;
	p = put_bytes(p, local->self->name, name_len);
	TP_ASSERT((size_t) (p - payload) == INTRO_FIXED_LEN + name_len);

	out_frame(out, kind, payload, (size_t) (p - payload));
	tp_put_u16(hs->transcript + hs->transcript_len, (uint16_t) (p - payload));
	memcpy(hs->transcript + hs->transcript_len + 2, payload, (size_t) (p - payload));
	hs->transcript_len += 2 + (size_t) (p - payload);
}

/* The other's HELLO or CHALLENGE. False: malformed. */
static bool
read_intro(Handshake *hs, const Frame *frame, Intro *intro)
{
	const uint8_t *p = frame->payload;
	size_t		name_len;

	memset(intro, 0, sizeof(*intro));
	if (frame->len < INTRO_FIXED_LEN || frame->len > HS_PAYLOAD_MAX)
		return false;

	intro->version_min = tp_get_u16(p);
	intro->version_max = tp_get_u16(p + 2);
	memcpy(&intro->arch, p + 4, 4);
	intro->pointer_size = p[8];
	intro->purpose = p[9];
	intro->flags = p[10];
	p += 12;
	memcpy(intro->who.cluster_id, p, TP_ID_LEN);
	p += TP_ID_LEN;
	intro->who.member_id = tp_get_u32(p);
	intro->target = tp_get_u32(p + 4);
	p += 8;
	memcpy(intro->who.instance_id, p, TP_ID_LEN);
	p += TP_ID_LEN;
	intro->boot_id = tp_get_u64(p);
	p += 8 + HS_NONCE_LEN;

	/* A later version may have more behind the name. */
	name_len = *p++;
	if (name_len == 0 || name_len >= TP_NAME_LEN || INTRO_FIXED_LEN + name_len > frame->len)
		return false;
	tp_hs_clean_text(intro->who.name, TP_NAME_LEN, p, name_len);

	TP_ASSERT(hs->transcript_len + 2 + frame->len <= sizeof(hs->transcript));
	tp_put_u16(hs->transcript + hs->transcript_len, (uint16_t) frame->len);
	memcpy(hs->transcript + hs->transcript_len + 2, frame->payload, frame->len);
	hs->transcript_len += 2 + frame->len;
	return true;
}

static bool
id_is_zero(const uint8_t *id)
{
	static const uint8_t zero[TP_ID_LEN];

	return memcmp(id, zero, TP_ID_LEN) == 0;
}

/* Checks that both sides make of the other's introduction, in this order. */
static TpRefusal
check_intro(const Handshake *hs, const HsLocal *local, const Intro *intro)
{
	const TpIdentity *self = local->self;
	bool		remote_secret = (intro->flags & FLAG_SECRET) != 0;

	if (intro->version_min > HS_VERSION_MAX || intro->version_max < HS_VERSION_MIN ||
		intro->version_min > intro->version_max)
		return TP_REFUSED_VERSION;
	if (intro->arch != ARCH_WORD || intro->pointer_size != sizeof(void *))
		return TP_REFUSED_ARCH;
	if (intro->purpose != TP_PURPOSE_PEER && intro->purpose != TP_PURPOSE_JOIN)
		return TP_REFUSED_PROTOCOL;

	/* One who joins may have no cluster; only a member can be asked. */
	if (!hs->initiator && id_is_zero(self->cluster_id))
		return TP_REFUSED_NO_CLUSTER;
	if (memcmp(intro->who.cluster_id, self->cluster_id, TP_ID_LEN) != 0 &&
		!(intro->purpose == TP_PURPOSE_JOIN &&
		  id_is_zero(hs->initiator ? self->cluster_id : intro->who.cluster_id)))
		return TP_REFUSED_CLUSTER;

	if (remote_secret != (local->secret_len > 0))
		return TP_REFUSED_SECRET_MISSING;
	if (local->secret_len == 0 && !hs->guarded)
		return TP_REFUSED_LOOPBACK;
	return TP_ACCEPT;
}

/* ---------- proofs ---------- */

static bool
compute_mac(const Handshake *hs, const HsLocal *local, bool of_initiator, uint8_t *mac)
{
	static const char label_i[] = "pg_quorum initiator";
	static const char label_a[] = "pg_quorum acceptor";
	const char *label = of_initiator ? label_i : label_a;
	size_t		label_len = of_initiator ? sizeof(label_i) : sizeof(label_a);
	uint8_t		text[sizeof(label_i) + sizeof(hs->transcript)];
	unsigned int mac_len = 0;

	TP_ASSERT(local->secret_len > 0 && local->secret_len <= TP_SECRET_MAX_BYTES);
	memcpy(text, label, label_len); /* with its zero byte */
	memcpy(text + label_len, hs->transcript, hs->transcript_len);
	return HMAC(EVP_sha256(), local->secret, (int) local->secret_len, text,
				label_len + hs->transcript_len, mac, &mac_len) != NULL &&
		mac_len == HS_MAC_LEN;
}

/* Our PROOF or ACCEPT. False: OpenSSL failed. */
static bool
prove(const Handshake *hs, const HsLocal *local, HsOutput *out)
{
	uint8_t		mac[HS_MAC_LEN];
	size_t		len = 0;

	if (local->secret_len > 0)
	{
		if (!compute_mac(hs, local, hs->initiator, mac))
			return false;
		len = HS_MAC_LEN;
	}
	out_frame(out, hs->initiator ? FRAME_PROOF : FRAME_ACCEPT, mac, len);
	return true;
}

static TpRefusal
check_proof(const Handshake *hs, const HsLocal *local, const Frame *frame)
{
	uint8_t		mac[HS_MAC_LEN];

	/*
	 * The secret may have been set or taken away since the introductions, in
	 * which case the lengths disagree.
	 */
	if (frame->len != (local->secret_len > 0 ? HS_MAC_LEN : 0))
		return TP_REFUSED_SECRET;
	if (local->secret_len == 0)
		return TP_ACCEPT;
	if (!compute_mac(hs, local, !hs->initiator, mac))
		return TP_REFUSED_INTERNAL;
	return CRYPTO_memcmp(mac, frame->payload, HS_MAC_LEN) == 0 ? TP_ACCEPT :
		TP_REFUSED_SECRET;
}

/* ---------- the steps ---------- */

static HsResult
on_hello(Handshake *hs, const HsLocal *local, const Frame *frame, HsOutput *out)
{
	Intro		intro;
	TpRefusal	why;

	out_preamble(out);
	if (!read_intro(hs, frame, &intro))
	{
		out->len = 0;
		return malformed(hs, "malformed HELLO");
	}
	hs->remote = intro.who;
	hs->remote_boot_id = intro.boot_id;
	why = check_intro(hs, local, &intro);
	if (why != TP_ACCEPT)
		return refuse(hs, why, "", out);

	hs->purpose = (TpPurpose) intro.purpose;
	hs->version = intro.version_max < HS_VERSION_MAX ? intro.version_max : HS_VERSION_MAX;
	if (hs->purpose == TP_PURPOSE_PEER)
	{
		if (intro.who.member_id == 0)
			return refuse(hs, TP_REFUSED_UNKNOWN_MEMBER, "", out);
		if (intro.who.member_id == local->self->member_id)
			return refuse(hs, TP_REFUSED_WRONG_MEMBER,
						  "both sides say that they are the same member", out);
		if (intro.target != local->self->member_id)
			return refuse(hs, TP_REFUSED_WRONG_MEMBER, "", out);
	}

	introduce(hs, local, FRAME_CHALLENGE, out);
	hs->state = HS_EXPECT_PROOF;
	return HS_GO_ON;
}

static HsResult
on_challenge(Handshake *hs, const HsLocal *local, const Frame *frame, HsOutput *out)
{
	Intro		intro;
	TpRefusal	why;

	if (!read_intro(hs, frame, &intro) || intro.version_min != intro.version_max ||
		intro.purpose != (uint8_t) hs->purpose)
		return malformed(hs, "malformed CHALLENGE");
	hs->remote = intro.who;
	hs->remote_boot_id = intro.boot_id;
	hs->version = intro.version_max;
	why = check_intro(hs, local, &intro);
	if (why != TP_ACCEPT)
		return refuse(hs, why, "", out);
	if (hs->target != 0 && intro.who.member_id != hs->target)
		return refuse(hs, TP_REFUSED_WRONG_MEMBER, "", out);
	if (intro.target != local->self->member_id)
		return malformed(hs, "CHALLENGE for another member");

	if (!prove(hs, local, out))
		return refuse(hs, TP_REFUSED_INTERNAL, "", out);
	hs->state = HS_EXPECT_ACCEPT;
	return HS_GO_ON;
}

/* PROOF at the acceptor, ACCEPT at the initiator. */
static HsResult
on_proof(Handshake *hs, const HsLocal *local, const Frame *frame, HsOutput *out)
{
	TpRefusal	why = check_proof(hs, local, frame);

	if (why != TP_ACCEPT)
		return refuse(hs, why, "", out);
	hs->state = HS_PROVEN;
	return HS_ASK;
}

HsResult
tp_hs_decide(Handshake *hs, const HsLocal *local, TpRefusal refusal, const char *detail,
			 HsOutput *out)
{
	TP_ASSERT(hs->state == HS_PROVEN);

	out->len = 0;
	if (refusal != TP_ACCEPT)
		return refuse(hs, refusal, detail, out);
	if (!hs->initiator && !prove(hs, local, out))
		return refuse(hs, TP_REFUSED_INTERNAL, "", out);
	hs->state = HS_DONE;
	return HS_ESTABLISHED;
}

static HsResult
on_refuse(Handshake *hs, const Frame *frame)
{
	if (frame->len < 1 || frame->payload[0] == TP_ACCEPT)
		return malformed(hs, "malformed REFUSE");
	hs->state = HS_FAILED;
	hs->refusal = (TpRefusal) frame->payload[0];
	tp_hs_clean_text(hs->detail, sizeof(hs->detail), frame->payload + 1, frame->len - 1);
	return HS_WAS_REFUSED;
}

bool
tp_hs_init(Handshake *hs, const HsLocal *local, bool initiator, bool guarded,
		   TpPurpose purpose, uint32_t target, HsOutput *out)
{
	memset(hs, 0, sizeof(*hs));
	out->len = 0;
	hs->initiator = initiator;
	hs->guarded = guarded;
	hs->purpose = purpose;
	hs->target = target;
	if (RAND_bytes(hs->nonce, HS_NONCE_LEN) != 1)
		return false;
	hs->state = HS_EXPECT_HELLO;
	if (initiator)
	{
		out_preamble(out);
		introduce(hs, local, FRAME_HELLO, out);
		hs->state = HS_EXPECT_CHALLENGE;
	}
	return true;
}

HsResult
tp_hs_input(Handshake *hs, const HsLocal *local, const Frame *frame, HsOutput *out)
{
	TP_ASSERT(hs->state < HS_PROVEN);

	out->len = 0;
	if (frame->kind == FRAME_REFUSE && hs->state != HS_EXPECT_HELLO)
		return on_refuse(hs, frame);

	if (hs->state == HS_EXPECT_HELLO && frame->kind == FRAME_HELLO)
		return on_hello(hs, local, frame, out);
	if (hs->state == HS_EXPECT_CHALLENGE && frame->kind == FRAME_CHALLENGE)
		return on_challenge(hs, local, frame, out);
	if ((hs->state == HS_EXPECT_PROOF && frame->kind == FRAME_PROOF) ||
		(hs->state == HS_EXPECT_ACCEPT && frame->kind == FRAME_ACCEPT))
		return on_proof(hs, local, frame, out);
	return malformed(hs, "unexpected frame in the handshake");
}
