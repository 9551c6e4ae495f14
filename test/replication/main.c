/*-------------------------------------------------------------------------
 *
 * main.c
 *		Runs the tests of the plain C part of src/replication.
 *
 *-------------------------------------------------------------------------
 */
#include "payload.h"

int
main(void)
{
	test_wsread();
	test_certify();
	printf("%d passed, %d failed\n", passed, failed);
	return failed != 0;
}
