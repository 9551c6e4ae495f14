-- The term of an entry, for a server that joins with its tables standing there.
CREATE FUNCTION quorum._image_term(entry bigint) RETURNS bigint
AS 'MODULE_PATHNAME', 'quorum_image_term' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
REVOKE ALL ON FUNCTION quorum._image_term(bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION quorum._image_term(bigint) TO quorum_admin;
