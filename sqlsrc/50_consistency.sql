-- Read levels and causal tokens

-- The key that authenticates causal tokens, the same on all members. Changed
-- only by an entry of the log.
CREATE TABLE quorum.token_key (
	id integer PRIMARY KEY CHECK (id = 1),
	key bytea NOT NULL
);
REVOKE ALL ON quorum.token_key FROM PUBLIC;

-- part of the log, refused outside the apply worker
CREATE FUNCTION quorum._set_token_key(key text) RETURNS void
AS 'MODULE_PATHNAME', 'quorum_set_token_key' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
REVOKE ALL ON FUNCTION quorum._set_token_key(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION quorum._set_token_key(text) TO quorum_admin;

CREATE FUNCTION quorum.current_token() RETURNS text
AS 'MODULE_PATHNAME', 'quorum_current_token' LANGUAGE C VOLATILE PARALLEL UNSAFE;

CREATE FUNCTION quorum.wait_for(token text, timeout interval DEFAULT NULL) RETURNS boolean
AS 'MODULE_PATHNAME', 'quorum_wait_for' LANGUAGE C VOLATILE PARALLEL UNSAFE;

CREATE FUNCTION quorum.read_info()
RETURNS TABLE (level text, served_index bigint, known_commit_index bigint,
	staleness interval, waited interval, node_name text)
AS 'MODULE_PATHNAME', 'quorum_read_info' LANGUAGE C VOLATILE PARALLEL UNSAFE ROWS 1;
