-- What the configuration states. A row: name, digest of its condition. One whose condition is another starts anew.
-- name: state
WITH e AS MATERIALIZED (SELECT value AS item FROM json_each(:rows))
INSERT INTO automation (name, digest, since)
SELECT json_extract(e.item, '$[0]'), json_extract(e.item, '$[1]'), :at FROM e WHERE true
ON CONFLICT (name) DO UPDATE SET digest = excluded.digest, since = excluded.since
WHERE automation.digest <> excluded.digest;

-- What it no longer states.
-- name: forget
DELETE FROM automation WHERE name NOT IN (SELECT json_extract(value, '$[0]') FROM json_each(:rows));

-- Of such, what they did is kept for a while.
-- name: forget_fires
DELETE FROM automation_fire
WHERE automation NOT IN (SELECT json_extract(value, '$[0]') FROM json_each(:rows)) AND at < :before;

-- name: count_from
UPDATE automation SET since = :at WHERE name = :name;

-- name: since
SELECT json_group_array(json_array(name, since)) FROM automation;

-- Act on a cause. A row: automation, cause, deployment, occurred, at, finished, document. One that is known is passed over.
-- name: fire
INSERT INTO automation_fire (automation, cause, deployment, occurred, at, finished, document)
VALUES (:automation, :cause, :deployment, :occurred, :at, :finished, :document)
ON CONFLICT (automation, cause) DO NOTHING
RETURNING number;

-- What became of it.
-- name: carry
UPDATE automation_fire SET document = :document, finished = :finished WHERE number = :number;

-- The oldest of an automation's that are at rest go when there are more than so many.
-- name: prune
DELETE FROM automation_fire
WHERE finished IS NOT NULL AND automation = :automation AND number <= (
    SELECT number FROM automation_fire WHERE automation = :automation ORDER BY number DESC LIMIT 1 OFFSET :keep
);

-- Fires of which something is still to be done, oldest first.
-- name: open
SELECT json_group_array(json_array(number, json(document)))
FROM (SELECT number, document FROM automation_fire WHERE finished IS NULL ORDER BY number);

-- name: of_automation
SELECT json_group_array(json_array(number, json(document)))
FROM (
    SELECT number, document FROM automation_fire WHERE automation = :automation
    ORDER BY number DESC LIMIT :limit OFFSET :offset
);

-- By deployment: when an automation fired last, for how late a cause, and when it said last that all is over.
-- name: past
SELECT json_group_array(json_array(deployment, at, occurred, over))
FROM (
    SELECT
        deployment,
        max(at) FILTER (WHERE json_extract(document, '$.cause.over') IS NULL) AS at,
        max(occurred) FILTER (WHERE json_extract(document, '$.cause.over') IS NULL) AS occurred,
        max(at) FILTER (WHERE json_extract(document, '$.cause.over')) AS over
    FROM automation_fire WHERE automation = :automation GROUP BY deployment
);

-- The last times, newest first.
-- name: times
SELECT json_group_array(at)
FROM (SELECT at FROM automation_fire WHERE automation = :automation ORDER BY number DESC LIMIT :limit);

-- Of every automation: how many fires are kept, and the last one.
-- name: summary
SELECT json_group_array(json_array(f.automation, f.fires, f.number, json(last.document)))
FROM (SELECT automation, count(*) AS fires, max(number) AS number FROM automation_fire GROUP BY automation) AS f
JOIN automation_fire AS last ON last.number = f.number;

-- Idempotency keys of a run and its forebears: a run that was asked for by a run by its code or by an automation.
-- name: descent
WITH RECURSIVE up (key, parent, depth) AS (
    SELECT idempotency_key, parent_run_id, 1 FROM run WHERE id = :run
    UNION ALL
    SELECT run.idempotency_key, run.parent_run_id, up.depth + 1
    FROM up JOIN run ON run.id = up.parent WHERE up.depth < :most
)
SELECT json_group_array(key) FROM up;
