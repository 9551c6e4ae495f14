-- Lamport time: the type, the rules, named counters
SET client_min_messages = warning;
SET search_path = public, quorum;

SELECT '0'::lamport, ' 42 '::lamport, '9223372036854775807'::lamport;
SELECT '-1'::lamport;
SELECT '9223372036854775808'::lamport;
SELECT ''::lamport;
SELECT '1x'::lamport;
SELECT '1.0'::lamport;
SELECT (-1)::lamport;
SELECT (-1)::bigint::lamport;
SELECT 7::lamport, 7::bigint::lamport, '7'::lamport::bigint;

SELECT a, b, a < b AS lt, a <= b AS le, a = b AS eq, a <> b AS ne, a >= b AS ge, a > b AS gt
FROM (VALUES ('1'::lamport, '2'::lamport), ('2', '2'), ('10', '9')) v(a, b);
-- a Lamport time is no number
SELECT '1'::lamport + '1'::lamport;

CREATE TABLE lamport_t (id int, l lamport);
INSERT INTO lamport_t SELECT g, (g * 7919 % 10007)::bigint FROM generate_series(1, 10000) g;
ANALYZE lamport_t;
SELECT min(l), max(l), count(DISTINCT l) FROM lamport_t;
SELECT count(*) FROM (SELECT l, lag(l) OVER (ORDER BY l) AS p FROM lamport_t) s WHERE p > l;
CREATE INDEX lamport_btree ON lamport_t (l);
SET enable_seqscan = off;
SET enable_bitmapscan = off;
EXPLAIN (COSTS OFF) SELECT id FROM lamport_t WHERE l < '5';
SELECT count(*) FROM lamport_t WHERE l < '5';
DROP INDEX lamport_btree;
CREATE INDEX lamport_hash ON lamport_t USING hash (l);
EXPLAIN (COSTS OFF) SELECT id FROM lamport_t WHERE l = '5';
SELECT count(*) FROM lamport_t WHERE l = '5';
DROP INDEX lamport_hash;
RESET enable_bitmapscan;
CREATE INDEX lamport_brin ON lamport_t USING brin (l);
EXPLAIN (COSTS OFF) SELECT id FROM lamport_t WHERE l > '10000';
SELECT count(*) FROM lamport_t WHERE l > '10000';
RESET enable_seqscan;
CREATE TABLE lamport_p (l lamport) PARTITION BY HASH (l);
CREATE TABLE lamport_p0 PARTITION OF lamport_p FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE lamport_p1 PARTITION OF lamport_p FOR VALUES WITH (MODULUS 2, REMAINDER 1);
INSERT INTO lamport_p SELECT l FROM lamport_t;
SELECT count(*) BETWEEN 4500 AND 5500 AS balanced FROM lamport_p GROUP BY tableoid;
SELECT current_setting('data_directory') || '/lamport_copy' AS file \gset
COPY lamport_t TO :'file' (FORMAT binary);
CREATE TABLE lamport_c (LIKE lamport_t);
COPY lamport_c FROM :'file' (FORMAT binary);
SELECT count(*) FROM (TABLE lamport_t EXCEPT ALL TABLE lamport_c) d;

-- the rules on values
SELECT lamport_tick('5'::lamport), lamport_observe('5'::lamport, '3'::lamport), lamport_observe('5'::lamport, '9'::lamport);
SELECT lamport_tick('9223372036854775807'::lamport);
SELECT lamport_observe('1'::lamport, '9223372036854775807'::lamport);

-- named counters
SELECT lamport_value('nobody');
SELECT lamport_tick('c'), lamport_tick('c'), lamport_value('c');
SELECT lamport_observe('c', '10'), lamport_observe('c', '4'), lamport_tick('c');
-- not transactional, as a sequence
BEGIN;
SELECT lamport_tick('c');
ROLLBACK;
SELECT lamport_tick('c');
SELECT count(DISTINCT lamport_tick('many')), max(lamport_tick('many')) FROM generate_series(1, 20000);
SELECT * FROM lamport_counters ORDER BY name;
SELECT lamport_drop('many'), lamport_drop('many'), lamport_value('many');
SELECT lamport_observe('top', '9223372036854775806'), lamport_value('top');
SELECT lamport_tick('top');
SELECT lamport_observe('c', '9223372036854775807');
SELECT lamport_value('c');
SELECT lamport_tick('');
SELECT lamport_tick(repeat('x', 64));
SELECT lamport_tick(repeat('x', 63)), lamport_drop(repeat('x', 63));
SELECT lamport_tick(NULL::text) IS NULL AS strict;
-- room is bounded, and comes back
SELECT max(lamport_tick('n' || g)) FROM generate_series(1, 2000) g;
SELECT count(*) FROM lamport_counters;
SELECT bool_and(lamport_drop(name)) FROM (SELECT name FROM lamport_counters) c;
SELECT count(*) FROM lamport_counters;

-- Lamport 1978, figure 1: three processes; each event of a process counts up, a
-- message received sets its clock past the stamp. Every arrow of the figure then
-- goes from a smaller to a larger time.
CREATE TABLE lamport_event (name text PRIMARY KEY, l lamport, tie text);
CREATE FUNCTION local_event(event text, process text) RETURNS void LANGUAGE sql
AS $$ INSERT INTO public.lamport_event VALUES ($1, quorum.lamport_tick($2), $2) $$;
CREATE FUNCTION receive_event(event text, process text, message text) RETURNS void LANGUAGE sql
AS $$ INSERT INTO public.lamport_event
	SELECT $1, quorum.lamport_observe($2, e.l), $2 FROM public.lamport_event e WHERE e.name = $3 $$;
SELECT local_event('p1', 'P'), local_event('q1', 'Q'), local_event('r1', 'R');
SELECT receive_event('q2', 'Q', 'p1'), receive_event('p2', 'P', 'q1');
SELECT local_event('q3', 'Q'), local_event('r2', 'R');
SELECT receive_event('p3', 'P', 'q3'), receive_event('q4', 'Q', 'r2');
SELECT local_event('q5', 'Q');
SELECT receive_event('r3', 'R', 'q5');
SELECT local_event('r4', 'R');
SELECT receive_event('p4', 'P', 'r4');
SELECT local_event('q6', 'Q');
SELECT name, l FROM lamport_event ORDER BY name;
-- the clock condition for every message and every pair of successive events
SELECT m.sent, m.received, s.l < r.l AS holds
FROM (VALUES ('p1', 'q2'), ('q1', 'p2'), ('q3', 'p3'), ('r2', 'q4'), ('q5', 'r3'), ('r4', 'p4')) m(sent, received)
JOIN lamport_event s ON s.name = m.sent JOIN lamport_event r ON r.name = m.received ORDER BY m.sent;
SELECT count(*), bool_and(e.l < n.l) AS holds FROM lamport_event e JOIN lamport_event n
ON n.tie = e.tie AND right(n.name, 1)::int = right(e.name, 1)::int + 1;
-- and the total order of the paper: time, then process
SELECT string_agg(name, ' ' ORDER BY l, tie) FROM lamport_event;

DROP FUNCTION local_event, receive_event;
DROP TABLE lamport_t, lamport_p, lamport_c, lamport_event;
SELECT bool_and(lamport_drop(name)) FROM (SELECT name FROM lamport_counters) c;
