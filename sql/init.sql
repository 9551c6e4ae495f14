-- The extension and a cluster of one, before every other test.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pg_quorum;
SELECT quorum.create_cluster() IS NOT NULL AS founded
WHERE (SELECT cluster_id FROM quorum.status) IS NULL;
