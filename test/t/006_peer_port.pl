# What can arrive at the port where members meet, and what can be in its way.
use strict;
use warnings;

use IO::Socket::INET;
use PostgreSQL::Test::Utils;
use QuorumCluster;
use Test::More;

my $db = $QuorumCluster::DB;
# so patient that only trouble on the port could cost a leader its place
my $c = QuorumCluster->new(nodes => 3, conf => "quorum.election_timeout = '2s'\n");
my $n = 0;

sub write_on
{
	my ($node, $what) = @_;
	my ($state, undef, $err) = $c->try_sql($node, 'INSERT INTO t VALUES (' . ++$n . ')');

	is($state, '', "$what: a write succeeds on " . $node->name) or diag($err);
}

sub dial
{
	my ($node) = @_;

	return IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $c->raft_port($node));
}

$c->found;
$c->everywhere('CREATE TABLE t (id int PRIMARY KEY)');
$c->add_tables('t');

# Garbage
srand(42);
my $leader = $c->wait_for_leader;
my $term = $c->ask($leader, 'SELECT term FROM quorum.status');
for my $garbage (
	"GET / HTTP/1.0\r\n\r\n", "\0" x 64, "\xff" x 4096, "\x7f\xff\xff\xff" . 'x' x 100,
	join('', map { chr(int(rand(256))) } 1 .. 20000))
{
	for my $node ($c->nodes)
	{
		my $socket = dial($node) or next;
		local $SIG{PIPE} = 'IGNORE';
		print $socket $garbage;
		close $socket;
	}
}
# Connections that say nothing, and one that says a little
my @silent = grep { $_ } map { dial($leader) } 1 .. 100;
my $slow = dial($leader);
syswrite $slow, "\0" if $slow;
write_on($_, 'garbage and silence on the port') for $c->nodes;
$c->settle;
$c->tables_equal('t', 'garbage: tables equal');
is($c->ask($c->wait_for_leader, 'SELECT term FROM quorum.status'), $term, 'the leader did not change');
ok($c->log_matches($leader, qr/LOG: .*(?:peer|handshake|connection|frame|protocol)/i), 'a log line says so');
close $_ for @silent;

# Another cluster where a member is expected
my $old = $c->node(3);
$old->stop('fast');
my $other = QuorumCluster->new(nodes => 1, prefix => 'other',
	conf => sprintf("quorum.address = '%s'\n", $c->address($old)));
# the last setting of a name counts
$other->node(1)->append_conf('postgresql.conf', sprintf "quorum.address = '%s'\n", $c->address($old));
$other->found;
$other->everywhere('CREATE TABLE t (id int PRIMARY KEY)');
$other->node(1)->safe_psql($db, q(SELECT quorum.add_table('t')));
write_on($c->node(1), 'another cluster on the port of a member');
write_on($c->node(2), 'another cluster on the port of a member');
is(($c->try_sql($other->node(1), 'INSERT INTO t VALUES (-1)'))[0], '', 'the other cluster writes for itself');
ok($c->log_matches($c->node(1), qr/cluster/i), 'the log names the cluster');
is($other->node(1)->safe_psql($db, 'SELECT count(*) FROM quorum.members'), '1', 'the other cluster has one member still');
is($other->node(1)->safe_psql($db, 'SELECT count(*) FROM t'), '1', 'and its own rows');
isnt(($c->try_sql($other->node(1), sprintf "SELECT quorum.join_cluster('%s')", $c->address($c->node(1))))[0],
	'', 'a member of another cluster cannot join');
$other->node(1)->stop('fast');

# The port is taken
my $holder = IO::Socket::INET->new(Listen => 5, LocalAddr => '127.0.0.1',
	LocalPort => $c->raft_port($old), ReuseAddr => 1);
ok($holder, 'we hold the port');
$c->restart($old);
is($old->safe_psql($db, 'SELECT 1'), '1', 'a server whose port is taken starts');
ok($c->log_matches($old, qr/could not (?:bind|listen)|in use/i), 'and its log says why it takes no part');
cmp_ok($old->safe_psql($db, 'SELECT count(*) FROM t'), '>', 0, 'its tables can be read');
write_on($c->node(1), 'port taken');
close $holder;
$c->restart($old) if !$old->{_pid};
$old->restart;
$c->settle;
write_on($old, 'port free again');
$c->settle;
$c->tables_equal('t', 'port free again: tables equal');

# Not on a loopback address without a proof of who is there
$old->stop('fast');
$old->append_conf('postgresql.conf', sprintf "quorum.address = '0.0.0.0:%d'\n", $c->raft_port($old));
$c->restart($old);
is($old->safe_psql($db, 'SELECT 1'), '1', 'not loopback, no secret: the server starts');
ok($c->log_matches($old, qr/quorum\.ssl.*quorum\.secret_file|quorum\.secret_file/), 'and the log names the settings');
$old->stop('fast');
$old->append_conf('postgresql.conf', sprintf "quorum.address = '%s'\n", $c->address($old));

# A secret: all or none, and not for others to read
my $file = "$PostgreSQL::Test::Utils::tmp_check/secret";
append_to_file($file, 'correct horse battery staple');
chmod 0644, $file;
$old->append_conf('postgresql.conf', "quorum.secret_file = '$file'\n");
$c->restart($old);
ok($c->log_matches($old, qr/secret/), 'a secret that others can read is refused');
chmod 0600, $file;
$old->restart;
write_on($c->node(1), 'one member demands a secret');
is($old->safe_psql($db, 'SELECT has_quorum FROM quorum.status'), 'f', 'it talks to nobody without one');
for my $node ($c->node(1), $c->node(2))
{
	$node->append_conf('postgresql.conf', "quorum.secret_file = '$file'\n");
	$node->restart;
}
$c->settle;
write_on($_, 'all have the secret') for $c->nodes;
$c->settle;
$c->tables_equal('t', 'with a secret: tables equal');

for my $node ($c->nodes)
{
	unlike(slurp_file($node->logfile), qr/PANIC|TRAP:|was terminated by signal/,
		$node->name . ' logged no crash');
}

done_testing();
