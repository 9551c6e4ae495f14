-- The type hlc: forms, order, indexes, arithmetic, casts, ranges
SET client_min_messages = warning;
SET search_path = public, quorum;
SET TimeZone = 'UTC';
SET IntervalStyle = postgres;
SET DateStyle = 'ISO, MDY';

-- text form
SELECT '2026-11-23T01:02:03.456789Z/3@2'::hlc;
SELECT h::hlc FROM (VALUES
	('2026-11-23T01:02:03Z/0@0'),
	('  2026-11-23 01:02:03.4z/0@0  '),
	('2026-11-23t01:02:03.000001+01:30/1@1'),
	('2026-11-23T01:02:03-0800/1@1'),
	('2026-12-31T23:59:59-01/1@1'),
	('2024-02-29T00:00:00Z/4294967295@4294967295'),
	('0001-01-01T00:00:00Z/0@0'),
	('9999-12-31T23:59:59.999999Z/0@0')) v(h);
-- refused, never rounded
SELECT 'garbage'::hlc;
SELECT ''::hlc;
SELECT '2026-11-23T01:02:03Z'::hlc;
SELECT '2026-11-23T01:02:03Z/1'::hlc;
SELECT '2026-11-23T01:02:03/1@1'::hlc;
SELECT '2026-11-23T01:02:03.1234567Z/1@1'::hlc;
SELECT '2026-11-23T24:00:00Z/1@1'::hlc;
SELECT '2026-02-30T00:00:00Z/1@1'::hlc;
SELECT '2025-02-29T00:00:00Z/1@1'::hlc;
SELECT '2026-11-23T01:02:03Z/4294967296@1'::hlc;
SELECT '2026-11-23T01:02:03Z/1@4294967296'::hlc;
SELECT '2026-11-23T01:02:03Z/-1@1'::hlc;
SELECT '2026-11-23T01:02:03Z/1@1 x'::hlc;
SELECT '0001-01-01T00:00:00+01/0@0'::hlc;
SELECT '9999-12-31T23:59:59-01/0@0'::hlc;
-- no setting has a say in it
SET DateStyle = 'SQL, DMY';
SET TimeZone = 'Asia/Kathmandu';
SELECT '2026-11-23T01:02:03.456789Z/3@2'::hlc;
RESET DateStyle;
SET TimeZone = 'UTC';

-- comparison: time, counter, node
SELECT a, b, a < b AS lt, a <= b AS le, a = b AS eq, a <> b AS ne, a >= b AS ge, a > b AS gt,
	hlc_cmp(a, b) AS cmp
FROM (VALUES
	('2026-11-23T01:02:03Z/3@2'::hlc, '2026-11-23T01:02:03Z/3@2'::hlc),
	('2026-11-23T01:02:03Z/9@9', '2026-11-23T01:02:03.000001Z/0@0'),
	('2026-11-23T01:02:03Z/2@9', '2026-11-23T01:02:03Z/10@1'),
	('2026-11-23T01:02:03Z/3@2', '2026-11-23T01:02:03Z/3@10'),
	('2026-11-23T01:02:03Z/4294967295@1', '2026-11-23T01:02:03Z/1@1'),
	('1999-11-23T01:02:03Z/3@2', '2026-11-23T01:02:03Z/3@2')) v(a, b);

-- a table with order of its own: 20,000 stamps, many to a microsecond, on both
-- sides of 2000-01-01 (where the number behind the time changes its sign)
CREATE TABLE hlc_t (id int, h hlc);
INSERT INTO hlc_t
SELECT g, hlc_make('2000-01-01 00:00:00Z'::timestamptz + ((g * 7919 % 20011 - 10000) / 4) * interval '1 microsecond',
		(g * 7919 % 20011) % 4 * 1500, g % 3)
FROM generate_series(1, 20000) g;
INSERT INTO hlc_t VALUES (0, NULL), (-1, '0001-01-01T00:00:00Z/0@0'), (-2, '9999-12-31T23:59:59.999999Z/4294967295@4294967295'),
	(-3, '2200-01-01T00:00:00Z/5000@1'), (-4, '2200-01-01T00:00:00Z/4999@1');
