/*-------------------------------------------------------------------------
 *
 * rowcodec.c
 *		Writes rows into the write set.
 *
 * Built-in types travel in their in-memory form, all others as text. Text is
 * made under fixed settings, so that every member reads it alike whatever the
 * session has set; columns that name catalog objects are written with
 * search_path = pg_catalog, so that names are qualified.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "access/detoast.h"
#include "access/tupmacs.h"
#include "access/xact.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/float.h"
#include "utils/guc.h"
#include "utils/memutils.h"


#include "replication/rowcodec.h"
#include "replication/writeset_build.h"

/* Bytes in the row from which on it pays to look whether they are the old ones. */
#define WORTH_COMPARING 128

/* ---------- settings that change text ---------- */

typedef struct TextSettings
{
	int			date_style;
	int			date_order;
	int			interval_style;
	int			float_digits;
	int			nest_level;		/* of search_path; 0 not changed */
} TextSettings;

static void
fix_settings(RelPlan *plan, TextSettings *saved)
{
	saved->date_style = DateStyle;
	saved->date_order = DateOrder;
	saved->interval_style = IntervalStyle;
	saved->float_digits = extra_float_digits;
	saved->nest_level = 0;
	if (plan->named_objects)
	{
		saved->nest_level = NewGUCNestLevel();
		(void) set_config_option("search_path", "pg_catalog", PGC_USERSET, PGC_S_SESSION,
								 GUC_ACTION_SAVE, true, 0, false);
	}
	DateStyle = USE_ISO_DATES;
	DateOrder = DATEORDER_YMD;
	IntervalStyle = INTSTYLE_POSTGRES;
	extra_float_digits = 3;
}

static void
restore_settings(const TextSettings *saved)
{
	DateStyle = saved->date_style;
	DateOrder = saved->date_order;
	IntervalStyle = saved->interval_style;
	extra_float_digits = saved->float_digits;
	/* after an error the (sub)transaction's end takes the level back */
	if (saved->nest_level != 0)
		AtEOXact_GUC(true, saved->nest_level);
}

/* ---------- columns ---------- */

static void
put_null(void)
{
	writeset_put_byte('n');
}

static void
put_binary(const SendColumn *column, Datum value)
{
	char		byval[sizeof(Datum)];

	writeset_put_byte('b');
	if (column->typbyval)
	{
		store_att_byval(byval, value, column->typlen);
		writeset_put_varint(column->typlen);
		writeset_put_bytes(byval, column->typlen);
	}
	else if (column->typlen > 0)
	{
		writeset_put_varint(column->typlen);
		writeset_put_bytes(DatumGetPointer(value), column->typlen);
	}
	else if (column->typlen == -1)
	{
		struct varlena *given = (struct varlena *) DatumGetPointer(value);
		struct varlena *plain = pg_detoast_datum_packed(given);

		writeset_put_varint(VARSIZE_ANY_EXHDR(plain));
		writeset_put_bytes(VARDATA_ANY(plain), VARSIZE_ANY_EXHDR(plain));
		if (plain != given)
			pfree(plain);
	}
	else
	{
		Size		len = strlen(DatumGetCString(value));

		writeset_put_varint(len);
		writeset_put_bytes(DatumGetCString(value), len);
	}
}

static void
put_text(SendColumn *column, Datum value)
{
	char	   *text = OutputFunctionCall(&column->output, value);

	writeset_put_byte('t');
	writeset_put_string(text);
	pfree(text);
}

/*
 * An UPDATE that did not touch a large column: the same value outside the row,
 * or the same bytes in it, compressed or not. Not of the key, by which the row is
 * looked up.
 */
static bool
is_unchanged(const SendColumn *column, Datum value, TupleTableSlot *old_row)
{
	struct varlena *now = (struct varlena *) DatumGetPointer(value);
	struct varlena *before;
	Datum		datum;
	bool		isnull;

	if (column->typlen != -1 || column->is_key)
		return false;
	if (!VARATT_IS_EXTERNAL(now) && VARSIZE_ANY(now) < WORTH_COMPARING)
		return false;
	datum = slot_getattr(old_row, column->attnum, &isnull);
	if (isnull)
		return false;
	before = (struct varlena *) DatumGetPointer(datum);
	if (VARATT_IS_EXTERNAL(now) || VARATT_IS_EXTERNAL(before))
		return VARATT_IS_EXTERNAL_ONDISK(now) && VARATT_IS_EXTERNAL_ONDISK(before) &&
			memcmp(now, before, VARSIZE_EXTERNAL(now)) == 0;
	return VARSIZE_ANY(now) == VARSIZE_ANY(before) &&
		memcmp(now, before, VARSIZE_ANY(now)) == 0;
}

static void
put_columns(RelPlan *plan, TupleTableSlot *row, TupleTableSlot *old_row, bool only_key)
{
	slot_getallattrs(row);
	writeset_put_varint(plan->natts);
	for (int i = 0; i < plan->natts; i++)
	{
		SendColumn *column = &plan->send[i];
		Datum		value;

		if (only_key ? !column->is_key : column->generated)
		{
			writeset_put_byte('u');
			continue;
		}
		if (row->tts_isnull[column->attnum - 1])
		{
			put_null();
			continue;
		}
		value = row->tts_values[column->attnum - 1];
		if (old_row && is_unchanged(column, value, old_row))
			writeset_put_byte('u');
		else if (column->binary)
			put_binary(column, value);
		else
			put_text(column, value);
	}
}

static void
put_tuple(RelPlan *plan, TupleTableSlot *row, TupleTableSlot *old_row, bool only_key)
{
	TextSettings saved;

	if (!plan->text_columns)
	{
		put_columns(plan, row, old_row, only_key);
		return;
	}
	fix_settings(plan, &saved);
	PG_TRY();
	{
		put_columns(plan, row, old_row, only_key);
	}
	PG_CATCH();
	{
		saved.nest_level = 0;
		restore_settings(&saved);
		PG_RE_THROW();
	}
	PG_END_TRY();
	restore_settings(&saved);
}

/* ---------- records ---------- */

static void
begin_row(RelPlan *plan, char type, CommandId cid)
{
	writeset_begin(cid);
	writeset_put_byte(type);
	writeset_put_varint(plan->table_id);
}

void
rowcodec_insert(RelPlan *plan, TupleTableSlot *row, CommandId cid)
{
	begin_row(plan, 'I', cid);
	put_tuple(plan, row, NULL, false);
	writeset_end();
}

void
rowcodec_update(RelPlan *plan, TupleTableSlot *old_row, TupleTableSlot *new_row,
				bool identity_changed, CommandId cid)
{
	begin_row(plan, 'U', cid);
	writeset_put_byte(identity_changed ? 1 : 0);
	if (identity_changed)
		put_tuple(plan, old_row, NULL, true);
	put_tuple(plan, new_row, old_row, false);
	writeset_end();
}

void
rowcodec_delete(RelPlan *plan, TupleTableSlot *row, CommandId cid)
{
	begin_row(plan, 'D', cid);
	put_tuple(plan, row, NULL, true);
	writeset_end();
}
