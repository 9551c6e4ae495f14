/*-------------------------------------------------------------------------
 *
 * outq.c
 *		The output queue of one connection. Shape and invariants: outq.h.
 *
 *-------------------------------------------------------------------------
 */
#include "transport/outq.h"

#include <stdlib.h>
#include <string.h>

#include "transport/tp_assert.h"

/*
 * Either a chunk (whole frames of short messages) or one long message.
 */
struct OutItem
{
	OutItem    *next;
	bool		chunk;
	TpLane		lane;
	uint64_t	messages;		/* in it */

	/* chunk: */
	size_t		used;			/* bytes of it, all accounted in the lane */

	/* message: */
	uint8_t		type;
	size_t		total;
	size_t		framed;			/* bytes cut into frames so far */
	int			part;			/* where the next frame begins: part ... */
	size_t		part_offset;	/* ... and offset into it */
	TpRelease	release;
	void	   *arg;
	int			nparts;
	const TpPart *parts;

	/* chunk: its bytes; message: its parts, and the bytes if copied */
	max_align_t space[];
};

static uint8_t *
chunk_bytes(OutItem *item)
{
	return (uint8_t *) item->space;
}

static void
lane_append(OutLane *lane, OutItem *item)
{
	item->next = NULL;
	if (lane->tail == NULL)
		lane->head = item;
	else
		lane->tail->next = item;
	lane->tail = item;
}

static void
lane_pop(OutLane *lane)
{
	OutItem    *item = lane->head;

	TP_ASSERT(item != NULL);
	lane->head = item->next;
	if (lane->head == NULL)
		lane->tail = NULL;
}

static uint8_t *
copy_parts(uint8_t *dst, const TpPart *parts, int nparts)
{
	for (int i = 0; i < nparts; i++)
	{
		if (parts[i].len > 0)
			memcpy(dst, parts[i].data, parts[i].len);
		dst += parts[i].len;
	}
	return dst;
}

/* ---------- adding ---------- */

static bool
add_short(OutLane *lane, uint8_t type, TpLane which, const TpPart *parts, int nparts,
		  size_t total)
{
	OutItem    *item = lane->tail;
	size_t		need = FRAME_HEADER_LEN + total;
	uint8_t    *at;

	if (item == NULL || !item->chunk || OUTQ_CHUNK_BYTES - item->used < need)
	{
		item = malloc(sizeof(OutItem) + OUTQ_CHUNK_BYTES);
		if (item == NULL)
			return false;
		memset(item, 0, sizeof(OutItem));
		item->chunk = true;
		item->lane = which;
		lane_append(lane, item);
	}
	at = chunk_bytes(item) + item->used;
	tp_frame_header(at, FRAME_DATA,
					FRAME_FIRST | FRAME_LAST | (which == TP_BULK ? FRAME_BULK : 0),
					type, (uint32_t) total, parts, nparts);
	copy_parts(at + FRAME_HEADER_LEN, parts, nparts);
	item->used += need;
	item->messages++;
	TP_ASSERT(item->used <= OUTQ_CHUNK_BYTES);
	return true;
}

static bool
add_long(OutLane *lane, uint8_t type, TpLane which, const TpPart *parts, int nparts,
		 size_t total, TpRelease release, void *arg)
{
	size_t		parts_size = (size_t) nparts * sizeof(TpPart);
	OutItem    *item;
	TpPart	   *own;

	item = malloc(sizeof(OutItem) + parts_size + (release == NULL ? total : 0));
	if (item == NULL)
		return false;
	memset(item, 0, sizeof(OutItem));
	item->lane = which;
	item->messages = 1;
	item->type = type;
	item->total = total;
	item->release = release;
	item->arg = arg;

	own = (TpPart *) item->space;
	item->parts = own;
	if (release == NULL)
	{
		uint8_t    *bytes = (uint8_t *) (own + 1);

		item->nparts = 1;
		own[0].data = bytes;
		own[0].len = total;
		copy_parts(bytes, parts, nparts);
	}
	else
	{
		item->nparts = nparts;
		memcpy(own, parts, parts_size);
	}
	lane_append(lane, item);
	return true;
}

TpSendResult
tp_outq_add(OutQueue *queue, uint8_t type, TpLane lane, const TpPart *parts, int nparts,
			size_t total, TpRelease release, void *arg)
{
	OutLane    *l = &queue->lane[lane];

	TP_ASSERT(nparts >= 0 && total <= UINT32_MAX);

	if (total <= OUTQ_COPY_BYTES)
	{
		if (!add_short(l, type, lane, parts, nparts, total))
			return TP_SEND_NO_MEMORY;
		if (release != NULL)
			release(arg);
	}
	else if (!add_long(l, type, lane, parts, nparts, total, release, arg))
		return TP_SEND_NO_MEMORY;

	l->bytes += FRAME_HEADER_LEN + total;
	queue->messages++;
	return TP_SEND_OK;
}