VACUUM ANALYZE hlc_t;
-- sort support, with and without abbreviated keys, agrees with the operators
SELECT count(*) FILTER (WHERE NOT (p <= h)) AS out_of_order, count(*)
FROM (SELECT h, lag(h) OVER (ORDER BY h) AS p FROM hlc_t) s WHERE p IS NOT NULL AND h IS NOT NULL;
SELECT count(*) FILTER (WHERE NOT (p >= h)) AS out_of_order, count(*)
FROM (SELECT h, lag(h) OVER (ORDER BY h DESC NULLS LAST) AS p FROM hlc_t) s WHERE p IS NOT NULL AND h IS NOT NULL;
SELECT id, h FROM hlc_t ORDER BY h NULLS FIRST, id LIMIT 2;
SELECT id, h FROM hlc_t ORDER BY h DESC NULLS LAST LIMIT 3;
-- the text form sorts by time
SELECT count(*) FROM (
	SELECT h, lag(h) OVER (ORDER BY h::text COLLATE "C") AS p FROM hlc_t WHERE h IS NOT NULL) s
WHERE hlc_physical(p) > hlc_physical(h);
-- round trips
SELECT count(*) FROM hlc_t WHERE h::text::hlc IS DISTINCT FROM h;
SELECT count(*), count(DISTINCT h), min(h), max(h) FROM hlc_t;

-- indexes
CREATE INDEX hlc_t_btree ON hlc_t (h);
SET enable_seqscan = off;
SET enable_bitmapscan = off;
EXPLAIN (COSTS OFF) SELECT id FROM hlc_t WHERE h = '1999-12-31T23:59:59.999000Z/1500@1';
EXPLAIN (COSTS OFF) SELECT id FROM hlc_t WHERE h >= '2000-01-01T00:00:00Z/0@0' AND h < '2000-01-01T00:00:00.00001Z/0@0' ORDER BY h;
SELECT count(*), min(h), max(h) FROM hlc_t WHERE h >= '2000-01-01T00:00:00Z/0@0' AND h < '2000-01-01T00:00:00.00001Z/0@0';
EXPLAIN (COSTS OFF) SELECT h FROM hlc_t WHERE h IS NOT NULL ORDER BY h DESC LIMIT 1;
SELECT max(h), min(h) FROM hlc_t;
-- the index and the table hold the same
SELECT count(*) FROM hlc_t WHERE h < '2000-01-01T00:00:00Z/0@0';
SET enable_seqscan = on;
SET enable_indexscan = off;
SET enable_indexonlyscan = off;
SELECT count(*) FROM hlc_t WHERE h < '2000-01-01T00:00:00Z/0@0';
DROP INDEX hlc_t_btree;
RESET enable_indexscan;
RESET enable_indexonlyscan;
RESET enable_bitmapscan;

CREATE INDEX hlc_t_hash ON hlc_t USING hash (h);
SET enable_seqscan = off;
EXPLAIN (COSTS OFF) SELECT id FROM hlc_t WHERE h = '2200-01-01T00:00:00Z/5000@1';
SELECT id FROM hlc_t WHERE h = '2200-01-01T00:00:00Z/5000@1';
DROP INDEX hlc_t_hash;

CREATE TABLE hlc_b (h hlc);
INSERT INTO hlc_b SELECT h FROM hlc_t WHERE h IS NOT NULL ORDER BY h;
CREATE INDEX hlc_b_brin ON hlc_b USING brin (h) WITH (pages_per_range = 4);
EXPLAIN (COSTS OFF) SELECT * FROM hlc_b WHERE h < '1999-12-31T23:59:59.998Z/0@0';
SELECT count(*) FROM hlc_b WHERE h < '1999-12-31T23:59:59.998Z/0@0';
SELECT count(*) FROM hlc_b WHERE h > '2100-12-31T23:59:59.998Z/0@0';
RESET enable_seqscan;
SELECT count(*) FROM hlc_t WHERE h < '1999-12-31T23:59:59.998Z/0@0';

-- unique, primary and foreign key
CREATE TABLE hlc_parent (h hlc PRIMARY KEY);
CREATE TABLE hlc_child (h hlc REFERENCES hlc_parent ON DELETE CASCADE);
INSERT INTO hlc_parent VALUES ('2026-01-01T00:00:00Z/1@1'), ('2026-01-01T00:00:00Z/1@2');
INSERT INTO hlc_parent VALUES ('2026-01-01T00:00:00Z/1@1');
INSERT INTO hlc_child VALUES ('2026-01-01T00:00:00Z/1@1');
INSERT INTO hlc_child VALUES ('2026-01-01T00:00:00Z/2@1');
DELETE FROM hlc_parent WHERE h = '2026-01-01T00:00:00Z/1@1';
SELECT count(*) FROM hlc_child;

