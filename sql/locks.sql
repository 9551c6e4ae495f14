-- Advisory locks, leases and fencing, on a cluster of one.
\set VERBOSITY terse
-- tokens and times differ from run to run; what is told of them does not
CREATE VIEW held AS SELECT key_type, key, mode, granted, node_name, pid = pg_backend_pid() AS mine,
	lease IS NOT NULL AS leased, hold_count FROM quorum.locks WHERE granted ORDER BY key_type, key, mode;
-- how many are held once what was let go is free everywhere: thousands take a moment
CREATE FUNCTION still_held() RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE n bigint; BEGIN
	FOR i IN 1 .. 6000 LOOP
		SELECT count(*) INTO n FROM quorum.locks WHERE granted;
		EXIT WHEN n = 0;
		PERFORM pg_sleep(0.01);
	END LOOP;
	RETURN n;
END $$;

-- counted, as pg_advisory_lock: the same token
SELECT quorum.advisory_lock('a') AS t1 \gset
SELECT quorum.advisory_lock('a') = :t1 AS same, quorum.try_advisory_lock('a') = :t1 AS same_again;
SELECT * FROM held;
SELECT token = :t1 AS token, acquired_at BETWEEN now() - interval '1 min' AND now() + interval '1 min' AS now,
	expires_in > '0' AS safe, queue_position FROM quorum.locks;
SELECT quorum.advisory_unlock('a'), quorum.advisory_unlock('a');
SELECT * FROM held;
SELECT quorum.advisory_unlock('a');
SELECT quorum.advisory_unlock('a');
SELECT * FROM held;
SELECT quorum.advisory_lock('a') > :t1 AS newer, quorum.advisory_unlock('a');

-- a number and its text are two locks
SELECT quorum.advisory_lock(42) <> quorum.advisory_lock('42') AS two;
SELECT quorum.advisory_lock(-9223372036854775808) > 0 AS least, quorum.advisory_lock(9223372036854775807) > 0 AS most;
SELECT * FROM held;
SELECT quorum.advisory_unlock(42), quorum.advisory_unlock(42);
SELECT quorum.advisory_unlock('42');
SELECT quorum.advisory_unlock_all();
SELECT * FROM held;

-- shared and exclusive are counted apart
SELECT quorum.advisory_lock_shared('s') AS s1 \gset
SELECT quorum.advisory_lock_shared('s') = :s1 AS same, quorum.advisory_lock('s') > :s1 AS upgraded;
SELECT * FROM held;
SELECT quorum.advisory_unlock_shared('s'), quorum.advisory_unlock('s'), quorum.advisory_unlock_shared('s');
SELECT quorum.advisory_unlock_shared('s');
SELECT * FROM held;

-- of the transaction
BEGIN;
SELECT quorum.advisory_xact_lock('x') AS x1 \gset
SAVEPOINT a;
SELECT quorum.advisory_xact_lock('x') = :x1 AS same, quorum.advisory_xact_lock('y') > 0 AS y, quorum.try_advisory_xact_lock_shared('z') > 0 AS z;
SAVEPOINT b;
SELECT quorum.advisory_xact_lock('w') > 0 AS w, quorum.advisory_lock('kept') > 0 AS kept;
RELEASE b;
SELECT * FROM held;
SELECT quorum.advisory_unlock('x');
ROLLBACK TO a;
SELECT * FROM held;
COMMIT;
SELECT * FROM held;
BEGIN; SELECT quorum.advisory_xact_lock('x') > 0 AS x; ROLLBACK;
BEGIN; SELECT quorum.advisory_xact_lock('x') > 0 AS x; SELECT 1/0; COMMIT;
-- both scopes of one lock
BEGIN; SELECT quorum.advisory_xact_lock('kept') = quorum.advisory_lock('kept') AS same; COMMIT;
SELECT * FROM held;
SELECT quorum.advisory_unlock('kept'), quorum.advisory_unlock('kept');
SELECT quorum.advisory_unlock('kept');
SELECT * FROM held;
BEGIN; SELECT quorum.advisory_xact_lock('x') > 0 AS x; PREPARE TRANSACTION 'p';
SELECT * FROM held;

-- all or none
SELECT quorum.advisory_lock('m2') AS m2 \gset
SELECT (m)[1] = (m)[3] AS same_entry, (m)[2] = :m2 AS held_before, (m)[1] > :m2 AS newer, cardinality(m)
FROM quorum.advisory_lock_many('{m1,m2,m3,m1}') m;
SELECT * FROM held;
SELECT quorum.advisory_lock_many('{}');
SELECT quorum.advisory_lock_many('{a,NULL}');
SELECT quorum.advisory_lock_many('{a,""}');
SELECT quorum.advisory_lock_many('{{a,b},{c,d}}');
SELECT quorum.advisory_lock_many(array_agg(g::text)) FROM generate_series(1, 1025) g;
SELECT cardinality(quorum.advisory_lock_many(array_agg(g::text))) FROM generate_series(1, 1000) g;
SELECT count(*), count(DISTINCT token) FROM quorum.locks WHERE key ~ '^\d+$';
-- unlocked by all that ends a session's state
DISCARD ALL;
SELECT still_held();

