/*-------------------------------------------------------------------------
 *
 * worker_read.c
 *		Linearizable reads for this server's sessions (read.h): one round for all
 *		that came in, and data of bounded age kept fresh while somebody wants it.
 *
 * One batch is under way at a time: what comes in meanwhile shares the next one.
 * That is what makes many readers cheap. Readers that ask again and again would
 * settle into two groups that take turns, each waiting for the other's round; so
 * after a batch the worker lets those that it has woken come back (gather), for a
 * millisecond at most, and who comes does not wake it one by one. A batch that
 * the core ends without an answer (leader gone, or changed) is asked again, as
 * the next one, until there is one or the sessions have given up.
 *
 * The core forgets no read, but is not ticked while this member must not
 * campaign; so a batch has a limit of its own here.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"

#include "node/read.h"
#include "node/worker.h"

#define RETRY_US		INT64CONST(10000)
#define RETRY_ALONE_US	INT64CONST(200000)	/* when all have given up */
#define GATHER_US		INT64CONST(1000)	/* what the loop can sleep, too */
#define GATHER_MIN		3		/* sessions at work */
#define DEMAND_US		INT64CONST(3000000)	/* after the last reader of bounded age */

static struct
{
	uint64		id;				/* of the batch under way; 0 none */
	uint64		last_id;
	uint64		ticket;			/* the newest one that it answers */
	int			batch;			/* so many tickets are in it */
	int64		begun_us;
	uint64		started;		/* tickets up to here are in a batch, or answered */
	int64		retry_us;
	int64		answered_us;	/* when the last batch came back */
	int			at_work;		/* sessions that read at a time, lately */
	int64		refresh_us;		/* when data of bounded age are due again; 0 no */

	uint32		to_wake;		/* bits of batches: that are answered, ... */
	uint32		unanswered;		/* ... and that came to nothing */
}			reads;

void
read_init(Worker *w)
{
	memset(&reads, 0, sizeof(reads));
	reads.started = pg_atomic_read_u64(&node_reads->done_ticket);
	reads.last_id = pg_atomic_read_u64(&node_reads->begun) % READ_BATCHES;
	/* whatever a former worker had begun */
	reads.unanswered = ~(uint32) 0;
}

/* How many are to have come before the next batch. */
static int
gather_target(const Worker *w)
{
	if (reads.at_work < GATHER_MIN || w->now_us - reads.answered_us >= GATHER_US)
		return 1;
	return reads.at_work - reads.at_work / 4;
}

static void
set_wake_at(uint64 ticket)
{
	if (pg_atomic_read_u64(&node_reads->wake_at) != ticket)
	{
		pg_atomic_write_u64(&node_reads->wake_at, ticket);
		pg_memory_barrier();
	}
}

/* Is there anybody left who has not given up? */
static bool
somebody_waits(void)
{
	uint64		done = pg_atomic_read_u64(&node_reads->done_ticket);

	for (int procno = 0; procno < MaxBackends; procno++)
		if (pg_atomic_read_u64(&node_reads->slots[procno].ticket) > done)
			return true;
	return false;
}

static uint32
batch_bit(uint64 id)
{
	return (uint32) 1 << (id % READ_BATCHES);
}

/* The batch under way came to nothing: whoever still waits is in the next one. */
static void
ask_again(Worker *w)
{
	reads.unanswered |= batch_bit(reads.id);
	reads.id = 0;
	reads.started = pg_atomic_read_u64(&node_reads->done_ticket);
	reads.retry_us = w->now_us + (somebody_waits() ? RETRY_US : RETRY_ALONE_US);
}

static int64
patience_us(void)
{
	return (int64) Max(quorum_election_timeout_ms, 3 * quorum_heartbeat_interval_ms) * 2000;
}

/* When data of bounded age are to be refreshed next; 0: nobody wants any. */
static int64
refresh_due(Worker *w)
{
	int64		demand_us = (int64) pg_atomic_read_u64(&node_reads->demand_us);
	int64		staleness_us;
	int64		every_us;

	if (demand_us == 0)
		return 0;
	if (w->now_us - demand_us > DEMAND_US)
	{
		pg_atomic_write_u64(&node_reads->demand_us, 0);
		pg_atomic_write_u64(&node_reads->demand_staleness_us, 0);
		return 0;
	}
	staleness_us = (int64) pg_atomic_read_u64(&node_reads->demand_staleness_us);
	every_us = Min((int64) quorum_heartbeat_interval_ms * 1000, staleness_us / 4);
	/* less than this and readers had better ask themselves */
	every_us = Max(every_us, 2000);
	return (int64) pg_atomic_read_u64(&node_reads->fresh_us) + every_us;
}

