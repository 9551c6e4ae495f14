/*-------------------------------------------------------------------------
 *
 * outq.h
 *		What waits to be sent over one connection: two lanes of messages, and
 *		the batch of frames that the stream is writing.
 *
 * Short messages are framed when they are queued and copied one behind the
 * other into chunks, so that many leave in one piece of one write. Long ones
 * stay where the caller has them and are cut into frames as the stream takes
 * them. Only what is in the batch can no longer be overtaken; it is at most
 * OUTQ_BATCH_BYTES.
 *
 * Invariant: every item is in exactly one of lane[0], lane[1], batch.done; an
 * item's release is called once, when it leaves batch.done or the queue is
 * cleared.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGQ_TP_OUTQ_H
#define PGQ_TP_OUTQ_H

#include <uv.h>

#include "transport/frame.h"

#define OUTQ_COPY_BYTES		4096	/* messages up to here are copied */
#define OUTQ_CHUNK_BYTES	(16 * 1024)
#define OUTQ_BATCH_BUFS		64
#define OUTQ_BATCH_FRAMES	8	/* of long messages */
#define OUTQ_BATCH_BYTES	(512 * 1024)

typedef struct OutItem OutItem;

typedef struct OutLane
{
	OutItem    *head;
	OutItem    *tail;
	size_t		bytes;			/* payload and one header a message, not yet
								 * taken by the kernel, the batch included */
} OutLane;

typedef struct OutBatch
{
	int			nbufs;
	int			nframes;
	uv_buf_t	bufs[OUTQ_BATCH_BUFS];
	uint8_t		headers[OUTQ_BATCH_FRAMES][FRAME_HEADER_LEN];
	OutItem    *done;			/* wholly written once the batch is */
	size_t		bytes;
	size_t		lane_bytes[2];
} OutBatch;

typedef struct OutQueue
{
	OutLane		lane[2];
	OutBatch	batch;
	uint64_t	messages;		/* queued and not known to be written */
} OutQueue;

/* TP_SEND_OK, or TP_SEND_NO_MEMORY with nothing taken. */
extern TpSendResult tp_outq_add(OutQueue *queue, uint8_t type, TpLane lane,
								const TpPart *parts, int nparts, size_t total,
								TpRelease release, void *arg);

/* Collect the next frames, urgent ones first. False: nothing to send. */
extern bool tp_outq_next_batch(OutQueue *queue);

/* The batch has been written. */
extern void tp_outq_batch_done(OutQueue *queue);

/* Release everything; the stream must not be writing any more. */
extern void tp_outq_clear(OutQueue *queue);

static inline size_t
tp_outq_bytes(const OutQueue *queue)
{
	return queue->lane[TP_URGENT].bytes + queue->lane[TP_BULK].bytes;
}

#endif							/* PGQ_TP_OUTQ_H */
