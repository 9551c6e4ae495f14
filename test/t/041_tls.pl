# Members over TLS (quorum.ssl): with PostgreSQL's own files and with others, who
# is not let in, and files that are exchanged while the servers run.
use strict;
use warnings;

use FindBin;
use lib "$FindBin::RealBin/../perl";
use File::Copy;
use IO::Socket::INET;
use QuorumCluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $db = 'postgres';
my $dir = PostgreSQL::Test::Utils::tempdir_short();
chmod 0755, $dir;

sub openssl
{
	my @command = ('openssl', @_);

	PostgreSQL::Test::Utils::run_log(\@command) or die "@command failed\n";
}

# A certificate authority: NAME.crt, NAME.key.
sub authority
{
	my ($name) = @_;

	openssl('req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2',
		'-subj', "/CN=$name", '-keyout', "$dir/$name.key", '-out', "$dir/$name.crt");
}

# FILE.crt and FILE.key for this common name.
sub certificate
{
	my ($ca, $file, $cn) = @_;

	openssl('req', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-subj', "/CN=$cn",
		'-keyout', "$dir/$file.key", '-out', "$dir/$file.csr");
	openssl('x509', '-req', '-in', "$dir/$file.csr", '-CA', "$dir/$ca.crt", '-CAkey', "$dir/$ca.key",
		'-CAcreateserial', '-days', '2', '-out', "$dir/$file.crt");
	chmod 0600, "$dir/$file.key";
}

sub write_on
{
	my ($c, $node, $what) = @_;

	return $c->wait_until("a write on " . $node->name . ": $what",
		sub { ($c->try_sql($node, "INSERT INTO t (what) VALUES ('$what')"))[0] eq '' }) && pass($what);
}

authority($_) for 'ca', 'other';
certificate('ca', $_, $_) for 'n1', 'n2', 'n3';
certificate('ca', 'wrong', 'somebody');
certificate('other', 'stranger', 'n3');

my $c = QuorumCluster->new(nodes => 3, conf => "quorum.ssl = require\n");
my @nodes = $c->nodes;

# --- without an authority there is nobody to be trusted ---

$nodes[0]->append_conf('postgresql.conf', "ssl_cert_file = '$dir/n1.crt'\nssl_key_file = '$dir/n1.key'\n");
$nodes[0]->start;
$nodes[0]->safe_psql($db, 'CREATE EXTENSION pg_quorum');
ok($c->fails_with($nodes[0], 'SELECT quorum.create_cluster()', '55000', qr/quorum\.ssl_ca_file or ssl_ca_file/),
	'no authority');
$nodes[0]->stop('fast');

# --- PostgreSQL's own files; and ours where they are set ---

$nodes[0]->append_conf('postgresql.conf', "ssl_ca_file = '$dir/ca.crt'\n");
for my $i (1, 2)
{
	my $name = $nodes[$i]->name;

	$nodes[$i]->append_conf('postgresql.conf',
		"quorum.ssl_cert_file = '$dir/$name.crt'\nquorum.ssl_key_file = '$dir/$name.key'\nquorum.ssl_ca_file = '$dir/ca.crt'\n");
}
$nodes[0]->start;
$nodes[0]->safe_psql($db, 'SELECT quorum.create_cluster()');
$c->wait_until('the first leads',
	sub { $c->ask($nodes[0], 'SELECT role FROM quorum.status') eq 'leader' });
$nodes[0]->safe_psql($db, 'CREATE TABLE t (id serial PRIMARY KEY, what text)');
$nodes[0]->safe_psql($db, q(SELECT quorum.add_table('t')));
for my $i (1, 2)
{
	$nodes[$i]->start;
	$nodes[$i]->safe_psql($db, 'CREATE EXTENSION pg_quorum');
	$nodes[$i]->safe_psql($db, sprintf q(SELECT quorum.join_cluster('%s')), $c->address($nodes[0]));
}
$c->settle;
write_on($c, $_, 'over TLS') for @nodes;
# more than one record, and than one frame
$nodes[1]->safe_psql($db, q(INSERT INTO t (what) SELECT string_agg(md5(i::text), '') FROM generate_series(1, 100000) i));
$c->settle;
$c->tables_equal('t', 'over TLS: tables equal');