/* True: the core has been asked something. */
bool
read_run(Worker *w)
{
	uint64		asked;
	bool		wanted;

	if (reads.id != 0 && w->now_us - reads.begun_us > patience_us())
		ask_again(w);
	reads.refresh_us = refresh_due(w);
	if (reads.id != 0 || w->now_us < reads.retry_us)
		return false;
	set_wake_at(reads.started + gather_target(w));
	asked = pg_atomic_read_u64(&node_reads->asked);
	wanted = asked >= reads.started + gather_target(w);
	if (!wanted && (reads.refresh_us == 0 || w->now_us < reads.refresh_us))
		return false;
	set_wake_at(PG_UINT64_MAX);
	/* the tickets are out; what is acknowledged from here on is not promised */
	pg_memory_barrier();
	reads.id = ++reads.last_id;
	reads.ticket = asked;
	reads.batch = (int) Min(asked - reads.started, MaxBackends);
	reads.started = asked;
	reads.begun_us = node_monotonic_us();
	pg_atomic_write_u64(&node_reads->begun, read_begun_make(reads.id, asked));
	raft_read_index(w->raft, reads.id, w->now_us);
	return true;
}

/* The core's answers. */
void
read_answered(Worker *w, const RaftRead *answers, size_t n)
{
	for (size_t i = 0; i < n; i++)
	{
		if (answers[i].id != reads.id)
			continue;			/* given up */
		if (!answers[i].ok)
		{
			ask_again(w);
			continue;
		}
		reads.to_wake |= batch_bit(reads.id) | reads.unanswered;
		reads.unanswered = 0;
		reads.id = 0;
		reads.answered_us = w->now_us;
		if (answers[i].index > pg_atomic_read_u64(&node_reads->done_index))
		{
			pg_atomic_write_u64(&node_reads->done_index, answers[i].index);
			pg_atomic_write_u64(&node_reads->fresh_index, answers[i].index);
		}
		pg_memory_barrier();
		if ((uint64) reads.begun_us > pg_atomic_read_u64(&node_reads->fresh_us))
			pg_atomic_write_u64(&node_reads->fresh_us, (uint64) reads.begun_us);
		pg_atomic_write_u64(&node_reads->done_ticket, reads.ticket);
		/* those of this batch, and who has come meanwhile */
		reads.at_work = Max(reads.batch + (int) Min(pg_atomic_read_u64(&node_reads->asked) - reads.started, MaxBackends),
							reads.at_work - reads.at_work / 8 - 1);
	}
}

/*
 * Wake who has been answered; after what the turn had to send has left, so that
 * the next round is under way while they run.
 */
void
read_wake(void)
{
	uint32		batches = reads.to_wake;

	if (batches == 0)
		return;
	reads.to_wake = 0;
	node_reads_wake(batches);
}

/* There is another leader: what failed for want of one is asked at once. */
void
read_role_changed(Worker *w)
{
	reads.retry_us = 0;
}

/* The core is gone, with what it was asked. */
void
read_forget(Worker *w)
{
	pg_atomic_write_u64(&node_reads->lease_until_us, 0);
	pg_memory_barrier();
	if (reads.id != 0)
		ask_again(w);
}

/* When read_run() has something to do without being woken; INT64_MAX: never. */
int64
read_deadline(const Worker *w)
{
	int64		deadline_us = INT64_MAX;
	uint64		asked;

	if (reads.id != 0)
		return reads.begun_us + patience_us();
	if (reads.refresh_us != 0)
		deadline_us = Max(reads.refresh_us, reads.retry_us);
	/* read_run() has not seen this yet, or waits for more */
	set_wake_at(reads.started + gather_target(w));
	asked = pg_atomic_read_u64(&node_reads->asked);
	if (asked >= reads.started + gather_target(w))
		deadline_us = Min(deadline_us, reads.retry_us);
	else if (asked > reads.started)
		deadline_us = Min(deadline_us, Max(reads.retry_us, reads.answered_us + GATHER_US));
	return deadline_us;
}

/*
 * Before anything of this output leaves: sessions with a lease go by what is
 * stored here (read.h).
 */
void
read_publish_lease(Worker *w)
{
	uint64		commit = raft_commit_index(w->raft);
	uint64		until_us = (uint64) raft_lease_until(w->raft);
	bool		changed = false;

	if (pg_atomic_read_u64(&node_shared->raft_commit) != commit)
	{
		pg_atomic_write_u64(&node_shared->raft_commit, commit);
		pg_write_barrier();
		changed = true;
	}
	if (pg_atomic_read_u64(&node_reads->lease_until_us) != until_us)
	{
		pg_atomic_write_u64(&node_reads->lease_until_us, until_us);
		changed = true;
	}
	if (changed)
		pg_memory_barrier();
}
