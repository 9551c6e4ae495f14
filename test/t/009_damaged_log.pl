# The log on a disk that lies or fails: damage below what was acknowledged, a
# torn tail, metadata that is gone, EIO while it runs.
use strict;
use warnings;

use PostgreSQL::Test::Utils;
use QuorumCluster;
use Test::More;

my $db = $QuorumCluster::DB;
my $c = QuorumCluster->new(nodes => 3, faults => 1);
my $n = 0;

# Each row a transaction, so an entry, of its own.
sub write_rows
{
	my ($node, $count, $what) = @_;
	my $sql = join '', map { sprintf "INSERT INTO t VALUES (%d, repeat('x', 200));\n", $n + $_ } 1 .. $count;
	my ($state, undef, $err) = $c->try_sql($node, $sql);

	$n += $count;
	return is($state, '', "$what: writes succeed on " . $node->name) || diag($err);
}

sub all_there
{
	my ($what) = @_;

	$c->settle;
	$c->tables_equal('t', "$what: tables equal");
	is($_->safe_psql($db, "SELECT count(*), count(DISTINCT id) FROM t WHERE id BETWEEN 1 AND $n"),
		"$n|$n", "$what: every acknowledged row is on " . $_->name)
	  for $c->nodes;
}

# It counts again: with one of the others gone nothing is decided without it.
sub votes_again
{
	my ($node, $what) = @_;
	my ($gone) = $c->others($node);

	$c->wait_until($node->name . ' is a voter like any other', sub {
		$c->ask($node, 'SELECT detail IS NULL AND has_quorum FROM quorum.status') eq 't' });
	$c->kill9($gone);
	my @alive = $c->alive;
	$c->wait_for_leader(@alive);
	write_rows($_, 2, "$what, with a vote of its own") for @alive;
	$c->restart($gone);
	all_there("$what, and all three");
}

# --- the files (format: the top of src/storage/rlog_format.c) ---

sub log_dir { return $_[0]->data_dir . '/pg_quorum/log'; }

# The records that the log holds, oldest first.
sub records
{
	my ($node) = @_;
	my @records;
	my $last;

	for my $file (sort glob log_dir($node) . '/log-*')
	{
		my $bytes = slurp_file($file);
		my $at = 64;

		while ($at + 72 <= length $bytes)
		{
			my ($magic, $type, $kind, $len, undef, $generation, undef, $index, $term) =
			  unpack 'vCCVVVVQ<Q<', substr($bytes, $at + 4, 36);
			my $size = 72 + ($len + 7 & ~7);

			last if $magic != 0x5152 || ($last && ($index != $last->{index} + 1 ||
				$generation < $last->{generation}));
			if ($kind == 0)
			{
				$last = { file => $file, at => $at, len => $len, size => $size, index => $index,
					term => $term, type => $type, generation => $generation };
				push @records, $last;
			}
			last if $kind != 0;
			$at += $size;
		}
	}
	return @records;
}

sub overwrite
{
	my ($file, $at, $bytes) = @_;

	open my $out, '+<:raw', $file or die "$file: $!";
	seek $out, $at, 0;
	print $out $bytes;
	close $out or die "$file: $!";
}

# One bit of a record in the midst of what is used. Returns its index.
sub damage
{
	my ($node) = @_;
	my @data = grep { $_->{len} > 100 } records($node);
	my $victim = $data[ @data / 2 ];
	my $at = $victim->{at} + 72 + int($victim->{len} / 2);
	my $byte = substr slurp_file($victim->{file}), $at, 1;

	cmp_ok(scalar @data, '>', 20, $node->name . ' has a log to damage');
	overwrite($victim->{file}, $at, $byte ^ "\x10");
	return $victim->{index};
}

sub crc32c
{
	my $crc = 0xffffffff;

	for my $byte (unpack 'C*', $_[0])
	{
		$crc ^= $byte;
		$crc = $crc & 1 ? $crc >> 1 ^ 0x82f63b78 : $crc >> 1 for 1 .. 8;
	}
	return $crc ^ 0xffffffff;
}

# What a power cut in the midst of a write leaves: the next record's header, and
# anything where its payload should be.
sub tear
{
	my ($node) = @_;
	my $last = (records($node))[-1];
	my $at = $last->{at} + $last->{size};
	my ($seq) = $last->{file} =~ /log-([0-9a-f]+)$/;
	my $header = pack 'vCCVVVVQ<Q<a16a16', 0x5152, 2, 0, 1000, 12345, $last->{generation}, $at,
	  $last->{index} + 1, $last->{term}, 's', 't';

	overwrite($last->{file}, $at,
		pack('V', crc32c(pack('Q<Q<', hex $seq, $at) . $header)) . $header . 'garbage!' x 60);
	return $last->{index};
}

