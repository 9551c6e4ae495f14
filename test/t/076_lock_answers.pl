# What sessions are told is true: an error means that nothing was acquired, or says
# that it took effect; a lock that is lost is not called safe, nor acquired again by
# counting, however late this server hears of it.
use strict;
use warnings;

use PostgreSQL::Test::Utils;
use QuorumCluster;
use Test::More;

my $db = $QuorumCluster::DB;
my $c = QuorumCluster->new(nodes => 3, conf => q(
quorum.lease_timeout = '2s'
));

$c->found;

my $leader = $c->wait_for_leader;
my ($here, $there) = $c->others($leader);

sub worker_pid
{
	my ($node, $kind) = @_;

	return $node->safe_psql($db, "SELECT pid FROM pg_stat_activity WHERE backend_type = 'pg_quorum $kind worker'");
}

sub session { return $c->session(@_); }
sub state_of_error { return $c->state_of_error(@_); }

sub is_free
{
	my ($key, $what) = @_;

	ok(QuorumCluster::poll(sub { $c->ask($there, "SELECT quorum.try_advisory_lock('$key') > 0") eq 't' }, 30), $what);
}

# --- the request is in the log, and this server does not get to apply it ---

my $s = session($here);
my $lease = $here->safe_psql($db, q(SELECT quorum.lease_open('10 min')));
my $spare = $here->safe_psql($db, q(SELECT quorum.lease_open('10 min')));
$here->safe_psql($db, q(SELECT quorum.latch_create('start', 10)));
my $held = $here->safe_psql($db, "SELECT quorum.advisory_lock('held', '$lease')");
$c->settle;
# what sessions do at first may need what the apply worker does
$s->query(q(SELECT count(*) FROM quorum.locks));
$s->query(q(SELECT quorum.latch_await('start', '0'), quorum.try_advisory_lock('warm'), quorum.advisory_unlock('warm')));
$c->settle;
my $apply = worker_pid($here, 'apply');
kill 'STOP', $apply;
# rows that whoever is given a lock has to see
$there->safe_psql($db, q(SELECT quorum.latch_create('rows', 1)));
$s->query(q(SET statement_timeout = '1s'));
is(state_of_error($s, "SELECT quorum.advisory_lock('one', '$lease')"), '57014', 'a lock under a lease: not acquired');
is(state_of_error($s, "SELECT quorum.advisory_lock_many('{two,three}', '$lease')"), '57014', 'nor several');
is(state_of_error($s, "SELECT quorum.semaphore_acquire('pool', 1, '$lease')"), '57014', 'nor permits');
is(state_of_error($s, "SELECT quorum.advisory_lock('four')"), '57014', 'nor a lock of the session');
is(state_of_error($s, "SELECT quorum.election_campaign('boss', 'here')"), '57014', 'nor an election');
is(state_of_error($s, "SELECT quorum.election_campaign('boss 2', 'here', '1 min', '$lease')"), '57014', 'nor that of a lease');
is(state_of_error($s, "SELECT quorum.latch_count_down('start')"), '40003', 'a latch was counted down');
is(state_of_error($s, "SELECT quorum.advisory_unlock_token('held', $held)"), '40003', 'a lock was released');
is(state_of_error($s, "SELECT quorum.lease_close('$spare')"), '40003', 'a lease was closed');
is($there->safe_psql($db, q(SELECT quorum.latch_count_down('start'))), '8', 'once each');
my $token = $there->safe_psql($db, "SELECT quorum.advisory_lock('five', '$lease')");
is(state_of_error($s, "SELECT quorum.advisory_unlock_token('five', $token)"), '57014',
	'a token that this server has not heard of yet is not called bad');
is(state_of_error($s, "SELECT quorum.check_fence('five', $token)"), '57014', 'nor stale');
is($s->query("SELECT quorum.advisory_unlock_token('five', $token + 1000000000)"), 'f', 'one that is made up is');
is_free($_, "$_ is free") for qw(one two three four held);
is(($c->try_sql($there, "SELECT quorum.lease_renew('$spare')"))[0], '22023', 'the lease is closed');
my $other = $there->safe_psql($db, q(SELECT quorum.lease_open('10 min')));
ok(QuorumCluster::poll(sub { $c->ask($there, "SELECT quorum.semaphore_acquire('pool', 1, '$other', 1, '0') > 0") eq 't' }, 30),
	'the permit is there');
