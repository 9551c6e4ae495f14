# Tables larger than a transaction may be, added while they are written: in chunks,
# all or nothing, whoever goes away in the middle.
use strict;
use warnings;

use PostgreSQL::Test::Utils;
use QuorumCluster;
use Test::More;

my $db = $QuorumCluster::DB;
my $c = QuorumCluster->new(nodes => 3, conf => "quorum.max_transaction_size = '256kB'\n");

# On all members, with rows on one; about 100 bytes a row.
sub table
{
	my ($name, $rows, $node) = @_;

	$c->everywhere("CREATE TABLE $name (id int PRIMARY KEY, v text, u int UNIQUE)");
	$node->safe_psql($db, "INSERT INTO $name SELECT g, md5(g::text) || repeat('x', 50), g FROM generate_series(1, $rows) g");
}

# A session that adds the table, held by a lock of its own before the last step,
# once all but the last rows are copied.
sub held
{
	my ($name, $node) = @_;
	my $writer = $node->background_psql($db, on_error_stop => 0);
	my $adder = $node->background_psql($db, on_error_stop => 0);

	$writer->query("BEGIN; UPDATE $name SET v = 'uncommitted' WHERE id = 1");
	$adder->query_until(qr/begun/, "\\set VERBOSITY verbose\n\\echo begun\nSELECT quorum.add_table('$name');\n");
	$c->wait_until("$name: all but the last rows are copied", sub {
		$c->ask($node, "SELECT count(*) FROM pg_locks WHERE relation = '$name'::regclass AND mode = 'ShareRowExclusiveLock' AND NOT granted") eq '1'
	});
	return ($writer, $adder);
}

sub is_clean
{
	my ($what) = @_;

	$c->wait_until("$what: the copies are gone", sub {
		!grep { $c->ask($_, 'SELECT (SELECT count(*) FROM quorum.add_table_progress) + (SELECT count(*) FROM quorum.table_copy_chunk)') ne '0' } $c->nodes
	});
}

sub is_not_added
{
	my ($name, $what) = @_;

	is($c->ask($_, "SELECT count(*) FROM quorum.tables WHERE table_name = '$name'"), '0', "$what: not added, says " . $_->name) for $c->nodes;
}

# A change of the leader may take the very last commit with it, as any other: then again.
sub add_unless_added
{
	my ($name, $node, $what) = @_;

	$c->settle;
	add($name, $node, $what) if $c->ask($node, "SELECT count(*) FROM quorum.tables WHERE table_name = '$name'") eq '0';
	$c->tables_equal($name, $what);
}

sub add
{
	my ($name, $node, $what) = @_;
	my ($state, undef, $err);

	# whatever is going on: as an administrator would
	$c->wait_until("$what: added", sub {
		($state, undef, $err) = $c->try_sql($node, "SELECT quorum.add_table('$name')");
		return $state !~ /^(?:40001|40003|40P01|55000|57P\d\d|08\d\d\d|XX.*)$/;
	});
	is($state, '', "$what: added") or diag($err);
	$c->settle;
	$c->tables_equal($name, "$what: the same everywhere");
}

$c->found;
my ($one, $two, $three) = $c->nodes;
$c->everywhere($QuorumCluster::LOAD_SCHEMA);
$c->add_tables('load', 'load_counter');
my $load = $c->start_load(clients => 3, mode => 'insert');
$c->wait_until('the load runs', sub { $c->acknowledged($load) > 20 });

# --- written all the time ---

table('written', 20000, $two);
my $writer = $two->background_psql($db, on_error_stop => 0);
$writer->query(q(CREATE PROCEDURE pg_temp.write() LANGUAGE plpgsql AS $$ BEGIN
	FOR i IN 1 .. 200 LOOP
		UPDATE written SET v = 'updated ' || i WHERE id = i * 7;
		INSERT INTO written VALUES (100000 + i, 'new', -i);
		DELETE FROM written WHERE id = 10000 + i;
		-- unique values that change hands
		UPDATE written SET u = NULL WHERE id = 15000 + i;
		UPDATE written SET u = 15000 + i WHERE id = 17000 + i;
		COMMIT;
	END LOOP; END $$;));
$writer->query_until(qr/begun/, "\\echo begun\nCALL pg_temp.write();\n");
my ($state, undef, $err) = $c->try_sql($two, q(SELECT quorum.add_table('written')));
is($state, '', 'a table several times larger than a transaction') or diag($err);
like($err, qr/NOTICE.*table "written": \d+ rows \(.*\) copied to all members/, 'and how much it was');
$writer->query('SELECT 1');
$writer->quit;
$c->settle;
$c->tables_equal('written', 'rows that were there and rows written meanwhile');
is($one->safe_psql($db, q(SELECT count(*), count(*) FILTER (WHERE v = 'new'), count(*) FILTER (WHERE v LIKE 'updated%') FROM written)),
	'20000|200|200', 'all of them');
