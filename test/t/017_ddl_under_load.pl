# A change of the schema gets through while other servers write the table without
# pause: it closes the table's gate first. Writers see a short pause, and those
# that were under way are refused once. What crashes leaves nothing closed.
use strict;
use warnings;

use PostgreSQL::Test::Utils;
use QuorumCluster;
use Test::More;

my $db = $QuorumCluster::DB;
my $c = QuorumCluster->new(nodes => 3);

$c->found;
$c->everywhere($QuorumCluster::LOAD_SCHEMA . q(
	CREATE TABLE quiet (id int PRIMARY KEY, v int);
	CREATE TABLE child (id int PRIMARY KEY, q int REFERENCES quiet);
));
$c->add_tables('load', 'load_counter', 'quiet', 'child');
$c->node(1)->safe_psql($db, 'INSERT INTO load_counter SELECT g, 0 FROM generate_series(0, 3) g; INSERT INTO quiet VALUES (1, 1)');
$c->settle;

# How many attempts it takes, and how long.
sub change
{
	my ($node, $sql) = @_;
	my $begun = QuorumCluster::now();

	for my $attempt (1 .. 10)
	{
		my ($state, undef, $err) = $c->try_sql($node, $sql);
		return ($attempt, QuorumCluster::now() - $begun) if $state eq '';
		diag("$sql: $err") unless $state =~ /^(?:40001|40P01)$/;
	}
	return (99, QuorumCluster::now() - $begun);
}

