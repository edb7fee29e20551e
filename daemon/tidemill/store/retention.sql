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

-- How many runs each deployment has, over all its routes, where they are more than wanted.
-- name: crowded
SELECT json_group_array(json_array(deployment, runs - :keep))
FROM (
    SELECT ifnull(route.deployment, '') AS deployment, sum(counted.runs) AS runs
    FROM (SELECT route, count(*) AS runs FROM run GROUP BY route) AS counted
    JOIN route ON route.number = counted.route
    GROUP BY 1 HAVING sum(counted.runs) > :keep
);

-- A deployment's oldest runs, as many as are too many, the finished ones of them.
-- name: oldest_of
SELECT json_group_array(seq)
FROM (
    SELECT seq, state_type
    FROM (
        SELECT run.seq, run.state_type, run.expected_start
        FROM route CROSS JOIN run ON run.route = route.number
        WHERE ifnull(route.deployment, '') = :deployment
        ORDER BY run.expected_start, run.seq LIMIT :surplus
    )
    WHERE state_type >= 5 LIMIT :limit
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

-- name: delete_artifacts
DELETE FROM artifact WHERE number IN (SELECT value FROM json_each(:numbers));

-- name: delete_skipped
DELETE FROM skipped_fire WHERE number <= :last;
