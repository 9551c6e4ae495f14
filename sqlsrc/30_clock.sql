-- Clocks: the types hlc, lamport and vclock, the server's own clock, ids
-- What each function does is said where it is defined, in src/clock.

--
-- hlc: hybrid logical clock stamps
--

CREATE TYPE quorum.hlc;

CREATE FUNCTION quorum.hlc_in(cstring) RETURNS quorum.hlc
AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
CREATE FUNCTION quorum.hlc_out(quorum.hlc) RETURNS cstring
AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
CREATE FUNCTION quorum.hlc_recv(internal) RETURNS quorum.hlc
AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
CREATE FUNCTION quorum.hlc_send(quorum.hlc) RETURNS bytea
AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;

CREATE TYPE quorum.hlc (
	INPUT = quorum.hlc_in, OUTPUT = quorum.hlc_out,
	RECEIVE = quorum.hlc_recv, SEND = quorum.hlc_send,
	INTERNALLENGTH = 16, ALIGNMENT = double, STORAGE = plain
);
COMMENT ON TYPE quorum.hlc IS 'hybrid logical clock stamp: time/counter@node';

CREATE FUNCTION quorum.hlc_eq(quorum.hlc, quorum.hlc) RETURNS boolean
AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT LEAKPROOF PARALLEL SAFE;
CREATE FUNCTION quorum.hlc_ne(quorum.hlc, quorum.hlc) RETURNS boolean
AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT LEAKPROOF PARALLEL SAFE;
CREATE FUNCTION quorum.hlc_lt(quorum.hlc, quorum.hlc) RETURNS boolean
AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT LEAKPROOF PARALLEL SAFE;
CREATE FUNCTION quorum.hlc_le(quorum.hlc, quorum.hlc) RETURNS boolean
AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT LEAKPROOF PARALLEL SAFE;
CREATE FUNCTION quorum.hlc_gt(quorum.hlc, quorum.hlc) RETURNS boolean
AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT LEAKPROOF PARALLEL SAFE;
CREATE FUNCTION quorum.hlc_ge(quorum.hlc, quorum.hlc) RETURNS boolean
AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT LEAKPROOF PARALLEL SAFE;

CREATE OPERATOR quorum.= (
	LEFTARG = quorum.hlc, RIGHTARG = quorum.hlc, FUNCTION = quorum.hlc_eq,
	COMMUTATOR = OPERATOR(quorum.=), NEGATOR = OPERATOR(quorum.<>),
	RESTRICT = eqsel, JOIN = eqjoinsel, HASHES, MERGES
);
CREATE OPERATOR quorum.<> (
	LEFTARG = quorum.hlc, RIGHTARG = quorum.hlc, FUNCTION = quorum.hlc_ne,
	COMMUTATOR = OPERATOR(quorum.<>), NEGATOR = OPERATOR(quorum.=),
	RESTRICT = neqsel, JOIN = neqjoinsel
);
CREATE OPERATOR quorum.< (
	LEFTARG = quorum.hlc, RIGHTARG = quorum.hlc, FUNCTION = quorum.hlc_lt,
	COMMUTATOR = OPERATOR(quorum.>), NEGATOR = OPERATOR(quorum.>=),
	RESTRICT = scalarltsel, JOIN = scalarltjoinsel
);
CREATE OPERATOR quorum.<= (
	LEFTARG = quorum.hlc, RIGHTARG = quorum.hlc, FUNCTION = quorum.hlc_le,
	COMMUTATOR = OPERATOR(quorum.>=), NEGATOR = OPERATOR(quorum.>),
	RESTRICT = scalarlesel, JOIN = scalarlejoinsel
);
CREATE OPERATOR quorum.> (
	LEFTARG = quorum.hlc, RIGHTARG = quorum.hlc, FUNCTION = quorum.hlc_gt,
	COMMUTATOR = OPERATOR(quorum.<), NEGATOR = OPERATOR(quorum.<=),
	RESTRICT = scalargtsel, JOIN = scalargtjoinsel
);
CREATE OPERATOR quorum.>= (
	LEFTARG = quorum.hlc, RIGHTARG = quorum.hlc, FUNCTION = quorum.hlc_ge,
	COMMUTATOR = OPERATOR(quorum.<=), NEGATOR = OPERATOR(quorum.<),
	RESTRICT = scalargesel, JOIN = scalargejoinsel
);

