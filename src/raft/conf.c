/*-------------------------------------------------------------------------
 *
 * conf.c
 *		Configurations. See conf.h.
 *
 * Encoded form, little-endian:
 *
 *	offset	size
 *		0	4		magic "PQC" and version 1
 *		4	8		index
 *		12	4		next_id
 *		16	1		flags: 1 joint, 2 explicit leave
 *		17	1		reserved, 0
 *		18	2		number of members
 *	then for each member
 *		0	4		id
 *		4	4		seq_slot
 *		8	1		flags: 1 voter, 2 voter_outgoing, 4 learner
 *		9	1		length of name
 *		10	2		length of address
 *		12	16		instance
 *		28			name, address
 *
 *-------------------------------------------------------------------------
 */
#include <stdlib.h>
#include <string.h>

#include "raft/conf.h"
#include "raft/raft_assert.h"
#include "raft/wire.h"

#define CONF_HEAD	20
#define CONF_MEMBER 28

static const uint8_t conf_magic[4] = {'P', 'Q', 'C', 1};

const RaftMember *
raft_conf_find(const RaftConf *conf, uint32_t id)
{
	for (uint32_t i = 0; i < conf->nmembers; i++)
		if (conf->members[i].id == id)
			return &conf->members[i];
	return NULL;
}

bool
raft_conf_is_voter(const RaftConf *conf, uint32_t id)
{
	const RaftMember *m = raft_conf_find(conf, id);

	return m != NULL && (m->voter || m->voter_outgoing);
}

bool
raft_conf_valid(const RaftConf *conf)
{
	uint32_t	last = 0;
	size_t		voters = 0,
				outgoing = 0;

	if (conf->nmembers > RAFT_MAX_MEMBERS)
		return false;
	for (uint32_t i = 0; i < conf->nmembers; i++)
	{
		const RaftMember *m = &conf->members[i];

		if (m->id <= last || (conf->next_id != 0 && m->id >= conf->next_id))
			return false;
		if (m->voter && m->learner)
			return false;
		if (!m->voter && !m->learner && !m->voter_outgoing)
			return false;
		if (memchr(m->name, 0, RAFT_NAME_LEN) == NULL ||
			memchr(m->address, 0, RAFT_ADDRESS_LEN) == NULL)
			return false;
		last = m->id;
		voters += m->voter;
		outgoing += m->voter_outgoing;
	}
	/* no members at all: a server that waits to be let in */
	if (conf->nmembers > 0 && voters == 0)
		return false;
	if (conf->joint != (outgoing > 0) || (conf->explicit_leave && !conf->joint))
		return false;
	return true;
}

RaftBuf *
raft_conf_encode(const RaftConf *conf)
{
	size_t		len = CONF_HEAD;
	RaftBuf    *buf;
	uint8_t    *p;

	if (!raft_conf_valid(conf))
		return NULL;
	for (uint32_t i = 0; i < conf->nmembers; i++)
		len += CONF_MEMBER + strlen(conf->members[i].name) + strlen(conf->members[i].address);

	buf = raft_buf_new(NULL, len);
	if (buf == NULL)
		return NULL;
	p = buf->data;
	memcpy(p, conf_magic, 4);
	put_u64(p + 4, conf->index);
	put_u32(p + 12, conf->next_id);
	p[16] = (uint8_t) ((conf->joint ? 1 : 0) | (conf->explicit_leave ? 2 : 0));
	p[17] = 0;
	put_u16(p + 18, (uint16_t) conf->nmembers);
	p += CONF_HEAD;
	for (uint32_t i = 0; i < conf->nmembers; i++)
	{
		const RaftMember *m = &conf->members[i];
		size_t		nlen = strlen(m->name);
		size_t		alen = strlen(m->address);

		put_u32(p, m->id);
		put_u32(p + 4, m->seq_slot);
		p[8] = (uint8_t) ((m->voter ? 1 : 0) | (m->voter_outgoing ? 2 : 0) | (m->learner ? 4 : 0));
		p[9] = (uint8_t) nlen;
		put_u16(p + 10, (uint16_t) alen);
		memcpy(p + 12, m->instance, RAFT_INSTANCE_LEN);
		memcpy(p + CONF_MEMBER, m->name, nlen);
		memcpy(p + CONF_MEMBER + nlen, m->address, alen);
		p += CONF_MEMBER + nlen + alen;
	}
	RAFT_ASSERT(p == buf->data + len);
	return buf;
}

