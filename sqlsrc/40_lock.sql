-- Advisory locks, leases, fencing (doc/locks.md)

--
-- State. Changed only by entries of the log, so that it is the same on all
-- members (src/lock/lock_apply.c).
--

-- A row a grant that is held. token: index of the entry. node_id, boot and
-- session name the owner; for a lease's they say who asked. Unsigned numbers
-- of 64 bits are kept as the bigint of the same bits, times in milliseconds.
CREATE TABLE quorum.lock_grant (
	key text COLLATE "C" NOT NULL,
	key_type smallint NOT NULL,
	token bigint NOT NULL,
	mode smallint NOT NULL,
	weight bigint NOT NULL,
	permits bigint NOT NULL,
	node_id bigint NOT NULL,
	boot bigint NOT NULL,
	session bigint NOT NULL,
	pid bigint NOT NULL,
	lease uuid,
	request_node bigint NOT NULL,
	request_boot bigint NOT NULL,
	request_counter bigint NOT NULL,
	max_hold bigint NOT NULL,
	delay bigint NOT NULL,
	lease_time bigint NOT NULL,
	hold_count bigint NOT NULL,
	acquired_at timestamptz NOT NULL,
	PRIMARY KEY (key, key_type, token)
) WITH (fillfactor = 50);

-- Grants that are over, for check_fence: until a later grant conflicts with
-- them, a day at most, and the last ones only.
CREATE TABLE quorum.lock_memory (
	key text COLLATE "C" NOT NULL,
	key_type smallint NOT NULL,
	token bigint NOT NULL,
	mode smallint NOT NULL,
	released bigint NOT NULL,
	released_at timestamptz NOT NULL,
	PRIMARY KEY (key, key_type, token)
);
CREATE INDEX lock_memory_released ON quorum.lock_memory (released);

CREATE TABLE quorum.lock_lease (
	lease uuid PRIMARY KEY,
	index bigint NOT NULL,
	ttl bigint NOT NULL,
	node_id bigint NOT NULL,
	boot bigint NOT NULL,
	pid bigint NOT NULL,
	opened_at timestamptz NOT NULL,
	name text COLLATE "C"
);

-- Locks that were taken away from their holders; the last ones.
CREATE TABLE quorum.lock_loss (
	index bigint NOT NULL,
	n integer NOT NULL,
	key text COLLATE "C" NOT NULL,
	key_type smallint NOT NULL,
	token bigint NOT NULL,
	mode smallint NOT NULL,
	node_id bigint NOT NULL,
	pid bigint NOT NULL,
	lease uuid,
	cause smallint NOT NULL,
	lost_at timestamptz NOT NULL,
	role text COLLATE "C",
	reason text COLLATE "C",
	PRIMARY KEY (index, n)
);

REVOKE ALL ON quorum.lock_grant, quorum.lock_memory, quorum.lock_lease, quorum.lock_loss FROM PUBLIC;

--
-- Locks
--

-- of the session: until unlocked, or the session ends

CREATE FUNCTION quorum.advisory_lock(key text) RETURNS bigint
AS 'MODULE_PATHNAME', 'quorum_advisory_lock_text' LANGUAGE C VOLATILE PARALLEL UNSAFE;
CREATE FUNCTION quorum.try_advisory_lock(key text, wait interval DEFAULT '0') RETURNS bigint
AS 'MODULE_PATHNAME', 'quorum_try_advisory_lock_text' LANGUAGE C VOLATILE PARALLEL UNSAFE;
CREATE FUNCTION quorum.advisory_lock_shared(key text) RETURNS bigint
AS 'MODULE_PATHNAME', 'quorum_advisory_lock_shared_text' LANGUAGE C VOLATILE PARALLEL UNSAFE;
CREATE FUNCTION quorum.try_advisory_lock_shared(key text, wait interval DEFAULT '0') RETURNS bigint
AS 'MODULE_PATHNAME', 'quorum_try_advisory_lock_shared_text' LANGUAGE C VOLATILE PARALLEL UNSAFE;
CREATE FUNCTION quorum.advisory_lock(key bigint) RETURNS bigint
AS 'MODULE_PATHNAME', 'quorum_advisory_lock_int8' LANGUAGE C VOLATILE PARALLEL UNSAFE;
CREATE FUNCTION quorum.try_advisory_lock(key bigint, wait interval DEFAULT '0') RETURNS bigint
AS 'MODULE_PATHNAME', 'quorum_try_advisory_lock_int8' LANGUAGE C VOLATILE PARALLEL UNSAFE;
CREATE FUNCTION quorum.advisory_lock_shared(key bigint) RETURNS bigint
AS 'MODULE_PATHNAME', 'quorum_advisory_lock_shared_int8' LANGUAGE C VOLATILE PARALLEL UNSAFE;
CREATE FUNCTION quorum.try_advisory_lock_shared(key bigint, wait interval DEFAULT '0') RETURNS bigint
AS 'MODULE_PATHNAME', 'quorum_try_advisory_lock_shared_int8' LANGUAGE C VOLATILE PARALLEL UNSAFE;

