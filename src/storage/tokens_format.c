/*-------------------------------------------------------------------------
 *
 * tokens_format.c
 *		Reading and making the files of the archive of tokens.
 *		Layout: tokens_format.h.
 *
 * No length in a file is believed before it was compared with the file's size,
 * and nothing is used before its checksum was.
 *
 *-------------------------------------------------------------------------
 */
#include "storage/tokens_format.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "storage/crc32c.h"

#define NAME_LEN		33		/* of a segment */
#define MAX_VARINT		10

static uint8_t *
put_u32(uint8_t *p, uint32_t value)
{
	for (int i = 0; i < 4; i++)
		*p++ = (uint8_t) (value >> (8 * i));
	return p;
}

static uint8_t *
put_u64(uint8_t *p, uint64_t value)
{
	p = put_u32(p, (uint32_t) value);
	return put_u32(p, (uint32_t) (value >> 32));
}

static uint32_t
get_u32(const uint8_t *p)
{
	return (uint32_t) p[0] | (uint32_t) p[1] << 8 | (uint32_t) p[2] << 16 | (uint32_t) p[3] << 24;
}

static uint64_t
get_u64(const uint8_t *p)
{
	return get_u32(p) | (uint64_t) get_u32(p + 4) << 32;
}

static uint8_t *
put_varint(uint8_t *p, uint64_t value)
{
	while (value >= 0x80)
	{
		*p++ = (uint8_t) (value | 0x80);
		value >>= 7;
	}
	*p++ = (uint8_t) value;
	return p;
}

static bool
get_varint(const uint8_t **p, const uint8_t *end, uint64_t *value)
{
	*value = 0;
	for (int shift = 0; shift < 64; shift += 7)
	{
		uint8_t		b;

		if (*p == end)
			return false;
		b = *(*p)++;
		if (shift == 63 && b > 1)
			return false;
		*value |= (uint64_t) (b & 0x7f) << shift;
		if (!(b & 0x80))
			return true;
	}
	return false;
}

static uint32_t
checksum(const void *data, size_t len)
{
	return pgq_crc32c_finish(pgq_crc32c_add(pgq_crc32c_start(), data, len));
}

int
tok_compare(const void *a, const void *b)
{
	const TokToken *left = a;
	const TokToken *right = b;

	if (left->node != right->node)
		return left->node < right->node ? -1 : 1;
	if (left->boot != right->boot)
		return left->boot < right->boot ? -1 : 1;
	if (left->counter != right->counter)
		return left->counter < right->counter ? -1 : 1;
	return 0;
}

/* ---------- names ---------- */

void
tok_segment_path(const char *dir, uint64_t first, uint64_t last, char *path)
{
	snprintf(path, TOK_PATH_LEN, "%s/%016" PRIX64 "-%016" PRIX64, dir, first, last);
}

static bool
parse_hex(const char *text, uint64_t *value)
{
	*value = 0;
	for (int i = 0; i < 16; i++)
	{
		char		c = text[i];

		if (c >= '0' && c <= '9')
			*value = *value << 4 | (uint64_t) (c - '0');
		else if (c >= 'A' && c <= 'F')
			*value = *value << 4 | (uint64_t) (c - 'A' + 10);
		else
			return false;
	}
	return true;
}

static void
note_name(void *arg, const char *name)
{
	TokSegmentList *list = arg;
	TokSegment	segment = {0};

	if (strlen(name) != NAME_LEN || name[16] != '-' || !parse_hex(name, &segment.first) ||
		!parse_hex(name + 17, &segment.last) || segment.first == 0 || segment.first > segment.last)
		return;
	if (list->n == list->cap)
	{
		size_t		cap = list->cap ? 2 * list->cap : 64;
		TokSegment *bigger = realloc(list->segments, cap * sizeof(TokSegment));

		if (bigger == NULL)
		{
			list->failed = true;
			return;
		}
		list->segments = bigger;
		list->cap = cap;
	}
	list->segments[list->n++] = segment;
}

static int
compare_segments(const void *a, const void *b)
{
	const TokSegment *left = a;
	const TokSegment *right = b;

	if (left->first != right->first)
		return left->first < right->first ? -1 : 1;
	if (left->last != right->last)
		return left->last < right->last ? -1 : 1;
	return 0;
}

int
tok_list(const RlogEnv *env, const char *dir, TokSegmentList *list)
{
	int			rc;

	memset(list, 0, sizeof(*list));
	rc = env->list(env->ctx, dir, note_name, list);
	if (rc == 0 && list->failed)
		rc = -ENOMEM;
	if (rc != 0)
	{
		free(list->segments);
		memset(list, 0, sizeof(*list));
	}
	else if (list->n > 1)
		qsort(list->segments, list->n, sizeof(TokSegment), compare_segments);
	return rc;
}

/* ---------- reading ---------- */

static int
read_piece(const RlogEnv *env, int fd, uint64_t offset, size_t len, uint8_t *to)
{
	int64_t		n = env->pread(env->ctx, fd, to, len, offset);

	if (n < 0)
		return (int) n;
	return (uint64_t) n == len ? 0 : -EBADMSG;
}

