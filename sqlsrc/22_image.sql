-- Images: the state of the replicated tables at one entry of the log

-- Which entry the current snapshot stands at: it shows all up to there and none above.
CREATE FUNCTION quorum._snapshot_index() RETURNS bigint
AS 'MODULE_PATHNAME', 'quorum_snapshot_index' LANGUAGE C STABLE STRICT PARALLEL RESTRICTED;
REVOKE ALL ON FUNCTION quorum._snapshot_index() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION quorum._snapshot_index() TO quorum_admin;
