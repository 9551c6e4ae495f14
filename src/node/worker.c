/*-------------------------------------------------------------------------
 *
 * worker.c
 *		The Raft worker: start, event loop, shutdown.
 *
 * libuv's loop sits inside PostgreSQL's wait: WaitEventSet on our latch, on
 * the descriptor of libuv's epoll set and on the postmaster's death, then
 * uv_run(UV_RUN_NOWAIT). A postmaster that dies takes us along at once
 * (WL_EXIT_ON_PM_DEATH), so no orphan goes on leading.
 *
 * Connected, but to no database: that is what lets the worker show in
 * pg_stat_activity. It never is in a transaction.
 *
 * Shutdown: a leader hands over first, if that is quick; then the last round
 * of log I/O is waited for, and the log closed. A crash needs none of this.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <sched.h>

#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/pmsignal.h"
#include "storage/proc.h"
#include "storage/sinval.h"
#include "utils/guc.h"
#include "utils/wait_event.h"

#include "compat.h"
#include "node/read.h"
#include "node/worker.h"

#define LEAVE_US		INT64CONST(400000)	/* for handing over at shutdown */
#define GATHER_MIN		8		/* sessions at work */
#define APPLY_PATIENCE_US	INT64CONST(5000000)
#define IDLE_MAX_MS		1000

static Worker worker;

