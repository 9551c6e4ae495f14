# Leases: used from any connection, as poolers need it; renewed; never over
# before their time, whatever becomes of the leader.
use strict;
use warnings;

use PostgreSQL::Test::Utils;
use QuorumCluster;
use Test::More;
use Time::HiRes qw(usleep);

my $db = $QuorumCluster::DB;
my $c = QuorumCluster->new(nodes => 3, conf => q(
quorum.lease_timeout = '2s'
));

$c->found;

my @nodes = $c->nodes;
my $turn = 0;

# Each statement on its own connection, to the next server.
sub anywhere
{
	my ($sql) = @_;

	return $nodes[ $turn++ % @nodes ]->safe_psql($db, $sql);
}

# --- a pooler: no two statements on one connection ---

my $lease = anywhere(q(SELECT quorum.lease_open('30 s', 'worker 1')));
like($lease, qr/^[0-9a-f-]{36}$/, 'a lease');
my $token = anywhere("SELECT quorum.advisory_lock('task', '$lease')");
is(anywhere("SELECT quorum.advisory_lock('task', '$lease')"), $token, 'acquired again: the same token');
is(anywhere(q(SELECT quorum.try_advisory_lock('task') IS NULL)), 't', 'nobody else gets it');
is(anywhere("SELECT quorum.lease_renew('$lease') > '25 s'"), 't', 'renewed from anywhere');
is(anywhere(qq(SELECT mode, granted, lease = '$lease', token, hold_count FROM quorum.locks)), "exclusive|t|t|$token|2", 'as seen anywhere');
is(anywhere("SELECT quorum.advisory_unlock_token('task', $token + 1)"), 'f', 'a wrong token releases nothing');
is(anywhere("SELECT quorum.advisory_unlock_token('task', $token)"), 't', 'once');
is(anywhere(q(SELECT quorum.try_advisory_lock('task') IS NULL)), 't', 'it was acquired twice');
is(anywhere("SELECT quorum.advisory_unlock_token('task', $token)"), 't', 'twice');
is(anywhere(q(SELECT quorum.try_advisory_lock('task') > 0)), 't', 'and it is free');

# --- Redlock's contract: a resource, a time to live, an owner check ---

my $other = anywhere(q(SELECT quorum.lease_open('30 s')));
$token = anywhere("SELECT quorum.try_advisory_lock('res', '0', '$lease')");
is(anywhere("SELECT quorum.try_advisory_lock('res', '0', '$other') IS NULL"), 't', 'taken');
is(anywhere("SELECT quorum.try_advisory_lock('res', '50 ms', '$other') IS NULL"), 't', 'not within 50 ms');
is(anywhere("SELECT quorum.advisory_unlock_token('res', $token)"), 't', 'released by its owner');
my $next = anywhere("SELECT quorum.try_advisory_lock('res', '0', '$other')");
cmp_ok($next, '>', $token, 'then another one gets it');
is(anywhere("SELECT quorum.advisory_unlock_token('res', $token)"), 'f', 'the old token releases nothing');

# --- closed: all that is held goes at once, also what others wait for ---

anywhere("SELECT quorum.advisory_lock_many('{a,b,c}', '$lease')");
my $waiter = $nodes[2]->background_psql($db);
$waiter->query_until(qr/sent/, "\\echo sent\nSELECT 'token ' || quorum.advisory_lock('b');\n");
is(anywhere("SELECT quorum.lease_close('$lease')"), 't', 'closed');
like($waiter->query('SELECT 1'), qr/token \d+/, 'who waited gets it');
$waiter->quit;
is(anywhere("SELECT quorum.lease_close('$lease')"), 'f', 'closed once');
is(($c->try_sql($nodes[0], "SELECT quorum.lease_renew('$lease')"))[0], '22023', 'there is nothing to renew');
is(($c->try_sql($nodes[1], "SELECT quorum.advisory_lock('a', '$lease')"))[0], '22023', 'and nothing to be had under it');
is(anywhere("SELECT quorum.lease_close('$other')"), 't', 'the other one');

# --- over by itself: not before its time, and soon after ---

sub time_until_free
{
	my ($key, $begun) = @_;

	$c->wait_until("$key is free",
		sub { $c->ask($c->node(1), "SELECT quorum.try_advisory_lock('$key', '50 ms') > 0") eq 't' });
	return QuorumCluster::now() - $begun;
}

my $begun = QuorumCluster::now();
$lease = anywhere(q(SELECT quorum.lease_open('1500 ms')));
anywhere("SELECT quorum.advisory_lock('short', '$lease')");
my $took = time_until_free('short', $begun);
cmp_ok($took, '>=', 1.5, sprintf('a lease of 1.5 s ends after %.2f s', $took));

