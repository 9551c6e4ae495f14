/*-------------------------------------------------------------------------
 *
 * ops.c
 *		What the replication layer hangs into the Raft worker (NodeOps).
 *
 * The certification map lives in the Raft worker's private memory and is built
 * anew at each of its starts from the tail of the log. No function here throws,
 * waits or allocates from PostgreSQL.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"

#include "node/node.h"
#include "replication/apply_internal.h"
#include "replication/certify.h"

/*
 * A key takes 24 bytes in a table that is at most two thirds full, so this is
 * some 96 MB when all of it is in use; pages that are not are not there.
 */
#define MAX_KEYS	(2 * 1024 * 1024)
#define MAX_TOKENS	(256 * 1024)

/* Of one turn of the worker; some 100 ns each when the map is out of the caches. */
#define TURN_KEYS	(32 * 1024)

static CertMap *map = NULL;

static CertMap *
get_map(void)
{
	if (map == NULL)
	{
		map = cert_create(MAX_KEYS, MAX_TOKENS);
		if (map == NULL)
			ereport(FATAL,
					(errcode(ERRCODE_OUT_OF_MEMORY),
					 errmsg("out of memory"),
					 errdetail("The certification map could not be made.")));
	}
	return map;
}

static bool
ops_begin_turn(void)
{
	return cert_begin_turn(get_map(), TURN_KEYS);
}

static NodeCertified
ops_certify(RaftToken token, const RaftBuf *payload, NodeAnswer *answer)
{
	CertConflict conflict;

	switch (cert_check_some(get_map(), token, payload->data, payload->len, &conflict))
	{
		case CERT_PASSED:
			return NODE_CERT_PASSED;
		case CERT_UNFINISHED:
			return NODE_CERT_UNFINISHED;
		case CERT_REFUSED:
			break;
	}
	answer->conflict_key = conflict.key;
	answer->conflict_index = conflict.index;
	answer->conflict_node = cert_token_at(map, conflict.index).node;
	strlcpy(answer->message, conflict.reason, sizeof(answer->message));
	return NODE_CERT_REFUSED;
}

static void
ops_appended(uint64 index, RaftToken token, const void *payload, Size len, RaftBuf *buf)
{
	if (buf != NULL)
		cert_appended_some(get_map(), index, token, buf);
	else
		cert_appended(get_map(), index, token, payload, len);
}

static void
ops_truncated(uint64 from)
{
	cert_truncated(get_map(), from);
}

static void
ops_coverage_starts(uint64 first)
{
	cert_set_floor(get_map(), first);
}

static uint64
ops_find_token(RaftToken token)
{
	return cert_find_token(get_map(), token);
}

static uint64
ops_token_floor(void)
{
	return cert_token_floor(get_map());
}

void
replication_install_ops(void)
{
	static const NodeOps ops = {
		.begin_turn = ops_begin_turn,
		.certify = ops_certify,
		.appended = ops_appended,
		.truncated = ops_truncated,
		.coverage_starts = ops_coverage_starts,
		.find_token = ops_find_token,
		.token_floor = ops_token_floor,
		.apply_watch = conflict_apply_watch,
	};

	node_set_ops(&ops);
}
