# quorum.verify: all members compared at one index, with writes going on; what
# differs is named, by table and key range, and marked on every member.
use strict;
use warnings;

use PostgreSQL::Test::Utils;
use QuorumCluster;
use Test::More;

my $db = $QuorumCluster::DB;
my $c = QuorumCluster->new(nodes => 3);

# table, node, same, ... of all rows, one a line
sub verify
{
	my ($node, $rel) = @_;
	my (undef, $out, $err) = $c->try_sql($node, sprintf(
		q(SELECT table_name, node_name, same, row_count, key_ranges, detail FROM quorum.verify(%s) ORDER BY 1, 2),
		$rel ? "'$rel'" : ''));
	diag($err) if $err =~ /ERROR/;
	return $out;
}

$c->found;
$c->everywhere(q(
	CREATE TABLE t (id int PRIMARY KEY, v text);
	CREATE TABLE pairs (a int, b text COLLATE "C", v numeric, PRIMARY KEY (a, b));
	CREATE TABLE cut (id int PRIMARY KEY, v int) PARTITION BY RANGE (id);
	CREATE TABLE cut_1 PARTITION OF cut FOR VALUES FROM (0) TO (100);
	CREATE TABLE cut_2 PARTITION OF cut FOR VALUES FROM (100) TO (200);
	CREATE TABLE empty (id int PRIMARY KEY);
));
$c->add_tables(qw(t pairs cut empty));
$c->node(1)->safe_psql($db, q(INSERT INTO t SELECT g, 'row ' || g FROM generate_series(1, 20000) g));
$c->node(2)->safe_psql($db, q(INSERT INTO pairs SELECT g / 10, 'k"' || g % 10, g FROM generate_series(1, 500) g));
$c->node(3)->safe_psql($db, q(INSERT INTO cut SELECT g, g FROM generate_series(0, 199) g));

# --- nothing differs ---

