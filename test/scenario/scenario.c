/*-------------------------------------------------------------------------
 *
 * scenario.c
 *		Runs stories about the consensus core that are written as text.
 *
 *		scenario FILE...
 *
 * One command a line; README.md lists them. The nodes, disks, messages and the
 * oracle that watches every step are those of test/raft/harness.h: here is only
 * the reading of lines. A line that fails is named with its file and number,
 * with the trace of all that happened before.
 *
 * Each file runs in a process of its own, so that one that fails, or crashes,
 * leaves the others alone.
 *
 *-------------------------------------------------------------------------
 */
#include "harness.h"

#include <ctype.h>
#include <stdarg.h>
#include <sys/wait.h>
#include <unistd.h>

#define MAX_WORDS 64

typedef struct Line
{
	const char *file;
	int			number;
	char	   *word[MAX_WORDS];
	int			count;
	int			at;				/* next word to be read */
} Line;

#define TRACE_LINES 200

static Line line;
static int	lines_run;
static char trace_lines[TRACE_LINES][300];
static unsigned long ntrace;

/* ---------- what the harness wants of whoever uses it ---------- */

void
trace(const char *format,...)
{
	va_list		args;

	va_start(args, format);
	vsnprintf(trace_lines[ntrace++ % TRACE_LINES], sizeof(trace_lines[0]), format, args);
	va_end(args);
}

/* file and number are those of the check; the story's line is what people want. */
void
fail_at(const char *file, int number, const char *format,...)
{
	va_list		args;
	unsigned long first = ntrace > TRACE_LINES ? ntrace - TRACE_LINES : 0;

	for (unsigned long i = first; i < ntrace; i++)
		printf("    %s\n", trace_lines[i % TRACE_LINES]);
	printf("%s:%d: ", line.file, line.number);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	if (file != line.file)
		printf("   (%s:%d)", file, number);
	printf("\n");
	fflush(NULL);
	_exit(1);
}

static void __attribute__((noreturn, format(printf, 1, 2)))
bad(const char *format,...)
{
	char		text[512];
	va_list		args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	fail_at(line.file, line.number, "%s", text);
}

/* ---------- words ---------- */

static const char *
peek_word(void)
{
	return line.at < line.count ? line.word[line.at] : "";
}

static const char *
next_word(const char *what)
{
	if (line.at >= line.count)
		bad("%s expected at the end of the line", what);
	return line.word[line.at++];
}

static bool
accept_word(const char *word)
{
	if (strcmp(peek_word(), word) != 0)
		return false;
	line.at++;
	return true;
}

static bool
is_number(const char *text)
{
	return isdigit((unsigned char) text[0]) && text[strspn(text, "0123456789")] == '\0';
}

static uint64_t
next_number(const char *what)
{
	const char *text = next_word(what);

	if (!is_number(text))
		bad("%s expected, not \"%s\"", what, text);
	return strtoull(text, NULL, 10);
}

static uint32_t
next_id(void)
{
	uint64_t	id = next_number("a node's number");

	if (id < 1 || id > MAX_NODES)
		bad("nodes are numbered from 1 to %d", MAX_NODES);
	return (uint32_t) id;
}

/* Numbers up to the next word that is none. */
static Ids
next_ids(void)
{
	int			list[MAX_NODES + 1];
	int			n = 0;

	while (is_number(peek_word()))
	{
		if (n == MAX_NODES)
			bad("too many nodes");
		list[n++] = (int) next_id();
	}
	list[n] = 0;
	return ids_of(list);
}

/* 250us, 250ms, 2s; election and heartbeat are the timeouts' own lengths. */
static int64_t
next_time(void)
{
	const char *text = next_word("a time");
	char	   *unit;
	int64_t		value;

	if (strcmp(text, "election") == 0)
		return T_US;
	if (strcmp(text, "heartbeat") == 0)
		return HB_US;
	value = strtoll(text, &unit, 10);
	if (unit == text)
		bad("a time expected, such as 50ms, not \"%s\"", text);
	if (strcmp(unit, "us") == 0)
		return value;
	if (strcmp(unit, "ms") == 0)
		return value * 1000;
	if (strcmp(unit, "s") == 0)
		return value * 1000000;
	bad("unknown unit of time in \"%s\": us, ms or s", text);
}

