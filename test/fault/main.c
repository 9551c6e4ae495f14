/*-------------------------------------------------------------------------
 *
 * main.c
 *		check CHECKER[,CHECKER...] HISTORY - judge a history.
 *
 *	-s US		bound of bounded reads, in microseconds
 *	-t TOTAL	that every read of a bank must have
 *
 * Prints what is wrong and one line in the end. Status 0: nothing; 1: there are
 * anomalies; 2: the history cannot be read.
 *
 *-------------------------------------------------------------------------
 */
#include "history.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct
{
	const char *name;
	void		(*run) (const History *, const CheckOptions *);
}			checkers[] = {
	{"register", check_register},
	{"append", check_append},
	{"session", check_session},
	{"staleness", check_staleness},
	{"bank", check_bank},
	{"set", check_set},
	{"pair", check_pair},
	{"lock", check_lock},
	{"election", check_election},
	{"latch", check_latch},
};

#define NCHECKERS	(sizeof(checkers) / sizeof(checkers[0]))

static void __attribute__((noreturn))
usage(void)
{
	fprintf(stderr, "usage: check [-s US] [-t TOTAL] CHECKER[,CHECKER...] HISTORY\ncheckers:");
	for (size_t i = 0; i < NCHECKERS; i++)
		fprintf(stderr, " %s", checkers[i].name);
	fputc('\n', stderr);
	exit(2);
}

int
main(int argc, char **argv)
{
	CheckOptions options = {.staleness_us = 1000000, .total = NIL};
	History    *h;
	char	   *names;
	int			opt;
	int			bad;

	while ((opt = getopt(argc, argv, "s:t:")) != -1)
	{
		if (opt == 's')
			options.staleness_us = atoll(optarg);
		else if (opt == 't')
			options.total = atoll(optarg);
		else
			usage();
	}
	if (optind + 2 != argc)
		usage();
	names = argv[optind];
	h = history_read(argv[optind + 1]);
	for (char *name; (name = strsep(&names, ","));)
	{
		size_t		i = 0;
		int			before = anomalies();

		while (i < NCHECKERS && strcmp(checkers[i].name, name) != 0)
			i++;
		if (i == NCHECKERS)
			usage();
		checkers[i].run(h, &options);
		printf("%s: %d transactions, %s\n", name, h->count,
			   anomalies() > before ? "BROKEN" : "nothing wrong");
	}
	bad = anomalies();
	memory_release();
	return bad > 0;
}
