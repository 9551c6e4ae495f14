# The clock of one server: stamps and ids from many sessions, over crashes, clean
# restarts, jumps of the wall clock, a full disk and a damaged file.
use strict;
use warnings;

use PostgreSQL::Test::Utils;
use QuorumCluster;
use Test::More;

my $db = $QuorumCluster::DB;
my $c = QuorumCluster->new(nodes => 1, faults => 1, conf => "restart_after_crash = on\n");
my $node = $c->node(1);
my $hour_us = 3_600_000_000;

# No cluster: none of this needs one.
$c->restart($node);
$c->everywhere('CREATE EXTENSION pg_quorum');
$node->safe_psql($db, q(
	CREATE TABLE stamps (client int, n bigserial, h quorum.hlc NOT NULL, id bigint NOT NULL);
	ALTER DATABASE postgres SET search_path = public, quorum;
));

sub run_pgbench
{
	my ($clients, $transactions, $sql) = @_;
	my $script = "$PostgreSQL::Test::Utils::tmp_check/clock.sql";

	append_to_file($script, '');
	open my $out, '>', $script or die "$script: $!";
	print $out $sql;
	close $out;
	$node->command_ok(
		[ 'pgbench', '-n', '-c', $clients, '-j', 2, '-t', $transactions, '-f', $script, $db ],
		"$clients sessions stamp");
}

# All stamps and ids handed out so far, in one number each: the largest.
sub largest
{
	return $node->safe_psql($db, 'SELECT max(h) FROM stamps');
}

sub status
{
	my ($column) = @_;

	return $node->safe_psql($db, "SELECT $column FROM clock_status WHERE is_local");
}

# --- many sessions at once ---

run_pgbench(8, 250, q(INSERT INTO stamps (client, h, id)
	SELECT :client_id, hlc_now(), next_id() FROM generate_series(1, 20);));
is($node->safe_psql($db, 'SELECT count(*), count(DISTINCT h), count(DISTINCT id) FROM stamps'),
	'40000|40000|40000', '8 sessions: every stamp and every id is unique');
# rows of a session are numbered in the order in which it made them
is($node->safe_psql($db, q(SELECT count(*) FROM (
		SELECT h, id, lag(h) OVER w AS ph, lag(id) OVER w AS pid FROM stamps
		WINDOW w AS (PARTITION BY client ORDER BY n)) s WHERE ph >= h OR pid >= id)),
	'0', '8 sessions: increasing in each');

