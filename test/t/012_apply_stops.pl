# What cannot be applied is never skipped: the apply worker stops there, says
# why, and goes on by itself when the cause is gone. The server goes on, too.
use strict;
use warnings;

use PostgreSQL::Test::Utils;
use QuorumCluster;
use Test::More;

my $db = $QuorumCluster::DB;
my $c = QuorumCluster->new(nodes => 3);
my $node = $c->node(3);

$c->found;
$c->everywhere('CREATE TABLE t (id int PRIMARY KEY, v text)');
$c->add_tables('t');
$c->node(1)->safe_psql($db, q(INSERT INTO t SELECT g, 'x' FROM generate_series(1, 20) g));
$c->settle;

sub stops
{
	my ($what, $pattern) = @_;

	$c->wait_until("$what: status says why",
		sub { $c->ask($node, 'SELECT detail FROM quorum.status') =~ $pattern });
	pass("$what: status says why");
	ok($c->log_matches($node, qr/could not apply entry \d+: .*$pattern/), "$what: the server's log too");
	is($node->safe_psql($db, 'SELECT count(*) > 0 FROM t'), 't', "$what: the table can be read");
	my ($state) = $c->try_sql($c->node(1), q(UPDATE t SET v = 'on' WHERE id = 20));
	is($state, '', "$what: the others go on");
}

sub goes_on
{
	my ($what) = @_;

	$c->settle;
	$c->tables_equal('t', "$what: equal when the cause is gone");
	$c->comes_to_be($node, q(SELECT coalesce(detail, 'nothing') FROM quorum.status), 'nothing', "$what: nothing in the status");
}

# --- a table that is missing here, then one that is different ---

# it is down when the others are asked, or the table would not be added
$node->stop('fast');
$c->node($_)->safe_psql($db, 'CREATE TABLE elsewhere (id int PRIMARY KEY)') for 1, 2;
$c->wait_for_leader($c->node(1), $c->node(2));
like(($c->try_sql($c->node(1), q(SELECT quorum.add_table('elsewhere'))))[2], qr/WARNING.*"n3" could not be asked/,
	'a member that could not be asked is named');
$c->restart($node);
stops('a table that is missing', qr/elsewhere.* does not exist/);
$node->safe_psql($db, 'CREATE TABLE elsewhere (id bigint PRIMARY KEY)');
stops('a table that is different', qr/defined differently/);
my $before = () = slurp_file($node->logfile) =~ /could not apply entry/g;
$node->safe_psql($db, 'DROP TABLE elsewhere; CREATE TABLE elsewhere (id int PRIMARY KEY)');
goes_on('a table that was missing');
cmp_ok($before, '<', 10, 'the log is not filled with it');

# --- rows that are not what the log makes of them ---

# Without the library nobody watches; the triggers have to be taken away by hand.
sub behind_the_back
{
	my ($sql) = @_;

	$node->stop('fast');
	$node->append_conf('postgresql.conf', "shared_preload_libraries = ''\n");
	$c->restart($node);
	$node->safe_psql($db, qq(BEGIN; ALTER TABLE t DISABLE TRIGGER ALL; $sql;
		ALTER TABLE t ENABLE ALWAYS TRIGGER "!pg_quorum_capture";
		ALTER TABLE t ENABLE ALWAYS TRIGGER "!pg_quorum_truncate"; COMMIT));
	$node->stop('fast');
	$node->append_conf('postgresql.conf', "shared_preload_libraries = 'pg_quorum'\n");
	$c->restart($node);
}

behind_the_back('DELETE FROM t WHERE id = 7');
$c->node(1)->safe_psql($db, q(UPDATE t SET v = 'changed' WHERE id = 7));
stops('a lost row', qr/row to be updated is missing from table "t"/);
# a restart does not make it forget
$node->stop('fast');
$c->restart($node);
stops('a lost row, after a restart', qr/row to be updated is missing from table "t"/);
behind_the_back(q(INSERT INTO t VALUES (7, 'x')));
goes_on('a lost row');

$c->behind_the_back($node, q(INSERT INTO t VALUES (99, 'x')));
$c->node(1)->safe_psql($db, q(INSERT INTO t VALUES (99, 'new')));
stops('a row too many', qr/a row of the log does not fit into table "t": duplicate key value violates unique constraint "t_pkey"/);
$c->behind_the_back($node, q(DELETE FROM t WHERE id = 99));
goes_on('a row too many');
$c->behind_the_back($node, q(DELETE FROM t WHERE id = 9));
$c->node(2)->safe_psql($db, q(DELETE FROM t WHERE id = 9));
stops('a lost row that is deleted', qr/row to be deleted is missing from table "t"/);
$c->behind_the_back($node, q(INSERT INTO t VALUES (9, 'x')));
goes_on('a lost row that is deleted');

# --- the worker itself ---

my $pid = $node->safe_psql($db, q(SELECT pid FROM pg_stat_activity WHERE backend_type = 'pg_quorum apply worker'));
my $postmaster = slurp_file($node->data_dir . '/postmaster.pid');
is($node->safe_psql($db, "SELECT pg_terminate_backend($pid)"), 't', 'the apply worker is terminated');
$c->wait_until('another apply worker', sub {
	my $new = $c->ask($node, q(SELECT pid FROM pg_stat_activity WHERE backend_type = 'pg_quorum apply worker'));
	return $new ne '' && $new ne $pid });
$c->node(2)->safe_psql($db, q(UPDATE t SET v = 'terminated'));
goes_on('a terminated worker');
$pid = $node->safe_psql($db, q(SELECT pid FROM pg_stat_activity WHERE backend_type = 'pg_quorum apply worker'));
$node->safe_psql($db, "SELECT pg_cancel_backend($pid)") for 1 .. 3;
$c->node(2)->safe_psql($db, q(UPDATE t SET v = 'cancelled'));
goes_on('a cancelled worker');
unlike(slurp_file($node->logfile), qr/terminating any other active server processes/,
	'none of this restarted the server');

$_->stop('fast') for $c->nodes;
unlike(slurp_file($_->logfile), qr/PANIC|TRAP:|was terminated by signal/, $_->name . ' logged no crash')
  for $c->nodes;

done_testing();
