-- What replicated tables and transactions on them do not take, and why.
CREATE TABLE plain (id int PRIMARY KEY, v int);
CREATE TABLE no_key (a int, b text);
CREATE TABLE late_key (a int PRIMARY KEY DEFERRABLE);
CREATE TABLE by_index (a int NOT NULL UNIQUE, b text);
ALTER TABLE by_index REPLICA IDENTITY USING INDEX by_index_a_key;
CREATE TABLE parent (id int PRIMARY KEY);
CREATE TABLE child (id int PRIMARY KEY, p int REFERENCES parent, c int REFERENCES child);
CREATE UNLOGGED TABLE unlogged (id int PRIMARY KEY);
CREATE TEMP TABLE temporary (id int PRIMARY KEY);
CREATE VIEW shown AS SELECT 1 AS id;
CREATE TABLE parts (id int PRIMARY KEY) PARTITION BY RANGE (id);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (10);
CREATE TABLE ordinary (id int);
\set VERBOSITY default

SELECT quorum.add_table('no_key');
SELECT quorum.add_table('late_key');
SELECT quorum.add_table('child');
SELECT quorum.add_table('unlogged');
SELECT quorum.add_table('temporary');
SELECT quorum.add_table('shown');
SELECT quorum.add_table('pg_class');
SELECT quorum.add_table('quorum.replicated_table');
SELECT quorum.add_table('parts_1');
SELECT quorum.add_table(NULL);
SELECT quorum.remove_table('plain');
SELECT quorum._add_table(1, 'public', 'plain', '');
SELECT quorum._remove_table(1);
SELECT quorum.table_digest('shown');

-- in order, in one transaction
BEGIN;
SELECT quorum.add_table('parent');
SELECT quorum.add_table('child');
COMMIT;
SELECT quorum.add_table('plain'), quorum.add_table('by_index'), quorum.add_table('parts');
SELECT quorum.add_table('plain');
SELECT quorum.remove_table('parent');

-- rights
CREATE ROLE regress_quorum_owner;
CREATE ROLE regress_quorum_user;
GRANT INSERT ON plain TO regress_quorum_user;
CREATE TABLE owned (id int PRIMARY KEY);
ALTER TABLE owned OWNER TO regress_quorum_owner;
SET ROLE regress_quorum_owner;
SELECT quorum.add_table('owned');
SELECT quorum.add_table('late_key');
RESET ROLE;
GRANT quorum_admin TO regress_quorum_owner;
SET ROLE regress_quorum_owner;
SELECT quorum.add_table('owned');
RESET ROLE;
SET ROLE regress_quorum_user;
INSERT INTO plain VALUES (1, 1);
SELECT quorum.remove_table('owned');
SET quorum.max_transaction_size = '2MB';
INSERT INTO quorum.replicated_table VALUES (1000, 0, '', '');
RESET ROLE;

-- mixed transactions
BEGIN; INSERT INTO plain VALUES (2, 2); INSERT INTO ordinary VALUES (1); COMMIT;
BEGIN; INSERT INTO ordinary VALUES (1); INSERT INTO plain VALUES (2, 2); COMMIT;
BEGIN; INSERT INTO plain VALUES (2, 2); CREATE TABLE another (a int); COMMIT;
BEGIN; INSERT INTO plain VALUES (2, 2); COPY ordinary FROM '/dev/null'; COMMIT;
BEGIN; TRUNCATE ordinary; INSERT INTO plain VALUES (2, 2); COMMIT;
BEGIN; SAVEPOINT a; INSERT INTO ordinary VALUES (1); ROLLBACK TO a; INSERT INTO plain VALUES (3, 3); COMMIT;
BEGIN; CREATE TEMP TABLE t2 (a int); INSERT INTO temporary VALUES (1); INSERT INTO unlogged VALUES (1); INSERT INTO plain VALUES (4, 4); COMMIT;
SET quorum.mixed_transactions = warn;
BEGIN; INSERT INTO plain VALUES (5, 5); INSERT INTO ordinary VALUES (1); INSERT INTO ordinary VALUES (2); COMMIT;
SET quorum.mixed_transactions = allow;
BEGIN; INSERT INTO plain VALUES (6, 6); INSERT INTO ordinary VALUES (3); COMMIT;
RESET quorum.mixed_transactions;
SET quorum.mixed_transactions = perhaps;
SELECT * FROM plain ORDER BY id;
SELECT * FROM ordinary ORDER BY id;

