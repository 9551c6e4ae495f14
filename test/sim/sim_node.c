/*-------------------------------------------------------------------------
 *
 * sim_node.c
 *		Life of a member on a machine: made, started, crashed, lost, replaced.
 *
 *-------------------------------------------------------------------------
 */
#include "sim.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

void
sim_later(SimNode *node, SimEventKind kind, int64_t delay_us, uint64_t value)
{
	SimEvent	event = {0};

	event.at_us = node->world->now_us + (delay_us > 0 ? delay_us : 0);
	event.kind = kind;
	event.machine = node->machine;
	event.incarnation = node->incarnation;
	event.value = value;
	sim_queue_push(&node->world->queue, event);
}

int64_t
sim_node_now(const SimNode *node)
{
	int64_t		now = node->world->now_us;

	return now + now / SIM_PPM * node->clock_ppm +
		now % SIM_PPM * node->clock_ppm / SIM_PPM + node->clock_offset_us;
}

void
sim_entry_from_record(RaftEntry *entry, const RlogRecord *record)
{
	memset(entry, 0, sizeof(*entry));
	entry->index = record->index;
	entry->term = record->term;
	entry->type = record->type;
	memcpy(&entry->stamp, record->stamp, sizeof(entry->stamp));
	memcpy(&entry->token, record->token, sizeof(entry->token));
	if (record->len > 0 || record->type != RAFT_ENTRY_NOOP)
		entry->data = raft_buf_new(record->data, record->len);
}

void
sim_node_init(SimWorld *world, int machine)
{
	SimNode    *node = &world->nodes[machine];

	node->world = world;
	node->machine = machine;
	sim_disk_init(&node->disk, &world->rand);
	sim_env_init(node);
	node->clock_offset_us = (int64_t) sim_below(&world->rand, 1000 * SIM_SECOND);
	if (world->options.drift_ppm > 0)
		node->clock_ppm = (int32_t) sim_below(&world->rand,
											  2 * (uint64_t) world->options.drift_ppm + 1) -
			world->options.drift_ppm;
}

static RaftConfig
core_config(const SimNode *node)
{
	const SimOptions *o = &node->world->options;
	RaftConfig	config;

	raft_config_default(&config);
	config.id = node->id;
	memcpy(config.instance, node->instance, RAFT_INSTANCE_LEN);
	config.election_timeout_us = o->election_timeout_us;
	config.heartbeat_interval_us = o->heartbeat_interval_us;
	config.max_message_bytes = o->max_message_bytes;
	config.max_inflight_messages = o->max_inflight_messages;
	config.max_inflight_bytes = o->max_inflight_bytes;
	config.max_uncommitted_bytes = o->max_uncommitted_bytes;
	config.cache_bytes = o->cache_bytes;
	config.max_apply_entries = o->max_apply_entries;
	config.lease_reads = o->lease_reads;
	return config;
}

static RlogOptions
log_options(const SimNode *node)
{
	return (RlogOptions)
	{
		.segment_bytes = node->world->options.segment_bytes,
			.watch_type = RAFT_ENTRY_CONF,
	};
}

/* ---------- a new member ---------- */

