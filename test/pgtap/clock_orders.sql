-- The orders of hlc, lamport and vclock as properties: over samples with all
-- edges in them, every pair and triple is looked at.
BEGIN;
SET LOCAL search_path = public, quorum;
SET LOCAL client_min_messages = warning;
SELECT plan(31);

-- --- hlc: a total order, the one of (time, counter, node) ---

CREATE TEMP TABLE h AS
SELECT hlc_make(t::timestamptz, l, n) AS h, t::timestamptz AS t, l, n
FROM unnest(ARRAY['0001-01-01 00:00Z', '1999-12-31 23:59:59.999999Z', '2000-01-01 00:00Z',
		'2026-11-23 01:02:03.456789Z', '2142-09-18 00:00Z', '2150-01-01 00:00Z', '9999-12-31 23:59:59.999999Z']) t,
	unnest(ARRAY[0, 1, 10, 4095, 4096, 4294967295]) l,
	unnest(ARRAY[0, 2, 10, 4294967295]) n;
ANALYZE h;

SELECT is((SELECT count(*) FROM h), 168::bigint, 'hlc: the sample');
SELECT is((SELECT count(*) FROM h a, h b WHERE hlc_cmp(a.h, b.h) <> CASE
		WHEN (a.t, a.l, a.n) < (b.t, b.l, b.n) THEN -1 WHEN (a.t, a.l, a.n) = (b.t, b.l, b.n) THEN 0 ELSE 1 END),
	0::bigint, 'hlc: the order of (time, counter, node)');
SELECT is((SELECT count(*) FROM h a, h b WHERE (a.h < b.h) <> (hlc_cmp(a.h, b.h) < 0) OR (a.h <= b.h) <> (hlc_cmp(a.h, b.h) <= 0)
		OR (a.h = b.h) <> (hlc_cmp(a.h, b.h) = 0) OR (a.h <> b.h) <> (hlc_cmp(a.h, b.h) <> 0)
		OR (a.h >= b.h) <> (hlc_cmp(a.h, b.h) >= 0) OR (a.h > b.h) <> (hlc_cmp(a.h, b.h) > 0)),
	0::bigint, 'hlc: six operators, one order');
SELECT is((SELECT count(*) FROM h a, h b, h c WHERE a.h < b.h AND b.h < c.h AND NOT a.h < c.h), 0::bigint, 'hlc: transitive');
SELECT is((SELECT array_agg(h ORDER BY h) FROM h), (SELECT array_agg(h ORDER BY t, l, n) FROM h), 'hlc: sorting agrees');
SELECT is((SELECT array_agg(h ORDER BY h DESC) FROM h), (SELECT array_agg(h ORDER BY t DESC, l DESC, n DESC) FROM h), 'hlc: and downwards');
SELECT is((SELECT count(*) FROM h a, h b WHERE (a.h = b.h) <> (hlc_hash(a.h) = hlc_hash(b.h) AND hlc_hash_extended(a.h, 7) = hlc_hash_extended(b.h, 7))),
	0::bigint, 'hlc: equal stamps have equal hashes, and these here no others');
SELECT is((SELECT count(*) FROM h WHERE hlc_hash_extended(h, 0) & 4294967295 <> hlc_hash(h)::bigint & 4294967295),
	0::bigint, 'hlc: the extended hash with seed 0 has the plain one in its lower half');
SELECT is((SELECT count(*) FROM h WHERE h::text::hlc <> h OR hlc_make(hlc_physical(h), hlc_logical(h), hlc_node(h)) <> h),
	0::bigint, 'hlc: text and parts lose nothing');
SELECT is((SELECT count(*) FROM h a, h b WHERE a.t < b.t AND NOT a.h::text COLLATE "C" < b.h::text COLLATE "C"),
	0::bigint, 'hlc: the text form sorts by time');
SELECT is((SELECT count(*) FROM h a, h b WHERE greatest(a.h, b.h) <> hlc_larger(a.h, b.h) OR least(a.h, b.h) <> hlc_smaller(a.h, b.h)),
	0::bigint, 'hlc: larger and smaller');
SELECT is((SELECT count(*) FROM h a, h b WHERE a.t BETWEEN '2000-01-01 00:00Z' AND '2150-01-01 00:00Z' AND b.t BETWEEN '2000-01-01 00:00Z' AND '2150-01-01 00:00Z'
		AND hlc_physical(b.h + (a.h - b.h)) <> hlc_physical(a.h)),
	0::bigint, 'hlc: b + (a - b) is the time of a');
SELECT is((SELECT count(*) FROM h a, h b WHERE a.h <= b.h AND (NOT hlcrange(a.h, b.h, '[]') @> a.h OR NOT hlcrange(a.h, b.h, '[]') @> b.h
		OR (a.h < b.h AND hlcrange(a.h, b.h) @> b.h))),
	0::bigint, 'hlcrange: bounds');

-- --- lamport ---

CREATE TEMP TABLE l AS
SELECT v::lamport AS l, v FROM unnest(ARRAY[0, 1, 2, 9, 10, 4294967296, 9223372036854775806, 9223372036854775807]) v;
SELECT is((SELECT count(*) FROM l a, l b WHERE (a.l < b.l) <> (a.v < b.v) OR (a.l <= b.l) <> (a.v <= b.v) OR (a.l = b.l) <> (a.v = b.v)
		OR (a.l <> b.l) <> (a.v <> b.v) OR (a.l >= b.l) <> (a.v >= b.v) OR (a.l > b.l) <> (a.v > b.v)),
	0::bigint, 'lamport: the order of the numbers');
