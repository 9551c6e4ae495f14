# Tables that have rows before they are replicated: copied from the member where
# they are added, while everything else goes on; never merged by luck.
use strict;
use warnings;

use PostgreSQL::Test::Utils;
use QuorumCluster;
use Test::More;

my $db = $QuorumCluster::DB;
my $c = QuorumCluster->new(nodes => 3);

# On all members, with rows on one.
sub table
{
	my ($name, $rows, $node) = @_;

	$c->everywhere("CREATE TABLE $name (id int PRIMARY KEY, v text)");
	$node->safe_psql($db, "INSERT INTO $name SELECT g, 'row ' || g FROM generate_series(1, $rows) g") if $rows;
}

sub is_refused
{
	my ($node, $name, $state, $pattern, $what) = @_;

	$c->fails_with($node, "SELECT quorum.add_table('$name')", $state, $pattern, $what);
	is($node->safe_psql($db, "SELECT count(*) FROM quorum.tables WHERE table_name = '$name'"), '0', "$what: not added");
	$c->settle;
	is($_->safe_psql($db, q(SELECT coalesce(detail, '') FROM quorum.status)), '', "$what: " . $_->name . ' goes on')
	  for $c->nodes;
}

$c->found;
$c->everywhere($QuorumCluster::LOAD_SCHEMA);
$c->add_tables('load', 'load_counter');
my $load = $c->start_load(clients => 3, mode => 'insert');
$c->wait_until('the load runs', sub { $c->acknowledged($load) > 20 });

# --- a table with rows, while it is written ---

table('written', 20000, $c->node(2));
my $writer = $c->node(2)->background_psql($db, on_error_stop => 0);
$writer->query(q(CREATE PROCEDURE pg_temp.write() LANGUAGE plpgsql AS $$ BEGIN
	FOR i IN 1 .. 400 LOOP
		UPDATE written SET v = 'updated ' || i WHERE id = i * 7;
		INSERT INTO written VALUES (100000 + i, 'new');
		DELETE FROM written WHERE id = 10000 + i;
		COMMIT;
	END LOOP; END $$;));
$writer->query_until(qr/begun/, "\\echo begun\nCALL pg_temp.write();\n");
$c->node(2)->safe_psql($db, q(SELECT quorum.add_table('written')));
$writer->query('SELECT 1');
$writer->quit;
$c->settle;
$c->tables_equal('written', 'rows that were there and rows written meanwhile');
is($c->node(1)->safe_psql($db, q(SELECT count(*), count(*) FILTER (WHERE v = 'new') FROM written)), '20000|400', 'all of them');

# --- what does not fit elsewhere ---

table('twice', 10, $c->node(1));
$c->node(3)->safe_psql($db, q(INSERT INTO twice VALUES (77, 'other')));
is_refused($c->node(1), 'twice', '55000', qr/has rows on member "n3"/, 'rows on two members');
is_refused($c->node(2), 'twice', '55000', qr/has rows on member "n[13]"/, 'rows elsewhere only');
$c->node(3)->safe_psql($db, 'TRUNCATE twice');
$c->node(1)->safe_psql($db, q(SELECT quorum.add_table('twice')));
$c->settle;
$c->tables_equal('twice', 'with the rows of one');
$c->node($_)->safe_psql($db, 'CREATE TABLE uneven (id int PRIMARY KEY, v text)') for 1, 2;
is_refused($c->node(1), 'uneven', '42P01', qr/does not exist on member "n3"/, 'missing on one member');
$c->node(3)->safe_psql($db, 'CREATE TABLE uneven (id int PRIMARY KEY, v text, CHECK (id > 0))');
is_refused($c->node(2), 'uneven', '55000', qr/defined differently on member "n3".*CHECK/s, 'another constraint on one member');
$c->node(3)->safe_psql($db, 'DROP TABLE uneven; CREATE VIEW uneven AS SELECT 1 AS id');
is_refused($c->node(1), 'uneven', '42P01', qr/does not exist on member "n3"/, 'no table on one member');
$c->node(3)->safe_psql($db, 'DROP VIEW uneven; CREATE TABLE uneven (id int PRIMARY KEY, v text)');
$c->node(3)->safe_psql($db, q(SELECT quorum.add_table('uneven')));
# locked by somebody on another member
table('locked', 5, $c->node(1));
my $locker = $c->node(2)->background_psql($db);
$locker->query('BEGIN; LOCK TABLE locked;');
$c->node(1)->safe_psql($db, q(SET statement_timeout = '30s'; SELECT quorum.add_table('locked')));
$locker->quit;
$c->settle;
$c->tables_equal('locked', 'a lock elsewhere does not stop it for good');

# --- two at once, of the same table and of others ---

table($_, 100, $c->node(1)) for qw(a b);
my @racers = map { my $p = $_->background_psql($db, on_error_stop => 0); $p } $c->node(1), $c->node(1);
$racers[0]->query_until(qr/begun/, "\\echo begun\nSELECT quorum.add_table('a');\n");
$racers[1]->query_until(qr/begun/, "\\echo begun\nSELECT quorum.add_table('a');\n");
$_->query('SELECT 1') for @racers;
$_->quit for @racers;
is($c->node(1)->safe_psql($db, q(SELECT count(*) FROM quorum.tables WHERE table_name = 'a')), '1', 'added once');
$c->settle;
$c->tables_equal('a', 'by two at once');

my $ops = $c->stop_load($load);
my %errors;
for my $op (values %$ops)
{
	$errors{ $op->{state} }++ if $op->{verdict} ne 'A' && $op->{state} !~ /^(?:40001|open)$/;
}
is_deeply(\%errors, {}, 'no client saw any of it');
$c->settle;
$c->tables_equal([qw(load written twice uneven)], 'all equal');
is($c->node(2)->safe_psql($db, 'SELECT bool_and(same) FROM quorum.verify()'), 't', 'says quorum.verify, too');

for my $node ($c->nodes)
{
	unlike(slurp_file($node->logfile), qr/PANIC|TRAP:|was terminated by signal/, $node->name . ' logged no crash');
}

done_testing();
