# setval() wherever it is called: on all members, or refused before it does
# anything; never on one member alone.
use strict;
use warnings;

use PostgreSQL::Test::Utils;
use QuorumCluster;
use Test::More;

my $db = $QuorumCluster::DB;
my $c = QuorumCluster->new(nodes => 3);
my $at = 1000;

$c->found;
$c->everywhere(<<'SQL');
CREATE TABLE s (id serial PRIMARY KEY, k int);
CREATE TABLE plain (k int DEFAULT 1);
CREATE SEQUENCE own;
CREATE FUNCTION inlined(v bigint) RETURNS bigint LANGUAGE sql AS $$ SELECT setval('s_id_seq', v) $$;
CREATE FUNCTION twice(v bigint) RETURNS bigint LANGUAGE sql AS $$ SELECT inlined(v) $$;
CREATE FUNCTION atomic(v bigint) RETURNS bigint LANGUAGE sql BEGIN ATOMIC SELECT pg_catalog.setval('s_id_seq', v, true); END;
CREATE FUNCTION returned(v bigint) RETURNS bigint LANGUAGE sql RETURN setval('s_id_seq', v);
CREATE FUNCTION escaped(v bigint) RETURNS bigint LANGUAGE sql AS $$ SELECT U&"\0073etval"('s_id_seq', v) $$;
CREATE FUNCTION rows_of(v bigint) RETURNS SETOF bigint STABLE LANGUAGE sql AS $$ SELECT setval('s_id_seq', v) $$;
CREATE FUNCTION lies(v bigint) RETURNS bigint IMMUTABLE LANGUAGE sql AS $$ SELECT setval('s_id_seq', v) $$;
CREATE FUNCTION pl(v bigint) RETURNS bigint LANGUAGE plpgsql AS $$ DECLARE x bigint; BEGIN x := setval('s_id_seq', v); RETURN x; END $$;
CREATE FUNCTION pl_stable(v bigint) RETURNS bigint STABLE LANGUAGE plpgsql AS $$ BEGIN RETURN setval('s_id_seq', v); END $$;
CREATE FUNCTION named(seq text, v bigint) RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN RETURN setval(seq, v); END $$;
CREATE OPERATOR <~ (LEFTARG = regclass, RIGHTARG = bigint, FUNCTION = setval);
CREATE FUNCTION by_operator(v bigint) RETURNS bigint LANGUAGE sql AS $$ SELECT 's_id_seq'::regclass <~ v $$;
CREATE VIEW seen AS SELECT setval('s_id_seq', 1700) AS v;
CREATE PROCEDURE proc(v bigint) LANGUAGE plpgsql AS $$ BEGIN PERFORM setval('s_id_seq', v); END $$;
CREATE PROCEDURE takes(v bigint) LANGUAGE plpgsql AS $$ BEGIN END $$;
CREATE FUNCTION on_plain() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM setval('s_id_seq', NEW.k); RETURN NULL; END $$;
SQL
$c->add_tables('s');
$c->node(1)->safe_psql($db, q(INSERT INTO s (k) VALUES (1)));
$c->settle;

# Every member's next value, and that it is in that member's class.
sub next_values
{
	my ($what, $seq) = @_;

	$c->settle;
	return map { $_->safe_psql($db, "SELECT nextval('$seq')") } $c->nodes;
}

# On a member that does not lead and one that may; all go on behind the value.
sub counts
{
	my ($what, $sql) = @_;
	my $value = ($at += 100);
	my $node = $c->node(1 + ($at / 100) % 3);

	$sql =~ s/\bVALUE\b/$value/g;
	my ($state, undef, $err) = $c->try_sql($node, $sql, on_error_stop => 1);
	is($state, '', "$what: runs") or diag($err);
	my %seen;
	my @next = next_values($what, 's_id_seq');
	$seen{$_}++ for @next;
	is(scalar(grep { $_ > $value && $_ <= $value + 8 } @next), 3, "$what: each member goes on behind it") or diag("$value: @next");
	is(scalar(keys %seen), 3, "$what: with values of its own") or diag("@next");
}

# The value is not set on any member.
sub refused
{
	my ($what, $sql) = @_;
	my $node = $c->node(2);

	my ($state, undef, $err) = $c->try_sql($node, $sql, on_error_stop => 1);
	is($state, '0A000', "$what: refused") or diag($err);
	like($err, qr/HINT:.*quorum\.setval/s, "$what: with a hint");
	my @next = next_values($what, 's_id_seq');
	is(scalar(grep { $_ < 100000 } @next), 3, "$what: nothing was done") or diag("@next");
}