/* ---------- sending ---------- */

static void
batch_add(OutBatch *batch, const void *bytes, size_t len)
{
	TP_ASSERT(batch->nbufs < OUTQ_BATCH_BUFS);
	batch->bufs[batch->nbufs].base = (char *) bytes;
	batch->bufs[batch->nbufs].len = len;
	batch->nbufs++;
	batch->bytes += len;
}

static void
batch_finish_item(OutQueue *queue, OutLane *lane, OutItem *item)
{
	lane_pop(lane);
	item->next = queue->batch.done;
	queue->batch.done = item;
}

/*
 * Cut one frame off a long message. It may be shorter than it could be where
 * the message is made of more parts than the batch has buffers left.
 */
static void
batch_add_fragment(OutQueue *queue, OutLane *lane, OutItem *item)
{
	OutBatch   *batch = &queue->batch;
	uint8_t    *header = batch->headers[batch->nframes++];
	TpPart		pieces[OUTQ_BATCH_BUFS];
	int			npieces = 0;
	int			room = OUTQ_BATCH_BUFS - batch->nbufs - 1;
	size_t		len = 0;
	bool		first = item->framed == 0;
	uint8_t		flags = item->lane == TP_BULK ? FRAME_BULK : 0;

	TP_ASSERT(room > 0);
	while (npieces < room && len < TP_FRAME_MAX_BYTES && item->framed + len < item->total)
	{
		const TpPart *part = &item->parts[item->part];
		size_t		piece = part->len - item->part_offset;

		if (piece > TP_FRAME_MAX_BYTES - len)
			piece = TP_FRAME_MAX_BYTES - len;
		if (piece > 0)
		{
			pieces[npieces].data = (const uint8_t *) part->data + item->part_offset;
			pieces[npieces++].len = piece;
			item->part_offset += piece;
			len += piece;
		}
		if (item->part_offset == part->len)
		{
			item->part++;
			item->part_offset = 0;
		}
	}
	item->framed += len;
	TP_ASSERT(len > 0 && item->framed <= item->total);

	if (first)
		flags |= FRAME_FIRST;
	if (item->framed == item->total)
		flags |= FRAME_LAST;
	tp_frame_header(header, FRAME_DATA, flags, first ? item->type : 0,
					first ? (uint32_t) item->total : 0, pieces, npieces);
	batch_add(batch, header, FRAME_HEADER_LEN);
	for (int i = 0; i < npieces; i++)
		batch_add(batch, pieces[i].data, pieces[i].len);
	batch->lane_bytes[item->lane] += len + (first ? FRAME_HEADER_LEN : 0);
	if (item->framed == item->total)
		batch_finish_item(queue, lane, item);
}

bool
tp_outq_next_batch(OutQueue *queue)
{
	OutBatch   *batch = &queue->batch;

	TP_ASSERT(batch->nbufs == 0 && batch->done == NULL);
	for (int i = 0; i < 2; i++)
	{
		OutLane    *lane = &queue->lane[i];

		while (lane->head != NULL && batch->bytes < OUTQ_BATCH_BYTES &&
			   batch->nbufs + 2 <= OUTQ_BATCH_BUFS)
		{
			OutItem    *item = lane->head;

			if (item->chunk)
			{
				batch_add(batch, chunk_bytes(item), item->used);
				batch->lane_bytes[i] += item->used;
				batch_finish_item(queue, lane, item);
			}
			else if (batch->nframes < OUTQ_BATCH_FRAMES)
				batch_add_fragment(queue, lane, item);
			else
				break;
		}
	}
	return batch->nbufs > 0;
}

static void
free_items(OutQueue *queue, OutItem *item)
{
	while (item != NULL)
	{
		OutItem    *next = item->next;

		TP_ASSERT(queue->messages >= item->messages);
		queue->messages -= item->messages;
		if (item->release != NULL)
			item->release(item->arg);
		free(item);
		item = next;
	}
}

void
tp_outq_batch_done(OutQueue *queue)
{
	OutBatch   *batch = &queue->batch;
	OutItem    *done = batch->done;

	for (int i = 0; i < 2; i++)
	{
		TP_ASSERT(queue->lane[i].bytes >= batch->lane_bytes[i]);
		queue->lane[i].bytes -= batch->lane_bytes[i];
		batch->lane_bytes[i] = 0;
	}
	batch->nbufs = 0;
	batch->nframes = 0;
	batch->bytes = 0;
	batch->done = NULL;
	free_items(queue, done);
}

void
tp_outq_clear(OutQueue *queue)
{
	OutItem    *lists[3] = {queue->batch.done, queue->lane[0].head, queue->lane[1].head};

	memset(queue->lane, 0, sizeof(queue->lane));
	memset(&queue->batch, 0, sizeof(queue->batch));
	for (int i = 0; i < 3; i++)
		free_items(queue, lists[i]);
	TP_ASSERT(queue->messages == 0);
}