for my $node ($c->nodes)
{
	is($node->safe_psql($db, 'SELECT count(*), bool_and(same), count(DISTINCT log_index), count(DISTINCT (table_name, digest))
		FROM quorum.verify()'), '12|t|1|4', 'all tables are the same, asked on ' . $node->name);
}
is(verify($c->node(1), 'empty'), "public.empty|n1|t|0||\npublic.empty|n2|t|0||\npublic.empty|n3|t|0||", 'one table');
is($c->node(1)->safe_psql($db, q(SELECT count(DISTINCT (digest)) FROM (SELECT digest FROM quorum.verify('t')
	UNION ALL SELECT quorum.table_digest('t')) d)), '1', 'the digest is that of table_digest');

# --- under load: the same index everywhere, or the digests would differ ---

$c->everywhere($QuorumCluster::LOAD_SCHEMA);
$c->add_tables('load', 'load_counter');
$c->node(1)->safe_psql($db, 'INSERT INTO load_counter SELECT g, 0 FROM generate_series(1, 20) g');
my $load = $c->start_load(clients => 6);
$c->wait_until('the load runs', sub { $c->acknowledged($load) > 50 });
for my $round (1 .. 6)
{
	my $done = $c->acknowledged($load);
	my $node = $c->node(1 + $round % 3);
	is($node->safe_psql($db, 'SELECT count(*), bool_and(same) FROM quorum.verify()'), '18|t',
		"same while it is written, asked on " . $node->name);
	# tables that are rewritten or truncated meanwhile do not look different
	$node->safe_psql($db, $round % 2 ? 'TRUNCATE pairs' : 'INSERT INTO pairs SELECT g, g, g FROM generate_series(1, 100) g');
	$c->wait_until('the load goes on', sub { $c->acknowledged($load) > $done + 20 });
}
my $ops = $c->stop_load($load);
my %errors;
for my $op (values %$ops)
{
	$errors{ $op->{state} }++ if $op->{verdict} ne 'A' && $op->{state} !~ /^(?:40001|open)$/;
}
is_deeply(\%errors, {}, 'no client saw any of it');

# --- differences ---

$c->settle;
$c->behind_the_back($c->node(2), q(UPDATE t SET v = 'other' WHERE id = 4711; DELETE FROM t WHERE id = 15000;
	INSERT INTO t VALUES (20001, 'more')));
$c->behind_the_back($c->node(3), q(UPDATE cut SET v = 0 WHERE id = 150));
my %ranges = $c->node(1)->safe_psql($db, q(SELECT node_name, array_to_string(key_ranges, ' OR ')
	FROM quorum.verify('t') WHERE NOT same)) =~ /^(\w+)\|(.*)$/mg;
is(join(' ', sort keys %ranges), 'n2', 'the one that differs is named');
is($c->node(1)->safe_psql($db, "SELECT string_agg(id::text, ',' ORDER BY id) FROM t WHERE id IN (4711, 15000) AND ($ranges{n2})"),
	'4711,15000', 'its ranges hold the rows that differ');
is($c->node(2)->safe_psql($db, "SELECT count(*) FROM t WHERE id = 20001 AND ($ranges{n2})"), '1', 'that is too many there, too');
cmp_ok($c->node(1)->safe_psql($db, "SELECT count(*) FROM t WHERE $ranges{n2}"), '<', 300, 'and few others');
like(verify($c->node(3)), qr/^public\.cut\|n1\|t\|200\|\|\npublic\.cut\|n2\|t\|200\|\|\npublic\.cut\|n3\|f\|200\|.*id.*\|$/m,
	'of a partitioned table, asked on the one that differs');
$c->settle;
for my $node ($c->nodes)
{
	is($node->safe_psql($db, 'SELECT node_name, differs FROM quorum.members ORDER BY 1'), "n1|f\nn2|t\nn3|t",
		'quorum.members shows it on ' . $node->name);
	is($node->safe_psql($db, 'SELECT rel, node_name FROM quorum.differences ORDER BY 1'), "t|n2\ncut|n3",
		'marked on ' . $node->name);
}
ok($c->log_matches($c->node(2), qr/table "public.t" of this member differs/), 'the one concerned says it in its log');

# --- what is right again loses its mark ---

$c->behind_the_back($c->node(3), q(UPDATE cut SET v = 150 WHERE id = 150));
is($c->node(1)->safe_psql($db, q(SELECT bool_and(same) FROM quorum.verify('cut'))), 't', 'the same again');
is($c->node(1)->safe_psql($db, 'SELECT rel, node_name FROM quorum.differences'), 't|n2', 'no mark any more');
is($c->node(1)->safe_psql($db, 'SELECT node_name FROM quorum.members WHERE differs'), 'n2', 'nor in quorum.members');
$c->settle;
like($c->node(2)->safe_psql($db, 'SELECT detail FROM quorum.status'), qr/differ from the other members': t; see/, 'its status says so');
is($c->node(3)->safe_psql($db, 'SELECT detail IS NULL FROM quorum.status'), 't', 'and no other\'s');

# --- members that are not there ---

$c->node(3)->stop('immediate');
like(verify($c->node(1), 't'), qr/^public\.t\|n1\|f\|.*\|no majority.*\npublic\.t\|n2\|f\|.*\|no majority.*\npublic\.t\|n3\|\|\|\|cannot be reached$/,
	'one of three is down: no answer, and no majority for the others');
$c->restart($c->node(3));

# --- who may, and what ---

$c->fails_with($c->node(1), q(SELECT * FROM quorum.verify('pg_class')), '55000', qr/not a replicated table/, 'a catalog');
$c->fails_with($c->node(1), q(SELECT quorum._inquire('x', '{}', 'SELECT 1')), '42501', qr/part of the log/, 'parts of the log');
$c->fails_with($c->node(1), q(SELECT quorum._answer('x', 1, 1, 'done', '{}')), '42501', qr/part of the log/, 'parts of the log');
$c->fails_with($c->node(1), q(SELECT quorum._mark(1, '{}', '{}', '{}', '{}', '{}', '{}')), '42501', qr/part of the log/, 'parts of the log');
$c->node(1)->safe_psql($db, 'CREATE ROLE somebody');
$c->fails_with($c->node(1), q(SET ROLE somebody; SELECT * FROM quorum.verify('t')), '42501', undef, 'not for everybody');

for my $node ($c->nodes)
{
	unlike(slurp_file($node->logfile), qr/PANIC|TRAP:|was terminated by signal/, $node->name . ' logged no crash');
}

done_testing();