counts('a function that could be inlined', 'SELECT inlined(VALUE)');
counts('one in another', 'SELECT twice(VALUE)');
counts('for rows of a table', 'SELECT twice(VALUE) FROM s LIMIT 1');
counts('a body parsed before', 'SELECT atomic(VALUE)');
counts('RETURN', 'SELECT returned(VALUE)');
counts('a name with escapes', 'SELECT escaped(VALUE)');
counts('a set, and not as stable as said', 'SELECT * FROM rows_of(VALUE)');
counts('one that says it is immutable', 'SELECT lies(VALUE)');
counts('an assignment in PL/pgSQL', 'SELECT pl(VALUE)');
counts('STABLE in PL/pgSQL', 'SELECT pl_stable(VALUE)');
counts('the name in a variable', q(SELECT named('s_id_seq', VALUE)));
counts('an operator', q(SELECT 's_id_seq'::regclass <~ VALUE));
counts('as text, qualified', q(SELECT pg_catalog.setval('public.s_id_seq'::text, VALUE)));
counts('as a number', q(SELECT pg_catalog.setval('s_id_seq'::regclass::oid, VALUE, true)));
counts('DO', q(DO $$ BEGIN PERFORM setval('s_id_seq', VALUE); END $$));
counts('a procedure', 'CALL proc(VALUE)');
counts('a CTE', q(WITH w AS MATERIALIZED (SELECT setval('s_id_seq', VALUE) AS v) SELECT v FROM w));
counts('a sub-select, a condition', q(SELECT 1 WHERE (SELECT setval('s_id_seq', VALUE)) > 0));
counts('a prepared statement', q(SET plan_cache_mode = force_generic_plan; PREPARE p (bigint) AS SELECT setval('s_id_seq', $1); EXECUTE p(5); EXECUTE p(VALUE)));
counts('COPY of a query', q(COPY (SELECT setval('s_id_seq', VALUE)) TO STDOUT));
counts('EXPLAIN ANALYZE', q(EXPLAIN ANALYZE SELECT inlined(VALUE)));
counts('a cursor', q(BEGIN; DECLARE x CURSOR FOR SELECT inlined(VALUE); FETCH x; COMMIT));
counts('CREATE TABLE AS', q(CREATE TEMP TABLE t AS SELECT setval('s_id_seq', VALUE) AS v));
counts('a trigger', q(CREATE TEMP TABLE t (k int); CREATE TRIGGER x AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION on_plain(); INSERT INTO t VALUES (VALUE)));
counts('with parallel plans', q(SET force_parallel_mode = on; SELECT inlined(VALUE))) if $c->node(1)->safe_psql($db, 'SHOW server_version_num') < 160000;
counts('quorum.setval in a place like that', q(CREATE TEMP TABLE t (k int, v bigint DEFAULT quorum.setval('s_id_seq', VALUE)); COPY t (k) FROM PROGRAM 'echo 1'));
$at = 1600;
counts('a view', 'SELECT v FROM seen');

refused('a default that COPY fills in', q(CREATE TEMP TABLE t (k int, v bigint DEFAULT setval('s_id_seq', 200000)); COPY t (k) FROM PROGRAM 'echo 1'));
refused('an operator in a function that is inlined', 'SELECT by_operator(200000)');
refused('CHECK', q(CREATE TEMP TABLE t (k int CHECK (setval('s_id_seq', 200000) > 0)); INSERT INTO t VALUES (1)));
refused('an argument of CALL', q(CALL takes(setval('s_id_seq', 200000))));
refused('an argument of EXECUTE', q(PREPARE p (bigint) AS SELECT $1; EXECUTE p(setval('s_id_seq', 200000))));
$c->fails_with($c->node(2), q(BEGIN READ ONLY; SELECT inlined(200000)), '25006', qr/read-only/, 'in a read-only transaction');

# in EXPLAIN alone nothing happens
$c->node(2)->safe_psql($db, q(EXPLAIN SELECT inlined(200000)));
cmp_ok((next_values('EXPLAIN', 's_id_seq'))[1], '<', 100000, 'EXPLAIN sets nothing');

# an ordinary sequence is each server's own
is($c->node(2)->safe_psql($db, q(SELECT setval('own', 50))), '50', 'an ordinary sequence');
is($c->node(2)->safe_psql($db, q(SELECT nextval('own'))), '51', 'goes on by one');
is($c->node(1)->safe_psql($db, q(SELECT nextval('own'))), '1', 'and knows nothing of the others');
is($c->node(2)->safe_psql($db, q(SELECT setval('s_id_seq', 3000); SELECT currval('s_id_seq'))), "3000\n3000", 'currval() after it');

# a trigger that fires where rows are applied, too
$c->node(1)->safe_psql($db, q(CREATE TRIGGER always AFTER INSERT ON s FOR EACH ROW EXECUTE FUNCTION on_plain(); ALTER TABLE s ENABLE ALWAYS TRIGGER always));
$c->node(2)->safe_psql($db, q(INSERT INTO s (id, k) VALUES (-1, 4000)));
$at = 3900;
{
	my %seen;
	my @next = next_values('ENABLE ALWAYS', 's_id_seq');
	$seen{$_}++ for @next;
	is(scalar(grep { $_ > 4000 && $_ <= 4016 } @next), 3, 'ENABLE ALWAYS: each member goes on behind it') or diag("@next");
	is(scalar(keys %seen), 3, 'ENABLE ALWAYS: with values of its own') or diag("@next");
}
$c->settle;
$c->tables_equal('s', 'tables equal');

unlike(slurp_file($_->logfile), qr/PANIC|TRAP:|was terminated by signal (6|11)|could not apply entry/, $_->name . ' logged no crash')
  for $c->nodes;

done_testing();
