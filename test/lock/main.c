/*-------------------------------------------------------------------------
 *
 * main.c
 *		Runs the tests of the plain C part of src/lock.
 *
 *-------------------------------------------------------------------------
 */
#include "harness.h"

int			passed = 0;
int			failed = 0;

int
main(int argc, char **argv)
{
	uint64_t	first = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;
	uint64_t	seeds = argc > 2 ? strtoull(argv[2], NULL, 10) : 300;

	setvbuf(stdout, NULL, _IOLBF, 0);
	test_payload();
	test_rules();
	test_deadlock();
	test_time();
	test_random(first, seeds);
	printf("%d passed, %d failed\n", passed, failed);
	return failed != 0;
}
