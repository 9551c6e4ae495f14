# Rows locked on one server count on all of them, exactly where PostgreSQL's own
# lock modes say so; and a lock alone is no entry of the log.
use strict;
use warnings;

use PostgreSQL::Test::Utils;
use QuorumCluster;
use Test::More;

my $db = $QuorumCluster::DB;
# so patient that there is one leader all the time, and no entry of an election
my $c = QuorumCluster->new(nodes => 3, conf => "quorum.election_timeout = '2s'\n");

$c->found;
$c->everywhere(q(
	CREATE TABLE parent (id int PRIMARY KEY, v int NOT NULL DEFAULT 0, name text UNIQUE);
	CREATE TABLE child (id int PRIMARY KEY, p int REFERENCES parent);
	CREATE TABLE oncall (who text PRIMARY KEY, here boolean NOT NULL);
	CREATE TABLE other (id int PRIMARY KEY);
));
$c->add_tables(qw(parent child oncall other));

# What session A does and holds, what B commits on another server meanwhile, and
# whether A may then still commit a write of its own. settled: B's write is
# applied where A is before A goes on; own: the error is PostgreSQL's own.
sub clash
{
	my ($what, $a_sql, $b_sql, $a_may, %more) = @_;
	my ($a, $b) = ($c->node($more{a} // 2), $c->node($more{b} // 1));

	$c->node(1)->safe_psql($db, q(TRUNCATE child, parent, oncall, other;
		INSERT INTO parent SELECT g, 0, 'n' || g FROM generate_series(1, 3) g;
		INSERT INTO oncall VALUES ('ann', true), ('bob', true)));
	$c->settle;
	my $session = $a->background_psql($db, on_error_stop => 0);
	$session->query("\\set VERBOSITY verbose\nBEGIN" . ($more{level} ? " ISOLATION LEVEL $more{level}" : ''));
	$session->query("$a_sql; SELECT 1");
	my ($state, undef, $err) = $c->try_sql($b, $b_sql);
	is($state, '', "$what: the other server's write goes through") or diag($err);
	$c->settle if $more{settled};
	$session->{stderr} = '';
	$session->query(($more{then} // 'INSERT INTO other VALUES (1)') . ";\nCOMMIT;\nSELECT 1");
	my $error = $session->{stderr};
	my $rows = $session->query('SELECT count(*) FROM other');
	$session->quit;
	if ($a_may)
	{
		unlike($error, qr/ERROR/, "$what: and so does this one's");
	}
	else
	{
		like($error, qr/ERROR:\s+40001/, "$what: this one's is refused, 40001");
		like($error, qr/DETAIL/, "$what: with the reason") unless $more{own};
	}
	$c->settle;
	$c->tables_equal([qw(parent child oncall other)], "$what: tables equal");
}

my $row = 'SELECT * FROM parent WHERE id = 1';

clash('FOR UPDATE, then UPDATE elsewhere', "$row FOR UPDATE", 'UPDATE parent SET v = 1 WHERE id = 1', 0);
clash('FOR UPDATE, then a child elsewhere', "$row FOR UPDATE", 'INSERT INTO child VALUES (1, 1)', 0);
clash('FOR NO KEY UPDATE, then a child elsewhere', "$row FOR NO KEY UPDATE", 'INSERT INTO child VALUES (1, 1)', 1);
clash('FOR NO KEY UPDATE, then UPDATE elsewhere', "$row FOR NO KEY UPDATE", 'UPDATE parent SET v = 1 WHERE id = 1', 0);
clash('FOR SHARE, then UPDATE elsewhere', "$row FOR SHARE", 'UPDATE parent SET v = 1 WHERE id = 1', 0);
clash('FOR SHARE, then a child elsewhere', "$row FOR SHARE", 'INSERT INTO child VALUES (1, 1)', 1);
clash('FOR KEY SHARE, then UPDATE elsewhere', "$row FOR KEY SHARE", 'UPDATE parent SET v = 1 WHERE id = 1', 1);
clash('FOR KEY SHARE, then UPDATE of a unique column elsewhere', "$row FOR KEY SHARE",
	q(UPDATE parent SET name = 'x' WHERE id = 1), 0);
clash('FOR KEY SHARE, then DELETE elsewhere', "$row FOR KEY SHARE", 'DELETE FROM parent WHERE id = 1', 0);
clash('a child, then UPDATE of its parent elsewhere', 'INSERT INTO child VALUES (1, 1)',
	'UPDATE parent SET v = 1 WHERE id = 1', 1);
clash('a child, then DELETE of its parent elsewhere', 'INSERT INTO child VALUES (1, 1)',
	'DELETE FROM parent WHERE id = 1', 0);
clash('DELETE of a parent, then a child elsewhere', 'DELETE FROM parent WHERE id = 1',
	'INSERT INTO child VALUES (1, 1)', 0, then => 'SELECT 1');
clash('a row, then another row elsewhere', 'UPDATE parent SET v = 1 WHERE id = 1',
	'UPDATE parent SET v = 2 WHERE id = 2', 1);
clash('a unique value, then the same elsewhere', q(UPDATE parent SET name = 'same' WHERE id = 1),
	q(UPDATE parent SET name = 'same' WHERE id = 2), 0);
clash('a new key, then the same elsewhere', q(INSERT INTO parent VALUES (9)),
	q(INSERT INTO parent VALUES (9)), 0);
# (with a gate the row waits: 017_ddl_under_load.pl)
clash('LOCK TABLE, then a row elsewhere', 'SET quorum.ddl_gate_timeout = 0; LOCK TABLE parent IN SHARE MODE',
	'UPDATE parent SET v = 1 WHERE id = 3', 0);
clash('a row, then TRUNCATE elsewhere', 'UPDATE parent SET v = 1 WHERE id = 1',
	'TRUNCATE parent CASCADE', 0);
clash('a row, then ALTER TABLE elsewhere', 'UPDATE parent SET v = 1 WHERE id = 1',
	'ALTER TABLE parent ALTER COLUMN v SET DEFAULT 1', 0);
clash('a savepoint that is rolled back holds nothing', "SAVEPOINT s; $row FOR UPDATE; ROLLBACK TO s",
	'UPDATE parent SET v = 1 WHERE id = 1', 1);
clash('REPEATABLE READ, the row changed since', 'SELECT count(*) FROM parent',
	'UPDATE parent SET v = 1 WHERE id = 1', 0, level => 'REPEATABLE READ',
	own => 1, settled => 1, then => 'UPDATE parent SET v = 2 WHERE id = 1');
# both see two on call; each may go only if the other stays
clash('write skew, prevented by FOR SHARE', 'SELECT * FROM oncall FOR SHARE',
	q(BEGIN; SELECT * FROM oncall FOR SHARE; UPDATE oncall SET here = false WHERE who = 'ann'; COMMIT;),
	0, level => 'REPEATABLE READ', then => q(UPDATE oncall SET here = false WHERE who = 'bob'));
clash('from the third server', "$row FOR UPDATE", 'UPDATE parent SET v = 1 WHERE id = 1', 0, a => 3, b => 2);
clash('on the first', "$row FOR UPDATE", 'UPDATE parent SET v = 1 WHERE id = 1', 0, a => 1, b => 3);

# Locks alone
my $before = $c->settle;
is(($c->try_sql($_, "SET quorum.ddl_gate_timeout = 0; BEGIN; $row FOR UPDATE; LOCK TABLE parent IN EXCLUSIVE MODE; COMMIT;"))[0],
	'', 'locks alone commit on ' . $_->name) for $c->nodes;
is($c->settle, $before, 'and are no entries');

# --- whoever is refused and tries again at once sees what it was refused for ---

# Refused on the second server for what the first one committed: how long that took.
sub refused
{
	my ($session) = @_;

	$session->query('BEGIN; INSERT INTO other VALUES (1000) ON CONFLICT DO NOTHING; SELECT v FROM parent WHERE id = 1 FOR SHARE');
	$c->node(1)->safe_psql($db, 'UPDATE parent SET v = v + 1 WHERE id = 1');
	my $begun = QuorumCluster::now();
	$session->{stderr} = '';
	$session->query('COMMIT');
	my $took = QuorumCluster::now() - $begun;
	like($session->{stderr}, qr/40001/, 'refused');
	# told while COMMIT was only being read: it failed like any other statement
	$session->query('ROLLBACK') if $session->{stderr} =~ /ProcessInterrupts/;
	return $took;
}

sub hold
{
	my ($on) = @_;

	$c->node(2)->safe_psql($db, "ALTER SYSTEM SET quorum.debug_apply_hold = $on");
	$c->node(2)->reload;
	$c->wait_until("apply is held: $on", sub { $c->ask($c->node(2), q(SHOW quorum.debug_apply_hold)) eq $on });
}

my $session = $c->node(2)->background_psql($db, on_error_stop => 0);
$session->query('\set VERBOSITY verbose');
my $again = 0;
for my $round (1 .. 10)
{
	refused($session);
	$session->{stderr} = '';
	$session->query('UPDATE parent SET v = v + 1 WHERE id = 1');
	$again++ if $session->{stderr} ne '';
	$c->settle;
}
cmp_ok($again, '<', 5, "of ten retries $again were refused again");
# and it is not kept waiting where nothing is applied
hold('on');
my $took = refused($session);
cmp_ok($took, '>=', 0.5, sprintf('what it was refused for is waited for, but not for good: %.2f s', $took));
hold('off');
$session->quit;
$c->settle;
$c->tables_equal([qw(parent child oncall other)], 'tables equal');

is($_->safe_psql($db, 'SELECT defects FROM quorum.stat_replication'), '0',
	'no decided transaction had to give way on ' . $_->name) for $c->nodes;

done_testing();
