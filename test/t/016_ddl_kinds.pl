# Every kind of schema statement, issued on servers that do not lead, in
# transactions that mix them with rows: schema and rows are the same everywhere.
use strict;
use warnings;

use PostgreSQL::Test::Utils;
use QuorumCluster;
use Test::More;

my $db = $QuorumCluster::DB;
my $c = QuorumCluster->new(nodes => 3);
my @tables;
my $turn = 0;

# All of the schema that users see, as text, but for what is each server's own
# (values of sequences).
my $shape = q(
	WITH mine AS (SELECT * FROM pg_class WHERE relnamespace IN (SELECT oid FROM pg_namespace
		WHERE nspname !~ '^(pg_|quorum|information_schema)'))
	SELECT string_agg(line, E'\n' ORDER BY line COLLATE "C") FROM (
		SELECT concat_ws(' ', 'relation', c.oid::regclass, relkind, relpersistence, relowner::regrole, relacl, relrowsecurity,
			relforcerowsecurity, relreplident, reloptions, obj_description(c.oid, 'pg_class'), pg_get_expr(relpartbound, c.oid)) AS line FROM mine c
		UNION ALL
		SELECT concat_ws(' ', 'column', c.oid::regclass, attname, format_type(atttypid, atttypmod), attnotnull, pg_get_expr(adbin, adrelid),
			attidentity, attgenerated, attstorage, attstattarget, attacl, col_description(c.oid, attnum))
			FROM mine c JOIN pg_attribute a ON a.attrelid = c.oid LEFT JOIN pg_attrdef ON adrelid = c.oid AND adnum = attnum
			WHERE attnum > 0 AND NOT attisdropped AND relkind IN ('r', 'p', 'v')
		UNION ALL
		SELECT concat_ws(' ', 'index', pg_get_indexdef(indexrelid), indisvalid, indisready, indisreplident)
			FROM mine c JOIN pg_index ON indrelid = c.oid
		UNION ALL
		SELECT concat_ws(' ', 'constraint', conrelid::regclass, conname, pg_get_constraintdef(o.oid), convalidated)
			FROM mine c JOIN pg_constraint o ON conrelid = c.oid
		UNION ALL
		SELECT concat_ws(' ', 'trigger', pg_get_triggerdef(t.oid), tgenabled) FROM mine c JOIN pg_trigger t ON tgrelid = c.oid WHERE NOT tgisinternal
		UNION ALL
		SELECT concat_ws(' ', 'policy', polrelid::regclass, polname, pg_get_expr(polqual, polrelid)) FROM mine c JOIN pg_policy ON polrelid = c.oid
		UNION ALL
		SELECT concat_ws(' ', 'rule', pg_get_ruledef(r.oid)) FROM mine c JOIN pg_rewrite r ON ev_class = c.oid
		UNION ALL
		SELECT concat_ws(' ', 'statistics', pg_get_statisticsobjdef(s.oid), stxstattarget) FROM pg_statistic_ext s
		UNION ALL
		SELECT concat_ws(' ', 'enum', enumtypid::regtype, enumlabel, rank() OVER (PARTITION BY enumtypid ORDER BY enumsortorder)) FROM pg_enum
		UNION ALL
		SELECT concat_ws(' ', 'function', p.oid::regprocedure, md5(prosrc), proowner::regrole, proacl)
			FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace WHERE nspname !~ '^(pg_|quorum|information_schema)'
		UNION ALL
		SELECT concat_ws(' ', 'schema', nspname, nspowner::regrole, nspacl) FROM pg_namespace WHERE nspname !~ '^pg_(toast_)?temp'
		UNION ALL
		SELECT concat_ws(' ', 'type', t.oid::regtype, typtype, obj_description(t.oid, 'pg_type'))
			FROM pg_type t WHERE typnamespace IN (SELECT relnamespace FROM mine) AND typtype IN ('d', 'e', 'r')
		UNION ALL
		SELECT concat_ws(' ', 'extension', extname) FROM pg_extension
		UNION ALL
		SELECT concat_ws(' ', 'replicated', table_id, rel) FROM quorum.tables
	) x);

