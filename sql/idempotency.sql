-- quorum.idempotency_key on a cluster of one.
CREATE TABLE pay (id int PRIMARY KEY, amount int NOT NULL, CHECK (amount > 0));
CREATE TABLE beside (id int);
CREATE TEMP TABLE scratch (id int);
SELECT quorum.add_table('pay');
CREATE FUNCTION entries() RETURNS bigint LANGUAGE sql AS 'SELECT commit_index FROM quorum.status';
\set VERBOSITY terse

SHOW quorum.idempotency_key;
SHOW quorum.write_consistency;
SHOW quorum.applied_timeout;
SHOW quorum.outcome_retention;
SELECT quorum.transaction_was_duplicate();

-- autocommit
SET quorum.idempotency_key = 'a';
INSERT INTO pay VALUES (1, 10) RETURNING id;
SELECT quorum.transaction_was_duplicate(), quorum.transaction_token() AS first \gset
SELECT :'transaction_was_duplicate' AS duplicate;
SELECT entries() AS before \gset
INSERT INTO pay VALUES (1, 10) RETURNING id;
SELECT quorum.transaction_was_duplicate(), quorum.transaction_token() = :'first' AS token_of_the_first,
	quorum.outcome(quorum.transaction_token());
-- other statements of a retried transaction are not made either
UPDATE pay SET amount = amount + 1;
DELETE FROM pay;
MERGE INTO pay USING (VALUES (1), (2)) v (id) ON pay.id = v.id
	WHEN MATCHED THEN UPDATE SET amount = 99 WHEN NOT MATCHED THEN INSERT VALUES (v.id, 99);
COPY pay FROM stdin;
7	7
8	8
\.
TRUNCATE pay;
ALTER TABLE pay ADD COLUMN note text;
SELECT quorum.execute_ddl('ALTER TABLE pay ADD COLUMN note text');
WITH gone AS (DELETE FROM pay RETURNING id), more AS (INSERT INTO pay VALUES (5, 5) RETURNING id)
SELECT * FROM gone UNION ALL SELECT * FROM more;
EXPLAIN (COSTS off) DELETE FROM pay;
SELECT entries() - :before AS entries, (SELECT count(*) FROM pay) AS rows;
SELECT * FROM pay;

-- transactions
SET quorum.idempotency_key = 'b';
BEGIN;
INSERT INTO pay VALUES (2, 20);
SELECT quorum.transaction_was_duplicate();
UPDATE pay SET amount = amount + 5 WHERE id = 1;
COMMIT;
SELECT quorum.transaction_was_duplicate();
BEGIN;
INSERT INTO scratch VALUES (1);
INSERT INTO pay VALUES (2, 20);
SELECT quorum.transaction_was_duplicate();
UPDATE pay SET amount = amount + 5 WHERE id = 1;
SELECT amount FROM pay WHERE id = 1;
INSERT INTO scratch VALUES (2);
WITH moved AS (DELETE FROM pay RETURNING id) INSERT INTO scratch SELECT id FROM moved;
INSERT INTO beside VALUES (1);
COMMIT;
SELECT (SELECT sum(amount) FROM pay), (SELECT count(*) FROM scratch) AS scratch, (SELECT count(*) FROM beside) AS beside;

-- a transaction that failed has not used its key; neither has a savepoint
SET quorum.idempotency_key = 'c';
INSERT INTO pay VALUES (3, -1);
BEGIN; INSERT INTO pay VALUES (3, 30); ROLLBACK;
BEGIN; SAVEPOINT s; INSERT INTO pay VALUES (3, 30); ROLLBACK TO s; COMMIT;
BEGIN; SAVEPOINT s; INSERT INTO pay VALUES (3, 30); ROLLBACK TO s; INSERT INTO pay VALUES (3, 33); SAVEPOINT t;
UPDATE pay SET amount = 34 WHERE id = 3; RELEASE t; COMMIT;
INSERT INTO pay VALUES (3, 30);
BEGIN; SAVEPOINT s; INSERT INTO pay VALUES (3, 30); ROLLBACK TO s; INSERT INTO pay VALUES (3, 33); COMMIT;
SELECT * FROM pay WHERE id = 3;

