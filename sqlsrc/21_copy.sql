-- Rows of large tables that are being added (src/replication/tablecopy.h).
-- Changed only by entries of the log.
CREATE TABLE quorum.table_copy (
	copy_id text PRIMARY KEY,
	node_id bigint NOT NULL,	-- where quorum.add_table was called
	schema_name text NOT NULL,
	table_name text NOT NULL,
	bytes_total bigint NOT NULL,
	started_at timestamptz NOT NULL,
	phase text NOT NULL DEFAULT 'copying'	-- then 'added', 'ended'
);
REVOKE ALL ON quorum.table_copy FROM PUBLIC;

CREATE TABLE quorum.table_copy_chunk (
	copy_id text,
	chunk integer,
	row_count integer NOT NULL,
	byte_count integer NOT NULL,
	data bytea NOT NULL,
	PRIMARY KEY (copy_id, chunk)
);
ALTER TABLE quorum.table_copy_chunk ALTER data SET STORAGE EXTERNAL;
REVOKE ALL ON quorum.table_copy_chunk FROM PUBLIC;

CREATE FUNCTION quorum._copy_begin(copy_id text, node_id bigint, schema_name text, table_name text,
	bytes_total bigint, started_at timestamptz) RETURNS void
AS 'MODULE_PATHNAME', 'quorum_do_copy_begin' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;

CREATE FUNCTION quorum._copy_forget(copy_id text) RETURNS void
AS 'MODULE_PATHNAME', 'quorum_do_copy_forget' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;

-- Copies that are under way, and those whose rows are being removed again.
CREATE VIEW quorum.add_table_progress AS
SELECT c.schema_name, c.table_name,
	coalesce((SELECT m.node_name FROM quorum._members() m WHERE m.node_id = c.node_id), c.node_id::text) AS node_name,
	c.phase, k.rows, k.bytes, c.bytes_total, c.started_at
FROM quorum.table_copy c CROSS JOIN LATERAL (
	SELECT coalesce(sum(row_count), 0)::bigint AS rows, coalesce(sum(byte_count), 0)::bigint AS bytes
	FROM quorum.table_copy_chunk WHERE copy_id = c.copy_id
) k;
GRANT SELECT ON quorum.add_table_progress TO PUBLIC;
