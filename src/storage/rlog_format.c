/*-------------------------------------------------------------------------
 *
 * rlog_format.c
 *		The log on disk, byte by byte. Format version 1.
 *
 * All numbers are little-endian. CRC is CRC-32C. A log is a directory:
 *
 *		meta					the metadata file
 *		log-<16 hex digits>		a segment; the digits are its sequence number
 *		spare					a preallocated segment that is not in use yet
 *		meta.tmp, spare.tmp, new.tmp	being made; removed on start
 *
 * Segment
 * -------
 * Sequence numbers grow for ever and are never used twice, file contents are
 * (a segment that is done with is renamed to spare). So a segment may hold old
 * records anywhere; that they carry another sequence number in their checksum
 * is what tells them from new ones. Records begin at offset 64, each at a
 * multiple of 8.
 *
 *	offset size
 *		0	4	CRC of bytes 4 .. 63
 *		4	4	0x47535150 "PQSG"
 *		8	4	format version
 *	   12	4	generation (below) when the segment was begun
 *	   16	8	sequence number
 *	   24	8	index of the first record
 *	   32	8	term of the record before that one, 0 if there was none
 *	   40  16	instance id of the member
 *	   56	8	size of the file
 *
 * Record
 * ------
 *		0	4	CRC of (sequence number, 8 bytes; offset of the record in its
 *				segment, 8 bytes; bytes 4 .. 71): a record that is found where
 *				it was not written is no record
 *		4	2	0x5152 "RQ"
 *		6	1	type, the caller's
 *		7	1	0: an entry; 1: end of the segment, the log goes on in the next
 *				(index: of the next record; no payload). Absent when less than
 *				72 bytes were left
 *		8	4	length of the payload
 *	   12	4	CRC of the payload with its padding
 *	   16	4	generation
 *	   20	4	batch start: offset in this segment at which the group of
 *				records begins that was synced together with this one.
 *				Everything before it was durable before this was written
 *	   24	8	index
 *	   32	8	term
 *	   40  16	stamp, opaque
 *	   56  16	token, opaque
 *	   72	n	payload, zeros up to a multiple of 8
 *
 * Metadata file
 * -------------
 * 135168 bytes, allocated when the log is created, so that a vote can be
 * written on a full disk.
 *
 *		0		the mark (48 bytes of a sector of its own)
 *	 4096		copy A
 *	69632		copy B
 *
 * A change is written to one copy and synced, then to the other and synced, and
 * only then acknowledged. Whichever one is torn or rots away, the other says
 * what was acknowledged. The valid one with the higher number counts; it is
 * looked for at every sector of the file (a disk may have written it to the
 * wrong one).
 *
 * Copy:
 *		0	4	CRC of bytes 4 .. 159 and the configuration
 *		4	4	0x544D5150 "PQMT"
 *		8	4	format version
 *	   12	4	length of the configuration
 *	   16	8	number of this metadata; grows with every write
 *	   24  16	cluster id
 *	   40  16	instance id
 *	   56	4	node id
 *	   60	4	vote in term, 0: none
 *	   64	8	term
 *	   72	8	commit index, at most what was durable when it was written
 *	   80	8	configuration: index of its entry
 *	   88	8	first index of the log
 *	   96	8	term of the entry before it
 *	  104	8	segments with a lower number than this are garbage
 *	  112	8	cut: segment,
 *	  120	8		and offset in it. 0, 0: no segment was in use
 *	  128	8		segments above the first and below this number are garbage
 *	  136	8		last index of the log at the cut
 *	  144	4		generation: records at or after the cut carry exactly this
 *				one; those before it, at most this one, never decreasing
 *	  148	4	0
 *	  152	8	not trusted until this index is acknowledged anew; 0: trusted
 *	  160	n	configuration, opaque
 *
 * Mark (says only what is true, is never needed for what is not):
 *		0	4	CRC of bytes 4 .. 47
 *		4	4	0x4B4D5150 "PQMK"
 *		8	4	generation
 *	   12	4	0
 *	   16	8	everything before this segment
 *	   24	8	and offset is durable
 *	   32	8	index of the last record there
 *	   40	8	commit index, at most that one
 *
 * Cuts
 * ----
 * A suffix is truncated by writing metadata with the place of the cut and a new
 * generation; then the records after it are overwritten. Opening the log does
 * the same at its end, so that nothing that was found torn there can come back.
 *
 * Acknowledged or not
 * -------------------
 * A batch is written, synced, acknowledged; one at a time. When the chain of
 * valid records ends at E, what lay at E was acknowledged if any of these holds:
 *
 *	1. The cut lies after E (it was durable when the cut was written).
 *	2. A mark of the present generation lies after E. The mark is written after
 *	   each batch but not synced by itself: it is always there after the crash of
 *	   a process, and as a rule from the next sync of the metadata or write-back
 *	   of the system on.
 *	3. A valid record of the present generation after E, in E's segment, has a
 *	   batch start after E.
 *	4. There is a segment after E's (its file is given its name after everything
 *	   before it was synced).
 *	5. The commit index is not below E's index.
 *
 * Then the log is damaged. Otherwise the rest is torn and was never acknowledged.
 * Limit: damage to the last batch, when at the same time a power cut took the
 * mark, cannot be told from a torn write; nothing short of a second sync for
 * each batch could. A majority has the entry in any case.
 *
 *-------------------------------------------------------------------------
 */
