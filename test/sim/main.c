/*-------------------------------------------------------------------------
 *
 * main.c
 *		Command line of the simulator.
 *
 *		sim run SEED [STEPS]			one seed, with a trace on stdout
 *		sim check FIRST COUNT SECONDS [STEPS]	regressions, COUNT seeds from FIRST
 *										on, then fresh ones until SECONDS are over
 *		sim soak SECONDS [FIRST]		seeds from FIRST (or a fresh one) on; goes on
 *										after a failure
 *		sim hunt COUNT [FIRST]			until the first failure: for mutants
 *
 * Every seed runs in a process of its own, twice, and must give the same hash.
 *
 *-------------------------------------------------------------------------
 */
#include "sim.h"
#include "sim_regressions.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define STEPS_DEFAULT	12000
#define SEED_SECONDS	100		/* of real time, for both runs of one seed */
#define TEXT_MAX		4096

static SimWorld world;
static SimStats total;
static uint64_t nruns;
static uint64_t passed;
static uint64_t failed;
static uint64_t first_failed_steps;

static double
seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double) now.tv_sec + (double) now.tv_nsec / 1e9;
}

static void
add_stats(const SimStats *stats)
{
	uint64_t   *to = (uint64_t *) &total;
	const uint64_t *from = (const uint64_t *) stats;

	_Static_assert(sizeof(SimStats) % sizeof(uint64_t) == 0, "all counters");
	for (size_t i = 0; i < sizeof(SimStats) / sizeof(uint64_t); i++)
		to[i] += from[i];
	nruns++;
}

/* Some seeds get far more time than the others. */
static uint64_t
steps_of(uint64_t seed, uint64_t steps)
{
	if (steps != 0)
		return steps;
	return seed % 16 == 0 ? STEPS_DEFAULT * 5 : STEPS_DEFAULT;
}

/* The child's part: the same twice (mutants: once), then the figures. */
static void
run_child(uint64_t seed, uint64_t steps, bool once, int stats_fd)
{
	alarm(SEED_SECONDS);
	sim_world_run(&world, seed, steps, NULL);
	if (!once)
	{
		uint64_t	hash = world.hash;

		sim_world_free(&world);
		sim_world_run(&world, seed, steps, NULL);
		SIM_CHECK(&world, hash == world.hash, "determinism: two runs differ");
	}
	if (write(stats_fd, &world.stats, sizeof(world.stats)) != (ssize_t) sizeof(world.stats))
		_exit(2);
	sim_world_free(&world);
	exit(0);					/* with the sanitizers' checks at exit */
}

/* True when all is well; else text says what is not. */
static bool
run_seed(uint64_t seed, uint64_t steps, bool once, char *text)
{
	int			errors[2];
	int			figures[2];
	SimStats	stats;
	size_t		len = 0;
	ssize_t		got;
	int			status;
	pid_t		pid;

	fflush(NULL);
	if (pipe(errors) != 0 || pipe(figures) != 0)
		abort();
	pid = fork();
	if (pid < 0)
		abort();
	if (pid == 0)
	{
		close(errors[0]);
		close(figures[0]);
		dup2(errors[1], STDERR_FILENO);
		close(errors[1]);
		run_child(seed, steps, once, figures[1]);
	}
	close(errors[1]);
	close(figures[1]);
	while ((got = read(errors[0], text + len, TEXT_MAX - 1 - len)) > 0)
	{
		len += (size_t) got;
		if (len == TEXT_MAX - 1)
		{
			/* the end is what matters */
			memmove(text, text + TEXT_MAX / 2, len - TEXT_MAX / 2);
			len -= TEXT_MAX / 2;
		}
	}
	text[len] = '\0';
	got = read(figures[0], &stats, sizeof(stats));
	close(errors[0]);
	close(figures[0]);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0 && got == (ssize_t) sizeof(stats))
	{
		add_stats(&stats);
		return true;
	}
	if (WIFSIGNALED(status))
		snprintf(text + len, TEXT_MAX - len, "seed %lu: %s: ended by signal %d\n",
				 (unsigned long) seed, WTERMSIG(status) == SIGALRM ? "hang" : "crash",
				 WTERMSIG(status));
	return false;
}

static bool
test_seed(const char *name, uint64_t seed, uint64_t steps)
{
	char		text[TEXT_MAX];

	steps = steps_of(seed, steps);
	if (run_seed(seed, steps, false, text))
	{
		passed++;
		return true;
	}
	failed++;
	first_failed_steps = steps;
	printf("FAILED %s\n%s\ttrace: make -C test/sim run SEED=%lu STEPS=%lu\n", name, text,
		   (unsigned long) seed, (unsigned long) steps);
	fflush(stdout);
	return false;
}

