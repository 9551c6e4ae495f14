/*-------------------------------------------------------------------------
 *
 * sim_db.c
 *		What stands for the database: a row that says how far entries were
 *		applied, and their running hash. Images of it, and the log's shortening.
 *
 * The row is stored in the same transaction as what it speaks of, so a crash
 * takes both back to some state between flushed and applied. Entries are read
 * from the files, as the apply worker does, never from the core's memory.
 *
 *-------------------------------------------------------------------------
 */
#include "sim.h"

#include <stdlib.h>
#include <string.h>

#define IMAGE_WAIT_US (50 * SIM_MS)

/* Entries were published: apply them before long. */
void
sim_db_plan(SimNode *node)
{
	if (node->apply_planned || node->applied.index >= node->published)
		return;
	node->apply_planned = true;
	sim_later(node, SIM_EV_APPLY,
			  (int64_t) sim_below(&node->world->rand,
								  (uint64_t) node->world->options.apply_max_us + 1), 0);
}

static bool
apply_one(SimNode *node)
{
	SimWorld   *world = node->world;
	uint64_t	index = node->applied.index + 1;
	RlogRecord	rec;
	RaftEntry	entry;
	char		error[RLOG_ERROR_LEN] = "";
	RlogStatus	status;

	status = rlog_reader_get(node->apply_reader, index, node->published, &rec, error);
	if (status != RLOG_OK)
	{
		SIM_CHECK(world, node->damage != SIM_SOUND,
				  "reader: n%u: published entry %lu cannot be read: %d %s", node->id,
				  (unsigned long) index, status, error);
		/* the process ends; what is to become of it is seen at its start */
		sim_trace(world, "n%u: entry %lu is damaged", node->id, (unsigned long) index);
		node->dying = true;
		node->disk.frozen = true;
		return false;
	}
	sim_entry_from_record(&entry, &rec);
	node->applied.index = index;
	node->applied.term = entry.term;
	node->applied.chain = sim_mix(sim_mix(node->applied.chain, index), sim_entry_hash(&entry));
	if (entry.type == RAFT_ENTRY_CONF)
		node->applied.conf_index = index;
	raft_buf_unref(entry.data);
	sim_oracle_applied(world, node, &node->applied);
	return true;
}

void
sim_db_apply(SimNode *node)
{
	SimWorld   *world = node->world;
	uint64_t	batch = 1 + sim_below(&world->rand, 200);

	node->apply_planned = false;
	while (batch-- > 0 && node->applied.index < node->published)
	{
		if (!apply_one(node))
			return;
	}
	if (sim_chance(&world->rand, SIM_PPM / 3))
	{
		node->flushed = node->applied;
		if (world->options.compaction && sim_chance(&world->rand, SIM_PPM / 4))
			sim_db_compact(node);
	}
	sim_db_plan(node);
}

/* Some of what was committed asynchronously is on disk, some is not. */
void
sim_db_crash(SimNode *node)
{
	uint64_t	lag = node->applied.index - node->flushed.index;
	uint64_t	kept = sim_below(&node->world->rand, lag + 1);

	if (kept == lag)
		node->flushed = node->applied;
	else if (kept > 0)
	{
		const SimCommitted *c;
		RaftConf	conf;

		node->flushed.index += kept;
		c = &node->world->oracle.committed[node->flushed.index - 1];
		sim_oracle_conf(node->world, node->flushed.index, &conf);
		node->flushed.term = c->term;
		node->flushed.chain = c->chain;
		node->flushed.conf_index = conf.index;
	}
	node->applied = node->flushed;
}

/* ---------- shortening the log ---------- */

/*
 * Never beyond what the database has on disk, nor beyond a configuration that
 * is not saved: the log is where it would be found again.
 */
void
sim_db_compact(SimNode *node)
{
	SimWorld   *world = node->world;
	uint64_t	keep = sim_below(&world->rand, world->options.keep_entries + 1);
	uint64_t	durable = rlog_durable_index(node->log);
	uint64_t	upto = node->flushed.index < durable ? node->flushed.index : durable;
	uint64_t	conf = raft_committed_conf(node->raft)->index;
	uint64_t	first;

	if (conf > node->conf_saved && upto >= conf)
		upto = conf - 1;
	if (node->installing || upto <= keep || upto - keep < rlog_first_index(node->log))
		return;
	if (rlog_truncate_prefix(node->log, upto - keep + 1) != RLOG_OK)
		sim_fail(world, "compact-status: n%u: rlog_truncate_prefix failed", node->id);
	first = rlog_first_index(node->log);
	SIM_CHECK(world, first <= upto - keep + 1, "compact: n%u: asked for %lu, begins at %lu",
			  node->id, (unsigned long) (upto - keep + 1), (unsigned long) first);
	if (first - 1 <= node->durable.base_index)
		return;
	node->next.wanted = node->next.writes = true;
	sim_trace(world, "n%u: log begins at %lu", node->id, (unsigned long) first);
	SIM_CHECK(world, rlog_prev_term(node->log) == sim_shadow_term(&node->durable, first - 1),
			  "compact: n%u: term of %lu is %lu, was %lu", node->id,
			  (unsigned long) (first - 1), (unsigned long) rlog_prev_term(node->log),
			  (unsigned long) sim_shadow_term(&node->durable, first - 1));
	sim_shadow_compact(&node->durable, first - 1);
	sim_shadow_compact(&node->appended, first - 1);
	raft_compacted(node->raft, first);
	world->stats.compactions++;
}

