-- What happened, by time: states of runs, their lines and events, skipped fires, the daemon's diary, artifacts. History has no index
-- by time (it would cost every run its share); a run's states lie before its end, and for ends there is one.

-- How loud a state is: 1 where it is to be told. `types` has a bit for each type, `named` lists the names that go by
-- themselves and `loud` those of them that are told; `asked` is for runs that somebody asked for.
-- fragment: told
CASE
    WHEN history.name IS NULL AND history.type = 0 AND (history.number > 1 OR run.created_by IS NOT NULL) THEN :asked
    WHEN history.name IN (SELECT value FROM json_each(:named))
        THEN history.name IN (SELECT value FROM json_each(:loud))
    ELSE (:types >> history.type) & 1
END

-- States within a time, of runs that have not ended before it: when, whose, and the state's number.
-- name: states
WITH candidate (seq) AS (
    SELECT seq FROM run WHERE end_time >= :since UNION ALL SELECT seq FROM run WHERE end_time IS NULL
)
SELECT json_group_array(json_array(at, run, number))
FROM (
    SELECT history.at, history.run, history.number
    FROM candidate
    CROSS JOIN run ON run.seq = candidate.seq AND run.created < :until
    CROSS JOIN history ON history.run = run.seq AND history.at >= :since AND history.at < :until AND {told}
    ORDER BY history.at, history.run, history.number
);

-- name: states_of_routes
SELECT json_group_array(json_array(at, run, number))
FROM (
    SELECT history.at, history.run, history.number
    FROM json_each(:routes) AS e
    CROSS JOIN run ON run.route = e.value AND run.created < :until AND ifnull(run.end_time, :since) >= :since
    CROSS JOIN history ON history.run = run.seq AND history.at >= :since AND history.at < :until AND {told}
    ORDER BY history.at, history.run, history.number
);

-- name: states_of_run
SELECT json_group_array(json_array(at, run, number))
FROM (
    SELECT history.at, history.run, history.number
    FROM run CROSS JOIN history ON history.run = run.seq
        AND history.at >= :since AND history.at < :until AND {told}
    WHERE run.seq = :run
    ORDER BY history.at, history.run, history.number
);

-- When a run ended that is so many ends after an instant, and so many before one; NULL: there are not so many.
-- name: end_after
SELECT end_time FROM run WHERE end_time >= :when ORDER BY end_time LIMIT 1 OFFSET :count;

-- name: end_before
SELECT end_time FROM run WHERE end_time < :when ORDER BY end_time DESC LIMIT 1 OFFSET :count;

-- All states of runs, as told by their row numbers.
-- name: histories
SELECT json_group_array(json_array(run, type, name, at, message))
FROM (
    SELECT history.run, history.type, history.name, history.at, history.message
    FROM json_each(:seqs) AS e CROSS JOIN history ON history.run = e.value
    ORDER BY history.run, history.number
);

-- The routes of deployments that runs ever had.
-- name: routes
SELECT json_group_array(number) FROM route WHERE deployment IN (SELECT value FROM json_each(:deployments));

-- Of each table that grows by number: the row some rows on from a number (`bound`), the one at or after a number (`at`),
-- the rows of a range (`rows`), and when those of a range were, newest first (`times`). `routes`, `deployments` and `run`
-- are NULL where they do not matter.

-- name: log_last
SELECT ifnull(max(number), 0) FROM log;

-- name: log_bound
SELECT json_array(number, at) FROM log WHERE number > :after ORDER BY number LIMIT 1 OFFSET :count;

-- name: log_at
SELECT json_array(number, at) FROM log WHERE number >= :number ORDER BY number LIMIT 1;

-- fragment: log_told
    FROM log CROSS JOIN run ON run.seq = log.run
    WHERE log.number > :after AND log.number <= :last AND log.at >= :since AND log.at < :until AND log.level >= :level
        AND (:routes IS NULL OR run.route IN (SELECT value FROM json_each(:routes)))

-- name: log_rows
SELECT json_group_array(json_array(number, at, level, logger, message, task_run_id, run, id, run_name, flow, deployment))
FROM (
    SELECT
        told.*, route.flow, route.deployment
    FROM (
        SELECT
            log.number, log.at, log.level, log.logger, log.message, log.task_run_id, log.run, run.id,
            run.name AS run_name, run.route
        {log_told}
    ) AS told
    CROSS JOIN route ON route.number = told.route
    ORDER BY told.number
);

-- name: log_times
SELECT json_group_array(json_array(number, at))
FROM (SELECT log.number, log.at {log_told} ORDER BY log.number DESC);

-- The same of one run, whose lines are found by it.
-- name: run_log_bound
SELECT json_array(number, at) FROM log WHERE run = :run AND number > :after ORDER BY number LIMIT 1 OFFSET :count;

-- fragment: run_log_told
    FROM log CROSS JOIN run ON run.seq = log.run
    WHERE log.run = :run AND log.number > :after AND log.number <= :last
        AND log.at >= :since AND log.at < :until AND log.level >= :level

