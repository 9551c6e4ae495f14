/*-------------------------------------------------------------------------
 *
 * digest.c
 *		quorum.table_digest: all rows of a table as one value; and the same for
 *		ranges of its key, in one pass (quorum.verify).
 *
 * Text: rows:h1h2, where h1 and h2 are sums, modulo 2^64, of two 64-bit hashes
 * of each row. A sum does not depend on the order of rows, so no sort is
 * needed; rows that are the same count as often as they are there. Columns
 * enter in their text form under fixed settings. Meant to find differences,
 * not to withstand forgery.
 *
 * Ranges are given by their bounds, keys in text form, ascending as the identity
 * index has them: range i holds what is not below bound i - 1 and below bound i.
 * The digest of the table is the sum of those of its ranges.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/nbtree.h"
#include "access/relation.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/pg_class.h"
#include "catalog/index.h"
#include "catalog/pg_inherits.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "executor/tuptable.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "compat.h"
#include "replication/digest.h"
#include "replication/image_guard.h"
#include "replication/tables.h"

PG_FUNCTION_INFO_V1(quorum_table_digest);
PG_FUNCTION_INFO_V1(quorum_range_digests);

typedef struct Ranges
{
	int			nbounds;
	int			nkeys;
	AttrNumber *attnums;		/* of the root's key columns */
	FmgrInfo   *compare;
	Oid		   *collations;
	Datum	   *values;			/* nbounds x nkeys */
} Ranges;

/* ---------- ranges ---------- */

static void
range_columns(Ranges *ranges, Relation root)
{
	Relation	index = index_open(tables_identity_index(root), AccessShareLock);
	int			nkeys = index->rd_index->indnkeyatts;

	ranges->nkeys = nkeys;
	ranges->attnums = palloc_array(AttrNumber, nkeys);
	ranges->compare = palloc_array(FmgrInfo, nkeys);
	ranges->collations = palloc_array(Oid, nkeys);
	for (int i = 0; i < nkeys; i++)
	{
		ranges->attnums[i] = index->rd_index->indkey.values[i];
		ranges->collations[i] = index->rd_indcollation[i];
		fmgr_info(index_getprocid(index, i + 1, BTORDER_PROC), &ranges->compare[i]);
	}
	index_close(index, AccessShareLock);
}

/* One bound: an array of the key's columns in text form. */
static void
range_bound(Ranges *ranges, int at, Relation root, char *bound)
{
	Oid			in;
	Oid			ioparam;
	FmgrInfo	array_in;
	ArrayType  *array;
	Datum	   *parts;
	int			nparts;

	getTypeInputInfo(TEXTARRAYOID, &in, &ioparam);
	fmgr_info(in, &array_in);
	array = DatumGetArrayTypeP(InputFunctionCall(&array_in, bound, ioparam, -1));
	deconstruct_array(array, TEXTOID, -1, false, TYPALIGN_INT, &parts, NULL, &nparts);
	if (nparts != ranges->nkeys)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("bound of a key range has %d columns instead of %d", nparts, ranges->nkeys)));
	for (int i = 0; i < nparts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(RelationGetDescr(root), ranges->attnums[i] - 1);

		getTypeInputInfo(att->atttypid, &in, &ioparam);
		ranges->values[at * ranges->nkeys + i] =
			OidInputFunctionCall(in, TextDatumGetCString(parts[i]), ioparam, att->atttypmod);
	}
}

static void
read_ranges(Ranges *ranges, Relation root, ArrayType *bounds)
{
	Datum	   *texts;

	deconstruct_array(bounds, TEXTOID, -1, false, TYPALIGN_INT, &texts, NULL, &ranges->nbounds);
	if (ranges->nbounds == 0)
		return;
	range_columns(ranges, root);
	ranges->values = palloc_array(Datum, ranges->nbounds * ranges->nkeys);
	for (int i = 0; i < ranges->nbounds; i++)
		range_bound(ranges, i, root, TextDatumGetCString(texts[i]));
}

