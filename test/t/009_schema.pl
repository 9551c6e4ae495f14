# Schema statements travel in the log, in their place between the rows; tables
# with rows, odd types and triggers that change more rows are the same on all
# servers.
use strict;
use warnings;

use PostgreSQL::Test::Utils;
use QuorumCluster;
use Test::More;

my $db = $QuorumCluster::DB;
my $c = QuorumCluster->new(nodes => 3);
my @tables;
my $turn = 0;

# On one server after the other; all tables are equal after it.
sub step
{
	my ($what, $sql) = @_;
	my $node = $c->node(1 + $turn++ % 3);
	my ($state, undef, $err) = $c->try_sql($node, $sql, on_error_stop => 1);

	is($state, '', "$what: runs") or diag($err);
	$c->settle;
	$c->tables_equal(\@tables, "$what: tables equal");
}

$c->found;
$c->everywhere(q(
	CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
	CREATE TYPE pair AS (a int, m mood, t timestamptz);
	CREATE DOMAIN posint AS int CHECK (value > 0);
	CREATE TABLE by_mood (m mood PRIMARY KEY, v int);
	CREATE TABLE odd (id name PRIMARY KEY, p pair, ms mood[], d posint, c regclass,
		u text, x int, y int, r tsrange);
	CREATE UNIQUE INDEX ON odd (lower(u)) WHERE x > 0;
	CREATE UNIQUE INDEX ON odd (x, y) NULLS NOT DISTINCT;
	CREATE UNIQUE INDEX ON odd (ms);
	CREATE TABLE bumped (id int PRIMARY KEY, v int, w int NOT NULL DEFAULT 0);
	CREATE FUNCTION bump() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		IF pg_trigger_depth() = 1 THEN
			UPDATE bumped SET w = w + 1 WHERE id = NEW.id % 3 + 1;
		END IF;
		RETURN NULL;
	END $$;
	CREATE TRIGGER zz AFTER UPDATE OF v ON bumped FOR EACH ROW EXECUTE FUNCTION bump();
	CREATE TRIGGER " first" AFTER INSERT ON bumped FOR EACH ROW EXECUTE FUNCTION bump();
	CREATE TABLE full_of_rows (id int PRIMARY KEY, t text);
	CREATE TABLE cut (id int PRIMARY KEY, v int) PARTITION BY RANGE (id);
	CREATE TABLE cut_1 PARTITION OF cut FOR VALUES FROM (0) TO (10);
	CREATE ROLE app LOGIN;
	GRANT ALL ON SCHEMA public TO app;
));
@tables = qw(by_mood odd bumped cut);
$c->add_tables(@tables);

# --- rows of unusual kinds ---

step('a key of an enum type', q(INSERT INTO by_mood VALUES ('sad', 1), ('happy', 2);
	UPDATE by_mood SET v = 3 WHERE m = 'sad'; UPDATE by_mood SET m = 'ok' WHERE m = 'happy'; DELETE FROM by_mood WHERE m = 'sad';));
step('text forms do not depend on settings', q~SET datestyle = 'german'; SET intervalstyle = 'iso_8601'; SET search_path = pg_catalog;
	INSERT INTO public.odd VALUES ('n', row(1, 'ok', '02.01.2026 03:04:05+01'), '{sad,ok}', 5, 'public.by_mood', 'Abc', 1, NULL,
	'[2026-01-01,2026-02-01)'), ('m', NULL, '{}', 6, 'pg_class', 'abc', 0, 2, 'empty');~);
step('expression, partial and NULLS NOT DISTINCT indexes', q(UPDATE odd SET u = u || 'x', y = 9 WHERE id = 'n';
	UPDATE odd SET x = 5 WHERE id = 'm'; UPDATE odd SET ms = NULL;));
step('rows that triggers change once more', q(INSERT INTO bumped SELECT g, g FROM generate_series(1, 3) g;
	UPDATE bumped SET v = v + 1; UPDATE bumped SET v = v + 1 WHERE id = 2;));
is($c->node(3)->safe_psql($db, 'SELECT string_agg(v || ' . "'/'" . ' || w, '  . "' '" . ' ORDER BY id) FROM bumped'),
	'2/2 4/2 4/3', 'each change took place once, the last one last');

# --- a table with rows ---

$c->node(2)->safe_psql($db, q(INSERT INTO full_of_rows SELECT g, 'row ' || g FROM generate_series(1, 3000) g));
$c->node(2)->safe_psql($db, q(SELECT quorum.add_table('full_of_rows')));
push @tables, 'full_of_rows';
step('rows that were there come along', q(INSERT INTO full_of_rows VALUES (0, 'later')));
is($c->node(1)->safe_psql($db, 'SELECT count(*) FROM full_of_rows'), '3001', 'all of them');

# --- statements ---

step('ADD COLUMN', q(ALTER TABLE bumped ADD COLUMN z text DEFAULT 'q'; INSERT INTO bumped VALUES (10, 1, 1)));
step('rows and statements in one transaction', q(BEGIN; INSERT INTO bumped VALUES (11, 1, 1, 'a');
	ALTER TABLE bumped ADD COLUMN n numeric DEFAULT 1.5, DROP COLUMN z; INSERT INTO bumped (id, v, n) VALUES (12, 2, 3);
	SAVEPOINT a; ALTER TABLE bumped RENAME v TO gone; INSERT INTO bumped VALUES (13); ROLLBACK TO a;
	DO $$ BEGIN EXECUTE 'ALTER TABLE bumped ALTER n TYPE numeric(10, 3)'; END $$; UPDATE bumped SET n = 5.5 WHERE id = 11; COMMIT;));
