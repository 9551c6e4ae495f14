/*-------------------------------------------------------------------------
 *
 * fuzz_calls.c
 *		libFuzzer: sequences of calls into one core, in any order.
 *
 * The input is a little program: one byte says which call, the next ones its
 * arguments, taken small so that they often fit the state. Messages come from
 * members that may say anything, so only what the core promises whatever happens
 * is checked: no crash, its invariants, commit and term never going back, what
 * is handed out for applying in order, once and durable, each read answered at
 * most once.
 *
 *-------------------------------------------------------------------------
 */
#include "fuzz_common.h"

#define MAX_WRITES 64

/* ---------- memory that runs out ---------- */

static bool inside;				/* the core */
static unsigned fail_every;		/* 0: never */
static unsigned allocations;
static bool failed;				/* since it was last set to false */

extern void *__real_malloc(size_t size);
extern void *__real_calloc(size_t n, size_t size);
extern void *__real_realloc(void *p, size_t size);
extern void *__wrap_malloc(size_t size);
extern void *__wrap_calloc(size_t n, size_t size);
extern void *__wrap_realloc(void *p, size_t size);

static bool
fails(void)
{
	if (!inside || fail_every == 0 || ++allocations % fail_every != 0)
		return false;
	failed = true;
	return true;
}

void *
__wrap_malloc(size_t size)
{
	return fails() ? NULL : __real_malloc(size);
}

void *
__wrap_calloc(size_t n, size_t size)
{
	return fails() ? NULL : __real_calloc(n, size);
}

void *
__wrap_realloc(void *p, size_t size)
{
	return fails() ? NULL : __real_realloc(p, size);
}

#define CORE(call) \
	do { \
		inside = true; \
		call; \
		inside = false; \
	} while (0)

/* ---------- the driver ---------- */

typedef struct Program
{
	const uint8_t *data;
	size_t		left;
} Program;

/* What the driver remembers. */
typedef struct Driver
{
	Raft	   *r;
	int64_t		now_us;
	uint64_t	applied;
	uint64_t	commit;
	uint64_t	term;
	struct
	{
		uint64_t	term;
		uint64_t	index;
		uint64_t	last;		/* the log's end, once this write is durable */
		bool		pending;
	}			writes[MAX_WRITES];
	int			nwrites;
	uint64_t	written;		/* log's end as handed out */
	uint64_t	durable;
	bool		install;
	uint64_t	install_index;
	uint64_t	next_read;
	uint8_t		reads[256];		/* 1: asked, 2: answered */
	RaftLoad	loads[8];
	int			nloads;
} Driver;

static uint8_t
byte(Program *p)
{
	if (p->left == 0)
		return 0;
	p->left--;
	return *p->data++;
}

/* Mostly near something that matters. */
static uint64_t
number(Program *p, uint64_t near)
{
	uint8_t		b = byte(p);

	switch (b % 8)
	{
		case 0:
			return 0;
		case 1:
			return near + 1;
		case 2:
			return near > 0 ? near - 1 : 0;
		case 3:
			return (uint64_t) 1 << (b / 4);
		case 4:
			return b / 8;
		default:
			return near;
	}
}

static void
make_durable(Driver *d, int count)
{
	while (count-- > 0 && d->nwrites > 0)
	{
		bool		pending = d->writes[0].pending;
		uint64_t	term = d->writes[0].term;
		uint64_t	index = d->writes[0].index;

		d->durable = d->writes[0].last;
		memmove(d->writes, d->writes + 1, sizeof(d->writes[0]) * (size_t) --d->nwrites);
		if (pending)
			CORE(raft_append_done(d->r, term, index, d->now_us));
	}
}

