/*-------------------------------------------------------------------------
 *
 * codec.c
 *		Messages as bytes.
 *
 * Little-endian. A message is
 *
 *	offset	size
 *		0	4		magic "PQM" and version 1
 *		4	1		type
 *		5	1		flags: 1 reject, 2 transfer
 *		6	2		reserved, 0
 *		8	4		from
 *		12	4		to
 *		16	8		term
 *		24	8		index
 *		32	8		log_term
 *		40	8		commit
 *		48	8		hint
 *		56	8		context
 *		64	16		stamp: physical_us, logical, node
 *		80	16		instance
 *		96	4		number of entries
 *		100	4		reserved, 0
 *	then for each entry
 *		0	8		term
 *		8	16		stamp
 *		24	16		token: node, boot, counter
 *		40	8		index
 *		48	4		length of the payload, 0xffffffff: none
 *		52	1		type
 *		53	3		reserved, 0
 *	then the payloads, one behind the other.
 *
 * Decoding trusts nothing: every length is checked against what is there before
 * it is used, entries must be consecutive and terms in order.
 *
 *-------------------------------------------------------------------------
 */
#include <stdlib.h>
#include <string.h>

#include "raft/log.h"
#include "raft/raft_assert.h"
#include "raft/raft_internal.h"
#include "raft/wire.h"

#define MSG_HEAD	104
#define ENTRY_HEAD	RAFT_ENTRY_OVERHEAD
#define NO_PAYLOAD	UINT32_MAX

static const uint8_t msg_magic[4] = {'P', 'Q', 'M', 1};

static void
put_stamp(uint8_t *p, RaftStamp s)
{
	put_u64(p, (uint64_t) s.physical_us);
	put_u32(p + 8, s.logical);
	put_u32(p + 12, s.node);
}

static RaftStamp
get_stamp(const uint8_t *p)
{
	RaftStamp	s;

	s.physical_us = (int64_t) get_u64(p);
	s.logical = get_u32(p + 8);
	s.node = get_u32(p + 12);
	return s;
}

uint8_t *
raft_msg_encode(const RaftMsg *msg, RaftPartFn part, void *arg)
{
	size_t		len = MSG_HEAD + (size_t) msg->nentries * ENTRY_HEAD;
	uint8_t    *head = calloc(1, len);
	uint8_t    *p = head;

	if (head == NULL)
		return NULL;
	memcpy(p, msg_magic, 4);
	p[4] = msg->type;
	p[5] = (uint8_t) ((msg->reject ? 1 : 0) | (msg->transfer ? 2 : 0));
	put_u32(p + 8, msg->from);
	put_u32(p + 12, msg->to);
	put_u64(p + 16, msg->term);
	put_u64(p + 24, msg->index);
	put_u64(p + 32, msg->log_term);
	put_u64(p + 40, msg->commit);
	put_u64(p + 48, msg->hint);
	put_u64(p + 56, msg->context);
	put_stamp(p + 64, msg->stamp);
	memcpy(p + 80, msg->instance, RAFT_INSTANCE_LEN);
	put_u32(p + 96, msg->nentries);
	p += MSG_HEAD;
	for (uint32_t i = 0; i < msg->nentries; i++, p += ENTRY_HEAD)
	{
		const RaftEntry *e = &msg->entries[i];

		put_u64(p, e->term);
		put_stamp(p + 8, e->stamp);
		put_u32(p + 24, e->token.node);
		put_u32(p + 28, e->token.boot);
		put_u64(p + 32, e->token.counter);
		put_u64(p + 40, e->index);
		put_u32(p + 48, e->data != NULL ? e->data->len : NO_PAYLOAD);
		p[52] = e->type;
	}
	RAFT_ASSERT(p == head + len);

	part(arg, head, len);
	for (uint32_t i = 0; i < msg->nentries; i++)
		if (msg->entries[i].data != NULL && msg->entries[i].data->len > 0)
			part(arg, msg->entries[i].data->data, msg->entries[i].data->len);
	return head;
}

static bool
decode_entry(const uint8_t *p, RaftEntry *e, uint32_t *len)
{
	e->term = get_u64(p);
	e->stamp = get_stamp(p + 8);
	e->token.node = get_u32(p + 24);
	e->token.boot = get_u32(p + 28);
	e->token.counter = get_u64(p + 32);
	e->index = get_u64(p + 40);
	*len = get_u32(p + 48);
	e->type = p[52];
	e->data = NULL;
	return p[53] == 0 && p[54] == 0 && p[55] == 0;
}

/*
 * A payload that is most of its message stays where it is: a large entry is not
 * copied, and what it keeps in memory with it is less than itself.
 */
static RaftBuf *
decode_payload(RaftBuf *whole, const uint8_t *payload, uint32_t len)
{
	if (whole != NULL && len > whole->len / 2)
		return raft_buf_part(whole, (size_t) (payload - whole->data), len);
	return raft_buf_new(payload, len);
}

