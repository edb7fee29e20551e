-- A row: id, channel, at, document.
-- name: add
INSERT OR IGNORE INTO notice (id, channel, at, document)
SELECT
    json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'), json_extract(value, '$[3]')
FROM json_each(:rows);

-- Delivered, or given up. A row: an id.
-- name: remove
DELETE FROM notice WHERE id IN (SELECT value FROM json_each(:rows));

-- name: waiting
SELECT document FROM notice ORDER BY number;

-- A row: subject, document; without a document it is over, which is the next statement's.
-- name: put_incidents
INSERT INTO incident (subject, document)
SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(:rows)
WHERE json_extract(value, '$[1]') IS NOT NULL
ON CONFLICT (subject) DO UPDATE SET document = excluded.document;

-- A row: a subject.
-- name: end_incidents
DELETE FROM incident WHERE subject IN (SELECT value FROM json_each(:rows));

-- name: incidents
SELECT subject, document FROM incident ORDER BY subject;

-- Up to when the ends of runs have been heard. It never goes back.
-- name: hear
INSERT INTO heard (only, at) VALUES (1, :at) ON CONFLICT (only) DO UPDATE SET at = max(at, excluded.at);

-- name: heard
SELECT at FROM heard;

-- When a run of a deployment last ended COMPLETED, by the time it was expected at.
-- name: last_success
SELECT max((
    SELECT end_time FROM run WHERE run.route = route.number AND run.state_type = 5 ORDER BY expected_start DESC LIMIT 1
))
FROM route WHERE route.deployment = :deployment;

-- Row numbers of runs that ended lately, well or not, in the order they ended.
-- name: ended_since
SELECT json_group_array(seq)
FROM (
    SELECT seq FROM run WHERE end_time > :since AND state_type IN (5, 6, 7) ORDER BY end_time, seq LIMIT :limit
);
