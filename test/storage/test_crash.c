/*-------------------------------------------------------------------------
 *
 * test_crash.c
 *		The process, or the power, goes at every single effect of a workload, and
 *		again at effects of the recovery. What is found afterwards must be what
 *		some prefix of the calls would have left, no shorter than what had been
 *		acknowledged (P-01, P-02, P-30, P-31, P-32, P-36).
 *
 *-------------------------------------------------------------------------
 */
#include "harness.h"

#define MAX_ENTRIES 400
#define MAX_OPS		200

typedef struct Entry
{
	uint64_t	term;
	uint32_t	len;
} Entry;

/* The log as the calls so far should leave it. */
typedef struct Model
{
	uint64_t	base;			/* after a reset */
	uint64_t	last;
	uint64_t	term;
	uint32_t	vote;
	uint8_t		conf;
	Entry		entries[MAX_ENTRIES];	/* by index modulo the size */
} Model;

typedef struct Run
{
	DiskEnv    *de;
	SimRand		rand;
	Rlog	   *log;
	Model	   *history;		/* after each call */
	int			ncalls;
	int			acknowledged;	/* the history's place that is durable for sure */
} Run;

static Model *
next_state(Run *r)
{
	r->history[r->ncalls + 1] = r->history[r->ncalls];
	return &r->history[++r->ncalls];
}

static void
one_call(Run *r)
{
	Model	   *m = &r->history[r->ncalls];
	uint64_t	pick = sim_below(&r->rand, 100);

	if (pick < 70)
	{
		uint32_t	len = (uint32_t) (pick == 0 ? 5000 : sim_below(&r->rand, 700));

		m = next_state(r);
		if (m->term == 0)
			m->term = 1;
		m->last++;
		m->entries[m->last % MAX_ENTRIES] = (Entry) {m->term, len};
		(void) append(r->log, m->last, m->term, len);
	}
	else if (pick < 80 && m->last > m->base + 2)
	{
		uint64_t	from = m->last - sim_below(&r->rand, m->last - m->base < 20 ? m->last - m->base : 20);

		if (from < rlog_first_index(r->log))
			return;
		m = next_state(r);
		m->last = from - 1;
		CHECK(rlog_truncate_suffix(r->log, from) == RLOG_OK || r->de->dead);
		/* with a new term, as in life: a second call */
		m = next_state(r);
		m->term++;
		m->vote = 0;
		CHECK(rlog_set_hard_state(r->log, m->term, 0, 0, true) == RLOG_OK || r->de->dead);
	}
	else if (pick < 88)
	{
		m = next_state(r);
		m->term++;
		m->vote = (uint32_t) sim_between(&r->rand, 1, 5);
		CHECK(rlog_set_hard_state(r->log, m->term, m->vote, 0, true) == RLOG_OK || r->de->dead);
	}
	else if (pick < 93)
	{
		m = next_state(r);
		m->conf++;
		CHECK(rlog_set_conf(r->log, &m->conf, 1, m->last) == RLOG_OK || r->de->dead);
	}
	else if (pick < 98)
		(void) rlog_truncate_prefix(r->log, m->last > 5 ? m->last - 5 : 1);
	else if (pick == 99)
	{
		m = next_state(r);
		m->last += 3;
		m->base = m->last;
		(void) rlog_reset(r->log, m->base, m->term);
	}
}

/* Terms of a model before anything was set are 0 on disk. */
static bool
matches(Run *r, Rlog *log, const Model *m)
{
	uint64_t	term,
				commit,
				conf_index;
	uint32_t	vote;
	size_t		len;
	const uint8_t *conf;
	RlogReader *reader;
	bool		same = true;

	rlog_hard_state(log, &term, &vote, &commit);
	conf = rlog_conf(log, &len, &conf_index);
	if (rlog_last_index(log) != m->last || vote != m->vote ||
		(term != m->term && !(term == 0 && m->term == 1)) ||
		(len == 0 ? 0 : conf[0]) != m->conf || rlog_first_index(log) <= m->base)
		return false;
	reader = open_reader(r->de);
	for (uint64_t i = rlog_first_index(log); i <= m->last && same; i++)
	{
		const Entry *e = &m->entries[i % MAX_ENTRIES];
		RlogRecord	rec;

		same = rlog_reader_get(reader, i, m->last, &rec, last_error) == RLOG_OK &&
			is_record(&rec, i, e->term, e->len);
	}
	rlog_reader_close(reader);
	return same;
}

static void
run_workload(Run *r, uint64_t seed, int64_t die_after)
{
	Model	   *history = r->history;

	memset(r, 0, sizeof(*r));
	r->history = history;
	memset(&r->history[0], 0, sizeof(Model));
	r->de = disk_env_new(seed);
	sim_rand_seed(&r->rand, seed);
	CHECK_EQ(make_log(r->de), RLOG_OK);
	r->log = open_log(r->de);
	r->de->die_after = die_after;
	while (r->ncalls < MAX_OPS - 60 && !r->de->dead && checks_failed == 0)
	{
		int			before;
		RlogIo	   *io;

		for (uint64_t n = sim_between(&r->rand, 1, 6); n > 0; n--)
			one_call(r);
		before = r->ncalls;
		io = rlog_io_begin(r->log);
		if (io == NULL)
			continue;
		/* calls while the round is under way */
		for (uint64_t n = sim_below(&r->rand, 4); n > 0; n--)
			one_call(r);
		rlog_io_run(io);
		/* the dead see errors that are none */
		if (rlog_io_done(r->log, io) == RLOG_OK)
		{
			if (!r->de->dead)
				r->acknowledged = before;
		}
		else
			CHECK(r->de->dead);
	}
	rlog_close(r->log);
}

