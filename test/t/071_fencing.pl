# A holder that stands still beyond its lease and wakes up: without fencing its
# write destroys another one's (shown), with fencing it is refused. And the fence
# of a table, across servers.
use strict;
use warnings;

use PostgreSQL::Test::Utils;
use QuorumCluster;
use Test::More;

my $db = $QuorumCluster::DB;
my $c = QuorumCluster->new(nodes => 3, conf => q(
quorum.lease_timeout = '1s'
));

$c->found;
$c->everywhere(q(
	CREATE TABLE account (id int PRIMARY KEY, v int NOT NULL, who text);
	CREATE TABLE job (id int PRIMARY KEY, resource text, token bigint);
	CREATE TABLE own (id int PRIMARY KEY, v int);
));
$c->add_tables(qw(account job));
$c->node(1)->safe_psql($db, "INSERT INTO account VALUES (1, 0, 'nobody')");
$c->settle;

sub session { return $c->session(@_); }
sub state_of_error { return $c->state_of_error(@_); }

# One round: a holder on a server that stands still reads, another server's
# session gets the lock and changes the row, the holder goes on and writes what it
# had in mind. How often each of the two counted.
sub round
{
	my ($fenced) = @_;
	my $leader = $c->wait_for_leader;
	my ($node, $other) = $c->others($leader);
	my $holder = session($node);
	my $rival = session($other);
	my $guard = sub { $fenced ? "SELECT quorum.check_fence('account', $_[0]);" : '' };

	$other->safe_psql($db, "UPDATE account SET v = 0, who = 'nobody'");
	$c->settle;
	my $token = $holder->query("SELECT quorum.advisory_lock('account')");
	my $v = $holder->query('SELECT v FROM account WHERE id = 1');

	$c->pause($node);
	my $later = $rival->query("SELECT quorum.advisory_lock('account')");
	cmp_ok($later, '>', $token, 'the lease has run out: the lock goes to another');
	my $w = $rival->query('SELECT v FROM account WHERE id = 1');
	is(state_of_error($rival, 'BEGIN; ' . $guard->($later) . " UPDATE account SET v = $w + 1, who = 'rival'; COMMIT"), '',
		'the rival counts');
	$c->resume($node);
	$c->settle;
	my $state = state_of_error($holder, 'BEGIN; ' . $guard->($token) . " UPDATE account SET v = $v + 1, who = 'holder'; COMMIT");
	$holder->query('ROLLBACK');
	my $result = $rival->query("SELECT v || ' ' || who FROM account WHERE id = 1");
	is($holder->query("SELECT count(*) FROM quorum.lost_locks()"), '1', 'the holder can ask what it has lost');
	is($holder->query("SELECT quorum.advisory_unlock('account')"), 'f', 'and has nothing to unlock');
	is($rival->query("SELECT quorum.advisory_unlock('account')"), 't', 'the rival has');
	$_->quit for $holder, $rival;
	$c->settle;
	return ($state, $result);
}

my ($state, $result) = round(0);
is($state, '', 'without a fence the late write passes');
is($result, '1 holder', 'and an update is lost: two counted, one is there');
($state, $result) = round(1);
is($state, 'Q0001', 'with a fence it is refused');
is($result, '1 rival', 'and no update is lost');
is($c->ask($c->node(1), "SELECT count(*) > 0 FROM quorum.lock_history WHERE key = 'account' AND cause ~ 'expired'"), 't',
	'the history tells');

# --- decided at COMMIT, in log order, wherever the lock goes meanwhile ---

my ($a, $b) = map { session($c->node($_)) } 1, 2;
my $token = $a->query("SELECT quorum.advisory_lock('race')");
$a->query("SELECT quorum.advisory_unlock('race')");
$a->query("BEGIN; SELECT quorum.check_fence('race', $token); UPDATE account SET v = 100 WHERE id = 1;");
my $later = $b->query("SELECT quorum.advisory_lock('race')");
is(state_of_error($a, 'COMMIT'), 'Q0001', 'granted elsewhere before the COMMIT: Q0001');
is(state_of_error($a, "SELECT quorum.check_fence('race', $token)"), 'Q0001', 'and at once from then on');
is(state_of_error($b, "BEGIN; SELECT quorum.check_fence('race', $later); UPDATE account SET v = 200 WHERE id = 1; COMMIT"), '',
	'the newer token passes');
is(state_of_error($a, "BEGIN; SELECT quorum.check_fence('race', $later); UPDATE account SET v = 300 WHERE id = 1; COMMIT"), '',
	'for a session of another server, too');
is(state_of_error($a, "BEGIN; SELECT quorum.check_fence('race', $later); INSERT INTO own VALUES (1, 1); COMMIT"), '',
	'a table of this server alone can be guarded');
$a->query("BEGIN; SELECT quorum.check_fence('race', $later); INSERT INTO own VALUES (2, 1);");
$b->query("SELECT quorum.advisory_unlock('race')");
$later = $b->query("SELECT quorum.advisory_lock_shared('race')");
is(state_of_error($a, 'COMMIT'), 'Q0001', 'against a shared grant as well');
is($a->query('SELECT count(*) FROM own'), '1', 'nothing of it is there');
# the token of a grant that this server has not seen yet
is(state_of_error($a, "BEGIN; SELECT quorum.check_fence('race', $later); COMMIT"), '', 'a token goes from hand to hand');
$a->query("SELECT quorum.advisory_lock_shared('race')");
is(state_of_error($b, "BEGIN; SELECT quorum.check_fence('race', $later); COMMIT"), '', 'shared grants do not mind each other');
$_->query('SELECT quorum.advisory_unlock_all()') for $a, $b;

# --- a table that refuses old tokens ---

$a->query(q(SELECT quorum.fence_table('job', 'resource', 'token')));
$c->settle;
is(state_of_error($a, "INSERT INTO job VALUES (1, 'r', 35)"), '', 'token 35 on one server');
$c->settle;
my $text;
{
	$b->{stderr} = '';
	$b->query("INSERT INTO job VALUES (2, 'r', 34)");
	$text = $b->{stderr};
}
like($text, qr/Q0001.*34 < 35: rejected/, 'token 34 on another one: rejected');
is(state_of_error($b, "INSERT INTO job VALUES (2, 'r', 36)"), '', 'token 36 is newer');
# side by side on two servers: one of the two is refused, whatever comes first
for my $round (1 .. 10)
{
	my ($old, $new) = (100 * $round, 100 * $round + 1);
	$c->settle;
	$a->query("BEGIN; INSERT INTO job VALUES ($old, 'r', $old);");
	$b->query("BEGIN; INSERT INTO job VALUES ($new, 'r', $new);");
	my ($one, $two) = $round % 2 ? ($a, $b) : ($b, $a);
	my @states = (state_of_error($one, 'COMMIT'), state_of_error($two, 'COMMIT'));
	$_->query('ROLLBACK') for $a, $b;
	is_deeply(\@states, [ '', '40001' ], "round $round: the second one is refused") or last;
	next if $round % 2;
	# as soon as that is applied where it is tried again
	my $again = '40001';
	QuorumCluster::poll(sub {
		$again = state_of_error($a, "INSERT INTO job VALUES ($old + 50, 'r', $old)");
		return $again ne '40001' });
	is($again, 'Q0001', 'its retry sees the newer token');
}
$_->quit for $a, $b;
$c->settle;
$c->tables_equal([qw(account job job_fence quorum.lock_grant quorum.lock_memory quorum.lock_loss)], 'tables equal');

done_testing();
