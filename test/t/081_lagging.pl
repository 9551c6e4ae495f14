# A member that was away for longer than the others keep their log gets a fresh
# image by itself: whatever it missed, and whoever dies meanwhile.
use strict;
use warnings;

use PostgreSQL::Test::Utils;
use QuorumCluster;
use Test::More;

my $db = 'postgres';
my $c = QuorumCluster->new(nodes => 3, conf => "quorum.max_log_size = '16MB'\n");
my @tables = qw(filler orders items parts load load_counter);

sub log_bytes
{
	my ($node) = @_;
	my $bytes = 0;

	$bytes += -s $_ // 0 for glob $node->data_dir . '/pg_quorum/log/*';
	return $bytes;
}

sub segments
{
	my ($node) = @_;

	return map { m{([^/]+)$} } glob $node->data_dir . '/pg_quorum/log/log-*';
}

# More than the log holds.
my $filled = 0;
sub fill
{
	my ($node, $megabytes) = @_;

	for (1 .. $megabytes)
	{
		$filled++;
		$node->safe_psql($db, qq(INSERT INTO filler SELECT $filled, i, repeat(md5((i * $filled)::text), 32)
			FROM generate_series(1, 1024) i));
	}
	$node->safe_psql($db, 'DELETE FROM filler WHERE round % 4 <> 0');
}

# Stop the last one, and come back when the others have let go of what it misses.
sub leave_behind
{
	my ($late, $megabytes, @others) = @_;
	my %missed;

	$late->stop('fast');
	$missed{ $_->name } = { map { $_ => 1 } segments($_) } for @others;
	fill($others[0], $megabytes);
	for my $node (@others)
	{
		$c->wait_until($node->name . ' has let old log go', sub { !grep { $missed{ $node->name }{$_} } segments($node) });
	}
}

sub images_of
{
	my ($node) = @_;

	return scalar(() = slurp_file($node->logfile) =~ /this member has an image of entry/g);
}

$c->found;
$c->everywhere(q(
	CREATE TABLE filler (round int, id int, body text, PRIMARY KEY (round, id));
	CREATE TABLE orders (id serial PRIMARY KEY, note text, len int GENERATED ALWAYS AS (length(note)) STORED);
	CREATE TABLE items (order_id int REFERENCES orders, n int, what text, PRIMARY KEY (order_id, n));
	CREATE TABLE parts (id int PRIMARY KEY, v text) PARTITION BY HASH (id);
	CREATE TABLE parts_0 PARTITION OF parts FOR VALUES WITH (MODULUS 2, REMAINDER 0);
	CREATE TABLE parts_1 PARTITION OF parts FOR VALUES WITH (MODULUS 2, REMAINDER 1);
));
$c->everywhere($QuorumCluster::LOAD_SCHEMA);
$c->add_tables(@tables);
$c->node(1)->safe_psql($db, q(INSERT INTO orders (note) SELECT 'order ' || i FROM generate_series(1, 500) i));
$c->node(1)->safe_psql($db, q(INSERT INTO items SELECT id, 1, 'x' FROM orders));
$c->node(1)->safe_psql($db, q(INSERT INTO parts SELECT i, 'v' FROM generate_series(1, 500) i));
$c->settle;
my ($one, $two, $late) = $c->nodes;
$late->safe_psql($db, 'CREATE VIEW over_orders AS SELECT * FROM orders');

# --- away for too long, same schema ---

leave_behind($late, 40, $one, $two);
$one->safe_psql($db, q(UPDATE orders SET note = 'changed' WHERE id % 3 = 0; DELETE FROM items WHERE order_id % 5 = 0));
cmp_ok(log_bytes($_), '<', 52 * 1024 * 1024, $_->name . ' keeps no more than it may') for $one, $two;

my $load = $c->start_load(nodes => [ $one, $two ], clients => 2);
$c->wait_until('the load runs', sub { $c->acknowledged($load) > 20 });
$c->restart($late);
# the old state or the new one, never half
my $seen;
$c->wait_until('it can be read', sub { $seen = $c->ask($late, q(SELECT count(*) || ' ' || count(*) FILTER (WHERE note = 'changed') FROM orders)) });
$c->wait_until('an image comes by itself', sub { images_of($late) == 2 });
like($seen, qr/^500 (?:0|166)$/, 'what is read meanwhile is the old state or the new one');
$c->stop_load($load);
$c->settle;
$c->tables_equal(\@tables, 'all tables are equal');
is($late->safe_psql($db, q(SELECT count(*) FILTER (WHERE note = 'changed') FROM over_orders)), '166',
	'a view of its own shows the new rows');
