# Advisory locks among three servers: one holder at a time whatever dies, FIFO,
# deadlocks found across servers, and everything given back in time.
use strict;
use warnings;

use PostgreSQL::Test::Utils;
use QuorumCluster;
use Test::More;
use Time::HiRes qw(usleep);

my $db = $QuorumCluster::DB;
my $c = QuorumCluster->new(nodes => 3, conf => q(
quorum.lease_timeout = '2s'
deadlock_timeout = '200ms'
));

$c->found;
$c->everywhere('CREATE TABLE counter (id int PRIMARY KEY, v int NOT NULL)');
$c->add_tables('counter');
$c->node(1)->safe_psql($db, 'INSERT INTO counter VALUES (1, 0)');
$c->settle;

# A session that goes on while others do. ask(): one value; send(): do not wait.
sub session { return $c->session(@_); }
sub error_of { return $c->error_of(@_); }

sub waiters { return $c->ask($_[0], "SELECT count(*) FROM quorum.locks WHERE NOT granted AND key = '$_[1]'"); }
sub holders { return $c->ask($_[0], "SELECT count(*) FROM quorum.locks WHERE granted AND key = '$_[1]'"); }
sub free_soon
{
	my ($node, $key, $bound_s) = @_;

	return QuorumCluster::poll(sub {
		$c->ask($node, "SELECT quorum.try_advisory_lock('$key', '100 ms') IS NOT NULL") eq 't' }, $bound_s);
}

# --- a counter that is read, and written in another transaction ---

my $clients = 8;
my $turns = 12;
my $script = $c->node(1)->basedir . '/count.sql';
append_to_file($script, q(
SELECT quorum.advisory_lock('counter') AS token \gset
SELECT v FROM counter WHERE id = 1 \gset
\set v :v + 1
UPDATE counter SET v = :v WHERE id = 1;
SELECT quorum.advisory_unlock('counter');
));

sub start_counting
{
	my ($node) = @_;
	my $out = $node->basedir . '/count.out';
	my $pid = fork // die "fork: $!";

	if ($pid == 0)
	{
		open STDOUT, '>', $out or die;
		open STDERR, '>&', \*STDOUT or die;
		exec 'pgbench', '-n', '-c', $clients, '-j', 2, '-t', $turns, '-f', $script,
		  '-h', $node->host, '-p', $node->port, $db or die "exec: $!";
	}
	return { pid => $pid, out => $out };
}

my @counting = map { start_counting($_) } $c->nodes;
my $good = 0;
for my $run (@counting)
{
	waitpid $run->{pid}, 0;
	$good++ if $? == 0;
	diag(slurp_file($run->{out})) if $? != 0;
}
is($good, 3, '3 x 8 clients: all done');
$c->settle;
is($c->ask($_, 'SELECT v FROM counter'), 3 * $clients * $turns, $_->name . ': no increment was lost')
  for $c->nodes;
$c->comes_to_be($c->node(2), 'SELECT count(*) FROM quorum.locks', '0', 'and nothing is held or waited for');

# --- FIFO over servers, and what the view says of it ---

my @s = map { session($c->node($_)) } 1 .. 3;
my $first = $s[0]->query("SELECT quorum.advisory_lock('queue')");
my @waiting;
for my $i (0 .. 5)
{
	my $s = session($c->node(1 + $i % 3));
	$s->query_until(qr/sent/, "\\echo sent\nSELECT 'token ' || quorum.advisory_lock('queue');\nSELECT 'unlocked ' || quorum.advisory_unlock('queue');\n");
	push @waiting, $s;
	$c->wait_until('it stands in the queue', sub { waiters($c->leader, 'queue') == $i + 1 });
}
my $view = $c->wait_for_leader->safe_psql($db, q(SELECT string_agg(queue_position || ' ' || node_name, ',' ORDER BY queue_position)
	FROM quorum.locks WHERE key = 'queue' AND NOT granted));
is($view, '1 n1,2 n2,3 n3,4 n1,5 n2,6 n3', 'the queue as the leader shows it');
is($s[0]->query("SELECT quorum.advisory_unlock('queue')"), 't', 'the holder lets go');
my @tokens = map { my ($t) = $_->query('SELECT 1') =~ /token (\d+)/; $t } @waiting;
is_deeply([ sort { $a <=> $b } @tokens ], \@tokens, 'granted in the order in which they came');
cmp_ok($tokens[0], '>', $first, 'tokens grow');
$_->quit for @waiting;

