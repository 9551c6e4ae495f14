# What sessions leave behind is given back, whatever happens to the workers: they
# are ended and started anew, leaders change, sessions are cancelled and killed.
use strict;
use warnings;

use PostgreSQL::Test::Utils;
use QuorumCluster;
use Test::More;
use Time::HiRes qw(usleep);

my $db = $QuorumCluster::DB;
my $c = QuorumCluster->new(nodes => 3, conf => q(
quorum.lease_timeout = '5s'
deadlock_timeout = '100ms'
));

$c->found;
my @nodes = $c->nodes;
my ($leader) = $c->leader;
my ($other, $third) = grep { $_->name ne $leader->name } @nodes;

sub worker_pid
{
	my ($node, $kind) = @_;

	return $c->ask($node, "SELECT pid FROM pg_stat_activity WHERE backend_type = 'pg_quorum $kind worker'") // '';
}

# End a worker alone; it is there again with another pid.
sub end_worker
{
	my ($node, $kind) = @_;
	my $pid = worker_pid($node, $kind);

	return unless $pid =~ /^\d+$/;
	$c->ask($node, "SELECT pg_terminate_backend($pid)");
	return $pid;
}

sub held { return $c->ask($_[0], 'SELECT count(*) FROM quorum.locks') // ''; }
sub waits { return $c->ask($_[0], "SELECT count(*) FROM quorum.locks WHERE NOT granted AND key = '$_[1]'") // ''; }

sub ask_for
{
	my ($s, $sql) = @_;

	$s->query_until(qr/sent/, "\\echo sent\n$sql;\n");
}

# --- a Raft worker is ended while locks are held and waited for ---

for my $node ($leader, $other)
{
	my $what = $node->name eq $leader->name ? 'the leader' : 'a follower';
	my $key = 'w' . $node->name;
	my $holder = $node->background_psql($db);
	my $waiter = $node->background_psql($db);
	my $leaver = $node->background_psql($db, on_error_stop => 0);
	my $far = $third->background_psql($db);
	my $leaver_pid = $leaver->query('SELECT pg_backend_pid()');

	$holder->query_safe("SELECT quorum.advisory_lock('$key')");
	ask_for($leaver, "SELECT quorum.advisory_lock('$key')");
	$c->wait_until("$what: one waits", sub { waits($node, $key) eq '1' });
	ask_for($waiter, "SELECT 'got ' || quorum.advisory_lock('$key')");
	$c->wait_until("$what: two wait", sub { waits($node, $key) eq '2' });
	ask_for($far, "SELECT 'got ' || quorum.advisory_lock('$key')");
	$c->wait_until("$what: three wait", sub { waits($third, $key) eq '3' });

	# the one that leaves does so while the worker is away
	my $pid = end_worker($node, 'raft');
	$c->ask($node, "SELECT pg_cancel_backend($leaver_pid)");
	$c->wait_until("$what: the worker is back", sub {
		my $new = worker_pid($node, 'raft'); $new =~ /^\d+$/ && $new ne $pid });
	is($holder->query_safe("SELECT quorum.advisory_unlock('$key')"), 't',
		"$what: what was held before the worker was ended is released");
	like($waiter->query('SELECT 1'), qr/got \d+/, "$what: who waited gets it");
	is($waiter->query_safe("SELECT quorum.advisory_unlock('$key')"), 't', "$what: and lets go");
	like($far->query('SELECT 1'), qr/got \d+/, "$what: then the one on another server");
	$_->quit for $holder, $waiter, $leaver, $far;
	$c->wait_until("$what: nothing is left", sub { held($third) eq '0' });
}

# --- everything at once ---

$c->everywhere(q(
CREATE FUNCTION stir(k int) RETURNS void LANGUAGE plpgsql SET lock_timeout = '40ms' AS $$
DECLARE
	what int := random() * 6;
BEGIN
	PERFORM quorum.advisory_unlock_all();
	IF what = 0 THEN PERFORM quorum.advisory_lock(k);
	ELSIF what = 1 THEN PERFORM quorum.advisory_lock_shared(k);
	ELSIF what = 2 THEN PERFORM quorum.try_advisory_lock(k, '20 ms');
	ELSIF what = 3 THEN PERFORM quorum.advisory_xact_lock(k);
	ELSIF what = 4 THEN PERFORM quorum.advisory_lock_many(ARRAY['m' || k, 'm' || (k + 1) % 4]);
	ELSE PERFORM quorum.try_advisory_lock_shared(k), quorum.try_advisory_lock((k + 1) % 4);
	END IF;
EXCEPTION WHEN OTHERS THEN
	NULL;
END $$));
my $script = $leader->basedir . '/stir.sql';
append_to_file($script, "\\set k random(0, 3)\nSELECT stir(:k);\n");

my @pids;
for my $node (@nodes)
{
	my $pid = fork // die "fork: $!";

	if ($pid == 0)
	{
		open STDOUT, '>', $node->basedir . '/stir.out' or die;
		open STDERR, '>&', \*STDOUT or die;
		exec 'pgbench', '-n', '-c', 5, '-j', 1, '-T', 600, '-f', $script,
		  '-h', $node->host, '-p', $node->port, $db or die "exec: $!";
	}
	push @pids, $pid;
}

srand(42);
my $ends = 0;
my $until = QuorumCluster::now() + 12;
while (QuorumCluster::now() < $until || ($ends < 6 && QuorumCluster::now() < $until + $QuorumCluster::PATIENCE_S))
{
	my $node = $nodes[ rand @nodes ];
	my $what = int rand 6;

	if ($what == 0) { $ends++ if end_worker($node, 'raft'); }
	elsif ($what == 1) { $ends++ if end_worker($node, 'apply'); }
	elsif ($what == 2) { $c->ask($node, 'SELECT quorum.transfer_leadership()'); }
	else
	{
		my $function = $what == 3 && rand() < 0.3 ? 'pg_terminate_backend' : 'pg_cancel_backend';

		$c->ask($node, "SELECT $function(pid) FROM pg_stat_activity WHERE application_name = 'pgbench' ORDER BY random() LIMIT 1");
	}
	usleep(150_000);
}
cmp_ok($ends, '>', 5, "workers were ended $ends times");
kill 'TERM', @pids;
waitpid $_, 0 for @pids;

for my $node (@nodes)
{
	$c->wait_until($node->name . ': nothing is left', sub { held($node) eq '0' });
	# which those of the session before this one, on the member before, may still be for a moment
	is($c->ask($node, "SELECT count(*) FROM generate_series(0, 3) k, quorum.try_advisory_lock(k, '10 s') t WHERE t IS NULL"), '0',
		$node->name . ': and can be had');
}
done_testing();