static bool
decode_entries(RaftBuf *whole, const uint8_t *p, size_t len, RaftMsg *msg, uint32_t n)
{
	const uint8_t *payload;
	size_t		left;

	if (n > len / ENTRY_HEAD)
		return false;
	left = len - (size_t) n * ENTRY_HEAD;
	payload = p + (size_t) n * ENTRY_HEAD;
	msg->entries = calloc(n, sizeof(RaftEntry));
	if (msg->entries == NULL)
		return false;
	for (uint32_t i = 0; i < n; i++, p += ENTRY_HEAD)
	{
		RaftEntry  *e = &msg->entries[i];
		uint32_t	elen;

		msg->nentries = i + 1;
		if (!decode_entry(p, e, &elen))
			return false;
		if (elen == NO_PAYLOAD)
			continue;
		if (elen > left)
			return false;
		e->data = decode_payload(whole, payload, elen);
		if (e->data == NULL)
			return false;
		payload += elen;
		left -= elen;
	}
	return left == 0;
}

static bool
decode(RaftBuf *whole, const void *data, size_t len, RaftMsg *msg)
{
	const uint8_t *p = data;
	uint32_t	n;

	memset(msg, 0, sizeof(*msg));
	if (data == NULL || len < MSG_HEAD || memcmp(p, msg_magic, 4) != 0)
		return false;
	if ((p[5] & ~3) || p[6] != 0 || p[7] != 0 || get_u32(p + 100) != 0)
		return false;
	msg->type = p[4];
	msg->reject = (p[5] & 1) != 0;
	msg->transfer = (p[5] & 2) != 0;
	msg->from = get_u32(p + 8);
	msg->to = get_u32(p + 12);
	msg->term = get_u64(p + 16);
	msg->index = get_u64(p + 24);
	msg->log_term = get_u64(p + 32);
	msg->commit = get_u64(p + 40);
	msg->hint = get_u64(p + 48);
	msg->context = get_u64(p + 56);
	msg->stamp = get_stamp(p + 64);
	memcpy(msg->instance, p + 80, RAFT_INSTANCE_LEN);
	n = get_u32(p + 96);
	if (n == 0 ? len != MSG_HEAD : !decode_entries(whole, p + MSG_HEAD, len - MSG_HEAD, msg, n))
	{
		raft_msg_free(msg);
		return false;
	}
	if (!raft_msg_valid(msg))
	{
		raft_msg_free(msg);
		return false;
	}
	return true;
}

bool
raft_msg_decode(const void *data, size_t len, RaftMsg *msg)
{
	return decode(NULL, data, len, msg);
}

bool
raft_msg_decode_buf(RaftBuf *buf, RaftMsg *msg)
{
	return decode(buf, buf->data, buf->len, msg);
}

/*
 * Does the message make sense by itself? Bounds keep all later arithmetic on
 * terms and indexes from overflowing.
 */
bool
raft_msg_valid(const RaftMsg *msg)
{
	uint64_t	term = msg->log_term;

	if (msg->type < RAFT_MSG_PREVOTE || msg->type > RAFT_MSG_SNAPSHOT ||
		msg->from == RAFT_NONE || msg->from == msg->to)
		return false;
	if (msg->term > RAFT_LIMIT || msg->index > RAFT_LIMIT || msg->log_term > RAFT_LIMIT ||
		msg->commit > RAFT_LIMIT || msg->hint > RAFT_LIMIT)
		return false;
	/* a refusal may come from a member that has seen no term yet */
	if (msg->term == 0 && msg->type != RAFT_MSG_PREVOTE_RESP)
		return false;
	if (msg->nentries > 0 && (msg->entries == NULL || msg->nentries > RAFT_MAX_ENTRIES))
		return false;

	switch (msg->type)
	{
		case RAFT_MSG_APPEND:
			if (msg->log_term > msg->term || (msg->index == 0) != (msg->log_term == 0))
				return false;
			for (uint32_t i = 0; i < msg->nentries; i++)
			{
				const RaftEntry *e = &msg->entries[i];

				if (e->index != msg->index + 1 + i || e->term < term || e->term == 0 ||
					e->term > msg->term ||
					e->type < RAFT_ENTRY_NOOP || e->type > RAFT_ENTRY_CONF)
					return false;
				term = e->term;
			}
			return true;
		case RAFT_MSG_SNAPSHOT:
			return msg->index > 0 && msg->log_term > 0 && msg->log_term <= msg->term &&
				msg->nentries == 1 && msg->entries[0].type == RAFT_ENTRY_CONF &&
				msg->entries[0].data != NULL;
		case RAFT_MSG_VOTE:
		case RAFT_MSG_PREVOTE:
			return msg->nentries == 0 && msg->log_term <= msg->term;
		default:
			return msg->nentries == 0;
	}
}
