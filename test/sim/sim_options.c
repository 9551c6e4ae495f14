/*-------------------------------------------------------------------------
 *
 * sim_options.c
 *		What kind of world a seed makes: sizes, delays, which faults and how
 *		often. Some seeds are calm, some are cruel, most are cruel in one way.
 *
 *-------------------------------------------------------------------------
 */
#include "sim.h"

#include <string.h>

#define BETWEEN(low, high) sim_between(rand, (low), (high))
#define ONE_IN(n) sim_chance(rand, SIM_PPM / (n))

static void
draw_network(SimOptions *o, SimRand *rand)
{
	o->heartbeat_interval_us = (int64_t) BETWEEN(10, 100) * SIM_MS;
	o->election_timeout_us = o->heartbeat_interval_us * (int64_t) BETWEEN(4, 12);
	o->delay_min_us = (int64_t) BETWEEN(50, 2000);
	o->delay_max_us = o->delay_min_us + (int64_t) BETWEEN(100, 10000);
	if (ONE_IN(8))
		o->delay_max_us = o->election_timeout_us / 2;
	o->ordered = ONE_IN(3);
	if (!ONE_IN(3))
		o->loss_ppm = (uint32_t) BETWEEN(0, ONE_IN(3) ? 300000 : 30000);
	if (!ONE_IN(3))
		o->duplicate_ppm = (uint32_t) BETWEEN(0, 100000);
	if (ONE_IN(3))
		o->flip_ppm = (uint32_t) BETWEEN(0, 20000);
}

static void
draw_sizes(SimOptions *o, SimRand *rand)
{
	o->segment_bytes = UINT64_C(4096) << BETWEEN(0, 5);
	o->payload_max = ONE_IN(4) ? (uint32_t) BETWEEN(0, 3000) : (uint32_t) BETWEEN(0, 200);
	o->max_message_bytes = ONE_IN(4) ? (uint32_t) BETWEEN(1, 200) : (uint32_t) BETWEEN(500, 65536);
	o->max_inflight_messages = ONE_IN(3) ? (uint32_t) BETWEEN(1, 3) : (uint32_t) BETWEEN(4, 256);
	/* a deep window that is reordered is sent over and over; TCP does not do that */
	if (!o->ordered && o->max_inflight_messages > 8)
		o->max_inflight_messages = 8;
	o->max_inflight_bytes = ONE_IN(4) ? BETWEEN(1, 5000) : UINT64_C(1) << 20;
	o->max_uncommitted_bytes = ONE_IN(4) ? BETWEEN(1, 5000) : UINT64_C(1) << 24;
	o->cache_bytes = ONE_IN(2) ? BETWEEN(0, 5000) : UINT64_C(1) << 20;
	o->max_apply_entries = (uint32_t) BETWEEN(1, ONE_IN(2) ? 5 : 1000);
	o->keep_entries = BETWEEN(0, ONE_IN(2) ? 10 : 300);
	o->compaction = !ONE_IN(4);
	/* the fake disk has room for SIM_MAX_FILES names */
	if ((!o->compaction || o->payload_max > 500) && o->segment_bytes < 32768)
		o->segment_bytes = 32768;
	o->apply_max_us = (int64_t) BETWEEN(0, ONE_IN(4) ? 500000 : 5000);
}

