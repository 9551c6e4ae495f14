/*-------------------------------------------------------------------------
 *
 * sim_drive.c
 *		What the Raft worker does: inputs to the core, its output to log,
 *		network and database, one round of log I/O at a time.
 *
 * It follows src/node/worker_drive.c and worker_io.c in the order of effects:
 * messages at once, then reset, truncation, entries and hard state to the log,
 * what must wait into the batch. Every message and every change of a file is a
 * point where the process may die.
 *
 *-------------------------------------------------------------------------
 */
#include "sim.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define DRAIN_LIMIT 10000

RaftStamp
sim_next_stamp(SimWorld *world)
{
	if (world->stamp.physical_us < world->now_us)
	{
		world->stamp.physical_us = world->now_us;
		world->stamp.logical = 0;
	}
	else
		world->stamp.logical++;
	return world->stamp;
}

/* ---------- batches ---------- */

void
sim_batch_clear(SimBatch *batch)
{
	for (size_t i = 0; i < batch->nmsgs; i++)
		raft_msg_free(&batch->msgs[i]);
	batch->nmsgs = 0;
	sim_changes_clear(&batch->changes);
	batch->wanted = batch->writes = batch->done_wanted = false;
	batch->conf_index = 0;
}

static void
batch_collect(SimBatch *batch, const RaftMsg *msgs, size_t n)
{
	if (n == 0)
		return;
	if (batch->nmsgs + n > batch->msgs_capacity)
	{
		batch->msgs_capacity = (batch->nmsgs + n) * 2;
		batch->msgs = realloc(batch->msgs, batch->msgs_capacity * sizeof(RaftMsg));
		if (batch->msgs == NULL)
			abort();
	}
	memcpy(batch->msgs + batch->nmsgs, msgs, n * sizeof(RaftMsg));
	batch->nmsgs += n;
	batch->wanted = true;
}

static void
send_one(SimNode *node, RaftMsg *msg)
{
	if (!node->dying && !sim_effect(node, "send a message"))
	{
		sim_oracle_sent(node->world, node, msg);
		sim_net_send(node->world, node, msg);
	}
	raft_msg_free(msg);
}

/* Everything that this batch waited for is durable. */
static void
batch_done(SimNode *node, SimBatch *batch)
{
	uint64_t	before = sim_shadow_last(&node->durable);

	for (size_t i = 0; i < batch->changes.count; i++)
	{
		const SimChange *change = &batch->changes.items[i];

		if (change->kind == SIM_CHANGE_HARD)
			node->durable_hard = change->hard;
		else
			sim_shadow_apply(&node->durable, change);
		if (change->kind == SIM_CHANGE_APPEND)
			node->batch_from = before;
	}
	sim_changes_clear(&batch->changes);
	if (batch->conf_index > node->conf_saved)
		node->conf_saved = batch->conf_index;
	if (batch->done_wanted)
		raft_append_done(node->raft, batch->done_term, batch->done_index, sim_node_now(node));
	sim_oracle_stepped(node->world, node);
	for (size_t i = 0; i < batch->nmsgs; i++)
		send_one(node, &batch->msgs[i]);
	batch->nmsgs = 0;
	sim_batch_clear(batch);
}

/* ---------- log I/O ---------- */

static int64_t
disk_delay(SimNode *node)
{
	const SimOptions *o = &node->world->options;

	return (int64_t) sim_between(&node->world->rand, (uint64_t) o->disk_min_us,
								 (uint64_t) o->disk_max_us);
}

/* True: something became durable at once, so the core has more to say. */
static bool
io_start(SimNode *node)
{
	SimBatch	batch;

	bool		full;

	if (node->dying || node->io != NULL)
		return false;
	/* for want of space nothing may be written: the log tries every so many calls */
	full = rlog_health(node->log, NULL) == RLOG_NO_SPACE;
	if (!node->next.wanted && !full)
		return false;
	if (node->next.writes || full)
		node->io = rlog_io_begin(node->log);
	if (node->io == NULL && !node->next.wanted)
		return false;
	if (node->next.writes && node->io == NULL)
	{
		/* a full disk: the log keeps what is queued, and tries later */
		if (rlog_health(node->log, NULL) != RLOG_OK ||
			rlog_durable_index(node->log) < rlog_last_index(node->log))
		{
			sim_later(node, SIM_EV_IO_RUN, 10 * SIM_MS, 1);
			return false;
		}
	}
	batch = node->flying;
	node->flying = node->next;
	node->next = batch;
	if (node->io == NULL)
	{
		batch_done(node, &node->flying);
		return true;
	}
	sim_later(node, SIM_EV_IO_RUN, disk_delay(node) / 2, 0);
	return false;
}

