/*-------------------------------------------------------------------------
 *
 * frame.c
 *		Frames to bytes and back, and messages out of frames. See frame.h for
 *		the format.
 *
 *-------------------------------------------------------------------------
 */
#include "transport/frame.h"

#include <stdlib.h>
#include <string.h>

#include "storage/crc32c.h"
#include "transport/tp_assert.h"

/* First allocation for a message of several frames. */
#define ASSEMBLY_START_BYTES (64 * 1024)

void
tp_put_u16(uint8_t *p, uint16_t v)
{
	p[0] = (uint8_t) v;
	p[1] = (uint8_t) (v >> 8);
}

void
tp_put_u32(uint8_t *p, uint32_t v)
{
	tp_put_u16(p, (uint16_t) v);
	tp_put_u16(p + 2, (uint16_t) (v >> 16));
}

void
tp_put_u64(uint8_t *p, uint64_t v)
{
	tp_put_u32(p, (uint32_t) v);
	tp_put_u32(p + 4, (uint32_t) (v >> 32));
}

uint16_t
tp_get_u16(const uint8_t *p)
{
	return (uint16_t) (p[0] | p[1] << 8);
}

uint32_t
tp_get_u32(const uint8_t *p)
{
	return (uint32_t) tp_get_u16(p) | (uint32_t) tp_get_u16(p + 2) << 16;
}

uint64_t
tp_get_u64(const uint8_t *p)
{
	return (uint64_t) tp_get_u32(p) | (uint64_t) tp_get_u32(p + 4) << 32;
}

static bool
kind_known(uint8_t kind)
{
	return (kind >= FRAME_HELLO && kind <= FRAME_REFUSE) || kind == FRAME_DATA;
}

FrameStatus
tp_frame_parse(const uint8_t *buf, size_t len, size_t max_payload, Frame *frame, size_t *need,
			const char **error)
{
	uint32_t	payload_len;
	uint32_t	crc;

	TP_ASSERT(max_payload <= TP_FRAME_MAX_BYTES);

	if (len < FRAME_HEADER_LEN)
	{
		*need = FRAME_HEADER_LEN;
		return FRAME_MORE;
	}

	payload_len = tp_get_u32(buf + 4);
	if (payload_len > max_payload)
	{
		*error = "frame too long";
		return FRAME_BAD;
	}
	if (!kind_known(buf[8]) || (buf[9] & ~FRAME_ALL_FLAGS) != 0 || buf[11] != 0)
	{
		*error = "malformed frame header";
		return FRAME_BAD;
	}
	if (len < FRAME_HEADER_LEN + (size_t) payload_len)
	{
		*need = FRAME_HEADER_LEN + (size_t) payload_len;
		return FRAME_MORE;
	}

	crc = pgq_crc32c_start();
	crc = pgq_crc32c_add(crc, buf + 4, FRAME_HEADER_LEN - 4 + (size_t) payload_len);
	if (pgq_crc32c_finish(crc) != tp_get_u32(buf))
	{
		*error = "frame checksum does not match";
		return FRAME_BAD;
	}

	frame->kind = (FrameKind) buf[8];
	frame->flags = buf[9];
	frame->type = buf[10];
	frame->total = tp_get_u32(buf + 12);
	frame->payload = buf + FRAME_HEADER_LEN;
	frame->len = payload_len;
	return FRAME_OK;
}

void
tp_frame_header(uint8_t *header, FrameKind kind, uint8_t flags, uint8_t type, uint32_t total,
			 const TpPart *parts, int nparts)
{
	size_t		len = 0;
	uint32_t	crc = pgq_crc32c_start();

	for (int i = 0; i < nparts; i++)
		len += parts[i].len;
	TP_ASSERT(len <= TP_FRAME_MAX_BYTES);

	tp_put_u32(header + 4, (uint32_t) len);
	header[8] = (uint8_t) kind;
	header[9] = flags;
	header[10] = type;
	header[11] = 0;
	tp_put_u32(header + 12, total);

	crc = pgq_crc32c_add(crc, header + 4, FRAME_HEADER_LEN - 4);
	for (int i = 0; i < nparts; i++)
		crc = pgq_crc32c_add(crc, parts[i].data, parts[i].len);
	tp_put_u32(header, pgq_crc32c_finish(crc));
}

/*
 * What must hold for a data frame given what came before it in its lane.
 * Returns NULL, or what is wrong.
 */
static const char *
data_frame_error(const Assembly *lane, const Frame *frame, size_t max_message)
{
	bool		first = (frame->flags & FRAME_FIRST) != 0;
	bool		last = (frame->flags & FRAME_LAST) != 0;
	size_t		have = first ? 0 : lane->have;
	size_t		total = first ? frame->total : lane->total;

	if (first == lane->open)
		return first ? "message inside a message" : "fragment without a beginning";
	if (total > max_message)
		return "message too long";
	if (!first && (frame->total != 0 || frame->type != 0))
		return "malformed fragment";
	if (frame->len == 0 && total != 0)
		return "empty fragment";
	if (frame->len > total - have)
		return "fragment beyond the end of its message";
	if (last != (have + frame->len == total))
		return "message length does not match its fragments";
	return NULL;
}

/*
 * Room for len more bytes: doubled each time, so that what is allocated is
 * never more than twice what arrived (or one small block), however long the
 * sender claims that the message will be.
 */
static bool
assembly_reserve(Assembly *lane, size_t len)
{
	size_t		size = lane->size;
	uint8_t    *bytes;

	TP_ASSERT(len <= lane->total - lane->have);
	if (lane->have + len <= size)
		return true;

	if (size == 0)
		size = ASSEMBLY_START_BYTES;
	while (size < lane->have + len)
		size *= 2;
	if (size > lane->total)
		size = lane->total;
	bytes = realloc(lane->bytes, size);
	if (bytes == NULL)
		return false;
	lane->bytes = bytes;
	lane->size = size;
	return true;
}

AssemblyStatus
tp_assembly_add(Assembly *lane, const Frame *frame, size_t max_message, TpMessage *msg,
			 const char **error)
{
	TP_ASSERT(frame->kind == FRAME_DATA);
	TP_ASSERT(lane->open || lane->bytes == NULL);

	*error = data_frame_error(lane, frame, max_message);
	if (*error != NULL)
		return ASSEMBLY_BAD;

	msg->lane = (frame->flags & FRAME_BULK) ? TP_BULK : TP_URGENT;
	if ((frame->flags & FRAME_FIRST) && (frame->flags & FRAME_LAST))
	{
		msg->type = frame->type;
		msg->data = frame->payload;
		msg->len = frame->len;
		msg->heap = NULL;
		return ASSEMBLY_DONE;
	}

	if (frame->flags & FRAME_FIRST)
	{
		lane->open = true;
		lane->type = frame->type;
		lane->total = frame->total;
		lane->have = 0;
	}
	if (!assembly_reserve(lane, frame->len))
	{
		*error = "out of memory";
		return ASSEMBLY_BAD;
	}
	memcpy(lane->bytes + lane->have, frame->payload, frame->len);
	lane->have += frame->len;
	if (!(frame->flags & FRAME_LAST))
		return ASSEMBLY_MORE;

	TP_ASSERT(lane->have == lane->total);
	msg->type = lane->type;
	msg->data = lane->bytes;
	msg->len = lane->total;
	msg->heap = lane->bytes;
	memset(lane, 0, sizeof(*lane));
	return ASSEMBLY_DONE;
}

void
tp_assembly_free(Assembly *lane)
{
	free(lane->bytes);
	memset(lane, 0, sizeof(*lane));
}
