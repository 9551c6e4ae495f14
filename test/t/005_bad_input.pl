# What users do that cannot be done: each is refused with the SQLSTATE of the
# manual and changes nothing.
use strict;
use warnings;

use PostgreSQL::Test::Utils;
use QuorumCluster;
use Test::More;

my $db = $QuorumCluster::DB;
my $c = QuorumCluster->new(nodes => 3);
my $n = 0;

# The cluster still takes writes, on this server, and all see them.
sub still_works
{
	my ($node, $what) = @_;
	my ($state, undef, $err) = $c->try_sql($node, 'INSERT INTO t VALUES (' . ++$n . ", 'still')");

	is($state, '', "$what: the cluster still takes writes") or diag($err);
	$c->settle;
	$c->tables_equal('t', "$what: tables equal");
}

$c->found;
$c->everywhere(q(
	CREATE TABLE t (id int PRIMARY KEY, note text);
	CREATE TABLE no_key (a int, b text);
	CREATE TABLE outside (id int PRIMARY KEY);
	CREATE TABLE refers (id int PRIMARY KEY, o int REFERENCES outside);
	CREATE TABLE nothing (id int PRIMARY KEY);
	ALTER TABLE nothing REPLICA IDENTITY NOTHING;
	CREATE UNLOGGED TABLE unlogged (id int PRIMARY KEY);
	CREATE VIEW v AS SELECT 1 AS id;
	CREATE ROLE somebody LOGIN;
	GRANT SELECT, INSERT, UPDATE ON t TO somebody;
));
$c->add_tables('t');

# Tables that cannot be replicated
$c->fails_with($c->node(1), q(SELECT quorum.add_table('no_key')), '0A000',
	qr/primary key.*HINT/si, 'a table without a key is refused');
$c->fails_with($c->node(2), q(SELECT quorum.add_table('refers')), '0A000',
	qr/outside/, 'a foreign key to a table that is not replicated is refused');
isnt(($c->try_sql($c->node(1), "SELECT quorum.add_table('$_')"))[0], '', "add_table('$_') is refused")
  for qw(v unlogged pg_class quorum.status);
is(($c->try_sql($c->node(1), q(SELECT quorum.add_table('not_there'))))[0],
	'42P01', 'a table that does not exist');
is(($c->try_sql($c->node(1), q(SET ROLE somebody; SELECT quorum.add_table('t'))))[0],
	'42501', 'neither owner nor quorum_admin');
is(($c->try_sql($c->node(1), q(SET ROLE somebody; SELECT quorum.remove_member('n3'))))[0],
	'42501', 'members are not for everybody');
is(($c->try_sql($c->node(1), q(SET ROLE somebody; INSERT INTO t VALUES (-1, 'as somebody');)))[0],
	'', 'a plain role can write a replicated table');
still_works($c->node(2), 'refused tables');

# Write set over the limit
$c->fails_with($c->node(2), q(SET quorum.max_transaction_size = '1MB';
	INSERT INTO t SELECT g, repeat('x', 1000) FROM generate_series(100000, 110000) g),
	'54000', undef, 'a write set over the limit is refused');
is($c->node(2)->safe_psql($db, 'SELECT count(*) FROM t WHERE id >= 100000'), '0', 'and leaves nothing');
is(($c->try_sql($c->node(2), q(SET ROLE somebody; SET quorum.max_transaction_size = '1GB')))[0],
	'42501', 'the limit is for superusers to change');
is(($c->try_sql($c->node(2), q(INSERT INTO t SELECT g, repeat('x', 1000) FROM generate_series(100000, 110000) g)))[0],
	'', 'the same goes through under the default limit');
$c->node(3)->safe_psql($db, 'SELECT 1');
$c->settle;
is(($c->try_sql($c->node(3), 'DELETE FROM t WHERE id >= 100000'))[0], '', 'and can be deleted elsewhere');
still_works($c->node(3), 'large write sets');

