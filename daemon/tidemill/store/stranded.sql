-- Runs that wait where nobody takes them.

-- Row numbers of waiting runs in front of other pools than these, earliest first.
-- name: elsewhere
SELECT json_group_array(seq)
FROM (
    SELECT run.seq
    FROM run CROSS JOIN route ON route.number = run.route
    WHERE run.state_type = 0 AND route.work_pool NOT IN (SELECT value FROM json_each(:pools))
    ORDER BY run.expected_start, run.seq LIMIT :limit
);

-- A row: seq, route. Who has started meanwhile stays.
-- name: move
WITH e AS MATERIALIZED (SELECT value AS item FROM json_each(:rows))
UPDATE run SET route = json_extract(e.item, '$[1]')
FROM e
WHERE run.seq = json_extract(e.item, '$[0]') AND run.state_type = 0;
