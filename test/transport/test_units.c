/*-------------------------------------------------------------------------
 *
 * test_units.c
 *		The parts that need no socket: checksum, frames, reassembly, addresses.
 *
 *-------------------------------------------------------------------------
 */
#include "harness.h"

#include <stdlib.h>

#include "storage/crc32c.h"
#include "transport/frame.h"

static void
test_crc32c(void)
{
	uint8_t		bytes[600];
	uint32_t	crc;

	begin("units: CRC-32C, known values, and table against instruction");
	crc = pgq_crc32c_finish(pgq_crc32c_add(pgq_crc32c_start(), "123456789", 9));
	CHECK(crc == 0xE3069283);	/* the check value of the Castagnoli polynomial */
	memset(bytes, 0, 32);
	crc = pgq_crc32c_finish(pgq_crc32c_add(pgq_crc32c_start(), bytes, 32));
	CHECK(crc == 0x8A9136AA);	/* RFC 3720, B.4: 32 bytes of zeroes */

	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t) (i * 7 + i / 256);
	for (size_t start = 0; start < 9; start++)
		for (size_t len = 0; len + start <= sizeof(bytes); len += 13)
			if (pgq_crc32c_add(pgq_crc32c_start(), bytes + start, len) !=
				pgq_crc32c_add_table(pgq_crc32c_start(), bytes + start, len))
				CHECK(!"table and instruction agree");
	crc = pgq_crc32c_add(pgq_crc32c_start(), bytes, 100);
	crc = pgq_crc32c_add(crc, bytes + 100, 500);
	CHECK(crc == pgq_crc32c_add_table(pgq_crc32c_start(), bytes, 600));
}

static size_t
make_frame(uint8_t *buf, FrameKind kind, uint8_t flags, uint8_t type, uint32_t total,
		   const void *payload, size_t len)
{
	TpPart		part = {payload, len};

	tp_frame_header(buf, kind, flags, type, total, &part, 1);
	memcpy(buf + FRAME_HEADER_LEN, payload, len);
	return FRAME_HEADER_LEN + len;
}

static void
test_frames(void)
{
	uint8_t		buf[FRAME_HEADER_LEN + 64];
	Frame		frame;
	const char *error;
	size_t		need;
	size_t		len = make_frame(buf, FRAME_DATA, FRAME_FIRST | FRAME_LAST, 7, 5, "hello", 5);

	begin("units: a frame round trip, every cut and every damaged bit");
	CHECK(tp_frame_parse(buf, len, 64, &frame, &need, &error) == FRAME_OK);
	CHECK(frame.kind == FRAME_DATA && frame.type == 7 && frame.total == 5 && frame.len == 5 &&
		  memcmp(frame.payload, "hello", 5) == 0);
	for (size_t cut = 0; cut < len; cut++)
		if (tp_frame_parse(buf, cut, 64, &frame, &need, &error) != FRAME_MORE || need <= cut)
			CHECK(!"a cut frame asks for more");
	for (size_t bit = 0; bit < len * 8; bit++)
	{
		FrameStatus status;

		buf[bit / 8] ^= (uint8_t) (1 << bit % 8);
		status = tp_frame_parse(buf, len, 64, &frame, &need, &error);

		/* A longer length is believed until it has arrived; nothing else is. */
		if (status == FRAME_OK || (status == FRAME_MORE && bit / 8 != 4))
			CHECK(!"a damaged frame is not accepted");
		buf[bit / 8] ^= (uint8_t) (1 << bit % 8);
	}
	CHECK(tp_frame_parse(buf, len, 4, &frame, &need, &error) == FRAME_BAD);

	/* Refused by its header alone. */
	memset(buf, 0xFF, FRAME_HEADER_LEN);
	CHECK(tp_frame_parse(buf, FRAME_HEADER_LEN, TP_FRAME_MAX_BYTES, &frame, &need,
						 &error) == FRAME_BAD);
}

static AssemblyStatus
feed(Assembly *lane, uint8_t flags, uint8_t type, uint32_t total, size_t len, TpMessage *msg)
{
	static uint8_t payload[1000];
	Frame		frame = {FRAME_DATA, flags, type, total, payload, (uint32_t) len};
	const char *error;
	AssemblyStatus status = tp_assembly_add(lane, &frame, 5000, msg, &error);

	CHECK((status == ASSEMBLY_BAD) == (error != NULL));
	return status;
}

