# Schema changes through the log under load, and servers killed meanwhile: all
# end with the same tables, indexes and rows.
use strict;
use warnings;

use PostgreSQL::Test::Utils;
use QuorumCluster;
use Test::More;

my $db = $QuorumCluster::DB;
my $rounds = $ENV{ROUNDS} // 5;
my $c = QuorumCluster->new(nodes => 3);

$c->found;
$c->everywhere($QuorumCluster::LOAD_SCHEMA);
$c->add_tables('load', 'load_counter');
$c->node(1)->safe_psql($db, 'INSERT INTO load_counter SELECT g, 0 FROM generate_series(0, 3) g');
$c->settle;

# A change may be refused when a server dies meanwhile, and is then tried again;
# told that its outcome is unknown the token decides.
sub change
{
	my ($node, $sql) = @_;

	return $c->wait_until($sql, sub {
		my ($state, undef, $err) = $c->try_sql($node,
			"SET lock_timeout = '2s'; SELECT quorum.execute_ddl('$sql')");
		return 1 if $state eq '' || $err =~ /already exists|does not exist/;
		diag("$sql: $err") unless $state =~ /^(?:40001|40003|40P01|55000|55P03|57P0[123]|XX.*)$/;
		return 0;
	});
}

for my $round (1 .. $rounds)
{
	my $load = $c->start_load;
	my ($victim, $one, $two) = sort { rand() <=> 0.5 } $c->nodes;

	$c->wait_until('some rows', sub { $c->acknowledged($load) > 50 });
	change($one, "ALTER TABLE load ADD COLUMN extra$round int DEFAULT $round");
	change($victim, "CREATE INDEX load_node_$round ON load (node, part)");
	$c->kill9($victim);
	change($two, "ALTER TABLE load_counter ALTER COLUMN v TYPE " . ($round % 2 ? 'numeric' : 'bigint'));
	$c->restart($victim);
	$c->wait_for_leader;
	change($victim, "DROP INDEX load_node_$round");
	change($one, "ALTER TABLE load DROP COLUMN extra$round") if $round % 2;
	my $before = $c->acknowledged($load);
	$c->wait_until('writes go on', sub { $c->acknowledged($load) > $before + 20 });
	my $ops = $c->stop_load($load);
	$c->settle;
	$c->tables_equal([ 'load', 'load_counter' ], "round $round: all servers agree");
	my @shapes = map { $_->safe_psql($db, q(
		SELECT string_agg(attname || ' ' || format_type(atttypid, atttypmod), ', ' ORDER BY attrelid::regclass::text, attnum)
		FROM pg_attribute WHERE attrelid IN ('load'::regclass, 'load_counter'::regclass) AND attnum > 0 AND NOT attisdropped)) } $c->nodes;
	is($shapes[1], $shapes[0], "round $round: one shape");
	is($shapes[2], $shapes[0], "round $round: on all");
	my $lost = 0;
	my %there = map { $_ => 1 } split /\n/, $c->node(1)->safe_psql($db,
		"SELECT DISTINCT client || ' ' || n FROM load WHERE run = $load->{run}");
	for my $key (keys %$ops)
	{
		$lost++ if $ops->{$key}{verdict} eq 'A' && !$there{$key};
	}
	is($lost, 0, "round $round: nothing acknowledged is lost");
	last unless Test::More->builder->is_passing;
}

$_->stop('fast') for $c->nodes;
unlike(slurp_file($_->logfile), qr/PANIC|TRAP:|was terminated by signal (6|11)/, $_->name . ' logged no crash')
  for $c->nodes;

done_testing();