static void
take(Driver *d)
{
	RaftOutput	out;

	if (d->nwrites == MAX_WRITES)
		make_durable(d, MAX_WRITES);
	failed = false;
	CORE(raft_take_output(d->r, &out));
	if (out.reset_index != 0)
	{
		d->written = out.reset_index;
		d->durable = out.reset_index;	/* the image is there already */
	}
	if (out.truncate_from != 0)
	{
		FUZZ_CHECK(out.truncate_from <= d->written);
		FUZZ_CHECK(out.truncate_from > d->applied);
		d->written = out.truncate_from - 1;
		if (d->durable > d->written)
			d->durable = d->written;
		/* what older writes made durable above the cut is gone again */
		for (int i = 0; i < d->nwrites; i++)
			if (d->writes[i].last > d->written)
				d->writes[i].last = d->written;
	}
	for (size_t i = 0; i < out.nentries; i++)
		FUZZ_CHECK(out.entries[i].index == ++d->written);
	FUZZ_CHECK(failed || d->written == raft_last_index(d->r));
	FUZZ_CHECK(out.must_sync || out.nentries == 0);
	if (out.append_pending)
	{
		d->writes[d->nwrites].pending = true;
		d->writes[d->nwrites].term = out.append_term;
		d->writes[d->nwrites].index = out.append_index;
		d->writes[d->nwrites].last = d->written;
		d->nwrites++;
	}
	if (out.commit_first != 0)
	{
		FUZZ_CHECK(out.commit_first == d->applied + 1 && out.commit_last >= out.commit_first);
		FUZZ_CHECK(out.commit_last <= d->durable);
		FUZZ_CHECK(out.commit_last <= raft_commit_index(d->r));
		d->applied = out.commit_last;
	}
	for (size_t i = 0; i < out.nreads; i++)
	{
		FUZZ_CHECK(out.reads[i].id < 256 && d->reads[out.reads[i].id] == 1);
		d->reads[out.reads[i].id] = 2;
	}
	for (size_t i = 0; i < out.nloads && d->nloads < 8; i++)
		d->loads[d->nloads++] = out.loads[i];
	d->install = out.install;
	d->install_index = out.install_index;
	for (size_t i = 0; i < out.nmsgs; i++)
		raft_msg_free(&out.msgs[i]);
	for (size_t i = 0; i < out.nmsgs_after; i++)
		raft_msg_free(&out.msgs_after[i]);
}

static void
receive(Driver *d, Program *p)
{
	RaftMsg		m;
	RaftConf	conf;

	memset(&m, 0, sizeof(m));
	m.type = 1 + byte(p) % RAFT_MSG_SNAPSHOT;
	m.from = 2 + byte(p) % 5;
	m.to = 1;
	m.term = number(p, raft_term(d->r));
	m.index = number(p, raft_last_index(d->r));
	m.log_term = number(p, raft_term_at(d->r, m.index));
	m.commit = number(p, m.index);
	m.hint = number(p, m.index);
	m.context = byte(p);
	m.reject = byte(p) % 3 == 0;
	m.transfer = byte(p) % 3 == 0;
	fuzz_instance(m.from, m.instance);
	if (m.type == RAFT_MSG_APPEND)
		m.nentries = byte(p) % 4;
	else if (m.type == RAFT_MSG_SNAPSHOT)
		m.nentries = 1;
	if (m.nentries > 0)
		m.entries = calloc(m.nentries, sizeof(RaftEntry));
	for (uint32_t i = 0; i < m.nentries; i++)
	{
		RaftEntry  *e = &m.entries[i];
		uint8_t		kind = byte(p);

		e->index = m.index + 1 + i;
		e->term = kind % 4 == 0 ? m.log_term : m.term;
		e->type = kind % 7 == 0 || m.type == RAFT_MSG_SNAPSHOT ? RAFT_ENTRY_CONF : RAFT_ENTRY_DATA;
		if (e->type == RAFT_ENTRY_CONF)
		{
			fuzz_conf_of(1 + kind % 5, &conf);
			e->data = raft_conf_encode(&conf);
		}
		else if (kind % 5 != 0)
			e->data = raft_buf_new("payload", kind % 8);
	}
	CORE((void) raft_recv(d->r, &m, d->now_us));
}

static void
change(Driver *d, Program *p)
{
	RaftConf	target;
	RaftStamp	stamp = {0};
	RaftToken	token = {0};

	fuzz_conf_of(1 + byte(p) % 5, &target);
	target.explicit_leave = byte(p) % 3 == 0;
	for (uint32_t i = 0; i < target.nmembers; i++)
		if (byte(p) % 3 == 0)
		{
			target.members[i].voter = false;
			target.members[i].learner = true;
		}
	CORE((void) raft_propose_conf(d->r, &target, stamp, token, NULL));
}

static void
load(Driver *d, Program *p)
{
	RaftEntry	entries[4];
	RaftLoad	wanted;
	size_t		n = byte(p) % 4;

	if (d->nloads == 0)
		return;
	wanted = d->loads[0];
	memmove(d->loads, d->loads + 1, sizeof(RaftLoad) * (size_t) --d->nloads);
	memset(entries, 0, sizeof(entries));
	for (size_t i = 0; i < n; i++)
	{
		entries[i].index = wanted.first_index + i;
		entries[i].term = raft_term_at(d->r, entries[i].index);
		entries[i].type = RAFT_ENTRY_DATA;
		entries[i].data = raft_buf_new("loaded", 6);
	}
	CORE(raft_loaded(d->r, wanted.peer, entries, n, d->now_us));
}

