/*-------------------------------------------------------------------------
 *
 * worker_mailbox.c
 *		The worker's end of the mailbox (mailbox.c, node_internal.h).
 *
 * A proposal is taken from its slot only when something can be done with it at
 * once: until then its session may withdraw it and say truthfully that nothing
 * happened (no quorum, cancelled). Proposals that wait so are in `posted`, in
 * the order in which they came.
 *
 * A worker that was started anew finds slots that its predecessor had taken.
 * What became of those proposals is seen in the log; so they are taken up
 * again, by their tokens.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/proc.h"

#include "compat.h"
#include "node/worker.h"

#define TAKE_WHOLE_BYTES	(Size) (1024 * 1024)	/* in one go */
#define TAKE_TURN_BYTES		(Size) (4 * 1024 * 1024)	/* of a larger one each turn */

static void
remember_posted(Worker *w, int procno)
{
	if (w->is_posted[procno])
		return;
	w->is_posted[procno] = true;
	w->posted[w->nposted++] = procno;
}

/*
 * Copy the payload out of the slot. NULL: it is not there to be taken any more,
 * or no memory (then it stays posted).
 */
static RaftBuf *
take(int procno, NodeRequestKind *kind, RaftToken *token, bool again, bool *gone)
{
	NodeSlot   *slot = &node_shared->slots[procno];
	RaftBuf    *buf = NULL;
	dsa_pointer large = InvalidDsaPointer;
	Size		len = 0;
	bool		mine;

	SpinLockAcquire(&slot->mutex);
	mine = slot->state == SLOT_POSTED ||
		(again && (slot->state == SLOT_TAKEN || slot->state == SLOT_TAKING));
	if (mine)
	{
		slot->state = SLOT_TAKING;
		*kind = slot->kind;
		*token = slot->token;
		len = slot->len;
		large = slot->large;
	}
	SpinLockRelease(&slot->mutex);
	*gone = !mine;
	if (!mine)
		return NULL;

	buf = raft_buf_new(NULL, len);
	if (buf != NULL)
		memcpy(buf->data,
			   DsaPointerIsValid(large) ? dsa_get_address(node_dsa(), large) : slot->small, len);
	SpinLockAcquire(&slot->mutex);
	slot->state = buf != NULL || again ? SLOT_TAKEN : SLOT_POSTED;
	SpinLockRelease(&slot->mutex);
	return buf;
}

/* ---------- large proposals ---------- */

static bool
is_large(int procno)
{
	NodeSlot   *slot = &node_shared->slots[procno];
	bool		large;

	SpinLockAcquire(&slot->mutex);
	large = slot->state == SLOT_POSTED && slot->kind == NODE_REQ_PROPOSE &&
		slot->len > TAKE_WHOLE_BYTES && DsaPointerIsValid(slot->large);
	SpinLockRelease(&slot->mutex);
	return large;
}

/* Begin to copy. False: not now, it stays posted. */
static bool
begin_large(Worker *w, int procno)
{
	NodeSlot   *slot = &node_shared->slots[procno];
	LargeTake  *taking = &w->taking;
	dsa_pointer from = InvalidDsaPointer;
	Size		len = 0;

	if (taking->buf != NULL)
		return false;			/* one after the other */
	SpinLockAcquire(&slot->mutex);
	if (slot->state == SLOT_POSTED && slot->kind == NODE_REQ_PROPOSE)
	{
		slot->state = SLOT_TAKING;
		taking->token = slot->token;
		from = slot->large;
		len = slot->len;
	}
	SpinLockRelease(&slot->mutex);
	if (!DsaPointerIsValid(from))
		return true;			/* withdrawn, this moment */
	taking->buf = raft_buf_new(NULL, len);
	if (taking->buf == NULL)
	{
		SpinLockAcquire(&slot->mutex);
		slot->state = SLOT_POSTED;
		SpinLockRelease(&slot->mutex);
		return false;
	}
	taking->procno = procno;
	taking->from = dsa_get_address(node_dsa(), from);
	taking->done = 0;
	return true;
}

/* Every turn, whatever this member's state: a session waits for it. */
void
mailbox_copy_some(Worker *w)
{
	LargeTake  *taking = &w->taking;
	RaftBuf    *buf = taking->buf;
	NodeSlot   *slot;
	Size		n;

	if (buf == NULL)
		return;
	n = Min(buf->len - taking->done, TAKE_TURN_BYTES);
	memcpy(buf->data + taking->done, taking->from + taking->done, n);
	taking->done += n;
	if (taking->done < buf->len)
		return;
	slot = &node_shared->slots[taking->procno];
	SpinLockAcquire(&slot->mutex);
	slot->state = SLOT_TAKEN;
	SpinLockRelease(&slot->mutex);
	taking->buf = NULL;
	(void) pending_add(w, taking->procno, taking->token, buf);
}

/* ---------- requests and proposals ---------- */

