/*-------------------------------------------------------------------------
 *
 * main.c
 *		Runs the tests, each in a process of its own, so that one that crashes
 *		or never ends costs itself only.
 *
 *	tests [-v] [-l] [-n] [-x] [PART OF A NAME ...]
 *		-v	print the trace of every test
 *		-l	list the names
 *		-n	do not fork (for a debugger)
 *		-x	stop at the first failure
 *
 *-------------------------------------------------------------------------
 */
#include "harness.h"

#include <signal.h>
#include <stdarg.h>
#include <sys/wait.h>
#include <unistd.h>

#define SECONDS_EACH 60
#define TRACE_LINES 400

static const Test *const all_tests[] = {
	tests_elections, tests_prevote, tests_replication, tests_commit, tests_membership,
	tests_joint, tests_reads, tests_transfer, tests_flow, tests_snapshot,
	tests_identity, tests_codec, tests_random,
	tests_units_quorum, tests_units_conf, tests_units_progress, tests_units_log, NULL
};

static const char *current = "";
static bool verbose;
static char (*lines)[300];
static unsigned long nlines;

void
trace(const char *format,...)
{
	va_list		args;

	if (lines == NULL)
		lines = calloc(TRACE_LINES, sizeof(*lines));
	va_start(args, format);
	vsnprintf(lines[nlines++ % TRACE_LINES], sizeof(*lines), format, args);
	va_end(args);
	if (verbose)
		printf("    %s\n", lines[(nlines - 1) % TRACE_LINES]);
}

void
fail_at(const char *file, int line, const char *format,...)
{
	va_list		args;
	const char *base = strrchr(file, '/');

	printf("FAILED %s\n  at %s:%d: ", current, base != NULL ? base + 1 : file, line);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	printf("\n");
	if (!verbose)
		for (unsigned long i = nlines > TRACE_LINES ? nlines - TRACE_LINES : 0; i < nlines; i++)
			printf("    %s\n", lines[i % TRACE_LINES]);
	fflush(stdout);
	_exit(1);
}

static void
core_assert(const char *file, int line, const char *expr)
{
	fail_at(file, line, "the core's own assertion: %s", expr);
}

static void
run_one(const Test *test)
{
	current = test->name;
	nlines = 0;
	raft_on_assert = core_assert;
	harness_begin();
	test->run();
	harness_end();
	free(lines);
	lines = NULL;
}

static bool
run_forked(const Test *test)
{
	int			status;
	pid_t		pid;

	fflush(stdout);
	pid = fork();
	if (pid == 0)
	{
		alarm(SECONDS_EACH);
		run_one(test);
		exit(0);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return false;
	if (WIFSIGNALED(status))
		printf("FAILED %s\n  killed by signal %d\n", test->name, WTERMSIG(status));
	else if (WEXITSTATUS(status) > 1)
		printf("FAILED %s\n  exit status %d\n", test->name, WEXITSTATUS(status));
	return status == 0;
}

int
main(int argc, char **argv)
{
	bool		list = false;
	bool		no_fork = false;
	bool		stop = false;
	int			passed = 0;
	int			failed = 0;
	int			first = 1;

	for (; first < argc && argv[first][0] == '-'; first++)
	{
		verbose |= argv[first][1] == 'v';
		list |= argv[first][1] == 'l';
		no_fork |= argv[first][1] == 'n';
		stop |= argv[first][1] == 'x';
	}
	for (int f = 0; all_tests[f] != NULL; f++)
		for (const Test *test = all_tests[f]; test->name != NULL; test++)
		{
			bool		wanted = first == argc;

			if (stop && failed > 0)
				break;
			for (int i = first; i < argc; i++)
				wanted |= strstr(test->name, argv[i]) != NULL;
			if (!wanted)
				continue;
			if (list)
			{
				printf("%s\n", test->name);
				continue;
			}
			if (verbose)
				printf("# %s\n", test->name);
			if (no_fork)
			{
				run_one(test);
				passed++;
			}
			else if (run_forked(test))
				passed++;
			else
				failed++;
		}
	if (!list)
		printf("%d passed, %d failed\n", passed, failed);
	return failed != 0;
}
