-- Comparing and repairing, on a cluster of one: what is said and who may.
CREATE TABLE verified (id int, part text COLLATE "C", v numeric, PRIMARY KEY (id, part));
CREATE TABLE not_replicated (id int PRIMARY KEY);
INSERT INTO verified SELECT g, 'p' || g, g FROM generate_series(1, 300) g;
SELECT quorum.add_table('verified');
SELECT table_name, node_name, same, row_count, digest = quorum.table_digest('verified') AS digest, key_ranges, detail
	FROM quorum.verify('verified');
SELECT count(*) > 0 AS some, bool_and(same) FROM quorum.verify();
SELECT count(*) FROM quorum.differences;

-- ranges: their digests add up to the table's, whatever the bounds
SELECT array_length(d, 1), (SELECT sum(split_part(x, ':', 1)::int) FROM unnest(d) x)
	FROM quorum._range_digests('verified', ARRAY['{10,p10}', '{100,"p1"}', '{200,x}']) d;
SELECT quorum._range_digests('verified', ARRAY['{10}']);
SELECT quorum._range_digests('verified', ARRAY['{x,y}']);
SELECT quorum._range_digests('verified', '{}') = ARRAY[quorum.table_digest('verified')] AS same;

-- refusals
SELECT * FROM quorum.verify('not_replicated');
SELECT quorum.resync_table(NULL);
SELECT quorum.resync_table('not_replicated');
SELECT quorum.resync_table('verified');
SELECT quorum.resync_table('verified', 'one');
SELECT quorum.resync_table('verified', 'two');
SELECT quorum._inquire('x', '{}', 'SELECT 1');
SELECT quorum._answer('x', 1, 1, 'done', '{}');
SELECT quorum._resync(1, 1, 1);
SELECT quorum.force_new_cluster();
CREATE ROLE verify_nobody;
SET ROLE verify_nobody;
SELECT * FROM quorum.verify('verified');
SELECT quorum.resync_table('verified');
SELECT quorum.force_new_cluster();
SELECT count(*) FROM quorum.differences;
RESET ROLE;
DROP ROLE verify_nobody;
SELECT quorum.remove_table('verified');
DROP TABLE verified, not_replicated;