static void
take_request(Worker *w, int procno)
{
	NodeRequestKind kind;
	RaftToken	token;
	bool		gone;
	RaftBuf    *buf = take(procno, &kind, &token, false, &gone);

	if (buf == NULL)
	{
		if (!gone)
			remember_posted(w, procno);
		return;
	}
	switch (kind)
	{
		case NODE_REQ_CREATE:
			join_found(w, procno, token);
			break;
		case NODE_REQ_JOIN:
			join_begin(w, procno, token, (const char *) buf->data, buf->len);
			break;
		case NODE_REQ_REMOVE:
		case NODE_REQ_TRANSFER:
			admin_request(w, procno, token, kind, (const char *) buf->data, buf->len);
			break;
		case NODE_REQ_OUTCOME:
			{
				NodeOutcomeRequest asked;

				memcpy(&asked, buf->data, sizeof(asked));
				outcome_begin(w, procno, token, &asked);
				break;
			}
		case NODE_REQ_APPLIED:
			applied_begin(w, procno, token, (const char *) buf->data, buf->len);
			break;
		case NODE_REQ_FORCE:
			force_begin(w, procno, token);
			break;
		case NODE_REQ_LEASE_RENEW:
			lock_renewal_begin(w, procno, token, (const char *) buf->data, buf->len);
			break;
		case NODE_REQ_PROBE:
			join_probe(w, procno, token, (const char *) buf->data, buf->len);
			break;
		case NODE_REQ_IMAGE_AT:
		case NODE_REQ_IMAGE_BEGUN:
		case NODE_REQ_IMAGE_DONE:
			image_request(w, procno, token, kind, (const char *) buf->data, buf->len);
			break;
		case NODE_REQ_PROPOSE:
			break;
	}
	raft_buf_unref(buf);
}

void
mailbox_init(Worker *w)
{
	w->posted = MemoryContextAllocZero(TopMemoryContext, sizeof(int) * MaxBackends);
	w->is_posted = MemoryContextAllocZero(TopMemoryContext, sizeof(bool) * MaxBackends);
	(void) node_dsa();

	for (int procno = 0; procno < MaxBackends; procno++)
	{
		NodeSlot   *slot = &node_shared->slots[procno];
		NodeSlotState state = *(volatile NodeSlotState *) &slot->state;
		NodeRequestKind kind;
		RaftToken	token;
		RaftBuf    *buf;
		bool		gone;

		if (state != SLOT_TAKEN && state != SLOT_TAKING)
			continue;
		buf = take(procno, &kind, &token, true, &gone);
		if (gone)
			continue;
		if (buf != NULL && kind == NODE_REQ_PROPOSE)
		{
			(void) pending_add(w, procno, token, buf);
			continue;
		}
		raft_buf_unref(buf);
		if (kind != NODE_REQ_PROPOSE)
			answer_request(w, procno, token, ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE,
						   "the Raft worker was restarted meanwhile");
	}
}

/* What was pushed on the stack since the last time. */
void
mailbox_collect(Worker *w)
{
	static uint32 *order = NULL;
	int			n = 0;
	uint32		at = pg_atomic_read_u32(&node_shared->stack_head);

	if (at == NODE_STACK_END)
		return;
	if (order == NULL)
		order = MemoryContextAlloc(TopMemoryContext, sizeof(uint32) * MaxBackends);
	at = pg_atomic_exchange_u32(&node_shared->stack_head, NODE_STACK_END);
	while (at != NODE_STACK_END)
	{
		NodeSlot   *slot = &node_shared->slots[at];

		order[n++] = at;
		/* it may be pushed again as soon as it is not queued: read first */
		at = pg_atomic_read_u32(&slot->next);
		pg_memory_barrier();
		pg_atomic_exchange_u32(&slot->queued, 0);
	}

	/* the stack has the newest first */
	while (n-- > 0)
	{
		NodeSlot   *slot = &node_shared->slots[order[n]];
		bool		is_proposal = false;
		bool		is_request = false;

		SpinLockAcquire(&slot->mutex);
		if (slot->state == SLOT_POSTED)
		{
			is_proposal = slot->kind == NODE_REQ_PROPOSE;
			is_request = !is_proposal;
		}
		SpinLockRelease(&slot->mutex);
		if (is_proposal)
			remember_posted(w, (int) order[n]);
		else if (is_request)
			take_request(w, (int) order[n]);
	}
}

/* Take the proposals that wait. The caller knows that they can be dealt with. */
void
mailbox_take_posted(Worker *w)
{
	int			kept = 0;

	for (int i = 0; i < w->nposted; i++)
	{
		int			procno = w->posted[i];
		NodeRequestKind kind;
		RaftToken	token;
		bool		gone;
		RaftBuf    *buf = NULL;

		if (is_large(procno))
		{
			if (begin_large(w, procno))
				w->is_posted[procno] = false;
			else
				w->posted[kept++] = procno;
			continue;
		}

		/* a slot may have been withdrawn and posted again, with a request */
		if (node_shared->slots[procno].kind == NODE_REQ_PROPOSE)
			buf = take(procno, &kind, &token, false, &gone);
		else
		{
			w->is_posted[procno] = false;
			take_request(w, procno);
			continue;
		}
		if (buf == NULL && !gone)
		{
			w->posted[kept++] = procno;
			continue;
		}
		w->is_posted[procno] = false;
		if (buf != NULL)
			(void) pending_add(w, procno, token, buf);
	}
	w->nposted = kept;
}

/*
 * This member takes no part, and will not soon: nobody is to wait for it. What
 * was not taken was certainly never appended.
 */
void
mailbox_refuse_posted(Worker *w, const char *why)
{
	int			n = w->nposted;

	w->nposted = 0;
	for (int i = 0; i < n; i++)
	{
		int			procno = w->posted[i];
		NodeRequestKind kind;
		RaftToken	token;
		NodeAnswer	answer;
		bool		gone;
		RaftBuf    *buf;

		w->is_posted[procno] = false;
		if (node_shared->slots[procno].kind != NODE_REQ_PROPOSE)
		{
			take_request(w, procno);
			continue;
		}
		buf = take(procno, &kind, &token, false, &gone);
		if (buf == NULL)
		{
			if (!gone)
				remember_posted(w, procno);
			continue;
		}
		memset(&answer, 0, sizeof(answer));
		answer.verdict = NODE_UNAVAILABLE;
		strlcpy(answer.message, why, sizeof(answer.message));
		node_answer_slot(procno, token, &answer, 0);
		raft_buf_unref(buf);
	}
}