-- bad input changes nothing
\set VERBOSITY default
SELECT quorum.advisory_lock('');
SELECT quorum.advisory_lock(repeat('x', 1025));
SELECT quorum.advisory_lock(repeat('x', 1024)) > 0 AS longest, quorum.advisory_unlock(repeat('x', 1024));
SELECT quorum.advisory_lock(NULL::text);
SELECT quorum.advisory_lock(NULL::bigint);
SELECT quorum.try_advisory_lock('a', NULL);
SELECT quorum.try_advisory_lock('a', '-1 ms');
SELECT quorum.try_advisory_lock('a', '1000 years');
SELECT quorum.advisory_lock('a', NULL);
SELECT quorum.advisory_unlock_token('a', NULL);
SELECT quorum.advisory_lock('a', '00000000-0000-0000-0000-000000000001'::uuid);
SELECT quorum.try_advisory_lock('a', '0', '00000000-0000-0000-0000-000000000001');
SELECT quorum.lease_open('-1 s');
SELECT quorum.lease_open('0');
SELECT quorum.lease_open('31 days');
SELECT quorum.lease_open(NULL);
SELECT quorum.lease_open('1 h', repeat('x', 64));
SELECT quorum.lease_renew('00000000-0000-0000-0000-000000000001');
SELECT quorum.lease_close('00000000-0000-0000-0000-000000000001');
SELECT quorum.advisory_unlock_token('a', -1);
SELECT quorum.check_fence('a', NULL);
SELECT quorum.break_lock('a', '');
SELECT quorum.break_lock('a', NULL);
SELECT quorum.break_lock('a', 'nobody has it');
SELECT quorum.advisory_lock_shared('a') > 0 AS a;
SELECT quorum.advisory_unlock('a');
SELECT quorum.advisory_unlock_shared('a');
\set VERBOSITY terse
SELECT still_held();

-- what is left of one is known from its first moment on
CREATE TEMP TABLE fresh AS SELECT quorum.lease_open('1 h') AS lease FROM generate_series(1, 20);
SELECT count(*), count(expires_in) AS known FROM quorum.leases;
SELECT count(*) FROM fresh WHERE quorum.lease_close(lease);
DROP TABLE fresh;

-- leases
SELECT quorum.lease_open('1 h', 'pooler') AS lease \gset
SELECT lease = :'lease' AS lease, name, ttl, expires_in > '59 min' AS fresh, node_name FROM quorum.leases;
SELECT quorum.advisory_lock('l', :'lease') AS l1 \gset
SELECT quorum.advisory_lock('l', :'lease') = :l1 AS same, quorum.try_advisory_lock('l') AS taken;
SELECT * FROM held;
SELECT quorum.advisory_unlock('l');
\set VERBOSITY sqlstate
SELECT quorum.advisory_unlock_token('l', :l1 + 1), quorum.advisory_unlock_token('k', :l1);
\set VERBOSITY terse
\c
SELECT quorum.lease_renew(:'lease') > '59 min' AS fresh;
SELECT quorum.advisory_unlock_token('l', :l1);
SELECT * FROM held;
\set VERBOSITY sqlstate
SELECT quorum.advisory_unlock_token('l', :l1), quorum.advisory_unlock_token('l', :l1);
\set VERBOSITY terse
SELECT * FROM held;
SELECT m[1] = m[2] AS one_entry FROM quorum.advisory_lock_many('{l1,l2}', :'lease') m;
SELECT quorum.advisory_lock_shared('l3', :'lease') > 0 AS l3, quorum.try_advisory_lock_shared('l3') > 0 AS mine;
SELECT * FROM held;
SELECT quorum.lease_close(:'lease'), quorum.lease_close(:'lease');
SELECT quorum.lease_renew(:'lease');
SELECT * FROM held;
SELECT quorum.advisory_unlock_all();
SELECT count(*) FROM quorum.leases;

-- a token of a session's lock
SELECT quorum.advisory_lock('t') AS t \gset
\set VERBOSITY sqlstate
SELECT quorum.advisory_unlock_token('t', :t - 1), quorum.advisory_unlock_token('t', :t), quorum.advisory_unlock_token('t', :t);
\set VERBOSITY terse