# Across sessions: what B reads after A was answered is larger than what A got.
my @session = map { $node->background_psql($db, on_error_stop => 0) } 1 .. 8;
my @seen;
for my $i (0 .. 199)
{
	my $out = $session[ $i % 8 ]->query('SELECT hlc_now(), next_id()');
	push @seen, $out;
}
$_->quit for @session;
is($node->safe_psql($db, 'SELECT count(*) FROM (SELECT h, id, lag(h) OVER (ORDER BY n) AS ph, lag(id) OVER (ORDER BY n) AS pid FROM (VALUES '
		. join(',', map { my ($h, $id) = split /\|/, $seen[$_]; "($_, '$h'::hlc, $id)" } 0 .. $#seen)
		. ') v(n, h, id)) s WHERE ph >= h OR pid >= id'),
	'0', 'across sessions: later asked, larger');

# --- kill -9 under load, again and again ---

for my $round (1 .. 4)
{
	my $file = "$PostgreSQL::Test::Utils::tmp_check/stamps_$round";
	my $pid = fork;

	if ($pid == 0)
	{
		open STDOUT, '>', $file or die;
		open STDERR, '>', '/dev/null' or die;
		exec 'psql', '-X', '-At', '-F', ' ', '-d', $node->connstr($db), '-c',
			q(SELECT hlc_now(), next_id(), lamport_tick('crash') FROM generate_series(1, 100000000)),
			'-v', 'FETCH_COUNT=100';
	}
	$c->wait_until('stamps are coming', sub { -s $file && -s $file > 200_000 });
	$c->kill9($node);
	waitpid $pid, 0;
	my @lines = grep { /^\S+ \d+ \d+\n\z/ } split /^/, slurp_file($file);
	my ($last_h, $last_id, $last_l) = split ' ', $lines[-1];
	$c->restart($node);
	is($node->safe_psql($db, qq(SELECT hlc_now() > '$last_h', next_id() > $last_id,
			lamport_tick('crash') > '$last_l')),
		't|t|t', "crash $round: stamps, ids and Lamport times go on after the last of " . @lines);
}

# a crash of one backend takes shared memory down, and the clock with it
my $before = $node->safe_psql($db, 'SELECT hlc_now()');
my $victim = $node->background_psql($db, on_error_stop => 0);
my $victim_pid = $victim->query('SELECT pg_backend_pid()');
kill 'KILL', $victim_pid;
$c->wait_until('the server has recovered from a crash of a backend',
	sub { $c->ask($node, "SELECT hlc_now() > '$before'") eq 't' });
pass('a crashed backend: the clock goes on');
eval { $victim->quit };

# a clean end leaves no gap: nothing to wait for, nothing skipped
$node->safe_psql($db, q(SELECT lamport_observe('clean', '99')));
$before = $node->safe_psql($db, 'SELECT hlc_now()');
$node->stop('fast');
$c->restart($node);
is($node->safe_psql($db, q(SELECT lamport_tick('clean'))), '101', 'a clean restart leaves no gap in Lamport times');
is($node->safe_psql($db, "SELECT hlc_now() > '$before', hlc_physical(hlc_now()) < clock_timestamp() + '50 ms'"),
	't|t', 'and none in the clock');

# --- the wall clock jumps ---

my $backward = status('jumps_backward');
my $forward = status('jumps_forward');
$before = $node->safe_psql($db, 'SELECT hlc_now()');
$c->fault($node, clock => -$hour_us);
is($node->safe_psql($db, "SELECT hlc_now() > '$before', hlc_now() - '$before' < '5 min'"), 't|t',
	'an hour back: the clock goes on from where it was');
$c->wait_until('the jump backwards is counted', sub { status('jumps_backward') == $backward + 1 });
like(status('last_jump'), qr/^-(?:01:00:0|00:59:5)/, 'an hour back: its size is known');
ok($c->log_matches($node, qr/wall clock jumped backwards by 3(?:600|599)\d{3} ms/), 'and logged');
# ids and a crash while the wall clock is behind
my ($stamp, $id) = split /\|/, $node->safe_psql($db, 'SELECT hlc_now(), next_id()');
$c->kill9($node);
$c->restart($node);
is($node->safe_psql($db, "SELECT hlc_now() > '$stamp', next_id() > $id, hlc_now() - '$stamp' < '5 min'"), 't|t|t',
	'a crash with the wall clock an hour behind: goes on');
# a stamp of our own comes home: nobody is dragged along by it
($stamp) = $node->safe_psql($db, 'SELECT hlc_now()');
is($node->safe_psql($db, "SELECT hlc_observe('$stamp') > '$stamp'"), 't', 'own stamps may come home meanwhile');
$c->fault($node, clock => 0);
$c->wait_until('the jump forwards is counted', sub { status('jumps_forward') >= 1 });
is($node->safe_psql($db, "SELECT hlc_now() > '$stamp', abs(extract(epoch FROM hlc_physical(hlc_now()) - clock_timestamp())) < 5"), 't|t',
	'right again: the clock follows the wall clock');
$c->fault($node, clock => $hour_us);
is($node->safe_psql($db, "SELECT hlc_physical(hlc_now()) > clock_timestamp() - interval '5 s'"), 't', 'an hour ahead: followed');
$stamp = $node->safe_psql($db, 'SELECT hlc_now()');
$c->no_fault($node, 'clock');
is($node->safe_psql($db, "SELECT hlc_now() > '$stamp', next_id() > $id"), 't|t', 'and back: nothing goes back');
$node->stop('fast');
$c->restart($node);
is($node->safe_psql($db, "SELECT hlc_now() > '$stamp'"), 't', 'nor over a restart');
# the hour on top is gone with the file; the server then trusts the wall clock
$node->stop('fast');
unlink $node->data_dir . '/pg_quorum/clock' or die;
$c->restart($node);
is($node->safe_psql($db, "SELECT hlc_physical(hlc_now()) < clock_timestamp() + '5 s'"), 't',
	'without its file the clock starts at the time of day');

# --- quorum.max_clock_offset ---

$c->fails_with($node, q(SELECT hlc_observe(hlc_make(clock_timestamp() + '2 s', 0, 9))), '22023',
	qr/more than quorum\.max_clock_offset/i, 'two seconds ahead is refused');
is($node->safe_psql($db, "SELECT hlc_physical(hlc_now()) < clock_timestamp() + '1 s'"), 't', 'and nothing is merged');
is(status('refusals'), '1', 'and counted');
$node->append_conf('postgresql.conf', "quorum.max_clock_offset = '5s'\n");
$node->reload;
$c->wait_until('the setting has arrived', sub { $c->ask($node, 'SHOW quorum.max_clock_offset') eq '5s' });
$stamp = $node->safe_psql($db, q(SELECT hlc_make(clock_timestamp() + '2 s', 0, 9)));
is($node->safe_psql($db, "SELECT hlc_observe('$stamp') > '$stamp', hlc_now() > '$stamp'"), 't|t',
	'not with quorum.max_clock_offset = 5s');

# --- the bound cannot be written ---

$c->fault($node, 'full');
$c->wait_until('the clock stops at its bound when the disk is full',
	sub { ($c->try_sql($node, 'SELECT hlc_now()'))[0] eq '58030' }, 30);
ok($c->log_matches($node, qr/pg_quorum\/clock\.tmp.*No space left on device/), 'the log says why');
is(status('fenced || detail'), q(truethe clock's persisted bound cannot be written), 'the status, too: it could not lead');
$c->no_fault($node, 'full');
$c->wait_until('the clock goes on when there is space again',
	sub { ($c->try_sql($node, 'SELECT hlc_now()'))[0] eq '' }, 30);
is(status('fenced'), 'f', 'and it could lead');
pass('a full disk stops the clock at its bound, space starts it again');

# --- damaged files ---

for my $name ('clock', 'lamport')
{
	my $path = $node->data_dir . "/pg_quorum/$name";

	$node->stop('fast');
	my $good = slurp_file($path);
	my $bad = $good;
	substr($bad, 30, 1) = chr(ord(substr($bad, 30, 1)) ^ 1);
	for my $content ($bad, substr($good, 0, 10), '')
	{
		open my $out, '>:raw', $path or die;
		print $out $content;
		close $out;
		$c->restart($node);
		$c->fails_with($node, $name eq 'clock' ? 'SELECT hlc_now()' : q(SELECT lamport_tick('a')),
			$name eq 'clock' ? '58030' : 'XX001', qr/pg_quorum\/$name/,
			"damaged file $name (" . length($content) . ' bytes): an error that names it');
		ok($c->log_matches($node, qr/file "pg_quorum\/$name" cannot be used: it/), 'and the log says how');
		is($node->safe_psql($db, 'SELECT fenced FROM clock_status WHERE is_local'),
			$name eq 'clock' ? 't' : 'f', 'fenced only without a clock');
		$node->stop('fast');
		is(length(slurp_file($path)), length($content), 'and nothing has overwritten it');
	}
	open my $out, '>:raw', $path or die;
	print $out $good;
	close $out;
	$c->restart($node);
	is($node->safe_psql($db, q(SELECT hlc_now() IS NOT NULL, lamport_tick('a') > '0')), 't|t', "file $name restored");
}

unlike(slurp_file($node->logfile), qr/PANIC|TRAP:|was terminated by signal (?:6|11)/, 'no crash of its own making');

done_testing();