is_clean('written');

# --- writers go on until the end, and nobody sees a part ---

table('seen', 6000, $one);
my ($holder, $adder) = held('seen', $one);
is($c->ask($two, 'SELECT count(*) FROM seen'), '0', 'nothing to be seen elsewhere');
$c->comes_to_be($three, q(SELECT node_name || phase || (rows >= 6000) || (bytes > 500000) FROM quorum.add_table_progress), 'n1copyingtruetrue',
	'how far it is, on any member');
$holder->query('COMMIT');
$adder->query('SELECT 1');
$_->quit for $holder, $adder;
$c->settle;
$c->tables_equal('seen', 'with what was committed last');
is($two->safe_psql($db, q(SELECT count(*), count(*) FILTER (WHERE v = 'uncommitted') FROM seen)), '6000|1', 'all rows');
is_clean('seen');

# --- partitions, generated columns, large values ---

$c->everywhere(q(
	CREATE TABLE cut (a int, b int, big text, g int GENERATED ALWAYS AS (a * 2) STORED, PRIMARY KEY (a, b)) PARTITION BY RANGE (a);
	CREATE TABLE cut_1 PARTITION OF cut FOR VALUES FROM (0) TO (1000);
	CREATE TABLE cut_2 (b int NOT NULL, dropped int, big text, a int NOT NULL, g int GENERATED ALWAYS AS (a * 2) STORED);
	ALTER TABLE cut_2 DROP dropped;
	ALTER TABLE cut ATTACH PARTITION cut_2 FOR VALUES FROM (1000) TO (2000);));
$one->safe_psql($db, q(INSERT INTO cut (a, b, big) SELECT g, g, repeat(md5(g::text), CASE WHEN g % 100 = 0 THEN 5000 ELSE 20 END) FROM generate_series(0, 1999) g));
add('cut', $one, 'a partitioned one');
is($three->safe_psql($db, 'SELECT count(*), sum(g), max(length(big)) FROM cut'), '2000|3998000|160000', 'values and all');

# --- refused ---

table('refused', 6000, $one);
$three->safe_psql($db, q(INSERT INTO refused VALUES (77, 'other', 1)));
$c->fails_with($one, q(SELECT quorum.add_table('refused')), '55000', qr/has rows on member "n3"/, 'rows elsewhere, before');
$three->safe_psql($db, 'TRUNCATE refused');
($holder, $adder) = held('refused', $one);
$three->safe_psql($db, q(INSERT INTO refused VALUES (77, 'other', 1)));
$holder->query('COMMIT');
$adder->query('SELECT 1');
like($adder->{stderr}, qr/55000.*has rows on member "n3"/, 'rows elsewhere, meanwhile');
$_->quit for $holder, $adder;
is_not_added('refused', 'rows elsewhere');
is_clean('refused');
$three->safe_psql($db, 'TRUNCATE refused');

# --- cancelled, rolled back, terminated ---