sub role { return $c->ask($_[0], 'SELECT role FROM quorum.status'); }
sub detail { return $c->ask($_[0], 'SELECT detail FROM quorum.status'); }

$c->found;
$c->everywhere('CREATE TABLE t (id int PRIMARY KEY, filler text)');
$c->add_tables('t');
write_rows($_, 40, 'to begin with') for $c->nodes;
all_there('to begin with');

# --- damage in one member, the others go on ---

for my $who ('follower', 'leader')
{
	my $leader = $c->wait_for_leader;
	my $node = $who eq 'leader' ? $leader : ($c->others($leader))[0];
	my $what = "a damaged log, a $who";

	$node->stop('fast');
	$c->wait_for_leader($c->others($node));
	write_rows($_, 20, "$what: meanwhile") for $c->others($node);
	my $index = damage($node);
	$c->restart($node);
	ok($c->log_matches($node, qr/WARNING:  the log of this member is damaged at entry $index\n/),
		"$what: its log names the entry");
	all_there($what);
	ok($c->log_matches($node, qr/has everything again that its damaged log had lost, and votes/),
		"$what: its log says when everything is back");
	$c->comes_to_be($c->wait_for_leader, 'SELECT bool_and(is_voter AND reachable) FROM quorum.members', 't',
		"$what: three voters");
	votes_again($node, $what);
}

# --- damage in the leader, and nobody else there: nothing is decided without the rest ---

$c->settle;
my $victim = $c->wait_for_leader;
my @others = $c->others($victim);
write_rows($victim, 20, 'before all crash');
$c->kill9($c->nodes);
my $index = damage($victim);
$c->restart($victim);
$c->wait_until('status names the damage', sub { detail($victim) =~ /log was damaged.* before entry $index;/ });
is(role($victim), 'follower', 'it runs, as a follower');
# (a crash takes the newest rows from tables, the log gives them back)
is($victim->safe_psql($db, 'SELECT count(*) > 0 FROM t'), 't', 'its tables can be read');
is($c->ask($victim, 'SELECT has_quorum FROM quorum.status'), 'f', 'it has no quorum');
# once more: what is not to be trusted outlives a restart
$c->kill9($victim);
$c->restart($victim);
$c->wait_until('status names the damage after a restart',
	sub { detail($victim) =~ /log was damaged.* before entry $index;/ });
# with one other only, that one would need its vote
$c->restart($others[0]);
$c->wait_until('the two see each other', sub {
	$c->ask($others[0], sprintf "SELECT reachable FROM quorum.members WHERE node_name = '%s'", $victim->name) eq 't' });
isnt(role($victim), 'leader', 'it does not lead');
like(detail($victim), qr/does not vote/, 'and does not vote');
isnt(role($others[0]), 'leader', 'so neither does the other');
$c->restart($others[1]);
isnt($c->wait_for_leader->name, $victim->name, 'a member with a sound log leads');
write_rows($victim, 2, 'on the member that lost a part of its log');
all_there('a damaged leader');
votes_again($victim, 'a damaged leader');

# --- damage in a leader that runs: noticed when another member needs the entry ---

my $behind = ($c->others($c->wait_for_leader))[0];
$behind->stop('fast');
@others = $c->others($behind);
$c->wait_for_leader(@others);
write_rows($_, 20, 'one member is behind') for @others;
# what they have in memory is gone
$_->stop('fast') for @others;
$c->restart(@others);
$victim = $c->wait_for_leader(@others);
my ($wanted) = grep { $_->{len} > 100 } (records($victim))[ -20 .. -1 ];
overwrite($wanted->{file}, $wanted->{at} + 80, 'rotten');
$c->restart($behind);
ok($c->log_matches($victim, qr/the log of this member is damaged at entry $wanted->{index}\n/),
	'damage in a leader that runs: its log names the entry');
all_there('damage in a leader that runs');
$c->wait_until('the one that was behind needs no image', sub {
	$c->ask($behind, 'SELECT detail IS NULL FROM quorum.status') eq 't' });
votes_again($victim, 'damage in a leader that runs');

# --- damage in an entry that the tables do not have yet ---

$victim = ($c->others($c->wait_for_leader))[0];
my $applier = $victim->safe_psql($db,
	"SELECT pid FROM pg_stat_activity WHERE backend_type = 'pg_quorum apply worker'");
