/*-------------------------------------------------------------------------
 *
 * model.c
 *		What a log of lock entries means, the slow way (harness.h).
 *
 *-------------------------------------------------------------------------
 */
#include "harness.h"

bool
model_conflicts(uint8_t a, uint8_t b)
{
	return a != LK_SHARED || b != LK_SHARED;
}

static bool
same_key(const ModelGrant *g, const LkItem *item)
{
	return g->key_type == item->key_type && strlen(g->key) == item->len &&
		memcmp(g->key, item->key, item->len) == 0;
}

static bool
has_lease(const Model *model, const uint8_t *id)
{
	for (int i = 0; i < model->nleases; i++)
		if (memcmp(model->leases[i], id, LK_UUID_LEN) == 0)
			return true;
	return false;
}

bool
model_fits(const Model *model, const LkOwner *owner, const LkItem *item)
{
	uint64_t	permits = item->weight;

	for (int i = 0; i < model->ngrants; i++)
	{
		const ModelGrant *g = &model->grants[i];

		if (!same_key(g, item))
			continue;
		if (item->mode == LK_PERMIT && g->mode == LK_PERMIT)
			permits += g->weight;
		else if (model_conflicts(item->mode, g->mode) && !lk_owner_equal(&g->owner, owner))
			return false;
	}
	return item->mode != LK_PERMIT || permits <= item->limit;
}

static void
remove_grant(Model *model, int i)
{
	model->grants[i] = model->grants[--model->ngrants];
}

static void
grant(Model *model, const LogEntry *entry, LkReader rd)
{
	const LkOwner owner = rd.rec.owner;
	LkReader	again = rd;
	LkItem		item;

	if (owner.kind == LK_OWNER_LEASE && !has_lease(model, owner.lease))
		return;
	while (lk_read_item(&again, &item))
		if (!model_fits(model, &owner, &item))
			return;
	while (lk_read_item(&rd, &item))
	{
		bool		done = false;
		ModelGrant *g;

		for (int i = 0; i < model->ngrants && !done; i++)
		{
			g = &model->grants[i];
			if (!same_key(g, &item))
				continue;
			if (g->token == entry->index)
				done = true;
		}
		for (int i = 0; i < model->ngrants && !done; i++)
		{
			g = &model->grants[i];
			if (same_key(g, &item) && owner.kind == LK_OWNER_LEASE && item.mode != LK_PERMIT &&
				g->mode == item.mode && lk_owner_equal(&g->owner, &owner))
			{
				g->count++;
				done = true;
			}
		}
		if (done)
			continue;
		MUST(model->ngrants < MODEL_MAX, "too many");
		g = &model->grants[model->ngrants++];
		memset(g, 0, sizeof(*g));
		g->token = entry->index;
		g->key_type = item.key_type;
		memcpy(g->key, item.key, item.len);
		g->mode = item.mode;
		g->weight = item.weight;
		g->owner = owner;
		g->count = 1;
	}
}

static void
drop_where(Model *model, bool (*drop) (const ModelGrant *g, const LkRecord *rec),
		   const LkRecord *rec)
{
	for (int i = 0; i < model->ngrants; i++)
		if (drop(&model->grants[i], rec))
			remove_grant(model, i--);
}

static bool
of_session(const ModelGrant *g, const LkRecord *rec)
{
	return g->owner.kind == LK_OWNER_SESSION && g->owner.node == rec->node &&
		g->owner.boot == rec->boot && g->owner.session == rec->session &&
		g->token <= rec->last_token;
}

static bool
of_former_start(const ModelGrant *g, const LkRecord *rec)
{
	return g->owner.kind == LK_OWNER_SESSION && g->owner.node == rec->node &&
		g->owner.boot < rec->boot;
}

static bool
of_node(const ModelGrant *g, const LkRecord *rec)
{
	return g->owner.kind == LK_OWNER_SESSION && g->owner.node == rec->node &&
		g->owner.boot <= rec->boot;
}

static bool
of_lease(const ModelGrant *g, const LkRecord *rec)
{
	return g->owner.kind == LK_OWNER_LEASE &&
		memcmp(g->owner.lease, rec->lease, LK_UUID_LEN) == 0;
}