static void
io_run(SimNode *node)
{
	if (node->stalled_until_us > node->world->now_us)
	{
		sim_later(node, SIM_EV_IO_RUN, node->stalled_until_us - node->world->now_us, 0);
		return;
	}
	rlog_io_run(node->io);
	if (!node->dying)
		sim_later(node, SIM_EV_IO_DONE, disk_delay(node) / 2, 0);
}

static void
io_done(SimNode *node)
{
	RlogStatus	status = rlog_io_done(node->log, node->io);
	const char *text = NULL;

	node->io = NULL;
	if (status == RLOG_OK)
	{
		batch_done(node, &node->flying);
		return;
	}
	(void) rlog_health(node->log, &text);
	sim_trace(node->world, "n%u log I/O: status %d, %s", node->id, status, text ? text : "");
	SIM_CHECK(node->world, node->disk.errors_given > 0 || node->disk.full_given > 0,
			  "io-status: n%u: log I/O failed with %d (%s) on a sound disk", node->id, status,
			  text ? text : "");
	if (status == RLOG_NO_SPACE)
	{
		/* still queued in the log: keep what waits for it, in front */
		SimBatch	newer = node->next;

		node->next = node->flying;
		node->flying = newer;
		batch_collect(&node->next, newer.msgs, newer.nmsgs);
		node->flying.nmsgs = 0;
		sim_changes_move(&node->next.changes, &node->flying.changes);
		if (newer.done_wanted)
		{
			node->next.done_wanted = true;
			node->next.done_term = newer.done_term;
			node->next.done_index = newer.done_index;
		}
		if (newer.conf_index > node->next.conf_index)
			node->next.conf_index = newer.conf_index;
		node->next.wanted = node->next.writes = true;
		sim_batch_clear(&node->flying);
		sim_later(node, SIM_EV_IO_RUN, 10 * SIM_MS, 1);
		return;
	}
	/* poisoned: this process acknowledges nothing any more */
	node->dying = true;
	node->disk.frozen = true;
}

/* ---------- output ---------- */

static void
release_payload(void *arg)
{
	raft_buf_unref(arg);
}

static void
append_entry(SimNode *node, const RaftEntry *e)
{
	SimChange	change = {.kind = SIM_CHANGE_APPEND, .index = e->index};
	RlogRecord	rec = {.index = e->index, .term = e->term, .type = e->type};
	RlogStatus	status;

	_Static_assert(sizeof(rec.stamp) == sizeof(e->stamp), "stamp");
	_Static_assert(sizeof(rec.token) == sizeof(e->token), "token");
	memcpy(rec.stamp, &e->stamp, sizeof(rec.stamp));
	memcpy(rec.token, &e->token, sizeof(rec.token));
	if (e->data != NULL)
	{
		rec.data = e->data->data;
		rec.len = e->data->len;
		rec.release = release_payload;
		rec.release_arg = raft_buf_ref(e->data);
	}
	status = rlog_append(node->log, &rec);
	SIM_CHECK(node->world, status == RLOG_OK, "append-status: n%u: rlog_append(%lu) says %d",
			  node->id, (unsigned long) e->index, status);

	change.entry = (SimEntry)
	{
		.term = e->term, .hash = sim_entry_hash(e), .token = e->token, .type = e->type,
		.data = e->type == RAFT_ENTRY_CONF ? e->data : NULL,
	};
	sim_oracle_appended(node->world, node, e->index, &change.entry,
						sim_shadow_term(&node->appended, e->index - 1));
	sim_shadow_append(&node->appended, e->index, &change.entry);
	sim_changes_add(&node->next.changes, &change);
}

static void
save_conf(SimNode *node)
{
	const RaftConf *conf = raft_committed_conf(node->raft);
	RaftBuf    *buf = raft_conf_encode(conf);
	RlogStatus	status = rlog_set_conf(node->log, buf->data, buf->len, conf->index);

	SIM_CHECK(node->world, status == RLOG_OK, "conf-status: n%u: rlog_set_conf(%lu) says %d",
			  node->id, (unsigned long) conf->index, status);
	raft_buf_unref(buf);
	node->next.conf_index = conf->index;
	node->next.wanted = node->next.writes = true;
}