-- of the transaction: until it ends, or the savepoint before it is rolled back

CREATE FUNCTION quorum.advisory_xact_lock(key text) RETURNS bigint
AS 'MODULE_PATHNAME', 'quorum_advisory_xact_lock_text' LANGUAGE C VOLATILE PARALLEL UNSAFE;
CREATE FUNCTION quorum.try_advisory_xact_lock(key text, wait interval DEFAULT '0') RETURNS bigint
AS 'MODULE_PATHNAME', 'quorum_try_advisory_xact_lock_text' LANGUAGE C VOLATILE PARALLEL UNSAFE;
CREATE FUNCTION quorum.advisory_xact_lock_shared(key text) RETURNS bigint
AS 'MODULE_PATHNAME', 'quorum_advisory_xact_lock_shared_text' LANGUAGE C VOLATILE PARALLEL UNSAFE;
CREATE FUNCTION quorum.try_advisory_xact_lock_shared(key text, wait interval DEFAULT '0') RETURNS bigint
AS 'MODULE_PATHNAME', 'quorum_try_advisory_xact_lock_shared_text' LANGUAGE C VOLATILE PARALLEL UNSAFE;
CREATE FUNCTION quorum.advisory_xact_lock(key bigint) RETURNS bigint
AS 'MODULE_PATHNAME', 'quorum_advisory_xact_lock_int8' LANGUAGE C VOLATILE PARALLEL UNSAFE;
CREATE FUNCTION quorum.try_advisory_xact_lock(key bigint, wait interval DEFAULT '0') RETURNS bigint
AS 'MODULE_PATHNAME', 'quorum_try_advisory_xact_lock_int8' LANGUAGE C VOLATILE PARALLEL UNSAFE;
CREATE FUNCTION quorum.advisory_xact_lock_shared(key bigint) RETURNS bigint
AS 'MODULE_PATHNAME', 'quorum_advisory_xact_lock_shared_int8' LANGUAGE C VOLATILE PARALLEL UNSAFE;
CREATE FUNCTION quorum.try_advisory_xact_lock_shared(key bigint, wait interval DEFAULT '0') RETURNS bigint
AS 'MODULE_PATHNAME', 'quorum_try_advisory_xact_lock_shared_int8' LANGUAGE C VOLATILE PARALLEL UNSAFE;

-- of a lease: until unlocked by token, or the lease ends

CREATE FUNCTION quorum.advisory_lock(key text, lease uuid) RETURNS bigint
AS 'MODULE_PATHNAME', 'quorum_advisory_lock_text' LANGUAGE C VOLATILE PARALLEL UNSAFE;
CREATE FUNCTION quorum.try_advisory_lock(key text, wait interval, lease uuid) RETURNS bigint
AS 'MODULE_PATHNAME', 'quorum_try_advisory_lock_text' LANGUAGE C VOLATILE PARALLEL UNSAFE;
CREATE FUNCTION quorum.advisory_lock_shared(key text, lease uuid) RETURNS bigint
AS 'MODULE_PATHNAME', 'quorum_advisory_lock_shared_text' LANGUAGE C VOLATILE PARALLEL UNSAFE;
CREATE FUNCTION quorum.try_advisory_lock_shared(key text, wait interval, lease uuid) RETURNS bigint
AS 'MODULE_PATHNAME', 'quorum_try_advisory_lock_shared_text' LANGUAGE C VOLATILE PARALLEL UNSAFE;
CREATE FUNCTION quorum.advisory_lock(key bigint, lease uuid) RETURNS bigint
AS 'MODULE_PATHNAME', 'quorum_advisory_lock_int8' LANGUAGE C VOLATILE PARALLEL UNSAFE;
CREATE FUNCTION quorum.try_advisory_lock(key bigint, wait interval, lease uuid) RETURNS bigint
AS 'MODULE_PATHNAME', 'quorum_try_advisory_lock_int8' LANGUAGE C VOLATILE PARALLEL UNSAFE;
CREATE FUNCTION quorum.advisory_lock_shared(key bigint, lease uuid) RETURNS bigint
AS 'MODULE_PATHNAME', 'quorum_advisory_lock_shared_int8' LANGUAGE C VOLATILE PARALLEL UNSAFE;
CREATE FUNCTION quorum.try_advisory_lock_shared(key bigint, wait interval, lease uuid) RETURNS bigint
AS 'MODULE_PATHNAME', 'quorum_try_advisory_lock_shared_int8' LANGUAGE C VOLATILE PARALLEL UNSAFE;