/* Lay down an empty log with the first configuration, as joining does. */
void
sim_node_create(SimNode *node, uint32_t id, const RaftConf *conf)
{
	SimWorld   *world = node->world;
	RlogIdentity identity = {.node_id = id};
	RlogOptions options = log_options(node);
	char		notice[RLOG_ERROR_LEN] = "";
	char		error[RLOG_ERROR_LEN] = "";
	RaftBuf    *buf = raft_conf_encode(conf);
	RlogIo	   *io;
	Rlog	   *log;

	assert(!node->up);
	sim_disk_wipe(&node->disk);
	node->id = id;
	node->damage = SIM_SOUND;
	node->lost = node->recovering = node->salvaged = false;
	node->crash_after = -1;
	memcpy(node->instance, raft_conf_find(conf, id)->instance, RAFT_INSTANCE_LEN);
	memcpy(identity.instance_id, node->instance, RAFT_INSTANCE_LEN);
	sim_shadow_reset(&node->durable, 0, 0);
	sim_shadow_reset(&node->appended, 0, 0);
	sim_changes_clear(&node->unsettled);
	memset(&node->durable_hard, 0, sizeof(node->durable_hard));
	memset(&node->hard, 0, sizeof(node->hard));
	memset(&node->applied, 0, sizeof(node->applied));
	memset(&node->flushed, 0, sizeof(node->flushed));

	SIM_CHECK(world, rlog_create(&node->env, SIM_LOG_DIR, &options, &identity, error) == RLOG_OK,
			  "create: n%u: %s", id, error);
	SIM_CHECK(world, rlog_open(&node->env, SIM_LOG_DIR, &options, &log, notice, error) == RLOG_OK,
			  "create: n%u: %s", id, error);
	SIM_CHECK(world, rlog_set_conf(log, buf->data, buf->len, 0) == RLOG_OK,
			  "create: n%u: rlog_set_conf", id);
	io = rlog_io_begin(log);
	SIM_CHECK(world, io != NULL, "create: n%u: nothing to write", id);
	rlog_io_run(io);
	SIM_CHECK(world, rlog_io_done(log, io) == RLOG_OK, "create: n%u: rlog_io_done", id);
	rlog_close(log);
	raft_buf_unref(buf);
	world->machine_of[id] = node->machine;
	sim_trace(world, "n%u made on machine %d", id, node->machine);
}

/* ---------- start ---------- */

typedef struct Found
{
	SimShadow	log;
	RaftConf   *confs;
	size_t		nconfs;
	RaftConf	saved;
	RaftHardState hard;
} Found;

static void
found_free(Found *found)
{
	sim_shadow_free(&found->log);
	free(found->confs);
}

/* Read everything that the log says it has. False: some of it cannot be read. */
static bool
read_log(SimNode *node, Found *found, char *error)
{
	uint64_t	first = rlog_first_index(node->log);
	uint64_t	last = rlog_last_index(node->log);
	uint64_t	conf_index = 0;
	size_t		len = 0;
	const void *conf = rlog_conf(node->log, &len, &conf_index);

	if (conf == NULL || !raft_conf_decode(conf, len, &found->saved))
	{
		strcpy(error, "no configuration");
		return false;
	}
	found->saved.index = conf_index;
	rlog_hard_state(node->log, &found->hard.term, &found->hard.vote, &found->hard.commit);
	sim_shadow_reset(&found->log, first - 1, rlog_prev_term(node->log));
	for (uint64_t i = first; i <= last; i++)
	{
		RlogRecord	rec;
		RaftEntry	entry;
		SimEntry	shadow;

		if (rlog_reader_get(node->load_reader, i, last, &rec, error) != RLOG_OK)
			return false;
		SIM_CHECK(node->world, rec.index == i, "reader: n%u: asked for %lu, got %lu", node->id,
				  (unsigned long) i, (unsigned long) rec.index);
		sim_entry_from_record(&entry, &rec);
		shadow = (SimEntry)
		{
			.term = entry.term, .hash = sim_entry_hash(&entry), .token = entry.token,
				.type = entry.type, .data = entry.type == RAFT_ENTRY_CONF ? entry.data : NULL,
		};
		sim_shadow_append(&found->log, i, &shadow);
		if (entry.type == RAFT_ENTRY_CONF && i > conf_index)
		{
			found->confs = realloc(found->confs, (found->nconfs + 1) * sizeof(RaftConf));
			if (found->confs == NULL)
				abort();
			if (!raft_conf_decode(entry.data->data, entry.data->len,
								  &found->confs[found->nconfs]))
				sim_fail(node->world, "conf: n%u: entry %lu is no configuration", node->id,
						 (unsigned long) i);
			found->confs[found->nconfs++].index = i;
		}
		raft_buf_unref(entry.data);
	}
	return true;
}