# often enough that a slow machine does not miss it
$begun = QuorumCluster::now();
$lease = anywhere(q(SELECT quorum.lease_open('4 s')));
anywhere("SELECT quorum.advisory_lock('renewed', '$lease')");
my $last = $begun;
while ($last - $begun < 5)
{
	$last = QuorumCluster::now();
	anywhere("SELECT quorum.lease_renew('$lease')");
	usleep(200_000);
}
is(anywhere(q(SELECT quorum.try_advisory_lock('renewed') IS NULL)), 't', 'renewed, it lives beyond its time');
cmp_ok(time_until_free('renewed', $last), '>=', 4, 'and its time from then on');

# --- a new leader begins anew ---

$lease = anywhere(q(SELECT quorum.lease_open('3 s')));
$token = anywhere("SELECT quorum.advisory_lock('moved', '$lease')");
my $until = QuorumCluster::now() + 1;
QuorumCluster::poll(sub { QuorumCluster::now() > $until }, 5);
my $leader = $c->wait_for_leader;
my ($successor) = $c->others($leader);
my $moved = QuorumCluster::now();
$successor->safe_psql($db, sprintf("SELECT quorum.transfer_leadership('%s')", $successor->name));
$c->wait_until('it leads', sub { my $l = $c->leader; $l && $l->name eq $successor->name });
$took = time_until_free('moved', $moved);
cmp_ok($took, '>=', 3, sprintf('after a change of leaders the lease has its whole time: %.2f s', $took));

# --- a hold that is too long; a lock delay ---

my $s = $nodes[1]->background_psql($db, on_error_stop => 0);
$s->query("SET quorum.lock_max_hold = '500ms'");
$begun = QuorumCluster::now();
$s->query("SELECT quorum.advisory_lock('held')");
$took = time_until_free('held', $begun);
cmp_ok($took, '>=', 0.5, sprintf('quorum.lock_max_hold of 0.5 s: taken away after %.2f s', $took));
ok(QuorumCluster::poll(sub { $s->query("SELECT count(*) FROM quorum.lost_locks()") eq '1' }), 'the session can tell');
is($s->query("SELECT quorum.advisory_unlock('held')"), 'f', 'it has nothing to unlock');
$s->query("SET quorum.lock_delay = '1500ms'");
$begun = QuorumCluster::now();
$s->query("SELECT quorum.advisory_lock('delayed')");
$took = time_until_free('delayed', $begun);
cmp_ok($took, '>=', 2.0, sprintf('with quorum.lock_delay of 1.5 s: free after %.2f s', $took));
$s->query("RESET ALL");
is($s->query("SELECT quorum.advisory_lock('let go') > 0, quorum.advisory_unlock('let go')"), 't|t', 'a release');
is($s->query("SELECT quorum.try_advisory_lock('let go') > 0"), 't', 'has no delay');
$s->quit;

$c->wait_until('nothing is left', sub { $c->ask($nodes[0], 'SELECT count(*) FROM quorum.locks') eq '0' });
$c->comes_to_be($nodes[2], 'SELECT count(*) FROM quorum.leases', '0', 'no lease either');
$c->settle;
$c->tables_equal([qw(quorum.lock_grant quorum.lock_memory quorum.lock_lease quorum.lock_loss)], 'lock tables equal');

# --- a member that joins gets all of it, and can lead ---

$lease = $nodes[0]->safe_psql($db, q(SELECT quorum.lease_open('60 s')));
$token = $nodes[0]->safe_psql($db, "SELECT quorum.advisory_lock('before', '$lease')");
my $holder = $nodes[1]->background_psql($db);
my $held = $holder->query("SELECT quorum.advisory_lock('of a session')");
my $fourth = $c->add_node;
$c->restart($fourth);
$fourth->safe_psql($db, 'CREATE EXTENSION IF NOT EXISTS pg_quorum');
$c->join_node($fourth);
$c->settle;
$c->tables_equal([qw(quorum.lock_grant quorum.lock_memory quorum.lock_lease quorum.lock_loss)], 'the new member has the locks');
$fourth->safe_psql($db, sprintf("SELECT quorum.transfer_leadership('%s')", $fourth->name));
$c->wait_until('it leads', sub { my $l = $c->leader; $l && $l->name eq $fourth->name });
is($fourth->safe_psql($db, q(SELECT quorum.try_advisory_lock('before') IS NULL, quorum.try_advisory_lock('of a session') IS NULL)), 't|t',
	'as the leader it knows who holds what');
is($fourth->safe_psql($db, "SELECT quorum.advisory_unlock_token('before', $token), quorum.lease_close('$lease')"), 't|t', 'and lets go');
is($holder->query("SELECT quorum.advisory_lock('of a session')"), $held, 'a session elsewhere has noticed nothing');
$holder->quit;

done_testing();