-- name: run_log_rows
SELECT json_group_array(json_array(number, at, level, logger, message, task_run_id, run, id, run_name, flow, deployment))
FROM (
    SELECT
        told.*, route.flow, route.deployment
    FROM (
        SELECT
            log.number, log.at, log.level, log.logger, log.message, log.task_run_id, log.run, run.id,
            run.name AS run_name, run.route
        {run_log_told}
    ) AS told
    CROSS JOIN route ON route.number = told.route
    ORDER BY told.number
);

-- name: run_log_times
SELECT json_group_array(json_array(number, at))
FROM (SELECT log.number, log.at {run_log_told} ORDER BY log.number DESC);

-- name: skipped_last
SELECT ifnull(max(number), 0) FROM skipped_fire;

-- name: skipped_bound
SELECT json_array(number, at) FROM skipped_fire WHERE number > :after ORDER BY number LIMIT 1 OFFSET :count;

-- name: skipped_at
SELECT json_array(number, at) FROM skipped_fire WHERE number >= :number ORDER BY number LIMIT 1;

-- fragment: skipped_told
    FROM skipped_fire
    WHERE number > :after AND number <= :last AND at >= :since AND at < :until
        AND (:deployments IS NULL OR deployment IN (SELECT value FROM json_each(:deployments)))

-- name: skipped_rows
SELECT json_group_array(json_array(number, at, deployment, schedule, first, last, count, exact, reason))
FROM (SELECT * {skipped_told} ORDER BY number);

-- name: skipped_times
SELECT json_group_array(json_array(number, at)) FROM (SELECT number, at {skipped_told} ORDER BY number DESC);

-- name: daemon_last
SELECT ifnull(max(number), 0) FROM daemon_log;

-- name: daemon_bound
SELECT json_array(number, at) FROM daemon_log WHERE number > :after ORDER BY number LIMIT 1 OFFSET :count;

-- name: daemon_at
SELECT json_array(number, at) FROM daemon_log WHERE number >= :number ORDER BY number LIMIT 1;

-- fragment: daemon_told
    FROM daemon_log
    WHERE number > :after AND number <= :last AND at >= :since AND at < :until AND level >= :level
        AND (:deployments IS NULL OR deployment IN (SELECT value FROM json_each(:deployments)))

-- name: daemon_rows
SELECT json_group_array(json_array(number, at, level, logger, event, deployment, message, json(fields)))
FROM (SELECT * {daemon_told} ORDER BY number);

-- name: daemon_times
SELECT json_group_array(json_array(number, at)) FROM (SELECT number, at {daemon_told} ORDER BY number DESC);

-- name: artifact_last
SELECT ifnull(max(number), 0) FROM artifact;

-- name: artifact_bound
SELECT json_array(number, created) FROM artifact WHERE number > :after ORDER BY number LIMIT 1 OFFSET :count;

-- name: artifact_at
SELECT json_array(number, created) FROM artifact WHERE number >= :number ORDER BY number LIMIT 1;

-- fragment: artifact_told
    FROM artifact
    WHERE number > :after AND number <= :last AND created >= :since AND created < :until
        AND (:deployments IS NULL OR deployment IN (SELECT value FROM json_each(:deployments)))
        AND (:run_id IS NULL OR run_id = :run_id)

-- name: artifact_rows
SELECT json_group_array(json_array(number, created, key, version, type, length, run_id, deployment, name))
FROM (
    SELECT told.*, run.name
    FROM (
        SELECT number, created, key, version, type, length(text) AS length, run_id, deployment {artifact_told}
    ) AS told
    LEFT JOIN run ON run.id = told.run_id
    ORDER BY told.number
);

-- name: artifact_times
SELECT json_group_array(json_array(number, created)) FROM (SELECT number, created {artifact_told} ORDER BY number DESC);

-- name: emitted_last
SELECT ifnull(max(number), 0) FROM emitted;

-- name: emitted_bound
SELECT json_array(number, at) FROM emitted WHERE number > :after ORDER BY number LIMIT 1 OFFSET :count;

-- name: emitted_at
SELECT json_array(number, at) FROM emitted WHERE number >= :number ORDER BY number LIMIT 1;

-- fragment: emitted_told
    FROM emitted CROSS JOIN run ON run.seq = emitted.run
    WHERE emitted.number > :after AND emitted.number <= :last AND emitted.at >= :since AND emitted.at < :until
        AND (:routes IS NULL OR run.route IN (SELECT value FROM json_each(:routes)))
        AND (:run IS NULL OR emitted.run = :run)

-- name: emitted_rows
SELECT json_group_array(json_array(number, at, occurred, event, about, id, run_name, flow, deployment))
FROM (
    SELECT told.*, route.flow, route.deployment
    FROM (
        SELECT
            emitted.number, emitted.at, emitted.occurred, emitted.event, emitted.about, run.id, run.name AS run_name,
            run.route
        {emitted_told}
    ) AS told
    CROSS JOIN route ON route.number = told.route
    ORDER BY told.number
);

-- name: emitted_times
SELECT json_group_array(json_array(number, at))
FROM (SELECT emitted.number, emitted.at {emitted_told} ORDER BY emitted.number DESC);