-- arithmetic: days depend on the time zone, as with timestamptz

CREATE FUNCTION quorum.hlc_pl_interval(quorum.hlc, interval) RETURNS quorum.hlc
AS 'MODULE_PATHNAME' LANGUAGE C STABLE STRICT PARALLEL SAFE;
CREATE FUNCTION quorum.interval_pl_hlc(interval, quorum.hlc) RETURNS quorum.hlc
AS 'MODULE_PATHNAME' LANGUAGE C STABLE STRICT PARALLEL SAFE;
CREATE FUNCTION quorum.hlc_mi_interval(quorum.hlc, interval) RETURNS quorum.hlc
AS 'MODULE_PATHNAME' LANGUAGE C STABLE STRICT PARALLEL SAFE;
CREATE FUNCTION quorum.hlc_mi(quorum.hlc, quorum.hlc) RETURNS interval
AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;

CREATE OPERATOR quorum.+ (
	LEFTARG = quorum.hlc, RIGHTARG = interval, FUNCTION = quorum.hlc_pl_interval,
	COMMUTATOR = OPERATOR(quorum.+)
);
CREATE OPERATOR quorum.+ (
	LEFTARG = interval, RIGHTARG = quorum.hlc, FUNCTION = quorum.interval_pl_hlc,
	COMMUTATOR = OPERATOR(quorum.+)
);
CREATE OPERATOR quorum.- (
	LEFTARG = quorum.hlc, RIGHTARG = interval, FUNCTION = quorum.hlc_mi_interval
);
CREATE OPERATOR quorum.- (
	LEFTARG = quorum.hlc, RIGHTARG = quorum.hlc, FUNCTION = quorum.hlc_mi
);

-- operator classes

CREATE FUNCTION quorum.hlc_cmp(quorum.hlc, quorum.hlc) RETURNS integer
AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT LEAKPROOF PARALLEL SAFE;
CREATE FUNCTION quorum.hlc_sortsupport(internal) RETURNS void
AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
CREATE FUNCTION quorum.hlc_in_range_interval(quorum.hlc, quorum.hlc, interval, boolean, boolean)
RETURNS boolean
AS 'MODULE_PATHNAME' LANGUAGE C STABLE STRICT PARALLEL SAFE;
CREATE FUNCTION quorum.hlc_hash(quorum.hlc) RETURNS integer
AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
CREATE FUNCTION quorum.hlc_hash_extended(quorum.hlc, bigint) RETURNS bigint
AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;

CREATE OPERATOR CLASS quorum.hlc_ops DEFAULT FOR TYPE quorum.hlc USING btree AS
	OPERATOR 1 quorum.<, OPERATOR 2 quorum.<=, OPERATOR 3 quorum.=,
	OPERATOR 4 quorum.>=, OPERATOR 5 quorum.>,
	FUNCTION 1 quorum.hlc_cmp(quorum.hlc, quorum.hlc),
	FUNCTION 2 quorum.hlc_sortsupport(internal),
	FUNCTION 3 (quorum.hlc, interval)
		quorum.hlc_in_range_interval(quorum.hlc, quorum.hlc, interval, boolean, boolean),
	FUNCTION 4 btequalimage(oid);

CREATE OPERATOR CLASS quorum.hlc_ops DEFAULT FOR TYPE quorum.hlc USING hash AS
	OPERATOR 1 quorum.=,
	FUNCTION 1 quorum.hlc_hash(quorum.hlc),
	FUNCTION 2 quorum.hlc_hash_extended(quorum.hlc, bigint);

CREATE OPERATOR CLASS quorum.hlc_minmax_ops DEFAULT FOR TYPE quorum.hlc USING brin AS
	OPERATOR 1 quorum.<, OPERATOR 2 quorum.<=, OPERATOR 3 quorum.=,
	OPERATOR 4 quorum.>=, OPERATOR 5 quorum.>,
	FUNCTION 1 brin_minmax_opcinfo(internal),
	FUNCTION 2 brin_minmax_add_value(internal, internal, internal, internal),
	FUNCTION 3 brin_minmax_consistent(internal, internal, internal),
	FUNCTION 4 brin_minmax_union(internal, internal, internal);

