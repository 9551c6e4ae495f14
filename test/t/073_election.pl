# Elections, semaphores and latches over three servers.
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

# --- one leader at a time, observed everywhere ---

my @observers = map { $_->background_psql($db) } $c->nodes;
is($observers[0]->query(q(SELECT quorum.election_observe('boss'))), 'quorum_election_boss', 'the channel');
$observers[$_]->query(q(SELECT quorum.election_observe('boss'))) for 1, 2;

my %seen;						# by observer: psql tells with the answer to the next query

sub told
{
	my ($what, $pattern) = @_;

	for my $s (@observers)
	{
		ok(QuorumCluster::poll(sub { ($seen{$s} .= $s->query('SELECT 1')) =~ $pattern }, 20), "$what: told")
		  or diag($seen{$s});
	}
}

my @candidates = map { $_->background_psql($db, on_error_stop => 0) } $c->nodes;
my $token = $candidates[0]->query(q(SELECT quorum.election_campaign('boss', 'at one')));
cmp_ok($token, '>', 0, 'elected');
told('elected', qr/"quorum_election_boss" with payload "\{"election":"boss","token":$token\}"/);
$c->settle;
for my $node ($c->nodes)
{
	is($c->ask($node, q(SELECT token, value, node_name FROM quorum.election_leader('boss'))),
		"$token|at one|n1", $node->name . ' knows the leader');
}
is($candidates[1]->query(q(SELECT quorum.election_campaign('boss', 'at two', '100 ms') IS NULL)), 't', 'no second one');
$candidates[$_]->query_until(qr/sent/, "\\echo sent\nSELECT 'token ' || quorum.election_campaign('boss', 'at ' || $_);\n") for 1, 2;
$c->wait_until('two stand by', sub { $c->ask($c->leader, q(SELECT count(*) FROM quorum.locks WHERE NOT granted)) eq '2' });
is($candidates[0]->query(q(SELECT quorum.election_resign('boss'))), 't', 'resigned');
told('resigned', qr/"token":null/);
my $next;
$c->wait_until('the next one leads', sub { $next = $c->ask($c->node(1), q(SELECT node_name FROM quorum.election_leader('boss') WHERE value IS NOT NULL)) });
like($next, qr/^n[23]$/, 'one of those that stood by');
my ($second) = $candidates[ $next eq 'n2' ? 1 : 2 ]->query('SELECT 1') =~ /token (\d+)/;
cmp_ok($second, '>', $token, 'with a later token');
told('the next one', qr/"token":$second\}/);

# a leader whose server dies is followed by who stands by
my $dead = $c->node($next eq 'n2' ? 2 : 3);
my $heir = $next eq 'n2' ? 2 : 1;
my $begun = QuorumCluster::now();
$c->kill9($dead);
my ($third) = $candidates[$heir]->query('SELECT 1') =~ /token (\d+)/;
cmp_ok($third // 0, '>', $second, sprintf('the leader dies: the next one after %.1f s', QuorumCluster::now() - $begun));
splice @observers, $dead->name eq 'n2' ? 1 : 2, 1;
told('after its death', qr/"token":$third\}/);
$candidates[$_]->quit for 0, $heir;
$_->quit for @observers;
$c->restart($dead);
$c->settle;
$c->wait_until('nobody leads', sub { $c->ask($c->node(1), q(SELECT count(token) FROM quorum.election_leader('boss'))) eq '0' });

# --- a semaphore ---

my $lease = $c->node(1)->safe_psql($db, q(SELECT quorum.lease_open('30 s')));
my $short = $c->node(2)->safe_psql($db, q(SELECT quorum.lease_open('5 s')));
is($c->node(2)->safe_psql($db, "SELECT quorum.semaphore_acquire('pool', 3, '$lease', 2) > 0"), 't', 'two of three');
is($c->node(3)->safe_psql($db, "SELECT quorum.semaphore_acquire('pool', 3, '$short') > 0"), 't', 'the third');
is($c->node(1)->safe_psql($db, "SELECT quorum.semaphore_acquire('pool', 3, '$lease', 1, '0') IS NULL"), 't', 'no fourth');
is($c->node(1)->safe_psql($db, "SELECT quorum.semaphore_acquire('pool', 3, '$lease') > 0"), 't', 'until a lease is over');
is($c->node(3)->safe_psql($db, "SELECT quorum.lease_close('$lease')"), 't', 'closed');
$c->wait_until('all is given back', sub { $c->ask($c->node(3), q(SELECT count(*) FROM quorum.locks)) eq '0' });

# --- a latch: counted by many at once, awaited anywhere ---

is($c->node(1)->safe_psql($db, q(SELECT quorum.latch_create('start', 30))), 't', 'a latch');
$c->settle;
is($c->node(2)->safe_psql($db, q(SELECT quorum.latch_create('start', 2))), 'f', 'no other one of its name');
my @waiting = map { $_->background_psql($db) } $c->nodes;
$_->query_until(qr/sent/, "\\echo sent\nSELECT 'reached ' || quorum.latch_await('start');\n") for @waiting;
my @counting = map { $_->background_psql($db) } $c->nodes;
$_->query_until(qr/sent/, "\\echo sent\nSELECT quorum.latch_count_down('start') FROM generate_series(1, 9);\n") for @counting;
$_->query('SELECT 1') for @counting;
is($c->ask($c->node(3), q(SELECT quorum.latch_await('start', '0'))), 'f', 'three are missing');
is($c->node(3)->safe_psql($db, q(SELECT quorum.latch_count_down('start', 3))), '0', 'none any more');
like($_->query('SELECT 1'), qr/reached true/, 'who waited goes on') for @waiting;
$_->quit for @waiting, @counting;
$c->node(2)->safe_psql($db, q(SELECT quorum.latch_drop('start')));
$c->settle;
$c->tables_equal([qw(quorum.latch quorum.election_value quorum.lock_grant quorum.lock_lease)], 'tables equal');

done_testing();
