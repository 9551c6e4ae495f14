/*-------------------------------------------------------------------------
 *
 * buf.c
 *		Refcounted payloads, freeing of messages, failed assertions.
 *
 *-------------------------------------------------------------------------
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "raft/raft.h"
#include "raft/raft_assert.h"

void		(*raft_on_assert) (const char *file, int line, const char *expr) = NULL;

_Noreturn void
raft_assert_failed(const char *file, int line, const char *expr)
{
	if (raft_on_assert != NULL)
		raft_on_assert(file, line, expr);
	fprintf(stderr, "raft: assertion failed at %s:%d: %s\n", file, line, expr);
	abort();
}

/* NULL when out of memory or len does not fit. */
RaftBuf *
raft_buf_new(const void *data, size_t len)
{
	RaftBuf    *buf;

	if (len > UINT32_MAX - sizeof(RaftBuf))
		return NULL;
	buf = malloc(sizeof(RaftBuf) + len);
	if (buf == NULL)
		return NULL;
	buf->refs = 1;
	buf->len = (uint32_t) len;
	buf->data = (uint8_t *) (buf + 1);
	buf->whole = NULL;
	buf->heap = NULL;
	if (data != NULL && len > 0)
		memcpy(buf->data, data, len);
	return buf;
}

RaftBuf *
raft_buf_take(void *heap, size_t len)
{
	RaftBuf    *buf = len <= UINT32_MAX ? raft_buf_new(NULL, 0) : NULL;

	if (buf == NULL)
		return NULL;
	buf->len = (uint32_t) len;
	buf->data = heap;
	buf->heap = heap;
	return buf;
}

RaftBuf *
raft_buf_part(RaftBuf *whole, size_t offset, size_t len)
{
	RaftBuf    *buf;

	RAFT_ASSERT(offset <= whole->len && len <= whole->len - offset);
	buf = raft_buf_new(NULL, 0);
	if (buf == NULL)
		return NULL;
	buf->len = (uint32_t) len;
	buf->data = whole->data + offset;
	buf->whole = raft_buf_ref(whole);
	return buf;
}

RaftBuf *
raft_buf_ref(RaftBuf *buf)
{
	if (buf != NULL)
	{
		RAFT_ASSERT(buf->refs > 0 && buf->refs < UINT32_MAX);
		buf->refs++;
	}
	return buf;
}

void
raft_buf_unref(RaftBuf *buf)
{
	if (buf == NULL)
		return;
	RAFT_ASSERT(buf->refs > 0);
	if (--buf->refs > 0)
		return;
	raft_buf_unref(buf->whole);
	free(buf->heap);
	free(buf);
}

void
raft_msg_free(RaftMsg *msg)
{
	for (uint32_t i = 0; msg->entries != NULL && i < msg->nentries; i++)
		raft_buf_unref(msg->entries[i].data);
	free(msg->entries);
	msg->entries = NULL;
	msg->nentries = 0;
}
