-- Idempotency keys, outcomes

-- One row for each key that a committed transaction had (quorum.idempotency_key);
-- a replicated table of the extension's own, kept for quorum.outcome_retention.
CREATE TABLE quorum.idempotency (
	key text COLLATE "C" PRIMARY KEY,
	token text NOT NULL,
	committed_at timestamptz NOT NULL
);
CREATE INDEX idempotency_committed_at ON quorum.idempotency (committed_at);
CREATE TRIGGER "!pg_quorum_capture" AFTER INSERT OR UPDATE OR DELETE ON quorum.idempotency
FOR EACH ROW EXECUTE FUNCTION quorum.capture('4000000001');
CREATE TRIGGER "!pg_quorum_truncate" AFTER TRUNCATE ON quorum.idempotency
FOR EACH STATEMENT EXECUTE FUNCTION quorum.capture_truncate();
ALTER TABLE quorum.idempotency ENABLE ALWAYS TRIGGER "!pg_quorum_capture",
	ENABLE ALWAYS TRIGGER "!pg_quorum_truncate";
-- keys may stand for money: only who may see everything sees them
REVOKE ALL ON quorum.idempotency FROM PUBLIC;

-- Is this transaction, or was this session's last one, a repetition?
CREATE FUNCTION quorum.transaction_was_duplicate() RETURNS boolean
AS 'MODULE_PATHNAME', 'quorum_transaction_was_duplicate' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;

-- The archive of outcomes goes to a member that gets an image
CREATE FUNCTION quorum._outcome_files() RETURNS text[]
AS 'MODULE_PATHNAME', 'quorum_outcome_files' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
REVOKE ALL ON FUNCTION quorum._outcome_files() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION quorum._outcome_files() TO quorum_admin;
CREATE FUNCTION quorum._outcome_file(name text) RETURNS bytea
AS 'MODULE_PATHNAME', 'quorum_outcome_file' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
REVOKE ALL ON FUNCTION quorum._outcome_file(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION quorum._outcome_file(text) TO quorum_admin;
