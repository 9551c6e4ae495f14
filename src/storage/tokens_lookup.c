/*-------------------------------------------------------------------------
 *
 * tokens_lookup.c
 *		What the archive of tokens says about one token.
 *
 * Reads the files as they are, while their writer goes on: a file that is gone
 * when it is to be opened was merged or is too old, and the look-up begins anew.
 * Only what was really looked through counts for "absent".
 *
 *-------------------------------------------------------------------------
 */
#include "storage/tokens.h"

#include <errno.h>
#include <stdlib.h>

#include "storage/tokens_format.h"

#define MAX_TRIES	20

typedef struct Wanted
{
	uint64_t	counter;
	bool		found;
} Wanted;

static bool
look_at_run(void *arg, uint64_t from, uint64_t to)
{
	Wanted	   *wanted = arg;

	if (wanted->counter >= from && wanted->counter <= to)
		wanted->found = true;
	return to < wanted->counter;
}

/* 1 found, 0 not, or an error. */
static int
look_into(const RlogEnv *env, const char *dir, TokSegment *segment, TokToken token)
{
	char		path[TOK_PATH_LEN];
	TokGroup   *groups;
	size_t		ngroups;
	Wanted		wanted = {token.counter, false};
	int			fd;
	int			rc;

	tok_segment_path(dir, segment->first, segment->last, path);
	rc = env->open(env->ctx, path, false, false, &fd);
	if (rc != 0)
		return rc;
	rc = tok_read_groups(env, fd, segment, &groups, &ngroups);
	for (size_t i = 0; rc == 0 && i < ngroups; i++)
	{
		uint8_t    *data;

		if (groups[i].node != token.node || groups[i].boot != token.boot ||
			token.counter < groups[i].least || token.counter > groups[i].highest)
			continue;
		rc = tok_read_data(env, fd, &groups[i], &data);
		if (rc != 0)
			break;
		if (!tok_decode(&groups[i], data, look_at_run, &wanted))
			rc = -EBADMSG;
		free(data);
	}
	free(groups);
	(void) env->close(env->ctx, fd);
	return rc != 0 ? rc : wanted.found ? 1 : 0;
}

static bool
may_be_below(const TokHorizon *h, TokToken token)
{
	if (h->first == 1)
		return false;
	if (!h->complete)
		return true;
	for (size_t i = 0; i < h->n; i++)
		if (h->highest[i].node == token.node)
			return tok_compare(&token, &h->highest[i]) <= 0;
	return false;
}

/* 0: *result stands; else an error, -ENOENT: try again. */
static int
try_lookup(const RlogEnv *env, const char *dir, TokToken token, TokResult *result, uint64_t *upto)
{
	TokHorizon	horizon;
	TokSegmentList list;
	uint64_t	next;
	bool		hole = false;
	int			rc = tok_read_horizon(env, dir, &horizon);

	if (rc == -EBADMSG)
		horizon = (TokHorizon) {.first = 2};	/* anything may lie below */
	else if (rc != 0)
		return rc == -ENOENT ? -EIO : rc;	/* there is none yet */
	rc = tok_list(env, dir, &list);
	next = horizon.first;
	*result = TOK_ABSENT;
	for (size_t i = 0; rc == 0 && i < list.n; i++)
	{
		TokSegment *s = &list.segments[i];
		int			found = look_into(env, dir, s, token);

		if (found == 1)
		{
			*result = TOK_FOUND;
			break;
		}
		if (found == -ENOENT)
			rc = -ENOENT;
		else if (s->first > next || found < 0)
			hole = hole || s->last >= next;
		if (found == 0 && !hole && s->last >= next)
			next = s->last + 1;
	}
	if (rc == 0 && *result == TOK_ABSENT && may_be_below(&horizon, token))
		*result = TOK_UNSURE;
	*upto = next - 1;
	if (list.n > 0)
		free(list.segments);
	free(horizon.highest);
	return rc;
}

TokResult
tok_lookup(const RlogEnv *env, const char *dir, TokToken token, uint64_t *upto)
{
	TokResult	result;

	for (int i = 0; i < MAX_TRIES; i++)
	{
		int			rc = try_lookup(env, dir, token, &result, upto);

		if (rc == 0)
			return result;
		if (rc != -ENOENT)
			break;
	}
	*upto = 0;
	return TOK_UNSURE;
}
