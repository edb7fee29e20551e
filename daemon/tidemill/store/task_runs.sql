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

-- End the unfinished task runs of flow runs that have ended. NotReady is an end: it says which input failed.
-- name: end
UPDATE task_run
SET state_type = :type, state_name = NULL, state_at = :at, state_message = :message, state_data = NULL,
    state_number = state_number + 1, end_time = :at
WHERE run IN (SELECT value FROM json_each(:runs)) AND state_type < 5 AND state_name IS NOT 'NotReady';

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

-- How many of a run's task runs are in each state.
-- name: states_of_run
SELECT json_group_array(json_array(state_type, state_name, count))
FROM (SELECT state_type, state_name, count(*) AS count FROM task_run WHERE run = :run GROUP BY 1, 2 ORDER BY 1, 2);

-- name: by_id
SELECT json_group_array(json_array(
    task_run.id, task_run.run, run.id, task_run.name, task_run.task_key, task_run.dynamic_key, task_run.state_type,
    task_run.state_name, task_run.state_at, task_run.state_message, json(task_run.state_data), task_run.state_number,
    task_run.attempt, json(task_run.tags), task_run.created, task_run.expected_start, task_run.start_time,
    task_run.end_time, task_run.run_time, task_run.cache_key
))
FROM task_run CROSS JOIN run ON run.seq = task_run.run
WHERE task_run.id = :id;

-- The conditions of a list; a NULL parameter is none.
-- fragment: fits
(:types IS NULL OR t.state_type IN (SELECT value FROM json_each(:types)))
    AND (
        :state_names IS NULL
        OR (t.state_name IS NULL AND t.state_type IN (SELECT value FROM json_each(:plain_types)))
        OR t.state_name IN (SELECT value FROM json_each(:state_names))
    )
    AND (:names IS NULL OR t.name IN (SELECT value FROM json_each(:names)))
    AND (:like IS NULL OR t.name LIKE :like ESCAPE '\')
    AND (
        :tags IS NULL
        OR NOT EXISTS (
            SELECT 1 FROM json_each(:tags) AS wanted
            WHERE NOT EXISTS (SELECT 1 FROM json_each(t.tags) AS has WHERE has.value = wanted.value)
        )
    )

-- fragment: document
json_array(
    t.id, t.run, run.id, t.name, t.task_key, t.dynamic_key, t.state_type, t.state_name, t.state_at, t.state_message,
    json(t.state_data), t.state_number, t.attempt, json(t.tags), t.created, t.expected_start, t.start_time, t.end_time,
    t.run_time, t.cache_key
)

-- Of some flow runs, in the order they were made, or the last one first.
-- name: page_of_runs
SELECT json_group_array({document})
FROM (
    SELECT t.*
    FROM json_each(:runs) AS e CROSS JOIN task_run AS t ON t.run = e.value
    WHERE {fits}
    ORDER BY iif(:down, -t.number, t.number) LIMIT :limit OFFSET :offset
) AS t
CROSS JOIN run ON run.seq = t.run;

-- name: count_of_runs
SELECT count(*) FROM json_each(:runs) AS e CROSS JOIN task_run AS t ON t.run = e.value WHERE {fits};

-- Of all flow runs, the last one made first, among the newest.
-- name: page_newest
SELECT json_group_array({document})
FROM (
    SELECT t.* FROM (SELECT * FROM task_run ORDER BY number DESC LIMIT :among) AS t
    WHERE {fits} LIMIT :limit OFFSET :offset
) AS t
CROSS JOIN run ON run.seq = t.run;

-- name: count_newest
SELECT count(*) FROM (SELECT * FROM task_run ORDER BY number DESC LIMIT :among) AS t WHERE {fits};

-- Which of these task runs there are.
-- name: by_ids
SELECT json_group_array({document})
FROM (SELECT t.* FROM json_each(:ids) AS e CROSS JOIN task_run AS t ON t.id = e.value WHERE {fits}) AS t
CROSS JOIN run ON run.seq = t.run;

-- By the beginning of the id: from it, to before its successor.
-- name: by_id_prefix
SELECT json_group_array({document})
FROM (SELECT * FROM task_run WHERE id >= :from AND id < :to ORDER BY id DESC LIMIT :limit) AS t
CROSS JOIN run ON run.seq = t.run;