#include "storage/rlog_internal.h"

#include <string.h>

#include "storage/crc32c.h"

#define SEGMENT_MAGIC	0x47535150
#define RECORD_MAGIC	0x5152
#define META_MAGIC		0x544D5150
#define MARK_MAGIC		0x4B4D5150

static void
put(uint8_t *p, uint64_t value, int bytes)
{
	for (int i = 0; i < bytes; i++)
		p[i] = (uint8_t) (value >> (8 * i));
}

static uint64_t
get(const uint8_t *p, int bytes)
{
	uint64_t	value = 0;

	for (int i = 0; i < bytes; i++)
		value |= (uint64_t) p[i] << (8 * i);
	return value;
}

static uint32_t
crc_of(const uint8_t *bytes, size_t len)
{
	return pgq_crc32c_finish(pgq_crc32c_add(pgq_crc32c_start(), bytes, len));
}

/* ---------- segment header ---------- */

void
segment_header_encode(const SegmentHeader *header, uint8_t *bytes)
{
	put(bytes + 4, SEGMENT_MAGIC, 4);
	put(bytes + 8, header->version, 4);
	put(bytes + 12, header->generation, 4);
	put(bytes + 16, header->seq, 8);
	put(bytes + 24, header->first_index, 8);
	put(bytes + 32, header->prev_term, 8);
	memcpy(bytes + 40, header->instance_id, 16);
	put(bytes + 56, header->size, 8);
	put(bytes, crc_of(bytes + 4, SEGMENT_HEADER_BYTES - 4), 4);
}

bool
segment_header_decode(const uint8_t *bytes, SegmentHeader *header)
{
	if (get(bytes + 4, 4) != SEGMENT_MAGIC ||
		get(bytes, 4) != crc_of(bytes + 4, SEGMENT_HEADER_BYTES - 4))
		return false;
	header->version = (uint32_t) get(bytes + 8, 4);
	header->generation = (uint32_t) get(bytes + 12, 4);
	header->seq = get(bytes + 16, 8);
	header->first_index = get(bytes + 24, 8);
	header->prev_term = get(bytes + 32, 8);
	memcpy(header->instance_id, bytes + 40, 16);
	header->size = get(bytes + 56, 8);
	return true;
}

/* ---------- record header ---------- */

static uint32_t
record_crc(RlogPosition at, const uint8_t *bytes)
{
	uint8_t		place[16];
	uint32_t	crc = pgq_crc32c_start();

	put(place, at.seq, 8);
	put(place + 8, at.offset, 8);
	crc = pgq_crc32c_add(crc, place, sizeof(place));
	return pgq_crc32c_finish(pgq_crc32c_add(crc, bytes + 4, RECORD_HEADER_BYTES - 4));
}

void
record_header_encode(const RecordHeader *header, RlogPosition at, uint8_t *bytes)
{
	put(bytes + 4, RECORD_MAGIC, 2);
	bytes[6] = header->type;
	bytes[7] = header->kind;
	put(bytes + 8, header->len, 4);
	put(bytes + 12, header->payload_crc, 4);
	put(bytes + 16, header->generation, 4);
	put(bytes + 20, header->batch_start, 4);
	put(bytes + 24, header->index, 8);
	put(bytes + 32, header->term, 8);
	memcpy(bytes + 40, header->stamp, 16);
	memcpy(bytes + 56, header->token, 16);
	put(bytes, record_crc(at, bytes), 4);
}

bool
record_header_decode(const uint8_t *bytes, RlogPosition at, RecordHeader *header)
{
	if (get(bytes + 4, 2) != RECORD_MAGIC || get(bytes, 4) != record_crc(at, bytes))
		return false;
	header->type = bytes[6];
	header->kind = bytes[7];
	header->len = (uint32_t) get(bytes + 8, 4);
	header->payload_crc = (uint32_t) get(bytes + 12, 4);
	header->generation = (uint32_t) get(bytes + 16, 4);
	header->batch_start = (uint32_t) get(bytes + 20, 4);
	header->index = get(bytes + 24, 8);
	header->term = get(bytes + 32, 8);
	memcpy(header->stamp, bytes + 40, 16);
	memcpy(header->token, bytes + 56, 16);
	return header->kind <= RECORD_END;
}

/* The padding belongs to what is checked; crc: of the payload, not finished. */
uint32_t
record_payload_crc_end(uint32_t crc, uint32_t len)
{
	static const uint8_t zeros[8] = {0};

	return pgq_crc32c_finish(pgq_crc32c_add(crc, zeros, (8 - len % 8) % 8));
}

