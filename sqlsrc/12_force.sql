-- The majority is lost for good: this member alone goes on. Superusers only.
CREATE FUNCTION quorum.force_new_cluster() RETURNS uuid
AS 'MODULE_PATHNAME', 'quorum_force_new_cluster' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
REVOKE ALL ON FUNCTION quorum.force_new_cluster() FROM PUBLIC;
