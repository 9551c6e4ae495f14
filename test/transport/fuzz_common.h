/*-------------------------------------------------------------------------
 *
 * fuzz_common.h
 *		What the fuzz targets share.
 *
 * Input: records of (u8 kind, u8 flags, u8 type, u24 total, u16 length, payload),
 * made into frames with a right checksum, which a fuzzer would hardly ever hit
 * by itself. `target --write-seeds DIR` writes the seeds and ends.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGQ_TP_FUZZ_COMMON_H
#define PGQ_TP_FUZZ_COMMON_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "transport/frame.h"

#define RECORD_HEADER_LEN 8

#define FUZZ_CHECK(condition) \
	do { \
		if (!(condition)) \
		{ \
			fprintf(stderr, "property violated at line %d: %s\n", __LINE__, #condition); \
			abort(); \
		} \
	} while (0)

extern int	LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
extern int	LLVMFuzzerInitialize(int *argc, char ***argv);

/* each target's own */
extern void write_seeds(const char *dir);

/* Next record as a frame in `buf` (of at least 16 + 65535); its length, or 0. */
static inline size_t
next_frame(const uint8_t **data, size_t *size, uint8_t *buf)
{
	const uint8_t *p = *data;
	size_t		len;
	TpPart		part;

	if (*size < RECORD_HEADER_LEN)
		return 0;
	len = (size_t) tp_get_u16(p + 6);
	if (len > *size - RECORD_HEADER_LEN)
		len = *size - RECORD_HEADER_LEN;
	part.data = p + RECORD_HEADER_LEN;
	part.len = len;
	tp_frame_header(buf, (FrameKind) p[0], p[1], p[2],
					(uint32_t) p[3] | (uint32_t) tp_get_u16(p + 4) << 8, &part, 1);
	memcpy(buf + FRAME_HEADER_LEN, part.data, len);
	*data += RECORD_HEADER_LEN + len;
	*size -= RECORD_HEADER_LEN + len;
	return FRAME_HEADER_LEN + len;
}

static inline size_t
put_record(uint8_t *at, FrameKind kind, uint8_t flags, uint8_t type, uint32_t total,
		   const void *payload, size_t len)
{
	at[0] = (uint8_t) kind;
	at[1] = flags;
	at[2] = type;
	at[3] = (uint8_t) total;
	tp_put_u16(at + 4, (uint16_t) (total >> 8));
	tp_put_u16(at + 6, (uint16_t) len);
	memcpy(at + RECORD_HEADER_LEN, payload, len);
	return RECORD_HEADER_LEN + len;
}

static inline void
write_seed(const char *dir, const char *name, const uint8_t *bytes, size_t len)
{
	char		path[1024];
	FILE	   *f;

	snprintf(path, sizeof(path), "%s/seed-%s", dir, name);
	f = fopen(path, "wb");
	if (f == NULL || fwrite(bytes, 1, len, f) != len || fclose(f) != 0)
	{
		fprintf(stderr, "could not write %s\n", path);
		exit(1);
	}
}

int
LLVMFuzzerInitialize(int *argc, char ***argv)
{
	if (*argc == 3 && strcmp((*argv)[1], "--write-seeds") == 0)
	{
		write_seeds((*argv)[2]);
		exit(0);
	}
	return 0;
}

#endif							/* PGQ_TP_FUZZ_COMMON_H */
