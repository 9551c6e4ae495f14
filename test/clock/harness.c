/*-------------------------------------------------------------------------
 *
 * harness.c
 *		Runs the tests of the hybrid logical clock's algorithm.
 *
 *-------------------------------------------------------------------------
 */
#include "harness.h"

#include <stdarg.h>
#include <stdio.h>

static long passed;
static long failed;

bool
check(bool cond, const char *what,...)
{
	va_list		args;

	if (cond)
	{
		passed++;
		return true;
	}
	failed++;
	if (failed <= 20)
	{
		va_start(args, what);
		fputs("FAILED: ", stdout);
		vprintf(what, args);
		fputc('\n', stdout);
		va_end(args);
	}
	return false;
}

uint64_t
next_random(uint64_t *seed)
{
	uint64_t	z = (*seed += UINT64_C(0x9e3779b97f4a7c15));

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

uint64_t
random_below(uint64_t *seed, uint64_t below)
{
	return next_random(seed) % below;
}

int
main(void)
{
	test_hlc();
	test_cluster();
	printf("%ld passed, %ld failed\n", passed, failed);
	return failed > 0;
}
