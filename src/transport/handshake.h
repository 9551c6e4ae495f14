/*-------------------------------------------------------------------------
 *
 * handshake.h
 *		Who is there: the mutual introduction at the start of a connection, as
 *		a state machine without I/O.
 *
 *		initiator (I)						acceptor (A)
 *		HELLO(identity, nonce)		->
 *									<-		CHALLENGE(identity, nonce)
 *		PROOF(mac_i)				->
 *									<-		ACCEPT(mac_a)
 *
 *		mac_i = HMAC-SHA-256(secret, "pg_quorum initiator" 0 HELLO CHALLENGE)
 *		mac_a = HMAC-SHA-256(secret, "pg_quorum acceptor" 0 HELLO CHALLENGE)
 *
 * HELLO and CHALLENGE stand for the whole payloads, each behind its length. They
 * hold versions, cluster id, both member ids, instance ids, names, purpose and
 * both nonces, so that a proof is good for this one conversation, in this one
 * direction: replayed, reflected or spliced into another one it fails.
 * The initiator proves first: whoever connects to the port gets nothing to
 * guess the secret from. Without a secret both macs are empty, and both sides
 * insist that the other is on a loopback address, or that TLS is in between.
 *
 * Instead of its next message either side may send REFUSE(reason, text), so that
 * both logs can say what is wrong.
 *
 * Payload of HELLO and CHALLENGE (little-endian, but for the arch word):
 *		u16 lowest, u16 highest protocol version (CHALLENGE: the chosen one twice)
 *		u32 arch word 0x01020304 in the sender's own byte order
 *		u8 size of a pointer, u8 purpose, u8 flags (1: has a secret), u8 zero
 *		16 cluster id, u32 member id, u32 member id of the other as expected
 *		16 instance id, u64 boot id (of this run of the transport), 32 nonce
 *		u8 length of the name, name
 * PROOF, ACCEPT: 32 bytes, or none. REFUSE: u8 TpRefusal, text.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGQ_TP_HANDSHAKE_H
#define PGQ_TP_HANDSHAKE_H

#include "transport/frame.h"

#define HS_VERSION_MIN		1
#define HS_VERSION_MAX		1
#define HS_NONCE_LEN		32
#define HS_MAC_LEN			32
#define HS_PAYLOAD_MAX		512 /* of any handshake frame */

/* What this side brings along; must outlive the handshake's calls. */
typedef struct HsLocal
{
	const TpIdentity *self;
	uint64_t	boot_id;
	const uint8_t *secret;
	size_t		secret_len;		/* 0: none */
} HsLocal;

typedef enum HsState
{
	HS_EXPECT_HELLO,			/* acceptor */
	HS_EXPECT_CHALLENGE,		/* initiator */
	HS_EXPECT_PROOF,			/* acceptor */
	HS_EXPECT_ACCEPT,			/* initiator */
	HS_PROVEN,					/* the caller is asked: tp_hs_decide */
	HS_DONE,
	HS_FAILED
} HsState;

typedef enum HsResult
{
	HS_GO_ON,					/* send what is in out, wait for a frame */
	HS_ASK,						/* call tp_hs_decide now */
	HS_ESTABLISHED,				/* send what is in out, go over to data */
	HS_REFUSED,					/* send what is in out, close; see refusal */
	HS_WAS_REFUSED,				/* close; see refusal, detail */
	HS_MALFORMED				/* close, say nothing; see detail */
} HsResult;

/* Bytes to send: a preamble and two frames at most. */
typedef struct HsOutput
{
	size_t		len;
	uint8_t		bytes[FRAME_PREAMBLE_LEN + 2 * (FRAME_HEADER_LEN + HS_PAYLOAD_MAX)];
} HsOutput;

typedef struct Handshake
{
	HsState		state;
	bool		initiator;
	bool		guarded;		/* a loopback address, or by TLS */
	TpPurpose	purpose;
	uint32_t	target;			/* initiator: whom we expect, 0 anybody */
	uint8_t		nonce[HS_NONCE_LEN];

	/* known from HELLO or CHALLENGE on; to be believed from HS_PROVEN on */
	TpIdentity	remote;
	uint64_t	remote_boot_id;
	uint16_t	version;

	/* lengths and payloads of HELLO and CHALLENGE */
	uint8_t		transcript[2 * (2 + HS_PAYLOAD_MAX)];
	size_t		transcript_len;

	TpRefusal	refusal;
	char		detail[TP_TEXT_LEN];
} Handshake;

/*
 * Begin. The initiator's HELLO is put into out (which starts empty). False: no
 * random bytes to be had.
 */
extern bool tp_hs_init(Handshake *hs, const HsLocal *local, bool initiator, bool guarded,
					   TpPurpose purpose, uint32_t target, HsOutput *out);

/* Take one frame. out is emptied first. */
extern HsResult tp_hs_input(Handshake *hs, const HsLocal *local, const Frame *frame,
							HsOutput *out);

/* After HS_ASK: the caller's decision. */
extern HsResult tp_hs_decide(Handshake *hs, const HsLocal *local, TpRefusal refusal,
							 const char *detail, HsOutput *out);

/* How much of a preamble is right: 0 wrong, 1 so far, 2 complete. */
extern int	tp_hs_preamble(const uint8_t *bytes, size_t len);

/* Copy text from the network so that it can be printed. */
extern void tp_hs_clean_text(char *dst, size_t size, const uint8_t *src, size_t len);

#endif							/* PGQ_TP_HANDSHAKE_H */
