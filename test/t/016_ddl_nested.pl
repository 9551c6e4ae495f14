# Schema statements that others make while they run, and tables that are tied to
# replicated ones: the same on all members, or refused before anything is done.
use strict;
use warnings;

use PostgreSQL::Test::Utils;
use QuorumCluster;
use Test::More;

my $db = $QuorumCluster::DB;
my $c = QuorumCluster->new(nodes => 3);

$c->found;
$c->everywhere(q(CREATE TABLE a (id int PRIMARY KEY, v int); CREATE TABLE b (id int PRIMARY KEY); CREATE TABLE plain (id int); CREATE SCHEMA ours));
$c->add_tables('a', 'b');
$c->node(1)->safe_psql($db, q(SELECT quorum.add_schema('ours')));
my $columns = q(SELECT string_agg(attrelid::regclass || '.' || attname, ' ' ORDER BY attrelid::regclass::text, attnum) FROM pg_attribute
	WHERE attnum > 0 AND attrelid IN (SELECT relid FROM quorum.replicated_table));

sub same
{
	my ($what) = @_;

	$c->settle;
	my %shapes = map { $_->safe_psql($db, $columns) => 1 } $c->nodes;
	is(scalar(keys %shapes), 1, "$what: one schema") or diag(join "\n", sort keys %shapes);
}

sub runs
{
	my ($what, $sql) = @_;
	my ($state, undef, $err) = $c->try_sql($c->node(2), $sql, on_error_stop => 1);

	is($state, '', "$what: runs") or diag($err);
	same($what);
}

sub refused
{
	my ($what, $sql, $pattern) = @_;

	$c->fails_with($c->node(3), $sql, '0A000', qr/$pattern.*HINT:/s, "$what: refused");
	same($what);
}

my $all = q(SET quorum.replicate_ddl = 'all'; );
runs('event triggers', $all . q(
	CREATE FUNCTION on_comment() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
		IF tg_tag = 'COMMENT' THEN EXECUTE 'ALTER TABLE a ADD COLUMN nested int'; END IF; END $$;
	CREATE FUNCTION on_grant() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
		IF tg_tag = 'GRANT' THEN CREATE TEMP TABLE IF NOT EXISTS seen (tag text); INSERT INTO seen VALUES (tg_tag); END IF; END $$;
	CREATE EVENT TRIGGER on_comment ON ddl_command_end EXECUTE FUNCTION on_comment();
	CREATE EVENT TRIGGER on_grant ON ddl_command_end EXECUTE FUNCTION on_grant()));
refused('a change of a replicated table by an event trigger', q(COMMENT ON TABLE b IS 'b'), qr/ALTER TABLE cannot be replicated/);
is($c->node(2)->safe_psql($db, q(SELECT obj_description('b'::regclass) IS NULL)), 't', 'the statement itself is undone');
runs('what an event trigger does with temporary tables', q(GRANT SELECT ON b TO PUBLIC));
runs('event triggers go', $all . q(DROP EVENT TRIGGER on_comment; DROP EVENT TRIGGER on_grant));
runs('the same statement then', q(COMMENT ON TABLE b IS 'b'));
runs('an extension', $all . q(CREATE EXTENSION citext));

refused('an ordinary child of a replicated table', q(CREATE TABLE kid (x int) INHERITS (a)), qr/cannot inherit from replicated table "a"/);
runs('replicated tables of both kinds', q(CREATE TABLE ours.par (id int PRIMARY KEY); CREATE TABLE ours.kid (x int, PRIMARY KEY (id)) INHERITS (ours.par); INSERT INTO ours.kid VALUES (1, 1)));
runs('an ordinary child of an ordinary one', q(CREATE TABLE plain_kid () INHERITS (plain)));
is($c->node($_)->safe_psql($db, 'SELECT count(*) FROM ours.par'), '1', "n$_ reads the child's rows with the parent's") for 1 .. 3;

unlike(slurp_file($_->logfile), qr/PANIC|TRAP:|was terminated by signal (6|11)|could not apply entry/, $_->name . ' logged no crash')
  for $c->nodes;

done_testing();
