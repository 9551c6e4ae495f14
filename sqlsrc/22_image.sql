-- Images: the state of the replicated tables at one entry of the log, which a
-- server gets that joins, or that fell behind the others' logs

CREATE FUNCTION quorum.join_cluster(address text, replace boolean DEFAULT false) RETURNS void
AS 'MODULE_PATHNAME', 'quorum_join_cluster' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
REVOKE ALL ON FUNCTION quorum.join_cluster(text, boolean) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION quorum.join_cluster(text, boolean) TO quorum_admin;

-- An image has all tables of this schema besides the replicated ones: they are
-- changed by entries of the log only. Save for those that are unlogged, and those
-- named here, which are a server's own.
CREATE TABLE quorum._local_table (rel regclass PRIMARY KEY);
REVOKE ALL ON quorum._local_table FROM PUBLIC;
INSERT INTO quorum._local_table VALUES ('quorum._local_table');

-- Columns with OIDs of relations travel as names.
CREATE VIEW quorum._state_table AS
SELECT c.oid::regclass AS rel,
	coalesce(array_agg(a.attname ORDER BY a.attnum) FILTER (WHERE a.attname = 'relid' OR a.atttypid = 'regclass'::regtype), '{}') AS relid_columns,
	array_agg(a.attname ORDER BY a.attnum) AS columns
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
WHERE c.relnamespace = 'quorum'::regnamespace AND c.relkind = 'r' AND c.relpersistence = 'p'
	AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
	AND NOT EXISTS (SELECT FROM quorum._local_table l WHERE l.rel = c.oid)
GROUP BY c.oid;
REVOKE ALL ON quorum._state_table FROM PUBLIC;

-- An image that is being loaded into a server that had none: what there is to
-- copy, and what of it is done. This server's own.
CREATE TABLE quorum._image_table (
	unit integer PRIMARY KEY,
	relid oid NOT NULL,
	schema_name text NOT NULL,
	table_name text NOT NULL,
	columns text[] NOT NULL,
	is_binary boolean NOT NULL,
	bytes bigint NOT NULL,
	created boolean NOT NULL,	-- by us: goes away if it is begun again
	done boolean NOT NULL DEFAULT false
);
REVOKE ALL ON quorum._image_table FROM PUBLIC;
INSERT INTO quorum._local_table VALUES ('quorum._image_table');

CREATE FUNCTION quorum._loading() RETURNS trigger
AS 'MODULE_PATHNAME', 'quorum_loading' LANGUAGE C;

-- Which entry the current snapshot stands at: it shows all up to there and none above.
CREATE FUNCTION quorum._snapshot_index() RETURNS bigint
AS 'MODULE_PATHNAME', 'quorum_snapshot_index' LANGUAGE C STABLE STRICT PARALLEL RESTRICTED;
REVOKE ALL ON FUNCTION quorum._snapshot_index() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION quorum._snapshot_index() TO quorum_admin;

-- The first statement of a REPEATABLE READ transaction of a member that gets an
-- image from here. Everything it reads afterwards is the state at `entry`.
CREATE FUNCTION quorum._image_begin(
	OUT entry bigint, OUT term bigint, OUT conf_index bigint, OUT conf bytea,
	OUT snapshot text, OUT cluster_id text)
AS 'MODULE_PATHNAME', 'quorum_image_begin' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
REVOKE ALL ON FUNCTION quorum._image_begin() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION quorum._image_begin() TO quorum_admin;

-- Replicated tables and what belongs to them: partitions, sequences.
CREATE VIEW quorum._image_relation AS
WITH member AS (
	SELECT r.table_id, r.relid AS root, r.relid FROM quorum.replicated_table r WHERE r.relid IS NOT NULL
	UNION
	SELECT r.table_id, r.relid, p.relid FROM quorum.replicated_table r, pg_partition_tree(r.relid) p
	WHERE r.relid IS NOT NULL
)
SELECT m.table_id, m.root::oid, c.oid AS relid, n.nspname AS schema_name, c.relname AS relation_name,
	c.relkind, NULL::oid AS owner_relid, NULL::name AS owner_column
FROM member m JOIN pg_class c ON c.oid = m.relid JOIN pg_namespace n ON n.oid = c.relnamespace
UNION ALL
-- owned, or used by a default
SELECT m.table_id, m.root::oid, s.oid, n.nspname, s.relname, s.relkind, m.relid, a.attname
FROM member m
JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = m.relid
	AND d.classid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')
JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S'
JOIN pg_attribute a ON a.attrelid = m.relid AND a.attnum = d.refobjsubid
JOIN pg_namespace n ON n.oid = s.relnamespace
UNION
SELECT m.table_id, m.root::oid, s.oid, n.nspname, s.relname, s.relkind, NULL::oid, NULL
FROM member m
JOIN pg_attrdef f ON f.adrelid = m.relid
JOIN pg_depend d ON d.classid = 'pg_attrdef'::regclass AND d.objid = f.oid AND d.refclassid = 'pg_class'::regclass
JOIN pg_class s ON s.oid = d.refobjid AND s.relkind = 'S'
JOIN pg_namespace n ON n.oid = s.relnamespace
WHERE NOT EXISTS (SELECT FROM pg_depend o WHERE o.classid = 'pg_class'::regclass AND o.objid = s.oid
	AND o.refclassid = 'pg_class'::regclass AND o.deptype IN ('a', 'i'));
REVOKE ALL ON quorum._image_relation FROM PUBLIC;

-- Does the binary form of a type hold no OID that means something else elsewhere?
CREATE FUNCTION quorum._travels_binary(t oid) RETURNS boolean
LANGUAGE sql STABLE STRICT SET search_path = pg_catalog AS $$
	WITH RECURSIVE base AS (
		SELECT oid, typtype, typbasetype, typname, typelem FROM pg_type WHERE oid = t
		UNION ALL
		SELECT p.oid, p.typtype, p.typbasetype, p.typname, p.typelem
		FROM base b JOIN pg_type p ON p.oid = b.typbasetype WHERE b.typtype = 'd'
	)
	SELECT coalesce(bool_and(typtype = 'e' OR
		(oid < 16384 AND typtype IN ('b', 'r', 'm') AND typname !~ '^_?(reg|aclitem)')), false)
	FROM base WHERE typtype <> 'd'
$$;

-- What is to be copied: tables and partitions that hold rows.
CREATE VIEW quorum._image_unit AS
SELECT r.table_id, r.relid, r.schema_name, r.relation_name AS table_name,
	coalesce(c.columns, '{}') AS columns, coalesce(c.stored, '{}') AS stored_columns,
	coalesce(c.is_binary, true) AS is_binary,
	pg_table_size(r.relid) AS bytes
FROM quorum._image_relation r
LEFT JOIN LATERAL (
	SELECT array_agg(attname ORDER BY attnum) FILTER (WHERE attgenerated = '') AS columns,
		array_agg(attname ORDER BY attnum) FILTER (WHERE attgenerated IN ('', 's')) AS stored,
		bool_and(quorum._travels_binary(atttypid)) AS is_binary
	FROM pg_attribute WHERE attrelid = r.relid AND attnum > 0 AND NOT attisdropped
) c ON true
WHERE r.relkind = 'r';
REVOKE ALL ON quorum._image_unit FROM PUBLIC;

