# Trouble that no statement causes: no majority, a full disk, a wrong clock, an
# old copy of a data directory, settings that changed between restarts.
use strict;
use warnings;

use PostgreSQL::Test::RecursiveCopy;
use PostgreSQL::Test::Utils;
use QuorumCluster;
use Test::More;

my $db = $QuorumCluster::DB;
my $c = QuorumCluster->new(nodes => 3, faults => 1);
my $n = 0;

sub write_on
{
	my ($node, $what) = @_;
	my ($state, undef, $err) = $c->try_sql($node, 'INSERT INTO t VALUES (' . ++$n . ')');

	is($state, '', "$what: a write succeeds on " . $node->name) or diag($err);
}

# Every acknowledged row is there, on each server.
sub all_there
{
	my ($what) = @_;

	$c->settle;
	$c->tables_equal('t', "$what: tables equal");
	is($c->node(3)->safe_psql($db, "SELECT count(*) FROM t WHERE id BETWEEN 1 AND $n"),
		$n, "$what: every acknowledged row is there");
}

$c->found;
$c->everywhere('CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE ordinary (id int PRIMARY KEY)');
$c->add_tables('t');
write_on($_, 'to begin with') for $c->nodes;

# --- majority down ---

$c->settle;
$c->kill9($c->node(2), $c->node(3));
for my $wait ('300ms', '3s')
{
	my $begun = QuorumCluster::now();
	my ($state, undef, $err) = $c->try_sql($c->node(1),
		"SET quorum.commit_timeout = '$wait'; INSERT INTO t VALUES (-1) ON CONFLICT DO NOTHING");
	like($state, qr/^(?:55000|40003)$/, "majority down, commit_timeout $wait: 55000 or 40003") or diag($err);
	cmp_ok(QuorumCluster::now() - $begun, '<', 3 + 30, 'within commit_timeout, and some');
	like($err, qr/HINT/, 'an unknown outcome names its token') if $state eq '40003';
}
is($c->poll_no_quorum($c->node(1)), 1, 'status says that there is no quorum');
is(($c->try_sql($c->node(1), 'INSERT INTO ordinary VALUES (1)'))[0], '', 'ordinary tables can be written');
is($c->node(1)->safe_psql($db, 'SELECT count(*) FROM t WHERE id > 0'), $n, 'replicated tables can be read');
is(($c->try_sql($c->node(1), 'BEGIN; INSERT INTO t VALUES (-2); ROLLBACK;'))[0], '', 'ROLLBACK needs no quorum');
# a commit that waits goes through when the majority is back
my $waiting = $c->node(1)->background_psql($db, on_error_stop => 0);
$waiting->query_until(qr/begun/, "\\echo begun\nINSERT INTO t VALUES (" . ++$n . ");\n\\echo ended\n");
$c->restart($c->node(2), $c->node(3));
$c->wait_for_leader;
$c->wait_until('the waiting commit is through',
	sub { $c->ask($c->node(2), "SELECT count(*) FROM t WHERE id = $n") eq '1' });
$waiting->quit;
all_there('majority back');
$c->node(1)->safe_psql($db, 'DELETE FROM t WHERE id < 0');

# --- a full disk ---

for my $who ('follower', 'leader')
{
	my $leader = $c->wait_for_leader;
	my $node = $who eq 'leader' ? $leader : ($c->others($leader))[0];
	my ($other) = $c->others($node);

	$c->fault($node, 'full');
	# enough to need new space in the log; the others take it
	for (1 .. 3)
	{
		my ($state, undef, $err) = $c->try_sql($other, sprintf
			"INSERT INTO t SELECT g FROM generate_series(%d, %d) g", $n + 1, $n + 2000);
		is($state, '', "disk of the $who full: writes go on") or diag($err);
		$n += 2000;
	}
	ok($c->log_matches($node, qr/No space left on device/), "disk of the $who full: its log says so");
	is($node->safe_psql($db, 'SELECT 1'), '1', "disk of the $who full: the server answers");
	$c->no_fault($node, 'full');
	ok($c->log_matches($node, qr/there is space for the log of this member again/),
		"space on the $who again: it notices by itself");
	$node->stop('fast');
	$c->restart($node);
	all_there("space on the $who again");
}

# --- a clock that is off ---

