-- Vector clocks: forms, the partial order, functions, the canonical order
SET client_min_messages = warning;
SET search_path = public, quorum;

-- text form
SELECT v::vclock FROM (VALUES
	('{}'), ('{a:1,b:2}'), (' { b : 2 , a : 1 } '), ('{a:0}'),
	('{"a b":1,"q\"\\":2}'), ('{17:4,node-1.x_y:9223372036854775807}'), ('{ä:1}'), ('{b:1,ab:1,aa:1,a:1}')) v(v);
SELECT '{"":3}'::vclock;
SELECT ''::vclock;
SELECT 'a:1'::vclock;
SELECT '{a:1'::vclock;
SELECT '{a:1,}'::vclock;
SELECT '{a:1 b:2}'::vclock;
SELECT '{a}'::vclock;
SELECT '{a:-1}'::vclock;
SELECT '{a:1.5}'::vclock;
SELECT '{a:9223372036854775808}'::vclock;
SELECT '{a:1,a:2}'::vclock;
SELECT '{a:1}x'::vclock;
SELECT '{"a:1}'::vclock;
SELECT ('{' || repeat('x', 256) || ':1}')::vclock;
SELECT ('{' || string_agg('n' || g || ':1', ',') || '}')::vclock IS NULL FROM generate_series(1, 65536) g;
SELECT length(('{' || string_agg('n' || g || ':1', ',') || '}')::vclock::text) FROM generate_series(1, 65535) g;
-- equal is equal, in whatever order and with zeros it was written
SELECT '{b:2,a:1,c:0}'::vclock = '{a:1,b:2}'::vclock AS eq, '{a:1}'::vclock <> '{a:2}'::vclock AS ne;

-- the partial order
SELECT a, b, a <@ b AS "<@", a @> b AS "@>", a = b AS "=", vclock_concurrent(a, b), vclock_compare(a, b)
FROM (VALUES
	('{}'::vclock, '{}'::vclock), ('{}', '{a:1}'), ('{a:1}', '{}'), ('{a:1}', '{a:2}'), ('{a:1}', '{b:1}'),
	('{a:1,b:2}', '{a:1,b:2}'), ('{a:1,b:2}', '{a:1,b:2,c:1}'), ('{a:2,b:1}', '{a:1,b:2}'), ('{a:2,b:2,c:1}', '{a:2,c:1}'),
	('{a:1,c:1}', '{b:1}'), ('{b:1}', '{a:1,b:1,c:1}')) v(a, b);
-- there is no < on purpose
SELECT '{a:1}'::vclock < '{a:2}'::vclock;

-- functions
SELECT vclock_tick('{}', 'a'), vclock_tick('{a:1,c:1}', 'b'), vclock_tick('{a:1}', 'a'), vclock_tick('{}', 17), vclock_tick('{17:1}', 17::bigint);
SELECT vclock_tick('{a:9223372036854775807}', 'a');
SELECT vclock_tick('{}', '');
SELECT vclock_tick('{}', -1);
SELECT vclock_merge('{a:1,b:5}', '{b:3,c:2}'), vclock_merge('{}', '{a:1}'), vclock_merge('{}', '{}'), vclock_merge('{a:1}', NULL) IS NULL AS strict;
SELECT vclock_merge(v) FROM (VALUES ('{a:1}'::vclock), (NULL), ('{b:4,a:3}'), ('{b:2,c:1}')) t(v);
SELECT vclock_merge(v) FROM (SELECT '{a:1}'::vclock WHERE false) t(v);
SELECT vclock_get('{a:1,b:2}', 'b'), vclock_get('{a:1}', 'z');
SELECT * FROM vclock_entries('{b:2,"a c":1}');
SELECT vclock_prune('{a:1,b:2,c:3}', ARRAY['c', 'a', NULL, 'x']), vclock_prune('{a:1}', '{}');
SELECT vclock_limit('{a:1,b:9,c:3,d:3}', 3), vclock_limit('{a:1,b:9,c:3,d:3}', 2), vclock_limit('{a:1}', 5), vclock_limit('{a:1}', 0);
SELECT vclock_limit('{a:1}', -1);

-- jsonb
SELECT '{a:1,"b c":9223372036854775807}'::vclock::jsonb, '{}'::vclock::jsonb;
SELECT '{"b": 2, "a": 1, "c": 0, "d": 4.0}'::jsonb::vclock, '{}'::jsonb::vclock;
SELECT '[1]'::jsonb::vclock;
SELECT '1'::jsonb::vclock;
SELECT '{"a": "1"}'::jsonb::vclock;
SELECT '{"a": 1.5}'::jsonb::vclock;
SELECT '{"a": -1}'::jsonb::vclock;
SELECT '{"a": {"b": 1}}'::jsonb::vclock;
SELECT '{"": 1}'::jsonb::vclock;
SELECT '{"a": 9223372036854775808}'::jsonb::vclock;

