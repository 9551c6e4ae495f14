/*-------------------------------------------------------------------------
 *
 * settings.c
 *		Settings of the session side (interface.md, Settings).
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "commands/dbcommands.h"
#include "miscadmin.h"
#include "utils/guc.h"

#include "node/node.h"
#include "replication/gate.h"
#include "replication/session.h"

int			quorum_mixed_transactions = QUORUM_MIXED_ERROR;
int			quorum_replicate_ddl = QUORUM_DDL_REPLICATED;
int			quorum_max_transaction_size_kb = 128 * 1024;
bool		quorum_debug_apply_hold = false;

static const struct config_enum_entry mixed_values[] = {
	{"error", QUORUM_MIXED_ERROR, false},
	{"warn", QUORUM_MIXED_WARN, false},
	{"allow", QUORUM_MIXED_ALLOW, false},
	{NULL, 0, false}
};

static const struct config_enum_entry ddl_values[] = {
	{"off", QUORUM_DDL_OFF, false},
	{"replicated", QUORUM_DDL_REPLICATED, false},
	{"all", QUORUM_DDL_ALL, false},
	{NULL, 0, false}
};

void
session_define_settings(void)
{
	DefineCustomEnumVariable("quorum.mixed_transactions",
							 "Transactions that change replicated and ordinary permanent tables.",
							 "After a crash only the replicated half of such a transaction is sure to be there.",
							 &quorum_mixed_transactions, QUORUM_MIXED_ERROR, mixed_values,
							 PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomEnumVariable("quorum.replicate_ddl",
							 "Which schema statements travel in the log.",
							 "off: only quorum.execute_ddl; replicated: those on replicated tables; all: every one.",
							 &quorum_replicate_ddl, QUORUM_DDL_REPLICATED, ddl_values,
							 PGC_SUSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("quorum.ddl_gate_timeout",
							"How long a schema statement may keep writers of its tables waiting on the other servers.",
							"Past it they go on, and the statement is refused if they were first. 0: never keep them waiting.",
							&quorum_ddl_gate_timeout_ms, 60000, 0, INT_MAX,
							PGC_USERSET, GUC_UNIT_MS, NULL, NULL, NULL);
	DefineCustomIntVariable("quorum.max_transaction_size",
							"Largest write set of one transaction.",
							NULL, &quorum_max_transaction_size_kb,
							128 * 1024, 64, 1000 * 1024,
							PGC_SUSET, GUC_UNIT_KB, NULL, NULL, NULL);
	DefineCustomBoolVariable("quorum.debug_apply_hold",
							 "For tests: the apply worker of this server applies nothing.",
							 NULL, &quorum_debug_apply_hold, false,
							 PGC_SIGHUP,
							 GUC_SUPERUSER_ONLY | GUC_NO_SHOW_ALL | GUC_NOT_IN_SAMPLE,
							 NULL, NULL, NULL);
}

bool
session_in_quorum_database(void)
{
	static Oid	known = InvalidOid; /* a process never changes its database */
	static bool answer = false;

	if (MyDatabaseId != known)
	{
		char	   *name;

		if (!OidIsValid(MyDatabaseId))
			return false;
		name = get_database_name(MyDatabaseId);
		answer = name != NULL && strcmp(name, quorum_database) == 0;
		known = MyDatabaseId;
	}
	return answer;
}