# --- readers and writers ---

is($s[0]->query("SELECT quorum.advisory_lock_shared('rw') > 0"), 't', 'a reader');
is($s[1]->query("SELECT quorum.try_advisory_lock_shared('rw') > 0"), 't', 'another one, on another server');
is($s[2]->query("SELECT quorum.try_advisory_lock('rw') IS NULL"), 't', 'no writer beside them');
my $writer = session($c->node(3));
$writer->query_until(qr/sent/, "\\echo sent\nSELECT 'token ' || quorum.advisory_lock('rw');\n");
$c->wait_until('the writer waits', sub { waiters($c->leader, 'rw') == 1 });
is($s[2]->query("SELECT quorum.try_advisory_lock_shared('rw') IS NULL"), 't', 'a reader who comes later does not pass it');
$s[$_]->query("SELECT quorum.advisory_unlock_shared('rw')") for 0, 1;
like($writer->query('SELECT 1'), qr/token \d+/, 'the writer gets it');
$writer->quit;
ok(free_soon($c->node(1), 'rw'), 'a session that ends lets go');

# --- a wait that is given up ---

$s[0]->query("SELECT quorum.advisory_lock('busy')");
is($s[1]->query("SELECT quorum.try_advisory_lock('busy', '100 ms') IS NULL"), 't', 'not within its time');
like(error_of($s[1], "SET lock_timeout = '100ms'; SELECT quorum.advisory_lock('busy');"), qr/ERROR:\s+55P03/, 'lock_timeout');
like(error_of($s[1], "SET lock_timeout = 0; SET statement_timeout = '100ms'; SELECT quorum.advisory_lock('busy');"),
	qr/ERROR:\s+57014/, 'statement_timeout');
$s[1]->query('SET statement_timeout = 0');
my $pid = $s[2]->query('SELECT pg_backend_pid()');
$s[2]->query_until(qr/sent/, "\\echo sent\nSELECT quorum.advisory_lock('busy');\n");
$c->wait_until('it waits', sub { waiters($c->leader, 'busy') == 1 });
$c->node(3)->safe_psql($db, "SELECT pg_cancel_backend($pid)");
$s[2]->query('SELECT 1');
like($s[2]->{stderr}, qr/ERROR:\s+57014/, 'cancel');
ok(QuorumCluster::poll(sub { waiters($c->leader, 'busy') eq '0' }), 'none of them is in the queue any more');
is($s[0]->query("SELECT quorum.advisory_unlock('busy')"), 't', 'unlocked');
is($s[1]->query("SELECT quorum.try_advisory_lock('busy') > 0"), 't', 'and free for whoever comes');
$s[1]->query("SELECT quorum.advisory_unlock('busy')");

# --- deadlock across servers ---

