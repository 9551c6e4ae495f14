/*-------------------------------------------------------------------------
 *
 * tp_assert.h
 *		Checks of what must be true whatever the other side sends. They are
 *		cheap and stay on in production: going on with a broken invariant
 *		could hand a wrong message to the log.
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGQ_TP_ASSERT_H
#define PGQ_TP_ASSERT_H

#include <stdio.h>
#include <stdlib.h>

#define TP_ASSERT(condition) \
	do { \
		if (!(condition)) \
		{ \
			fprintf(stderr, "transport: assertion failed at %s:%d: %s\n", \
					__FILE__, __LINE__, #condition); \
			abort(); \
		} \
	} while (0)

#endif							/* PGQ_TP_ASSERT_H */