-- All that makes a table what it is, down to privileges: where two members agree
-- only its rows need to be brought over.
CREATE FUNCTION quorum._table_fingerprint(rel regclass) RETURNS text
LANGUAGE sql STABLE STRICT SET search_path = pg_catalog AS $$
	WITH part AS (
		SELECT rel::oid AS relid UNION SELECT relid FROM pg_partition_tree(rel)
	), col AS (
		SELECT p.relid::regclass::text AS name, a.* FROM part p JOIN pg_attribute a ON a.attrelid = p.relid
		WHERE a.attnum > 0 AND NOT a.attisdropped
	)
	SELECT quorum._table_definition(rel) || '; ' || md5(string_agg(item, E'\n' ORDER BY item COLLATE "C")) FROM (
		SELECT concat_ws(' ', 'rel', c.oid::regclass, pg_get_userbyid(c.relowner), c.reloptions, c.relreplident,
			c.relrowsecurity, c.relforcerowsecurity,
			(SELECT string_agg(acl::text, ',' ORDER BY acl::text COLLATE "C") FROM unnest(c.relacl) acl),
			obj_description(c.oid, 'pg_class')) AS item
		FROM part JOIN pg_class c ON c.oid = part.relid
		UNION ALL
		SELECT concat_ws(' ', 'col', name, attname, attidentity, attstorage,
			(SELECT string_agg(o, ',' ORDER BY o COLLATE "C") FROM unnest(attoptions) o WHERE o NOT LIKE 'pg\_attver=%'),
			(SELECT string_agg(acl::text, ',' ORDER BY acl::text COLLATE "C") FROM unnest(attacl) acl),
			col_description(attrelid, attnum),
			(SELECT pg_get_expr(adbin, adrelid) FROM pg_attrdef WHERE adrelid = attrelid AND adnum = attnum))
		FROM col
		UNION ALL
		SELECT concat_ws(' ', 'index', pg_get_indexdef(indexrelid), indisreplident, indisclustered)
		FROM part JOIN pg_index ON indrelid = relid
		UNION ALL
		SELECT concat_ws(' ', 'constraint', relid::regclass, conname, pg_get_constraintdef(con.oid))
		FROM part JOIN pg_constraint con ON conrelid = relid
		UNION ALL
		SELECT concat_ws(' ', 'trigger', pg_get_triggerdef(tg.oid), tgenabled)
		FROM part JOIN pg_trigger tg ON tgrelid = relid WHERE NOT tgisinternal
		UNION ALL
		SELECT concat_ws(' ', 'rule', pg_get_ruledef(ru.oid), ev_enabled) FROM part JOIN pg_rewrite ru ON ev_class = relid
		UNION ALL
		SELECT concat_ws(' ', 'policy', relid::regclass, polname, polcmd, polpermissive,
			(SELECT string_agg(CASE WHEN r = 0 THEN 'public' ELSE pg_get_userbyid(r) END, ',' ORDER BY 1) FROM unnest(polroles) r),
			pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid))
		FROM part JOIN pg_policy ON polrelid = relid
		UNION ALL
		SELECT concat_ws(' ', 'statistics', pg_get_statisticsobjdef(st.oid)) FROM part JOIN pg_statistic_ext st ON stxrelid = relid
		UNION ALL
		SELECT concat_ws(' ', 'enum', t.oid::regtype,
			(SELECT string_agg(enumlabel, ',' ORDER BY enumsortorder) FROM pg_enum WHERE enumtypid = t.oid))
		FROM pg_type t WHERE t.typtype = 'e' AND t.oid IN (SELECT coalesce(nullif(e.typelem, 0), e.oid) FROM col JOIN pg_type e ON e.oid = col.atttypid)
		UNION ALL
		SELECT concat_ws(' ', 'domain', t.oid::regtype, format_type(t.typbasetype, t.typtypmod), t.typnotnull,
			(SELECT string_agg(pg_get_constraintdef(oid), ',' ORDER BY conname) FROM pg_constraint WHERE contypid = t.oid))
		FROM pg_type t WHERE t.typtype = 'd' AND t.oid IN (SELECT coalesce(nullif(e.typelem, 0), e.oid) FROM col JOIN pg_type e ON e.oid = col.atttypid)
		UNION ALL
		SELECT concat_ws(' ', 'composite', t.oid::regtype,
			(SELECT string_agg(attname || ' ' || format_type(atttypid, atttypmod), ',' ORDER BY attnum)
			FROM pg_attribute WHERE attrelid = t.typrelid AND attnum > 0 AND NOT attisdropped))
		FROM pg_type t WHERE t.typtype = 'c' AND t.oid IN (SELECT coalesce(nullif(e.typelem, 0), e.oid) FROM col JOIN pg_type e ON e.oid = col.atttypid)
	) items
$$;
REVOKE ALL ON FUNCTION quorum._table_fingerprint(regclass) FROM PUBLIC;

-- How an image comes along that this server gets, or got last.
CREATE FUNCTION quorum._join_progress(
	OUT phase text, OUT source text, OUT entry bigint, OUT current_table text,
	OUT tables_done integer, OUT tables_total integer,
	OUT bytes_done bigint, OUT bytes_total bigint, OUT rows_done bigint,
	OUT bytes_per_second bigint, OUT elapsed interval, OUT remaining interval, OUT attempts integer)
RETURNS SETOF record
AS 'MODULE_PATHNAME', 'quorum_join_progress' LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED;

CREATE VIEW quorum.join_progress AS
SELECT phase, source, entry, current_table AS "table", tables_done, tables_total,
	bytes_done AS bytes, bytes_total, rows_done AS rows, bytes_per_second AS rate,
	elapsed, remaining AS estimated_time, attempts
FROM quorum._join_progress();
GRANT SELECT ON quorum.join_progress TO PUBLIC;
