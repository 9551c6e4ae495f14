# Servers that cannot join, or not so: each call says why, nothing has happened, and
# the next one that is right works.
use strict;
use warnings;

use IO::Socket::INET;
use PostgreSQL::Test::Utils;
use QuorumCluster;
use Test::More;

my $db = 'postgres';
my $c = QuorumCluster->new(nodes => 2, faults => 1);

$c->found;
my ($one, $two) = $c->nodes;
$c->everywhere('CREATE EXTENSION citext; CREATE TABLE t (id int PRIMARY KEY, v citext[])');
for my $node ($one, $two)
{
	mkdir $node->basedir . '/space';
	$node->safe_psql($db, sprintf "CREATE TABLESPACE space LOCATION '%s/space'", $node->basedir);
	$node->safe_psql($db, 'CREATE TABLE elsewhere (id int PRIMARY KEY) TABLESPACE space');
}
$c->add_tables(qw(t elsewhere));
$one->safe_psql($db, q(INSERT INTO t SELECT i, '{A,b}' FROM generate_series(1, 100) i));
$c->settle;

sub join_of { return sprintf "SELECT quorum.join_cluster('%s')", $_[0]; }

sub members
{
	return $c->ask($one, q(SELECT string_agg(node_name || ' ' || role, ', ' ORDER BY node_id) FROM quorum.members));
}

sub start_fresh
{
	my (@nodes) = @_;

	$c->restart(@nodes);
	$_->safe_psql($db, 'CREATE EXTENSION pg_quorum') for @nodes;
}

my $address = $c->address($one);
my $before = members();
my $new = $c->add_node;
start_fresh($new);

# --- the disk is full ---

$c->fault($new, 'full');
$c->fails_with($new, join_of($address), '55000', qr/No space left on device/, 'a full disk');
$c->no_fault($new, 'full');

# --- no such cluster ---

$c->fails_with($new, join_of($_), '22023', qr/invalid address.*DETAIL:/s, "address \"$_\"")
  for '', 'nonsense', '127.0.0.1', '127.0.0.1:0', '127.0.0.1:99999';
$c->fails_with($new, join_of('127.0.0.1:1'), '08006', qr/could not join the cluster at "127.0.0.1:1"/, 'nobody there');
my $silent = IO::Socket::INET->new(Listen => 5, LocalAddr => '127.0.0.1');
$c->fails_with($new, join_of('127.0.0.1:' . $silent->sockport), '08006', qr/timed out/, 'somebody who says nothing');
$c->fails_with($new, join_of('127.0.0.1:' . $one->port), '08006', qr/could not join/, 'the port for SQL');
$c->fails_with($two, join_of($address), '55000', qr/member of a cluster already/, 'a member');

# --- it does not fit ---

$_->safe_psql($db, q(UPDATE pg_extension SET extname = 'not_there' WHERE extname = 'citext')) for $one, $two;
$c->fails_with($new, join_of($address), '0A000', qr/extensions that replicated tables need.*"not_there".*HINT:/s,
	'an extension is missing');
$_->safe_psql($db, q(UPDATE pg_extension SET extname = 'citext' WHERE extname = 'not_there')) for $one, $two;

my $locale = $one->safe_psql($db, 'SELECT datcollate FROM pg_database WHERE datname = current_database()') =~ /utf/i ?
  'C' : 'C.UTF-8';
$new->safe_psql('template1', "CREATE DATABASE replacement TEMPLATE template0 ENCODING 'UTF8' LOCALE '$locale'");
$new->append_conf('postgresql.conf', "quorum.database = 'replacement'");
$new->restart;
$new->safe_psql('replacement', 'CREATE EXTENSION pg_quorum');
my ($status, undef, $err) = $new->psql('replacement', join_of($address));
like($err, qr/could not connect.*database "replacement" does not exist/s, 'another database');
$new->safe_psql('replacement', "ALTER SYSTEM SET quorum.copy_conninfo = 'dbname=$db'");
$new->reload;
$c->wait_until('the setting is there', sub { $c->ask($new, 'SHOW quorum.copy_conninfo') ne '' });
($status, undef, $err) = $new->psql('replacement', join_of($address));
like($err, qr/another locale.*DETAIL:.*HINT:/s, 'another locale');
$new->safe_psql($db, 'ALTER SYSTEM RESET quorum.copy_conninfo');
$new->append_conf('postgresql.conf', "quorum.database = '$db'");
$new->restart;

is(members(), $before, 'none of it made it a member');

# --- with few workers, and a table in a tablespace that it does not have ---

$new->append_conf('postgresql.conf', "max_worker_processes = 4\nquorum.copy_workers = 16");
$new->restart;
is(($c->try_sql($new, join_of($address)))[0], '', 'then it joins');
$c->settle;
$c->tables_equal([qw(t elsewhere)], 'all tables are equal');

# --- two at once by one name ---

my @pair = ($c->add_node, $c->add_node);
$pair[1]->append_conf('postgresql.conf', sprintf "quorum.node_name = '%s'", $pair[0]->name);
start_fresh(@pair);
my @sessions = map { $_->background_psql($db, on_error_stop => 0) } @pair;
$_->query_until(qr/begun/, "\\echo begun\n" . join_of($address) . ";\n") for @sessions;
my @errors = map { my ($out) = $_->query('SELECT 1;'); my $e = $_->{stderr}; $_->quit; $e } @sessions;
my ($refused) = grep { $errors[$_] =~ /ERROR/ } 0, 1;
my ($taken) = grep { $errors[$_] !~ /ERROR/ } 0, 1;
ok(defined $refused && defined $taken, 'one of two with the same name joins') or diag("@errors");
like($errors[ $refused // 0 ], qr/has a member of the name "n4" already/, 'the other is told why');
$c->comes_to_be($pair[ $refused // 0 ], 'SELECT role FROM quorum.status', 'stopped', 'and is no member');
$pair[ $refused // 0 ]->append_conf('postgresql.conf', "quorum.node_name = 'n5'");
$pair[ $refused // 0 ]->restart;
is(($c->try_sql($pair[ $refused // 0 ], join_of($address)))[0], '', 'by a name of its own it joins');

# --- the leader goes, and the last but one ---

$c->settle;
my $leader = $c->wait_for_leader;
my ($other) = grep { $_->name ne $leader->name } $one, $two;
is(($c->try_sql($other, sprintf q(SELECT quorum.remove_member('%s')), $leader->name))[0], '', 'the leader is removed');
$c->wait_until('it knows', sub { $c->ask($leader, 'SELECT role FROM quorum.status') eq 'removed' });
$c->fails_with($leader, 'SELECT quorum.leave_cluster()', '25006', qr/was removed.*HINT:/s, 'it leaves no more');
is(($c->try_sql($leader, join_of($c->address($other))))[0], '', 'it joins again');
my @left = grep { $_->name ne $other->name } $c->nodes;
is(($c->try_sql($_, 'SELECT quorum.leave_cluster()'))[0], '', $_->name . ' leaves') for @left;
$c->comes_to_be($other, 'SELECT count(*) FROM quorum.members', '1', 'one is left');
$c->fails_with($other, 'SELECT quorum.leave_cluster()', '55000', qr/the last voting member/, 'the last one stays');
is(($c->try_sql($other, 'DELETE FROM t WHERE id = 1'))[0], '', 'and is written');

for my $node ($c->nodes)
{
	unlike(slurp_file($node->logfile), qr/PANIC|TRAP:|was terminated by signal/, $node->name . ' logged no crash');
}

done_testing();
