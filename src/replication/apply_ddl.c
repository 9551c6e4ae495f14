/*-------------------------------------------------------------------------
 *
 * apply_ddl.c
 *		TRUNCATE and statements of the log, inside the apply worker's transaction.
 *
 * A statement runs as the role that ran it first, under the search_path and
 * settings that it had there, with no more rights than that role has here.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_inherits.h"
#include "commands/tablecmds.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "replication/apply_internal.h"
#include "replication/ddl.h"
#include "replication/resync.h"
#include "replication/tables.h"

/* ---------- TRUNCATE ---------- */

typedef struct TruncateList
{
	List	   *rels;
	List	   *relids;
	List	   *logged;
} TruncateList;

static void
add_relation(TruncateList *list, Oid relid, LOCKMODE lockmode)
{
	Relation	rel;

	if (list_member_oid(list->relids, relid))
		return;
	rel = table_open(relid, lockmode);
	if (RELATION_IS_OTHER_TEMP(rel))
	{
		table_close(rel, lockmode);
		return;
	}
	list->rels = lappend(list->rels, rel);
	list->relids = lappend_oid(list->relids, relid);
	if (RelationIsLogicallyLogged(rel))
		list->logged = lappend_oid(list->logged, relid);
}

/* All that the statement emptied there is named; nothing cascades here. */
void
apply_truncate(WsRecord *rec, uint64 index)
{
	TruncateList list = {0};
	ListCell   *lc;

	for (uint32 i = 0; i < rec->ntables; i++)
	{
		Oid			relid = tables_oid_of(rec->table_ids[i]);
		List	   *children;

		if (resync_covers(rec->table_ids[i], index))
			continue;
		if (!OidIsValid(relid))
			ereport(ERROR,
					(errcode(ERRCODE_UNDEFINED_TABLE),
					 errmsg("replicated table number %u is not known on this member",
							rec->table_ids[i]),
					 errdetail("The log truncates it. Table quorum.replicated_table lists the numbers.")));
		add_relation(&list, relid, AccessExclusiveLock);
		if (get_rel_relkind(relid) != RELKIND_PARTITIONED_TABLE)
			continue;
		children = find_all_inheritors(relid, AccessExclusiveLock, NULL);
		foreach(lc, children)
			add_relation(&list, lfirst_oid(lc), NoLock);
	}

	if (list.rels == NIL)
		return;
	ddl_depth++;
	PG_TRY();
	{
		compat_truncate(list.rels, list.relids, list.logged, rec->restart_identity);
	}
	PG_FINALLY();
	{
		ddl_depth--;
	}
	PG_END_TRY();

	foreach(lc, list.rels)
		table_close((Relation) lfirst(lc), NoLock);
}

/* ---------- statements ---------- */

static char *
zero_terminated(WsString string)
{
	return pnstrdup(string.data, string.len);
}

static void
set_for_statement(const char *name, const char *value)
{
	(void) set_config_option(name, value, PGC_SUSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
}

/* An error leaves user and settings to the abort of the transaction. */
void
apply_statement(WsRecord *rec)
{
	bool		own = rec->role.len == 0;
	Oid			role = own ? GetUserId() : get_role_oid(zero_terminated(rec->role), false);
	char	   *statement = zero_terminated(rec->statement);
	int			nest_level;
	Oid			saved_user;
	int			saved_context;
	int			result;

	GetUserIdAndSecContext(&saved_user, &saved_context);
	nest_level = NewGUCNestLevel();
	for (uint32 i = 0; i < rec->nsettings; i++)
		set_for_statement(zero_terminated(rec->setting_names[i]),
						  zero_terminated(rec->setting_values[i]));
	set_for_statement("search_path", zero_terminated(rec->search_path));
	SetUserIdAndSecContext(role, saved_context | SECURITY_LOCAL_USERID_CHANGE);

	PushActiveSnapshot(GetTransactionSnapshot());
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	result = SPI_execute(statement, false, 0);
	if (result < 0)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("statement of the log cannot be run here: %s",
						SPI_result_code_string(result)),
				 errdetail_internal("%s", statement)));
	SPI_finish();
	PopActiveSnapshot();

	SetUserIdAndSecContext(saved_user, saved_context);
	AtEOXact_GUC(true, nest_level);
}
