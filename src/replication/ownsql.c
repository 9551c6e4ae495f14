/*-------------------------------------------------------------------------
 *
 * ownsql.c
 *		SQL on our own catalog. See ownsql.h.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "catalog/pg_authid.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/guc.h"
#include "utils/snapmgr.h"

#include "replication/ownsql.h"

void
ownsql_begin(OwnSql *saved)
{
	GetUserIdAndSecContext(&saved->user, &saved->sec_context);
	SetUserIdAndSecContext(BOOTSTRAP_SUPERUSERID,
						   saved->sec_context | SECURITY_LOCAL_USERID_CHANGE);
	saved->nest_level = NewGUCNestLevel();
	(void) set_config_option("search_path", "pg_catalog", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
}

void
ownsql_end(const OwnSql *saved)
{
	SPI_finish();
	AtEOXact_GUC(true, saved->nest_level);
	SetUserIdAndSecContext(saved->user, saved->sec_context);
}

void
ownsql_run(const char *sql, int nargs, Oid *types, Datum *values, const char *nulls, int expected)
{
	int			result = SPI_execute_with_args(sql, nargs, types, values, nulls, false, 0);

	if (result != expected)
		elog(ERROR, "unexpected result %d of \"%s\"", result, sql);
}

void
ownsql_look(const char *sql, int nargs, Oid *types, Datum *values)
{
	int			result;

	PushActiveSnapshot(GetLatestSnapshot());
	result = SPI_execute_with_args(sql, nargs, types, values, NULL, true, 0);
	PopActiveSnapshot();
	if (result != SPI_OK_SELECT)
		elog(ERROR, "unexpected result %d of \"%s\"", result, sql);
}

char *
ownsql_text(uint64 row, int column)
{
	if (row >= SPI_processed)
		return NULL;
	return SPI_getvalue(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column);
}
