-- Elections, semaphores, latches: on top of the locks (doc/locks.md)

--
-- Elections
--

-- What leaders say of themselves. Changed by entries of the log only.
CREATE TABLE quorum.election_value (
	name text COLLATE "C" PRIMARY KEY,
	token bigint NOT NULL,
	value text NOT NULL
);
REVOKE ALL ON quorum.election_value FROM PUBLIC;

CREATE FUNCTION quorum._submit_statement(sql text) RETURNS text
AS 'MODULE_PATHNAME', 'quorum_submit_statement' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
CREATE FUNCTION quorum._in_log() RETURNS boolean
AS 'MODULE_PATHNAME', 'quorum_in_log' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
CREATE FUNCTION quorum._wait_for_entry(until timestamptz) RETURNS void
AS 'MODULE_PATHNAME', 'quorum_wait_for_entry' LANGUAGE C VOLATILE PARALLEL UNSAFE;
CREATE FUNCTION quorum._election_acquire(name text, wait interval, lease uuid) RETURNS bigint
AS 'MODULE_PATHNAME', 'quorum_election_acquire' LANGUAGE C VOLATILE PARALLEL UNSAFE;
CREATE FUNCTION quorum._election_notify(name text, token bigint) RETURNS void
AS 'MODULE_PATHNAME', 'quorum_election_notify' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
REVOKE ALL ON FUNCTION quorum._submit_statement(text) FROM PUBLIC;
REVOKE ALL ON FUNCTION quorum._election_notify(text, bigint) FROM PUBLIC;

-- The channel on which changes of this election are told: LISTEN there.
CREATE FUNCTION quorum.election_channel(name text) RETURNS text
AS 'MODULE_PATHNAME', 'quorum_election_channel' LANGUAGE C IMMUTABLE PARALLEL SAFE;

CREATE FUNCTION quorum.election_leader(name text,
	OUT token bigint, OUT value text, OUT node_name text, OUT pid integer, OUT elected_at timestamptz)
LANGUAGE sql VOLATILE STRICT SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
	SELECT l.token, v.value, l.node_name, l.pid, l.acquired_at
	FROM quorum.locks l
	LEFT JOIN quorum.election_value v ON v.name = l.key AND v.token = l.token
	WHERE l.key_type = 'election' AND l.key = election_leader.name AND l.granted
$$;

