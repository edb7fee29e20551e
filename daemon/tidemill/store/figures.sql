-- Figures for the metrics: each along an index, and cheap however long the history is.

-- How many runs of each type have not ended.
-- name: unfinished
SELECT state_type, count(*) FROM run INDEXED BY run_state WHERE state_type < 5 GROUP BY state_type;

-- How many of them go by another name than their type's. No type's own name is among these.
-- name: named
SELECT e.value, (SELECT count(*) FROM run INDEXED BY run_state_name WHERE state_name = e.value)
FROM json_each(:names) AS e;

-- When each deployment last succeeded: from its newest run back to one that did.
-- name: last_success
SELECT
    route.deployment,
    max((
        SELECT run.end_time FROM run INDEXED BY run_route
        WHERE run.route = route.number AND run.state_type = 5
        ORDER BY run.expected_start DESC LIMIT 1
    ))
FROM route
WHERE route.deployment IS NOT NULL
GROUP BY route.deployment;
