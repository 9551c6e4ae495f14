# Servers that lost their data, planned restarts of the leader, a member that is
# away for long, one that was removed: the others go on as if nothing was.
use strict;
use warnings;

use PostgreSQL::Test::Utils;
use QuorumCluster;
use Test::More;

my $db = $QuorumCluster::DB;
my $c = QuorumCluster->new(nodes => 3, conf => "quorum.max_log_size = '16MB'\n");

sub status { my ($node, $column) = @_; return $c->ask($node, "SELECT $column FROM quorum.status"); }

# Errors of clients of these nodes, but for those that ask for a retry.
sub errors_on
{
	my ($ops, @nodes) = @_;
	my %mine = map { $_->name => 1 } @nodes;
	my %errors;

	for my $op (values %$ops)
	{
		$errors{ $op->{state} }++
		  if $mine{ $op->{node}->name } && $op->{verdict} ne 'A' && $op->{state} !~ /^(?:40001|open)$/;
	}
	return \%errors;
}

# --- planned restarts of the leader: it hands over first ---

$c->found;
$c->everywhere($QuorumCluster::LOAD_SCHEMA);
$c->everywhere('CREATE TABLE big (id int PRIMARY KEY, v text)');
$c->add_tables('load', 'load_counter', 'big');
for my $round (1 .. 3)
{
	my $leader = $c->wait_for_leader;
	my @rest = $c->others($leader);
	my $term = status($rest[0], 'term');
	my $load = $c->start_load(clients => 9, mode => 'insert');

	$c->wait_until('the load runs', sub { $c->acknowledged($load) > 100 });
	$leader->stop('fast');
	my $next = $c->wait_for_leader(@rest);
	my $done = $c->acknowledged($load);
	$c->wait_until('the load goes on', sub { $c->acknowledged($load) > $done + 50 });
	is(status($rest[0], "term = $term + 1"), 't', "round $round: one change of term, to " . $next->name);
	$c->restart($leader);
	$c->wait_until('it is back', sub { status($leader, 'role') eq 'follower' });
	is(status($rest[0], "term = $term + 1"), 't', "round $round: it does not disturb the new one");
	my $ops = $c->stop_load($load);
	is_deeply(errors_on($ops, @rest), {}, "round $round: no error for clients of the others");
	my ($longest) = sort { $b <=> $a } map { $_->{end} - $_->{start} }
	  grep { $_->{verdict} eq 'A' && $_->{node}->name ne $leader->name } values %$ops;
	diag(sprintf 'longest transaction over the hand-over: %.0f ms', 1000 * $longest);
	$c->settle;
	$c->tables_equal('load', "round $round: equal");
}

# --- a member that is away does not fill the others' disks ---

my $leader = $c->wait_for_leader;
my ($near, $away) = $c->others($leader);

sub log_mb
{
	my ($node) = @_;
	my $bytes = 0;

	$bytes += -s $_ for glob $node->data_dir . '/pg_quorum/log/log-*';
	return $bytes / 1024 / 1024;
}

$away->stop('immediate');
for my $i (1 .. 8)
{
	$leader->safe_psql($db, "INSERT INTO big SELECT $i * 100000 + g, string_agg(md5((g * 1000 + k)::text), '')
		FROM generate_series(1, 40) g, generate_series(1, 6250) k GROUP BY g");
}
for my $node ($leader, $near)
{
	ok(QuorumCluster::poll(sub { log_mb($node) <= 48 }), $node->name . ' keeps a bounded log')
	  or diag(sprintf '%.0f MB', log_mb($node));
}

# --- a server that lost its data comes back under its old name ---

$c->remove_node($away);
my $wiped = $c->add_node(name => 'wiped', conf => sprintf(
	"quorum.node_name = '%s'\nquorum.address = '%s'\n", $away->name, $c->address($away)));
$c->restart($wiped);
$wiped->safe_psql($db, 'CREATE EXTENSION pg_quorum');
is(status($wiped, q(role || coalesce(leader, ' none'))), 'stopped none', 'by itself it is no member');
$c->comes_to_be($leader, sprintf(q(SELECT reachable FROM quorum.members WHERE node_name = '%s'), $away->name), 'f',
	'and none takes it for one');
$c->fails_with($wiped, sprintf(q(SELECT quorum.join_cluster('%s')), $c->address($leader)), '42710',
	qr/has a member of the name "\Q${\$away->name}\E" already.*replace => true/s, 'it is refused, and told what to do');
is(($c->try_sql($leader, 'UPDATE load_counter SET v = v'))[0], '', 'nothing has changed for the others');

done_testing();
