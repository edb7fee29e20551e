-- Make a task run, or bring it to a later state; an older report changes nothing. Only of runs that are still there.
-- A row: id, run, name, task key, dynamic key, state type, state name, state at, message, data, state number, attempt,
-- tags, created, expected start, start, end, run time, cache key.
-- name: put
WITH e AS MATERIALIZED (SELECT value AS item FROM json_each(:rows))
INSERT INTO task_run (
    id, run, name, task_key, dynamic_key, state_type, state_name, state_at, state_message, state_data, state_number,
    attempt, tags, created, expected_start, start_time, end_time, run_time, cache_key
)
SELECT
    json_extract(e.item, '$[0]'), run.seq, json_extract(e.item, '$[2]'), json_extract(e.item, '$[3]'),
    json_extract(e.item, '$[4]'), json_extract(e.item, '$[5]'), json_extract(e.item, '$[6]'),
    json_extract(e.item, '$[7]'), json_extract(e.item, '$[8]'), json_extract(e.item, '$[9]'),
    json_extract(e.item, '$[10]'), json_extract(e.item, '$[11]'), json_extract(e.item, '$[12]'),
    json_extract(e.item, '$[13]'), json_extract(e.item, '$[14]'), json_extract(e.item, '$[15]'),
    json_extract(e.item, '$[16]'), json_extract(e.item, '$[17]'), json_extract(e.item, '$[18]')
FROM e CROSS JOIN run ON run.seq = json_extract(e.item, '$[1]') WHERE true
ON CONFLICT (id) DO UPDATE SET
    name = excluded.name, state_type = excluded.state_type, state_name = excluded.state_name,
    state_at = excluded.state_at, state_message = excluded.state_message, state_data = excluded.state_data,
    state_number = excluded.state_number, attempt = excluded.attempt, expected_start = excluded.expected_start,
    start_time = excluded.start_time, end_time = excluded.end_time, run_time = excluded.run_time,
    cache_key = excluded.cache_key
WHERE excluded.state_number > task_run.state_number AND excluded.run = task_run.run;

-- End the unfinished task runs of flow runs that have ended.
-- name: end
UPDATE task_run
SET state_type = :type, state_name = NULL, state_at = :at, state_message = :message, state_data = NULL,
    state_number = state_number + 1, end_time = :at
WHERE run IN (SELECT value FROM json_each(:runs)) AND state_type < 5;

-- name: of_run
SELECT json_group_array(json_array(
    id, run, run_id, name, task_key, dynamic_key, state_type, state_name, state_at, state_message, json(state_data),
    state_number, attempt, json(tags), created, expected_start, start_time, end_time, run_time, cache_key
))
FROM (
    SELECT task_run.*, run.id AS run_id
    FROM task_run CROSS JOIN run ON run.seq = task_run.run
    WHERE task_run.run = :run ORDER BY task_run.number LIMIT :limit OFFSET :offset
);

-- name: by_id
SELECT json_group_array(json_array(
    task_run.id, task_run.run, run.id, task_run.name, task_run.task_key, task_run.dynamic_key, task_run.state_type,
    task_run.state_name, task_run.state_at, task_run.state_message, json(task_run.state_data), task_run.state_number,
    task_run.attempt, json(task_run.tags), task_run.created, task_run.expected_start, task_run.start_time,
    task_run.end_time, task_run.run_time, task_run.cache_key
))
FROM task_run CROSS JOIN run ON run.seq = task_run.run
WHERE task_run.id = :id;
