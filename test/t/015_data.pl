# Data that is not a small row: large values, large transactions, wide tables,
# every built-in type, types of users, constraints of all kinds, row-level security,
# cascades. What one server has written all have, exactly.
# ROWS and MEGABYTES scale it up (defaults: 100000 rows of COPY, 100 MB).
use strict;
use warnings;

use PostgreSQL::Test::Utils;
use QuorumCluster;
use Test::More;

my $db = $QuorumCluster::DB;
my $rows = $ENV{ROWS} // 100_000;
my $megabytes = $ENV{MEGABYTES} // 100;
my $c = QuorumCluster->new(nodes => 3, conf => "quorum.max_transaction_size = '256MB'\n");
my @tables;
my $turn = 0;

# On one server after the other; all tables are equal after it.
sub step
{
	my ($what, $sql) = @_;
	my $node = $c->node(1 + $turn++ % 3);
	my ($state, undef, $err) = $c->try_sql($node, $sql, on_error_stop => 1, timeout => 120);

	is($state, '', "$what: runs") or diag($err);
	$c->settle;
	$c->tables_equal(\@tables, "$what: equal");
}

sub refused
{
	my ($what, $sql, $state, $pattern) = @_;

	$c->fails_with($c->node(1 + $turn++ % 3), $sql, $state, $pattern, "$what: refused");
}

# bytes that node has proposed so far
sub proposed { return $_[0]->safe_psql($db, 'SELECT proposed_bytes FROM quorum.stat_replication'); }

