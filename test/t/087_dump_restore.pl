# pg_dump and pg_restore of a database with replicated tables: what comes out are
# ordinary tables, on whatever server, until they are added to a cluster again.
use strict;
use warnings;

use PostgreSQL::Test::Utils;
use QuorumCluster;
use Test::More;

my $db = $QuorumCluster::DB;
my $c = QuorumCluster->new(nodes => 2);
my $dir = PostgreSQL::Test::Utils::tempdir;
my @tables = qw(t child cut);

sub rows_of
{
	my ($node, $database) = @_;

	return $node->safe_psql($database, q(SELECT count(*), sum(id), string_agg(v, ',' ORDER BY id) FROM t;
		SELECT count(*), sum(parent) FROM child; SELECT count(*), sum(id) FROM cut));
}

# The tables there are ordinary: they can be written, and nothing remembers it.
sub is_plain
{
	my ($node, $database, $what) = @_;

	is($node->safe_psql($database, 'SELECT count(*) FROM quorum.tables'), '0', "$what: no replicated table");
	is(($node->psql($database, q(BEGIN; INSERT INTO t (v) VALUES ('plain'); INSERT INTO child SELECT -1, max(id) FROM t;
		UPDATE t SET v = 'plainer' WHERE v = 'plain'; INSERT INTO cut VALUES (7); TRUNCATE cut_1; DELETE FROM cut;
		CREATE TABLE ordinary (id int); INSERT INTO ordinary VALUES (1); ALTER TABLE t ADD COLUMN w int; COMMIT)))[0], 0,
		"$what: written and altered like any table");
	is($node->safe_psql($database, q(SELECT count(*) FROM t WHERE v = 'plainer')), '1', "$what: and the rows are there");
}

sub restore_text
{
	my ($node, $database) = @_;

	$node->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-f', "$dir/dump.sql", $node->connstr($database) ],
		'psql restores on ' . $node->name . " in $database");
}

$c->found;
$c->everywhere(q(
	CREATE TABLE t (id serial PRIMARY KEY, v text);
	CREATE TABLE child (id int PRIMARY KEY, parent int NOT NULL REFERENCES t ON DELETE CASCADE);
	CREATE TABLE cut (id int PRIMARY KEY) PARTITION BY RANGE (id);
	CREATE TABLE cut_1 PARTITION OF cut FOR VALUES FROM (0) TO (100);
	CREATE TABLE cut_2 PARTITION OF cut FOR VALUES FROM (100) TO (200);
));
$c->add_tables(@tables);
$c->node(1)->safe_psql($db, q(INSERT INTO t (v) SELECT 'row ' || g FROM generate_series(1, 300) g;
	INSERT INTO cut SELECT generate_series(50, 149)));
$c->node(2)->safe_psql($db, 'INSERT INTO child SELECT id, id FROM t WHERE id % 2 = 0');
$c->settle;
my $wanted = rows_of($c->node(2), $db);

$c->node(2)->command_ok([ 'pg_dump', '-f', "$dir/dump.sql", $c->node(2)->connstr($db) ], 'pg_dump as text');
$c->node(1)->command_ok([ 'pg_dump', '-Fd', '-j2', '-f', "$dir/dump.dir", $c->node(1)->connstr($db) ],
	'pg_dump as a directory, in parallel');
chmod 0755, $dir;
unlike(slurp_file("$dir/dump.sql"), qr/replicated_table|inquiry_answer|COPY quorum/, 'nothing of schema quorum is in it');

# --- into another database of a member ---

$c->node(1)->safe_psql($db, 'CREATE DATABASE other');
restore_text($c->node(1), 'other');
is(rows_of($c->node(1), 'other'), $wanted, 'another database: all rows');
is_plain($c->node(1), 'other', 'another database');
$c->settle;
$c->tables_equal(\@tables, 'the cluster has noticed nothing');

# --- a server without the library loaded ---

my $bare = $c->add_node(conf => "shared_preload_libraries = ''\n");
$c->restart($bare);
restore_text($bare, $db);
is(rows_of($bare, $db), $wanted, 'without the library: all rows');
is_plain($bare, $db, 'without the library');