static void
image(Driver *d, Program *p)
{
	RaftConf	conf;
	uint64_t	index = number(p, d->install ? d->install_index : raft_commit_index(d->r));
	uint64_t	term = number(p, raft_term(d->r));
	RaftStatus	status;

	fuzz_conf_of(1 + byte(p) % 5, &conf);
	CORE(status = raft_installed(d->r, index, term, &conf, d->now_us));
	if (status == RAFT_OK && d->applied < index)
		d->applied = index;
}

static void
call(Driver *d, Program *p)
{
	RaftStamp	stamp = {0};
	RaftToken	token = {0};
	RaftBuf    *buf;
	RaftStatus	status;
	uint32_t	id;

	switch (byte(p) % 20)
	{
		case 0:
		case 1:
		case 2:
		case 3:
		case 4:
		case 5:
			receive(d, p);
			break;
		case 6:
			d->now_us += 10000 * (int64_t) byte(p);
			id = byte(p);
			CORE(raft_tick(d->r, d->now_us, id));
			break;
		case 7:
			buf = raft_buf_new("proposal", byte(p) % 9);
			CORE(status = raft_propose(d->r, RAFT_ENTRY_DATA, stamp, token, buf, NULL));
			if (status != RAFT_OK)
				raft_buf_unref(buf);
			break;
		case 8:
			change(d, p);
			break;
		case 9:
			CORE((void) raft_leave_joint(d->r, stamp, token, NULL));
			break;
		case 10:
			make_durable(d, 1 + byte(p) % 3);
			break;
		case 11:
			/* acknowledgements that nobody is owed */
			raft_append_done(d->r, number(p, raft_term(d->r)) + 1000, 0, d->now_us);
			break;
		case 12:
			id = byte(p) % 6;
			CORE((void) raft_transfer(d->r, id, d->now_us));
			break;
		case 13:
			CORE(raft_campaign(d->r, d->now_us));
			break;
		case 14:
			id = 1 + byte(p) % 6;
			if (byte(p) % 2 == 0)
				CORE(raft_peer_down(d->r, id, d->now_us));
			else
				CORE(raft_peer_up(d->r, id, d->now_us));
			break;
		case 15:
			raft_peer_paused(d->r, 1 + byte(p) % 6, byte(p) % 2 == 0);
			break;
		case 16:
			load(d, p);
			break;
		case 17:
			if (d->next_read < 256)
			{
				d->reads[d->next_read] = 1;
				CORE(raft_read_index(d->r, d->next_read, d->now_us));
				d->next_read++;
			}
			break;
		case 18:
			/* the driver compacts what it applied */
			if (d->applied > 0 && d->nwrites == 0)
				raft_compacted(d->r, 1 + number(p, d->applied) % (d->applied + 1));
			break;
		case 19:
			if (byte(p) % 2 == 0)
				image(d, p);
			else
				raft_report_snapshot(d->r, 2 + byte(p) % 4, byte(p) % 2 == 0, d->now_us);
			break;
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	Program		p = {data, size};
	Driver		d;

	memset(&d, 0, sizeof(d));
	d.r = fuzz_core(1 + byte(&p) % 5);
	d.now_us = 1000000;
	fail_every = byte(&p);
	allocations = 0;
	d.written = d.durable = 3;
	while (p.left > 0)
	{
		call(&d, &p);
		FUZZ_CHECK(raft_check_invariants(d.r) == NULL);
		FUZZ_CHECK(raft_commit_index(d.r) >= d.commit);
		FUZZ_CHECK(raft_term(d.r) >= d.term);
		d.commit = raft_commit_index(d.r);
		d.term = raft_term(d.r);
		if (byte(&p) % 4 != 0)
			take(&d);
	}
	make_durable(&d, MAX_WRITES);
	take(&d);
	raft_free(d.r);
	return 0;
}

void
write_seeds(const char *dir)
{
	/* a campaign, votes, proposals, writes; and appends from a leader */
	static const uint8_t leads[] = {2, 0, 13, 1, 10, 1, 1, 0, 1, 0, 1, 3, 3, 3, 3, 1, 1, 1, 1, 10, 2, 1,
		0, 3, 0, 6, 7, 7, 7, 7, 1, 1, 1, 1, 7, 4, 1, 10, 2, 1, 6, 20, 3, 1, 8, 3, 1, 1, 1, 17, 1,
	12, 2, 1};
	static const uint8_t follows[] = {2, 0, 0, 4, 0, 1, 7, 7, 7, 7, 0, 1, 1, 2, 1, 2, 1, 10, 1, 1, 0, 4, 1,
	9, 7, 5, 5, 0, 1, 1, 3, 1, 7, 5, 1, 10, 3, 1, 19, 0, 7, 7, 1, 1};

	write_seed(dir, "leads", leads, sizeof(leads));
	write_seed(dir, "follows", follows, sizeof(follows));
}
