-- Cursors: how far each schedule was dealt with. A row: deployment, identity, last due, planned as. They never go
-- back, except where what was planned is taken back (planning.sql).
-- name: advance
WITH e AS MATERIALIZED (SELECT value AS item FROM json_each(:rows))
INSERT INTO schedule (deployment, identity, last_due, planned_as)
SELECT
    json_extract(e.item, '$[0]'), json_extract(e.item, '$[1]'), json_extract(e.item, '$[2]'),
    json_extract(e.item, '$[3]')
FROM e WHERE true
ON CONFLICT (deployment, identity) DO UPDATE SET
    last_due = max(ifnull(last_due, excluded.last_due), excluded.last_due), planned_as = excluded.planned_as;

-- name: cursors
SELECT json_group_array(json_array(deployment, identity, last_due)) FROM schedule WHERE last_due IS NOT NULL;

-- A row: deployment, schedule, first, last, count, exact, reason, at.
-- name: skip
WITH e AS MATERIALIZED (SELECT value AS item FROM json_each(:rows))
INSERT INTO skipped_fire (deployment, schedule, first, last, count, exact, reason, at)
SELECT
    json_extract(e.item, '$[0]'), json_extract(e.item, '$[1]'), json_extract(e.item, '$[2]'),
    json_extract(e.item, '$[3]'), json_extract(e.item, '$[4]'), json_extract(e.item, '$[5]'),
    json_extract(e.item, '$[6]'), json_extract(e.item, '$[7]')
FROM e;

-- name: skipped
SELECT json_group_array(json_array(deployment, schedule, first, last, count, exact, reason, at))
FROM (SELECT * FROM skipped_fire ORDER BY number DESC LIMIT :limit OFFSET :offset);

-- name: skipped_of
SELECT json_group_array(json_array(deployment, schedule, first, last, count, exact, reason, at))
FROM (SELECT * FROM skipped_fire WHERE deployment = :deployment ORDER BY number DESC LIMIT :limit OFFSET :offset);

-- The same, those that reach into a stretch of time, oldest first.
-- name: skipped_between
SELECT json_group_array(json_array(deployment, schedule, first, last, count, exact, reason, at))
FROM (
    SELECT * FROM skipped_fire
    WHERE deployment = :deployment AND first <= :last AND last >= :first
    ORDER BY number LIMIT :limit
);

-- Row numbers of the runs that a deployment's schedules made for due times of a stretch, in order.
-- name: runs_between
SELECT json_group_array(seq)
FROM (
    SELECT run.seq
    FROM schedule CROSS JOIN run ON run.schedule = schedule.number AND run.due >= :first AND run.due <= :last
    WHERE schedule.deployment = :deployment
    ORDER BY run.due LIMIT :limit
);