int
tok_read_horizon(const RlogEnv *env, const char *dir, TokHorizon *horizon)
{
	char		path[TOK_PATH_LEN];
	uint8_t		header[TOK_HORIZON_HEADER];
	uint8_t    *rest = NULL;
	uint32_t	n;
	int			fd;
	int			rc;

	memset(horizon, 0, sizeof(*horizon));
	snprintf(path, sizeof(path), "%s/" TOK_HORIZON_NAME, dir);
	rc = env->open(env->ctx, path, false, false, &fd);
	if (rc != 0)
		return rc;
	rc = read_piece(env, fd, 0, sizeof(header), header);
	if (rc == 0 && (get_u32(header) != TOK_HORIZON_MAGIC || get_u32(header + 4) != TOK_VERSION ||
					get_u32(header + 36) > TOK_MAX_HORIZON))
		rc = -EBADMSG;
	if (rc != 0)
	{
		(void) env->close(env->ctx, fd);
		return rc;
	}
	n = get_u32(header + 36);
	rest = malloc((size_t) n * TOK_HORIZON_ENTRY + 4);
	horizon->highest = malloc((size_t) (n + 1) * sizeof(TokToken));
	if (rest == NULL || horizon->highest == NULL)
		rc = -ENOMEM;
	else
		rc = read_piece(env, fd, sizeof(header), (size_t) n * TOK_HORIZON_ENTRY + 4, rest);
	(void) env->close(env->ctx, fd);
	if (rc == 0)
	{
		uint32_t	crc = pgq_crc32c_add(pgq_crc32c_start(), header, sizeof(header));

		crc = pgq_crc32c_finish(pgq_crc32c_add(crc, rest, (size_t) n * TOK_HORIZON_ENTRY));
		if (crc != get_u32(rest + (size_t) n * TOK_HORIZON_ENTRY))
			rc = -EBADMSG;
	}
	if (rc == 0)
	{
		memcpy(horizon->owner, header + 8, 16);
		horizon->first = get_u64(header + 24);
		horizon->complete = get_u32(header + 32) != 0;
		horizon->n = n;
		for (uint32_t i = 0; i < n; i++)
		{
			const uint8_t *p = rest + (size_t) i * TOK_HORIZON_ENTRY;

			horizon->highest[i] = (TokToken) {get_u32(p), get_u32(p + 4), get_u64(p + 8)};
		}
	}
	else
	{
		free(horizon->highest);
		memset(horizon, 0, sizeof(*horizon));
	}
	free(rest);
	return rc;
}

int
tok_read_groups(const RlogEnv *env, int fd, TokSegment *segment, TokGroup **groups, size_t *ngroups)
{
	uint8_t		header[TOK_SEGMENT_HEADER];
	int64_t		size = env->size(env->ctx, fd);
	uint8_t    *raw;
	size_t		len;
	uint32_t	n;
	uint32_t	crc;
	int			rc;

	*groups = NULL;
	*ngroups = 0;
	if (size < 0)
		return (int) size;
	rc = read_piece(env, fd, 0, sizeof(header), header);
	if (rc != 0)
		return rc;
	n = get_u32(header + 32);
	len = (size_t) n * TOK_GROUP_SIZE;
	if (get_u32(header) != TOK_SEGMENT_MAGIC || get_u32(header + 4) != TOK_VERSION ||
		get_u64(header + 8) != segment->first || get_u64(header + 16) != segment->last ||
		n > TOK_MAX_GROUPS || sizeof(header) + len + 4 > (uint64_t) size)
		return -EBADMSG;
	raw = malloc(len + 4);
	*groups = malloc((n + 1) * sizeof(TokGroup));
	rc = raw == NULL || *groups == NULL ? -ENOMEM :
		read_piece(env, fd, sizeof(header), len + 4, raw);
	if (rc == 0)
	{
		crc = pgq_crc32c_add(pgq_crc32c_start(), header, sizeof(header));
		crc = pgq_crc32c_finish(pgq_crc32c_add(crc, raw, len));
		if (crc != get_u32(raw + len))
			rc = -EBADMSG;
	}
	for (uint32_t i = 0; rc == 0 && i < n; i++)
	{
		const uint8_t *p = raw + (size_t) i * TOK_GROUP_SIZE;
		TokGroup   *group = &(*groups)[i];

		group->node = get_u32(p);
		group->boot = get_u32(p + 4);
		group->least = get_u64(p + 8);
		group->highest = get_u64(p + 16);
		group->offset = get_u64(p + 24);
		group->bytes = get_u32(p + 32);
		group->crc = get_u32(p + 36);
		if (group->offset > (uint64_t) size || group->bytes > (uint64_t) size - group->offset ||
			group->least > group->highest)
			rc = -EBADMSG;
	}
	free(raw);
	if (rc != 0)
	{
		free(*groups);
		*groups = NULL;
		return rc;
	}
	segment->newest_us = (int64_t) get_u64(header + 24);
	*ngroups = n;
	return 0;
}

