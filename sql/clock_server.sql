-- The server's clock as SQL sees it: hlc_now, hlc_observe, ids, status, rights
SET client_min_messages = warning;
SET search_path = public, quorum;
SET TimeZone = 'UTC';

-- unique, increasing, near the time of day
CREATE TABLE clock_t (n bigserial, h hlc DEFAULT hlc_now(), id bigint DEFAULT next_id());
INSERT INTO clock_t SELECT FROM generate_series(1, 50000);
SELECT count(*), count(DISTINCT h), count(DISTINCT id) FROM clock_t;
SELECT count(*) FROM (SELECT h, lag(h) OVER (ORDER BY n) AS ph, id, lag(id) OVER (ORDER BY n) AS pid FROM clock_t) s
WHERE ph >= h OR pid >= id;
SELECT bool_and(abs(extract(epoch FROM hlc_physical(h) - clock_timestamp())) < 60) FROM clock_t;
SELECT bool_and(abs(extract(epoch FROM id_timestamp(id) - clock_timestamp())) < 60) FROM clock_t;
SELECT count(*) FROM clock_t WHERE hlc_node(h) <> (SELECT node_id FROM clock_status WHERE is_local)
	OR id_node(id) <> (SELECT node_id FROM clock_status WHERE is_local);

-- the receive rule
SELECT h AS before, hlc_observe(h) > h AS past_it, hlc_now() > h AS stays FROM (SELECT hlc_now() AS h OFFSET 0) s \gset
\echo :past_it :stays
SELECT hlc_make(clock_timestamp() + interval '200 ms', 7, 99) AS ahead \gset
SELECT hlc_observe(:'ahead') > :'ahead'::hlc AS past_it, hlc_now() > :'ahead'::hlc AS stays;
-- an old stamp changes nothing
SELECT hlc_observe('2001-01-01T00:00:00Z/1@1') > :'ahead'::hlc AS stays, hlc_observe('0001-01-01T00:00:00Z/0@0') > :'ahead'::hlc AS stays;
-- beyond quorum.max_clock_offset nothing is merged, and it is counted
SELECT refusals FROM clock_status WHERE is_local \gset
SELECT hlc_observe(hlc_make(clock_timestamp() + interval '1 hour', 0, 5));
SELECT hlc_observe('9999-12-31T23:59:59.999999Z/4294967295@4294967295');
SELECT hlc_physical(hlc_now()) < clock_timestamp() + interval '10 s' AS not_merged, refusals - :refusals AS refused FROM clock_status WHERE is_local;
SHOW quorum.max_clock_offset;
SELECT hlc_observe(NULL) IS NULL AS strict;

-- taking ids apart
SELECT id_timestamp(i), id_node(i), id_counter(i), i FROM (VALUES (0::bigint), ((1000::bigint << 22) | (5 << 12) | 7), (9223372036854775807)) v(i);
SELECT id_timestamp(-1);
SELECT id_from_timestamp('2025-01-01 00:00:01Z') = (1000::bigint << 22) AS exact, id_from_timestamp('2025-01-01 00:00:00.9991Z') = (1000::bigint << 22) AS rounded_up,
	id_timestamp(id_from_timestamp('2026-11-23 01:02:03.456Z'));
SELECT id_from_timestamp('2024-12-31 23:59:59Z');
SELECT id_from_timestamp('2100-01-01 00:00:00Z');
SELECT id_from_timestamp('infinity');
SELECT count(*) FROM clock_t WHERE id >= id_from_timestamp(clock_timestamp() + interval '1 minute') OR id < id_from_timestamp(clock_timestamp() - interval '10 minutes');

-- the view
SELECT is_local, clock_offset IS NULL AS no_offset, clock <= hlc_now() AS clock, upper_bound > hlc_physical(clock) AS bound, jumps_forward >= 0 AS jumps,
	fenced, detail, node_name = current_setting('quorum.node_name') AS name
FROM clock_status WHERE is_local;

-- who may what
CREATE ROLE clock_reader;
CREATE ROLE clock_mover;
GRANT quorum_admin TO clock_mover;
SET ROLE clock_reader;
SELECT hlc_now() IS NOT NULL AS now, next_id() > 0 AS id, transaction_hlc() IS NOT DISTINCT FROM transaction_hlc() AS own, count(*) FROM clock_status WHERE is_local;
SELECT hlc_observe('2001-01-01T00:00:00Z/1@1');
SELECT lamport_tick('reader') > '0' AS ticks, lamport_observe('reader', '5') > '5' AS observes;
SELECT lamport_drop('reader');
RESET ROLE;
SET ROLE clock_mover;
SELECT hlc_observe('2001-01-01T00:00:00Z/1@1') IS NOT NULL AS moved, lamport_drop('reader');
RESET ROLE;
DROP ROLE clock_reader;
DROP ROLE clock_mover;
DROP TABLE clock_t;