my $wide = join ', ', map { "c$_ int" } 1 .. 1200;
$c->found;
$c->everywhere(qq(
	CREATE EXTENSION citext; CREATE EXTENSION hstore; CREATE EXTENSION btree_gist;
	CREATE TABLE toasted (id int PRIMARY KEY, n int, big text, raw bytea);
	ALTER TABLE toasted ALTER big SET STORAGE EXTERNAL;
	CREATE TABLE bulk (id int PRIMARY KEY, t text);
	CREATE TABLE copied (id int PRIMARY KEY, a text, b numeric, c timestamptz);
	CREATE TABLE wide (id int PRIMARY KEY, $wide);
));
$c->everywhere(q(
	CREATE TABLE types (id int PRIMARY KEY, c_bool bool, c_int2 int2, c_int4 int4, c_int8 int8, c_float4 float4, c_float8 float8, c_numeric numeric,
		c_money money, c_text text, c_varchar varchar(10), c_char char(10), c_qchar "char", c_name name, c_bytea bytea, c_date date, c_time time,
		c_timetz timetz, c_timestamp timestamp, c_timestamptz timestamptz, c_interval interval, c_uuid uuid, c_json json, c_jsonb jsonb, c_jsonpath jsonpath,
		c_xml xml, c_inet inet, c_cidr cidr, c_macaddr macaddr, c_macaddr8 macaddr8, c_bit bit(8), c_varbit varbit, c_point point, c_line line, c_lseg lseg,
		c_box box, c_path path, c_polygon polygon, c_circle circle, c_tsvector tsvector, c_tsquery tsquery, c_oid oid, c_regclass regclass, c_regtype regtype,
		c_regproc regproc, c_regprocedure regprocedure, c_regoper regoper, c_regoperator regoperator, c_regrole regrole, c_regnamespace regnamespace,
		c_regconfig regconfig, c_regdictionary regdictionary, c_regcollation regcollation, c_pg_lsn pg_lsn, c_pg_snapshot pg_snapshot, c_txid txid_snapshot, c_xid xid, c_xid8 xid8, c_cid cid, c_tid tid,
		c_int4range int4range, c_int8range int8range, c_numrange numrange, c_tsrange tsrange, c_tstzrange tstzrange, c_daterange daterange,
		c_int4multirange int4multirange, c_nummultirange nummultirange, c_tstzmultirange tstzmultirange, c_int2vector int2vector, c_oidvector oidvector, c_refcursor refcursor, c_aclitem aclitem[]);
	CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
	CREATE DOMAIN posint AS int CHECK (value > 0);
	CREATE DOMAIN moods AS mood[] CHECK (array_length(value, 1) < 10);
	CREATE TYPE pair AS (a int, m mood, t timestamptz);
	CREATE TYPE nest AS (p pair, ps pair[], d posint);
	CREATE TYPE floatrange AS RANGE (subtype = float8);
	CREATE TABLE users (id int PRIMARY KEY, m mood, d posint, ms moods, p pair, n nest, ns nest[], fr floatrange, ci citext UNIQUE, h hstore, hs hstore[], a2 int[][], t2 text[], e mood[]);
	CREATE TABLE by_enum (m mood, ci citext, PRIMARY KEY (m, ci));
	CREATE TABLE by_range (r int4range PRIMARY KEY, a int[] UNIQUE, n numeric UNIQUE, f float8 UNIQUE, i interval UNIQUE);
	CREATE TABLE computed (id int PRIMARY KEY, a int, b int GENERATED ALWAYS AS (a * 2) STORED, t text, l text GENERATED ALWAYS AS (lower(t)) STORED UNIQUE);
	CREATE TABLE moves (id int, region text, v int, PRIMARY KEY (region, id)) PARTITION BY LIST (region);
	CREATE TABLE moves_eu PARTITION OF moves FOR VALUES IN ('eu');
	CREATE TABLE moves_us (v int, junk int, region text NOT NULL, id int NOT NULL);
	ALTER TABLE moves_us DROP COLUMN junk;
	ALTER TABLE moves ATTACH PARTITION moves_us FOR VALUES IN ('us');
	CREATE TABLE moves_rest PARTITION OF moves DEFAULT PARTITION BY HASH (id);
	CREATE TABLE moves_rest_0 PARTITION OF moves_rest FOR VALUES WITH (MODULUS 2, REMAINDER 0);
	CREATE TABLE moves_rest_1 PARTITION OF moves_rest FOR VALUES WITH (MODULUS 2, REMAINDER 1);
	CREATE ROLE tenant LOGIN;
	CREATE TABLE secured (id int PRIMARY KEY, owner name, v int);
	ALTER TABLE secured ENABLE ROW LEVEL SECURITY; ALTER TABLE secured FORCE ROW LEVEL SECURITY;
	CREATE POLICY own ON secured USING (owner = current_user) WITH CHECK (owner = current_user AND v >= 0);
	GRANT ALL ON secured TO tenant;
	CREATE TABLE parent (id int PRIMARY KEY, v int);
	CREATE TABLE child (id int PRIMARY KEY, p int REFERENCES parent ON DELETE CASCADE ON UPDATE CASCADE);
	CREATE TABLE grandchild (id int PRIMARY KEY, c int REFERENCES child ON DELETE SET NULL, d int DEFAULT 1 REFERENCES parent ON DELETE SET DEFAULT);
	CREATE TABLE tree (id int PRIMARY KEY, up int REFERENCES tree ON DELETE CASCADE);
	CREATE TABLE circle_a (id int PRIMARY KEY, b int);
	CREATE TABLE circle_b (id int PRIMARY KEY, a int REFERENCES circle_a DEFERRABLE INITIALLY DEFERRED);
	CREATE TABLE deferred (id int PRIMARY KEY, rank int UNIQUE DEFERRABLE INITIALLY DEFERRED);
	CREATE TABLE uniques (id int PRIMARY KEY, a int, b text, live bool);
	CREATE UNIQUE INDEX ON uniques (a) WHERE live; CREATE UNIQUE INDEX ON uniques (lower(b)); CREATE UNIQUE INDEX ON uniques (a, b) NULLS NOT DISTINCT;
	CREATE TABLE booked (id int PRIMARY KEY, room int, during tsrange, EXCLUDE USING gist (room WITH =, during WITH &&));
	CREATE COLLATION nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
	CREATE TABLE blurred (k text COLLATE nocase PRIMARY KEY, u text COLLATE nocase UNIQUE, v int);
	CREATE TABLE edge (id int PRIMARY KEY); CREATE TABLE over_edge (id int PRIMARY KEY, e int REFERENCES edge);
));
@tables = qw(toasted bulk copied wide types users by_enum by_range computed moves secured parent child grandchild tree circle_a circle_b deferred uniques booked blurred);
$c->add_tables(@tables);
$c->node(1)->safe_psql($db, q(ALTER TABLE circle_a ADD FOREIGN KEY (b) REFERENCES circle_b DEFERRABLE INITIALLY DEFERRED));
$c->settle;

