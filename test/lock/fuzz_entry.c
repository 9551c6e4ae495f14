/*-------------------------------------------------------------------------
 *
 * fuzz_entry.c
 *		libFuzzer on lock entries: whatever the bytes, a state takes them in (or
 *		refuses) and stays sound, and what it judges it can take in.
 *
 *-------------------------------------------------------------------------
 */
#include <stdlib.h>

#include "lock/lockstate.h"

extern int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	LkState    *ls = lk_create();
	RaftToken	token = {1, 1, 1};
	LkVerdict	verdict;
	LkReader	rd;
	size_t		final_len = size;
	uint8_t    *final;

	if (ls == NULL)
		return 0;
	(void) lk_op(data, size);
	lk_lead(ls, 1);
	if (lk_read_open(&rd, data, size))
	{
		LkItem		item;

		while (lk_read_item(&rd, &item))
			;
		while (lk_read_delay(&rd, &item))
			;
		if (rd.error != NULL)
			abort();
	}
	lk_judge(ls, 1, data, size, 2, &verdict);
	final = lk_final_payload(ls, data, &final_len);
	free(final);
	(void) lk_append(ls, 1, token, 1, data, size, 3, NULL, NULL);
	(void) lk_append(ls, 2, token, 1, data, size, 3, NULL, NULL);
	if (lk_check(ls) != NULL)
		abort();
	lk_truncate(ls, 2, 4);
	lk_commit(ls, 1);
	if (lk_check(ls) != NULL)
		abort();
	lk_free(ls);
	return 0;
}