-- fencing
CREATE TABLE guarded (id int PRIMARY KEY, v int);
SELECT quorum.add_table('guarded');
SELECT quorum.advisory_lock('f') AS f1 \gset
BEGIN; SELECT quorum.check_fence('f', :f1); INSERT INTO guarded VALUES (1, 1); COMMIT;
SELECT quorum.advisory_unlock('f');
-- good until the next conflicting grant, for any session
\c
BEGIN; SELECT quorum.check_fence('f', :f1); INSERT INTO guarded VALUES (2, 1); COMMIT;
\set VERBOSITY sqlstate
SELECT quorum.check_fence('f', :f1 - 1);
SELECT quorum.check_fence('f', 1000000000);
SELECT quorum.check_fence('never', :f1);
\set VERBOSITY terse
SELECT quorum.check_fence('f', 0);
SELECT quorum.advisory_lock('f') AS f2, quorum.advisory_unlock('f') \gset
\set VERBOSITY sqlstate
BEGIN; SELECT quorum.check_fence('f', :f1); INSERT INTO guarded VALUES (3, 1); COMMIT;
\set VERBOSITY terse
-- shared grants leave each other's tokens alone, and not that of an exclusive one
SELECT quorum.advisory_lock_shared('f') AS f3 \gset
\set VERBOSITY sqlstate
SELECT quorum.check_fence('f', :f2);
\set VERBOSITY terse
SELECT quorum.advisory_unlock_shared('f'), quorum.advisory_lock_shared('f') > :f3 AS later;
SELECT quorum.check_fence('f', :f3);
SELECT quorum.advisory_lock('f') > 0 AS upgraded;
\set VERBOSITY sqlstate
SELECT quorum.check_fence('f', :f3);
\set VERBOSITY terse
SELECT quorum.advisory_unlock_all();
-- decided at COMMIT: the lock goes to somebody else in between
SELECT quorum.advisory_lock('f') AS f4, quorum.advisory_unlock('f') \gset
BEGIN;
SELECT quorum.check_fence('f', :f4);
INSERT INTO guarded VALUES (4, 1);
SELECT quorum.advisory_lock('f') > :f4 AS later;
\set VERBOSITY sqlstate
COMMIT;
\set VERBOSITY terse
-- a fence alone is decided as well
\set VERBOSITY sqlstate
BEGIN; SELECT quorum.check_fence('f', :f4); ROLLBACK;
\set VERBOSITY terse
SELECT quorum.advisory_unlock_all();
SELECT quorum.advisory_lock('f') AS f5 \gset
BEGIN; SELECT quorum.check_fence('f', :f5); COMMIT;
BEGIN; SELECT quorum.check_fence('f', :f5);
\set VERBOSITY sqlstate
SAVEPOINT a; SELECT quorum.check_fence('f', :f4); ROLLBACK TO a; COMMIT;
\set VERBOSITY terse
BEGIN; SELECT quorum.check_fence('f', :f5);
SELECT quorum.advisory_unlock('f'), quorum.advisory_lock('f') > :f5 AS later;
\set VERBOSITY sqlstate
COMMIT;
\set VERBOSITY terse
SELECT quorum.advisory_unlock('f');
SELECT * FROM guarded ORDER BY id;

-- rows that carry tokens
CREATE TABLE job (id int PRIMARY KEY, resource text, token bigint, note text);
SELECT quorum.fence_table('job', 'resource', 'token');
SELECT quorum.add_table('job');
SELECT quorum.fence_table('job', 'resource ||', 'token');
SELECT quorum.fence_table('job', 'nothing', 'token');
SELECT quorum.fence_table('job', 'resource', 'nothing');
SELECT quorum.fence_table('job', 'resource', 'note');
SELECT quorum.fence_table('job', NULL, 'token');
SELECT quorum.fence_table('job', 'lower(resource)', 'token');
SELECT quorum.fence_table('job', 'resource', 'token');
INSERT INTO job VALUES (1, 'a', 35, 'first'), (2, 'A', 35, 'same'), (3, 'b', 1, 'another resource');
INSERT INTO job VALUES (4, 'a', 34, 'stale');
INSERT INTO job VALUES (4, 'a', 36, 'newer');
UPDATE job SET note = 'stale' WHERE id = 1;
UPDATE job SET note = 'newest', token = 37 WHERE id = 1;
DELETE FROM job WHERE id = 1;
INSERT INTO job VALUES (5, 'a', 36, 'still remembered');
INSERT INTO job VALUES (5, 'a', NULL, 'no token');
INSERT INTO job VALUES (5, NULL, 40, 'no resource');
BEGIN; INSERT INTO job VALUES (5, 'c', 9, 'rolled back'); ROLLBACK;
INSERT INTO job VALUES (5, 'c', 8, 'so this is the first');
SELECT * FROM job ORDER BY id;
SELECT * FROM job_fence ORDER BY resource;
SELECT quorum.unfence_table('job');
SELECT quorum.unfence_table('job');
SELECT quorum.fence_table('job', 'lower(job.resource)', 'token');
SELECT * FROM job_fence ORDER BY resource;
SELECT quorum.unfence_table('job');
INSERT INTO job VALUES (6, 'a', 1, 'no fence any more');

