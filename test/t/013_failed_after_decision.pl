# A session that fails after its entry was decided: the entry stands, the client
# hears 40003, and the apply worker applies it here. Nor does the failed commit
# leave a mark that makes this server take the entry for applied after a crash.
use strict;
use warnings;

use PostgreSQL::Test::Utils;
use QuorumCluster;
use Test::More;

my $db = $QuorumCluster::DB;
my $c = QuorumCluster->new(nodes => 2);
my $n = 0;

# PostgreSQL finds out at the very end of COMMIT that these two do not go together.
my $fails_late = 'CREATE TEMP TABLE a (id int PRIMARY KEY) ON COMMIT DELETE ROWS;
	CREATE TEMP TABLE b (a int REFERENCES a);';

$c->found;
$c->everywhere('CREATE TABLE t (id int PRIMARY KEY, v int); CREATE TABLE ordinary (a int)');
$c->add_tables('t');
for my $round (1 .. 3)
{
	for my $node ($c->nodes)
	{
		my $what = "round $round on " . $node->name;

		$n++;
		my ($state, undef, $err) = $c->try_sql($node,
			"BEGIN; $fails_late INSERT INTO t VALUES ($n, 0); COMMIT;");
		is($state, '40003', "$what: the outcome is unknown to the client") or diag($err);
		my ($token) = $err =~ /outcome\('([^']+)'\)/;
		isnt($token, undef, "$what: the hint names the token");
		$c->settle;
		is($node->safe_psql($db, "SELECT quorum.outcome('$token')"), 'committed', "$what: it is committed");
		is($_->safe_psql($db, "SELECT count(*) FROM t WHERE id = $n"), '1', "$what: the row is on " . $_->name)
		  for $c->nodes;
		$n++;
		($state, undef, $err) = $c->try_sql($node, "INSERT INTO t VALUES ($n, 0); UPDATE t SET v = v + 1");
		is($state, '', "$what: writes go on") or diag($err);
	}
	# the failed commit is the last thing that the WAL knows: whatever it says of
	# the entry is durable, and the apply worker has not got to it
	for my $node ($c->nodes)
	{
		my $pid = $node->safe_psql($db,
			q(SELECT pid FROM pg_stat_activity WHERE backend_type = 'pg_quorum apply worker'));

		$n++;
		kill 'STOP', $pid;
		is(($c->try_sql($node, "BEGIN; $fails_late INSERT INTO t VALUES ($n, 0); COMMIT;"))[0],
			'40003', "round $round on " . $node->name . ': failed while the apply worker stands still');
		$node->safe_psql($db, 'INSERT INTO ordinary VALUES (1)');
		$c->kill9($node);
		$c->restart($node);
		$c->settle;
	}
	$c->tables_equal('t', "round $round: equal after a crash");
	is($c->node(1)->safe_psql($db, 'SELECT count(*) FROM t'), $n, "round $round: no row is missing");
}

$_->stop('fast') for $c->nodes;
unlike(slurp_file($_->logfile), qr/PANIC|TRAP:|was terminated by signal (6|11)/, $_->name . ' logged no crash')
  for $c->nodes;

done_testing();
