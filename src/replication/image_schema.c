/*-------------------------------------------------------------------------
 *
 * image_schema.c
 *		The schema of replicated tables, by pg_dump.
 *
 * pg_dump knows how to write down a schema, so it is left to it: this server's
 * own binary, run against the giving member under the image's snapshot. Its
 * script is split by the parser and run here statement by statement, each in a
 * subtransaction. What is not of a relation (types, functions, schemas,
 * extensions ...) may be there already, or fail where nothing here needs it: a
 * statement about a replicated table that does need it fails by itself, and that
 * is an error.
 *
 * pg_dump is a child of this process, read through a pipe without blocking.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <fcntl.h>
#include <unistd.h>

#include "access/xact.h"
#include "catalog/index.h"
#include "catalog/namespace.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "parser/parser.h"
#include "storage/fd.h"
#include "storage/latch.h"
#include "tcop/tcopprot.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/wait_event.h"

#include "compat.h"
#include "node/node_internal.h"
#include "replication/image_internal.h"

#define DUMP_ERROR_FILE		NODE_DIRECTORY "/dump.err"
#define MAX_COMMAND			120000	/* bytes; the kernel's limit of one argument is 128 KB */

/* ---------- running pg_dump ---------- */

static void
append_argument(StringInfo command, const char *argument)
{
	appendStringInfoString(command, " '");
	for (const char *c = argument; *c; c++)
	{
		if (*c == '\'')
			appendStringInfoString(command, "'\\''");
		else
			appendStringInfoChar(command, *c);
	}
	appendStringInfoChar(command, '\'');
}

static char *
pg_dump_path(void)
{
	char	   *path = pstrdup(my_exec_path);
	char	   *slash = strrchr(path, '/');

	if (slash == NULL)
		elog(ERROR, "the server does not know where its binaries are");
	*slash = '\0';
	path = psprintf("%s/pg_dump", path);
	if (access(path, X_OK) != 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not execute \"%s\": %m", path),
				 errdetail("pg_dump brings over the schema of the replicated tables."),
				 errhint("Install the client programs of this PostgreSQL version beside the server.")));
	return path;
}

static char *
dump_command(const char *conninfo, const char *section, const char *snapshot, List *excluded)
{
	StringInfoData command;
	Size		bare;
	ListCell   *lc;

	initStringInfo(&command);
	append_argument(&command, pg_dump_path());
	append_argument(&command, psprintf("--dbname=%s", conninfo));
	append_argument(&command, psprintf("--section=%s", section));
	if (snapshot)
		append_argument(&command, psprintf("--snapshot=%s", snapshot));
	appendStringInfoString(&command, " --no-password --no-tablespaces --no-publications --no-subscriptions"
						   " --exclude-schema=quorum --lock-wait-timeout=60000");
	bare = command.len;
	foreach(lc, excluded)
	{
		append_argument(&command, psprintf("--exclude-table=%s", (char *) lfirst(lc)));
		if (command.len > MAX_COMMAND)
		{
			/* then it looks at all of them; their statements are passed over */
			command.len = bare;
			command.data[bare] = '\0';
			break;
		}
	}
	appendStringInfo(&command, " 2>%s", DUMP_ERROR_FILE);
	return command.data;
}

static char *
first_complaint(void)
{
	char		text[NODE_DETAIL_LEN * 2];
	int			fd = open(DUMP_ERROR_FILE, O_RDONLY);
	ssize_t		len = fd >= 0 ? read(fd, text, sizeof(text) - 1) : 0;

	if (fd >= 0)
		close(fd);
	text[Max(len, 0)] = '\0';
	while (len > 0 && text[len - 1] == '\n')
		text[--len] = '\0';
	return pstrdup(text);
}

