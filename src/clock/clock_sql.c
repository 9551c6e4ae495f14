/*-------------------------------------------------------------------------
 *
 * clock_sql.c
 *		SQL functions that read and move the server's clock.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "clock/clock_internal.h"
#include "clock/hlc_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

PG_FUNCTION_INFO_V1(quorum_hlc_now);
PG_FUNCTION_INFO_V1(quorum_hlc_observe);
PG_FUNCTION_INFO_V1(quorum_transaction_hlc);
PG_FUNCTION_INFO_V1(quorum_clock_state);
PG_FUNCTION_INFO_V1(quorum_clock_peers);

/* of this session's last replicated commit; zero = none yet */
static HlcStamp transaction_stamp;

void
clock_set_transaction_stamp(HlcStamp stamp)
{
	transaction_stamp = stamp;
}

Datum
quorum_hlc_now(PG_FUNCTION_ARGS)
{
	HlcStamp   *stamp = palloc(sizeof(HlcStamp));
	ClockVerdict verdict;

	clock_require_loaded();
	verdict = clock_now(stamp);
	if (unlikely(verdict == CLOCK_NOT_READY))
	{
		clock_wait_ready();
		verdict = clock_now(stamp);
	}
	clock_report(verdict);
	PG_RETURN_HLC_P(stamp);
}

Datum
quorum_hlc_observe(PG_FUNCTION_ARGS)
{
	HlcStamp   *remote = PG_GETARG_HLC_P(0);
	HlcStamp   *stamp = palloc(sizeof(HlcStamp));

	clock_require_loaded();
	clock_wait_ready();
	clock_report(clock_observe(*remote, 0, stamp));
	PG_RETURN_HLC_P(stamp);
}

Datum
quorum_transaction_hlc(PG_FUNCTION_ARGS)
{
	HlcStamp   *stamp;

	if (hlc_is_zero(transaction_stamp))
		PG_RETURN_NULL();
	stamp = palloc(sizeof(HlcStamp));
	*stamp = transaction_stamp;
	PG_RETURN_HLC_P(stamp);
}

/* ---------- quorum.clock_status ---------- */

static Interval *
make_interval_us(int64 us)
{
	Interval   *interval = palloc0(sizeof(Interval));

	interval->time = us;
	return interval;
}

/* One row: this server. */
Datum
quorum_clock_state(PG_FUNCTION_ARGS)
{
	TupleDesc	tupdesc;
	Datum		values[10];
	bool		nulls[10] = {false};
	HlcStamp   *clock = palloc(sizeof(HlcStamp));
	char		why[128];
	bool		fenced;
	HlcWord		bound;
	HlcWord		word;
	int			i = 0;

	clock_require_loaded();
	if (get_call_result_type(fcinfo, NULL, &tupdesc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");

	fenced = clock_is_fenced(why, sizeof(why));
	word = pg_atomic_read_u64(&clock_shared->word);
	bound = pg_atomic_read_u64(&clock_shared->bound);
	*clock = hlc_word_stamp(word, pg_atomic_read_u32(&clock_shared->node_id));

	values[i++] = Int64GetDatum(clock->node);
	nulls[i] = (word == 0);
	values[i++] = HlcPGetDatum(clock);
	nulls[i] = (bound == 0);
	values[i++] = TimestampTzGetDatum(hlc_word_physical_us(bound));

	LWLockAcquire(&clock_shared->watch_lock, LW_SHARED);
	values[i++] = Int64GetDatum(clock_shared->jumps_forward);
	values[i++] = Int64GetDatum(clock_shared->jumps_backward);
	nulls[i] = (clock_shared->last_jump_us == 0);
	values[i++] = IntervalPGetDatum(make_interval_us(clock_shared->last_jump_us));
	nulls[i] = (clock_shared->last_jump_us == 0);
	values[i++] = TimestampTzGetDatum(clock_shared->last_jump_at_us);
	LWLockRelease(&clock_shared->watch_lock);

	values[i++] = Int64GetDatum(pg_atomic_read_u64(&clock_shared->refusals));
	values[i++] = BoolGetDatum(fenced);
	nulls[i] = !fenced;
	values[i++] = fenced ? CStringGetTextDatum(why) : (Datum) 0;
	Assert(i == lengthof(values) && i == tupdesc->natts);

	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(tupdesc),
													  values, nulls)));
}

/* One row a peer: node_id, offset, bound of the offset's error, contact, refusals. */
Datum
quorum_clock_peers(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	ClockPeer	peers[CLOCK_MAX_PEERS];
	int			npeers;

	clock_require_loaded();
	InitMaterializedSRF(fcinfo, 0);

	LWLockAcquire(&clock_shared->peers_lock, LW_SHARED);
	npeers = clock_shared->npeers;
	memcpy(peers, clock_shared->peers, sizeof(ClockPeer) * npeers);
	LWLockRelease(&clock_shared->peers_lock);

	for (int i = 0; i < npeers; i++)
	{
		ClockPeer  *peer = &peers[i];
		bool		unknown = (peer->nsamples == 0);
		bool		nulls[5] = {false, unknown, unknown, unknown, false};
		Datum		values[5];

		values[0] = Int64GetDatum(peer->node_id);
		values[1] = IntervalPGetDatum(make_interval_us(peer->best.offset_us));
		values[2] = IntervalPGetDatum(make_interval_us(peer->best.error_us));
		values[3] = TimestampTzGetDatum(peer->last_contact_us);
		values[4] = Int64GetDatum(peer->refusals);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}
