/*-------------------------------------------------------------------------
 *
 * frame.h
 *		The frame: what travels over a connection. No I/O, no allocation but
 *		that of messages being put together.
 *
 * Each side of a connection first sends the eight bytes "PGQUORUM", then
 * frames. All integers are little-endian.
 *
 *		offset	size
 *			 0	 4	CRC-32C of everything behind it, payload included
 *			 4	 4	payload length, at most TP_FRAME_MAX_BYTES
 *			 8	 1	kind (FrameKind)
 *			 9	 1	flags (data frames: first, last, bulk)
 *			10	 1	message type (first data frame of a message)
 *			11	 1	zero
 *			12	 4	length of the whole message (first data frame), else zero
 *			16		payload
 *
 * This header, the eight bytes and the frame kinds HELLO and REFUSE stay as
 * they are in every protocol version, so that two versions that cannot talk
 * can at least say so.
 *
 * A message is one data frame (first and last) or several; those of one lane
 * follow each other in order, those of the other lane may come between.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGQ_TP_FRAME_H
#define PGQ_TP_FRAME_H

#include "transport/transport.h"

#define FRAME_PREAMBLE		"PGQUORUM"
#define FRAME_PREAMBLE_LEN	8
#define FRAME_HEADER_LEN	16

typedef enum FrameKind
{
	FRAME_HELLO = 1,
	FRAME_CHALLENGE = 2,
	FRAME_PROOF = 3,
	FRAME_ACCEPT = 4,
	FRAME_REFUSE = 5,
	FRAME_DATA = 16
} FrameKind;

#define FRAME_FIRST		0x01
#define FRAME_LAST		0x02
#define FRAME_BULK		0x04
#define FRAME_ALL_FLAGS	0x07

typedef struct Frame
{
	FrameKind	kind;
	uint8_t		flags;
	uint8_t		type;
	uint32_t	total;
	const uint8_t *payload;
	uint32_t	len;
} Frame;

typedef enum FrameStatus
{
	FRAME_OK,					/* FRAME_HEADER_LEN + len bytes consumed */
	FRAME_MORE,					/* *need bytes must be there to go on */
	FRAME_BAD					/* *error says why */
} FrameStatus;

/*
 * Look at the start of buf. Nothing of the payload is needed to refuse a
 * length above max_payload. The result's payload points into buf.
 */
extern FrameStatus tp_frame_parse(const uint8_t *buf, size_t len, size_t max_payload,
							   Frame *frame, size_t *need, const char **error);

/* Write the header of a frame whose payload is the given parts. */
extern void tp_frame_header(uint8_t *header, FrameKind kind, uint8_t flags, uint8_t type,
						 uint32_t total, const TpPart *parts, int nparts);

/* Little-endian integers. */
extern void tp_put_u16(uint8_t *p, uint16_t v);
extern void tp_put_u32(uint8_t *p, uint32_t v);
extern void tp_put_u64(uint8_t *p, uint64_t v);
extern uint16_t tp_get_u16(const uint8_t *p);
extern uint32_t tp_get_u32(const uint8_t *p);
extern uint64_t tp_get_u64(const uint8_t *p);

/* ---------- putting messages together ---------- */

/*
 * One lane's message in the making. Invariants: have <= size <= total;
 * open implies 0 < have < total (an empty message is always one frame).
 */
typedef struct Assembly
{
	bool		open;
	uint8_t		type;
	uint8_t    *bytes;
	size_t		have;
	size_t		size;			/* allocated: grows as data arrives */
	size_t		total;			/* as the first frame claimed */
} Assembly;

typedef enum AssemblyStatus
{
	ASSEMBLY_MORE,
	ASSEMBLY_DONE,				/* *msg is filled: see below */
	ASSEMBLY_BAD				/* *error says why; the connection must go */
} AssemblyStatus;

/*
 * Take one data frame of this lane. When a message is complete: it either
 * lies in the frame (msg->heap NULL) or in msg->heap, which the caller frees.
 */
extern AssemblyStatus tp_assembly_add(Assembly *lane, const Frame *frame, size_t max_message,
								   TpMessage *msg, const char **error);
extern void tp_assembly_free(Assembly *lane);

#endif							/* PGQ_TP_FRAME_H */