static RaftStatus
create_core(SimNode *node, const Found *found, uint64_t applied)
{
	SimWorld   *world = node->world;
	RaftConfig	config = core_config(node);
	RaftDisk	disk = {0};
	const RlogTermRun *runs;
	RaftTermRun *own;
	RaftStatus	status;

	disk.hard = found->hard;
	disk.conf = found->saved;
	disk.first_index = rlog_first_index(node->log);
	disk.prev_term = rlog_prev_term(node->log);
	disk.last_index = rlog_last_index(node->log);
	disk.applied = applied;
	disk.distrusted_until = rlog_distrusted_until(node->log);
	node->recovering = disk.distrusted_until != 0;
	disk.nruns = rlog_term_runs(node->log, &runs);
	own = calloc(disk.nruns + 1, sizeof(RaftTermRun));
	if (own == NULL)
		abort();
	for (size_t i = 0; i < disk.nruns; i++)
		own[i] = (RaftTermRun) {runs[i].first_index, runs[i].term};
	disk.runs = own;
	disk.confs = found->confs;
	disk.nconfs = found->nconfs;
	status = raft_create(&config, &disk, sim_node_now(node), sim_rand_next(&world->rand),
						 &node->raft);
	free(own);
	return status;
}

static void
close_files(SimNode *node)
{
	if (node->load_reader != NULL)
		rlog_reader_close(node->load_reader);
	if (node->apply_reader != NULL)
		rlog_reader_close(node->apply_reader);
	if (node->log != NULL)
		rlog_close(node->log);
	node->load_reader = node->apply_reader = NULL;
	node->log = NULL;
}

static bool
read_all(SimNode *node, RlogStatus status, Found *found, char *error)
{
	if (status != RLOG_OK)
		node->log = NULL;
	return status == RLOG_OK &&
		rlog_reader_open(&node->env, SIM_LOG_DIR, &node->load_reader, error) == RLOG_OK &&
		rlog_reader_open(&node->env, SIM_LOG_DIR, &node->apply_reader, error) == RLOG_OK &&
		read_log(node, found, error);
}

/*
 * Cut a damaged log behind what is good, and go on as a member that does not
 * vote until it has got the rest again. What it had acknowledged is remembered
 * by the oracle: the others may count on it.
 */
static bool
salvage(SimNode *node, Found *found)
{
	SimWorld   *world = node->world;
	RlogOptions options = log_options(node);
	char		notice[RLOG_ERROR_LEN] = "";
	char		error[RLOG_ERROR_LEN] = "";
	uint64_t	damaged = 0;
	RlogStatus	status;

	close_files(node);
	found_free(found);
	memset(found, 0, sizeof(*found));
	status = rlog_salvage(&node->env, SIM_LOG_DIR, &options, &node->log, &damaged, notice,
						  error);
	if (node->dying || status != RLOG_OK)
	{
		sim_trace(world, "n%u: nothing to salvage: %d %s", node->id, status, error);
		if (status != RLOG_OK)
			node->log = NULL;
		return false;
	}
	SIM_CHECK(world, read_all(node, status, found, error),
			  "salvage: n%u: what was salvaged cannot be read: %s", node->id, error);
	sim_trace(world, "n%u: %s", node->id, notice);
	return true;
}

/* Open what is on disk. False: not now; the reason has been dealt with. */
static bool
open_files(SimNode *node, Found *found)
{
	SimWorld   *world = node->world;
	RlogOptions options = log_options(node);
	char		notice[RLOG_ERROR_LEN] = "";
	char		error[RLOG_ERROR_LEN] = "";
	uint64_t	errors = node->disk.errors_given + node->disk.full_given;
	RlogStatus	status;

	status = rlog_open(&node->env, SIM_LOG_DIR, &options, &node->log, notice, error);
	if (node->dying)
		return false;
	if (notice[0] != '\0')
		sim_trace(world, "n%u: %s", node->id, notice);
	if (read_all(node, status, found, error))
		return true;

	sim_trace(world, "n%u cannot start: %d %s", node->id, status, error);
	if (node->disk.errors_given + node->disk.full_given > errors)
	{
		sim_node_stop(node, false); /* the disk said no: again later */
		return false;
	}
	SIM_CHECK(world, node->damage != SIM_SOUND,
			  "recovery: n%u: a sound log is refused: status %d, %s", node->id, status, error);
	world->stats.damage_reported++;
	if (sim_chance(&world->rand, SIM_PPM * 3 / 4) && salvage(node, found))
		return true;
	if (!node->dying)
		sim_node_lose(node, "damage was noticed at start");
	return false;
}

