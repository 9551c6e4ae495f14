# quorum.write_consistency: under applied_quorum and applied_all any eventual read
# on the members meant sees the row right after COMMIT; a member that does not
# apply ends the wait with a WARNING that names it, and never takes the commit back.
use strict;
use warnings;

use IPC::Run;
use PostgreSQL::Test::Utils;
use QuorumCluster;
use Test::More;

my $db = $QuorumCluster::DB;
my $c = QuorumCluster->new(nodes => 3);
my $id = 0;

sub session { return $_[0]->background_psql($db, on_error_stop => 0); }

# Runs it, returns what it wrote to stderr.
sub messages
{
	my ($session, $sql) = @_;

	$session->{stderr} = '';
	$session->query($sql);
	my $err = $session->{stderr};
	$session->{stderr} = '';
	return $err;
}

sub apply_worker
{
	my ($node) = @_;

	return $node->safe_psql($db, q(SELECT pid FROM pg_stat_activity WHERE backend_type = 'pg_quorum apply worker'));
}

$c->found;
$c->everywhere('CREATE TABLE t (id int PRIMARY KEY, note text)');
$c->add_tables('t');
$c->settle;

my @on = map { session($_) } $c->nodes;
my $leader = $c->wait_for_leader;
my ($at) = grep { $c->node($_ + 1)->name eq $leader->name } 0 .. 2;
my @followers = grep { $_ != $at } 0 .. 2;