static bool
of_key(const ModelGrant *g, const LkRecord *rec)
{
	return same_key(g, &rec->broken);
}

static void
release(Model *model, LkReader rd)
{
	LkItem		item;

	while (lk_read_item(&rd, &item))
		for (int i = 0; i < model->ngrants; i++)
		{
			ModelGrant *g = &model->grants[i];

			if (!same_key(g, &item) || g->token != item.token)
				continue;
			if (item.whole || g->count == 1)
				remove_grant(model, i);
			else
				g->count--;
			break;
		}
}

static void
apply(Model *model, const LogEntry *entry)
{
	LkReader	rd;

	if (!lk_read_open(&rd, entry->payload.data, entry->payload.len))
		return;
	switch ((LkOp) rd.rec.op)
	{
		case LK_OP_GRANT:
			grant(model, entry, rd);
			break;
		case LK_OP_RELEASE:
		case LK_OP_EXPIRE_HOLD:
			release(model, rd);
			break;
		case LK_OP_RELEASE_SESSION:
			drop_where(model, of_session, &rd.rec);
			break;
		case LK_OP_RELEASE_NODE:
			drop_where(model, of_former_start, &rd.rec);
			break;
		case LK_OP_EXPIRE_NODE:
			drop_where(model, of_node, &rd.rec);
			break;
		case LK_OP_LEASE_OPEN:
			if (!has_lease(model, rd.rec.lease))
				memcpy(model->leases[model->nleases++], rd.rec.lease, LK_UUID_LEN);
			break;
		case LK_OP_LEASE_CLOSE:
		case LK_OP_LEASE_EXPIRE:
			for (int i = 0; i < model->nleases; i++)
				if (memcmp(model->leases[i], rd.rec.lease, LK_UUID_LEN) == 0)
				{
					memcpy(model->leases[i], model->leases[--model->nleases], LK_UUID_LEN);
					drop_where(model, of_lease, &rd.rec);
					break;
				}
			break;
		case LK_OP_BREAK:
			drop_where(model, of_key, &rd.rec);
			break;
	}
}

void
model_replay(Model *model, const LogEntry *log, int n)
{
	model->ngrants = model->nleases = 0;
	for (int i = 0; i < n; i++)
		apply(model, &log[i]);
}

/* ---------- the same? ---------- */

typedef struct Compare
{
	const Model *model;
	const char *where;
	int			grants;
	int			leases;
} Compare;

static void
compare_grant(void *arg, const LkGrantInfo *grant)
{
	Compare    *c = arg;

	c->grants++;
	for (int i = 0; i < c->model->ngrants; i++)
	{
		const ModelGrant *g = &c->model->grants[i];

		if (g->token == grant->token && g->key_type == grant->key_type &&
			strlen(g->key) == grant->len && memcmp(g->key, grant->key, grant->len) == 0)
		{
			MUST(g->mode == grant->mode && g->count == grant->count &&
				 g->weight == grant->weight && lk_owner_equal(&g->owner, &grant->owner),
				 "%s: another grant, token %" PRIu64 ", count %u, not %u", c->where,
				 grant->token, grant->count, g->count);
			return;
		}
	}
	MUST(false, "%s: a grant that the model has not, token %" PRIu64, c->where, grant->token);
}

static void
compare_lease(void *arg, const LkLeaseInfo *lease)
{
	Compare    *c = arg;

	c->leases++;
	MUST(has_lease(c->model, lease->id), "%s: a lease that the model has not", c->where);
}

void
model_compare(const Model *model, const LkState *ls, const char *where)
{
	Compare		c = {model, where, 0, 0};
	const char *wrong = lk_check(ls);

	MUST(wrong == NULL, "%s: %s", where, wrong);
	lk_each_grant(ls, compare_grant, &c);
	lk_each_lease(ls, compare_lease, &c);
	MUST(c.grants == model->ngrants, "%s: %d grants, not %d", where, c.grants, model->ngrants);
	MUST(c.leases == model->nleases, "%s: %d leases, not %d", where, c.leases, model->nleases);
}