$late->safe_psql($db, q(INSERT INTO orders (note) SELECT 'here' FROM generate_series(1, 20)));
$c->fails_with($late, 'INSERT INTO items VALUES (-1, 1)', '23503', undef, 'foreign keys hold');
$c->settle;
$c->tables_equal(\@tables, 'equal after writes there');

# --- away, and the schema was changed meanwhile ---

$c->settle;
leave_behind($late, 40, $one, $two);
$one->safe_psql($db, $_) for
  q(ALTER TABLE orders ADD COLUMN extra text DEFAULT 'new'),
  q(CREATE INDEX items_by_what ON items (what)),
  q(ALTER TABLE parts RENAME TO pieces),
  q(DROP TABLE load_counter),
  q(SELECT quorum.remove_table('load')),
  q(SELECT quorum.execute_ddl($$CREATE TYPE colour AS ENUM ('red', 'green')$$)),
  q(SELECT quorum.execute_ddl('CREATE TABLE later (id serial PRIMARY KEY, c colour[], o int REFERENCES orders)')),
  q(SELECT quorum.add_table('later')),
  q(INSERT INTO later (c, o) SELECT '{red,green}', min(id) FROM orders);
@tables = qw(filler orders items pieces later);
$c->restart($late);
# a view of its own hangs on one of them: nothing that is not ours is dropped
$c->wait_until('the view is named', sub {
	$c->ask($late, 'SELECT detail FROM quorum.status') =~ /cannot be made again here.*over_orders depends on/s });
is($c->ask($late, q(SELECT count(*) FROM over_orders WHERE note = 'here')), '20', 'it is there, with the old rows');
$late->safe_psql($db, 'DROP VIEW over_orders');
$c->wait_until('with the view gone the image comes', sub { images_of($late) == 3 });
$c->settle;
$c->tables_equal(\@tables, 'all tables are equal after schema changes');
for my $table (@tables)
{
	is($late->safe_psql($db, "SELECT quorum._table_fingerprint('$table')"),
		$one->safe_psql($db, "SELECT quorum._table_fingerprint('$table')"), "$table: the same definition");
}
is($late->safe_psql($db, q(SELECT to_regclass('load_counter') IS NULL OR NOT EXISTS (SELECT FROM quorum.tables WHERE table_name = 'load_counter'))),
	't', 'a dropped table is replicated no more');
$late->safe_psql($db, q(INSERT INTO later (c) VALUES ('{red}'), (NULL)));
$c->settle;
$c->tables_equal(\@tables, 'equal after writes there');

# --- killed again and again while it loads; then the giving member dies ---

leave_behind($late, 60, $one, $two);
$one->safe_psql($db, q(UPDATE orders SET note = 'once more'));
my $before = images_of($late);
for my $round (1 .. 3)
{
	$c->restart($late);
	$c->wait_until("it is loading, round $round", sub {
		images_of($late) > $before ||
		$c->ask($late, 'SELECT phase, source FROM quorum.join_progress') =~ /^data/ });
	$c->kill9($late);
}
$c->restart($late);
$c->wait_until('it is loading', sub {
	images_of($late) > $before || $c->ask($late, 'SELECT phase FROM quorum.join_progress') eq 'data' });
my $source = $c->ask($late, 'SELECT source FROM quorum.join_progress');
my ($giver) = grep { $_->name eq $source } $one, $two;
$giver //= $two;
$c->kill9($giver);
$c->restart($giver);
$c->wait_until('the image comes all the same', sub { images_of($late) > $before });
$c->settle;
$c->tables_equal(\@tables, 'all tables are equal after the crashes');
$c->comes_to_be($late, 'SELECT detail IS NULL FROM quorum.status', 't', 'nothing is left to be said');

for my $node ($c->nodes)
{
	unlike(slurp_file($node->logfile), qr/PANIC|TRAP:|was terminated by signal/, $node->name . ' logged no crash');
}

done_testing();