static void
check_recovery(Run *r, uint64_t seed, int64_t died, bool keep_cache)
{
	Rlog	   *log;
	bool		found = false;

	disk_env_crash(r->de, keep_cache);
	/* again inside the recovery, a few times */
	for (int64_t again = (int64_t) sim_below(&r->rand, 6); again < 12; again += 5)
	{
		r->de->die_after = again;
		if (try_open(r->de, &log) == RLOG_OK)
			rlog_close(log);
		disk_env_crash(r->de, keep_cache ? sim_below(&r->rand, 2) == 0 : false);
	}
	log = open_log(r->de);
	if (log == NULL)
	{
		printf("  seed %lu, died at effect %ld\n", (unsigned long) seed, (long) died);
		return;
	}
	for (int i = r->ncalls; i >= r->acknowledged && !found; i--)
		found = matches(r, log, &r->history[i]);
	CHECK(found);
	if (!found)
		printf("  seed %lu, died at effect %ld: found %lu..%lu, acknowledged call %d of %d (last %lu)\n",
			   (unsigned long) seed, (long) died, (unsigned long) rlog_first_index(log),
			   (unsigned long) rlog_last_index(log), r->acknowledged, r->ncalls,
			   (unsigned long) r->history[r->acknowledged].last);
	/* and it can be used */
	CHECK_EQ(append(log, rlog_last_index(log) + 1, 1000, 40), RLOG_OK);
	CHECK_EQ(round_of_io(log), RLOG_OK);
	rlog_close(log);
}

static void
crash_everywhere(bool keep_cache)
{
	Run			r = {.history = malloc((MAX_OPS + 10) * sizeof(Model))};

	for (uint64_t seed = 1; seed <= 5; seed++)
	{
		bool		died = true;

		for (int64_t at = 0; died && checks_failed == 0; at++)
		{
			run_workload(&r, seed, at);
			died = r.de->dead;
			check_recovery(&r, seed, at, keep_cache);
			disk_env_free(r.de);
		}
	}
	free(r.history);
}

static void
P32_power_cut_at_every_effect(void)
{
	crash_everywhere(false);
}

static void
P36_process_crash_at_every_effect(void)
{
	crash_everywhere(true);
}

/* The making of a log is all or nothing, too. */
static void
crash_while_creating(void)
{
	for (int keep_cache = 0; keep_cache < 2; keep_cache++)
	{
		bool		died = true;

		for (int64_t at = 0; died; at++)
		{
			DiskEnv    *de = disk_env_new((uint64_t) at + 1);
			Rlog	   *log;
			RlogStatus	status;

			de->die_after = at;
			(void) make_log(de);
			died = de->dead;
			disk_env_crash(de, keep_cache);
			status = try_open(de, &log);
			CHECK(status == RLOG_OK || (died && status == RLOG_NOT_FOUND));
			if (status == RLOG_OK)
				rlog_close(log);
			else
				CHECK_EQ(make_log(de), RLOG_OK);
			disk_env_free(de);
		}
	}
}

/* Cut off at any effect: the old cluster and its configuration, or the new ones. */
static void
crash_while_forcing(void)
{
	static const uint8_t new_id[16] = "another cluster";

	for (int keep_cache = 0; keep_cache < 2; keep_cache++)
	{
		bool		died = true;

		for (int64_t at = 0; died && at < 100; at++)
		{
			DiskEnv    *de = disk_env_new((uint64_t) at + 1);
			Rlog	   *log;
			uint8_t		old_id[16];
			uint64_t	term,
						commit,
						index;
			uint32_t	vote;
			size_t		len;
			bool		forced;

			make_log(de);
			log = open_log(de);
			memcpy(old_id, rlog_identity(log)->cluster_id, 16);
			for (uint64_t i = 1; i <= 20; i++)
				append(log, i, 1, 100);
			CHECK_EQ(rlog_set_conf(log, "old", 3, 5), RLOG_OK);
			CHECK_EQ(rlog_set_hard_state(log, 1, 2, 7, true), RLOG_OK);
			CHECK_EQ(round_of_io(log), RLOG_OK);

			de->die_after = at;
			CHECK_EQ(rlog_force(log, new_id, "new", 3), RLOG_OK);
			(void) round_of_io(log);
			died = de->dead;
			rlog_close(log);
			disk_env_crash(de, keep_cache);

			log = open_log(de);
			forced = memcmp(rlog_identity(log)->cluster_id, new_id, 16) == 0;
			CHECK(forced || memcmp(rlog_identity(log)->cluster_id, old_id, 16) == 0);
			CHECK(forced || died);
			CHECK(memcmp(rlog_conf(log, &len, &index), forced ? "new" : "old", 3) == 0);
			CHECK_EQ(index, forced ? 20 : 5);
			rlog_hard_state(log, &term, &vote, &commit);
			CHECK(term == 1 && vote == 2 && commit == (forced ? 20 : 7));
			CHECK_EQ(rlog_last_index(log), 20);
			rlog_close(log);
			disk_env_free(de);
		}
	}
}

const Test	tests_crash[] = {
	TEST(crash_while_forcing),
	TEST(P32_power_cut_at_every_effect),
	TEST(P36_process_crash_at_every_effect),
	TEST(crash_while_creating),
	{NULL, NULL}
};
