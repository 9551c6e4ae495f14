# quorum.outcome() long after: for transactions whose entries have left the log and
# everybody's memory, on every server, also after restarts, on one that has no
# archive of its own; and not beyond quorum.outcome_retention. The log is kept
# while the archive cannot be written.
use strict;
use warnings;

use PostgreSQL::Test::Utils;
use QuorumCluster;
use Test::More;

my $db = $QuorumCluster::DB;
my $c = QuorumCluster->new(nodes => 3, conf => q(
quorum.max_log_size = '16MB'
));
my $made = 0;

$c->found;
$c->everywhere('CREATE TABLE t (id int PRIMARY KEY, filler text)');
$c->add_tables('t');

# That many transactions of 8 kB, one in 50 rolled back; some of the tokens:
# ({ token => committed or aborted }).
sub transactions
{
	my ($node, $n) = @_;
	my %tokens;
	my (undef, $out, $err) = $node->psql($db, sprintf(q(
		CREATE TEMP TABLE tokens (token text, what text);
		DO $$ DECLARE token text; BEGIN
			FOR i IN %d .. %d LOOP
				INSERT INTO t VALUES (i, repeat('0123456789', 800));
				IF i %% 50 = 0 THEN
					token := quorum.transaction_token();
					ROLLBACK;
					INSERT INTO tokens VALUES (token, 'aborted');
				ELSIF i %% 50 = 1 THEN
					INSERT INTO tokens VALUES (quorum.transaction_token(), 'committed');
				END IF;
				COMMIT;
			END LOOP;
		END $$;
		SELECT token || ' ' || what FROM tokens), $made + 1, $made + $n), timeout => 120, timed_out => \my $late);

	diag($err) if $err;
	$made += $n;
	$tokens{$1} = $2 while $out =~ /^(\S+) (\w+)$/mg;
	return \%tokens;
}

# Segments of the log, oldest first.
sub segments
{
	my ($node) = @_;
	my $dir = $node->data_dir . '/pg_quorum/log';

	opendir my $handle, $dir or die "$dir: $!";
	return sort grep { /^log-/ } readdir $handle;
}

sub archive_files
{
	my ($node) = @_;

	return glob $node->data_dir . '/pg_quorum/outcomes/*-*';
}

