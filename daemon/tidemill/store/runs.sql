-- Make runs. One that is there already by (schedule, due) or by idempotency key is passed over.
-- A row: seq, id, name, route, schedule, due, expected start, state type, state name, attempt, owner, created,
-- created by, start, end, parameters, tags, idempotency key, parent run, parent task run.
-- name: create
WITH e AS MATERIALIZED (SELECT value AS item FROM json_each(:rows))
INSERT INTO run (
    seq, id, name, route, schedule, due, expected_start, state_type, state_name, attempt, owner, created, created_by,
    start_time, end_time, parameters, tags, idempotency_key, parent_run_id, parent_task_run_id
)
SELECT
    json_extract(e.item, '$[0]'), json_extract(e.item, '$[1]'), json_extract(e.item, '$[2]'),
    json_extract(e.item, '$[3]'), json_extract(e.item, '$[4]'), json_extract(e.item, '$[5]'),
    json_extract(e.item, '$[6]'), json_extract(e.item, '$[7]'), json_extract(e.item, '$[8]'),
    json_extract(e.item, '$[9]'), json_extract(e.item, '$[10]'), json_extract(e.item, '$[11]'),
    json_extract(e.item, '$[12]'), json_extract(e.item, '$[13]'), json_extract(e.item, '$[14]'),
    json_extract(e.item, '$[15]'), json_extract(e.item, '$[16]'), json_extract(e.item, '$[17]'),
    json_extract(e.item, '$[18]'), json_extract(e.item, '$[19]')