/* ---------- messages ---------- */

static const struct
{
	const char *name;
	uint8_t		type;
}			msg_types[] =
{
	{"prevote", RAFT_MSG_PREVOTE},
	{"prevote-resp", RAFT_MSG_PREVOTE_RESP},
	{"vote", RAFT_MSG_VOTE},
	{"vote-resp", RAFT_MSG_VOTE_RESP},
	{"append", RAFT_MSG_APPEND},
	{"append-resp", RAFT_MSG_APPEND_RESP},
	{"heartbeat", RAFT_MSG_HEARTBEAT},
	{"heartbeat-resp", RAFT_MSG_HEARTBEAT_RESP},
	{"timeout-now", RAFT_MSG_TIMEOUT_NOW},
	{"read", RAFT_MSG_READ_INDEX},
	{"read-resp", RAFT_MSG_READ_INDEX_RESP},
	{"snapshot", RAFT_MSG_SNAPSHOT},
	{"any", ANY}
};

static uint8_t
next_type(void)
{
	const char *name = next_word("a message type");

	for (size_t i = 0; i < sizeof(msg_types) / sizeof(msg_types[0]); i++)
		if (strcmp(name, msg_types[i].name) == 0)
			return msg_types[i].type;
	bad("unknown message type \"%s\"", name);
}

typedef struct Which
{
	uint8_t		type;
	uint32_t	from;
	uint32_t	to;
} Which;

/* TYPE [from N] [to N] */
static Which
next_which(void)
{
	Which		which = {next_type(), ANY, ANY};

	for (;;)
	{
		if (accept_word("from"))
			which.from = next_id();
		else if (accept_word("to"))
			which.to = next_id();
		else
			return which;
	}
}

/* Packets put aside by `keep NAME`, to be put back by `put NAME`. */
static struct
{
	char		name[32];
	Packet	   *packet;
}			kept[32];

static Packet **
kept_packet(const char *name, bool create)
{
	for (int i = 0; i < 32; i++)
		if (kept[i].packet && strcmp(kept[i].name, name) == 0)
			return &kept[i].packet;
	for (int i = 0; create && i < 32; i++)
	{
		if (!kept[i].packet)
		{
			snprintf(kept[i].name, sizeof(kept[i].name), "%s", name);
			return &kept[i].packet;
		}
	}
	bad("no message was kept under the name \"%s\"", name);
}

static void
do_message(const char *verb)
{
	Which		w;

	if (strcmp(verb, "put") == 0)
	{
		Packet	  **slot = kept_packet(next_word("a name"), false);

		if (accept_word("copy"))
			put(copy_packet(*slot));
		else
		{
			put(*slot);
			*slot = NULL;
		}
		return;
	}
	w = next_which();
	if (strcmp(verb, "deliver") == 0)
	{
		if (accept_word("all"))
			deliver_all(w.type, w.from, w.to);
		else if (accept_word("last"))
			deliver_last(w.type, w.from, w.to);
		else
			deliver(w.type, w.from, w.to);
	}
	else if (strcmp(verb, "drop") == 0)
		drop(w.type, w.from, w.to);
	else if (strcmp(verb, "duplicate") == 0)
		duplicate(w.type, w.from, w.to);
	else
	{
		const char *name = next_word("a name");
		bool		again = verb[0] == 'c';

		if (count_msgs(w.type, w.from, w.to) == 0)
			bad("there is no such message");
		if (again)
		{
			Packet	   *packet = take(w.type, w.from, w.to);

			*kept_packet(name, true) = copy_packet(packet);
			put(packet);
		}
		else
			*kept_packet(name, true) = take(w.type, w.from, w.to);
	}
}

/*
 * inject TYPE from N to N term N [index N] [log-term N] [commit N] [hint N]
 * [context N] [reject] [transfer] [entries T T T]: a message that nobody sent.
 */
