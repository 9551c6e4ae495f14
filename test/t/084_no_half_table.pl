# While a server loads its tables because it joins, nobody else takes what is there
# of them for a table: whatever the statement, over a crash, and in snapshots
# that were taken meanwhile.
use strict;
use warnings;

use PostgreSQL::Test::Utils;
use QuorumCluster;
use Test::More;

my $db = 'postgres';
my $c = QuorumCluster->new(nodes => 1);

$c->found;
my $one = $c->node(1);
$one->safe_psql($db, q(
	CREATE TABLE big (id int PRIMARY KEY, body text);
	CREATE TABLE parts (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);
	CREATE TABLE parts_low PARTITION OF parts FOR VALUES FROM (MINVALUE) TO (100);
	CREATE TABLE parts_high PARTITION OF parts FOR VALUES FROM (100) TO (MAXVALUE);
	CREATE TABLE held (id int PRIMARY KEY, v text);
	CREATE TABLE there (id int PRIMARY KEY, v text);
));
$c->add_tables(qw(big parts held there));
$one->safe_psql($db, q(
	INSERT INTO big SELECT i, repeat(md5(i::text), 4) FROM generate_series(1, 2000) i;
	INSERT INTO parts SELECT i, 'v' FROM generate_series(1, 200) i;
	INSERT INTO held SELECT i, 'v' FROM generate_series(1, 10) i;
	INSERT INTO there SELECT i, 'v' FROM generate_series(1, 10) i;
));

# On the new server one table's copy does not end before we say so.
my $new = $c->add_node;
my $join = sprintf "SELECT quorum.join_cluster('%s')", $c->address($one);
$c->restart($new);
$new->safe_psql($db, q(
	CREATE EXTENSION pg_quorum;
	CREATE TABLE there (id int PRIMARY KEY, v text);
	CREATE TABLE own (id int);
	CREATE TABLE refers (id int REFERENCES there);
	CREATE VIEW over_there AS SELECT * FROM there;
	CREATE FUNCTION sums(name text) RETURNS bigint LANGUAGE plpgsql AS
		$$ DECLARE n bigint; BEGIN EXECUTE format('SELECT count(*) FROM %I', name) INTO n; RETURN n; END $$;
	CREATE TABLE hold (name text);
	CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS $$
	BEGIN
		WHILE EXISTS (SELECT FROM public.hold WHERE name = NEW.table_name) LOOP PERFORM pg_sleep(0.02); END LOOP;
		RETURN NEW;
	END $$;
	CREATE TRIGGER hold BEFORE UPDATE ON quorum._image_table FOR EACH ROW EXECUTE FUNCTION hold();
	ALTER TABLE quorum._image_table ENABLE ALWAYS TRIGGER hold;
	INSERT INTO hold VALUES ('held');
));
# a transaction from before that has read the empty table, and goes on
my $early = $new->background_psql($db, on_error_stop => 0);
is($early->query('BEGIN; SELECT count(*) FROM there;'), '0', 'it was an ordinary, empty table');

sub start_joining
{
	my $session = $new->background_psql($db, on_error_stop => 0);

	$session->query_until(qr/begun/, "\\echo begun\n$join;\n\\echo ended\n");
	return $session;
}

# all tables but one are done
sub is_held
{
	my $done = $c->ask($new, q(SELECT string_agg(table_name, ' ') FROM quorum._image_table WHERE NOT done));

	return $done eq 'held';
}

sub has_joined { return $c->ask($new, q(SELECT role FROM quorum.status)) eq 'follower'; }

my $session = start_joining();
$c->wait_until('all tables but one are loaded', \&is_held);

# --- every way to a table ---

$early->{stderr} = '';
$early->query('SELECT count(*) FROM there;');
like($early->{stderr}, qr/is being loaded/, 'no part of it is seen by a transaction that was there before');
$early->quit;

my $loading = qr/is being loaded with the cluster's rows.*DETAIL:.*HINT:.*join_progress/s;
my %refused = (
	'SELECT' => 'SELECT count(*) FROM big',
	'the same, from a partition' => 'SELECT count(*) FROM parts_low',
	'the same, from all partitions' => 'SELECT count(*) FROM parts',
	'a table that was there before' => 'SELECT count(*) FROM there',
	'a view' => 'SELECT count(*) FROM over_there',
	'a subquery' => 'SELECT (SELECT count(*) FROM big)',
	'a join with a table of its own' => 'SELECT * FROM own LEFT JOIN big USING (id)',
	'COPY' => 'COPY big TO STDOUT',
	'COPY of a query' => 'COPY (SELECT * FROM big) TO STDOUT',
	'COPY FROM' => "COPY there FROM PROGRAM 'echo'",
	'a cursor' => 'BEGIN; DECLARE c CURSOR FOR SELECT * FROM big; FETCH c',
	'a prepared statement' => 'PREPARE p AS SELECT count(*) FROM big; EXECUTE p',
	'a function' => q(SELECT sums('big')),
	'EXPLAIN ANALYZE' => 'EXPLAIN ANALYZE SELECT * FROM big',
	'CREATE TABLE AS' => 'CREATE TABLE copy AS SELECT * FROM big',
	'a materialized view' => 'CREATE MATERIALIZED VIEW copy AS SELECT * FROM big',
	'INSERT ... SELECT elsewhere' => 'INSERT INTO own SELECT id FROM big',
	'INSERT' => q(INSERT INTO big VALUES (0, 'x')),
	'UPDATE' => q(UPDATE big SET body = 'x'),
	'DELETE' => q(DELETE FROM there),
	'MERGE' => q(MERGE INTO big USING own ON own.id = big.id WHEN MATCHED THEN DO NOTHING),
	'TRUNCATE' => 'TRUNCATE big',
	'FOR UPDATE' => 'SELECT * FROM big FOR UPDATE',
	'a digest' => q(SELECT quorum.table_digest('big')),
	'a level of consistency' => q(SET quorum.read_consistency = 'bounded_staleness'; SELECT count(*) FROM big),
	'ALTER TABLE' => 'ALTER TABLE big ADD COLUMN more int',
	'a new index' => 'CREATE INDEX ON big (body)',
	'RENAME' => 'ALTER TABLE big RENAME TO small',
	'a trigger' => 'CREATE TRIGGER t BEFORE INSERT ON big FOR EACH ROW EXECUTE FUNCTION hold()',
	'DROP TABLE' => 'DROP TABLE big',
	'a foreign key added to it' => 'ALTER TABLE own ADD FOREIGN KEY (id) REFERENCES there',
	'a foreign key to it' => 'CREATE TABLE child (id int REFERENCES there)',
);
for my $what (sort keys %refused)
{
	$c->fails_with($new, $refused{$what}, '55000', $loading, $what);
}
my ($state, undef, $err) = $c->try_sql($new, 'SELECT count(*) FROM big');
like($err, qr/DETAIL:\s+An image of member "n1" is loaded: \d+ of 5 tables, \d+ rows, \d+ of about \d+ MB/, 'how far it is');
my $dumped = run_log([ 'pg_dump', '-h', $new->host, '-p', $new->port, '-f', $new->basedir . '/dump', $db ]);
ok(!$dumped, 'pg_dump takes no half table either');

