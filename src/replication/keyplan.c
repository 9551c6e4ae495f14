/*-------------------------------------------------------------------------
 *
 * keyplan.c
 *		Builds and caches what keys.h says of a relation.
 *
 * The cache is private to the process, keyed by relation OID, and thrown away
 * entry by entry on relcache invalidation, which covers triggers, columns,
 * indexes and the REPLICA IDENTITY. A plan names no other relation than its
 * own table, its indexes and, for a partition, its root.
 *
 * Hashing has to agree on all members and with the index's equality:
 * the function is that of a hash operator family which holds the index's
 * equality operator. Where a value is an OID of this server (enum labels,
 * regclass and its kin) the text form stands for it. Where neither works the
 * index has one key for all of its values: coarse, never wrong.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/attmap.h"
#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/transam.h"
#include "catalog/catalog.h"
#include "catalog/partition.h"
#include "catalog/pg_amop.h"
#include "catalog/pg_class.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_index.h"
#include "catalog/pg_am.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "commands/trigger.h"
#include "miscadmin.h"
#include "optimizer/optimizer.h"
#include "utils/builtins.h"
#include "utils/catcache.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/relcache.h"
#include "utils/ruleutils.h"
#include "utils/syscache.h"
#include "utils/typcache.h"

#include "compat.h"
#include "replication/keys.h"
#include "replication/keys_internal.h"
#include "replication/tables.h"

static HTAB *plans = NULL;

/* ---------- hashing methods ---------- */

static bool
is_named_object(Oid type)
{
	switch (type)
	{
		case REGPROCOID:
		case REGPROCEDUREOID:
		case REGOPEROID:
		case REGOPERATOROID:
		case REGCLASSOID:
		case REGCOLLATIONOID:
		case REGTYPEOID:
		case REGROLEOID:
		case REGNAMESPACEOID:
		case REGCONFIGOID:
		case REGDICTIONARYOID:
			return true;
		default:
			return false;
	}
}

/* May the type's own hash function be used, as far as its contents go? */
static HashMethod
contents_method(Oid type)
{
	Oid			part;

	check_stack_depth();
	type = getBaseType(type);
	if (is_named_object(type) || get_typtype(type) == TYPTYPE_ENUM)
		return HASH_TEXT;
	part = get_element_type(type);
	if (OidIsValid(part))
		return contents_method(part);
	switch (get_typtype(type))
	{
		case TYPTYPE_RANGE:
			part = get_range_subtype(type);
			return contents_method(part) == HASH_EXTENDED ? HASH_EXTENDED : HASH_NONE;
		case TYPTYPE_MULTIRANGE:
			part = get_multirange_range(type);
			return contents_method(part) == HASH_EXTENDED ? HASH_EXTENDED : HASH_NONE;
		case TYPTYPE_COMPOSITE:
			{
				TupleDesc	desc = lookup_rowtype_tupdesc(type, -1);
				HashMethod	method = HASH_EXTENDED;

				for (int i = 0; i < desc->natts; i++)
					if (!TupleDescAttr(desc, i)->attisdropped &&
						contents_method(TupleDescAttr(desc, i)->atttypid) != HASH_EXTENDED)
						method = HASH_NONE;
				ReleaseTupleDesc(desc);
				return method;
			}
		default:
			return HASH_EXTENDED;
	}
}

/*
 * The hash function that goes with an equality operator, of the operator's
 * own left input type.
 */
