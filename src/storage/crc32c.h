/*-------------------------------------------------------------------------
 *
 * crc32c.h
 *		CRC-32C (Castagnoli) over pieces: crc = crc32c_start(); crc =
 *		crc32c_add(crc, data, len) ...; crc32c_finish(crc).
 *
 * TCP's own checksum is 16 bits wide and lets about one damaged segment in
 * 65,000 through; the log must not take such a frame for an entry.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGQ_PGQ_CRC32C_H
#define PGQ_PGQ_CRC32C_H

#include <stddef.h>
#include <stdint.h>

static inline uint32_t
pgq_crc32c_start(void)
{
	return 0xFFFFFFFF;
}

extern uint32_t pgq_crc32c_add(uint32_t crc, const void *data, size_t len);

/* The portable way, whatever the processor can do: for tests. */
extern uint32_t pgq_crc32c_add_table(uint32_t crc, const void *data, size_t len);

static inline uint32_t
pgq_crc32c_finish(uint32_t crc)
{
	return crc ^ 0xFFFFFFFF;
}

#endif							/* PGQ_PGQ_CRC32C_H */