-- aggregates

CREATE FUNCTION quorum.hlc_larger(quorum.hlc, quorum.hlc) RETURNS quorum.hlc
AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
CREATE FUNCTION quorum.hlc_smaller(quorum.hlc, quorum.hlc) RETURNS quorum.hlc
AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;

CREATE AGGREGATE quorum.max(quorum.hlc) (
	SFUNC = quorum.hlc_larger, STYPE = quorum.hlc, COMBINEFUNC = quorum.hlc_larger,
	SORTOP = OPERATOR(quorum.>), PARALLEL = SAFE
);
CREATE AGGREGATE quorum.min(quorum.hlc) (
	SFUNC = quorum.hlc_smaller, STYPE = quorum.hlc, COMBINEFUNC = quorum.hlc_smaller,
	SORTOP = OPERATOR(quorum.<), PARALLEL = SAFE
);

-- range

CREATE FUNCTION quorum.hlc_subdiff(quorum.hlc, quorum.hlc) RETURNS double precision
AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;

CREATE TYPE quorum.hlcrange AS RANGE (
	SUBTYPE = quorum.hlc, SUBTYPE_DIFF = quorum.hlc_subdiff,
	MULTIRANGE_TYPE_NAME = quorum.hlcmultirange
);

-- parts and casts

CREATE FUNCTION quorum.hlc_physical(quorum.hlc) RETURNS timestamptz
AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
CREATE FUNCTION quorum.hlc_logical(quorum.hlc) RETURNS bigint
AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
CREATE FUNCTION quorum.hlc_node(quorum.hlc) RETURNS bigint
AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
CREATE FUNCTION quorum.hlc_make(physical timestamptz, logical bigint DEFAULT 0, node bigint DEFAULT 0)
RETURNS quorum.hlc
AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
CREATE FUNCTION quorum.hlc_from_timestamptz(timestamptz) RETURNS quorum.hlc
AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;

CREATE CAST (quorum.hlc AS timestamptz) WITH FUNCTION quorum.hlc_physical(quorum.hlc);
CREATE CAST (timestamptz AS quorum.hlc) WITH FUNCTION quorum.hlc_from_timestamptz(timestamptz);

--
-- The server's clock
--

CREATE FUNCTION quorum.hlc_now() RETURNS quorum.hlc
AS 'MODULE_PATHNAME', 'quorum_hlc_now' LANGUAGE C VOLATILE STRICT PARALLEL SAFE;
CREATE FUNCTION quorum.hlc_observe(quorum.hlc) RETURNS quorum.hlc
AS 'MODULE_PATHNAME', 'quorum_hlc_observe' LANGUAGE C VOLATILE STRICT PARALLEL SAFE;
CREATE FUNCTION quorum.transaction_hlc() RETURNS quorum.hlc
AS 'MODULE_PATHNAME', 'quorum_transaction_hlc' LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED;

COMMENT ON FUNCTION quorum.hlc_now() IS
	'next stamp of this server: unique, after everything it has seen';
COMMENT ON FUNCTION quorum.hlc_observe(quorum.hlc) IS
	'move the clock past a stamp from elsewhere, and return the next one';
COMMENT ON FUNCTION quorum.transaction_hlc() IS
	'stamp of this session''s last replicated commit';

-- anyone may read the clock, not anyone may move it
REVOKE ALL ON FUNCTION quorum.hlc_observe(quorum.hlc) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION quorum.hlc_observe(quorum.hlc) TO quorum_admin;

--
-- Ids
--

CREATE FUNCTION quorum.next_id() RETURNS bigint
AS 'MODULE_PATHNAME', 'quorum_next_id' LANGUAGE C VOLATILE STRICT PARALLEL SAFE;
CREATE FUNCTION quorum.id_timestamp(id bigint) RETURNS timestamptz
AS 'MODULE_PATHNAME', 'quorum_id_timestamp' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
CREATE FUNCTION quorum.id_node(id bigint) RETURNS integer
AS 'MODULE_PATHNAME', 'quorum_id_node' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
CREATE FUNCTION quorum.id_counter(id bigint) RETURNS integer
AS 'MODULE_PATHNAME', 'quorum_id_counter' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
CREATE FUNCTION quorum.id_from_timestamp(at timestamptz) RETURNS bigint
AS 'MODULE_PATHNAME', 'quorum_id_from_timestamp' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;

