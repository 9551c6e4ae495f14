# The clock over a cluster: the order of the log is the order of stamps, effects
# are stamped after their causes, and a member whose clock is off fences itself.
use strict;
use warnings;

use PostgreSQL::Test::Utils;
use QuorumCluster;
use Test::More;
use Time::HiRes qw(time);

my $db = $QuorumCluster::DB;
my $c = QuorumCluster->new(nodes => 3, faults => 1);
my $rows = 0;
my $last = '2001-01-01T00:00:00Z/0@0';

$c->found;
$c->everywhere(q(
	ALTER DATABASE postgres SET search_path = public, quorum;
	CREATE TABLE t (id int PRIMARY KEY, note text);
	CREATE TABLE hot (id int PRIMARY KEY, v bigint NOT NULL);
) . $QuorumCluster::LOAD_SCHEMA);
$c->add_tables('t', 'hot', 'load', 'load_counter');
$c->node(1)->safe_psql($db, 'INSERT INTO hot VALUES (1, 0)');
my %id_of = map { $_->name => $_->safe_psql($db, 'SELECT node_id FROM status') } $c->nodes;

# Write a row there; the stamps of writes one after the other, wherever they are
# done, whoever leads, only ever grow. Returns the stamp.
sub write_on
{
	my ($node, $what, $before) = @_;
	my $id = ++$rows;
	my ($state, $out, $err) = $c->try_sql($node, ($before // '')
		. "\nINSERT INTO t VALUES ($id, 'x');\nSELECT transaction_hlc(), transaction_hlc() > '$last', hlc_now() > transaction_hlc();");
	my ($stamp, $grown, $now) = split /\|/, (split /\n/, $out // '')[-1] // '||';

	is($state, '', "$what: a write succeeds on " . $node->name) or diag($err);
	is("$grown|$now", 't|t', "$what: its stamp is after the one before, and the clock after it");
	$last = $stamp if $stamp;
	return $stamp;
}

sub clock_of
{
	my ($node, $column) = @_;

	return $c->ask($node, "SELECT $column FROM clock_status WHERE is_local");
}

# Its clock is where the time of day is, the true one, that is.
sub near_true_time
{
	my ($node, $what) = @_;
	my $before = time;
	my $at = $node->safe_psql($db, 'SELECT extract(epoch FROM hlc_physical(hlc_now()))');
	my $after = time;

	ok($at > $before - 0.7 && $at < $after + 0.7, "$what: the clock of " . $node->name . ' is near the true time')
	  or diag("$before < $at < $after does not hold");
}

# What node has applied it has seen: its clock is after the stamp.
sub sees
{
	my ($node, $what) = @_;
	my $id = $rows;

	$c->wait_until($node->name . " has row $id", sub { $c->ask($node, "SELECT count(*) FROM t WHERE id = $id") eq '1' });
	is($node->safe_psql($db, "SELECT hlc_now() > '$last'"), 't', "$what: the clock of " . $node->name . ' is after what it has applied');
}

# --- stamps and the log ---

for my $round (1 .. 3)
{
	for my $node ($c->nodes)
	{
		my $leader = $c->wait_for_leader;
		my $stamp = write_on($node, "round $round");
		my %leads = map { $id_of{ $_->name } => 1 } $leader, $c->wait_for_leader;
		ok($leads{ $node->safe_psql($db, "SELECT hlc_node('$stamp')") }, 'stamped by the leader, wherever it comes from');
		sees($_, "round $round") for $c->others($node);
	}
}

# A counter that all want: its values are the order of the log.
my @children;
for my $node ($c->nodes)
{
	my $name = "$PostgreSQL::Test::Utils::tmp_check/hot_" . $node->name;
	open my $script, '>', "$name.sql" or die;
	print $script "\\set VERBOSITY verbose\n";
	print $script "UPDATE hot SET v = v + 1 WHERE id = 1 RETURNING v \\gset\n\\if :ERROR\n\\else\nSELECT 'S', :v, quorum.transaction_hlc();\n\\endif\n"
	  for 1 .. 150;
	close $script;
	my $pid = fork;
	if ($pid == 0)
	{
		open STDOUT, '>', "$name.out" or die;
		open STDERR, '>', "$name.err" or die;
		exec 'psql', '-X', '-q', '-At', '-d', $node->connstr($db), '-f', "$name.sql";
	}
	push @children, $pid;
}
waitpid $_, 0 for @children;
my @steps;
for my $node ($c->nodes)
{
	my $name = "$PostgreSQL::Test::Utils::tmp_check/hot_" . $node->name;
	my @mine = slurp_file("$name.out") =~ /^S\|(\d+)\|(\S+)$/mg;
	my @states = slurp_file("$name.err") =~ /ERROR:\s+([0-9A-Z]{5}):/g;
	is(scalar(grep { $_ ne '40001' } @states), 0, $node->name . ': no error but 40001 on a hot counter');
	push @steps, [ splice @mine, 0, 2 ] while @mine;
}
cmp_ok(scalar @steps, '>=', 150, 'three servers have counted together: ' . @steps);
is($c->node(1)->safe_psql($db, 'SELECT count(*), count(DISTINCT v), count(*) FILTER (WHERE p >= h) FROM (SELECT v, h, lag(h) OVER (ORDER BY v) AS p FROM (VALUES '
		. join(',', map { "($_->[0], '$_->[1]'::hlc)" } @steps) . ') s(v, h)) o'),
	scalar(@steps) . '|' . scalar(@steps) . '|0', 'the order of the log and the order of stamps agree');
$last = $c->node(1)->safe_psql($db, 'SELECT hlc_now()');

# --- observed stamps precede commits ---

for my $node ($c->nodes)
{
	# well within the bound, and ahead of everybody's clock
	my $seen = $node->safe_psql($db, q(SELECT hlc_observe(hlc_make(clock_timestamp() + '250 ms', 5, 77))));
	$last = $seen if $c->node(1)->safe_psql($db, "SELECT '$seen'::hlc > '$last'") eq 't';
	my $stamp = write_on($node, 'after observing');
	is($node->safe_psql($db, "SELECT '$stamp'::hlc > '$seen'"), 't', 'a commit on ' . $node->name . ' is stamped after what was observed there');
}
for my $node ($c->nodes)
{
	my $seen = $node->safe_psql($db, 'SELECT hlc_now()');
	my $out = $node->safe_psql($db, "SELECT hlc_now() AS seen \\gset\nINSERT INTO t VALUES (" . ++$rows . ", 'y');\nSELECT transaction_hlc() > :'seen'::hlc");
	is($out, 't', 'and after what the clock of ' . $node->name . ' said before');
}
# a stamp carried by a client from one server to the next
my $carried = $c->node(1)->safe_psql($db, 'SELECT hlc_now()');
for my $node ($c->node(2), $c->node(3), $c->node(1))
{
	my $next = $node->safe_psql($db, "SELECT hlc_observe('$carried')");
	is($node->safe_psql($db, "SELECT '$next'::hlc > '$carried', hlc_now() > '$next'"), 't|t', 'carried to ' . $node->name);
	$carried = $next;
}
for my $node ($c->nodes)
{
	$c->fails_with($node, q(SELECT hlc_observe(hlc_make(clock_timestamp() + '2 s', 0, 9))), '22023', qr/quorum\.max_clock_offset/,
		$node->name . ' refuses a client that is two seconds ahead');
}

# --- ids ---

my @ids = map { split /\n/, $_->safe_psql($db, 'SELECT next_id() FROM generate_series(1, 5000)') } $c->nodes;
my %seen_id;
is(scalar(grep { $seen_id{$_}++ } @ids), 0, 'ids of three servers: none twice');
is($c->node(1)->safe_psql($db, "SELECT count(DISTINCT id_node(i)) FROM unnest('{$ids[0],$ids[5000],$ids[10000]}'::bigint[]) i"), '3', 'each has its node in it');

# --- what is known of the others ---

for my $node ($c->nodes)
{
	$c->wait_until($node->name . ' knows the clocks of the others', sub {
		$c->ask($node, q(SELECT count(*) FROM clock_status WHERE NOT is_local AND last_contact > clock_timestamp() - interval '30 s')) eq '2' });
	$c->comes_to_be($node, q(SELECT count(*) FROM clock_status WHERE NOT is_local AND node_name IN ('n1', 'n2', 'n3')
			AND offset_error < '200 ms' AND clock_offset BETWEEN -offset_error AND offset_error),
		'2', $node->name . ': and that they agree with its own');
	is(clock_of($node, q(fenced || ',' || (upper_bound > hlc_physical(clock)) || ',' || (clock IS NOT NULL))), 'false,true,true', $node->name . ': its own row');
}

# --- a fifth of a second is nothing ---

my $leader = $c->wait_for_leader;
my ($off, $other) = $c->others($leader);
$c->fault($off, clock => 200_000);
$c->wait_until('the leader knows that a clock is 0.2 s ahead', sub {
	$c->ask($leader, sprintf(q(SELECT clock_offset BETWEEN '0.2 s' - offset_error AND '0.2 s' + offset_error
		FROM clock_status WHERE node_name = '%s'), $off->name)) eq 't' });
write_on($_, '0.2 s ahead') for $c->nodes;
is(clock_of($off, 'fenced'), 'f', '0.2 s ahead: not fenced');
$c->no_fault($off, 'clock');

# --- a follower two seconds off ---

sub follower_off
{
	my ($seconds) = @_;
	my $what = sprintf '%+d s', $seconds;

	$leader = $c->wait_for_leader;
	($off, $other) = $c->others($leader);
	$c->fault($off, clock => $seconds * 1_000_000);
	near_true_time($off, "$what, with the first tick after it");
	$c->wait_until("$what: " . $off->name . ' fences itself', sub { clock_of($off, 'fenced') eq 't' });
	like(clock_of($off, 'detail'), qr/quorum\.max_clock_offset/, "$what: clock_status says why");
	ok($c->log_matches($off, qr/this server's clock differs from a majority/), "$what: its log says so");
	for my $node ($leader, $other)
	{
		is(clock_of($node, 'fenced'), 'f', "$what: " . $node->name . ' is not fenced');
		write_on($node, $what);
		near_true_time($node, $what);
	}
	# it follows all the same, by the time of the majority
	sees($off, $what);
	near_true_time($off, $what);
	write_on($off, $what);
	sees($_, $what) for $leader, $other;
	my $now = $c->leader;
	isnt(($c->try_sql($leader, sprintf("SELECT quorum.transfer_leadership('%s')", $off->name)))[0], '', "$what: leadership cannot be given to it")
	  if $now && $now->name eq $leader->name;
	isnt($c->wait_for_leader->name, $off->name, "$what: it does not lead");
	$c->no_fault($off, 'clock');
	$c->wait_until("$what: right again, " . $off->name . ' is not fenced', sub { clock_of($off, 'fenced') eq 'f' });
	ok($c->log_matches($off, qr/this server's clock agrees with a majority of the members again/), "$what: and its log says so");
	write_on($_, "$what, and right again") for $c->nodes;
	sees($_, "$what, and right again") for $c->nodes;
}
follower_off(2);
follower_off(-2);

# --- the leader's clock jumps while it leads ---

sub leader_off
{
	my ($seconds) = @_;
	my $what = sprintf 'leader %+d s', $seconds;
	my $was = $c->wait_for_leader;
	my @rest = $c->others($was);
	my $load = $c->start_load(clients => 3, mode => 'insert');

	$c->wait_until("$what: the load runs", sub { $c->acknowledged($load) > 20 });
	$c->fault($was, clock => $seconds * 1_000_000);
	near_true_time($was, "$what, with the first tick after it");
	$c->wait_until("$what: it fences itself", sub { clock_of($was, 'fenced') eq 't' });
	$c->wait_until("$what: another member leads", sub {
		my $now = $c->ask($rest[0], 'SELECT leader FROM status');
		return $now ne '' && $now ne $was->name && $c->ask($rest[1], 'SELECT leader FROM status') eq $now;
	});
	write_on($_, $what) for @rest;
	near_true_time($_, $what) for @rest;
	is(clock_of($_, 'fenced'), 'f', "$what: " . $_->name . ' is not fenced') for @rest;
	write_on($was, $what);
	near_true_time($was, $what);
	my $acknowledged = $c->acknowledged($load);
	$c->wait_until("$what: the load goes on", sub { $c->acknowledged($load) > $acknowledged + 20 });
	$c->stop_load($load);
	$c->no_fault($was, 'clock');
	$c->wait_until("$what: right again, it is not fenced", sub { clock_of($was, 'fenced') eq 'f' });
	write_on($_, "$what, and right again") for $c->nodes;
	sees($_, "$what, and right again") for $c->nodes;
}
leader_off(2);
leader_off(-2);
leader_off(3600);
leader_off(-3600);

# --- crashes ---

for my $round (1 .. 2)
{
	$leader = $c->wait_for_leader;
	$c->kill9($leader);
	my @rest = $c->others($leader);
	$c->wait_for_leader(@rest);
	write_on($_, "crash $round") for @rest;
	$c->restart($leader);
	$c->wait_for_leader;
	write_on($_, "crash $round, and back") for $c->nodes;
}
# all of them
$last = $c->node(1)->safe_psql($db, "SELECT greatest(hlc_now(), '$last')");
$c->kill9($c->nodes);
$c->restart($c->nodes);
$c->wait_for_leader;
write_on($_, 'all crashed') for $c->nodes;

$c->settle;
$c->tables_equal(['t', 'hot', 'load'], 'tables equal');
is($c->node(1)->safe_psql($db, 'SELECT count(*) FROM t'), $rows, 'every acknowledged row is there');
for my $server ($c->nodes)
{
	unlike(slurp_file($server->logfile), qr/PANIC|TRAP:|was terminated by signal (?:6|11)/, $server->name . ' logged no crash of its own making');
}

done_testing();
