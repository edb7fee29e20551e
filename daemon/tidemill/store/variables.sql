-- name: set
INSERT INTO variable (name, value, tags, created, updated) VALUES (:name, :value, :tags, :at, :at)
ON CONFLICT (name) DO UPDATE SET value = excluded.value, tags = excluded.tags, updated = excluded.updated;

-- name: unset
DELETE FROM variable WHERE name = :name;

-- name: all
SELECT json_group_array(json_array(name, json(value), json(tags), created, updated))
FROM (SELECT * FROM variable ORDER BY name);
