# Read levels: each level, by each way in which a statement reads, in each
# isolation level, on a follower whose tables lag behind. A cell is fresh or an
# error; never old.
#
# The lag is made by quorum.debug_apply_hold. First all cells run against a
# follower that stays behind, with a short quorum.read_timeout; then again, at
# the same time, against one that is let go while they wait.
use strict;
use warnings;

use IPC::Run ();
use PostgreSQL::Test::Utils;
use QuorumCluster;
use Test::More;

my $db = $QuorumCluster::DB;
my $c = QuorumCluster->new(nodes => 3, conf => q(
	autovacuum = off
	max_parallel_workers = 4
));

$c->found;
my $leader = $c->wait_for_leader;
my ($follower, $third) = $c->others($leader);
my $schema = q(
	CREATE TABLE r (id int PRIMARY KEY, v int NOT NULL);
	CREATE VIEW r_view AS SELECT v FROM r WHERE id = 1;
	CREATE MATERIALIZED VIEW r_mat AS SELECT v FROM r WHERE id = 1;
	CREATE FUNCTION sql_volatile() RETURNS int LANGUAGE sql VOLATILE AS 'SELECT v FROM r WHERE id = 1';
	CREATE FUNCTION sql_stable() RETURNS int LANGUAGE sql STABLE AS 'SELECT v FROM r WHERE id = 1';
	CREATE FUNCTION sql_two() RETURNS int LANGUAGE sql VOLATILE AS 'SELECT v FROM r WHERE id = 1; SELECT v FROM r WHERE id = 1';
	CREATE FUNCTION sql_set() RETURNS SETOF int LANGUAGE sql VOLATILE AS 'SELECT v FROM r WHERE id = 1';
	CREATE FUNCTION pl_volatile() RETURNS int LANGUAGE plpgsql VOLATILE AS 'BEGIN RETURN (SELECT v FROM r WHERE id = 1); END';
	CREATE FUNCTION pl_stable() RETURNS int LANGUAGE plpgsql STABLE AS 'BEGIN RETURN (SELECT v FROM r WHERE id = 1); END';
	CREATE FUNCTION pl_stable_in_volatile() RETURNS int LANGUAGE plpgsql VOLATILE AS 'DECLARE x int; BEGIN x := pl_stable(); RETURN x; END';
	CREATE FUNCTION pl_dynamic() RETURNS int LANGUAGE plpgsql AS 'DECLARE x int; BEGIN EXECUTE ''SELECT v FROM r WHERE id = 1'' INTO x; RETURN x; END';
	CREATE FUNCTION pl_loop() RETURNS int LANGUAGE plpgsql AS 'DECLARE x record; y int; BEGIN FOR x IN SELECT v FROM r WHERE id = 1 LOOP y := x.v; END LOOP; RETURN y; END';
	CREATE FUNCTION pl_loop_stable() RETURNS int LANGUAGE plpgsql STABLE AS 'DECLARE x record; y int; BEGIN FOR x IN SELECT v FROM r WHERE id = 1 LOOP y := x.v; END LOOP; RETURN y; END';
	CREATE FUNCTION pl_cursor() RETURNS int LANGUAGE plpgsql AS 'DECLARE c CURSOR FOR SELECT v FROM r WHERE id = 1; y int; BEGIN OPEN c; FETCH c INTO y; CLOSE c; RETURN y; END';
	CREATE FUNCTION pl_caught() RETURNS int LANGUAGE plpgsql AS 'DECLARE y int; BEGIN BEGIN SELECT v INTO y FROM r WHERE id = 1; EXCEPTION WHEN division_by_zero THEN NULL; END; RETURN y; END';
	CREATE FUNCTION pl_returns_query() RETURNS SETOF int LANGUAGE plpgsql AS 'BEGIN RETURN QUERY SELECT v FROM r WHERE id = 1; END';
	CREATE PROCEDURE pl_proc(INOUT x int) LANGUAGE plpgsql AS 'BEGIN SELECT v INTO x FROM r WHERE id = 1; END';
	CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN SELECT v INTO NEW.x FROM r WHERE id = 1; RETURN NEW; END';
);
$c->everywhere($schema);
$c->add_tables('r');
$leader->safe_psql($db, 'INSERT INTO r SELECT g, 0 FROM generate_series(1, 2000) g');
$c->settle;

