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
-- what calls of setval() become: the same, and in the log where the sequence
-- belongs to a replicated table
CREATE FUNCTION quorum.setval(sequence regclass, value bigint) RETURNS bigint
AS 'MODULE_PATHNAME', 'quorum_setval' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;

CREATE FUNCTION quorum.setval(sequence regclass, value bigint, is_called boolean) RETURNS bigint
AS 'MODULE_PATHNAME', 'quorum_setval' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;

CREATE FUNCTION quorum._setval(sequence text, value bigint, is_called boolean) RETURNS void
AS 'MODULE_PATHNAME', 'quorum_do_setval' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;

-- How far each slot's values of a sequence have gone, at the most: on all members
-- the same. Changed only by entries of the log.
CREATE TABLE quorum.sequence_claim (
	relid oid,
	slot integer NOT NULL,
	member bigint NOT NULL,
	claimed bigint NOT NULL,
	UNIQUE (relid, slot)
);
REVOKE ALL ON quorum.sequence_claim FROM PUBLIC;
GRANT SELECT ON quorum.sequence_claim TO PUBLIC;

-- what calls of nextval() in queries become: the same, and the value is claimed
-- for this member's slot before anybody sees it
CREATE FUNCTION quorum.nextval(sequence regclass) RETURNS bigint
AS 'MODULE_PATHNAME', 'quorum_nextval' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;

CREATE FUNCTION quorum._claim_sequence(sequence text, slot integer, member bigint, value bigint) RETURNS void
AS 'MODULE_PATHNAME', 'quorum_do_claim_sequence' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;

CREATE FUNCTION quorum._add_schema(name name) RETURNS void
AS 'MODULE_PATHNAME', 'quorum_do_add_schema' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;

CREATE FUNCTION quorum._remove_schema(name name) RETURNS void
AS 'MODULE_PATHNAME', 'quorum_do_remove_schema' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;

-- Indexes that this server has still to create or drop CONCURRENTLY. Each
-- server's own work, and in the image that it gives to others, who then have it to do
-- as well; rows come by entries of the log and go when the job is done.
CREATE TABLE quorum.index_job (
	job_id bigint PRIMARY KEY,
	schema_name text NOT NULL,
	index_name text NOT NULL,
	statement text NOT NULL,
	attempts integer NOT NULL DEFAULT 0,
	last_error text
);
REVOKE ALL ON quorum.index_job FROM PUBLIC;
GRANT SELECT ON quorum.index_job TO PUBLIC;

-- part of the log, refused outside the apply worker
CREATE FUNCTION quorum._index_job(origin bigint, schema_name text, index_name text, statement text) RETURNS void
AS 'MODULE_PATHNAME', 'quorum_do_index_job' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