/* Which range a row belongs to. map: from the root's columns to the row's. */
static int
range_of(const Ranges *ranges, TupleTableSlot *slot, const AttrMap *map)
{
	int			low = 0;
	int			high = ranges->nbounds;

	while (low < high)
	{
		int			middle = low + (high - low) / 2;
		int32		order = 0;

		for (int i = 0; i < ranges->nkeys && order == 0; i++)
		{
			bool		isnull;
			Datum		value = slot_getattr(slot, map->attnums[ranges->attnums[i] - 1], &isnull);

			order = DatumGetInt32(FunctionCall2Coll(&ranges->compare[i], ranges->collations[i], value,
													ranges->values[middle * ranges->nkeys + i]));
		}
		if (order >= 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/* ---------- rows ---------- */

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

/* `root` gives the order of the columns; digests has one for each range. */
static void
digest_relation(Digest *digests, const Ranges *ranges, Relation rel, Relation root)
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
		digest_row(&digests[ranges->nbounds > 0 ? range_of(ranges, slot, map) : 0],
				   slot, columns, outputs, ncolumns);
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

int
digest_fix_settings(void)
{
	int			nest_level = NewGUCNestLevel();

	set_option("DateStyle", "ISO, YMD");
	set_option("IntervalStyle", "postgres");
	set_option("TimeZone", "UTC");
	set_option("extra_float_digits", "3");
	set_option("bytea_output", "hex");
	set_option("search_path", "pg_catalog");
	return nest_level;
}

/* As seen by the current snapshot, partitions included. bounds may be NULL. */
Digest *
digest_table(Oid relid, ArrayType *bounds, int *ndigests)
{
	Relation	root = relation_open(relid, AccessShareLock);
	Ranges		ranges = {0};
	Digest	   *digests;
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

	nest_level = digest_fix_settings();
	if (bounds != NULL)
		read_ranges(&ranges, root, bounds);
	*ndigests = ranges.nbounds + 1;
	digests = palloc0_array(Digest, *ndigests);
	if (root->rd_rel->relkind == RELKIND_PARTITIONED_TABLE)
		relids = find_all_inheritors(relid, AccessShareLock, NULL);
	else
		relids = list_make1_oid(relid);
	foreach(lc, relids)
	{
		Relation	rel = table_open(lfirst_oid(lc), AccessShareLock);

		if (RELKIND_HAS_STORAGE(rel->rd_rel->relkind))
			digest_relation(digests, &ranges, rel, root);
		table_close(rel, AccessShareLock);
	}
	AtEOXact_GUC(true, nest_level);
	relation_close(root, AccessShareLock);
	return digests;
}

char *
digest_out(const Digest *digest)
{
	return psprintf(UINT64_FORMAT ":%016llx%016llx", digest->rows,
					(unsigned long long) digest->first, (unsigned long long) digest->second);
}

bool
digest_in(const char *text, Digest *digest)
{
	unsigned long long rows;
	unsigned long long first;
	unsigned long long second;

	if (sscanf(text, "%llu:%16llx%16llx", &rows, &first, &second) != 3)
		return false;
	digest->rows = rows;
	digest->first = first;
	digest->second = second;
	return true;
}

/*
 * table_digest(rel) - rows and two sums of hashes.
 */
Datum
quorum_table_digest(PG_FUNCTION_ARGS)
{
	int			n;

	image_guard_check_read(PG_GETARG_OID(0));
	PG_RETURN_TEXT_P(cstring_to_text(digest_out(digest_table(PG_GETARG_OID(0), NULL, &n))));
}

/*
 * _range_digests(rel, bounds) - the same for each range, one more than there
 * are bounds.
 */
Datum
quorum_range_digests(PG_FUNCTION_ARGS)
{
	int			n;
	Digest	   *digests = digest_table(PG_GETARG_OID(0), PG_GETARG_ARRAYTYPE_P(1), &n);
	Datum	   *texts = palloc_array(Datum, n);

	for (int i = 0; i < n; i++)
		texts[i] = CStringGetTextDatum(digest_out(&digests[i]));
	PG_RETURN_ARRAYTYPE_P(construct_array(texts, n, TEXTOID, -1, false, TYPALIGN_INT));
}
