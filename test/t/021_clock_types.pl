# The clock types beyond one session: dump and restore, logical replication, a
# server that does not preload the library.
use strict;
use warnings;

use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use QuorumCluster;
use Test::More;

my $db = $QuorumCluster::DB;
my $c = QuorumCluster->new(nodes => 2, conf => "wal_level = logical\nmax_wal_senders = 4\nmax_replication_slots = 4\n");
my ($one, $two) = $c->nodes;

# the second knows the library, and does not preload it
$two->append_conf('postgresql.conf', "shared_preload_libraries = ''\n");
$c->restart($one, $two);
$c->everywhere('CREATE EXTENSION pg_quorum');

# --- not preloaded ---

is($two->safe_psql($db, q(
		SET search_path = quorum, public;
		SELECT '2026-11-23T01:02:03.456789Z/3@2'::hlc < '2026-11-23T01:02:03.456789Z/3@3'::hlc,
			lamport_tick('5'::lamport), vclock_merge('{a:1}', '{b:1}'), id_node(4194324487))),
	't|6|{a:1,b:1}|5', 'not preloaded: types and their functions work');
for my $call ('hlc_now()', q(hlc_observe('2026-11-23T01:02:03Z/0@0')), 'next_id()', q(lamport_tick('x'::text)),
	q(lamport_value('x')), '_clock_state()', '_clock_peers()')
{
	$c->fails_with($two, "SELECT quorum.$call", '55000', qr/shared_preload_libraries/,
		"not preloaded: $call says what is missing");
}
is($two->safe_psql($db, 'SELECT quorum.transaction_hlc() IS NULL'), 't', 'not preloaded: no transaction has a stamp');

# --- dump and restore ---

$one->safe_psql($db, q(
	SET search_path = public, quorum;
	CREATE TABLE kept (
		id bigint PRIMARY KEY DEFAULT next_id(),
		h hlc UNIQUE DEFAULT hlc_now() CHECK (h > '2001-01-01T00:00:00Z/0@0'),
		l lamport, v vclock, r hlcrange, m hlcmultirange);
	CREATE INDEX ON kept USING brin (h);
	CREATE INDEX ON kept USING hash (v);
	CREATE INDEX ON kept USING gist (r);
	CREATE VIEW recent AS SELECT * FROM kept WHERE h >= '2026-01-01T00:00:00Z/0@0' AND v @> '{a:1}';
	INSERT INTO kept (l, v, r, m)
	SELECT g, vclock_tick(('{a:' || g || ',"b c":2}')::vclock, 'd'), hlcrange(hlc_now(), NULL),
		hlcmultirange(hlcrange(NULL, hlc_now())) FROM generate_series(1, 1000) g;
	INSERT INTO kept (h, l, v) VALUES ('9999-12-31T23:59:59.999999Z/4294967295@4294967295', '9223372036854775807', '{}'),
		(NULL, NULL, NULL);
));
my $dump = "$PostgreSQL::Test::Utils::tmp_check/kept.dump";
for my $format ('plain', 'custom')
{
	$one->command_ok([ 'pg_dump', '-F', $format, '-f', $dump, $db ], "pg_dump, $format");
	$one->safe_psql($db, 'CREATE DATABASE restored TEMPLATE template0');
	if ($format eq 'plain')
	{
		$one->command_ok([ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-d', 'restored', '-f', $dump ], "restored, $format");
	}
	else
	{
		$one->command_ok([ 'pg_restore', '-e', '-d', 'restored', $dump ], "restored, $format");
	}
	my $digest = q(SELECT count(*), md5(string_agg(k::text, E'\n' ORDER BY k.id)) FROM public.kept k);
	is($one->safe_psql('restored', $digest), $one->safe_psql($db, $digest), "$format: the same rows");
	is($one->safe_psql('restored', 'SELECT count(*) FROM public.recent'), '1000', "$format: the view works");
	is($one->safe_psql('restored', q(INSERT INTO public.kept DEFAULT VALUES
			RETURNING h OPERATOR(quorum.>) (SELECT quorum.max(h) FROM public.kept WHERE quorum.hlc_node(h) < 1000))),
		't', "$format: the defaults work");
	$one->safe_psql($db, 'DROP DATABASE restored');
}

# --- logical replication, text and binary, to the server without preload ---

$one->safe_psql($db, q(
	CREATE TABLE public.streamed (h quorum.hlc PRIMARY KEY, l quorum.lamport, v quorum.vclock, r quorum.hlcrange);
	ALTER TABLE public.streamed REPLICA IDENTITY FULL;
	INSERT INTO public.streamed SELECT h, l, v, r FROM public.kept WHERE h IS NOT NULL;
	CREATE PUBLICATION clocks FOR TABLE public.streamed;
));
$two->safe_psql($db, 'CREATE TABLE public.streamed (h quorum.hlc PRIMARY KEY, l quorum.lamport, v quorum.vclock, r quorum.hlcrange)');
for my $binary ('false', 'true')
{
	my $digest = q(SELECT count(*), md5(string_agg(s::text, E'\n' ORDER BY s.h)) FROM public.streamed s);
	my $connstr = $one->connstr($db) =~ s/'/''/gr;

	$two->safe_psql($db, "CREATE SUBSCRIPTION clocks CONNECTION '$connstr' PUBLICATION clocks WITH (binary = $binary)");
	$two->wait_for_subscription_sync($one, 'clocks', $db);
	is($two->safe_psql($db, $digest), $one->safe_psql($db, $digest), "logical replication, binary $binary: the copy");
	$one->safe_psql($db, q(
		SET search_path = public, quorum;
		INSERT INTO streamed SELECT hlc_now(), '1', '{x:1}', NULL FROM generate_series(1, 100);
		UPDATE streamed SET v = vclock_tick(v, 'e'), l = lamport_tick(l) WHERE l < '500';
		DELETE FROM streamed WHERE l > '900' AND l < '950';
	));
	$one->wait_for_catchup('clocks');
	is($two->safe_psql($db, $digest), $one->safe_psql($db, $digest), "logical replication, binary $binary: changes");
	$two->safe_psql($db, 'DROP SUBSCRIPTION clocks; TRUNCATE public.streamed');
}

for my $server ($one, $two)
{
	unlike(slurp_file($server->logfile), qr/PANIC|TRAP:|was terminated by signal/, $server->name . ' logged no crash');
}

done_testing();
