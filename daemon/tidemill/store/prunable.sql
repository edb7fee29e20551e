-- What retention would delete, counted without deleting.

-- Runs that would go by age and then by number, and how many lines of output would go with them. The same choice as
-- retention.sql's, made for all at once: by age whatever has ended, but for a deployment's newest; then of each
-- deployment the oldest of what is left, as many as are too many, those of them that have ended.
-- name: runs
WITH
placed AS (
    SELECT run.seq, run.expected_start, run.state_type >= 5 AS ended, ifnull(route.deployment, '') AS deployment,
        row_number() OVER (
            PARTITION BY ifnull(route.deployment, ''), run.state_type >= 5
            ORDER BY run.expected_start DESC, run.seq DESC
        ) AS from_newest
    FROM run JOIN route ON route.number = run.route
),
aged AS (
    SELECT placed.*, ended AND from_newest > 1 AND expected_start < :before AS old FROM placed
),
ranked AS (
    SELECT aged.*,
        row_number() OVER (PARTITION BY deployment, old ORDER BY expected_start, seq) AS place,
        count(*) OVER (PARTITION BY deployment, old) AS runs
    FROM aged
),
going AS MATERIALIZED (SELECT seq FROM ranked WHERE old OR (ended AND place <= runs - :keep))
SELECT
    (SELECT count(*) FROM going),
    (SELECT count(*) FROM going CROSS JOIN log INDEXED BY log_of_run ON log.run = going.seq),
    (SELECT count(*) FROM run);

-- name: lines
SELECT count(*) FROM log WHERE at < :before;

-- name: documents
SELECT count(*) FROM artifact WHERE key IS NULL AND created < :before;

-- name: skipped
SELECT count(*) FROM skipped_fire WHERE at < :before;

-- name: cached
SELECT count(*) FROM task_cache WHERE expires <= :now OR created < :before;
