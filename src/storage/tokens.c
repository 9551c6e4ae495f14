/*-------------------------------------------------------------------------
 *
 * tokens.c
 *		The archive of committed tokens: its writer. Files: tokens_format.h.
 *
 * A segment is never changed: a small one is read, merged with what comes next
 * and written anew under the name of the longer range; then the old file goes. A
 * crash between the two leaves both, which is harmless, and tok_open() removes
 * the one that the other contains.
 *
 * A new file is written under a temporary name, synced, renamed, and the
 * directory synced. Removal for age first writes the horizon that stands for what
 * goes.
 *
 *-------------------------------------------------------------------------
 */
#include "storage/tokens.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "storage/tokens_format.h"

struct TokArchive
{
	const RlogEnv *env;
	char		dir[TOK_PATH_LEN / 2];
	TokHorizon	horizon;
	TokSegmentList list;		/* newest_us filled in */
	uint64_t	archived;
};

static bool
failed(char *error, const char *what, const char *name, int rc)
{
	snprintf(error, RLOG_ERROR_LEN, "could not %s \"%.120s\": %s", what, name,
			 rc == -EBADMSG ? "the file is damaged" : strerror(-rc));
	return false;
}

/* ---------- files ---------- */

static bool
write_file(TokArchive *a, const char *path, const uint8_t *content, size_t len, char *error)
{
	const RlogEnv *env = a->env;
	char		tmp[TOK_PATH_LEN + 8];
	int			fd;
	int			closed;
	int			rc;

	snprintf(tmp, sizeof(tmp), "%s.tmp", path);
	rc = env->open(env->ctx, tmp, true, true, &fd);
	if (rc != 0)
		return failed(error, "create", tmp, rc);
	rc = env->pwrite(env->ctx, fd, content, len, 0);
	if (rc == 0)
		rc = env->fdatasync(env->ctx, fd);
	closed = env->close(env->ctx, fd);
	if (rc == 0)
		rc = closed;
	if (rc == 0)
		rc = env->rename(env->ctx, tmp, path);
	if (rc == 0)
		rc = env->fsync_dir(env->ctx, a->dir);
	if (rc == 0)
		return true;
	(void) env->unlink(env->ctx, tmp);
	return failed(error, "write", path, rc);
}

static bool
write_horizon(TokArchive *a, char *error)
{
	char		path[TOK_PATH_LEN];
	size_t		len;
	uint8_t    *content = tok_encode_horizon(&a->horizon, &len);
	bool		good;

	if (content == NULL)
		return failed(error, "write", TOK_HORIZON_NAME, -ENOMEM);
	snprintf(path, sizeof(path), "%s/" TOK_HORIZON_NAME, a->dir);
	good = write_file(a, path, content, len, error);
	free(content);
	return good;
}

static void
remove_segment(TokArchive *a, size_t i)
{
	char		path[TOK_PATH_LEN];

	tok_segment_path(a->dir, a->list.segments[i].first, a->list.segments[i].last, path);
	(void) a->env->unlink(a->env->ctx, path);
	memmove(&a->list.segments[i], &a->list.segments[i + 1],
			(a->list.n - i - 1) * sizeof(TokSegment));
	a->list.n--;
}

static int
open_segment(TokArchive *a, TokSegment *segment, int *fd, TokGroup **groups, size_t *ngroups)
{
	char		path[TOK_PATH_LEN];
	int			rc;

	tok_segment_path(a->dir, segment->first, segment->last, path);
	rc = a->env->open(a->env->ctx, path, false, false, fd);
	if (rc != 0)
		return rc;
	rc = tok_read_groups(a->env, *fd, segment, groups, ngroups);
	if (rc != 0)
		(void) a->env->close(a->env->ctx, *fd);
	return rc;
}

/* ---------- opening ---------- */

typedef struct Leftovers
{
	char		(*names)[64];
	size_t		n;
} Leftovers;

static void
note_leftover(void *arg, const char *name)
{
	Leftovers  *left = arg;
	size_t		len = strlen(name);
	void	   *bigger;

	if (len < 4 || len >= sizeof(left->names[0]) || strcmp(name + len - 4, ".tmp") != 0)
		return;
	bigger = realloc(left->names, (left->n + 1) * sizeof(left->names[0]));
	if (bigger == NULL)
		return;
	left->names = bigger;
	strcpy(left->names[left->n++], name);
}

