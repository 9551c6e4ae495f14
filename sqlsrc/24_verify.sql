-- Sameness: all members compared at one index, differences marked and repaired

-- What members answered to the last inquiries (src/replication/inquiry.c).
-- Changed only by entries of the log.
CREATE TABLE quorum.inquiry_answer (
	request text,
	node_id bigint,
	log_index bigint NOT NULL,
	state text NOT NULL,
	answer text[] NOT NULL,
	PRIMARY KEY (request, node_id)
);
CREATE INDEX ON quorum.inquiry_answer (log_index);
REVOKE ALL ON quorum.inquiry_answer FROM PUBLIC;

-- Tables of members that quorum.verify found to differ from the majority's.
-- Changed only by entries of the log.
CREATE TABLE quorum.difference (
	table_id integer,
	node_id bigint,
	node_name text NOT NULL,
	log_index bigint NOT NULL,
	key_ranges text[] NOT NULL,
	PRIMARY KEY (table_id, node_id)
);
REVOKE ALL ON quorum.difference FROM PUBLIC;
GRANT SELECT ON quorum.difference TO PUBLIC;

CREATE VIEW quorum.differences AS
SELECT r.relid::regclass AS rel, d.node_name, d.node_id, d.log_index, d.key_ranges
FROM quorum.difference d JOIN quorum.replicated_table r USING (table_id)
WHERE r.relid IS NOT NULL;
GRANT SELECT ON quorum.differences TO PUBLIC;

-- A marked member shows it where administrators look first.
CREATE OR REPLACE VIEW quorum.members AS
SELECT m.*, EXISTS (SELECT FROM quorum.differences d WHERE d.node_id = m.node_id) AS differs
FROM quorum._members() m;

CREATE OR REPLACE VIEW quorum.status AS
SELECT s.cluster_id, s.node_name, s.node_id, s.role, s.leader, s.term, s.commit_index, s.applied_index,
	s.last_index, s.has_quorum,
	coalesce(s.detail, (SELECT 'quorum.verify found rows that differ from the other members'': ' ||
		string_agg(d.rel::text, ', ' ORDER BY d.rel::text) || '; see quorum.differences and quorum.resync_table'
		FROM quorum.differences d WHERE d.node_id = s.node_id)) AS detail
FROM quorum._status() s;

CREATE FUNCTION quorum._inquire(request text, tables integer[], query text) RETURNS void
AS 'MODULE_PATHNAME', 'quorum_do_inquire' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;

CREATE FUNCTION quorum._answer(request text, log_index bigint, node_id bigint, state text, answer text[]) RETURNS void
AS 'MODULE_PATHNAME', 'quorum_do_answer' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;

CREATE FUNCTION quorum._mark(log_index bigint, tables integer[], nodes bigint[],
	different_tables integer[], different_nodes bigint[], different_names text[], ranges text[]) RETURNS void
AS 'MODULE_PATHNAME', 'quorum_do_mark' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;

-- Digests of ranges of the table's key; bounds are keys, as arrays in text form.
CREATE FUNCTION quorum._range_digests(rel regclass, bounds text[]) RETURNS text[]
AS 'MODULE_PATHNAME', 'quorum_range_digests' LANGUAGE C STABLE STRICT PARALLEL UNSAFE;

-- The member's answer for one table: its number, then digests, or a word why not.
CREATE FUNCTION quorum._verify_table(table_id integer, bounds text[]) RETURNS text
AS 'MODULE_PATHNAME', 'quorum_verify_table' LANGUAGE C STABLE STRICT PARALLEL UNSAFE;

CREATE FUNCTION quorum.verify(rel regclass DEFAULT NULL,
	OUT table_name text, OUT node_name text, OUT same boolean, OUT log_index bigint, OUT row_count bigint,
	OUT digest text, OUT key_ranges text[], OUT detail text)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'quorum_verify' LANGUAGE C VOLATILE PARALLEL UNSAFE;

REVOKE ALL ON FUNCTION quorum.verify(regclass) FROM PUBLIC;
REVOKE ALL ON FUNCTION quorum._range_digests(regclass, text[]) FROM PUBLIC;
REVOKE ALL ON FUNCTION quorum._verify_table(integer, text[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION quorum.verify(regclass) TO quorum_admin;

-- What a member's table looks like, before it becomes a replicated one
CREATE FUNCTION quorum._table_state(asker bigint, schema_name text, table_name text) RETURNS text
AS 'MODULE_PATHNAME', 'quorum_table_state' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
REVOKE ALL ON FUNCTION quorum._table_state(bigint, text, text) FROM PUBLIC;

-- Tables of this member that were repaired: behind which entry, how it went, and
-- up to which entry their rows are ahead of everything else. This server's own.
CREATE TABLE quorum.resync_state (
	table_id integer PRIMARY KEY,
	log_index bigint NOT NULL,
	ahead_until bigint NOT NULL,
	good boolean NOT NULL,
	outcome text NOT NULL
);
REVOKE ALL ON quorum.resync_state FROM PUBLIC;
INSERT INTO quorum._local_table VALUES ('quorum.resync_state');

CREATE FUNCTION quorum._resync(table_id integer, target bigint, source bigint) RETURNS void
AS 'MODULE_PATHNAME', 'quorum_do_resync' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;

CREATE FUNCTION quorum._resync_outcome(table_id integer) RETURNS text
AS 'MODULE_PATHNAME', 'quorum_resync_outcome' LANGUAGE C STABLE STRICT PARALLEL UNSAFE;
REVOKE ALL ON FUNCTION quorum._resync_outcome(integer) FROM PUBLIC;

CREATE FUNCTION quorum.resync_table(rel regclass, "from" text DEFAULT NULL, member text DEFAULT NULL) RETURNS void
AS 'MODULE_PATHNAME', 'quorum_resync_table' LANGUAGE C VOLATILE PARALLEL UNSAFE;
REVOKE ALL ON FUNCTION quorum.resync_table(regclass, text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION quorum.resync_table(regclass, text, text) TO quorum_admin;
