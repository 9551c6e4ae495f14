-- The SQL interface of the lock service: names, arguments, results, rights.
BEGIN;
SET LOCAL client_min_messages = warning;
SELECT no_plan();

SELECT function_returns('quorum', f, ARRAY[k], 'bigint', format('%s(%s)', f, k))
FROM unnest(ARRAY['advisory_lock', 'advisory_lock_shared', 'advisory_xact_lock', 'advisory_xact_lock_shared']) f,
	unnest(ARRAY['text', 'bigint']) k;
SELECT function_returns('quorum', f, ARRAY[k, 'interval'], 'bigint', format('%s(%s, wait)', f, k))
FROM unnest(ARRAY['try_advisory_lock', 'try_advisory_lock_shared', 'try_advisory_xact_lock', 'try_advisory_xact_lock_shared']) f,
	unnest(ARRAY['text', 'bigint']) k;
SELECT function_returns('quorum', f, ARRAY[k, 'uuid'], 'bigint', format('%s(%s, lease)', f, k))
FROM unnest(ARRAY['advisory_lock', 'advisory_lock_shared']) f, unnest(ARRAY['text', 'bigint']) k;
SELECT function_returns('quorum', f, ARRAY[k, 'interval', 'uuid'], 'bigint', format('%s(%s, wait, lease)', f, k))
FROM unnest(ARRAY['try_advisory_lock', 'try_advisory_lock_shared']) f, unnest(ARRAY['text', 'bigint']) k;
SELECT function_returns('quorum', f, ARRAY[k], 'boolean', format('%s(%s)', f, k))
FROM unnest(ARRAY['advisory_unlock', 'advisory_unlock_shared']) f, unnest(ARRAY['text', 'bigint']) k;
SELECT function_returns('quorum', 'advisory_unlock_token', ARRAY[k, 'bigint'], 'boolean', format('advisory_unlock_token(%s)', k))
FROM unnest(ARRAY['text', 'bigint']) k;
SELECT function_returns('quorum', 'check_fence', ARRAY[k, 'bigint'], 'void', format('check_fence(%s)', k))
FROM unnest(ARRAY['text', 'bigint']) k;
SELECT has_function('quorum', 'break_lock', ARRAY[k, 'text'], format('break_lock(%s)', k))
FROM unnest(ARRAY['text', 'bigint']) k;
SELECT function_returns('quorum', 'advisory_unlock_all', '{}'::name[], 'void', 'advisory_unlock_all()');
SELECT function_returns('quorum', 'advisory_lock_many', ARRAY['text[]'], 'bigint[]', 'advisory_lock_many(keys)');
SELECT function_returns('quorum', 'advisory_lock_many', ARRAY['text[]', 'uuid'], 'bigint[]', 'advisory_lock_many(keys, lease)');
SELECT function_returns('quorum', 'lease_open', ARRAY['interval', 'text'], 'uuid', 'lease_open');
SELECT function_returns('quorum', 'lease_renew', ARRAY['uuid'], 'interval', 'lease_renew');
SELECT function_returns('quorum', 'lease_close', ARRAY['uuid'], 'boolean', 'lease_close');
SELECT function_returns('quorum', 'fence_table', ARRAY['regclass', 'text', 'name'], 'void', 'fence_table');
SELECT function_returns('quorum', 'lock_safe_time', '{}'::name[], 'interval', 'lock_safe_time');

SELECT has_view('quorum', 'locks', 'locks');
SELECT is((SELECT string_agg(attname, ',' ORDER BY attnum) FROM pg_attribute
		WHERE attrelid = 'quorum.locks'::regclass AND attnum BETWEEN 1 AND 12),
	'key_type,key,mode,granted,node_name,pid,lease,token,hold_count,acquired_at,expires_in,queue_position',
	'columns of quorum.locks');
SELECT view_owner_is('quorum', 'locks', current_user, 'owner of quorum.locks');

-- literals find their function: a bare string is text, a bare number bigint
SELECT is(pg_typeof(quorum.try_advisory_lock('1')), 'bigint'::regtype, 'a literal');
SELECT is((SELECT string_agg(key_type, ',' ORDER BY key_type) FROM quorum.locks WHERE key = '1' AND quorum.try_advisory_lock(1) > 0),
	'text', 'a number is another lock');
SELECT is((SELECT string_agg(key_type, ',' ORDER BY key_type) FROM quorum.locks WHERE key = '1'), 'bigint,text', 'both');
SELECT lives_ok($$SELECT quorum.advisory_lock_many('{a,b}')$$, 'an array literal');
SELECT lives_ok($$SELECT quorum.try_advisory_lock('1', '1 s')$$, 'a wait');
SELECT throws_ok($$SELECT quorum.try_advisory_lock('1', '1 s', '00000000-0000-0000-0000-000000000001')$$, '22023', NULL, 'no such lease');
SELECT lives_ok('SELECT quorum.advisory_unlock_all()', 'all let go');

-- who may do what
CREATE ROLE lock_nobody;
CREATE ROLE lock_admin IN ROLE quorum_admin;
SET LOCAL ROLE lock_nobody;
SELECT lives_ok($$SELECT quorum.advisory_lock('mine')$$, 'anybody may lock');
SELECT lives_ok('SELECT * FROM quorum.locks', 'and look');
SELECT lives_ok('SELECT * FROM quorum.lock_history', 'and see what was lost');
SELECT throws_ok($$SELECT quorum.break_lock('mine', 'x')$$, '42501', NULL, 'but break no lock');
SELECT throws_ok('SELECT * FROM quorum.leases', '42501', NULL, 'nor see ids of leases');
SELECT throws_ok('SELECT * FROM quorum.lock_grant', '42501', NULL, 'nor the tables');
SELECT throws_ok($$SELECT quorum._submit_statement('SELECT 1')$$, '42501', NULL, 'nor run statements on all servers');
SET LOCAL ROLE lock_admin;
SELECT lives_ok($$SELECT quorum.break_lock('mine', 'a test')$$, 'an administrator may');
SELECT lives_ok('SELECT * FROM quorum.leases', 'and see leases');
RESET ROLE;

SELECT finish();
ROLLBACK;