static char *
read_all(FILE *stream)
{
	StringInfoData text;
	int			fd = fileno(stream);

	initStringInfo(&text);
	if (fcntl(fd, F_SETFL, O_NONBLOCK) < 0)
		elog(ERROR, "could not set pipe to nonblocking mode: %m");
	for (;;)
	{
		ssize_t		len;

		enlargeStringInfo(&text, 65536);
		len = read(fd, text.data + text.len, 65536);
		if (len > 0)
		{
			text.len += len;
			text.data[text.len] = '\0';
			continue;
		}
		if (len == 0)
			return text.data;
		if (errno != EAGAIN && errno != EINTR)
			ereport(ERROR, (errcode_for_file_access(), errmsg("could not read from pg_dump: %m")));
		(void) WaitLatchOrSocket(MyLatch, WL_LATCH_SET | WL_SOCKET_READABLE | WL_EXIT_ON_PM_DEATH,
								 fd, -1L, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

static char *
run_pg_dump(const char *command)
{
	FILE	   *stream = OpenPipeStream(command, "r");
	char	   *text;
	int			status;

	if (stream == NULL)
		ereport(ERROR, (errcode_for_file_access(), errmsg("could not run pg_dump: %m")));
	text = read_all(stream);
	status = ClosePipeStream(stream);
	if (status != 0)
	{
		char	   *complaint = first_complaint();

		ereport(ERROR,
				(errcode(strstr(complaint, "onnection") != NULL ? ERRCODE_CONNECTION_FAILURE :
						 ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
				 errmsg("pg_dump could not read the schema of the member that gives the image"),
				 errdetail_internal("%s", complaint[0] ? complaint : wait_result_to_str(status))));
	}
	(void) unlink(DUMP_ERROR_FILE);
	return text;
}

/* ---------- reading its script ---------- */

/*
 * Lines for psql alone: newer versions of pg_dump put \restrict and \unrestrict
 * around the script, with a random word, so no other line is like them.
 */
static void
blank_psql_lines(char *script)
{
	char	   *begin = strstr(script, "\n\\restrict ");
	char	   *end;
	char	   *word;
	char	   *last;

	if (begin == NULL)
		return;
	begin++;
	end = strchr(begin, '\n');
	if (end == NULL)
		return;
	word = psprintf("\n\\unrestrict %s", pnstrdup(begin + strlen("\\restrict "),
												  end - begin - strlen("\\restrict ")));
	last = strstr(end, word);
	memset(begin, ' ', end - begin);
	if (last != NULL)
		memset(last + 1, ' ', strlen(word) - 1);
}

static RangeVar *
range_var_of_names(List *names, int drop)
{
	names = list_truncate(list_copy(names), list_length(names) - drop);
	return names == NIL ? NULL : makeRangeVarFromNameList(names);
}

/* The relation that a COMMENT, GRANT ... is about. */
static RangeVar *
target_of_object(ObjectType type, Node *object)
{
	switch (type)
	{
		case OBJECT_TABLE:
		case OBJECT_SEQUENCE:
		case OBJECT_VIEW:
		case OBJECT_MATVIEW:
		case OBJECT_FOREIGN_TABLE:
		case OBJECT_INDEX:
			return range_var_of_names((List *) object, 0);
		case OBJECT_COLUMN:
		case OBJECT_TABCONSTRAINT:
		case OBJECT_TRIGGER:
		case OBJECT_RULE:
		case OBJECT_POLICY:
			return range_var_of_names((List *) object, 1);
		default:
			return NULL;
	}
}

/* The relation that the statement is about, if any. */
static RangeVar *
target_of(Node *stmt)
{
	switch (nodeTag(stmt))
	{
		case T_CreateStmt:
		case T_CreateForeignTableStmt:
			return ((CreateStmt *) stmt)->relation;
		case T_CreateSeqStmt:
			return ((CreateSeqStmt *) stmt)->sequence;
		case T_AlterSeqStmt:
			return ((AlterSeqStmt *) stmt)->sequence;
		case T_IndexStmt:
			return ((IndexStmt *) stmt)->relation;
		case T_AlterTableStmt:
			return ((AlterTableStmt *) stmt)->objtype == OBJECT_TYPE ? NULL :
				((AlterTableStmt *) stmt)->relation;
		case T_CreateTrigStmt:
			return ((CreateTrigStmt *) stmt)->relation;
		case T_RuleStmt:
			return ((RuleStmt *) stmt)->relation;
		case T_ViewStmt:
			return ((ViewStmt *) stmt)->view;
		case T_CreateTableAsStmt:
			return ((CreateTableAsStmt *) stmt)->into->rel;
		case T_CreatePolicyStmt:
			return ((CreatePolicyStmt *) stmt)->table;
		case T_CreateStatsStmt:
			{
				List	   *from = ((CreateStatsStmt *) stmt)->relations;

				return from != NIL && IsA(linitial(from), RangeVar) ? linitial(from) : NULL;
			}
		case T_CommentStmt:
			return target_of_object(((CommentStmt *) stmt)->objtype, ((CommentStmt *) stmt)->object);
		case T_SecLabelStmt:
			return target_of_object(((SecLabelStmt *) stmt)->objtype, ((SecLabelStmt *) stmt)->object);
		case T_GrantStmt:
			{
				GrantStmt  *grant = (GrantStmt *) stmt;

				if (grant->targtype == ACL_TARGET_OBJECT && grant->objects != NIL &&
					(grant->objtype == OBJECT_TABLE || grant->objtype == OBJECT_SEQUENCE))
					return linitial(grant->objects);
				return NULL;
			}
		default:
			return NULL;
	}
}

static bool
is_of_interest(Node *stmt)
{
	switch (nodeTag(stmt))
	{
		case T_VariableSetStmt:
			/* a table's access method; all else is about the script's reading */
			return strcmp(((VariableSetStmt *) stmt)->name, "default_table_access_method") == 0;
		case T_SelectStmt:
		case T_CreateEventTrigStmt:
		case T_AlterEventTrigStmt:
		case T_CreatePublicationStmt:
		case T_CreateSubscriptionStmt:
		case T_AlterDefaultPrivilegesStmt:
			return false;
		case T_CreateExtensionStmt:
			return strcmp(((CreateExtensionStmt *) stmt)->extname, "pg_quorum") != 0;
		case T_CommentStmt:
			return ((CommentStmt *) stmt)->objtype != OBJECT_EVENT_TRIGGER &&
				((CommentStmt *) stmt)->objtype != OBJECT_EXTENSION;
		case T_AlterOwnerStmt:
			return ((AlterOwnerStmt *) stmt)->objectType != OBJECT_EVENT_TRIGGER;
		default:
			return true;
	}
}

/* A function that is here may be of an older kind: take the source's. */
static char *
statement_text(const char *script, const RawStmt *raw)
{
	int			len = raw->stmt_len > 0 ? raw->stmt_len : (int) strlen(script + raw->stmt_location);
	char	   *text = pnstrdup(script + raw->stmt_location, len);
	char	   *create;

	if (!IsA(raw->stmt, CreateFunctionStmt) || ((CreateFunctionStmt *) raw->stmt)->replace)
		return text;
	create = strstr(text, "\nCREATE ");
	return create == NULL ? text :
		psprintf("CREATE OR REPLACE %s", create + strlen("\nCREATE "));
}

List *
image_dump(const char *conninfo, const char *section, const char *snapshot, List *excluded)
{
	char	   *script = run_pg_dump(dump_command(conninfo, section, snapshot, excluded));
	List	   *statements = NIL;
	ListCell   *lc;

	blank_psql_lines(script);
	foreach(lc, raw_parser(script, RAW_PARSE_DEFAULT))
	{
		RawStmt    *raw = lfirst_node(RawStmt, lc);
		ImageStatement *statement;

		if (!is_of_interest(raw->stmt))
			continue;
		statement = palloc0(sizeof(ImageStatement));
		statement->text = statement_text(script, raw);
		statement->stmt = raw->stmt;
		statement->target = target_of(raw->stmt);
		statements = lappend(statements, statement);
	}
	return statements;
}

TypeName *
image_made_type(const ImageStatement *statement)
{
	switch (nodeTag(statement->stmt))
	{
		case T_CreateEnumStmt:
			return makeTypeNameFromNameList(((CreateEnumStmt *) statement->stmt)->typeName);
		case T_CreateDomainStmt:
			return makeTypeNameFromNameList(((CreateDomainStmt *) statement->stmt)->domainname);
		case T_CreateRangeStmt:
			return makeTypeNameFromNameList(((CreateRangeStmt *) statement->stmt)->typeName);
		case T_CompositeTypeStmt:
			{
				const RangeVar *name = ((CompositeTypeStmt *) statement->stmt)->typevar;

				return makeTypeNameFromNameList(name->schemaname ?
												list_make2(makeString(name->schemaname), makeString(name->relname)) :
												list_make1(makeString(name->relname)));
			}
		default:
			return NULL;
	}
}

/* ---------- roles ---------- */

static void
note_role(List **missing, const RoleSpec *role)
{
	ListCell   *lc;

	if (role == NULL || role->roletype != ROLESPEC_CSTRING ||
		OidIsValid(get_role_oid(role->rolename, true)))
		return;
	foreach(lc, *missing)
		if (strcmp(lfirst(lc), role->rolename) == 0)
			return;
	*missing = lappend(*missing, role->rolename);
}

static void
note_roles(List **missing, List *roles)
{
	ListCell   *lc;

	foreach(lc, roles)
		note_role(missing, lfirst(lc));
}

/* Owners and grantees of what will be made: ERROR that lists those who are not here. */
void
image_check_roles(List *statements)
{
	List	   *missing = NIL;
	StringInfoData names;
	ListCell   *lc;

	foreach(lc, statements)
	{
		Node	   *stmt = ((ImageStatement *) lfirst(lc))->stmt;

		if (IsA(stmt, AlterOwnerStmt))
			note_role(&missing, ((AlterOwnerStmt *) stmt)->newowner);
		else if (IsA(stmt, GrantStmt))
			note_roles(&missing, ((GrantStmt *) stmt)->grantees);
		else if (IsA(stmt, CreatePolicyStmt))
			note_roles(&missing, ((CreatePolicyStmt *) stmt)->roles);
		else if (IsA(stmt, AlterTableStmt))
		{
			ListCell   *cmd;

			foreach(cmd, ((AlterTableStmt *) stmt)->cmds)
				if (((AlterTableCmd *) lfirst(cmd))->subtype == AT_ChangeOwner)
					note_role(&missing, ((AlterTableCmd *) lfirst(cmd))->newowner);
		}
	}
	if (missing == NIL)
		return;
	initStringInfo(&names);
	foreach(lc, missing)
		appendStringInfo(&names, "%s\"%s\"", names.len > 0 ? ", " : "", (char *) lfirst(lc));
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("roles that own or use replicated objects do not exist on this server: %s", names.data),
			 errhint("Create them here (pg_dumpall --roles-only on another member writes the statements).")));
}

/* ---------- running it ---------- */

ErrorData *
image_run_statement(const char *text, bool trial)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	ErrorData  *volatile edata = NULL;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		int			result;

		if (SPI_connect() != SPI_OK_CONNECT)
			elog(ERROR, "SPI_connect failed");
		result = SPI_execute(text, false, 0);
		if (result < 0)
			elog(ERROR, "could not run \"%s\": %s", text, SPI_result_code_string(result));
		SPI_finish();
		if (trial)
			RollbackAndReleaseCurrentSubTransaction();
		else
			ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		edata = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	return edata;
}

static bool
is_there_already(int sqlstate)
{
	return sqlstate == ERRCODE_DUPLICATE_OBJECT || sqlstate == ERRCODE_DUPLICATE_TABLE ||
		sqlstate == ERRCODE_DUPLICATE_FUNCTION || sqlstate == ERRCODE_DUPLICATE_SCHEMA;
}

/* Of a table that is here: indexes and triggers, nothing that would change it. */
static bool
completes(Node *stmt)
{
	ListCell   *lc;

	if (IsA(stmt, IndexStmt) || IsA(stmt, CreateTrigStmt) || IsA(stmt, CreateStatsStmt))
		return true;
	if (!IsA(stmt, AlterTableStmt))
		return false;
	foreach(lc, ((AlterTableStmt *) stmt)->cmds)
		if (((AlterTableCmd *) lfirst(lc))->subtype != AT_EnableAlwaysTrig)
			return false;
	return true;
}

/* An index is its table's. */
static ImageUse
use_of_index(const RangeVar *name, ImageUseFn use, void *arg)
{
	Oid			relid = RangeVarGetRelid(name, NoLock, true);
	char		kind = OidIsValid(relid) ? get_rel_relkind(relid) : '\0';

	if (kind != RELKIND_INDEX && kind != RELKIND_PARTITIONED_INDEX)
		return IMAGE_LEAVE;
	relid = IndexGetRelation(relid, false);
	return use(get_namespace_name(get_rel_namespace(relid)), get_rel_name(relid), arg);
}

void
image_run_statements(List *statements, ImageUseFn use, void *arg)
{
	ListCell   *lc;

	foreach(lc, statements)
	{
		ImageStatement *statement = lfirst(lc);
		ErrorData  *edata;
		ImageUse	what = IMAGE_CREATE;

		CHECK_FOR_INTERRUPTS();
		if (statement->target != NULL)
			what = use(statement->target->schemaname ? statement->target->schemaname : "",
					   statement->target->relname, arg);
		if (what == IMAGE_LEAVE)
			what = use_of_index(statement->target, use, arg);
		if (what == IMAGE_LEAVE || (what == IMAGE_COMPLETE && !completes(statement->stmt)))
			continue;
		edata = image_run_statement(statement->text, false);
		if (edata == NULL)
			continue;
		if (statement->target == NULL || what == IMAGE_COMPLETE)
		{
			/* whatever needs it fails by itself */
			if (!is_there_already(edata->sqlerrcode))
				ereport(LOG,
						(errcode(edata->sqlerrcode),
						 errmsg("pg_quorum: a statement of the cluster's schema was passed over: %s", edata->message),
						 errdetail_internal("%s", statement->text)));
			FreeErrorData(edata);
			continue;
		}
		ereport(ERROR,
				(errcode(edata->sqlerrcode),
				 errmsg("could not bring over the schema of table \"%s.%s\": %s",
						statement->target->schemaname ? statement->target->schemaname : "",
						statement->target->relname, edata->message),
				 edata->detail ? errdetail_internal("%s", edata->detail) : 0,
				 edata->hint ? errhint("%s", edata->hint) : 0,
				 errcontext("statement \"%s\"", statement->text)));
	}
}
