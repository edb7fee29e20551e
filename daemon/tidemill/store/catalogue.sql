-- What deployments were stated as until now, where that changes. A row as below.
-- name: keep_past
WITH e AS MATERIALIZED (
    SELECT json_extract(value, '$[1]') AS name, json_extract(value, '$[3]') AS document
    FROM json_each(:rows) WHERE json_extract(value, '$[0]') = 'deployment'
)
INSERT INTO catalogue_past (kind, name, document, since, until)
SELECT kind, name, document, updated, :at FROM catalogue
WHERE kind = 'deployment' AND gone IS NULL AND updated < :at AND (name, document) NOT IN (SELECT name, document FROM e);

-- Of those that have just grown, all but the newest.
-- name: forget_past
DELETE FROM catalogue_past
WHERE number IN (
    SELECT number
    FROM (
        SELECT number, row_number() OVER (PARTITION BY kind, name ORDER BY number DESC) AS place
        FROM catalogue_past
        WHERE (kind, name) IN (SELECT kind, name FROM catalogue_past WHERE until = :at)
    )
    WHERE place > :keep
);

-- What one deployment was stated as, oldest first.
-- name: past_of
SELECT json_group_array(json_array(json(document), since, until))
FROM (SELECT document, since, until FROM catalogue_past WHERE kind = 'deployment' AND name = :name ORDER BY number);

-- What the configuration states. A row: kind, name, id, document. Unchanged ones are left alone.
-- name: put
WITH e AS MATERIALIZED (SELECT value AS item FROM json_each(:rows))
INSERT INTO catalogue (kind, name, id, document, created, updated)
SELECT
    json_extract(e.item, '$[0]'), json_extract(e.item, '$[1]'), json_extract(e.item, '$[2]'),
    json_extract(e.item, '$[3]'), :at, :at
FROM e WHERE true
ON CONFLICT (kind, name) DO UPDATE SET document = excluded.document, updated = excluded.updated, gone = NULL
WHERE catalogue.document <> excluded.document OR catalogue.gone IS NOT NULL;

-- What it no longer states.
-- name: mark_gone
UPDATE catalogue SET gone = :at
WHERE gone IS NULL
    AND (kind, name) NOT IN (SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(:rows));

-- name: of_kind
SELECT json_group_array(json_array(name, id, json(document), created, updated, gone))
FROM (
    SELECT * FROM catalogue WHERE kind = :kind AND (gone IS NULL OR :gone) ORDER BY name LIMIT :limit OFFSET :offset
);

-- The one of a name or an id.
-- name: exactly
SELECT json_array(json_array(name, id, json(document), created, updated, gone))
FROM catalogue
WHERE kind = :kind AND (gone IS NULL OR :gone) AND (name = :text OR id = :text);

-- name: set_override
INSERT INTO override (kind, name, key, value, file_value, at, by)
VALUES (:kind, :name, :key, :value, :file_value, :at, :by)
ON CONFLICT (kind, name, key) DO UPDATE
SET value = excluded.value, file_value = excluded.file_value, at = excluded.at, by = excluded.by;

-- name: clear_override
DELETE FROM override WHERE kind = :kind AND name = :name AND key = :key;

-- name: overrides
SELECT json_group_array(json_array(kind, name, key, json(value), json(file_value), at, by))
FROM (SELECT * FROM override ORDER BY kind, name, key);
