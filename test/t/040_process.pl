# The pitfalls of a consensus worker inside PostgreSQL (P-45 to P-49): what its
# processes do when others die, when they are stopped, and while they start.
use strict;
use warnings;

use PostgreSQL::Test::Utils;
use QuorumCluster;
use Test::More;

my $db = $QuorumCluster::DB;
my $c = QuorumCluster->new(nodes => 3);
my $n = 0;

sub worker_pid
{
	my ($node, $worker) = @_;

	return $c->ask($node,
		"SELECT pid FROM pg_stat_activity WHERE backend_type = 'pg_quorum $worker worker'");
}

sub write_works
{
	my ($node, $what) = @_;
	my ($state, undef, $err) = $c->try_sql($node, 'INSERT INTO t VALUES (' . ++$n . ')');

	is($state, '', "$what: a write succeeds on " . $node->name) or diag($err);
}

$c->found;
$c->everywhere('CREATE TABLE t (id int PRIMARY KEY)');
$c->add_tables('t');
write_works($_, 'to begin with') for $c->nodes;

# P-45: no worker survives its postmaster and goes on leading
for my $round (1 .. 3)
{
	my $leader = $c->wait_for_leader;
	my $raft = worker_pid($leader, 'raft');
	isnt($raft, '', 'P45: the Raft worker of the leader is there');
	my $killed = QuorumCluster::now();
	$c->kill9_postmaster($leader);
	# one that is dead and not reaped yet has no working directory
	ok(QuorumCluster::poll(sub { !defined readlink "/proc/$raft/cwd" }),
		sprintf 'P45: it ends with its postmaster: after %.2f s', QuorumCluster::now() - $killed);
	$c->wait_until('nobody is left', sub { $c->no_process_left($leader, 10) });
	$c->restart($leader);
	$c->settle;
}

# P-46: workers that are stopped while they start leave nothing behind that the
# next ones stumble over
my $node = $c->node(2);
my $postmaster = $c->ask($node, 'SELECT pg_postmaster_start_time()');
for my $round (1 .. 8)
{
	for my $worker ('raft', 'apply')
	{
		my $pid = worker_pid($node, $worker);
		kill 'TERM', $pid if $pid ne '';
	}
	# as soon as it is there again, and long before it has opened its log
	QuorumCluster::poll(sub { worker_pid($node, 'raft') ne '' }, undef, 1000);
}
$c->settle;
write_works($node, 'P46: workers stopped while starting');
is($c->ask($node, 'SELECT pg_postmaster_start_time()'), $postmaster,
	'P46: the server itself has not restarted');

# P-47: nothing of ours stops a worker by SIGKILL: a stop is not a crash
unlike(slurp_file($node->logfile), qr/terminated by signal 9/, 'P47: no worker was killed');

# P-48: a fast shutdown does not wait for a standby that never comes
my $standby = $c->node(3);
$standby->append_conf('postgresql.conf', "synchronous_standby_names = 'nobody'\n");
$standby->reload;
$c->wait_until('the setting is read',
	sub { $c->ask($standby, 'SHOW synchronous_standby_names') eq 'nobody' });
write_works($standby, 'P48: with a standby that never comes');
write_works($c->node(1), 'P48: applied by that server, too');
$c->settle;
my $begun = QuorumCluster::now();
$standby->stop('fast');
cmp_ok(QuorumCluster::now() - $begun, '<', 40, 'P48: a fast shutdown ends');
$standby->append_conf('postgresql.conf', "synchronous_standby_names = ''\n");
$c->restart($standby);
$c->settle;
$c->tables_equal('t', 'all servers agree');

# P-49: no error was thrown through libuv, and nothing crashed
for my $server ($c->nodes)
{
	unlike(slurp_file($server->logfile), qr/PANIC|TRAP:|was terminated by signal (?:6|11)/,
		'P49: ' . $server->name . ' logged no crash');
}

done_testing();