sub longest_pause
{
	my ($ops) = @_;
	my @ends = sort { $a <=> $b } map { $_->{end} } grep { $_->{verdict} eq 'A' } values %$ops;
	my $longest = 0;

	for my $i (1 .. $#ends)
	{
		my $pause = $ends[$i] - $ends[ $i - 1 ];
		$longest = $pause if $pause > $longest;
	}
	return $longest;
}

# --- writers on all servers ---

my $load = $c->start_load;
$c->wait_until('some rows', sub { $c->acknowledged($load) > 50 });
for my $i (1 .. 3)
{
	my $node = $c->node($i);

	for my $sql ("ALTER TABLE load ADD COLUMN extra$i int DEFAULT $i",
		"CREATE INDEX load_i$i ON load (node, part)",
		"ALTER TABLE load_counter ALTER COLUMN v TYPE " . ($i % 2 ? 'numeric' : 'bigint'),
		"BEGIN; LOCK TABLE load IN SHARE ROW EXCLUSIVE MODE; INSERT INTO load VALUES (-1, $i, 1, 1, 'n'); " .
		"ALTER TABLE load ALTER extra$i DROP DEFAULT; COMMIT")
	{
		my ($attempts, $seconds) = change($node, $sql);

		cmp_ok($attempts, '<=', 3, "n$i, $attempts attempts in " . sprintf('%.2f', $seconds) . " s: $sql");
	}
}
# maintenance of one server's indexes: rows go on coming to it
for my $i (1 .. 3)
{
	for my $sql ('REINDEX TABLE CONCURRENTLY load', 'REINDEX INDEX CONCURRENTLY load_counter_pkey', 'REINDEX TABLE load')
	{
		my ($attempts) = change($c->node($i), $sql);

		# the applier may have to take the table from one that does without CONCURRENTLY
		ok($sql !~ /CONCURRENTLY/ || $attempts <= 3, "n$i, $attempts attempts: $sql");
	}
}
my $before = $c->acknowledged($load);
$c->wait_until('writes go on', sub { $c->acknowledged($load) > $before + 50 });
my $ops = $c->stop_load($load);
my $pause = longest_pause($ops);
cmp_ok($pause, '<', 30, sprintf('the longest pause of all writers was %.2f s', $pause));
my $refused = grep { $_->{verdict} eq 'R' } values %$ops;
diag(sprintf '%d operations, %d refused, longest pause %.2f s', scalar keys %$ops, $refused, $pause);
$c->settle;
$c->tables_equal([ 'load', 'load_counter' ], 'all servers agree');
my $lost = 0;
my %there = map { $_ => 1 } split /\n/, $c->node(1)->safe_psql($db,
	"SELECT DISTINCT client || ' ' || n FROM load WHERE run = $load->{run}");
for my $key (keys %$ops)
{
	$lost++ if $ops->{$key}{verdict} eq 'A' && !$there{$key};
}
is($lost, 0, 'nothing acknowledged is lost');
is($c->node($_)->safe_psql($db, q(SELECT count(*) FROM pg_index WHERE NOT indisvalid AND indrelid IN ('load'::regclass, 'load_counter'::regclass))), '0',
	"n$_: all indexes are whole") for 1 .. 3;

# --- TRUNCATE, too ---

$load = $c->start_load(mode => 'insert');
$c->wait_until('some rows', sub { $c->acknowledged($load) > 50 });
for my $i (1 .. 3)
{
	my ($attempts) = change($c->node($i), 'TRUNCATE load');

	cmp_ok($attempts, '<=', 3, "n$i, $attempts attempts: TRUNCATE");
}
$c->stop_load($load);
$c->settle;
$c->tables_equal('load', 'all servers agree after TRUNCATE');

# --- a gate does not outlive what closed it ---

# A session that does not go on: writers elsewhere wait, and go on when it ends.
sub holds
{
	my ($node, $column) = @_;
	my $session = $node->background_psql($db, on_error_stop => 0);

	$session->query_safe("BEGIN");
	$session->query_safe('ALTER TABLE quiet ADD COLUMN ' . ($column // 'w') . ' int');
	return $session;
}

sub waits
{
	my ($node) = @_;

	return $c->try_sql($node, "SET lock_timeout = '300ms'; UPDATE quiet SET v = v + 1");
}

my $session = holds($c->node(2));
$c->wait_until('the gate is known everywhere', sub { (waits($c->node(1)))[0] eq '55P03' && (waits($c->node(3)))[0] eq '55P03' });
is($c->node(3)->safe_psql($db, 'SELECT count(*) FROM quiet'), '1', 'readers do not wait');
is(($c->try_sql($c->node(3), "SET lock_timeout = '300ms'; INSERT INTO load_counter VALUES (100, 1)"))[0], '', 'nor do writers of other tables');
is(($c->try_sql($c->node(3), "SET lock_timeout = '300ms'; INSERT INTO child VALUES (1, 1)"))[0], '55P03', 'those of rows that refer to it do');
$session->query_safe('ROLLBACK');
my $begun = QuorumCluster::now();
is(($c->try_sql($c->node($_), 'UPDATE quiet SET v = v + 1'))[0], '', "n$_ writes after ROLLBACK") for 1, 3;
cmp_ok(QuorumCluster::now() - $begun, '<', 10, 'at once');
$session->quit;

# kept for as long as the transaction lasts, and not beyond quorum.ddl_gate_timeout
$session = $c->node(2)->background_psql($db, on_error_stop => 0);
$session->query_safe("SET quorum.ddl_gate_timeout = '7s'");
$session->query_safe("BEGIN");
$session->query_safe("ALTER TABLE quiet ADD COLUMN w int");
$begun = QuorumCluster::now();
$c->wait_until('the gate is known', sub { (waits($c->node(1)))[0] eq '55P03' });
$c->wait_until('the gate is bounded', sub { (waits($c->node(1)))[0] eq '' });
my $kept = QuorumCluster::now() - $begun;
cmp_ok($kept, '>', 5.5, sprintf('renewed: %.1f s', $kept));
$session->quit;
$c->settle;

# the apply worker dies, and another one takes its place
$session = holds($c->node(2));
$c->wait_until('the gate is known', sub { (waits($c->node(1)))[0] eq '55P03' });
$c->node(1)->safe_psql($db, q(SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'pg_quorum apply worker'));
$c->wait_until('its lock is gone', sub { (waits($c->node(1)))[0] eq '' });
pass('a lock does not outlive the apply worker');
$session->query('COMMIT');
$session->quit;
$c->settle;
$c->tables_equal('quiet', 'equal after that');

# its server dies
holds($c->node(2), 'x');
$c->wait_until('the gate is known', sub { (waits($c->node(1)))[0] eq '55P03' });
$c->kill9($c->node(2));
$begun = QuorumCluster::now();
$c->wait_until('writes go on', sub { (waits($c->node($_)))[0] eq '' || return 0 for 1, 3; 1 });
pass(sprintf 'a dead server keeps nobody out: %.1f s', QuorumCluster::now() - $begun);
$c->restart($c->node(2));
$c->settle;
is(($c->try_sql($c->node(2), 'UPDATE quiet SET v = v + 1'))[0], '', 'nor itself, started again');

# two at once, and two in each other's way
my @both = map { $c->node($_)->background_psql($db, on_error_stop => 0) } 1, 3;
$_->query_safe('BEGIN') for @both;
$both[0]->query_safe('ALTER TABLE quiet ADD COLUMN a int');
$both[1]->query_safe('ALTER TABLE child ADD COLUMN a int');
my ($state) = $c->try_sql($c->node(2), "SET quorum.ddl_gate_timeout = '500ms'; ALTER TABLE quiet ADD COLUMN b int");
is($state, '40001', 'one that waits for another one\'s gate does so for a while');
$both[1]->query('ALTER TABLE quiet ADD COLUMN c int');
$both[0]->query('ALTER TABLE child ADD COLUMN c int');
$_->query('COMMIT') for @both;
$_->quit for @both;
$c->settle;
$c->tables_equal([ 'load', 'load_counter', 'quiet', 'child' ], 'all servers agree at the end');
is($c->node($_)->safe_psql($db, 'SELECT defects FROM quorum.stat_replication'), '0', "n$_ had no defect") for 1 .. 3;
unlike(slurp_file($_->logfile), qr/PANIC|TRAP:|was terminated by signal (6|11)/, $_->name . ' logged no crash')
  for $c->nodes;

done_testing();
