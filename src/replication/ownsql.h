/*-------------------------------------------------------------------------
 *
 * ownsql.h
 *		SQL on our own catalog, as the bootstrap superuser and with a search_path
 *		that nobody can put anything into. Who may call is checked before.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGQ_OWNSQL_H
#define PGQ_OWNSQL_H

#include "postgres.h"

typedef struct OwnSql
{
	Oid			user;
	int			sec_context;
	int			nest_level;
} OwnSql;

/* Bracket; SPI is connected in between. After an error the abort restores all. */
extern void ownsql_begin(OwnSql *saved);
extern void ownsql_end(const OwnSql *saved);

/* ERROR unless SPI's result is `expected` (SPI_OK_...). */
extern void ownsql_run(const char *sql, int nargs, Oid *types, Datum *values,
					   const char *nulls, int expected);

/* A query that sees what is committed now, whatever the isolation level. */
extern void ownsql_look(const char *sql, int nargs, Oid *types, Datum *values);

/* A column of the last result, counted from 1, in SPI's memory; NULL if null or no row. */
extern char *ownsql_text(uint64 row, int column);

#endif							/* PGQ_OWNSQL_H */
