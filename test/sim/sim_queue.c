/*-------------------------------------------------------------------------
 *
 * sim_queue.c
 *		The event queue: a binary heap by time, then by order of arrival.
 *
 *-------------------------------------------------------------------------
 */
#include "sim.h"

#include <stdlib.h>

static bool
before(const SimEvent *a, const SimEvent *b)
{
	if (a->at_us != b->at_us)
		return a->at_us < b->at_us;
	return a->seq < b->seq;
}

static void
swap(SimEvent *a, SimEvent *b)
{
	SimEvent	t = *a;

	*a = *b;
	*b = t;
}

void
sim_queue_push(SimQueue *queue, SimEvent event)
{
	size_t		i = queue->count;

	if (queue->count == queue->capacity)
	{
		queue->capacity = queue->capacity ? queue->capacity * 2 : 256;
		queue->heap = realloc(queue->heap, queue->capacity * sizeof(SimEvent));
		if (queue->heap == NULL)
			abort();
	}
	event.seq = queue->next_seq++;
	queue->heap[queue->count++] = event;
	while (i > 0 && before(&queue->heap[i], &queue->heap[(i - 1) / 2]))
	{
		swap(&queue->heap[i], &queue->heap[(i - 1) / 2]);
		i = (i - 1) / 2;
	}
}

bool
sim_queue_pop(SimQueue *queue, SimEvent *event)
{
	size_t		i = 0;

	if (queue->count == 0)
		return false;
	*event = queue->heap[0];
	queue->heap[0] = queue->heap[--queue->count];
	for (;;)
	{
		size_t		least = i;

		for (size_t child = 2 * i + 1; child <= 2 * i + 2 && child < queue->count; child++)
		{
			if (before(&queue->heap[child], &queue->heap[least]))
				least = child;
		}
		if (least == i)
			break;
		swap(&queue->heap[i], &queue->heap[least]);
		i = least;
	}
	return true;
}

void
sim_queue_free(SimQueue *queue)
{
	for (size_t i = 0; i < queue->count; i++)
		free(queue->heap[i].bytes);
	free(queue->heap);
	queue->heap = NULL;
	queue->count = queue->capacity = 0;
}