static void
report(double began)
{
	const SimStats *s = &total;

#define U(x) ((unsigned long) (x))
	printf("%lu seeds twice in %.0f s: %.2f h of virtual time, %lu steps, %lu checks\n",
		   U(nruns), seconds() - began, (double) s->virtual_us / 3600e6, U(s->steps),
		   U(s->checks));
	printf("leaders %lu, crashes %lu (%lu between two effects), restarts %lu, replaced %lu, "
		   "impostors %lu\n", U(s->elections), U(s->crashes), U(s->effect_crashes),
		   U(s->restarts), U(s->replaced), U(s->impostors));
	printf("committed %lu, acknowledged %lu, reads %lu (%lu refused), configurations %lu, "
		   "transfers %lu\n", U(s->committed), U(s->acknowledged), U(s->reads_ok),
		   U(s->reads_failed), U(s->conf_changes), U(s->transfers));
	printf("compactions %lu, images %lu, loads %lu\n", U(s->compactions), U(s->images),
		   U(s->loads));
	printf("messages %lu: lost %lu, doubled %lu, damaged %lu\n", U(s->messages), U(s->lost),
		   U(s->duplicated), U(s->flipped));
	printf("syncs %lu, unsynced writes lost %lu, torn %lu, names lost %lu, damage noticed %lu, "
		   "salvaged %lu, trusted again %lu\n",
		   U(s->syncs), U(s->writes_lost), U(s->writes_torn), U(s->names_lost),
		   U(s->damage_reported), U(s->salvaged), U(s->trusted));
	printf("faults:");
	for (int i = 0; i < SIM_FAULT_BITS; i++)
		printf(" %s %lu", sim_fault_name[i], U(s->faults[i]));
	printf("\n");
#undef U
}

static uint64_t
fresh_seed(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return ((uint64_t) now.tv_sec * 1000 + (uint64_t) now.tv_nsec / 1000000) * 1000;
}

/* ---------- commands ---------- */

static int
command_run(uint64_t seed, uint64_t steps)
{
	steps = steps_of(seed, steps);
	setvbuf(stdout, NULL, _IOFBF, 1 << 20);
	sim_world_run(&world, seed, steps, stdout);
	printf("seed %lu passed, hash %016lx\n", (unsigned long) seed, (unsigned long) world.hash);
	sim_world_free(&world);
	return 0;
}

static int
command_check(uint64_t first, uint64_t count, double limit, uint64_t steps)
{
	double		began = seconds();
	uint64_t	fresh = fresh_seed();
	char		name[64];

	for (size_t i = 0; i < sizeof(sim_regressions) / sizeof(sim_regressions[0]); i++)
		test_seed(sim_regressions[i].name, sim_regressions[i].seed, sim_regressions[i].steps);
	for (uint64_t i = 0; i < count; i++)
	{
		snprintf(name, sizeof(name), "fixed seed %lu", (unsigned long) (first + i));
		test_seed(name, first + i, steps);
	}
	for (uint64_t i = 1; seconds() - began < limit; i++)
	{
		snprintf(name, sizeof(name), "fresh seed %lu", (unsigned long) (fresh + i));
		test_seed(name, fresh + i, steps);
	}
	report(began);
	printf("sim: %lu passed, %lu failed\n", (unsigned long) passed, (unsigned long) failed);
	return failed == 0 ? 0 : 1;
}

static int
command_soak(double limit, uint64_t first)
{
	double		began = seconds();
	double		told = began;

	if (first == 0)
		first = fresh_seed();
	for (uint64_t i = 0; seconds() - began < limit; i++)
	{
		char		name[64];

		snprintf(name, sizeof(name), "soak seed %lu", (unsigned long) (first + i));
		test_seed(name, first + i, 0);
		if (seconds() - told > 60)
		{
			told = seconds();
			printf("[%.0f s] %lu passed, %lu failed, next %lu\n", told - began,
				   (unsigned long) passed, (unsigned long) failed,
				   (unsigned long) (first + i + 1));
			fflush(stdout);
		}
	}
	report(began);
	printf("sim soak: %lu passed, %lu failed\n", (unsigned long) passed, (unsigned long) failed);
	return failed == 0 ? 0 : 1;
}

/* One line: which invariant a mutant fell to, and how many seeds it took. */
static int
command_hunt(uint64_t count, uint64_t first)
{
	for (uint64_t i = 0; i < count; i++)
	{
		char		text[TEXT_MAX];
		char	   *line;

		if (run_seed(first + i, STEPS_DEFAULT, true, text))
			continue;
		line = strstr(text, "seed ");
		line = line != NULL ? line : text;
		line[strcspn(line, "\n")] = '\0';
		printf("caught after %lu seeds: %s\n", (unsigned long) (i + 1), line);
		return 0;
	}
	printf("SURVIVED %lu seeds\n", (unsigned long) count);
	return 1;
}

static int
usage(void)
{
	fprintf(stderr, "usage: sim run SEED [STEPS] | check FIRST COUNT SECONDS [STEPS] | "
			"soak SECONDS [FIRST] | hunt COUNT [FIRST]\n");
	return 2;
}

int
main(int argc, char **argv)
{
	uint64_t	a = argc > 2 ? strtoull(argv[2], NULL, 10) : 0;
	uint64_t	b = argc > 3 ? strtoull(argv[3], NULL, 10) : 0;

	if (argc < 3)
		return usage();
	if (strcmp(argv[1], "run") == 0)
		return command_run(a, b);
	if (strcmp(argv[1], "check") == 0 && argc > 4)
		return command_check(a, b, strtod(argv[4], NULL),
							 argc > 5 ? strtoull(argv[5], NULL, 10) : 0);
	if (strcmp(argv[1], "soak") == 0)
		return command_soak((double) a, b);
	if (strcmp(argv[1], "hunt") == 0)
		return command_hunt(a, argc > 3 ? b : 1);
	return usage();
}
