# What can go wrong when a server joins: things in the way are said before
# anything is done; who dies on the way does no harm.
use strict;
use warnings;

use PostgreSQL::Test::Utils;
use QuorumCluster;
use Test::More;

my $db = 'postgres';
my $c = QuorumCluster->new(nodes => 2);

$c->found;
$c->everywhere(q(
	CREATE ROLE seller;
	CREATE TABLE big (round int, id int, body text, PRIMARY KEY (round, id));
	CREATE TABLE more (round int, id int, body text, PRIMARY KEY (round, id));
	CREATE TABLE small (id int PRIMARY KEY, v text);
	ALTER TABLE small OWNER TO seller;
));
$c->everywhere($QuorumCluster::LOAD_SCHEMA);
my @tables = qw(big more small load load_counter);
$c->add_tables(@tables);
$c->node(1)->safe_psql($db, qq(INSERT INTO big SELECT $_, i, repeat(md5((i * $_)::text), 30) FROM generate_series(1, 8000) i)) for 1 .. 6;
$c->node(1)->safe_psql($db, qq(INSERT INTO more SELECT $_, i, repeat(md5((i * $_)::text), 30) FROM generate_series(1, 8000) i)) for 1 .. 4;
$c->node(1)->safe_psql($db, q(INSERT INTO small VALUES (1, 'one')));
$c->settle;
my ($one, $two) = $c->nodes;
my $new = $c->add_node;
my $join = sprintf "SELECT quorum.join_cluster('%s')", $c->address($one);
$c->restart($new);
$new->safe_psql($db, 'CREATE EXTENSION pg_quorum');

# --- in the way ---

$c->fails_with($new, $join, '42704', qr/do not exist on this server: "seller".*HINT:/s, 'a role is missing');
$new->safe_psql($db, 'CREATE ROLE seller');
$new->safe_psql($db, 'CREATE TABLE small (id int PRIMARY KEY, v int)');
$c->fails_with($new, $join, '42P07', qr/small".*defined differently.*v integer.*v text/s, 'another definition');
$new->safe_psql($db, 'ALTER TABLE small ALTER v TYPE text');
$new->safe_psql($db, q(INSERT INTO small VALUES (7, 'mine')));
$c->fails_with($new, $join, '42P07', qr/small".*has rows.*never merged/s, 'rows of its own');
$new->safe_psql($db, 'DELETE FROM small; CREATE VIEW more AS SELECT 1 AS one');
$c->fails_with($new, $join, '42P07', qr/more".*something else/s, 'a view of that name');
$new->safe_psql($db, 'DROP VIEW more');
my $hba = slurp_file($one->data_dir . '/pg_hba.conf');
sub hba
{
	my ($text) = @_;
	unlink $one->data_dir . '/pg_hba.conf';
	append_to_file($one->data_dir . '/pg_hba.conf', $text);
	$one->reload;
}
my ($superuser) = $one->safe_psql($db, 'SELECT rolname FROM pg_roles WHERE oid = 10');
$one->safe_psql($db, 'CREATE ROLE copier SUPERUSER LOGIN');
hba("local all $superuser reject\n$hba");
$c->wait_until('the door is closed', sub { ($new->psql($db, $join))[2] =~ /pg_hba/ });
my (undef, undef, $err) = $new->psql($db, $join);
like($err, qr/could not connect to the SQL port of member "n1".*pg_hba\.conf.*HINT:.*quorum\.copy_conninfo/s,
	'no entry in pg_hba.conf: said with a way out');
is($two->safe_psql($db, 'SELECT count(*) FROM quorum.members'), '2', 'none of it made it a member');
is($new->safe_psql($db, 'SELECT role FROM quorum.status'), 'stopped', 'nor does it think so');
hba($hba);

# --- the receiving server dies again and again ---

sub start_joining
{
	my ($node) = @_;
	my $session = $node->background_psql($db, on_error_stop => 0);

	$session->query_until(qr/begun/, "\\echo begun\n$join;\n\\echo ended\n");
	return $session;
}

sub has_joined
{
	my ($node) = @_;
	return $c->ask($node, 'SELECT is_voter FROM quorum.members WHERE node_name = (SELECT node_name FROM quorum.status)') eq 't';
}

my $load = $c->start_load(nodes => [ $one, $two ], clients => 2);
my $session = start_joining($new);
for my $round (1 .. 3)
{
	my $wanted = $round == 2 ? qr/^(?:schema|data|indexes|done)/ : qr/^(?:data|done)/;
	$c->wait_until("rows come, round $round",
		sub { has_joined($new) || ($c->ask($new, 'SELECT phase FROM quorum.join_progress') // '') =~ $wanted });
	if ($round == 1)
	{
		my ($state, undef, $err) = $c->try_sql($new, q(INSERT INTO big VALUES (8, 8, 'mine')));

		ok(($state eq '55000' && $err =~ /is being loaded/) ||
			$c->ask($new, 'SELECT phase FROM quorum.join_progress') eq 'done',
			'nobody writes a table that is being loaded') or diag("$state $err");
	}
	$c->kill9($new);
	$c->restart($new);
}
eval { $session->quit };
$c->wait_until('it joins by itself', sub { has_joined($new) });
$c->stop_load($load);
$c->settle;
$c->tables_equal(\@tables, 'all tables are equal');
$c->comes_to_be($new, 'SELECT count(*) FROM quorum._image_table', '0', 'nothing is left of the attempts');
$c->comes_to_be($new, q(SELECT count(*) FROM pg_trigger WHERE tgname LIKE '%loading%'), '0', 'nor of the guard');

# --- connections break, and the giving member dies ---

my $other = $c->add_node(conf => "quorum.copy_workers = 1\n");
$c->restart($other);
$other->safe_psql($db, 'CREATE EXTENSION pg_quorum; CREATE ROLE seller');
$session = start_joining($other);
my $cut = 0;
$c->wait_until('a copy connection is cut', sub {
	return 1 if has_joined($other);
	for my $node ($one, $two, $new)
	{
		$cut += $c->ask($node, q(SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
			WHERE application_name = 'pg_quorum image' AND query LIKE 'COPY public.%')) || 0;
	}
	return $cut > 0;
});
$c->wait_until('it joins', sub { has_joined($other) });
is($c->ask($other, 'SELECT attempts FROM quorum.join_progress'), '1', 'the image was not begun again for it') if $cut;
eval { $session->quit };
$c->settle;
$c->tables_equal(\@tables, 'all tables are equal again');

# without workers of its own the apply worker copies
my $last = $c->add_node(conf => "quorum.copy_workers = 0\n");
$c->restart($last);
$last->safe_psql($db, 'CREATE EXTENSION pg_quorum; CREATE ROLE seller');
$session = start_joining($last);
my $giver;
$c->wait_until('rows come', sub {
	my ($phase, $source) = split /\|/, $c->ask($last, 'SELECT phase, source FROM quorum.join_progress');
	($giver) = grep { $_->name eq ($source // '') } $c->nodes;
	return ($phase // '') =~ /^(?:data|indexes|log|done)$/ && $giver;
});
$c->kill9($giver);
$c->wait_until('it joins from another', sub { has_joined($last) });
$c->restart($giver);
eval { $session->quit };
$c->settle;
$c->tables_equal(\@tables, 'all five are equal');

for my $node ($c->nodes)
{
	unlike(slurp_file($node->logfile), qr/PANIC|TRAP:|was terminated by signal/, $node->name . ' logged no crash');
}

done_testing();