for my $i (0 .. 2)
{
	$s[$i]->query("SELECT quorum.advisory_lock('d$i')");
}
$s[0]->query_until(qr/sent/, "\\echo sent\nSELECT quorum.advisory_lock('d1');\n");
$s[1]->query_until(qr/sent/, "\\echo sent\nSELECT quorum.advisory_lock('d2');\n");
$c->wait_until('two wait', sub { waiters($c->leader, 'd1') + waiters($c->leader, 'd2') == 2 });
my $begun = QuorumCluster::now();
$s[2]->query_until(qr/sent/, "\\echo sent\nSELECT quorum.advisory_lock('d0');\n");
# whoever is the victim: its own locks go, and the others come through
my ($victim, $error);
QuorumCluster::poll(sub {
	for my $i (0 .. 2)
	{
		$s[$i]{run}->pump_nb;
		($victim, $error) = ($i, $s[$i]{stderr}) if $s[$i]{stderr} =~ /40P01/;
	}
	return defined $victim;
});
ok(defined $victim, sprintf('a deadlock over three servers is found after %.2f s', QuorumCluster::now() - $begun));
like($error // '', qr/DETAIL:.*d[012]/s, 'the cycle is named') and note($error);
if (defined $victim)
{
	$s[$victim]->query('SELECT quorum.advisory_unlock_all()');
	# that let one through, which may let the other through when it is done
	my $next = ($victim + 2) % 3;
	my $last = ($victim + 1) % 3;
	$s[$next]->query('SELECT quorum.advisory_unlock_all()');
	$s[$last]->query('SELECT quorum.advisory_unlock_all()');
}
$c->wait_until('all are let go', sub { $c->ask($c->node(1), q(SELECT count(*) FROM quorum.locks WHERE key ~ '^d')) eq '0' });

# two readers that both want to write
$s[$_]->query("SELECT quorum.advisory_lock_shared('up')") for 0, 1;
$s[0]->query_until(qr/sent/, "\\echo sent\nSELECT quorum.advisory_lock('up');\n");
$c->wait_until('it waits', sub { waiters($c->leader, 'up') == 1 });
like(error_of($s[1], "SELECT quorum.advisory_lock('up');"), qr/ERROR:\s+40P01/, 'two that upgrade: one fails');
$s[1]->query('SELECT quorum.advisory_unlock_all()');
$s[0]->query('SELECT quorum.advisory_unlock_all()');
$_->quit for @s;

# --- the holder's backend is killed: its server restarts ---

my $s2 = session($c->node(2));
$pid = $s2->query("SELECT quorum.advisory_lock('dies'), pg_backend_pid()");
($pid) = $pid =~ /\|(\d+)/;
kill 'KILL', $pid;
ok(free_soon($c->node(1), 'dies'), 'kill -9 of the holder: free again');
$c->wait_until('its server is back', sub { $c->ask($c->node(2), 'SELECT 1') eq '1' });

# --- and a whole server; then the leader ---

for my $which ('a follower', 'the leader')
{
	my $leader = $c->wait_for_leader;
	my ($node) = $which eq 'the leader' ? $leader : $c->others($leader);
	my ($other) = grep { $_->name ne $leader->name } $c->others($node);
	my $holder = session($node);
	my $token = $holder->query("SELECT quorum.advisory_lock('server')");
	my $waiter = session($other);
	my $keeper = session($other);
	my $kept = $keeper->query("SELECT quorum.advisory_lock('kept')");

	$waiter->query_until(qr/sent/, "\\echo sent\nSELECT 'token ' || quorum.advisory_lock('server');\n");
	$c->wait_until('it waits', sub { waiters($leader, 'server') == 1 });
	$begun = QuorumCluster::now();
	$c->kill9($node);
	my ($got) = $waiter->query('SELECT 1') =~ /token (\d+)/;
	my $took = QuorumCluster::now() - $begun;
	cmp_ok($got // 0, '>', $token, "$which dies with a lock: it goes to who waits elsewhere");
	# not before its lease has run out, which was renewed every quarter of it, or
	# as often as a busy machine let it
	cmp_ok($took, '>', 1, sprintf('never early: after %.1f s', $took));
	is($keeper->query("SELECT quorum.advisory_lock('kept')"), $kept, 'a lock of another server is as it was');
	$keeper->query("SELECT quorum.advisory_unlock_all()");
	$_->quit for $waiter, $keeper;
	$c->restart($node);
	$c->settle;
}

# --- without a majority ---

my $leader = $c->wait_for_leader;
my $holder = session($leader);
$holder->query("SELECT quorum.advisory_lock('cut off')");
$c->kill9($c->others($leader));
ok($c->poll_no_quorum($leader), 'the majority is gone');
like(error_of($holder, "SELECT quorum.try_advisory_lock('another', '1 s');"), qr/ERROR:\s+55000/, 'no lock without it');
ok(QuorumCluster::poll(sub { $holder->query("SELECT quorum.lock_safe_time() <= '0'") eq 't' }),
	'the session is told that its lock may be lost');
like(error_of($holder, "SELECT quorum.advisory_lock('cut off');"), qr/ERROR:\s+55000/, 'and does not get it again');
$c->restart($c->others($leader));
$c->settle;
ok(QuorumCluster::poll(sub { $holder->query("SELECT quorum.advisory_lock('cut off') > 0") eq 't' }), 'with the majority it does');
$holder->quit;
$c->settle;
$c->tables_equal([qw(quorum.lock_grant quorum.lock_memory quorum.lock_lease quorum.lock_loss)], 'lock tables equal');

done_testing();