FROM e WHERE true
ON CONFLICT (schedule, due) WHERE schedule IS NOT NULL DO NOTHING
ON CONFLICT (idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING;

-- Which of these row numbers there are.
-- name: existing
SELECT json_group_array(run.seq) FROM json_each(:seqs) AS e CROSS JOIN run ON run.seq = e.value;

-- A row: tag, run.
-- name: tag
WITH e AS MATERIALIZED (SELECT value AS item FROM json_each(:rows))
INSERT INTO run_tag (tag, run)
SELECT json_extract(e.item, '$[0]'), json_extract(e.item, '$[1]') FROM e WHERE true
ON CONFLICT DO NOTHING;

-- Change runs that still have the state number they were decided on: starts, ends, and the rest. An UPDATE rewrites the
-- indexes of every column that it names, so none names more than may have changed.
-- A row: seq, number decided on, state type, state name, state number, attempt, owner, start.
-- name: begin
WITH e AS MATERIALIZED (SELECT value AS item FROM json_each(:rows))
UPDATE run
SET
    state_type = json_extract(e.item, '$[2]'), state_name = json_extract(e.item, '$[3]'),
    state_number = json_extract(e.item, '$[4]'), attempt = json_extract(e.item, '$[5]'),
    owner = json_extract(e.item, '$[6]'), start_time = json_extract(e.item, '$[7]')
FROM e
WHERE run.seq = json_extract(e.item, '$[0]') AND run.state_number = json_extract(e.item, '$[1]');

-- A row: seq, number decided on, state type, state name, state number, end, run time.
-- name: end
WITH e AS MATERIALIZED (SELECT value AS item FROM json_each(:rows))
UPDATE run
SET
    state_type = json_extract(e.item, '$[2]'), state_name = json_extract(e.item, '$[3]'),
    state_number = json_extract(e.item, '$[4]'), end_time = json_extract(e.item, '$[5]'),
    run_time = json_extract(e.item, '$[6]')
FROM e
WHERE run.seq = json_extract(e.item, '$[0]') AND run.state_number = json_extract(e.item, '$[1]');

-- A row: seq, number decided on, state type, state name, state number, attempt, owner, start, end, run time, retries
-- used, expected start.
-- name: other
WITH e AS MATERIALIZED (SELECT value AS item FROM json_each(:rows))
UPDATE run
SET
    state_type = json_extract(e.item, '$[2]'), state_name = json_extract(e.item, '$[3]'),
    state_number = json_extract(e.item, '$[4]'), attempt = json_extract(e.item, '$[5]'),
    owner = json_extract(e.item, '$[6]'), start_time = json_extract(e.item, '$[7]'),
    end_time = json_extract(e.item, '$[8]'), run_time = json_extract(e.item, '$[9]'),
    retries_used = json_extract(e.item, '$[10]'), expected_start = json_extract(e.item, '$[11]')
FROM e
WHERE run.seq = json_extract(e.item, '$[0]') AND run.state_number = json_extract(e.item, '$[1]');

-- Which of these runs still have the state number they were decided on. A row: seq, number decided on.
-- name: unchanged
WITH e AS MATERIALIZED (SELECT value AS item FROM json_each(:rows))
SELECT json_group_array(run.seq)
FROM e
CROSS JOIN run ON run.seq = json_extract(e.item, '$[0]') AND run.state_number = json_extract(e.item, '$[1]');

-- Which of these runs are in nobody's hands: neither PENDING, RUNNING, PAUSED nor CANCELLING.
-- name: at_rest
SELECT json_group_array(run.seq)
FROM json_each(:seqs) AS e CROSS JOIN run ON run.seq = e.value AND run.state_type NOT IN (1, 2, 3, 4);

-- Which of these runs were never started.
-- name: never_started
SELECT json_group_array(run.seq)
FROM json_each(:seqs) AS e CROSS JOIN run ON run.seq = e.value AND run.state_type = 0 AND run.attempt = 0;

-- Runs in the order of their row numbers given, whole.
-- name: documents
SELECT json_group_array(json_array(
    run.seq, run.id, run.name, route.flow, route.deployment, route.work_pool, route.work_queue,
    json(run.parameters), json(run.tags), schedule.identity, run.due, run.expected_start,
    run.state_type, run.state_name, history.at, history.message, json(iif(:data, history.data, NULL)),
    run.state_number, run.attempt, run.retries_used, owner.name, run.created, run.created_by, run.start_time,
    run.end_time, run.run_time, run.idempotency_key, run.parent_run_id, run.parent_task_run_id
))
FROM json_each(:seqs) AS e
CROSS JOIN run ON run.seq = e.value
CROSS JOIN route ON route.number = run.route
CROSS JOIN history ON history.run = run.seq AND history.number = run.state_number
LEFT JOIN schedule ON schedule.number = run.schedule
LEFT JOIN owner ON owner.number = run.owner;

-- name: last_seq
SELECT ifnull(max(seq), 0) FROM run;

-- Row numbers of runs that wait to start and are due, earliest first.
-- name: due
SELECT json_group_array(seq)
FROM (
    SELECT seq FROM run WHERE state_type = 0 AND expected_start <= :until ORDER BY expected_start, seq LIMIT :limit
);

-- When the earliest waiting run is to start.
-- name: next_expected
SELECT min(expected_start) FROM run WHERE state_type = 0;

-- Row numbers of runs taken and not finished, oldest first.
-- name: unfinished
SELECT json_group_array(seq)
FROM (SELECT seq FROM run WHERE state_type IN (1, 2, 3, 4) ORDER BY seq LIMIT :limit);

-- Row numbers of a deployment's runs that wait to start, earliest first.
-- name: upcoming_of
SELECT json_group_array(seq)
FROM (
    SELECT run.seq
    FROM run CROSS JOIN route ON route.number = run.route
    WHERE run.state_type = 0 AND route.deployment = :deployment
    ORDER BY run.expected_start, run.seq LIMIT :limit
);

-- Of each of these deployments that had a run: when the first waiting run is to start, and the row number of the last
-- run that was to start by now. A deployment that moved to another queue has several routes.
-- name: around
WITH overdue AS MATERIALIZED (
    SELECT route, min(expected_start) AS at FROM run WHERE state_type = 0 AND expected_start <= :now GROUP BY route
)
SELECT json_group_array(json_array(
    e.value,
    ifnull(
        (SELECT at FROM overdue WHERE overdue.route = route.number),
        (
            SELECT run.expected_start FROM run INDEXED BY run_route
            WHERE run.route = route.number AND run.expected_start > :now AND run.state_type = 0
            ORDER BY run.expected_start LIMIT 1
        )
    ),
    (
        SELECT run.seq FROM run INDEXED BY run_route
        WHERE run.route = route.number AND run.expected_start <= :now
        ORDER BY run.expected_start DESC, run.seq DESC LIMIT 1
    )
))
FROM json_each(:deployments) AS e CROSS JOIN route ON ifnull(route.deployment, '') = e.value;

-- name: by_id
SELECT json_group_array(seq) FROM run WHERE id = :id;

-- Row numbers of the runs that a run began or asked for, in the order they were made.
-- name: children_of
SELECT json_group_array(seq)
FROM (SELECT seq FROM run WHERE parent_run_id = :id ORDER BY seq LIMIT :limit OFFSET :offset);

-- name: by_idempotency_key
SELECT json_group_array(seq) FROM run WHERE idempotency_key = :key;

-- By the beginning of the id: from it, to before its successor.
-- name: by_id_prefix
SELECT json_group_array(seq) FROM (SELECT seq FROM run WHERE id >= :from AND id < :to ORDER BY id DESC LIMIT :limit);

-- name: by_name
SELECT json_group_array(seq) FROM (SELECT seq FROM run WHERE name = :name ORDER BY seq DESC LIMIT :limit);

-- Deleting runs takes what belongs to them; artifacts stay.
-- name: delete
DELETE FROM run WHERE seq IN (SELECT value FROM json_each(:seqs));

-- name: delete_history
DELETE FROM history WHERE run IN (SELECT value FROM json_each(:seqs));

-- name: delete_logs
DELETE FROM log WHERE run IN (SELECT value FROM json_each(:seqs));

-- name: delete_emitted
DELETE FROM emitted WHERE run IN (SELECT value FROM json_each(:seqs));

-- name: delete_task_runs
DELETE FROM task_run WHERE run IN (SELECT value FROM json_each(:seqs));

-- By each of their tags and each of the runs: pairs would look at all runs that have the tag.
-- name: delete_tags
DELETE FROM run_tag
WHERE tag IN (
        SELECT t.value FROM json_each(:seqs) AS e CROSS JOIN run ON run.seq = e.value, json_each(run.tags) AS t
        WHERE run.tags IS NOT NULL
    )
    AND run IN (SELECT value FROM json_each(:seqs));
