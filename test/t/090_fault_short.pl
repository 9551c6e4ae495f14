# Histories of clients on all nodes while servers are killed, stopped and cut
# off, judged by the checkers of test/fault: some seconds of each workload.
#
#	FAULT_WORKLOADS, FAULT_FAULTS	names, separated by commas
#	FAULT_SECONDS, PGQ_SEED			of one run
#	FAULT_NODES, FAULT_CLIENTS, FAULT_LEVELS, FAULT_CONF
#	FAULT_LIE						reads are eventual, whatever they are called: must fail
#	FAULT_RUNS						how often, with seeds that follow
# (make check-fault; doc/testing-faults.md)
use strict;
use warnings;

use FaultRun;
use Test::More;

my @faults = split /,/, $ENV{FAULT_FAULTS} || 'all';
my $seconds = $ENV{FAULT_SECONDS} || 6;
my $seed = $ENV{PGQ_SEED} // int(rand(2**31));
my $f = FaultRun->new(nodes => $ENV{FAULT_NODES} || 3, conf => $ENV{FAULT_CONF});
my @workloads = $ENV{FAULT_WORKLOADS} ? split /,/, $ENV{FAULT_WORKLOADS} : $f->workloads;

for my $i (1 .. $ENV{FAULT_RUNS} || 1)
{
	for my $workload (@workloads)
	{
		$f->run(workload => $workload, faults => \@faults, seconds => $seconds, seed => $seed++, lie => $ENV{FAULT_LIE},
			$ENV{FAULT_CLIENTS} ? (clients => $ENV{FAULT_CLIENTS}) : (),
			$ENV{FAULT_LEVELS} ? (levels => $ENV{FAULT_LEVELS}) : ()) or last;
	}
	last unless Test::More->builder->is_passing;
}
$f->finish;

done_testing();
