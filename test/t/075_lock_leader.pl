# The leader's clock decides what runs out: a leader that stands still takes
# nothing from anybody, nor does a new one take it early; what a dead server held
# comes free in time whoever leads.
use strict;
use warnings;

use PostgreSQL::Test::Utils;
use QuorumCluster;
use Test::More;
use Time::HiRes qw(usleep);

my $db = $QuorumCluster::DB;
my $lease_s = 1.5;
my $c = QuorumCluster->new(nodes => 3, conf => q(
quorum.lease_timeout = '1500ms'
deadlock_timeout = '200ms'
));

$c->found;

sub waits { return $c->ask($_[0], "SELECT count(*) FROM quorum.locks WHERE NOT granted AND key = '$_[1]'") // ''; }

sub ask_for
{
	my ($s, $sql) = @_;

	$s->query_until(qr/sent/, "\\echo sent\n$sql;\n");
}

# --- the leader stands still for twice the lease, twice ---

for my $round (1, 2)
{
	my $leader = $c->wait_for_leader;
	my ($here, $there) = $c->others($leader);
	my $holder = $here->background_psql($db);
	my $waiter = $there->background_psql($db);
	my $own = $leader->background_psql($db);
	my $key = "stands still $round";
	my $token = $holder->query_safe("SELECT quorum.advisory_lock('$key')");
	my $begun;

	is($own->query_safe("SELECT quorum.advisory_lock('leader $round') > 0"), 't', 'a lock of a session of the leader');
	ask_for($waiter, "SELECT 'got ' || quorum.advisory_lock('$key')");
	$c->wait_until('somebody waits', sub { waits($there, $key) eq '1' });

	$c->pause($leader);
	$begun = QuorumCluster::now();
	$c->wait_until('another one leads', sub {
		($c->ask($here, 'SELECT leader FROM quorum.status') // '') !~ /^$|^${\$leader->name}$/ });
	my $gone = 0;
	while (QuorumCluster::now() - $begun < 2 * $lease_s)
	{
		$gone++ if $here->safe_psql($db, "SELECT count(*) FROM quorum.locks WHERE granted AND token = $token") ne '1';
		usleep(100_000);
	}
	is($gone, 0, 'held all the time');
	is($holder->query_safe("SELECT quorum.lock_safe_time() > '0'"), 't', 'and the session knows that it is safe');

	# the stopped leader's own session: over after its lease, and not before
	$c->wait_until('what the stopped server held is free', sub {
		$c->ask($here, "SELECT count(*) FROM quorum.locks WHERE granted AND key = 'leader $round'") eq '0' });

	$c->resume($leader);
	$c->wait_until('it is back', sub { ($c->ask($leader, 'SELECT role FROM quorum.status') // '') eq 'follower' });
	ok(QuorumCluster::poll(sub { $own->query_safe("SELECT count(*) FROM quorum.lost_locks()") eq '1' }),
		'its session learns of its loss');
	is($here->safe_psql($db, "SELECT token FROM quorum.locks WHERE granted AND key = '$key'"), $token,
		'held still when the old leader is back');
	ok(QuorumCluster::poll(sub { waits($there, $key) eq '1' }), 'and waited for');
	is($holder->query_safe("SELECT quorum.advisory_unlock('$key')"), 't', 'released');
	like($waiter->query('SELECT 1'), qr/got \d+/, 'handed over');
	$_->quit for $holder, $waiter, $own;
	$c->wait_until('all is free', sub { ($c->ask($here, 'SELECT count(*) FROM quorum.locks') // '') eq '0' });
}

# --- a server dies, and the leader with it: free in time all the same ---

my $leader = $c->wait_for_leader;
my ($victim, $last) = $c->others($leader);
my $holder = $victim->background_psql($db, on_error_stop => 0);
my $waiter = $last->background_psql($db);

$holder->query("SELECT quorum.advisory_lock('dead')");
ask_for($waiter, "SELECT 'got ' || quorum.advisory_lock('dead')");
$c->wait_until('it is waited for', sub { waits($last, 'dead') eq '1' });
$c->kill9($leader);
$c->restart($leader);
my $died = QuorumCluster::now();
$c->kill9($victim);
like($waiter->query('SELECT 1'), qr/got \d+/, 'what a dead server held is handed on, although the leader died as well');
my $took = QuorumCluster::now() - $died;
cmp_ok($took, '>', $lease_s / 2, sprintf('not before its lease was over (%.2f s)', $took));
$waiter->quit;
$c->restart($victim);
$c->settle;
$c->tables_equal([qw(quorum.lock_grant quorum.lock_memory quorum.lock_lease quorum.lock_loss)], 'lock tables equal');
done_testing();
