-- The states a run was in, oldest first, as one JSON text: a row fetched one by one is a lock taken one by one.
-- name: of_run
SELECT json_group_array(json_array(type, name, at, message, json(data)))
FROM (SELECT type, name, at, message, data FROM history WHERE run = :run ORDER BY number LIMIT :limit);

-- First states of runs just made. A row: run, type, name, at, message, data.
-- name: begin
WITH e AS MATERIALIZED (SELECT value AS item FROM json_each(:rows))
INSERT INTO history (run, number, before, type, name, at, message, data)
SELECT
    json_extract(e.item, '$[0]'), 1, NULL, json_extract(e.item, '$[1]'), json_extract(e.item, '$[2]'),
    json_extract(e.item, '$[3]'), json_extract(e.item, '$[4]'), json_extract(e.item, '$[5]')
FROM e;

-- Further states, only of runs that still have the state number they were decided on; before the runs are updated.
-- A row: run, number decided on, number, type before (NULL: the run's), type, name, at, message, data.
-- name: follow
WITH e AS MATERIALIZED (SELECT value AS item FROM json_each(:rows))
INSERT INTO history (run, number, before, type, name, at, message, data)
SELECT
    run.seq, json_extract(e.item, '$[2]'), ifnull(json_extract(e.item, '$[3]'), run.state_type),
    json_extract(e.item, '$[4]'), json_extract(e.item, '$[5]'), json_extract(e.item, '$[6]'),
    json_extract(e.item, '$[7]'), json_extract(e.item, '$[8]')
FROM e
CROSS JOIN run ON run.seq = json_extract(e.item, '$[0]') AND run.state_number = json_extract(e.item, '$[1]');
