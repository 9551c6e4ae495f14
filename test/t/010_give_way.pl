# Local sessions that hold what an entry of the log needs give way: they are
# aborted with 40001, whatever they are doing, and their connection lives.
use strict;
use warnings;

use PostgreSQL::Test::Utils;
use QuorumCluster;
use Test::More;

my $db = $QuorumCluster::DB;
my $c = QuorumCluster->new(nodes => 2);
my ($here, $there) = $c->nodes;

$c->found;
$c->everywhere('CREATE TABLE t (id int PRIMARY KEY, v int NOT NULL DEFAULT 0);
	CREATE TABLE child (id int PRIMARY KEY, t_id int REFERENCES t)');
$c->add_tables('t', 'child');
$here->safe_psql($db, 'INSERT INTO t SELECT generate_series(1, 40)');
$c->settle;

my $last = 0;

# A session on $here begins with these statements, then a row that it is in the
# way of is changed on $there. How long that took, in seconds.
sub in_the_way
{
	my ($what, $session, $begin, $change) = @_;

	$session->query($begin);
	my $begun = QuorumCluster::now();
	my ($state, undef, $err) = $c->try_sql($there, $change);
	is($state, '', "$what: the change on the other server succeeds") or diag($err);
	$c->settle;
	my $took = QuorumCluster::now() - $begun;
	cmp_ok($took, '<', 30, "$what: and is applied here") or diag("after $took s");
}

# The session's next statement fails with 40001, named table and all.
sub told
{
	my ($what, $session, $statement) = @_;

	$session->{stderr} = '';
	$session->query($statement);
	like($session->{stderr}, qr/ERROR:\s+40001:.*favour/, "$what: $statement gets 40001");
	like($session->{stderr}, qr/DETAIL:.*"t".*log entry \d+/, "$what: the message names the table and the entry");
	$session->{stderr} = '';
}

sub alive
{
	my ($what, $session, $pid) = @_;

	$session->{stderr} = '';
	is($session->query('SELECT pg_backend_pid()'), $pid, "$what: the connection lives");
	my $id = 1000 + ++$last;
	$session->query("INSERT INTO t VALUES ($id)");
	is($session->{stderr}, '', "$what: and works");
}

my $session = $here->background_psql($db, on_error_stop => 0);
$session->query("\\set VERBOSITY verbose");
my $pid = $session->query('SELECT pg_backend_pid()');

# --- idle in a transaction ---

in_the_way('a changed row', $session, 'BEGIN; UPDATE t SET v = -1 WHERE id = 1;',
	'UPDATE t SET v = 1 WHERE id = 1');
told('a changed row', $session, 'SELECT 1;');
$session->query('ROLLBACK;');
alive('a changed row', $session, $pid);

in_the_way('COMMIT', $session, 'BEGIN; UPDATE t SET v = -1 WHERE id = 2;',
	'DELETE FROM t WHERE id = 2');
told('COMMIT', $session, 'COMMIT;');
alive('COMMIT', $session, $pid);

in_the_way('savepoints', $session,
	'BEGIN; SAVEPOINT a; UPDATE t SET v = -1 WHERE id = 3; SAVEPOINT b; SELECT 1;',
	'UPDATE t SET v = 1 WHERE id = 3');
told('savepoints', $session, 'RELEASE a;');
$session->query('ROLLBACK;');
alive('savepoints', $session, $pid);

in_the_way('a row lock', $session, 'BEGIN; SELECT 1 FROM t WHERE id = 4 FOR UPDATE;',
	'UPDATE t SET v = 1 WHERE id = 4');
told('a row lock', $session, 'COMMIT;');
alive('a row lock', $session, $pid);

in_the_way('an inserted key', $session, 'BEGIN; INSERT INTO t VALUES (500);',
	'INSERT INTO t VALUES (500)');
told('an inserted key', $session, 'COMMIT;');
alive('an inserted key', $session, $pid);

# with a gate the other server's change waits (017_ddl_under_load.pl)
in_the_way('LOCK TABLE', $session, 'BEGIN; SET LOCAL quorum.ddl_gate_timeout = 0; LOCK TABLE t;',
	'UPDATE t SET v = 1 WHERE id = 5');
told('LOCK TABLE', $session, 'COMMIT;');
alive('LOCK TABLE', $session, $pid);

in_the_way('a cursor', $session, 'BEGIN; DECLARE x CURSOR FOR SELECT * FROM t WHERE id > 5 FOR UPDATE; FETCH ALL FROM x;',
	'UPDATE t SET v = 1 WHERE id = 6');
told('a cursor', $session, 'FETCH x;');
$session->query('ROLLBACK;');
alive('a cursor', $session, $pid);

in_the_way('a reader of a table that is emptied', $session, 'BEGIN; SELECT count(*) FROM child;',
	'TRUNCATE child');
$session->{stderr} = '';
$session->query('COMMIT;');
like($session->{stderr}, qr/40001/, 'a reader of a table that is emptied: gets 40001');
alive('a reader of a table that is emptied', $session, $pid);

# --- what PostgreSQL lets stand side by side must not be touched ---

in_the_way('a foreign-key check', $session, 'BEGIN; INSERT INTO child VALUES (1, 7);',
	'UPDATE t SET v = 1 WHERE id = 7');
$session->{stderr} = '';
$session->query('COMMIT;');
is($session->{stderr}, '', "a foreign-key check does not stand in the way of its parent's other columns");
$c->settle;
is($there->safe_psql($db, 'SELECT count(*) FROM child'), '1', 'and commits');

# --- executing ---

# The statement runs while the other server's change arrives.
sub while_executing
{
	my ($what, $statement, $change, $expected) = @_;

	$session->{stderr} = '';
	$session->{stdin} .= "\\echo begun\n$statement\n\\echo ended\n";
	$session->{run}->pump until $session->{stdout} =~ /begun\n/;
	$c->wait_until('the statement waits', sub {
		$c->ask($here, "SELECT wait_event FROM pg_stat_activity WHERE pid = $pid") eq 'PgSleep' });
	my ($state, undef, $err) = $c->try_sql($there, $change);
	is($state, '', "$what: the change on the other server succeeds") or diag($err);
	$c->settle;
	$session->{run}->pump until $session->{stdout} =~ /ended\n/;
	like($session->{stderr}, $expected, "$what: gets 40001");
	$session->{stdout} = '';
	$session->query('ROLLBACK;');
	alive($what, $session, $pid);
}

while_executing('a statement',
	'WITH u AS (UPDATE t SET v = -1 WHERE id = 8 RETURNING id) SELECT pg_sleep(60) FROM u;',
	'UPDATE t SET v = 1 WHERE id = 8', qr/ERROR:\s+40001/);
while_executing('a function that catches all errors',
	q(DO $$ BEGIN BEGIN UPDATE t SET v = -1 WHERE id = 9; PERFORM pg_sleep(60);
		EXCEPTION WHEN OTHERS THEN RAISE NOTICE 'swallowed'; END; END $$;),
	'UPDATE t SET v = 1 WHERE id = 9', qr/ERROR:\s+40001/);

# --- no session in the way: nobody is aborted ---

is($here->safe_psql($db, 'SELECT defects FROM quorum.stat_replication'), '0', 'no defect was counted');
my $doomed = $here->safe_psql($db, 'SELECT sessions_doomed FROM quorum.stat_replication');
cmp_ok($doomed, '>=', 10, 'the statistics count the doomed');
cmp_ok($here->safe_psql($db, 'SELECT aborted_for_apply FROM quorum.stat_replication'), '>=', 10,
	'and the aborted');
for (1 .. 50)
{
	$there->safe_psql($db, 'UPDATE t SET v = v + 1 WHERE id = 10');
}
$c->settle;
is($here->safe_psql($db, 'SELECT sessions_doomed FROM quorum.stat_replication'), $doomed,
	'nobody is doomed where nobody is in the way');

$session->quit;
$c->settle;
$c->tables_equal([ 't', 'child' ], 'all equal at the end');
is($here->safe_psql($db, 'SELECT count(*) FROM t WHERE v < 0'), '0', 'nothing of what was aborted');
$_->stop('fast') for $c->nodes;
unlike(slurp_file($_->logfile), qr/PANIC|TRAP:|was terminated by signal/, $_->name . ' logged no crash')
  for $c->nodes;

done_testing();
