-- Runs that belong to a cancelled one: it asked for them by run_deployment, and they have not ended.

-- Row numbers of a run's, where it is CANCELLING or CANCELLED. Those that ended after it and run again, a person retried.
-- name: left_of
SELECT json_group_array(seq)
FROM (
    SELECT run.seq
    FROM run JOIN run AS parent ON parent.id = run.parent_run_id
    WHERE run.parent_run_id = :id AND run.created_by = 'flow' AND run.state_type IN (0, 1, 2, 3)
        AND parent.state_type IN (4, 8)
        AND NOT EXISTS (
            SELECT 1 FROM history
            WHERE history.run = run.seq AND history.type IN (5, 6, 7, 8) AND history.at >= parent.end_time
        )
    ORDER BY run.seq LIMIT :limit
);

-- Ids of the runs of which some are left: what a daemon that died had not come to.
-- name: cancelled
SELECT json_group_array(id)
FROM (
    SELECT DISTINCT parent.id
    FROM run JOIN run AS parent ON parent.id = run.parent_run_id
    WHERE run.state_type IN (0, 1, 2, 3) AND run.parent_run_id IS NOT NULL AND run.created_by = 'flow'
        AND parent.state_type IN (4, 8)
    ORDER BY parent.seq
);