# --- a fresh server, and a cluster of its own there ---

my $fresh = $c->add_node;
$c->restart($fresh);
$fresh->safe_psql($db, 'CREATE EXTENSION pg_quorum');
$fresh->command_ok([ 'pg_restore', '-e', '-j2', '-d', $fresh->connstr($db), "$dir/dump.dir" ], 'pg_restore on a fresh server');
is(rows_of($fresh, $db), $wanted, 'a fresh server: all rows');
is_plain($fresh, $db, 'a fresh server');
$fresh->safe_psql($db, q(SELECT quorum.create_cluster()));
is_plain_table($fresh);
$fresh->safe_psql($db, "SELECT quorum.add_table('$_')") for @tables;
is($fresh->safe_psql($db, 'SELECT count(*) FROM quorum.tables'), '3', 'replicated again');
my $before = $fresh->safe_psql($db, 'SELECT commits FROM quorum.stat_replication');
$fresh->safe_psql($db, q(INSERT INTO t (v) VALUES ('again'); INSERT INTO cut VALUES (150)));
is($fresh->safe_psql($db, "SELECT commits - $before FROM quorum.stat_replication"), '2', 'and captured');
is($fresh->safe_psql($db, q(SELECT count(DISTINCT tgrelid), count(*) FROM pg_trigger t JOIN pg_class c ON c.oid = tgrelid
	WHERE tgname LIKE '!pg_quorum%' AND tgenabled = 'A' AND relnamespace = 'public'::regnamespace)), '5|8', 'with one set of triggers each');

# in a cluster, but not yet a table of it
sub is_plain_table
{
	my ($node) = @_;

	is(($c->try_sql($node, q(BEGIN; CREATE TABLE local (id int); UPDATE t SET v = v; COMMIT)))[0], '',
		'a member, too, takes them for ordinary ones until they are added');
}

# --- back into the cluster itself ---

$c->node(1)->safe_psql($db, 'DROP TABLE child, t, cut');
$c->settle($c->node(1), $c->node(2));
sub section
{
	my ($node, $name) = @_;

	$node->command_ok([ 'pg_restore', "--section=$name", '-n', 'public', '-d', $node->connstr($db), "$dir/dump.dir" ],
		"$name on " . $node->name);
}
section($c->node(1), 'pre-data');
section($c->node(2), $_) for qw(pre-data data post-data);
section($c->node(1), 'post-data');
$c->node(2)->safe_psql($db, "SELECT quorum.add_table('$_')") for @tables;
$c->settle($c->node(1), $c->node(2));
is(rows_of($c->node(1), $db), $wanted, 'the other member has the rows of the dump');
$c->tables_equal(\@tables, 'equal', $c->node(1), $c->node(2));
# rows alone, into replicated tables
$c->node(1)->safe_psql($db, 'TRUNCATE t, child, cut');
$c->node(1)->command_ok([ 'pg_restore', '-a', '-n', 'public', '-t', $_, '-d', $c->node(1)->connstr($db), "$dir/dump.dir" ],
	"rows into a table that is replicated: $_") for qw(t child cut_1 cut_2);
$c->settle($c->node(1), $c->node(2));
is(rows_of($c->node(2), $db), $wanted, 'they travel');

# --- what is really replicated is not written behind the cluster's back ---

$c->node(1)->stop('fast');
$c->node(1)->append_conf('postgresql.conf', "shared_preload_libraries = ''\n");
$c->restart($c->node(1));
for my $sql (q(INSERT INTO t VALUES (-5, 'no')), 'DELETE FROM cut', 'TRUNCATE cut')
{
	$c->fails_with($c->node(1), $sql, '55000', qr/shared_preload_libraries/, "without the library: $sql");
}

for my $node ($c->nodes)
{
	unlike(slurp_file($node->logfile), qr/PANIC|TRAP:|was terminated by signal/, $node->name . ' logged no crash');
}

done_testing();
