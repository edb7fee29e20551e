-- Set at runtime: it holds over the configuration's value.
-- name: set
INSERT INTO variable (name, value, tags, created, updated) VALUES (:name, :value, :tags, :at, :at)
ON CONFLICT (name) DO UPDATE SET value = excluded.value, tags = excluded.tags, updated = excluded.updated;

-- Take back what was set at runtime; the configuration's value, where there is one, holds again.
-- name: unset
UPDATE variable SET value = NULL, tags = NULL, updated = :at
WHERE name = :name AND value IS NOT NULL AND file_value IS NOT NULL;

-- name: remove
DELETE FROM variable WHERE name = :name AND file_value IS NULL;

-- What the configuration states: where it is another value than before, that one holds. A row: name, value.
-- name: put_file
WITH e AS MATERIALIZED (SELECT value AS item FROM json_each(:rows))
INSERT INTO variable (name, file_value, created, updated)
SELECT json_extract(e.item, '$[0]'), json_extract(e.item, '$[1]'), :at, :at FROM e WHERE true
ON CONFLICT (name) DO UPDATE
SET value = NULL, tags = NULL, file_value = excluded.file_value, updated = excluded.updated
WHERE variable.file_value IS NOT excluded.file_value;

-- What it no longer states.
-- name: remove_file
DELETE FROM variable
WHERE file_value IS NOT NULL AND name NOT IN (SELECT json_extract(value, '$[0]') FROM json_each(:rows));

-- name: all
SELECT json_group_array(json_array(name, json(value), json(file_value), json(tags), created, updated))
FROM (SELECT * FROM variable ORDER BY name);

-- name: one
SELECT json_array(name, json(value), json(file_value), json(tags), created, updated)
FROM variable WHERE name = :name;
