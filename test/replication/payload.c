/*-------------------------------------------------------------------------
 *
 * payload.c
 *		See payload.h.
 *
 *-------------------------------------------------------------------------
 */
#include "payload.h"

#include <stdlib.h>

int			passed;
int			failed;

static uint64_t random_state = 88172645463325252u;

void
random_seed(uint64_t seed)
{
	random_state = seed * 2 + 1;
}

uint64_t
random_u64(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state * 0x2545f4914f6cdd1du;
}

void
check_at(bool ok, const char *file, int line, const char *what)
{
	if (ok)
	{
		passed++;
		return;
	}
	failed++;
	printf("FAILED %s:%d: %s\n", strrchr(file, '/') ? strrchr(file, '/') + 1 : file, line,
		   what);
	fflush(stdout);
}

void
payload_free(Payload *p)
{
	free(p->data);
	memset(p, 0, sizeof(*p));
}

void
put_u8(Payload *p, uint8_t value)
{
	if (p->len == p->size)
	{
		p->size = p->size ? p->size * 2 : 64;
		p->data = realloc(p->data, p->size);
		if (p->data == NULL)
			abort();
	}
	p->data[p->len++] = value;
}

void
put_u32(Payload *p, uint32_t value)
{
	for (int i = 0; i < 4; i++)
		put_u8(p, (uint8_t) (value >> (8 * i)));
}

void
put_u64(Payload *p, uint64_t value)
{
	put_u32(p, (uint32_t) value);
	put_u32(p, (uint32_t) (value >> 32));
}

void
put_varint(Payload *p, uint64_t value)
{
	while (value >= 0x80)
	{
		put_u8(p, (uint8_t) (value | 0x80));
		value >>= 7;
	}
	put_u8(p, (uint8_t) value);
}

void
put_bytes(Payload *p, const void *data, size_t len)
{
	put_varint(p, len);
	for (size_t i = 0; i < len; i++)
		put_u8(p, ((const uint8_t *) data)[i]);
}

void
put_string(Payload *p, const char *text)
{
	put_bytes(p, text, strlen(text));
}

static int
by_key(const void *a, const void *b)
{
	const WsKey *x = a;
	const WsKey *y = b;

	if (x->key != y->key)
		return x->key < y->key ? -1 : 1;
	return (int) x->exclusive - (int) y->exclusive;
}

void
put_header(Payload *p, const WsKey *keys, uint32_t nkeys, uint32_t nrecords)
{
	WsKey	   *sorted = malloc((nkeys + 1) * sizeof(WsKey));
	uint64_t	base_max = 0;

	if (sorted == NULL)
		abort();
	if (nkeys > 0)
		memcpy(sorted, keys, nkeys * sizeof(WsKey));
	qsort(sorted, nkeys, sizeof(WsKey), by_key);
	for (uint32_t i = 0; i < nkeys; i++)
	{
		if (sorted[i].base > base_max)
			base_max = sorted[i].base;
	}
	put_u8(p, WS_VERSION);
	put_u8(p, WS_KIND_TRANSACTION);
	put_u8(p, 0);
	put_u8(p, 0);
	put_u32(p, nkeys);
	put_u32(p, nrecords);
	put_u32(p, 0);
	put_u64(p, base_max);
	for (uint32_t i = 0; i < nkeys; i++)
	{
		uint64_t	delta = base_max - sorted[i].base;

		if (delta >= WS_MAX_DELTA)
			delta = WS_MAX_DELTA;
		put_u64(p, sorted[i].key);
		put_u32(p, (uint32_t) delta << 1 | (sorted[i].exclusive ? 1 : 0));
	}
	free(sorted);
}
