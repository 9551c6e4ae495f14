/*-------------------------------------------------------------------------
 *
 * test_units_log.c
 *		The core's picture of the log against a plain array of terms.
 *
 *-------------------------------------------------------------------------
 */
#include "harness.h"

#include "raft/log.h"

#define MAX_INDEX 4000

typedef struct Model
{
	uint64_t	first;
	uint64_t	last;
	uint64_t	term[MAX_INDEX + 2];	/* of first - 1 .. last */
	uint64_t	payload[MAX_INDEX + 2];
} Model;

static void
compare(const RaftLog *log, const Model *m, uint64_t *seed)
{
	CHECK_EQ(log->first_index, m->first);
	CHECK_EQ(log->last_index, m->last);
	CHECK_EQ(raft_log_last_term(log), m->term[m->last]);
	for (uint64_t i = 0; i <= m->last + 2; i++)
	{
		uint64_t	term = 999;
		bool		known = i + 1 >= m->first && i <= m->last;

		CHECK_EQ(raft_log_term(log, i, &term), known);
		if (known)
			CHECK_EQ(term, m->term[i]);
	}
	for (int n = 0; n < 20; n++)
	{
		uint64_t	from = m->first - 1 + rnd(seed) % (m->last - m->first + 4);
		uint64_t	term = rnd(seed) % (m->term[m->last] + 2);
		uint64_t	want = from < m->last ? from : m->last;
		uint64_t	at;

		/* step by step, as the definition says */
		while (want >= m->first && m->term[want] > term)
			want--;
		CHECK_EQ(raft_log_meet(log, from, term, &at), want);
		CHECK_EQ(at, m->term[want]);
	}
	for (uint64_t i = raft_log_cache_first(log); i <= m->last; i++)
	{
		const RaftEntry *e = raft_log_get(log, i);

		CHECK(e != NULL && e->index == i && e->term == m->term[i]);
		CHECK_EQ(e->token.counter, m->payload[i]);
	}
	CHECK(raft_log_cache_first(log) <= log->stable + 1);
}

static void
units_log_against_an_array(void)
{
	for (uint64_t run = 1; run <= 30; run++)
	{
		uint64_t	seed = run;
		uint64_t	term = 1;
		static Model m;
		RaftLog		log;
		RaftDisk	disk = {0};

		memset(&m, 0, sizeof(m));
		m.first = 1;
		disk.first_index = 1;
		CHECK_EQ(raft_log_init(&log, &disk), RAFT_OK);
		for (int step = 0; step < 400; step++)
		{
			uint64_t	x = rnd(&seed);

			if (x % 10 < 6 && m.last < MAX_INDEX - 8)
			{
				size_t		n = 1 + (x >> 8) % 5;

				term += (x >> 16) % 4 == 0;
				CHECK(raft_log_reserve(&log, n));
				while (n-- > 0)
				{
					RaftEntry	e = {0};

					m.last++;
					m.term[m.last] = term;
					m.payload[m.last] = rnd(&seed);
					e.index = m.last;
					e.term = term;
					e.type = RAFT_ENTRY_DATA;
					e.token.counter = m.payload[m.last];
					e.data = raft_buf_new(NULL, rnd(&seed) % 50);
					raft_log_append(&log, &e);
				}
			}
			else if (x % 10 == 6 && m.last >= m.first)
			{
				uint64_t	from = m.first + (x >> 8) % (m.last - m.first + 1);

				raft_log_truncate(&log, from);
				m.last = from - 1;
				term++;
			}
			else if (x % 10 == 7)
			{
				bool		again;

				CHECK(raft_log_reserve_handout(&log));
				log.handed = log.last_index;
				raft_log_push_handout(&log, term, 0);
				CHECK(raft_log_durable(&log, term, log.handed, &again));
				CHECK_EQ(log.stable, m.last);
				raft_log_evict(&log, (x >> 8) % 2000, m.last);
			}
			else if (x % 10 == 8 && log.stable > m.first)
			{
				uint64_t	first = m.first + (x >> 8) % (log.stable - m.first);

				raft_log_compact(&log, first);
				m.first = first;
			}
			else if (x % 40 == 9)
			{
				m.first = m.last + 4;
				m.last += 3;
				m.term[m.last] = ++term;
				raft_log_reset(&log, m.last, term);
			}
			compare(&log, &m, &seed);
		}
		raft_log_free(&log);
	}
}

/* Appended n entries of this term. */
static void
grow(RaftLog *log, uint64_t term, int n)
{
	CHECK(raft_log_reserve(log, (size_t) n));
	while (n-- > 0)
	{
		RaftEntry	e = {0};

		e.index = log->last_index + 1;
		e.term = term;
		e.type = RAFT_ENTRY_DATA;
		raft_log_append(log, &e);
	}
}