static void
do_inject(void)
{
	uint8_t		type = next_type();
	Which		w = {type, ANY, ANY};
	RaftMsg		msg;
	uint64_t	index = 0;

	while (accept_word("from") || accept_word("to"))
	{
		if (strcmp(line.word[line.at - 1], "from") == 0)
			w.from = next_id();
		else
			w.to = next_id();
	}
	if (w.from == ANY || w.to == ANY || !accept_word("term"))
		bad("inject TYPE from N to N term N ...");
	msg = message(type, w.from, w.to, next_number("a term"));
	while (line.at < line.count)
	{
		const char *field = next_word("a field");

		if (strcmp(field, "index") == 0)
			msg.index = index = next_number("an index");
		else if (strcmp(field, "log-term") == 0)
			msg.log_term = next_number("a term");
		else if (strcmp(field, "commit") == 0)
			msg.commit = next_number("an index");
		else if (strcmp(field, "hint") == 0)
			msg.hint = next_number("an index");
		else if (strcmp(field, "context") == 0)
			msg.context = next_number("a number");
		else if (strcmp(field, "reject") == 0)
			msg.reject = true;
		else if (strcmp(field, "transfer") == 0)
			msg.transfer = true;
		else if (strcmp(field, "entries") == 0)
		{
			int			terms[MAX_WORDS + 1];
			int			n = 0;

			while (is_number(peek_word()))
				terms[n++] = (int) next_number("a term");
			terms[n] = 0;
			msg.entries = entries_of(index + 1, terms, &msg.nentries);
		}
		else
			bad("unknown field \"%s\"", field);
	}
	inject(w.to, msg);
}

/* ---------- what must be so ---------- */

static const struct
{
	const char *name;
	RaftRole	role;
}			roles[] =
{
	{"follower", RAFT_FOLLOWER},
	{"pre-candidate", RAFT_PRECANDIDATE},
	{"candidate", RAFT_CANDIDATE},
	{"leader", RAFT_LEADER}
};

static void
is_equal(const char *what, uint64_t have, uint64_t want)
{
	if (have != want)
		bad("%s is %llu, not %llu", what, (unsigned long long) have,
			(unsigned long long) want);
}

static void
assert_role(uint32_t id)
{
	const char *name = next_word("a role");

	for (int i = 0; i < 4; i++)
	{
		if (strcmp(name, roles[i].name) != 0)
			continue;
		if (raft_role(core(id)) != roles[i].role)
			bad("node %u is a %s", id, roles[raft_role(core(id))].name);
		return;
	}
	bad("unknown role \"%s\"", name);
}

/* log 1 2 2: terms of all entries; starts at N first. */
static void
assert_log(const Log *log)
{
	uint64_t	index = log->base + 1;

	if (accept_word("first"))
		is_equal("the first index", index, next_number("an index"));
	while (is_number(peek_word()))
	{
		uint64_t	term = next_number("a term");

		if (index > log_last(log))
			bad("the log ends at %llu", (unsigned long long) log_last(log));
		if (log_term(log, index) != term)
			bad("entry %llu is of term %llu, not %llu", (unsigned long long) index,
				(unsigned long long) log_term(log, index), (unsigned long long) term);
		index++;
	}
	if (index != log_last(log) + 1)
		bad("the log goes on to %llu", (unsigned long long) log_last(log));
}

static void
assert_progress(uint32_t id)
{
	uint32_t	peer = next_id();
	RaftPeerStatus status = peer_of(id, peer);

	while (line.at < line.count)
	{
		const char *field = next_word("a field");

		if (strcmp(field, "match") == 0)
			is_equal("match", status.match, next_number("an index"));
		else if (strcmp(field, "next") == 0)
			is_equal("next", status.next, next_number("an index"));
		else if (strcmp(field, "inflight") == 0)
			is_equal("messages in flight", status.inflight_messages, next_number("a number"));
		else if (strcmp(field, "active") == 0)
			is_equal("active", status.recent_active, 1);
		else if (strcmp(field, "inactive") == 0)
			is_equal("active", status.recent_active, 0);
		else if (strcmp(field, "replicate") == 0)
			is_equal("replicating", status.replicating, 1);
		else if (strcmp(field, "probe") == 0)
			is_equal("replicating or waiting for an image", status.replicating || status.snapshot, 0);
		else if (strcmp(field, "snapshot") == 0)
			is_equal("waiting for an image", status.snapshot, 1);
		else
			bad("unknown field \"%s\"", field);
	}
}