static HashMethod
hash_function_of(Oid equality, FmgrInfo *function, MemoryContext context)
{
	HashMethod	method = HASH_NONE;
	CatCList   *list = SearchSysCacheList1(AMOPOPID, ObjectIdGetDatum(equality));

	for (int i = 0; i < list->n_members && method == HASH_NONE; i++)
	{
		Form_pg_amop amop = (Form_pg_amop) GETSTRUCT(&list->members[i]->tuple);
		Oid			proc;

		if (amop->amopmethod != HASH_AM_OID || amop->amopstrategy != 1 ||
			amop->amoplefttype != amop->amoprighttype)
			continue;
		proc = get_opfamily_proc(amop->amopfamily, amop->amoplefttype,
								 amop->amoplefttype, 2);
		if (OidIsValid(proc))
			method = HASH_EXTENDED;
		else
		{
			proc = get_opfamily_proc(amop->amopfamily, amop->amoplefttype,
									 amop->amoplefttype, 1);
			if (OidIsValid(proc))
				method = HASH_PLAIN;
		}
		if (method != HASH_NONE)
			fmgr_info_cxt(proc, function, context);
	}
	ReleaseSysCacheList(list);
	return method;
}

/* Column number `i` of an index. */
static void
plan_key_column(KeyColumn *column, Relation rel, Relation index, int i, MemoryContext context)
{
	Oid			family = index->rd_opfamily[i];
	Oid			input = index->rd_opcintype[i];
	Oid			type = TupleDescAttr(RelationGetDescr(index), i)->atttypid;
	Oid			equality;

	column->attnum = index->rd_index->indkey.values[i];
	if (column->attnum > 0)		/* an index may store another type, as for name */
		type = TupleDescAttr(RelationGetDescr(rel), column->attnum - 1)->atttypid;
	column->collation = index->rd_indcollation[i];
	column->method = HASH_NONE;
	if (index->rd_rel->relam != BTREE_AM_OID)
		return;
	switch (contents_method(type))
	{
		case HASH_TEXT:
			{
				Oid			output;
				bool		varlena;

				getTypeOutputInfo(type, &output, &varlena);
				fmgr_info_cxt(output, &column->function, context);
				column->method = HASH_TEXT;
				break;
			}
		case HASH_NONE:
			break;
		default:
			equality = get_opfamily_member(family, input, input, BTEqualStrategyNumber);
			if (OidIsValid(equality))
				column->method = hash_function_of(equality, &column->function, context);
	}
}

/* ---------- columns ---------- */

/* The in-memory form is the same on every server and version. */
static bool
is_binary_type(Oid type)
{
	Oid			element;

	type = getBaseType(type);
	if (type >= FirstGenbkiObjectId || is_named_object(type) ||
		get_typtype(type) == TYPTYPE_COMPOSITE || type == RECORDOID)
		return false;
	if (get_typtype(type) == TYPTYPE_PSEUDO)
		return false;
	element = get_element_type(type);
	return !OidIsValid(element) || is_binary_type(element);
}

static void
plan_send_columns(RelPlan *plan, Relation rel, Relation root)
{
	TupleDesc	desc = RelationGetDescr(root);
	AttrMap    *map = NULL;

	if (RelationGetRelid(rel) != RelationGetRelid(root))
		map = compat_build_attrmap_by_name(RelationGetDescr(rel), desc);
	plan->send = palloc0(sizeof(SendColumn) * desc->natts);
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);
		SendColumn *column;

		if (att->attisdropped)
			continue;
		column = &plan->send[plan->natts++];
		column->attnum = map ? map->attnums[i] : i + 1;
		column->generated = att->attgenerated != '\0';
		column->typlen = att->attlen;
		column->typbyval = att->attbyval;
		column->binary = is_binary_type(att->atttypid);
		if (!column->binary)
		{
			Oid			output;
			bool		varlena;

			getTypeOutputInfo(att->atttypid, &output, &varlena);
			fmgr_info_cxt(output, &column->output, plan->context);
			plan->text_columns = true;
			if (contents_method(att->atttypid) != HASH_EXTENDED ||
				get_typtype(getBaseType(att->atttypid)) == TYPTYPE_COMPOSITE)
				plan->named_objects = true;
		}
	}
	if (map)
		free_attrmap(map);
}

/* ---------- keys ---------- */

static uint64
hash_text(const char *text, uint64 seed)
{
	return hash_bytes_extended((const unsigned char *) text, strlen(text), seed);
}