static void
write_log(SimNode *node, const RaftOutput *out)
{
	SimWorld   *world = node->world;
	SimChange	change = {0};

	/* with a reset, the configuration may be durable no later than it */
	if (out->conf_committed)
		save_conf(node);
	if (out->reset_index != 0)
	{
		change.kind = SIM_CHANGE_RESET;
		change.index = out->reset_index;
		change.term = out->reset_term;
		SIM_CHECK(world, rlog_reset(node->log, out->reset_index, out->reset_term) == RLOG_OK,
				  "reset-status: n%u: rlog_reset failed", node->id);
		rlog_reader_forget(node->load_reader);
		rlog_reader_forget(node->apply_reader);
		sim_trace(world, "n%u resets its log to %lu/%lu", node->id,
				  (unsigned long) out->reset_index, (unsigned long) out->reset_term);
		sim_shadow_apply(&node->appended, &change);
		sim_changes_add(&node->next.changes, &change);
		node->next.wanted = node->next.writes = true;
	}
	if (out->truncate_from != 0)
	{
		change.kind = SIM_CHANGE_TRUNCATE;
		change.index = out->truncate_from;
		sim_oracle_truncated(world, node, out->truncate_from);
		SIM_CHECK(world, rlog_truncate_suffix(node->log, out->truncate_from) == RLOG_OK,
				  "truncate-status: n%u: rlog_truncate_suffix(%lu) failed", node->id,
				  (unsigned long) out->truncate_from);
		rlog_reader_forget(node->load_reader);
		sim_shadow_apply(&node->appended, &change);
		sim_changes_add(&node->next.changes, &change);
		node->next.wanted = node->next.writes = true;
	}
	for (size_t i = 0; i < out->nentries; i++)
		append_entry(node, &out->entries[i]);
	if (out->hard_changed)
	{
		RlogStatus	status = rlog_set_hard_state(node->log, out->hard.term, out->hard.vote,
												 out->hard.commit, out->must_sync);

		SIM_CHECK(world, status == RLOG_OK,
				  "hard-status: n%u: rlog_set_hard_state(%lu, %u) says %d", node->id,
				  (unsigned long) out->hard.term, out->hard.vote, status);
		SIM_CHECK(world, out->must_sync || (out->hard.term == node->hard.term &&
											out->hard.vote == node->hard.vote),
				  "must-sync: n%u: term or vote changed without must_sync", node->id);
		change.kind = SIM_CHANGE_HARD;
		change.hard = out->hard;
		node->hard = out->hard;
		sim_changes_add(&node->next.changes, &change);
	}
	if (out->must_sync)
		node->next.wanted = node->next.writes = true;
	if (out->trusted)
	{
		SIM_CHECK(world, node->recovering && sim_shadow_last(&node->durable) >=
				  rlog_distrusted_until(node->log),
				  "distrust: n%u trusts itself with %lu of %lu", node->id,
				  (unsigned long) sim_shadow_last(&node->durable),
				  (unsigned long) rlog_distrusted_until(node->log));
		SIM_CHECK(world, rlog_trust(node->log) == RLOG_OK, "trust-status: n%u: rlog_trust",
				  node->id);
		node->next.wanted = node->next.writes = true;
		node->recovering = false;
		node->ghost_id = 0;
		world->stats.trusted++;
	}
	if (out->append_pending)
	{
		node->next.wanted = node->next.done_wanted = true;
		node->next.done_term = out->append_term;
		node->next.done_index = out->append_index;
	}
	batch_collect(&node->next, out->msgs_after, out->nmsgs_after);
}

static void
plan_wake(SimNode *node, int64_t deadline_us)
{
	SimWorld   *world = node->world;
	int64_t		wait_us;

	if (deadline_us == INT64_MAX)
		return;
	wait_us = deadline_us - sim_node_now(node);
	if (wait_us < 0)
		wait_us = 0;
	/* by the node's clock; a microsecond more than less */
	wait_us += wait_us * world->options.drift_ppm / SIM_PPM + 1;
	if (node->wake_at_us != 0 && node->wake_at_us <= world->now_us + wait_us)
		return;
	node->wake_at_us = world->now_us + wait_us;
	sim_later(node, SIM_EV_WAKE, wait_us, (uint64_t) node->wake_at_us);
}