# --- large values ---

step('large values', q(INSERT INTO toasted SELECT g, g, repeat(md5(g::text), 30000), decode(repeat(md5(g::text), 3000), 'hex') FROM generate_series(1, 3) g;
	INSERT INTO toasted VALUES (4, 4, '', ''), (5, NULL, NULL, NULL)));
my $node = $c->node(1 + $turn % 3);
my $before = proposed($node);
step('another column of a row with large values', q(UPDATE toasted SET n = n + 1));
my $sent = proposed($node) - $before;
cmp_ok($sent, '<', 2000, "unchanged large values do not travel: $sent bytes");
step('one large value of two', q(UPDATE toasted SET raw = raw || '\x00ff' WHERE id = 1; UPDATE toasted SET big = big || 'x' WHERE id = 2; UPDATE toasted SET id = 100 WHERE id = 3));
step('replaced by small ones', q(UPDATE toasted SET big = 'small' WHERE id = 1; DELETE FROM toasted WHERE id = 2));

# --- large transactions ---

# While other sessions commit small ones on all servers, which all succeed: a large
# entry is copied, judged, sent and written in pieces, so that no heartbeat waits for it.
sub amid_others
{
	my ($what, $sql) = @_;
	my $load = $c->start_load(clients => 3, mode => 'insert');

	$c->wait_until('the others are at work', sub { $c->acknowledged($load) > 10 });
	my $begun = QuorumCluster::now();
	my ($state, undef, $err) = $c->try_sql($c->node(1 + $turn++ % 3), $sql, on_error_stop => 1, timeout => 120);
	diag(sprintf '%s: %.1f s, longest turns of the Raft workers: %s', $what, QuorumCluster::now() - $begun,
		join ' ', map { $_->safe_psql($db, 'SELECT round(raft_longest_turn_ms) FROM quorum.stat_replication') . ' ms' } $c->nodes);
	is($state, '', "$what: runs") or diag($err);
	my $done = $c->acknowledged($load);
	$c->wait_until('the others go on', sub { $c->acknowledged($load) > $done });
	my $ops = $c->stop_load($load);
	is(scalar(grep { $_->{verdict} eq 'R' } values %$ops), 0, "$what: the others were not disturbed");
	$c->settle;
	$c->tables_equal([ @tables, 'load' ], "$what: equal");
}

$c->everywhere($QuorumCluster::LOAD_SCHEMA);
$c->add_tables('load', 'load_counter');
my $term = $c->ask($c->node(1), 'SELECT term FROM quorum.status');
amid_others("a transaction of $megabytes MB", qq(INSERT INTO bulk SELECT g, repeat(md5(g::text), 32768) FROM generate_series(1, $megabytes) g));
is($c->ask($c->node(1), 'SELECT term FROM quorum.status'), $term, 'and nobody missed a heartbeat');
step('and none of it, rolled back', q(BEGIN; SAVEPOINT a; UPDATE bulk SET t = t || 'x' WHERE id < 30; ROLLBACK TO a; DELETE FROM bulk WHERE id > 10; COMMIT));
refused('a transaction above the limit', q(SET quorum.max_transaction_size = '1MB'; INSERT INTO bulk SELECT g, repeat(md5(g::text), 32768) FROM generate_series(1001, 1003) g), '54000', qr/large|limit|size/);
step('TRUNCATE of it', q(TRUNCATE bulk));
amid_others("COPY of $rows rows", qq(COPY copied FROM PROGRAM 'seq 1 $rows | awk "{print \\\$1 FS \\"row\\" \\\$1 FS \\\$1 / 7 FS \\"2026-01-01\\"}"' WITH (DELIMITER ' ')));
is($c->node(3)->safe_psql($db, 'SELECT count(*), max(id) FROM copied'), "$rows|$rows", 'all rows are there');
is($c->ask($c->node(1), 'SELECT term FROM quorum.status'), $term, 'and nobody missed a heartbeat');
step('an UPDATE of many rows', q(UPDATE copied SET b = b + 1 WHERE id % 10 = 0; DELETE FROM copied WHERE id % 10 = 1));

