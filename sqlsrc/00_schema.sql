-- complain if the script is sourced in psql rather than by CREATE EXTENSION
\echo Use "CREATE EXTENSION pg_quorum" to load this file. \quit

DO $$
BEGIN
	IF NOT EXISTS (SELECT 1 FROM pg_catalog.pg_roles WHERE rolname = 'quorum_admin') THEN
		CREATE ROLE quorum_admin NOLOGIN;
	END IF;
END
$$;

GRANT USAGE ON SCHEMA quorum TO PUBLIC;
