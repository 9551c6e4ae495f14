# pgbench's own tpcb-like transaction, unmodified, on three servers at once:
# money is neither made nor lost on any of them.
use strict;
use warnings;

use IPC::Run;
use PostgreSQL::Test::Utils;
use QuorumCluster;
use Test::More;

my $db = $QuorumCluster::DB;
my $seconds = $ENV{TPCB_SECONDS} // 8;
my $clients = 3;
my $c = QuorumCluster->new(nodes => 3);

$c->found;
# The history table has no key: it gets one that the script does not name.
for my $node ($c->nodes)
{
	$node->command_ok([ 'pgbench', '-i', '-I', 'dtpf', '-q', $db ], 'tables on ' . $node->name);
}
$c->everywhere('ALTER TABLE pgbench_history ADD COLUMN id bigserial PRIMARY KEY');
my @tables = map { "pgbench_$_" } qw(branches tellers accounts history);
$c->add_tables(@tables);
$c->node(1)->command_ok([ 'pgbench', '-i', '-I', 'g', '-q', $db ],
	'a hundred thousand accounts in one replicated transaction');
$c->settle;
$c->tables_equal(\@tables, 'the initial data is on all servers');

my @runs;
for my $node ($c->nodes)
{
	my %run = (node => $node, out => '', err => '');
	local %ENV = $node->_get_env;
	$run{handle} = IPC::Run::start(
		[ 'pgbench', '-n', '-c', $clients, '-j', 1, '-T', $seconds, '--max-tries', 1000, $db ],
		'<', \undef, '>', \$run{out}, '2>', \$run{err},
		IPC::Run::timeout(120 + $seconds));
	push @runs, \%run;
}
my $processed = 0;
for my $run (@runs)
{
	my $name = $run->{node}->name;
	IPC::Run::finish($run->{handle});
	is($run->{handle}->result(0), 0, "pgbench on $name ends well") or diag($run->{err});
	my ($done) = $run->{out} =~ /actually processed: (\d+)/;
	my ($failed) = $run->{out} =~ /number of failed transactions: (\d+)/;
	my ($retried) = $run->{out} =~ /total number of retries: (\d+)/;
	cmp_ok($done // 0, '>', 0, "pgbench on $name gets transactions through");
	is($failed // 0, 0, "none of them failed for good on $name");
	note(sprintf '%s: %d done, %d retries', $name, $done // 0, $retried // 0);
	$processed += $done // 0;
}

$c->settle;
$c->tables_equal(\@tables, 'all four tables are equal');
for my $node ($c->nodes)
{
	my ($accounts, $tellers, $branches, $history, $count) = split /\|/,
	  $node->safe_psql($db, q(SELECT
		(SELECT sum(abalance) FROM pgbench_accounts), (SELECT sum(tbalance) FROM pgbench_tellers),
		(SELECT sum(bbalance) FROM pgbench_branches), (SELECT coalesce(sum(delta), 0) FROM pgbench_history),
		(SELECT count(*) FROM pgbench_history)));
	is("$tellers $branches $history", "$accounts $accounts $accounts",
		'balances agree on ' . $node->name);
	is($count, $processed, 'as many rows of history as transactions on ' . $node->name);
}

done_testing();
