# A member that fell behind loads an image, and meanwhile more is written than the
# others may keep of their logs: their disks stay bounded, and it comes to an end.
use strict;
use warnings;

use PostgreSQL::Test::Utils;
use QuorumCluster;
use Test::More;

my $db = 'postgres';
my $BOUND = 68 * 1024 * 1024;	# the setting, and three segments of 16 MB and what is being written
my $c = QuorumCluster->new(nodes => 3, conf => "quorum.max_log_size = '16MB'\n");

sub log_bytes
{
	my ($node) = @_;
	my $bytes = 0;

	$bytes += -s $_ // 0 for glob $node->data_dir . '/pg_quorum/log/*';
	return $bytes;
}

# About 4 MB of log a round.
my ($one, $two, $late) = $c->nodes;
my $round = 0;
sub write_round
{
	$round++;
	$one->safe_psql($db, qq(INSERT INTO filler SELECT $round, i, repeat(md5((i * $round)::text), 128)
		FROM generate_series(1, 1024) i; DELETE FROM filler WHERE round < $round));
}

sub bounded
{
	for my $node ($one, $two)
	{
		$c->wait_until('the log of ' . $node->name . ' is bounded', sub { log_bytes($node) < $BOUND });
	}
}

$c->found;
$c->everywhere('CREATE TABLE filler (round int, id int, body text, PRIMARY KEY (round, id)); CREATE TABLE kept (id int PRIMARY KEY, v text)');
$c->add_tables(qw(filler kept));
$one->safe_psql($db, q(INSERT INTO kept SELECT i, 'v' FROM generate_series(1, 1000) i));
$c->settle;

# Its first two images wait, with their entry fixed, for as long as we say.
$late->safe_psql($db, q(
	ALTER FUNCTION quorum._table_fingerprint(regclass) RENAME TO _table_fingerprint_now;
	CREATE TABLE hold (attempt int);
	INSERT INTO hold VALUES (1), (2);
	CREATE FUNCTION quorum._table_fingerprint(rel regclass) RETURNS text LANGUAGE plpgsql AS $$
	BEGIN
		WHILE EXISTS (SELECT FROM public.hold WHERE attempt = (SELECT attempts FROM quorum.join_progress)) LOOP
			PERFORM pg_sleep(0.02);
		END LOOP;
		RETURN quorum._table_fingerprint_now(rel);
	END $$;
));
$late->stop('fast');
write_round() for 1 .. 11;
bounded();
$c->restart($late);

sub loads
{
	my ($attempt) = @_;

	return $c->ask($late, 'SELECT phase, attempts FROM quorum.join_progress') eq "schema|$attempt";
}

sub role_of_late { return $c->ask($one, q(SELECT role FROM quorum.members WHERE node_name = 'n3')); }

# --- a voter: the log behind its image is not kept for ever ---

$c->wait_until('it loads an image', sub { loads(1) });
is(role_of_late(), 'follower', 'as a voter');
$c->wait_until('with more written than the log holds it goes on as a learner',
	sub { write_round(); return role_of_late() eq 'learner'; });
write_round() for 1 .. 4;
bounded();
is($c->ask($one, 'SELECT has_quorum FROM quorum.status'), 't', 'the others go on');

# --- a learner: it takes the log that comes while it loads ---

$late->safe_psql($db, 'DELETE FROM hold WHERE attempt = 1');
$c->wait_until('that image was of no use, it loads another', sub { loads(2) });
write_round() for 1 .. 14;
bounded();
is($c->ask($late, 'SELECT count(*) FROM kept'), '1000', 'its tables can be read as they were');

# killed on the way: it is still known what its tables lack
$c->kill9($late);
$c->restart($late);
$c->wait_until('it loads again', sub { loads(1) || loads(2) || role_of_late() eq 'follower' });
$late->safe_psql($db, 'DELETE FROM hold');
$c->wait_until('it has caught up and votes', sub { role_of_late() eq 'follower' });
is($c->ask($late, 'SELECT attempts FROM quorum.join_progress'), '1', 'with the first image of this life of the server');
$c->settle;
$c->tables_equal([qw(filler kept)], 'all tables are equal');
$late->safe_psql($db, q(INSERT INTO kept VALUES (0, 'x')));
$c->settle;
$c->tables_equal([qw(filler kept)], 'equal after a write there');
$c->wait_until('its own log shrinks', sub { log_bytes($late) < $BOUND });

for my $node ($c->nodes)
{
	unlike(slurp_file($node->logfile), qr/PANIC|TRAP:|was terminated by signal/, $node->name . ' logged no crash');
}

done_testing();