/*
 * The log says that it was salvaged (now, or before a crash in between). False:
 * not well enough, because it could not know better.
 */
static bool
accept_salvaged(SimNode *node, const Found *found)
{
	SimWorld   *world = node->world;
	uint64_t	last = sim_shadow_last(&found->log);
	uint64_t	owed = sim_shadow_last(&node->durable);

	/* a cut that was under way may have been done */
	for (size_t i = 0; i < node->unsettled.count; i++)
	{
		const SimChange *change = &node->unsettled.items[i];

		if (change->kind == SIM_CHANGE_RESET)
			owed = 0;
		else if (change->kind == SIM_CHANGE_TRUNCATE && change->index <= owed)
			owed = change->index - 1;
	}
	sim_trace(world, "n%u: salvaged up to %lu, distrusted until %lu", node->id,
			  (unsigned long) last, (unsigned long) rlog_distrusted_until(node->log));
	if (rlog_distrusted_until(node->log) < owed)
	{
		SIM_CHECK(world, node->damage == SIM_MISDIRECTED,
				  "salvage: n%u: had acknowledged up to %lu, distrusts only up to %lu", node->id,
				  (unsigned long) owed,
				  (unsigned long) rlog_distrusted_until(node->log));
		sim_node_lose(node, "a misdirected write took entries that salvage knows nothing of");
		return false;
	}
	for (uint64_t i = found->log.base_index + 1; i <= last; i++)
	{
		const SimEntry *had = sim_shadow_at(&node->durable, i);
		const SimEntry *has = sim_shadow_at(&found->log, i);

		SIM_CHECK(world, had == NULL || (had->term == has->term && had->hash == has->hash) ||
				  node->unsettled.count > 0,
				  "salvage: n%u: entry %lu is not what it was", node->id, (unsigned long) i);
	}
	world->stats.salvaged++;
	node->salvaged = true;
	if (node->ghost_id != node->id)
		sim_shadow_copy(&node->ghost, &node->durable);
	node->ghost_id = node->id;
	return true;
}

/*
 * The one case in which damage cannot be told from a torn write; see "Limit" in
 * rlog_format.c. As with misdirected writes the member is taken out.
 */
static bool
only_last_batch_lost(const SimNode *node, const SimShadow *found)
{
	uint64_t	last = sim_shadow_last(found);

	if (!node->lost_power || last < node->batch_from || last >= sim_shadow_last(&node->durable))
		return false;
	return sim_shadow_term(found, last) == sim_shadow_term(&node->durable, last);
}

/* What recovery found must be what was acknowledged, and no invention. */
static bool
accept_log(SimNode *node, Found *found)
{
	SimWorld   *world = node->world;

	bool		salvaged = rlog_distrusted_until(node->log) != 0 && node->damage != SIM_SOUND;

	if (salvaged && !accept_salvaged(node, found))
		return false;
	if (!salvaged && node->damage == SIM_MISDIRECTED &&
		!sim_shadow_explains(&node->durable, &node->unsettled, &found->log))
	{
		/*
		 * The drive swallowed the newest writes. No log that is kept in one
		 * copy can know; a member that did would not get as far as here.
		 */
		sim_node_lose(node, "a misdirected write took acknowledged entries");
		return false;
	}
	if (node->damage == SIM_ROTTEN && !salvaged && only_last_batch_lost(node, &found->log))
	{
		sim_node_lose(node, "its last batch rotted, and a power cut took the mark");
		return false;
	}
	if (!salvaged && node->damage != SIM_MISDIRECTED)
		sim_oracle_restarted(world, node, &found->log, found->hard);
	node->damage = SIM_SOUND;
	sim_changes_clear(&node->unsettled);
	sim_shadow_copy(&node->durable, &found->log);
	sim_shadow_copy(&node->appended, &found->log);
	node->durable_hard = node->hard = found->hard;
	node->conf_saved = found->saved.index;
	return true;
}

