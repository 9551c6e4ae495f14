/*-------------------------------------------------------------------------
 *
 * views.c
 *		quorum.status and quorum.members: what the Raft worker last published.
 *		They never wait for anything but the status lock, which is held for a
 *		copy only.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "node/node_internal.h"

#define STATUS_COLUMNS	11
#define MEMBER_COLUMNS	12

PG_FUNCTION_INFO_V1(quorum_status);
PG_FUNCTION_INFO_V1(quorum_members);

static NodeStatus *
copy_status(char *apply_detail)
{
	NodeStatus *status = palloc(sizeof(NodeStatus));

	LWLockAcquire(node_shared->status_lock, LW_SHARED);
	*status = node_shared->status;
	strlcpy(apply_detail, node_shared->apply_detail, NODE_DETAIL_LEN);
	LWLockRelease(node_shared->status_lock);
	return status;
}

Datum
quorum_status(PG_FUNCTION_ARGS)
{
	TupleDesc	desc;
	Datum		values[STATUS_COLUMNS];
	bool		nulls[STATUS_COLUMNS] = {false};
	char		apply_detail[NODE_DETAIL_LEN];
	NodeStatus *status;
	NodeMembership membership;
	StringInfoData detail;
	uint64		applied,
				commit,
				last;

	node_require_loaded();
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	status = copy_status(apply_detail);
	membership = pg_atomic_read_u32(&node_shared->membership);
	/* what is applied is committed, even if a start has not learned that yet */
	applied = node_applied_index();
	commit = Max(pg_atomic_read_u64(&node_shared->raft_commit), applied);
	last = Max(pg_atomic_read_u64(&node_shared->raft_last), commit);

	initStringInfo(&detail);
	appendStringInfoString(&detail, status->detail);
	if (apply_detail[0] != '\0')
		appendStringInfo(&detail, "%s%s", detail.len > 0 ? "; " : "", apply_detail);

	if (membership == NODE_NONE || membership == NODE_STARTING)
		nulls[0] = nulls[2] = nulls[5] = nulls[6] = nulls[8] = true;
	values[0] = UUIDPGetDatum(&status->cluster_id);
	values[1] = CStringGetTextDatum(quorum_node_name);
	values[2] = Int64GetDatum((int64) node_id());
	values[3] = CStringGetTextDatum(status->role);
	if (status->leader[0] == '\0')
		nulls[4] = true;
	values[4] = CStringGetTextDatum(status->leader);
	values[5] = Int64GetDatum((int64) pg_atomic_read_u64(&node_shared->raft_term));
	values[6] = Int64GetDatum((int64) commit);
	values[7] = Int64GetDatum((int64) applied);
	values[8] = Int64GetDatum((int64) last);
	values[9] = BoolGetDatum(pg_atomic_read_u32(&node_shared->has_quorum) != 0);
	if (detail.len == 0)
		nulls[10] = true;
	values[10] = CStringGetTextDatum(detail.data);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(desc, values, nulls)));
}

Datum
quorum_members(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	char		apply_detail[NODE_DETAIL_LEN];
	NodeStatus *status;
	uint64		commit,
				last;

	node_require_loaded();
	InitMaterializedSRF(fcinfo, 0);
	status = copy_status(apply_detail);
	commit = pg_atomic_read_u64(&node_shared->raft_commit);
	last = Max(pg_atomic_read_u64(&node_shared->raft_last), commit);

	for (int i = 0; i < status->nmembers; i++)
	{
		NodeMemberStatus *m = &status->members[i];
		Datum		values[MEMBER_COLUMNS];
		bool		nulls[MEMBER_COLUMNS] = {false};
		bool		self = m->id == node_id();
		uint64		applied = self ? node_applied_index() : m->applied_index;

		values[0] = CStringGetTextDatum(m->name);
		values[1] = Int64GetDatum((int64) m->id);
		values[2] = CStringGetTextDatum(m->address);
		values[3] = CStringGetTextDatum(m->is_leader ? "leader" :
										m->is_learner ? "learner" : "follower");
		values[4] = BoolGetDatum(!m->is_learner);
		values[5] = BoolGetDatum(self || m->reachable);
		values[6] = TimestampTzGetDatum(m->last_contact);
		nulls[6] = m->last_contact == 0;
		values[7] = Int64GetDatum((int64) m->match_index);
		nulls[7] = !m->has_match;
		values[8] = Int64GetDatum((int64) (last - Min(m->match_index, last)));
		nulls[8] = !m->has_match;
		values[9] = Int64GetDatum((int64) (commit - Min(applied, commit)));
		nulls[9] = !m->has_match || !(self || m->has_applied);
		values[10] = Int64GetDatum((int64) applied);
		nulls[10] = !(self || m->has_applied);
		values[11] = CStringGetTextDatum(m->version);
		nulls[11] = m->version[0] == '\0';
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}
