-- What retention would delete, counted without deleting.

-- Runs that would go by age and then by number, and how many lines of output would go with them. The same choice as
-- retention.sql's, made for all at once and along one index: by age whatever has ended, but for a deployment's newest;
-- then, of each deployment, what has ended behind the newest so many that are left.
-- name: runs
WITH
grouped AS MATERIALIZED (
    SELECT number AS route, min(number) OVER (PARTITION BY ifnull(deployment, '')) AS deployment FROM route
),
last_on AS MATERIALIZED (
    SELECT route, max(expected_start) AS at FROM run INDEXED BY run_state WHERE state_type >= 5 GROUP BY route
),
newest_at AS MATERIALIZED (
    SELECT deployment, max(at) AS at FROM grouped JOIN last_on USING (route) GROUP BY deployment
),
newest AS MATERIALIZED (
    SELECT deployment, at, (
        SELECT max(run.seq)
        FROM (SELECT 5 AS type UNION ALL SELECT 6 UNION ALL SELECT 7 UNION ALL SELECT 8)
        CROSS JOIN run INDEXED BY run_state ON run.state_type = type AND run.expected_start = newest_at.at
        WHERE run.route IN (SELECT route FROM grouped WHERE grouped.deployment = newest_at.deployment)
    ) AS seq
    FROM newest_at
),
placed AS (
    SELECT
        run.seq, run.expected_start, grouped.deployment,
        run.expected_start < :before AND (run.expected_start < newest.at OR run.seq < newest.seq) AS aged
    FROM run INDEXED BY run_state
    CROSS JOIN grouped ON grouped.route = run.route
    CROSS JOIN newest ON newest.deployment = grouped.deployment
    WHERE run.state_type >= 5
),
left_over AS (
    SELECT seq, row_number() OVER (PARTITION BY deployment ORDER BY expected_start DESC, seq DESC) AS from_newest
    FROM placed WHERE NOT aged
),
going AS MATERIALIZED (
    SELECT seq FROM placed WHERE aged
    UNION ALL
    SELECT seq FROM left_over WHERE from_newest > :keep
)
SELECT
    (SELECT count(*) FROM going),
    (SELECT count(*) FROM going CROSS JOIN log INDEXED BY log_of_run ON log.run = going.seq)
        + (SELECT count(*) FROM going CROSS JOIN emitted INDEXED BY emitted_of_run ON emitted.run = going.seq),
    (SELECT count(*) FROM run);

-- name: lines
SELECT (SELECT count(*) FROM log WHERE at < :before) + (SELECT count(*) FROM emitted WHERE at < :before);

-- name: documents
SELECT count(*) FROM artifact WHERE key IS NULL AND created < :before;

-- name: skipped
SELECT count(*) FROM skipped_fire WHERE at < :before;

-- name: cached
SELECT count(*) FROM task_cache WHERE expires <= :now OR created < :before;

-- Lines of the daemon that are old, or more than are kept.
-- name: said
SELECT count(*) FROM daemon_log WHERE at < :before OR number <= (SELECT max(number) FROM daemon_log) - :keep;