-- several at once: all or none

CREATE FUNCTION quorum.advisory_lock_many(keys text[]) RETURNS bigint[]
AS 'MODULE_PATHNAME', 'quorum_advisory_lock_many' LANGUAGE C VOLATILE PARALLEL UNSAFE;
CREATE FUNCTION quorum.advisory_lock_many(keys text[], lease uuid) RETURNS bigint[]
AS 'MODULE_PATHNAME', 'quorum_advisory_lock_many' LANGUAGE C VOLATILE PARALLEL UNSAFE;

-- releasing

CREATE FUNCTION quorum.advisory_unlock(key text) RETURNS boolean
AS 'MODULE_PATHNAME', 'quorum_advisory_unlock_text' LANGUAGE C VOLATILE PARALLEL UNSAFE;
CREATE FUNCTION quorum.advisory_unlock_shared(key text) RETURNS boolean
AS 'MODULE_PATHNAME', 'quorum_advisory_unlock_shared_text' LANGUAGE C VOLATILE PARALLEL UNSAFE;
CREATE FUNCTION quorum.advisory_unlock_token(key text, token bigint) RETURNS boolean
AS 'MODULE_PATHNAME', 'quorum_advisory_unlock_token_text' LANGUAGE C VOLATILE PARALLEL UNSAFE;
CREATE FUNCTION quorum.advisory_unlock(key bigint) RETURNS boolean
AS 'MODULE_PATHNAME', 'quorum_advisory_unlock_int8' LANGUAGE C VOLATILE PARALLEL UNSAFE;
CREATE FUNCTION quorum.advisory_unlock_shared(key bigint) RETURNS boolean
AS 'MODULE_PATHNAME', 'quorum_advisory_unlock_shared_int8' LANGUAGE C VOLATILE PARALLEL UNSAFE;
CREATE FUNCTION quorum.advisory_unlock_token(key bigint, token bigint) RETURNS boolean
AS 'MODULE_PATHNAME', 'quorum_advisory_unlock_token_int8' LANGUAGE C VOLATILE PARALLEL UNSAFE;
CREATE FUNCTION quorum.advisory_unlock_all() RETURNS void
AS 'MODULE_PATHNAME', 'quorum_advisory_unlock_all' LANGUAGE C VOLATILE PARALLEL UNSAFE;

-- fencing

CREATE FUNCTION quorum.check_fence(key text, token bigint) RETURNS void
AS 'MODULE_PATHNAME', 'quorum_check_fence_text' LANGUAGE C VOLATILE PARALLEL UNSAFE;
CREATE FUNCTION quorum.check_fence(key bigint, token bigint) RETURNS void
AS 'MODULE_PATHNAME', 'quorum_check_fence_int8' LANGUAGE C VOLATILE PARALLEL UNSAFE;

-- administration

CREATE FUNCTION quorum.break_lock(key text, reason text) RETURNS boolean
AS 'MODULE_PATHNAME', 'quorum_break_lock_text' LANGUAGE C VOLATILE PARALLEL UNSAFE;
CREATE FUNCTION quorum.break_lock(key bigint, reason text) RETURNS boolean
AS 'MODULE_PATHNAME', 'quorum_break_lock_int8' LANGUAGE C VOLATILE PARALLEL UNSAFE;

