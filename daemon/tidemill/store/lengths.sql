-- How long the last runs of deployments took, for simulations.

-- Of the last ended runs of each of these deployments, in order of time: deployment, run time of all attempts, attempts,
-- state type. A deployment that moved to another queue has several routes, each with its own last runs.
-- name: of_deployments
SELECT json_group_array(json_array(route.deployment, run.run_time, run.attempt, run.state_type))
FROM json_each(:deployments) AS e
CROSS JOIN route ON ifnull(route.deployment, '') = e.value
CROSS JOIN run ON run.seq IN (
    SELECT last.seq FROM run AS last INDEXED BY run_route
    WHERE last.route = route.number AND last.state_type IN (5, 6, 7) AND last.attempt > 0
    ORDER BY last.expected_start DESC LIMIT :limit
);
