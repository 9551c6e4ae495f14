/*-------------------------------------------------------------------------
 *
 * fuzz_decode.c
 *		libFuzzer: bytes from the wire and from CONF entries.
 *
 * First byte even: a message; odd: a configuration. What is let through must be
 * written as the same bytes again, and a core must survive it whatever it says.
 *
 *-------------------------------------------------------------------------
 */
#include "fuzz_common.h"

typedef struct Bytes
{
	uint8_t    *data;
	size_t		len;
} Bytes;

static void
add_part(void *arg, const void *data, size_t len)
{
	Bytes	   *b = arg;

	b->data = realloc(b->data, b->len + len + 1);
	memcpy(b->data + b->len, data, len);
	b->len += len;
}

static void
fuzz_conf(const uint8_t *data, size_t len)
{
	RaftConf	conf;
	RaftBuf    *again;

	if (!raft_conf_decode(data, len, &conf))
		return;
	FUZZ_CHECK(raft_conf_valid(&conf));
	again = raft_conf_encode(&conf);
	FUZZ_CHECK(again != NULL && again->len == len && memcmp(again->data, data, len) == 0);
	raft_buf_unref(again);
}

static void
fuzz_message(const uint8_t *data, size_t len)
{
	Raft	   *r = fuzz_core(1 + len % 4);
	RaftMsg		msg;
	Bytes		b = {malloc(1), 0};
	uint8_t    *head;

	if (raft_msg_decode(data, len, &msg))
	{
		head = raft_msg_encode(&msg, add_part, &b);
		FUZZ_CHECK(head != NULL && b.len == len && memcmp(b.data, data, len) == 0);
		free(head);
		msg.to = 1;
		(void) raft_recv(r, &msg, 2000000);
		fuzz_take(r);
	}
	free(b.data);
	raft_free(r);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t    *exact;

	if (size == 0)
		return 0;
	exact = malloc(size);		/* a block of just that size: over-reads are seen */
	memcpy(exact, data + 1, size - 1);
	if (data[0] % 2 == 1)
		fuzz_conf(exact, size - 1);
	else
		fuzz_message(exact, size - 1);
	free(exact);
	return 0;
}

void
write_seeds(const char *dir)
{
	char		name[32];
	RaftConf	conf;
	RaftBuf    *buf;
	Bytes		b;

	for (int type = RAFT_MSG_PREVOTE; type <= RAFT_MSG_SNAPSHOT; type++)
	{
		RaftEntry	entries[2];
		RaftMsg		m;

		memset(&m, 0, sizeof(m));
		memset(entries, 0, sizeof(entries));
		m.type = (uint8_t) type;
		m.from = 2;
		m.to = 1;
		m.term = 3;
		m.index = 2;
		m.log_term = 1;
		fuzz_instance(2, m.instance);
		fuzz_conf_of(3, &conf);
		for (uint32_t i = 0; i < 2; i++)
		{
			entries[i].index = 3 + i;
			entries[i].term = 3;
			entries[i].type = i == 0 ? RAFT_ENTRY_DATA : RAFT_ENTRY_CONF;
			entries[i].data = i == 0 ? raft_buf_new("payload", 7) : raft_conf_encode(&conf);
		}
		if (type == RAFT_MSG_APPEND || type == RAFT_MSG_SNAPSHOT)
		{
			m.nentries = type == RAFT_MSG_APPEND ? 2 : 1;
			m.entries = type == RAFT_MSG_APPEND ? entries : &entries[1];
		}
		b.data = calloc(1, 1);
		b.len = 1;
		free(raft_msg_encode(&m, add_part, &b));
		snprintf(name, sizeof(name), "message-%d", type);
		write_seed(dir, name, b.data, b.len);
		free(b.data);
		raft_buf_unref(entries[0].data);
		raft_buf_unref(entries[1].data);
	}
	fuzz_conf_of(3, &conf);
	buf = raft_conf_encode(&conf);
	b.data = malloc(buf->len + 1);
	b.data[0] = 1;
	memcpy(b.data + 1, buf->data, buf->len);
	write_seed(dir, "conf", b.data, buf->len + 1);
	free(b.data);
	raft_buf_unref(buf);
}