COMMENT ON FUNCTION quorum.next_id() IS
	'id in the order of time, unique in the cluster';
COMMENT ON FUNCTION quorum.id_from_timestamp(timestamptz) IS
	'smallest id made at that time or later';

--
-- What is known of the clocks
--

CREATE FUNCTION quorum._clock_state(
	OUT node_id bigint, OUT clock quorum.hlc, OUT upper_bound timestamptz,
	OUT jumps_forward bigint, OUT jumps_backward bigint,
	OUT last_jump interval, OUT last_jump_at timestamptz,
	OUT refusals bigint, OUT fenced boolean, OUT detail text)
AS 'MODULE_PATHNAME', 'quorum_clock_state' LANGUAGE C VOLATILE STRICT PARALLEL SAFE;

CREATE FUNCTION quorum._clock_peers(
	OUT node_id bigint, OUT clock_offset interval, OUT offset_error interval,
	OUT last_contact timestamptz, OUT refusals bigint)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'quorum_clock_peers' LANGUAGE C VOLATILE STRICT PARALLEL SAFE;

-- The row of this server, then one for each other member. What only the server
-- itself can know is NULL for the others.
CREATE VIEW quorum.clock_status AS
	SELECT coalesce(m.node_name, pg_catalog.current_setting('quorum.node_name', true)) AS node_name,
		c.node_id, true AS is_local,
		NULL::interval AS clock_offset, NULL::interval AS offset_error,
		NULL::timestamptz AS last_contact, c.refusals,
		c.clock, c.upper_bound, c.jumps_forward, c.jumps_backward,
		c.last_jump, c.last_jump_at, c.fenced, c.detail
	FROM quorum._clock_state() c
	LEFT JOIN quorum.members m ON m.node_id = c.node_id
	UNION ALL
	SELECT m.node_name, p.node_id, false,
		p.clock_offset, p.offset_error, p.last_contact, p.refusals,
		NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL
	FROM quorum._clock_peers() p
	LEFT JOIN quorum.members m ON m.node_id = p.node_id;

COMMENT ON VIEW quorum.clock_status IS
	'clock of this server, and how far the clocks of the other members are from it';
GRANT SELECT ON quorum.clock_status TO PUBLIC;

--
-- lamport: a bigint that is not negative, by int8's own functions
--

CREATE TYPE quorum.lamport;

CREATE FUNCTION quorum.lamport_in(cstring) RETURNS quorum.lamport
AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
CREATE FUNCTION quorum.lamport_out(quorum.lamport) RETURNS cstring
AS 'int8out' LANGUAGE internal IMMUTABLE STRICT PARALLEL SAFE;
CREATE FUNCTION quorum.lamport_recv(internal) RETURNS quorum.lamport
AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
CREATE FUNCTION quorum.lamport_send(quorum.lamport) RETURNS bytea
AS 'int8send' LANGUAGE internal IMMUTABLE STRICT PARALLEL SAFE;

CREATE TYPE quorum.lamport (
	INPUT = quorum.lamport_in, OUTPUT = quorum.lamport_out,
	RECEIVE = quorum.lamport_recv, SEND = quorum.lamport_send,
	LIKE = pg_catalog.int8
);
COMMENT ON TYPE quorum.lamport IS 'Lamport time';

CREATE FUNCTION quorum.lamport_eq(quorum.lamport, quorum.lamport) RETURNS boolean
AS 'int8eq' LANGUAGE internal IMMUTABLE STRICT LEAKPROOF PARALLEL SAFE;
CREATE FUNCTION quorum.lamport_ne(quorum.lamport, quorum.lamport) RETURNS boolean
AS 'int8ne' LANGUAGE internal IMMUTABLE STRICT LEAKPROOF PARALLEL SAFE;
CREATE FUNCTION quorum.lamport_lt(quorum.lamport, quorum.lamport) RETURNS boolean
AS 'int8lt' LANGUAGE internal IMMUTABLE STRICT LEAKPROOF PARALLEL SAFE;
CREATE FUNCTION quorum.lamport_le(quorum.lamport, quorum.lamport) RETURNS boolean
AS 'int8le' LANGUAGE internal IMMUTABLE STRICT LEAKPROOF PARALLEL SAFE;
CREATE FUNCTION quorum.lamport_gt(quorum.lamport, quorum.lamport) RETURNS boolean
AS 'int8gt' LANGUAGE internal IMMUTABLE STRICT LEAKPROOF PARALLEL SAFE;
CREATE FUNCTION quorum.lamport_ge(quorum.lamport, quorum.lamport) RETURNS boolean
AS 'int8ge' LANGUAGE internal IMMUTABLE STRICT LEAKPROOF PARALLEL SAFE;