uint32_t
record_payload_crc(const void *data, uint32_t len)
{
	uint32_t	crc = pgq_crc32c_start();

	if (len > 0)
		crc = pgq_crc32c_add(crc, data, len);
	return record_payload_crc_end(crc, len);
}

/* ---------- metadata ---------- */

/* bytes: META_HEADER_BYTES + conf_len */
void
meta_encode(const RlogMeta *meta, const void *conf, uint8_t *bytes)
{
	put(bytes + 4, META_MAGIC, 4);
	put(bytes + 8, RLOG_FORMAT_VERSION, 4);
	put(bytes + 12, meta->conf_len, 4);
	put(bytes + 16, meta->meta_seq, 8);
	memcpy(bytes + 24, meta->identity.cluster_id, 16);
	memcpy(bytes + 40, meta->identity.instance_id, 16);
	put(bytes + 56, meta->identity.node_id, 4);
	put(bytes + 60, meta->vote, 4);
	put(bytes + 64, meta->term, 8);
	put(bytes + 72, meta->commit, 8);
	put(bytes + 80, meta->conf_index, 8);
	put(bytes + 88, meta->first_index, 8);
	put(bytes + 96, meta->prev_term, 8);
	put(bytes + 104, meta->first_seq, 8);
	put(bytes + 112, meta->cut.seq, 8);
	put(bytes + 120, meta->cut.offset, 8);
	put(bytes + 128, meta->cut_next_seq, 8);
	put(bytes + 136, meta->cut_index, 8);
	put(bytes + 144, meta->generation, 4);
	put(bytes + 148, 0, 4);
	put(bytes + 152, meta->distrusted_until, 8);
	if (meta->conf_len > 0)
		memcpy(bytes + META_HEADER_BYTES, conf, meta->conf_len);
	put(bytes, crc_of(bytes + 4, META_HEADER_BYTES - 4 + meta->conf_len), 4);
}

/* The configuration follows the header in bytes. */
bool
meta_decode(const uint8_t *bytes, size_t len, RlogMeta *meta)
{
	if (len < META_HEADER_BYTES || get(bytes + 4, 4) != META_MAGIC)
		return false;
	memset(meta, 0, sizeof(*meta));
	meta->conf_len = (uint32_t) get(bytes + 12, 4);
	if (meta->conf_len > RLOG_MAX_CONF || meta->conf_len > len - META_HEADER_BYTES)
		return false;
	if (get(bytes, 4) != crc_of(bytes + 4, META_HEADER_BYTES - 4 + meta->conf_len))
		return false;
	if (get(bytes + 8, 4) != RLOG_FORMAT_VERSION)
		return false;
	meta->meta_seq = get(bytes + 16, 8);
	memcpy(meta->identity.cluster_id, bytes + 24, 16);
	memcpy(meta->identity.instance_id, bytes + 40, 16);
	meta->identity.node_id = (uint32_t) get(bytes + 56, 4);
	meta->vote = (uint32_t) get(bytes + 60, 4);
	meta->term = get(bytes + 64, 8);
	meta->commit = get(bytes + 72, 8);
	meta->conf_index = get(bytes + 80, 8);
	meta->first_index = get(bytes + 88, 8);
	meta->prev_term = get(bytes + 96, 8);
	meta->first_seq = get(bytes + 104, 8);
	meta->cut.seq = get(bytes + 112, 8);
	meta->cut.offset = get(bytes + 120, 8);
	meta->cut_next_seq = get(bytes + 128, 8);
	meta->cut_index = get(bytes + 136, 8);
	meta->generation = (uint32_t) get(bytes + 144, 4);
	meta->distrusted_until = get(bytes + 152, 8);
	return true;
}

/* ---------- mark ---------- */

void
mark_encode(const RlogMark *mark, uint8_t *bytes)
{
	put(bytes + 4, MARK_MAGIC, 4);
	put(bytes + 8, mark->generation, 4);
	put(bytes + 12, 0, 4);
	put(bytes + 16, mark->position.seq, 8);
	put(bytes + 24, mark->position.offset, 8);
	put(bytes + 32, mark->index, 8);
	put(bytes + 40, mark->commit, 8);
	put(bytes, crc_of(bytes + 4, MARK_BYTES - 4), 4);
}

bool
mark_decode(const uint8_t *bytes, RlogMark *mark)
{
	if (get(bytes + 4, 4) != MARK_MAGIC || get(bytes, 4) != crc_of(bytes + 4, MARK_BYTES - 4))
		return false;
	mark->generation = (uint32_t) get(bytes + 8, 4);
	mark->position.seq = get(bytes + 16, 8);
	mark->position.offset = get(bytes + 24, 8);
	mark->index = get(bytes + 32, 8);
	mark->commit = get(bytes + 40, 8);
	return true;
}
