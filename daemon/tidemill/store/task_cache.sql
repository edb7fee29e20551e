-- Keep a result, or replace an earlier one of its key. A row: key, value, created, expires.
-- name: put
WITH e AS MATERIALIZED (SELECT value AS item FROM json_each(:rows))
INSERT INTO task_cache (key, value, created, expires)
SELECT
    json_extract(e.item, '$[0]'), json_extract(e.item, '$[1]'), json_extract(e.item, '$[2]'),
    json_extract(e.item, '$[3]')
FROM e WHERE true
ON CONFLICT (key) DO UPDATE
SET value = excluded.value, created = excluded.created, expires = excluded.expires;

-- name: get
SELECT value FROM task_cache WHERE key = :key AND (expires IS NULL OR expires > :now);

-- Results that nobody can find any more, and those older than what is kept.
-- name: obsolete
SELECT json_group_array(number)
FROM (
    SELECT number FROM task_cache WHERE expires <= :now
    UNION
    SELECT number FROM task_cache WHERE created < :before
    LIMIT :limit
);

-- name: delete
DELETE FROM task_cache WHERE number IN (SELECT value FROM json_each(:numbers));