# Every member sees it at once, wherever it was committed
my %missed = (all => 0, quorum => 0);
my $warned = '';
for my $round (1 .. 200)
{
	my $writer = $round % 3;

	$id++;
	$warned .= messages($on[$writer],
		"SET quorum.write_consistency = 'applied_all'; INSERT INTO t VALUES ($id, 'all')");
	for my $reader (grep { $_ != $writer } 0 .. 2)
	{
		$missed{all}++ if $on[$reader]->query("SELECT note FROM t WHERE id = $id") ne 'all';
	}
}
is($missed{all}, 0, 'applied_all: 200 commits, each seen on both other members right after');
for my $round (1 .. 60)
{
	my $writer = $round % 3;
	my $seen = 0;

	$id++;
	$warned .= messages($on[$writer], "SET quorum.write_consistency = 'applied_quorum';
		BEGIN; INSERT INTO t VALUES ($id, 'quorum'); COMMIT");
	$seen += ($on[$_]->query("SELECT note FROM t WHERE id = $id") eq 'quorum' ? 1 : 0) for 0 .. 2;
	$missed{quorum}++ if $seen < 2;
}
is($missed{quorum}, 0, 'applied_quorum: 60 commits, each seen on a majority right after');
is($warned, '', 'and nobody was warned');

# A member that does not apply
my $slow = $c->node($followers[0] + 1);
my $name = $slow->name;
my $writer = $on[$at];
my $pid = apply_worker($slow);
kill 'STOP', $pid;

$id++;
my $said = messages($writer, "SET quorum.write_consistency = 'applied_all';
	SET quorum.applied_timeout = '2s'; INSERT INTO t VALUES ($id, 'late')");
like($said, qr/WARNING.*committed.*applied_timeout.*DETAIL:\s+Not applied yet on "$name"\.\s*$/s,
	'applied_all: the WARNING names the member that has not applied, and no other');
is($writer->query("SELECT count(*) FROM t WHERE id = $id"), '1', 'the commit stands');
is($on[ $followers[1] ]->query("SELECT count(*) FROM t WHERE id = $id"), '1', 'on the other follower too');

$id++;
is(messages($writer, "SET quorum.write_consistency = 'applied_quorum'; INSERT INTO t VALUES ($id, 'two of three')"),
	'', 'applied_quorum does without it');
$id++;
is(messages($writer, "SET quorum.write_consistency = 'quorum'; INSERT INTO t VALUES ($id, 'log')"),
	'', 'quorum anyway');

# The level of the COMMIT counts, SET LOCAL is over afterwards
$id++;
like(messages($writer, "BEGIN; INSERT INTO t VALUES ($id, 'local');
	SET LOCAL quorum.write_consistency = 'applied_all'; COMMIT"), qr/Not applied yet on "$name"/, 'SET LOCAL');
$id++;
is(messages($writer, "INSERT INTO t VALUES ($id, 'after')"), '', 'and only local');
is(messages($writer, q(SET quorum.write_consistency = 'applied_all'; BEGIN; SELECT * FROM t FOR UPDATE; COMMIT)),
	'', 'a transaction without changes waits for nothing');
$id++;
is(messages($writer, "BEGIN; INSERT INTO t VALUES ($id, 'undone'); ROLLBACK"), '', 'nor does one that is rolled back');

# Locks are free while the wait lasts; a cancel ends it
$id++;
my $waiting = session($c->node($at + 1));
$waiting->query(q(SET quorum.write_consistency = 'applied_all'; SET quorum.applied_timeout = '60s'));
my $backend = $waiting->query('SELECT pg_backend_pid()');
$waiting->query_until(qr/go/, "\\echo go\nINSERT INTO t VALUES ($id, 'waits');\n");
$c->wait_until('the row is committed', sub { $writer->query("SELECT count(*) FROM t WHERE id = $id") eq '1' });
is(messages($writer, "SET quorum.write_consistency = 'quorum';
	UPDATE t SET note = 'locks are free' WHERE id = $id"), '', 'the row can be changed while its COMMIT waits');
$writer->query("SELECT pg_cancel_backend($backend)");
like(messages($waiting, 'SELECT 1'), qr/WARNING.*canceling the wait.*DETAIL.*is committed/s,
	'a cancel ends the wait, the commit stands');
is($waiting->query('SELECT 2'), '2', 'and the session goes on');

# Many wait at once, and one message of the slow member is enough for all
my $first = $id + 1;
my @clients;
for my $n (1 .. 8)
{
	$id++;
	my %run = (out => '', err => '');
	$run{handle} = IPC::Run::start(
		[ 'psql', '-XAtq', '-d', $c->node($n % 2 ? $at + 1 : $followers[1] + 1)->connstr($db), '-c',
			q(SET quorum.write_consistency = 'applied_all'), '-c', q(SET quorum.applied_timeout = '60s'),
			'-c', "INSERT INTO t VALUES ($id, 'together')" ],
		'>', \$run{out}, '2>', \$run{err});
	push @clients, \%run;
}
$c->wait_until('all of them have committed',
	sub { $writer->query("SELECT count(*) FROM t WHERE id >= $first") eq '8' });
ok((grep { $_->{handle}->pumpable } @clients) == 8, 'eight commits wait for one member');
kill 'CONT', $pid;
my $bad = 0;
for my $client (@clients)
{
	$client->{handle}->finish;
	$bad++ if $client->{handle}->result != 0 || $client->{err} ne '';
}
is($bad, 0, 'and all of them return once it has applied');
is($slow->safe_psql($db, "SELECT count(*) FROM t WHERE id >= $first"), '8', 'where the rows are then');

# A member that is down: named; removed: not waited for
$slow->stop('immediate');
$id++;
$writer = session($c->node($at + 1));
$said = messages($writer, "SET quorum.write_consistency = 'applied_all';
	SET quorum.applied_timeout = '2s'; INSERT INTO t VALUES ($id, 'down')");
like($said, qr/WARNING.*Not applied yet on "$name"\./s, 'a member that is down is named');
$slow->start;
$c->settle;
$id++;
is(messages($writer, "SET quorum.applied_timeout = '30s'; INSERT INTO t VALUES ($id, 'back')"), '',
	'once back it counts');
is($slow->safe_psql($db, "SELECT count(*) FROM t WHERE id = $id"), '1', 'and has the row');

kill 'STOP', my $stopped = apply_worker($slow);
$id++;
my %late = (out => '', err => '');
$late{handle} = IPC::Run::start([ 'psql', '-XAtq', '-d', $c->node($at + 1)->connstr($db), '-c',
		q(SET quorum.write_consistency = 'applied_all'), '-c', q(SET quorum.applied_timeout = '60s'),
		'-c', "INSERT INTO t VALUES ($id, 'removed')" ], '>', \$late{out}, '2>', \$late{err});
$c->wait_until('it is committed', sub { $writer->query("SELECT count(*) FROM t WHERE id = $id") eq '1' });
$c->node($at + 1)->safe_psql($db, "SELECT quorum.remove_member('$name')");
$late{handle}->finish;
is($late{err}, '', 'a member that is removed is not waited for any more');
kill 'CONT', $stopped;

# One member alone, and without a quorum
$c->node($followers[1] + 1)->stop('immediate');
$c->wait_until('the quorum is lost and nobody leads',
	sub { $c->ask($c->node($at + 1), q(SELECT NOT has_quorum AND role <> 'leader' FROM quorum.status)) eq 't' });
$id++;
like(messages($writer, "\\set VERBOSITY verbose\nSET quorum.commit_timeout = '500ms'; INSERT INTO t VALUES ($id, 'alone')"),
	qr/ERROR:\s+55000: the cluster has no quorum/, 'without a quorum a write ends with 55000 after commit_timeout');
is($writer->query('SELECT count(*) > 0 FROM t'), 't', 'eventual reads go on');
$c->node($followers[1] + 1)->start;
$c->wait_for_leader($c->node($at + 1), $c->node($followers[1] + 1));
$id++;
is(messages($writer, "SET quorum.commit_timeout = 0; INSERT INTO t VALUES ($id, 'again')"), '', 'and writes resume by themselves');

$_->quit for grep { defined } $writer, $waiting;
done_testing();