REVOKE ALL ON FUNCTION quorum.break_lock(text, text) FROM PUBLIC;
REVOKE ALL ON FUNCTION quorum.break_lock(bigint, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION quorum.break_lock(text, text) TO quorum_admin;
GRANT EXECUTE ON FUNCTION quorum.break_lock(bigint, text) TO quorum_admin;

--
-- Leases
--

CREATE FUNCTION quorum.lease_open(ttl interval, name text DEFAULT NULL) RETURNS uuid
AS 'MODULE_PATHNAME', 'quorum_lease_open' LANGUAGE C VOLATILE PARALLEL UNSAFE;
CREATE FUNCTION quorum.lease_renew(lease uuid) RETURNS interval
AS 'MODULE_PATHNAME', 'quorum_lease_renew' LANGUAGE C VOLATILE PARALLEL UNSAFE;
CREATE FUNCTION quorum.lease_close(lease uuid) RETURNS boolean
AS 'MODULE_PATHNAME', 'quorum_lease_close' LANGUAGE C VOLATILE PARALLEL UNSAFE;

--
-- What there is
--

CREATE FUNCTION quorum._locks(
	OUT key_type text, OUT key text, OUT mode text, OUT granted boolean, OUT node_id bigint,
	OUT pid integer, OUT lease uuid, OUT token bigint, OUT hold_count bigint,
	OUT acquired_at timestamptz, OUT expires_in interval, OUT queue_position bigint,
	OUT waited interval)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'quorum_locks' LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED;

CREATE VIEW quorum.locks AS
SELECT l.key_type, l.key, l.mode, l.granted, m.node_name, l.pid, l.lease, l.token, l.hold_count,
	l.acquired_at, l.expires_in, l.queue_position, l.waited
FROM quorum._locks() l LEFT JOIN quorum._members() m ON m.node_id = l.node_id;
COMMENT ON VIEW quorum.locks IS 'locks of the cluster that are held, and who waits for them';

CREATE FUNCTION quorum._leases(
	OUT lease uuid, OUT name text, OUT ttl interval, OUT expires_in interval, OUT node_id bigint,
	OUT pid integer, OUT opened_at timestamptz)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'quorum_leases' LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED;

CREATE VIEW quorum.leases AS
SELECT l.lease, l.name, l.ttl, l.expires_in, m.node_name, l.pid, l.opened_at
FROM quorum._leases() l LEFT JOIN quorum._members() m ON m.node_id = l.node_id;
COMMENT ON VIEW quorum.leases IS 'leases that are open, and by whom they were opened';

CREATE FUNCTION quorum._lock_history(
	OUT key_type text, OUT key text, OUT mode text, OUT token bigint, OUT node_id bigint,
	OUT pid integer, OUT lease uuid, OUT cause text, OUT role text, OUT reason text,
	OUT lost_at timestamptz, OUT index bigint)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'quorum_lock_history' LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED;

CREATE VIEW quorum.lock_history AS
SELECT h.key_type, h.key, h.mode, h.token, m.node_name, h.pid, h.lease, h.cause, h.role, h.reason,
	h.lost_at, h.index
FROM quorum._lock_history() h LEFT JOIN quorum._members() m ON m.node_id = h.node_id;
COMMENT ON VIEW quorum.lock_history IS 'locks that were taken away from their holders';

REVOKE ALL ON FUNCTION quorum._leases() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION quorum._leases() TO quorum_admin;
GRANT SELECT ON quorum.locks, quorum.lock_history TO PUBLIC;
GRANT SELECT ON quorum.leases TO quorum_admin;

-- What this session may rely on: how long its locks are certainly its own (NULL:
-- it holds none), and which of them were taken away.
CREATE FUNCTION quorum.lock_safe_time() RETURNS interval
AS 'MODULE_PATHNAME', 'quorum_lock_safe_time' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;

CREATE FUNCTION quorum.lost_locks(OUT key_type text, OUT key text, OUT mode text, OUT token bigint)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'quorum_lost_locks' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;

--
-- Fencing by the rows themselves
--

CREATE FUNCTION quorum.fence_row() RETURNS trigger
AS 'MODULE_PATHNAME', 'quorum_fence_row' LANGUAGE C;

-- The table beside rel that remembers the highest token of each resource.
CREATE FUNCTION quorum._fence_memory(rel regclass) RETURNS regclass
LANGUAGE sql STABLE STRICT SET search_path = pg_catalog, pg_temp AS $$
	SELECT r.relid::regclass FROM pg_trigger t
	JOIN quorum.replicated_table r
		ON r.table_id = split_part(encode(t.tgargs, 'escape'), '\000', 1)::integer
	WHERE t.tgrelid = rel AND t.tgname = 'quorum_fence'
$$;

-- fence_table(rel, key_expression, token_column) - refuse rows with a token that
-- is older than one seen for their resource before. Travels to all members.
CREATE FUNCTION quorum.fence_table(rel regclass, key_expression text, token_column name) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $fence$
DECLARE
	rel_schema name;
	rel_name name;
	memory_name text;
	memory_id integer;
	column_type regtype;
BEGIN
	IF rel IS NULL OR key_expression IS NULL OR token_column IS NULL THEN
		RAISE null_value_not_allowed USING MESSAGE = 'arguments of quorum.fence_table must not be null';
	END IF;
	SELECT n.nspname, c.relname INTO rel_schema, rel_name
	FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = rel;
	IF NOT EXISTS (SELECT FROM quorum.replicated_table WHERE relid = rel) THEN
		RAISE feature_not_supported USING
			MESSAGE = format('table "%s" is not a replicated table', rel_name),
			HINT = 'Use quorum.add_table first: a fence has to hold on all servers.';
	END IF;
	IF EXISTS (SELECT FROM pg_trigger WHERE tgrelid = rel AND tgname = 'quorum_fence') THEN
		RAISE duplicate_object USING MESSAGE = format('table "%s" has a fence already', rel_name),
			HINT = 'Use quorum.unfence_table first.';
	END IF;
	SELECT atttypid INTO column_type FROM pg_attribute
	WHERE attrelid = rel AND attname = token_column AND attnum > 0 AND NOT attisdropped;
	IF column_type IS NULL THEN
		RAISE undefined_column USING
			MESSAGE = format('column "%s" of table "%s" does not exist', token_column, rel_name);
	END IF;
	IF column_type NOT IN ('bigint'::regtype, 'integer'::regtype) THEN
		RAISE datatype_mismatch USING
			MESSAGE = format('column "%s" of table "%s" is not of type bigint', token_column, rel_name),
			DETAIL = 'Fencing tokens are bigint.';
	END IF;
	-- an expression over a row of the table, and nothing else
	BEGIN
		EXECUTE format('SELECT pg_typeof((%s)::text) FROM (SELECT (NULL::%s).*) AS %I',
			key_expression, rel, rel_name);
	EXCEPTION WHEN syntax_error OR undefined_column OR undefined_function OR cannot_coerce OR grouping_error THEN
		RAISE invalid_parameter_value USING
			MESSAGE = format('"%s" is not an expression over columns of table "%s"', key_expression, rel_name),
			DETAIL = SQLERRM;
	END;

	-- no row may come between what is looked at and the trigger
	EXECUTE format('LOCK TABLE %s IN SHARE ROW EXCLUSIVE MODE', rel);
	memory_name := left(rel_name, 57) || '_fence';
	PERFORM quorum.execute_ddl(format(
		'CREATE TABLE %I.%I (resource text COLLATE pg_catalog."C" PRIMARY KEY, token bigint NOT NULL)',
		rel_schema, memory_name));
	PERFORM quorum.add_table(format('%I.%I', rel_schema, memory_name)::regclass);
	EXECUTE format(
		'INSERT INTO %I.%I SELECT (%s)::text, max(%I) FROM %s AS %I WHERE (%s) IS NOT NULL AND %I IS NOT NULL GROUP BY 1',
		rel_schema, memory_name, key_expression, token_column, rel, rel_name, key_expression, token_column);
	SELECT table_id INTO STRICT memory_id FROM quorum.replicated_table
	WHERE relid = format('%I.%I', rel_schema, memory_name)::regclass;
	PERFORM quorum.execute_ddl(format(
		'CREATE TRIGGER quorum_fence AFTER INSERT OR UPDATE ON %I.%I FOR EACH ROW EXECUTE FUNCTION quorum.fence_row(%L, %L, %L)',
		rel_schema, rel_name, memory_id, token_column, key_expression));
END
$fence$;

CREATE FUNCTION quorum.unfence_table(rel regclass) RETURNS void
LANGUAGE plpgsql STRICT SET search_path = pg_catalog, pg_temp AS $fence$
DECLARE
	memory regclass := quorum._fence_memory(rel);
BEGIN
	IF NOT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = rel AND tgname = 'quorum_fence') THEN
		RAISE object_not_in_prerequisite_state USING
			MESSAGE = format('table "%s" has no fence', rel);
	END IF;
	PERFORM quorum.execute_ddl(format('DROP TRIGGER quorum_fence ON %s', rel));
	IF memory IS NOT NULL THEN
		PERFORM quorum.execute_ddl(format('DROP TABLE %s', memory));
	END IF;
END
$fence$;