/*
 * The database may be ahead of the log when a crash came between an image and
 * the log's reset: then the image is still good, and is announced again.
 */
static bool
start_core(SimNode *node, const Found *found)
{
	SimWorld   *world = node->world;
	uint64_t	last = sim_shadow_last(&found->log);
	bool		ahead = node->flushed.index > last &&
		node->flushed.index > rlog_distrusted_until(node->log);
	RaftStatus	status;

	node->applied = node->flushed;
	status = create_core(node, found, ahead ? 0 : node->flushed.index);
	SIM_CHECK(world, status == RAFT_OK,
			  "fenced: n%u: raft_create says %d: log %lu..%lu, commit %lu, applied %lu",
			  node->id, status, (unsigned long) found->log.base_index + 1,
			  (unsigned long) last, (unsigned long) found->hard.commit,
			  (unsigned long) node->flushed.index);
	/* what a damaged log lost is handed out once more */
	node->published = node->flushed.index;
	if (!ahead && node->published > last)
		node->published = last;
	if (ahead)
	{
		RaftConf	conf;

		sim_oracle_conf(world, node->flushed.index, &conf);
		status = raft_installed(node->raft, node->flushed.index, node->flushed.term, &conf,
								sim_node_now(node));
		SIM_CHECK(world, status == RAFT_OK, "installed: n%u: raft_installed(%lu) says %d",
				  node->id, (unsigned long) node->flushed.index, status);
	}
	else if (node->published < found->log.base_index)
		sim_fail(world, "compacted: n%u: log begins at %lu, the database has %lu", node->id,
				 (unsigned long) found->log.base_index + 1, (unsigned long) node->published);
	return true;
}

bool
sim_node_start(SimNode *node)
{
	SimWorld   *world = node->world;
	uint32_t	ppm = world->phase == SIM_PHASE_SAFETY ? world->options.effect_crash_ppm : 0;
	Found		found = {0};

	assert(!node->up && node->id != 0 && !node->lost);
	node->incarnation++;
	node->up = true;
	node->dying = false;
	node->crash_after = ppm == 0 ? -1 :
		(int64_t) sim_below(&world->rand, 2 * (uint64_t) SIM_PPM / ppm);
	node->wake_at_us = 0;
	node->apply_planned = node->installing = false;
	node->install_index = 0;
	node->nproposals = 0;
	node->seen_role = RAFT_FOLLOWER;
	node->seen_term = node->seen_commit = 0;
	memset(node->seen_match, 0, sizeof(node->seen_match));
	world->stats.restarts++;

	if (!open_files(node, &found) || !accept_log(node, &found) || !start_core(node, &found))
	{
		found_free(&found);
		return false;
	}
	sim_trace(world, "n%u starts: log %lu..%lu term %lu vote %u commit %lu applied %lu",
			  node->id, (unsigned long) found.log.base_index + 1,
			  (unsigned long) sim_shadow_last(&found.log), (unsigned long) found.hard.term,
			  found.hard.vote, (unsigned long) found.hard.commit,
			  (unsigned long) node->applied.index);
	found_free(&found);
	sim_oracle_stepped(world, node);
	for (int i = 0; i < world->nnodes; i++)
	{
		if (i != node->machine && world->nodes[i].up && world->nodes[i].raft != NULL &&
			sim_chance(&world->rand, SIM_PPM / 2))
		{
			SimEvent	event = {.kind = SIM_EV_PEER, .machine = i, .value = 1,
			.from = node->id,.incarnation = world->nodes[i].incarnation,
			.at_us = world->now_us + 1};

			sim_queue_push(&world->queue, event);
		}
	}
	sim_node_drain(node);
	return true;
}

