/*-------------------------------------------------------------------------
 *
 * applied.c
 *		The session's side of waiting until others have applied its entry. The
 *		worker's: worker_applied.c.
 *
 * Runs after the commit, with interrupts held: nothing here throws. A Raft
 * worker that is started anew meanwhile is asked again. Should it not answer
 * at all (it is busy, or gone), the session's own clock ends the wait.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "miscadmin.h"

#include "node/node_internal.h"

#define GRACE_US	INT64CONST(2000000)

NodeApplied
node_wait_applied_elsewhere(uint64 index, bool all, int64 deadline_us,
							char message[NODE_DETAIL_LEN])
{
	NodeAppliedRequest request;

	memset(&request, 0, sizeof(request));
	request.index = index;
	request.all = all;
	request.deadline_us = deadline_us;
	message[0] = '\0';
	for (;;)
	{
		NodeAnswer	answer;
		bool		interrupted;
		NodeVerdict verdict = node_request_held(NODE_REQ_APPLIED, &request, sizeof(request),
												deadline_us ? deadline_us + GRACE_US : 0,
												&interrupted, &answer);

		if (interrupted)
			return NODE_APPLIED_INTERRUPTED;
		if (verdict == NODE_UNAVAILABLE || verdict == NODE_UNKNOWN)
			return NODE_APPLIED_LATE;
		if (answer.index == 0)
			continue;			/* the worker was restarted: once more */
		strlcpy(message, answer.message, NODE_DETAIL_LEN);
		return (NodeApplied) answer.index;
	}
}