static void
assert_conf(uint32_t id)
{
	const RaftConf *conf = raft_conf(core(id));
	Ids			voters = IDS(0),
				outgoing = IDS(0),
				learners = IDS(0);
	bool		joint = false;

	while (line.at < line.count)
	{
		if (accept_word("voters"))
			voters = next_ids();
		else if (accept_word("outgoing"))
		{
			outgoing = next_ids();
			joint = true;
		}
		else if (accept_word("learners"))
			learners = next_ids();
		else
			bad("voters, outgoing or learners expected, not \"%s\"", peek_word());
	}
	if (conf->joint != joint)
		bad("the configuration is %sjoint", conf->joint ? "" : "not ");
	for (uint32_t i = 1; i <= MAX_NODES; i++)
	{
		const RaftMember *m = raft_conf_find(conf, i);

		if ((m && m->voter) != ids_have(voters, i))
			bad("node %u is %s voter", i, m && m->voter ? "a" : "no");
		if (joint && (m && m->voter_outgoing) != ids_have(outgoing, i))
			bad("node %u is %s outgoing voter", i, m && m->voter_outgoing ? "an" : "no");
		if ((m && m->learner) != ids_have(learners, i))
			bad("node %u is %s learner", i, m && m->learner ? "a" : "no");
	}
}

static void
assert_read(uint32_t id)
{
	uint64_t	read_id = next_number("a read's number");
	Read	   *read = read_of(id, read_id);
	const char *state = next_word("pending, ok or failed");

	if (read == NULL)
		bad("node %u was never asked for read %llu", id, (unsigned long long) read_id);
	if (strcmp(state, "pending") == 0)
		is_equal("the read's end", read->done, 0);
	else if (strcmp(state, "ok") == 0)
	{
		is_equal("the read's success", read->done && read->ok, 1);
		if (accept_word("index"))
			is_equal("the read's index", read->index, next_number("an index"));
	}
	else if (strcmp(state, "failed") == 0)
		is_equal("the read's failure", read->done && !read->ok, 1);
	else
		bad("pending, ok or failed expected, not \"%s\"", state);
}

static void
assert_node(uint32_t id)
{
	const char *what = next_word("what is asserted");

	if (strcmp(what, "role") == 0)
		assert_role(id);
	else if (strcmp(what, "term") == 0)
		is_equal("the term", raft_term(core(id)), next_number("a term"));
	else if (strcmp(what, "vote") == 0)
		is_equal("the vote", node(id)->hard_out.vote, next_number("a node or 0"));
	else if (strcmp(what, "commit") == 0)
		is_equal("the commit index", commit_of(id), next_number("an index"));
	else if (strcmp(what, "last") == 0)
		is_equal("the last index", last_of(id), next_number("an index"));
	else if (strcmp(what, "leader") == 0)
		is_equal("the leader", raft_leader(core(id)), next_number("a node or 0"));
	else if (strcmp(what, "fenced") == 0)
		is_equal("fenced", raft_is_fenced(core(id)), 1);
	else if (strcmp(what, "promotable") == 0)
		is_equal("promotable", raft_is_promotable(core(id)), 1);
	else if (strcmp(what, "unpromotable") == 0)
		is_equal("promotable", raft_is_promotable(core(id)), 0);
	else if (strcmp(what, "lease") == 0)
		is_equal("the lease", raft_lease_valid(core(id), now_us), 1);
	else if (strcmp(what, "no-lease") == 0)
		is_equal("the lease", raft_lease_valid(core(id), now_us), 0);
	else if (strcmp(what, "caught-up") == 0)
		is_equal("caught up", raft_caught_up(core(id), next_id()), 1);
	else if (strcmp(what, "wants-image") == 0)
		is_equal("wants an image", node(id)->install, 1);
	else if (strcmp(what, "uncommitted-bytes") == 0)
		is_equal("uncommitted bytes", raft_uncommitted_bytes(core(id)), next_number("bytes"));
	else if (strcmp(what, "syncs") == 0)
		is_equal("outputs to be synced", node(id)->syncs, next_number("a number"));
	else if (strcmp(what, "log") == 0)
		assert_log(&node(id)->log);
	else if (strcmp(what, "disk") == 0)
		assert_log(&node(id)->disk);
	else if (strcmp(what, "data") == 0)
	{
		uint64_t	index = next_number("an index");
		const char *data = next_word("the data");

		if (!has_data(id, index, data))
			bad("entry %llu of node %u is not \"%s\"", (unsigned long long) index, id, data);
	}
	else if (strcmp(what, "progress") == 0)
		assert_progress(id);
	else if (strcmp(what, "conf") == 0)
		assert_conf(id);
	else if (strcmp(what, "read") == 0)
		assert_read(id);
	else
		bad("do not know how to assert \"%s\"", what);
}

