# Random crash points under load: one, two or all servers are killed with
# kill -9, again and again. What was acknowledged is there, what was refused is
# not, what is unknown is there as a whole or not at all, and all servers agree.
#
#	ROUNDS=n	how many (make check-crash ROUNDS=100)
#	PGQ_SEED=n	the run with this seed again, as far as processes allow
use strict;
use warnings;

use PostgreSQL::Test::Utils;
use QuorumCluster;
use Test::More;
use Time::HiRes qw(usleep);

my $db = $QuorumCluster::DB;
my $rounds = $ENV{ROUNDS} // 6;
my $seed = $ENV{PGQ_SEED} // int(rand(2**31));
my $c = QuorumCluster->new(nodes => 3);

srand($seed);
diag("seed $seed");
$c->found;
$c->everywhere($QuorumCluster::LOAD_SCHEMA);
$c->add_tables('load', 'load_counter');
$c->node(1)->safe_psql($db, 'INSERT INTO load_counter SELECT g, 0 FROM generate_series(0, 3) g');
$c->settle;

my %seen = (A => 0, R => 0, U => 0);
my $acknowledged_present = 0;

# What the client was told against what is there. Returns what is wrong.
sub judge
{
	my ($load, $ops, $node) = @_;
	my %rows;
	my @wrong;
	my %asked;

	for my $line (split /\n/, $node->safe_psql($db, "
		SELECT client || ' ' || n, string_agg(part::text, ',' ORDER BY part)
		FROM load WHERE run = $load->{run} GROUP BY 1"))
	{
		my ($key, $parts) = split /\|/, $line;
		$rows{$key} = $parts;
		push @wrong, "$key: parts $parts" if $parts ne '1,2';
		push @wrong, "$key: never asked for" unless $ops->{$key};
	}
	for my $key (keys %$ops)
	{
		my $op = $ops->{$key};
		$seen{ $op->{verdict} }++;
		push @wrong, "$key: acknowledged, and lost" if $op->{verdict} eq 'A' && !$rows{$key};
		push @wrong, "$key: refused with $op->{state}, and present"
		  if $op->{verdict} eq 'R' && $rows{$key};
		# the token of an unknown outcome tells the truth later
		if ($op->{state} eq '40003' && ($op->{hint} // '') =~ /outcome\('([^']+)'\)/)
		{
			my $outcome = $node->safe_psql($db, "SELECT quorum.outcome('$1')");
			my $expected = $rows{$key} ? 'committed' : 'aborted|unknown';
			push @wrong, "$key: outcome says $outcome" unless $outcome =~ /^(?:$expected)$/;
		}
		push @wrong, "$key: refused with $op->{state}"
		  if $op->{verdict} eq 'R' && $op->{state} !~ /^(?:40001|55000|57P0[123]|25P02|lost|57014)$/;
	}
	my $sum = $node->safe_psql($db, 'SELECT sum(v) FROM load_counter');
	my $present = $node->safe_psql($db, "SELECT count(DISTINCT (run, client, n)) FROM load");
	push @wrong, "counters stand at $sum, and $present operations are present" if $sum != $present;
	return @wrong;
}

for my $round (1 .. $rounds)
{
	my $load = $c->start_load(clients => 6);
	my @victims = (sort { rand() <=> 0.5 } $c->nodes)[ 0 .. int(rand(3)) ];
	my $enough = 30 + int(rand(300));
	my $checkpoint = rand() < 0.3;
	my $what = join ' and ', map { $_->name } @victims;

	$c->wait_until("$enough acknowledged", sub { $c->acknowledged($load) >= $enough });
	$c->ask($victims[0], 'CHECKPOINT') if $checkpoint;
	usleep(int(rand(30_000)));
	# two crashes need not be at one moment
	if (@victims > 1 && rand() < 0.5)
	{
		for my $victim (@victims)
		{
			$c->kill9($victim);
			usleep(int(rand(200_000)));
		}
	}
	else
	{
		$c->kill9(@victims);
	}
	if (@victims == 1)
	{
		my $before = $c->acknowledged($load);
		$c->wait_until('writes go on with one server down',
			sub { $c->acknowledged($load) > $before + 50 });
	}
	$c->restart(@victims);
	$c->wait_for_leader;
	my $before = $c->acknowledged($load);
	$c->wait_until('writes go on with all servers up',
		sub { $c->acknowledged($load) > $before + 20 });
	my $ops = $c->stop_load($load);
	$c->settle;

	my @wrong = judge($load, $ops, $c->node(1 + int(rand(3))));
	is_deeply([ @wrong[ 0 .. ($#wrong > 9 ? 9 : $#wrong) ] ], [],
		"round $round, $what killed: the record holds");
	$c->tables_equal([ 'load', 'load_counter' ], "round $round: all servers agree");
	last unless Test::More->builder->is_passing;
}
diag(sprintf '%d acknowledged, %d refused, %d unknown', @seen{qw(A R U)});
cmp_ok($seen{A}, '>', 0, 'there was something to lose');

for my $node ($c->nodes)
{
	unlike(slurp_file($node->logfile), qr/PANIC|TRAP:|was terminated by signal (6|11)/,
		$node->name . ' logged no crash of its own making');
}

done_testing();
