# A member whose table differs gets it again from another one: while everybody
# writes, on request of any member, and where it has stopped because of it.
use strict;
use warnings;

use PostgreSQL::Test::Utils;
use QuorumCluster;
use Test::More;

my $db = $QuorumCluster::DB;
my $c = QuorumCluster->new(nodes => 3);
my ($one, $two, $three) = $c->nodes;

sub resync
{
	my ($node, $args, $what) = @_;
	my ($state, undef, $err) = $c->try_sql($node, "SELECT quorum.resync_table($args)");

	is($state, '', "$what: succeeds") or diag($err);
	return $err;
}

$c->found;
$c->everywhere($QuorumCluster::LOAD_SCHEMA);
$c->everywhere(q(
	CREATE TABLE t (id int PRIMARY KEY, v text, w int GENERATED ALWAYS AS (id * 2) STORED, u int UNIQUE);
	CREATE TABLE child (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, t int REFERENCES t ON DELETE CASCADE);
	CREATE TABLE cut (a int, b text, v int, PRIMARY KEY (a, b)) PARTITION BY RANGE (a);
	CREATE TABLE cut_1 PARTITION OF cut FOR VALUES FROM (0) TO (100);
	CREATE TABLE cut_2 PARTITION OF cut FOR VALUES FROM (100) TO (200);
));
my @tables = qw(load load_counter t child cut);
$c->add_tables(@tables);
$one->safe_psql($db, q(INSERT INTO t (id, v, u) SELECT g, 'row ' || g, g FROM generate_series(1, 2000) g;
	INSERT INTO child (t) SELECT id FROM t WHERE id % 10 = 0;
	INSERT INTO cut SELECT g, 'b' || g, g FROM generate_series(0, 199) g; INSERT INTO load_counter SELECT g, 0 FROM generate_series(1, 20) g));
$c->settle;

# --- who is right has to be known ---

$c->fails_with($one, q(SELECT quorum.resync_table('t')), '55000', qr/not known which member has the right rows/, 'nothing is marked');
$c->fails_with($one, q(SELECT quorum.resync_table('t', 'n9')), '42704', qr/n9/, 'from nobody');
$c->fails_with($one, q(SELECT quorum.resync_table('t', 'n1')), '22023', qr/from itself/, 'from itself');
$c->fails_with($one, q(SELECT quorum.resync_table('pg_class')), '55000', qr/not a replicated table/, 'no replicated table');
$c->fails_with($one, q(SELECT quorum._resync(1, 1, 2)), '42501', qr/part of the log/, 'parts of the log');

# --- under load, by a third member ---

my $load = $c->start_load(clients => 6);
$c->wait_until('the load runs', sub { $c->acknowledged($load) > 50 });
$c->behind_the_back($two, q(UPDATE t SET v = 'wrong', u = -id WHERE id % 100 = 0; DELETE FROM t WHERE id BETWEEN 500 AND 550;
	INSERT INTO t (id, v, u) VALUES (5000, 'too many', 1234567); UPDATE t SET u = 500 WHERE id = 1;
	DELETE FROM child WHERE t = 10; UPDATE cut SET v = -1 WHERE a IN (7, 150); INSERT INTO load (run, client, n, part) VALUES (-1, 1, 1, 1)));
is($three->safe_psql($db, q(SELECT string_agg(DISTINCT node_name, ',') FROM quorum.verify() WHERE NOT same)), 'n2', 'one differs');
resync($three, q('t'), 'of what is marked');
resync($two, q('load'), 'there, under load');
resync($one, q('child'), 'from elsewhere');
resync($one, q('cut', 'n1', 'n2'), 'with both named');
is($one->safe_psql($db, 'SELECT count(*) FROM quorum.differences'), '0', 'no marks are left');
is($one->safe_psql($db, 'SELECT bool_and(same) FROM quorum.verify()'), 't', 'all are the same, with the load going on');
my $done = $c->acknowledged($load);
$c->wait_until('the load goes on', sub { $c->acknowledged($load) > $done + 50 });