/* Take one output and carry it out. False: there was nothing in it. */
static bool
take(SimNode *node)
{
	SimWorld   *world = node->world;
	RaftOutput	out;
	bool		more;

	raft_set_stamp(node->raft, sim_next_stamp(world));
	raft_take_output(node->raft, &out);
	sim_oracle_stepped(world, node);
	more = out.hard_changed || out.nentries > 0 || out.nmsgs > 0 || out.nmsgs_after > 0 ||
		out.commit_first != 0 || out.nloads > 0 || out.nreads > 0 || out.append_pending ||
		out.truncate_from != 0 || out.reset_index != 0 || out.trusted;

	for (size_t i = 0; i < out.nmsgs; i++)
		send_one(node, &out.msgs[i]);
	write_log(node, &out);
	if (node->dying)
		return false;
	sim_oracle_stepped(world, node);
	if (out.commit_first != 0)
	{
		SIM_CHECK(world, out.commit_first == node->published + 1 &&
				  out.commit_last >= out.commit_first,
				  "commit-gap: n%u: hands out %lu..%lu after %lu", node->id,
				  (unsigned long) out.commit_first, (unsigned long) out.commit_last,
				  (unsigned long) node->published);
		SIM_CHECK(world, out.commit_last <= sim_shadow_last(&node->durable),
				  "apply-before-durable: n%u: hands out up to %lu, durable up to %lu",
				  node->id, (unsigned long) out.commit_last,
				  (unsigned long) sim_shadow_last(&node->durable));
		for (uint64_t i = out.commit_first; i <= out.commit_last; i++)
		{
			node->published = i;
			sim_client_committed(node, i, sim_shadow_at(&node->durable, i));
		}
		sim_db_plan(node);
	}
	for (size_t i = 0; i < out.nreads && !node->dying; i++)
		sim_client_read_done(node, &out.reads[i]);
	if (out.role_changed)
		sim_trace(world, "n%u is %d in term %lu, leader %u", node->id,
				  raft_role(node->raft), (unsigned long) raft_term(node->raft),
				  raft_leader(node->raft));
	node->install_index = out.install ? out.install_index : 0;
	if (out.install && !node->installing)
		sim_db_image_start(node, out.install_from, out.install_index);
	if (!node->dying)
	{
		/* the array is the core's until the next call into it */
		size_t		nloads = out.nloads;
		RaftLoad	loads[RAFT_MAX_MEMBERS];

		if (nloads > 0)
			memcpy(loads, out.loads, nloads * sizeof(RaftLoad));
		for (size_t i = 0; i < nloads; i++)
			sim_db_load(node, &loads[i]);
	}
	if (!node->dying && !more)
		plan_wake(node, out.next_deadline_us);
	return more;
}

/* Take and carry out until the core has nothing more to say. */
void
sim_node_drain(SimNode *node)
{
	for (int rounds = 0; node->up && !node->dying; rounds++)
	{
		bool		more = take(node);

		SIM_CHECK(node->world, rounds < DRAIN_LIMIT, "endless: n%u: output never ends", node->id);
		if (node->dying || (!io_start(node) && !more))
			break;
	}
}

/* ---------- inputs ---------- */

static void
deliver(SimNode *node, SimEvent *event)
{
	RaftMsg		msg;
	RaftStatus	status;

	if (node->id != event->to)
		return;
	SIM_CHECK(node->world, raft_msg_decode(event->bytes, event->len, &msg),
			  "codec: a message cannot be decoded again");
	if (node->world->trace != NULL)
	{
		char		text[256];

		sim_msg_print(text, sizeof(text), &msg);
		sim_trace(node->world, "recv %s", text);
	}
	status = raft_recv(node->raft, &msg, sim_node_now(node));
	SIM_CHECK(node->world, status != RAFT_INVALID && status != RAFT_NO_MEMORY,
			  "refused: n%u: raft_recv says %d to a message of n%u", node->id, status,
			  event->from);
}

/* 0 down, 1 up, 2 queue full, 3 queue drained */
static void
peer_event(SimNode *node, const SimEvent *event)
{
	if (event->value == 0)
		raft_peer_down(node->raft, event->from, sim_node_now(node));
	else if (event->value == 1)
		raft_peer_up(node->raft, event->from, sim_node_now(node));
	else
		raft_peer_paused(node->raft, event->from, event->value == 2);
}

/* An event for the running process of this machine. */
void
sim_node_event(SimNode *node, SimEvent *event)
{
	SimWorld   *world = node->world;
	bool		batch_inputs;

	switch (event->kind)
	{
		case SIM_EV_WAKE:
			if (node->wake_at_us == (int64_t) event->value)
				node->wake_at_us = 0;
			raft_tick(node->raft, sim_node_now(node), sim_rand_next(&world->rand));
			break;
		case SIM_EV_MESSAGE:
			deliver(node, event);
			break;
		case SIM_EV_FORWARD:
			if (node->id == event->to)
				sim_client_forwarded(node, event->bytes, event->len);
			break;
		case SIM_EV_IO_RUN:
			/* 1: only a timer for the next attempt on a full disk */
			if (event->value == 0)
				io_run(node);
			break;
		case SIM_EV_IO_DONE:
			io_done(node);
			break;
		case SIM_EV_PEER:
			peer_event(node, event);
			break;
		case SIM_EV_APPLY:
			sim_db_apply(node);
			break;
		case SIM_EV_LOAD:
			sim_db_load(node, (const RaftLoad *) (const void *) event->bytes);
			break;
		case SIM_EV_INSTALL:
			sim_db_image_arrived(node);
			break;
		default:
			assert(false);
	}
	if (node->dying || !node->up)
		return;
	sim_oracle_stepped(world, node);

	/* sometimes the loop reads several inputs before it looks at the output */
	batch_inputs = event->kind == SIM_EV_MESSAGE && sim_chance(&world->rand, SIM_PPM / 4);
	if (batch_inputs)
		plan_wake(node, sim_node_now(node) + (int64_t) sim_below(&world->rand, 300));
	else
		sim_node_drain(node);
}
