-- A row: flow, deployment (or ""), work pool, work queue. The answer: numbers in the rows' order, null where new.
-- name: routes
SELECT json_group_array((
    SELECT number FROM route
    WHERE ifnull(route.deployment, '') = json_extract(e.value, '$[1]') AND route.flow = json_extract(e.value, '$[0]')
        AND route.work_queue = json_extract(e.value, '$[3]') AND route.work_pool = json_extract(e.value, '$[2]')
))
FROM json_each(:rows) AS e;

-- name: add_routes
INSERT INTO route (flow, deployment, work_pool, work_queue)
SELECT
    json_extract(e.value, '$[0]'), nullif(json_extract(e.value, '$[1]'), ''), json_extract(e.value, '$[2]'),
    json_extract(e.value, '$[3]')
FROM json_each(:rows) AS e WHERE true
ON CONFLICT DO NOTHING;

-- A row: deployment, identity.
-- name: schedules
SELECT json_group_array((
    SELECT number FROM schedule
    WHERE schedule.deployment = json_extract(e.value, '$[0]') AND schedule.identity = json_extract(e.value, '$[1]')
))
FROM json_each(:rows) AS e;

-- name: add_schedules
INSERT INTO schedule (deployment, identity)
SELECT json_extract(e.value, '$[0]'), json_extract(e.value, '$[1]')
FROM json_each(:rows) AS e WHERE true
ON CONFLICT DO NOTHING;

-- A row: name.
-- name: owners
SELECT json_group_array((SELECT number FROM owner WHERE owner.name = json_extract(e.value, '$[0]')))
FROM json_each(:rows) AS e;

-- name: add_owners
INSERT INTO owner (name)
SELECT json_extract(e.value, '$[0]') FROM json_each(:rows) AS e WHERE true
ON CONFLICT DO NOTHING;
