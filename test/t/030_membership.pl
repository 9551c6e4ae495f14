# Leadership handed around, members that leave or change their address, tokens
# that are asked about, a Raft worker that is ended alone: with writes going on.
use strict;
use warnings;

use PostgreSQL::Test::Utils;
use QuorumCluster;
use Test::More;

my $db = $QuorumCluster::DB;
my $c = QuorumCluster->new(nodes => 3);
my $n = 0;

sub write_on
{
	my ($node, $what) = @_;
	my ($state, undef, $err) = $c->try_sql($node, 'INSERT INTO t VALUES (' . ++$n . ')');

	is($state, '', "$what: a write succeeds on " . $node->name) or diag($err);
}

sub outcome
{
	my ($node, $token) = @_;

	return $node->safe_psql($db, "SELECT quorum.outcome('$token')");
}

$c->found;
$c->everywhere('CREATE TABLE t (id int PRIMARY KEY)');
$c->add_tables('t');
write_on($_, 'to begin with') for $c->nodes;

# --- leadership ---

for my $from ($c->nodes)
{
	for my $to ($c->nodes)
	{
		$from->safe_psql($db, sprintf "SELECT quorum.transfer_leadership('%s')", $to->name);
		is($c->ask($to, 'SELECT role FROM quorum.status'), 'leader',
			sprintf 'asked on %s: %s leads when the call returns', $from->name, $to->name);
	}
}
for my $from ($c->nodes)
{
	my $leader = $c->wait_for_leader;
	$from->safe_psql($db, 'SELECT quorum.transfer_leadership()');
	isnt($c->wait_for_leader->name, $leader->name, 'asked on ' . $from->name . ': another one leads');
}
$c->fails_with($_, q(SELECT quorum.transfer_leadership('nobody')), '42704', qr/nobody/,
	'no leadership for nobody, asked on ' . $_->name)
  for $c->nodes;

# under load, no client sees it
$c->everywhere($QuorumCluster::LOAD_SCHEMA);
$c->add_tables('load', 'load_counter');
my $load = $c->start_load(clients => 6, mode => 'insert');
$c->wait_until('the load runs', sub { $c->acknowledged($load) > 100 });
for my $round (1 .. 6)
{
	my $done = $c->acknowledged($load);
	$c->node(1)->safe_psql($db, 'SELECT quorum.transfer_leadership()');
	$c->wait_until('the load goes on', sub { $c->acknowledged($load) > $done + 20 });
}
# a worker that is ended alone is started again, and takes up what was in flight
for my $node ($c->nodes)
{
	my $done = $c->acknowledged($load);
	my $pid = $c->ask($node, q(SELECT pid FROM pg_stat_activity WHERE backend_type LIKE '%quorum raft%'));
	$node->safe_psql($db, "SELECT pg_terminate_backend($pid)");
	$c->wait_until('a new Raft worker on ' . $node->name,
		sub { my $new = $c->ask($node, q(SELECT pid FROM pg_stat_activity WHERE backend_type LIKE '%quorum raft%'));
			return $new ne '' && $new ne $pid; });
	$c->wait_until('the load goes on', sub { $c->acknowledged($load) > $done + 20 });
}
my $ops = $c->stop_load($load);
my %errors;
for my $op (values %$ops)
{
	$errors{ $op->{state} }++ if $op->{verdict} ne 'A' && $op->{state} !~ /^(?:40001|open)$/;
}
is_deeply(\%errors, {}, 'no client saw any of it');
$c->settle;
$c->tables_equal([ 't', 'load' ], 'all equal');

# --- tokens ---

my $token = $c->node(2)->safe_psql($db, q(BEGIN; INSERT INTO t VALUES (-1); SELECT quorum.transaction_token(); COMMIT));
is(outcome($_, $token), 'committed', 'of a committed transaction, asked on ' . $_->name) for $c->nodes;
my ($origin, $boot, $counter) = split /-/, $c->node(2)->safe_psql($db,
	q(BEGIN; INSERT INTO t VALUES (-2); SELECT quorum.transaction_token(); ROLLBACK));
is(outcome($_, "$origin-$boot-$counter"), 'aborted', 'of one that was rolled back, asked on ' . $_->name)
  for $c->nodes;
$counter += 1_000_000;
is(outcome($_, "$origin-$boot-$counter"), 'unknown', 'of one that was never given out, asked on ' . $_->name)
  for $c->nodes;
$c->node(2)->safe_psql($db, 'DELETE FROM t WHERE id < 0');
# while it is open
my $follower = ($c->others($c->wait_for_leader))[0];
my @rest = $c->others($follower);
$c->settle;
$c->pause($_) for @rest;
my $open = $follower->background_psql($db, on_error_stop => 0);
my $open_token = $open->query('BEGIN; INSERT INTO t VALUES (' . ++$n . '); SELECT quorum.transaction_token();');
$open_token =~ s/.*?(\d+-\d+-\d+).*/$1/s;
$open->query_until(qr/begun/, "\\echo begun\nCOMMIT;\n\\echo ended\n");
is(outcome($follower, $open_token), 'in_progress', 'of one that waits for the majority');
$c->resume($_) for @rest;
$c->wait_until('it is through', sub { outcome($follower, $open_token) eq 'committed' });
$open->quit;

# --- another address ---

my $moved = ($c->others($c->wait_for_leader))[0];
my $port = PostgreSQL::Test::Cluster::get_free_port();
$moved->append_conf('postgresql.conf', "quorum.address = '127.0.0.1:$port'\n");
$moved->stop('fast');
$c->restart($moved);
for my $node ($c->nodes)
{
	$c->wait_until($node->name . ' knows the new address',
		sub { $c->ask($node, sprintf q(SELECT address FROM quorum.members WHERE node_name = '%s'), $moved->name)
				eq "127.0.0.1:$port" });
}
$c->settle;
write_on($moved, 'at the new address');

# --- leaving ---

$c->settle;
my $leader = $c->wait_for_leader;
my ($second, $third) = $c->others($leader);
$second->safe_psql($db, sprintf "SELECT quorum.remove_member('%s')", $leader->name);
$c->wait_until('the removed leader knows it',
	sub { $c->ask($leader, 'SELECT role FROM quorum.status') eq 'removed' });
is($c->ask($second, 'SELECT count(*) FROM quorum.members'), '2', 'two members are left');
$c->wait_for_leader($second, $third);
write_on($_, 'after the leader was removed') for $second, $third;
is(($c->try_sql($leader, 'INSERT INTO t VALUES (-9)'))[0], '25006', 'the removed one cannot write');
cmp_ok($leader->safe_psql($db, 'SELECT count(*) FROM t'), '>', 0, 'and can be read');
$leader->restart;
$c->wait_until('it knows after a restart, too',
	sub { $c->ask($leader, 'SELECT role FROM quorum.status') eq 'removed' });
$third->safe_psql($db, 'SELECT quorum.leave_cluster()');
$c->wait_until('who left knows it',
	sub { $c->ask($third, 'SELECT role FROM quorum.status') eq 'removed' });
$c->wait_for_leader($second);
write_on($second, 'alone');
isnt(($c->try_sql($second, 'SELECT quorum.leave_cluster()'))[0], '', 'the last member cannot leave');
write_on($second, 'still');

for my $node ($c->nodes)
{
	unlike(slurp_file($node->logfile), qr/PANIC|TRAP:|was terminated by signal/,
		$node->name . ' logged no crash');
}

done_testing();
