-- name: create
INSERT INTO instance (only, id, created) VALUES (1, :id, :created) ON CONFLICT DO NOTHING;

-- name: id
SELECT id FROM instance;

-- name: created
SELECT created FROM instance;

-- name: last_alive
SELECT last_alive FROM instance;

-- name: alive
UPDATE instance SET last_alive = :at;

-- Change nothing, durably: whether the database can be written.
-- name: probe
UPDATE instance SET last_alive = last_alive;