CREATE OPERATOR quorum.= (
	LEFTARG = quorum.lamport, RIGHTARG = quorum.lamport, FUNCTION = quorum.lamport_eq,
	COMMUTATOR = OPERATOR(quorum.=), NEGATOR = OPERATOR(quorum.<>),
	RESTRICT = eqsel, JOIN = eqjoinsel, HASHES, MERGES
);
CREATE OPERATOR quorum.<> (
	LEFTARG = quorum.lamport, RIGHTARG = quorum.lamport, FUNCTION = quorum.lamport_ne,
	COMMUTATOR = OPERATOR(quorum.<>), NEGATOR = OPERATOR(quorum.=),
	RESTRICT = neqsel, JOIN = neqjoinsel
);
CREATE OPERATOR quorum.< (
	LEFTARG = quorum.lamport, RIGHTARG = quorum.lamport, FUNCTION = quorum.lamport_lt,
	COMMUTATOR = OPERATOR(quorum.>), NEGATOR = OPERATOR(quorum.>=),
	RESTRICT = scalarltsel, JOIN = scalarltjoinsel
);
CREATE OPERATOR quorum.<= (
	LEFTARG = quorum.lamport, RIGHTARG = quorum.lamport, FUNCTION = quorum.lamport_le,
	COMMUTATOR = OPERATOR(quorum.>=), NEGATOR = OPERATOR(quorum.>),
	RESTRICT = scalarlesel, JOIN = scalarlejoinsel
);
CREATE OPERATOR quorum.> (
	LEFTARG = quorum.lamport, RIGHTARG = quorum.lamport, FUNCTION = quorum.lamport_gt,
	COMMUTATOR = OPERATOR(quorum.<), NEGATOR = OPERATOR(quorum.<=),
	RESTRICT = scalargtsel, JOIN = scalargtjoinsel
);
CREATE OPERATOR quorum.>= (
	LEFTARG = quorum.lamport, RIGHTARG = quorum.lamport, FUNCTION = quorum.lamport_ge,
	COMMUTATOR = OPERATOR(quorum.<=), NEGATOR = OPERATOR(quorum.<),
	RESTRICT = scalargesel, JOIN = scalargejoinsel
);

CREATE FUNCTION quorum.lamport_cmp(quorum.lamport, quorum.lamport) RETURNS integer
AS 'btint8cmp' LANGUAGE internal IMMUTABLE STRICT LEAKPROOF PARALLEL SAFE;
CREATE FUNCTION quorum.lamport_hash(quorum.lamport) RETURNS integer
AS 'hashint8' LANGUAGE internal IMMUTABLE STRICT PARALLEL SAFE;
CREATE FUNCTION quorum.lamport_hash_extended(quorum.lamport, bigint) RETURNS bigint
AS 'hashint8extended' LANGUAGE internal IMMUTABLE STRICT PARALLEL SAFE;

CREATE OPERATOR CLASS quorum.lamport_ops DEFAULT FOR TYPE quorum.lamport USING btree AS
	OPERATOR 1 quorum.<, OPERATOR 2 quorum.<=, OPERATOR 3 quorum.=,
	OPERATOR 4 quorum.>=, OPERATOR 5 quorum.>,
	FUNCTION 1 quorum.lamport_cmp(quorum.lamport, quorum.lamport),
	FUNCTION 2 btint8sortsupport(internal),
	FUNCTION 4 btequalimage(oid);

CREATE OPERATOR CLASS quorum.lamport_ops DEFAULT FOR TYPE quorum.lamport USING hash AS
	OPERATOR 1 quorum.=,
	FUNCTION 1 quorum.lamport_hash(quorum.lamport),
	FUNCTION 2 quorum.lamport_hash_extended(quorum.lamport, bigint);