/* ---------- entries for a peer that lags ---------- */

#define LOAD_MAX_ENTRIES 512

void
sim_db_load(SimNode *node, const RaftLoad *load)
{
	SimWorld   *world = node->world;
	RaftEntry	entries[LOAD_MAX_ENTRIES];
	uint64_t	durable = rlog_durable_index(node->log);
	uint64_t	last = load->last_index < durable ? load->last_index : durable;
	uint64_t	bytes = 0;
	size_t		n = 0;

	if (world->now_us % 3 == 0 && load->max_bytes % 2 == 0)
	{
		/* half the time it takes a while; max_bytes is odd when it comes back */
		SimEvent	event = {.kind = SIM_EV_LOAD, .machine = node->machine,
		.incarnation = node->incarnation,
		.at_us = world->now_us + (int64_t) sim_below(&world->rand, 20 * SIM_MS)};
		RaftLoad   *copy = malloc(sizeof(RaftLoad));

		if (copy == NULL)
			abort();
		*copy = *load;
		copy->max_bytes |= 1;
		event.bytes = (uint8_t *) copy;
		event.len = sizeof(RaftLoad);
		sim_queue_push(&world->queue, event);
		return;
	}
	world->stats.loads++;
	for (uint64_t i = load->first_index; i <= last && n < LOAD_MAX_ENTRIES; i++)
	{
		RlogRecord	rec;
		char		error[RLOG_ERROR_LEN] = "";
		RlogStatus	status = rlog_reader_get(node->load_reader, i, durable, &rec, error);

		if (status != RLOG_OK)
		{
			SIM_CHECK(world, status == RLOG_COMPACTED || node->damage != SIM_SOUND,
					  "reader: n%u: entry %lu cannot be read: %d %s", node->id,
					  (unsigned long) i, status, error);
			break;
		}
		if (n > 0 && bytes + rec.len > load->max_bytes)
			break;
		sim_entry_from_record(&entries[n], &rec);
		/* read ahead and cut since: of another term, so the core does not take it */
		SIM_CHECK(world, sim_shadow_at(&node->durable, i) == NULL ||
				  sim_shadow_at(&node->durable, i)->hash == sim_entry_hash(&entries[n]) ||
				  sim_shadow_at(&node->durable, i)->term != entries[n].term,
				  "reader: n%u: entry %lu reads differently from what was written", node->id,
				  (unsigned long) i);
		bytes += rec.len;
		n++;
	}
	raft_loaded(node->raft, load->peer, entries, n, sim_node_now(node));
}

/* ---------- images ---------- */

void
sim_db_image_start(SimNode *node, uint32_t from, uint64_t index)
{
	node->installing = true;
	sim_trace(node->world, "n%u asks n%u for an image at %lu or above", node->id, from,
			  (unsigned long) index);
	sim_later(node, SIM_EV_INSTALL,
			  (int64_t) sim_below(&node->world->rand, IMAGE_WAIT_US) + 1, from);
}

/* The leader's driver hears how it went; see sim_client_forwarded. */
static void
report(SimNode *node, uint32_t to, bool ok)
{
	uint8_t		bytes[3] = {'S', ok, (uint8_t) node->id};

	if (to != RAFT_NONE)
		sim_net_forward(node->world, node, to, bytes, sizeof(bytes));
}

/*
 * Whoever was asked first, or anybody else whose database reaches far enough,
 * gives its state. It is durable here before the core hears of it.
 */
void
sim_db_image_arrived(SimNode *node)
{
	SimWorld   *world = node->world;
	SimNode    *source = NULL;
	RaftConf	conf;
	RaftStatus	status;
	int			start = (int) sim_below(&world->rand, (uint64_t) world->nnodes);

	node->installing = false;
	if (node->install_index == 0 || raft_is_fenced(node->raft))
		return;					/* not wanted any more */
	for (int i = 0; i < world->nnodes; i++)
	{
		SimNode    *other = &world->nodes[(start + i) % world->nnodes];

		if (other == node || !other->up || other->raft == NULL || other->lost ||
			world->links[other->machine][node->machine].blocked ||
			other->applied.index < node->install_index ||
			other->applied.index < raft_commit_index(node->raft))
			continue;
		if (source == NULL || other->id == raft_leader(node->raft))
			source = other;
	}
	if (source == NULL || sim_chance(&world->rand, SIM_PPM / 10))
	{
		report(node, raft_leader(node->raft), false);
		return;					/* asked again with the next output */
	}
	sim_oracle_conf(world, source->applied.index, &conf);
	node->applied = node->flushed = source->applied;
	sim_trace(world, "n%u has an image of n%u at %lu", node->id, source->id,
			  (unsigned long) source->applied.index);
	world->stats.images++;
	status = raft_installed(node->raft, node->applied.index, node->applied.term, &conf,
							sim_node_now(node));
	SIM_CHECK(world, status == RAFT_OK,
			  "installed: n%u: raft_installed(%lu) says %d", node->id,
			  (unsigned long) node->applied.index, status);
	node->published = node->applied.index;
	report(node, raft_leader(node->raft), true);
}