static void
test_assembly(void)
{
	Assembly	lane;
	TpMessage	msg;

	begin("units: messages out of fragments, and every way to get them wrong");
	memset(&lane, 0, sizeof(lane));
	CHECK(feed(&lane, FRAME_FIRST | FRAME_LAST, 3, 0, 0, &msg) == ASSEMBLY_DONE);
	CHECK(msg.len == 0 && msg.heap == NULL && msg.type == 3 && msg.lane == TP_URGENT);

	CHECK(feed(&lane, FRAME_FIRST | FRAME_BULK, 9, 1500, 1000, &msg) == ASSEMBLY_MORE);
	CHECK(feed(&lane, FRAME_LAST | FRAME_BULK, 0, 0, 500, &msg) == ASSEMBLY_DONE);
	CHECK(msg.len == 1500 && msg.heap == msg.data && msg.type == 9 && msg.lane == TP_BULK);
	free(msg.heap);

	CHECK(feed(&lane, FRAME_LAST, 0, 0, 10, &msg) == ASSEMBLY_BAD); /* no beginning */
	CHECK(feed(&lane, 0, 0, 0, 10, &msg) == ASSEMBLY_BAD);
	CHECK(feed(&lane, FRAME_FIRST, 1, 5001, 10, &msg) == ASSEMBLY_BAD); /* too long */
	CHECK(feed(&lane, FRAME_FIRST | FRAME_LAST, 1, 20, 10, &msg) == ASSEMBLY_BAD);
	CHECK(feed(&lane, FRAME_FIRST, 1, 10, 10, &msg) == ASSEMBLY_BAD);	/* is the last */
	CHECK(feed(&lane, FRAME_FIRST, 1, 10, 0, &msg) == ASSEMBLY_BAD);	/* empty */
	CHECK(!lane.open && lane.bytes == NULL);

	CHECK(feed(&lane, FRAME_FIRST, 1, 100, 10, &msg) == ASSEMBLY_MORE);
	CHECK(feed(&lane, FRAME_FIRST, 1, 100, 10, &msg) == ASSEMBLY_BAD);	/* nested */
	CHECK(feed(&lane, 0, 1, 0, 10, &msg) == ASSEMBLY_BAD);	/* a type again */
	CHECK(feed(&lane, 0, 0, 0, 91, &msg) == ASSEMBLY_BAD);	/* beyond the end */
	CHECK(feed(&lane, 0, 0, 0, 90, &msg) == ASSEMBLY_BAD);	/* the last, unmarked */
	CHECK(feed(&lane, FRAME_LAST, 0, 0, 89, &msg) == ASSEMBLY_BAD); /* too short */
	tp_assembly_free(&lane);

	begin("units: a claimed length allocates nothing");
	CHECK(feed(&lane, FRAME_FIRST, 1, 5000, 1, &msg) == ASSEMBLY_MORE);
	CHECK(lane.size <= 5000);
	tp_assembly_free(&lane);
	{
		uint8_t		byte = 0;
		Frame		frame = {FRAME_DATA, FRAME_FIRST, 1, 1u << 30, &byte, 1};
		const char *error;

		CHECK(tp_assembly_add(&lane, &frame, 1u << 30, &msg, &error) == ASSEMBLY_MORE);
		CHECK(lane.size <= 64 * 1024);
		tp_assembly_free(&lane);
	}
}

static void
test_addresses(void)
{
	static const char *good[] = {"127.0.0.1:7432", "db1.example.com:1", "[::1]:65535",
		"localhost:0", "[fe80::1%eth0]:7432"};
	static const char *bad[] = {"", ":", "127.0.0.1", "127.0.0.1:", ":7432", "::1:7432",
		"[::1]", "[::1]7432", "[]:1", "a b:1", "host:65536", "host:-1", "host:1x",
		"host:000001", "host\n:1", "a/b:1"};

	begin("units: addresses");
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		CHECK(tp_address_valid(good[i]));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		CHECK(!tp_address_valid(bad[i]));
}

static void
test_refusal_texts(void)
{
	begin("units: every refusal has a text of its own");
	for (int i = 0; i <= TP_REFUSED_INTERNAL; i++)
		for (int j = 0; j < i; j++)
			if (strcmp(tp_refusal_text((TpRefusal) i), tp_refusal_text((TpRefusal) j)) == 0)
				CHECK(!"texts differ");
	CHECK(strcmp(tp_refusal_text((TpRefusal) 200), "unknown reason") == 0);
}

void
test_units(void)
{
	test_crc32c();
	test_frames();
	test_assembly();
	test_addresses();
	test_refusal_texts();
}
