# Every kind of statement that changes rows, run on each of three servers in
# turn: all tables are equal on all servers after each.
use strict;
use warnings;

use PostgreSQL::Test::Utils;
use QuorumCluster;
use Test::More;

my $db = $QuorumCluster::DB;
my $c = QuorumCluster->new(nodes => 3);

# k is the number of the server that runs the statement: it keeps rows of
# different servers apart where they should be.
my $schema = <<'SQL';
CREATE TABLE plain (id int PRIMARY KEY, v int, note text);
CREATE TABLE parent (id int PRIMARY KEY, name text UNIQUE, balance int NOT NULL DEFAULT 0);
CREATE TABLE child (id int PRIMARY KEY, parent_id int REFERENCES parent
	ON DELETE CASCADE ON UPDATE CASCADE, what text);
CREATE TABLE weak (id int PRIMARY KEY, parent_id int REFERENCES parent ON DELETE SET NULL);
CREATE TABLE strict_child (id int PRIMARY KEY, parent_id int REFERENCES parent
	DEFERRABLE INITIALLY DEFERRED);
CREATE TABLE composite (a int, b text, c numeric, d timestamptz, PRIMARY KEY (a, b));
CREATE TABLE numbered (id serial PRIMARY KEY, k int, note text);
CREATE TABLE identified (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, k int);
CREATE TABLE computed (id int PRIMARY KEY, w int, h int, area int GENERATED ALWAYS AS (w * h) STORED);
CREATE TABLE no_key (a int NOT NULL, b text);
CREATE UNIQUE INDEX no_key_a ON no_key (a);
ALTER TABLE no_key REPLICA IDENTITY USING INDEX no_key_a;
CREATE TABLE full_identity (id int PRIMARY KEY, b text);
ALTER TABLE full_identity REPLICA IDENTITY FULL;
CREATE TABLE types (id int PRIMARY KEY, a int[], j jsonb, x bytea, t timestamptz, u uuid,
	n numeric, f float8, i interval, r int4range, e text, bits bit(5), ip inet, nul text);
