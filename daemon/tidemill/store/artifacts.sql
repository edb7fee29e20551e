-- The newest version of each key, and whether it has that type and text. A row: key, type, text.
-- name: newest
WITH e AS MATERIALIZED (SELECT value AS item FROM json_each(:rows))
SELECT json_group_array(json_array(
    artifact.key, artifact.id, artifact.version, artifact.created, artifact.description, artifact.run_id,
    artifact.task_run_id, artifact.deployment,
    artifact.type = json_extract(e.item, '$[1]') AND artifact.text = json_extract(e.item, '$[2]')
))
FROM e
CROSS JOIN artifact ON artifact.number = (
    SELECT number FROM artifact WHERE artifact.key = json_extract(e.item, '$[0]') ORDER BY version DESC LIMIT 1
);

-- A row: id, key, version, type, text, description, run id, task run id, deployment, created.
-- name: add
WITH e AS MATERIALIZED (SELECT value AS item FROM json_each(:rows))
INSERT INTO artifact (id, key, version, type, text, description, run_id, task_run_id, deployment, created)
SELECT
    json_extract(e.item, '$[0]'), json_extract(e.item, '$[1]'), json_extract(e.item, '$[2]'),
    json_extract(e.item, '$[3]'), json_extract(e.item, '$[4]'), json_extract(e.item, '$[5]'),
    json_extract(e.item, '$[6]'), json_extract(e.item, '$[7]'), json_extract(e.item, '$[8]'),
    json_extract(e.item, '$[9]')
FROM e;

-- Change documents in place, those of their own run only. A row: id, run id, text, description.
-- name: update
WITH e AS MATERIALIZED (SELECT value AS item FROM json_each(:rows))
UPDATE artifact
SET text = json_extract(e.item, '$[2]'), description = ifnull(json_extract(e.item, '$[3]'), artifact.description)
FROM e
WHERE artifact.id = json_extract(e.item, '$[0]') AND artifact.run_id = json_extract(e.item, '$[1]');

-- Drop versions of a key up to one. A row: key, last version to drop.
-- name: prune
WITH e AS MATERIALIZED (SELECT value AS item FROM json_each(:rows))
DELETE FROM artifact
WHERE number IN (
    SELECT a.number
    FROM e
    CROSS JOIN artifact AS a ON a.key = json_extract(e.item, '$[0]') AND a.version <= json_extract(e.item, '$[1]')
);

-- name: latest
SELECT json_array(id, key, version, type, text, description, run_id, task_run_id, deployment, created)
FROM artifact WHERE key = :key ORDER BY version DESC LIMIT 1;

-- name: version
SELECT json_array(id, key, version, type, text, description, run_id, task_run_id, deployment, created)
FROM artifact WHERE key = :key AND version = :version;

-- name: by_id
SELECT json_array(id, key, version, type, text, description, run_id, task_run_id, deployment, created)
FROM artifact WHERE id = :id;

-- A key's versions, newest first.
-- name: versions
SELECT json_group_array(json_array(id, key, version, type, iif(:text, text, 'null'), description, run_id, task_run_id, deployment, created))
FROM (SELECT * FROM artifact WHERE key = :key ORDER BY version DESC LIMIT :limit OFFSET :offset);

-- A run's artifacts in the order they were made.
-- name: of_run
SELECT json_group_array(json_array(id, key, version, type, iif(:text, text, 'null'), description, run_id, task_run_id, deployment, created))
FROM (SELECT * FROM artifact WHERE run_id = :run_id ORDER BY number LIMIT :limit OFFSET :offset);

-- How far things are that a run tells of, the last ones made.
-- name: progress_of_run
SELECT json_group_array(json_array(id, key, version, type, text, description, run_id, task_run_id, deployment, created))
FROM (
    SELECT * FROM (SELECT * FROM artifact WHERE run_id = :run_id AND type = 'progress' ORDER BY number DESC LIMIT :limit)
    ORDER BY number
);

-- The newest version of every key in the keys' order: from one key to the next, by the index.
-- name: collections
WITH RECURSIVE keys (key) AS (
    SELECT (SELECT min(key) FROM artifact WHERE key IS NOT NULL AND key >= :from)
    UNION ALL
    SELECT (SELECT min(artifact.key) FROM artifact WHERE artifact.key IS NOT NULL AND artifact.key > keys.key)
    FROM keys WHERE keys.key IS NOT NULL
)
SELECT json_group_array(json_array(id, key, version, type, iif(:text, text, 'null'), description, run_id, task_run_id, deployment, created))
FROM (
    SELECT artifact.*
    FROM (SELECT key FROM keys WHERE key IS NOT NULL LIMIT :limit OFFSET :offset) AS k
    CROSS JOIN artifact ON artifact.number = (
        SELECT number FROM artifact WHERE artifact.key = k.key ORDER BY version DESC LIMIT 1
    )
);

-- All artifacts, newest first.
-- name: newest_first
SELECT json_group_array(json_array(id, key, version, type, iif(:text, text, 'null'), description, run_id, task_run_id, deployment, created))
FROM (SELECT * FROM artifact ORDER BY number DESC LIMIT :limit OFFSET :offset);