-- prepared transactions
BEGIN; INSERT INTO plain VALUES (7, 7); PREPARE TRANSACTION 'p';
BEGIN; SELECT * FROM plain WHERE id = 6 FOR UPDATE; PREPARE TRANSACTION 'p';

-- schema statements that cannot travel
CREATE UNIQUE INDEX CONCURRENTLY ON plain (v);
DROP TABLE plain, ordinary;
ALTER TABLE plain DISABLE TRIGGER ALL;
ALTER TABLE plain DISABLE TRIGGER "!pg_quorum_capture";
DROP TRIGGER "!pg_quorum_capture" ON plain;
ALTER TABLE plain SET UNLOGGED;
ALTER TABLE plain DROP CONSTRAINT plain_pkey;
ALTER TABLE plain ADD COLUMN o int REFERENCES ordinary;
ALTER TABLE plain ADD COLUMN r float8 DEFAULT random();
ALTER TABLE plain ADD COLUMN t timestamptz DEFAULT now();
SELECT quorum.execute_ddl('VACUUM plain');
SELECT quorum.execute_ddl('INSERT INTO plain VALUES (8, 8)');
SELECT quorum.execute_ddl('ALTER TABLE plain ADD COLUMN');
SELECT quorum.execute_ddl('CREATE TABLE computed AS SELECT random()');
SELECT quorum.execute_ddl('CREATE DATABASE elsewhere');
SET quorum.replicate_ddl = off;
ALTER TABLE plain ADD COLUMN x int;
SELECT quorum.execute_ddl('ALTER TABLE plain ADD COLUMN x int; ALTER TABLE plain RENAME x TO y');
RESET quorum.replicate_ddl;
ALTER TABLE plain DROP COLUMN y;
CREATE SCHEMA regress_quorum;
CREATE TYPE regress_quorum.mood AS ENUM ('good');
ALTER TABLE plain ADD COLUMN m regress_quorum.mood;
DROP SCHEMA regress_quorum CASCADE;
DROP OWNED BY regress_quorum_owner;
ALTER TABLE plain DROP COLUMN m;
DROP SCHEMA regress_quorum CASCADE;
DROP EXTENSION pg_quorum;
DROP EXTENSION pg_quorum CASCADE;

-- ordinary tables may refer to replicated ones, and go again
CREATE TABLE refers (id int PRIMARY KEY, p int REFERENCES plain);
INSERT INTO refers SELECT id, id FROM plain;
DROP TABLE refers;

-- partitions come and go with statements of their table
CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM (10) TO (20);
INSERT INTO parts VALUES (1), (11);
TRUNCATE parts_2;
SELECT * FROM parts;
CREATE TABLE parts_3 (id int PRIMARY KEY);
INSERT INTO parts_3 VALUES (21);
ALTER TABLE parts ATTACH PARTITION parts_3 FOR VALUES FROM (20) TO (30);
DELETE FROM parts_3;
ALTER TABLE parts ATTACH PARTITION parts_3 FOR VALUES FROM (20) TO (30);
INSERT INTO parts_3 VALUES (21);
BEGIN; INSERT INTO ordinary VALUES (9); INSERT INTO parts_3 VALUES (22); ROLLBACK;
ALTER TABLE parts DETACH PARTITION parts_3;
BEGIN; INSERT INTO ordinary VALUES (9); INSERT INTO parts_3 VALUES (22); ROLLBACK;

-- dropped tables leave the list, and their numbers are not used again
SELECT max(table_id) AS last FROM quorum.replicated_table \gset
DROP TABLE child, parent, plain, by_index, parts, owned;
SELECT count(*) FROM quorum.tables;
CREATE TABLE again (id int PRIMARY KEY);
SELECT quorum.add_table('again');
SELECT table_id > :last AS new FROM quorum.tables;
DROP TABLE again;
DROP TABLE no_key, late_key, unlogged, temporary, ordinary, parts_3;
DROP VIEW shown;
DROP ROLE regress_quorum_owner, regress_quorum_user;