static bool
decode_member(const uint8_t **pos, const uint8_t *end, RaftMember *m)
{
	const uint8_t *p = *pos;
	size_t		nlen,
				alen;

	if (end - p < CONF_MEMBER)
		return false;
	m->id = get_u32(p);
	m->seq_slot = get_u32(p + 4);
	if (p[8] & ~7)
		return false;
	m->voter = (p[8] & 1) != 0;
	m->voter_outgoing = (p[8] & 2) != 0;
	m->learner = (p[8] & 4) != 0;
	nlen = p[9];
	alen = get_u16(p + 10);
	memcpy(m->instance, p + 12, RAFT_INSTANCE_LEN);
	p += CONF_MEMBER;
	if (nlen >= RAFT_NAME_LEN || alen >= RAFT_ADDRESS_LEN ||
		(size_t) (end - p) < nlen + alen)
		return false;
	if (memchr(p, 0, nlen + alen) != NULL)
		return false;
	memcpy(m->name, p, nlen);
	memcpy(m->address, p + nlen, alen);
	*pos = p + nlen + alen;
	return true;
}

bool
raft_conf_decode(const void *data, size_t len, RaftConf *conf)
{
	const uint8_t *p = data;
	const uint8_t *end = p + len;

	memset(conf, 0, sizeof(*conf));
	if (data == NULL || len < CONF_HEAD || memcmp(p, conf_magic, 4) != 0 ||
		(p[16] & ~3) || p[17] != 0)
		return false;
	conf->index = get_u64(p + 4);
	conf->next_id = get_u32(p + 12);
	conf->joint = (p[16] & 1) != 0;
	conf->explicit_leave = (p[16] & 2) != 0;
	conf->nmembers = get_u16(p + 18);
	if (conf->nmembers > RAFT_MAX_MEMBERS)
		return false;
	p += CONF_HEAD;
	for (uint32_t i = 0; i < conf->nmembers; i++)
		if (!decode_member(&p, end, &conf->members[i]))
			return false;
	return p == end && raft_conf_valid(conf);
}

/* ---------- changes ---------- */

static RaftStatus
check_target(const RaftConf *target)
{
	uint32_t	last = 0;
	size_t		voters = 0;

	if (target->nmembers > RAFT_MAX_MEMBERS)
		return RAFT_INVALID;
	for (uint32_t i = 0; i < target->nmembers; i++)
	{
		const RaftMember *m = &target->members[i];

		if (m->id <= last || m->voter == m->learner)
			return RAFT_INVALID;
		last = m->id;
		voters += m->voter;
	}
	return voters > 0 ? RAFT_OK : RAFT_INVALID;
}

/* Insert a member that the target does not have but the old voters do. */
static bool
insert_outgoing(RaftConf *conf, const RaftMember *old)
{
	uint32_t	at = 0;

	if (conf->nmembers >= RAFT_MAX_MEMBERS)
		return false;
	while (at < conf->nmembers && conf->members[at].id < old->id)
		at++;
	memmove(&conf->members[at + 1], &conf->members[at],
			(conf->nmembers - at) * sizeof(RaftMember));
	conf->members[at] = *old;
	conf->members[at].voter = false;
	conf->members[at].learner = false;
	conf->members[at].voter_outgoing = true;
	conf->nmembers++;
	return true;
}