-- a key alone uses up nothing, a change without an effect does
SET quorum.idempotency_key = 'd';
SELECT count(*) FROM pay;
SELECT 1 FROM pay FOR UPDATE LIMIT 1;
UPDATE pay SET amount = 1 WHERE false;
UPDATE pay SET amount = 1 WHERE id = 3;
SELECT quorum.transaction_was_duplicate();

-- functions and procedures
CREATE PROCEDURE twice(n int) LANGUAGE plpgsql AS $$ BEGIN
	INSERT INTO pay VALUES (n, n); COMMIT;
	PERFORM set_config('quorum.idempotency_key', 'p2', false);
	UPDATE pay SET amount = amount + 1 WHERE id = n; COMMIT;
END $$;
SET quorum.idempotency_key = 'p1';
CALL twice(10);
SET quorum.idempotency_key = 'p1';
CALL twice(10);
SELECT * FROM pay WHERE id = 10;

-- the key comes first; SET LOCAL
SET quorum.idempotency_key = '';
BEGIN;
INSERT INTO pay VALUES (11, 1);
SET LOCAL quorum.idempotency_key = 'late';
INSERT INTO pay VALUES (12, 1);
ROLLBACK;
BEGIN; SET LOCAL quorum.idempotency_key = 'local'; INSERT INTO pay VALUES (11, 1); COMMIT;
INSERT INTO pay VALUES (12, 1);
SELECT quorum.transaction_was_duplicate();
BEGIN; SET LOCAL quorum.idempotency_key = 'local'; INSERT INTO pay VALUES (11, 1); COMMIT;
SELECT quorum.transaction_was_duplicate();
INSERT INTO pay VALUES (13, 1);
SELECT quorum.transaction_was_duplicate();
BEGIN; SET LOCAL quorum.idempotency_key = 'ordinary'; INSERT INTO beside VALUES (1); COMMIT;
BEGIN; SET LOCAL quorum.mixed_transactions = 'allow'; SET LOCAL quorum.idempotency_key = 'ordinary';
INSERT INTO beside VALUES (1); INSERT INTO pay VALUES (14, 1); COMMIT;

-- repeatable read, prepared statements, a plain role
SET quorum.idempotency_key = 'r';
PREPARE put (int) AS INSERT INTO pay VALUES ($1, 1);
BEGIN ISOLATION LEVEL SERIALIZABLE; EXECUTE put(20); COMMIT;
BEGIN ISOLATION LEVEL REPEATABLE READ; EXECUTE put(20); COMMIT;
EXECUTE put(20);
CREATE ROLE payer;
SET quorum.idempotency_key = 'g';
GRANT ALL ON pay TO payer;
SET quorum.idempotency_key = 'r';
SET ROLE payer;
INSERT INTO pay VALUES (20, 1);
SET quorum.idempotency_key = 's';
INSERT INTO pay VALUES (21, 1);
SELECT * FROM quorum.idempotency;
RESET ROLE;
SET quorum.idempotency_key = '';
SELECT key FROM quorum.idempotency ORDER BY 1;
SET quorum.idempotency_key = 'x23456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890';

-- the table is the extension's
SELECT quorum.remove_table('quorum.idempotency');
SELECT quorum.add_table('quorum.idempotency');
SELECT count(*) FROM quorum.tables WHERE table_name = 'idempotency';
-- it is replicated all the same: an administrator's change is an entry
SELECT entries() AS before \gset
DELETE FROM quorum.idempotency WHERE key = 'r';
SELECT entries() - :before AS entries;

-- a commit of a cluster of one waits for nobody
SET quorum.write_consistency = 'applied_all';
INSERT INTO pay VALUES (30, 1);
SET quorum.write_consistency = 'most';

DROP OWNED BY payer;
DROP ROLE payer;
DROP TABLE pay;
DROP TABLE beside;
DROP PROCEDURE twice;
DROP FUNCTION entries;