# --- who does not speak it gets nothing ---

{
	my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $c->raft_port($nodes[0]), Timeout => 20);
	my $answer = '';

	print $socket "pg_quorum, is it not?\n" x 10;
	$socket->flush;
	1 while sysread($socket, $answer, 1000, length $answer);
	unlike($answer, qr/quorum|n1/, 'nothing in the clear for somebody without TLS');
	ok($c->log_matches($nodes[0], qr/TLS: the other side does not speak it/), 'and the log says so');
}

# --- certificates that are not this member's, or of another authority ---

sub with_files
{
	my ($file, $ca) = @_;

	copy("$dir/$file.crt", "$dir/n3.crt.new") or die;
	copy("$dir/$file.key", "$dir/n3.key.new") or die;
	chmod 0600, "$dir/n3.key.new";
	$nodes[2]->append_conf('postgresql.conf', "quorum.ssl_cert_file = '$dir/n3.crt.new'\nquorum.ssl_key_file = '$dir/n3.key.new'\n");
}

$nodes[2]->stop('fast');
with_files('wrong');
$c->restart($nodes[2]);
ok($c->log_matches($nodes[0], qr/"n3": .*the certificate is not this member's|certificate is not this member's.*"n3"/),
	'a certificate for somebody else is refused');
ok($c->poll_no_quorum($nodes[2]), 'it has no quorum');
write_on($c, $nodes[0], 'a member with a wrong certificate');

$nodes[2]->stop('fast');
with_files('stranger');
$c->restart($nodes[2]);
ok($c->log_matches($nodes[0], qr/the other side's certificate is not accepted/), 'so is one of another authority');
ok($c->poll_no_quorum($nodes[2]), 'it has no quorum either');
write_on($c, $nodes[1], 'a member of another authority');

$nodes[2]->stop('fast');
with_files('n3');
$c->restart($nodes[2]);
$c->settle;
write_on($c, $nodes[2], 'the right certificate again');

# --- files are exchanged while the server runs ---

open my $broken, '>', "$dir/n3.crt.new" or die;
print $broken "half a certificate\n";
close $broken;
$nodes[2]->reload;
ok($c->log_matches($nodes[2], qr/could not reload the certificate of this member, the former one stays in use: could not load certificate file/),
	'a broken file leaves the former certificate in use');
write_on($c, $nodes[2], 'after a reload of a broken file');
certificate('ca', 'n3.next', 'n3');
copy("$dir/n3.next.crt", "$dir/n3.crt.new") or die;
copy("$dir/n3.next.key", "$dir/n3.key.new") or die;
$nodes[2]->reload;
write_on($c, $nodes[2], 'after a reload of a new certificate');
# whoever connects now is shown the new one
$nodes[0]->restart;
$c->settle;
write_on($c, $_, 'with the new certificate') for @nodes;
$c->settle;
$c->tables_equal('t', 'in the end: tables equal');

# --- one member has it switched off ---

$nodes[2]->append_conf('postgresql.conf', "quorum.ssl = off\n");
$nodes[2]->reload;
ok($c->log_matches($nodes[2], qr/the other side uses TLS \(quorum\.ssl has to be the same on all members\)/),
	'a member without TLS says what is wrong');
ok($c->poll_no_quorum($nodes[2]), 'and is alone');
write_on($c, $nodes[0], 'a member without TLS');
$nodes[2]->append_conf('postgresql.conf', "quorum.ssl = require\n");
$nodes[2]->reload;
$c->settle;
write_on($c, $nodes[2], 'TLS again');

for my $node (@nodes)
{
	unlike(slurp_file($node->logfile), qr/PANIC|TRAP:|was terminated by signal/, $node->name . ' logged no crash');
}

done_testing();