static void
draw_faults(SimOptions *o, SimRand *rand)
{
	static const uint32_t all = (UINT32_C(1) << SIM_FAULT_BITS) - 1;

	switch (BETWEEN(0, 5))
	{
		case 0:
			o->fault_mix = all;
			break;
		case 1:					/* processes */
			o->fault_mix = SIM_FAULT_CRASH | SIM_FAULT_POWER | SIM_FAULT_PAUSE | SIM_FAULT_SLOW |
				SIM_FAULT_ALL_DOWN;
			break;
		case 2:					/* network */
			o->fault_mix = SIM_FAULT_PARTITION | SIM_FAULT_ONE_WAY | SIM_FAULT_CLOG |
				SIM_FAULT_PARTIAL | SIM_FAULT_TRANSFER | SIM_FAULT_CAMPAIGN;
			break;
		case 3:					/* disks */
			o->fault_mix = SIM_FAULT_POWER | SIM_FAULT_EIO | SIM_FAULT_ENOSPC | SIM_FAULT_STALL |
				SIM_FAULT_ROT | SIM_FAULT_MISDIRECT | SIM_FAULT_WIPE | SIM_FAULT_ALL_DOWN;
			break;
		default:				/* any half of them */
			o->fault_mix = (uint32_t) sim_rand_next(rand) & all;
			break;
	}
	o->fault_gap_us = o->election_timeout_us * (int64_t) BETWEEN(1, 20) / 4;
	if (!ONE_IN(3))
		o->effect_crash_ppm = (uint32_t) BETWEEN(0, ONE_IN(3) ? 10000 : 1500);
}

void
sim_options_draw(SimOptions *o, SimRand *rand)
{
	memset(o, 0, sizeof(*o));
	o->voters = (int) BETWEEN(1, 9);
	if (o->voters == 8)
		o->voters = 3;
	if (o->voters == 9)
		o->voters = 5;
	o->machines = o->voters + (int) BETWEEN(0, 3);
	if (o->machines > SIM_MAX_MACHINES)
		o->machines = SIM_MAX_MACHINES;
	draw_network(o, rand);
	o->disk_min_us = (int64_t) BETWEEN(20, 500);
	o->disk_max_us = o->disk_min_us + (int64_t) BETWEEN(100, ONE_IN(4) ? 50000 : 3000);
	draw_sizes(o, rand);
	draw_faults(o, rand);
	o->clients = (int) BETWEEN(1, SIM_MAX_CLIENTS);
	o->client_gap_us = (int64_t) BETWEEN(500, 50000);
	o->operator_gap_us = o->election_timeout_us * (int64_t) BETWEEN(1, ONE_IN(2) ? 4 : 20) / 2;
	o->membership = !ONE_IN(3);
	o->lease_reads = ONE_IN(3);
	/* within a lease's slack of a tenth of it; see raft.h */
	o->drift_ppm = ONE_IN(2) ? (int32_t) BETWEEN(0, 20000) : 0;
}

void
sim_options_print(const SimOptions *o, FILE *out)
{
	fprintf(out, "voters %d machines %d election %ld ms heartbeat %ld ms delay %ld..%ld us "
			"disk %ld..%ld us\nloss %u dup %u flip %u ppm%s faults %05x every %ld ms, "
			"effect crash %u ppm\nsegment %lu message %u inflight %u/%lu uncommitted %lu cache "
			"%lu apply %u keep %lu\nclients %d every %ld us payload %u operator %ld ms%s%s%s "
			"drift %d ppm\n",
			o->voters, o->machines, (long) (o->election_timeout_us / SIM_MS),
			(long) (o->heartbeat_interval_us / SIM_MS), (long) o->delay_min_us,
			(long) o->delay_max_us, (long) o->disk_min_us, (long) o->disk_max_us, o->loss_ppm,
			o->duplicate_ppm, o->flip_ppm, o->ordered ? " ordered" : "", o->fault_mix,
			(long) (o->fault_gap_us / SIM_MS), o->effect_crash_ppm,
			(unsigned long) o->segment_bytes, o->max_message_bytes, o->max_inflight_messages,
			(unsigned long) o->max_inflight_bytes, (unsigned long) o->max_uncommitted_bytes,
			(unsigned long) o->cache_bytes, o->max_apply_entries,
			(unsigned long) o->keep_entries, o->clients, (long) o->client_gap_us,
			o->payload_max, (long) (o->operator_gap_us / SIM_MS),
			o->membership ? " membership" : "", o->compaction ? " compaction" : "",
			o->lease_reads ? " leases" : "", o->drift_ppm);
}