ok(QuorumCluster::poll(sub { $c->ask($there, "SELECT quorum.election_campaign('$_', NULL, '0') > 0") eq 't' }, 30),
	"$_ is vacant") for 'boss', 'boss 2';
kill 'CONT', $apply;
$c->settle;
is($s->query("SELECT quorum.election_resign('boss')"), 'f', 'the session leads nothing');
is($s->query("SELECT quorum.advisory_unlock('four')"), 'f', 'and holds nothing');
$s->quit;

# --- the campaign was won, and saying so failed ---

$s = session($here);
$here->safe_psql($db, q(
	ALTER FUNCTION quorum._submit_statement(text) RENAME TO kept;
	CREATE FUNCTION quorum._submit_statement(sql text) RETURNS text LANGUAGE plpgsql AS
		$$ BEGIN RAISE EXCEPTION USING ERRCODE = '54000'; END $$;
));
is(state_of_error($s, q(SELECT quorum.election_campaign('boss', 'x'))), '54000', 'an error after the election');
is(state_of_error($s, "SELECT quorum.election_campaign('boss 2', 'x', '1 min', '$lease')"), '54000', 'under a lease, too');
$here->safe_psql($db, q(
	DROP FUNCTION quorum._submit_statement(text);
	ALTER FUNCTION quorum.kept(text) RENAME TO _submit_statement;
));
is($s->query("SELECT quorum.election_resign('boss')"), 'f', 'nothing is led after that');
ok(QuorumCluster::poll(sub { $c->ask($there, "SELECT quorum.election_campaign('$_', NULL, '0') > 0") eq 't' }, 30),
	"$_ is vacant") for 'boss', 'boss 2';
is(state_of_error($s, q(SELECT quorum.election_campaign('boss', repeat('x', 1048577)))), '54000', 'a value that is too long');

# what a former leader says of itself comes too late
$token = $s->query(q(SELECT quorum.election_campaign('boss', 'first')));
is($s->query("SELECT quorum.election_resign('boss')"), 't', 'resigned');
my $second = $there->background_psql($db);
my $later = $second->query(q(SELECT quorum.election_campaign('boss', 'second')));
$s->query(q(SELECT quorum.election_observe('boss')));
$s->query("SELECT quorum._submit_statement(\$\$SELECT quorum._election_value('boss', $token, 'late')\$\$)");
unlike($s->query('SELECT 1') . $s->query('SELECT 2'), qr/"token":$token\b/, 'it is not told');
is($s->query(q(SELECT token, value FROM quorum.election_leader('boss'))), "$later|second", 'nor does it count');
$second->quit;

# --- lost while this server was not there, and it hears of its renewal first ---

$token = $s->query(q(SELECT quorum.advisory_lock('away')));
is($s->query(q(SELECT quorum.lock_safe_time() > '0')), 't', 'held, and safe');
$c->settle;
$apply = worker_pid($here, 'apply');
my $raft = worker_pid($here, 'raft');
kill 'STOP', $apply, $raft;
my $rival = session($there);
cmp_ok($rival->query(q(SELECT quorum.advisory_lock('away'))), '>', $token, 'another one has got it');
kill 'CONT', $raft;
$c->wait_until('it is back', sub {
	$c->ask($leader, sprintf "SELECT m.match_index = s.last_index FROM quorum.members m, quorum.status s WHERE m.node_name = '%s'", $here->name) eq 't' });
is($s->query(q(SELECT quorum.lock_safe_time() > '0')), 'f', 'nothing is safe');
is(state_of_error($s, q(SELECT quorum.advisory_lock('away'))), '55000', 'nor acquired again by counting');
kill 'CONT', $apply;
$c->settle;
is($s->query(q(SELECT quorum.lock_safe_time() > '0')), 'f', 'nor when it is known to be lost');
is($s->query(q(SELECT count(*) FROM quorum.lost_locks())), '1', 'which can be asked');
is($s->query(q(SELECT quorum.try_advisory_lock('away') IS NULL)), 't', 'it is the other one\'s');
$_->quit for $s, $rival;

$c->settle;
$c->tables_equal([qw(quorum.lock_grant quorum.lock_memory quorum.lock_lease quorum.lock_loss quorum.election_value quorum.latch)],
	'tables equal');

done_testing();