CREATE TABLE part (id int, region text, v int, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
CREATE TABLE part_east PARTITION OF part FOR VALUES IN ('east');
CREATE TABLE part_west PARTITION OF part FOR VALUES IN ('west');
CREATE TABLE audited (id int PRIMARY KEY, v int, changed int NOT NULL DEFAULT 0);
CREATE TABLE audit (id int, step int, what text, PRIMARY KEY (id, step));
CREATE TABLE excluded (id int PRIMARY KEY, r int4range, EXCLUDE USING gist (r WITH &&));
CREATE SCHEMA "Odd schema";
CREATE TABLE "Odd schema"."Table ""q""" ("Key" int PRIMARY KEY, "a column" text);
CREATE VIEW shown AS SELECT id, v FROM plain WHERE v > 0;

CREATE FUNCTION count_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN NEW.changed := coalesce(OLD.changed, 0) + 1; RETURN NEW; END $$;
CREATE TRIGGER a BEFORE UPDATE ON audited FOR EACH ROW EXECUTE FUNCTION count_change();
CREATE FUNCTION write_audit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO audit SELECT coalesce(NEW.id, OLD.id), 1 + count(*), TG_OP
		FROM audit WHERE id = coalesce(NEW.id, OLD.id);
	RETURN NULL;
END $$;
CREATE TRIGGER b AFTER INSERT OR UPDATE OR DELETE ON audited
	FOR EACH ROW EXECUTE FUNCTION write_audit();
CREATE FUNCTION put(i int, x int) RETURNS int LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO plain VALUES (i, x, 'function');
	BEGIN
		INSERT INTO plain VALUES (i, x, 'twice');
	EXCEPTION WHEN unique_violation THEN
		UPDATE plain SET note = 'function, handled' WHERE id = i;
	END;
	RETURN i;
END $$;
CREATE FUNCTION put_sql(i int) RETURNS int LANGUAGE sql AS
	$$ INSERT INTO plain VALUES (i, 1, 'sql function') RETURNING id $$;
CREATE PROCEDURE in_steps(base int, steps int) LANGUAGE plpgsql AS $$
BEGIN
	FOR i IN 1 .. steps LOOP
		INSERT INTO plain VALUES (base + i, i, 'procedure');
		IF i % 3 = 0 THEN ROLLBACK; ELSE COMMIT; END IF;
	END LOOP;
END $$;
SQL

my @tables = (qw(plain parent child weak strict_child composite numbered identified computed
	no_key full_identity types part part_east part_west audited audit excluded),
	'"Odd schema"."Table ""q"""');

# [what, SQL]; :k is the server's number, :b is 1000 times that. In this order.
my @statements = (
	['INSERT', q(INSERT INTO plain VALUES (:b + 1, 1, 'one');)],
	['INSERT of several rows', q(INSERT INTO plain VALUES (:b + 2, 2, NULL), (:b + 3, 3, ''), (:b + 4, 4, 'x');)],
	['INSERT ... SELECT', q(INSERT INTO plain SELECT :b + g, g, 'row ' || g FROM generate_series(10, 60) g;)],
	['INSERT ... RETURNING', q(INSERT INTO plain VALUES (:b + 5, 5, 'r') RETURNING *;)],
	['UPDATE', q(UPDATE plain SET v = v + 1, note = note || '!' WHERE id BETWEEN :b AND :b + 30;)],
	['UPDATE of the key', q(UPDATE plain SET id = id + 500 WHERE id = :b + 60;)],
	['UPDATE of keys that pass each other',
		q(UPDATE plain SET id = CASE id WHEN :b + 58 THEN :b + 558 ELSE :b + 58 END WHERE id IN (:b + 58, :b + 559);)],
	['UPDATE ... FROM', q(UPDATE plain p SET v = g FROM generate_series(1, 5) g WHERE p.id = :b + g;)],
	['UPDATE that changes nothing', q(UPDATE plain SET v = v WHERE id = :b + 1;)],
	['UPDATE of rows of all servers', q(UPDATE plain SET v = coalesce(v, 0) + 1 WHERE id % 1000 = 1;)],
	['DELETE', q(DELETE FROM plain WHERE id = :b + 59;)],
	['DELETE ... USING', q(DELETE FROM plain p USING generate_series(55, 57) g WHERE p.id = :b + g;)],
	['INSERT, UPDATE, DELETE of one row in one transaction', q(BEGIN;
		INSERT INTO plain VALUES (:b + 100, 1, 'a'); UPDATE plain SET v = 2 WHERE id = :b + 100;
		DELETE FROM plain WHERE id = :b + 100; INSERT INTO plain VALUES (:b + 100, 3, 'b');
		UPDATE plain SET id = :b + 101 WHERE id = :b + 100; COMMIT;)],
	['MERGE', q(MERGE INTO plain p USING (SELECT :b + g AS id, g FROM generate_series(1, 8) g) s ON p.id = s.id
		WHEN MATCHED AND s.g = 2 THEN DELETE
		WHEN MATCHED THEN UPDATE SET note = 'merged'
		WHEN NOT MATCHED THEN INSERT VALUES (s.id, s.g, 'merged in');)],
	['ON CONFLICT DO UPDATE', q(INSERT INTO plain VALUES (:b + 1, 7, 'c'), (:b + 201, 8, 'd')
		ON CONFLICT (id) DO UPDATE SET note = excluded.note, v = plain.v + excluded.v;)],
	['ON CONFLICT DO NOTHING', q(INSERT INTO plain VALUES (:b + 1, 9, 'n'), (:b + 202, 9, 'n') ON CONFLICT DO NOTHING;)],
	['COPY', "COPY plain FROM stdin;\n" . join('', map { ":k" . "$_\t$_\tcopied\n" } 700 .. 760) . "\\.\n"],
	['writable CTE', q(WITH gone AS (DELETE FROM plain WHERE id = :b + 10 RETURNING *),
		moved AS (INSERT INTO plain SELECT id + 300, v, note FROM gone RETURNING *)
		UPDATE plain SET note = 'cte' WHERE id = :b + 11;)],
	['updatable view', q(UPDATE shown SET v = v + 1 WHERE id = :b + 12; DELETE FROM shown WHERE id = :b + 13;)],
	['savepoints', q(BEGIN; INSERT INTO plain VALUES (:b + 400, 0, 'kept');
		SAVEPOINT a; INSERT INTO plain VALUES (:b + 401, 0, 'dropped'); UPDATE plain SET v = 99 WHERE id = :b + 400;
		ROLLBACK TO a; SAVEPOINT b; INSERT INTO plain VALUES (:b + 402, 0, 'kept');
		SAVEPOINT d; DELETE FROM plain WHERE id = :b + 402; ROLLBACK TO d; RELEASE b; COMMIT;)],
	['ROLLBACK', q(BEGIN; DELETE FROM plain; ROLLBACK;)],
	['COMMIT AND CHAIN', q(BEGIN; INSERT INTO plain VALUES (:b + 410, 1, 'chain'); COMMIT AND CHAIN;
		INSERT INTO plain VALUES (:b + 411, 2, 'chained'); COMMIT;)],
	['prepared statement', q(PREPARE ins AS INSERT INTO plain VALUES ($1, $2, 'prepared');
		SET plan_cache_mode = force_generic_plan;
		EXECUTE ins(:b + 420, 1); EXECUTE ins(:b + 421, 2); DEALLOCATE ins;)],
	['function with a handled error', q(SELECT put(:b + 430, 1);)],
	['SQL function', q(SELECT put_sql(:b + 431);)],
	['DO', q(DO $$ BEGIN FOR i IN 440 .. 445 LOOP INSERT INTO plain VALUES (:b + i, i, 'do'); END LOOP; END $$;)],
	['DO with COMMIT inside', q(DO $$ BEGIN INSERT INTO plain VALUES (:b + 446, 1, 'do'); COMMIT;
		INSERT INTO plain VALUES (:b + 447, 1, 'undone'); ROLLBACK; INSERT INTO plain VALUES (:b + 448, 1, 'do'); END $$;)],
	['procedure with COMMIT and ROLLBACK inside', q(CALL in_steps(:b + 450, 7);)],
	['cursor, WHERE CURRENT OF', q(BEGIN; DECLARE x CURSOR FOR SELECT * FROM plain WHERE id BETWEEN :b + 440 AND :b + 442 ORDER BY id FOR UPDATE;
		FETCH x; UPDATE plain SET note = 'current' WHERE CURRENT OF x; FETCH x; DELETE FROM plain WHERE CURRENT OF x; COMMIT;)],
	['SELECT FOR UPDATE, then UPDATE', q(BEGIN; SELECT * FROM plain WHERE id = :b + 14 FOR UPDATE;
		UPDATE plain SET v = v * 2 WHERE id = :b + 14; COMMIT;)],
	['LOCK TABLE', q(BEGIN; LOCK TABLE plain IN SHARE ROW EXCLUSIVE MODE; UPDATE plain SET v = v + 1 WHERE id = :b + 15; COMMIT;)],
	['REPEATABLE READ', q(BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM plain;
		INSERT INTO plain VALUES (:b + 470, 1, 'rr'); COMMIT;)],
	['SERIALIZABLE', q(BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT count(*) FROM plain WHERE id = :b + 470;
		INSERT INTO plain VALUES (:b + 471, 1, 'ser'); COMMIT;)],
	['several statements in one message', q(SELECT 1 \; INSERT INTO plain VALUES (:b + 480, 1, 'm') \; INSERT INTO plain VALUES (:b + 481, 2, 'm');)],
	['temporary and unlogged tables beside', q(CREATE TEMP TABLE tmp (a int); CREATE UNLOGGED TABLE IF NOT EXISTS unl (a int);
		BEGIN; INSERT INTO tmp VALUES (1); INSERT INTO unl VALUES (1); INSERT INTO plain SELECT :b + 485, a, 'temp' FROM tmp; COMMIT;)],

	['foreign key: insert', q(BEGIN; INSERT INTO parent VALUES (:k * 10, 'p:k'), (:k * 10 + 1, 'q:k');
		INSERT INTO child VALUES (:k * 10, :k * 10, 'a'), (:k * 10 + 1, :k * 10, 'b'), (:k * 10 + 2, :k * 10 + 1, 'c');
		INSERT INTO weak VALUES (:k * 10, :k * 10 + 1); COMMIT;)],
	['foreign key: child alone', q(INSERT INTO child VALUES (:k * 10 + 3, :k * 10, 'd');)],
	['foreign key: cascade of UPDATE', q(UPDATE parent SET id = id + 1000 WHERE id = :k * 10;)],
	['foreign key: cascade of DELETE, SET NULL', q(DELETE FROM parent WHERE id = :k * 10 + 1;)],
	['foreign key: deferred', q(BEGIN; INSERT INTO strict_child VALUES (:k, :k * 10 + 5);
		INSERT INTO parent VALUES (:k * 10 + 5, 'late:k'); COMMIT;)],
	['unique value moves from row to row', q(BEGIN; UPDATE parent SET name = 'free:k' WHERE id = :k * 10 + 5;
		INSERT INTO parent VALUES (:k * 10 + 6, 'late:k'); COMMIT;)],
	['composite key', q(INSERT INTO composite VALUES (:k, 'a', 1.50, '2026-01-01 00:00+00'), (:k, 'B', -0.001, 'infinity');
		UPDATE composite SET c = c * 3 WHERE a = :k AND b = 'a'; UPDATE composite SET b = 'z' WHERE a = :k AND b = 'B';)],
	['serial', q(INSERT INTO numbered (k, note) SELECT :k, 'n' || g FROM generate_series(1, 20) g;)],
	['identity', q(INSERT INTO identified (k) VALUES (:k), (:k), (:k);)],
	['identity, value given', q(INSERT INTO identified OVERRIDING SYSTEM VALUE VALUES (1000000 + :k, :k);)],
	['generated column', q(INSERT INTO computed VALUES (:k, 3, 4); UPDATE computed SET w = 5 WHERE id = :k;)],
	['replica identity by an index', q(INSERT INTO no_key VALUES (:k, 'a'), (:k + 100, 'b'); UPDATE no_key SET b = 'c' WHERE a = :k;
		UPDATE no_key SET a = a + 200 WHERE a = :k; DELETE FROM no_key WHERE a = :k + 100;)],
	['replica identity FULL', q(INSERT INTO full_identity VALUES (:k, 'a'), (:k + 10, NULL);
		UPDATE full_identity SET b = 'x' WHERE id = :k + 10; DELETE FROM full_identity WHERE id = :k;)],
	['many types', q~INSERT INTO types VALUES (:k, '{1,NULL,3}', '{"a": [1, {"b": null}]}', '\x00ff01', '2026-11-23 01:02:03.456789+02',
		'00000000-0000-0000-0000-00000000000:k', 12345678901234567890.123456789, 0.1 + 0.2, '1 mon 2 days 03:04:05.6', '[1,10)',
		E'tab\t quote\' back\\\\ üñí 漢字', B'10101', '::1/128', NULL); UPDATE types SET f = 'NaN', n = 'NaN', a = '[2:3]={7,8}' WHERE id = :k;~],
	['long values', q(INSERT INTO types (id, e) SELECT :k + 10, string_agg(md5(g::text), '') FROM generate_series(1, 20000) g;
		UPDATE types SET ip = '10.0.0.:k' WHERE id = :k + 10;
		UPDATE types SET e = e || 'x' WHERE id = :k + 10; INSERT INTO types (id, e) SELECT :k + 20, e FROM types WHERE id = :k + 10;)],
	['partitions', q(INSERT INTO part VALUES (:k, 'east', 1), (:k, 'west', 2), (:k + 10, 'east', 3);
		UPDATE part SET v = v + 1 WHERE id = :k; DELETE FROM part WHERE id = :k AND region = 'west';)],
	['row moves to another partition', q(UPDATE part SET region = 'west' WHERE id = :k + 10;)],
	['a partition by its own name', q(INSERT INTO part_east VALUES (:k + 20, 'east', 9); UPDATE part_east SET v = 10 WHERE id = :k + 20;)],
	['triggers fire once', q(INSERT INTO audited VALUES (:k, 1), (:k + 10, 1); UPDATE audited SET v = 2 WHERE id = :k;
		UPDATE audited SET v = 3 WHERE id = :k; DELETE FROM audited WHERE id = :k + 10;)],
	['exclusion constraint', q(INSERT INTO excluded VALUES (:k, int4range(:k * 10, :k * 10 + 5)); UPDATE excluded SET r = int4range(:k * 10, :k * 10 + 8) WHERE id = :k;)],
	['odd names', q(INSERT INTO "Odd schema"."Table ""q""" VALUES (:k, 'a'), (:k + 10, 'b');
		UPDATE "Odd schema"."Table ""q""" SET "a column" = 'c' WHERE "Key" = :k; DELETE FROM "Odd schema"."Table ""q""" WHERE "Key" = :k + 10;)],
	['a thousand rows', q(INSERT INTO plain SELECT :k * 100000 + g, g, repeat('y', 50) FROM generate_series(1, 1000) g;
		UPDATE plain SET v = -v WHERE id > :k * 100000 AND id <= :k * 100000 + 1000;
		DELETE FROM plain WHERE id > :k * 100000 AND id <= :k * 100000 + 1000 AND v % 2 = 0;)],
	['TRUNCATE', q(TRUNCATE computed;)],
	['TRUNCATE and INSERT in one transaction', q(BEGIN; INSERT INTO computed VALUES (:k + 5, 1, 1); TRUNCATE computed;
		INSERT INTO computed VALUES (:k, 2, 2); COMMIT;)],
	['TRUNCATE ... CASCADE', q(TRUNCATE parent CASCADE; INSERT INTO parent VALUES (:k, 'again');)],
	['TRUNCATE of a partitioned table', q(TRUNCATE part; INSERT INTO part VALUES (:k, 'east', 1);)],
	['TRUNCATE rolled back', q(BEGIN; TRUNCATE plain; ROLLBACK;)],
);

$c->found;
$c->everywhere($schema);
# first what others refer to
$c->add_tables(grep { !/^part_/ } @tables);
is($c->node(2)->safe_psql($db, q(SELECT count(*) > 15 FROM quorum.tables)), 't',
	'the tables are listed on another server');

for my $statement (@statements)
{
	my ($what, $sql) = @$statement;
	my $good = 1;
	for my $k (1 .. 3)
	{
		my $mine = $sql =~ s/:b\b/$k . '000'/ger =~ s/:k/$k/gr;
		my ($state, $out, $err) = $c->try_sql($c->node($k), $mine, on_error_stop => 1);
		if ($state ne '')
		{
			$good = 0;
			diag("$what on server $k: $err");
		}
		$c->settle;
	}
	ok($good, "$what: runs on each server");
	$c->tables_equal(\@tables, "$what: tables equal");
}

# What must have come out, as one server would have it
is($c->node(1)->safe_psql($db, q(SELECT count(*), min(changed), max(changed) FROM audited)),
	'3|2|2', 'a BEFORE trigger ran once a change, on the server that made it');
is($c->node(2)->safe_psql($db, q(SELECT count(*) FROM audit)), '15', 'an AFTER trigger too');
is($c->node(3)->safe_psql($db, q(SELECT count(*) FROM plain WHERE note = 'procedure')),
	'15', 'a procedure with COMMIT: what was committed and no more');
is($c->node(1)->safe_psql($db, q(SELECT count(*) FROM plain WHERE note IN ('dropped', 'undone', 'twice'))),
	'0', 'what was rolled back is nowhere');
is($c->node(1)->safe_psql($db, q(SELECT count(*), count(DISTINCT id) FROM numbered)),
	'60|60', 'serial: no value twice');
is($c->node(1)->safe_psql($db, q(SELECT v FROM plain WHERE id = 2001)), '11',
	'a row that all three servers changed has every change');

# The constraints hold across servers
for my $try (
	['23505', q(INSERT INTO plain VALUES (1001, 0, 'again');), 'unique violation'],
	['23503', q(INSERT INTO child VALUES (999, 424242, 'orphan');), 'foreign key violation'],
	['23505', q(INSERT INTO parent VALUES (9999, 'again');), 'second unique index'],
	['23P01', q~INSERT INTO excluded VALUES (99, '[10,12)');~, 'exclusion constraint'])
{
	my ($state, $sql, $what) = @$try;

	is(($c->try_sql($_, $sql))[0], $state, "$what on " . $_->name) for $c->nodes;
}
$c->tables_equal(\@tables, 'refused statements change nothing');

# Refused for now, with a hint
$c->fails_with($c->node(2), q(BEGIN; INSERT INTO plain VALUES (77, 0, 'x'); PREPARE TRANSACTION 'p';),
	'0A000', qr/HINT/, 'PREPARE TRANSACTION is refused');
$c->everywhere('CREATE TABLE ordinary (id int)');
$c->fails_with($c->node(2), q(BEGIN; INSERT INTO ordinary VALUES (1); INSERT INTO plain VALUES (78, 0, 'x'); COMMIT;),
	'0A000', qr/HINT/, 'a transaction that writes replicated and ordinary tables is refused');
is($c->node(2)->safe_psql($db, q(SELECT count(*) FROM ordinary)), '0', 'and leaves nothing');
is(($c->try_sql($c->node(2), q(SET quorum.mixed_transactions = 'allow';
	BEGIN; INSERT INTO ordinary VALUES (1); INSERT INTO plain VALUES (79, 0, 'x'); COMMIT;)))[0],
	'', 'unless it is allowed');
$c->settle;
$c->tables_equal('plain', 'equal after that');
is($c->node(1)->safe_psql($db, q(SELECT count(*) FROM plain WHERE id IN (77, 78))), '0',
	'nothing of what was refused');

# DDL through the log, then writes of the new shape on each server
for my $k (1 .. 3)
{
	my ($state, undef, $err) = $c->try_sql($c->node($k),
		"SELECT quorum.execute_ddl('ALTER TABLE plain ADD COLUMN extra$k int DEFAULT $k')");
	is($state, '', "execute_ddl on server $k") or diag($err);
	$c->settle;
}
for my $k (1 .. 3)
{
	($c->try_sql($c->node($k), "INSERT INTO plain (id, extra1, extra3) VALUES (88000 + $k, 5, 6)"))[0] eq ''
	  or fail("insert with new columns on server $k");
	$c->settle;
}
is($c->node(3)->safe_psql($db, q(SELECT count(*), sum(extra2) FROM plain WHERE id > 88000 AND id < 88010)),
	'3|6', 'new columns are filled everywhere');
$c->tables_equal('plain', 'equal after DDL');

# Out of the cluster again
$c->node(2)->safe_psql($db, q(SELECT quorum.remove_table('composite')));
$c->settle;
$c->node(1)->safe_psql($db, q(INSERT INTO composite VALUES (42, 'local', 1, now())));
$c->settle;
is($c->node(3)->safe_psql($db, q(SELECT count(*) FROM composite WHERE a = 42)), '0',
	'a removed table is ordinary again');

$_->stop('fast') for $c->nodes;
for my $node ($c->nodes)
{
	unlike(slurp_file($node->logfile), qr/PANIC|TRAP:|was terminated by signal/,
		$node->name . ' logged no crash');
}

done_testing();
