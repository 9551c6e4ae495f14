# A schema statement that fails on one member only: that member stops there,
# says why, loses nothing, and goes on by itself when the cause is gone. The others
# do not wait for it.
use strict;
use warnings;

use PostgreSQL::Test::Utils;
use QuorumCluster;
use Test::More;

my $db = $QuorumCluster::DB;
my $c = QuorumCluster->new(nodes => 3, faults => 1);
my $odd = $c->node(3);

$c->found;
$c->everywhere(q(CREATE TABLE t (id int PRIMARY KEY, v text, n int); CREATE TABLE other (id int PRIMARY KEY)));
$c->add_tables('t', 'other');
$c->node(1)->safe_psql($db, q(INSERT INTO t SELECT g, 'x' || g, g FROM generate_series(1, 20) g));
$c->settle;

my $round = 0;

sub fails_on_one
{
	my ($what, $prepare, $statement, $pattern, $mend) = @_;

	$odd->safe_psql($db, $prepare->{odd}) if $prepare->{odd};
	$c->node($_)->safe_psql($db, $prepare->{others}) for $prepare->{others} ? (1, 2) : ();
	my ($state, undef, $err) = $c->try_sql($c->node(2), $statement, on_error_stop => 1);
	is($state, '', "$what: runs on another member") or diag($err);
	$c->wait_until("$what: status says why", sub { $c->ask($odd, 'SELECT detail FROM quorum.status') =~ $pattern });
	pass("$what: status says why");
	ok($c->log_matches($odd, qr/could not apply entry \d+: .*$pattern/), "$what: the server's log too");
	for my $node ($c->node(1), $c->node(2))
	{
		is(($c->try_sql($node, "INSERT INTO t (id) VALUES (" . (100 + ++$round) . "); INSERT INTO other VALUES ($round)"))[0], '',
			"$what: " . $node->name . ' goes on, with this table and others');
	}
	is($odd->safe_psql($db, 'SELECT count(*) > 0 FROM t'), 't', "$what: the tables there can be read");
	# a restart does not make it forget
	if ($round == 2)
	{
		$odd->stop('fast');
		$c->restart($odd);
		$c->wait_until("$what: and again after a restart", sub { $c->ask($odd, 'SELECT detail FROM quorum.status') =~ $pattern });
	}
	ref $mend ? $mend->() : $odd->safe_psql($db, $mend);
	$c->settle;
	$c->tables_equal([ 't', 'other' ], "$what: equal when the cause is gone");
	$c->comes_to_be($odd, q(SELECT coalesce(detail, 'nothing') FROM quorum.status), 'nothing', "$what: nothing in the status");
}

fails_on_one('a role that is missing', { others => 'CREATE ROLE reader' },
	'GRANT SELECT ON t TO reader', qr/role "reader" does not exist/, 'CREATE ROLE reader');
is($odd->safe_psql($db, q(SELECT has_table_privilege('reader', 't', 'SELECT'))), 't', 'the right is there');
fails_on_one('the role of the statement', { others => 'CREATE ROLE boss SUPERUSER' },
	'SET ROLE boss; ALTER TABLE t ADD COLUMN b int DEFAULT 4', qr/role "boss" does not exist/, 'CREATE ROLE boss SUPERUSER');
fails_on_one('an extension that is missing', { others => 'CREATE EXTENSION pg_trgm' },
	'BEGIN; CREATE INDEX t_trgm ON t USING gin (v gin_trgm_ops); UPDATE t SET n = n + 1; COMMIT',
	qr/gin_trgm_ops" does not exist/, 'CREATE EXTENSION pg_trgm');
is($odd->safe_psql($db, 'SELECT sum(n) FROM t WHERE id <= 20'), '230', 'the rows of the transaction came with it, once');
fails_on_one('a type that is missing', { others => q(CREATE TYPE color AS ENUM ('red')) },
	q(ALTER TABLE t ADD COLUMN c color DEFAULT 'red'), qr/type "color" does not exist/, q(CREATE TYPE color AS ENUM ('red')));
fails_on_one('a name that is taken', { odd => 'CREATE TABLE t_taken (id int)' },
	'CREATE INDEX t_taken ON t (n)', qr/relation "t_taken" already exists/, 'DROP TABLE t_taken');
fails_on_one('a function that is missing', { others => 'CREATE FUNCTION plus(int) RETURNS int IMMUTABLE LANGUAGE sql AS $$ SELECT $1 + 1 $$' },
	'ALTER TABLE t ADD CONSTRAINT more CHECK (plus(n) > 0)', qr/function plus\(integer\) does not exist/,
	'CREATE FUNCTION plus(int) RETURNS int IMMUTABLE LANGUAGE sql AS $$ SELECT $1 + 1 $$');
# a disk that is full: of the statement's own making, and on the way to it
sub fills_up
{
	my ($what, $statement) = @_;

	$c->fault($odd, 'full_tables');
	fails_on_one($what, {}, $statement, qr/No space left on device/, sub { $c->no_fault($odd, 'full_tables') });
}

fills_up('no space for an index', 'CREATE INDEX t_full ON t (n, v)');
fills_up('no space for a table written anew', 'BEGIN; ALTER TABLE t ALTER id TYPE bigint; UPDATE t SET n = n + 1 WHERE id <= 20; COMMIT');
is($odd->safe_psql($db, 'SELECT sum(n) FROM t WHERE id <= 20'), '250', 'the rows of the transaction came with it, once');
is($odd->safe_psql($db, q(SELECT indisvalid FROM pg_index WHERE indexrelid = 't_full'::regclass)), 't', 'the index is there');
unlike(slurp_file($_->logfile), qr/PANIC|TRAP:|was terminated by signal (6|11)/, $_->name . ' logged no crash')
  for $c->nodes;

done_testing();
