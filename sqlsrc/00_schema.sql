-- complain if the script is sourced in psql rather than by CREATE EXTENSION
\echo Use "CREATE EXTENSION pg_quorum" to load this file. \quit

-- Made here, so that it belongs to the extension: what is restored from a dump
-- finds it with the extension, and does not make it again.
CREATE SCHEMA quorum;
SELECT pg_catalog.set_config('search_path', 'quorum, pg_temp', true);

DO $$
BEGIN
	IF NOT EXISTS (SELECT 1 FROM pg_catalog.pg_roles WHERE rolname = 'quorum_admin') THEN
		CREATE ROLE quorum_admin NOLOGIN;
	END IF;
END
$$;

GRANT USAGE ON SCHEMA quorum TO PUBLIC;