-- grouping by hash and by sort, joins by hash, merge and loop
SET enable_sort = off;
SELECT count(*), sum(n) FROM (SELECT h, count(*) AS n FROM hlc_t GROUP BY h) s;
RESET enable_sort;
SET enable_hashagg = off;
SELECT count(*), sum(n) FROM (SELECT h, count(*) AS n FROM hlc_t GROUP BY h) s;
RESET enable_hashagg;
SET enable_mergejoin = off; SET enable_nestloop = off;
EXPLAIN (COSTS OFF) SELECT count(*) FROM hlc_t a JOIN hlc_b b USING (h);
SELECT count(*) FROM hlc_t a JOIN hlc_b b USING (h);
SET enable_hashjoin = off; SET enable_mergejoin = on;
SELECT count(*) FROM hlc_t a JOIN hlc_b b USING (h);
RESET enable_hashjoin; RESET enable_mergejoin; RESET enable_nestloop;

-- partitions by hash (the extended function) and by range
CREATE TABLE hlc_p (h hlc) PARTITION BY HASH (h);
CREATE TABLE hlc_p0 PARTITION OF hlc_p FOR VALUES WITH (MODULUS 3, REMAINDER 0);
CREATE TABLE hlc_p1 PARTITION OF hlc_p FOR VALUES WITH (MODULUS 3, REMAINDER 1);
CREATE TABLE hlc_p2 PARTITION OF hlc_p FOR VALUES WITH (MODULUS 3, REMAINDER 2);
INSERT INTO hlc_p SELECT h FROM hlc_t;
SELECT count(*) BETWEEN 6000 AND 7400 AS balanced FROM hlc_p GROUP BY tableoid ORDER BY tableoid;
SELECT count(*) FROM hlc_p WHERE h = '2200-01-01T00:00:00Z/5000@1';
SELECT count(*) FROM hlc_p WHERE h IS NULL;
CREATE TABLE hlc_r (h hlc) PARTITION BY RANGE (h);
CREATE TABLE hlc_r1 PARTITION OF hlc_r FOR VALUES FROM (MINVALUE) TO ('2000-01-01T00:00:00Z/0@0');
CREATE TABLE hlc_r2 PARTITION OF hlc_r FOR VALUES FROM ('2000-01-01T00:00:00Z/0@0') TO (MAXVALUE);
INSERT INTO hlc_r SELECT h FROM hlc_t WHERE h IS NOT NULL;
EXPLAIN (COSTS OFF) SELECT * FROM hlc_r WHERE h > '2020-01-01T00:00:00Z/0@0';
SELECT (SELECT count(*) FROM hlc_r1) + (SELECT count(*) FROM hlc_r2) AS all_rows, (SELECT max(h) FROM hlc_r1) < (SELECT min(h) FROM hlc_r2) AS split;

-- COPY, text and binary
SELECT current_setting('data_directory') || '/hlc_copy' AS file \gset
COPY hlc_t TO :'file' (FORMAT binary);
CREATE TABLE hlc_c (LIKE hlc_t);
COPY hlc_c FROM :'file' (FORMAT binary);
SELECT count(*) FROM ((TABLE hlc_t EXCEPT ALL TABLE hlc_c) UNION ALL (TABLE hlc_c EXCEPT ALL TABLE hlc_t)) d;
TRUNCATE hlc_c;
COPY hlc_t TO :'file';
COPY hlc_c FROM :'file';
SELECT count(*) FROM ((TABLE hlc_t EXCEPT ALL TABLE hlc_c) UNION ALL (TABLE hlc_c EXCEPT ALL TABLE hlc_t)) d;
SELECT hlc_send('2000-01-01T00:00:01Z/2@3'), hlc_send('1999-12-31T23:59:59.999999Z/4294967295@4294967295');

