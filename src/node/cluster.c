/*-------------------------------------------------------------------------
 *
 * cluster.c
 *		SQL functions that found and steer the cluster. Each posts a request to
 *		the Raft worker and waits for what it leads to. Joining has a step that
 *		is not this layer's: quorum.join_cluster is in replication/image_join.c.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "commands/dbcommands.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/uuid.h"

#include "compat.h"
#include "node/node_internal.h"

#define CLUSTER_REQUEST_TIMEOUT_MS	60000
#define FORCE_PATIENCE_US	INT64CONST(2000000)

PG_FUNCTION_INFO_V1(quorum_create_cluster);
PG_FUNCTION_INFO_V1(quorum_remove_member);
PG_FUNCTION_INFO_V1(quorum_leave_cluster);
PG_FUNCTION_INFO_V1(quorum_transfer_leadership);
PG_FUNCTION_INFO_V1(quorum_force_new_cluster);

static void
require_quorum_database(void)
{
	char	   *here;

	node_require_loaded();
	here = get_database_name(MyDatabaseId);
	if (here == NULL || strcmp(here, quorum_database) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("database \"%s\" does not take part in the cluster",
						here ? here : ""),
				 errhint("Connect to database \"%s\", or change quorum.database and restart.",
						 quorum_database)));
}

/* Post a request; an error answer becomes an error here. */
static void
request(NodeRequestKind kind, const void *data, Size len, NodeAnswer *answer)
{
	int			sqlstate;

	switch (node_request(kind, data, len, CLUSTER_REQUEST_TIMEOUT_MS, answer, &sqlstate))
	{
		case NODE_UNAVAILABLE:
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("the Raft worker did not take the request"),
					 errhint("See the server log and column detail of quorum.status.")));
			break;
		case NODE_UNKNOWN:
			ereport(ERROR,
					(errcode(ERRCODE_T_R_STATEMENT_COMPLETION_UNKNOWN),
					 errmsg("no answer to the request within %d s",
							CLUSTER_REQUEST_TIMEOUT_MS / 1000),
					 errhint("It may still take effect; see quorum.status and quorum.members.")));
			break;
		default:
			break;
	}
	if (sqlstate != 0)
		ereport(ERROR, (errcode(sqlstate), errmsg("%s", answer->message)));
}

/*
 * Poll the published status until cond() holds. Used for what takes a while
 * after the request itself was answered.
 */
static void
wait_for_status(bool (*cond) (const NodeStatus *status), const char *what)
{
	int64		deadline_us = node_monotonic_us() +
		(int64) CLUSTER_REQUEST_TIMEOUT_MS * 1000;
	NodeStatus *status = palloc(sizeof(NodeStatus));
	char		detail[NODE_DETAIL_LEN];

	for (;;)
	{
		LWLockAcquire(node_shared->status_lock, LW_SHARED);
		*status = node_shared->status;
		strlcpy(detail, node_shared->apply_detail, sizeof(detail));
		LWLockRelease(node_shared->status_lock);
		if (cond(status))
			break;
		if (node_monotonic_us() > deadline_us)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("gave up waiting until %s", what),
					 detail[0] ? errdetail("%s", detail) :
					 status->detail[0] ? errdetail("%s", status->detail) : 0,
					 errhint("It goes on in the background; see quorum.status.")));
		node_pause(10L);
	}
	pfree(status);
}

static bool
status_leads(const NodeStatus *status)
{
	return strcmp(status->role, "leader") == 0 &&
		pg_atomic_read_u32(&node_shared->has_quorum) != 0;
}

static bool
status_is_voter(const NodeStatus *status)
{
	uint32		self = node_id();

	for (int i = 0; i < status->nmembers; i++)
		if (status->members[i].id == self && self != 0)
			return !status->members[i].is_learner &&
				strcmp(status->role, "learner") != 0;
	return false;
}

Datum
quorum_create_cluster(PG_FUNCTION_ARGS)
{
	NodeAnswer	answer;
	pg_uuid_t  *id = palloc(sizeof(pg_uuid_t));

	require_quorum_database();
	request(NODE_REQ_CREATE, NULL, 0, &answer);
	wait_for_status(status_leads, "the new cluster has a leader");
	LWLockAcquire(node_shared->status_lock, LW_SHARED);
	*id = node_shared->status.cluster_id;
	LWLockRelease(node_shared->status_lock);
	PG_RETURN_UUID_P(id);
}