my @levels = qw(bounded_staleness read_your_writes causal strong);
my $value = 0;
my $scripts = 0;

# What a way to read prints last is the value that it saw.
my %way = (
	simple => 'SELECT v FROM r WHERE id = 1;',
	view => 'SELECT v FROM r_view;',
	subquery => 'SELECT (SELECT v FROM r WHERE id = 1);',
	'several statements at once' => 'SELECT 1\; SELECT v FROM r WHERE id = 1;',
	'generic plan' => 'SET plan_cache_mode = force_generic_plan; PREPARE p(int) AS SELECT v FROM r WHERE id = $1; EXECUTE p(1);',
	'custom plan' => 'SET plan_cache_mode = force_custom_plan; PREPARE p(int) AS SELECT v FROM r WHERE id = $1; EXECUTE p(1);',
	'cached plan, again' => 'PREPARE p AS SELECT v FROM r WHERE id = 1; SET quorum.read_consistency = eventual; EXECUTE p; SET quorum.read_consistency = :level; EXECUTE p;',
	cursor => 'BEGIN :iso; DECLARE x CURSOR FOR SELECT v FROM r WHERE id = 1; FETCH x; COMMIT;',
	'cursor with hold' => 'DECLARE x CURSOR WITH HOLD FOR SELECT v FROM r WHERE id = 1; FETCH x;',
	'row by row' => "\\set FETCH_COUNT 1\nSELECT v FROM r WHERE id = 1;",
	'sql function' => 'SELECT sql_volatile();',
	'stable sql function' => 'SELECT sql_stable();',
	'sql function of two' => 'SELECT sql_two();',
	'sql set function' => 'SELECT * FROM sql_set();',
	'plpgsql function' => 'SELECT pl_volatile();',
	'stable plpgsql function' => 'SELECT pl_stable();',
	'stable in volatile' => 'SELECT pl_stable_in_volatile();',
	'dynamic SQL' => 'SELECT pl_dynamic();',
	'plpgsql loop' => 'SELECT pl_loop();',
	'stable plpgsql loop' => 'SELECT pl_loop_stable();',
	'plpgsql cursor' => 'SELECT pl_cursor();',
	'exception block' => 'SELECT pl_caught();',
	'RETURN QUERY' => 'SELECT * FROM pl_returns_query();',
	'function beside a table' => 'SELECT pl_stable() FROM r WHERE id = 2;',
	CALL => 'CALL pl_proc(0);',
	DO => q(DO $$ DECLARE x int; BEGIN SELECT v INTO x FROM r WHERE id = 1; PERFORM set_config('my.v', x::text, false); END $$; SHOW my.v;),
	'DO with COMMIT' => q(DO $$ DECLARE x int; BEGIN COMMIT; SELECT v INTO x FROM r WHERE id = 1; PERFORM set_config('my.v', x::text, false); END $$; SHOW my.v;),
	'COPY query' => 'COPY (SELECT v FROM r WHERE id = 1) TO STDOUT;',
	'CREATE TABLE AS' => 'CREATE TEMP TABLE z AS SELECT v FROM r WHERE id = 1; SET quorum.read_consistency = eventual; SELECT v FROM z;',
	'SELECT INTO' => 'SELECT v INTO TEMP z FROM r WHERE id = 1; SET quorum.read_consistency = eventual; SELECT v FROM z;',
	'CREATE TABLE AS EXECUTE' => 'PREPARE p AS SELECT v FROM r WHERE id = 1; CREATE TEMP TABLE z AS EXECUTE p; SET quorum.read_consistency = eventual; SELECT v FROM z;',
	'REFRESH' => 'REFRESH MATERIALIZED VIEW r_mat; SET quorum.read_consistency = eventual; SELECT v FROM r_mat;',
	'INSERT SELECT' => 'CREATE TEMP TABLE z (v int); INSERT INTO z SELECT v FROM r WHERE id = 1; SET quorum.read_consistency = eventual; SELECT v FROM z;',
	RETURNING => 'CREATE TEMP TABLE z (v int); INSERT INTO z SELECT v FROM r WHERE id = 1 RETURNING v;',
	'writable CTE' => 'CREATE TEMP TABLE z (v int); WITH w AS (INSERT INTO z SELECT v FROM r WHERE id = 1 RETURNING v) SELECT v FROM w;',
	'UPDATE from' => 'CREATE TEMP TABLE z AS SELECT 0 AS v; UPDATE z SET v = r.v FROM r WHERE r.id = 1 RETURNING z.v;',
	trigger => 'CREATE TEMP TABLE z (x int); CREATE TRIGGER t BEFORE INSERT ON z FOR EACH ROW EXECUTE FUNCTION see(); INSERT INTO z VALUES (0) RETURNING x;',
	'row lock' => 'SELECT v FROM r WHERE id = 1 FOR SHARE;',
	'EXPLAIN ANALYZE' => q(EXPLAIN (ANALYZE, COSTS OFF) SELECT 1 / (CASE WHEN v = :value THEN 1 ELSE 0 END) FROM r WHERE id = 1; SELECT :value;),
	parallel => 'SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0; SET max_parallel_workers_per_gather = 2; SET enable_indexscan = off; SET enable_bitmapscan = off; SELECT max(v) FROM r WHERE id <= 1;',
	'SET LOCAL' => 'SET quorum.read_consistency = eventual; BEGIN :iso; SET LOCAL quorum.read_consistency = :level; SELECT v FROM r WHERE id = 1; COMMIT;',
	'second in a block' => 'BEGIN :iso; SELECT 1; SELECT v FROM r WHERE id = 1; COMMIT;',
	'after a savepoint' => 'BEGIN :iso; SAVEPOINT a; SELECT v FROM r WHERE id = 1; COMMIT;',
	'level raised late' => 'BEGIN :iso; SET LOCAL quorum.read_consistency = eventual; SELECT v FROM r WHERE id = 1; SET LOCAL quorum.read_consistency = :level; SELECT v FROM r WHERE id = 1; COMMIT;',
	'AND CHAIN' => 'BEGIN :iso; COMMIT AND CHAIN; SELECT v FROM r WHERE id = 1; COMMIT;',
	'read only' => 'BEGIN :iso READ ONLY; SELECT v FROM r WHERE id = 1; COMMIT;',
);
# COPY of a table prints all of it
$way{'COPY table'} = 'CREATE TEMP TABLE all_r (id int, v int); \copy all_r FROM PROGRAM ' .
  q('true') . "\nCOPY r TO STDOUT \\g | awk '\$1 == 1 { print \$2 }'\n";

