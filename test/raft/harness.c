/*-------------------------------------------------------------------------
 *
 * harness.c
 *		Nodes, their disks, and time. See harness.h.
 *
 *-------------------------------------------------------------------------
 */
#include "harness.h"

#define MAX_ROUNDS 20000			/* of anything that must come to rest */

RaftConfig	base_config;
int64_t		now_us;
bool		quorum_oracle;
Node		nodes[MAX_NODES + 1];

static RaftConf first_conf;
static uint64_t entropy_seed;
static uint64_t token_counter;

/* ---------- small things ---------- */

uint64_t
rnd(uint64_t *seed)
{
	uint64_t	z = (*seed += 0x9e3779b97f4a7c15u);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

Ids
ids_of(const int *list)
{
	Ids			ids = 0;

	for (; *list != 0; list++)
		ids |= (Ids) 1 << *list;
	return ids;
}

bool
ids_have(Ids ids, uint32_t id)
{
	return (ids >> id & 1) != 0;
}

void
instance_of(uint32_t id, uint8_t *instance)
{
	memset(instance, 0, RAFT_INSTANCE_LEN);
	instance[0] = 0xa0;
	instance[1] = (uint8_t) id;
}

RaftToken
next_token(uint32_t id)
{
	RaftToken	token = {id, 1, ++token_counter};

	return token;
}

Node *
node(uint32_t id)
{
	CHECK(id >= 1 && id <= MAX_NODES && nodes[id].exists);
	return &nodes[id];
}

Raft *
core(uint32_t id)
{
	CHECK(node(id)->up);
	return nodes[id].raft;
}

/* ---------- logs ---------- */

uint64_t
log_last(const Log *log)
{
	return log->base + log->n;
}

const RaftEntry *
log_at(const Log *log, uint64_t index)
{
	if (index <= log->base || index > log_last(log))
		return NULL;
	return &log->entries[index - log->base - 1];
}

uint64_t
log_term(const Log *log, uint64_t index)
{
	const RaftEntry *entry = log_at(log, index);

	if (index == log->base)
		return log->base_term;
	return entry != NULL ? entry->term : 0;
}

void
log_append(Log *log, const RaftEntry *entry)
{
	if (log->n == log->size)
	{
		log->size = log->size > 0 ? log->size * 2 : 16;
		log->entries = realloc(log->entries, log->size * sizeof(RaftEntry));
	}
	log->entries[log->n] = *entry;
	if (entry->data != NULL)
		raft_buf_ref(entry->data);
	log->n++;
}

void
log_truncate(Log *log, uint64_t from)
{
	while (log->n > 0 && log_last(log) >= from)
		raft_buf_unref(log->entries[--log->n].data);
}

void
log_free(Log *log)
{
	log_truncate(log, 0);
	free(log->entries);
	memset(log, 0, sizeof(*log));
}

void
log_reset(Log *log, uint64_t base, uint64_t base_term)
{
	log_free(log);
	log->base = base;
	log->base_term = base_term;
}

void
log_compact(Log *log, uint64_t first_index)
{
	size_t		gone = first_index - 1 - log->base;

	CHECK(first_index > log->base && first_index <= log_last(log) + 1);
	log->base_term = log_term(log, first_index - 1);
	for (size_t i = 0; i < gone; i++)
		raft_buf_unref(log->entries[i].data);
	memmove(log->entries, log->entries + gone, (log->n - gone) * sizeof(RaftEntry));
	log->n -= gone;
	log->base = first_index - 1;
}

void
log_copy(Log *to, const Log *from)
{
	log_reset(to, from->base, from->base_term);
	for (size_t i = 0; i < from->n; i++)
		log_append(to, &from->entries[i]);
}

bool
has_data(uint32_t id, uint64_t index, const char *data)
{
	const RaftEntry *entry = log_at(&node(id)->log, index);

	return entry != NULL && entry->data != NULL && entry->data->len == strlen(data) &&
		memcmp(entry->data->data, data, entry->data->len) == 0;
}

bool
logs_equal(uint32_t a, uint32_t b)
{
	const Log  *x = &node(a)->log;
	const Log  *y = &node(b)->log;
	uint64_t	first = (x->base > y->base ? x->base : y->base) + 1;

	if (log_last(x) != log_last(y))
		return false;
	for (uint64_t i = first; i <= log_last(x); i++)
		if (entry_hash(log_at(x, i)) != entry_hash(log_at(y, i)))
			return false;
	return true;
}

/* ---------- life of nodes ---------- */

static void
write_free(Write *w)
{
	log_free(&w->entries);
	free(w->conf);
	for (size_t i = 0; i < w->nafter; i++)
		packet_free(w->after[i]);
	free(w->after);
	free(w);
}

void
crash(uint32_t id)
{
	Node	   *n = node(id);

	if (!n->up)
		return;
	trace("crash %u", id);
	raft_free(n->raft);
	n->raft = NULL;
	n->up = false;
	while (n->writes != NULL)
	{
		Write	   *w = n->writes;

		n->writes = w->next;
		write_free(w);
	}
	log_copy(&n->log, &n->disk);
	n->hard_out = n->hard;
	n->hold_disk = n->hold_loads = n->paused = n->install = false;
	n->nloads = 0;
	for (size_t i = 0; i < n->nreads; i++)
		if (!n->reads[i].done)
		{
			n->reads[i].done = true;	/* its client is gone with it */
			n->reads[i].ok = false;
		}
}

RaftStatus
try_restart(uint32_t id)
{
	Node	   *n = node(id);
	RaftDisk	disk;
	RaftTermRun *runs;
	RaftConf   *confs;
	RaftStatus	status;

	crash(id);
	memset(&disk, 0, sizeof(disk));
	runs = malloc((n->disk.n + 1) * sizeof(*runs));
	confs = malloc((n->disk.n + 1) * sizeof(*confs));
	disk.hard = n->hard;
	disk.conf = n->conf;
	disk.first_index = n->disk.base + 1;
	disk.prev_term = n->disk.base_term;
	disk.last_index = log_last(&n->disk);
	for (size_t i = 0; i < n->disk.n; i++)
	{
		const RaftEntry *e = &n->disk.entries[i];

		if (i == 0 || e->term != n->disk.entries[i - 1].term)
		{
			runs[disk.nruns].first_index = e->index;
			runs[disk.nruns++].term = e->term;
		}
		if (e->type == RAFT_ENTRY_CONF && e->index > n->conf.index)
		{
			CHECK(raft_conf_decode(e->data->data, e->data->len, &confs[disk.nconfs]));
			confs[disk.nconfs++].index = e->index;
		}
	}
	disk.runs = runs;
	disk.confs = confs;
	disk.applied = n->give_applied ? n->applied : 0;
	disk.distrusted_until = n->distrusted_until;
	status = raft_create(&n->config, &disk, now_us, rnd(&entropy_seed), &n->raft);
	free(runs);
	free(confs);
	trace("start %u: status %d, term %llu vote %u commit %llu, log %llu..%llu", id, status,
		  (unsigned long long) n->hard.term, n->hard.vote, (unsigned long long) n->hard.commit,
		  (unsigned long long) disk.first_index, (unsigned long long) disk.last_index);
	CHECK((status == RAFT_OK) == (n->raft != NULL));
	if (status != RAFT_OK)
		return status;
	n->up = true;
	if (!n->give_applied)
		n->applied = n->disk.base;
	/* what a salvaged log lost below the applied index comes again */
	if (n->applied > log_last(&n->disk))
		n->applied = log_last(&n->disk);
	oracle_restarted(n);
	drain(id);
	return RAFT_OK;
}

void
restart(uint32_t id)
{
	CHECK_EQ(try_restart(id), RAFT_OK);
}

void
wipe(uint32_t id)
{
	Node	   *n = node(id);

	crash(id);
	trace("wipe %u", id);
	log_reset(&n->disk, 0, 0);
	log_reset(&n->log, 0, 0);
	memset(&n->hard, 0, sizeof(n->hard));
	n->hard_out = n->hard;
	n->applied = 0;
	n->conf = first_conf;
	n->config.instance[2]++;
}

void
lose_tail(uint32_t id, uint64_t n)
{
	Node	   *x = node(id);
	uint64_t	last = log_last(&x->disk);

	crash(id);
	trace("%u loses its last %llu entries", id, (unsigned long long) n);
	CHECK(n <= x->disk.n);
	if (x->distrusted_until < last)
		x->distrusted_until = last;
	log_truncate(&x->disk, last - n + 1);
	log_copy(&x->log, &x->disk);
	if (x->hard.commit > log_last(&x->disk))
		x->hard.commit = log_last(&x->disk);
	x->hard_out = x->hard;
	if (x->applied > log_last(&x->disk))
		x->applied = log_last(&x->disk);
}

static void
member_add(RaftConf *conf, uint32_t id, bool voter)
{
	RaftMember *m = &conf->members[conf->nmembers++];

	memset(m, 0, sizeof(*m));
	m->id = id;
	m->seq_slot = id - 1;
	m->voter = voter;
	m->learner = !voter;
	snprintf(m->name, sizeof(m->name), "node%u", id);
	snprintf(m->address, sizeof(m->address), "10.0.0.%u:7432", id);
	memcpy(m->instance, nodes[id].exists ? nodes[id].config.instance : (uint8_t *) "",
		   nodes[id].exists ? RAFT_INSTANCE_LEN : 0);
	if (!nodes[id].exists)
		instance_of(id, m->instance);
}

static void
make_node(uint32_t id)
{
	Node	   *n = &nodes[id];

	CHECK(id >= 1 && id <= MAX_NODES && !n->exists);
	n->id = id;
	n->exists = true;
	n->config = base_config;
	n->config.id = id;
	instance_of(id, n->config.instance);
	n->conf = first_conf;
}

void
cluster_unstarted(Ids voters, Ids learners)
{
	memset(&first_conf, 0, sizeof(first_conf));
	for (uint32_t id = 1; id <= MAX_NODES; id++)
		if (ids_have(voters | learners, id))
		{
			member_add(&first_conf, id, ids_have(voters, id));
			first_conf.next_id = id + 1;
		}
	for (uint32_t id = 1; id <= MAX_NODES; id++)
		if (ids_have(voters | learners, id))
			make_node(id);
}

void
start_all(void)
{
	for (uint32_t id = 1; id <= MAX_NODES; id++)
		if (nodes[id].exists && !nodes[id].up)
			restart(id);
}

void
cluster_of(Ids voters, Ids learners)
{
	cluster_unstarted(voters, learners);
	start_all();
}

void
cluster(int nvoters)
{
	cluster_of(((Ids) 1 << (nvoters + 1)) - 2, 0);
}

void
add_node(uint32_t id)
{
	make_node(id);
	restart(id);
}

RaftEntry *
entries_of(uint64_t first, const int *terms, uint32_t *n)
{
	RaftEntry  *entries;
	char		text[32];

	for (*n = 0; terms[*n] != 0;)
		++*n;
	entries = calloc(*n + 1, sizeof(RaftEntry));
	for (uint32_t i = 0; i < *n; i++)
	{
		RaftEntry  *e = &entries[i];

		e->index = first + i;
		e->term = (uint64_t) terms[i];
		e->type = RAFT_ENTRY_DATA;
		e->token.counter = e->index << 16 | e->term;
		snprintf(text, sizeof(text), "%llu/%d", (unsigned long long) e->index, terms[i]);
		e->data = raft_buf_new(text, strlen(text));
	}
	return entries;
}

void
seed_log(uint32_t id, const int *terms)
{
	Node	   *n = node(id);
	uint32_t	count;
	RaftEntry  *entries = entries_of(log_last(&n->disk) + 1, terms, &count);

	for (uint32_t i = 0; i < count; i++)
	{
		log_append(&n->disk, &entries[i]);
		log_append(&n->log, &entries[i]);
		oracle_appended(n, &entries[i]);
		if (n->hard.term < entries[i].term)
			n->hard.term = entries[i].term;
		raft_buf_unref(entries[i].data);
	}
	free(entries);
	n->hard_out = n->hard;
}

/* ---------- outputs ---------- */

static void
finish_write(Node *n)
{
	Write	   *w = n->writes;

	n->writes = w->next;
	if (w->reset_index != 0)
		log_reset(&n->disk, w->reset_index, w->reset_term);
	if (w->truncate_from != 0)
		log_truncate(&n->disk, w->truncate_from);
	for (size_t i = 0; i < w->entries.n; i++)
	{
		CHECK_EQ(w->entries.entries[i].index, log_last(&n->disk) + 1);
		log_append(&n->disk, &w->entries.entries[i]);
	}
	if (w->hard_changed)
		n->hard = w->hard;
	if (w->conf != NULL)
		n->conf = *w->conf;
	oracle_durable(n);
	for (size_t i = 0; i < w->nafter; i++)
	{
		oracle_sent(n, &w->after[i]->msg);
		pool_add(w->after[i]);
	}
	w->nafter = 0;
	if (w->pending)
	{
		trace("  %u durable up to %llu (term %llu)", n->id,
			  (unsigned long long) w->append_index, (unsigned long long) w->append_term);
		raft_append_done(n->raft, w->append_term, w->append_index, now_us);
		oracle_after(n);
	}
	write_free(w);
}

static void
take_writes(Node *n, const RaftOutput *out)
{
	Write	   *w = calloc(1, sizeof(Write));
	Write	  **tail = &n->writes;

	w->must_sync = out->must_sync;
	w->hard_changed = out->hard_changed;
	w->hard = out->hard;
	if (out->hard_changed)
		n->hard_out = out->hard;
	w->reset_index = out->reset_index;
	w->reset_term = out->reset_term;
	w->truncate_from = out->truncate_from;
	w->pending = out->append_pending;
	w->append_term = out->append_term;
	w->append_index = out->append_index;
	if (out->reset_index != 0)
	{
		trace("  %u log starts anew behind %llu", n->id, (unsigned long long) out->reset_index);
		log_reset(&n->log, out->reset_index, out->reset_term);
	}
	if (out->truncate_from != 0)
	{
		trace("  %u cuts its log from %llu", n->id, (unsigned long long) out->truncate_from);
		log_truncate(&n->log, out->truncate_from);
	}
	for (size_t i = 0; i < out->nentries; i++)
	{
		CHECK_EQ(out->entries[i].index, log_last(&n->log) + 1);
		log_append(&n->log, &out->entries[i]);
		log_append(&w->entries, &out->entries[i]);
		oracle_appended(n, &out->entries[i]);
	}
	if (out->conf_committed)
	{
		w->conf = malloc(sizeof(RaftConf));
		*w->conf = *raft_committed_conf(n->raft);
	}
	w->after = calloc(out->nmsgs_after + 1, sizeof(Packet *));
	for (size_t i = 0; i < out->nmsgs_after; i++)
	{
		w->after[w->nafter++] = packet_of(&out->msgs_after[i]);
		raft_msg_free(&out->msgs_after[i]);
	}

	/* term, vote and entries are never changed without must_sync */
	CHECK(out->must_sync || (out->nentries == 0 && out->truncate_from == 0 &&
							 out->reset_index == 0));
	CHECK(!out->must_sync || out->append_pending);
	CHECK(!out->hard_changed || out->must_sync ||
		  (out->hard.term == n->hard_out.term && out->hard.vote == n->hard_out.vote));
	n->syncs += out->must_sync;
	n->appends += out->nentries > 0;
	if (!w->must_sync && !w->hard_changed && !w->pending && w->nafter == 0 && w->conf == NULL)
	{
		write_free(w);
		return;
	}
	while (*tail != NULL)
		tail = &(*tail)->next;
	*tail = w;
	if (!n->hold_disk || (n->writes == w && !w->must_sync))
		while (n->writes != NULL)
			finish_write(n);
}

static void
take_reads(Node *n, const RaftOutput *out)
{
	for (size_t i = 0; i < out->nreads; i++)
	{
		Read	   *r = read_of(n->id, out->reads[i].id);

		trace("  %u read %llu: %s at %llu", n->id, (unsigned long long) out->reads[i].id,
			  out->reads[i].ok ? "ok" : "refused", (unsigned long long) out->reads[i].index);
		CHECK(r != NULL && !r->done);	/* asked for, and answered once */
		r->done = true;
		r->ok = out->reads[i].ok;
		r->index = out->reads[i].index;
		if (r->ok && r->index < r->floor)
			fail_at(__FILE__, __LINE__, "stale read %llu: index %llu, committed before %llu",
					(unsigned long long) r->id, (unsigned long long) r->index,
					(unsigned long long) r->floor);
	}
}

static bool
take_output(Node *n)
{
	RaftOutput	out;
	bool		busy;

	raft_take_output(n->raft, &out);
	n->outputs++;
	busy = out.hard_changed || out.must_sync || out.nmsgs > 0 || out.nmsgs_after > 0 ||
		out.nentries > 0 || out.truncate_from != 0 || out.commit_first != 0 ||
		out.nloads > 0 || out.nreads > 0 || out.reset_index != 0 || out.append_pending;
	n->deadline_us = out.next_deadline_us;
	n->install = out.install;
	n->install_from = out.install_from;
	n->install_index = out.install_index;
	n->install_term = out.install_term;
	if (out.trusted)
	{
		trace("  %u trusts its log again", n->id);
		CHECK(n->distrusted_until != 0 && log_last(&n->disk) >= n->distrusted_until);
		n->distrusted_until = 0;
	}
	if (out.role_changed)
		trace("  %u role %d term %llu leader %u", n->id, raft_role(n->raft),
			  (unsigned long long) raft_term(n->raft), raft_leader(n->raft));

	/* what out points to is good until the next call: keep it first */
	CHECK(out.nloads + n->nloads <= 16);
	for (size_t i = 0; i < out.nloads; i++)
		n->loads[n->nloads++] = out.loads[i];
	take_reads(n, &out);
	for (size_t i = 0; i < out.nmsgs; i++)
	{
		Packet	   *p = packet_of(&out.msgs[i]);

		raft_msg_free(&out.msgs[i]);
		oracle_sent(n, &p->msg);
		pool_add(p);
	}

	/* before the write below: handed out for applying means durable already */
	if (out.commit_first != 0)
	{
		CHECK_EQ(out.commit_first, n->applied + 1);
		CHECK(out.commit_last >= out.commit_first);
		CHECK(out.commit_last <= raft_commit_index(n->raft));
		CHECK(out.commit_last <= log_last(&n->disk));
		CHECK(out.commit_last - out.commit_first < n->config.max_apply_entries);
		for (uint64_t i = out.commit_first; i <= out.commit_last; i++)
			CHECK(entry_hash(log_at(&n->disk, i)) == entry_hash(log_at(&n->log, i)));
		if (n->max_page < out.commit_last - out.commit_first + 1)
			n->max_page = out.commit_last - out.commit_first + 1;
		n->applied = out.commit_last;
	}
	take_writes(n, &out);
	oracle_after(n);
	if (!n->hold_loads && n->nloads > 0)
	{
		answer_loads(n->id, 1000000);
		busy = true;
	}
	return busy;
}

void
drain(uint32_t id)
{
	Node	   *n = node(id);
	int			rounds = 0;

	if (!n->up)
		return;
	oracle_after(n);
	while (take_output(n))
		if (++rounds > MAX_ROUNDS)
			fail_at(__FILE__, __LINE__, "node %u never comes to rest", id);
}

void
hold_disk(uint32_t id)
{
	node(id)->hold_disk = true;
}

bool
sync_one(uint32_t id)
{
	Node	   *n = node(id);

	if (n->writes == NULL)
		return false;
	trace("sync %u", id);
	finish_write(n);

	/* what only waited for it */
	while (n->writes != NULL && !n->writes->must_sync)
		finish_write(n);
	drain(id);
	return true;
}

void
sync_disk(uint32_t id)
{
	int			count = 0;

	for (Write *w = node(id)->writes; w != NULL; w = w->next)
		count++;
	while (count-- > 0)
		sync_one(id);
}

void
release_disk(uint32_t id)
{
	Node	   *n = node(id);

	n->hold_disk = false;
	trace("release disk of %u", id);
	while (n->writes != NULL)
		finish_write(n);
	drain(id);
}

void
answer_loads(uint32_t id, uint32_t max_entries)
{
	Node	   *n = node(id);

	while (n->nloads > 0 && n->up)
	{
		RaftLoad	load = n->loads[0];
		RaftEntry  *entries = calloc(load.last_index - load.first_index + 2, sizeof(RaftEntry));
		size_t		count = 0;
		size_t		bytes = 0;

		memmove(n->loads, n->loads + 1, --n->nloads * sizeof(RaftLoad));
		for (uint64_t i = load.first_index; i <= load.last_index && count < max_entries; i++)
		{
			const RaftEntry *e = log_at(&n->log, i);

			if (e == NULL)
				break;
			bytes += e->data != NULL ? e->data->len : 0;
			if (count > 0 && bytes > load.max_bytes)
				break;
			entries[count] = *e;
			if (e->data != NULL)
				entries[count].data = raft_buf_new(e->data->data, e->data->len);
			count++;
		}
		trace("loaded %u for %u: %zu from %llu", id, load.peer, count,
			  (unsigned long long) load.first_index);
		raft_loaded(n->raft, load.peer, entries, count, now_us);
		free(entries);
		oracle_after(n);
		if (n->hold_loads)
			drain(id);
	}
}

/* ---------- inputs ---------- */

void
campaign(uint32_t id)
{
	trace("campaign %u", id);
	raft_campaign(core(id), now_us);
	drain(id);
}

void
elect(uint32_t id)
{
	/* more than once where its term is behind: the first refusal tells it */
	for (int i = 0; i < 3 && !is_leader(id); i++)
	{
		jump(2 * T_US + 1);
		campaign(id);
		settle();
	}
	if (!is_leader(id))
		fail_at(__FILE__, __LINE__, "could not elect %u", id);
}

RaftStatus
try_propose(uint32_t id, const char *data, uint64_t *index)
{
	RaftBuf    *buf = raft_buf_new(data, strlen(data));
	RaftStamp	stamp = {now_us, 0, id};
	uint64_t	at = 0;
	RaftStatus	status;

	status = raft_propose(core(id), RAFT_ENTRY_DATA, stamp, next_token(id), buf, &at);
	trace("propose %u \"%.20s\": status %d, index %llu", id, data, status,
		  (unsigned long long) at);
	if (status != RAFT_OK)
		raft_buf_unref(buf);
	if (index != NULL)
		*index = at;
	drain(id);
	return status;
}

uint64_t
propose(uint32_t id, const char *data)
{
	uint64_t	index;

	CHECK_EQ(try_propose(id, data, &index), RAFT_OK);
	return index;
}

static RaftStatus
change_to(uint32_t id, Ids voters, Ids learners, bool explicit_leave, uint64_t *index)
{
	RaftConf	target;
	RaftStamp	stamp = {now_us, 0, id};
	uint64_t	at = 0;
	RaftStatus	status;

	memset(&target, 0, sizeof(target));
	target.next_id = raft_conf(core(id))->next_id;
	target.explicit_leave = explicit_leave;
	for (uint32_t i = 1; i <= MAX_NODES; i++)
		if (ids_have(voters | learners, i))
		{
			member_add(&target, i, ids_have(voters, i));
			if (target.next_id <= i)
				target.next_id = i + 1;
		}
	status = raft_propose_conf(core(id), &target, stamp, next_token(id), &at);
	trace("change %u to voters %x learners %x: status %d, index %llu", id, voters >> 1,
		  learners >> 1, status, (unsigned long long) at);
	if (index != NULL)
		*index = at;
	drain(id);
	return status;
}

RaftStatus
try_change(uint32_t id, Ids voters, Ids learners, uint64_t *index)
{
	return change_to(id, voters, learners, false, index);
}

RaftStatus
try_change_explicit(uint32_t id, Ids voters, Ids learners, uint64_t *index)
{
	return change_to(id, voters, learners, true, index);
}

uint64_t
change(uint32_t id, Ids voters, Ids learners)
{
	uint64_t	index;

	CHECK_EQ(try_change(id, voters, learners, &index), RAFT_OK);
	return index;
}

RaftStatus
leave_joint(uint32_t id)
{
	RaftStamp	stamp = {now_us, 0, id};
	uint64_t	index;
	RaftStatus	status = raft_leave_joint(core(id), stamp, next_token(id), &index);

	trace("leave joint %u: status %d", id, status);
	drain(id);
	return status;
}

RaftStatus
transfer(uint32_t id, uint32_t to)
{
	RaftStatus	status = raft_transfer(core(id), to, now_us);

	trace("transfer %u to %u: status %d", id, to, status);
	drain(id);
	return status;
}

void
read_index(uint32_t id, uint64_t read_id)
{
	Node	   *n = node(id);
	Read	   *r = &n->reads[n->nreads++];

	CHECK(n->nreads <= 64 && (n->nreads == 1 || read_of(id, read_id) == r || true));
	memset(r, 0, sizeof(*r));
	r->id = read_id;
	r->floor = oracle_committed();
	trace("read %u id %llu, floor %llu", id, (unsigned long long) read_id,
		  (unsigned long long) r->floor);
	raft_read_index(core(id), read_id, now_us);
	drain(id);
}

Read *
read_of(uint32_t id, uint64_t read_id)
{
	Node	   *n = node(id);

	for (size_t i = n->nreads; i > 0; i--)
		if (n->reads[i - 1].id == read_id)
			return &n->reads[i - 1];
	return NULL;
}

void
tick(uint32_t id)
{
	raft_tick(core(id), now_us, rnd(&entropy_seed));
	drain(id);
}

RaftStatus
inject(uint32_t to, RaftMsg msg)
{
	RaftStatus	status;

	trace("inject %s", describe(&msg));
	status = raft_recv(core(to), &msg, now_us);
	drain(to);
	return status;
}

RaftMsg
message(uint8_t type, uint32_t from, uint32_t to, uint64_t term)
{
	RaftMsg		msg;

	memset(&msg, 0, sizeof(msg));
	msg.type = type;
	msg.from = from;
	msg.to = to;
	msg.term = term;
	instance_of(from, msg.instance);
	return msg;
}

void
compact(uint32_t id, uint64_t first_index)
{
	Node	   *n = node(id);

	trace("compact %u below %llu", id, (unsigned long long) first_index);
	CHECK(n->writes == NULL && first_index <= n->applied + 1);
	log_compact(&n->log, first_index);
	log_compact(&n->disk, first_index);
	raft_compacted(n->raft, first_index);
	drain(id);
}

RaftStatus
install_at(uint32_t id, uint64_t index, uint64_t term, const RaftConf *conf)
{
	Node	   *n = node(id);
	RaftStatus	status;

	status = raft_installed(core(id), index, term, conf, now_us);
	trace("installed %u at %llu/%llu: status %d", id, (unsigned long long) index,
		  (unsigned long long) term, status);
	if (status == RAFT_OK && n->applied < index)
		n->applied = index;
	drain(id);
	return status;
}

RaftStatus
install(uint32_t id, uint32_t from)
{
	Node	   *n = node(id);
	Node	   *f = node(from);

	CHECK(n->install);
	CHECK(f->applied >= n->install_index);
	return install_at(id, f->applied, log_term(&f->disk, f->applied),
					  raft_committed_conf(core(from)));
}

/* ---------- time ---------- */

void
jump(int64_t us)
{
	now_us += us;
	trace("time +%lld ms", (long long) us / 1000);
}

static void
pass_time(Ids ids, int64_t us, bool deliver_too)
{
	int64_t		end = now_us + us;
	int			spins = 0;

	if (deliver_too)
		settle();
	trace("%s %lld ms", deliver_too ? "run" : "elapse", (long long) us / 1000);
	for (;;)
	{
		int64_t		next = end + 1;

		for (uint32_t id = 1; id <= MAX_NODES; id++)
			if (ids_have(ids, id) && nodes[id].up && !nodes[id].paused &&
				nodes[id].deadline_us < next)
				next = nodes[id].deadline_us;
		if (next > end)
			break;
		spins = next <= now_us ? spins + 1 : 0;
		if (spins > 100)
			fail_at(__FILE__, __LINE__, "a deadline that does not move on");
		if (next > now_us)
			now_us = next;
		for (uint32_t id = 1; id <= MAX_NODES; id++)
			if (ids_have(ids, id) && nodes[id].up && !nodes[id].paused &&
				nodes[id].deadline_us <= now_us)
				tick(id);
		if (deliver_too)
			settle();
	}
	now_us = end;
}

void
elapse(int64_t us)
{
	pass_time(~(Ids) 0, us, false);
}

void
elapse_one(uint32_t id, int64_t us)
{
	pass_time((Ids) 1 << id, us, false);
}

void
run(int64_t us)
{
	pass_time(~(Ids) 0, us, true);
}

uint32_t
run_until_leader(int64_t limit_us)
{
	for (int64_t t = 0; t < limit_us; t += HB_US)
	{
		uint32_t	leader = leader_now();
		bool		agreed = leader != 0;

		for (uint32_t id = 1; id <= MAX_NODES; id++)
			if (agreed && nodes[id].up &&
				raft_conf_find(raft_conf(nodes[leader].raft), id) != NULL &&
				raft_leader(nodes[id].raft) != leader)
				agreed = false;
		if (agreed)
			return leader;
		run(HB_US);
	}
	return 0;
}

/* ---------- questions ---------- */

bool
is_leader(uint32_t id)
{
	return node(id)->up && raft_role(nodes[id].raft) == RAFT_LEADER;
}

uint32_t
leader_now(void)
{
	uint32_t	leader = 0;

	for (uint32_t id = 1; id <= MAX_NODES; id++)
		if (nodes[id].exists && is_leader(id) &&
			(leader == 0 || raft_term(nodes[id].raft) > raft_term(nodes[leader].raft)))
			leader = id;
	return leader;
}

uint64_t
commit_of(uint32_t id)
{
	return raft_commit_index(core(id));
}

uint64_t
last_of(uint32_t id)
{
	return raft_last_index(core(id));
}

RaftPeerStatus
peer_of(uint32_t leader, uint32_t peer)
{
	RaftPeerStatus status;

	CHECK(raft_peer_status(core(leader), peer, &status));
	return status;
}

bool
all_replicating(uint32_t leader)
{
	const RaftConf *conf = raft_conf(core(leader));

	for (uint32_t i = 0; i < conf->nmembers; i++)
	{
		uint32_t	id = conf->members[i].id;

		if (id != leader && node(id)->up)
		{
			RaftPeerStatus s = peer_of(leader, id);

			if (!s.replicating || s.match != last_of(leader) || s.inflight_messages != 0 ||
				s.inflight_bytes != 0)
				return false;
		}
	}
	return true;
}

void
check_converged(void)
{
	uint32_t	leader;

	run(3 * T_US);				/* what the story left behind in timers */
	leader = run_until_leader(30 * T_US);
	CHECK(leader != 0);
	run(2 * T_US);
	CHECK_EQ(leader_now(), leader);
	for (uint32_t id = 1; id <= MAX_NODES; id++)
		if (nodes[id].up && raft_conf_find(raft_conf(core(leader)), id) != NULL)
		{
			CHECK(logs_equal(id, leader));
			CHECK_EQ(commit_of(id), last_of(leader));
			CHECK_EQ(node(id)->applied, last_of(leader));
		}
	CHECK(all_replicating(leader));
	CHECK_EQ(raft_uncommitted_bytes(core(leader)), 0);
}

/* ---------- a fresh table for each test ---------- */

void
harness_begin(void)
{
	memset(nodes, 0, sizeof(nodes));
	raft_config_default(&base_config);
	base_config.election_timeout_us = T_US;
	base_config.heartbeat_interval_us = HB_US;
	now_us = 1000 * T_US;
	quorum_oracle = true;
	entropy_seed = 42;
	token_counter = 0;
	memset(&first_conf, 0, sizeof(first_conf));
	oracle_reset();
}

void
harness_end(void)
{
	for (uint32_t id = 1; id <= MAX_NODES; id++)
		if (nodes[id].exists)
		{
			crash(id);
			log_free(&nodes[id].log);
			log_free(&nodes[id].disk);
		}
	pool_clear();
	oracle_reset();
}
