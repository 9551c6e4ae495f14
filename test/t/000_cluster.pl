# Three servers become a cluster, take writes on each, and come back from every
# kind of stop with the same tables.
use strict;
use warnings;

use PostgreSQL::Test::Utils;
use QuorumCluster;
use Test::More;

my $db = $QuorumCluster::DB;
my $c = QuorumCluster->new(nodes => 3);

# Before there is a cluster
$c->node(1)->start;
$c->node(1)->safe_psql($db, 'CREATE EXTENSION pg_quorum');
is($c->node(1)->safe_psql($db, 'SELECT cluster_id IS NULL FROM quorum.status'),
	't', 'no cluster yet: status says so');
$c->node(1)->safe_psql($db, 'CREATE TABLE alone (id int PRIMARY KEY)');
is(($c->try_sql($c->node(1), q(SELECT quorum.add_table('alone'))))[0],
	'55000', 'add_table without a cluster is refused');
$c->node(1)->safe_psql($db, 'DROP TABLE alone; DROP EXTENSION pg_quorum');
$c->node(1)->stop;

$c->found;
is($c->node(1)->safe_psql($db, q(SELECT string_agg(node_name, ',' ORDER BY node_name)
	FROM quorum.members WHERE is_voter)), 'n1,n2,n3', 'three voters');
$c->settle;
for my $node ($c->nodes)
{
	is($node->safe_psql($db, 'SELECT count(*), count(DISTINCT node_id) FROM quorum.members'),
		'3|3', $node->name . ' knows all members');
	$c->comes_to_be($node, 'SELECT bool_and(reachable) FROM quorum.members',
		't', $node->name . ' reaches all members');
}
is($c->node(1)->safe_psql($db, 'SELECT count(DISTINCT cluster_id) FROM quorum.status'),
	'1', 'there is a cluster id');
my $id = $c->node(1)->safe_psql($db, 'SELECT cluster_id FROM quorum.status');
is($_->safe_psql($db, 'SELECT cluster_id FROM quorum.status'), $id,
	$_->name . ' has the same cluster id')
  for $c->nodes;
is(($c->try_sql($c->node(2), 'SELECT quorum.create_cluster()'))[0],
	'55000', 'a member cannot found another cluster');
is($c->node(1)->safe_psql($db, q(SELECT count(*) FROM pg_roles WHERE rolname = 'quorum_admin')),
	'1', 'role quorum_admin is there');

$c->everywhere('CREATE TABLE t (id int PRIMARY KEY, node text)');
$c->add_tables('t');
my $rows = 0;
for my $node ($c->nodes)
{
	$node->safe_psql($db, 'INSERT INTO t VALUES (' . ++$rows . ", '" . $node->name . "')");
}
$c->settle;
$c->tables_equal('t', 'a write on each server is on all');
is($c->digest($c->node(1), 't') =~ /^3:/, 1, 'three rows');

# Every kind of stop, of each server in turn, writes going on elsewhere
for my $mode (qw(fast immediate smart))
{
	for my $node ($c->nodes)
	{
		my ($other) = $c->others($node);
		$node->stop($mode);
		my ($state) = $c->try_sql($other, "INSERT INTO t VALUES (" . ++$rows . ", 'stop')");
		is($state, '', "a write succeeds while " . $node->name . " is stopped ($mode)");
		$c->restart($node);
		$c->settle;
	}
}
$c->tables_equal('t', 'all equal after every kind of stop');
like($c->digest($c->node(1), 't'), qr/^$rows:/, 'and every acknowledged row is there');

# All at once
$_->stop('immediate') for $c->nodes;
$c->restart($c->nodes);
$c->settle;
$c->tables_equal('t', 'all equal after all were stopped at once');
like($c->digest($c->node(2), 't'), qr/^$rows:/, 'nothing lost');

# A worker that dies takes its server through a restart, no more than that
for my $worker ('raft', 'apply')
{
	my $node = $c->node(3);
	my $pid = $node->safe_psql($db,
		"SELECT pid FROM pg_stat_activity WHERE backend_type ILIKE '%quorum%$worker%'");
	isnt($pid, '', "the $worker worker shows in pg_stat_activity");
	kill 'KILL', $pid;
	$c->wait_until("a new $worker worker",
		sub {
			my $new = $c->ask($node, "SELECT pid FROM pg_stat_activity
				WHERE backend_type ILIKE '%quorum%$worker%'");
			return $new ne '' && $new ne $pid;
		});
	$c->settle;
	my ($state) = $c->try_sql($node, "INSERT INTO t VALUES (" . ++$rows . ", '$worker')");
	is($state, '', "a write succeeds after the $worker worker was killed");
}
$c->settle;
$c->tables_equal('t', 'all equal after workers were killed');

# The leader is killed, with all its processes
my $leader = $c->wait_for_leader;
$c->kill9($leader);
my $new = $c->wait_for_leader;
isnt($new->name, $leader->name, 'another server leads');
my ($state) = $c->try_sql($new, "INSERT INTO t VALUES (" . ++$rows . ", 'after')");
is($state, '', 'writes go on');
$c->restart($leader);
$c->settle;
$c->tables_equal('t', 'the killed leader comes back with the same rows');
like($c->digest($leader, 't'), qr/^$rows:/, 'all of them');

# Reload
$_->append_conf('postgresql.conf', "quorum.heartbeat_interval = '40ms'") for $c->nodes;
$_->reload for $c->nodes;
for my $node ($c->nodes)
{
	$c->wait_until('the setting is read',
		sub { $c->ask($node, 'SHOW quorum.heartbeat_interval') eq '40ms' });
}
($state) = $c->try_sql($c->node(2), "INSERT INTO t VALUES (" . ++$rows . ", 'reload')");
is($state, '', 'writes go on after a reload');

$_->stop('fast') for $c->nodes;
for my $node ($c->nodes)
{
	unlike(slurp_file($node->logfile), qr/PANIC|TRAP:|was terminated by signal (6|11)/,
		$node->name . ' logged no crash of its own making');
}

done_testing();
