-- Processes of attempts that have not ended.

-- A row: run, attempt, pid, birth, boot id.
-- name: add
WITH e AS MATERIALIZED (SELECT value AS item FROM json_each(:rows))
INSERT INTO process (run, attempt, pid, birth, boot_id)
SELECT
    json_extract(e.item, '$[0]'), json_extract(e.item, '$[1]'), json_extract(e.item, '$[2]'),
    json_extract(e.item, '$[3]'), json_extract(e.item, '$[4]')
FROM e WHERE true
ON CONFLICT DO NOTHING;

-- A row: run, attempt.
-- name: remove
DELETE FROM process
WHERE (run, attempt) IN (SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(:rows));

-- name: all
SELECT json_group_array(json_array(run, attempt, pid, birth, boot_id)) FROM process;
