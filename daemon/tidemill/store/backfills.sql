-- Backfills: what somebody asked for, and how far each has come.

-- name: put
INSERT INTO backfill (
    id, deployment, first, last, at_a_time, again, parameters, total, cursor, passed_over, made, created, by, ended,
    outcome
)
VALUES (
    :id, :deployment, :first, :last, :at_a_time, :again, :parameters, :total, :cursor, :passed_over, :made, :created,
    :by, :ended, :outcome
)
ON CONFLICT (id) DO UPDATE
SET cursor = excluded.cursor, passed_over = excluded.passed_over, made = excluded.made, ended = excluded.ended,
    outcome = excluded.outcome
WHERE backfill.ended IS NULL;

-- Those that ended, but the newest.
-- name: forget
DELETE FROM backfill
WHERE ended IS NOT NULL
    AND number <= (SELECT number FROM backfill ORDER BY number DESC LIMIT 1 OFFSET :keep);

-- Those under way, oldest first; then those that ended, newest first.
-- name: all
SELECT json_group_array(json_array(
    id, deployment, first, last, at_a_time, again, json(parameters), total, cursor, passed_over, made, created, by,
    ended, outcome
))
FROM (
    SELECT * FROM backfill
    WHERE (:deployment IS NULL OR deployment = :deployment) AND (ended IS NULL OR NOT :unfinished)
    ORDER BY ended IS NOT NULL, iif(ended IS NULL, number, -number) LIMIT :limit
);

-- The runs that backfills made of one fire, and the run that its schedule made. A run: state type.
-- name: of_fire
SELECT json_array(
    (SELECT json_group_array(state_type) FROM run WHERE idempotency_key >= :from AND idempotency_key < :to),
    (
        SELECT run.state_type FROM schedule CROSS JOIN run ON run.schedule = schedule.number AND run.due = :due
        WHERE schedule.deployment = :deployment AND schedule.identity = :schedule
    )
);

-- Row numbers of the runs that backfills made of a schedule's fires in a stretch, in order.
-- name: runs_between
SELECT json_group_array(seq)
FROM (
    SELECT seq FROM run WHERE idempotency_key >= :from AND idempotency_key < :to ORDER BY due, seq LIMIT :limit
);
