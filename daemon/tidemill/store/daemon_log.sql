-- The daemon's diary. A row: at, level, logger, event, deployment, message, fields.
-- name: add
INSERT INTO daemon_log (at, level, logger, event, deployment, message, fields)
SELECT
    json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'), json_extract(value, '$[3]'),
    json_extract(value, '$[4]'), json_extract(value, '$[5]'), json_extract(value, '$[6]')
FROM json_each(:rows);

-- Lines in the order they were written, from a number on.
-- name: lines
SELECT json_group_array(json_array(number, at, level, logger, event, deployment, message, json(fields)))
FROM (
    SELECT number, at, level, logger, event, deployment, message, fields
    FROM daemon_log
    WHERE number > :after AND at >= :since AND at < :until AND level >= :level
    ORDER BY number LIMIT :limit
);

-- Lines of events by their names, oldest first; of too many the newest.
-- name: named
SELECT json_group_array(json_array(number, at, level, logger, event, deployment, message, json(fields)))
FROM (
    SELECT * FROM (
        SELECT daemon_log.*
        FROM json_each(:events) AS e
        CROSS JOIN daemon_log ON daemon_log.event = e.value AND daemon_log.at >= :since AND daemon_log.at < :until
        ORDER BY number DESC LIMIT :limit
    )
    ORDER BY number
);

-- The number of the newest line.
-- name: last_number
SELECT max(number) FROM daemon_log;

-- The last number among the oldest lines that are older than an instant.
-- name: lines_before
SELECT max(number) FROM (SELECT number, at FROM daemon_log ORDER BY number LIMIT :limit) WHERE at < :before;

-- The last number of the oldest lines that go so that as many stay as may; NULL: none goes.
-- name: lines_beyond
SELECT CASE WHEN last - first >= :keep THEN min(last - :keep, first + :limit) END
FROM (
    SELECT (SELECT min(number) FROM daemon_log) AS first, (SELECT max(number) FROM daemon_log) AS last
);

-- name: delete
DELETE FROM daemon_log WHERE number <= :last;
