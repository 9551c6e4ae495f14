-- Replicated tables: which they are, how they are captured, their statistics

-- Number and relation of each table that is or was replicated. The number is
-- the same on all members and never given out again; relid is this member's,
-- NULL once the table was dropped or removed. Changed only by entries of the
-- log.
CREATE TABLE quorum.replicated_table (
	table_id integer PRIMARY KEY,
	relid oid,
	schema_name text NOT NULL,
	table_name text NOT NULL,
	removed_at timestamptz
);
REVOKE ALL ON quorum.replicated_table FROM PUBLIC;
GRANT SELECT ON quorum.replicated_table TO PUBLIC;

CREATE FUNCTION quorum.capture() RETURNS trigger
AS 'MODULE_PATHNAME', 'quorum_capture' LANGUAGE C;

CREATE FUNCTION quorum.capture_truncate() RETURNS trigger
AS 'MODULE_PATHNAME', 'quorum_capture_truncate' LANGUAGE C;

-- What all members must agree on: columns, constraints, unique indexes.
CREATE FUNCTION quorum._table_definition(rel regclass) RETURNS text
LANGUAGE sql STABLE STRICT SET search_path = pg_catalog SET jit = off AS $$
	SELECT string_agg(part, ', ' ORDER BY kind, rank, part COLLATE "C") FROM (
		SELECT 1 AS kind, attnum::int AS rank,
			quote_ident(attname) || ' ' || format_type(atttypid, atttypmod)
			|| CASE WHEN attcollation <> typcollation THEN ' collate ' || attcollation::regcollation ELSE '' END
			|| CASE WHEN attnotnull THEN ' not null' ELSE '' END
			|| CASE attgenerated WHEN 's' THEN ' stored' WHEN 'v' THEN ' virtual' ELSE '' END AS part
		FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
		WHERE attrelid = rel AND attnum > 0 AND NOT attisdropped
		UNION ALL
		SELECT 2, 0, pg_get_constraintdef(oid) FROM pg_constraint
		WHERE conrelid = rel AND contype IN ('p', 'u', 'x', 'f', 'c')
		UNION ALL
		SELECT 3, 0, regexp_replace(pg_get_indexdef(indexrelid), '^CREATE UNIQUE INDEX .* ON (ONLY )?.* USING ', 'unique index ')
		FROM pg_index i
		WHERE indrelid = rel AND indisunique AND NOT EXISTS
			(SELECT FROM pg_constraint c WHERE c.conindid = i.indexrelid AND c.contype IN ('p', 'u', 'x'))
		UNION ALL
		SELECT 4, 0, 'partition by ' || pg_get_partkeydef(rel) WHERE pg_get_partkeydef(rel) IS NOT NULL
		UNION ALL
		SELECT 5, 0, 'partition ' || quote_ident(c.relname) || ' ' || pg_get_expr(c.relpartbound, c.oid)
		FROM pg_partition_tree(rel) p JOIN pg_class c ON c.oid = p.relid WHERE p.level > 0
	) parts
$$;

CREATE FUNCTION quorum.add_table(rel regclass) RETURNS void
AS 'MODULE_PATHNAME', 'quorum_add_table' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;

CREATE FUNCTION quorum.remove_table(rel regclass) RETURNS void
AS 'MODULE_PATHNAME', 'quorum_remove_table' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;

-- parts of the log, refused outside the apply worker
CREATE FUNCTION quorum._add_table(table_id integer, schema_name text, table_name text, definition text) RETURNS void
AS 'MODULE_PATHNAME', 'quorum_do_add_table' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;

CREATE FUNCTION quorum._add_table_copied(table_id integer, schema_name text, table_name text, definition text,
	copy_id text, chunks integer) RETURNS void
AS 'MODULE_PATHNAME', 'quorum_do_add_table_copied' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;

CREATE FUNCTION quorum._remove_table(table_id integer) RETURNS void
AS 'MODULE_PATHNAME', 'quorum_do_remove_table' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;

CREATE FUNCTION quorum.execute_ddl(sql text) RETURNS void
AS 'MODULE_PATHNAME', 'quorum_execute_ddl' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;

CREATE FUNCTION quorum.transaction_token() RETURNS text
AS 'MODULE_PATHNAME', 'quorum_transaction_token' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;

CREATE VIEW quorum.tables AS
SELECT r.table_id, n.nspname AS schema_name, c.relname AS table_name, c.oid::regclass AS rel,
	pg_get_userbyid(c.relowner) AS owner, c.relkind = 'p' AS is_partitioned
FROM quorum.replicated_table r
JOIN pg_class c ON c.oid = r.relid
JOIN pg_namespace n ON n.oid = c.relnamespace;
GRANT SELECT ON quorum.tables TO PUBLIC;

-- Rows of one table as one value: equal on two members exactly when the rows are.
CREATE FUNCTION quorum.table_digest(rel regclass) RETURNS text
AS 'MODULE_PATHNAME', 'quorum_table_digest' LANGUAGE C STABLE STRICT PARALLEL UNSAFE;

CREATE FUNCTION quorum._stat_replication(
	OUT commits bigint, OUT proposed_bytes bigint, OUT refused bigint,
	OUT refused_too_old bigint, OUT unknown bigint, OUT unavailable bigint,
	OUT withdrawn bigint, OUT aborted_for_apply bigint, OUT verdict_wait_us bigint,
	OUT turn_waits bigint, OUT turn_wait_us bigint, OUT defects bigint,
	OUT applied_entries bigint, OUT applied_rows bigint, OUT applied_bytes bigint,
	OUT applied_statements bigint, OUT apply_busy_us bigint, OUT apply_commits bigint,
	OUT sessions_doomed bigint, OUT longest_turn_us bigint, OUT since timestamptz)
AS 'MODULE_PATHNAME', 'quorum_stat_replication' LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED;

CREATE VIEW quorum.stat_replication AS
SELECT commits,
	refused AS conflicts,
	refused_too_old AS conflicts_too_old,
	aborted_for_apply,
	sessions_doomed,
	unknown AS outcome_unknown,
	unavailable,
	withdrawn,
	defects,
	proposed_bytes,
	verdict_wait_us::float8 / 1000 AS verdict_wait_ms,
	turn_waits,
	turn_wait_us::float8 / 1000 AS turn_wait_ms,
	applied_entries,
	applied_rows,
	applied_statements,
	applied_bytes,
	apply_commits,
	apply_busy_us::float8 / 1000 AS apply_busy_ms,
	CASE WHEN apply_busy_us > 0 THEN round(applied_entries * 1e6 / apply_busy_us, 1) END AS apply_entries_per_busy_second,
	longest_turn_us::float8 / 1000 AS raft_longest_turn_ms,
	since
FROM quorum._stat_replication();
GRANT SELECT ON quorum.stat_replication TO PUBLIC;