uint64
keys_mix(uint64 a, uint64 b)
{
	uint64		h = a ^ (b + UINT64CONST(0x9e3779b97f4a7c15) + (a << 12) + (a >> 4));

	h ^= h >> 33;
	h *= UINT64CONST(0xff51afd7ed558ccd);
	h ^= h >> 33;
	h *= UINT64CONST(0xc4ceb9fe1a85ec53);
	h ^= h >> 33;
	return h;
}

uint64
keys_seed(uint32 table_id, char space)
{
	return keys_mix(hash_bytes_uint32_extended(table_id, 0x7067), (uint64) space);
}

/*
 * An index's name in keys: not its OID, which differs from member to member,
 * nor its name, which may; but what it says.
 */
static uint64
index_seed(uint32 table_id, Relation index)
{
	uint64		seed = keys_seed(table_id, index->rd_index->indisexclusion ? 'X' : 'U');
	char	   *columns = pg_get_indexdef_columns(RelationGetRelid(index), false);
	bool		isnull;
	Datum		predicate;

	seed = hash_text(columns, seed);
	pfree(columns);
	predicate = SysCacheGetAttr(INDEXRELID, index->rd_indextuple,
								Anum_pg_index_indpred, &isnull);
	if (!isnull)
	{
		Datum		condition = DirectFunctionCall2(pg_get_expr, predicate,
													ObjectIdGetDatum(index->rd_index->indrelid));

		seed = hash_text(TextDatumGetCString(condition), keys_mix(seed, 'P'));
	}
	return seed;
}

static void
add_attnums(List **attnums, Node *expression)
{
	Bitmapset  *found = NULL;
	int			member = -1;

	pull_varattnos(expression, 1, &found);
	while ((member = bms_next_member(found, member)) >= 0)
	{
		int			attnum = member + FirstLowInvalidHeapAttributeNumber;

		if (attnum == 0)		/* the whole row: anything may matter */
			*attnums = list_append_unique_int(*attnums, 0);
		else if (attnum > 0)
			*attnums = list_append_unique_int(*attnums, attnum);
	}
	bms_free(found);
}

static void
plan_unique(RelPlan *plan, Relation rel, Relation index)
{
	UniqueKey  *unique = &plan->uniques[plan->nuniques++];
	List	   *expressions = RelationGetIndexExpressions(index);
	List	   *predicate = RelationGetIndexPredicate(index);
	List	   *attnums = NIL;
	ListCell   *lc;
	int			i = 0;

	unique->indexid = RelationGetRelid(index);
	unique->seed = index_seed(plan->table_id, index);
	unique->whole = index->rd_index->indisexclusion;
	unique->nulls_distinct = !index->rd_index->indnullsnotdistinct;
	unique->computed = expressions != NIL || predicate != NIL;
	unique->ncolumns = IndexRelationGetNumberOfKeyAttributes(index);
	unique->columns = palloc0(sizeof(KeyColumn) * unique->ncolumns);
	for (i = 0; i < unique->ncolumns; i++)
	{
		plan_key_column(&unique->columns[i], rel, index, i, plan->context);
		if (unique->columns[i].method == HASH_NONE)
			unique->whole = true;
		if (unique->columns[i].attnum > 0)
			attnums = list_append_unique_int(attnums, unique->columns[i].attnum);
	}
	add_attnums(&attnums, (Node *) expressions);
	add_attnums(&attnums, (Node *) predicate);
	unique->nattnums = list_length(attnums);
	unique->attnums = palloc(sizeof(AttrNumber) * Max(unique->nattnums, 1));
	i = 0;
	foreach(lc, attnums)
		unique->attnums[i++] = (AttrNumber) lfirst_int(lc);
	list_free(attnums);
}

static void
plan_identity(RelPlan *plan, Relation rel, Relation index)
{
	plan->identity_index = RelationGetRelid(index);
	plan->nidentity = IndexRelationGetNumberOfKeyAttributes(index);
	plan->identity = palloc0(sizeof(KeyColumn) * plan->nidentity);
	for (int i = 0; i < plan->nidentity; i++)
	{
		plan_key_column(&plan->identity[i], rel, index, i, plan->context);
		if (plan->identity[i].method == HASH_NONE)
			plan->coarse = true;
		for (int c = 0; c < plan->natts; c++)
			if (plan->send[c].attnum == plan->identity[i].attnum)
				plan->send[c].is_key = true;
	}
}