sub same_everywhere
{
	my ($what) = @_;

	$c->settle;
	my ($first, @rest) = map { $_->safe_psql($db, $shape) } $c->nodes;
	my $good = 1;
	for my $i (0 .. $#rest)
	{
		next if $rest[$i] eq $first;
		$good = 0;
		my %here = map { $_ => 1 } split /\n/, $first;
		my %there = map { $_ => 1 } split /\n/, $rest[$i];
		diag("n1 only: $_") for grep { !$there{$_} } sort keys %here;
		diag('n' . ($i + 2) . " only: $_") for grep { !$here{$_} } sort keys %there;
	}
	ok($good, "$what: one schema");
	@tables = split /\n/, $c->node(1)->safe_psql($db, 'SELECT rel FROM quorum.tables ORDER BY 1');
	$c->tables_equal(\@tables, "$what: rows equal") if @tables;
}

# On the two that do not lead, in turn.
sub step
{
	my ($what, $sql) = @_;
	my $node = $c->node(2 + $turn++ % 2);
	my ($state, undef, $err) = $c->try_sql($node, $sql, on_error_stop => 1);

	is($state, '', "$what: runs") or diag($err);
	same_everywhere($what);
}

# Before it has done anything, with a hint.
sub refused
{
	my ($what, $sql, $pattern) = @_;
	my $node = $c->node(2 + $turn++ % 2);
	my ($state, undef, $err) = $c->try_sql($node, $sql, on_error_stop => 1);

	is($state, '0A000', "$what: refused") or diag($err);
	like($err, $pattern, "$what: says why");
	like($err, qr/HINT:/, "$what: with a hint");
	same_everywhere($what);
}

$c->found;
$c->everywhere(q(
	CREATE ROLE app LOGIN; CREATE ROLE other; GRANT ALL ON SCHEMA public TO app;
	CREATE TABLE a (id int PRIMARY KEY, v int, t text);
	CREATE TABLE b (id int PRIMARY KEY, a int);
	CREATE TABLE p (id int, v int, PRIMARY KEY (id)) PARTITION BY RANGE (id);
	CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (100);
	CREATE TABLE plain (id int);
	CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.t := coalesce(NEW.t, '') || '!'; RETURN NEW; END $$;
	CREATE TYPE mood AS ENUM ('sad', 'happy');
));
$c->add_tables('a', 'b', 'p');
$c->node(2)->safe_psql($db, q(INSERT INTO a SELECT g, g, 't' || g FROM generate_series(1, 20) g; INSERT INTO b VALUES (1, 1), (2, 2); INSERT INTO p VALUES (1, 1)));

# --- what touches replicated tables, with the setting as it comes ---

step('columns', q(BEGIN; INSERT INTO a VALUES (100, 1); ALTER TABLE a ADD COLUMN c1 int DEFAULT 5, ADD COLUMN c2 text NOT NULL DEFAULT 'x';
	INSERT INTO a VALUES (101, 1, 't', 2, 'y'); ALTER TABLE a RENAME COLUMN c1 TO c3; ALTER TABLE a ALTER c3 TYPE bigint, ALTER c2 SET STORAGE EXTERNAL, ALTER v SET STATISTICS 50;
	UPDATE a SET c3 = 7 WHERE id = 100; ALTER TABLE a ALTER t SET DEFAULT 'd', ALTER c2 DROP NOT NULL; INSERT INTO a (id) VALUES (102); COMMIT));
step('a generated column', q(ALTER TABLE a ADD COLUMN g int GENERATED ALWAYS AS (v * 2) STORED; UPDATE a SET v = v + 1 WHERE id < 5));
step('constraints', q(BEGIN; ALTER TABLE a ADD CONSTRAINT positive CHECK (v > 0) NOT VALID; INSERT INTO a VALUES (103, 1); ALTER TABLE a VALIDATE CONSTRAINT positive;
	ALTER TABLE b ADD CONSTRAINT b_a FOREIGN KEY (a) REFERENCES a ON DELETE CASCADE NOT VALID; ALTER TABLE b VALIDATE CONSTRAINT b_a; ALTER TABLE a RENAME CONSTRAINT positive TO above_zero;
	ALTER TABLE b ALTER CONSTRAINT b_a DEFERRABLE INITIALLY DEFERRED; INSERT INTO b VALUES (5, 200); INSERT INTO a VALUES (200, 200); COMMIT; DELETE FROM a WHERE id = 200));
step('a unique constraint, an exclusion one', q(ALTER TABLE a ADD CONSTRAINT u UNIQUE (id, v), ADD CONSTRAINT e EXCLUDE (id WITH =); INSERT INTO a VALUES (104, 4)));
step('constraints go', q(ALTER TABLE a DROP CONSTRAINT u, DROP CONSTRAINT e; ALTER TABLE b DROP CONSTRAINT b_a; INSERT INTO b VALUES (6, 999)));
step('indexes', q(BEGIN; CREATE INDEX a_v ON a (v) WHERE v > 3; CREATE UNIQUE INDEX a_t ON a (lower(t), id) INCLUDE (v); UPDATE a SET t = 'T' || id; ALTER INDEX a_v RENAME TO a_v2;
	ALTER INDEX a_v2 SET (fillfactor = 70); COMMENT ON INDEX a_v2 IS 'index'; DROP INDEX a_t; CREATE INDEX IF NOT EXISTS a_v2 ON a (v); COMMIT; REINDEX INDEX a_v2; CLUSTER a USING a_pkey; VACUUM FULL a));
step('a primary key that is exchanged', q(BEGIN; CREATE UNIQUE INDEX b_new ON b (id); ALTER TABLE b REPLICA IDENTITY USING INDEX b_new; ALTER TABLE b DROP CONSTRAINT b_pkey, ADD CONSTRAINT b_pk PRIMARY KEY (id); UPDATE b SET a = 3; COMMIT));
step('triggers', q(BEGIN; CREATE TRIGGER tt BEFORE INSERT OR UPDATE ON a FOR EACH ROW EXECUTE FUNCTION touch(); INSERT INTO a VALUES (105, 5, 'x'); ALTER TRIGGER tt ON a RENAME TO t2;
	COMMENT ON TRIGGER t2 ON a IS 'trigger'; ALTER TABLE a DISABLE TRIGGER t2; INSERT INTO a VALUES (106, 6, 'y'); ALTER TABLE a ENABLE ALWAYS TRIGGER t2; UPDATE a SET v = 1 WHERE id < 4; DROP TRIGGER t2 ON a; COMMIT));
step('rules and policies', q(BEGIN; CREATE RULE nothing AS ON INSERT TO a WHERE NEW.id = -1 DO INSTEAD NOTHING; CREATE POLICY mine ON a TO app USING (v = 5); ALTER TABLE a ENABLE ROW LEVEL SECURITY;
	ALTER POLICY mine ON a USING (v > 0); INSERT INTO a VALUES (107, 8); INSERT INTO a VALUES (-1, 1); ALTER TABLE a FORCE ROW LEVEL SECURITY; COMMENT ON POLICY mine ON a IS 'p'; ALTER POLICY mine ON a RENAME TO theirs; DROP RULE nothing ON a; COMMIT));
step('rights, owner, comments', q(BEGIN; GRANT SELECT, INSERT (id, v) ON a TO app; REVOKE ALL ON b FROM PUBLIC; GRANT ALL ON TABLE a, b TO other WITH GRANT OPTION; REVOKE UPDATE ON a FROM other;
	COMMENT ON TABLE a IS 'table a'; COMMENT ON COLUMN a.v IS 'column v'; COMMENT ON CONSTRAINT above_zero ON a IS 'c'; ALTER TABLE b OWNER TO app; COMMIT));
step('statistics, options', q(BEGIN; CREATE STATISTICS a_stat (dependencies) ON v, c3 FROM a; ALTER TABLE a SET (fillfactor = 80, autovacuum_enabled = off); ALTER TABLE a RESET (autovacuum_enabled); ALTER STATISTICS a_stat SET STATISTICS 10; ALTER STATISTICS a_stat RENAME TO a_stat2; COMMIT));
step('statistics go', q(DROP STATISTICS a_stat2));
step('partitions', q(BEGIN; CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (100) TO (200); INSERT INTO p VALUES (150, 1), (2, 2); CREATE INDEX p_v ON p (v); ALTER TABLE p ADD COLUMN w int DEFAULT 3; UPDATE p SET id = id + 100 WHERE id = 2;
	CREATE TABLE p3 PARTITION OF p FOR VALUES FROM (200) TO (300) PARTITION BY RANGE (id); CREATE TABLE p31 PARTITION OF p3 DEFAULT; INSERT INTO p VALUES (250, 1, 1); ALTER TABLE p2 ADD CONSTRAINT small CHECK (v < 1000); TRUNCATE p31; COMMIT));
step('a partition goes', q(BEGIN; ALTER TABLE p DETACH PARTITION p2; DELETE FROM p WHERE id < 5; DROP TABLE p3; COMMIT));
step('and comes back', q(SET quorum.replicate_ddl = 'all'; BEGIN; DROP TABLE p2; CREATE TABLE p2 (id int NOT NULL, v int, w int); COMMIT; ALTER TABLE p ATTACH PARTITION p2 FOR VALUES FROM (100) TO (200); INSERT INTO p VALUES (140, 4, 4)));
step('sequences', q(BEGIN; ALTER TABLE a ADD COLUMN n int NOT NULL DEFAULT 0; ALTER TABLE a ALTER n DROP DEFAULT; ALTER TABLE a ALTER n ADD GENERATED BY DEFAULT AS IDENTITY; COMMIT; ALTER TABLE a ALTER n RESTART; ALTER SEQUENCE a_n_seq RESTART WITH 1000; ALTER SEQUENCE a_n_seq RENAME TO a_n2;));
step('renamed and moved', q(SET quorum.replicate_ddl = 'all'; BEGIN; ALTER TABLE b RENAME TO bb; CREATE SCHEMA s2; ALTER TABLE bb SET SCHEMA s2; INSERT INTO s2.bb VALUES (50, 50); COMMIT; DROP STATISTICS IF EXISTS nothing));
step('TRUNCATE', q(BEGIN; INSERT INTO a (id, v) VALUES (300, 1); TRUNCATE a RESTART IDENTITY; INSERT INTO a (id, v) VALUES (1, 1); COMMIT));
step('a search_path and a role travel', q(SET quorum.replicate_ddl = 'all'; CREATE SCHEMA app AUTHORIZATION app; SET ROLE app; SET search_path = app, public; CREATE TABLE of_app (id int PRIMARY KEY, d timestamptz DEFAULT '2026-01-01'); ALTER TABLE of_app ALTER d SET DEFAULT '2026-02-03 04:05'));
step('a default that depends on settings', q(SET timezone = 'Asia/Tokyo'; SET datestyle = 'german'; ALTER TABLE a ADD COLUMN z timestamptz DEFAULT '02.03.2026 04:05'; ALTER TABLE a ADD COLUMN iv interval DEFAULT '1 2:00'));
is($c->node(1)->safe_psql($db, "SET timezone = 'UTC'; SELECT z FROM a WHERE id = 1"), '2026-03-01 19:05:00+00', 'the value is that of the session');
step('a function that makes statements', q(DO $$ BEGIN EXECUTE 'ALTER TABLE a ADD COLUMN in_do int'; EXECUTE 'CREATE INDEX ON a (in_do)'; END $$));
step('a savepoint that is rolled back', q(BEGIN; SAVEPOINT x; ALTER TABLE a ADD COLUMN never int; ROLLBACK TO x; ALTER TABLE a ADD COLUMN ever int; COMMIT));
step('INHERITS', q(SET quorum.replicate_ddl = 'all'; BEGIN; CREATE TABLE heir (x int, PRIMARY KEY (id)) INHERITS (a); COMMIT; DROP TABLE heir));

# --- other objects, with "all" ---

my $all = q(SET quorum.replicate_ddl = 'all'; );
step('types', $all . q(BEGIN; CREATE TYPE color AS ENUM ('red', 'green'); CREATE TYPE pair AS (x int, y text); CREATE DOMAIN posint AS int CHECK (VALUE > 0); CREATE TYPE fr AS RANGE (subtype = float8);
	CREATE TABLE typed (id int PRIMARY KEY, c color, p pair, d posint, r fr); SELECT quorum.add_table('typed'); INSERT INTO typed VALUES (1, 'red', row(1, 'x'), 1, '[1,2]'); COMMIT));
step('a label more', $all . q(ALTER TYPE color ADD VALUE 'blue' BEFORE 'green'; INSERT INTO typed VALUES (2, 'blue'); ALTER TYPE color RENAME VALUE 'red' TO 'crimson'; ALTER TYPE pair ADD ATTRIBUTE z int; ALTER DOMAIN posint ADD CHECK (VALUE < 100); COMMENT ON TYPE color IS 'colors'));
step('a label more, of a type made by hand everywhere', $all . q(ALTER TYPE mood ADD VALUE IF NOT EXISTS 'ok'));
step('functions and schemas', $all . q(BEGIN; CREATE SCHEMA lib; CREATE FUNCTION lib.twice(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT $1 * 2'; ALTER TABLE a ADD COLUMN tw int DEFAULT lib.twice(4); INSERT INTO a (id, v) VALUES (2, 2);
	CREATE OR REPLACE FUNCTION lib.twice(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT $1 + $1'; ALTER FUNCTION lib.twice(int) OWNER TO app; GRANT USAGE ON SCHEMA lib TO app; GRANT EXECUTE ON FUNCTION lib.twice(int) TO app;
	CREATE PROCEDURE lib.pr() LANGUAGE sql AS 'SELECT 1'; CREATE AGGREGATE lib.su(int) (SFUNC = int4pl, STYPE = int); COMMIT; ALTER SCHEMA lib RENAME TO lib2));
step('views', $all . q(BEGIN; CREATE VIEW av AS SELECT id, v FROM a; GRANT SELECT ON av TO app; CREATE OR REPLACE VIEW av AS SELECT id, v, 1 AS one FROM a; ALTER VIEW av RENAME TO av2; CREATE MATERIALIZED VIEW mv AS SELECT 1 AS x WITH NO DATA; COMMIT));
step('extensions', $all . q(CREATE EXTENSION pg_trgm; ALTER TABLE a ADD COLUMN tr text; CREATE INDEX a_tr ON a USING gin (tr gin_trgm_ops); UPDATE a SET tr = 'some text'));
step('DROP ... CASCADE', $all . q(DROP SCHEMA lib2 CASCADE; DROP VIEW av2; DROP EXTENSION pg_trgm CASCADE; DROP MATERIALIZED VIEW mv));
step('temporary tables are left alone', $all . q(CREATE TEMP TABLE tmp AS SELECT 1 AS x; ALTER TABLE tmp ADD COLUMN y int; CREATE INDEX ON tmp (x); COMMENT ON TABLE tmp IS 'x'; BEGIN; INSERT INTO a (id, v) VALUES (77, 7); CREATE TEMP TABLE t2 (x int) ON COMMIT DROP; COMMIT; DROP TABLE tmp));

# --- CONCURRENTLY: on each member by itself ---

sub jobs_done
{
	$c->settle;
	$c->wait_until('the index workers are done', sub {
		for my $node ($c->nodes) { return 0 if $c->ask($node, 'SELECT count(*) FROM quorum.index_job') ne '0'; } 1 });
}

sub concurrently
{
	my ($what, $sql) = @_;
	my $node = $c->node(2 + $turn++ % 2);
	my ($state, undef, $err) = $c->try_sql($node, $sql, on_error_stop => 1);

	is($state, '', "$what: runs") or diag($err);
	jobs_done();
	same_everywhere($what);
}

concurrently('CREATE INDEX CONCURRENTLY', q(CREATE INDEX CONCURRENTLY a_c ON a (v) WHERE v > 2));
concurrently('without a name', q(SET search_path = s2; CREATE INDEX CONCURRENTLY ON bb USING hash (a)));
concurrently('IF NOT EXISTS, there already', q(CREATE INDEX CONCURRENTLY IF NOT EXISTS a_c ON a (v)));
is($c->node($_)->safe_psql($db, q(SELECT count(*) FROM pg_indexes WHERE indexname IN ('a_c', 'bb_a_idx'))), '2', "both are on n$_") for 1 .. 3;
# an attempt that did not get to its end
$c->node(2)->safe_psql($db, 'DROP INDEX CONCURRENTLY a_c');
jobs_done();
$c->node(1)->safe_psql($db, q(CREATE INDEX a_c ON plain (id); UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'a_c'::regclass));
concurrently('over an invalid one', q(CREATE INDEX CONCURRENTLY a_c ON a (v)));
# a transaction in the way, then the worker is killed, then the log wants the table
my $in_the_way = $c->node(1)->background_psql($db, on_error_stop => 0);
$in_the_way->query_safe('BEGIN');
$in_the_way->query_safe('UPDATE a SET v = v WHERE id = 1');
$c->node(2)->safe_psql($db, q(CREATE INDEX CONCURRENTLY a_c2 ON a (t)));
$c->wait_until('the worker waits', sub { $c->ask($c->node(1), q(SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'pg_quorum index worker' AND wait_event_type = 'Lock')) eq '1' });
$c->node(1)->safe_psql($db, q(SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'pg_quorum index worker'));
$c->wait_until('another one waits', sub { $c->ask($c->node(1), q(SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'pg_quorum index worker' AND wait_event_type = 'Lock')) eq '1' });
is(($c->try_sql($c->node(3), 'ALTER TABLE a ADD COLUMN over_it int'))[0], '', 'the log goes first');
$in_the_way->quit;
jobs_done();
same_everywhere('after a worker that was killed and cancelled');
concurrently('DROP INDEX CONCURRENTLY', q(DROP INDEX CONCURRENTLY a_c2));
concurrently('REINDEX CONCURRENTLY', q(REINDEX TABLE CONCURRENTLY a));
refused('a unique one', q(CREATE UNIQUE INDEX CONCURRENTLY ON a (id, v)), qr/unique index/);
refused('a primary key', q(DROP INDEX CONCURRENTLY a_pkey), qr/unique index/);
$c->fails_with($c->node(2), q(BEGIN; CREATE INDEX CONCURRENTLY ON a (v); COMMIT), '25001', qr/transaction block/, 'inside a transaction');
$c->fails_with($c->node(2), q(CREATE INDEX CONCURRENTLY ON a (nothing)), '42703', qr/nothing/, 'with an error');
same_everywhere('nothing has come of those');

# --- a schema all of whose tables are replicated ---

$c->everywhere(q(CREATE SCHEMA ours; CREATE TABLE ours.child (id int PRIMARY KEY, p int); CREATE TABLE ours.parent (id serial PRIMARY KEY, v int);
	ALTER TABLE ours.child ADD FOREIGN KEY (p) REFERENCES ours.parent ON DELETE CASCADE; CREATE UNLOGGED TABLE ours.scratch (id int); CREATE TABLE moving (id int PRIMARY KEY, v int);
	CREATE SCHEMA keyless; CREATE TABLE keyless.good (id int PRIMARY KEY); CREATE TABLE keyless.bad (id int)));
$c->node(2)->safe_psql($db, 'INSERT INTO ours.parent (v) VALUES (1), (2); INSERT INTO ours.child SELECT id, id FROM ours.parent; INSERT INTO moving VALUES (1, 1)');
$turn = 0;	# where the rows are
step('add_schema', q(SELECT quorum.add_schema('ours'); INSERT INTO ours.parent (v) VALUES (3)));
is($c->node(1)->safe_psql($db, q(SELECT string_agg(rel::text, ' ' ORDER BY rel::text) FROM quorum.tables WHERE schema_name = 'ours')),
	'ours.child ours.parent', 'the tables that were there, with what they refer to first');
is($c->node(1)->safe_psql($db, 'SELECT count(*) FROM ours.parent'), '3', 'and their rows');
step('a table more', q(BEGIN; CREATE TABLE ours.later (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, p int REFERENCES ours.parent, t text); INSERT INTO ours.later (p) SELECT id FROM ours.parent; COMMIT; INSERT INTO ours.later (p) VALUES (NULL)));
step('by search_path, partitioned', q(SET search_path = ours; CREATE TABLE parted (id int PRIMARY KEY) PARTITION BY HASH (id); CREATE TABLE parted_0 PARTITION OF parted FOR VALUES WITH (MODULUS 1, REMAINDER 0); INSERT INTO parted VALUES (1); CREATE TABLE IF NOT EXISTS parted (x int); CREATE TABLE "like" (LIKE later INCLUDING ALL); INSERT INTO "like" (t) VALUES ('x')));
$turn = 0;
step('moved into it', q(BEGIN; ALTER TABLE moving SET SCHEMA ours; INSERT INTO ours.moving VALUES (2, 2); COMMIT));
is($c->node(3)->safe_psql($db, q(SELECT string_agg(rel::text, ' ' ORDER BY rel::text COLLATE "C") FROM quorum.tables WHERE schema_name = 'ours')),
	'ours."like" ours.child ours.later ours.moving ours.parent ours.parted', 'all of them are replicated');
is($c->node(3)->safe_psql($db, 'SELECT count(*) FROM ours.moving'), '2', 'with the rows that they had');
step('the schema renamed, its rights', q(ALTER SCHEMA ours RENAME TO mine; CREATE TABLE mine.more (id int PRIMARY KEY); INSERT INTO mine.more VALUES (1); GRANT USAGE ON SCHEMA mine TO app; GRANT SELECT ON ALL TABLES IN SCHEMA mine TO app; ALTER SCHEMA mine OWNER TO app; COMMENT ON SCHEMA mine IS 'ours'));
step('by a role that may not add tables', q(SET ROLE app; CREATE TABLE mine.of_app (id int PRIMARY KEY); INSERT INTO mine.of_app VALUES (1)));
step('temporary and unlogged ones stay here', q(CREATE TEMP TABLE temp_one (id int); DROP TABLE temp_one));
refused('a table without a key', q(CREATE TABLE mine.keyless (id int)), qr/no primary key and no usable replica identity/);
refused('a table that refers to an ordinary one', q(CREATE TABLE mine.edge (id int PRIMARY KEY, k int REFERENCES keyless.good)), qr/keyless|good/);
refused('CREATE TABLE AS in it', q(CREATE TABLE mine.computed AS SELECT 1 AS x), qr/rows are computed/);
refused('a schema with a table without a key', q(SELECT quorum.add_schema('keyless')), qr/table "bad" has no primary key/);
refused('with DDL turned off', q(SET quorum.replicate_ddl = 'off'; CREATE TABLE mine.off (id int PRIMARY KEY)), qr/must go through the cluster/);
$c->fails_with($c->node(2), q(SELECT quorum.add_schema('pg_catalog')), '42809', qr/system schema/, 'a system schema');
$c->fails_with($c->node(2), q(SELECT quorum.add_schema('nowhere')), '3F000', qr/nowhere/, 'a schema that is not there');
$c->fails_with($c->node(2), q(SET ROLE other; SELECT quorum.add_schema('keyless')), '42501', qr/owner/, 'somebody else');
step('remove_schema', q(SELECT quorum.remove_schema('mine'); CREATE TABLE mine.ordinary (id int); DROP TABLE mine.ordinary; DROP SCHEMA mine CASCADE));
$c->everywhere(q(CREATE TABLE at_edge (id int PRIMARY KEY)));
my (undef, undef, $warned) = $c->try_sql($c->node(2), 'ALTER TABLE at_edge ADD FOREIGN KEY (id) REFERENCES a; DROP TABLE at_edge');
like($warned, qr/WARNING:.*holds for changes made on this server only/, 'a foreign key from an ordinary table is warned of');
$c->everywhere(q(DROP TABLE IF EXISTS at_edge));

# --- refused ---

refused('CREATE TABLE AS', $all . q(CREATE TABLE computed AS SELECT 1 AS x), qr/rows are computed/);
refused('SELECT INTO', $all . q(SELECT 1 AS x INTO computed), qr/rows are computed/);
refused('a volatile default', q(ALTER TABLE a ADD COLUMN r float8 DEFAULT random()), qr/different values/);
refused('now() as a default for rows that are there', q(ALTER TABLE a ADD COLUMN r timestamptz DEFAULT now()), qr/different values/);
refused('a new serial column', q(ALTER TABLE a ADD COLUMN s serial), qr/different values/);
refused('a volatile USING', q(ALTER TABLE a ALTER COLUMN tw TYPE float8 USING random()), qr/different values/);
refused('DROP of the primary key', q(ALTER TABLE a DROP CONSTRAINT a_pkey CASCADE), qr/primary key/);
refused('unlogged', q(ALTER TABLE a SET UNLOGGED), qr/unlogged/);
refused('a foreign key to what is not replicated', q(ALTER TABLE a ADD FOREIGN KEY (v) REFERENCES keyless.good), qr/not replicated/);
refused('our own trigger', q(DROP TRIGGER "!pg_quorum_capture" ON a), qr/belongs to pg_quorum/);
refused('DROP OWNED', q(DROP OWNED BY app), qr/cannot be changed by this statement/);
refused('a default of the moment', q(ALTER TABLE a ADD COLUMN r timestamptz DEFAULT 'now'), qr/different values/);
refused('a partition bounded by the moment', q(CREATE TABLE p9 PARTITION OF p FOR VALUES FROM (extract(epoch FROM now())::int) TO (2147483647)), qr/bound of a partition/);
refused('replicated and others together', q(DROP TABLE a, plain), qr/together/);
refused('a column whose type goes', q(DROP TYPE color CASCADE), qr/cannot be changed by this statement/);

is($c->node($_)->safe_psql($db, 'SELECT defects FROM quorum.stat_replication'), '0', "n$_ had no defect") for 1 .. 3;
unlike(slurp_file($_->logfile), qr/PANIC|TRAP:|was terminated by signal (6|11)|could not apply entry/, $_->name . ' logged no crash')
  for $c->nodes;

done_testing();
