-- The cluster: founding, joining, leaving, and what its state is

CREATE FUNCTION quorum.create_cluster() RETURNS uuid
AS 'MODULE_PATHNAME', 'quorum_create_cluster' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;

CREATE FUNCTION quorum.remove_member(name text) RETURNS void
AS 'MODULE_PATHNAME', 'quorum_remove_member' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;

CREATE FUNCTION quorum.leave_cluster() RETURNS void
AS 'MODULE_PATHNAME', 'quorum_leave_cluster' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;

CREATE FUNCTION quorum.transfer_leadership(name text DEFAULT NULL) RETURNS void
AS 'MODULE_PATHNAME', 'quorum_transfer_leadership' LANGUAGE C VOLATILE PARALLEL UNSAFE;

REVOKE ALL ON FUNCTION quorum.create_cluster() FROM PUBLIC;
REVOKE ALL ON FUNCTION quorum.remove_member(text) FROM PUBLIC;
REVOKE ALL ON FUNCTION quorum.leave_cluster() FROM PUBLIC;
REVOKE ALL ON FUNCTION quorum.transfer_leadership(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION quorum.create_cluster() TO quorum_admin;
GRANT EXECUTE ON FUNCTION quorum.remove_member(text) TO quorum_admin;
GRANT EXECUTE ON FUNCTION quorum.leave_cluster() TO quorum_admin;
GRANT EXECUTE ON FUNCTION quorum.transfer_leadership(text) TO quorum_admin;

CREATE FUNCTION quorum.outcome(token text) RETURNS text
AS 'MODULE_PATHNAME', 'quorum_outcome' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;

CREATE FUNCTION quorum._status(
	OUT cluster_id uuid, OUT node_name text, OUT node_id bigint, OUT role text,
	OUT leader text, OUT term bigint, OUT commit_index bigint, OUT applied_index bigint,
	OUT last_index bigint, OUT has_quorum boolean, OUT detail text)
AS 'MODULE_PATHNAME', 'quorum_status' LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED;

CREATE VIEW quorum.status AS SELECT * FROM quorum._status();

CREATE FUNCTION quorum._members(
	OUT node_name text, OUT node_id bigint, OUT address text, OUT role text,
	OUT is_voter boolean, OUT reachable boolean, OUT last_contact timestamptz,
	OUT match_index bigint, OUT lag_entries bigint, OUT lag_applied bigint,
	OUT applied_index bigint, OUT version text)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'quorum_members' LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED;

CREATE VIEW quorum.members AS SELECT * FROM quorum._members();

GRANT SELECT ON quorum.status, quorum.members TO PUBLIC;
