# A member that fell behind gets its image although sessions there wait for
# verdicts that only the image can bring, and hold locks on the tables meanwhile.
use strict;
use warnings;

use FaultRun;
use QuorumCluster;
use Test::More;

my $db = $QuorumCluster::DB;
my $f = FaultRun->new(nodes => 3);
my $c = $f->{cluster};
my $leader = $c->wait_for_leader;
my ($near, $away) = $c->others($leader);

# Sessions that hold a lock on the table and wait for the cluster.
sub waiting
{
	return $c->ask($away,
		q(SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid)
		WHERE relation = 'fault_list'::regclass AND mode = 'RowExclusiveLock'
			AND wait_event_type = 'Extension' AND backend_type = 'client backend'));
}

$f->links_where('refuse', sub { $_[0] == $away || $_[1] == $away });
# and a transaction whose snapshot is older than the image
my $old = $away->background_psql($db, on_error_stop => 0);
$old->query('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1 FROM pg_class LIMIT 1;');
my $copying = $away->background_psql($db, on_error_stop => 0);
$copying->query('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1 FROM pg_class LIMIT 1;');
my @waiters = map { $away->background_psql($db, on_error_stop => 0) } 1 .. 2;
for my $i (0 .. 1)
{
	$waiters[$i]->query_until(qr/begun/, "\\echo begun\nINSERT INTO fault_list VALUES ($i, '{1}');\n\\echo over\n");
}
$c->wait_until('both wait', sub { waiting() == 2 });
my @before = map { glob $_->data_dir . '/pg_quorum/log/log-*' } $leader, $near;
for my $round (1 .. 30)
{
	$near->safe_psql($db, "INSERT INTO fault_filler SELECT $round, i, repeat(md5((i * $round)::text), 32)
		FROM generate_series(1, 1024) i");
}
$near->safe_psql($db, 'DELETE FROM fault_filler');
$c->wait_until('the logs of the others have left it behind', sub { !grep { -e } @before });
my $healed = QuorumCluster::now();
$f->mend;
$c->settle;
diag(sprintf 'all equal %.1f s after the member was back', QuorumCluster::now() - $healed);
ok($c->log_matches($away, qr/has an image of entry.*has an image of entry/s), 'it was an image that it needed');
for my $waiter (@waiters)
{
	$waiter->query_until(qr/over/, "\n");
	like($waiter->{stderr}, qr/^$|outcome of the transaction is unknown|could not serialize|conflicts with one|aborted in favour/,
		'a session that waited has an answer that is true');
	$waiter->quit;
}
unlike($old->query('SELECT count(*) FROM fault_bank;'), qr/\d/, 'no tables that look empty');
like($old->{stderr}, qr/snapshot of before they were replaced/, 'to an old snapshot: it is told');
is($old->query('ROLLBACK; SELECT count(*) FROM fault_bank;'), 8, 'and may try again');
$copying->query('COPY fault_bank TO STDOUT;');
like($copying->{stderr}, qr/snapshot of before they were replaced/, 'nor to COPY');
$_->quit for $old, $copying;
$c->settle;
$c->tables_equal([qw(fault_list fault_filler)], 'all servers agree');
$f->finish;

done_testing();
