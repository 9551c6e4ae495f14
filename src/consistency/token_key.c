/*-------------------------------------------------------------------------
 *
 * token_key.c
 *		The key that authenticates causal tokens. See token.h.
 *
 * It is a row of quorum.token_key, which nobody but superusers may read, and
 * gets there by an entry of the log (quorum._set_token_key). Once it is there it
 * stays, so each process reads it once. The entry is one of the applier's on
 * every member, so a session can have it made in the middle of a transaction.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "consistency/token.h"
#include "node/node.h"
#include "replication/replication.h"
#include "replication/writeset.h"

#define KEY_TABLE		"token_key"
#define Anum_token_key	2
#define MAKE_PATIENCE_US	INT64CONST(5000000)

PG_FUNCTION_INFO_V1(quorum_set_token_key);

static uint8 key[TOKEN_KEY_LEN];
static bool known = false;
static Oid	table_oid = InvalidOid;
static bool callback_registered = false;

static void
invalidate(Datum arg, Oid relid)
{
	if (OidIsValid(relid) && relid != table_oid)
		return;
	known = false;
	table_oid = InvalidOid;
}

static Oid
find_table(void)
{
	if (!callback_registered)
	{
		CacheRegisterRelcacheCallback(invalidate, (Datum) 0);
		callback_registered = true;
	}
	if (!OidIsValid(table_oid))
	{
		Oid			namespace_id = get_namespace_oid("quorum", true);

		if (OidIsValid(namespace_id))
			table_oid = get_relname_relid(KEY_TABLE, namespace_id);
	}
	return table_oid;
}

const uint8 *
token_key_cached(void)
{
	return known ? key : NULL;
}

/*
 * With a snapshot of its own: whatever the isolation level, the key counts from
 * the moment it is there.
 */
static bool
read_table(void)
{
	Relation	rel = try_relation_open(table_oid, AccessShareLock);
	SysScanDesc scan;
	HeapTuple	tuple;
	bool		found = false;

	if (rel == NULL)
		return false;
	scan = systable_beginscan(rel, InvalidOid, false, NULL, 0, NULL);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		bool		isnull;
		Datum		value = heap_getattr(tuple, Anum_token_key, RelationGetDescr(rel), &isnull);
		bytea	   *bytes = isnull ? NULL : DatumGetByteaPP(value);

		if (bytes == NULL || VARSIZE_ANY_EXHDR(bytes) != TOKEN_KEY_LEN)
			continue;
		memcpy(key, VARDATA_ANY(bytes), TOKEN_KEY_LEN);
		found = true;
	}
	systable_endscan(scan);
	relation_close(rel, AccessShareLock);
	return found;
}

const uint8 *
token_key_load(void)
{
	pg_uuid_t	cluster;

	if (known)
		return key;
	if (!IsTransactionState() || !node_cluster_id(&cluster) || !OidIsValid(find_table()))
		return NULL;
	if (!read_table())
		return NULL;
	known = true;
	return key;
}

/* ---------- making it ---------- */

static char *
put_varint(char *to, uint64 value)
{
	while (value >= 0x80)
	{
		*to++ = (char) (value | 0x80);
		value >>= 7;
	}
	*to++ = (char) value;
	return to;
}

static char *
put_string(char *to, const char *text)
{
	Size		len = strlen(text);

	to = put_varint(to, len);
	memcpy(to, text, len);
	return to + len;
}

/* An entry of one statement and no keys, to be run by the applier (writeset.h). */
static Size
build_entry(char *to)
{
	uint8		fresh[TOKEN_KEY_LEN];
	char		statement[64 + 2 * TOKEN_KEY_LEN];
	char	   *begin = to;
	char	   *at;

	if (!pg_strong_random(fresh, sizeof(fresh)))
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not get random bytes for the key of causal tokens")));
	at = statement + sprintf(statement, "SELECT quorum._set_token_key('");
	for (int i = 0; i < TOKEN_KEY_LEN; i++)
		at += sprintf(at, "%02x", fresh[i]);
	strcpy(at, "')");

	memset(to, 0, WS_HEADER_SIZE);
	to[0] = WS_VERSION;
	to[1] = WS_KIND_TRANSACTION;
	to[8] = 1;					/* one record */
	to += WS_HEADER_SIZE;
	*to++ = 'X';
	to = put_string(to, "quorum_admin");	/* a role that every member has */
	to = put_string(to, "pg_catalog");
	to = put_varint(to, 0);
	to = put_string(to, statement);
	explicit_bzero(fresh, sizeof(fresh));
	explicit_bzero(statement, sizeof(statement));
	return to - begin;
}

const uint8 *
token_key_make(void)
{
	char		entry[512];
	NodePart	part = {entry, 0};
	NodeAnswer	answer;
	const uint8 *have = token_key_load();

	if (have != NULL || !node_is_member() || !OidIsValid(find_table()))
		return have;
	part.len = build_entry(entry);
	if (node_submit(node_next_token(), &part, 1, conflict_is_doomed, &answer) == NODE_COMMITTED)
		(void) node_wait_applied(answer.index, node_monotonic_us() + MAKE_PATIENCE_US);
	explicit_bzero(entry, sizeof(entry));
	CHECK_FOR_INTERRUPTS();
	AcceptInvalidationMessages();
	return token_key_load();
}

/* ---------- in the apply worker ---------- */

Datum
quorum_set_token_key(PG_FUNCTION_ARGS)
{
	Oid			types[] = {TEXTOID};
	Datum		values[] = {PG_GETARG_DATUM(0)};
	Oid			user;
	int			context;

	if (!replication_is_applying())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("quorum.%s is part of the log and cannot be called", "_set_token_key")));
	GetUserIdAndSecContext(&user, &context);
	SetUserIdAndSecContext(BOOTSTRAP_SUPERUSERID, context | SECURITY_LOCAL_USERID_CHANGE);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
	/* one that is there stays: members that made one at the same time agree */
	if (SPI_execute_with_args("INSERT INTO quorum.token_key (id, key) "
							  "VALUES (1, pg_catalog.decode($1, 'hex')) ON CONFLICT DO NOTHING",
							  1, types, values, NULL, false, 0) != SPI_OK_INSERT)
		elog(ERROR, "the key of causal tokens could not be stored");
	SPI_finish();
	SetUserIdAndSecContext(user, context);
	if (OidIsValid(find_table()))
		CacheInvalidateRelcacheByRelid(table_oid);
	PG_RETURN_VOID();
}