static void
remove_leftovers(TokArchive *a)
{
	Leftovers	left = {0};

	(void) a->env->list(a->env->ctx, a->dir, note_leftover, &left);
	for (size_t i = 0; i < left.n; i++)
	{
		char		path[TOK_PATH_LEN];

		snprintf(path, sizeof(path), "%s/%s", a->dir, left.names[i]);
		(void) a->env->unlink(a->env->ctx, path);
	}
	free(left.names);
}

static bool
start_afresh(TokArchive *a, const uint8_t owner[16], uint64_t first, char *error)
{
	while (a->list.n > 0)
		remove_segment(a, a->list.n - 1);
	free(a->horizon.highest);
	memset(&a->horizon, 0, sizeof(a->horizon));
	memcpy(a->horizon.owner, owner, 16);
	a->horizon.first = first;
	a->horizon.complete = first == 1;
	return write_horizon(a, error);
}

/* Segments that another one contains; and the ends of those that are left. */
static bool
look_through(TokArchive *a, char *error)
{
	for (size_t i = 0; i + 1 < a->list.n;)
	{
		TokSegment *s = &a->list.segments[i];

		/* sorted by first, then last: the longer of two comes later */
		if (s[0].first == s[1].first && s[0].last <= s[1].last)
			remove_segment(a, i);
		else if (s[1].last <= s[0].last)
			remove_segment(a, i + 1);
		else
			i++;
	}
	for (size_t i = 0; i < a->list.n; i++)
	{
		TokGroup   *groups;
		size_t		ngroups;
		int			fd;
		int			rc = open_segment(a, &a->list.segments[i], &fd, &groups, &ngroups);

		if (rc == -EBADMSG)
		{
			/* it helps nobody; what it covered is a hole from now on */
			remove_segment(a, i--);
			continue;
		}
		if (rc != 0)
			return failed(error, "open a segment in", a->dir, rc);
		free(groups);
		(void) a->env->close(a->env->ctx, fd);
	}
	return true;
}

/* After a hole nothing is known of what lies below the last stretch. */
static bool
find_end(TokArchive *a, char *error)
{
	uint64_t	next = a->horizon.first;
	uint64_t	begin = a->horizon.first;

	for (size_t i = 0; i < a->list.n; i++)
	{
		const TokSegment *s = &a->list.segments[i];

		if (s->last < next)
			continue;			/* below the horizon */
		if (s->first > next)
			begin = s->first;
		next = s->last + 1;
	}
	a->archived = next - 1;
	if (begin == a->horizon.first)
		return true;
	a->horizon.first = begin;
	a->horizon.complete = false;
	a->horizon.n = 0;
	return write_horizon(a, error);
}

TokArchive *
tok_open(const RlogEnv *env, const char *dir, const uint8_t owner[16], uint64_t first,
		 char *error)
{
	TokArchive *a = calloc(1, sizeof(TokArchive));
	bool		good;
	int			rc;

	error[0] = '\0';
	if (a == NULL)
	{
		(void) failed(error, "open", dir, -ENOMEM);
		return NULL;
	}
	a->env = env;
	snprintf(a->dir, sizeof(a->dir), "%s", dir);
	rc = env->mkdir(env->ctx, dir);
	if (rc != 0 && rc != -EEXIST)
	{
		(void) failed(error, "create directory", dir, rc);
		tok_close(a);
		return NULL;
	}
	remove_leftovers(a);
	rc = tok_list(env, dir, &a->list);
	if (rc != 0)
	{
		(void) failed(error, "read directory", dir, rc);
		tok_close(a);
		return NULL;
	}
	rc = tok_read_horizon(env, dir, &a->horizon);
	if (rc != 0 && rc != -ENOENT && rc != -EBADMSG)
		good = failed(error, "read the horizon of", dir, rc);
	else if (rc == 0 && memcmp(a->horizon.owner, owner, 16) == 0)
		good = look_through(a, error) && find_end(a, error);
	else if (rc == -EBADMSG && a->list.n > 0)
	{
		/* what the segments say holds, what lies below is not known */
		memcpy(a->horizon.owner, owner, 16);
		good = look_through(a, error);
		a->horizon.first = a->list.n > 0 ? a->list.segments[0].first : first;
		good = good && write_horizon(a, error) && find_end(a, error);
	}
	else
	{
		good = start_afresh(a, owner, first, error);
		a->archived = first - 1;
	}
	if (!good)
	{
		tok_close(a);
		return NULL;
	}
	return a;
}

void
tok_close(TokArchive *a)
{
	free(a->list.segments);
	free(a->horizon.highest);
	free(a);
}

uint64_t
tok_archived(const TokArchive *a)
{
	return a->archived;
}

size_t
tok_segments(const TokArchive *a)
{
	return a->list.n;
}

/* ---------- adding ---------- */

