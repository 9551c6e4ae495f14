/*-------------------------------------------------------------------------
 *
 * log.c
 *		Lines for the caller's log, rate limited.
 *
 * Whoever can reach the port can make us want to log. So the same complaint is
 * not repeated within LOG_REPEAT_US, and all complaints together are held to a
 * token bucket. What was held back is counted and said with a later line.
 * Changes of state of a member have a bucket of their own: no crowd of strangers
 * can hide them.
 *
 *-------------------------------------------------------------------------
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "transport/internal.h"

#define LOG_REPEAT_US		(60 * 1000000LL)
#define LOG_BURST			20
#define LOG_REFILL_US		500000	/* one more line every half second */

static uint32_t
hash_text(const char *text)
{
	uint32_t	hash = 2166136261u; /* FNV-1a */

	for (; *text != '\0'; text++)
		hash = (hash ^ (uint8_t) *text) * 16777619u;
	return hash;
}

static LogSlot *
find_slot(LogLimit *limit, uint32_t hash)
{
	LogSlot    *slot;

	for (int i = 0; i < TP_LOG_SLOTS; i++)
		if (limit->slot[i].at_us != 0 && limit->slot[i].hash == hash)
			return &limit->slot[i];

	slot = &limit->slot[limit->next];
	limit->next = (limit->next + 1) % TP_LOG_SLOTS;
	limit->unsaid += slot->repeated;
	memset(slot, 0, sizeof(*slot));
	slot->hash = hash;
	return slot;
}

static bool
take_token(LogBucket *bucket, int64_t now_us)
{
	int64_t		refill = (now_us - bucket->refilled_us) / LOG_REFILL_US;

	if (refill > 0)
	{
		bucket->tokens = refill > LOG_BURST ? LOG_BURST : bucket->tokens + (int) refill;
		if (bucket->tokens > LOG_BURST)
			bucket->tokens = LOG_BURST;
		bucket->refilled_us = now_us;
	}
	if (bucket->tokens == 0)
		return false;
	bucket->tokens--;
	return true;
}

void
tp_log(Transport *tp, TpLogLevel level, const char *format,...)
{
	LogLimit   *limit = &tp->log_limit;
	char		text[TP_ADDRESS_LEN + 4 * TP_TEXT_LEN];
	char		line[sizeof(text) + 64];
	int64_t		now_us = tp_now_us();
	LogSlot    *slot;
	va_list		args;

	if (tp->closing)
		return;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);

	slot = find_slot(limit, hash_text(text));
	if (slot->at_us != 0 && now_us - slot->at_us < LOG_REPEAT_US)
	{
		slot->repeated++;
		return;
	}
	if (!take_token(&limit->complaints, now_us))
	{
		limit->unsaid++;
		return;
	}

	slot->at_us = now_us;
	if (slot->repeated > 0)
		snprintf(line, sizeof(line), "%s (repeated %u times)", text, slot->repeated);
	else if (limit->unsaid > 0)
		snprintf(line, sizeof(line), "%s (%u other messages were not logged)", text,
				 limit->unsaid);
	else
		snprintf(line, sizeof(line), "%s", text);
	if (slot->repeated == 0)
		limit->unsaid = 0;
	slot->repeated = 0;
	tp->callbacks.log(tp->user, level, line);
}

void
tp_log_change(Transport *tp, const char *format,...)
{
	char		text[TP_ADDRESS_LEN + 4 * TP_TEXT_LEN];
	va_list		args;

	if (tp->closing)
		return;
	if (!take_token(&tp->log_limit.changes, tp_now_us()))
	{
		tp->log_limit.unsaid++;
		return;
	}
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	tp->callbacks.log(tp->user, TP_LOG_INFO, text);
}
