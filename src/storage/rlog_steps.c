/*-------------------------------------------------------------------------
 *
 * rlog_steps.c
 *		The queue of steps that rounds of I/O are made of.
 *
 *-------------------------------------------------------------------------
 */
#include "storage/rlog_internal.h"

#include <string.h>

void
steps_init(StepQueue *queue)
{
	queue->head = NULL;
	queue->tail = &queue->head;
}

void
steps_push(StepQueue *queue, Step *step)
{
	step->next = NULL;
	*queue->tail = step;
	queue->tail = &step->next;
}

Step *
steps_tail(const StepQueue *queue)
{
	if (queue->head == NULL)
		return NULL;
	return (Step *) ((char *) queue->tail - offsetof(Step, next));
}

Step *
step_new(StepQueue *queue, StepKind kind)
{
	Step	   *step = calloc(1, sizeof(Step));

	if (step == NULL)
		return NULL;
	step->kind = kind;
	steps_push(queue, step);
	return step;
}

void
step_free(Step *step)
{
	for (size_t i = 0; i < step->nrecords; i++)
	{
		RlogRecord *record = &step->records[i].record;

		if (record->release != NULL)
			record->release(record->release_arg);
	}
	for (size_t i = 0; i < step->ndropped; i++)
		segment_free(step->dropped[i]);
	free(step->dropped);
	free(step->records);
	free(step->bytes);
	free(step);
}

void
steps_free(StepQueue *queue)
{
	while (queue->head != NULL)
	{
		Step	   *step = queue->head;

		queue->head = step->next;
		step_free(step);
	}
	steps_init(queue);
}
