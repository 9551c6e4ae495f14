-- Read levels and causal tokens, on a cluster of one.
CREATE TABLE c (id int PRIMARY KEY, v int);
SELECT quorum.add_table('c');
INSERT INTO c VALUES (1, 1);

SHOW quorum.read_consistency;
SET quorum.read_consistency = 'nonsense';

-- each level answers
SET quorum.read_consistency = 'bounded_staleness';
SELECT * FROM c;
SET quorum.read_consistency = 'read_your_writes';
SELECT * FROM c;
SET quorum.read_consistency = 'causal';
SELECT * FROM c;
SET quorum.read_consistency = 'strong';
SELECT * FROM c;
SELECT level, served_index = known_commit_index AS all_there, staleness < interval '1min' AS fresh,
	waited < interval '1min' AS soon, node_name FROM quorum.read_info();
INSERT INTO c VALUES (2, 2) RETURNING *;
UPDATE c SET v = 3 WHERE id = 2 RETURNING *;
WITH gone AS (DELETE FROM c WHERE id = 2 RETURNING *) SELECT * FROM gone;

-- SET LOCAL, functions, roles, in transactions of each kind
BEGIN;
SET LOCAL quorum.read_consistency = 'eventual';
SELECT level FROM quorum.read_info();
COMMIT;
SHOW quorum.read_consistency;
CREATE FUNCTION reads() RETURNS int LANGUAGE plpgsql SET quorum.read_consistency = 'causal'
AS 'BEGIN RETURN (SELECT v FROM c WHERE id = 1); END';
SELECT reads();
SELECT level FROM quorum.read_info();
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT * FROM c;
INSERT INTO c VALUES (4, 4);
SELECT * FROM c;
COMMIT;
BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY;
SELECT * FROM c;
COMMIT;

-- EXPLAIN ANALYZE says what was served; without SUMMARY it does not
CREATE FUNCTION explain(sql text) RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE line text; BEGIN
	FOR line IN EXECUTE sql LOOP
		IF line ~ 'Read' THEN RETURN NEXT regexp_replace(regexp_replace(line, 'index=\d+', 'index=N'), '\d+\.\d+', 'T'); END IF;
	END LOOP;
END $$;
SELECT * FROM explain('EXPLAIN ANALYZE SELECT * FROM c');
SELECT * FROM explain('EXPLAIN (ANALYZE, SUMMARY OFF) SELECT * FROM c');
SELECT * FROM explain('EXPLAIN SELECT * FROM c');
PREPARE p AS SELECT * FROM c;
SELECT * FROM explain('EXPLAIN ANALYZE EXECUTE p');

-- monitoring and what reads nothing have no level
SET quorum.read_timeout = '1ms';
SELECT count(*) FROM quorum.members;
SELECT 1 AS one;
RESET quorum.read_timeout;

-- tokens
UPDATE c SET v = 10 WHERE id = 1;
SELECT current_setting('quorum.causal_token') AS first \gset
UPDATE c SET v = 11 WHERE id = 1;
SELECT length(:'first') AS length, quorum.current_token() = current_setting('quorum.causal_token') AS same,
	quorum.current_token() <> :'first' AS moved;
SET quorum.causal_token = :'first';
SELECT quorum.current_token() <> :'first' AS still;
SELECT quorum.wait_for(:'first', '1s'), quorum.wait_for(quorum.current_token(), NULL), quorum.wait_for(NULL, '1s');
SELECT quorum.wait_for(:'first', '-1s');
SELECT quorum.wait_for('no token', '1s');
SET quorum.causal_token = 'no token';
SELECT set_config('quorum.causal_token', translate(:'first', 'ABCDEFGH', 'BCDEFGHA'), false);
CREATE ROLE stranger;
SET ROLE stranger;
SELECT key FROM quorum.token_key;
SELECT quorum._set_token_key('00');
SELECT quorum.wait_for(:'first', '1s');
RESET ROLE;
SELECT quorum._set_token_key('00');
DROP ROLE stranger;

RESET quorum.read_consistency;
SELECT quorum.remove_table('c');
DROP FUNCTION explain, reads;
DROP TABLE c;
