/*-------------------------------------------------------------------------
 *
 * fuzz_handshake.c
 *		libFuzzer target: what a stranger can say in a handshake.
 *
 * The first byte chooses the side and whether there is a secret; the rest are
 * records (fuzz_common.h). Properties: with a secret nobody gets as far as
 * being asked about; what is sent fits its buffer; names and texts are printable
 * and terminated; after a failure nothing more is taken.
 *
 *-------------------------------------------------------------------------
 */
#include "fuzz_common.h"

#include "transport/handshake.h"

#define CHOICE_INITIATOR	0x01
#define CHOICE_SECRET		0x02
#define CHOICE_JOIN			0x04
#define CHOICE_REFUSE		0x08

static void
identify(TpIdentity *self, uint32_t id)
{
	memset(self, 0, sizeof(*self));
	memset(self->cluster_id, 5, TP_ID_LEN);
	self->member_id = id;
	snprintf(self->name, sizeof(self->name), "fuzz%u", id);
}

static void
check_text(const char *text, size_t size)
{
	size_t		len = strnlen(text, size);

	FUZZ_CHECK(len < size);
	for (size_t i = 0; i < len; i++)
		FUZZ_CHECK((unsigned char) text[i] >= 0x20 && text[i] != 0x7F);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t buf[FRAME_HEADER_LEN + 65536];
	TpIdentity	self;
	HsLocal		local = {&self, 42, (const uint8_t *) "0123456789abcdef", 0};
	Handshake	hs;
	HsOutput	out;
	uint8_t		choice;
	size_t		len;

	if (size == 0)
		return 0;
	choice = *data++;
	size--;
	identify(&self, 1);
	if (choice & CHOICE_SECRET)
		local.secret_len = 16;
	if (!tp_hs_init(&hs, &local, choice & CHOICE_INITIATOR, true,
					choice & CHOICE_JOIN ? TP_PURPOSE_JOIN : TP_PURPOSE_PEER,
					choice & CHOICE_JOIN ? 0 : 2, &out))
		return 0;

	while (hs.state < HS_PROVEN && (len = next_frame(&data, &size, buf)) > 0)
	{
		Frame		frame;
		size_t		need;
		const char *error;
		HsResult	result;

		if (tp_frame_parse(buf, len, HS_PAYLOAD_MAX, &frame, &need, &error) != FRAME_OK)
			break;
		result = tp_hs_input(&hs, &local, &frame, &out);
		if (result == HS_ASK)
		{
			FUZZ_CHECK(!(choice & CHOICE_SECRET));
			result = tp_hs_decide(&hs, &local,
								  choice & CHOICE_REFUSE ? TP_REFUSED_NAME : TP_ACCEPT,
								  "taken", &out);
			FUZZ_CHECK(result == (choice & CHOICE_REFUSE ? HS_REFUSED : HS_ESTABLISHED));
		}
		FUZZ_CHECK(out.len <= sizeof(out.bytes));
		FUZZ_CHECK(result == HS_GO_ON || hs.state >= HS_PROVEN);
		FUZZ_CHECK(result == HS_GO_ON || result == HS_ESTABLISHED || hs.state == HS_FAILED);
		check_text(hs.remote.name, sizeof(hs.remote.name));
		check_text(hs.detail, sizeof(hs.detail));
		(void) tp_refusal_text(hs.refusal);
	}
	return 0;
}

/* The frame in out, as a record. */
static size_t
record_output(uint8_t *at, const HsOutput *out)
{
	size_t		start = tp_hs_preamble(out->bytes, out->len) == 2 ? FRAME_PREAMBLE_LEN : 0;
	const uint8_t *frame = out->bytes + start;

	return put_record(at, (FrameKind) frame[8], 0, 0, 0, frame + FRAME_HEADER_LEN,
					  out->len - start - FRAME_HEADER_LEN);
}

static HsResult
give(Handshake *to, const HsLocal *local, const HsOutput *in, HsOutput *out)
{
	size_t		start = tp_hs_preamble(in->bytes, in->len) == 2 ? FRAME_PREAMBLE_LEN : 0;
	HsOutput	copy = *in;
	const char *error;
	size_t		need;
	Frame		frame;

	FUZZ_CHECK(tp_frame_parse(copy.bytes + start, copy.len - start, HS_PAYLOAD_MAX, &frame,
							  &need, &error) == FRAME_OK);
	return tp_hs_input(to, local, &frame, out);
}

/* Both halves of a whole conversation. */
static void
seed_conversation(const char *dir, bool secret)
{
	static const uint8_t bytes[] = "0123456789abcdef";
	TpIdentity	one;
	TpIdentity	two;
	HsLocal		local1 = {&one, 1, bytes, secret ? 16 : 0};
	HsLocal		local2 = {&two, 2, bytes, secret ? 16 : 0};
	Handshake	i;
	Handshake	a;
	HsOutput	out;
	HsOutput	answer;
	uint8_t		to_acceptor[2048];
	uint8_t		to_initiator[2048];
	size_t		na = 1;
	size_t		ni = 1;

	/* the target under test is always member 1: so is each half, in its seed */
	identify(&one, 2);
	identify(&two, 1);
	FUZZ_CHECK(tp_hs_init(&i, &local1, true, true, TP_PURPOSE_PEER, 1, &out) &&
			   tp_hs_init(&a, &local2, false, true, TP_PURPOSE_PEER, 0, &answer));
	to_acceptor[0] = secret ? CHOICE_SECRET : 0;
	na += record_output(to_acceptor + na, &out);
	FUZZ_CHECK(give(&a, &local2, &out, &answer) == HS_GO_ON);
	FUZZ_CHECK(give(&i, &local1, &answer, &out) == HS_GO_ON);
	na += record_output(to_acceptor + na, &out);
	write_seed(dir, secret ? "acceptor-secret" : "acceptor", to_acceptor, na);

	identify(&one, 1);
	identify(&two, 2);
	FUZZ_CHECK(tp_hs_init(&i, &local1, true, true, TP_PURPOSE_PEER, 2, &out) &&
			   tp_hs_init(&a, &local2, false, true, TP_PURPOSE_PEER, 0, &answer));
	to_initiator[0] = CHOICE_INITIATOR | (secret ? CHOICE_SECRET : 0);
	FUZZ_CHECK(give(&a, &local2, &out, &answer) == HS_GO_ON);
	ni += record_output(to_initiator + ni, &answer);
	FUZZ_CHECK(give(&i, &local1, &answer, &out) == HS_GO_ON);
	FUZZ_CHECK(give(&a, &local2, &out, &answer) == HS_ASK);
	FUZZ_CHECK(tp_hs_decide(&a, &local2, TP_ACCEPT, "", &answer) == HS_ESTABLISHED);
	ni += record_output(to_initiator + ni, &answer);
	write_seed(dir, secret ? "initiator-secret" : "initiator", to_initiator, ni);
}

void
write_seeds(const char *dir)
{
	uint8_t		refusal[64] = {CHOICE_INITIATOR};
	size_t		n;

	seed_conversation(dir, false);
	seed_conversation(dir, true);
	n = 1 + put_record(refusal + 1, FRAME_REFUSE, 0, 0, 0, "\x05no", 3);
	write_seed(dir, "refusal", refusal, n);
}
