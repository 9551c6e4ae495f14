/*-------------------------------------------------------------------------
 *
 * digest.c
 *		quorum.table_digest: all rows of a table as one value.
 *
 * Text: rows:h1h2, where h1 and h2 are sums, modulo 2^64, of two 64-bit hashes
 * of each row. A sum does not depend on the order of rows, so no sort is
 * needed; rows that are the same count as often as they are there. Columns
 * enter in their text form under fixed settings. Meant to find differences,
 * not to withstand forgery.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/pg_class.h"
#include "catalog/pg_inherits.h"
#include "common/hashfn.h"
#include "executor/tuptable.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "compat.h"

PG_FUNCTION_INFO_V1(quorum_table_digest);

typedef struct Digest
{
	uint64		rows;
	uint64		first;
	uint64		second;
} Digest;

static void
digest_row(Digest *digest, TupleTableSlot *slot, const int *columns, FmgrInfo *outputs, int ncolumns)
{
	StringInfoData text;

	initStringInfo(&text);
	slot_getallattrs(slot);
	for (int i = 0; i < ncolumns; i++)
	{
		char	   *value;

		if (slot->tts_isnull[columns[i]])
		{
			appendStringInfoString(&text, "n;");
			continue;
		}
		value = OutputFunctionCall(&outputs[i], slot->tts_values[columns[i]]);
		appendStringInfo(&text, "%zu:", strlen(value));
		appendStringInfoString(&text, value);
	}
	digest->rows++;
	digest->first += hash_bytes_extended((unsigned char *) text.data, text.len, 1);
	digest->second += hash_bytes_extended((unsigned char *) text.data, text.len, 2);
}

/* `root` gives the order of the columns. */
static void
digest_relation(Digest *digest, Relation rel, Relation root)
{
	TupleDesc	desc = RelationGetDescr(root);
	int		   *columns = palloc(sizeof(int) * Max(desc->natts, 1));
	FmgrInfo   *outputs = palloc(sizeof(FmgrInfo) * Max(desc->natts, 1));
	int			ncolumns = 0;
	AttrMap    *map = compat_build_attrmap_by_name(RelationGetDescr(rel), desc);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	TableScanDesc scan = table_beginscan(rel, GetActiveSnapshot(), 0, NULL);
	MemoryContext per_row = AllocSetContextCreate(CurrentMemoryContext, "table digest",
												  ALLOCSET_DEFAULT_SIZES);

	for (int i = 0; i < desc->natts; i++)
	{
		Oid			output;
		bool		varlena;

		if (TupleDescAttr(desc, i)->attisdropped)
			continue;
		getTypeOutputInfo(TupleDescAttr(desc, i)->atttypid, &output, &varlena);
		fmgr_info(output, &outputs[ncolumns]);
		columns[ncolumns++] = map->attnums[i] - 1;
	}
	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		MemoryContext old = MemoryContextSwitchTo(per_row);

		CHECK_FOR_INTERRUPTS();
		digest_row(digest, slot, columns, outputs, ncolumns);
		MemoryContextSwitchTo(old);
		MemoryContextReset(per_row);
	}
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	MemoryContextDelete(per_row);
}

static void
set_option(const char *name, const char *value)
{
	(void) set_config_option(name, value, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
}

/*
 * table_digest(rel) - rows and two sums of hashes, as seen by the current
 * snapshot, partitions included.
 */
Datum
quorum_table_digest(PG_FUNCTION_ARGS)
{
	Oid			relid = PG_GETARG_OID(0);
	Relation	root = relation_open(relid, AccessShareLock);
	Digest		digest = {0};
	List	   *relids;
	ListCell   *lc;
	AclResult	allowed;
	int			nest_level;

	if (root->rd_rel->relkind != RELKIND_RELATION &&
		root->rd_rel->relkind != RELKIND_PARTITIONED_TABLE)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is not a table", RelationGetRelationName(root))));
	allowed = pg_class_aclcheck(relid, GetUserId(), ACL_SELECT);
	if (allowed != ACLCHECK_OK)
		aclcheck_error(allowed, OBJECT_TABLE, RelationGetRelationName(root));

	nest_level = NewGUCNestLevel();
	set_option("DateStyle", "ISO, YMD");
	set_option("IntervalStyle", "postgres");
	set_option("TimeZone", "UTC");
	set_option("extra_float_digits", "3");
	set_option("bytea_output", "hex");
	set_option("search_path", "pg_catalog");

	if (root->rd_rel->relkind == RELKIND_PARTITIONED_TABLE)
		relids = find_all_inheritors(relid, AccessShareLock, NULL);
	else
		relids = list_make1_oid(relid);
	foreach(lc, relids)
	{
		Relation	rel = table_open(lfirst_oid(lc), AccessShareLock);

		if (RELKIND_HAS_STORAGE(rel->rd_rel->relkind))
			digest_relation(&digest, rel, root);
		table_close(rel, AccessShareLock);
	}
	AtEOXact_GUC(true, nest_level);
	relation_close(root, AccessShareLock);
	PG_RETURN_TEXT_P(cstring_to_text(psprintf(UINT64_FORMAT ":%016llx%016llx", digest.rows,
											  (unsigned long long) digest.first,
											  (unsigned long long) digest.second)));
}