CREATE OPERATOR CLASS quorum.lamport_minmax_ops DEFAULT FOR TYPE quorum.lamport USING brin AS
	OPERATOR 1 quorum.<, OPERATOR 2 quorum.<=, OPERATOR 3 quorum.=,
	OPERATOR 4 quorum.>=, OPERATOR 5 quorum.>,
	FUNCTION 1 brin_minmax_opcinfo(internal),
	FUNCTION 2 brin_minmax_add_value(internal, internal, internal, internal),
	FUNCTION 3 brin_minmax_consistent(internal, internal, internal),
	FUNCTION 4 brin_minmax_union(internal, internal, internal);

CREATE FUNCTION quorum.lamport_larger(quorum.lamport, quorum.lamport) RETURNS quorum.lamport
AS 'int8larger' LANGUAGE internal IMMUTABLE STRICT PARALLEL SAFE;
CREATE FUNCTION quorum.lamport_smaller(quorum.lamport, quorum.lamport) RETURNS quorum.lamport
AS 'int8smaller' LANGUAGE internal IMMUTABLE STRICT PARALLEL SAFE;

CREATE AGGREGATE quorum.max(quorum.lamport) (
	SFUNC = quorum.lamport_larger, STYPE = quorum.lamport, COMBINEFUNC = quorum.lamport_larger,
	SORTOP = OPERATOR(quorum.>), PARALLEL = SAFE
);
CREATE AGGREGATE quorum.min(quorum.lamport) (
	SFUNC = quorum.lamport_smaller, STYPE = quorum.lamport, COMBINEFUNC = quorum.lamport_smaller,
	SORTOP = OPERATOR(quorum.<), PARALLEL = SAFE
);

CREATE FUNCTION quorum.lamport_from_int8(bigint) RETURNS quorum.lamport
AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
CREATE FUNCTION quorum.lamport_from_int4(integer) RETURNS quorum.lamport
AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;

CREATE CAST (quorum.lamport AS bigint) WITHOUT FUNCTION AS ASSIGNMENT;
CREATE CAST (bigint AS quorum.lamport) WITH FUNCTION quorum.lamport_from_int8(bigint) AS ASSIGNMENT;
CREATE CAST (integer AS quorum.lamport) WITH FUNCTION quorum.lamport_from_int4(integer) AS ASSIGNMENT;

-- Lamport's two rules, on a value ...

CREATE FUNCTION quorum.lamport_tick(own quorum.lamport) RETURNS quorum.lamport
AS 'MODULE_PATHNAME', 'lamport_tick_value' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
CREATE FUNCTION quorum.lamport_observe(own quorum.lamport, seen quorum.lamport) RETURNS quorum.lamport
AS 'MODULE_PATHNAME', 'lamport_observe_value' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;

-- ... and on a counter of this server

CREATE FUNCTION quorum.lamport_tick(name text) RETURNS quorum.lamport
AS 'MODULE_PATHNAME', 'lamport_tick_counter' LANGUAGE C VOLATILE STRICT PARALLEL SAFE;
CREATE FUNCTION quorum.lamport_observe(name text, seen quorum.lamport) RETURNS quorum.lamport
AS 'MODULE_PATHNAME', 'lamport_observe_counter' LANGUAGE C VOLATILE STRICT PARALLEL SAFE;
CREATE FUNCTION quorum.lamport_value(name text) RETURNS quorum.lamport
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE STRICT PARALLEL SAFE;
CREATE FUNCTION quorum.lamport_drop(name text) RETURNS boolean
AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE STRICT PARALLEL SAFE;
CREATE FUNCTION quorum._lamport_list(OUT name text, OUT value quorum.lamport)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'lamport_list' LANGUAGE C VOLATILE STRICT PARALLEL SAFE;