int
tok_read_data(const RlogEnv *env, int fd, const TokGroup *group, uint8_t **data)
{
	int			rc;

	*data = malloc((size_t) group->bytes + 1);
	if (*data == NULL)
		return -ENOMEM;
	rc = read_piece(env, fd, group->offset, group->bytes, *data);
	if (rc == 0 && checksum(*data, group->bytes) != group->crc)
		rc = -EBADMSG;
	if (rc != 0)
	{
		free(*data);
		*data = NULL;
	}
	return rc;
}

bool
tok_decode(const TokGroup *group, const uint8_t *data,
		   bool (*run) (void *arg, uint64_t from, uint64_t to), void *arg)
{
	const uint8_t *p = data;
	const uint8_t *end = data + group->bytes;
	uint64_t	at = group->least;	/* next counter that may be there */

	while (p < end)
	{
		uint64_t	skipped;
		uint64_t	more;

		if (!get_varint(&p, end, &skipped) || !get_varint(&p, end, &more))
			return false;
		if (skipped > group->highest - at || more > group->highest - at - skipped)
			return false;
		at += skipped;
		if (!run(arg, at, at + more))
			return true;
		if (at + more == group->highest)
			return p == end;
		at += more + 1;
	}
	return false;				/* the highest one did not come */
}

/* ---------- making ---------- */

static size_t
count_groups(const TokToken *tokens, size_t n)
{
	size_t		groups = 0;

	for (size_t i = 0; i < n; i++)
		if (i == 0 || tokens[i].node != tokens[i - 1].node || tokens[i].boot != tokens[i - 1].boot)
			groups++;
	return groups;
}

/* Tokens of one group; returns where its data ends. */
static uint8_t *
encode_group(const TokToken *tokens, size_t n, uint8_t *to)
{
	uint64_t	next = tokens[0].counter;

	for (size_t i = 0; i < n;)
	{
		size_t		run = 1;

		while (i + run < n && tokens[i + run].counter == tokens[i].counter + run)
			run++;
		to = put_varint(to, tokens[i].counter - next);
		to = put_varint(to, run - 1);
		next = tokens[i].counter + run;
		i += run;
	}
	return to;
}

uint8_t *
tok_encode_segment(const TokSegment *segment, const TokToken *tokens, size_t ntokens, size_t *len)
{
	size_t		ngroups = count_groups(tokens, ntokens);
	size_t		head = TOK_SEGMENT_HEADER + ngroups * TOK_GROUP_SIZE;
	uint8_t    *file = malloc(head + 4 + ntokens * 2 * MAX_VARINT);
	uint8_t    *p = file;
	uint8_t    *data;

	if (file == NULL)
		return NULL;
	assert(ngroups <= TOK_MAX_GROUPS);
	p = put_u32(p, TOK_SEGMENT_MAGIC);
	p = put_u32(p, TOK_VERSION);
	p = put_u64(p, segment->first);
	p = put_u64(p, segment->last);
	p = put_u64(p, (uint64_t) segment->newest_us);
	p = put_u32(p, (uint32_t) ngroups);
	p = put_u32(p, 0);
	data = file + head + 4;
	for (size_t i = 0; i < ntokens;)
	{
		size_t		n = 1;
		uint8_t    *end;

		while (i + n < ntokens && tokens[i + n].node == tokens[i].node &&
			   tokens[i + n].boot == tokens[i].boot)
			n++;
		end = encode_group(tokens + i, n, data);
		p = put_u32(p, tokens[i].node);
		p = put_u32(p, tokens[i].boot);
		p = put_u64(p, tokens[i].counter);
		p = put_u64(p, tokens[i + n - 1].counter);
		p = put_u64(p, (uint64_t) (data - file));
		p = put_u32(p, (uint32_t) (end - data));
		p = put_u32(p, checksum(data, (size_t) (end - data)));
		data = end;
		i += n;
	}
	assert(p == file + head);
	(void) put_u32(p, checksum(file, head));
	*len = (size_t) (data - file);
	return file;
}

uint8_t *
tok_encode_horizon(const TokHorizon *horizon, size_t *len)
{
	size_t		body = TOK_HORIZON_HEADER + horizon->n * TOK_HORIZON_ENTRY;
	uint8_t    *file = malloc(body + 4);
	uint8_t    *p = file;

	if (file == NULL)
		return NULL;
	p = put_u32(p, TOK_HORIZON_MAGIC);
	p = put_u32(p, TOK_VERSION);
	memcpy(p, horizon->owner, 16);
	p = put_u64(p + 16, horizon->first);
	p = put_u32(p, horizon->complete ? 1 : 0);
	p = put_u32(p, (uint32_t) horizon->n);
	for (size_t i = 0; i < horizon->n; i++)
	{
		p = put_u32(p, horizon->highest[i].node);
		p = put_u32(p, horizon->highest[i].boot);
		p = put_u64(p, horizon->highest[i].counter);
	}
	assert(p == file + body);
	(void) put_u32(p, checksum(file, body));
	*len = body + 4;
	return file;
}
