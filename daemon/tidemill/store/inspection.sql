-- Inspection: what is in a database, and whether it agrees with itself. Rules answer a count and a JSON list of examples.

-- How many runs of each state, along the index.
-- name: by_state
SELECT state_type, state_name, count(*) FROM run GROUP BY state_type, state_name ORDER BY state_type, state_name;

-- name: tables
SELECT name FROM sqlite_schema WHERE type = 'table';

-- name: oldest
SELECT min(expected_start) FROM run;

-- name: newest
SELECT max(end_time) FROM run;

-- name: rows_run
SELECT count(*) FROM run;

-- name: rows_history
SELECT count(*) FROM history;

-- name: rows_task_run
SELECT count(*) FROM task_run;

-- name: rows_log
SELECT count(*) FROM log;

-- name: rows_emitted
SELECT count(*) FROM emitted;

-- name: rows_daemon_log
SELECT count(*) FROM daemon_log;

-- name: rows_artifact
SELECT count(*) FROM artifact;

-- name: rows_skipped_fire
SELECT count(*) FROM skipped_fire;

-- name: rows_task_cache
SELECT count(*) FROM task_cache;

-- name: rows_process
SELECT count(*) FROM process;

-- name: rows_catalogue
SELECT count(*) FROM catalogue;

-- name: rows_override
SELECT count(*) FROM override;

-- name: rows_variable
SELECT count(*) FROM variable;

-- Of runs that have not ended: the last state on record is another one.
-- name: unfinished_without_history
WITH found (what) AS (
    SELECT run.id FROM run
    WHERE run.state_type < 5 AND NOT EXISTS (
        SELECT 1 FROM history
        WHERE history.run = run.seq AND history.number = run.state_number AND history.type = run.state_type
            AND history.name IS run.state_name
    )
)
SELECT (SELECT count(*) FROM found), (SELECT json_group_array(CAST(what AS TEXT)) FROM (SELECT what FROM found LIMIT 5));

-- Pending or running, and nobody's.
-- name: begun_without_owner
WITH found (what) AS (
    SELECT id FROM run WHERE state_type IN (1, 2) AND owner IS NULL
)
SELECT (SELECT count(*) FROM found), (SELECT json_group_array(CAST(what AS TEXT)) FROM (SELECT what FROM found LIMIT 5));

-- Processes whose run is gone.
-- name: processes_of_nothing
WITH found (what) AS (
    SELECT process.run FROM process LEFT JOIN run ON run.seq = process.run WHERE run.seq IS NULL
)
SELECT (SELECT count(*) FROM found), (SELECT json_group_array(CAST(what AS TEXT)) FROM (SELECT what FROM found LIMIT 5));

-- The UNIQUE index forbids it; a damaged index may have let it pass.
-- name: due_twice
WITH found (what) AS (
    SELECT min(id) FROM run INDEXED BY run_fire WHERE schedule IS NOT NULL GROUP BY schedule, due HAVING count(*) > 1
)
SELECT (SELECT count(*) FROM found), (SELECT json_group_array(CAST(what AS TEXT)) FROM (SELECT what FROM found LIMIT 5));

-- The same as for unfinished runs, for all.
-- name: without_history
WITH found (what) AS (
    SELECT run.id FROM run
    LEFT JOIN history ON history.run = run.seq AND history.number = run.state_number
    WHERE history.type IS NOT run.state_type OR history.name IS NOT run.state_name
)
SELECT (SELECT count(*) FROM found), (SELECT json_group_array(CAST(what AS TEXT)) FROM (SELECT what FROM found LIMIT 5));

-- States are numbered without a gap, and each knows the one before.
-- name: broken_history
WITH found (what) AS (
    SELECT history.run || '/' || history.number FROM history
    LEFT JOIN history AS earlier ON earlier.run = history.run AND earlier.number = history.number - 1
    WHERE history.number > 1 AND history.before IS NOT earlier.type
)
SELECT (SELECT count(*) FROM found), (SELECT json_group_array(CAST(what AS TEXT)) FROM (SELECT what FROM found LIMIT 5));

-- Histories whose run is gone.
-- name: history_of_nothing
WITH found (what) AS (
    SELECT history.run FROM history LEFT JOIN run ON run.seq = history.run
    WHERE history.number = 1 AND run.seq IS NULL
)
SELECT (SELECT count(*) FROM found), (SELECT json_group_array(CAST(what AS TEXT)) FROM (SELECT what FROM found LIMIT 5));

-- Ended, and nobody knows when.
-- name: ended_without_end
WITH found (what) AS (
    SELECT id FROM run WHERE state_type >= 5 AND end_time IS NULL
)
SELECT (SELECT count(*) FROM found), (SELECT json_group_array(CAST(what AS TEXT)) FROM (SELECT what FROM found LIMIT 5));

-- Runs whose route is gone.
-- name: without_route
WITH found (what) AS (
    SELECT run.id FROM run LEFT JOIN route ON route.number = run.route WHERE route.number IS NULL
)
SELECT (SELECT count(*) FROM found), (SELECT json_group_array(CAST(what AS TEXT)) FROM (SELECT what FROM found LIMIT 5));

-- Task runs whose run is gone.
-- name: tasks_of_nothing
WITH found (what) AS (
    SELECT task_run.id FROM task_run LEFT JOIN run ON run.seq = task_run.run WHERE run.seq IS NULL
)
SELECT (SELECT count(*) FROM found), (SELECT json_group_array(CAST(what AS TEXT)) FROM (SELECT what FROM found LIMIT 5));

-- Lines whose run is gone.
-- name: lines_of_nothing
WITH found (what) AS (
    SELECT log.number FROM log LEFT JOIN run ON run.seq = log.run WHERE run.seq IS NULL
)
SELECT (SELECT count(*) FROM found), (SELECT json_group_array(CAST(what AS TEXT)) FROM (SELECT what FROM found LIMIT 5));

-- Events whose run is gone.
-- name: events_of_nothing
WITH found (what) AS (
    SELECT emitted.number FROM emitted LEFT JOIN run ON run.seq = emitted.run WHERE run.seq IS NULL
)
SELECT (SELECT count(*) FROM found), (SELECT json_group_array(CAST(what AS TEXT)) FROM (SELECT what FROM found LIMIT 5));

-- Tags whose run is gone.
-- name: tags_of_nothing
WITH found (what) AS (
    SELECT run_tag.run FROM run_tag LEFT JOIN run ON run.seq = run_tag.run WHERE run.seq IS NULL
)
SELECT (SELECT count(*) FROM found), (SELECT json_group_array(CAST(what AS TEXT)) FROM (SELECT what FROM found LIMIT 5));