/* ---------- end ---------- */

/*
 * The process ends where it stands: what it had not written is not written. A
 * power cut takes the unsynced writes of the machine with it.
 */
void
sim_node_stop(SimNode *node, bool power_cut)
{
	SimWorld   *world = node->world;

	assert(node->up);
	node->disk.frozen = true;
	node->dying = true;
	node->lost_power = power_cut;
	sim_client_node_gone(node);
	if (node->raft != NULL)
		raft_free(node->raft);
	node->raft = NULL;
	if (node->io != NULL)
	{
		rlog_io_run(node->io);
		(void) rlog_io_done(node->log, node->io);
		node->io = NULL;
	}
	close_files(node);
	sim_changes_move(&node->unsettled, &node->flying.changes);
	sim_changes_move(&node->unsettled, &node->next.changes);
	sim_batch_clear(&node->flying);
	sim_batch_clear(&node->next);
	sim_db_crash(node);
	sim_disk_crash(&node->disk, !power_cut);
	node->up = node->dying = false;
	node->crash_after = -1;
	node->paused_until_us = node->slow_until_us = node->stalled_until_us = 0;
	world->stats.crashes++;
	sim_trace(world, "n%u %s", node->id, power_cut ? "loses power" : "crashes");

	/* its connections break, and most of the others notice */
	for (int i = 0; i < world->nnodes; i++)
	{
		if (i != node->machine && world->nodes[i].up && sim_chance(&world->rand, SIM_PPM * 3 / 4))
		{
			SimEvent	event = {.kind = SIM_EV_PEER, .machine = i, .value = 0,
			.from = node->id,.incarnation = world->nodes[i].incarnation,
			.at_us = world->now_us + (int64_t) sim_below(&world->rand, 5 * SIM_MS)};

			sim_queue_push(&world->queue, event);
		}
	}
	if (!node->lost)
		sim_later(node, SIM_EV_RESTART,
				  (int64_t) sim_below(&world->rand,
									  (uint64_t) world->options.election_timeout_us *
									  (sim_chance(&world->rand, SIM_PPM / 5) ? 20 : 2)), 0);
}

/* Its data is gone for good; somebody has to replace the member. */
void
sim_node_lose(SimNode *node, const char *why)
{
	sim_trace(node->world, "n%u is lost: %s", node->id, why);
	node->lost = true;
	if (node->ghost_id != node->id)
		sim_shadow_copy(&node->ghost, &node->durable);
	node->ghost_id = node->id;
	if (node->up)
		sim_node_stop(node, true);
}

/* The member was removed: its machine is free again. */
void
sim_node_vacate(SimNode *node)
{
	if (node->up)
	{
		node->lost = true;		/* no restart */
		sim_node_stop(node, true);
	}
	sim_trace(node->world, "n%u leaves machine %d", node->id, node->machine);
	node->world->machine_of[node->id] = -1;
	node->id = 0;
	node->lost = node->impostor = node->recovering = false;
	node->damage = SIM_SOUND;
	node->incarnation++;
	sim_disk_wipe(&node->disk);
	sim_shadow_reset(&node->durable, 0, 0);
	sim_shadow_reset(&node->appended, 0, 0);
	sim_changes_clear(&node->unsettled);
}

void
sim_node_free(SimNode *node)
{
	SimBatch   *batches[2] = {&node->flying, &node->next};

	if (node->up)
	{
		node->lost = true;
		sim_node_stop(node, false);
	}
	for (int i = 0; i < 2; i++)
	{
		free(batches[i]->msgs);
		sim_changes_free(&batches[i]->changes);
	}
	sim_shadow_free(&node->durable);
	sim_shadow_free(&node->appended);
	sim_shadow_free(&node->ghost);
	sim_changes_free(&node->unsettled);
	sim_disk_free(&node->disk);
}