# What a server says of these tokens: how many it gets wrong. The second one: with
# what it must say of all that were committed; of the others it may say so, too.
sub wrong
{
	my ($node, $expected, $of_committed) = @_;
	my @tokens = sort keys %$expected;
	my $sql = join ";\n", map { "SELECT '$_ ' || quorum.outcome('$_')" } @tokens;
	my (undef, $out, $err) = $node->psql($db, $sql, timeout => 90, timed_out => \my $late);
	my %said = map { split / / } split /\n/, $out // '';
	my $fits = sub {
		my ($what, $said) = @_;

		return $said eq $what unless $of_committed;
		return $said eq $of_committed || ($what eq 'aborted' && $said eq $what);
	};
	my @wrong = grep { !$fits->($expected->{$_}, $said{$_} // 'nothing') } @tokens;

	diag($node->name . ": $_ is $expected->{$_}, said " . ($said{$_} // 'nothing')) for @wrong > 5 ? @wrong[ 0 .. 4 ] : @wrong;
	diag($err) if $err;
	return scalar @wrong;
}

my @oldest = map { (segments($_))[0] } $c->nodes;
my $tokens = transactions($c->node(1), 1500);
my $more = transactions($c->node(2), 1500);

$tokens = { %$tokens, %$more };
is(scalar keys %$tokens, 120, 'tokens of 3000 transactions, some of them rolled back');

# Enough for the log to let the first of them go, everywhere
my $rounds = 0;
my $gone = sub {
	return !grep { my $old = $oldest[ $_ - 1 ]; grep { $_ eq $old } segments($c->node($_)) } 1 .. 3;
};
transactions($c->node(3), 1000) while !$gone->() && $rounds++ < 6;
ok($c->wait_until('the beginning of the log is gone on all members', $gone), 'the log was cut');
is(wrong($_, $tokens), 0, 'outcomes asked on ' . $_->name) for $c->nodes;

# Nobody remembers: only the log's end and the archives are left
$c->kill9($c->nodes);
$c->restart($c->nodes);
$c->wait_for_leader;
$c->settle;
is((grep { my @files = archive_files($_); @files > 0 } $c->nodes), 3, 'all members have archives');
is(wrong($_, $tokens), 0, 'after a restart of all, asked on ' . $_->name) for $c->nodes;

# A member without history asks the others
my $bare = $c->node(3);
$bare->stop;
rename $bare->data_dir . '/pg_quorum/outcomes', $bare->data_dir . '/pg_quorum/outcomes.away' or die $!;
$bare->start;
$c->wait_for_leader;
$c->settle;
is(wrong($bare, $tokens), 0, 'a member that has no archive of its own asks another');

# One that joins now gets the history with its image, whoever gives that
$bare->stop;
rename $bare->data_dir . '/pg_quorum/outcomes', $bare->data_dir . '/pg_quorum/outcomes.bare' or die $!
  if -e $bare->data_dir . '/pg_quorum/outcomes';
rename $bare->data_dir . '/pg_quorum/outcomes.away', $bare->data_dir . '/pg_quorum/outcomes' or die $!;
$bare->start;
$c->wait_for_leader;
$c->settle;
my $new = $c->add_node;
$c->restart($new);
$new->safe_psql($db, 'CREATE EXTENSION pg_quorum');
$c->join_node($new);
$c->settle;
ok($c->wait_until('it has an archive from the beginning on',
		sub { grep { m{/0{15}1-} } archive_files($new) }), 'a new member gets the archive');
my @away = map { $_->data_dir . '/pg_quorum/outcomes' } grep { $_->name ne $new->name } $c->nodes;
rename $_, "$_.hidden" or die $! for @away;
is(wrong($new, $tokens), 0, 'and needs nobody else\'s');
for my $dir (@away)
{
	PostgreSQL::Test::Utils::system_or_bail('rm', '-rf', $dir) if -e $dir;
	rename "$dir.hidden", $dir or die $!;
}
$c->node(1)->safe_psql($db, "SELECT quorum.remove_member('" . $new->name . "')");
$new->stop;
pop @{ $c->{nodes} };

# Without a quorum what was committed is still known
my $some = { map { $_ => $tokens->{$_} } (grep { $tokens->{$_} eq 'committed' } sort keys %$tokens)[ 0 .. 4 ] };
$c->node(2)->stop('immediate');
$bare->stop('immediate');
is(wrong($c->node(1), $some), 0, 'committed ones are known without a quorum');
$c->node(2)->start;

# While the archive cannot be written the log is kept
my $dir = $bare->data_dir . '/pg_quorum/outcomes';
rename $dir, "$dir.aside" or die $!;
append_to_file($dir, 'in the way');
my ($first) = segments($bare);
$bare->start;
$c->wait_for_leader;
transactions($c->node(1), 2500);
$c->settle;
ok($c->log_matches($bare, qr/archive of outcomes cannot be opened.*DETAIL:\s+Until it works the log is kept/s),
	'an archive that cannot be written is said');
ok((grep { $_ eq $first } segments($bare)), 'and keeps the log');
unlink $dir or die $!;
rename "$dir.aside", $dir or die $!;
ok($c->wait_until('the log is cut', sub { !grep { $_ eq $first } segments($bare) }), 'until it can be written again');
is(wrong($bare, $tokens), 0, 'with nothing lost');

# Keys and outcomes end with the retention, on all members
$c->node(1)->safe_psql($db, q(SET quorum.idempotency_key = 'k1'; INSERT INTO t VALUES (-1, '')));
is($c->node(2)->psql($db, q(SET quorum.idempotency_key = 'k1'; DELETE FROM t WHERE id = -1)), 0, 'a key');
is($c->node(1)->safe_psql($db, 'SELECT count(*) FROM t WHERE id = -1'), '1', 'is kept');
for my $node ($c->nodes)
{
	$node->append_conf('postgresql.conf', "quorum.outcome_retention = '1s'\n");
	$node->reload;
}
$c->wait_until('the key is gone', sub { $c->ask($_, 'SELECT count(*) FROM quorum.idempotency') eq '0' }) for $c->nodes;
$c->wait_until('archives are empty', sub { !archive_files($_) }) for $c->nodes;
is($c->node(2)->safe_psql($db, q(SET quorum.idempotency_key = 'k1'; DELETE FROM t WHERE id = -1;
	SELECT quorum.transaction_was_duplicate())), 'f', 'a key that is past its retention can be used again');
is($c->node(1)->safe_psql($db, 'SELECT count(*) FROM t WHERE id = -1'), '0', 'by a transaction that counts');
$c->kill9($c->nodes);
$c->restart($c->nodes);
$c->wait_for_leader;
is(wrong($_, $tokens, 'unknown'), 0, 'outcomes past their retention are not known any more, on ' . $_->name) for $c->nodes;
my $fresh = transactions($c->node(2), 100);
$c->settle;
is(wrong($_, $fresh), 0, 'new ones are, on ' . $_->name) for $c->nodes;
$c->tables_equal([ 'quorum.idempotency', '(SELECT id FROM t)' ], 'tables equal');
done_testing();
