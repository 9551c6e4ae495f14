/*-------------------------------------------------------------------------
 *
 * read_explain.c
 *		EXPLAIN ANALYZE tells the read level, the entry of the log that the data
 *		stand at, and how long the statement waited for that.
 *
 * No hook lets an extension add to a plan's output in all forms of EXPLAIN (that
 * of EXECUTE, above all). So its lines are passed through a receiver of our own:
 * text gets one line more, JSON, YAML and XML, which come as one value, get
 * members of the last plan's object. As the rest of what is measured they are
 * left out with SUMMARY off.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "commands/defrem.h"
#include "executor/tuptable.h"
#include "lib/stringinfo.h"
#include "nodes/parsenodes.h"
#include "utils/builtins.h"

#include "consistency/read.h"
#include "node/node.h"

typedef struct ExplainReceiver
{
	DestReceiver pub;
	DestReceiver *to;
	TupleDesc	desc;
	uint64		noted_before;
	bool		text;
} ExplainReceiver;

static void
find_reached(const ExplainReceiver *self, ReadReached *reached)
{
	if (read_noted(reached) != self->noted_before)
		return;
	memset(reached, 0, sizeof(*reached));
	reached->level = (ReadLevel) quorum_read_consistency;
	reached->index = node_applied_index();
}

static void
send_text(ExplainReceiver *self, const char *text)
{
	TupleTableSlot *slot = MakeSingleTupleTableSlot(self->desc, &TTSOpsVirtual);

	slot->tts_values[0] = CStringGetTextDatum(text);
	slot->tts_isnull[0] = false;
	ExecStoreVirtualTuple(slot);
	(void) self->to->receiveSlot(slot, self->to);
	ExecDropSingleTupleTableSlot(slot);
}

/* The members go in before this end of the output. NULL: it looks unfamiliar. */
static char *
insert_before(const char *whole, const char *end, const char *what)
{
	Size		len = strlen(whole);
	Size		end_len = strlen(end);

	if (len < end_len || strcmp(whole + len - end_len, end) != 0)
		return NULL;
	return psprintf("%.*s%s%s", (int) (len - end_len), whole, what, end);
}

static char *
add_members(const char *whole, const ReadReached *reached)
{
	const char *level = read_level_name(reached->level);
	double		waited_ms = (double) reached->waited_us / 1000;
	char	   *added;

	if (whole[0] == '[')
		return insert_before(whole, "\n  }\n]",
							 psprintf(",\n    \"Read Consistency\": \"%s\",\n    \"Read Index\": " UINT64_FORMAT
									  ",\n    \"Read Wait\": %.3f", level, reached->index, waited_ms));
	if (whole[0] == '<')
		return insert_before(whole, "\n  </Query>\n</explain>",
							 psprintf("\n    <Read-Consistency>%s</Read-Consistency>\n    <Read-Index>" UINT64_FORMAT
									  "</Read-Index>\n    <Read-Wait>%.3f</Read-Wait>", level, reached->index, waited_ms));
	if (whole[0] == '-')
	{
		added = psprintf("%s\n  Read Consistency: \"%s\"\n  Read Index: " UINT64_FORMAT
						 "\n  Read Wait: %.3f", whole, level, reached->index, waited_ms);
		return added;
	}
	return NULL;
}

static bool
receive(TupleTableSlot *slot, DestReceiver *dest)
{
	ExplainReceiver *self = (ExplainReceiver *) dest;
	ReadReached reached;
	char	   *changed = NULL;

	if (!self->text)
	{
		slot_getallattrs(slot);
		find_reached(self, &reached);
		if (!slot->tts_isnull[0])
			changed = add_members(TextDatumGetCString(slot->tts_values[0]), &reached);
		if (changed != NULL)
		{
			ExecClearTuple(slot);
			slot->tts_values[0] = CStringGetTextDatum(changed);
			slot->tts_isnull[0] = false;
			ExecStoreVirtualTuple(slot);
		}
	}
	return self->to->receiveSlot(slot, self->to);
}

static void
startup(DestReceiver *dest, int operation, TupleDesc desc)
{
	ExplainReceiver *self = (ExplainReceiver *) dest;

	self->desc = desc;
	self->to->rStartup(self->to, operation, desc);
}

static void
shutdown(DestReceiver *dest)
{
	ExplainReceiver *self = (ExplainReceiver *) dest;
	ReadReached reached;

	if (self->text)
	{
		find_reached(self, &reached);
		send_text(self, psprintf("Read Consistency: level=%s index=" UINT64_FORMAT " waited=%.3f ms",
								 read_level_name(reached.level), reached.index,
								 (double) reached.waited_us / 1000));
	}
	self->to->rShutdown(self->to);
}

static void
destroy(DestReceiver *dest)
{
}

DestReceiver *
read_explain_begin(DestReceiver *dest, List *options)
{
	ExplainReceiver *self;
	ReadReached reached;
	bool		summary = true;
	bool		text = true;
	ListCell   *lc;

	foreach(lc, options)
	{
		DefElem    *option = lfirst_node(DefElem, lc);

		if (strcmp(option->defname, "summary") == 0)
			summary = defGetBoolean(option);
		else if (strcmp(option->defname, "format") == 0 && option->arg != NULL)
			text = strcmp(defGetString(option), "text") == 0;
	}
	if (!summary)
		return dest;
	self = palloc0(sizeof(ExplainReceiver));
	self->pub.receiveSlot = receive;
	self->pub.rStartup = startup;
	self->pub.rShutdown = shutdown;
	self->pub.rDestroy = destroy;
	self->pub.mydest = dest->mydest;
	self->to = dest;
	self->text = text;
	self->noted_before = read_noted(&reached);
	return &self->pub;
}