# --- what would have to wait for the image ---

my %waits = (
	'a lock' => q(SELECT quorum.advisory_lock('key')),
	'a new table' => q(CREATE TABLE mine (id int PRIMARY KEY); SELECT quorum.add_table('mine')),
	'a statement for all' => q(SELECT quorum.execute_ddl('CREATE TABLE for_all (id int)')),
);
for my $what (sort keys %waits)
{
	$c->fails_with($new, $waits{$what}, '55000', qr/still loading the cluster's tables.*HINT:/s, "$what is refused");
}
$c->fails_with($new, $join, '55000', qr/member of a cluster already/, 'so is a second call');
$c->fails_with($new, 'SELECT quorum.create_cluster()', '55000', qr/member of a cluster already/, 'and a cluster of its own');
$c->fails_with($new, 'SELECT quorum.force_new_cluster()', '55000', undef, 'even by force');
$c->fails_with($one, q(SELECT quorum.transfer_leadership('n2')), '55000', qr/a learner cannot lead/, 'it does not lead');

# --- what goes on ---

is($c->ask($new, 'SELECT phase, tables_done FROM quorum.join_progress'), 'data|4', 'progress can be seen');
is($c->ask($new, 'SELECT role FROM quorum.status'), 'learner', 'so can the status');
is($c->ask($new, q(SELECT count(*) FROM quorum.members)), '2', 'and the members');
is($c->ask($new, 'INSERT INTO own VALUES (1) RETURNING id'), '1', 'its own tables can be written');
is($c->ask($new, 'SELECT sum(id) FROM own'), '1', 'and read');
isnt($c->ask($new, 'EXPLAIN SELECT * FROM big'), '', 'a plan reads nothing');

# --- killed: never a part of it ---

$c->kill9($new);
eval { $session->quit };
$new->append_conf('postgresql.conf', 'quorum.copy_workers = 1');
$c->restart($new);
my %seen;
$c->wait_until('it loads again', sub {
	my ($state, $out) = $c->try_sql($new, 'SELECT count(*) FROM big');

	# 42P01: what the former attempt made goes first
	$seen{ $state eq '' ? $out : $state }++;
	return is_held();
});
is_deeply([ grep { !/^(?:55000|42P01|57P03|XX.*)$/ } sort keys %seen ], [], 'no part of a table is seen after a crash');

# --- removed meanwhile, and joined again ---

$one->safe_psql($db, q(SELECT quorum.remove_member('n2')));
$c->wait_until('it knows', sub { $c->ask($new, 'SELECT role FROM quorum.status') eq 'removed' });
$c->fails_with($new, 'SELECT count(*) FROM big', '55000', qr/is being loaded.*HINT:.*join_cluster/s, 'removed: the tables stay closed');
$new->restart;
$c->fails_with($new, 'SELECT count(*) FROM there', '55000', qr/is being loaded/, 'after a restart, too');
$c->comes_to_be($new, 'SELECT role FROM quorum.status', 'removed', 'it is still removed');
$session = start_joining();
$c->wait_until('all but one again', sub { is_held() && $c->ask($new, 'SELECT role FROM quorum.status') eq 'learner' });

# --- snapshots of meanwhile ---

my $reader = $new->background_psql($db, on_error_stop => 0);
$reader->query('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM own;');
$new->safe_psql($db, 'DELETE FROM hold');
$c->wait_until('it joins', \&has_joined);
$reader->{stderr} = '';
$reader->query('SELECT count(*) FROM held;');
like($reader->{stderr}, qr/could not read replicated tables with a snapshot of before/, 'a snapshot of meanwhile shows no part');
$reader->quit;
$session->quit;
is($c->ask($new, q(SELECT (SELECT count(*) FROM big) || ' ' || (SELECT count(*) FROM parts) || ' ' ||
	(SELECT count(*) FROM held) || ' ' || (SELECT count(*) FROM over_there))), '2000 200 10 10', 'whole tables when it has joined');
$c->settle;
$c->tables_equal([qw(big parts held there)], 'all tables are equal');
$new->safe_psql($db, q(INSERT INTO there VALUES (11, 'x'); ALTER TABLE big ADD COLUMN more int DEFAULT 7));
$c->settle;
$c->tables_equal([qw(big parts held there)], 'and after writes there');

done_testing();