RaftStatus
raft_conf_change(const RaftConf *now, const RaftConf *target, RaftConf *next)
{
	size_t		changes = 0;
	RaftStatus	status = check_target(target);

	if (status != RAFT_OK)
		return status;
	if (now->joint)
		return RAFT_BUSY;

	*next = *target;
	next->joint = false;
	next->explicit_leave = false;
	if (next->next_id < now->next_id)
		next->next_id = now->next_id;
	for (uint32_t i = 0; i < next->nmembers; i++)
	{
		RaftMember *m = &next->members[i];
		const RaftMember *old = raft_conf_find(now, m->id);

		m->voter_outgoing = false;
		if (m->id >= next->next_id)
			next->next_id = m->id + 1;
		/* an id belongs to one instance for ever (P-34) */
		if (old != NULL && memcmp(old->instance, m->instance, RAFT_INSTANCE_LEN) != 0)
		{
			static const uint8_t none[RAFT_INSTANCE_LEN];

			if (memcmp(old->instance, none, RAFT_INSTANCE_LEN) != 0)
				return RAFT_INVALID;
		}
		changes += m->voter != (old != NULL && old->voter);
	}
	for (uint32_t i = 0; i < now->nmembers; i++)
	{
		const RaftMember *old = &now->members[i];

		changes += old->voter && raft_conf_find(target, old->id) == NULL;
		if (old->id >= next->next_id)
			next->next_id = old->id + 1;
	}

	if (changes > 1 || target->explicit_leave)
	{
		next->joint = true;
		next->explicit_leave = target->explicit_leave;
		for (uint32_t i = 0; i < now->nmembers; i++)
		{
			const RaftMember *old = &now->members[i];
			RaftMember *m;

			if (!old->voter)
				continue;
			m = (RaftMember *) raft_conf_find(next, old->id);
			if (m != NULL)
				m->voter_outgoing = true;
			else if (!insert_outgoing(next, old))
				return RAFT_INVALID;
		}
	}
	return raft_conf_valid(next) ? RAFT_OK : RAFT_INVALID;
}

void
raft_conf_leave(const RaftConf *joint, RaftConf *next)
{
	uint32_t	n = 0;

	RAFT_ASSERT(joint->joint);
	*next = *joint;
	next->joint = false;
	next->explicit_leave = false;
	for (uint32_t i = 0; i < joint->nmembers; i++)
	{
		if (!joint->members[i].voter && !joint->members[i].learner)
			continue;
		next->members[n] = joint->members[i];
		next->members[n].voter_outgoing = false;
		n++;
	}
	memset(&next->members[n], 0, (RAFT_MAX_MEMBERS - n) * sizeof(RaftMember));
	next->nmembers = n;
	RAFT_ASSERT(raft_conf_valid(next));
}

/* ---------- the stack ---------- */

bool
raft_confs_init(RaftConfStack *s, const RaftConf *committed)
{
	RaftConf   *copy = malloc(sizeof(RaftConf));

	memset(s, 0, sizeof(*s));
	if (copy == NULL || !raft_confs_reserve(s, 1))
	{
		free(copy);
		return false;
	}
	*copy = *committed;
	s->confs[s->n++] = copy;
	return true;
}

void
raft_confs_free(RaftConfStack *s)
{
	for (size_t i = 0; i < s->n; i++)
		free(s->confs[i]);
	free(s->confs);
	memset(s, 0, sizeof(*s));
}

bool
raft_confs_reserve(RaftConfStack *s, size_t extra)
{
	size_t		cap = s->cap > 0 ? s->cap : 8;
	RaftConf  **bigger;

	if (s->n + extra <= s->cap)
		return true;
	while (cap < s->n + extra)
		cap *= 2;
	bigger = realloc(s->confs, cap * sizeof(*bigger));
	if (bigger == NULL)
		return false;
	s->confs = bigger;
	s->cap = cap;
	return true;
}

void
raft_confs_push(RaftConfStack *s, RaftConf *conf)
{
	RAFT_ASSERT(s->n < s->cap);
	RAFT_ASSERT(conf->index > s->confs[s->n - 1]->index);
	s->confs[s->n++] = conf;
}

bool
raft_confs_truncate(RaftConfStack *s, uint64_t from)
{
	bool		popped = false;

	while (s->n > 1 && s->confs[s->n - 1]->index >= from)
	{
		free(s->confs[--s->n]);
		popped = true;
	}
	return popped;
}

bool
raft_confs_commit(RaftConfStack *s, uint64_t commit)
{
	size_t		keep = 0;

	while (keep + 1 < s->n && s->confs[keep + 1]->index <= commit)
		keep++;
	if (keep == 0)
		return false;
	for (size_t i = 0; i < keep; i++)
		free(s->confs[i]);
	memmove(s->confs, s->confs + keep, (s->n - keep) * sizeof(*s->confs));
	s->n -= keep;
	return true;
}

bool
raft_confs_reset(RaftConfStack *s, const RaftConf *conf)
{
	RaftConf   *copy = malloc(sizeof(RaftConf));

	if (copy == NULL)
		return false;
	*copy = *conf;
	for (size_t i = 0; i < s->n; i++)
		free(s->confs[i]);
	s->n = 0;
	s->confs[s->n++] = copy;
	return true;
}