uint64
worker_entropy(Worker *w)
{
	uint64		z = (w->entropy += UINT64CONST(0x9e3779b97f4a7c15));

	z = (z ^ (z >> 30)) * UINT64CONST(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64CONST(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

/* Nobody is here any more: sessions must not take us for a leader. */
static void
on_exit_worker(int code, Datum arg)
{
	if (node_shared == NULL)
		return;
	pg_atomic_write_u64(&node_reads->lease_until_us, 0);
	pg_atomic_write_u32(&node_shared->is_leader, 0);
	pg_atomic_write_u32(&node_shared->has_quorum, 0);
	pg_atomic_write_u32(&node_shared->raft_proc, 0);
}

static void
keepalive_tick(uv_timer_t *timer)
{
}

/* Where the core finds its own state broken: this server must not go on. */
static void
core_is_broken(const char *file, int line, const char *expr)
{
	ereport(PANIC,
			(errcode(ERRCODE_INTERNAL_ERROR),
			 errmsg("consensus core: assertion failed at %s:%d: %s", file, line, expr)));
}

static void
start(Worker *w)
{
	memset(w, 0, sizeof(*w));
	if (!pg_strong_random(&w->entropy, sizeof(w->entropy)))
		ereport(FATAL, (errcode(ERRCODE_INTERNAL_ERROR),
						errmsg("could not get random bytes")));
	raft_on_assert = core_is_broken;

	/*
	 * One thread for fdatasync; libuv keeps a second one free of name look-ups
	 * (transport.h).
	 */
	setenv("UV_THREADPOOL_SIZE", "2", 1);
	if (uv_loop_init(&w->loop) != 0 ||
		uv_timer_init(&w->loop, &w->keepalive) != 0 ||
		uv_timer_start(&w->keepalive, keepalive_tick, 3600 * 1000, 3600 * 1000) != 0)
		ereport(FATAL, (errcode(ERRCODE_OUT_OF_MEMORY),
						errmsg("could not create the event loop")));
	w->now_us = node_monotonic_us();
	dlist_init(&w->queued);
	dlist_init(&w->sent);
	dlist_init(&w->parked);
	dlist_init(&w->appended);
	dlist_init(&w->remote);
	dlist_init(&w->admin);
	dlist_init(&w->outcomes);
	dlist_init(&w->applied);
	if (!peer_create_transport(w))
		ereport(FATAL, (errcode(ERRCODE_OUT_OF_MEMORY),
						errmsg("could not create the transport")));
	lock_init(w);
	mailbox_init(w);
	lock_own_start(w);
	applied_drop(w, "");		/* what a former worker was asked for */
	read_init(w);
	w->status_dirty = true;
	worker_open(w);
	pg_atomic_write_u32(&node_shared->raft_proc, compat_my_procno() + 1);
}

static void
reload(Worker *w)
{
	ProcessConfigFile(PGC_SIGHUP);
	worker_configure(w);
	w->status_dirty = true;
}

/* Leadership to whoever is nearest to having everything, but not to this one. */
void
worker_hand_over(Worker *w, uint32 except)
{
	const RaftConf *conf = raft_conf(w->raft);
	uint32		best = RAFT_NONE;
	uint64		best_match = 0;

	for (int i = 0; i < conf->nmembers; i++)
	{
		const RaftMember *m = &conf->members[i];
		RaftPeerStatus peer;

		if (m->voter && m->id != w->id && m->id != except && raft_peer_status(w->raft, m->id, &peer) &&
			peer.recent_active && peer.replicating && peer.match >= best_match)
		{
			best = m->id;
			best_match = peer.match;
		}
	}
	if (best != RAFT_NONE)
		(void) raft_transfer(w->raft, best, w->now_us);
}

/* SIGTERM: hand over, if there is somebody to hand over to. */
static void
begin_to_leave(Worker *w)
{
	w->leaving = true;
	w->leave_deadline_us = w->now_us + LEAVE_US;
	if (worker_leads(w))
		worker_hand_over(w, RAFT_NONE);
}

static bool
may_leave(const Worker *w)
{
	if (w->raft == NULL || w->now_us >= w->leave_deadline_us)
		return true;
	return raft_role(w->raft) != RAFT_LEADER || raft_transferee(w->raft) == RAFT_NONE;
}

/* The clock's fence: neither lead nor stamp entries (clock_shmem.h). */
static void
look_at_clock(Worker *w)
{
	char		why[NODE_DETAIL_LEN];
	bool		fenced = clock_is_fenced(why, sizeof(why));

	if (fenced != w->clock_fenced)
	{
		w->clock_fenced = fenced;
		if (fenced)
			ereport(LOG,
					(errmsg("this member does not lead while its clock is off"),
					 errdetail("%s", why)));
		else
			ereport(LOG, (errmsg("the clock of this member is in order again")));
		/* why a member is halted is not to be written over */
		if (w->state == WORKER_RUNNING)
			worker_set_detail(w, fenced ? why : "");
	}
}

/* Not in a single call a turn, but now and then. */
static void
maintain(Worker *w)
{
	if (w->now_us < w->maintain_us)
		return;
	w->maintain_us = w->now_us + 200 * 1000;
	if (!PostmasterIsAlive())
		proc_exit(1);
	if (catchupInterruptPending)
		ProcessCatchupInterrupt();
	look_at_clock(w);
	if (w->state == WORKER_RUNNING)
	{
		uint32		quorum = raft_has_quorum(w->raft, w->now_us) ? 1 : 0;

		if (quorum != pg_atomic_read_u32(&node_shared->has_quorum))
		{
			pg_atomic_write_u32(&node_shared->has_quorum, quorum);
			w->status_dirty = true;
		}
		peer_maintain(w);
	}
	if (w->state == WORKER_RUNNING && check_applied(w))
	{
		truncate_log(w);

		/* the log tries again when it is asked to write: with nothing queued, too */
		if (w->health == RLOG_NO_SPACE && w->io == NULL)
			w->batch.writes = true;
		admin_announce_address(w);
		if (!w->listening && w->now_us >= w->listen_retry_us)
			worker_listen(w);

		/* a fenced leader, or one without log space, hands over */
		if (worker_leads(w) && raft_transferee(w->raft) == RAFT_NONE &&
			(w->clock_fenced || w->health != RLOG_OK))
			worker_hand_over(w, RAFT_NONE);

		/* a leader whose own tables stand still is none for its sessions */
		if (pg_atomic_read_u32(&node_shared->apply_ready) != 0)
			w->apply_missing_us = 0;
		else if (w->apply_missing_us == 0)
			w->apply_missing_us = w->now_us;
		else if (worker_leads(w) && raft_transferee(w->raft) == RAFT_NONE &&
				 w->now_us - w->apply_missing_us > APPLY_PATIENCE_US)
		{
			w->apply_missing_us = w->now_us;
			worker_hand_over(w, RAFT_NONE);
		}

		/* nobody else could take them either */
		if (worker_leads(w) && w->health == RLOG_NO_SPACE && w->nposted > 0 &&
			raft_conf(w->raft)->nmembers == 1)
			mailbox_refuse_posted(w, w->detail);
	}
	else if (w->state == WORKER_HALTED && w->retry_open_us != 0 &&
			 w->now_us >= w->retry_open_us)
		worker_open(w);
}

/*
 * Take in what sessions have posted. Where many are at work and few have posted
 * so far, the others run first, once: each proposal that still makes it into
 * this round saves a round of log writes on every member. With an idle processor
 * this costs nothing.
 */
static void
collect(Worker *w)
{
	int			at_work;

	mailbox_collect(w);
	at_work = Max(w->npending + w->nposted, w->at_work - w->at_work / 16 - 1);
	w->at_work = at_work;
	if (w->nposted > 0 && at_work >= GATHER_MIN && 2 * w->nposted < at_work &&
		worker_leads(w))
	{
		sched_yield();
		mailbox_collect(w);
	}
}

/* Everything that one wake-up leads to. */
static void
turn(Worker *w)
{
	w->now_us = node_monotonic_us();
	w->unfinished = node_ops && node_ops->begin_turn && node_ops->begin_turn();
	mailbox_copy_some(w);
	collect(w);
	if (w->state == WORKER_RUNNING)
	{
		/* before anybody is told what came in just now */
		read_publish_lease(w);
		if (w->now_us >= w->deadline_us && (worker_leads(w) || worker_may_campaign(w)))
			raft_tick(w->raft, w->now_us, worker_entropy(w));
		propose_run(w);
		lock_after(w);
		admin_run(w);
		outcome_run(w);
		(void) read_run(w);
		drive(w);

		/* a leader may have become sure of itself just now: go on at once */
		if (w->state == WORKER_RUNNING && w->now_us >= w->retry_us &&
			(w->nposted > 0 || !dlist_is_empty(&w->queued) || !dlist_is_empty(&w->remote)) &&
			propose_may_take(w))
		{
			propose_run(w);
			lock_after(w);
			drive(w);
		}
	}
	else if (w->state == WORKER_HALTED && w->retry_open_us == 0)
	{
		pending_give_up(w, w->detail);
		if (w->nposted > 0)
			mailbox_refuse_posted(w, w->detail);
	}
	if (w->join != NULL)
		join_run(w);
	if (w->state == WORKER_RUNNING)
	{
		image_run(w);
		publish_commits(w);
		applied_run(w);
		peer_ping(w);
		tp_flush(w->tp);
		watch_apply(w);
	}
	read_wake();
	maintain(w);
	if (w->status_dirty && w->now_us >= w->status_us)
		status_publish(w);
}

/* Opening and closing the log are not counted: no member takes part meanwhile. */
static void
note_turn(int64 took_us)
{
	if ((uint64) took_us > pg_atomic_read_u64(&node_shared->longest_turn_us))
		pg_atomic_write_u64(&node_shared->longest_turn_us, (uint64) took_us);
}

static long
sleep_ms(Worker *w)
{
	int64		wake_us = w->now_us + (int64) IDLE_MAX_MS * 1000;
	int64		now_us = node_monotonic_us();
	int			uv_ms;

	/* what is large is dealt with in pieces, one a turn */
	if (w->unfinished || w->taking.buf != NULL || propose_goes_on(w))
		return 0;
	wake_us = Min(wake_us, w->maintain_us + (w->state == WORKER_RUNNING ? 0 : 800 * 1000));
	if (w->status_dirty)
		wake_us = Min(wake_us, w->status_us);
	if (w->leaving)
		wake_us = Min(wake_us, w->leave_deadline_us);
	if (w->join != NULL)
		wake_us = Min(wake_us, now_us + 20 * 1000);
	if (w->state == WORKER_RUNNING)
	{
		if ((worker_leads(w) || worker_may_campaign(w)))
			wake_us = Min(wake_us, w->deadline_us);
		wake_us = Min(wake_us, w->ping_us);
		wake_us = Min(wake_us, read_deadline(w));
		if (w->ring_limited)
			wake_us = Min(wake_us, now_us + 5 * 1000);
		if (w->watch_us != 0)
			wake_us = Min(wake_us, w->watch_us);
		if (w->batch.writes || w->batch.nmsgs > 0)
			wake_us = Min(wake_us, now_us + 50 * 1000);
		wake_us = Min(wake_us, Max(lock_deadline(w), now_us + 1000));
		if (!dlist_is_empty(&w->applied))
			wake_us = Min(wake_us, w->applied_us);
		if (!dlist_is_empty(&w->queued) || !dlist_is_empty(&w->remote))
			wake_us = Min(wake_us, Max(w->retry_us, now_us + 5 * 1000));
		if (!dlist_is_empty(&w->sent) || !dlist_is_empty(&w->admin) ||
			!dlist_is_empty(&w->outcomes) || w->image_procno_set)
			wake_us = Min(wake_us, now_us + 50 * 1000);
	}
	uv_update_time(&w->loop);
	uv_ms = uv_backend_timeout(&w->loop);
	if (uv_ms >= 0)
		wake_us = Min(wake_us, now_us + (int64) uv_ms * 1000);
	if (wake_us <= now_us)
		return 0;
	return (long) ((wake_us - now_us + 999) / 1000);
}

void
node_raft_main(Datum arg)
{
	Worker	   *w = &worker;
	WaitEventSet *set;
	WaitEvent	events[3];

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, SignalHandlerForShutdownRequest);
	pqsignal(SIGPIPE, SIG_IGN);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	before_shmem_exit(on_exit_worker, (Datum) 0);

	start(w);
	set = compat_create_wait_event_set(3);
	AddWaitEventToSet(set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
	AddWaitEventToSet(set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
	AddWaitEventToSet(set, WL_SOCKET_READABLE, uv_backend_fd(&w->loop), NULL, NULL);

	for (;;)
	{
		long		timeout_ms;
		int64		begun_us;
		bool		running;

		/* before looking at what it may stand for */
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			reload(w);
		}
		if (ShutdownRequestPending && !w->leaving)
			begin_to_leave(w);

		w->now_us = begun_us = node_monotonic_us();
		running = w->state == WORKER_RUNNING;
		uv_run(&w->loop, UV_RUN_NOWAIT);
		turn(w);
		if (running && w->state == WORKER_RUNNING)
			note_turn(node_monotonic_us() - begun_us);
		if (w->leaving && may_leave(w))
			break;
		timeout_ms = sleep_ms(w);
		lock_slept(w, timeout_ms);
		if (timeout_ms > 0)
			(void) WaitEventSetWait(set, timeout_ms, events, lengthof(events), PG_WAIT_EXTENSION);
	}

	worker_close(w);
	ereport(DEBUG1, (errmsg_internal("pg_quorum raft worker ends")));

	/* not 0: whoever is terminated alone is to be started again */
	proc_exit(1);
}
