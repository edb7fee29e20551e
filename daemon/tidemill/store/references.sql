-- A row: flow, deployment (or ""), work pool, work queue. The answer: numbers in the rows' order, null where new.
-- name: routes
WITH e AS MATERIALIZED (SELECT value AS item FROM json_each(:rows))
SELECT json_group_array((
    SELECT number FROM route
    WHERE ifnull(route.deployment, '') = json_extract(e.item, '$[1]') AND route.flow = json_extract(e.item, '$[0]')
        AND route.work_queue = json_extract(e.item, '$[3]') AND route.work_pool = json_extract(e.item, '$[2]')
))
FROM e;

-- name: add_routes
WITH e AS MATERIALIZED (SELECT value AS item FROM json_each(:rows))
INSERT INTO route (flow, deployment, work_pool, work_queue)
SELECT
    json_extract(e.item, '$[0]'), nullif(json_extract(e.item, '$[1]'), ''), json_extract(e.item, '$[2]'),
    json_extract(e.item, '$[3]')
FROM e WHERE true
ON CONFLICT DO NOTHING;

-- A row: deployment, identity.
-- name: schedules
WITH e AS MATERIALIZED (SELECT value AS item FROM json_each(:rows))
SELECT json_group_array((
    SELECT number FROM schedule
    WHERE schedule.deployment = json_extract(e.item, '$[0]') AND schedule.identity = json_extract(e.item, '$[1]')
))
FROM e;

-- name: add_schedules
WITH e AS MATERIALIZED (SELECT value AS item FROM json_each(:rows))
INSERT INTO schedule (deployment, identity)
SELECT json_extract(e.item, '$[0]'), json_extract(e.item, '$[1]')
FROM e WHERE true
ON CONFLICT DO NOTHING;

-- A row: name.
-- name: owners
WITH e AS MATERIALIZED (SELECT value AS item FROM json_each(:rows))
SELECT json_group_array((SELECT number FROM owner WHERE owner.name = json_extract(e.item, '$[0]')))
FROM e;

-- name: add_owners
WITH e AS MATERIALIZED (SELECT value AS item FROM json_each(:rows))
INSERT INTO owner (name)
SELECT json_extract(e.item, '$[0]') FROM e WHERE true
ON CONFLICT DO NOTHING;
