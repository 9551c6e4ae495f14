-- Statements that change replicated tables, on a cluster of one.
CREATE TABLE w (id int PRIMARY KEY, v int, note text);
SELECT quorum.add_table('w');
SELECT schema_name, table_name, rel, is_partitioned FROM quorum.tables;

-- each commit is one entry; reads and locks alone are none
CREATE FUNCTION entries() RETURNS bigint LANGUAGE sql AS 'SELECT commit_index FROM quorum.status';
INSERT INTO w VALUES (0, 0, 'zero');
SELECT entries() AS before \gset
INSERT INTO w VALUES (1, 1, 'one'), (2, 2, 'two');
UPDATE w SET v = v + 1;
DELETE FROM w WHERE id = 2;
SELECT entries() - :before AS entries;
SELECT entries() AS before \gset
SELECT * FROM w;
SELECT * FROM w FOR UPDATE;
UPDATE w SET v = 0 WHERE false;
BEGIN; LOCK TABLE w IN EXCLUSIVE MODE; COMMIT;
BEGIN; INSERT INTO w VALUES (9, 9, 'rolled back'); ROLLBACK;
SELECT entries() - :before AS entries;

-- the token of a transaction tells its outcome
BEGIN;
INSERT INTO w VALUES (3, 3, 'three');
SELECT quorum.transaction_token() AS token \gset
COMMIT;
SELECT quorum.transaction_token() = :'token' AS same, quorum.outcome(:'token');

-- savepoints
BEGIN;
SAVEPOINT a;
INSERT INTO w VALUES (4, 4, 'undone');
ROLLBACK TO a;
INSERT INTO w VALUES (4, 4, 'done');
SAVEPOINT b;
UPDATE w SET note = 'undone' WHERE id = 4;
ROLLBACK TO b;
SAVEPOINT c;
UPDATE w SET v = 44 WHERE id = 4;
RELEASE c;
COMMIT;
SELECT * FROM w WHERE id = 4;
SELECT entries() AS before \gset
BEGIN; SAVEPOINT a; INSERT INTO w VALUES (5, 5, 'undone'); ROLLBACK TO a; COMMIT;
SELECT entries() - :before AS entries;

-- procedures commit in between
DO $$ BEGIN FOR i IN 10 .. 14 LOOP
	INSERT INTO w VALUES (i, i, 'do');
	IF i % 2 = 0 THEN COMMIT; ELSE ROLLBACK; END IF;
END LOOP; END $$;
SELECT id FROM w WHERE id >= 10 ORDER BY id;
SELECT entries() - :before AS entries;

MERGE INTO w USING generate_series(13, 14) g ON w.id = g
	WHEN MATCHED THEN UPDATE SET note = 'merged' WHEN NOT MATCHED THEN INSERT VALUES (g, g, 'merged in');
INSERT INTO w VALUES (13, 0, 'x') ON CONFLICT (id) DO UPDATE SET v = w.v + 100;
COPY w FROM stdin;
20	20	copied
21	21	\N
\.
SELECT * FROM w WHERE id > 12 ORDER BY id;
TRUNCATE w;
SELECT count(*) FROM w;

-- many rows, spilled to a file and read back
INSERT INTO w SELECT g, g, repeat('x', 1000) FROM generate_series(1, 20000) g;
BEGIN;
UPDATE w SET v = -v WHERE id <= 12000;
SAVEPOINT a;
UPDATE w SET v = 0 WHERE id > 5000;
ROLLBACK TO a;
DELETE FROM w WHERE id > 19000;
COMMIT;
SELECT count(*), sum(v) FROM w;
BEGIN;
SAVEPOINT a;
UPDATE w SET v = 0;
ROLLBACK TO a;
COMMIT;

-- past the limit
SET quorum.max_transaction_size = '1MB';
\set VERBOSITY terse
UPDATE w SET v = 1, note = note || '!';
RESET quorum.max_transaction_size;
SELECT sum(v) FROM w;

-- the digest does not depend on where rows lie
CREATE TEMP TABLE d AS SELECT quorum.table_digest('w') AS digest;
UPDATE w SET v = v WHERE id % 3 = 0;
SELECT digest = quorum.table_digest('w') AS same FROM d;
UPDATE w SET v = v + 1 WHERE id = 77;
SELECT digest = quorum.table_digest('w') AS same FROM d;

SELECT commits > 10 AS commits, conflicts, defects, outcome_unknown FROM quorum.stat_replication;
SELECT quorum.remove_table('w');
SELECT entries() AS before \gset
DELETE FROM w;
SELECT entries() - :before AS entries, (SELECT count(*) FROM quorum.tables) AS tables;
DROP TABLE w;
DROP FUNCTION entries;
