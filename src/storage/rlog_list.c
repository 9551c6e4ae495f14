/*-------------------------------------------------------------------------
 *
 * rlog_list.c
 *		Which segment files are in the directory, in ascending order.
 *
 *-------------------------------------------------------------------------
 */
#include "storage/rlog_internal.h"

#include <string.h>

static void
note_name(void *arg, const char *name)
{
	SegmentList *list = arg;
	uint64_t	seq;

	if (strcmp(name, "spare") == 0)
		list->has_spare = true;
	if (!segment_name_parse(name, &seq))
		return;
	if (!array_grow(&list->seqs, &list->size, list->count + 1, sizeof(uint64_t)))
	{
		list->out_of_memory = true;
		return;
	}
	list->seqs[list->count++] = seq;
}

static int
compare_seqs(const void *a, const void *b)
{
	uint64_t	left = *(const uint64_t *) a;
	uint64_t	right = *(const uint64_t *) b;

	return left < right ? -1 : left > right;
}

/* 0 or -errno; the array is reused, and freed by the caller. */
int
segment_list(const RlogFiles *files, SegmentList *list)
{
	int			rc;

	list->count = 0;
	list->has_spare = false;
	list->out_of_memory = false;
	rc = files->env->list(files->env->ctx, files->dir, note_name, list);
	if (rc == 0 && list->count > 1)
		qsort(list->seqs, list->count, sizeof(uint64_t), compare_seqs);
	return rc;
}
