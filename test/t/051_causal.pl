# Causal tokens: given out with each commit by the protocol itself, good on every
# member, over failover and restarts; and not to be made up.
use strict;
use warnings;

use IPC::Run ();
use PostgreSQL::Test::Utils;
use QuorumCluster;
use Test::More;

my $db = $QuorumCluster::DB;
my $c = QuorumCluster->new(nodes => 3);

$c->found;
$c->everywhere('CREATE TABLE t (id int PRIMARY KEY, v int NOT NULL)');
$c->add_tables('t');
$c->node(1)->safe_psql($db, 'INSERT INTO t SELECT g, 0 FROM generate_series(1, 10) g');
$c->settle;
my $leader = $c->wait_for_leader;
my ($follower, $third) = $c->others($leader);

sub token_of
{
	my ($node, $sql) = @_;

	my $out = $node->safe_psql($db, "$sql; SELECT 'token ' || current_setting('quorum.causal_token')");
	return $out =~ /^token (.*)\z/m ? $1 : undef;
}

sub hold
{
	my ($node, $on) = @_;

	$node->safe_psql($db, "ALTER SYSTEM SET quorum.debug_apply_hold = $on");
	$node->reload;
	$c->wait_until($node->name . " holds: $on",
		sub { $c->ask($node, q(SELECT current_setting('quorum.debug_apply_hold'))) eq $on });
}

# --- the token ---

my $token = token_of($leader, 'UPDATE t SET v = 1 WHERE id = 1');
like($token, qr/^[-_A-Za-z0-9]{66}$/, 'a commit leaves a token');
isnt(token_of($leader, 'UPDATE t SET v = 2 WHERE id = 1'), $token, 'each one another');
is($leader->safe_psql($db, 'UPDATE t SET v = 3 WHERE id = 1; SELECT quorum.current_token() = current_setting(\'quorum.causal_token\')'),
	't', 'current_token() is the same');
is(token_of($leader, 'SELECT 1'), '', 'a session that has done nothing has none');
is(token_of($leader, 'BEGIN; UPDATE t SET v = 4 WHERE id = 1; ROLLBACK'), '', 'nor one that rolled back');
is(token_of($leader, 'UPDATE t SET v = 4 WHERE id = 99'), '', 'nor one that changed nothing');
is(token_of($leader, 'SELECT * FROM t'), '', 'nor one that read under eventual');
like(token_of($leader, 'SET quorum.read_consistency = causal; SELECT * FROM t'), qr/^.{66}$/, 'a causal read gives one');

# reported to the client by the protocol, with the answer to COMMIT and to an
# autocommit statement: psql does not show that, libpq's parameter status does
my $probe = "$ENV{PGQ_TEST_DIR}/report";
my $source = "$PostgreSQL::Test::Utils::tmp_check/report.c";
open my $out, '>', $source or die $!;
print $out <<'C';
#include <libpq-fe.h>
#include <stdio.h>
#include <string.h>
int main(int argc, char **argv)
{
	PGconn *c = PQconnectdb(argv[1]);
	char before[100];
	for (int i = 2; i < argc; i++)
	{
		const char *s;
		s = PQparameterStatus(c, "quorum.causal_token");
		snprintf(before, sizeof(before), "%s", s ? s : "");
		PQclear(PQexec(c, argv[i]));
		s = PQparameterStatus(c, "quorum.causal_token");
		printf("%s\n", s == NULL ? "none" : strcmp(s, before) == 0 ? "same" : "new");
	}
	PQfinish(c);
	return 0;
}
C
close $out;
my $include = `pg_config --includedir`;
my $lib = `pg_config --libdir`;
chomp($include, $lib);
my $binary = "$PostgreSQL::Test::Utils::tmp_check/report";
system('gcc', '-o', $binary, $source, "-I$include", '-I/usr/include/postgresql', "-L$lib", '-lpq', "-Wl,-rpath,$lib") == 0
  or BAIL_OUT('report.c does not compile');
my @steps = (
	'SELECT 1' => 'same',
	'UPDATE t SET v = 5 WHERE id = 1' => 'new',
	'SELECT v FROM t' => 'same',
	'BEGIN' => 'same',
	'UPDATE t SET v = 6 WHERE id = 1' => 'same',
	'COMMIT' => 'new',
	'BEGIN; UPDATE t SET v = 7 WHERE id = 1; ROLLBACK' => 'same',
	'DO $$ BEGIN UPDATE t SET v = 8 WHERE id = 1; COMMIT; END $$' => 'new',
	'RESET quorum.causal_token' => 'same',
	'DISCARD ALL' => 'same',
);
my @sql = map { $steps[ 2 * $_ ] } 0 .. $#steps / 2;
my @want = map { $steps[ 2 * $_ + 1 ] } 0 .. $#steps / 2;
my ($o, $e) = ('', '');
IPC::Run::run([ $binary, $leader->connstr($db), @sql ], '>', \$o, '2>', \$e);
is_deeply([ split /\n/, $o ], \@want, 'the protocol reports it when it moves') or diag($o, $e);