my $has = $victim->safe_psql($db, 'SELECT last_index FROM quorum.status');
kill 'STOP', $applier;
write_rows($_, 10, 'tables that stand still') for $c->others($victim);
$c->wait_until('the log has it', sub {
	$c->ask($victim, "SELECT commit_index >= $has + 20 FROM quorum.status") eq 't' });
($wanted) = grep { $_->{len} > 100 && $_->{index} > $has + 5 } records($victim);
overwrite($wanted->{file}, $wanted->{at} + 80, 'rotten');
kill 'CONT', $applier;
ok($c->log_matches($victim, qr/the log of this member is damaged at entry $wanted->{index}\n/),
	'damage before the tables have it: its log names the entry');
all_there('damage before the tables have it');
votes_again($victim, 'damage before the tables have it');

# --- a torn tail ---

my $torn = ($c->others($c->wait_for_leader))[0];
write_rows($torn, 5, 'before the torn write');
$c->settle;
$c->kill9($torn);
my $last = tear($torn);
$c->restart($torn);
ok($c->log_matches($torn, qr/cut a torn write that was never acknowledged .* after index $last\n/),
	'a torn tail: its log says that it was cut');
unlike(slurp_file($torn->logfile) =~ s/.*cut a torn write//sr, qr/damaged/, 'and calls nothing damaged');
write_rows($torn, 2, 'a torn tail');
all_there('a torn tail');

# --- the disk fails while it runs ---

for my $who ('follower', 'leader')
{
	my $leader = $c->wait_for_leader;
	my $node = $who eq 'leader' ? $leader : ($c->others($leader))[0];
	my @sound = $c->others($node);
	my $what = "EIO on the disk of a $who";

	$c->fault($node, 'eio');
	write_rows($sound[0], 5, $what);
	$c->wait_until('status says that it acknowledges nothing', sub {
		role($node) eq 'stopped' && detail($node) =~ /acknowledges nothing any more/ });
	ok($c->log_matches($node, qr/the log cannot be written, .*Input\/output error/), "$what: its log says so");
	is($node->safe_psql($db, 'SELECT count(*) > 0 FROM t'), 't', "$what: its tables can be read");
	isnt(($c->try_sql($node, "SET quorum.commit_timeout = '1s'; INSERT INTO t VALUES (-1)"))[0], '',
		"$what: it takes no writes");
	$c->wait_for_leader(@sound);
	write_rows($_, 5, "$what: the others go on") for @sound;
	# a failed sync: nobody knows what it left until a restart reads it
	$c->no_fault($node, 'eio');
	$node->reload;
	ok($c->log_matches($node, qr/received SIGHUP/), "$what: a reload");
	write_rows($sound[0], 1, "$what: after the reload");
	is(role($node), 'stopped', "$what: is no restart");
	$node->stop('fast');
	$c->restart($node);
	all_there("$what, and restarted");
	votes_again($node, $what);
}

# --- the metadata is gone ---

my $lost = ($c->others($c->wait_for_leader))[0];
@others = $c->others($lost);
$lost->stop('fast');
overwrite(log_dir($lost) . '/meta', 0, "\xa5" x -s log_dir($lost) . '/meta');
$c->restart($lost);
$c->wait_until('it is fenced', sub { role($lost) eq 'fenced' });
like(detail($lost), qr/metadata is gone.*join anew.*quorum\.join_cluster/, 'metadata gone: status says what to do');
ok($c->log_matches($lost, qr/metadata is gone.*join anew/), 'metadata gone: so does its log');
is($lost->safe_psql($db, "SELECT count(*) FROM t WHERE id BETWEEN 1 AND $n"), $n, 'metadata gone: its tables can be read');
isnt(($c->try_sql($lost, 'INSERT INTO t VALUES (-2)'))[0], '', 'metadata gone: it takes no writes');
write_rows($_, 5, 'metadata gone: the others go on') for @others;
$c->settle(@others);
$c->tables_equal('t', 'metadata gone: their tables are equal', @others);
is($others[0]->safe_psql($db, "SELECT count(*) FROM t WHERE id BETWEEN 1 AND $n"), $n, 'and hold every acknowledged row');

for my $node ($c->nodes)
{
	unlike(slurp_file($node->logfile), qr/PANIC|TRAP:|was terminated by signal (?:6|11)/,
		$node->name . ' logged no crash of its own making');
	unlike(slurp_file($node->logfile), qr/old copy|do not belong together/, $node->name . ' was taken for nothing else');
}

done_testing();