static void
plan_key_attnums(RelPlan *plan, Relation rel)
{
	Bitmapset  *columns = RelationGetIndexAttrBitmap(rel, INDEX_ATTR_BITMAP_KEY);
	int			member = -1;

	/* the identity's columns are always among them */
	for (int i = 0; i < plan->nidentity; i++)
		columns = bms_add_member(columns, plan->identity[i].attnum -
								 FirstLowInvalidHeapAttributeNumber);
	plan->key_attnums = palloc(sizeof(AttrNumber) * Max(bms_num_members(columns), 1));
	while ((member = bms_next_member(columns, member)) >= 0)
	{
		int			attnum = member + FirstLowInvalidHeapAttributeNumber;

		if (attnum > 0)
			plan->key_attnums[plan->nkey_attnums++] = attnum;
	}
	bms_free(columns);
}

static void
plan_indexes(RelPlan *plan, Relation rel)
{
	List	   *indexes = RelationGetIndexList(rel);
	Oid			identity = tables_identity_index(rel);
	ListCell   *lc;

	plan->uniques = palloc0(sizeof(UniqueKey) * Max(list_length(indexes), 1));
	foreach(lc, indexes)
	{
		Relation	index = index_open(lfirst_oid(lc), AccessShareLock);

		if (lfirst_oid(lc) == identity)
			plan_identity(plan, rel, index);
		else if (index->rd_index->indisready &&
				 (index->rd_index->indisunique || index->rd_index->indisexclusion))
			plan_unique(plan, rel, index);
		index_close(index, AccessShareLock);
	}
	list_free(indexes);
	if (plan->nidentity == 0 && rel->rd_rel->relkind != RELKIND_PARTITIONED_TABLE)
		plan->problem = "It has no primary key and no usable replica identity any more.";
	plan_key_attnums(plan, rel);
}

/* The top of a partition tree. */
static Oid
root_of(Relation rel)
{
	List	   *ancestors;
	Oid			root = RelationGetRelid(rel);

	if (!rel->rd_rel->relispartition)
		return root;
	ancestors = get_partition_ancestors(root);
	for (int i = 0; i < list_length(ancestors); i++)
		root = list_nth_oid(ancestors, i);
	list_free(ancestors);
	return root;
}