# --- carried to another member ---

hold($follower, 'on');
$token = token_of($leader, 'UPDATE t SET v = 100 WHERE id = 2');
for my $level (qw(causal read_your_writes))
{
	$c->fails_with($follower, "SET quorum.read_timeout = '50ms'; SET quorum.read_consistency = $level; SET quorum.causal_token = '$token'; SELECT v FROM t WHERE id = 2;",
		'55000', qr/"$level"/, "$level waits for a token of another member");
}
is($follower->safe_psql($db, "SET quorum.causal_token = '$token'; SELECT v FROM t WHERE id = 2"), '0',
	'eventual does not care');
is($follower->safe_psql($db, "SET quorum.read_timeout = '50ms'; SET quorum.read_consistency = causal; SELECT v FROM t WHERE id = 2"), '0',
	'nor a session that was given none');
is($follower->safe_psql($db, "SELECT quorum.wait_for('$token', '50ms')"), 'f', 'wait_for tells that it is not there');
hold($follower, 'off');
is($follower->safe_psql($db, "SELECT quorum.wait_for('$token', '30s')"), 't', 'and that it is');
is($follower->safe_psql($db, "SET quorum.causal_token = '$token'; SET quorum.read_consistency = causal; SELECT v FROM t WHERE id = 2"), '100', 'causal has it');

# writes of one's own, wherever they were made; in transactions of all levels
hold($follower, 'on');
my $mine = $third->background_psql($db);
$mine->query("SET quorum.read_consistency = read_your_writes");
for my $i (1 .. 20)
{
	$mine->query_safe("UPDATE t SET v = $i WHERE id = 3");
	is($mine->query_safe('SELECT v FROM t WHERE id = 3'), $i, "own write $i") if $i == 20;
}
$mine->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ');
is($mine->query_safe('SELECT v FROM t WHERE id = 3'), '20', 'and in REPEATABLE READ');
$mine->query_safe('COMMIT');
hold($follower, 'off');

# what a causal reader has seen travels on: three sessions on three members
hold($third, 'on');
$token = token_of($leader, 'UPDATE t SET v = 7 WHERE id = 4');
my $seen = token_of($follower, "SET quorum.read_consistency = causal; SET quorum.causal_token = '$token'; SELECT v FROM t WHERE id = 4");
$c->settle($leader, $follower);
my $unasked = token_of($follower, 'SET quorum.read_consistency = causal; SELECT v FROM t WHERE id = 4');
for my $t ($seen, $unasked)
{
	$c->fails_with($third, "SET quorum.read_timeout = '50ms'; SET quorum.read_consistency = causal; SET quorum.causal_token = '$t'; SELECT v FROM t WHERE id = 4;",
		'55000', undef, 'what was read is not forgotten on the way');
}
hold($third, 'off');
is($third->safe_psql($db, "SET quorum.read_consistency = causal; SET quorum.causal_token = '$seen'; SELECT v FROM t WHERE id = 4"), '7', 'and is there');

# monotonic: an older one, none, ROLLBACK and RESET change nothing
my $session = $leader->background_psql($db, on_error_stop => 0);
my $old = $session->query("UPDATE t SET v = 1 WHERE id = 5; SHOW quorum.causal_token");
my $new = $session->query("UPDATE t SET v = 2 WHERE id = 5; SHOW quorum.causal_token");
isnt($new, $old, 'two commits, two tokens');
is($session->query("SET quorum.causal_token = '$old'; SHOW quorum.causal_token"), $new, 'an older token changes nothing');
is($session->query("SET quorum.causal_token = ''; SHOW quorum.causal_token"), $new, 'an empty one neither');
is($session->query("RESET quorum.causal_token; SHOW quorum.causal_token"), $new, 'nor RESET');
my $newer = token_of($leader, 'UPDATE t SET v = 3 WHERE id = 5');
is($session->query("BEGIN; SET LOCAL quorum.causal_token = '$newer'; ROLLBACK; SELECT quorum.wait_for(quorum.current_token(), '10s')"), 't', 'ROLLBACK does not take it back');
my $after = $session->query('SHOW quorum.causal_token');
isnt($after, $new, 'nothing goes back');

# --- not to be made up ---