typedef struct Collected
{
	TokToken   *tokens;
	size_t		n;
	size_t		cap;
	uint32_t	node;
	uint32_t	boot;
	bool		failed;
} Collected;

static bool
collect_run(void *arg, uint64_t from, uint64_t to)
{
	Collected  *c = arg;
	uint64_t	n = to - from + 1;

	if (n > 64 * TOK_MERGE_ENTRIES || c->n + n > c->cap)
	{
		size_t		cap = (c->n + (size_t) n) * 2;
		TokToken   *bigger = n > 64 * TOK_MERGE_ENTRIES ? NULL :
			realloc(c->tokens, cap * sizeof(TokToken));

		if (bigger == NULL)
		{
			c->failed = true;
			return false;
		}
		c->tokens = bigger;
		c->cap = cap;
	}
	for (uint64_t i = from;; i++)
	{
		c->tokens[c->n++] = (TokToken) {c->node, c->boot, i};
		if (i == to)
			break;
	}
	return true;
}

static int
collect_segment(TokArchive *a, TokSegment *segment, Collected *c)
{
	TokGroup   *groups;
	size_t		ngroups;
	int			fd;
	int			rc = open_segment(a, segment, &fd, &groups, &ngroups);

	if (rc != 0)
		return rc;
	for (size_t i = 0; rc == 0 && i < ngroups; i++)
	{
		uint8_t    *data;

		rc = tok_read_data(a->env, fd, &groups[i], &data);
		if (rc != 0)
			break;
		c->node = groups[i].node;
		c->boot = groups[i].boot;
		if (!tok_decode(&groups[i], data, collect_run, c))
			rc = -EBADMSG;
		if (c->failed)
			rc = -ENOMEM;
		free(data);
	}
	free(groups);
	(void) a->env->close(a->env->ctx, fd);
	return rc;
}

static size_t
sort_and_unite(TokToken *tokens, size_t n)
{
	size_t		kept = 0;

	qsort(tokens, n, sizeof(TokToken), tok_compare);
	for (size_t i = 0; i < n; i++)
		if (kept == 0 || tok_compare(&tokens[kept - 1], &tokens[i]) != 0)
			tokens[kept++] = tokens[i];
	return kept;
}

static bool
list_append(TokArchive *a, TokSegment segment)
{
	if (a->list.n == a->list.cap)
	{
		size_t		cap = a->list.cap ? 2 * a->list.cap : 64;
		TokSegment *bigger = realloc(a->list.segments, cap * sizeof(TokSegment));

		if (bigger == NULL)
			return false;
		a->list.segments = bigger;
		a->list.cap = cap;
	}
	a->list.segments[a->list.n++] = segment;
	return true;
}

bool
tok_add(TokArchive *a, uint64_t last, TokToken *tokens, size_t ntokens, int64_t newest_us,
		char *error)
{
	TokSegment	segment = {a->archived + 1, last, newest_us};
	TokSegment *previous = a->list.n > 0 ? &a->list.segments[a->list.n - 1] : NULL;
	bool		merge = previous != NULL && previous->last == a->archived &&
		previous->first >= a->horizon.first &&
		previous->last - previous->first + 1 + ntokens <= TOK_MERGE_ENTRIES;
	Collected	all = {0};
	char		path[TOK_PATH_LEN];
	uint8_t    *content;
	size_t		len;
	bool		good;
	int			rc = 0;

	assert(last > a->archived);
	if (merge)
	{
		segment.first = previous->first;
		rc = collect_segment(a, previous, &all);
		if (rc == 0 && ntokens > 0)
		{
			TokToken   *bigger = realloc(all.tokens, (all.n + ntokens) * sizeof(TokToken));

			if (bigger == NULL)
				rc = -ENOMEM;
			else
			{
				memcpy(bigger + all.n, tokens, ntokens * sizeof(TokToken));
				all.tokens = bigger;
				all.n += ntokens;
			}
		}
		if (rc != 0)
		{
			free(all.tokens);
			return failed(error, "read a segment of", a->dir, rc);
		}
		tokens = all.tokens;
		ntokens = all.n;
	}
	ntokens = sort_and_unite(tokens, ntokens);
	content = tok_encode_segment(&segment, tokens, ntokens, &len);
	free(all.tokens);
	if (content == NULL)
		return failed(error, "write a segment in", a->dir, -ENOMEM);
	tok_segment_path(a->dir, segment.first, segment.last, path);
	good = write_file(a, path, content, len, error);
	free(content);
	if (!good)
		return false;
	if (merge)
		remove_segment(a, a->list.n - 1);
	a->archived = last;

	/* without memory for the list the file is found at the next start */
	(void) list_append(a, segment);
	return true;
}