my @isolations = ('READ COMMITTED', 'REPEATABLE READ', 'SERIALIZABLE');

sub script
{
	my ($level, $iso, $way, $token, $timeout) = @_;
	my $name = $iso;
	my $text = $way{$way};

	$text =~ s/:level/$level/g;
	$text =~ s/:iso/ISOLATION LEVEL $iso/g;
	$text =~ s/:value/$value/g;
	return "\\set VERBOSITY verbose\n\\set ON_ERROR_STOP 1\nSET default_transaction_isolation = '\L$name\E';\n"
	  . "SET quorum.read_timeout = '$timeout'; SET quorum.max_staleness = '1ms';\n"
	  . ($token ? "SET quorum.causal_token = '$token';\n" : '')
	  . "SET quorum.read_consistency = $level;\n$text\n";
}

sub begin
{
	my ($node, $name, $script) = @_;
	my $cell = { name => $name, out => '', err => '' };
	my $file = "$PostgreSQL::Test::Utils::tmp_check/cell_" . ++$scripts;

	open my $to, '>', $file or die "$file: $!";
	print $to $script;
	close $to;
	local $ENV{PGAPPNAME} = 'cell';
	$cell->{handle} = IPC::Run::start(
		[ 'psql', '-X', '-q', '-A', '-t', '-d', $node->connstr($db), '-f', $file ],
		'>', \$cell->{out}, '2>', \$cell->{err});
	return $cell;
}

# 'fresh', an SQLSTATE, or what else it said
sub verdict
{
	my ($cell) = @_;

	$cell->{handle}->finish;
	my ($state) = $cell->{err} =~ /(?:ERROR|FATAL|PANIC):\s+([0-9A-Z]{5}):/;
	return $state if defined $state;
	my @lines = split /\n/, $cell->{out};
	my $last = $lines[-1] // 'nothing';
	return $last eq $value ? 'fresh' : "OLD OR WRONG: $last (not $value) $cell->{err}";
}

