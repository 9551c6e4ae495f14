/*-------------------------------------------------------------------------
 *
 * rlog_format.h
 *		Bytes on disk and the structures they stand for. The layout itself is
 *		specified at the top of rlog_format.c.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGQ_RLOG_FORMAT_H
#define PGQ_RLOG_FORMAT_H

#include "storage/rlog.h"

#define RLOG_FORMAT_VERSION		1

#define SEGMENT_HEADER_BYTES	64
#define RECORD_HEADER_BYTES		72
#define META_HEADER_BYTES		160
#define MARK_BYTES				48

/* where things lie in the metadata file */
#define META_SECTOR				512
#define META_COPY_BYTES			65536
#define META_COPY_OFFSET(copy)	(4096 + (uint64_t) (copy) * META_COPY_BYTES)
#define META_FILE_BYTES			META_COPY_OFFSET(2)

/* A place in the log: grows with every append, across segments. */
typedef struct RlogPosition
{
	uint64_t	seq;			/* of the segment; 0: before the first one */
	uint64_t	offset;
} RlogPosition;

static inline bool
position_before(RlogPosition a, RlogPosition b)
{
	return a.seq < b.seq || (a.seq == b.seq && a.offset < b.offset);
}

typedef struct SegmentHeader
{
	uint32_t	version;
	uint32_t	generation;
	uint64_t	seq;
	uint64_t	first_index;
	uint64_t	prev_term;
	uint64_t	size;
	uint8_t		instance_id[16];
} SegmentHeader;

typedef enum RecordKind
{
	RECORD_ENTRY = 0,
	RECORD_END = 1				/* the log goes on in the next segment */
} RecordKind;

typedef struct RecordHeader
{
	uint8_t		type;
	uint8_t		kind;
	uint32_t	len;
	uint32_t	payload_crc;
	uint32_t	generation;
	uint32_t	batch_start;
	uint64_t	index;
	uint64_t	term;
	uint8_t		stamp[16];
	uint8_t		token[16];
} RecordHeader;

/* All that a metadata copy says but for the configuration. */
typedef struct RlogMeta
{
	uint64_t	meta_seq;
	RlogIdentity identity;
	uint64_t	term;
	uint32_t	vote;
	uint64_t	commit;
	uint64_t	conf_index;
	uint32_t	conf_len;
	uint64_t	first_index;
	uint64_t	prev_term;
	uint64_t	first_seq;
	RlogPosition cut;
	uint64_t	cut_index;
	uint64_t	cut_next_seq;
	uint32_t	generation;
	uint64_t	distrusted_until;
} RlogMeta;

/* What was synced last. */
typedef struct RlogMark
{
	uint32_t	generation;
	RlogPosition position;
	uint64_t	index;
	uint64_t	commit;
} RlogMark;

/* Bytes that a record with that much payload takes. */
static inline uint64_t
record_bytes(uint32_t len)
{
	return RECORD_HEADER_BYTES + (((uint64_t) len + 7) & ~UINT64_C(7));
}

extern void segment_header_encode(const SegmentHeader *header, uint8_t *bytes);
extern bool segment_header_decode(const uint8_t *bytes, SegmentHeader *header);
extern void record_header_encode(const RecordHeader *header, RlogPosition at, uint8_t *bytes);
extern bool record_header_decode(const uint8_t *bytes, RlogPosition at, RecordHeader *header);
extern uint32_t record_payload_crc(const void *data, uint32_t len);
extern uint32_t record_payload_crc_end(uint32_t crc, uint32_t len);
extern void meta_encode(const RlogMeta *meta, const void *conf, uint8_t *bytes);
extern bool meta_decode(const uint8_t *bytes, size_t len, RlogMeta *meta);
extern void mark_encode(const RlogMark *mark, uint8_t *bytes);
extern bool mark_decode(const uint8_t *bytes, RlogMark *mark);

#endif							/* PGQ_RLOG_FORMAT_H */