# Arguments
for my $bad ('', 'nonsense', '1:2', '9999-1-1', 'x' x 5000, "\x{7f}")
{
	my ($state) = $c->try_sql($c->node(1), "SELECT quorum.outcome('$bad')");
	is($state, '22023', 'outcome() of garbage: ' . substr($bad, 0, 10));
}
for my $bad ('', 'nohost', 'localhost:', ':1', '127.0.0.1:0', '127.0.0.1:65536', '127.0.0.1:12x')
{
	my ($state) = $c->try_sql($c->node(1), "SELECT quorum.join_cluster('$bad')");
	isnt($state, '', "join_cluster('$bad') is refused");
	unlike($state, qr/^XX/, 'and by no internal error');
}
isnt(($c->try_sql($c->node(1), q(SELECT quorum.remove_member('nobody'))))[0], '', 'remove_member of nobody');
isnt(($c->try_sql($c->node(1), q(SELECT quorum.transfer_leadership('nobody'))))[0], '', 'leadership to nobody');
isnt(($c->try_sql($c->node(1), q(SELECT quorum.execute_ddl('ALTER TABLE t ADD COLUMN'))))[0],
	'', 'execute_ddl of a syntax error');
isnt(($c->try_sql($c->node(1), q(SELECT quorum.execute_ddl('VACUUM t'))))[0],
	'', 'execute_ddl of what cannot run in a transaction');
still_works($c->node(1), 'bad arguments');

# Two servers with one name
my $twin = $c->add_node(name => 'twin', conf => "quorum.node_name = 'n2'\n");
$twin->start;
$twin->safe_psql($db, "CREATE EXTENSION pg_quorum; CREATE TABLE t (id int PRIMARY KEY, note text)");
my ($state, undef, $err) = $c->try_sql($twin, sprintf "SELECT quorum.join_cluster('%s')", $c->address($c->node(1)));
isnt($state, '', 'a name that is taken is refused');
like($err, qr/name/i, 'and the message says so');
$twin->stop('fast');
pop @{ $c->{nodes} };
is($c->node(1)->safe_psql($db, 'SELECT count(*) FROM quorum.members'), '3', 'still three members');
still_works($c->node(2), 'a twin');

# Joining nobody
my $lonely = $c->add_node;
$lonely->start;
$lonely->safe_psql($db, 'CREATE EXTENSION pg_quorum');
($state) = $c->try_sql($lonely, sprintf "SELECT quorum.join_cluster('127.0.0.1:%d')",
	PostgreSQL::Test::Cluster::get_free_port());
isnt($state, '', 'joining where nobody listens is refused');
is($lonely->safe_psql($db, 'SELECT cluster_id IS NULL FROM quorum.status'), 't', 'and leaves the server alone');
$lonely->stop('fast');
pop @{ $c->{nodes} };

# The extension dropped while in use: refused or clean
($state) = $c->try_sql($c->node(3), 'DROP EXTENSION pg_quorum');
isnt($state, 'XX000', 'DROP EXTENSION on a member is no internal error');
is($c->node(3)->safe_psql($db, 'SELECT 1'), '1', 'the server lives');
is(($c->try_sql($c->node(1), "INSERT INTO t VALUES (" . ++$n . ", 'drop')"))[0], '', 'the others go on');
if ($state ne '')
{
	still_works($c->node(3), 'DROP EXTENSION refused');
	isnt(($c->try_sql($c->node(3), 'DROP EXTENSION pg_quorum CASCADE'))[0], 'XX000', 'nor with CASCADE');
	is(($c->try_sql($c->node(1), "INSERT INTO t VALUES (" . ++$n . ", 'drop')"))[0], '', 'the others go on');
}

for my $node ($c->nodes)
{
	unlike(slurp_file($node->logfile), qr/PANIC|TRAP:|was terminated by signal/,
		$node->name . ' logged no crash');
}

done_testing();