$c->fault($c->node(2), clock => 200_000);
write_on($_, 'a clock 0.2 s ahead') for $c->nodes;
all_there('a clock 0.2 s ahead');
for my $offset (3_600_000_000, -3_600_000_000)
{
	my $leader = $c->wait_for_leader;
	my ($node, $other) = $c->others($leader);
	my $what = $offset > 0 ? 'a clock an hour ahead' : 'a clock an hour behind';

	$c->fault($node, clock => $offset);
	write_on($_, $what) for $leader, $other;
	ok($c->log_matches($node, qr/clock|offset/i) || $c->log_matches($leader, qr/clock|offset/i),
		"$what: a log says so");
	is($node->safe_psql($db, 'SELECT count(*) > 0 FROM t'), 't', "$what: that server can be read");
	$c->no_fault($node, 'clock');
	$node->stop('fast');
	$c->restart($node);
	all_there("$what, and right again");
}
$c->no_fault($c->node(2), 'clock');

# --- settings that changed between restarts ---

my $node = $c->node(3);
$node->stop('fast');
$node->append_conf('postgresql.conf', "quorum.node_name = 'renamed'\n");
$c->restart($node);
is($node->safe_psql($db, 'SELECT 1'), '1', 'another node name: the server starts');
ok($c->log_matches($node, qr/quorum\.node_name|renamed/), 'and the log says what is wrong');
write_on($c->node(1), 'another node name');
$node->stop('fast');
$node->append_conf('postgresql.conf', "quorum.node_name = 'n3'\nquorum.election_timeout = '700ms'\n");
$c->restart($node);
all_there('the old name again');
$node->stop('fast');
$node->append_conf('postgresql.conf', "quorum.database = 'no_such_database'\n");
$c->restart($node);
is($node->safe_psql($db, 'SELECT 1'), '1', 'another database: the server starts');
ok($c->log_matches($node, qr/no_such_database/), 'and the log names it');
write_on($c->node(1), 'another database');
$node->stop('fast');
$node->append_conf('postgresql.conf', "quorum.database = 'postgres'\n");
$c->restart($node);
all_there('the old database again');
# not preloaded: ordinary, but for the functions of the extension
$node->stop('fast');
$node->append_conf('postgresql.conf', "shared_preload_libraries = ''\n");
$c->restart($node);
$c->fails_with($node, 'SELECT quorum.create_cluster()', '55000', qr/shared_preload_libraries/,
	'not preloaded: the message names the setting');
isnt(($c->try_sql($node, 'INSERT INTO t VALUES (-9)'))[0], '', 'not preloaded: replicated tables are not written behind the back');
write_on($c->node(2), 'one member is not preloaded');
$node->stop('fast');
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'pg_quorum'\n");
$c->restart($node);
all_there('preloaded again');

# --- a data directory restored from an old copy ---

my $copy = $node->basedir . '/old_copy';
$node->stop('fast');
PostgreSQL::Test::RecursiveCopy::copypath($node->data_dir, $copy);
$c->restart($node);
$c->settle;
write_on($_, 'after the copy') for $c->nodes;
$c->settle;
my $before = $n;
$node->stop('fast');
PostgreSQL::Test::Utils::system_or_bail('rm', '-rf', $node->data_dir);
PostgreSQL::Test::RecursiveCopy::copypath($copy, $node->data_dir);
chmod 0700, $node->data_dir;
$c->restart($node);
# It has forgotten what it acknowledged: it must not help to elect a leader that
# lacks it. With the one server gone that has everything, no acknowledged row
# may be missing from whatever goes on.
$c->wait_until('the old copy is known for what it is, or has caught up',
	sub { $c->ask($node, "SELECT role IN ('fenced', 'stopped') OR applied_index >= commit_index FROM quorum.status") eq 't' });
my $role = $c->ask($node, 'SELECT role FROM quorum.status');
note("an old copy comes back as $role");
write_on($c->node(1), 'an old copy came back');
if ($role eq 'fenced' || $role eq 'stopped')
{
	isnt($c->ask($node, 'SELECT detail FROM quorum.status'), '', 'and status says why');
	$c->settle($c->node(1), $c->node(2));
	$c->tables_equal('t', 'the others are equal', $c->node(1), $c->node(2));
	is($c->node(1)->safe_psql($db, "SELECT count(*) FROM t WHERE id BETWEEN 1 AND $n"), $n,
		'and have every acknowledged row');
}
else
{
	all_there('an old copy has caught up');
}

for my $server ($c->nodes)
{
	unlike(slurp_file($server->logfile), qr/PANIC|TRAP:|was terminated by signal (?:6|11)/,
		$server->name . ' logged no crash of its own making');
}

done_testing();
