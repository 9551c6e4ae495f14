/*-------------------------------------------------------------------------
 *
 * bench.c
 *		Nanoseconds of certification for each key, small and large maps.
 *
 *-------------------------------------------------------------------------
 */
#include "payload.h"

#include <stdlib.h>
#include <time.h>

#include "replication/certify.h"

#define ENTRY_KEYS 6

static double
now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	return (double) ts.tv_sec * 1e9 + (double) ts.tv_nsec;
}

/* entries of six keys over a key space, checked and appended */
static void
run(uint64_t key_space, uint32_t entries)
{
	CertMap    *map = cert_create(2 * 1024 * 1024, 256 * 1024);
	Payload    *payloads = calloc(entries, sizeof(Payload));
	CertConflict conflict;
	double		begun;
	double		check_ns;
	double		append_ns;
	uint32_t	refused = 0;

	for (uint32_t e = 0; e < entries; e++)
	{
		WsKey		keys[ENTRY_KEYS];

		for (int i = 0; i < ENTRY_KEYS; i++)
			/* one residue a place, so that no key comes twice */
			keys[i] = (WsKey) {(random_u64() % key_space * ENTRY_KEYS + i) * 0x9e3779b97f4a7c15u, entries, i % 2};
		put_header(&payloads[e], keys, ENTRY_KEYS, 0);
	}
	/* the first half brings in the memory */
	for (uint32_t e = 0; e < entries / 2; e++)
		cert_appended(map, e + 1, (RaftToken) {1, 1, e}, payloads[e].data, payloads[e].len);
	begun = now_ns();
	for (uint32_t e = entries / 2; e < entries; e++)
		cert_appended(map, e + 1, (RaftToken) {1, 1, e}, payloads[e].data, payloads[e].len);
	append_ns = now_ns() - begun;
	begun = now_ns();
	for (uint32_t e = 0; e < entries; e++)
		refused += !cert_check(map, payloads[e].data, payloads[e].len, &conflict);
	check_ns = now_ns() - begun;
	printf("%9llu different keys: append %5.1f ns/key, check %5.1f ns/key (%u of %u refused)\n",
		   (unsigned long long) key_space, append_ns / (entries - entries / 2) / ENTRY_KEYS,
		   check_ns / entries / ENTRY_KEYS, refused, entries);
	for (uint32_t e = 0; e < entries; e++)
		payload_free(&payloads[e]);
	free(payloads);
	cert_free(map);
}

int
main(void)
{
	run(1000, 200000);
	run(100000, 300000);
	run(1000000, 300000);
	run(UINT64_C(1) << 60, 300000);
	return 0;
}