-- tables, toasted values, binary COPY, indexes
CREATE TABLE vclock_t (id int, v vclock);
INSERT INTO vclock_t
SELECT g, ('{n' || g % 7 || ':' || g % 11 + 1 || ',m' || g % 5 || ':' || g % 3 + 1 || '}')::vclock FROM generate_series(1, 5000) g;
INSERT INTO vclock_t
SELECT -g, (SELECT ('{' || string_agg(md5(n::text) || ':' || n, ',') || '}')::vclock FROM generate_series(1, 1000 + g) n) FROM generate_series(1, 3) g;
INSERT INTO vclock_t VALUES (0, NULL);
ANALYZE vclock_t;
SELECT count(*) FROM vclock_t WHERE v::text::vclock IS DISTINCT FROM v OR v::jsonb::vclock IS DISTINCT FROM v;
SELECT current_setting('data_directory') || '/vclock_copy' AS file \gset
COPY vclock_t TO :'file' (FORMAT binary);
CREATE TABLE vclock_c (LIKE vclock_t);
COPY vclock_c FROM :'file' (FORMAT binary);
SELECT count(*) FROM ((TABLE vclock_t EXCEPT ALL TABLE vclock_c) UNION ALL (TABLE vclock_c EXCEPT ALL TABLE vclock_t)) d;
SELECT vclock_send('{ab:1,c:258}');

SELECT count(*), count(DISTINCT v) FROM vclock_t;
SET enable_sort = off;
SELECT count(*) FROM (SELECT v FROM vclock_t GROUP BY v) s;
RESET enable_sort;
SET enable_hashagg = off;
SELECT count(*) FROM (SELECT v FROM vclock_t GROUP BY v) s;
RESET enable_hashagg;
CREATE INDEX vclock_hash ON vclock_t USING hash (v);
SET enable_seqscan = off;
EXPLAIN (COSTS OFF) SELECT id FROM vclock_t WHERE v = '{n1:2,m1:2}';
SELECT count(*) FROM vclock_t WHERE v = '{n1:2,m1:2}';
DROP INDEX vclock_hash;
CREATE INDEX vclock_btree ON vclock_t (v) WHERE id >= 0;
SET enable_bitmapscan = off;
EXPLAIN (COSTS OFF) SELECT id FROM vclock_t WHERE v = '{n1:2,m1:2}' AND id >= 0;
SELECT count(*) FROM vclock_t WHERE v = '{n1:2,m1:2}' AND id >= 0;
RESET enable_seqscan;
RESET enable_bitmapscan;
-- sorted, an effect never comes before its cause
CREATE TABLE vclock_d AS SELECT row_number() OVER (ORDER BY v) AS place, v
FROM (SELECT DISTINCT v FROM vclock_t WHERE id > 0) s;
SELECT count(*) FROM vclock_d;
SELECT count(*) FROM vclock_d a JOIN vclock_d b ON a.v <@ b.v AND a.place > b.place;
SELECT count(*) > 0 AS some_related FROM vclock_d a JOIN vclock_d b ON a.v <@ b.v AND a.place < b.place;
SELECT a *< b AS lt, a *<= b AS le, a *> b AS gt, a *>= b AS ge FROM (VALUES ('{a:1}'::vclock, '{b:1}'::vclock), ('{b:3}', '{a:2,c:2}')) v(a, b);
CREATE TABLE vclock_p (v vclock) PARTITION BY HASH (v);
CREATE TABLE vclock_p0 PARTITION OF vclock_p FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE vclock_p1 PARTITION OF vclock_p FOR VALUES WITH (MODULUS 2, REMAINDER 1);
INSERT INTO vclock_p SELECT v FROM vclock_d;
SELECT count(*) > 100 AS balanced FROM vclock_p GROUP BY tableoid;

-- The diagram with three nodes: A works and sends to B; B receives, works and
-- sends to C; C receives, works. Meanwhile C had an event of its own.
CREATE TABLE vclock_event (step int, name text PRIMARY KEY, v vclock);
INSERT INTO vclock_event VALUES (1, 'a1', vclock_tick('{}', 'A')), (1, 'c1', vclock_tick('{}', 'C'));
INSERT INTO vclock_event SELECT 2, 'a2: send to B', vclock_tick(v, 'A') FROM vclock_event WHERE name = 'a1';
INSERT INTO vclock_event SELECT 3, 'b1: receive from A', vclock_tick(vclock_merge('{}', v), 'B') FROM vclock_event WHERE name LIKE 'a2%';
INSERT INTO vclock_event SELECT 4, 'b2: send to C', vclock_tick(v, 'B') FROM vclock_event WHERE name LIKE 'b1%';
INSERT INTO vclock_event SELECT 4, 'a3', vclock_tick(v, 'A') FROM vclock_event WHERE name LIKE 'a2%';
INSERT INTO vclock_event SELECT 5, 'c2: receive from B', vclock_tick(vclock_merge(c.v, b.v), 'C') FROM vclock_event c, vclock_event b WHERE c.name = 'c1' AND b.name LIKE 'b2%';
SELECT name, v FROM vclock_event ORDER BY step, name;
SELECT left(a.name, 2) AS a, left(b.name, 2) AS b, vclock_compare(a.v, b.v) FROM vclock_event a JOIN vclock_event b ON a.name < b.name ORDER BY 1, 2;

DROP TABLE vclock_t, vclock_c, vclock_d, vclock_p, vclock_event;
