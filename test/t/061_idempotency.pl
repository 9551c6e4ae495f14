# quorum.idempotency_key over several servers: what is sent again after a lost
# connection commits once, whichever server it is sent to, whoever leads, at the
# same time or later, and whatever crashes in between.
use strict;
use warnings;

use IPC::Run;
use PostgreSQL::Test::Utils;
use QuorumCluster;
use Test::More;
use Time::HiRes qw(usleep);

my $db = $QuorumCluster::DB;
my $c = QuorumCluster->new(nodes => 3);
my $n = 0;

$c->found;
$c->everywhere(q(
	CREATE TABLE pay (id int PRIMARY KEY, amount int NOT NULL, node text);
	CREATE TABLE account (id int PRIMARY KEY, v int NOT NULL);
));
$c->add_tables(qw(pay account));
$c->node(1)->safe_psql($db, 'INSERT INTO account VALUES (1, 0)');
$c->settle;

# (SQLSTATE, duplicate or not) of one transaction with a key
sub with_key
{
	my ($node, $key, $sql) = @_;
	my ($state, $out, $err) = $c->try_sql($node,
		"SET quorum.idempotency_key = '$key';\n$sql;\nSELECT quorum.transaction_was_duplicate();");

	return ($state, ($out // '') =~ /t$/ ? 1 : 0, $err);
}

# As a client does it: 40001 and an unknown outcome are sent again, anywhere.
sub until_done
{
	my ($key, $sql, @nodes) = @_;
	my $tries = 0;

	my $done = QuorumCluster::poll(sub {
		my $node = $nodes[ $tries++ % @nodes ];
		my ($state, $duplicate, $err) = with_key($node, $key, $sql);

		return { duplicate => $duplicate, tries => $tries } if $state eq '';
		return { error => $err } if $state !~ /^(?:40001|40003|55000|57P0|08|XX2)/;
		return undef;
	});
	fail("$key ends: " . ($done ? $done->{error} : 'never')) if !$done || $done->{error};
	return $done;
}

# On another server, at once and later
for my $first (1 .. 3)
{
	my $key = 'simple' . ++$n;
	my $sql = "INSERT INTO pay VALUES ($n, 1, 'n$first')";
	my ($state, $duplicate) = with_key($c->node($first), $key, $sql);

	is("$state/$duplicate", '/0', "n$first: the first one counts");
	my $others = join ',', map { until_done($key, $sql, $c->node($_))->{duplicate} } grep { $_ != $first } 1 .. 3;
	is($others, '1,1', "n$first: it is a repetition on the others");
}
is($c->node(1)->safe_psql($db, 'SELECT count(*) FROM pay'), $n, 'no row came twice');
is($c->node(1)->safe_psql($db, q(SELECT count(*) FROM quorum.idempotency)),
	$c->node(3)->safe_psql($db, q(SELECT count(*) FROM quorum.idempotency)), 'the keys are on all members');

# A transaction with an update: repeated by everybody, added once
my $add = q(BEGIN; UPDATE account SET v = v + 1 WHERE id = 1; UPDATE account SET v = v + 10 WHERE id = 1; COMMIT);
until_done('transaction', $add, $c->node($_)) for 1 .. 3, 1 .. 3;
is($c->node(2)->safe_psql($db, 'SELECT v FROM account'), '11', 'a transaction sent six times was applied once');

# The token of a repetition is that of the first
my $token = $c->node(1)->safe_psql($db, q(SET quorum.idempotency_key = 'token';
	INSERT INTO pay VALUES (1000, 1, 'n1'); SELECT quorum.transaction_token()));
$c->settle;
my (undef, $out, $err) = $c->node(2)->psql($db, q(SET quorum.idempotency_key = 'token';
	INSERT INTO pay VALUES (1000, 1, 'n1'); SELECT quorum.transaction_token() || ' ' || quorum.outcome(quorum.transaction_token())));
is($out, "$token committed", 'token and outcome of the first');
like($err, qr/NOTICE:\s+a transaction with idempotency key "token" has committed before.*DETAIL:.*\Q$token\E/s, 'and a NOTICE');

like($c->node(2)->safe_psql($db, q(SET quorum.idempotency_key = 'token';
	INSERT INTO pay VALUES (1000, 1, 'n1'); SHOW quorum.causal_token)), qr/^\S{60,}$/, 'the causal token covers it');

# At the same time, on two servers
my ($once, $good) = (0, 0);
for my $round (1 .. 25)
{
	my $key = "race$round";
	my $id = 2000 + $round;
	my $script = "SET quorum.idempotency_key = '$key';
		BEGIN; INSERT INTO pay VALUES ($id, 1, 'race'); UPDATE account SET v = v + 1 WHERE id = 1; COMMIT;
		SELECT 'dup=' || quorum.transaction_was_duplicate()";
	my @run = map { { node => $c->node($_), in => $script, out => '', err => '' } } ($round % 3 + 1, ($round + 1) % 3 + 1);

	for my $run (@run)
	{
		$run->{handle} = IPC::Run::start([ 'psql', '-XAtq', '-v', 'VERBOSITY=verbose', '-v', 'ON_ERROR_STOP=1',
				'-d', $run->{node}->connstr($db), '-f', '-' ], '<', \$run->{in}, '>', \$run->{out}, '2>', \$run->{err});
	}
	my @firsts;
	for my $run (@run)
	{
		$run->{handle}->finish;
		if ($run->{out} =~ /dup=/)
		{
			push @firsts, $run->{out} =~ /dup=false/ ? 1 : 0;
			next;
		}
		my ($state) = $run->{err} =~ /ERROR:\s+([0-9A-Z]{5})/;
		if (($state // '') ne '40001')
		{
			diag("race $round: $run->{err}");
			next;
		}
		my $done = until_done($key,
			"BEGIN; INSERT INTO pay VALUES ($id, 1, 'race'); UPDATE account SET v = v + 1 WHERE id = 1; COMMIT",
			$run->{node});
		push @firsts, $done->{duplicate} ? 0 : 1;
	}
	$good++ if @firsts == 2 && $firsts[0] + $firsts[1] == 1;
	$once++;
}
is($good, 25, '25 races: nothing but success or 40001, and exactly one of the two was first');
is($c->node(3)->safe_psql($db, 'SELECT v FROM account'), 11 + 25, 'each of them counted once');
is($c->node(3)->safe_psql($db, 'SELECT count(*) FROM pay WHERE id > 2000'), 25, 'with one row each');

# Another session of the same server waits for the first to end
my $holder = $c->node(2)->background_psql($db);
$holder->query(q(SET quorum.idempotency_key = 'same'; BEGIN; INSERT INTO pay VALUES (3001, 1, 'same')));
my %second = (out => '', err => '');
$second{handle} = IPC::Run::start([ 'psql', '-XAtq', '-d', $c->node(2)->connstr($db),
		'-c', q(SET quorum.idempotency_key = 'same'), '-c', q(INSERT INTO pay VALUES (3001, 1, 'same')),
		'-c', q(SELECT quorum.transaction_was_duplicate()) ], '>', \$second{out}, '2>', \$second{err});
$c->wait_until('it waits', sub { $c->ask($c->node(2), q(SELECT count(*) FROM pg_locks WHERE NOT granted)) eq '1' });
$holder->query('COMMIT');
$second{handle}->finish;
is($second{out}, "t\n", 'and is the repetition then');
$holder->query(q(SET quorum.idempotency_key = 'same2'; BEGIN; INSERT INTO pay VALUES (3002, 1, 'same')));
%second = (out => '', err => '');
$second{handle} = IPC::Run::start([ 'psql', '-XAtq', '-d', $c->node(2)->connstr($db),
		'-c', q(SET quorum.idempotency_key = 'same2'), '-c', q(INSERT INTO pay VALUES (3002, 1, 'same')),
		'-c', q(SELECT quorum.transaction_was_duplicate()) ], '>', \$second{out}, '2>', \$second{err});
$c->wait_until('it waits', sub { $c->ask($c->node(2), q(SELECT count(*) FROM pg_locks WHERE NOT granted)) eq '1' });
$holder->query('ROLLBACK');
$second{handle}->finish;
is($second{out}, "f\n", 'or the first, when that one is rolled back');

# An open transaction here gives way to one with its key from another server
$holder->query(q(SET quorum.idempotency_key = 'open'; BEGIN; INSERT INTO pay VALUES (3003, 1, 'open')));
until_done('open', q(INSERT INTO pay VALUES (3003, 1, 'open')), $c->node(1));
$holder->{stderr} = '';
$holder->quit;
is(until_done('open', q(INSERT INTO pay VALUES (3003, 1, 'open')), $c->node(2))->{duplicate}, 1,
	'an open transaction gives way to the one that committed elsewhere');

# Clients that lose their connection while the cluster loses its leader, over and over
my @clients;
my $leader = $c->wait_for_leader;
for my $client (1 .. 6)
{
	my $pid = fork // die "fork: $!";

	push(@clients, $pid), next if $pid;
	my $wrong = 0;
	for my $i (1 .. 12)
	{
		my $id = 4000 + $client * 100 + $i;
		my $key = "crash$id";
		my $sql = $i % 2 ? "INSERT INTO pay VALUES ($id, 1, 'crash')"
		  : "BEGIN; INSERT INTO pay VALUES ($id, 1, 'crash'); UPDATE account SET v = v + 1 WHERE id = 1; COMMIT";
		my @nodes = map { $c->node(($client + $_) % 3 + 1) } 0 .. 2;
		my $done = QuorumCluster::poll(sub {
			my $node = shift @nodes;
			push @nodes, $node;
			my $state;
			eval {
				# now and then the client goes away before it has the answer
				local $SIG{ALRM} = sub { die "lost\n" };
				my ($status, undef, $text) = $node->psql($db,
					"\\set VERBOSITY verbose\nSET quorum.idempotency_key = '$key';\n$sql;", timeout => 5,
					timed_out => \my $late);
				($state) = ($text // '') =~ /(?:ERROR|FATAL):\s+([0-9A-Z]{5})/;
				$state = defined $status && $status == 0 && !$late ? ($state // '') : ($state // '08006');
			};
			return 1 if defined $state && $state eq '';
			$wrong++ if defined $state && $state !~ /^(?:40|55000|57|08)/;
			return undef;
		}, 60, 50_000);
		$wrong++ unless $done;
	}
	# not exit: the servers are the parent's to stop
	require POSIX;
	POSIX::_exit($wrong ? 1 : 0);
}
for my $round (1 .. 3)
{
	usleep(700_000);
	my $victim = $round == 2 ? $c->node(2) : $c->wait_for_leader;
	$c->kill9($victim);
	usleep(300_000);
	$c->restart($victim);
	$c->wait_for_leader;
}
my $failed = 0;
for my $pid (@clients)
{
	waitpid $pid, 0;
	$failed++ if $?;
}
is($failed, 0, 'clients that retry through three crashes see success in the end, and never a duplicate key');
$c->settle;
is($c->node(1)->safe_psql($db, 'SELECT count(*) FROM pay WHERE id > 4000'), 72, 'each row is there');
is($c->node(1)->safe_psql($db, 'SELECT v FROM account'), 11 + 25 + 36, 'and each sum was added once');

# All servers start anew: the keys are remembered
$c->kill9($c->nodes);
$c->restart($c->nodes);
$c->wait_for_leader;
is(until_done('crash4101', q(INSERT INTO pay VALUES (4101, 1, 'crash')), $c->node(3))->{duplicate}, 1,
	'the keys outlive a restart of all servers');
is(until_done('transaction', $add, $c->node(2))->{duplicate}, 1, 'old ones too');
$c->settle;
$c->tables_equal([qw(pay account quorum.idempotency)], 'tables equal');
done_testing();