static void
hand(RaftLog *log, uint64_t term)
{
	CHECK(raft_log_reserve_handout(log));
	log->handed = log->last_index;
	raft_log_push_handout(log, term, 0);
}

/* P-17 at its root: the same name of two different writes. */
static void
units_P17_late_answer_does_not_vouch_for_what_came_after(void)
{
	RaftLog		log;
	RaftDisk	disk = {0};
	bool		again;

	disk.first_index = 1;
	CHECK_EQ(raft_log_init(&log, &disk), RAFT_OK);
	grow(&log, 4, 10);
	hand(&log, 5);				/* (5, 10), entries of term 4 */
	raft_log_truncate(&log, 8);
	grow(&log, 5, 3);
	hand(&log, 5);				/* (5, 10) again, 8 to 10 of term 5 */

	CHECK(raft_log_durable(&log, 5, 10, &again));
	CHECK_EQ(log.stable, 7);
	CHECK(again);				/* which one was meant has to be asked */
	hand(&log, 5);
	CHECK(raft_log_durable(&log, 5, 10, &again));
	CHECK_EQ(log.stable, 10);
	CHECK(!again);
	CHECK(!raft_log_durable(&log, 5, 10, &again));
	raft_log_free(&log);
}

static void
units_handouts_may_be_answered_together(void)
{
	RaftLog		log;
	RaftDisk	disk = {0};
	bool		again;
	int64_t		at;

	disk.first_index = 1;
	CHECK_EQ(raft_log_init(&log, &disk), RAFT_OK);
	for (int i = 0; i < 100; i++)
	{
		grow(&log, 1, 1);
		hand(&log, 1);
	}
	CHECK(raft_log_durable(&log, 1, 60, &again) && !again);
	CHECK_EQ(log.stable, 60);
	CHECK(!raft_log_durable(&log, 1, 60, &again));	/* known already */
	CHECK(!raft_log_durable(&log, 1, 30, &again));
	CHECK(!raft_log_durable(&log, 2, 70, &again));	/* never said */
	CHECK_EQ(log.stable, 60);
	CHECK(raft_log_oldest_handout(&log, &at));
	CHECK(raft_log_durable(&log, 1, 100, &again));
	CHECK_EQ(log.stable, 100);
	CHECK(!raft_log_oldest_handout(&log, &at));
	raft_log_free(&log);
}

/* What a disk may not say. Each a typed result, nothing else. */
static void
units_log_refuses_a_disk_that_contradicts_itself(void)
{
	static const RaftTermRun good[] = {{1, 1}, {5, 2}};
	static const RaftTermRun gap[] = {{2, 1}};
	static const RaftTermRun down[] = {{1, 3}, {5, 2}};
	static const RaftTermRun zero[] = {{1, 0}};
	RaftDisk	disk = {0};
	RaftLog		log;
	struct
	{
		uint64_t	first,
					prev_term,
					last;
		const RaftTermRun *runs;
		size_t		n;
		RaftStatus	want;
	}			rows[] = {
		{1, 0, 9, good, 2, RAFT_OK},
		{1, 0, 0, NULL, 0, RAFT_OK},
		{8, 3, 7, NULL, 0, RAFT_OK},
		{3, 1, 9, good, 2, RAFT_OK},
		{6, 2, 9, good, 2, RAFT_OK},
		{0, 0, 9, good, 2, RAFT_FENCED},
		{1, 0, 9, NULL, 0, RAFT_FENCED},
		{1, 0, 9, gap, 1, RAFT_FENCED},
		{1, 0, 9, down, 2, RAFT_FENCED},
		{1, 0, 9, zero, 1, RAFT_FENCED},
		{1, 5, 9, good, 2, RAFT_FENCED},
		{8, 0, 7, NULL, 0, RAFT_FENCED},
		{9, 1, 2, NULL, 0, RAFT_FENCED},
	};

	disk.hard.term = 9;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
	{
		disk.first_index = rows[i].first;
		disk.prev_term = rows[i].prev_term;
		disk.last_index = rows[i].last;
		disk.runs = rows[i].runs;
		disk.nruns = rows[i].n;
		CHECK_EQ(raft_log_init(&log, &disk), rows[i].want);
		raft_log_free(&log);
	}
}

const Test	tests_units_log[] = {
	TEST(units_log_against_an_array),
	TEST(units_P17_late_answer_does_not_vouch_for_what_came_after),
	TEST(units_handouts_may_be_answered_together),
	TEST(units_log_refuses_a_disk_that_contradicts_itself),
	{NULL, NULL}
};