# --- wide tables, all types ---

step('1201 columns', 'INSERT INTO wide (id, ' . join(', ', map { "c$_" } 1 .. 1200) . ') SELECT g, ' . join(', ', map { "g + $_" } 1 .. 1200) . ' FROM generate_series(1, 20) g;' .
	'UPDATE wide SET c1200 = 0, c7 = NULL WHERE id % 2 = 0; ALTER TABLE wide DROP COLUMN c600, ADD COLUMN z text DEFAULT repeat(\'z\', 10); UPDATE wide SET c1 = 1, z = id');
step('every type', q~
	SET extra_float_digits = 0; SET datestyle = 'SQL, DMY'; SET intervalstyle = 'sql_standard'; SET bytea_output = 'escape'; SET timezone = 'Asia/Kolkata'; SET xmloption = 'content';
	INSERT INTO types VALUES (1, true, -32768, -2147483648, -9223372036854775808, '1e-37', 'NaN', 'NaN', 12.34, E'a\\b\n\t"''', 'varchar', 'char', 'x', 'name', '\x00ff10', '4713-01-01 BC', '24:00',
		'23:59:59.999999-15:59', '-infinity', '294276-12-31 23:59:59.999999+00', '-178000000 years', '00000000-0000-0000-0000-000000000000', '{"a" : [1,  2]}', '{"b": null, "a": 1e400}', '$.a[*] ? (@ > 1)',
		'<a>x</a>', '::1/64', '10.0.0.0/8', '08:00:2b:01:02:03', '08:00:2b:01:02:03:04:05', B'10101010', B'101', '(1.5,-0)', '{1,2,3}', '[(0,0),(1,1)]',
		'(1,1),(0,0)', '[(0,0),(1,1),(2,0)]', '((0,0),(1,1),(2,0))', '<(0,0),5>', 'a:1A fat:2B,4C', '''fat'' & (rat | !cat:AB)', 4294967295, 'types', 'mood[]',
		'pi', 'abs(int4)', '||/', '+(int4,int4)', 'tenant', 'public',
		'english', 'english_stem', 'nocase', 'FFFFFFFF/FFFFFFFF', '10:20:10,14,15', '10:20:10,14,15', '4294967295', '18446744073709551615', '7', '(4294967295,65535)',
		'empty', '[1,)', '(,1.5]', '[2026-01-01,infinity)', '[2026-01-01 00:00+05,)', '[2026-01-01,2026-02-01]',
		'{[1,3),[5,7)}', '{}', '{(,2020-01-01),[2026-01-01,)}', '1 2 3', '4 5', 'cursor', '{tenant=arw/tenant}');
	INSERT INTO types (id) VALUES (2);
	INSERT INTO types (id, c_float4, c_float8, c_numeric, c_timestamp, c_date, c_interval, c_money, c_timestamptz, c_jsonb) VALUES
		(3, '3.4028235e38', '0.1', '-0.000000000000000000000000000000000000000000000001', 'infinity', 'infinity', '1 mon -1 day 00:00:00.000001', '-92233720368547758.08', 'infinity', '"\u00e4\ud83d\ude00"'),
		(4, '-infinity', '4.9e-324', 'infinity', '4714-11-24 00:00 BC', '5874897-12-31', '0', 0, '0001-01-01 BC', '[]'), (5, '-0', '1.7976931348623157e308', (1e1000)::numeric, now(), now(), '1.5 years', 1, now(), jsonb_build_object('n', 1.10));
	UPDATE types SET c_text = 'later', c_int4range = int4range(1, id) WHERE id IN (1, 2)~);
step('types of users', q~SET datestyle = 'german'; INSERT INTO users VALUES (1, 'happy', 5, '{sad,ok}', row(1, 'sad', '02.01.2026 03:04'), row(row(2, 'ok', NULL), array[row(3, 'sad', NULL)::pair, NULL], 7),
		array[row(NULL, NULL, 1)::nest, NULL], '[1.5,2.5)', 'MiXed', 'a=>1, "b c"=>NULL', array['x=>y'::hstore], '{{1,2},{3,NULL}}', '[5:6]={a,"b,c"}', '{sad,NULL}');
	INSERT INTO users (id, ci) VALUES (2, 'other'), (3, NULL); UPDATE users SET p.m = 'ok', h = h || 'n=>2' WHERE id = 1; UPDATE users SET ci = upper(ci) WHERE id = 2;
	INSERT INTO by_enum VALUES ('sad', 'A'), ('ok', 'b'); UPDATE by_enum SET ci = 'a' WHERE ci = 'A'; UPDATE by_enum SET m = 'happy' WHERE ci = 'B'; DELETE FROM by_enum WHERE ci = 'A'~);
refused('a citext value that differs in case', q(INSERT INTO users (id, ci) VALUES (4, 'mixed')), '23505', qr/users_ci_key/);
step('keys of unusual types', q~INSERT INTO by_range VALUES ('[1,5)', '{1,2}', 1.0, 0, '1 day'), ('empty', '{}', 'NaN', 'NaN', '0'), ('(,)', NULL, 'infinity', '-infinity', '1 mon');
	UPDATE by_range SET n = 1.000, f = '-0', i = '24:00:00' WHERE r = int4range(1, 5); UPDATE by_range SET r = '[7,9]' WHERE r = 'empty'; DELETE FROM by_range WHERE r @> 100~);
step('generated columns', q(INSERT INTO computed (id, a, t) VALUES (1, 1, 'ABC'), (2, NULL, 'def'); UPDATE computed SET a = 7, t = 'Abd' WHERE id = 1; UPDATE computed SET id = 3 WHERE id = 2));

# --- partitions, row-level security ---

step('rows that move between partitions', q(INSERT INTO moves SELECT g, (array['eu', 'us', 'x', 'y'])[1 + g % 4], g FROM generate_series(1, 40) g; UPDATE moves SET region = 'us' WHERE region = 'eu' AND id < 20;
	UPDATE moves SET region = 'eu', v = 0 WHERE region = 'x'; UPDATE moves SET id = id + 1000 WHERE region = 'y'; UPDATE moves_us SET region = 'z' WHERE false; DELETE FROM moves WHERE region = 'us' AND id % 3 = 0;
	INSERT INTO moves VALUES (1, 'us', 1) ON CONFLICT (region, id) DO UPDATE SET v = 99; MERGE INTO moves m USING (VALUES (2, 'eu')) s (id, r) ON m.id = s.id AND m.region = s.r WHEN MATCHED THEN UPDATE SET region = 'us' WHEN NOT MATCHED THEN INSERT VALUES (s.id, s.r, -1)));
is($c->node(2)->safe_psql($db, "SELECT count(*) FROM moves_$_"), $c->node(1)->safe_psql($db, "SELECT count(*) FROM moves_$_"), "as many in moves_$_") for qw(eu us rest_0 rest_1);
step('row-level security', q(SET ROLE tenant; INSERT INTO secured VALUES (1, 'tenant', 1), (2, 'tenant', 2); RESET ROLE; INSERT INTO secured VALUES (3, 'somebody', 3); SET ROLE tenant; UPDATE secured SET v = v + 10; DELETE FROM secured WHERE id = 2));
is($c->node($_)->safe_psql($db, q(SELECT string_agg(id || ' ' || v, ', ' ORDER BY id) FROM secured)), '1 11, 3 3', "what the policy let through, on n$_") for 1 .. 3;
refused('what the policy does not allow', q(SET ROLE tenant; INSERT INTO secured VALUES (9, 'tenant', -1)), '42501', qr/row-level security/);

# --- foreign keys, deferred constraints, indexes of all kinds ---

step('cascades', q(INSERT INTO parent SELECT g, g FROM generate_series(1, 10) g; INSERT INTO child SELECT g, 1 + g % 10 FROM generate_series(1, 30) g; INSERT INTO grandchild SELECT g, g, 2 + g % 9 FROM generate_series(1, 30) g;
	UPDATE grandchild SET d = 2 WHERE d = 5; UPDATE parent SET id = 50 WHERE id = 5; DELETE FROM parent WHERE id IN (6, 7); INSERT INTO tree SELECT g, nullif(g / 2, 0) FROM generate_series(1, 63) g; DELETE FROM tree WHERE id = 3));
is($c->node(3)->safe_psql($db, 'SELECT (SELECT count(*) FROM child), (SELECT count(*) FROM grandchild WHERE c IS NULL), (SELECT count(*) FROM grandchild WHERE d = 1), (SELECT count(*) FROM tree)'),
	$c->node(1)->safe_psql($db, 'SELECT (SELECT count(*) FROM child), (SELECT count(*) FROM grandchild WHERE c IS NULL), (SELECT count(*) FROM grandchild WHERE d = 1), (SELECT count(*) FROM tree)'), 'cascaded alike');
is($c->node(3)->safe_psql($db, 'SELECT count(*) FROM child WHERE p IN (6, 7)'), '0', 'and they did cascade');
refused('a row without its parent', q(INSERT INTO child VALUES (100, 6)), '23503', qr/child_p_fkey/);
refused('a parent with rows that stay', q(ALTER TABLE grandchild ALTER d DROP DEFAULT; BEGIN; UPDATE grandchild SET d = 50 WHERE id = 1; DELETE FROM parent WHERE id = 1; INSERT INTO child VALUES (101, 1); COMMIT), '23503', qr/child_p_fkey/);
step('deferred constraints', q(BEGIN; INSERT INTO circle_a VALUES (1, 1), (2, NULL); INSERT INTO circle_b VALUES (1, 1), (2, 2); UPDATE circle_a SET b = 2 WHERE id = 2; COMMIT;
	INSERT INTO deferred SELECT g, g FROM generate_series(1, 10) g; UPDATE deferred SET rank = 11 - rank; BEGIN; UPDATE deferred SET rank = rank + 1; SET CONSTRAINTS ALL IMMEDIATE; UPDATE deferred SET rank = rank + 1 WHERE id = 1; COMMIT));
refused('a deferred constraint that does not hold', q(BEGIN; UPDATE deferred SET rank = 5; COMMIT), '23505', qr/deferred_rank_key/);
refused('a deferred foreign key', q(BEGIN; DELETE FROM circle_b WHERE id = 1; COMMIT), '23503', qr/circle_a/);
step('partial, expression and NULLS NOT DISTINCT indexes', q(INSERT INTO uniques VALUES (1, 1, 'Aa', true), (2, 1, 'b', false), (3, NULL, NULL, true), (4, 2, 'd', NULL); UPDATE uniques SET live = NOT live WHERE id = 1; UPDATE uniques SET live = true WHERE id = 2; UPDATE uniques SET b = 'AA' WHERE id = 1));
refused('the partial one', q(UPDATE uniques SET live = true WHERE id = 1), '23505', qr/uniques_a_idx/);
refused('the expression', q(INSERT INTO uniques VALUES (9, 9, 'aA', false)), '23505', qr/uniques_lower_idx/);
refused('the NULLs', q(INSERT INTO uniques VALUES (9, NULL, NULL, false)), '23505', qr/uniques_a_b_idx/);
step('an exclusion constraint', q~INSERT INTO booked VALUES (1, 1, '[2026-01-01,2026-01-02)'), (2, 1, '[2026-01-02,2026-01-03)'), (3, 2, '[2026-01-01,2026-01-05)'); UPDATE booked SET during = '[2026-01-05,2026-01-06)' WHERE id = 2; UPDATE booked SET room = 2 WHERE id = 2~);
refused('an overlap', q~INSERT INTO booked VALUES (4, 2, '[2026-01-04,2026-01-06)')~, '23P01', qr/booked/);
step('a nondeterministic collation', q(INSERT INTO blurred VALUES ('Abc', 'x', 1), ('def', 'Y', 2); UPDATE blurred SET v = 3 WHERE k = 'ABC'; UPDATE blurred SET k = 'aBC' WHERE k = 'abc'; UPDATE blurred SET u = 'y' WHERE u = 'Y'; INSERT INTO blurred VALUES ('ABC', 'q', 9) ON CONFLICT (k) DO UPDATE SET v = 4; DELETE FROM blurred WHERE k = 'DEF'));
refused('an equal key in other letters', q(INSERT INTO blurred VALUES ('aBc', 'z', 1)), '23505', qr/blurred_pkey/);

# two servers at once: equal values of one kind or the other clash, different ones do not
sub at_once
{
	my ($what, $here, $there, $clash) = @_;
	my $session = $c->node(1)->background_psql($db, on_error_stop => 0);

	$session->query_safe('BEGIN');
	$session->query_safe($here);
	my ($state, undef, $err) = $c->try_sql($c->node(2), $there);
	is($state, '', "$what: the other one is not disturbed") or diag($err);
	$session->{stderr} = '';
	$session->query('COMMIT');
	($clash ? \&like : \&unlike)->($session->{stderr}, qr/ERROR/, "$what: " . ($clash ? 'one of two' : 'both'));
	$session->quit;
	$c->settle;
	$c->tables_equal(\@tables, "$what: equal");
}

at_once('equal under a nondeterministic collation', q(INSERT INTO blurred VALUES ('NEW', 'n1', 1)), q(INSERT INTO blurred VALUES ('new', 'n2', 1)), 1);
at_once('equal but for case in citext', q(INSERT INTO users (id, ci) VALUES (20, 'Same')), q(INSERT INTO users (id, ci) VALUES (21, 'sAME')), 1);
at_once('equal numbers of another scale', q~INSERT INTO by_range (r, n) VALUES ('[50,51]', 7.0)~, q~INSERT INTO by_range (r, n) VALUES ('[60,61]', 7.000)~, 1);
at_once('zero and minus zero', q~UPDATE by_range SET f = 0.5 WHERE f = 0; INSERT INTO by_range (r, f) VALUES ('[70,71]', 0)~, q~INSERT INTO by_range (r, f) VALUES ('[80,81]', '-5')~, 0);
at_once('equal intervals', q~INSERT INTO by_range (r, i) VALUES ('[90,91]', '2 days')~, q~INSERT INTO by_range (r, i) VALUES ('[100,101]', '48:00')~, 1);
at_once('overlapping bookings', q~INSERT INTO booked VALUES (10, 9, '[2026-01-01,2026-01-03)')~, q~INSERT INTO booked VALUES (11, 9, '[2026-01-02,2026-01-04)')~, 1);
at_once('equal by an expression', q(INSERT INTO uniques VALUES (30, 30, 'Expr', false)), q(INSERT INTO uniques VALUES (31, 31, 'eXPR', false)), 1);
at_once('outside a partial index', q(INSERT INTO uniques VALUES (32, 77, 'p1', false)), q(INSERT INTO uniques VALUES (33, 77, 'p2', false)), 0);
at_once('a child, and its parent deleted', q(INSERT INTO child VALUES (200, 8)), q(DELETE FROM parent WHERE id = 8), 1);
at_once('rows of different partitions', q(UPDATE moves SET region = 'us' WHERE region = 'eu' AND id = 34), q(UPDATE moves SET v = -5 WHERE region = 'eu' AND id = 38), 0);

# --- the edge of what is replicated ---

refused('a foreign key over the edge', q(SELECT quorum.add_table('over_edge')), '0A000', qr/foreign key to table "edge", which is not replicated/);
my (undef, undef, $err) = $c->try_sql($c->node(1), q(SELECT quorum.add_table('edge')));
like($err, qr/WARNING:.*foreign key from an ordinary table to replicated table "edge"/, 'one that leads in from outside is warned of');
$c->settle;

is($c->node($_)->safe_psql($db, 'SELECT defects FROM quorum.stat_replication'), '0', "n$_ had no defect") for 1 .. 3;
unlike(slurp_file($_->logfile), qr/PANIC|TRAP:|was terminated by signal (6|11)|could not apply entry/, $_->name . ' logged no crash')
  for $c->nodes;

done_testing();