# again and again, of the table that is written most
for my $round (1 .. 5)
{
	$c->behind_the_back($two, q(UPDATE load_counter SET v = v + 1000000 WHERE id = 3; DELETE FROM load WHERE n % 7 = 3));
	resync($c->node(1 + $round % 3), q('load_counter', 'n3', 'n2'), "round $round: a hot table");
	resync($c->node(1 + $round % 3), q('load', 'n1', 'n2'), "round $round: a growing table");
}
my $ops = $c->stop_load($load);
my %errors;
for my $op (values %$ops)
{
	$errors{ $op->{state} }++ if $op->{verdict} ne 'A' && $op->{state} !~ /^(?:40001|open)$/;
}
# a member that meets a row that it lost stops until it is repaired; nobody sees more than a retry
is_deeply(\%errors, {}, 'no client saw any of it');
$c->settle;
$c->tables_equal(\@tables, 'all equal');
is($_->safe_psql($db, 'SELECT defects FROM quorum.stat_replication'), '0', $_->name . ' had no defect') for $c->nodes;

# --- a member that has stopped because of it ---

$c->behind_the_back($three, q(DELETE FROM t WHERE id = 77));
$one->safe_psql($db, q(UPDATE t SET v = 'after' WHERE id = 77; INSERT INTO t (id, v, u) VALUES (6000, 'more', 6000); TRUNCATE cut));
$one->safe_psql($db, q(INSERT INTO cut VALUES (5, 'x', 1)));
$c->wait_until('it has stopped', sub { $c->ask($three, 'SELECT detail FROM quorum.status') =~ /row to be updated is missing/ });
$c->fails_with($three, q(SELECT quorum.resync_table('t')), '55000', qr/not known which/, 'there, without a source');
resync($three, q('t', 'n1'), 'there');
$c->settle;
$c->tables_equal(\@tables, 'it goes on, and all are equal');
$c->comes_to_be($three, q(SELECT coalesce(detail, 'nothing') FROM quorum.status), 'nothing', 'nothing in its status');
is($one->safe_psql($db, 'SELECT bool_and(same) FROM quorum.verify()'), 't', 'says quorum.verify, too');

# --- what goes wrong is undone, and stops nobody ---

$c->behind_the_back($two, q(UPDATE t SET v = 'wrong' WHERE id = 5));
my $holder = $two->background_psql($db, on_error_stop => 0);
$two->append_conf('postgresql.conf', "quorum.copy_conninfo = 'port=1 connect_timeout=2'\n");
$two->reload;
$c->wait_until('the setting is read', sub { $c->ask($two, 'SHOW quorum.copy_conninfo') =~ /port=1/ });
$c->fails_with($one, q(SELECT quorum.resync_table('t', 'n1', 'n2')), '55000', qr/could not be repaired on member "n2".*could not connect/s,
	'no connection');
is(($c->try_sql($two, q(INSERT INTO t (id, u) VALUES (7000, 7000))))[0], '', 'the member goes on');
$two->append_conf('postgresql.conf', "quorum.copy_conninfo = ''\n");
$two->reload;
$c->wait_until('the setting is read', sub { $c->ask($two, 'SHOW quorum.copy_conninfo') eq '' });
$holder->quit;
resync($one, q('t', 'n1', 'n2'), 'with a connection');

# --- a crash right after it ---

$c->behind_the_back($two, q(UPDATE t SET v = 'wrong' WHERE id < 50));
resync($one, q('t', 'n3', 'n2'), 'before a crash');
$c->kill9($two);
$c->restart($two);
$c->settle;
$c->tables_equal(\@tables, 'equal after a crash');

for my $node ($c->nodes)
{
	unlike(slurp_file($node->logfile), qr/PANIC|TRAP:|was terminated by signal/, $node->name . ' logged no crash');
}

done_testing();
