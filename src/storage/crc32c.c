/*-------------------------------------------------------------------------
 *
 * crc32c.c
 *		CRC-32C by the processor's instruction where it has one, else eight
 *		bytes at a time from tables.
 *
 * The tables are computed on first use, by whichever thread comes first: the
 * log's pool thread and the event loop both get here. A second one that comes
 * while they are being built waits for the few microseconds that it takes.
 *
 *-------------------------------------------------------------------------
 */
#include "storage/crc32c.h"

#include <stdbool.h>
#include <string.h>

#if defined(__x86_64__) && defined(__GNUC__)
#include <nmmintrin.h>
#define PGQ_CRC32C_SSE42 1
#endif

#define CASTAGNOLI_REVERSED 0x82F63B78

static uint32_t table[8][256];

enum
{
	TABLE_NONE,
	TABLE_BUILDING,
	TABLE_READY
};
static int	table_state = TABLE_NONE;	/* atomic */

static void
build_table(void)
{
	for (uint32_t i = 0; i < 256; i++)
	{
		uint32_t	crc = i;

		for (int bit = 0; bit < 8; bit++)
			crc = (crc >> 1) ^ ((crc & 1) ? CASTAGNOLI_REVERSED : 0);
		table[0][i] = crc;
	}
	for (uint32_t i = 0; i < 256; i++)
		for (int k = 1; k < 8; k++)
			table[k][i] = (table[k - 1][i] >> 8) ^ table[0][table[k - 1][i] & 0xFF];
}

static void
need_table(void)
{
	int			none = TABLE_NONE;

	if (__atomic_load_n(&table_state, __ATOMIC_ACQUIRE) == TABLE_READY)
		return;
	if (__atomic_compare_exchange_n(&table_state, &none, TABLE_BUILDING, false,
									__ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
	{
		build_table();
		__atomic_store_n(&table_state, TABLE_READY, __ATOMIC_RELEASE);
		return;
	}
	while (__atomic_load_n(&table_state, __ATOMIC_ACQUIRE) != TABLE_READY)
		;
}

uint32_t
pgq_crc32c_add_table(uint32_t crc, const void *data, size_t len)
{
	const uint8_t *p = data;

	need_table();

	for (; len >= 8; len -= 8, p += 8)
	{
		uint32_t	low = crc ^ ((uint32_t) p[0] | (uint32_t) p[1] << 8 |
								 (uint32_t) p[2] << 16 | (uint32_t) p[3] << 24);

		crc = table[7][low & 0xFF] ^ table[6][(low >> 8) & 0xFF] ^
			table[5][(low >> 16) & 0xFF] ^ table[4][low >> 24] ^
			table[3][p[4]] ^ table[2][p[5]] ^ table[1][p[6]] ^ table[0][p[7]];
	}
	for (; len > 0; len--, p++)
		crc = (crc >> 8) ^ table[0][(crc ^ *p) & 0xFF];
	return crc;
}

#ifdef PGQ_CRC32C_SSE42
__attribute__((target("sse4.2")))
static uint32_t
add_sse42(uint32_t crc, const uint8_t *p, size_t len)
{
	uint64_t	crc64 = crc;

	for (; len >= 8; len -= 8, p += 8)
	{
		uint64_t	word;

		memcpy(&word, p, sizeof(word));
		crc64 = _mm_crc32_u64(crc64, word);
	}
	crc = (uint32_t) crc64;
	for (; len > 0; len--, p++)
		crc = _mm_crc32_u8(crc, *p);
	return crc;
}
#endif

uint32_t
pgq_crc32c_add(uint32_t crc, const void *data, size_t len)
{
#ifdef PGQ_CRC32C_SSE42
	if (__builtin_cpu_supports("sse4.2"))
		return add_sse42(crc, data, len);
#endif
	return pgq_crc32c_add_table(crc, data, len);
}
