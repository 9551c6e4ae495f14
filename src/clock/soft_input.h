/*-------------------------------------------------------------------------
 *
 * soft_input.h
 *		Input errors that a caller may catch without a subtransaction (COPY ON_ERROR,
 *		pg_input_is_valid): PostgreSQL 16 and later. Before, they are errors.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGQ_SOFT_INPUT_H
#define PGQ_SOFT_INPUT_H

#include "postgres.h"

#ifndef ereturn					/* 16: d9f7f5d32f */
#define ereturn(context, dummy_value, ...) \
	do { \
		(void) (context); \
		ereport(ERROR, __VA_ARGS__); \
	} while (0)
#endif

#endif							/* PGQ_SOFT_INPUT_H */
