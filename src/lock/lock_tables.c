/*-------------------------------------------------------------------------
 *
 * lock_tables.c
 *		Finding rows of the lock tables (lock_tables.h).
 *
 * Scans use a snapshot of the moment (systable_beginscan() takes one for tables
 * that are no catalogs), not the transaction's: what a session has to know is
 * what is applied now.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/namespace.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"

#include "compat.h"
#include "lock/lock_tables.h"

static const char *const table_names[] = {
	"lock_grant", "lock_memory", "lock_lease", "lock_loss"
};

static const char *const index_names[] = {
	"lock_grant_pkey", "lock_memory_pkey", "lock_lease_pkey", "lock_loss_pkey"
};

static Oid
find_relation(const char *name)
{
	Oid			namespace_id = get_namespace_oid("quorum", false);
	Oid			relid = get_relname_relid(name, namespace_id);

	if (!OidIsValid(relid))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("relation \"quorum.%s\" does not exist", name),
				 errhint("It belongs to extension pg_quorum: update the extension.")));
	return relid;
}

Relation
lock_table_open(LockTable table, LOCKMODE mode)
{
	return table_open(find_relation(table_names[table]), mode);
}

Oid
lock_table_index(LockTable table)
{
	return find_relation(index_names[table]);
}

Oid
lock_memory_order_index(void)
{
	return find_relation("lock_memory_released");
}

static SysScanDesc
scan(Relation rel, LockTable table, uint8 key_type, Datum key_text, bool by_token, uint64 token)
{
	ScanKeyData keys[3];

	ScanKeyInit(&keys[0], Anum_key, BTEqualStrategyNumber, F_TEXTEQ, key_text);
	ScanKeyInit(&keys[1], Anum_key_type, BTEqualStrategyNumber, F_INT2EQ, Int16GetDatum(key_type));
	ScanKeyInit(&keys[2], Anum_token, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum((int64) token));
	return systable_beginscan(rel, lock_table_index(table), true, NULL, by_token ? 3 : 2, keys);
}

SysScanDesc
lock_scan_key(Relation rel, LockTable table, uint8 key_type, Datum key_text)
{
	return scan(rel, table, key_type, key_text, false, 0);
}

SysScanDesc
lock_scan_token(Relation rel, LockTable table, uint8 key_type, Datum key_text, uint64 token)
{
	return scan(rel, table, key_type, key_text, true, token);
}

text *
lock_key_to_text(uint8 key_type, const char *key, Size len)
{
	char		number[32];

	if (key_type != LK_KEY_BIGINT || len != 8)
		return cstring_to_text_with_len(key, (int) len);
	snprintf(number, sizeof(number), INT64_FORMAT, (int64) lk_bigint_value(key));
	return cstring_to_text(number);
}

char *
lock_key_from_text(uint8 key_type, text *shown, uint16 *len)
{
	char	   *key;

	if (key_type != LK_KEY_BIGINT)
	{
		*len = (uint16) VARSIZE_ANY_EXHDR(shown);
		return pnstrdup(VARDATA_ANY(shown), *len);
	}
	key = palloc(8);
	*len = 8;
	lk_bigint_key(strtoi64(text_to_cstring(shown), NULL, 10), key);
	return key;
}

int64
lock_row_int(HeapTuple tuple, int attnum, TupleDesc desc)
{
	bool		isnull;
	Datum		value = heap_getattr(tuple, attnum, desc, &isnull);

	if (isnull)
		return 0;
	switch (TupleDescAttr(desc, attnum - 1)->attlen)
	{
		case 2:
			return DatumGetInt16(value);
		case 4:
			return DatumGetInt32(value);
		default:
			return DatumGetInt64(value);
	}
}