-- parts and casts
SELECT hlc_physical(h), hlc_logical(h), hlc_node(h), h::timestamptz FROM (VALUES ('2026-11-23T01:02:03.456789Z/4294967295@4000000000'::hlc)) v(h);
SELECT '2026-11-23 01:02:03.456789+00'::timestamptz::hlc;
SELECT hlc_make('2026-11-23 01:02:03Z'), hlc_make('2026-11-23 01:02:03Z', 4294967295), hlc_make('2026-11-23 01:02:03Z', 1, 4294967295);
SELECT hlc_make('2026-11-23 01:02:03Z', 4294967296);
SELECT hlc_make('2026-11-23 01:02:03Z', -1);
SELECT hlc_make('2026-11-23 01:02:03Z', 0, -1);
SELECT hlc_make('infinity');
SELECT '-infinity'::timestamptz::hlc;
SELECT '10000-01-01 00:00:00Z'::timestamptz::hlc;
-- only explicitly
CREATE TABLE hlc_cast (h hlc, t timestamptz);
INSERT INTO hlc_cast (h) VALUES (now());
INSERT INTO hlc_cast (t) VALUES ('2026-11-23T01:02:03Z/0@0'::hlc);

-- arithmetic
SELECT '2026-11-23T01:02:03Z/3@2'::hlc + interval '1 day 2 hours', interval '1 microsecond' + '2026-11-23T01:02:03Z/3@2'::hlc,
	'2026-11-23T01:02:03Z/3@2'::hlc - interval '1 month';
SELECT '2026-11-23T01:02:03Z/3@2'::hlc - '2026-11-20T00:02:02.5Z/9@7'::hlc;
SELECT '9999-12-31T23:59:59Z/3@2'::hlc + interval '1 second';
SELECT '0001-01-01T00:00:00Z/3@2'::hlc - interval '1 microsecond';
-- windows by distance
SELECT g, count(*) OVER (ORDER BY h RANGE BETWEEN interval '2 seconds' PRECEDING AND CURRENT ROW) AS near
FROM (SELECT g, hlc_make('2026-11-23 00:00:00Z'::timestamptz + g * interval '1 second', g) AS h FROM generate_series(1, 5) g) s ORDER BY g;

-- ranges
SELECT hlcrange('2026-01-01T00:00:00Z/0@0', '2026-02-01T00:00:00Z/0@0');
SELECT hlcrange('2026-01-01T00:00:00Z/0@0', '2026-02-01T00:00:00Z/0@0') @> '2026-01-31T23:59:59.999999Z/9@9'::hlc AS inside,
	hlcrange('2026-01-01T00:00:00Z/0@0', '2026-02-01T00:00:00Z/0@0') @> '2026-02-01T00:00:00Z/0@0'::hlc AS at_end,
	hlcrange('2026-01-01T00:00:00Z/0@0', '2026-02-01T00:00:00Z/0@0') && hlcrange('2026-01-31T00:00:00Z/0@0', NULL) AS overlaps;
SELECT hlcrange('2026-02-01T00:00:00Z/0@0', '2026-01-01T00:00:00Z/0@0');
SELECT hlc_subdiff('2026-01-01T00:00:01.5Z/0@0', '2026-01-01T00:00:00Z/9@9');
SELECT '{[2026-01-01T00:00:00Z/0@0,2026-01-02T00:00:00Z/0@0),[2026-01-02T00:00:00Z/0@0,2026-01-03T00:00:00Z/0@0)}'::hlcmultirange;
CREATE TABLE hlc_spans (span hlcrange, EXCLUDE USING gist (span WITH &&));
INSERT INTO hlc_spans SELECT hlcrange(hlc_make('2026-01-01 00:00:00Z'::timestamptz + g * interval '1 hour'),
	hlc_make('2026-01-01 00:00:00Z'::timestamptz + (g + 1) * interval '1 hour')) FROM generate_series(0, 999) g;
INSERT INTO hlc_spans VALUES ('[2026-01-01T00:59:59Z/0@0,2026-01-01T01:00:00Z/0@1)');
SET enable_seqscan = off;
EXPLAIN (COSTS OFF) SELECT * FROM hlc_spans WHERE span @> '2026-01-05T00:30:00Z/7@1'::hlc;
SELECT * FROM hlc_spans WHERE span @> '2026-01-05T00:30:00Z/7@1'::hlc;
RESET enable_seqscan;

DROP TABLE hlc_t, hlc_b, hlc_parent, hlc_child, hlc_p, hlc_r, hlc_c, hlc_cast, hlc_spans;
