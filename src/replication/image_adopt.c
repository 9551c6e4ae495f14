/*-------------------------------------------------------------------------
 *
 * image_adopt.c
 *		A server that joins with tables of the cluster: it was removed, or is a
 *		copy of a member (pg_basebackup). Its tables are the image.
 *
 * The replication origin's progress says which entry they stand at; that is part
 * of the data directory as the tables are. If some member's log still reaches
 * back there, its own log begins behind that entry (of which only the term has to
 * be asked), and nothing is copied. If not, the tables are replaced as those of a
 * member that fell behind.
 *
 * Sequences were in another member's class of values, or in this one's former.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/xact.h"
#include "fmgr.h"
#include "utils/snapmgr.h"

#include "node/node.h"
#include "replication/image_internal.h"
#include "replication/sequences_internal.h"

PG_FUNCTION_INFO_V1(quorum_image_term);

/* _image_term(entry) - of an entry that this member's log goes on behind, or NULL. */
Datum
quorum_image_term(PG_FUNCTION_ARGS)
{
	uint64		term;

	node_require_member();
	term = node_image_term((uint64) PG_GETARG_INT64(0));
	if (term == 0)
		PG_RETURN_NULL();
	PG_RETURN_INT64((int64) term);
}

/* False: not possible, at this member at least. */
bool
image_adopt(ImageSource *source)
{
	NodeImagePoint point = {.index = node_applied_index()};
	ImageRows  *rows;

	if (point.index == 0 || !node_image_may_adopt())
		return false;

	/* its log may begin further up, from a former attempt with an image */
	if (point.index + 1 < node_log_first_index())
		return false;
	rows = image_query(source->conn, psprintf("SELECT quorum._image_term(" UINT64_FORMAT ")", point.index));
	if (rows->n != 1 || image_value(rows, 0, 0) == NULL)
		return false;
	point.term = strtoull(image_value(rows, 0, 0), NULL, 10);
	point.conf_index = point.index;
	ereport(LOG,
			(errmsg("pg_quorum: this server's tables stand at entry " UINT64_FORMAT ", which member \"%s\" still has the log behind; nothing is copied",
					point.index, source->sql.name)));
	node_image_adopted();
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	(void) sequences_fix_all(true, true, NULL, NULL);
	PopActiveSnapshot();
	CommitTransactionCommand();
	node_image_loaded(&point);
	node_image_done(&point);
	return true;
}