bool
tok_skip_to(TokArchive *a, uint64_t first, char *error)
{
	uint64_t	old_first = a->horizon.first;
	bool		was_complete = a->horizon.complete;
	size_t		old_n = a->horizon.n;

	assert(first > a->archived + 1);
	a->horizon.first = first;
	a->horizon.complete = false;
	a->horizon.n = 0;
	if (!write_horizon(a, error))
	{
		a->horizon.first = old_first;
		a->horizon.complete = was_complete;
		a->horizon.n = old_n;
		return false;
	}
	a->archived = first - 1;
	return true;
}

/* ---------- another member's ---------- */

static int
move_segments(TokArchive *a, const char *from_dir)
{
	TokSegmentList theirs;
	char		from[TOK_PATH_LEN];
	char		to[TOK_PATH_LEN];
	int			rc = tok_list(a->env, from_dir, &theirs);

	for (size_t i = 0; rc == 0 && i < theirs.n; i++)
	{
		tok_segment_path(from_dir, theirs.segments[i].first, theirs.segments[i].last, from);
		tok_segment_path(a->dir, theirs.segments[i].first, theirs.segments[i].last, to);
		rc = a->env->rename(a->env->ctx, from, to);
	}
	if (theirs.segments != NULL)
		free(theirs.segments);
	return rc == 0 ? a->env->fsync_dir(a->env->ctx, a->dir) : rc;
}

bool
tok_adopt(TokArchive *a, const char *from_dir, char *error)
{
	TokHorizon	theirs;
	TokSegmentList all;
	int			rc = tok_read_horizon(a->env, from_dir, &theirs);

	if (rc != 0)
		return failed(error, "read the horizon of", from_dir, rc);
	rc = move_segments(a, from_dir);
	if (rc == 0)
		rc = tok_list(a->env, a->dir, &all);
	if (rc != 0)
	{
		free(theirs.highest);
		return failed(error, "take over the archive in", from_dir, rc);
	}
	free(a->list.segments);
	a->list = all;

	/* theirs says more, unless ours is complete and goes on with their segments */
	if (theirs.complete && !(a->horizon.complete && a->archived + 1 >= theirs.first))
	{
		memcpy(theirs.owner, a->horizon.owner, sizeof(theirs.owner));
		free(a->horizon.highest);
		a->horizon = theirs;
	}
	else
		free(theirs.highest);
	return look_through(a, error) && write_horizon(a, error) && find_end(a, error);
}

/* ---------- age ---------- */

/* What goes is below the horizon from now on. False: no memory, or too many. */
static bool
raise_horizon(TokHorizon *h, const TokGroup *group)
{
	TokToken	token = {group->node, group->boot, group->highest};
	TokToken   *bigger;

	for (size_t i = 0; i < h->n; i++)
	{
		if (h->highest[i].node != token.node)
			continue;
		if (tok_compare(&h->highest[i], &token) < 0)
			h->highest[i] = token;
		return true;
	}
	if (h->n == TOK_MAX_HORIZON)
		return false;
	bigger = realloc(h->highest, (h->n + 1) * sizeof(TokToken));
	if (bigger == NULL)
		return false;
	h->highest = bigger;
	h->highest[h->n++] = token;
	return true;
}

bool
tok_expire(TokArchive *a, int64_t before_us, size_t *removed, char *error)
{
	size_t		old = 0;

	*removed = 0;
	while (old < a->list.n && a->list.segments[old].newest_us < before_us)
		old++;
	if (old == 0)
		return true;
	for (size_t i = 0; i < old; i++)
	{
		TokSegment *s = &a->list.segments[i];
		TokGroup   *groups;
		size_t		ngroups;
		int			fd;
		int			rc;

		if (s->first < a->horizon.first)
			continue;			/* from before a hole */
		rc = open_segment(a, s, &fd, &groups, &ngroups);
		if (rc != 0)
		{
			a->horizon.complete = false;
			ngroups = 0;
			groups = NULL;
		}
		else
			(void) a->env->close(a->env->ctx, fd);
		for (size_t g = 0; g < ngroups; g++)
			if (!raise_horizon(&a->horizon, &groups[g]))
				a->horizon.complete = false;
		free(groups);
		a->horizon.first = s->last + 1;
	}
	/* a horizon that is too high says less, and nothing wrong: as good as written */
	if (!write_horizon(a, error))
		return false;
	for (; old > 0; old--)
	{
		remove_segment(a, 0);
		(*removed)++;
	}
	return true;
}