sub hold
{
	my ($node, $on) = @_;

	$node->safe_psql($db, "ALTER SYSTEM SET quorum.debug_apply_hold = $on");
	$node->reload;
	$c->wait_until($node->name . " holds: $on",
		sub { $c->ask($node, q(SELECT current_setting('quorum.debug_apply_hold'))) eq $on });
}

# A new value, acknowledged by the leader; its token.
sub change
{
	my $out;

	$value++;
	$out = $leader->safe_psql($db,
		"UPDATE r SET v = $value WHERE id = 1; SELECT quorum.current_token()");
	die "no token" if length($out) < 20;
	# older than any staleness that is asked for here
	Time::HiRes::usleep(5000);
	return $out;
}

# What a cell may come to.
sub expected_let_go
{
	my ($iso, $way) = @_;

	return qr/^fresh$/ if $iso eq 'READ COMMITTED';
	# the snapshot is taken before anything can be done: autocommit, or a chain
	return qr/^(?:fresh|40001)$/ if $way{$way} !~ /BEGIN :iso/ || $way =~ /CHAIN|late/;
	return qr/^fresh$/;
}

# --- a follower that stays behind: error in each cell, and monitoring answers ---

# One session for all ways of a level and an isolation level: a line that says
# which way comes next, then what it prints.
sub begin_in_turn
{
	my ($level, $iso, $token) = @_;
	my $all = '';

	for my $way (sort keys %way)
	{
		my $script = script($level, $iso, $way, $token, '20ms');
		$script =~ s/^.*ON_ERROR_STOP.*\n//m;
		$all .= "\\unset FETCH_COUNT\nROLLBACK;\nDISCARD ALL;\n\\warn way $way\n\\echo way $way\n$script";
	}
	return begin($follower, $iso, "\\set VERBOSITY verbose\nSET client_min_messages = error;\n$all");
}

