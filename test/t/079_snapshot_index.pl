# A snapshot of any member stands at exactly one entry of the log, and it can be
# told at which, while entries are committed by sessions and by the apply worker.
use strict;
use warnings;

use PostgreSQL::Test::Utils;
use QuorumCluster;
use Test::More;

my $db = 'postgres';
my $c = QuorumCluster->new(nodes => 2);

$c->found;
$c->everywhere('CREATE TABLE t (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), node text)');
$c->add_tables('t');
# no sequence: what is drawn from one is claimed by entries of its own
$_->safe_psql($db, q(INSERT INTO t (node) VALUES (0))) for $c->nodes;
$c->settle;

my $script = PostgreSQL::Test::Utils::tempdir() . '/insert.sql';
append_to_file($script, "INSERT INTO t (node) VALUES ('x');\n");
my @load;
for my $node ($c->nodes)
{
	my ($in, $out, $err) = ('', '', '');
	push @load, IPC::Run::start(
		[ 'pgbench', '-n', '-c', 4, '-T', 600, '-f', $script, $node->connstr($db) ],
		\$in, \$out, \$err);
}
$c->wait_until('rows come', sub { $c->ask($c->node(1), 'SELECT count(*) FROM t') > 50 });

my $offset;
my $moved = 0;
for my $round (1 .. 4)
{
	for my $node ($c->nodes)
	{
		my @at = split /\n/, $node->safe_psql($db, join '', map { q(
			BEGIN ISOLATION LEVEL REPEATABLE READ;
			SELECT quorum._snapshot_index() || ' ' || count(*) || ' ' || (SELECT applied_index FROM quorum.status) FROM t;
			SELECT quorum._snapshot_index() || ' ' || count(*) || ' ' || (SELECT applied_index FROM quorum.status) FROM t;
			COMMIT;) } 1 .. 50);
		my $wrong = 0;
		while (my ($first, $second) = splice @at, 0, 2)
		{
			my ($index, $count, $applied) = split / /, $first;
			my ($again, undef, $later) = split / /, $second;
			$offset //= $index - $count;
			$wrong++ if $index - $count != $offset || $again != $index;
			$moved++ if $later > $index;
		}
		is($wrong, 0, $node->name . ": each snapshot has exactly the entries up to its index, round $round");
	}
}
cmp_ok($moved, '>', 0, 'and the log went on meanwhile');
$_->kill_kill for @load;

# one that was taken before the server's log moved at all
$_->restart for $c->nodes;
$c->wait_for_leader;
my $old = $c->node(1)->background_psql($db, on_error_stop => 1);
$old->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ');
my ($index, $count) = split / /, $old->query_safe(q(SELECT quorum._snapshot_index() || ' ' || count(*) FROM t));
$c->node(2)->safe_psql($db, q(INSERT INTO t (node) VALUES ('y')));
$c->settle;
is($old->query_safe('SELECT quorum._snapshot_index()'), $index, 'an old snapshot stays where it was');
cmp_ok($c->node(1)->safe_psql($db, 'SELECT quorum._snapshot_index()'), '>', $index, 'a new one is further');
is($old->query_safe('SELECT count(*) FROM t'), $count, 'so are the rows');
$old->quit;

done_testing();