-- run by the apply worker of each member
CREATE FUNCTION quorum._election_value(name text, token bigint, value text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF NOT quorum._in_log() THEN
		RAISE insufficient_privilege USING MESSAGE = 'quorum._election_value is part of the log and cannot be called';
	END IF;
	-- said too late: another one leads
	IF NOT EXISTS (SELECT FROM quorum.lock_grant g
			WHERE g.key = $1 AND g.key_type = 4 AND g.token = $2) THEN
		RETURN;
	END IF;
	INSERT INTO quorum.election_value AS v VALUES (name, token, value)
	ON CONFLICT ON CONSTRAINT election_value_pkey DO UPDATE SET token = excluded.token, value = excluded.value
		WHERE v.token <= excluded.token;
	PERFORM quorum._election_notify(name, token);
END
$$;

-- What could not be given back, nobody knows.
CREATE FUNCTION quorum._election_give_back(name text, token bigint) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM quorum.election_resign(name, token);
EXCEPTION WHEN OTHERS OR query_canceled THEN
	RAISE EXCEPTION USING ERRCODE = 'statement_completion_unknown',
		MESSAGE = format('whether election "%s" was won is unknown', name), DETAIL = SQLERRM,
		HINT = 'quorum.election_leader tells.';
END
$$;
REVOKE ALL ON FUNCTION quorum._election_give_back(text, bigint) FROM PUBLIC;

-- election_campaign(name, value, wait, lease) - returns when this session (or the
-- lease) leads: the fencing token; NULL when that was not within wait.
CREATE FUNCTION quorum.election_campaign(name text, value text DEFAULT NULL,
	wait interval DEFAULT NULL, lease uuid DEFAULT NULL) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	token bigint := quorum._election_acquire(name, wait, lease);
BEGIN
	IF token IS NULL OR value IS NULL THEN
		RETURN token;
	ELSIF octet_length(value) > 1048576 THEN
		RAISE program_limit_exceeded USING MESSAGE = 'value of a candidate is too long',
			DETAIL = 'The limit is 1 MB.';
	END IF;
	PERFORM quorum._submit_statement(
		format('SELECT quorum._election_value(%L, %s, %L)', name, token, value));
	RETURN token;
EXCEPTION WHEN OTHERS OR query_canceled THEN
	-- an error means: not elected
	PERFORM quorum._election_give_back(name, token);
	RAISE;
END
$$;

CREATE FUNCTION quorum.election_resign(name text) RETURNS boolean
AS 'MODULE_PATHNAME', 'quorum_election_release' LANGUAGE C VOLATILE PARALLEL UNSAFE;
CREATE FUNCTION quorum.election_resign(name text, token bigint) RETURNS boolean
AS 'MODULE_PATHNAME', 'quorum_election_release' LANGUAGE C VOLATILE PARALLEL UNSAFE;

-- As check_fence: this transaction commits only if nobody was elected since.
CREATE FUNCTION quorum.election_check_fence(name text, token bigint) RETURNS void
AS 'MODULE_PATHNAME', 'quorum_check_fence_election' LANGUAGE C VOLATILE PARALLEL UNSAFE;

-- LISTEN for changes; returns the channel.
CREATE FUNCTION quorum.election_observe(name text) RETURNS text
LANGUAGE plpgsql STRICT SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	EXECUTE format('LISTEN %I', quorum.election_channel(name));
	RETURN quorum.election_channel(name);
END
$$;

--
-- Semaphores: so many permits, each held under a lease
--

CREATE FUNCTION quorum.semaphore_acquire(name text, size integer, lease uuid,
	permits integer DEFAULT 1, wait interval DEFAULT NULL) RETURNS bigint
AS 'MODULE_PATHNAME', 'quorum_semaphore_acquire' LANGUAGE C VOLATILE PARALLEL UNSAFE;
CREATE FUNCTION quorum.semaphore_release(name text, token bigint) RETURNS boolean
AS 'MODULE_PATHNAME', 'quorum_semaphore_release' LANGUAGE C VOLATILE PARALLEL UNSAFE;

--
-- Count-down latches
--

CREATE TABLE quorum.latch (
	name text COLLATE "C" PRIMARY KEY,
	initial bigint NOT NULL,
	remaining bigint NOT NULL,
	created_by text COLLATE "C" NOT NULL,
	created_at timestamptz NOT NULL
);
REVOKE ALL ON quorum.latch FROM PUBLIC;

CREATE VIEW quorum.latches AS SELECT name, initial, remaining, created_at FROM quorum.latch;
GRANT SELECT ON quorum.latches TO PUBLIC;

-- run by the apply worker of each member: no error whatever is asked
CREATE FUNCTION quorum._latch_change(what text, name text, n bigint, caller text, at timestamptz) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
#variable_conflict use_column
BEGIN
	IF NOT quorum._in_log() THEN
		RAISE insufficient_privilege USING MESSAGE = 'quorum._latch_change is part of the log and cannot be called';
	END IF;
	CASE what
		WHEN 'create' THEN
			INSERT INTO quorum.latch VALUES ($2, n, n, caller, at) ON CONFLICT ON CONSTRAINT latch_pkey DO NOTHING;
		WHEN 'count' THEN
			UPDATE quorum.latch l SET remaining = greatest(l.remaining - n, 0) WHERE l.name = $2;
		ELSE
			DELETE FROM quorum.latch l WHERE l.name = $2;
	END CASE;
END
$$;

CREATE FUNCTION quorum._latch_submit(what text, name text, n bigint) RETURNS text
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	caller text := gen_random_uuid()::text;
BEGIN
	IF name IS NULL THEN
		RAISE null_value_not_allowed USING MESSAGE = 'name of a latch must not be null';
	ELSIF octet_length(name) NOT BETWEEN 1 AND 1024 THEN
		RAISE invalid_parameter_value USING MESSAGE = 'name of a latch must have 1 to 1024 bytes';
	ELSIF n IS NULL THEN
		RAISE null_value_not_allowed USING MESSAGE = 'count must not be null';
	ELSIF n < 1 THEN
		RAISE invalid_parameter_value USING MESSAGE = 'count must be at least 1';
	ELSIF what <> 'create' AND NOT EXISTS (SELECT FROM quorum.latch l WHERE l.name = $2) THEN
		RAISE undefined_object USING MESSAGE = format('latch "%s" does not exist', name),
			HINT = 'Create it with quorum.latch_create.';
	END IF;
	PERFORM quorum._submit_statement(format('SELECT quorum._latch_change(%L, %L, %s, %L, %L)',
		what, name, n, caller, clock_timestamp()::text));
	RETURN caller;
END
$$;
REVOKE ALL ON FUNCTION quorum._latch_submit(text, text, bigint) FROM PUBLIC;

-- latch_create(name, count) - false: there is one of that name already.
CREATE FUNCTION quorum.latch_create(name text, count bigint) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	caller text := quorum._latch_submit('create', name, count);
BEGIN
	RETURN EXISTS (SELECT FROM quorum.latch l WHERE l.name = latch_create.name AND l.created_by = caller);
EXCEPTION WHEN OTHERS OR query_canceled THEN
	RAISE EXCEPTION USING ERRCODE = 'statement_completion_unknown',
		MESSAGE = format('latch "%s" is there, but whether it was made now is not known', name), DETAIL = SQLERRM;
END
$$;

-- latch_count_down(name, n) - what remains. At once, whatever becomes of the transaction.
CREATE FUNCTION quorum.latch_count_down(name text, n bigint DEFAULT 1) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM quorum._latch_submit('count', name, n);
	BEGIN
		RETURN (SELECT l.remaining FROM quorum.latch l WHERE l.name = latch_count_down.name);
	EXCEPTION WHEN OTHERS OR query_canceled THEN
		RAISE EXCEPTION USING ERRCODE = 'statement_completion_unknown',
			MESSAGE = format('latch "%s" was counted down, but what remains is not known', name),
			DETAIL = SQLERRM, HINT = 'Do not repeat it.';
	END;
END
$$;

-- latch_await(name, wait) - true once nothing remains; false when that was not within wait.
CREATE FUNCTION quorum.latch_await(name text, wait interval DEFAULT NULL) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	until timestamptz := clock_timestamp() + wait;
	remaining bigint;
BEGIN
	IF name IS NULL THEN
		RAISE null_value_not_allowed USING MESSAGE = 'name of a latch must not be null';
	ELSIF wait < interval '0' THEN
		RAISE invalid_parameter_value USING MESSAGE = 'time to wait for a latch must not be negative';
	END IF;
	LOOP
		SELECT l.remaining INTO remaining FROM quorum.latch l WHERE l.name = latch_await.name;
		IF NOT FOUND THEN
			RAISE undefined_object USING MESSAGE = format('latch "%s" does not exist', name),
				HINT = 'Create it with quorum.latch_create.';
		END IF;
		IF remaining = 0 THEN
			RETURN true;
		ELSIF clock_timestamp() >= until THEN
			RETURN false;
		END IF;
		PERFORM quorum._wait_for_entry(least(until, clock_timestamp() + interval '1 s'));
	END LOOP;
END
$$;

-- latch_drop(name) - whoever waits gets an error.
CREATE FUNCTION quorum.latch_drop(name text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM quorum._latch_submit('drop', name, 1);
END
$$;