SELECT is((SELECT count(*) FROM l a, l b WHERE a.v < 9223372036854775807 AND b.v < 9223372036854775807
		AND NOT (lamport_observe(a.l, b.l) > a.l AND lamport_observe(a.l, b.l) > b.l AND lamport_tick(a.l) > a.l)),
	0::bigint, 'lamport: a tick is later, an observation later than both');
SELECT throws_ok('SELECT lamport_tick(''9223372036854775807''::lamport)', '22003', NULL, 'lamport: the end is an error');

-- --- vclock: all clocks of three nodes with counters 0 to 3 ---

CREATE TEMP TABLE v AS
SELECT format('{a:%s,b:%s,c:%s}', a, b, c)::vclock AS v, a, b, c
FROM generate_series(0, 3) a, generate_series(0, 3) b, generate_series(0, 3) c;
ANALYZE v;
SELECT is((SELECT count(*) FROM v x, v y WHERE (x.v <@ y.v) <> (x.a <= y.a AND x.b <= y.b AND x.c <= y.c) OR (x.v @> y.v) <> (y.v <@ x.v)
		OR (x.v = y.v) <> ((x.a, x.b, x.c) = (y.a, y.b, y.c)) OR (x.v <> y.v) = (x.v = y.v)),
	0::bigint, 'vclock: <@ is every counter <=');
SELECT is((SELECT count(*) FROM v x, v y WHERE x.v <@ y.v AND y.v <@ x.v AND x.v <> y.v), 0::bigint, 'vclock: antisymmetric');
SELECT is((SELECT count(*) FROM v x, v y, v z WHERE x.v <@ y.v AND y.v <@ z.v AND NOT x.v <@ z.v), 0::bigint, 'vclock: transitive');
SELECT is((SELECT count(*) FROM v x, v y WHERE vclock_compare(x.v, y.v) <> CASE WHEN x.v = y.v THEN 'equal' WHEN x.v <@ y.v THEN 'before'
		WHEN x.v @> y.v THEN 'after' ELSE 'concurrent' END
		OR vclock_concurrent(x.v, y.v) <> (vclock_compare(x.v, y.v) = 'concurrent') OR vclock_concurrent(x.v, y.v) <> vclock_concurrent(y.v, x.v)),
	0::bigint, 'vclock: compare says the same');
SELECT is((SELECT count(*) FROM v x, v y WHERE vclock_merge(x.v, y.v) <> vclock_merge(y.v, x.v) OR vclock_merge(x.v, x.v) <> x.v
		OR NOT x.v <@ vclock_merge(x.v, y.v) OR NOT y.v <@ vclock_merge(x.v, y.v)),
	0::bigint, 'vclock: merge is commutative, idempotent, an upper bound');
SELECT is((SELECT count(*) FROM v x, v y, v z WHERE x.a < 3 AND y.b < 3 AND z.c < 3 AND vclock_merge(vclock_merge(x.v, y.v), z.v) <> vclock_merge(x.v, vclock_merge(y.v, z.v))),
	0::bigint, 'vclock: merge is associative');
SELECT is((SELECT count(*) FROM v x, v y, v z WHERE x.v <@ z.v AND y.v <@ z.v AND NOT vclock_merge(x.v, y.v) <@ z.v),
	0::bigint, 'vclock: and the least upper bound');
SELECT is((SELECT vclock_merge(v) FROM v), '{a:3,b:3,c:3}'::vclock, 'vclock: merge as an aggregate');
SELECT is((SELECT count(*) FROM v, unnest(ARRAY['a', 'b', 'c', 'd']) node WHERE vclock_compare(v, vclock_tick(v, node)) <> 'before'
		OR vclock_get(vclock_tick(v, node), node) <> vclock_get(v, node) + 1),
	0::bigint, 'vclock: a tick comes after, by one event of that node');
SELECT is((SELECT count(*) FROM v x, v y WHERE x.v <@ y.v AND x.v <> y.v AND NOT x.v *< y.v), 0::bigint, 'vclock: the canonical order extends the partial one');
SELECT is((SELECT count(*) FROM v x, v y WHERE (x.v *< y.v)::int + (x.v = y.v)::int + (x.v *> y.v)::int <> 1
		OR (x.v *<= y.v) <> NOT (x.v *> y.v) OR (x.v *>= y.v) <> NOT (x.v *< y.v)), 0::bigint, 'vclock: the canonical order is total');
SELECT is((SELECT count(*) FROM v x, v y, v z WHERE x.v *< y.v AND y.v *< z.v AND NOT x.v *< z.v), 0::bigint, 'vclock: and transitive');
SELECT is((SELECT count(*) FROM v x, v y WHERE (x.v = y.v) <> (vclock_hash_extended(x.v, 1) = vclock_hash_extended(y.v, 1))
		OR (x.v = y.v AND vclock_hash(x.v) <> vclock_hash(y.v))), 0::bigint, 'vclock: hashes agree with =');
SELECT is((SELECT count(*) FROM v WHERE v::jsonb::vclock <> v OR v::text::vclock <> v), 0::bigint, 'vclock: text and jsonb lose nothing');
SELECT is((SELECT count(*) FROM v WHERE NOT vclock_prune(v, '{a,c}') <@ v OR vclock_get(vclock_prune(v, '{a,c}'), 'b') <> 0
		OR vclock_get(vclock_prune(v, '{a,c}'), 'c') <> c OR NOT vclock_limit(v, 2) <@ v
		OR (SELECT count(*) FROM vclock_entries(vclock_limit(v, 2))) > 2),
	0::bigint, 'vclock: pruned is contained');

SELECT * FROM finish();
ROLLBACK;
