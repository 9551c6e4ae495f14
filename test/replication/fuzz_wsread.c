/*-------------------------------------------------------------------------
 *
 * fuzz_wsread.c
 *		libFuzzer on what a member may get from another one: reading a write
 *		set, certifying it, taking it into the map.
 *
 *-------------------------------------------------------------------------
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "replication/certify.h"
#include "replication/writeset.h"

extern int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static WsColumn old_columns[WS_MAX_COLUMNS];
static WsColumn new_columns[WS_MAX_COLUMNS];
static uint32_t table_ids[WS_MAX_TRUNCATE];

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	CertMap    *map = cert_create(64, 16);
	CertConflict conflict;
	WsReader	rd;
	WsRecord	rec;
	uint64_t	sum = 0;
	bool		judged;

	memset(&rec, 0, sizeof(rec));
	rec.old_tuple.cols = old_columns;
	rec.new_tuple.cols = new_columns;
	rec.table_ids = table_ids;
	if (ws_read_open(&rd, data, size))
	{
		for (uint32_t i = 0; i < rd.nkeys; i++)
			sum += ws_read_key(&rd, i).base;
		while (ws_read_record(&rd, &rec))
		{
			if (rec.type == 'I')
			{
				for (uint32_t i = 0; i < rec.new_tuple.natts; i++)
				{
					if (new_columns[i].len > 0)
						sum += new_columns[i].data[new_columns[i].len - 1];
				}
			}
		}
		if (rd.error == NULL && rd.records_read != rd.nrecords)
			abort();
	}
	judged = cert_check(map, data, size, &conflict);
	cert_appended(map, 3, (RaftToken) {1, 2, sum | 1}, data, size);
	/* nothing that uses a key can pass again with a base of before */
	if (judged && rd.nkeys > 0 && rd.base_max < 3)
	{
		bool		exclusive = false;

		for (uint32_t i = 0; i < rd.nkeys; i++)
			exclusive |= ws_read_key(&rd, i).exclusive;
		if (exclusive && cert_check(map, data, size, &conflict))
			abort();
	}
	if (cert_find_token(map, (RaftToken) {1, 2, sum | 1}) != 3)
		abort();
	cert_truncated(map, 2);
	if (cert_find_token(map, (RaftToken) {1, 2, sum | 1}) != 0)
		abort();
	cert_free(map);
	return 0;
}
