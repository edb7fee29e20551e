-- Finished runs that were to start before an instant, oldest first; never a deployment's newest finished one.
-- name: runs_before
SELECT json_group_array(seq)
FROM (
    SELECT run.seq
    FROM run CROSS JOIN route ON route.number = run.route
    WHERE run.expected_start < :before AND run.state_type >= 5
        AND EXISTS (
            SELECT 1
            FROM route AS other
            CROSS JOIN run AS newer ON newer.route = other.number AND newer.expected_start >= run.expected_start
            WHERE ifnull(other.deployment, '') = ifnull(route.deployment, '') AND newer.state_type >= 5
                AND (newer.expected_start, newer.seq) > (run.expected_start, run.seq)
        )
    ORDER BY run.expected_start LIMIT :limit
);

-- Deployments with more finished runs than wanted, over all their routes: those routes, and how many are too many.
-- name: crowded
SELECT json_group_array(json_array(json(routes), runs - :keep))
FROM (
    SELECT json_group_array(route.number) AS routes, sum(counted.runs - ifnull(unfinished.runs, 0)) AS runs
    FROM (SELECT route, count(*) AS runs FROM run GROUP BY route) AS counted
    JOIN route ON route.number = counted.route
    LEFT JOIN (
        SELECT route, count(*) AS runs FROM run INDEXED BY run_state WHERE state_type < 5 GROUP BY route
    ) AS unfinished ON unfinished.route = counted.route
    GROUP BY ifnull(route.deployment, '') HAVING sum(counted.runs - ifnull(unfinished.runs, 0)) > :keep
);

-- A route's oldest finished runs: when they were to start, and their number.
-- name: oldest_on
SELECT json_group_array(json_array(expected_start, seq))
FROM (
    SELECT expected_start, seq FROM run INDEXED BY run_route
    WHERE route = :route AND state_type >= 5 ORDER BY expected_start, seq LIMIT :limit
);

-- The last number among the oldest lines that are older than an instant.
-- name: lines_before
SELECT max(number) FROM (SELECT number, at FROM log ORDER BY number LIMIT :limit) WHERE at < :before;

-- Documents without a key that are older than an instant.
-- name: keyless_before
SELECT json_group_array(number)
FROM (SELECT number FROM artifact WHERE key IS NULL AND created < :before ORDER BY created LIMIT :limit);

-- The oldest versions that are not their key's latest.
-- name: old_versions
SELECT json_group_array(number)
FROM (
    SELECT number FROM artifact AS old
    WHERE key IS NOT NULL AND EXISTS (
        SELECT 1 FROM artifact AS newer WHERE newer.key = old.key AND newer.version > old.version
    )
    ORDER BY number LIMIT :limit
);

-- name: skipped_before
SELECT max(number) FROM (SELECT number, at FROM skipped_fire ORDER BY number LIMIT :limit) WHERE at < :before;

-- name: still_finished
SELECT json_group_array(run.seq)
FROM json_each(:seqs) AS e CROSS JOIN run ON run.seq = e.value WHERE run.state_type >= 5;

-- Lines of runs that are to go, a bounded number of them.
-- name: delete_lines_of
DELETE FROM log
WHERE number IN (
    SELECT log.number FROM json_each(:seqs) AS e CROSS JOIN log ON log.run = e.value LIMIT :limit
);

-- name: delete_lines
DELETE FROM log WHERE number <= :last;

-- The same of events that runs emitted.
-- name: events_before
SELECT max(number) FROM (SELECT number, at FROM emitted ORDER BY number LIMIT :limit) WHERE at < :before;

-- name: delete_events_of
DELETE FROM emitted
WHERE number IN (
    SELECT emitted.number FROM json_each(:seqs) AS e CROSS JOIN emitted ON emitted.run = e.value LIMIT :limit
);

-- name: delete_events
DELETE FROM emitted WHERE number <= :last;

-- name: delete_artifacts
DELETE FROM artifact WHERE number IN (SELECT value FROM json_each(:numbers));

-- name: delete_skipped
DELETE FROM skipped_fire WHERE number <= :last;