-- an administrator breaks a lock
CREATE ROLE locks_user;
SELECT quorum.advisory_lock('b') AS b, quorum.advisory_lock('b') \gset
SELECT key, token = :b AS token FROM quorum.lost_locks();
SELECT quorum.lock_safe_time() > '0' AS safe;
SET ROLE locks_user;
SELECT quorum.break_lock('b', 'not allowed');
SELECT quorum.advisory_unlock('b');
SELECT count(*) FROM quorum.leases;
RESET ROLE;
SELECT quorum.break_lock('b', 'its work is done');
SELECT key_type, key, mode, token = :b AS token, cause, role = session_user AS by_me, reason FROM quorum.lock_history;
SELECT key, mode, token = :b AS token FROM quorum.lost_locks();
SELECT quorum.advisory_unlock('b');
SELECT count(*) FROM quorum.lost_locks();
SELECT quorum.lock_safe_time();
SELECT quorum.check_fence('b', :b);

-- elections, semaphores, latches
SELECT quorum.election_campaign('e', 'host=here') AS e \gset
SELECT token = :e AS token, value, node_name, pid = pg_backend_pid() AS mine FROM quorum.election_leader('e');
BEGIN; SELECT quorum.election_check_fence('e', :e); COMMIT;
\set VERBOSITY sqlstate
SELECT quorum.election_check_fence('e', :e + 1000000);
\set VERBOSITY terse
SELECT quorum.lease_open('1 h') AS lease \gset
SELECT quorum.election_campaign('e', 'there', '0', :'lease');
SELECT quorum.election_channel('e'), quorum.election_channel(repeat('e', 60));
SELECT quorum.election_resign('e'), quorum.election_resign('e');
SELECT * FROM quorum.election_leader('e');
SELECT quorum.election_campaign('e', 'there', '1 min', :'lease') AS e \gset
SELECT value FROM quorum.election_leader('e');
\set VERBOSITY sqlstate
SELECT quorum.election_resign('e', :e - 1), quorum.election_resign('e', :e);
\set VERBOSITY terse
SELECT quorum._election_value('e', 1, 'forged');

SELECT quorum.semaphore_acquire('pool', 3, :'lease', 2) AS p1 \gset
SELECT quorum.semaphore_acquire('pool', 3, :'lease', 2, '0');
SELECT quorum.semaphore_acquire('pool', 3, :'lease', 1) AS p2 \gset
SELECT quorum.semaphore_acquire('pool', 3, :'lease', 1, '10 ms');
SELECT quorum.semaphore_acquire('pool', 3, :'lease', 4);
SELECT quorum.semaphore_acquire('pool', 0, :'lease');
SELECT quorum.semaphore_acquire('pool', 3, :'lease', 0);
SELECT quorum.semaphore_acquire('pool', 3, NULL);
SELECT key, mode, leased FROM held;
\set VERBOSITY sqlstate
SELECT quorum.semaphore_release('pool', :p1), quorum.semaphore_release('pool', :p1);
\set VERBOSITY terse
SELECT quorum.semaphore_acquire('pool', 3, :'lease', 2, '0') > :p2 AS freed;
SELECT quorum.lease_close(:'lease');
SELECT still_held();

SELECT quorum.latch_create('start', 3), quorum.latch_create('start', 5);
SELECT quorum.latch_count_down('start'), quorum.latch_count_down('start');
SELECT quorum.latch_await('start', '10 ms');
SELECT name, initial, remaining FROM quorum.latches;
BEGIN; SELECT quorum.latch_count_down('start'); ROLLBACK;
SELECT quorum.latch_await('start'), quorum.latch_count_down('start', 7);
SELECT quorum.latch_drop('start');
SELECT quorum.latch_await('start');
SELECT quorum.latch_count_down('start');
SELECT quorum.latch_create('', 1);
SELECT quorum.latch_create('n', 0);
SELECT quorum._latch_change('drop', 'n', 1, '', now());

-- thousands of free locks leave nothing behind
SELECT count(quorum.advisory_lock('many' || g)) FROM generate_series(1, 3000) g;
SELECT quorum.advisory_unlock_all();
SELECT still_held();
DROP TABLE guarded, job;
DROP VIEW held;
DROP FUNCTION still_held;
DROP ROLE locks_user;
