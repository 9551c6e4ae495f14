/*-------------------------------------------------------------------------
 *
 * log.c
 *		Lines for the caller's log, rate limited.
 *
 * Whoever can reach the port can make us want to log. So the same line is not
 * repeated within LOG_REPEAT_US, and all lines together are held to a token
 * bucket. What was held back is counted and said with a later line.
 *
 *-------------------------------------------------------------------------
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "transport/internal.h"

#define LOG_REPEAT_US		(10 * 1000000LL)
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
take_token(LogLimit *limit, int64_t now_us)
{
	int64_t		refill = (now_us - limit->refilled_us) / LOG_REFILL_US;

	if (refill > 0)
	{
		limit->tokens = refill > LOG_BURST ? LOG_BURST : limit->tokens + (int) refill;
		if (limit->tokens > LOG_BURST)
			limit->tokens = LOG_BURST;
		limit->refilled_us = now_us;
	}
	if (limit->tokens == 0)
		return false;
	limit->tokens--;
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
	if (!take_token(limit, now_us))
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