sub bad
{
	my ($what, $text) = @_;

	$c->fails_with($leader, "SET quorum.causal_token = '$text'", '22023', qr/invalid causal token/, "$what: SET");
	$c->fails_with($leader, "SELECT quorum.wait_for('$text', '1s')", '22023', qr/invalid causal token/, "$what: wait_for")
	  if $text ne '';
}
bad('garbage', 'garbage');
bad('too short', substr $token, 1);
bad('with a character that is none', '!' . substr $token, 1);
for my $at (0, 5, 12, 18, 30, 50, 65)
{
	my $changed = $token;
	substr($changed, $at, 1) = substr($changed, $at, 1) eq 'A' ? 'B' : 'A';
	bad("changed at $at", $changed);
}
# where it cannot be checked at once: with the first statement that wants to know
{
	my $changed = $token;
	substr($changed, 20, 1) = substr($changed, 20, 1) eq 'A' ? 'B' : 'A';
	local $ENV{PGOPTIONS} = "-c quorum.causal_token=$changed -c quorum.read_consistency=causal";
	$c->fails_with($leader, 'SELECT * FROM t', '22023', qr/invalid causal token/, 'in the options of a connection');
	$ENV{PGOPTIONS} = "-c quorum.causal_token=$token -c quorum.read_consistency=causal";
	is($leader->safe_psql($db, 'SELECT v FROM t WHERE id = 4'), '7', 'a good one there is fine');
}
my $other = QuorumCluster->new(nodes => 1, prefix => 'other');
$other->found;
$other->everywhere('CREATE TABLE t (id int PRIMARY KEY, v int NOT NULL)');
$other->add_tables('t');
my $foreign = token_of($other->node(1), 'INSERT INTO t VALUES (1, 1)');
$c->fails_with($leader, "SET quorum.causal_token = '$foreign'", '22023', qr/another cluster/, 'a token of another cluster');
$_->stop for $other->nodes;
$c->fails_with($leader, 'CREATE ROLE nobody LOGIN; SET ROLE nobody; SELECT * FROM quorum.token_key;', '42501', undef, 'the key is nobody\'s');
$c->fails_with($leader, q(SELECT quorum._set_token_key('00')), '42501', undef, 'and not to be set');
is(scalar(() = map { $_->safe_psql($db, 'SELECT encode(sha256(key), \'hex\') FROM quorum.token_key') } $c->nodes), 3, 'each member has it');
my %keys = map { $_->safe_psql($db, 'SELECT encode(sha256(key), \'hex\') FROM quorum.token_key') => 1 } $c->nodes;
is(keys %keys, 1, 'the same one');

# --- over failover and restart ---

$token = token_of($third, 'UPDATE t SET v = 1000 WHERE id = 6');
$c->kill9($leader);
my @left = ($follower, $third);
my $next = $c->wait_for_leader(@left);
for my $node (@left)
{
	is($node->safe_psql($db, "SET quorum.read_consistency = causal; SET quorum.causal_token = '$token'; SELECT v FROM t WHERE id = 6"), '1000',
		'a token from before is good after a failover, on ' . $node->name);
}
my $later = token_of($next, 'UPDATE t SET v = 1001 WHERE id = 6');
$c->restart($leader);
is($leader->safe_psql($db, "SET quorum.read_consistency = causal; SET quorum.causal_token = '$later'; SELECT v FROM t WHERE id = 6"), '1001',
	'and on the one that comes back');
is($leader->safe_psql($db, "SET quorum.causal_token = '$token'; SET quorum.read_consistency = causal; SELECT v FROM t WHERE id = 6"), '1001', 'both of them');
$mine->quit;
$session->quit;

# --- the leader's lease: no round, and no old answer over a transfer ---

$c->everywhere('ALTER SYSTEM SET quorum.leader_lease = on');
$_->reload for $c->nodes;
$leader = $c->wait_for_leader;
my $value = 5000;
my $wrong = 0;
for my $round (1 .. 15)
{
	$value++;
	my $node = ($c->nodes)[ $round % 3 ];
	$node->safe_psql($db, "UPDATE t SET v = $value WHERE id = 7");
	for my $reader ($c->nodes)
	{
		my $v = $reader->safe_psql($db, 'SET quorum.read_consistency = strong; SELECT v FROM t WHERE id = 7');
		$wrong++ if $v ne $value;
	}
	$node->safe_psql($db, 'SELECT quorum.transfer_leadership()') if $round % 5 == 0;
}
is($wrong, 0, 'strong reads with a lease see every write, while leadership moves about');

# a leader that is stopped must not answer from its lease once another leads
$leader = $c->wait_for_leader;
my @others = $c->others($leader);
my ($raft) = $leader->safe_psql($db, q(SELECT pid FROM pg_stat_activity WHERE backend_type = 'pg_quorum raft worker'));
kill 'STOP', $raft;
$c->wait_for_leader(@others);
$value++;
$others[0]->safe_psql($db, "UPDATE t SET v = $value WHERE id = 7");
$c->fails_with($leader, "SET quorum.read_timeout = '300ms'; SET quorum.read_consistency = strong; SELECT v FROM t WHERE id = 7",
	'55000', undef, 'a former leader whose worker is stopped gives no answer');
kill 'CONT', $raft;
is($leader->safe_psql($db, 'SET quorum.read_consistency = strong; SELECT v FROM t WHERE id = 7'), $value, 'and the right one afterwards');

done_testing();