static void
do_assert(void)
{
	if (is_number(peek_word()))
		assert_node(next_id());
	else if (accept_word("messages"))
	{
		Which		w = next_which();

		is_equal("the number of messages", count_msgs(w.type, w.from, w.to),
				 next_number("a number"));
	}
	else if (accept_word("leader"))
		is_equal("the leader", leader_now(), next_number("a node or 0"));
	else if (accept_word("converged"))
		check_converged();
	else if (accept_word("equal"))
	{
		uint32_t	a = next_id(),
					b = next_id();

		if (!logs_equal(a, b))
			bad("the logs of %u and %u differ", a, b);
	}
	else
		bad("do not know how to assert \"%s\"", peek_word());
}

/* ---------- what may be refused ---------- */

static const char *const status_names[] =
{
	[RAFT_OK] = "ok",
	[RAFT_NOT_LEADER] = "not-leader",
	[RAFT_TRANSFERRING] = "transferring",
	[RAFT_BUSY] = "busy",
	[RAFT_UNKNOWN_MEMBER] = "unknown-member",
	[RAFT_INVALID] = "invalid",
	[RAFT_FENCED] = "fenced",
	[RAFT_NO_MEMORY] = "no-memory",
	[RAFT_WRONG_INSTANCE] = "wrong-instance"
};

/* ... [-> STATUS]; without it, ok is expected */
static void
expect_status(RaftStatus status)
{
	const char *want = "ok";

	if (accept_word("->"))
		want = next_word("a status");
	if (strcmp(status_names[status], want) != 0)
		bad("the answer is %s, not %s", status_names[status], want);
}

/* change N voters ... [learners ...] [explicit] */
static void
do_change(void)
{
	uint32_t	id = next_id();
	Ids			voters = IDS(0),
				learners = IDS(0);
	uint64_t	index;

	if (accept_word("voters"))
		voters = next_ids();
	if (accept_word("learners"))
		learners = next_ids();
	if (accept_word("explicit"))
		expect_status(try_change_explicit(id, voters, learners, &index));
	else
		expect_status(try_change(id, voters, learners, &index));
}

/* nodes ... [learners ...] [unstarted] */
static void
do_nodes(void)
{
	Ids			voters = next_ids(),
				learners = IDS(0);

	if (accept_word("learners"))
		learners = next_ids();
	if (accept_word("unstarted"))
		cluster_unstarted(voters, learners);
	else
		cluster_of(voters, learners);
}

