/*-------------------------------------------------------------------------
 *
 * bench.c
 *		What a tick of the clock costs: the compare-and-swap loop alone, and with
 *		the reading of the wall clock, by 1, 2, 4 and 8 threads.
 *
 *-------------------------------------------------------------------------
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "clock/hlc.h"

#define TICKS		2000000
#define MAX_THREADS	8

static _Atomic uint64_t word;

static int64_t
read_clock_us(clockid_t id)
{
	struct timespec ts;

	clock_gettime(id, &ts);
	return (int64_t) ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

static void *
tick(void *arg)
{
	const int  *with_wall = arg;

	for (int i = 0; i < TICKS; i++)
	{
		int64_t		wall_us = *with_wall ? read_clock_us(CLOCK_REALTIME) - INT64_C(946684800000000) : 1;
		uint64_t	last = atomic_load(&word);

		while (!atomic_compare_exchange_weak(&word, &last, hlc_word_local_event(last, wall_us)))
			;
	}
	return NULL;
}

int
main(void)
{
	for (int with_wall = 0; with_wall <= 1; with_wall++)
	{
		for (int threads = 1; threads <= MAX_THREADS; threads *= 2)
		{
			pthread_t	thread[MAX_THREADS];
			int64_t		begun_us = read_clock_us(CLOCK_MONOTONIC);
			double		seconds;

			for (int i = 0; i < threads; i++)
			{
				if (pthread_create(&thread[i], NULL, tick, &with_wall) != 0)
					return 1;
			}
			for (int i = 0; i < threads; i++)
				pthread_join(thread[i], NULL);
			seconds = (read_clock_us(CLOCK_MONOTONIC) - begun_us) / 1e6;
			printf("%s %d threads: %.1f million ticks/s\n",
				   with_wall ? "wall clock and CAS," : "CAS alone,", threads,
				   (double) TICKS * threads / seconds / 1e6);
		}
	}
	return 0;
}