REVOKE ALL ON FUNCTION quorum.lamport_drop(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION quorum.lamport_drop(text) TO quorum_admin;

CREATE VIEW quorum.lamport_counters AS SELECT * FROM quorum._lamport_list();
COMMENT ON VIEW quorum.lamport_counters IS 'named Lamport counters of this server';
GRANT SELECT ON quorum.lamport_counters TO PUBLIC;

--
-- vclock: vector clocks
--

CREATE TYPE quorum.vclock;

CREATE FUNCTION quorum.vclock_in(cstring) RETURNS quorum.vclock
AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
CREATE FUNCTION quorum.vclock_out(quorum.vclock) RETURNS cstring
AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
CREATE FUNCTION quorum.vclock_recv(internal) RETURNS quorum.vclock
AS 'MODULE_PATHNAME' LANGUAGE C STABLE STRICT PARALLEL SAFE;
CREATE FUNCTION quorum.vclock_send(quorum.vclock) RETURNS bytea
AS 'MODULE_PATHNAME' LANGUAGE C STABLE STRICT PARALLEL SAFE;

CREATE TYPE quorum.vclock (
	INPUT = quorum.vclock_in, OUTPUT = quorum.vclock_out,
	RECEIVE = quorum.vclock_recv, SEND = quorum.vclock_send,
	INTERNALLENGTH = VARIABLE, ALIGNMENT = double, STORAGE = extended
);
COMMENT ON TYPE quorum.vclock IS 'vector clock: {node:counter, ...}';

-- happened before, or the same: a partial order

CREATE FUNCTION quorum.vclock_eq(quorum.vclock, quorum.vclock) RETURNS boolean
AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
CREATE FUNCTION quorum.vclock_ne(quorum.vclock, quorum.vclock) RETURNS boolean
AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
CREATE FUNCTION quorum.vclock_contained(quorum.vclock, quorum.vclock) RETURNS boolean
AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
CREATE FUNCTION quorum.vclock_contains(quorum.vclock, quorum.vclock) RETURNS boolean
AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
CREATE FUNCTION quorum.vclock_concurrent(a quorum.vclock, b quorum.vclock) RETURNS boolean
AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
CREATE FUNCTION quorum.vclock_compare(a quorum.vclock, b quorum.vclock) RETURNS text
AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;

CREATE OPERATOR quorum.= (
	LEFTARG = quorum.vclock, RIGHTARG = quorum.vclock, FUNCTION = quorum.vclock_eq,
	COMMUTATOR = OPERATOR(quorum.=), NEGATOR = OPERATOR(quorum.<>),
	RESTRICT = eqsel, JOIN = eqjoinsel, HASHES, MERGES
);
CREATE OPERATOR quorum.<> (
	LEFTARG = quorum.vclock, RIGHTARG = quorum.vclock, FUNCTION = quorum.vclock_ne,
	COMMUTATOR = OPERATOR(quorum.<>), NEGATOR = OPERATOR(quorum.=),
	RESTRICT = neqsel, JOIN = neqjoinsel
);
CREATE OPERATOR quorum.<@ (
	LEFTARG = quorum.vclock, RIGHTARG = quorum.vclock, FUNCTION = quorum.vclock_contained,
	COMMUTATOR = OPERATOR(quorum.@>), RESTRICT = contsel, JOIN = contjoinsel
);
CREATE OPERATOR quorum.@> (
	LEFTARG = quorum.vclock, RIGHTARG = quorum.vclock, FUNCTION = quorum.vclock_contains,
	COMMUTATOR = OPERATOR(quorum.<@), RESTRICT = contsel, JOIN = contjoinsel
);

-- the canonical order, for GROUP BY, DISTINCT and ORDER BY only

CREATE FUNCTION quorum.vclock_canonical_lt(quorum.vclock, quorum.vclock) RETURNS boolean
AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
CREATE FUNCTION quorum.vclock_canonical_le(quorum.vclock, quorum.vclock) RETURNS boolean
AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
CREATE FUNCTION quorum.vclock_canonical_gt(quorum.vclock, quorum.vclock) RETURNS boolean
AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
CREATE FUNCTION quorum.vclock_canonical_ge(quorum.vclock, quorum.vclock) RETURNS boolean
AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
CREATE FUNCTION quorum.vclock_canonical_cmp(quorum.vclock, quorum.vclock) RETURNS integer
AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;

CREATE OPERATOR quorum.*< (
	LEFTARG = quorum.vclock, RIGHTARG = quorum.vclock, FUNCTION = quorum.vclock_canonical_lt,
	COMMUTATOR = OPERATOR(quorum.*>), NEGATOR = OPERATOR(quorum.*>=),
	RESTRICT = scalarltsel, JOIN = scalarltjoinsel
);
CREATE OPERATOR quorum.*<= (
	LEFTARG = quorum.vclock, RIGHTARG = quorum.vclock, FUNCTION = quorum.vclock_canonical_le,
	COMMUTATOR = OPERATOR(quorum.*>=), NEGATOR = OPERATOR(quorum.*>),
	RESTRICT = scalarlesel, JOIN = scalarlejoinsel
);
CREATE OPERATOR quorum.*> (
	LEFTARG = quorum.vclock, RIGHTARG = quorum.vclock, FUNCTION = quorum.vclock_canonical_gt,
	COMMUTATOR = OPERATOR(quorum.*<), NEGATOR = OPERATOR(quorum.*<=),
	RESTRICT = scalargtsel, JOIN = scalargtjoinsel
);
CREATE OPERATOR quorum.*>= (
	LEFTARG = quorum.vclock, RIGHTARG = quorum.vclock, FUNCTION = quorum.vclock_canonical_ge,
	COMMUTATOR = OPERATOR(quorum.*<=), NEGATOR = OPERATOR(quorum.*<),
	RESTRICT = scalargesel, JOIN = scalargejoinsel
);

CREATE FUNCTION quorum.vclock_hash(quorum.vclock) RETURNS integer
AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
CREATE FUNCTION quorum.vclock_hash_extended(quorum.vclock, bigint) RETURNS bigint
AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;

CREATE OPERATOR CLASS quorum.vclock_canonical_ops DEFAULT FOR TYPE quorum.vclock USING btree AS
	OPERATOR 1 quorum.*<, OPERATOR 2 quorum.*<=, OPERATOR 3 quorum.=,
	OPERATOR 4 quorum.*>=, OPERATOR 5 quorum.*>,
	FUNCTION 1 quorum.vclock_canonical_cmp(quorum.vclock, quorum.vclock);

CREATE OPERATOR CLASS quorum.vclock_ops DEFAULT FOR TYPE quorum.vclock USING hash AS
	OPERATOR 1 quorum.=,
	FUNCTION 1 quorum.vclock_hash(quorum.vclock),
	FUNCTION 2 quorum.vclock_hash_extended(quorum.vclock, bigint);

-- functions

CREATE FUNCTION quorum.vclock_tick(clock quorum.vclock, node text) RETURNS quorum.vclock
AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
CREATE FUNCTION quorum.vclock_tick(clock quorum.vclock, node_id bigint) RETURNS quorum.vclock
AS 'MODULE_PATHNAME', 'vclock_tick_id' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
CREATE FUNCTION quorum.vclock_merge(a quorum.vclock, b quorum.vclock) RETURNS quorum.vclock
AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
CREATE FUNCTION quorum.vclock_get(clock quorum.vclock, node text) RETURNS bigint
AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
CREATE FUNCTION quorum.vclock_entries(clock quorum.vclock, OUT node text, OUT counter bigint)
RETURNS SETOF record
AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
CREATE FUNCTION quorum.vclock_prune(clock quorum.vclock, keep text[]) RETURNS quorum.vclock
AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
CREATE FUNCTION quorum.vclock_limit(clock quorum.vclock, max_entries integer) RETURNS quorum.vclock
AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;

CREATE AGGREGATE quorum.vclock_merge(quorum.vclock) (
	SFUNC = quorum.vclock_merge, STYPE = quorum.vclock,
	COMBINEFUNC = quorum.vclock_merge, PARALLEL = SAFE
);

CREATE FUNCTION quorum.vclock_to_jsonb(quorum.vclock) RETURNS jsonb
AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;
CREATE FUNCTION quorum.vclock_from_jsonb(jsonb) RETURNS quorum.vclock
AS 'MODULE_PATHNAME' LANGUAGE C IMMUTABLE STRICT PARALLEL SAFE;

CREATE CAST (quorum.vclock AS jsonb) WITH FUNCTION quorum.vclock_to_jsonb(quorum.vclock);
CREATE CAST (jsonb AS quorum.vclock) WITH FUNCTION quorum.vclock_from_jsonb(jsonb);