static void
plan_replicated(RelPlan *plan, Relation rel)
{
	MemoryContext old = MemoryContextSwitchTo(plan->context);
	Oid			root_id = root_of(rel);
	Relation	root = rel;
	int			nest_level;

	if (root_id != RelationGetRelid(rel))
		root = relation_open(root_id, AccessShareLock);

	/* what is deparsed must not depend on the session's search_path */
	nest_level = NewGUCNestLevel();
	(void) set_config_option("search_path", "pg_catalog", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	plan->table_key = keys_seed(plan->table_id, 'T');
	plan->row_seed = keys_seed(plan->table_id, 'R');
	plan->identity_seed = keys_seed(plan->table_id, 'I');
	plan_send_columns(plan, rel, root);
	plan_indexes(plan, rel);
	AtEOXact_GUC(true, nest_level);

	if (root != rel)
		relation_close(root, AccessShareLock);
	plan->unique_origins = palloc0(sizeof(uint32) * Max(plan->nuniques, 1));
	MemoryContextSwitchTo(old);
}

static RelKind
classify(Relation rel, uint32 table_id)
{
	if (table_id != 0)
		return REL_REPLICATED;
	if (rel->rd_rel->relkind != RELKIND_RELATION &&
		rel->rd_rel->relkind != RELKIND_PARTITIONED_TABLE)
		return REL_FREE;
	if (rel->rd_rel->relpersistence != RELPERSISTENCE_PERMANENT ||
		IsCatalogRelation(rel) || IsToastRelation(rel) ||
		tables_is_own_namespace(RelationGetNamespace(rel)))
		return REL_FREE;
	return REL_ORDINARY;
}

/* ---------- the cache ---------- */

static void
invalidate(Datum arg, Oid relid)
{
	HASH_SEQ_STATUS all;
	RelPlan    *plan;

	if (plans == NULL)
		return;
	if (OidIsValid(relid))
	{
		plan = hash_search(plans, &relid, HASH_FIND, NULL);
		if (plan)
			plan->valid = false;
		/* partitions know their root's number from the table of tables */
		if (relid != tables_catalog_oid_cached())
			return;
	}
	hash_seq_init(&all, plans);
	while ((plan = hash_seq_search(&all)) != NULL)
		plan->valid = false;
}

void
keys_install(void)
{
	CacheRegisterRelcacheCallback(invalidate, (Datum) 0);
}

static RelPlan *
enter(Oid relid)
{
	bool		found;
	RelPlan    *plan;

	if (plans == NULL)
	{
		HASHCTL		ctl;

		memset(&ctl, 0, sizeof(ctl));
		ctl.keysize = sizeof(Oid);
		ctl.entrysize = sizeof(RelPlan);
		ctl.hcxt = TopMemoryContext;
		plans = hash_create("pg_quorum relations", 64, &ctl,
							HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	}
	plan = hash_search(plans, &relid, HASH_ENTER, &found);
	if (found && plan->context)
		MemoryContextDelete(plan->context);
	memset(plan, 0, sizeof(*plan));
	plan->relid = relid;
	return plan;
}

RelPlan *
keys_plan(Relation rel)
{
	Oid			relid = RelationGetRelid(rel);
	RelPlan    *plan = plans ? hash_search(plans, &relid, HASH_FIND, NULL) : NULL;
	RelPlan		made;

	if (plan && plan->valid)
		return plan;

	/*
	 * Built aside, since looking into catalogs may take invalidations in. The
	 * relation itself is locked, so what we read of it is of one piece.
	 */
	memset(&made, 0, sizeof(made));
	made.table_id = tables_id_of(rel);
	made.kind = classify(rel, made.table_id);
	if (made.kind == REL_REPLICATED)
	{
		made.context = AllocSetContextCreate(CurrentMemoryContext, "pg_quorum relation",
											 ALLOCSET_SMALL_SIZES);
		plan_replicated(&made, rel);
		MemoryContextSetParent(made.context, CacheMemoryContext);
	}
	plan = enter(relid);
	made.relid = relid;
	made.valid = true;
	*plan = made;
	return plan;
}

RelPlan *
keys_plan_of_new(Relation rel)
{
	RelPlan    *plan = palloc0_object(RelPlan);

	plan->relid = RelationGetRelid(rel);
	plan->kind = REL_REPLICATED;
	plan->context = AllocSetContextCreate(CurrentMemoryContext, "pg_quorum relation", ALLOCSET_SMALL_SIZES);
	plan_replicated(plan, rel);
	return plan;
}

void
keys_forget_plan_of_new(RelPlan *plan)
{
	MemoryContextDelete(plan->context);
	pfree(plan);
}

static RelKind
rel_kind(Oid relid, LOCKMODE lock)
{
	RelPlan    *plan = plans ? hash_search(plans, &relid, HASH_FIND, NULL) : NULL;
	Relation	rel;
	RelKind		kind;

	if (plan && plan->valid)
		return plan->kind;
	if (relid < FirstNormalObjectId)
		return REL_FREE;
	rel = try_relation_open(relid, lock);
	if (rel == NULL)
		return REL_FREE;
	kind = keys_plan(rel)->kind;
	relation_close(rel, lock);
	return kind;
}

RelKind
keys_rel_kind(Oid relid)
{
	return rel_kind(relid, NoLock);
}

RelKind
keys_rel_kind_locking(Oid relid)
{
	return rel_kind(relid, AccessShareLock);
}