step('indexes, comments, rights', q(CREATE UNIQUE INDEX by_v ON bumped (v, id); CREATE INDEX ON bumped (n);
	COMMENT ON TABLE bumped IS 'hello'; GRANT SELECT ON bumped TO app; REINDEX TABLE bumped; VACUUM bumped;));
is($c->node($_)->safe_psql($db, q(SELECT obj_description('bumped'::regclass), has_table_privilege('app', 'bumped', 'SELECT'),
	count(*) FROM pg_indexes WHERE tablename = 'bumped')), 'hello|t|3', "they are on n$_") for 1 .. 3;
step('execute_ddl', q(SELECT quorum.execute_ddl('CREATE TABLE fresh (id int PRIMARY KEY, s serial); CREATE VIEW fv AS SELECT * FROM fresh')));
push @tables, 'fresh';
step('a table that execute_ddl made', q(SELECT quorum.add_table('fresh'); INSERT INTO fresh VALUES (1), (2);));
$tables[-1] = 'fresher';
step('RENAME', q(ALTER TABLE fresh RENAME TO fresher; INSERT INTO fresher VALUES (3);));
$tables[-1] = 'moved.fresher';
step('SET SCHEMA', q(SELECT quorum.execute_ddl('CREATE SCHEMA moved; ALTER TABLE fresher SET SCHEMA moved'); INSERT INTO moved.fresher VALUES (4);));
step('TRUNCATE RESTART IDENTITY', q(TRUNCATE moved.fresher RESTART IDENTITY; INSERT INTO moved.fresher VALUES (9);));
step('a partition more', q(CREATE TABLE cut_2 PARTITION OF cut FOR VALUES FROM (10) TO (20); INSERT INTO cut VALUES (1, 1), (11, 1);));
push @tables, 'cut_2';
step('TRUNCATE of a partition', q(TRUNCATE cut_2; INSERT INTO cut_2 VALUES (12, 2);));
pop @tables;
step('DETACH', q(ALTER TABLE cut DETACH PARTITION cut_2;));
$c->node(1)->safe_psql($db, 'INSERT INTO cut_2 VALUES (13, 3)');
$c->settle;
is($c->node(2)->safe_psql($db, 'SELECT count(*) FROM cut_2'), '1', 'what is detached is ordinary');
step('as another role, with another search_path', q(SELECT quorum.execute_ddl('CREATE SCHEMA theirs AUTHORIZATION app');
	SET ROLE app; SET search_path = theirs; SELECT quorum.execute_ddl('CREATE TABLE of_app (id int PRIMARY KEY)');));
is($c->node($_)->safe_psql($db, q(SELECT schemaname, tableowner FROM pg_tables WHERE tablename = 'of_app')), 'theirs|app',
	"the table is the role's on n$_") for 1 .. 3;
step('DROP rolled back', q(BEGIN; DROP TABLE by_mood; ROLLBACK; INSERT INTO by_mood VALUES ('sad', 7);));
shift @tables;
step('DROP', q(DROP TABLE by_mood;));
is($c->node($_)->safe_psql($db, q(SELECT to_regclass('by_mood') IS NULL,
	count(*) FROM quorum.tables WHERE table_name = 'by_mood')), 't|0', "it is gone from n$_") for 1 .. 3;
push @tables, 'everywhere';
step('replicate_ddl = all', q(SET quorum.replicate_ddl = 'all'; BEGIN; CREATE TABLE everywhere (id int PRIMARY KEY);
	SELECT quorum.add_table('everywhere'); INSERT INTO everywhere VALUES (1); COMMIT;));

# --- a member where a statement cannot run stops, says why, and goes on ---

$c->node(3)->safe_psql($db, q(CREATE TABLE only_two (id int PRIMARY KEY, v text)));
$c->node($_)->safe_psql($db, q(CREATE TABLE only_two (id int PRIMARY KEY, v int))) for 1, 2;
$c->fails_with($c->node(1), q(SELECT quorum.add_table('only_two')), '55000', qr/defined differently on member "n3"/,
	'a table that is different elsewhere is not added');
$c->node(3)->stop('fast');
$c->wait_for_leader($c->node(1), $c->node(2));
$c->node(1)->safe_psql($db, q(SELECT quorum.add_table('only_two')));
$c->restart($c->node(3));
$c->wait_until('the member whose table differs says so', sub {
	$c->ask($c->node(3), 'SELECT detail FROM quorum.status') =~ /only_two.*defined differently/ });
is(($c->try_sql($c->node(2), 'INSERT INTO only_two VALUES (1, 1)'))[0], '', 'the others go on');
$c->node(3)->safe_psql($db, q(ALTER TABLE only_two ALTER v TYPE int USING v::int));
push @tables, 'only_two';
$c->settle;
$c->tables_equal(\@tables, 'it goes on once the cause is removed');

for my $node ($c->nodes)
{
	is($node->safe_psql($db, 'SELECT defects FROM quorum.stat_replication'), '0', $node->name . ' had no defect');
	unlike(slurp_file($node->logfile), qr/PANIC|TRAP:|was terminated by signal/, $node->name . ' logged no crash');
}

done_testing();