sub bad_in_turn
{
	my ($cell) = @_;
	my (%state, %out, @bad);

	$cell->{handle}->finish;
	for (split /^way /m, $cell->{err})
	{
		my ($way, $rest) = /^(.*?)\n(.*)/s or next;
		($state{$way}) = $rest =~ /(?:ERROR|FATAL|PANIC):\s+([0-9A-Z]{5}):/;
	}
	for (split /^way /m, $cell->{out})
	{
		my ($way, $rest) = /^(.*?)\n(.*)/s or next;
		$out{$way} = $rest;
	}
	for my $way (sort keys %way)
	{
		my $state = $state{$way} // 'no error';
		# the data cannot be had; where a snapshot is there already, either error is true
		push @bad, "$cell->{name}, $way: $state, " . ($out{$way} // '')
		  if $state !~ /^(?:55000|40001)$/;
	}
	return @bad;
}

hold($follower, 'on');
my $token = change();
for my $level (@levels)
{
	my @cells = map { begin_in_turn($level, $_, $token) } @isolations;
	my @bad = map { bad_in_turn($_) } @cells;
	ok(!@bad, sprintf "%s, behind: an error in each of %d cells", $level, @isolations * keys %way)
	  or diag(join "\n", @bad);
}
my $begun = QuorumCluster::now();
$follower->safe_psql($db, 'SET quorum.read_consistency = strong;
	SELECT * FROM quorum.status; SELECT * FROM quorum.members; SELECT * FROM quorum.tables;
	SELECT * FROM quorum.stat_replication; SELECT * FROM quorum.clock_status; SELECT * FROM quorum.read_info();
	SELECT quorum.current_token(); SELECT now(); SELECT 1; SELECT count(*) FROM pg_stat_activity;
	CREATE TEMP TABLE own (x int); INSERT INTO own VALUES (2); SELECT x FROM own WHERE x > 1');
cmp_ok(QuorumCluster::now() - $begun, '<', 20, 'monitoring does not wait');
is($follower->safe_psql($db, 'SELECT v FROM r WHERE id = 1'), '0', 'eventual reads what is there');
is($third->safe_psql($db, 'SET quorum.read_consistency = strong; SELECT v FROM r WHERE id = 1'), $value,
	'another follower is not held up');
is($leader->safe_psql($db, 'SET quorum.read_consistency = strong; SELECT v FROM r WHERE id = 1'), $value,
	'nor the leader');
my ($state, undef, $err) = $c->try_sql($follower,
	"SET quorum.read_timeout = '100ms'; SET quorum.read_consistency = strong; SELECT * FROM r;");
is($state, '55000', 'the error');
like($err, qr/"strong".*quorum\.read_timeout \(100 ms\).*DETAIL:.*entry \d+.*entry \d+.*HINT:/s, 'says what is missing');
hold($follower, 'off');

# --- let go while they wait: fresh in each cell where that can be ---

for my $level (@levels)
{
	my @bad;
	my %count;

	for my $iso (@isolations)
	{
		# in the transaction's isolation levels most ways differ by nothing
		my @ways = grep { $iso eq 'READ COMMITTED' || $way{$_} =~ /:iso/ || /simple|table|pl_stable|generic/ } sort keys %way;
		$c->settle;
		hold($follower, 'on');
		my $token = change();
		my @cells = map { begin($follower, $_, script($level, $iso, $_, $token, '60s')) } @ways;
		$c->wait_until('all cells wait or are done', sub {
			$_->{handle}->pump_nb for @cells;
			my $open = grep { $_->{handle}->pumpable } @cells;
			my $waiting = $c->ask($follower, q(SELECT count(*) FROM pg_stat_activity
				WHERE application_name = 'cell' AND state = 'active' AND wait_event = 'Extension'));
			return $waiting >= $open - 1;
		});
		hold($follower, 'off');
		for my $cell (@cells)
		{
			my $got = verdict($cell);
			$count{$got}++;
			push @bad, "$iso, $cell->{name}: $got" if $got !~ expected_let_go($iso, $cell->{name});
		}
	}
	ok(!@bad, "$level, let go: " . join(', ', map { "$count{$_} $_" } sort keys %count))
	  or diag(join "\n", @bad);
}

# --- extended protocol: pgbench fails on what is not fresh ---

for my $level (@levels)
{
	for my $mode (qw(extended prepared))
	{
		hold($follower, 'on');
		my $token = change();
		my $file = $PostgreSQL::Test::Utils::tmp_check . "/script";
		open my $out, '>', $file or die;
		print $out "SELECT 1 / (CASE WHEN v = $value THEN 1 ELSE 0 END) FROM r WHERE id = 1;\n";
		close $out;
		my ($o, $e) = ('', '');
		my $run;
		{
			local $ENV{PGOPTIONS} = "-c quorum.read_consistency=$level -c quorum.read_timeout=60s -c quorum.max_staleness=1ms -c quorum.causal_token=$token";
			local $ENV{PGAPPNAME} = 'bench';
			$run = IPC::Run::start([ 'pgbench', '-n', '-t', 3, '-M', $mode, '-f', $file, '-h', $follower->host, '-p', $follower->port, $db ],
				'>', \$o, '2>', \$e);
		}
		$c->wait_until('pgbench waits', sub {
			return $c->ask($follower, q(SELECT count(*) FROM pg_stat_activity WHERE application_name = 'bench' AND wait_event = 'Extension')) > 0;
		});
		hold($follower, 'off');
		ok($run->finish, "$level, $mode protocol: fresh") or diag($o, $e);
	}
}

# --- functions with a level of their own, roles, EXPLAIN, read_info ---

$c->everywhere(q(
	CREATE FUNCTION own_level() RETURNS int LANGUAGE plpgsql SET quorum.read_consistency = strong AS 'BEGIN RETURN (SELECT v FROM r WHERE id = 1); END';
	CREATE FUNCTION own_level_stable() RETURNS int LANGUAGE plpgsql STABLE SET quorum.read_consistency = strong AS 'BEGIN RETURN (SELECT v FROM r WHERE id = 1); END';
	CREATE ROLE strict LOGIN SUPERUSER; ALTER ROLE strict SET quorum.read_consistency = strong;
));
hold($follower, 'on');
change();
my @cells = map { begin($follower, $_, "\\set VERBOSITY verbose\n$_;\n") }
  ('SELECT own_level()', 'SELECT own_level_stable() FROM r WHERE id = 2');
push @cells, begin($follower, 'strict', "\\c - strict\nSELECT v FROM r WHERE id = 1;\n");
$c->wait_until('the three wait', sub {
	return $c->ask($follower, q(SELECT count(*) FROM pg_stat_activity
		WHERE wait_event = 'Extension' AND state = 'active' AND backend_type = 'client backend')) == 3; });
hold($follower, 'off');
is(verdict($cells[0]), 'fresh', 'a function with a level of its own');
is(verdict($cells[1]), '40001', 'a stable one that is called with an older snapshot');
is(verdict($cells[2]), 'fresh', 'a role with a level');
is($follower->safe_psql($db, 'SELECT own_level_stable() FROM r WHERE id = 2'), $value, 'which is fine when the snapshot has all');

my $explain = $follower->safe_psql($db, 'SET quorum.read_consistency = strong; EXPLAIN ANALYZE SELECT * FROM r');
like($explain, qr/^Read Consistency: level=strong index=\d+ waited=\d+\.\d+ ms$/m, 'EXPLAIN ANALYZE');
unlike($follower->safe_psql($db, 'SET quorum.read_consistency = strong; EXPLAIN SELECT * FROM r'), qr/Read Consistency/, 'not EXPLAIN alone');
for my $format (qw(json xml yaml))
{
	my $out = $follower->safe_psql($db, "SET quorum.read_consistency = causal; EXPLAIN (ANALYZE, FORMAT $format) SELECT * FROM r");
	like($out, qr/Read.Consistency.{1,6}causal/, "EXPLAIN (FORMAT $format)");
	$follower->safe_psql($db, "SELECT \$e\$$out\$e\$::json") if $format eq 'json';
}
like($follower->safe_psql($db, 'SET quorum.read_consistency = strong; SELECT 1 FROM r LIMIT 1; SELECT level, served_index <= known_commit_index, served_index > 0, waited >= interval \'0\', staleness < interval \'5s\', node_name FROM quorum.read_info()'),
	qr/^strong\|t\|t\|t\|t\|@{[$follower->name]}$/m, 'read_info');

# --- a reader that waits and has what a schema change needs gives way ---

hold($follower, 'on');
my $reader = begin($follower, 'reader',
	"\\set VERBOSITY verbose\nSET quorum.read_consistency = strong; BEGIN; SELECT pg_sleep(0); SELECT v FROM r WHERE id = 1; COMMIT;\n");
$leader->safe_psql($db, 'ALTER TABLE r ADD COLUMN more int');
my $second = begin($follower, 'second',
	"\\set VERBOSITY verbose\nSET quorum.read_consistency = eventual; BEGIN; SELECT count(*) FROM r; SET quorum.read_consistency = strong; SELECT v FROM r WHERE id = 1; COMMIT;\n");
$c->wait_until('the second waits', sub {
	return $c->ask($follower, q(SELECT count(*) FROM pg_stat_activity WHERE application_name = 'cell' AND wait_event = 'Extension')) >= 1; });
hold($follower, 'off');
is(verdict($second), '40001', 'a reader that holds a lock that the applier needs is aborted');
like($second->{err}, qr/in favour of/, 'and told why');
verdict($reader);
$c->settle;

# --- without a quorum ---

$c->kill9($leader, $third);
$c->poll_no_quorum($follower);
$begun = QuorumCluster::now();
is($c->ask($follower, 'SELECT v FROM r WHERE id = 1'), $value, 'eventual reads go on without a quorum');
for my $level (qw(strong bounded_staleness))
{
	$c->fails_with($follower, "SET quorum.read_timeout = '500ms'; SET quorum.max_staleness = '100ms'; SET quorum.read_consistency = $level; SELECT v FROM r WHERE id = 1;",
		'55000', qr/read_timeout/, "$level ends with an error without a quorum");
}
is($c->ask($follower, 'SET quorum.read_consistency = causal; SELECT v FROM r WHERE id = 1'), $value,
	'causal needs none for what is here');
cmp_ok(QuorumCluster::now() - $begun, '<', 30, 'in time');
$c->restart($leader, $third);
$c->wait_for_leader;
is($follower->safe_psql($db, 'SET quorum.read_consistency = strong; SELECT v FROM r WHERE id = 1'), $value,
	'strong reads are back by themselves');

done_testing();
