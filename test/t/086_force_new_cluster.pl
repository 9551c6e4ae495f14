# The majority is lost for good: one member goes on alone, as another cluster,
# with everything that its log holds; the old ones cannot mix in.
use strict;
use warnings;

use PostgreSQL::Test::Utils;
use QuorumCluster;
use Test::More;

my $db = $QuorumCluster::DB;
my $c = QuorumCluster->new(nodes => 3);
my ($one, $two, $three) = $c->nodes;

sub status { my ($node, $column) = @_; return $c->ask($node, "SELECT $column FROM quorum.status"); }

$c->found;
$c->everywhere('CREATE TABLE t (id int PRIMARY KEY, s serial, v text)');
$c->add_tables('t');
$_->safe_psql($db, sprintf q(INSERT INTO t (id, v) SELECT g, '%s' FROM generate_series(%d, %d) g),
	$_->name, $_->name =~ /(\d)/ ? ($1 * 100, $1 * 100 + 50) : ()) for $c->nodes;
$c->settle;
my $old_id = status($one, 'cluster_id');

# --- not while there is a majority, and not by everybody ---

$c->fails_with($_, 'SELECT quorum.force_new_cluster()', '55000', qr/has a quorum/, 'refused on ' . $_->name) for $c->nodes;
$one->safe_psql($db, 'CREATE ROLE boss; GRANT quorum_admin TO boss');
$c->fails_with($one, 'SET ROLE boss; SELECT quorum.force_new_cluster()', '42501', undef, 'superusers only');
# a leader that has just died leaves a majority
my $leader = $c->wait_for_leader;
my ($other) = $c->others($leader);
$c->kill9($leader);
$c->fails_with($other, 'SELECT quorum.force_new_cluster()', '55000', qr/has a quorum/, 'refused after the leader died');
$c->restart($leader);
$c->settle;

# --- the other two are gone; the last one's log holds something it was not told of ---

$two->safe_psql($db, q(SELECT quorum.transfer_leadership('n2')));
my $last = $one->safe_psql($db, q(SELECT max(id) FROM t));
$c->kill9($three);
$c->wait_for_leader($one, $two);
my $unsure = $two->background_psql($db, on_error_stop => 0);
$unsure->query_until(qr/begun/, "\\echo begun\nINSERT INTO t VALUES (1000, 1, 'last');\n");
$c->wait_until('it is in the log', sub { status($one, 'last_index') >= status($two, 'last_index') && $c->ask($two, 'SELECT count(*) FROM t WHERE id = 1000') eq '1' });
$c->kill9($two);
$unsure->{run}->kill_kill if $unsure->{run};
$c->wait_until('no quorum any more', sub { status($one, 'has_quorum') eq 'f' });
isnt(($c->try_sql($one, q(SET quorum.commit_timeout = '1s'; INSERT INTO t (id) VALUES (5000))))[0], '', 'no writes without a quorum');
my ($state, $out, $err) = $c->try_sql($one, 'SELECT quorum.force_new_cluster()');
is($state, '', 'forced') or diag($err);
like($err, qr/WARNING.*goes on alone, as cluster \Q$out\E.*DETAIL.*\Q$old_id\E.*HINT/s, 'with a loud warning');
isnt($out, $old_id, 'as another cluster');
$c->comes_to_be($one, 'SELECT role, cluster_id, has_quorum FROM quorum.status', "leader|$out|t", 'it leads');
like(status($one, 'detail'), qr/goes on alone.*\Q$old_id\E.*force_new_cluster/, 'and says what it is');
ok($c->log_matches($one, qr/forced to go on alone as cluster \Q$out\E/), 'in the log, too');
is($c->ask($one, 'SELECT string_agg(node_name, $$,$$) FROM quorum.members'), 'n1', 'the only member');
is($one->safe_psql($db, 'SELECT count(*) FROM t WHERE id = 1000'), '1', 'what was in its log is there');
is(($c->try_sql($one, q(INSERT INTO t (id, v) VALUES (2000, 'alone'))))[0], '', 'and it can be written');

# --- it stays so, over a crash ---

$c->kill9($one);
$c->restart($one);
$c->wait_for_leader($one);
is(status($one, 'cluster_id'), $out, 'the same after a crash');
$c->wait_until('and still says so', sub { status($one, 'detail') =~ /goes on alone/ });

# --- the others come back: a cluster of their own, with no way in ---

$c->restart($two, $three);
$c->wait_for_leader($two, $three);
is(status($two, 'cluster_id'), $old_id, 'the old ones are the old cluster');
is(($c->try_sql($two, q(INSERT INTO t (id, v) VALUES (3000, 'old'))))[0], '', 'which has a majority of its own');
$c->settle($two, $three);
is($one->safe_psql($db, 'SELECT count(*) FROM t WHERE id = 3000'), '0', 'nothing of it comes over');
is($two->safe_psql($db, 'SELECT count(*) FROM t WHERE id = 2000'), '0', 'nor the other way');
is($c->ask($one, q(SELECT count(*) FROM quorum.members)), '1', 'the new one has no other member');
is($c->ask($two, q(SELECT reachable FROM quorum.members WHERE node_name = 'n1')), 'f', 'the old ones do not reach it');
$c->wait_until('they say why', sub { status($two, 'detail') =~ /"n1" belongs to another cluster now/ });
ok($c->log_matches($two, qr/different clusters/), 'in their logs, too');
$c->fails_with($two, sprintf(q(SELECT quorum.join_cluster('%s', true)), $c->address($one)), '55000', qr/member of a cluster already/,
	'they cannot join as they are');
$three->stop('immediate');
$c->wait_until('one of the old ones alone has no quorum', sub { status($two, 'has_quorum') eq 'f' });
is(status($one, 'has_quorum'), 't', 'which is none of the new one\'s business');

# --- a new server joins ---

my $four = $c->add_node(name => 'n4');
$c->restart($four);
$four->safe_psql($db, 'CREATE EXTENSION pg_quorum; CREATE TABLE t (id int PRIMARY KEY, s serial, v text)');
$c->join_node($four, $one);
is(status($four, 'cluster_id'), $out, 'a new server joins the new cluster');
$c->wait_until('nothing special any more', sub { status($one, q(coalesce(detail, 'none'))) eq 'none' });
is(($c->try_sql($four, q(INSERT INTO t (id, v) VALUES (4000, 'four'))))[0], '', 'and writes');
$c->settle($one, $four);
$c->tables_equal('t', 'equal', $one, $four);

# --- both of two, each its own: a crash in the middle changes nothing ---

$c->kill9($one, $four);
for my $node ($four, $one)
{
	$c->restart($node);
	my (undef, $id) = $c->try_sql($node, 'SELECT quorum.force_new_cluster()');
	$c->kill9($node);
	$c->restart($node);
	$c->wait_for_leader($node);
	is(status($node, 'cluster_id'), $id, $node->name . ' on its own');
	is(($c->try_sql($node, q(INSERT INTO t (id, v) VALUES (6000, 'own'))))[0], '', $node->name . ' can be written');
	$c->kill9($node);
}

for my $node ($c->nodes)
{
	unlike(slurp_file($node->logfile), qr/PANIC|TRAP:/, $node->name . ' logged no crash');
}

done_testing();