($holder, $adder) = held('refused', $one);
$one->safe_psql($db, q(SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query LIKE '%add_table%' AND pid <> pg_backend_pid()));
$adder->query('SELECT 1');
like($adder->{stderr}, qr/57014/, 'a cancel');
$_->quit for $holder, $adder;
is_not_added('refused', 'a cancel');
is_clean('a cancel');
is(($c->try_sql($one, q(BEGIN; SAVEPOINT a; SELECT quorum.add_table('refused'); ROLLBACK TO a; COMMIT)))[0], '', 'a savepoint');
is_not_added('refused', 'a savepoint');
is_clean('a savepoint');
($holder, $adder) = held('refused', $one);
$one->safe_psql($db, q(SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%add_table%' AND pid <> pg_backend_pid()));
is_clean('terminated');
is_not_added('refused', 'terminated');
$holder->quit;
add('refused', $one, 'after all that');
is_clean('after all that');

my $ops = $c->stop_load($load);
my %errors;
for my $op (values %$ops)
{
	$errors{ $op->{state} }++ if $op->{verdict} ne 'A' && $op->{state} !~ /^(?:40001|open)$/;
}
is_deeply(\%errors, {}, 'no client saw any of it');

# --- the commit here fails when the entry is in the log: it is applied here, too ---

table('late', 6000, $two);
is(($c->try_sql($two, q(BEGIN; CREATE TEMP TABLE a (id int PRIMARY KEY) ON COMMIT DELETE ROWS; CREATE TEMP TABLE b (a int REFERENCES a);
	SELECT quorum.add_table('late'); COMMIT)))[0], '40003', 'a commit that fails late');
$c->settle;
$c->tables_equal('late', 'a commit that fails late');
is($two->safe_psql($db, 'SELECT count(*) FROM late'), '6000', 'with all rows');
is_clean('a commit that fails late');

# --- crashes in the middle: of a receiving member, of the leader, of the caller's server ---

table('crash', 6000, $one);
($holder, $adder) = held('crash', $one);
my $receiver = (grep { $_->name ne $c->leader->name } $two, $three)[0];
$c->kill9($receiver);
$holder->query('COMMIT');
$adder->query('SELECT 1');
$_->quit for $holder, $adder;
$c->restart($receiver);
add_unless_added('crash', $one, 'a receiver crashes');
is_clean('a receiver crashes');

# the leader, with the call on another member
my $leader = $c->leader;
my $caller = ($c->others($leader))[0];
table('leader', 6000, $caller);
($holder, $adder) = held('leader', $caller);
$c->kill9($leader);
$holder->query('COMMIT');
$adder->query('SELECT 1');
$_->quit for $holder, $adder;
$c->restart($leader);
add_unless_added('leader', $caller, 'the leader crashes');
is($leader->safe_psql($db, 'SELECT count(*) FROM leader'), '6000', 'the leader has it, too');
is_clean('the leader crashes');

# the caller's server
table('caller', 6000, $two);
($holder, $adder) = held('caller', $two);
$c->kill9($two);
eval { $_->quit for $holder, $adder; };
$c->restart($two);
$c->settle;
is_clean('the caller crashes');
is_not_added('caller', 'the caller crashes');
is($one->safe_psql($db, 'SELECT count(*) FROM caller'), '0', 'the table is empty elsewhere');
add('caller', $two, 'after a crash of the caller');

# the caller's backend
table('backend', 6000, $three);
($holder, $adder) = held('backend', $three);
my $pid = $three->safe_psql($db, q(SELECT pid FROM pg_stat_activity WHERE query LIKE '%add_table%' AND pid <> pg_backend_pid()));
kill 'KILL', $pid;
eval { $_->quit for $holder, $adder; };
$c->settle;
is_clean('the backend crashes');
is_not_added('backend', 'the backend crashes');
add('backend', $three, 'after a crash of the backend');
is_clean('at the end');

# --- the caller leaves for good ---

table('gone', 6000, $three);
($holder, $adder) = held('gone', $three);
$c->kill9($three);
eval { $_->quit for $holder, $adder; };
$c->wait_until('n3 is removed', sub {
	$c->try_sql($one, q(SELECT quorum.remove_member('n3')));
	return $c->ask($one, q(SELECT count(*) FROM quorum.members WHERE node_name = 'n3')) eq '0' });
$c->remove_node($three);
is_clean('the caller is removed');
add('gone', $one, 'with the rows that another one has: none');

# --- a member that joins in the middle has the chunks with its image ---

$c->everywhere('CREATE TABLE joined (id int PRIMARY KEY, v text, u serial UNIQUE)');
$one->safe_psql($db, q(INSERT INTO joined SELECT g, md5(g::text) || repeat('x', 50) FROM generate_series(1, 6000) g));
($holder, $adder) = held('joined', $one);
my $new = $c->add_node(name => 'n4');
$c->restart($new);
$new->safe_psql($db, 'CREATE EXTENSION pg_quorum; CREATE TABLE joined (id int PRIMARY KEY, v text, u serial UNIQUE)');
$c->join_node($new);
$holder->query('COMMIT');
$adder->query('SELECT 1');
$_->quit for $holder, $adder;
add_unless_added('joined', $one, 'a member joins meanwhile');
is($new->safe_psql($db, q(SELECT count(*) FROM joined WHERE v <> 'uncommitted')), '5999', 'the new one has all rows');
$_->safe_psql($db, q(INSERT INTO joined SELECT 10000 + max(id), 'more' FROM joined)) for $new, $two, $one;
$c->settle;
$c->tables_equal('joined', 'and values of its sequence do not collide');
is_clean('a member joins meanwhile');
is($one->safe_psql($db, 'SELECT bool_and(same) FROM quorum.verify()'), 't', 'says quorum.verify, too');

for my $node ($one, $two)
{
	unlike(slurp_file($node->logfile), qr/PANIC|TRAP:/, $node->name . ' logged no crash');
}

done_testing();
