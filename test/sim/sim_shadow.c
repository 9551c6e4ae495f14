/*-------------------------------------------------------------------------
 *
 * sim_shadow.c
 *		What a log ought to contain, kept outside the code under test.
 *
 * A node has two: `appended` (all that was handed to the log) and `durable`
 * (all that the log said is durable). Between them lies the list of changes
 * that are under way; after a crash the recovered log must be what some prefix
 * of these changes leaves.
 *
 *-------------------------------------------------------------------------
 */
#include "sim.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

uint64_t
sim_entry_hash(const RaftEntry *entry)
{
	uint64_t	hash = sim_mix(1, entry->type);

	hash = sim_mix_bytes(hash, &entry->stamp, sizeof(entry->stamp));
	hash = sim_mix_bytes(hash, &entry->token, sizeof(entry->token));
	if (entry->data != NULL && entry->data->len > 0)
		hash = sim_mix_bytes(hash, entry->data->data, entry->data->len);
	return hash;
}

uint64_t
sim_shadow_last(const SimShadow *shadow)
{
	return shadow->base_index + shadow->count;
}

const SimEntry *
sim_shadow_at(const SimShadow *shadow, uint64_t index)
{
	if (index <= shadow->base_index || index > sim_shadow_last(shadow))
		return NULL;
	return &shadow->entries[index - shadow->base_index - 1];
}

uint64_t
sim_shadow_term(const SimShadow *shadow, uint64_t index)
{
	const SimEntry *entry;

	if (index == shadow->base_index)
		return shadow->base_term;
	entry = sim_shadow_at(shadow, index);
	return entry == NULL ? 0 : entry->term;
}

static void
entry_copy(SimEntry *to, const SimEntry *from)
{
	*to = *from;
	if (to->data != NULL)
		to->data = raft_buf_ref(to->data);
}

void
sim_shadow_truncate(SimShadow *shadow, uint64_t from)
{
	assert(from > shadow->base_index);
	while (shadow->count > 0 && sim_shadow_last(shadow) >= from)
		raft_buf_unref(shadow->entries[--shadow->count].data);
}

void
sim_shadow_reset(SimShadow *shadow, uint64_t base_index, uint64_t base_term)
{
	sim_shadow_truncate(shadow, shadow->base_index + 1);
	shadow->base_index = base_index;
	shadow->base_term = base_term;
}

void
sim_shadow_append(SimShadow *shadow, uint64_t index, const SimEntry *entry)
{
	assert(index == sim_shadow_last(shadow) + 1);
	if (shadow->count == shadow->capacity)
	{
		shadow->capacity = shadow->capacity ? shadow->capacity * 2 : 64;
		shadow->entries = realloc(shadow->entries, shadow->capacity * sizeof(SimEntry));
		if (shadow->entries == NULL)
			abort();
	}
	entry_copy(&shadow->entries[shadow->count++], entry);
}

void
sim_shadow_compact(SimShadow *shadow, uint64_t base_index)
{
	size_t		gone;

	if (base_index <= shadow->base_index)
		return;
	assert(base_index <= sim_shadow_last(shadow));
	gone = base_index - shadow->base_index;
	shadow->base_term = sim_shadow_term(shadow, base_index);
	for (size_t i = 0; i < gone; i++)
		raft_buf_unref(shadow->entries[i].data);
	memmove(shadow->entries, shadow->entries + gone,
			(shadow->count - gone) * sizeof(SimEntry));
	shadow->count -= gone;
	shadow->base_index = base_index;
}

void
sim_shadow_copy(SimShadow *to, const SimShadow *from)
{
	sim_shadow_reset(to, from->base_index, from->base_term);
	for (size_t i = 0; i < from->count; i++)
		sim_shadow_append(to, from->base_index + 1 + i, &from->entries[i]);
}

void
sim_shadow_free(SimShadow *shadow)
{
	sim_shadow_reset(shadow, 0, 0);
	free(shadow->entries);
	memset(shadow, 0, sizeof(*shadow));
}

void
sim_shadow_apply(SimShadow *shadow, const SimChange *change)
{
	if (change->kind == SIM_CHANGE_RESET)
		sim_shadow_reset(shadow, change->index, change->term);
	else if (change->kind == SIM_CHANGE_TRUNCATE)
	{
		if (change->index > shadow->base_index)
			sim_shadow_truncate(shadow, change->index);
	}
	else if (change->kind == SIM_CHANGE_APPEND && change->index > shadow->base_index)
		sim_shadow_append(shadow, change->index, &change->entry);
}

/* ---------- changes under way ---------- */

void
sim_changes_add(SimChanges *changes, const SimChange *change)
{
	if (changes->count == changes->capacity)
	{
		changes->capacity = changes->capacity ? changes->capacity * 2 : 16;
		changes->items = realloc(changes->items, changes->capacity * sizeof(SimChange));
		if (changes->items == NULL)
			abort();
	}
	changes->items[changes->count] = *change;
	if (change->kind == SIM_CHANGE_APPEND)
		entry_copy(&changes->items[changes->count].entry, &change->entry);
	changes->count++;
}

void
sim_changes_clear(SimChanges *changes)
{
	for (size_t i = 0; i < changes->count; i++)
	{
		if (changes->items[i].kind == SIM_CHANGE_APPEND)
			raft_buf_unref(changes->items[i].entry.data);
	}
	changes->count = 0;
}

void
sim_changes_move(SimChanges *to, SimChanges *from)
{
	for (size_t i = 0; i < from->count; i++)
		sim_changes_add(to, &from->items[i]);
	sim_changes_clear(from);
}

void
sim_changes_free(SimChanges *changes)
{
	sim_changes_clear(changes);
	free(changes->items);
	memset(changes, 0, sizeof(*changes));
}

static bool
same_entries(const SimShadow *want, const SimShadow *found)
{
	uint64_t	first = want->base_index > found->base_index ?
		want->base_index : found->base_index;

	if (sim_shadow_last(want) != sim_shadow_last(found))
		return false;
	for (uint64_t i = first + 1; i <= sim_shadow_last(want); i++)
	{
		const SimEntry *a = sim_shadow_at(want, i);
		const SimEntry *b = sim_shadow_at(found, i);

		if (a->term != b->term || a->hash != b->hash)
			return false;
	}
	return true;
}

bool
sim_shadow_explains(const SimShadow *durable, const SimChanges *pending,
					const SimShadow *found)
{
	SimShadow	want = {0};
	bool		match;

	sim_shadow_copy(&want, durable);
	match = same_entries(&want, found);
	for (size_t i = 0; !match && i < pending->count; i++)
	{
		sim_shadow_apply(&want, &pending->items[i]);
		match = same_entries(&want, found);
	}
	sim_shadow_free(&want);
	return match;
}
