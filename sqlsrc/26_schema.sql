-- Schemas whose tables are all replicated

-- Changed only by entries of the log.
CREATE TABLE quorum.replicated_schema (
	schema_name text PRIMARY KEY
);
REVOKE ALL ON quorum.replicated_schema FROM PUBLIC;
GRANT SELECT ON quorum.replicated_schema TO PUBLIC;

CREATE FUNCTION quorum.add_schema(name name) RETURNS void
AS 'MODULE_PATHNAME', 'quorum_add_schema' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;

CREATE FUNCTION quorum.remove_schema(name name) RETURNS void
AS 'MODULE_PATHNAME', 'quorum_remove_schema' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;

-- parts of the log, refused outside the apply worker
CREATE FUNCTION quorum._add_schema(name name) RETURNS void
AS 'MODULE_PATHNAME', 'quorum_do_add_schema' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;

CREATE FUNCTION quorum._remove_schema(name name) RETURNS void
AS 'MODULE_PATHNAME', 'quorum_do_remove_schema' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