static void
check_address(const char *address)
{
	char		host[NODE_ADDRESS_LEN];
	int			port;

	if (!node_parse_address(address, host, sizeof(host), &port))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid address \"%s\"", address),
				 errdetail("An address has the form host:port, with a port from 1 to 65535.")));
}

static void
join_request(NodeRequestKind kind, const char *address, bool replace, NodeAnswer *answer)
{
	char		message[NODE_ADDRESS_LEN + 1];

	message[0] = replace ? 1 : 0;
	strlcpy(message + 1, address, sizeof(message) - 1);
	request(kind, message, 1 + strlen(message + 1), answer);
}

/* See node.h. */
void
node_join_probe(const char *address, bool replace, NodeSqlAddress *sql)
{
	NodeAnswer	answer;

	require_quorum_database();
	check_address(address);
	join_request(NODE_REQ_PROBE, address, replace, &answer);
	LWLockAcquire(node_shared->status_lock, LW_SHARED);
	*sql = node_shared->probed;
	LWLockRelease(node_shared->status_lock);
}

void
node_join(const char *address, bool replace)
{
	NodeAnswer	answer;

	join_request(NODE_REQ_JOIN, address, replace, &answer);
}

bool
node_joined(char *detail)
{
	bool		voter;

	LWLockAcquire(node_shared->status_lock, LW_SHARED);
	voter = status_is_voter(&node_shared->status);
	strlcpy(detail, node_shared->apply_detail[0] != '\0' ? node_shared->apply_detail :
			node_shared->status.detail, NODE_DETAIL_LEN);
	LWLockRelease(node_shared->status_lock);
	return voter;
}

Datum
quorum_remove_member(PG_FUNCTION_ARGS)
{
	char	   *name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	NodeAnswer	answer;

	node_require_member();
	request(NODE_REQ_REMOVE, name, strlen(name), &answer);
	PG_RETURN_VOID();
}

Datum
quorum_leave_cluster(PG_FUNCTION_ARGS)
{
	NodeAnswer	answer;

	node_require_member();
	request(NODE_REQ_REMOVE, quorum_node_name, strlen(quorum_node_name), &answer);
	PG_RETURN_VOID();
}

Datum
quorum_transfer_leadership(PG_FUNCTION_ARGS)
{
	char	   *name = PG_ARGISNULL(0) ? pstrdup("") :
		text_to_cstring(PG_GETARG_TEXT_PP(0));
	NodeAnswer	answer;

	node_require_member();
	request(NODE_REQ_TRANSFER, name, strlen(name), &answer);
	PG_RETURN_VOID();
}

/*
 * Not in the first moments without a leader, nor of a start: for some election
 * timeouts there must have been no quorum.
 */
static void
require_no_quorum(void)
{
	int64		until_us = node_monotonic_us() +
		Max(FORCE_PATIENCE_US, 4 * (int64) quorum_election_timeout_ms * 1000);

	while (node_monotonic_us() < until_us)
	{
		if (pg_atomic_read_u32(&node_shared->has_quorum) != 0)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("the cluster has a quorum"),
					 errhint("Members that are lost are taken out with quorum.remove_member.")));
		node_pause(20L);
	}
}

static char *
cluster_id_text(void)
{
	pg_uuid_t	id;

	LWLockAcquire(node_shared->status_lock, LW_SHARED);
	id = node_shared->status.cluster_id;
	LWLockRelease(node_shared->status_lock);
	return DatumGetCString(DirectFunctionCall1(uuid_out, UUIDPGetDatum(&id)));
}

/*
 * force_new_cluster() - the majority is lost for good: this member goes on
 * alone, as another cluster. Its id.
 */
Datum
quorum_force_new_cluster(PG_FUNCTION_ARGS)
{
	NodeAnswer	answer;
	char	   *old_id;
	char	   *new_id;

	if (!superuser())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be superuser to force a new cluster")));
	require_quorum_database();
	node_require_member();
	require_no_quorum();
	old_id = cluster_id_text();
	request(NODE_REQ_FORCE, NULL, 0, &answer);
	wait_for_status(status_leads, "this member leads");
	new_id = cluster_id_text();
	ereport(WARNING,
			(errmsg("this member goes on alone, as cluster %s", new_id),
			 errdetail("What the majority of cluster %s had committed and this member had not received is lost. "
					   "Members of that cluster are refused from now on.", old_id),
			 errhint("Make sure that no client reaches them any more. "
					 "New servers, or theirs with a new data directory, join with quorum.join_cluster.")));
	PG_RETURN_DATUM(DirectFunctionCall1(uuid_in, CStringGetDatum(new_id)));
}