static void
do_config(void)
{
	while (line.at < line.count)
	{
		const char *name = next_word("a name");

		if (strcmp(name, "max-message-bytes") == 0)
			base_config.max_message_bytes = (uint32_t) next_number("bytes");
		else if (strcmp(name, "max-inflight-messages") == 0)
			base_config.max_inflight_messages = (uint32_t) next_number("a number");
		else if (strcmp(name, "max-inflight-bytes") == 0)
			base_config.max_inflight_bytes = next_number("bytes");
		else if (strcmp(name, "max-uncommitted-bytes") == 0)
			base_config.max_uncommitted_bytes = next_number("bytes");
		else if (strcmp(name, "cache-bytes") == 0)
			base_config.cache_bytes = next_number("bytes");
		else if (strcmp(name, "max-apply-entries") == 0)
			base_config.max_apply_entries = (uint32_t) next_number("a number");
		else if (strcmp(name, "lease-reads") == 0)
			base_config.lease_reads = true;
		else
			bad("unknown setting \"%s\"", name);
	}
}

static void
do_seed(void)
{
	uint32_t	id = next_id();
	int			terms[MAX_WORDS + 1];
	int			n = 0;

	while (is_number(peek_word()))
		terms[n++] = (int) next_number("a term");
	terms[n] = 0;
	seed_log(id, terms);
	if (accept_word("term"))
		node(id)->hard.term = next_number("a term");
	if (accept_word("vote"))
		node(id)->hard.vote = (uint32_t) next_number("a node");
	if (accept_word("commit"))
		node(id)->hard.commit = next_number("an index");
}

static void
do_propose(void)
{
	uint32_t	id = next_id();
	const char *data = next_word("data");
	uint64_t	index;

	expect_status(try_propose(id, data, &index));
}

static void
do_links(const char *verb)
{
	if (strcmp(verb, "heal") == 0)
		heal();
	else if (strcmp(verb, "isolate") == 0)
		isolate(next_id());
	else if (strcmp(verb, "split") == 0)
	{
		Ids			a = next_ids();

		if (!accept_word("from"))
			bad("split N N ... from N N ...");
		isolate_groups(a, next_ids());
	}
	else
	{
		uint32_t	from = next_id(),
					to = next_id();

		if (verb[0] == 'c')
			cut(from, to);
		else
			uncut(from, to);
		if (accept_word("both"))
		{
			if (verb[0] == 'c')
				cut(to, from);
			else
				uncut(to, from);
		}
	}
}

static void
do_time(const char *verb)
{
	if (strcmp(verb, "tick") == 0)
	{
		uint32_t	id = next_id();

		if (line.at < line.count)
			elapse_one(id, next_time());
		else
			tick(id);
	}
	else if (strcmp(verb, "elapse") == 0)
		elapse(next_time());
	else if (strcmp(verb, "jump") == 0)
		jump(next_time());
	else
		run(next_time());
}

static void
do_disk(const char *verb)
{
	uint32_t	id = next_id();

	if (strcmp(verb, "hold-disk") == 0)
		hold_disk(id);
	else if (strcmp(verb, "release-disk") == 0)
		release_disk(id);
	else if (accept_word("one"))
	{
		if (!sync_one(id))
			bad("node %u has no write under way", id);
	}
	else
		sync_disk(id);
}

static bool
one_of(const char *verb, const char *list)
{
	size_t		len = strlen(verb);

	for (const char *at = list; (at = strstr(at, verb)) != NULL; at += len)
		if ((at == list || at[-1] == ' ') && (at[len] == ' ' || at[len] == '\0'))
			return true;
	return false;
}

