/*-------------------------------------------------------------------------
 *
 * fuzz_frame.c
 *		libFuzzer target: what an established connection reads.
 *
 * The input is parsed twice: as it is, and record by record (fuzz_common.h).
 * Properties: nothing is read out of bounds (sanitizers), a frame lies within
 * its buffer, a message within its limit, and no more memory is held than what
 * arrived warrants.
 *
 *-------------------------------------------------------------------------
 */
#include "fuzz_common.h"

#define MAX_MESSAGE (200 * 1024)

static void
feed_lanes(Assembly *lanes, const Frame *frame, size_t *arrived, bool *bad)
{
	TpMessage	msg;
	const char *error;
	uint32_t	sum = 0;

	*arrived += frame->len;
	switch (tp_assembly_add(&lanes[(frame->flags & FRAME_BULK) != 0], frame, MAX_MESSAGE, &msg,
							&error))
	{
		case ASSEMBLY_MORE:
			break;
		case ASSEMBLY_BAD:
			FUZZ_CHECK(error != NULL);
			*bad = true;
			break;
		case ASSEMBLY_DONE:
			FUZZ_CHECK(msg.len <= MAX_MESSAGE && msg.len <= *arrived);
			for (size_t i = 0; i < msg.len; i++)
				sum += msg.data[i];
			free(msg.heap);
	}
	for (int i = 0; i < 2; i++)
	{
		FUZZ_CHECK(lanes[i].have <= lanes[i].size || lanes[i].bytes == NULL);
		FUZZ_CHECK(lanes[i].size <= 2 * *arrived + 64 * 1024);
	}
	(void) sum;
}

/* As conn.c does it. */
static void
parse(const uint8_t *bytes, size_t len, Assembly *lanes, size_t *arrived, bool *bad)
{
	while (!*bad)
	{
		Frame		frame;
		size_t		need = 0;
		const char *error;
		FrameStatus status = tp_frame_parse(bytes, len, TP_FRAME_MAX_BYTES, &frame, &need,
											&error);

		if (status == FRAME_MORE)
		{
			FUZZ_CHECK(need > len && need <= FRAME_HEADER_LEN + TP_FRAME_MAX_BYTES);
			break;
		}
		if (status == FRAME_BAD)
			break;
		FUZZ_CHECK(frame.payload + frame.len <= bytes + len);
		bytes += FRAME_HEADER_LEN + frame.len;
		len -= FRAME_HEADER_LEN + frame.len;
		if (frame.kind == FRAME_DATA)
			feed_lanes(lanes, &frame, arrived, bad);
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t buf[FRAME_HEADER_LEN + 65536];
	Assembly	lanes[2];
	size_t		arrived = 0;
	size_t		len;
	bool		bad = false;

	memset(lanes, 0, sizeof(lanes));
	parse(data, size, lanes, &arrived, &bad);
	tp_assembly_free(&lanes[0]);
	tp_assembly_free(&lanes[1]);

	arrived = 0;
	bad = false;
	while (!bad && (len = next_frame(&data, &size, buf)) > 0)
		parse(buf, len, lanes, &arrived, &bad);
	tp_assembly_free(&lanes[0]);
	tp_assembly_free(&lanes[1]);
	return 0;
}

void
write_seeds(const char *dir)
{
	uint8_t		seed[1024];
	size_t		n = 0;

	n = put_record(seed, FRAME_DATA, FRAME_FIRST | FRAME_LAST, 1, 5, "hello", 5);
	write_seed(dir, "one", seed, n);
	n = put_record(seed, FRAME_DATA, FRAME_FIRST | FRAME_BULK, 2, 10, "hello", 5);
	n += put_record(seed + n, FRAME_DATA, FRAME_FIRST | FRAME_LAST, 1, 4, "vote", 4);
	n += put_record(seed + n, FRAME_DATA, FRAME_LAST | FRAME_BULK, 0, 0, "world", 5);
	write_seed(dir, "two-lanes", seed, n);
	n = put_record(seed, FRAME_DATA, FRAME_FIRST, 2, 100000, "x", 1);
	n += put_record(seed + n, FRAME_DATA, 0, 0, 0, "y", 1);
	write_seed(dir, "long", seed, n);
	{
		TpPart		part = {"raw", 3};

		tp_frame_header(seed, FRAME_DATA, FRAME_FIRST | FRAME_LAST, 1, 3, &part, 1);
		memcpy(seed + FRAME_HEADER_LEN, "raw", 3);
		write_seed(dir, "raw", seed, FRAME_HEADER_LEN + 3);
	}
}
