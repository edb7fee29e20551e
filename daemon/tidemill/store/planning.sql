-- Runs that schedules made ahead of time, and taking them back.

-- What each schedule's upcoming runs were planned as.
-- name: planned_as
SELECT json_group_array(json_array(deployment, identity, planned_as)) FROM schedule WHERE planned_as IS NOT NULL;

-- The due times of never-started runs that schedules made and that are still to come, in order.
-- name: planned_ahead
SELECT json_group_array(json_array(deployment, identity, due))
FROM (
    SELECT schedule.deployment, schedule.identity, run.due
    FROM run CROSS JOIN schedule ON schedule.number = run.schedule
    WHERE run.state_type = 0 AND run.expected_start > :now AND run.attempt = 0 AND run.due > :now
    ORDER BY run.due
);

-- Row numbers of never-started runs that schedules made and that were to start after one instant, up to another.
-- name: planned_between
SELECT json_group_array(seq)
FROM (
    SELECT seq FROM run
    WHERE state_type = 0 AND expected_start > :after AND expected_start <= :until AND attempt = 0
        AND schedule IS NOT NULL
    ORDER BY expected_start, seq
);

-- Never-started runs of these schedules that are still to come. A row: deployment, identity.
-- name: upcoming
WITH e AS MATERIALIZED (SELECT value AS item FROM json_each(:keys))
SELECT json_group_array(json_array(run.seq, run.id, schedule.deployment))
FROM e
CROSS JOIN schedule
    ON schedule.deployment = json_extract(e.item, '$[0]') AND schedule.identity = json_extract(e.item, '$[1]')
CROSS JOIN run ON run.schedule = schedule.number AND run.due > :now
WHERE run.state_type = 0 AND run.attempt = 0 AND run.expected_start > :now;

-- Cursors go back to now where they were ahead of it. A row: deployment, identity, whether it is still in force.
-- name: rewind
WITH e AS MATERIALIZED (SELECT value AS item FROM json_each(:keys))
UPDATE schedule
SET last_due = min(last_due, :now), planned_as = iif(json_extract(e.item, '$[2]'), planned_as, NULL)
FROM e
WHERE schedule.deployment = json_extract(e.item, '$[0]') AND schedule.identity = json_extract(e.item, '$[1]');

-- Fires of these schedules that are still to come and could not be taken back: they have begun, or somebody cancelled
-- them. A row: deployment, due.
-- name: had
WITH e AS MATERIALIZED (SELECT value AS item FROM json_each(:keys))
SELECT json_group_array(json_array(schedule.deployment, run.due))
FROM e
CROSS JOIN schedule
    ON schedule.deployment = json_extract(e.item, '$[0]') AND schedule.identity = json_extract(e.item, '$[1]')
CROSS JOIN run ON run.schedule = schedule.number AND run.due > :now;