static void
do_command(void)
{
	const char *verb = next_word("a command");

	if (strcmp(verb, "nodes") == 0)
		do_nodes();
	else if (strcmp(verb, "config") == 0)
		do_config();
	else if (strcmp(verb, "seed") == 0)
		do_seed();
	else if (strcmp(verb, "start") == 0)
		start_all();
	else if (strcmp(verb, "add") == 0)
		add_node(next_id());
	else if (strcmp(verb, "campaign") == 0)
		campaign(next_id());
	else if (strcmp(verb, "elect") == 0)
		elect(next_id());
	else if (strcmp(verb, "propose") == 0)
		do_propose();
	else if (strcmp(verb, "change") == 0)
		do_change();
	else if (strcmp(verb, "leave-joint") == 0)
		expect_status(leave_joint(next_id()));
	else if (strcmp(verb, "transfer") == 0)
	{
		uint32_t	id = next_id();

		if (!accept_word("to"))
			bad("transfer N to N");
		expect_status(transfer(id, (uint32_t) next_number("a node's number")));
	}
	else if (strcmp(verb, "read") == 0)
	{
		uint32_t	id = next_id();

		read_index(id, next_number("the read's number"));
	}
	else if (strcmp(verb, "crash") == 0)
		crash(next_id());
	else if (strcmp(verb, "restart") == 0)
	{
		uint32_t	id = next_id();

		expect_status(try_restart(id));
	}
	else if (strcmp(verb, "wipe") == 0)
	{
		wipe(next_id());
		quorum_oracle = false;
	}
	else if (strcmp(verb, "compact") == 0)
	{
		uint32_t	id = next_id();

		compact(id, next_number("the first index that stays"));
	}
	else if (strcmp(verb, "install") == 0)
	{
		uint32_t	id = next_id();

		if (!accept_word("from"))
			bad("install N from N");
		expect_status(install(id, next_id()));
	}
	else if (strcmp(verb, "peer-down") == 0)
	{
		uint32_t	id = next_id();

		raft_peer_down(core(id), next_id(), now_us);
		drain(id);
	}
	else if (strcmp(verb, "snapshot-failed") == 0)
	{
		uint32_t	id = next_id();

		raft_report_snapshot(core(id), next_id(), false, now_us);
		drain(id);
	}
	else if (one_of(verb, "hold-disk release-disk sync"))
		do_disk(verb);
	else if (one_of(verb, "deliver drop duplicate keep copy put"))
		do_message(verb);
	else if (strcmp(verb, "inject") == 0)
		do_inject();
	else if (one_of(verb, "cut uncut isolate split heal"))
		do_links(verb);
	else if (one_of(verb, "tick elapse jump run"))
		do_time(verb);
	else if (strcmp(verb, "settle") == 0)
	{
		if (line.at < line.count)
			settle_only(next_ids());
		else
			settle();
	}
	else if (strcmp(verb, "assert") == 0)
		do_assert();
	else
		bad("unknown command \"%s\"", verb);
	if (line.at < line.count)
		bad("\"%s\" is more than %s takes", line.word[line.at], verb);
}

/* Words are separated by blanks; "..." keeps blanks; # begins a comment. */
static void
split_line(char *text)
{
	line.count = line.at = 0;
	for (char *c = text; *c;)
	{
		if (isspace((unsigned char) *c))
		{
			*c++ = '\0';
			continue;
		}
		if (*c == '#')
			break;
		if (line.count == MAX_WORDS)
			bad("more than %d words", MAX_WORDS);
		if (*c == '"')
		{
			line.word[line.count++] = ++c;
			while (*c && *c != '"')
				c++;
			if (*c == '\0')
				bad("a quote is not closed");
			*c++ = '\0';
			continue;
		}
		line.word[line.count++] = c;
		while (*c && !isspace((unsigned char) *c))
			c++;
	}
}

static void
run_file(const char *path)
{
	FILE	   *file = fopen(path, "r");
	char		text[4096];

	line.file = path;
	harness_begin();
	if (file == NULL)
		bad("cannot read the file");
	while (fgets(text, sizeof(text), file))
	{
		line.number++;
		split_line(text);
		if (line.count > 0)
		{
			trace("%s:%d: %s", path, line.number, line.word[0]);
			do_command();
			lines_run++;
		}
	}
	fclose(file);
	harness_end();
	if (lines_run == 0)
		bad("there is nothing in the file");
}

int
main(int argc, char **argv)
{
	int			passed = 0,
				failed = 0;

	for (int i = 1; i < argc; i++)
	{
		pid_t		pid;
		int			status;

		fflush(NULL);
		pid = fork();
		if (pid == 0)
		{
			run_file(argv[i]);
			fflush(NULL);
			_exit(0);
		}
		if (pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) &&
			WEXITSTATUS(status) == 0)
		{
			passed++;
			continue;
		}
		failed++;
		printf("not ok %s\n", argv[i]);
	}
	printf("%d passed, %d failed\n", passed, failed);
	return failed > 0;
}
